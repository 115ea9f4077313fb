# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: sync_report
short_description: Where LiteLLM and LiteMaaS differ, in lines
version_added: 1.0.0
description:
  - Makes one line of each part of a report that has entries, with their number and the first names, and further ones
    for the first that are left alone, with the reason.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: RV(rhpds.litemaas.litemaas_db_sync#module:report).
    type: dict
    required: true
  names:
    description: Names that a line holds at most.
    type: int
    default: 10
seealso:
  - module: rhpds.litemaas.litemaas_db_sync
"""

EXAMPLES = r"""
- name: Compare the two stores
  rhpds.litemaas.litemaas_db_sync:
  check_mode: true
  register: difference

- name: Show where they differ
  ansible.builtin.debug:
    msg: "{{ difference.report | rhpds.litemaas.sync_report }}"
# => ["models only in LiteLLM: 2 (granite-3-2-8b-instruct, qwen3-14b)"]
"""

RETURN = r"""
_value:
  description: The lines; a single one where nothing differs.
  type: list
  elements: str
"""

HEADINGS = {
    "only_in_litellm": "models only in LiteLLM",
    "only_in_litemaas": "models only in LiteMaaS",
    "differing": "rows that differ from LiteLLM",
    "duplicate_names": "names with several deployments",
    "identical_twins": "names with deployments that are copies of each other",
    "possible_twins": "names with deployments that look the same, but for what LiteLLM doesn't show",
    "config_models": "models of LiteLLM's config.yaml, which LiteMaaS doesn't show",
    "blocked_by_subscriptions": "models kept for their active subscriptions",
    "orphaned_keys": "active keys of LiteMaaS that LiteLLM doesn't have",
    "keys_without_alias": "active keys of LiteMaaS that can't be compared: no alias, and LiteLLM doesn't know the hash",
    "alive_revoked_keys": "keys inactive in LiteMaaS that still work in LiteLLM",
    "stuck_subscriptions": "subscriptions that the backend's own sync made inactive, of models that are there again",
    "stuck_keys": "keys that it made inactive with them",
    "waiting_subscriptions": "subscriptions that it made inactive, of models that are still unavailable",
    "unproven_subscriptions": "inactive subscriptions of which it isn't certain who made them so",
    "active_on_unavailable": "active subscriptions to unavailable models",
}

#: Lines of a part that say why an entry is left alone.
REASONS = 3


def sync_report(report: Mapping[str, Any], names: int = 10) -> list[str]:
    """See the documentation above."""
    lines = []
    for part, heading in HEADINGS.items():
        found = report.get(part) or {}
        count = found.get("count", 0)
        if count:
            shown = [_name(entry) for entry in found["items"][:names]]
            lines.append(f"{heading}: {count} ({', '.join(shown)}{', …' if count > len(shown) else ''})")
            because = [entry for entry in found["items"] if isinstance(entry, Mapping) and entry.get("why")]
            lines += [f"  {_name(entry)}: {entry['why']}" for entry in because[:REASONS]]
            if len(because) > REASONS:
                lines.append(f"  … and {len(because) - REASONS} more, with details=true")
    return lines or ["no differences"]


def _name(entry: Any) -> str:
    if isinstance(entry, Mapping):
        entry = entry.get("name") or entry.get("alias") or entry.get("model") or entry.get("id")
    return str(entry)


class FilterModule:
    """Shows a report."""

    def filters(self) -> dict[str, Any]:
        return {"sync_report": sync_report}
