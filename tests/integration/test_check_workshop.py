# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook check_workshop and its module: who would fail, and why; and that looking leaves no trace."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.stack.faults import FaultProxy

PLAYBOOK = "rhpds.litemaas.check_workshop"
NO_MASTER = {"LITELLM_MASTER_KEY": "", "LITELLM_KEY_SECRET": ""}
KEY_LIKE = re.compile(r"sk-[A-Za-z0-9_-]{16,}")


def said(done: harness.PlaybookResult) -> list[str]:
    """What the last task says, a line each."""
    found = json.JSONDecoder().raw_decode(done.stdout, done.stdout.rindex('"msg": ') + len('"msg": '))[0]
    return found if isinstance(found, list) else [found]


def calls(stack: harness.Stack, prefix: str) -> dict[str, int]:
    """How often each of the test's models was called behind the proxy."""
    counts = requests.get(f"{stack.upstream_url}/calls", timeout=30).json()["by_model"]
    return {name.removeprefix(prefix): number for name, number in counts.items() if name.startswith(prefix)}


@pytest.fixture
def guid(prefix: str, litellm: harness.LiteLLM) -> Iterator[str]:
    """A lab whose keys are called as the role calls them."""
    yield prefix.rstrip("-")
    litellm.remove(f"virtkey-{prefix}")


@pytest.fixture
def model(litellm: harness.LiteLLM, stack: harness.Stack, prefix: str) -> Callable[..., str]:
    """``model(name, upstream=None, **model_info)`` makes one; it answers unless the upstream's name is a bad one."""

    def make(name: str, upstream: str = "", **info: Any) -> str:
        params = {"model": f"openai/{upstream or prefix + name}", "api_base": f"{stack.upstream_url}/v1"}
        litellm.post(
            "/model/new", model_name=prefix + name, litellm_params={**params, "api_key": "none"}, model_info=info
        )
        return prefix + name

    return make


@pytest.fixture
def lab(run_module: Callable[..., harness.ModuleResult], guid: str) -> Callable[..., list[dict[str, Any]]]:
    """``lab(count, models)`` makes a lab's keys, and gives them as its hand-out would."""

    def make(count: int, models: list[str]) -> list[dict[str, Any]]:
        keys = [{"key_alias": f"virtkey-{guid}-user{number}"} for number in range(1, count + 1)]
        done = run_module("litellm_virtual_key", {"keys": keys, "guid": guid, "models": models, "duration": "2d"})
        assert not done.failed, done["msg"]
        return [{name: entry[name] for name in ("key_alias", "key", "token", "guid")} for entry in done["results"]]

    return make


def test_thirty_participants_all_well(
    run_playbook: Any,
    run_module: Any,
    litellm: harness.LiteLLM,
    stack: harness.Stack,
    prefix: str,
    guid: str,
    model: Any,
    lab: Any,
) -> None:
    models = [model("chat"), model("embed", mode="embedding")]
    rows = lab(30, models)
    # What is left of a rotation would be cleared away by anything that acts on the lab's keys.
    rotation = {"state": "existing", "rotate": True, "rotate_grace": "10s"}
    assert run_module("litellm_virtual_key", {"key_alias": f"virtkey-{guid}-user1", "guid": guid, **rotation}).changed
    time.sleep(11)
    before = litellm.keys(f"virtkey-{prefix}")
    assert len(before) == 31
    done = run_playbook(PLAYBOOK, {"guid": guid, "num_users": 30, "valid_for": "8h"}, verbosity=3)
    assert (done.rc, done.changed) == (0, 0), done.output
    assert said(done) == ["30 participants, 2 models each: 30 ok"]
    # Each key has called each model once, and nothing else has changed on it.
    assert calls(stack, prefix) == {"chat": 30, "embed": 30}
    written = ("key_alias", "metadata", "expires", "models")
    after = litellm.keys(f"virtkey-{prefix}")
    assert [[key[name] for name in written] for key in after] == [[key[name] for name in written] for key in before]
    assert not KEY_LIKE.search(done.output)
    assert not any(secret in done.output for secret in (rows[0]["key"], stack.master_key, stack.key_secret))


def test_who_would_fail_and_why(
    run_playbook: Any,
    litellm: harness.LiteLLM,
    stack: harness.Stack,
    prefix: str,
    guid: str,
    model: Any,
    lab: Any,
    tmp_path: Path,
) -> None:
    chat, embed = model("chat"), model("embed", mode="embedding")
    rows = lab(8, [chat, embed])
    tokens = [row["token"] for row in rows]
    litellm.post("/key/delete", keys=[tokens[1]])
    litellm.post("/key/update", key=tokens[2], duration="1s")
    litellm.post("/key/block", key=tokens[3])
    litellm.post("/key/update", key=tokens[4], max_budget=5, spend=6)
    litellm.post("/key/update", key=tokens[5], models=[embed])
    litellm.post("/key/update", key=tokens[6], duration="1h")
    mark = {"guid": guid}
    random = litellm.post("/key/generate", key_alias=f"virtkey-{guid}-user9", models=[chat, embed], metadata=mark)
    time.sleep(1.5)

    variables = {"guid": guid, "num_users": 10, "valid_for": "8h", "models": f"{chat},{embed}"}
    variables["output_dir"] = str(tmp_path)
    expected = {
        "user2": "no key of this alias is on the proxy",
        "user3": r"expired on 20\S+Z",
        "user4": "blocked",
        "user5": r"over its budget: 6\.00 of 5\.00 dollars are spent",
        "user6": f"{chat}: the key may not call this model",
        "user7": r"ends in (1 h|59 min), on 20\S+Z; it has to last 8 h",
        "user9": "its value can't be known: .* so it was not tried",
        "user10": "no key of this alias is on the proxy",
    }

    def compare(done: harness.PlaybookResult, headline: str) -> None:
        assert done.rc == 2, done.output
        lines = said(done)
        assert lines[0] == headline
        told = dict(line.split(": ", 1) for line in lines[1:])
        assert told.keys() == expected.keys()
        for name, pattern in expected.items():
            assert re.fullmatch(pattern, told[name]), (name, told[name])
        assert not KEY_LIKE.search(done.output)
        assert not any(value in done.output for value in (random["key"], stack.master_key, stack.key_secret))

    done = run_playbook(PLAYBOOK, variables, verbosity=3)
    compare(done, "10 participants, 2 models each: 2 ok, 8 would fail")
    # Keys that can't work are not called with: users 1, 7 and 8 call both, user6 the one it may.
    assert calls(stack, prefix) == {"chat": 3, "embed": 4}

    # A value that can't be derived is in what the lab was told.
    told = tmp_path / "provision-user-data.yaml"
    told.touch(mode=0o600)
    told.write_text(json.dumps({"litellm_user9_virtual_key": random["key"]}), encoding="utf-8")
    del expected["user9"]
    done = run_playbook(PLAYBOOK, variables, verbosity=3)
    compare(done, "10 participants, 2 models each: 3 ok, 7 would fail")

    # The hand-out of the first hour, without the master key: a deleted key's value is still in it.
    del variables["output_dir"]
    expected["user2"] = "the proxy doesn't know this key: it was deleted, or its value is wrong"
    expected["user9"] = expected["user10"] = "no key of this alias is among those given"
    expected["user8"] = f"wrong value: it is the one of virtkey-{guid}-user1"
    rows[7].update(key=rows[0]["key"], token=rows[0]["token"])
    handout = tmp_path / "keys.csv"
    handout.touch(mode=0o600)
    names = list(rows[0])
    lines = [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
    handout.write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**NO_MASTER, "PWD": str(tmp_path)}
    done = run_playbook(PLAYBOOK, {**variables, "handout": "keys.csv"}, verbosity=3, env=environment)
    compare(done, "10 participants, 2 models each: 1 ok, 9 would fail")


def test_models_that_do_not_answer(run_module: Any, litellm: harness.LiteLLM, model: Any, prefix: str) -> None:
    reasons = {
        model("broken", "broken"): "the model's backend answers HTTP 500: .*this model is broken on purpose",
        model("busy", "busy"): "rate limit of the model's backend: .*this model is busy on purpose",
        model("needs", "needs-key"): "the model's backend refuses LiteLLM's key for it: HTTP 401: .*a key is needed.*",
        model("slow", "slow"): "no answer within 1 s",
        f"{prefix}nowhere": "the proxy has no such model",
    }
    good = [model("chat"), model("docs", supports_convert=True), model("sound", mode="audio_transcription")]
    key = litellm.post("/key/generate", key_alias=f"{prefix}all")["key"]
    args = {"keys": [{"name": "ann", "key": key}], "models": [*reasons, *good], "call_timeout": 1, "retry_delay": 0}
    done = run_module("litellm_key_check", args, check=True, env=NO_MASTER)
    assert (done.failed, done.changed) == (True, False)
    assert done["summary"] == {"participants": 1, "ok": 0, "failed": 1, "called": 6, "listed": 2}
    checks = {check["model"]: check for check in done["results"][0]["checks"]}
    assert {name: check["ok"] for name, check in checks.items()} == {
        **dict.fromkeys(reasons, False),
        **dict.fromkeys(good, True),
    }
    for name, pattern in reasons.items():
        assert re.fullmatch(pattern, checks[name]["reason"]), checks[name]
    assert checks[good[1]]["reason"] == "listed, not called (document conversion)"
    assert checks[good[2]]["reason"] == "listed, not called (audio transcription)"
    assert done["msg"].startswith("1 participant, 8 models: 0 ok, 1 would fail: ann: ")
    assert key not in json.dumps(done)

    # Six of six share a reason: one line, not six. A value that is no key's takes no other text with it.
    keys = [{"name": f"user{number}", "key": key} for number in range(5)] + [{"name": "user6", "key": "user"}]
    done = run_module("litellm_key_check", {"keys": keys, "models": [f"{prefix}broken"]}, env=NO_MASTER)
    assert done["failing"][-1] == "user6: wrong value: it isn't a key's"
    keys[-1]["key"] = key
    done = run_module("litellm_key_check", {"keys": keys, "models": [f"{prefix}broken"]}, env=NO_MASTER)
    assert len(done["failing"]) == 1
    assert done["failing"][0].startswith(f"all 6 fail on {prefix}broken: the model's backend answers HTTP 500")


def test_limits_and_what_passes(
    run_module: Any, litellm: harness.LiteLLM, stack: harness.Stack, model: Any, prefix: str
) -> None:
    models = [model("a"), model("b")]
    keys = [
        {"name": "ann", "key": litellm.post("/key/generate", key_alias=f"{prefix}ann", models=models)["key"]},
        {
            "name": "bob",
            "key": litellm.post("/key/generate", key_alias=f"{prefix}bob", models=models, rpm_limit=0)["key"],
        },
    ]
    # Routes are limited: such a key may not ask when it ends.
    routes = {"allowed_routes": ["llm_api_routes"], "models": models, "duration": "2h"}
    keys.append({"name": "eve", "key": litellm.post("/key/generate", key_alias=f"{prefix}eve", **routes)["key"]})
    with FaultProxy(stack.url) as faults:
        faults.add_rule("POST", r"/v1/chat/completions$", "unavailable", count=1)
        args = {"litellm_url": faults.url, "keys": keys, "concurrency": 1, "retry_delay": 0}
        done = run_module("litellm_key_check", args, env=NO_MASTER)
        sent = [path for _method, path in faults.writes()]
        assert sent == ["/v1/chat/completions"] * 7  # the one that met the 503 twice
        assert [entry["failed"] for entry in done["results"]] == [False, True, False]
        assert re.fullmatch(rf"bob: {models[0]}: rate limit: .*; {models[1]}: rate limit: .*", done["failing"][0])
        assert done["results"][0]["msg"] == f"{models[0]}, {models[1]} answer"

        faults.add_rule("POST", r"/v1/chat/completions$", "unavailable", count=2)
        done = run_module("litellm_key_check", {**args, "keys": keys[:1]}, env=NO_MASTER)
        assert done["results"][0]["checks"][0]["status"] == 503
        assert done["results"][0]["checks"][1]["ok"]
    done = run_module("litellm_key_check", {"keys": keys[2:], "valid_for": "1h"}, env=NO_MASTER)
    assert done["failing"][0].startswith("eve: when it ends can't be read: ")


def test_what_cannot_be_checked(run_playbook: Any, run_module: Any, tmp_path: Path, guid: str) -> None:
    handout = tmp_path / "keys.txt"
    handout.write_text("alias,value\na,b\n", encoding="utf-8")
    dead = {"litellm_url": "http://127.0.0.1:9", "retry_count": 0}
    refused = {
        "no answer": {"keys": [{"name": "ann", "key": "sk-0123456789abcdef"}], **dead},
        "is not a list of key_alias and key": {"src": str(handout)},
        "No such file": {"src": str(tmp_path / "none")},
        "valid_for: 'soon' is not a duration": {"src": str(handout), "valid_for": "soon"},
        "litellm_master_key is not set. Give it, or namespace": {"guid": guid},
        "one of the following is required": {},
    }
    for text, args in refused.items():
        done = run_module("litellm_key_check", args, env=NO_MASTER)
        assert done.failed
        assert text in done["msg"], done["msg"]
        assert "results" not in done
    done = run_module("litellm_key_check", {"guid": guid, "litellm_master_key": "sk-not-the-master-key"})
    assert "HTTP 401" in done["msg"]
    done = run_module("litellm_key_check", {"guid": guid})
    assert done["failing"] == [f"{guid}: no key of this lab is on the proxy"]

    done = run_playbook(PLAYBOOK, {"num_users": "many", "handout": "none.csv"}, env={"LITELLM_URL": "", "PWD": "/x"})
    assert done.rc == 2
    for text in ("handout is /x/none.csv, which is not there", "num_users is many", "litellm_url is not set"):
        assert text in done.output
    assert "litellm_master_key" not in done.output
