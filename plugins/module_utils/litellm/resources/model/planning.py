# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be done about a deployment: decided from what is wanted and what is there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, ownership, urls
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.hidden import is_secret, text_of
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.wanted import (
    PER_MILLION,
    REPLACEMENT_OF,
    Wanted,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import (
    CREATE,
    DELETE,
    FAIL,
    HIDDEN,
    NONE,
    UPDATE,
    Change,
    Step,
    same,
)

Observed = dict[str, Any]


class Planner:
    """The pure half of the resource (see ``reconcile.plan``).

    Args:
        scope: written into the mark; prune touches this scope only. None leaves a model in the scope that it has.
        key_secret: for fingerprints of secrets; None where there is none.
        update_secrets: ``on_create`` or ``always``: what to do with secrets without a key_secret.
        protected: model names whose deployments must not be removed.
    """

    kind = "model"

    def __init__(
        self,
        *,
        scope: str | None = None,
        key_secret: str | None = None,
        update_secrets: str = "on_create",
        protected: Sequence[str] = (),
    ) -> None:
        self.scope = scope
        self.key_secret = key_secret
        self.update_secrets = update_secrets
        self.protected = frozenset(protected)

    # ---- what reconcile.plan asks ----

    def identity(self, observed: Observed) -> str:
        return str(observed["model_info"]["id"])

    def find(self, wanted: Wanted, observed: Sequence[Observed]) -> list[Observed]:
        """The deployments of this name; which of them is meant is decided in :meth:`steps`."""
        return [
            one for one in observed if one["model_name"] == wanted.model_name or self.identity(one) == wanted.identity
        ]

    def prunable(self, observed: Observed, scope: str) -> bool:
        return bool(observed["model_info"].get("db_model")) and ownership.in_scope(observed["model_info"], scope)

    def removal(self, observed: Observed) -> Step[Wanted, Observed]:
        name = str(observed["model_name"])
        info = observed["model_info"]
        step: Step[Wanted, Observed] = Step(
            name, DELETE, current=observed, changes=[Change("deployment", self.identity(observed), None)]
        )
        if name in self.protected:
            step.action = FAIL
            step.error = "is protected (it has active subscriptions): not removed"
        elif self._of_another_scope(info):
            step.action = FAIL
            step.error = f"belongs to scope {info.get('scope')!r}, not {self.scope!r}: not removed"
        return step

    def steps(self, wanted: Wanted, found: list[Observed]) -> list[Step[Wanted, Observed]]:
        if wanted.error:
            return [Step(wanted.name, FAIL, wanted=wanted, error=wanted.error)]
        # What stands in the proxy's configuration file can't be changed through the API.
        stored = [one for one in found if one["model_info"].get("db_model")]
        siblings = [one for one in stored if one["model_info"].get(REPLACEMENT_OF)]
        real = [one for one in stored if not one["model_info"].get(REPLACEMENT_OF)]
        if wanted.state == "absent":
            return self._absent(wanted, real, siblings, configured=len(stored) < len(found))
        try:
            current = self._current(wanted, real, siblings)
        except ValueError as problem:
            return [Step(wanted.name, FAIL, wanted=wanted, error=str(problem))]
        mine = [one for one in siblings if self._stands_in_for(one, wanted, current)]
        if current is None:
            # Killed after the original went and before it was made anew: it gets its old id back.
            identity = str(mine[0]["model_info"][REPLACEMENT_OF]) if mine else wanted.identity
            changes = [Change("id", None, identity), *self._all_as_changes(wanted)]
            step: Step[Wanted, Observed] = Step(wanted.name, CREATE, wanted=wanted, changes=changes)
            step.extra["id"] = identity
            step.besides = mine
            return [step]
        return [self._update(wanted, current, mine)]

    def _current(self, wanted: Wanted, real: list[Observed], siblings: list[Observed]) -> Observed | None:
        """The deployment that an item means: by its id, by our mark, or by adoption."""
        for one in real:
            if self.identity(one) == wanted.identity:
                return one
        if wanted.id:
            return None
        label = wanted.deployment or ""
        marked = [
            one
            for one in real
            if ownership.is_ours(one["model_info"])
            and ownership.record(one["model_info"]).get("deployment", "") == label
        ]
        if len(marked) > 1:
            raise ValueError(
                f"{len(marked)} deployments carry this name and label ({self._ids(marked)}): name one with id"
            )
        if marked:
            return marked[0]
        for sibling in siblings:
            if self._stands_in_for(sibling, wanted, None):
                # A killed run was changing this one, or has to make it anew: nothing else is adopted.
                original = sibling["model_info"][REPLACEMENT_OF]
                return next((one for one in real if self.identity(one) == original), None)
        unmanaged = [one for one in real if not one["model_info"].get("managed_by")]
        if not wanted.adopt or not unmanaged or label:
            return None
        if len(unmanaged) > 1:
            alike = [
                one
                for one in unmanaged
                if same(wanted.params.get("model"), one["litellm_params"].get("model"))
                and same(wanted.params.get("api_base"), one["litellm_params"].get("api_base"))
            ]
            if len(alike) != 1:
                raise ValueError(
                    f"{len(unmanaged)} deployments of this name exist that nobody manages ({self._ids(unmanaged)}):"
                    " name one with id, or set adopt to false to add another one"
                )
            return alike[0]
        return unmanaged[0]

    def _ids(self, observed: Iterable[Observed]) -> str:
        return ", ".join(sorted(self.identity(one) for one in observed))

    def _stands_in_for(self, sibling: Observed, wanted: Wanted, current: Observed | None) -> bool:
        original = str(sibling["model_info"][REPLACEMENT_OF])
        if current is not None:
            return original == self.identity(current)
        if original == wanted.identity:
            return True
        # The id of an adopted deployment is not derived: its sibling is known by the label.
        return not wanted.id and ownership.record(sibling["model_info"]).get("deployment", "") == (
            wanted.deployment or ""
        )

    def _absent(
        self, wanted: Wanted, real: list[Observed], siblings: list[Observed], configured: bool
    ) -> list[Step[Wanted, Observed]]:
        if wanted.id is not None:
            chosen = [one for one in real if self.identity(one) == wanted.id]
            chosen += [one for one in siblings if one["model_info"][REPLACEMENT_OF] == wanted.id]
            other = next((one for one in chosen if one["model_name"] != wanted.model_name), None)
            if other is not None:
                error = f"deployment {wanted.id} is of model {other['model_name']!r}: not removed"
                return [Step(wanted.name, FAIL, wanted=wanted, error=error)]
        elif wanted.deployment is not None:
            chosen = [
                one
                for one in real + siblings
                if self.identity(one) == wanted.identity
                or ownership.record(one["model_info"]).get("deployment") == wanted.deployment
            ]
        else:
            chosen = real + siblings
        if not chosen and configured:
            error = "stands in the proxy's configuration file: take it out there"
            return [Step(wanted.name, FAIL, wanted=wanted, error=error)]
        if not chosen:
            return [Step(wanted.name, NONE, wanted=wanted, note="not there", extra={"said": "not there"})]
        return [self.removal(one) for one in chosen]

    # ---- comparison ----

    def _record(self, wanted: Wanted, current: Observed | None) -> dict[str, Any]:
        """What is kept in model_info beside the mark: the label, the names that we set, fingerprints."""
        record: dict[str, Any] = {
            "deployment": wanted.deployment or "",
            "params": sorted(wanted.params),
            "secrets": sorted(wanted.secrets),
            "info": sorted(wanted.info),
        }
        if self.key_secret:
            record["fingerprints"] = {
                name: derive.fingerprint(self.key_secret, name, text_of(value))
                for name, value in wanted.secrets.items()
            }
        if self._may_hold_more(wanted, current):
            record["adopted"] = True
        return record

    def _may_hold_more(self, wanted: Wanted, current: Observed | None) -> bool:
        """Whether it was made by somebody else, who may have given it secrets that nobody has declared since."""
        if current is None or wanted.secrets:
            return False
        return not ownership.is_ours(current["model_info"]) or bool(
            ownership.record(current["model_info"]).get("adopted")
        )

    def _info(self, wanted: Wanted, identity: str, current: Observed | None) -> dict[str, Any]:
        return {
            **wanted.info,
            **ownership.mark(self._scope_of(current)),
            ownership.RECORD: self._record(wanted, current),
            "id": identity,
        }

    def _scope_of(self, current: Observed | None) -> str:
        if self.scope is not None:
            return self.scope
        return str((current or {}).get("model_info", {}).get("scope") or "")

    def _of_another_scope(self, info: Mapping[str, Any]) -> bool:
        theirs = info.get("scope") if ownership.is_ours(info) else ""
        return bool(theirs) and self.scope is not None and theirs != self.scope

    def _all_as_changes(self, wanted: Wanted) -> list[Change]:
        changes = [_param(name, None, value) for name, value in sorted(wanted.params.items())]
        changes += [Change(f"litellm_params.{name}", None, HIDDEN) for name in sorted(wanted.secrets)]
        return changes + [Change(f"model_info.{name}", None, value) for name, value in sorted(wanted.info.items())]

    def _update(self, wanted: Wanted, current: Observed, siblings: list[Observed]) -> Step[Wanted, Observed]:
        info = current["model_info"]
        step: Step[Wanted, Observed] = Step(wanted.name, UPDATE, wanted=wanted, current=current)
        step.extra["id"] = self.identity(current)
        step.besides = siblings
        if self._of_another_scope(info):
            step.action = FAIL
            step.error = (
                f"belongs to scope {info.get('scope')!r}, not {self.scope!r}: run it with that scope,"
                " or remove it there first"
            )
            return step
        gone = self._gone(wanted, current)
        step.changes = [*self._differences(wanted, current), *gone]
        if not ownership.is_ours(info):
            step.note = "adopted"
            step.changes.append(Change("managed_by", info.get("managed_by"), ownership.MANAGER))
        elif info.get("scope") != self._scope_of(current):
            step.changes.append(Change("scope", info.get("scope"), self._scope_of(current)))
        elif not step.changes and self._recorded_otherwise(wanted, current):
            # What we manage changed without a value changing: only the record is brought up to date.
            step.changes.append(Change("managed fields", None, "recorded"))
        step.extra["write"] = bool(step.changes)
        if siblings:
            step.changes.append(Change("temporary deployment", self._ids(siblings), None))
        if not step.changes:
            step.action = NONE
            return step
        unknown = self._unknown_secrets(wanted, current)
        # A name of a team has an alias that goes with any deployment of it.
        step.extra["anew"] = not unknown and not info.get("team_id") and not wanted.info.get("team_id")
        missing = sorted(name for name in unknown if f"litellm_params.{name}" in {change.field for change in gone})
        if missing:
            step.action = FAIL
            step.error = (
                f"{', '.join(missing)} was declared before, can't be read back, and is missing now: give it, or give it"
                " as an empty string to take it away"
            )
        elif gone and not step.extra["anew"]:
            step.action = FAIL
            step.error = (
                f"{', '.join(change.field for change in gone)} can only be taken away by making the deployment anew,"
                f" and what it may hold of {', '.join(unknown) or 'its team'} can't be read back: give that,"
                " or remove the model and add it again"
            )
        return step

    def _differences(self, wanted: Wanted, current: Observed) -> Iterator[Change]:
        params, info = current["litellm_params"], current["model_info"]
        name = info.get("team_public_model_name") or current["model_name"]
        if name != wanted.model_name:
            yield Change("model_name", name, wanted.model_name)
        for name, value in sorted(wanted.params.items()):
            if not same(value, params.get(name)):
                yield _param(name, params.get(name), value)
            elif name in PER_MILLION.values() and not same(value, info.get(name)):
                # LiteLLM copies these two there, over what is stored there, and LiteMaaS reads them there.
                yield Change(f"model_info.{name}", info.get(name), value)
        for name in sorted(wanted.secrets):
            if self._secret_differs(name, wanted, ownership.record(info)):
                yield Change(f"litellm_params.{name}", HIDDEN, HIDDEN)
        for name, value in sorted(wanted.info.items()):
            if not same(value, info.get(name)):
                yield Change(f"model_info.{name}", info.get(name), value)

    def _gone(self, wanted: Wanted, current: Observed) -> list[Change]:
        """What we set once and no longer want."""
        params, info = current["litellm_params"], current["model_info"]
        record = ownership.record(info)
        kept = wanted.params.keys() | wanted.secrets.keys()
        changes = [_param(name, params.get(name), None) for name in names_in(record, "params") - kept]
        changes += [Change(f"litellm_params.{name}", HIDDEN, None) for name in names_in(record, "secrets") - kept]
        changes += [
            Change(f"model_info.{name}", info.get(name), None) for name in names_in(record, "info") - wanted.info.keys()
        ]
        return sorted(changes, key=lambda change: change.field)

    def _recorded_otherwise(self, wanted: Wanted, current: Observed) -> bool:
        now, before = self._record(wanted, current), ownership.record(current["model_info"])
        if not self.key_secret:
            # Made by a run that had the secret; this one can neither use nor make them.
            before.pop("fingerprints", None)
        return now != before

    def _unknown_secrets(self, wanted: Wanted, current: Observed) -> list[str]:
        """Secrets that it holds, or may hold, and that we could not write again."""
        known = wanted.secrets.keys() | wanted.dropped
        record = ownership.record(current["model_info"])
        found = names_in(record, "secrets") | {n for n, v in current["litellm_params"].items() if is_secret(n, v)}
        if self._may_hold_more(wanted, current) and not wanted.dropped:
            found.add("api_key")
        return sorted(found - known)

    def _secret_differs(self, name: str, wanted: Wanted, record: dict[str, Any]) -> bool:
        if name not in names_in(record, "secrets"):
            return True
        if self.key_secret:
            mine = derive.fingerprint(self.key_secret, name, text_of(wanted.secrets[name]))
            return mine != (record.get("fingerprints") or {}).get(name)
        return self.update_secrets == "always" and not wanted.written


def _param(name: str, before: Any, after: Any) -> Change:
    return Change(f"litellm_params.{name}", _shown(before), _shown(after))


def _shown(value: Any) -> Any:
    """A parameter as it may be shown: a URL such as api_base may hold a password."""
    return urls.without_credentials(value) if isinstance(value, str) and set(value) & set("@?") else value


def names_in(record: Mapping[str, Any], kind: str) -> set[str]:
    found = record.get(kind)
    return set(found) if isinstance(found, list) else set()
