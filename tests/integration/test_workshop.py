# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract with AgnosticV: variables in, working keys out, on the real proxy."""

from __future__ import annotations

import csv
import json
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import harness, labs
from ansible_collections.rhpds.litemaas.tests.stack.faults import FaultProxy

#: A catalogue item's play: the role, and then what later workloads of the same play would see.
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: rhpds.litemaas.ocp4_workload_litellm_virtual_keys
    - ansible.builtin.copy:
        dest: "{{ output_dir }}/facts.json"
        content: "{{ dict(found | zip(found | map('extract', vars))) | to_json }}"
        mode: "0600"
      vars:
        found: "{{ query('ansible.builtin.varnames', '^litellm_') }}"
      no_log: true
"""


@pytest.fixture
def faults(stack: harness.Stack) -> Iterator[FaultProxy]:
    """A way to the proxy that disturbs."""
    with FaultProxy(stack.url) as proxy:
        yield proxy


@pytest.mark.parametrize("older", [False, True], ids=["new", "older"])
@pytest.mark.parametrize("users", [0, 3, 200])
def test_the_lab_hears_what_the_contract_says(lab: labs.Lab, users: int, older: bool) -> None:
    options = {"num_users": users} if users else {}
    if older:
        aliases = [f"virtkey-{lab.guid}-user{number}" for number in range(1, users + 1)] or [f"virtkey-{lab.guid}"]
        with ThreadPoolExecutor(8) as pool:
            values = list(pool.map(lab.older_key, aliases))
        (lab.folder / "provision-user-data.yaml").write_text(yaml.safe_dump({"litellm_virtual_keys": values}))
    first = lab.good(PLAY, **options)
    expected = lab.expected(users) | ({"litellm_virtual_keys": values} if older else {})
    assert lab.data == expected
    told = lab.expected(users)
    assert lab.facts == {name: value for name, value in told.items() if name != "users"}
    url = lab.litellm.url
    line = f"Created {users} virtual keys" if users else f"LiteMaaS Virtual Key: {expected['litellm_virtual_key']}"
    said = [f"LiteMaaS API Base URL: {url}/v1", line, f"Available Models: {lab.models[0]}", "Key Duration: 30d"]
    assert lab.told == said
    for text in said:
        shown = text if "Virtual Key:" not in text else "LiteMaaS Virtual Key: "
        assert f"user.info: {shown}" in first.stdout
    for name in ("provision-user-data.yaml", "provision-user-info.yaml"):
        assert stat.S_IMODE((lab.folder / name).stat().st_mode) == 0o600
    lab.calls()
    again = lab.good(PLAY, **options)
    assert again.changed == 0
    assert lab.data == expected
    assert lab.told == said
    # Neither tasks nor requests are counted by participants.
    assert first.stats["localhost"]["ok"] == again.stats["localhost"]["ok"] == 11


def test_keys_of_the_older_collection_are_taken_over(lab: labs.Lab) -> None:
    values = [lab.older_key(f"virtkey-{lab.guid}-user{number}") for number in (1, 2)]
    unknown = lab.run(num_users=2)
    assert unknown.rc != 0
    assert f"virtkey-{lab.guid}-user1" in unknown.output
    assert "on_unrecoverable=rotate" in unknown.output
    (lab.folder / "provision-user-data.yaml").write_text(yaml.safe_dump({"litellm_virtual_keys": values, "other": 1}))
    lab.good(num_users=2, role={"max_budget": 5, "rpm_limit": 60})
    assert lab.data == {**lab.expected(2), "other": 1}
    assert lab.data["litellm_virtual_keys"] == values
    for row in lab.keys().values():
        assert (row["max_budget"], row["rpm_limit"]) == (5, 60)
        assert row["metadata"]["managed_by"] == "rhpds.litemaas"
    assert lab.good(num_users=2, role={"max_budget": 5, "rpm_limit": 60}).changed == 0
    # Named by a format of the item's own, as the older collection named single keys.
    lab.older_key(f"own-{lab.guid}")
    left = lab.good("destroy_key", check=True)
    assert (
        f"left alone, as they carry the guid, but neither our mark nor a name of the lab: own-{lab.guid}" in left.output
    )
    own = lab.good("destroy_key", check=True, role={"alias_format": "own-{{ guid }}"})
    assert "3 virtual keys: 3 to delete" in own.output
    # Another machine, without the first one's files: what can't be known is made anew, on request.
    (lab.folder / "provision-user-data.yaml").unlink()
    lab.good(num_users=2, role={"on_unrecoverable": "rotate"})
    assert lab.data == lab.expected(2)
    assert set(lab.data["litellm_virtual_keys"]).isdisjoint(values)


def test_every_setting_of_a_catalogue_item_arrives(lab: labs.Lab) -> None:
    lab.good(
        env_type="ocp4-cluster",
        catalog_item_name="ai-lab",
        requester_email="me@example.com",
        agnosticd_user_info={"runtime": 48},
        ocp4_workload_user_count=2,
        ocp4_workload_multi_user=True,
        ocp4_workload_user_base="attendee",
        role={
            "max_budget": 5.5,
            "soft_budget": 4,
            "budget_duration": "1d",
            "tpm_limit": 1000,
            "rpm_limit": 10,
            "max_parallel_requests": 3,
            "user_email_domain": "example.com",
            "user_info_messages": ["Have fun"],
        },
    )
    rows = lab.keys()
    assert sorted(rows) == [f"virtkey-{lab.guid}-attendee{number}" for number in (1, 2)]
    row = rows[f"virtkey-{lab.guid}-attendee2"]
    limits = {
        "max_budget": 5.5,
        "budget_duration": "1d",
        "tpm_limit": 1000,
        "rpm_limit": 10,
        "max_parallel_requests": 3,
    }
    assert {name: row[name] for name in limits} == limits
    assert row["models"] == lab.models
    assert row["user_id"] == "attendee2@example.com"
    about = row["metadata"]
    assert {name: about[name] for name in ("created_by", "environment", "owner", "catalog_item", "guid", "user")} == {
        "created_by": "babylon",
        "environment": "ocp4-cluster",
        "owner": "me@example.com",
        "catalog_item": "ai-lab",
        "guid": lab.guid,
        "user": "attendee2",
    }
    assert (about["models"], about["models_count"], about["duration"], about["user_number"]) == (
        lab.models[0],
        1,
        "48h",
        2,
    )
    lives = datetime.fromisoformat(row["expires"].replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert abs(lives - timedelta(hours=48)) < timedelta(minutes=5)
    assert lab.data["litellm_key_duration"] == "48h"
    assert lab.told[-2:] == ["Key Duration: 48h", "Have fun"]


def test_a_single_key_with_document_conversion(lab: labs.Lab, stack: harness.Stack, prefix: str) -> None:
    params = {"model": "openai/demo-chat", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-placeholder"}
    lab.litellm.post("/model/new", model_name=f"{prefix}docling", litellm_params=params, model_info={})
    options = {
        "include_docling": True,
        "docling_model": f"{prefix}docling",
        "alias_format": "virtkey-{{ guid }}-docs",
        "max_budget": "",
        "display_key": False,
        "store_key_in_facts": False,
    }
    lab.good(PLAY, role=options, requester="somebody")
    (row,) = lab.keys().values()
    assert row["key_alias"] == f"virtkey-{lab.guid}-docs"
    assert row["user_id"] == "somebody"
    assert row["max_budget"] is None
    assert row["models"] == [*lab.models, f"{prefix}docling"]
    assert lab.data["litellm_docling_endpoint"] == f"{lab.litellm.url}/docling/v1/convert/source"
    assert lab.data["litellm_docling_model"] == f"{prefix}docling"
    assert not [line for line in lab.told if "Virtual Key:" in line]
    assert "litellm_virtual_key" in lab.data
    assert "litellm_virtual_key" not in lab.facts
    assert lab.facts["litellm_key_alias"] == row["key_alias"]


def test_limits_of_the_older_collection_go_with_it(lab: labs.Lab) -> None:
    limits = {"max_budget": 10, "budget_duration": "1d", "tpm_limit": 100, "rpm_limit": 7}
    alias = f"virtkey-{lab.guid}"
    value = lab.older_key(alias, **limits)
    (lab.folder / "provision-user-data.yaml").write_text(yaml.safe_dump({"litellm_virtual_key": value}))
    lab.good(role={"rpm_limit": 70})
    row = lab.keys()[alias]
    assert [row[name] for name in ("max_budget", "tpm_limit", "rpm_limit")] == [None, None, 70]
    assert lab.good(role={"rpm_limit": 70}).changed == 0
    assert lab.data["litellm_virtual_key"] == value
    lab.good("destroy_key")
    # What was made to live for ever isn't made so again.
    lab.older_key(alias, duration=None)
    lab.good(role={"duration": "3d", "on_unrecoverable": "rotate"})
    lives = datetime.fromisoformat(lab.keys()[alias]["expires"].replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert abs(lives - timedelta(days=3)) < timedelta(minutes=5)
    assert lab.data["litellm_key_duration"] == "3d"
    assert lab.good(role={"duration": "3d"}).changed == 0


def test_older_keys_beyond_the_participants_are_named(lab: labs.Lab) -> None:
    aliases = [f"virtkey-{lab.guid}-user{number}" for number in (1, 2, 3)]
    values = [lab.older_key(alias) for alias in aliases]
    (lab.folder / "provision-user-data.yaml").write_text(yaml.safe_dump({"litellm_virtual_keys": values}))
    done = lab.good(num_users=2)
    assert f"left alive from an earlier run, until the lab is destroyed: {aliases[2]}" in done.output


def test_action_says_what_happens(lab: labs.Lab) -> None:
    assert "left as they are" in lab.good(PLAY, ACTION="status").stdout
    assert lab.keys() == {}
    lab.good(PLAY, ACTION="destroy", agnosticd_action="create")
    assert len(lab.keys()) == 1
    lab.good(PLAY, ACTION="remove")
    assert lab.keys() == {}
    assert lab.facts == {"litellm_key_deleted": True, "litellm_key_was_missing": False}
    lab.good(PLAY, ACTION="provision", agnosticd_action="destroy")
    assert lab.facts == {"litellm_key_deleted": False, "litellm_key_was_missing": True}


def test_check_mode_says_what_would_happen(lab: labs.Lab, faults: FaultProxy) -> None:
    first = lab.good(num_users=3, litellm_url=faults.url, check=True, role={"team": "per_lab"})
    assert "3 virtual keys: 3 to create" in first.output
    assert "user.info" not in first.output
    assert labs.writes(faults.writes()) == []
    assert list(lab.folder.iterdir()) == []
    lab.good(num_users=3)
    assert lab.good(num_users=3, check=True).changed == 0
    gone = lab.good("destroy_key", litellm_url=faults.url, check=True)
    assert "3 virtual keys: 3 to delete" in gone.output
    assert labs.writes(faults.writes()) == []
    assert len(lab.keys()) == 3


def test_one_of_many_fails_and_is_named(lab: labs.Lab) -> None:
    lab.good(num_users=12)
    before = lab.data
    blocked = f"virtkey-{lab.guid}-user7"
    lab.litellm.post("/key/update", key=lab.keys()[blocked]["token"], blocked=True)
    (lab.folder / "provision-user-data.yaml").unlink()
    done = lab.run(num_users=12, role={"rpm_limit": 9})
    assert done.rc != 0
    assert f"{blocked}: is blocked: unblock it" in done.output
    assert sorted(lab.data["users"]) == sorted(f"user{number}" for number in range(1, 13) if number != 7)
    assert lab.data["litellm_virtual_keys"][7] == before["litellm_virtual_keys"][7]
    assert lab.data["litellm_virtual_keys"][6] == ""
    assert "Created 11 of 12 virtual keys" in lab.told
    assert lab.keys()[f"virtkey-{lab.guid}-user8"]["rpm_limit"] == 9
    lab.good(num_users=12, role={"rpm_limit": 9, "unblock": True})
    assert lab.data["litellm_virtual_keys"] == before["litellm_virtual_keys"]
    lab.calls()


def test_an_expired_key_is_renewed(lab: labs.Lab) -> None:
    lab.good(role={"duration": "1d"})
    value = lab.data["litellm_virtual_key"]
    lab.litellm.post("/key/update", key=value, duration="1s")
    time.sleep(3)
    assert lab.litellm.chat(lab.models[0], value)[0] != 200
    renewed = lab.good(role={"duration": "7d"})
    assert "1 updated" in renewed.output
    assert lab.data["litellm_virtual_key"] == value


def test_fewer_participants_leave_keys_that_are_named(lab: labs.Lab) -> None:
    lab.good(num_users=3)
    shrunk = lab.good(num_users=1)
    assert f"virtkey-{lab.guid}-user1, virtkey-{lab.guid}-user2, virtkey-{lab.guid}-user3" in shrunk.output
    assert len(lab.keys()) == 4
    lab.good("destroy_key")
    assert lab.keys() == {}


def test_extend_reaches_every_key_of_the_guid(lab: labs.Lab) -> None:
    lab.good(num_users=3, role={"duration": "1h"})
    lab.older_key(f"virtkey-{lab.guid}", duration="1h")
    done = lab.good("extend_key", agnosticd_user_info={"runtime": 72})
    assert "4 virtual keys: 4 updated" in done.output
    for row in lab.keys().values():
        lives = datetime.fromisoformat(row["expires"].replace("Z", "+00:00")) - datetime.now(timezone.utc)
        assert abs(lives - timedelta(hours=72)) < timedelta(minutes=5)
    assert lab.data == lab.expected(3, duration="72h")
    assert lab.told[-1] == "LiteMaaS Virtual Key extended to 72h"
    assert lab.good("extend_key", agnosticd_user_info={"runtime": 72}).changed == 0
    # A lab that lives longer is not told that it was extended.
    longer = lab.good("extend_key", agnosticd_user_info={"runtime": 2})
    assert longer.changed == 0
    assert lab.data["litellm_key_duration"] == "72h"
    assert lab.told[-1] == "LiteMaaS Virtual Key extended to 72h"


def test_what_is_told_of_the_duration_stays_true(lab: labs.Lab) -> None:
    """Provisioned, extended and provisioned again, all in one play: nothing of one run is taken for another's."""
    play = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: rhpds.litemaas.ocp4_workload_litellm_virtual_keys
    - ansible.builtin.include_role:
        name: rhpds.litemaas.ocp4_workload_litellm_virtual_keys
        tasks_from: extend
    - ansible.builtin.include_role:
        name: rhpds.litemaas.ocp4_workload_litellm_virtual_keys
    - ansible.builtin.assert:
        that: query('ansible.builtin.varnames', '__(told|done)$') | map('extract', vars) | to_json is not search('sk-')
"""
    lab.good(play, num_users=2, role={"duration": "3d", "store_key_in_facts": False})
    assert lab.data == lab.expected(2, duration="168h")
    assert lab.told[-1] == "Key Duration: 168h"
    lab.good(num_users=2, role={"duration": "1d"})
    assert lab.data["litellm_key_duration"] == "168h"
    (lab.folder / "provision-user-data.yaml").unlink()
    lab.good(num_users=2, role={"duration": "1d"})
    assert lab.data["users"]["user2"]["litellm_key_duration"] == "168h"


def test_nothing_is_made_that_could_not_be_handed_over(lab: labs.Lab) -> None:
    (lab.folder / "provision-user-data.yaml").write_text("users: []\n")
    for options in ({}, {"output_dir": "/proc/nowhere"}, {"handout": str(lab.folder)}):
        done = lab.run(num_users=2, **options)
        assert done.rc != 0
        assert lab.keys() == {}
    (lab.folder / "provision-user-data.yaml").unlink()
    # Names that no variable can have are no facts, and user data all the same.
    lab.good(num_users=2, role={"user_base": "student-"})
    assert lab.data["litellm_student-2_key_alias"] == f"virtkey-{lab.guid}-student-2"


def test_each_is_told_how_long_the_own_key_lives(lab: labs.Lab) -> None:
    """Also where the extension was written to another file of user data, as AgnosticD's action names it."""
    lab.good(num_users=2, role={"duration": "2d"})
    lab.good("extend_key", agnosticd_user_info={"runtime": "100.5"}, ACTION="extend")
    late = lab.good(num_users=3, role={"duration": "2d"})
    assert "1 created" in late.output
    told = {name: user["litellm_key_duration"] for name, user in lab.data["users"].items()}
    assert told == {"user1": "6030m", "user2": "6030m", "user3": "2d"}
    assert lab.data["litellm_key_duration"] == "6030m"
    assert lab.good(num_users=3, role={"duration": "2d"}).changed == 0
    (lab.folder / "provision-user-data.yaml").unlink()
    lab.good(num_users=3, role={"duration": "2d"})
    assert {name: user["litellm_key_duration"] for name, user in lab.data["users"].items()} == told


def test_forms_that_were_left_empty(lab: labs.Lab) -> None:
    empty = {"ocp4_workload_user_base": "", "num_users": "2", "email": "", "catalog_item": ""}
    lab.good(**empty, role={"max_budget": "", "rpm_limit": ""})
    assert sorted(lab.keys()) == [f"virtkey-{lab.guid}-user1", f"virtkey-{lab.guid}-user2"]
    lab.good("destroy_key", **empty)
    # No participants, no workshop: one key.
    lab.good(num_users="0")
    assert sorted(lab.keys()) == [f"virtkey-{lab.guid}"]


def test_metadata_that_names_what_we_write_ourselves(lab: labs.Lab) -> None:
    lab.good(role={"metadata": {"guid": "x", "uuid": "y", "scope": "z", "managed_by": "me", "cost_center": 7}})
    row = lab.keys()[f"virtkey-{lab.guid}"]["metadata"]
    assert (row["guid"], row["managed_by"], row["cost_center"]) == (lab.guid, "rhpds.litemaas", 7)
    assert "uuid" not in row


def test_a_lab_without_keys_is_not_extended(lab: labs.Lab) -> None:
    done = lab.run("extend_key")
    assert done.rc != 0
    assert f"keys of guid {lab.guid}: no such key" in done.output


@pytest.mark.parametrize("name", ["keys.csv", "keys.json"])
def test_an_instructor_gets_a_hand_out(lab: labs.Lab, name: str) -> None:
    path = lab.folder / name
    lab.good(num_users=2, handout=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    rows = list(csv.DictReader(text.splitlines())) if name.endswith("csv") else json.loads(text)
    assert [row["key"] for row in rows] == lab.data["litellm_virtual_keys"]
    assert rows[1]["key_alias"] == f"virtkey-{lab.guid}-user2"
    assert rows[1]["api_base_url"] == f"{lab.litellm.url}/v1"
    assert rows[1]["models"] == lab.models[0]
    assert lab.good(num_users=2, handout=str(path)).changed == 0


def test_a_budget_for_the_whole_lab(lab: labs.Lab) -> None:
    # More than the calls below cost, whenever that is booked.
    team = {"team": "per_lab", "team_max_budget": 50000, "max_budget": 5000}
    lab.good(num_users=2, role=team)
    info = lab.litellm.get("/team/info", team_id=f"lab-{lab.guid}")["team_info"]
    assert info["max_budget"] == 50000
    assert {row["team_id"] for row in lab.keys().values()} == {f"lab-{lab.guid}"}
    lab.calls()
    assert lab.good(num_users=2, role=team).changed == 0
    # A key that somebody made in the lab's team, without any mark, would outlive the lab.
    lab.litellm.post("/key/generate", key_alias=f"virtkey-{lab.guid}x", team_id=f"lab-{lab.guid}", models=lab.models)
    # One that somebody put there for another lab would go with it.
    foreign = lab.litellm.post(
        "/key/generate", key_alias=f"virtkey-{lab.guid}y", team_id=f"lab-{lab.guid}", metadata={"guid": "other"}
    )
    refused = lab.run("destroy_key")
    assert refused.rc != 0
    assert f"has keys of other labs (virtkey-{lab.guid}y, of guid other)" in refused.output
    lab.litellm.post("/key/delete", keys=[foreign["token"]])
    done = lab.good("destroy_key")
    assert f"keys that others had made in it: virtkey-{lab.guid}x" in done.output
    assert lab.litellm.keys(f"virtkey-{lab.guid}") == []
    assert lab.litellm.request("GET", "/team/info", params={"team_id": f"lab-{lab.guid}"})[0] == 404
    assert lab.good("destroy_key", num_users="").changed == 0
    # A team of that name that somebody else made is neither taken over nor removed.
    lab.litellm.post("/team/new", team_id=f"lab-{lab.guid}")
    assert lab.run(num_users=2, role=team).rc != 0
    lab.good("destroy_key")
    assert lab.litellm.request("GET", "/team/info", params={"team_id": f"lab-{lab.guid}"})[0] == 200
    lab.litellm.post("/team/delete", team_ids=[f"lab-{lab.guid}"])


def test_a_lab_with_keys_gets_a_team_later(lab: labs.Lab) -> None:
    team = f"lab-{lab.guid}"
    lab.good(num_users=2)
    before = lab.data["litellm_virtual_keys"]
    lab.good(num_users=2, role={"team": "per_lab"})
    rows = lab.keys().values()
    assert {row["team_id"] for row in rows} == {team}
    assert {row["user_id"] for row in rows} == {"user1@lab.opentlc.com", "user2@lab.opentlc.com"}
    assert lab.data["litellm_virtual_keys"] == before
    lab.calls()
    assert lab.good(num_users=2, role={"team": "per_lab"}).changed == 0
    # And out of it, and in again.
    lab.good(num_users=2)
    assert {row["team_id"] for row in lab.keys().values()} == {None}
    lab.good(num_users=2, role={"team": "per_lab", "rpm_limit": 50})
    assert {(row["team_id"], row["rpm_limit"]) for row in lab.keys().values()} == {(team, 50)}
    lab.good("destroy_key")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"guid": ""}, "guid is not set"),
        ({"litellm_url": ""}, "litellm_url is not set"),
        ({"litellm_master_key": ""}, "litellm_master_key is not set"),
        ({"role": {"models": []}}, "models is empty"),
        ({"role": {"subscription_package": "huge"}}, "'huge' is not known; there are: ai-beginner, ai-developer"),
        ({"role": {"team": "per_lab", "team_id": "x"}}, "exclude each other"),
        ({"handout": "/nowhere/keys.csv"}, "/nowhere, which is not there"),
        ({"num_users": 20000}, "at most 10000"),
        ({"num_users": "-1"}, "num_users is -1: it has to be a whole number"),
        ({"num_users": 0, "ocp4_workload_multi_user": True, "ocp4_workload_user_count": "0"}, "at least 1"),
        ({"role": {"models": ["no-such-model"]}}, "models not on the proxy: no-such-model"),
    ],
)
def test_settings_that_cannot_work_are_refused(lab: labs.Lab, settings: dict[str, Any], said: str) -> None:
    done = lab.run(**settings)
    assert done.rc != 0
    assert said in done.output
    assert lab.keys() == {}
    assert not (lab.folder / "provision-user-data.yaml").exists()


def test_packages_name_models_and_duration(lab: labs.Lab) -> None:
    lab.good(role={"subscription_package": "lab-dev"})
    assert lab.data["litellm_key_duration"] == "14d"
    assert lab.data["litellm_available_models"] == lab.models


def test_one_key_by_its_id(lab: labs.Lab) -> None:
    lab.good(num_users=2)
    goes = lab.keys()[f"virtkey-{lab.guid}-user2"]["token"]
    lab.good("destroy_key", role={"delete_method": "by_key_id", "key_id": goes})
    assert sorted(lab.keys()) == [f"virtkey-{lab.guid}-user1"]
    refused = lab.run("destroy_key", role={"delete_method": "by_key_id"})
    assert refused.rc != 0
    assert "needs ocp4_workload_litellm_virtual_keys_key_id" in refused.output


def test_the_database_where_the_proxy_fails(lab: labs.Lab, faults: FaultProxy, stack: harness.Stack) -> None:
    lab.good(num_users=3)
    value = lab.data["litellm_virtual_key"]
    faults.add_rule("POST", "/key/delete", "unavailable", count=None)
    refused = lab.run("destroy_key", litellm_url=faults.url, role={"retry_count": 0})
    assert refused.rc != 0
    assert len(lab.keys()) == 3
    forced = {"force_db_delete": True, "litellm_dsn": stack.litellm_dsn, "retry_count": 0}
    lab.good("destroy_key", litellm_url=faults.url, role=forced)
    assert lab.keys() == {}
    # The value of a key that was deleted so is never used again.
    lab.good(num_users=3)
    assert lab.data["litellm_virtual_key"] != value
    # Nothing of the proxy answers.
    down = lab.good("destroy_key", litellm_url="http://127.0.0.1:1", role=forced)
    assert "whether the lab has a team, the proxy did not tell" in down.output
    assert lab.keys() == {}


class Bastions:
    """A group of one, on this machine, and its profile."""

    def __init__(self, folder: Path) -> None:
        self.profile = folder / "litemaas.sh"
        self._inventory = folder / "hosts"
        self._inventory.write_text("[bastions]\nbastion ansible_connection=local\n")

    def variables(self, **more: str) -> dict[str, Any]:
        bastion = {"path": str(self.profile), "become": False, **more}
        return {
            "role": {"write_bastion_profile": True},
            **{f"ocp4_workload_litellm_bastion_profile_{name}": value for name, value in bastion.items()},
            "arguments": ("--inventory", str(self._inventory)),
        }


def test_the_bastions_get_their_profile(lab: labs.Lab, tmp_path: Path) -> None:
    bastions = Bastions(tmp_path)
    lab.good(**bastions.variables())
    assert lab.data["litellm_virtual_key"] in bastions.profile.read_text()


def test_the_bastions_get_the_profile_of_whom_the_item_names(lab: labs.Lab, tmp_path: Path) -> None:
    bastions = Bastions(tmp_path)
    lab.good(num_users=2, **bastions.variables(user="user2"))
    assert lab.data["users"]["user2"]["litellm_virtual_key"] in bastions.profile.read_text()
    assert lab.good(num_users=2, **bastions.variables(user="user2")).changed == 0
    nobody = lab.run(num_users=2, **bastions.variables(user="user9"))
    assert nobody.rc != 0
    assert "the user data of participant user9 have no" in nobody.output


def test_values_that_nobody_would_have_are_said_to_be_lost(lab: labs.Lab) -> None:
    nowhere = {"key_secret": "", "enable_user_info_data": False, "enable_user_info_messages": False}
    done = lab.good(role=nowhere)
    assert "were not written anywhere: nobody has them" in done.output


def test_the_check_takes_the_settings_of_the_role(lab: labs.Lab, stack: harness.Stack) -> None:
    role = {"litellm_url": stack.url, "litellm_master_key": stack.master_key, "key_secret": stack.key_secret}
    lab.good(num_users=2, role=role)
    (lab.folder / "provision-user-data.yaml").unlink()
    names = ("LITELLM_URL", "LITELLM_MASTER_KEY", "LITELLM_KEY_SECRET")
    lab.good("check_workshop", num_users=2, role=role, env=dict.fromkeys(names, ""))
