# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets that are mounted into a container of a Deployment: what is there, what to apply, whether the pods have it.

Server-side apply replaces all that its field manager applied before. So whatever this manager owns already is read from
``managedFields`` and applied again beside what is new. What goes is taken away by a merge patch instead, as another
manager may own the same field too, and would keep it alive. Both name the version that they were worked out from, so
that the API server refuses them (409) where somebody else was quicker: they would drop what he has applied.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    Cluster,
    ClusterError,
    library,
    spoken,
)

#: Field manager of what is applied here.
MANAGER = "rhpds.litemaas.vertex"
#: Pod template annotations, one a volume: checksum of the file in it, so that a new file makes new pods.
CHECKSUM = "vertex.rhpds.litemaas/"
#: Google's libraries read the path of the key from it where they are given none.
FALLBACK = "GOOGLE_APPLICATION_CREDENTIALS"
RIGHTS = "get and patch on deployments.apps"
APPLY = "application/apply-patch+yaml"
MERGE = "application/strategic-merge-patch+json"
#: Seconds that one pod may take to answer, and between two looks.
EXEC_TIMEOUT = 30
POLL = 2
_HASH = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
_DIGEST = re.compile(r"\\?([0-9a-f]{64})\b")
#: sha256sum is in every image with a shell; LiteLLM is Python, so that is there where it isn't.
HASHERS = (("sha256sum",), ("python3", "-c", _HASH), ("python", "-c", _HASH))


@dataclass(frozen=True)
class Mount:
    """A Secret in a container.

    Attributes:
        folder: where it is mounted.
        secret: its name; "" where the volume is no Secret.
        sub_path: a single file of it, which Kubernetes never brings up to date.
    """

    folder: str
    volume: str
    secret: str
    read_only: bool = True
    sub_path: str = ""


@dataclass
class Wanted:
    """What to apply and what to take away, both by volume."""

    mounts: dict[str, Mount] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    gone: dict[str, Mount] = field(default_factory=dict)
    #: Mounts of ours that a new one stands in for, by folder.
    moved: dict[str, Mount] = field(default_factory=dict)
    #: Path for :data:`FALLBACK`; "" takes it away, None leaves it as it is.
    fallback: str | None = None


class Workload:
    """A container of a Deployment as it is.

    Args:
        deployment: the object.
        container: the container's name.
    """

    def __init__(self, deployment: Mapping[str, Any], container: str) -> None:
        self.name = str(deployment["metadata"]["name"])
        self._version = str(deployment["metadata"].get("resourceVersion") or "")
        self.container = container
        self._object = deployment
        template = deployment["spec"]["template"]
        self.annotations: dict[str, str] = dict(template.get("metadata", {}).get("annotations") or {})
        self._volumes: dict[str, Any] = {one["name"]: one for one in template["spec"].get("volumes") or ()}
        self._containers: list[dict[str, Any]] = [
            *(template["spec"].get("containers") or ()),
            *(template["spec"].get("initContainers") or ()),
        ]

    @property
    def _own(self) -> dict[str, Any]:
        return next((one for one in self._containers if one["name"] == self.container), {})

    @property
    def containers(self) -> list[str]:
        """Names of its containers."""
        return [one["name"] for one in self._object["spec"]["template"]["spec"].get("containers") or ()]

    @property
    def replicas(self) -> int:
        """How many pods it shall have."""
        found = self._object["spec"].get("replicas")
        return 1 if found is None else int(found)

    @property
    def interrupts(self) -> str:
        """Why a rollout leaves a moment with fewer pods than wanted; "" where it doesn't."""
        strategy = self._object["spec"].get("strategy") or {}
        if strategy.get("type") == "Recreate":
            return "its strategy is Recreate: all pods stop before the new ones start"
        limit = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", "25%")
        # As Kubernetes does: a share is rounded down.
        number = int(limit.rstrip("%")) * self.replicas // 100 if isinstance(limit, str) else int(limit)
        if number < max(self.replicas, 1):
            return ""
        return f"its strategy allows maxUnavailable {limit} of {self.replicas}: no pod may be left meanwhile"

    @property
    def selector(self) -> str:
        """Its pods, as a label selector."""
        labels = self._object["spec"]["selector"].get("matchLabels") or {}
        return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))

    @property
    def mounts(self) -> list[Mount]:
        """What is mounted into the container."""
        return [
            Mount(
                str(one["mountPath"]).rstrip("/") or "/",
                one["name"],
                str((self._volumes.get(one["name"], {}).get("secret") or {}).get("secretName", "")),
                bool(one.get("readOnly")),
                str(one.get("subPath") or one.get("subPathExpr") or ""),
            )
            for one in self._own.get("volumeMounts") or ()
        ]

    def volume_of(self, name: str) -> str | None:
        """The Secret of a volume, "" where it is something else, None where there is no such volume."""
        if name not in self._volumes:
            return None
        return str((self._volumes[name].get("secret") or {}).get("secretName", ""))

    @property
    def fallback(self) -> str | None:
        """The value of :data:`FALLBACK`; None where it isn't set, or not to a plain text."""
        for one in self._own.get("env") or ():
            if one["name"] == FALLBACK:
                return str(one["value"]) if "value" in one else None
        return None

    def _used_elsewhere(self, volume: str) -> bool:
        return any(
            mount["name"] == volume
            for one in self._containers
            if one["name"] != self.container
            for mount in one.get("volumeMounts") or ()
        )

    def owns(self, mount: Mount) -> bool:
        """Whether a mount was applied, or taken over, by :data:`MANAGER`."""
        return mount.folder in {path.rstrip("/") for path in self._owned()[1]}

    # ---- what this manager has applied ----

    def _owned(self) -> tuple[set[str], set[str], bool, set[str]]:
        """Volumes, folders of mounts, whether the fallback, and names of annotations."""
        template: Mapping[str, Any] = {}
        for entry in self._object["metadata"].get("managedFields") or ():
            if entry.get("manager") == MANAGER and entry.get("operation") == "Apply":
                spec = entry.get("fieldsV1", {}).get("f:spec", {})
                template = spec.get("f:template", {})
        pod = template.get("f:spec", {})
        own = pod.get("f:containers", {}).get(_key({"name": self.container}), {})
        annotations = template.get("f:metadata", {}).get("f:annotations", {})
        return (
            _names(pod.get("f:volumes", {}), "name"),
            _names(own.get("f:volumeMounts", {}), "mountPath"),
            FALLBACK in _names(own.get("f:env", {}), "name"),
            {name[2:] for name in annotations if name.startswith(f"f:{CHECKSUM}")},
        )

    def applied(self, wanted: Wanted) -> dict[str, Any]:
        """What to apply with :data:`MANAGER`: what is wanted, and what it owns already and isn't to go."""
        volumes, folders, fallback, annotations = self._owned()
        mounts = {
            one.volume: one
            for one in self.mounts
            if one.secret and one.volume in volumes and one.folder in {path.rstrip("/") for path in folders}
        }
        mounts = {name: one for name, one in mounts.items() if one.folder not in wanted.moved}
        left_over = {one.volume for one in wanted.moved.values()} - set(wanted.mounts)
        mounts = {name: one for name, one in {**mounts, **wanted.mounts}.items() if name not in wanted.gone}
        marks = {name: self.annotations[name] for name in annotations if name in self.annotations}
        marks |= {f"{CHECKSUM}{volume}": checksum for volume, checksum in wanted.checksums.items()}
        path = wanted.fallback if wanted.fallback is not None else (self.fallback if fallback else "")
        container: dict[str, Any] = {"name": self.container}
        if mounts:
            container["volumeMounts"] = [
                {"name": one.volume, "mountPath": self._path_of(one), "readOnly": True} for one in mounts.values()
            ]
        if path:
            container["env"] = [{"name": FALLBACK, "value": path}]
        pod: dict[str, Any] = {"containers": [container]}
        if mounts:
            pod["volumes"] = [{"name": one.volume, "secret": {"secretName": one.secret}} for one in mounts.values()]
        template: dict[str, Any] = {"spec": pod}
        dropped = left_over | set(wanted.gone)
        kept = {name: text for name, text in marks.items() if name.removeprefix(CHECKSUM) not in dropped}
        if kept:
            template["metadata"] = {"annotations": kept}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, **self._of_version},
            "spec": {"template": template},
        }

    def leftovers(self, wanted: Wanted) -> dict[str, Any] | None:
        """A merge patch for moved mounts that another manager keeps alive; None where there are none."""
        left = {one.volume: one for one in self.mounts if one.folder in wanted.moved}
        return self.removal(Wanted(mounts=wanted.mounts, gone=left))

    @property
    def _of_version(self) -> dict[str, str]:
        """For a patch that holds for this version of the object and for no other."""
        return {"resourceVersion": self._version} if self._version else {}

    def _path_of(self, mount: Mount) -> str:
        """The mount's path as it is written there: it is the key that server-side apply knows it by."""
        for one in self._own.get("volumeMounts") or ():
            if str(one["mountPath"]).rstrip("/") == mount.folder:
                return str(one["mountPath"])
        return mount.folder

    def removal(self, wanted: Wanted) -> dict[str, Any] | None:
        """A merge patch that takes away what is to go, whoever owns it; None where nothing is."""
        without_fallback = wanted.fallback == "" and self.fallback is not None
        if not wanted.gone and not without_fallback:
            return None
        container: dict[str, Any] = {"name": self.container}
        if wanted.gone:
            container["volumeMounts"] = [
                {"mountPath": self._path_of(one), "$patch": "delete"} for one in wanted.gone.values()
            ]
        if without_fallback:
            container["env"] = [{"name": FALLBACK, "$patch": "delete"}]
        pod: dict[str, Any] = {"containers": [container]}
        leaving = [name for name in wanted.gone if name not in wanted.mounts]
        volumes = [name for name in leaving if name in self._volumes and not self._used_elsewhere(name)]
        if volumes:
            pod["volumes"] = [{"name": name, "$patch": "delete"} for name in volumes]
        marks = {f"{CHECKSUM}{name}": None for name in leaving if f"{CHECKSUM}{name}" in self.annotations}
        template: dict[str, Any] = {"spec": pod}
        if marks:
            template["metadata"] = {"annotations": marks}
        return {"metadata": self._of_version, "spec": {"template": template}}


@dataclass
class Seen:
    """What pods have of the files.

    Attributes:
        pods: names of those that are ready.
        trouble: what is the matter, by pod; empty where each has every file.
    """

    pods: list[str] = field(default_factory=list)
    trouble: dict[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        return "; ".join(f"pod {pod}: {words}" for pod, words in sorted(self.trouble.items()))


def verify(
    cluster: Cluster,
    namespace: str,
    workload: Workload,
    checksums: Mapping[str, str],
    timeout: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Seen:
    """Whether each ready pod has the files with these contents; nothing of a content leaves a pod but its sha256.

    Args:
        checksums: sha256 in hex by path in the container.
        timeout: seconds to wait for it, as a node brings mounted Secrets up to date about once a minute.

    Raises:
        ClusterError: pods can't be listed, or not asked at all.
    """
    end = clock() + timeout
    while True:
        seen = Seen()
        for pod in ready_pods(cluster, namespace, workload.selector):
            seen.pods.append(pod)
            words = _differs(cluster, namespace, pod, workload.container, checksums)
            if words:
                seen.trouble[pod] = words
        if not seen.trouble or clock() >= end:
            return seen
        sleep(POLL)


def ready_pods(cluster: Cluster, namespace: str, selector: str) -> list[str]:
    """Names of the pods that serve. Raises ClusterError."""
    found = cluster.rest().get(f"/api/v1/namespaces/{namespace}/pods", "list on pods", labelSelector=selector)
    return sorted(
        one["metadata"]["name"]
        for one in found.get("items") or ()
        if not one["metadata"].get("deletionTimestamp")
        and any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in one.get("status", {}).get("conditions") or ()
        )
    )


def _differs(cluster: Cluster, namespace: str, pod: str, container: str, checksums: Mapping[str, str]) -> str:
    problems = []
    for path, checksum in sorted(checksums.items()):
        try:
            code, out, words = _hash(cluster, namespace, pod, container, path)
        except ClusterError as failure:
            if failure.status == 404:  # it has gone since it was listed
                return "is gone"
            raise
        found = _DIGEST.match(out)
        if found is None:
            said = " ".join(words.split())[-200:] or f"no answer (exit code {code})"
            problems.append(f"{path} can't be read: {said}")
        elif found[1] != checksum:
            problems.append(f"{path} has another content")
    return ", ".join(problems)


def _hash(cluster: Cluster, namespace: str, pod: str, container: str, path: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the first program that the image has. Raises ClusterError."""
    refused = ""
    for program in HASHERS:
        code, out, words = run(cluster, namespace, pod, container, [*program, path])
        if code >= 0 and code not in (126, 127):
            return code, out, words
        refused = refused or words
    raise ClusterError(
        f"Read {path} in pod {pod}",
        f"neither sha256sum nor python3 could be run in container {container}: {refused[:300]}",
        "Look at the pod, or leave the files unchecked with verify: false",
    )


def run(cluster: Cluster, namespace: str, pod: str, container: str, command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command in a container: exit code (-1 where it did not start), output, errors. Raises ClusterError."""
    stream = library("kubernetes.stream")
    with spoken(f"Run {command[0]} in pod {namespace}/{pod}", "create and get on pods/exec"):
        channel = stream.stream(
            cluster.api().connect_get_namespaced_pod_exec,
            pod,
            namespace,
            container=container,
            command=list(command),
            stdin=False,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
            _request_timeout=EXEC_TIMEOUT,
        )
        try:
            channel.run_forever(timeout=EXEC_TIMEOUT)
            out, words = channel.read_stdout(timeout=0) or "", channel.read_stderr(timeout=0) or ""
            # The client's own returncode fails on a command that could not be started.
            status = _status(channel.read_channel(3, timeout=0))
        finally:
            channel.close()
    if status.get("status") == "Success":
        return 0, out, words
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            with suppress(TypeError, ValueError):
                return int(cause["message"]), out, words
    return -1, out, str(status.get("message") or "no answer")


def _status(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {"message": f"no answer within {EXEC_TIMEOUT} s"} if not text else {"message": text[:300]}
    return found if isinstance(found, dict) else {}


def _key(fields: Mapping[str, str]) -> str:
    return "k:" + json.dumps(fields, separators=(",", ":"))


def _names(fields: Mapping[str, Any], key: str) -> set[str]:
    found = set()
    for name in fields:
        if name.startswith("k:"):
            with suppress(ValueError, KeyError, TypeError):
                found.add(str(json.loads(name[2:])[key]))
    return found
