#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_upgrade
short_description: Bring a running LiteMaaS to other images, with backup, migration and a way back
version_added: 1.0.0
description:
  - Works on a deployment as it is. Images of containers, and of init containers of the same repository, are all that it
    changes, so the variables that it was deployed with needn't be known. A deploy with the same tags changes nothing
    afterwards.
  - A pod first pulls every image that is new. Nothing was touched yet where that fails.
  - Then the databases are dumped to O(dest), and where LiteLLM's image changes, a Job migrates its database with the
    new one. LiteLLM follows, then the backend, then the portal with its init container, each waited for.
  - Where LiteLLM doesn't get ready, its old image is put back and waited for; where the backend or the portal doesn't,
    both are. A schema is never migrated back, and the error says which backup there is.
  - A run that was interrupted is gone on with by the next one, which knows the images from before.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.operate
  - rhpds.litemaas.attributes.cluster
options:
  namespace:
    description: Namespace that LiteMaaS runs in.
    type: str
    required: true
  litellm_tag:
    description: Tag, or digest, of LiteLLM's image. Left out, it stays.
    type: str
  version:
    description: Tag of the backend's and the portal's images, those of them that are deployed. Left out, they stay.
    type: str
  backend_tag:
    description: Tag of the backend's image, in place of O(version).
    type: str
  frontend_tag:
    description: Tag of the portal's image, in place of O(version).
    type: str
  litellm_image:
    description: Repository of LiteLLM's image, without tag. Left out, the one that runs.
    type: str
  backend_image:
    description: Repository of the backend's image.
    type: str
  frontend_image:
    description: Repository of the portal's image.
    type: str
  migration_program:
    description:
      - The program that migrates LiteLLM's database, in Python. It is run with the new image.
      - The playbook C(rhpds.litemaas.upgrade) gives the role's C(litellm-migrate.py). Needed with O(litellm_tag).
    type: str
  allow_downgrade:
    description: Whether LiteLLM may go to an older tag, or from or to one that says no version.
    type: bool
    default: false
  backup:
    description: Whether the databases are dumped before. They are where LiteLLM's or the backend's image changes.
    type: bool
    default: true
  dest:
    description: Folder for the dumps, on the host that runs the module. Needed with O(backup).
    type: path
  connect_timeout:
    description: Seconds to wait for a connection to a database outside of the cluster.
    type: int
    default: 10
notes:
  - In check mode no image is pulled, as that takes a pod.
  - The account needs get and patch on Deployments, create, get and delete on pods and Jobs, get on pods/log and
    Secrets, and what M(rhpds.litemaas.litemaas_database_dump) needs.
seealso:
  - module: rhpds.litemaas.litemaas_database_dump
"""

EXAMPLES = r"""
- name: A newer LiteLLM, and the rest with it
  rhpds.litemaas.litemaas_upgrade:
    namespace: litellm-rhpds
    litellm_tag: main-v1.85.0-stable-custom
    version: 0.5.0
    dest: /var/backups/litemaas
    migration_program: "{{ lookup('ansible.builtin.file', 'litellm-migrate.py') }}"

- name: The portal alone
  rhpds.litemaas.litemaas_upgrade:
    namespace: litellm-rhpds
    frontend_tag: 0.4.1
    backup: false
"""

RETURN = r"""
msg:
  description: One line that says what happened, or would.
  returned: always
  type: str
  sample: "litellm: image of litellm …:1.81 -> …:1.85; backup /var/backups/litemaas/litemaas-20260321T081500Z.json"
results:
  description: One entry a workload that differed, C(name), C(workload), C(changed), and C(changes) by field.
  returned: success
  type: list
  elements: dict
backup:
  description: Path of the manifest of the backup that was made. Empty where none was.
  returned: success
  type: str
migration:
  description: Name of the Job that migrated LiteLLM's database. Empty where its image stays.
  returned: success
  type: str
migration_log:
  description: The Job's last lines, without secrets.
  returned: success
  type: list
  elements: str
images:
  description: The images that were asked for, by part.
  returned: success
  type: dict
notes:
  description: What has to be known beside it.
  returned: success
  type: list
  elements: str
"""

from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, operate, upgrade
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, ClusterError, leave
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import dump, sealed
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError

TAGS = ("litellm_tag", "version", "backend_tag", "frontend_tag")


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            **operate.OPTIONS,
            "namespace": {"type": "str", "required": True},
            "litellm_tag": {"type": "str"},
            "version": {"type": "str"},
            "backend_tag": {"type": "str"},
            "frontend_tag": {"type": "str"},
            "litellm_image": {"type": "str"},
            "backend_image": {"type": "str"},
            "frontend_image": {"type": "str"},
            "migration_program": {"type": "str"},
            "allow_downgrade": {"type": "bool", "default": False},
            "backup": {"type": "bool", "default": True},
            "dest": {"type": "path"},
            "connect_timeout": {"type": "int", "default": 10},
        },
        required_one_of=[TAGS],
        required_if=[("backup", True, ["dest"])],
        required_by={"litellm_tag": ["migration_program"], "litellm_image": ["litellm_tag"]},
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    operator = operate.operator_of(Cluster.from_params(params), params)
    wish = upgrade.wish_of(params, operator.components(), operator.namespace)
    run = upgrade.Upgrade(
        operator,
        params["migration_program"] or "",
        (lambda images: back_up(params, images)) if params["backup"] else None,
    )
    done = run.run(wish, module.check_mode)
    changes = [*done.plan.changes.values()]
    return {
        "changed": not done.plan.empty,
        "msg": upgrade.described(done, module.check_mode),
        "results": [one.shown() for one in changes],
        "backup": done.backup,
        "migration": done.migration,
        "migration_log": done.log,
        "images": done.plan.targets,
        "notes": done.notes,
        "diff": operate.difference(changes),
    }


def back_up(params, images):
    """The manifest of a new backup. Raises ClusterError."""
    cluster, namespace = Cluster.from_params(params), params["namespace"]
    try:
        dumps = dump.of_deployment(cluster, namespace, None, params["connect_timeout"])
        known = None
        with suppress(ClusterError):  # for that alone an upgrade isn't given up
            # A restore has to tell whether the models' credentials in it can be read.
            known = sealed.fingerprint(discover.Namespace(cluster, namespace).salt_key())
        backup = dump.take(dumps, params["dest"], "litemaas", images, namespace, salt_key=known)
    except (dump.DumpError, DatabaseError) as failure:
        raise ClusterError(
            f"Back up the databases of {namespace} before the upgrade", str(failure), "Nothing was changed"
        ) from None
    dump.record(cluster.rest(), namespace, backup)
    return backup.manifest


if __name__ == "__main__":
    main()
