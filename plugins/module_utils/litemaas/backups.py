# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups that lie in a folder, by their manifests: what there is, whether it is whole, what need not stay."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import retention
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.dump import DumpError, readable_size

#: A manifest's name; what else is in a folder is none of ours.
MANIFEST = re.compile(r"^(?P<name>.+)-\d{8}T\d{6}\.\d{6}Z\.json$")
CHUNK = 1 << 20


@dataclass
class Found:
    """A backup.

    Attributes:
        path: of the manifest; its name alone where it lies elsewhere.
        trouble: what is missing or damaged; none means complete.
    """

    path: str
    manifest: Mapping[str, Any] = field(repr=False)
    trouble: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return Path(self.path).stem

    @property
    def files(self) -> list[str]:
        """Names of its files, the manifest last."""
        keys = [self.manifest["keys"]["file"]] if self.manifest.get("keys") else []
        return [*(one["file"] for one in self.manifest["databases"]), *keys, Path(self.path).name]

    @property
    def series(self) -> str:
        """Backups of the same deployment and of the same databases."""
        names = ",".join(sorted(str(one["database"]) for one in self.manifest["databases"]))
        start = MANIFEST.match(Path(self.path).name)
        place = self.manifest.get("namespace") or self.manifest.get("source")
        return f"{start['name'] if start else ''} {place} {names}"

    def kept(self) -> retention.Kept:
        keys = bool(self.manifest.get("keys"))
        return retention.Kept(self.name, str(self.manifest["time"]), self.series, not self.trouble, keys)

    def shown(self) -> dict[str, Any]:
        """For a module's result."""
        manifest = self.manifest
        size = sum(int(one["size"]) for one in manifest["databases"])
        return {
            "name": self.name,
            "manifest": self.path,
            "time": manifest["time"],
            "size": size,
            "readable_size": readable_size(size),
            "namespace": manifest.get("namespace"),
            "source": manifest["source"],
            "databases": [
                {
                    "database": one["database"],
                    "file": one["file"],
                    "size": one["size"],
                    "server_version": one["server_version"],
                    "rows": sum((one.get("rows") or {}).values()) if one.get("rows") else None,
                }
                for one in manifest["databases"]
            ],
            "images": manifest.get("images") or {},
            "keys": (manifest.get("keys") or {}).get("file"),
            "complete": not self.trouble,
            "trouble": self.trouble,
            "files": self.files,
        }


def in_folder(path: str, present: Collection[str] | None = None, verify: bool = False) -> tuple[list[Found], list[str]]:
    """Every backup of a folder, newest first, and files that look like manifests and are none.

    Args:
        present: names of the files that are there, where only the manifests are in the folder.
        verify: reads every file, and compares it with its checksum.

    Raises:
        DumpError: the folder can't be read.
    """
    folder = Path(path).expanduser()
    try:
        files = sorted(one for one in folder.iterdir() if MANIFEST.match(one.name))
    except OSError as failure:
        raise DumpError(
            f"Read {folder}", str(failure.strerror or failure), "Check path: the folder of the backups"
        ) from None
    found, strange = [], []
    for file in files:
        try:
            found.append(read(str(file), present, verify))
        except DumpError as failure:
            strange.append(str(failure))
    return sorted(found, key=lambda one: (one.manifest["time"], one.name), reverse=True), strange


def read(path: str, present: Collection[str] | None = None, verify: bool = False) -> Found:
    """A backup by its manifest. Raises DumpError where that is none of ours."""
    file = Path(path).expanduser()
    attempt = f"Read the manifest {file}"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except OSError as failure:
        raise DumpError(attempt, str(failure.strerror or failure), "Give the path of a backup's .json file") from None
    except ValueError:
        raise DumpError(attempt, "it is no JSON", "Give the path of a backup's .json file") from None
    found = Found(str(file), manifest)
    _check_form(attempt, file, manifest)
    there = None if present is None else set(present)
    keys = manifest.get("keys")
    for one in [*manifest["databases"], *([keys] if keys else [])]:
        trouble = _trouble(file.parent / one["file"], one, there, verify)
        if trouble:
            found.trouble.append(f"{one['file']} {trouble}")
    return found


def _check_form(attempt: str, file: Path, manifest: Any) -> None:
    """Whether a manifest is ours, and names nothing outside of its folder. Raises DumpError."""
    try:
        known = bool(retention.Kept(file.stem, manifest["time"]).moment)
        named = [*manifest["databases"], *([manifest["keys"]] if manifest.get("keys") else [])]
        stem = file.stem
        known = known and manifest["format"] == "pg_dump custom" and bool(manifest["databases"])
        for one in named:
            known = known and "/" not in one["file"] and one["file"].startswith(f"{stem}-")
            known = known and isinstance(one["size"], int) and isinstance(one["sha256"], str)
        known = known and all(one["database"] and one["server_version"] for one in manifest["databases"])
        known = known and Path(manifest["manifest"]).name == file.name and "source" in manifest
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise DumpError(attempt, "it is no manifest of a backup of this collection", "Nothing was done with it")


def _trouble(file: Path, one: Mapping[str, Any], present: set[str] | None, verify: bool) -> str:
    if present is not None:
        return "" if one["file"] in present else "is missing"
    try:
        size = file.stat().st_size
        if size != one["size"]:
            return f"has {size} bytes of {one['size']}"
        return "is not what was written (sha256)" if verify and sha256(file) != one["sha256"] else ""
    except FileNotFoundError:
        return "is missing"
    except OSError as failure:
        return f"can't be read: {failure.strerror}"


def sha256(file: Path) -> str:
    """Checksum of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while data := content.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def to_prune(found: Sequence[Found], daily: int, monthly: int) -> list[Found]:
    """Backups that need not stay, oldest first. Raises ValueError."""
    gone = retention.goes([one.kept() for one in found], daily, monthly)
    by_name = {one.name: one for one in found}
    return [by_name[name] for name in gone]


def remove(one: Found) -> None:
    """Delete a backup's files. The manifest goes first: what is left of an interrupted removal is no backup.

    Raises DumpError.
    """
    folder = Path(one.path).parent
    for name in reversed(one.files):
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as failure:
            raise DumpError(
                f"Delete {folder / name}", str(failure.strerror or failure), "Delete it by hand, or run it again"
            ) from None


def sentence(found: Sequence[Found], place: str, strange: Sequence[str] = (), unchecked: str = "") -> str:
    """``2 backups in /srv/backups, the newest of …; 1 is not complete: …; checksums were not compared (…)``.

    Args:
        strange: see :func:`in_folder`.
        unchecked: what was not looked at, which the line ends with.
    """
    end = f"; {unchecked}" if unchecked and found else ""
    lost = f"{strange[0]}{f', and {len(strange) - 1} more like it' if len(strange) > 1 else ''}" if strange else ""
    if not found:
        return f"No backup in {place}{f'; {lost}' if lost else ''}"
    broken = [one for one in found if one.trouble]
    text = f"{len(found)} backup{'s' if len(found) > 1 else ''} in {place}, the newest of {found[0].manifest['time']}"
    if broken:
        named = f"{broken[0].name} ({broken[0].trouble[0]}){' and others' if len(broken) > 1 else ''}"
        text += f"; {len(broken)} {'are' if len(broken) > 1 else 'is'} not complete: {named}"
    return f"{text}{f'; {lost}' if lost else ''}{end}"


def unchecked(present: bool, verify: bool) -> str:
    """What :func:`in_folder` has not looked at, and what does."""
    if present:
        return "sizes and checksums were not compared (test_restore does)"
    return "" if verify else "checksums were not compared (verify=true does)"


def whole(found: Sequence[Found], strange: Sequence[str]) -> bool:
    """Whether there is a backup, and nothing is the matter with any."""
    return bool(found) and not strange and not any(one.trouble for one in found)
