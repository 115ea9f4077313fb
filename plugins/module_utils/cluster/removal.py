# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removing what this collection has made in a cluster: all of it, or what a deploy doesn't want any more.

What goes carries our label. What nobody marked stays, and so does a namespace that somebody else made or uses.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest, if_allowed
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.images import MIGRATION
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.keep import remembered
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.rights import Need, missing
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.secrets import (
    CREATED,
    MANAGED_BY,
    POSTGRES,
    claim_templates,
    is_volume,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import MANAGER

#: On what lies outside of the namespace: whose it is.
WHOSE = "rhpds.litemaas/namespace"
#: Kind → where it is found, newest version first. Workloads first, then what they use.
KINDS = {
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "apis/autoscaling/v1"),
    "CronJob": ("apis/batch/v1", "apis/batch/v1beta1"),
    "Job": ("apis/batch/v1",),
    "Deployment": ("apis/apps/v1",),
    "StatefulSet": ("apis/apps/v1",),
    "Route": ("apis/route.openshift.io/v1",),
    "Ingress": ("apis/networking.k8s.io/v1",),
    "ServiceMonitor": ("apis/monitoring.coreos.com/v1",),
    "PodDisruptionBudget": ("apis/policy/v1", "apis/policy/v1beta1"),
    "Service": ("api/v1",),
    "NetworkPolicy": ("apis/networking.k8s.io/v1",),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1",),
    "Role": ("apis/rbac.authorization.k8s.io/v1",),
    "ConfigMap": ("api/v1",),
    "ServiceAccount": ("api/v1",),
    "PersistentVolumeClaim": ("api/v1",),
    "Secret": ("api/v1",),
}
PLURALS = {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}
#: What a volume can't be used again without, and what says where its backups are.
WITH_VOLUME = ("PersistentVolumeClaim", "Secret", "ConfigMap/litemaas-backups")
AUTOSCALER = "HorizontalPodAutoscaler"
#: Kinds that a deploy never takes away: there is no way back.
PRECIOUS = ("PersistentVolumeClaim", "Secret")
#: What every namespace gets from the cluster.
GIVEN = {
    "ConfigMap": ("kube-root-ca.crt", "openshift-service-ca.crt"),
    "ServiceAccount": ("default", "builder", "deployer"),
    "RoleBinding": ("admin",),
}
#: Names of RoleBindings that OpenShift makes begin with it.
GIVEN_ROLES = "system:"
#: Secrets of accounts, and the annotations that name the account.
GIVEN_SECRETS = ("kubernetes.io/service-account-token", "kubernetes.io/dockercfg")
ACCOUNTS = ("kubernetes.io/service-account.name", "openshift.io/internal-registry-auth-token.service-account")
#: On what the operators' manager copies into every namespace.
COPIED = "olm.copiedFrom"
#: Resources that nobody uses a namespace for: the cluster keeps them of other objects.
PASSING = ("events", "endpoints", "endpointslices", "leases")
#: Seconds between two looks.
POLL = 0.5


@dataclass
class Found:
    """An object that may go.

    Attributes:
        volume: whether it is a volume of our database, marked or not.
    """

    kind: str
    name: str
    path: str
    body: Mapping[str, Any]
    volume: bool = False

    @property
    def shown(self) -> str:
        """``Kind/name``."""
        return f"{self.kind}/{self.name}"

    @property
    def ours(self) -> bool:
        """Whether it carries our label, or is our database's volume."""
        return (self.body["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER or self.volume

    @property
    def uid(self) -> str:
        """What tells it from another of the same name."""
        return str(self.body["metadata"]["uid"])

    @property
    def owners(self) -> set[str]:
        """The uids of what it goes with."""
        return {str(one["uid"]) for one in self.body["metadata"].get("ownerReferences") or ()}

    def given(self, accounts: Collection[str]) -> bool:
        """Whether the cluster itself put it there, for the namespace, or for one of these ServiceAccounts."""
        metadata = self.body["metadata"]
        notes = metadata.get("annotations") or {}
        return (
            self.name in GIVEN.get(self.kind, ())
            or (self.kind == "RoleBinding" and self.name.startswith(GIVEN_ROLES))
            or (
                self.kind == "Secret"
                and self.body.get("type") in GIVEN_SECRETS
                and any(notes.get(one) in accounts for one in ACCOUNTS)
            )
            or COPIED in (metadata.get("labels") or {})
        )

    @property
    def from_deploy(self) -> bool:
        """Whether a deploy has applied it, not another part of this collection."""
        return any(entry.get("manager") == MANAGER for entry in self.body["metadata"].get("managedFields") or [])

    @property
    def migrates(self) -> bool:
        """Whether it is a Job that brings LiteLLM's database to an image."""
        return self.kind == "Job" and self.name.startswith(MIGRATION)

    @property
    def scales(self) -> str:
        """``Kind/name`` of what an autoscaler scales; "" for everything else."""
        target = (self.body.get("spec") or {}).get("scaleTargetRef") if self.kind == AUTOSCALER else None
        return f"{target['kind']}/{target['name']}" if target else ""

    def ended(self) -> str:
        """How a Job ended: ``Complete`` or ``Failed``; "" for one that is at work, and for everything else."""
        conditions = (self.body.get("status") or {}).get("conditions") or []
        ended = {one["type"] for one in conditions if self.kind == "Job" and one.get("status") == "True"}
        return next(iter(ended & {"Complete", "Failed"}), "")


@dataclass
class Outcome:
    """What went, or would go, and what stays.

    Attributes:
        namespace: ``removed``, ``absent``, or why it stays.
        scaled: what got the wanted replicas, as its autoscaler went, each ``Kind/name: number``.
    """

    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    namespace: str = ""
    scaled: list[str] = field(default_factory=list)


class Removal:
    """Reads and removes in one namespace."""

    def __init__(self, client: Rest, namespace: str, check: bool = False, timeout: float = 300) -> None:
        self.client, self.namespace, self.check = client, namespace, check
        self.ends = time.monotonic() + timeout

    def leftovers(self, wanted: Collection[str], obsolete: Collection[str]) -> Outcome:
        """Removes what an earlier deploy applied and this one doesn't want, and what is obsolete by name.

        Jobs that are at work stay, but for migrations of an image that isn't wanted. Secrets and volumes always stay.
        Where our autoscaler goes, what it scaled gets the replicas that the deploy wants. Raises ClusterError.
        """
        going = [
            one
            for one in self._all([kind for kind in KINDS if kind not in PRECIOUS])
            if one.shown not in wanted
            and (one.kind != "Job" or one.ended() or one.migrates)
            and not one.owners
            and ((one.ours and one.from_deploy) or one.shown in obsolete)
        ]
        going += [one for one in self._outside_if_readable() if one.shown not in wanted]
        self._remove(going)
        scaled = self._rescaled(going)
        return Outcome([one.shown for one in going], scaled=scaled)

    def failed_jobs(self, wanted: Collection[str] = ()) -> Outcome:
        """Removes Jobs of a deploy that failed, as a Job can't be run again; names the rest.

        Where anything is wanted, migrations that aren't and are still at work go too: two of them would race. Raises
        ClusterError.
        """
        ours = [one for one in self._all(KINDS) if one.ours]
        failed = [
            one
            for one in ours
            if one.from_deploy
            and (one.ended() == "Failed" or (wanted and one.migrates and not one.ended() and one.shown not in wanted))
        ]
        self._remove(failed)
        return Outcome([one.shown for one in failed], [one.shown for one in ours if one not in failed])

    def _rescaled(self, going: Iterable[Found]) -> list[str]:
        """Gives what our autoscalers scaled the replicas that a deploy wants, as its annotation has them.

        The next deploy would take the last number of an autoscaler for somebody's will.
        """
        targets = {one.scales for one in going if one.scales}
        if not targets:
            return []
        gone = {one.shown for one in going}
        there = self._all((AUTOSCALER, "Deployment", "StatefulSet"))
        targets -= {one.scales for one in there if one.shown not in gone}
        scaled = []
        for one in there:
            wanted = remembered(one.body).get("replicas")
            if one.shown not in targets or wanted is None or one.body["spec"].get("replicas", 1) == wanted:
                continue
            if not self.check:
                self.client.request(
                    "PATCH",
                    one.path,
                    {"metadata": {"uid": one.uid}, "spec": {"replicas": wanted}},
                    query={"fieldManager": MANAGER},
                    content_type="application/merge-patch+json",
                    rights=f"patch on {one.kind}",
                )
            scaled.append(f"{one.shown}: {wanted}")
        return scaled

    def everything(self, keep_volume: bool = False) -> Outcome:
        """Removes all that is ours, and the namespace where we made it and nobody else uses it. Raises ClusterError."""
        outcome = Outcome()
        space = self.client.find(f"/api/v1/namespaces/{quote(self.namespace)}", "get on namespaces")
        found = self._all(KINDS) if space else []
        ours = [one for one in found if one.ours]
        kept = [one for one in ours if keep_volume and (one.kind in WITH_VOLUME or one.shown in WITH_VOLUME)]
        going = [one for one in ours if one not in kept] + self._outside()
        stays = ""
        if space:
            # Looked at before too: what goes with ours can't be told once ours is gone.
            owned, accounts = {one.uid for one in ours}, {one.name for one in ours if one.kind == "ServiceAccount"}
            accounts |= set(GIVEN["ServiceAccount"])
            stays = self._stays(space, kept, owned, accounts)
        self._refuse_without_rights(going + ([self._space(space)] if space and not stays else []))
        self._remove(going, pods=True)
        if space and not self.check:
            stays = self._stays(space, kept, owned, accounts)
        outcome.removed, outcome.kept = [one.shown for one in going], [one.shown for one in kept]
        if space is None:
            outcome.namespace = "absent"
        elif not stays:
            self._remove([self._space(space)])
        outcome.namespace = outcome.namespace or stays or "removed"
        return outcome

    def _refuse_without_rights(self, going: Iterable[Found]) -> None:
        """Raises ClusterError where the account may not delete all of it: half a removal is worse than none."""
        needs = [Need.of(verb, one.path) for one in going for verb in ("delete", "get")]
        if needs:  # pods are waited for
            needs.append(Need("list", "", "pods", self.namespace))
        lacking = missing(self.client, needs, self.namespace)
        if lacking:
            raise ClusterError(
                f"Remove what is ours in {self.namespace}",
                f"rights are missing: {', '.join(one.sentence() for one in lacking)}. Nothing was removed",
                "Give the account these, or run it with another one",
                403,
            )

    def _space(self, space: Mapping[str, Any]) -> Found:
        return Found("Namespace", self.namespace, f"/api/v1/namespaces/{quote(self.namespace)}", space)

    def _stays(self, space: Mapping[str, Any], kept: list[Found], owned: set[str], accounts: Collection[str]) -> str:
        """Why the namespace stays; "" where it can go. What goes with ours is added to ``owned``, as uids."""
        if (space["metadata"].get("annotations") or {}).get(CREATED) != "true":
            return "stays, as it was not made by this collection"
        if kept:
            return "stays, with the volume"
        try:
            foreign = self._foreign(owned, accounts)
        except ClusterError as failure:
            # What wasn't seen may be somebody's.
            return f"stays, as not all that is in it could be read: {failure}"
        if not foreign:
            return ""
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        return f"stays, as others use it: {', '.join(foreign[:5])}{more}"

    def _foreign(self, owned: set[str], accounts: Collection[str]) -> list[str]:
        """What in the namespace is neither ours, nor the cluster's, nor goes with either, each ``Kind/name``.

        What goes with something foreign isn't named beside it. Raises ClusterError where anything can't be read.
        """
        found = {one.uid: one for one in self._contents()}
        owned |= {uid for uid, one in found.items() if one.ours or one.given(accounts)}
        while more := {uid for uid, one in found.items() if uid not in owned and one.owners and one.owners <= owned}:
            owned |= more
        foreign = {uid: one for uid, one in found.items() if uid not in owned}
        return sorted(one.shown for one in foreign.values() if not one.owners & set(foreign))

    def _contents(self) -> list[Found]:
        """Everything in the namespace that can be listed and deleted, of every kind that the API server has."""
        groups = self.client.get("/apis", "get on /apis").get("groups") or []
        versions = {"": ["v1"]}
        for group in groups:
            preferred = group["preferredVersion"]["groupVersion"]
            rest = (one["groupVersion"] for one in group["versions"])
            versions[group["name"]] = [preferred, *(version for version in rest if version != preferred)]
        seen = set()
        found = []
        for group_name, served in versions.items():
            for version in served:
                base = f"/{'apis' if group_name else 'api'}/{version}"
                for kind in self.client.get(base, f"get on {base}").get("resources") or []:
                    plural = kind["name"]
                    usable = kind.get("namespaced") and {"list", "delete"} <= set(kind.get("verbs") or ())
                    if not usable or plural in PASSING or "/" in plural or (group_name, plural) in seen:
                        continue
                    seen.add((group_name, plural))
                    found += self._listed(kind["kind"], plural, f"{base}/namespaces/{quote(self.namespace)}/{plural}")
        return found

    def _listed(self, kind: str, plural: str, path: str, **query: str) -> list[Found]:
        answer = self.client.find(path, f"list on {plural}", **query) or {}
        return [
            Found(kind, item["metadata"]["name"], f"{path}/{quote(item['metadata']['name'])}", item)
            for item in answer.get("items") or []
        ]

    def _outside(self) -> list[Found]:
        """What lies outside of the namespace: the OAuthClient."""
        path = "/apis/oauth.openshift.io/v1/oauthclients"
        label = f"{MANAGED_BY}={MANAGER},{WHOSE}={self.namespace}"
        answer = self.client.find(path, "list and delete on oauthclients.oauth.openshift.io", labelSelector=label)
        return [
            Found("OAuthClient", item["metadata"]["name"], f"{path}/{quote(item['metadata']['name'])}", item)
            for item in (answer or {}).get("items") or []
        ]

    def _outside_if_readable(self) -> list[Found]:
        """The same; nothing where the account may not list it, as a deploy without that login needs no such right."""
        found, _refusal = if_allowed(self._outside)
        return found or []

    def _all(self, kinds: Iterable[str]) -> list[Found]:
        found = []
        for kind in kinds:
            plural = PLURALS.get(kind, f"{kind.lower()}s")
            for version in KINDS[kind]:
                path = f"/{version}/namespaces/{quote(self.namespace)}/{plural}"
                answer = self.client.find(path, f"list and delete on {plural}")
                if answer is None:
                    continue
                for item in answer.get("items") or []:
                    name = item["metadata"]["name"]
                    found.append(Found(kind, name, f"{path}/{quote(name)}", item))
                break
        postgres = next((one.body for one in found if one.shown == f"StatefulSet/{POSTGRES}"), None)
        for one in found:
            one.volume = one.kind == "PersistentVolumeClaim" and is_volume(one.body, claim_templates(postgres))
        return found

    def _remove(self, going: Iterable[Found], pods: bool = False) -> None:
        """Deletes, and waits until all of it is gone, and the pods that belonged to it."""
        if self.check:
            return
        going = list(going)
        for one in going:
            # That very object: one that somebody made anew in between is somebody's.
            body = {"propagationPolicy": "Background", "preconditions": {"uid": one.uid}}
            try:
                self.client.request("DELETE", one.path, body, rights=f"delete on {one.kind}")
            except ClusterError as failure:
                if failure.status not in (404, 409):
                    raise
        while going:
            going = [one for one in going if self._there(one)]
            self._pause(going)
        left = self._pods() if pods else []
        while left:
            self._pause(left)
            left = self._pods()

    def _pods(self) -> list[Found]:
        """Pods of our workloads."""
        path = f"/api/v1/namespaces/{quote(self.namespace)}/pods"
        found = self._listed("Pod", "pods", path, labelSelector=f"{MANAGED_BY}={MANAGER}")
        return [one for one in found if one.owners]

    def _there(self, one: Found) -> bool:
        answer = self.client.find(one.path, f"get on {one.kind}")
        return answer is not None and answer["metadata"]["uid"] == one.uid

    def _pause(self, left: list[Found]) -> None:
        if not left:
            return
        if time.monotonic() > self.ends:
            raise ClusterError(
                f"Wait until {', '.join(one.shown for one in left[:5])} in {self.namespace} is gone",
                "it is still there",
                f"Look at its finalizers (GET {left[0].path}), then run it again",
            )
        time.sleep(POLL)
