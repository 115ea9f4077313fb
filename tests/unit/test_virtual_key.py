# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Properties of planning and applying virtual keys, with the real resource and a proxy in memory.

The proxy here knows what the real ones do that matters: a chosen value makes no twin, metadata is replaced, deleted
keys are archived, newer versions leave tokens out. That the real ones do so is shown in tests/integration.
"""

from __future__ import annotations

import contextlib
import copy
import random
from datetime import datetime, timedelta, timezone
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, durations
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import virtual_key
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.planning import Planner
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import apply
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import FAIL, make_plan

KEY_SECRET = "0123456789abcdef0123456789abcdef"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
property_test = settings(max_examples=120)


class Killed(BaseException):
    """The run ended here."""


class Proxy:
    """A proxy in memory, seen through the client's methods."""

    url = "http://proxy"
    DEFAULTS: ClassVar = {
        "models": [],
        "spend": 0.0,
        "max_budget": None,
        "budget_duration": None,
        "tpm_limit": None,
        "rpm_limit": None,
        "max_parallel_requests": None,
        "user_id": None,
        "team_id": None,
        "allowed_routes": [],
        "blocked": None,
        "expires": None,
        "budget_id": None,
    }

    def __init__(self, *, tokens_told=True, page=virtual_key.PAGE):
        self.rows = {}
        self.archive = []
        self.now = START
        self.tokens_told = tokens_told
        self.page = page
        self.requests = self.writes = 0
        self.kill_at = None
        self.after = False

    # the client's side

    def server_now(self):
        return self.now

    def map(self, function, items, _workers):
        return [function(item) for item in items]

    def get(self, path, params=None):
        self.requests += 1
        params = params or {}
        if path == "/v1/models":
            return {"data": [{"id": "m1"}, {"id": "m2"}]}
        assert path == "/key/list", path
        rows = self.archive if params.get("status") == "deleted" else self.rows.values()
        for name, column in (("key_alias", "key_alias"), ("key_hash", "token")):
            if name in params:
                rows = [row for row in rows if row[column] == params[name]]
        rows = sorted(rows, key=lambda row: row["token"])
        start = (params["page"] - 1) * self.page
        shown = copy.deepcopy(rows[start : start + self.page])
        return {
            "keys": shown if params.get("return_full_object") else [row["token"] for row in shown],
            "total_count": len(rows),
            "total_pages": -(-len(rows) // self.page),
        }

    def post(self, path, body):
        self.requests += 1
        if path == "/v2/key/info":
            rows = [copy.deepcopy(self.rows[token]) for token in body["keys"] if token in self.rows]
            for row in rows:
                row["litellm_budget_table"] = None
                if not self.tokens_told:
                    del row["token"]
            return {"info": rows}
        return self._write(path, body)

    def create(self, path, body, took_effect):
        self.requests += 1
        return self._write(path, body)

    # the server's side

    def _write(self, path, body):
        self.writes += 1
        killed = self.writes == self.kill_at
        if killed and not self.after:
            raise Killed
        answer = {"/key/generate": self._generate, "/key/update": self._update, "/key/delete": self._delete}[path](body)
        if killed:
            raise Killed
        return answer

    def _taken(self, alias, token):
        if any(row["key_alias"] == alias and row["token"] != token for row in self.rows.values()):
            raise LiteLLMError("POST", status=400, words=f"Key with alias '{alias}' already exists")

    def _expiry(self, duration):
        return (self.now + timedelta(seconds=int(duration[:-1]))).isoformat()

    def _generate(self, body):
        token = derive.token_of(body["key"])
        self._taken(body["key_alias"], None)
        if token not in self.rows:
            row = {**self.DEFAULTS, **copy.deepcopy(body), "token": token, "created_at": self.now.isoformat()}
            del row["key"]
            if "duration" in row:
                row["expires"] = self._expiry(row.pop("duration"))
            for name in virtual_key.IN_METADATA:
                if name in row:
                    row["metadata"][name] = row.pop(name)
            self.rows[token] = row
        return {"key": body["key"]}

    def _update(self, body):
        row = self.rows.get(body["key"])
        if row is None:
            raise LiteLLMError("POST", status=404, words="not found")
        body = copy.deepcopy(body)
        if "key_alias" in body:
            self._taken(body["key_alias"], row["token"])
        if "duration" in body:
            row["expires"] = self._expiry(body.pop("duration"))
        del body["key"]
        assert not body.keys() & set(virtual_key.IN_METADATA)
        row.update(body)
        return {}

    def _delete(self, body):
        found = [self.rows.pop(token) for token in body["keys"] if token in self.rows]
        self.archive += found
        if not found:
            raise LiteLLMError("POST", status=404, words="no keys found")
        return {}

    def alias(self, name):
        return [row for row in self.rows.values() if row["key_alias"] == name]


def run(proxy, *items, check=False, **options):
    """One run of the module; returns its steps."""
    defaults = {"key_secret": KEY_SECRET, **options}
    resource = virtual_key.VirtualKeyResource(proxy, now=proxy.now, workers=1, **defaults)
    wanted = [virtual_key.wanted_from_options(item, proxy.now) for item in items]
    return apply.converge(resource, wanted, check_mode=check)


def actions(steps):
    return [step.action if step.action != FAIL else step.error for step in steps]


limits = st.none() | st.integers(0, 10**6)
declarations = st.fixed_dictionaries(
    {},
    optional={
        "guid": st.just("g1"),
        "models": st.lists(st.sampled_from(["m1", "m2"]), unique=True),
        "max_budget": limits,
        "tpm_limit": limits,
        "rpm_limit": limits,
        "user_id": st.sampled_from([None, "u1", "u2"]),
        "model_rpm_limit": st.none() | st.dictionaries(st.sampled_from(["m1", "m2"]), st.integers(0, 9)),
        "metadata": st.none()
        | st.dictionaries(st.sampled_from("xyz"), st.integers() | st.text(max_size=3), max_size=3),
        "allowed_routes": st.none() | st.just(["llm_api_routes"]),
        "duration": st.sampled_from([None, "1d", "36h", "7d"]),
        "blocked": st.sampled_from([None, True, False]),
    },
)
proxies = st.builds(Proxy, tokens_told=st.booleans(), page=st.sampled_from([1, 2, 100]))
aliases = st.lists(
    st.text("abcäß '\"#/%.@-", min_size=1, max_size=6).map("k{}".format).map(str.strip), unique=True, max_size=5
)


@property_test
@given(proxies, aliases, declarations)
def test_what_was_made_needs_nothing_and_order_means_nothing(proxy, names, declared):
    items = [{**declared, "key_alias": name} for name in names]
    assert actions(run(proxy, *items, check=True)) == ["create"] * len(names)
    assert proxy.writes == 0
    made = run(proxy, *items)
    assert actions(made) == ["create"] * len(names)
    values = {step.name: step.extra["value"] for step in made}
    before, writes = copy.deepcopy(proxy.rows), proxy.writes
    random.Random(len(names)).shuffle(items)
    again = run(proxy, *items)
    assert actions(again) == ["none"] * len(names)
    assert {step.name: step.extra["value"] for step in again} == values
    assert (proxy.rows, proxy.writes) == (before, writes)


@property_test
@given(proxies, declarations, declarations)
def test_one_declaration_after_another_ends_as_the_last_one_alone(proxy, first, second):
    # What somebody else put there stays; nothing of ours that is no longer declared does.
    first.pop("duration", None)
    second.pop("duration", None)
    run(proxy, {"key_alias": "k", "guid": "g1", **first})
    (row,) = list(proxy.rows.values())
    row["metadata"]["theirs"] = 1
    row["max_parallel_requests"] = 7
    steps = run(proxy, {"key_alias": "k", "guid": "g1", **second, "require_usable": False})
    assert steps[0].action in ("none", "update"), steps[0].error
    (row,) = copy.deepcopy(list(proxy.rows.values()))
    assert (row["metadata"].pop("theirs"), row["max_parallel_requests"]) == (1, 7)
    alone = Proxy()
    run(alone, {"key_alias": "k", "guid": "g1", **second})
    (expected,) = list(alone.rows.values())
    for name in (*virtual_key.COLUMNS, "metadata", "blocked"):
        if name != "max_parallel_requests":
            mine, theirs = (sorted(one[name]) if name == "models" else one[name] or None for one in (row, expected))
            assert mine == theirs, name
    assert actions(run(proxy, {"key_alias": "k", "guid": "g1", **second, "require_usable": False})) == ["none"]


@property_test
@given(
    st.sampled_from([None, "1h", "1d", "7d"]),
    st.sampled_from([None, "10m", "1d", "2d", "30d"]),
    st.sampled_from([None, "5m", "1d", "60d"]),
    st.integers(0, 8 * 86400),
    st.booleans(),
)
def test_a_living_key_never_ends_sooner_unasked(first, second, extend, passed, existing):
    proxy = Proxy()
    run(proxy, {"key_alias": "k", "duration": first})
    (row,) = list(proxy.rows.values())
    before = durations.moment(row["expires"]) if row["expires"] else None
    proxy.now += timedelta(seconds=passed)
    state = "existing" if existing else "present"
    run(proxy, {"key_alias": "k", "duration": second, "extend": extend, "state": state})
    after = durations.moment(row["expires"]) if row["expires"] else None
    if before is None:
        assert after is None
    else:
        assert after is not None and after >= before
        if extend and before > proxy.now:
            # Within a hundredth of what was asked for.
            assert after - proxy.now >= timedelta(seconds=durations.seconds(extend)) * 0.98 - timedelta(seconds=10)


@property_test
@given(
    proxies,
    st.sampled_from([None, "1h"]),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from(["same", "again", "lab"]),
    st.sampled_from([KEY_SECRET, None]),
)
def test_rotation_killed_anywhere_loses_nothing(proxy, grace, kill_at, after, then, key_secret):
    others = [{"key_alias": f"other{number}"} for number in range(8)]
    run(proxy, *others)
    item = {"key_alias": "k", "guid": "g1", "max_budget": 9, "duration": "7d"}
    (made,) = run(proxy, item, key_secret=key_secret)
    old = made.extra["token"]
    proxy.rows[old].update(spend=3.5, tpm_limit=77)
    proxy.now += timedelta(days=2)
    proxy.kill_at, proxy.after = proxy.writes + kill_at, after
    ignoring = {"on_unrecoverable": "ignore"}
    with contextlib.suppress(Killed):
        run(proxy, {**item, "rotate": True, "rotate_grace": grace}, key_secret=key_secret)
    proxy.kill_at = None
    if then == "lab":
        steps = run(proxy, {"guid": "g1", "state": "existing", "rpm_limit": 5}, key_secret=key_secret)
    else:
        more = {"rotate": True} if then == "again" else {}
        steps = run(proxy, {**item, **ignoring, **more}, key_secret=key_secret)
    assert [step.error for step in steps] == [""]
    (row,) = proxy.alias("k")
    assert (row["spend"], row["tpm_limit"], row["max_budget"]) == (3.5, 77, 9)
    assert durations.moment(row["expires"]) == START + timedelta(days=7)
    # What is left beside it has an end, or was never replaced.
    rest = [one for one in proxy.rows.values() if one["key_alias"].startswith("k") and one is not row]
    assert all("@rotated-" in one["key_alias"] for one in rest) and len(rest) <= (1 if grace else 0)
    assert all(durations.moment(one["expires"]) <= proxy.now + timedelta(hours=1) for one in rest)
    assert actions(
        run(proxy, {**item, **ignoring, **({"rpm_limit": 5} if then == "lab" else {})}, key_secret=key_secret)
    ) == ["none"]
    run(proxy, {"key_alias": "k", "state": "absent"})
    assert {one["key_alias"] for one in proxy.rows.values()} == {one["key_alias"] for one in others}


@property_test
@given(proxies, st.lists(st.sampled_from(["make", "delete", "rotate", "lab rotate", "rename"]), max_size=12))
def test_no_value_is_ever_used_twice(proxy, story):
    used = set()
    for number, verb in enumerate(story):
        if verb == "delete":
            run(proxy, {"key_alias": "k", "state": "absent"})
        elif verb == "rename":
            for row in proxy.alias("k"):
                row["key_alias"] = f"renamed{number}"
        else:
            item = {"key_alias": "k", "guid": "g1", "rotate": verb == "rotate"}
            if verb == "lab rotate":
                item = {"guid": "g1", "state": "existing", "rotate": True}
            before = set(proxy.rows)
            steps = run(proxy, item)
            assert all(step.action != FAIL or step.error == "no such key" for step in steps), actions(steps)
            fresh = set(proxy.rows) - before
            assert not fresh & used
            used |= fresh | before


@property_test
@given(proxies, aliases.filter(bool), st.integers(1, 12), st.booleans())
def test_creation_killed_anywhere_goes_on(proxy, names, kill_at, after):
    items = [{"key_alias": name, "guid": "g1", "rpm_limit": 5} for name in names]
    proxy.kill_at, proxy.after = kill_at, after
    with contextlib.suppress(Killed):
        run(proxy, *items)
    proxy.kill_at = None
    steps = run(proxy, *items)
    assert not [step.error for step in steps if step.error]
    assert sorted(row["key_alias"] for row in proxy.rows.values()) == sorted(names)
    untouched = Proxy()
    run(untouched, *items)
    assert set(proxy.rows) == set(untouched.rows)


@property_test
@given(proxies, st.sets(st.integers(0, 15)), st.integers(0, 3))
def test_a_lab_goes_and_nothing_else(proxy, ours, unmarked):
    run(proxy, *[{"key_alias": f"k{number}", "guid": "g1" if number in ours else "g2"} for number in range(16)])
    for number in range(unmarked):
        body = {"key": f"sk-theirs-{number}", "key_alias": f"theirs{number}", "metadata": {"guid": "g1"}}
        proxy.create("/key/generate", body, None)
    steps = run(proxy, {"guid": "g1", "state": "absent"})
    assert not [step.error for step in steps if step.error]
    left = {row["key_alias"] for row in proxy.rows.values()}
    assert left == {f"k{number}" for number in range(16) if number not in ours} | {
        f"theirs{n}" for n in range(unmarked)
    }
    assert set(actions(run(proxy, {"guid": "g1", "state": "absent"}))) == {"none"}


marks = st.sampled_from([{}, {"managed_by": "rhpds.litemaas"}])
strangers = st.lists(
    st.tuples(
        st.sampled_from(
            ["virtkey-abc", "virtkey-abc-user1", "virtkey-abc-user12", "virtkey-abc-user1x", "xvirtkey-abc"]
        ),
        marks,
        st.sampled_from([{}, {"guid": "abc"}, {"guid": "abc-user1"}]),
    ),
    unique_by=lambda one: one[0],
)


@property_test
@given(proxies, strangers, st.booleans())
def test_legacy_aliases_lead_to_unmarked_keys_of_no_other_lab(proxy, there, absent):
    others = [(f"z{number}", {}, {"guid": "xyz"}) for number in range(5)]
    for alias, mark, guid in there + others:
        body = {"key": f"sk-{alias}", "key_alias": alias, "metadata": {**mark, **guid}, "duration": "86400s"}
        proxy.create("/key/generate", body, None)
    lab = {"guid": "abc", "legacy_aliases": [r"virtkey-abc", r"virtkey-abc-user\d+|nothing"]}
    legacy = {"virtkey-abc", "virtkey-abc-user1", "virtkey-abc-user12"}
    expected = {
        alias
        for alias, mark, guid in there
        if (mark and guid == {"guid": "abc"}) or (not mark and alias in legacy and guid.get("guid") != "abc-user1")
    }
    before = copy.deepcopy(proxy.rows)
    if absent:
        steps = run(proxy, {**lab, "state": "absent"})
        gone = {row["key_alias"] for token, row in before.items() if token not in proxy.rows}
    else:
        steps = run(proxy, {**lab, "state": "existing", "extend": "9d"})
        gone = {row["key_alias"] for token, row in before.items() if row != proxy.rows[token]}
        assert all(
            proxy.rows[token]["metadata"] == row["metadata"]
            for token, row in before.items()
            if not row["metadata"].get("managed_by")
        )
        if not expected:
            assert actions(steps) == ["no such key"]
            return
    assert gone == expected
    assert not [step.error for step in steps if step.error]


def test_a_broken_regular_expression_is_the_items_error():
    steps = run(Proxy(), {"guid": "abc", "state": "absent", "legacy_aliases": ["fine", "(abc"]}, {"key_alias": "k"})
    assert steps[0].action == FAIL and steps[0].error.startswith("legacy_aliases: '(abc' is no regular expression")
    assert steps[1].action == "create"


@pytest.mark.parametrize("page", [2, 100])
def test_keys_that_no_item_speaks_of_are_named(page):
    proxy = Proxy(page=page)
    lab = {"guid": "abc", "legacy_aliases": ["old-.*"]}
    run(proxy, *[{"key_alias": f"user{number}", "guid": "abc"} for number in (1, 2, 3, 10)])
    run(proxy, {"key_alias": "elsewhere", "guid": "xyz"}, {"key_alias": "nobodys"})
    for alias, guid in (("old-1", {}), ("old-2", {"guid": "xyz"}), ("theirs", {"guid": "abc"})):
        proxy.create("/key/generate", {"key": f"sk-{alias}", "key_alias": alias, "metadata": guid}, None)
    # Rotated with a time of grace: one key. Killed before it had a new value: still the key of user10.
    run(proxy, {"key_alias": "user3", "guid": "abc", "rotate": True, "rotate_grace": "1h"})
    proxy.kill_at, proxy.after = proxy.writes + 1, True
    with contextlib.suppress(Killed):
        run(proxy, {"key_alias": "user10", "guid": "abc", "rotate": True})
    proxy.kill_at = None

    def unlisted(*items, check=True):
        resource = virtual_key.VirtualKeyResource(
            proxy, now=proxy.now, key_secret=KEY_SECRET, report_unlisted=True, workers=1
        )
        wanted = [virtual_key.wanted_from_options(item, proxy.now) for item in items]
        apply.converge(resource, wanted, check_mode=check)
        return resource.unlisted

    assert unlisted({**lab, "key_alias": "user1"}) == ["old-1", "user2", "user3", "user10"]
    assert unlisted({"guid": "abc", "key_alias": "user1"}, check=False) == ["user2", "user3", "user10"]
    token = proxy.alias("user2")[0]["token"]
    spoken = [{"guid": "abc", "token": token, "state": "existing"}, {"guid": "abc", "key_alias": "user10"}]
    assert unlisted(*spoken, {"guid": "abc", "key_alias": "user1", "models": ["none such"]}) == ["user3"]
    assert unlisted({"guid": "abc", "key_alias": " broken "}) == ["user1", "user2", "user3", "user10"]
    assert unlisted({**lab, "state": "absent"}) == []
    assert unlisted({"key_alias": "nobodys"}) == []


def test_the_recorded_uuid_tells_a_value_and_keeps_it_from_the_next_lab():
    proxy = Proxy()
    (made,) = run(proxy, {"key_alias": "k", "guid": "g1", "uuid": "u1"})
    value = made.extra["value"]
    for item in ({"key_alias": "k", "guid": "g1"}, {"guid": "g1", "state": "existing"}, {"key_alias": "k"}):
        (step,) = run(proxy, item)
        assert (step.action, step.extra["value"]) == ("none", value)
    # A value derived from the guid alone counts as the uuid's too, once that is recorded.
    (made,) = run(proxy, {"key_alias": "later", "guid": "g1"})
    (step,) = run(proxy, {"key_alias": "later", "guid": "g1", "uuid": "u1"})
    assert [change.field for change in step.changes] == ["metadata.uuid"]
    assert step.extra["value"] == made.extra["value"]
    for alias in ("k", "later"):
        item = {"key_alias": alias, "guid": "g1", "uuid": "u2"}
        (step,) = run(proxy, item)
        assert step.action == FAIL and "uuid u1" in step.error and step.extra["value"] is None
        for _time in range(2):
            (step,) = run(proxy, {**item, "on_unrecoverable": "ignore", "rpm_limit": 3})
            assert step.extra["value"] is None and proxy.alias(alias)[0]["metadata"]["uuid"] == "u1"
        (step,) = run(proxy, {**item, "on_unrecoverable": "rotate"})
        assert step.action == "rotate" and proxy.alias(alias)[0]["metadata"]["uuid"] == "u2"
        (again,) = run(proxy, item)
        assert (again.action, again.extra["value"]) == ("none", step.extra["value"])
    # Rotated by somebody who knows the guid alone, it is still the uuid's.
    run(proxy, {"key_alias": "k", "guid": "g1", "rotate": True})
    (step,) = run(proxy, {"key_alias": "k", "uuid": "u2"})
    (row,) = proxy.alias("k")
    assert step.extra["value"] == derive.key_value(
        KEY_SECRET, "u2", "k", row["metadata"]["rhpds_litemaas"]["generation"]
    )


class Unreadable(Proxy):
    """Can't be read back once a key was made."""

    def post(self, path, body):
        if path == "/v2/key/info" and len(self.rows) > 1:
            raise LiteLLMError("POST", status=503)
        return super().post(path, body)


def test_rotation_that_cannot_be_read_back_still_hands_over_the_value():
    proxy = Unreadable()
    run(proxy, {"key_alias": "k"}, key_secret=None)
    steps = run(proxy, {"key_alias": "k", "rotate": True}, key_secret=None)
    (row,) = proxy.alias("k")
    assert steps[0].action == FAIL and derive.token_of(steps[0].extra["value"]) == row["token"]
    proxy.__class__ = Proxy
    run(proxy, {"key_alias": "k", "on_unrecoverable": "ignore"}, key_secret=None)
    assert list(proxy.rows) == [row["token"]]


def test_plan_is_pure():
    planner = Planner(now=START, key_secret=KEY_SECRET)
    proxy = Proxy()
    run(proxy, {"key_alias": "k", "max_budget": 5})
    rows = list(proxy.rows.values())
    wanted = [virtual_key.wanted_from_options({"key_alias": "k", "max_budget": 6, "metadata": {"a": 1}}, START)]
    before = copy.deepcopy((rows, wanted))
    assert [step.action for step in make_plan(planner, wanted, rows)] == ["update"]
    assert (rows, wanted) == before


def test_the_servers_clock_counts():
    proxy = Proxy()
    proxy.now = START + timedelta(days=400)
    run(proxy, {"key_alias": "k", "duration": "1d"})
    (row,) = list(proxy.rows.values())
    resource = virtual_key.VirtualKeyResource(proxy, now=START, key_secret=KEY_SECRET, workers=1)
    proxy.now += timedelta(days=2)
    steps = apply.converge(resource, [virtual_key.wanted_from_options({"key_alias": "k", "duration": "1d"}, START)])
    assert actions(steps) == ["update"]
    assert durations.moment(row["expires"]) == proxy.now + timedelta(days=1)


def test_requests_for_a_thousand_keys_in_a_large_store():
    proxy = Proxy()
    items = [{"key_alias": f"k{number}", "guid": "g1"} for number in range(1000)]
    run(proxy, *items)
    assert proxy.requests <= 1000 + 10 + 10 + 20
    for number in range(3000):
        proxy.rows[f"{number:064}"] = {
            **Proxy.DEFAULTS,
            "token": f"{number:064}",
            "key_alias": f"z{number}",
            "metadata": {},
        }
    proxy.requests = proxy.writes = 0
    assert set(actions(run(proxy, *items))) == {"none"}
    assert proxy.requests <= 40 + 2 and proxy.writes == 0
    proxy.requests = 0
    run(proxy, *items[:5])
    assert proxy.requests <= 20
    proxy.requests = 0
    run(proxy, {"guid": "g1", "state": "absent"})
    assert proxy.requests <= 40 + 2 + 10 + 10


def test_other_rows_than_asked_for_are_not_taken_for_them():
    """Rows without tokens whose aliases don't fit are asked for one by one."""
    proxy = Proxy(tokens_told=False)
    run(proxy, {"key_alias": "a"}, {"key_alias": "b"})
    reader = virtual_key.KeyReader(proxy, workers=1)
    tokens = list(proxy.rows)
    for known in ({}, {tokens[0]: "b", tokens[1]: "b"}, {tokens[0]: "x", tokens[1]: "y"}):
        found = reader.by_token([*tokens, "0" * 64], {**known, "0" * 64: "gone"})
        assert {row["token"]: row["key_alias"] for row in found} == {
            token: proxy.rows[token]["key_alias"] for token in tokens
        }


class Shifting(Proxy):
    """Somebody deletes or makes keys while they are listed."""

    def __init__(self, disturb, **options):
        super().__init__(**options)
        self.disturb = disturb
        self.disturbed = 0

    def get(self, path, params=None):
        answer = super().get(path, params)
        if self.disturbed < 2:
            self.disturbed += 1
            self.disturb(self)
        return answer


@pytest.mark.parametrize("swap", [False, True])
def test_a_row_hidden_by_somebodys_deletion_is_found(swap):
    def disturb(proxy):
        for token in sorted(proxy.rows)[:2]:
            if not proxy.rows[token]["key_alias"].startswith("ours"):
                del proxy.rows[token]
                if swap:
                    number = 10**63 - len(proxy.rows) * 1000 - proxy.disturbed
                    new = f"f{number:063}"
                    proxy.rows[new] = {"token": new, "key_alias": new, "metadata": {}}

    proxy = Shifting(disturb, page=4)
    for number in range(20):
        token = f"{number:064}"
        proxy.rows[token] = {"token": token, "key_alias": "ours" if number >= 4 else "other", "metadata": {}}
    found = virtual_key.list_keys(proxy, keep=lambda row: row["key_alias"] == "ours")
    assert len(found) == 16


def test_a_store_in_which_keys_are_made_all_the_time_is_read_to_its_end():
    proxy = Proxy(page=4)
    whole, made = proxy.get, iter(range(1, 1000))

    def growing(path, params=None):
        answer = whole(path, params)
        for _each in range(3):
            token = f"{next(made) * 7919 % 2003:064}"
            proxy.rows.setdefault(token, {"token": token, "key_alias": "other", "metadata": {}})
        return answer

    for number in range(20):
        token = f"{number * 50 + 1000:064}"
        proxy.rows[token] = {"token": token, "key_alias": "ours", "metadata": {}}
    proxy.get = growing

    def backwards(read, pages, _workers):
        """The worst order for rows that move to later pages."""
        return [read(page) for page in reversed(list(pages))]

    proxy.map = backwards
    assert len(virtual_key.list_keys(proxy, keep=lambda row: row["key_alias"] == "ours")) == 20


@pytest.mark.parametrize("store", [0, 1, 3, 5])
def test_a_short_list_is_refused(store):
    proxy = Proxy(page=2)
    for number in range(store):
        proxy.rows[f"{number:064}"] = {"token": f"{number:064}", "key_alias": f"k{number}", "metadata": {}}
    whole = proxy.get

    def short(path, params=None):
        answer = whole(path, params)
        answer["keys"] = answer["keys"][:-1]
        return answer

    if not store:
        assert virtual_key.list_keys(proxy) == []
        return
    proxy.get = short
    with pytest.raises(LiteLLMError, match="were announced"):
        virtual_key.list_keys(proxy)
