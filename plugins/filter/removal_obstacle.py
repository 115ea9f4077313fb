# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.facts import without_backup

DOCUMENTATION = r"""
name: removal_obstacle
short_description: Why a deployment's data can't be removed without loss
version_added: 1.0.0
description:
  - Looks for one backup that was recorded lately, has every database of the deployment, and has its keys. Without the
    salt key, which goes with the deployment's Secrets, nobody could read the credentials of models in a backup.
  - Backups whose record doesn't say which keys they have don't count.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: What M(rhpds.litemaas.litemaas_cluster_info) returns of the namespace.
    type: dict
    required: true
  max_age:
    description: How old the backup may be, such as V(90m), V(24h), V(7d) or V(4w).
    type: str
    required: true
seealso:
  - module: rhpds.litemaas.litemaas_cluster_info
  - module: rhpds.litemaas.litemaas_database_dump
"""

EXAMPLES = r"""
- name: See what is there
  rhpds.litemaas.litemaas_cluster_info:
    namespace: litellm-rhpds
    needs: []
  register: found

- name: May it go
  ansible.builtin.debug:
    msg: "{{ found | rhpds.litemaas.removal_obstacle('24h') }}"
# => "the backup of 2026-03-21T08:15:00Z has no salt key, and the one in Secret litellm-secret would go: nobody could
#     read the models' credentials in it. Make one of all of it with the keys (…)"
"""

RETURN = r"""
_value:
  description:
    - The reason, and what to do in the words of the role's variables. Empty where a backup is enough, and where there
      is no volume, so that the databases stay.
  type: str
"""

ADVICE = (
    "Make one of all of it with the keys (rhpds.litemaas.backup -e namespace={namespace} -e vault_password_file=…),"
    " keep volume and Secrets with ocp4_workload_litemaas_keep_volume, or copy Secret litellm-secret out by hand and"
    " set ocp4_workload_litemaas_remove_force"
)


def removal_obstacle(info: Mapping[str, Any], max_age: str) -> str:
    """See the documentation above."""
    if not info["volumes"]:
        return ""
    live, now = info["deployment"], datetime.now(timezone.utc)
    try:
        why = without_backup(info["backups"], set(live["databases"].values()), max_age, now, live["salt_key"])
    except ValueError as failure:
        return f"ocp4_workload_litemaas_backup_max_age: {failure}"
    return why and f"{why}. {ADVICE.format(namespace=info['namespace']['name'])}"


class FilterModule:
    """Says what stands in the way of a removal."""

    def filters(self) -> dict[str, Any]:
        return {"removal_obstacle": removal_obstacle}
