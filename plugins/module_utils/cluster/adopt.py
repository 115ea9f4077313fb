# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects that something else has made become ours, for server-side apply.

The API server remembers who set which field. What somebody has set stays when an apply doesn't mention it, so an object
that is applied over would keep a ``command`` that is no more wanted. Here the fields of its maker become ours, as if we
had applied them: with the next apply, what isn't mentioned goes. What others set, with other programs, stays theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import facts, secrets
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import MANAGER

#: What the Python client and kubectl call themselves where nobody gives a name; the older collection used both.
MAKERS = ("OpenAPI-Generator", "kubectl-client-side-apply", "kubectl-create", "python-requests", "Swagger-Codegen")
#: Kinds beside those that facts knows.
KINDS = facts.KINDS | {
    "ServiceAccount": ("", "v1", "serviceaccounts"),
    "NetworkPolicy": ("networking.k8s.io", "v1", "networkpolicies"),
    "CronJob": ("batch", "v1", "cronjobs"),
    "PodDisruptionBudget": ("policy", "v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": ("autoscaling", "v2", "horizontalpodautoscalers"),
    "ServiceMonitor": ("monitoring.coreos.com", "v1", "servicemonitors"),
}
#: What a deployment consists of, where nothing else is said.
DEFAULT = tuple(
    f"{kind}/{name}" for kind, name, _container in facts.PARTS.values() for kind in dict.fromkeys((kind, "Service"))
)
#: A variable that belongs to mounted credentials.
CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
LISTS = ("f:volumes", "f:volumeMounts", "f:env")
TRIES = 5

Fields = dict[str, Any]


def taken_over(found: Mapping[str, Any], makers: Iterable[str]) -> list[dict[str, Any]] | None:
    """An object's managedFields with its makers' entries made ours; None where there is nothing to do. Pure.

    Left with its maker are replicas, which somebody may scale, and mounted Secrets that aren't of this deployment:
    whoever mounted them wants them to stay.
    """
    entries = found["metadata"].get("managedFields") or []
    if any(_is_ours(entry) for entry in entries):
        return None
    names, foreign = set(makers), foreign_mounts(found)
    ours: dict[str, Any] | None = None
    rest: list[dict[str, Any]] = []
    for entry in entries:
        is_makers = entry.get("manager") in names and entry.get("operation") == "Update"
        if not is_makers or entry.get("subresource") or entry.get("apiVersion") != found["apiVersion"]:
            rest.append(entry)
            continue
        given, kept = split(entry.get("fieldsV1") or {}, foreign)
        if kept:
            rest.append({**entry, "fieldsV1": kept})
        if given:
            before = ours["fieldsV1"] if ours else {}
            ours = {**entry, "manager": MANAGER, "operation": "Apply", "fieldsV1": union(before, given)}
    return None if ours is None else [ours, *rest]


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == MANAGER and entry.get("operation") == "Apply"


def foreign_mounts(found: Mapping[str, Any]) -> set[str]:
    """The keys, as in managedFields, of volumes of Secrets that aren't this deployment's, and of their mounts."""
    spec = ((found.get("spec") or {}).get("template") or {}).get("spec") or {}
    names = {
        one["name"]
        for one in spec.get("volumes") or ()
        if (one.get("secret") or {}).get("secretName", secrets.DATABASE) not in secrets.NAMES
    }
    keys = {key_of(name=name) for name in names}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for mount in container.get("volumeMounts") or ():
            if mount["name"] in names:
                keys.add(key_of(mountPath=mount["mountPath"]))
    return keys | ({key_of(name=CREDENTIALS)} if names else set())


def key_of(**parts: str) -> str:
    """An item of a list, as managedFields call it."""
    return f"k:{json.dumps(parts, separators=(',', ':'))}"


def split(fields: Fields, foreign: Iterable[str], place: str = "") -> tuple[Fields, Fields]:
    """What becomes ours of the fields of an entry, and what stays. Pure."""
    given: Fields = {}
    kept: Fields = {}
    for key, inner in fields.items():
        stays = key == "f:replicas" if place == "f:spec" else place in LISTS and key in foreign
        if stays:
            kept[key] = inner
        elif not inner:
            given[key] = inner
        else:
            mine, others = split(inner, foreign, key)
            if mine:
                given[key] = mine
            if others:
                kept[key] = others
    return given, kept


def union(one: Fields, other: Fields) -> Fields:
    """All fields of both. Pure."""
    both = dict(one)
    for key, inner in other.items():
        both[key] = union(both.get(key) or {}, inner)
    return both


def path_of(workload: str, namespace: str) -> str:
    """Of ``Kind/name``. Raises ValueError."""
    kind, slash, name = workload.partition("/")
    if kind not in KINDS or not slash or not name or "/" in name:
        raise ValueError(f"{workload!r} is no Kind/name of {', '.join(sorted(KINDS))}")
    group, version, plural = KINDS[kind]
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    return f"{base}/namespaces/{namespace}/{plural}/{quote(name)}"


def adopt(
    client: Rest, namespace: str, objects: Iterable[str], makers: Iterable[str], check_mode: bool
) -> dict[str, Any]:
    """Make what is there of the objects ours; the module's result.

    Raises:
        ClusterError: one could not be read or written; those before it are ours by then.
        ValueError: one is no ``Kind/name``.
    """
    places = {workload: path_of(workload, namespace) for workload in objects}
    makers = tuple(makers)
    results = []
    for workload, path in places.items():
        results.append(_adopt_one(client, workload, path, makers, check_mode))
    adopted = [one["name"] for one in results if one["action"] == "adopt"]
    said = f"{len(adopted)} adopted ({', '.join(adopted)})" if adopted else "nothing to adopt"
    return {
        "changed": bool(adopted),
        "msg": f"{said} in {namespace}" + (" (check mode)" if check_mode and adopted else ""),
        "results": results,
    }


def _adopt_one(client: Rest, workload: str, path: str, makers: tuple[str, ...], check_mode: bool) -> dict[str, Any]:
    rights = f"get and patch on {path.split('/')[-2]}"
    for attempt in range(TRIES):
        found = client.find(path, rights)
        fields = taken_over(found, makers) if found else None
        state = {"name": workload, "exists": found is not None, "others": others(found, makers) if found else []}
        if found is None or fields is None:
            return {**state, "action": "none", "changed": False}
        patch = [
            {"op": "replace", "path": "/metadata/managedFields", "value": fields},
            # Refused where somebody has written it meanwhile.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]},
        ]
        if not check_mode:
            try:
                client.request(
                    "PATCH",
                    path,
                    patch,
                    query={"fieldManager": MANAGER},
                    content_type="application/json-patch+json",
                    rights=rights,
                )
            except ClusterError as failure:
                if failure.status == 409 and attempt < TRIES - 1:
                    continue
                raise ClusterError(f"Adopt {workload}", failure.words, failure.advice, failure.status) from None
        return {**state, "action": "adopt", "changed": True}
    raise AssertionError("unreachable")


def others(found: Mapping[str, Any], makers: Iterable[str]) -> list[str]:
    """Who else has set fields of it, and keeps them. Pure."""
    entries = found["metadata"].get("managedFields") or []
    return sorted({str(one.get("manager")) for one in entries} - {MANAGER, *makers, "kube-controller-manager"})
