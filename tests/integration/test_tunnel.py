# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real PostgreSQL through a real API server's port-forward."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2
import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, tunnel
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.cluster import POSTGRES, Namespace
from ansible_collections.rhpds.litemaas.tests.integration.kube import eventually
from ansible_collections.rhpds.litemaas.tests.stack.faults import FaultProxy

ROWS = 10_000
#: Fewer bytes than so many rows take: the connection ends among them.
CUT = 10_000


@pytest.fixture
def place(stack: harness.Stack, namespace: Namespace) -> discover.Namespace:
    return discover.Namespace(Cluster(kubeconfig=stack.variables["KUBECONFIG"]), namespace.name)


def listed(litellm: harness.LiteLLM, prefix: str, stack: harness.Stack) -> dict[str, Any]:
    """The proxy's own list of models, as it is with many of them."""
    params = {"model": "openai/demo-chat", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-placeholder"}
    litellm.post("/model/new", model_name=f"{prefix}0", litellm_params=params, model_info={})
    (recorded,) = litellm.models(prefix)
    entries = []
    for number in range(ROWS):
        one = copy.deepcopy(recorded)
        one["model_name"], one["model_info"]["id"] = f"{prefix}{number}", f"{prefix}id-{number}"
        entries.append(one)
    return {"data": entries}


def test_ten_thousand_rows_and_a_connection_that_is_cut_among_them(
    runner: harness.Runner,
    litellm: harness.LiteLLM,
    db: Any,
    stack: harness.Stack,
    namespace: Namespace,
    prefix: str,
) -> None:
    namespace.litemaas(forward_cut=str(CUT))

    def count() -> int:
        with db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM models WHERE starts_with(id, %s)", (prefix,))
            return int(cursor.fetchone()[0])

    with FaultProxy(stack.url) as proxy:
        proxy.add_rule("GET", r"/model/info", "answer", count=None, body=listed(litellm, prefix, stack))
        options = {"namespace": namespace.name, "litellm_url": proxy.url, "check_keys": False}
        env = {"LITEMAAS_DSN": "", "LITELLM_DSN": "", "LITELLM_MASTER_KEY": ""}
        cut = runner.module("litemaas_db_sync", options, env=env)
        assert cut.failed and count() == 0, cut["msg"]
        assert f"Forward port 5432 of pod {namespace.name}/{POSTGRES}-0" in cut["msg"], cut["msg"]
        assert "the connection to the API server was lost" in cut["msg"] and "run again" in cut["msg"]
        assert "Nothing was written" in cut["msg"]
        namespace.core.patch_namespaced_pod(
            f"{POSTGRES}-0", namespace.name, {"metadata": {"annotations": {"fakenode/forward-cut": None}}}
        )
        done = runner.module("litemaas_db_sync", options, env=env)
        assert done["summary"]["created"] == ROWS == count(), done["msg"]
        assert done["found"]["litemaas_dsn"].endswith(f"through pod {namespace.name}/{POSTGRES}-0")
        assert not runner.module("litemaas_db_sync", options, env=env).changed


def test_many_connections_at_once_and_nothing_is_left(place: discover.Namespace, namespace: Namespace) -> None:
    namespace.litemaas()

    def open_files() -> set[str]:
        found = set()
        for one in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(one.readlink()))
        return {one for one in found if one.startswith("socket:")}

    with place.database("litemaas"):
        pass  # what is loaded and kept for all of them
    threads, files = set(threading.enumerate()), open_files()
    with place.database("litemaas") as dsn:
        folder = Path(psycopg2.extensions.parse_dsn(dsn)["host"])

        def ask(number: int) -> tuple[int, int]:
            connection = psycopg2.connect(dsn)
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s, pg_backend_pid(), repeat('x', 1000000)", (number,))
                answer, pid, long = cursor.fetchone()
            assert len(long) == 1_000_000
            if number % 2:  # the others are left open
                connection.close()
            else:
                kept.append(connection)
            return answer, pid

        kept: list[Any] = []
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(24)))
        assert [answer for answer, _pid in answers] == list(range(24)) and len({pid for _answer, pid in answers}) == 24
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    for connection in kept:
        with pytest.raises(psycopg2.Error), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.close()
    assert set(threading.enumerate()) <= threads and open_files() <= files
    with pytest.raises(ChildProcessError):  # there is none any more
        os.waitpid(-1, os.WNOHANG)


def test_silence_is_broken(
    place: discover.Namespace, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A connection that waits for somebody else says something now and then, and goes on."""
    namespace.litemaas()
    monkeypatch.setattr(tunnel, "KEEPALIVE", 0.02)
    real = tunnel.library("websocket").WebSocket.ping

    def ping(self: Any, *given: Any) -> None:
        real(self, *given)
        (tmp_path / "pinged").touch()

    monkeypatch.setattr(tunnel.library("websocket").WebSocket, "ping", ping)
    with place.connect("litemaas", 10) as connection, connection.transaction("Ask") as cursor:
        eventually((tmp_path / "pinged").exists)
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_writing_waits_for_room_without_holding_up_the_tunnel(place: discover.Namespace, namespace: Namespace) -> None:
    """psycopg2 holds Python's lock while COPY writes more than the near end's buffer takes."""
    namespace.litemaas()
    row = "x" * 999 + "\n"
    with place.connect("litemaas", 10) as connection, connection.transaction("Copy") as cursor:
        cursor.execute("CREATE TEMPORARY TABLE copied (line text) ON COMMIT DROP")
        cursor.copy_expert("COPY copied FROM STDIN", io.StringIO(row * 50_000), size=1 << 22)
        cursor.execute("SELECT count(*) FROM copied")
        assert cursor.fetchone() == (50_000,)


def test_the_port_of_a_pod_that_is_ready_behind_the_service(
    place: discover.Namespace, namespace: Namespace, stack: harness.Stack
) -> None:
    """A Service's port need not be its pods', and not all of its pods can be asked."""
    namespace.secret("litemaas-db", DATABASE_URL=namespace.inside(stack.litemaas_dsn).replace(":5432/", ":15432/"))
    namespace.service(POSTGRES, 15432, "postgresql")
    namespace.pod("a-held", POSTGRES, "postgresql://127.0.0.1:1/x", wait=False, hold="true")
    namespace.pod("b-ready", POSTGRES, stack.litemaas_dsn)
    with place.connect("litemaas", 10) as connection, connection.transaction("Ask") as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone()[0] == stack.litemaas_dsn.rpartition("/")[2].partition("?")[0]
    assert place.sources["litemaas_dsn"].endswith(f"through pod {namespace.name}/b-ready")
    assert place.shared


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "nowhere.example.com"], ids=["address", "name", "unknown"])
def test_a_database_outside_is_reached_without_the_cluster(
    place: discover.Namespace, namespace: Namespace, stack: harness.Stack, host: str
) -> None:
    namespace.secret("litemaas-db", DATABASE_URL=stack.litemaas_dsn.replace("127.0.0.1", host))
    if host == "nowhere.example.com":
        with pytest.raises(DatabaseError, match=r"Check the host name in Secret .*/litemaas-db") as failure:
            place.connect("litemaas", 10).__enter__()
        assert "nowhere.example.com" in str(failure.value)
        return
    with place.connect("litemaas", 10) as connection, connection.transaction("Ask") as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert place.sources["litemaas_dsn"] == f"Secret {namespace.name}/litemaas-db"


def test_older_secrets_have_the_parts(place: discover.Namespace, namespace: Namespace, stack: harness.Stack) -> None:
    parts = urlsplit(stack.litellm_dsn)
    namespace.secret(
        "litemaas-db",
        username=unquote(str(parts.username)),
        password=unquote(str(parts.password)),
        database=parts.path[1:],
    )
    namespace.postgres()
    for which in ("litemaas", "litellm"):
        with place.connect(which, 10) as connection, connection.transaction("Ask") as cursor:
            cursor.execute("SELECT current_database()")
            assert cursor.fetchone() == (parts.path[1:],)
    assert place.shared


def test_a_wrong_password_and_a_deaf_port(
    place: discover.Namespace, namespace: Namespace, stack: harness.Stack
) -> None:
    namespace.litemaas()
    dsn = namespace.inside(stack.litemaas_dsn)
    user = dsn.split("//")[1].partition(":")[0]
    namespace.core.patch_namespaced_secret(
        "litemaas-db",
        namespace.name,
        {"stringData": {"DATABASE_URL": f"postgresql://{user}:wrong-password@{POSTGRES}:5432/litemaas_db"}},
    )
    with pytest.raises(DatabaseError, match="password authentication failed") as failure:
        place.connect("litemaas", 10).__enter__()
    assert "wrong-password" not in str(failure.value) and f"{user}@{POSTGRES}:5432" in str(failure.value)
    namespace.core.patch_namespaced_pod(
        f"{POSTGRES}-0", namespace.name, {"metadata": {"annotations": {"fakenode/forward": "5432=127.0.0.1:1"}}}
    )
    with pytest.raises(ClusterError, match=f"Forward port 5432 of pod {namespace.name}/{POSTGRES}-0") as failure:
        place.connect("litellm", 10).__enter__()
    assert "error forwarding port 5432" in str(failure.value), failure.value


def test_a_process_that_is_killed_leaves_no_folder_behind() -> None:
    """It can't clean up; its tunnel does."""
    program = (
        "import sys\n"
        f"from {tunnel.__name__} import PodPort\n"
        "with PodPort(None, 'ns', 'pod').opened() as folder:\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert list(folder.iterdir())
        process.kill()
    eventually(lambda: not folder.exists())
