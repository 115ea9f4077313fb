# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model behind the proxy: a small OpenAI-compatible server, the stack's one stand-in.

Some model names misbehave on purpose: `broken` answers 500, `busy` answers 429 with retry-after, `slow` waits two
seconds, and `needs-key` wants `Authorization: Bearer sk-upstream-test`.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UPSTREAM_KEY = "sk-upstream-test"
MODELS = ("demo-chat", "demo-embed", "demo-convert", "needs-key", "broken", "busy", "slow")
EMBEDDING_SIZE = 8
# "docling-serve" as its clients know it: one call that turns documents into Markdown.
CONVERT_PATHS = ("/v1/convert/source", "/v1alpha/convert/source")


class Calls:
    """How many calls arrived, in all, by path and by model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._by_path: collections.Counter[str] = collections.Counter()
            self._by_model: collections.Counter[str] = collections.Counter()

    def add(self, path: str, model: str) -> None:
        with self._lock:
            self._by_path[path] += 1
            if model:
                self._by_model[model] += 1

    def report(self) -> dict[str, Any]:
        with self._lock:
            return {
                "total": sum(self._by_path.values()),
                "by_path": dict(self._by_path),
                "by_model": dict(self._by_model),
            }


class Upstream(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Handler)
        self.calls = Calls()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    server: Upstream

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path in ("/health", "/v1/health"):
            self._json({"status": "ok"})
        elif path == "/calls":
            self._json(self.server.calls.report())
        elif path in ("/v1/models", "/models"):
            self._json(
                {
                    "object": "list",
                    "data": [{"id": name, "object": "model", "created": 0, "owned_by": "stack"} for name in MODELS],
                }
            )
        else:
            self._error(404, f"no such path: {path}")

    def do_DELETE(self) -> None:
        if self.path.split("?")[0] != "/calls":
            return self._error(404, f"no such path: {self.path}")
        self.server.calls.reset()
        return self._json(self.server.calls.report())

    def do_POST(self) -> None:
        path = self.path.split("?")[0]
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            return self._error(400, "the body is not JSON")
        if not isinstance(body, dict):
            return self._error(400, "the body is not an object")
        model = str(body.get("model") or "")
        self.server.calls.add(path, model)
        if self._misbehave(model):
            return None
        if path.endswith("/chat/completions"):
            return self._chat(body, model)
        if path.endswith("/embeddings"):
            return self._embeddings(body, model)
        if path in CONVERT_PATHS:
            return self._convert(body)
        return self._error(404, f"no such path: {path}")

    def _misbehave(self, model: str) -> bool:
        if model == "needs-key" and self.headers.get("authorization") != f"Bearer {UPSTREAM_KEY}":
            self._error(401, "a key is needed for this model", kind="invalid_request_error", code="invalid_api_key")
        elif model == "broken":
            self._error(500, "this model is broken on purpose")
        elif model == "busy":
            self._error(429, "this model is busy on purpose", headers={"retry-after": "1"})
        else:
            if model == "slow":
                time.sleep(2)
            return False
        return True

    def _chat(self, body: dict[str, Any], model: str) -> None:
        messages = body.get("messages") or []
        asked = " ".join(str(m.get("content") or "") for m in messages if isinstance(m, dict))
        answer = f"{model} heard: {asked[-200:]}"
        usage = {"prompt_tokens": tokens(asked) + 3, "completion_tokens": tokens(answer)}
        usage["total_tokens"] = sum(usage.values())
        head = {"id": "chatcmpl-" + digest(asked)[:24], "created": int(time.time()), "model": model}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            return self._json(head | {"object": "chat.completion", "choices": [choice], "usage": usage})
        head["object"] = "chat.completion.chunk"
        words = answer.split(" ")
        events = [
            head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
        ]
        for position, word in enumerate(words):
            delta = {"content": word if position == 0 else " " + word}
            events.append(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        events.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(head | {"choices": [], "usage": usage})
        return self._stream(events)

    def _embeddings(self, body: dict[str, Any], model: str) -> None:
        given = body.get("input")
        items = given if isinstance(given, list) else [given]
        data = [{"object": "embedding", "index": n, "embedding": embedding(str(item))} for n, item in enumerate(items)]
        used = sum(tokens(str(item)) for item in items)
        self._json(
            {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": used, "total_tokens": used}}
        )

    def _convert(self, body: dict[str, Any]) -> None:
        sources = body.get("sources") or body.get("http_sources") or body.get("file_sources") or []
        if not sources:
            return self._error(422, "no sources")
        first = sources[0] if isinstance(sources[0], dict) else {}
        name = str(first.get("filename") or first.get("url") or "document")
        return self._json(
            {
                "document": {"filename": name, "md_content": f"# {name}\n\nConverted by the test upstream.\n"},
                "status": "success",
                "errors": [],
                "processing_time": 0.01,
            }
        )

    def _stream(self, events: list[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for text in [*(json.dumps(event) for event in events), "[DONE]"]:
            line = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _error(
        self,
        status: int,
        message: str,
        *,
        kind: str = "server_error",
        code: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        self._json(
            {"error": {"message": message, "type": kind, "param": None, "code": code or str(status)}}, status, headers
        )

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Silent: GET /calls tells what arrived, and benchmarks should not wait for a log."""


def tokens(text: str) -> int:
    """A token count that grows with the text; its exactness does not matter, its presence makes spend accrue."""
    return max(1, len(text.split()))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def embedding(text: str) -> list[float]:
    """The same numbers for the same text, so that a test can compare them."""
    raw = hashlib.sha256(text.encode()).digest()[:EMBEDDING_SIZE]
    return [round(byte / 127.5 - 1, 6) for byte in raw]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    server = Upstream((options.host, options.port))
    print(f"listening on http://{options.host}:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
