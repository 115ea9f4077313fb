# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures, the bars they are held to, and how they are printed."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Figure:
    """One line of the table.

    ``limit`` bounds the ratio where there is something to compare with, else our own value; None is a figure without
    a bar. ``runs`` holds every single measurement, for whoever doubts a median.
    """

    what: str
    ours: float
    unit: str = "s"
    bare: float | None = None
    limit: float | None = None
    note: str = ""
    runs: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.ours / self.bare if self.bare else None

    @property
    def passed(self) -> bool | None:
        if self.limit is None:
            return None
        return (self.ours if self.ratio is None else self.ratio) <= self.limit

    @property
    def allowed(self) -> str:
        if self.limit is None:
            return ""
        return f"≤ {self.limit:g} ×" if self.ratio is not None else f"≤ {shown(self.limit, self.unit)}"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "passed": self.passed}


def compared(
    what: str, ours: Sequence[float], bare: Sequence[float], limit: float | None = None, note: str = ""
) -> Figure:
    """Medians of measurements that were taken in turns."""
    runs = {"ours": list(ours), "bare": list(bare)}
    return Figure(what, statistics.median(ours), bare=statistics.median(bare), limit=limit, note=note, runs=runs)


def timed(what: str, seconds: Sequence[float], note: str = "", limit: float | None = None) -> Figure:
    """The median of a time that has nothing beside it."""
    return Figure(what, statistics.median(seconds), note=note, limit=limit, runs={"ours": list(seconds)})


def beyond(what: str, ours: Sequence[float], bare: Sequence[float], limit: float) -> Figure:
    """How many seconds longer than the bare client, where what is added doesn't grow with it."""
    mine, theirs = statistics.median(ours), statistics.median(bare)
    note = f"{shown(mine, 's')}, the bare client {shown(theirs, 's')}; the figure is the difference"
    return Figure(what, mine - theirs, limit=limit, note=note, runs={"ours": list(ours), "bare": list(bare)})


def shown(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.3f} s" if value < 1 else f"{value:.2f} s"
    return f"{value:.0f} {unit}" if unit else f"{value:.0f}"


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(f"  {text}", file=sys.stderr, flush=True)


def table(figures: Sequence[Figure]) -> str:
    """All figures, one a line."""
    rows = [("what", "bare", "ours", "ratio", "bar", "")]
    for one in figures:
        ratio = f"{one.ratio:.2f} ×" if one.ratio is not None else ""
        verdict = {True: "PASS", False: "FAIL", None: ""}[one.passed]
        bare = shown(one.bare, one.unit) if one.bare is not None else ""
        rows.append((one.what, bare, shown(one.ours, one.unit), ratio, one.allowed, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = []
    for number, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in range(1, 5)), row[5]]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("-" * (sum(widths) + 10))
    notes = [f"{one.what}: {one.note}" for one in figures if one.note]
    return "\n".join([*lines, "", *notes] if notes else lines)
