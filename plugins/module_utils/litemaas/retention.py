# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backups stay: the newest of each of the last days and months that have any. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

DAILY, MONTHLY = 7, 12
FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Kept:
    """A backup as far as it matters here.

    Attributes:
        name: what it is known by.
        time: when it was begun, in UTC, as manifests have it.
        series: what it is one of: backups of another deployment in the same place are none of its business.
        complete: whether everything of it is there. What isn't never counts, and is never removed.
        with_keys: whether the keys are beside it. What has none removes none that has.
    """

    name: str
    time: str
    series: str = ""
    complete: bool = True
    with_keys: bool = False

    @property
    def moment(self) -> datetime:
        return datetime.strptime(self.time, FORMAT).replace(tzinfo=timezone.utc)


def goes(backups: Iterable[Kept], daily: int = DAILY, monthly: int = MONTHLY) -> list[str]:
    """Names of the backups that need not stay, oldest first.

    Days and months without a backup don't count, so that time alone removes nothing.

    Raises:
        ValueError: not one would stay.
    """
    if daily < 0 or monthly < 0 or daily + monthly < 1:
        raise ValueError(f"keep_daily is {daily} and keep_monthly {monthly}: at least one backup has to stay")
    series: dict[str, list[Kept]] = {}
    for one in backups:
        if one.complete:
            series.setdefault(one.series, []).append(one)
    gone: list[Kept] = []
    for members in series.values():
        members.sort(key=lambda one: (one.moment, one.name), reverse=True)
        stay = {members[0].name}
        for counted in (members, [one for one in members if one.with_keys]):
            for pattern, number in (("%Y-%m-%d", daily), ("%Y-%m", monthly)):
                newest: dict[str, str] = {}
                for one in counted:
                    newest.setdefault(one.moment.strftime(pattern), one.name)
                stay.update(list(newest.values())[:number])
        gone += [one for one in members if one.name not in stay]
    return [one.name for one in sorted(gone, key=lambda one: (one.moment, one.name))]
