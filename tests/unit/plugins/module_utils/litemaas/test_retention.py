# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups stay."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.retention import FORMAT, Kept, goes

NEWEST = datetime(2026, 11, 21, 3, 0, tzinfo=timezone.utc)


def backup(days: float, series: str = "", complete: bool = True) -> Kept:
    return Kept(f"{series}{days}", (NEWEST - timedelta(days=days)).strftime(FORMAT), series, complete)


def test_a_week_of_days_and_a_year_of_months_stay() -> None:
    daily = [backup(days) for days in range(800)]
    stay = {one.name for one in daily} - set(goes(daily))
    kept = [one for one in daily if one.name in stay]
    assert [one.time[:10] for one in kept[:7]] == [f"2026-11-{day}" for day in range(21, 14, -1)]
    assert [one.time[:10] for one in kept[7:]] == [
        "2026-10-31",
        "2026-09-30",
        "2026-08-31",
        "2026-07-31",
        "2026-06-30",
        "2026-05-31",
        "2026-04-30",
        "2026-03-31",
        "2026-02-28",
        "2026-01-31",
        "2025-12-31",
    ]


def test_oldest_go_first() -> None:
    assert goes([backup(0.1), backup(0.3), backup(0.2), backup(0)], 1, 0) == ["0.3", "0.2", "0.1"]


def test_time_alone_removes_nothing() -> None:
    """A cron that has failed for years leaves what is there."""
    assert goes([backup(days) for days in (1000, 1400, 1800)]) == []


def test_what_is_not_complete_neither_counts_nor_goes() -> None:
    assert goes([backup(0, complete=False), backup(1, complete=False), backup(2), backup(3)], 1, 0) == ["3"]


def test_one_without_keys_lets_none_go_that_has_them() -> None:
    keyed = [Kept(str(hours), f"2026-11-21T{hours:02}:00:00Z", with_keys=True) for hours in (3, 4)]
    without = [Kept(str(hours), f"2026-11-21T{hours:02}:00:00Z") for hours in (2, 5, 6)]
    assert goes([*keyed, *without], 1, 0) == ["2", "3", "5"]


def test_deployments_are_counted_by_themselves() -> None:
    assert goes([backup(0, "a"), backup(1, "b"), backup(2, "b")], 1, 0) == ["b2"]


@pytest.mark.parametrize(("daily", "monthly"), [(0, 0), (-1, 12), (7, -1)])
def test_one_has_to_stay(daily: int, monthly: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        goes([backup(0)], daily, monthly)


BACKUPS = st.lists(
    st.builds(backup, st.integers(0, 900), st.sampled_from(["a", "b"]), st.booleans()), unique_by=lambda one: one.name
)


@given(BACKUPS, st.integers(0, 9), st.integers(1, 14))
def test_properties(backups: list[Kept], daily: int, monthly: int) -> None:
    gone = set(goes(backups, daily, monthly))
    complete = [one for one in backups if one.complete]
    assert gone <= {one.name for one in complete}
    for series in {one.series for one in complete}:
        members = [one for one in complete if one.series == series]
        stay = [one for one in members if one.name not in gone]
        assert max(members, key=lambda one: one.time) in stay
        assert len(stay) <= daily + monthly
        assert len({one.time[:7] for one in stay}) >= min(monthly, len({one.time[:7] for one in members}))
    # Again, nothing more goes; and each deployment's are its own affair.
    assert goes([one for one in backups if one.name not in gone], daily, monthly) == []
    for series in "ab":
        alone = [one for one in backups if one.series == series]
        assert set(goes(alone, daily, monthly)) == gone & {one.name for one in alone}
