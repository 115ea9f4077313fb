# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One sync of the catalogue's database part in a process of its own: entries of /model/info in, rows out.

    python benchmarks/catalogue_worker.py < {"dsn", "entries", "count", "prefix"}

Prints the seconds of the run (the entries are in memory before, as after reading the proxy's answer), the most memory
that the process held, and what happened to the rows.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.launcher import peak_kb


def repeated(entries: list[dict[str, Any]], prefix: str, count: int) -> list[dict[str, Any]]:
    """As many deployments as asked for, each an object of its own, like those that were recorded."""
    out = []
    for number in range(count):
        one = copy.deepcopy(entries[number % len(entries)])
        one["model_name"] = f"{prefix}{number}"
        one["model_info"]["id"] = f"{prefix}id-{number}"
        out.append(one)
    return out


def main() -> None:
    from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database, sync

    work = json.load(sys.stdin)
    read = repeated(work["entries"], work["prefix"], work["count"])
    connection = database.connect(work["dsn"])
    run = sync.CatalogSync(connection, sync.Options(sync_all=True), lambda: read, list)
    started = time.perf_counter()
    outcome = run.run()
    seconds = time.perf_counter() - started
    connection.close()
    json.dump({"seconds": seconds, "peak_mb": peak_kb() / 1024, "summary": outcome.summary}, sys.stdout)


if __name__ == "__main__":
    main()
