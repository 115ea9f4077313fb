# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the Python interpreters of this machine that can make a venv.

A name on PATH proves nothing: a pyenv shim answers to ``python3.13`` and then refuses to run, a distribution's Python
may come without ``ensurepip``. So every candidate is started and asked what it is.

    python3 tests/tools/pythons.py 3.14 3.13 3.12      prints the first one that works, exit 1 when none does
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

# Importing ensurepip and ssl is the test: a venv without pip, or a pip without TLS, installs nothing.
PROBE = (
    "import ensurepip, json, ssl, sys, venv; "
    "print(json.dumps([list(sys.version_info[:3]), sys.version_info.releaselevel, sys.executable, sys.base_prefix]))"
)


class Python(NamedTuple):
    """An interpreter that runs: its path, its version such as (3, 11, 7), and the installation it belongs to."""

    path: str
    version: tuple[int, int, int]
    prefix: str

    @property
    def minor(self) -> str:
        """The version as people name it: ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"


def probe(candidate: str) -> Python | None:
    """Start the candidate; None when it does not run, is a pre-release or cannot make a venv."""
    try:
        command = [candidate, "-I", "-c", PROBE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, stdin=subprocess.DEVNULL)
        version, level, path, prefix = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if level != "final":
        return None
    return Python(path, (version[0], version[1], version[2]), prefix)


def candidates(minor: str) -> Iterator[str]:
    """Paths that may be Python ``minor`` (such as ``3.11``), the likeliest first."""
    yield sys.executable
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in (f"python{minor}", "python3"):
            found = shutil.which(name, path=folder or ".")
            if found:
                yield found
    # pyenv's shims run only the version that is switched on, so ask pyenv where each installed version lies.
    pyenv = shutil.which("pyenv")
    if pyenv:
        listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False)
        for version in reversed(listed.stdout.split()):
            if version == minor or version.startswith(f"{minor}."):
                prefix = subprocess.run([pyenv, "prefix", version], capture_output=True, text=True, check=False)
                if prefix.returncode == 0:
                    yield str(Path(prefix.stdout.strip()) / "bin" / f"python{minor}")


def find(minor: str) -> Python | None:
    """The first interpreter of this minor version that works, or None."""
    seen = set()
    for candidate in candidates(minor):
        if candidate not in seen:
            seen.add(candidate)
            python = probe(candidate)
            if python and python.minor == minor:
                return python
    return None


def find_first(minors: Iterable[str]) -> Python | None:
    """The first of the wanted minor versions, in the order given, that this machine has."""
    return next((python for minor in minors if (python := find(minor))), None)


def main() -> int:
    """Print the path of the first wanted version found."""
    parser = argparse.ArgumentParser(description="Print the path of the first of these versions that works here.")
    parser.add_argument("minor", nargs="+", help="such as 3.11")
    wanted = parser.parse_args().minor
    python = find_first(wanted)
    if python is None:
        print(f"no working Python {' or '.join(wanted)} on this machine", file=sys.stderr)
        return 1
    print(python.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
