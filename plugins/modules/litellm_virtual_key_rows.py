#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_virtual_key_rows
short_description: Remove a lab's virtual keys from LiteLLM's database
version_added: 1.0.0
description:
  - Deletes the virtual keys of one lab in LiteLLM's database itself, for when its API can't, as in a version whose
    C(/key/delete) fails or while the proxy is down.
  - As LiteLLM does, it moves the rows into the archive of deleted keys, so that
    O(rhpds.litemaas.litellm_virtual_key#module:never_reuse) of M(rhpds.litemaas.litellm_virtual_key) knows their values
    as used. Budgets and records of spending stay.
  - Everything happens in one transaction and is read back before it ends. A run that fails has removed nothing.
  - Where the API works, M(rhpds.litemaas.litellm_virtual_key) with V(absent) is the better way; it also tells the
    replica asked to forget the key.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.attributes
  - rhpds.litemaas.namespace
  - rhpds.litemaas.cluster
attributes:
  action_group:
    support: none
    membership: []
options:
  litellm_dsn:
    description:
      - Where LiteLLM's database is, as V(postgresql://user:password@host:5432/database), with C(?sslmode=) and other
        parameters of PostgreSQL's client library where they are needed, or in its C(key=value) form.
      - Special characters of the password are percent-encoded in a URL; V(@) is V(%40), V(/) is V(%2F), V(#) is V(%23).
      - The user needs to read and delete in C(LiteLLM_VerificationToken), and to read and insert in
        C(LiteLLM_DeletedVerificationToken).
      - Falls back to the environment variable E(LITELLM_DSN), then to what O(namespace) has. Not used where O(pod) is
        given.
    type: str
  pod:
    description:
      - Name of the pod that the database runs in, where only the cluster's own network reaches it. The module connects
        through the API server's port-forward, as C(kubectl port-forward) does.
      - Needs get on pods, secrets and C(pods/portforward), and create on C(pods/portforward).
    type: str
  namespace:
    description:
      - Namespace of O(pod).
      - Without O(pod), the namespace that LiteMaaS runs in. What isn't given of O(litellm_dsn) is found there, in
        C(LITELLM_DATABASE_URL), or C(DATABASE_URL) where LiteLLM has no database of its own, of Secret C(litemaas-db).
        One whose host is a Service is reached through the API server, in a ready pod of that Service.
    type: str
  cluster:
    description: The options beside it that say how the cluster is reached, as one, in their place.
  database:
    description: Name of the database in O(pod).
    type: str
    default: litellm
  db_user:
    description:
      - User of the database in O(pod).
      - Left out, E(POSTGRES_USER) of the pod's containers, also where it comes from a Secret, else V(litellm).
    type: str
  db_password:
    description:
      - Password of O(db_user).
      - Left out, E(POSTGRES_PASSWORD) of the pod's containers, also where it comes from a Secret.
    type: str
  guid:
    description:
      - The lab whose keys go, those that carry the mark of this collection and this guid.
      - Must not be empty. A key that carries another guid is never touched.
    type: str
    required: true
  legacy_aliases:
    description:
      - Regular expressions, each of which has to match the whole alias. Keys without the mark whose alias matches count
        as the lab's own, where they carry its guid or none.
      - Without it, a key that carries the guid but not the mark is left alone, and reported.
    type: list
    elements: str
    default: []
  tokens:
    description:
      - Further keys by the sha256 of their value in hex, as LiteLLM lists it, whatever mark they carry.
      - One that carries another guid is refused.
    type: list
    elements: str
    default: []
  only_tokens:
    description: Whether the keys of O(tokens) are meant alone, and not all of the lab.
    type: bool
    default: false
notes:
  - Nobody tells the proxy. Its replicas may honour the keys for a while, as they cache them, by default for a minute.
  - No key's value is read or written; the database has their sha256 only.
seealso:
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: All keys of a lab go, those of the older collection too
  rhpds.litemaas.litellm_virtual_key_rows:
    litellm_dsn: "{{ litellm_dsn }}"
    guid: abc12
    legacy_aliases: ['virtkey-abc12(-user\d+)?']

- name: Which ones would that be
  rhpds.litemaas.litellm_virtual_key_rows:
    litellm_dsn: "{{ litellm_dsn }}"
    guid: abc12
  check_mode: true

- name: The same in a LiteMaaS in the cluster, whose Secret knows the database
  rhpds.litemaas.litellm_virtual_key_rows:
    namespace: litemaas
    guid: abc12

- name: The same in a pod that is named
  rhpds.litemaas.litellm_virtual_key_rows:
    pod: litellm-postgres-0
    namespace: litemaas
    database: litellm_db
    guid: abc12
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts and the first failures by name.
  returned: always
  type: str
  sample: "2 virtual keys: 2 deleted; replicas of the proxy may honour them for a while, as they cache keys"
results:
  description: One entry a key, sorted by alias, those of O(tokens) last. One alone where the lab has none.
  returned: when the database could be read
  type: list
  elements: dict
  contains:
    name:
      description: The alias, or what else the key was known by.
      type: str
    action:
      description: What was done, or would be in check mode. One of V(delete), V(none) and V(fail).
      type: str
      sample: delete
    changed:
      description: Whether it was removed.
      type: bool
    failed:
      description: Whether it was refused.
      type: bool
    changes:
      description: The token, which goes.
      type: list
      elements: dict
    key_alias:
      description: The key's alias.
      type: str
    token:
      description: The value's sha256 in hex, which is LiteLLM's id of the key.
      type: str
    guid:
      description: The guid that it carried.
      type: str
    msg:
      description: What happened, why, or what went wrong and how to go on.
      type: str
summary:
  description: Number of keys by what happened to them.
  returned: when the database could be read
  type: dict
  sample: {created: 0, updated: 0, rotated: 0, deleted: 2, unchanged: 0, failed: 0}
found:
  description: Where the database was found in O(namespace). No secret is in it.
  returned: with O(namespace), where it was looked up
  type: dict
  sample: {litellm_dsn: "Secret litemaas/litemaas-db, through pod litemaas/litellm-postgres-0"}
"""

from contextlib import closing, contextmanager

from ansible.module_utils.basic import env_fallback

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, tunnel
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_rows
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import report


class RowsModule(DatabaseModule):
    """Hides what was given for a token and isn't one: it may be a key's value."""

    def hide_secrets(self):
        self.no_log_values.update(one for one in self.params["tokens"] if len(one) >= 8 and not derive.is_token(one))
        super().hide_secrets()

    def cluster(self):
        return Cluster.from_params(self.params["cluster"] or self.params)

    @contextmanager
    def pods_database(self):
        """The database in O(pod), with the user and password that its containers have."""
        params = self.params
        port = tunnel.PodPort(self.cluster().api(), params["namespace"], params["pod"])
        user, password = params["db_user"], params["db_password"]
        if password is None:
            found = port.environment("POSTGRES_USER", "POSTGRES_PASSWORD")
            user, password = user or found.get("POSTGRES_USER"), found.get("POSTGRES_PASSWORD")
            self.no_log_values.update({password} - {None})
        parts = {"dbname": params["database"], "user": user or "litellm", "password": password}
        with (
            discover.through(port, parts) as dsn,
            closing(database.connect(dsn, connect_timeout=params["connect_timeout"], option=port.name)) as connection,
        ):
            yield connection


def main():
    module = RowsModule(
        argument_spec={
            "litellm_dsn": {"type": "str", "no_log": True, "fallback": (env_fallback, ["LITELLM_DSN"])},
            "pod": {"type": "str"},
            "database": {"type": "str", "default": "litellm"},
            "db_user": {"type": "str"},
            "db_password": {"type": "str", "no_log": True},
            **SPEC,
            "namespace": {"type": "str"},
            "cluster": {"type": "dict", "options": SPEC},
            "guid": {"type": "str", "required": True},
            "legacy_aliases": {"type": "list", "elements": "str", "default": []},
            "tokens": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "only_tokens": {"type": "bool", "default": False},
            "connect_timeout": {"type": "int", "default": 10},
            "lock_timeout": {"type": "int", "default": 30},
            "statement_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
        required_one_of=[("litellm_dsn", "pod", "namespace")],
        required_by={"pod": ["namespace"]},
    )
    module.run(lambda: work(module, module.params))


def work(module, params):
    lab = key_rows.Lab(params["guid"], params["legacy_aliases"], params["tokens"], params["only_tokens"])
    try:
        lab.items()
        with module.pods_database() if params["pod"] else module.database("litellm_dsn") as connection:
            steps = key_rows.remove(
                connection,
                lab,
                check_mode=module.check_mode,
                lock_timeout=params["lock_timeout"],
                statement_timeout=params["statement_timeout"],
            )
    except ValueError as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    result = report.result("virtual key", steps, check_mode=module.check_mode, describe=key_rows.describe)
    if result["changed"]:
        result["msg"] += f"; {key_rows.CACHED.format('them')}"
    return result


if __name__ == "__main__":
    main()
