# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: workshop_outputs
short_description: What a lab hears about its virtual keys
version_added: 1.0.0
description:
  - Makes user data, messages and facts, as AgnosticD's catalogue items know them, from the results of
    M(rhpds.litemaas.litellm_virtual_key).
  - Participants whose key failed are left out of RV(_value.users). In the lists of RV(_value.data), which go by number,
    they keep their place with an empty text.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: The entries of RV(rhpds.litemaas.litellm_virtual_key#module:results).
    type: list
    elements: dict
    required: true
  workshop:
    description: What P(rhpds.litemaas.workshop_keys#filter) returned, whose items the entries came of.
    type: dict
    required: true
  url:
    description: Address of the LiteLLM proxy.
    type: str
    required: true
  docling_model:
    description: The model of document conversion. Empty where the keys have none.
    type: str
    default: ""
  show_key:
    description: Whether a message tells the single key's value.
    type: bool
    default: true
  keys_in_facts:
    description: Whether values are among the facts.
    type: bool
    default: true
  messages:
    description: Further messages.
    type: list
    elements: str
    default: []
seealso:
  - plugin: rhpds.litemaas.workshop_keys
    plugin_type: filter
  - module: rhpds.litemaas.agnosticd_user_info
"""

EXAMPLES = r"""
- name: Keys of a workshop
  rhpds.litemaas.litellm_virtual_key:
    guid: "{{ guid }}"
    models: "{{ workshop.models }}"
    duration: "{{ workshop.duration }}"
    keys: "{{ workshop['keys'] }}"
  register: workshop_keys_made

- name: Tell the lab
  rhpds.litemaas.agnosticd_user_info:
    data: "{{ told.data }}"
    users: "{{ told.users }}"
    msg: "{{ told.messages }}"
    hidden: "{{ told.hidden }}"
  vars:
    told: "{{ workshop_keys_made.results | rhpds.litemaas.workshop_outputs(workshop, url=litellm_url) }}"
"""

RETURN = r"""
_value:
  description: What to tell whom.
  type: dict
  contains:
    anybody:
      description: Whether anybody has a key.
      type: bool
    data:
      description: For the whole lab. In a workshop everybody's values, by name and as lists, and the first one's alone.
      type: dict
    users:
      description: For each participant of a workshop.
      type: dict
    facts:
      description: The same as RV(_value.data), for later tasks of the play.
      type: dict
    messages:
      description: Lines for the person who ordered the lab.
      type: list
      elements: str
    hidden:
      description: The values, none of which should be printed.
      type: list
      elements: str
"""


def workshop_outputs(
    results: Sequence[Mapping[str, Any]],
    workshop: Mapping[str, Any],
    *,
    url: str,
    docling_model: str = "",
    show_key: bool = True,
    keys_in_facts: bool = True,
    messages: str | Sequence[str] = (),
) -> dict[str, Any]:
    """See the documentation above."""
    endpoint = str(url).strip().rstrip("/")
    common: dict[str, Any] = {
        "litellm_api_endpoint": endpoint,
        "litellm_api_base_url": f"{endpoint}/v1",
        "litellm_available_models": list(workshop["models"]),
        "litellm_available_models_list": ", ".join(workshop["models"]),
    }
    if docling_model:
        common["litellm_docling_endpoint"] = f"{endpoint}/docling/v1/convert/source"
        common["litellm_docling_model"] = docling_model
    made = {entry["name"]: entry for entry in results if not entry.get("failed")}
    entries = [made.get(item["key_alias"], {}) for item in workshop["keys"]]
    # Whoever asks for the lab's hears the first one's.
    common["litellm_key_duration"] = _lives(next((entry for entry in entries if entry), {}), workshop)
    hidden = [str(entry["key"]) for entry in entries if entry.get("key")]
    users: dict[str, Any] = {}
    if workshop["participants"] == [""]:
        data = {**common, **(_own(entries[0]) if entries[0] else {})}
        said = ["LiteMaaS Virtual Key: " + hidden[0]] if hidden and show_key else []
    else:
        users, data = _of_participants(workshop, entries, common)
        delivered = f"{len(hidden)} of {len(entries)}" if len(hidden) < len(entries) else str(len(entries))
        said = [f"Created {delivered} virtual key{'' if delivered == '1' else 's'}"]
    lines = [
        f"LiteMaaS API Base URL: {common['litellm_api_base_url']}",
        *said,
        f"Available Models: {common['litellm_available_models_list']}",
        f"Key Duration: {common['litellm_key_duration']}",
        *([messages] if isinstance(messages, str) else (str(one) for one in messages)),
    ]
    facts = data if keys_in_facts else {name: value for name, value in data.items() if not _holds_values(name)}
    return {
        "anybody": any(entries),
        "data": data,
        "users": users,
        "facts": facts,
        "messages": lines,
        "hidden": hidden,
    }


def _lives(entry: Mapping[str, Any], workshop: Mapping[str, Any]) -> str:
    """How long a key lives: as declared, unless it was given more before."""
    if not entry.get("lives_longer"):
        return str(workshop["duration"])
    return str(entry.get("lives_for") or "unlimited")


def _own(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One key as its owner knows it; without a value where that can't be known."""
    told = {"litellm_key_alias": entry["name"], "litellm_key_id": entry.get("token") or ""}
    return {"litellm_virtual_key": entry["key"], **told} if entry.get("key") else told


def _of_participants(
    workshop: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], common: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    users: dict[str, Any] = {}
    data = dict(common)
    for name, item, entry in zip(workshop["participants"], workshop["keys"], entries, strict=True):
        if not entry:
            continue
        own = {**_own(entry), "litellm_user_email": item["user_id"]}
        users[name] = {**common, **own, "litellm_key_duration": _lives(entry, workshop)}
        data.update((key.replace("litellm_", f"litellm_{name}_", 1), value) for key, value in own.items())
    data.update(
        litellm_user_count=len(entries),
        # By number: whoever failed keeps the place.
        litellm_virtual_keys=[entry.get("key") or "" for entry in entries],
        litellm_key_aliases=[item["key_alias"] for item in workshop["keys"]],
        litellm_key_ids=[entry.get("token") or "" for entry in entries],
        litellm_user_ids=[item["user_id"] for item in workshop["keys"]],
    )
    # For pages that know no participants: the first one's.
    if entries and entries[0]:
        data.update(_own(entries[0]))
    return users, data


def _holds_values(name: str) -> bool:
    return name.startswith("litellm_") and name.endswith(("_virtual_key", "_virtual_keys"))


class FilterModule:
    """Makes what a lab hears about its keys."""

    def filters(self) -> dict[str, Any]:
        return {"workshop_outputs": workshop_outputs}
