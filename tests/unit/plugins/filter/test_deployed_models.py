# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deployed and the list, as one."""

from __future__ import annotations

from typing import Any

from ansible_collections.rhpds.litemaas.plugins.filter import split_models as split
from ansible_collections.rhpds.litemaas.plugins.filter.deployed_models import LENGTH, SHOWN, deployed_models

ONE: dict[str, Any] = {"model_name": "m", "litellm_model": "openai/m", "api_base": "http://one/v1"}
TWO: dict[str, Any] = {**ONE, "api_base": "http://two/v1", "deployment": "b/m"}


def test_every_deployment_of_a_name_stays() -> None:
    assert deployed_models([ONE, TWO]) == [ONE, TWO]
    assert deployed_models([TWO, ONE]) == [TWO, ONE]


def test_what_the_row_shows_is_said_once() -> None:
    assert {*SHOWN, LENGTH} == set(split.CATALOGUE_KEYS)
    found = [
        {**TWO, "display_name": "Two", "description": "both", LENGTH: 4096},
        {**ONE, "display_name": "One", LENGTH: 8192},
    ]
    parts = split.split_models(deployed_models(found))
    assert parts["problems"] == [] and len(parts["litellm"]) == 2
    assert parts["catalogue"] == [{"model_name": "m", "display_name": "One", "description": "both", LENGTH: 4096}]
    parts = split.split_models(deployed_models(found, [{"model_name": "m", "deployment": "b/m", "display_name": "2"}]))
    assert (parts["problems"], parts["catalogue"][0]["display_name"]) == ([], "2")
    parts = split.split_models(deployed_models(found, [{"model_name": "m", LENGTH: 9000}]))
    assert (parts["problems"], parts["catalogue"][0][LENGTH]) == ([], 9000)


def test_an_item_is_put_onto_the_deployment_it_names() -> None:
    named = [{"model_name": "m", "deployment": "b/m", "rpm": 2}, {"model_name": "m", "rpm": 1}]
    assert deployed_models([ONE, TWO], named) == [{**ONE, "rpm": 1}, {**TWO, "rpm": 2}]
    nested = {**ONE, "litellm_params": {"a": 1, "b": 1}}
    (merged,) = deployed_models([nested], [{"model_name": "m", "litellm_params": {"b": 2}}])
    assert merged["litellm_params"] == {"a": 1, "b": 2} and nested["litellm_params"]["b"] == 1
    # The one without a label isn't taken: what is said of the name is said of the other.
    assert deployed_models([TWO], [{"model_name": "m", "rpm": 1}]) == [{**TWO, "rpm": 1}]
    own = {"model_name": "m", "litellm_model": "openai/else"}
    assert deployed_models([TWO], [own]) == [TWO, own]
    extra = {**ONE, "deployment": "mine"}
    assert deployed_models([ONE], [extra]) == [ONE, extra]


def test_a_token_is_taken_with_the_item_that_has_it() -> None:
    key = {"model_name": "m", "deployment": "b/m", "api_key": "sk-1"}
    assert deployed_models([ONE], [], [TWO]) == [ONE]
    assert deployed_models([ONE], [key], [TWO]) == [ONE, {**TWO, "api_key": "sk-1"}]
    assert deployed_models([ONE], [{"model_name": "m", "api_key": "sk-1"}], [TWO]) == [{**ONE, "api_key": "sk-1"}]


def test_a_name_that_shall_go_goes_with_all_deployments() -> None:
    gone = {"model_name": "m", "state": "absent"}
    assert deployed_models([ONE, TWO], [gone]) == [gone]
    one = {**gone, "deployment": "b/m"}
    assert split.split_models(deployed_models([ONE, TWO], [one]))["problems"] == []


def test_what_is_wrong_is_left_to_be_said() -> None:
    wrong = ["text", {"litellm_model": "x"}, {"model_name": 3}]
    assert deployed_models([ONE], wrong) == [ONE, *wrong]
    again = {"model_name": "m", "rpm": 1}
    assert deployed_models([ONE], [again, again]) == [{**ONE, "rpm": 1}, again]
