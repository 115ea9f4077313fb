# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets a key in a lab, and what the lab hears of it: the contract with AgnosticV, without a server."""

from __future__ import annotations

import pytest

from ansible_collections.rhpds.litemaas.plugins.filter.key_file import key_file
from ansible_collections.rhpds.litemaas.plugins.filter.workshop_keys import workshop_keys
from ansible_collections.rhpds.litemaas.plugins.filter.workshop_outputs import workshop_outputs

GIVEN = {"models": ["granite", "qwen"], "duration": "7d", "alias": "virtkey-abc12"}
URL = "https://litellm.example.com/"


def lab(guid="abc12", **options):
    """A lab's keys as planned, with nothing wrong."""
    planned = workshop_keys(guid, **{**GIVEN, **options})
    assert planned["problems"] == []
    return planned


def made(planned, failed=()):
    """Results as the module gives them."""
    return [
        {"name": item["key_alias"], "failed": True, "msg": "no"}
        if number in failed
        else {
            "name": item["key_alias"],
            "key_alias": item["key_alias"],
            "failed": False,
            "key": f"sk-value-{number}",
            "token": f"{number:064x}",
            "user_id": item.get("user_id"),
            "guid": "abc12",
        }
        for number, item in enumerate(planned["keys"], start=1)
    ]


def test_a_lab_with_one_key():
    planned = lab(user_id="me@example.com", metadata={"owner": "me", "guid": "abc12"})
    assert planned["keys"] == [
        {
            "key_alias": "virtkey-abc12",
            "user_id": "me@example.com",
            "metadata": {"owner": "me", "models": "granite,qwen", "models_count": 2, "duration": "7d"},
        }
    ]
    told = workshop_outputs(made(planned), planned, url=URL, messages=["Welcome"])
    assert (
        told["data"]
        == told["facts"]
        == {
            "litellm_api_endpoint": "https://litellm.example.com",
            "litellm_api_base_url": "https://litellm.example.com/v1",
            "litellm_virtual_key": "sk-value-1",
            "litellm_key_alias": "virtkey-abc12",
            "litellm_key_id": f"{1:064x}",
            "litellm_available_models": ["granite", "qwen"],
            "litellm_available_models_list": "granite, qwen",
            "litellm_key_duration": "7d",
        }
    )
    assert told["users"] == {}
    assert told["messages"] == [
        "LiteMaaS API Base URL: https://litellm.example.com/v1",
        "LiteMaaS Virtual Key: sk-value-1",
        "Available Models: granite, qwen",
        "Key Duration: 7d",
        "Welcome",
    ]
    assert told["hidden"] == ["sk-value-1"]


def test_a_workshop():
    planned = lab(users="3", user_base="attendee", email_domain="example.com", extra_models=["Docling"])
    assert [item["key_alias"] for item in planned["keys"]] == [f"virtkey-abc12-attendee{n}" for n in (1, 2, 3)]
    assert planned["keys"][1]["user_id"] == "attendee2@example.com"
    assert planned["keys"][1]["metadata"]["user"] == "attendee2"
    assert planned["keys"][1]["metadata"]["user_number"] == 2
    told = workshop_outputs(made(planned), planned, url=URL, docling_model="Docling")
    assert told["users"]["attendee2"] == {
        "litellm_api_endpoint": "https://litellm.example.com",
        "litellm_api_base_url": "https://litellm.example.com/v1",
        "litellm_virtual_key": "sk-value-2",
        "litellm_key_alias": "virtkey-abc12-attendee2",
        "litellm_key_id": f"{2:064x}",
        "litellm_user_email": "attendee2@example.com",
        "litellm_available_models": ["granite", "qwen", "Docling"],
        "litellm_available_models_list": "granite, qwen, Docling",
        "litellm_key_duration": "7d",
        "litellm_docling_endpoint": "https://litellm.example.com/docling/v1/convert/source",
        "litellm_docling_model": "Docling",
    }
    data = told["data"]
    assert data["litellm_attendee3_virtual_key"] == "sk-value-3"
    assert data["litellm_attendee3_key_alias"] == "virtkey-abc12-attendee3"
    assert data["litellm_attendee3_key_id"] == f"{3:064x}"
    assert data["litellm_attendee3_user_email"] == "attendee3@example.com"
    assert data["litellm_virtual_keys"] == ["sk-value-1", "sk-value-2", "sk-value-3"]
    assert data["litellm_user_ids"] == [f"attendee{n}@example.com" for n in (1, 2, 3)]
    assert data["litellm_user_count"] == 3
    assert (data["litellm_virtual_key"], data["litellm_key_alias"]) == ("sk-value-1", "virtkey-abc12-attendee1")
    assert told["messages"][1] == "Created 3 virtual keys"
    assert not [line for line in told["messages"] if "sk-" in line]


def test_who_failed_is_left_out_and_keeps_the_place_of_the_others():
    planned = lab(users=3)
    told = workshop_outputs(made(planned, failed=(1, 2)), planned, url=URL)
    assert list(told["users"]) == ["user3"]
    assert told["anybody"]
    assert not workshop_outputs(made(planned, failed=(1, 2, 3)), planned, url=URL)["anybody"]
    assert told["data"]["litellm_virtual_keys"] == ["", "", "sk-value-3"]
    assert told["data"]["litellm_key_aliases"][2] == "virtkey-abc12-user3"
    assert "litellm_virtual_key" not in told["data"]
    assert "litellm_user1_virtual_key" not in told["data"]
    assert told["messages"][1] == "Created 1 of 3 virtual keys"


def test_values_are_kept_out_of_facts_and_messages_on_request():
    planned = lab(users=2)
    told = workshop_outputs(made(planned), planned, url=URL, keys_in_facts=False)
    assert "sk-" not in str(told["facts"])
    assert "sk-value-2" in str(told["data"])
    single = lab()
    told = workshop_outputs(made(single), single, url=URL, show_key=False)
    assert "sk-" not in str(told["messages"])


def test_a_key_without_a_known_value_has_its_alias_told():
    planned = lab()
    (entry,) = made(planned)
    del entry["key"]
    data = workshop_outputs([entry], planned, url=URL)["data"]
    assert data["litellm_key_alias"] == "virtkey-abc12"
    assert "litellm_virtual_key" not in data


@pytest.mark.parametrize(
    ("options", "models", "duration"),
    [
        ({"models": "granite, qwen"}, ["granite", "qwen"], "7d"),
        ({"runtime": 36}, ["granite", "qwen"], "36h"),
        ({"runtime": "36.5"}, ["granite", "qwen"], "2190m"),
        ({"package": "small", "packages": {"small": {"models": ["one"], "duration": "1d"}}}, ["one"], "1d"),
        ({"package": "long", "packages": {"long": {"duration": "90d"}}}, ["granite", "qwen"], "90d"),
        ({"package": "long", "packages": {"long": {"duration": "90d"}}, "runtime": 5}, ["granite", "qwen"], "5h"),
    ],
)
def test_where_models_and_duration_come_from(options, models, duration):
    planned = lab(**options)
    assert (planned["models"], planned["duration"]) == (models, duration)
    assert planned["keys"][0]["metadata"]["duration"] == duration


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"models": []}, "models is empty"),
        ({"duration": ""}, "duration is not set"),
        ({"runtime": "soon"}, "runtime is 'soon'"),
        ({"runtime": 0}, "runtime is 0"),
        ({"package": "huge", "packages": {"small": {}}}, "'huge' is not known; there are: small"),
        ({"users": "many"}, "num_users is 'many'"),
        ({"users": 100000}, "at most 10000"),
        ({"guid": " "}, "guid is not set"),
        ({"alias": ""}, "alias_format is empty"),
        ({"metadata": "owner"}, "metadata is not a mapping"),
    ],
)
def test_what_is_wrong_is_said(options, said):
    guid = options.pop("guid", "abc12")
    assert said in "; ".join(workshop_keys(guid, **{**GIVEN, **options})["problems"])


def test_a_hand_out_says_where_the_keys_are_for():
    planned = lab(users=2)
    text = key_file(made(planned), "csv", more={"api_base_url": "https://x/v1"})
    assert text.splitlines()[1].split(",")[:2] == ["virtkey-abc12-user1", "sk-value-1"]
    assert text.splitlines()[2].endswith(",https://x/v1")
