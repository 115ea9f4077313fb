# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.status_page import DRIFT, size, words

DOCUMENTATION = r"""
name: status_text
short_description: How a LiteMaaS is, in a few lines
version_added: 1.0.0
description:
  - Makes aligned lines of a status, what is wrong first.
  - Control characters in names, which could rewrite a terminal, are shown as V(?).
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: RV(rhpds.litemaas.litemaas_status#module:status).
    type: dict
    required: true
  reasons:
    description: Reasons that are told at most.
    type: int
    default: 12
seealso:
  - module: rhpds.litemaas.litemaas_status
"""

EXAMPLES = r"""
- name: How is LiteMaaS
  rhpds.litemaas.litemaas_status:
    namespace: litellm-rhpds
  register: found

- name: Say it
  ansible.builtin.debug:
    msg: "{{ found.status | rhpds.litemaas.status_text }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

WORDS = {"healthy": "HEALTHY", "attention": "ATTENTION", "broken": "BROKEN"}
MARKS = {"broken": "!!", "attention": "! "}
WIDTH = 13
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
#: Parts without which a line would say nothing.
LINES = ("pods", "database", "redis", "drift", "models", "keys", "expiring", "subscriptions", "spend", "backups")


def status_text(status: Mapping[str, Any], reasons: int = 12) -> list[str]:
    """See the documentation above."""
    where = status["namespace"] or status["litellm_url"] or "LiteMaaS"
    lines = [f"{WORDS[status['state']]}  {where}  {status['generated_at'].replace('T', ' ').replace('Z', ' UTC')}"]
    for one in status["reasons"][:reasons]:
        lines.append(f"{MARKS[one['severity']]} {one['part']:<{WIDTH}} {one['text']}")
        if one["advice"]:
            lines.append(f"   {'':<{WIDTH}} -> {one['advice']}")
    if len(status["reasons"]) > reasons:
        lines.append(f"   and {len(status['reasons']) - reasons} more: see status.reasons, or write a report")
    if status["versions"]:
        lines.append(_line("versions", ", ".join(f"{name} {version}" for name, version in status["versions"].items())))
    parts = status["parts"]
    for name in LINES:
        part = parts.get("keys" if name == "expiring" else name, {})
        if part.get("read") in ("read", "partly"):
            lines += [_line(name, text) for text in _SAID[name](part) if text]
    apart = [name for name, part in parts.items() if part["read"] == "not_asked"]
    if apart:
        lines.append(_line("not asked", ", ".join(apart)))
    for log in parts.get("logs", {}).get("logs", ()):
        lines.append(f"-- {log['pod']} {log['container']}, last {len(log['lines'])} lines of its log")
        lines += [f"   {line}" for line in log["lines"]]
    return [UNPRINTABLE.sub("?", line) for line in lines]


def _line(name: str, text: str) -> str:
    return f"   {name:<{WIDTH}} {text}"


def _pods(part: Mapping[str, Any]) -> Iterator[str]:
    yield ", ".join(f"{one['name']} {one['ready']}/{one['wanted']}" for one in part["workloads"])


def _database(part: Mapping[str, Any]) -> Iterator[str]:
    one = part["databases"][0]
    sizes = ", ".join(f"{each['database']} {size(each['bytes'])}" for each in part["databases"])
    yield f"{sizes}; {one['connections']} of {one['max_connections']} connections"


def _redis(part: Mapping[str, Any]) -> Iterator[str]:
    yield f"{part['keys']:,} keys, {size(part['memory_bytes'])}" if part["there"] else "none"


def _drift(part: Mapping[str, Any]) -> Iterator[str]:
    found = {name: part[name]["count"] for name in DRIFT if name in part}
    yield ", ".join(f"{count:,} {words(name)}" for name, count in found.items() if count) or "none"


def _models(part: Mapping[str, Any]) -> Iterator[str]:
    yield _counts(part["count"], part["states"]) + (
        f"; {part['duplicates']} with several deployments" if part["duplicates"] else ""
    )


def _keys(part: Mapping[str, Any]) -> Iterator[str]:
    more = {
        "over budget": part["over_budget"],
        "rows without a key": part["orphaned_rows"],
        "revoked but alive": part["revoked_but_alive"],
    }
    said = [f"{count:,} {name}" for name, count in more.items() if count]
    yield "; ".join([_counts(part["count"], part["states"]), *said])


def _expiring(part: Mapping[str, Any]) -> Iterator[str]:
    found = [one for one in part["expiring_by_guid"] if one["guid"] is not None]
    said = [f"{one['guid'] or 'no guid'} {one['keys']:,} ({one['first'][:16].replace('T', ' ')})" for one in found[:5]]
    rest = sum(one["keys"] for one in part["expiring_by_guid"]) - sum(one["keys"] for one in found[:5])
    if said:
        yield f"within {part['expiring_within']}: {', '.join(said)}" + (f", {rest:,} more" if rest else "")


def _subscriptions(part: Mapping[str, Any]) -> Iterator[str]:
    yield _counts(part["count"], part["states"])


def _spend(part: Mapping[str, Any]) -> Iterator[str]:
    yield f"${part['total']:,.2f} in {part['days']} days, {part['requests']:,} requests"
    for name in ("by_model", "by_guid"):
        found = [one for one in part[name] if one["name"] is not None and one["spend"] > 0][:3]
        if found:
            yield f"{name.replace('_', ' ')}: " + ", ".join(
                f"{one['name'] or 'none'} ${one['spend']:,.2f}" for one in found
            )


def _backups(part: Mapping[str, Any]) -> Iterator[str]:
    found = part["backups"]
    yield f"{len(found)}, the newest of {found[0]['time']}" if found else "none recorded"


def _counts(total: int, states: Mapping[str, int]) -> str:
    said = [f"{count:,} {words(state)}" for state, count in states.items() if count]
    return f"{total:,}" + (f": {', '.join(said)}" if said else "")


_SAID = {
    "pods": _pods,
    "database": _database,
    "redis": _redis,
    "drift": _drift,
    "models": _models,
    "keys": _keys,
    "expiring": _expiring,
    "subscriptions": _subscriptions,
    "spend": _spend,
    "backups": _backups,
}


class FilterModule:
    """Shows a status."""

    def filters(self) -> dict[str, Any]:
        return {"status_text": status_text}
