# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the collections that this one uses, or fetch them, and put them where a check looks.

They are those of ``requirements.yml``, and of ``tests/requirements/collections.yml``, which only some things need.

In this order: one that is installed on this machine, in a version that is allowed; what ansible-galaxy
finds on the Galaxy server that it is set up with; the pinned ``ansible`` wheel of the Python package index, which holds
them all. What was fetched lies in the cache outside the checkout, once for all checkouts.

    python3 tests/tools/dependencies.py FOLDER      copies them into FOLDER/ansible_collections
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import venvs

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.yml"
OPTIONAL = Path(__file__).resolve().parents[1] / "requirements" / "collections.yml"
WHEEL = "ansible==12.3.0"
PLACES = ("~/.ansible/collections", "/usr/share/ansible/collections")
MARKER = ".complete"
#: One entry of requirements.yml, as it is written there: a name, then a lower limit
ENTRY = re.compile(r"^ *- name: *([a-z0-9_]+\.[a-z0-9_]+)\n *version: *[\"']>=([\d.]+)[\"'] *$", re.MULTILINE)
#: ansible-galaxy tries again by itself, for long
GALAXY_SECONDS = 120


class Missing(Exception):
    """A collection that is needed is neither here nor to be had."""


def wanted() -> dict[str, tuple[int, ...]]:
    """The collections in both files, each with the oldest version that will do."""
    found = [entry for file in (REQUIREMENTS, OPTIONAL) for entry in ENTRY.findall(file.read_text(encoding="utf-8"))]
    return {name: numbers(version) for name, version in found}


def numbers(version: str) -> tuple[int, ...]:
    """``3.10.1-dev`` as (3, 10, 1), to be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0]))


def version_of(folder: Path) -> str:
    """The version of a collection that lies in a folder; empty where none does."""
    try:
        manifest = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
        return str(manifest["collection_info"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def below(root: Path, name: str) -> Path:
    """Where a collection lies under a collections path."""
    return root / "ansible_collections" / name.replace(".", "/")


def ensure() -> dict[str, Path]:
    """The folder of every collection that is needed, by name. Raises Missing with what was tried."""
    return {name: installed(name, oldest) or fetched(name, oldest) for name, oldest in wanted().items()}


def installed(name: str, oldest: tuple[int, ...]) -> Path | None:
    """A collection that the machine has, new enough, or None."""
    for place in PLACES:
        folder = below(Path(place).expanduser(), name)
        if numbers(version_of(folder)) >= oldest:
            return folder.resolve()
    return None


def fetched(name: str, oldest: tuple[int, ...]) -> Path:
    """A collection from the cache, where it is put from Galaxy or from the wheel."""
    made_from = "\0".join([name, ".".join(map(str, oldest)), WHEEL])
    root = venvs.cache_dir() / "collections"
    root.mkdir(parents=True, exist_ok=True)
    entry = root / f"{name}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"
    if not (entry / MARKER).exists():
        with open(f"{entry}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits here and then finds it ready
            if not (entry / MARKER).exists():
                fetch(name, oldest, entry)
    return below(entry, name)


def fetch(name: str, oldest: tuple[int, ...], entry: Path) -> None:
    """Fill an entry of the cache."""
    tried = []
    for what, way in (("Galaxy", from_galaxy), (f"the wheel {WHEEL}", from_wheel)):
        shutil.rmtree(entry, ignore_errors=True)
        entry.mkdir(parents=True)
        try:
            way(name, oldest, entry)
        except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            tried.append(f"{what}: {said[-1] if said else type(error).__name__}")
            continue
        found = version_of(below(entry, name))
        if numbers(found) >= oldest:
            (entry / MARKER).write_text("", encoding="utf-8")
            print(f"collection {name} {found}: from {what}", file=sys.stderr, flush=True)
            return
        tried.append(f"{what}: has {found or 'none'}")
    hint = f"install it where Ansible finds it, or make Galaxy or pip work on this machine (see {REQUIREMENTS.name})"
    raise Missing(f"collection {name} is needed and could not be had; " + "; ".join([*tried, hint]))


def from_galaxy(name: str, oldest: tuple[int, ...], entry: Path) -> None:
    """Let ansible-galaxy install the newest; raises CalledProcessError or TimeoutExpired where no server answers."""
    galaxy = venvs.ensure("main") / "bin" / "ansible-galaxy"
    limit = ".".join(map(str, oldest))
    command = [str(galaxy), "collection", "install", "--no-deps", "--timeout", "15", "-p", str(entry)]
    subprocess.run(
        [*command, f"{name}:>={limit}"],
        check=True,
        capture_output=True,
        text=True,
        timeout=GALAXY_SECONDS,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(entry), "ANSIBLE_NOCOLOR": "1"},
    )


def from_wheel(name: str, _oldest: tuple[int, ...], entry: Path) -> None:
    """Unpack one collection's folder from the wheel that holds all of them."""
    python = venvs.ensure("main") / "bin" / "python"
    with tempfile.TemporaryDirectory(dir=entry) as folder:
        command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
        subprocess.run(
            [*command, "--disable-pip-version-check", "--dest", folder, WHEEL],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            start = f"{below(Path(), name)}/"
            wheel.extractall(entry, [member for member in wheel.namelist() if member.startswith(start)])


def copy(root: Path) -> None:
    """Put every collection that is needed under a collections path, unless it is there in the same version."""
    for name, folder in ensure().items():
        target = below(root, name)
        if version_of(target) == version_of(folder):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        # Its manifest makes a collection whole: a copy that was cut off has none and is made again.
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("MANIFEST.json", "__pycache__"))
        shutil.copy2(folder / "MANIFEST.json", target)


def link(tree: Path) -> None:
    """Put a link to every collection that is needed into the link tree. See collection_tree.py."""
    for name, oldest in wanted().items():
        place = below(tree, name)
        if place.is_symlink() and numbers(version_of(place)) >= oldest:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            fresh = Path(folder) / "link"
            fresh.symlink_to(installed(name, oldest) or fetched(name, oldest))
            fresh.replace(place)


def main() -> int:
    """Copy them into the folder named."""
    parser = argparse.ArgumentParser(description="Put the collections that this one uses under a collections path.")
    parser.add_argument("folder", type=Path)
    try:
        copy(parser.parse_args().folder)
    except (Missing, venvs.Unavailable) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
