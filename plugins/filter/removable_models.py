# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: removable_models
short_description: Which deployments of a proxy a list of models may take with it when it goes
version_added: 1.0.0
description:
  - Of the deployments that a proxy holds, picks those that carry this collection's mark and scope and that an item of
    a list names, by model name and deployment label or by id.
  - Deployments of the same names that somebody else made are told apart.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Deployments, as in RV(rhpds.litemaas.litellm_model_info#module:models).
    type: list
    elements: dict
    required: true
  items:
    description: The list of models. An item without a label means the deployment without one.
    type: list
    elements: dict
    required: true
  scope:
    description: The scope that the models were made with.
    type: str
    required: true
seealso:
  - plugin: rhpds.litemaas.split_models
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What is there
  rhpds.litemaas.litellm_model_info:
  register: found

- name: Remove what this list made, and nothing else
  rhpds.litemaas.litellm_model:
    models: "{{ (found.models | rhpds.litemaas.removable_models(items=models, scope='litemaas')).litellm }}"
"""

RETURN = r"""
_value:
  description: What may go, and what stays.
  type: dict
  contains:
    litellm:
      description: Items for O(rhpds.litemaas.litellm_model#module:models) that remove those deployments by their ids.
      type: list
      elements: dict
    names:
      description: Names of the list that lose a deployment or have none.
      type: list
      elements: str
    left:
      description: Deployments of the list's names that stay, and why.
      type: list
      elements: str
"""


def removable_models(
    deployments: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]], scope: str
) -> dict[str, list[Any]]:
    """See the documentation above."""
    names = dict.fromkeys(str(item["model_name"]) for item in items)
    labels = {(item["model_name"], item.get("deployment") or "") for item in items}
    ids = {str(item["id"]) for item in items if item.get("id")}
    going, left = [], []
    for one in deployments:
        if one["model_name"] not in names:
            continue
        named = (one["model_name"], one.get("deployment") or "") in labels or one["id"] in ids
        if named and one.get("managed") and one.get("scope") == scope:
            going.append({"model_name": one["model_name"], "id": one["id"], "state": "absent"})
        else:
            left.append((one["model_name"], one["id"], _reason(one, scope)))
    losing = {item["model_name"] for item in going}
    kept = {name for name, _id, _reason in left}
    return {
        "litellm": going,
        "names": [name for name in names if name in losing or name not in kept],
        "left": [f"{name} ({identity}): {reason}" for name, identity, reason in left],
    }


def _reason(one: Mapping[str, Any], scope: str) -> str:
    if not one.get("stored", True):
        return "defined in LiteLLM's config.yaml"
    if not one.get("managed"):
        return "not made by this collection"
    if one.get("scope") != scope:
        return f"belongs to scope {one.get('scope')!r}"
    return f"deployment {one.get('deployment') or 'without a label'} isn't in the list"


class FilterModule:
    """Picks the deployments that a list may remove."""

    def filters(self) -> dict[str, Any]:
        return {"removable_models": removable_models}
