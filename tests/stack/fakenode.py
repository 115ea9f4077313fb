# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node, a scheduler, a provisioner of volumes and a router for a cluster that has none, and runs no containers.

Pods are scheduled, started as far as status, environment, volumes and logs go, and made ready; Jobs complete. It fails
on demand, by annotations. README.md tells which, and what all this doesn't prove.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import fnmatch
import json
import os
import shutil
import signal
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from containers import NotMounted, NotThere, Started, Starter, all_containers, base_environment
from kubeapi import MERGE, Api, ApiError, Object, Queue
from kubelet import Kubelet
from processes import die_with_parent

NODE = "fake-node"
PREFIX = "fakenode/"
PROVISIONER = "fakenode/volumes"
SELECTED = "volume.kubernetes.io/selected-node"
PROVISION = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
#: Files of a running pod follow their Secret after this time; a kubelet takes up to a minute
SYNC_SECONDS = 1.0
CRASH_SECONDS = 10.0
NO_IMAGE = "does-not-exist"
JOB_LINES = 1 << 20


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_of(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


def path_of(pod: Object, *rest: str) -> str:
    return "/".join([f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}", *rest])


class FakeNode:
    """What stands in for everything that a cluster has besides its API server and its controllers."""

    def __init__(self, api: Api, root: Path, forwards: Path, programs: list[str]) -> None:
        self.api = api
        self.root = root
        self.forwards = forwards
        self.programs = programs
        self.starter = Starter(api, root)
        self.pods: dict[str, Object] = {}
        self.namespaces: dict[str, Object] = {}
        self.claims: dict[str, Object] = {}
        self.volumes: dict[str, Object] = {}
        self.routes: dict[str, Object] = {}
        self.running: dict[str, Started] = {}
        #: By pod: what its status says by our doing; the image's second failure; the last restart
        self.shown: dict[str, Any] = {}
        self.backing_off: set[str] = set()
        self.crashed: dict[str, float] = {}
        self.told: set[tuple[str, str, str]] = set()
        self.addresses = 0
        self.domain = "apps.test.example.com"
        self.pod_queue = Queue(self.pod)
        self.claim_queue = Queue(self.claim)
        self.volume_queue = Queue(self.volume)
        self.route_queue = Queue(self.route)
        self.tasks: list[asyncio.Task[Any]] = []

    # --- what is seen ---

    def follow(self, *, openshift: bool) -> None:
        """Watch what there is, for ever."""

        def kept(store: dict[str, Object], queue: Queue) -> Any:
            def seen(event: str, item: Object) -> None:
                if event == "DELETED":
                    store.pop(key_of(item), None)
                else:
                    store[key_of(item)] = item
                queue.add(key_of(item))

            return seen

        watched = {
            "/api/v1/pods": self.pod_seen,
            "/api/v1/namespaces": self.namespace_seen,
            "/api/v1/secrets": self.source_seen,
            "/api/v1/configmaps": self.source_seen,
            "/api/v1/persistentvolumeclaims": kept(self.claims, self.claim_queue),
            "/api/v1/persistentvolumes": kept(self.volumes, self.volume_queue),
        }
        if openshift:
            watched["/apis/route.openshift.io/v1/routes"] = kept(self.routes, self.route_queue)
        self.tasks += [asyncio.create_task(self.api.watch(path, seen)) for path, seen in watched.items()]

    def pod_seen(self, event: str, pod: Object) -> None:
        key, uid = key_of(pod), pod["metadata"]["uid"]
        if event == "DELETED":
            if self.pods.get(key, pod)["metadata"]["uid"] == uid:
                self.pods.pop(key, None)
            self.forget(uid)
            return
        self.pods[key] = pod
        if started := self.running.get(uid):
            started.pod = pod
        self.pod_queue.add(key)

    def namespace_seen(self, event: str, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        before = faults_text(self.namespaces.get(name))
        if event == "DELETED":
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = namespace
        if before != faults_text(self.namespaces.get(name)):
            for key in self.pods:
                if key.startswith(f"{name}/"):
                    self.pod_queue.add(key)

    def source_seen(self, event: str, item: Object) -> None:
        """A Secret or a ConfigMap that changed reaches the files of running pods after a moment."""
        if event == "MODIFIED":
            namespace = item["metadata"]["namespace"]
            asyncio.get_running_loop().call_later(SYNC_SECONDS, self.refresh, namespace)

    def refresh(self, namespace: str) -> None:
        async def all_of_them() -> None:
            for started in list(self.running.values()):
                if started.pod["metadata"]["namespace"] == namespace and started.folder.exists():
                    # What is gone stays in the files of the pods that have it, as with a kubelet.
                    with contextlib.suppress(NotThere, ApiError):
                        await self.starter.refresh(started)

        task = asyncio.create_task(all_of_them())
        self.tasks.append(task)
        task.add_done_callback(self.tasks.remove)

    def forget(self, uid: str) -> None:
        if started := self.running.pop(uid, None):
            started.remove()
        self.shown.pop(uid, None)
        self.backing_off.discard(uid)
        self.crashed.pop(uid, None)

    def fault(self, pod: Object, name: str) -> str | None:
        """What the pod, or its namespace for pods of such a name, says of a fault; None where it says nothing."""
        own = (pod["metadata"].get("annotations") or {}).get(PREFIX + name)
        if own is not None:
            return str(own)
        text = faults_text(self.namespaces.get(pod["metadata"]["namespace"]))
        with contextlib.suppress(ValueError, AttributeError):
            for pattern, faults in json.loads(text or "{}").items():
                if name in faults and fnmatch.fnmatchcase(pod["metadata"]["name"], pattern):
                    return str(faults[name])
        return None

    # --- what is told ---

    async def event(
        self, item: Object, reason: str, message: str, *, kind: str = "Warning", by: str = "kubelet"
    ) -> None:
        """An Event about an object, once for each thing that there is to say."""
        meta = item["metadata"]
        if (meta["uid"], reason, message) in self.told:
            return
        self.told.add((meta["uid"], reason, message))
        stamp = now()
        body: Object = {
            "metadata": {"generateName": f"{meta['name']}.", "namespace": meta.get("namespace", "default")},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": item.get("kind", "Pod"),
                "name": meta["name"],
                "namespace": meta.get("namespace", ""),
                "uid": meta["uid"],
                "resourceVersion": meta.get("resourceVersion", ""),
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "source": {"component": by, "host": NODE} if by == "kubelet" else {"component": by},
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
        }
        with contextlib.suppress(ApiError):  # its namespace may be going
            await self.api.call("POST", f"/api/v1/namespaces/{body['metadata']['namespace']}/events", body)

    async def show(self, pod: Object, status: dict[str, Any], conditions: dict[str, tuple[bool, str, str]]) -> None:
        """Write a pod's status, unless that is what was written last."""
        uid = pod["metadata"]["uid"]
        wanted = json.dumps([status, conditions], sort_keys=True)
        if self.shown.get(uid) == wanted:
            return
        stamp, listed = now(), []
        before = {one["type"]: one for one in pod.get("status", {}).get("conditions") or []}
        for name, (holds, reason, message) in conditions.items():
            condition = {"type": name, "status": str(holds), "lastTransitionTime": stamp}
            if before.get(name, {}).get("status") == str(holds):
                condition["lastTransitionTime"] = before[name]["lastTransitionTime"]
            condition |= {"reason": reason, "message": message} if reason else {}
            listed.append(condition)
        body = {"metadata": {"uid": uid}, "status": {**status, "conditions": listed}}
        await self.api.call("PATCH", path_of(pod, "status"), body, MERGE)
        self.shown[uid] = wanted

    # --- pods ---

    async def pod(self, key: str) -> float | None:
        """Bring one pod on by a step."""
        pod = self.pods.get(key)
        if pod is None:
            return None
        uid = pod["metadata"]["uid"]
        if pod["metadata"].get("deletionTimestamp"):
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            await self.api.call("DELETE", path_of(pod), body)
            return None
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return None
        if not pod["spec"].get("nodeName"):
            return await self.schedule(pod)
        if uid not in self.running:
            return await self.begin(pod)
        if pod["spec"].get("restartPolicy", "Always") == "Always":
            return await self.keep(pod, self.running[uid])
        return None

    async def schedule(self, pod: Object) -> float | None:
        """Bind a pod to the node, unless it is held or its claims are not there."""
        held = self.fault(pod, "hold")
        later: float | None = None
        message = ""
        if held is not None:
            message = f"0/1 nodes are available: 1 {held or 'node(s) are kept free'}."
        else:
            message, wait = await self.unbound_claim(pod)
            later = 0.5
            if wait:
                return 0.1
        if message:
            await self.show(pod, {"phase": "Pending"}, {"PodScheduled": (False, "Unschedulable", message)})
            await self.event(pod, "FailedScheduling", message, by="default-scheduler")
            return later
        name = pod["metadata"]["name"]
        body = {"metadata": {"name": name}, "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}}
        await self.api.call("POST", path_of(pod, "binding"), body)
        place = f"{pod['metadata']['namespace']}/{name}"
        text = f"Successfully assigned {place} to {NODE}"
        await self.event(pod, "Scheduled", text, kind="Normal", by="default-scheduler")
        return None

    async def unbound_claim(self, pod: Object) -> tuple[str, bool]:
        """Why the claims of a pod keep it waiting (empty: they don't), and whether that is about to end."""
        for volume in pod["spec"].get("volumes") or []:
            claim_name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if not claim_name:
                continue
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims/{claim_name}"
            claim = await self.api.get(path)
            if claim is None:
                return f'0/1 nodes are available: 1 persistentvolumeclaim "{claim_name}" not found.', False
            if claim["status"].get("phase") == "Bound":
                continue
            storage = await self.api.get(
                f"/apis/storage.k8s.io/v1/storageclasses/{claim['spec'].get('storageClassName')}"
            )
            if storage and storage.get("volumeBindingMode") == "WaitForFirstConsumer":
                if SELECTED not in (claim["metadata"].get("annotations") or {}):
                    await self.api.call("PATCH", path, {"metadata": {"annotations": {SELECTED: NODE}}}, MERGE)
                if PREFIX + "hold" not in (claim["metadata"].get("annotations") or {}):
                    return "", True
            return "0/1 nodes are available: 1 pod has unbound immediate PersistentVolumeClaims.", False
        return "", False

    def unpulled(self, pod: Object) -> list[str]:
        """The containers whose image can't be pulled."""
        wanted = self.fault(pod, "pull-failure")
        return [
            spec["name"]
            for spec in all_containers(pod)
            if NO_IMAGE in spec.get("image", "") or wanted in ("*", "", spec["name"])
        ]

    async def begin(self, pod: Object) -> float | None:
        """Start a pod's containers, as far as that goes."""
        uid = pod["metadata"]["uid"]
        if broken := self.unpulled(pod):
            return await self.pull(pod, broken)
        try:
            started = await self.starter.start(pod)
        except NotThere as error:
            mounted = not isinstance(error, NotMounted)
            reason = "CreateContainerConfigError" if mounted else "ContainerCreating"
            names = [spec["name"] for spec in all_containers(pod)]
            await self.waiting(pod, dict.fromkeys(names, (reason, str(error) if mounted else "")))
            event = ("Failed", f"Error: {error}") if mounted else ("FailedMount", str(error))
            await self.event(pod, *event)
            return 1.0
        self.running[uid] = started
        for spec in all_containers(pod):
            await self.event(pod, "Started", f"Started container {spec['name']}", kind="Normal")
            started.containers[
                spec["name"]
            ].log = f"{spec['name']}: started from {spec.get('image', '')}\n{spec['name']}: ready\n"
        if pod["spec"].get("restartPolicy", "Always") != "Always":
            await self.finish(pod, started)
            return None
        return await self.keep(pod, started)

    async def pull(self, pod: Object, broken: list[str]) -> float | None:
        """The two states that a container without an image goes to and fro between."""
        uid, again = pod["metadata"]["uid"], pod["metadata"]["uid"] in self.backing_off
        states = {}
        for spec in all_containers(pod):
            name, image = spec["name"], spec.get("image", "")
            if name not in broken:
                states[name] = ("PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating", "")
                continue
            why = f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": not found'
            if again:
                states[name] = ("ImagePullBackOff", f'Back-off pulling image "{image}"')
                await self.event(pod, "BackOff", f'Back-off pulling image "{image}"', kind="Normal")
            else:
                states[name] = ("ErrImagePull", why)
                await self.event(pod, "Pulling", f'Pulling image "{image}"', kind="Normal")
                await self.event(pod, "Failed", f'Failed to pull image "{image}": {why}')
                await self.event(pod, "Failed", "Error: ErrImagePull")
        await self.waiting(pod, states)
        self.backing_off.add(uid)
        return None if again else 1.0

    async def waiting(self, pod: Object, states: dict[str, tuple[str, str]]) -> None:
        """Show containers that wait, each for its reason and with its message."""
        shown = {
            name: {"waiting": {"reason": reason, **({"message": message} if message else {})}}
            for name, (reason, message) in states.items()
        }
        unready = f"containers with unready status: [{' '.join(spec['name'] for spec in pod['spec']['containers'])}]"
        initial = [spec["name"] for spec in pod["spec"].get("initContainers") or []]
        incomplete = f"containers with incomplete status: [{' '.join(initial)}]"
        await self.show(
            pod,
            {"phase": "Pending", "hostIP": "127.0.0.1", **self.containers(pod, shown, {})},
            {
                "Initialized": (False, "ContainersNotInitialized", incomplete) if initial else (True, "", ""),
                "Ready": (False, "ContainersNotReady", unready),
                "ContainersReady": (False, "ContainersNotReady", unready),
                "PodScheduled": (True, "", ""),
            },
        )

    def containers(self, pod: Object, states: dict[str, Any], more: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """``containerStatuses`` and ``initContainerStatuses`` of these states, with what is known besides."""
        found: dict[str, Any] = {}
        for field, specs in (
            ("initContainerStatuses", pod["spec"].get("initContainers") or []),
            ("containerStatuses", pod["spec"]["containers"]),
        ):
            statuses = []
            for spec in specs:
                state = states[spec["name"]]
                begun = "waiting" not in state
                image = spec.get("image", "")
                status = {
                    "name": spec["name"],
                    "image": image,
                    "imageID": f"fake://{image}" if begun else "",
                    "ready": "running" in state or (field.startswith("init") and begun),
                    "started": "running" in state,
                    "restartCount": 0,
                    "state": state,
                    **({"containerID": f"fake://{spec['name']}"} if begun else {}),
                }
                statuses.append(status | more.get(spec["name"], {}))
            if statuses:
                found[field] = statuses
        return found

    def address(self, pod: Object) -> str:
        """A pod's own address; it keeps the one it has."""
        if known := pod.get("status", {}).get("podIP"):
            return str(known)
        self.addresses += 1
        return f"10.244.{self.addresses // 250 % 250}.{self.addresses % 250 + 1}"

    async def keep(self, pod: Object, started: Started) -> float | None:
        """A pod that is meant to stay: running and ready, or crashing, or not ready."""
        uid, meta = pod["metadata"]["uid"], pod["metadata"]
        crash, unready = self.fault(pod, "crash"), self.fault(pod, "not-ready")
        since = (pod.get("status") or {}).get("startTime") or now()
        done = {"exitCode": 0, "reason": "Completed", "startedAt": since, "finishedAt": since}
        states: dict[str, Any] = {
            spec["name"]: {"terminated": done} for spec in pod["spec"].get("initContainers") or []
        }
        states |= {spec["name"]: {"running": {"startedAt": since}} for spec in pod["spec"]["containers"]}
        first, later = pod["spec"]["containers"][0]["name"], None
        more: dict[str, dict[str, Any]] = {first: {"restartCount": started.restarts}}
        if crash is not None:
            loop = asyncio.get_running_loop()
            if loop.time() - self.crashed.get(uid, -CRASH_SECONDS) >= CRASH_SECONDS:
                self.crashed[uid] = loop.time()
                started.restarts += 1
                started.containers[first].previous_log = started.containers[first].log
            started.containers[first].log = f"{first}: started\n{crash or 'it crashed'}\n"
            back_off = f"back-off 10s restarting failed container={first} pod={meta['name']}_{meta['namespace']}({uid})"
            ended = {"exitCode": 1, "reason": "Error", "startedAt": since, "finishedAt": since}
            states[first] = {"waiting": {"reason": "CrashLoopBackOff", "message": back_off}}
            more = {first: {"restartCount": started.restarts, "lastState": {"terminated": ended}}}
            await self.event(pod, "BackOff", "Back-off restarting failed container")
            later = CRASH_SECONDS
        if unready is not None:
            more[first] = {**more[first], "ready": False}
            await self.event(pod, "Unhealthy", f"Readiness probe failed: {unready or 'HTTP probe failed with 503'}")
        ready = crash is None and unready is None
        not_ready = f"containers with unready status: [{first}]"
        readiness = (True, "", "") if ready else (False, "ContainersNotReady", not_ready)
        address = self.address(pod)
        status: Object = {"phase": "Running", "hostIP": "127.0.0.1", "podIP": address, "podIPs": [{"ip": address}]}
        status |= {"startTime": since, **self.containers(pod, states, more)}
        conditions = {"Initialized": (True, "", ""), "Ready": readiness, "ContainersReady": readiness}
        await self.show(pod, status, {**conditions, "PodScheduled": (True, "", "")})
        return later

    async def finish(self, pod: Object, started: Started) -> None:
        """A pod that is meant to end: its containers are run where that was asked for, and pass otherwise."""
        crash, fails = self.fault(pod, "crash"), self.fault(pod, "job-fails")
        message = crash if crash is not None else fails
        began, codes = now(), {spec["name"]: 0 for spec in all_containers(pod)}
        if message is not None:
            first = pod["spec"]["containers"][0]["name"]
            codes[first] = 1
            started.containers[first].log = f"{first}: started\n{message or 'it failed'}\n"
        elif self.fault(pod, "run") is not None:
            for spec in all_containers(pod):
                codes[spec["name"]] = await self.run(started, spec)
                if codes[spec["name"]]:
                    break
        address, ended = self.address(pod), now()
        states = {
            name: {
                "terminated": {
                    "exitCode": code,
                    "reason": "Error" if code else "Completed",
                    "startedAt": began,
                    "finishedAt": ended,
                }
            }
            for name, code in codes.items()
        }
        failed = any(codes.values())
        reason = "" if failed else "PodCompleted"
        status: Object = {"phase": "Failed" if failed else "Succeeded", "hostIP": "127.0.0.1", "podIP": address}
        status |= {"podIPs": [{"ip": address}], "startTime": began, **self.containers(pod, states, {})}
        not_ready = (False, reason or "ContainersNotReady", "")
        conditions = {"Initialized": (True, reason, ""), "Ready": not_ready, "ContainersReady": not_ready}
        await self.show(pod, status, {**conditions, "PodScheduled": (True, "", "")})

    async def run(self, started: Started, spec: Object) -> int:
        """Run a container's command on this machine; its output becomes the log. Its exit code."""
        container = started.containers[spec["name"]]
        words = [container.here(word) for word in [*(spec.get("command") or []), *(spec.get("args") or [])]]
        if not words:
            return 0
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self.command_environment(started, spec["name"]),
                cwd=started.folder,
                preexec_fn=die_with_parent(os.getpid()),
            )
        except OSError as error:
            container.log = f'exec: "{words[0]}": {error.strerror}\n'
            return 127
        output, _errors = await process.communicate()
        container.log = output[-JOB_LINES:].decode("utf-8", "replace")
        return process.returncode or 0

    # --- what the server asks for ---

    def started(self, namespace: str, name: str) -> Started | None:
        pod = self.pods.get(f"{namespace}/{name}")
        if pod is None or pod.get("status", {}).get("phase") != "Running":
            return None
        return self.running.get(pod["metadata"]["uid"])

    def place(self, started: Started, port: int) -> tuple[str, int] | None:
        """By the pod's annotation, else by what the stack wrote down."""
        places: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            places = json.loads(self.forwards.read_text(encoding="utf-8"))
        for pair in (self.fault(started.pod, "forward") or "").replace(",", " ").split():
            number, _equals, place = pair.partition("=")
            places[number] = place
        host, _colon, number = places.get(str(port), "").rpartition(":")
        return (host, int(number)) if host and number.isdigit() else None

    def cut_after(self, started: Started) -> int | None:
        text = self.fault(started.pod, "forward-cut") or ""
        return int(text) if text.isdigit() else None

    def command_environment(self, started: Started, container: str) -> dict[str, str]:
        """The container's variables, and where this machine's clients find the servers of the stack."""
        own = started.containers[container].environment
        found = base_environment(started.folder, self.programs)
        found |= {"HOSTNAME": started.pod["metadata"]["name"]}
        if database := self.place(started, 5432):
            found |= {"PGHOST": database[0], "PGPORT": str(database[1])}
        if redis := self.place(started, 6379):
            found |= {"FAKENODE_REDIS_HOST": redis[0], "FAKENODE_REDIS_PORT": str(redis[1])}
        path = found["PATH"]
        found |= own
        found["PATH"] = path
        with contextlib.suppress(ValueError):
            found |= {name: str(value) for name, value in json.loads(self.fault(started.pod, "env") or "{}").items()}
        return found

    def container_log(self, namespace: str, name: str, container: str, *, previous: bool) -> str | None:
        pod = self.pods.get(f"{namespace}/{name}")
        started = self.running.get(pod["metadata"]["uid"]) if pod else None
        found = started.containers.get(container) if started else None
        if found is None:
            return None
        return (found.previous_log or None) if previous else found.log

    # --- volumes and routes ---

    async def claim(self, key: str) -> float | None:
        """Provision a volume for a claim that the controllers say is ours."""
        claim = self.claims.get(key)
        if claim is None or claim["status"].get("phase") != "Pending" or claim["metadata"].get("deletionTimestamp"):
            return None
        annotations = claim["metadata"].get("annotations") or {}
        if all(annotations.get(name) != PROVISIONER for name in PROVISION):
            return None
        claim = {**claim, "kind": "PersistentVolumeClaim"}
        held = annotations.get(PREFIX + "hold")
        if held is not None:
            message = f"failed to provision volume: {held or 'it is held'}"
            await self.event(claim, "ProvisioningFailed", message, by=PROVISIONER)
            return None
        storage = await self.api.get(f"/apis/storage.k8s.io/v1/storageclasses/{claim['spec']['storageClassName']}")
        meta = claim["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": f"pvc-{meta['uid']}",
                "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
            },
            "spec": {
                "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
                "accessModes": claim["spec"]["accessModes"],
                "volumeMode": claim["spec"].get("volumeMode", "Filesystem"),
                "persistentVolumeReclaimPolicy": (storage or {}).get("reclaimPolicy", "Delete"),
                "storageClassName": claim["spec"]["storageClassName"],
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": meta["namespace"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                },
                "hostPath": {"path": f"/fakenode/{meta['uid']}"},
            },
        }
        await self.api.call("POST", "/api/v1/persistentvolumes", body)
        text = f"Successfully provisioned volume pvc-{meta['uid']}"
        await self.event(claim, "ProvisioningSucceeded", text, kind="Normal", by=PROVISIONER)
        return None

    async def volume(self, key: str) -> float | None:
        """Delete a volume that its claim has left, where that is its policy."""
        volume = self.volumes.get(key)
        if volume is None or volume["status"].get("phase") != "Released":
            return None
        if (volume["metadata"].get("annotations") or {}).get("pv.kubernetes.io/provisioned-by") != PROVISIONER:
            return None
        if volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            owner = volume["spec"]["claimRef"]
            shutil.rmtree(self.starter.claim(owner["namespace"], owner["name"]), ignore_errors=True)
            await self.api.call("DELETE", f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
        return None

    async def route(self, key: str) -> float | None:
        """Give a Route its host and admit it."""
        route = self.routes.get(key)
        if route is None:
            return None
        meta = route["metadata"]
        path = f"/apis/route.openshift.io/v1/namespaces/{meta['namespace']}/routes/{meta['name']}"
        host = (route.get("spec") or {}).get("host")
        if not host:
            host = f"{meta['name']}-{meta['namespace']}.{self.domain}"
            await self.api.call("PATCH", path, {"spec": {"host": host}}, MERGE)
            return None
        admitted = (route.get("status") or {}).get("ingress") or [{}]
        if admitted[0].get("host") != host:
            ingress = {
                "host": host,
                "routerName": "default",
                "routerCanonicalHostname": f"router-default.{self.domain}",
                "wildcardPolicy": "None",
                "conditions": [{"type": "Admitted", "status": "True", "lastTransitionTime": now()}],
            }
            await self.api.call("PATCH", f"{path}/status", {"status": {"ingress": [ingress]}}, MERGE)
        return None

    # --- the beginning ---

    async def register(self, port: int) -> None:
        """The node itself, whose server the API server finds by its status."""
        with contextlib.suppress(ApiError):
            await self.api.call(
                "POST", "/api/v1/nodes", {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}
            )
        stamp, room = now(), {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the fake node is ready"}
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": "127.0.0.1"}],
            "capacity": room,
            "allocatable": room,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{**ready, "lastHeartbeatTime": stamp, "lastTransitionTime": stamp}],
        }
        await self.api.call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, MERGE)

    async def create(self, files: Iterable[Path]) -> None:
        """Create what stands in files of kind List: definitions, and what they define when they are established."""
        documents: list[Object] = []
        for file in files:
            documents += yaml.safe_load(file.read_text(encoding="utf-8"))["items"]
        definitions = [one for one in documents if one["kind"] == "CustomResourceDefinition"]
        plurals = {one["spec"]["names"]["kind"]: one["spec"]["names"]["plural"] for one in definitions}
        plurals["StorageClass"] = "storageclasses"
        await asyncio.gather(*(self.define(one) for one in definitions))
        for one in documents:
            if one["kind"] != "CustomResourceDefinition":
                with contextlib.suppress(ApiError):
                    await self.api.call("POST", f"/apis/{one['apiVersion']}/{plurals[one['kind']]}", one)

    async def define(self, definition: Object) -> None:
        """Create one definition and wait until its kind is served."""
        base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        try:
            await self.api.call("POST", base, definition)
        except ApiError as error:
            if error.status != 409:
                raise
        spec = definition["spec"]
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        while await self.api.get(served) is None:
            await asyncio.sleep(0.05)


def faults_text(namespace: Object | None) -> str:
    return str(((namespace or {}).get("metadata", {}).get("annotations") or {}).get(PREFIX + "faults") or "")


def write_redis_client(folder: Path, programs: list[str]) -> list[str]:
    """A ``redis-cli`` that goes to the stack's Redis unless it is told where to go: the real one has no variable."""
    real = shutil.which("redis-cli", path=os.pathsep.join([*programs, os.environ.get("PATH", os.defpath)]))
    if not real:
        return programs
    folder.mkdir(parents=True, exist_ok=True)
    client = folder / "redis-cli"
    place = '-h "${FAKENODE_REDIS_HOST:-127.0.0.1}" -p "${FAKENODE_REDIS_PORT:-6379}"'
    client.write_text(f"#!/bin/sh\nexec '{real}' {place} \"$@\"\n", encoding="utf-8")
    client.chmod(0o755)
    return [str(folder), *programs]


def server_context(certificates: Path) -> ssl.SSLContext:
    """TLS of the server: whoever has no certificate of the cluster is turned away."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.crt"))
    context.load_cert_chain(certificates / "node.crt", certificates / "node.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--home", type=Path, required=True, help="certs lie in it, and pods' files will")
    parser.add_argument("--forwards", type=Path, required=True, help="JSON: a place, host:port, for each port of a pod")
    parser.add_argument("--path", default="", help="folders of programs for commands in pods")
    parser.add_argument("--create", type=Path, action="append", default=[], help="YAML to begin with")
    parser.add_argument("--openshift", action="store_true", help="admit Routes")
    options = parser.parse_args()
    os.umask(0o077)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Api.connected(options.kubeconfig) as api:
        programs = write_redis_client(options.home / "bin", [part for part in options.path.split(os.pathsep) if part])
        node = FakeNode(api, options.home / "node", options.forwards, programs)
        kubelet = Kubelet(node)
        runner = await kubelet.serve(server_context(options.home / "certs"))
        await node.register(kubelet.port)
        await node.create(options.create)
        node.follow(openshift=options.openshift)
        (options.home / "fakenode.ready").touch()
        await ended.wait()
        for task in node.tasks:
            task.cancel()
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
