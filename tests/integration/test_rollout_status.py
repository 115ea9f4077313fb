# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""k8s_rollout_status against a real API server with its controllers, and a fake node."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.kube import MERGE, Namespace, eventually, meanwhile, workload

MODULE = "k8s_rollout_status"


class Runs:
    def __init__(self, runner: harness.Runner, place: Namespace) -> None:
        self.runner, self.place = runner, place

    def __call__(self, *workloads: str, check: bool = False, **options: Any) -> harness.ModuleResult:
        args = {"kubeconfig": self.place.kube.kubeconfig, "namespace": self.place.name, "timeout": 60, "poll": 0.5}
        return self.runner.module(MODULE, {**args, "workloads": list(workloads), **options}, check=check)


@pytest.fixture
def run(runner: harness.Runner, place: Namespace) -> Runs:
    return Runs(runner, place)


def state(result: harness.ModuleResult, name: str) -> dict[str, Any]:
    (found,) = (one for one in result["workloads"] if one["name"] == name)
    return found


def test_every_kind_is_waited_for_until_it_is_ready(run: Runs, place: Namespace) -> None:
    place.deployment("app", replicas=3)
    place.create("StatefulSet", "db", **workload("db", replicas=2, serviceName="db"))
    pod = {"restartPolicy": "Never", "containers": [{"name": "job", "image": "x", "command": ["true"]}]}
    place.create("Job", "migrate", spec={"template": {"spec": pod}})
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    place.create("PersistentVolumeClaim", "now", spec={**size, "storageClassName": "standard"})
    place.create("PersistentVolumeClaim", "later", spec={**size, "storageClassName": "gp3-csi"})
    claims = ("PersistentVolumeClaim/now", "PersistentVolumeClaim/later")
    result = run("Deployment/app", "StatefulSet/db", "Job/migrate", *claims)
    assert not result.failed and not result.changed, result["msg"]
    assert "app 3/3 ready in" in result["msg"] and "migrate 1/1 complete" in result["msg"]
    app = state(result, "app")
    assert (app["ready"], app["wanted"], app["updated"], app["revision"], app["done"]) == (3, 3, 3, "1", True)
    assert state(result, "db")["revision"] == place.get("StatefulSet", "db")["status"]["updateRevision"]
    assert place.get("PersistentVolumeClaim", "now")["status"]["phase"] == "Bound"
    assert "waits for its first pod" in state(result, "later")["msg"]


def test_a_new_revision_is_waited_for_and_not_the_old_one(run: Runs, place: Namespace) -> None:
    place.deployment("app", replicas=2)
    assert not run("Deployment/app").failed
    held = {"template": {"metadata": {"annotations": {"fakenode/hold": "node(s) had no room"}}}}
    place.patch("Deployment", "app", {"spec": held})
    result = run("Deployment/app", timeout=3)
    assert result.failed
    # The old pods are all ready: a wait that looked at those would be done.
    assert place.get("Deployment", "app")["status"]["readyReplicas"] == 2
    assert f"Wait for Deployment/app in {place.name}: not ready after" in result["msg"]
    (pod,) = (one for one in pods(place) if one["status"]["phase"] == "Pending")
    assert f"pod {pod['metadata']['name']}: is Pending, condition PodScheduled is False" in result["msg"]
    assert "node(s) had no room" in result["msg"]
    assert "Last events of" in result["msg"] and "FailedScheduling (" in result["msg"] and "s ago)" in result["msg"]
    assert state(result, "app")["done"] is False and state(result, "app")["trouble"]
    with meanwhile(lambda: release(place)):
        assert not run("Deployment/app").failed


def test_a_route_whose_name_is_another_ones_is_told_and_an_admitted_one_is_ready(run: Runs, place: Namespace) -> None:
    host = f"{place.name}.example.com"
    place.create("Route", "api", spec={"host": host, "to": {"kind": "Service", "name": "litellm"}})
    result = run("Route/api", router_answers_after=30)
    assert not result.failed and result["msg"] == "Route/api admitted", result["msg"]
    # The stack's router admits everything; another one's word.
    no = {
        "type": "Admitted",
        "status": "False",
        "reason": "HostAlreadyClaimed",
        "message": "route b already exposes it",
    }
    said = {"status": {"ingress": [{"host": host, "routerName": "default", "conditions": [no]}]}}
    place.kube.call("PATCH", f"{place.path('Route', 'api')}/status", said, MERGE)
    result = run("Route/api", router_answers_after=1)
    assert result.failed and f"Wait for Route/api in {place.name}" in result["msg"], result["msg"]
    assert "HostAlreadyClaimed: route b already exposes it" in result["msg"]
    assert f"Another Route has the name {host}" in result["msg"]


def pods(place: Namespace) -> list[dict[str, Any]]:
    return list(place.kube.call("GET", place.path("Pod"))["items"])


def release(place: Namespace) -> None:
    time.sleep(2)
    place.patch("Deployment", "app", {"spec": {"template": {"metadata": {"annotations": {"fakenode/hold": None}}}}})


def test_an_image_that_cannot_be_pulled_is_told_early_with_its_name(run: Runs, place: Namespace) -> None:
    place.deployment("app", image="quay.io/example/does-not-exist:1")
    began = time.monotonic()
    result = run("Deployment/app", timeout=300, pull_failure_after=2)
    assert result.failed and time.monotonic() - began < 200
    assert "does-not-exist:1" in result["msg"] and ("ErrImagePull" in result["msg"] or "BackOff" in result["msg"])
    assert "Check the image's name and tag" in result["msg"] and "What was applied stays" in result["msg"]


def test_a_container_that_crashes_is_told_with_its_last_words_but_no_secret(run: Runs, place: Namespace) -> None:
    password = "päss/wörd+1"
    place.secret("db", password=password, url=f"postgresql://u:{password}@db/x")
    env = [
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        {"name": "API_TOKEN", "value": "plain-token-value"},
    ]
    log = (
        f"line 1\nline 2\nusing {password} p%C3%A4ss%2Fw%C3%B6rd%2B1\ntoken plain-token-value\nkey sk-abcdefghijkl\nbye"
    )
    place.deployment("app", env=env, annotations={"fakenode/crash": log})
    result = run("Deployment/app", timeout=300)
    assert result.failed, result
    text = str(result)
    assert "CrashLoopBackOff" in result["msg"] and "restarts)" in result["msg"]
    assert "Last lines of container app" in result["msg"] and "--previous" in result["msg"]
    assert "using ********" in result["msg"] and "bye" in result["msg"]
    for secret in (password, "p%C3%A4ss", "plain-token-value", "sk-abcdefghijkl"):
        assert secret not in text


def test_a_log_is_not_shown_where_its_secrets_cannot_be_read(run: Runs, place: Namespace) -> None:
    place.secret("db", password="not-to-be-seen")
    env = [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]
    place.deployment("app", env=env, annotations={"fakenode/crash": "it is not-to-be-seen"})
    token = place.account(
        {"apiGroups": ["apps", ""], "resources": ["*"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    )
    account = {"kubeconfig": None, "host": place.kube.server, "api_key": token, "validate_certs": False}
    result = run("Deployment/app", timeout=300, **account)
    assert result.failed and "not-to-be-seen" not in str(result)
    assert "Its log is not shown" in result["msg"]


def test_a_failed_job_is_told_at_once(run: Runs, place: Namespace) -> None:
    container = {"name": "job", "image": "x", "command": ["sh", "-c", "echo no such table; exit 3"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    template = {"metadata": {"annotations": {"fakenode/run": ""}}, "spec": pod}
    place.create("Job", "migrate", spec={"backoffLimit": 0, "template": template})
    result = run("Job/migrate", timeout=300)
    assert result.failed and "BackoffLimitExceeded" in result["msg"] and state(result, "migrate")["wanted"] == 1
    assert "Last lines of container job (exit code 3): no such table" in result["msg"]


def test_what_is_paused_missing_or_misspelt_is_told_at_once(run: Runs, place: Namespace) -> None:
    place.deployment("app", paused=True)
    result = run("Deployment/app", timeout=300)
    assert result.failed and "its rollout is paused" in result["msg"] and "kubectl rollout resume" in result["msg"]
    missing = run("Deployment/none", timeout=300)
    assert missing.failed and "Deployment/none" in missing["msg"] and "isn't there" in missing["msg"]
    misspelt = run("Pod/app", timeout=300)
    assert misspelt.failed and "'Pod/app' is no Kind/name" in misspelt["msg"]


def test_a_missing_right_is_named(run: Runs, place: Namespace) -> None:
    place.deployment("app")
    token = place.account({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    account = {"kubeconfig": None, "host": place.kube.server, "api_key": token, "validate_certs": False}
    result = run("Deployment/app", timeout=300, **account)
    assert result.failed and "HTTP 403" in result["msg"] and "get on deployments.apps" in result["msg"]


def test_check_mode_looks_once_and_fails_for_nothing(run: Runs, place: Namespace) -> None:
    place.deployment("app", annotations={"fakenode/hold": ""})
    eventually(lambda: any(one["status"].get("conditions") for one in pods(place)))
    began = time.monotonic()
    result = run("Deployment/app", "Deployment/none", check=True, timeout=300)
    assert not result.failed and time.monotonic() - began < 100
    assert state(result, "app")["done"] is False and "is Pending" in state(result, "app")["trouble"][0]
    assert "isn't there" in state(result, "none")["msg"]


def test_dropped_connections_are_survived(run: Runs, place: Namespace) -> None:
    place.deployment("app", annotations={"fakenode/hold": ""})
    with Flaky(place.kube.server) as flaky:

        def later() -> None:
            # The wait has its first answers; then nothing for a while, then every other connection dies.
            eventually(lambda: flaky.connections > 2)
            flaky.refusing = True
            time.sleep(2)
            release(place)
            flaky.refusing, flaky.dropping = False, True

        account = {"kubeconfig": None, "host": flaky.url, "api_key": place.kube.token, "validate_certs": False}
        with meanwhile(later):
            result = run("Deployment/app", timeout=120, **account)
        assert not result.failed, result["msg"]
        assert flaky.dropped > 0


def test_an_api_server_that_never_answers_is_not_waited_for_like_a_rollout(run: Runs) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"https://127.0.0.1:{closed.getsockname()[1]}"
        result = run("Deployment/app", timeout=2, kubeconfig=None, host=host, api_key="x")
    assert result.failed and "Connection refused" in result["msg"]


class Flaky:
    """A way to the API server that breaks: it drops connections without a word, or takes none.

    Every connection carries one request, so that what is dropped is a request too.
    """

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self.target = (str(parts.hostname), int(parts.port or 443))
        self.refusing = self.dropping = False
        self.connections = self.dropped = 0

    def __enter__(self) -> Flaky:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_ignored: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _address = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.refusing or (self.dropping and self.connections % 2):
                self.dropped += 1
                near.close()
                continue
            far = socket.create_connection(self.target)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(1 << 14):
                sink.sendall(data)
                sent += len(data)
                if sent > 4000:  # kept-alive connections end soon
                    break
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
