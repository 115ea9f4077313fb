# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which volume is snapshotted, with which class, and what becomes of a snapshot that doesn't get ready."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import snapshot
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError

POD = "litellm-postgres-0"


class Server:
    """What of an API server a snapshot needs."""

    def __init__(self, claims: tuple[str, ...] = (), mounted: tuple[str, ...] = (), **classes: bool) -> None:
        self.claims, self.mounted, self.classes = claims, mounted, classes
        #: What the driver says, look by look; the last for good.
        self.said: list[dict[str, Any]] = [{}]
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.undeletable = False
        self.time = 0.0

    def find(self, path: str, _rights: str) -> dict[str, Any] | None:
        if path.endswith("/volumesnapshotclasses"):
            notes = {True: {"annotations": {snapshot.DEFAULT: "true"}}, False: {"annotations": None}}
            return {"items": [{"metadata": {"name": name, **notes[main]}} for name, main in self.classes.items()]}
        volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in self.mounted]
        return {"spec": {"volumes": [{"name": "tmp", "emptyDir": {}}, *volumes]}} if self.mounted else None

    def get(self, path: str, _rights: str) -> dict[str, Any]:
        if path.endswith("/persistentvolumeclaims"):
            return {"items": [{"metadata": {"name": one}} for one in self.claims]}
        return {"status": self.said.pop(0) if len(self.said) > 1 else self.said[0]}

    def request(self, method: str, path: str, body: Any = None, rights: str = "") -> None:
        if method == "POST":
            self.made.append(body)
        elif self.undeletable:
            raise ClusterError(f"DELETE {path}", "HTTP 403: no")
        else:
            self.deleted.append(path)

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def planned(server: Server, wanted: str | None = None) -> snapshot.Plan:
    return snapshot.planned(server, "ns", POD, wanted)  # type: ignore[arg-type]


def test_the_volume_is_the_pods_and_without_one_the_stateful_sets() -> None:
    others = ("postgres-storage-litellm-postgres-01", "archive")
    mounted = Server((f"data-{POD}", *others), ("restored",), csi=False)
    assert planned(mounted).claim == "restored"
    assert planned(Server((*others, f"data-{POD}"), csi=False)).claim == f"data-{POD}"
    for server, words in (
        (Server(others, csi=False), "neither it nor a volume claim"),
        (Server((f"data-{POD}", f"old-{POD}"), csi=False), f"it has data-{POD}, old-{POD}"),
        (Server((), ("one", "two"), csi=False), "it has one, two"),
    ):
        with pytest.raises(ClusterError, match=words):
            planned(server)


def test_the_class_is_the_one_that_is_wanted_then_the_default_then_the_only_one() -> None:
    several = Server((), ("data",), slow=False, fast=True)
    assert planned(several).snapshot_class == "fast"
    assert planned(several, "slow").snapshot_class == "slow"
    assert planned(Server((), ("data",), only=False)).snapshot_class == "only"
    with pytest.raises(ClusterError, match=r"no VolumeSnapshotClass other.*There is slow, fast"):
        planned(several, "other")
    with pytest.raises(ClusterError, match=r"which VolumeSnapshotClass of a, b\?.*Give snapshot_class"):
        planned(Server((), ("data",), a=False, b=False))
    with pytest.raises(ClusterError, match="no VolumeSnapshotClass"):
        planned(Server((), ("data",)))


def take(server: Server, timeout: float = 5) -> dict[str, Any]:
    plan = snapshot.Plan("ns", "data", "csi", "data-1")
    return snapshot.take(server, plan, timeout, server.sleep, lambda: server.time)  # type: ignore[arg-type]


def test_a_snapshot_is_made_of_the_claim_and_waited_for() -> None:
    server = Server()
    server.said = [{}, {"readyToUse": False}, {"readyToUse": True}]
    assert take(server)["status"]["readyToUse"] and server.time > 0 and not server.deleted
    (body,) = server.made
    assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "rhpds.litemaas"
    assert body["spec"] == {"volumeSnapshotClassName": "csi", "source": {"persistentVolumeClaimName": "data"}}


def test_a_snapshot_that_does_not_get_ready_is_deleted_with_the_drivers_words() -> None:
    server = Server()
    server.said = [{"readyToUse": False, "error": {"message": "quota"}}]
    with pytest.raises(ClusterError, match=r"data-1: not ready to use after 5 s: quota\. It was deleted again"):
        take(server)
    assert server.deleted == [f"{snapshot.GROUP}/namespaces/ns/volumesnapshots/data-1"] and 5 < server.time < 15
    server = Server()
    server.undeletable = True
    with pytest.raises(ClusterError, match=r"nobody has said anything of it\. It is still there: DELETE .*HTTP 403"):
        take(server)
