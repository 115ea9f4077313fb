# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import KEPT

DOCUMENTATION = r"""
name: workshop_keys
short_description: Who gets a virtual key in a lab, and with what
version_added: 1.0.0
description:
  - Makes the items for M(rhpds.litemaas.litellm_virtual_key) from what AgnosticV says about a lab, one for each
    participant, or a single one.
  - What is wrong with the settings is returned, not raised, so that all of it can be said at once.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: The lab's guid.
    type: str
    required: true
  models:
    description: Models that the keys may call; a list, or one text with commas.
    type: raw
    required: true
  duration:
    description: How long the keys live, such as V(7d) or V(36h).
    type: str
    required: true
  runtime:
    description: The lab's runtime in hours, which takes the place of O(duration) where it is given.
    type: raw
  package:
    description: Name of one of the O(packages), whose models and duration take the place of O(models) and O(duration).
    type: str
    default: ""
  packages:
    description: Models and duration by name.
    type: dict
    default: {}
  extra_models:
    description: Further models, such as the one of document conversion.
    type: list
    elements: str
    default: []
  alias:
    description: Alias of the single key. In a workshop the participant's name follows it, after a hyphen.
    type: str
    required: true
  user_id:
    description: The user that the single key's spend is booked on.
    type: str
    default: ""
  users:
    description: Number of participants of a workshop, 0 for a lab with a single key.
    type: raw
    default: 0
  user_base:
    description: What the participants' names begin with, before their numbers.
    type: str
    default: user
  email_domain:
    description: Domain of the participants' user ids.
    type: str
    default: lab.opentlc.com
  metadata:
    description: >-
      What every key carries beside what is known about the lab. The guid, and what else the collection writes itself,
      is not taken from here.
    type: dict
    default: {}
seealso:
  - plugin: rhpds.litemaas.workshop_outputs
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the aliases of a workshop's keys
  ansible.builtin.debug:
    msg: "{{ workshop['keys'] | map(attribute='key_alias') }}"
  vars:
    workshop: >-
      {{ 'abc12' | rhpds.litemaas.workshop_keys(
           models=['granite-3-2-8b-instruct'], duration='7d', alias='virtkey-abc12', users=3) }}
# => ["virtkey-abc12-user1", "virtkey-abc12-user2", "virtkey-abc12-user3"]
"""

RETURN = r"""
_value:
  description: The lab's keys, before they are made.
  type: dict
  contains:
    keys:
      description: Items for O(rhpds.litemaas.litellm_virtual_key#module:keys), in the order of the participants.
      type: list
      elements: dict
    participants:
      description: For each item the participant's name, empty for a lab with a single key.
      type: list
      elements: str
    models:
      description: What the keys may call.
      type: list
      elements: str
    duration:
      description: How long they live.
      type: str
    problems:
      description: What is wrong with the settings. Nothing should be done then.
      type: list
      elements: str
"""

#: A workshop larger than this is a slip of the keyboard.
MOST_USERS = 10000


def workshop_keys(
    guid: Any,
    *,
    models: Any,
    duration: Any,
    alias: Any,
    runtime: Any = None,
    package: Any = "",
    packages: Any = None,
    extra_models: Any = (),
    user_id: Any = "",
    users: Any = 0,
    user_base: Any = "user",
    email_domain: Any = "lab.opentlc.com",
    metadata: Any = None,
) -> dict[str, Any]:
    """See the documentation above."""
    problems: list[str] = []
    names = _names(models)
    lives = str(duration or "")
    if package:
        chosen = (packages or {}).get(package)
        if not isinstance(chosen, Mapping):
            known = ", ".join(sorted(packages or {})) or "none is defined"
            problems.append(f"subscription_package {package!r} is not known; there are: {known}")
        else:
            names, lives = _names(chosen.get("models")) or names, str(chosen.get("duration") or lives)
    if runtime not in (None, ""):
        lives = _hours(runtime, problems)
    names = list(dict.fromkeys([*names, *_names(extra_models)]))
    if not names:
        problems.append("models is empty: name the models that the keys may call")
    if not lives and runtime in (None, ""):
        problems.append("duration is not set: say how long the keys live, for example 7d or 36h")
    count = _count(users, problems)
    about = {
        # What the module writes itself is the same, and of its own making.
        **{name: one for name, one in (metadata if isinstance(metadata, Mapping) else {}).items() if name not in KEPT},
        "models": ",".join(names),
        "models_count": len(names),
        "duration": lives,
    }
    if metadata not in (None, "") and not isinstance(metadata, Mapping):
        problems.append("metadata is not a mapping")
    if count:
        participants = [f"{user_base}{number}" for number in range(1, count + 1)]
        keys = [
            {
                "key_alias": f"{alias}-{name}",
                "user_id": f"{name}@{email_domain}",
                "metadata": {**about, "user": name, "user_number": number},
            }
            for number, name in enumerate(participants, start=1)
        ]
    else:
        participants = [""]
        keys = [{"key_alias": str(alias), "metadata": about, **({"user_id": str(user_id)} if user_id else {})}]
    if not str(guid or "").strip():
        problems.append("guid is not set: the lab that the keys belong to")
    if not str(alias or "").strip():
        problems.append("alias_format is empty: it makes the keys' aliases")
    return {"keys": keys, "participants": participants, "models": names, "duration": lives, "problems": problems}


def _names(models: Any) -> list[str]:
    """A list of names from a list, or from a text with commas, as a catalogue's drop-down gives it."""
    if models is None:
        return []
    found = models.split(",") if isinstance(models, str) else models
    return [str(one).strip() for one in found if str(one).strip()]


def _hours(runtime: Any, problems: list[str]) -> str:
    try:
        hours = float(runtime)
    except (TypeError, ValueError):
        hours = 0
    if not 0 < hours < 876000:  # a hundred years
        problems.append(f"agnosticd_user_info.runtime is {runtime!r}: it has to be a number of hours")
        return ""
    return durations.text(hours * 3600)


def _count(users: Any, problems: list[str]) -> int:
    try:
        count = int(users)
    except (TypeError, ValueError):
        count = -1
    if not 0 <= count <= MOST_USERS:
        problems.append(f"num_users is {users!r}: it has to be a whole number, at most {MOST_USERS}")
        return 0
    return count


class FilterModule:
    """Makes the items of a lab's keys."""

    def filters(self) -> dict[str, Any]:
        return {"workshop_keys": workshop_keys}
