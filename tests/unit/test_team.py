# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Properties of planning and applying teams, with the real resource and a proxy in memory.

The proxy here knows what the real ones do that matters: updates merge but replace metadata, a team takes its keys
along. That the real ones do so is shown in tests/integration.
"""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import team
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import apply
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import FAIL

property_test = settings(max_examples=150)


class Proxy:
    """A proxy in memory, seen through the client's methods."""

    url = "http://proxy"
    DEFAULTS: ClassVar = {**dict.fromkeys(team.FIELDS), "models": [], "blocked": False, "spend": 0.0, "metadata": {}}

    def __init__(self, page=100):
        self.page = page
        self.teams, self.keys = {}, []
        self.writes = []

    def map(self, function, items, _workers):
        return [function(item) for item in items]

    def get(self, path, params):
        if path == "/v1/models":
            return {"data": [{"id": "m1"}, {"id": "m2"}, {"id": "openai/*"}]}
        of_keys = path == "/key/list"
        rows = self.keys if of_keys else sorted(self.teams.values(), key=lambda row: row["team_id"])
        if "team_id" in params:
            rows = [row for row in rows if row["team_id"] == params["team_id"]]
        start = (params["page"] - 1) * self.page
        shown = copy.deepcopy(rows[start : start + self.page])
        pages = -(-len(rows) // self.page)
        if of_keys:
            return {"keys": shown, "total_count": len(rows), "total_pages": pages}
        return {"teams": shown, "total": len(rows), "total_pages": pages}

    def create(self, path, body, took_effect):
        assert path == "/team/new"
        self.writes.append(path)
        if body["team_id"] in self.teams:
            raise LiteLLMError("POST", status=400, words="already exists")
        self.teams[body["team_id"]] = {**self.DEFAULTS, **copy.deepcopy(body)}

    def post(self, path, body):
        self.writes.append(path)
        if path == "/team/update":
            assert body.get("models", []) is not None
            self.teams[body["team_id"]].update(copy.deepcopy(body))
        elif path == "/key/delete":
            assert len(body["keys"]) <= 100
            self.keys = [row for row in self.keys if row["token"] not in body["keys"]]
        else:
            assert path == "/team/delete"
            for team_id in body["team_ids"]:
                del self.teams[team_id]
                self.keys = [row for row in self.keys if row["team_id"] != team_id]

    def add_keys(self, team_id, number):
        for n in range(number):
            token = derive.token_of(f"{team_id} {n}")
            self.keys.append({"token": token, "key_alias": f"{team_id}-{n}" if n else None, "team_id": team_id})


def run(proxy, *items, check=False, **options):
    resource = team.TeamResource(proxy, workers=1, **options)
    return apply.converge(resource, [team.wanted_from_options(item) for item in items], check_mode=check)


def actions(steps):
    return [step.error if step.action == FAIL else step.action for step in steps]


limits = st.none() | st.integers(0, 10**6)
declarations = st.fixed_dictionaries(
    {},
    optional={
        "guid": st.just("g1"),
        "team_alias": st.sampled_from([None, "a", "b"]),
        "models": st.none() | st.lists(st.sampled_from(["m1", "m2", "openai/x"]), unique=True),
        "max_budget": limits,
        "soft_budget": limits,
        "budget_duration": st.sampled_from([None, "30d", "daily"]),
        "tpm_limit": limits,
        "rpm_limit": limits,
        "blocked": st.sampled_from([None, True, False]),
        "metadata": st.none() | st.dictionaries(st.sampled_from("xyz"), st.integers() | st.text(max_size=3)),
    },
)


@property_test
@given(st.sampled_from([1, 2, 100]), st.lists(st.sampled_from("abcdef"), unique=True), declarations)
def test_what_was_made_needs_nothing_and_order_means_nothing(page, ids, declared):
    proxy = Proxy(page)
    items = [{**declared, "team_id": one} for one in ids]
    assert actions(run(proxy, *items, check=True)) == ["create"] * len(ids)
    assert proxy.writes == []
    assert actions(run(proxy, *items)) == ["create"] * len(ids)
    before = copy.deepcopy(proxy.teams)
    assert actions(run(proxy, *reversed(items))) == ["none"] * len(ids)
    assert (proxy.teams, len(proxy.writes)) == (before, len(ids))


@property_test
@given(declarations, declarations, st.booleans())
def test_one_declaration_after_another_ends_as_the_last_one_alone(first, second, foreign):
    proxy, alone = Proxy(), Proxy()
    theirs = {"theirs": {"deep": [1]}}
    if foreign:
        # What somebody else set stays, unless it is declared.
        proxy.teams["t"] = {**Proxy.DEFAULTS, "team_id": "t", "metadata": dict(theirs)}
    run(proxy, {**first, "team_id": "t"})
    proxy.teams["t"]["metadata"].update(theirs)
    (step,) = run(proxy, {**second, "team_id": "t"})
    assert step.action in ("update", "none"), step.error
    run(alone, {**second, "team_id": "t"})
    mine, expected = proxy.teams["t"], alone.teams["t"]
    assert {"theirs": mine["metadata"].pop("theirs")} == theirs
    if "guid" in first:
        expected["metadata"]["guid"] = "g1"
    for row in (mine, expected):
        row["models"] = sorted(row["models"])
        row["blocked"] = bool(row["blocked"])
    assert mine == expected


@property_test
@given(
    st.sampled_from([1, 3, 100]),
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.booleans(), st.integers(0, 4))),
    st.booleans(),
    st.sampled_from(["a", "b", None]),
)
def test_absent_takes_what_is_named_and_nothing_else(page, there, remove_keys, named):
    """By id whatever carries it; by guid only what is marked. Keys only where that is allowed."""
    proxy = Proxy(page)
    for team_id, (marked, keys) in there.items():
        if marked:
            run(proxy, {"team_id": team_id, "guid": "g1"})
        else:
            proxy.teams[team_id] = {**Proxy.DEFAULTS, "team_id": team_id, "metadata": {"guid": "g1"}}
        proxy.add_keys(team_id, keys)
    item = {"team_id": named, "guid": "g1", "state": "absent", "remove_keys": remove_keys}
    before = copy.deepcopy((proxy.teams, proxy.keys, proxy.writes))
    planned = run(proxy, item, check=True)
    assert (proxy.teams, proxy.keys, proxy.writes) == before
    done = run(proxy, item)
    meant = {one for one, (marked, _keys) in there.items() if one == named or (named is None and marked)}
    refused = {one for one in meant if there[one][1] and not remove_keys}
    assert set(proxy.teams) == (there.keys() - meant) | refused
    assert {row["team_id"] for row in proxy.keys} == {one for one in proxy.teams if there[one][1]}
    assert {step.name for step in done if step.action == FAIL} == refused
    describe = team.TeamResource(proxy).describe
    for one, other in zip(planned, done, strict=True):
        assert (one.action, describe(one)["removed_keys"]) == (other.action, describe(other)["removed_keys"])
        gone = there[one.name][1] if one.action == "delete" else 0
        assert len(describe(other)["removed_keys"]) == gone
    assert actions(run(proxy, {**item, "remove_keys": True})) == (["delete"] * len(refused) or ["none"])


def test_keys_of_a_team_that_is_gone_are_told_and_removed():
    proxy = Proxy(page=2)
    proxy.add_keys("t", 5)
    (step,) = run(proxy, {"team_id": "t", "state": "absent"})
    assert step.action == "none" and "5 keys" in step.note
    (step,) = run(proxy, {"team_id": "t", "state": "absent", "remove_keys": True})
    assert (step.action, proxy.keys, proxy.writes) == ("delete", [], ["/key/delete"])


def test_keys_that_keep_coming_stop_the_removal_and_what_went_is_told():
    proxy = Proxy()
    proxy.add_keys("t", 3)
    run(proxy, {"team_id": "t"})
    delete, made = proxy.post, []

    def post(path, body):
        delete(path, body)
        if path == "/key/delete":
            made.append({"token": f"{len(made)}" * 64, "key_alias": f"new{len(made)}", "team_id": "t"})
            proxy.keys.append(made[-1])

    proxy.post = post
    (step,) = run(proxy, {"team_id": "t", "state": "absent", "remove_keys": True})
    assert step.action == FAIL and "still has 1 key (new2)" in step.error
    assert "t" in proxy.teams and "/team/delete" not in proxy.writes
    assert team.TeamResource(proxy).describe(step)["removed_keys"][1:] == ["new0", "new1", "t-1", "t-2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "team_id is missing"),
        ({"state": "absent"}, "one of team_id and guid"),
        ({"team_id": " x"}, "white space"),
        ({"team_id": ""}, "is empty"),
        ({"team_id": "a\nb"}, "control character"),
        ({"team_id": "x" * 256}, "256 characters"),
        ({"team_id": "x", "max_budget": -1.0}, "max_budget is -1"),
        ({"team_id": "x", "tpm_limit": 2**63}, "no larger than"),
        ({"team_id": "x", "budget_duration": "nonsense"}, "budget_duration: 'nonsense'"),
        ({"team_id": "x", "metadata": {"guid": "y"}}, "metadata.guid is set by this module"),
        ({"team_id": "x", "models": ["m1", "m3"]}, "models not on the proxy: m3"),
    ],
)
def test_refused_before_anything_is_written(options, words):
    proxy = Proxy()
    (step,) = run(proxy, options)
    assert step.action == FAIL and words in step.error
    assert proxy.writes == []


def test_others_teams_are_taken_over_only_where_that_is_meant():
    proxy = Proxy()
    proxy.teams["t"] = {**Proxy.DEFAULTS, "team_id": "t", "max_budget": 3.0, "rpm_limit": 7}
    (step,) = run(proxy, {"team_id": "t", "adopt": False})
    assert "made by other means" in step.error
    (step,) = run(proxy, {"team_id": "t", "guid": "g1", "max_budget": 5})
    assert (step.action, step.note) == ("update", "adopted")
    assert (proxy.teams["t"]["max_budget"], proxy.teams["t"]["rpm_limit"]) == (5, 7)
    for item in ({}, {"state": "absent"}):
        (step,) = run(proxy, {"team_id": "t", "guid": "g2", **item})
        assert "belongs to guid g1, not to g2" in step.error
    assert actions(run(proxy, {"team_id": "t", "max_budget": 5, "adopt": False})) == ["none"]


def test_a_record_that_somebody_else_wrote_takes_nothing_away():
    proxy = Proxy()
    record = {"fields": [["x"], "spend", "team_id"], "metadata": [{}, "guid", "managed_by"]}
    metadata = {**ownership.mark("s"), "guid": "g1", ownership.RECORD: record}
    proxy.teams["t"] = {**Proxy.DEFAULTS, "team_id": "t", "metadata": metadata, "spend": 3.0}
    assert actions(run(proxy, {"team_id": "t"})) == ["update"]
    row = proxy.teams["t"]
    assert (row["team_id"], row["spend"], row["metadata"]["guid"]) == ("t", 3.0, "g1")
    assert ownership.in_scope(row["metadata"], "s")
