# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role ocp4_workload_litemaas_models through its playbook, against the real proxy and database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.cluster import Namespace
from ansible_collections.rhpds.litemaas.tests.stack.faults import FaultProxy

PLAYBOOK = "rhpds.litemaas.manage_models"
LIST = "ocp4_workload_litemaas_models_list"
UPSTREAM_KEY = "sk-upstream-9f2b7c61d0aa"
LINE = re.compile(r'"msg": "((?:[^"\\]|\\.)*)"')


@pytest.fixture(params=["split", "shared"])
def layout(request: pytest.FixtureRequest, stack: harness.Stack) -> dict[str, str]:
    """Where the databases are, as variables of the role."""
    if request.param == "split":
        return {"litemaas_dsn": stack.litemaas_dsn, "litellm_dsn": stack.litellm_dsn}
    return {"litemaas_dsn": stack.litellm_dsn, "litellm_dsn": ""}


@pytest.fixture
def role(run_playbook: Callable[..., harness.PlaybookResult], prefix: str) -> Callable[..., harness.PlaybookResult]:
    """Runs the role with a list; rows of other models are left alone unless a test says otherwise."""

    def run(items: list[dict[str, Any]] | None, **options: Any) -> harness.PlaybookResult:
        settings = {name: options.pop(name) for name in list(options) if name in ("check", "diff", "verbosity", "env")}
        variables: dict[str, Any] = {
            "ocp4_workload_litemaas_models_scope": prefix,
            "ocp4_workload_litemaas_models_sync_from_litellm": False,
            "ocp4_workload_litemaas_models_retry_delay": 0.1,
        }
        for name, value in options.items():
            is_ours = not name.startswith(("lite", "ACTION", "agnosticd"))
            variables[f"ocp4_workload_litemaas_models_{name}" if is_ours else name] = value
        if items is not None:
            variables[LIST] = items
        return run_playbook(PLAYBOOK, variables, **settings)

    return run


@pytest.fixture
def item(prefix: str, stack: harness.Stack) -> Callable[..., dict[str, Any]]:
    """An item of the list."""

    def make(name: str, **more: Any) -> dict[str, Any]:
        return {
            "model_name": prefix + name,
            "litellm_model": "openai/mini",
            "api_base": f"{stack.upstream_url}/v1",
            "api_key": UPSTREAM_KEY,
            **more,
        }

    return make


@pytest.fixture
def faults(stack: harness.Stack) -> Iterator[FaultProxy]:
    """A way to the proxy that counts what passes."""
    with FaultProxy(stack.url) as proxy:
        yield proxy


def rows(dsn: str, prefix: str) -> dict[str, dict[str, Any]]:
    """The catalogue's rows under a prefix."""
    connection = harness.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM models WHERE starts_with(id, %s)", (prefix,))
            names = [column.name for column in cursor.description]
            found = [dict(zip(names, values, strict=True)) for values in cursor]
    finally:
        connection.close()
    return {row["id"].removeprefix(prefix): row for row in found}


def said(done: harness.PlaybookResult) -> str:
    """The last line of a run."""
    return LINE.findall(done.stdout)[-1]


def subscribe(dsn: str, model: str) -> None:
    """An active subscription of the system user."""
    connection = harness.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO subscriptions (user_id, model_id, status, quota_requests, quota_tokens)"
                " VALUES ('00000000-0000-0000-0000-000000000001', %s, 'active', 1, 1)",
                (model,),
            )
    finally:
        connection.close()


def test_run_again_and_check(
    role: Any, item: Any, layout: dict[str, str], litellm: harness.LiteLLM, prefix: str, faults: FaultProxy
) -> None:
    quoted = 'it\'s "q" $(touch x) #1'
    items = [
        item("chat", display_name="IBM's", description='says "hi"; DROP TABLE models', rpm=30, category="code"),
        item("chat", deployment="gpu-b"),
        item("embed", capabilities=["embeddings"], context_length=512),
        item(quoted),
        {
            "model_name": prefix + "vertex",
            "litellm_model": "vertex_ai/claude-sonnet-4-6",
            "vertex_location": "us-east5",
        },
    ]
    more = {**layout, "litellm_url": faults.url}
    before = role(items, check=True, **more)
    assert before.rc == 0, before.output
    assert said(before) == "5 models: 5 to create; LiteMaaS catalogue: 4 to create"
    assert (litellm.models(prefix), rows(layout["litemaas_dsn"], prefix), faults.writes()) == ([], {}, [])

    first = role(items, **more)
    assert first.rc == 0, first.output
    assert said(first) == "5 models: 5 created; LiteMaaS catalogue: 4 created"
    assert len(litellm.models(prefix)) == 5
    there = rows(layout["litemaas_dsn"], prefix)
    assert set(there) == {"chat", "embed", quoted, "vertex"}
    chat = there["chat"]
    assert (chat["name"], chat["category"], chat["provider"]) == ("IBM's", "code", "openshift-ai")
    assert chat["description"] == 'says "hi"; DROP TABLE models'
    assert (there["vertex"]["provider"], there["vertex"]["category"]) == ("vertex_ai", "general")
    assert (there["embed"]["features"], there["embed"]["context_length"]) == (["embeddings"], 512)

    written = len(faults.writes())
    for check in (False, True):
        again = role(items, check=check, **more)
        assert again.rc == 0, again.output
        assert again.changed == 0
        assert said(again) == "5 models: 5 unchanged; LiteMaaS catalogue: 4 unchanged"
    assert len(faults.writes()) == written
    assert rows(layout["litemaas_dsn"], prefix) == there, "not even updated_at moves"


def test_changed_value_and_absent(role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str) -> None:
    assert role([item("a", rpm=30), item("a", deployment="b"), item("c")]).rc == 0
    changes = [item("a", rpm=60), item("a", deployment="b", state="absent"), item("c", state="absent")]
    check = role(changes, check=True)
    assert check.rc == 0, check.output
    assert said(check) == ("3 models: 1 to update, 2 to delete; LiteMaaS catalogue: 1 to update, 1 to make unavailable")
    done = role(changes)
    assert done.rc == 0, done.output
    assert said(done) == "3 models: 1 updated, 2 deleted; LiteMaaS catalogue: 1 updated, 1 made unavailable"
    (left,) = litellm.models(prefix)
    assert left["litellm_params"]["rpm"] == 60
    there = rows(stack.litemaas_dsn, prefix)
    assert (there["a"]["rpm"], there["a"]["availability"], there["c"]["availability"]) == (
        60,
        "available",
        "unavailable",
    )
    again = role(changes)
    assert (again.rc, again.changed) == (0, 0), again.output
    back = role([item("a", rpm=60), item("c")])
    assert back.rc == 0, back.output
    assert rows(stack.litemaas_dsn, prefix)["c"]["availability"] == "available"


def test_row_of_an_earlier_half_done_removal_is_hidden(
    role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str
) -> None:
    assert role([item("a")]).rc == 0
    litellm.remove(prefix)
    done = role([item("a", state="absent")])
    assert done.rc == 0, done.output
    assert rows(stack.litemaas_dsn, prefix)["a"]["availability"] == "unavailable"


def test_prune_stays_in_its_scope(role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str) -> None:
    assert role([item("a"), item("b")]).rc == 0
    assert role([item("other")], scope="another").rc == 0
    for check in (True, False):
        done = role([item("a")], prune=True, check=check)
        assert done.rc == 0, done.output
    assert said(done) == "2 models: 1 deleted, 1 unchanged; LiteMaaS catalogue: 1 unchanged, 1 made unavailable"
    assert {model["model_name"] for model in litellm.models(prefix)} == {prefix + "a", prefix + "other"}
    there = rows(stack.litemaas_dsn, prefix)
    assert [there[name]["availability"] for name in ("a", "b", "other")] == ["available", "unavailable", "available"]


def test_prune_with_an_empty_list_is_refused(role: Any) -> None:
    done = role([], prune=True, sync_from_litellm=True)
    assert done.rc == 2
    assert "prune with an empty list would remove every model" in done.output


def test_subscriptions_hold_a_removal_back(
    role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str
) -> None:
    assert role([item("a"), item("b")]).rc == 0
    subscribe(stack.litemaas_dsn, prefix + "a")
    done = role([item("a", state="absent"), item("b", state="absent"), item("c")])
    assert done.rc == 2
    assert f"{prefix}a: is protected (it has active subscriptions): not removed" in said(done)
    assert {model["model_name"] for model in litellm.models(prefix)} == {prefix + "a", prefix + "c"}
    there = rows(stack.litemaas_dsn, prefix)
    assert [there[name]["availability"] for name in "abc"] == ["available", "unavailable", "available"]
    destroyed = role([item("a"), item("c")], ACTION="destroy")
    assert destroyed.rc == 2
    assert [model["model_name"] for model in litellm.models(prefix)] == [prefix + "a"]
    allowed = role([item("a")], ACTION="destroy", allow_active_subscriptions=True)
    assert allowed.rc == 0, allowed.output
    assert litellm.models(prefix) == []
    assert rows(stack.litemaas_dsn, prefix)["a"]["availability"] == "unavailable"


def test_destroy_takes_what_is_ours_and_named(
    role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str
) -> None:
    assert role([item("a"), item("b"), item("kept")]).rc == 0
    assert role([item("other")], scope="another").rc == 0
    params = {"model": "openai/mini", "api_base": "http://127.0.0.1:9/v1", "api_key": "x"}
    litellm.post("/model/new", model_name=prefix + "b", litellm_params=params)
    gone = [item("a"), item("b"), item("other"), item("never")]
    check = role(gone, ACTION="destroy", check=True)
    assert check.rc == 0, check.output
    assert len(litellm.models(prefix)) == 5
    done = role(gone, agnosticd_action="remove", ACTION="create")
    assert done.rc == 0, done.output
    assert said(check).replace("to delete", "deleted").replace("to make unavailable", "made unavailable").replace(
        "to update", "updated"
    ) == said(done)
    assert said(done).startswith("2 models: 2 deleted; LiteMaaS catalogue: ")
    assert f"left as they are: {prefix}b (" in said(done)
    assert "not made by this collection" in said(done)
    assert "belongs to scope 'another'" in said(done)
    assert sorted(model["model_name"].removeprefix(prefix) for model in litellm.models(prefix)) == [
        "b",
        "kept",
        "other",
    ]
    there = rows(stack.litemaas_dsn, prefix)
    assert {name: row["availability"] for name, row in there.items()} == {
        "a": "unavailable",
        "b": "available",
        "kept": "available",
        "other": "available",
    }
    again = role(gone, ACTION="destroy")
    assert (again.rc, again.changed) == (0, 0), again.output


def test_destroy_of_nothing(role: Any) -> None:
    done = role([], ACTION="destroy", env={"LITEMAAS_DSN": "", "LITELLM_URL": ""})
    assert (done.rc, done.changed) == (0, 0), done.output


def test_other_actions_do_nothing(role: Any, item: Any, litellm: harness.LiteLLM, prefix: str) -> None:
    done = role([item("a")], ACTION="stop")
    assert (done.rc, done.changed) == (0, 0), done.output
    assert "Action stop: models are left as they are" in done.output
    assert litellm.models(prefix) == []


def test_sync_without_a_list(role: Any, litellm: harness.LiteLLM, layout: dict[str, str], prefix: str) -> None:
    params = {"model": "openai/mini", "api_base": "http://127.0.0.1:9/v1", "api_key": "x"}
    litellm.post("/model/new", model_name=prefix + "ui", litellm_params=params)
    # As people write it on the command line: a text, not a truth value.
    done = role([], sync_from_litellm="true", **layout)
    assert done.rc == 0, done.output
    assert rows(layout["litemaas_dsn"], prefix)["ui"]["provider"] == "openai"
    assert role([], sync_from_litellm="true", **layout).changed == 0


def test_cleanup_waits_for_a_run_without_failures(
    role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str
) -> None:
    assert role([item("a"), item("b")]).rc == 0
    (gone,) = [model for model in litellm.models(prefix) if model["model_name"] == prefix + "b"]
    litellm.post("/model/delete", id=gone["model_info"]["id"])
    bad = item("bad", litellm_model="")
    failed = role([item("a"), bad], cleanup_orphaned=True, allow_mass_removal=True)
    assert failed.rc == 2
    assert rows(stack.litemaas_dsn, prefix)["b"]["availability"] == "available"
    done = role([item("a")], cleanup_orphaned=True, allow_mass_removal=True)
    assert done.rc == 0, done.output
    assert rows(stack.litemaas_dsn, prefix)["b"]["availability"] == "unavailable"


def test_one_failure_stops_none_of_the_others(
    role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str
) -> None:
    items = [item("a"), item("bad", rpm=-1), item("c", display_name="C")]
    done = role(items)
    assert done.rc == 2
    assert said(done).startswith(f"3 models: 2 created, 1 failed. {prefix}bad: rpm is -1")
    assert said(done).endswith("LiteMaaS catalogue: 2 created")
    assert set(rows(stack.litemaas_dsn, prefix)) == {"a", "c"}
    assert len(litellm.models(prefix)) == 2


def test_without_a_backend(role: Any, item: Any, litellm: harness.LiteLLM, stack: Any, prefix: str) -> None:
    done = role([item("a")], backend_enabled=False, env={"LITEMAAS_DSN": ""})
    assert done.rc == 0, done.output
    assert said(done) == "1 model: 1 created"
    assert (len(litellm.models(prefix)), rows(stack.litemaas_dsn, prefix)) == (1, {})


@pytest.mark.parametrize(
    ("items", "options", "text"),
    [
        (1, {"env": {"LITEMAAS_DSN": ""}}, "litemaas_dsn is not set"),
        (1, {"env": {"LITEMAAS_DSN": ""}, "namespace": "no-such-place"}, "or give litemaas_dsn"),
        (1, {"env": {"LITELLM_URL": ""}}, "litellm_url is not set"),
        (1, {"env": {"LITELLM_URL": ""}, "namespace": "no-such-place"}, "or give litellm_url"),
        (1, {"env": {"LITELLM_MASTER_KEY": ""}}, "litellm_master_key is not set"),
        (1, {"env": {"LITELLM_MASTER_KEY": ""}, "namespace": "no-such-place"}, "or give litellm_master_key"),
        (0, {}, "list is empty and ocp4_workload_litemaas_models_sync_from_litellm is false"),
        (0, {"sync_from_litellm": True, "backend_enabled": False}, "there is nothing to bring in line"),
        (1, {"litellm_url": "http://127.0.0.1:9", "retry_count": 0}, "127.0.0.1:9"),
        (1, {"litellm_master_key": "sk-wrong-master-key-1234"}, "litellm_master_key"),
        (1, {"litemaas_dsn": "postgresql://u:s3cr3t-pw@127.0.0.1:9/x"}, "127.0.0.1:9/x"),
        (1, {"litemaas_dsn": "gibberish"}, "litemaas_dsn"),
    ],
)
def test_nothing_is_written_before_everything_is_there(
    role: Any,
    item: Any,
    litellm: harness.LiteLLM,
    prefix: str,
    items: int,
    options: dict[str, Any],
    text: str,
) -> None:
    done = role([item("a")] * items, verbosity=3, **options)
    assert done.rc == 2, done.output
    assert text in done.output
    assert litellm.models(prefix) == []
    for secret in ("s3cr3t-pw", "sk-wrong-master-key-1234", UPSTREAM_KEY):
        assert secret not in done.output


@pytest.mark.parametrize(
    ("bad", "texts"),
    [
        ({"rmp": 3}, ["list.rmp"]),
        ({"state": "gone"}, ["state", "gone"]),
        ({"rpm": "many"}, ["rpm", "many"]),
        ({"capabilities": ["juggling"]}, ["capabilities", "juggling"]),
    ],
)
def test_bad_items_are_refused_before_anything(
    role: Any, item: Any, litellm: harness.LiteLLM, prefix: str, bad: dict[str, Any], texts: list[str]
) -> None:
    done = role([item("good"), item("bad", **bad)])
    assert done.rc == 2
    for text in texts:
        assert text in done.output
    assert UPSTREAM_KEY not in done.output
    assert litellm.models(prefix) == []


def test_no_secret_in_the_output(role: Any, item: Any, stack: harness.Stack, prefix: str) -> None:
    nested = item("b", litellm_params={"aws_secret_access_key": "aws-hidden-4711"})
    credentials = {"type": "service_account", "private_key": "pk-hidden-4711"}
    vertex = {"model_name": prefix + "v", "litellm_model": "vertex_ai/x", "vertex_credentials": credentials}
    items = [item("a"), nested, vertex]
    secrets = [UPSTREAM_KEY, "aws-hidden-4711", "pk-hidden-4711", stack.master_key, stack.key_secret]
    secrets += [
        re.findall(r"://[^:]+:([^@]+)@", dsn)[0] for dsn in (stack.litemaas_dsn, stack.litellm_dsn) if "@" in dsn
    ]
    for action in ("create", "create", "destroy"):
        done = role(items, ACTION=action, verbosity=3, diff=True)
        assert done.rc == 0, done.output
        for secret in secrets:
            assert secret not in done.output, action


def test_tasks_do_not_grow_with_the_list(role: Any, item: Any) -> None:
    one = role([item("n0")])
    assert one.rc == 0, one.output
    many = role([item(f"n{number}") for number in range(30)])
    assert many.rc == 0, many.output
    assert one.stats["localhost"] == many.stats["localhost"]


def test_what_gitops_deployed_is_registered(
    role: Any, litellm: harness.LiteLLM, namespace: Namespace, stack: harness.Stack, prefix: str
) -> None:
    """With what the list says of it; what isn't ready now is not pruned."""
    for name, ready in (("plain", True), ("described", True), ("late", False), ("token", True)):
        predictor = {"model": {"modelFormat": {"name": "vLLM"}, "args": ["--max-model-len=4096"]}}
        kind = ("serving.kserve.io/v1beta1", "InferenceService", prefix + name)
        marks = {"security.opendatahub.io/enable-auth": "true"} if name == "token" else {}
        namespace.create(*kind, spec={"predictor": predictor}, annotations=marks)
        if ready:
            url = f"http://{prefix}{name}-predictor.{namespace.name}.svc.cluster.local"
            status = {"url": url, "conditions": [{"type": "Ready", "status": "True"}]}
            namespace.status(*kind, {**status, "address": {"url": url}})
    options = {"kserve_namespaces": [namespace.name], "cluster": {"kubeconfig": stack.variables["KUBECONFIG"]}}
    listed = [{"model_name": f"{prefix}described", "display_name": "Described", "rpm": 7}]
    done = role(listed, **options)
    assert done.rc == 0, done.output
    assert f"; not registered: {namespace.name}/{prefix}late (" in said(done)
    assert f"; no token given for: {namespace.name}/{prefix}token (api_key of an item {prefix}token)" in said(done)
    made = {one["model_name"][len(prefix) :]: one for one in litellm.models(prefix)}
    assert set(made) == {"plain", "described"}
    assert f"{prefix}described-predictor" in made["described"]["litellm_params"]["api_base"]
    assert made["described"]["litellm_params"]["rpm"] == 7 and "rpm" not in made["plain"]["litellm_params"]
    found = rows(stack.litemaas_dsn, prefix)
    assert found["described"]["name"] == "Described" and "plain" in found
    assert role(listed, **options).changed == 0
    pruned = role(listed, prune=True, **options)
    assert pruned.rc and f"not ready now: {prefix}late" in pruned.output, pruned.output
    gone = role([], ACTION="destroy", **options)
    assert gone.rc == 0 and not litellm.models(prefix), gone.output


def test_one_name_in_two_namespaces_is_two_deployments(
    role: Any, litellm: harness.LiteLLM, namespace: Namespace, stack: harness.Stack, prefix: str
) -> None:
    """Pruning takes neither of them: both serve."""
    kind = ("serving.kserve.io/v1beta1", "InferenceService", f"{prefix}same")
    with Namespace(stack, f"{namespace.name}b") as second:
        for place, length in ((namespace, 8192), (second, 4096)):
            predictor = {"model": {"modelFormat": {"name": "vLLM"}, "args": [f"--max-model-len={length}"]}}
            place.create(*kind, spec={"predictor": predictor})
            place.status(*kind, {"conditions": [{"type": "Ready", "status": "True"}]})
        options = {
            "kserve_namespaces": [second.name, namespace.name],
            "cluster": {"kubeconfig": stack.variables["KUBECONFIG"]},
        }
        for _again in range(2):
            done = role([{"model_name": f"{prefix}same", "rpm": 7}], prune=True, **options)
            assert done.rc == 0, done.output
            made = litellm.models(prefix)
            bases = sorted(one["litellm_params"]["api_base"].split(".")[1] for one in made)
            assert bases == sorted([namespace.name, second.name]), made
        assert done.changed == 0, done.output
        assert [one["litellm_params"].get("rpm") for one in made].count(7) == 1
        assert rows(stack.litemaas_dsn, prefix)["same"]["context_length"] == 4096
        gone = role([], ACTION="destroy", **options)
        assert gone.rc == 0 and not litellm.models(prefix), gone.output
