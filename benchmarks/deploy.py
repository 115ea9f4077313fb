# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole deploy, beside ``kubectl apply`` of the same objects. Waiting for pods is left out of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, beyond, say, timed
from benchmarks.lab import BenchError, Lab

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "stack"))
from cluster import find_programs
from progress import Events
from provision import Cache
from settings import Settings

CALLBACKS = Path(__file__).resolve().parent / "callbacks"
#: What a task may take beyond kubectl, and how many there may be on the way.
SECONDS_A_TASK, MOST_TASKS = 2.5, 20
WAIT = "rhpds.litemaas.k8s_rollout_status"
KINDS = (
    "secrets,configmaps,serviceaccounts,services,persistentvolumeclaims,networkpolicies,statefulsets,deployments,jobs,"
    "routes.route.openshift.io,poddisruptionbudgets"
)
#: What the API server adds to an object.
SERVER_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")


def measure(lab: Lab, repeat: int) -> Iterator[Figure]:
    """Deploy into an empty namespace, deploy again, remove."""
    (lab.folder / "ansible.cfg").write_text(
        f"[defaults]\ncallback_plugins = {CALLBACKS}\ncallbacks_enabled = task_clock\n", encoding="utf-8"
    )
    kubectl = find_programs(Cache(Settings.from_env(), Events(sys.stderr))).kubectl
    if kubectl is None:
        raise BenchError("there is no kubectl beside the programs of the cluster")
    ours, bare, again, waits, tasks = [], [], [], [], []
    for number in range(repeat):
        namespace = f"{lab.prefix}d{number}"
        seconds, ran = _deploy(lab, namespace)
        waited = sum(task["seconds"] for task in ran if task["action"] == WAIT)
        ours.append(seconds - waited)
        waits.append(waited)
        tasks.append(len(ran))
        second, _ran = _deploy(lab, namespace)
        again.append(second)
        bare.append(_apply(lab, kubectl, namespace, f"{namespace}-bare"))
        _play(lab, "remove_litemaas", namespace, ocp4_workload_litemaas_remove_force=True)
        _kubectl(lab, kubectl, "delete", "namespace", f"{namespace}-bare", "--wait=false")
        say(
            f"round {number + 1}: {tasks[-1]} tasks, deploy {ours[-1]:.1f} s and {waited:.1f} s of waiting,"
            f" kubectl {bare[-1]:.1f} s, again {second:.1f} s"
        )
    yield beyond("deploy, whole playbook without waits", ours, bare, SECONDS_A_TASK * max(tasks))
    yield Figure("tasks of a deploy", max(tasks), "", limit=MOST_TASKS)
    yield timed("waiting for pods in a deploy", waits)
    yield timed("deploy again, nothing to change, whole playbook", again)


def _deploy(lab: Lab, namespace: str) -> tuple[float, list[dict[str, Any]]]:
    seconds = _play(lab, "deploy_litemaas_ha", namespace)
    return seconds, json.loads((lab.folder / "tasks.json").read_text(encoding="utf-8"))


def _play(lab: Lab, name: str, namespace: str, **more: Any) -> float:
    # The pods' PostgreSQL is the stack's.
    database = urllib.parse.urlsplit(lab.variables["LITEMAAS_DSN"])
    values = {
        "ocp4_workload_litemaas_namespace": namespace,
        "ocp4_workload_litemaas_api_route_prefix": namespace,
        "ocp4_workload_litemaas_ha_postgres_user": database.username,
        "ocp4_workload_litemaas_ha_postgres_password": database.password,
        "output_dir": str(lab.folder),
        **more,
    }
    return lab.play(f"rhpds.litemaas.{name}", values).seconds


def _apply(lab: Lab, kubectl: Path, namespace: str, other: str) -> float:
    """Seconds that kubectl takes for the same objects in a namespace of their own."""
    found = json.loads(
        _kubectl(lab, kubectl, "get", KINDS, "-n", namespace, "-l", "app.kubernetes.io/part-of=litemaas", "-o", "json")
    )
    objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}]
    objects += [_bare(item, other) for item in found["items"]]
    path = lab.folder / "objects.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), encoding="utf-8")
    started = time.perf_counter()
    _kubectl(lab, kubectl, "apply", "--server-side", "-f", str(path))
    return time.perf_counter() - started


def _bare(item: dict[str, Any], namespace: str) -> dict[str, Any]:
    """An object as somebody would have written it, for another namespace."""
    item.pop("status", None)
    for name in SERVER_FIELDS:
        item["metadata"].pop(name, None)
    item["metadata"]["namespace"] = namespace
    spec = item.get("spec", {})
    for name in ("clusterIP", "clusterIPs", "volumeName"):
        spec.pop(name, None)
    if item["kind"] == "Job":
        spec.pop("selector", None)
        spec["template"]["metadata"]["labels"].pop("controller-uid", None)
        item["metadata"].get("labels", {}).pop("controller-uid", None)
    return item


def _kubectl(lab: Lab, kubectl: Path, *arguments: str) -> str:
    environment = {**os.environ, "KUBECONFIG": lab.variables["KUBECONFIG"]}
    done = subprocess.run(
        [str(kubectl), *arguments], capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    if done.returncode:
        raise BenchError(f"kubectl {arguments[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout
