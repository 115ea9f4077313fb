# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test stack in one command: python3 tests/stack/stack.py up|down|status|prepare"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import redis_server  # noqa: E402
from cluster import api_ready, find_programs, node_python  # noqa: E402
from processes import Identity, python  # noqa: E402
from progress import DirectEvents, Display, StackError, last_lines  # noqa: E402
from provision import Cache  # noqa: E402
from proxy import get  # noqa: E402
from settings import Settings  # noqa: E402
from supervisor import remove_data  # noqa: E402

STOP_SECONDS = 20


@dataclass(frozen=True)
class Running:
    """What an earlier `up` left behind: a record, and perhaps processes."""

    record: dict[str, Any]
    supervisor: Identity | None
    children: dict[str, Identity]

    @classmethod
    def read(cls, settings: Settings) -> Running | None:
        try:
            record = json.loads(settings.state_file.read_text())
            owner = record["supervisor"]
            children = {child["name"]: Identity(child["pid"], child["started"]) for child in record["children"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cls(record, Identity(owner["pid"], owner["started"]) if owner else None, children)

    @property
    def alive(self) -> bool:
        return self.supervisor is not None and self.supervisor.alive()

    def troubles(self) -> list[str]:
        """Why this stack cannot be used; empty when it can."""
        if not self.alive:
            return ["its supervisor is gone"]
        if self.record.get("phase") != "ready":
            return ["it is still starting"]
        found = [f"{name} ended" for name, identity in self.children.items() if not identity.alive()]
        for url in self.record["urls"]:
            if get(f"{url}/health/liveliness")[0] != 200:
                found.append(f"LiteLLM does not answer at {url}")
        if get(f"{self.record['upstream']}/health")[0] != 200:
            found.append("the upstream does not answer")
        cluster = self.record.get("cluster")
        if cluster and not api_ready(cluster["url"], Path(cluster["authority"])):
            found.append("the cluster does not answer")
        if not redis_server.answers(self.record["redis_port"]):
            found.append("Redis does not answer")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.record["postgres_port"]), 5):
            return found
        return [*found, "PostgreSQL does not answer"]


@contextlib.contextmanager
def only_one(settings: Settings, display: Display) -> Iterator[None]:
    """One `up` or clean-up at a time for a folder. The lock also marks a folder as ours: no other is touched."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    # `make install` puts the collection into the default folder, before or after the stack is there.
    foreign = {entry.name for entry in settings.directory.iterdir()} - {"collections"}
    if not settings.lock_file.exists() and foreign:
        hint = "give STACK_DIR a folder that is empty or does not exist yet"
        raise StackError(f"{settings.directory} holds files that are not a stack's", hint=hint)
    with settings.lock_file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            display.line("  waiting for another command on this stack to finish")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def up(settings: Settings, display: Display) -> int:
    with only_one(settings, display):
        running = Running.read(settings)
        if running and running.alive:
            reason = why_not(settings, running)
            if not reason:
                display.line(
                    f"The stack is already up: LiteLLM {running.record['version']} at {running.record['urls'][0]}; "
                    f"variables in {shown(settings.env_file)}"
                )
                return 0
            display.line(f"Starting anew: {reason}")
        if running:
            stop_processes(running)
        if not settings.keep_data:
            clean(settings, running)
        shutil.rmtree(settings.logs, ignore_errors=True)
        display.line(f"Starting LiteLLM {settings.version} and what it needs in {shown(settings.directory)}")
        return start(settings, display)


def why_not(settings: Settings, running: Running) -> str:
    """Why the running stack does not do for what was asked; empty when it does."""
    if running.record["version"] != settings.version:
        return f"LiteLLM {running.record['version']} is running, {settings.version} was asked for"
    if running.record["replicas"] < settings.replicas:
        return f"{running.record['replicas']} replica(s) running, {settings.replicas} asked for"
    lacks_cluster = running.record.get("phase") == "ready" and not running.record.get("cluster")
    if lacks_cluster and "cluster" not in settings.allow_missing:
        return "it has no cluster"
    return ", ".join(running.troubles())


def start(settings: Settings, display: Display) -> int:
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / "supervisor.log"
    with log.open("ab") as errors:
        supervisor = subprocess.Popen(
            [python(), "-u", str(HERE / "supervisor.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            text=True,
        )
    assert supervisor.stdin and supervisor.stdout
    ready = told = False
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        for line in supervisor.stdout:
            event = json.loads(line)
            ready = ready or event["event"] == "ready"
            told = told or event["event"] == "failed"
            display.show(event)
            if ready:
                supervisor.stdin.write("keep\n")
                supervisor.stdin.flush()
                break
    except KeyboardInterrupt:
        display.line("")
        display.line("Interrupted: stopping what was started")
        told, ready = True, False
    if not ready:
        with contextlib.suppress(BrokenPipeError):
            supervisor.stdin.close()
        finish(supervisor)
        if not told:
            display.failed(
                {"what": "the supervisor ended early", "tail": last_lines(log), "log": str(log), "hint": "see its log"}
            )
        return 130 if told and supervisor.returncode == 0 else 1
    display.line(f"Up in {display.elapsed:.1f} s. Variables in {shown(settings.env_file)}")
    return 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def finish(supervisor: subprocess.Popen[str]) -> None:
    """Wait for a supervisor that takes its stack down; a second Ctrl-C does not leave it half done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        supervisor.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()  # its children go with it
        supervisor.wait()


def down(settings: Settings, display: Display) -> int:
    running = Running.read(settings)
    if running and running.alive:
        stop_processes(running)  # before taking the lock: an `up` that is still at it holds that
    if not settings.directory.exists():
        display.line("The stack is not up")
        return 0
    with only_one(settings, display):
        if running:
            stop_processes(running)
        if settings.keep_data:
            display.line(f"Stopped in {display.elapsed:.1f} s; the data is kept for an `up` with STACK_KEEP_DATA=1")
            return 0
        clean(settings, running)
        shutil.rmtree(settings.logs, ignore_errors=True)
        shutil.rmtree(settings.directory / "run", ignore_errors=True)
        settings.lock_file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        settings.directory.rmdir()
    display.line(f"Stopped in {display.elapsed:.1f} s" if running else "The stack is not up")
    return 0


def stop_processes(running: Running) -> None:
    """The supervisor takes its children down; whoever is left of the recorded ones is ended by group."""
    if running.supervisor:
        running.supervisor.signal(signal.SIGTERM)
        wait_gone([running.supervisor], STOP_SECONDS)
        running.supervisor.signal(signal.SIGKILL)
    left = list(running.children.values())
    wait_gone(left, 3)
    for child in left:
        child.signal(signal.SIGKILL, group=True)
    wait_gone(left, 3)


def wait_gone(processes: list[Identity], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.alive() for process in processes):
        time.sleep(0.05)


def clean(settings: Settings, running: Running | None) -> None:
    home = running.record.get("data_home") if running else ""
    remove_data(settings, Path(home) if home else None)
    for path in (settings.env_file, settings.state_file, settings.kubeconfig):
        path.unlink(missing_ok=True)
    shutil.rmtree(settings.cluster, ignore_errors=True)


def status(settings: Settings, display: Display) -> int:
    running = Running.read(settings)
    if not running or not running.alive:
        display.line("The stack is not up")
        return 3
    record = running.record
    display.line(
        f"LiteLLM {record['version']}, {record['replicas']} replica(s), "
        f"{record.get('phase')}, in {shown(settings.directory)}"
    )
    for name, identity in running.children.items():
        display.line(f"  {name:<12} pid {identity.pid:<8} {resident(identity.pid) if identity.alive() else 'ended'}")
    for url in record.get("urls", []):
        display.line(f"  {url}")
    found = running.troubles()
    for trouble in found:
        display.line(f"  trouble: {trouble}")
    return 1 if found else 0


def prepare(settings: Settings, display: Display) -> int:
    """Build and fetch what takes longest, ahead of the first `up`, which waits for it where it isn't done."""
    display.line("Preparing what a cluster needs")
    cache = Cache(replace(settings, directory=settings.cache / "prepare"), DirectEvents(display))
    signal.signal(signal.SIGTERM, interrupt)  # what is being run is stopped too
    node_python(cache)
    find_programs(cache)
    display.line(f"Prepared in {display.elapsed:.1f} s")
    return 0


def resident(pid: int) -> str:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return f"{int(line.split()[1]) // 1024} MB"
    return ""


def shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status", "prepare"])
    command = parser.parse_args().command
    display = Display()
    try:
        settings = Settings.from_env()
        return {"up": up, "down": down, "status": status, "prepare": prepare}[command](settings, display)
    except StackError as error:
        display.failed(error.as_event())
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        display.failed(
            StackError(str(error), hint="check the permissions of the folder named, or set STACK_DIR").as_event()
        )
    return 1


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
