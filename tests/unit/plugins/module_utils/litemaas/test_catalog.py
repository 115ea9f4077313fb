# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mapping of a LiteLLM deployment to a row of LiteMaaS's catalogue."""

from __future__ import annotations

import copy
import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import catalog


def entry(name="granite", params=None, **info):
    info = {"id": "id-1", "db_model": True, **info}
    return {"model_name": name, "litellm_params": {"model": "openai/granite", **(params or {})}, "model_info": info}


def test_the_whole_row():
    found = catalog.row(
        entry(
            "granite-3-2",
            {"model": "openai/RedHatAI/granite", "api_base": "http://up/v1", "tpm": 1000, "rpm": 10},
            id="abc",
            max_tokens=8192,
            mode="chat",
            input_cost_per_token=3e-06,
            output_cost_per_token=1.5e-05,
            supports_vision=True,
            supports_function_calling=True,
        )
    )
    metadata = found.pop("metadata")
    assert found == {
        "id": "granite-3-2",
        "name": "granite-3-2",
        "provider": "openai",
        "category": "Language Model",
        "context_length": 8192,
        "supports_streaming": True,
        "description": None,
        "restricted_access": False,
        "availability": "available",
        "backend_model_name": "RedHatAI/granite",
        "max_tokens": 8192,
        "input_cost_per_token": Decimal("0.0000030000"),
        "output_cost_per_token": Decimal("0.0000150000"),
        "api_base": "http://up/v1",
        "tpm": 1000,
        "rpm": 10,
        "litellm_model_id": "abc",
        "supports_vision": True,
        "supports_function_calling": True,
        "supports_parallel_function_calling": False,
        "supports_tool_choice": False,
        "features": ["chat", "function_calling", "vision"],
        "version": "1.0",
    }
    assert metadata["litellm_params"]["rpm"] == 10
    assert metadata["litellm_model_info"]["id"] == "abc"
    assert {*found, "metadata"} == set(catalog.COLUMNS)


@pytest.mark.parametrize(
    ("params", "provider", "backend"),
    [
        ({"model": "vertex_ai/claude"}, "vertex_ai", "claude"),
        ({"model": "openai/a/b/c"}, "openai", "a/b/c"),
        ({"model": "gpt-4"}, "unknown", "gpt-4"),
        ({"model": "gpt-4", "custom_llm_provider": "azure"}, "azure", "gpt-4"),
        ({"model": "openai/x", "custom_llm_provider": ""}, "openai", "x"),
        ({"model": "openai/x", "custom_llm_provider": "hosted_vllm"}, "hosted_vllm", "x"),
        ({"model": "/x"}, "", "x"),
        ({"model": "openai/"}, "openai", ""),
        ({"model": ""}, "unknown", None),
        ({"model": None}, "unknown", None),
    ],
)
def test_provider_and_backend_model(params, provider, backend):
    found = catalog.row(entry(params=params))
    assert (found["provider"], found["backend_model_name"]) == (provider, backend)


@pytest.mark.parametrize(
    ("info", "features"),
    [
        ({}, ["chat"]),
        ({"mode": "embedding"}, ["embeddings"]),
        ({"supports_embeddings": True, "supports_convert": True}, ["embeddings"]),
        ({"supports_convert": True, "mode": "chat"}, ["convert"]),
        ({"supports_tokenize": True}, ["chat", "tokenize"]),
        (
            {
                "supports_tokenize": True,
                "supports_vision": True,
                "supports_tool_choice": True,
                "supports_parallel_function_calling": True,
                "supports_function_calling": True,
            },
            ["chat", "function_calling", "parallel_function_calling", "tool_choice", "vision", "tokenize"],
        ),
        ({"supports_vision": None, "supports_tool_choice": False}, ["chat"]),
    ],
)
def test_features(info, features):
    assert catalog.row(entry(**info))["features"] == features


@pytest.mark.parametrize(
    ("of_info", "of_params", "expected"),
    [
        (3e-06, 9e-06, "0.000003"),
        (0, 9e-06, "0.000009"),
        (0.0, None, None),
        (None, 0, "0"),
        (0, 0, "0"),
        (None, None, None),
        ("0.000003", None, "0.000003"),
        ("", 2, "2"),
        (4e-11, None, "0"),
        (5e-11, None, "0.0000000001"),
        (99999.9999999999, None, "99999.9999999999"),
    ],
)
def test_costs_fall_through_as_in_javascript(of_info, of_params, expected):
    found = catalog.row(entry(params={"input_cost_per_token": of_params}, input_cost_per_token=of_info))
    assert found["input_cost_per_token"] == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"name": "n" * 256}, "id"),
        ({"params": {"custom_llm_provider": "p" * 101}}, "provider"),
        ({"params": {"api_base": "h" * 501}}, "api_base"),
        ({"params": {"tpm": 2**31}}, "tpm"),
        ({"params": {"rpm": 1.5}}, "rpm"),
        ({"params": {"rpm": True}}, "rpm"),
        ({"params": {"tpm": "many"}}, "tpm"),
        ({"params": {"model": 7}}, "model"),
        ({"params": {"api_base": "http://\x00"}}, "api_base"),
        ({"name": "bad \ud800"}, "id"),
        ({"max_tokens": 2**31}, "context_length"),
        ({"input_cost_per_token": 1e5}, "input_cost_per_token"),
        ({"input_cost_per_token": 99999.99999999999}, "input_cost_per_token"),
        ({"output_cost_per_token": "NaN"}, "output_cost_per_token"),
        ({"output_cost_per_token": [1]}, "output_cost_per_token"),
        ({"supports_vision": "maybe"}, "supports_vision"),
    ],
)
def test_what_a_column_cannot_hold_is_named(change, column):
    with pytest.raises(catalog.CatalogError, match=column):
        catalog.row(entry(**change))


@pytest.mark.parametrize("value", [{"a": math.nan}, {"a": math.inf}, {"a": "\x00"}, {"\x00": 1}, {"a": "\ud800"}])
def test_json_that_jsonb_refuses(value):
    with pytest.raises(catalog.CatalogError, match="metadata"):
        catalog.json_text(value)


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert json.loads(catalog.json_text({"a": "\\u0000"})) == {"a": "\\u0000"}


def test_the_live_schemas_lengths_win():
    with pytest.raises(catalog.CatalogError, match="holds 10"):
        catalog.row(entry("n" * 11), None, {"id": 10})
    assert catalog.row(entry("n" * 300), None, {})["id"] == "n" * 300


def test_overlay_sets_only_what_is_given():
    overlay = catalog.overlay_of(
        {"model_name": "m", "display_name": "M", "description": None, "restricted_access": False}
    )
    assert overlay == {"name": "M", "restricted_access": False}
    plain, shown = catalog.row(entry("m")), catalog.row(entry("m"), overlay)
    assert {column for column in catalog.COLUMNS if plain[column] != shown[column]} == {"name"}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"display_name": " "}, "display_name is empty"),
        ({"provider": ""}, "provider is empty"),
        ({"context_length": 0}, "1 or more"),
        ({"context_length": -5}, "1 or more"),
        ({"display_name": "n" * 256}, "256 characters"),
        ({"category": "c" * 101}, "101 characters"),
        ({"description": "\x00"}, "NUL"),
        ({"availability": "gone"}, "availability"),
    ],
)
def test_bad_overlays(item, words):
    with pytest.raises(catalog.CatalogError, match=words):
        catalog.row(entry(), catalog.overlay_of(item))


def test_an_empty_description_removes_it():
    assert catalog.row(entry(), catalog.overlay_of({"description": ""}))["description"] is None


def test_selection():
    second = entry("a", id="2")
    temporary = entry("b", id="3", rhpds_replacement_of="9")
    of_config = entry("c", id="4", db_model=False)
    also_config = entry("a", id="5", db_model=False)
    found = catalog.select(
        [entry("a", id="1"), second, temporary, of_config, also_config, {"model_name": "d"}, {}, "x", entry("")]
    )
    assert list(found.models) == ["a"]
    assert found.models["a"] is second
    assert found.duplicates == {"a": ["1", "2"]}
    assert found.outside == {"b", "c", "d"}
    assert found.config_models == {"c"}
    assert found.ids == {"1", "2"}
    assert found.ids_seen == {"1", "2", "3", "4", "5"}
    assert len(found.unreadable) == 4


def test_differing_paths_show_no_values():
    before = {"litellm_params": {"rpm": 1, "secret": "a"}, "litellm_model_info": {"id": "1"}}
    after = {"litellm_params": {"rpm": 2, "secret": "b", "tpm": 1}, "litellm_model_info": {"id": "1"}}
    found = catalog.differing_paths(before, after)
    assert found == ["litellm_params.rpm", "litellm_params.secret", "litellm_params.tpm"]
    assert catalog.differing_paths({}, {"litellm_params": {"a": 1}}) == ["litellm_params"]
    assert catalog.differing_paths(1, 2) == [""]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(st.integers(), max_size=2)
)
infos = st.dictionaries(
    st.sampled_from(
        ["id", "max_tokens", "mode", "input_cost_per_token", "supports_vision", "supports_tokenize", "supports_convert"]
    ),
    scalars,
)
parameters = st.dictionaries(
    st.sampled_from(["model", "custom_llm_provider", "api_base", "tpm", "rpm", "input_cost_per_token"]), scalars
)


@given(name=st.text(min_size=1, max_size=300), params=parameters, info=infos)
def test_any_deployment_gives_a_row_that_fits_or_an_error_that_names_a_column(name, params, info):
    given_entry = {"model_name": name, "litellm_params": params, "model_info": info}
    before = copy.deepcopy(given_entry)
    try:
        row = catalog.row(given_entry)
        text = catalog.json_text(row["metadata"])
    except catalog.CatalogError as problem:
        assert any(column in str(problem) for column in (*catalog.COLUMNS, "litellm_params.model"))
        return
    finally:
        assert str(given_entry) == str(before)
    assert set(row) == set(catalog.COLUMNS)
    for column, longest in catalog.LENGTHS.items():
        assert row[column] is None or len(row[column]) <= longest
    for column in ("context_length", "max_tokens", "tpm", "rpm"):
        assert row[column] is None or -(2**31) <= row[column] < 2**31
    cost = row["input_cost_per_token"]
    assert cost is None or (abs(cost) < 10**5 and -cost.as_tuple().exponent <= 10)
    assert row["provider"] is not None
    assert "\x00" not in text
    assert row["features"][0] in ("embeddings", "convert", "chat")


@given(st.one_of(scalars, st.dictionaries(st.text(), scalars, max_size=2)))
def test_truth_is_javascripts(value):
    nothing = value is None or value is False or value == ""
    no_number = isinstance(value, (int, float)) and (value == 0 or (isinstance(value, float) and math.isnan(value)))
    assert catalog.truthy(value) is not (nothing or no_number)


def test_a_number_beyond_any_float_is_true():
    assert catalog.truthy(10**400)
    with pytest.raises(catalog.CatalogError, match="tpm"):
        catalog.row(entry(params={"tpm": 10**400}))
