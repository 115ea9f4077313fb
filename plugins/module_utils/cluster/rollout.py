# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether workloads are ready, and why not: Deployments, StatefulSets, Jobs, PersistentVolumeClaims and Routes.

:func:`wait_for` asks again and again rather than holding a watch open: each answer stands by itself, so that a dropped
connection costs nothing but the next question. The parts that judge an object are pure.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest, if_allowed
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.secrets import PUBLIC
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import redact

#: Where the kinds that can be waited for are found.
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Route": "/apis/route.openshift.io/v1/namespaces/{}/routes",
}
RIGHTS = (
    "get on deployments.apps, statefulsets.apps, jobs.batch, persistentvolumeclaims and routes.route.openshift.io, and"
    " list on pods"
)
#: What a container waits with that no patience mends, only somebody; it is given a while all the same.
STUCK = frozenset(
    "ErrImagePull ImagePullBackOff InvalidImageName ErrImageNeverPull ImageInspectError RegistryUnavailable"
    " CreateContainerConfigError CreateContainerError RunContainerError".split()
)
#: Restarts after which a crashing container is not waited for any longer.
RESTARTS = 3
#: Why a router doesn't admit a Route: an older one has its name.
CLAIMED = "HostAlreadyClaimed"
REVISION = "deployment.kubernetes.io/revision"
#: Statuses of an API server that is on its way down or up, or has too much to do.
PASSING = frozenset({0, 408, 429, 500, 502, 503, 504})
#: Label that names the revision of a StatefulSet's pod.
HASH = "controller-revision-hash"
#: How many events and lines of a log an error tells.
EVENTS = 3
LINES = 5
#: Seconds to the second question, and for the API server's first answer.
FIRST_POLL = 0.25
FIRST_ANSWER = 30
#: Variables whose plain values are not shown either.
SECRET_NAME = re.compile(r"(?i)key|token|secret|passw|credential|dsn|database_url|licen[cs]e")
#: Shorter values would take out parts of any word.
SHORTEST = 4


class RolloutFailed(ClusterError):
    """A workload that did not get ready, or never will.

    Attributes:
        states: what :func:`wait_for` would have returned, as it was when it gave up.
    """

    states: list[State]


@dataclass
class State:
    """How far a workload is.

    Attributes:
        workload: ``Kind/name``.
        ready, wanted, updated: numbers of pods; a Job's completions; 1 or 0 of a volume claim or a Route.
        revision: of the Deployment or StatefulSet, as Kubernetes counts or names it.
        done: whether there is nothing left to wait for.
        why: what is still missing, in words; "" when done.
        fatal: why it never will be done; "" where it may.
        seconds: after which it was seen so, counted from the beginning of the wait.
        trouble: pods that aren't ready, and why, in words.
        note: what is to be known all the same of what there is nothing left to wait for.
        advice, uid, pod: for the error: the way on, whose events to tell, whose log.
    """

    workload: str
    ready: int = 0
    wanted: int = 0
    updated: int = 0
    revision: str = ""
    done: bool = False
    why: str = ""
    fatal: str = ""
    seconds: float = 0.0
    trouble: list[str] = field(default_factory=list)
    note: str = ""
    advice: str = ""
    uid: str = ""
    pod: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name without its kind."""
        return self.workload.partition("/")[2]

    def sentence(self) -> str:
        """``litellm 3/3 ready in 42 s``, or how far it is and what is missing."""
        kind = self.workload.partition("/")[0]
        if kind == "PersistentVolumeClaim":
            return f"{self.name}: {self.why}" if self.why else f"{self.name} bound"
        if kind == "Route":
            said = self.note or (self.fatal or self.why if not self.done else "")
            return f"{self.workload}: {said}" if said else f"{self.workload} admitted"
        reached = f"{self.name} {self.ready}/{self.wanted} {'complete' if kind == 'Job' else 'ready'}"
        return f"{reached} in {self.seconds:.0f} s" if self.done else f"{reached} ({self.fatal or self.why})"

    def shown(self) -> dict[str, Any]:
        """For a module's result."""
        return {
            "workload": self.workload,
            "name": self.name,
            "ready": self.ready,
            "wanted": self.wanted,
            "updated": self.updated,
            "revision": self.revision,
            "done": self.done,
            "seconds": round(self.seconds, 1),
            "msg": self.sentence(),
            "trouble": self.trouble,
            "note": f"{self.workload}: {self.note}" if self.note else "",
        }


def wait_for(
    client: Rest,
    namespace: str,
    workloads: Sequence[str],
    timeout: float = 600,
    *,
    poll: float = 2,
    pull_failure_after: float = 60,
    router_answers_after: float = 15,
    wait: bool = True,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[State]:
    """Wait until workloads are ready: rolled out, completed, bound, admitted.

    Args:
        client: see :meth:`~.client.Cluster.rest`.
        workloads: ``Deployment/litellm``, ``StatefulSet/…``, ``Job/…``, ``PersistentVolumeClaim/…``, ``Route/…``.
        timeout: seconds, for all of them together.
        poll: seconds between questions; the first ones come sooner.
        pull_failure_after: seconds that an image may fail to be pulled, or a container to be made.
        router_answers_after: seconds after which a Route's rejection is believed, and a router that says nothing isn't
            waited for any longer, as not every router says what it does.
        wait: False looks once, and raises nothing about what it sees.

    Returns:
        One state a workload, in the order given.

    Raises:
        RolloutFailed: not ready in time, or never going to be: which workload, which pod, what of it, its last events.
        ClusterError: the API server refused to tell.
    """
    return _Wait(client, namespace, pull_failure_after, router_answers_after, clock).run(
        workloads, timeout, poll, wait, sleep
    )


def parts(workload: str) -> tuple[str, str]:
    """Kind and name. Raises ValueError."""
    kind, slash, name = workload.partition("/")
    if kind not in PATHS or not slash or not name or "/" in name:
        raise ValueError(f"{workload!r} is no Kind/name of {', '.join(PATHS)}")
    return kind, name


class _Wait:
    def __init__(
        self, client: Rest, namespace: str, patience: float, router: float, clock: Callable[[], float]
    ) -> None:
        self.client, self.namespace, self.patience, self.clock = client, namespace, patience, clock
        self.router = router
        self.began: datetime | None = None
        #: Pod's uid and container, or a workload → when it was first seen stuck, and seen so on every look since.
        self.stuck: dict[tuple[str, str], float] = {}
        self.silence: ClusterError | None = None

    def run(
        self, workloads: Sequence[str], timeout: float, poll: float, wait: bool, sleep: Callable[[float], None]
    ) -> list[State]:
        for workload in workloads:
            parts(workload)
        states = {workload: State(workload, why="not read yet") for workload in workloads}
        start, pause = self.clock(), min(FIRST_POLL, poll)
        while True:
            left = [workload for workload in states if not states[workload].done]
            for workload in left:
                seen = self._answered(workload) if wait else self._look(workload)
                if seen is not None:
                    states[workload] = seen
                    seen.seconds = self.clock() - start
                    if seen.fatal and wait:
                        self._give_up(states, seen, "")
            left = [workload for workload in left if not states[workload].done]
            if not left or not wait:
                return list(states.values())
            passed = self.clock() - start
            if self.silence and self.began is None and passed > min(timeout, FIRST_ANSWER):
                raise self.silence
            if passed + pause > timeout:
                self._give_up(states, states[left[0]], f"not ready after {passed:.0f} s")
            sleep(pause)
            pause = min(poll, pause * 1.5)

    def _answered(self, workload: str) -> State | None:
        """A look, or None where the API server doesn't answer just now."""
        try:
            found = self._look(workload)
        except ClusterError as failure:
            if failure.status not in PASSING:
                raise
            self.silence = failure
            return None
        self.silence = None
        return found

    def _look(self, workload: str) -> State:
        kind, name = parts(workload)
        found = self.client.find(f"{PATHS[kind].format(self.namespace)}/{quote(name)}", RIGHTS)
        self.began = self.began or self.client.now
        if found is None:
            return State(workload, why="isn't there", fatal="isn't there", advice="Apply it first, or check its name")
        state = JUDGES[kind](workload, found)
        state.uid = found["metadata"]["uid"]
        if kind == "PersistentVolumeClaim":
            self._wait_for_consumer(state, found)
        elif kind == "Route":
            self._wait_for_router(state, found)
        elif not state.done:
            self._examine_condition(state, found)
            self._examine_pods(state, kind, found)
        return state

    def _wait_for_consumer(self, state: State, claim: Mapping[str, Any]) -> None:
        """A claim that is bound by its first pod has nothing to be waited for."""
        storage = claim["spec"].get("storageClassName")
        if state.done or state.fatal or not storage:
            return
        path = f"/apis/storage.k8s.io/v1/storageclasses/{quote(storage)}"
        found, refusal = if_allowed(lambda: self.client.find(path))
        # Not every account may read what is the cluster's; the claim's controller says it in an event too.
        if refusal and any(one.get("reason") == "WaitForFirstConsumer" for one in self._events(state.uid)):
            found = {"volumeBindingMode": "WaitForFirstConsumer"}
        if found and found.get("volumeBindingMode") == "WaitForFirstConsumer":
            state.done, state.why = True, f"waits for its first pod (StorageClass {storage})"

    def _wait_for_router(self, state: State, found: Mapping[str, Any]) -> None:
        """A rejection may be of what was before, until the router has looked again; and not every router answers."""
        if state.done:
            return
        rejected, silent = (state.uid, "rejected"), (state.uid, "silent")
        self.stuck.pop(silent if state.trouble else rejected, None)
        if self._stuck_for(rejected if state.trouble else silent) < self.router:
            return
        if not state.trouble:
            state.done, state.note = True, f"{state.why}: whether it is served is not known"
            return
        host = (found.get("spec") or {}).get("host")
        state.fatal = state.why
        state.advice = "Put right what the router says, and run again"
        if CLAIMED in state.why:
            state.advice = f"Another Route has the name {host}: remove that one, or choose another name, and run again"

    def _examine_condition(self, state: State, found: Mapping[str, Any]) -> None:
        """A rollout's own verdict, unless it is about what was before this run."""
        late = condition(found, "Progressing")
        if late.get("reason") == "ProgressDeadlineExceeded" and self._recent(late.get("lastUpdateTime")):
            state.fatal = f"ProgressDeadlineExceeded: {late.get('message', '')}"
        failure = condition(found, "ReplicaFailure")
        if failure.get("status") == "True":
            state.trouble.append(f"{failure.get('reason')}: {failure.get('message')}")
            if self._stuck_for((state.uid, "ReplicaFailure")) >= self.patience:
                state.fatal, state.advice = state.trouble[-1], "Put right what it says (quota, SCC, webhook), run again"
        else:
            self.stuck.pop((state.uid, "ReplicaFailure"), None)

    def _examine_pods(self, state: State, kind: str, found: Mapping[str, Any]) -> None:
        for pod in self._pods(kind, found):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            trouble = pod_trouble(pod)
            if not trouble:
                continue
            state.trouble.append(f"pod {name}: {trouble}")
            state.pod = state.pod or pod
            for container in containers(pod):
                waiting = (container.get("state") or {}).get("waiting") or {}
                place = (uid, container["name"])
                if waiting.get("reason") in STUCK:
                    since = self._stuck_for(place)
                    if since >= self.patience and not state.fatal:
                        state.fatal = f"{state.trouble[-1]} (for {since:.0f} s)"
                        state.advice, state.pod = stuck_advice(waiting["reason"]), pod
                    continue
                if waiting.get("reason") != "PodInitializing":
                    # ErrImagePull and ImagePullBackOff take turns; a container that runs was stuck before.
                    self.stuck.pop(place, None)
                ended = (container.get("lastState") or {}).get("terminated") or {}
                if (
                    waiting.get("reason") == "CrashLoopBackOff"
                    and container.get("restartCount", 0) >= RESTARTS
                    and self._recent(ended.get("finishedAt"))
                    and not state.fatal
                ):
                    state.fatal, state.pod = state.trouble[-1], pod
                    state.advice = (
                        f"Put right what its log says (kubectl logs {name} -c {container['name']} --previous"
                        f" -n {self.namespace}), and run again"
                    )

    def _recent(self, moment: str | None) -> bool:
        """Whether something happened in this run, or shortly before.

        What failed longer ago may have had a reason that this run has taken away: it gets another chance.
        """
        if not moment or self.began is None:
            return True
        return (self.began - parsed(moment)).total_seconds() <= self.patience

    def _stuck_for(self, place: tuple[str, str]) -> float:
        now = self.clock()
        return now - self.stuck.setdefault(place, now)

    def _pods(self, kind: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The pods of the current revision, those that are no more needed left out; troubled ones first."""
        base = f"/api/v1/namespaces/{self.namespace}/pods"
        selector = selector_text(found["spec"].get("selector") or {})
        pods = self.client.get(base, RIGHTS, labelSelector=selector)["items"] if selector else []
        owner = found["metadata"]["uid"]
        if kind == "Deployment":
            owner = self._replica_set(found, selector)
        pods = [pod for pod in pods if owner in owners(pod)]
        if kind == "StatefulSet":
            # A pod of an older revision that isn't ready holds up those of the new one: it stays among them.
            current = (found.get("status") or {}).get("updateRevision")
            pods = [pod for pod in pods if pod["metadata"]["labels"].get(HASH) == current or pod_trouble(pod)]
        return sorted(pods, key=lambda pod: (not any(_is_failing(one) for one in containers(pod)), _created(pod)))

    def _replica_set(self, found: Mapping[str, Any], selector: str) -> str:
        """The uid of the current ReplicaSet, or what no pod has for an owner."""
        revision = (found["metadata"].get("annotations") or {}).get(REVISION)
        sets = self.client.get(
            f"/apis/apps/v1/namespaces/{self.namespace}/replicasets", RIGHTS, labelSelector=selector
        )["items"]
        for one in sets:
            if (one["metadata"].get("annotations") or {}).get(REVISION) == revision and found["metadata"][
                "uid"
            ] in owners(one):
                return str(one["metadata"]["uid"])
        return "none"

    def _give_up(self, states: Mapping[str, State], state: State, late: str) -> None:
        """Raise what is known of a workload that isn't ready."""
        said = [late, state.fatal or "; ".join(state.trouble[:2]) or state.why]
        if late and self.silence:
            said.insert(1, f"the API server doesn't answer ({self.silence.words}); the last time it did:")
        text = ": ".join(part.rstrip(".: ") for part in said if part)
        if not self.silence:
            with suppress(ClusterError):  # what is known so far is said in any case
                text += self._background(state)
        others = [one.name for one in states.values() if not one.done and one is not state]
        if others:
            text += f". Not ready either: {', '.join(others)}"
        advice = state.advice or "Put right what is said there, or wait longer (timeout), and run again"
        kept = "What was applied stays as it is"
        failure = RolloutFailed(f"Wait for {state.workload} in {self.namespace}", text, f"{advice}. {kept}")
        failure.states = list(states.values())
        raise failure

    def _background(self, state: State) -> str:
        """The last events of the pod, or of the workload, and what a crashed container said at its end."""
        place = state.pod["metadata"] if state.pod else {"uid": state.uid, "name": state.workload}
        try:
            events = self._events(place["uid"]) if place["uid"] else []
        except ClusterError as failure:
            return f". Its events can't be read: {failure}"
        text = ""
        if events:
            told = "; ".join(event_text(one, self.client.now) for one in events)
            text += f". Last events of {place['name']}: {told}"
        for container in containers(state.pod) if state.pod else ():
            ended, previous = crash(container)
            if ended:
                text += f". Last lines of container {container['name']} (exit code {ended.get('exitCode')}): "
                text += self._log(state.pod or {}, container["name"], previous)
                break
        hidden = hidden_texts(self.client, self.namespace, state.pod) if state.pod else []
        if hidden is None and "Last lines of" in text:
            return text[: text.index(". Last lines of")] + (
                ". Its log is not shown, as the Secrets that would have to be hidden in it can't be read"
            )
        return redact(text, hidden or [])

    def _events(self, uid: str) -> list[dict[str, Any]]:
        found = self.client.get(
            f"/api/v1/namespaces/{self.namespace}/events",
            "list on events",
            fieldSelector=f"involvedObject.uid={uid}",
        )["items"]
        return sorted(found, key=_event_time)[-EVENTS:]

    def _log(self, pod: Mapping[str, Any], container: str, previous: bool) -> str:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{quote(pod['metadata']['name'])}/log"
        query = {"container": container, "tailLines": str(LINES), **({"previous": "true"} if previous else {})}
        try:
            lines = self.client.text(path, "get on pods/log", **query).splitlines()
        except ClusterError as failure:
            return f"not readable ({failure.words})"
        return " | ".join(line.strip()[:300] for line in lines[-LINES:] if line.strip()) or "none"


def hidden_texts(client: Rest, namespace: str, pod: Mapping[str, Any]) -> list[str] | None:
    """What must not be shown of a pod's log: values of the Secrets it gets, and of variables; None if unread.

    What a Secret holds beside, a user's or a database's name, is part of names that a diagnosis needs.
    """
    found: set[str] = set()
    for name in secret_names(pod):
        try:
            secret = client.find(f"/api/v1/namespaces/{namespace}/secrets/{quote(name)}")
        except ClusterError:
            return None
        for key, value in ((secret or {}).get("data") or {}).items():
            if key not in PUBLIC:
                found.update(_spellings(base64.b64decode(value).decode("utf-8", "replace")))
    for spec in pod_containers(pod):
        for entry in spec.get("env") or ():
            if SECRET_NAME.search(entry["name"]):
                found.update(_spellings(entry.get("value") or ""))
    # The longest first: one may be part of another.
    return sorted(found, key=len, reverse=True)


# What objects say; all of it pure.


def _deployment(workload: str, found: Mapping[str, Any]) -> State:
    spec, status = found["spec"], found.get("status") or {}
    wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
    available, total = status.get("availableReplicas", 0), status.get("replicas", 0)
    state = State(
        workload,
        ready=status.get("readyReplicas", 0),
        wanted=wanted,
        updated=updated,
        revision=(found["metadata"].get("annotations") or {}).get(REVISION, ""),
    )
    if found["metadata"].get("deletionTimestamp"):
        state.fatal = state.why = "is being deleted"
    elif status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
        state.why = "the controller has not seen its change yet"
    elif updated < wanted:
        state.why = f"{updated} of {wanted} pods are of the new revision"
    elif total > updated:
        state.why = f"{total - updated} pods of an older revision are still there"
    elif available < updated:
        state.why = f"{available} of {updated} pods are available"
    state.done = not state.why
    if spec.get("paused") and not state.done and not state.fatal:
        state.fatal = f"its rollout is paused, and {state.why}"
        state.advice = f"Resume it (kubectl rollout resume {workload.lower()})"
    return state


def _stateful_set(workload: str, found: Mapping[str, Any]) -> State:
    spec, status = found["spec"], found.get("status") or {}
    wanted = spec.get("replicas", 1)
    strategy = spec.get("updateStrategy") or {}
    by_hand = strategy.get("type") == "OnDelete"
    # A partition keeps the pods below it at the old revision on purpose.
    changing = max(0, wanted - (strategy.get("rollingUpdate") or {}).get("partition", 0))
    ready, current, target = status.get("readyReplicas", 0), status.get("currentRevision"), status.get("updateRevision")
    updated = status.get("updatedReplicas", wanted if current == target else 0)
    state = State(workload, ready=ready, wanted=wanted, updated=updated, revision=target or "")
    if found["metadata"].get("deletionTimestamp"):
        state.fatal = state.why = "is being deleted"
    elif status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
        state.why = "the controller has not seen its change yet"
    elif not by_hand and current != target and updated < changing:
        state.why = f"{updated} of {changing} pods are of the new revision"
    elif ready < wanted:
        state.why = f"{ready} of {wanted} pods are ready"
    elif status.get("replicas", 0) > wanted:
        state.why = f"{status['replicas'] - wanted} pods are still to go"
    state.done = not state.why
    return state


def _job(workload: str, found: Mapping[str, Any]) -> State:
    spec, status = found["spec"], found.get("status") or {}
    wanted, ready = spec.get("completions") or 1, status.get("succeeded", 0)
    state = State(workload, ready=ready, wanted=wanted, updated=wanted)
    failed = condition(found, "Failed")
    if found["metadata"].get("deletionTimestamp"):
        state.fatal = state.why = "is being deleted"
    elif failed.get("status") == "True":
        state.fatal = state.why = f"failed: {failed.get('reason', '')}: {failed.get('message', '')}"
        state.advice = "Put right what its log says, and run again"
    elif spec.get("suspend"):
        state.fatal = state.why = "is suspended"
    elif condition(found, "Complete").get("status") != "True":
        attempts = status.get("failed", 0)
        state.why = f"{ready} of {wanted} completed" + (f", {attempts} attempts failed" if attempts else "")
    state.done = not state.why
    return state


def _claim(workload: str, found: Mapping[str, Any]) -> State:
    phase = (found.get("status") or {}).get("phase", "Pending")
    state = State(workload, ready=int(phase == "Bound"), wanted=1, updated=int(phase == "Bound"))
    if found["metadata"].get("deletionTimestamp"):
        state.fatal = state.why = "is being deleted"
    elif phase == "Lost":
        state.fatal = state.why = f"its volume {found['spec'].get('volumeName', '')} is gone"
        state.advice = "Restore a backup into a new volume"
    elif phase != "Bound":
        state.why = f"is {phase} (StorageClass {found['spec'].get('storageClassName') or 'none'})"
    state.done = not state.why
    return state


def _route(workload: str, found: Mapping[str, Any]) -> State:
    said = admissions(found)
    admitted = any(one.get("status") == "True" for _router, one in said)
    state = State(workload, ready=int(admitted), wanted=1, updated=int(admitted), done=admitted)
    if admitted:
        return state
    if found["metadata"].get("deletionTimestamp"):
        state.fatal = state.why = "is being deleted"
        return state
    state.trouble = [
        f"router {router or 'without a name'} doesn't admit it: {_reason(one)}"
        for router, one in said
        if one.get("status") == "False"
    ]
    state.why = "; ".join(state.trouble) or "no router has said that it admits it"
    return state


JUDGES: dict[str, Callable[[str, Mapping[str, Any]], State]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "PersistentVolumeClaim": _claim,
    "Route": _route,
}


def admissions(route: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What routers say of a Route under the name that it has now: the router, and its condition ``Admitted``."""
    host = (route.get("spec") or {}).get("host")
    return [
        (str(entry.get("routerName") or ""), condition({"status": entry}, "Admitted"))
        for entry in (route.get("status") or {}).get("ingress") or ()
        if not host or entry.get("host", host) == host
    ]


def condition(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of an object; {} where it has none of that type."""
    return next((one for one in (found.get("status") or {}).get("conditions") or () if one["type"] == kind), {})


def containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Statuses of a pod's containers, those that run first first."""
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(kind) or ()


def pod_containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A pod's containers as they are specified."""
    for kind in ("initContainers", "containers"):
        yield from (pod.get("spec") or {}).get(kind) or ()


def pod_trouble(pod: Mapping[str, Any]) -> str:
    """Why a pod isn't ready, in words; "" where it is, or has done its work."""
    status = pod.get("status") or {}
    phase = status.get("phase", "Unknown")
    if condition(pod, "Ready").get("status") == "True" or phase == "Succeeded":
        return ""
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    for container in containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        ended, _previous = crash(container)
        if waiting.get("reason") in STUCK:
            return f"container {container['name']}: {_reason(waiting)}"
        if ended:
            text = f"container {container['name']} ended with {_reason(ended)}, exit code {ended.get('exitCode')}"
            restarts = container.get("restartCount", 0)
            how = f"{waiting['reason']}, " if waiting.get("reason") else ""
            return f"{text} ({how}{restarts} restarts)" if restarts else text
    for container in containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"container {container['name']}: {_reason(waiting)}"
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        one = condition(pod, kind)
        if one.get("status") == "False":
            because = ": ".join(str(one[key]) for key in ("reason", "message") if one.get(key))
            return f"is {phase}, condition {kind} is False" + (f" ({because})" if because else "")
    return f"is {phase}" + (f" ({_reason(status)})" if status.get("reason") or status.get("message") else "")


def crash(container: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """How a container ended badly, and whether that was its run before this one; ({}, False) where it didn't."""
    now = (container.get("state") or {}).get("terminated") or {}
    if now:
        return (now, False) if now.get("exitCode") else ({}, False)
    last = (container.get("lastState") or {}).get("terminated") or {}
    # A container that was ended by its liveness probe may have ended with 0.
    return (last, True) if last and not container.get("ready") else ({}, False)


def _is_failing(container: Mapping[str, Any]) -> bool:
    reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
    return reason in STUCK or bool(crash(container)[0])


def stuck_advice(reason: str) -> str:
    """What to do about a container that can't be made."""
    if reason.startswith(("Create", "Run")):
        return "Check that the Secrets and ConfigMaps that it names are there with those keys, and run again"
    return "Check the image's name and tag, that the registry answers, and its pull secret; then run again"


def owners(found: Mapping[str, Any]) -> set[str]:
    """The uids of an object's owners."""
    return {one["uid"] for one in found["metadata"].get("ownerReferences") or ()}


def selector_text(selector: Mapping[str, Any]) -> str:
    """A label selector in the form of a query."""
    said = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        values = f"({','.join(one.get('values') or ())})"
        said.append(
            {
                "In": f"{one['key']} in {values}",
                "NotIn": f"{one['key']} notin {values}",
                "Exists": one["key"],
                "DoesNotExist": f"!{one['key']}",
            }[one["operator"]]
        )
    return ",".join(said)


def secret_names(pod: Mapping[str, Any]) -> list[str]:
    """The Secrets whose content a pod's containers get, as variables or as files."""
    found: set[str] = set()
    for container in pod_containers(pod):
        for entry in container.get("env") or ():
            found.add(((entry.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name", ""))
        for source in container.get("envFrom") or ():
            found.add((source.get("secretRef") or {}).get("name", ""))
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        found.add((volume.get("secret") or {}).get("secretName", ""))
        for source in (volume.get("projected") or {}).get("sources") or ():
            found.add((source.get("secret") or {}).get("name", ""))
    return sorted(found - {""})


def event_text(event: Mapping[str, Any], now: datetime) -> str:
    """``FailedScheduling (4 times, 12 s ago): 0/3 nodes are available``."""
    count = event.get("count") or (event.get("series") or {}).get("count") or 1
    times = f"{count} times, " if count > 1 else ""
    moment = _event_time(event)
    age = f"{max(0, (now - parsed(moment)).total_seconds()):.0f} s ago" if moment else "some time ago"
    return f"{event.get('reason', '')} ({times}{age}): {' '.join(str(event.get('message', '')).split())[:300]}"


def parsed(moment: str) -> datetime:
    """A moment as Kubernetes writes it, with or without fractions of a second."""
    return datetime.fromisoformat(f"{moment.rstrip('Z').partition('.')[0]}+00:00")


def _event_time(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _created(found: Mapping[str, Any]) -> str:
    return str(found["metadata"].get("creationTimestamp") or "")


def _reason(place: Mapping[str, Any]) -> str:
    said = [" ".join(str(place[key]).split())[:400] for key in ("reason", "message") if place.get(key)]
    return ": ".join(said) or "no reason given"


def _spellings(secret: str) -> Iterable[str]:
    """How a secret may show up in a log: whole, line by line, in a URL, in JSON."""
    for text in (secret, *secret.splitlines(), quote(secret, safe=""), json.dumps(secret)[1:-1]):
        if len(text.strip()) >= SHORTEST:
            yield text.strip()
