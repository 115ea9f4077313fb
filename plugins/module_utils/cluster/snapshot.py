# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VolumeSnapshots of the database's volume, for when it can't be dumped. They end with the storage they are on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import retention

GROUP = "/apis/snapshot.storage.k8s.io/v1"
DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"
LABELS = {"app.kubernetes.io/managed-by": "rhpds.litemaas", "app.kubernetes.io/part-of": "litemaas"}
RIGHTS = "list on volumesnapshotclasses.snapshot.storage.k8s.io, get on persistentvolumeclaims and pods"
MAKE = "create and get on volumesnapshots.snapshot.storage.k8s.io"

LISTING = "list on volumesnapshots.snapshot.storage.k8s.io"
REMOVAL = "delete on volumesnapshots.snapshot.storage.k8s.io"


@dataclass(frozen=True)
class Snapshot:
    """One that is there and marked ours. ``time`` is when it was made, as manifests of backups have it."""

    name: str
    claim: str
    snapshot_class: str
    time: str
    size: str
    ready: bool
    uid: str = ""

    def kept(self) -> retention.Kept:
        return retention.Kept(self.name, self.time, self.claim, self.ready)


@dataclass
class Plan:
    """What would be taken."""

    namespace: str
    claim: str
    snapshot_class: str
    name: str


def planned(client: Rest, namespace: str, pod: str, wanted_class: str | None) -> Plan:
    """Which volume, and with which class. Raises ClusterError."""
    attempt = f"Take a snapshot of the volume of pod {namespace}/{pod}"
    claim = _claim(client, namespace, pod, attempt)
    found = client.find(f"{GROUP}/volumesnapshotclasses", RIGHTS)
    classes = (found or {}).get("items") or []
    if not classes:
        raise ClusterError(
            attempt, "the cluster has no VolumeSnapshotClass", "Its storage can't do that: mend what stops the dump"
        )
    return Plan(namespace, claim, _class(classes, wanted_class, attempt), _name(claim))


def _claim(client: Rest, namespace: str, pod: str, attempt: str) -> str:
    """The claim of the pod's data; the StatefulSet's own where the pod is gone."""
    found = client.find(f"/api/v1/namespaces/{namespace}/pods/{pod}", RIGHTS)
    volumes = ((found or {}).get("spec") or {}).get("volumes") or []
    claims = [one["persistentVolumeClaim"]["claimName"] for one in volumes if one.get("persistentVolumeClaim")]
    if not claims:
        listed = client.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", RIGHTS).get("items") or []
        claims = [one["metadata"]["name"] for one in listed if one["metadata"]["name"].endswith(f"-{pod}")]
    if len(claims) != 1:
        words = f"it has {', '.join(claims)}" if claims else "neither it nor a volume claim of it is there"
        raise ClusterError(attempt, words, "Check namespace and pod: one claim has to be the database's")
    return str(claims[0])


def _class(classes: list[Mapping[str, Any]], wanted: str | None, attempt: str) -> str:
    names = [str(one["metadata"]["name"]) for one in classes]
    if wanted:
        if wanted not in names:
            raise ClusterError(attempt, f"there is no VolumeSnapshotClass {wanted}", f"There is {', '.join(names)}")
        return wanted
    defaults = [
        str(one["metadata"]["name"])
        for one in classes
        if (one["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
    ]
    found = defaults or names
    if len(found) > 1:
        raise ClusterError(attempt, f"which VolumeSnapshotClass of {', '.join(found)}?", "Give snapshot_class")
    return found[0]


def _name(claim: str) -> str:
    return f"{claim[:200]}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"


def listed(client: Rest, namespace: str) -> list[Snapshot]:
    """Those that are marked ours, newest first; none where the cluster has no such thing. Raises ClusterError."""
    selector = ",".join(f"{label}={value}" for label, value in LABELS.items())
    path = f"{GROUP}/namespaces/{namespace}/volumesnapshots"
    items = (client.find(path, LISTING, labelSelector=selector) or {}).get("items") or []
    return sorted(map(_snapshot, items), key=lambda one: (one.time, one.name), reverse=True)


def _snapshot(live: Mapping[str, Any]) -> Snapshot:
    meta, spec, status = live["metadata"], live.get("spec") or {}, live.get("status") or {}
    return Snapshot(
        str(meta["name"]),
        str((spec.get("source") or {}).get("persistentVolumeClaimName") or ""),
        str(spec.get("volumeSnapshotClassName") or ""),
        str(meta["creationTimestamp"]),
        str(status.get("restoreSize") or ""),
        status.get("readyToUse") is True and not meta.get("deletionTimestamp"),
        str(meta["uid"]),
    )


def to_prune(there: Sequence[Snapshot], daily: int, monthly: int) -> list[Snapshot]:
    """Those that need not stay, oldest first: as with backups, each volume by itself. Pure. Raises ValueError."""
    by_name = {one.name: one for one in there}
    return [by_name[name] for name in retention.goes([one.kept() for one in there], daily, monthly)]


def remove(client: Rest, namespace: str, one: Snapshot) -> None:
    """Delete a snapshot, and no other that has taken its name. Raises ClusterError."""
    path = f"{GROUP}/namespaces/{namespace}/volumesnapshots/{one.name}"
    try:
        client.request("DELETE", path, {"preconditions": {"uid": one.uid}}, rights=REMOVAL)
    except ClusterError as failure:
        if failure.status != 404:
            raise


def take(
    client: Rest,
    plan: Plan,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """A snapshot that is ready to use; one that won't be is deleted again. Raises ClusterError."""
    path = f"{GROUP}/namespaces/{plan.namespace}/volumesnapshots"
    attempt = f"Take VolumeSnapshot {plan.namespace}/{plan.name}"
    body = {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": plan.name, "namespace": plan.namespace, "labels": LABELS},
        "spec": {
            "volumeSnapshotClassName": plan.snapshot_class,
            "source": {"persistentVolumeClaimName": plan.claim},
        },
    }
    client.request("POST", path, body, rights=MAKE)
    deadline, pause = clock() + timeout, 0.25
    while True:
        found = client.get(f"{path}/{plan.name}", MAKE)
        status = found.get("status") or {}
        if status.get("readyToUse") is True:
            return found
        if clock() > deadline:
            words = (status.get("error") or {}).get("message") or "nobody has said anything of it"
            state = _deleted(client, f"{path}/{plan.name}")
            raise ClusterError(attempt, f"not ready to use after {timeout:g} s: {words}", state)
        sleep(pause)
        pause = min(2 * pause, 5)


def _deleted(client: Rest, path: str) -> str:
    try:
        client.request("DELETE", path, rights=REMOVAL)
    except ClusterError as failure:
        return f"It is still there: {failure}"
    return "It was deleted again; check the storage's driver, or raise timeout"
