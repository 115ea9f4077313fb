# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in front of an API server, and drops connections.

    cutting_proxy.py KUBECONFIG COPY NAMESPACE

COPY becomes KUBECONFIG with the proxy's address. All connections pass until there is a new Job in the namespace, which
is the middle of a deploy; those that are open then go on. One more passes, that of whoever waits for the Job. From then
on each is reset when its client has sent its first request. It ends when COPY is deleted, or after five minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import struct
import sys
import time
from pathlib import Path

import kubernetes

SERVER = re.compile(r"server:\s*[\"']?https://([^:\s\"']+):(\d+)[\"']?")
#: More than a TLS handshake sends, less than that and a request.
HANDSHAKE = 900
#: With this, closing a socket resets its connection.
RESET = struct.pack("ii", 1, 0)
#: Connections that pass once the Job is there.
LAST = 1


class Proxy:
    """Lets connections pass, or resets them."""

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        #: How many may still pass; None while all may.
        self.left: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        passes = self.left is None or self.left > 0
        if self.left is not None:
            self.left -= 1
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(*self._place)
            tasks = [
                asyncio.create_task(self._copy(reader, back, None if passes else HANDSHAKE)),
                asyncio.create_task(self._copy(there, writer, None)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            if not passes:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            back.close()
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                passed += len(data)
                if limit is not None and passed > limit:
                    return
                writer.write(data)
                await writer.drain()


async def main() -> None:
    original, copy, namespace = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    text = original.read_text(encoding="utf-8")
    found = SERVER.search(text)
    if not found:
        raise SystemExit(f"{original} names no server")
    jobs = kubernetes.client.BatchV1Api(kubernetes.config.new_client_from_config(str(original)))

    def there() -> set[str]:
        return {one.metadata.uid for one in jobs.list_namespaced_job(namespace).items}

    proxy, before = Proxy(found[1], int(found[2])), there()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    os.umask(0o077)
    fresh = copy.with_name(copy.name + ".new")
    fresh.write_text(SERVER.sub(f"server: https://127.0.0.1:{port}", text), encoding="utf-8")
    fresh.replace(copy)
    end = time.monotonic() + 300
    while copy.exists() and time.monotonic() < end:
        if proxy.left is None and await asyncio.to_thread(there) - before:
            proxy.left = LAST
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
