# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litemaas_db_sync against a real PostgreSQL, and against the real proxy where its answer matters.

Every test has LiteMaaS's tables in a schema of its own, so tests neither see nor disturb each other. Faults of LiteLLM
(empty, partial, stale answers) are given to the sync directly; everything else goes through the module.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import uuid
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg2
import pytest
from psycopg2.extras import Json, RealDictCursor

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import catalog, database, sync

ROOT = Path(__file__).resolve().parents[2]
KEY_LIKE = re.compile(r"sk-[A-Za-z0-9_-]")
SCHEMA = ROOT / "tests" / "stack" / "litemaas_schema.sql"


# ---- what the tests stand on ----


class Catalogue:
    """LiteMaaS's tables in a schema of their own."""

    def __init__(self, dsn, also=""):
        self.schema = f"t_{secrets.token_hex(6)}"
        self.plain_dsn = dsn
        self.dsn = self.with_path(self.schema + also)
        self._admin = psycopg2.connect(dsn)
        self._admin.autocommit = True
        self.run(f"CREATE SCHEMA {self.schema}")
        with psycopg2.connect(self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(SCHEMA.read_text())
        connection.close()
        self.run(f"SET search_path = {self.schema}{also}")
        self.user = self.rows(
            "INSERT INTO users (username, email, oauth_provider, oauth_id)"
            " VALUES ('ada', 'ada@example.com', 'openshift', 'ada') RETURNING id"
        )[0]["id"]

    def with_path(self, path):
        return f"{self.plain_dsn}{'&' if '?' in self.plain_dsn else '?'}options={quote('-csearch_path=' + path)}"

    def close(self):
        self.run(f"DROP SCHEMA {self.schema} CASCADE")
        self._admin.close()

    def run(self, query, *values):
        with self._admin.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.rowcount

    def rows(self, query, *values):
        with self._admin.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(query, values or None)
            return [dict(row) for row in cursor]

    def models(self):
        """name -> row, without the clock's columns."""
        rows = self.rows("SELECT * FROM models")
        for row in rows:
            del row["created_at"], row["updated_at"]
        return {row["id"]: row for row in rows}

    def written(self):
        """Which transaction wrote each row last: tells a rewrite with the same values from no write."""
        return {row["id"]: row["xmin"] for row in self.rows("SELECT id, xmin::text FROM models")}

    def subscribe(self, model, status="active"):
        return self.rows(
            "INSERT INTO subscriptions (user_id, model_id, status, quota_requests, quota_tokens)"
            " VALUES (%s, %s, %s, 1, 1) RETURNING id",
            self.user,
            model,
            status,
        )[0]["id"]

    def add_key(self, alias, token=None, active=True, subscription=None):
        return str(
            self.rows(
                "INSERT INTO api_keys (user_id, name, key_hash, key_prefix, lite_llm_key_value, litellm_key_alias,"
                " is_active, subscription_id) VALUES (%s, 'k', %s, 'sk-', %s, %s, %s, %s) RETURNING id",
                self.user,
                token or secrets.token_hex(32),
                "sk-never-to-be-seen",
                alias,
                active,
                subscription,
            )[0]["id"]
        )

    def sync(self, entries, keys=(), check_mode=False, during_read=None, litellm_dsn=None, **options):
        """One run with LiteLLM's answers given."""
        connection = database.connect(self.dsn)
        litellm = database.connect(litellm_dsn, option="litellm_dsn") if litellm_dsn else None
        found = list(entries.values()) if isinstance(entries, dict) else entries

        def read():
            if during_read:
                during_read()
            return found

        try:
            run = sync.CatalogSync(connection, sync.Options(**options), read, lambda: list(keys), litellm)
            return run.run(check_mode)
        finally:
            connection.close()
            if litellm:
                litellm.close()


@pytest.fixture
def tables(stack):
    made = Catalogue(stack.litemaas_dsn)
    yield made
    made.close()


def deployment(name, params=None, **info):
    return {
        "model_name": name,
        "litellm_params": {"model": f"openai/{name}", "api_base": "http://up.example.com/v1", **(params or {})},
        "model_info": {"id": f"id-{name}", "db_model": True, "max_tokens": 4096, **info},
    }


def deployments(*names):
    return {name: deployment(name) for name in names}


def by_name(outcome):
    return {entry["name"]: entry for entry in outcome.results}


def names_of(report):
    return [item if isinstance(item, str) else item["name"] for item in report["items"]]


#: What a catalogue meets: every column filled, and the odd values of real deployments.
VARIETY = [
    deployment("plain"),
    deployment(
        "everything",
        {"model": "openai/RedHatAI/granite/8b", "tpm": 1000, "rpm": 10, "custom_llm_provider": "hosted_vllm"},
        input_cost_per_token=3e-06,
        output_cost_per_token=1.23456789012e-05,
        supports_vision=True,
        supports_function_calling=True,
        supports_parallel_function_calling=True,
        supports_tool_choice=True,
        supports_tokenize=True,
        mode="chat",
    ),
    deployment("costs-in-params", {"input_cost_per_token": 2e-06}, input_cost_per_token=0, output_cost_per_token=0.0),
    deployment("no-provider", {"model": "gpt-4o"}, max_tokens=None),
    deployment("embedder", mode="embedding", supports_vision=None),
    deployment("converter", supports_convert=True, supports_embeddings=False),
    deployment('IBM\'s "granite" #1/2; $(touch f) \\N \\ \t\n€ 模型', {"api_base": "http://h/a\\b\tc"}),
    deployment("ü" * 255, id="u"),
    deployment("text-numbers", {"tpm": "1000", "rpm": 10.0, "model": "a/b\\u0000c"}, max_tokens="4096"),
]


def backends_own_sync(tables, entries):
    """What the LiteMaaS backend does at its start, written from facts/litemaas-backend.md alone."""

    def either(first, second):
        return first if first else second

    for entry in entries:
        params, info = entry["litellm_params"], entry["model_info"]
        model = params["model"]
        features = ["chat"]
        if info.get("supports_convert"):
            features = ["convert"]
        if info.get("supports_embeddings") or info.get("mode") == "embedding":
            features = ["embeddings"]
        features += [
            feature
            for feature in ("function_calling", "parallel_function_calling", "tool_choice", "vision", "tokenize")
            if info.get(f"supports_{feature}")
        ]
        provider = params.get("custom_llm_provider") or (model.split("/")[0] if "/" in model else "unknown")
        row = {
            "name": entry["model_name"],
            "provider": provider,
            "category": "Language Model",
            "context_length": info.get("max_tokens"),
            "input_cost_per_token": either(info.get("input_cost_per_token"), params.get("input_cost_per_token")),
            "output_cost_per_token": either(info.get("output_cost_per_token"), params.get("output_cost_per_token")),
            "supports_vision": info.get("supports_vision") or False,
            "supports_function_calling": info.get("supports_function_calling") or False,
            "supports_tool_choice": info.get("supports_tool_choice") or False,
            "supports_parallel_function_calling": info.get("supports_parallel_function_calling") or False,
            "supports_streaming": True,
            "features": features,
            "availability": "available",
            "version": "1.0",
            "metadata": Json({"litellm_model_info": info, "litellm_params": params}),
            "api_base": params.get("api_base"),
            "tpm": params.get("tpm"),
            "rpm": params.get("rpm"),
            "max_tokens": info.get("max_tokens"),
            "litellm_model_id": info.get("id"),
            "backend_model_name": "/".join(model.split("/")[1:]) if "/" in model else model,
        }
        settings = ", ".join(f"{column} = %s" for column in row)
        if not tables.run(f"UPDATE models SET {settings} WHERE id = %s", *row.values(), entry["model_name"]):
            columns = ", ".join(row)
            places = ", ".join(["%s"] * len(row))
            tables.run(f"INSERT INTO models ({columns}, id) VALUES ({places}, %s)", *row.values(), entry["model_name"])


# ---- the rows are the backend's ----


def test_the_backends_next_start_changes_nothing(tables):
    tables.sync(VARIETY)
    before = tables.models()
    assert len(before) == len(VARIETY)
    backends_own_sync(tables, VARIETY)
    assert tables.models() == before


def test_after_the_backend_nothing_is_left_to_do(tables):
    backends_own_sync(tables, VARIETY)
    before = tables.written()
    outcome = tables.sync(VARIETY)
    assert outcome.results == []
    assert outcome.summary["unchanged"] == len(VARIETY)
    assert tables.written() == before


def test_what_operators_own_is_all_that_the_backend_resets(tables):
    tables.sync(VARIETY)
    plain = tables.models()["plain"]
    item = {
        "model_name": "plain",
        "display_name": "Plain, IBM's",
        "description": "It's 'quoted'; --\nDROP",
        "category": "chat",
        "provider": "openshift-ai",
        "restricted_access": True,
        "context_length": 99,
        "supports_streaming": False,
        "availability": "unavailable",
    }
    tables.sync(VARIETY, models=[item])
    shown = tables.models()["plain"]
    changed = {column for column in shown if shown[column] != plain[column]}
    assert changed == set(catalog.OVERLAY.values())
    assert (shown["name"], shown["description"]) == (item["display_name"], item["description"])
    backends_own_sync(tables, VARIETY)
    reset = tables.models()["plain"]
    assert (reset["description"], reset["restricted_access"]) == (item["description"], True)
    outcome = tables.sync(VARIETY, models=[item])
    assert tables.models()["plain"] == shown
    assert {change["field"] for change in by_name(outcome)["plain"]["changes"]} == {
        "name",
        "category",
        "provider",
        "context_length",
        "supports_streaming",
        "availability",
    }


# ---- run, run again, check mode before and after ----


def test_check_mode_tells_the_truth_and_writes_nothing(tables):
    models = [{"model_name": "plain", "display_name": "Plain"}, {"model_name": "nowhere"}]
    tables.sync(VARIETY[:2])
    tables.run("UPDATE models SET tpm = 5, metadata = '{}' WHERE id = 'everything'")
    tables.run("INSERT INTO models (id, name, provider) VALUES ('gone', 'gone', 'x')")
    before, rows = tables.written(), tables.models()
    options = {"models": models, "cleanup_orphaned": True}
    predicted = tables.sync(VARIETY, check_mode=True, **options)
    assert tables.written() == before
    assert tables.models() == rows
    done = tables.sync(VARIETY, **options)
    assert predicted.changed
    assert (predicted.results, predicted.summary, predicted.report) == (done.results, done.summary, done.report)
    for check_mode in (True, False):
        written = tables.written()
        again = tables.sync(VARIETY, check_mode=check_mode, **options)
        assert not again.changed
        assert [entry["name"] for entry in again.results] == ["nowhere", "plain"]
        assert tables.written() == written


def test_changes_name_columns_and_values(tables):
    tables.sync([deployment("a", {"rpm": 10, "api_base": "http://u:p@h/v1?key=k"}, input_cost_per_token=1e-06)])
    entry = by_name(
        tables.sync(
            [deployment("a", {"rpm": 20, "api_base": "http://h/v2", "x_secret": "s"}, input_cost_per_token=2e-06)]
        )
    )["a"]
    changes = {change["field"]: (change["before"], change["after"]) for change in entry["changes"]}
    metadata = changes.pop("metadata")
    assert changes == {
        "rpm": (10, 20),
        "api_base": ("http://h/v1", "http://h/v2"),
        "input_cost_per_token": (1e-06, 2e-06),
    }
    assert "litellm_params.x_secret" in metadata[1]


def test_costs_beyond_the_columns_digits_are_no_drift(tables):
    entries = [deployment("a", input_cost_per_token=1.23456789e-07, output_cost_per_token=3e-12)]
    tables.sync(entries)
    assert str(tables.models()["a"]["input_cost_per_token"]) == "1.235E-7"
    assert not tables.sync(entries).changed


@pytest.mark.parametrize(
    "filled_in", [{"key": "k"}, {"litellm_provider": "openai"}, {"supported_openai_params": ["n"]}]
)
def test_what_litellm_fills_in_after_a_call_is_no_drift(tables, filled_in):
    # Each replica does so after calls of its own only, so that it comes and goes.
    fresh = deployment("a")
    called = deployment("a", input_cost_per_second=None, **filled_in)
    for entry, further in ((fresh, called), (called, fresh)):
        tables.run("DELETE FROM models")
        assert tables.sync([entry]).changed
        before = tables.written()
        assert not tables.sync([further]).changed
        assert tables.written() == before
    # What somebody says about the model is a difference all the same.
    assert tables.sync([deployment("a", owner="somebody", **filled_in)]).changed


def test_two_at_once_make_one_set_of_rows(tables):
    entries = deployments(*(f"m{number}" for number in range(200)))
    barrier = threading.Barrier(2)
    outcomes = []

    def one():
        barrier.wait()
        outcomes.append(tables.sync(entries))

    threads = [threading.Thread(target=one) for _number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.summary["created"] for outcome in outcomes) == [0, 200]
    assert len(tables.models()) == 200


# ---- what an operator set ----


def test_what_an_earlier_list_set_stays(tables):
    entries = deployments("a", "b")
    item = {"model_name": "a", "display_name": "A", "category": "chat", "provider": "me", "context_length": 7}
    tables.sync(entries, models=[item])
    outcome = tables.sync(entries, models=[{"model_name": "b", "description": "B"}])
    row = tables.models()["a"]
    assert (row["name"], row["category"], row["provider"], row["context_length"]) == ("A", "chat", "me", 7)
    assert "a" not in by_name(outcome)
    kept = {item["name"]: item["kept"] for item in outcome.report["differing"]["items"]}
    assert kept["a"] == ["name", "category", "provider", "context_length"]


def test_what_nobody_set_follows_litellm(tables):
    tables.sync(deployments("a", "b"), models=[{"model_name": "b", "context_length": 7, "provider": "me"}])
    changed = {name: deployment(name, {"model": f"vertex_ai/{name}"}, max_tokens=8192) for name in ("a", "b")}
    tables.sync(changed)
    rows = tables.models()
    assert (rows["a"]["context_length"], rows["a"]["provider"]) == (8192, "vertex_ai")
    assert (rows["b"]["context_length"], rows["b"]["provider"]) == (7, "me")
    assert rows["b"]["max_tokens"] == 8192
    assert not tables.sync(changed).changed


def test_only_the_listed_without_sync_all(tables):
    entries = deployments("a", "b", "c")
    outcome = tables.sync(entries, sync_all=False, models=[{"model_name": "b"}])
    assert set(tables.models()) == {"b"}
    assert names_of(outcome.report["only_in_litellm"]) == ["a", "b", "c"]
    tables.sync(entries)
    tables.run("UPDATE models SET rpm = 5")
    outcome = tables.sync(entries, sync_all=False, models=[{"model_name": "b"}])
    assert tables.models()["a"]["rpm"] == 5
    assert tables.models()["b"]["rpm"] is None
    assert names_of(outcome.report["differing"]) == ["a", "b", "c"]


# ---- bad input: the item is named, the rest is done ----


def test_bad_items_fail_alone(tables):
    entries = deployments("good", "other")
    entries["bad"] = deployment("bad", {"tpm": 2**40})
    entries["nan"] = deployment("nan", x=float("nan"))
    entries["long"] = deployment("l" * 256, id="l")
    entries["config"] = deployment("config", db_model=False)
    tables.run("INSERT INTO models (id, name, provider) VALUES ('bad', 'bad', 'x'), ('config', 'config', 'x')")
    untouched = tables.models()["bad"]
    outcome = tables.sync(
        entries,
        cleanup_orphaned=True,
        models=[
            {"model_name": "good", "description": "yes"},
            {"model_name": "other", "display_name": "n" * 256},
            {"model_name": "typo"},
            {"model_name": "config"},
        ],
    )
    assert outcome.failed
    failed = {name: entry["msg"] for name, entry in by_name(outcome).items() if entry["failed"]}
    assert set(failed) == {"other", "bad", "nan", "l" * 256, "typo", "config"}
    assert "tpm is 1099511627776" in failed["bad"]
    assert "256 characters" in failed["other"]
    assert "litellm_model first" in failed["typo"]
    assert "config.yaml" in failed["config"]
    rows = tables.models()
    assert rows["good"]["description"] == "yes"
    # A model that LiteLLM has is no orphan, whatever is wrong with it.
    assert rows["bad"] == untouched
    assert rows["config"]["availability"] == "available"


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_name_twice_in_the_list_fails_alone(tables, check_mode):
    listed = [
        {"model_name": "t1", "description": "one"},
        {"model_name": "t1", "description": "another"},
        {"model_name": "gone", "description": "one"},
        {"model_name": "t5", "description": "five"},
        {"model_name": "gone", "description": "another"},
    ]
    tables.run("INSERT INTO models (id, name, provider) VALUES ('t1', 't1', 'x'), ('gone', 'gone', 'x')")
    before, written = tables.models(), tables.written()
    options = {"models": listed, "cleanup_orphaned": True, "allow_mass_removal": True, "check_mode": check_mode}
    for sync_all in (True, False):
        outcome = tables.sync(deployments("t1", "t5"), sync_all=sync_all, pending=["gone"] * check_mode, **options)
        assert (outcome.failed, outcome.changed) == (True, check_mode or sync_all)
        entries = by_name(outcome)
        assert set(entries) == {"t1", "gone", "t5"}
        assert "more than once (items 1, 2)" in entries["t1"]["msg"]
        assert "more than once (items 3, 5)" in entries["gone"]["msg"]
        assert "t1: stands in models more than once" in outcome.message(check_mode)
        assert (entries["t1"]["action"], entries["gone"]["action"]) == ("fail", "fail")
        # An entry for each item.
        assert outcome.summary["failed"] == 4
        rows = tables.models()
        assert {name: rows[name] for name in before} == before
        assert {name: tables.written()[name] for name in before} == written
        assert ("t5" in rows) is not check_mode
    if not check_mode:
        assert rows["t5"]["description"] == "five"
    nothing_else = tables.sync(deployments("t1"), sync_all=False, models=listed[:2])
    assert (nothing_else.failed, nothing_else.changed) == (True, False)


def test_a_new_name_twice_in_the_list_gets_no_row(tables):
    outcome = tables.sync(deployments("a", "b"), models=[{"model_name": "a"}, {"model_name": "a"}])
    assert set(tables.models()) == {"b"}
    assert names_of(outcome.report["only_in_litellm"]) == ["a", "b"]


def test_several_deployments_of_one_name(tables):
    first, second = deployment("a", {"rpm": 1}, id="1"), deployment("a", {"rpm": 2}, id="2")
    outcome = tables.sync([first, second])
    assert tables.models()["a"]["litellm_model_id"] == "2"
    assert outcome.report["duplicate_names"] == {"count": 1, "items": [{"name": "a", "ids": ["1", "2"]}]}


def test_a_replacement_in_progress_is_left_alone(tables):
    tables.sync(deployments("a", "b"))
    before = tables.written()
    entries = [deployment("a"), deployment("b", {"rpm": 9}, id="tmp", rhpds_replacement_of="id-b")]
    outcome = tables.sync(entries, cleanup_orphaned=True)
    assert not outcome.changed
    assert tables.written() == before


# ---- rows whose model is gone ----


def test_orphans_are_reported_and_kept_by_default(tables):
    tables.sync(deployments("a", "b"))
    outcome = tables.sync(deployments("a"))
    assert not outcome.changed
    assert outcome.report["only_in_litemaas"]["items"] == [
        {"name": "b", "availability": "available", "subscriptions": 0, "active_subscriptions": 0}
    ]


def test_unavailable_spares_subscriptions_and_ends_when_the_model_is_back(tables):
    tables.sync(deployments("a", "b", "c"))
    subscription = tables.subscribe("c", "inactive")
    outcome = tables.sync(deployments("a"), cleanup_orphaned=True)
    assert {name: entry["action"] for name, entry in by_name(outcome).items()} == {
        "b": "unavailable",
        "c": "unavailable",
    }
    assert tables.models()["b"]["availability"] == "unavailable"
    assert tables.rows("SELECT status FROM subscriptions WHERE id = %s", subscription)[0]["status"] == "inactive"
    assert not tables.sync(deployments("a"), cleanup_orphaned=True).changed
    tables.sync(deployments("a", "b"))
    assert tables.models()["b"]["availability"] == "available"


@pytest.mark.parametrize("removal", ["unavailable", "delete"])
def test_active_subscriptions_block(tables, removal):
    tables.sync(deployments("a", "b"))
    tables.subscribe("b")
    outcome = tables.sync(deployments("a"), cleanup_orphaned=True, removal=removal)
    assert not outcome.changed
    assert by_name(outcome)["b"]["action"] == "blocked"
    assert tables.models()["b"]["availability"] == "available"
    assert outcome.report["protected_models"] == ["b"]
    assert outcome.report["active_subscriptions"] == {"b": 1}
    assert names_of(outcome.report["blocked_by_subscriptions"]) == ["b"]


def test_active_subscriptions_do_not_block_when_told(tables):
    tables.sync(deployments("a", "b"))
    subscription = tables.subscribe("b")
    tables.sync(deployments("a"), cleanup_orphaned=True, allow_active_subscriptions=True)
    assert tables.models()["b"]["availability"] == "unavailable"
    assert tables.rows("SELECT status FROM subscriptions WHERE id = %s", subscription)[0]["status"] == "active"


def test_delete(tables):
    tables.sync(deployments("a", "b", "c", "d"))
    tables.subscribe("c", "inactive")
    active = tables.subscribe("d")
    key = tables.add_key("k", subscription=active)
    going = {"cleanup_orphaned": True, "removal": "delete", "check_keys": False}
    outcome = tables.sync(deployments("a"), **going)
    actions = {name: entry["action"] for name, entry in by_name(outcome).items()}
    assert actions == {"b": "delete", "c": "blocked", "d": "blocked"}
    assert set(tables.models()) == {"a", "c", "d"}
    # Being allowed to take active subscriptions' models is not yet being allowed to delete subscriptions.
    assert not tables.sync(deployments("a"), **going, allow_active_subscriptions=True).changed
    tables.sync(deployments("a"), **going, delete_subscriptions=True)
    assert set(tables.models()) == {"a", "d"}
    tables.sync(deployments("a"), **going, delete_subscriptions=True, allow_active_subscriptions=True)
    assert set(tables.models()) == {"a"}
    # The key lives on in LiteLLM, so LiteMaaS must go on knowing it.
    assert tables.rows("SELECT id::text, subscription_id FROM api_keys") == [{"id": key, "subscription_id": None}]


def test_rows_of_models_removed_by_name(tables):
    tables.sync(deployments("a", "b", "c", "d"))
    tables.subscribe("d")
    entries = [deployment("a"), deployment("c", {"rpm": 3}, id="other")]
    options = {"sync_all": False, "removed_models": ["b", "c", "d", "never-there"]}
    outcome = tables.sync(entries, **options)
    # "c" still has a deployment, of which its row is made; "d" has a subscriber.
    assert {name: entry["action"] for name, entry in by_name(outcome).items()} == {
        "b": "unavailable",
        "c": "update",
        "d": "blocked",
    }
    assert {name: row["availability"] for name, row in tables.models().items()} == {
        "a": "available",
        "b": "unavailable",
        "c": "available",
        "d": "available",
    }
    assert not tables.sync(entries, **options).changed
    tables.sync(entries, **options, removal="delete", allow_active_subscriptions=True, delete_subscriptions=True)
    assert set(tables.models()) == {"a", "c"}


def test_a_name_says_nothing_about_other_rows(tables):
    tables.sync(deployments("a", "b", "c"))
    outcome = tables.sync([], removed_models=["b"], cleanup_orphaned=True)
    assert "no model at all" in outcome.errors[0]
    assert {name: row["availability"] for name, row in tables.models().items()} == {
        "a": "available",
        "b": "unavailable",
        "c": "available",
    }


def test_a_named_model_that_litellms_table_still_has_keeps_its_row(tables):
    side = LiteLLMSide(tables, "shared")
    for name in ("a", "b"):
        side.add_model(f"id-{name}", name)
    tables.sync(deployments("a", "b"))
    outcome = side.sync(deployments("a"), removed_models=["b"])
    assert not outcome.changed
    assert tables.models()["b"]["availability"] == "available"


def test_pending_removals_are_predicted_as_they_will_be(tables):
    side = LiteLLMSide(tables, "shared")
    for name in ("a", "b"):
        side.add_model(f"id-{name}", name)
    tables.sync(deployments("a", "b"))
    options = {"removed_models": ["b"], "cleanup_orphaned": True}
    predicted = side.sync(deployments("a", "b"), check_mode=True, gone=["id-b"], **options)
    tables.run('DELETE FROM "LiteLLM_ProxyModelTable" WHERE model_id = %s', "id-b")
    done = side.sync(deployments("a"), **options)
    assert predicted.results == done.results
    assert done.summary["made_unavailable"] == 1


def test_an_empty_answer_removes_nothing(tables):
    tables.sync(deployments("a", "b"))
    before = tables.written()
    for allowed in (False, True):
        outcome = tables.sync([], cleanup_orphaned=True, allow_mass_removal=allowed)
        assert outcome.failed
        assert "no model at all" in outcome.errors[0]
        assert tables.written() == before
    only_config = tables.sync([deployment("x", db_model=False)], cleanup_orphaned=True, allow_mass_removal=True)
    assert only_config.failed
    assert tables.written() == before


def test_an_unusable_entry_makes_the_answer_a_partial_one(tables):
    tables.sync(deployments("a", "b"))
    outcome = tables.sync([deployment("a"), deployment("new"), {"model_info": {}}], cleanup_orphaned=True)
    assert "incomplete" in outcome.errors[0]
    # What is certain is done all the same.
    assert {name: row["availability"] for name, row in tables.models().items()} == dict.fromkeys("ab", "available") | {
        "new": "available"
    }


def test_a_failed_read_writes_nothing(tables):
    tables.sync(deployments("a"))
    before = tables.written()

    def fail():
        raise RuntimeError("proxy down")

    with pytest.raises(RuntimeError, match="proxy down"):
        tables.sync(deployments("a", "b"), during_read=fail)
    assert tables.written() == before


def test_a_share_above_the_limit_needs_a_word(tables):
    names = [f"m{number:02d}" for number in range(20)]
    tables.sync(deployments(*names))
    five = tables.sync(deployments(*names[5:]), cleanup_orphaned=True, check_mode=True)
    assert five.summary["made_unavailable"] == 5
    assert not five.failed
    six = tables.sync(deployments(*names[6:], "new"), cleanup_orphaned=True)
    assert six.failed
    assert "6 of 20" in six.errors[0]
    assert six.summary["made_unavailable"] == 0
    assert "new" in tables.models()
    assert tables.sync(
        deployments(*names[6:], "new"), cleanup_orphaned=True, max_removal_percent=30, check_mode=True
    ).changed
    told = tables.sync(deployments(*names[6:], "new"), cleanup_orphaned=True, allow_mass_removal=True)
    assert told.summary["made_unavailable"] == 6


def test_a_row_that_appears_while_litellm_is_read_is_not_judged(tables):
    tables.sync(deployments("a"))

    def backend_adds_a_model():
        tables.run("INSERT INTO models (id, name, provider) VALUES ('fresh', 'fresh', 'x')")
        tables.add_key("fresh-key")

    tables.add_key("known")
    outcome = tables.sync(
        deployments("a"),
        keys=[{"token": "1", "key_alias": "known"}],
        during_read=backend_adds_a_model,
        cleanup_orphaned=True,
        repair=["orphaned_keys"],
    )
    assert not outcome.changed
    assert tables.models()["fresh"]["availability"] == "available"


# ---- LiteLLM's own tables, in both layouts ----

LITELLM_TABLES = """
CREATE TABLE {0}"LiteLLM_VerificationToken" (token text PRIMARY KEY, key_alias text, expires timestamp(3),
    blocked boolean, metadata jsonb);
CREATE TABLE {0}"LiteLLM_ProxyModelTable" (model_id text PRIMARY KEY, model_name text, litellm_params jsonb);
"""


class LiteLLMSide:
    """Where LiteLLM's keys are: an answer of its API, tables beside LiteMaaS's, or a database of its own."""

    def __init__(self, tables, layout):
        self.tables = tables
        self.layout = layout
        self.keys = []
        self.options = {}
        self.prefix = f"{tables.schema}_ll." if layout == "own" else ""
        if layout == "own":
            tables.run(f"CREATE SCHEMA {tables.schema}_ll")
            self.options["litellm_dsn"] = tables.with_path(f"{tables.schema}_ll")
        if layout != "api":
            tables.run(LITELLM_TABLES.format(self.prefix))

    def close(self):
        if self.layout == "own":
            self.tables.run(f"DROP SCHEMA {self.tables.schema}_ll CASCADE")

    def add_model(self, model_id, name):
        if self.layout != "api":
            self.tables.run(f'INSERT INTO {self.prefix}"LiteLLM_ProxyModelTable" VALUES (%s, %s)', model_id, name)

    def add(self, token, alias=None, expires=None, blocked=None):
        self.keys.append({"token": token, "key_alias": alias, "expires": expires, "blocked": blocked})
        if self.layout != "api":
            self.tables.run(
                f'INSERT INTO {self.prefix}"LiteLLM_VerificationToken" VALUES (%s, %s, %s, %s)',
                token,
                alias,
                expires.replace("Z", "") if expires else None,
                blocked,
            )

    def sync(self, entries, **options):
        return self.tables.sync(entries, keys=self.keys, **{**self.options, **options})


@pytest.fixture(params=["api", "shared", "own"])
def side(request, tables):
    made = LiteLLMSide(tables, request.param)
    made.add_model("id-a", "a")
    yield made
    made.close()


SOURCE = {"api": "api", "shared": "shared database", "own": "litellm_dsn"}


def test_keys_are_compared_by_hash_then_alias(tables, side):
    side.add("t1", "alias-1")
    side.add("t2", "renamed")
    side.add("t3-new", "alias-3")
    side.add("t4", None)
    side.add("t6", "alias-6")
    side.add("t7", "alias-7", expires="2020-01-01T00:00:00Z")
    side.add("t8", "alias-8", blocked=True)
    side.add("t9", "alias-9", expires="2999-01-01T00:00:00.000Z")
    side.add("t10-new", "alias-10")
    side.add("t12", "alias-12")
    for alias, token in (("alias-1", "t1"), ("alias-2", "t2"), ("alias-3", "t3"), (None, "t4")):
        tables.add_key(alias, token)
    orphan = tables.add_key("alias-5", "t5")
    nameless = tables.add_key(None, "t11")
    alive = {tables.add_key(f"alias-{n}", f"t{n}", active=False) for n in (6, 9, 10)}
    for n in (7, 8):
        tables.add_key(f"alias-{n}", f"t{n}", active=False)
    # The living key under this row's alias is another row's: this one is dead.
    tables.add_key("alias-12", "t12-old", active=False)
    tables.add_key("alias-12", "t12")
    report = side.sync(deployments("a")).report
    assert report["key_source"] == SOURCE[side.layout]
    assert report["orphaned_keys"] == {
        "count": 1,
        "items": [{"id": orphan, "alias": "alias-5", "user_id": str(tables.user)}],
    }
    assert [item["id"] for item in report["keys_without_alias"]["items"]] == [nameless]
    assert {item["id"] for item in report["alive_revoked_keys"]["items"]} == alive


def test_orphaned_keys_are_revoked_when_asked(tables, side):
    side.add("t1", "kept")
    kept = tables.add_key("kept", "t1")
    orphan = tables.add_key("orphan")
    nameless = tables.add_key(None)
    already = tables.add_key("revoked", active=False)
    options = {"repair": ["orphaned_keys"]}
    predicted = side.sync(deployments("a"), check_mode=True, **options)
    done = side.sync(deployments("a"), **options)
    assert [(entry["action"], entry["name"]) for entry in done.results] == [("create", "a"), ("revoke", "orphan")]
    assert predicted.results == done.results
    rows = {str(row["id"]): row for row in tables.rows("SELECT * FROM api_keys")}
    assert [rows[one]["is_active"] for one in (kept, orphan, nameless, already)] == [True, False, True, False]
    revoked = rows[orphan]
    assert revoked["revoked_at"] is not None
    assert (revoked["sync_status"], revoked["sync_error"]) == ("error", sync.REVOKED_REASON)
    assert rows[already]["revoked_at"] is None
    assert not side.sync(deployments("a"), **options).changed


def test_no_keys_at_all_revokes_nothing(tables, side):
    tables.add_key("orphan")
    outcome = side.sync(deployments("a"), repair=["orphaned_keys"], allow_mass_removal=True)
    assert "came back empty" in outcome.errors[0]
    assert tables.rows("SELECT FROM api_keys WHERE is_active")


def test_revoking_a_share_above_the_limit_needs_a_word(tables, side):
    side.add("t", "kept")
    tables.add_key("kept", "t")
    for number in range(6):
        tables.add_key(f"orphan-{number}")
    outcome = side.sync(deployments("a"), repair=["orphaned_keys"])
    assert "6 of 7" in outcome.errors[0]
    assert len(tables.rows("SELECT FROM api_keys WHERE is_active")) == 7
    outcome = side.sync(deployments("a"), repair=["orphaned_keys"], allow_mass_removal=True)
    assert outcome.summary["revoked"] == 6


def test_no_report_holds_a_keys_value(tables, side):
    tables.add_key("orphan")
    tables.add_key("dead", active=False)
    outcome = side.sync(deployments("a"), repair=["orphaned_keys"])
    assert "sk-" not in json.dumps(outcome.result(False, diff=True))


@pytest.mark.parametrize("layout", ["shared", "own"])
def test_a_model_in_litellms_table_that_its_answer_lacks_makes_it_partial(tables, layout):
    side = LiteLLMSide(tables, layout)
    try:
        side.add_model("id-a", "a")
        side.add_model("id-b", "b")
        tables.sync(deployments("a", "b", "c"))
        outcome = side.sync(deployments("a"), cleanup_orphaned=True)
        assert "its table also holds b" in outcome.errors[0]
        assert {row["availability"] for row in tables.models().values()} == {"available"}
    finally:
        side.close()


def test_tables_left_from_an_older_layout_are_not_believed(tables):
    side = LiteLLMSide(tables, "shared")
    side.add_model("of-old-times", "old")
    side.add("old-token", "old")
    tables.add_key("new-key", "t1")
    side.keys = [{"token": "t1", "key_alias": "new-key"}]
    outcome = side.sync(deployments("a"), repair=["orphaned_keys"])
    assert outcome.report["key_source"] == "api"
    assert outcome.report["orphaned_keys"]["count"] == 0
    assert "not this proxy's" in outcome.warnings[0]


def test_another_proxys_database_is_refused(tables):
    side = LiteLLMSide(tables, "own")
    try:
        side.add_model("id-elsewhere", "x")
        with pytest.raises(database.DatabaseError, match="litellm_dsn is the database of the proxy"):
            side.sync(deployments("a"))
        assert tables.models() == {}
    finally:
        side.close()


# ---- databases that are not as they should be ----


def test_an_older_schema_names_its_missing_columns(tables):
    tables.run("ALTER TABLE models DROP COLUMN backend_model_name, DROP COLUMN litellm_model_id")
    tables.run("ALTER TABLE api_keys DROP COLUMN sync_error")
    with pytest.raises(database.DatabaseError) as caught:
        tables.sync(deployments("a"))
    for words in ("models.backend_model_name", "models.litellm_model_id", "api_keys.sync_error", "older LiteMaaS"):
        assert words in str(caught.value)


def test_narrower_columns_of_an_older_schema_fail_the_item_alone(tables):
    tables.run("ALTER TABLE models ALTER COLUMN provider TYPE varchar(8)")
    outcome = tables.sync([deployment("a"), deployment("b", {"custom_llm_provider": "hosted_vllm"})])
    assert set(tables.models()) == {"a"}
    assert "the column holds 8" in by_name(outcome)["b"]["msg"]


def test_missing_tables(tables):
    tables.run("DROP TABLE api_key_models, api_keys")
    with pytest.raises(database.DatabaseError, match=r"no table api_keys.*half-made LiteMaaS schema"):
        tables.sync(deployments("a"))
    tables.run("DROP TABLE subscriptions, models CASCADE")
    with pytest.raises(database.DatabaseError, match=r"no table models.*Check that litemaas_dsn is LiteMaaS's"):
        tables.sync(deployments("a"))


def test_a_constraint_of_the_site_rolls_everything_back(tables):
    tables.sync(deployments("a"))
    tables.run("ALTER TABLE models ADD CHECK (tpm < 100)")
    with pytest.raises(database.DatabaseError, match="constraint") as caught:
        tables.sync([deployment("a", {"rpm": 1}), deployment("b", {"tpm": 1000, "api_key": "private"})])
    assert "private" not in str(caught.value)
    assert set(tables.models()) == {"a"}
    assert tables.models()["a"]["rpm"] is None


@pytest.mark.parametrize("lock", [f"SELECT pg_advisory_xact_lock({database.LOCK_ID})", "LOCK TABLE {schema}.models"])
def test_a_lock_that_is_held_ends_in_words(tables, lock):
    other = psycopg2.connect(tables.dsn)
    try:
        other.cursor().execute(lock.format(schema=tables.schema))
        with pytest.raises(database.DatabaseError, match=r"waited 0\.3 s for a lock.*run again"):
            tables.sync(deployments("a"), lock_timeout=0.3)
    finally:
        other.rollback()
        other.close()
    assert tables.sync(deployments("a")).changed


def test_the_backends_writes_wait_for_ours(tables):
    """A row that the backend writes between our compare and our write would be lost, or fail the run."""
    tables.sync(deployments("a"))
    other = psycopg2.connect(tables.dsn)
    with other.cursor() as cursor:
        cursor.execute("UPDATE models SET rpm = 77 WHERE id = 'a'")
    releaser = threading.Timer(0.5, other.commit)
    releaser.start()
    outcome = tables.sync(deployments("a"))
    releaser.join()
    other.close()
    assert by_name(outcome)["a"]["changes"] == [{"field": "rpm", "before": 77, "after": None}]
    assert tables.models()["a"]["rpm"] is None


def test_a_connection_lost_on_the_way_writes_nothing(tables):
    def cut():
        tables.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
            " application_name = %s AND state = 'idle in transaction' AND pid IN"
            " (SELECT pid FROM pg_locks WHERE relation = %s::regclass)",
            database.APPLICATION,
            f"{tables.schema}.models",
        )

    with pytest.raises(database.DatabaseError, match="PostgreSQL is up"):
        tables.sync(deployments("a"), during_read=cut)
    assert tables.models() == {}


# ---- the module, and the real proxy ----


EMBEDDING = {"mode": "embedding"}


@pytest.fixture
def add_model(stack, litellm, prefix):
    """Registers a model under the test's prefix and gives its id; the fixtures remove it."""

    def add(name, **info):
        one = str(uuid.uuid4())
        params = {"model": "openai/m", "api_base": stack.upstream_url + "/v1", "api_key": "sk-upstream-secret"}
        litellm.post("/model/new", model_name=prefix + name, litellm_params=params, model_info={"id": one, **info})
        return one

    return add


@pytest.fixture
def add_key(litellm, prefix):
    """Makes a key under the test's prefix and gives its hash."""
    return lambda alias: hashlib.sha256(
        litellm.post("/key/generate", key_alias=prefix + alias)["key"].encode()
    ).hexdigest()


@pytest.fixture(params=["own", "shared"])
def layout(request, stack):
    """(LiteMaaS's tables, further options) in both layouts, LiteLLM's tables being the real ones."""
    if request.param == "own":
        catalogue = Catalogue(stack.litemaas_dsn)
        options = {"litellm_dsn": stack.litellm_dsn}
    else:
        catalogue = Catalogue(stack.litellm_dsn, also=",public")
        options = {}
    yield catalogue, options
    catalogue.close()


@pytest.fixture
def module(stack, run_module):
    """One run of the module; whatever it answers is searched for secrets."""

    def run(dsn, check_mode=False, environment=None, **options):
        arguments = {"litemaas_dsn": dsn, **options}
        env = {"LITEMAAS_DSN": "", "LITELLM_DSN": "", **(environment or {})}
        result = run_module(
            "litemaas_db_sync",
            {name: value for name, value in arguments.items() if value is not None},
            check=check_mode,
            diff=True,
            env=env,
        )
        text = json.dumps({**result, "invocation": None})
        for secret in (stack.master_key, *(urlsplit(v).password for v in (dsn, *options.values()) if _url(v))):
            assert not secret or secret not in text
        assert not KEY_LIKE.search(text)
        return result

    return run


def _url(value):
    return isinstance(value, str) and value.startswith("postgresql://") and "@" in value


def test_the_module_in_both_layouts(layout, module, litellm, prefix, add_model):
    tables, options = layout
    endings = ("plain", 'IBM\'s #1/2 "q" $(x);\n--', "embed")
    names = [prefix + ending for ending in endings]
    ids = [add_model(endings[0]), add_model(endings[1]), add_model(endings[2], **EMBEDDING)]
    models = [{"model_name": names[0], "display_name": "IBM's"}, {"model_name": names[1]}, {"model_name": names[2]}]
    options = {**options, "sync_all": False, "models": models}
    predicted = module(tables.dsn, check_mode=True, **options)
    assert tables.models() == {}
    done = module(tables.dsn, **options)
    assert done["changed"]
    assert done["summary"]["created"] == 3
    assert predicted["results"] == done["results"]
    assert "IBM's" in done["diff"]["after"]
    rows = tables.models()
    assert {rows[name]["litellm_model_id"] for name in names} == set(ids)
    assert rows[names[2]]["features"] == ["embeddings"]
    backends_own_sync(tables, [entry for entry in litellm.models(prefix) if entry["model_name"] != names[0]])
    assert tables.models() == rows
    written = tables.written()
    for check_mode in (False, True):
        again = module(tables.dsn, check_mode=check_mode, **options)
        assert (again["changed"], again["summary"]["unchanged"]) == (False, 3)
        assert again["diff"] == {"before": "", "after": ""}
    assert tables.written() == written
    # One goes from LiteLLM.
    litellm.post("/model/delete", id=ids[2])
    gone = module(tables.dsn, **{**options, "models": models[:2], "cleanup_orphaned": True})
    assert {entry["name"]: entry["action"] for entry in gone["results"]} == {
        names[0]: "none",
        names[1]: "none",
        names[2]: "unavailable",
    }
    missing = module(tables.dsn, **options)
    assert missing["failed"]
    assert names[2] in missing["msg"]


def test_keys_of_the_real_proxy(layout, module, prefix, add_model, add_key):
    tables, options = layout
    add_model("m")
    tables.add_key(prefix + "alive", add_key("alive"))
    revoked = tables.add_key(prefix + "revoked", add_key("revoked"), active=False)
    orphan = tables.add_key(prefix + "orphan")
    options = {**options, "sync_all": False, "models": [{"model_name": prefix + "m"}]}
    report = module(tables.dsn, **options)["report"]
    assert [item["id"] for item in report["orphaned_keys"]["items"]] == [orphan]
    assert [item["id"] for item in report["alive_revoked_keys"]["items"]] == [revoked]
    if "litellm_dsn" in options:
        assert report["key_source"] == "litellm_dsn"
        through_the_api = module(tables.dsn, **{**options, "litellm_dsn": None})["report"]
        assert through_the_api["key_source"] == "api"
        for part in ("orphaned_keys", "keys_without_alias", "alive_revoked_keys"):
            assert through_the_api[part] == report[part]
    else:
        assert report["key_source"] == "shared database"
    repaired = module(tables.dsn, **options, repair=["orphaned_keys"])
    assert repaired["summary"]["revoked"] == 1
    assert not module(tables.dsn, **options, repair=["orphaned_keys"])["changed"]


def test_every_model_of_the_proxy_gets_its_row(tables, module, prefix, add_model):
    add_model("all")
    done = module(tables.dsn, check_keys=False)
    assert not done.get("failed"), done["msg"]
    assert prefix + "all" in tables.models()


def test_options_come_from_the_environment_too(tables, module, prefix, add_model, stack):
    add_model("env")
    environment = {"LITEMAAS_DSN": tables.dsn, "LITELLM_DSN": stack.litellm_dsn}
    done = module(None, environment=environment, sync_all=False, models=[{"name": prefix + "env"}])
    assert done["summary"]["created"] == 1


def test_pending_models_in_check_mode(tables, module, prefix, add_model):
    name = prefix + "pending"
    options = {"sync_all": False, "models": [{"model_name": name}], "pending_models": [name]}
    predicted = module(tables.dsn, check_mode=True, **options)
    assert predicted["summary"]["created"] == 1
    assert module(tables.dsn, **options)["failed"]
    add_model("pending")
    assert module(tables.dsn, **options)["summary"]["created"] == 1
    assert not module(tables.dsn, check_mode=True, **options)["changed"]


def test_nothing_secret_is_printed_at_the_highest_verbosity(tables, run_playbook, stack, prefix, add_model, add_key):
    add_model("m")
    tables.add_key(prefix + "revoked", add_key("revoked"), active=False)
    play = """
- hosts: localhost
  gather_facts: false
  tasks:
    - rhpds.litemaas.litemaas_db_sync:
        litemaas_dsn: "{{ dsn }}"
        check_keys: true
        repair: [orphaned_keys]
        report_limit: 5
"""
    for dsn in (tables.dsn, tables.dsn.replace("@", "wrong@", 1)):
        done = run_playbook(play, {"dsn": dsn}, diff=True, verbosity=3)
        assert (done.rc == 0) == (dsn == tables.dsn), done.output
        assert prefix + "m" in done.output or done.rc
        for secret in (stack.master_key, urlsplit(dsn).password, urlsplit(stack.litellm_dsn).password):
            assert secret not in done.output
        assert not KEY_LIKE.search(done.output)


def test_errors_say_what_to_do(tables, module):
    parts = urlsplit(tables.plain_dsn)
    server = f"{parts.hostname}:{parts.port}"
    user = f"{parts.username}:{parts.password}"
    cases = {
        f"postgresql://{user}@127.0.0.1:1{parts.path}": "Check host and port in litemaas_dsn",
        f"postgresql://{user}@no-such-host.invalid/x": "Check the host name in litemaas_dsn",
        f"postgresql://{parts.username}:wrong-Passw0rd@{server}{parts.path}": "Check user and password in litemaas_dsn",
        f"postgresql://{user}@{server}/no_such_database": "Check the database name at the end of litemaas_dsn",
        f"postgresql://{parts.username}:p@ss@{server}{parts.path}": "percent-encoded",
        tables.with_path("pg_catalog"): "Check that litemaas_dsn is LiteMaaS's database",
    }
    for dsn, words in cases.items():
        result = module(dsn, models=[{"model_name": "x"}])
        assert result["failed"]
        assert words in result["msg"], result["msg"]
        assert "\n" not in result["msg"]
    wrong = module(tables.dsn, litellm_dsn=tables.dsn)
    assert 'no table "LiteLLM_VerificationToken"' in wrong["msg"]
    assert "litellm_dsn" in wrong["msg"]
    twice = module(tables.dsn, models=[{"model_name": "x"}, {"model_name": "x"}], sync_all=False)
    assert "more than once" in twice["msg"]
    unreachable = module(tables.dsn, litellm_url="http://127.0.0.1:1", retry_count=0)
    assert "litellm_url" in unreachable["msg"]
    refused = module(tables.dsn, litellm_master_key="not-the-master-key", retry_count=0)
    assert "litellm_master_key" in refused["msg"]
    assert tables.models() == {}
