# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes that never outlive the one that started them, and ways to recognise a process again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from progress import StackError

_PR_SET_PDEATHSIG = 1
# Resolved before any fork: between fork and exec nothing should be imported or looked up.
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, with_signal: int = signal.SIGKILL) -> Callable[[], None]:
    """A preexec function: the child gets a group of its own, and a signal when the thread that started it ends.

    Start such children from the main thread only. Popen runs this after its change of user, which clears the setting.
    """

    def arm() -> None:
        os.setpgid(0, 0)
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent was gone before the setting took effect
            os._exit(1)

    return arm


@dataclass(frozen=True)
class Account:
    """The ordinary user a server runs as when we are root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Identity:
    """A process that can be told from a later one with the same id: ids are used again, start times are not."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def signal(self, number: int, *, group: bool = False) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if group else os.kill)(self.pid, number)


@dataclass
class Child:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    stop_signal: int = signal.SIGTERM

    def exit_status(self) -> int | None:
        return self.popen.poll()

    def ask_to_stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(self.stop_signal)

    def kill_group(self) -> None:
        """Whatever is left of the child and of what it started; its group is its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(5)


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    stop_signal: int = signal.SIGTERM,
    death_signal: int = signal.SIGKILL,
) -> Child:
    """Start a server in a process group of its own, its output in a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=die_with_parent(os.getpid(), death_signal),
        )
    return Child(name, popen, log, stop_signal)


def stop(children: Sequence[Child], grace: float = 5.0) -> None:
    """Stop all at once, politely, then for certain."""
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + grace
    for child in children:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.popen.wait(max(0.05, deadline - time.monotonic()))
    for child in children:
        child.kill_group()


def run(
    what: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    hint: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command to its end; its output goes to the log and comes back. A failure names the step and the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            text=True,
            errors="replace",
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=die_with_parent(os.getpid()),
        )
    except OSError as error:
        raise StackError(f"{what}: {command[0]} cannot be run: {error}", hint=hint) from error
    try:
        output = popen.communicate(stdin)[0]
    except BaseException:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        raise
    with log.open("a") as out:
        out.write(output)
    if popen.returncode:
        raise StackError(f"{what} failed (exit status {popen.returncode})", log=log, hint=hint)
    return output


def free_port() -> int:
    """A loopback port nobody listens on now. Somebody may take it before we do: starts are tried again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python() -> str:
    return sys.executable
