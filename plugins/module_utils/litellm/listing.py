# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a list of the proxy's in pages while others write to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError

Row = dict[str, Any]
#: Rows of a page, how many there are in all, and on how many pages.
Page = tuple[list[Row], int, int]

#: How often a list is read until it held still meanwhile.
PASSES = 4


def read_list(
    client: LiteLLMClient,
    path: str,
    what: str,
    identity: str,
    page: Callable[[int], Page],
    *,
    workers: int = 8,
    keep: Callable[[Row], bool] | None = None,
    first: Page | None = None,
    may_be_empty: bool = False,
) -> list[Row]:
    """Every row, checked to be complete; ordered by their identity, so that nothing that stays changes its place.

    The pages are read side by side; where the number of rows changed meanwhile, they are read again one after the
    other. What is made during such a pass moves rows to later pages only, so none that was there before is missed;
    what is deleted moves rows to earlier ones, and can hide some: then it is read once more. What any pass saw counts.

    Args:
        path: of the endpoint, for the error.
        what: the rows are, in the plural.
        identity: field that tells two rows apart.
        page: reads one by its number, from 1.
        keep: which rows to hold on to; a store has many more than a lab.
        first: the first page, where the caller has just read it.
        may_be_empty: without it an empty list is worth a second look before somebody acts on it.

    Raises:
        LiteLLMError: a page could not be read, or rows were still missing after several passes.
    """
    kept: dict[str, Row] = {}
    known: set[str] = set()

    def take(read: Page) -> tuple[set[str], int, int]:
        rows, total, pages = read
        kept.update({str(row[identity]): row for row in rows if keep is None or keep(row)})
        return {str(row[identity]) for row in rows}, total, pages

    for attempt in range(PASSES):
        taken = [take((None if attempt else first) or page(1))]
        total = taken[0][1]
        if attempt:
            while len(taken) < taken[-1][2]:
                taken.append(take(page(len(taken) + 1)))
        else:
            taken += client.map(lambda number: take(page(number)), range(2, taken[0][2] + 1), workers)
        seen: set[str] = set().union(*(one[0] for one in taken))
        known |= seen
        counts = [one[1] for one in taken]
        if attempt and counts == sorted(counts) and len(seen) >= total:
            break
        if set(counts) == {total} and len(seen) == total and (total or may_be_empty):
            break
    else:
        if len(known) < total:
            raise LiteLLMError(
                f"GET {client.url}{path}",
                words=f"{len(known)} different {what} in {len(taken)} pages, {total} were announced",
                advice=f"{what.capitalize()} were being deleted while they were listed, or the proxy is unwell;"
                " run again",
            )
    return list(kept.values())
