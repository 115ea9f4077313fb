# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nightly clean-up of keys: installed, run as it was installed, and taken away again."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest

from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness

ROLES = Path(__file__).resolve().parents[2] / "roles"
ROLE = "ocp4_workload_litemaas_key_cleanup"
#: As crontab does: prints a file, or takes its place from standard input.
CRONTAB = """#!/bin/sh
case "$1" in
-l) cat "{0}" 2>/dev/null || {{ echo "no crontab for root" >&2; exit 1; }} ;;
-) cat >"{0}" ;;
esac
"""
OLDER = "0 2 * * * /usr/local/bin/cleanup-litemaas-keys-litellm-rhpds.sh"
NAMES = ("etc/cron.d", "etc/logrotate.d", "usr/local/bin", "var/log", "run/lock")


@pytest.fixture
def keys(litellm: harness.LiteLLM, litellm_db: Any, prefix: str) -> Iterator[Any]:
    """Makes a key that expired nine days ago."""

    def make(name: str) -> None:
        litellm.post("/key/generate", key_alias=prefix + name, duration="30d")
        with litellm_db.cursor() as cursor:
            cursor.execute(
                "UPDATE \"LiteLLM_VerificationToken\" SET expires = timezone('utc', now()) - interval '9 days'"
                " WHERE key_alias = %s",
                (prefix + name,),
            )

    return make


class Bastion:
    """A host's folders below a temporary one."""

    def __init__(self, folder: Path, runner: harness.Runner, prefix: str) -> None:
        self.root, self.runner = folder / "root", runner
        for name in NAMES:
            (self.root / name).mkdir(parents=True)
        self.crontab = folder / "crontab.txt"
        program = folder / "crontab"
        program.write_text(CRONTAB.format(self.crontab))
        program.chmod(0o755)
        environment = runner.environment()
        given = {
            "root": str(self.root),
            "become": False,
            "user": str(os.getuid()),
            "crontab": str(program),
            "path": environment["PATH"],
            "collections_path": environment["ANSIBLE_COLLECTIONS_PATH"],
            "python": sys.executable,
            "protected_aliases": [f"(?!{prefix}).*"],
            "allow_mass_cleanup": True,
        }
        self.variables = {f"{ROLE}_{name}": value for name, value in given.items()}

    def play(self, name: str, **more: Any) -> harness.PlaybookResult:
        settings = {one: more.pop(one) for one in ("check", "verbosity", "env") if one in more}
        return self.runner.playbook(f"rhpds.litemaas.{name}", {**self.variables, **more}, **settings)

    def files(self) -> list[str]:
        return sorted(str(file.relative_to(self.root)) for file in self.root.rglob("*") if file.is_file())

    def run(self, *arguments: str, status: int = 0) -> str:
        """What cron would run, as it stands in its line; what it adds to its log, or with a status what cron mails."""
        line = (self.root / "etc/cron.d/litemaas-key-cleanup").read_text().splitlines()[-1]
        schedule, user, script, *rest = line.split()[:5], *line.split()[5:]
        assert (schedule, user) == (["0", "2", "*", "*", "*"], str(os.getuid()))
        assert rest == []
        log = self.root / "var/log/litemaas-key-cleanup.log"
        before = log.read_text() if log.exists() else ""
        # The environment of cron.
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(self.root)}
        done = subprocess.run(
            [script, *arguments], env=bare, cwd="/", capture_output=True, text=True, check=False, timeout=120
        )
        assert (done.returncode, done.stdout) == (status, ""), done.stdout + done.stderr
        assert log.read_text().startswith(before) and log.stat().st_mode & 0o777 == 0o600
        if status:
            return done.stderr
        assert done.stderr == ""
        return log.read_text()[len(before) :]


@pytest.fixture
def bastion(tmp_path: Path, runner: harness.Runner, prefix: str) -> Bastion:
    return Bastion(tmp_path, runner, prefix)


OURS = [
    "etc/cron.d/litemaas-key-cleanup",
    "etc/litemaas-key-cleanup.env",
    "etc/litemaas-key-cleanup.yml",
    "etc/logrotate.d/litemaas-key-cleanup",
    "usr/local/bin/litemaas-key-cleanup",
]


def test_cron_on_a_host(
    bastion: Bastion, keys: Any, litellm: harness.LiteLLM, stack: harness.Stack, prefix: str
) -> None:
    (bastion.root / "usr/local/bin/cleanup-litemaas-keys-litellm-rhpds.sh").write_text("#!/bin/sh\n")
    (bastion.root / "etc/logrotate.d/litemaas-key-cleanup-litellm-rhpds").write_text("/var/log/x {}\n")
    # Of another LiteMaaS, by the same role.
    theirs = "etc/logrotate.d/litemaas-key-cleanup-lab"
    (bastion.root / theirs).write_text("# Managed by rhpds.litemaas\n")
    other = OLDER.replace("litellm-rhpds", "litellm-other")
    bastion.crontab.write_text(f"MAILTO=root\n#{OLDER}\n{OLDER}\n{other}\n5 4 * * * /usr/bin/true\n")
    foreseen = bastion.play("install_key_cleanup", check=True)
    assert "Keys would be cleaned up at" in foreseen.stdout and "; the older clean-up would go: " in foreseen.stdout
    done = bastion.play("install_key_cleanup", verbosity=3)
    assert done.rc == 0, done.output
    # The older one was for a namespace; others than the one that is meant are named.
    for play, words in ((foreseen, "would go"), (done, "is gone")):
        assert f"; with it that of litellm-other, litellm-rhpds {words}, lines in the crontab" in play.stdout
    secrets = [stack.master_key, stack.litellm_dsn, stack.litemaas_dsn]
    assert not [one for one in secrets if one in done.output]
    assert bastion.files() == sorted([*OURS, theirs])
    assert bastion.crontab.read_text() == f"MAILTO=root\n#{OLDER}\n5 4 * * * /usr/bin/true\n"
    assert (bastion.root / "etc/litemaas-key-cleanup.env").stat().st_mode & 0o777 == 0o600
    others = "".join((bastion.root / name).read_text() for name in OURS if not name.endswith(".env"))
    assert not [one for one in secrets if one in others]
    assert "rotate 30" in others
    again = bastion.play("install_key_cleanup")
    assert (again.rc, again.changed) == (0, 0), again.output

    keys("old")
    with (bastion.root / "run/lock/litemaas-key-cleanup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another clean-up is under way" in bastion.run()
    assert litellm.keys(prefix)
    said = bastion.run()
    assert "deleted (1 expired)" in said
    assert not [one for one in secrets if one in said]
    assert not litellm.keys(prefix)
    # A failure is in the log as a whole, and one line of it is mailed.
    wrong = {f"{ROLE}_policies": ["older_than"], f"{ROLE}_older_than": "soon"}
    mailed = bastion.run("--extra-vars", json.dumps(wrong), status=2)
    assert mailed.count("\n") == 1 and "'soon' is not a duration" in mailed, mailed
    log = bastion.root / "var/log/litemaas-key-cleanup.log"
    assert f"failed with status 2; its log is {log}" in mailed and "PLAY RECAP" in log.read_text()

    (bastion.root / "etc/logrotate.d/litemaas-key-cleanup").write_text("# somebody's own\n")
    removed = bastion.play("remove_key_cleanup")
    assert removed.rc == 0, removed.output
    assert "4 files removed; left alone" in removed.stdout
    assert bastion.files() == ["etc/logrotate.d/litemaas-key-cleanup", theirs, "var/log/litemaas-key-cleanup.log"]


def test_what_cannot_work_on_a_host_is_refused(bastion: Bastion) -> None:
    (bastion.root / "etc/cron.d").rmdir()
    (bastion.root / "usr/local/bin/litemaas-key-cleanup").write_text("somebody's\n")
    wrong = {f"{ROLE}_ansible_playbook": "/nowhere/ansible-playbook"}
    bare = dict.fromkeys(("LITELLM_URL", "LITELLM_MASTER_KEY", "LITELLM_DSN", "LITEMAAS_DSN"), "")
    refused = bastion.play("install_key_cleanup", env=bare, **wrong)
    assert refused.rc != 0
    for words in (
        "Nothing was installed",
        "install cron",
        "ansible-playbook can not run rhpds.litemaas.cleanup_keys",
        "litemaas-key-cleanup is somebody else",
        "LITELLM_URL is not set",
    ):
        assert words in refused.stdout, refused.stdout
    assert bastion.files() == ["usr/local/bin/litemaas-key-cleanup"]


def test_a_cronjob_in_the_cluster(
    namespace: cluster.Namespace,
    runner: harness.Runner,
    stack: harness.Stack,
    keys: Any,
    litellm: harness.LiteLLM,
    prefix: str,
) -> None:
    namespace.secret("litellm-secret", LITELLM_MASTER_KEY=stack.master_key)
    namespace.secret("litemaas-db", DATABASE_URL=stack.litemaas_dsn, LITELLM_DATABASE_URL=stack.litellm_dsn)
    given = {
        "where": "cronjob",
        "image": "registry.example.com/litemaas-ee:1",
        "image_pull_secrets": ["of-the-registry"],
        "cluster_url": stack.url,
        "protected_aliases": [f"(?!{prefix}).*"],
        "allow_mass_cleanup": True,
    }
    variables = {"namespace": namespace.name, **{f"{ROLE}_{name}": value for name, value in given.items()}}
    env = {"K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"]}

    def play(name: str, **more: Any) -> harness.PlaybookResult:
        check = more.pop("check", False)
        return runner.playbook(f"rhpds.litemaas.{name}_key_cleanup", {**variables, **more}, env=env, check=check)

    batch = kubernetes.client.BatchV1Api(namespace.client)
    containers = [{"name": "x", "image": "x"}]
    jobs = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": containers}}}}
    theirs = {"schedule": "1 1 1 1 1", "jobTemplate": jobs}
    namespace.create("batch/v1", "CronJob", "litemaas-key-cleanup", spec=theirs)
    refused = play("install", **{f"{ROLE}_image": ""})
    assert refused.rc != 0 and "_image is not set" in refused.stdout
    assert "CronJob litemaas-key-cleanup is somebody else" in refused.stdout
    batch.delete_namespaced_cron_job("litemaas-key-cleanup", namespace.name)
    done = play("install")
    assert done.rc == 0, done.output
    again = play("install")
    assert (again.rc, again.changed) == (0, 0), again.output

    found = batch.read_namespaced_cron_job("litemaas-key-cleanup", namespace.name)
    assert (found.spec.schedule, found.spec.concurrency_policy) == ("0 2 * * *", "Forbid")
    assert stack.master_key not in str(found) and stack.litellm_dsn not in str(found)
    template = found.spec.job_template.spec.template
    pod, container = template.spec, template.spec.containers[0]
    assert (container.image, [one.name for one in pod.image_pull_secrets]) == (given["image"], ["of-the-registry"])
    assert (found.spec.job_template.spec.backoff_limit, pod.restart_policy) == (0, "Never")
    for labels in (found.metadata.labels, found.spec.job_template.metadata.labels, template.metadata.labels):
        assert labels["app.kubernetes.io/managed-by"] == "rhpds.litemaas"
    refs = {one.name: one.value_from.secret_key_ref for one in container.env if one.value_from}
    assert {name: (ref.name, ref.key) for name, ref in refs.items()} == {
        "LITELLM_MASTER_KEY": ("litellm-secret", "LITELLM_MASTER_KEY"),
        "LITEMAAS_DSN": ("litemaas-db", "DATABASE_URL"),
        "LITELLM_DSN": ("litemaas-db", "LITELLM_DATABASE_URL"),
    }
    ways_in = {name: value for name, value in template.metadata.labels.items() if name.startswith("rhpds.litemaas/")}
    assert ways_in == {"rhpds.litemaas/database-client": "true", "rhpds.litemaas/litellm-client": "true"}
    # The NetworkPolicies of a deploy know them.
    policies = (ROLES / "ocp4_workload_litemaas/templates/foundation.yaml.j2").read_text()
    assert not [label for label in ways_in if f'{label}: "true"' not in policies]
    assert pod.automount_service_account_token is False and pod.security_context.run_as_non_root
    assert container.security_context.read_only_root_filesystem
    assert container.security_context.capabilities.drop == ["ALL"]

    # What its pod would do, done on this machine.
    keys("old")
    job = namespace.client.sanitize_for_serialization(found.spec.job_template.spec)
    job["template"]["metadata"]["annotations"] = {"fakenode/run": "true"}
    command = job["template"]["spec"]["containers"][0]["command"]
    assert command[0] == "ansible-playbook"
    environment = runner.environment()
    place = Path(environment["PATH"].split(os.pathsep)[0])
    command[0] = str(place / command[0])
    given_env = {"ANSIBLE_COLLECTIONS_PATH": environment["ANSIBLE_COLLECTIONS_PATH"]}
    given_env |= dict.fromkeys(("HOME", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP"), str(runner.folder))
    # The fake node puts the pod's own folder in place of a mount, and this checkout may lie below it.
    assert [one["mountPath"] for one in job["template"]["spec"]["containers"][0].pop("volumeMounts")] == ["/tmp"]
    listed = job["template"]["spec"]["containers"][0]["env"]
    listed[:] = [one for one in listed if one["name"] not in given_env]
    listed += [{"name": name, "value": value} for name, value in given_env.items()]
    command[-1:-1] = ["--extra-vars", f"ansible_python_interpreter={sys.executable}"]
    namespace.create("batch/v1", "Job", "now", spec=job)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        status = batch.read_namespaced_job("now", namespace.name).status
        if status.succeeded or status.failed:
            break
        time.sleep(0.3)
    pods = namespace.core.list_namespaced_pod(namespace.name, label_selector="job-name=now").items
    said = namespace.core.read_namespaced_pod_log(pods[0].metadata.name, namespace.name)
    assert status.succeeded, said
    assert "deleted (1 expired)" in said
    assert stack.master_key not in said
    assert not litellm.keys(prefix)

    assert "would be removed" in play("remove", check=True).stdout
    gone = play("remove")
    assert gone.rc == 0 and gone.changed, gone.output
    assert not batch.list_namespaced_cron_job(namespace.name).items
    namespace.create("batch/v1", "CronJob", "litemaas-key-cleanup", spec=theirs)
    kept = play("remove")
    assert (kept.rc, kept.changed) == (0, 0) and "is left alone, as it has no label" in kept.stdout, kept.output
    assert len(batch.list_namespaced_cron_job(namespace.name).items) == 1


def test_the_playbooks_that_act_now(runner: harness.Runner, keys: Any, litellm: harness.LiteLLM, prefix: str) -> None:
    keys("old")
    given = {"cleanup_protected_aliases": [f"(?!{prefix}).*"], "cleanup_allow_mass_cleanup": True, "details": True}
    foreseen = runner.playbook("rhpds.litemaas.cleanup_keys", given, check=True)
    assert foreseen.rc == 0 and f"{prefix}old" in foreseen.stdout, foreseen.output
    done = runner.playbook("rhpds.litemaas.cleanup_keys", {**given, "cleanup_policies": "expired,orphaned_rows"})
    assert (done.rc, done.changed) == (0, 1), done.output
    assert not litellm.keys(prefix)
    wrong = runner.playbook(
        "rhpds.litemaas.cleanup_keys", {"cleanup_older_than": "soon", "cleanup_policies": "older_than"}
    )
    assert wrong.rc != 0 and "older_than: " in wrong.stdout and "is not a duration" in wrong.stdout, wrong.output
    pruned = runner.playbook("rhpds.litemaas.prune_key_archive", {"archive_older_than": "4000d"}, check=True)
    assert pruned.rc == 0 and "rows of the archive of deleted keys to remove" in pruned.stdout, pruned.output
