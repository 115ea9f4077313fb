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
requirements:
  - pg_dump (in the pod's container; with O(dsn), on the host that runs the module, not older than the server)
  - psycopg2 2.8 or later (on the host that runs the module, with O(dsn); C(psycopg2-binary) will do)
notes:
  - The account in the cluster needs get on pods, create and get on C(pods/exec), and get, create and patch on
    ConfigMaps; without O(databases) get on Secrets and Services and list on pods as well.
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
          C(server_version), C(pg_dump_version), and how many C(entries) C(pg_restore) lists (null where there is none).
      type: list
      elements: dict
    images:
      description: As given.
      type: dict
    namespace:
      description: As given.
      type: str
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

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, ClusterError, leave
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import dump
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
            "connect_timeout": {"type": "int", "default": 10},
            "name": {"type": "str", "default": "litemaas"},
            "images": {"type": "dict", "default": {}},
            "record": {"type": "bool", "default": True},
        },
        required_one_of=[("dsn", "namespace")],
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    cluster, namespace, dest = Cluster.from_params(params), params["namespace"], params["dest"]
    try:
        dumps = wanted(params, cluster)
        what = f"{len(dumps)} database{'s' if len(dumps) > 1 else ''} of {dump.shown(dumps)}"
        if module.check_mode:
            _time, paths = dump.planned(dest, params["name"], [database for _source, database in dumps])
            files = [str(path) for path in paths]
            msg = f"{what} would be dumped to {dest}"
            return {"changed": True, "msg": msg, "manifest": files[-1], "files": files[:-1]}
        backup = dump.take(dumps, dest, params["name"], params["images"], namespace)
    except (dump.DumpError, DatabaseError) as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    result = {
        "changed": True,
        "msg": f"{what} dumped to {dest}: {dump.readable_size(sum(one.size for one in backup.databases))}",
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
    if params["dsn"]:
        direct = dump.DsnSource(params["dsn"], timeout)
        return [(direct, name) for name in dump.checked_names(params["databases"] or [direct.database])]
    if not params["databases"]:
        return dump.of_deployment(cluster, namespace, container, timeout)
    source = dump.PodSource(cluster, namespace, params["pod"], container)
    return [(source, name) for name in dump.checked_names(params["databases"])]


if __name__ == "__main__":
    main()
