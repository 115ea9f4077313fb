# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes virtual keys that nobody needs any more, from LiteLLM and then from LiteMaaS.

:class:`Policy` is pure: which key goes, for which reason, and which protection keeps it. :class:`Cleanup` reads both
stores, asks the policy, and acts in batches. For each batch, in this order:

1. the keys are read again and judged again: one that was extended since the list was read stays;
2. their rows in LiteMaaS get a note of what is about to happen, so that a run that is killed leaves nothing unsaid;
3. LiteLLM deletes them, through its API, which also tells its replicas and keeps them in its archive;
4. they are read back, whatever LiteLLM has answered;
5. the rows of those that are really gone are revoked, and the notes go.

A later run finds the notes of one that was killed, whatever its own policies are, and revokes the rows whose key is
gone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.removal import delete_tokens
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import KeyReader, list_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.reading import read_page
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import keys as rules
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection, DatabaseError
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import removal_refused

GONE_GUIDS, INACTIVE_OWNER, REVOKED_ALIVE = "gone_guids", "inactive_owner", "revoked_alive"
EXPIRED, OLDER_THAN, ORPHANED_ROWS = "expired", "older_than", "orphaned_rows"
#: In the order in which a key's reason is looked for: what somebody said of it before its age.
POLICIES = (GONE_GUIDS, REVOKED_ALIVE, INACTIVE_OWNER, EXPIRED, OLDER_THAN, ORPHANED_ROWS)
#: Those that nothing but LiteMaaS's database can tell.
OF_LITEMAAS = (REVOKED_ALIVE, INACTIVE_OWNER, ORPHANED_ROWS)

#: Why a key stays that a policy would take.
AUTOMATION, ALIAS, MARK = "automation", "protected_alias", "protected_mark"
NO_EXPIRY, VALID, IN_GRACE, AGE_UNKNOWN = "no_expiry", "still_valid", "in_grace", "age_unknown"
NEVER_REVOKED, CHANGED = rules.NEVER_REVOKED, "changed_meanwhile"
KEPT = {
    AUTOMATION: "marked as automation's",
    ALIAS: "protected by their alias",
    MARK: "protected by a mark",
    NO_EXPIRY: "without expiry",
    VALID: "still valid",
    IN_GRACE: "expired, in their time of grace",
    AGE_UNKNOWN: "of unknown age",
    NEVER_REVOKED: "made inactive by LiteMaaS's own sync, revoked by nobody",
    CHANGED: "changed meanwhile",
}
#: In a key's metadata: it is used by automation, and goes only when it is named.
AUTOMATION_MARK = "automation"

#: Written into api_keys.sync_error.
WHY = {
    GONE_GUIDS: "Its lab is gone: key deleted from LiteLLM by rhpds.litemaas",
    REVOKED_ALIVE: "Was revoked, but worked in LiteLLM: key deleted there by rhpds.litemaas",
    INACTIVE_OWNER: "Its owner is inactive: key deleted from LiteLLM by rhpds.litemaas",
    EXPIRED: "Key expired and was deleted from LiteLLM by rhpds.litemaas",
    OLDER_THAN: "Key was too old and was deleted from LiteLLM by rhpds.litemaas",
    ORPHANED_ROWS: rules.REVOKED_REASON,
}
#: In api_keys.metadata while a row's key is being deleted: the reason.
NOTE = "rhpds_litemaas_cleanup"
#: LiteMaaS's own user of the system, who is always inactive and owns nothing that we judge.
SYSTEM_USER = "00000000-0000-0000-0000-000000000001"
#: Keys of one request. Each costs the proxy about a millisecond, and a batch must end well within any timeout: 1.106.0
#: gives each of the lookups behind it ten seconds, and a busy database may need them.
BATCH = 100
#: Keys of one request where the proxy could not do a whole batch.
PIECE = 10
REPORT_LIMIT = 100

_TABLE_COLUMNS = (*rules.KEY_TABLE_COLUMNS, "created_at", "user_id", "team_id", "metadata")
# As rules.NO_SESSION has it: the dashboard's sessions are its own business.
_SELECT = """
SELECT token, key_alias, expires AT TIME ZONE 'UTC', coalesce(blocked, false), created_at AT TIME ZONE 'UTC', user_id,
  ARRAY(SELECT metadata ->> name FROM unnest(%(marks)s::text[]) WITH ORDINALITY AS one(name, place) ORDER BY place)
FROM "LiteLLM_VerificationToken" WHERE team_id IS DISTINCT FROM 'litellm-dashboard'"""
_COUNT = """SELECT count(*) FROM "LiteLLM_VerificationToken" WHERE team_id IS DISTINCT FROM 'litellm-dashboard'"""
#: Rows that LiteLLM's API answers nothing but 500 of, seen on 1.81.14 and 1.106.0, and of every page that has one: what
#: should be an object and isn't, and moments of no year from 1 to 9999.
_UNREADABLE = """
SELECT k.token, k.key_alias, k.metadata ->> 'guid', string_agg(field.key, ', ' ORDER BY field.key),
  bool_and(field.key IN ('metadata', 'aliases', 'config', 'permissions') AND jsonb_typeof(field.value) <> 'string')
FROM "LiteLLM_VerificationToken" k, jsonb_each(to_jsonb(k)) field
WHERE field.key IN ('metadata', 'aliases', 'config', 'permissions') AND jsonb_typeof(field.value) <> 'object'
  OR field.key IN ('expires', 'created_at', 'updated_at') AND field.value #>> '{}' !~ '^[0-9]{4}-[^B]*$'
GROUP BY 1, 2, 3 ORDER BY 1 LIMIT 4"""
_INACTIVE = (
    "SELECT u.id::text FROM users u WHERE u.is_active IS FALSE AND u.id <> %(system)s::uuid"
    " UNION ALL SELECT a.key_hash FROM users u JOIN api_keys a ON a.user_id = u.id"
    " WHERE u.is_active IS FALSE AND u.id <> %(system)s::uuid"
)
#: What runs that were killed have left: the key is gone, the row isn't revoked; and notes on keys that are still there.
_NOTED = (
    "SELECT a.id::text, a.litellm_key_alias, a.metadata ->> %(note)s, a.is_active AND NOT EXISTS (SELECT FROM"
    " rhpds_keys k WHERE k.token = a.key_hash OR k.alias = a.litellm_key_alias)"
    " FROM api_keys a JOIN rhpds_seen_keys USING (id) WHERE a.metadata ->> %(note)s IS NOT NULL"
)
_WRITE_NOTE = (
    # Anything but an object would become an array.
    "UPDATE api_keys SET metadata = CASE jsonb_typeof(metadata) WHEN 'object' THEN metadata ELSE '{}' END"
    " || jsonb_build_object(%s::text, %s::text)"
    " WHERE id = ANY(%s::uuid[])"
)
_DROP_NOTE = (
    "UPDATE api_keys SET metadata = metadata - %s::text WHERE id = ANY(%s::uuid[]) AND metadata ->> %s IS NOT NULL"
)


class Key(NamedTuple):
    """What is known of a key: few bytes, as there are a hundred thousand of them."""

    token: str
    alias: str | None
    expires: datetime | None
    blocked: bool
    created: datetime | None
    user_id: str | None
    #: Values in its metadata, as texts, of the names that the policy asks for.
    marks: Sequence[str | None]

    @property
    def shown(self) -> str:
        """Its alias, or the beginning of its token."""
        return self.alias or f"{self.token[:12]}…"


@dataclass(frozen=True)
class Facts:
    """What LiteMaaS says of keys: by token, and of owners by LiteLLM's user_id.

    Attributes:
        unrevoked: keys of rows that are inactive though nobody revoked them.
    """

    revoked: AbstractSet[str] = frozenset()
    inactive: AbstractSet[str] = frozenset()
    unrevoked: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class Policy:
    """Which keys go. Pure.

    Args:
        policies: of :data:`POLICIES`.
        now: by the proxy's clock, which is the one that expires keys.
        grace: how long a key has to have been expired.
        older_than: age from which a key goes.
        include_valid: whether one goes by its age that is still inside the duration that it was granted.
        include_no_expiry: whether one goes by its age that never expires.
        gone_guids: labs that are no more.
        protected_aliases: regular expressions that match a whole alias.
        protected_marks: name in the metadata, and the value it has to have, or None for any.
        named: aliases and tokens of keys that no protection holds for.
    """

    policies: AbstractSet[str]
    now: datetime
    grace: timedelta = timedelta(days=1)
    older_than: timedelta | None = None
    include_valid: bool = False
    include_no_expiry: bool = False
    gone_guids: AbstractSet[str] = frozenset()
    protected_aliases: Sequence[re.Pattern[str]] = ()
    protected_marks: Mapping[str, str | None] = field(default_factory=dict)
    named: AbstractSet[str] = frozenset()

    @property
    def marks(self) -> list[str]:
        """Names in the metadata that are looked at, in the order of :attr:`Key.marks`."""
        return ["guid", AUTOMATION_MARK, *self.protected_marks]

    def judge(self, key: Key, facts: Facts) -> tuple[str, str]:
        """Why a key would go, and what keeps it all the same; "" for neither."""
        held = ("", "")
        for policy in POLICIES:
            if policy in self.policies:
                applies, why_not = self._applies(policy, key, facts)
                if applies and not why_not:
                    return policy, self._protection(key)
                if applies and not held[0]:
                    held = policy, why_not
        return held

    def _applies(self, policy: str, key: Key, facts: Facts) -> tuple[bool, str]:
        """Whether a policy means a key, and what of the key speaks against it."""
        if policy == GONE_GUIDS:
            return key.marks[0] is not None and key.marks[0] in self.gone_guids, ""
        if policy == REVOKED_ALIVE:
            if key.token in facts.unrevoked:
                return True, "" if self._is_named(key) else NEVER_REVOKED
            return key.token in facts.revoked, ""
        if policy == INACTIVE_OWNER:
            return key.user_id in facts.inactive or key.token in facts.inactive, ""
        named = self._is_named(key)
        if policy == EXPIRED:
            if key.expires is None or key.expires > self.now:
                return False, ""
            return True, IN_GRACE if key.expires + self.grace > self.now and not named else ""
        if policy == OLDER_THAN and self.older_than is not None:
            if key.created is None:
                return True, AGE_UNKNOWN
            if key.created + self.older_than > self.now:
                return False, ""
            if named:
                return True, ""
            if key.expires is None:
                return True, "" if self.include_no_expiry else NO_EXPIRY
            return True, VALID if key.expires > self.now and not self.include_valid else ""
        return False, ""

    def _is_named(self, key: Key) -> bool:
        return key.token in self.named or (key.alias is not None and key.alias in self.named)

    def _protection(self, key: Key) -> str:
        if self._is_named(key):
            return ""
        if str(key.marks[1] or "").lower() not in ("", "false", "no", "0", "none"):
            return AUTOMATION
        if key.alias is not None and any(pattern.fullmatch(key.alias) for pattern in self.protected_aliases):
            return ALIAS
        for value, wanted in zip(key.marks[2:], self.protected_marks.values(), strict=True):
            if value is not None and (wanted is None or value == wanted):
                return MARK
        return ""


def policy_from_options(options: Mapping[str, Any], now: datetime) -> Policy:
    """The policy that a module's options describe.

    Raises:
        ValueError: an option that can't be acted on; nothing was read.
    """
    policies = frozenset(options["policies"])
    if not policies:
        raise ValueError("policies is empty: nothing was looked for")
    for option, policy in (("older_than", OLDER_THAN), ("gone_guids", GONE_GUIDS)):
        if options[option] and policy not in policies:
            raise ValueError(f"{option} is given, but policies doesn't have {policy}: add it, or leave {option} out")
        if policy in policies and not options[option]:
            raise ValueError(f"policies has {policy}, but {option} is not set: which ones would that be?")
    if any(not guid.strip() or guid != guid.strip() for guid in options["gone_guids"]):
        raise ValueError("gone_guids has one that is empty, or begins or ends with white space: nothing was looked for")
    marks: dict[str, str | None] = {}
    for mark in options["protected_marks"]:
        name, equals, value = mark.partition("=")
        if not name:
            raise ValueError(f"protected_marks: {mark!r} names nothing: write name, or name=value")
        marks[name] = value if equals else None
    patterns = []
    for pattern in options["protected_aliases"]:
        try:
            patterns.append(re.compile(pattern))
        except re.error as failure:
            raise ValueError(f"protected_aliases: {pattern!r} is not a regular expression: {failure}") from None
    return Policy(
        policies=policies,
        now=now,
        grace=duration("grace", options["grace"]),
        older_than=duration("older_than", options["older_than"]) if options["older_than"] else None,
        include_valid=options["include_valid"],
        include_no_expiry=options["include_no_expiry"],
        gone_guids=frozenset(options["gone_guids"]),
        protected_aliases=patterns,
        protected_marks=marks,
        named=frozenset(options["named"]),
    )


def duration(option: str, text: str) -> timedelta:
    """A duration, ``0`` among them; a number alone is days. Raises ValueError."""
    value = str(text).strip()
    if re.fullmatch(r"0[smhdw]?", value):
        return timedelta()
    try:
        return timedelta(seconds=durations.seconds(f"{value}d" if value.isdigit() else value))
    except ValueError as failure:
        raise ValueError(f"{option}: {failure}") from None


# ---- reading ----


class Store(Protocol):
    """LiteLLM's keys, wherever they are read."""

    source: str

    def all(self) -> list[Key]:
        """Every key, or an exception."""

    def some(self, keys: Sequence[Key], more: Sequence[str] = ()) -> list[Key]:
        """Those of the keys, and of more tokens, that there still are."""


class ApiStore:
    """Through ``/key/list``."""

    source = "api"

    def __init__(self, client: LiteLLMClient, marks: Sequence[str], workers: int) -> None:
        self._client, self._marks, self._workers = client, marks, workers
        self._reader = KeyReader(client, 1)

    def all(self) -> list[Key]:
        found: dict[str, Key] = {}

        def keep(row: Mapping[str, Any]) -> bool:
            # Whole rows of a hundred thousand keys would be half a gigabyte.
            found[str(row["token"])] = self.key(row)
            return False

        list_keys(self._client, workers=self._workers, keep=keep)
        return list(found.values())

    def some(self, keys: Sequence[Key], more: Sequence[str] = ()) -> list[Key]:
        aliases = {key.token: key.alias for key in keys if key.alias}
        rows = self._reader.by_token([*(key.token for key in keys), *more], aliases)
        return [self.key(row) for row in rows]

    def key(self, row: Mapping[str, Any]) -> Key:
        """A row of the list, as short as it may be."""
        metadata = row.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        return Key(
            str(row["token"]),
            row.get("key_alias") or None,
            _moment(row.get("expires")),
            bool(row.get("blocked")),
            _moment(row.get("created_at")),
            row.get("user_id") or None,
            [_text(metadata.get(name)) for name in self._marks],
        )


class TableStore:
    """In LiteLLM's own table: a hundred thousand keys in a second instead of minutes."""

    def __init__(self, connection: Connection, marks: Sequence[str], source: str, lock: Any) -> None:
        self._connection, self._marks, self.source, self._lock = connection, list(marks), source, lock

    def all(self) -> list[Key]:
        return self._read("", {})

    def some(self, keys: Sequence[Key], more: Sequence[str] = ()) -> list[Key]:
        return self._read(" AND token = ANY(%(tokens)s)", {"tokens": [*(key.token for key in keys), *more]})

    def count(self) -> int:
        with self._lock, self._connection.transaction("Count LiteLLM's keys", read_only=True) as cursor:
            cursor.execute(_COUNT)
            return int(cursor.fetchone()[0])

    def _read(self, where: str, given: Mapping[str, Any]) -> list[Key]:
        with self._lock, self._connection.transaction("Read LiteLLM's keys", read_only=True) as cursor:
            cursor.execute(_SELECT + where, {**given, "marks": self._marks})
            return [Key(*row) for row in cursor]


def _moment(value: Any) -> datetime | None:
    try:
        return durations.moment(value) if value else None
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str | None:
    """As PostgreSQL's ``->>`` gives it, for what marks are made of."""
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- one run ----


@dataclass
class Options:
    """How a run goes about it. See the module's documentation."""

    max_percent: int = 20
    allow_mass_cleanup: bool = False
    report_limit: int = REPORT_LIMIT
    workers: int = 4
    lock_timeout: float = 30
    statement_timeout: float = 300


@dataclass
class Doomed:
    """A key that is to go, and LiteMaaS's rows of it: id, whether active."""

    key: Key
    reason: str
    rows: list[tuple[str, bool]] = field(default_factory=list)
    #: Whether it is known what became of it.
    settled: bool = False


@dataclass
class Tally:
    """Counts that are always whole, and names as far as they are listed."""

    limit: int
    counts: dict[str, int] = field(default_factory=dict)
    items: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        listed = self.items.setdefault(reason, [])
        if len(listed) < self.limit:
            listed.append(name)

    def total(self) -> int:
        return sum(self.counts.values())

    def shown(self) -> dict[str, dict[str, Any]]:
        return {reason: {"count": count, "items": sorted(self.items[reason])} for reason, count in self.counts.items()}


class Cleanup:
    """One run.

    Args:
        client: LiteLLM's API, which is what deletes.
        policy: what goes.
        litemaas: LiteMaaS's database, or None: its part is left out then.
        litellm: LiteLLM's own database, where it isn't LiteMaaS's and may be read.
        warn: hears what a person should know though nothing failed.
    """

    def __init__(
        self,
        client: LiteLLMClient,
        policy: Callable[[datetime], Policy],
        options: Options,
        litemaas: Connection | None = None,
        litellm: Connection | None = None,
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._client, self._options, self._warn = client, options, warn
        self._litemaas, self._litellm = litemaas, litellm
        self._make_policy = policy
        # One connection is one conversation, whoever of the threads speaks.
        self._lock = threading.RLock()
        self._total = self._active = 0
        self._doomed: list[Doomed] = []
        self._orphans: list[tuple[str, str]] = []
        #: Rows that a killed run left: id, alias, reason, whether the key is gone.
        self._noted: list[tuple[str, str, str, bool]] = []
        self._facts = Facts()
        limit = options.report_limit
        self._going, self._kept = Tally(limit), Tally(limit)
        self._deleted, self._revoked, self._failures = Tally(limit), Tally(limit), Tally(limit)
        self._refusals: list[str] = []
        #: Keys that somebody else has deleted since they were listed.
        self._vanished = 0
        self._stopped = ""

    def run(self, check_mode: bool = False) -> dict[str, Any]:
        """Read, judge, act; what the module exits with.

        Raises:
            LiteLLMError, DatabaseError: something couldn't be read, so nothing was done.
        """
        try:
            newest = read_page(self._client, 1, {"sort_by": "created_at", "sort_order": "desc"})
            self._policy = self._make_policy(self._client.server_now())
            self._store = self._find_store(newest)
            if self._litemaas is None:
                self._judge(self._store.all())
            else:
                self._compare(self._litemaas)
        except (LiteLLMError, DatabaseError, ValueError) as failure:
            self._name_unreadable(failure)
            raise
        self._guard()
        if not check_mode and not self._refusals:
            self._act()
        return self._result(check_mode)

    # ---- reading ----

    def _find_store(self, newest: Mapping[str, Any]) -> Store:
        """LiteLLM's table where it can be read and is this proxy's, else its API."""
        api = ApiStore(self._client, self._policy.marks, self._options.workers)
        connection, source = self._litellm, "litellm_dsn"
        if connection is None and self._litemaas is not None:
            with self._litemaas.transaction("Look for LiteLLM's tables", read_only=True) as cursor:
                there = self._litemaas.columns(cursor, (rules.KEY_TABLE,))[rules.KEY_TABLE]
            if set(_TABLE_COLUMNS) <= set(there):
                connection, source = self._litemaas, "shared database"
        if connection is None:
            return api
        if self._litellm is not None:
            with connection.transaction("Read LiteLLM's keys", read_only=True) as cursor:
                connection.require(cursor, {rules.KEY_TABLE: _TABLE_COLUMNS}, "Read LiteLLM's keys", "LiteLLM")
        table = TableStore(connection, self._policy.marks, source, self._lock)
        trouble = self._not_this_proxys(table, api, [api.key(row) for row in newest["keys"]])
        if not trouble:
            return table
        if self._litellm is None:
            # Left behind when LiteLLM moved to a database of its own.
            self._warn(
                f"LiteMaaS's database holds a table of LiteLLM's keys that is not this proxy's: {trouble}. Keys"
                " are read through the API. Give litellm_dsn."
            )
            return api
        raise DatabaseError(
            f"Read LiteLLM's keys in {connection.target}",
            trouble,
            "Check that litellm_dsn is the database of the proxy at litellm_url. Nothing was done",
        )

    def _name_unreadable(self, failure: Exception) -> None:
        """Raise an error that names the rows at fault, where there are such and a database to find them in."""
        asked = isinstance(failure, LiteLLMError)
        if asked and (getattr(failure, "status", None) or 0) < 500:
            return
        connection = self._litellm or self._litemaas
        rows: list[Any] = []
        if connection is not None:
            try:
                with connection.transaction("Look for rows that LiteLLM can't read", read_only=True) as cursor:
                    if connection.columns(cursor, (rules.KEY_TABLE,))[rules.KEY_TABLE]:
                        cursor.execute(_UNREADABLE)
                        rows = cursor.fetchall()
            except DatabaseError:
                # What failed first says more.
                return
        elif asked:
            raise DatabaseError(
                str(failure), "nothing was deleted", "Where a row of LiteLLM's table is at fault, litellm_dsn names it"
            ) from None
        if not rows:
            return
        named = [
            f"{alias or 'without an alias'} ({what}; token {token}{f', guid {guid}' if guid else ''})"
            for token, alias, guid, what, _objects in rows[:3]
        ]
        more = " and others" if len(rows) > 3 else ""
        ways = "rhpds.litemaas.litellm_virtual_key_rows with the token in tokens, only_tokens: true and its guid (any,"
        ways += " where it has none) archives and deletes such a key"
        if any(objects for *_names, objects in rows[:3]):
            ways += "; POST /key/update with the token as key, and {} for what is no date, keeps it"
        raise DatabaseError(
            "Read LiteLLM's keys",
            f"LiteLLM can't read {', '.join(named)}{more}, nor any list that has it: {failure}",
            f"Nothing was deleted. {ways}",
        ) from None

    def _not_this_proxys(self, table: TableStore, api: ApiStore, newest: Sequence[Key]) -> str:
        """Why a table isn't, or may not be, the one that the proxy works with; "" where it is."""
        if not newest:
            return f"it holds {table.count()} keys, and the proxy lists none" if table.count() else ""
        there = {key.token for key in table.some(newest)}
        missing = [key for key in newest if key.token not in there]
        # What was deleted in between is missing in both.
        missing = api.some(missing) if missing else []
        return f"it lacks {missing[0].shown}, which the proxy has" if missing else ""

    def _compare(self, litemaas: Connection) -> None:
        """Judge with what LiteMaaS says, and find the rows of what is to go."""
        options = self._options
        policies = self._policy.policies
        with (
            self._lock,
            litemaas.transaction(
                "Compare LiteMaaS's keys",
                lock_timeout=options.lock_timeout,
                statement_timeout=options.statement_timeout,
            ) as cursor,
        ):
            tables: dict[str, Sequence[str]] = {"api_keys": (*rules.TABLES["api_keys"], "metadata")}
            tables["users"] = ("id", "is_active")
            litemaas.require(cursor, tables, "Compare keys", "LiteMaaS")
            cursor.execute(rules.SEEN)
            cursor.execute("SELECT count(*) FROM api_keys WHERE is_active")
            self._active = cursor.fetchone()[0]
            # The transaction stays open: what it has noted is older than what is read now.
            keys = self._read_beside(cursor)
            cursor.execute(rules.LIVING)
            rules.load(cursor, ((key.token, key.alias, _iso(key.expires), key.blocked) for key in keys))
            rules.index(cursor)
            inactive: set[str] = set()
            alive = rules.alive_revoked(cursor) if REVOKED_ALIVE in policies else []
            revoked = {one.token for one in alive if one.token and not one.held}
            unrevoked = {one.token for one in alive if one.token and one.held == NEVER_REVOKED}
            if INACTIVE_OWNER in policies:
                cursor.execute(_INACTIVE, {"system": SYSTEM_USER})
                inactive = {one for (one,) in cursor}
            self._facts = Facts(revoked, inactive, unrevoked)
            self._judge(keys)
            rules.doom(cursor, (one.key.token for one in self._doomed))
            cursor.execute(rules.ROWS_OF_KEYS)
            by_token = {one.key.token: one for one in self._doomed}
            for token, row, active in cursor.fetchall():
                if active or by_token[token].reason == REVOKED_ALIVE:
                    by_token[token].rows.append((row, active))
            self._find_orphans(cursor, bool(keys))

    def _read_beside(self, cursor: Any) -> list[Key]:
        if self._store.source != "shared database":
            return self._store.all()
        # The same connection, in whose transaction we are.
        cursor.execute(_SELECT, {"marks": self._policy.marks})
        return [Key(*row) for row in cursor]

    def _find_orphans(self, cursor: Any, any_key: bool) -> None:
        cursor.execute(_NOTED, {"note": NOTE})
        doomed = {row for one in self._doomed for row, _active in one.rows}
        noted = [row for row in cursor.fetchall() if row[0] not in doomed]
        cursor.execute(rules.ORPHANED)
        orphans = [(str(row[0]), row[1]) for row in cursor]
        if not any_key:
            if orphans and ORPHANED_ROWS in self._policy.policies:
                self._refusals.append("LiteLLM's list of keys came back empty. An empty answer never revokes anything")
            return
        self._noted = [(row, alias or row, reason, bool(gone)) for row, alias, reason, gone in noted]
        known = {row for row, _alias, _reason, gone in self._noted if gone}
        if ORPHANED_ROWS in self._policy.policies:
            self._orphans = [one for one in orphans if one[0] not in known]

    def _judge(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._total += 1
            reason, kept = self._policy.judge(key, self._facts)
            if kept:
                self._kept.add(kept, key.shown)
            elif reason:
                self._going.add(reason, key.shown)
                self._doomed.append(Doomed(key, reason))

    def _guard(self) -> None:
        options = self._options
        if options.allow_mass_cleanup:
            return
        shares = (
            (len(self._doomed), self._total, "keys of LiteLLM"),
            (len(self._orphans), self._active, "active rows of LiteMaaS"),
        )
        for going, total, what in shares:
            share = removal_refused(going, total, options.max_percent)
            if share:
                self._refusals.append(
                    f"{what}: {share}. Look at the report; if that is right, set allow_mass_cleanup: true"
                    " (with the playbook cleanup_allow_mass_cleanup=true)"
                )

    # ---- acting ----

    def _act(self) -> None:
        self._finish_noted()
        batches = [self._doomed[start : start + BATCH] for start in range(0, len(self._doomed), BATCH)]
        self._client.map(self._batch, batches, self._options.workers)
        if self._orphans and not self._stopped:
            ids = [row for row, _alias in self._orphans]
            gone = set(self._revoke(rules.REVOKE, ORPHANED_ROWS, ids))
            for row, alias in self._orphans:
                if row in gone:
                    self._revoked.add(ORPHANED_ROWS, alias)

    def _finish_noted(self) -> None:
        """What a killed run began: revoke the rows whose key is gone, forget the notes on the others."""
        by_reason: dict[str, list[str]] = {}
        for row, alias, reason, gone in self._noted:
            known = reason if reason in WHY else EXPIRED
            if gone:
                by_reason.setdefault(known, []).append(row)
                self._revoked.add(known, alias)
        for reason, rows in by_reason.items():
            self._revoke(rules.REVOKE, reason, rows)
        self._forget([row for row, _alias, _reason, gone in self._noted if not gone])

    def _batch(self, batch: Sequence[Doomed]) -> None:
        if self._stopped:
            return
        try:
            trouble = self._delete(batch, last=len(batch) <= PIECE)
            pieces = [batch[at : at + PIECE] for at in range(0, len(batch), PIECE)] if trouble else []
            for piece in pieces:
                if not self._stopped:
                    self._delete(piece, last=True)
        except (LiteLLMError, DatabaseError) as failure:
            self._stop(str(failure))

    def _stop(self, why: str) -> None:
        with self._lock:
            self._stopped = self._stopped or why

    def _delete(self, batch: Sequence[Doomed], *, last: bool) -> bool:
        """Delete keys that are still as they were judged.

        Args:
            last: what can't be deleted has failed.

        Returns:
            whether some of it shall be tried again.
        """
        batch = [one for one in batch if not one.settled]
        left = {key.token: key for key in self._store.some([one.key for one in batch])}
        going = []
        for one in batch:
            now = left.get(one.key.token)
            if now is not None and self._policy.judge(now, self._facts) == (one.reason, ""):
                going.append(one)
            elif now is not None:
                one.settled = True
                with self._lock:
                    self._kept.add(CHANGED, one.key.shown)
        # Somebody else has deleted it: only its rows are left.
        gone = [one for one in batch if one.key.token not in left]
        with self._lock:
            self._vanished += len(gone)
        for reason in dict.fromkeys(one.reason for one in going):
            self._note(reason, [row for one in going if one.reason == reason for row, _active in one.rows])
        alive, said, hopeless = set[str](), "", False
        if going:
            chosen = [one.key for one in going]
            alive, failure = delete_tokens(
                self._client,
                [key.token for key in chosen],
                lambda _these: (key.token for key in self._store.some(chosen)),
            )
            if failure is not None:
                said = failure.sentence()
                # What is not there, or doesn't let us in, won't do less of it either.
                hopeless = failure.status != 500
        dead = [one for one in going if one.key.token not in alive]
        again = bool(said and alive) and not last and not hopeless
        for one in dead + gone:
            one.settled = True
        with self._lock:
            for one in dead:
                self._deleted.add(one.reason, one.key.shown)
            for one in going:
                if one.key.token in alive and not again:
                    one.settled = True
                    self._failures.add(
                        said or "LiteLLM answered that it was deleted, but it is still there", one.key.shown
                    )
        for reason in dict.fromkeys(one.reason for one in dead + gone):
            ended = [one for one in dead + gone if one.reason == reason]
            rows = [row for one in ended for row, _active in one.rows]
            statement = rules.FINISH if reason == REVOKED_ALIVE else rules.REVOKE
            revoked = set(self._revoke(statement, reason, rows))
            with self._lock:
                for one in ended:
                    for row, _active in one.rows:
                        if row in revoked:
                            self._revoked.add(reason, one.key.shown)
        self._forget([row for one in going if one.key.token in alive for row, _active in one.rows])
        if said and alive and not again:
            self._stop(said)
        return again

    def _note(self, reason: str, rows: Sequence[str]) -> None:
        if rows:
            with self._writing("Note which rows are to be revoked") as cursor:
                cursor.execute(_WRITE_NOTE, (NOTE, reason, list(rows)))

    def _forget(self, rows: Sequence[str]) -> None:
        if rows:
            with self._writing("Forget notes") as cursor:
                cursor.execute(_DROP_NOTE, (NOTE, list(rows), NOTE))

    def _revoke(self, statement: str, reason: str, rows: Sequence[str]) -> list[str]:
        """The rows that this has revoked."""
        if not rows:
            return []
        with self._writing("Revoke rows") as cursor:
            cursor.execute(statement, (WHY[reason], list(rows)))
            revoked = [row for (row,) in cursor.fetchall()]
            cursor.execute(_DROP_NOTE, (NOTE, list(rows), NOTE))
        return revoked

    @contextmanager
    def _writing(self, attempt: str) -> Iterator[Any]:
        """A transaction in LiteMaaS's database, one thread at a time."""
        options = self._options
        if self._litemaas is None:
            raise ValueError("rows are written where there is no LiteMaaS")
        with (
            self._lock,
            self._litemaas.transaction(
                attempt, lock_timeout=options.lock_timeout, statement_timeout=options.statement_timeout
            ) as cursor,
        ):
            yield cursor

    # ---- what is said ----

    def _result(self, check_mode: bool) -> dict[str, Any]:
        done = not check_mode and not self._refusals
        deleted = self._deleted if done else self._going
        revoked = self._revoked if done else self._foreseen()
        # What was not tried any more.
        tried = self._deleted.total() + self._failures.total() + self._kept.counts.get(CHANGED, 0) + self._vanished
        untried = self._going.total() - tried if done else 0
        changed = not self._refusals and bool(deleted.total() or revoked.total())
        summary = {
            "total": self._total,
            "deleted": 0 if self._refusals else deleted.total(),
            "revoked": 0 if self._refusals else revoked.total(),
            "kept": self._kept.total(),
            "failed": self._failures.total() + untried,
        }
        report: dict[str, Any] = {
            "key_source": self._store.source,
            "litemaas": self._litemaas is not None,
            "going": self._going.shown(),
            "orphaned_rows": _bounded(sorted(alias for _row, alias in self._orphans), self._options.report_limit),
            "kept": self._kept.shown(),
            "deleted": self._deleted.shown() if done else {},
            "revoked": revoked.shown() if done else {},
            "failed": self._failures.shown(),
        }
        listed = sorted(name for names in deleted.items.values() for name in names) if changed else []
        return {
            "changed": changed,
            "failed": bool(self._refusals or self._stopped or self._failures.total()),
            "msg": self._line(check_mode, deleted, revoked, untried),
            "summary": summary,
            "report": report,
            "diff": {"before": "".join(f"{name}\n" for name in listed), "after": ""},
        }

    def _foreseen(self) -> Tally:
        found = Tally(self._options.report_limit)
        for one in self._doomed:
            for _row in one.rows:
                found.add(one.reason, one.key.shown)
        for orphan in self._orphans:
            found.add(ORPHANED_ROWS, orphan[1])
        for _id, alias, reason, gone in self._noted:
            if gone:
                found.add(reason, alias)
        return found

    def _line(self, check_mode: bool, deleted: Tally, revoked: Tally, untried: int) -> str:
        would = check_mode or self._refusals
        said = f"{deleted.total()} of {self._total} keys {'to delete' if would else 'deleted'}{_by_reason(deleted)}"
        parts = [said if deleted.total() else f"no key of {self._total} to delete"]
        if self._litemaas is None:
            parts.append("LiteMaaS's rows left out, as its database is not given")
        elif revoked.total():
            orphans = revoked.counts.get(ORPHANED_ROWS, 0)
            more = f" ({orphans} orphaned)" if orphans else ""
            parts.append(f"{revoked.total()} rows of LiteMaaS {'to revoke' if would else 'revoked'}{more}")
        if self._kept.counts:
            parts.append("kept: " + ", ".join(f"{count} {KEPT[why]}" for why, count in self._kept.counts.items()))
        text = "; ".join(parts)
        if self._refusals:
            return f"Nothing was deleted: {'; '.join(self._refusals)}. It would be: {text}"
        trouble = [
            f"{count} failed ({', '.join(self._failures.items[why][:3])}): {why}"
            for why, count in self._failures.counts.items()
        ]
        if self._stopped and self._stopped not in self._failures.counts:
            trouble.append(f"stopped: {self._stopped}")
        if untried:
            trouble.append(f"{untried} not tried any more. Run it again: it goes on where this one ended")
        return f"{text}. {'; '.join(trouble)}" if trouble else text


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _bounded(items: Sequence[str], limit: int) -> dict[str, Any]:
    return {"count": len(items), "items": list(items[:limit])}


_WORDS = {
    GONE_GUIDS: "of labs that are gone",
    REVOKED_ALIVE: "revoked in LiteMaaS",
    INACTIVE_OWNER: "of inactive owners",
    EXPIRED: "expired",
    OLDER_THAN: "too old",
    ORPHANED_ROWS: "orphaned",
}


def _by_reason(tally: Tally) -> str:
    said = [f"{count} {_WORDS[reason]}" for reason, count in tally.counts.items()]
    return f" ({', '.join(said)})" if said else ""
