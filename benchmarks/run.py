# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks of the collection, side by side with bare clients, on a stack of their own.

make bench                                    everything, at the sizes of the bars
make bench ARGS='keys --sizes 100'            one subject, smaller
make bench ARGS='catalogue --items 2000 --repeat 1'
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from benchmarks import catalogue, cleanup, deploy, keys, models, status, workshop  # noqa: E402
from benchmarks.figures import Figure, table  # noqa: E402
from benchmarks.lab import BenchError, Lab, stack  # noqa: E402

SUBJECTS = ("deploy", "keys", "workshop", "cleanup", "status", "models", "catalogue")


def measure(lab: Lab, options: argparse.Namespace) -> Iterator[Figure]:
    # Always in this order: the catalogue fills the proxy with deployments, which slows everything after it.
    for subject in (one for one in SUBJECTS if one in (options.subjects or SUBJECTS)):
        print(f"\n{subject}", file=sys.stderr, flush=True)
        if subject == "deploy":
            yield from deploy.measure(lab, options.repeat)
        elif subject == "keys":
            yield from keys.measure(lab, options.sizes, options.repeat, options.items)
        elif subject == "workshop":
            yield from workshop.measure(lab, options.sizes, options.repeat)
        elif subject == "cleanup":
            yield from cleanup.measure(lab, options.stored, options.repeat)
        elif subject == "status":
            yield from status.measure(lab, options.stored, options.repeat)
        elif subject == "models":
            yield from models.measure(lab, options.models, options.repeat)
        else:
            yield from catalogue.measure(lab, options.items, options.repeat)


def machine() -> str:
    """How large this machine is; never its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.machine()}, Python {platform.python_version()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="default: all", metavar="|".join(SUBJECTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="numbers of keys (100 1000)")
    parser.add_argument("--models", type=int, default=100, help="number of models (100)")
    parser.add_argument("--items", type=int, default=10000, help="size of the large runs (10000)")
    parser.add_argument("--stored", type=int, default=100000, help="keys in the store of cleanup and status (100000)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds, of which the median counts (3)")
    parser.add_argument("--json", type=Path, default=CHECKOUT / ".cache" / "benchmarks.json", help="where results go")
    parser.add_argument("--keep-stack", action="store_true", help="leave the stack in .stack-bench running")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the stack is taken down then, too
    figures: list[Figure] = []
    failure, started = "", time.time()
    version = ""
    try:
        with stack(options.keep_stack) as lab:
            version = lab.version
            sys.path.insert(0, str(lab.collections))
            for figure in measure(lab, options):
                figures.append(figure)
    except BenchError as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "interrupted"
    head = f"{time.strftime('%Y-%m-%d', time.gmtime(started))}, LiteLLM {version}, {machine()}"
    print(f"\n{head}; {time.time() - started:.0f} s\n")
    print(table(figures))
    report = {"head": head, "figures": [figure.as_json() for figure in figures], "failure": failure}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    missed = [figure.what for figure in figures if figure.passed is False]
    if failure:
        print(f"\nStopped: {failure}")
    elif missed:
        print(f"\nMissed: {'; '.join(missed)}")
    else:
        print("\nEvery bar is kept")
    return 1 if failure or missed else 0


if __name__ == "__main__":
    sys.exit(main())
