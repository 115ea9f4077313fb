# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator writes about a model, and what it is taken to mean."""

from __future__ import annotations

import json
import syslog

import pytest
from ansible.module_utils import basic
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils import capabilities, items
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import model
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule
from ansible_collections.rhpds.litemaas.plugins.modules import litellm_model, litellm_virtual_key

MINIMAL = {"model_name": "m", "litellm_model": "openai/m"}


def wanted(**options):
    return model.wanted_from_options({**MINIMAL, **options})


# ---- prices and numbers ----


@given(st.decimals(min_value=0, max_value=10**6, places=4))
def test_a_price_per_million_is_exactly_a_millionth_per_token(price):
    item = wanted(input_cost_per_million_tokens=float(price))
    # The float nearest to the exact quotient, not to a product of two rounded ones.
    assert item.params["input_cost_per_token"] == float(price.scaleb(-6))
    assert "input_cost_per_token" not in item.info
    assert not item.error


def test_prices_given_as_properties_go_where_they_count():
    item = wanted(model_info={"output_cost_per_token": "1.5e-05", "tier": "x"})
    assert (item.params["output_cost_per_token"], item.info) == (1.5e-05, {"tier": "x"})
    assert "disagree" in wanted(output_cost_per_token=1.0, model_info={"output_cost_per_token": 2.0}).error


def test_numbers_out_of_templates():
    item = wanted(litellm_params={"rpm": "30", "temperature": "0"}, model_info={"max_tokens": "100"})
    # What LiteLLM turns into a number; the rest is the operator's.
    assert (item.params["rpm"], item.params["temperature"], item.info["max_tokens"]) == (30, "0", 100)
    assert wanted(rpm=30, litellm_params={"rpm": "30"}).error == ""


def test_an_item_replaces_a_default_by_its_alternative():
    names = [*litellm_model.ITEM]
    token, million = "input_cost_per_token", "input_cost_per_million_tokens"

    def merged(item, **defaults):
        params = {**dict.fromkeys(names), **defaults, "models": [item]}
        (out,) = items.merged(params, "models", "model_name", names)
        return {name: value for name, value in out.items() if value is not None}

    assert merged({token: 1, "rpm": None}, **{million: 2, "rpm": 3}) == {token: 1, "rpm": 3}
    assert merged({million: 1}, **{token: 2, million: 3}) == {million: 1}
    assert merged({"output_cost_per_token": 1}, **{million: 2}) == {"output_cost_per_token": 1, million: 2}
    # Two in one place say two things: whoever reads the item refuses it.
    assert merged({token: 1, million: 2}) == {token: 1, million: 2}
    assert merged({"rpm": 1}, **{token: 1, million: 2}) == {"rpm": 1, token: 1, million: 2}
    assert {name for group in items.ALTERNATIVES for name in group} <= {*names, *litellm_virtual_key.ITEM}


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0, 1e9])
@pytest.mark.parametrize("option", ["input_cost_per_token", "output_cost_per_million_tokens"])
def test_prices_that_are_none(option, price):
    if (option, price) != ("output_cost_per_million_tokens", 1e9):
        assert "price" in wanted(**{option: price}).error


# ---- secrets ----


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("api_key", "x", True),
        ("aws_session_token", "x", True),
        ("azure-ad-token", "x", True),
        ("vertex_credentials", "/path", True),
        ("extra_headers", {"Authorization": "x"}, True),
        ("extra_body", {"deep": [{"password": "x"}]}, True),
        ("extra_headers", {"X-Team": "x"}, False),
        ("max_tokens", 5, False),
        ("input_cost_per_token", 5, False),
        ("litellm_credential_name", "x", False),
        ("default_api_key_rpm_limit", 5, False),
        ("keyboard", "x", False),
    ],
)
def test_what_litellm_hides(name, value, secret):
    assert model.is_secret(name, value) is secret
    item = wanted(litellm_params={name: value})
    assert (name in item.secrets, name in item.params) == (secret, not secret)


def test_only_the_secret_part_of_a_nested_value_is_hidden():
    value = {"Authorization": "Bearer s", "X-Team": "blue", "inner": [{"api_key": "k"}]}
    assert set(model.secret_texts("extra_headers", value)) == {"Bearer s", "k"}
    account = {"type": "service_account", "private_key": "p", "project_id": "project"}
    assert set(model.secret_texts("vertex_credentials", account)) == {"p"}
    text = json.dumps(account)
    assert set(model.secret_texts("vertex_credentials", text)) == {text, "p"}


def test_credentials_given_as_yaml_become_the_text_that_litellm_wants():
    item = wanted(vertex_credentials={"b": 1, "a": 2})
    assert item.secrets["vertex_credentials"] == '{"a": 2, "b": 1}'
    assert wanted(litellm_params={"extra_headers": {"api-key": "k"}}).secrets["extra_headers"] == {"api-key": "k"}


def test_an_empty_secret_is_one_to_take_away():
    item = wanted(api_key="", litellm_params={"client_secret": ""})
    assert item.secrets == {}
    assert item.dropped == {"api_key", "client_secret"}


@pytest.fixture
def said(monkeypatch, capsys):
    """Runs a module with some options and that message; what it printed, and what it wrote to the system's log."""
    logged = []
    monkeypatch.setattr(syslog, "syslog", lambda *words: logged.append(str(words)))
    monkeypatch.setattr(basic, "has_journal", False)

    def said_by(options, message):
        whole = {"litellm_url": "http://proxy", "litellm_master_key": "sk-master", **options}
        arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {**whole, "_ansible_remote_tmp": "/tmp"}}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", arguments)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        spec = {**litellm_model.http.argument_spec(), **litellm_model.ITEM}
        spec["models"] = {"type": "list", "elements": "dict", "options": items.suboptions(litellm_model.ITEM)}
        module = LiteMaaSModule(argument_spec=spec)
        with pytest.raises(SystemExit):
            module.exit_json(msg=message)
        assert logged
        return capsys.readouterr().out, "".join(logged)

    return said_by


def test_nested_secrets_reach_neither_log_nor_result(said):
    secrets = ["sk-one", "Bearer two", "client-three", "private-four", "sk-five"]
    options = {
        "model_name": "m",
        "api_key": secrets[0],
        "litellm_params": {
            "extra_headers": {"Authorization": secrets[1], "X-Team": "blue"},
            "client_secret": secrets[2],
        },
        "vertex_credentials": {"private_key": secrets[3], "project_id": "project"},
        "models": [{"model_name": "n", "api_key": secrets[4]}],
    }
    everything = "".join(said(options, f"it was {secrets[1]}"))
    assert not [secret for secret in [*secrets, "sk-master"] if secret in everything]
    assert "blue" in everything
    assert "project" in everything


def test_a_placeholder_hides_nothing(said):
    options = {
        "model_name": "test-model",
        "api_key": "test",
        "litellm_params": {"client_secret": "none"},
        "models": [{"model_name": "n", "api_key": "dummy"}],
    }
    result, _log = said(options, "the latest test-model, none of dummy")
    assert "the latest test-model, none of dummy" in result
    # Short, but by its beginning a key; and a master key is one whatever it looks like.
    assert "sk-1" not in said({"model_name": "m", "api_key": "sk-1"}, "it was sk-1")[0]
    options = {"model_name": "m", "api_key": "zq-1", "litellm_master_key": "zq-1"}
    assert "zq-1" not in said(options, "it was zq-1")[0]


@pytest.mark.parametrize("place", ["option", "params", "item"])
def test_the_path_of_credentials_is_no_secret(place, said):
    given = {"vertex_credentials": "/etc/vertex/key.json"}
    options = {
        "option": {"model_name": "m", **given},
        "params": {"model_name": "m", "litellm_params": given},
        "item": {"models": [{"model_name": "m", **given}]},
    }
    message = "the credentials at /etc/vertex/key.json are of project other"
    assert message in said(options[place], message)[0]
    for key in ('{"private_key": "/etc/x"}', "/a-key-{with-braces}", "text-of-a-key"):
        assert key not in said({"model_name": "m", "vertex_credentials": key}, f"it was {key}")[0]


# ---- capabilities ----


@given(st.lists(st.sampled_from(capabilities.CHOICES), unique=True))
def test_labels_say_what_was_declared(words):
    info = capabilities.to_model_info(words)
    # Every flag is written: one left out would be filled in by LiteLLM.
    flags = {name for name in info if name != "mode"}
    assert flags == {*capabilities.FLAGS.values()}
    labels = capabilities.features(info)
    first = "embeddings" if "embeddings" in words else "convert" if "document_conversion" in words else "chat"
    further = {"function_calling", "parallel_function_calling", "tool_choice", "vision", "tokenize"}
    assert labels[0] == first
    assert set(labels[1:]) == set(words) & further


def test_properties_have_the_last_word_on_capabilities():
    item = wanted(capabilities=["chat"], model_info={"supports_vision": True}, mode="responses")
    assert (item.info["supports_vision"], item.info["mode"]) == (True, "responses")


# ---- names ----


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_an_error(name):
    item = model.wanted_from_options({**MINIMAL, "model_name": name})
    good = len(name.strip()) > 0 and name == name.strip() and len(name) <= 255
    good = good and all(32 <= ord(character) <= 255 and ord(character) != 127 for character in name)
    assert bool(item.error) is not good
    assert item.name


def test_present_and_absent_of_one_name():
    listed = [wanted(deployment="x"), model.wanted_from_options({"model_name": "m", "state": "absent"}), wanted()]
    model.refuse_contradictions(listed)
    assert all("both as present" in item.error for item in listed)
    listed = [wanted(), model.wanted_from_options({"model_name": "m", "state": "absent", "deployment": "x"})]
    model.refuse_contradictions(listed)
    assert not any(item.error for item in listed)
