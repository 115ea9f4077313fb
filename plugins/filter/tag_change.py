# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from typing import Any

DOCUMENTATION = r"""
name: tag_change
short_description: Whether another image tag is a newer or an older version
version_added: 1.0.0
description:
  - Compares the first version number (C(1.81.0)) of two image tags, such as V(main-v1.81.0-stable-custom).
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: The image that runs, with its tag. Empty for none.
    type: str
    required: true
  wanted:
    description: The tag that is wanted.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Is it an upgrade
  ansible.builtin.debug:
    msg: "{{ 'quay.io/x/litellm:main-v1.81.0-stable' | rhpds.litemaas.tag_change('main-v1.85.0-stable') }}"
# => "upgrade"
"""

RETURN = r"""
_value:
  description:
    - V(none) for the same tag, or where nothing runs; V(upgrade) for a newer one, or another build of the same version;
      V(downgrade) for an older one; V(unknown) where one of them says no version.
  type: str
"""

VERSION = re.compile(r"(?<![\d.])(\d+)\.(\d+)\.(\d+)(?:\.?-?rc[.-]?(\d+))?")


def tag_change(image: str, wanted: str) -> str:
    """See the documentation above."""
    # A port in the registry's name is no tag, and a digest says nothing.
    _path, _slash, last = image.rpartition("/")
    _name, colon, tag = last.partition(":")
    if not image or (colon and tag == wanted):
        return "none"
    live, new = VERSION.search(tag), VERSION.search(wanted)
    if "@" in last or not live or not new:
        return "unknown"
    return "downgrade" if _ordered(new) < _ordered(live) else "upgrade"


def _ordered(found: re.Match[str]) -> tuple[int, int, int, float]:
    """A release candidate comes before its release."""
    major, minor, patch, candidate = found.groups()
    return int(major), int(minor), int(patch), int(candidate) if candidate else float("inf")


class FilterModule:
    """Compares image tags."""

    def filters(self) -> dict[str, Any]:
        return {"tag_change": tag_change}
