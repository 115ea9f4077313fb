# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a LiteMaaS is: proxy, databases, models, keys, subscriptions, spend, and whether the two stores agree.

Every part stands for itself: what can't be read is said in its place, and the rest goes on. Keys and spend are counted
by PostgreSQL, whatever their number; keys are read through LiteLLM's API only where its tables can't be had.

No value and no hash of a key is ever read: aliases, guids and numbers are all that leaves the databases.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.status import NothingRead
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import BadOption, LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import catalog, keys, sync
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection, DatabaseError
from ansible_collections.rhpds.litemaas.plugins.module_utils.redis import RedisError

#: Of the machine-readable form; raised when something in it changes its meaning or goes.
SCHEMA = 1
#: Parts in the order in which they are read and told.
PARTS = (
    "pods",
    "routes",
    "images",
    "litellm",
    "backend",
    "database",
    "redis",
    "drift",
    "models",
    "keys",
    "subscriptions",
    "spend",
    "backups",
    "logs",
)
#: Parts that only a cluster can tell of.
OF_CLUSTER = ("pods", "routes", "images", "backups", "logs")
#: How far a part was read.
READ, PARTLY, UNREAD, NOT_ASKED = "read", "partly", "unread", "not_asked"
HEALTHY, ATTENTION, BROKEN = "healthy", "attention", "broken"
#: States of a key, the worst first; each key is in one.
KEY_STATES = ("blocked", "expired", "expiring", "without_expiry", "alive")
MODEL_STATES = ("only_litellm", "only_litemaas", "unavailable", "config", "unknown", "both")
SUBSCRIPTION_STATES = ("active", "pending", "suspended", "inactive", "expired", "cancelled", "denied")

#: What of litemaas_db_sync's report is told.
DRIFT = (
    "only_in_litellm",
    "only_in_litemaas",
    "differing",
    "duplicate_names",
    "identical_twins",
    "possible_twins",
    "config_models",
    "orphaned_keys",
    "keys_without_alias",
    "alive_revoked_keys",
    "stuck_subscriptions",
    "stuck_keys",
    "waiting_subscriptions",
    "unproven_subscriptions",
    "active_on_unavailable",
)
KEYS, DELETED_KEYS = keys.KEY_TABLE, '"LiteLLM_DeletedVerificationToken"'
DAILY, SPEND_LOGS = '"LiteLLM_DailyUserSpend"', '"LiteLLM_SpendLogs"'
#: What we read of LiteLLM's keys.
KEY_COLUMNS = ("token", "key_alias", "expires", "blocked", "spend", "max_budget", "metadata", "team_id")

#: What is the matter with a server, none of it a mistake of ours.
Trouble = (ClusterError, DatabaseError, LiteLLMError, RedisError)


@dataclass
class Options:
    """What is looked at. See the module's documentation for the meaning of each."""

    parts: Sequence[str] = PARTS
    expiring_within: float = 7 * 86400
    spend_days: int = 30
    top: int = 20
    report_keys: int = 5000
    lock_timeout: float = 30
    statement_timeout: float = 300


@dataclass
class Sources:
    """Where things are read; what is None isn't known to this run.

    Attributes:
        client: a client of the proxy, for the admin API.
        connections: ``litemaas`` and ``litellm`` -> a connection, or why there is none; ``litellm`` is missing where
            its tables are looked for in LiteMaaS's database.
        others: part -> reads it, with a list for what stands in the way of some of it.
        apart: part -> why it isn't asked for.
        read_deployments, list_keys: of the proxy; None where it isn't known.
    """

    client: Any = None
    connections: dict[str, Connection | Exception] = field(default_factory=dict)
    others: dict[str, Callable[[list[str]], dict[str, Any]]] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)
    read_deployments: Callable[[], list[Any]] | None = None
    list_keys: Callable[[], Sequence[Mapping[str, Any]]] | None = None


def collect(sources: Sources, options: Options) -> dict[str, dict[str, Any]]:
    """Every part that is asked for, by its name; nothing is raised about what can't be read."""
    return _Collector(sources, options).run()


#: Words of a name that this machine can't resolve, Python's and those of C libraries.
_UNRESOLVED = re.compile(r"Failed to resolve|NameResolutionError|Name or service not known|name resolution|getaddrinfo")


def unresolved(failure: LiteLLMError) -> bool:
    """Whether a proxy wasn't asked, as its name doesn't resolve here: a Route's may do so in its own network alone."""
    return failure.status is None and bool(_UNRESOLVED.search(failure.words))


def blind(failure: Exception) -> bool:
    """Whether a failure says what this run lacks, a right or an address, and nothing of the server."""
    if isinstance(failure, NothingRead):
        return failure.blind
    if isinstance(failure, BadOption) or (isinstance(failure, LiteLLMError) and unresolved(failure)):
        return True
    # Words of the API server, as all of the ways to it give them; a tunnel's come as the database's trouble.
    return isinstance(failure, ClusterError) and any(f"HTTP {status}: " in str(failure) for status in (401, 403))


class _Collector:
    def __init__(self, sources: Sources, options: Options) -> None:
        self.sources, self.options = sources, options
        self.found: dict[str, dict[str, Any]] = {}
        #: What LiteLLM lists, once it has been read.
        self.entries: list[Any] | None = None
        self.api_keys: Sequence[Mapping[str, Any]] | None = None
        #: Why the proxy need not be asked again.
        self.silence: LiteLLMError | None = None
        self.drift: dict[str, Any] = {}

    def run(self) -> dict[str, dict[str, Any]]:
        parts: dict[str, Callable[[list[str]], dict[str, Any]]] = {
            "litellm": self._litellm,
            "database": self._database,
            "drift": self._drift,
            "models": self._models,
            "keys": self._keys,
            "subscriptions": self._subscriptions,
            "spend": self._spend,
            **self.sources.others,
        }
        for name in (one for one in PARTS if one in self.options.parts):
            if name in self.sources.apart:
                self.found[name] = {"read": NOT_ASKED, "errors": [], "why": self.sources.apart[name]}
                continue
            errors: list[str] = []
            try:
                data = parts[name](errors)
            except Trouble as failure:
                told = errors if isinstance(failure, NothingRead) else [*errors, str(failure)]
                self.found[name] = {"read": UNREAD, "errors": list(dict.fromkeys(told))}
                # A proxy is only down where it was asked.
                if blind(failure) or (name == "litellm" and self.silence is None):
                    self.found[name]["unknown"] = True
            else:
                self.found[name] = {"read": PARTLY if errors else READ, "errors": list(dict.fromkeys(errors)), **data}
        return self.found

    # ---- where to look ----

    def _connection(self, which: str) -> Connection:
        found = self.sources.connections.get(which)
        if found is None:
            raise BadOption(f"{which}_dsn", *discover.NOT_SET)
        if isinstance(found, Exception):
            raise found
        return found

    def _tables(self) -> Connection | None:
        """The connection over which LiteLLM's tables are read; None where keys have to come through the API."""
        if "litellm" in self.sources.connections:
            return self._connection("litellm")
        ours = self._connection("litemaas")
        with self._reading(ours, "Look for LiteLLM's tables") as cursor:
            there = ours.columns(cursor, (KEYS, sync.MODEL_TABLE))
            if not set(KEY_COLUMNS) <= set(there[KEYS]):
                return None
            ids = sorted(catalog.select(self.entries or []).ids)
            if ids and "model_id" in there[sync.MODEL_TABLE]:
                cursor.execute(f"SELECT EXISTS (SELECT FROM {sync.MODEL_TABLE} WHERE model_id = ANY(%s))", (ids,))
                # Left behind when LiteLLM moved to a database of its own.
                return ours if cursor.fetchone()[0] else None
        return ours

    def _reading(self, connection: Connection, attempt: str) -> Any:
        options = self.options
        return connection.transaction(
            attempt, lock_timeout=options.lock_timeout, statement_timeout=options.statement_timeout, read_only=True
        )

    def _deployments(self) -> list[Any]:
        if self.entries is None:
            if self.silence is not None:
                raise self.silence
            if self.sources.read_deployments is None:
                raise BadOption("litellm_url", *discover.NOT_SET)
            self.entries = self.sources.read_deployments()
        return self.entries

    def _listed_keys(self) -> Sequence[Mapping[str, Any]]:
        if self.api_keys is None:
            if self.silence is not None:
                raise self.silence
            if self.sources.list_keys is None:
                raise BadOption("litellm_url", *discover.NOT_SET)
            self.api_keys = self.sources.list_keys()
        return self.api_keys

    # ---- parts ----

    def _litellm(self, _errors: list[str]) -> dict[str, Any]:
        client = self.sources.client
        if client is None:
            raise BadOption("litellm_url", *discover.NOT_SET)
        # Asked once: whoever looks at a proxy that is down wants to hear of it now.
        asked = client.sibling()
        try:
            said = asked.get("/health/readiness")
        except LiteLLMError as failure:
            if unresolved(failure):
                failure = LiteLLMError(
                    failure.attempt,
                    words=f"not checked from here, as the name does not resolve ({failure.words})",
                    advice="Look from a machine that resolves it, or give litellm_url",
                )
            if failure.status is None:
                self.silence = failure
                raise failure from None
            return {"url": client.url, "ready": False, "status": f"HTTP {failure.status}", "words": failure.words}
        said = said if isinstance(said, dict) else {}
        if "litellm_version" not in said:
            # 1.106 keeps it from those without a key, and has it in a place of its own.
            with suppress(LiteLLMError):
                more = asked.get("/health/readiness/details")
                said = {**more, **said} if isinstance(more, dict) else said
        database = str(said.get("db") or "")
        return {
            "url": client.url,
            # 1.81 may say "connected" and 1.106 "healthy" of the whole; what is said of the database decides.
            "ready": database in ("connected", ""),
            "status": str(said.get("status") or ""),
            "words": "" if database in ("connected", "") else f"database: {database}",
            "version": str(said.get("litellm_version") or ""),
            "cache": str(said.get("cache") or ""),
        }

    def _database(self, errors: list[str]) -> dict[str, Any]:
        found = []
        blindly = True
        for which in self.sources.connections or ("litemaas",):
            try:
                connection = self._connection(which)
                with self._reading(connection, f"Read the size of {which}'s database") as cursor:
                    cursor.execute(_SERVER)
                    values = cursor.fetchone()
                    entry = {"which": which, **dict(zip(_SERVER_FIELDS, values, strict=True))}
                    cursor.execute(_LARGEST)
                    entry["tables"] = [{"name": name, "bytes": size} for name, size in cursor.fetchall()]
                    entry["up_since"] = _text(entry["up_since"])
                    found.append(entry)
            except Trouble as failure:
                errors.append(str(failure))
                blindly = blindly and blind(failure)
        if not found:
            raise NothingRead("Read the databases", errors, blindly)
        return {"databases": found}

    def _drift(self, errors: list[str]) -> dict[str, Any]:
        """As ``litemaas_db_sync`` in check mode says it; everything is rolled back."""
        ours = self._connection("litemaas")
        theirs = self._connection("litellm") if "litellm" in self.sources.connections else None
        wanted = sync.Options(
            report_limit=max(self.options.top, 1),
            lock_timeout=self.options.lock_timeout,
            statement_timeout=self.options.statement_timeout,
        )
        outcome = sync.CatalogSync(ours, wanted, self._deployments, self._listed_keys, theirs).run(check_mode=True)
        errors += outcome.errors
        report = outcome.report
        self.drift = {name: report[name] for name in DRIFT if name in report}
        return {**self.drift, "key_source": report.get("key_source", "none"), "warnings": outcome.warnings}

    def _models(self, errors: list[str]) -> dict[str, Any]:
        in_litellm: dict[str, int] | None = None
        config: set[str] = set()
        hidden: set[str] = set()
        try:
            selection = catalog.select(self._deployments())
            in_litellm = {name: len(ids) for name, ids in selection.deployments.items()}
            config = set(selection.config_models)
            hidden = set(selection.outside) - config
            errors += [f"LiteLLM's answer: {one}" for one in selection.unreadable[:3]]
        except LiteLLMError as failure:
            errors.append(str(failure))
            with suppress(*Trouble):
                in_litellm = self._names_in_table()
                if in_litellm is not None:
                    errors[-1] += ". The names are those of its table"
        rows: dict[str, Sequence[Any]] | None = None
        try:
            ours = self._connection("litemaas")
            with self._reading(ours, "Read the catalogue") as cursor:
                ours.require(cursor, {"models": ("id",), "subscriptions": ("id",)}, "Read the catalogue", "LiteMaaS")
                cursor.execute(_ROWS)
                rows = {row[0]: row for row in cursor.fetchall()}
        except DatabaseError as failure:
            errors.append(str(failure))
        except ClusterError as failure:
            errors.append(str(failure))
        if in_litellm is None and rows is None:
            raise NothingRead("Read the models", errors)
        items = [
            _model(name, in_litellm, rows, config, hidden)
            for name in sorted({*(in_litellm or {}), *(rows or {}), *config})
        ]
        items.sort(key=lambda one: (MODEL_STATES.index(one["state"]), one["name"]))
        return {
            "count": len(items),
            "states": _counted((one["state"] for one in items), MODEL_STATES),
            "duplicates": sum(one["deployments"] > 1 for one in items),
            "items": items,
        }

    def _names_in_table(self) -> dict[str, int] | None:
        tables = self._tables()
        if tables is None:
            return None
        with self._reading(tables, "Read LiteLLM's models") as cursor:
            if not {"model_name"} <= set(tables.columns(cursor, (sync.MODEL_TABLE,))[sync.MODEL_TABLE]):
                return None
            cursor.execute(f"SELECT model_name, count(*) FROM {sync.MODEL_TABLE} GROUP BY model_name")
            return dict(cursor.fetchall())

    def _keys(self, errors: list[str]) -> dict[str, Any]:
        found = self._keys_counted(errors)
        found.update(rows=None, orphaned_rows=None, revoked_but_alive=None)
        try:
            ours = self._connection("litemaas")
            with self._reading(ours, "Count LiteMaaS's keys") as cursor:
                ours.require(cursor, {"api_keys": ("is_active",)}, "Count LiteMaaS's keys", "LiteMaaS")
                cursor.execute("SELECT count(*) FILTER (WHERE is_active), count(*) FROM api_keys")
                active, rows = cursor.fetchone()
                found["rows"] = {"active": active, "inactive": rows - active}
            for name, part in (("orphaned_rows", "orphaned_keys"), ("revoked_but_alive", "alive_revoked_keys")):
                if part in self.drift:
                    # Of keys that are inactive and alive, those that were revoked.
                    found[name] = self.drift[part].get("repairable", self.drift[part]["count"])
                elif self.drift and not any(found["rows"].values()):
                    found[name] = 0  # nothing was there to be compared
        except Trouble as failure:
            errors.append(str(failure))
        return found

    def _keys_counted(self, errors: list[str]) -> dict[str, Any]:
        try:
            tables = self._tables()
        except Trouble as failure:
            tables = None
            errors.append(str(failure))
        if tables is None:
            try:
                return self._keys_of_api(self._listed_keys())
            except LiteLLMError as failure:
                errors.append(str(failure))
                raise NothingRead("Count the keys", errors) from None
        options = self.options
        with self._reading(tables, "Count the keys") as cursor:
            tables.require(cursor, {KEYS: KEY_COLUMNS}, "Count the keys", "LiteLLM")
            values = {"soon": options.expiring_within, "top": options.top, "limit": options.report_keys}
            cursor.execute(_KEYS_BY_STATE, values)
            counted, over_budget = {}, 0
            for state, count, over in cursor.fetchall():
                counted[state], over_budget = count, over_budget + over
            cursor.execute(_EXPIRING, values)
            expiring = [
                {"guid": guid, "keys": number, "first": _text(first), "last": _text(last), "guids": guids}
                for guid, _place, number, first, last, guids in cursor.fetchall()
            ]
            cursor.execute(_KEY_ITEMS, values)
            items = [
                {
                    "alias": alias,
                    "guid": guid,
                    "state": state,
                    "expires": _text(expires),
                    "spend": float(spend or 0),
                    "max_budget": budget,
                }
                for alias, guid, state, expires, spend, budget in cursor.fetchall()
            ]
        source = "litellm_dsn" if "litellm" in self.sources.connections else "shared database"
        return self._keys_said(counted, over_budget, expiring, items, source)

    def _keys_of_api(self, listed: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        items = sorted(
            (key_item(one, now, self.options.expiring_within) for one in listed),
            key=lambda one: (KEY_STATES.index(one["state"]), one["expires"] or "~", one["alias"] or ""),
        )
        counted = Counter(one["state"] for one in items)
        over = sum(one["max_budget"] is not None and one["spend"] >= one["max_budget"] for one in items)
        grouped: dict[str, list[str]] = {}
        for one in items:
            if one["state"] == "expiring":
                grouped.setdefault(one["guid"] or "", []).append(one["expires"])
        ordered = sorted(grouped.items(), key=lambda one: (min(one[1]), one[0]))
        expiring = [
            {"guid": guid, "keys": len(ends), "first": min(ends), "last": max(ends), "guids": 1}
            for guid, ends in ordered[: self.options.top]
        ]
        rest = [end for _guid, ends in ordered[self.options.top :] for end in ends]
        if rest:
            guids = len(ordered) - self.options.top
            expiring.append({"guid": None, "keys": len(rest), "first": min(rest), "last": max(rest), "guids": guids})
        return self._keys_said(counted, over, expiring, items[: self.options.report_keys], "api")

    def _keys_said(
        self, counted: Mapping[str, int], over: int, expiring: list[Any], items: list[Any], source: str
    ) -> dict[str, Any]:
        return {
            "source": source,
            "count": sum(counted.values()),
            "states": {state: counted.get(state, 0) for state in KEY_STATES},
            "over_budget": over,
            "expiring_within": _span(self.options.expiring_within),
            "expiring_by_guid": expiring,
            "items": items,
        }

    def _subscriptions(self, _errors: list[str]) -> dict[str, Any]:
        ours = self._connection("litemaas")
        with self._reading(ours, "Count the subscriptions") as cursor:
            needed = {"subscriptions": ("status", "model_id"), "models": ("id", "availability")}
            ours.require(cursor, needed, "Count the subscriptions", "LiteMaaS")
            cursor.execute("SELECT status, count(*) FROM subscriptions GROUP BY status ORDER BY status")
            states = dict(cursor.fetchall())
            cursor.execute(_STUCK)
            stuck = [{"model": model, "subscriptions": count} for model, count in cursor.fetchall()]
        ordered = {state: states.pop(state, 0) for state in SUBSCRIPTION_STATES}
        ordered.update(states)
        return {
            "count": sum(ordered.values()),
            "states": ordered,
            "on_unavailable_models": sum(one["subscriptions"] for one in stuck),
            "unavailable_models": stuck[: self.options.top],
        }

    def _spend(self, _errors: list[str]) -> dict[str, Any]:
        tables = self._tables()
        if tables is None:
            raise DatabaseError("Read the spend", "LiteLLM's tables are not in LiteMaaS's database", "Give litellm_dsn")
        days = self.options.spend_days
        first = datetime.now(timezone.utc).date() - timedelta(days=days - 1)
        values = {"first": first.isoformat(), "top": self.options.top}
        with self._reading(tables, "Read the spend") as cursor:
            there = tables.columns(cursor, (KEYS, DELETED_KEYS, DAILY, SPEND_LOGS))
            if {"date", "api_key", "model", "model_group", "spend", "api_requests"} <= set(there[DAILY]):
                usage, source = _DAILY_USAGE, "LiteLLM_DailyUserSpend"
            elif {"startTime", "api_key", "model", "model_group", "spend"} <= set(there[SPEND_LOGS]):
                usage, source = _LOGGED_USAGE, "LiteLLM_SpendLogs"
            else:
                raise DatabaseError("Read the spend", "LiteLLM's database has no table of it", "Check litellm_dsn")
            names = _GUIDS + (_GUIDS_OF_DELETED if {"token", "metadata"} <= set(there[DELETED_KEYS]) else "")
            found: dict[str, Any] = {"days": days, "source": source}
            cursor.execute(f"SELECT day, sum(spend), sum(requests) FROM ({usage}) u GROUP BY day ORDER BY day", values)
            by_day = {str(day): (float(spend or 0), int(requests or 0)) for day, spend, requests in cursor.fetchall()}
            cursor.execute(
                _top(
                    "SELECT model AS name, sum(spend) AS spend, sum(requests) AS requests"
                    f" FROM ({usage}) u GROUP BY model"
                ),
                values,
            )
            found["by_model"] = [_spent(row) for row in cursor.fetchall()]
            cursor.execute(
                _top(
                    f"SELECT coalesce(k.guid, '') AS name, sum(spend) AS spend, sum(requests) AS requests"
                    f" FROM ({usage}) u LEFT JOIN ({names}) k ON k.token = u.api_key GROUP BY 1"
                ),
                values,
            )
            found["by_guid"] = [_spent(row) for row in cursor.fetchall()]
        found["by_day"] = [
            {"day": day, "spend": by_day.get(day, (0.0, 0))[0], "requests": by_day.get(day, (0.0, 0))[1]}
            for day in ((first + timedelta(days=number)).isoformat() for number in range(days))
        ]
        found["total"] = sum(one["spend"] for one in found["by_model"])
        found["requests"] = sum(one["requests"] for one in found["by_model"])
        return found


def _model(
    name: str,
    in_litellm: Mapping[str, int] | None,
    rows: Mapping[str, Sequence[Any]] | None,
    config: Iterable[str],
    hidden: Iterable[str],
) -> dict[str, Any]:
    row = (rows or {}).get(name)
    there = name in (in_litellm or {})
    if in_litellm is None or rows is None:
        state = "unknown"
    elif name in config and not there:
        state = "config"
    elif row is None:
        state = "only_litellm"
    elif not there and name not in hidden:
        state = "only_litemaas"
    else:
        state = "unavailable" if row[2] == catalog.UNAVAILABLE else "both"
    return {
        "name": name,
        "display_name": row[1] if row else None,
        "state": state,
        "deployments": (in_litellm or {}).get(name, 0),
        "availability": row[2] if row else None,
        "provider": row[3] if row else None,
        "active_subscriptions": row[4] if row else 0,
    }


def key_item(key: Mapping[str, Any], now: datetime, soon: float) -> dict[str, Any]:
    """One key as LiteLLM's API lists it, in the form and the states that the SQL gives."""
    expires = None
    with suppress(ValueError):
        expires = datetime.fromisoformat(str(key.get("expires") or "").replace("Z", "+00:00"))
        expires = expires if expires.tzinfo else expires.replace(tzinfo=timezone.utc)
    if key.get("blocked"):
        state = "blocked"
    elif expires is None:
        state = "without_expiry"
    elif expires <= now:
        state = "expired"
    else:
        state = "expiring" if expires <= now + timedelta(seconds=soon) else "alive"
    metadata = key.get("metadata")
    guid = metadata.get("guid") if isinstance(metadata, Mapping) else None
    return {
        "alias": key.get("key_alias"),
        "guid": str(guid) if guid is not None else None,
        "state": state,
        "expires": _text(expires),
        "spend": float(key.get("spend") or 0),
        "max_budget": key.get("max_budget"),
    }


def _counted(found: Iterable[str], order: Sequence[str]) -> dict[str, int]:
    counted = Counter(found)
    return {one: counted[one] for one in order}


def _spent(row: Sequence[Any]) -> dict[str, Any]:
    name, _place, spend, requests, count = row
    return {"name": name, "spend": float(spend or 0), "requests": int(requests or 0), "count": count}


def _span(length: float) -> str:
    """A time in days where it is that, such as ``7d``."""
    return f"{int(length // 86400)}d" if length >= 86400 and not length % 86400 else durations.text(length)


def _text(moment: datetime | None) -> str | None:
    """A moment in UTC, to the second."""
    if moment is None:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- SQL ----

_SERVER_FIELDS = (
    "database",
    "version",
    "bytes",
    "max_connections",
    "reserved_connections",
    "connections",
    "own_connections",
    "up_since",
    "in_recovery",
)
_SERVER = (
    "SELECT current_database(), split_part(current_setting('server_version'), ' ', 1),"
    " pg_database_size(current_database()), current_setting('max_connections')::int,"
    " current_setting('superuser_reserved_connections')::int,"
    " (SELECT sum(numbackends)::int FROM pg_stat_database),"
    " (SELECT numbackends FROM pg_stat_database WHERE datname = current_database()),"
    " pg_postmaster_start_time(), pg_is_in_recovery()"
)
_LARGEST = (
    "SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
    " ORDER BY 2 DESC, 1 LIMIT 5"
)
_ROWS = (
    "SELECT m.id, m.name, m.availability, m.provider, coalesce(s.active, 0) FROM models m"
    " LEFT JOIN (SELECT model_id, count(*) AS active FROM subscriptions WHERE status = 'active' GROUP BY model_id) s"
    " ON s.model_id = m.id"
)
_STUCK = (
    "SELECT m.id, count(*) FROM subscriptions s JOIN models m ON m.id = s.model_id"
    f" WHERE s.status = 'active' AND m.availability = '{catalog.UNAVAILABLE}' GROUP BY m.id ORDER BY 2 DESC, 1"
)

_NOW = "(now() AT TIME ZONE 'UTC')"
_GUID = "metadata ->> 'guid'"
#: The one place that judges a key in SQL; ``key_item`` does it for keys out of the API.
_STATE = (
    "CASE WHEN coalesce(blocked, false) THEN 'blocked' WHEN expires IS NULL THEN 'without_expiry'"
    f" WHEN expires <= {_NOW} THEN 'expired'"
    f" WHEN expires <= {_NOW} + %(soon)s * interval '1 second' THEN 'expiring' ELSE 'alive' END"
)
_KEYS_BY_STATE = (
    f"SELECT {_STATE}, count(*), count(*) FILTER (WHERE max_budget IS NOT NULL AND spend >= max_budget)"
    f" FROM {KEYS} WHERE {keys.NO_SESSION} GROUP BY 1"
)
_EXPIRING = (
    f"WITH soon AS (SELECT coalesce({_GUID}, '') AS guid, count(*) AS keys, min(expires) AS first, max(expires) AS last"
    f" FROM {KEYS} WHERE {keys.NO_SESSION} AND {_STATE} = 'expiring' GROUP BY 1),"
    " placed AS (SELECT *, row_number() OVER (ORDER BY first, guid) AS place FROM soon)"
    " SELECT CASE WHEN place <= %(top)s THEN guid END, CASE WHEN place <= %(top)s THEN place END,"
    " sum(keys)::int, min(first), max(last), count(*) FROM placed GROUP BY 1, 2 ORDER BY 2 NULLS LAST"
)
_ORDER = " ".join(f"WHEN '{state}' THEN {place}" for place, state in enumerate(KEY_STATES))
_KEY_ITEMS = (
    f"SELECT key_alias, {_GUID}, state, expires, spend, max_budget FROM (SELECT *, {_STATE} AS state FROM {KEYS}"
    f" WHERE {keys.NO_SESSION}) k"
    f" ORDER BY CASE state {_ORDER} END, expires NULLS LAST, key_alias LIMIT %(limit)s"
)
_DAILY_USAGE = (
    "SELECT date AS day, api_key, coalesce(nullif(model_group, ''), nullif(model, ''), '') AS model, spend,"
    f" api_requests AS requests FROM {DAILY} WHERE date >= %(first)s"
)
_LOGGED_USAGE = (
    "SELECT to_char(\"startTime\", 'YYYY-MM-DD') AS day, api_key,"
    " coalesce(nullif(model_group, ''), nullif(model, ''), '') AS model, spend, 1 AS requests"
    f' FROM {SPEND_LOGS} WHERE "startTime" >= %(first)s::timestamp'
)
_GUIDS = f"SELECT token, {_GUID} AS guid FROM {KEYS}"
#: A key may have been deleted and made again with the same value.
_GUIDS_OF_DELETED = (
    f" UNION ALL SELECT token, max({_GUID}) FROM {DELETED_KEYS} d"
    f" WHERE NOT EXISTS (SELECT FROM {KEYS} v WHERE v.token = d.token) GROUP BY token"
)


def _top(grouped: str) -> str:
    """The first of some groups by spend, each with its place, and one row without a name for all others."""
    return (
        f"WITH grouped AS ({grouped}),"
        " placed AS (SELECT *, row_number() OVER (ORDER BY spend DESC, name) AS place FROM grouped)"
        " SELECT CASE WHEN place <= %(top)s THEN name END, CASE WHEN place <= %(top)s THEN place END,"
        " sum(spend), sum(requests), count(*) FROM placed GROUP BY 1, 2 ORDER BY 2 NULLS LAST"
    )
