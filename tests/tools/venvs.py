# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make, or find again, the virtual environments of the checks.

An environment is keyed by the content of its requirements and by its Python, lies in the cache outside the checkout,
and is shared by every checkout that asks for the same. It is whole or it is made again: ``.complete`` is written last.

    python3 tests/tools/venvs.py lint       makes it where it is missing, and prints its path
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pythons

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
MARKER = ".complete"
INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[ =]?\s*(\S+)", re.MULTILINE)


class Environment(NamedTuple):
    """What one environment is made of: files in tests/requirements, and the Pythons it may have, best first."""

    files: tuple[str, ...]
    pythons: tuple[str, ...]


# Few on purpose: each costs 20 to 30 s on a cold cache.
ENVIRONMENTS = {
    "lint": Environment(("lint.txt",), ("3.11", "3.12", "3.13")),
    # what people run (.venv), integration tests, molecule, sanity, and the units on ansible-core 2.19
    "main": Environment(("integration.txt", "molecule.txt"), ("3.11", "3.12", "3.13")),
    # boto3 and a stand-in for S3, for the tests of backups there
    "s3": Environment(("s3.txt",), ("3.11", "3.12", "3.13")),
    "unit-2.16": Environment(("ansible-2.16.txt", "unit.txt"), ("3.11", "3.12", "3.10")),
    "unit-newest": Environment(("ansible-newest.txt", "unit.txt"), ("3.14", "3.13", "3.12")),
}


class Unavailable(Exception):
    """This machine has no Python that the environment can have."""


def cache_dir() -> Path:
    """Where everything downloaded or built lies: never in the checkout, never in git."""
    chosen = os.environ.get("RHPDS_LITEMAAS_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().resolve() / "rhpds-litemaas"


def contents(requirements: Iterable[Path]) -> list[str]:
    """The text of the requirement files and of every file they include, each once, in reading order."""
    texts: dict[Path, str] = {}
    pending = [path.resolve() for path in requirements]
    while pending:
        path = pending.pop(0)
        if path not in texts:
            texts[path] = path.read_text(encoding="utf-8")
            pending += [(path.parent / name).resolve() for name in INCLUDE.findall(texts[path])]
    return list(texts.values())


def key(requirements: Iterable[Path], python: pythons.Python) -> str:
    """A short hash that changes when what would be installed, or what it would run on, changes."""
    parts = [*contents(requirements), platform.machine(), python.prefix, ".".join(map(str, python.version))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def ensure(name: str) -> Path:
    """The environment's folder, made if it is missing or was left half made.

    Raises Unavailable where no Python fits, CalledProcessError when pip fails.
    """
    environment = ENVIRONMENTS[name]
    requirements = [REQUIREMENTS / file for file in environment.files]
    python = pythons.find_first(environment.pythons)
    if python is None:
        raise Unavailable(f"venv {name}: needs Python {' or '.join(environment.pythons)} with venv, ensurepip and ssl")
    home = cache_dir() / "venvs"
    home.mkdir(parents=True, exist_ok=True)
    target = home / f"{name}-py{python.minor}-{key(requirements, python)}"
    if (target / MARKER).exists():
        return target
    with open(f"{target}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits here and then finds it ready
        if not (target / MARKER).exists():
            build(name, python, requirements, target)
    return target


def build(name: str, python: pythons.Python, requirements: list[Path], target: Path) -> None:
    """Make the environment in its final place (venvs cannot be moved) and mark it when it is whole."""
    started = time.monotonic()
    print(f"venv {name}: making it with Python {'.'.join(map(str, python.version))} …", file=sys.stderr, flush=True)
    shutil.rmtree(target, ignore_errors=True)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-input"]  # errors only
    for path in requirements:
        pip += ["-r", str(path)]
    for command in ([python.path, "-m", "venv", str(target)], pip):
        # pip's words on stdout would end up in the caller's $(…), and belong with the progress anyway
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    (target / MARKER).write_text("", encoding="utf-8")
    print(f"venv {name}: ready in {time.monotonic() - started:.0f} s ({target})", file=sys.stderr, flush=True)


def main() -> int:
    """Print the path of the environment asked for."""
    parser = argparse.ArgumentParser(description="Make or find a virtual environment and print its path.")
    parser.add_argument("name", choices=sorted(ENVIRONMENTS))
    name = parser.parse_args().name
    try:
        print(ensure(name))
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"venv {name}: exit {error.returncode} from: {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
