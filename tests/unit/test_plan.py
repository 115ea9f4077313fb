# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Properties of the planner and of applying a plan, with the real model resource and a proxy in memory.

The proxy here knows what the real ones do that matters: updates merge, secrets don't come back, a taken id is refused,
and fields appear that nobody sent. That the real ones do so is shown in tests/integration.
"""

from __future__ import annotations

import copy
import random
import uuid

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils import items, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import model
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import apply
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import (
    DELETE,
    FAIL,
    NONE,
    Parsed,
    Prune,
    same,
)

KEY_SECRET = "0123456789abcdef0123456789abcdef"
property_test = settings(max_examples=150)


class Killed(BaseException):
    """The run ended here."""


class Proxy:
    """A proxy in memory, seen through the client's methods."""

    url = "http://proxy"

    def __init__(self):
        self.rows = {}
        self.writes = 0
        self.kill_at = None
        self.always_served = set()

    def add(self, name, identity, params=None, info=None):
        self.rows[identity] = {
            "model_name": name,
            "litellm_params": dict(params or {}),
            "model_info": {**(info or {}), "id": identity, "db_model": True},
        }

    def get(self, path):
        assert path == "/model/info"
        return {"data": [self._shown(row) for row in self.rows.values()]}

    def _shown(self, row):
        shown = copy.deepcopy(row)
        shown["litellm_params"].pop("api_key", None)
        shown["litellm_params"]["use_in_pass_through"] = False
        for name, value in shown["litellm_params"].items():
            if name.endswith("_cost_per_token"):
                shown["model_info"][name] = value
        shown["model_info"].setdefault("max_tokens", 4096 if row["litellm_params"]["model"] == "openai/one" else None)
        shown["model_info"]["direct_access"] = True
        return shown

    def create(self, path, body, took_effect):
        assert path == "/model/new"
        identity = body["model_info"]["id"]
        if identity in self.rows:
            raise LiteLLMError("POST /model/new", status=500, words="Failed to add model to db")
        self._write()
        self.add(body["model_name"], identity, body["litellm_params"], body["model_info"])
        assert took_effect()

    def post(self, path, body):
        assert path == "/model/delete"
        if body["id"] not in self.rows:
            raise LiteLLMError("POST /model/delete", status=400, words=f"Model with id={body['id']} not found in db")
        self._write()
        del self.rows[body["id"]]
        self._check_served()

    def patch(self, path, body):
        self._write()
        row = self.rows[path.split("/")[2]]
        row["model_name"] = body["model_name"]
        row["litellm_params"].update(body["litellm_params"])
        row["model_info"].update(body["model_info"])

    def map(self, function, todo, workers):
        return [function(one) for one in todo]

    def _write(self):
        if self.writes == self.kill_at:
            raise Killed
        self.writes += 1

    def _check_served(self):
        served = {row["model_name"] for row in self.rows.values()}
        assert served >= self.always_served, "a name that is to stay had no deployment for a moment"

    def names(self):
        return {row["model_name"] for row in self.rows.values()}


def options(name, label, **rest):
    return {"model_name": name, "deployment": label, "litellm_model": "openai/one", **rest}


names = st.sampled_from(["a", "b", "c/d"])
labels = st.sampled_from([None, "", "x"])
some_options = st.fixed_dictionaries(
    {
        "model_name": names,
        "deployment": labels,
        "litellm_model": st.sampled_from(["openai/one", "openai/two"]),
        "state": st.sampled_from(["present", "present", "present", "absent"]),
    },
    optional={
        "rpm": st.integers(0, 3),
        "api_key": st.sampled_from(["sk-first", "sk-second"]),
        "input_cost_per_million_tokens": st.sampled_from([0.07, 3.0]),
        "context_length": st.sampled_from([4096, 8192]),
        "capabilities": st.sampled_from([["chat"], ["chat", "vision"], ["embeddings"]]),
        "litellm_params": st.sampled_from([{"temperature": 0}, {"extra_headers": {"Authorization": "x"}}]),
        "model_info": st.sampled_from([{"note": "n"}, {"tier": 1}]),
        "adopt": st.booleans(),
    },
)


@st.composite
def lists(draw):
    """What operators write: several items, no two of them about the same thing."""
    chosen = {}
    for one in draw(st.lists(some_options, max_size=5)):
        chosen.setdefault((one["model_name"], one["deployment"] or ""), one)
    return list(chosen.values())


@st.composite
def by_hand(draw):
    """Deployments that somebody made in the UI, or another scope of ours."""
    proxy = Proxy()
    for number in range(draw(st.integers(0, 3))):
        info = draw(st.sampled_from([{}, {"tier": 2}, {"managed_by": "another tool"}, {**ownership.mark("others")}]))
        params = {"model": draw(st.sampled_from(["openai/one", "openai/two"])), "api_key": "sk-by-hand"}
        if draw(st.booleans()):
            params["stream_timeout"] = 5
        proxy.add(draw(names), str(uuid.UUID(int=number + 1)), params, info)
    return proxy


def declared(listed):
    wanted = [model.wanted_from_options(one) for one in listed]
    items.refuse_duplicates(wanted, lambda item: item.identity, "this model")
    model.refuse_contradictions(wanted)
    return wanted


def resource(proxy, scope="here", key_secret=KEY_SECRET, **settings_):
    return model.ModelResource(proxy, scope=scope, key_secret=key_secret, patience=0, **settings_)


def run(proxy, listed, prune=None, check_mode=False, **settings_):
    """One run of the module: its steps."""
    return apply.converge(
        resource(proxy, **settings_), declared(listed), prune=prune, check_mode=check_mode, patience=0
    )


def plan(proxy, listed, prune=None):
    return run(proxy, listed, prune, check_mode=True)


def told(steps):
    return [(step.name, step.action, step.error, sorted(map(repr, step.changes))) for step in steps]


@property_test
@given(by_hand(), lists(), lists())
def test_second_run_has_nothing_to_do(proxy, before, now):
    run(proxy, before)
    first = run(proxy, now)
    writes = proxy.writes
    second = run(proxy, now)
    assert proxy.writes == writes
    refused = {step.name for step in first if step.action == FAIL}
    assert {step.name for step in second if step.action != NONE} <= refused, told(second)
    # What failed, failed while planning: nothing that was tried on this proxy may fail.
    assert not [step.error for step in first if "attempted" in step.extra]


@property_test
@given(by_hand(), lists(), lists())
def test_check_mode_says_what_a_run_does_and_does_nothing(proxy, before, now):
    run(proxy, before)
    writes = proxy.writes
    predicted = told(plan(proxy, now))
    assert proxy.writes == writes
    assert told(run(proxy, now)) == predicted


@property_test
@given(by_hand(), lists(), lists(), st.randoms(use_true_random=False))
def test_order_of_the_list_does_not_matter(proxy, before, now, shuffler: random.Random):
    run(proxy, before)
    other = list(now)
    shuffler.shuffle(other)
    assert sorted(told(plan(proxy, now))) == sorted(told(plan(proxy, other)))


@property_test
@given(by_hand(), lists(), lists(), st.booleans())
def test_no_two_steps_on_one_deployment(proxy, before, now, pruning):
    run(proxy, before)
    steps = plan(proxy, now, Prune("here", allow_mass=True) if pruning else None)
    touched = [
        step.extra.get("id") or step.current["model_info"]["id"]
        for step in steps
        if step.writes and (step.current or "id" in step.extra)
    ]
    assert len(touched) == len(set(touched))


@property_test
@given(
    st.lists(st.sampled_from(["here", "others", None]), max_size=40),
    st.sets(st.integers(0, 39)),
    st.integers(0, 100),
    st.booleans(),
)
def test_prune_takes_ours_alone_and_keeps_within_the_guard(scopes, kept, percent, allow_mass):
    proxy = Proxy()
    for number, scope in enumerate(scopes):
        info = {**(ownership.mark(scope) if scope else {}), ownership.RECORD: {"deployment": str(number)}}
        proxy.add(f"m{number % 7}", f"id{number}", {"model": "openai/one"}, info)
    ours = {key for key, row in proxy.rows.items() if row["model_info"].get("scope") == "here"}
    # Of several deployments of a name, those with the labels listed stay.
    listed = [options(f"m{number % 7}", str(number), adopt=False) for number in kept]
    steps = plan(proxy, listed, Prune("here", percent, allow_mass))
    removed = {step.current["model_info"]["id"] for step in steps if step.action == DELETE}
    surplus = ours - {f"id{number}" for number in kept}
    # What an item is about that can't be done stays as it is.
    refused = {step.name.split()[0] for step in steps if step.action == FAIL and step.wanted}
    surplus = {one for one in surplus if proxy.rows[one]["model_name"] not in refused}
    allowed = allow_mass or len(surplus) <= 5 or len(surplus) * 100 <= len(ours) * percent
    assert removed == (surplus if allowed else set())


@property_test
@given(by_hand(), lists(), lists(), st.data())
def test_a_run_killed_anywhere_is_finished_by_the_next(proxy, before, now, data):
    run(proxy, before)
    undisturbed = copy.deepcopy(proxy)
    expected = run(undisturbed, now)
    needed = undisturbed.writes - proxy.writes
    assume(needed)
    proxy.kill_at = proxy.writes + data.draw(st.integers(0, needed - 1))
    staying = {one["model_name"] for one in now if one["state"] == "present"}
    leaving = {one["model_name"] for one in now if one["state"] == "absent"}
    proxy.always_served = (proxy.names() & staying) - leaving
    with pytest.raises(Killed):
        run(proxy, now)
    proxy.kill_at = None
    predicted = told(plan(proxy, now))
    finished = run(proxy, now)
    assert told(finished) == predicted
    failing = {step.name for step in expected if step.action == FAIL}
    still = {step.name for step in finished if step.action == FAIL}
    assert still <= failing, told(finished)
    # What was refused because of a deployment that the killed run has taken away is not there any more.
    assert not {name.split()[0] for name in failing - still} & proxy.names(), told(finished)
    assert same(settled(proxy), settled(undisturbed))


def settled(proxy):
    """Everything that a run leaves behind: no temporary deployment among it."""
    assert not [row for row in proxy.rows.values() if model.REPLACEMENT_OF in row["model_info"]]
    return {
        key: {**row, "litellm_params": {k: v for k, v in row["litellm_params"].items() if k != "model_info"}}
        for key, row in sorted(proxy.rows.items())
    }


@property_test
@given(lists(), st.dictionaries(st.sampled_from(["stream_timeout", "tags"]), st.integers(1, 3), min_size=1))
def test_what_others_set_stays_whatever_changes(listed, theirs):
    listed = [{**one, "state": "present"} for one in listed]
    assume(listed)
    proxy = Proxy()
    run(proxy, listed)
    for row in proxy.rows.values():
        row["litellm_params"].update(theirs)
        row["model_info"]["access_groups"] = ["theirs"]
    run(proxy, [{**one, "rpm": 77, "litellm_model": "openai/three"} for one in listed])
    for row in proxy.rows.values():
        assert row["litellm_params"]["rpm"] == 77
        assert theirs.items() <= row["litellm_params"].items()
        assert row["model_info"]["access_groups"] == ["theirs"]
        # What LiteLLM filled in about the old backend model is not written down for the new one.
        assert "max_tokens" not in row["model_info"] or row["model_info"]["max_tokens"] in (4096, 8192)
        assert "direct_access" not in row["model_info"]


numbers = st.one_of(st.booleans(), st.integers(-(10**12), 10**12), st.floats(-1e12, 1e12))


@given(numbers)
def test_a_number_is_the_same_after_a_journey_through_text(number):
    if isinstance(number, bool):
        assert same(number, number)
        assert not same(number, int(number))
    else:
        assert same(number, float(repr(number)))
        assert same(number, repr(number))
        assert not same(number, number * 1.001 + 1)
        assert same(Parsed(repr(number)), number)
        assert not same(Parsed(repr(number)), number * 1.001 + 1)


@pytest.mark.parametrize(
    ("text", "observed", "alike"),
    [
        ("5", 5.0, True),
        ("5.0", 5, True),
        ("true", True, True),
        ("False", False, True),
        ("yes", True, True),
        ("1", True, True),
        ("true", False, False),
        ("maybe", True, False),
        ("true", 1, False),
        ("many", 5, False),
        # The server keeps it as text: then another text is another value.
        ("1.0", "1.00", False),
        ("yes", "true", False),
        ("5", None, False),
    ],
)
def test_a_text_is_what_the_server_made_of_it(text, observed, alike):
    assert same(Parsed(text), observed) is alike
    # Where it is stored as sent, "1.10" has to replace 1.1.
    assert not same(text, observed)


def test_two_items_about_one_deployment_are_refused():
    proxy = Proxy()
    proxy.add("a", "by-hand", {"model": "openai/one"})
    steps = plan(proxy, [options("a", None), options("a", "x", id="by-hand")])
    assert [step.action for step in steps] == ["update", FAIL]
    assert "speaks of the same model" in steps[1].error


def test_nothing_of_a_name_goes_while_its_replacement_fails():
    proxy = Proxy()
    run(proxy, [options("a", "old")])

    def refuse(*_args, **_kwargs):
        raise LiteLLMError("POST /model/new", status=503, words="not now")

    proxy.create = refuse
    steps = run(proxy, [options("a", "new")], Prune("here"))
    assert [step.action for step in steps] == [FAIL, FAIL]
    assert "kept" in steps[1].error
    assert proxy.names() == {"a"}


def test_the_configuration_file_is_left_alone():
    proxy = Proxy()
    proxy.add("a", "from-file", {"model": "openai/one"}, ownership.mark("here"))
    proxy.rows["from-file"]["model_info"]["db_model"] = False
    assert [step.action for step in plan(proxy, [], Prune("here", allow_mass=True))] == []
    (gone,) = plan(proxy, [{"model_name": "a", "state": "absent"}])
    assert (gone.action, gone.error) == (FAIL, "stands in the proxy's configuration file: take it out there")
    (beside,) = run(proxy, [options("a", None)])
    assert beside.action == "create"
    assert len(proxy.rows) == 2


def test_a_team_s_model_is_changed_in_place():
    proxy = Proxy()
    info = {**ownership.mark("here"), "team_id": "t", "team_public_model_name": "a"}
    proxy.add("model_name_t_1", "of-team", {"model": "openai/one"}, info)
    (step,) = run(proxy, [options("a", None, id="of-team", rpm=5, model_info={"team_id": "t"})])
    assert (step.action, step.error) == ("update", "")
    assert proxy.rows["of-team"]["litellm_params"]["rpm"] == 5
    assert proxy.writes == 1


def test_two_deployments_of_one_label_are_not_guessed_between():
    proxy = Proxy()
    for number in "12":
        proxy.add(
            "a", number, {"model": "openai/one"}, {**ownership.mark("here"), ownership.RECORD: {"deployment": ""}}
        )
    (step,) = plan(proxy, [options("a", None)])
    assert (step.action, step.error) == (FAIL, "2 deployments carry this name and label (1, 2): name one with id")


def test_a_secret_that_others_added_is_not_lost():
    proxy = Proxy()
    run(proxy, [options("a", None, rpm=1)])
    (row,) = list(proxy.rows.values())
    row["litellm_params"]["auth_header"] = "mask****ed"
    (step,) = run(proxy, [options("a", None, rpm=2)])
    assert (step.action, row["litellm_params"]["rpm"]) == ("update", 2)
    assert row["litellm_params"]["auth_header"] == "mask****ed"
    (step,) = plan(proxy, [options("a", None)])
    assert step.action == FAIL
    assert "auth_header can't be read back" in step.error
