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
    and create, get and delete on volumesnapshots.snapshot.storage.k8s.io.
seealso:
  - module: rhpds.litemaas.litemaas_database_dump
"""

EXAMPLES = r"""
- name: The volume, as the database doesn't start any more
  rhpds.litemaas.litemaas_volume_snapshot:
    namespace: litemaas
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
  returned: success
  type: str
claim:
  description: The claim whose volume it is of.
  returned: success
  type: str
snapshot_class:
  description: Its class.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import snapshot
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "pod": {"type": "str", "default": "litellm-postgres-0"},
            "snapshot_class": {"type": "str"},
            "timeout": {"type": "float", "default": 300},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    client = Cluster.from_params(params).rest()
    plan = snapshot.planned(client, params["namespace"], params["pod"], params["snapshot_class"])
    what = f"VolumeSnapshot {plan.namespace}/{plan.name} of class {plan.snapshot_class}"
    if module.check_mode:
        said = f"{what} would be taken of volume claim {plan.claim}"
    else:
        snapshot.take(client, plan, params["timeout"])
        said = f"{what} is ready to use"
    return {
        "changed": True,
        "msg": said,
        "name": plan.name,
        "claim": plan.claim,
        "snapshot_class": plan.snapshot_class,
    }


if __name__ == "__main__":
    main()
