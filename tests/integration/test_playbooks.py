# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks manage_virtual_keys and sync_databases, and the example lists, as an operator calls them.

manage_models is the role's playbook: see test_role_models.py.
"""

from __future__ import annotations

import csv
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.stack.faults import FaultProxy

EXAMPLES = harness.CHECKOUT / "docs" / "examples"
LINE = re.compile(r'"msg": "((?:[^"\\]|\\.)*)"')


def said(done: harness.PlaybookResult) -> str:
    """The last line of a run."""
    return json.loads(f'"{LINE.findall(done.stdout)[-1]}"')


@pytest.fixture
def keys(run_playbook: Callable[..., harness.PlaybookResult]) -> Callable[..., harness.PlaybookResult]:
    """Runs manage_virtual_keys for an action."""

    def run(action: str, variables: dict[str, Any] | None = None, **options: Any) -> harness.PlaybookResult:
        variables = {f"virtual_key_{name}": value for name, value in (variables or {}).items()}
        listed = variables.pop("virtual_key_list", None)
        if listed is not None:
            variables["virtual_keys"] = listed
        variables["virtual_key_action"] = action
        return run_playbook("rhpds.litemaas.manage_virtual_keys", variables, **options)

    return run


@pytest.fixture
def model(litellm: harness.LiteLLM, stack: harness.Stack, prefix: str) -> str:
    """A model that answers."""
    params = {"model": "openai/mini", "api_base": f"{stack.upstream_url}/v1", "api_key": "unused"}
    litellm.post("/model/new", model_name=f"{prefix}model", litellm_params=params)
    return f"{prefix}model"


def no_values(done: harness.PlaybookResult, *values: str) -> None:
    """No value of a key is in what was printed."""
    for value in values:
        assert value not in done.output
    assert not re.search(r"sk-[A-Za-z0-9_-]{16,}", done.output)


def test_a_key_from_its_making_to_its_end(
    keys: Any, litellm: harness.LiteLLM, stack: harness.Stack, prefix: str, model: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    alias = prefix + 'it\'s "q"'
    wanted = {
        "alias": alias,
        "guid": prefix,
        "models": [model],
        "duration": "36h",
        "max_budget": 5000,
        "file": str(path),
    }
    check = keys("create", wanted, check=True, verbosity=3, diff=True)
    assert check.rc == 0, check.output
    assert (said(check), litellm.keys(prefix), path.exists()) == ("1 virtual key: 1 to create", [], False)

    first = keys("create", wanted, verbosity=3, diff=True)
    assert first.rc == 0, first.output
    assert said(first) == f"1 virtual key: 1 created; values are in {path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (entry,) = json.loads(path.read_text(encoding="utf-8"))
    assert (entry["key_alias"], entry["guid"]) == (alias, prefix)
    assert litellm.chat(model, entry["key"])[0] == 200

    again = keys("create", wanted, verbosity=3, diff=True)
    assert (again.rc, again.changed) == (0, 0), again.output
    check = keys("create", wanted, check=True, verbosity=3)
    assert (check.rc, check.changed) == (0, 0), check.output

    listed = keys("list", {"guid": prefix}, verbosity=3)
    assert listed.rc == 0, listed.output
    assert said(listed) == "1 virtual key"
    info = keys("info", {"alias": alias}, verbosity=3)
    assert info.rc == 0, info.output
    assert entry["token"] in info.stdout

    extended = keys("extend", {"alias": alias, "duration": "7d"}, verbosity=3)
    assert extended.rc == 0, extended.output
    assert said(extended) == "1 virtual key: 1 updated"
    rotated = keys("rotate", {"guid": prefix, "file": str(path)}, verbosity=3, diff=True)
    assert rotated.rc == 0, rotated.output
    (new,) = json.loads(path.read_text(encoding="utf-8"))
    assert new["key"] != entry["key"]
    assert litellm.chat(model, new["key"])[0] == 200
    assert litellm.chat(model, entry["key"])[0] == 401
    no_values(rotated, entry["key"], new["key"])

    for check_mode, left in ((True, 1), (False, 0), (False, 0)):
        deleted = keys("delete", {"guid": prefix}, check=check_mode, verbosity=3)
        assert deleted.rc == 0, deleted.output
        assert len(litellm.keys(prefix)) == left
    assert deleted.changed == 0
    for done in (check, first, again, listed, info, extended, deleted):
        no_values(done, entry["key"], stack.master_key, stack.key_secret)


def test_a_list_of_keys_in_csv(keys: Any, litellm: harness.LiteLLM, prefix: str, model: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    listed = [{"key_alias": f"{prefix}user{n}", "user_id": f"user{n}@lab.opentlc.com"} for n in range(12)]
    wanted = {"list": listed, "guid": prefix, "models": [model], "duration": "1d", "rpm_limit": 60, "file": str(path)}
    done = keys("create", wanted)
    assert done.rc == 0, done.output
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert [row["user_id"] for row in rows] == [key["user_id"] for key in listed]
    assert litellm.chat(model, rows[11]["key"])[0] == 200
    again = keys("create", wanted)
    assert (again.rc, again.changed) == (0, 0), again.output
    table = keys("list", {"prefix": prefix})
    assert f"{prefix}user11" in table.stdout
    no_values(table)
    token = keys("delete", {"token": rows[0]["token"]})
    assert token.rc == 0, token.output
    few = keys("delete", {"list": listed[:3]})
    assert said(few) == "3 virtual keys: 2 deleted, 1 not there"
    assert len(litellm.keys(prefix)) == 9


def test_info_shows_what_it_was_asked_for(keys: Any, litellm: harness.LiteLLM, prefix: str) -> None:
    made = {name: litellm.post("/key/generate", key_alias=prefix + name) for name in ("mk1", "mk2", "mk3")}
    values = [row["key"] for row in made.values()]

    def shown(done: harness.PlaybookResult) -> set[str]:
        no_values(done, *values)
        return {name for name, row in made.items() if row["token"] in done.stdout}

    one = keys("info", {"list": [{"key_alias": f"{prefix}mk1"}]})
    assert (one.rc, shown(one), said(one)) == (0, {"mk1"}, "1 virtual key"), one.output
    listed = [{"alias": f"{prefix}mk1"}, {"token": values[1]}, {"key_alias": f"{prefix}mk4"}, {"guid": prefix}]
    several = keys("info", {"list": listed})
    assert several.rc == 0, several.output
    assert (shown(several), said(several)) == (
        {"mk1", "mk2"},
        f"2 virtual keys; not found: {prefix}mk4, guid {prefix}",
    )

    for token in (values[2], made["mk3"]["token"]):
        by_token = keys("info", {"token": token})
        assert (by_token.rc, shown(by_token), said(by_token)) == (0, {"mk3"}, "1 virtual key"), by_token.output
    no_values(keys("info", {"token": values[2]}, verbosity=3), *values)
    gone = "0" * 64
    assert said(keys("info", {"token": gone})) == f"0 virtual keys; not found: token {gone[:12]}"
    assert said(keys("info", {"alias": f"{prefix}mk4"})) == f"0 virtual keys; not found: {prefix}mk4"
    wrong = keys("info", {"token": "mk1"})
    assert wrong.rc == 2
    assert "virtual_key_token is neither the value of a key nor its sha256 in hex" in wrong.output


def test_empty_variables_are_no_filters(keys: Any, litellm: harness.LiteLLM, prefix: str) -> None:
    for name in ("a", "b"):
        litellm.post("/key/generate", key_alias=prefix + name)
    names = ("alias", "guid", "token", "user_id", "team_id", "expired", "expiring_within", "older_than")
    done = keys("list", {**dict.fromkeys(names, ""), "prefix": prefix})
    assert (done.rc, said(done)) == (0, "2 virtual keys"), done.output
    # false is a filter.
    done = keys("list", {"prefix": prefix, "expired": False})
    assert (done.rc, said(done)) == (0, "2 virtual keys"), done.output
    done = keys("list", {"prefix": prefix, "expired": True})
    assert (done.rc, said(done)) == (0, "0 virtual keys"), done.output


def test_an_items_end_replaces_the_duration_of_all(
    keys: Any, litellm: harness.LiteLLM, prefix: str, model: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    end = "2099-12-24T00:00:00Z"
    listed = [{"key_alias": f"{prefix}a"}, {"key_alias": f"{prefix}b", "expires": end}]
    wanted = {"list": listed, "models": [model], "duration": "3d", "file": str(path)}
    done = keys("create", wanted)
    assert (done.rc, said(done)) == (0, f"2 virtual keys: 2 created; values are in {path}"), done.output
    ends = {row["key_alias"]: row["expires"] for row in litellm.keys(prefix)}
    assert ends[f"{prefix}a"] < "2099" < ends[f"{prefix}b"]
    both = keys("create", {**wanted, "list": [{**listed[1], "duration": "1d"}]})
    assert both.rc == 2
    assert "duration and expires exclude each other" in said(both)


def test_random_values_survive_in_the_file(keys: Any, prefix: str, model: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    without = {"LITELLM_KEY_SECRET": ""}
    wanted = {"alias": f"{prefix}a", "models": [model], "duration": "1d", "file": str(path)}
    assert keys("create", wanted, env=without).rc == 0
    (entry,) = json.loads(path.read_text(encoding="utf-8"))
    again = keys("create", wanted, env=without, verbosity=3)
    assert (again.rc, again.changed) == (0, 0), again.output
    assert json.loads(path.read_text(encoding="utf-8")) == [entry]
    no_values(again, entry["key"])
    other = keys("create", {**wanted, "alias": f"{prefix}b"}, env=without)
    assert other.rc == 0, other.output
    (backup,) = [file for file in tmp_path.iterdir() if file.name.startswith("keys.json.")]
    assert entry["key"] in backup.read_text(encoding="utf-8")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_keys_that_can_be_made_are_handed_over(
    keys: Any, litellm: harness.LiteLLM, prefix: str, model: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    listed = [{"key_alias": f"{prefix}good"}, {"key_alias": f"{prefix}bad", "models": [f"{prefix}none"]}]
    done = keys("create", {"list": listed, "models": [model], "duration": "1d", "file": str(path)})
    assert done.rc == 2
    assert f"{prefix}bad" in said(done)
    assert f"{prefix}none" in said(done)
    assert [entry["key_alias"] for entry in json.loads(path.read_text(encoding="utf-8"))] == [f"{prefix}good"]
    assert len(litellm.keys(prefix)) == 1


@pytest.mark.parametrize(
    ("action", "variables", "texts"),
    [
        ("", {}, ["virtual_key_action is not set", "list, info, create, delete, extend, rotate"]),
        ("remove", {}, ["virtual_key_action is remove", "list, info, create, delete, extend, rotate"]),
        ("info", {}, ["virtual_key_action=info needs"]),
        ("create", {"alias": "a"}, ["virtual_key_file"]),
        ("create", {"file": "/tmp/x.json"}, ["virtual_key_alias or virtual_keys"]),
        ("create", {"alias": "a", "file": "/no/such/folder/x.json"}, ["/no/such/folder, which is not there"]),
        ("delete", {}, ["virtual_key_alias, virtual_key_token, virtual_key_guid or virtual_keys"]),
        ("extend", {"alias": "a"}, ["virtual_key_duration (how long from now"]),
        ("rotate", {"file": "/tmp/x.json"}, ["virtual_key_alias, virtual_key_guid or virtual_keys"]),
    ],
)
def test_keys_asks_for_what_is_missing(keys: Any, action: str, variables: dict[str, Any], texts: list[str]) -> None:
    done = keys(action, variables)
    assert done.rc == 2
    for text in texts:
        assert text in done.output


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({"LITELLM_URL": ""}, "litellm_url is not set, here or as environment variable"),
        ({"LITELLM_MASTER_KEY": ""}, "litellm_master_key is not set, here or as environment variable"),
        ({"LITELLM_MASTER_KEY": "sk-wrong-master-key-1234"}, "litellm_master_key"),
        ({"LITELLM_URL": "http://127.0.0.1:9"}, "127.0.0.1:9"),
    ],
)
def test_keys_says_what_is_wrong_with_the_connection(keys: Any, env: dict[str, str], text: str) -> None:
    done = keys("list", env=env, verbosity=3)
    assert done.rc == 2
    assert text in done.output
    assert "sk-wrong-master-key-1234" not in done.output


SYNC = "rhpds.litemaas.sync_databases"


@pytest.mark.parametrize("layout", ["split", "shared"])
def test_sync_brings_in_line_and_reports(
    run_playbook: Any, litellm: harness.LiteLLM, stack: harness.Stack, prefix: str, model: str, layout: str
) -> None:
    dsn = stack.litemaas_dsn if layout == "split" else stack.litellm_dsn
    litellm.post("/key/generate", key_alias=f"{prefix}alive")  # without any key in LiteLLM none is ever revoked
    connection = harness.connect(dsn)
    with FaultProxy(stack.url) as proxy, connection.cursor() as cursor:
        variables = {"litemaas_dsn": dsn, "litellm_dsn": stack.litellm_dsn, "litellm_url": proxy.url}
        cursor.execute(
            "INSERT INTO models (id, name, provider) VALUES (%s, 'gone', 'openai')",
            (f"{prefix}gone",),
        )
        cursor.execute(
            "INSERT INTO api_keys (user_id, name, key_hash, key_prefix, litellm_key_alias, is_active)"
            " VALUES ('00000000-0000-0000-0000-000000000001', 'k', %s, 'sk-', %s, true) RETURNING id",
            (prefix * 6, f"{prefix}orphan"),
        )
        (key_id,) = cursor.fetchone()

        def state() -> tuple[Any, ...]:
            cursor.execute("SELECT count(*) FROM models WHERE id = %s", (model,))
            (made,) = cursor.fetchone()
            cursor.execute("SELECT availability FROM models WHERE id = %s", (f"{prefix}gone",))
            (gone,) = cursor.fetchone()
            cursor.execute("SELECT is_active FROM api_keys WHERE id = %s", (key_id,))
            return made, gone, cursor.fetchone()[0]

        try:
            check = run_playbook(SYNC, variables, check=True)
            assert check.rc == 0, check.output
            assert (check.changed, state()) == (1, (0, "available", True))
            for done in (check, run_playbook(SYNC, variables)):
                assert done.rc == 0, done.output
                assert "models only in LiteMaaS: " in done.output
                assert "models only in LiteLLM: " in done.output
                assert "active keys of LiteMaaS that LiteLLM doesn't have: " in done.output
            assert state() == (1, "available", True)
            assert run_playbook(SYNC, variables).changed == 0
            repair = {**variables, "sync_repair": "orphaned_models, orphaned_keys", "sync_allow_mass_removal": True}
            done = run_playbook(SYNC, repair, verbosity=3, diff=True)
            assert done.rc == 0, done.output
            assert state() == (1, "unavailable", False)
            assert run_playbook(SYNC, repair).changed == 0
            assert proxy.writes() == []
            for secret in (stack.master_key, *re.findall(r"://[^:]+:([^@]+)@", dsn)):
                assert secret not in done.output
        finally:
            cursor.execute("DELETE FROM api_keys WHERE id = %s", (key_id,))
            connection.close()


@pytest.mark.parametrize(
    ("variables", "env", "text"),
    [
        ({"sync_repair": "orphaned_keys,everything"}, {}, "sync_repair has everything; it may have orphaned_models"),
        ({}, {"LITEMAAS_DSN": ""}, "litemaas_dsn is not set, here or as environment variable"),
        ({"litemaas_dsn": "postgresql://u:s3cr3t-pw@127.0.0.1:9/x"}, {}, "127.0.0.1:9/x"),
        ({"litellm_master_key": "sk-wrong-master-key-1234"}, {}, "litellm_master_key"),
    ],
)
def test_sync_says_what_is_wrong(run_playbook: Any, variables: dict[str, Any], env: dict[str, str], text: str) -> None:
    done = run_playbook(SYNC, variables, env=env, verbosity=3)
    assert done.rc == 2
    assert text in done.output
    for secret in ("s3cr3t-pw", "sk-wrong-master-key-1234"):
        assert secret not in done.output


def test_examples_run(run_playbook: Any, litellm: harness.LiteLLM, stack: harness.Stack) -> None:
    names = []
    try:
        for example, count in (("models.yml", 1), ("vertex_models.yml", 9)):
            arguments = ("--extra-vars", f"@{EXAMPLES / example}")
            options = {"ocp4_workload_litemaas_models_sync_from_litellm": False}
            done = run_playbook("rhpds.litemaas.manage_models", options, arguments=arguments)
            assert done.rc == 0, done.output
            names += re.findall(r"model_name: (\S+)", (EXAMPLES / example).read_text(encoding="utf-8"))
            models = "1 model" if count == 1 else f"{count} models"
            assert said(done) == f"{models}: {count} created; LiteMaaS catalogue: {count} created"
            again = run_playbook("rhpds.litemaas.manage_models", options, arguments=arguments)
            assert (again.rc, again.changed) == (0, 0), again.output
        assert len({model["model_name"] for model in litellm.models()} & set(names)) == 10
    finally:
        for model in litellm.models():
            if model["model_name"] in names:
                litellm.post("/model/delete", id=model["model_info"]["id"])
        for name in names:
            harness.remove_catalogue_rows(stack.litemaas_dsn, name)
