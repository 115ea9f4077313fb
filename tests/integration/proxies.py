# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies of a test's own: a database, a configuration file as the role renders it, and a way to cut Redis off."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.rhpds.litemaas.tests.integration import harness

# The stack's programs import each other by their bare names.
sys.path.insert(0, str(harness.CHECKOUT / "tests" / "stack"))

import processes
import progress
import provision
import proxy as stack_proxy
import settings as stack_settings

TEMPLATE = harness.CHECKOUT / "roles/ocp4_workload_litemaas/templates/litellm-config.yaml.j2"


def render(variables: Mapping[str, Any]) -> str:
    """LiteLLM's configuration file, by Ansible's own templating of the role's template."""
    text: Any = TEMPLATE.read_text(encoding="utf-8")
    with contextlib.suppress(ImportError):
        from ansible.template import trust_as_template

        text = trust_as_template(text)
    return str(Templar(loader=DataLoader(), variables=dict(variables)).template(text))


def installed(version: str) -> provision.LiteLLM:
    """LiteLLM as the stack runs it."""
    known = replace(stack_settings.Settings.from_env(), version=version)
    return provision.install_litellm(known, provision.Cache(known, progress.Events(sys.stderr)))


@contextlib.contextmanager
def database(admin_dsn: str, name: str | None = None) -> Iterator[str]:
    """An empty database of the role's own; gives its DSN, and drops it afterwards."""
    name = name or f"t{secrets.token_hex(4)}"
    parts = urllib.parse.urlsplit(admin_dsn)
    connection = harness.connect(admin_dsn)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urllib.parse.urlunsplit(parts._replace(path=f"/{name}"))
        finally:
            with connection.cursor() as cursor:
                # Whoever is still connected would hold the database.
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        connection.close()


def migrate(litellm: provision.LiteLLM, dsn: str, folder: Path, *, views: bool = True) -> None:
    """LiteLLM's tables and views, from the SQL that it ships. Only its reports of spend need the views."""
    connection = harness.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        # Each by itself: an index that is made concurrently is one statement alone.
        for path in litellm.migrations:
            text = path.read_text(encoding="utf-8")
            # Some hold nothing but a comment.
            if any(line.strip() and not line.strip().startswith("--") for line in text.splitlines()):
                cursor.execute(text)
    connection.close()
    if views:
        stack_proxy.create_views(litellm, folder, dsn, folder / "views.log")


class Replica(stack_proxy.Proxy):
    """One proxy with a configuration file and an environment of its own; a context manager."""

    config = ""

    def start(self) -> processes.Child:
        self._attempts += 1
        self.port = processes.free_port()
        file = self._folder / f"{self.name}.yaml"
        file.write_text(self.config, encoding="utf-8")
        program = self._litellm.venv / "bin"
        # The image's own way: --config and --port, the rest from the environment.
        command: list[str | Path] = [program / "python", program / "litellm", "--config", file, "--host", "127.0.0.1"]
        self.child = processes.start(
            self.name, [*command, "--port", str(self.port)], log=self._log, env=self._env, cwd=self._folder
        )
        return self.child

    def stop(self) -> None:
        if self.child:
            processes.stop([self.child])


@dataclass
class Deployment:
    """Proxies on one database: what a Deployment of LiteLLM is."""

    replicas: list[Replica]
    dsn: str = field(repr=False)
    master_key: str = field(repr=False)

    def admin(self, number: int = 0) -> harness.LiteLLM:
        """One of the proxies, as its admin sees it."""
        return harness.LiteLLM(self.replicas[number].url, self.master_key, self.dsn)

    def log(self) -> str:
        """What all of them printed."""
        return "".join(one._log.read_text(encoding="utf-8", errors="replace") for one in self.replicas)


@contextlib.contextmanager
def deployed(
    stack: harness.Stack,
    folder: Path,
    variables: Mapping[str, Any],
    *,
    replicas: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Deployment]:
    """Proxies that run with the rendered configuration, until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    litellm = installed(stack.variables["LITELLM_VERSION"])
    master_key, salt_key = ("sk-" + base64.urlsafe_b64encode(os.urandom(24)).decode() for _name in ("master", "salt"))
    with database(stack.litellm_dsn) as dsn, contextlib.ExitStack() as running:
        migrate(litellm, dsn, folder)
        engine = provision.write_engine_launcher(folder / "query-engine", litellm.node, litellm.engine)
        env = stack_proxy.environment(folder, engine, dsn, master_key, salt_key) | dict(environment or {})
        members = []
        for number in range(1, replicas + 1):
            one = Replica(number, litellm, folder, env, folder / f"litellm-{number}.log")
            one.config = render(variables)
            running.callback(one.stop)
            one.start()
            members.append(one)
        for one in members:
            one.wait()
        yield Deployment(members, dsn, master_key)


class Gate:
    """A port in front of a server that can refuse connections, swallow what arrives, or let all pass."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._passing = threading.Event()
        self._passing.set()
        self._closed = False
        self._lock = threading.Lock()
        self.port = 0

    def __enter__(self) -> Gate:
        self.restore()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._passing.set()
        self.refuse()

    def restore(self) -> None:
        """Let all pass again."""
        if self._listener is None:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            deadline = time.monotonic() + 10
            while True:
                try:
                    self._listener.bind(("127.0.0.1", self.port))
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            self.port = self._listener.getsockname()[1]
            self._listener.listen(128)
            threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()
        self._passing.set()

    def refuse(self) -> None:
        """As a server that has stopped: connections end, new ones are refused."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._end_all()

    def swallow(self) -> None:
        """As a server behind a network that drops packets: connections open, and nobody ever answers."""
        self._passing.clear()

    def _end_all(self) -> None:
        with self._lock:
            ending, self._open = self._open, []
        for one in ending:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _address = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._passing.wait()
                if self._closed:
                    break
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
