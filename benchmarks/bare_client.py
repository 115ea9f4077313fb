# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bare client: one POST a body and nothing else, over kept-alive connections. What ours is measured against.

    python benchmarks/bare_client.py < {"url", "key", "path", "bodies", "connections": 8}

Prints how long the calls alone took, and how many were answered with 200.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

CONNECTIONS = 8


def main() -> None:
    work = json.load(sys.stdin)
    url, local = work["url"] + work["path"], threading.local()

    def call(body: dict[str, Any]) -> int:
        session = getattr(local, "session", None)
        if session is None:
            session = local.session = requests.Session()
            session.headers["Authorization"] = f"Bearer {work['key']}"
        answer = session.post(url, json=body, timeout=60)
        answer.json()
        return int(answer.status_code)

    with ThreadPoolExecutor(work.get("connections", CONNECTIONS)) as pool:
        started = time.perf_counter()
        statuses = list(pool.map(call, work["bodies"]))
        seconds = time.perf_counter() - started
    json.dump({"seconds": seconds, "accepted": statuses.count(200)}, sys.stdout)


if __name__ == "__main__":
    main()
