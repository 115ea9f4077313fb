# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a deploy leaves as it is in the cluster, though its templates say something else. Pure: definitions in and out.

Three reasons: somebody else changed it since (docs/decisions/0012), it can't be changed, or changing it would lose
data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

#: Annotation of a workload: what we applied last of what others may change, as JSON.
APPLIED = "rhpds.litemaas/applied"
#: Variables of containers that are switched while the stack runs.
SWITCHES = ("LITELLM_AUTO_SYNC",)
#: Fields of a StatefulSet that an API server never lets anybody change.
FIXED = ("serviceName", "podManagementPolicy", "volumeClaimTemplates")

Definition = dict[str, Any]


def _copied(value: Any) -> Any:
    """Containers made anew. deepcopy would take seconds: Ansible's strings carry where they come from."""
    if isinstance(value, Mapping):
        return {name: _copied(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return value


def key(definition: Mapping[str, Any]) -> str:
    """``Kind/name`` of an object."""
    return f"{definition['kind']}/{definition['metadata']['name']}"


def installable(definitions: Iterable[Mapping[str, Any]], api_versions: Iterable[str]) -> dict[str, list[Any]]:
    """What the API server has the kind of, and what it hasn't, in words.

    Args:
        api_versions: ``group/version/Kind``; the core group's name is empty. None at all counts as everything.

    Returns:
        ``definitions`` and ``left_out``.
    """
    served = {version.lstrip("/") for version in api_versions}
    known: list[Definition] = []
    left_out: list[str] = []
    for definition in definitions:
        if not served or f"{definition['apiVersion']}/{definition['kind']}" in served:
            known.append(dict(definition))
        else:
            left_out.append(f"{key(definition)} ({definition['apiVersion']})")
    return {"definitions": known, "left_out": left_out}


def keep(
    definitions: Iterable[Mapping[str, Any]],
    live: Mapping[str, Mapping[str, Any]],
    scaled: Sequence[str] = (),
    keep_changes: bool = True,
) -> dict[str, list[Any]]:
    """Definitions as they can be applied without undoing what others did, and what was kept, in words.

    Args:
        live: the objects that are there, by ``Kind/name``.
        scaled: ``Kind/name`` of what an autoscaler scales.
        keep_changes: False takes back what others have changed.

    Returns:
        ``definitions``, without Jobs that are there already, and ``kept``.
    """
    result: list[Definition] = []
    kept: list[str] = []
    for definition in definitions:
        wanted: Definition = _copied(definition)
        there = live.get(key(wanted))
        if wanted["kind"] == "Job" and there is not None:
            continue  # nothing of it can change, and its name says what it is for
        if wanted["kind"] in ("Deployment", "StatefulSet"):
            _remember(wanted)
            if there is not None:
                _keep_changes(wanted, there, key(wanted) in scaled, keep_changes, kept)
                _keep_selector(wanted, there)
        if wanted["kind"] == "StatefulSet" and there is not None:
            _keep_volume(wanted, there, kept)
        result.append(wanted)
    return {"definitions": result, "kept": kept}


def _switches(definition: Mapping[str, Any]) -> dict[str, str]:
    """Values of the switchable variables that a workload's containers have as plain text."""
    containers = definition["spec"]["template"]["spec"].get("containers") or []
    return {
        entry["name"]: entry["value"]
        for container in containers
        for entry in container.get("env") or []
        if entry["name"] in SWITCHES and "value" in entry
    }


def _remember(wanted: Definition) -> None:
    record = {"replicas": wanted["spec"].get("replicas", 1), "env": _switches(wanted)}
    annotations = wanted["metadata"].setdefault("annotations", {})
    annotations[APPLIED] = json.dumps(record, sort_keys=True)


def remembered(there: Mapping[str, Any]) -> dict[str, Any]:
    """What we applied last of a workload: ``replicas`` and ``env``; {} where somebody else made it."""
    with suppress(KeyError, ValueError, TypeError):
        found = json.loads((there["metadata"].get("annotations") or {})[APPLIED])
        if isinstance(found, dict):
            return found
    return {}


def _keep_changes(
    wanted: Definition, there: Mapping[str, Any], scaled: bool, keep_changes: bool, kept: list[str]
) -> None:
    name = wanted["metadata"]["name"]
    before = (remembered(there) or None) if keep_changes else {}
    replicas, live_replicas = wanted["spec"].get("replicas", 1), there["spec"].get("replicas", 1)
    last = None if before is None else before.get("replicas", live_replicas)
    changed_by_others = keep_changes and (last is None or (live_replicas != last and replicas == last))
    # A field that was ours and isn't declared any more falls back to 1: what an autoscaler has set is declared again.
    if scaled or changed_by_others:
        wanted["spec"]["replicas"] = live_replicas
        if live_replicas != replicas:
            who = "an autoscaler's" if scaled else "set by somebody else"
            kept.append(f"{name}: {live_replicas} replicas, {who} (wanted {replicas})")
    if not keep_changes:
        return
    live_env = _switches(there)
    for container in wanted["spec"]["template"]["spec"].get("containers") or []:
        for entry in container.get("env") or []:
            value = live_env.get(entry["name"])
            if value is None or value == entry.get("value"):
                continue
            last_value = None if before is None else (before.get("env") or {}).get(entry["name"], value)
            if last_value is None or (value != last_value and entry.get("value") == last_value):
                kept.append(f"{name}: {entry['name']}={value}, set by somebody else (wanted {entry.get('value')})")
                entry["value"] = value


def _keep_selector(wanted: Definition, there: Mapping[str, Any]) -> None:
    selector = (there["spec"].get("selector") or {}).get("matchLabels") or {}
    wanted["spec"]["selector"] = _copied(there["spec"]["selector"])
    wanted["spec"]["template"]["metadata"].setdefault("labels", {}).update(selector)


def _keep_volume(wanted: Definition, there: Mapping[str, Any], kept: list[str]) -> None:
    """The claim, and where its data lies on it, are those that are there."""
    ours = (wanted["spec"].get("volumeClaimTemplates") or [None])[0]
    for field in FIXED:
        if field in there["spec"]:
            wanted["spec"][field] = _copied(there["spec"][field])
        else:
            wanted["spec"].pop(field, None)
    # Whole, with what the API server has filled in: without that, each apply would be a change to it.
    theirs = (wanted["spec"].get("volumeClaimTemplates") or [None])[0]
    if ours is None or theirs is None:
        return
    size, live_size = _storage(ours), _storage(theirs)
    if size != live_size:
        kept.append(
            f"{wanted['metadata']['name']}: its volume stays {live_size} (wanted {size}); grow the claim itself with"
            f" kubectl patch pvc {theirs['metadata']['name']}-{wanted['metadata']['name']}-0"
        )
    _keep_data_folder(wanted, there, ours["metadata"]["name"], theirs["metadata"]["name"])


def _storage(claim: Mapping[str, Any]) -> str:
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", ""))


def _keep_data_folder(wanted: Definition, there: Mapping[str, Any], ours: str, theirs: str) -> None:
    """Mounts the claim where it is mounted now, with the same PGDATA."""
    containers = wanted["spec"]["template"]["spec"].get("containers") or []
    live_containers = there["spec"]["template"]["spec"].get("containers") or []
    for container in containers:
        mounts = container.get("volumeMounts") or []
        found = [
            (one, mount)
            for one in live_containers
            for mount in one.get("volumeMounts") or []
            if mount["name"] == theirs
        ]
        if not any(mount["name"] == ours for mount in mounts) or not found:
            continue
        live_container, live_mount = found[0]
        container["volumeMounts"] = [dict(live_mount) if mount["name"] == ours else mount for mount in mounts]
        folder = [dict(entry) for entry in live_container.get("env") or [] if entry["name"] == "PGDATA"]
        rest = [entry for entry in container.get("env") or [] if entry["name"] != "PGDATA"]
        container["env"] = rest + folder
