# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another number of pods: only where limits are still counted once for all, and the database can take them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import cache, discover, operate, running
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.connections import connection_sum
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError

#: Words that let pass what is refused otherwise.
NO_REDIS, CONNECTIONS, ZERO = "no_redis", "connections", "zero"
WORDS = (NO_REDIS, CONNECTIONS, ZERO)
#: Of PostgreSQL's connections, for backups and people.
RESERVED = 20
OPTION = "max_connections"
#: The playbook's variable that takes the words; the module's option is ``allow``.
ALLOW = "scale_allow"


@dataclass
class Result:
    """What a scaling comes to.

    Attributes:
        changes: what was, or would be, changed.
        connections: the sum in words.
        notes: what has to be known beside it.
    """

    changes: list[operate.Change] = field(default_factory=list)
    connections: str = ""
    notes: list[str] = field(default_factory=list)


def scale(
    operator: operate.Operator,
    place: discover.Namespace,
    wanted: Mapping[str, int],
    *,
    allow: Collection[str] = (),
    reserved: int = RESERVED,
    maximum: int = 0,
    connect_timeout: int = 10,
    check: bool = False,
) -> Result:
    """Give parts so many pods. Everything is checked before anything is written.

    Args:
        wanted: part → number.
        allow: of :data:`WORDS`.
        maximum: PostgreSQL's max_connections; 0 asks it.

    Raises:
        ClusterError: refused, or not carried out; says which state is left.
    """
    there = operator.components()
    operate.missing(wanted, there, operator.namespace)
    attempt = f"Scale {', '.join(f'{part} to {number}' for part, number in wanted.items())} in {operator.namespace}"
    now = {part: int(one["spec"].get("replicas", 1)) for part, one in there.items()}
    result = Result()
    found = [operate.set_replicas(there[part], number) for part, number in wanted.items()]
    result.changes = [one for one in found if one is not None]
    stopped = [part for part, number in wanted.items() if number < 1]
    refused = _autoscaled(operator, [part for part in wanted if wanted[part] != now[part]])
    if stopped and ZERO not in allow:
        refused.append(f"{', '.join(stopped)} would stop altogether; set {ALLOW}={ZERO} if that is meant")
    settings = running.of_litellm(operator.client, operator.namespace, there["litellm"]) if "litellm" in there else None
    if settings is not None and wanted.get("litellm", 0) > 1:
        trouble = _redis(place, settings, result.notes)
        # Fewer than there are count no worse than now.
        if trouble and NO_REDIS not in allow and wanted["litellm"] > now["litellm"]:
            refused.append(
                f"{trouble}; several replicas would each count limits alone ({ALLOW}={NO_REDIS} if that is meant)"
            )
        elif trouble:
            result.notes.append(f"{trouble}: each replica counts limits alone")
    after = {**now, **wanted}
    more = any(after[part] > now[part] for part in ("litellm", "backend") if part in there)
    # Where nothing grows there is no sum to refuse, and a database that is full or down must not stand in the way:
    # fewer pods may be what it needs.
    if settings is not None and not more and not maximum and result.changes:
        result.notes.append("connections were not asked for, as no part that uses the database grows")
    elif settings is not None and (more or maximum):
        sizes = {
            "litellm_replicas": after["litellm"],
            "litellm_workers": settings.workers,
            "litellm_limit": settings.pool_limit,
            "backend_replicas": after.get("backend", 0),
            "backend_limit": running.backend_limit(there["backend"]) if "backend" in there else 0,
            "reserved": reserved,
            "maximum": maximum or _maximum(place, connect_timeout),
        }
        total = connection_sum(sizes)
        result.connections = total["text"]
        if not total["fits"] and more and CONNECTIONS not in allow:
            refused.append(
                f"the database would run out of connections: {total['text']}. Scale lower, raise its max_connections"
                f" (ocp4_workload_litemaas_ha_postgres_max_connections), or set {ALLOW}={CONNECTIONS}"
            )
        elif not total["fits"]:
            result.notes.append("the database may run out of connections")
    if refused:
        raise ClusterError(attempt, "; ".join(refused), "Nothing was changed")
    for change in result.changes:
        operator.write(change, dry_run=True)
    if not check:
        operator.carry_out(result.changes, roll_back=True)
        if not result.changes:
            operator.wait(f"Deployment/{operate.DEPLOYMENTS[part]}" for part in wanted)
    return result


def _autoscaled(operator: operate.Operator, parts: Collection[str]) -> list[str]:
    """Why parts aren't ours to scale: an autoscaler would set its own number within seconds."""
    if not parts:
        return []
    path = f"/apis/autoscaling/v1/namespaces/{operator.namespace}/horizontalpodautoscalers"
    listed = operator.client.get(path, "list on horizontalpodautoscalers.autoscaling")["items"]
    said = []
    for one in listed:
        spec = one["spec"]
        target = spec["scaleTargetRef"]
        part = next((part for part in parts if operate.DEPLOYMENTS[part] == target["name"]), None)
        if part and target["kind"] == "Deployment":
            said.append(
                f"HorizontalPodAutoscaler {one['metadata']['name']} scales {part} ({spec.get('minReplicas', 1)} to"
                f" {spec['maxReplicas']}) and would set its own number: change its bounds"
                " (ocp4_workload_litemaas_ha_litellm_replicas, …hpa_litellm_max_replicas), or delete it"
            )
    return said


def _redis(place: discover.Namespace, settings: running.Settings, notes: list[str]) -> str:
    """Why LiteLLM's replicas have no Redis in common; "" where they have."""
    redis = settings.redis
    if not redis:
        return "LiteLLM's configuration switches no Redis on (litellm_settings.cache with cache_params.type redis)"
    try:
        port = place.pod_port(redis["host"], redis["port"], "", "Redis")
    except ClusterError as failure:
        if failure.status in (401, 403):
            raise
        return f"{failure.attempt}: {failure.words}"
    if port is None:
        notes.append(f"Redis {redis['host']}:{redis['port']} is outside of the namespace: not looked at")
        return ""
    trouble = cache.trouble_with(redis, port)
    return (
        f"Redis in {port.name} takes no commands: {trouble}. See its log, and scale when it answers" if trouble else ""
    )


def _maximum(place: discover.Namespace, connect_timeout: int) -> int:
    """What the server gives. Raises ClusterError."""
    try:
        with (
            place.connect("litellm", connect_timeout) as connection,
            connection.transaction("Ask for max_connections", read_only=True) as cursor,
        ):
            cursor.execute("SHOW max_connections")
            return int(cursor.fetchone()[0])
    except DatabaseError as failure:
        raise ClusterError(failure.attempt, failure.words, f"{failure.advice}; or give {OPTION}") from None


def described(changes: Collection[operate.Change], states: Mapping[str, Any], check: bool) -> str:
    """What was done, in a line."""
    if not changes:
        return "as wanted already"
    said = "; ".join(one.sentence() for one in changes)
    ready = ", ".join(states[one.workload].sentence() for one in changes if one.workload in states)
    return f"would change {said}" if check else f"{said}" + (f" ({ready})" if ready else "")
