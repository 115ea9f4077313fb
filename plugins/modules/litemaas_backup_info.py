#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_backup_info
short_description: List the backups in a folder
version_added: 1.0.0
description:
  - Reads the manifests of M(rhpds.litemaas.litemaas_database_dump) in a folder, and says of each backup what is in it
    and whether all of it is there.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.attributes.info
attributes:
  action_group:
    support: none
    membership: []
options:
  path:
    description: The folder.
    type: path
    required: true
  verify:
    description: Whether every file is read and compared with its checksum. Otherwise only their sizes are.
    type: bool
    default: false
  present:
    description:
      - Names of the files that are there, where the folder has the manifests alone, as those of an S3 bucket do.
    type: list
    elements: str
  keep_daily:
    description: For RV(backups[].prune), how many days keep their newest backup.
    type: int
    default: 7
  keep_monthly:
    description: The same of months.
    type: int
    default: 12
seealso:
  - module: rhpds.litemaas.litemaas_backup_prune
"""

EXAMPLES = r"""
- name: What there is
  rhpds.litemaas.litemaas_backup_info:
    path: /srv/backups
  register: there
"""

RETURN = r"""
msg:
  description: One line with counts, and what was not compared.
  returned: always
  type: str
  sample: >-
    2 backups in /srv/backups, the newest of 2026-03-21T08:15:00Z; checksums were not compared (verify=true does)
whole:
  description:
    - Whether there is a backup, all are complete, and every file that is named like a manifest is one. O(verify)
      says what was compared for it.
  returned: success
  type: bool
backups:
  description: The backups, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Start of its files' names.
      type: str
    manifest:
      description: Path of its manifest.
      type: str
    time:
      description: When it was begun, in UTC.
      type: str
    size:
      description: Bytes of its dumps.
      type: int
    readable_size:
      description: The same for people.
      type: str
    namespace:
      description: Namespace that it is of.
      type: str
    source:
      description: Where its databases are.
      type: str
    databases:
      description: For each C(database), C(file), C(size), C(server_version) and how many C(rows).
      type: list
      elements: dict
    images:
      description: Images of the deployment.
      type: dict
    keys:
      description: Name of the file with the encrypted keys; null where they were left out.
      type: str
    complete:
      description: Whether all of it is there.
      type: bool
    trouble:
      description: What is missing or damaged.
      type: list
      elements: str
    files:
      description: Names of its files, the manifest last.
      type: list
      elements: str
    prune:
      description: Whether it need not stay.
      type: bool
others:
  description: Files that are named like manifests and are none.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import backups, retention
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.dump import DumpError


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "verify": {"type": "bool", "default": False},
            "present": {"type": "list", "elements": "str"},
            "keep_daily": {"type": "int", "default": retention.DAILY},
            "keep_monthly": {"type": "int", "default": retention.MONTHLY},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        found, strange = backups.in_folder(params["path"], params["present"], params["verify"])
        gone = {one.name for one in backups.to_prune(found, params["keep_daily"], params["keep_monthly"])}
    except (DumpError, ValueError) as failure:
        module.fail_json(msg=str(failure))
    module.exit_json(
        changed=False,
        msg=backups.sentence(
            found, params["path"], strange, backups.unchecked(params["present"] is not None, params["verify"])
        ),
        whole=backups.whole(found, strange),
        backups=[{**one.shown(), "prune": one.name in gone} for one in found],
        others=strange,
    )


if __name__ == "__main__":
    main()
