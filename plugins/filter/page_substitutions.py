# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DOCUMENTATION = r"""
name: page_substitutions
short_description: A sed script that replaces a page's title and texts
version_added: 1.0.0
description:
  - Makes one sed substitution of each pair of texts, none of which sed, JavaScript or HTML takes for anything but text.
  - Texts that a script's quotes can't hold are returned as problems.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Old texts, with what takes their place.
    type: dict
    required: true
  title:
    description: The page's title. Empty leaves it.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Another welcome
  ansible.builtin.debug:
    msg: "{{ ({'Welcome to LiteMaaS': 'Welcome to the lab'} | rhpds.litemaas.page_substitutions('Lab')).lines }}"
# => ["s|<title>[^<]*</title>|<title>Lab</title>|", "s|Welcome to LiteMaaS|Welcome to the lab|g"]
"""

RETURN = r"""
_value:
  description: The script.
  type: dict
  contains:
    lines:
      description: Its lines.
      type: list
      elements: str
    problems:
      description: What is wrong with the texts.
      type: list
      elements: str
"""

#: What ends a string of a script, or is a tag of a page.
#: What means something in a sed pattern.
SPECIAL = re.compile(r"([.*^$|[\]])")
ESCAPED = r"\\\1"
UNUSABLE = re.compile(r"[\"'`\\<>\n\r]|\$\{")


def page_substitutions(texts: Mapping[str, str], title: str = "") -> dict[str, list[str]]:
    """See the documentation above."""
    lines, problems = [], []
    if title:
        lines.append(f"s|<title>[^<]*</title>|<title>{_replacement(title)}</title>|")
    for old, new in texts.items():
        lines.append(f"s|{SPECIAL.sub(ESCAPED, old)}|{_replacement(new)}|g")
    for text in [title, *texts.keys(), *texts.values()]:
        if UNUSABLE.search(text):
            problems.append(
                f"{text!r} holds quotes, a backslash, a tag or a line break, which a page's script can't hold"
            )
    if "" in texts:
        problems.append("an empty text can't be replaced")
    return {"lines": lines, "problems": problems}


def _replacement(text: str) -> str:
    return re.sub(r"([&|])", r"\\\1", text)


class FilterModule:
    """Makes a sed script."""

    def filters(self) -> dict[str, Any]:
        return {"page_substitutions": page_substitutions}
