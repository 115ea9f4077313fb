#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_restore
short_description: Restore a backup of a LiteMaaS's databases, or show that it could be
version_added: 1.0.0
description:
  - Restores every database of a backup into a new one beside the old, and compares the rows of each table with what was
    counted when it was dumped. Only when all of them are whole, they are swapped by renaming, in one transaction on
    each server.
  - Until then, and on any failure, nothing that serves is touched. The old databases are kept under another name, which
    the result tells.
  - A file that is not what was written (sha256) is refused. So is a backup of a deployment with another salt key, since
    nobody could read the credentials of models in it.
  - With O(namespace), a backup that was made with a newer LiteLLM or backend than those that run is refused, as they
    may not know its tables. LiteLLM's tables of an older one, which its pods don't migrate themselves, are brought to
    the image that runs by its migration Job, which is made anew; the backend migrates its own when it is started.
  - With O(namespace), C(pg_restore) runs in the database's pod and gets the dump as its input; the Deployments
    C(litellm) and C(litellm-backend) are restarted afterwards, as they remember what they have read.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
attributes:
  diff_mode:
    description: There is no difference that could be shown.
    support: none
  idempotent:
    description: Every run restores.
    support: none
options:
  manifest:
    description:
      - Path of the backup's manifest, as M(rhpds.litemaas.litemaas_database_dump) returns it. The dumps are beside it.
      - Needed with all states but V(dropped).
    type: path
  state:
    description:
      - V(restored) restores, and swaps.
      - V(tested) restores into scratch databases, compares, and drops them; nothing else is changed.
      - V(dropped) drops the databases of O(drop), which earlier restores have put aside, or were stopped in.
    type: str
    choices: [restored, tested, dropped]
    default: restored
  confirm:
    description:
      - The guard. The name of O(namespace); without one, the name of one of the databases.
      - Needed to restore and to drop, outside check mode.
    type: str
  namespace:
    description:
      - Namespace of the deployment that the backup is restored into. Its Secret C(litemaas-db) says where the databases
        are.
    type: str
  container:
    description: The container in the database's pod; needed where it has several.
    type: str
  litemaas_dsn:
    description:
      - Where LiteMaaS's database is, without O(namespace), as V(postgresql://user:password@host:5432/database). Its
        user needs C(CREATEDB), and to own it.
      - Without it and without O(namespace), the variable of the environment E(LITEMAAS_DSN).
    type: str
  litellm_dsn:
    description:
      - The same of LiteLLM's database, where it has one of its own.
      - Without it and without O(namespace), the variable of the environment E(LITELLM_DSN).
    type: str
  connect_timeout:
    description: Seconds to wait for a connection.
    type: int
    default: 10
  databases:
    description:
      - Which databases to restore, each with the name of the one that it becomes. The backup's names are the keys.
      - Left out, all of the backup, under their own names.
    type: dict
    default: {}
  litellm_salt_key:
    description:
      - LiteLLM's salt key, or its master key where it has none, to compare with the backup's. With O(namespace), that
        of Secret C(litellm-secret).
      - Without either, the variable of the environment E(LITELLM_SALT_KEY).
    type: str
  allow_other_salt_key:
    description:
      - Whether a backup is restored whose salt key is another one. Every credential of a model has to be registered
        again then.
    type: bool
    default: false
  allow_newer_backup:
    description: Whether a backup is restored that was made with a newer LiteLLM or backend than those that run.
    type: bool
    default: false
  migration_program:
    description:
      - The program that migrates LiteLLM's database, in Python. It is run with the image that runs.
      - The playbook C(rhpds.litemaas.restore) gives the role's C(litellm-migrate.py). Without it nothing is migrated.
    type: str
  old_databases:
    description: Whether the databases as they were are kept, under another name, or dropped once the swap is done.
    type: str
    choices: [keep, drop]
    default: keep
  drop:
    description: With O(state=dropped), the names of the databases. Only what restores have made is dropped.
    type: list
    elements: str
    default: []
  restart:
    description: Whether LiteLLM and the backend are restarted afterwards, with O(namespace).
    type: bool
    default: true
  timeout:
    description: Seconds to wait until they are ready again.
    type: float
    default: 600
requirements:
  - psycopg2 2.8 or later (on the host that runs the module; C(psycopg2-binary) will do)
  - pg_restore (in the pod's container; without a pod, on the host that runs the module)
notes:
  - The account in the cluster needs get on Secrets, Services and pods, list on pods, create and get on C(pods/exec) and
    C(pods/portforward), and get and patch on Deployments; for a migration get, list, create and delete on Jobs too.
  - LiteMaaS encrypts the keys that it keeps for testing models with the master key, and a backup has them as they were.
    With O(namespace), a warning names those that its master key doesn't open. With that of the backup's time as
    C(LITELLM_MASTER_KEY_PREVIOUS) in Secret C(litellm-secret), M(rhpds.litemaas.litemaas_rotate) encrypts them anew.
  - Statistics are not part of a backup. PostgreSQL's autovacuum makes them anew.
  - A database has to fit on the server twice for a while.
seealso:
  - module: rhpds.litemaas.litemaas_database_dump
  - module: rhpds.litemaas.litemaas_backup_info
"""

EXAMPLES = r"""
- name: Show that the backup could be restored
  rhpds.litemaas.litemaas_restore:
    namespace: litemaas
    manifest: /srv/backups/litemaas-20260321T081500.123456Z.json
    state: tested

- name: Restore it
  rhpds.litemaas.litemaas_restore:
    namespace: litemaas
    manifest: /srv/backups/litemaas-20260321T081500.123456Z.json
    confirm: litemaas

- name: Drop what was there before, when nobody needs it any more
  rhpds.litemaas.litemaas_restore:
    namespace: litemaas
    state: dropped
    drop: [litellm_db_before_20260321t090000]
    confirm: litemaas
"""

RETURN = r"""
msg:
  description: One line that says what happened, or would.
  returned: always
  type: str
  sample: >-
    2 databases restored from the backup of 2026-03-21T08:15:00Z: 41 tables, 18230 rows, as they were counted then; the
    old ones are kept as litemaas_db_before_20260321t090000, litellm_db_before_20260321t090000
databases:
  description: What was restored, or would be.
  returned: success, unless O(state=dropped)
  type: list
  elements: dict
  contains:
    database:
      description: Its name.
      type: str
    server:
      description: Where it is.
      type: str
    file:
      description: The dump.
      type: str
    tables:
      description: How many tables it has.
      type: int
    rows:
      description: How many rows they have.
      type: int
    counts_compared:
      description: Whether the backup has counts to compare with.
      type: bool
    old_database:
      description: What the one before is called now; null where there was none, or none was swapped.
      type: str
kept:
  description:
    - Databases that earlier restores have put aside, or were stopped in, with C(name), C(what), C(size), C(server) and
      whether one is C(in_use). RV(msg) names those that a restore was stopped in, and says how they go.
  returned: success
  type: list
  elements: dict
restarted:
  description: The Deployments that were restarted.
  returned: when restored
  type: list
  elements: str
"""

import os
from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, operate, upgrade
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, ClusterError, leave
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import restore
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.dump import DumpError

DSNS = ("litemaas_dsn", "litellm_dsn")


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "manifest": {"type": "path"},
            "state": {"type": "str", "choices": ["restored", "tested", "dropped"], "default": "restored"},
            "confirm": {"type": "str"},
            "namespace": {"type": "str"},
            "container": {"type": "str"},
            **{name: {"type": "str", "no_log": True} for name in (*DSNS, "litellm_salt_key")},
            "connect_timeout": {"type": "int", "default": 10},
            "databases": {"type": "dict", "default": {}},
            "allow_other_salt_key": {"type": "bool", "default": False, "no_log": False},
            "allow_newer_backup": {"type": "bool", "default": False},
            "migration_program": {"type": "str"},
            "old_databases": {"type": "str", "choices": ["keep", "drop"], "default": "keep"},
            "drop": {"type": "list", "elements": "str", "default": []},
            "restart": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 600},
        },
        required_if=[("state", "restored", ["manifest"]), ("state", "tested", ["manifest"])],
        mutually_exclusive=[("namespace", "litemaas_dsn"), ("namespace", "litellm_dsn")],
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    cluster, namespace = Cluster.from_params(params), params["namespace"]
    dsns = [params[name] or os.environ.get(name.upper()) for name in DSNS] if not namespace else []
    salt_key, master_key = params["litellm_salt_key"], ""
    if not namespace:
        salt_key = salt_key or os.environ.get("LITELLM_SALT_KEY")
    elif params["state"] != "dropped":
        place = discover.Namespace(cluster, namespace)
        salt_key = salt_key or place.salt_key()
        with suppress(ClusterError):  # a salt key that is given is enough to restore
            master_key = place.master_key()
    module.no_log_values.update({one for one in (*dsns, salt_key, master_key) if one})
    try:
        timeout = params["connect_timeout"]
        if namespace:
            servers = restore.of_deployment(cluster, namespace, params["container"], timeout)
        else:
            servers = restore.of_dsns([one for one in dsns if one], timeout)
        job = restore.Job(servers, namespace or "", params["confirm"] or "", module.check_mode, module.warn)
        if params["state"] == "dropped":
            return job.drop(params["drop"])
        job.read(params["manifest"], params["databases"], scratch=params["state"] == "tested")
        job.compare_salt_keys(salt_key, params["allow_other_salt_key"])
        if params["state"] == "tested":
            return job.test(master_key)
        operator = operate.Operator(cluster.rest(), namespace, timeout=params["timeout"]) if namespace else None
        job.compare_images(running(operator), params["allow_newer_backup"])
        migrations = None
        if operator and params["migration_program"]:
            migrations = upgrade.Upgrade(operator, params["migration_program"], None)
        restarted = operator.client if operator and params["restart"] else None
        keep = params["old_databases"] == "keep"
        return job.restore(keep, restarted, params["timeout"], migrations, master_key)
    except (restore.RestoreError, DumpError, DatabaseError) as failure:
        return {"failed": True, "changed": getattr(failure, "changed", False), "msg": str(failure)}


def running(operator):
    """The image of each part that reads the databases."""
    found = {}
    for part in restore.READERS if operator else ():
        live = operator.find(f"Deployment/{operate.DEPLOYMENTS[part]}")
        if live:
            found[part] = str(operate.main_container(live, operate.CONTAINERS[part])["image"])
    return found


if __name__ == "__main__":
    main()
