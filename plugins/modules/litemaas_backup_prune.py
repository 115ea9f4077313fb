#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_backup_prune
short_description: Delete backups that need not stay
version_added: 1.0.0
description:
  - Of the backups in a folder keeps the newest of each of the last days and months that have any, and the newest of
    all. Days and months without a backup don't count, so that time alone deletes nothing.
  - Only what a manifest of M(rhpds.litemaas.litemaas_database_dump) names is deleted. A backup that isn't complete
    neither counts nor is deleted.
  - Backups of each deployment are counted by themselves. One without keys, such as an upgrade makes, lets none go that
    has them.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.attributes
attributes:
  action_group:
    support: none
    membership: []
  diff_mode:
    description: RV(deleted) says the same.
    support: none
options:
  path:
    description: The folder.
    type: path
    required: true
  keep_daily:
    description: How many days keep their newest backup.
    type: int
    default: 7
  keep_monthly:
    description: How many months keep their newest backup.
    type: int
    default: 12
seealso:
  - module: rhpds.litemaas.litemaas_backup_info
"""

EXAMPLES = r"""
- name: Keep a week and a year
  rhpds.litemaas.litemaas_backup_prune:
    path: /srv/backups
"""

RETURN = r"""
msg:
  description: One line that says what was deleted, or would be.
  returned: always
  type: str
  sample: "1 of 20 backups in /srv/backups deleted: litemaas-20250301T020000.000000Z"
deleted:
  description: Names of the backups, oldest first.
  returned: success
  type: list
  elements: str
kept:
  description: Names of the others, newest first.
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
            "keep_daily": {"type": "int", "default": retention.DAILY},
            "keep_monthly": {"type": "int", "default": retention.MONTHLY},
        },
        supports_check_mode=True,
    )
    path, done = module.params["path"], []
    try:
        found, _strange = backups.in_folder(path)
        gone = backups.to_prune(found, module.params["keep_daily"], module.params["keep_monthly"])
        for one in gone:
            if not module.check_mode:
                backups.remove(one)
            done.append(one.name)
    except (DumpError, ValueError) as failure:
        module.fail_json(msg=str(failure), changed=bool(done), deleted=done)
    word = "would be deleted" if module.check_mode else "deleted"
    msg = f"{len(done)} of {len(found)} backups in {path} {word}" + (f": {', '.join(done)}" if done else "")
    module.exit_json(
        changed=bool(done), msg=msg, deleted=done, kept=[one.name for one in found if one.name not in done]
    )


if __name__ == "__main__":
    main()
