# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Chromium for tests of pages: the machine's own, else Debian's package.

python3 tests/stack/chromium.py      where it is; it is installed where it is missing
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from processes import run
from progress import StackError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "chromium"
HINT = (
    "install Chromium, or name one in CHROMIUM; ALLOW_MISSING=browser goes on without, and names the tests"
    " that don't run"
)


def find(env: Mapping[str, str] | None = None) -> Path | None:
    """A Chromium that starts, or None. Raises StackError where CHROMIUM names one that doesn't."""
    env = os.environ if env is None else env
    named = env.get("CHROMIUM")
    if named:
        if not starts(named):
            raise StackError(f"CHROMIUM={named} doesn't start", hint=HINT)
        return Path(named)
    for name in NAMES:
        found = shutil.which(name, path=env.get("PATH", os.defpath))
        if found and starts(found):
            return Path(found)
    return None


def starts(program: str) -> bool:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0 and b"hrom" in done.stdout


def provide(log: Path) -> Path:
    """A Chromium, installed by apt-get where the machine has none and we may. Raises StackError."""
    found = find()
    if found:
        return found
    apt = shutil.which("apt-get")
    if not apt or os.geteuid():
        raise StackError("there is no Chromium, and it can't be installed here: that takes apt-get and root", hint=HINT)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another one may be at work; lists may be old.
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    run("reading the package lists", [apt, *wait, "update"], log=log, env=env, hint=HINT)
    install = [apt, *wait, "install", "--yes", "--no-install-recommends", PACKAGE, "fonts-dejavu-core"]
    run("installing Chromium", install, log=log, env=env, hint=HINT)
    found = find()
    if not found:
        raise StackError("Chromium was installed and doesn't start", log=log, hint=HINT)
    return found


if __name__ == "__main__":
    try:
        print(provide(Path(os.environ.get("TMPDIR", "/tmp")) / "chromium-install.log"))
    except StackError as error:
        sys.exit(str(error))
