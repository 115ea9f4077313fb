#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_virtual_key
short_description: Manage virtual keys in a LiteLLM proxy
version_added: 1.0.0
description:
  - Makes the virtual keys of a LiteLLM proxy match what is declared, one or many in a call.
  - With O(key_secret) a key's value is derived from it, so a second run returns the same keys, a killed run goes on
    where it was, and two runs at once make no twins.
  - After every write the rows are read again and compared. What the proxy does not show is reported as failed.
  - In a bulk call every item that can be done is done and reported; then the task fails if any item failed.
  - An item is known by its alias. What carries the mark of this collection and a guid can be found by the guid too.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.attributes
options:
  <<: &item
    key_alias:
      description: The key's name, unique in the proxy.
      type: str
      aliases: [alias]
    token:
      description:
        - The sha256 of a key's value in hex, as LiteLLM lists it, or the value itself.
        - For O(state=absent) and O(state=existing).
      type: str
    guid:
      description:
        - The lab that the key belongs to. It is written into the metadata, and the value is derived from it.
        - Without O(key_alias) it means every key of that lab, with O(state=absent) and O(state=existing).
        - With O(key_alias) a key that carries another guid is refused, so that no lab gets or removes another's key.
      type: str
    uuid:
      description:
        - The lab's unique id, from which the value is derived instead of O(guid), as guids come round again.
        - It is written into the metadata, so that a later run that knows only the guid can tell the value too.
        - The value of a key that carries another uuid is not told, and V(present) fails, as it is a former lab's of
          that guid; see O(keys[].on_unrecoverable).
      type: str
    legacy_aliases:
      description:
        - Regular expressions, each of which has to match the whole alias. Where an item names a lab by O(guid) alone,
          keys without the mark of this collection whose alias matches count as the lab's own.
        - A key that carries another guid never counts, nor does one that carries the mark.
        - Without it, a key that carries the guid but not the mark is left alone, and reported.
        - Items that name a key by O(key_alias) or O(token) find it anyway; O(report_unlisted) reads it for them too.
      type: list
      elements: str
    models:
      description:
        - Models that the key may call. They have to be on the proxy.
        - A key made without may call all of them.
      type: list
      elements: str
    duration:
      description:
        - How long the key lives, counted from when it was granted, for example V(36h) or V(7d).
        - A key that lives longer already, or never expires, is left alone unless O(allow_shorten) is set.
        - An expired one is renewed from now.
      type: str
    expires:
      description: When the key ends, as ISO 8601, instead of O(duration).
      type: str
    max_budget:
      description: US dollars that the key may spend.
      type: float
    soft_budget:
      description: US dollars after which LiteLLM alerts.
      type: float
    budget_duration:
      description: Period after which the spend starts from zero, for example V(30d), V(1mo) or V(daily).
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
    model_rpm_limit:
      description: Requests per minute by model name.
      type: dict
    model_tpm_limit:
      description: Tokens per minute by model name.
      type: dict
    model_max_budget:
      description: Budget by model name. Needs an Enterprise licence.
      type: dict
    tags:
      description: Tags for tracking spend. Needs an Enterprise licence.
      type: list
      elements: str
    guardrails:
      description: Guardrails that apply to the key's calls. Needs an Enterprise licence.
      type: list
      elements: str
    user_id:
      description: The user that the spend is booked on. LiteLLM does not make the user.
      type: str
    team_id:
      description: The team that the key belongs to. It has to exist.
      type: str
    metadata:
      description: Free-form metadata. What others put there stays.
      type: dict
    allowed_routes:
      description: Routes or route groups that the key may call, for example V(llm_api_routes).
      type: list
      elements: str
    blocked:
      description:
        - Whether the key is blocked. Left out, a blocked key is an error, as it would not work.
      type: bool
    extend:
      description:
        - Let the key live for this long from now, for example V(7d).
        - Never shortens it unless O(allow_shorten) is set.
      type: str
    rotate_created_before:
      description: Rotate only a key made before this moment, as ISO 8601; running it again then changes nothing.
      type: str
    rotate_grace:
      description: How long the old value works on after a rotation, for example V(1h).
      type: str
  keys:
    description:
      - Keys to manage, one item each. The options beside this list are the defaults of every item.
      - O(keys[].duration) or O(keys[].expires) takes the place of a default for the other one.
      - Give this, or one of O(key_alias), O(token) and O(guid) alone.
    type: list
    elements: dict
    suboptions:
      <<: *item
      state:
        description:
          - V(present) makes the key match what is declared, limits that were declared before and no longer are being
            taken away. A key of that alias that was made by other means is adopted; see O(on_unrecoverable).
          - V(existing) changes what is given on a key that has to be there, and nothing else.
          - V(absent) deletes it. What is gone already counts as done.
        type: str
        choices: [present, existing, absent]
      unblock:
        description: Unblock a key that is blocked.
        type: bool
      reset_spend:
        description: Set the spend of a key that is past its budget to zero.
        type: bool
      allow_shorten:
        description: Let O(duration), O(expires) and O(extend) end a key sooner than it would now.
        type: bool
      renew:
        description: Whether an expired key is renewed.
        type: bool
      rotate:
        description: Give the key a new value. The old one is deleted, or works on for O(rotate_grace).
        type: bool
      on_unrecoverable:
        description:
          - What to do about an existing key whose value can't be known, as it was made with a random value or with
            another O(key_secret).
          - V(fail) says so, V(rotate) gives it a new value, V(ignore) manages it without returning its value.
        type: str
        choices: [fail, rotate, ignore]
      require_usable:
        description: Whether a key that is blocked, expired or past its budget, and stays so, is an error.
        type: bool
  state:
    description:
      - V(present) makes the key match what is declared, limits that were declared before and no longer are being
        taken away.
      - V(existing) changes what is given on a key that has to be there, and nothing else.
      - V(absent) deletes it. What is gone already counts as done.
    type: str
    choices: [present, existing, absent]
    default: present
  unblock:
    description: Unblock a key that is blocked.
    type: bool
    default: false
  reset_spend:
    description: Set the spend of a key that is past its budget to zero.
    type: bool
    default: false
  allow_shorten:
    description: Let O(duration), O(expires) and O(extend) end a key sooner than it would now.
    type: bool
    default: false
  renew:
    description: Whether an expired key is renewed.
    type: bool
    default: true
  rotate:
    description: Give the key a new value. The old one is deleted, or works on for O(rotate_grace).
    type: bool
    default: false
  on_unrecoverable:
    description:
      - What to do about an existing key whose value can't be known, as it was made with a random value or with
        another O(key_secret).
      - V(fail) says so, V(rotate) gives it a new value, V(ignore) manages it without returning its value.
    type: str
    choices: [fail, rotate, ignore]
    default: fail
  require_usable:
    description: Whether a key that is blocked, expired or past its budget, and stays so, is an error.
    type: bool
    default: true
  key_secret:
    description:
      - Secret that values are derived from, at least 32 bytes, and independent of the master key.
        C(openssl rand -base64 48) makes one.
      - Whoever has it can compute every key made with it. Changing it touches no live key, but their values can't be
        told any more.
      - Without it values are random and returned once, when the key is made.
      - Falls back to the environment variable E(LITELLM_KEY_SECRET), then to what O(namespace) has.
    type: str
  known_values:
    description:
      - Values that the caller still holds from an earlier run. A live key whose value is among them gets it returned.
      - They stay on the controller; the host that the module runs on gets their sha256.
    type: list
    elements: str
    default: []
  scope:
    description:
      - Name of the set that these keys belong to, written into their mark.
      - Without it a key keeps the scope that it has.
    type: str
  never_reuse:
    description:
      - Whether LiteLLM's archive of deleted keys is asked before a value is made, so that a deleted key's value never
        comes back to life.
    type: bool
    default: true
  check_models:
    description: Whether the models of a key have to be on the proxy.
    type: bool
    default: true
  report_unlisted:
    description:
      - Whether RV(unlisted) names the keys of the items' labs that no item speaks of, for example those of
        participants who are no longer in the list. Nothing is done about them.
      - Reads all pages of the proxy's list of keys.
    type: bool
    default: false
  return_values:
    description:
      - Whether RV(results[].key) has the keys' values. The task's output is hidden then, apart from the one line.
    type: bool
    default: true
  concurrency:
    description: Requests under way at once.
    type: int
    default: 8
notes:
  - The values are in the registered result only. Printing that with M(ansible.builtin.debug) prints them.
  - A deleted or blocked key may be honoured by other replicas of the proxy for a while, as they cache keys.
  - A rotation that was killed half way is undone or finished by the next run that speaks of the key.
  - Does not run asynchronously, as the task that fetches the result would print the values.
seealso:
  - module: rhpds.litemaas.litellm_virtual_key_info
"""

EXAMPLES = r"""
- name: A key for each participant of a workshop
  rhpds.litemaas.litellm_virtual_key:
    key_secret: "{{ litellm_key_secret }}"
    guid: abc12
    models: [granite-3-2-8b-instruct]
    duration: 36h
    max_budget: 5
    rpm_limit: 60
    keys:
      - key_alias: virtkey-abc12-user1
        user_id: user1@lab.opentlc.com
      - key_alias: virtkey-abc12-user2
        user_id: user2@lab.opentlc.com
  register: workshop_keys

- name: All keys of a lab live for another week, from now
  rhpds.litemaas.litellm_virtual_key:
    guid: abc12
    state: existing
    extend: 7d

- name: One key gets a new value, and the old one works for another hour
  rhpds.litemaas.litellm_virtual_key:
    key_secret: "{{ litellm_key_secret }}"
    key_alias: virtkey-abc12-user1
    guid: abc12
    state: existing
    rotate: true
    rotate_grace: 1h

- name: All keys of a lab go, on whatever page of the list they are
  rhpds.litemaas.litellm_virtual_key:
    guid: abc12
    state: absent

- name: So do those that were made by other means, known by their aliases
  rhpds.litemaas.litellm_virtual_key:
    guid: abc12
    legacy_aliases: ['virtkey-abc12(-user\d+)?']
    state: absent

- name: The workshop has shrunk, and the keys of those who left are named
  rhpds.litemaas.litellm_virtual_key:
    key_secret: "{{ litellm_key_secret }}"
    guid: abc12
    report_unlisted: true
    keys:
      - key_alias: virtkey-abc12-user1
  register: smaller_workshop
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts and the first failures by name.
  returned: always
  type: str
  sample: "200 virtual keys: 200 unchanged"
results:
  description: One entry a key, in the order of the list.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The alias, or what else the item was known by.
      type: str
    action:
      description: What was done, or would be in check mode.
      type: str
      sample: create
    changed:
      description: Whether anything was written for it.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    changes:
      description: Fields that differ, with their values before and after.
      type: list
      elements: dict
    key_alias:
      description: The key's alias.
      type: str
    key:
      description: The key's value, where it is known.
      returned: when O(return_values) is set; in check mode for keys that would keep their value
      type: str
    key_source:
      description: Where the value is known from.
      type: str
      sample: derived
    token:
      description: The value's sha256 in hex, which is LiteLLM's id of the key.
      type: str
    guid:
      description: The lab that the key belongs to.
      type: str
    generation:
      description: Number of the value, 1 for the first one of an alias.
      type: int
    expires:
      description: When the key ends.
      type: str
    lives_longer:
      description: Whether it lives longer than asked, and was left so.
      type: bool
    lives_for:
      description:
        - How long it lives from its making, or from its last extension, as that was said.
        - For keys that others have made, from their making to their end. Empty for one that never ends.
      type: str
      sample: 7d
    spend:
      description: US dollars spent so far.
      type: float
    user_id:
      description: The user that the spend is booked on.
      type: str
    msg:
      description: What happened, why, or what went wrong and how to go on.
      type: str
unlisted:
  description:
    - Aliases of keys that belong to a guid of the items and that no item speaks of, user2 before user10.
    - Keys belong to a guid that carry the mark of this collection and the guid, or that match O(legacy_aliases).
    - An old value that works on after a rotation is no key of its own here.
  returned: when O(report_unlisted) is set
  type: list
  elements: str
  sample: [virtkey-abc12-user2, virtkey-abc12-user10]
summary:
  description: Number of keys by what happened to them.
  returned: always
  type: dict
  sample: {created: 2, updated: 0, rotated: 0, deleted: 0, unchanged: 0, failed: 0}
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

from typing import Any

from ansible.module_utils.basic import env_fallback

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, items
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import virtual_key
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import apply, plan, report

ITEM: dict[str, dict[str, Any]] = {
    "key_alias": {"type": "str", "aliases": ["alias"], "no_log": False},
    "token": {"type": "str", "no_log": False},
    "guid": {"type": "str"},
    "uuid": {"type": "str"},
    "legacy_aliases": {"type": "list", "elements": "str"},
    "state": {"type": "str", "choices": ["present", "existing", "absent"], "default": "present"},
    "models": {"type": "list", "elements": "str"},
    "duration": {"type": "str"},
    "expires": {"type": "str"},
    "max_budget": {"type": "float"},
    "soft_budget": {"type": "float"},
    "budget_duration": {"type": "str"},
    "tpm_limit": {"type": "int"},
    "rpm_limit": {"type": "int"},
    "max_parallel_requests": {"type": "int"},
    "model_rpm_limit": {"type": "dict"},
    "model_tpm_limit": {"type": "dict"},
    "model_max_budget": {"type": "dict"},
    "tags": {"type": "list", "elements": "str"},
    "guardrails": {"type": "list", "elements": "str"},
    "user_id": {"type": "str"},
    "team_id": {"type": "str"},
    "metadata": {"type": "dict"},
    "allowed_routes": {"type": "list", "elements": "str"},
    "blocked": {"type": "bool"},
    "unblock": {"type": "bool", "default": False},
    "reset_spend": {"type": "bool", "default": False},
    "extend": {"type": "str"},
    "allow_shorten": {"type": "bool", "default": False},
    "renew": {"type": "bool", "default": True},
    "rotate": {"type": "bool", "default": False},
    "rotate_created_before": {"type": "str"},
    "rotate_grace": {"type": "str"},
    "on_unrecoverable": {"type": "str", "choices": ["fail", "rotate", "ignore"], "default": "fail"},
    "require_usable": {"type": "bool", "default": True},
}


class KeyModule(LiteMaaSModule):
    """Hides what is a key's value, and shows what is the sha256 of one."""

    def hide_secrets(self):
        given = [
            *self.params["known_values"],
            *(item.get("token") for item in (self.params, *(self.params["keys"] or ()))),
        ]
        self.no_log_values.update(value for value in given if value and not derive.is_token(value))
        super().hide_secrets()


def main():
    spec = {
        **http.argument_spec(),
        **ITEM,
        "keys": {"type": "list", "elements": "dict", "options": items.suboptions(ITEM), "no_log": False},
        "key_secret": {"type": "str", "no_log": True, "fallback": (env_fallback, ["LITELLM_KEY_SECRET"])},
        "known_values": {"type": "list", "elements": "str", "default": [], "no_log": False},
        "scope": {"type": "str"},
        "never_reuse": {"type": "bool", "default": True},
        "check_models": {"type": "bool", "default": True},
        "report_unlisted": {"type": "bool", "default": False},
        "return_values": {"type": "bool", "default": True},
        "concurrency": {"type": "int", "default": 8},
    }
    module = KeyModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_one_of=[("keys", "key_alias", "token", "guid")],
        mutually_exclusive=[("keys", "key_alias"), ("keys", "token")],
    )
    key_secret = module.key_secret()
    client = module.client()
    module.run(lambda: work(module, module.params, client, key_secret))


def work(module, params, client, key_secret):
    resource = virtual_key.VirtualKeyResource(
        client,
        now=client.server_now(),
        scope=params["scope"],
        key_secret=key_secret,
        known_values=params["known_values"],
        never_reuse=params["never_reuse"],
        models_checked=params["check_models"],
        report_unlisted=params["report_unlisted"],
        workers=max(1, params["concurrency"]),
    )
    options = items.merged(params, "keys", "key_alias", ITEM)
    wanted = [virtual_key.wanted_from_options(item, resource.now) for item in options]
    for given, item in zip(params["keys"] or [], wanted, strict=False):
        if not any(given.get(name) for name in ("key_alias", "token", "guid")):
            # With a guid beside the list it would mean all keys of that lab.
            item.error = item.error or "names no key: give key_alias, token or guid in the item itself"
    items.refuse_duplicates(wanted, lambda item: item.alias or item.token or f"guid {item.guid}", "this key")
    steps = apply.converge(resource, wanted, check_mode=module.check_mode)
    result = report.result("virtual key", steps, check_mode=module.check_mode, describe=resource.describe)
    if params["report_unlisted"]:
        result["unlisted"] = resource.unlisted
    if params["return_values"]:
        for entry, step in zip(result["results"], steps, strict=True):
            if module.check_mode and step.action not in (plan.NONE, plan.UPDATE):
                continue  # the value that it would get is nobody's yet
            # A given value is known to the caller as its sha256 here: the action plugin puts it in.
            if step.extra.get("source") in ("derived", "generated"):
                entry["key"] = step.extra["value"]
    return result


if __name__ == "__main__":
    main()
