# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: key_table
short_description: Virtual keys as lines of a table
version_added: 1.0.0
description: Aligns what an operator looks for first, one key a line, under headings. Values of keys are not in it.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Keys, as in RV(rhpds.litemaas.litellm_virtual_key_info#module:keys).
    type: list
    elements: dict
    required: true
seealso:
  - module: rhpds.litemaas.litellm_virtual_key_info
"""

EXAMPLES = r"""
- name: Find the keys of a lab
  rhpds.litemaas.litellm_virtual_key_info:
    guid: abc12
  register: lab_keys

- name: Show them
  ansible.builtin.debug:
    msg: "{{ lab_keys['keys'] | rhpds.litemaas.key_table }}"
# => ["alias          guid   state  expires              spend   budget  models",
#     "virtkey-abc12  abc12  alive  2026-03-08 09:00 UTC  0.0000  5.00    granite-3-2-8b-instruct"]
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

HEADINGS = ("alias", "guid", "state", "expires", "spend", "budget", "models")


def key_table(keys: Sequence[Mapping[str, Any]]) -> list[str]:
    """See the documentation above."""
    rows = [HEADINGS, *(_cells(key) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(key: Mapping[str, Any]) -> tuple[str, ...]:
    state = "blocked" if key.get("blocked") else "expired" if key.get("expired") else "alive"
    expires = str(key["expires"])[:16].replace("T", " ") + " UTC" if key.get("expires") else "never"
    budget = "-" if key.get("max_budget") is None else f"{key['max_budget']:.2f}"
    models = ", ".join(map(str, key.get("models") or ())) or "all"
    alias = str(key.get("key_alias") or f"token {str(key.get('token'))[:12]}…")
    return (alias, str(key.get("guid") or "-"), state, expires, f"{key.get('spend') or 0:.4f}", budget, models)


class FilterModule:
    """Shows virtual keys."""

    def filters(self) -> dict[str, Any]:
        return {"key_table": key_table}
