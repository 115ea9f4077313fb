# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One item or a list of them: top-level options are every item's defaults. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

#: Options that say the same in different ways: what an item gives of them takes the place of a default among them. Two
#: in one place stay an error for whoever reads the item.
ALTERNATIVES = (
    ("duration", "expires"),
    ("input_cost_per_token", "input_cost_per_million_tokens"),
    ("output_cost_per_token", "output_cost_per_million_tokens"),
)


def suboptions(spec: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same options for the items of a list: without defaults, so that what is left out is known."""
    return {name: {k: v for k, v in option.items() if k != "default"} for name, option in spec.items()}


def merged(params: Mapping[str, Any], list_name: str, identity: str, names: Iterable[str]) -> list[dict[str, Any]]:
    """The items of a call.

    Args:
        params: the module's parsed options.
        list_name: the option that holds the list; where it is not given, the top-level options are the one item.
        identity: the option that names an item, never inherited.
        names: all options of an item.
    """
    own = {name: params.get(name) for name in names}
    listed = params.get(list_name)
    if listed is None:
        return [own]
    defaults = {name: value for name, value in own.items() if name != identity}
    out = []
    for item in listed:
        given = {name: value for name, value in item.items() if value is not None}
        displaced = {name for group in ALTERNATIVES if not given.keys().isdisjoint(group) for name in group}
        out.append({**defaults, **dict.fromkeys(displaced & defaults.keys()), **given})
    return out


def refuse_duplicates(items: list[T], identity: Callable[[T], str], what: str) -> None:
    """Give every item whose identity stood in the list before an ``error``."""
    first: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        key = identity(item)
        if key in first:
            # Neither of the two can be right: the first one is refused with the second.
            text = f"{what} stands in the list more than once (items {first[key]} and {number})"
            for one in (items[first[key] - 1], item):
                one.error = one.error or text  # type: ignore[attr-defined]
        else:
            first[key] = number
