# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter: backups as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: backup_table
short_description: Backups as lines for a terminal
version_added: 1.0.0
description:
  - One line a backup, newest first, and one more for what is missing of it.
  - One line a VolumeSnapshot, as M(rhpds.litemaas.litemaas_volume_snapshot) lists them.
options:
  _input:
    description:
      - The C(backups) of M(rhpds.litemaas.litemaas_backup_info), and the C(snapshots) of
        M(rhpds.litemaas.litemaas_volume_snapshot).
    type: list
    elements: dict
    required: true
seealso:
  - module: rhpds.litemaas.litemaas_backup_info
"""

EXAMPLES = r"""
- name: Show the backups
  ansible.builtin.debug:
    msg: "{{ there.backups | rhpds.litemaas.backup_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def backup_table(backups: Iterable[Mapping[str, Any]]) -> list[str]:
    """``name  size  complete  keys  litemaas_db, litellm_db (PostgreSQL 16.3, litellm …)``."""
    lines = []
    for one in backups:
        if "claim" in one:
            lines.append(_snapshot(one))
            continue
        versions = {str(each["server_version"]).split()[0] for each in one["databases"]}
        images = [str(image).rpartition("/")[2] for _part, image in sorted(one["images"].items())]
        names = ", ".join(each["database"] for each in one["databases"])
        running = ", ".join([f"PostgreSQL {version}" for version in sorted(versions)] + images)
        state = "complete" if one["complete"] else "NOT COMPLETE"
        keys = "with keys" if one["keys"] else "without keys"
        gone = ", need not stay" if one.get("prune") else ""
        lines.append(f"{one['name']}  {one['readable_size']:>9}  {state}, {keys}{gone}  {names} ({running})")
        lines += [f"    {trouble}" for trouble in one["trouble"]]
    return lines


def _snapshot(one: Mapping[str, Any]) -> str:
    """``VolumeSnapshot name  size  ready  of … at …``: it ends with the cluster's storage, so it is no backup."""
    state = "ready" if one["ready"] else "NOT READY"
    gone = ", need not stay" if one["prune"] else ""
    of = f"of claim {one['claim']}, {one['time']} (class {one['snapshot_class']}; it ends with its storage)"
    return f"VolumeSnapshot {one['name']}  {one['size'] or '?':>9}  {state}{gone}  {of}"


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"backup_table": backup_table}
