# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Chromium, driven over its DevTools protocol: what it loads, logs and shows."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import websocket

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--remote-debugging-port=0",
)
SECONDS = 60


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        self.line = websocket.create_connection(address, timeout=SECONDS, suppress_origin=True)
        self.number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> Any:
        """A command's result; events that come meanwhile are kept."""
        self.number += 1
        self.line.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            heard = json.loads(self.line.recv())
            if heard.get("id") == self.number:
                assert "error" not in heard, f"{method}: {heard['error']}"
                return heard["result"]
            self.events.append(heard)

    def open(self, path: Path) -> None:
        """Load a file, until it has done all that it does at its start."""
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait for an expression to come true."""
        deadline = time.monotonic() + SECONDS / 3
        while not self.run(script):
            assert time.monotonic() < deadline, f"did not come true: {script}"
            time.sleep(0.02)

    def look(self, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """The window's size, and what the system says of colours."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=9)

    def picture(self, path: Path, whole: bool = True) -> None:
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    @property
    def requests(self) -> list[str]:
        """Addresses of everything that was asked for since the page was opened."""
        return [one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"]

    @property
    def complaints(self) -> list[Any]:
        """What the console says, errors that nobody caught, and what the page's policy has refused."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [one for one in self.events if one["method"] in kinds or one["method"] == "Page.javascriptDialogOpening"]


@contextmanager
def started(program: str, folder: Path) -> Iterator[Page]:
    """A browser with a profile of its own, ended with the block."""
    profile = folder / "chromium"
    environment = {**os.environ, "HOME": str(folder)}
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "chromium.log").open("wb"),
        env=environment,
    )
    try:
        port = profile / "DevToolsActivePort"
        deadline = time.monotonic() + SECONDS
        while not (port.exists() and len(port.read_text().split()) == 2):
            said = (folder / "chromium.log").read_text(errors="replace")
            assert process.poll() is None and time.monotonic() < deadline, f"Chromium did not start: {said[-2000:]}"
            time.sleep(0.05)
        number, path = port.read_text().split()
        whole = websocket.create_connection(
            f"ws://127.0.0.1:{number}{path}", timeout=SECONDS, suppress_origin=True, http_no_proxy=["127.0.0.1"]
        )
        whole.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        target = None
        while target is None:
            heard = json.loads(whole.recv())
            target = heard["result"]["targetId"] if heard.get("id") == 1 else None
        page = Page(f"ws://127.0.0.1:{number}/devtools/page/{target}")
        yield page
        page.line.close()
        whole.close()
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()
