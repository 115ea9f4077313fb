# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake node's server, as far as an API server uses a kubelet's: exec, port-forward and logs, over WebSocket.

It runs commands of this machine. Only who has a certificate of the cluster, which is its API server, gets through.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import struct
from typing import Any, Protocol

from aiohttp import ClientConnectionResetError, WSMsgType, web
from containers import Container, Started
from processes import die_with_parent

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io")
STDIN, STDOUT, STDERR, STATUS = range(4)
CLOSE = 255
CHUNK = 1 << 15


class Node(Protocol):
    """What the server asks the fake node for."""

    def started(self, namespace: str, name: str) -> Started | None:
        """A pod, once its containers run."""

    def place(self, started: Started, port: int) -> tuple[str, int] | None:
        """Where a port of a pod really is on this machine."""

    def cut_after(self, started: Started) -> int | None:
        """After how many bytes a forwarded connection is cut; None where it isn't."""

    def command_environment(self, started: Started, container: str) -> dict[str, str]:
        """The environment of a command in a container."""

    def container_log(self, namespace: str, name: str, container: str, *, previous: bool) -> str | None:
        """A container's log; None where it hasn't started."""


class Kubelet:
    """Routes of the server."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.port = 0

    async def serve(self, context: ssl.SSLContext) -> web.AppRunner:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_route("*", "/exec/{namespace}/{pod}/{container}", self.exec)
        app.router.add_route("*", "/portForward/{namespace}/{pod}", self.port_forward)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self.logs)
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = int(runner.addresses[0][1])
        return runner

    def _started(self, request: web.Request) -> Started:
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]
        started = self._node.started(namespace, pod)
        if started is None:
            raise web.HTTPNotFound(text=f'pod does not run: "{namespace}/{pod}"')
        return started

    # --- logs ---

    async def logs(self, request: web.Request) -> web.Response:
        """The last ``tailLines`` of a container's log; ``follow`` ends at once."""
        info, query = request.match_info, request.query
        previous = query.get("previous") in ("true", "1")
        text = self._node.container_log(info["namespace"], info["pod"], info["container"], previous=previous)
        if text is None:
            which = "previous terminated container" if previous else "container"
            reason = "not found" if previous else "is waiting to start"
            message = f'{which} "{info["container"]}" in pod "{info["pod"]}" {reason}'
            raise web.HTTPBadRequest(text=message)
        lines = text.splitlines(keepends=True)
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :] if int(query["tailLines"]) else []
        return web.Response(text="".join(lines))

    # --- exec ---

    async def exec(self, request: web.Request) -> web.WebSocketResponse:
        """Run a command on this machine, with the environment and the files of the container."""
        started = self._started(request)
        name = request.match_info["container"]
        container = started.containers.get(name)
        if container is None:
            raise web.HTTPNotFound(text=f'container "{name}" not found')
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise web.HTTPBadRequest(text="the fake node speaks WebSocket alone, not SPDY")
        channel = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0)
        await channel.prepare(request)
        with contextlib.suppress(ClientConnectionResetError):
            await run(channel, request, container, self._node.command_environment(started, name), started)
        return channel

    # --- port-forward ---

    async def port_forward(self, request: web.Request) -> web.WebSocketResponse:
        """Ports of a pod, each a pair of channels: data, and errors in words."""
        started = self._started(request)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise web.HTTPBadRequest(text="the fake node speaks WebSocket alone, not SPDY")
        ports = [int(port) for port in request.query.getall("port", request.query.getall("ports", []))]
        channel = web.WebSocketResponse(protocols=PROTOCOLS[1:], max_msg_size=0)
        await channel.prepare(request)
        forwards = []
        for number, port in enumerate(ports):
            first = struct.pack("<H", port)
            await channel.send_bytes(bytes([2 * number]) + first)
            await channel.send_bytes(bytes([2 * number + 1]) + first)
            forwards.append(Forward(channel, 2 * number, port, request, self._node.cut_after(started)))
        for forward in forwards:
            await forward.open(self._node.place(started, forward.port), started)
        try:
            async for message in channel:
                if message.type == WSMsgType.BINARY and message.data and message.data[0] // 2 < len(forwards):
                    await forwards[message.data[0] // 2].send(message.data[1:])
        finally:
            for forward in forwards:
                forward.close()
        return channel


class Forward:
    """One port of one port-forward."""

    def __init__(
        self, channel: web.WebSocketResponse, number: int, port: int, request: web.Request, cut_after: int | None
    ) -> None:
        self._channel = channel
        self._number = number
        self._request = request
        self._cut_after = cut_after
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = port

    async def open(self, place: tuple[str, int] | None, started: Started) -> None:
        """Connect to where the port is; what is in the way goes to the channel of errors."""
        uid = started.pod["metadata"]["uid"]
        try:
            if place is None:
                raise ConnectionRefusedError(f"nothing of the test stack listens on port {self.port} of a pod")
            reader, self._writer = await asyncio.open_connection(*place)
        except OSError as error:
            reason = f"error forwarding port {self.port} to pod {uid}, uid : {error.strerror or error}"
            await self._channel.send_bytes(bytes([self._number + 1]) + reason.encode())
            await self._channel.close()
            return
        self._task = asyncio.create_task(self._back(reader))

    async def _back(self, reader: asyncio.StreamReader) -> None:
        passed = 0
        with contextlib.suppress(OSError, ClientConnectionResetError):
            while data := await reader.read(CHUNK):
                if self._cut_after is not None and passed + len(data) > self._cut_after:
                    await self._send(data[: self._cut_after - passed])
                    if self._request.transport:
                        self._request.transport.abort()
                    return
                passed += len(data)
                await self._send(data)
        await self._channel.close()

    async def _send(self, data: bytes) -> None:
        if data:
            await self._channel.send_bytes(bytes([self._number]) + data)

    async def send(self, data: bytes) -> None:
        """Pass on what the client sent."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.write(data)
                await self._writer.drain()

    def close(self) -> None:
        """The client is gone."""
        if self._writer is not None:
            self._writer.close()
        if self._task is not None:
            self._task.cancel()


async def run(
    channel: web.WebSocketResponse,
    request: web.Request,
    container: Container,
    environment: dict[str, str],
    started: Started,
) -> None:
    """One command, its streams on the channels, how it ended on the last one."""
    query = request.query
    wants_input = any(query.get(name) in ("1", "true") for name in ("input", "stdin"))
    process, failure = await start(container, query.getall("command"), environment, started, stdin=wants_input)
    if process is None:
        await say(channel, failure)
        return
    assert process.stdin and process.stdout and process.stderr
    stdin = process.stdin
    if not wants_input:
        stdin.close()

    async def back(reader: asyncio.StreamReader, number: int) -> None:
        while data := await reader.read(CHUNK):
            await channel.send_bytes(bytes([number]) + data)

    async def forth() -> None:
        async for message in channel:
            data = message.data.encode() if message.type == WSMsgType.TEXT else message.data
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY) or not data:
                continue
            if data[0] == CLOSE:
                stdin.close()
            elif data[0] == STDIN:
                with contextlib.suppress(OSError):
                    stdin.write(data[1:])
                    await stdin.drain()
        kill(process)  # the client is gone

    reading = asyncio.create_task(forth())
    try:
        await asyncio.gather(back(process.stdout, STDOUT), back(process.stderr, STDERR))
        await say(channel, ended(await process.wait()))
    finally:
        reading.cancel()
        kill(process)


async def start(
    container: Container, command: list[str], environment: dict[str, str], started: Started, *, stdin: bool
) -> tuple[asyncio.subprocess.Process | None, dict[str, Any]]:
    """The process, or what a kubelet says of one that can't be started."""
    words = [container.here(word) for word in command]
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=started.folder,
            preexec_fn=die_with_parent(os.getpid()),
        )
    except OSError as error:
        message = f'OCI runtime exec failed: exec: "{command[0]}": {error.strerror}'
        return None, {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}
    return process, {}


async def say(channel: web.WebSocketResponse, status: dict[str, Any]) -> None:
    await channel.send_bytes(bytes([STATUS]) + json.dumps(status).encode())
    await channel.close()


def ended(code: int) -> dict[str, Any]:
    """The closing status of a command, by its exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    code = 128 - code if code < 0 else code
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def kill(process: asyncio.subprocess.Process) -> None:
    """End a command with all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
