# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of a deployment: names, tags, and which of two is the newer. Pure."""

from __future__ import annotations

import hashlib
import re

VERSION = re.compile(r"(?<![\d.])(\d+)\.(\d+)\.(\d+)(?:\.?-?rc[.-]?(\d+))?")
#: Start of the names of Jobs that bring LiteLLM's database to an image.
MIGRATION = "litellm-migration-"


def split(image: str) -> tuple[str, str]:
    """Repository, and what follows it: ``:tag``, ``@digest``, both, or nothing."""
    head, slash, last = image.rpartition("/")
    cut = min((last.index(mark) for mark in ":@" if mark in last), default=len(last))
    return f"{head}{slash}{last[:cut]}", last[cut:]


def with_tag(image: str, tag: str, repository: str = "") -> str:
    """The image with another tag, or digest; of another repository where one is given."""
    mark = "@" if re.match(r"sha(256|512):", tag) else ":"
    return f"{repository or split(image)[0]}{mark}{tag}"


def tag_change(image: str, wanted: str) -> str:
    """``none``, ``upgrade``, ``downgrade``, or ``unknown``: see the documentation of the filter ``tag_change``."""
    # A port in the registry's name is no tag, and a digest says nothing.
    last = image.rpartition("/")[2]
    _name, colon, tag = last.partition(":")
    if not image or (colon and tag == wanted):
        return "none"
    live, new = VERSION.search(tag), VERSION.search(wanted)
    if "@" in last or not live or not new:
        return "unknown"
    return "downgrade" if _ordered(new) < _ordered(live) else "upgrade"


def order(image: str, other: str) -> int | None:
    """Which of two images is the newer: 1 the first, -1 the other, 0 neither; None where a tag says no version."""
    if image == other:
        return 0
    found = [None if "@" in rest else VERSION.search(rest) for _name, rest in (split(image), split(other))]
    if not found[0] or not found[1]:
        return None
    first, second = _ordered(found[0]), _ordered(found[1])
    return (first > second) - (first < second)


def _ordered(found: re.Match[str]) -> tuple[int, int, int, float]:
    """A release candidate comes before its release."""
    major, minor, patch, candidate = found.groups()
    return int(major), int(minor), int(patch), int(candidate) if candidate else float("inf")


def migration_name(image: str, database: str, *, baseline: bool = False, host: str = "") -> str:
    """Name of the Job that brings a database to an image: it runs once for both.

    Args:
        image: with its tag.
        host: of a database outside of the cluster.
    """
    repository, rest = split(image)
    said = " ".join([repository, rest.lstrip(":@"), database, "baseline" if baseline else "", host])
    return MIGRATION + hashlib.sha256(said.encode()).hexdigest()[:10]
