# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stack's cluster as a test sees it: its own plain requests, apart from the client under test."""

from __future__ import annotations

import base64
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import harness

PLURALS = {
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "apis/apps/v1/namespaces/{}/statefulsets",
    "Job": "apis/batch/v1/namespaces/{}/jobs",
    "Service": "api/v1/namespaces/{}/services",
    "Secret": "api/v1/namespaces/{}/secrets",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Pod": "api/v1/namespaces/{}/pods",
    "PersistentVolumeClaim": "api/v1/namespaces/{}/persistentvolumeclaims",
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
    "Route": "apis/route.openshift.io/v1/namespaces/{}/routes",
    "Role": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "HorizontalPodAutoscaler": "apis/autoscaling/v1/namespaces/{}/horizontalpodautoscalers",
}
MERGE = "application/merge-patch+json"


class Kube:
    """The API server, as its admin."""

    def __init__(self, stack: harness.Stack) -> None:
        self.kubeconfig = stack.variables["KUBECONFIG"]
        config = yaml.safe_load(Path(self.kubeconfig).read_text(encoding="utf-8"))
        self.server = config["clusters"][0]["cluster"]["server"]
        self.token = config["users"][0]["user"]["token"]
        self.session = requests.Session()
        self.authority = tempfile.NamedTemporaryFile(suffix=".crt")  # noqa: SIM115  goes with this object
        self.authority.write(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
        self.authority.flush()
        self.session.verify = self.authority.name
        self.session.trust_env = False  # a variable with another CA bundle would take its place
        self.session.headers["authorization"] = f"Bearer {self.token}"

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str) -> Any:
        """The body of an answer that has to be one of success; None for 404."""
        headers = {"content-type": kind}
        answer = self.session.request(
            method, f"{self.server}/{path}", json=body, headers=headers, params=query, timeout=30
        )
        if answer.status_code == 404:
            return None
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    @contextmanager
    def namespace(self, name: str = "", **annotations: str) -> Iterator[Namespace]:
        """A namespace of a name that nobody else has, or of this one; gone afterwards."""
        name = name or f"t{secrets.token_hex(4)}"
        self.call("POST", "api/v1/namespaces", {"metadata": {"name": name, "annotations": annotations}})
        try:
            yield Namespace(self, name)
        finally:
            self.call("DELETE", f"api/v1/namespaces/{name}")


class Namespace:
    """One namespace of it."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.kube, self.name = kube, name

    def path(self, kind: str, name: str = "") -> str:
        return PLURALS[kind].format(self.name) + (f"/{name}" if name else "")

    def create(self, kind: str, name: str, manager: str = "tests", **body: Any) -> Any:
        """Make an object; ``metadata`` in the body is completed."""
        api = PLURALS[kind].split("/namespaces")[0].removeprefix("apis/").removeprefix("api/")
        meta = {"name": name, **body.pop("metadata", {})}
        whole = {"apiVersion": api, "kind": kind, "metadata": meta, **body}
        return self.kube.call("POST", self.path(kind), whole, fieldManager=manager)

    def get(self, kind: str, name: str) -> Any:
        return self.kube.call("GET", self.path(kind, name))

    def patch(self, kind: str, name: str, body: Any, manager: str = "tests", content: str = MERGE) -> Any:
        return self.kube.call("PATCH", self.path(kind, name), body, content, fieldManager=manager)

    def apply(self, kind: str, name: str, body: Any, manager: str = "rhpds.litemaas") -> Any:
        """Server-side apply."""
        query = {"fieldManager": manager, "force": "true"}
        return self.kube.call("PATCH", self.path(kind, name), body, "application/apply-patch+yaml", **query)

    def delete(self, kind: str, name: str) -> None:
        self.kube.call("DELETE", self.path(kind, name))

    def deployment(self, name: str, manager: str = "tests", **spec: Any) -> Any:
        """A Deployment; ``image``, ``annotations`` and ``env`` are its pods'."""
        return self.create("Deployment", name, manager, **workload(name, **spec))

    def secret(self, name: str, **values: str) -> Any:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        return self.create("Secret", name, data=data)

    def values(self, name: str) -> dict[str, str] | None:
        """A Secret's values; None where there is none."""
        found = self.get("Secret", name)
        return found and {
            key: base64.b64decode(value).decode("utf-8", "replace") for key, value in (found.get("data") or {}).items()
        }

    def account(self, *rules: dict[str, Any]) -> str:
        """The token of an account that may do so much in this namespace."""
        name = f"sa-{secrets.token_hex(3)}"
        self.create("ServiceAccount", name)
        self.create("Role", name, rules=list(rules))
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.name}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        self.create("RoleBinding", name, roleRef=reference, subjects=[subject])
        path = f"{self.path('ServiceAccount', name)}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self.kube.call("POST", path, request)["status"]["token"])


def workload(
    name: str,
    image: str = "quay.io/example/app:1",
    replicas: int = 1,
    env: list[dict[str, Any]] | None = None,
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    container: str = "",
    **more: Any,
) -> dict[str, Any]:
    """The body of a Deployment or StatefulSet."""
    selector = {"app": name}
    pod = {"containers": [{"name": container or name, "image": image, "env": env or []}]}
    return {
        "metadata": {"labels": {**selector, **(labels or {})}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": selector, "annotations": annotations or {}}, "spec": pod},
            **more,
        },
    }


def eventually(what: Callable[[], Any], seconds: float = 60) -> Any:
    """What is true in the end."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > deadline:
            assert found, "did not come true"
            return found
        time.sleep(0.1)


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Something that happens beside the block; its failure is the test's."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001  raised below
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    if failures:
        raise failures[0]
