# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a refusal of a participant's call means, and the report on all of them. Pure.

Facts about LiteLLM that shape this file (seen on 1.81.14 and 1.106.0):

- A refusal's status differs with the version (expired: 400 or 401, over budget: 400 or 422, model not allowed: 401 or
  403), its type doesn't.
- A backend's refusal has the backend's status, 401 among them, and words that begin with ``litellm.``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import (
    LiteLLMError,
    is_pool_exhaustion,
    redact,
)

#: Participants with the same trouble that are still named one by one, each with its reason.
FEW = 5
#: Names, and lines, that the one line of the result has room for.
NAMED = 10

_HASH = re.compile(r"\b[0-9a-f]{64}\b")
#: What LiteLLM adds to a backend's words for its developers.
_DECORATION = re.compile(
    r"\s*(?:Received Model Group=|LiteLLM: model group '|Available Model Group Fallbacks=|No fallback).*$"
)
_EXCEPTION = re.compile(r"^litellm\.\w+: (?:\w+: )?(?:\w+Exception - )?")


class Reason(NamedTuple):
    """Why something would fail. Reasons with one ``kind`` are the same trouble, though their texts may differ."""

    kind: str
    text: str
    status: int | None = None


# ---- reasons, in words of a person ----


BLOCKED = Reason("blocked", "blocked")
#: Reasons that hold for every call of a key.
OF_KEY = frozenset({"unknown", "expired", "blocked", "over budget", "wrong value"})


def timed_out(failure: LiteLLMError) -> bool:
    return failure.status is None and "timed out" in failure.words.lower()


def reason(failure: LiteLLMError) -> Reason:
    """What a refusal means. By its type and words: the status of the same refusal differs between versions."""
    status, kind = failure.status, failure.kind
    words = _HASH.sub("…", redact(failure.words))
    if status is None:
        if timed_out(failure):
            waited = re.search(r"timeout=([0-9.]+)", words)
            return Reason("no answer", f"no answer within {float(waited[1]):g} s" if waited else "no answer in time")
        return Reason("no connection", f"no answer: {words}")
    if is_pool_exhaustion(words):
        return Reason("proxy", f"the proxy can't reach its database: HTTP {status}: {words}", status)
    if words.startswith("litellm.") or "No deployments available" in words:
        return _of_backend(status, words)
    if kind == "token_not_found_in_db":
        return Reason("unknown", "the proxy doesn't know this key: it was deleted, or its value is wrong", status)
    if "expected to start with" in words or "No api key passed" in words:
        return Reason("wrong value", "wrong value: it isn't a key's", status)
    if kind == "expired_key":
        when = re.search(r"Expiry time (\S+ [0-9:]+)", words)
        return Reason(
            "expired", f"expired on {durations.iso(durations.moment(when[1]))}" if when else "expired", status
        )
    if kind == "budget_exceeded":
        return Reason("over budget", f"over budget: {words}", status)
    if "Key is blocked" in words:
        return Reason(BLOCKED.kind, BLOCKED.text, status)
    if kind.endswith("model_access_denied"):
        return Reason("not allowed", "the key may not call this model", status)
    if status == 429:
        return Reason("rate limit", f"rate limit: {words}", status)
    if "Invalid model name" in words:
        return Reason("no such model", "the proxy has no such model", status)
    who = "the proxy, or what is in front of it, answers" if status >= 500 else "the proxy answers"
    return Reason("proxy", f"{who} HTTP {status}: {words}", status)


def _of_backend(status: int, words: str) -> Reason:
    said = _EXCEPTION.sub("", _DECORATION.sub("", words)).rstrip(".")
    if "No deployments available" in words:
        text = "LiteLLM has put the model's backend aside for a while, as it kept failing"
        return Reason("backend put aside", f"{text}: HTTP {status}: {said}", status)
    if status == 429:
        return Reason("backend rate limit", f"rate limit of the model's backend: {said}", status)
    if status in (401, 403):
        return Reason("backend", f"the model's backend refuses LiteLLM's key for it: HTTP {status}: {said}", status)
    return Reason("backend", f"the model's backend answers HTTP {status}: {said}", status)


def span(left: timedelta) -> str:
    minutes = max(1, int(left.total_seconds()) // 60)
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


# ---- the report ----


def result(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """What the module exits with. Pure."""
    troubles = [(entry["name"], entry.pop("troubles")) for entry in entries]
    for entry, (_name, found) in zip(entries, troubles, strict=True):
        entry["failed"] = bool(found)
        entry["msg"] = "; ".join(_said(*one) for one in found) or _fine(entry["checks"])
    checks = [check for entry in entries for check in entry["checks"]]
    failed = sum(entry["failed"] for entry in entries)
    summary = {
        "participants": len(entries),
        "ok": len(entries) - failed,
        "failed": failed,
        "called": sum(check["called"] for check in checks),
        "listed": sum(not check["called"] for check in checks),
    }
    headline = _headline(entries, summary)
    return {
        "changed": False,
        "failed": bool(failed),
        "msg": headline + (f": {'; '.join(_lines(troubles, NAMED))}" if failed else ""),
        "headline": headline,
        "failing": _lines(troubles),
        "results": entries,
        "summary": summary,
    }


def _said(model: str, trouble: Reason) -> str:
    return f"{model}: {trouble.text}" if model else trouble.text


def _fine(checks: Sequence[Mapping[str, Any]]) -> str:
    called = [check["model"] for check in checks if check["called"]]
    listed = [f"{check['model']} is {check['reason']}" for check in checks if not check["called"]]
    answers = [f"{', '.join(called)} {'answers' if len(called) == 1 else 'answer'}"] if called else []
    return "; ".join(answers + listed)


def _headline(entries: Sequence[Mapping[str, Any]], summary: Mapping[str, int]) -> str:
    total, failed = summary["participants"], summary["failed"]
    counts = sorted({len(entry["checks"]) for entry in entries if entry["checks"]})
    text = f"{total} participant{'s' if total != 1 else ''}"
    if counts:
        number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        text += f", {number} model{'' if number == '1' else 's'}{' each' if total != 1 else ''}"
    text += f": {summary['ok']} ok"
    return f"{text}, {failed} would fail" if failed else text


def _lines(troubles: Sequence[tuple[str, Sequence[tuple[str, Reason]]]], room: int | None = None) -> list[str]:
    """One line for each participant that would fail, and one for many of them that share a reason.

    Args:
        room: how many names a line, and how many lines, there may be.
    """
    shared = Counter((model, one.kind, one.status) for _name, found in troubles for model, one in found)
    many: dict[tuple[str, str, int | None], list[str]] = {}
    texts: dict[tuple[str, str, int | None], str] = {}
    single = []
    for name, found in troubles:
        own = []
        for model, one in found:
            same = (model, one.kind, one.status)
            if shared[same] > FEW:
                many.setdefault(same, []).append(name)
                texts.setdefault(same, one.text)
            else:
                own.append(_said(model, one))
        if own:
            single.append(f"{name}: {'; '.join(own)}")
    lines = []
    for same, names in many.items():
        on = f" on {same[0]}" if same[0] else ""
        if len(names) == len(troubles):
            lines.append(f"all {len(names)} fail{on}: {texts[same]}")
            continue
        named = ", ".join(names[:room])
        more = f" and {len(names) - room} more" if room and len(names) > room else ""
        lines.append(f"{len(names)} fail{on} ({named}{more}): {texts[same]}")
    lines += single[:room]
    if room and len(single) > room:
        lines.append(f"and {len(single) - room} more (see results)")
    return lines
