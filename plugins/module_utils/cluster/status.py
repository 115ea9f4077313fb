# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a namespace's objects say of a running LiteMaaS: pods, routes, images, logs, backups, backend, Redis.

Nothing is written. What can't be read of a part goes into its list of errors, in the API server's words, with the right
that the account needs; the rest is there all the same.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, tunnel
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.facts import BACKUPS, backups_of, tag_of
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.rollout import (
    admissions,
    containers,
    hidden_texts,
    parsed,
    pod_containers,
    pod_trouble,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import redact
from ansible_collections.rhpds.litemaas.plugins.module_utils.redis import (
    Address,
    RedisError,
    connect,
    keyspace,
    socket_of,
)

BACKEND, REDIS = "litellm-backend", "litellm-redis"
BACKEND_SECRET, ADMIN_KEY = "backend-secret", "ADMIN_API_KEY"
BACKEND_PORT, REDIS_PORT = 8080, 6379
#: What LiteMaaS's backend logs when it couldn't reach its database at start, and the start of the ids that it makes up.
MOCK_WORDS, MOCK_ID = "using mock data", "mock-"
#: Bytes of a log's beginning: what a backend says at its start.
LOG_START = 1 << 18
#: Characters of a line of a log.
LINE = 500
#: Seconds to wait for a server behind a pod's port.
TIMEOUT = 15
#: Bytes of an answer that is still read.
LONGEST = 1 << 22
#: What is attempted where a part is made of several kinds of objects.
ALL = "Read the namespace's objects"

Errors = list[str]
#: Opens a connection to a server.
Opener = Callable[[], socket.socket]


class NothingRead(ClusterError):
    """Of a part of which nothing can be read, for what is in its list of errors already.

    Attributes:
        blind: whether each of them says what this run lacks, and nothing of the server.
    """

    def __init__(self, attempt: str, errors: Errors, blind: bool = True) -> None:
        super().__init__(attempt, "; ".join(errors))
        self.blind = blind


class Objects:
    """A namespace's objects, each kind read once, however many parts look at it."""

    def __init__(self, rest: Rest, name: str) -> None:
        self.rest, self.name = rest, name
        self._read: dict[str, list[dict[str, Any]] | ClusterError] = {}

    def refuse_nowhere(self) -> None:
        """Raises ClusterError where there is no such namespace; an account that may not look can't tell."""
        try:
            there = self.rest.find(f"/api/v1/namespaces/{quote(self.name)}", "get on namespaces")
        except ClusterError as failure:
            if failure.status != 403:
                raise
            return
        if there is None:
            raise ClusterError(
                f"Look into namespace {self.name}",
                "there is no such namespace",
                "Check namespace, and which cluster the kubeconfig or K8S_AUTH_… mean",
                404,
            )

    def listed(self, kind: str, errors: Errors | None = None) -> list[dict[str, Any]]:
        """All objects of a kind, such as ``deployments.apps``; none where the cluster doesn't have the kind.

        Args:
            errors: gets what stands in the way; without it that is raised as ClusterError.
        """
        if kind not in self._read:
            resource, _dot, group = kind.partition(".")
            api = f"/apis/{group}/v1" if group else "/api/v1"
            try:
                found = self.rest.find(f"{api}/namespaces/{quote(self.name)}/{resource}", f"list on {kind}")
                self._read[kind] = list((found or {}).get("items") or ())
            except ClusterError as failure:
                self._read[kind] = failure
        known = self._read[kind]
        if isinstance(known, ClusterError):
            if errors is None:
                raise known
            errors.append(str(known))
            return []
        return known

    def of_app(self, app: str) -> list[dict[str, Any]]:
        """The pods of a part of LiteMaaS, as its label says. Raises ClusterError."""
        found = [one for one in self.listed("pods") if (one["metadata"].get("labels") or {}).get("app") == app]
        return sorted(found, key=lambda one: str(one["metadata"]["name"]))

    def secret(self, name: str) -> dict[str, str] | None:
        """A Secret's texts; None where there is none. Raises ClusterError."""
        path = f"/api/v1/namespaces/{quote(self.name)}/secrets/{name}"
        found = self.rest.find(path, f"get on secrets (at least {name})")
        if found is None:
            return None
        return {
            key: base64.b64decode(value).decode("utf-8", "replace") for key, value in (found.get("data") or {}).items()
        }


# ---- pods ----


def pods(objects: Objects, errors: Errors) -> dict[str, Any]:
    """Workloads with their numbers of pods, and every pod that hasn't done its work already."""
    workloads = []
    for kind, resource in (("Deployment", "deployments.apps"), ("StatefulSet", "statefulsets.apps")):
        workloads += [_workload(kind, one) for one in objects.listed(resource, errors)]
    found = [_pod(one, objects.rest.now) for one in objects.listed("pods", errors)]
    if len(errors) == 3:
        raise NothingRead(ALL, errors)
    return {
        "workloads": sorted(workloads, key=lambda one: one["name"]),
        "pods": sorted((one for one in found if one["phase"] != "Succeeded"), key=lambda one: one["name"]),
    }


def _workload(kind: str, found: Mapping[str, Any]) -> dict[str, Any]:
    wanted = (found.get("spec") or {}).get("replicas", 1)
    return {
        "kind": kind,
        "name": found["metadata"]["name"],
        "ready": (found.get("status") or {}).get("readyReplicas", 0),
        "wanted": 1 if wanted is None else wanted,
    }


def _pod(pod: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    status, meta = pod.get("status") or {}, pod["metadata"]
    restarts, last, reason = 0, "", ""
    for container in containers(pod):
        restarts += container.get("restartCount", 0)
        ended = (container.get("lastState") or {}).get("terminated") or {}
        if str(ended.get("finishedAt") or "") > last:
            last, reason = str(ended["finishedAt"]), str(ended.get("reason") or "")
    return {
        "name": meta["name"],
        "app": (meta.get("labels") or {}).get("app", ""),
        "phase": status.get("phase", "Unknown"),
        "ready": discover.is_ready(pod),
        "restarts": restarts,
        "last_restart": last or None,
        "last_restart_seconds": int((now - parsed(last)).total_seconds()) if last else None,
        "last_restart_reason": reason,
        "started": status.get("startTime"),
        "trouble": pod_trouble(pod),
    }


# ---- routes ----


def routes(objects: Objects, errors: Errors) -> dict[str, Any]:
    """Where people come in: Routes and Ingresses, and the Service behind each."""
    found = [*_routes(objects.listed("routes.route.openshift.io", errors))]
    found += _ingresses(objects.listed("ingresses.networking.k8s.io", errors))
    if len(errors) == 2:
        raise NothingRead(ALL, errors)
    return {"routes": sorted(found, key=lambda one: (one["service"], one["name"]))}


def _routes(listed: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in listed:
        spec, ingress = one.get("spec") or {}, (one.get("status") or {}).get("ingress") or ()
        said = [each for _router, each in admissions(one) if each]
        host = spec.get("host") or next((place.get("host") for place in ingress if place.get("host")), "")
        admitted = any(each["status"] == "True" for each in said)
        refused = next(
            (str(each.get("message") or each.get("reason") or "") for each in said if each["status"] == "False"), ""
        )
        scheme = "https" if spec.get("tls") else "http"
        yield {
            "kind": "Route",
            "name": one["metadata"]["name"],
            "url": f"{scheme}://{host}{(spec.get('path') or '').rstrip('/')}" if host else "",
            "service": (spec.get("to") or {}).get("name", ""),
            "admitted": admitted,
            "trouble": "" if admitted else refused or "no router has admitted it",
        }


def _ingresses(listed: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in listed:
        spec = one.get("spec") or {}
        balancers = ((one.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        everywhere = next((place.get("hostname") or place.get("ip") for place in balancers), "")
        secured = {host for entry in spec.get("tls") or () for host in entry.get("hosts") or ("",)}
        default = {"http": {"paths": [{"backend": spec["defaultBackend"]}]}} if spec.get("defaultBackend") else {}
        for rule in (default, *(spec.get("rules") or ())):
            for path in (rule.get("http") or {}).get("paths") or ():
                host = rule.get("host") or everywhere or ""
                scheme = "https" if secured & {rule.get("host", ""), ""} else "http"
                yield {
                    "kind": "Ingress",
                    "name": one["metadata"]["name"],
                    "url": f"{scheme}://{host}{(path.get('path') or '').rstrip('/')}" if host else "",
                    "service": ((path.get("backend") or {}).get("service") or {}).get("name", ""),
                    "admitted": bool(balancers),
                    "trouble": "" if balancers else "no load balancer has taken it up",
                }


# ---- images ----


def images(objects: Objects, errors: Errors) -> dict[str, Any]:
    """What runs, and where an init container or a pod is of another version than it should be."""
    found, mismatches = [], []
    running = objects.listed("pods", errors)
    for resource in ("deployments.apps", "statefulsets.apps"):
        for one in objects.listed(resource, errors):
            name, template = one["metadata"]["name"], one["spec"]["template"]
            main = template["spec"]["containers"][0]
            for kind in ("initContainers", "containers"):
                for container in template["spec"].get(kind) or ():
                    image = str(container.get("image") or "")
                    entry = {"workload": name, "container": container["name"], "init": kind == "initContainers"}
                    found.append({**entry, "image": image, "tag": tag_of(image)})
                    if entry["init"] and _other_version(image, str(main.get("image") or "")):
                        mismatches.append({**entry, "image": image, "wanted": main["image"]})
            mismatches += _left_behind(name, template, running)
    if len(errors) == 3:
        raise NothingRead(ALL, errors)
    return {"images": found, "mismatches": mismatches}


def _other_version(image: str, other: str) -> bool:
    """Whether two images are of the same name and not the same: an init container copies the assets of its version."""
    return _name_of(image) == _name_of(other) and image.rpartition("/")[2] != other.rpartition("/")[2]


def _name_of(image: str) -> str:
    """The last part of an image's name: a mirror has the same image under another host."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _left_behind(
    name: str, template: Mapping[str, Any], running: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Pods of a workload that run another image than it says now."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    wanted = {one["name"]: one.get("image") for one in template["spec"]["containers"]}
    for pod in running:
        theirs = pod["metadata"].get("labels") or {}
        done = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if not labels or done or any(theirs.get(key) != value for key, value in labels.items()):
            continue
        for one in pod["spec"]["containers"]:
            if one["name"] in wanted and one.get("image") != wanted[one["name"]]:
                entry = {"workload": name, "pod": pod["metadata"]["name"], "container": one["name"], "init": False}
                yield {**entry, "image": one.get("image"), "wanted": wanted[one["name"]]}


# ---- logs, backups ----


def logs(objects: Objects, errors: Errors, lines: int, apps: Sequence[str]) -> dict[str, Any]:
    """The last lines of each container's log, without the values of the Secrets that it has."""
    found = []
    for app in apps:
        for pod in objects.of_app(app):
            name = pod["metadata"]["name"]
            hidden = hidden_texts(objects.rest, objects.name, pod)
            if hidden is None:
                errors.append(
                    f"The log of pod {name} is not shown, as the Secrets that would have to be hidden in it can't be"
                    " read. The account needs get on secrets"
                )
                continue
            for container in pod_containers({"spec": {"containers": pod["spec"]["containers"]}}):
                try:
                    text = _log(objects, name, container["name"], tailLines=str(lines))
                except ClusterError as failure:
                    errors.append(str(failure))
                    continue
                shown = [redact(line, hidden)[:LINE] for line in text.splitlines()[-lines:]]
                found.append({"pod": name, "container": container["name"], "lines": shown})
    if errors and not found:
        raise NothingRead("Read the logs", errors)
    return {"logs": found}


def _log(objects: Objects, pod: str, container: str, **query: str) -> str:
    path = f"/api/v1/namespaces/{quote(objects.name)}/pods/{quote(pod)}/log"
    return objects.rest.text(path, "get on pods/log", container=container, **query)


def backups(objects: Objects) -> dict[str, Any]:
    """The backups that the namespace knows of, newest first. Raises ClusterError."""
    path = f"/api/v1/namespaces/{quote(objects.name)}/configmaps/{BACKUPS}"
    found = objects.rest.find(path, "get on configmaps")
    try:
        recorded = backups_of(found)
    except ValueError:
        raise ClusterError(
            f"Read ConfigMap {BACKUPS} in {objects.name}", "it holds something else than JSON", "Put it right"
        ) from None
    known = ("time", "file", "size", "databases")
    return {"backups": [{key: one.get(key) for key in known} for one in recorded]}


# ---- LiteMaaS's backend ----


#: Stands for a pod's name.
_POD = "\0"


def backend(objects: Objects, errors: Errors, api: Callable[[], Any]) -> dict[str, Any]:
    """Each backend pod's own word on its health, and whether it serves made-up data, whatever its health check says.

    Args:
        api: see :meth:`~.client.Cluster.api`.
    """
    found = []
    #: An error without its pod's name -> the pods that have it: the API server's words are long.
    failed: dict[str, list[str]] = {}
    try:
        key = (objects.secret(BACKEND_SECRET) or {}).get(ADMIN_KEY, "")
    except ClusterError as failure:
        key = ""
        errors.append(str(failure))
    there = objects.of_app(BACKEND)
    if not there:
        raise ClusterError(
            f"Look at LiteMaaS's backend in {objects.name}", f"no pod has the label app={BACKEND}", "Deploy it"
        )
    for pod in there:
        name = pod["metadata"]["name"]
        entry = {"pod": name, "ready": discover.is_ready(pod), "health": "", "mock": None, "how": ""}
        found.append(entry)
        try:
            if MOCK_WORDS in _log(objects, name, _backend_container(pod), limitBytes=str(LOG_START)).lower():
                entry.update(mock=True, how="its log says so")
        except ClusterError as failure:
            failed.setdefault(str(failure).replace(name, _POD), []).append(name)
        if not entry["ready"]:
            continue
        port = tunnel.PodPort(api(), objects.name, name, _port_of(pod))
        try:
            with through(port) as opener:
                entry.update({"health": entry["health"], **ask_backend(opener, key, bool(entry["mock"]))})
        except ClusterError as failure:
            failed.setdefault(str(failure).replace(name, _POD), []).append(name)
    for words, names in failed.items():
        text = words.replace(_POD, names[0])
        errors.append(f"{text.rstrip('.')} (also for {', '.join(names[1:])})" if names[1:] else text)
    return {"backends": found}


def ask_backend(opener: Opener, key: str, known_mock: bool = False) -> dict[str, Any]:
    """What one backend says. Raises ClusterError."""
    answers: dict[str, Any] = {}
    status, _body = _get(opener, "/api/v1/health/ready", "")
    answers["health"] = f"HTTP {status}"
    if known_mock or not key:
        return answers
    status, body = _get(opener, "/api/v1/admin/users?limit=1", key)
    if status == 200:
        made_up = has_mock_id(body)
        answers.update(
            mock=made_up, how="it lists users that nobody is" if made_up else "it lists users of its database"
        )
    else:
        answers["how"] = f"not known: its list of users answers HTTP {status}"
    return answers


def has_mock_id(body: Any) -> bool:
    """Whether something in an answer of the backend is made up, as it shows it when it has no database."""
    if isinstance(body, Mapping):
        return str(body.get("id") or "").startswith(MOCK_ID) or any(has_mock_id(one) for one in body.values())
    return isinstance(body, list) and any(has_mock_id(one) for one in body)


def _backend_container(pod: Mapping[str, Any]) -> str:
    names = [one["name"] for one in pod["spec"]["containers"]]
    return "backend" if "backend" in names else str(names[0])


def _port_of(pod: Mapping[str, Any]) -> int:
    name = _backend_container(pod)
    ports = next((one.get("ports") for one in pod["spec"]["containers"] if one["name"] == name), None) or ()
    return int(ports[0]["containerPort"]) if ports else BACKEND_PORT


def _get(opener: Opener, path: str, key: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
    try:
        connection.sock = opener()
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        data = answer.read(LONGEST)
    except (OSError, http.client.HTTPException) as failure:
        raise ClusterError(
            f"GET {path.partition('?')[0]} of LiteMaaS's backend", f"{type(failure).__name__}: {failure}"
        ) from None
    finally:
        connection.close()
    try:
        return answer.status, json.loads(data)
    except ValueError:
        return answer.status, None


@contextmanager
def through(port: tunnel.PodPort) -> Iterator[Opener]:
    """Connections to a pod's port. An error in the block says what became of the way there too."""
    with port.opened() as folder:

        def opener() -> socket.socket:
            near = socket.socket(socket.AF_UNIX)
            near.settimeout(TIMEOUT)
            near.connect(socket_of(folder, port.port))
            return near

        try:
            yield opener
        except ClusterError as failure:
            if not port.trouble:
                raise
            raise ClusterError(failure.attempt, f"{failure.words}; {port.trouble}", port.advice) from None


# ---- Redis ----


def redis(objects: Objects, cluster: Cluster) -> dict[str, Any]:
    """What the deployment's Redis says of itself. Raises ClusterError, RedisError."""
    secret = objects.secret(REDIS)
    if secret is None:
        # Older deployments have it without a password, and so without a Secret.
        path = f"/api/v1/namespaces/{quote(objects.name)}/services/{REDIS}"
        if objects.rest.find(path, "get on services") is None:
            return {"there": False}
    given = secret or {}
    number = given.get("port") or ""
    address = Address(
        given.get("host") or REDIS, int(number) if number.isdigit() else REDIS_PORT, password=given.get("password", "")
    )
    port = discover.Namespace(cluster, objects.name).pod_port(address.host, address.port, "", "Redis")
    if port is None:
        return redis_at(address)
    with port.opened() as folder:
        try:
            return redis_at(replace(address, path=socket_of(folder, port.port)))
        except RedisError as failure:
            if not port.trouble:
                raise
            raise ClusterError(f"Reach Redis in {port.name}", f"{failure}; {port.trouble}", port.advice) from None


def redis_at(address: Address, validate_certs: bool = True, ca_path: str | None = None) -> dict[str, Any]:
    """Version, memory and number of keys of a Redis. Raises RedisError."""
    with connect(address, validate_certs, ca_path) as server:
        lines = str(server.command("INFO") or "").splitlines()
    info = dict(one.split(":", 1) for one in lines if ":" in one and not one.startswith("#"))

    def number(name: str) -> int:
        text = info.get(name, "").strip()
        return int(text) if text.isdigit() else 0

    return {
        "there": True,
        "version": info.get("redis_version", "").strip(),
        "memory_bytes": number("used_memory"),
        "max_memory_bytes": number("maxmemory"),
        "keys": sum(keyspace("\n".join(lines)).values()),
        "clients": number("connected_clients"),
        "evicted_keys": number("evicted_keys"),
        "uptime_seconds": number("uptime_in_seconds"),
    }
