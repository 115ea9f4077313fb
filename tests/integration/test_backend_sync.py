# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litemaas_backend_sync against a double of LiteMaaS's backend, as the real one can't be had here.

The double answers as the backend of LiteMaaS 0.4.0 was seen to: an admin key with its prefix, a body that is required,
200 with ``success: false`` for a failure, made-up users without a database. What its sync writes, it writes into real
tables. LiteLLM, PostgreSQL and the cluster are real.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness
from ansible_collections.rhpds.litemaas.tests.integration.test_litemaas_db_sync import Catalogue

KEY = "ltm_admin_0123456789abcdef"


class Backend:
    """The double."""

    def __init__(self, tables: Catalogue) -> None:
        self.tables = tables
        self.users: Any = {"data": [{"id": "6a3f", "username": "ada"}]}
        self.answer: Any = None
        self.syncs: list[dict[str, Any]] = []
        self.appears: list[str] = []
        self.goes: list[str] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: Any) -> None:
                pass

            def say(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def allowed(self) -> bool:
                if self.headers.get("authorization") == f"Bearer {KEY}":
                    return True
                self.say(401, {"error": {"message": "Invalid API key"}})
                return False

            def do_GET(self) -> None:
                if self.path == "/model/info":  # as a LiteLLM that has lost everything
                    self.say(200, {"data": []})
                elif self.path.partition("?")[0] != "/api/v1/admin/users":
                    self.say(404, {"error": {"message": "Route not found"}})
                elif self.allowed():
                    self.say(200, double.users)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.path != "/api/v1/models/sync":
                    self.say(404, {"error": {"message": "Route not found"}})
                elif self.allowed():
                    self.say(*double.sync(json.loads(body)) if body else (400, {"message": "body is required"}))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def sync(self, options: dict[str, Any]) -> tuple[int, Any]:
        self.syncs.append(options)
        if self.answer is not None:
            return 200, self.answer
        rows = self.tables.rows("SELECT id FROM models")
        for name in self.appears:
            self.tables.run(
                "INSERT INTO models (id, name, provider) VALUES (%s, %s, 'x') ON CONFLICT DO NOTHING", name, name
            )
        gone = self.goes if options["markUnavailable"] else []
        for name in gone:
            self.tables.run("UPDATE models SET availability = 'unavailable' WHERE id = %s", name)
            self.tables.run("UPDATE subscriptions SET status = 'inactive' WHERE model_id = %s", name)
        new = len(set(self.appears) - {row["id"] for row in rows})
        counts = {"totalModels": len(rows), "newModels": new, "updatedModels": len(rows)}
        return 200, {"success": True, **counts, "unavailableModels": len(gone), "errors": [], "syncedAt": "now"}


@pytest.fixture
def backend(stack: harness.Stack) -> Iterator[Backend]:
    tables = Catalogue(stack.litemaas_dsn)
    made = Backend(tables)
    yield made
    made.server.shutdown()
    made.server.server_close()
    tables.close()


@pytest.fixture
def sync(backend: Backend, run_module: Any, lab_model: str) -> Any:
    """Runs the module; LiteLLM has at least one model."""

    def run(check: bool = False, **options: Any) -> harness.ModuleResult:
        where = {"litemaas_url": backend.url, "litemaas_admin_key": KEY, "litemaas_dsn": backend.tables.dsn}
        return run_module("litemaas_backend_sync", {**where, "retry_count": 0, **options}, check=check)

    return run


def test_the_database_tells_what_has_changed(backend: Backend, sync: Any) -> None:
    backend.appears = ["fresh"]
    checked = sync(check=True)
    assert (checked.failed, checked.changed, backend.syncs) == (False, False, [])
    done = sync()
    assert (done.changed, done["models"], done["counts"]["newModels"]) == (True, ["fresh"], 1)
    assert backend.syncs == [{"forceUpdate": False, "markUnavailable": False}]
    again = sync()
    assert again["counts"]["updatedModels"] == 1  # which didn't change
    assert (again.changed, again["models"]) == (False, [])


def test_a_failure_with_200_is_a_failure(backend: Backend, sync: Any) -> None:
    backend.answer = {"success": False, "errors": ["Failed to sync model granite: value too long"]}
    done = sync()
    assert done.failed
    assert "its sync failed: Failed to sync model granite" in done["msg"]
    backend.answer = {"ok": True}
    assert "doesn't say whether it succeeded" in sync()["msg"]


def test_made_up_data_is_told_from_a_database(backend: Backend, sync: Any) -> None:
    backend.users = [{"id": "mock-user-1", "username": "admin"}]
    done = sync()
    assert "shows made-up data" in done["msg"]
    backend.users = {"status": "ok"}
    assert "no list of users" in sync()["msg"]
    assert backend.syncs == []


def test_an_empty_litellm_never_reaches_the_backend(backend: Backend, sync: Any, stack: harness.Stack) -> None:
    done = sync(litellm_url=backend.url)
    assert done.failed
    assert done["msg"].startswith("Nothing was synced: LiteLLM lists no model")
    assert backend.syncs == []
    assert stack.master_key not in json.dumps(done)


def test_what_takes_subscriptions_needs_a_word(backend: Backend, sync: Any, prefix: str) -> None:
    name = f"{prefix}gone"
    backend.tables.run("INSERT INTO models (id, name, provider) VALUES (%s, 'x', 'x')", name)
    backend.tables.subscribe(name)
    backend.goes = [name]
    blind = sync(mark_unavailable=True, litemaas_dsn=None)
    assert "can't be told without LiteMaaS's database" in blind["msg"]
    held = sync(mark_unavailable=True)
    assert f"models with active subscriptions would become unavailable: {name} (1)" in held["msg"]
    assert backend.syncs == []
    done = sync(mark_unavailable=True, allow_active_subscriptions=True)
    assert done.changed
    assert "1 models became unavailable, 1 subscriptions became inactive" in str(done["warnings"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"litemaas_admin_key": "ltm_admin_wrong-0123456789"}, "Check litemaas_admin_key"),
        ({"litemaas_admin_key": "sk-0123456789abcdef"}, "doesn't begin with ltm_admin_"),
        ({"litemaas_admin_key": None}, "litemaas_admin_key is not set"),
        ({"litemaas_url": "http://127.0.0.1:9"}, "Check litemaas_url, that the backend runs"),
    ],
)
def test_what_is_wrong_is_said_in_the_backends_terms(
    backend: Backend, sync: Any, options: dict[str, Any], text: str
) -> None:
    done = sync(**options)
    assert done.failed
    assert text in done["msg"]
    assert backend.syncs == []
    for key in (KEY, "wrong-0123456789", "sk-0123456789abcdef"):
        assert key not in json.dumps(done)


def test_the_playbook_finds_all_of_it_in_the_namespace(
    backend: Backend, run_playbook: Any, namespace: cluster.Namespace, stack: harness.Stack, lab_model: str
) -> None:
    namespace.litemaas()
    namespace.ingress("litellm-admin", backend.url, service="litellm-backend")
    namespace.secret("backend-secret", ADMIN_API_KEY=KEY, JWT_SECRET="a-jwt-secret-of-the-backend")
    variables = {"namespace": namespace.name, "litemaas_dsn": backend.tables.dsn}
    unset = {"LITELLM_URL": "", "LITELLM_MASTER_KEY": "", "LITEMAAS_DSN": "", "LITELLM_DSN": ""}
    done = run_playbook("rhpds.litemaas.backend_sync", variables, env=unset, verbosity=3)
    assert (done.rc, done.changed) == (0, 0), done.output
    assert "The LiteMaaS backend has synced" in done.output
    assert len(backend.syncs) == 1
    assert f"Ingress {namespace.name}/litellm-admin" in done.output
    for secret in (KEY, stack.master_key, "a-jwt-secret-of-the-backend"):
        assert secret not in done.output
