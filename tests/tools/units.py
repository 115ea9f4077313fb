# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the unit tests on every ansible-core that is supported, or say which one this machine cannot run.

python3 tests/tools/units.py [pytest arguments]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import collection_tree
import venvs

MATRIX = {"unit-2.16": "ansible-core 2.16", "main": "ansible-core 2.19", "unit-newest": "the newest ansible-core"}
VERSIONS = (
    "import importlib.metadata as m, platform; "
    "print('ansible-core', m.version('ansible-core'), 'on Python', platform.python_version())"
)


def main() -> int:
    """Exit with the first failing pytest's code."""
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collection_tree.ensure())}
    environment.pop("PYTHONPATH", None)  # somebody else's packages would hide what is pinned
    missing = []
    for name, meaning in MATRIX.items():
        try:
            python = venvs.ensure(name) / "bin" / "python"
        except venvs.Unavailable as error:
            missing.append(f"NOT RUN: units on {meaning}: {error}")
            print(missing[-1], flush=True)
            continue
        versions = subprocess.run([python, "-c", VERSIONS], check=True, capture_output=True, text=True).stdout.strip()
        print(f"units: {versions}", flush=True)
        command = [str(python), "-m", "pytest", *(sys.argv[1:] or ["tests/unit"])]
        done = subprocess.run(command, cwd=collection_tree.CHECKOUT, env=environment, check=False)
        if done.returncode:
            print(f"units: failed on {versions}", file=sys.stderr)
            return done.returncode
    print("\n".join(missing), flush=True)
    return 1 if len(missing) == len(MATRIX) else 0


if __name__ == "__main__":
    sys.exit(main())
