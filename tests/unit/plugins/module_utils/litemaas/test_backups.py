# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups in a folder: whether they are whole, whose they are, and what a removal leaves."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import backups
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.dump import DumpError

TIME, STEM = "2026-01-01T03:00:00Z", "litemaas-20260101T030000.000000Z"


def put(folder: Path, stem: str = STEM, **more: Any) -> Path:
    """A backup's files; its manifest."""
    files = {"database": f"{stem}-litemaas_db.dump", "keys": f"{stem}-keys.vault"}
    entries = {}
    for what, name in files.items():
        data = f"{what} of {stem}".encode()
        (folder / name).write_bytes(data)
        entries[what] = {"file": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {
        "time": TIME,
        "format": "pg_dump custom",
        "manifest": f"/elsewhere/{stem}.json",
        "source": "maas/litellm-postgres-0",
        "namespace": "maas",
        "databases": [{**entries["database"], "database": "litemaas_db", "server_version": "16"}],
        "keys": entries["keys"],
        **more,
    }
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["litemaas_db.dump", "keys.vault"])
def test_a_backup_is_whole_with_every_file_as_it_was_written(tmp_path: Path, name: str) -> None:
    path, file = str(put(tmp_path)), tmp_path / f"{STEM}-{name}"
    assert backups.read(path, verify=True).trouble == []
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"?")
    assert backups.read(path).trouble == []
    assert backups.read(path, verify=True).trouble == [f"{file.name} is not what was written (sha256)"]
    file.write_bytes(content[:-1])
    assert backups.read(path).trouble == [f"{file.name} has {len(content) - 1} bytes of {len(content)}"]
    file.unlink()
    (trouble,) = backups.read(path).trouble
    assert trouble == f"{file.name} is missing"
    assert backups.read(path).kept().complete is False
    assert backups.read(path, present=[one.name for one in tmp_path.iterdir()]).trouble == [trouble]


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "plain"},
        {"databases": []},
        {"time": "yesterday"},
        {"manifest": "/elsewhere/other.json"},
        {"keys": {"file": f"{STEM}-/../../precious", "size": 1, "sha256": ""}},
        {"keys": {"file": "somebodys", "size": 1, "sha256": ""}},
        {"keys": {"file": f"{STEM}-keys.vault", "size": "1", "sha256": ""}},
    ],
)
def test_what_names_anything_else_is_no_manifest(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = put(tmp_path, **wrong)
    with pytest.raises(DumpError, match="no manifest of a backup of this collection"):
        backups.read(str(path))
    assert backups.in_folder(str(tmp_path))[0] == [] and len(backups.in_folder(str(tmp_path))[1]) == 1


def test_backups_of_other_deployments_and_of_other_databases_are_no_reason_to_go(tmp_path: Path) -> None:
    def stem(day: int, name: str = "litemaas") -> str:
        return f"{name}-202601{day:02}T030000.000000Z"

    def of(day: int) -> dict[str, str]:
        return {"time": f"2026-01-{day:02}T03:00:00Z"}

    put(tmp_path, stem(1), **of(1))
    put(tmp_path, stem(2), namespace="other", **of(2))
    put(tmp_path, stem(3, "lab"), **of(3))
    databases = json.loads(put(tmp_path, stem(4), **of(4)).read_text(encoding="utf-8"))["databases"]
    put(tmp_path, stem(4), databases=[{**databases[0], "database": "litellm_db"}], **of(4))
    found, _strange = backups.in_folder(str(tmp_path))
    assert len(found) == 4 and backups.to_prune(found, 1, 0) == []
    put(tmp_path, stem(5), **of(5))
    found, _strange = backups.in_folder(str(tmp_path))
    assert [one.name for one in backups.to_prune(found, 1, 0)] == [stem(1)] and found[0].name == stem(5)


def test_what_an_interrupted_removal_leaves_is_no_backup(tmp_path: Path) -> None:
    one = backups.read(str(put(tmp_path)))
    dump = tmp_path / one.files[0]
    dump.unlink()
    dump.mkdir()  # can't be unlinked
    with pytest.raises(DumpError, match=f"Delete {dump}: "):
        backups.remove(one)
    assert [path.name for path in tmp_path.iterdir()] == [dump.name]
    dump.rmdir()
    one = backups.read(str(put(tmp_path)))
    backups.remove(one)
    assert not list(tmp_path.iterdir())
