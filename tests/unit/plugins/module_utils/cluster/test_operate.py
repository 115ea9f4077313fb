# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is worked out of running workloads before anything of them is changed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import redis
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import (
    cache,
    images,
    operate,
    rotation,
    running,
    scale,
    secrets,
    upgrade,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError


def deployment(name: str = "litellm", image: str = "q.io/a/litellm:main-v1.81.0", **container: Any) -> dict[str, Any]:
    main = {"name": {"litellm-backend": "backend", "litellm-frontend": "frontend"}.get(name, "litellm")}
    pod = {"containers": [{**main, "image": image, **container}]}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "annotations": {}},
        "spec": {"replicas": 3, "template": {"metadata": {}, "spec": pod}},
    }


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("q.io/a/b:1", ("q.io/a/b", ":1")),
        ("q.io:5000/a/b", ("q.io:5000/a/b", "")),
        ("b@sha256:ab", ("b", "@sha256:ab")),
        ("q.io/a/b:1@sha256:ab", ("q.io/a/b", ":1@sha256:ab")),
    ],
)
def test_images_are_taken_apart(image: str, parts: tuple[str, str]) -> None:
    assert images.split(image) == parts
    assert images.with_tag(image, "2") == f"{parts[0]}:2"
    assert images.with_tag(image, "sha256:cd", "x/y") == "x/y@sha256:cd"


def test_a_migration_has_one_name_for_an_image_and_a_database() -> None:
    name = images.migration_name("quay.io/x/litellm:main-v1.85.0-stable", "litellm_db")
    # As deploys have named it so far: another one would migrate again.
    assert name == "litellm-migration-89be3ea6fa"
    others = [
        images.migration_name("quay.io/x/litellm:main-v1.86.0-stable", "litellm_db"),
        images.migration_name("quay.io/x/litellm:main-v1.85.0-stable", "litemaas"),
        images.migration_name("quay.io/x/litellm:main-v1.85.0-stable", "litellm_db", baseline=True),
        images.migration_name("quay.io/x/litellm:main-v1.85.0-stable", "litellm_db", host="db.example.com"),
    ]
    assert len({name, *others}) == 5


def test_a_change_knows_its_way_back() -> None:
    live = deployment()
    assert (
        operate.set_replicas(live, 3) is None
        and operate.set_images(live, {"litellm": "q.io/a/litellm:main-v1.81.0"}) is None
    )
    both = operate.merged(operate.set_replicas(live, 5), operate.set_images(live, {"litellm": "x:2"}))
    assert both is not None
    assert both.patch["spec"]["replicas"] == 5 and both.back["spec"]["replicas"] == 3
    assert both.sentence() == "litellm: replicas 3 -> 5, image of litellm q.io/a/litellm:main-v1.81.0 -> x:2"
    assert both.sentence(back=True).startswith("litellm: replicas 5 -> 3")
    assert operate.left_undone(live, both.back) == []
    assert operate.left_undone(live, both.patch) == ["spec.replicas", "spec.template.spec.containers[litellm].image"]


def test_a_variable_that_was_not_there_goes_again() -> None:
    entry = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    change = operate.set_variables(deployment(), "litellm", [entry])
    assert change is not None
    (back,) = change.back["spec"]["template"]["spec"]["containers"][0]["env"]
    assert back == {"name": "A", "$patch": "delete"}
    assert operate.set_variables(deployment(env=[entry]), "litellm", [entry]) is None


def test_an_upgrade_is_planned_without_touching_other_images() -> None:
    portal = deployment("litellm-frontend", "q.io/a/portal:0.4.0")
    portal["spec"]["template"]["spec"]["initContainers"] = [
        {"name": "branding", "image": "q.io/a/portal:0.3.0"},
        {"name": "other", "image": "q.io/a/other:1"},
    ]
    there = {"litellm": deployment(), "frontend": portal}
    plan = upgrade.plan(there, upgrade.Wish({"frontend": "0.5.0"}), "ns")
    assert list(plan.changes) == ["frontend"] and plan.targets == {"frontend": "q.io/a/portal:0.5.0"}
    assert set(plan.changes["frontend"].fields) == {"image of init container branding", "image of frontend"}
    assert upgrade.plan(there, upgrade.Wish({"litellm": "main-v1.81.0"}), "ns").empty
    with pytest.raises(ClusterError, match="which is older"):
        upgrade.plan(there, upgrade.Wish({"litellm": "main-v1.80.0"}), "ns")
    with pytest.raises(ClusterError, match="says no version"):
        upgrade.plan(there, upgrade.Wish({"litellm": "latest"}), "ns")
    assert upgrade.plan(there, upgrade.Wish({"litellm": "latest"}, allow_downgrade=True), "ns").changes
    with pytest.raises(ClusterError, match="deployed are litellm, frontend alone"):
        upgrade.plan(there, upgrade.Wish({"backend": "1"}), "ns")


@pytest.mark.parametrize(
    ("state", "coming", "failing"),
    [
        ({}, True, False),
        ({"waiting": {"reason": "ContainerCreating"}}, True, False),
        ({"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}, False, True),
        ({"waiting": {"reason": "ImagePullBackOff"}}, False, True),
        # It could not be started, so its image is there.
        ({"waiting": {"reason": "CreateContainerError"}}, False, False),
        ({"terminated": {"exitCode": 128, "reason": "StartError"}}, False, False),
        ({"running": {}}, False, False),
    ],
)
def test_whether_an_image_was_pulled(state: dict[str, Any], coming: bool, failing: bool) -> None:
    pod = {
        "spec": {"containers": [{"name": "litellm", "image": "x:1"}]},
        "status": {"containerStatuses": [{"name": "litellm", "state": state}]},
    }
    found = upgrade.pulled(pod)
    assert (bool(found[0]), bool(found[1])) == (coming, failing)


def test_a_pull_check_and_a_migration_run_like_the_pods() -> None:
    live = deployment(
        env=[{"name": "DATABASE_URL", "value": "u"}, {"name": "OTHER", "value": "x"}], securityContext={"a": 1}
    )
    live["spec"]["template"]["spec"] |= {"imagePullSecrets": [{"name": "pull"}], "serviceAccountName": "litemaas"}
    pod = upgrade.pull_check({"litellm": live}, {"litellm": "x:2"})
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}] and container["imagePullPolicy"] == "Always"
    assert container["securityContext"] == {"a": 1} and pod["metadata"]["labels"]["app"] != "litellm"
    job = upgrade.migration_job(live, "x:2", "litellm-migration-1", "print()", 600)
    spec = job["spec"]["template"]["spec"]
    assert [one["name"] for one in spec["containers"][0]["env"]] == ["DATABASE_URL", "LITELLM_MIGRATION_BASELINE"]
    assert spec["serviceAccountName"] == "litemaas" and not spec["automountServiceAccountToken"]


CONFIG = {
    "general_settings": {"database_connection_pool_limit": 7},
    "litellm_settings": {
        "cache": True,
        "cache_params": {
            "type": "redis",
            "host": "litellm-redis",
            "port": 6379,
            "password": "os.environ/REDIS_PASSWORD",
        },
    },
}


def test_redis_counts_where_litellm_is_set_up_for_it() -> None:
    settings = running.Settings(config=CONFIG, variables={"REDIS_PASSWORD": "p", "REDIS_HOST": "elsewhere"})
    assert settings.redis == {"host": "litellm-redis", "port": 6379, "password": "p", "tls": False}
    assert (settings.pool_limit, settings.workers) == (7, 1)
    # The variables alone switch nothing on.
    assert running.Settings(variables={"REDIS_HOST": "litellm-redis"}).redis == {}
    off = {"litellm_settings": {"cache": True, "cache_params": {"type": "local"}}}
    assert running.Settings(config=off, variables={"REDIS_HOST": "litellm-redis"}).redis == {}
    assert running.Settings(arguments=["--num_workers=4"]).workers == 4
    assert running.Settings(variables={"DATABASE_URL": "postgresql://h/d?connection_limit=5"}).pool_limit == 5


class Scaled(operate.Operator):
    """Of parts that are there; nothing is written."""

    def __init__(self) -> None:
        self.namespace, self.client = "ns", None  # type: ignore[assignment]

    def components(self) -> dict[str, Any]:
        return {"litellm": deployment(), "backend": deployment("litellm-backend")}

    def write(self, change: operate.Change, *_given: Any, **_more: Any) -> None:
        pass


def asked(monkeypatch: pytest.MonkeyPatch, wanted: dict[str, int], **options: Any) -> scale.Result:
    """With a PostgreSQL that lets nobody in."""

    def full(*_given: Any) -> int:
        raise ClusterError("Ask for max_connections", "too many clients already", "or give max_connections")

    monkeypatch.setattr(scale, "_maximum", full)
    monkeypatch.setattr(scale, "_autoscaled", lambda *_given: [])
    monkeypatch.setattr(scale, "_redis", lambda *_given: "")
    monkeypatch.setattr(running, "of_litellm", lambda *_given: running.Settings(config=CONFIG))
    return scale.scale(Scaled(), None, wanted, check=True, **options)  # type: ignore[arg-type]


def test_fewer_pods_can_be_had_of_a_database_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    result = asked(monkeypatch, {"litellm": 2, "backend": 1})
    assert len(result.changes) == 2 and result.connections == ""
    assert result.notes == ["connections were not asked for, as no part that uses the database grows"]
    assert asked(monkeypatch, {"litellm": 3}).notes == []
    # What is given costs nothing to add up.
    assert "max_connections is 50" in asked(monkeypatch, {"litellm": 2}, maximum=50).connections
    with pytest.raises(ClusterError, match="too many clients already"):
        asked(monkeypatch, {"litellm": 2, "backend": 4})


def test_a_refusal_names_the_variable_that_lets_it_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="or set scale_allow=connections"):
        asked(monkeypatch, {"litellm": 9}, maximum=50)
    with pytest.raises(ClusterError, match="set scale_allow=zero if that is meant"):
        asked(monkeypatch, {"litellm": 0})


class Port:
    """A pod's port behind which nothing listens."""

    name, port, trouble, advice = "pod ns/litellm-redis-1", 6379, "the pod refused it", "Look at its log"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def opened(self) -> Iterator[str]:
        yield str(self.folder)


def test_a_redis_that_is_ready_and_answers_nothing_counts_no_limits(tmp_path: Path) -> None:
    found = running.Settings(config=CONFIG, variables={"REDIS_PASSWORD": "hunter2"}).redis
    port = Port(tmp_path)
    said = cache.trouble_with(found, port)  # type: ignore[arg-type]
    assert "Connect to Redis litellm-redis:6379" in said and said.endswith("the pod refused it. Look at its log")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(redis.socket_of(str(tmp_path), 6379))
        listener.listen()
        heard = []

        def serve() -> None:
            for answer in (b"+OK\r\n+PONG\r\n", b"-WRONGPASS invalid\r\n"):
                near, _address = listener.accept()
                with near:
                    heard.append(near.recv(4096))
                    near.sendall(answer)
                    near.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        port.trouble = ""
        assert cache.trouble_with(found, port) == ""  # type: ignore[arg-type]
        said = cache.trouble_with(found, port)  # type: ignore[arg-type]
        thread.join()
    assert "Check the password" in said and "hunter2" not in said and b"hunter2" in heard[0]


def test_a_password_is_rewritten_wherever_it_stands() -> None:
    values = {
        "username": "u",
        "password": "old",
        "DATABASE_URL": "postgresql://u:old@h:5432/a?sslmode=disable",
        "LITELLM_DATABASE_URL": "postgresql://u:old@h:5432/b",
    }
    wanted = rotation.rewritten(values, "n/w")
    assert wanted["password"] == "n/w" and wanted["DATABASE_URL"] == "postgresql://u:n%2Fw@h:5432/a?sslmode=disable"
    assert rotation.rewritten({**values, **wanted}, "n/w") == {}
    assert rotation.rewritten({"DATABASE_URL": values["DATABASE_URL"]}, "new").keys() == {"DATABASE_URL"}


def test_a_deploys_checksum_is_brought_along_or_left_alone() -> None:
    before = {name: {"password": "a", secrets.MASTER: "m", secrets.SALT: "s"} for name in secrets.NAMES}
    after = {**before, secrets.LITELLM: {secrets.MASTER: "n", secrets.SALT: "s"}}
    mark = rotation._digest(secrets.checksums(before)["litellm"] + "a: 1\n")
    live = deployment()
    live["spec"]["template"]["metadata"] = {"annotations": {rotation.CHECKSUM: mark}}
    expected = rotation._digest(secrets.checksums(after)["litellm"] + "a: 1\n")
    assert (
        rotation.checksum(live, before, after, "\na: 1\n") == {rotation.CHECKSUM: expected} != {rotation.CHECKSUM: mark}
    )
    live["spec"]["template"]["metadata"]["annotations"][rotation.CHECKSUM] = "of another release"
    assert rotation.checksum(live, before, after, "a: 1\n") == {}
    assert rotation.checksum(deployment(), before, after, "a: 1\n") == {}


def test_where_a_variable_comes_from() -> None:
    reference = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert rotation.source({"env": [reference]}, "A") == ("s", "k", "")
    assert rotation.source({"env": [{"name": "A", "value": "v"}]}, "A") == ("", "", "v")
    assert rotation.source({"envFrom": [{"secretRef": {"name": "s"}}]}, "A") == ("s", "A", "")
    assert rotation.source({}, "A") == ("", "", "")
    users = rotation.users([deployment(env=[reference]), deployment("other")], "s", ["k"])
    assert [one["metadata"]["name"] for one in users] == ["litellm"]
    assert rotation.users([deployment(env=[reference])], "s", ["another"]) == []


def test_the_number_of_keys_is_that_of_all_databases() -> None:
    assert redis.keyspace("# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb3:keys=4,expires=1\r\n") == {
        "db0": 3,
        "db3": 4,
    }
    assert redis.keyspace("# Keyspace\r\n") == {}


@pytest.mark.parametrize("url", ["http://h", "redis:///x", "redis://h:port", "nothing"])
def test_what_is_no_url_of_redis_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL such as") as failure:
        redis.Address.of(url)
    assert url not in str(failure.value)
    assert redis.Address.of("rediss://u:p%20w@h:1") == redis.Address("h", 1, "u", "p w", True)


def test_a_flush_that_does_nothing_is_told() -> None:
    """A Redis with FLUSHALL renamed or forbidden may say OK to anything."""
    near, far = socket.socketpair()

    def serve() -> None:
        answers = [b"$0\r\n\r\n", b"+OK\r\n", b"+OK\r\n", b":1\r\n"]
        for answer in answers:
            far.recv(4096)
            far.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(redis.RedisError, match="the keys are still there"):
        redis.flush(redis.Redis(redis.Address("h"), near))
    thread.join()
    near.close()
    far.close()
