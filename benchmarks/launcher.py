# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module's file as Ansible does on a host, and notes the most memory that the process ever held.

    python benchmarks/launcher.py MODULE.py < arguments.json       BENCH_PEAK names the file to write the peak to, in kB

The peak is the kernel's VmHWM. Unlike ru_maxrss, it starts from nothing in a new program, however large its parent.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
from pathlib import Path


def peak_kb() -> int:
    """The largest resident set of this process so far, in kB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def main() -> None:
    sys.path.pop(0)  # this folder: nothing of ours is the module's business
    sys.argv.pop(0)
    place = os.environ.pop("BENCH_PEAK", "")
    if place:
        atexit.register(lambda: Path(place).write_text(str(peak_kb()), encoding="ascii"))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
