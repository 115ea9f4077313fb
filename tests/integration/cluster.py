# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A LiteMaaS in a namespace of the stack's cluster: its objects are there, its pods' ports lead to the stack's servers.

The API server is a real one, and so are its rights. A Route's host resolves nowhere, so LiteLLM's address is that of an
Ingress without a host: its load balancer's, with the port that this one has.
"""

from __future__ import annotations

import time
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any

import kubernetes
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import harness, kube

POSTGRES = "litellm-postgres"
#: Everything that is needed to find proxy, keys and databases, as rules of a Role.
READ = (
    ("route.openshift.io", "routes", "list"),
    ("networking.k8s.io", "ingresses", "list"),
    ("", "secrets", "get"),
    ("", "services", "get"),
    ("", "pods", "get list"),
    ("", "pods/portforward", "get create"),
)


class Namespace:
    """A namespace of the cluster. A context manager; the namespace goes with it."""

    def __init__(self, stack: harness.Stack, name: str) -> None:
        self.stack, self.name = stack, name
        settings = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(stack.variables["KUBECONFIG"], client_configuration=settings)
        self.client = kubernetes.client.ApiClient(settings)
        self.core = kubernetes.client.CoreV1Api(self.client)
        self.dynamic = kubernetes.dynamic.DynamicClient(self.client)

        self._made = kube.Kube(stack).namespace(name)

    def __enter__(self) -> Namespace:
        self._made.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._made.__exit__(kind, error, trace)

    def create(self, version: str, kind: str, name: str, **fields: Any) -> Any:
        """An object; ``annotations`` and ``labels`` go into its metadata."""
        meta: dict[str, Any] = {"name": name}
        meta |= {one: fields.pop(one) for one in ("annotations", "labels") if one in fields}
        body = {"apiVersion": version, "kind": kind, "metadata": meta, **fields}
        return self._kind(version, kind).create(body=body, namespace=self.name)

    def status(self, version: str, kind: str, name: str, status: dict[str, Any]) -> None:
        """What a controller would say of an object."""
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "status": status}
        self._kind(version, kind).status.patch(
            body=body, namespace=self.name, content_type="application/merge-patch+json"
        )

    def delete(self, version: str, kind: str, name: str) -> None:
        self._kind(version, kind).delete(name=name, namespace=self.name)

    def _kind(self, version: str, kind: str) -> Any:
        return self.dynamic.resources.get(api_version=version, kind=kind)

    # ---- what a LiteMaaS has ----

    def secret(self, name: str, **values: str) -> None:
        self.create("v1", "Secret", name, stringData=values)

    def service(self, name: str, port: int, target: int | str | None = None, **spec: Any) -> None:
        ports = [{"port": port, "protocol": "TCP", "targetPort": target or port}]
        self.create("v1", "Service", name, spec={"ports": ports, "selector": {"app": name}, **spec})

    def ingress(self, name: str, url: str, service: str = "litellm") -> None:
        """An address without a host, which its load balancer gives it."""
        spec = {"defaultBackend": {"service": {"name": service, "port": {"number": 4000}}}}
        self.create("networking.k8s.io/v1", "Ingress", name, spec=spec)
        parts = urllib.parse.urlsplit(url)
        balancer = {"ip": parts.hostname, "ports": [{"port": parts.port, "protocol": "TCP"}]}
        kubernetes.client.NetworkingV1Api(self.client).patch_namespaced_ingress_status(
            name, self.name, {"status": {"loadBalancer": {"ingress": [balancer]}}}
        )

    def route(self, name: str, host: str, service: str = "litellm", **spec: Any) -> None:
        self.create("route.openshift.io/v1", "Route", name, spec={"host": host, "to": _to(service), **spec})

    def pod(self, name: str, app: str, dsn: str, *, wait: bool = True, env: Any = (), **annotations: Any) -> None:
        """A pod whose port 5432 is the server of a DSN."""
        place = urllib.parse.urlsplit(dsn)
        marks = {"fakenode/forward": f"5432={place.hostname}:{place.port}"}
        marks |= {f"fakenode/{key.replace('_', '-')}": value for key, value in annotations.items()}
        ports = [{"name": "postgresql", "containerPort": 5432, "protocol": "TCP"}]
        containers = [{"name": "postgresql", "image": "postgres", "ports": ports, "env": list(env)}]
        # A namespace's own account gets its token some time after the namespace.
        spec = {"containers": containers, "automountServiceAccountToken": False}
        self.create("v1", "Pod", name, labels={"app": app}, annotations=marks, spec=spec)
        if wait:
            self.ready(name)

    def ready(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = self.core.read_namespaced_pod(name, self.name).status
            if any(one.type == "Ready" and one.status == "True" for one in status.conditions or ()):
                return
            time.sleep(0.1)
        raise AssertionError(f"pod {self.name}/{name} did not get ready: {status}")

    def postgres(self, name: str = f"{POSTGRES}-0", **annotations: Any) -> None:
        """The database's Service, and its pod."""
        self.service(POSTGRES, 5432, "postgresql")
        self.pod(name, POSTGRES, self.stack.litemaas_dsn, **annotations)

    def inside(self, dsn: str, query: str = "?sslmode=disable") -> str:
        """The same database as those in the cluster know it."""
        parts = urllib.parse.urlsplit(dsn)
        user = parts.netloc.rpartition("@")[0]
        return f"postgresql://{user}@{POSTGRES}:5432{parts.path}{query}"

    def litemaas(self, *, shared: bool = False, key_secret: bool = True, **annotations: str) -> Namespace:
        """All of it, in the layout with two databases or in that with one."""
        ours = self.stack.litellm_dsn if shared else self.stack.litemaas_dsn
        # As Prisma has it, whose own parameters libpq doesn't know.
        urls = {"DATABASE_URL": self.inside(ours, "?sslmode=disable&connection_limit=10&pool_timeout=30")}
        if not shared:
            urls["LITELLM_DATABASE_URL"] = self.inside(self.stack.litellm_dsn)
        self.secret("litemaas-db", username="x", password="y", database="z", **urls)
        self.secret("litellm-secret", LITELLM_MASTER_KEY=self.stack.master_key, UI_USERNAME="admin")
        if key_secret:
            self.secret("litellm-key-derivation", key_secret=self.stack.key_secret)
        self.service("litellm", 4000)
        self.ingress("litellm", self.stack.url)
        self.postgres(**annotations)
        return self

    def account(self, folder: Path, rules: tuple[tuple[str, str, str], ...] = READ, name: str = "reader") -> str:
        """A kubeconfig of an account with these rights and no others."""
        self.create("v1", "ServiceAccount", name)
        listed = [{"apiGroups": [group], "resources": [kind], "verbs": verbs.split()} for group, kind, verbs in rules]
        self.create("rbac.authorization.k8s.io/v1", "Role", name, rules=listed)
        self.create(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            name,
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": self.name}],
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        )
        request = {"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 3600}}
        token = self.core.create_namespaced_service_account_token(name, self.name, request).status.token
        config = yaml.safe_load(Path(self.stack.variables["KUBECONFIG"]).read_text(encoding="utf-8"))
        config["users"][0]["user"] = {"token": token}
        path = folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return str(path)


def _to(service: str) -> dict[str, Any]:
    return {"kind": "Service", "name": service, "weight": 100}
