# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repairs of litemaas_db_sync, and check_databases, on the real proxy and a real PostgreSQL, with drift in both stores.

LiteMaaS's tables are in a schema of the test's own. Its backend can't be had here: what its own sync does to a model
that is gone is done in SQL, as it was observed (``cascade``).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_cleanup
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.removal import Remover
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import read_deployments
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import list_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database, repairs, sync
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.test_litemaas_db_sync import Catalogue


class Lab(Catalogue):
    """LiteMaaS's tables beside the real LiteLLM."""

    def __init__(self, stack: harness.Stack, litellm: harness.LiteLLM, prefix: str) -> None:
        super().__init__(stack.litemaas_dsn)
        self.stack, self.litellm, self.prefix = stack, litellm, prefix
        self.client = LiteLLMClient(stack.url, stack.master_key)

    def run_sync(self, *repair: str, check: bool = False, acting: Any = None, api: bool = False, **options: Any) -> Any:
        """One run with LiteLLM's own answers; keys out of its database, or over its API."""
        with contextlib.ExitStack() as open_ones:
            ours = open_ones.enter_context(contextlib.closing(database.connect(self.dsn)))
            theirs = None
            if not api:
                theirs = database.connect(self.stack.litellm_dsn, option="litellm_dsn")
                open_ones.enter_context(contextlib.closing(theirs))
            return sync.CatalogSync(
                ours,
                sync.Options(repair=repair, **options),
                lambda: read_deployments(self.client),
                lambda: list_keys(self.client),
                theirs,
                acting or Remover(self.client),
            ).run(check)

    def clean(self, *, check_mode: bool = False, named: Sequence[str] = ()) -> dict[str, Any]:
        """A run of litellm_key_cleanup's policy revoked_alive; other tests' keys are protected."""
        with contextlib.closing(database.connect(self.dsn)) as ours:
            return key_cleanup.Cleanup(
                self.client,
                lambda now: key_cleanup.Policy(
                    frozenset({key_cleanup.REVOKED_ALIVE}),
                    now,
                    protected_aliases=[re.compile(f"(?!{self.prefix}).*")],
                    named=frozenset(named),
                ),
                key_cleanup.Options(allow_mass_cleanup=True),
                ours,
            ).run(check_mode)

    def model(self, name: str, **params: Any) -> str:
        """A deployment; its id."""
        litellm_params = {"model": "openai/demo-chat", "api_base": f"{self.stack.upstream_url}/v1", **params}
        made = self.litellm.post("/model/new", model_name=self.prefix + name, litellm_params=litellm_params)
        return str(made["model_id"])

    def key(self, name: str, *models: str, **columns: Any) -> str:
        """A key in both stores, with its links; the row's id."""
        alias = f"{self.prefix}{name}"
        names = [self.prefix + model for model in models]
        value = self.litellm.post("/key/generate", key_alias=alias, models=names, user_id=str(self.user))["key"]
        row = self.add_key(alias, hashlib.sha256(value.encode()).hexdigest())
        for model in names:
            self.run("INSERT INTO api_key_models (api_key_id, model_id) VALUES (%s, %s)", row, model)
        for column, value in columns.items():
            self.run(f"UPDATE api_keys SET {column} = %s WHERE id = %s", value, row)
        return row

    def living(self) -> set[str]:
        """Aliases of LiteLLM's keys, without the prefix."""
        return {key["key_alias"].removeprefix(self.prefix) for key in self.litellm.keys(self.prefix)}

    def ids(self, name: str) -> set[str]:
        """Ids of a model's deployments."""
        return {one["model_info"]["id"] for one in self.litellm.models(self.prefix + name)}

    def status(self, subscription: Any) -> str:
        return str(self.rows("SELECT status FROM subscriptions WHERE id = %s", subscription)[0]["status"])

    def active(self, key: str) -> bool:
        return bool(self.rows("SELECT is_active FROM api_keys WHERE id = %s", key)[0]["is_active"])

    def links(self, key: str) -> set[str]:
        found = self.rows("SELECT model_id FROM api_key_models WHERE api_key_id = %s", key)
        return {row["model_id"].removeprefix(self.prefix) for row in found}

    def cascade(self, *models: str) -> None:
        """What the backend's own sync does when models are gone."""
        for model in models:
            name = self.prefix + model
            self.run("UPDATE models SET availability = 'unavailable' WHERE id = %s", name)
            self.run("UPDATE subscriptions SET status = 'inactive' WHERE model_id = %s AND status = 'active'", name)
            self.run("DELETE FROM api_key_models WHERE model_id = %s", name)
        self.run(
            "UPDATE api_keys a SET is_active = false WHERE is_active"
            " AND NOT EXISTS (SELECT FROM api_key_models x WHERE x.api_key_id = a.id)"
        )

    def everything(self) -> list[Any]:
        """Which transaction wrote each row last."""
        tables = ("models", "subscriptions", "api_keys", "api_key_models", "subscription_status_history", "audit_logs")
        return [self.rows(f"SELECT xmin::text, ctid::text FROM {table} ORDER BY ctid") for table in tables]


@pytest.fixture
def repair(stack: harness.Stack, litellm: harness.LiteLLM, prefix: str) -> Iterator[Lab]:
    made = Lab(stack, litellm, prefix)
    yield made
    made.close()


def parts(outcome: Any, lab: Lab) -> dict[str, int]:
    """What diverges of the test's own."""
    assert outcome.divergences.keys() <= {*repairs._DIVERGENT}
    found = {}
    for part in outcome.divergences:
        items = outcome.report[part]["items"]
        mine = [item for item in items if lab.prefix in str(item) or str(lab.user) in str(item)]
        mine = [item for item in mine if not (isinstance(item, dict) and item.get("blocked"))]
        found |= {part: len(mine)} if mine else {}
    return found


def words(outcome: Any) -> list[tuple[str, str]]:
    return sorted((entry["action"], str(entry["id"])) for entry in outcome.results if entry.get("id"))


@pytest.mark.parametrize("api", [False, True])
def test_the_backends_cascade_is_undone_once(repair: Lab, api: bool) -> None:
    for name in ("a", "b", "c"):
        repair.model(name)
    repair.run_sync()
    lost, other, staying = (repair.subscribe(repair.prefix + name) for name in ("a", "b", "c"))
    dead = repair.key("dead", "a", "b")
    partly = repair.key("partly", "a", "c")
    revoked = repair.key("revoked", "a", is_active=False, revoked_at="now")
    repair.cascade("a", "b")
    assert not repair.active(dead)
    assert repair.links(partly) == {"c"}
    before = repair.everything()
    checked = repair.run_sync("stuck_subscriptions", check=True, api=api)
    assert repair.everything() == before
    assert parts(checked, repair) == {
        "differing": 2,
        "stuck_subscriptions": 2,
        "stuck_keys": 1,
        "alive_revoked_keys": 1,
    }
    done = repair.run_sync("stuck_subscriptions", api=api)
    assert words(checked) == words(done)
    assert words(done) == sorted(("restore", str(one)) for one in (lost, other, dead, partly))
    assert [repair.status(one) for one in (lost, other, staying)] == ["active"] * 3
    assert (repair.active(dead), repair.links(dead)) == (True, {"a", "b"})
    assert (repair.active(partly), repair.links(partly)) == (True, {"a", "c"})
    assert (repair.active(revoked), repair.links(revoked)) == (False, {"a"} - {"a"})
    history = repair.rows("SELECT old_status, new_status, reason, changed_by FROM subscription_status_history")
    assert (
        history
        == [{"old_status": "inactive", "new_status": "active", "reason": repairs.RESTORED_REASON, "changed_by": None}]
        * 2
    )
    trail = repair.rows("SELECT action, resource_id FROM audit_logs ORDER BY action, resource_id")
    assert [row["action"] for row in trail] == ["API_KEY_RESTORED", *["SUBSCRIPTION_RESTORED"] * 2]
    assert trail[0]["resource_id"] == dead
    before = repair.everything()
    again = repair.run_sync("stuck_subscriptions", api=api)
    assert (again.changed, repair.everything()) == (False, before)
    # It happens again, to the same.
    repair.cascade("a", "b")
    repair.run_sync("stuck_subscriptions", api=api)
    assert (repair.status(lost), repair.active(dead), repair.links(dead)) == ("active", True, {"a", "b"})


def test_what_a_person_may_have_done_stays(repair: Lab) -> None:
    users = {}
    for case in ("said", "reason", "changed_late", "audited", "left", "expired", "approved", "reactivated"):
        users[case] = repair.rows(
            "INSERT INTO users (username, email, oauth_provider, oauth_id) VALUES (%s, %s, 'openshift', %s)"
            " RETURNING id",
            *[case] * 3,
        )[0]["id"]
    repair.model("a")
    repair.run_sync()
    rows = {}
    for case, user in users.items():
        repair.user = user
        rows[case] = str(repair.subscribe(repair.prefix + "a"))
    repair.cascade("a")

    def history(case: str, status: str, moment: str = "now() - interval '1 day'") -> None:
        repair.run(
            "INSERT INTO subscription_status_history (subscription_id, old_status, new_status, reason, changed_at)"
            f" VALUES (%s, 'active', %s, 'as asked', {moment})",
            rows[case],
            status,
        )

    def audit(case: str, action: str) -> None:
        values = (action, rows[case])
        repair.run(
            "INSERT INTO audit_logs (action, resource_type, resource_id) VALUES (%s, 'SUBSCRIPTION', %s)", *values
        )

    history("said", "inactive")
    repair.run("UPDATE subscriptions SET status_reason = 'as asked' WHERE id = %s", rows["reason"])
    history("changed_late", "active")
    repair.run("UPDATE subscriptions SET status_changed_at = now() WHERE id = %s", rows["changed_late"])
    audit("audited", "SUBSCRIPTION_CANCELLED")
    repair.run("UPDATE users SET is_active = false WHERE id = %s", users["left"])
    repair.run("UPDATE subscriptions SET expires_at = now() - interval '1 hour' WHERE id = %s", rows["expired"])
    history("approved", "active")
    repair.run("UPDATE subscriptions SET status_reason = 'as asked' WHERE id = %s", rows["approved"])
    audit("reactivated", "ADMIN_AUTO_ACTIVATE_SUBSCRIPTION")
    done = repair.run_sync("stuck_subscriptions")
    assert {case for case, row in rows.items() if repair.status(row) == "active"} == {"approved", "reactivated"}
    unproven = {item["id"]: item["why"] for item in done.report["unproven_subscriptions"]["items"]}
    assert set(unproven) == {rows[case] for case in ("reason", "changed_late", "audited", "left")}
    assert "SUBSCRIPTION_CANCELLED" in unproven[rows["audited"]]


def test_a_model_that_is_still_gone_waits(repair: Lab) -> None:
    repair.model("a")
    repair.run_sync()
    repair.run("INSERT INTO models (id, name, provider) VALUES (%s, 'x', 'x')", repair.prefix + "gone")
    lost = repair.subscribe(repair.prefix + "gone")
    key = repair.key("kept", "gone")
    repair.cascade("gone")
    done = repair.run_sync("stuck_subscriptions", "revoked_keys_alive", allow_mass_removal=True)
    assert [item["id"] for item in done.report["waiting_subscriptions"]["items"]] == [str(lost)]
    # There is nothing that could be repaired: else it would differ for ever.
    assert parts(done, repair) == {}
    alive = done.report["alive_revoked_keys"]
    assert [(one["id"], one["blocked"]) for one in alive["items"] if one["id"] == key] == [(key, "waiting")]
    assert words(done) == [("blocked", key)]
    assert f"Held back: {repair.prefix}kept: the backend's own sync made it inactive" in done.message(False)
    assert (repair.status(lost), repair.living()) == ("inactive", {"kept"})


def test_revoked_keys_that_live_are_deleted_in_litellm(repair: Lab) -> None:
    repair.model("a")
    repair.run_sync()
    repair.key("working", "a")
    revoked = repair.key("revoked", "a", is_active=False, revoked_at="2026-01-02T03:04:05Z")
    disabled = repair.key("disabled", "a", is_active=False)
    # Another key has taken the alias of one that is long gone.
    repair.litellm.post("/key/generate", key_alias=f"{repair.prefix}taken")
    taken = repair.add_key(f"{repair.prefix}taken", active=False)
    before = repair.everything()
    checked = repair.run_sync("revoked_keys_alive", check=True, allow_mass_removal=True)
    assert (repair.everything(), repair.living()) == (before, {"working", "revoked", "disabled", "taken"})
    done = repair.run_sync("revoked_keys_alive", allow_mass_removal=True)
    expected = sorted([("delete_key", revoked), ("delete_key", disabled), ("blocked", taken)])
    assert words(checked) == words(done) == expected
    assert repair.living() == {"working", "taken"}
    rows = repair.rows("SELECT id, sync_error, revoked_at FROM api_keys WHERE NOT is_active AND sync_error IS NOT NULL")
    assert {str(row["id"]) for row in rows} == {revoked, disabled}
    assert {row["sync_error"] for row in rows} == {repairs.DELETED_REASON}
    assert [row["revoked_at"].month for row in rows if str(row["id"]) == revoked] == [1]
    before = repair.everything()
    again = repair.run_sync("revoked_keys_alive", allow_mass_removal=True)
    assert (again.changed, words(again), repair.everything()) == (False, [("blocked", taken)], before)


#: Row and key of it -> whether the key goes.
ALIVE = {
    "revoked": True,
    "with_an_error": True,
    "with_a_model_left": True,
    "twin": True,
    "reused": False,
    "cascaded": False,
    "never_revoked": False,
    "working": False,
}


@pytest.mark.parametrize("verb", ["sync_databases", "cleanup_keys"])
def test_only_a_revoked_keys_own_key_is_deleted(repair: Lab, verb: str) -> None:
    """Both verbs, one table: a key that is somebody else's now, or that nobody revoked, is no revoked key."""
    repair.model("a")
    repair.run("INSERT INTO models (id, name, provider) VALUES (%s, 'x', 'x')", f"{repair.prefix}gone")
    repair.run_sync()
    repair.subscribe(f"{repair.prefix}gone")
    rows = {name: repair.key(name, "gone" if name == "cascaded" else "a") for name in ALIVE if name != "reused"}
    repair.cascade("gone")
    assert not repair.active(rows["cascaded"])
    rows["reused"] = repair.add_key(f"{repair.prefix}reused")
    repair.litellm.post("/key/generate", key_alias=f"{repair.prefix}reused")
    # Its key is gone; another revoked row has a living one of the same alias.
    rows["twin_of_old"] = repair.add_key(f"{repair.prefix}twin")
    for name in ("with_an_error", "never_revoked"):
        repair.run("DELETE FROM api_key_models WHERE api_key_id = %s", rows[name])
    dead = [row for name, row in rows.items() if name != "working"]
    repair.run("UPDATE api_keys SET is_active = false WHERE id = ANY(%s::uuid[])", dead)
    repair.run("UPDATE api_keys SET sync_error = 'no' WHERE id = %s", rows["with_an_error"])
    for name in ("revoked", "reused", "twin", "twin_of_old"):
        repair.run("UPDATE api_keys SET revoked_at = now() - interval '10 days' WHERE id = %s", rows[name])
    untouched = {row for name, row in rows.items() if not ALIVE.get(name)}
    query = "SELECT id::text, xmin::text FROM api_keys"
    before = {row["id"]: row["xmin"] for row in repair.rows(query) if row["id"] in untouched}

    def run() -> Any:
        if verb == "sync_databases":
            return repair.run_sync("revoked_keys_alive", allow_mass_removal=True).changed
        return repair.clean()["changed"]

    if verb == "cleanup_keys":
        done = repair.clean(check_mode=True)
        assert done["report"]["kept"]["never_revoked"]["count"] >= 2
        assert "made inactive by LiteMaaS's own sync" in done["msg"]
    assert run()
    assert repair.living() == {name for name, goes in ALIVE.items() if not goes}
    assert {row["id"]: row["xmin"] for row in repair.rows(query) if row["id"] in untouched} == before
    assert not run()
    if verb == "cleanup_keys":
        # A person has looked at it.
        assert repair.clean(named=[f"{repair.prefix}never_revoked", f"{repair.prefix}reused"])["changed"]
        assert repair.living() == {"reused", "cascaded", "working"}


class Faulty(LiteLLMClient):
    """LiteLLM takes deletions and does nothing; or it refuses them; or it refuses and then gives no list of models."""

    fault = ""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path.endswith("/delete"):
            if self.fault != "nothing":
                raise LiteLLMError(f"POST {path}", status=503, words="no healthy upstream")
            return {"deleted_keys": body.get("keys")}
        return super().post(path, body)

    def get(self, path: str, params: Any = None) -> Any:
        if self.fault == "silence":
            raise LiteLLMError(f"GET {path}", words="connection refused")
        return super().get(path, params)


@pytest.mark.parametrize(
    ("fault", "key_words", "model_words"),
    [
        ("nothing", "still has the key", "still lists the deployment"),
        ("refusal", "no healthy upstream", "no healthy upstream"),
        ("silence", "no healthy upstream", "isn't known: GET /model/info"),
    ],
)
def test_what_litellm_does_not_delete_fails_and_stays(
    repair: Lab, stack: harness.Stack, fault: str, key_words: str, model_words: str
) -> None:
    first, second = repair.model("a"), repair.model("a")
    repair.run_sync()
    row = repair.key("revoked", "a", is_active=False)
    before = repair.rows("SELECT xmin::text FROM api_keys")
    client = Faulty(stack.url, stack.master_key)
    client.fault = fault
    options: dict[str, Any] = {"acting": Remover(client), "allow_mass_removal": True}
    done = repair.run_sync("revoked_keys_alive", "duplicates", **options)
    assert done.failed
    assert words(done) == sorted([("fail", row), ("fail", second)])
    said = {entry["id"]: entry["msg"] for entry in done.results if entry["failed"]}
    assert key_words in said[row]
    assert model_words in said[second]
    assert repair.rows("SELECT xmin::text FROM api_keys") == before
    assert (repair.living(), repair.ids("a")) == ({"revoked"}, {first, second})


def test_too_much_at_once_needs_a_word(repair: Lab) -> None:
    repair.model("a")
    repair.run_sync()
    for number in range(6):
        repair.key(f"revoked{number}", "a", is_active=False, revoked_at="now")
    before = repair.everything()
    done = repair.run_sync("revoked_keys_alive", max_removal_percent=0)
    assert "No key was deleted in LiteLLM: 6 of" in done.errors[0]
    assert (len(repair.living()), repair.everything()) == (6, before)


def test_subscriptions_to_what_is_unavailable_go_and_come_back(repair: Lab) -> None:
    repair.model("a")
    repair.run_sync()
    one = repair.subscribe(repair.prefix + "a")
    key = repair.key("kept", "a")
    hidden = [{"model_name": repair.prefix + "a", "availability": "unavailable"}]
    reported = repair.run_sync(models=hidden)
    assert parts(reported, repair)["active_on_unavailable"] == 1
    assert repair.status(one) == "active"
    done = repair.run_sync("unavailable_subscriptions", "stuck_subscriptions", models=hidden)
    assert words(done) == [("deactivate", str(one))]
    assert (repair.status(one), repair.active(key), repair.links(key)) == ("inactive", True, {"a"})
    assert not repair.run_sync("unavailable_subscriptions", "stuck_subscriptions", models=hidden).changed
    done = repair.run_sync("unavailable_subscriptions", "stuck_subscriptions")
    assert (words(done), repair.status(one)) == ([("restore", str(one))], "active")
    assert not repair.run_sync("unavailable_subscriptions", "stuck_subscriptions").changed


def test_copies_go_and_what_shares_a_load_stays(repair: Lab) -> None:
    plain = [repair.model("plain") for _number in range(3)]
    limits = [repair.model("limits", rpm=rpm) for rpm in (5, 6)]
    accounts = [repair.model("accounts", api_key=f"sk-{name}-0123456789") for name in ("one", "two")]
    declared = repair.prefix + "declared-id"
    item = {"model_name": repair.prefix + "declared", "litellm_model": "openai/demo-chat"}
    mark = {"id": declared, "managed_by": "rhpds.litemaas", "scope": "default"}
    params = {"model": item["litellm_model"], "api_base": f"{repair.stack.upstream_url}/v1"}
    blind = repair.model("declared")
    repair.litellm.post("/model/new", model_name=item["model_name"], litellm_params=params, model_info=mark)
    options: dict[str, Any] = {"allow_mass_removal": True}

    def mine(outcome: Any) -> list[dict[str, Any]]:
        """Without the copies that the proxy may have besides."""
        return [one for one in outcome.results if one.get("id") and one["name"].startswith(repair.prefix)]

    def actions(outcome: Any) -> list[tuple[str, str]]:
        return sorted((one["action"], str(one["id"])) for one in mine(outcome))

    checked = repair.run_sync("duplicates", check=True, **options)
    assert repair.ids("plain") == set(plain)
    done = repair.run_sync("duplicates", **options)
    assert actions(checked) == actions(done)
    gone = sorted(("delete_deployment", one) for one in (*plain[1:], blind))
    assert actions(done) == gone
    assert (repair.ids("plain"), repair.ids("declared")) == ({plain[0]}, {declared})
    assert (repair.ids("limits"), repair.ids("accounts")) == (set(limits), set(accounts))
    twins = [one["name"] for one in done.report["possible_twins"]["items"]]
    assert [name for name in twins if name.startswith(repair.prefix)] == [repair.prefix + "accounts"]
    held = [one for one in done.results if one["action"] == "blocked" and one["name"].startswith(repair.prefix)]
    assert [one["name"] for one in held] == [repair.prefix + "accounts"]
    assert "sync_duplicate_models" in held[0]["msg"] and held[0]["msg"] in " ".join(done.warnings)
    row = repair.rows("SELECT litellm_model_id FROM models WHERE id = %s", repair.prefix + "plain")[0]
    assert row["litellm_model_id"] == plain[0]
    assert not repair.run_sync("duplicates", **options).changed
    # Over the API alone, nothing tells what isn't shown.
    again = repair.model("plain")
    assert not [one for one in actions(repair.run_sync("duplicates", api=True, **options)) if one[0] != "none"]
    named = [repair.prefix + name for name in ("plain", "accounts")]
    done = repair.run_sync("duplicates", api=True, duplicate_models=named, **options)
    assert len(actions(done)) == 2
    assert len(repair.ids("plain")) == len(repair.ids("accounts")) == 1
    assert repair.ids("plain") <= {plain[0], again}


CHECK = "rhpds.litemaas.check_databases"


def test_the_exit_code_tells_and_the_playbook_repairs(repair: Lab, run_playbook: Any, stack: harness.Stack) -> None:
    repair.model("a")
    options = {"litemaas_dsn": repair.dsn, "litellm_dsn": stack.litellm_dsn}
    repair.run_sync()
    nameless = repair.add_key(None, "t0")
    done = run_playbook(CHECK, options)
    assert done.rc == 0, done.output
    assert "active keys of LiteMaaS that can't be compared: no alias" in done.output
    assert "The stores are in line. What is listed above is no difference, or cannot be told from none" in done.output
    repair.run("DELETE FROM api_keys WHERE id = %s", nameless)
    subscription = repair.subscribe(repair.prefix + "a")
    key = repair.key("dead", "a")
    repair.cascade("a")
    before = repair.everything()
    done = run_playbook(CHECK, options, verbosity=3)
    assert (done.rc, done.changed, repair.everything()) == (2, 0, before)
    assert "The stores differ: differing 1, stuck_subscriptions 1, stuck_keys 1. " in done.output
    assert "sync_databases puts it right, with sync_repair=stuck_subscriptions" in done.output
    assert f"{repair.prefix}dead: the backend's own sync made it inactive" in done.output
    assert f"of models that are there again: 1 ({repair.prefix}a)" in done.output
    for secret in (stack.master_key, *re.findall(r"://[^:]+:([^@]+)@", stack.litemaas_dsn)):
        assert secret not in done.output
    nothing = run_playbook(CHECK, {**options, "litemaas_dsn": "postgresql://u:p@127.0.0.1:9/x"})
    assert nothing.rc == 2
    assert "The stores could not be compared: Connect to litemaas_dsn" in nothing.output
    fixed = run_playbook("rhpds.litemaas.sync_databases", {**options, "sync_repair": "stuck_subscriptions"})
    assert fixed.rc == 0, fixed.output
    assert "2 subscriptions and keys restored" in fixed.output
    assert (repair.status(subscription), repair.active(key)) == ("active", True)
