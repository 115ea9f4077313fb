#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_rotate
short_description: Give a running LiteMaaS another master key or another database password
version_added: 1.0.0
description:
  - The new value is in its Secret, beside the old one, before anything else knows it, and the old one goes when
    everything that uses it was rolled out. A run that was interrupted, wherever that was, is gone on with by the next
    one, with the same new value.
  - With O(what=master_key), C(LITELLM_SALT_KEY) becomes the current master key first, where LiteLLM has no salt key.
    The parameters of its models are encrypted with that one, and would be lost otherwise. Virtual keys are hashes that
    no master key touches. LiteLLM is rolled out, and has to list every stored model with the new key, to refuse the old
    one, to take a virtual key from before, and to answer for a model that answered before. Then the backend and what
    else starts with the master key follow. The backend's C(LITELLM_MASTER_KEY) and C(LITELLM_API_KEY) become the new
    one wherever they were the old one.
  - The backend keeps keys of models for its model dialog's test, encrypted with its C(LITELLM_MASTER_KEY), or without
    one with its C(LITELLM_API_KEY). Where that was the old master key, they are encrypted with the new one, in one
    transaction, when the backend has been rolled out. From its first new pod until then, the test may fail for a model
    whose key isn't typed in; nothing else uses them. What neither master key opens is left, and named. Where the
    backend has a key of its own, they stay as they are.
  - With O(what=database_password), the role's password is changed in the database and in Secret C(litemaas-db), and the
    database, LiteLLM and the backend are rolled out in this order. The server is sent a verifier, never the password.
    Where a database in the cluster refuses what the Secret has, the way in is its pod, whose own socket lets its
    superuser in, and RV(notes) says so. A database outside of the cluster that refuses it is an error.
  - LiteLLM's salt key can't be rotated, as LiteLLM has nothing that encrypts stored parameters anew.
  - While LiteLLM is rolled out, its old pods take the old master key alone and its new ones the new one alone, so that
    the backend's calls may fail until its own rollout. Virtual keys work throughout. Between the change of a password
    and the end of the rollouts, pods from before keep their connections and get no new ones.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.operate
  - rhpds.litemaas.attributes
attributes:
  diff_mode:
    description: What changes is secret.
    support: none
  idempotent:
    description:
      - With O(new_value), running it again changes nothing. Without it, every run makes another value, unless it has an
        interrupted one to end.
    support: partial
options:
  namespace:
    required: true
  what:
    description: What is rotated.
    type: str
    choices: [master_key, database_password]
    required: true
  new_value:
    description:
      - The new master key (V(sk-…)) or password, of 16 characters or more. Left out, it is made.
      - The password that the Secret has already is set in a database that has another one.
    type: str
  verify:
    description:
      - Whether the proxy is looked at before and after. Without it, models that were lost would be noticed by their
        users. With O(what=master_key).
      - With it, a LiteMaaS's database that can't be read or written ends the run before anything is changed, as its
        encrypted test keys of models would be lost. Without it, the master key is rotated all the same, for one that
        can't wait, and a note says so.
      - It makes a virtual key for an hour, takes it away at the end, and calls up to three models with one token.
    type: bool
    default: true
  connect_timeout:
    description: Seconds to wait for a connection to PostgreSQL.
    type: int
    default: 10
requirements:
  - psycopg2 2.8 or later (on the host that runs the module; C(psycopg2-binary) will do)
  - cryptography (on the host that runs the module), with O(what=master_key), where LiteMaaS has encrypted test keys of
    models
notes:
  - O(litellm_master_key) is not used, as the Secret has it.
  - Somebody has to tell AgnosticV's include of secrets, and whoever else calls LiteLLM with the master key.
  - The account needs get and patch on Secrets, get, list and patch on Deployments and StatefulSets, what the databases
    need (see O(namespace)), and what M(rhpds.litemaas.k8s_rollout_status) needs; create and get on C(pods/exec) where
    a database refuses the Secret's password.
seealso:
  - module: rhpds.litemaas.litemaas_secrets
"""

EXAMPLES = r"""
- name: Another master key
  rhpds.litemaas.litemaas_rotate:
    namespace: litellm-rhpds
    what: master_key

- name: A password that is kept elsewhere too
  rhpds.litemaas.litemaas_rotate:
    namespace: litellm-rhpds
    what: database_password
    new_value: "{{ vault_database_password }}"
"""

RETURN = r"""
msg:
  description: One line that says what happened, or would.
  returned: always
  type: str
  sample: "master key rotated: litellm, litellm-backend rolled out; every stored model is listed"
secrets:
  description: By Secret, the names of the keys that were written.
  returned: success
  type: dict
restarted:
  description: Workloads that were rolled out, or would be.
  returned: success
  type: list
  elements: str
resumed:
  description: Whether an interrupted run was gone on with.
  returned: success
  type: bool
verified:
  description: What was seen to work.
  returned: success
  type: list
  elements: str
notes:
  description: What is left to somebody.
  returned: success
  type: list
  elements: str
model_keys:
  description: How many of LiteMaaS's test keys of models were encrypted with the new master key, or would be.
  returned: success
  type: int
  sample: 3
unreadable_model_keys:
  description: Models whose test key neither master key opens. Enter those again in LiteMaaS's model dialog.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import operate, rotation
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule

#: What results consist of: a secret that happens to be one of these must not take it out of them.
WORDS = "master_key database_password"


def main():
    spec = {
        **http.argument_spec(),
        **operate.OPTIONS,
        "namespace": {"type": "str", "required": True},
        "what": {"type": "str", "choices": ["master_key", "database_password"], "required": True},
        "new_value": {"type": "str", "no_log": True},
        "verify": {"type": "bool", "default": True},
        "connect_timeout": {"type": "int", "default": 10},
    }
    module = DatabaseModule(argument_spec=spec, supports_check_mode=True)
    module.run(lambda: work(module, module.params))


def work(module, params):
    operator = operate.operator_of(module.cluster(), params)
    given = (params["new_value"] or "").strip()
    run = rotation_of(module, params, operator)
    try:
        done = run.run(given, module.check_mode)
    finally:
        module.no_log_values.update(value for value in run.vault.values if value not in WORDS)
    return {
        "changed": done.changed,
        "msg": rotation.described(params["what"], done, module.check_mode),
        "secrets": done.secret,
        "restarted": done.restarted,
        "resumed": done.resumed,
        "verified": done.verified,
        "notes": done.notes,
        "model_keys": done.model_keys,
        "unreadable_model_keys": done.unreadable,
    }


def rotation_of(module, params, operator):
    if params["what"] == "database_password":
        return rotation.DatabasePassword(operator, module.place, params["connect_timeout"])
    return rotation.MasterKey(
        operator,
        module.place,
        lambda key: client(module, key),
        verify=params["verify"],
        connect_timeout=params["connect_timeout"],
    )


def client(module, key):
    """LiteLLM, with a master key. It answers at once or not at all: who asks, asks again."""
    url = module.setting("litellm_url")
    return http.client_from_params({**module.params, "litellm_url": url, "litellm_master_key": key})


if __name__ == "__main__":
    main()
