# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scaling, restarting, upgrading and flushing what runs: a real API server, small Deployments, a Redis of its own."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import redis as redis_client
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import cache, discover, operate, scale, upgrade
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import sealed
from ansible_collections.rhpds.litemaas.tests.integration import harness, operatelab
from ansible_collections.rhpds.litemaas.tests.integration.kube import Kube, Namespace, eventually

PASSWORD = "redis-password-of-a-test"
MASTER = "sk-master-key-of-a-test"
NEW = {"litellm": "main-v1.85.0-stable", "backend": "0.5.0", "frontend": "0.5.0"}
PARTS = {"litellm": "litellm", "backend": "litellm-backend", "frontend": "litellm-frontend"}


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with operatelab.redis(tmp_path_factory.mktemp("redis"), PASSWORD) as port:
        yield port


@pytest.fixture
def lab(stack: harness.Stack, place: Namespace, redis_port: int) -> operatelab.Lab:
    """All three parts as a deploy has applied them, PostgreSQL and Redis."""
    lab = operatelab.Lab(place)
    lab.config()
    shared = stack.variables["LITEMAAS_SHARED_DSN"]
    lab.secrets(shared, shared, LITELLM_MASTER_KEY=MASTER)
    place.secret("litellm-redis", password=PASSWORD)
    lab.postgres(shared)
    lab.redis(f"127.0.0.1:{redis_port}")
    lab.deploy(*(lab.definition(name) for name in PARTS.values()))
    lab.ready("litellm-postgres", "litellm-redis", *PARTS.values())
    return lab


class Tools:
    """The code under test, in this process."""

    def __init__(self, lab: operatelab.Lab) -> None:
        self.cluster = Cluster(kubeconfig=lab.place.kube.kubeconfig)
        self.name = lab.place.name
        self.backups: list[dict[str, str]] = []

    def operator(self, timeout: float = 60, patience: float = 1) -> operate.Operator:
        return operate.Operator(self.cluster.rest(), self.name, timeout=timeout, poll=0.2, pull_failure_after=patience)

    def namespace(self) -> discover.Namespace:
        return discover.Namespace(self.cluster, self.name)

    def scale(self, wanted: dict[str, int], timeout: float = 60, **options: Any) -> scale.Result:
        return scale.scale(self.operator(timeout), self.namespace(), wanted, **options)

    def upgrade(self, tags: dict[str, str], timeout: float = 60, *, pull: bool = True, **wish: Any) -> upgrade.Result:
        """``pull=False``: the registry loses an image after it was pulled."""

        def back_up(images: Any) -> str:
            self.backups.append(dict(images))
            return f"backup-{len(self.backups)}.json"

        run = upgrade.Upgrade(self.operator(timeout), "print('migrated')", back_up)
        if not pull:
            run._pull = lambda *_arguments: None  # type: ignore[method-assign]
        return run.run(upgrade.Wish(tags, **wish))


@pytest.fixture
def tools(lab: operatelab.Lab) -> Tools:
    return Tools(lab)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ClusterError) as failure:
        call()
    return str(failure.value)


# ---- scale, restart ----


def test_scaling_is_kept_by_a_deploy_and_changes_nothing_twice(
    lab: operatelab.Lab, run_playbook: Callable[..., harness.PlaybookResult]
) -> None:
    values = {"namespace": lab.place.name, "litellm": 2, "frontend": 2}
    planned = run_playbook("rhpds.litemaas.scale", values, check=True)
    assert planned.rc == 0 and planned.changed == 1, planned.output
    assert "would change litellm: replicas 1 -> 2" in planned.output and lab.replicas("litellm") == 1
    done = run_playbook("rhpds.litemaas.scale", values)
    assert done.rc == 0 and done.changed == 1, done.output
    # The sum is made of what is deployed, and of what PostgreSQL itself says.
    assert "LiteLLM (2 + 1 while it is rolled out) x 1 workers x 10 connections = 30" in done.output
    assert "backend (1 + 1) x 20 = 40" in done.output and "max_connections is 100" in done.output
    assert (lab.replicas("litellm"), lab.replicas("litellm-backend"), lab.replicas("litellm-frontend")) == (2, 1, 2)
    again = run_playbook("rhpds.litemaas.scale", values)
    assert again.rc == 0 and again.changed == 0 and "as wanted already" in again.output
    lab.deploy(*(lab.definition(name) for name in PARTS.values()))
    assert (lab.replicas("litellm"), lab.replicas("litellm-frontend")) == (2, 2)


def test_scaling_is_refused_where_it_would_break_something(
    lab: operatelab.Lab, tools: Tools, place: Namespace, redis_port: int
) -> None:
    said = refused(lambda: tools.scale({"litellm": 9}))
    assert "run out of connections" in said and "x 10 connections = 100" in said and "Nothing was changed" in said
    assert "would stop altogether" in refused(lambda: tools.scale({"backend": 0}))
    absent = refused(lambda: tools.scale({"backend": 1, "mcp": 1}))
    assert "Look for mcp" in absent
    # Redis: its pod, its Service, and LiteLLM's own configuration count.
    lab.faults(json.dumps({"litellm-redis-*": {"not-ready": "no PONG"}}))
    eventually(lambda: not place.get("Deployment", "litellm-redis")["status"].get("readyReplicas"))
    broken = refused(lambda: tools.scale({"litellm": 2}))
    assert "Redis behind Service litellm-redis" in broken and "no pod is ready" in broken
    assert tools.scale({"litellm": 1}).changes == []
    lab.faults("")
    # Ready, and nothing listens there: its Deployment may have no probe.
    lab.fault("litellm-redis", forward="6379=127.0.0.1:1")
    lab.ready("litellm-redis")
    silent = refused(lambda: tools.scale({"litellm": 2}))
    assert "takes no commands" in silent and "AUTH at Redis litellm-redis:6379" in silent, silent
    assert "scale_allow=no_redis" in silent and PASSWORD not in silent and lab.replicas("litellm") == 1
    lab.fault("litellm-redis", forward=f"6379=127.0.0.1:{redis_port}")
    lab.ready("litellm-redis")
    # With the password that LiteLLM gets; none is the wrong one too.
    for wrong, words in (("another-password", "Check the password"), ("", "NOAUTH")):
        place.patch("Secret", "litellm-redis", {"stringData": {"password": wrong}})
        other = refused(lambda: tools.scale({"litellm": 2}))
        assert "takes no commands" in other and words in other and "another-password" not in other, other
    place.patch("Secret", "litellm-redis", {"stringData": {"password": PASSWORD}})
    assert len(tools.scale({"litellm": 2}, check=True).changes) == 1
    lab.config("litellm_settings: {cache: false}")
    off = refused(lambda: tools.scale({"litellm": 2}))
    assert "switches no Redis on" in off and "count limits alone" in off
    assert lab.replicas("litellm") == 1
    allowed = tools.scale({"litellm": 2}, allow=["no_redis"])
    assert len(allowed.changes) == 1 and "each replica counts limits alone" in allowed.notes[0]
    assert len(tools.scale({"litellm": 2}).notes) == 1  # no worse than it is
    lab.config()
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "litellm"}
    place.create(
        "HorizontalPodAutoscaler", "by-load", spec={"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 5}
    )
    scaled = refused(lambda: tools.scale({"litellm": 3}))
    assert "HorizontalPodAutoscaler by-load scales litellm (2 to 5)" in scaled and lab.replicas("litellm") == 2


def test_pods_without_room_are_given_back(lab: operatelab.Lab, tools: Tools) -> None:
    quota = f"api/v1/namespaces/{lab.place.name}/resourcequotas"
    body = {"metadata": {"name": "room"}, "spec": {"hard": {"pods": "6"}}}
    lab.place.kube.call("POST", quota, body)
    eventually(lambda: (lab.place.kube.call("GET", f"{quota}/room").get("status") or {}).get("used"))
    said = refused(lambda: tools.scale({"litellm": 2, "frontend": 2}, timeout=20))
    assert "exceeded quota: room" in said
    assert "Put back, and ready: litellm-frontend: replicas 2 -> 1; litellm: replicas 2 -> 1" in said
    assert (lab.replicas("litellm"), lab.replicas("litellm-frontend")) == (1, 1)
    assert "What was applied stays" not in said


def test_a_restart_goes_part_by_part_and_a_deploy_keeps_it(
    lab: operatelab.Lab, tools: Tools, run_playbook: Callable[..., harness.PlaybookResult]
) -> None:
    before = {name: lab.revision(name) for name in PARTS.values()}
    planned = run_playbook("rhpds.litemaas.restart", {"namespace": lab.place.name}, check=True)
    assert "would restart litellm-backend, litellm, litellm-frontend" in planned.output, planned.output
    assert {name: lab.revision(name) for name in PARTS.values()} == before
    done = run_playbook("rhpds.litemaas.restart", {"namespace": lab.place.name, "components": "backend,litellm"})
    assert done.rc == 0 and "restarted: litellm-backend 1/1 ready" in done.output, done.output
    after = {name: lab.revision(name) for name in PARTS.values()}
    assert [after[name] != before[name] for name in PARTS.values()] == [True, True, False]
    lab.deploy(*(lab.definition(name) for name in PARTS.values()))
    assert {name: lab.revision(name) for name in PARTS.values()} == after
    assert operate.RESTARTED in lab.live("litellm")["spec"]["template"]["metadata"]["annotations"]
    # The second part isn't begun where the first one doesn't get ready.
    lab.faults(json.dumps({"litellm-backend-*": {"not-ready": "starts"}}))
    said = refused(lambda: operate.restart(tools.operator(timeout=4), ["backend", "litellm"]))
    assert "Change Deployment/litellm-backend" in said and "Pods that were ready go on" in said
    assert lab.revision("litellm") == after["litellm"]


# ---- upgrade ----


def test_an_upgrade_touches_images_alone_and_changes_nothing_twice(
    lab: operatelab.Lab, tmp_path: Path, run_playbook: Callable[..., harness.PlaybookResult]
) -> None:
    values = {
        "namespace": lab.place.name,
        "litellm_tag": NEW["litellm"],
        "version": "0.5.0",
        "dest": "b",
    }
    typed_in = {"PWD": str(tmp_path)}
    planned = run_playbook("rhpds.litemaas.upgrade", values, check=True, env=typed_in)
    assert planned.rc == 0 and planned.changed == 1, planned.output
    assert lab.images("litellm") == {"litellm": lab.image("litellm")} and not (tmp_path / "b").exists()
    done = run_playbook("rhpds.litemaas.upgrade", values, env=typed_in)
    assert done.rc == 0 and done.changed == 1, done.output
    assert lab.images("litellm") == {"litellm": "quay.io/example/litellm:main-v1.85.0-stable"}
    assert lab.images("litellm-backend") == {"backend": "quay.io/example/litellm-backend:0.5.0"}
    # The init container of the portal's own repository has its tag; another one stays.
    assert lab.images("litellm-frontend") == {
        "branding": "quay.io/example/litellm-frontend:0.5.0",
        "other": "quay.io/example/other:1",
        "frontend": "quay.io/example/litellm-frontend:0.5.0",
    }
    (manifest,) = (tmp_path / "b").glob("*.json")
    made = json.loads(manifest.read_text())
    assert made["images"]["litellm"] == lab.image("litellm") and sealed.is_same(made["salt_key"], MASTER)
    assert f"backup {manifest}" in done.output
    jobs = lab.place.kube.call("GET", lab.place.path("Job"))["items"]
    (job,) = jobs
    assert job["metadata"]["annotations"]["rhpds.litemaas/image"] == "quay.io/example/litellm:main-v1.85.0-stable"
    assert job["spec"]["template"]["spec"]["containers"][0]["env"][0] == operatelab.reference(
        "DATABASE_URL", "litemaas-db", "LITELLM_DATABASE_URL"
    )
    assert lab.place.get("Pod", upgrade.PULL_CHECK) is None
    again = run_playbook("rhpds.litemaas.upgrade", values, env=typed_in)
    assert again.rc == 0 and again.changed == 0 and "as wanted already" in again.output, again.output
    assert len(list((tmp_path / "b").glob("*.json"))) == 1
    # A deploy with the same tags finds nothing to do, and nothing else was touched.
    revisions = {name: lab.revision(name) for name in PARTS.values()}
    definitions = [lab.definition(name) for name in PARTS.values()]
    text = json.dumps(definitions).replace(operatelab.OLD["litellm"], NEW["litellm"])
    lab.deploy(
        *json.loads(
            text.replace("litellm-backend:0.4.0", "litellm-backend:0.5.0").replace("frontend:0.4.0", "frontend:0.5.0")
        )
    )
    assert {name: lab.revision(name) for name in PARTS.values()} == revisions
    metadata = lab.live("litellm")["metadata"]["annotations"]
    assert upgrade.REPLACED not in metadata


def test_an_image_that_is_not_there_is_told_before_anything_is_touched(lab: operatelab.Lab, tools: Tools) -> None:
    before = {name: lab.live(name)["metadata"]["generation"] for name in PARTS.values()}
    said = refused(lambda: tools.upgrade(NEW, repositories={"backend": "quay.io/example/does-not-exist"}))
    assert "quay.io/example/does-not-exist:0.5.0: " in said and "Nothing was changed" in said
    assert {name: lab.live(name)["metadata"]["generation"] for name in PARTS.values()} == before
    assert tools.backups == [] and lab.place.get("Pod", upgrade.PULL_CHECK) is None
    assert lab.place.kube.call("GET", lab.place.path("Job"))["items"] == []
    older = refused(lambda: tools.upgrade({"litellm": "main-v1.80.0-stable"}))
    assert "which is older" in older and "allow_downgrade" in older


def test_a_migration_that_fails_leaves_everything_running_as_before(lab: operatelab.Lab, tools: Tools) -> None:
    lab.faults(json.dumps({"litellm-migration-*": {"job-fails": "P3018 half done"}}))
    said = refused(lambda: tools.upgrade(NEW, timeout=3))
    assert "P3018 half done" in said
    assert "Migrate LiteLLM's database to quay.io/example/litellm:main-v1.85.0-stable" in said
    assert "No pod was touched" in said and "backup-1.json" in said
    assert lab.images("litellm") == {"litellm": lab.image("litellm")}
    lab.faults("")
    done = tools.upgrade(NEW)
    assert done.log and lab.images("litellm")["litellm"].endswith(NEW["litellm"])


def test_what_does_not_get_ready_is_put_back(lab: operatelab.Lab, tools: Tools) -> None:
    tags = {**NEW, "frontend": "0.5.0-does-not-exist"}
    with pytest.raises(ClusterError) as failure:
        tools.upgrade(tags, pull=False)
    said = str(failure.value)
    assert [one.name for one in failure.value.changes] == ["litellm"]
    # LiteLLM was ready, and stays; backend and portal belong together.
    assert lab.images("litellm")["litellm"].endswith(NEW["litellm"])
    assert lab.images("litellm-backend")["backend"].endswith(":0.4.0")
    assert lab.images("litellm-frontend")["branding"].endswith(":0.4.0")
    assert "Put back, and ready: litellm-frontend" in said and "schema isn't migrated back" in said
    assert "The backup from before is backup-1.json" in said and "left so: litellm: image" in said
    assert "ErrImagePull" in said or "ImagePullBackOff" in said
    assert set(tools.upgrade(NEW).plan.changes) == {"backend", "frontend"}
    assert upgrade.REPLACED not in lab.live("litellm-backend")["metadata"]["annotations"]


def test_an_interrupted_upgrade_is_put_back_by_the_next_run(lab: operatelab.Lab, tools: Tools) -> None:
    """Killed after the new image was set: the images from before are known to the Deployment itself."""
    there = tools.operator().components()
    tags = {"litellm": "main-v1.85.0-does-not-exist"}
    tools.operator().write(upgrade.plan(there, upgrade.Wish(tags), lab.place.name).changes["litellm"])
    said = refused(lambda: tools.upgrade(tags))
    assert "Put back, and ready: litellm: image of litellm" in said, said
    assert lab.images("litellm") == {"litellm": lab.image("litellm")}
    assert upgrade.REPLACED not in lab.live("litellm")["metadata"]["annotations"]


# ---- the cache ----


def test_flushing_empties_litellms_own_redis_alone(
    lab: operatelab.Lab, redis_port: int, run_playbook: Callable[..., harness.PlaybookResult], run_module: Any
) -> None:
    address = redis_client.Address("127.0.0.1", redis_port, "", PASSWORD)
    with redis_client.connect(address) as connection:
        for number in range(30):
            connection.command("SET", f"key-{number}", "x")
        connection.command("SELECT", "3")
        connection.command("SET", "another database", "x")
        values = {"namespace": lab.place.name}
        planned = run_playbook("rhpds.litemaas.flush_cache", values, check=True)
        assert planned.changed == 1 and "31 keys would be flushed" in planned.output, planned.output
        assert connection.keys() == 31
        done = run_playbook("rhpds.litemaas.flush_cache", values, verbosity=3)
        assert done.changed == 1 and "31 keys flushed, 0 afterwards" in done.output, done.output
        assert PASSWORD not in done.output and connection.keys() == 0
        again = run_module("litellm_cache_flush", {"namespace": lab.place.name})
        assert not again.changed and "it is empty already" in again["msg"]
        connection.command("SET", "of others", "x")
        # Another Redis than the namespace's own is nobody's to empty without a word.
        lab.config(operatelab.CONFIG.replace("host: litellm-redis", "host: redis.example.com"))
        tools = Tools(lab)
        with (
            pytest.raises(ClusterError, match="outside of the namespace"),
            cache.of_litellm(tools.cluster.rest(), tools.namespace()),
        ):
            pass
        url = f"redis://:{urllib.parse.quote(PASSWORD)}@127.0.0.1:{redis_port}"
        kept = run_module("litellm_cache_flush", {"redis_url": url})
        assert kept.failed and "may be others' too" in kept["msg"] and connection.keys() == 1
        wrong = run_module("litellm_cache_flush", {"redis_url": url.replace("redis-", "no-"), "allow_external": True})
        assert wrong.failed and "Check the password" in wrong["msg"] and PASSWORD not in str(wrong)
        gone = run_module("litellm_cache_flush", {"redis_url": url, "allow_external": True})
        assert gone.changed and connection.keys() == 0 and PASSWORD not in str(gone)


def test_salt_key_is_not_rotated(run_playbook: Callable[..., harness.PlaybookResult]) -> None:
    done = run_playbook("rhpds.litemaas.rotate_salt_key")
    assert done.rc == 2 and "LITELLM_SALT_KEY can't be rotated" in done.output and "manage_models" in done.output


def test_a_namespace_without_litemaas_is_told(place: Namespace, run_module: Any) -> None:
    for module, args in (
        ("litemaas_restart", {}),
        ("litemaas_scale", {"litellm": 2}),
        ("litemaas_upgrade", {"version": "1", "backup": False}),
    ):
        result = run_module(module, {"namespace": place.name, **args})
        assert result.failed and f"Look for LiteMaaS in namespace {place.name}" in result["msg"], result


def test_missing_rights_are_named(lab: operatelab.Lab, stack: harness.Stack, run_module: Any) -> None:
    token = lab.place.account({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]})
    args = {"namespace": lab.place.name, "host": Kube(stack).server, "api_key": token, "validate_certs": False}
    result = run_module("litemaas_restart", {**args, "components": ["backend"]}, env={"K8S_AUTH_KUBECONFIG": ""})
    assert result.failed and "get and patch on deployments.apps" in result["msg"], result
    assert lab.revision("litellm-backend") == "1"


# ---- after a whole deploy ----


def test_a_deploy_after_all_of_it_changes_nothing(
    stack: harness.Stack, place: Namespace, tmp_path: Path, run_playbook: Callable[..., harness.PlaybookResult]
) -> None:
    """The role's own templates, checksums and migration: what was upgraded, scaled, restarted and rotated stays so."""
    shared = urllib.parse.urlsplit(stack.variables["LITEMAAS_SHARED_DSN"])
    given = {
        "namespace": place.name,
        "api_route_prefix": place.name,
        "database_layout": "shared",
        "ha_postgres_db": shared.path[1:],
        "ha_postgres_user": shared.username,
        "ha_postgres_password": shared.password,
        "ha_postgres_max_connections": 300,
        # The node's Redis is the stack's.
        "redis_password": urllib.parse.urlsplit(stack.variables["REDIS_URL"]).password,
    }
    variables = {f"ocp4_workload_litemaas_{name}": value for name, value in given.items()}
    first = run_playbook("rhpds.litemaas.deploy_litemaas_ha", {**variables, "output_dir": str(tmp_path)})
    assert first.rc == 0, first.output[-3000:]
    here = {"namespace": place.name}
    for playbook, values in (
        ("upgrade", {"litellm_tag": "main-v1.99.0-stable", "version": "0.9.0", "dest": str(tmp_path)}),
        ("scale", {"litellm": 4, "frontend": 2, "max_connections": 300}),
        ("restart", {"components": "frontend"}),
        ("rotate_master_key", {"rotate_verify": False}),
    ):
        done = run_playbook(f"rhpds.litemaas.{playbook}", {**here, **values})
        assert done.rc == 0 and done.changed == 1, done.output[-3000:]
    names = [f"Deployment/{name}" for name in (*PARTS.values(), "litellm-redis")] + ["StatefulSet/litellm-postgres"]
    before = {name: place.get(*name.split("/"))["metadata"]["generation"] for name in names}
    tags = {"litellm_tag": "main-v1.99.0-stable", "version": "0.9.0"}
    variables |= {f"ocp4_workload_litemaas_{name}": value for name, value in tags.items()}
    again = run_playbook("rhpds.litemaas.deploy_litemaas_ha", {**variables, "output_dir": str(tmp_path)})
    assert again.rc == 0, again.output[-3000:]
    assert {name: place.get(*name.split("/"))["metadata"]["generation"] for name in names} == before
    # AgnosticD hears of the new master key.
    assert again.changed == 1, again.output[-3000:]
    (said,) = [line for line in again.output.splitlines() if "objects are as they were" in line]
    assert "made" not in said and "changed" not in said and '"removed ' not in again.output, again.output[-3000:]
    assert "4 replicas, set by somebody else" in again.output
