# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A team in a LiteLLM proxy: identity, fields, endpoints and quirks, and the keys that go with it.

Facts about LiteLLM that shape this file (seen on 1.81.14 and 1.106.0):

- A team's id can be chosen and is the primary key. A second create answers 400 "already exists", or 500 when both came
  at once, and changes nothing. Of eight at once, one row was left. ``team_alias`` need not be unique. An empty id is
  taken for an id by 1.81.14, and replaced by a random one by 1.106.0.
- ``/team/update`` merges: what it doesn't name stays. Null clears every limit, the alias and ``budget_duration``;
  ``models`` is emptied by ``[]`` and answers 500 to null. ``metadata`` is replaced, never merged. Older versions leave
  ``budget_reset_at`` behind a cleared ``budget_duration``. An unknown id answers 404.
- ``max_parallel_requests`` and ``spend`` are accepted and not written, at any time. Unknown models are accepted, and
  unknown budget durations in older versions.
- ``/team/block`` answers 200, but a replica that has the team in memory goes on serving its keys; ``blocked`` in
  ``/team/update`` is in force at once. So that is used.
- ``/team/info`` carries a team's keys. ``/v2/team/list`` doesn't; its ``team_id`` matches exactly, and it gives 100
  rows a page at most.
- ``/team/delete`` **deletes the team's keys too**, unasked, into the archive of deleted keys. But it leaves them in a
  replica's memory: 1.81.14 took calls with such a key for another minute. ``/key/delete`` ends that at once, on the
  replica asked. One unknown id among several: 404 and none is deleted. The id may be used again.
- ``/key/generate`` accepts a team that doesn't exist. With such a key 1.81.14 takes calls as if it had no team, without
  any of a team's limits; 1.106.0 refuses them. ``/team/delete`` answers 404 for that team and leaves the key.
- A key whose team is past its budget, over its limits or blocked, or may not call the model, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.listing import Page, read_list
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.model_names import ModelNames
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import list_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.rows import guid_of
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import (
    CREATE,
    DELETE,
    FAIL,
    NONE,
    UPDATE,
    Change,
    Step,
    same,
)

Observed = dict[str, Any]

PAGE = 100
#: How often a team's keys are deleted until none is left.
PASSES = 3
#: Fields of a team's row that an item sets.
FIELDS = (
    "team_alias",
    "models",
    "max_budget",
    "soft_budget",
    "budget_duration",
    "tpm_limit",
    "rpm_limit",
    "blocked",
)
#: What a field is set to when it is no longer wanted; all others to null.
EMPTY: dict[str, Any] = {"models": [], "blocked": False}
LONGEST = 255
#: Keys that an error names; the rest is counted.
NAMED = 3
#: A team has no uuid of ours.
_RESERVED_METADATA = ownership.KEPT - {"uuid"}
_LARGEST = {"tpm_limit": 2**63 - 1, "rpm_limit": 2**63 - 1, "max_budget": 1e15, "soft_budget": 1e15}
#: In an observed row: the keys with its team_id, read where the team is to go.
KEYS = "rhpds_keys"
#: In an observed row: there is no such team, only keys that name it.
MISSING = "rhpds_missing"


@dataclass
class Wanted:
    """A team as declared. ``error`` tells why it can't be acted on."""

    team_id: str | None = None
    guid: str | None = None
    state: str = "present"
    fields: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    adopt: bool = True
    remove_keys: bool = False
    error: str = ""

    @property
    def name(self) -> str:
        return self.team_id or (f"teams of guid {self.guid}" if self.guid else "nameless team")


def wanted_from_options(options: Mapping[str, Any]) -> Wanted:
    """One item of ``teams:`` with the top-level options filled in; never raises, see ``error``."""
    item = Wanted(
        team_id=options.get("team_id"),
        guid=options.get("guid") or None,
        state=options.get("state") or "present",
        fields={name: options[name] for name in FIELDS if options.get(name) is not None},
        metadata={name: value for name, value in (options.get("metadata") or {}).items() if value is not None},
        adopt=options.get("adopt") is not False,
        remove_keys=bool(options.get("remove_keys")),
    )
    problems = _problems(item)
    if "budget_duration" in item.fields:
        try:
            item.fields["budget_duration"] = durations.budget_duration(item.fields["budget_duration"])
        except ValueError as problem:
            problems.append(f"budget_duration: {problem}")
    item.error = "; ".join(problems)
    return item


def _problems(item: Wanted) -> list[str]:
    problems = []
    for name, text in (("team_id", item.team_id), ("team_alias", item.fields.get("team_alias"))):
        if text is None:
            continue
        if not text.strip() or text != text.strip():
            problems.append(f"{name} is empty, or begins or ends with white space")
        if len(text) > LONGEST:
            problems.append(f"{name} has {len(text)} characters; {LONGEST} at most")
        if any(ord(one) < 32 or ord(one) == 127 or 0xD800 <= ord(one) < 0xE000 for one in text):
            problems.append(f"{name} has a line break or another control character")
    if item.team_id is None and item.state == "present":
        problems.append("team_id is missing")
    elif item.team_id is None and not item.guid:
        problems.append("one of team_id and guid is needed")
    for name, largest in _LARGEST.items():
        value = item.fields.get(name)
        if value is not None and not 0 <= value <= largest:
            problems.append(f"{name} is {value}; it must be zero or more, and no larger than LiteLLM can store")
    reserved = sorted(_RESERVED_METADATA & item.metadata.keys())
    if reserved:
        problems.append(f"metadata.{reserved[0]} is set by this module; leave it out or use the option of that name")
    return problems


class TeamResource:
    """Teams in one proxy (see ``reconcile``).

    Args:
        scope: written into the mark; None keeps the one that a team has.
        models_checked: refuse models that the proxy doesn't have.
    """

    kind = "team"

    def __init__(
        self, client: LiteLLMClient, *, scope: str | None = None, models_checked: bool = True, workers: int = 8
    ) -> None:
        self.client = client
        self.scope = scope
        self.models_checked = models_checked
        self.workers = workers

    # ---- pure: what reconcile.plan asks ----

    def identity(self, observed: Observed) -> str:
        return str(observed["team_id"])

    def find(self, wanted: Wanted, observed: Sequence[Observed]) -> list[Observed]:
        if wanted.team_id is not None:
            return [row for row in observed if row["team_id"] == wanted.team_id]
        ours = [row for row in observed if ownership.is_ours(row.get("metadata"))]
        found = [row for row in ours if row["metadata"].get("guid") == wanted.guid]
        return sorted(found, key=self.identity)

    def prunable(self, observed: Observed, scope: str) -> bool:
        return ownership.in_scope(observed.get("metadata"), scope)

    def removal(self, observed: Observed) -> Step[Wanted, Observed]:
        changes = [] if observed.get(MISSING) else [Change("team_id", self.identity(observed), None)]
        return Step(self.identity(observed), DELETE, current=observed, changes=changes)

    def steps(self, wanted: Wanted, found: list[Observed]) -> list[Step[Wanted, Observed]]:
        if wanted.error:
            return [Step(wanted.name, FAIL, wanted=wanted, error=wanted.error)]
        if wanted.state == "absent":
            return [self._leaving(wanted, row) for row in found] or [
                Step(wanted.name, NONE, wanted=wanted, note="not there", extra={"said": "not there"})
            ]
        return [self._one(wanted, found[0]) if found else self._creation(wanted)]

    def _leaving(self, wanted: Wanted, row: Observed) -> Step[Wanted, Observed]:
        step = self.removal(row)
        step.wanted = wanted
        names = key_names(row.get(KEYS) or ())
        foreign = self._foreign(wanted, row)
        if foreign:
            step.action, step.error = FAIL, foreign
        elif wanted.remove_keys and (others := _of_other_labs(row.get(KEYS) or (), wanted, row)):
            step.action, step.error = FAIL, others
        elif wanted.remove_keys:
            step.changes = [*(Change("key", name, None) for name in names), *step.changes]
            if row.get(MISSING):
                step.note = "the team is gone already, keys that name it were left"
        elif row.get(MISSING):
            step.action = NONE
            step.note = f"not there, but {_counted(names)} still named after it: remove_keys deletes them"
            step.extra["said"] = "not there"
        elif names:
            step.action = FAIL
            step.error = f"has {_counted(names)}, which LiteLLM would delete with it: allow that with remove_keys"
        return step

    def _foreign(self, wanted: Wanted, row: Observed) -> str:
        guid = (row.get("metadata") or {}).get("guid")
        if guid and wanted.guid and str(guid) != wanted.guid:
            return f"belongs to guid {guid}, not to {wanted.guid}: choose another team_id, or leave guid out"
        return ""

    def _creation(self, wanted: Wanted) -> Step[Wanted, Observed]:
        changes = [Change("team_id", None, wanted.team_id)]
        changes += [Change(name, None, value) for name, value in sorted(wanted.fields.items())]
        changes += [Change(f"metadata.{name}", None, value) for name, value in sorted(wanted.metadata.items())]
        return Step(wanted.name, CREATE, wanted=wanted, changes=changes)

    def _one(self, wanted: Wanted, row: Observed) -> Step[Wanted, Observed]:
        step: Step[Wanted, Observed] = Step(wanted.name, UPDATE, wanted=wanted, current=row)
        ours = ownership.is_ours(row.get("metadata"))
        step.error = self._foreign(wanted, row)
        if not ours and not wanted.adopt:
            step.error = "exists and was made by other means: choose another team_id, or take it over with adopt"
        if step.error:
            step.action = FAIL
            return step
        if not ours:
            step.note = "adopted"
        update = {name: value for name, value in wanted.fields.items() if not _alike(name, value, row.get(name))}
        record = ownership.record(row.get("metadata"))
        had = record.get("fields") or ()
        for name in FIELDS:
            if name in had and name not in wanted.fields and row.get(name) not in (EMPTY.get(name), None, ""):
                update[name] = EMPTY.get(name)
        step.changes = [Change(name, row.get(name), update[name]) for name in sorted(update)]
        before, after = row.get("metadata") or {}, self._metadata(wanted, row)
        for name in sorted((before.keys() | after.keys()) - {ownership.RECORD}):
            if not same(after.get(name), before.get(name)):
                step.changes.append(Change(f"metadata.{name}", before.get(name), after.get(name)))
        if not step.changes and after[ownership.RECORD] != record:
            step.changes.append(Change("managed fields", None, "recorded"))
        if not same(after, before):
            update["metadata"] = after
        step.extra["update"] = update
        if not step.changes:
            step.action = NONE
        return step

    def _metadata(self, wanted: Wanted, row: Observed | None) -> dict[str, Any]:
        """The whole metadata to write: what others put there, ours over it, our mark and record."""
        before = dict((row or {}).get("metadata") or {})
        record = ownership.record(before)
        for name in record.get("metadata") or ():
            # Anybody who may write metadata may have written the record.
            if isinstance(name, str) and name not in _RESERVED_METADATA:
                before.pop(name, None)
        scope = self.scope if self.scope is not None else str(before.get("scope") or "")
        merged = {**before, **wanted.metadata, **ownership.mark(scope)}
        if wanted.guid:
            merged["guid"] = wanted.guid
        merged[ownership.RECORD] = {**record, "fields": sorted(wanted.fields), "metadata": sorted(wanted.metadata)}
        return merged

    # ---- speaking to the proxy ----

    def read(self, wanted: Sequence[Wanted]) -> list[Observed]:
        named = [item for item in wanted if item.state == "present" and item.fields.get("models") and not item.error]
        if named and self.models_checked:
            names = ModelNames(self.client)
            for item in named:
                item.error = names.problem(item.fields["models"])
        return self._read([item for item in wanted if not item.error])

    def _read(self, wanted: Sequence[Wanted]) -> list[Observed]:
        ids = list(dict.fromkeys(str(item.team_id) for item in wanted if item.team_id is not None))
        if any(item.team_id is None for item in wanted):
            rows = self._all()
        else:
            rows = [row for row in self.client.map(self._team, ids, self.workers) if row]
        leaving = [item for item in wanted if item.state == "absent"]
        ends = {row["team_id"]: row for item in leaving for row in self.find(item, rows)}
        for team_id in {str(item.team_id) for item in leaving if item.team_id is not None} - ends.keys():
            ends[team_id] = {"team_id": team_id, MISSING: True}
        # One after the other: each reads its pages with all workers.
        for team_id, row in ends.items():
            row[KEYS] = self._keys(team_id, self.workers)
        return rows + [row for row in ends.values() if row.get(MISSING) and row[KEYS]]

    def _team(self, team_id: str) -> Observed | None:
        rows = self._page(1, {"team_id": team_id})["teams"]
        return next((row for row in rows if row["team_id"] == team_id), None)

    def _all(self) -> list[Observed]:
        def page(number: int) -> Page:
            answer = self._page(number)
            return answer["teams"], answer["total"], answer["total_pages"]

        return read_list(self.client, "/v2/team/list", "teams", "team_id", page, workers=self.workers)

    def _page(self, number: int, filters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        params = {"page": number, "page_size": PAGE, "sort_by": "team_id", "sort_order": "asc", **(filters or {})}
        answer = self.client.get("/v2/team/list", params)
        told = isinstance(answer, dict) and {"teams", "total", "total_pages"} <= answer.keys()
        if not told or not all(isinstance(row, dict) and "team_id" in row for row in answer["teams"]):
            raise LiteLLMError(
                f"GET {self.client.url}/v2/team/list", words="the answer is no list of teams", advice="Not acting on it"
            )
        return dict(answer)

    def _keys(self, team_id: str, workers: int = 1) -> list[Observed]:
        rows = list_keys(self.client, {"team_id": team_id}, workers)
        return [row for row in rows if row.get("team_id") == team_id]

    def read_back(
        self,
        steps: Sequence[Step[Wanted, Observed]],
        before: Sequence[Observed],  # noqa: ARG002
    ) -> list[Observed]:
        # By the id that each step was about: a guid's marked teams are gone by now.
        asked = [
            Wanted(
                team_id=self.identity(step.current) if step.current else step.wanted.team_id, state=step.wanted.state
            )
            for step in steps
            if step.wanted is not None
        ]
        return self._read(asked)

    def expected(self, steps: Sequence[Step[Wanted, Observed]]) -> list[Wanted]:
        return [step.wanted for step in steps if step.wanted is not None]

    def units(self, steps: Sequence[Step[Wanted, Observed]]) -> list[list[Step[Wanted, Observed]]]:
        return [[step] for step in steps]

    def act(self, unit: list[Step[Wanted, Observed]]) -> None:
        for step in unit:
            if step.wanted is None:
                continue
            if step.action == CREATE:
                self._create(step.wanted)
            elif step.action == DELETE:
                self._delete(step, step.wanted)
            else:
                self.client.post("/team/update", {**step.extra["update"], "team_id": step.wanted.team_id})

    def _create(self, wanted: Wanted) -> None:
        team_id = str(wanted.team_id)
        body = {**wanted.fields, "team_id": team_id, "metadata": self._metadata(wanted, None)}
        try:
            self.client.create("/team/new", body, took_effect=lambda: self._team(team_id))
        except LiteLLMError:
            # Another run may have made the same team at the same moment; reading it back compares.
            if not self._team(team_id):
                raise

    def _delete(self, step: Step[Wanted, Observed], wanted: Wanted) -> None:
        team_id = self.identity(step.current or {})
        if wanted.remove_keys:
            # Before the team: /team/delete takes them along, but leaves them in the replicas' memories.
            self._delete_keys(step, wanted, team_id)
        if not (step.current or {}).get(MISSING):
            self._unless_gone("/team/delete", {"team_ids": [team_id]})

    def _delete_keys(self, step: Step[Wanted, Observed], wanted: Wanted, team_id: str) -> None:
        removed: dict[str, Observed] = step.extra.setdefault("removed", {})
        left = self._keys(team_id)
        for _attempt in range(PASSES):
            if not left:
                return
            others = _of_other_labs(left, wanted, step.current or {})
            if others:
                raise LiteLLMError(f"deleting the keys of team {team_id}", words=others, advice="The team was left")
            for start in range(0, len(left), PAGE):
                batch = {row["token"]: row for row in left[start : start + PAGE]}
                self._unless_gone("/key/delete", {"keys": list(batch)})
                removed.update(batch)
            left = self._keys(team_id)
            for row in left:
                removed.pop(row["token"], None)
        raise LiteLLMError(
            f"POST {self.client.url}/key/delete",
            status=200,
            words=f"the team still has {_counted(key_names(left))}",
            advice="The team was left. Something goes on making keys for it, or keys can't be deleted; run again",
        )

    def _unless_gone(self, path: str, body: dict[str, Any]) -> None:
        try:
            self.client.post(path, body)
        except LiteLLMError as failure:
            if failure.status != 404:
                raise  # 404: not there any more, which was wanted

    # ---- results ----

    def describe(self, step: Step[Wanted, Observed]) -> dict[str, Any]:
        """Further keys of an item's result."""
        row, wanted = step.current or {}, step.wanted
        out = {
            "team_id": row.get("team_id") or (wanted.team_id if wanted else None),
            "team_alias": (wanted.fields.get("team_alias") if wanted else None) or row.get("team_alias"),
            "guid": (wanted.guid if wanted else None) or (row.get("metadata") or {}).get("guid"),
            "spend": row.get("spend"),
        }
        if wanted is not None and wanted.state == "absent":
            planned = [change.before for change in step.changes if change.field == "key"] if step.writes else []
            removed = step.extra.get("removed")
            out["removed_keys"] = planned if removed is None else key_names(list(removed.values()))
        return out


def key_names(rows: Sequence[Observed]) -> list[str]:
    """Aliases of keys, sorted; the beginning of its token for one that has none."""
    return sorted(str(row.get("key_alias") or f"{row['token'][:12]}…") for row in rows)


def _counted(names: Sequence[str]) -> str:
    more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} key{'s' if len(names) != 1 else ''} ({', '.join(names[:NAMED])}{more})"


def _alike(name: str, wanted: Any, observed: Any) -> bool:
    if name == "models":
        # The order means nothing to LiteLLM.
        return sorted(wanted) == sorted(map(str, observed or ()))
    return same(wanted, bool(observed) if name == "blocked" else observed)


def _of_other_labs(keys: Iterable[Observed], wanted: Wanted, team: Observed) -> str:
    """Why keys of a team can't go with it: they carry another lab's guid. Empty where none does."""
    guid = guid_of(team) or wanted.guid or ""
    others = [row for row in keys if guid_of(row) not in ("", guid)]
    if not others:
        return ""
    labs = ", ".join(sorted({guid_of(row) for row in others})[:NAMED])
    names = ", ".join(key_names(others)[:NAMED])
    return f"has keys of other labs ({names}, of guid {labs}): take them out of the team, or delete them, first"
