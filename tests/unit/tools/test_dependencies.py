# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collections that are needed are found or fetched whole, and a failure says what was tried."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rhpds.litemaas.tests.tools import dependencies

NAME = "kubernetes.core"


def put(root: Path, version: str) -> Path:
    folder = dependencies.below(root, NAME)
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "code.py").write_text(version, encoding="utf-8")
    manifest = {"collection_info": {"version": version}}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without collections, and a cache of its own."""
    monkeypatch.setenv("RHPDS_LITEMAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dependencies, "PLACES", (str(tmp_path / "system"),))
    monkeypatch.setattr(dependencies.venvs, "ensure", lambda _name: tmp_path / "venv")
    optional = tmp_path / "collections.yml"
    optional.touch()
    monkeypatch.setattr(dependencies, "OPTIONAL", optional)
    return tmp_path / "cache"


def test_the_requirements_are_those_of_the_collection() -> None:
    root = dependencies.REQUIREMENTS.parent
    galaxy = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"]
    asked = yaml.safe_load(dependencies.REQUIREMENTS.read_text(encoding="utf-8"))["collections"]
    assert galaxy == {one["name"]: one["version"] for one in asked}
    optional = yaml.safe_load(dependencies.OPTIONAL.read_text(encoding="utf-8"))["collections"]
    found = {name: ">=" + ".".join(map(str, version)) for name, version in dependencies.wanted().items()}
    assert found == {**galaxy, **{one["name"]: one["version"] for one in optional}}
    assert not galaxy.keys() & {one["name"] for one in optional}


def test_an_installed_one_is_used_where_it_is_new_enough(cache: Path, tmp_path: Path) -> None:
    folder = put(tmp_path / "system", "3.10.1")
    assert dependencies.installed(NAME, (3, 2, 0)) == folder
    assert dependencies.installed(NAME, (3, 11)) is None
    assert dependencies.ensure() == {NAME: folder}


def test_the_wheel_is_unpacked_where_galaxy_does_not_answer(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "wheel", "6.2.0")
    ran: list[str] = []

    def run(command: list[str], **_options: Any) -> None:
        ran.append(Path(command[0]).name)
        if "collection" in command:
            raise subprocess.CalledProcessError(1, command, stderr="no route to Galaxy")
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "ansible.whl", "w") as wheel:
            wheel.writestr("ansible_collections/other/core/MANIFEST.json", "{}")
            for path in (tmp_path / "wheel").rglob("*.*"):
                wheel.write(path, path.relative_to(tmp_path / "wheel"))

    monkeypatch.setattr(dependencies.subprocess, "run", run)
    found = dependencies.ensure()[NAME]
    assert dependencies.version_of(found) == "6.2.0"
    assert cache in found.parents
    assert not list(cache.rglob("other"))
    assert dependencies.ensure()[NAME] == found
    assert ran == ["ansible-galaxy", "python"]
    dependencies.copy(tmp_path / "here")
    assert (dependencies.below(tmp_path / "here", NAME) / "plugins" / "code.py").read_text(encoding="utf-8") == "6.2.0"
    dependencies.link(tmp_path / "tree")
    assert dependencies.below(tmp_path / "tree", NAME).resolve() == found


def test_a_copy_of_another_version_or_without_its_end_is_made_again(cache: Path, tmp_path: Path) -> None:
    put(tmp_path / "system", "4.0.0")
    old = put(tmp_path / "here", "3.0.0")
    (old / "gone").touch()
    dependencies.copy(tmp_path / "here")
    assert dependencies.version_of(old) == "4.0.0"
    assert not (old / "gone").exists()
    (old / "MANIFEST.json").unlink()
    dependencies.copy(tmp_path / "here")
    assert dependencies.version_of(old) == "4.0.0"


def test_a_failure_names_what_was_tried(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_options: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr=f"{Path(command[0]).name} is offline\n")

    monkeypatch.setattr(dependencies.subprocess, "run", run)
    with pytest.raises(dependencies.Missing, match=r"Galaxy: ansible-galaxy is offline; .*: python is offline; inst"):
        dependencies.ensure()
    assert not list(cache.rglob(".complete"))
