# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups by cron and to S3: what is sent, what is deleted, and that nothing good is lost where something fails."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import snapshot
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import backups, dump, sealed
from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness, proxies, s3
from ansible_collections.rhpds.litemaas.tests.integration.test_database_dump import parts

# proxies puts the stack's programs on the path.
from faults import FaultProxy  # isort: skip

BUCKET = "maas-db-backup"
DENIED = "<Error><Code>AccessDenied</Code><Message>Forbidden by policy</Message></Error>"


@pytest.fixture(scope="module")
def small(stack: harness.Stack) -> Iterator[str]:
    """A database with a table."""
    with proxies.database(stack.litemaas_dsn) as dsn:
        connection = harness.connect(dsn)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE notes AS SELECT n FROM generate_series(1, 9) n")
        connection.close()
        yield dsn


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.Store]:
    """S3."""
    with s3.running(tmp_path_factory.mktemp("s3")) as found:
        found.make_bucket(BUCKET)
        yield found


def aged(folder: Path, backup: dump.Backup, time: str) -> dump.Backup:
    """A copy of a backup that is of another time."""
    old = copy.deepcopy(backup)
    stem, new = Path(backup.manifest).stem, f"litemaas-{time}.000000Z"
    old.time = f"{time[:4]}-{time[4:6]}-{time[6:11]}:{time[11:13]}:{time[13:]}Z"
    old.manifest = str(folder / f"{new}.json")
    for one in old.databases:
        file = one.file.replace(stem, new)
        shutil.copy(folder / one.file, folder / file)
        one.file = file
    Path(old.manifest).write_text(json.dumps(dump.asdict(old)), encoding="utf-8")
    return old


def taken(dsn: str, folder: Path) -> dump.Backup:
    source = dump.DsnSource(dsn)
    return dump.take([(source, source.database)], str(folder), "litemaas", {})


def play(
    runner: harness.Runner, name: str, variables: dict[str, Any], *arguments: str, here: Path | None = None
) -> harness.PlaybookResult:
    """A playbook, without a Python that is given for everything: S3's modules have one of their own.

    Args:
        here: the folder where the command is typed.
    """
    command = runner.command(f"rhpds.litemaas.{name}", variables)[:-2]
    environment = {
        **runner.environment(),
        "LITELLM_DSN": "",
        "LITEMAAS_DSN": "",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        **({"PWD": str(here)} if here else {}),
    }
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=here
    )
    return harness.PlaybookResult(done.returncode, done.stdout, done.stderr)


def test_to_s3_and_back(store: s3.Store, small: str, runner: harness.Runner, tmp_path: Path) -> None:
    """Sent, read back, listed, restored from, and only then is an old one deleted."""
    taken_here = taken(small, tmp_path / "old")
    for time in ("20200101T030000", "20200101T040000"):
        old = aged(tmp_path / "old", taken_here, time)
        for path in (Path(old.manifest), Path(dump.path_of(old, old.databases[0]))):
            store.put(BUCKET, f"litemaas-backups/{path.name}", path.read_bytes())
    store.put(BUCKET, "litemaas-backups/notes.txt", b"of somebody else")
    store.put(BUCKET, "elsewhere/litemaas-20190101T030000.000000Z.json", b"{}")
    password = tmp_path / "vault"
    password.touch(mode=0o600)
    password.write_text("of-the-vault", encoding="utf-8")
    given = {
        "litemaas_dsn": small,
        "s3_bucket": BUCKET,
        "s3_endpoint_url": store.url,
        "s3_python": str(store.python),
        **s3.ACCOUNT,
    }
    made = {**given, "vault_password_file": password.name, "keep_daily": 2, "keep_monthly": 0}
    made |= {"litellm_master_key": "sk-master-of-a-variable", "litellm_salt_key": "sk-salt-of-a-variable"}
    done = play(runner, "backup", made, "-vvv", here=tmp_path)
    assert done.rc == 0, done.output
    assert s3.ACCOUNT["s3_secret_key"] not in done.output
    assert str(parts(small).password) not in done.output
    assert "of-a-variable" not in done.output
    names = set(store.names(BUCKET))
    assert not [name for name in names if "20200101T030000" in name]
    assert len([name for name in names if "20200101T040000" in name]) == 2
    assert {"litemaas-backups/notes.txt", "elsewhere/litemaas-20190101T030000.000000Z.json"} <= names
    manifest = next(
        name for name in names if name.endswith("Z.json") and "2020" not in name and "elsewhere" not in name
    )
    content = s3.parsed(store.content(BUCKET, manifest))
    vault = VaultLib([("default", VaultSecret(b"of-the-vault"))])
    name = content["keys"]["file"]  # type: ignore[index]
    keys = yaml.safe_load(vault.decrypt(store.content(BUCKET, f"litemaas-backups/{name}")))
    assert keys == {"master_key": "sk-master-of-a-variable", "salt_key": "sk-salt-of-a-variable"}
    for one in content["databases"]:  # type: ignore[attr-defined]
        assert len(store.content(BUCKET, f"litemaas-backups/{one['file']}")) == one["size"]
    listed = play(runner, "list_backups", given)
    assert listed.rc == 0, listed.output
    said = f"2 backups in s3://{BUCKET}/litemaas-backups/, the newest of {content['time']}"  # type: ignore[index]
    assert f"{said}; sizes and checksums were not compared (test_restore does)" in listed.stdout
    tested = play(runner, "test_restore", {**given, "backup": "latest"})
    assert tested.rc == 0, tested.output
    assert "9 rows, as they were counted then" in tested.stdout


@pytest.mark.parametrize(
    ("method", "pattern", "status", "body", "words"),
    [
        ("PUT", r"Z\.json$", 403, DENIED, "Forbidden"),
        ("GET", r"\.dump$", 200, "not what was sent", "bytes of"),
        ("GET", r"Z\.json$", 200, "{}", "the manifest that lies there now is not the one that was sent"),
    ],
)
def test_s3_that_refuses(
    store: s3.Store,
    small: str,
    runner: harness.Runner,
    method: str,
    pattern: str,
    status: int,
    body: str,
    words: str,
) -> None:
    """Nothing half is left there, nothing old is deleted, and it is said."""
    before = set(store.names(BUCKET))
    with FaultProxy(store.url) as fault:
        fault.add_rule(method, pattern, "answer", status=status, body=body, count=None)
        given = {"litemaas_dsn": small, "s3_bucket": BUCKET, "s3_endpoint_url": fault.url, **s3.ACCOUNT}
        done = play(runner, "backup", {**given, "s3_python": str(store.python), "keep_daily": 1, "keep_monthly": 0})
    assert done.rc == 2, done.output
    assert f"Send the backup to s3://{BUCKET}/litemaas-backups/" in done.stdout
    assert "no older one was deleted" in done.stdout
    assert words in done.stdout
    assert set(store.names(BUCKET)) == before


def test_s3_without_its_collection(
    small: str, runner: harness.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command to install it is in the error, and nothing else needs it."""
    root = tmp_path / "cols" / "ansible_collections"
    root.mkdir(parents=True)
    for one in Path(runner.environment()["ANSIBLE_COLLECTIONS_PATH"], "ansible_collections").iterdir():
        if one.name != "amazon":
            (root / one.name).symlink_to(one)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(root.parent))
    done = play(runner, "backup", {"litemaas_dsn": small, "s3_bucket": BUCKET})
    assert done.rc == 2
    assert "ansible-galaxy collection install amazon.aws" in done.stdout
    done = play(runner, "backup", {"litemaas_dsn": small, "dest": "b"}, here=tmp_path)
    assert done.rc == 0, done.output
    assert f"dumped to {tmp_path / 'b'}:" in done.stdout
    assert len(backups.in_folder(str(tmp_path / "b"))[0]) == 1


def test_what_stays_in_a_folder(small: str, runner: harness.Runner, run_module: Any, tmp_path: Path) -> None:
    """Check mode says what goes; then it goes, once; others' files and broken backups stay."""
    folder = tmp_path / "b"
    backup = taken(small, folder)
    old = [aged(folder, backup, time) for time in ("20200101T030000", "20200102T030000", "20200103T030000")]
    Path(dump.path_of(old[2], old[2].databases[0])).write_bytes(b"cut")
    (folder / "other-20200101T030000.000000Z.json").write_text('{"time": "x"}', encoding="utf-8")
    before = set(folder.iterdir())
    args = {"path": str(folder), "keep_daily": 2, "keep_monthly": 0}
    planned = run_module("litemaas_backup_prune", args, check=True)
    assert planned["deleted"] == ["litemaas-20200101T030000.000000Z"]
    assert set(folder.iterdir()) == before
    assert run_module("litemaas_backup_prune", args)["deleted"] == planned["deleted"]
    assert len(before) - len(set(folder.iterdir())) == 2
    assert not run_module("litemaas_backup_prune", args).changed
    assert "at least one" in run_module("litemaas_backup_prune", {**args, "keep_daily": 0})["msg"]
    shown = run_module("litemaas_backup_info", {"path": str(folder)})
    assert [one["complete"] for one in shown["backups"]] == [True, False, True]
    assert "1 is not complete" in shown["msg"]
    assert len(shown["others"]) == 1 and "it is no manifest of a backup" in shown["msg"] and not shown["whole"]
    # A dump that fails pushes nothing out.
    before = set(folder.iterdir())
    given = {"litemaas_dsn": f"{small}x", "dest": str(folder), "keep_daily": 1, "keep_monthly": 0}
    done = play(runner, "backup", given)
    assert done.rc == 2
    assert "does not exist" in done.stdout
    assert set(folder.iterdir()) == before


def test_what_a_list_says_of_a_folder(small: str, runner: harness.Runner, run_module: Any, tmp_path: Path) -> None:
    """Nothing, something whole, something damaged: the exit code tells, and the last line what was compared."""
    folder = tmp_path / "b"
    folder.mkdir()
    args = {"path": str(folder)}
    empty = run_module("litemaas_backup_info", args)
    assert (empty["msg"], empty["whole"]) == (f"No backup in {folder}", False)
    nothing = play(runner, "list_backups", {"dest": str(folder)})
    assert nothing.rc == 2 and f"No backup in {folder}" in nothing.stdout, nothing.output
    backup = taken(small, folder)
    whole = run_module("litemaas_backup_info", args)
    assert whole["whole"] and whole["msg"].endswith("; checksums were not compared (verify=true does)")
    whole = run_module("litemaas_backup_info", {**args, "verify": True})
    assert whole["whole"] and "checksums" not in whole["msg"]
    there = run_module("litemaas_backup_info", {**args, "present": [path.name for path in folder.iterdir()]})
    assert there["whole"] and there["msg"].endswith("; sizes and checksums were not compared (test_restore does)")
    file = Path(dump.path_of(backup, backup.databases[0]))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert run_module("litemaas_backup_info", args)["whole"]
    listed = play(runner, "list_backups", {"dest": str(folder), "verify": True})
    assert listed.rc == 2 and f"1 is not complete: {Path(backup.manifest).stem} (" in listed.stdout, listed.output
    listed = play(runner, "list_backups", {"dest": str(folder), "verify": True, "fail": False})
    assert listed.rc == 0 and "NOT COMPLETE" in listed.stdout, listed.output
    file.write_bytes(content)
    Path(backup.manifest).write_text(Path(backup.manifest).read_text(encoding="utf-8")[:99], encoding="utf-8")
    cut = run_module("litemaas_backup_info", args)
    assert not cut["whole"] and "it is no JSON" in cut["msg"]


def test_passwords_of_the_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that others could read, or that is none, encrypts nothing."""
    file = tmp_path / "vault"
    for mode, text, words in ((0o644, "x", "chmod 0600"), (0o700, "x", "program"), (0o600, " ", "empty")):
        file.unlink(missing_ok=True)
        file.touch(mode=mode)
        file.chmod(mode)
        file.write_text(text, encoding="utf-8")
        with pytest.raises(sealed.SealError, match=words):
            sealed.password_of(str(file))
    with pytest.raises(sealed.SealError, match="vault_password_file"):
        sealed.password_of(str(tmp_path / "nothing"))
    monkeypatch.setattr(sealed, "PROGRAM", "no-such-program")
    with pytest.raises(sealed.SealError, match="ansible-core"):
        sealed.seal({"salt_key": "x"}, "y")


def test_install_and_remove(small: str, runner: harness.Runner, tmp_path: Path) -> None:
    """The job runs as cron would run it; an older script goes, other lines stay; removed as cleanly."""
    prefix, root = "ocp4_workload_litemaas_backup_", tmp_path / "root"
    folders = ("cron_dir", "config_dir", "program_dir", "log_dir", "logrotate_dir", "lock_dir")
    for name in folders:
        (root / name).mkdir(parents=True)
    script = tmp_path / "litemaas-backup-litellm-rhpds.sh"
    script.write_text("#!/bin/sh", encoding="utf-8")
    crontab = tmp_path / "crontab"
    lines = ["# of others", "0 1 * * * /usr/bin/other.sh", f"0 3 1 * * {script} >> /var/log/b.log 2>&1"]
    crontab.write_text("\n".join([*lines, ""]), encoding="utf-8")
    dest = tmp_path / "backups"
    given = {
        "litemaas_dsn": small,
        "dest": "backups",
        f"{prefix}become": False,
        f"{prefix}user": Path.home().owner(),
        f"{prefix}crontabs": [str(crontab), str(tmp_path / "none")],
        f"{prefix}environment": {"WITH_SPACE": "a 'b'"},
        **{f"{prefix}{name}": str(root / name) for name in folders},
    }
    planned = play(runner, "install_backup", given, "--check", here=tmp_path)
    assert planned.rc == 0, planned.output
    assert script.exists()
    assert not [path for path in root.rglob("*") if path.is_file()]
    done = play(runner, "install_backup", given, "-vvv", "--diff", here=tmp_path)
    assert done.rc == 0, done.output
    assert f"backups in {dest}," in done.stdout
    assert str(parts(small).password) not in done.output
    assert not script.exists()
    assert crontab.read_text(encoding="utf-8").splitlines() == lines[:2]
    again = play(runner, "install_backup", given, here=tmp_path)
    assert again.changed == 0, again.stdout
    job = root / "program_dir" / "litemaas-backup-litemaas"
    for name in (f"config_dir/{job.name}.env", f"config_dir/{job.name}.json"):
        assert stat.S_IMODE((root / name).stat().st_mode) == 0o600
    assert (root / "logrotate_dir" / job.name).exists()
    cron = (root / "cron_dir" / job.name).read_text(encoding="utf-8")
    line = next(one for one in cron.splitlines() if one.startswith("0 3 1 * * "))
    command = line.split(maxsplit=6)[6]
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    quiet = subprocess.run(
        ["/bin/sh", "-c", command], check=True, env=bare, timeout=120, capture_output=True, text=True
    )
    assert quiet.stdout + quiet.stderr == ""
    log = root / "log_dir" / f"{job.name}.log"
    assert "ended with status 0" in log.read_text(encoding="utf-8")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert len(backups.in_folder(str(dest), verify=True)[0]) == 1
    with (root / "lock_dir" / f"{job.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.run([job], capture_output=True, text=True, check=False, env=bare)
        assert (second.returncode, second.stdout, second.stderr.count("\n")) == (75, "", 1)
        assert "another backup is at work" in second.stderr
    # A failure is in the log as a whole, and one line of it is mailed.
    words = [str(job), "-e", f"litemaas_dsn={small}x"]
    failed = subprocess.run(words, capture_output=True, text=True, check=False, env=bare, timeout=120)
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (2, "", 1), failed
    assert f"failed with status 2; its log is {log}" in failed.stderr
    assert "does not exist" in failed.stderr
    assert "ended with status 2" in log.read_text(encoding="utf-8")
    done = play(runner, "remove_backup", given)
    assert done.rc == 0, done.output
    assert [path for path in root.rglob("*") if path.is_file()] == [log]
    assert play(runner, "remove_backup", given).changed == 0
    assert list(dest.iterdir())


@contextlib.contextmanager
def snapshots(namespace: cluster.Namespace, name: str = "csi") -> Iterator[None]:
    """A cluster whose storage has VolumeSnapshots."""
    extensions = kubernetes.client.ApiextensionsV1Api(namespace.client)
    custom = kubernetes.client.CustomObjectsApi(namespace.client)
    kinds = (("VolumeSnapshot", "Namespaced"), ("VolumeSnapshotClass", "Cluster"))
    for kind, scope in kinds:
        plural = f"{kind.lower()}{'es' if kind.endswith('s') else 's'}"
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {"name": "v1", "served": True, "storage": True, "schema": schema}
        names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
        meta = {
            "name": f"{plural}.snapshot.storage.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        }
        spec = {"group": "snapshot.storage.k8s.io", "scope": scope, "names": names, "versions": [version]}
        extensions.create_custom_resource_definition({"metadata": meta, "spec": spec})
    try:
        body = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass", "metadata": {"name": name}}
        place = ("snapshot.storage.k8s.io", "v1", "volumesnapshotclasses")
        until(lambda: custom.create_cluster_custom_object(*place, body))
        yield
    finally:
        for plural in ("volumesnapshots", "volumesnapshotclasses"):
            extensions.delete_custom_resource_definition(f"{plural}.snapshot.storage.k8s.io")


def until(action: Any) -> Any:
    """A new kind is served after a moment."""
    pause = threading.Event()
    for _attempt in range(100):
        try:
            return action()
        except kubernetes.client.ApiException as failure:
            if failure.status != 404:
                raise
            pause.wait(0.1)
    raise AssertionError("the new kind isn't served")


def test_a_snapshot_instead(
    stack: harness.Stack, namespace: cluster.Namespace, runner: harness.Runner, tmp_path: Path
) -> None:
    """Where the database is gone its volume isn't; the failed dump is an error all the same."""
    client = Cluster(kubeconfig=stack.variables["KUBECONFIG"]).rest()
    claim = "postgres-storage-litellm-postgres-0"
    resources = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources}
    with pytest.raises(ClusterError, match="neither it nor a volume claim"):
        snapshot.planned(client, namespace.name, "litellm-postgres-0", None)
    namespace.create("v1", "PersistentVolumeClaim", claim, spec=spec)
    with pytest.raises(ClusterError, match="no VolumeSnapshotClass"):
        snapshot.planned(client, namespace.name, "litellm-postgres-0", None)
    with snapshots(namespace):
        plan = snapshot.planned(client, namespace.name, "litellm-postgres-0", None)
        assert (plan.claim, plan.snapshot_class) == (claim, "csi")
        with pytest.raises(ClusterError, match="no VolumeSnapshotClass other"):
            snapshot.planned(client, namespace.name, "litellm-postgres-0", "other")
        custom = kubernetes.client.CustomObjectsApi(namespace.client)
        place = ("snapshot.storage.k8s.io", "v1", namespace.name, "volumesnapshots")

        def names() -> set[str]:
            return {one["metadata"]["name"] for one in custom.list_namespaced_custom_object(*place)["items"]}

        def make(name: str, ready: bool, labels: dict[str, str]) -> None:
            body = {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshot",
                "metadata": {"name": name, "labels": labels},
                "spec": {"volumeSnapshotClassName": "csi", "source": {"persistentVolumeClaimName": claim}},
                "status": {"readyToUse": ready, "restoreSize": "1Gi"},
            }
            until(lambda: custom.create_namespaced_custom_object(*place, body))

        make("a-ours", True, snapshot.LABELS)
        make("b-ours-not-ready", False, snapshot.LABELS)
        make("c-of-others", True, {})
        before = names()
        with pytest.raises(ClusterError, match=r"not ready to use.*deleted again"):
            snapshot.take(client, plan, 0)
        assert names() == before
        stop = threading.Event()

        def driver() -> None:
            while not stop.wait(0.2):
                for name in names() - before:
                    custom.patch_namespaced_custom_object(*place, name, {"status": {"readyToUse": True}})

        thread = threading.Thread(target=driver)
        thread.start()
        try:
            given = {"namespace": namespace.name, "dest": str(tmp_path / "b"), "keep_daily": 1, "keep_monthly": 0}
            runner_environment = {"K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"]}
            done = runner.playbook("rhpds.litemaas.backup", given, env=runner_environment)
        finally:
            stop.set()
            thread.join()
        assert done.rc == 2, done.output
        assert "litemaas-db" in done.stdout
        assert f"Instead: VolumeSnapshot {namespace.name}/{claim}-" in done.stdout
        assert "1 that need not stay were deleted: a-ours" in done.stdout
        (new,) = names() - before
        assert names() == {new, "b-ours-not-ready", "c-of-others"}
        assert not (tmp_path / "b").exists()
        given["dest"] = str(tmp_path)
        listed = runner.playbook("rhpds.litemaas.list_backups", given, env=runner_environment)
        # A snapshot is no backup.
        assert listed.rc == 2 and f"VolumeSnapshot {new}" in listed.stdout, listed.output
        assert "2 VolumeSnapshots of the database's volume" in listed.stdout
        assert "b-ours-not-ready  " in listed.stdout and "c-of-others" not in listed.output


TWO_PLACES = """
- hosts: localhost
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: rhpds.litemaas.ocp4_workload_litemaas_backup
            tasks_from: backup
      rescue:
        - ansible.builtin.debug:
            msg: "REFUSED {{ ansible_failed_result.msg }}"
  environment:
    K8S_AUTH_KUBECONFIG: "{{ without_rights }}"
- hosts: localhost
  gather_facts: false
  vars:
    ocp4_workload_litemaas_backup_namespace: "{{ lookup('ansible.builtin.vars', 'namespace') }}-typo"
  tasks:
    - ansible.builtin.include_role:
        name: rhpds.litemaas.ocp4_workload_litemaas_backup
        tasks_from: backup
"""


def test_no_snapshot_of_what_can_not_be_read(
    stack: harness.Stack, namespace: cluster.Namespace, runner: harness.Runner, tmp_path: Path
) -> None:
    """An account without rights, then a namespace that isn't there: each has one error, its own."""
    given = {"namespace": namespace.name, "dest": "b", "without_rights": namespace.account(tmp_path, ())}
    environment = {"K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"], "PWD": str(tmp_path)}
    done = runner.playbook(TWO_PLACES, given, env=environment)
    assert done.rc == 2, done.output
    refused = done.stdout[done.stdout.index("REFUSED") :]
    assert "HTTP 403" in refused.splitlines()[0]
    assert f"{namespace.name}-typo" in refused
    assert "is undefined" not in done.output
    assert "Take a snapshot of the database's volume" not in done.output
    assert not (tmp_path / "b").exists()
