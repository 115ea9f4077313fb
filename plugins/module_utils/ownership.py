# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How we recognise what is ours, and how much of it may go at once. Pure.

The mark lives in ``model_info`` of a model and in ``metadata`` of a key. Everybody who may call a model sees its
``model_info``, so it holds nothing private.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations

MANAGER = "rhpds.litemaas"
#: Where the names of the fields that we set, and fingerprints of secrets, are kept.
RECORD = "rhpds_litemaas"
#: What we write into metadata beside what is declared.
KEPT = frozenset({"managed_by", "scope", "guid", "uuid", RECORD})
#: In model_info of a temporary deployment: the id of the one that it stands in for while that is made anew.
REPLACEMENT_OF = "rhpds_replacement_of"
#: Fewer than this many removals never need a word, whatever share of the store they are.
ALWAYS_ALLOWED = 5


def mark(scope: str) -> dict[str, str]:
    """The mark to write."""
    return {"managed_by": MANAGER, "scope": scope}


def is_ours(marked: Mapping[str, Any] | None) -> bool:
    """Whether a model_info or metadata carries our mark."""
    return bool(marked) and marked.get("managed_by") == MANAGER  # type: ignore[union-attr]


def in_scope(marked: Mapping[str, Any] | None, scope: str) -> bool:
    """Whether it is ours and of this scope."""
    return is_ours(marked) and marked.get("scope") == scope  # type: ignore[union-attr]


def record(marked: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an earlier run recorded beside its mark; {} where nothing usable is there.

    Anybody who may write metadata may write this: what isn't of its kind is left out.
    """
    found = (marked or {}).get(RECORD)
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if name not in _KINDS or _KINDS[name](value)}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_moment(value: Any) -> bool:
    try:
        durations.moment(value)
    except (ValueError, OverflowError):
        return False
    return isinstance(value, str)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("fields", "metadata", "params", "secrets", "info", "aside"), _is_list),
    **dict.fromkeys(("generation", "replaced_by"), _is_number),
    **dict.fromkeys(("granted_at", "grace_until"), _is_moment),
    "lives_for": _is_text,
    "fingerprints": _is_mapping,
}


def removal_refused(removals: int, total: int, max_percent: int) -> str | None:
    """Why so many removals at once need a word, or None where they don't.

    Args:
        removals: how many would go.
        total: how many there are now.
        max_percent: the share that may go without a word.
    """
    if removals <= ALWAYS_ALLOWED or removals * 100 <= total * max_percent:
        return None
    return f"{removals} of {total} would be removed, more than {max_percent} % (and more than {ALWAYS_ALLOWED})"
