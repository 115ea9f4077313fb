# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making a proxy match a plan: reading what is there, writing, reading back, and rotating without losing a key."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, durations, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.planning import (
    Planner,
    unlisted,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.reading import (
    PAGE,
    KeyReader,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.references import (
    check_references,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.rows import (
    ROTATED,
    ROTATING,
    Observed,
    base_alias,
    generation_of,
    row_token,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.wanted import (
    COLUMNS,
    IN_METADATA,
    Wanted,
    labs_of,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import CREATE, DELETE, ROTATE, Step, same

#: Further fields that a rotation carries over to the new key.
CARRIED = (
    *COLUMNS,
    *("model_max_budget", "blocked", "budget_id", "organization_id", "aliases", "config", "permissions"),
    *("allowed_cache_controls", "router_settings", "access_group_ids", "policies"),
)
#: Restrictions that LiteLLM does not take over from one key to another: a key that has one isn't rotated.
NOT_CARRIED = ("object_permission_id", "project_id")
#: How many rotated-out keys in their time of grace a key's record names.
REMEMBERED = 5


class VirtualKeyResource(Planner):
    """Keys in one proxy (see ``reconcile``).

    Args:
        never_reuse: ask the archive of deleted keys before a value is made.
        models_checked: refuse models that the proxy doesn't have.
        report_unlisted: have ``read`` fill ``unlisted``.
        planning: of :class:`Planner`.
    """

    def __init__(
        self,
        client: LiteLLMClient,
        *,
        never_reuse: bool = True,
        models_checked: bool = True,
        report_unlisted: bool = False,
        workers: int = 8,
        **planning: Any,
    ) -> None:
        super().__init__(**planning)
        self.client = client
        self.never_reuse = never_reuse
        self.models_checked = models_checked
        self.report_unlisted = report_unlisted
        #: Aliases of the labs' keys that no item speaks of.
        self.unlisted: list[str] = []
        self.workers = workers
        self._reader = KeyReader(client, workers)

    # ---- reading ----

    def read(self, wanted: Sequence[Wanted]) -> list[Observed]:
        check_references(self.client, [item for item in wanted if not item.error], self.models_checked)
        able = [item for item in wanted if not item.error]
        rows = self._reader.live(able, labs_of(wanted) if self.report_unlisted else frozenset())
        if self.report_unlisted:
            self.unlisted = unlisted(wanted, rows)
        self.now = self.client.server_now()
        self._read_soft_budgets(able, rows)
        if self.never_reuse:
            steps = [step for item in able for step in self.steps(item, self.find(item, rows))]
            fresh = [step for step in steps if step.action in (CREATE, ROTATE)]
            self._used.update({step.name: step.extra["generation"] - 1 for step in fresh})
            self._find_free_values([step.wanted for step in fresh if step.wanted is not None])
        return rows

    def _find_free_values(self, fresh: Sequence[Wanted]) -> None:
        """Count up the generations in ``_used`` until nobody has, or had, the values that the items would get.

        Asked by value, not by alias: somebody may have renamed a key before it was deleted, or the living one.
        """
        if not fresh or not self.key_secret:
            return
        first, total, pages = self._reader.deleted_tokens({"page": 1})
        # A page takes the proxy as long as three single tokens.
        archived, one_by_one = set(first), len(fresh) < 3 * pages
        if not one_by_one:
            rest = self.client.map(
                lambda page: self._reader.deleted_tokens({"page": page})[0], range(2, pages + 1), self.workers
            )
            found = [*first, *(token for tokens in rest for token in tokens)]
            if len(found) < total:
                raise LiteLLMError(
                    f"GET {self.client.url}/key/list?status=deleted",
                    words=f"{len(found)} deleted keys in {pages} pages, {total} were announced",
                    advice="The proxy is unwell; run again",
                )
            archived.update(found)
        todo = list(fresh)
        while todo:
            planned: dict[str, tuple[Wanted, int]] = {}
            for item in todo:
                generation = self._next_generation(item)
                value = derive.key_value(self.key_secret, item.identities[0], str(item.alias), generation)
                planned[derive.token_of(value)] = item, generation
            aliases = {token: str(item.alias) for token, (item, _generation) in planned.items()}
            # A live one of the same alias has just been made by another run, with the value that we mean to give it.
            used = {
                row_token(row)
                for row in self._reader.by_token(list(planned), aliases)
                if base_alias(row) != aliases[row_token(row)]
            }
            if one_by_one:
                found = self.client.map(
                    lambda token: self._reader.deleted_tokens({"key_hash": token})[0], planned, self.workers
                )
                archived.update(token for tokens in found for token in tokens)
            todo = []
            for token in planned.keys() & (used | archived):
                item, generation = planned[token]
                self._used[str(item.alias)] = generation
                todo.append(item)

    def _read_soft_budgets(self, wanted: Sequence[Wanted], rows: Sequence[Observed]) -> None:
        """A key's budget row, which lists of older versions leave out, where somebody set one or means to."""
        aliases = {item.alias for item in wanted if item.soft_budget is not None}
        tokens = {
            row_token(row): str(row.get("key_alias"))
            for row in rows
            if not row.get("litellm_budget_table")
            and (
                base_alias(row) in aliases
                or "soft_budget" in (ownership.record(row.get("metadata")).get("fields") or ())
            )
        }
        budgets = {
            row_token(row): row.get("litellm_budget_table") for row in self._reader.by_token(list(tokens), tokens)
        }
        for row in rows:
            if row_token(row) in budgets:
                row["litellm_budget_table"] = budgets[row_token(row)]

    def read_back(
        self,
        steps: Sequence[Step[Wanted, Observed]],
        before: Sequence[Observed],  # noqa: ARG002
    ) -> list[Observed]:
        aliases = {}
        for step in steps:
            gone = step.action == DELETE and step.current is not None
            alias = (step.current or {}).get("key_alias") if gone else step.wanted and step.wanted.alias
            aliases[step.extra.get("token") or row_token(step.current or {})] = str(alias)
        rows = self._reader.by_token(list(aliases), aliases)
        there = {row_token(row) for row in rows}
        for step in steps:
            if step.extra.get("token") not in there:
                step.extra.update(value=None, source="unknown")
        return rows

    def expected(self, steps: Sequence[Step[Wanted, Observed]]) -> list[Wanted]:
        out = []
        for step in steps:
            if step.wanted is None:
                continue
            wanted = replace(
                step.wanted,
                rotate=False,
                rotate_created_before=None,
                extend=None,
                on_unrecoverable="ignore",
                token=step.wanted.token and step.extra["token"],
                gone=step.extra.get("gone", ()),
            )
            if "until" in step.extra:
                wanted = replace(wanted, duration=None, expires=step.extra["until"])
            out.append(wanted)
        return out

    # ---- writing ----

    def units(self, steps: Sequence[Step[Wanted, Observed]]) -> list[list[Step[Wanted, Observed]]]:
        deletes = [step for step in steps if step.action == DELETE]
        others = [[step] for step in steps if step.action != DELETE]
        return others + [deletes[start : start + PAGE] for start in range(0, len(deletes), PAGE)]

    def act(self, unit: list[Step[Wanted, Observed]]) -> None:
        if unit[0].action == DELETE:
            self._delete([row_token(step.current) for step in unit if step.current is not None])
            return
        for step in unit:
            if step.wanted is None:
                continue
            for row in step.extra.get("leftovers", ()):
                self._finish(row)
            if step.action == CREATE:
                self._create(step, step.wanted, None)
            elif step.action == ROTATE:
                self._rotate(step, step.wanted)
            else:
                self._update(step, step.wanted)

    def _seconds_until(self, target: datetime) -> str:
        return f"{max(1, round((target - self.client.server_now()).total_seconds()))}s"

    def _create(self, step: Step[Wanted, Observed], wanted: Wanted, old: Observed | None) -> None:
        generation = step.extra["generation"]
        now = self.client.server_now()
        fields = wanted.fields
        granted, target = now, self._first_until(wanted, now)
        if old is not None:
            fields = {**{name: old.get(name) for name in (*CARRIED, "spend")}, **fields, **step.extra["update"]}
            if "soft_budget" in step.extra["update"] or "soft_budget" in wanted.fields:
                fields.pop("budget_id")
            if not step.extra.get("renewed"):
                granted = self._granted_at(old)
            target = step.extra.get("until") or (durations.moment(old["expires"]) if old.get("expires") else None)
        ends = old is None or "until" in step.extra
        metadata = self._metadata(wanted, old, generation=generation, granted_at=granted, ends=ends)
        if old is not None and wanted.rotate_grace:
            # Which old values may still be alive: a large store is not searched for them.
            record = metadata[ownership.RECORD]
            record["aside"] = [*record.get("aside", ()), generation - 1][-REMEMBERED:]
        fields.update({name: metadata.pop(name, None) for name in IN_METADATA})
        body = {name: value for name, value in fields.items() if value not in (None, [], {})}
        body.update(key_alias=wanted.alias, metadata=metadata)
        if target is not None:
            body["duration"] = self._seconds_until(target)
        if self.key_secret:
            value = derive.key_value(self.key_secret, wanted.identities[0], str(wanted.alias), generation)
        else:
            # Chosen here, so that an answer that gets lost does not take the value with it.
            value = "sk-" + secrets.token_urlsafe(32)
        token = derive.token_of(value)

        def there() -> bool:
            return any(row.get("key_alias") == wanted.alias for row in self._reader.by_token([token]))

        try:
            self.client.create("/key/generate", {**body, "key": value}, took_effect=there)
        except LiteLLMError:
            # Another run may have made the same key at the same moment.
            if not self.key_secret or not there():
                raise
        step.extra.update(token=token, value=value, source="derived" if self.key_secret else "generated")
        if not self.key_secret:
            self._refuse_twin(step, str(wanted.alias))

    def _refuse_twin(self, step: Step[Wanted, Observed], alias: str) -> None:
        """LiteLLM checks an alias and then inserts, so that two random values made at once both stay.

        Whoever sees another key goes: then never two are left. So that one is, the lower token waits for the others
        to go first.
        """
        for attempt in range(4):
            others = [row_token(row) for row in self._reader.by_alias([alias]) if row_token(row) != step.extra["token"]]
            if not others:
                return
            if attempt == 3 or min(others) < step.extra["token"]:
                break
            time.sleep(0.5)
        self._delete([step.extra["token"]])
        step.extra.update(token=row_token(step.current) if step.current else None, value=None, source="unknown")
        raise LiteLLMError(
            f"POST {self.client.url}/key/generate",
            status=200,
            words="another run made a key of this alias at the same moment; ours was deleted again",
            advice="Use the other run's key, or a key_secret, with which both runs get the same one",
        )

    def _update(self, step: Step[Wanted, Observed], wanted: Wanted) -> None:
        row = step.current or {}
        token, update = row_token(row), dict(step.extra["update"])
        if update.get("budget_duration", "") is None:
            self._clear_budget_duration(token)
            del update["budget_duration"]
        body = {name: value for name, value in update.items() if name != "soft_budget" and name not in IN_METADATA}
        granted = self.client.server_now() if step.extra.get("renewed") else None
        metadata = self._metadata(wanted, row, granted_at=granted, ends="until" in step.extra)
        if not same(metadata, row.get("metadata") or {}):
            body["metadata"] = metadata
        if "until" in step.extra:
            body["duration"] = self._seconds_until(step.extra["until"])
        if "soft_budget" in update:
            self._write_soft_budget(row, update["soft_budget"])
        if body.get("team_id") and row.get("user_id"):
            self._join_team(token, str(row["user_id"]), body)
        elif body:
            self.client.post("/key/update", {**body, "key": token})

    def _join_team(self, token: str, user: str, body: dict[str, Any]) -> None:
        """LiteLLM lets the key of a user into a team only where the user is a member, and one without a user always."""
        user = str(body.pop("user_id", user))
        self.client.post("/key/update", {"key": token, "user_id": None})
        try:
            self.client.post("/key/update", {**body, "key": token})
        finally:
            self.client.post("/key/update", {"key": token, "user_id": user})

    def _clear_budget_duration(self, token: str) -> None:
        # Before anything else is written: where it can't be done, the next run has to see it wanted still.
        self.client.post("/key/update", {"key": token, "budget_duration": None})
        if any(row.get("budget_duration") for row in self._reader.by_token([token])):
            raise LiteLLMError(
                f"POST {self.client.url}/key/update",
                status=200,
                words="budget_duration stays",
                advice="This version of LiteLLM can't take it away from a live key: rotate it, or name another period",
            )

    def _write_soft_budget(self, row: Observed, value: float | None) -> None:
        budget = (row.get("litellm_budget_table") or {}).get("budget_id")
        if budget:
            self.client.post("/budget/update", {"budget_id": budget, "soft_budget": value})
            return
        made = self.client.create("/budget/new", {"soft_budget": value}, took_effect=lambda: None)
        self.client.post("/key/update", {"key": row_token(row), "budget_id": made["budget_id"]})

    def _rotate(self, step: Step[Wanted, Observed], wanted: Wanted) -> None:
        """Old one renamed, new one made and read back, then the old one deleted or left for its time of grace."""
        before = dict(step.extra)
        token = before["token"]
        # As it is now: with what it has spent meanwhile, and with its budget row.
        old = next(iter(self._reader.by_token([token])), None)
        if old is None:
            raise LiteLLMError(f"rotating {wanted.alias}", words="the key was deleted meanwhile", advice="Run again")
        bound = [name for name in NOT_CARRIED if old.get(name)]
        if bound:
            raise LiteLLMError(
                f"rotating {wanted.alias}",
                words=f"it has {' and '.join(bound)}, which a new key would not have",
                advice="Nothing was written; rotate it in LiteLLM's UI",
            )
        metadata = dict(old.get("metadata") or {})
        record = {**ownership.record(metadata), "replaced_by": step.extra["generation"]}
        record.pop("grace_until", None)
        if wanted.rotate_grace:
            grace = timedelta(seconds=wanted.rotate_grace)
            record["grace_until"] = durations.iso(self.client.server_now() + grace)
        scope = str(metadata.get("scope") or self.scope or "")
        marked = {**metadata, **ownership.mark(scope), ownership.RECORD: record}
        aside = {**old, "key_alias": f"{wanted.alias}{ROTATING}", "metadata": marked}
        self.client.post("/key/update", {name: aside[name] for name in ("key_alias", "metadata")} | {"key": token})
        try:
            self._create(step, wanted, {**old, "metadata": metadata})
            # Where this can't be read, the new value is in the result, and the next run finishes the old key.
            there = bool(self._reader.by_token([step.extra["token"]]))
        except LiteLLMError:
            if step.extra["token"] == token:
                self._put_back(step, before, metadata)
            raise
        if not there:
            self._put_back(step, before, metadata)
            raise LiteLLMError(f"POST {self.client.url}/key/generate", status=200, words="the new key is not there")
        self._finish(aside)

    def _put_back(self, step: Step[Wanted, Observed], before: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Give the old key its name again, as there is no new one."""
        step.extra.update(token=before["token"], value=before["value"], source=before["source"])
        alias = step.wanted.alias if step.wanted is not None else None
        # Where this fails too, the next run finds it by its alias.
        with contextlib.suppress(LiteLLMError):
            self.client.post("/key/update", {"key": before["token"], "key_alias": alias, "metadata": metadata})

    def _finish(self, old: Observed) -> None:
        """Delete a key that was rotated out, or let it live for the rest of its time of grace."""
        record = ownership.record(old.get("metadata"))
        until = durations.moment(record["grace_until"]) if record.get("grace_until") else None
        if until is None or until <= self.client.server_now():
            self._delete([row_token(old)])
            return
        body = {"key": row_token(old), "key_alias": f"{base_alias(old)}{ROTATED}{int(record['replaced_by']) - 1}"}
        if not old.get("expires") or durations.moment(old["expires"]) > until:
            body["duration"] = self._seconds_until(until)
        self.client.post("/key/update", body)

    def _delete(self, tokens: list[str]) -> None:
        if not tokens:
            return
        try:
            self.client.post("/key/delete", {"keys": tokens})
        except LiteLLMError as failure:
            if failure.status != 404:
                raise  # 404: none of them is there any more, which was wanted

    # ---- results ----

    def describe(self, step: Step[Wanted, Observed]) -> dict[str, Any]:
        """Further keys of an item's result, without the value."""
        row = step.current or {}
        after = {change.field: change.after for change in step.changes} if step.writes else {}
        metadata = row.get("metadata") or {}
        wanted = step.wanted
        return {
            "key_alias": (wanted.alias if wanted and wanted.alias else row.get("key_alias")),
            "token": step.extra.get("token") or (row_token(row) if row else None),
            "guid": (wanted.guid if wanted else None) or metadata.get("guid"),
            "generation": step.extra.get("generation") or (generation_of(row) or None),
            "expires": after.get("expires", row.get("expires")),
            "lives_longer": step.extra.get("lives_longer", False),
            "lives_for": wanted.lives_for if wanted and ("until" in step.extra or not row) else self.lives_for(row),
            "spend": after.get("spend", row.get("spend")),
            "user_id": (wanted.columns.get("user_id") if wanted else None) or row.get("user_id"),
            "key_source": step.extra.get("source"),
        }
