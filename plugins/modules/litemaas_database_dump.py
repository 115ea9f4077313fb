#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_database_dump
short_description: Dump the databases of a LiteMaaS to files
version_added: 1.0.0
description:
  - Runs C(pg_dump) in the database's pod and streams what it says into files here, or runs the C(pg_dump) of this host
    for a database that is reached from it. Nothing is written in the pod, whose disk may be the full one.
  - A backup is one file for each database, in PostgreSQL's custom format, and a manifest in JSON, which comes last.
    Either all of them are there in the end or none is.
  - The rows of every table are counted in the snapshot that C(pg_dump) reads, and written into the manifest. A restore
    is compared with them.
  - The keys that a restore needs, LiteLLM's master key and salt key and the secret that keys are derived from, are put
    beside it only encrypted with C(ansible-vault). Without a password for that they are left out, and RV(msg) says so.
  - A file counts as complete when C(pg_dump) ended well, its header names the right database, what is on the disk is
    what was sent (sha256), and C(pg_restore) can list it where this host has one that is new enough.
  - With O(namespace), the ConfigMap C(litemaas-backups) there records it; removal and upgrades look for a fresh one in
    it.
  - Every run makes a new backup.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
attributes:
  diff_mode:
    description: A new backup differs from nothing.
    support: none
  idempotent:
    description: Every run makes a new backup.
    support: none
options:
  dest:
    description:
      - Folder for the files. It is made if it isn't there, for its owner alone; the one that it is in has to be.
      - The files hold everything that the databases do, keys in plain text among it. They are readable to their owner
        alone.
    type: str
    required: true
  databases:
    description:
      - Names of the databases.
      - Left out, the one that O(dsn) names. Without O(dsn), those of the deployment in O(namespace), as its Secret
        C(litemaas-db) has them; in the database's pod, or where they are outside of the cluster, directly.
    type: list
    elements: str
    default: []
  namespace:
    description:
      - Namespace of the pod, and of the record. Needed without O(dsn).
    type: str
  pod:
    description: The pod that PostgreSQL runs in, with O(databases).
    type: str
    default: litellm-postgres-0
  container:
    description: Its container; needed where it has several.
    type: str
  dsn:
    description:
      - Where the server is, for a database that is reached from here, as V(postgresql://user:password@host:5432/database)
        or in the C(key=value) form of PostgreSQL's client library. The password goes to C(pg_dump) through its
        environment, never through an argument.
    type: str
  dsns:
    description: Several such places, each with the database that it names, instead of O(dsn) and O(databases).
    type: list
    elements: str
    default: []
  connect_timeout:
    description: Seconds to wait for a connection, with O(dsn).
    type: int
    default: 10
  name:
    description: Start of the files' names.
    type: str
    default: litemaas
  images:
    description: Images of the deployment, by component, for the manifest. They say what a restore needs.
    type: dict
    default: {}
  record:
    description: Whether the namespace records the backup.
    type: bool
    default: true
  vault_password_file:
    description:
      - File with the password that the keys are encrypted with. Its owner alone may read it, and it may be no program.
    type: path
  vault_password_secret:
    description:
      - Name of a Secret in O(namespace) that has that password instead, under O(vault_password_key).
      - Keep a copy of the password somewhere else. When the namespace is lost, so is the Secret.
    type: str
  vault_password_key:
    description: Key of O(vault_password_secret) that has the password.
    type: str
    default: password
  litellm_master_key:
    description:
      - LiteLLM's master key. Without it, and with O(namespace), that of Secret C(litellm-secret), where it is needed.
      - Without either, the variable of the environment E(LITELLM_MASTER_KEY).
    type: str
  litellm_salt_key:
    description:
      - LiteLLM's salt key, where it has one, which credentials of models are encrypted with. Looked up as the master
        key is.
      - The manifest keeps a fingerprint of it, by which a restore knows whether the credentials will be readable.
      - Without either, the variable of the environment E(LITELLM_SALT_KEY).
    type: str
requirements:
  - pg_dump and psql (in the pod's container), or pg_dump (with O(dsn), on the host that runs the module, not older than
    the server)
  - psycopg2 2.8 or later (on the host that runs the module, with O(dsn); C(psycopg2-binary) will do)
  - ansible-core (on the host that runs the module, for its C(ansible-vault), where keys are encrypted)
notes:
  - The account in the cluster needs get on pods, create and get on C(pods/exec), and get, create and patch on
    ConfigMaps; without O(databases) get on Secrets and Services and list on pods as well; for the keys get on Secrets.
  - Keys that are given count as those of the deployment. With O(databases), and without a password for the vault, no
    Secret is read.
seealso:
  - module: rhpds.litemaas.litemaas_cluster_info
"""

EXAMPLES = r"""
- name: All databases of the deployment, before an upgrade
  rhpds.litemaas.litemaas_database_dump:
    namespace: litemaas
    dest: "{{ backup_dir }}"
    images:
      litellm: quay.io/rh-aiservices-bu/litellm-non-root:main-v1.81.0-stable-custom
  register: backup

- name: With the keys beside it, encrypted
  rhpds.litemaas.litemaas_database_dump:
    namespace: litemaas
    dest: "{{ backup_dir }}"
    vault_password_file: /root/.litemaas-vault

- name: An external database, recorded in the namespace too
  rhpds.litemaas.litemaas_database_dump:
    dsn: "{{ litellm_dsn }}"
    namespace: litemaas
    dest: "{{ backup_dir }}"
"""

RETURN = r"""
msg:
  description: One line that says what was written, or would be.
  returned: always
  type: str
  sample: "2 databases of pod litemaas/litellm-postgres-0 dumped to /var/backups/litemaas: 1.9 MB"
manifest:
  description: Path of the manifest. In check mode, one such as it would be.
  returned: success
  type: str
  sample: /var/backups/litemaas/litemaas-20260321T081500.123456Z.json
files:
  description: Paths of the dumps, in the order of O(databases).
  returned: success
  type: list
  elements: str
backup:
  description: What the manifest holds.
  returned: success, outside check mode
  type: dict
  contains:
    time:
      description: When it was begun, in UTC.
      type: str
      sample: "2026-03-21T08:15:00Z"
    source:
      description: Where the databases are.
      type: str
    databases:
      description:
        - For each, C(database), C(file) (its name in the manifest's folder), C(size) in bytes, C(sha256),
          C(server_version), C(pg_dump_version), how many C(entries) C(pg_restore) lists (null where there is none), and
          how many C(rows) each table has.
      type: list
      elements: dict
    images:
      description: As given.
      type: dict
    namespace:
      description: As given.
      type: str
    keys:
      description: Name, size and sha256 of the file with the keys, and their names; null where they are left out.
      type: dict
    salt_key:
      description: The salt key's fingerprint; null where the key isn't known.
      type: dict
    format:
      description: Format of the dumps.
      type: str
    version:
      description: Version of the manifest's own format.
      type: int
    manifest:
      description: Path of the manifest when it was written.
      type: str
"""

import os
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, ClusterError, leave
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import dump, sealed
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "dest": {"type": "str", "required": True},
            "databases": {"type": "list", "elements": "str", "default": []},
            "namespace": {"type": "str"},
            "pod": {"type": "str", "default": "litellm-postgres-0"},
            "container": {"type": "str"},
            "dsn": {"type": "str", "no_log": True},
            "dsns": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "connect_timeout": {"type": "int", "default": 10},
            "name": {"type": "str", "default": "litemaas"},
            "images": {"type": "dict", "default": {}},
            "record": {"type": "bool", "default": True},
            "vault_password_file": {"type": "path", "no_log": False},
            "vault_password_secret": {"type": "str", "no_log": False},
            "vault_password_key": {"type": "str", "default": "password", "no_log": False},
            **{name: {"type": "str", "no_log": True} for name in ("litellm_master_key", "litellm_salt_key")},
        },
        required_one_of=[("dsn", "dsns", "namespace")],
        mutually_exclusive=[("vault_password_file", "vault_password_secret"), ("dsn", "dsns"), ("databases", "dsns")],
        required_by={"vault_password_secret": "namespace"},
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    cluster, namespace, dest = Cluster.from_params(params), params["namespace"], params["dest"]
    try:
        dump.check_folder(dest)
        dumps = wanted(params, cluster)
        what = f"{len(dumps)} database{'s' if len(dumps) > 1 else ''} of {dump.shown(dumps)}"
        keys, password, salt_key = secrets_of(module, params, cluster)
        if module.check_mode:
            _time, paths = dump.planned(dest, params["name"], [database for _source, database in dumps])
            files = [str(path) for path in paths]
            msg = f"{what} would be dumped to {dest}, {said_of_keys(keys, password)}"
            return {"changed": True, "msg": msg, "manifest": files[-1], "files": files[:-1]}
        vault = (sealed.seal(keys, password), sorted(keys)) if keys and password else None
        known = sealed.fingerprint(salt_key) if salt_key else None
        backup = dump.take(dumps, dest, params["name"], params["images"], namespace, vault, known)
    except (dump.DumpError, sealed.SealError, DatabaseError) as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    result = {
        "changed": True,
        "msg": f"{what} dumped to {dest}: {dump.readable_size(sum(one.size for one in backup.databases))},"
        f" {said_of_keys(keys, password)}",
        "manifest": backup.manifest,
        "files": [dump.path_of(backup, one) for one in backup.databases],
        "backup": asdict(backup),
    }
    if namespace and params["record"]:
        try:
            dump.record(cluster.rest(), namespace, backup)
        except ClusterError as failure:
            msg = f"{failure}. The backup itself is complete: {backup.manifest}"
            return {**result, "failed": True, "msg": msg}
    return result


def wanted(params, cluster):
    """Which databases, each with the way to it."""
    namespace, container, timeout = params["namespace"], params["container"], params["connect_timeout"]
    if params["dsns"]:
        found = [dump.DsnSource(dsn, timeout) for dsn in params["dsns"]]
        return list({(one.name, one.database): (one, *dump.checked_names([one.database])) for one in found}.values())
    if params["dsn"]:
        direct = dump.DsnSource(params["dsn"], timeout)
        return [(direct, name) for name in dump.checked_names(params["databases"] or [direct.database])]
    if not params["databases"]:
        return dump.of_deployment(cluster, namespace, container, timeout)
    source = dump.PodSource(cluster, namespace, params["pod"], container)
    return [(source, name) for name in dump.checked_names(params["databases"])]


def secrets_of(module, params, cluster):
    """The keys by name, the vault's password, and the salt key; what isn't known is empty."""
    given = {name: params[f"litellm_{name}"] for name in ("master_key", "salt_key")}
    if not params["namespace"]:  # whose own keys are what counts
        given = {name: value or os.environ.get(f"LITELLM_{name.upper()}") for name, value in given.items()}
    keys = {name: value.strip() for name, value in given.items() if value}
    password, place = "", None
    if params["vault_password_file"]:
        password = sealed.password_of(params["vault_password_file"])
    if params["namespace"] and (params["vault_password_secret"] or password or not params["databases"]):
        place = discover.Namespace(cluster, params["namespace"])
    if place and params["vault_password_secret"]:
        option = "vault_password_file"
        password = place.secret_value(params["vault_password_secret"], params["vault_password_key"], option)
    if place and not ((params["dsn"] or params["dsns"]) and keys):
        try:
            keys = {"master_key": place.master_key(), "salt_key": place.salt_key(), **keys}
            secret = place.key_secret()
            keys |= {"key_secret": secret} if secret else {}
        except ClusterError:
            # For the fingerprint alone a dump isn't given up.
            if password:
                raise
    module.no_log_values.update({password, *keys.values()} - {""})
    if password and not keys:
        raise sealed.SealError("there are none", "Give litellm_master_key, and litellm_salt_key where it has one")
    # A master key alone doesn't say that there is no salt key.
    return keys, password, keys.get("salt_key")


def said_of_keys(keys, password):
    if keys and password:
        return "keys beside it, encrypted"
    return "without the keys (no vault_password_file or vault_password_secret)"


if __name__ == "__main__":
    main()
