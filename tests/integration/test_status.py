# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a LiteMaaS is said to be: against the real proxy, databases, Redis and API server."""

from __future__ import annotations

import json
import stat
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import status
from ansible_collections.rhpds.litemaas.tests.integration import harness, kube, statuslab
from ansible_collections.rhpds.litemaas.tests.integration.cluster import READ, Namespace

UNSET = dict.fromkeys(
    ("LITELLM_URL", "LITELLM_MASTER_KEY", "LITEMAAS_DSN", "LITELLM_DSN", "REDIS_URL", "LITELLM_KEY_SECRET"), ""
)
FRONTEND = "quay.io/rh-aiservices-bu/litemaas-frontend"
ADMIN_KEY = "ltm_admin_3f9a1c77d2e84b60"
UTC = "(now() AT TIME ZONE 'UTC')"
#: Beside what finding the servers needs.
RIGHTS = (
    *READ,
    ("apps", "deployments", "list"),
    ("apps", "statefulsets", "list"),
    ("", "pods/log", "get"),
    ("", "configmaps", "get"),
)


class Backend(ThreadingHTTPServer):
    """What of LiteMaaS's backend tells whether it serves made-up data."""

    def __init__(self) -> None:
        self.users: list[dict[str, Any]] = [{"id": "00000000-0000-0000-0000-000000000001"}]
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = self.headers["authorization"] == f"Bearer {ADMIN_KEY}"
                health = self.path == "/api/v1/health/ready"
                data = json.dumps({"status": "ok"} if health else {"data": server.users}).encode()
                self.send_response(200 if health or allowed else 401)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_request(self, *_given: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def stores(stack: harness.Stack) -> Iterator[statuslab.Stores]:
    with statuslab.stores(stack) as made:
        yield made


def deployment(place: Namespace, name: str, image: str, container: str, port: int, **more: Any) -> None:
    labels = {"app": name}
    main = {"name": container, "image": image, "ports": [{"containerPort": port, "protocol": "TCP"}]}
    pods = {"automountServiceAccountToken": False, "containers": [{**main, **more.pop("main", {})}]}
    pods["initContainers"] = more.pop("init", [])
    template = {"metadata": {"labels": labels, "annotations": more.pop("annotations", {})}, "spec": pods}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    place.create("apps/v1", "Deployment", name, spec=spec)


@pytest.fixture
def running(stack: harness.Stack, namespace: Namespace, backend: Backend) -> Namespace:
    """All of a LiteMaaS that the status looks at; its frontend's init container was forgotten in an upgrade."""
    namespace.litemaas()
    namespace.secret("backend-secret", ADMIN_API_KEY=ADMIN_KEY, JWT_SECRET="jwt-5b1d9c0e77")
    password = urllib.parse.urlsplit(stack.variables["REDIS_URL"]).password or ""
    namespace.secret("litellm-redis", host="litellm-redis", port="6379", password=urllib.parse.unquote(password))
    namespace.service("litellm-redis", 6379)
    variable = {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "litellm-secret", "key": "UI_USERNAME"}}}]}
    deployment(namespace, "litellm", "quay.io/x/litellm-non-root:main-v1.81.0", "litellm", 4000, main=variable)
    forward = {"fakenode/forward": f"8080=127.0.0.1:{backend.server_address[1]}"}
    image = "quay.io/rh-aiservices-bu/litemaas-backend:0.5.0"
    deployment(namespace, "litellm-backend", image, "backend", 8080, annotations=forward)
    old = [{"name": "branding", "image": f"{FRONTEND}:0.4.0"}]
    deployment(namespace, "litellm-frontend", f"{FRONTEND}:0.5.0", "frontend", 8080, init=old)
    deployment(namespace, "litellm-redis", "redis-7", "redis", 6379)
    namespace.route("litellm-prod", "api.example.com")

    def ready() -> bool:
        pods = namespace.core.list_namespaced_pod(namespace.name).items
        states = [one.status.conditions or () for one in pods]
        return len(pods) == 5 and all(
            any(each.type == "Ready" and each.status == "True" for each in one) for one in states
        )

    kube.eventually(ready)
    return namespace


def secrets_of(stack: harness.Stack) -> set[str]:
    passwords = {urllib.parse.urlsplit(stack.variables[name]).password or "" for name in ("LITEMAAS_DSN", "REDIS_URL")}
    return {stack.master_key, ADMIN_KEY, "jwt-5b1d9c0e77", *map(urllib.parse.unquote, passwords)}


def texts(found: dict[str, Any], part: str) -> str:
    return " ".join(one["text"] for one in found["status"]["reasons"] if one["part"] == part)


# ---- with a cluster ----


def test_a_namespace_is_enough(
    runner: harness.Runner, running: Namespace, backend: Backend, stack: harness.Stack
) -> None:
    env = {**UNSET, "KUBECONFIG": running.account(runner.folder, RIGHTS)}

    def look(**options: Any) -> Any:
        # Its Route resolves nowhere; a URL that is given wins.
        given = {"namespace": running.name, "litellm_url": stack.url, "log_lines": 1, **options}
        return runner.module("litemaas_status", given, env=env)

    found = look()
    assert not found.failed and not found.changed, found["msg"]
    parts = found["status"]["parts"]
    assert {name: part["errors"] for name, part in parts.items() if part["read"] != "read"} == {}
    assert found["status"]["complete"] and found["status"]["state"] == "attention"
    workloads = {one["name"]: (one["ready"], one["wanted"]) for one in parts["pods"]["workloads"]}
    assert workloads == dict.fromkeys(("litellm", "litellm-backend", "litellm-frontend", "litellm-redis"), (1, 1))
    (wrong,) = parts["images"]["mismatches"]
    assert (wrong["container"], wrong["image"], wrong["wanted"]) == (
        "branding",
        f"{FRONTEND}:0.4.0",
        f"{FRONTEND}:0.5.0",
    )
    assert "init container branding" in texts(found, "images")
    assert [(one["health"], one["mock"]) for one in parts["backend"]["backends"]] == [("HTTP 200", False)]
    assert parts["redis"]["there"] and parts["redis"]["version"] == found["status"]["versions"]["Redis"]
    assert found["status"]["versions"]["LiteMaaS backend"] == "0.5.0"
    assert found["status"]["versions"]["LiteLLM"] == stack.variables["LITELLM_VERSION"]
    assert [one["which"] for one in parts["database"]["databases"]] == ["litemaas", "litellm"]
    assert "none is recorded" in texts(found, "backups")
    assert {one["pod"].rsplit("-", 2)[0] for one in parts["logs"]["logs"]} >= {"litellm", "litellm-backend"}
    assert all(len(one["lines"]) == 1 for one in parts["logs"]["logs"])
    assert ("litellm-prod", "litellm") in [(one["name"], one["service"]) for one in parts["routes"]["routes"]]
    assert not [one for one in secrets_of(stack) if one in json.dumps(found)]

    # What the health check doesn't see.
    backend.users = [{"id": "mock-user-1", "email": "user@example.com"}]
    data = json.dumps({"time": datetime.now(timezone.utc).isoformat(), "file": "m.json", "size": 5, "databases": ["d"]})
    running.create("v1", "ConfigMap", "litemaas-backups", data={"one": data})
    found = look(parts=["pods", "backend", "backups"])
    assert found["status"]["state"] == "broken" and "made-up data" in found["msg"], found["msg"]
    assert set(found["status"]["parts"]) == {"pods", "backend", "backups"} and not texts(found, "backups")


def test_what_an_account_may_not_read_is_named_and_the_rest_goes_on(
    runner: harness.Runner, running: Namespace, stack: harness.Stack
) -> None:
    few = tuple(one for one in RIGHTS if one[1] not in ("deployments", "configmaps", "pods/log", "secrets"))
    env = {**UNSET, "KUBECONFIG": running.account(runner.folder, few, "few")}
    given = {"namespace": running.name, "litellm_url": stack.url, "litellm_master_key": stack.master_key}
    found = runner.module("litemaas_status", {**given, "litemaas_dsn": stack.litemaas_dsn, "log_lines": 1}, env=env)
    assert not found.failed and not found["status"]["complete"], found
    parts = found["status"]["parts"]
    said = {name: (part["read"], " ".join(part["errors"])) for name, part in parts.items()}
    for name, read, right in (
        ("pods", "partly", "list on deployments.apps"),
        ("images", "partly", "list on deployments.apps"),
        ("backups", "unread", "get on configmaps"),
        ("redis", "unread", "get on secrets"),
        ("backend", "partly", "get on pods/log"),
    ):
        assert said[name][0] == read and right in said[name][1] and "403" in said[name][1], said[name]
    assert parts["pods"]["pods"] and parts["litellm"]["ready"] and parts["routes"]["read"] == "read"
    assert parts["backend"]["backends"][0]["health"] == "HTTP 200"
    assert parts["subscriptions"]["read"] == "read" and found["status"]["state"] == "attention"
    # A right that is missing is no database that is down; its words are long, and said once.
    said = [one for one in found["status"]["reasons"] if "list on deployments.apps" in one["text"]]
    assert [one["part"] for one in said] == ["pods"] and "(also for images)" in said[0]["text"], said
    blind = runner.module("litemaas_status", {**given, "parts": ["litellm", "database"]}, env=env)
    assert blind["status"]["state"] == "attention" and "can't be told" in texts(blind, "database"), blind["msg"]

    nothing = {**UNSET, "KUBECONFIG": running.account(runner.folder, (), "nobody")}
    found = runner.module("litemaas_status", {"namespace": running.name, "retry_count": 0}, env=nothing)
    assert found.failed and found["msg"].startswith("Nothing could be read")
    for right in ("list on pods", "list on deployments.apps", "get on configmaps", "get on secrets"):
        assert right in found["msg"], found["msg"]


def test_a_namespace_that_is_not_there_is_an_error(runner: harness.Runner, stack: harness.Stack, prefix: str) -> None:
    found = runner.module("litemaas_status", {"namespace": f"{prefix}none"})
    assert found.failed and "there is no such namespace" in found["msg"] and "K8S_AUTH_" in found["msg"]


# ---- what is counted ----


def fill(stores: statuslab.Stores) -> None:
    stores.keys(30, "alpha", f"{UTC} + interval '2 days'")
    stores.keys(20, "beta", f"{UTC} + interval '1 day'")
    stores.keys(10, "gamma", f"{UTC} + interval '3 hours'")
    stores.keys(7, "done", f"{UTC} - interval '1 minute'")
    stores.keys(5, "ever")
    stores.keys(4, "later", f"{UTC} + interval '8 days'")
    stores.keys(3, "stopped", f"{UTC} - interval '1 day'", blocked=True)
    stores.keys(2, "poor", max_budget=0.015)
    # Sessions of LiteLLM's dashboard: its API doesn't list them, and no clean-up takes them.
    stores.keys(9, "sessions", f"{UTC} + interval '1 hour'", team_id="litellm-dashboard")
    for guid, day, spend in (
        ("alpha", 0, 8.0),
        ("alpha", 29, 4.0),
        ("beta", 1, 2.0),
        ("done", 2, 1.0),
        ("ever", 30, 99.0),
    ):
        stores.spend(guid, 1, "dear" if guid == "alpha" else "cheap", day, spend)
    # A key that is gone has spent all the same.
    stores.litellm(
        'INSERT INTO "LiteLLM_DeletedVerificationToken" (id, token, metadata) VALUES (%s, %s, %s)',
        ("x", stores.token("gone", 1), json.dumps({"guid": "gone"})),
    )
    stores.spend("gone", 1, "cheap", 3, 16.0)
    stores.spend("nobody", 1, "cheap", 3, 0.5)
    stores.models(("here", "available"), ("hidden", "unavailable"))
    stores.subscriptions("here", active=3, pending=2, denied=1)
    stores.subscriptions("hidden", active=4, inactive=1)
    stores.row("alias-orphan", "no-such-token", True)
    stores.row("alias-revoked", stores.token("later", 1), False)
    stores.row("alias-well", stores.token("later", 2), True)


@pytest.mark.parametrize("shared", [False, True], ids=["split", "shared"])
def test_everything_is_counted(runner: harness.Runner, stack: harness.Stack, shared: bool) -> None:
    with statuslab.stores(stack, shared) as stores:
        fill(stores)
        given = {"litemaas_dsn": stores.litemaas_dsn, "top": 2, "report_limit": 5, "retry_count": 0}
        env = {"LITELLM_DSN": "" if shared else stores.litellm_dsn}
        found = runner.module("litemaas_status", given, env=env)
    assert not found.failed, found["msg"]
    parts = found["status"]["parts"]
    keys = parts["keys"]
    assert keys["source"] == ("shared database" if shared else "litellm_dsn")
    assert keys["states"] == {"blocked": 3, "expired": 7, "expiring": 60, "without_expiry": 7, "alive": 4}
    assert (keys["count"], keys["over_budget"]) == (81, 1)
    assert [(one["guid"], one["keys"], one["guids"]) for one in keys["expiring_by_guid"]] == [
        ("gamma", 10, 1),
        ("beta", 20, 1),
        (None, 30, 1),
    ]
    assert (keys["orphaned_rows"], keys["revoked_but_alive"]) == (1, 1)
    assert keys["rows"] == {"active": 2, "inactive": 1}
    assert [one["state"] for one in keys["items"]] == ["blocked"] * 3 + ["expired"] * 2
    assert "alias-orphan" in texts(found, "keys") and "alias-revoked" in texts(found, "keys")
    spend = parts["spend"]
    assert (spend["total"], spend["requests"], len(spend["by_day"])) == (31.5, 18, 30)
    assert [(one["name"], one["spend"], one["count"]) for one in spend["by_guid"]] == [
        ("gone", 16.0, 1),
        ("alpha", 12.0, 1),
        (None, 3.5, 3),
    ]
    assert [(one["name"], one["spend"]) for one in spend["by_model"]] == [("cheap", 19.5), ("dear", 12.0)]
    assert spend["by_day"][-1]["spend"] == 8.0 and spend["by_day"][0]["spend"] == 4.0
    subscriptions = parts["subscriptions"]
    assert subscriptions["states"]["active"] == 7 and subscriptions["on_unavailable_models"] == 4
    assert subscriptions["unavailable_models"] == [{"model": "hidden", "subscriptions": 4}]
    # Nothing else makes its way out of the rows: no hash, no value.
    said = json.dumps(found)
    assert "plaintext" not in said and stores.token("alpha", 1) not in said and "no-such-token" not in said


def test_models_are_told_by_store_and_state(
    runner: harness.Runner, stack: harness.Stack, stores: statuslab.Stores, litellm: harness.LiteLLM, prefix: str
) -> None:
    params = {"model": "openai/demo", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-placeholder"}
    for name in ("both", "twice", "twice", "hidden", "lonely"):
        litellm.post("/model/new", model_name=f"{prefix}{name}", litellm_params=params, model_info={})
    kube.eventually(lambda: len(litellm.models(prefix)) == 5)
    stores.models(
        *((f"{prefix}{name}", "available") for name in ("both", "twice", "orphan")),
        *((f"{prefix}{name}", "unavailable") for name in ("hidden", "retired")),
    )
    given = {"litemaas_dsn": stores.litemaas_dsn, "litellm_dsn": stores.litellm_dsn, "report_limit": 1000}
    found = runner.module("litemaas_status", {**given, "parts": ["models", "drift"]})
    items = {one["name"].removeprefix(prefix): one for one in found["status"]["parts"]["models"]["items"]}
    states = {name: items[name]["state"] for name in ("both", "twice", "hidden", "lonely", "orphan", "retired")}
    assert states == {
        "both": "both",
        "twice": "both",
        "hidden": "unavailable",
        "lonely": "only_litellm",
        "orphan": "only_litemaas",
        "retired": "only_litemaas",
    }
    assert [items[name]["deployments"] for name in ("both", "twice", "orphan")] == [1, 2, 0]
    assert f"{prefix}orphan" in texts(found, "models") and f"{prefix}retired" not in texts(found, "models")
    drift = found["status"]["parts"]["drift"]
    assert set(status.DRIFT) - set(drift) <= {"orphaned_keys", "keys_without_alias", "alive_revoked_keys"}
    twins = [one["name"] for part in ("identical_twins", "possible_twins") for one in drift[part]["items"]]
    assert f"{prefix}twice" in twins
    # It only looked.
    assert not [one for one in harness_rows(stores) if one == f"{prefix}lonely"]

    # A proxy that is down is said so, and the databases still tell.
    found = runner.module("litemaas_status", {**given, "litellm_url": "http://127.0.0.1:1", "retry_count": 0})
    parts = found["status"]["parts"]
    assert not found.failed and found["status"]["state"] == "broken", found["msg"]
    assert {name: parts[name]["read"] for name in ("litellm", "drift", "models", "keys", "spend")} == {
        "litellm": "unread",
        "drift": "unread",
        "models": "partly",
        "keys": "read",
        "spend": "read",
    }
    assert "127.0.0.1:1" in texts(found, "litellm") and "those of its table" in parts["models"]["errors"][0]
    assert {one["name"]: one["deployments"] for one in parts["models"]["items"]}[f"{prefix}twice"] == 2


def harness_rows(stores: statuslab.Stores) -> list[str]:
    connection = harness.connect(stores.litemaas_dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM models")
            return [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()


def test_the_proxys_own_keys_and_spend_are_read_as_it_writes_them(
    runner: harness.Runner, stack: harness.Stack, litellm: harness.LiteLLM, lab_model: str, prefix: str
) -> None:
    guid = prefix.strip("-")
    for name, more in (("soon", {"duration": "1d"}), ("late", {"duration": "30d"}), ("ever", {}), ("stop", {})):
        metadata = {"guid": guid}
        made = litellm.post("/key/generate", key_alias=f"{prefix}{name}", metadata=metadata, models=[lab_model], **more)
        if name == "stop":
            litellm.post("/key/block", key=made["key"])
        if name == "soon":
            assert litellm.chat(lab_model, made["key"])[0] == 200

    def look(**options: Any) -> Any:
        return runner.module("litemaas_status", {"report_limit": 100_000, "top": 100_000, **options})["status"]["parts"]

    def spent() -> Any:
        parts = look(parts=["keys", "spend"])
        return parts if [one for one in parts["spend"]["by_guid"] if one["name"] == guid and one["requests"]] else None

    parts = kube.eventually(spent)
    expected = {"soon": "expiring", "late": "alive", "ever": "without_expiry", "stop": "blocked"}
    mine = [one for one in parts["keys"]["items"] if (one["alias"] or "").startswith(prefix)]
    assert {one["alias"].removeprefix(prefix): one["state"] for one in mine} == expected
    assert {one["guid"] for one in mine} == {guid}
    # Out of the API it is the same, to the last field.
    now = datetime.now(timezone.utc)
    listed = {one["key_alias"]: status.key_item(one, now, 7 * 86400) for one in litellm.keys(prefix)}
    for one in mine:
        assert {**listed[one["alias"]], "spend": 0} == {**one, "spend": 0}
    parts = runner.module("litemaas_status", {"parts": ["keys"], "report_limit": 100_000}, env={"LITELLM_DSN": ""})
    keys = parts["status"]["parts"]["keys"]
    if keys["source"] == "api":
        assert {one["alias"]: one["state"] for one in keys["items"]} == {
            one["alias"]: one["state"] for one in look(parts=["keys"])["keys"]["items"]
        }
    else:
        pytest.fail(f"LiteMaaS's own database has no keys of LiteLLM, and they came from {keys['source']}")


def test_servers_that_are_down_are_named(
    runner: harness.Runner, stores: statuslab.Stores, stack: harness.Stack
) -> None:
    dead = "postgresql://litemaas:hunter2hunter2@127.0.0.1:1/litemaas"
    given = {
        "litemaas_dsn": dead,
        "litellm_dsn": stores.litellm_dsn,
        "redis_url": "redis://:hunter2hunter2@127.0.0.1:1",
    }
    found = runner.module("litemaas_status", given)
    parts = found["status"]["parts"]
    assert not found.failed and not found["status"]["complete"]
    assert {name: part["read"] for name, part in parts.items() if part["read"] != "not_asked"} == {
        "litellm": "read",
        "database": "partly",
        "redis": "unread",
        "drift": "unread",
        "models": "partly",
        "keys": "partly",
        "subscriptions": "unread",
        "spend": "read",
    }
    assert "litemaas_dsn" in texts(found, "database") and "127.0.0.1:1" in texts(found, "redis")
    assert "no namespace is given" in parts["pods"]["why"] and "hunter2" not in json.dumps(found)
    all_dead = {**given, "litellm_dsn": dead, "litellm_url": "http://127.0.0.1:1", "retry_count": 0}
    found = runner.module("litemaas_status", all_dead)
    assert found.failed and found["msg"].startswith("Nothing could be read") and "hunter2" not in found["msg"]
    found = runner.module("litemaas_status", {}, env=UNSET)
    assert found.failed and found["msg"].count("set") == 1, found["msg"]
    found = runner.module("litemaas_status", {"expiring_within": "soon"})
    assert found.failed and "expiring_within" in found["msg"]


# ---- the playbook ----


def test_the_playbook_says_it_writes_it_and_ends_as_wanted(
    runner: harness.Runner, stores: statuslab.Stores, stack: harness.Stack
) -> None:
    fill(stores)
    page = runner.folder / "status.html"
    variables = {"litemaas_dsn": stores.litemaas_dsn, "litellm_dsn": stores.litellm_dsn, "report": str(page)}
    done = runner.playbook("rhpds.litemaas.status", {**variables, "fail_on": "broken"}, check=True)
    assert (done.rc, done.changed) == (0, 0) and not page.exists(), done.output
    done = runner.playbook("rhpds.litemaas.status", {**variables, "fail_on": "problems"}, verbosity=3)
    assert done.rc == 2 and done.changed == 0, done.output
    assert '"ATTENTION  ' in done.output and "keys          81: 3 blocked, 7 expired" in done.output
    assert [stat.S_IMODE(one.stat().st_mode) for one in (page, page.with_suffix(".json"))] == [0o600, 0o600]
    written = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert written["schema"] == 1 and written["parts"]["keys"]["count"] == len(written["parts"]["keys"]["items"]) == 81
    everything = done.output + page.read_text(encoding="utf-8") + json.dumps(written)
    hidden = {*secrets_of(stack), stores.token("alpha", 1), f"sk-plaintext-{stores.schema}"}
    assert not [one for one in hidden if one in everything]
