# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a removal takes, and what it leaves: the API server is a store in memory, with the answers of a real one."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.removal import Outcome, Removal

APPLIED = {"managedFields": [{"manager": "rhpds.litemaas"}]}
OURS = {"app.kubernetes.io/managed-by": "rhpds.litemaas"}
THEIRS = {"app.kubernetes.io/managed-by": "somebody-else"}
SPACE = "/api/v1/namespaces/ns"
#: Plural → group and version, kind.
RESOURCES = {
    "configmaps": ("v1", "ConfigMap"),
    "events": ("v1", "Event"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "pods": ("v1", "Pod"),
    "secrets": ("v1", "Secret"),
    "serviceaccounts": ("v1", "ServiceAccount"),
    "deployments": ("apps/v1", "Deployment"),
    "replicasets": ("apps/v1", "ReplicaSet"),
    "statefulsets": ("apps/v1", "StatefulSet"),
    "cronjobs": ("batch/v1", "CronJob"),
    "jobs": ("batch/v1", "Job"),
    "horizontalpodautoscalers": ("autoscaling/v1", "HorizontalPodAutoscaler"),
    "inferenceservices": ("serving.kserve.io/v1beta1", "InferenceService"),
    "packagemanifests": ("packages.operators.coreos.com/v1", "PackageManifest"),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    "oauthclients": ("oauth.openshift.io/v1", "OAuthClient"),
}
ANY = object()
VERBS = ["create", "delete", "get", "list", "patch"]


class Server:
    """Requests as Rest makes them."""

    def __init__(self, made: bool = True) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, int] = {}
        #: Rights that the account lacks: verb and resource.
        self.denied: set[tuple[str, str]] = set()
        self.patched: list[tuple[str, Any]] = []
        #: What somebody makes of an object right before it is deleted, by its path.
        self.meanwhile: dict[str, dict[str, Any]] = {}
        notes = {"rhpds.litemaas/created": "true"} if made else {}
        self.objects[SPACE] = {"metadata": {"name": "ns", "uid": "ns", "annotations": notes}}

    def add(self, plural: str, name: str, labels: dict[str, str] | None = None, **body: Any) -> str:
        base = RESOURCES[plural][0]
        path = f"/{'apis' if '/' in base else 'api'}/{base}/namespaces/ns/{plural}/{name}"
        metadata = {"name": name, "uid": path, "labels": labels or {}, **body.pop("metadata", {})}
        self.objects[path] = {"metadata": metadata, **body}
        return path

    def get(self, path: str, rights: str = "", **query: str) -> dict[str, Any]:
        return self.request("GET", path, query=query)

    def find(self, path: str, rights: str = "", **query: str) -> dict[str, Any] | None:
        try:
            return self.get(path, rights, **query)
        except ClusterError as failure:
            if failure.status == 404:
                return None
            raise

    def request(self, method: str, path: str, body: Any = None, query: Any = None, **_more: Any) -> dict[str, Any]:
        if self.refused.get(path):
            raise ClusterError(f"{method} {path}", "refused", status=self.refused[path])
        if method == "POST" and path.endswith("/selfsubjectrulesreviews"):
            return {"status": {"resourceRules": []}}
        if method == "POST" and path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            return {"status": {"allowed": (asked["verb"], asked["resource"]) not in self.denied}}
        if method == "DELETE":
            self.objects.update({path: self.meanwhile.pop(path)} if path in self.meanwhile else {})
            if self.objects[path]["metadata"]["uid"] != (body.get("preconditions") or {}).get("uid", ANY):
                raise ClusterError(f"{method} {path}", "the UID in the precondition is another one", status=409)
            self.objects.pop(path)
            return {}
        if method == "PATCH":
            self.patched.append((path, body))
            self.objects[path]["spec"].update(body["spec"])
            return self.objects[path]
        found = self.objects.get(path) or self._listed(path, (query or {}).get("labelSelector", ""))
        if found is None:
            raise ClusterError(f"{method} {path}", "not found", status=404)
        return copy.deepcopy(found)

    def _listed(self, path: str, selector: str) -> dict[str, Any] | None:
        versions = {version for version, _kind in RESOURCES.values()}
        if path == "/apis":
            groups = sorted(version for version in versions if "/" in version)
            named = [{"name": one.split("/")[0], "versions": [{"groupVersion": one}]} for one in groups]
            return {"groups": [{**one, "preferredVersion": one["versions"][0]} for one in named]}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in versions:
            resources = [
                {
                    "name": plural,
                    "kind": kind,
                    "namespaced": plural != "oauthclients",
                    "verbs": ["get", "list"] if plural == "packagemanifests" else VERBS,
                }
                for plural, (where, kind) in RESOURCES.items()
                if where == version
            ]
            return {"resources": [*resources, {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": VERBS}]}
        if path.rpartition("/")[2] not in RESOURCES or RESOURCES[path.rpartition("/")[2]][0] not in path:
            return None
        wanted = dict(one.split("=") for one in selector.split(",") if one)
        return {
            "items": [
                one
                for place, one in self.objects.items()
                if place.startswith(f"{path}/") and wanted.items() <= (one["metadata"].get("labels") or {}).items()
            ]
        }


def everything(server: Server, **options: Any) -> Outcome:
    return Removal(server, "ns", timeout=1).everything(**options)  # type: ignore[arg-type]


def claims(server: Server) -> set[str]:
    return {one["metadata"]["name"] for path, one in server.objects.items() if "/persistentvolumeclaims/" in path}


def test_volumes_of_others_stay_whatever_their_names_contain() -> None:
    server = Server(made=False)
    templates = [{"metadata": {"name": "old-data"}}]
    server.add("statefulsets", "litellm-postgres", OURS, spec={"volumeClaimTemplates": templates})
    ours = {"old-data-litellm-postgres-0", "marked"}
    theirs = {
        "archive-of-litellm-postgres": THEIRS,
        "old-data-litellm-postgres-1": THEIRS,
        "archive-litellm-postgres-0": {},
        "old-data-litellm-postgres": {},
        "litellm-postgres": {"app": "litellm-postgres"},
        "old-data-litellm-postgres-0-copy": {},
    }
    for name in ours:
        server.add("persistentvolumeclaims", name, OURS if name == "marked" else {})
    for name, labels in theirs.items():
        server.add("persistentvolumeclaims", name, labels)
    everything(server)
    assert claims(server) == set(theirs)
    # Without the StatefulSet, the names that releases of ours had.
    server.add("persistentvolumeclaims", "postgres-storage-litellm-postgres-0")
    everything(server)
    assert claims(server) == set(theirs)


def test_the_volume_of_a_database_that_is_not_ours_stays() -> None:
    server = Server(made=False)
    templates = [{"metadata": {"name": "data"}}]
    server.add("statefulsets", "litellm-postgres", THEIRS, spec={"volumeClaimTemplates": templates})
    server.add("persistentvolumeclaims", "data-litellm-postgres-0")
    assert everything(server).removed == [] and claims(server) == {"data-litellm-postgres-0"}


def whole() -> Server:
    """A namespace of ours with what a cluster adds to it."""
    server = Server()
    deployment = server.add("deployments", "litellm", OURS)
    replicas = server.add("replicasets", "litellm-1", metadata={"ownerReferences": [{"uid": deployment}]})
    server.add("pods", "litellm-1-1", metadata={"ownerReferences": [{"uid": replicas}]})
    server.add("serviceaccounts", "litemaas", OURS)
    server.add("serviceaccounts", "default")
    for account in ("default", "litemaas"):
        notes = {"annotations": {"kubernetes.io/service-account.name": account}}
        server.add("secrets", f"{account}-token", type="kubernetes.io/service-account-token", metadata=notes)
    server.add("configmaps", "kube-root-ca.crt")
    server.add("configmaps", "openshift-service-ca.crt")
    server.add("rolebindings", "system:image-pullers")
    server.add("events", "litellm.1")
    server.add("packagemanifests", "everywhere")
    return server


def test_a_namespace_of_ours_goes_with_what_the_cluster_put_there() -> None:
    server = whole()
    before = copy.deepcopy(server.objects)
    planned = Removal(server, "ns", check=True).everything()  # type: ignore[arg-type]
    assert planned.namespace == "removed" and server.objects == before
    outcome = everything(server)
    assert (outcome.namespace, outcome.removed) == ("removed", planned.removed)
    assert SPACE not in server.objects
    assert everything(server).namespace == "absent" and not everything(server).removed


def test_what_somebody_made_anew_meanwhile_stays_and_the_namespace_with_it() -> None:
    server = whole()
    path = server.add("deployments", "litellm", OURS)
    server.meanwhile[path] = {"metadata": {"name": "litellm", "uid": "another", "labels": THEIRS}}
    outcome = everything(server)
    assert outcome.namespace == "stays, as others use it: Deployment/litellm" and SPACE in server.objects
    assert server.objects[path]["metadata"]["uid"] == "another"


def test_the_volume_stays_with_what_it_can_not_be_used_without() -> None:
    server = Server()
    templates = [{"metadata": {"name": "postgres-storage"}}]
    server.add("statefulsets", "litellm-postgres", OURS, spec={"volumeClaimTemplates": templates})
    stays = {
        server.add("persistentvolumeclaims", "postgres-storage-litellm-postgres-0"),
        server.add("secrets", "litellm-secret", OURS),
        server.add("configmaps", "litemaas-backups", OURS),
        SPACE,
    }
    server.add("configmaps", "litellm-config", OURS)
    outcome = everything(server, keep_volume=True)
    assert (set(server.objects), outcome.namespace) == (stays, "stays, with the volume")
    assert [one.partition("/")[0] for one in outcome.kept] == ["ConfigMap", "PersistentVolumeClaim", "Secret"]


def test_pods_of_ours_are_waited_for_and_those_of_nobody_are_not() -> None:
    server = Server()
    server.add("deployments", "litellm", OURS)
    server.add("pods", "debug", OURS)
    assert everything(server).namespace == "removed"
    server = Server()
    server.add("pods", "litellm-1", OURS, metadata={"ownerReferences": [{"uid": "replicaset"}]})
    with pytest.raises(ClusterError, match="Wait until Pod/litellm-1 in ns is gone: it is still there"):
        Removal(server, "ns", timeout=0).everything()  # type: ignore[arg-type]


def test_the_login_of_another_namespace_stays() -> None:
    server, place = Server(), "/apis/oauth.openshift.io/v1/oauthclients"
    for name in ("ns", "other"):
        labels = {**OURS, "rhpds.litemaas/namespace": name}
        server.objects[f"{place}/{name}"] = {"metadata": {"name": name, "uid": name, "labels": labels}}
    assert leftovers(server, "OAuthClient/ns").removed == []
    assert leftovers(server, check=True).removed == everything(server).removed == ["OAuthClient/ns"]
    assert list(server.objects) == [f"{place}/other"]


@pytest.mark.parametrize(
    ("plural", "name", "body"),
    [
        ("pods", "somebodys", {}),
        ("inferenceservices", "model", {}),
        ("serviceaccounts", "robot", {}),
        ("rolebindings", "view", {}),
        ("secrets", "pull", {"type": "kubernetes.io/dockercfg"}),
        # Of an owner that is nobody we know.
        ("configmaps", "owned", {"metadata": {"ownerReferences": [{"uid": "elsewhere"}]}}),
    ],
)
def test_a_namespace_that_somebody_uses_stays(plural: str, name: str, body: dict[str, Any]) -> None:
    server = whole()
    path = server.add(plural, name, **body)
    shown = f"{RESOURCES[plural][1]}/{name}"
    for check in (True, False):
        outcome = Removal(server, "ns", check=check).everything()  # type: ignore[arg-type]
        assert outcome.namespace == f"stays, as others use it: {shown}" and "Deployment/litellm" in outcome.removed
    assert SPACE in server.objects and path in server.objects


def test_what_goes_with_something_of_others_is_not_named_beside_it() -> None:
    server = whole()
    theirs = server.add("deployments", "theirs")
    server.add("pods", "theirs-1", metadata={"ownerReferences": [{"uid": theirs}]})
    assert everything(server).namespace == "stays, as others use it: Deployment/theirs"


@pytest.mark.parametrize(
    "path",
    ["/apis", "/apis/serving.kserve.io/v1beta1", "/apis/serving.kserve.io/v1beta1/namespaces/ns/inferenceservices"],
)
@pytest.mark.parametrize("status", [403, 503])
def test_a_namespace_that_could_not_be_read_whole_stays(path: str, status: int) -> None:
    server = whole()
    server.refused[path] = status
    outcome = everything(server)
    assert f"GET {path}: refused" in outcome.namespace and "could be read" in outcome.namespace
    assert SPACE in server.objects


def leftovers(server: Server, *wanted: str, check: bool = False) -> Outcome:
    return Removal(server, "ns", check=check, timeout=1).leftovers(wanted, ())  # type: ignore[arg-type]


def failed_jobs(server: Server, *wanted: str) -> Outcome:
    return Removal(server, "ns", timeout=1).failed_jobs(wanted)  # type: ignore[arg-type]


def jobs() -> Server:
    server = Server()
    for name in ("litellm-migration-old", "litellm-migration-new", "other"):
        server.add("jobs", name, OURS, metadata=copy.deepcopy(APPLIED))
    server.add("jobs", "litellm-migration-theirs", THEIRS)
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    server.add("jobs", "litellm-migration-done", OURS, metadata=copy.deepcopy(APPLIED), status=done)
    return server


def test_a_migration_at_work_for_an_image_that_is_not_wanted_goes() -> None:
    server = jobs()
    assert not failed_jobs(server).removed
    first = failed_jobs(server, "Job/litellm-migration-new")
    assert first.removed == ["Job/litellm-migration-old"] and "Job/litellm-migration-new" in first.kept
    assert not failed_jobs(server, "Job/litellm-migration-new").removed
    server = jobs()
    assert set(leftovers(server, "Job/litellm-migration-new").removed) == {
        "Job/litellm-migration-old",
        "Job/litellm-migration-done",
    }
    assert not leftovers(server, "Job/litellm-migration-new").removed


def test_what_other_parts_of_ours_have_applied_is_no_leftover() -> None:
    server = Server()
    nightly = {"managedFields": [{"manager": "rhpds.litemaas.key-cleanup"}]}
    server.add("cronjobs", "litemaas-key-cleanup", OURS, metadata=nightly)
    owned = {**copy.deepcopy(APPLIED), "ownerReferences": [{"uid": "cronjob"}]}
    server.add("configmaps", "of-something", OURS, metadata=owned)
    server.add("configmaps", "old", OURS, metadata=copy.deepcopy(APPLIED))
    server.add("secrets", "old", OURS, metadata=copy.deepcopy(APPLIED))
    assert leftovers(server).removed == ["ConfigMap/old"]


def scaled(replicas: int = 6) -> tuple[Server, str]:
    """A Deployment that a deploy wants three of, and its autoscaler."""
    server = Server()
    notes = {**copy.deepcopy(APPLIED), "annotations": {"rhpds.litemaas/applied": '{"env": {}, "replicas": 3}'}}
    path = server.add("deployments", "litellm", OURS, metadata=notes, spec={"replicas": replicas})
    target = {"scaleTargetRef": {"kind": "Deployment", "name": "litellm"}}
    server.add("horizontalpodautoscalers", "litellm", OURS, metadata=copy.deepcopy(APPLIED), spec=target)
    return server, path


def test_what_an_autoscaler_of_ours_set_goes_with_it() -> None:
    server, path = scaled()
    assert (
        leftovers(server, "Deployment/litellm", check=True).scaled == ["Deployment/litellm: 3"] and not server.patched
    )
    assert leftovers(server, "Deployment/litellm").scaled == ["Deployment/litellm: 3"]
    assert server.objects[path]["spec"]["replicas"] == 3
    again = leftovers(server, "Deployment/litellm")
    assert not again.removed and not again.scaled
    # What somebody sets from now on stays.
    server.objects[path]["spec"]["replicas"] = 5
    leftovers(server, "Deployment/litellm")
    assert server.objects[path]["spec"]["replicas"] == 5


@pytest.mark.parametrize("other", [True, False])
def test_replicas_stay_where_an_autoscaler_does(other: bool) -> None:
    server, path = scaled()
    wanted = ["Deployment/litellm"] + ([] if other else ["HorizontalPodAutoscaler/litellm"])
    if other:
        target = {"scaleTargetRef": {"kind": "Deployment", "name": "litellm"}}
        server.add("horizontalpodautoscalers", "somebodys", spec=target)
    assert not leftovers(server, *wanted).scaled and server.objects[path]["spec"]["replicas"] == 6


@pytest.mark.parametrize(
    ("denied", "named"),
    [
        (("delete", "secrets"), "delete on secrets in ns"),
        (("get", "deployments"), "get on deployments.apps in ns"),
        (("delete", "namespaces"), "delete on namespaces in ns"),
        (("list", "pods"), "list on pods in ns"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_rights_that_lack_are_named_before_anything_goes(denied: tuple[str, str], named: str, check: bool) -> None:
    server = Server()
    for plural, name in (("deployments", "litellm"), ("secrets", "litellm-secret")):
        server.add(plural, name, OURS)
    before = set(server.objects)
    server.denied = {denied}
    with pytest.raises(ClusterError, match=f"rights are missing: {named}. Nothing was removed"):
        Removal(server, "ns", check, timeout=1).everything()  # type: ignore[arg-type]
    assert set(server.objects) == before
    # What isn't there needs no right.
    server.denied = {("delete", "routes"), ("delete", "oauthclients")}
    everything(server)
    assert not server.objects
