# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the stack's cluster: what is real in it works, and what is imitated behaves as the README says."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests
import yaml
from kubernetes import client
from kubernetes.config import new_client_from_config
from kubernetes.stream import portforward, stream

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import cluster as cluster_module  # noqa: E402
import processes  # noqa: E402
import progress  # noqa: E402
import settings as stack_settings  # noqa: E402
import supervisor  # noqa: E402

SECONDS = 60
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
MEGABYTES = 10


class Kube:
    """Requests to an API server, with nothing in between; the official client for exec and port-forward."""

    def __init__(self, kubeconfig: str | Path) -> None:
        config = yaml.safe_load(Path(kubeconfig).read_text())
        place = config["clusters"][0]["cluster"]
        self.url = place["server"]
        self.authority = base64.b64decode(place["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=self.authority)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("https://", Trusting(context))
        self._session.headers["authorization"] = f"Bearer {config['users'][0]['user']['token']}"
        self._core = client.CoreV1Api(new_client_from_config(str(kubeconfig)))

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        answer = self._session.request(method, self.url + path, data=data, headers={"content-type": kind}, timeout=30)
        try:
            return answer.status_code, answer.json()
        except ValueError:
            return answer.status_code, answer.text

    def ok(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        status, answer = self(method, path, body, kind)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def until(self, path: str, holds: Callable[[Any], Any]) -> Any:
        """An object once something holds for it."""
        deadline, found = time.monotonic() + SECONDS, None
        while time.monotonic() < deadline:
            status, found = self("GET", path)
            with contextlib.suppress(KeyError, IndexError, TypeError):
                if status == 200 and holds(found):
                    return found
            time.sleep(0.05)
        raise AssertionError(f"{path}: not within {SECONDS} s: {json.dumps(found)}")

    def run(self, namespace: str, pod: str, *command: str) -> tuple[int, str, str]:
        """Exit status, output and errors of a command in a pod."""
        channel = stream(
            self._core.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            command=list(command),
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
            _preload_content=False,
        )
        channel.run_forever(timeout=SECONDS)
        return channel.returncode, channel.read_stdout(), channel.read_stderr()

    def forward(self, namespace: str, pod: str, port: int) -> Any:
        return portforward(self._core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))


class Trusting(requests.adapters.HTTPAdapter):
    """Certificates are checked against the kubeconfig's authority."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **options)


def with_token(kubeconfig: str, token: str, folder: Path) -> Kube:
    """The same cluster as somebody else sees it."""
    config = yaml.safe_load(Path(kubeconfig).read_text())
    config["users"][0]["user"]["token"] = token
    path = folder / f"{secrets.token_hex(4)}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return Kube(path)


@pytest.fixture(scope="module")
def kube(kubeconfig: str) -> Kube:
    return Kube(kubeconfig)


@pytest.fixture
def space(kube: Kube) -> Iterator[Space]:
    """A namespace of a test's own."""
    made = Space(kube, f"stack-{secrets.token_hex(4)}")
    kube.ok("POST", "/api/v1/namespaces", {"metadata": {"name": made.name}})
    body = {"metadata": {"name": "one"}, "spec": {"containers": [{"name": "main", "image": "example.com/main:1"}]}}
    deadline = time.monotonic() + SECONDS
    while kube("POST", f"{made.core}/pods?dryRun=All", body)[0] >= 300 and time.monotonic() < deadline:
        time.sleep(0.02)  # pods need the default ServiceAccount with its token
    yield made
    kube("DELETE", f"/api/v1/namespaces/{made.name}")


class Space:
    def __init__(self, kube: Kube, name: str) -> None:
        self.kube = kube
        self.name = name
        self.core = f"/api/v1/namespaces/{name}"
        self.apps = f"/apis/apps/v1/namespaces/{name}"
        self.batch = f"/apis/batch/v1/namespaces/{name}"

    def pod(self, name: str = "one", *, annotations: dict[str, str] | None = None, **spec: Any) -> str:
        """Create a pod; its path."""
        container = {"name": "main", "image": "example.com/main:1", **spec.pop("container", {})}
        meta = {"name": name, "annotations": annotations or {}}
        self.kube.ok("POST", f"{self.core}/pods", {"metadata": meta, "spec": {"containers": [container], **spec}})
        return f"{self.core}/pods/{name}"

    def secret(self, name: str, **values: str) -> None:
        self.kube.ok("POST", f"{self.core}/secrets", {"metadata": {"name": name}, "stringData": values})

    def annotate(self, path: str, **annotations: str | None) -> None:
        named = {f"fakenode/{name.replace('_', '-')}": value for name, value in annotations.items()}
        self.kube.ok("PATCH", path, {"metadata": {"annotations": named}}, MERGE)

    def event(self, reason: str, text: str) -> None:
        """Wait for an event that says so."""
        self.kube.until(
            f"{self.core}/events",
            lambda found: any(one["reason"] == reason and text in one["message"] for one in found["items"]),
        )

    def run(self, *command: str, pod: str = "one") -> str:
        code, output, errors = self.kube.run(self.name, pod, *command)
        assert code == 0, errors
        return output.strip()


def ready(pod: Any) -> bool:
    return condition(pod, "Ready")["status"] == "True"


def condition(item: Any, name: str) -> Any:
    return {one["type"]: one for one in item["status"]["conditions"]}[name]


def state(pod: Any) -> Any:
    return pod["status"]["containerStatuses"][0]["state"]


def deployment(replicas: int, image: str) -> dict[str, Any]:
    labels = {"app": "web"}
    pod = {
        "initContainers": [{"name": "first", "image": "example.com/first:1"}],
        "containers": [{"name": "web", "image": image, "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


# --- what is real ---


def test_a_deployment_rolls_out_and_out_again(space: Space) -> None:
    kube, path = space.kube, f"{space.apps}/deployments/web"
    kube.ok("POST", f"{space.apps}/deployments", deployment(2, "example.com/web:1"))
    kube.until(path, lambda found: found["status"].get("readyReplicas") == 2)
    kube.ok("PATCH", f"{path}?fieldManager=test&force=true", deployment(2, "example.com/web:2"), APPLY)
    kube.until(
        path,
        lambda found: (
            found["status"]["observedGeneration"] == found["metadata"]["generation"]
            and found["status"].get("updatedReplicas") == 2
            and found["status"]["replicas"] == 2
            and found["status"].get("availableReplicas") == 2
        ),
    )
    listed = kube.ok("GET", f"{space.core}/pods")["items"]
    pods = [pod for pod in listed if not pod["metadata"].get("deletionTimestamp")]
    assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["example.com/web:2"] * 2
    assert len({pod["status"]["podIP"] for pod in pods}) == 2
    begun = pods[0]["status"]["initContainerStatuses"][0]
    assert (begun["name"], begun["state"]["terminated"]["exitCode"]) == ("first", 0)
    assert len(kube.ok("GET", f"{space.apps}/replicasets")["items"]) == 2


def test_apply_leaves_what_another_manager_owns(space: Space) -> None:
    kube, path = space.kube, f"{space.core}/configmaps/shared"
    ours = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"ours": "1", "gone": "1"}}
    kube.ok("PATCH", f"{path}?fieldManager=ours", ours, APPLY)
    kube.ok("PATCH", f"{path}?fieldManager=theirs", {**ours, "data": {"theirs": "2"}}, APPLY)
    assert kube("PATCH", f"{path}?fieldManager=theirs", {**ours, "data": {"ours": "2"}}, APPLY)[0] == 409
    kube.ok("PATCH", f"{path}?fieldManager=theirs", {**ours, "data": {"theirs": "2"}}, APPLY)
    kube.ok("PATCH", f"{path}?fieldManager=ours", {**ours, "data": {"ours": "3"}}, APPLY)
    assert kube.ok("GET", path)["data"] == {"ours": "3", "theirs": "2"}


def test_a_service_account_may_do_what_its_role_says(space: Space, kubeconfig: str, tmp_path: Path) -> None:
    kube, rbac = space.kube, f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space.name}"
    space.secret("private", key="value")
    kube.ok("POST", f"{space.core}/serviceaccounts", {"metadata": {"name": "reader"}})
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}
    kube.ok("POST", f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": space.name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    kube.ok("POST", f"{rbac}/rolebindings", {"metadata": {"name": "reader"}, "subjects": [subject], "roleRef": role})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = kube.ok("POST", f"{space.core}/serviceaccounts/reader/token", request)["status"]["token"]
    reader = with_token(kubeconfig, token, tmp_path)
    deadline = time.monotonic() + SECONDS
    while reader("GET", f"{space.core}/pods")[0] == 403 and time.monotonic() < deadline:
        time.sleep(0.05)  # the API server hears of a new role after a moment
    assert reader("GET", f"{space.core}/pods")[0] == 200
    status, answer = reader("GET", f"{space.core}/secrets/private")
    assert status == 403
    assert f'cannot get resource "secrets" in API group "" in the namespace "{space.name}"' in answer["message"]
    space.kube.until(space.pod(), ready)
    with pytest.raises(client.ApiException, match="403"):
        reader.run(space.name, "one", "true")


def test_nobody_gets_through_without_the_clusters_certificates_and_tokens(
    kube: Kube, kubeconfig: str, tmp_path: Path
) -> None:
    assert "insecure" not in Path(kubeconfig).read_text()
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{kube.url}/readyz", timeout=5)
    assert with_token(kubeconfig, "wrong", tmp_path)("GET", "/api/v1/namespaces")[0] == 401
    node = kube.ok("GET", "/api/v1/nodes/fake-node")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    context = ssl.create_default_context(cadata=kube.authority)
    request, answer = b"GET /containerLogs/a/b/c HTTP/1.1\r\nHost: a\r\n\r\n", b""
    with socket.create_connection(("127.0.0.1", port), 5) as plain, contextlib.suppress(ssl.SSLError, ConnectionError):
        channel = context.wrap_socket(plain, server_hostname="127.0.0.1")
        channel.sendall(request)
        answer = channel.recv(100)
    assert answer == b""


# --- the node: exec ---


def test_exec_has_the_environment_of_the_start_and_the_files_of_now(space: Space) -> None:
    kube = space.kube
    space.secret("login", password="first", user="someone")
    kube.ok("POST", f"{space.core}/configmaps", {"metadata": {"name": "more"}, "data": {"COLOR": "blue"}})
    container = {
        "env": [
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
            {"name": "URL", "value": "db://$(WORD)@$(NOBODY)/$$(WORD)"},
            {"name": "MYSELF", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x", "optional": True}}},
        ],
        "envFrom": [{"configMapRef": {"name": "more"}, "prefix": "THE_"}],
        "volumeMounts": [
            {"name": "login", "mountPath": "/etc/login"},
            {"name": "login", "mountPath": "/etc/fixed", "subPath": "password"},
        ],
    }
    volume = {"name": "login", "secret": {"secretName": "login", "items": [{"key": "password", "path": "pass"}]}}
    both = {"name": "login", "projected": {"sources": [{"secret": {"name": "login"}}]}}
    kube.until(space.pod(container=container, volumes=[both]), ready)
    del container["volumeMounts"][1]  # type: ignore[attr-defined]
    kube.until(space.pod("two", container=container, volumes=[volume]), ready)
    shown = "echo $WORD $URL $MYSELF ${NONE-unset} $THE_COLOR"
    assert space.run("sh", "-c", shown) == "first db://first@$(NOBODY)/$(WORD) one unset blue"
    assert space.run("cat", "/etc/login/password") == "first"
    assert space.run("sh", "-c", "ls /etc/login; cat '/etc/fixed'").split() == ["password", "user", "first"]
    assert space.run("ls", "/etc/login/", pod="two") == "pass"
    kube.ok("PATCH", f"{space.core}/secrets/login", {"stringData": {"password": "second"}}, MERGE)
    deadline = time.monotonic() + SECONDS
    while space.run("cat", "/etc/login/password") == "first" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert space.run("sh", "-c", "cat /etc/login/password; echo; cat /etc/fixed; echo; echo $WORD").split() == [
        "second",
        "first",
        "first",
    ]


def test_exec_tells_how_a_command_ended(space: Space) -> None:
    space.kube.until(space.pod(), ready)
    assert space.kube.run(space.name, "one", "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    code, output, _errors = space.kube.run(space.name, "one", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x")
    assert (code, len(output)) == (0, 300000)
    assert space.run("hostname") != "one"  # it runs on this machine
    assert space.run("sh", "-c", "echo $HOSTNAME") == "one"


def test_commands_find_the_servers_of_the_stack(space: Space, stack_variables: dict[str, str]) -> None:
    database = urllib.parse.urlsplit(stack_variables["LITELLM_DSN"])
    redis = urllib.parse.urlsplit(stack_variables["REDIS_URL"])
    space.secret("stack", PGPASSWORD=str(database.password), REDISCLI_AUTH=str(redis.password))
    container = {"envFrom": [{"secretRef": {"name": "stack"}}]}
    space.kube.until(space.pod("litellm-postgres-0", container=container), ready)
    login = ["-U", str(database.username), "-d", database.path.strip("/")]
    assert space.run("psql", *login, "-Atc", "SELECT 6 * 7", pod="litellm-postgres-0") == "42"
    assert "accepting" in space.run("pg_isready", pod="litellm-postgres-0")
    assert "CREATE TABLE" in space.run("pg_dump", *login, "--schema-only", pod="litellm-postgres-0")
    assert space.run("redis-cli", "ping", pod="litellm-postgres-0") == "PONG"


# --- the node: port-forward ---


@contextlib.contextmanager
def local_end(forward: Any, port: int) -> Iterator[int]:
    """A port of this machine that one connection may be made to, on to the forwarded one."""
    listener = socket.create_server(("127.0.0.1", 0))
    remote = forward.socket(port)
    remote.setblocking(True)

    def pump(source: Any, target: Any) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            local = listener.accept()[0]
            threading.Thread(target=pump, args=(local, remote), daemon=True).start()
            pump(remote, local)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        forward.close()


def through(space: Space, dsn: str) -> int:
    """The length of ten megabytes that PostgreSQL sends through a port-forward."""
    parts = urllib.parse.urlsplit(dsn)
    with local_end(space.kube.forward(space.name, "one", 5432), 5432) as port:
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=port,
            user=parts.username,
            password=parts.password,
            dbname=parts.path.strip("/"),
            connect_timeout=20,
            sslmode="disable",
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SELECT repeat('x', 1 << 20) FROM generate_series(1, %s)", (MEGABYTES,))
            return sum(len(row[0]) for row in cursor.fetchall())


def test_ten_megabytes_come_through_a_port_forward(space: Space, stack_variables: dict[str, str]) -> None:
    space.kube.until(space.pod(), ready)
    assert through(space, stack_variables["LITELLM_DSN"]) == MEGABYTES << 20


def test_a_forwarded_connection_is_cut_where_the_annotation_says(space: Space, stack_variables: dict[str, str]) -> None:
    space.kube.until(space.pod(annotations={"fakenode/forward-cut": "5000000"}), ready)
    with pytest.raises(psycopg2.OperationalError):
        through(space, stack_variables["LITELLM_DSN"])
    space.annotate(f"{space.core}/pods/one", forward_cut=None)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:  # the node hears of it after a moment
        with contextlib.suppress(psycopg2.OperationalError):
            assert through(space, stack_variables["LITELLM_DSN"]) == MEGABYTES << 20
            return
    raise AssertionError("it is still cut")


def test_a_port_is_where_the_annotation_says_and_others_lead_nowhere(space: Space) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"), daemon=True).start()
        space.kube.until(space.pod(annotations={"fakenode/forward": f"5432={place}"}), ready)
        forward = space.kube.forward(space.name, "one", 5432)
        end = forward.socket(5432)
        end.setblocking(True)
        assert end.recv(5) == b"hello"
        forward.close()
        assert space.run("sh", "-c", "echo $PGHOST:$PGPORT") == place
    for port, reason in ((99, "nothing of the test stack listens"), (5432, "Connect")):
        forward = space.kube.forward(space.name, "one", port)
        end = forward.socket(port)
        end.setblocking(True)
        assert end.recv(1) == b""
        assert reason in forward.error(port)
        forward.close()


# --- the node: what goes wrong on demand ---


def test_a_held_pod_is_pending_with_its_reason_until_it_is_released(space: Space) -> None:
    path = space.pod(annotations={"fakenode/hold": "Insufficient cpu"})
    held = space.kube.until(path, lambda pod: condition(pod, "PodScheduled")["status"] == "False")
    assert (held["status"]["phase"], condition(held, "PodScheduled")["reason"]) == ("Pending", "Unschedulable")
    assert condition(held, "PodScheduled")["message"] == "0/1 nodes are available: 1 Insufficient cpu."
    space.event("FailedScheduling", "Insufficient cpu")
    space.annotate(path, hold=None)
    space.kube.until(path, ready)


def test_a_namespace_names_faults_of_pods_that_others_will_make(space: Space) -> None:
    path = f"/api/v1/namespaces/{space.name}"
    space.annotate(path, faults=json.dumps({"two*": {"hold": "it is full"}, "*": {"not-ready": "503"}}))
    time.sleep(0.3)  # the node watches namespaces apart from pods
    one, two = space.pod("one"), space.pod("two-x")
    running = space.kube.until(one, lambda pod: pod["status"]["phase"] == "Running")
    assert not ready(running)
    space.event("Unhealthy", "503")
    space.kube.until(two, lambda pod: "it is full" in condition(pod, "PodScheduled")["message"])
    space.annotate(path, faults=None)
    space.kube.until(one, ready)
    space.kube.until(two, ready)


def test_an_image_that_is_not_there(space: Space) -> None:
    path = space.pod(container={"image": "example.com/does-not-exist:1"})
    other = space.pod("other", annotations={"fakenode/pull-failure": "main"})
    found = space.kube.until(path, lambda pod: state(pod)["waiting"]["reason"] == "ImagePullBackOff")
    assert found["status"]["phase"] == "Pending"
    assert not ready(found)
    space.event("Failed", 'Failed to pull image "example.com/does-not-exist:1"')
    space.kube.until(other, lambda pod: state(pod)["waiting"]["reason"] == "ImagePullBackOff")
    status, answer = space.kube("GET", f"{path}/log")
    assert status == 400
    assert "waiting to start" in str(answer)
    space.annotate(other, pull_failure=None)
    space.kube.until(other, ready)


def test_a_container_that_crashes(space: Space) -> None:
    path = space.pod(annotations={"fakenode/crash": "no such database"})
    found = space.kube.until(path, lambda pod: state(pod)["waiting"]["reason"] == "CrashLoopBackOff")
    status = found["status"]["containerStatuses"][0]
    assert (status["restartCount"] >= 1, status["lastState"]["terminated"]["exitCode"]) == (True, 1)
    assert "no such database" in space.kube.ok("GET", f"{path}/log")
    space.event("BackOff", "restarting failed container")
    space.annotate(path, crash=None)
    space.kube.until(path, ready)


def test_what_a_container_refers_to_has_to_be_there(space: Space) -> None:
    reference = {"name": "late", "key": "word"}
    env = space.pod("env", container={"env": [{"name": "WORD", "valueFrom": {"secretKeyRef": reference}}]})
    mounted = space.pod(
        "mounted",
        container={"volumeMounts": [{"name": "late", "mountPath": "/late"}]},
        volumes=[{"name": "late", "secret": {"secretName": "late"}}],
    )
    found = space.kube.until(env, lambda pod: state(pod)["waiting"]["reason"] == "CreateContainerConfigError")
    assert state(found)["waiting"]["message"] == 'secret "late" not found'
    space.event("FailedMount", 'MountVolume.SetUp failed for volume "late" : secret "late" not found')
    assert state(space.kube.ok("GET", mounted))["waiting"]["reason"] == "ContainerCreating"
    space.secret("late", word="here")
    space.kube.until(env, ready)
    space.kube.until(mounted, ready)
    assert space.run("sh", "-c", "echo $WORD", pod="env") == space.run("cat", "/late/word", pod="mounted") == "here"


def job(name: str, annotations: dict[str, str], *command: str) -> dict[str, Any]:
    container = {"name": "main", "image": "example.com/job:1", "command": list(command)}
    pod = {"restartPolicy": "Never", "containers": [container]}
    template = {"metadata": {"annotations": annotations}, "spec": pod}
    return {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}}


def test_jobs_complete_fail_on_demand_and_run_on_demand(space: Space) -> None:
    kube, jobs = space.kube, f"{space.batch}/jobs"
    kube.ok("POST", jobs, job("plain", {}, "false"))
    kube.ok("POST", jobs, job("fails", {"fakenode/job-fails": "migration 7 is broken"}, "true"))
    kube.ok("POST", jobs, job("runs", {"fakenode/run": "true"}, "sh", "-c", "echo $PGPORT; exit 3"))
    kube.until(f"{jobs}/plain", lambda found: condition(found, "Complete")["status"] == "True")
    for name, text in (("fails", "migration 7 is broken"), ("runs", "")):
        kube.until(f"{jobs}/{name}", lambda found: condition(found, "Failed")["status"] == "True")
        pods = kube.ok("GET", f"{space.core}/pods?labelSelector=job-name={name}")["items"]
        log = kube.ok("GET", f"{space.core}/pods/{pods[0]['metadata']['name']}/log")
        assert text in str(log)
        assert state(pods[0])["terminated"]["exitCode"] == {"fails": 1, "runs": 3}[name]
    assert int(log) > 0


def test_logs_end_where_they_are_asked_to_begin(space: Space) -> None:
    path = space.pod()
    space.kube.until(path, ready)
    whole = space.kube.ok("GET", f"{path}/log").splitlines()
    assert whole == ["main: started from example.com/main:1", "main: ready"]
    assert space.kube.ok("GET", f"{path}/log?tailLines=1").splitlines() == whole[-1:]


# --- volumes ---


def claim(name: str, storage_class: str | None) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": spec | ({"storageClassName": storage_class} if storage_class else {})}


def test_claims_are_bound_as_their_class_says(space: Space) -> None:
    kube, claims = space.kube, f"{space.core}/persistentvolumeclaims"
    for name, storage_class in (("late", "gp3-csi"), ("plain", None), ("odd", "no-such-class")):
        kube.ok("POST", claims, claim(name, storage_class))
    bound = kube.until(f"{claims}/plain", lambda found: found["status"]["phase"] == "Bound")
    assert bound["spec"]["storageClassName"] == "standard"
    space.event("ProvisioningFailed", 'storageclass.storage.k8s.io "no-such-class" not found')
    space.event("WaitForFirstConsumer", "waiting for first consumer")
    assert kube.ok("GET", f"{claims}/late")["status"]["phase"] == "Pending"

    def using(name: str, pod: str) -> str:
        return space.pod(
            pod,
            container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
            volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": name}}],
        )

    waits = kube.until(using("odd", "waits"), lambda pod: condition(pod, "PodScheduled")["status"] == "False")
    assert "unbound immediate PersistentVolumeClaims" in condition(waits, "PodScheduled")["message"]
    lacks = kube.until(using("absent", "lacks"), lambda pod: condition(pod, "PodScheduled")["status"] == "False")
    assert 'persistentvolumeclaim "absent" not found' in condition(lacks, "PodScheduled")["message"]
    path = using("late", "first")
    kube.until(path, ready)
    space.run("sh", "-c", "echo kept > /data/file", pod="first")
    kube.ok("DELETE", path)
    kube.until(using("late", "second"), ready)
    assert space.run("cat", "/data/file", pod="second") == "kept"
    volume = kube.ok("GET", f"{claims}/plain")["spec"]["volumeName"]
    kube.ok("DELETE", f"{claims}/plain")
    deadline = time.monotonic() + SECONDS
    while kube("GET", f"/api/v1/persistentvolumes/{volume}")[0] != 404 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert kube("GET", f"/api/v1/persistentvolumes/{volume}")[0] == 404


# --- OpenShift ---


def test_openshifts_kinds_are_served(kube: Kube) -> None:
    documents = yaml.safe_load((HERE / "k8s" / "openshift.yaml").read_text())["items"]
    for one in documents:
        if one["kind"] == "CustomResourceDefinition":
            spec = one["spec"]
            path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
            assert kube.ok("GET", path)["kind"] == f"{spec['names']['kind']}List"
    config = "/apis/config.openshift.io/v1"
    assert kube.ok("GET", f"{config}/infrastructures/cluster")["status"]["platformStatus"]["type"] == "AWS"
    assert kube.ok("GET", f"{config}/ingresses/cluster")["spec"]["domain"] == "apps.test.example.com"
    assert kube.ok("GET", f"{config}/oauths/cluster")["spec"] == {"identityProviders": []}


def test_a_route_is_admitted_with_a_host(space: Space) -> None:
    base = f"/apis/route.openshift.io/v1/namespaces/{space.name}/routes"
    body = {"apiVersion": "route.openshift.io/v1", "kind": "Route"}
    for name, spec in (("plain", {}), ("named", {"host": "a.example.com"})):
        to = {"to": {"kind": "Service", "name": "x"}, "tls": {"termination": "edge"}}
        space.kube.ok("POST", base, {**body, "metadata": {"name": name}, "spec": {**spec, **to}})
    plain = space.kube.until(f"{base}/plain", lambda found: found["status"]["ingress"][0]["conditions"])
    host = f"plain-{space.name}.apps.test.example.com"
    assert (plain["spec"]["host"], plain["status"]["ingress"][0]["host"]) == (host, host)
    assert plain["spec"]["tls"] == {"termination": "edge"}
    named = space.kube.until(f"{base}/named", lambda found: found["status"]["ingress"][0]["conditions"])
    admitted = named["status"]["ingress"][0]
    assert (admitted["host"], admitted["conditions"][0]["status"]) == ("a.example.com", "True")


# --- clusters besides ---


def test_a_bare_cluster_has_kubernetes_alone_and_leaves_nothing(kubeconfig: str, tmp_path: Path) -> None:
    with cluster_module.bare(tmp_path) as path:
        kube = Kube(path)
        assert kube.url != Kube(kubeconfig).url
        assert "route.openshift.io" not in {one["name"] for one in kube.ok("GET", "/apis")["groups"]}
        space = Space(kube, "default")
        kube.until(f"{space.core}/serviceaccounts/default", lambda _found: True)
        kube.ok("POST", f"{space.apps}/deployments", deployment(1, "example.com/web:1"))
        kube.until(f"{space.apps}/deployments/web", lambda found: found["status"].get("readyReplicas") == 1)
        owned = [
            identity
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit()
            and str(tmp_path).encode() in read(entry / "cmdline")
            and (identity := processes.Identity.of(int(entry.name)))
        ]
        assert len(owned) == 4
    assert not any(identity.alive() for identity in owned)
    assert not list(tmp_path.iterdir())


def read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def test_a_stack_without_a_cluster_is_one_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on the machine, and a build that can't work."""
    monkeypatch.setattr(cluster_module, "SOURCES", tmp_path)
    (tmp_path / "build.sh").write_text("echo no packages here; exit 1\n")
    (tmp_path / "cronjob-batch-v1.patch").touch()
    monkeypatch.setattr(cluster_module, "programs_on", lambda _path: None)
    monkeypatch.setattr(cluster_module, "HERE", tmp_path / "tests" / "stack")
    monkeypatch.setattr(cluster_module, "SOURCES", tmp_path)
    env = {"STACK_DIR": str(tmp_path / "s"), "RHPDS_LITEMAAS_CACHE": str(tmp_path / "cache")}
    told = io.StringIO()

    def found(**more: str) -> Any:
        chosen = stack_settings.Settings.from_env({**env, **more})
        events = progress.Events(told)
        return supervisor.Supervisor(chosen, events).find_cluster(supervisor.Cache(chosen, events))

    with pytest.raises(progress.StackError) as caught:
        found()
    assert caught.value.tail == ["no packages here"]
    assert "KUBEBUILDER_ASSETS" in caught.value.hint
    assert "ALLOW_MISSING=cluster" in caught.value.hint
    assert found(ALLOW_MISSING="cluster") is None
    assert "NOT RUN: the cluster" in told.getvalue()


def test_programs_are_taken_from_kubebuilder_assets_before_the_path(tmp_path: Path) -> None:
    def folder(name: str, *programs: str, version: str = "v1.29.3") -> str:
        (tmp_path / name).mkdir()
        for program in programs:
            (tmp_path / name / program).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
            (tmp_path / name / program).chmod(0o755)
        return str(tmp_path / name)

    assets = folder("assets", "etcd", "kube-apiserver", "kubectl")
    path = folder("path", "etcd", "kube-controller-manager")
    chosen = stack_settings.Settings.from_env({"STACK_DIR": str(tmp_path), "RHPDS_LITEMAAS_CACHE": str(tmp_path)})
    cache = supervisor.Cache(chosen, progress.Events(io.StringIO()))
    found = cluster_module.find_programs(cache, {"KUBEBUILDER_ASSETS": assets, "PATH": path + ":/usr/bin:/bin"})
    assert found.version == (1, 29)
    assert (found.etcd.parent.name, found.controllers.parent.name) == ("assets", "path")
    assert found.kubectl == Path(assets) / "kubectl"
    other = folder("other", "etcd", "kube-apiserver", version="v1.20.2")
    assert cluster_module.programs_on(f"{other}:{path}:/usr/bin:/bin") is None
    # What is told where they have to be built all the same
    assert cluster_module.lacking({"KUBEBUILDER_ASSETS": other}).endswith("has no kube-controller-manager")
    assert cluster_module.lacking({}) == ""


def test_status_sees_a_cluster_that_is_gone(stack_variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "stack.py"), "status"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stdout
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "fakenode", "redis"):
        assert f"  {name}" in done.stdout
