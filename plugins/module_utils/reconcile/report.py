# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Executed steps as a module result: one line, counts, an entry an item, a diff. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import FAIL, NONE, Step

_PAST = {
    "create": "created",
    "update": "updated",
    "rotate": "rotated",
    "delete": "deleted",
    "none": "unchanged",
    "fail": "failed",
}
_FUTURE = {
    "create": "to create",
    "update": "to update",
    "rotate": "to rotate",
    "delete": "to delete",
    "none": "unchanged",
    "fail": "failing",
}
#: Reasons that the one line gives, and failed items that it names for each; the rest is counted.
NAMED = 3


def result(
    kind: str,
    steps: Sequence[Step[Any, Any]],
    *,
    check_mode: bool,
    describe: Callable[[Step[Any, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """What the module exits with.

    Args:
        kind: what the items are, e.g. ``model``.
        describe: further keys of an item's entry (ids, expiry); never a secret.
    """
    items = [_item(step, describe, check_mode) for step in steps]
    counts = Counter(step.action for step in steps)
    failed = [step for step in steps if step.action == FAIL]
    out: dict[str, Any] = {
        "changed": any(item["changed"] for item in items),
        "failed": bool(failed),
        "msg": line(kind, steps, check_mode),
        "results": items,
        "summary": {_PAST[action]: counts.get(action, 0) for action in _PAST},
        "diff": diff(steps),
    }
    return out


def line(kind: str, steps: Sequence[Step[Any, Any]], check_mode: bool) -> str:
    """One line for a tired person: what happened, and the first failures by name."""
    words = _FUTURE if check_mode else _PAST
    # A resource may have a better word for an item that it left as it is: not there, left alone.
    counts = Counter((step.action, step.extra.get("said") or words[step.action]) for step in steps)
    said = ", ".join(f"{counts[key]} {key[1]}" for action in words for key in counts if key[0] == action)
    noun = kind if len(steps) == 1 else kind + "s"
    text = f"{len(steps)} {noun}: {said or 'nothing to do'}"
    reasons: dict[str, list[str]] = {}
    for step in steps:
        if step.action == FAIL:
            reasons.setdefault(step.error, []).append(step.name)
    if reasons:
        named = [f"{_some(names)}: {reason}" for reason, names in list(reasons.items())[:NAMED]]
        more = sum(len(names) for names in list(reasons.values())[NAMED:])
        text += ". " + "; ".join(named) + (f"; and {more} more (see results)" if more else "")
    return text


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def diff(steps: Sequence[Step[Any, Any]]) -> dict[str, str]:
    """Before and after of everything that changed, a line a field."""
    before: list[str] = []
    after: list[str] = []
    for step in steps:
        if not step.writes:
            continue
        for change in step.changes:
            if change.before is not None:
                before.append(f"{step.name}: {change.field}: {change.before}")
            if change.after is not None:
                after.append(f"{step.name}: {change.field}: {change.after}")
    return {
        "before": "".join(text + "\n" for text in before),
        "after": "".join(text + "\n" for text in after),
    }


def _item(
    step: Step[Any, Any], describe: Callable[[Step[Any, Any]], dict[str, Any]] | None, check_mode: bool
) -> dict[str, Any]:
    action = step.extra.get("attempted", step.action) if step.action == FAIL else step.action
    entry: dict[str, Any] = {
        "name": step.name,
        "action": step.action if action == FAIL else action,
        # A failed write may have changed something all the same: say so rather than hide it.
        "changed": step.writes or (step.action == FAIL and step.extra.get("attempted", NONE) != NONE),
        "failed": step.action == FAIL,
        "changes": [{"field": c.field, "before": c.before, "after": c.after} for c in step.changes],
        "msg": step.error or step.note or (_FUTURE if check_mode else _PAST)[step.action],
    }
    if describe is not None:
        entry.update(describe(step))
    return entry
