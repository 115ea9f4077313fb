# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: key_file
short_description: Virtual keys with their values as the text of a file
version_added: 1.0.0
description:
  - Makes JSON or CSV of the results of M(rhpds.litemaas.litellm_virtual_key), for those whose value is known.
  - The text holds secrets. Write it with O(ignore:mode=0600) in a task with C(no_log).
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: The entries of RV(rhpds.litemaas.litellm_virtual_key#module:results).
    type: list
    elements: dict
    required: true
  format:
    description: What to make.
    type: str
    choices: [json, csv]
    default: json
  more:
    description: What else stands in every entry, by its name, such as the address that the keys are for.
    type: dict
    default: {}
seealso:
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: Hand the keys over in a file
  ansible.builtin.copy:
    dest: /root/keys.csv
    content: "{{ workshop_keys.results | rhpds.litemaas.key_file('csv', more={'api_base_url': litellm_url ~ '/v1'}) }}"
    mode: "0600"
  no_log: true
  diff: false
"""

RETURN = r"""
_value:
  description: The file's text. One entry a key, with its alias, value, token, user and guid, and what O(more) adds.
  type: str
"""

#: No expiry: extending a key would leave an outdated one in the file.
COLUMNS = ("key_alias", "key", "token", "user_id", "guid")


# The builtin is shadowed by the option's name, as users know it from other filters.
def key_file(
    results: Sequence[Mapping[str, Any]],
    format: str = "json",  # noqa: A002
    more: Mapping[str, Any] | None = None,
) -> str:
    """See the documentation above."""
    added = dict(more or {})
    rows = [{**{column: entry.get(column) for column in COLUMNS}, **added} for entry in results if entry.get("key")]
    if format == "json":
        return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    if format != "csv":
        raise ValueError(f"key_file: {format!r} is neither json nor csv")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *added], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class FilterModule:
    """Writes virtual keys."""

    def filters(self) -> dict[str, Any]:
        return {"key_file": key_file}
