# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a key's row says: whose it is, which value it has, and what a rotation has made of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import ownership

Observed = dict[str, Any]

# Characters that LiteLLM's optional check of aliases lets pass.
ROTATING, ROTATED = "@rotating", "@rotated-"
ASIDE = re.compile(r"@rotat(?:ing|ed-\d+)$")


def row_token(row: Mapping[str, Any]) -> str:
    return str(row["token"])


def is_set_aside(row: Mapping[str, Any]) -> bool:
    """Whether a rotation of ours has renamed it. A name alone proves nothing: anybody may choose such an alias."""
    metadata = row.get("metadata") or {}
    renamed = ownership.is_ours(metadata) and "replaced_by" in ownership.record(metadata)
    return renamed and bool(ASIDE.search(str(row.get("key_alias") or "")))


def base_alias(row: Mapping[str, Any]) -> str:
    """The alias that a key has, or had before it was rotated out."""
    alias = str(row.get("key_alias") or "")
    return ASIDE.sub("", alias) if is_set_aside(row) else alias


def guid_of(row: Mapping[str, Any]) -> str:
    return str((row.get("metadata") or {}).get("guid") or "")


def uuid_of(row: Mapping[str, Any]) -> str:
    """The unique id of the lab that a key was made for, as far as we have recorded it."""
    metadata = row.get("metadata") or {}
    return str(metadata.get("uuid") or "") if ownership.is_ours(metadata) else ""


def is_legacy(row: Mapping[str, Any], guid: str | None, patterns: Iterable[re.Pattern[str]]) -> bool:
    """Whether a key that we did not make is known as the lab's by its alias.

    What carries another guid never is: ``virtkey-abc-user1`` may be the one key of the guid ``abc-user1``.
    """
    alias = str(row.get("key_alias") or "")
    if not alias or not guid or ownership.is_ours(row.get("metadata")) or guid_of(row) not in ("", guid):
        return False
    return any(pattern.fullmatch(alias) for pattern in patterns)


def generation_of(row: Mapping[str, Any]) -> int:
    """Which value of its alias a key has; 0 for keys that aren't ours."""
    found = ownership.record(row.get("metadata")).get("generation", 0)
    return found if isinstance(found, int) else 0
