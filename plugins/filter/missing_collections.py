# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter: which collections are not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

DOCUMENTATION = r"""
name: missing_collections
short_description: Which collections are not installed
version_added: 1.0.0
description: Looks where Ansible itself does. For collections that are needed for some things only.
options:
  _input:
    description: Names of collections.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: S3 needs a collection more
  ansible.builtin.fail:
    msg: Install amazon.aws
  when: (['amazon.aws'] | rhpds.litemaas.missing_collections) | length > 0
"""

RETURN = r"""
_value:
  description: Those that are not installed.
  type: list
  elements: str
"""


def missing_collections(names: Iterable[str]) -> list[str]:
    """The names of those that are not installed."""
    return [name for name in names if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return find_spec(f"ansible_collections.{name}") is not None
    except ImportError:  # nothing of that namespace is
        return False


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"missing_collections": missing_collections}
