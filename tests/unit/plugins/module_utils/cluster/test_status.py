# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a namespace's objects are made of for the status."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import status
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError


class Rest:
    """An API server that has these answers, by the end of a path; anything else is forbidden."""

    def __init__(self, **answers):
        self.answers = answers

    def find(self, path, rights="", **query):
        name = path.rpartition("/")[2].replace("-", "_")
        if name not in self.answers:
            raise ClusterError(f"GET {path}", "HTTP 403: forbidden", f"The account needs {rights} there", 403)
        return self.answers[name]

    def text(self, path, rights="", **query):
        return self.find(path, rights)


def objects(**answers):
    found = {name: {"items": value} if isinstance(value, list) else value for name, value in answers.items()}
    return status.Objects(Rest(**found), "maas")


def deployment(name, image, init=(), replicas=1, ready=1):
    spec = {"containers": [{"name": name, "image": image}]}
    spec["initContainers"] = [{"name": f"init{place}", "image": one} for place, one in enumerate(init)]
    template = {"metadata": {"labels": {"app": name}}, "spec": spec}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "template": template},
        "status": {"readyReplicas": ready},
    }


FRONTEND = "quay.io/rh-aiservices-bu/litemaas-frontend"


@pytest.mark.parametrize(
    ("init", "differs"),
    [
        (f"{FRONTEND}:0.4.0", True),
        (f"{FRONTEND}:0.5.0", False),
        ("mirror.example.com/x/litemaas-frontend:0.5.0", False),
        ("mirror.example.com/x/litemaas-frontend:0.4.0", True),
        (f"{FRONTEND}@sha256:aa", True),
        ("registry.example.com:5000/busybox:1", False),
    ],
)
def test_an_init_container_has_to_be_of_the_containers_version(init, differs):
    there = objects(deployments=[deployment("litellm-frontend", f"{FRONTEND}:0.5.0", [init])], statefulsets=[], pods=[])
    found = status.images(there, [])
    assert bool(found["mismatches"]) == differs
    if differs:
        assert found["mismatches"][0]["container"] == "init0" and found["mismatches"][0]["init"]
    assert [one["init"] for one in found["images"]] == [True, False]


def test_a_pod_of_another_image_than_its_workload_is_told():
    def pod(name, image, phase="Running", app="litellm"):
        meta = {"name": name, "labels": {"app": app}}
        return {
            "metadata": meta,
            "spec": {"containers": [{"name": "litellm", "image": image}]},
            "status": {"phase": phase},
        }

    pods = [pod("old", "l:1"), pod("new", "l:2"), pod("done", "l:1", "Succeeded"), pod("x", "l:1", app="x")]
    found = status.images(objects(deployments=[deployment("litellm", "l:2")], statefulsets=[], pods=pods), [])
    assert [(one["pod"], one["image"], one["wanted"]) for one in found["mismatches"]] == [("old", "l:1", "l:2")]


def test_what_may_not_be_read_is_said_and_the_rest_is_there():
    errors = []
    found = status.pods(objects(deployments=[deployment("litellm", "l:1", replicas=3)], pods=[]), errors)
    assert found["workloads"] == [{"kind": "Deployment", "name": "litellm", "ready": 1, "wanted": 3}]
    assert len(errors) == 1 and "list on statefulsets.apps" in errors[0] and "403" in errors[0]
    with pytest.raises(ClusterError, match=r"(?s)deployments.*statefulsets.*pods"):
        status.pods(objects(), [])
    with pytest.raises(ClusterError, match=r"routes.route.openshift.io.*ingresses.networking.k8s.io"):
        status.routes(objects(), [])


def test_a_namespace_that_is_not_there_is_told_from_one_that_may_not_be_looked_at():
    status.Objects(Rest(), "maas").refuse_nowhere()
    with pytest.raises(ClusterError, match="there is no such namespace"):
        status.Objects(Rest(maas=None), "maas").refuse_nowhere()


def test_routes_and_ingresses_lead_to_services():
    said = {"host": "a.example.com", "conditions": [{"type": "Admitted", "status": "False", "message": "taken"}]}
    routes = [
        {
            "metadata": {"name": "api"},
            "spec": {"to": {"name": "litellm"}, "host": "a.example.com", "tls": {}},
            "status": {"ingress": [said]},
        },
    ]
    rule = {
        "host": "b.example.com",
        "http": {"paths": [{"path": "/api", "backend": {"service": {"name": "litellm-backend"}}}]},
    }
    ingresses = [
        {
            "metadata": {"name": "admin"},
            "spec": {"rules": [rule], "tls": [{"hosts": ["b.example.com"]}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}},
        },
    ]
    first, second = status.routes(objects(routes=routes, ingresses=ingresses), [])["routes"]
    assert (first["url"], first["admitted"], first["trouble"]) == ("http://a.example.com", False, "taken")
    assert (second["url"], second["service"], second["admitted"]) == (
        "https://b.example.com/api",
        "litellm-backend",
        True,
    )


@pytest.mark.parametrize(
    ("said", "admitted", "trouble"),
    [
        ([("True", "a"), ("False", "a")], True, ""),
        ([("False", "a")], False, "taken"),
        # Of the name that it had before.
        ([("True", "b")], False, "no router has admitted it"),
        ([], False, "no router has admitted it"),
    ],
)
def test_a_route_is_admitted_where_one_router_says_so_of_the_name_that_it_has(said, admitted, trouble):
    ingress = [
        {"host": host, "conditions": [{"type": "Admitted", "status": word, "message": "taken"}]} for word, host in said
    ]
    route = {"metadata": {"name": "api"}, "spec": {"host": "a"}, "status": {"ingress": ingress}}
    (found,) = status.routes(objects(routes=[route], ingresses=[]), [])["routes"]
    assert (found["admitted"], found["trouble"]) == (admitted, trouble)


def test_restarts_are_counted_with_their_last_reason():
    container = {
        "name": "litellm",
        "restartCount": 4,
        "ready": True,
        "lastState": {"terminated": {"finishedAt": "2026-01-01T11:00:00Z", "reason": "OOMKilled"}},
    }
    pod = {
        "metadata": {"name": "litellm-1", "labels": {"app": "litellm"}},
        "status": {
            "phase": "Running",
            "containerStatuses": [container],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    done = {"metadata": {"name": "migration"}, "status": {"phase": "Succeeded"}}
    there = objects(deployments=[], statefulsets=[], pods=[pod, done])
    there.rest.now = status.parsed("2026-01-01T12:00:00Z")
    (found,) = status.pods(there, [])["pods"]
    assert (found["ready"], found["restarts"], found["last_restart_reason"]) == (True, 4, "OOMKilled")
    assert found["last_restart_seconds"] == 3600


def test_a_log_without_its_secrets_unread_is_not_shown():
    pod = {
        "metadata": {"name": "litellm_1", "labels": {"app": "litellm"}},
        "spec": {"containers": [{"name": "litellm", "envFrom": [{"secretRef": {"name": "litellm-secret"}}]}]},
    }
    errors = []
    with pytest.raises(ClusterError, match="get on secrets"):
        status.logs(objects(pods=[pod], log="the key is hunter2hunter2"), errors, 5, ["litellm"])
    secret = {"data": {"KEY": "aHVudGVyMmh1bnRlcjI="}}
    found = status.logs(
        objects(pods=[pod], log="a\nis hunter2hunter2\nsk-1234567890", litellm_secret=secret), [], 2, ["litellm"]
    )
    assert found["logs"][0]["lines"] == ["is ********", "sk-********"]
    # Nor the beginning of one where a line is cut.
    line = " " * (status.LINE - 5) + "hunter2hunter2"
    found = status.logs(objects(pods=[pod], log=line, litellm_secret=secret), [], 2, ["litellm"])
    assert found["logs"][0]["lines"] == [" " * (status.LINE - 5) + "*****"]


# ---- the backend ----


def backend(users, health=200, users_status=200):
    """An opener to a backend that answers so."""

    def serve(line):
        for _request in range(1):
            heard = line.recv(10000).decode()
            code, body = (health, {"status": "ok"}) if "/health/ready" in heard else (users_status, users)
            data = json.dumps(body).encode()
            line.sendall(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (code, len(data)) + data)
            line.close()

    def opener():
        ours, theirs = socket.socketpair()
        threading.Thread(target=serve, args=(theirs,), daemon=True).start()
        return ours

    return opener


@pytest.mark.parametrize(
    ("users", "mock"),
    [
        ({"data": [{"id": "mock-user-1"}]}, True),
        ([{"id": "mock-1"}], True),
        ({"data": [{"id": "00000000-0000-0000-0000-000000000001", "username": "mock-up"}]}, False),
        ({"data": []}, False),
    ],
)
def test_made_up_users_are_known_by_their_ids(users, mock):
    found = status.ask_backend(backend(users), "ltm_admin_x")
    assert (found["health"], found["mock"]) == ("HTTP 200", mock)


def test_a_backend_that_keeps_its_users_to_itself_is_not_said_to_be_well():
    found = status.ask_backend(backend({}, users_status=500), "ltm_admin_x")
    assert "mock" not in found and "HTTP 500" in found["how"]
    assert "mock" not in status.ask_backend(backend({}), "")
    # What its log has said stands, whatever it lists.
    assert "mock" not in status.ask_backend(backend({"data": []}), "ltm_admin_x", known_mock=True)
    assert status.ask_backend(backend({}, health=503), "")["health"] == "HTTP 503"


def test_an_error_that_all_backends_have_is_said_once(monkeypatch):
    pods = [
        {
            "metadata": {"name": name, "labels": {"app": "litellm-backend"}},
            "spec": {"containers": [{"name": "backend"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        for name in ("b-1", "b-2", "b-3")
    ]

    class Port:
        def __init__(self, api, namespace, pod, port):
            self.pod = pod

    def through(port):
        why = "HTTP 403: pods/portforward is forbidden" if port.pod != "b-3" else "no answer"
        raise ClusterError(f"Connect to pod maas/{port.pod}", why, "The account needs create there")

    monkeypatch.setattr(status.tunnel, "PodPort", Port)
    monkeypatch.setattr(status, "through", through)
    errors = []
    status.backend(objects(pods=pods, log="ready", backend_secret={"data": {}}), errors, lambda: None)
    assert len(errors) == 2
    assert errors[0].startswith("Connect to pod maas/b-1: ") and errors[0].endswith(" (also for b-2)")
    assert errors[1].startswith("Connect to pod maas/b-3: ") and "also" not in errors[1]


@pytest.mark.parametrize(("log", "mock"), [("WARN Using mock data\n", True), ("ready\n", None)])
def test_the_log_of_a_backend_tells_too(log, mock):
    pod = {
        "metadata": {"name": "b", "labels": {"app": "litellm-backend"}},
        "spec": {"containers": [{"name": "backend"}]},
    }
    found = status.backend(objects(pods=[pod], log=log, backend_secret={"data": {}}), [], lambda: None)
    assert found["backends"][0]["mock"] is mock
    with pytest.raises(ClusterError, match="app=litellm-backend"):
        status.backend(objects(pods=[], backend_secret={"data": {}}), [], lambda: None)
