# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model deployment in a LiteLLM proxy: identity, fields, endpoints and quirks.

Facts about LiteLLM that shape these files (seen on 1.81.14 and 1.106.0):

- ``model_info.id`` can be chosen and is the primary key; ``model_name`` is not unique.
- Updates merge. A parameter can only be taken away by making the deployment anew.
- Calls are billed by prices in ``litellm_params``; prices in ``model_info`` are at best shown (1.106 drops them).
- ``PATCH /model/{id}/update`` on 1.81 empties the router of **every** stored model while it reloads, so calls fail
  meanwhile. A deployment whose parameters are all known is therefore changed through a temporary sibling.
- Other replicas reload every 30 s, and take a deployment anew only when its ``litellm_params`` differ: a change in
  ``model_info`` alone would never reach them. ``litellm_params.model_info``, which the router overrides on every call,
  carries a revision for that reason.
- ``/model/info`` leaves secrets out or masks them by the parameter's name, inside nested values as well. It fills
  ``model_info`` up from LiteLLM's table of known models, and nothing tells that from what is stored.

Arrows one way: ``hidden`` and ``wanted`` know what is asked for, ``planning`` compares it with what ``reading`` found
without any I/O of its own, ``acting`` has them all. ``vertex`` looks at what is wanted of Vertex AI's models.
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.acting import ModelResource
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.hidden import (
    is_secret,
    secret_texts,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.reading import read_deployments
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.vertex import (
    problems as vertex_problems,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.vertex import (
    strangers as vertex_strangers,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.wanted import (
    REPLACEMENT_OF,
    refuse_contradictions,
    wanted_from_options,
)

__all__ = [
    "REPLACEMENT_OF",
    "ModelResource",
    "is_secret",
    "read_deployments",
    "refuse_contradictions",
    "secret_texts",
    "vertex_problems",
    "vertex_strangers",
    "wanted_from_options",
]
