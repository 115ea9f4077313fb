# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reverse proxy that counts what passes and fails where a rule says so, for tests in front of a real LiteLLM.

    with FaultProxy(litellm_url) as faults:
        faults.add_rule("POST", r"/model/new$", "error_after", count=1)   # stored, but the client hears 500
        run_against(faults.url)
        assert faults.writes() == [("POST", "/model/new")]

On the command line it prints its address and, when it is stopped, what it counted.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import json
import re
import signal
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

# What concerns one connection only is not passed on. Without accept-encoding, bodies stay readable for rules that
# change them.
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "accept-encoding",
    "host",
}
READING = {"GET", "HEAD", "OPTIONS"}
# LiteLLM's web server closes idle connections after five seconds: an older one of ours may be dead, and a write must
# not be sent twice.
FRESH_SECONDS = 2.0
POOL_EXHAUSTED = (
    "Authentication Error, Timed out fetching a new connection from the connection pool. "
    "(Current connection pool timeout: 60, connection limit: 10)"
)


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    # End the connection after this many bytes of the body, or without any answer for -1.
    cut_at: int | None = None

    @classmethod
    def error(cls, status: int, message: str, kind: str, **headers: str) -> Answer:
        body = {"error": {"message": message, "type": kind, "param": "None", "code": str(status)}}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(body).encode(), {"content-type": "application/json", **named})


Forward = Callable[[], Answer]
Action = Callable[[Forward, Mapping[str, Any]], Answer]


def unavailable(_forward: Forward, _options: Mapping[str, Any]) -> Answer:
    return Answer(503, b"upstream connect error", {"content-type": "text/plain"})


def pool_exhausted(_forward: Forward, _options: Mapping[str, Any]) -> Answer:
    return Answer.error(401, POOL_EXHAUSTED, "auth_error")


def rate_limited(_forward: Forward, options: Mapping[str, Any]) -> Answer:
    return Answer.error(429, "Rate limit exceeded", "throttling_error", retry_after=str(options.get("retry_after", 1)))


def reset(_forward: Forward, _options: Mapping[str, Any]) -> Answer:
    return Answer(0, cut_at=-1)


def reset_after(forward: Forward, _options: Mapping[str, Any]) -> Answer:
    forward()
    return Answer(0, cut_at=-1)


def error_after(forward: Forward, options: Mapping[str, Any]) -> Answer:
    forward()
    return Answer.error(
        int(options.get("status", 500)), "Internal Server Error after the write", "internal_server_error"
    )


def delay(forward: Forward, options: Mapping[str, Any]) -> Answer:
    time.sleep(float(options.get("seconds", 1)))
    return forward()


def empty_page(forward: Forward, _options: Mapping[str, Any]) -> Answer:
    """A list that claims there is nothing, totals included."""
    return _change_page(forward(), lambda _items: [], totals=True)


def truncated_page(forward: Forward, _options: Mapping[str, Any]) -> Answer:
    """A list that lost the second half of a page, its totals as before."""
    return _change_page(forward(), lambda items: items[: len(items) // 2], totals=False)


def truncated_body(forward: Forward, _options: Mapping[str, Any]) -> Answer:
    """An answer whose connection ends half way through the body."""
    answer = forward()
    answer.cut_at = len(answer.body) // 2
    return answer


def answer_with(_forward: Forward, options: Mapping[str, Any]) -> Answer:
    body = options.get("body", "")
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "text/plain" if isinstance(body, str) else "application/json"
    return Answer(int(options.get("status", 200)), data, {"content-type": kind, **options.get("headers", {})})


ACTIONS: dict[str, Action] = {
    "unavailable": unavailable,
    "pool_exhausted": pool_exhausted,
    "rate_limited": rate_limited,
    "reset": reset,
    "reset_after": reset_after,
    "error_after": error_after,
    "delay": delay,
    "empty_page": empty_page,
    "truncated_page": truncated_page,
    "truncated_body": truncated_body,
    "answer": answer_with,
}


def _change_page(answer: Answer, change: Callable[[list[Any]], list[Any]], *, totals: bool) -> Answer:
    """Apply a change to the list in an answer: LiteLLM's lists are under `keys` or `data`, or the body itself."""
    try:
        page = json.loads(answer.body)
    except ValueError:
        return answer
    if isinstance(page, list):
        page = change(page)
    elif isinstance(page, dict):
        for name in ("keys", "data"):
            if isinstance(page.get(name), list):
                page[name] = change(page[name])
        if totals:
            page.update({name: 0 for name in ("total_count", "total_pages") if name in page})
    answer.body = json.dumps(page).encode()
    return answer


@dataclass
class Rule:
    method: str
    path: re.Pattern[str]
    action: str
    # How often it still applies; None for always.
    left: int | None
    # How many matching requests pass first.
    skip: int
    options: dict[str, Any]
    applied: int = 0

    def matches(self, method: str, target: str) -> bool:
        return self.method in ("*", method) and self.left != 0 and self.path.search(target) is not None


class FaultProxy:
    """Listens on a loopback port and forwards to one server. A context manager, or call start() and stop()."""

    def __init__(self, upstream_url: str, port: int = 0) -> None:
        parts = urllib.parse.urlsplit(upstream_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"not an http:// address: {upstream_url}")
        self.upstream_host = parts.hostname
        self.upstream_port = parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._seen: list[tuple[str, str]] = []
        self._server = _Server(("127.0.0.1", port), self)
        self._thread: threading.Thread | None = None

    # --- what a test uses ---

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._prefix}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Every request that arrived, in order: its method and its path without the query."""
        return [(method, target.split("?")[0]) for method, target in self.targets]

    @property
    def targets(self) -> list[tuple[str, str]]:
        """The same, with the query."""
        with self._lock:
            return list(self._seen)

    def count(self, method: str = "*", path: str = "") -> int:
        """How many requests of this method (`*` for any) have a path and query that the regular expression finds."""
        pattern = re.compile(path)
        return sum(1 for verb, target in self.targets if method.upper() in ("*", verb) and pattern.search(target))

    def writes(self) -> list[tuple[str, str]]:
        """The requests that were not plain reads."""
        return [(method, path) for method, path in self.requests if method not in READING]

    def add_rule(
        self, method: str, path: str, action: str, *, count: int | None = 1, skip: int = 0, **options: Any
    ) -> Rule:
        """Let `action` happen to the next `count` requests (None: all) that match, after `skip` of them.

        The path is a regular expression, searched in path and query. The first rule that matches is taken.
        """
        if action not in ACTIONS:
            raise ValueError(f"no such action: {action}; there are {', '.join(ACTIONS)}")
        rule = Rule(method.upper(), re.compile(path), action, count, skip, options)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget the rules and the requests."""
        with self._lock:
            self._rules.clear()
            self._seen.clear()

    def start(self) -> FaultProxy:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.end_connections()
        self._server.server_close()

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what its connections use ---

    def take(self, method: str, target: str) -> Rule | None:
        """Note a request and use up a rule for it."""
        with self._lock:
            self._seen.append((method, target))
            taken: Rule | None = None
            for rule in self._rules:
                if not rule.matches(method, target):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                elif taken is None:
                    taken = rule
            if taken is not None:
                taken.applied += 1
                if taken.left is not None:
                    taken.left -= 1
            return taken


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Connections end with the proxy, by end_connections(): a client that keeps one alive must not hold up a test.
    block_on_close = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], proxy: FaultProxy) -> None:
        super().__init__(address, _Connection)
        self.proxy = proxy
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of a test's business."""


class _Connection(BaseHTTPRequestHandler):
    """One client connection, with one of its own to the server behind, both kept alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._behind: http.client.HTTPConnection | None = None
        self._used = 0.0

    def finish(self) -> None:
        super().finish()
        self._drop()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        rule = self.server.proxy.take(self.command, self.path)

        def forward() -> Answer:
            return self._forward(body)

        try:
            answer = ACTIONS[rule.action](forward, rule.options) if rule else forward()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            answer = Answer.error(502, f"the server behind does not answer: {error}", "bad_gateway")
        self._send(answer)

    do_GET = _handle  # noqa: N815
    do_HEAD = _handle  # noqa: N815
    do_POST = _handle  # noqa: N815
    do_PUT = _handle  # noqa: N815
    do_PATCH = _handle  # noqa: N815
    do_DELETE = _handle  # noqa: N815
    do_OPTIONS = _handle  # noqa: N815

    def _forward(self, body: bytes) -> Answer:
        proxy = self.server.proxy
        if self._behind is None or time.monotonic() - self._used > FRESH_SECONDS:
            self._drop()
            self._behind = http.client.HTTPConnection(proxy.upstream_host, proxy.upstream_port, timeout=120)
            self._behind.connect()
            self._behind.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        self._behind.request(self.command, self.path, body=body or None, headers=headers)
        response = self._behind.getresponse()
        data = response.read()
        self._used = time.monotonic()
        if response.will_close:
            self._drop()
        return Answer(
            response.status,
            data,
            {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP},
        )

    def _drop(self) -> None:
        if self._behind is not None:
            self._behind.close()
            self._behind = None

    def _send(self, answer: Answer) -> None:
        if answer.cut_at == -1:
            return self._reset()
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut_at])
        if answer.cut_at is not None:
            self.wfile.flush()
            self.close_connection = True
        return None

    def _reset(self) -> None:
        # A close with zero linger time sends RST instead of FIN: the client sees "connection reset by peer".
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent: `requests` tells what arrived."""


def main() -> None:
    parser = argparse.ArgumentParser(description="A reverse proxy that fails where a rule says so.")
    parser.add_argument("upstream", help="the address to forward to, http://host:port")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="JSON",
        help='{"method": "POST", "path": "/model/new", "action": "unavailable", "count": 2}',
    )
    options = parser.parse_args()
    proxy = FaultProxy(options.upstream, options.port)
    for text in options.rule:
        proxy.add_rule(**json.loads(text))
    stopped = threading.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda *_: stopped.set())
    with proxy:
        print(proxy.url, flush=True)
        stopped.wait()
    for (method, path), number in sorted(collections.Counter(proxy.requests).items()):
        print(f"{number:6} {method} {path}")


if __name__ == "__main__":
    main()
