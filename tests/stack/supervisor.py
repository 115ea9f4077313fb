# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that owns a stack: it installs, starts, watches and stops, in a session of its own.

Its standard input is a lifeline held by `stack.py up`: when that process ends before it has said "keep", all is taken
down. After that the stack lives until SIGTERM. Children carry a parent-death signal, so even SIGKILL here leaves none.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import postgres
from cluster import Cluster, Programs, find_programs, has_to_be_built, node_python, write_private
from processes import Child, Identity, free_port, python, start, stop
from progress import Events, StackError
from provision import Cache, find_postgres, find_redis, install_litellm, write_engine_launcher
from proxy import Proxy, environment, get
from redis_server import start_redis
from settings import HERE, Settings

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked us to stop; raised in the main thread wherever it is."""


def new_secrets() -> dict[str, str]:
    return {
        "master_key": "sk-" + secrets.token_urlsafe(24),
        "salt_key": "sk-" + secrets.token_urlsafe(24),
        "key_secret": base64.urlsafe_b64encode(secrets.token_bytes(36)).decode(),
        "password_redis": secrets.token_hex(16),
        **{f"password_{role}": secrets.token_hex(16) for role in (postgres.SUPERUSER, *postgres.OWNERS)},
    }


class Supervisor:
    def __init__(self, settings: Settings, events: Events) -> None:
        self.settings = settings
        self.events = events
        self.children: list[Child] = []
        self.data_home: Path | None = None
        # The data is ours to remove until the stack is handed over, unless it was there before us.
        self.disposable = True

    # --- bring up ---

    def bring_up(self) -> None:
        settings, events = self.settings, self.events
        self.record(phase="starting")
        cache = Cache(settings, events)
        preparing = self.prepare(cache)
        binaries = find_postgres(settings, cache)
        litellm = install_litellm(settings, cache)
        template = postgres.template(cache, binaries, litellm)
        redis = find_redis(settings, cache)
        programs = self.find_cluster(cache)
        if preparing:
            stop([preparing])
            self.children.remove(preparing)

        account = postgres.service_account()
        # The server's user has to get through to its data, but nobody needs to look around.
        settings.directory.chmod(0o711 if account else 0o700)
        kept = self.load_kept(binaries.major)
        # Data kept by an older stack may lack a secret.
        known = new_secrets() | (kept["secrets"] if kept else {})
        passwords = {role: known[f"password_{role}"] for role in (postgres.SUPERUSER, *postgres.OWNERS)}

        with events.step(
            f"PostgreSQL {binaries.version}"
            + (f" as {account.name}" if account else "")
            + (", data kept" if kept else "")
        ):
            if kept:
                self.disposable = False
                self.data_home = Path(kept["data_home"])
                server = postgres.Server(
                    binaries, self.data_home, settings.logs / "postgres.log", passwords[postgres.SUPERUSER]
                )
                self.children.append(server.start())
                postgres.apply_schemas(server, litellm, passwords, settings.directory / "run")
            else:
                self.data_home = postgres.place_for_data(settings, account)
                self.record(phase="starting")
                made_with = (template / "password").read_text()
                server = postgres.Server(binaries, self.data_home, settings.logs / "postgres.log", made_with)
                server.copy_from(template / "data")
                self.children.append(server.start())
                postgres.set_passwords(server, passwords)
            write_private(settings.secrets_file, json.dumps({"secrets": known, "data_home": str(self.data_home)}))

        # It starts while everything else does.
        cluster = self.start_cluster(cache, programs, [binaries.bin, redis.bin]) if programs else None

        with events.step(f"Redis {redis.version}"):
            password, log = known["password_redis"], settings.logs / "redis.log"
            redis_port = start_redis(redis, settings.directory / "run" / "redis", log, password, self.children)

        with events.step("the upstream model server"):
            upstream = self.start_upstream()

        dsns = {role: login.dsn(server.port) for role, login in postgres.logins(passwords).items()}
        engine = write_engine_launcher(settings.directory / "run" / "query-engine", litellm.node, litellm.engine)
        env = environment(settings.directory / "run", engine, dsns["litellm"], known["master_key"], known["salt_key"])
        proxies = [
            Proxy(n, litellm, settings.directory / "run", env, settings.logs / f"litellm-{n}.log")
            for n in range(1, settings.replicas + 1)
        ]
        with events.step(
            f"LiteLLM {settings.version}" + (f", {settings.replicas} replicas" if settings.replicas > 1 else "")
        ):
            for proxy in proxies:
                self.children.append(proxy.start())
                self.record(phase="starting")
            if cluster:
                cluster.join()
                self.record(phase="starting")
            for proxy in proxies:
                proxy.wait()
                if proxy.child not in self.children and proxy.child is not None:
                    self.children.append(proxy.child)

        if cluster and programs:
            with events.step(f"Kubernetes {'.'.join(map(str, programs.version))} with a fake node"):
                cluster.wait()
                ports = {5432: server.port, 6379: redis_port, 4000: proxies[0].port}
                cluster.forward({port: f"127.0.0.1:{place}" for port, place in ports.items()})

        exports = {
            "LITELLM_URL": proxies[0].url,
            "LITELLM_REPLICA_URLS": ",".join(proxy.url for proxy in proxies),
            "LITELLM_MASTER_KEY": known["master_key"],
            "LITELLM_KEY_SECRET": known["key_secret"],
            "LITELLM_VERSION": settings.version,
            "LITELLM_DSN": dsns["litellm"],
            "LITEMAAS_DSN": dsns["litemaas"],
            "LITEMAAS_SHARED_DSN": dsns["litellm"],
            "UPSTREAM_URL": upstream,
            "REDIS_URL": f"redis://:{password}@127.0.0.1:{redis_port}",
            **({"KUBECONFIG": str(settings.kubeconfig)} if cluster else {}),
        }
        write_private(
            settings.env_file, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in exports.items())
        )
        self.record(
            phase="ready",
            urls=[proxy.url for proxy in proxies],
            upstream=upstream,
            postgres_port=server.port,
            redis_port=redis_port,
            cluster={"url": cluster.url, "authority": str(cluster.authority)} if cluster else None,
        )

    def load_kept(self, major: str) -> dict[str, Any] | None:
        """The secrets and the place of data that an earlier stack left, where keeping was asked for."""
        try:
            kept: dict[str, Any] = json.loads(self.settings.secrets_file.read_text())
        except (OSError, ValueError):
            return None
        version = Path(kept["data_home"]) / "data" / "PG_VERSION"
        if self.settings.keep_data and version.exists():
            made_with = version.read_text().strip()
            if made_with != major:
                raise StackError(
                    f"the data kept in {kept['data_home']} is of PostgreSQL {made_with}, this is {major}",
                    hint="start with the PostgreSQL it was made with, or without STACK_KEEP_DATA for fresh data",
                )
            return kept
        remove_data(self.settings)
        return None

    def prepare(self, cache: Cache) -> Child | None:
        """Begin to build the cluster's programs, where that has to be done, while LiteLLM is installed."""
        if not has_to_be_built(cache):
            return None
        log = self.settings.logs / "prepare.log"
        child = start("prepare", ["nice", "-n", "19", python(), HERE / "stack.py", "prepare"], log=log)
        self.children.append(child)
        self.record(phase="starting")
        return child

    def find_cluster(self, cache: Cache) -> Programs | None:
        """The cluster's programs, or None where there are none and that is allowed."""
        try:
            return find_programs(cache)
        except StackError as error:
            if "cluster" not in self.settings.allow_missing:
                raise
            self.events.send(event="note", text=f"NOT RUN: the cluster: {error.what}")
            return None

    def start_cluster(self, cache: Cache, programs: Programs, path: list[Path]) -> Cluster:
        """A cluster with OpenShift's kinds that is on its way."""
        cluster = Cluster(
            programs,
            node_python(cache),
            self.settings.cluster,
            self.settings.logs,
            openshift=True,
            children=self.children,
            path=os.pathsep.join(map(str, path)),
            kubeconfig=self.settings.kubeconfig,
        )
        cluster.start()
        self.record(phase="starting")
        return cluster

    def start_upstream(self) -> str:
        log = self.settings.logs / "upstream.log"
        for _attempt in range(3):
            port = free_port()
            child = start("upstream", [python(), HERE / "upstream.py", "--port", str(port)], log=log)
            self.children.append(child)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and child.exit_status() is None:
                if get(f"http://127.0.0.1:{port}/health")[0] == 200:
                    return f"http://127.0.0.1:{port}"
                time.sleep(0.05)
            stop([child])
            self.children.remove(child)
        raise StackError("the upstream model server did not start", log=log, hint="see its log")

    # --- watch and take down ---

    def record(self, **facts: Any) -> None:
        """What `down` and `status` go by: who we are and what we own."""
        own = Identity.of(os.getpid())
        owned = [(child.name, Identity.of(child.popen.pid)) for child in self.children]
        state = {
            "supervisor": vars(own) if own else None,
            "children": [{"name": name, **vars(identity)} for name, identity in owned if identity],
            "version": self.settings.version,
            "replicas": self.settings.replicas,
            "data_home": str(self.data_home) if self.data_home else "",
            **facts,
        }
        write_private(self.settings.state_file, json.dumps(state, indent=1))

    def watch(self) -> None:
        """Sleep until a signal; a child that ends is written down, and `status` and `up` see it is gone."""
        gone: set[str] = set()
        while True:
            for child in self.children:
                if child.exit_status() is not None and child.name not in gone:
                    gone.add(child.name)
                    print(
                        f"{time.strftime('%F %T')} {child.name} ended with status {child.exit_status()}",
                        file=sys.stderr,
                        flush=True,
                    )
            time.sleep(1)

    def take_down(self) -> None:
        ignore_signals()
        servers = [child for child in self.children if child.name == "postgres"]
        stop([child for child in self.children if child not in servers])
        stop(servers)
        for file in (self.settings.env_file, self.settings.kubeconfig):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.settings.cluster, ignore_errors=True)
        if self.disposable:
            remove_data(self.settings, self.data_home)
        self.settings.state_file.unlink(missing_ok=True)


def remove_data(settings: Settings, data_home: Path | None = None) -> None:
    """The databases, wherever they are, and the secrets that open them."""
    places = {settings.directory / "postgres"}
    if data_home:
        places.add(data_home)
    with contextlib.suppress(OSError, ValueError, KeyError):
        places.add(Path(json.loads(settings.secrets_file.read_text())["data_home"]))
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    settings.secrets_file.unlink(missing_ok=True)


def hold_lifeline(supervisor: Supervisor) -> threading.Event:
    """Read the pipe from `up` in the background; its end without "keep" means that `up` is gone."""
    released = threading.Event()

    def read() -> None:
        text = sys.stdin.readline()
        if text.strip() == "keep":
            supervisor.disposable = False
            released.set()
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True).start()
    return released


def ignore_signals() -> None:
    """Once is enough: a second signal must not interrupt the taking down."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def raise_stopped(_number: int, _frame: FrameType | None) -> None:
    ignore_signals()
    raise Stopped


def main() -> int:
    os.umask(0o077)
    for number in STOP_SIGNALS:
        signal.signal(number, raise_stopped)
    events = Events(sys.stdout)
    settings = Settings.from_env()
    supervisor = Supervisor(settings, events)
    status = 0
    try:
        released = hold_lifeline(supervisor)
        supervisor.bring_up()
        events.send(event="ready")
        released.wait()
        supervisor.watch()
    except Stopped:
        pass
    except StackError as error:
        status = 1
        events.send(**error.as_event())
    except Exception as error:  # noqa: BLE001 - a failure of ours still has to take everything down and be told
        status = 1
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        failure = StackError(f"{type(error).__name__}: {error}", hint="this is a fault of the stack itself")
        failure.what += f" (while: {events.current})" if events.current else ""
        events.send(**failure.as_event())
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        supervisor.take_down()
    return status


if __name__ == "__main__":
    sys.exit(main())
