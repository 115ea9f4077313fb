# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpreters are taken by what they are, not by their names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ansible_collections.rhpds.litemaas.tests.tools import pythons

THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_finds_the_running_python() -> None:
    found = pythons.find(THIS)
    assert found is not None
    assert found.minor == THIS
    assert found.version == tuple(sys.version_info[:3])


def test_a_shim_that_refuses_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "python3.99", "echo 'command not found' >&2; exit 127")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythons.find("3.99") is None


@pytest.mark.parametrize(
    "answer",
    [
        '[[3, 99, 0], "candidate", "/x/python", "/x"]',  # a pre-release
        '[[3, 98, 0], "final", "/x/python", "/x"]',  # another version under that name
        "not JSON",
    ],
)
def test_what_it_says_of_itself_counts(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "python3.99", f"echo '{answer}'")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythons.find("3.99") is None


def test_a_plain_python3_of_the_right_version_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "python3", """echo '[[3, 99, 1], "final", "/x/python", "/x"]'""")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythons.find_first(["3.100", "3.99"]) == pythons.Python("/x/python", (3, 99, 1), "/x")


def test_pyenv_is_asked_where_a_version_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "prefix/bin/python3.99", """echo '[[3, 99, 2], "final", "/y/python", "/y"]'""")
    executable(
        tmp_path / "bin/pyenv",
        f'case "$1" in versions) echo 3.9.9; echo 3.99.2;; prefix) echo "{tmp_path}/prefix";; esac',
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert pythons.find("3.99") == pythons.Python("/y/python", (3, 99, 2), "/y")
