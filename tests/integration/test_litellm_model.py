# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litellm_model and litellm_model_info against a real proxy, through a proxy that counts requests and can fail them."""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import capabilities, derive
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.stack.faults import FaultProxy

UPSTREAM_KEY = "sk-upstream-test"
WRITES = r"/model/(new|delete|update)|/model/.*/update"


class Models:
    """Runs the modules through a fault proxy; every result is searched for the secrets that went in."""

    def __init__(self, runner, stack, litellm, prefix, faults):
        self.runner, self.stack, self.litellm, self.prefix, self.faults = runner, stack, litellm, prefix, faults
        self.secrets = {stack.master_key, stack.key_secret, UPSTREAM_KEY}

    def item(self, name="m", **options):
        """A chat model that the upstream serves."""
        return {
            "model_name": self.prefix + name,
            "litellm_model": "openai/demo-chat",
            "api_base": f"{self.stack.upstream_url}/v1",
            "api_key": "sk-placeholder",
            **options,
        }

    def run(self, *items, check=False, diff=False, module="litellm_model", **options):
        """One run; several items become ``models``, a single one is the task's own options."""
        args = {"litellm_url": self.faults.url, "retry_delay": 0.05, **options}
        args.update(items[0] if len(items) == 1 else {"models": list(items)} if items else {})
        result = self.runner.module(module, args, check=check, diff=diff)
        text = json.dumps(result)
        assert not [secret for secret in self.secrets if secret in text]
        return result

    def good(self, *items, **options):
        """A run that has to succeed."""
        result = self.run(*items, **options)
        assert not result.failed, result["msg"]
        return result

    def same_again(self, *items, **options):
        """A run that has to find nothing to do, and to write nothing."""
        self.faults.clear()
        result = self.good(*items, **options)
        assert not result.changed, result["msg"]
        assert self.faults.writes() == []
        return result

    def shown(self, name="m"):
        """The only deployment of a name."""
        (one,) = self.all(name)
        return one

    def all(self, name):
        return [one for one in self.litellm.models(self.prefix) if one["model_name"] == self.prefix + name]

    def by_hand(self, name="m", identity=None, params=None, info=None):
        """A deployment made as the UI makes it; its id."""
        params = {
            "model": "openai/demo-chat",
            "api_base": f"{self.stack.upstream_url}/v1",
            "api_key": "sk-placeholder",
            **(params or {}),
        }
        info = {**(info or {}), **({"id": identity} if identity else {})}
        made = self.litellm.post("/model/new", model_name=self.prefix + name, litellm_params=params, model_info=info)
        return made["model_id"]

    def chat(self, name="m"):
        """The status of one call."""
        return self.litellm.chat(self.prefix + name, self.stack.master_key)[0]

    def serves(self, name="m"):
        """Whether a call succeeds: at once, or when LiteLLM's cool-down of five seconds after a failed one is over."""
        deadline = time.monotonic() + 60
        while (status := self.chat(name)) == 429 and time.monotonic() < deadline:
            time.sleep(0.5)
        return status == 200


@pytest.fixture
def faults(stack):
    with FaultProxy(stack.url) as proxy:
        yield proxy


@pytest.fixture
def models(runner, stack, litellm, prefix, faults):
    return Models(runner, stack, litellm, prefix, faults)


@pytest.fixture
def replicas(stack):
    urls = stack.variables["LITELLM_REPLICA_URLS"].split(",")
    if len(urls) < 2:
        pytest.fail("these tests need two replicas: STACK_REPLICAS=2 make stack-up")
    return urls


def actions(result):
    return ["fail" if entry["failed"] else entry["action"] for entry in result["results"]]


def fields(result):
    return {change["field"] for entry in result["results"] for change in entry["changes"]}


# ---- idempotence and round trips ----


def test_check_run_again_check_again(models):
    items = [
        models.item("a", rpm=30, capabilities=["chat", "function_calling"]),
        models.item("b", litellm_model="openai/demo-embed", capabilities=["embeddings"]),
        {"model_name": models.prefix + "c", "litellm_model": "vertex_ai/gemini-2.5-pro", "vertex_project": "other"},
    ]
    shared = {"models": items, "tpm": 1000, "vertex_project": "project", "scope": models.prefix}
    before = models.run(check=True, **shared)
    assert (before.changed, actions(before)) == (True, ["create"] * 3)
    assert models.faults.writes() == []
    assert models.litellm.models(models.prefix) == []
    first = models.good(diff=True, **shared)
    assert (first.changed, actions(first)) == (True, ["create"] * 3)
    assert first["summary"] == {
        "created": 3, "updated": 0, "rotated": 0, "deleted": 0, "unchanged": 0, "failed": 0,
    }  # fmt: skip
    assert f"{models.prefix}a: litellm_params.rpm: 30\n" in first["diff"]["after"]
    assert f"{models.prefix}a: litellm_params.api_key: hidden\n" in first["diff"]["after"]
    assert first["diff"]["before"] == ""
    models.same_again(**shared)
    assert not models.run(check=True, **shared).changed
    # Top-level options are every item's defaults, and an item has the last word.
    assert {one["litellm_params"]["tpm"] for one in models.litellm.models(models.prefix)} == {1000}
    assert models.shown("c")["litellm_params"]["vertex_project"] == "other"
    assert models.chat("a") == 200


def test_single_item_with_diff_of_a_change(models):
    models.good(models.item(rpm=1, context_length=10))
    changed = models.good(models.item(rpm=2, context_length=10), diff=True)
    assert changed["diff"] == {
        "before": f"{models.prefix}m: litellm_params.rpm: 1\n",
        "after": f"{models.prefix}m: litellm_params.rpm: 2\n",
    }
    assert models.shown()["litellm_params"]["rpm"] == 2


def test_every_option_round_trips(models, stack):
    item = models.item(
        api_version="2024-01-01",
        custom_llm_provider="openai",
        vertex_project="project-1",
        vertex_location="us-east5",
        rpm=30,
        tpm=500000,
        max_parallel_requests=7,
        request_timeout=12.5,
        max_retries=2,
        mode="chat",
        base_model="gpt-4o",
        context_length=131072,
        max_input_tokens=100000,
        max_output_tokens=31072,
        input_cost_per_million_tokens=0.09,
        output_cost_per_token=0.00000036,
        litellm_params={
            "temperature": 0,
            "drop_params": True,
            "tags": ["x", "y"],
            "stream_timeout": "2.5",
            "tpm": "500000",
        },
        model_info={"note": 'it\'s "x" # $(y)', "nested": {"a": [1, 2.5, True, None]}, "supports_vision": True},
    )
    models.good(item)
    shown = models.shown()
    params, info = shown["litellm_params"], shown["model_info"]
    assert info["id"] == derive.model_id(models.prefix + "m")
    assert {name: params[name] for name in ("model", "api_base", "api_version", "custom_llm_provider")} == {
        "model": "openai/demo-chat",
        "api_base": f"{stack.upstream_url}/v1",
        "api_version": "2024-01-01",
        "custom_llm_provider": "openai",
    }
    assert (params["rpm"], params["tpm"], params["max_parallel_requests"]) == (30, 500000, 7)
    assert (params["timeout"], params["max_retries"], params["temperature"]) == (12.5, 2, 0)
    assert params["drop_params"] is True
    assert params["tags"] == ["x", "y"]
    # Exactly: 0.09 / 1,000,000 in floating point alone is 8.999999999999999e-08.
    assert (params["input_cost_per_token"], info["input_cost_per_token"]) == (9e-08, 9e-08)
    assert (params["output_cost_per_token"], info["output_cost_per_token"]) == (3.6e-07, 3.6e-07)
    assert (info["max_tokens"], info["max_input_tokens"], info["max_output_tokens"]) == (131072, 100000, 31072)
    assert (info["mode"], info["base_model"]) == ("chat", "gpt-4o")
    assert info["note"] == 'it\'s "x" # $(y)'
    assert info["nested"] == {"a": [1, 2.5, True, None]}
    models.same_again(item)


def test_calls_are_billed_by_the_price(models, stack):
    # In model_info, where people put them, LiteLLM would ignore them.
    for name, price in (
        ("a", {"input_cost_per_million_tokens": 1000.0, "output_cost_per_million_tokens": 100.0}),
        ("b", {"model_info": {"input_cost_per_token": 0.001, "output_cost_per_token": 0.0001}}),
    ):
        models.good(models.item(name, **price))
        body = {"model": models.prefix + name, "messages": [{"role": "user", "content": "one two three"}]}
        answer = models.litellm.session.post(
            f"{stack.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {stack.master_key}"}
        )
        usage = answer.json()["usage"]
        expected = usage["prompt_tokens"] * 0.001 + usage["completion_tokens"] * 0.0001
        assert float(answer.headers["x-litellm-response-cost"]) == pytest.approx(expected)
        models.same_again(models.item(name, **price))


VERTEX = [
    ("claude-sonnet-4-6", "vertex_ai/claude-sonnet-4-6", 3.00, 15.00, 3e-06, 1.5e-05),
    ("claude-opus-4-6", "vertex_ai/claude-opus-4-6-v1", 5.00, 25.00, 5e-06, 2.5e-05),
    ("claude-sonnet-4-5", "vertex_ai/claude-sonnet-4-5", 3.00, 15.00, 3e-06, 1.5e-05),
    ("claude-3-5-haiku", "vertex_ai/claude-3-5-haiku", 1.00, 5.00, 1e-06, 5e-06),
    ("gemini-2.5-pro", "vertex_ai/gemini-2.5-pro", 1.25, 10.00, 1.25e-06, 1e-05),
    ("gpt-oss-120b", "vertex_ai/openai/gpt-oss-120b-maas", 0.09, 0.36, 9e-08, 3.6e-07),
    ("gpt-oss-20b", "vertex_ai/openai/gpt-oss-20b-maas", 0.07, 0.25, 7e-08, 2.5e-07),
    ("minimax-m2", "vertex_ai/minimaxai/minimax-m2-maas", 0.30, 1.20, 3e-07, 1.2e-06),
    ("qwen3-235b", "vertex_ai/qwen/qwen3-235b-a22b-instruct-2507-maas", 0.22, 0.88, 2.2e-07, 8.8e-07),
]


def test_vertex_models_keep_their_prices_to_the_digit(models):
    items = [
        {
            "model_name": models.prefix + name,
            "litellm_model": backend,
            "input_cost_per_million_tokens": cost_in,
            "output_cost_per_million_tokens": cost_out,
        }
        for name, backend, cost_in, cost_out, *_exactly in VERTEX
    ]
    shared = {
        "models": items,
        "vertex_location": "us-east5",
        "vertex_credentials": "/etc/vertex-claude-credentials/key.json",
        "key_secret": models.stack.key_secret,
    }
    assert models.good(**shared)["summary"]["created"] == 9
    for name, backend, *_given, cost_in, cost_out in VERTEX:
        shown = models.shown(name)
        assert shown["litellm_params"]["model"] == backend
        for place in ("litellm_params", "model_info"):
            assert shown[place]["input_cost_per_token"] == cost_in
            assert shown[place]["output_cost_per_token"] == cost_out
    # LiteLLM fills in much about models that it knows: none of it is drift.
    models.same_again(**shared)


def test_capabilities_become_labels(models):
    cases = {
        "chat": (["chat", "vision", "tokenize"], ["chat", "vision", "tokenize"], "chat"),
        "tools": (
            ["chat", "tool_choice", "function_calling", "parallel_function_calling"],
            ["chat", "function_calling", "parallel_function_calling", "tool_choice"],
            "chat",
        ),
        "embed": (["embeddings"], ["embeddings"], "embedding"),
        "convert": (["document_conversion"], ["convert"], None),
        "safety": (["safety"], ["chat"], "chat"),
    }
    # gpt-4o is known to LiteLLM, with vision and tools: what isn't in the list must not come from there.
    items = [models.item(name, litellm_model="openai/gpt-4o", capabilities=case[0]) for name, case in cases.items()]
    models.good(*items)
    for name, (_given, labels, mode) in cases.items():
        info = models.shown(name)["model_info"]
        assert capabilities.features(info) == labels
        assert mode is None or info["mode"] == mode
    models.same_again(*items)


def test_what_others_set_is_left_alone(models, stack):
    models.good(models.item(rpm=1, input_cost_per_million_tokens=1.0, context_length=10))
    identity = models.shown()["model_info"]["id"]
    theirs = {"litellm_params": {"model": "openai/demo-chat", "stream_timeout": 7, "output_cost_per_token": 0.5}}
    status, answer = models.litellm.request(
        "PATCH", f"/model/{identity}/update", json={**theirs, "model_info": {"id": identity, "access_groups": ["g"]}}
    )
    assert status == 200, answer
    if stack.version >= (1, 100):
        status, answer = models.litellm.request("PATCH", f"/model/{identity}/update", json={"blocked": True})
        assert status == 200, answer
    models.same_again(models.item(rpm=1, input_cost_per_million_tokens=1.0, context_length=10))
    # A change, with parameters that go, and another backend model.
    models.good(models.item(rpm=2, litellm_model="openai/demo-other"))
    shown = models.shown()
    assert shown["litellm_params"]["stream_timeout"] == 7
    assert shown["litellm_params"]["output_cost_per_token"] == 0.5
    assert shown["model_info"]["access_groups"] == ["g"]
    assert "input_cost_per_token" not in shown["litellm_params"]
    assert shown["model_info"].get("blocked") in (None, False) or stack.version >= (1, 100)
    if stack.version >= (1, 100):
        assert shown["model_info"]["blocked"] is True
    models.same_again(models.item(rpm=2, litellm_model="openai/demo-other"))


# ---- which deployment is meant ----


def test_several_deployments_of_one_name(models):
    one, two = models.item(), models.item(deployment="gpu-b", rpm=5)
    first = models.good(one, two)
    assert [entry["name"] for entry in first["results"]] == [f"{models.prefix}m", f"{models.prefix}m (gpu-b)"]
    ids = {shown["model_info"]["id"] for shown in models.all("m")}
    assert ids == {derive.model_id(f"{models.prefix}m"), derive.model_id(f"{models.prefix}m", "gpu-b")}
    models.same_again(one, two)
    models.same_again(two, one)
    twice = models.run(one, {**one, "rpm": 9}, models.item("other"))
    assert twice.failed
    assert "more than once (items 1 and 2)" in twice["msg"]
    assert actions(twice) == ["fail", "fail", "create"]
    assert models.good({**two, "state": "absent"})["summary"]["deleted"] == 1
    assert [shown["model_info"]["id"] for shown in models.all("m")] == [derive.model_id(f"{models.prefix}m")]


def test_adoption_keeps_the_id_and_the_secrets_nobody_declared(models, stack):
    identity = models.by_hand(params={"model": "openai/needs-key", "api_key": UPSTREAM_KEY, "rpm": 5})
    declared = models.item(litellm_model="openai/needs-key", tpm=7)
    del declared["api_key"]
    predicted = models.run(declared, check=True)
    adopted = models.good(declared)
    assert actions(adopted) == actions(predicted) == ["update"]
    assert fields(adopted) == fields(predicted)
    assert adopted["results"][0]["msg"] == "adopted"
    shown = models.shown()
    assert (shown["model_info"]["id"], shown["litellm_params"]["rpm"]) == (identity, 5)
    assert models.chat() == 200
    models.same_again(declared)
    # The key that nobody declared is still there after further changes.
    models.good({**declared, "tpm": 8})
    assert models.chat() == 200
    refused = models.run({k: v for k, v in declared.items() if k != "tpm"})
    assert refused.failed
    assert "litellm_params.tpm can only be taken away by making the deployment anew" in refused["msg"]
    assert models.chat() == 200
    # With the key given, everything is possible.
    known = {k: v for k, v in declared.items() if k != "tpm"} | {"api_key": UPSTREAM_KEY}
    models.good(known)
    shown = models.shown()
    assert (shown["model_info"]["id"], shown["litellm_params"].get("tpm")) == (identity, None)
    assert models.chat() == 200
    models.same_again(known)


def test_adoption_of_a_model_with_prices_where_they_do_not_count(models):
    models.by_hand(info={"input_cost_per_token": 5e-06, "output_cost_per_token": 6e-06, "max_tokens": 77})
    declared = models.item(input_cost_per_million_tokens=1.0)
    models.good(declared)
    shown = models.shown()
    assert shown["litellm_params"]["input_cost_per_token"] == shown["model_info"]["input_cost_per_token"] == 1e-06
    models.same_again(declared)
    models.good({**declared, "rpm": 3})
    assert models.shown()["model_info"]["max_tokens"] == 77


def test_all_prices_round_trip(models):
    names = (
        "input_cost_per_token output_cost_per_token input_cost_per_second output_cost_per_second"
        " input_cost_per_character input_cost_per_query input_cost_per_image input_cost_per_audio_token"
        " input_cost_per_token_batches output_cost_per_token_batches cache_creation_input_token_cost"
        " cache_read_input_token_cost"
    ).split()
    # gpt-4o has prices of its own in LiteLLM's table.
    for price in (0, 1e-06):
        item = models.item(litellm_model="openai/gpt-4o", model_info=dict.fromkeys(names, price))
        models.good(item)
        params = models.shown()["litellm_params"]
        assert {name: params[name] for name in names} == dict.fromkeys(names, price)
        models.same_again(item)


def test_numbers_and_booleans_as_text(models):
    # Templates make text of them before ansible-core 2.19; what LiteLLM doesn't parse stays text.
    item = models.item(
        litellm_params={
            "max_budget": "5",
            "max_file_size_mb": "5",
            "use_in_pass_through": "true",
            "merge_reasoning_content_in_choices": "False",
            "api_version": "1.0",
            "region_name": "5",
            "temperature": "0",
        }
    )
    models.good(item)
    params = models.shown()["litellm_params"]
    assert (params["max_budget"], params["use_in_pass_through"]) == (5.0, True)
    assert (params["api_version"], params["temperature"]) == ("1.0", "0")
    models.same_again(item)
    for name, value in (("max_budget", "6"), ("use_in_pass_through", "no"), ("api_version", "1.00")):
        item["litellm_params"][name] = value
        assert fields(models.good(item)) == {f"litellm_params.{name}"}
        models.same_again(item)


def test_an_items_price_replaces_a_default_given_the_other_way(models):
    shared = {"input_cost_per_million_tokens": 3.0, "output_cost_per_token": 2e-06}
    items = [models.item("a"), models.item("b", input_cost_per_token=1e-06, output_cost_per_million_tokens=9.0)]
    models.good(models=items, **shared)

    def prices(name):
        params = models.shown(name)["litellm_params"]
        return params["input_cost_per_token"], params["output_cost_per_token"]

    assert (prices("a"), prices("b")) == ((3e-06, 2e-06), (1e-06, 9e-06))
    models.same_again(models=items, **shared)


def test_adoption_that_is_not_clear(models):
    ids = sorted(models.by_hand(params={"rpm": number}) for number in (1, 2))
    unclear = models.run(models.item())
    assert unclear.failed
    assert f"2 deployments of this name exist that nobody manages ({', '.join(ids)})" in unclear["msg"]
    chosen = models.item(id=ids[1], rpm=9)
    assert models.good(chosen)["results"][0]["id"] == ids[1]
    models.same_again(chosen)
    beside = models.item(deployment="beside", adopt=False)
    assert actions(models.good(beside)) == ["create"]
    assert len(models.all("m")) == 3
    # Of two, the one with the declared backend and address is the one.
    models.by_hand("n", params={"model": "openai/other"})
    wanted = models.by_hand("n")
    assert models.good(models.item("n"))["results"][0]["id"] == wanted
    # What another tool manages is not taken over.
    models.by_hand("o", info={"managed_by": "another tool"})
    assert actions(models.good(models.item("o"))) == ["create"]


def test_a_deployment_known_by_id_can_be_renamed(models):
    identity = models.by_hand("old")
    renamed = models.item("new", id=identity)
    assert "model_name" in fields(models.good(renamed))
    assert models.all("old") == []
    assert models.shown("new")["model_info"]["id"] == identity
    models.same_again(renamed)


def test_scopes_do_not_touch_each_other(models):
    models.good(models.item("free"))
    models.good(models.item("one"), scope="one")
    taken = models.run(models.item("one", rpm=5), scope="two")
    assert taken.failed
    assert "belongs to scope 'one', not 'two'" in taken["msg"]
    gone = models.run(models.item("one", state="absent"), scope="two")
    assert gone.failed
    assert "belongs to scope 'one'" in gone["msg"]
    # What has no scope yet can be taken into one, and what has one keeps it where none is given.
    assert fields(models.good(models.item("free"), scope="one")) == {"scope"}
    models.good(models.item("free", rpm=1))
    assert models.shown("free")["model_info"]["scope"] == "one"


# ---- changes under load ----


class Load:
    """Calls models without a pause to speak of, from several threads, until told to stop."""

    def __init__(self, models, names, threads=3):
        self.models, self.names = models, names
        self.answers = []
        self._stop = threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._running = [self._pool.submit(self._calls, number) for number in range(threads)]

    def _calls(self, number):
        admin = harness.LiteLLM(self.models.stack.url, self.models.stack.master_key, self.models.stack.litellm_dsn)
        while not self._stop.is_set():
            name = self.names[number % len(self.names)]
            self.answers.append((name, *admin.chat(self.models.prefix + name, admin.key)))
            time.sleep(0.01)  # leaves the proxy some of a small machine

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._stop.set()
        for call in self._running:
            call.result()
        self._pool.shutdown()

    @property
    def failures(self):
        return [answer for answer in self.answers if answer[1] != 200]


def test_no_call_fails_while_parameters_change_and_go(models):
    models.good(models.item("a", rpm=100000, tpm=10000000), models.item("b"))
    with Load(models, ["a", "b"]) as load:
        models.good(models.item("a", tpm=10000000))  # a parameter goes
        models.good(models.item("a", tpm=20000000, context_length=99))  # a value changes
        models.good(models.item("a", litellm_model="openai/demo-convert"))
    assert load.failures == []
    assert {answer[0] for answer in load.answers} == {"a", "b"}
    assert len(load.answers) > 50
    assert "tpm" not in models.shown("a")["litellm_params"]


# ---- killed half-way ----


@pytest.mark.parametrize(
    ("survived", "adopted"),
    [(1, False), (2, False), (3, False), (2, True)],
    ids=["sibling-made", "original-gone", "original-back", "adopted-original-gone"],
)
def test_next_run_finishes_a_killed_one(models, survived, adopted):
    identity = models.by_hand(params={"rpm": 1}) if adopted else derive.model_id(f"{models.prefix}m")
    models.good(models.item(rpm=1))
    models.litellm.request(
        "PATCH",
        f"/model/{identity}/update",
        json={
            "model_name": f"{models.prefix}m",
            "litellm_params": {"stream_timeout": 7},
            "model_info": {"id": identity},
        },
    )
    # What others had set is found out with the first sibling, and a second one is made with it: four more steps.
    models.faults.add_rule("POST", WRITES, "unavailable", count=None, skip=survived + 2)
    killed = models.run(models.item(tpm=5), retry_count=0)
    assert killed.failed
    assert len(models.all("m")) == {1: 2, 2: 1, 3: 2}[survived]
    assert models.chat() == 200
    models.faults.clear()
    predicted = models.run(models.item(tpm=5), check=True)
    assert models.faults.writes() == []
    finished = models.good(models.item(tpm=5))
    for said in (*predicted["results"], *finished["results"]):
        del said["msg"]  # "to update" and "updated"
    assert predicted["results"] == finished["results"]
    shown = models.shown()
    assert shown["model_info"]["id"] == identity
    assert shown["litellm_params"]["tpm"] == 5
    assert "rpm" not in shown["litellm_params"]
    assert shown["litellm_params"]["stream_timeout"] == 7
    assert not {name for name in shown["model_info"] if name.startswith("rhpds_") and name != "rhpds_litemaas"}
    models.same_again(models.item(tpm=5))


def test_absent_takes_what_a_killed_run_left(models):
    models.good(models.item(rpm=1))
    models.faults.add_rule("POST", WRITES, "unavailable", count=None, skip=2)
    assert models.run(models.item(rpm=2), retry_count=0).failed
    models.faults.clear()
    models.good(models.item(state="absent"))
    assert models.all("m") == []


# ---- replicas and virtual keys ----


def test_replicas_take_up_what_changes(models, replicas):
    def on(url):
        found = harness.LiteLLM(url, models.stack.master_key, models.stack.litellm_dsn).models(models.prefix)
        return {one["model_name"]: one for one in found}

    urls = {"replica_urls": replicas, "wait_timeout": 60}
    models.good(models.item("a", rpm=1, context_length=10), models.item("b"), models.item("c"))
    # model_info alone in one, a parameter in the other; all wait together.
    started = time.monotonic()
    models.good(
        models.item("a", rpm=1, context_length=20),
        models.item("b", rpm=2),
        models.item("c", state="absent"),
        models.item("d"),
        **urls,
    )
    # Twice at most for a reload that 1.81 does every 30 seconds, not once for each.
    assert time.monotonic() - started < 110
    for url in replicas:
        shown = on(url)
        assert set(shown) == {models.prefix + name for name in "abd"}
        assert shown[models.prefix + "a"]["model_info"]["max_tokens"] == 20
        assert shown[models.prefix + "b"]["litellm_params"]["rpm"] == 2


def test_a_replica_that_does_not_follow_is_named(models, stack):
    with FaultProxy(stack.url) as lagging:
        lagging.add_rule("GET", "/model/info", "empty_page", count=None)
        late = models.run(models.item(), replica_urls=[lagging.url], wait_timeout=1)
        assert late.failed
        assert f"written, but replica {lagging.url} does not show it after 1 s" in late["msg"]
        assert models.chat() == 200
        # The original stays while a replica doesn't know its stand-in.
        change = models.run(models.item(rpm=3), replica_urls=[lagging.url], wait_timeout=1)
        assert change.failed
        assert "both deployments are in place" in change["msg"]
        assert len(models.all("m")) == 2
        assert models.chat() == 200
        lagging.clear()
        models.good(models.item(rpm=3), replica_urls=[lagging.url])
        assert models.shown()["litellm_params"]["rpm"] == 3
        lagging.add_rule("GET", "/model/info", "unavailable", count=None)
        models.good(models.item("n"), replica_urls=[lagging.url], wait=False)


def test_verify_as_a_virtual_key(models, litellm):
    for name in "ab":
        models.good(models.item(name))
    sees_a = litellm.post("/key/generate", key_alias=f"{models.prefix}1", models=[f"{models.prefix}a"])["key"]
    models.secrets.add(sees_a)
    assert not models.good(models.item("a"), verify_as=sees_a).changed
    blind = models.run(models.item("a"), models.item("b"), verify_as=sees_a, wait_timeout=1)
    assert blind.failed
    assert f"{models.prefix}b: in place, but the key of verify_as does not see it" in blind["msg"]
    assert actions(blind) == ["none", "fail"]
    expired = litellm.post("/key/generate", key_alias=f"{models.prefix}2", duration="1s")["key"]
    models.secrets.add(expired)
    time.sleep(1.2)
    started = time.monotonic()
    refused = models.run(models.item("a"), verify_as=expired)
    assert refused.failed
    assert "the key of verify_as is refused" in refused["msg"]
    assert time.monotonic() - started < 20  # not after the whole wait_timeout


# ---- secrets ----


def test_a_changed_secret_is_noticed_with_key_secret(models, stack):
    keyed = {"key_secret": stack.key_secret}
    wrong = models.item(litellm_model="openai/needs-key", api_key="sk-wrong-1")
    models.secrets.add("sk-wrong-1")
    models.good(wrong, **keyed)
    assert models.chat() == 401
    models.same_again(wrong, **keyed)
    right = {**wrong, "api_key": UPSTREAM_KEY}
    changed = models.good(right, diff=True, **keyed)
    assert fields(changed) == {"litellm_params.api_key"}
    assert models.serves()
    models.same_again(right, **keyed)
    # A run without the secret leaves it at that.
    models.same_again(right, key_secret="")
    models.same_again(right, **keyed)
    short = models.run(right, key_secret="too-short")
    assert "shorter than 32 bytes" in short["msg"]


def test_secrets_without_key_secret(models):
    # An empty option hides the environment's.
    first = models.item(litellm_model="openai/needs-key", api_key="sk-wrong-1", key_secret="")
    right = {**first, "api_key": UPSTREAM_KEY}
    models.good(first)
    models.same_again(right)
    assert models.good(right, update_secrets="always").changed
    assert models.serves()
    assert models.good(right, update_secrets="always").changed
    # Left out by mistake, it must not be lost; said so, it goes.
    forgotten = models.run({k: v for k, v in right.items() if k != "api_key"})
    assert forgotten.failed
    assert "api_key was declared before, can't be read back, and is missing now" in forgotten["msg"]
    assert models.serves()
    without = {**right, "api_key": ""}
    assert fields(models.good(without)) == {"litellm_params.api_key"}
    assert models.chat() != 200
    models.same_again(without)


def test_masked_parameters_are_compared_all_the_same(models, stack):
    keyed = {"key_secret": stack.key_secret}
    account = {
        "type": "service_account",
        "project_id": "project-of-the-account",
        "private_key_id": "0123abcdef0123abcdef",
        "private_key": "-----BEGIN PRIVATE KEY-----\nabcdefgh\n-----END PRIVATE KEY-----\n",
    }
    models.secrets |= {"Bearer very-secret", "client-very-secret", account["private_key_id"], "abcdefgh"}
    models.secrets.add("http://auth.example/very-secret")
    item = models.item(
        vertex_credentials=account,
        litellm_params={
            "client_secret": "client-very-secret",
            "auth_url": "http://auth.example/very-secret",
            "extra_headers": {"Authorization": "Bearer very-secret", "X-Team": "blue"},
            "litellm_credential_name": "shared-credential",
        },
    )
    models.good(item, **keyed)
    models.same_again(item, **keyed)
    # Only what is secret is hidden.
    assert "project-of-the-account" in json.dumps(models.good(item, **keyed))
    item["litellm_params"] = {**item["litellm_params"], "extra_headers": {"Authorization": "Bearer very-secret"}}
    changed = models.good(item, diff=True, **keyed)
    assert fields(changed) == {"litellm_params.extra_headers"}
    assert "hidden" in changed["diff"]["after"]
    models.same_again(item, **keyed)


PLAYBOOK = """
- name: A model with secrets everywhere
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Make it
      rhpds.litemaas.litellm_model: "{{ options }}"
      register: made
    - name: Show what came back
      ansible.builtin.debug:
        var: made
"""


def test_no_secret_in_the_most_verbose_output(models, stack, run_playbook):
    secrets = {
        "api_key": "sk-output-1",
        "header": "Bearer output-2",
        "private": "output-3",
        "client": "output-4",
        "listed": "sk-output-5",
    }
    options = {
        "models": [
            models.item(
                api_key=secrets["api_key"],
                vertex_credentials={"private_key": f"-----BEGIN\n{secrets['private']}\n-----END"},
                litellm_params={
                    "extra_headers": {"Authorization": secrets["header"]},
                    "client_secret": secrets["client"],
                },
            ),
            models.item("broken", litellm_model="openai/needs-key", api_key=secrets["listed"], test=True),
        ],
    }
    done = run_playbook(PLAYBOOK, {"options": options}, diff=True, verbosity=3)
    assert done.rc != 0
    assert "the model can't be called" in done.output
    for secret in (*secrets.values(), stack.master_key, stack.key_secret):
        assert secret not in done.output


# ---- trying the upstream ----


def test_the_upstream_is_tried_before_anything_is_written(models):
    cases = [
        models.item("fine", test=True),
        models.item("embed", litellm_model="openai/demo-embed", capabilities=["embeddings"], test=True),
        models.item("down", litellm_model="openai/broken", test=True),
        models.item("key", litellm_model="openai/needs-key", api_key="sk-wrong-echo", test=True),
        models.item("nowhere", api_base="http://127.0.0.1:9/v1", test=True),
    ]
    models.secrets.add("sk-wrong-echo")
    result = models.run(*cases)
    assert result.failed
    assert actions(result) == ["create", "create", "fail", "fail", "fail"]
    assert {one["model_name"] for one in models.litellm.models(models.prefix)} == {
        models.prefix + name for name in ("fine", "embed")
    }
    by_name = {entry["name"].removeprefix(models.prefix): entry for entry in result["results"]}
    for name, words in (("down", "broken on purpose"), ("key", "a key is needed"), ("nowhere", "onnection")):
        entry = by_name[name]
        assert "the model can't be called" in entry["msg"]
        assert words in entry["msg"]
        assert "Nothing was written" in entry["msg"]
        assert "stack trace" not in entry["msg"]
        assert (entry["failed"], entry["changed"]) == (True, False)
    # A change is tried too, and what is there keeps serving.
    bad = models.run(models.item("fine", litellm_model="openai/broken", test=True))
    assert bad.failed
    assert models.chat("fine") == 200
    assert models.shown("fine")["litellm_params"]["model"] == "openai/demo-chat"
    # Nothing to write, nothing to try; and a check never tries.
    models.same_again(models.item("fine", test=True))
    assert models.run(models.item("down", litellm_model="openai/broken", test=True), check=True).changed


# ---- prune, absent, protected ----


def test_prune_keeps_to_its_scope_and_its_guard(models):
    scope = models.prefix
    bulk = {"scope": scope, "prune": True}
    items = [models.item(str(number)) for number in range(7)]
    models.good(*items, scope=scope)
    models.good(models.item("other"), scope=scope + "other")
    models.good(models.item("unscoped"))
    models.by_hand("by-hand")
    everything = {one["model_name"] for one in models.litellm.models(models.prefix)}
    # Six of seven is more than 20 % and more than five.
    models.faults.clear()
    refused = models.run(models=[items[0]], **bulk)
    assert refused.failed
    assert "and 3 more: prune refused: 6 of 7 would be removed, more than 20 %" in refused["msg"]
    assert models.faults.writes() == []
    assert {one["model_name"] for one in models.litellm.models(models.prefix)} == everything
    # An item that can't be understood may be one that is missing: nothing goes.
    unclear = models.run(models=[*items[1:], {"litellm_model": "openai/x"}], **bulk)
    assert unclear.failed
    assert "model_name is empty" in unclear["msg"]
    assert models.shown("0")
    # A list that can't be read removes nothing.
    models.faults.add_rule("GET", "/model/info", "unavailable", count=None)
    assert models.run(models=items[:4], retry_count=0, **bulk).failed
    models.faults.clear()
    models.faults.add_rule("GET", "/model/info", "truncated_page", count=None)
    models.run(models=items[:4], retry_count=0, wait=False, **bulk)
    models.faults.clear()
    assert {one["model_name"] for one in models.litellm.models(models.prefix)} >= {
        item["model_name"] for item in items[:4]
    }
    models.good(*items, scope=scope)
    protected = models.run(models=items[:6], protected=[items[6]["model_name"]], **bulk)
    assert protected.failed
    assert "is protected" in protected["msg"]
    assert models.run(models=items[:6], check=True, **bulk)["summary"]["deleted"] == 1
    assert models.good(models=items[:6], **bulk)["summary"]["deleted"] == 1
    assert models.good(models=items[:1], **bulk)["summary"]["deleted"] == 5
    models.same_again(models=items[:1], **bulk)
    assert {one["model_name"].removeprefix(models.prefix) for one in models.litellm.models(models.prefix)} == {
        "0", "other", "unscoped", "by-hand",
    }  # fmt: skip
    models.good(*items, scope=scope)
    assert models.good(models=[], allow_mass_prune=True, **bulk)["summary"]["deleted"] == 7


def test_prune_takes_a_deployment_whose_label_is_gone(models):
    bulk = {"scope": models.prefix, "prune": True}
    models.good(models=[models.item(), models.item(deployment="b")], **bulk)
    models.good(models=[models.item()], **bulk)
    assert models.shown()["model_info"]["id"] == derive.model_id(f"{models.prefix}m")


def test_absent(models):
    models.good(models.item("a"), models.item("a", deployment="b"), models.item("b"), models.item("c"))
    by_hand = models.by_hand("a")
    assert not models.good({"model_name": f"{models.prefix}nothing", "state": "absent"}).changed
    wrong = models.run({"model_name": f"{models.prefix}b", "id": by_hand, "state": "absent"})
    assert wrong.failed
    assert f"is of model '{models.prefix}a'" in wrong["msg"]
    protected = models.run({"model_name": f"{models.prefix}c", "state": "absent"}, protected=[f"{models.prefix}c"])
    assert protected.failed
    models.good({"model_name": f"{models.prefix}a", "id": by_hand, "state": "absent"})
    models.good({"model_name": f"{models.prefix}a", "deployment": "b", "state": "absent"})
    assert models.shown("a")["model_info"]["id"] == derive.model_id(f"{models.prefix}a")
    models.by_hand("a")
    both = models.run(models.item("a"), {"model_name": f"{models.prefix}a", "state": "absent"})
    assert both.failed
    assert "more than once" in both["msg"]
    gone = [{"model_name": models.prefix + name, "state": "absent"} for name in "abc"]
    assert models.run(*gone, check=True)["summary"]["deleted"] == 4
    assert models.good(*gone)["summary"]["deleted"] == 4
    models.same_again(*gone)
    assert models.litellm.models(models.prefix) == []


# ---- bad input ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"litellm_model": None}, "litellm_model is missing"),
        ({"rpm": -1}, "rpm is -1; it must be between 0 and 2147483647"),
        ({"tpm": 2**31}, "tpm is 2147483648"),
        ({"context_length": -5}, "max_tokens is -5"),
        ({"litellm_params": {"rpm": "many"}}, "litellm_params.rpm: 'many' is not a number"),
        ({"input_cost_per_token": -1.0}, "input_cost_per_token is -1.0; a price is in US dollars"),
        ({"output_cost_per_million_tokens": -1.0}, "output_cost_per_token is -1e-06"),
        ({"input_cost_per_token": 1e-06, "input_cost_per_million_tokens": 1.0}, "exclude each other"),
        ({"rpm": 1, "litellm_params": {"rpm": 2}}, "rpm and litellm_params.rpm disagree"),
        ({"context_length": 1, "model_info": {"max_tokens": 2}}, "context_length and model_info.max_tokens disagree"),
        ({"model_info": {"managed_by": "me"}}, "model_info.managed_by is set by this module"),
        ({"litellm_params": {"model_info": {}}}, "litellm_params.model_info is set by this module"),
        ({"request_timeout": 0}, "request_timeout is 0"),
        ({"model_name": "  "}, "model_name is empty"),
        ({"model_name": "two\nlines"}, "line break"),
        ({"model_name": "x" * 256}, "model_name has 256 characters"),
        ({"model_name": "模型"}, "LiteLLM fails every call of such a model"),
    ],
)
def test_bad_input_is_named_and_the_rest_is_done(models, options, words):
    result = models.run(models.item("bad", **options), models.item("good"))
    assert result.failed
    assert words in result["results"][0]["msg"]
    assert words in result["msg"]
    assert actions(result) == ["fail", "create"]
    assert [one["model_name"] for one in models.litellm.models(models.prefix)] == [f"{models.prefix}good"]


def test_names_are_only_names(models):
    names = ["it's", 'a "b"', "$(touch /tmp/x)", "a#b?c&d", "a/b", "100 %", "ünïcödé", "{{ x }}"]
    names.append("x" * (255 - len(models.prefix)))
    items = [models.item(name) for name in names]
    models.good(*items)
    assert {one["model_name"] for one in models.litellm.models(models.prefix)} == {i["model_name"] for i in items}
    for name in names:
        assert models.chat(name) == 200, name
    models.same_again(*items)
    changed = [{**item, "rpm": 1000} for item in items]
    models.good(*changed)
    models.same_again(*changed)
    odd = models.by_hand("odd", identity=f"{models.prefix} #1 ü")
    adopt = models.item("odd", rpm=5)
    del adopt["api_key"]
    assert models.good(adopt)["results"][0]["id"] == odd
    models.good(*[{"model_name": item["model_name"], "state": "absent"} for item in (*items, adopt)])
    assert models.litellm.models(models.prefix) == []


def test_options_that_do_not_go_together(models):
    assert models.run(prune=True, models=[]).failed
    assert models.run().failed
    assert models.run(models.item(capabilities=["flying"])).failed
    assert "mutually exclusive" in models.run(models.item(), models=[models.item()])["msg"]


# ---- servers that are not what they should be ----


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        redirect = self.server.redirect_to  # type: ignore[attr-defined]
        self.send_response(302 if redirect else 200)
        if redirect:
            self.send_header("location", redirect)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>Log in</html>")

    def log_message(self, *_args):
        pass


@pytest.fixture
def web_page():
    server = HTTPServer(("127.0.0.1", 0), Page)
    server.redirect_to = ""  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_wrong_servers_and_keys(models, web_page, stack):
    page = f"http://127.0.0.1:{web_page.server_port}"
    quick = {"retry_count": 0}
    nobody = models.run(models.item(), litellm_url="http://127.0.0.1:9", **quick)
    assert "GET http://127.0.0.1:9/model/info: no answer" in nobody["msg"]
    assert "Check litellm_url" in nobody["msg"]
    denied = models.run(models.item(), litellm_master_key="sk-wrong-master", **quick)
    assert "401" in denied["msg"]
    assert "Check litellm_master_key" in denied["msg"]
    assert "sk-wrong-master" not in json.dumps(denied)
    html = models.run(models.item(), litellm_url=page, **quick)
    assert "the answer is not JSON" in html["msg"]
    web_page.redirect_to = f"{stack.url}/model/info"
    moved = models.run(models.item(), litellm_url=page, **quick)
    assert f"redirected to {stack.url}/model/info" in moved["msg"]
    for result in (nobody, denied, html, moved):
        assert result.failed
    assert "not an HTTP URL" in models.run(models.item(), litellm_url="litellm.example.com")["msg"]


@pytest.mark.parametrize(
    ("method", "path", "action", "count"),
    [
        ("*", "", "unavailable", 2),
        ("GET", "/model/info", "unavailable", 2),
        ("GET", "/model/info", "pool_exhausted", 1),
        ("GET", "/model/info", "empty_page", 1),
        ("GET", "/model/info", "reset", 2),
        ("GET", "/model/info", "truncated_body", 1),
        ("POST", "/model/new", "rate_limited", 1),
        ("POST", "/model/new", "reset", 1),
        ("POST", "/model/new", "reset_after", 1),
        ("POST", "/model/new", "error_after", 1),
        ("POST", "/model/new", "pool_exhausted", 1),
        ("POST", "/model/delete", "reset_after", 1),
        ("POST", "/model/delete", "unavailable", 1),
    ],
)
def test_passing_faults_leave_one_row_and_the_truth(models, method, path, action, count):
    if path != "/model/new":
        models.good(models.item(rpm=1))
    models.faults.add_rule(method, path, action, count=count, retry_after=1)
    result = models.run(models.item(rpm=2))
    assert models.shown()["litellm_params"]["rpm"] == 2
    assert not result.failed, result["msg"]
    models.same_again(models.item(rpm=2))


def test_lasting_faults_are_failures_and_the_next_run_converges(models):
    models.faults.add_rule("POST", "/model/new", "unavailable", count=None)
    result = models.run(models.item("a"), models.item("b"), retry_count=1)
    assert result.failed
    assert "HTTP 503" in result["msg"]
    assert "run again" in result["msg"]
    models.faults.clear()
    # Answered as if written, and never there: no success.
    models.faults.add_rule("POST", "/model/new", "answer", count=None, body={"model_id": "x"})
    lost = models.run(models.item("a"), wait_timeout=1)
    assert lost.failed
    assert "the server answered that it was created, but it is not there" in lost["msg"]
    models.faults.clear()
    models.good(models.item("a"), models.item("b"))
    models.same_again(models.item("a"), models.item("b"))


def test_an_adopted_model_is_not_doubled_by_a_stale_answer(models):
    identity = models.by_hand()
    models.good(models.item())
    models.faults.add_rule("GET", "/model/info", "empty_page", count=1)
    assert not models.good(models.item()).changed
    models.faults.add_rule("GET", "/model/info", "empty_page", count=1)
    assert models.good({"model_name": f"{models.prefix}m", "state": "absent"})["summary"]["deleted"] == 1
    assert identity
    assert models.all("m") == []


def test_what_another_run_is_making_is_waited_for(models):
    models.faults.add_rule("POST", "/model/new", "error_after", count=1)
    # Two looks before anything is made see that it isn't there; the next ones come too early.
    hidden = models.faults.add_rule("GET", "/model/info", "empty_page", count=4, skip=2)
    models.good(models.item(rpm=2))
    assert hidden.applied == 4
    assert models.faults.count("POST", "/model/new") == 2
    assert len(models.all("m")) == 1


def test_two_runs_at_once_leave_one_row(models, runner, tmp_path):
    def one_run(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        other = Models(harness.Runner(models.stack, folder), models.stack, models.litellm, models.prefix, models.faults)
        return other.run(*[models.item(str(name), rpm=1) for name in range(3)])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one_run, range(2)))
    assert [result.failed for result in results] == [False, False], [result["msg"] for result in results]
    assert len(models.litellm.models(models.prefix)) == 3
    models.same_again(*[models.item(str(name), rpm=1) for name in range(3)])


# ---- litellm_model_info ----


def test_info_filters(models):
    models.good(models.item("a"), models.item("a", deployment="x"), scope="one")
    models.good(models.item("b"))
    by_hand = models.by_hand("c")

    def found(**options):
        result = models.good(module="litellm_model_info", **{"prefix": models.prefix, **options})
        assert not result.changed
        names = [one["model_name"].removeprefix(models.prefix) + (one["deployment"] or "") for one in result["models"]]
        assert result["msg"].startswith(f"{len(names)} deployment")
        return names

    assert found() == sorted(found(), key=lambda name: name[0])
    assert sorted(found()) == ["a", "ax", "b", "c"]
    assert sorted(found(scope="one")) == ["a", "ax"]
    assert found(managed=False) == ["c"]
    assert sorted(found(managed=True)) == ["a", "ax", "b"]
    assert found(id=by_hand) == ["c"]
    assert found(model_name=f"{models.prefix}b") == ["b"]
    assert found(stored=False) == []
    assert found(prefix=f"{models.prefix}nothing") == []
    assert models.faults.writes()
    models.faults.clear()
    found()
    assert models.faults.requests == [("GET", "/model/info")]
