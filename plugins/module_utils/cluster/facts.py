# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a cluster and a namespace are like, and what stands in the way of a deployment. Reads only.

What can't be read is an error and never "nothing there": somebody would deploy over it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import secrets as randomness
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import removal, secrets, tunnel
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    Cluster,
    ClusterError,
    Rest,
    if_allowed,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.rights import Need, missing
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.rollout import admissions, condition
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database

MANAGED_BY = "app.kubernetes.io/managed-by"
#: The part of a deployment → kind, name, container.
PARTS = {
    "litellm": ("Deployment", "litellm", "litellm"),
    "backend": ("Deployment", "litellm-backend", "backend"),
    "frontend": ("Deployment", "litellm-frontend", "frontend"),
    "postgres": ("StatefulSet", "litellm-postgres", "postgres"),
    "redis": ("Deployment", "litellm-redis", "redis"),
    "mcp": ("Deployment", "litemaas-mcp", "mcp"),
}
NAMES = frozenset(name for _kind, name, _container in PARTS.values())
#: The provider, as the cluster's Infrastructure calls it → StorageClasses that its clusters come with, best first.
STORAGE = {
    "aws": ("gp3-csi",),
    "azure": ("managed-premium",),
    "gcp": ("standard-rwo",),
    "vsphere": ("thin-csi",),
    "openstack": ("standard",),
    "baremetal": ("ocs-", "lvms-"),
    "none": ("ocs-", "lvms-"),
}
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
BACKUPS = "litemaas-backups"
#: As PostgreSQL has them itself.
SCRAM_ROUNDS = 4096
#: Seconds by which the clock of who made a backup may be ahead.
CLOCKS = 300
SYSTEM = re.compile(r"^(kube-.*|openshift(-.*)?|default)$")
#: Option → the role's variable that it comes from.
ROLE = {
    "storage_class": "ocp4_workload_litemaas_postgres_storage_class",
    "cluster_domain": "ocp4_workload_litemaas_cluster_domain",
    "platform": "ocp4_workload_litemaas_platform",
    "allow_foreign": "ocp4_workload_litemaas_allow_foreign_namespace",
}
#: Kinds that are read: name → path in a namespace, below the group.
KINDS = {
    "Deployment": ("apps", "v1", "deployments"),
    "StatefulSet": ("apps", "v1", "statefulsets"),
    "DaemonSet": ("apps", "v1", "daemonsets"),
    "Service": ("", "v1", "services"),
    "ConfigMap": ("", "v1", "configmaps"),
    "PersistentVolumeClaim": ("", "v1", "persistentvolumeclaims"),
    "Ingress": ("networking.k8s.io", "v1", "ingresses"),
    "Route": ("route.openshift.io", "v1", "routes"),
}
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
ROUTES = "route.openshift.io"
#: Server-side apply is a patch; what isn't there yet, it creates.
APPLIED = ("get", "create", "patch")


def needs_of_a_deploy(namespace: str, platform: str, namespace_exists: bool, external: bool = False) -> list[Need]:
    """What a deployment, and one over it, is made and watched with; but for rights to what belongs to the cluster."""
    space = [] if namespace_exists else [Need("create", "", "namespaces"), Need("patch", "", "namespaces")]
    openshift = platform == "openshift"
    edge = (ROUTES, "routes") if openshift else ("networking.k8s.io", "ingresses")
    applied = (
        ("", "configmaps"),
        ("", "services"),
        ("", "serviceaccounts"),
        ("apps", "deployments"),
        ("apps", "statefulsets"),
        ("batch", "jobs"),
        ("networking.k8s.io", "networkpolicies"),
        ("policy", "poddisruptionbudgets"),
        edge,
    )
    # What isn't wanted any more is looked for among all kinds, and deleted where a deploy applies it.
    listed = [(group, plural) for group, _version, plural in KINDS.values() if group != ROUTES or openshift]
    listed += [
        (paths[0].split("/")[1] if paths[0].startswith("apis/") else "", removal.PLURALS.get(kind, f"{kind.lower()}s"))
        for kind, paths in removal.KINDS.items()
    ]
    listed += [("", "pods"), ("", "events"), ("apps", "replicasets")]
    found = [*space, Need("get", "", "namespaces", namespace)]
    found += [Need(verb, *one, namespace) for one in (("", "secrets"), *applied) for verb in APPLIED]
    found += [Need("delete", *one, namespace) for one in applied]
    found += [Need("list", *one, namespace) for one in listed]
    found += [Need("get", "", "persistentvolumeclaims", namespace), Need("get", "", "pods", namespace)]
    found += [Need("get", "", "pods/log", namespace)]
    # Of the backup before a migration, of the check of the password, and of models and branding.
    inside = () if external else ("pods/exec", "pods/portforward")
    found += [Need(verb, "", one, namespace) for one in inside for verb in ("get", "create")]
    found += [Need("create", ROUTES, "routes/custom-host", namespace)] if openshift else []
    return list(dict.fromkeys(found))


@dataclass
class Question:
    """What is asked of a cluster; "" is not given.

    Attributes:
        needs: rights to check instead of those of a deploy; None for those.
        more_needs: rights to check beside.
        given_secrets: names of values that will be given: ``password``, ``master_key``, ``salt_key``.
        external: whether the database is somebody else's.
        host_prefixes: first labels of the names that are wanted.
        oauth_client: name of the OAuthClient that is wanted.
    """

    namespace: str
    storage_class: str = ""
    cluster_domain: str = ""
    platform: str = ""
    provider: str = ""
    needs: Sequence[Need] | None = None
    more_needs: Sequence[Need] = ()
    given_secrets: Sequence[str] = ()
    external: bool = False
    allow_foreign: bool = False
    check_database: bool = True
    host_prefixes: Sequence[str] = ()
    oauth_client: str = ""


# Pure.


def say(option: str) -> str:
    """What to set, under its names in the module and in the role."""
    return f"set {option} (of the role {ROLE[option]})"


def api_versions(discovered: Mapping[str, Any]) -> list[str]:
    """``group/version/Kind`` of an answer in the newer form of discovery; ``v1/Kind`` of the core group."""
    return [
        served(group["metadata"].get("name", ""), version["version"], resource["responseKind"]["kind"])
        for group in discovered["items"]
        for version in group.get("versions") or ()
        for resource in version.get("resources") or ()
        if (resource.get("responseKind") or {}).get("kind")
    ]


def served(group: str, version: str, kind: str) -> str:
    """``group/version/Kind``, or ``v1/Kind`` of the core group."""
    return f"{group}/{version}/{kind}".lstrip("/")


def storage_class(given: str, provider: str, classes: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], str]:
    """The StorageClass to use with how it was found, and the problem where there is none."""
    names = [one["metadata"]["name"] for one in classes]
    there = f"The cluster has {', '.join(sorted(names))}" if names else "The cluster has none"
    if given:
        if given in names:
            return {"name": given, "how": "given"}, ""
        return {"name": "", "how": ""}, f"StorageClass {given} doesn't exist. {there}"
    for wanted in STORAGE.get(provider, ()):
        for name in names:
            if name == wanted or (wanted.endswith("-") and name.startswith(wanted)):
                return {"name": name, "how": "by provider"}, ""
    for one in classes:
        notes = one["metadata"].get("annotations") or {}
        if any(notes.get(key) == "true" for key in DEFAULT_CLASS):
            return {"name": one["metadata"]["name"], "how": "default"}, ""
    return {"name": "", "how": ""}, f"No StorageClass is the default one. {there}: {say('storage_class')}"


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether an object carries our mark."""
    return (found["metadata"].get("labels") or {}).get(MANAGED_BY) == secrets.MANAGER


def is_litemaas(found: Mapping[str, Any]) -> bool:
    """Whether a workload is ours, or one of an older collection: its name, and the label beside it."""
    name = found["metadata"]["name"]
    labels = found["metadata"].get("labels") or {}
    template = (((found.get("spec") or {}).get("template") or {}).get("metadata") or {}).get("labels") or {}
    return is_ours(found) or (name in NAMES and name in (labels.get("app"), template.get("app")))


def bare(found: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """An object without its status, and with its kind, which lists leave out."""
    group, version, _plural = KINDS[kind]
    rest = {key: value for key, value in found.items() if key not in ("status", "apiVersion", "kind")}
    return {"apiVersion": f"{group}/{version}" if group else version, "kind": kind} | rest


def image_of(workload: Mapping[str, Any], container: str) -> str:
    """The image of a container, or of the first one where none has that name."""
    there = workload["spec"]["template"]["spec"]["containers"]
    return str(next((one for one in there if one["name"] == container), there[0]).get("image", ""))


def tag_of(image: str) -> str:
    """The tag of an image; "" without one."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]


def hosts(edges: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The names under which the parts are reached, by the Service behind each Route or Ingress."""
    services = {"litellm": "api", "litellm-backend": "admin", "litellm-frontend": "frontend"}
    found: dict[str, str] = {}
    for edge in edges:
        spec = edge.get("spec") or {}
        target = services.get((spec.get("to") or {}).get("name", ""))
        if target and spec.get("host"):
            found.setdefault(target, spec["host"])
        for rule in spec.get("rules") or ():
            for path in (rule.get("http") or {}).get("paths") or ():
                service = ((path.get("backend") or {}).get("service") or {}).get("name", "")
                if services.get(service) and rule.get("host"):
                    found.setdefault(services[service], rule["host"])
    return found


def is_own_client(found: Mapping[str, Any], namespace: str, ours: Iterable[str]) -> bool:
    """Whether an OAuthClient is this namespace's: marked so, or of an older collection, which gave it its name."""
    labels = found["metadata"].get("labels") or {}
    if is_ours(found):
        return bool(labels.get(removal.WHOSE) == namespace)
    back = {urlsplit(uri).hostname for uri in found.get("redirectURIs") or ()}
    return bool(found["metadata"]["name"] == namespace and back and back <= set(ours))


def taken_hosts(routes: Iterable[Mapping[str, Any]], wanted: Iterable[str], namespace: str) -> list[str]:
    """A sentence for each name that a Route of another namespace has, if the router has given it to that one."""
    others: dict[str, str] = {}
    own = set()
    for route in routes:
        host, place = str((route.get("spec") or {}).get("host", "")), route["metadata"]["namespace"]
        said = {one.get("status", "") for _router, one in admissions(route)}
        if place == namespace:
            own |= {host} if "True" in said else set()
        elif said != {"False"}:
            others.setdefault(host, f"{route['metadata']['name']} in {place}")
    return [
        f"Route {others[host]} has the name {host} already, and the router would reject ours: set another"
        " ocp4_workload_litemaas_…_route_prefix"
        for host in sorted(wanted)
        if host in others and host not in own
    ]


def verifies(stored: str, username: str, password: str) -> bool | None:
    """Whether a password is the one of a stored PostgreSQL verifier; None where that can't be told."""
    if stored.startswith("md5"):
        digest = hashlib.md5((password + username).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(stored, f"md5{digest}")
    match = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", stored)
    if not match or not password.isascii():  # beyond ASCII a password is normalised first
        return None
    stored_key, _server_key = _scram_keys(password, base64.b64decode(match[2]), int(match[1]))
    return hmac.compare_digest(stored_key, base64.b64decode(match[3]))


def scram(password: str) -> str:
    """What PostgreSQL stores of a password: its verifier. Pure, but for its salt."""
    salt = randomness.token_bytes(16)
    keys = _scram_keys(unicodedata.normalize("NFKC", password), salt, SCRAM_ROUNDS)
    shown = [base64.b64encode(one).decode() for one in (salt, *keys)]
    return f"SCRAM-SHA-256${SCRAM_ROUNDS}:{shown[0]}${shown[1]}:{shown[2]}"


def _scram_keys(password: str, salt: bytes, rounds: int) -> tuple[bytes, bytes]:
    """The stored key and the server key of RFC 5802."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client, server = (hmac.new(salted, word, hashlib.sha256).digest() for word in (b"Client Key", b"Server Key"))
    return hashlib.sha256(client).digest(), server


def backups_of(config_map: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The backups that are recorded, newest first. Raises ValueError."""
    found: list[dict[str, Any]] = []
    for text in ((config_map or {}).get("data") or {}).values():
        entries = json.loads(text)
        found += [one for one in (entries if isinstance(entries, list) else [entries]) if isinstance(one, dict)]
    return sorted(found, key=lambda one: str(one.get("time", "")), reverse=True)


def without_backup(
    backups: Sequence[Mapping[str, Any]],
    databases: Collection[str],
    max_age: str,
    now: datetime,
    own_salt_key: bool = True,
) -> str:
    """Why no recorded backup stands in for databases and Secrets that are removed; "" where one does.

    It has to be one backup that is fresh, has each database, and has the key that models' credentials in them are
    encrypted with: that one goes with Secret litellm-secret. What a record doesn't say isn't in the backup.

    Args:
        own_salt_key: whether that is a salt key; otherwise it is the master key.

    Raises:
        ValueError: ``max_age`` is no duration.
    """
    limit = durations.seconds(max_age)
    if not databases:
        return "which databases it has is not known, so no backup can be said to have them"
    incomplete, keyless = [], []
    for one in backups:
        if _age(one, now) > limit:
            continue
        missing = sorted(set(databases) - set(_texts(one.get("databases"))))
        keys = _texts(one.get("keys"))
        if missing:
            incomplete.append(f"the backup of {one['time']} lacks database {', '.join(missing)}")
        elif "salt_key" in keys or ("master_key" in keys and not own_salt_key):
            return ""
        else:
            keyless.append(
                f"the backup of {one['time']} has no {'salt' if own_salt_key else 'master'} key, and the one in Secret"
                f" {secrets.LITELLM} would go: nobody could read the models' credentials in it"
            )
    for reason in (*keyless, *incomplete):
        return reason
    last = next((f"the last is of {one['time']}" for one in backups if one.get("time")), "none is recorded")
    return f"there is no backup of the databases that is younger than {max_age} ({last})"


def _age(backup: Mapping[str, Any], now: datetime) -> float:
    """Seconds since a backup; endless where it doesn't say when, or says a time to come, but for clocks that differ."""
    try:
        age = (now - durations.moment(str(backup.get("time") or ""))).total_seconds()
    except ValueError:
        return math.inf
    return age if age > -CLOCKS else math.inf


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def layout(urls: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Whether both stores are in one database, and the databases' names, by what Secret litemaas-db holds."""
    ours = secrets.Address.of(urls.get(secrets.URL, ""))
    theirs = secrets.Address.of(urls.get(secrets.LITELLM_URL, ""))
    first = urls.get("database") or ours.name
    # An older deployment knows of one URL alone, which both are started with.
    second = urls.get("litellm_database") or theirs.name or first
    if not first:
        return "", {}
    return ("shared" if first == second else "split"), {"litemaas": first, "litellm": second}


# Against the API server.


@dataclass
class Reader:
    """Asks a cluster. One for each question."""

    cluster: Cluster
    question: Question
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client: Rest = self.cluster.rest()

    def read(self) -> dict[str, Any]:
        """Everything; the module's result.

        ``failed`` is in it where the account may not read what has to be known.

        Raises:
            ClusterError: the API server didn't answer, or not all of it.
        """
        asked = self.question
        versions = self._discover()
        platform = self._platform(versions)
        namespace = self.client.find(f"/api/v1/namespaces/{asked.namespace}", "get on namespaces")
        lacking = self._missing_rights(platform, namespace is not None)
        for need in lacking:
            self.problems.append(f"The account lacks a right: {need.sentence()}")
        result: dict[str, Any] = {
            "platform": platform,
            "api_versions": sorted(versions),
            "missing_rights": [need.sentence() for need in lacking],
            "problems": self.problems,
            "notes": self.notes,
        }
        result["provider"] = self.question.provider or (self._provider() if platform == "openshift" else "")
        classes, readable = self._storage_classes()
        chosen, problem = storage_class(asked.storage_class, result["provider"], classes)
        if problem and readable and not asked.external:
            self.problems.append(problem)
        if not readable:
            chosen = {"name": asked.storage_class, "how": "given" if asked.storage_class else ""}
        result["storage_class"] = chosen
        result["storage_classes"] = sorted(one["metadata"]["name"] for one in classes)
        try:
            result |= self._namespace(namespace, versions)
        except ClusterError as failure:
            if failure.status != 403:
                raise
            lacks = f" Missing rights: {', '.join(result['missing_rights'])}" if lacking else ""
            return result | {"failed": True, "msg": f"{failure}.{lacks}", "problems": [*self.problems, str(failure)]}
        result["cluster_domain"] = own = self._own_domain() if platform == "openshift" else ""
        result["domain"] = asked.cluster_domain or own
        if not result["domain"] and not (platform != "openshift" and result["deployment"]["hosts"]):
            self.problems.append(f"The domain of the cluster's names is not known: {say('cluster_domain')}")
        wanted = {f"{prefix}.{result['domain']}" for prefix in asked.host_prefixes if result["domain"]}
        if platform == "openshift":
            self._check_hosts(wanted)
            self._check_oauth_client(wanted | set(result["deployment"]["hosts"].values()))
        result["msg"] = self._sentence(result)
        return result

    def _discover(self) -> set[str]:
        found: set[str] = set()
        newer = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
        accept = ",".join([*(newer.format(version) for version in ("v2", "v2beta1")), "application/json"])
        for path in ("/api", "/apis"):
            answer = self.client.request("GET", path, accept=accept)
            if answer.get("kind") == "APIGroupDiscoveryList":
                found.update(api_versions(answer))
                continue
            # API servers before 1.27 are asked for one group after the other.
            places = [("", version) for version in answer.get("versions") or ()]
            if "groups" in answer:
                places = [
                    (group["name"], version["version"]) for group in answer["groups"] for version in group["versions"]
                ]
            for group, name in places:
                try:
                    kinds = self.client.get(f"{path}/{group}/{name}" if group else f"{path}/{name}")["resources"]
                except ClusterError as failure:
                    # A group behind a Service that is down is nobody's but its own.
                    if failure.status not in (404, 503):
                        raise
                    self.notes.append(f"API group {group}/{name} doesn't answer: {failure.words}")
                    continue
                found.update(served(group, name, one["kind"]) for one in kinds if "/" not in one["name"])
        return found

    def _platform(self, versions: Iterable[str]) -> str:
        has_routes = f"{ROUTES}/v1/Route" in versions
        asked = self.question.platform
        if asked == "openshift" and not has_routes:
            self.problems.append(
                "The cluster has no Routes (route.openshift.io/v1), so it is no OpenShift: " + say("platform")
            )
        return asked or ("openshift" if has_routes else "kubernetes")

    def _missing_rights(self, platform: str, namespace_exists: bool) -> list[Need]:
        asked = self.question
        default = needs_of_a_deploy(asked.namespace, platform, namespace_exists, asked.external)
        needs = [*(default if asked.needs is None else asked.needs), *asked.more_needs]
        return missing(self.client, needs, asked.namespace)

    def _look(self, path: str, rights: str) -> tuple[dict[str, Any], ClusterError | None]:
        """What need not be there, nor be ours to read: {} then, and in the second case the refusal."""
        found, refusal = if_allowed(lambda: self.client.find(path, rights))
        return found or {}, refusal

    def _provider(self) -> str:
        path = "/apis/config.openshift.io/v1/infrastructures/cluster"
        found, refusal = self._look(path, "get on infrastructures.config.openshift.io")
        if refusal:
            self.notes.append(f"The cluster's provider is not known: {refusal}")
        status = found.get("status") or {}
        return str((status.get("platformStatus") or {}).get("type") or status.get("platform") or "").lower()

    def _check_hosts(self, wanted: set[str]) -> None:
        """Whether another namespace has a name that is wanted: its Route is older, so the router rejects ours."""
        if not wanted:
            return
        # Only those who may look at every namespace can know it before.
        found, _refusal = self._look(f"/apis/{ROUTES}/v1/routes", "list on routes")
        self.problems += taken_hosts(found.get("items") or [], wanted, self.question.namespace)

    def _check_oauth_client(self, ours: set[str]) -> None:
        """Whether the OAuthClient of the wanted name is somebody else's."""
        name = self.question.oauth_client
        if not name:
            return
        path = f"/apis/oauth.openshift.io/v1/oauthclients/{quote(name)}"
        found, refusal = self._look(path, "get on oauthclients.oauth.openshift.io")
        if refusal:
            self.problems.append(f"Whose OAuthClient {name} is can't be read: {refusal}")
        if found and not is_own_client(found, self.question.namespace, ours):
            self.problems.append(
                f"OAuthClient {name} is somebody else's, and would be taken over: set another"
                " ocp4_workload_litemaas_oauth_client_id"
            )

    def _own_domain(self) -> str:
        """The domain of OpenShift's own names, its login's among them; "" where it isn't known."""
        path = "/apis/config.openshift.io/v1/ingresses/cluster"
        found, refusal = self._look(path, "get on ingresses.config.openshift.io")
        if refusal:
            self.notes.append(f"The cluster's own domain is not known: {refusal}")
        return str((found.get("spec") or {}).get("domain") or "")

    def _storage_classes(self) -> tuple[list[dict[str, Any]], bool]:
        path, right = "/apis/storage.k8s.io/v1/storageclasses", "list on storageclasses.storage.k8s.io"
        found, refusal = if_allowed(lambda: self.client.get(path, right))
        if refusal and (self.question.storage_class or self.question.external):
            self.notes.append(f"Whether the StorageClass exists is not known: {refusal}")
        elif refusal:
            self.problems.append(
                f"The cluster's StorageClasses can't be read ({refusal.words}): {say('storage_class')}"
            )
        if found is None:
            return [], False
        return list(found["items"]), True

    def _list(self, kind: str, versions: Iterable[str]) -> list[dict[str, Any]]:
        group, version, plural = KINDS[kind]
        if served(group, version, kind) not in versions:
            return []
        base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        rights = f"list on {plural}{'.' if group else ''}{group}"
        return list(self.client.get(f"{base}/namespaces/{self.question.namespace}/{plural}", rights)["items"])

    def _namespace(self, namespace: Mapping[str, Any] | None, versions: set[str]) -> dict[str, Any]:
        """Everything that is in the namespace. Raises ClusterError."""
        name = self.question.namespace
        system = bool(SYSTEM.match(name))
        if system:
            self.problems.append(f"Namespace {name} is the cluster's own: deploy into another one")
        phase = str(((namespace or {}).get("status") or {}).get("phase", ""))
        if phase == "Terminating":
            self.problems.append(f"Namespace {name} is being deleted: wait until it is gone, and run again")
        if namespace is None:
            nothing = {"name": name, "exists": False, "ours": False, "made": False, "foreign": False}
            return {
                "namespace": nothing | {"others": [], "phase": "", "system": system},
                "deployment": _deployment({}, {}, {}, [], {}),
                "live": {},
                "secrets": {},
                "volumes": [],
                "backups": [],
            }
        there = {kind: self._list(kind, versions) for kind in KINDS}
        mine = {
            (kind, one["metadata"]["name"]): one
            for kind in WORKLOADS
            for one in there[kind]
            if is_litemaas(one) and one["metadata"]["name"] in NAMES
        }
        others = sorted(
            f"{kind}/{one['metadata']['name']}" for kind in WORKLOADS for one in there[kind] if not is_litemaas(one)
        )
        notes = namespace["metadata"].get("annotations") or {}
        made = notes.get(secrets.CREATED) == "true"
        ours = made or is_ours(namespace) or any(is_ours(one) for one in mine.values())
        taken = [one for one in others if one.partition("/")[2] in NAMES]
        if taken:
            self.problems.append(
                f"{', '.join(taken)} in {name} bears a name of ours, but is somebody else's: deploy into another"
                " namespace"
            )
        elif others and not mine and not ours and not self.question.allow_foreign:
            shown = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
            self.problems.append(
                f"Namespace {name} isn't ours: it has {shown}. Deploy into another one, or {say('allow_foreign')}"
            )
        volumes = [one["metadata"]["name"] for one in there["PersistentVolumeClaim"] if secrets.is_volume(one)]
        stored = {one: self.client.find(secrets.path(name, one), "get on secrets") for one in secrets.NAMES}
        values = {one: secrets.decoded(secret) for one, secret in stored.items()}
        running = secrets.running_values(self.client, name, mine.get(("Deployment", "litellm")))
        deployed = ("Deployment", "litellm") in mine
        self.problems += secrets.lost(
            values,
            running or ({"": ""} if deployed else {}),
            self.question.given_secrets,
            () if self.question.external else volumes,
        )
        if self.question.check_database and not self.question.external:
            self._check_password(values[secrets.DATABASE], mine.get(("StatefulSet", secrets.POSTGRES)))
        recorded = next((one for one in there["ConfigMap"] if one["metadata"]["name"] == BACKUPS), None)
        try:
            backups = backups_of(recorded)
        except ValueError:
            raise ClusterError(
                f"Read ConfigMap {BACKUPS} in {name}", "it holds something else than JSON", "Put it right, or delete it"
            ) from None
        return {
            "namespace": {
                "name": name,
                "exists": True,
                "ours": ours,
                "made": made,
                "foreign": bool(others),
                "others": others,
                "phase": phase,
                "system": system,
            },
            "deployment": _deployment(
                mine, values, running, self._hpas(versions), hosts([*there["Route"], *there["Ingress"]])
            ),
            "live": {
                f"{kind}/{one['metadata']['name']}": bare(one, kind)
                for kind in there
                if kind != "ConfigMap"
                for one in there[kind]
                if is_litemaas(one) or one["metadata"]["name"] in NAMES or one["metadata"]["name"] in volumes
            },
            "secrets": {one: sorted(values[one]) for one, secret in stored.items() if secret},
            "volumes": sorted(volumes),
            "backups": backups,
        }

    def _hpas(self, versions: Iterable[str]) -> list[str]:
        """The Deployments whose replicas an autoscaler sets. Version 1 has all that this needs, and is everywhere."""
        if "autoscaling/v1/HorizontalPodAutoscaler" not in versions:
            return []
        found = self.client.get(
            f"/apis/autoscaling/v1/namespaces/{self.question.namespace}/horizontalpodautoscalers",
            "list on horizontalpodautoscalers.autoscaling",
        )["items"]
        targets = [one["spec"]["scaleTargetRef"] for one in found]
        return sorted({one["name"] for one in targets if one["kind"] == "Deployment"})

    def _check_password(self, values: Mapping[str, str], postgres: Mapping[str, Any] | None) -> None:
        """Whether the database's password is the one in its Secret, where that can be tried.

        A forwarded connection is let in without a password, so what the server has stored is compared.
        """
        user, password = values.get("username"), values.get("password")
        if not (postgres and user and password):
            return
        name = self.question.namespace
        unknown = "Whether the database's password is the one in its Secret was not checked"
        selector = "app=" + ((postgres["spec"]["selector"].get("matchLabels") or {}).get("app") or secrets.POSTGRES)
        try:
            pods = self.client.get(f"/api/v1/namespaces/{name}/pods", "list on pods", labelSelector=selector)["items"]
            ready = [one for one in pods if condition(one, "Ready").get("status") == "True"]
            if not ready:
                self.notes.append(f"{unknown}: no pod of {secrets.POSTGRES} is ready")
                return
            # In its own pod the database lets us in without a password, or asks for the one that is wrong.
            pod, way_on = ready[0]["metadata"]["name"], f"let {secrets.ROTATION} set a new one in both"
            stored = self._stored_password(pod, values)
        except (ClusterError, database.DatabaseError) as failure:
            if "password authentication failed" in str(failure):
                stored = "md5"  # nobody's
                way_on = f"set the database's to it (ALTER ROLE … PASSWORD …, as its administrator in pod {pod})"
            else:
                self.notes.append(f"{unknown}: {failure}")
                return
        if stored is None:
            self.notes.append(f"{unknown}: its user may not read what is stored of it (pg_authid)")
        elif verifies(stored, user, password) is False:
            self.problems.append(
                f"The password in Secret {secrets.DATABASE} in {name} is not the one of user {user} in the database:"
                f" restore the Secret from its backup, or {way_on}, and run again"
            )

    def _stored_password(self, pod: str, values: Mapping[str, str]) -> str | None:
        port = tunnel.PodPort(self.cluster.api(), self.question.namespace, pod)
        with port.opened() as folder:
            dsn = database.make_dsn(
                host=folder,
                port=port.port,
                user=values["username"],
                password=values["password"],
                dbname=values.get("database") or "postgres",
                sslmode="disable",
                connect_timeout=5,
            )
            try:
                connection = database.connect(dsn, option="database")
            except database.DatabaseError as failure:
                if port.trouble:
                    raise ClusterError("Reach the database", port.trouble) from None
                raise failure
            try:
                with connection.transaction("Read the stored password", read_only=True, keep=False) as cursor:
                    cursor.execute("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')")
                    if not cursor.fetchone()[0]:
                        return None
                    cursor.execute("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = current_user")
                    row = cursor.fetchone()
                    return str(row[0]) if row and row[0] else None
            finally:
                with suppress(database.DatabaseError):
                    connection.close()

    def _sentence(self, result: Mapping[str, Any]) -> str:
        deployment, namespace = result["deployment"], result["namespace"]
        said = [f"{result['platform']}{' on ' + result['provider'] if result['provider'] else ''}"]
        where = f"in {namespace['name']}"
        if not namespace["exists"]:
            said.append(f"namespace {namespace['name']} doesn't exist")
        elif deployment["exists"]:
            whose = "ours" if deployment["ours"] else "made by something else, can be adopted"
            said.append(f"LiteMaaS {deployment['version'] or 'of unknown version'} {where} ({whose})")
        else:
            said.append(f"no LiteMaaS {where}")
        said.append(f"{len(self.problems)} problems" if self.problems else "nothing in the way of a deployment")
        return ", ".join(said)


def _deployment(
    mine: Mapping[tuple[str, str], Mapping[str, Any]],
    values: secrets.Values,
    running: Mapping[str, str],
    hpas: list[str],
    reached: Mapping[str, str],
) -> dict[str, Any]:
    """The deployment that is there, in short."""
    parts = {part: mine.get((kind, name)) for part, (kind, name, _container) in PARTS.items()}
    images = {part: image_of(one, PARTS[part][2]) for part, one in parts.items() if one}
    kind, databases = layout(values.get(secrets.DATABASE, {}))
    ours = bool(mine) and all(is_ours(one) for one in mine.values())
    salt = secrets.SALT in values.get(secrets.LITELLM, {}) or bool(running.get(secrets.SALT))
    return {
        "exists": bool(mine),
        "ours": ours,
        "adoptable": bool(mine) and not ours,
        "version": tag_of(images.get("backend", "")),
        "images": images,
        "replicas": {part: one["spec"].get("replicas", 1) for part, one in parts.items() if one},
        "hpas": hpas,
        "layout": kind,
        "databases": databases,
        "salt_key": salt,
        "hosts": dict(reached),
    }
