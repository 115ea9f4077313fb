# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where LiteLLM and the databases are, and the secrets to use them, read from LiteMaaS's namespace in a cluster.

Everything is read once, and only when it is asked for. Names are those that the deployments have used so far.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import mounts, tunnel
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    SPEC,
    Cluster,
    ClusterError,
    Rest,
    if_allowed,
)

if TYPE_CHECKING:
    from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection

#: Options of every module that can find its servers in a cluster; documentation: doc_fragments/namespace.py
OPTIONS: dict[str, dict[str, Any]] = {
    "namespace": {"type": "str"},
    # With its defaults, the variables of the environment are looked at where it isn't given too.
    "cluster": {"type": "dict", "options": SPEC, "apply_defaults": True},
}

SERVICE = "litellm"
BACKEND = "litellm-backend"
#: Below which the backend serves everything.
API_PATH = "/api"
POSTGRES = "litellm-postgres"
DATABASE = "litemaas-db"
MASTER = "litellm-secret"
DERIVATION = "litellm-key-derivation"
#: Variable of every pod's containers: the API server's address.
API_SERVER = "KUBERNETES_SERVICE_HOST"
#: Options that no module gets on without.
NEEDED = ("litellm_url", "litellm_master_key", "litemaas_dsn")
#: What is said of one of them where there is nowhere to look.
NOT_SET = ("is not set", "Give it, or namespace to have it found in the cluster")


@dataclass(order=True)
class Address:
    """Where LiteLLM may be called; the best one is the smallest."""

    below: bool
    unknown: bool
    plain: bool
    url: str
    source: str = field(compare=False)


@dataclass(frozen=True)
class Reached:
    """A database that can be connected to, where its address was found, and the host that this means."""

    dsn: str = field(repr=False)
    source: str
    host: str


class Namespace:
    """LiteMaaS's namespace in a cluster.

    All of it raises ClusterError, with what was tried, which right it needs and which option makes it unnecessary.

    Attributes:
        sources: option -> where its value was found, without the value.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.sources: dict[str, str] = {}
        self._secrets: dict[str, dict[str, str] | None] = {}

    def find(self, option: str) -> str | None:
        """``litellm_url``, ``litellm_master_key`` or ``key_secret``; None where there is no such secret."""
        finders = {
            "litellm_url": self.litellm_url,
            "litellm_master_key": self.master_key,
            "key_secret": self.key_secret,
        }
        return finders[option]()

    def litellm_url(self) -> str:
        """LiteLLM's address: of a Route or Ingress whose backend is its Service, else the Service's own from inside."""
        found, refused = self._addresses()
        if found:
            best, *others = sorted(found)
            beside = f"; beside it {', '.join(other.source for other in others)}" if others else ""
            return self._noted("litellm_url", best.url, f"{best.source}{beside}")
        attempt = f"Find LiteLLM's address in namespace {self.name}"
        self._refuse_nowhere(attempt, "litellm_url")
        port = self._service_port()
        why = f" ({'; '.join(refused)})" if refused else ""
        if port is not None and self._inside:
            source = f"Service {self.name}/{SERVICE}, from inside the cluster{why}"
            return self._noted("litellm_url", f"http://{SERVICE}.{self.name}.svc:{port}", source)
        there = ", which is there" if port is not None else ", which could not be read either"
        raise ClusterError(
            attempt,
            f"no Route or Ingress leads to Service {SERVICE}{there}{why}",
            "Check namespace, and that the account may list routes.route.openshift.io and ingresses.networking.k8s.io"
            " there; or give litellm_url",
        )

    def backend_url(self) -> str:
        """LiteMaaS's own address: of a Route or Ingress whose backend is its backend's Service."""
        found, refused = self._addresses(BACKEND)
        if found:
            best = min(found)
            return self._noted("litemaas_url", best.url, best.source)
        attempt = f"Find the LiteMaaS backend's address in namespace {self.name}"
        self._refuse_nowhere(attempt, "litemaas_url")
        why = f" ({'; '.join(refused)})" if refused else ""
        raise ClusterError(
            attempt,
            f"no Route or Ingress leads to Service {BACKEND}{why}",
            "Check namespace, and that the account may list routes.route.openshift.io and ingresses.networking.k8s.io"
            " there; or give litemaas_url",
        )

    def master_key(self) -> str:
        """LiteLLM's master key."""
        value = self._secret_key(MASTER, "LITELLM_MASTER_KEY", "litellm_master_key")
        return self._noted("litellm_master_key", value, f"Secret {self.name}/{MASTER}")

    def salt_key(self) -> str:
        """What LiteLLM encrypts credentials of models with: its salt key, or its master key where it has none."""
        value = ((self._secret(MASTER, "litellm_salt_key", needed=True) or {}).get("LITELLM_SALT_KEY") or "").strip()
        return value or self._secret_key(MASTER, "LITELLM_MASTER_KEY", "litellm_salt_key")

    def secret_value(self, name: str, key: str, option: str) -> str:
        """A key of any Secret of the namespace."""
        return self._secret_key(name, key, option)

    def key_secret(self) -> str | None:
        """The secret that keys are derived from; None where the deployment has none."""
        value = (self._secret(DERIVATION, "key_secret") or {}).get("key_secret")
        return self._noted("key_secret", value, f"Secret {self.name}/{DERIVATION}") if value else None

    def vertex_projects(self) -> dict[str, str]:
        """Google Cloud project of each service account's key that LiteLLM's pods have, by its path there.

        Never raises: what can't be read is left out, and ``sources`` says why.
        """
        option, found, refused = "vertex_credentials_projects", dict[str, str](), []
        name = f"Deployment {self.name}/{SERVICE}"
        try:
            deployment = self._rest.find(
                f"/apis/apps/v1/namespaces/{self.name}/deployments/{SERVICE}", "get on deployments.apps"
            )
            mounted = mounts.Workload(deployment, SERVICE).mounts if deployment else []
        except ClusterError as failure:
            mounted, refused = [], [str(failure)]
        for mount in mounted:
            try:
                files = (self._secret(mount.secret, option) or {}) if mount.secret else {}
            except ClusterError as failure:
                refused.append(str(failure))
                continue
            for key, content in files.items():
                if mount.sub_path in ("", key) and _project_of(content):
                    found[mount.folder if mount.sub_path else f"{mount.folder}/{key}"] = _project_of(content)
        said = [f"Secrets of {name}"] * bool(found) + [f"not read: {one}" for one in refused]
        self.sources[option] = "; ".join(said) or f"no key in {name}"
        return found

    @property
    def shared(self) -> bool:
        """Whether LiteLLM's tables are in LiteMaaS's database, the layout of older deployments, or nothing is known."""
        if self._secret(DATABASE, "litellm_dsn") is None:
            return True
        ours, theirs = (self._parts(which) for which in ("litemaas", "litellm"))
        return all(ours.get(name) == theirs.get(name) for name in ("host", "port", "dbname"))

    @contextmanager
    def database(self, which: str) -> Iterator[str]:
        """A DSN for psycopg2 and libpq's programs, good until the end of the block.

        A database in the cluster is reached through a tunnel to a ready pod of its Service. A DatabaseError in the
        block then says what became of the tunnel too.

        Args:
            which: ``litemaas`` or ``litellm``.
        """
        with self._reached(which) as reached:
            yield reached.dsn

    @contextmanager
    def connect(self, which: str, connect_timeout: int) -> Iterator[Connection]:
        """The same as a connection, which is closed at the end. Raises DatabaseError too."""
        with (
            self._reached(which) as reached,
            closing(
                _database().connect(
                    reached.dsn, connect_timeout=connect_timeout, option=reached.source, host=reached.host
                )
            ) as connection,
        ):
            yield connection

    def server(self, which: str) -> tuple[dict[str, Any], str | None]:
        """libpq's parameters of a database, and the ready pod that it runs in; None for one outside of the cluster.

        For what runs beside the database, such as a dump; everybody else wants :meth:`connect`.
        """
        parts = self._parts(which)
        port = self.pod_port(str(parts.get("host") or ""), int(parts.get("port") or tunnel.PORT), f"{which}_dsn")
        return parts, port.pod if port else None

    # ---- below: addresses ----

    @property
    def _inside(self) -> bool:
        """Whether we run in the same cluster, where its Services have addresses."""
        host = os.environ.get(API_SERVER)
        return bool(host) and urlsplit(self._client.configuration.host).hostname in (host, "kubernetes.default.svc")

    def _addresses(self, service: str = SERVICE) -> tuple[list[Address], list[str]]:
        """Where a Service may be called, and why there may be more."""
        found: list[Address] = []
        refused: list[str] = []
        for group, kind, addresses in (
            ("route.openshift.io", "routes", _of_route),
            ("networking.k8s.io", "ingresses", _of_ingress),
        ):
            path, right = f"/apis/{group}/v1/namespaces/{self.name}/{kind}", f"list on {kind}.{group}"
            try:
                listed, refusal = if_allowed(partial(self._rest.find, path, right))
            except ClusterError as failure:
                raise self._advised(failure, "litellm_url") from None
            if refusal:
                refused.append(f"{kind} could not be read: {refusal.words}")
                continue
            for one in (listed or {}).get("items") or ():
                found += addresses(one, service)
            if found:
                break
        if service == BACKEND:  # whose API is below a path, which is part of its routes
            found = [replace(one, url=one.url.removesuffix(API_PATH), below=False) for one in found if _has_api(one)]
        usable = [one for one in found if not one.below]
        refused += [f"{one.source} leads there only below {urlsplit(one.url).path}" for one in found if one.below]
        return usable, refused

    def _service_port(self) -> int | None:
        try:
            service = self._rest.find(f"/api/v1/namespaces/{self.name}/services/{SERVICE}", "get on services")
        except ClusterError:
            return None  # what is missing is said all the same
        ports = ((service or {}).get("spec") or {}).get("ports") or ()
        return int(ports[0]["port"]) if ports else None

    # ---- below: databases ----

    @contextmanager
    def _reached(self, which: str) -> Iterator[Reached]:
        option, source = f"{which}_dsn", f"Secret {self.name}/{DATABASE}"
        parts = self._parts(which)
        host = str(parts.get("host") or "")
        port = self.pod_port(host, int(parts.get("port") or tunnel.PORT), option)
        self.sources[option] = source if port is None else f"{source}, through {port.name}"
        with ExitStack() as tunnels:
            dsn = _database().make_dsn(**parts) if port is None else tunnels.enter_context(through(port, parts, option))
            yield Reached(dsn, source, host)

    def _parts(self, which: str) -> dict[str, Any]:
        """What the deployment itself uses to reach a database, as parameters of libpq."""
        secret = self._secret(DATABASE, f"{which}_dsn", needed=True) or {}
        value = secret.get("DATABASE_URL")
        if which == "litellm":
            value = secret.get("LITELLM_DATABASE_URL") or value
        if value:
            source = f"{which}_dsn, as Secret {self.name}/{DATABASE} has it"
            return dict(_database().parts_of(value.strip(), source, foreign=True))
        names = {"user": "username", "password": "password", "dbname": "database"}
        missing = [name for name in names.values() if not secret.get(name)]
        if missing:
            raise ClusterError(
                f"Read Secret {DATABASE} in namespace {self.name}",
                f"it has neither DATABASE_URL nor {', '.join(missing)}",
                f"Put what is missing there, or give {which}_dsn",
            )
        parts = {name: secret[key] for name, key in names.items()}
        if which == "litellm" and secret.get("litellm_database"):
            parts["dbname"] = secret["litellm_database"]
        return {"host": POSTGRES, **parts}

    def pod_port(self, host: str, port: int, option: str, what: str = "database") -> tunnel.PodPort | None:
        """The way to a server whose host is a Service; None for one outside of the cluster.

        Args:
            option: which option makes this unnecessary; "" where there is none.
            what: it is, for errors.
        """
        place = service_of(host, self.name)
        if place is None:
            return None
        name, namespace = place
        try:
            service = self._rest.find(f"/api/v1/namespaces/{namespace}/services/{name}", "get on services")
            spec = (service or {}).get("spec") or {}
            if service is None or not spec.get("selector") or spec.get("type") == "ExternalName":
                return None  # a name outside, or one that only its network knows: the database's own error says it
            selector = ",".join(f"{label}={value}" for label, value in spec["selector"].items())
            pods = self._rest.get(f"/api/v1/namespaces/{namespace}/pods", "list on pods", labelSelector=selector).get(
                "items", []
            )
        except ClusterError as failure:
            raise self._advised(failure, option) from None
        ready = sorted((one for one in pods if is_ready(one)), key=lambda one: str(one["metadata"]["name"]))
        if not ready:
            states = ", ".join(f"{one['metadata']['name']} is {_state(one)}" for one in pods) or f"none has {selector}"
            raise ClusterError(
                f"Reach the {what} behind Service {name} in namespace {namespace}",
                f"no pod is ready: {states}",
                f"Wait for it, or give {option}" if option else "Wait for it, or see why in its events and log",
            )
        pod = ready[0]
        return tunnel.PodPort(self.cluster.api(), namespace, pod["metadata"]["name"], _target_port(spec, pod, port))

    # ---- below: reading ----

    @cached_property
    def _client(self) -> Any:
        return self.cluster.client()

    @cached_property
    def _rest(self) -> Rest:
        return Rest(self._client)

    def _secret(self, name: str, option: str, needed: bool = False) -> dict[str, str] | None:
        """A Secret's texts; None where it isn't there."""
        if name not in self._secrets:
            path = f"/api/v1/namespaces/{self.name}/secrets/{name}"
            try:
                found = self._rest.get(path, f"get on secrets (at least {name})")
                self._secrets[name] = {key: _decoded(value) for key, value in (found.get("data") or {}).items()}
            except ClusterError as failure:
                if failure.status != 404:
                    raise self._advised(failure, option) from None
                self._secrets[name] = None
        if needed and self._secrets[name] is None:
            self._refuse_nowhere(f"Read Secret {name} in namespace {self.name}", option)
            raise ClusterError(
                f"Read Secret {name} in namespace {self.name}",
                "there is none",
                f"Check that namespace is LiteMaaS's, or give {option}",
            )
        return self._secrets[name]

    def _secret_key(self, name: str, key: str, option: str) -> str:
        value = (self._secret(name, option, needed=True) or {}).get(key, "").strip()
        if not value:
            raise ClusterError(
                f"Read Secret {name} in namespace {self.name}",
                f"it has no {key}",
                f"Check that namespace is LiteMaaS's, or give {option}",
            )
        return value

    def _advised(self, failure: ClusterError, option: str) -> ClusterError:
        """The same with what makes it unnecessary, and the namespace."""
        if not option:
            return failure
        attempt = f"Find {option} in namespace {self.name} ({failure.attempt})"
        if failure.status == 403:  # what the API server says of a namespace that isn't there, too
            self._refuse_nowhere(attempt, option)
        advice = f"{failure.advice or 'Check the cluster'}; or give {option}"
        return ClusterError(attempt, failure.words, advice, failure.status)

    def _refuse_nowhere(self, attempt: str, option: str) -> None:
        """Raises ClusterError where there is no such namespace; an account that may not look can't tell."""
        try:
            exists = self._rest.find(f"/api/v1/namespaces/{self.name}", "get on namespaces") is not None
        except ClusterError:
            return
        if not exists:
            way_on = f"Check namespace, and which cluster the kubeconfig or K8S_AUTH_… mean; or give {option}"
            raise ClusterError(attempt, "there is no such namespace", way_on, 404)

    def _noted(self, option: str, value: str, source: str) -> str:
        self.sources[option] = source
        return value


def service_of(host: str, namespace: str) -> tuple[str, str] | None:
    """Name and namespace of the Service that a host's name may mean: ``db``, ``db.ns``, ``db.ns.svc.cluster.local``."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?(\.[-a-z0-9]+)*\.?", host):
        return None  # an address, a path
    parts = host.rstrip(".").split(".")
    if len(parts) == 1:
        return parts[0], namespace
    if len(parts) == 2 and parts[1] != namespace:
        return None  # as db.example is
    return (parts[0], parts[1]) if len(parts) == 2 or parts[2] == "svc" else None


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready, and will be."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _state(pod: Mapping[str, Any]) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "ending"
    status = pod.get("status") or {}
    waiting = [(one.get("state") or {}).get("waiting") or {} for one in status.get("containerStatuses") or ()]
    reasons = [str(one["reason"]) for one in waiting if one.get("reason")]
    phase = str(status.get("phase", "not started"))
    return ", ".join([phase if phase != "Running" else "running, but not ready", *reasons])


def _target_port(spec: Mapping[str, Any], pod: Mapping[str, Any], port: int) -> int:
    """The pod's port behind a Service's."""
    target = next((one.get("targetPort", port) for one in spec.get("ports") or () if one["port"] == port), port)
    if isinstance(target, int):
        return target
    named = [one for container in pod["spec"]["containers"] for one in container.get("ports") or ()]
    return next((int(one["containerPort"]) for one in named if one.get("name") == target), port)


def _has_api(address: Address) -> bool:
    return not address.below or address.url.endswith(API_PATH)


def _of_route(route: Mapping[str, Any], service: str) -> list[Address]:
    spec = route.get("spec") or {}
    backends = [spec.get("to") or {}, *(spec.get("alternateBackends") or ())]
    if not any(one.get("kind", "Service") == "Service" and one.get("name") == service for one in backends):
        return []
    admitted = [
        one
        for one in (route.get("status") or {}).get("ingress") or ()
        if any(each["type"] == "Admitted" and each["status"] == "True" for each in one.get("conditions") or ())
    ]
    host = spec.get("host") or next((one.get("host") for one in admitted), None)
    if not host:
        return []
    meta = route["metadata"]
    path = (spec.get("path") or "").rstrip("/")
    rewritten = (meta.get("annotations") or {}).get("haproxy.router.openshift.io/rewrite-target") == "/"
    source = f"Route {meta['namespace']}/{meta['name']}" + ("" if admitted else ", which no router has admitted")
    return [_address(host, bool(spec.get("tls")), path, bool(path) and not rewritten, not admitted, source)]


def _of_ingress(ingress: Mapping[str, Any], service: str) -> list[Address]:
    spec, meta = ingress.get("spec") or {}, ingress["metadata"]
    balancers = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    tls = spec.get("tls") or ()
    source = f"Ingress {meta['namespace']}/{meta['name']}"
    everything = {"paths": [{"backend": spec["defaultBackend"]}]} if spec.get("defaultBackend") else {}
    found = []
    for rule in ({"http": everything}, *(spec.get("rules") or ())):
        for one in (rule.get("http") or {}).get("paths") or ():
            if ((one.get("backend") or {}).get("service") or {}).get("name") != service:
                continue
            secure = any(not entry.get("hosts") or rule.get("host") in entry["hosts"] for entry in tls)
            host = rule.get("host") or _balancer(balancers, secure)
            if host:
                # A pattern, as nginx takes it, may begin with any of these.
                path = "" if one.get("path") in ("/*", "/.*", "/(.*)") else (one.get("path") or "").rstrip("/")
                found.append(_address(host, secure, path, bool(path), not balancers, source))
    return found


def _balancer(balancers: Sequence[Mapping[str, Any]], secure: bool) -> str | None:
    """Where a rule without a host is served: the load balancer's address, with the port if it isn't the usual one."""
    for one in balancers:
        host = one.get("hostname") or one.get("ip")
        if host:
            usual = 443 if secure else 80
            ports = [int(each["port"]) for each in one.get("ports") or ()]
            return str(host) if not ports or usual in ports else f"{host}:{ports[0]}"
    return None


def _address(host: str, secure: bool, path: str, below: bool, unknown: bool, source: str) -> Address:
    return Address(below, unknown, not secure, f"{'https' if secure else 'http'}://{host}{path}", source)


def _project_of(content: str) -> str:
    """The project of a service account's key; "" for anything else."""
    try:
        found = json.loads(content)
    except ValueError:
        return ""
    is_key = isinstance(found, dict) and found.get("type") == "service_account"
    return str(found.get("project_id") or "") if is_key else ""


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""  # a file; none of those that are read here


@contextmanager
def through(port: tunnel.PodPort, parts: Mapping[str, Any], option: str = "") -> Iterator[str]:
    """A DSN to the near end of a tunnel. A DatabaseError in the block says what became of the tunnel too.

    Args:
        parts: of the DSN, for libpq; host and port are the tunnel's.
        option: which option makes the tunnel unnecessary.
    """
    database = _database()
    with port.opened() as folder:
        try:
            yield database.make_dsn(**{**parts, "host": folder, "port": port.port})
        except database.DatabaseError as failure:
            if not port.trouble:
                raise
            # Where it could not begin, the library has nothing to say but that.
            words = port.trouble if port.advice else f"{failure.words}; {port.trouble}"
            way_on = port.advice or failure.advice
            raise ClusterError(failure.attempt, words, f"{way_on}; or give {option}" if option else way_on) from None


def _database() -> Any:
    """Only who needs a database needs its library, which takes its time to load."""
    from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database

    return database
