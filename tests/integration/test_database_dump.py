# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""litemaas_database_dump: from a real PostgreSQL, directly and through exec in a pod of a real API server."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import stat
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness, proxies

MODULE = "litemaas_database_dump"
POD = "litellm-postgres-0"
RIGHTS = (("", "pods", "get"), ("", "pods/exec", "create get"), ("", "configmaps", "get create patch"))


def parts(dsn: str) -> urllib.parse.SplitResult:
    return urllib.parse.urlsplit(dsn)


def in_pod(namespace: cluster.Namespace, dsn: str, secret: bool = True, **annotations: str) -> None:
    """The database's pod, whose password comes from a Secret."""
    user = parts(dsn)
    if secret:
        namespace.secret("litemaas-db", password=str(user.password))
    reference = {"secretKeyRef": {"name": "litemaas-db", "key": "password"}}
    env = [{"name": "POSTGRES_USER", "value": user.username}, {"name": "POSTGRES_PASSWORD", "valueFrom": reference}]
    marks = {"fakenode/forward": f"5432={user.hostname}:{user.port}"}
    marks |= {f"fakenode/{name}": value for name, value in annotations.items()}
    containers = [{"name": "postgres", "image": "postgres", "env": env}]
    deadline = time.monotonic() + 30
    while True:
        try:
            namespace.create(
                "v1", "Pod", POD, labels={"app": cluster.POSTGRES}, annotations=marks, spec={"containers": containers}
            )
            break
        except kubernetes.client.ApiException:  # a new namespace has no service account for a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    namespace.ready(POD)


@pytest.fixture
def account(namespace: cluster.Namespace, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who may do what the documentation says, and no more."""
    return {"K8S_AUTH_KUBECONFIG": namespace.account(tmp_path, RIGHTS, "backup")}


def restored(stack: harness.Stack, file: str, statement: str) -> list[tuple[Any, ...]]:
    """What a query says of a database that was made of a dump."""
    with proxies.database(stack.litellm_dsn) as dsn:
        subprocess.run(
            [shutil.which("pg_restore") or "pg_restore", "--no-owner", f"--dbname={dsn}", file], check=True, timeout=120
        )
        connection = harness.connect(dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()


def check_files(result: dict[str, Any], dest: Path) -> None:
    """The manifest tells the truth, and nothing else lies about."""
    manifest = json.loads(Path(result["manifest"]).read_text(encoding="utf-8"))
    assert manifest == result["backup"]
    assert {path.name for path in dest.iterdir()} == {
        Path(result["manifest"]).name,
        *(one["file"] for one in manifest["databases"]),
    }
    for one, path in zip(manifest["databases"], result["files"], strict=True):
        data = Path(path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == one["sha256"]
        assert len(data) == one["size"] > 0
        assert one["entries"] > 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in dest.iterdir()} == {0o600}


def test_through_the_pod(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    account: dict[str, str],
    run_module: Callable[..., harness.ModuleResult],
    tmp_path: Path,
) -> None:
    """Rows with everything that a byte may be survive, and the namespace knows of it."""
    dest = tmp_path / "backups"
    with proxies.database(stack.litemaas_dsn) as dsn:
        name = parts(dsn).path.lstrip("/")
        connection = harness.connect(dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute((harness.CHECKOUT / "tests/stack/litemaas_schema.sql").read_text(encoding="utf-8"))
            cursor.execute(
                "CREATE TABLE blobs AS SELECT n, decode(md5(n::text), 'hex') AS data FROM generate_series(1, 100000) n"
            )
        connection.close()
        in_pod(namespace, dsn)
        args = {"namespace": namespace.name, "databases": [name], "dest": str(dest), "images": {"litellm": "l:1"}}
        planned = run_module(MODULE, args, check=True, env=account)
        assert planned.changed
        assert not dest.exists()
        results = [run_module(MODULE, args, env=account)]
        check_files(results[0], dest)
        assert restored(
            stack, results[0]["files"][0], "SELECT count(*), md5(string_agg(data, '' ORDER BY n)) FROM blobs"
        )
        with ThreadPoolExecutor(3) as pool:
            results += pool.map(lambda _: run_module(MODULE, args, env=account), range(3))
    assert not [one for one in results if one.failed], results
    recorded = namespace.core.read_namespaced_config_map("litemaas-backups", namespace.name)
    entries = [json.loads(text) for text in recorded.data.values()]
    assert {one["file"] for one in entries} == {one["manifest"] for one in results}
    assert entries[0]["databases"] == [name]
    assert entries[0]["sha256"].keys() == {name}
    assert {one.manager for one in recorded.metadata.managed_fields} == {"rhpds.litemaas.backup"}
    password = str(parts(stack.litemaas_dsn).password)
    assert password not in json.dumps(results)


def test_several_databases_by_dsn(
    stack: harness.Stack, run_module: Callable[..., harness.ModuleResult], tmp_path: Path
) -> None:
    """The layout with two databases: both files, or none."""
    dest = tmp_path / "backups"
    name = parts(stack.litellm_dsn).path.lstrip("/")
    args = {"dsn": stack.litellm_dsn, "dest": str(dest), "name": "lab"}
    result = run_module(MODULE, {**args, "databases": [name, name]})
    assert not result.failed, result
    check_files(result, dest)
    assert len(result["files"]) == 1
    assert Path(result["manifest"]).name.startswith("lab-2")
    count = restored(stack, result["files"][0], "SELECT count(*) FROM models")
    connection = harness.connect(stack.litellm_dsn)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM models")
        assert count == cursor.fetchall()
    connection.close()
    before = set(dest.iterdir())
    failed = run_module(MODULE, {**args, "databases": [name, "no-such-database"]})
    assert failed.failed
    assert '"no-such-database" does not exist' in failed["msg"]
    assert set(dest.iterdir()) == before
    assert str(parts(stack.litellm_dsn).password) not in json.dumps(failed)


@pytest.mark.parametrize("shared", [False, True])
def test_all_of_a_deployment(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    run_module: Callable[..., harness.ModuleResult],
    run_playbook: Callable[..., harness.PlaybookResult],
    tmp_path: Path,
    shared: bool,
) -> None:
    """Both layouts: which databases there are is read in the cluster."""
    user = parts(stack.litemaas_dsn if not shared else stack.litellm_dsn)
    ours, theirs = (namespace.inside(dsn) for dsn in (stack.litemaas_dsn, stack.litellm_dsn))
    urls = {"DATABASE_URL": theirs} if shared else {"DATABASE_URL": ours, "LITELLM_DATABASE_URL": theirs}
    namespace.secret("litemaas-db", password=str(user.password), **urls)
    namespace.service(cluster.POSTGRES, 5432)
    # The stack's two databases have an owner each, and the pod has one user: two are planned alone.
    in_pod(namespace, stack.litemaas_dsn if not shared else stack.litellm_dsn, secret=False)
    args = {"namespace": namespace.name, "dest": str(tmp_path / "b"), "kubeconfig": stack.variables["KUBECONFIG"]}
    result = run_module(MODULE, args, check=not shared)
    assert not result.failed, result
    names = [parts(dsn).path[1:] for dsn in (stack.litemaas_dsn, stack.litellm_dsn)]
    assert [path.rsplit("-", 1)[1] for path in result["files"]] == [f"{name}.dump" for name in names[shared:]]
    assert f"{namespace.name}/{POD}" in result["msg"]
    if shared:
        check_files(result, tmp_path / "b")
        given = {"namespace": namespace.name, "dest": str(tmp_path / "c")}
        play = run_playbook("rhpds.litemaas.backup", given, env={"K8S_AUTH_KUBECONFIG": args["kubeconfig"]})
        assert play.rc == 0, play.stdout
        assert len(list((tmp_path / "c").glob("*.dump"))) == 1
        assert "1 database" in play.stdout


def program(folder: Path, body: str) -> str:
    """A PATH on which pg_dump is something else."""
    folder.mkdir()
    file = folder / "pg_dump"
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


REAL = shutil.which("pg_dump")


def test_pg_dump_that_dies_midway(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    account: dict[str, str],
    run_module: Callable[..., harness.ModuleResult],
    tmp_path: Path,
) -> None:
    dest = tmp_path / "backups"
    name = parts(stack.litellm_dsn).path.lstrip("/")
    dies = program(tmp_path / "dies", f'{REAL} "$@" | head -c 20000; echo "pg_dump: error: server closed" >&2; exit 1')
    in_pod(namespace, stack.litellm_dsn, env=json.dumps({"PATH": dies}))
    failed = run_module(MODULE, {"namespace": namespace.name, "databases": [name], "dest": str(dest)}, env=account)
    assert failed.failed
    assert "server closed" in failed["msg"]
    assert name in failed["msg"]
    assert list(dest.iterdir()) == []
    # One that says it is done and isn't.
    short = program(tmp_path / "short", f'{REAL} "$@" | head -c 20000; exit 0')
    failed = run_module(MODULE, {"dsn": stack.litellm_dsn, "dest": str(dest)}, env={"PATH": short})
    assert failed.failed
    assert list(dest.iterdir()) == []
    odd = program(tmp_path / "odd", "echo hello")
    failed = run_module(MODULE, {"dsn": stack.litellm_dsn, "dest": str(dest)}, env={"PATH": odd})
    assert "custom format" in failed["msg"]


def test_a_connection_that_drops(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    run_module: Callable[..., harness.ModuleResult],
    tmp_path: Path,
) -> None:
    """The API server goes away in the middle, and the dump in the pod would have gone on."""
    dest = tmp_path / "backups"
    name = parts(stack.litellm_dsn).path.lstrip("/")
    marker = tmp_path / "half"
    slow = program(tmp_path / "slow", f'{REAL} "$@" | (head -c 20000; touch {marker}; sleep 60; cat); exit 0')
    in_pod(namespace, stack.litellm_dsn, env=json.dumps({"PATH": slow}))
    config = yaml.safe_load(Path(stack.variables["KUBECONFIG"]).read_text(encoding="utf-8"))
    place = parts(config["clusters"][0]["cluster"]["server"])
    with proxies.Gate(str(place.hostname), int(place.port or 443)) as gate, ThreadPoolExecutor(1) as pool:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{gate.port}"
        kubeconfig = tmp_path / "through-the-gate"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
        args = {"namespace": namespace.name, "databases": [name], "dest": str(dest), "kubeconfig": str(kubeconfig)}
        running = pool.submit(run_module, MODULE, args)
        while not marker.exists() and not running.done():
            time.sleep(0.1)
        gate.refuse()
        failed = running.result(timeout=60)
    assert failed.failed
    assert "the connection ended" in failed["msg"]
    assert list(dest.iterdir()) == []


def test_a_full_disk(stack: harness.Stack, runner: harness.Runner, tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: the write fails in the same place."""
    dest = tmp_path / "backups"
    environment = runner.environment()
    script = (
        Path(environment["PYTHONPATH"].split(":")[0])
        / f"ansible_collections/rhpds/litemaas/plugins/modules/{MODULE}.py"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"dsn": stack.litellm_dsn, "dest": str(dest)}}),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)),
    )
    failed = json.loads(done.stdout)
    assert failed["failed"]
    assert "File too large" in failed["msg"]
    assert "dest" in failed["msg"]
    assert list(dest.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"databases": []}, "secrets"),
        ({"databases": [""]}, "not a database's name"),
        ({"databases": ["dbname=postgres"]}, "not a database's name"),
        ({"databases": ["x"], "pod": "another-0"}, "not found"),
        ({"databases": ["x"], "container": "another"}, "container"),
        ({"databases": ["x"], "dest": "/proc/nothing"}, "Write to /proc/nothing"),
    ],
)
def test_bad_input(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    account: dict[str, str],
    run_module: Callable[..., harness.ModuleResult],
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
) -> None:
    in_pod(namespace, stack.litellm_dsn)
    failed = run_module(MODULE, {"namespace": namespace.name, "dest": str(tmp_path / "b"), **change}, env=account)
    assert failed.failed
    assert words in failed["msg"]


def test_rights_missing(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    run_module: Callable[..., harness.ModuleResult],
    tmp_path: Path,
) -> None:
    """Without the right to record it, the backup is there all the same, and the task says so."""
    in_pod(namespace, stack.litellm_dsn)
    name = parts(stack.litellm_dsn).path.lstrip("/")
    args = {"namespace": namespace.name, "databases": [name], "dest": str(tmp_path / "b")}
    for rights, words in (((RIGHTS[0],), "pods/exec"), (RIGHTS[:2], "configmaps")):
        kubeconfig = namespace.account(tmp_path, rights, f"with{len(rights)}")
        failed = run_module(MODULE, args, env={"K8S_AUTH_KUBECONFIG": kubeconfig})
        assert failed.failed
        assert words in failed["msg"]
    assert "is complete" in failed["msg"]
    check_files(failed, tmp_path / "b")
