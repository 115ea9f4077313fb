# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's filters: a list of models taken apart, and what of it may go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.filter import removable_models as removable
from ansible_collections.rhpds.litemaas.plugins.filter import split_models as split
from ansible_collections.rhpds.litemaas.plugins.modules import litellm_model, litemaas_db_sync

CHECKOUT = Path(split.__file__).resolve().parents[2]
ROLE = CHECKOUT / "roles" / "ocp4_workload_litemaas_models"
KSERVE = {"litellm_model": "openai/granite", "api_base": "http://granite.svc/v1", "api_key": "sk-placeholder"}


def apart(*items: Any, **options: Any) -> dict[str, list[Any]]:
    return split.split_models(list(items), **options)


def test_every_option_of_both_modules_can_be_given() -> None:
    assert set(litellm_model.ITEM) == split.LITELLM_KEYS
    assert {"model_name", *split.CATALOGUE_KEYS} == set(litemaas_db_sync.ITEM)
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    documented = specs["argument_specs"]["main"]["options"]["ocp4_workload_litemaas_models_list"]["options"]
    assert set(documented) == split.KEYS
    options: dict[str, Any] = {**litemaas_db_sync.ITEM, **litellm_model.ITEM}
    for name, option in documented.items():
        module = options[name]
        assert option["type"] == module["type"], name
        assert option.get("choices") == module.get("choices"), name
        assert option.get("no_log") or not module.get("no_log"), name


def test_role_documents_each_default() -> None:
    specs = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    assert set(defaults) == {name for name in options if name.startswith("ocp4_workload_")}
    for name, default in defaults.items():
        if "{{" not in str(default):
            assert options[name]["default"] == default, name


def test_item_goes_to_both() -> None:
    item = {"model_name": "granite", **KSERVE, "rpm": 30, "display_name": "IBM's", "context_length": 4096}
    parts = apart(item, default_provider="openshift-ai", default_category="general")
    assert parts == {
        "litellm": [{"model_name": "granite", **KSERVE, "rpm": 30, "context_length": 4096}],
        "catalogue": [
            {
                "model_name": "granite",
                "display_name": "IBM's",
                "context_length": 4096,
                "category": "general",
                "provider": "openshift-ai",
            }
        ],
        "present": ["granite"],
        "absent": [],
        "problems": [],
    }


@pytest.mark.parametrize(
    ("item", "provider"),
    [
        (KSERVE, "openshift-ai"),
        ({"litellm_model": "hosted_vllm/granite", "api_base": "http://x"}, "openshift-ai"),
        ({"litellm_model": "granite", "custom_llm_provider": "openai", "api_base": "http://x"}, "openshift-ai"),
        ({"litellm_params": {"model": "openai/granite", "api_base": "http://x"}}, "openshift-ai"),
        ({**KSERVE, "provider": "mine"}, "mine"),
        ({"litellm_model": "openai/gpt-5"}, None),
        ({"litellm_model": "granite", "api_base": "http://x"}, None),
        ({"litellm_model": "openai/x", "custom_llm_provider": "azure", "api_base": "http://x"}, None),
        ({"litellm_model": "vertex_ai/openai/gpt-oss-20b-maas"}, None),
        ({"litellm_model": "vertex_ai/claude-sonnet-4-6", "api_base": "http://x"}, None),
    ],
)
def test_provider_is_ours_only_for_what_runs_here(item: dict[str, Any], provider: str | None) -> None:
    (row,) = apart({"model_name": "m", **item}, default_provider="openshift-ai")["catalogue"]
    assert row.get("provider") == provider


def test_deployments_of_one_name_share_a_row() -> None:
    first = {"model_name": "m", **KSERVE, "display_name": "M"}
    second = {"model_name": "m", "deployment": "b", **KSERVE, "category": "code"}
    parts = apart(first, second)
    assert len(parts["litellm"]) == 2
    assert parts["catalogue"] == [{"model_name": "m", "display_name": "M", "category": "code"}]
    (problem,) = apart(first, {**second, "display_name": "N"})["problems"]
    assert "item 2 (m): display_name differs from that of item 1" in problem


def test_provider_default_needs_all_deployments_to_be_ours() -> None:
    parts = apart(
        {"model_name": "m", **KSERVE},
        {"model_name": "m", "deployment": "cloud", "litellm_model": "vertex_ai/x"},
        default_provider="openshift-ai",
    )
    assert "provider" not in parts["catalogue"][0]


def test_absent_items_carry_their_identity_only() -> None:
    parts = apart({"model_name": "m", "state": "absent", **KSERVE, "display_name": "M"})
    assert parts["litellm"] == [{"model_name": "m", "state": "absent"}]
    assert (parts["catalogue"], parts["absent"]) == ([], ["m"])


def test_one_deployment_goes_and_the_other_stays() -> None:
    parts = apart({"model_name": "m", **KSERVE}, {"model_name": "m", "deployment": "b", "state": "absent"})
    assert (parts["present"], parts["absent"], parts["problems"]) == (["m"], [], [])


@pytest.mark.parametrize("going", [{}, {"deployment": "b"}])
def test_present_and_absent_at_once_is_a_problem(going: dict[str, Any]) -> None:
    (problem,) = apart(
        {"model_name": "m", "deployment": "b", **KSERVE}, {"model_name": "m", "state": "absent", **going}
    )["problems"]
    assert "item 2 (m" in problem
    assert "item 1 says" in problem


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"model_name": "m", "rmp": 3}, "item 1 (m): rmp is no option of a model; did you mean rpm?"),
        ({"model_name": "m", "zzz": "sk-secret"}, "item 1 (m): zzz is no option of a model; put"),
        ({"rpm": 3}, "item 1: model_name is missing"),
        ({"model_name": " "}, "model_name is missing"),
        ({"model_name": 7}, "model_name is missing"),
        ({"model_name": "m", "state": "gone"}, "state must be present or absent"),
        ("granite", "item 1: not a mapping"),
    ],
)
def test_problems_name_item_and_key_and_no_value(item: Any, text: str) -> None:
    (problem,) = apart(item)["problems"]
    assert text in problem
    assert "sk-secret" not in problem


def test_what_is_no_list_is_a_problem() -> None:
    assert split.split_models("granite")["problems"] == ["the list of models is not a list"]


def test_rows_of_failed_items_are_left_out() -> None:
    items = [
        {"model_name": "a", **KSERVE},
        {"model_name": "b", **KSERVE},
        {"model_name": "b", "deployment": "x", **KSERVE},
    ]

    def names(*failed: str) -> list[str]:
        return [row["model_name"] for row in apart(*items, failed=failed)["catalogue"]]

    assert names("a") == ["b"]
    assert names("b") == ["a", "b"]
    assert names("b", "b (x)") == ["a"]


ITEMS = st.lists(
    st.fixed_dictionaries(
        {"model_name": st.sampled_from(["a", "b's", 'c"', "d/e"])},
        optional={
            "deployment": st.sampled_from(["", "x"]),
            "state": st.sampled_from(["present", "absent"]),
            "display_name": st.text(max_size=3),
            "litellm_model": st.sampled_from(["openai/x", "vertex_ai/y"]),
            "api_base": st.just("http://x"),
            "rpm": st.integers(0, 9),
        },
    )
)


@given(ITEMS)
def test_nothing_is_lost_and_nothing_is_made_up(items: list[dict[str, Any]]) -> None:
    before = json.dumps(items)
    parts = split.split_models(items, "openshift-ai", "general")
    assert json.dumps(items) == before
    assert [item["model_name"] for item in parts["litellm"]] == [item["model_name"] for item in items]
    assert not set(parts["present"]) & set(parts["absent"])
    assert set(parts["present"]) | set(parts["absent"]) == {item["model_name"] for item in items}
    assert [row["model_name"] for row in parts["catalogue"]] == parts["present"]
    for row in parts["catalogue"]:
        assert set(row) <= set(litemaas_db_sync.ITEM)
    for item in parts["litellm"]:
        assert set(item) <= set(litellm_model.ITEM)


def deployment(name: str, identity: str, **more: Any) -> dict[str, Any]:
    return {"model_name": name, "id": identity, "managed": True, "scope": "s", "deployment": "", "stored": True, **more}


def test_only_what_is_ours_and_named_may_go() -> None:
    there = [
        deployment("a", "1"),
        deployment("a", "2", deployment="gpu-b"),
        deployment("b", "3", managed=False, scope=None, deployment=None),
        deployment("c", "4", scope="other"),
        deployment("d", "5", stored=False, managed=False, scope=None, deployment=None),
        deployment("e", "6", deployment="x"),
        deployment("other", "7"),
    ]
    items = [{"model_name": name} for name in "abcd"]
    items += [{"model_name": "e", "id": "6"}, {"model_name": "gone", "deployment": "x"}]
    parts = removable.removable_models(there, items, "s")
    assert parts["litellm"] == [
        {"model_name": "a", "id": "1", "state": "absent"},
        {"model_name": "e", "id": "6", "state": "absent"},
    ]
    assert parts["names"] == ["a", "e", "gone"]
    assert parts["left"] == [
        "a (2): deployment gpu-b isn't in the list",
        "b (3): not made by this collection",
        "c (4): belongs to scope 'other'",
        "d (5): defined in LiteLLM's config.yaml",
    ]
