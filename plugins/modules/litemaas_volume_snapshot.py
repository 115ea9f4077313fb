#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_volume_snapshot
short_description: Take a VolumeSnapshot of the database's volume
version_added: 1.0.0
description:
  - For when the databases can't be dumped. Waits until the snapshot is ready to use. One that won't be is deleted.
  - A snapshot is as consistent as a disk after a power cut, which PostgreSQL recovers from. It lives in the namespace
    and on the cluster's storage, so it is no backup against the loss of either, and isn't recorded as one.
  - When the new one is ready, those before it that need not stay are deleted, by the rules of
    M(rhpds.litemaas.litemaas_backup_prune) and for each volume by itself. One that isn't ready neither counts nor is
    deleted, and nor does one without this collection's labels.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
attributes:
  diff_mode:
    description: A new snapshot differs from nothing.
    support: none
  idempotent:
    description: Every run takes a new snapshot.
    support: none
options:
  namespace:
    description: Namespace of the database.
    type: str
    required: true
  state:
    description: V(taken) takes one, V(listed) only says which there are that are marked this collection's.
    type: str
    choices: [taken, listed]
    default: taken
  keep_daily:
    description: How many days keep their newest snapshot.
    type: int
    default: 7
  keep_monthly:
    description: How many months keep their newest snapshot.
    type: int
    default: 12
  pod:
    description: The pod that PostgreSQL runs in, or would. The volume is that of its only claim.
    type: str
    default: litellm-postgres-0
  snapshot_class:
    description: The VolumeSnapshotClass. Without it the default one, or the only one.
    type: str
  timeout:
    description: Seconds to wait until it is ready to use.
    type: float
    default: 300
notes:
  - The account needs get on pods, list on persistentvolumeclaims and on volumesnapshotclasses.snapshot.storage.k8s.io,
    and create, get, list and delete on volumesnapshots.snapshot.storage.k8s.io; to list them, list on those alone.
seealso:
  - module: rhpds.litemaas.litemaas_database_dump
"""

EXAMPLES = r"""
- name: The volume, as the database doesn't start any more
  rhpds.litemaas.litemaas_volume_snapshot:
    namespace: litemaas

- name: What there is
  rhpds.litemaas.litemaas_volume_snapshot:
    namespace: litemaas
    state: listed
"""

RETURN = r"""
msg:
  description: One line that says what was taken, or would be.
  returned: always
  type: str
  sample: >-
    VolumeSnapshot litemaas/postgres-storage-litellm-postgres-0-20260321-081500 of class csi-aws-vsc is ready to use
name:
  description: Its name. In check mode, one such as it would be.
  returned: when taken
  type: str
claim:
  description: The claim whose volume it is of.
  returned: when taken
  type: str
snapshot_class:
  description: Its class.
  returned: when taken
  type: str
deleted:
  description: Names of those that need not stay, oldest first.
  returned: when taken
  type: list
  elements: str
snapshots:
  description: Those that are marked, newest first.
  returned: when listed
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    claim:
      description: The claim whose volume it is of.
      type: str
    snapshot_class:
      description: Its class.
      type: str
    time:
      description: When it was made, in UTC.
      type: str
    size:
      description: What a volume of it needs, such as V(10Gi); empty where nobody says.
      type: str
    ready:
      description: Whether it is ready to use.
      type: bool
    prune:
      description: Whether the next one that is ready lets it go.
      type: bool
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import snapshot
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    SPEC,
    Cluster,
    ClusterError,
    leave,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import retention


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["taken", "listed"], "default": "taken"},
            "keep_daily": {"type": "int", "default": retention.DAILY},
            "keep_monthly": {"type": "int", "default": retention.MONTHLY},
            "pod": {"type": "str", "default": "litellm-postgres-0"},
            "snapshot_class": {"type": "str"},
            "timeout": {"type": "float", "default": 300},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    client, namespace, keep = Cluster.from_params(params).rest(), params["namespace"], kept_of(params)
    if params["state"] == "listed":
        return shown(namespace, snapshot.listed(client, namespace), keep)
    plan = snapshot.planned(client, namespace, params["pod"], params["snapshot_class"])
    what = f"VolumeSnapshot {namespace}/{plan.name} of class {plan.snapshot_class}"
    result = {"changed": True, "name": plan.name, "claim": plan.claim, "snapshot_class": plan.snapshot_class}
    if module.check_mode:
        now = f"{client.now:{retention.FORMAT}}"
        new = snapshot.Snapshot(plan.name, plan.claim, plan.snapshot_class, now, "", True)
        gone = pruned([*snapshot.listed(client, namespace), new], keep, plan)
        return {**result, "msg": f"{what} would be taken of volume claim {plan.claim}{said(gone, 'would be')}", **gone}
    snapshot.take(client, plan, params["timeout"])
    gone = {"deleted": []}
    try:
        # Only now: what failed pushes no good one out.
        there = {one.name: one for one in snapshot.listed(client, namespace)}
        for name in pruned(list(there.values()), keep, plan)["deleted"]:
            snapshot.remove(client, namespace, there[name])
            gone["deleted"].append(name)
    except ClusterError as failure:
        msg = f"{what} is ready to use{said(gone)}; older ones are still there: {failure}"
        return {**result, "failed": True, "msg": msg, **gone}
    return {**result, "msg": f"{what} is ready to use{said(gone)}", **gone}


def kept_of(params):
    """How many days and months keep theirs. Raises ClusterError."""
    keep = params["keep_daily"], params["keep_monthly"]
    try:
        retention.goes([], *keep)
    except ValueError as failure:
        raise ClusterError("Read keep_daily and keep_monthly", str(failure), "Nothing was done") from None
    return keep


def pruned(there, keep, plan):
    """Of the volume that was taken; those of another one have no new one to count on."""
    mine = [one for one in there if one.claim == plan.claim]
    return {"deleted": [one.name for one in snapshot.to_prune(mine, *keep)]}


def said(gone, verb=""):
    names = gone["deleted"]
    return f"; {len(names)} that need not stay {verb or 'were'} deleted: {', '.join(names)}" if names else ""


def shown(namespace, there, keep):
    """Which there are; those that need not stay as if the newest of each volume were a new one."""
    gone = {one.name for one in snapshot.to_prune(there, *keep)}
    rows = [{**asdict(one), "prune": one.name in gone} for one in there]
    for one in rows:
        del one["uid"]
    number = f"{len(rows)} VolumeSnapshot{'s' if len(rows) > 1 else ''}" if rows else "no VolumeSnapshot"
    waiting = [one.name for one in there if not one.ready]
    words = f"; not ready: {', '.join(waiting)}" if waiting else ""
    msg = f"{number} of the database's volume in namespace {namespace}{words}"
    return {"changed": False, "msg": msg, "snapshots": rows}


if __name__ == "__main__":
    main()
