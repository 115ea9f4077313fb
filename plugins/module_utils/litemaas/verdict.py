# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a LiteMaaS, made of what was read of it: reasons, the worst first. Pure.

The states of the parts are those of ``status.py``. What is normal in operation, such as keys that expire, is no reason:
a report that is never healthy is soon no longer read.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.keys import NEVER_REVOKED
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.status import (
    ATTENTION,
    BROKEN,
    HEALTHY,
    NOT_ASKED,
    PARTLY,
    READ,
    SCHEMA,
    UNREAD,
)

#: Workloads without which nobody is served.
CORE = ("litellm", "litellm-backend", "litellm-frontend", "litellm-postgres")
#: Shares of max_connections and of Redis' memory.
MANY, TOO_MANY = 0.8, 0.95
#: Seconds for which a restart is news.
RESTART_NEWS = 86400
#: Days after which the newest backup is too old: they are monthly at least.
BACKUP_DAYS = 35
#: Parts that can be wrong; each has its method in :class:`_Judge`.
JUDGED = (
    "pods",
    "routes",
    "images",
    "litellm",
    "backend",
    "database",
    "redis",
    "models",
    "keys",
    "subscriptions",
    "drift",
    "backups",
)
#: Names that a sentence holds at most.
NAMES = 3
#: A part of sync's report that isn't there: the database lacks a table, or keys weren't read.
_NONE: Mapping[str, Any] = {"count": 0, "items": ()}

Parts = Mapping[str, Mapping[str, Any]]
Reason = dict[str, str]


def document(parts: Parts, *, now: datetime, namespace: str | None = None, litellm_url: str = "") -> dict[str, Any]:
    """The whole status: for the module's result, the page, and the JSON beside it."""
    reasons = [{**one, "advice": _placed(one["advice"], namespace)} for one in reasons_of(parts, now)]
    reasons.sort(key=lambda one: one["severity"] != BROKEN)  # stable: parts keep their order
    state = reasons[0]["severity"] if reasons else HEALTHY
    return {
        "schema": SCHEMA,
        "generated_at": now.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "namespace": namespace,
        "litellm_url": litellm_url,
        "state": state,
        "complete": all(part["read"] in (READ, NOT_ASKED) for part in parts.values()),
        "reasons": reasons,
        "versions": versions(parts),
        "parts": {name: dict(part) for name, part in parts.items()},
    }


def _placed(advice: str, namespace: str | None) -> str:
    """A hint as it can be entered where the run was given a namespace."""
    if not namespace:
        return advice
    return _COMMAND.sub(lambda found: f"{found[0]} -e namespace={shlex.quote(namespace)}", advice)


_COMMAND = re.compile(r"ansible-playbook rhpds\.litemaas\.\w+")


def message(status: Mapping[str, Any]) -> str:
    """One line: the state, and why."""
    reasons = status["reasons"]
    where = f" in {status['namespace']}" if status["namespace"] else ""
    text = f"LiteMaaS{where} is {status['state'] if status['state'] != ATTENTION else 'in need of attention'}"
    if reasons:
        text += f": {reasons[0]['part']}: {reasons[0]['text']}"
        if len(reasons) > 1:
            text += f"; and {len(reasons) - 1} more (see status.reasons)"
    if not status["complete"]:
        text += ". Not everything could be read"
    return text


def shortened(status: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """The same with at most so many keys and models in it."""
    parts = {
        name: {**part, "items": part["items"][:limit]} if "items" in part else part
        for name, part in status["parts"].items()
    }
    return {**status, "parts": parts}


def versions(parts: Parts) -> dict[str, str]:
    """Versions of everything that tells its own."""
    found: dict[str, str] = {}
    litellm = parts.get("litellm", {}).get("version")
    for workload, name in (("litellm-backend", "LiteMaaS backend"), ("litellm-frontend", "LiteMaaS frontend")):
        for image in parts.get("images", {}).get("images", ()):
            if image["workload"] == workload and not image["init"]:
                found[name] = image["tag"] or image["image"]
                break
    databases = parts.get("database", {}).get("databases", ())
    redis = parts.get("redis", {}).get("version")
    return {
        **({"LiteLLM": litellm} if litellm else {}),
        **found,
        **({"PostgreSQL": databases[0]["version"]} if databases else {}),
        **({"Redis": redis} if redis else {}),
    }


def reasons_of(parts: Parts, now: datetime) -> Iterator[Reason]:
    """Everything that isn't as it should be, part by part."""
    troubled = {name: part for name, part in parts.items() if part["read"] in (UNREAD, PARTLY)}
    said: dict[str, str] = {}
    judge = _Judge(parts, now)
    for name, part in parts.items():
        if name in JUDGED and part["read"] in (READ, PARTLY):
            yield from getattr(judge, name)(part)
        if name in troubled:
            severity = _severity_unread(name, part)
            how = "could not be read in full" if part["read"] == PARTLY else "could not be read"
            how = "can't be told" if part.get("unknown") else how
            # One right that is missing may stand in the way of several parts: its words are long, and said once.
            fresh = [one for one in part["errors"] if one not in said]
            said.update(dict.fromkeys(fresh, name))
            if fresh:
                yield _reason(severity, name, f"{how}: {'; '.join(_with_parts(one, name, troubled) for one in fresh)}")
            elif severity == BROKEN:
                yield _reason(severity, name, f"{how}, see {said[part['errors'][0]]}")


def _severity_unread(name: str, part: Mapping[str, Any]) -> str:
    """LiteLLM that doesn't answer and databases that let nobody in are no lack of knowledge; a lack of rights is."""
    down = name in ("litellm", "database") and part["read"] == UNREAD and not part.get("unknown")
    return BROKEN if down else ATTENTION


def _with_parts(error: str, name: str, troubled: Parts) -> str:
    """An error with the other parts in whose way it stands."""
    others = [other for other, part in troubled.items() if other != name and error in part["errors"]]
    return f"{error.rstrip('.')} (also for {', '.join(others)})" if others else error


def _reason(severity: str, part: str, text: str, advice: str = "") -> Reason:
    return {"severity": severity, "part": part, "text": text, "advice": advice}


def _names(found: Sequence[Any], of: int | None = None) -> str:
    shown = ", ".join(str(one) for one in found[:NAMES])
    return shown + (", …" if (of or len(found)) > NAMES else "")


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


_SYNC = "ansible-playbook rhpds.litemaas.sync_databases"
_RESTART = "ansible-playbook rhpds.litemaas.restart"


class _Judge:
    """A method for each part that can be wrong."""

    def __init__(self, parts: Parts, now: datetime) -> None:
        self.parts, self.now = parts, now

    def pods(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        there = {one["name"]: one for one in part["workloads"]}
        for name in CORE[:1]:
            if name not in there and part["read"] == READ:
                yield _reason(
                    BROKEN, "pods", f"there is no workload {name}", "rhpds.litemaas.deploy_litemaas_ha makes it"
                )
        troubled = [one for one in part["pods"] if one["trouble"]]
        told: set[str] = set()
        for one in part["workloads"]:
            name, ready, wanted = one["name"], one["ready"], one["wanted"]
            if ready >= wanted and (wanted or name not in CORE):
                continue
            mine = [pod for pod in troubled if pod["app"] == name]
            told.update(pod["name"] for pod in mine)
            because = f": {mine[0]['trouble']}" if mine else ""
            if not wanted:
                yield _reason(BROKEN, "pods", f"{name} is scaled to 0", "Scale it up again")
            else:
                severity = BROKEN if not ready and name in CORE else ATTENTION
                yield _reason(severity, "pods", f"{name}: {ready} of {wanted} ready{because}")
        for pod in troubled:
            if pod["name"] not in told:
                yield _reason(ATTENTION, "pods", f"pod {pod['name']} {pod['trouble']}")
        for pod in part["pods"]:
            since = pod["last_restart_seconds"]
            if since is not None and since < RESTART_NEWS and pod["name"] not in told and not pod["trouble"]:
                how = f", {pod['last_restart_reason']}" if pod["last_restart_reason"] else ""
                ago = durations.text(max(since, 60))
                text = f"pod {pod['name']} has restarted {_many(pod['restarts'], 'time')}, the last time {ago} ago{how}"
                yield _reason(ATTENTION, "pods", text)

    def routes(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        for one in part["routes"]:
            if not one["admitted"] and one["service"] in CORE:
                text = f"{one['kind']} {one['name']} doesn't lead to {one['service']}: {one['trouble']}"
                yield _reason(ATTENTION, "routes", text, "Look at its conditions and its host")
        if part["read"] == READ and not any(one["service"] == "litellm" for one in part["routes"]):
            yield _reason(
                ATTENTION, "routes", "no Route or Ingress leads to Service litellm: nobody outside can call it"
            )

    def images(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        for one in part["mismatches"]:
            mine, wanted = (str(one[key]).rpartition("/")[2] for key in ("image", "wanted"))
            if one["init"]:
                text = f"{one['workload']}: init container {one['container']} is of {mine}, the container of {wanted}"
                advice = "People see the pages of the older one: deploy or upgrade again, which sets both"
            else:
                text = f"pod {one['pod']} runs {mine}, its workload wants {wanted}"
                advice = "A rollout is under way, or stuck: look again in some minutes"
            yield _reason(ATTENTION, "images", text, advice)

    def litellm(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        if not part["ready"]:
            words = part.get("words") or part.get("status")
            yield _reason(BROKEN, "litellm", f"the proxy is not ready: {words}", "Look at its database first")

    def backend(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        mock = [one["pod"] for one in part["backends"] if one["mock"]]
        if mock:
            serve = "serve" if len(mock) > 1 else "serves"
            text = f"{_names(mock)} {serve} made-up data, while the health check says that all is well"
            advice = f"It could not reach its database when it started: put that right, then {_RESTART}"
            yield _reason(BROKEN, "backend", text, advice)
        bad = [one for one in part["backends"] if one["health"] not in ("HTTP 200", "")]
        if bad:
            severity = BROKEN if len(bad) == len(part["backends"]) else ATTENTION
            yield _reason(
                severity, "backend", f"{_names([one['pod'] for one in bad])}: health check says {bad[0]['health']}"
            )
        unknown = [one["pod"] for one in part["backends"] if one["mock"] is None and one["ready"]]
        if unknown and part["read"] == READ:
            why = next((one["how"] for one in part["backends"] if one["how"] and one["mock"] is None), "no admin key")
            yield _reason(ATTENTION, "backend", f"whether {_names(unknown)} serves made-up data can't be told: {why}")

    def database(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        servers = {(one["version"], one["up_since"], one["max_connections"]): one for one in part["databases"]}
        for one in servers.values():  # both databases are mostly on one server
            free = one["max_connections"] - one["reserved_connections"]
            share = one["connections"] / max(free, 1)
            if share >= MANY:
                text = f"{one['connections']} of {free} connections are taken"
                advice = "Fewer replicas, smaller pools, or a larger max_connections"
                yield _reason(BROKEN if share >= TOO_MANY else ATTENTION, "database", text, advice)
            if one["in_recovery"]:
                yield _reason(
                    ATTENTION, "database", f"{one['database']} is on a server in recovery: it can't be written to"
                )

    def redis(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        if not part["there"]:
            replicas = next(
                (one["wanted"] for one in self.parts.get("pods", {}).get("workloads", ()) if one["name"] == "litellm"),
                0,
            )
            if replicas > 1:
                text = f"there is none, and LiteLLM has {replicas} replicas: each counts limits by itself"
                yield _reason(ATTENTION, "redis", text)
            return
        limit = part["max_memory_bytes"]
        if limit and part["memory_bytes"] >= limit * 0.9:
            yield _reason(ATTENTION, "redis", f"{part['memory_bytes'] * 100 // limit} % of its memory is taken")

    def models(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        def named(state: str, available: bool = False) -> list[str]:
            return [
                one["name"]
                for one in part["items"]
                if one["state"] == state and (not available or one["availability"] == "available")
            ]

        missing, orphaned = named("only_litellm"), named("only_litemaas", True)
        if not part["count"]:
            yield _reason(
                ATTENTION, "models", "there is no model at all", "ansible-playbook rhpds.litemaas.manage_models"
            )
        if missing:
            many = _many(len(missing), "model is", "models are")
            text = f"{many} in LiteLLM only: nobody can subscribe ({_names(missing)})"
            yield _reason(ATTENTION, "models", text, _SYNC)
        if orphaned:
            text = (
                f"{_many(len(orphaned), 'model is', 'models are')} in LiteMaaS only, and offered: every call fails"
                f" ({_names(orphaned)})"
            )
            kept = self._kept(orphaned)
            if len(kept) < len(orphaned):
                yield _reason(ATTENTION, "models", text, f"{_SYNC} -e sync_repair=orphaned_models")
            else:
                advice = (
                    "They have active subscriptions. Bring them back in LiteLLM, or let users move first, or"
                    f" {_SYNC} -e sync_repair=orphaned_models -e sync_allow_active_subscriptions=true"
                )
                yield _reason(ATTENTION, "models", text, advice)

    def _kept(self, names: Sequence[str]) -> list[str]:
        """Those that sync keeps, unless it is told otherwise, for their active subscriptions."""
        found = self.parts.get("drift", {}).get("only_in_litemaas", _NONE)["items"]
        with_users = {one["name"] for one in found if one["active_subscriptions"]}
        return [name for name in names if name in with_users]

    def keys(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        drift = self.parts.get("drift", {})
        alive = drift.get("alive_revoked_keys", _NONE)
        if part["revoked_but_alive"]:
            count = part["revoked_but_alive"]
            names = _names([one["alias"] or one["id"] for one in alive["items"] if not one.get("blocked")], count)
            text = f"{_many(count, 'key is', 'keys are')} revoked in LiteMaaS and still alive ({names})"
            yield _reason(ATTENTION, "keys", text, f"{_SYNC} -e sync_repair=revoked_keys_alive")
        # Others that no repair deletes come back by themselves or with their subscription, or are other keys.
        unrevoked = [one for one in alive["items"] if one.get("blocked") == NEVER_REVOKED]
        if unrevoked:
            names = _names([one["alias"] or one["id"] for one in unrevoked])
            text = f"{_many(len(unrevoked), 'key is', 'keys are')} inactive in LiteMaaS and still alive ({names})"
            yield _reason(ATTENTION, "keys", text, f"{unrevoked[0]['why'][:1].upper()}{unrevoked[0]['why'][1:]}")
        if part["orphaned_rows"]:
            found = drift["orphaned_keys"]
            text = (
                f"{_many(found['count'], 'active row')} of LiteMaaS without a key in LiteLLM"
                f" ({_names([one['alias'] for one in found['items']], found['count'])})"
            )
            yield _reason(ATTENTION, "keys", text, f"{_SYNC} -e sync_repair=orphaned_keys")

    def subscriptions(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        stuck = part["on_unavailable_models"]
        if stuck:
            names = _names([one["model"] for one in part["unavailable_models"]])
            text = f"{_many(stuck, 'active subscription')} to models that are unavailable ({names})"
            yield _reason(ATTENTION, "subscriptions", text, f"{_SYNC} -e sync_repair=unavailable_subscriptions")

    def drift(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        differing = [one for one in part["differing"]["items"] if one["columns"]]
        if differing:
            names = _names([one["name"] for one in differing])
            text = f"rows of LiteMaaS differ from LiteLLM ({names})"
            yield _reason(ATTENTION, "drift", text, f"{_SYNC} --check shows what, without --check it is put right")
        twins = part.get("identical_twins", _NONE)
        if twins["count"]:
            many = _many(
                twins["count"], "name has deployments that are copies", "names have deployments that are copies"
            )
            names = _names([one["name"] for one in twins["items"]], twins["count"])
            yield _reason(ATTENTION, "drift", f"{many} of each other ({names})", f"{_SYNC} -e sync_repair=duplicates")
        stuck, keys = part.get("stuck_subscriptions", _NONE), part.get("stuck_keys", _NONE)
        if stuck["count"]:
            many = _many(stuck["count"], "subscription was", "subscriptions were")
            taken = f", {_many(keys['count'], 'key')} with them" if keys["count"] else ""
            names = _names(list(dict.fromkeys(one["model"] for one in stuck["items"])))
            text = f"{many} made inactive by the backend's sync{taken}, and the models are there again ({names})"
            yield _reason(ATTENTION, "drift", text, f"{_SYNC} -e sync_repair=stuck_subscriptions")
        idle = part.get("active_on_unavailable", _NONE)
        if idle["count"] and not self.parts.get("subscriptions", {}).get("on_unavailable_models"):
            names = _names(list(dict.fromkeys(one["model"] for one in idle["items"])))
            text = f"{_many(idle['count'], 'active subscription')} to models that are unavailable ({names})"
            yield _reason(ATTENTION, "drift", text, f"{_SYNC} -e sync_repair=unavailable_subscriptions")

    def backups(self, part: Mapping[str, Any]) -> Iterator[Reason]:
        advice = "ansible-playbook rhpds.litemaas.backup"
        times = [one for one in (_moment(each.get("time")) for each in part["backups"]) if one]
        if not part["backups"]:
            yield _reason(ATTENTION, "backups", "none is recorded", advice)
        elif times and (self.now - max(times)).days > BACKUP_DAYS:
            yield _reason(ATTENTION, "backups", f"the newest is {(self.now - max(times)).days} days old", advice)


def _moment(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
