# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making a proxy match a plan: writing, exchanging a deployment through a stand-in, waiting for replicas."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError, redact
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.hidden import is_secret
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.planning import Planner, names_in
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.reading import (
    Observed,
    read_deployments,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.wanted import (
    KEPT,
    REPLACEMENT_OF,
    RESERVED_INFO,
    Wanted,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.apply import fail
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import (
    CREATE,
    DELETE,
    FAIL,
    NONE,
    UPDATE,
    Step,
    same,
)

#: In model_info by LiteLLM's own doing, different for each deployment: never carried to another one.
_SERVERS_INFO = frozenset(
    "created_at created_by updated_at updated_by pricing_overrides direct_access access_via_team_ids key"
    " blocked".split()
)
#: Names that LiteLLM fills in from its table of known models.
_FROM_TABLE = re.compile(r"cost|^max_.*tokens$|^support|^(litellm_provider|mode|tpm|rpm|output_vector_size)$")
#: Seconds between two looks at a replica.
POLL = 0.5
#: Seconds that a deployment of another run may take from the database to the proxy's list.
APPEARS_WITHIN = 10
_PLACES = ("litellm_params", "model_info")


class ModelResource(Planner):
    """Deployments in one proxy (see ``reconcile``).

    Args:
        replicas: further addresses that have to know a temporary sibling before the original goes.
        patience: seconds that a replica may take to list what was written.
        planning: of :class:`Planner`.
    """

    #: LiteLLM takes 75 ms for one /model/new and 670 ms for each of eight at once: more workers gain nothing.
    workers = 1

    def __init__(
        self,
        client: LiteLLMClient,
        *,
        replicas: Sequence[LiteLLMClient] = (),
        patience: float = 60.0,
        **planning: Any,
    ) -> None:
        super().__init__(**planning)
        self.client = client
        self.replicas = list(replicas)
        self.patience = patience
        #: Names of which a write failed in this run: nothing of them is removed.
        self._unsettled: set[str] = set()

    def read(self, wanted: Sequence[Wanted]) -> list[Observed]:
        observed = read_deployments(self.client)
        if all(item.error or self.find(item, observed) for item in wanted):
            return observed
        # One look is not enough to say that something isn't there: a replica that has just started, or that has not
        # loaded the latest models, shows fewer. Whatever either look shows is there.
        both = {self.identity(one): one for one in (*observed, *read_deployments(self.client))}
        return list(both.values())

    def read_back(self, _steps: Sequence[Step[Wanted, Observed]], _before: Sequence[Observed]) -> list[Observed]:
        return read_deployments(self.client)

    def units(self, steps: Sequence[Step[Wanted, Observed]]) -> list[list[Step[Wanted, Observed]]]:
        # What is new first, so that a name whose deployments are exchanged is never without one.
        anew = [step for step in steps if _is_made_anew(step)]
        # With replicas, all wait together for them. Otherwise one by one: a kill leaves one temporary sibling at most.
        exchanged = [anew] if anew and self.replicas else [[step] for step in anew]
        created = [[step] for step in steps if step.action == CREATE]
        updated = [[step] for step in steps if step.action == UPDATE and not _is_made_anew(step)]
        deleted = [[step] for step in steps if step.action == DELETE]
        return created + exchanged + updated + deleted

    def expected(self, steps: Sequence[Step[Wanted, Observed]]) -> list[Wanted]:
        return [replace(step.wanted, written=True) for step in steps if step.wanted is not None]

    def act(self, unit: list[Step[Wanted, Observed]]) -> None:
        if _is_made_anew(unit[0]):
            self._make_anew(unit)
        else:
            self._each(unit, self._act)
        self._unsettled |= {step.wanted.model_name for step in unit if step.action == FAIL and step.wanted}

    def _each(
        self, steps: Iterable[Step[Wanted, Observed]], do: Callable[[Step[Wanted, Observed]], None]
    ) -> list[Step[Wanted, Observed]]:
        """Do something for each step; those for which it went well."""
        done = []
        for step in steps:
            try:
                do(step)
            except LiteLLMError as failure:
                fail(step, failure.sentence())
            else:
                done.append(step)
        return done

    def _act(self, step: Step[Wanted, Observed]) -> None:
        if step.action == DELETE and step.current is not None:
            if step.name in self._unsettled:
                step.extra["attempted"] = NONE
                raise LiteLLMError(
                    f"removing deployment {self.identity(step.current)}",
                    words="kept, as another deployment of this name could not be written",
                )
            self._delete(self.identity(step.current))
            return
        if step.action == CREATE:
            self._test(step)
            # A killed run's sibling holds what others had set on the original.
            before = step.besides[0] if step.besides else None
            body = self._body(declared(step), _own_id(step), before)
            self._create(declared(step), _with(body, _kept_by(before) if before is not None else {}))
        elif step.extra["write"]:
            self._test(step)
            body = self._body(declared(step), _own_id(step), step.current)
            path = f"/model/{quote(_own_id(step), safe='')}/update"
            self._discreetly(declared(step), lambda: self.client.patch(path, body))
        self._delete_siblings(step)

    def _delete_siblings(self, step: Step[Wanted, Observed]) -> None:
        for sibling in step.besides:
            self._delete(self.identity(sibling))

    def _body(self, wanted: Wanted, identity: str, current: Observed | None) -> dict[str, Any]:
        info = self._info(wanted, identity, current)
        seen = [wanted.model_name, {name: value for name, value in info.items() if name != "id"}]
        revision = hashlib.sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()[:12]
        return {
            "model_name": wanted.model_name,
            "litellm_params": {**wanted.params, **wanted.secrets, "model_info": {"revision": revision}},
            "model_info": info,
        }

    def _has(self, identity: str) -> bool:
        return any(self.identity(one) == identity for one in read_deployments(self.client))

    def _create(self, wanted: Wanted, body: dict[str, Any]) -> None:
        identity = body["model_info"]["id"]
        try:
            self._discreetly(
                wanted, lambda: self.client.create("/model/new", body, took_effect=lambda: self._has(identity))
            )
        except LiteLLMError as failure:
            # Another run that makes the same one at this moment has it in the database before it is listed.
            if failure.status != 500 or not self._appears(identity):
                raise

    def _appears(self, identity: str) -> bool:
        ends = time.monotonic() + APPEARS_WITHIN
        while not (there := self._has(identity)) and time.monotonic() < ends:
            time.sleep(POLL)
        return there

    def _discreetly(self, wanted: Wanted, call: Callable[[], Any]) -> Any:
        """The answer of a call whose error message could repeat the secrets that were sent."""
        try:
            return call()
        except LiteLLMError as failure:
            raise LiteLLMError(
                failure.attempt,
                status=failure.status,
                words=redact(failure.words, wanted.hidden),
                advice=failure.advice,
                kind=failure.kind,
            ) from None

    def _delete(self, identity: str) -> None:
        try:
            self.client.post("/model/delete", {"id": identity})
        except LiteLLMError as failure:
            if failure.status == 400 and "not found in db" in failure.words:
                return  # gone already: what was wanted
            raise

    # ---- making a deployment anew, without a moment in which its name has none ----

    def _make_anew(self, steps: list[Step[Wanted, Observed]]) -> None:
        deadline = time.monotonic() + self.patience
        steps = self._each(steps, self._stand_in)
        steps = self._listed(self.client, steps, _stand_in_id, deadline)
        steps = self._each(steps, self._complete_stand_in)
        for replica in self.replicas:
            steps = self._listed(replica, steps, _stand_in_id, deadline)
        steps = self._each(steps, self._exchange)
        deadline = time.monotonic() + self.patience
        for replica in self.replicas:
            steps = self._listed(replica, steps, _own_id, deadline)
        self._each(steps, lambda step: self._delete(_stand_in_id(step)))

    def _stand_in(self, step: Step[Wanted, Observed]) -> None:
        self._test(step)
        if _stand_in_id(step) in {self.identity(one) for one in step.besides}:
            # A killed run's, with other values perhaps. The original serves meanwhile.
            self._delete(_stand_in_id(step))
        self._create(declared(step), self._stand_in_body(step, {}))

    def _complete_stand_in(self, step: Step[Wanted, Observed]) -> None:
        step.extra["kept"] = self._kept(declared(step), step.current or {}, step.extra["listed"])
        if step.extra["kept"]:
            self._delete(_stand_in_id(step))
            self._create(declared(step), self._stand_in_body(step, step.extra["kept"]))

    def _exchange(self, step: Step[Wanted, Observed]) -> None:
        self._delete(_own_id(step))
        try:
            self._create(
                declared(step), _with(self._body(declared(step), _own_id(step), step.current), step.extra["kept"])
            )
        except LiteLLMError as failure:
            failure.advice = f"Its temporary deployment {_stand_in_id(step)} serves meanwhile: run again to go on"
            raise

    def _stand_in_body(self, step: Step[Wanted, Observed], kept: Mapping[str, Any]) -> dict[str, Any]:
        body = _with(self._body(declared(step), _stand_in_id(step), step.current), kept)
        body["model_info"][REPLACEMENT_OF] = _own_id(step)
        body["model_info"][KEPT] = {place: sorted(kept[place]) for place in _PLACES if kept.get(place)}
        return body

    def _kept(self, wanted: Wanted, current: Observed, plain: Observed) -> dict[str, Any]:
        """What others set on a deployment, as part of a body.

        Args:
            plain: the stand-in, made from the declaration alone: what the original shows beyond it is somebody's.
        """
        record = ownership.record(current["model_info"])
        ours = {name for kind in ("params", "secrets", "info") for name in names_in(record, kind)} | wanted.dropped
        ours |= wanted.params.keys() | wanted.secrets.keys() | wanted.info.keys() | {"model_info"}
        params = {
            name: value
            for name, value in current["litellm_params"].items()
            if name not in ours and not is_secret(name, value) and not same(value, plain["litellm_params"].get(name))
        }
        other_backend = current["litellm_params"].get("model") != plain["litellm_params"].get("model") or (
            current["model_info"].get("base_model") != plain["model_info"].get("base_model")
        )
        info = {
            name: value
            for name, value in current["model_info"].items()
            if name not in ours | params.keys() | RESERVED_INFO | _SERVERS_INFO
            and value is not None
            and not same(value, plain["model_info"].get(name))
            # What LiteLLM knew about the model before says nothing about the new one.
            and not (other_backend and _FROM_TABLE.search(name))
        }
        kept: dict[str, Any] = {place: found for place, found in zip(_PLACES, (params, info), strict=True) if found}
        if current["model_info"].get("blocked") is True:
            kept["blocked"] = True
        return kept

    # ---- replicas ----

    def _listed(
        self,
        place: LiteLLMClient,
        steps: list[Step[Wanted, Observed]],
        identity: Callable[[Step[Wanted, Observed]], str],
        deadline: float,
    ) -> list[Step[Wanted, Observed]]:
        """Those of the steps whose deployment a proxy lists by the deadline; the others fail."""

        def ready(there: Mapping[str, Observed], step: Step[Wanted, Observed]) -> bool:
            if identity(step) in there:
                step.extra["listed"] = there[identity(step)]
            return identity(step) in there

        for step, words in self._await(place, steps, ready, deadline):
            fail(
                step,
                f"{place.url} does not list deployment {identity(step)}{words}: both deployments are in place, and the"
                " next run goes on; check that replica",
            )
        return [step for step in steps if step.action != FAIL]

    def _await(
        self,
        place: LiteLLMClient,
        steps: list[Step[Wanted, Observed]],
        ready: Callable[[Mapping[str, Observed], Step[Wanted, Observed]], bool],
        deadline: float,
    ) -> list[tuple[Step[Wanted, Observed], str]]:
        """Those of the steps for which a proxy is not ready by the deadline, with what to say of it."""
        pending, words = steps, ""
        while pending:
            try:
                there = {self.identity(one): one for one in read_deployments(place)}
                pending, words = [step for step in pending if not ready(there, step)], ""
            except LiteLLMError as failure:
                words = f" ({failure.sentence()})"
            if time.monotonic() >= deadline:
                break
            if pending:
                time.sleep(POLL)
        return [(step, f" after {self.patience:.0f} s{words}") for step in pending]

    def wait_for_replicas(self, steps: list[Step[Wanted, Observed]]) -> None:
        """Until every replica shows what was written; a step that one of them doesn't show fails."""
        deadline = time.monotonic() + self.patience
        for replica in self.replicas:
            steps = [step for step in steps if step.action != FAIL]
            for step, words in self._await(replica, steps, self._shows, deadline):
                if step.action == DELETE:
                    text = f"deleted, but replica {replica.url} still lists it{words}"
                    text += "; LiteLLM 1.81 keeps the last stored model of all until it is restarted"
                else:
                    text = f"written, but replica {replica.url} does not show it{words}"
                fail(step, text)

    def _shows(self, there: Mapping[str, Observed], step: Step[Wanted, Observed]) -> bool:
        if step.action == DELETE:
            return step.current is None or self.identity(step.current) not in there
        one = there.get(_own_id(step))
        return one is not None and all(self._update(item, one, []).action == NONE for item in self.expected([step]))

    def verify_as(self, key: LiteLLMClient, steps: list[Step[Wanted, Observed]], wanted: Sequence[Wanted]) -> None:
        """See the models as the holder of a virtual key does; a model that the key doesn't see fails its step."""
        deadline = time.monotonic() + self.patience
        names = {item.model_name for item in wanted if item.state == "present" and not item.error}
        while True:
            words, final = "does not see it: does the key allow the model?", False
            try:
                seen = {str(entry.get("id")) for entry in key.get("/v1/models").get("data", ())}
            except LiteLLMError as failure:
                # A key that is expired, blocked or unknown will not get better by waiting.
                seen, words, final = set(), f"is refused: {failure.words}", failure.status in (400, 401, 403)
            if names <= seen or final or time.monotonic() >= deadline:
                break
            time.sleep(POLL)
        for step in steps:
            if step.wanted is not None and step.wanted.model_name in names - seen and step.action != FAIL:
                fail(step, f"in place, but the key of verify_as {words}")

    def describe(self, step: Step[Wanted, Observed]) -> dict[str, Any]:
        """Further keys of an item's result."""
        identity = step.extra.get("id") or (self.identity(step.current) if step.current is not None else None)
        return {"id": identity}

    def _test(self, step: Step[Wanted, Observed]) -> None:
        """Have the proxy call the upstream once with these parameters. Never shows the answer's echo of them."""
        wanted = declared(step)
        if not wanted.test:
            return
        body: dict[str, Any] = {
            "litellm_params": {**wanted.params, **wanted.secrets},
            "mode": wanted.info.get("mode") or "chat",
        }
        answer = self._discreetly(wanted, lambda: self.client.post("/health/test_connection", body))
        if isinstance(answer, dict) and answer.get("status") == "success":
            return
        step.extra["attempted"] = NONE
        outcome = answer.get("result") if isinstance(answer, dict) else None
        words = outcome.get("error") if isinstance(outcome, dict) else None
        text = " ".join(str(words or "the upstream did not answer").split("stack trace", maxsplit=1)[0].split())[:300]
        raise LiteLLMError(
            f"POST {self.client.url}/health/test_connection",
            status=200,
            words=f"the model can't be called: {redact(text, wanted.hidden)}",
            advice="Nothing was written; check litellm_model, api_base and credentials, or set test to false",
        )


def declared(step: Step[Wanted, Observed]) -> Wanted:
    if step.wanted is None:
        raise TypeError("a step that writes a deployment without a declaration of it")
    return step.wanted


def _is_made_anew(step: Step[Wanted, Observed]) -> bool:
    return step.action == UPDATE and bool(step.extra["write"] and step.extra["anew"])


def _own_id(step: Step[Wanted, Observed]) -> str:
    return str(step.extra["id"])


def _stand_in_id(step: Step[Wanted, Observed]) -> str:
    return derive.sibling_id(_own_id(step))


def _with(body: dict[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """A body with what others had set beneath it."""
    merged = {**kept, **body}
    for place in _PLACES:
        merged[place] = {**kept.get(place, {}), **body[place]}
    return merged


def _kept_by(sibling: Observed) -> dict[str, Any]:
    """What a killed run's stand-in holds of others, as part of a body."""
    names = sibling["model_info"].get(KEPT)
    kept: dict[str, Any] = {}
    for place in _PLACES:
        found = {
            n: sibling[place][n]
            for n in names_in(names if isinstance(names, dict) else {}, place)
            if n in sibling[place]
        }
        if found:
            kept[place] = found
    if sibling["model_info"].get("blocked") is True:
        kept["blocked"] = True
    return kept
