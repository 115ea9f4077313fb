# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durations and points in time as operators write them. Pure.

LiteLLM's own parser is lax (``3days`` passes as 3 of something, ``mo`` is odd in December), so durations are parsed
here and sent as seconds.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"^([0-9]{1,9})\s*([smhdw])$")
_BUDGET_DURATION = re.compile(r"^([1-9][0-9]{0,5})(s|m|h|d|w|mo)$")
_BUDGET_WORDS = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "1mo"}

#: Longer than any lab, short enough for every date library on the way.
LONGEST = 100 * 365 * 86400


def seconds(text: str) -> int:
    """Seconds in a duration such as ``90s``, ``30m``, ``36h``, ``7d`` or ``2w``.

    Raises:
        ValueError: not a duration, zero, or longer than 100 years.
    """
    match = _DURATION.match(str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration: write a number and one of s, m, h, d, w, for example 36h or 7d")
    value = int(match.group(1)) * _UNITS[match.group(2)]
    if not 0 < value <= LONGEST:
        raise ValueError(f"{text!r} is out of range: more than zero and at most 100 years")
    return value


def text(length: float) -> str:
    """Seconds as people say them: ``36h``, or ``90m`` where these are no whole hours."""
    minutes = max(1, round(length / 60))
    return f"{minutes}m" if minutes % 60 else f"{minutes // 60}h"


def budget_duration(text: str) -> str:
    """LiteLLM's form of a budget period: ``30d``, ``1mo``, ``24h``; ``daily``, ``weekly``, ``monthly`` are understood.

    Raises:
        ValueError: LiteLLM would accept it and never reset the budget.
    """
    value = str(text).strip()
    value = _BUDGET_WORDS.get(value.lower(), value)
    if not _BUDGET_DURATION.match(value):
        raise ValueError(
            f"{text!r} is not a budget duration: write a number and one of s, m, h, d, w, mo, for example 30d or 1mo"
        )
    return value


def moment(text: str) -> datetime:
    """An ISO 8601 point in time, in UTC. Without an offset it is taken as UTC.

    Raises:
        ValueError: not a point in time.
    """
    value = str(text).strip()
    # Python 3.10's fromisoformat knows neither the Z nor fractions of other than 3 or 6 digits, and LiteLLM sends both.
    value = re.sub(r"[zZ]$", "+00:00", value)
    value = re.sub(r"\.(\d{1,6})\d*", lambda m: "." + m.group(1).ljust(6, "0"), value)
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{text!r} is not a point in time: write it as 2026-12-31T18:00:00Z") from None
    return parsed.astimezone(timezone.utc) if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def iso(when: datetime) -> str:
    """The one way in which we write a point in time: UTC, whole seconds, Z."""
    return when.astimezone(timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", "Z")
