#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_virtual_key_info
short_description: List virtual keys of a LiteLLM proxy
version_added: 1.0.0
description:
  - Gives the virtual keys of a LiteLLM proxy that match every filter given, from all pages of its list.
  - The values of keys are not among it; LiteLLM doesn't have them.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.attributes.info
options:
  key_alias:
    description: Only the key with this alias.
    type: str
    aliases: [alias]
  prefix:
    description: Only keys whose alias begins with this.
    type: str
  guid:
    description: Only keys of this lab.
    type: str
  user_id:
    description: Only keys of this user.
    type: str
  team_id:
    description: Only keys of this team.
    type: str
  managed:
    description: Only keys that this collection manages, or only those that it doesn't.
    type: bool
  expired:
    description: Only keys that have ended, or only those that haven't.
    type: bool
  expiring_within:
    description: Only keys that are alive and end within this time, for example V(3d).
    type: str
  older_than:
    description: Only keys made longer ago than this, for example V(30d).
    type: str
seealso:
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: All keys of a lab
  rhpds.litemaas.litellm_virtual_key_info:
    guid: abc12
  register: lab_keys

- name: Workshop keys that end within three days
  rhpds.litemaas.litellm_virtual_key_info:
    prefix: virtkey-
    expiring_within: 3d
  register: ending
"""

RETURN = r"""
msg:
  description: One line with the number of keys.
  returned: always
  type: str
  sample: "25 of 310 virtual keys"
keys:
  description: The keys, sorted by alias.
  returned: always
  type: list
  elements: dict
  contains:
    key_alias:
      description: The key's alias.
      type: str
    token:
      description: The value's sha256 in hex, which is LiteLLM's id of the key.
      type: str
    managed:
      description: Whether this collection manages it.
      type: bool
    guid:
      description: The lab that it belongs to.
      type: str
    generation:
      description: Number of its value.
      type: int
    models:
      description: Models that it may call; empty means all.
      type: list
      elements: str
    spend:
      description: US dollars spent so far.
      type: float
    max_budget:
      description: US dollars that it may spend.
      type: float
    expires:
      description: When it ends.
      type: str
    expired:
      description: Whether it has ended.
      type: bool
    blocked:
      description: Whether it is blocked.
      type: bool
    created_at:
      description: When it was made.
      type: str
    user_id:
      description: The user that the spend is booked on.
      type: str
    team_id:
      description: The team that it belongs to.
      type: str
    tpm_limit:
      description: Tokens per minute.
      type: int
    rpm_limit:
      description: Requests per minute.
      type: int
    max_parallel_requests:
      description: Requests that may be under way at once.
      type: int
    budget_duration:
      description: Period after which the spend starts from zero.
      type: str
    metadata:
      description: Its metadata.
      type: dict
litellm_url:
  description: Address of the proxy that was used.
  returned: when it is known
  type: str
  sample: https://litellm.example.com
found:
  description: What was found in O(namespace), and where. No secret is in it.
  returned: with O(namespace), where something was looked up
  type: dict
  sample: {litellm_url: Route litemaas/litellm, litellm_master_key: Secret litemaas/litellm-secret}
"""

from datetime import timedelta

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import virtual_key
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule

SHOWN = (
    "models spend max_budget expires created_at user_id team_id tpm_limit rpm_limit max_parallel_requests"
    " budget_duration metadata"
).split()


def main():
    module = LiteMaaSModule(
        argument_spec={
            **http.argument_spec(),
            "key_alias": {"type": "str", "aliases": ["alias"], "no_log": False},
            "prefix": {"type": "str"},
            "guid": {"type": "str"},
            "user_id": {"type": "str"},
            "team_id": {"type": "str"},
            "managed": {"type": "bool"},
            "expired": {"type": "bool"},
            "expiring_within": {"type": "str"},
            "older_than": {"type": "str"},
        },
        supports_check_mode=True,
    )
    client = module.client()
    spans = {}
    for name in ("expiring_within", "older_than"):
        try:
            spans[name] = timedelta(seconds=durations.seconds(module.params[name])) if module.params[name] else None
        except ValueError as problem:
            module.fail_json(msg=f"{name}: {problem}")
    module.run(lambda: work(module.params, spans, client))


def work(params, spans, client):
    # These three are exact matches on the server; they are compared again below all the same.
    filters = {name: params[name] for name in ("key_alias", "user_id", "team_id") if params[name] is not None}
    keys = [entry(row, client) for row in virtual_key.list_keys(client, filters)]
    now = client.server_now()
    kept = [one for one in keys if matches(one, params, spans, now)]
    kept.sort(key=lambda one: (one["key_alias"] or "", one["token"]))
    return {"changed": False, "msg": f"{len(kept)} of {len(keys)} virtual keys", "keys": kept}


def matches(one, params, spans, now):
    for name in ("key_alias", "guid", "user_id", "team_id", "managed", "expired"):
        if params[name] is not None and one[name] != params[name]:
            return False
    if params["prefix"] and not (one["key_alias"] or "").startswith(params["prefix"]):
        return False
    soon, old = spans["expiring_within"], spans["older_than"]
    if soon and not (one["expires"] and not one["expired"] and durations.moment(one["expires"]) <= now + soon):
        return False
    return not old or (bool(one["created_at"]) and durations.moment(one["created_at"]) <= now - old)


def entry(row, client):
    metadata = row.get("metadata") or {}
    expires = row.get("expires")
    return {
        "key_alias": row.get("key_alias"),
        "token": row["token"],
        "managed": ownership.is_ours(metadata),
        "guid": metadata.get("guid"),
        "generation": virtual_key.generation_of(row) or None,
        "expired": bool(expires) and durations.moment(expires) <= client.server_now(),
        "blocked": bool(row.get("blocked")),
        **{name: row.get(name) for name in SHOWN},
    }


if __name__ == "__main__":
    main()
