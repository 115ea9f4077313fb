# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


"""LiteMaaS's catalogue in line with LiteLLM: one set-based diff in one transaction, and reports on both stores.

Order of one run, all in one transaction that holds the advisory lock:

1. note which rows there are, *then* read LiteLLM: a row that appears in between is never judged by an older read;
2. COPY what should be into a temporary table, and compare in SQL;
3. write only what differs; then removals and repairs, behind their guards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import urls
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import catalog, keys, repairs
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import (
    Connection,
    DatabaseError,
    copy_in,
    copy_line,
    take_turn,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.keys import (
    KEY_TABLE,
    KEY_TABLE_COLUMNS,
    REVOKED_REASON,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import removal_refused

#: What we read or write in LiteMaaS's database.
LITEMAAS_TABLES: Mapping[str, Sequence[str]] = {
    "models": (*catalog.COLUMNS, "updated_at"),
    "subscriptions": ("id", "model_id", "status"),
    **keys.TABLES,
}
MODEL_TABLE = '"LiteLLM_ProxyModelTable"'

ORPHANED_KEYS = "orphaned_keys"
#: Everything that may be repaired on request, besides rows whose model is gone.
REPAIRS = (ORPHANED_KEYS, *repairs.NAMES)

#: Rows of a report that are listed; the rest is counted.
REPORT_LIMIT = 100


@dataclass
class Options:
    """What a run should do. See the module's documentation for the meaning of each.

    Attributes:
        removed_models: names that an earlier task removes from LiteLLM: their rows are removed as orphans are.
        pending: names that an earlier task would register in LiteLLM; only in check mode, where it did not.
        gone: ids of deployments that an earlier task would remove from LiteLLM; only in check mode, where it did not.
        duplicate_models: names whose twins go though LiteLLM doesn't show all that they have.
    """

    models: Sequence[Mapping[str, Any]] = ()
    sync_all: bool = True
    cleanup_orphaned: bool = False
    removal: str = catalog.UNAVAILABLE
    allow_active_subscriptions: bool = False
    delete_subscriptions: bool = False
    max_removal_percent: int = 20
    allow_mass_removal: bool = False
    repair: Sequence[str] = ()
    check_keys: bool = True
    removed_models: Sequence[str] = ()
    pending: Sequence[str] = ()
    gone: Sequence[str] = ()
    duplicate_models: Sequence[str] = ()
    report_limit: int = REPORT_LIMIT
    lock_timeout: float = 30
    statement_timeout: float = 300


@dataclass
class Outcome:
    """What a run did, or in check mode would do.

    Attributes:
        results: an entry for each item of the operator's list and for everything else that changed, was held back or
            failed. Rows that were in line already are only counted.
        summary: number of rows by what became of them.
        report: what was found in both stores before anything was written.
        errors: why the run as a whole has failed, besides failed items.
        warnings: what a person should know though nothing failed.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, int] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, written."""
        return any(entry["changed"] for entry in self.results)

    @property
    def divergences(self) -> dict[str, int]:
        """Part of the report -> number of things in it that were not as they should be."""
        return repairs.divergences(self.report)

    @property
    def failed(self) -> bool:
        """Whether any item or guard failed."""
        return bool(self.errors) or any(entry["failed"] for entry in self.results)

    def result(self, check_mode: bool, diff: bool = False) -> dict[str, Any]:
        """What the module exits with; ``failed`` is true where anything failed."""
        out: dict[str, Any] = {
            "changed": self.changed,
            "failed": self.failed,
            "msg": self.message(check_mode),
            "results": self.results,
            "summary": self.summary,
            "report": self.report,
            "divergences": self.divergences,
            "in_line": not self.divergences,
            "advice": repairs.advice(self.report),
        }
        if diff:
            out["diff"] = {side: "".join(self._lines_of(side)) for side in ("before", "after")}
        return out

    def _lines_of(self, side: str) -> Iterator[str]:
        for entry in self.results:
            for change in entry["changes"]:
                if change[side] is not None:
                    yield f"{entry['name']}: {change['field']}: {change[side]}\n"

    def message(self, check_mode: bool) -> str:
        """One line: what happened, and the first troubles by name."""
        words = {key: key for key in self.summary}
        if check_mode:
            words.update(
                created="to create",
                updated="to update",
                made_unavailable="to make unavailable",
                deleted="to delete",
                revoked="keys to revoke",
                restored="subscriptions and keys to restore",
                deactivated="subscriptions to make inactive",
                keys_deleted="keys to delete in LiteLLM",
                twins_deleted="twins to delete in LiteLLM",
            )
        else:
            words.update(
                made_unavailable="made unavailable",
                revoked="keys revoked",
                restored="subscriptions and keys restored",
                deactivated="subscriptions made inactive",
                keys_deleted="keys deleted in LiteLLM",
                twins_deleted="twins deleted in LiteLLM",
            )
        said = [f"{count} {words[key]}" for key, count in self.summary.items() if count]
        text = f"LiteMaaS catalogue: {', '.join(said) or 'nothing to do'}"
        trouble = list(self.errors)
        failed = [entry for entry in self.results if entry["failed"]]
        trouble += [f"{entry['name']}: {entry['msg']}" for entry in failed[:3]]
        if len(failed) > 3:
            trouble.append(f"and {len(failed) - 3} more (see results)")
        held = [entry for entry in self.results if entry["action"] == "blocked"]
        if held:
            some = [f"{entry['name']}: {entry['msg']}" for entry in held[:3]]
            more = [f"and {len(held) - 3} more (see results)"] if len(held) > 3 else []
            trouble.append(f"Held back: {'; '.join([*some, *more])}")
        return f"{text}. {'; '.join(trouble)}" if trouble else text


class CatalogSync:
    """One run.

    Args:
        connection: LiteMaaS's database.
        options: what to do.
        read_models: gives ``/model/info``'s entries; raises when the answer is unusable.
        read_keys: gives every virtual key as LiteLLM's API shows it; asked only where no table of keys can be read.
        litellm: LiteLLM's own database, when it has one.
        acting: deletes in LiteLLM; needed for repairs that do.
    """

    def __init__(
        self,
        connection: Connection,
        options: Options,
        read_models: Callable[[], Iterable[Any]],
        read_keys: Callable[[], Iterable[Mapping[str, Any]]],
        litellm: Connection | None = None,
        acting: repairs.Acting | None = None,
    ) -> None:
        self._connection = connection
        self._options = options
        self._read_models = read_models
        self._read_keys = read_keys
        self._litellm = litellm
        self._acting = acting
        self._out = Outcome()
        self._selection = catalog.Selection()
        self._overlays: dict[str, dict[str, Any]] = {}
        #: Names that stand in the list more than once: their rows are left as they are.
        self._repeated: dict[str, list[int]] = {}
        #: Rows to be written, without their metadata, which is made while it is sent.
        self._rows: dict[str, dict[str, Any]] = {}
        self._lengths: dict[str, int] = dict(catalog.LENGTHS)
        #: The connection over which LiteLLM's own tables can be read.
        self._tables_in: Connection | None = None
        #: Deployment id -> model name in LiteLLM's registry, where it can be read.
        self._in_table: dict[str, str] | None = None
        #: Whether LiteLLM's table of keys tells their models.
        self._key_models = False
        self._mentioned: set[str] = set()
        self._seen_keys = 0
        self._alive: list[keys.Alive] = []
        self._check_mode = False
        self._entries: list[Any] = []
        self._twins: list[repairs.Twins] = []
        #: Twins that a repair leaves, as nothing proves that they are.
        self._unproven: list[repairs.Twins] = []

    def run(self, check_mode: bool = False) -> Outcome:
        """Compare, write, report. In check mode everything is done and rolled back.

        Raises:
            DatabaseError: the database refused; nothing was written.
            Exception: whatever ``read_models`` and ``read_keys`` raise; nothing was written.
        """
        options = self._options
        self._check_mode = check_mode
        self._overlays, self._repeated = checked_list(options)
        with self._connection.transaction(
            "Sync the catalogue",
            lock_timeout=options.lock_timeout,
            statement_timeout=options.statement_timeout,
            keep=not check_mode,
        ) as cursor:
            self._prepare(cursor)
            self._selection = self._select()
            if not self._selection.models and not options.pending and not options.removed_models:
                self._out.warnings.append("LiteLLM lists no model that LiteMaaS would show.")
            elif self._selection.unreadable:
                self._out.warnings.append(f"LiteLLM's answer has unusable entries: {self._selection.unreadable[0]}")
            shared = self._connection.columns(cursor, (KEY_TABLE, MODEL_TABLE))
            self._find_tables(cursor, shared)
            self._find_twins(cursor)
            source = None
            if options.check_keys or options.repair:
                # "" where LiteMaaS has no key to compare.
                source = self._keys_read(cursor) or ""
            self._load(cursor)
            self._compare_and_write(cursor, check_mode)
            self._report_models(cursor)
            self._orphans(cursor)
            if source is not None:
                self._keys(cursor, source)
            self._repair(cursor, source is not None)
        self._count()
        return self._out

    # ---- 1: what is there, before LiteLLM is read ----

    def _prepare(self, cursor: Any) -> None:
        there = self._connection.require(cursor, LITEMAAS_TABLES, "Read the catalogue", "LiteMaaS")
        self._lengths = {column: longest for column, longest in there["models"].items() if longest is not None}
        take_turn(cursor)
        cursor.execute("CREATE TEMP TABLE rhpds_seen ON COMMIT DROP AS SELECT id FROM models")
        cursor.execute(keys.SEEN)
        self._seen_keys = cursor.rowcount

    # ---- 2: LiteLLM's side ----

    def _select(self) -> catalog.Selection:
        self._entries = list(self._read_models())
        return self._selected(set(self._options.gone))

    def _selected(self, gone: set[str]) -> catalog.Selection:
        selection = catalog.select(entry for entry in self._entries if not gone or _id_of(entry) not in gone)
        # Neither listed nor missing: no sign of an incomplete answer.
        selection.ids_seen |= gone
        return selection

    def _find_tables(self, cursor: Any, shared: Mapping[str, Mapping[str, Any]]) -> None:
        """Which database holds LiteLLM's tables: its own, this one, or none that we may read."""
        if self._litellm is not None:
            with self._litellm.transaction("Read LiteLLM's tables", read_only=True) as theirs:
                there = self._litellm.require(theirs, {KEY_TABLE: KEY_TABLE_COLUMNS}, "Read LiteLLM's keys", "LiteLLM")
                there.update(self._litellm.columns(theirs, (MODEL_TABLE,)))
                self._in_table = _models_in_table(theirs, there[MODEL_TABLE])
                self._key_models = "models" in there[KEY_TABLE]
            self._tables_in = self._litellm
        elif set(KEY_TABLE_COLUMNS) <= set(shared[KEY_TABLE]):
            self._in_table = _models_in_table(cursor, shared[MODEL_TABLE])
            self._key_models = "models" in shared[KEY_TABLE]
            self._tables_in = self._connection
        known = self._selection.ids
        if known and self._in_table is not None and not known & self._in_table.keys():
            if self._litellm is not None:
                raise DatabaseError(
                    f"Read LiteLLM's tables in {self._litellm.target}",
                    "they hold none of the models that the proxy lists",
                    "Check that litellm_dsn is the database of the proxy at litellm_url. Nothing was written",
                )
            # Left behind when LiteLLM moved to a database of its own: such tables would make every newer key an orphan.
            self._out.warnings.append(
                "LiteMaaS's database holds LiteLLM tables that are not this proxy's: left aside. Give litellm_dsn."
            )
            self._tables_in = None
            self._in_table = None

    def _find_twins(self, cursor: Any) -> None:
        """Deployments that are the same, and rows as they will be without those that go."""
        gone = set(self._options.gone)
        entries = [
            entry
            for entry in self._entries
            if len(self._selection.deployments.get(_name_of(entry), ())) > 1 and _id_of(entry) not in gone
        ]
        ids = [one for one in map(_id_of, entries) if one]
        stored, made = None, dict[str, Any]()
        if self._tables_in is self._connection and ids:
            stored, made = _parameters_in_table(self._connection, cursor, ids)
        elif self._tables_in is not None and ids:
            with self._tables_in.transaction("Read LiteLLM's deployments", read_only=True) as theirs:
                stored, made = _parameters_in_table(self._tables_in, theirs, ids)
        found = repairs.find_twins(entries, stored, made)
        for part, proven in (("identical_twins", True), ("possible_twins", False)):
            self._out.report[part] = self._bounded([twins.shown() for twins in found if twins.proven is proven])
        if repairs.DUPLICATES not in self._options.repair:
            return
        going = repairs.twins_to_go(found, self._options.duplicate_models)
        self._unproven = [twins for twins in found if twins not in going]
        count = sum(len(twins.ids) for twins in going)
        refusal = self._read_too_poor() or self._too_many(count, len(self._selection.ids), "identical_twins")
        if refusal and going:
            self._out.errors.append(f"No twin was deleted: {refusal}")
            return
        # Rows are made of those that stay.
        self._twins = going
        self._selection = self._selected(gone | {one for twins in going for one in twins.ids})

    def _keys_read(self, cursor: Any) -> str | None:
        """LiteLLM's keys in a temporary table: token (sha256), alias, expiry, blocked, models. Never a key's value.

        Returns:
            Where they came from; None when LiteMaaS has no key to compare them with.
        """
        cursor.execute(keys.LIVING)
        if not self._seen_keys:
            return None
        select: str = keys.SELECT
        columns: Sequence[str] = keys.COLUMNS
        if self._key_models:
            select, columns = keys.SELECT_WITH_MODELS, keys.COLUMNS_WITH_MODELS
        if self._tables_in is self._connection:
            cursor.execute(f"INSERT INTO rhpds_keys ({', '.join(columns)}) {select}")
            return "shared database"
        if self._tables_in is not None:
            with self._tables_in.transaction("Read LiteLLM's keys", read_only=True) as theirs:
                theirs.execute(select)
                found = theirs.fetchall()
            keys.load(cursor, found, columns)
            return "litellm_dsn"
        listed = (
            (
                key.get("token"),
                key.get("key_alias"),
                _moment(key.get("expires")),
                bool(key.get("blocked")),
                list(key.get("models") or ()),
            )
            for key in self._read_keys()
        )
        keys.load(cursor, listed, keys.COLUMNS_WITH_MODELS)
        return "api"

    # ---- 3: what should be ----

    def _load(self, cursor: Any) -> None:
        """The rows that should be, in a temporary table with the real columns' types: rounding is no drift then.

        ``mode``: w = to be written, r = only compared for the reports, n = only known to be in LiteLLM.
        """
        cursor.execute(
            f"CREATE TEMP TABLE rhpds_want ON COMMIT DROP AS SELECT {', '.join(catalog.COLUMNS)},"
            " NULL::text[] AS given, NULL::text AS mode FROM models WITH NO DATA"
        )
        copy_in(cursor, "rhpds_want", (*catalog.COLUMNS, "given", "mode"), self._lines())
        cursor.execute("ANALYZE rhpds_want (id, mode)")
        for name in self._overlays:
            if name not in self._selection.models and name not in self._options.pending:
                self._unknown(name)
        for name, places in self._repeated.items():
            # Neither of its items can be right: one entry for each, as every item has one.
            text = (
                f"stands in models more than once (items {', '.join(map(str, places))}): give one item per model name"
                " (several deployments of one name make one row). Its row was left as it is"
            )
            for _place in places:
                self._failed(name, text)

    def _lines(self) -> Iterator[str]:
        options = self._options
        removed = set(options.removed_models)
        names_only: set[str] = set(self._selection.outside) | set(options.pending)
        names_only -= self._selection.models.keys()
        for name, entry in self._selection.models.items():
            overlay = self._overlays.get(name)
            # A name that was to go and still has a deployment: its row is made of that one.
            write = name not in self._repeated and (options.sync_all or overlay is not None or name in removed)
            try:
                row = catalog.row(entry, overlay, self._lengths)
                text = catalog.json_text(row["metadata"])
            except catalog.CatalogError as problem:
                if write:
                    self._failed(name, f"{problem}. Its row was left as it is")
                names_only.add(name)
                continue
            del row["metadata"]
            if write:
                self._rows[name] = row
            values = [row.get(column) for column in catalog.COLUMNS[:-1]]
            yield copy_line((*values, text, sorted(overlay) if overlay else None, "w" if write else "r"))
        longest = self._lengths.get("id", catalog.LENGTHS["id"])
        blank = (None,) * len(catalog.COLUMNS[1:])
        for name in sorted(names_only):
            # A name that the column cannot hold has no row that could be mistaken for an orphan.
            if len(name) <= longest and "\x00" not in name and _encodes(name):
                yield copy_line((name, *blank, None, "n"))

    def _unknown(self, name: str) -> None:
        if name in self._selection.config_models:
            trouble = (
                "is defined in LiteLLM's config.yaml, and LiteMaaS's backend skips such models: register it with"
                " litellm_model"
            )
        else:
            trouble = (
                "LiteLLM does not list this model: register it with litellm_model first, or check the spelling"
                " (names are case sensitive)"
            )
        self._failed(name, trouble)

    # ---- 4: the difference ----

    def _compare_and_write(self, cursor: Any, check_mode: bool) -> None:
        # The backend knows nothing of our advisory lock: this keeps its writes out while we compare and write. Readers,
        # and users who subscribe, go on.
        cursor.execute("LOCK TABLE models IN SHARE ROW EXCLUSIVE MODE")
        # Statistics of a table that was empty, or had a dozen rows, make a nested loop look cheap: over 10,000 new rows
        # it takes seconds, as each one scans what the same statement has inserted so far.
        cursor.execute("SET LOCAL enable_nestloop = off")
        differing: dict[str, dict[str, Any]] = {}
        updated = 0
        with self._connection.stream(_DIFFERENCES) as found:
            for name, mode, flags, *values in found:
                before, after = values[: len(_COMPARED)], values[len(_COMPARED) :]
                places = [place for place, differs in enumerate(flags) if differs]
                differing[name] = {"name": name, "columns": [_COMPARED[place] for place in places], "kept": []}
                if mode == "w":
                    updated += 1
                    changes = [_change(_COMPARED[place], before[place], after[place]) for place in places]
                    self._entry(name, "update", changes, "row brought in line")
        if updated:
            cursor.execute(_UPDATE)
            if cursor.rowcount != updated:
                raise DatabaseError(
                    f"Sync the catalogue in {self._connection.target}",
                    f"{updated} rows differ but {cursor.rowcount} were written",
                    "A trigger or a rule on models gets in between. Nothing was written",
                )
        cursor.execute(_KEPT)
        for name, columns in cursor:
            differing.setdefault(name, {"name": name, "columns": [], "kept": []})["kept"] = columns
        cursor.execute(
            "SELECT w.id FROM rhpds_want w LEFT JOIN models m ON m.id = w.id WHERE m.id IS NULL AND w.mode = 'r'"
        )
        missing = [name for (name,) in cursor]
        cursor.execute(_INSERT)
        for (name,) in cursor:
            missing.append(name)
            row = self._rows[name]
            changes = [
                {"field": column, "before": None, "after": value}
                for column, value in row.items()
                if value is not None and value is not False and value != []
            ]
            for change in changes:
                if change["field"] in _SHOWN_OTHERWISE:
                    change["after"] = _plain(change["field"], change["after"])
            self._entry(name, "create", changes, "row added")
        if check_mode and self._options.pending:
            self._predict_pending(cursor)
        for name in self._overlays:
            if name not in self._mentioned:
                self._entry(name, "none", [], "in line")
        self._out.report["only_in_litellm"] = self._bounded(sorted(missing))
        self._out.report["differing"] = {
            **self._bounded([differing[name] for name in sorted(differing)]),
            "drifted": sum(bool(found["columns"]) for found in differing.values()),
        }

    def _predict_pending(self, cursor: Any) -> None:
        """Rows of models that an earlier task of a check-mode run would have registered."""
        left_alone = {*self._selection.models, *self._repeated}
        names = [name for name in self._options.pending if name not in left_alone]
        cursor.execute("SELECT id FROM models WHERE id = ANY(%s)", (names,))
        there = {name for (name,) in cursor}
        for name in names:
            if name in self._overlays or self._options.sync_all:
                self._entry(name, "update" if name in there else "create", [], "once LiteLLM lists the model")

    # ---- 5: the reports on models, and rows whose model is gone ----

    def _report_models(self, cursor: Any) -> None:
        report = self._out.report
        cursor.execute(
            "SELECT model_id, count(*) FROM subscriptions WHERE status = 'active' GROUP BY model_id ORDER BY model_id"
        )
        report["active_subscriptions"] = dict(cursor.fetchall())
        report["protected_models"] = list(report["active_subscriptions"])
        duplicates = self._selection.duplicates
        report["duplicate_names"] = self._bounded(
            [{"name": name, "ids": duplicates[name]} for name in sorted(duplicates)]
        )
        report["config_models"] = self._bounded(sorted(self._selection.config_models))

    def _orphans(self, cursor: Any) -> None:
        options = self._options
        cursor.execute(
            "SELECT m.id, m.availability, count(s.id), count(s.id) FILTER (WHERE s.status = 'active')"
            " FROM models m JOIN rhpds_seen USING (id) LEFT JOIN subscriptions s ON s.model_id = m.id"
            " WHERE NOT EXISTS (SELECT FROM rhpds_want w WHERE w.id = m.id)"
            " GROUP BY m.id, m.availability ORDER BY m.id"
        )
        orphans = cursor.fetchall()
        listed = [
            {"name": name, "availability": availability, "subscriptions": total, "active_subscriptions": active}
            for name, availability, total, active in orphans
        ]
        self._out.report["only_in_litemaas"] = {
            **self._bounded(listed),
            "available": sum(row[1] != catalog.UNAVAILABLE for row in orphans),
        }
        deleting = options.removal == "delete"
        going = [row for row in orphans if deleting or row[1] != catalog.UNAVAILABLE]
        going = [row for row in going if row[0] not in self._repeated]
        blocked, held, removable = [], [], []
        for row in going:
            if row[3] and not options.allow_active_subscriptions:
                blocked.append(row)
            elif row[2] and deleting and not options.delete_subscriptions:
                held.append(row)
            else:
                removable.append(row)
        self._out.report["blocked_by_subscriptions"] = self._bounded(
            [{"name": row[0], "active_subscriptions": row[3]} for row in blocked]
        )
        named = self._removed_for_certain()
        guessed = options.cleanup_orphaned and any(row[0] not in named for row in going)
        unnamed = sum(row[0] not in named for row in removable)
        refusal = self._refused(cursor, unnamed) if guessed else None
        if refusal is not None:
            self._out.errors.append(f"No row was removed: {refusal}")
        if refusal is not None or not options.cleanup_orphaned:
            blocked, held, removable = ([row for row in rows if row[0] in named] for rows in (blocked, held, removable))
        for row in blocked:
            self._held(row[0], f"{row[3]} active subscriptions: kept as it is (allow_active_subscriptions is false)")
        for row in held:
            self._held(row[0], f"{row[2]} subscriptions refer to it: not deleted (delete_subscriptions is false)")
        if removable:
            self._remove(cursor, removable)

    def _removed_for_certain(self) -> set[str]:
        """Names that were to go, less those that LiteLLM's own table still has: the answer may leave them out."""
        return set(self._options.removed_models) - {
            name for one, name in (self._in_table or {}).items() if one not in self._options.gone
        }

    def _refused(self, cursor: Any, removals: int) -> str | None:
        """Why rows that nobody named may not go because LiteLLM's answer leaves them out, or None."""
        options = self._options
        refusal = self._read_too_poor()
        if refusal is None and not options.allow_mass_removal:
            cursor.execute(
                "SELECT count(*) FROM models JOIN rhpds_seen USING (id) WHERE %s OR availability <> %s",
                (options.removal == "delete", catalog.UNAVAILABLE),
            )
            share = removal_refused(removals, cursor.fetchone()[0], options.max_removal_percent)
            if share:
                refusal = f"{share}. Look at report.only_in_litemaas; if that is right, set allow_mass_removal: true"
        return refusal

    def _remove(self, cursor: Any, rows: Sequence[Any]) -> None:
        names = [row[0] for row in rows]
        deleting = self._options.removal == "delete"
        if deleting:
            self._delete(cursor, names)
        else:
            # The availability alone: the backend, at its next start, finds the row unavailable already and then leaves
            # subscriptions and keys alone.
            cursor.execute(
                "UPDATE models SET availability = %s, updated_at = now() WHERE id = ANY(%s)",
                (catalog.UNAVAILABLE, names),
            )
        for name, availability, _total, _active in rows:
            if deleting:
                self._entry(name, "delete", [_change("id", name, None)], "LiteLLM does not list the model: row deleted")
            else:
                change = _change("availability", availability, catalog.UNAVAILABLE)
                self._entry(name, "unavailable", [change], "LiteLLM does not list the model: made unavailable")

    def _delete(self, cursor: Any, names: list[str]) -> None:
        if self._options.delete_subscriptions:
            # Deleting a subscription deletes the api_keys rows that refer to it, while their keys stay alive in
            # LiteLLM, out of LiteMaaS's sight. So they are cut loose first.
            cursor.execute(
                "UPDATE api_keys SET subscription_id = NULL, updated_at = now() WHERE subscription_id IN"
                " (SELECT id FROM subscriptions WHERE model_id = ANY(%s))",
                (names,),
            )
            cursor.execute("DELETE FROM subscriptions WHERE model_id = ANY(%s)", (names,))
        cursor.execute("DELETE FROM models WHERE id = ANY(%s)", (names,))

    def _read_too_poor(self) -> str | None:
        """Why this read of LiteLLM is no ground for a removal, or None."""
        selection = self._selection
        if not selection.models:
            return (
                "LiteLLM lists no model at all, and an empty answer never removes anything: check the proxy and its"
                " salt key"
            )
        if selection.unreadable:
            return (
                f"LiteLLM's answer is incomplete ({len(selection.unreadable)} unusable entries; the first:"
                f" {selection.unreadable[0]})"
            )
        if self._in_table is not None:
            unseen = sorted({name for one, name in self._in_table.items() if one not in selection.ids_seen})
            if unseen:
                return (
                    f"LiteLLM's answer is incomplete: its table also holds {', '.join(unseen[:3])}"
                    f"{' and more' if len(unseen) > 3 else ''}, which it does not list. Wait for its next reload (30 s)"
                    " and run again; if it stays so, the proxy cannot decrypt them: check its salt key"
                )
        return None

    # ---- 6: keys ----

    def _keys(self, cursor: Any, source: str | None) -> None:
        report = self._out.report
        cursor.execute("SELECT count(*) FROM rhpds_keys")
        in_litellm = cursor.fetchone()[0]
        report["key_source"] = source or "none"
        keys.index(cursor)
        cursor.execute(keys.ORPHANED)
        orphaned = [_key(row) for row in cursor]
        report["orphaned_keys"] = self._bounded(orphaned)
        cursor.execute(keys.UNJUDGED)
        report["keys_without_alias"] = self._bounded([_key(row) for row in cursor])
        self._alive = keys.alive_revoked(cursor)
        if ORPHANED_KEYS not in self._options.repair or not orphaned:
            return
        refusal = None
        if not in_litellm:
            refusal = "LiteLLM's list of keys came back empty. An empty answer never revokes anything"
        else:
            cursor.execute("SELECT count(*) FROM api_keys WHERE is_active")
            refusal = self._too_many(len(orphaned), cursor.fetchone()[0], "orphaned_keys")
        if refusal is not None:
            self._out.errors.append(f"No key was revoked: {refusal}")
            return
        cursor.execute(keys.REVOKE, (REVOKED_REASON, [key["id"] for key in orphaned]))
        for key in orphaned:
            changes = [_change("is_active", True, False), _change("sync_error", None, REVOKED_REASON)]
            self._entry(key["alias"], "revoke", changes, "LiteLLM does not have this key", id=key["id"])

    # ---- 7: what no diff mends ----

    def _repair(self, cursor: Any, has_keys: bool) -> None:
        book = _Book(self)
        missing = repairs.missing_tables(self._connection.columns(cursor, repairs.TABLES))
        wanted = [name for name in self._options.repair if name in repairs.NAMES]
        if missing and wanted:
            self._connection.require(cursor, repairs.TABLES, "Repair subscriptions and keys", "LiteMaaS")
        if missing:
            text = f"LiteMaaS's database has no {', '.join(missing[:5])}"
            self._out.warnings.append(f"Subscriptions were not looked at: {text}")
            if has_keys:
                repairs.report_alive(book, self._alive, lambda one: one.held)
        else:
            poor = self._read_too_poor()
            repairs.Repairs(cursor, book, wanted, has_keys, poor, self._check_mode, self._acting, self._alive).run()
        for twins in self._unproven:
            book.entry(twins.name, "blocked", [], repairs.UNPROVEN_TWINS)
        if self._twins:
            repairs.remove_twins(book, self._twins, self._check_mode, self._acting)

    def _too_many(self, removals: int, total: int, part: str) -> str | None:
        if self._options.allow_mass_removal:
            return None
        share = removal_refused(removals, total, self._options.max_removal_percent)
        return share and f"{share}. Look at report.{part}; if that is right, set allow_mass_removal: true"

    # ---- results ----

    def _entry(self, name: str, action: str, changes: list[dict[str, Any]], msg: str, **more: Any) -> None:
        self._mentioned.add(name)
        entry = {
            "name": name,
            "action": action,
            "changed": action not in ("none", "blocked", "fail"),
            "failed": action == "fail",
            "changes": changes,
            "msg": msg,
        }
        self._out.results.append({**entry, **more})

    def _failed(self, name: str, msg: str) -> None:
        self._entry(name, "fail", [], msg)

    def _held(self, name: str, msg: str) -> None:
        self._entry(name, "blocked", [], msg)
        self._out.warnings.append(f"{name}: {msg}")

    def _bounded(self, items: list[Any]) -> dict[str, Any]:
        return {"count": len(items), "items": items[: self._options.report_limit]}

    def _count(self) -> None:
        counts = dict.fromkeys(_SUMMARY.values(), 0)
        touched = 0
        for entry in self._out.results:
            counts[_SUMMARY[entry["action"]]] += 1
            touched += entry["action"] in ("create", "update") and entry["name"] in self._rows
        # Rows in line that nobody named have no entry.
        counts["unchanged"] = len(self._rows) - touched
        self._out.summary = counts


class _Book:
    """A run's result, for :mod:`repairs`."""

    def __init__(self, run: CatalogSync) -> None:
        self._run = run

    def entry(self, name: str, action: str, changes: list[dict[str, Any]], msg: str, **more: Any) -> None:
        """See :class:`repairs.Book`."""
        self._run._entry(name, action, changes, msg, **more)
        if action == "blocked":
            self._run._out.warnings.append(f"{name}: {msg}")

    def found(self, part: str, items: list[Any], **more: int) -> None:
        """See :class:`repairs.Book`."""
        self._run._out.report[part] = {**self._run._bounded(items), **more}

    def refuse(self, text: str) -> None:
        """See :class:`repairs.Book`."""
        self._run._out.errors.append(text)

    def too_many(self, removals: int, total: int, part: str) -> str | None:
        """See :class:`repairs.Book`."""
        return self._run._too_many(removals, total, part)


_SUMMARY = {
    "create": "created",
    "update": "updated",
    "none": "unchanged",
    "unavailable": "made_unavailable",
    "delete": "deleted",
    "revoke": "revoked",
    "restore": "restored",
    "deactivate": "deactivated",
    "delete_key": "keys_deleted",
    "delete_deployment": "twins_deleted",
    "blocked": "blocked",
    "fail": "failed",
}


def checked_list(options: Options) -> tuple[dict[str, dict[str, Any]], dict[str, list[int]]]:
    """Model name -> columns of the operator's list, and the places, from 1, of names that stand in it more than once.

    Raises:
        ValueError: nothing to do, or no name; before anything is read or written.
    """
    out: dict[str, dict[str, Any]] = {}
    places: dict[str, list[int]] = {}
    for position, item in enumerate(options.models):
        name = item.get("model_name")
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"models[{position}] has no model_name. Nothing was written")
        places.setdefault(name, []).append(position + 1)
        out[name] = catalog.overlay_of(item)
    if not out and not options.sync_all and not (options.cleanup_orphaned or options.removed_models or options.repair):
        raise ValueError(
            "Nothing to do: models is empty and sync_all is false. List models, or let every model of LiteLLM be synced"
        )
    repeated = {name: found for name, found in places.items() if len(found) > 1}
    return {name: overlay for name, overlay in out.items() if name not in repeated}, repeated


def _id_of(entry: Any) -> str | None:
    info = entry.get("model_info") if isinstance(entry, Mapping) else None
    return info.get("id") if isinstance(info, Mapping) else None


def _name_of(entry: Any) -> str:
    name = entry.get("model_name") if isinstance(entry, Mapping) else None
    return name if isinstance(name, str) else ""


def _parameters_in_table(
    connection: Connection, cursor: Any, ids: list[str]
) -> tuple[dict[str, list[str]] | None, dict[str, Any]]:
    """Deployment id -> names of its parameters, and when it was made, where LiteLLM's own registry tells that."""
    columns = connection.columns(cursor, (MODEL_TABLE,))[MODEL_TABLE]
    if not {"model_id", "litellm_params"} <= set(columns):
        return None, {}
    made = "created_at" if "created_at" in columns else "NULL"
    cursor.execute(
        f"SELECT model_id, ARRAY(SELECT jsonb_object_keys(litellm_params::jsonb)), {made} FROM {MODEL_TABLE}"
        " WHERE model_id = ANY(%s) AND jsonb_typeof(litellm_params::jsonb) = 'object'",
        (ids,),
    )
    rows = cursor.fetchall()
    return {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows if row[2] is not None}


def _models_in_table(cursor: Any, columns: Mapping[str, Any]) -> dict[str, str] | None:
    """Deployment id -> model name in LiteLLM's own registry; None where it is not there."""
    if not {"model_id", "model_name"} <= set(columns):
        return None
    cursor.execute(f"SELECT model_id, model_name FROM {MODEL_TABLE}")
    return dict(cursor.fetchall())


def _change(column: str, before: Any, after: Any) -> dict[str, Any]:
    if column == "metadata":
        # Parameters of a deployment may be private: which ones differ is enough, and mostly shows in columns as well.
        paths = catalog.differing_paths(before or {}, after or {})
        return {"field": "metadata", "before": None, "after": f"differs in {', '.join(p or 'all' for p in paths[:10])}"}
    return {"field": column, "before": _plain(column, before), "after": _plain(column, after)}


_SHOWN_OTHERWISE = frozenset({"api_base", "input_cost_per_token", "output_cost_per_token"})


def _plain(column: str, value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return urls.without_credentials(value) if column == "api_base" else value


def _key(row: Sequence[Any]) -> dict[str, Any]:
    return {"id": str(row[0]), "alias": row[1], "user_id": str(row[2]) if row[2] is not None else None}


def _moment(value: Any) -> str | None:
    """An expiry of LiteLLM's API in a form that PostgreSQL reads without guessing; without an offset it is UTC."""
    if not value:
        return None
    try:
        found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).isoformat()


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# ---- SQL. w = what LiteLLM and the operator's list say, m = the row ----


def _given(column: str) -> str:
    return f"'{column}' = ANY(w.given)"


#: The provider that the backend derived when it last wrote the row: it keeps what it derived from in metadata.
_LAST_PROVIDER = (
    "coalesce(nullif(m.metadata #>> '{litellm_params,custom_llm_provider}', ''),"
    " CASE WHEN m.metadata #>> '{litellm_params,model}' LIKE '%/%'"
    " THEN split_part(m.metadata #>> '{litellm_params,model}', '/', 1) ELSE 'unknown' END)"
)


def _desired(column: str) -> str:
    """The value that a column of an existing row should have.

    A column that operators may set is theirs where it differs from what LiteLLM said last time, and follows LiteLLM
    where it does not: a context length that nobody touched goes with the model's.
    """
    if column == "context_length":
        return (
            f"CASE WHEN {_given(column)} OR m.context_length IS NOT DISTINCT FROM m.max_tokens"
            " THEN w.context_length ELSE m.context_length END"
        )
    if column == "provider":
        return (
            f"CASE WHEN m.provider = w.provider OR {_given(column)} OR m.provider = {_LAST_PROVIDER}"
            " THEN w.provider ELSE m.provider END"
        )
    if column in catalog.OPERATOR_COLUMNS:
        return f"CASE WHEN {_given(column)} THEN w.{column} ELSE m.{column} END"
    return f"w.{column}"


#: Once a deployment with a price of its own has been called, LiteLLM lists these and dozens of nulls in its model_info,
#: which it had not before (seen on 1.81.14). Each process knows of its own calls alone, so replicas say different
#: things. None of it is a difference.
_FILLED_IN = ("key", "litellm_provider", "supported_openai_params")


def _said(metadata: str) -> str:
    """What a row's metadata says, without what LiteLLM fills in."""
    paths = "".join(f" #- '{{litellm_model_info,{name}}}'" for name in _FILLED_IN)
    has_info = f"jsonb_typeof({metadata} -> 'litellm_model_info') = 'object'"
    return f"CASE WHEN {has_info} THEN jsonb_strip_nulls({metadata}){paths} ELSE {metadata} END"


_COMPARED = tuple(column for column in catalog.COLUMNS if column != "id")
_DESIRED = {column: _desired(column) for column in _COMPARED}
_DIFFERS = {column: f"(m.{column} IS DISTINCT FROM {_DESIRED[column]})" for column in _COMPARED}
_DIFFERS["metadata"] = f"({_DIFFERS['metadata']} AND {_said('m.metadata')} IS DISTINCT FROM {_said('w.metadata')})"
_ANY_DIFFERS = " OR ".join(_DIFFERS.values())


def _if_differs(column: str, expression: str) -> str:
    return f"CASE WHEN {_DIFFERS[column]} THEN {expression} END" if column == "metadata" else expression


_DIFFERENCES = (
    f"SELECT w.id, w.mode, ARRAY[{', '.join(_DIFFERS.values())}],"
    # metadata is the bulk of a row: not sent where it is equal.
    f" {', '.join(_if_differs(column, 'm.' + column) for column in _COMPARED)},"
    f" {', '.join(_if_differs(column, _DESIRED[column]) for column in _COMPARED)}"
    f" FROM rhpds_want w JOIN models m ON m.id = w.id WHERE w.mode IN ('w', 'r') AND ({_ANY_DIFFERS})"
    " ORDER BY w.id"
)
_UPDATE = (
    f"UPDATE models m SET {', '.join(f'{column} = {_DESIRED[column]}' for column in _COMPARED)}, updated_at = now()"
    f" FROM rhpds_want w WHERE m.id = w.id AND w.mode = 'w' AND ({_ANY_DIFFERS})"
)
_INSERT = (
    f"INSERT INTO models ({', '.join(catalog.COLUMNS)}) SELECT {', '.join('w.' + c for c in catalog.COLUMNS)}"
    " FROM rhpds_want w WHERE w.mode = 'w' AND NOT EXISTS (SELECT FROM models m WHERE m.id = w.id)"
    " RETURNING id"
)
#: Operator's values that differ from what LiteLLM says, and that we leave alone.
_RESET_BY_BACKEND = ("name", "category", "provider", "context_length", "supports_streaming")
_IS_KEPT = {
    column: f"(m.{column} IS DISTINCT FROM w.{column} AND {_DIFFERS[column]} IS FALSE AND {_given(column)} IS NOT TRUE)"
    for column in _RESET_BY_BACKEND
}
_KEPT = (
    "SELECT w.id, array_remove(ARRAY["
    + ", ".join(f"CASE WHEN {test} THEN '{column}' END" for column, test in _IS_KEPT.items())
    + "], NULL) FROM rhpds_want w JOIN models m ON m.id = w.id WHERE w.mode IN ('w', 'r') AND ("
    + " OR ".join(_IS_KEPT.values())
    + ")"
)
