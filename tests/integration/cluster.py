# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much of a Kubernetes API server as a port-forward needs: pods, Secrets, and a pod's port over WebSocket.

The protocol is the one of a kubelet's ``/portForward``, which an API server passes through unchanged.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
import threading
import urllib.parse
from types import TracebackType
from typing import Any

from aiohttp import WSMsgType, web

DATA, ERROR = b"\0", b"\1"


async def port_forward(request: web.Request, place: tuple[str, int]) -> web.WebSocketResponse:
    """One port of a pod, which here is a place on this machine: the first channel is data, the second errors."""
    channel = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
    await channel.prepare(request)
    number = struct.pack("<H", int(request.query.get("ports") or request.query["port"]))
    await channel.send_bytes(DATA + number)
    await channel.send_bytes(ERROR + number)
    try:
        reader, writer = await asyncio.open_connection(*place)
    except OSError as failure:
        await channel.send_bytes(ERROR + f"error forwarding port to pod: {failure.strerror}".encode())
        await channel.close()
        return channel

    async def back() -> None:
        while data := await reader.read(1 << 15):
            await channel.send_bytes(DATA + data)
        await channel.close()

    task = asyncio.ensure_future(back())
    async for message in channel:
        if message.type == WSMsgType.BINARY and message.data[:1] == DATA:
            writer.write(message.data[1:])
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await task
    return channel


class Cluster:
    """An API server with one token. A context manager; ``objects`` is what it has, by path below the namespace."""

    def __init__(self, token: str, objects: dict[str, Any], place: tuple[str, int]) -> None:
        self.token, self.objects, self.place = token, objects, place
        self.url = ""
        self.forwarded = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        path = request.match_info["path"]
        pod = path.removesuffix("/portforward")
        if pod not in self.objects:
            return web.json_response({"message": f'"{path}" not found'}, status=404)
        if pod == path:
            return web.json_response(self.objects[path])
        self.forwarded += 1
        return await port_forward(request, self.place)

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{path:.+}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def __enter__(self) -> Cluster:
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def cluster_of(dsn: str) -> Cluster:
    """A cluster where a database runs in ``ns1/db-0``, with its credentials, and in ``ns1/bare-0``, without."""
    parts = urllib.parse.urlsplit(dsn)
    password = base64.b64encode(urllib.parse.unquote(str(parts.password)).encode()).decode()
    user = {"name": "POSTGRES_USER", "value": str(parts.username)}
    objects: dict[str, Any] = {"ns1/secrets/db": {"data": {"password": password}}}
    for pod, key, env in (("db-0", "password", [user]), ("bare-0", "nothing", [])):
        reference = {"secretKeyRef": {"name": "db", "key": key}}
        variables = [*env, {"name": "POSTGRES_PASSWORD", "valueFrom": reference}]
        containers = [{"name": "sidecar"}, {"name": "postgresql", "env": variables}]
        objects[f"ns1/pods/{pod}"] = {"spec": {"containers": containers}}
    return Cluster("token-of-the-cluster", objects, (str(parts.hostname), int(parts.port or 5432)))
