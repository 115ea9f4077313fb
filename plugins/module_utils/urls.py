# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of an address may be shown. Pure."""

from __future__ import annotations

import re
from typing import Any

_USER = re.compile(r"//([^/?#\s]+)@")


def users_in(text: str) -> list[str]:
    """Users, with their passwords, of the URLs in a text: ``user:password``."""
    return _USER.findall(text)


def without_credentials(text: Any) -> Any:
    """A URL without its user, password and query; anything else unchanged."""
    if not isinstance(text, str) or "://" not in text:
        return text
    head, _slashes, rest = text.partition("://")
    place = rest.split("?", 1)[0].split("#", 1)[0]
    authority, slash, path = place.partition("/")
    return f"{head}://{authority.rsplit('@', 1)[-1]}{slash}{path}"
