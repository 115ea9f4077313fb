# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteMaaS's catalogue: one sync of many models, beside one COPY of the same rows into the same table."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from benchmarks import catalogue_worker
from benchmarks.figures import Figure, compared, say, timed
from benchmarks.lab import BenchError, Lab

MODULE = "litemaas_db_sync"
SYNC_LIMIT = 3.0
MEMORY_LIMIT = 300
#: How long a real proxy may take to load the deployments that were put into its table.
LOAD_SECONDS = 420
#: The measured part takes a second or two: more rounds cost little.
ROUNDS = 5
#: The catalogue in use: nine models of Vertex AI, which LiteLLM describes at length, and three that it does not know.
VERTEX = (
    "vertex_ai/claude-sonnet-4-6",
    "vertex_ai/claude-opus-4-6-v1",
    "vertex_ai/claude-sonnet-4-5",
    "vertex_ai/claude-3-5-haiku",
    "vertex_ai/gemini-2.5-pro",
    "vertex_ai/openai/gpt-oss-120b-maas",
    "vertex_ai/openai/gpt-oss-20b-maas",
    "vertex_ai/minimaxai/minimax-m2-maas",
    "vertex_ai/qwen/qwen3-235b-a22b-instruct-2507-maas",
)
OWN = ("openai/demo-chat", "openai/demo-embed", "openai/demo-convert")


def measure(lab: Lab, count: int, repeat: int) -> Iterator[Figure]:
    """Figures of the sync, first of its database part, then of the whole module."""
    entries = _recorded(lab)
    work = {"dsn": lab.variables["LITEMAAS_DSN"], "entries": entries, "prefix": lab.prefix, "count": count}
    ours, bare, again, peaks = [], [], [], []
    rows: str = ""

    def sync(expected: str) -> float:
        run = lab.helper("catalogue_worker.py", work)
        if run.result["summary"][expected] != count:
            raise BenchError(f"sync of {count} models: {run.result['summary']}")
        peaks.append(run.result["peak_mb"])
        return float(run.result["seconds"])

    for number in range(max(repeat, ROUNDS)):
        _empty(lab)
        ours.append(sync("created"))
        again.append(sync("unchanged"))
        rows = rows or _rows(lab)
        _empty(lab)
        bare.append(_copy(lab, rows, count))
        say(
            f"{count} models, round {number + 1}: sync {ours[-1]:.2f} s, COPY {bare[-1]:.2f} s, again {again[-1]:.2f} s"
        )
    size = f"{len(rows.encode()) / count / 1024:.1f} kB a row; the database part, entries in memory, to the commit"
    yield compared(f"sync {count} models", ours, bare, SYNC_LIMIT, note=f"bare is one COPY of the same rows, {size}")
    yield timed(f"sync {count} models again, nothing to do", again)
    yield Figure(f"memory at {count} models", max(peaks), "MB", limit=MEMORY_LIMIT, runs={"ours": peaks})
    yield from _whole_module(lab, entries, count)


def _recorded(lab: Lab) -> list[dict[str, Any]]:
    """Deployments as this proxy lists them."""
    vertex = {"vertex_project": "none", "vertex_location": "us-central1", "vertex_credentials": "/etc/vertex/key.json"}
    own = {"api_base": f"{lab.variables['UPSTREAM_URL']}/v1", "api_key": "sk-placeholder"}
    for number, model in enumerate([*VERTEX, *OWN]):
        name = f"{lab.prefix}recorded-{number}"
        params = {"model": model, "rpm": 500, "tpm": 400000, **(vertex if model in VERTEX else own)}
        info = {"id": name, "input_cost_per_token": 9e-08, "output_cost_per_token": 3.6e-07}
        body = {"model_name": name, "litellm_params": params, "model_info": info}
        lab.call("POST", "/model/new", json=body)
    return [entry for entry in lab.models() if entry["model_name"].startswith(f"{lab.prefix}recorded-")]


def _empty(lab: Lab) -> None:
    with lab.database("LITEMAAS_DSN") as cursor:
        cursor.execute("TRUNCATE models CASCADE")
        cursor.execute("ANALYZE models")
        # What the last run left to be written would be paid by the next one.
        with contextlib.suppress(Exception):
            cursor.execute("CHECKPOINT")


def _rows(lab: Lab) -> str:
    out = io.StringIO()
    with lab.database("LITEMAAS_DSN") as cursor:
        cursor.copy_expert("COPY models TO STDOUT", out)
    return out.getvalue()


def _copy(lab: Lab, rows: str, count: int) -> float:
    source = io.BytesIO(rows.encode())
    with lab.database("LITEMAAS_DSN") as cursor:
        started = time.perf_counter()
        cursor.copy_expert("COPY models FROM STDIN", source, size=1 << 16)
        seconds = time.perf_counter() - started
        if cursor.rowcount != count:
            raise BenchError(f"COPY wrote {cursor.rowcount} of {count} rows")
    return seconds


# ---- the whole module ----


def _whole_module(lab: Lab, entries: list[dict[str, Any]], count: int) -> Iterator[Figure]:
    loaded = _into_the_proxy(lab, entries, count)
    with contextlib.ExitStack() as leaving:
        if loaded is not None:
            say(f"the proxy lists {count} more deployments after {loaded:.0f} s")
            started = time.perf_counter()
            lab.models()
            seconds = time.perf_counter() - started
            url, where = lab.url, f"a real proxy, which takes {seconds:.1f} s of it to answer /model/info"
        else:
            url = leaving.enter_context(_stub(entries, lab.prefix, count))
            where = "a stub that serves /model/info as recorded: the proxy did not load so many in time"
        given = {"api_timeout": 600, "retry_count": 0}
        _empty(lab)
        first = lab.module(MODULE, given, url=url)
        second = lab.module(MODULE, given, url=url)
        with lab.database("LITELLM_DSN") as cursor:
            cursor.execute('DELETE FROM "LiteLLM_ProxyModelTable" WHERE starts_with(model_id, %s)', (lab.prefix,))
    if first.result["summary"]["created"] < count or second.result["changed"]:
        raise BenchError(f"{MODULE} with {count} models: {first.result['msg']}; again: {second.result['msg']}")
    yield Figure(f"{MODULE} with {count} models", first.seconds, note=f"the whole module, against {where}")
    yield timed(f"{MODULE} with {count} models again", [second.seconds])
    peaks = [first.peak_mb, second.peak_mb]
    yield Figure(f"{MODULE} with {count} models, memory", max(peaks), "MB", limit=MEMORY_LIMIT, runs={"ours": peaks})


def _into_the_proxy(lab: Lab, entries: list[dict[str, Any]], count: int) -> float | None:
    """Put deployments into the proxy's table and wait until it lists them; None when it takes too long.

    Making them through /model/new would take an hour. The values of the one that was made through it are copied, as
    they are encrypted with the proxy's key.
    """
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute(
            'INSERT INTO "LiteLLM_ProxyModelTable"'
            " (model_id, model_name, litellm_params, model_info, created_at, created_by, updated_at, updated_by)"
            " SELECT %(start)s || 'id-' || number, %(start)s || number, litellm_params,"
            " jsonb_set(model_info::jsonb, '{id}', to_jsonb(%(start)s || 'id-' || number)),"
            " created_at, created_by, updated_at, updated_by"
            ' FROM "LiteLLM_ProxyModelTable" JOIN unnest(%(first)s) WITH ORDINALITY AS f(id, place) ON model_id = f.id'
            " JOIN generate_series(0, %(count)s - 1) AS number ON number %% %(kinds)s = place - 1",
            {
                "start": lab.prefix,
                "count": count,
                "first": [entry["model_info"]["id"] for entry in entries],
                "kinds": len(entries),
            },
        )
    say(f"waiting for the proxy to load {count} deployments, at most {LOAD_SECONDS} s")
    started = time.monotonic()
    while time.monotonic() - started < LOAD_SECONDS:
        with contextlib.suppress(requests.RequestException, ValueError, KeyError):
            if sum(one["model_name"].startswith(lab.prefix) for one in lab.models()) >= count:
                return time.monotonic() - started
        time.sleep(5)
    return None


@contextlib.contextmanager
def _stub(entries: list[dict[str, Any]], prefix: str, count: int) -> Iterator[str]:
    """A server that says what a proxy with so many deployments would."""
    listing = json.dumps({"data": catalogue_worker.repeated(entries, prefix, count)}).encode()
    keys = json.dumps({"keys": [], "total_count": 0, "current_page": 1, "total_pages": 0}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = listing if self.path.startswith("/model/info") else keys
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
