# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import model

DOCUMENTATION = r"""
name: vertex_findings
short_description: What registered models mean for the keys of service accounts
version_added: 1.0.0
description:
  - Says which of a proxy's models of Vertex AI no mounted key fits, which models use which key, and which declared
    models name another project than that of their key.
  - LiteLLM tells nobody the path of a model's credentials, so both are worked out from the model's project.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Deployments, as in RV(rhpds.litemaas.litellm_model_info#module:models).
    type: list
    elements: dict
    required: true
  projects:
    description: Google Cloud project of each key, by its path in the proxy's pods.
    type: dict
    required: true
  names:
    description: Models that are declared, and so are checked elsewhere.
    type: list
    elements: str
    default: []
  declared:
    description: The declared models themselves, as options of M(rhpds.litemaas.litellm_model).
    type: list
    elements: dict
    default: []
seealso:
  - plugin: rhpds.litemaas.vertex_models
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What is there
  rhpds.litemaas.litellm_model_info:
  register: found

- name: Models that no key fits
  ansible.builtin.debug:
    msg: "{{ (found.models | rhpds.litemaas.vertex_findings(projects=keys.projects)).warnings }}"
"""

RETURN = r"""
_value:
  description: What was found.
  type: dict
  contains:
    warnings:
      description: A sentence for each model that isn't declared and has no fitting key, or a path that can't be right.
      type: list
      elements: str
    used_paths:
      description:
        - Names of the models that use each key, by its path. One that names no project may use any of them.
      type: dict
    mismatches:
      description: A sentence for each declared model that bills another project than that of its key.
      type: list
      elements: str
"""


def vertex_findings(
    models: Sequence[Mapping[str, Any]],
    projects: Mapping[str, str],
    names: Sequence[str] = (),
    declared: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """See above."""
    used: dict[str, list[str]] = {path: [] for path in projects}
    for one in models:
        params = one.get("litellm_params") or {}
        if not str(params.get("model") or "").startswith("vertex_ai/"):
            continue
        theirs = params.get("vertex_project")
        for path, project in projects.items():
            if theirs in (None, "", project) and one["model_name"] not in used[path]:
                used[path].append(str(one["model_name"]))
    wanted = [model.wanted_from_options(one) for one in declared]
    problems = [(one.model_name, model.vertex_problems(one, projects)[0]) for one in wanted]
    return {
        "warnings": model.vertex_strangers(models, projects, names),
        "used_paths": used,
        "mismatches": [f"{name}: {mismatch}" for name, mismatch in problems if mismatch],
    }


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Any]:
        """By name."""
        return {"vertex_findings": vertex_findings}
