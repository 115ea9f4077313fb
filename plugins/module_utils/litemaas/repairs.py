# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a diff of the catalogue can't mend: subscriptions, keys that live on, twins among LiteLLM's deployments.

Called by :mod:`sync` inside its transaction, once rows are in line with LiteLLM. Everything is reported; what is asked
for is repaired. What is deleted in LiteLLM can't be rolled back, so it comes last and is read back.

How the LiteMaaS backend's own sync is told from a person: it makes subscriptions of a model that is gone inactive, and
writes neither a reason nor a row of history. A person's change through LiteMaaS leaves both. So a subscription that is
inactive though the last that its history knows is active, or that has no history at all, was made so by the backend;
unless the audit log's last word on it is something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ansible_collections.rhpds.litemaas.plugins.module_utils import ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import keys as rules

STUCK_SUBSCRIPTIONS = "stuck_subscriptions"
REVOKED_KEYS_ALIVE = "revoked_keys_alive"
UNAVAILABLE_SUBSCRIPTIONS = "unavailable_subscriptions"
DUPLICATES = "duplicates"
NAMES = (STUCK_SUBSCRIPTIONS, REVOKED_KEYS_ALIVE, UNAVAILABLE_SUBSCRIPTIONS, DUPLICATES)

#: What is read or written beside what every sync needs.
TABLES: Mapping[str, Sequence[str]] = {
    "users": ("id", "is_active"),
    "subscriptions": (
        "user_id",
        "status_reason",
        "status_changed_at",
        "status_changed_by",
        "expires_at",
        "updated_at",
    ),
    "subscription_status_history": ("subscription_id", "old_status", "new_status", "reason", "changed_at"),
    "api_key_models": ("api_key_id", "model_id"),
    "api_keys": ("expires_at",),
    "audit_logs": ("action", "resource_type", "resource_id", "metadata", "success", "created_at"),
}

#: Reasons that we write; the first one is how we know our own work again.
UNAVAILABLE_REASON = "Model unavailable - made inactive by rhpds.litemaas"
RESTORED_REASON = "Model available again - restored by rhpds.litemaas"
DELETED_REASON = "Inactive in LiteMaaS - deleted in LiteLLM by rhpds.litemaas"
#: Actions of the audit log after which a subscription, or a key, is active.
_HARMLESS = re.compile(r"CREAT|(?<!DE)ACTIVAT|APPROV|RESTOR|QUOTA|BUDGET|LIMIT", re.IGNORECASE)
#: A status that was changed this much later than its last row of history was changed past the history.
_SLACK = timedelta(seconds=5)


class Book(Protocol):
    """Where what was found and done is written down."""

    def entry(self, name: str, action: str, changes: list[dict[str, Any]], msg: str, **more: Any) -> None:
        """Something that was done, held back (``blocked``) or that failed (``fail``)."""

    def found(self, part: str, items: list[Any], **more: int) -> None:
        """A part of the report, with further numbers."""

    def refuse(self, text: str) -> None:
        """Why a whole repair was not done."""

    def too_many(self, removals: int, total: int, part: str) -> str | None:
        """Why so much may not be taken away at once, or None."""


class Acting(Protocol):
    """What is done in LiteLLM."""

    def delete_keys(self, keys: Mapping[str, str | None]) -> dict[str, str]:
        """Delete keys, given as token -> alias; those that are still there, with the reason. Raises LiteLLMError."""

    def deployments(self) -> set[str]:
        """Ids of all deployments. Raises LiteLLMError."""

    def delete_deployments(self, ids: Sequence[str]) -> dict[str, str]:
        """Delete deployments; those that are still there, with the reason. Raises LiteLLMError."""


def missing_tables(there: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What of :data:`TABLES` a database doesn't have."""
    return [
        f"{table}.{column}" for table, columns in TABLES.items() for column in columns if column not in there[table]
    ]


# ---- twins ----


@dataclass
class Twins:
    """Deployments of one name that are the same in everything that LiteLLM shows.

    Attributes:
        keep: id of the one that stays: one that litellm_model has declared, else the oldest.
        ids: ids of the others, in the order in which they were made.
        proven: whether they have no secret that could differ.
    """

    name: str
    keep: str
    ids: list[str]
    proven: bool

    def shown(self) -> dict[str, Any]:
        """For the report."""
        return {"name": self.name, "keep": self.keep, "ids": self.ids}


#: What differs between two deployments though they are the same.
_INDIVIDUAL = frozenset({"id", "created_at", "updated_at", "created_by", "updated_by"})
#: What LiteLLM adds to ``model_info`` once a deployment has been called, by its own table of known models.
_FILLED_IN = frozenset({"key", "litellm_provider", "supported_openai_params"})


def find_twins(
    entries: Iterable[Mapping[str, Any]],
    stored: Mapping[str, Iterable[str]] | None = None,
    made: Mapping[str, Any] | None = None,
) -> list[Twins]:
    """Twins among ``/model/info``'s entries.

    A deployment that carries our mark was declared, and is never one of those that go: a list may want two that are the
    same. What LiteLLM doesn't show, such as ``api_key``, may differ: two accounts at one provider are legitimate load
    balancing. So twins are only proven where the table has no parameter that the answer leaves out or masks.

    Args:
        stored: deployment id -> names of its parameters in LiteLLM's table, where that can be read.
        made: deployment id -> when it was made, as far as known.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        name, info = entry.get("model_name"), entry.get("model_info")
        if not isinstance(name, str) or not isinstance(info, Mapping) or info.get("db_model") is not True:
            continue
        if info.get(ownership.REPLACEMENT_OF) or not info.get("id"):
            continue
        shown = json.dumps([name, entry.get("litellm_params"), _said(info)], sort_keys=True, default=str)
        groups.setdefault(shown, []).append(entry)
    found = []
    for same in groups.values():
        declared = [entry for entry in same if ownership.is_ours(entry["model_info"])]
        blind = [entry for entry in same if not ownership.is_ours(entry["model_info"])]
        blind.sort(key=lambda entry: str((made or {}).get(entry["model_info"]["id"], "")))
        keep = (declared or blind)[0]
        going = [entry for entry in blind if entry is not keep]
        if not going:
            continue
        proven = stored is not None and all(_shows_all(entry, stored) for entry in (keep, *going))
        ids = [str(entry["model_info"]["id"]) for entry in going]
        found.append(Twins(str(keep["model_name"]), str(keep["model_info"]["id"]), ids, proven))
    return sorted(found, key=lambda twins: (twins.name, twins.keep))


def _said(info: Mapping[str, Any]) -> dict[str, Any]:
    """A ``model_info`` without what is the deployment's own, our mark (a declared one may have blind twins), nulls."""
    left_out = _INDIVIDUAL | _FILLED_IN | ownership.KEPT
    return {name: value for name, value in info.items() if value is not None and name not in left_out}


def _shows_all(entry: Mapping[str, Any], stored: Mapping[str, Iterable[str]]) -> bool:
    names = stored.get(str(entry["model_info"]["id"]))
    shown = {name for name, value in (entry.get("litellm_params") or {}).items() if "****" not in str(value)}
    return names is not None and set(names) <= shown


#: Said of twins that stay.
UNPROVEN_TWINS = (
    "its deployments look the same, but have an api_key or the like that can't be compared: all kept. If they are"
    " copies, name it in duplicate_models (with the playbook sync_duplicate_models)"
)


def twins_to_go(twins: Iterable[Twins], named: Sequence[str]) -> list[Twins]:
    """Those that a repair removes: proven, or of a model that the operator has named."""
    return [one for one in twins if one.proven or one.name in named]


# ---- divergence ----

#: Parts of a report that mean that the stores differ, with the number in the part that counts. What no repair takes
#: is no such part: it would differ for ever.
_DIVERGENT = {
    "only_in_litellm": "count",
    "only_in_litemaas": "available",
    "differing": "drifted",
    "identical_twins": "count",
    "orphaned_keys": "count",
    "alive_revoked_keys": "repairable",
    "stuck_subscriptions": "count",
    "stuck_keys": "count",
    "active_on_unavailable": "count",
}


def divergences(report: Mapping[str, Any]) -> dict[str, int]:
    """Part of a report -> number of things that are not as they should be; {} where the stores are in line."""
    counts = {part: int((report.get(part) or {}).get(number, 0)) for part, number in _DIVERGENT.items()}
    return {part: count for part, count in counts.items() if count}


#: The repair of a part; those without one are put right by every sync.
_REPAIR_OF = {
    "only_in_litemaas": "orphaned_models",
    "identical_twins": DUPLICATES,
    "orphaned_keys": "orphaned_keys",
    "alive_revoked_keys": REVOKED_KEYS_ALIVE,
    "stuck_subscriptions": STUCK_SUBSCRIPTIONS,
    "stuck_keys": STUCK_SUBSCRIPTIONS,
    "active_on_unavailable": UNAVAILABLE_SUBSCRIPTIONS,
}
#: Names that a sentence holds at most.
_NAMES = 3


def listed(names: Sequence[str], count: int | None = None) -> str:
    """Some names, and how many more there are."""
    more = (len(names) if count is None else count) - len(names[:_NAMES])
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def advice(report: Mapping[str, Any]) -> list[str]:
    """How what differs is put right, in the words of sync_databases, and what a person has to decide first."""
    counts = divergences(report)
    kept = report.get("blocked_by_subscriptions") or {"count": 0, "items": []}
    if counts.get("only_in_litemaas", 0) <= kept["count"]:
        counts.pop("only_in_litemaas", None)
    wanted = dict.fromkeys(_REPAIR_OF[part] for part in counts if part in _REPAIR_OF)
    said = []
    if counts:
        said.append("sync_databases puts it right" + (f", with sync_repair={','.join(wanted)}" if wanted else ""))
    if kept["count"]:
        names = [f"{one['name']} ({one['active_subscriptions']})" for one in kept["items"]]
        said.append(
            f"Kept for active subscriptions: {listed(names, kept['count'])}. Bring the model back in LiteLLM, or let"
            " users move first, or add sync_repair=orphaned_models and sync_allow_active_subscriptions=true"
        )
    return said


# ---- subscriptions ----


@dataclass(frozen=True)
class Subscription:
    """An inactive one, and what is known of how it became so."""

    id: str
    user_id: str
    model: str
    available: bool
    owner_active: bool
    expired: bool
    reason: str | None
    changed_by: str | None
    changed_at: datetime | None
    last_status: str | None
    last_reason: str | None
    last_at: datetime | None
    last_action: str | None

    def shown(self, **more: Any) -> dict[str, Any]:
        """For the report."""
        return {"id": self.id, "model": self.model, "user_id": self.user_id, **more}


RESTORE, WAIT, LEAVE = "restore", "wait", "leave"


def judge(one: Subscription) -> tuple[str, str]:
    """What is to become of an inactive subscription, and why it isn't restored.

    Returns:
        RESTORE or WAIT (its model isn't available) where the backend's sync, or our own repair, made it inactive; LEAVE
        with "" where a person did, with a reason where that isn't certain.
    """
    ours = one.last_status == "inactive" and one.last_reason == one.reason == UNAVAILABLE_REASON
    if not ours:
        if one.last_status not in (None, "active"):
            return LEAVE, ""
        if one.last_status is None and (one.reason or one.changed_by):
            return LEAVE, "it has a reason or an author, but no history"
        if one.last_at and one.changed_at and one.changed_at > one.last_at + _SLACK:
            return LEAVE, "its status was changed after its last row of history"
        if one.last_action and not _HARMLESS.search(one.last_action):
            return LEAVE, f"the audit log's last word on it is {one.last_action}"
    if one.expired:
        return LEAVE, ""
    if not one.owner_active:
        return LEAVE, "its owner is inactive"
    return (RESTORE if one.available else WAIT), ""


@dataclass
class Repairs:
    """One run's repairs.

    Attributes:
        wanted: names out of :data:`NAMES`.
        alive: what :func:`keys.alive_revoked` has found.
        keys: whether ``rhpds_keys`` holds LiteLLM's keys.
        poor: why LiteLLM's answer is no ground for taking anything away, or None.
    """

    cursor: Any
    book: Book
    wanted: Sequence[str]
    keys: bool
    poor: str | None
    check_mode: bool
    acting: Acting | None = None
    alive: Sequence[rules.Alive] = ()
    #: Owner and model of subscriptions that wait for their model, and of those that can be restored.
    _waiting: set[tuple[str, str]] = field(default_factory=set)
    _stuck_pairs: set[tuple[str, str]] = field(default_factory=set)
    #: Keys that this run has made active again.
    _restored: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Look, report, and repair what is wanted. Raises psycopg2's errors."""
        # What the catalogue's statements want hurts here.
        self.cursor.execute("SET LOCAL enable_nestloop = on")
        self._stuck()
        self._unavailable()
        self._alive()

    # ---- the backend's cascade, undone ----

    def _stuck(self) -> None:
        restore, waiting, unproven = [], [], []
        for one in self._inactive():
            verdict, why = judge(one)
            if verdict == RESTORE:
                restore.append(one)
            elif verdict == WAIT:
                waiting.append(one)
            elif why:
                unproven.append(one.shown(why=why))
        self._waiting = {(one.user_id, one.model) for one in waiting}
        self._stuck_pairs = {(one.user_id, one.model) for one in restore}
        links = self._lost_links(restore) if self.keys and restore else []
        dead = {row[0]: row for row in links if not row[3]}
        self.book.found("stuck_subscriptions", [one.shown() for one in restore])
        self.book.found("waiting_subscriptions", [one.shown() for one in waiting])
        self.book.found("unproven_subscriptions", unproven)
        self.book.found("stuck_keys", [_key(row) for row in dead.values()])
        if STUCK_SUBSCRIPTIONS in self.wanted and restore:
            self._restore(restore, links, dead)
            self._restored = set(dead)

    def _inactive(self) -> list[Subscription]:
        self.cursor.execute("SELECT count(*) FROM subscriptions WHERE status = 'inactive'")
        if not self.cursor.fetchone()[0]:
            return []
        self.cursor.execute(_INACTIVE)
        return [Subscription(*row) for row in self.cursor.fetchall()]

    def _lost_links(self, restored: Sequence[Subscription]) -> list[Any]:
        """Links between keys and models that the cascade took: id, alias, owner, whether the key is active, model.

        LiteLLM's row of the key still says which models it is for. A key that is inactive counts where nothing but the
        cascade explains that: never revoked, no error, no model left, and alive in LiteLLM.
        """
        self.cursor.execute("CREATE TEMP TABLE rhpds_restored (user_id uuid, model text) ON COMMIT DROP")
        self.cursor.execute(
            "INSERT INTO rhpds_restored SELECT * FROM unnest(%s::uuid[], %s::text[])",
            ([one.user_id for one in restored], [one.model for one in restored]),
        )
        self.cursor.execute(_LOST_LINKS)
        return [row[:5] for row in self.cursor.fetchall() if row[3] or not row[5] or _HARMLESS.search(row[5])]

    def _restore(self, subscriptions: Sequence[Subscription], links: Sequence[Any], dead: Mapping[Any, Any]) -> None:
        ids = [one.id for one in subscriptions]
        self._set_status(ids, "inactive", "active", RESTORED_REASON)
        self._audit("SUBSCRIPTION_RESTORED", "SUBSCRIPTION", ids, RESTORED_REASON)
        for one in subscriptions:
            changes = [_change("status", "inactive", "active")]
            self.book.entry(one.model, "restore", changes, "subscription active again", id=one.id, user_id=one.user_id)
        if not links:
            return
        self.cursor.execute(
            "INSERT INTO api_key_models (api_key_id, model_id) SELECT * FROM unnest(%s::uuid[], %s::text[])"
            " ON CONFLICT DO NOTHING",
            ([row[0] for row in links], [row[4] for row in links]),
        )
        self.cursor.execute(
            "UPDATE api_keys SET is_active = true, updated_at = now() WHERE id = ANY(%s::uuid[]) AND NOT is_active",
            (list(dead),),
        )
        self._audit("API_KEY_RESTORED", "API_KEY", list(dead), RESTORED_REASON)
        models: dict[str, list[str]] = {}
        for row in links:
            models.setdefault(row[0], []).append(row[4])
        shown = {row[0]: row for row in links}
        for key, names in models.items():
            changes = [_change("is_active", False, True)] if key in dead else []
            changes.append(_change("models", None, sorted(names)))
            text = "key active again, with its models" if key in dead else "key has its models again"
            self.book.entry(shown[key][1] or key, "restore", changes, text, id=key)

    # ---- active subscriptions to what nobody can call ----

    def _unavailable(self) -> None:
        self.cursor.execute(
            "SELECT s.id::text, s.model_id, s.user_id::text FROM subscriptions s JOIN models m ON m.id = s.model_id"
            " WHERE s.status = 'active' AND m.availability IS DISTINCT FROM 'available' ORDER BY s.model_id, s.id"
        )
        rows = self.cursor.fetchall()
        items = [{"id": row[0], "model": row[1], "user_id": row[2]} for row in rows]
        self.book.found("active_on_unavailable", items)
        if UNAVAILABLE_SUBSCRIPTIONS not in self.wanted or not rows:
            return
        self.cursor.execute("SELECT count(*) FROM subscriptions WHERE status = 'active'")
        refusal = self.poor or self.book.too_many(len(rows), self.cursor.fetchone()[0], "active_on_unavailable")
        if refusal:
            self.book.refuse(f"No subscription was made inactive: {refusal}")
            return
        self._set_status([row[0] for row in rows], "active", "inactive", UNAVAILABLE_REASON)
        self._audit("SUBSCRIPTION_DEACTIVATED", "SUBSCRIPTION", [row[0] for row in rows], UNAVAILABLE_REASON)
        for row in rows:
            changes = [_change("status", "active", "inactive")]
            text = "its model is unavailable: subscription made inactive, keys left as they are"
            self.book.entry(row[1], "deactivate", changes, text, id=row[0], user_id=row[2])

    def _set_status(self, ids: Sequence[str], before: str, after: str, reason: str) -> None:
        self.cursor.execute(
            "WITH changed AS (UPDATE subscriptions SET status = %s, status_reason = %s, status_changed_at = now(),"
            " status_changed_by = NULL, updated_at = now() WHERE status = %s AND id = ANY(%s::uuid[]) RETURNING id)"
            " INSERT INTO subscription_status_history (subscription_id, old_status, new_status, reason, changed_at)"
            " SELECT id, %s, %s, %s, now() FROM changed",
            (after, reason, before, list(ids), before, after, reason),
        )

    def _audit(self, action: str, kind: str, ids: Sequence[str], reason: str) -> None:
        self.cursor.execute(
            "INSERT INTO audit_logs (action, resource_type, resource_id, success, metadata)"
            " SELECT %s, %s, id, true, %s FROM unnest(%s::text[]) AS t(id)",
            (action, kind, json.dumps({"source": ownership.MANAGER, "reason": reason}), [str(one) for one in ids]),
        )

    # ---- keys that are revoked and live on ----

    def _alive(self) -> None:
        if not self.keys:
            return
        report_alive(self.book, self.alive, self._held)
        if REVOKED_KEYS_ALIVE not in self.wanted:
            return
        going = []
        for one in self.alive:
            if one.id in self._restored:
                continue
            kind = self._held(one)
            if kind:
                self.book.entry(one.alias or one.id, "blocked", [], HELD[kind], id=one.id)
            else:
                going.append(one)
        if going:
            self._delete(going)

    def _held(self, one: rules.Alive) -> str:
        """Of :data:`HELD`: why a key is not deleted, and whether there is hope for it."""
        if one.held != rules.NEVER_REVOKED:
            return one.held
        for kind, pairs in ((STUCK, self._stuck_pairs), (WAITING, self._waiting)):
            if any((one.user_id, model) in pairs for model in one.models or ()):
                return kind
        return one.held

    def _delete(self, rows: Sequence[rules.Alive]) -> None:
        self.cursor.execute("SELECT count(*) FROM rhpds_keys")
        refusal = self.book.too_many(len(rows), self.cursor.fetchone()[0], "alive_revoked_keys")
        if refusal:
            self.book.refuse(f"No key was deleted in LiteLLM: {refusal}")
            return
        # Somebody may just make one active again.
        self.cursor.execute(
            "SELECT id::text FROM api_keys WHERE id = ANY(%s::uuid[]) AND NOT coalesce(is_active, false) FOR UPDATE",
            ([row.id for row in rows],),
        )
        inactive = {one for (one,) in self.cursor}
        chosen = {row.token: row for row in rows if row.id in inactive and row.token}
        left: dict[str, str] = {}
        if not self.check_mode and self.acting is not None:
            tokens = {token: row.alias for token, row in chosen.items()}
            try:
                left = self.acting.delete_keys(tokens)
            except LiteLLMError as failure:
                left = dict.fromkeys(tokens, f"Whether it was deleted isn't known: {failure}")
        gone = [row for token, row in chosen.items() if token not in left]
        self.cursor.execute(rules.FINISH, (DELETED_REASON, [row.id for row in gone]))
        for row in gone:
            change = _change("in LiteLLM", "alive", "deleted")
            self.book.entry(row.alias or row.id, "delete_key", [change], "revoked key deleted in LiteLLM", id=row.id)
        for token, row in chosen.items():
            if token in left:
                text = f"{left[token].rstrip('.')}. Its row was left as it is; run again"
                self.book.entry(row.alias or row.id, "fail", [], text, id=row.id)


STUCK, WAITING = "stuck", "waiting"
_BY_SYNC = "the backend's own sync made it inactive, when its model was gone, and nobody revoked it"
#: Why the key of an inactive row is not deleted, and what a person can do.
HELD = {
    rules.ANOTHER_KEY: (
        "LiteLLM has a key of this alias with another value: left alone, as it may be somebody else's. If nobody needs"
        " that one, delete it in LiteLLM"
    ),
    STUCK: f"{_BY_SYNC}: repair {STUCK_SUBSCRIPTIONS} gives it back",
    WAITING: f"{_BY_SYNC}: repair {STUCK_SUBSCRIPTIONS} gives it back once the model is there again",
    rules.NEVER_REVOKED: (
        "nobody revoked it, and no subscription would give it back: ask its owner. To delete it, name it in"
        " cleanup_named of cleanup_keys, with cleanup_policies=revoked_alive"
    ),
}


def report_alive(book: Book, alive: Sequence[rules.Alive], held: Callable[[rules.Alive], str]) -> None:
    """Inactive rows whose key lives, each with why it may not be deleted."""
    items = []
    for one in alive:
        kind = held(one)
        items.append({**_key(one), "blocked": kind or None, "why": HELD[kind] if kind else None})
    repairable = sum(not item["blocked"] for item in items)
    book.found("alive_revoked_keys", items, repairable=repairable)


def remove_twins(book: Book, twins: Sequence[Twins], check_mode: bool, acting: Acting | None) -> None:
    """Delete twins in LiteLLM, where the one that stays is there, and say what became of them."""
    left: dict[str, str] = {}
    if not check_mode and acting is not None:
        every = [one for each in twins for one in each.ids]
        try:
            there = acting.deployments()
            for each in twins:
                if each.keep not in there:
                    left |= dict.fromkeys(each.ids, f"LiteLLM doesn't list {each.keep} any more, which was to stay")
            left |= acting.delete_deployments([one for one in every if one not in left])
        except LiteLLMError as failure:
            left = {**dict.fromkeys(every, f"Whether it was deleted isn't known: {failure}"), **left}
    for each in twins:
        for one in each.ids:
            if one in left:
                text = f"{left[one].rstrip('.')}. Twin {one} was left as it is; run again"
                book.entry(each.name, "fail", [], text, id=one)
            else:
                change = _change("deployment", one, None)
                book.entry(each.name, "delete_deployment", [change], f"twin of {each.keep} deleted in LiteLLM", id=one)


def _key(row: Sequence[Any]) -> dict[str, Any]:
    return {"id": str(row[0]), "alias": row[1], "user_id": str(row[2]) if row[2] is not None else None}


def _change(name: str, before: Any, after: Any) -> dict[str, Any]:
    return {"field": name, "before": before, "after": after}


# ---- SQL ----

#: Inactive subscriptions with the last rows of their history and of the audit log. A model counts as available where
#: LiteMaaS says so and LiteLLM lists it.
_INACTIVE = """
WITH stuck AS (SELECT * FROM subscriptions WHERE status = 'inactive'),
history AS (
    SELECT DISTINCT ON (h.subscription_id) h.subscription_id, h.new_status, h.reason, h.changed_at
    FROM subscription_status_history h JOIN stuck ON stuck.id = h.subscription_id
    ORDER BY h.subscription_id, h.changed_at DESC NULLS LAST
),
trail AS (
    SELECT DISTINCT ON (l.resource_id) l.resource_id, l.action
    FROM audit_logs l JOIN stuck ON stuck.id::text = l.resource_id
    WHERE coalesce(l.success, true) ORDER BY l.resource_id, l.created_at DESC NULLS LAST
)
SELECT s.id::text, s.user_id::text, s.model_id,
       m.availability = 'available' AND EXISTS (SELECT FROM rhpds_want w WHERE w.id = m.id AND w.mode IN ('w', 'r')),
       coalesce(u.is_active, false), coalesce(s.expires_at <= now(), false),
       nullif(s.status_reason, ''), s.status_changed_by::text, s.status_changed_at,
       h.new_status, nullif(h.reason, ''), h.changed_at, l.action
FROM stuck s JOIN models m ON m.id = s.model_id JOIN users u ON u.id = s.user_id
LEFT JOIN history h ON h.subscription_id = s.id LEFT JOIN trail l ON l.resource_id = s.id::text
ORDER BY s.model_id, s.id
"""

_LOST_LINKS = """
SELECT a.id::text, a.litellm_key_alias, a.user_id::text, coalesce(a.is_active, false), r.model,
       (SELECT l.action FROM audit_logs l WHERE l.resource_id = a.id::text AND coalesce(l.success, true)
        ORDER BY l.created_at DESC NULLS LAST LIMIT 1)
FROM api_keys a
JOIN rhpds_keys k ON k.token = a.key_hash
JOIN rhpds_restored r ON r.user_id = a.user_id AND r.model = ANY(k.models)
WHERE a.revoked_at IS NULL AND a.sync_error IS NULL AND a.sync_status IS DISTINCT FROM 'error'
  AND (a.expires_at IS NULL OR a.expires_at > now())
  AND NOT k.blocked AND (k.expires IS NULL OR k.expires > now())
  AND NOT EXISTS (SELECT FROM api_key_models x WHERE x.api_key_id = a.id AND x.model_id = r.model)
  AND (a.is_active OR NOT EXISTS (SELECT FROM api_key_models x WHERE x.api_key_id = a.id))
ORDER BY a.litellm_key_alias, a.id, r.model
"""
