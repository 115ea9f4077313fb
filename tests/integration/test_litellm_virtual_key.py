# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litellm_virtual_key and litellm_virtual_key_info against the real proxy and its database."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness

sys.path.insert(0, str(Path(__file__).parent.parent / "stack"))
from faults import FaultProxy

MODULE = "litellm_virtual_key"
TABLE = '"LiteLLM_VerificationToken"'
RECORD = "rhpds_litemaas"
#: POSTs that only ask.
QUESTIONS = ("/v2/key/info",)
#: Faults must not make a test wait.
QUICK = {"retry_count": 2, "retry_delay": 0.01}


def sha256(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def now() -> datetime:
    return datetime.now(timezone.utc)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def near(text: str, expected: datetime, seconds: float = 90) -> bool:
    return abs((moment(text) - expected).total_seconds()) < seconds


def writes(faults: FaultProxy) -> list[tuple[str, str]]:
    return [one for one in faults.writes() if one[1] not in QUESTIONS]


def by_name(result: harness.ModuleResult) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in result["results"]}


def changed_fields(result: harness.ModuleResult) -> set[str]:
    return {change["field"] for entry in result["results"] for change in entry["changes"]}


class Keys:
    """Runs the module with the test's prefix before every alias and guid."""

    def __init__(self, runner: harness.Runner, litellm: harness.LiteLLM, prefix: str) -> None:
        self.runner, self.litellm, self.prefix = runner, litellm, prefix
        self.guid = f"{prefix}g"

    def run(self, *aliases: str, check: bool = False, env: dict[str, str] | None = None, **options: Any) -> Any:
        """One key for one alias, a list for several."""
        names = [self.prefix + alias for alias in aliases]
        if len(names) == 1:
            options["key_alias"] = names[0]
        elif names:
            options["keys"] = [{"key_alias": name} for name in names]
        return self.runner.module(MODULE, options, check=check, diff=True, env=env)

    def ok(self, *aliases: str, **options: Any) -> harness.ModuleResult:
        result: harness.ModuleResult = self.run(*aliases, **options)
        assert not result.failed, result["msg"]
        return result

    def value(self, *aliases: str, **options: Any) -> str:
        """The value of the one key."""
        return str(self.ok(*aliases, **options)["results"][0]["key"])

    def same_again(self, *aliases: str, **options: Any) -> harness.ModuleResult:
        """Once more, through a proxy that counts: nothing changes, nothing is written."""
        with FaultProxy(self.litellm.url) as faults:
            result = self.ok(*aliases, litellm_url=faults.url, **options)
            assert not result.changed, result["results"]
            assert writes(faults) == []
        return result

    def row(self, alias: str) -> dict[str, Any]:
        found = [row for row in self.litellm.keys(self.prefix + alias) if row["key_alias"] == self.prefix + alias]
        assert len(found) == 1, found
        return found[0]

    def aliases(self) -> list[str]:
        return sorted(row["key_alias"][len(self.prefix) :] for row in self.litellm.keys(self.prefix))


@pytest.fixture
def keys(runner: harness.Runner, litellm: harness.LiteLLM, prefix: str) -> Keys:
    return Keys(runner, litellm, prefix)


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


@pytest.fixture
def faults(stack: harness.Stack) -> Iterator[FaultProxy]:
    with FaultProxy(stack.url) as proxy:
        yield proxy


@pytest.fixture
def crowd(litellm_db: Any, prefix: str) -> Callable[[int], None]:
    """Makes a number of other people's keys, so that a list has pages."""

    def make(number: int) -> None:
        with litellm_db.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {TABLE} (token, key_alias) "
                "SELECT encode(sha256(convert_to(%s || n, 'UTF8')), 'hex'), %s || n FROM generate_series(1, %s) AS n",
                (secrets.token_hex(8), f"{prefix}zz-crowd-{secrets.token_hex(2)}-", number),
            )

    return make


# ---- declared, run, run again ----


def test_list_with_defaults_runs_again_without_a_write(keys: Keys, models: list[str]) -> None:
    options = {"guid": keys.guid, "models": [models[1]], "duration": "36h", "max_budget": 5, "rpm_limit": 60}
    aliases = ("u1", "u2", "u3")
    planned = keys.ok(*aliases, check=True, **options)
    assert planned.changed and planned["summary"]["created"] == 3
    assert not any("key" in entry for entry in planned["results"])
    assert keys.aliases() == []
    made = keys.ok(*aliases, **options)
    assert made["summary"]["created"] == 3
    assert f"{keys.prefix}u1: max_budget: 5.0" in made["diff"]["after"]
    values = [entry["key"] for entry in made["results"]]
    assert [entry["token"] for entry in made["results"]] == [sha256(value) for value in values]
    assert not any(value in made["diff"]["after"] for value in values)
    again = keys.same_again(*aliases, **options)
    assert [entry["key"] for entry in again["results"]] == values
    assert again["diff"] == {"before": "", "after": ""}
    assert not keys.ok(*aliases, check=True, **options).changed
    other_order = keys.same_again(*reversed(aliases), **options)
    assert [entry["key"] for entry in other_order["results"]] == values[::-1]
    row = keys.row("u2")
    assert (row["models"], row["max_budget"], row["rpm_limit"]) == ([models[1]], 5.0, 60)
    assert near(row["expires"], now() + timedelta(hours=36))
    mark = row["metadata"]
    assert (mark["managed_by"], mark["guid"]) == ("rhpds.litemaas", keys.guid)


def test_every_option_round_trips_changes_and_goes(keys: Keys, models: list[str], litellm: harness.LiteLLM) -> None:
    team = litellm.post("/team/new", team_alias=f"{keys.prefix}team")["team_id"]
    first: dict[str, Any] = {
        "models": [models[0]],
        "max_budget": 5.5,
        "soft_budget": 2,
        "tpm_limit": 1000,
        "rpm_limit": 10,
        "max_parallel_requests": 3,
        "model_rpm_limit": {models[0]: 5, models[1]: 6},
        "model_tpm_limit": {models[0]: 500},
        "user_id": f"{keys.prefix}user",
        "team_id": team,
        "metadata": {"room": "4", "nested": {"a": [1, 2]}},
        "allowed_routes": ["llm_api_routes", "/key/info"],
    }
    second = {
        **first,
        "models": models,
        "max_budget": 7,
        "soft_budget": 3,
        "rpm_limit": 11,
        "model_rpm_limit": {models[0]: 7},
        "metadata": {"room": "5"},
        "allowed_routes": ["llm_api_routes"],
        "blocked": True,
    }
    try:
        token = keys.ok("k", budget_duration="30d", **first)["results"][0]["token"]
        # Somebody else's metadata.
        metadata = keys.row("k")["metadata"]
        litellm.post("/key/update", key=token, metadata={**metadata, "theirs": "x", "room": "4"})
        shuffled = {**first, "allowed_routes": ["/key/info", "llm_api_routes"]}
        keys.same_again("k", budget_duration="30d", **shuffled)
        planned = keys.ok("k", check=True, budget_duration="7d", **second)
        done = keys.ok("k", budget_duration="7d", **second)
        fields = {"models", "max_budget", "soft_budget", "rpm_limit", "model_rpm_limit", "metadata.room"}
        fields |= {"metadata.nested", "allowed_routes", "blocked", "budget_duration"}
        assert changed_fields(done) == changed_fields(planned) == fields
        keys.same_again("k", budget_duration="weekly", **second)
        row = keys.row("k")
        assert row["metadata"]["theirs"] == "x" and "nested" not in row["metadata"]
        assert row["metadata"]["model_rpm_limit"] == {models[0]: 7}
        assert row["metadata"]["model_tpm_limit"] == {models[0]: 500}
        assert (sorted(row["models"]), row["team_id"], row["blocked"]) == (sorted(models), team, True)
        # An instruction about an existing key changes that only.
        touched = keys.ok("k", state="existing", tpm_limit=2000, blocked=False)
        assert changed_fields(touched) == {"tpm_limit", "blocked"}
        assert keys.row("k")["max_budget"] == 7.0
        # Nothing is declared any more, but one limit that needs its period named.
        gone = keys.ok("k")
        assert "max_budget" in changed_fields(gone)
        row = keys.row("k")
        for name in ("max_budget", "tpm_limit", "rpm_limit", "max_parallel_requests", "user_id", "team_id"):
            assert row[name] is None, name
        assert (row["models"], row["allowed_routes"], row["blocked"]) == ([], [], None) or not row["blocked"]
        assert row["metadata"].keys() & {"model_rpm_limit", "model_tpm_limit", "room"} == set()
        assert row["metadata"]["theirs"] == "x"
        info = litellm.post("/v2/key/info", keys=[token])["info"][0]
        assert (info["litellm_budget_table"] or {}).get("soft_budget") is None
        keys.same_again("k")
    finally:
        litellm.post("/team/delete", team_ids=[team])


def test_budget_duration_is_taken_away_where_the_proxy_can(keys: Keys, stack: harness.Stack) -> None:
    keys.ok("k", max_budget=5, budget_duration="daily")
    assert keys.row("k")["budget_duration"] == "1d"
    result = keys.run("k", max_budget=6)
    if stack.version < (1, 106):
        # Not possible on a live key: said on every run, and nothing else is written.
        assert result.failed and "rotate it" in result["msg"]
        assert keys.run("k", max_budget=6).failed
        assert keys.row("k")["max_budget"] == 5.0
        result = keys.ok("k", max_budget=6, rotate=True)
    assert not result.failed, result["msg"]
    row = keys.row("k")
    assert (row["max_budget"], row["budget_duration"]) == (6.0, None)
    keys.same_again("k", max_budget=6)


def test_limits_of_one_model_leave_other_metadata_alone(keys: Keys, models: list[str]) -> None:
    keys.ok("k", metadata={"a": 1}, model_rpm_limit={models[0]: "3"}, model_tpm_limit={models[1]: 9})
    assert keys.row("k")["metadata"]["model_rpm_limit"] == {models[0]: 3}
    keys.ok("k", metadata={"a": 1}, model_tpm_limit={models[1]: 9})
    metadata = keys.row("k")["metadata"]
    assert "model_rpm_limit" not in metadata and metadata["model_tpm_limit"] == {models[1]: 9} and metadata["a"] == 1


def test_adopts_a_key_that_was_there(keys: Keys, litellm: harness.LiteLLM) -> None:
    made = litellm.post(
        "/key/generate", key_alias=f"{keys.prefix}old", metadata={"guid": keys.guid, "x": 1}, tpm_limit=7
    )
    refused = keys.run("old", guid=keys.guid, max_budget=5)
    assert refused.failed and "value can't be known" in refused["msg"] and "known_values" in refused["msg"]
    assert keys.row("old")["max_budget"] is None
    adopted = keys.ok("old", guid=keys.guid, max_budget=5, on_unrecoverable="ignore")
    assert adopted["results"][0]["msg"] == "adopted" and "key" not in adopted["results"][0]
    row = keys.row("old")
    # What we never set is not ours to take away.
    assert (row["token"], row["max_budget"], row["tpm_limit"], row["metadata"]["x"]) == (made["token"], 5.0, 7, 1)
    keys.same_again("old", guid=keys.guid, max_budget=5, on_unrecoverable="ignore")
    given = keys.same_again("old", guid=keys.guid, max_budget=5, known_values=["sk-other", made["key"]])
    assert given["results"][0]["key_source"] == "given"
    turned = keys.ok("old", guid=keys.guid, max_budget=5, on_unrecoverable="rotate")
    assert turned["summary"]["rotated"] == 1 and turned["results"][0]["key"] != made["key"]
    assert keys.row("old")["tpm_limit"] == 7
    keys.same_again("old", guid=keys.guid, max_budget=5)


def test_alias_of_another_lab_is_left_alone(keys: Keys) -> None:
    value = keys.value("k", guid=f"{keys.prefix}one")
    refused = keys.run("k", guid=f"{keys.prefix}two")
    assert refused.failed and f"belongs to guid {keys.prefix}one" in refused["msg"] and value not in json.dumps(refused)
    assert keys.run("k", guid=f"{keys.prefix}two", state="absent").failed
    assert keys.aliases() == ["k"]


# ---- calls ----


def test_key_works_at_once_within_its_limits(keys: Keys, models: list[str], litellm: harness.LiteLLM) -> None:
    value = keys.value("k", models=[models[1]], rpm_limit=50)
    assert litellm.chat(models[1], value)[0] == 200
    assert litellm.chat(models[0], value)[0] in (401, 403)
    # LiteLLM counts in a cache of 200 entries that everything shares: with many keys it forgets what it has counted.
    keys.ok("k", models=[models[1]], rpm_limit=0)
    assert litellm.chat(models[1], value)[0] == 429
    keys.ok("k", models=[models[1]], blocked=True)
    assert litellm.chat(models[1], value)[0] == 401
    # Left as it is, it could not be called: an error unless told otherwise.
    stays = keys.run("k", state="existing")
    assert stays.failed and "is blocked" in stays["msg"]
    assert not keys.ok("k", state="existing", require_usable=False).changed
    assert changed_fields(keys.ok("k", state="existing", unblock=True)) == {"blocked"}
    assert not keys.ok("k", state="existing", unblock=True).changed
    assert keys.row("k")["blocked"] in (None, False)


def test_budget_is_enforced_raised_and_reset(keys: Keys, models: list[str], litellm: harness.LiteLLM) -> None:
    value = keys.value("k", models=[models[0]], max_budget=0.5)
    assert litellm.chat(models[0], value)[0] == 200
    deadline = time.monotonic() + 90
    while not keys.row("k")["spend"] and time.monotonic() < deadline:
        time.sleep(0.2)
    status, body = litellm.chat(models[0], value)
    assert status in (400, 422, 429) and "budget" in json.dumps(body).lower(), (status, body)
    spent = keys.row("k")["spend"]
    over = keys.run("k", models=[models[0]], max_budget=0.5)
    assert over.failed and "of its budget of 0.5" in over["msg"]
    assert over["results"][0]["key"] == value
    assert not keys.ok("k", models=[models[0]], max_budget=0.5, require_usable=False).changed
    keys.ok("k", models=[models[0]], max_budget=spent + 1000)
    assert litellm.chat(models[0], value)[0] == 200
    over = keys.run("k", models=[models[0]], max_budget=0.5)
    assert over.failed
    reset = keys.ok("k", models=[models[0]], max_budget=0.5, reset_spend=True)
    assert changed_fields(reset) == {"max_budget", "spend"}
    assert not keys.ok("k", models=[models[0]], max_budget=0.5, require_usable=False).changed


# ---- values ----


def test_values_are_told_apart_by_what_they_come_from(keys: Keys) -> None:
    def fresh(**options: Any) -> str:
        value = keys.value("k", **options)
        keys.ok("k", state="absent")
        return value

    options: list[dict[str, Any]] = [
        {},
        {"guid": f"{keys.prefix}1"},
        {"guid": f"{keys.prefix}2"},
        {"guid": f"{keys.prefix}1", "uuid": "u"},
        {"key_secret": "another secret of at least 32 bytes"},
    ]
    values = [fresh(never_reuse=False, **one) for one in options]
    assert len(set(values)) == len(values)
    assert fresh(never_reuse=False) == values[0]
    # Deleted values stay away.
    assert fresh() not in values


def test_lab_that_gets_its_uuid_later_keeps_its_keys(keys: Keys) -> None:
    value = keys.value("k", guid=keys.guid)
    recorded = keys.ok("k", guid=keys.guid, uuid="u-1")
    assert changed_fields(recorded) == {"metadata.uuid"} and recorded["results"][0]["key"] == value
    keys.ok("k", state="absent")
    value = keys.value("k", guid=keys.guid, uuid="u-1")
    for known in ({"uuid": "u-1"}, {}):
        assert keys.same_again("k", guid=keys.guid, **known)["results"][0]["key"] == value
    # The same guid come round again, with the old lab's key still alive.
    refused = keys.run("k", guid=keys.guid, uuid="u-2")
    assert refused.failed and "the one with uuid u-1" in refused["msg"] and value not in json.dumps(refused["results"])


def test_changed_key_secret_is_told_and_touches_nothing(keys: Keys, litellm: harness.LiteLLM) -> None:
    value = keys.value("k", max_budget=5)
    other = {"key_secret": "x" * 40}
    refused = keys.run("k", max_budget=6, **other)
    assert refused.failed and "another key_secret" in refused["msg"]
    assert keys.row("k")["max_budget"] == 5.0
    managed = keys.ok("k", max_budget=6, on_unrecoverable="ignore", **other)
    assert managed["results"][0]["action"] == "update" and "key" not in managed["results"][0]
    assert keys.row("k")["token"] == sha256(value)
    rotated = keys.ok("k", max_budget=6, on_unrecoverable="rotate", **other)["results"][0]
    assert rotated["generation"] == 2 and keys.row("k")["token"] == sha256(rotated["key"]) != sha256(value)
    assert litellm.request("GET", "/models", key=value)[0] == 401
    keys.same_again("k", max_budget=6, on_unrecoverable="rotate", **other)


@pytest.mark.parametrize("key_secret", ["short", "{master}", "{master} and more than 32 bytes of text"])
def test_guessable_key_secret_is_refused(keys: Keys, stack: harness.Stack, key_secret: str) -> None:
    refused = keys.run("k", key_secret=key_secret.replace("{master}", stack.master_key))
    assert refused.failed and ("32 bytes" in refused["msg"] or "independent" in refused["msg"])
    assert keys.aliases() == []


def test_no_value_is_used_twice(keys: Keys, litellm_db: Any) -> None:
    values = []
    for generation in (1, 2, 3):
        made = keys.ok("k")["results"][0]
        assert made["generation"] == generation
        values.append(made["key"])
        keys.ok("k", state="absent")
    assert len(set(values)) == 3
    # The archive grows past one page, of other keys and of this one; then past twice the number of aliases.
    with litellm_db.cursor() as cursor:
        cursor.execute('SELECT * FROM "LiteLLM_DeletedVerificationToken" WHERE key_alias = %s', (f"{keys.prefix}k",))
        columns = [f'"{column.name}"' for column in cursor.description if column.name != "id"]
        for number, alias in ((150, f"{keys.prefix}k"), (200, f"{keys.prefix}other")):
            chosen = [f"%s AS {name}" if name == '"key_alias"' else name for name in columns]
            cursor.execute(
                f'INSERT INTO "LiteLLM_DeletedVerificationToken" (id, {", ".join(columns)}) '
                f'SELECT gen_random_uuid()::text, {", ".join(chosen)} FROM "LiteLLM_DeletedVerificationToken", '
                "generate_series(1, %s) WHERE key_alias = %s AND metadata->'rhpds_litemaas'->>'generation' = '1'"
                " AND token = %s",
                (alias, number, f"{keys.prefix}k", sha256(values[0])),
            )
    assert keys.ok("k", check=True)["results"][0]["generation"] == 4
    several = keys.ok("k", "b", "c", "d", check=True)
    assert by_name(several)[f"{keys.prefix}k"]["generation"] == 4
    assert by_name(several)[f"{keys.prefix}b"]["generation"] == 1
    # Without the archive the first value comes back to life.
    assert keys.value("k", never_reuse=False) == values[0]
    with litellm_db.cursor() as cursor:
        cursor.execute(
            'DELETE FROM "LiteLLM_DeletedVerificationToken" WHERE starts_with(key_alias, %s)', (keys.prefix,)
        )


def test_key_renamed_by_somebody_keeps_its_value_to_itself(keys: Keys, litellm: harness.LiteLLM) -> None:
    value = keys.value("k")
    litellm.post("/key/update", key=sha256(value), key_alias=f"{keys.prefix}renamed")
    made = keys.ok("k")["results"][0]
    assert made["generation"] == 2 and made["key"] != value
    assert keys.aliases() == ["k", "renamed"]
    # Nor does it come back when that one is gone, under the name that it had.
    litellm.post("/key/update", key=made["token"], key_alias=f"{keys.prefix}renamed2")
    litellm.post("/key/delete", keys=[sha256(value), made["token"]])
    third = keys.ok("k")["results"][0]
    assert third["generation"] == 3 and third["key"] not in (value, made["key"])


# ---- random values ----


def test_random_value_is_returned_once(keys: Keys) -> None:
    without = {"env": {"LITELLM_KEY_SECRET": ""}}
    made = keys.ok("k", **without)["results"][0]
    assert made["key_source"] == "generated" and sha256(made["key"]) == made["token"] == keys.row("k")["token"]
    again = keys.run("k", **without)
    assert again.failed and "there is no key_secret" in again["msg"] and "key" not in again["results"][0]
    known = keys.ok("k", known_values=[made["key"]], **without)
    assert not known.changed and known["results"][0]["key_source"] == "given"
    assert made["key"] not in json.dumps(known)
    turned = keys.ok("k", on_unrecoverable="rotate", **without)["results"][0]
    assert turned["action"] == "rotate" and turned["key"] != made["key"]
    assert keys.aliases() == ["k"]


def test_two_runs_with_random_values_leave_no_twins(keys: Keys) -> None:
    aliases = [f"k{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: keys.run(*aliases, env={"LITELLM_KEY_SECRET": ""}), range(3)))
    assert keys.aliases() == sorted(set(keys.aliases()))
    alive = {row["key_alias"]: row["token"] for row in keys.litellm.keys(keys.prefix)}
    for result in runs:
        for entry in result["results"]:
            if entry.get("key"):
                # Who got a value got the one that lives.
                assert alive[entry["name"]] == sha256(entry["key"])
            else:
                # Too late, at the same moment, or just when two of them were there.
                reasons = ("already exists", "another run", "can't be known", "keys have this alias")
                assert entry["failed"] and any(words in entry["msg"] for words in reasons), entry["msg"]
    assert len(alive) == 6


# ---- how long a key lives ----


def test_duration_counts_from_the_grant_and_never_shortens(keys: Keys, litellm_db: Any) -> None:
    keys.ok("k", duration="2d")
    first = moment(keys.row("k")["expires"])
    keys.same_again("k", duration="2d")
    longer = keys.ok("k", duration="3d")
    assert changed_fields(longer) == {"expires"}
    assert near(keys.row("k")["expires"], first + timedelta(days=1))
    shorter = keys.ok("k", duration="1d")
    assert not shorter.changed and "allow_shorten" in shorter["results"][0]["msg"]
    keys.ok("k", duration="1d", allow_shorten=True)
    assert near(keys.row("k")["expires"], first - timedelta(days=1))
    until = now() + timedelta(days=5)
    keys.ok("k", expires=until.isoformat())
    assert near(keys.row("k")["expires"], until)
    keys.same_again("k", expires=until.strftime("%Y-%m-%dT%H:%M:%SZ"))
    # A latency is no difference, half an hour is.
    keys.same_again("k", expires=(until + timedelta(seconds=60)).isoformat())
    keys.ok("k", expires=(until + timedelta(minutes=30)).isoformat())
    assert near(keys.row("k")["expires"], until + timedelta(minutes=30))


def test_never_expiring_key_is_not_given_an_end_unasked(keys: Keys) -> None:
    keys.ok("k")
    kept = keys.ok("k", duration="2d")
    assert not kept.changed and "never expires" in kept["results"][0]["msg"]
    assert "never expires" in keys.ok("k", state="existing", extend="3d")["results"][0]["msg"]
    assert keys.row("k")["expires"] is None
    keys.ok("k", duration="2d", allow_shorten=True)
    assert near(keys.row("k")["expires"], now() + timedelta(days=2))


def age(litellm_db: Any, alias: str, *, expires: str | None = None, created: str | None = None) -> None:
    """Shift a key's times in the database, the record's too."""
    with litellm_db.cursor() as cursor:
        if expires:
            cursor.execute(
                f"UPDATE {TABLE} SET expires = (now() AT TIME ZONE 'UTC') + %s::interval WHERE key_alias = %s",
                (expires, alias),
            )
        if created:
            cursor.execute(
                f"UPDATE {TABLE} SET created_at = (now() AT TIME ZONE 'UTC') + %s::interval, metadata = jsonb_set("
                "metadata, '{rhpds_litemaas,granted_at}',"
                " to_jsonb(to_char((now() AT TIME ZONE 'UTC') + %s::interval, 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')))"
                " WHERE key_alias = %s",
                (created, created, alias),
            )


def test_expired_key_is_renewed(keys: Keys, litellm_db: Any) -> None:
    value = keys.value("k", duration="2d")
    age(litellm_db, f"{keys.prefix}k", expires="-1 hour", created="-3 days")
    assert keys.run("k").failed
    left = keys.run("k", duration="2d", renew=False)
    assert left.failed and "expired on" in left["msg"]
    assert not keys.ok("k", duration="2d", renew=False, require_usable=False).changed
    renewed = keys.ok("k", duration="2d")
    assert changed_fields(renewed) == {"expires"} and renewed["results"][0]["key"] == value
    assert near(keys.row("k")["expires"], now() + timedelta(days=2))
    keys.same_again("k", duration="2d")
    # Seconds after its end, too.
    age(litellm_db, f"{keys.prefix}k", expires="-2 seconds")
    assert keys.ok("k", expires=(now() + timedelta(seconds=90)).isoformat()).changed


def test_duration_that_is_over_does_not_end_a_living_key(keys: Keys, litellm_db: Any) -> None:
    keys.ok("k", duration="2d")
    age(litellm_db, f"{keys.prefix}k", expires="5 days", created="-3 days")
    assert not keys.ok("k", duration="2d").changed
    refused = keys.run("k", duration="2d", allow_shorten=True)
    assert refused.failed and "would have ended" in refused["msg"]
    assert near(keys.row("k")["expires"], now() + timedelta(days=5))


def test_extend_counts_from_now_for_all_keys_of_a_lab(keys: Keys, litellm_db: Any) -> None:
    keys.ok("a", "b", guid=keys.guid, duration="2d")
    for alias in ("a", "b"):
        age(litellm_db, keys.prefix + alias, expires="1 hour", created="-47 hours")
    extended = keys.ok(guid=keys.guid, state="existing", extend="7d")
    assert [entry["name"] for entry in extended["results"]] == [f"{keys.prefix}a", f"{keys.prefix}b"]
    assert near(keys.row("b")["expires"], now() + timedelta(days=7))
    assert not keys.ok(guid=keys.guid, state="existing", extend="1d").changed
    # What is declared does not count from the extension.
    keys.same_again("a", "b", guid=keys.guid, duration="2d")
    # Minutes count when they are what is asked for.
    age(litellm_db, f"{keys.prefix}a", expires="10 seconds")
    keys.ok("a", state="existing", extend="4m")
    assert near(keys.row("a")["expires"], now() + timedelta(minutes=4))
    # An expired one, too, and one that is made now.
    age(litellm_db, f"{keys.prefix}a", expires="-1 hour")
    keys.ok("a", state="existing", extend="1h")
    assert near(keys.row("a")["expires"], now() + timedelta(hours=1))
    keys.ok("c", extend="1h")
    assert near(keys.row("c")["expires"], now() + timedelta(hours=1))
    missing = keys.run(guid=f"{keys.prefix}none", state="existing", extend="1h")
    assert missing.failed and "no such key" in missing["msg"]


# ---- rotation ----


def test_rotation_keeps_limits_expiry_and_spend(keys: Keys, litellm: harness.LiteLLM, litellm_db: Any) -> None:
    declared: dict[str, Any] = {"guid": keys.guid, "duration": "7d", "max_budget": 50, "soft_budget": 5}
    old = keys.value("k", **declared)
    litellm.post("/key/update", key=sha256(old), spend=12.5, tpm_limit=77)
    age(litellm_db, f"{keys.prefix}k", expires="5 days", created="-2 days")
    planned = keys.ok("k", rotate=True, check=True, **declared)
    assert planned["summary"]["rotated"] == 1 and keys.row("k")["token"] == sha256(old)
    turned = keys.ok("k", rotate=True, **declared)["results"][0]
    assert turned["action"] == "rotate" and turned["generation"] == 2 and turned["key"] != old
    row = keys.row("k")
    assert (row["token"], row["spend"], row["tpm_limit"]) == (sha256(turned["key"]), 12.5, 77)
    assert near(row["expires"], now() + timedelta(days=5))
    assert keys.aliases() == ["k"]
    assert litellm.request("GET", "/models", key=old)[0] == 401
    assert litellm.request("GET", "/models", key=turned["key"])[0] == 200
    assert keys.same_again("k", **declared)["results"][0]["key"] == turned["key"]


def test_rotation_by_age_happens_once(keys: Keys, litellm_db: Any) -> None:
    keys.ok("old", "new")
    age(litellm_db, f"{keys.prefix}old", created="-10 days")
    before = {"rotate_created_before": (now() - timedelta(days=1)).isoformat()}
    done = keys.ok("old", "new", **before)
    assert (done["summary"]["rotated"], done["summary"]["unchanged"]) == (1, 1)
    keys.same_again("old", "new", **before)


def test_old_value_works_for_its_time_of_grace(
    keys: Keys, models: list[str], litellm: harness.LiteLLM, litellm_db: Any
) -> None:
    declared: dict[str, Any] = {"guid": keys.guid, "models": [models[1]]}
    old = keys.value("k", **declared)
    new = keys.value("k", state="existing", guid=keys.guid, rotate=True, rotate_grace="1h")
    assert litellm.chat(models[1], old)[0] == litellm.chat(models[1], new)[0] == 200
    assert keys.aliases() == ["k", "k@rotated-1"]
    assert near(keys.row("k@rotated-1")["expires"], now() + timedelta(hours=1))
    keys.same_again("k", **declared)
    newer = keys.value("k", rotate=True, rotate_grace="1h", **declared)
    assert keys.aliases() == ["k", "k@rotated-1", "k@rotated-2"] and newer not in (old, new)
    # The old value can be deleted by itself, and nothing else.
    assert keys.run(token=old, state="existing", extend="9d").failed
    with litellm_db.cursor() as cursor:
        cursor.execute(
            f"UPDATE {TABLE} SET metadata = jsonb_set(metadata, '{{{RECORD},grace_until}}', '\"2020-01-01T00:00:00Z\"')"
            " WHERE key_alias = %s",
            (f"{keys.prefix}k@rotated-1",),
        )
    swept = keys.ok("k", **declared)
    assert changed_fields(swept) == {"rotated-out key"}
    assert keys.aliases() == ["k", "k@rotated-2"]
    keys.same_again("k", **declared)
    gone = keys.ok("k", state="absent")
    assert gone["summary"]["deleted"] == 2 and keys.aliases() == []


@pytest.fixture(params=["few keys", "more pages than aliases"])
def store(request: pytest.FixtureRequest, crowd: Callable[[int], None]) -> None:
    if request.param != "few keys":
        crowd(320)


def test_killed_rotation_is_undone_or_finished(keys: Keys, litellm: harness.LiteLLM, store: None) -> None:
    value = keys.value("k", max_budget=9, guid=keys.guid)
    aside = f"{keys.prefix}k@rotating"
    renamed = {"managed_by": "rhpds.litemaas", "guid": keys.guid, RECORD: {"generation": 1, "replaced_by": 2}}
    # Killed after the old one was renamed: nothing has replaced it, so it is taken back, whoever asks.
    for options in ({"max_budget": 9}, {"state": "existing", "rpm_limit": 3}):
        litellm.post("/key/update", key=sha256(value), key_alias=aside, metadata=renamed)
        done = keys.ok("k", guid=keys.guid, **options)
        assert "key_alias" in changed_fields(done) and done["results"][0]["key"] == value
        assert keys.row("k")["token"] == sha256(value)
    keys.ok("k", guid=keys.guid, max_budget=9)
    # The same, and the rotation is asked for again.
    litellm.post("/key/update", key=sha256(value), key_alias=aside, metadata=renamed, spend=3)
    second = keys.value("k", guid=keys.guid, max_budget=9, rotate=True)
    assert second != value and keys.row("k")["spend"] == 3
    # Killed when the new one was made: the old one is to go, or to get its time of grace.
    litellm.post("/key/generate", key_alias=aside, metadata=renamed)
    keys.ok("k", guid=keys.guid, max_budget=9)
    assert [alias for alias in keys.aliases() if not alias.startswith("zz")] == ["k"]
    third = keys.value("k", guid=keys.guid, max_budget=9, rotate=True, rotate_grace="1h")
    litellm.post("/key/update", key=sha256(second), key_alias=aside, duration="9d")
    keys.ok("k", guid=keys.guid, max_budget=9)
    assert [alias for alias in keys.aliases() if not alias.startswith("zz")] == ["k", "k@rotated-2"]
    assert near(keys.row("k@rotated-2")["expires"], now() + timedelta(hours=1))
    assert keys.same_again("k", guid=keys.guid, max_budget=9)["results"][0]["key"] == third
    # Absent means the old ones, too.
    assert keys.ok("k", state="absent")["summary"]["deleted"] == 2
    assert [alias for alias in keys.aliases() if not alias.startswith("zz")] == []
    # And of a lab: a renamed one is among its keys.
    value = keys.value("k", guid=keys.guid)
    row = keys.row("k")["metadata"]
    renamed = {**row, RECORD: {**row[RECORD], "replaced_by": row[RECORD]["generation"] + 1}}
    litellm.post("/key/update", key=sha256(value), key_alias=aside, metadata=renamed)
    keys.ok(guid=keys.guid, state="existing", extend="1d")
    assert keys.row("k")["token"] == sha256(value)


def test_rotation_that_fails_half_way_puts_the_old_name_back(keys: Keys, faults: FaultProxy) -> None:
    value = keys.value("k")
    faults.add_rule("POST", "/key/generate", "answer", status=400, body="no")
    failed = keys.run("k", rotate=True, litellm_url=faults.url, **QUICK)
    assert failed.failed and failed["results"][0]["key"] == value
    assert keys.aliases() == ["k"] and keys.row("k")["token"] == sha256(value)
    keys.same_again("k")


# ---- gone ----


def test_absent_by_alias_token_and_value(keys: Keys, litellm: harness.LiteLLM) -> None:
    values = [keys.value(alias) for alias in ("a", "b", "c")]
    unmarked = litellm.post("/key/generate", key_alias=f"{keys.prefix}theirs")
    assert keys.ok("a", state="absent", check=True).changed and len(keys.aliases()) == 4
    listed = [{"key_alias": f"{keys.prefix}a"}, {"token": sha256(values[1])}, {"token": values[2]}]
    listed += [{"key_alias": f"{keys.prefix}theirs"}, {"key_alias": f"{keys.prefix}never"}]
    gone = keys.ok(keys=listed, state="absent")
    assert (gone["summary"]["deleted"], gone["summary"]["unchanged"]) == (4, 1)
    assert keys.aliases() == []
    assert unmarked["key"] not in json.dumps(gone) and values[2] not in json.dumps(gone)
    keys.same_again(keys=listed, state="absent")


def test_item_that_names_no_key_does_not_mean_the_whole_lab(keys: Keys) -> None:
    keys.ok("a", "b", guid=keys.guid)
    refused = keys.run(keys=[{"key_alias": f"{keys.prefix}a"}, {}], guid=keys.guid, state="absent")
    assert refused.failed and "names no key" in refused["msg"]
    assert keys.aliases() == ["b"]


def test_lab_is_removed_from_every_page_and_nothing_else(
    keys: Keys, litellm: harness.LiteLLM, crowd: Callable[[int], None]
) -> None:
    crowd(125)
    aliases = [f"u{number:03}" for number in range(130)]
    keys.ok(*aliases, guid=keys.guid)
    crowd(125)
    others = [{"guid": keys.guid}, {"guid": f"{keys.guid}x", "managed_by": "rhpds.litemaas"}]
    for number, metadata in enumerate(others):
        litellm.post("/key/generate", key_alias=f"{keys.prefix}other{number}", metadata=metadata)
    stop = threading.Event()

    def others_go_on() -> int:
        number = 0
        own = harness.LiteLLM(litellm.url, litellm.key, litellm.dsn)
        while not stop.is_set():
            own.post("/key/generate", key_alias=f"{keys.prefix}zz-busy{number}")
            number += 1
        return number

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(others_go_on)
        try:
            gone = keys.ok(guid=keys.guid, state="absent")
        finally:
            stop.set()
        made = busy.result()
    assert gone["summary"]["deleted"] == 130 and made > 0
    left = keys.aliases()
    assert [alias for alias in left if not alias.startswith("zz")] == ["other0", "other1"]
    assert len(left) == 2 + 250 + made
    keys.same_again(guid=keys.guid, state="absent")


# ---- at once, and cheaply ----


def test_two_runs_at_once_make_the_same_keys(keys: Keys) -> None:
    aliases = [f"k{number}" for number in range(20)]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: keys.run(*aliases, guid=keys.guid, max_budget=3, duration="3d"), range(2)))
    for result in runs:
        assert not result.failed, result["msg"]
    first, second = ([entry["key"] for entry in result["results"]] for result in runs)
    assert first == second
    assert keys.aliases() == sorted(aliases)
    keys.same_again(*aliases, guid=keys.guid, max_budget=3, duration="3d")


def test_few_requests(keys: Keys, faults: FaultProxy, crowd: Callable[[int], None]) -> None:
    crowd(320)
    aliases = [f"k{number}" for number in range(100)]
    through: dict[str, Any] = {"litellm_url": faults.url, "guid": keys.guid, "max_budget": 5}
    pages = -(-len(keys.litellm.keys()) // 100) + 2

    def requests(*names: str, **options: Any) -> int:
        faults.clear()
        keys.ok(*names, **through, **options)
        return len(faults.requests)

    deleted = keys.litellm.get("/key/list", status="deleted", size=100)["total_pages"]
    assert requests(*aliases) <= 100 + pages + min(3 * deleted, 100) + 20
    assert requests(*aliases) <= pages + 20 and writes(faults) == []
    # One key in a large store is not looked for on every page.
    assert requests("k7") <= 4 and writes(faults) == []
    assert requests(state="absent") <= pages + 20
    assert len(writes(faults)) == 1


# ---- faults ----


@pytest.mark.parametrize(
    ("path", "action", "options"),
    [
        ("/key/generate", "unavailable", {}),
        ("/key/generate", "reset", {}),
        ("/key/generate", "reset_after", {}),
        ("/key/generate", "error_after", {}),
        ("/key/generate", "pool_exhausted", {}),
        ("/key/generate", "rate_limited", {"retry_after": 0}),
        ("/key/generate", "truncated_body", {}),
        ("/key/list", "unavailable", {}),
        ("/key/list", "reset", {}),
        ("/key/list", "empty_page", {}),
        ("/v2/key/info", "unavailable", {}),
        ("/v2/key/info", "reset", {}),
    ],
)
@pytest.mark.parametrize("key_secret", ["derived", "random"])
def test_creation_rides_out_a_fault(
    keys: Keys, faults: FaultProxy, path: str, action: str, options: dict[str, Any], key_secret: str
) -> None:
    rule = faults.add_rule("*", path, action, count=1, **options)
    env = {} if key_secret == "derived" else {"LITELLM_KEY_SECRET": ""}
    made = keys.ok("a", "b", "c", litellm_url=faults.url, env=env, **QUICK)
    assert rule.applied == 1
    assert keys.aliases() == ["a", "b", "c"]
    for entry in made["results"]:
        assert keys.litellm.request("GET", "/models", key=entry["key"])[0] == 200


@pytest.mark.parametrize("key_secret", ["derived", "random"])
def test_one_of_many_fails_by_name_and_the_rest_is_there(keys: Keys, faults: FaultProxy, key_secret: str) -> None:
    env = {} if key_secret == "derived" else {"LITELLM_KEY_SECRET": ""}
    faults.add_rule("POST", "/key/generate", "answer", status=400, body={"error": {"message": "the third one"}}, skip=2)
    failed = keys.run("a", "b", "c", "d", litellm_url=faults.url, concurrency=1, env=env, **QUICK)
    assert failed.failed and f"{keys.prefix}c: POST" in failed["msg"] and "the third one" in failed["msg"]
    assert failed["summary"] == {"created": 3, "updated": 0, "rotated": 0, "deleted": 0, "unchanged": 0, "failed": 1}
    values = {entry["name"]: entry.get("key") for entry in failed["results"]}
    assert values.pop(f"{keys.prefix}c") is None
    for name, value in values.items():
        assert keys.row(name[len(keys.prefix) :])["token"] == sha256(value)
    if key_secret == "derived":
        assert keys.ok("a", "b", "c", "d")["summary"]["created"] == 1


@pytest.mark.parametrize(
    ("path", "run"),
    [("/key/generate", {}), ("/key/update", {"max_budget": 5}), ("/key/delete", {"state": "absent"})],
)
def test_answer_of_200_that_did_nothing_is_no_success(
    keys: Keys, faults: FaultProxy, path: str, run: dict[str, Any]
) -> None:
    if run:
        keys.ok("k")
    faults.add_rule("POST", path, "answer", status=200, body={"key": "sk-made-up-by-nobody"})
    lied = keys.run("k", litellm_url=faults.url, **run, **QUICK)
    assert lied.failed and "the server answered that it was" in lied["msg"]
    if not run:
        assert "key" not in lied["results"][0] or lied["results"][0]["key"] is None
    assert keys.ok("k", **run).changed
    keys.same_again("k", **run)


@pytest.mark.parametrize("action", ["unavailable", "reset", "reset_after", "error_after"])
@pytest.mark.parametrize(("path", "run"), [("/key/update", {"max_budget": 5}), ("/key/delete", {"state": "absent"})])
def test_faults_of_other_writes(keys: Keys, faults: FaultProxy, path: str, run: dict[str, Any], action: str) -> None:
    keys.ok("a", "b")
    faults.add_rule("POST", path, action, count=1)
    keys.run("a", "b", litellm_url=faults.url, **run, **QUICK)
    keys.ok("a", "b", **run)
    assert keys.aliases() == ([] if path == "/key/delete" else ["a", "b"])
    keys.same_again("a", "b", **run)


def test_lasting_fault_is_said_and_the_next_run_goes_on(keys: Keys, faults: FaultProxy) -> None:
    faults.add_rule("POST", "/key/generate", "unavailable", count=None)
    failed = keys.run("a", "b", litellm_url=faults.url, **QUICK)
    assert failed.failed and failed["summary"]["failed"] == 2 and "503" in failed["msg"]
    assert keys.aliases() == []
    faults.clear()
    # Stored, though every answer is an error: found by reading.
    faults.add_rule("POST", "/key/generate", "error_after", count=None)
    assert keys.ok("a", "b", litellm_url=faults.url, **QUICK)["summary"]["created"] == 2
    faults.clear()
    faults.add_rule("POST", "/v2/key/info", "unavailable", count=None)
    unread = keys.run("c", litellm_url=faults.url, env={"LITELLM_KEY_SECRET": ""}, **QUICK)
    assert unread.failed and "could not be read back" in unread["msg"]
    # The value was in no other place.
    assert sha256(unread["results"][0]["key"]) == keys.row("c")["token"]
    faults.clear()
    faults.add_rule("POST", "/key/delete", "unavailable", count=None)
    kept = keys.run("a", "b", "c", state="absent", litellm_url=faults.url, **QUICK)
    assert kept.failed and kept["summary"]["failed"] == 3 and len(keys.aliases()) == 3


@pytest.mark.parametrize("action", ["truncated_page", "empty_page"])
def test_list_with_missing_rows_is_not_acted_on(
    keys: Keys, faults: FaultProxy, crowd: Callable[[int], None], action: str
) -> None:
    keys.ok("a", guid=keys.guid)
    crowd(130)
    page = "page=2&" if action == "empty_page" else "/key/list"
    faults.add_rule("GET", page, action, count=None)
    refused = keys.run(guid=keys.guid, state="absent", litellm_url=faults.url, **QUICK)
    assert refused.failed and "were announced" in refused["msg"]
    assert not writes(faults)
    faults.clear()
    faults.add_rule("GET", page, action, count=1)
    assert keys.ok(guid=keys.guid, state="absent", litellm_url=faults.url, **QUICK)["summary"]["deleted"] == 1


def test_one_short_page_is_not_acted_on(keys: Keys, faults: FaultProxy, store: None) -> None:
    keys.ok("a", "b")
    faults.add_rule("GET", "/key/list", "truncated_page", count=None)
    refused = keys.run("a", "b", state="absent", litellm_url=faults.url, **QUICK)
    assert refused.failed and "were announced" in refused["msg"]


# ---- bad input ----


BAD_ITEMS: list[tuple[dict[str, Any], str]] = [
    ({"duration": "3days"}, "duration: '3days' is not a duration"),
    ({"duration": "0h"}, "out of range"),
    ({"duration": "-1d"}, "is not a duration"),
    ({"duration": "1mo"}, "is not a duration"),
    ({"extend": "soon"}, "extend: 'soon'"),
    ({"rotate_grace": "1"}, "rotate_grace: '1'"),
    ({"budget_duration": "fortnightly"}, "budget_duration: 'fortnightly'"),
    ({"expires": "tomorrow"}, "expires: 'tomorrow' is not a point in time"),
    ({"expires": "2020-01-01"}, "is past"),
    ({"expires": "2099-01-01", "duration": "1d"}, "exclude each other"),
    ({"max_budget": -1}, "max_budget is -1"),
    ({"soft_budget": float("nan")}, "soft_budget is nan"),
    ({"rpm_limit": -5}, "rpm_limit is -5"),
    ({"tpm_limit": 10**30}, "tpm_limit is 1000"),
    ({"max_parallel_requests": 2**31}, "max_parallel_requests is"),
    ({"model_rpm_limit": {"m": -1}}, "model_rpm_limit: m: -1"),
    ({"model_tpm_limit": {"m": "many"}}, "model_tpm_limit: m: 'many'"),
    ({"metadata": {"managed_by": "me"}}, "metadata.managed_by is set by this module"),
    ({"metadata": {"uuid": "u"}}, "metadata.uuid is set by this module"),
    ({"models": ["no-such-model"]}, "models not on the proxy: no-such-model"),
    ({"team_id": "no-such-team"}, "the proxy has no team 'no-such-team'"),
    ({"tags": ["a"]}, "tags: LiteLLM takes this with an Enterprise licence only"),
    ({"guardrails": ["a"]}, "guardrails: LiteLLM takes this"),
    ({"model_max_budget": {"m": {"budget_limit": 1, "time_period": "1d"}}}, "model_max_budget: LiteLLM takes this"),
    ({"key_alias": ""}, "key_alias is empty"),
    ({"key_alias": "a\nb"}, "control character"),
    ({"key_alias": " a"}, "white space"),
    ({"key_alias": "x" * 256}, "has 256 characters"),
    ({"key_alias": "a@rotated-1"}, "rotated out"),
    ({"key_alias": "twice"}, "more than once"),
    ({"key_alias": "twice", "guid": "other"}, "more than once"),
    ({"state": "absent", "token": "12345"}, "neither a key's value nor its sha256"),
    ({"state": "absent", "rotate": True}, "make no sense"),
    ({"state": "existing", "blocked": True, "unblock": True}, "exclude each other"),
]


def test_bad_items_are_refused_by_name_and_the_good_one_is_made(keys: Keys) -> None:
    listed = [{"key_alias": f"{keys.prefix}good"}]
    for number, (options, _words) in enumerate(BAD_ITEMS):
        listed.append({"key_alias": f"{keys.prefix}bad{number}", **options})
    result = keys.run(keys=listed)
    assert result.failed and f"{keys.prefix}bad0: duration: '3days'" in result["msg"]
    assert result["summary"]["created"] == 1 and result["summary"]["failed"] == len(BAD_ITEMS)
    assert keys.aliases() == ["good"]
    for entry, (options, words) in zip(result["results"][1:], BAD_ITEMS, strict=True):
        assert entry["failed"] and words in entry["msg"], (options, entry["msg"])


def test_strange_aliases_are_only_names(keys: Keys, tmp_path: Path) -> None:
    strange = [
        "it's",
        'say "hi"',
        "x$(touch f)",
        "a#b",
        "a/b",
        "100%",
        "a b",
        "ünï-名前-🙂",
        "a&b=c?d",
        "'; DROP TABLE x",
    ]
    strange.append("y" * (255 - len(keys.prefix)))
    made = keys.ok(*strange, guid=keys.guid)
    assert made["summary"]["created"] == len(strange)
    assert keys.aliases() == sorted(strange)
    assert not (tmp_path / "f").exists()
    keys.same_again(*strange, guid=keys.guid)
    # In a large store each of them is asked for by itself.
    for alias in strange:
        assert len(keys.litellm.get("/key/list", key_alias=keys.prefix + alias)["keys"]) == 1
    assert keys.ok(guid=keys.guid, state="absent")["summary"]["deleted"] == len(strange)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"litellm_url": "http://127.0.0.1:9"}, "no answer"),
        ({"litellm_url": "proxy.example.com"}, "not an HTTP URL"),
        ({"litellm_master_key": "sk-this-is-not-the-master-key"}, "litellm_master_key"),
    ],
)
def test_unreachable_or_unauthorised_is_a_failure(keys: Keys, options: dict[str, str], words: str) -> None:
    for state in ("present", "absent"):
        result = keys.run("k", state=state, **options, **QUICK)
        assert result.failed and words in result["msg"], result["msg"]
        assert "sk-this" not in json.dumps(result)


def test_missing_library_is_named(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "requests.py").write_text("raise ImportError('no requests here')\n")
    roots = keys.runner.environment()["PYTHONPATH"]
    result = keys.run("k", env={"PYTHONPATH": f"{tmp_path / 'blocked'}:{roots}"})
    assert result.failed and "requests" in result["msg"]


# ---- listing ----


def test_info_filters_all_pages(
    keys: Keys, litellm: harness.LiteLLM, litellm_db: Any, crowd: Callable[[int], None], run_module: Any
) -> None:
    keys.ok("a", "b", guid=keys.guid, duration="2d", user_id=f"{keys.prefix}u")
    keys.ok("c", duration="9d")
    litellm.post("/key/generate", key_alias=f"{keys.prefix}theirs")
    crowd(110)
    age(litellm_db, f"{keys.prefix}a", expires="-1 hour", created="-40 days")

    def found(**filters: Any) -> list[str]:
        result = run_module("litellm_virtual_key_info", {"prefix": keys.prefix, **filters})
        assert not result.failed and not result.changed, result
        names = [key["key_alias"][len(keys.prefix) :] for key in result["keys"]]
        return [name for name in names if not name.startswith("zz")]

    assert found() == ["a", "b", "c", "theirs"]
    assert found(guid=keys.guid) == found(user_id=f"{keys.prefix}u") == ["a", "b"]
    assert found(key_alias=f"{keys.prefix}b") == ["b"]
    assert found(managed=False) == ["theirs"]
    assert found(expired=True) == found(older_than="30d") == ["a"]
    assert found(expiring_within="3d") == ["b"]
    assert found(expired=False, managed=True) == ["b", "c"]
    assert run_module("litellm_virtual_key_info", {"older_than": "3days"}).failed


# ---- keys of others ----


def test_existing_changes_a_key_that_was_made_elsewhere(keys: Keys, litellm: harness.LiteLLM) -> None:
    litellm.post("/key/generate", key_alias=f"{keys.prefix}ui", duration="1d")
    assert keys.ok("ui", state="existing", extend="5d").changed
    assert near(keys.row("ui")["expires"], now() + timedelta(days=5))
    assert not keys.ok("ui", state="existing", extend="5d").changed
    litellm.post("/key/block", key=keys.row("ui")["token"])
    assert changed_fields(keys.ok("ui", state="existing", unblock=True)) == {"blocked"}
    assert keys.row("ui")["metadata"] == {}


def test_an_alias_alone_is_no_sign_of_a_rotation(keys: Keys, litellm: harness.LiteLLM) -> None:
    for alias in ("bob@rotated-1", "dan@rotating"):
        litellm.post("/key/generate", key_alias=keys.prefix + alias)
    keys.ok("bob", "dan", guid=keys.guid)
    keys.ok("dan", state="absent")
    assert keys.aliases() == ["bob", "bob@rotated-1", "dan@rotating"]


def test_a_lab_s_removal_names_keys_that_are_not_marked(keys: Keys, litellm: harness.LiteLLM) -> None:
    litellm.post("/key/generate", key_alias=f"{keys.prefix}theirs", metadata={"guid": keys.guid})
    left = keys.ok(guid=keys.guid, state="absent")
    assert not left.changed and "left alone" in left["msg"]
    assert "delete it by its alias" in left["results"][0]["msg"]
    assert "not there" in keys.ok("never", state="absent")["msg"]
    assert keys.aliases() == ["theirs"]


def test_keys_of_the_older_collection_are_the_labs_by_their_aliases(
    keys: Keys, litellm: harness.LiteLLM, crowd: Callable[[int], None]
) -> None:
    lab = {"guid": keys.guid, "legacy_aliases": [rf"{keys.prefix}virtkey(-user\d+)?"]}
    keys.ok("virtkey-user1", guid=keys.guid, duration="1d")
    theirs = [
        ("virtkey-user2", {"guid": keys.guid}),
        ("virtkey-user10", {}),
        ("virtkey-user3", {"guid": f"{keys.guid}-user3"}),
        ("virtkey-user4x", {"guid": keys.guid}),
    ]
    for alias, metadata in theirs:
        litellm.post("/key/generate", key_alias=keys.prefix + alias, duration="1d", metadata=metadata)
    crowd(250)
    report = {**lab, "report_unlisted": True, "duration": "1d"}
    for check in (True, False):
        named = keys.ok("virtkey-user1", check=check, **report)
        assert named["unlisted"] == [f"{keys.prefix}virtkey-user2", f"{keys.prefix}virtkey-user10"]
        assert not named.changed
    assert "unlisted" not in keys.ok("virtkey-user1", **lab)
    extended = keys.ok(**lab, state="existing", extend="5d")
    assert extended["summary"]["updated"] == 3
    longer = {"virtkey-user1", "virtkey-user2", "virtkey-user10"}
    for alias in ("virtkey-user1", *dict(theirs)):
        days = 5 if alias in longer else 1
        assert near(keys.row(alias)["expires"], now() + timedelta(days=days)), alias
    gone = keys.ok(**lab, state="absent")
    assert gone["summary"]["deleted"] == 3 and "1 left alone" in gone["msg"]
    assert [alias for alias in keys.aliases() if "virtkey" in alias] == ["virtkey-user3", "virtkey-user4x"]
    refused = keys.run(guid=keys.guid, legacy_aliases=["("], state="absent")
    assert refused.failed and "'(' is no regular expression" in refused["msg"]


def test_a_token_of_another_lab_is_refused(keys: Keys) -> None:
    keys.ok("a", guid=keys.guid)
    token = keys.row("a")["token"]
    refused = keys.run(token=token, guid="another", state="absent")
    assert refused.failed and f"belongs to guid {keys.guid}" in refused["msg"]
    assert keys.aliases() == ["a"]


def test_a_forged_record_stops_nothing(keys: Keys, litellm: harness.LiteLLM) -> None:
    record = {"generation": "x", "granted_at": "junk", "metadata": 5, "fields": "max_budget"}
    forged = {"managed_by": "rhpds.litemaas", "guid": keys.guid, "rhpds_litemaas": record}
    litellm.post("/key/generate", key_alias=f"{keys.prefix}forged", duration="1d", metadata=forged)
    keys.ok("good", "forged", guid=keys.guid, duration="9d", on_unrecoverable="ignore")
    extended = keys.ok(guid=keys.guid, state="existing", extend="20d")
    assert extended["summary"]["updated"] == 2, extended["results"]


def test_models_that_have_limits_are_checked_too(keys: Keys) -> None:
    refused = keys.run("a", model_rpm_limit={"no-such-model": 3})
    assert refused.failed and "no-such-model" in refused["msg"]


def test_a_rotation_keeps_every_restriction_or_is_refused(keys: Keys, litellm: harness.LiteLLM) -> None:
    litellm.post("/key/generate", key_alias=f"{keys.prefix}a", allowed_cache_controls=["no-cache"])
    keys.ok("a", state="existing", rotate=True)
    assert keys.row("a")["allowed_cache_controls"] == ["no-cache"]
    litellm.post("/key/generate", key_alias=f"{keys.prefix}b", object_permission={"vector_stores": ["v"]})
    refused = keys.run("b", state="existing", rotate=True)
    assert refused.failed and "object_permission_id" in refused["msg"]
    assert keys.aliases() == ["a", "b"]
