# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A LiteMaaS of a few small objects, as a deploy applies them: enough to scale, restart, upgrade and rotate it."""

from __future__ import annotations

import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import keep
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.kube import Namespace, eventually

sys.path.insert(0, str(harness.CHECKOUT / "tests" / "stack"))

import processes
import progress
import provision
import redis_server
import settings as stack_settings

REPOSITORY = "quay.io/example"
OLD = {"litellm": "main-v1.81.0-stable", "litellm-backend": "0.4.0", "litellm-frontend": "0.4.0"}
CONTAINERS = {"litellm": "litellm", "litellm-backend": "backend", "litellm-frontend": "frontend"}
CONFIG = """\
general_settings:
  database_connection_pool_limit: 10
litellm_settings:
  cache: true
  cache_params:
    type: redis
    host: litellm-redis
    port: 6379
    password: os.environ/REDIS_PASSWORD
"""


def reference(name: str, secret: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    """A variable out of a Secret."""
    found: dict[str, Any] = {"name": secret, "key": key} | ({"optional": True} if optional else {})
    return {"name": name, "valueFrom": {"secretKeyRef": found}}


class Lab:
    """The objects. Everything is applied as a deploy does it, with what it keeps of others' changes."""

    def __init__(self, place: Namespace) -> None:
        self.place = place

    def image(self, name: str) -> str:
        return f"{REPOSITORY}/{name}:{OLD[name]}"

    def definition(self, name: str, replicas: int = 1, **pod: Any) -> dict[str, Any]:
        """A Deployment."""
        env: dict[str, list[dict[str, Any]]] = {
            "litellm": [
                reference("DATABASE_URL", "litemaas-db", "LITELLM_DATABASE_URL"),
                reference("LITELLM_MASTER_KEY", "litellm-secret", "LITELLM_MASTER_KEY"),
                reference("LITELLM_SALT_KEY", "litellm-secret", "LITELLM_SALT_KEY", optional=True),
                reference("REDIS_PASSWORD", "litellm-redis", "password", optional=True),
            ],
            "litellm-backend": [
                reference("DATABASE_URL", "litemaas-db", "DATABASE_URL"),
                reference("LITELLM_API_KEY", "litellm-secret", "LITELLM_MASTER_KEY"),
                {"name": "DB_MAX_CONNECTIONS", "value": "20"},
            ],
        }
        container: dict[str, Any] = {"name": CONTAINERS[name], "image": self.image(name), "env": env.get(name, [])}
        spec: dict[str, Any] = {"containers": [container], "automountServiceAccountToken": False}
        if name == "litellm":
            container["args"] = ["--config", "/etc/litellm/config.yaml", "--num_workers", "1"]
            container["volumeMounts"] = [{"name": "config", "mountPath": "/etc/litellm"}]
            spec["volumes"] = [{"name": "config", "configMap": {"name": "litellm-config"}}]
        if name == "litellm-frontend":
            spec["initContainers"] = [
                {"name": "branding", "image": self.image(name)},
                {"name": "other", "image": f"{REPOSITORY}/other:1"},
            ]
        annotations = {"tests/annotation": "stays", **pod.pop("annotations", {})}
        container.update(pod)
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": {"app": name, "app.kubernetes.io/managed-by": "rhpds.litemaas"}},
            "spec": {
                "replicas": replicas,
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": spec},
            },
        }

    def deploy(self, *definitions: dict[str, Any]) -> None:
        """As a deploy applies them: server-side, with force, without undoing what others have set."""
        there = {f"Deployment/{one['metadata']['name']}": self.live(one["metadata"]["name"]) for one in definitions}
        live = {name: one for name, one in there.items() if one}
        for one in keep.keep(definitions, live)["definitions"]:
            self.place.apply("Deployment", one["metadata"]["name"], one)

    def live(self, name: str) -> Any:
        return self.place.get("Deployment", name)

    def images(self, name: str) -> dict[str, str]:
        """By container, init containers too."""
        pod = self.live(name)["spec"]["template"]["spec"]
        return {one["name"]: one["image"] for one in [*(pod.get("initContainers") or []), *pod["containers"]]}

    def replicas(self, name: str) -> int:
        return int(self.live(name)["spec"]["replicas"])

    def revision(self, name: str) -> str:
        return str(self.live(name)["metadata"]["annotations"]["deployment.kubernetes.io/revision"])

    def config(self, text: str = CONFIG) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "litellm-config"}}
        self.place.apply("ConfigMap", "litellm-config", {**body, "data": {"config.yaml": text}})

    def secrets(self, litemaas: str, litellm: str, **keys: str) -> None:
        """``litemaas-db`` and ``litellm-secret``; the databases are those of these DSNs, behind their Service."""
        parts = urllib.parse.urlsplit(litemaas)
        urls = {"DATABASE_URL": inside(litemaas), "LITELLM_DATABASE_URL": inside(litellm)}
        self.place.secret(
            "litemaas-db",
            username=str(parts.username),
            password=str(parts.password),
            database=parts.path[1:],
            litellm_database=urllib.parse.urlsplit(litellm).path[1:],
            **urls,
        )
        self.place.secret("litellm-secret", **keys)

    def postgres(self, dsn: str, name: str = "litellm-postgres") -> None:
        """The Service, and a StatefulSet whose pod's port is the server's of a DSN."""
        parts = urllib.parse.urlsplit(dsn)
        self.service(name, 5432)
        env = [
            reference("POSTGRES_USER", "litemaas-db", "username"),
            reference("POSTGRES_PASSWORD", "litemaas-db", "password"),
        ]
        self.workload("StatefulSet", name, 5432, f"{parts.hostname}:{parts.port}", env, serviceName=name)

    def redis(self, server: str = "", **annotations: str) -> None:
        """The Service, and a Deployment whose pod's port is a Redis."""
        self.service("litellm-redis", 6379)
        self.workload("Deployment", "litellm-redis", 6379, server, [], **({"pod": annotations} if annotations else {}))

    def service(self, name: str, port: int) -> None:
        ports = [{"port": port, "protocol": "TCP", "targetPort": port}]
        self.place.create("Service", name, spec={"ports": ports, "selector": {"app": name}})

    def workload(self, kind: str, name: str, port: int, server: str, env: list[dict[str, Any]], **spec: Any) -> None:
        marks = {"fakenode/forward": f"{port}={server}"} if server else {}
        marks |= {f"fakenode/{key.replace('_', '-')}": value for key, value in spec.pop("pod", {}).items()}
        container = {"name": "main", "image": f"{REPOSITORY}/{name}:1", "env": env}
        container["ports"] = [{"containerPort": port, "protocol": "TCP"}]
        pod = {"containers": [container], "automountServiceAccountToken": False}
        labels = {"app": name}
        template = {"metadata": {"labels": labels, "annotations": marks}, "spec": pod}
        self.place.create(kind, name, spec={"selector": {"matchLabels": labels}, "template": template, **spec})

    def fault(self, name: str, **annotations: str | None) -> None:
        """What happens to pods of this template; None takes it away."""
        marks = {f"fakenode/{key.replace('_', '-')}": value for key, value in annotations.items()}
        body = {"spec": {"template": {"metadata": {"annotations": marks}}}}
        self.place.patch("Deployment", name, body)

    def faults(self, text: str) -> None:
        """What happens to pods that don't exist yet, by name (JSON)."""
        path = f"api/v1/namespaces/{self.place.name}"
        body = {"metadata": {"annotations": {"fakenode/faults": text or None}}}
        self.place.kube.call("PATCH", path, body, "application/merge-patch+json")

    def ready(self, *names: str) -> None:
        for name in names:
            self._ready("StatefulSet" if name == "litellm-postgres" else "Deployment", name)

    def _ready(self, kind: str, name: str) -> None:
        eventually(lambda: (self.place.get(kind, name).get("status") or {}).get("readyReplicas"))


def inside(dsn: str) -> str:
    """The same database as those in the cluster know it."""
    parts = urllib.parse.urlsplit(dsn)
    return f"postgresql://{parts.username}:{parts.password}@litellm-postgres:5432{parts.path}?sslmode=disable"


@contextmanager
def redis(folder: Path, password: str) -> Iterator[int]:
    """A Redis of a test's own; gives its port."""
    known = stack_settings.Settings.from_env()
    binaries = provision.find_redis(known, provision.Cache(known, progress.Events(sys.stderr)))
    children: list[processes.Child] = []
    try:
        yield redis_server.start_redis(binaries, folder / "redis", folder / "redis.log", password, children)
    finally:
        processes.stop(children)


@contextmanager
def role(superuser_dsn: str, name: str, password: str) -> Iterator[str]:
    """A role of PostgreSQL and a database of its own; gives the DSN, and drops both afterwards."""
    parts = urllib.parse.urlsplit(superuser_dsn)
    connection = harness.connect(superuser_dsn)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE ROLE "{name}" LOGIN PASSWORD %s', (password,))
            cursor.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
        try:
            yield f"postgresql://{name}:{password}@{parts.hostname}:{parts.port}/{name}"
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
                cursor.execute(f'DROP ROLE IF EXISTS "{name}"')
    finally:
        connection.close()
