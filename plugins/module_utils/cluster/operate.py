# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Single fields of running workloads: set, read back, waited for, and put back where that fails.

Everything else of a workload stays as it is, whoever made it and with whatever variables: a field is patched as another
field manager than the deploy's, and nothing is applied whole. What a deploy keeps of it is in docs/decisions/0012.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import rollout
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import MANAGER as OURS

MANAGER = f"{OURS}.operate"
RIGHTS = "get and patch on deployments.apps and statefulsets.apps"
#: A strategic merge: containers and variables are told apart by name, and the others stay.
PATCH = "application/strategic-merge-patch+json"
#: What people call the parts, what their Deployments and main containers are called.
DEPLOYMENTS = {"litellm": "litellm", "backend": "litellm-backend", "frontend": "litellm-frontend"}
CONTAINERS = {"litellm": "litellm", "backend": "backend", "frontend": "frontend"}
#: As ``kubectl rollout restart`` sets it.
RESTARTED = "kubectl.kubernetes.io/restartedAt"
#: What rollout's errors end with, which isn't so where a change is put back.
STAYS = ". What was applied stays as it is"

#: Options of modules that wait for what they change; documentation: doc_fragments/operate.py
OPTIONS: dict[str, dict[str, Any]] = {
    "rollout_timeout": {"type": "float", "default": 600},
    "poll": {"type": "float", "default": 2},
    "pull_failure_after": {"type": "float", "default": 60},
}

Body = dict[str, Any]


class OperationFailed(ClusterError):
    """What was tried, why it failed, and the state that is left; ``changes`` was written and still is."""


@dataclass
class Change:
    """Fields of one workload.

    Attributes:
        workload: ``Kind/name``.
        patch, back: the fields as they are to be, and as they were (null for what wasn't there), as strategic merges.
        fields: name of each field → before and after, for people.
        pods: whether it rolls the pods out anew, or changes their number.
    """

    workload: str
    patch: Body
    back: Body
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    pods: bool = True

    @property
    def name(self) -> str:
        """The name without its kind."""
        return self.workload.partition("/")[2]

    def sentence(self, back: bool = False) -> str:
        """``litellm: replicas 3 -> 5``."""
        parts = []
        for name, (before, after) in self.fields.items():
            first, then = (after, before) if back else (before, after)
            parts.append(
                f"{name} {'none' if first in (None, '') else first} -> {'none' if then in (None, '') else then}"
            )
        return f"{self.name}: {', '.join(parts)}"

    def shown(self) -> Body:
        """For a module's result."""
        changes = [{"field": name, "before": before, "after": after} for name, (before, after) in self.fields.items()]
        return {"name": self.name, "workload": self.workload, "changed": bool(self.fields), "changes": changes}


# What a change is made of; all of it pure.


def workload_of(live: Mapping[str, Any]) -> str:
    """``Kind/name`` of an object that was read by its path, which says no kind."""
    kind = live.get("kind") or ("StatefulSet" if "serviceName" in live["spec"] else "Deployment")
    return f"{kind}/{live['metadata']['name']}"


def main_container(live: Mapping[str, Any], name: str = "") -> Body:
    """The container of a name, or the first one."""
    there = live["spec"]["template"]["spec"]["containers"]
    return dict(next((one for one in there if one["name"] == name), there[0]))


def set_replicas(live: Mapping[str, Any], number: int) -> Change | None:
    """Another number of pods; None where it is that already."""
    now = live["spec"].get("replicas", 1)
    if now == number:
        return None
    spec = {"spec": {"replicas": number}}
    return Change(workload_of(live), spec, {"spec": {"replicas": now}}, {"replicas": (now, number)}, pods=number > 0)


def set_images(live: Mapping[str, Any], images: Mapping[str, str]) -> Change | None:
    """Other images, by the containers' names, init containers too; None where they are that already."""
    pod = live["spec"]["template"]["spec"]
    patch: Body = {}
    back: Body = {}
    fields: dict[str, tuple[Any, Any]] = {}
    for kind in ("initContainers", "containers"):
        for one in pod.get(kind) or ():
            wanted = images.get(one["name"], one.get("image"))
            if wanted != one.get("image"):
                patch.setdefault(kind, []).append({"name": one["name"], "image": wanted})
                back.setdefault(kind, []).append({"name": one["name"], "image": one.get("image")})
                title = f"image of {one['name']}" if kind == "containers" else f"image of init container {one['name']}"
                fields[title] = (one.get("image"), wanted)
    if not fields:
        return None
    return Change(workload_of(live), _of_pod(patch), _of_pod(back), fields)


def set_annotations(live: Mapping[str, Any], values: Mapping[str, str], said: str = "") -> Change | None:
    """Annotations of the pod template, which roll the pods out; None where they are that already.

    Args:
        said: what is shown in place of the values.
    """
    there = (live["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    new = {key: value for key, value in values.items() if there.get(key) != value}
    if not new:
        return None
    patch = {"spec": {"template": {"metadata": {"annotations": new}}}}
    back = {"spec": {"template": {"metadata": {"annotations": {key: there.get(key) for key in new}}}}}
    fields = {said: ("", "now")} if said else {key: (there.get(key), value) for key, value in new.items()}
    return Change(workload_of(live), patch, back, fields)


def set_variables(live: Mapping[str, Any], container: str, entries: Sequence[Mapping[str, Any]]) -> Change | None:
    """Variables of a container; None where they are that already. Shown by name, without their values."""
    there = {one["name"]: one for one in main_container(live, container).get("env") or ()}
    new = [dict(one) for one in entries if there.get(one["name"]) != one]
    if not new:
        return None
    name = main_container(live, container)["name"]
    old = [there.get(one["name"], {"name": one["name"], "$patch": "delete"}) for one in new]
    fields = {f"variable {one['name']}": ("another" if one["name"] in there else None, "set") for one in new}
    return Change(
        workload_of(live),
        _of_pod({"containers": [{"name": name, "env": new}]}),
        _of_pod({"containers": [{"name": name, "env": old}]}),
        fields,
    )


def merged(*changes: Change | None) -> Change | None:
    """Several changes of one workload as one, so that its pods are rolled out once."""
    there = [one for one in changes if one is not None]
    if not there:
        return None
    patch: Body = {}
    back: Body = {}
    fields: dict[str, tuple[Any, Any]] = {}
    for one in there:
        patch, back = _together(patch, one.patch), _together(back, one.back)
        fields |= one.fields
    return Change(there[0].workload, patch, back, fields, any(one.pods for one in there))


def _of_pod(spec: Body) -> Body:
    return {"spec": {"template": {"spec": spec}}}


def _together(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _together(one.get(key), other.get(key)) for key in {**one, **other}}
    if isinstance(one, list) and isinstance(other, list):
        names = list(dict.fromkeys(entry["name"] for entry in [*one, *other]))
        pick = [{entry["name"]: entry for entry in side} for side in (one, other)]
        return [_together(pick[0].get(name), pick[1].get(name)) for name in names]
    return one if other is None else other


def left_undone(live: Any, wanted: Any, place: str = "") -> list[str]:
    """Fields that an object has otherwise than a patch says, by their places."""
    if isinstance(wanted, Mapping):
        found = []
        for key, value in wanted.items():
            inside = f"{place}.{key}" if place else key
            found += left_undone((live or {}).get(key) if isinstance(live, Mapping) else None, value, inside)
        return found
    if isinstance(wanted, list):
        there = {one.get("name"): one for one in live or ()}
        found = []
        for one in wanted:
            if one.get("$patch") == "delete":
                found += [f"{place}[{one['name']}]"] if one["name"] in there else []
            else:
                found += left_undone(there.get(one["name"]), one, f"{place}[{one['name']}]")
        return found
    return [] if live == wanted else [place]


class Operator:
    """Reads and patches workloads of one namespace."""

    def __init__(
        self, client: Rest, namespace: str, *, timeout: float = 600, poll: float = 2, pull_failure_after: float = 60
    ) -> None:
        self.client, self.namespace = client, namespace
        self.timeout, self.poll, self.pull_failure_after = timeout, poll, pull_failure_after
        #: How far each workload was when it was waited for last.
        self.states: dict[str, rollout.State] = {}

    def find(self, workload: str) -> Body | None:
        """A workload, with its kind; None where it isn't there. Raises ClusterError."""
        kind, _name = rollout.parts(workload)
        found = self.client.find(self._path(workload), RIGHTS)
        return None if found is None else {"kind": kind, **found}

    def components(self) -> dict[str, Body]:
        """The parts that are deployed, LiteLLM first. Raises ClusterError, where none is."""
        found = {part: self.find(f"Deployment/{name}") for part, name in DEPLOYMENTS.items()}
        there = {part: one for part, one in found.items() if one is not None}
        if not there:
            raise ClusterError(
                f"Look for LiteMaaS in namespace {self.namespace}",
                f"there is no Deployment {', '.join(DEPLOYMENTS.values())}",
                "Check namespace, and which cluster the kubeconfig or K8S_AUTH_… mean",
            )
        return there

    def write(self, change: Change, *, back: bool = False, dry_run: bool = False) -> None:
        """Patch a workload, and look whether it is what it should be. Raises ClusterError."""
        body = change.back if back else change.patch
        query = {"fieldManager": MANAGER, **({"dryRun": "All"} if dry_run else {})}
        answer = self.client.request(
            "PATCH", self._path(change.workload), body, query=query, content_type=PATCH, rights=RIGHTS
        )
        undone = left_undone(answer, body)
        if undone:
            raise ClusterError(
                f"Change {change.workload} in {self.namespace}",
                f"the API server took it, and {', '.join(undone)} is not what was sent",
                "Look for an admission webhook or an operator that sets it back",
            )

    def wait(self, workloads: Iterable[str]) -> None:
        """Until all are ready. Raises ClusterError."""
        named = list(workloads)
        states = rollout.wait_for(
            self.client,
            self.namespace,
            named,
            self.timeout,
            poll=self.poll,
            pull_failure_after=self.pull_failure_after,
        )
        self.states |= {state.workload: state for state in states}

    def carry_out(self, changes: Sequence[Change], *, roll_back: bool) -> None:
        """Each change written and waited for before the next one.

        Args:
            roll_back: whether all of them are put back, and waited for, where one fails.

        Raises:
            OperationFailed: with the state that is left.
        """
        written: list[Change] = []
        for change in changes:
            try:
                self.write(change)
                written.append(change)
                self.wait([change.workload])
            except ClusterError as failure:
                raise self.failed(change, failure, written, roll_back) from None

    def failed(
        self, change: Change, failure: ClusterError, written: Sequence[Change], roll_back: bool
    ) -> OperationFailed:
        """The error about a change that was not carried out, after what was written is put back."""
        advice = failure.advice.removesuffix(STAYS)
        if not written:
            state = "Nothing was changed"
        elif not roll_back:
            state = f"Changed, and left so: {'; '.join(one.sentence() for one in written)}. Pods that were ready go on"
        else:
            state = self._put_back(written)
            written = [] if state.startswith("Put back") else written
        error = OperationFailed(
            f"Change {change.workload} in {self.namespace}",
            f"{failure.attempt}: {failure.words.rstrip('.')}. {state}",
            advice,
            failure.status,
        )
        error.changes = tuple(written)
        return error

    def _put_back(self, written: Sequence[Change]) -> str:
        """The state in words."""
        said = "; ".join(one.sentence(back=True) for one in reversed(written))
        try:
            for one in reversed(written):
                self.write(one, back=True)
            self.wait([one.workload for one in written])
        except ClusterError as failure:
            return f"Putting it back ({said}) failed too: {str(failure).removesuffix(STAYS)}"
        return f"Put back, and ready: {said}"

    def _path(self, workload: str) -> str:
        kind, name = rollout.parts(workload)
        return f"{rollout.PATHS[kind].format(self.namespace)}/{quote(name)}"


def operator_of(cluster: Cluster, params: Mapping[str, Any]) -> Operator:
    """From options of :data:`OPTIONS`, and the namespace. Raises ClusterError."""
    return Operator(
        cluster.rest(),
        params["namespace"],
        timeout=params["rollout_timeout"],
        poll=params["poll"],
        pull_failure_after=params["pull_failure_after"],
    )


def difference(changes: Iterable[Change]) -> dict[str, str]:
    """For diff mode."""
    sides = {"before": "", "after": ""}
    for change in changes:
        for name, values in change.fields.items():
            for side, value in zip(sides, values, strict=True):
                sides[side] += f"{change.name}: {name} {'none' if value in (None, '') else value}\n"
    return sides


def missing(wanted: Iterable[str], there: Mapping[str, Any], namespace: str) -> None:
    """Raises ClusterError where a part is asked for that isn't deployed."""
    absent = [part for part in wanted if part not in there]
    if absent:
        raise ClusterError(
            f"Look for {', '.join(absent)} in namespace {namespace}",
            f"deployed are {', '.join(there)} alone",
            "Name one of these. Nothing was changed",
        )


def restart(operator: Operator, parts: Sequence[str], check: bool = False) -> list[Change]:
    """Roll the pods of parts out anew, one part after the other as named; what was changed. Raises ClusterError."""
    there = operator.components()
    missing(parts, there, operator.namespace)
    now = f"{operator.client.now:%Y-%m-%dT%H:%M:%SZ}"
    changes = []
    for part in parts:
        change = set_annotations(there[part], {RESTARTED: now}, "restarted")
        if change is None:
            raise ClusterError(
                f"Restart {part} in {operator.namespace}", "it was restarted within this second", "Wait, and run again"
            )
        changes.append(change)
    for change in changes:
        operator.write(change, dry_run=True)
    if not check:
        operator.carry_out(changes, roll_back=False)
    return changes
