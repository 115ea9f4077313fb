# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database that only its pod's network reaches, through the Kubernetes API server's port-forward.

Connections arrive in the pod from its own loopback address, which PostgreSQL's images let in without a password. So the
near end is a Unix socket in a folder of our own, not a port that any local user could connect to.
"""

from __future__ import annotations

import base64
import json
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    TIMEOUT,
    advice,
    library,
    spoken,
    words,
)

PORT = 5432
RIGHTS = "get on pods and secrets, and create and get on pods/portforward"


class PodPort:
    """A port of a pod.

    Args:
        api: see :meth:`~.client.Cluster.api`.
        pod: the pod's name.
    """

    def __init__(self, api: Any, namespace: str, pod: str, port: int = PORT) -> None:
        self.api, self.namespace, self.pod, self.port = api, namespace, pod, port
        self.name = f"pod {namespace}/{pod}"
        #: What went wrong with the last connection, where the cluster said so.
        self.trouble = ""

    @contextmanager
    def opened(self) -> Iterator[str]:
        """Gives the folder of the Unix socket, for libpq's ``host``; open until the end of the block."""
        with tempfile.TemporaryDirectory(prefix="rhpds-") as folder, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(Path(folder) / f".s.PGSQL.{self.port}"))
            listener.listen()
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            try:
                yield folder
            finally:
                # close() alone would leave the other thread in accept().
                with suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)

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

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        with near:
            try:
                forward = library("kubernetes.stream").portforward(
                    self.api.connect_get_namespaced_pod_portforward, self.pod, self.namespace, ports=str(self.port)
                )
            except Exception as failure:  # noqa: BLE001  shown by whoever finds the connection closed
                self.trouble = f"Forward port {self.port} of {self.name}: {words(failure)}. {advice(failure, RIGHTS)}"
                return
            far = forward.socket(self.port)
            threading.Thread(target=_send, args=(near, far), daemon=True).start()
            _copy(far, near)
            # Before the near end hears of it: the words are there when the connection fails.
            if forward.error(self.port):
                self.trouble = f"Forward port {self.port} of {self.name}: {forward.error(self.port).strip()}"
            _end(near)


def _send(near: Any, far: Any) -> None:
    _copy(near, far)
    _end(far)


def _copy(source: Any, target: Any) -> None:
    """Bytes from one socket to the other, until one of them ends."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)


def _end(one: Any) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
