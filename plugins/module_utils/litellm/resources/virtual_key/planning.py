# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be done about a key: decided from what is wanted and what is there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, durations, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.rows import (
    ROTATED,
    ROTATING,
    Observed,
    base_alias,
    generation_of,
    guid_of,
    is_legacy,
    is_set_aside,
    row_token,
    uuid_of,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.wanted import (
    IN_METADATA,
    Wanted,
    labs_of,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import (
    CREATE,
    DELETE,
    FAIL,
    NONE,
    ROTATE,
    UPDATE,
    Change,
    Step,
    same,
)

#: What the older collection gives to its keys: declared no longer, it goes, as if we had written it.
LEGACY_FIELDS = (
    *("max_budget", "soft_budget", "budget_duration", "tpm_limit", "rpm_limit"),
    *("max_parallel_requests", "team_id"),
)
#: Seconds by which an expiry may be off before it counts as another one, for latency and the clock of a busy proxy: a
#: hundredth of the key's life, within these bounds.
TOLERANCE = (10, 300)


class Planner:
    """The pure half of the resource (see ``reconcile.plan``).

    Args:
        scope: written into the mark.
        key_secret: what values are derived from; None for random values.
        known_values: values that the caller still holds, or their sha256.
    """

    kind = "virtual key"

    def __init__(
        self,
        *,
        now: datetime,
        scope: str | None = None,
        key_secret: str | None = None,
        known_values: Iterable[str] = (),
    ) -> None:
        self.now = now
        self.scope = scope
        self.key_secret = key_secret
        self._known = {value if derive.is_token(value) else derive.token_of(value) for value in known_values if value}
        #: alias -> highest generation whose value was in use before, as far as was asked.
        self._used: dict[str, int] = {}
        self._indexed: Index | None = None

    # ---- what reconcile.plan asks ----

    def identity(self, observed: Observed) -> str:
        return row_token(observed)

    def find(self, wanted: Wanted, observed: Sequence[Observed]) -> list[Observed]:
        return self._index(observed).find(wanted)

    def _index(self, observed: Sequence[Observed]) -> Index:
        # One pass over the observed for a whole plan, not one an item.
        if self._indexed is None or self._indexed.of is not observed:
            self._indexed = Index(observed)
        return self._indexed

    def prunable(self, observed: Observed, scope: str) -> bool:
        return ownership.in_scope(observed.get("metadata"), scope)

    def removal(self, observed: Observed) -> Step[Wanted, Observed]:
        name = str(observed.get("key_alias") or row_token(observed)[:12])
        return Step(name, DELETE, current=observed, changes=[Change("token", row_token(observed), None)])

    def _of_lab(self, wanted: Wanted, row: Observed) -> bool:
        """Whether a key that an item's guid has led to may be touched: ours, or declared as the lab's by its alias."""
        return ownership.is_ours(row.get("metadata")) or is_legacy(row, wanted.guid, wanted.legacy)

    def _leaving(self, wanted: Wanted, row: Observed) -> Step[Wanted, Observed]:
        step = self.removal(row)
        if not wanted.alias and not wanted.token and not self._of_lab(wanted, row):
            text = f"carries guid {wanted.guid} but not our mark: left alone; delete it by its alias"
            return Step(step.name, NONE, current=row, note=text, extra={"said": "left alone (not marked ours)"})
        if not wanted.alias and not wanted.token and not ownership.is_ours(row.get("metadata")):
            step.note = "not marked as ours; its alias matches legacy_aliases"
        self._refuse(step, wanted, row, None, None)
        return step

    def steps(self, wanted: Wanted, found: list[Observed]) -> list[Step[Wanted, Observed]]:
        if wanted.error:
            return [Step(wanted.name, FAIL, wanted=wanted, error=wanted.error)]
        if wanted.state == "absent":
            return [self._leaving(wanted, row) for row in found] or [
                Step(wanted.name, NONE, wanted=wanted, note="not there", extra={"said": "not there"})
            ]
        if not found and (wanted.alias is None or wanted.token is not None):
            return [Step(wanted.name, FAIL, wanted=wanted, error="no such key")]
        if wanted.token is not None:
            alias = str(found[0].get("key_alias") or "")
            if is_set_aside(found[0]):
                error = f"is the old value of {base_alias(found[0])}, rotated out: it can only be deleted"
                return [Step(alias, FAIL, wanted=wanted, error=error)]
            return [self._one(replace(wanted, alias=alias), found[0], [])]
        if wanted.alias is not None:
            return [self._of_alias(wanted, found)]
        # An instruction about every key of a lab: one step a key, named by its alias.
        found = [row for row in found if self._of_lab(wanted, row)]
        groups: dict[str, list[Observed]] = {}
        for row in found:
            groups.setdefault(base_alias(row) or row_token(row), []).append(row)
        steps = []
        for rows in groups.values():
            if not base_alias(rows[0]):
                steps.append(self._one(replace(wanted, alias="", token=row_token(rows[0])), rows[0], []))
            elif any(not str(row["key_alias"]).startswith(base_alias(row) + ROTATED) for row in rows):
                steps.append(self._of_alias(replace(wanted, alias=base_alias(rows[0])), rows))
        return steps or [Step(wanted.name, FAIL, wanted=wanted, error="no such key")]

    def _of_alias(self, wanted: Wanted, found: list[Observed]) -> Step[Wanted, Observed]:
        live = [row for row in found if not is_set_aside(row)]
        aside = [row for row in found if row not in live]
        if len(live) > 1:
            tokens = ", ".join(sorted(row_token(row)[:12] for row in live))
            text = f"{len(live)} keys have this alias (tokens {tokens}…): delete all but one by token"
            return Step(wanted.name, FAIL, wanted=wanted, error=text)
        if not live:
            # A rotation was killed before it had made the new key.
            live = [row for row in aside if str(row["key_alias"]).endswith(ROTATING)][:1]
            aside = [row for row in aside if row not in live]
        if live:
            return self._one(wanted, live[0], aside)
        if wanted.state == "existing":
            return Step(wanted.name, FAIL, wanted=wanted, error="no such key")
        return self._creation(wanted, aside)

    def _creation(self, wanted: Wanted, aside: list[Observed]) -> Step[Wanted, Observed]:
        changes = [Change("key_alias", None, wanted.alias)]
        changes += [Change(name, None, value) for name, value in sorted(wanted.fields.items())]
        changes += [Change(f"metadata.{name}", None, value) for name, value in sorted(wanted.metadata.items())]
        target = self._first_until(wanted, self.now)
        if target is not None:
            changes.append(Change("expires", None, durations.iso(target)))
        leftovers = self._leftovers(aside)
        changes += [Change("rotated-out key", str(one["key_alias"]), None) for one in leftovers]
        step: Step[Wanted, Observed] = Step(wanted.name, CREATE, wanted=wanted, changes=changes)
        step.extra.update(generation=self._next_generation(wanted, aside), leftovers=leftovers)
        return step

    def _next_generation(self, wanted: Wanted, rows: Iterable[Observed] = ()) -> int:
        return 1 + max([self._used.get(str(wanted.alias), 0), *(generation_of(row) for row in rows)])

    def _leftovers(self, aside: list[Observed]) -> list[Observed]:
        """Rotated-out keys whose time of grace is over, or that a killed run did not finish off."""
        left = []
        for row in aside:
            until = ownership.record(row.get("metadata")).get("grace_until")
            if str(row["key_alias"]).endswith(ROTATING) or not until or durations.moment(until) <= self.now:
                left.append(row)
        return left

    def _one(self, wanted: Wanted, row: Observed, aside: list[Observed]) -> Step[Wanted, Observed]:
        # Whoever knows the guid alone means the same lab, and its next value comes from the uuid as the first one did.
        wanted = replace(wanted, uuid=wanted.uuid or uuid_of(row) or None)
        step: Step[Wanted, Observed] = Step(wanted.name, UPDATE, wanted=wanted, current=row)
        value, source = self.value_of(row, wanted)
        step.extra.update(token=row_token(row), value=value, source=source, leftovers=self._leftovers(aside))
        reason = self._rotation(wanted, row, value)
        self._refuse(step, wanted, row, value, reason)
        if step.action == FAIL:
            return step
        self._compare(wanted, row, step)
        if step.action == FAIL:
            return step
        if reason is not None and not row.get("expires") and not ownership.is_ours(row.get("metadata")):
            self._end_what_never_did(wanted, step)
        step.changes += [Change("rotated-out key", str(one["key_alias"]), None) for one in step.extra["leftovers"]]
        if reason is not None:
            step.action = ROTATE
            step.note = reason
            step.extra["generation"] = self._next_generation(wanted, [row, *aside])
            step.changes.insert(0, Change("generation", generation_of(row) or None, step.extra["generation"]))
        elif not step.changes:
            step.action = NONE
        return step

    def _refuse(
        self, step: Step[Wanted, Observed], wanted: Wanted, row: Observed, value: str | None, reason: str | None
    ) -> None:
        guid = (row.get("metadata") or {}).get("guid")
        if guid and wanted.guid and str(guid) != wanted.guid:
            step.error = f"belongs to guid {guid}, not to {wanted.guid}: choose another alias, or leave guid out"
            step.extra.update(value=None, source="unknown")  # which is the other lab's
        elif reason is not None and not wanted.alias:
            step.error = "has no alias, so it can't be rotated: give it one first"
        elif reason is None and value is None and wanted.on_unrecoverable == "fail" and wanted.state == "present":
            step.error = self._why_unknown(row, wanted)
        if step.error:
            step.action = FAIL

    # ---- values ----

    def value_of(self, row: Observed, wanted: Wanted) -> tuple[str | None, str]:
        """A live key's value and where we know it from: derived, given (the caller has it), or unknown (None)."""
        token = row_token(row)
        generation = generation_of(row)
        if self.key_secret and generation and not self._of_former_lab(row, wanted):
            alias = base_alias(row)
            for identity in dict.fromkeys([*wanted.identities, uuid_of(row), guid_of(row)]):
                value = derive.key_value(self.key_secret, identity, alias, generation)
                if derive.token_of(value) == token:
                    return value, "derived"
        if token in self._known:
            return "", "given"
        return None, "unknown"

    def _of_former_lab(self, row: Observed, wanted: Wanted) -> bool:
        """Whether a key is that of another lab, which had the same guid before."""
        return bool(wanted.uuid) and uuid_of(row) not in ("", wanted.uuid)

    def _why_unknown(self, row: Observed, wanted: Wanted) -> str:
        if self._of_former_lab(row, wanted):
            why = f"it belongs to another lab, the one with uuid {uuid_of(row)}, which may have had the guid before"
        elif not self.key_secret:
            why = "its value was random and there is no key_secret; no known_values entry matches it"
        elif generation_of(row):
            why = "its value was derived from another key_secret, guid or uuid"
        else:
            why = "it was not made by this collection and no known_values entry matches it"
        return (
            f"exists, but its value can't be known: {why}. Give the value in known_values, let it be replaced with"
            " on_unrecoverable=rotate, or manage it without its value with on_unrecoverable=ignore"
        )

    def _rotation(self, wanted: Wanted, row: Observed, value: str | None) -> str | None:
        if wanted.rotate:
            return "rotation asked for"
        before = wanted.rotate_created_before
        created = row.get("created_at")
        if before is not None and created and durations.moment(created) < before:
            return f"created before {durations.iso(before)}"
        if value is None and wanted.on_unrecoverable == "rotate" and wanted.state == "present":
            return "its value can't be known"
        return None

    # ---- comparison ----

    def _observed_field(self, row: Observed, name: str) -> Any:
        if name in IN_METADATA:
            return (row.get("metadata") or {}).get(name)
        if name == "soft_budget":
            return (row.get("litellm_budget_table") or {}).get("soft_budget")
        if name == "blocked":
            return bool(row.get("blocked"))
        return row.get(name)

    def _compare(self, wanted: Wanted, row: Observed, step: Step[Wanted, Observed]) -> None:
        metadata = row.get("metadata") or {}
        record = ownership.record(metadata)
        update: dict[str, Any] = {}
        for name, value in sorted(wanted.fields.items()):
            observed = self._observed_field(row, name)
            if not _alike(name, value, observed):
                step.changes.append(Change(name, observed, value))
                update[name] = value
        declared = wanted.state == "present"
        if declared:
            had = {*(record.get("fields") or ()), *wanted.gone}
            if is_legacy(row, wanted.guid, wanted.legacy):
                had.update(LEGACY_FIELDS)
            step.extra["gone"] = tuple(sorted(had - set(wanted.fields)))
            for name in step.extra["gone"]:
                self._take_away(name, row, wanted, step, update)
        if is_set_aside(row):
            step.changes.append(Change("key_alias", row["key_alias"], wanted.alias))
            update["key_alias"] = wanted.alias
        merged = self._metadata(wanted, row)
        for name in sorted(set(merged) | set(metadata)):
            if name in IN_METADATA or name == ownership.RECORD:
                continue
            if not same(merged.get(name), metadata.get(name)):
                step.changes.append(Change(f"metadata.{name}", metadata.get(name), merged.get(name)))
        if declared and not ownership.is_ours(metadata):
            step.note = "adopted"
        if not step.changes and (merged.get(ownership.RECORD) or {}) != record:
            step.changes.append(Change("managed fields", None, "recorded"))
        self._compare_use(wanted, row, step, update)
        self._compare_expiry(wanted, row, step)
        step.extra["update"] = update

    def _take_away(
        self, name: str, row: Observed, wanted: Wanted, step: Step[Wanted, Observed], update: dict[str, Any]
    ) -> None:
        observed = self._observed_field(row, name)
        if observed in (None, [], {}, False):
            return
        if name == "budget_duration" and "max_budget" not in wanted.columns:
            return  # it means nothing without a budget, and not every version can take it away
        step.changes.append(Change(name, observed, None))
        update[name] = {"models": [], "allowed_routes": [], "blocked": False, "model_max_budget": {}}.get(name)

    def _compare_use(self, wanted: Wanted, row: Observed, step: Step[Wanted, Observed], update: dict[str, Any]) -> None:
        """Blocked, or past its budget: an error unless told what to do, since the key could not be called."""
        if row.get("blocked") and wanted.blocked is None and "blocked" not in update:
            if wanted.unblock:
                step.changes.append(Change("blocked", True, False))
                update["blocked"] = False
            elif wanted.require_usable:
                step.action = FAIL
                step.error = "is blocked: unblock it with unblock, or declare it with blocked"
                return
        budget = wanted.columns.get("max_budget", None if "max_budget" in update else row.get("max_budget"))
        spend = row.get("spend") or 0.0
        if budget is not None and spend >= budget and spend > 0:
            if wanted.reset_spend:
                step.changes.append(Change("spend", spend, 0.0))
                update["spend"] = 0.0
            elif wanted.require_usable:
                step.action = FAIL
                step.error = f"has spent {spend:.4f} of its budget of {budget}: set reset_spend, or raise max_budget"

    def _compare_expiry(self, wanted: Wanted, row: Observed, step: Step[Wanted, Observed]) -> None:
        if step.action == FAIL:
            return
        expires = durations.moment(row["expires"]) if row.get("expires") else None
        expired = expires is not None and expires <= self.now
        renewed = expired and wanted.extend is None
        start = self.now if expired or wanted.extend is not None else self._granted_at(row)
        if wanted.extend is not None:
            target: datetime | None = self.now + timedelta(seconds=wanted.extend)
        else:
            target = self._granted_until(wanted, start)
        if renewed and (target is None or not wanted.renew):
            if wanted.require_usable:
                step.action = FAIL
                step.error = f"expired on {row['expires']}: give a duration or expires, with renew, or extend it"
            return
        if target is None:
            return
        tolerance = min(max((target - start).total_seconds() / 100, TOLERANCE[0]), TOLERANCE[1])
        if expires is not None and not expired and abs((target - expires).total_seconds()) <= tolerance:
            return
        if expires is None or target < expires:
            if not wanted.allow_shorten:
                lives = f"lives until {row['expires']}, longer than asked" if expires else "never expires"
                step.note = f"{lives}; allow_shorten cuts it"
                step.extra["lives_longer"] = True
                return
            if target <= self.now:
                step.action = FAIL
                step.error = (
                    f"would have ended on {durations.iso(target)}: give expires, or remove it with state absent"
                )
                return
        step.changes.append(Change("expires", row.get("expires"), durations.iso(target)))
        # Seconds from the moment of writing: a plan may wait its turn behind a thousand others.
        step.extra["until"] = target
        step.extra["renewed"] = renewed

    def _end_what_never_did(self, wanted: Wanted, step: Step[Wanted, Observed]) -> None:
        """The key that takes the place of one that we did not make lives as long as declared, from now."""
        target = self._granted_until(wanted, self.now)
        if target is not None and "until" not in step.extra:
            step.changes.append(Change("expires", None, durations.iso(target)))
            step.extra.update(until=target, renewed=True, lives_longer=False)

    def lives_for(self, row: Observed) -> str:
        """How long a key lives, as people say it: what it was last given, else from its making to its end."""
        recorded = str(ownership.record(row.get("metadata")).get("lives_for") or "")
        if recorded or not row.get("expires"):
            return recorded
        return durations.text((durations.moment(row["expires"]) - self._granted_at(row)).total_seconds())

    def _granted_at(self, row: Observed) -> datetime:
        """When the key's life began: made, or renewed after it had expired."""
        recorded = ownership.record(row.get("metadata")).get("granted_at") or row.get("created_at")
        return durations.moment(recorded) if recorded else self.now

    def _first_until(self, wanted: Wanted, now: datetime) -> datetime | None:
        """The end of a key that is made now."""
        until = self._granted_until(wanted, now)
        return now + timedelta(seconds=wanted.extend) if until is None and wanted.extend is not None else until

    def _granted_until(self, wanted: Wanted, grant: datetime) -> datetime | None:
        if wanted.expires is not None:
            return wanted.expires
        if wanted.duration is not None:
            return grant + timedelta(seconds=durations.seconds(wanted.duration))
        return None

    def _metadata(
        self,
        wanted: Wanted,
        row: Observed | None,
        *,
        generation: int | None = None,
        granted_at: datetime | None = None,
        ends: bool = False,
    ) -> dict[str, Any]:
        """The whole metadata to write: what others put there, ours over it, our mark and record."""
        before = dict((row or {}).get("metadata") or {})
        record = ownership.record(before)
        if wanted.state == "existing" and not ownership.is_ours(before) and generation is None and granted_at is None:
            return {**before, **wanted.metadata, **wanted.in_metadata}
        fields, names = sorted(wanted.fields), sorted(wanted.metadata)
        if "budget_duration" in (record.get("fields") or ()) and "max_budget" not in wanted.columns:
            fields = sorted({*fields, "budget_duration"})  # left where it is, and not forgotten: see _take_away
        if wanted.state == "existing":
            fields = sorted({*fields, *(record.get("fields") or ())})
            names = sorted({*names, *(record.get("metadata") or ())})
        for name in set(record.get("metadata") or ()) - set(names):
            before.pop(name, None)
        for name in set(record.get("fields") or ()) - set(fields):
            if name in IN_METADATA:
                before.pop(name, None)
        scope = self.scope if self.scope is not None else str(before.get("scope") or "")
        record.update(fields=fields, metadata=names)
        for name in ("grace_until", "replaced_by"):
            record.pop(name, None)
        if generation is not None:
            record["generation"] = generation
        if granted_at is not None:
            record["granted_at"] = durations.iso(granted_at)
        if ends:
            # Its end is written with it: as declared, where that was said as a time to live.
            record["lives_for"] = wanted.lives_for
        merged = {**before, **wanted.metadata, **wanted.in_metadata, **ownership.mark(scope)}
        merged = {name: value for name, value in merged.items() if value or name not in IN_METADATA}
        if wanted.guid:
            merged["guid"] = wanted.guid
        if wanted.uuid and (generation is not None or not uuid_of({"metadata": before})):
            # A former lab's stays as long as the value does: else the value would pass for the new lab's.
            merged["uuid"] = wanted.uuid
        merged[ownership.RECORD] = record
        return merged


class Index:
    """Observed keys by alias, token and guid."""

    def __init__(self, observed: Sequence[Observed]) -> None:
        self.of = observed
        self._aliases: dict[str, list[Observed]] = {}
        self._tokens: dict[str, Observed] = {}
        self._guids: dict[str, list[Observed]] = {}
        for row in observed:
            self._aliases.setdefault(base_alias(row), []).append(row)
            self._tokens[row_token(row)] = row
            if guid_of(row):
                self._guids.setdefault(guid_of(row), []).append(row)

    def find(self, wanted: Wanted) -> list[Observed]:
        if wanted.token:
            row = self._tokens.get(wanted.token)
            return [row] if row else []
        if wanted.alias:
            return self._aliases.get(wanted.alias, [])
        rows = list(self._guids.get(wanted.guid or "", []))
        if wanted.legacy:
            rows += [row for row in self.of if not guid_of(row) and is_legacy(row, wanted.guid, wanted.legacy)]
        return sorted(rows, key=lambda row: (str(row.get("key_alias")), row_token(row)))


def unlisted(wanted: Sequence[Wanted], observed: Sequence[Observed]) -> list[str]:
    """Aliases of keys that belong to the items' labs and that no item speaks of. Pure.

    What a rotation has put aside is no key of its own; where it was killed before there was a new one, it still is.
    """
    index = Index(observed)
    # An item that names no key has a guid from beside the list only.
    speaking = [item for item in wanted if item.alias or item.token or not item.error]
    spoken = {row_token(row) for item in speaking for row in index.find(item)}
    labs = labs_of(wanted)
    guids = {guid for guid, _patterns_of_lab in labs}
    found = set()
    for row in observed:
        if row_token(row) in spoken or (is_set_aside(row) and not str(row["key_alias"]).endswith(ROTATING)):
            continue
        marked = ownership.is_ours(row.get("metadata")) and guid_of(row) in guids
        if marked or any(is_legacy(row, guid, patterns) for guid, patterns in labs):
            found.add(base_alias(row))
    return sorted(found - {""}, key=_naturally)


def _naturally(alias: str) -> tuple[list[str | int], str]:
    """So that user2 comes before user10."""
    parts = re.split(r"([0-9]+)", alias)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], alias


def _alike(name: str, wanted: Any, observed: Any) -> bool:
    if name in ("models", "allowed_routes", "tags", "guardrails"):
        # The order means nothing to LiteLLM.
        return sorted(map(str, wanted or ())) == sorted(map(str, observed or ()))
    return same(wanted, observed) or (wanted == {} and observed is None)
