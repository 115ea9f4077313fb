# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durations and points in time as operators write them."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@given(st.integers(1, 5000), st.sampled_from(sorted(UNITS)))
def test_number_and_unit(number, unit):
    assert durations.seconds(f"{number}{unit}") == durations.seconds(f" {number} {unit} ") == number * UNITS[unit]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "3days",
        "3 days",
        "1mo",
        "1y",
        "0s",
        "0h",
        "-1d",
        "+1d",
        "1.5h",
        "1h30m",
        "h",
        "1D",
        "٣d",
        "101000w",
        "d3",
    ],
)
def test_anything_else_is_refused_with_its_own_words(text):
    with pytest.raises(ValueError, match=r"is not a duration|is out of range") as problem:
        durations.seconds(text)
    assert repr(text) in str(problem.value)


@given(st.text(max_size=12))
def test_never_another_error_and_never_zero(text):
    with contextlib.suppress(ValueError):
        assert 0 < durations.seconds(text) <= durations.LONGEST


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", "30d"),
        ("1mo", "1mo"),
        (" 24h ", "24h"),
        ("daily", "1d"),
        ("Weekly", "7d"),
        ("monthly", "1mo"),
        ("hourly", "1h"),
    ],
)
def test_budget_duration(text, expected):
    assert durations.budget_duration(text) == expected
    assert durations.budget_duration(expected) == expected


@pytest.mark.parametrize("text", ["", "0d", "fortnightly", "30 d", "30days", "-1d", "1y", "mo"])
def test_budget_duration_that_would_never_reset_is_refused(text):
    with pytest.raises(ValueError, match="is not a budget duration"):
        durations.budget_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-31T18:00:00Z",
        "2026-12-31T18:00:00z",
        "2026-12-31T18:00:00",
        "2026-12-31 18:00",
        "2026-12-31T18:00:00.000000+00:00",
        "2026-12-31T20:00:00.0+02:00",
        "2026-12-31T18:00:00.123456789Z",
    ],
)
def test_moment_is_understood_in_every_form_that_people_and_litellm_write(text):
    assert durations.moment(text).replace(microsecond=0) == datetime(2026, 12, 31, 18, tzinfo=timezone.utc)


@pytest.mark.parametrize("text", ["", "tomorrow", "31.12.2026", "2026-13-01", "2026-12-31T25:00:00Z"])
def test_moment_that_is_none(text):
    with pytest.raises(ValueError, match="is not a point in time"):
        durations.moment(text)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1)), st.integers(-14, 14))  # noqa: DTZ001
def test_moment_reads_what_iso_writes(when, offset):
    when = when.replace(microsecond=0, tzinfo=timezone(timedelta(hours=offset)))
    assert durations.moment(durations.iso(when)) == when
    assert durations.iso(durations.moment(durations.iso(when))) == durations.iso(when)
