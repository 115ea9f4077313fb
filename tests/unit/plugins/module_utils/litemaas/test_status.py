# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verdict, page, JSON and lines of a status: everything that needs no server."""

from __future__ import annotations

import copy
import html.parser
import json
import re
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from ansible_collections.rhpds.litemaas.plugins.filter.status_text import status_text
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import BadOption
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import status, status_files, status_page, verdict
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
SYNC = Path(__file__).resolve().parents[5] / "playbooks/sync_databases.yml"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"</td>\x1b[31m\u2028{{ 7*7 }}"


def whole(**parts):
    return {"read": "read", "errors": [], **parts}


def well():
    """Parts of a deployment that nothing is wrong with."""
    nothing = {"count": 0, "items": []}
    return {
        "pods": whole(
            workloads=[
                {"kind": "Deployment", "name": name, "ready": 2, "wanted": 2}
                for name in ("litellm", "litellm-backend", "litellm-frontend")
            ],
            pods=[pod("litellm-1", "litellm")],
        ),
        "routes": whole(
            routes=[
                {
                    "kind": "Route",
                    "name": "api",
                    "url": "https://a",
                    "service": "litellm",
                    "admitted": True,
                    "trouble": "",
                }
            ]
        ),
        "images": whole(
            images=[
                {
                    "workload": "litellm-backend",
                    "container": "backend",
                    "init": False,
                    "image": "b:0.4.0",
                    "tag": "0.4.0",
                }
            ],
            mismatches=[],
        ),
        "litellm": whole(url="https://a", ready=True, status="healthy", words="", version="1.81.14", cache="redis"),
        "backend": whole(backends=[{"pod": "b-1", "ready": True, "health": "HTTP 200", "mock": False, "how": "users"}]),
        "database": whole(
            databases=[
                {
                    "which": "litemaas",
                    "database": "litemaas_db",
                    "version": "16.4",
                    "bytes": 2**30,
                    "max_connections": 200,
                    "reserved_connections": 3,
                    "connections": 20,
                    "own_connections": 9,
                    "up_since": "2026-01-01T00:00:00Z",
                    "in_recovery": False,
                    "tables": [{"name": "models", "bytes": 4096}],
                }
            ]
        ),
        "redis": whole(
            there=True,
            version="7.2",
            memory_bytes=1000,
            max_memory_bytes=10000,
            keys=5,
            clients=2,
            evicted_keys=0,
            uptime_seconds=7200,
        ),
        "drift": whole(**{name: dict(nothing) for name in status.DRIFT}, key_source="litellm_dsn", warnings=[]),
        "models": whole(
            count=1,
            states={state: int(state == "both") for state in status.MODEL_STATES},
            duplicates=0,
            items=[model("granite", "both")],
        ),
        "keys": whole(
            source="litellm_dsn",
            count=1,
            states={state: int(state == "alive") for state in status.KEY_STATES},
            over_budget=0,
            expiring_within="7d",
            expiring_by_guid=[],
            items=[
                {
                    "alias": "a",
                    "guid": "g",
                    "state": "alive",
                    "expires": None,
                    "spend": 1.5,
                    "max_budget": None,
                }
            ],
            rows={"active": 1, "inactive": 0},
            orphaned_rows=0,
            revoked_but_alive=0,
        ),
        "subscriptions": whole(count=1, states={"active": 1}, on_unavailable_models=0, unavailable_models=[]),
        "spend": whole(
            days=2,
            source="LiteLLM_DailyUserSpend",
            total=3.0,
            requests=4,
            by_model=[{"name": "granite", "spend": 3.0, "requests": 4, "count": 1}],
            by_guid=[{"name": None, "spend": 3.0, "requests": 4, "count": 9}],
            by_day=[
                {"day": "2025-12-31", "spend": 0.0, "requests": 0},
                {"day": "2026-01-01", "spend": 3.0, "requests": 4},
            ],
        ),
        "backups": whole(backups=[{"time": "2025-12-31T00:00:00Z", "file": "m", "size": 1, "databases": ["d"]}]),
        "logs": whole(logs=[{"pod": "litellm-1", "container": "litellm", "lines": ["ready"]}]),
    }


def pod(name, app, **more):
    return {
        "name": name,
        "app": app,
        "phase": "Running",
        "ready": True,
        "restarts": 0,
        "last_restart": None,
        "last_restart_seconds": None,
        "last_restart_reason": "",
        "started": None,
        "trouble": "",
        **more,
    }


def model(name, state, availability="available"):
    return {
        "name": name,
        "display_name": name,
        "state": state,
        "deployments": 1,
        "availability": availability,
        "provider": "openai",
        "active_subscriptions": 0,
    }


def made(parts, **more):
    return verdict.document(parts, now=NOW, namespace="maas", **more)


# ---- the verdict ----


def test_nothing_wrong_is_healthy():
    found = made(well())
    assert (found["state"], found["complete"], found["reasons"]) == ("healthy", True, [])
    assert verdict.message(found) == "LiteMaaS in maas is healthy"
    assert found["versions"] == {
        "LiteLLM": "1.81.14",
        "LiteMaaS backend": "0.4.0",
        "PostgreSQL": "16.4",
        "Redis": "7.2",
    }


def change(parts, path, value):
    *way, last = path.split(".")
    place = parts
    for one in way:
        place = place[int(one)] if isinstance(place, list) else place[one]
    place[int(last) if isinstance(place, list) else last] = value


SUBSCRIPTION = {"id": "1", "model": "m", "user_id": "2"}
SERVER = {**well()["database"]["databases"][0], "connections": 160}
BACKEND = well()["backend"]["backends"][0]
REDIS = {"kind": "Deployment", "name": "litellm-redis", "ready": 1, "wanted": 1}
ROUTE = well()["routes"]["routes"][0]
KEY = {"count": 1, "items": [{"id": "1", "alias": "somebody_1", "user_id": None}]}


def blocked(kind):
    """A key that no repair deletes."""
    return {"count": 1, "repairable": 0, "items": [{**KEY["items"][0], "blocked": kind, "why": "look at it"}]}


@pytest.mark.parametrize(
    ("changes", "severity", "part", "words"),
    [
        ({"pods.workloads.0.ready": 0}, "broken", "pods", "litellm: 0 of 2 ready"),
        ({"pods.workloads.0.ready": 1}, "attention", "pods", "litellm: 1 of 2 ready"),
        ({"pods.workloads.1.wanted": 0}, "broken", "pods", "litellm-backend is scaled to 0"),
        ({"pods.workloads.1": {**REDIS, "ready": 0}}, "attention", "pods", "litellm-redis: 0 of 1 ready"),
        (
            {"pods.workloads.0.ready": 1, "pods.pods.0": pod("x", "litellm", trouble="is Pending")},
            "attention",
            "pods",
            "litellm: 1 of 2 ready: is Pending",
        ),
        ({"pods.workloads": []}, "broken", "pods", "there is no workload litellm"),
        ({"pods.pods.0": pod("x", "job", trouble="is Failed")}, "attention", "pods", "pod x is Failed"),
        (
            {
                "pods.pods.0": pod(
                    "x", "litellm", restarts=3, last_restart_seconds=7200, last_restart_reason="OOMKilled"
                )
            },
            "attention",
            "pods",
            "pod x has restarted 3 times, the last time 2h ago, OOMKilled",
        ),
        (
            {"routes.routes.0.admitted": False, "routes.routes.0.trouble": "taken"},
            "attention",
            "routes",
            "api doesn't lead to litellm: taken",
        ),
        ({"routes.routes": []}, "attention", "routes", "nobody outside"),
        (
            {
                "images.mismatches": [
                    {"workload": "f", "container": "i", "init": True, "image": "q/f:1", "wanted": "q/f:2"}
                ]
            },
            "attention",
            "images",
            "init container i is of f:1, the container of f:2",
        ),
        ({"litellm.ready": False, "litellm.words": "database: down"}, "broken", "litellm", "database: down"),
        ({"backend.backends.0.mock": True}, "broken", "backend", "b-1 serves made-up data"),
        ({"backend.backends.0.mock": None}, "attention", "backend", "can't be told"),
        ({"backend.backends.0.health": "HTTP 503"}, "broken", "backend", "HTTP 503"),
        (
            {"backend.backends": [BACKEND, {**BACKEND, "pod": "b-2", "health": "HTTP 503"}]},
            "attention",
            "backend",
            "b-2: health check says HTTP 503",
        ),
        (
            {"database.databases.0.max_connections": 203, "database.databases.0.connections": 160},
            "attention",
            "database",
            "160 of 200",
        ),
        ({"database.databases.0.connections": 195}, "broken", "database", "195 of 197"),
        # Both databases are on one server.
        ({"database.databases": [SERVER, {**SERVER, "which": "litellm"}]}, "attention", "database", "160 of 197"),
        ({"database.databases.0.in_recovery": True}, "attention", "database", "litemaas_db is on a server in recovery"),
        ({"redis.there": False}, "attention", "redis", "2 replicas"),
        ({"redis.memory_bytes": 9500}, "attention", "redis", "95 %"),
        ({"models.items.0": model("m", "only_litellm")}, "attention", "models", "1 model is in LiteLLM only"),
        ({"models.items.0": model("m", "only_litemaas")}, "attention", "models", "1 model is in LiteMaaS only"),
        ({"models.count": 0, "models.items": []}, "attention", "models", "no model at all"),
        (
            {"keys.revoked_but_alive": 1, "drift.alive_revoked_keys": KEY},
            "attention",
            "keys",
            "still alive (somebody_1)",
        ),
        ({"keys.orphaned_rows": 1, "drift.orphaned_keys": KEY}, "attention", "keys", "without a key in LiteLLM"),
        (
            {
                "subscriptions.on_unavailable_models": 4,
                "drift.active_on_unavailable": {"count": 4, "items": [SUBSCRIPTION]},
            },
            "attention",
            "subscriptions",
            "4 active subscriptions",
        ),
        ({"drift.differing": {"count": 1, "items": [{"name": "m", "columns": ["tpm"]}]}}, "attention", "drift", "(m)"),
        (
            {"drift.identical_twins": {"count": 1, "items": [{"name": "m", "keep": "1", "ids": ["2"]}]}},
            "attention",
            "drift",
            "1 name has deployments that are copies of each other (m)",
        ),
        (
            {"drift.stuck_subscriptions": {"count": 2, "items": [SUBSCRIPTION] * 2}, "drift.stuck_keys": KEY},
            "attention",
            "drift",
            "2 subscriptions were made inactive by the backend's sync, 1 key with them, and the models are there",
        ),
        (
            {"drift.active_on_unavailable": {"count": 1, "items": [SUBSCRIPTION]}},
            "attention",
            "drift",
            "1 active subscription to models that are unavailable (m)",
        ),
        ({"backups.backups": []}, "attention", "backups", "none is recorded"),
        ({"backups.backups.0.time": "2025-11-01T00:00:00Z"}, "attention", "backups", "61 days old"),
    ],
)
def test_what_is_wrong_is_named(changes, severity, part, words):
    parts = well()
    for path, value in changes.items():
        change(parts, path, value)
    found = made(parts)
    assert [(one["severity"], one["part"]) for one in found["reasons"]] == [(severity, part)]
    assert words in found["reasons"][0]["text"] and found["state"] == severity


@pytest.mark.parametrize(
    "changes",
    [
        {"models.items.0": model("m", "only_litemaas", "unavailable")},
        {"drift.differing": {"count": 1, "items": [{"name": "m", "columns": [], "kept": ["name"]}]}},
        {"keys.states.expiring": 5000},
        # Its model isn't there yet; nobody knows who did it; it may be two accounts at a provider.
        {"drift.waiting_subscriptions": {"count": 1, "items": [SUBSCRIPTION]}},
        {"drift.unproven_subscriptions": {"count": 1, "items": [SUBSCRIPTION]}},
        {"drift.possible_twins": {"count": 1, "items": [{"name": "m"}]}},
        {"pods.pods.0": pod("x", "litellm", restarts=3, last_restart_seconds=100_000)},
        # Not one of those without which nobody is served.
        {"pods.workloads.1": {**REDIS, "ready": 0, "wanted": 0}},
        {"routes.routes": [ROUTE, {**ROUTE, "service": "somebodys", "admitted": False, "trouble": "taken"}]},
        {"redis.there": False, "pods.workloads.0.ready": 1, "pods.workloads.0.wanted": 1},
        {"backups.backups.0.time": "2025-11-27T00:00:00Z"},
    ],
)
def test_what_is_normal_is_no_reason(changes):
    parts = well()
    for path, value in changes.items():
        change(parts, path, value)
    assert made(parts)["state"] == "healthy"


@pytest.mark.parametrize("part", ["pods", "routes"])
def test_what_is_not_seen_of_half_a_part_is_not_said_to_be_missing(part):
    parts = well()
    parts[part].update(read="partly", errors=["deployments: 403"], workloads=[], routes=[])
    assert [one["text"] for one in made(parts)["reasons"]] == ["could not be read in full: deployments: 403"]


@pytest.mark.parametrize(
    ("changes", "repair"),
    [
        ({"models.items.0": model("m", "only_litemaas")}, "orphaned_models"),
        ({"keys.revoked_but_alive": 1, "drift.alive_revoked_keys": KEY}, "revoked_keys_alive"),
        ({"keys.orphaned_rows": 1, "drift.orphaned_keys": KEY}, "orphaned_keys"),
        ({"subscriptions.on_unavailable_models": 4}, "unavailable_subscriptions"),
        ({"drift.active_on_unavailable": {"count": 1, "items": [SUBSCRIPTION]}}, "unavailable_subscriptions"),
        ({"drift.stuck_subscriptions": {"count": 1, "items": [SUBSCRIPTION]}}, "stuck_subscriptions"),
        ({"drift.identical_twins": {"count": 1, "items": [{"name": "m"}]}}, "duplicates"),
    ],
)
def test_the_repair_that_is_advised_is_one_that_sync_databases_has(changes, repair):
    parts = well()
    for path, value in changes.items():
        change(parts, path, value)
    (reason,) = made(parts)["reasons"]
    command = f"ansible-playbook rhpds.litemaas.sync_databases -e namespace=maas -e sync_repair={repair}"
    assert reason["advice"] == command
    (play,) = yaml.safe_load(SYNC.read_text(encoding="utf-8"))
    assert repair in play["vars"]["_known"]


@pytest.mark.parametrize(
    ("changes", "severity", "advice", "not_advised"),
    [
        (
            {
                "models.items.0": model("m", "only_litemaas"),
                "drift.only_in_litemaas": {"count": 1, "items": [{"name": "m", "active_subscriptions": 3}]},
            },
            "attention",
            "-e sync_allow_active_subscriptions=true",
            "none",
        ),
        (
            {
                "models.items.0": model("m", "only_litemaas"),
                "drift.only_in_litemaas": {"count": 1, "items": [{"name": "m", "active_subscriptions": 0}]},
            },
            "attention",
            "-e sync_repair=orphaned_models",
            "sync_allow_active_subscriptions",
        ),
        (
            {"keys.revoked_but_alive": 0, "drift.alive_revoked_keys": blocked("never_revoked")},
            "attention",
            "Look at it",
            "sync_repair",
        ),
        ({"keys.revoked_but_alive": 0, "drift.alive_revoked_keys": blocked("another_key")}, "healthy", "", "none"),
        ({"keys.revoked_but_alive": 0, "drift.alive_revoked_keys": blocked("waiting")}, "healthy", "", "none"),
    ],
)
def test_no_repair_is_advised_that_holds_back_what_it_is_about(changes, severity, advice, not_advised):
    parts = well()
    for path, value in changes.items():
        change(parts, path, value)
    found = made(parts)
    said = "".join(one["advice"] for one in found["reasons"])
    assert (found["state"], advice in said, not_advised in said) == (severity, True, False)


def test_a_revoked_key_is_not_confused_with_a_blocked_one():
    parts = well()
    both = {"count": 2, "items": [*blocked("waiting")["items"], {**KEY["items"][0], "alias": "revoked"}]}
    change(parts, "keys.revoked_but_alive", 1)
    change(parts, "drift.alive_revoked_keys", both)
    assert [one["text"] for one in made(parts)["reasons"]] == ["1 key is revoked in LiteMaaS and still alive (revoked)"]


def test_the_worst_comes_first_and_what_could_not_be_read_is_said_once():
    parts = well()
    parts["pods"] = {"read": "unread", "errors": ["pods: 403"]}
    parts["images"] = {"read": "unread", "errors": ["pods: 403"]}
    parts["backend"]["backends"][0]["mock"] = True
    found = made(parts)
    assert found["reasons"][0]["part"] == "backend" and not found["complete"]
    assert [one["text"] for one in found["reasons"][1:]] == ["could not be read: pods: 403 (also for images)"]
    # What is down is said with its part all the same.
    parts["database"] = {"read": "unread", "errors": ["pods: 403"]}
    found = made(parts)
    assert [(one["part"], one["text"]) for one in found["reasons"]][1:] == [
        ("database", "could not be read, see pods"),
        ("pods", "could not be read: pods: 403 (also for images, database)"),
    ]
    assert "Not everything could be read" in verdict.message(found)
    parts["backups"] = {"read": "not_asked", "errors": [], "why": "no namespace"}
    assert made({"backups": parts["backups"], "litellm": parts["litellm"]})["complete"]


def test_a_proxy_that_does_not_answer_is_no_want_of_knowledge():
    parts = well()
    parts["litellm"] = {"read": "unread", "errors": ["no answer"]}
    assert made(parts)["state"] == "broken"
    parts = well()
    parts["database"] = {"read": "unread", "errors": ["refused"]}
    assert made(parts)["state"] == "broken"


def test_a_proxy_whose_name_does_not_resolve_here_was_not_checked():
    """Nothing is asked of the network: .invalid is nobody's by RFC 2606."""
    client = LiteLLMClient("http://litellm.example.invalid", "sk-x", retries=0)
    found = status.collect(status.Sources(client=client), status.Options(parts=["litellm"]))
    assert found["litellm"]["unknown"]
    told = made({**well(), **found})
    assert told["state"] == "attention"
    assert "not checked from here, as the name does not resolve" in told["reasons"][0]["text"]
    # One that refuses is down.
    closed = status.Sources(client=LiteLLMClient("http://127.0.0.1:9", "sk-x", retries=0))
    found = status.collect(closed, status.Options(parts=["litellm"]))
    assert "unknown" not in found["litellm"] and made({**well(), **found})["state"] == "broken"


@pytest.mark.parametrize("name", ["litellm", "database"])
def test_what_an_account_may_not_read_is_not_broken(name):
    def forbidden(_errors):
        raise ClusterError("Read Secret s in maas", "HTTP 403: secrets is forbidden", "The account needs get", 403)

    def gone(_errors):
        raise DatabaseError("Connect", "refused") if name == "database" else ClusterError("Connect", "refused")

    source = status.Sources(connections={"litemaas": failure_of(forbidden)}, others={"litellm": forbidden})
    found = status.collect(source, status.Options(parts=[name]))
    assert found[name]["unknown"] and len(found[name]["errors"]) == 1
    told = made({**well(), **found})
    assert told["state"] == "attention" and not told["complete"]
    assert told["reasons"][0]["text"].startswith("can't be told: Read Secret s in maas: HTTP 403")
    if name == "database":
        source = status.Sources(connections={"litemaas": failure_of(gone), "litellm": failure_of(forbidden)})
        found = status.collect(source, status.Options(parts=[name]))
        assert "unknown" not in found[name] and made({**well(), **found})["state"] == "broken"


@pytest.mark.parametrize(("code", "blind"), [(401, True), (403, True), (404, False), (503, False)])
def test_only_what_the_account_may_not_is_no_trouble_of_the_server(code, blind):
    assert status.blind(ClusterError("GET /api", f"HTTP {code}: no", "", code)) is blind


@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({}, "both"),
        ({"in_litellm": {}}, "only_litemaas"),
        ({"rows": {}}, "only_litellm"),
        ({"rows": {"m": ("m", "M", "unavailable", "openai", 2)}}, "unavailable"),
        # In LiteLLM's file: its API has no deployment that the catalogue could be made of.
        ({"in_litellm": {}, "config": {"m"}}, "config"),
        ({"config": {"m"}}, "both"),
        # LiteLLM has it for some alone.
        ({"in_litellm": {}, "hidden": {"m"}}, "both"),
        ({"in_litellm": None}, "unknown"),
        ({"rows": None}, "unknown"),
    ],
)
def test_a_model_is_in_one_state(known, state):
    there = {"in_litellm": {"m": 1}, "rows": {"m": ("m", "M", "available", "openai", 2)}, "config": (), "hidden": ()}
    assert status._model("m", **{**there, **known})["state"] == state


def failure_of(call):
    with pytest.raises(status.Trouble) as failure:
        call([])
    return failure.value


def test_nothing_is_said_twice_of_a_part_of_which_nothing_is_known():
    found = status.collect(status.Sources(), status.Options(parts=["litellm", "database", "drift", "models", "keys"]))
    said = [one for part in found.values() for one in part["errors"]]
    assert set(said) == {
        "litellm_url is not set. Give it, or namespace to have it found in the cluster",
        "litemaas_dsn is not set. Give it, or namespace to have it found in the cluster",
    }
    assert made(found)["state"] == "attention"


def test_hints_can_be_entered_as_they_are():
    parts = well()
    parts["backups"]["backups"] = []
    parts["backend"]["backends"][0]["mock"] = True
    first, second = (one["advice"] for one in made(parts)["reasons"])
    assert first.endswith("put that right, then ansible-playbook rhpds.litemaas.restart -e namespace=maas")
    assert second == "ansible-playbook rhpds.litemaas.backup -e namespace=maas"
    spaced = verdict.document(parts, now=NOW, namespace="a b; c")["reasons"]
    assert spaced[1]["advice"].endswith("-e namespace='a b; c'")
    without = verdict.document(parts, now=NOW)["reasons"]
    assert without[1]["advice"] == "ansible-playbook rhpds.litemaas.backup"


def test_drift_is_shown_in_lines_and_page():
    parts = well()
    parts["drift"]["waiting_subscriptions"] = {"count": 1, "items": [{**SUBSCRIPTION, "model": "a-model-that-is-gone"}]}
    found = made(parts)
    assert "   drift         1 waiting subscriptions" in status_text(found)
    assert "a-model-that-is-gone" in status_page.page(found) and set(status_page.DRIFT) == set(status.DRIFT)
    assert "   drift         none" in status_text(made(well()))


def test_lists_of_the_result_are_bounded_and_counts_are_not():
    parts = well()
    parts["keys"].update(items=parts["keys"]["items"] * 500, count=500)
    short = verdict.shortened(made(parts), 3)
    assert len(short["parts"]["keys"]["items"]) == 3 and short["parts"]["keys"]["count"] == 500
    assert len(parts["keys"]["items"]) == 500


# ---- keys out of the API ----


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ({"expires": None}, "without_expiry"),
        ({"expires": "2026-01-01T12:00:00Z"}, "expired"),
        ({"expires": "2026-01-01T12:00:01+00:00"}, "expiring"),
        ({"expires": "2026-01-08T12:00:00"}, "expiring"),
        ({"expires": "2026-01-08T12:00:01"}, "alive"),
        ({"expires": "2025-01-01T00:00:00Z", "blocked": True}, "blocked"),
        ({"expires": None, "blocked": True}, "blocked"),
        ({"expires": "nonsense"}, "without_expiry"),
    ],
)
def test_a_key_is_in_one_state(key, state):
    found = status.key_item({"metadata": {"guid": "g"}, **key}, NOW, timedelta(days=7).total_seconds())
    assert (found["state"], found["guid"]) == (state, "g")


# ---- parts stand for themselves ----


def test_each_part_stands_for_itself():
    def broken(errors):
        errors.append("half of it")
        raise DatabaseError("Read", "no", "")

    sources = status.Sources(
        others={"pods": broken, "routes": lambda errors: errors.append("some") or {"routes": []}},
        apart={"backups": "no namespace"},
    )
    wanted = ("pods", "routes", "backups", "keys")
    found = status.collect(sources, status.Options(parts=wanted))
    assert {name: part["read"] for name, part in found.items()} == {
        "pods": "unread",
        "routes": "partly",
        "backups": "not_asked",
        "keys": "unread",
    }
    assert found["pods"]["errors"] == ["half of it", "Read: no"]
    assert "litemaas_dsn" in " ".join(found["keys"]["errors"])


# ---- the page ----


class Elements(html.parser.HTMLParser):
    """Every element, and whether they are nested as they should be."""

    VOID = frozenset("meta link input br img".split())

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def evil(value):
    """The same with a harmful text in the place of every text that a deployment may choose."""
    if isinstance(value, dict):
        fixed = ("read", "state", "mock", "severity", "which", "kind", "time", "expires", "day", "up_since")
        return {key: one if key in fixed else evil(one) for key, one in value.items()}
    if isinstance(value, list):
        return [evil(one) for one in value]
    return EVIL if isinstance(value, str) else value


def parsed(page):
    found = Elements()
    found.feed(page)
    assert found.open == []
    return found


def test_the_page_shows_everything_as_text():
    parts = evil(well())
    parts["pods"]["errors"] = [EVIL]
    parts["pods"]["read"] = "partly"
    parts["keys"]["expiring_by_guid"] = [{"guid": EVIL, "keys": 1, "first": "2026", "last": "2026", "guids": 1}]
    found = verdict.document(parts, now=NOW, namespace=EVIL)
    page = status_page.page(found)
    elements = parsed(page)
    assert "img" not in elements.seen and elements.seen.count("script") == 3
    assert "<script>alert" not in page and "\x1b" not in page and "onerror=alert(2)>" not in page
    assert not [one for one in elements.attributes if one[1].startswith("on") or one[1] == "style"]
    # The tables' rows are there as data, whole.
    data = json.loads(re.search(r'id="keys-data">(.*?)</script>', page)[1])
    assert data["rows"][0][0] == EVIL


def test_the_page_asks_for_nothing_and_lets_no_other_script_run():
    page = status_page.page(made(well()))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("sha256-") == 2
    links = [value for _tag, name, value in parsed(page).attributes if name in ("src", "href")]
    assert all(one.startswith(("#", "data:")) for one in links)
    assert "url(" not in status_page.STYLE and "fetch" not in status_page.SCRIPT


def test_the_page_has_a_table_behind_each_chart_and_a_caption_on_each_table():
    page = status_page.page(made(well()))
    assert page.count("<figure>") == page.count("<svg role=") == page.count("<desc") == page.count("<details>") > 5
    assert page.count("<table>") == page.count("<caption>")
    assert len(re.findall("<h1[ >]", page)) == 1
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_the_state_is_said_in_words():
    parts = well()
    parts["backend"]["backends"][0]["mock"] = True
    page = status_page.page(made(parts))
    assert "is broken" in page and "Broken</b>" in page and "made-up data" in page


def test_parts_that_could_not_be_read_and_were_not_asked_are_there():
    parts = well()
    parts["keys"] = {"read": "unread", "errors": ["HTTP 403"]}
    parts["pods"] = {"read": "not_asked", "errors": [], "why": "no namespace"}
    page = status_page.page(made(parts))
    parsed(page)
    assert "Not read: HTTP 403" in page and "no namespace" in page and "keys-data" not in page


# ---- files ----


def test_files_are_for_their_owner_and_replaced_at_once(tmp_path, monkeypatch):
    path = tmp_path / "status.html"
    path.write_text("old")
    path.chmod(0o644)
    # Made where they will be: from elsewhere they couldn't be put there at once.
    monkeypatch.setattr(status_files.tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert status_files.write(str(path), "new", {"state": "healthy"}) == [str(path), str(tmp_path / "status.json")]
    assert path.read_text() == "new" and json.loads((tmp_path / "status.json").read_text()) == {"state": "healthy"}
    assert [stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()] == [0o600, 0o600]

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(status_files.os, "fsync", full)
    with pytest.raises(BadOption, match=r"No space left on device.*unchanged"):
        status_files.write(str(path), "newer", {})
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 2


def test_a_path_that_is_no_good_is_refused_before_anything_is_read(tmp_path):
    status_files.check(str(tmp_path / "a.html"))
    (tmp_path / "b.json").mkdir()
    for path, words in (
        (tmp_path / "a.txt", "doesn't end in .html"),
        (tmp_path / "no" / "a.html", "no folder"),
        (tmp_path / "b.html", "is a folder"),
    ):
        with pytest.raises(BadOption, match=words):
            status_files.check(str(path))


def test_many_guids_that_expire_are_folded_and_say_their_year_once():
    parts = well()
    guids = [
        {"guid": f"g{number}", "keys": 2, "first": "2026-01-02T03:04:05Z", "last": "2026-01-03T03:04:05Z", "guids": 1}
        for number in range(9)
    ]
    parts["keys"]["expiring_by_guid"] = guids
    page = status_page.page(made(parts))
    assert "by guid, in 2026<" in page and "<td class=t>01-02 03:04</td>" in page
    beside, _summary, folded = page.partition("<summary>3 more</summary>")
    assert beside.count('<th scope="row">g') == 6
    assert [name in folded for name in (">g5<", ">g6<", ">g8<")] == [False, True, True]
    guids[8]["last"] = "2027-01-01T00:00:00Z"
    page = status_page.page(made({**parts, "keys": {**parts["keys"], "expiring_by_guid": guids[-6:]}}))
    assert "<td class=t>2026-01-02 03:04</td>" in page and " more</summary>" not in page


# ---- lines ----


def test_lines_are_aligned_and_bounded():
    parts = well()
    parts["backend"]["backends"][0]["mock"] = True
    parts["keys"]["expiring_by_guid"] = [
        {"guid": f"g{number}", "keys": 2, "first": "2026-01-02T00:00:00Z", "last": "x", "guids": 1}
        for number in range(8)
    ]
    lines = status_text(made(parts))
    assert lines[0] == "BROKEN  maas  2026-01-01 12:00:00 UTC"
    assert lines[1].startswith("!! backend       b-1 serves made-up data")
    assert "   pods          litellm 2/2, litellm-backend 2/2, litellm-frontend 2/2" in lines
    assert any("g4 2 (2026-01-02 00:00), 6 more" in line for line in lines)
    many = made(parts)
    many["reasons"] = many["reasons"] * 40
    assert any("and 28 more" in line for line in status_text(many)) and len(status_text(many)) < 50


def test_lines_leave_the_terminal_alone():
    parts = evil(well())
    found = verdict.document(parts, now=NOW, namespace="a\x1b[2J\nb")
    before = copy.deepcopy(found)
    assert not [line for line in status_text(found) if "\x1b" in line or "\n" in line]
    assert found == before
