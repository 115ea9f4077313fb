# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database that only its pod's network reaches, through the Kubernetes API server's port-forward.

Connections arrive in the pod from its own loopback address, which PostgreSQL's images let in without a password. So the
near end is a Unix socket in a folder of our own, not a port that any local user could connect to.
"""

from __future__ import annotations

import base64
import importlib
import json
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PORT = 5432
#: Seconds to wait for the API server's answers.
TIMEOUT = 30


class TunnelError(Exception):
    """What was tried, what the cluster said, what to do. Holds no secret."""


def library(name: str = "kubernetes") -> Any:
    """The Python client, or a part of it; loaded when it is needed, as that takes a second. Raises TunnelError."""
    try:
        return importlib.import_module(name)
    except ImportError as failure:
        raise TunnelError(
            f"Connect to the cluster: the Python library kubernetes is missing ({failure}). Install it for the Python"
            " that runs the module, or give litellm_dsn"
        ) from None


@dataclass(frozen=True)
class Cluster:
    """How to reach the API server; what is not given comes from the kubeconfig, or from the pod that we run in."""

    kubeconfig: str | None = None
    host: str | None = None
    api_key: str | None = None
    validate_certs: bool = True
    ca_cert: str | None = None

    def api(self) -> Any:
        """A client of the core API. Raises TunnelError."""
        kubernetes = library()
        try:
            if self.host and not self.kubeconfig:
                settings = kubernetes.client.Configuration(host=self.host)
                settings.api_key = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
            else:
                settings = kubernetes.client.Configuration()
                kubernetes.config.load_config(config_file=self.kubeconfig, client_configuration=settings)
        except (kubernetes.config.ConfigException, OSError) as failure:
            raise TunnelError(f"Connect to the cluster: {failure}. Give host and api_key, or kubeconfig") from None
        if not self.validate_certs:
            settings.verify_ssl = False
            library("urllib3").disable_warnings()
        if self.ca_cert:
            settings.ssl_ca_cert = self.ca_cert
        return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(settings))


class PodPort:
    """A port of a pod.

    Args:
        api: see :meth:`Cluster.api`.
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
        """Variables of the pod's containers, those out of Secrets too. Raises TunnelError."""
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
        try:
            answer = read(name, self.namespace, _preload_content=False, _request_timeout=TIMEOUT)
            return dict(json.loads(answer.data))
        except Exception as failure:  # noqa: BLE001  the client lets urllib3's through, and those of its TLS library
            raise TunnelError(f"Read {what} in {self.namespace}: {_words(failure)}. {_advice(failure)}") from None

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
                self.trouble = f"Forward port {self.port} of {self.name}: {_words(failure)}. {_advice(failure)}"
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


def _words(failure: BaseException) -> str:
    if isinstance(failure, library("kubernetes.client").ApiException):
        with suppress(ValueError, TypeError, KeyError):
            return f"HTTP {failure.status}: {json.loads(failure.body)['message']}"
        return f"HTTP {failure.status}: {' '.join(str(failure.reason).split())[:300]}"
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"


def _advice(failure: BaseException) -> str:
    status = getattr(failure, "status", None)
    if status == 401:
        return "Check api_key, or the account in the kubeconfig"
    if status == 403:
        return "The account needs get on pods and secrets, and create and get on pods/portforward, in that namespace"
    if "CERTIFICATE" in str(failure):
        return "Give the cluster's CA bundle as ca_cert, or turn validate_certs off"
    return "Check pod and namespace" if status == 404 else "Check the API server's address and that the pod runs"
