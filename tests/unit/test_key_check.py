# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal means to a person, and how the report is put together."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_check, key_report
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError

HASH = "6563081616a9b3ae35e3d1e8f8e14facb83b477332c07f2593bf7d2887cfc7f6"


# Statuses, types and words as 1.81.14 and 1.106.0 send them.
@pytest.mark.parametrize(
    ("status", "type_", "words", "kind", "text"),
    [
        (401, "token_not_found_in_db", f"Invalid proxy server token. Hash ={HASH}", "unknown", "doesn't know this key"),
        (400, "expired_key", "Expired Key. Key Expiry time 2026-11-21 01:45:22.70+00:00 and", "expired", "01:45:22Z$"),
        (401, "expired_key", "Expired Key. Key Expiry time 2026-11-21 01:45:22.70+00:00 and", "expired", "01:45:22Z$"),
        (401, "auth_error", "Authentication Error, Key is blocked. Update via", "blocked", "^blocked$"),
        (400, "budget_exceeded", "Budget has been exceeded! Current cost: 6.0", "over budget", "cost: 6.0"),
        (422, "budget_exceeded", "Budget has been exceeded! Key=a (sk-...rf0g)", "over budget", "over budget"),
        (401, "key_model_access_denied", "key not allowed to access model", "not allowed", "may not call"),
        (403, "team_model_access_denied", "The requested model 'x' is not available", "not allowed", "may not call"),
        (401, "auth_error", "LiteLLM Virtual Key expected. expected to start with 'sk-'", "wrong value", "wrong value"),
        (
            429,
            "None",
            f"Rate limit exceeded for api_key: {HASH}. Limit type: requests",
            "rate limit",
            "api_key: …. Lim",
        ),
        (400, "", "chat: Invalid model name passed in model=x", "no such model", "no such model"),
        (503, "", "upstream connect error", "proxy", "in front of it, answers HTTP 503"),
        (401, "auth_error", "Timed out fetching a new connection from the connection pool", "proxy", "its database"),
        (500, "", "litellm.InternalServerError: InternalServerError: OpenAIException - no", "backend", "HTTP 500: no$"),
        (401, "", "litellm.AuthenticationError: no key. Received Model Group=x", "backend", "HTTP 401: no key$"),
        (
            401,
            "",
            "litellm.BadRequestError: no LiteLLM: model group 'x' failed",
            "backend",
            "LiteLLM's key for it.*no$",
        ),
        (429, "throttling_error", "litellm.RateLimitError: busy", "backend rate limit", "backend: busy$"),
        (429, "", "No deployments available for selected model", "backend put aside", "aside for a while"),
        (None, "", "HTTPConnectionPool: Read timed out. (read timeout=60)", "no answer", "^no answer within 60 s$"),
        (None, "", "Connection refused", "no connection", "^no answer: Connection refused$"),
    ],
)
def test_a_refusal_in_words_of_a_person(status: int | None, type_: str, words: str, kind: str, text: str) -> None:
    found = key_report.reason(LiteLLMError("POST x", status=status, kind=type_, words=words))
    assert (found.kind, found.status) == (kind, status)
    assert re.search(text, found.text), found.text
    assert HASH not in found.text


def entry(name: str, *troubles: tuple[str, str, str]) -> dict[str, Any]:
    found = [(model, key_report.Reason(kind, text)) for model, kind, text in troubles]
    checks = [{"model": model, "called": True, "reason": ""} for model in ("a", "b")]
    return {"name": name, "checks": checks, "troubles": found}


def test_one_line_names_who_fails_and_why() -> None:
    entries = [entry(f"user{number}") for number in range(1, 199)]
    entries += [entry("user199", ("", "expired", "expired on Monday")), entry("user200", ("a", "x", "broken"))]
    done = key_report.result(entries)
    assert done["msg"] == (
        "200 participants, 2 models each: 198 ok, 2 would fail: user199: expired on Monday; user200: a: broken"
    )
    assert done["failing"] == ["user199: expired on Monday", "user200: a: broken"]
    assert done["summary"] == {"participants": 200, "ok": 198, "failed": 2, "called": 400, "listed": 0}
    assert done["results"][0]["msg"] == "a, b answer"
    assert key_report.result([entry("ann")])["msg"] == "1 participant, 2 models: 1 ok"


def test_reasons_that_many_share_are_said_once() -> None:
    everybody = [entry(f"user{number}", ("a", "backend", f"503: {number}")) for number in range(1, 201)]
    assert key_report.result(everybody)["msg"].endswith("0 ok, 200 would fail: all 200 fail on a: 503: 1")
    some = [entry(f"user{number}", ("", "expired", "expired"), ("b", "x", "y")) for number in range(1, 13)]
    some[0]["troubles"].append(("a", key_report.Reason("slow", "slow")))
    done = key_report.result([*some, entry("ann")])
    names = [f"user{number}" for number in range(1, 13)]
    assert done["failing"] == [
        f"12 fail ({', '.join(names)}): expired",
        f"12 fail on b ({', '.join(names)}): y",
        "user1: a: slow",
    ]
    assert f"12 fail ({', '.join(names[:10])} and 2 more): expired; " in done["msg"]
    each = [entry(f"user{number}", ("", str(number), "x")) for number in range(1, 13)]
    assert key_report.result(each)["msg"].endswith("user10: x; and 2 more (see results)")


def test_a_handout_in_each_of_its_forms() -> None:
    value = "sk-" + "a" * 40
    row = {"key_alias": "virtkey-abc12-user1", "key": value, "token": derive.token_of(value), "guid": "abc12"}
    lines = [",".join(row), ",".join(row.values())]
    forms = [json.dumps([row]), "\ufeff" + "\r\n".join(lines), "\n".join(lines).replace(",", ";")]
    for text in forms:
        (one,) = key_check.from_handout(text)
        assert (one.name, one.key_alias, one.value, one.trouble) == ("user1", row["key_alias"], value, None)
        assert value not in repr(one)
    (named,) = key_check.from_handout(json.dumps([{**row, "guid": ""}]), "abc12")
    assert named.name == "user1"
    (promised,) = key_check.from_handout(json.dumps([{**row, "models": "a, b"}]))
    assert (promised.models, one.models) == (["a", "b"], None)
    (other,) = key_check.from_handout(json.dumps([{**row, "token": HASH}]))
    assert other.trouble and other.trouble.kind == "wrong value"
    (none,) = key_check.from_handout(json.dumps([{**row, "key": None}]))
    assert none.trouble and none.trouble.kind == "no value"
    for text in ("", "[]", "[1]", '[{"key": "x"}]', "{", "alias,value\na,b"):
        with pytest.raises(ValueError, match=r"^(is|has) "):
            key_check.from_handout(text)


@pytest.mark.parametrize(
    ("info", "way"),
    [
        ({}, "chat"),
        ({"mode": "chat"}, "chat"),
        ({"mode": "completion"}, "completion"),
        ({"mode": "embedding"}, "embeddings"),
        ({"supports_embeddings": True}, "embeddings"),
        ({"supports_convert": True, "mode": "chat"}, "document conversion"),
        ({"mode": "audio_transcription"}, "audio transcription"),
    ],
)
def test_how_a_model_is_called(info: dict[str, Any], way: str) -> None:
    assert key_check._way_of(info) == way
