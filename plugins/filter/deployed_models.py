# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: deployed_models
short_description: Add a list of models to what is deployed, field by field
version_added: 1.0.0
description:
  - Takes what M(rhpds.litemaas.kserve_model_info) finds and the list of
    P(rhpds.litemaas.ocp4_workload_litemaas_models#role), and returns one list with each deployment once.
  - An item is put onto the deployment of the same model name and label, and wins field by field. One that
    has no label, and no deployment without one, is put onto the first deployment of its name, unless it brings a
    backend model of its own.
  - Deployments of one name share a row in LiteMaaS. What the row shows is what the list says, or else the first
    deployment; the context length is the smallest of them, unless the list gives it.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: What is deployed, as in RV(rhpds.litemaas.kserve_model_info#module:catalogue_models).
    type: list
    elements: dict
    required: true
  items:
    description: The list of models.
    type: list
    elements: dict
    default: []
  needs_token:
    description:
      - What is deployed and asks for a token, as in RV(rhpds.litemaas.kserve_model_info#module:needs_token). Each is
        taken only with an item of the same name and label that has an C(api_key).
    type: list
    elements: dict
    default: []
seealso:
  - plugin: rhpds.litemaas.split_models
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what would be registered
  ansible.builtin.debug:
    msg: "{{ found | rhpds.litemaas.deployed_models(items=[{'model_name': 'granite', 'rpm': 30}]) }}"
  vars:
    found:
      - model_name: granite
        litellm_model: openai/granite
# => [{"litellm_model": "openai/granite", "model_name": "granite", "rpm": 30}]
"""

RETURN = r"""
_value:
  description: Items for P(rhpds.litemaas.split_models#filter), what is deployed first.
  type: list
  elements: dict
"""

#: What LiteMaaS shows once a model name.
SHOWN = (
    "display_name",
    "description",
    "category",
    "provider",
    "restricted_access",
    "availability",
    "supports_streaming",
)
LENGTH = "context_length"


def deployed_models(
    found: Sequence[Mapping[str, Any]], items: Sequence[Any] = (), needs_token: Sequence[Mapping[str, Any]] = ()
) -> list[Any]:
    """See the documentation above."""
    with_key = {_key(item) for item in items if _is_named(item) and item.get("api_key")}
    there = [*found, *(one for one in needs_token if _key(one) in with_key)]
    # A name that shall go without a label goes with all its deployments.
    gone = {
        item["model_name"]
        for item in items
        if _is_named(item) and item.get("state") == "absent" and not _key(item)[1] and not item.get("id")
    }
    there = [one for one in there if one["model_name"] not in gone]
    given: dict[int, Mapping[str, Any]] = {}
    others = []
    for item in items:
        place = _place(item, there) if _is_named(item) else None
        if place is None or place in given:
            others.append(item)
        else:
            given[place] = item
    merged = [_merged(one, given.get(number, {})) for number, one in enumerate(there)]
    for name in dict.fromkeys(one["model_name"] for one in there):
        _share([number for number, one in enumerate(there) if one["model_name"] == name], merged, given)
    return [*merged, *others]


def _is_named(item: Any) -> bool:
    """Whether it can be matched; what is wrong with the others is said elsewhere."""
    return isinstance(item, Mapping) and isinstance(item.get("model_name"), str)


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    """What makes it one deployment."""
    return str(item["model_name"]), str(item.get("deployment") or "")


def _place(item: Mapping[str, Any], there: Sequence[Mapping[str, Any]]) -> int | None:
    """Which deployment an item is about; None for one of its own."""
    exact = [number for number, one in enumerate(there) if _key(one) == _key(item)]
    if exact or item.get("deployment") or item.get("litellm_model"):
        return exact[0] if exact else None
    return next((number for number, one in enumerate(there) if one["model_name"] == item["model_name"]), None)


def _merged(one: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(one)
    for key, value in item.items():
        before = out.get(key)
        out[key] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return out


def _share(numbers: Sequence[int], merged: list[dict[str, Any]], given: Mapping[int, Mapping[str, Any]]) -> None:
    """What the deployments of a name have in common is said once, so that they don't contradict each other."""
    first = min(numbers, key=lambda number: bool(merged[number].get("deployment")))
    for key in SHOWN:
        listed = [number for number in numbers if key in given.get(number, {})]
        speaker = listed or [number for number in (first, *numbers) if key in merged[number]][:1]
        for number in numbers:
            if number not in speaker:
                merged[number].pop(key, None)
    listed = [given[number][LENGTH] for number in numbers if given.get(number, {}).get(LENGTH)]
    known = listed or [merged[number][LENGTH] for number in numbers if merged[number].get(LENGTH)]
    for number in numbers:
        if known and LENGTH not in given.get(number, {}):
            merged[number][LENGTH] = listed[0] if listed else min(int(one) for one in known)


class FilterModule:
    """Adds a list of models to what is deployed."""

    def filters(self) -> dict[str, Any]:
        return {"deployed_models": deployed_models}
