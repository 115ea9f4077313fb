# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks' filters: tables, files of keys, reports."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.filter.key_file import key_file
from ansible_collections.rhpds.litemaas.plugins.filter.key_table import key_table
from ansible_collections.rhpds.litemaas.plugins.filter.sync_report import sync_report

KEY: dict[str, Any] = {
    "key_alias": "virtkey-abc12",
    "token": "ab" * 32,
    "guid": "abc12",
    "expired": False,
    "blocked": False,
    "expires": "2026-03-08T09:00:00.123000Z",
    "spend": 0.5,
    "max_budget": 5,
    "models": ["a", "b"],
}


def test_table_lines_up() -> None:
    bare: dict[str, Any] = {
        "key_alias": None,
        "token": "cd" * 32,
        "expires": None,
        "models": [],
        "expired": True,
        "key": "sk-secret",
    }
    lines = key_table([KEY, bare, {**KEY, "blocked": True}])
    assert lines[1].split() == "virtkey-abc12 abc12 alive 2026-03-08 09:00 UTC 0.5000 5.00 a, b".split()
    assert lines[2].split() == ["token", "cdcdcdcdcdcd…", "-", "expired", "never", "0.0000", "-", "all"]
    assert "blocked" in lines[3]
    assert len({line.index(word) for line, word in zip(lines, ("guid", "abc12", "- ", "abc12"), strict=True)}) <= 2
    assert "sk-secret" not in "".join(lines)
    assert key_table([]) == ["alias  guid  state  expires  spend  budget  models"]


RESULTS = [
    {"key_alias": 'a,"b"\nc', "key": "sk-1", "token": "t1", "user_id": "u@x", "guid": "g", "spend": 1},
    {"key_alias": "failed", "failed": True},
]


def test_file_holds_what_has_a_value() -> None:
    expected = {"key_alias": 'a,"b"\nc', "key": "sk-1", "token": "t1", "user_id": "u@x", "guid": "g"}
    assert json.loads(key_file(RESULTS)) == [expected]
    assert list(csv.DictReader(io.StringIO(key_file(RESULTS, "csv")))) == [expected]


def test_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="neither json nor csv"):
        key_file(RESULTS, "xml")


def test_report_says_what_differs() -> None:
    report = {
        "only_in_litellm": {"count": 2, "items": ["a", "b"]},
        "only_in_litemaas": {"count": 0, "items": []},
        "orphaned_keys": {"count": 300, "items": [{"id": str(n), "alias": f"k{n}"} for n in range(100)]},
        "keys_without_alias": {"count": 1, "items": [{"id": "7", "alias": None}]},
        "protected_models": ["a"],
    }
    assert sync_report(report, 2) == [
        "models only in LiteLLM: 2 (a, b)",
        "active keys of LiteMaaS that LiteLLM doesn't have: 300 (k0, k1, …)",
        "active keys of LiteMaaS that can't be compared: no alias, and LiteLLM doesn't know the hash: 1 (7)",
    ]
    assert sync_report({}) == ["no differences"]
    blocked = [{"id": str(n), "alias": f"k{n}", "why": "nobody revoked it" if n else None} for n in range(6)]
    assert sync_report({"alive_revoked_keys": {"count": 6, "items": blocked}}, 1) == [
        "keys inactive in LiteMaaS that still work in LiteLLM: 6 (k0, …)",
        *(f"  k{n}: nobody revoked it" for n in (1, 2, 3)),
        "  … and 2 more, with details=true",
    ]
