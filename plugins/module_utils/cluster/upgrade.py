# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New images for a deployment that runs: pulled and backed up first, migrated, rolled out, put back where that fails.

Nothing else of the deployment is touched, so that nobody needs the variables that it was made with.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import (
    facts,
    images,
    operate,
    removal,
    rollout,
    secrets,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import redact
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import MANAGER

#: On a Deployment while it is upgraded: the images from before, so that an interrupted run can be put back too.
REPLACED = "rhpds.litemaas/upgraded-from"
#: On a migration: the image that it is for.
IMAGE = "rhpds.litemaas/image"
PULL_CHECK = "litemaas-pull-check"
#: What a container waits with while its image isn't there, and never comes.
UNPULLED = frozenset(
    "ErrImagePull ImagePullBackOff InvalidImageName ErrImageNeverPull ImageInspectError RegistryUnavailable".split()
)
#: What it waits with before anything is known.
COMING = frozenset(("ContainerCreating", "PodInitializing", None))
#: How a Job ends.
ENDS = ("Complete", "Failed")
#: Lines of a migration's log that are shown.
LINES = 40
#: Steps that are put back together: the backend and its portal belong together, LiteLLM stands by itself.
GROUPS = (("litellm",), ("backend", "frontend"))
ZERO_RESOURCES = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}


@dataclass
class Wish:
    """What is asked for: part → tag, and part → repository where it isn't the one that runs."""

    tags: Mapping[str, str]
    repositories: Mapping[str, str] = field(default_factory=dict)
    allow_downgrade: bool = False


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        changes: part → its change; parts that have their images already are left out.
        targets: part → image.
        unfinished: part → change back, of a run before this one that didn't come to its end.
    """

    changes: dict[str, operate.Change] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    unfinished: dict[str, operate.Change] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changes and not self.unfinished


@dataclass
class Result:
    """What was done: the module's own words come from it."""

    plan: Plan
    migration: str = ""
    log: list[str] = field(default_factory=list)
    backup: str = ""
    notes: list[str] = field(default_factory=list)


def wish_of(params: Mapping[str, Any], there: Mapping[str, Any], namespace: str) -> Wish:
    """Of a module's options. ``version`` is for those of backend and portal that are there. Raises ClusterError."""
    both = [part for part in GROUPS[1] if part in there]
    if params["version"] and not both:
        operate.missing(GROUPS[1], there, namespace)
    tags = dict.fromkeys(both, params["version"]) if params["version"] else {}
    tags |= {part: params[f"{part}_tag"] for part in operate.DEPLOYMENTS if params[f"{part}_tag"]}
    given = {part: params[f"{part}_image"] for part in operate.DEPLOYMENTS if params[f"{part}_image"]}
    return Wish(tags, given, params["allow_downgrade"])


def described(done: Result, check: bool) -> str:
    """What was done, in a line."""
    images_now = ", ".join(f"{part} {image}" for part, image in done.plan.targets.items())
    if done.plan.empty:
        return f"as wanted already: {images_now}"
    said = [one.sentence() for one in done.plan.changes.values()]
    said += [f"{part}: an interrupted upgrade has come to its end" for part in done.plan.unfinished]
    if check:
        said = [f"would change {'; '.join(said)}"]
        said += [f"would migrate with {done.migration}"] if done.migration else []
    else:
        said += [f"database migrated by {done.migration}"] if done.migration else []
        said += [f"backup {done.backup}"] if done.backup else []
        said += ["no backup was made"] if not done.backup and set(done.plan.changes) & {"litellm", "backend"} else []
    return "; ".join([*said, *done.notes])


def plan(there: Mapping[str, Mapping[str, Any]], wish: Wish, namespace: str) -> Plan:
    """Pure. Raises ClusterError, where a part isn't there or a tag is older."""
    operate.missing(wish.tags, there, namespace)
    result = Plan()
    for part in [part for group in GROUPS for part in group if part in wish.tags]:
        live = there[part]
        main = operate.main_container(live, operate.CONTAINERS[part])
        old = str(main.get("image", ""))
        target = images.with_tag(old, wish.tags[part], wish.repositories.get(part, ""))
        result.targets[part] = target
        if part == "litellm" and not wish.allow_downgrade:
            _refuse_downgrade(old, target, wish.tags[part], namespace)
        repository = images.split(old)[0]
        pod = live["spec"]["template"]["spec"]
        # The portal's init container copies the pages out of the portal's own image.
        same = [
            one["name"]
            for kind in ("initContainers", "containers")
            for one in pod.get(kind) or ()
            if one["name"] == main["name"] or images.split(str(one.get("image", "")))[0] == repository
        ]
        change = operate.set_images(live, dict.fromkeys(same, target))
        before = replaced(live)
        if change is not None:
            kept = json.dumps(before or _images(live, same), sort_keys=True)
            change.patch["metadata"] = {"annotations": {REPLACED: kept}}
            change.back["metadata"] = {"annotations": {REPLACED: None}}
            _back_to(change, before)
            result.changes[part] = change
        elif before:
            back = operate.set_images(live, before)
            if back is not None:
                back.patch, back.back = back.back, {**back.patch, "metadata": {"annotations": {REPLACED: None}}}
                back.fields = {name: (then, now) for name, (now, then) in back.fields.items()}
                result.unfinished[part] = back
    return result


def _back_to(change: operate.Change, before: Mapping[str, str]) -> None:
    """Where a run before this one was interrupted, what it left may never have been ready: go back to what was."""
    pod = change.back["spec"]["template"]["spec"]
    for one in [*pod.get("initContainers", ()), *pod.get("containers", ())]:
        one["image"] = before.get(one["name"], one["image"])


def _refuse_downgrade(old: str, target: str, tag: str, namespace: str) -> None:
    change = images.tag_change(old, tag)
    if old == target or change not in ("downgrade", "unknown"):
        return
    why = "which is older" if change == "downgrade" else "and one of them says no version"
    raise ClusterError(
        f"Upgrade LiteLLM in {namespace}",
        f"it runs {old} and {tag} is asked for, {why}: a schema is never migrated back",
        "Set allow_downgrade if it is meant. Nothing was changed",
    )


def _images(live: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    pod = live["spec"]["template"]["spec"]
    every = [*(pod.get("initContainers") or ()), *pod["containers"]]
    return {one["name"]: str(one.get("image", "")) for one in every if one["name"] in names}


def replaced(live: Mapping[str, Any]) -> dict[str, str]:
    """Images, by container, that an upgrade that didn't come to its end has replaced; {} where there was none."""
    with suppress(KeyError, ValueError, TypeError):
        found = json.loads((live["metadata"].get("annotations") or {})[REPLACED])
        if isinstance(found, dict):
            return {str(name): str(image) for name, image in found.items()}
    return {}


def pod_like(live: Mapping[str, Any], app: str) -> dict[str, Any]:
    """The start of a pod that runs as, where and with the pull secrets of a Deployment's. Pure."""
    pod = live["spec"]["template"]["spec"]
    kept = ("serviceAccountName", "imagePullSecrets", "securityContext", "nodeSelector", "tolerations")
    return {
        "metadata": {"labels": {"app": app, **secrets.LABELS}},
        "spec": {
            **{name: pod[name] for name in kept if pod.get(name)},
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
        },
    }


def pull_check(there: Mapping[str, Mapping[str, Any]], targets: Mapping[str, str]) -> dict[str, Any]:
    """A pod with a container for each image, which it pulls anew, run or not. Pure."""
    first = there[next(iter(targets))]
    pod = pod_like(first, PULL_CHECK)
    pulls = {secret["name"]: secret for part in targets for secret in pod_of(there[part]).get("imagePullSecrets") or ()}
    if pulls:
        pod["spec"]["imagePullSecrets"] = list(pulls.values())
    containers = []
    for part, image in targets.items():
        main = operate.main_container(there[part], operate.CONTAINERS[part])
        containers.append(
            {
                "name": part,
                "image": image,
                # What is cached on one node says nothing of the others.
                "imagePullPolicy": "Always",
                "command": ["true"],
                "resources": ZERO_RESOURCES,
                **({"securityContext": main["securityContext"]} if main.get("securityContext") else {}),
            }
        )
    pod["metadata"]["name"] = PULL_CHECK
    pod["spec"] |= {"containers": containers, "activeDeadlineSeconds": 1800, "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def pod_of(live: Mapping[str, Any]) -> dict[str, Any]:
    """The pod's spec of a workload."""
    return dict(live["spec"]["template"]["spec"])


def pulled(pod: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Containers whose image isn't there yet, and why of those whose pull fails. Pure.

    A container that could not be started has its image all the same: what it runs doesn't matter.
    """
    statuses = {one["name"]: one for one in (pod.get("status") or {}).get("containerStatuses") or ()}
    coming, failing = [], []
    for one in pod["spec"]["containers"]:
        state = statuses.get(one["name"], {}).get("state") or {}
        waiting = state.get("waiting") or {}
        if "running" in state or "terminated" in state:
            continue
        if waiting.get("reason") in UNPULLED:
            message = " ".join(str(waiting.get("message", "")).split())[:300]
            failing.append(f"{one['image']}: {waiting['reason']}" + (f" ({message})" if message else ""))
        elif waiting.get("reason") in COMING:
            coming.append(one["name"])
    return coming, failing


def migration_job(litellm: Mapping[str, Any], image: str, name: str, program: str, seconds: float) -> dict[str, Any]:
    """The Job that brings LiteLLM's database to an image, with the database and the rights of the pods that run. Pure.

    Args:
        program: see roles/ocp4_workload_litemaas/files/litellm-migrate.py.
    """
    main = operate.main_container(litellm, "litellm")
    pod = pod_like(litellm, "litellm-migration")
    wanted = [one for one in main.get("env") or () if one["name"] == "DATABASE_URL"]
    container = {
        "name": "migration",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", program],
        "env": [*wanted, {"name": "LITELLM_MIGRATION_BASELINE", "value": "false"}],
        **({"envFrom": main["envFrom"]} if not wanted and main.get("envFrom") else {}),
        **{field: main[field] for field in ("securityContext", "resources") if main.get(field)},
    }
    pod["spec"]["containers"] = [container]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": pod["metadata"]["labels"],
            "annotations": {IMAGE: image},
        },
        "spec": {"backoffLimit": 1, "activeDeadlineSeconds": max(1, int(seconds)), "template": pod},
    }


class Upgrade:
    """Carries a plan out."""

    def __init__(
        self,
        operator: operate.Operator,
        program: str,
        back_up: Callable[[Mapping[str, str]], str] | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            back_up: makes a backup, given the images that run, and says where it is; None makes none.
        """
        self.operator, self.program, self.back_up, self.sleep = operator, program, back_up, sleep
        self.client, self.namespace = operator.client, operator.namespace

    def run(self, wish: Wish, check: bool = False) -> Result:
        """Raises ClusterError, with the state that is left."""
        there = self.operator.components()
        result = Result(plan(there, wish, self.namespace))
        changes = result.plan.changes
        if "litellm" in changes:
            result.migration = self._migration_name(result.plan.targets["litellm"])
        for change in changes.values():
            self.operator.write(change, dry_run=True)
        if check:
            if changes:
                result.notes.append("whether the images are there is seen by a real run alone")
            return result
        if changes:
            self._pull(there, {part: result.plan.targets[part] for part in changes})
        if self.back_up and (set(changes) & {"litellm", "backend"}):
            result.backup = self.back_up({part: operate.main_container(one)["image"] for part, one in there.items()})
        if "litellm" in changes:
            self._migrate(there["litellm"], result)
        for group in GROUPS:
            self._roll_out([part for part in group if part in wish.tags], result)
        return result

    # ---- steps ----

    def _pull(self, there: Mapping[str, Mapping[str, Any]], targets: Mapping[str, str]) -> None:
        """Every image can be pulled. Raises ClusterError; the pod is gone in any case."""
        base = f"/api/v1/namespaces/{self.namespace}/pods"
        rights = "create, get and delete on pods"
        attempt = f"Pull {', '.join(targets.values())} in {self.namespace}"
        self._delete_pod(f"{base}/{PULL_CHECK}", rights)
        self.client.request(
            "POST", base, pull_check(there, targets), query={"fieldManager": operate.MANAGER}, rights=rights
        )
        try:
            began, failing_since, pause = time.monotonic(), None, rollout.FIRST_POLL
            while True:
                pod = self.client.get(f"{base}/{PULL_CHECK}", rights)
                coming, failing = pulled(pod)
                now = time.monotonic()
                failing_since = (failing_since or now) if failing else None
                if failing_since and now - failing_since >= self.operator.pull_failure_after:
                    raise ClusterError(
                        attempt,
                        "; ".join(failing),
                        "Check tag and repository, that the registry answers, and pull secrets. Nothing was changed",
                    )
                if not coming and not failing:
                    return
                if now - began > self.operator.timeout:
                    raise ClusterError(
                        attempt,
                        f"not there after {now - began:.0f} s ({rollout.pod_trouble(pod) or 'still pulling'})",
                        "Wait longer (timeout), or see why with kubectl describe pod. Nothing was changed",
                    )
                self.sleep(pause)
                pause = min(self.operator.poll, pause * 1.5)
        finally:
            with suppress(ClusterError):
                self._delete_pod(f"{base}/{PULL_CHECK}", rights)

    def _delete_pod(self, path: str, rights: str) -> None:
        found = self.client.find(path, rights)
        if found is None:
            return
        if (found["metadata"].get("labels") or {}).get(secrets.MANAGED_BY) != MANAGER:
            raise ClusterError(
                f"Make pod {PULL_CHECK} in {self.namespace}",
                "somebody else has one of that name",
                "Remove it, run again",
            )
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": found["metadata"]["uid"]}}
        with suppress(ClusterError):
            self.client.request("DELETE", path, body, rights=rights)
        for _attempt in range(40):
            again = self.client.find(path, rights)
            if again is None or again["metadata"]["uid"] != found["metadata"]["uid"]:
                return
            self.sleep(0.25)

    def _migration_name(self, image: str) -> str:
        """The same as a deploy's, so that neither migrates again after the other. Raises ClusterError."""
        values = secrets.decoded(self.client.find(secrets.path(self.namespace, secrets.DATABASE), "get on secrets"))
        _layout, names = facts.layout(values)
        url = values.get(secrets.LITELLM_URL) or values.get(secrets.URL, "")
        host = secrets.short_host(secrets.Address.of(url).host, self.namespace)
        outside = "" if host in ("", secrets.POSTGRES) else host
        return images.migration_name(image, names.get("litellm", ""), host=outside)

    def forget_migration(self) -> bool:
        """Whether the image that runs has migrated the database by a Job; where that has ended, it is gone then.

        For a database that comes back as it was before: whoever comes next, a deploy too, migrates it anew.
        Raises ClusterError.
        """
        name = self._migration_name(self._running()[1])
        found = self._job(name)
        if found is not None and _ended(found):
            self._delete_job(name)
        return found is not None

    def migrate_again(self) -> Result:
        """LiteLLM's database brought to the image that runs. Raises ClusterError."""
        live, image = self._running()
        result = Result(Plan(targets={"litellm": image}), self._migration_name(image))
        self._migrate(live, result, "Pods were not restarted")
        return result

    def _running(self) -> tuple[dict[str, Any], str]:
        there = self.operator.components()
        operate.missing(["litellm"], there, self.namespace)
        return there["litellm"], str(operate.main_container(there["litellm"], "litellm")["image"])

    def _migrate(
        self, litellm: Mapping[str, Any], result: Result, left: str = "No pod was touched: everything runs as before"
    ) -> None:
        """Raises ClusterError, with what is left; no pod was touched then."""
        name, image = result.migration, result.plan.targets["litellm"]
        workload, base = f"Job/{name}", rollout.PATHS["Job"].format(self.namespace)
        removal.Removal(self.client, self.namespace, timeout=self.operator.timeout).failed_jobs([workload])
        found = self._job(name)
        if found is not None and not _ended(found):
            # Of a run that gave up waiting: two at once would race.
            with suppress(ClusterError):
                self.operator.wait([workload])
            found = self._job(name)
        if found is not None and _ended(found) == "Failed":
            found = self._delete_job(name)
        if found is None:
            body = migration_job(litellm, image, name, self.program, self.operator.timeout)
            # As a deploy's, which looks after it from now on.
            self.client.request("POST", base, body, query={"fieldManager": MANAGER}, rights="create on jobs.batch")
        try:
            self.operator.wait([workload])
        except ClusterError as failure:
            result.log = self._log(name)
            state = f"{left}. {_of_backup(result)}".rstrip()
            said = f". It said: {' | '.join(result.log[-5:])}" if result.log else ""
            raise ClusterError(
                f"Migrate LiteLLM's database to {image}",
                f"{failure.words.rstrip('.')}{said}. {state}",
                "Put right what it says and run again, which makes the Job anew",
                failure.status,
            ) from None
        result.log = self._log(name)
        # As a deploy does with those of other images.
        for one in self.client.get(base, "list on jobs.batch", labelSelector=f"{secrets.MANAGED_BY}={MANAGER}")[
            "items"
        ]:
            other = str(one["metadata"]["name"])
            if other != name and other.startswith(images.MIGRATION) and _ended(one):
                self._delete_job(other)

    def _job(self, name: str) -> dict[str, Any] | None:
        return self.client.find(f"{rollout.PATHS['Job'].format(self.namespace)}/{quote(name)}", rollout.RIGHTS)

    def _delete_job(self, name: str) -> dict[str, Any] | None:
        """A Job that has ended goes, with its pods, as it can't be run again; what is there of it afterwards."""
        path = f"{rollout.PATHS['Job'].format(self.namespace)}/{quote(name)}"
        query = {"propagationPolicy": "Foreground"}
        self.client.request("DELETE", path, query=query, rights="delete on jobs.batch")
        for _attempt in range(120):
            found = self._job(name)
            if found is None:
                break
            self.sleep(0.25)
        return found

    def _log(self, job: str) -> list[str]:
        """The last lines of a migration, without secrets; what can't be read is said."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        try:
            listed = self.client.get(pods, "list on pods", labelSelector=f"job-name={job}")["items"]
            if not listed:
                return []
            last = max(listed, key=lambda one: str(one["metadata"].get("creationTimestamp")))
            query = {"container": "migration", "tailLines": str(LINES)}
            text = self.client.text(f"{pods}/{quote(last['metadata']['name'])}/log", "get on pods/log", **query)
            hidden = rollout.hidden_texts(self.client, self.namespace, last)
        except ClusterError as failure:
            return [f"the migration's log is not readable ({failure.words})"]
        if hidden is None:
            return ["the migration's log is not shown, as the Secrets that would have to be hidden in it can't be read"]
        return [line.rstrip() for line in redact(text, hidden).splitlines() if line.strip()]

    def _roll_out(self, parts: Sequence[str], result: Result) -> None:
        """One group. Raises ClusterError; the group is put back then."""
        changes = [result.plan.changes[part] for part in parts if part in result.plan.changes]
        try:
            self.operator.carry_out(changes, roll_back=True)
            for part in parts:
                if part not in result.plan.changes:
                    self._finish(part, result)
        except ClusterError as failure:
            done = [one for one in result.plan.changes.values() if one not in changes]
            others = [one for one in done if one.workload in self.operator.states]
            state = f"{failure.words.rstrip('.')}."
            if others:
                state += f" Done before, and left so: {'; '.join(one.sentence() for one in others)}."
            if result.migration:
                state += " The database's schema isn't migrated back."
            error = ClusterError(
                failure.attempt, f"{state} {_of_backup(result)}".rstrip(), failure.advice, failure.status
            )
            error.changes = [*failure.changes, *others]
            raise error from None
        # It has come to its end: nothing is to be put back any more.
        for part in parts:
            if part in result.plan.changes or part in result.plan.unfinished:
                self._forget(part)

    def _finish(self, part: str, result: Result) -> None:
        """A part that has its images already is ready, or is put back where an interrupted run had begun with it."""
        workload = f"Deployment/{operate.DEPLOYMENTS[part]}"
        change = result.plan.unfinished.get(part)
        try:
            self.operator.wait([workload])
        except ClusterError as failure:
            if change is None:
                raise
            raise self.operator.failed(change, failure, [change], True) from None

    def _forget(self, part: str) -> None:
        done = operate.Change(
            f"Deployment/{operate.DEPLOYMENTS[part]}", {"metadata": {"annotations": {REPLACED: None}}}, {}
        )
        self.operator.write(done)


def _ended(job: Mapping[str, Any]) -> str:
    """``Complete``, ``Failed``, or "" for one that is at work. Pure."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((one["type"] for one in conditions if one["status"] == "True" and one["type"] in ENDS), "")


def _of_backup(result: Result) -> str:
    return f"The backup from before is {result.backup}" if result.backup else ""
