# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who made a subscription inactive, which deployments are copies, and what of a report is a divergence."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import repairs

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
CASCADE = {
    "id": "s",
    "user_id": "u",
    "model": "m",
    "available": True,
    "owner_active": True,
    "expired": False,
    "reason": None,
    "changed_by": None,
    "changed_at": None,
    "last_status": None,
    "last_reason": None,
    "last_at": None,
    "last_action": None,
}


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({}, "restore"),
        ({"available": False}, "wait"),
        ({"last_status": "active", "last_at": NOW, "changed_at": NOW, "reason": "x", "changed_by": "a"}, "restore"),
        ({"last_status": "active", "last_at": NOW, "changed_at": NOW + timedelta(minutes=1)}, "unproven"),
        ({"last_status": "inactive"}, "a person's"),
        ({"last_status": "suspended"}, "a person's"),
        ({"reason": "asked for"}, "unproven"),
        ({"changed_by": "admin"}, "unproven"),
        ({"last_action": "SUBSCRIPTION_CREATED"}, "restore"),
        ({"last_action": "ADMIN_AUTO_ACTIVATE_SUBSCRIPTION"}, "restore"),
        ({"last_action": "SUBSCRIPTION_APPROVED"}, "restore"),
        ({"last_action": "SUBSCRIPTION_DEACTIVATED"}, "unproven"),
        ({"last_action": "SUBSCRIPTION_CANCEL"}, "unproven"),
        ({"owner_active": False}, "unproven"),
        ({"expired": True}, "a person's"),
        ({"last_status": "inactive", "last_reason": repairs.UNAVAILABLE_REASON}, "a person's"),
        (
            {
                "last_status": "inactive",
                "last_reason": repairs.UNAVAILABLE_REASON,
                "reason": repairs.UNAVAILABLE_REASON,
                "last_action": "SUBSCRIPTION_DEACTIVATED",
            },
            "restore",
        ),
    ],
)
def test_who_made_it_inactive(facts, verdict):
    found, why = repairs.judge(repairs.Subscription(**{**CASCADE, **facts}))
    shown = found if found != repairs.LEAVE else "unproven" if why else "a person's"
    assert shown == verdict


def deployment(one, name="m", params=None, **info):
    return {
        "model_name": name,
        "litellm_params": {"model": "openai/x", **(params or {})},
        "model_info": {"id": one, "db_model": True, **info},
    }


SHOWN = {"a": ["model"], "b": ["model"], "c": ["model"]}
MADE = {"a": "2026-01-03", "b": "2026-01-01", "c": "2026-01-02"}


def twins(*entries, **given):
    stored = given.get("stored", SHOWN)
    return [(one.keep, one.ids, one.proven) for one in repairs.find_twins(entries, stored, MADE)]


def test_the_oldest_of_copies_stays():
    found = twins(
        deployment("a"), deployment("b", created_at="2026-01-01", key="filled in"), deployment("c", mode=None)
    )
    assert found == [("b", ["c", "a"], True)]


@pytest.mark.parametrize(
    "other",
    [
        deployment("b", params={"rpm": 5}),
        deployment("b", mode="chat"),
        deployment("b", name="n"),
        deployment("b", db_model=False),
        deployment("b", rhpds_replacement_of="a"),
    ],
)
def test_what_differs_is_no_copy(other):
    assert twins(deployment("a"), other) == []


def test_what_is_not_shown_may_differ():
    assert twins(deployment("a"), deployment("b"), stored={**SHOWN, "b": ["model", "api_key"]}) == [("b", ["a"], False)]
    assert twins(deployment("a"), deployment("b"), stored=None) == [("b", ["a"], False)]
    assert twins(deployment("a"), deployment("b"), stored={"a": ["model"]}) == [("b", ["a"], False)]
    masked = [deployment(one, params={"some_token": "ab****cd"}) for one in "ab"]
    stored = {one: ["model", "some_token"] for one in "ab"}
    assert twins(*masked, stored=stored) == [("b", ["a"], False)]


def test_what_was_declared_never_goes():
    declared = [deployment(one, managed_by="rhpds.litemaas", scope="default", rhpds_litemaas={"x": 1}) for one in "ac"]
    assert twins(*declared) == []
    assert twins(*declared, deployment("b")) == [("a", ["b"], True)]


def test_only_what_is_proven_or_named_goes():
    found = [repairs.Twins("proven", "a", ["b"], True), repairs.Twins("looks so", "c", ["d"], False)]
    assert [one.name for one in repairs.twins_to_go(found, [])] == ["proven"]
    assert repairs.twins_to_go(found, ["looks so"]) == found


def test_what_an_operator_meant_is_no_divergence():
    report = {
        "only_in_litemaas": {"count": 3, "available": 0},
        "differing": {"count": 2, "drifted": 0},
        "duplicate_names": {"count": 1},
        "possible_twins": {"count": 1},
        "waiting_subscriptions": {"count": 1},
        "unproven_subscriptions": {"count": 1},
        # No repair takes them: they would differ for ever.
        "keys_without_alias": {"count": 1},
        "alive_revoked_keys": {"count": 1, "repairable": 0},
    }
    assert repairs.divergences(report) == {}
    report["only_in_litemaas"]["available"] = 1
    assert repairs.divergences({**report, "stuck_keys": {"count": 2}}) == {"only_in_litemaas": 1, "stuck_keys": 2}


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({}, []),
        ({"only_in_litellm": {"count": 1}}, ["sync_databases puts it right"]),
        (
            {"stuck_keys": {"count": 1}, "stuck_subscriptions": {"count": 1}, "orphaned_keys": {"count": 1}},
            ["sync_databases puts it right, with sync_repair=orphaned_keys,stuck_subscriptions"],
        ),
        ({"keys_without_alias": {"count": 3}, "alive_revoked_keys": {"count": 1, "repairable": 0}}, []),
        (
            {"alive_revoked_keys": {"count": 2, "repairable": 1}},
            ["sync_databases puts it right, with sync_repair=revoked_keys_alive"],
        ),
    ],
)
def test_the_advice_names_the_repairs_that_help(report, said):
    assert repairs.advice(report) == said


def test_the_advice_names_what_is_kept_for_its_subscriptions():
    kept = [{"name": f"m{number}", "active_subscriptions": 2} for number in range(5)]
    report = {
        "only_in_litemaas": {"count": 5, "available": 5},
        "blocked_by_subscriptions": {"count": 5, "items": kept},
    }
    (said,) = repairs.advice(report)
    assert said.startswith("Kept for active subscriptions: m0 (2), m1 (2), m2 (2) and 2 more. ")
    assert "sync_allow_active_subscriptions=true" in said
    report["only_in_litemaas"]["available"] = 6
    assert repairs.advice(report)[0] == "sync_databases puts it right, with sync_repair=orphaned_models"


def test_every_divergence_that_a_sync_does_not_mend_has_a_repair():
    assert set(repairs._REPAIR_OF) == set(repairs._DIVERGENT) - {"only_in_litellm", "differing"}
