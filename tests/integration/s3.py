# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for S3 in a process of its own, and what is in it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.rhpds.litemaas.tests.integration import proxies
from ansible_collections.rhpds.litemaas.tests.tools import collection_tree

sys.path.insert(0, str(collection_tree.CHECKOUT / "tests" / "tools"))

import venvs

#: It looks at no signature.
ACCOUNT = {"s3_access_key": "AKIATEST", "s3_secret_key": "not-a-secret-of-anybody", "s3_region": "us-east-1"}

SIGNED = "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@dataclass(frozen=True)
class Store:
    """A running one."""

    url: str
    python: Path

    def make_bucket(self, name: str) -> None:
        self._request("PUT", f"/{name}")

    def names(self, bucket: str) -> list[str]:
        """Names of all objects."""
        return re.findall(r"<Key>([^<]*)</Key>", self._request("GET", f"/{bucket}?list-type=2").decode())

    def content(self, bucket: str, name: str) -> bytes:
        return self._request("GET", f"/{bucket}/{name}")

    def put(self, bucket: str, name: str, content: bytes) -> None:
        self._request("PUT", f"/{bucket}/{name}", content)

    def _request(self, method: str, path: str, content: bytes | None = None) -> bytes:
        # Of a form the stand-in would make fields.
        headers = {"Content-Type": "application/octet-stream", "Authorization": SIGNED}
        request = urllib.request.Request(self.url + path, data=content, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Store]:
    """One that is empty, until the end of the block."""
    home = venvs.ensure("s3")
    port = proxies.processes.free_port()
    python = home / "bin" / "python"
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [python, home / "bin" / "moto_server", "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=5).close()
                    break
                assert process.poll() is None, (folder / "s3.log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, "S3's stand-in doesn't answer"
                time.sleep(0.1)
            yield Store(f"http://127.0.0.1:{port}", python)
        finally:
            process.kill()
            process.wait()


def parsed(content: bytes) -> dict[str, object]:
    """An object's JSON."""
    return dict(json.loads(content))
