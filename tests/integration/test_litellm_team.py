# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litellm_team against the real proxy and its database."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness

sys.path.insert(0, str(Path(__file__).parent.parent / "stack"))
from faults import FaultProxy

MODULE = "litellm_team"
#: Faults must not make a test wait.
QUICK = {"retry_count": 2, "retry_delay": 0.01}


class Teams:
    """Runs the module with the test's prefix before every id and guid."""

    def __init__(self, runner: harness.Runner, litellm: harness.LiteLLM, prefix: str) -> None:
        self.runner, self.litellm, self.prefix = runner, litellm, prefix
        self.guid = f"{prefix}g"

    def run(self, *ids: str, check: bool = False, **options: Any) -> harness.ModuleResult:
        names = [self.prefix + one for one in ids]
        if len(names) == 1:
            options["team_id"] = names[0]
        elif names:
            options["teams"] = [{"team_id": name} for name in names]
        return self.runner.module(MODULE, options, check=check, diff=True)

    def ok(self, *ids: str, **options: Any) -> harness.ModuleResult:
        result = self.run(*ids, **options)
        assert not result.failed, result["msg"]
        return result

    def same_again(self, *ids: str, **options: Any) -> None:
        """Once more, and in check mode, through a proxy that counts: nothing changes, nothing is written."""
        with FaultProxy(self.litellm.url) as faults:
            for check in (False, True):
                result = self.ok(*ids, litellm_url=faults.url, check=check, **options)
                assert not result.changed, result["results"]
            assert faults.writes() == []

    def row(self, one: str) -> dict[str, Any]:
        (found,) = (row for row in self.litellm.teams(self.prefix) if row["team_id"] == self.prefix + one)
        return found

    def ids(self) -> list[str]:
        return sorted(row["team_id"][len(self.prefix) :] for row in self.litellm.teams(self.prefix))

    def key(self, one: str, name: str = "", **options: Any) -> str:
        """The value of a new key of a team."""
        alias = f"{self.prefix}{name}" if name else None
        made = self.litellm.post("/key/generate", key_alias=alias, team_id=self.prefix + one, **options)
        return str(made["key"])


@pytest.fixture
def teams(runner: harness.Runner, litellm: harness.LiteLLM, prefix: str) -> Teams:
    return Teams(runner, litellm, prefix)


@pytest.fixture
def faults(stack: harness.Stack) -> Iterator[FaultProxy]:
    with FaultProxy(stack.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def models(stack: harness.Stack, litellm: harness.LiteLLM) -> Iterator[list[str]]:
    """Two callable models; a call of the first costs a dollar or more."""
    prefix = f"t{secrets.token_hex(4)}-"
    names = [f"{prefix}dear", f"{prefix}other"]
    for name in names:
        params = {"model": "openai/demo-chat", "api_base": f"{stack.upstream_url}/v1", "api_key": "none"}
        if name == names[0]:
            params |= {"input_cost_per_token": 1.0, "output_cost_per_token": 1.0}
        litellm.post("/model/new", model_name=name, litellm_params=params)
    yield names
    litellm.remove(prefix)


def changed_fields(result: harness.ModuleResult) -> set[str]:
    return {change["field"] for entry in result["results"] for change in entry["changes"]}


def test_every_field_is_set_changed_and_taken_away_again(teams: Teams, models: list[str]) -> None:
    everything: dict[str, Any] = {
        "team_alias": "Lab #1 'ä'",
        "models": models,
        "max_budget": 5.5,
        "soft_budget": 2,
        "budget_duration": "monthly",
        "tpm_limit": 1000,
        "rpm_limit": 60,
        "blocked": True,
        "metadata": {"room": "A", "nested": {"x": [1, None]}},
        "guid": teams.guid,
        "scope": "tests",
    }
    planned = teams.ok("a", check=True, **everything)
    assert planned.changed and teams.ids() == []
    made = teams.ok("a", **everything)
    assert (
        changed_fields(made)
        == changed_fields(planned)
        == everything.keys() - {"metadata", "guid", "scope"}
        | {
            "team_id",
            "metadata.room",
            "metadata.nested",
        }
    )
    assert made["results"][0]["team_id"] == f"{teams.prefix}a" and made["results"][0]["guid"] == teams.guid
    row = teams.row("a")
    for name in ("team_alias", "max_budget", "soft_budget", "tpm_limit", "rpm_limit", "blocked"):
        assert row[name] == everything[name], name
    assert (sorted(row["models"]), row["budget_duration"]) == (sorted(models), "1mo")
    metadata = row["metadata"]
    assert (metadata["managed_by"], metadata["scope"], metadata["guid"]) == ("rhpds.litemaas", "tests", teams.guid)
    assert (metadata["room"], metadata["nested"]) == ("A", {"x": [1, None]})
    teams.same_again("a", **{**everything, "models": models[::-1]})
    # Somebody else adds something, which stays; and turns something of ours, which is put right.
    teams.litellm.post(
        "/team/update", team_id=f"{teams.prefix}a", rpm_limit=1, metadata={**metadata, "theirs": [1], "room": "B"}
    )
    assert changed_fields(teams.ok("a", **everything)) == {"rpm_limit", "metadata.room"}
    assert teams.row("a")["metadata"]["theirs"] == [1]
    gone = teams.ok("a")
    row = teams.row("a")
    for name in ("team_alias", "max_budget", "soft_budget", "budget_duration", "tpm_limit", "rpm_limit"):
        assert row[name] is None, name
        assert name in changed_fields(gone)
    assert (row["models"], row["blocked"], row["metadata"].get("room")) == ([], False, None)
    assert (row["metadata"]["theirs"], row["metadata"]["guid"], row["metadata"]["scope"]) == ([1], teams.guid, "tests")
    teams.same_again("a")


def test_a_list_with_defaults_adoption_and_one_that_fails(teams: Teams, models: list[str]) -> None:
    prefix = teams.prefix
    teams.litellm.post("/team/new", team_id=f"{prefix}old", max_budget=3, tpm_limit=7, metadata={"x": 1})
    items = [
        {"team_id": f"{prefix}a"},
        {"team_id": f"{prefix}old", "max_budget": 4},
        {"team_id": f"{prefix}bad", "models": ["no-such-model"]},
        {"team_id": f"{prefix}twice"},
        {"team_id": f"{prefix}twice"},
        {"max_budget": 9},
    ]
    result = teams.run(teams=items, max_budget=5, models=[models[1]], guid=teams.guid)
    assert result.failed and result["summary"]["failed"] == 4
    said = [entry["msg"] for entry in result["results"]]
    assert said[1] == "adopted" and "no-such-model" in said[2] and "more than once" in said[4]
    assert "team_id is missing" in said[5]
    assert teams.ids() == ["a", "old"]
    row = teams.row("old")
    assert (row["max_budget"], row["tpm_limit"], row["metadata"]["x"]) == (4.0, 7, 1)
    assert (teams.row("a")["max_budget"], teams.row("a")["models"]) == (5.0, [models[1]])
    teams.same_again(teams=items[:2], max_budget=5, models=[models[1]], guid=teams.guid)
    refused = teams.run("a", guid="another")
    assert refused.failed and f"belongs to guid {teams.guid}" in refused["msg"]
    assert not teams.run("a", models=["no-such-model"], check_models=False).failed


def test_keys_are_held_to_the_teams_budget_models_and_block(
    teams: Teams, models: list[str], litellm: harness.LiteLLM
) -> None:
    dear, other = models
    teams.ok("t", max_budget=0.5, models=[dear])
    first, second = teams.key("t", "k1"), teams.key("t", "k2")
    assert litellm.chat(other, first)[0] in (401, 403)
    assert litellm.chat(dear, first)[0] == 200
    deadline = time.monotonic() + 90
    while not teams.row("t")["spend"] and time.monotonic() < deadline:
        time.sleep(0.2)
    # The other key has spent nothing itself.
    status, body = litellm.chat(dear, second)
    assert status in (400, 422, 429) and "budget" in json.dumps(body).lower(), (status, body)
    teams.ok("t", max_budget=1000, models=[dear])
    assert litellm.chat(dear, second)[0] == 200
    teams.ok("t", max_budget=1000, models=[dear], blocked=True)
    status, body = litellm.chat(dear, second)
    assert status == 401 and "is blocked" in json.dumps(body)
    teams.ok("t", max_budget=1000)
    assert litellm.chat(other, second)[0] == 200


def test_absent_refuses_a_team_with_keys_and_removes_them_where_told(
    teams: Teams, models: list[str], litellm: harness.LiteLLM, litellm_db: Any
) -> None:
    prefix = teams.prefix
    teams.ok("t", "u", guid=teams.guid)
    value, beside = teams.key("t", "k0"), teams.key("u", "beside")
    teams.key("t")  # has no alias
    with litellm_db.cursor() as cursor:
        cursor.execute(
            'INSERT INTO "LiteLLM_VerificationToken" (token, key_alias, team_id) '
            "SELECT encode(sha256(convert_to(%s || n, 'UTF8')), 'hex'), %s || 'k' || n, %s"
            " FROM generate_series(1, 210) AS n",
            (prefix, prefix, f"{prefix}t"),
        )
    assert litellm.chat(models[1], value)[0] == 200
    refused = teams.run("t", state="absent")
    assert refused.failed and "has 212 keys" in refused["msg"] and f"{prefix}k0, {prefix}k1" in refused["msg"]
    assert "and 209 more" in refused["msg"] and "remove_keys" in refused["msg"]
    assert teams.ids() == ["t", "u"] and len(litellm.keys(prefix)) == 212
    planned = teams.ok("t", state="absent", remove_keys=True, check=True)
    assert planned.changed and len(planned["results"][0]["removed_keys"]) == 212
    assert teams.ids() == ["t", "u"] and len(litellm.keys(prefix)) == 212
    with FaultProxy(litellm.url) as faults:
        # The second batch fails: the team has to stay, and what went is told.
        faults.add_rule("POST", "/key/delete", "answer", status=400, body="no", skip=1)
        half = teams.run("t", state="absent", remove_keys=True, litellm_url=faults.url, **QUICK)
        assert half.failed and half.changed and len(half["results"][0]["removed_keys"]) == 100
        assert faults.count("POST", "/team/delete") == 0
    done = teams.ok("t", state="absent", remove_keys=True)
    assert len(done["results"][0]["removed_keys"]) == 112 and done["summary"]["deleted"] == 1
    assert teams.ids() == ["u"] and [row["key_alias"] for row in litellm.keys(prefix)] == [f"{prefix}beside"]
    assert litellm.chat(models[1], value)[0] == 401
    assert litellm.chat(models[1], beside)[0] == 200
    teams.same_again("t", state="absent", remove_keys=True)
    # By guid alone: what is marked.
    litellm.post("/team/new", team_id=f"{prefix}theirs", metadata={"guid": teams.guid})
    gone = teams.ok(guid=teams.guid, state="absent", remove_keys=True)
    assert [entry["name"] for entry in gone["results"]] == [f"{prefix}u"]
    assert teams.ids() == ["theirs"]
    teams.ok("theirs", state="absent")
    assert teams.ids() == []
    # LiteLLM makes keys of teams that there aren't.
    teams.key("theirs", "orphan")
    told = teams.ok("theirs", state="absent")
    assert not told.changed and "1 key" in told["results"][0]["msg"]
    assert teams.ok("theirs", state="absent", remove_keys=True)["results"][0]["removed_keys"] == [f"{prefix}orphan"]
    assert litellm.keys(prefix) == []


@pytest.mark.parametrize("action", ["error_after", "unavailable", "reset", "reset_after"])
def test_faults_make_no_twin_and_the_next_run_converges(teams: Teams, faults: FaultProxy, action: str) -> None:
    options = {"litellm_url": faults.url, "guid": teams.guid, **QUICK}
    for path, declared in (
        ("/team/new", {"max_budget": 5}),
        ("/team/update", {"max_budget": 6, "metadata": {"x": 1}}),
        ("/team/delete", {"state": "absent"}),
    ):
        faults.add_rule("POST", path, action, count=1)
        teams.run("t", **options, **declared)
        teams.ok("t", **options, **declared)
        assert len(teams.ids()) == (0 if path == "/team/delete" else 1)
        teams.same_again("t", guid=teams.guid, **declared)
        faults.clear()


def test_what_stays_as_it_was_is_a_failure(teams: Teams, faults: FaultProxy) -> None:
    """A 200 is no proof, and no list is acted on that isn't complete."""
    options = {"litellm_url": faults.url, **QUICK}
    faults.add_rule("POST", "/team/new", "answer", status=200, body={"team_id": "made up"})
    result = teams.run("t", **options)
    assert result.failed and "it is not there" in result["msg"]
    teams.ok("t", guid=teams.guid, **options)
    faults.add_rule("POST", "/team/update", "answer", status=200, body={})
    result = teams.run("t", max_budget=5, **options)
    assert result.failed and "max_budget is None instead of 5.0" in result["msg"]
    faults.add_rule("POST", "/team/delete", "answer", status=200, body={})
    result = teams.run("t", state="absent", **options)
    assert result.failed and "still there" in result["msg"]
    broken = {"teams": [], "total": 3, "total_pages": 1}
    faults.add_rule("GET", "/v2/team/list", "answer", count=None, status=200, body=broken)
    result = teams.run(guid=teams.guid, state="absent", **options)
    assert result.failed and "3 were announced" in result["msg"]
    faults.clear()
    faults.add_rule("GET", "/v2/team/list", "unavailable", count=None)
    result = teams.run("t", state="absent", **options)
    assert result.failed and "HTTP 503" in result["msg"] and teams.ids() == ["t"]
