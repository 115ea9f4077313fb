# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment is made once, again when its requirements change, and again when it was left half made."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.tools import collection_tree, pythons, venvs

PYTHON = pythons.Python("/x/python", (3, 99, 0), "/x")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Environments built, in a cache and with requirements of the test's own; nothing is installed."""
    (tmp_path / "tool.txt").write_text("-c pins.txt\n-r more.txt\ntool==1\n", encoding="utf-8")
    (tmp_path / "more.txt").write_text("more==1\n", encoding="utf-8")
    (tmp_path / "pins.txt").write_text("base==1\n", encoding="utf-8")
    made: list[Path] = []

    def build(name: str, python: Any, requirements: Any, target: Path) -> None:
        target.mkdir(exist_ok=True)
        made.append(target)
        (target / venvs.MARKER).touch()

    monkeypatch.setenv("RHPDS_LITEMAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(venvs, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(venvs, "ENVIRONMENTS", {"tool": venvs.Environment(("tool.txt",), ("3.99",))})
    monkeypatch.setattr(venvs.pythons, "find", lambda minor: PYTHON)
    monkeypatch.setattr(venvs, "build", build)
    return made


def test_made_once_in_the_cache(built: list[Path], tmp_path: Path) -> None:
    first = venvs.ensure("tool")
    assert first.parent == tmp_path / "cache" / "venvs"
    assert first.name.startswith("tool-py3.99-")
    assert venvs.ensure("tool") == first
    assert built == [first]


@pytest.mark.parametrize("file", ["tool.txt", "more.txt", "pins.txt"])
def test_made_again_when_any_file_it_reads_changes(file: str, built: list[Path], tmp_path: Path) -> None:
    first = venvs.ensure("tool")
    with open(tmp_path / file, "a", encoding="utf-8") as text:
        text.write("another==1\n")
    assert venvs.ensure("tool") != first


def test_made_again_on_another_python(built: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = venvs.ensure("tool")
    monkeypatch.setattr(venvs.pythons, "find", lambda minor: PYTHON._replace(version=(3, 99, 1)))
    assert venvs.ensure("tool") != first


def test_made_again_when_left_half_made(built: list[Path]) -> None:
    first = venvs.ensure("tool")
    (first / venvs.MARKER).unlink()
    assert venvs.ensure("tool") == first
    assert built == [first, first]


def test_half_made_leaves_no_marker(tmp_path: Path) -> None:
    broken = venvs.pythons.Python("/bin/false", (3, 99, 0), "/")
    with pytest.raises(subprocess.CalledProcessError):
        venvs.build("tool", broken, [], tmp_path / "venv")
    assert not (tmp_path / "venv" / venvs.MARKER).exists()


def test_no_python_is_said(built: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venvs.pythons, "find", lambda minor: None)
    with pytest.raises(venvs.Unavailable, match=r"Python 3\.99"):
        venvs.ensure("tool")


def test_every_environment_is_pinned() -> None:
    for environment in venvs.ENVIRONMENTS.values():
        for text in venvs.contents(venvs.REQUIREMENTS / file for file in environment.files):
            for line in text.splitlines():
                assert not line or line.startswith(("#", "-c ", "-r ")) or "==" in line, line
                assert "://" not in line


def test_tree_leads_to_the_checkout() -> None:
    tree = collection_tree.ensure()
    assert (tree / "ansible_collections" / "rhpds" / "litemaas" / "galaxy.yml").samefile(
        collection_tree.CHECKOUT / "galaxy.yml"
    )
    assert collection_tree.ensure() == tree
