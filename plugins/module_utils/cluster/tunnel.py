# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database that only its pod's network reaches, through the Kubernetes API server's port-forward.

Connections arrive in the pod from its own loopback address, which PostgreSQL's images let in without a password. So the
near end is a Unix socket in a folder of our own, not a port that any local user could connect to.

It is carried by a process of its own, a child that ends with us: psycopg2 holds Python's lock while COPY waits for room
to write, and a thread would wait for that lock for ever. The Python client's own port-forward is not used: when the API
server drops the connection, its thread ends with a traceback and leaves the near end open.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    TIMEOUT,
    ClusterError,
    advice,
    is_from_cluster,
    library,
    spoken,
    words,
)

PORT = 5432
RIGHTS = "get on pods and secrets, and create and get on pods/portforward"
#: Seconds of silence after which something is sent: load balancers end what is silent for a minute or more.
KEEPALIVE = 20
#: Bytes read at once.
CHUNK = 1 << 16
#: A forwarded port's two channels: what the port says, and what the node says of it.
DATA, ERROR = b"\0", b"\1"
# Of the WebSocket protocol.
BINARY, CLOSE = 2, 8


class PodPort:
    """A port of a pod.

    Args:
        api: see :meth:`~.client.Cluster.api`; nobody else's, as connecting changes it for a moment.
        pod: the pod's name.
    """

    def __init__(self, api: Any, namespace: str, pod: str, port: int = PORT) -> None:
        self.api, self.namespace, self.pod, self.port = api, namespace, pod, port
        self.name = f"pod {namespace}/{pod}"
        self._connecting = threading.Lock()
        #: To the other process. It hears of our end, and tells us of troubles.
        self._line: socket.socket | None = None
        self._told = b""

    @contextmanager
    def opened(self) -> Iterator[str]:
        """Gives the folder of the Unix socket, for libpq's ``host``; open until the end of the block."""
        library("kubernetes.stream")  # not by each child anew; an error is ours to raise
        with tempfile.TemporaryDirectory(prefix="rhpds-") as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(Path(folder) / f".s.PGSQL.{self.port}"))
            listener.listen()
            ours, theirs = socket.socketpair()
            child = os.fork()
            if not child:
                try:
                    ours.close()
                    self._line = theirs
                    threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
                    theirs.recv(1)  # nothing ever comes, but the end
                finally:
                    # Our parent ends us before it comes here, and cleans up itself, unless it was killed.
                    shutil.rmtree(folder, ignore_errors=True)
                    os._exit(0)
            theirs.close()
            self._line, self._told = ours, b""
            try:
                yield folder
            finally:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                self._hear()
                ours.close()
                self._line = None

    @property
    def trouble(self) -> str:
        """What went wrong with the last connection that didn't end by itself."""
        return self._last()[0]

    @property
    def advice(self) -> str:
        """What to do about it, where that is known."""
        return self._last()[1]

    def _last(self) -> tuple[str, str]:
        self._hear()
        lines = self._told.splitlines()
        return tuple(json.loads(lines[-1])) if lines else ("", "")

    def _hear(self) -> None:
        if self._line is not None:
            with suppress(BlockingIOError):
                while heard := self._line.recv(CHUNK, socket.MSG_DONTWAIT):
                    self._told += heard

    def environment(self, *names: str) -> dict[str, str]:
        """Variables of the pod's containers, those out of Secrets too. Raises ClusterError."""
        found: dict[str, str] = {}
        for container in self._read(f"pods/{self.pod}")["spec"]["containers"]:
            for entry in container.get("env") or ():
                if entry["name"] in names and entry["name"] not in found:
                    value = self._value(entry)
                    if value is not None:
                        found[entry["name"]] = value
        return found

    def _value(self, entry: Mapping[str, Any]) -> str | None:
        reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
        if reference is None:
            return entry.get("value")
        data = self._read(f"secrets/{reference['name']}").get("data") or {}
        return base64.b64decode(data[reference["key"]]).decode() if reference["key"] in data else None

    def _read(self, what: str) -> dict[str, Any]:
        kind, name = what.split("/", 1)
        read = self.api.read_namespaced_pod if kind == "pods" else self.api.read_namespaced_secret
        with spoken(f"Read {what} in {self.namespace}", RIGHTS):
            answer = read(name, self.namespace, _preload_content=False, _request_timeout=TIMEOUT)
            return dict(json.loads(answer.data))

    # ---- below: in the other process; one thread that takes connections, and one for each of them ----

    def _serve(self, listener: socket.socket) -> None:
        while True:
            near, _address = listener.accept()
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with near:
            trouble, way_on = self._carried(near)
            if trouble and self._line is not None:
                line = json.dumps([f"Forward port {self.port} of {self.name}: {trouble}", way_on])
                # Before the near end hears of it: the words are there when the connection fails.
                self._line.sendall(f"{line}\n".encode())

    def _carried(self, near: socket.socket) -> tuple[str, str]:
        """Carries a connection to its end; what went wrong, if anything, and what to do."""
        try:
            far = self._connection()
        except ClusterError as failure:
            return failure.words, failure.advice
        try:
            return _carry(near, far), ""
        except Exception as failure:
            if not is_from_cluster(failure):
                raise
            return f"the connection to the API server was lost ({words(failure)})", ""
        finally:
            with suppress(Exception):
                far.close(timeout=1)

    def _connection(self) -> Any:
        """A ``websocket.WebSocket`` to the port."""
        stream = library("kubernetes.stream")
        connect = self.api.connect_get_namespaced_pod_portforward
        try:
            # It takes the place of the API client's way to call, for as long as it connects.
            with self._connecting:
                far = stream.stream(
                    connect, self.pod, self.namespace, ports=str(self.port), _preload_content=False
                ).sock
        except Exception as failure:
            if not is_from_cluster(failure):
                raise
            raise _refused(failure) from None
        # Of one frame, or of one write. Silence between two is waited for elsewhere.
        far.settimeout(2 * TIMEOUT)
        return far


def _refused(failure: Exception) -> ClusterError:
    """Why a connection could not be made. The client has the API server's answer within its words alone."""
    text = str(getattr(failure, "reason", ""))
    answer = re.search(r"Handshake status (\d+)", text)
    if not answer:
        return ClusterError("Connect", words(failure), advice(failure, RIGHTS))
    message = re.search(r'"message":"((?:[^"\\]|\\.)*)"', text)
    said = json.loads(f'"{message[1]}"') if message else text[answer.end() :].partition("-+-")[0].strip()
    status = int(answer[1])
    way_on = f"The account needs {RIGHTS} there" if status == 403 else "Check the pod, and the account"
    return ClusterError("Connect", f"HTTP {status}: {said}", way_on, status)


def _carry(near: socket.socket, far: Any) -> str:
    """Bytes in both directions, until one side ends. One thread, as a TLS connection must not be used by two.

    Returns:
        what the node said of the port, if anything.
    """
    begun: set[bytes] = set()
    while True:
        ready = select.select([near, far.sock], [], [], KEEPALIVE)[0]
        if not ready:
            far.ping()
        if far.sock in ready:
            for kind, message in _messages(far):
                channel, content = message[:1], message[1:]
                if kind == CLOSE:
                    return ""
                if kind != BINARY:
                    continue
                if channel not in begun:  # its first message is the port's number
                    begun.add(channel)
                elif channel == ERROR:
                    return " ".join(content.decode(errors="replace").split())
                elif channel == DATA and not _sent(near, content):
                    return ""
        if near in ready:
            content = _received(near)
            if not content:
                return ""
            far.send(DATA + content, BINARY)


def _messages(far: Any) -> Iterator[tuple[int, bytes]]:
    """What there is to read: at least one message, and what TLS has decrypted beyond it, which select() doesn't see."""
    while True:
        yield far.recv_data(control_frame=True)
        if not (hasattr(far.sock, "pending") and far.sock.pending()):
            return


def _sent(near: socket.socket, content: bytes) -> bool:
    """Whether it could be sent; otherwise the near end has gone."""
    with suppress(OSError):
        near.sendall(content)
        return True
    return False


def _received(near: socket.socket) -> bytes:
    """What the near end has to say; nothing when it has gone."""
    with suppress(OSError):
        return near.recv(CHUNK)
    return b""
