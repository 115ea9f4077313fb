# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups and restores on a real PostgreSQL, directly and through a pod; a real proxy works with what came back."""

from __future__ import annotations

import contextlib
import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import operate, upgrade
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import (
    backups,
    dump,
    model_keys,
    restore,
    sealed,
)
from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness, proxies
from ansible_collections.rhpds.litemaas.tests.integration.kube import eventually
from ansible_collections.rhpds.litemaas.tests.integration.test_database_dump import in_pod, parts

SCHEMA = harness.CHECKOUT / "tests/stack/litemaas_schema.sql"
SALT = "sk-the-salt-of-then"


def execute(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    connection = harness.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def name_of(dsn: str) -> str:
    return parts(dsn).path.lstrip("/")


@pytest.fixture
def catalogue(stack: harness.Stack) -> Iterator[str]:
    """A database with LiteMaaS's tables, one row that matters, and whatever restores make of it."""
    with proxies.database(stack.litemaas_dsn) as dsn:
        execute(dsn, SCHEMA.read_text(encoding="utf-8"))
        execute(dsn, "CREATE TABLE notes AS SELECT n, decode(md5(n::text), 'hex') AS data FROM generate_series(1, 9) n")
        execute(dsn, f"ALTER DATABASE \"{name_of(dsn)}\" SET timezone = 'Asia/Tokyo'")
        yield dsn
        for name in others(dsn):
            execute(stack.litemaas_dsn, f'DROP DATABASE "{name}"')


def others(dsn: str) -> list[str]:
    """Databases that restores of one have left."""
    statement = f"SELECT datname FROM pg_database WHERE datname LIKE '{name_of(dsn)}\\_%' ORDER BY 1"
    return [name for (name,) in execute(dsn, statement)]


def taken(dsn: str, folder: Path) -> dump.Backup:
    """A backup, as the module makes it."""
    source = dump.DsnSource(dsn)
    return dump.take([(source, source.database)], str(folder), "t", {}, None, None, sealed.fingerprint(SALT))


def job(
    dsn: str, backup: dump.Backup | str, check: bool = False, confirm: str | None = None, **read: Any
) -> restore.Job:
    """A restore of it, ready to go."""
    confirm = name_of(dsn) if confirm is None else confirm
    made = restore.Job(restore.of_dsns([dsn], 10), "", confirm, check, lambda _text: None)
    made.read(
        backup if isinstance(backup, str) else backup.manifest, read.pop("databases", {}), read.pop("scratch", False)
    )
    return made


def test_back_and_the_old_one_kept(catalogue: str, tmp_path: Path) -> None:
    backup = taken(catalogue, tmp_path / "b")
    assert backup.databases[0].rows["public.notes"] == 9
    assert len(backup.databases[0].rows) == 18
    execute(catalogue, "DELETE FROM notes; CREATE TABLE later (n int)")
    planned = job(catalogue, backup, check=True, confirm="").restore(True, None, 1)
    assert planned["changed"]
    assert "would be restored" in planned["msg"]
    assert others(catalogue) == []
    with pytest.raises(restore.RestoreError, match=f"Give confirm={name_of(catalogue)}"):
        job(catalogue, backup, confirm="another").restore(True, None, 1)
    result = job(catalogue, backup).restore(True, None, 1)
    assert "18 tables" in result["msg"]
    assert execute(catalogue, "SELECT count(*), md5(string_agg(data, '' ORDER BY n)) FROM notes") == execute(
        catalogue, "SELECT 9, md5(string_agg(decode(md5(n::text), 'hex'), '' ORDER BY n)) FROM generate_series(1, 9) n"
    )
    assert execute(catalogue, "SELECT to_regclass('later')") == [(None,)]
    assert execute(catalogue, "SHOW timezone") == [("Asia/Tokyo",)]
    old = result["databases"][0]["old_database"]
    assert others(catalogue) == [old]
    assert [one["name"] for one in result["kept"]] == [old]
    changed = catalogue.rpartition("/")[0] + f"/{old}"
    assert execute(changed, "SELECT count(*) FROM notes") == [(0,)]
    # Told otherwise: what is marked goes, and nothing else.
    verb = restore.Job(restore.of_dsns([catalogue], 10), "", "", False, print)
    with pytest.raises(restore.RestoreError, match="no restore has made it"):
        verb.drop(["litellm_db"])
    with pytest.raises(restore.RestoreError, match="confirm"):
        verb.drop([old])
    verb = restore.Job(restore.of_dsns([catalogue], 10), "", name_of(catalogue), False, print)
    assert verb.drop([old])["changed"]
    assert not verb.drop([old])["changed"]
    assert others(catalogue) == []
    assert "the old dropped" in job(catalogue, backup).restore(False, None, 1)["msg"]
    assert others(catalogue) == []


def test_what_a_killed_restore_has_left_is_named(catalogue: str, tmp_path: Path) -> None:
    """With the command that drops it; not where a restore is still at work in it."""
    backup = taken(catalogue, tmp_path / "b")
    killed = job(catalogue, backup)
    restore.fill(killed.targets)
    (left,) = others(catalogue)
    assert "_restore_" in left
    with contextlib.closing(psycopg2.connect(catalogue.rpartition("/")[0] + f"/{left}")):
        said = job(catalogue, backup, check=True).restore(True, None, 1)
        assert "drop_databases" not in said["msg"] and said["kept"][0]["in_use"], said
    # Names are told apart by their second, and the server takes a moment to notice that somebody has gone.
    eventually(lambda: restore.stamp_now() not in left)
    eventually(lambda: not job(catalogue, backup, check=True).restore(True, None, 1)["kept"][0]["in_use"])
    command = f"rhpds.litemaas.restore -e drop_databases={left} -e confirm={name_of(catalogue)}"
    for result in (
        job(catalogue, backup, check=True).restore(True, None, 1),
        job(catalogue, backup, scratch=True).test(),
        job(catalogue, backup).restore(True, None, 1),
    ):
        assert result["msg"].endswith(f"there is still {left}, which goes with: ansible-playbook {command}"), result
    verb = restore.Job(restore.of_dsns([catalogue], 10), "", name_of(catalogue), False, print)
    assert verb.drop([left])["changed"]
    assert "drop_databases" not in job(catalogue, backup, check=True).restore(True, None, 1)["msg"]


def test_whoever_is_connected_is_sent_away_and_finds_the_restored_one(catalogue: str, tmp_path: Path) -> None:
    """Clients that connect again and again, as a pool does."""
    backup = taken(catalogue, tmp_path / "b")
    execute(catalogue, "DELETE FROM notes")
    stop, seen, errors = threading.Event(), [], []

    def client() -> None:
        while not stop.is_set():
            with contextlib.suppress(psycopg2.Error), contextlib.closing(psycopg2.connect(catalogue)) as connection:
                while not stop.is_set():
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT count(*) FROM notes")
                        seen.append(cursor.fetchone()[0])
                    connection.commit()
                    time.sleep(0.002)
            errors.append(1)

    clients = [threading.Thread(target=client) for _number in range(6)]
    for one in clients:
        one.start()
    try:
        job(catalogue, backup).restore(True, None, 1)
        before = len(seen)
        deadline = time.monotonic() + 10
        while len(seen) < before + 50 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        stop.set()
        for one in clients:
            one.join()
    assert seen[0] == 0
    assert seen[-1] == 9
    assert len(errors) > 6  # each was sent away once at least


def test_nothing_changes_where_it_fails_half_way(
    catalogue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = taken(catalogue, tmp_path / "b")
    execute(catalogue, "INSERT INTO notes VALUES (10)")

    def untouched() -> None:
        assert execute(catalogue, "SELECT count(*) FROM notes") == [(10,)]
        assert others(catalogue) == []

    manifest = Path(backup.manifest)
    good = manifest.read_text(encoding="utf-8")
    # Other rows than those that were counted.
    broken = json.loads(good)
    broken["databases"][0]["rows"]["public.notes"] = 8
    manifest.write_text(json.dumps(broken), encoding="utf-8")
    for scratch in (False, True):
        with pytest.raises(restore.RestoreError, match=r"public.notes has 9 of 8.*dropped again; no other"):
            made = job(catalogue, backup, scratch=scratch)
            made.test() if scratch else made.restore(True, None, 1)
        untouched()
    manifest.write_text(good, encoding="utf-8")
    # The second rename fails: the first one is undone with it.
    with monkeypatch.context() as patched:
        patched.setattr(restore, "_pairs", lambda one: [(one.database, one.old), (f"{one.new}-gone", one.database)])
        with pytest.raises(restore.RestoreError, match="All databases are what they were before"):
            job(catalogue, backup).restore(True, None, 1)
    untouched()
    # pg_restore fails in the middle.
    dies = tmp_path / "dies"
    dies.mkdir()
    program = dies / "pg_restore"
    program.write_text('#!/bin/sh\necho "pg_restore: error: no space left on device" >&2; exit 1\n', encoding="utf-8")
    program.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{dies}:/usr/bin:/bin")
        with pytest.raises(restore.RestoreError, match=r"no space left on device.*dropped again"):
            job(catalogue, backup).restore(True, None, 1)
    untouched()
    # A file that is not what was written, and one that is cut off.
    file = Path(dump.path_of(backup, backup.databases[0]))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(restore.RestoreError, match="sha256"):
        job(catalogue, backup)
    file.write_bytes(content[:-1])
    with pytest.raises(restore.RestoreError, match="bytes of"):
        job(catalogue, backup)
    file.write_bytes(content)
    assert "can be restored" in job(catalogue, backup, scratch=True).test()["msg"]
    untouched()


def test_what_is_refused(catalogue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = taken(catalogue, tmp_path / "b")
    name = name_of(catalogue)
    with pytest.raises(restore.RestoreError, match="another salt key"):
        job(catalogue, backup).compare_salt_keys("sk-of-today", False)
    job(catalogue, backup).compare_salt_keys("sk-of-today", True)
    job(catalogue, backup).compare_salt_keys(SALT, False)
    with pytest.raises(restore.RestoreError, match="it has no database other"):
        job(catalogue, backup, databases={"other": name})
    with pytest.raises(restore.RestoreError, match="the deployment has no database litellm"):
        job(catalogue, backup, databases={name: "litellm"})
    with pytest.raises(restore.RestoreError, match="none is given"):
        restore.Job({}, "", "", False, print)
    with monkeypatch.context() as patched:
        patched.setattr(restore, "_may_create", lambda _cursor: False)
        with pytest.raises(restore.RestoreError, match="ALTER ROLE litemaas CREATEDB"):
            job(catalogue, backup)
    manifest = Path(backup.manifest)
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"15.', '"99.'), encoding="utf-8")
    with pytest.raises(restore.RestoreError, match="PostgreSQL 99"):
        job(catalogue, backup)
    manifest.write_text(json.dumps({**json.loads(manifest.read_text(encoding="utf-8")), "format": "of others"}))
    with pytest.raises(dump.DumpError, match="no manifest of a backup"):
        job(catalogue, backup)


def test_through_the_pod(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    catalogue: str,
    run_playbook: Callable[..., harness.PlaybookResult],
    tmp_path: Path,
) -> None:
    """All of it by the playbooks: backup with encrypted keys, what there is, what would happen, the restore, again."""
    namespace.secret("litemaas-db", DATABASE_URL=namespace.inside(catalogue), password=str(parts(catalogue).password))
    namespace.secret("litellm-secret", LITELLM_MASTER_KEY="sk-master-of-test", LITELLM_SALT_KEY=SALT)
    namespace.secret("vault", password="of-the-vault")
    namespace.service(cluster.POSTGRES, 5432)
    in_pod(namespace, catalogue, secret=False)
    for name in ("litellm", "litellm-backend"):
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": name, "image": "i"}], "automountServiceAccountToken": False},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
        namespace.create("apps/v1", "Deployment", name, spec=spec)
    # Paths are those of the folder where the commands are typed.
    environment = {"K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"], "PWD": str(tmp_path)}
    given, folder = {"namespace": namespace.name, "dest": "b", "backup": "latest"}, tmp_path / "b"

    def played(name: str, expect: int = 0, check: bool = False, **more: Any) -> harness.PlaybookResult:
        done = run_playbook(f"rhpds.litemaas.{name}", {**given, **more}, check=check, verbosity=3, env=environment)
        assert done.rc == expect, done.output
        for secret in (SALT, "sk-master-of-test", "of-the-vault", str(parts(catalogue).password)):
            assert secret not in done.output
        return done

    # Test keys of models, of the master key and of the one before it.
    for name, master_key in (("same", "sk-master-of-test"), ("older", "sk-master-before")):
        stored = model_keys.encrypt(b"sk-upstream", master_key)
        execute(catalogue, f"INSERT INTO models VALUES ('{name}', '{name}', 'openai')")
        execute(catalogue, f"UPDATE models SET encrypted_api_key = '{stored}' WHERE id = '{name}'")
    done = played("backup", vault_password_secret="vault")
    assert "keys beside it, encrypted" in done.stdout
    assert f"dumped to {folder}:" in done.stdout
    found = backups.in_folder(str(folder), verify=True)[0][0]
    keys = folder / found.manifest["keys"]["file"]
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    vault = VaultLib([("default", VaultSecret(b"of-the-vault"))])
    plain = yaml.safe_load(vault.decrypt(keys.read_bytes()))
    assert plain == {"master_key": "sk-master-of-test", "salt_key": SALT}
    listed = played("list_backups").stdout
    assert "with keys" in listed
    assert str(folder) in listed
    execute(catalogue, "DELETE FROM notes")
    done = played("test_restore")
    assert "nothing was changed" in done.stdout
    assert "test keys of older in the backup are not encrypted with the master key" in " ".join(done.output.split())
    assert others(catalogue) == []
    assert "would be restored" in played("restore", check=True, backup=f"b/{found.name}.json").stdout
    assert others(catalogue) == []
    done = played("restore", confirm=namespace.name)
    assert execute(catalogue, "SELECT count(*) FROM notes") == [(9,)]
    assert "restarted: litellm, litellm-backend" in done.stdout
    assert "test keys of older in the backup" in " ".join(done.output.split())
    for name in ("litellm", "litellm-backend"):
        live = namespace.dynamic.resources.get(api_version="apps/v1", kind="Deployment").get(name, namespace.name)
        assert live.spec.template.metadata.annotations["kubectl.kubernetes.io/restartedAt"]
    assert len(others(catalogue)) == 1
    namespace.delete("v1", "Secret", "litellm-secret")
    namespace.secret("litellm-secret", LITELLM_MASTER_KEY="sk-master-of-test")
    assert "another salt key" in played("restore", 2, confirm=namespace.name).stdout


def test_a_backup_of_another_version(
    stack: harness.Stack, namespace: cluster.Namespace, catalogue: str, tmp_path: Path
) -> None:
    """A newer one is refused without a word; after an older one the migration's Job, which has run, runs again."""
    backup = taken(catalogue, tmp_path / "b")
    namespace.secret("litemaas-db", DATABASE_URL=namespace.inside(catalogue), password=str(parts(catalogue).password))
    namespace.service(cluster.POSTGRES, 5432)
    in_pod(namespace, catalogue, secret=False)
    image = "quay.io/example/litellm:main-v1.81.0-stable"
    for name in ("litellm", "litellm-backend"):
        pod = {"containers": [{"name": name, "image": image}], "automountServiceAccountToken": False}
        template = {"metadata": {"labels": {"app": name}}, "spec": pod}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
        namespace.create("apps/v1", "Deployment", name, spec=spec)
    rest = Cluster(kubeconfig=stack.variables["KUBECONFIG"]).rest()
    migrations = upgrade.Upgrade(operate.Operator(rest, namespace.name, timeout=60, poll=0.2), "print(1)", None)
    first = migrations.migrate_again().migration
    jobs = namespace.dynamic.resources.get(api_version="batch/v1", kind="Job")
    uid = jobs.get(first, namespace.name).metadata.uid
    manifest = Path(backup.manifest)

    def made(litellm: str) -> tuple[restore.Job, list[str]]:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        content["images"] = {"litellm": litellm, "backend": image}
        manifest.write_text(json.dumps(content), encoding="utf-8")
        said: list[str] = []
        servers = restore.of_deployment(Cluster(kubeconfig=stack.variables["KUBECONFIG"]), namespace.name, None, 10)
        verb = restore.Job(servers, namespace.name, namespace.name, False, said.append)
        verb.read(str(manifest), {}, False)
        return verb, said

    running = {"litellm": image, "backend": image}
    newer = "quay.io/example/litellm:main-v1.85.0-stable"
    with pytest.raises(restore.RestoreError, match=r"litellm_tag=main-v1.85.0-stable.*nothing was done"):
        made(newer)[0].compare_images(running, False)
    verb, said = made(newer)
    verb.compare_images(running, True)
    assert "under an older version" in said[0]
    verb, said = made("quay.io/example/litellm@sha256:1")
    verb.compare_images(running, False)
    assert "could not be compared" in said[0]
    verb, said = made(image)
    verb.compare_images(running, False)
    verb.restore(False, None, 60, migrations)
    assert said == [] and jobs.get(first, namespace.name).metadata.uid == uid
    verb, said = made("quay.io/example/litellm:main-v1.79.0-stable")
    verb.compare_images(running, False)
    assert f"migrated by Job {first}" in verb.restore(False, None, 60, migrations)["msg"]
    assert said == [] and jobs.get(first, namespace.name).metadata.uid != uid


def test_a_dump_that_does_not_fit_into_the_pod(
    stack: harness.Stack, namespace: cluster.Namespace, catalogue: str, tmp_path: Path
) -> None:
    """pg_restore ends early, while it is still being given its input."""
    execute(catalogue, "CREATE TABLE much AS SELECT n, md5(random()::text) AS t FROM generate_series(1, 60000) n")
    backup = taken(catalogue, tmp_path / "b")
    folder = tmp_path / "dies"
    folder.mkdir()
    program = folder / "pg_restore"
    program.write_text('#!/bin/sh\nhead -c 1000 >/dev/null; echo "pg_restore: error: disk full" >&2; exit 1\n')
    program.chmod(0o755)
    namespace.secret("litemaas-db", DATABASE_URL=namespace.inside(catalogue), password=str(parts(catalogue).password))
    namespace.service(cluster.POSTGRES, 5432)
    in_pod(namespace, catalogue, secret=False, env=json.dumps({"PATH": f"{folder}:/usr/bin:/bin"}))
    servers = restore.of_deployment(Cluster(kubeconfig=stack.variables["KUBECONFIG"]), namespace.name, None, 10)
    made = restore.Job(servers, namespace.name, namespace.name, False, print)
    made.read(backup.manifest, {}, False)
    with pytest.raises(restore.RestoreError, match=r"disk full.*dropped again"):
        made.restore(True, None, 1)
    assert others(catalogue) == []


def test_keys_and_models_work_afterwards(
    stack: harness.Stack, run_playbook: Callable[..., harness.PlaybookResult], tmp_path: Path
) -> None:
    """A real proxy: all keys and models deleted, and back."""
    with proxies.deployed(stack, tmp_path / "proxy", {}, replicas=1, environment={"LITELLM_SALT_KEY": SALT}) as proxy:
        admin = proxy.admin()
        params = {"model": "openai/needs-key", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-upstream-test"}
        admin.post("/model/new", model_name="kept", litellm_params=params, model_info={})
        key = admin.post("/key/generate", models=["kept"], key_alias="kept")["key"]
        assert admin.chat("kept", key)[0] == 200
        given = {"litellm_dsn": proxy.dsn, "litemaas_dsn": "", "litellm_salt_key": SALT, "dest": str(tmp_path / "b")}
        environment = {"LITEMAAS_DSN": "", "LITELLM_SALT_KEY": SALT}
        assert run_playbook("rhpds.litemaas.backup", given, env=environment).rc == 0
        execute(proxy.dsn, 'DELETE FROM "LiteLLM_VerificationToken"; DELETE FROM "LiteLLM_ProxyModelTable"')
        given |= {"backup": "latest", "confirm": name_of(proxy.dsn), "old_databases": "drop"}
        done = run_playbook("rhpds.litemaas.restore", given, env=environment)
        assert done.rc == 0, done.output
        # As the Deployment's restart does.
        replica = proxy.replicas[0]
        replica.stop()
        replica.start()
        replica.wait()
        admin = proxy.admin()
        assert [one["key_alias"] for one in admin.get("/key/list", return_full_object="true")["keys"]] == ["kept"]
        assert admin.chat("kept", key)[0] == 200
