# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of a start: one line a step, and errors that say what to do."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class StackError(Exception):
    """A step failed: what, why, where the log is and what to do about it."""

    def __init__(self, what: str, *, log: Path | None = None, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.log = log
        self.hint = hint
        # Read now: the log's folder may be gone by the time the error is shown.
        self.tail = last_lines(log) if log else []

    def as_event(self) -> dict[str, Any]:
        return {
            "event": "failed",
            "what": self.what,
            "log": str(self.log) if self.log else "",
            "hint": self.hint,
            "tail": self.tail,
        }


def last_lines(path: Path, count: int = 15) -> list[str]:
    """The end of a log, without reading all of a long one."""
    try:
        with path.open("rb") as handle:
            handle.seek(0, 2)
            handle.seek(max(0, handle.tell() - 16384))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line[:400] for line in text.splitlines() if line.strip()][-count:]


class Events:
    """The supervisor's side: steps as JSON lines, for the `up` that waits for them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.current = ""

    def send(self, **event: Any) -> None:
        # Nobody may be reading any more: that is the lifeline's business, not an error here.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        self.current = text
        self.send(event="step", text=text)
        yield
        self.send(event="done")


class Display:
    """The terminal's side: `text ... 1.2 s`, one line a step."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._out = stream or sys.stdout
        self._began = time.monotonic()
        self._step_began = self._began
        self._open = False

    def show(self, event: dict[str, Any]) -> None:
        if event["event"] == "step":
            self._step_began = time.monotonic()
            self._write(f"  {event['text']} ...")
            self._open = True
        elif event["event"] == "done":
            self._write(f" {time.monotonic() - self._step_began:.1f} s\n")
            self._open = False
        elif event["event"] == "note":
            self.line(f"  {event['text']}")
        elif event["event"] == "failed":
            self.failed(event)

    def failed(self, event: dict[str, Any]) -> None:
        if self._open:
            self._write(f" failed after {time.monotonic() - self._step_began:.1f} s\n")
            self._open = False
        err = sys.stderr
        print(f"\nThe stack did not start: {event['what']}", file=err)
        for line in event.get("tail", []):
            print(f"    | {line}", file=err)
        if event.get("log"):
            print(f"  log: {event['log']}", file=err)
        if event.get("hint"):
            print(f"  what to do: {event['hint']}", file=err)

    def line(self, text: str) -> None:
        if self._open:
            self._write("\n")
            self._open = False
        self._write(text + "\n")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def _write(self, text: str) -> None:
        # A closed terminal must not stop what is being torn down or brought up.
        with contextlib.suppress(BrokenPipeError):
            self._out.write(text)
            self._out.flush()


class DirectEvents(Events):
    """For a command that does without a supervisor: steps go straight to the terminal."""

    def __init__(self, display: Display) -> None:
        super().__init__(sys.stdout)
        self._display = display

    def send(self, **event: Any) -> None:
        self._display.show(event)
