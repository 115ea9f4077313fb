#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_secrets
short_description: The Secrets of a LiteMaaS deployment, made only where they are missing
version_added: 1.0.0
description:
  - Reads the Secrets of a deployment, and makes what is missing of them. A value that is there is kept, one that is
    given comes next, one that is generated last.
  - Nothing is generated where it would lose data. A database whose volume is there needs its old password, and models
    whose credentials are stored need the key that they were encrypted with. Where these are missing the module fails
    before anything is written, and says how to go on.
  - A deployment without C(LITELLM_SALT_KEY) gets its current master key as salt key, since that is what LiteLLM has
    encrypted with.
  - URLs of databases are composed of their parts and brought in line with them. A password is never changed.
  - Two runs at once agree on one value. Keys of these Secrets that the module doesn't know stay as they are.
  - No value is ever returned or shown.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
options:
  namespace:
    description: Namespace of the deployment. It has to exist, but not in check mode.
    type: str
    required: true
  database:
    description: The database, for Secret C(litemaas-db).
    type: dict
    default: {}
    suboptions:
      username:
        description: User that both stores connect as. V(litellm) where neither this nor the Secret says it.
        type: str
      password:
        description: Password, generated if left out.
        type: str
      litemaas:
        description:
          - Name of LiteMaaS's database. V(litemaas_db) where neither this nor the Secret says it.
          - Another name than that of a deployment's database is refused, as the data would not be in it.
        type: str
      litellm:
        description:
          - Name of LiteLLM's database. V(litellm_db) where neither this nor the Secret says it.
          - The same as O(database.litemaas) puts both stores into one.
        type: str
      host:
        description:
          - Host of a database outside the namespace. What is given for such a database always takes effect, as it is
            somebody else's.
          - Refused while the volume of the database in the namespace is there, as its only password would be lost; the
            same holds for O(database.url).
          - Without it and O(database.url), the Service C(litellm-postgres).
        type: str
      port:
        description: Port of the database.
        type: int
        default: 5432
      sslmode:
        description: V(disable) for the database in the namespace, if left out.
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
      params:
        description: More parameters for LiteMaaS's URL.
        type: dict
        default: {}
      litellm_params:
        description: More parameters for LiteLLM's URL, for example C(connection_limit).
        type: dict
        default: {}
      url:
        description: URL of a database outside the namespace, whole, for LiteMaaS.
        type: str
      litellm_url:
        description: The same for LiteLLM. With O(database.url) alone both stores are in one database.
        type: str
  master_key:
    description: LiteLLM's master key, for Secret C(litellm-secret).
    type: str
  salt_key:
    description:
      - Key that LiteLLM encrypts stored credentials with.
      - Another one than that of a deployment is refused.
    type: str
  ui_username:
    description: User of LiteLLM's own web pages. V(admin) where neither this nor the Secret says it.
    type: str
  ui_password:
    description: That user's password.
    type: str
  license:
    description: LiteLLM's Enterprise licence. It takes effect whenever it is given.
    type: str
  jwt_secret:
    description: What the backend signs sessions with, for Secret C(backend-secret).
    type: str
  admin_api_key:
    description: Key of the backend's admin API. It begins with V(ltm_admin_).
    type: str
  oauth_client_secret:
    description: Secret of the OAuth client.
    type: str
  key_secret:
    description:
      - What the values of workshop keys are derived from, 32 bytes or more, for Secret C(litellm-key-derivation).
    type: str
  redis_password:
    description: Password of Redis, for Secret C(litellm-redis).
    type: str
  redis:
    description: The Redis.
    type: dict
    default: {}
    suboptions:
      enabled:
        description: Whether there is one. Without, its Secret is neither made nor removed.
        type: bool
        default: true
      host:
        description: Host of a Redis outside the namespace, which may have no password.
        type: str
      port:
        description: Port of Redis.
        type: int
        default: 6379
  key_derivation:
    description: Whether Secret C(litellm-key-derivation) is made.
    type: bool
    default: true
  update_secrets:
    description:
      - V(missing) uses given values only for what is missing.
      - V(always) has them take the place of what is there, but never that of the salt key of a deployment.
      - A new password for a database in the namespace whose volume is there is refused, as the database would keep the
        old one. M(rhpds.litemaas.litemaas_rotate) sets it in both.
    type: str
    choices: [missing, always]
    default: missing
  state:
    description:
      - V(present) makes what is missing.
      - V(absent) deletes the Secrets that carry our mark, those that other modules of this collection made too, and in
        a namespace that this collection made those of the known names.
    type: str
    choices: [present, absent]
    default: present
  keep:
    description: With O(state=absent), names of Secrets that stay, for a volume that is used again.
    type: list
    elements: str
    default: []
notes:
  - The account needs to get, list, create, patch and delete Secrets, to get deployments.apps and to list
    persistentvolumeclaims.
seealso:
  - module: rhpds.litemaas.litemaas_cluster_info
"""

EXAMPLES = r"""
- name: Everything that a deployment needs, generated where it is missing
  rhpds.litemaas.litemaas_secrets:
    namespace: litemaas
  register: secrets

- name: Both stores in one database, no Redis
  rhpds.litemaas.litemaas_secrets:
    namespace: litemaas
    database:
      litemaas: litellm
      litellm: litellm
    redis:
      enabled: false

- name: A database of somebody else's
  rhpds.litemaas.litemaas_secrets:
    namespace: litemaas
    database:
      host: db.example.com
      username: litemaas
      password: "{{ database_password }}"
      sslmode: require

- name: Gone, but for what the volume needs that is kept
  rhpds.litemaas.litemaas_secrets:
    namespace: litemaas
    state: absent
    keep: [litemaas-db, litellm-secret, backend-secret, litellm-key-derivation]
"""

RETURN = r"""
msg:
  description: One line that says what happened, or what is missing and how to go on.
  returned: always
  type: str
  sample: "Secrets in litemaas: litemaas-db created, litellm-secret created"
results:
  description: One entry a Secret.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Secret.
      type: str
    action:
      description: What was done, or would be in check mode. One of V(create), V(update), V(delete) and V(none).
      type: str
    changed:
      description: Whether anything was written.
      type: bool
    created:
      description: Names of the keys that were missing.
      type: list
      elements: str
    updated:
      description: Names of the keys whose values were brought in line.
      type: list
      elements: str
    adopted:
      description: Whether it was made by something else, and carries our mark now.
      type: bool
checksums:
  description:
    - Part of the deployment to a checksum over the values that its pods are started with. Parts are backend, litellm,
      mcp, migration, postgres and redis.
    - It is keyed with the salt key, so that nothing can be guessed from it.
    - In check mode it counts values that would be generated anew each time.
  returned: success
  type: dict
  sample: {litellm: 2c4b0f6be1a94d07}
notes:
  description: What was found out about values, in words, without any of them.
  returned: success
  type: list
  elements: str
kept:
  description: Names of values that stay as they are in the Secrets, though others were given.
  returned: success
  type: list
  elements: str
  sample: ["username of Secret litemaas-db, not ocp4_workload_litemaas_ha_postgres_user"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import secrets
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, ClusterError

HIDDEN = {"type": "str", "no_log": True}
#: Option → Secret and key.
PLACES = {option: place[:2] for option, place in secrets.OPTIONS.items() if "." not in option}
MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "database": {
                "type": "dict",
                "default": {},
                "options": {
                    "username": {"type": "str"},
                    "password": HIDDEN,
                    "litemaas": {"type": "str"},
                    "litellm": {"type": "str"},
                    "host": {"type": "str"},
                    "port": {"type": "int", "default": secrets.PORT},
                    "sslmode": {"type": "str", "choices": MODES},
                    "params": {"type": "dict", "default": {}},
                    "litellm_params": {"type": "dict", "default": {}},
                    "url": HIDDEN,
                    "litellm_url": HIDDEN,
                },
                "mutually_exclusive": [("url", "host")],
                "required_by": {"litellm_url": ["url"]},
            },
            **{option: {"type": "str"} if option == "ui_username" else HIDDEN for option in PLACES},
            "redis": {
                "type": "dict",
                "default": {},
                "options": {
                    "enabled": {"type": "bool", "default": True},
                    "host": {"type": "str"},
                    "port": {"type": "int", "default": 6379},
                },
            },
            "key_derivation": {"type": "bool", "default": True},
            "update_secrets": {"type": "str", "choices": ["missing", "always"], "default": "missing", "no_log": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "keep": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    keeper = None
    try:
        keeper = secrets.Keeper(Cluster.from_params(params).rest(), params["namespace"])
        if params["state"] == "absent":
            result = keeper.absent(params["keep"], module.check_mode)
        else:
            result = keeper.present(wish_of(params), module.check_mode)
    except (ClusterError, secrets.SecretsError) as failure:
        hide(module, keeper)
        module.fail_json(msg=str(failure))
    hide(module, keeper)
    if module._diff:
        result["diff"] = difference(result["results"])
    module.exit_json(**result)


def wish_of(params):
    database, redis = params["database"] or {}, params["redis"] or {}
    given = {secrets.DATABASE: {key: (database.get(key) or "").strip() for key in ("username", "password")}}
    for option, (name, key) in PLACES.items():
        given.setdefault(name, {})[key] = (params[option] or "").strip()  # a file's last line break, for example
    return secrets.Wish(
        params["namespace"],
        given=given,
        database=database,
        always=params["update_secrets"] == "always",
        redis=redis.get("enabled", True),
        redis_host=redis.get("host") or "",
        redis_port=redis.get("port") or 6379,
        derivation=params["key_derivation"],
    )


def hide(module, keeper):
    """Take every value out of whatever is still said, but for those that names in the result would be part of."""
    if keeper:
        module.no_log_values.update(value for value in keeper.values if len(value) >= 8)
    module.no_log_values -= {value for value in module.no_log_values if value in secrets.WORDS}


def difference(results):
    """Names of keys alone."""
    shown = {"before": "", "after": ""}
    for one in results:
        for key in one["created"]:
            shown["after"] += f"{one['name']}: {key} is there\n"
        for key in one["updated"]:
            shown["before"] += f"{one['name']}: {key} is another\n"
            shown["after"] += f"{one['name']}: {key} is brought in line\n"
        if one["action"] == "delete":
            shown["before"] += f"{one['name']}\n"
    return shown


if __name__ == "__main__":
    main()
