# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tries virtual keys as their participants would: each key calls each of its models once, and nothing is written.

Facts about LiteLLM that shape this file (seen on 1.81.14 and 1.106.0):

- A key may ask ``/key/info`` about itself, unless its routes are limited: 403 then, which says nothing about its calls.
- A key over its budget may still get a 200 for a while, from a cache: what ``/key/info`` says counts too.
- ``/model/info`` shows a key the mode of the models that it may call.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from ansible_collections.rhpds.litemaas.plugins.module_utils import capabilities, derive, durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import NOT_READY, LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import (
    LiteLLMError,
    is_pool_exhaustion,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.key_report import (
    BLOCKED,
    OF_KEY,
    Reason,
    reason,
    result,
    span,
    timed_out,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import virtual_key
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import apply

T = TypeVar("T")

_PRINTABLE = re.compile(r"[!-~]+")


@dataclass
class Participant:
    """Whose key is tried."""

    name: str
    key_alias: str | None = None
    value: str = field(default="", repr=False)
    token: str | None = None
    #: None: those that the proxy lists for the key.
    models: list[str] | None = None
    #: The key's row, where the lab's keys were read.
    row: Mapping[str, Any] | None = None
    #: Why there is nothing to try.
    trouble: Reason | None = None


# ---- where participants come from ----


def from_items(items: Iterable[Mapping[str, Any]], guid: str | None = None) -> list[Participant]:
    """Participants of the option ``keys``, or of a hand-out's rows."""
    found = []
    for item in items:
        value = str(item.get("key") or "").strip()
        name = str(item.get("name") or short(str(item.get("key_alias") or ""), guid))
        one = Participant(name, item.get("key_alias") or None, value, item.get("token") or None, item.get("models"))
        if not value:
            one.trouble = Reason("no value", "no value is given for this key")
        elif not _PRINTABLE.fullmatch(value):
            one.trouble = Reason("wrong value", "wrong value: white space or special characters are in it")
        elif one.token and derive.token_of(value) != one.token:
            one.trouble = Reason("wrong value", "wrong value: it doesn't belong to the token beside it")
        found.append(one)
    return found


def from_handout(text: str, guid: str | None = None) -> list[Participant]:
    """Participants of a file as the filter ``key_file`` makes it, JSON or CSV.

    Raises:
        ValueError: it is neither.
    """
    text = text.lstrip("\ufeff").strip()
    if text.startswith(("[", "{")):
        try:
            rows = json.loads(text)
        except ValueError as problem:
            raise ValueError(f"is no JSON: {problem}") from None
    else:
        header = text.partition("\n")[0]
        # Spreadsheets of some countries write semicolons.
        delimiter = ";" if ";" in header and "," not in header else ","
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("has no list of keys")
    if not all(row.get("key_alias") for row in rows) or not any("key" in row for row in rows):
        raise ValueError("is not a list of key_alias and key, as filter rhpds.litemaas.key_file writes it")
    names = ("key_alias", "key", "token")
    found = from_items(
        {**{one: row.get(one) for one in names}, "name": short(row["key_alias"], row.get("guid") or guid)}
        for row in rows
    )
    for one, row in zip(found, rows, strict=True):
        promised = row.get("models") or ()
        listed = promised.split(",") if isinstance(promised, str) else promised
        one.models = [str(model).strip() for model in listed] or None
    return found


def from_lab(
    client: LiteLLMClient,
    guid: str,
    aliases: Sequence[str],
    *,
    key_secret: str | None,
    known_values: Iterable[str],
    workers: int,
) -> list[Participant]:
    """Participants of a lab: its keys as the proxy lists them, their values derived or among those known.

    Args:
        aliases: only these, whether they are there or not; none for every key of the lab.

    Raises:
        LiteLLMError: the keys could not be read.
    """
    known = {derive.token_of(value): value for value in known_values if value}
    resource = virtual_key.VirtualKeyResource(
        client,
        now=client.server_now(),
        key_secret=key_secret,
        known_values=known.values(),
        never_reuse=False,
        models_checked=False,
        workers=workers,
    )
    options = {"guid": guid, "state": "existing", "on_unrecoverable": "ignore", "require_usable": False}
    items = [{**options, "key_alias": alias} for alias in aliases] or [options]
    wanted = [virtual_key.wanted_from_options(item, resource.now) for item in items]
    # As in check mode: the plan, never its execution. It would finish what a killed rotation has left.
    found = []
    for step in apply.converge(resource, wanted, check_mode=True):
        one = Participant(short(step.name, guid), step.name, row=step.current)
        one.value = step.extra.get("value") or known.get(str(step.extra.get("token")), "")
        if step.error:
            missing = step.current is None and step.error == "no such key"
            there = f"no key of {'this alias' if aliases else 'this lab'} is on the proxy"
            one.trouble = Reason("missing", there) if missing else Reason("refused", step.error)
            if not aliases and step.current is None:
                one.name, one.key_alias = guid, None
        elif not one.value:
            text = "its value can't be known: it was made with a random value or another key_secret, and no known value"
            one.trouble = Reason("unknown value", f"{text} fits, so it was not tried")
        found.append(one)
    return found


def add_missing(participants: list[Participant], aliases: Iterable[str], guid: str | None) -> None:
    """Add those who should have a key and aren't among the participants."""
    there = {one.key_alias for one in participants}
    for alias in aliases:
        if alias not in there:
            trouble = Reason("missing", "no key of this alias is among those given")
            participants.append(Participant(short(alias, guid), alias, trouble=trouble))


def short(alias: str, guid: str | None) -> str:
    """How people call whom a key is for: ``user7`` for ``virtkey-abc12-user7``."""
    return alias.removeprefix(f"virtkey-{guid}-") or alias


# ---- trying ----


class Checker:
    """Tries keys against one proxy.

    Args:
        client: settings and connections; its own key is not needed.
        models: for participants that have no list of their own.
        embedding_models: models to be called as such whatever the proxy says.
        valid_for: seconds for which a key has to live on.
        call_timeout: seconds to wait for a model's answer.
        max_tokens: how much of an answer a chat model may write.
        retry_delay: seconds before the one retry of what is likely to pass.
    """

    def __init__(
        self,
        client: LiteLLMClient,
        *,
        models: Sequence[str] | None = None,
        embedding_models: Iterable[str] = (),
        valid_for: int | None = None,
        call_timeout: float = 60,
        max_tokens: int = 1,
        retry_delay: float = 1.0,
    ) -> None:
        self.client = client
        self.models = models
        self.valid_for = valid_for
        self.call_timeout = call_timeout
        self.max_tokens = max_tokens
        self.retry_delay = retry_delay
        self._lock = threading.Lock()
        self._ways: dict[str, str] = {}
        self._forced = dict.fromkeys(embedding_models, "embeddings")

    def run(self, participants: Sequence[Participant], workers: int) -> dict[str, Any]:
        """The module's result.

        Raises:
            LiteLLMError: no proxy answers.
        """
        try:
            self.client.get("/health/liveliness")
        except LiteLLMError as failure:
            # Whatever it answers, it is there: calls tell the rest.
            if failure.status is None:
                raise
        if any(one.row for one in participants):
            self._learn(self.client)
        # A participant's models one after another: together they might meet a limit that nobody in the room would.
        return result(self.client.map(self.check, participants, workers))

    def check(self, one: Participant) -> dict[str, Any]:
        """One participant's entry of the result; never raises."""
        entry: dict[str, Any] = {
            "name": one.name,
            "key_alias": one.key_alias,
            "failed": False,
            "msg": "",
            "expires": (one.row or {}).get("expires"),
            "checks": [],
            "troubles": [],
        }
        if one.trouble is not None:
            entry["troubles"].append(("", one.trouble))
            return entry
        client = self.client.sibling(key=one.value)
        row, refusal = one.row, None
        if row is None:
            try:
                row = self._asked(lambda: client.get("/key/info")).get("info") or {}
            except LiteLLMError as failure:
                refusal = reason(failure)
        entry["expires"] = (row or {}).get("expires")
        trouble = self._of_key(one, row, refusal)
        if trouble is not None:
            entry["troubles"].append(("", trouble))
            if trouble.kind not in ("ends soon", "end unknown"):
                return entry
        try:
            self._call_models(one, client, entry)
        except LiteLLMError as failure:
            entry["troubles"].append(("", reason(failure)))
        return entry

    def _of_key(self, one: Participant, row: Mapping[str, Any] | None, refusal: Reason | None) -> Reason | None:
        """What is wrong with the key itself, before any model is called."""
        if row is None:
            if refusal is not None and refusal.kind in OF_KEY:
                return refusal
            # Its routes are limited, or the proxy is unwell, which its calls tell better.
            if self.valid_for and refusal is not None:
                return Reason("end unknown", f"when it ends can't be read: {refusal.text}")
            return None
        alias = row.get("key_alias")
        if one.key_alias and one.row is None and alias != one.key_alias:
            return Reason("wrong value", f"wrong value: it is the one of {alias or 'a key without alias'}")
        if row.get("blocked"):
            return BLOCKED
        spend, budget = row.get("spend") or 0.0, row.get("max_budget")
        ends = durations.moment(row["expires"]) if row.get("expires") else None
        left = (ends - self.client.server_now()) if ends else None
        if ends is not None and left is not None and left <= timedelta():
            return Reason("expired", f"expired on {durations.iso(ends)}")
        if budget is not None and spend >= budget and spend > 0:
            return Reason("over budget", f"over its budget: {spend:.2f} of {budget:.2f} dollars are spent")
        if ends is not None and left is not None and self.valid_for and left < timedelta(seconds=self.valid_for):
            wanted = span(timedelta(seconds=self.valid_for))
            return Reason("ends soon", f"ends in {span(left)}, on {durations.iso(ends)}; it has to last {wanted}")
        return None

    def _call_models(self, one: Participant, client: LiteLLMClient, entry: dict[str, Any]) -> None:
        models = one.models if one.models is not None else self.models
        listed: list[str] | None = None

        def listing() -> list[str]:
            nonlocal listed
            if listed is None:
                answer = self._asked(lambda: client.get("/v1/models"))
                listed = [str(model["id"]) for model in answer.get("data") or ()]
            return listed

        models = list(dict.fromkeys(listing() if models is None else models))
        if not models:
            entry["troubles"].append(("", Reason("no model", "there is no model that it may call")))
        for model in models:
            way = self._way(model, client)
            if way in ("chat", "completion", "embeddings"):
                check = self._call(model, way, client)
            elif model in listing():
                check = (_check(model, ok=True, called=False, text=f"listed, not called ({way})"), None)
            else:
                trouble = Reason("not allowed", "is not listed for this key")
                check = (_check(model, ok=False, called=False, text=trouble.text), trouble)
            entry["checks"].append(check[0])
            if check[1] is not None:
                entry["troubles"].append((model, check[1]))

    def _call(self, model: str, way: str, client: LiteLLMClient) -> tuple[dict[str, Any], Reason | None]:
        calls: dict[str, tuple[str, dict[str, Any]]] = {
            "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
            "completion": ("/v1/completions", {"prompt": "Hi"}),
            "embeddings": ("/v1/embeddings", {"input": "Hi"}),
        }
        path, body = calls[way]
        if way != "embeddings":
            body["max_tokens"] = self.max_tokens
        patient = client.sibling(timeout=self.call_timeout)
        started = time.monotonic()
        try:
            self._asked(lambda: patient.post(path, {"model": model, **body}))
        except LiteLLMError as failure:
            trouble = reason(failure)
            seconds = time.monotonic() - started
            return _check(model, ok=False, text=trouble.text, status=failure.status, seconds=seconds), trouble
        return _check(model, ok=True, status=200, seconds=time.monotonic() - started), None

    def _asked(self, ask: Callable[[], T]) -> T:
        """What ``ask`` gives, after a second attempt where the first one met what is likely to pass."""
        try:
            return ask()
        except LiteLLMError as failure:
            lost = failure.status is None and not timed_out(failure)
            if not (lost or failure.status in NOT_READY or is_pool_exhaustion(failure.words)):
                raise
        time.sleep(self.retry_delay)
        return ask()

    # ---- how a model is called ----

    def _way(self, model: str, client: LiteLLMClient) -> str:
        """``chat``, ``completion``, ``embeddings``, or why it can't be called like one of these."""
        if model in self._forced:
            return self._forced[model]
        if "*" in model:
            return "a wildcard"
        with self._lock:
            # One key asks for all others, as long as it may call the same models.
            if model not in self._ways:
                self._learn(client)
                self._ways.setdefault(model, "chat")
            return self._ways[model]

    def _learn(self, client: LiteLLMClient) -> None:
        try:
            answer = self._asked(lambda: client.get("/model/info"))
        except LiteLLMError:
            return  # models whose mode nobody tells are called as chat models
        for deployment in answer.get("data") or ():
            info = deployment.get("model_info") or {}
            self._ways[str(deployment.get("model_name"))] = _way_of(info)


def _way_of(info: Mapping[str, Any]) -> str:
    feature, mode = capabilities.features(info)[0], info.get("mode")
    if feature == "convert":
        return "document conversion"
    if feature == "embeddings" or mode in ("chat", "completion"):
        return "embeddings" if feature == "embeddings" else str(mode)
    return str(mode).replace("_", " ") if mode else "chat"


def _check(
    model: str, *, ok: bool, called: bool = True, text: str = "", status: int | None = None, seconds: float = 0.0
) -> dict[str, Any]:
    return {
        "model": model,
        "ok": ok,
        "called": called,
        "status": status,
        "seconds": round(seconds, 2),
        "reason": text,
    }
