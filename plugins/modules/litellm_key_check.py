#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_key_check
short_description: Try virtual keys of a LiteLLM proxy before their participants do
version_added: 1.0.0
description:
  - Calls every model of every key once, in parallel, and says which participants would fail and why.
  - The task fails if any participant would, with RV(results) for all of them. It changes nothing, on the proxy or
    elsewhere.
  - The keys come from a hand-out file, from a list, or from the lab itself, in which case their values are derived
    or taken from those known. Values are never in the result.
  - It costs little. A chat model is asked to answer V(Hi) with O(max_tokens) tokens, one by default, an embedding
    model to embed it. The calls are booked on the participants' keys as any other.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.attributes.info
options:
  litellm_master_key:
    description:
      - The proxy's master key, or the key of another proxy admin. Needed with O(guid) only, to read the lab's keys.
      - Falls back to the environment variable E(LITELLM_MASTER_KEY), then to Secret C(litellm-secret) of O(namespace).
  keys:
    description: Keys to try, one item each, with a name or an alias.
    type: list
    elements: dict
    suboptions:
      name:
        description: Whose key it is, as the result shall call it. The alias if left out.
        type: str
      key_alias:
        description: The alias that the key should have. The value of another key is reported as wrong.
        type: str
        aliases: [alias]
      key:
        description: The key's value.
        type: str
      models:
        description: Models that it should be able to call, instead of O(models).
        type: list
        elements: str
  src:
    description:
      - Path of a hand-out file on the host that the module runs on, as P(rhpds.litemaas.key_file#filter) makes it, in
        CSV or JSON.
      - Where it has a column V(models), as a workshop's has, those are tried unless O(models) says otherwise.
    type: path
  guid:
    description:
      - The lab whose keys to try. Its keys are read with O(litellm_master_key).
      - With O(keys) or O(src) the lab that they belong to, for the names of participants only.
    type: str
  participants:
    description:
      - Aliases of the keys that have to be there. One that isn't is reported as failing.
      - Where the keys of O(guid) are read, only these are tried. Without it, all keys of the lab that this collection
        manages are.
    type: list
    elements: str
    default: []
  key_secret:
    description:
      - Secret that the values of the lab's keys were derived from.
      - Falls back to the environment variable E(LITELLM_KEY_SECRET), then to what O(namespace) has.
    type: str
  known_values:
    description: Values among which those of the lab's keys are that can't be derived.
    type: list
    elements: str
    default: []
  models:
    description:
      - Models that every participant should be able to call.
      - Without it, each key's models are those that the hand-out names, or that C(GET /v1/models) lists for it.
    type: list
    elements: str
  embedding_models:
    description:
      - Models to be called as embedding models though the proxy doesn't say that they are.
      - Otherwise the C(mode) of a model, as the proxy shows it to the key, decides how it is called. Models that are
        neither for chat, completion nor embeddings, such as those for document conversion or audio, and wildcards are
        not called; it is only checked that they are listed for the key, and RV(results[].checks[].called) is false.
    type: list
    elements: str
    default: []
  valid_for:
    description: How long the keys have to live from now, for example V(8h). A key that ends sooner is reported.
    type: str
  concurrency:
    description:
      - Participants whose keys are tried at once. The models of one are called one after another.
      - Where a model hangs, the check takes up to O(call_timeout) times the number of participants, divided by this.
    type: int
    default: 16
  call_timeout:
    description: Seconds to wait for a model's answer.
    type: int
    default: 60
  max_tokens:
    description: How many tokens a chat model may answer with. Some models that reason refuse to answer with one.
    type: int
    default: 1
notes:
  - A participant's call is sent again once, after O(retry_delay), when it met a 502, 503 or 504, a lost connection, or
    a proxy without a database connection, and never otherwise. O(retry_count) is for reaching the proxy and for reading
    the lab's keys.
  - A 429 is reported as a failure, since participants would meet it too. A key with a limit of one request a minute
    may meet it with its second model.
  - A key that is unknown, expired, blocked or over its budget isn't used for calls.
seealso:
  - module: rhpds.litemaas.litellm_virtual_key
  - plugin: rhpds.litemaas.key_file
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Every key of a lab works, and will for the whole day
  rhpds.litemaas.litellm_key_check:
    guid: abc12
    key_secret: "{{ litellm_key_secret }}"
    valid_for: 8h

- name: The first two participants have a key that may call the model of the exercises
  rhpds.litemaas.litellm_key_check:
    guid: abc12
    key_secret: "{{ litellm_key_secret }}"
    participants: [virtkey-abc12-user1, virtkey-abc12-user2]
    models: [granite-3-2-8b-instruct]

- name: The keys of a hand-out, without the master key
  rhpds.litemaas.litellm_key_check:
    src: "{{ handout }}"
  register: checked
  ignore_errors: true

- name: Who would fail
  ansible.builtin.debug:
    var: checked.failing
"""

RETURN = r"""
msg:
  description: One line with the counts and those who would fail, shortened where there are many.
  returned: always
  type: str
  sample: "200 participants, 2 models each: 199 ok, 1 would fail: user7: expired on 2026-06-01T12:00:00Z"
headline:
  description: The counts alone.
  returned: always
  type: str
  sample: "200 participants, 2 models each: 199 ok, 1 would fail"
failing:
  description: A line for each participant that would fail, and one for many of them that share a reason.
  returned: always
  type: list
  elements: str
  sample: ["user7: expired on 2026-06-01T12:00:00Z"]
results:
  description: One entry a participant.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Whose key it is. The alias, without C(virtkey-), guid and C(-) where it begins with these.
      type: str
    key_alias:
      description: The key's alias, where it is known.
      type: str
    failed:
      description: Whether the participant would fail.
      type: bool
    msg:
      description: What would fail and why, or what answers.
      type: str
    expires:
      description: When the key ends, where it could be read.
      type: str
    checks:
      description: One entry a model, in the order of the calls.
      type: list
      elements: dict
      contains:
        model:
          description: The model's name.
          type: str
        ok:
          description: Whether it answered, or is listed if it can't be called.
          type: bool
        called:
          description: Whether it was called, or only looked for in the list.
          type: bool
        status:
          description: The HTTP status of the answer.
          type: int
        seconds:
          description: How long the answer took.
          type: float
        reason:
          description: Why it failed, or why it was not called.
          type: str
summary:
  description: Number of participants by how they would fare, and of calls.
  returned: always
  type: dict
  sample: {participants: 200, ok: 199, failed: 1, called: 398, listed: 0}
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

from pathlib import Path

from ansible.module_utils.basic import env_fallback

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_check
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule

KEY = {
    "name": {"type": "str"},
    "key_alias": {"type": "str", "aliases": ["alias"], "no_log": False},
    "key": {"type": "str", "no_log": True},
    "models": {"type": "list", "elements": "str"},
}


class KeyCheckModule(LiteMaaSModule):
    """Keeps the values of keys out of the result by keeping them out of what Ansible copies into it.

    Hiding them there, letter by letter, would take other text along where a value is wrong: the value "user" is no
    secret, and is in every name.
    """

    def hide_secrets(self):
        self.keys = [dict(item) for item in self.params["keys"] or ()]
        self.known_values = self.params["known_values"]
        for item in self.params["keys"] or ():
            if item.get("key"):
                item["key"] = "hidden"
        self.params["known_values"] = ["hidden"] * len(self.known_values)
        given = {*self.known_values, *(item.get("key") for item in self.keys)}
        others = {self.params["litellm_master_key"], self.params["key_secret"]}
        self.no_log_values -= {value for value in given - others if not is_value(value)}
        super().hide_secrets()


def is_value(text):
    return bool(text) and text.startswith("sk-") and len(text) > 8


def main():
    module = KeyCheckModule(
        argument_spec={
            **http.argument_spec(),
            "keys": {
                "type": "list",
                "elements": "dict",
                "options": KEY,
                "required_one_of": [("name", "key_alias")],
                "no_log": False,
            },
            "src": {"type": "path"},
            "guid": {"type": "str"},
            "participants": {"type": "list", "elements": "str", "default": []},
            "key_secret": {"type": "str", "no_log": True, "fallback": (env_fallback, ["LITELLM_KEY_SECRET"])},
            "known_values": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "models": {"type": "list", "elements": "str"},
            "embedding_models": {"type": "list", "elements": "str", "default": []},
            "valid_for": {"type": "str"},
            "concurrency": {"type": "int", "default": 16},
            "call_timeout": {"type": "int", "default": 60},
            "max_tokens": {"type": "int", "default": 1, "no_log": False},
        },
        supports_check_mode=True,
        required_one_of=[("keys", "src", "guid")],
        mutually_exclusive=[("keys", "src")],
    )
    params = module.params
    try:
        valid_for = durations.seconds(params["valid_for"]) if params["valid_for"] else None
    except ValueError as problem:
        module.fail_json(msg=f"valid_for: {problem}")
    client = module.client(with_key=params["keys"] is None and not params["src"])
    module.run(lambda: work(module, params, client, valid_for))


def work(module, params, client, valid_for):
    workers = max(1, params["concurrency"])
    participants = read(module, params, client, workers)
    checker = key_check.Checker(
        client,
        models=params["models"],
        embedding_models=params["embedding_models"],
        valid_for=valid_for,
        call_timeout=max(1, params["call_timeout"]),
        max_tokens=max(1, params["max_tokens"]),
        retry_delay=params["retry_delay"],
    )
    return checker.run(participants, workers)


def read(module, params, client, workers):
    guid, aliases = params["guid"], params["participants"]
    if params["src"]:
        try:
            found = key_check.from_handout(Path(params["src"]).read_text(encoding="utf-8"), guid)
        except (OSError, ValueError) as problem:
            module.fail_json(msg=f"src: {params['src']}: {getattr(problem, 'strerror', None) or problem}")
        if params["models"] is not None:
            for one in found:
                one.models = None
    elif params["keys"] is not None:
        found = key_check.from_items(module.keys, guid)
    else:
        return key_check.from_lab(
            client,
            guid,
            aliases,
            key_secret=module.setting("key_secret"),
            known_values=module.known_values,
            workers=workers,
        )
    key_check.add_missing(found, aliases, guid)
    return found


if __name__ == "__main__":
    main()
