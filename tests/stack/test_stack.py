# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the stack itself.

What needs a proxy uses the stack that is up and is skipped without one. What needs only a PostgreSQL or a process makes
its own, within seconds.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import faults  # noqa: E402
import postgres  # noqa: E402
import processes  # noqa: E402
import progress  # noqa: E402
import provision  # noqa: E402
import settings as stack_settings  # noqa: E402
import supervisor  # noqa: E402
import upstream  # noqa: E402

STACK = [sys.executable, str(HERE / "stack.py")]
TABLES = 17


def call(
    url: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method=method, headers={"content-type": "application/json", **(headers or {})}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), parsed(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), parsed(error.read())


def parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


def stack_env(folder: Path, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STACK_", "LITELLM_", "ALLOW_"))}
    return kept | {"STACK_DIR": str(folder)} | changes


# --- the schema ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    """A PostgreSQL of our own, with empty databases."""
    scratch = tmp_path_factory.mktemp("stack")
    chosen = stack_settings.Settings.from_env(stack_env(scratch / "stack"))
    cache = provision.Cache(chosen, progress.Events(sys.stderr))
    binaries = provision.find_postgres(chosen, cache)
    account = postgres.service_account()
    (scratch / "stack").mkdir()
    home = postgres.place_for_data(chosen, account)
    made = postgres.Server(binaries, home, scratch / "postgres.log", "a-password")
    made.initialise()
    child = made.start()
    made.sql(
        "roles",
        text="CREATE ROLE owner LOGIN CREATEDB PASSWORD 'pw';"
        "CREATE DATABASE own OWNER owner; CREATE DATABASE shared OWNER owner;",
    )
    yield made
    processes.stop([child])
    supervisor.remove_data(chosen, home)


@pytest.mark.parametrize("layout", ["own", "shared"])
def test_schema_applies_again_and_again_in_both_layouts(server: postgres.Server, layout: str) -> None:
    login = postgres.Login("owner", "pw", layout)
    if layout == "shared":
        server.sql(
            "a table of LiteLLM's", login, text='CREATE TABLE IF NOT EXISTS "LiteLLM_ProxyModelTable" (model_id text);'
        )
    for _attempt in range(2):
        server.sql("the schema", login, files=[postgres.SCHEMA])
    counted = server.sql(
        "count",
        login,
        text="SELECT count(*) FROM information_schema.tables "
        "WHERE table_schema = 'public' AND table_name NOT LIKE 'LiteLLM%';",
    )
    assert int(counted) == TABLES
    fixed = server.sql("rows", login, text="SELECT id, is_active FROM users; SELECT id, name FROM teams;").split()
    assert fixed[0] == "00000000-0000-0000-0000-000000000001|f"
    assert " ".join(fixed[1:]) == "a0000000-0000-4000-8000-000000000001|Default Team"


def test_schema_keeps_the_rules_of_the_backend(server: postgres.Server) -> None:
    login = postgres.Login("owner", "pw", "own")
    server.sql("the schema", login, files=[postgres.SCHEMA])
    user = "00000000-0000-0000-0000-00000000000a"
    text = f"""
        INSERT INTO users (id, username, email, oauth_provider, oauth_id)
            VALUES ('{user}', 'a', 'a@example.com', 'x', 'a');
        INSERT INTO models (id, name, provider, updated_at) VALUES ('m', 'm', 'openai', 'yesterday');
        INSERT INTO subscriptions (user_id, model_id) VALUES ('{user}', 'm');
        INSERT INTO api_keys (user_id, subscription_id, key_hash, key_prefix)
            SELECT '{user}', id, 'h', 'sk-' FROM subscriptions;
        INSERT INTO api_key_models SELECT id, 'm' FROM api_keys;
        UPDATE models SET name = 'n';
        SELECT updated_at > now() - interval '1 hour', availability, supports_streaming, metadata FROM models;
        SELECT status, sync_status FROM subscriptions;
        SELECT max_budget, tpm_limit, rpm_limit, roles FROM users WHERE id = '{user}';
    """
    lines = server.sql("rows", login, text=text).splitlines()
    assert lines == ["t|available|t|{}", "active|pending", "100.00|10000|60|{user}"]
    refused = {
        "DELETE FROM models;": "violates foreign key",
        "INSERT INTO subscriptions (user_id, model_id) SELECT user_id, model_id FROM subscriptions;": "duplicate key",
        "UPDATE subscriptions SET status = 'gone';": "violates check",
        "UPDATE api_keys SET sync_status = 'odd';": "violates check",
    }
    for statement, reason in refused.items():
        with pytest.raises(progress.StackError) as caught:
            server.sql("refused", login, text=statement)
        assert reason in "\n".join(caught.value.tail)
    left = server.sql(
        "cascade",
        login,
        text=f"DELETE FROM users WHERE id = '{user}';"
        "SELECT (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM api_key_models);",
    )
    assert left.strip() == "0"


def test_a_wrong_password_is_refused(server: postgres.Server) -> None:
    with pytest.raises(progress.StackError) as caught:
        server.sql("login", postgres.Login("owner", "wrong", "own"), text="SELECT 1;")
    assert "password authentication failed" in "\n".join(caught.value.tail)


def test_a_taken_port_is_left_for_another_one(
    server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = stack_settings.Settings.from_env(stack_env(tmp_path))
    monkeypatch.setattr(postgres, "reachable", lambda *_: False)
    home = postgres.place_for_data(chosen, postgres.service_account())
    monkeypatch.undo()
    second = postgres.Server(server._binaries, home, tmp_path / "postgres.log", "pw")
    second.initialise()
    free = processes.free_port()
    ports = iter([server.port, free])
    monkeypatch.setattr(postgres, "free_port", lambda: next(ports))
    child = second.start()
    try:
        assert second.port == free
    finally:
        processes.stop([child])
        supervisor.remove_data(chosen, home)


# --- installing ---


def test_a_cache_entry_is_built_once_by_many_and_again_after_a_failure(tmp_path: Path) -> None:
    chosen = stack_settings.Settings.from_env(
        stack_env(tmp_path / "stack", RHPDS_LITEMAAS_CACHE=str(tmp_path / "cache"))
    )
    cache = provision.Cache(chosen, progress.Events(sys.stderr))
    built: list[Path] = []

    def fail(folder: Path, _log: Path) -> None:
        (folder / "half").touch()
        raise progress.StackError("no network")

    def build(folder: Path, _log: Path) -> None:
        assert not (folder / "half").exists()
        time.sleep(0.2)
        built.append(folder)

    with pytest.raises(progress.StackError):
        cache.entry("thing", "1", "a thing", fail)
    threads = [threading.Thread(target=cache.entry, args=("thing", "1", "a thing", build)) for _attempt in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert cache.entry("thing", "2", "a thing", build) != built[0]


def test_a_failed_command_says_which_step_and_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(progress.StackError) as caught:
        processes.run(
            "fetching",
            ["/bin/sh", "-c", "echo no route to host; exit 3"],
            log=tmp_path / "log",
            hint="look at the network",
        )
    assert (caught.value.what, caught.value.tail, caught.value.log) == (
        "fetching failed (exit status 3)",
        ["no route to host"],
        tmp_path / "log",
    )
    with pytest.raises(progress.StackError, match="cannot be run"):
        processes.run("fetching", ["/does/not/exist"], log=tmp_path / "log")


def test_pins_name_no_host_and_no_place() -> None:
    lock = json.loads((HERE / "engine" / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())
    for path in (HERE / "requirements").glob("*.txt"):
        pins = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert pins
        assert all("==" in line and "@" not in line and "/" not in line for line in pins), path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"LITELLM_VERSION": "0.0.1"}, "not pinned"),
        ({"STACK_REPLICAS": "none"}, "not a number"),
        ({"STACK_REPLICAS": "9"}, "not a number"),
        ({"ALLOW_MISSING": "redis"}, "can't go without"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    done = subprocess.run(
        [*STACK, "up"], env=stack_env(tmp_path / "s", **changes), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert reason in done.stderr
    assert next(iter(changes)) in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for command in ("up", "down"):
        done = subprocess.run([*STACK, command], env=stack_env(tmp_path), capture_output=True, text=True, check=False)
        assert done.returncode == 1, command
        assert "not a stack's" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


# --- the supervisor, with a cache that can't be made: it starts, fails and leaves ---


def test_a_failed_start_leaves_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = stack_env(tmp_path / "s", RHPDS_LITEMAAS_CACHE=str(tmp_path / "file" / "cache"))
    done = subprocess.run([*STACK, "up"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the cache folder" in done.stderr
    assert "RHPDS_LITEMAAS_CACHE" in done.stderr
    assert not (tmp_path / "s" / "state.json").exists()
    assert subprocess.run([*STACK, "down"], env=env, capture_output=True, check=False).returncode == 0
    assert not (tmp_path / "s").exists()


def test_a_child_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    """The child ignores polite signals, and its parent is killed without a chance to clean up."""
    code = f"""
import sys, time; sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
import processes
command = ["/bin/sh", "-c", "trap '' TERM INT HUP; while :; do sleep 1; done"]
child = processes.start("child", command, log=Path({str(tmp_path / "log")!r}))
print(child.popen.pid, flush=True); time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        identity = processes.Identity.of(int(parent.stdout.readline()))
        assert identity
        assert identity.alive()
        parent.kill()
    assert gone([identity], 5)


def test_a_query_engine_whose_proxy_is_gone_before_it_starts_ends(running: dict[str, str], tmp_path: Path) -> None:
    chosen = stack_settings.Settings.from_env(stack_env(tmp_path, LITELLM_VERSION=running["LITELLM_VERSION"]))
    litellm = provision.install_litellm(chosen, provision.Cache(chosen, progress.Events(sys.stderr)))
    command = [litellm.node.binary, litellm.engine / "query-engine.mjs", "-p", str(processes.free_port())]
    schema = str(litellm.venv / "prisma-schema" / "schema.prisma")
    env = {"PRISMA_DML_PATH": schema, "DATABASE_URL": running["LITELLM_DSN"]}
    for parent in ("1", str(os.getppid())):
        done = subprocess.run(command, env={**env, "QE_PARENT": parent}, timeout=60, check=False, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")


def gone(identities: list[processes.Identity], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(identity.alive() for identity in identities):
        time.sleep(0.05)
    return not any(identity.alive() for identity in identities)


# --- a stack of its own, warm, that is killed ---

starts_stacks = pytest.mark.skipif(
    os.environ.get("STACK_TEST_STARTS") != "1",
    reason="STACK_TEST_STARTS=1 starts and kills stacks (a minute, 1 GB of memory)",
)


def owned_by(folder: Path) -> list[processes.Identity]:
    """Every process that works for the stack in a folder, found by what it was started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if str(folder).encode() in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                identity = processes.Identity.of(int(entry.name))
                found += [identity] if identity else []
    return found


@starts_stacks
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after", ["PostgreSQL", "LiteLLM"])
def test_a_killed_up_leaves_no_process(tmp_path: Path, number: int, after: str) -> None:
    folder = tmp_path / "killed-up"
    with subprocess.Popen(
        [*STACK, "up"], env=stack_env(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as up:
        assert up.stdout
        seen = b""
        while f"  {after}".encode() not in seen:
            seen += up.stdout.read(200)
        time.sleep(1.5 if after == "LiteLLM" else 0.1)
        assert owned_by(folder)
        up.send_signal(number)
    time.sleep(0.1)
    left = owned_by(folder)
    assert gone(left, 30), left
    assert not owned_by(folder)
    assert not (folder / "env").exists()
    assert not (folder / "postgres").exists()


@starts_stacks
def test_a_killed_supervisor_takes_everything_along_and_up_starts_anew(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    env = stack_env(folder)
    try:
        subprocess.run([*STACK, "up"], env=env, check=True)
        before = owned_by(folder)
        state = json.loads((folder / "state.json").read_text())
        os.kill(state["supervisor"]["pid"], signal.SIGKILL)
        assert gone(before, 30)
        assert not owned_by(folder)
        assert subprocess.run([*STACK, "status"], env=env, check=False).returncode == 3
        subprocess.run([*STACK, "up"], env=env, check=True)
        assert subprocess.run([*STACK, "status"], env=env, check=False).returncode == 0
    finally:
        last = owned_by(folder)
        subprocess.run([*STACK, "down"], env=env, check=True)
    assert gone(last, 10)
    assert not folder.exists()


@starts_stacks
def test_kept_data_survives_with_the_keys_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    env = stack_env(folder, STACK_KEEP_DATA="1")
    try:
        subprocess.run([*STACK, "up"], env=env, check=True)
        first = exports(folder / "env")
        model = {"model_name": "kept", "litellm_params": {"model": "openai/demo-chat"}, "model_info": {"id": "kept-id"}}
        assert call(first["LITELLM_URL"] + "/model/new", "POST", model, bearer(first))[0] == 200
        subprocess.run([*STACK, "down"], env=env, check=True)
        assert not owned_by(folder)
        subprocess.run([*STACK, "up"], env=env, check=True)
        second = exports(folder / "env")
        assert second["LITELLM_MASTER_KEY"] == first["LITELLM_MASTER_KEY"]
        status, _headers, listed = call(second["LITELLM_URL"] + "/model/info", headers=bearer(second))
        assert (status, [item["model_name"] for item in listed["data"]]) == (200, ["kept"])
    finally:
        subprocess.run([*STACK, "down"], env=stack_env(folder), check=True)
    assert not folder.exists()


# --- the stack that is up ---


def exports(path: Path) -> dict[str, str]:
    pairs = (line.removeprefix("export ").split("=", 1) for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, value in pairs}


def bearer(variables: dict[str, str]) -> dict[str, str]:
    return {"authorization": f"Bearer {variables['LITELLM_MASTER_KEY']}"}


@pytest.fixture(scope="module")
def folder() -> Path:
    found = stack_settings.Settings.from_env(dict(os.environ)).directory
    if subprocess.run([*STACK, "status"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"no stack is up in {found}")
    return found


@pytest.fixture(scope="module")
def running(folder: Path) -> dict[str, str]:
    return exports(folder / "env")


def test_the_environment_file_is_private_and_complete(folder: Path, running: dict[str, str]) -> None:
    for name in ("env", "secrets.json", "state.json", "kubeconfig"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert set(running) == {
        "LITELLM_URL",
        "LITELLM_REPLICA_URLS",
        "LITELLM_MASTER_KEY",
        "LITELLM_KEY_SECRET",
        "LITELLM_VERSION",
        "LITELLM_DSN",
        "LITEMAAS_DSN",
        "LITEMAAS_SHARED_DSN",
        "UPSTREAM_URL",
        "REDIS_URL",
        "KUBECONFIG",
    }
    assert all(line.startswith("export ") for line in (folder / "env").read_text().splitlines())
    secrets = json.loads((folder / "secrets.json").read_text())["secrets"]
    assert secrets["master_key"].startswith("sk-")
    assert secrets["salt_key"].startswith("sk-")
    assert len(set(secrets.values())) == len(secrets)
    assert len(running["LITELLM_KEY_SECRET"]) >= 43
    assert running["LITELLM_URL"] in running["LITELLM_REPLICA_URLS"].split(",")


def test_a_second_up_changes_nothing_and_is_fast(folder: Path, running: dict[str, str]) -> None:
    began = time.monotonic()
    env = os.environ | {"LITELLM_VERSION": running["LITELLM_VERSION"]}
    done = subprocess.run([*STACK, "up"], env=env, capture_output=True, text=True, check=True)
    assert "already up" in done.stdout
    assert time.monotonic() - began < 20
    assert exports(folder / "env") == running


def test_every_replica_answers_and_knows_no_other_key(running: dict[str, str]) -> None:
    for url in running["LITELLM_REPLICA_URLS"].split(","):
        assert call(f"{url}/model/info", headers=bearer(running))[0] == 200
        assert call(f"{url}/model/info", headers={"authorization": "Bearer sk-wrong"})[0] == 401


def test_a_model_and_a_key_work_end_to_end(running: dict[str, str]) -> None:
    """Through proxy, database and upstream: the first call works, spend is counted, JSON survives the query engine."""
    url, admin = running["LITELLM_URL"], bearer(running)
    name = f"stack-test-{os.getpid()}"
    model = {
        "model_name": name,
        "litellm_params": {
            "model": "openai/needs-key",
            "api_base": running["UPSTREAM_URL"] + "/v1",
            "api_key": upstream.UPSTREAM_KEY,
        },
        "model_info": {"id": name, "note": {"nested": [1, "two", None]}},
    }
    metadata = {"note": {"nested": [1, "two", None], "text": 'with "quotes" and \\ and ü'}}
    assert call(f"{url}/model/new", "POST", model, admin)[0] == 200
    try:
        key = call(f"{url}/key/generate", "POST", {"key_alias": name, "models": [name], "metadata": metadata}, admin)[2]
        try:
            message = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
            status, _headers, answer = call(
                f"{url}/v1/chat/completions", "POST", message, {"authorization": f"Bearer {key['key']}"}
            )
            assert (status, answer["choices"][0]["message"]["content"]) == (200, "needs-key heard: hello")
            assert answer["usage"]["total_tokens"] > 0
            info = call(f"{url}/key/info?key={key['token']}", headers=admin)[2]["info"]
            assert info["metadata"]["note"] == metadata["note"]
        finally:
            assert call(f"{url}/key/delete", "POST", {"keys": [key["token"]]}, admin)[0] == 200
    finally:
        assert call(f"{url}/model/delete", "POST", {"id": name}, admin)[0] == 200


# --- the upstream ---


@pytest.fixture
def model_server() -> Iterator[str]:
    made = upstream.Upstream(("127.0.0.1", 0))
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    thread.join()
    made.server_close()


def test_upstream_chats_embeds_lists_and_converts(model_server: str) -> None:
    message = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
    status, _headers, answer = call(f"{model_server}/v1/chat/completions", "POST", message)
    assert (status, answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens"]) == (
        200,
        "m heard: one two",
        5,
    )
    _status, _headers, streamed = call(
        f"{model_server}/v1/chat/completions",
        "POST",
        {**message, "stream": True, "stream_options": {"include_usage": True}},
    )
    events = [line.removeprefix("data: ") for line in streamed.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert (text, chunks[-1]["usage"]) == ("m heard: one two", answer["usage"])
    vectors = call(f"{model_server}/v1/embeddings", "POST", {"model": "m", "input": ["a", "b", "a"]})[2]["data"]
    assert vectors[0]["embedding"] == vectors[2]["embedding"] != vectors[1]["embedding"]
    assert "demo-chat" in [item["id"] for item in call(f"{model_server}/v1/models")[2]["data"]]
    document = call(
        f"{model_server}/v1/convert/source", "POST", {"sources": [{"kind": "http", "url": "http://x/a.pdf"}]}
    )[2]
    assert document["status"] == "success"
    assert call(f"{model_server}/v1/convert/source", "POST", {})[0] == 422
    assert call(f"{model_server}/health")[0] == 200
    assert call(f"{model_server}/nothing")[0] == 404
    counted = call(f"{model_server}/calls")[2]
    assert counted["by_path"] == {"/v1/chat/completions": 2, "/v1/embeddings": 1, "/v1/convert/source": 2}
    assert counted["by_model"] == {"m": 3}
    assert call(f"{model_server}/calls", "DELETE")[2]["total"] == 0


def test_upstream_misbehaves_by_model_name(model_server: str) -> None:
    def chat(model: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        return call(f"{model_server}/v1/chat/completions", "POST", {"model": model, "messages": []}, headers)

    assert chat("broken")[0] == 500
    assert chat("busy")[:2][0] == 429
    assert chat("needs-key")[0] == 401
    assert chat("needs-key", authorization="Bearer sk-other")[0] == 401
    assert chat("needs-key", authorization=f"Bearer {upstream.UPSTREAM_KEY}")[0] == 200


# --- the faults ---


class Backend(BaseHTTPRequestHandler):
    """What stands behind the fault proxy: lists, and a note of every request and connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def do_GET(self) -> None:
        self._answer({"keys": [1, 2, 3, 4], "total_count": 4, "total_pages": 1})

    def do_POST(self) -> None:
        self._answer({"got": json.loads(self.rfile.read(int(self.headers["content-length"])))})

    def _answer(self, body: Any) -> None:
        self.server.seen.append((self.command, self.path, self.client_address))
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def backend() -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    made.daemon_threads = True
    made.seen = []
    made.url = f"http://127.0.0.1:{made.server_address[1]}"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_faults_pass_on_what_no_rule_names_and_count_it(backend: Any) -> None:
    with faults.FaultProxy(backend.url) as proxy:
        assert call(f"{proxy.url}/key/list?page=1")[2]["total_count"] == 4
        assert call(f"{proxy.url}/key/generate", "POST", {"a": "ü"})[2] == {"got": {"a": "ü"}}
        assert proxy.requests == [("GET", "/key/list"), ("POST", "/key/generate")]
        assert proxy.writes() == [("POST", "/key/generate")]
        assert proxy.count("GET", r"page=1$") == 1
        assert proxy.count() == 2
        proxy.clear()
        assert proxy.requests == []
    assert [path for _method, path, _address in backend.seen] == ["/key/list?page=1", "/key/generate"]


def test_faults_keep_connections_alive_on_both_sides(backend: Any) -> None:
    with faults.FaultProxy(backend.url) as proxy:
        connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        taken = []
        for _attempt in range(50):
            began = time.monotonic()
            connection.request("GET", "/key/list")
            assert connection.getresponse().read()
            taken.append(time.monotonic() - began)
        # An answer in two pieces that waits for the client's delayed acknowledgement takes 40 ms, every time.
        assert min(taken) < 0.02
        connection.close()
    assert len({address for _method, _path, address in backend.seen}) == 1


@pytest.mark.parametrize(
    ("action", "options", "status", "stored"),
    [
        ("unavailable", {}, 503, 0),
        ("pool_exhausted", {}, 401, 0),
        ("rate_limited", {"retry_after": 3}, 429, 0),
        ("error_after", {}, 500, 1),
        ("error_after", {"status": 502}, 502, 1),
        ("delay", {"seconds": 0.2}, 200, 1),
        ("answer", {"status": 418, "body": {"tea": True}}, 418, 0),
    ],
)
def test_faults_answer_as_the_rule_says_then_pass(
    backend: Any, action: str, options: dict[str, Any], status: int, stored: int
) -> None:
    with faults.FaultProxy(backend.url) as proxy:
        rule = proxy.add_rule("POST", r"/model/new$", action, count=1, **options)
        began = time.monotonic()
        got, headers, body = call(f"{proxy.url}/model/new", "POST", {})
        assert got == status
        assert len(backend.seen) == stored
        if action == "rate_limited":
            assert headers["retry-after"] == "3"
        if action == "delay":
            assert time.monotonic() - began >= 0.2
        if action == "pool_exhausted":
            assert "connection pool" in body["error"]["message"]
        assert call(f"{proxy.url}/model/new", "POST", {})[0] == 200
        assert rule.applied == 1


@pytest.mark.parametrize(("action", "stored"), [("reset", 0), ("reset_after", 1)])
def test_faults_reset_connections(backend: Any, action: str, stored: int) -> None:
    with faults.FaultProxy(backend.url) as proxy:
        proxy.add_rule("*", r"^/key/", action, count=2)
        for _attempt in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]), timeout=5)
            connection.request("GET", "/key/list")
            with pytest.raises(ConnectionResetError):
                connection.getresponse()
            connection.close()
        assert len(backend.seen) == 2 * stored
        assert call(f"{proxy.url}/key/list")[0] == 200


def test_faults_empty_and_shorten_pages(backend: Any) -> None:
    with faults.FaultProxy(backend.url) as proxy:
        proxy.add_rule("GET", r"/key/list", "empty_page", skip=1)
        proxy.add_rule("GET", r"/key/list", "truncated_page", skip=2)
        proxy.add_rule("GET", r"/key/list", "truncated_body", skip=3, count=None)
        pages = [call(f"{proxy.url}/key/list")[2] for _attempt in range(3)]
        assert [(len(page["keys"]), page["total_count"]) for page in pages] == [(4, 4), (0, 0), (2, 4)]
        for _attempt in range(2):
            with pytest.raises(http.client.IncompleteRead):
                call(f"{proxy.url}/key/list")


def test_faults_report_a_server_that_is_not_there() -> None:
    with faults.FaultProxy(f"http://127.0.0.1:{processes.free_port()}") as proxy:
        assert call(f"{proxy.url}/x")[0] == 502
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), 1):
        pass


def test_faults_refuse_an_unknown_action() -> None:
    with pytest.raises(ValueError, match="there are unavailable"):
        faults.FaultProxy("http://127.0.0.1:1").add_rule("GET", "/", "explode")
