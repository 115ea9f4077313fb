# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litellm_key_cleanup on the real proxy and the real databases.

LiteMaaS's tables are in a schema of the test's own. LiteLLM's keys are everybody's, so every run here protects what
does not begin with the test's prefix.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_cleanup
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError
from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness
from ansible_collections.rhpds.litemaas.tests.stack import faults

SCHEMA = Path(__file__).resolve().parents[1] / "stack" / "litemaas_schema.sql"
MODULE = "litellm_key_cleanup"
EVERYTHING = ["expired", "revoked_alive", "inactive_owner", "orphaned_rows"]


class Stores:
    """Keys in both stores, under the test's prefix."""

    def __init__(self, stack: harness.Stack, prefix: str) -> None:
        self.stack, self.prefix = stack, prefix
        self.litellm = harness.connect(stack.litellm_dsn)
        plain = harness.connect(stack.litemaas_dsn)
        self.schema = f"c_{uuid.uuid4().hex[:12]}"
        mark = "&" if "?" in stack.litemaas_dsn else "?"
        self.dsn = f"{stack.litemaas_dsn}{mark}options={quote('-csearch_path=' + self.schema)}"
        with plain.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {self.schema}")
        self.admin = plain
        self.litemaas = harness.connect(self.dsn)
        with self.litemaas.cursor() as cursor:
            cursor.execute(SCHEMA.read_text())
        self.users = {active: self.user(active) for active in (True, False)}

    def close(self) -> None:
        self.litemaas.close()
        with self.admin.cursor() as cursor:
            cursor.execute(f"DROP SCHEMA {self.schema} CASCADE")
        with self.litellm.cursor() as cursor:
            for table in ("LiteLLM_VerificationToken", "LiteLLM_DeletedVerificationToken"):
                cursor.execute(f'DELETE FROM "{table}" WHERE starts_with(key_alias, %s)', (self.prefix,))
        self.admin.close()
        self.litellm.close()

    def user(self, active: bool) -> str:
        name = uuid.uuid4().hex
        return str(
            self.one(
                "INSERT INTO users (username, email, oauth_provider, oauth_id, is_active)"
                " VALUES (%s, %s, 'openshift', %s, %s) RETURNING id",
                *(name, f"{name}@example.com", name, active),
            )
        )

    def one(self, query: str, *values: Any) -> Any:
        with self.litemaas.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchone()[0]

    def key(
        self,
        name: str,
        expires: str | None = "-9 days",
        created: str = "-10 days",
        *,
        row: bool | None = None,
        **more: Any,
    ) -> str:
        """A key of LiteLLM's; with ``row`` one of LiteMaaS's too, active or not. Gives its token."""
        alias = self.prefix + name
        token = derive.token_of(f"sk-{alias}")
        columns = {"token": token, "key_name": "sk-...", "key_alias": alias, "metadata": "{}", "models": "{}", **more}
        moments = {"expires": expires, "created_at": created}
        names = ", ".join([*columns, *moments])
        places = ["%s"] * len(columns) + ["timezone('utc', now()) + %s::interval"] * len(moments)
        with self.litellm.cursor() as cursor:
            cursor.execute(
                f'INSERT INTO "LiteLLM_VerificationToken" ({names}) VALUES ({", ".join(places)})',
                [*columns.values(), *moments.values()],
            )
        if row is not None:
            self.row(name, token, active=row)
        return token

    def row(self, name: str, token: str | None = None, *, active: bool = True, owner: bool = True) -> str:
        return str(
            self.one(
                "INSERT INTO api_keys (user_id, name, key_hash, key_prefix, lite_llm_key_value, litellm_key_alias,"
                " is_active, revoked_at, metadata) VALUES (%s, 'k', %s, 'sk-', 'sk-never-to-be-seen', %s, %s,"
                " CASE WHEN NOT %s THEN now() END, '{\"a\": 1}') RETURNING id",
                *(self.users[owner], token or uuid.uuid4().hex * 2, self.prefix + name, active, active),
            )
        )

    def delete(self, tokens: list[str]) -> dict[str, Any]:
        """As the proxy would."""
        harness.LiteLLM(self.stack.url, self.stack.master_key, self.stack.litellm_dsn).post("/key/delete", keys=tokens)
        return {"deleted_keys": tokens}

    def alive(self) -> list[str]:
        """Names of the keys that LiteLLM has."""
        return self._names('SELECT key_alias FROM "LiteLLM_VerificationToken" WHERE starts_with(key_alias, %s)')

    def archived(self) -> list[str]:
        return self._names('SELECT key_alias FROM "LiteLLM_DeletedVerificationToken" WHERE starts_with(key_alias, %s)')

    def _names(self, query: str) -> list[str]:
        with self.litellm.cursor() as cursor:
            cursor.execute(query, (self.prefix,))
            return sorted(alias.removeprefix(self.prefix) for (alias,) in cursor)

    def rows(self) -> dict[str, tuple[bool, bool, str, str | None]]:
        """Name → whether active, whether it has a moment of revocation, sync_status and sync_error."""
        with self.litemaas.cursor() as cursor:
            cursor.execute(
                "SELECT litellm_key_alias, is_active, revoked_at IS NOT NULL, sync_status, sync_error, metadata"
                " FROM api_keys"
            )
            found = cursor.fetchall()
        assert all(metadata == {"a": 1} for *_others, metadata in found), "a note was left, or somebody's data lost"
        return {alias.removeprefix(self.prefix): tuple(rest) for alias, *rest, _metadata in found}

    def options(self, **more: Any) -> dict[str, Any]:
        others = f"(?!{self.prefix}).*"
        given = {"protected_aliases": [others, *more.pop("protected_aliases", [])], "allow_mass_cleanup": True}
        given |= {"litemaas_dsn": self.dsn, "litellm_dsn": self.stack.litellm_dsn, **more}
        return {name: value for name, value in given.items() if value is not None}

    def clean(self, client: LiteLLMClient | None = None, *, check_mode: bool = False, **more: Any) -> dict[str, Any]:
        """A run in this process."""
        given = self.options(**more)
        defaults: dict[str, Any] = {"policies": ["expired"], "grace": "1d", "older_than": None, "include_valid": False}
        defaults |= {"include_no_expiry": False, "gone_guids": [], "protected_marks": [], "named": []}
        params = {**defaults, **given}
        connections = [
            database.connect(given[name], option=name) if name in given else None
            for name in ("litemaas_dsn", "litellm_dsn")
        ]
        warnings: list[str] = []
        names = ("max_percent", "allow_mass_cleanup", "report_limit", "workers")
        try:
            run = key_cleanup.Cleanup(
                client or LiteLLMClient(self.stack.url, self.stack.master_key),
                lambda now: key_cleanup.policy_from_options(params, now),
                key_cleanup.Options(**{name: given[name] for name in names if name in given}),
                *connections,
                warn=warnings.append,
            )
            return {**run.run(check_mode), "warnings": warnings}
        finally:
            for connection in connections:
                if connection is not None:
                    connection.close()

    def named(self, report: dict[str, Any]) -> dict[str, list[str]]:
        """Reason → names of the test's own."""
        found = {
            reason: [name.removeprefix(self.prefix) for name in one["items"] if name.startswith(self.prefix)]
            for reason, one in report.items()
        }
        return {reason: names for reason, names in found.items() if names}


@pytest.fixture
def stores(stack: harness.Stack, prefix: str) -> Iterator[Stores]:
    made = Stores(stack, prefix)
    yield made
    made.close()


def revoked(policy: str) -> tuple[bool, bool, str, str]:
    return False, True, "error", key_cleanup.WHY[policy]


ACTIVE = (True, False, "pending", None)


def test_the_module_deletes_in_both_stores_and_finds_nothing_the_second_time(stores: Stores, run_module: Any) -> None:
    stores.key("old", row=True)
    stores.key("fresh", expires="5 days", row=True)
    stores.key("grace", expires="-2 hours", row=True)
    stores.key("never", expires=None, row=True)
    args = stores.options()
    foreseen = run_module(MODULE, args, check=True)
    assert foreseen.changed, foreseen
    assert foreseen["summary"]["deleted"] == 1
    assert "1 of " in foreseen["msg"]
    assert "to delete (1 expired); 1 rows of LiteMaaS to revoke" in foreseen["msg"]
    assert stores.alive() == ["fresh", "grace", "never", "old"]
    assert set(stores.rows().values()) == {ACTIVE}
    done = run_module(MODULE, args)
    assert done.changed, done
    assert "deleted (1 expired); 1 rows of LiteMaaS revoked; kept: " in done["msg"]
    assert stores.named(done["report"]["deleted"]) == {"expired": ["old"]}
    assert stores.named(done["report"]["kept"])["in_grace"] == ["grace"]
    assert stores.alive() == ["fresh", "grace", "never"]
    assert stores.archived() == ["old"]
    assert stores.rows() == {"old": revoked("expired"), "fresh": ACTIVE, "grace": ACTIVE, "never": ACTIVE}
    for check in (False, True):
        again = run_module(MODULE, args, check=check)
        assert not again.changed and not again.failed, again
    assert "sk-" not in str([foreseen, done])


def test_every_policy_in_both_stores(stores: Stores) -> None:
    stores.key("expired", row=True)
    stores.key("of-gone-lab", expires=None, metadata='{"guid": "gone"}', row=True)
    stores.key("of-other-lab", expires=None, metadata='{"guid": "here"}', row=True)
    stores.key("revoked", expires=None, row=False)
    stores.key("revoked-blocked", expires=None, row=False, blocked=True)
    stores.key("revoked-expired", expires="-1 hour", row=False)
    owned = stores.key("owned", expires=None)
    stores.row("owned", owned, owner=False)
    stores.key("by-user-id", expires="5 days", user_id=stores.users[False])
    stores.key("ancient", expires="5 days", created="-200 days")
    stores.row("orphan")
    stores.row("renamed", stores.key("was-renamed", expires="5 days"))
    stores.row("ancient", active=True)  # by its alias alone
    given: dict[str, Any] = {"policies": [*EVERYTHING, "gone_guids", "older_than"], "gone_guids": ["gone"]}
    given |= {"older_than": "100d", "include_valid": True}
    going = {
        "expired": ["expired"],
        "gone_guids": ["of-gone-lab"],
        "revoked_alive": ["revoked"],
        "inactive_owner": ["by-user-id", "owned"],
        "older_than": ["ancient"],
    }
    foreseen = stores.clean(check_mode=True, **given)
    assert stores.named(foreseen["report"]["going"]) == going
    assert stores.named({"orphan": foreseen["report"]["orphaned_rows"]}) == {"orphan": ["orphan"]}
    moment = "SELECT revoked_at FROM api_keys WHERE litellm_key_alias = %s"
    before = stores.one(moment, f"{stores.prefix}revoked")
    done = stores.clean(**given)
    assert not done["failed"], done
    assert stores.one(moment, f"{stores.prefix}revoked") == before
    assert {name: done["summary"][name] for name in ("deleted", "revoked")} == {"deleted": 6, "revoked": 6}
    assert done["summary"] == foreseen["summary"]
    assert stores.named(done["report"]["deleted"]) == going
    assert stores.alive() == ["of-other-lab", "revoked-blocked", "revoked-expired", "was-renamed"]
    assert stores.rows() == {
        "expired": revoked("expired"),
        "of-gone-lab": revoked("gone_guids"),
        "of-other-lab": ACTIVE,
        "revoked": revoked("revoked_alive"),
        "revoked-blocked": (False, True, "pending", None),
        "revoked-expired": (False, True, "pending", None),
        "owned": revoked("inactive_owner"),
        "ancient": revoked("older_than"),
        "orphan": revoked("orphaned_rows"),
        "renamed": ACTIVE,
    }
    assert not stores.clean(**given)["changed"]


def test_rows_that_only_share_an_alias_with_a_key_that_goes_stay(stores: Stores) -> None:
    stores.key("twin")
    stores.key("twin", expires="5 days", token=derive.token_of(f"sk-{stores.prefix}another"))
    by_alias = stores.row("twin")
    # It has the key of its hash, whatever its alias says.
    stores.key("renamed")
    renamed = stores.row("renamed", stores.key("was-renamed", expires="5 days"))
    # The key is another row's.
    stores.row("shared", stores.key("shared"))
    shared = stores.row("shared")
    # An active row that nobody can judge.
    nameless = stores.row("nameless")
    with stores.litemaas.cursor() as cursor:
        cursor.execute("UPDATE api_keys SET litellm_key_alias = NULL WHERE id = %s", (nameless,))
    done = stores.clean(policies=["expired", "orphaned_rows"])
    assert not done["failed"] and done["summary"]["revoked"] == 1, done
    assert stores.alive() == ["twin", "was-renamed"]
    with stores.litemaas.cursor() as cursor:
        cursor.execute("SELECT id::text FROM api_keys WHERE is_active")
        assert {row for (row,) in cursor} == {by_alias, renamed, shared, nameless}


def test_what_is_protected_stays_and_is_counted(stores: Stores) -> None:
    stores.key("robot", metadata='{"automation": true}')
    stores.key("team-a")
    stores.key("marked", metadata='{"environment": "production"}')
    stores.key("marked-otherwise", metadata='{"environment": "test"}')
    stores.key("never", expires=None, created="-300 days")
    stores.key("valid", expires="3 days", created="-300 days")
    given = {
        "policies": ["expired", "older_than"],
        "older_than": "200d",
        "protected_aliases": [f"{stores.prefix}team-.*"],
        "protected_marks": ["environment=production"],
    }
    done = stores.clean(**given)
    assert stores.alive() == ["marked", "never", "robot", "team-a", "valid"]
    kept = stores.named(done["report"]["kept"])
    assert kept == {
        "automation": ["robot"],
        "protected_alias": ["team-a"],
        "protected_mark": ["marked"],
        "no_expiry": ["never"],
        "still_valid": ["valid"],
    }
    assert "1 marked as automation's" in done["msg"]
    named = [f"{stores.prefix}{name}" for name in ("robot", "team-a", "marked", "never", "valid")]
    stores.clean(**given, named=named)
    assert stores.alive() == []


def test_more_than_its_share_is_refused_whole(stores: Stores) -> None:
    for number in range(6):
        stores.key(f"k{number}", row=True)
    for number in range(6):
        stores.row(f"o{number}")
    given: dict[str, Any] = {"allow_mass_cleanup": False, "max_percent": 0}
    for policies in (["expired"], ["orphaned_rows"]):
        refused = stores.clean(policies=policies, **given)
        assert refused["failed"] and not refused["changed"]
        assert refused["msg"].startswith("Nothing was deleted: ")
        assert "6 of " in refused["msg"] and "cleanup_allow_mass_cleanup=true" in refused["msg"]
    assert len(stores.alive()) == 6
    assert set(stores.rows().values()) == {ACTIVE}
    # Five always may.
    stores.clean(policies=["expired"], named=[], protected_aliases=[f"{stores.prefix}k5"], **given)
    assert stores.alive() == ["k5"]


def test_read_through_the_api_it_comes_to_the_same(stores: Stores) -> None:
    stores.key("old", row=True)
    stores.key("robot", metadata='{"automation": true}', row=True)
    stores.key("fresh", expires="5 days", row=True)
    stores.row("orphan")
    given: dict[str, Any] = {"policies": EVERYTHING, "litellm_dsn": None}
    foreseen = stores.clean(check_mode=True, **given)
    by_table = stores.clean(check_mode=True, policies=EVERYTHING)
    assert (foreseen["report"].pop("key_source"), by_table["report"].pop("key_source")) == ("api", "litellm_dsn")
    assert foreseen["report"] == by_table["report"]
    done = stores.clean(**given)
    assert not done["failed"], done
    assert stores.alive() == ["fresh", "robot"]
    assert stores.rows() == {
        "old": revoked("expired"),
        "orphan": revoked("orphaned_rows"),
        "robot": ACTIVE,
        "fresh": ACTIVE,
    }


def test_the_proxy_alone(stores: Stores, run_module: Any) -> None:
    stores.key("old", row=True)
    stores.key("fresh", expires="3 days")
    args = {**stores.options(litellm_dsn=None, litemaas_dsn=None, policies=EVERYTHING)}
    bare = {"LITELLM_DSN": "", "LITEMAAS_DSN": ""}
    done = run_module(MODULE, args, env=bare)
    assert done.changed and not done.failed, done
    assert "LiteMaaS's rows left out" in done["msg"]
    assert "inactive_owner, orphaned_rows, revoked_alive: left out" in str(done["warnings"])
    assert stores.alive() == ["fresh"]
    assert stores.rows() == {"old": ACTIVE}
    # What is left is found as an orphan later.
    stores.clean(policies=["orphaned_rows"])
    assert stores.rows() == {"old": revoked("orphaned_rows")}


def test_a_shared_database_and_a_namespace(
    stores: Stores, namespace: cluster.Namespace, run_module: Any, stack: harness.Stack
) -> None:
    """Both layouts, found in the cluster; LiteMaaS's own tables are whatever the stack has."""
    for shared in (False, True):
        stores.key(f"old{shared}")
        if shared:
            namespace.delete("v1", "Secret", "litemaas-db")
            namespace.secret("litemaas-db", DATABASE_URL=namespace.inside(stack.litellm_dsn))
        else:
            namespace.litemaas()
        args = stores.options(litellm_dsn=None, litemaas_dsn=None) | {"namespace": namespace.name}
        bare = dict.fromkeys(("LITELLM_URL", "LITELLM_MASTER_KEY", "LITELLM_DSN", "LITEMAAS_DSN"), "")
        done = run_module(MODULE, args, env={**bare, "K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"]})
        assert done.changed and not done.failed, done
        assert done["report"]["key_source"] == ("shared database" if shared else "litellm_dsn")
        assert "through pod" in done["found"]["litemaas_dsn"]
        assert stores.alive() == []


class Meddler(LiteLLMClient):
    """A client with whom something goes wrong right before, or instead of, the deletion."""

    def __init__(self, stack: harness.Stack, before: Any = None, answer: Any = None) -> None:
        super().__init__(stack.url, stack.master_key)
        self.before, self.answer, self.deletions = before, answer, 0

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if path == "/key/delete":
            self.deletions += 1
            if self.before:
                self.before()
            if self.answer:
                return self.answer(body)
        return super().post(path, body)


def test_a_200_is_not_believed(stores: Stores) -> None:
    stores.key("old", row=True)
    done = stores.clean(Meddler(stores.stack, answer=lambda body: {"deleted_keys": body["keys"]}))
    assert done["failed"] and not done["changed"]
    assert "still there" in done["msg"] and "old" in done["msg"]
    assert stores.rows() == {"old": ACTIVE}


def test_a_refused_batch_stops_the_run_and_the_next_one_goes_on(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cleanup, "BATCH", 2)
    for number in range(6):
        stores.key(f"k{number}", row=True)

    def answer(_body: Any) -> None:
        raise LiteLLMError("POST /key/delete", status=503, words="upstream connect error")

    client = Meddler(stores.stack, answer=answer)
    done = stores.clean(client, workers=1)
    assert client.deletions == 1
    assert done["failed"]
    assert "2 failed" in done["msg"] and "upstream connect error" in done["msg"]
    assert "4 not tried any more. Run it again" in done["msg"]
    assert done["summary"]["failed"] == 6
    assert set(stores.rows().values()) == {ACTIVE}
    assert not stores.clean()["failed"]
    assert stores.alive() == []


def test_a_batch_that_is_too_much_for_the_proxy_is_done_in_pieces(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cleanup, "PIECE", 2)
    for number in range(5):
        stores.key(f"k{number}", row=True)

    def answer(body: Any) -> Any:
        if len(body["keys"]) > 2:
            raise LiteLLMError("POST /key/delete", status=500, words="lookup did not answer within 10s")
        return stores.delete(body["keys"])

    client = Meddler(stores.stack, answer=answer)
    done = stores.clean(client)
    assert not done["failed"], done
    assert (client.deletions, done["summary"]["deleted"], done["summary"]["revoked"]) == (4, 5, 5)
    assert stores.alive() == []
    assert set(stores.rows().values()) == {revoked("expired")}


def test_a_key_that_was_extended_or_deleted_meanwhile(stores: Stores) -> None:
    token = stores.key("extended", row=True)
    gone = stores.key("gone", row=True)
    stores.key("old", row=True)
    read = key_cleanup.TableStore.all

    def all_and_then(store: Any) -> Any:
        keys = read(store)
        with stores.litellm.cursor() as cursor:
            cursor.execute(
                "UPDATE \"LiteLLM_VerificationToken\" SET expires = now() + '3 days'::interval WHERE token = %s",
                (token,),
            )
            cursor.execute('DELETE FROM "LiteLLM_VerificationToken" WHERE token = %s', (gone,))
        # Somebody makes a key while ours are listed: its row is not judged by what was read before it.
        stores.row("newcomer")
        return keys

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_cleanup.TableStore, "all", all_and_then)
        done = stores.clean(policies=["expired", "orphaned_rows"])
    assert not done["failed"], done
    assert stores.alive() == ["extended"]
    assert stores.named(done["report"]["kept"])["changed_meanwhile"] == ["extended"]
    assert stores.rows() == {
        "extended": ACTIVE,
        "gone": revoked("expired"),
        "newcomer": ACTIVE,
        "old": revoked("expired"),
    }


def test_an_error_that_comes_after_the_deed_and_a_row_that_its_owner_revokes_meanwhile(stores: Stores) -> None:
    stores.key("old", row=True)
    stores.key("own", row=True)

    def before() -> None:
        with stores.litemaas.cursor() as cursor:
            cursor.execute(
                "UPDATE api_keys SET is_active = false, revoked_at = now(), sync_error = 'by its owner'"
                " WHERE litellm_key_alias = %s",
                (f"{stores.prefix}own",),
            )

    def answer(body: Any) -> None:
        stores.delete(body["keys"])
        raise LiteLLMError("POST /key/delete", status=502, words="upstream connect error")

    done = stores.clean(Meddler(stores.stack, before, answer))
    assert not done["failed"] and (done["summary"]["deleted"], done["summary"]["revoked"]) == (2, 1), done
    assert stores.alive() == []
    assert stores.rows() == {"old": revoked("expired"), "own": (False, True, "pending", "by its owner")}


def test_a_database_that_is_not_the_proxys_is_not_acted_on(stores: Stores) -> None:
    stores.key("old", row=True)
    stores.row("orphan")
    with stores.admin.cursor() as cursor:
        cursor.execute(
            f'CREATE TABLE {stores.schema}."LiteLLM_VerificationToken" (token text, key_alias text,'
            " expires timestamp, blocked boolean, created_at timestamp, user_id text, team_id text, metadata jsonb)"
        )
    with pytest.raises(DatabaseError, match=r"it lacks .* which the proxy has.*Nothing was done"):
        stores.clean(litellm_dsn=stores.dsn, policies=EVERYTHING)
    # Left behind in LiteMaaS's own database: the API is asked.
    done = stores.clean(litellm_dsn=None, policies=EVERYTHING, check_mode=True)
    assert done["report"]["key_source"] == "api"
    assert "not this proxy's" in done["warnings"][0]
    assert stores.rows() == {"old": ACTIVE, "orphan": ACTIVE}


def test_an_empty_or_partial_list_is_not_acted_on(stores: Stores) -> None:
    stores.key("old", row=True)
    stores.key("another")
    stores.row("orphan")
    for action, words in (("empty_page", "came back empty"), ("truncated_page", "were announced")):
        with faults.FaultProxy(stores.stack.url) as broken:
            broken.add_rule("GET", r"/key/list", action, count=None)
            client = LiteLLMClient(broken.url, stores.stack.master_key)
            try:
                done = stores.clean(client, litellm_dsn=None, policies=EVERYTHING)
                assert done["failed"], done
                said = done["msg"]
            except LiteLLMError as failure:
                said = str(failure)
        assert words in said
        assert stores.alive() == ["another", "old"]
        assert stores.rows() == {"old": ACTIVE, "orphan": ACTIVE}


def test_killed_half_way_and_run_again_ends_the_same(stores: Stores, runner: harness.Runner) -> None:
    """Killed by the kernel between two batches."""
    with stores.litellm.cursor() as cursor:
        cursor.execute(
            'INSERT INTO "LiteLLM_VerificationToken"'
            " (token, key_name, key_alias, expires, models, metadata, created_at)"
            " SELECT encode(sha256((%s || n)::bytea), 'hex'), 'sk-...', %s || n,"
            " timezone('utc', now()) - interval '9 days', '{}', '{}', now() FROM generate_series(1, 500) n",
            (stores.prefix, stores.prefix),
        )
    with stores.litemaas.cursor() as cursor:
        cursor.execute(
            "INSERT INTO api_keys (user_id, name, key_hash, key_prefix, litellm_key_alias, is_active, metadata)"
            " SELECT %s, 'k', encode(sha256((%s || n)::bytea), 'hex'), 'sk-', %s || n, true, '{\"a\": 1}'"
            " FROM generate_series(1, 500) n",
            (stores.users[True], stores.prefix, stores.prefix),
        )
    place = Path(runner.environment()["PYTHONPATH"]) / "ansible_collections/rhpds/litemaas/plugins/modules"
    output = runner.folder / "output"
    process = subprocess.Popen(
        [sys.executable, str(place / f"{MODULE}.py")],
        stdin=subprocess.PIPE,
        stdout=output.open("w"),
        env=runner.environment(),
        cwd=runner.folder,
    )
    assert process.stdin
    args = {**stores.options(), "concurrency": 1, "_ansible_remote_tmp": str(runner.folder)}
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode())
    process.stdin.close()
    deadline = time.monotonic() + 60
    while len(stores.alive()) == 500 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, output.read_text()
    process.kill()
    process.wait()
    left = _settled(stores)
    assert 0 < left < 500, f"{left} left; {output.read_text()}"
    done = stores.clean()
    assert not done["failed"], done
    assert stores.alive() == []
    assert set(stores.rows().values()) == {revoked("expired")}
    assert len(set(stores.archived())) == 500


def _settled(stores: Stores) -> int:
    """How many keys are left once the proxy has ended what it was told."""
    before, left = -1, len(stores.alive())
    while before != left:
        time.sleep(0.5)
        before, left = left, len(stores.alive())
    return left


def test_notes_of_a_killed_run_are_judged_by_what_became_of_the_key(stores: Stores) -> None:
    """Whatever the next run's own policies are."""
    fresh = stores.key("fresh", expires="3 days")
    rows = [stores.row("gone"), stores.row("fresh", fresh), stores.row("closed", active=False)]
    with stores.litemaas.cursor() as cursor:
        cursor.execute(
            "UPDATE api_keys SET metadata = metadata || jsonb_build_object(%s::text, 'inactive_owner'::text)"
            " WHERE id = ANY(%s::uuid[])",
            (key_cleanup.NOTE, rows),
        )
    done = stores.clean()
    assert done["changed"] and done["summary"]["revoked"] == 1, done
    closed = (False, True, "pending", None)
    assert stores.rows() == {"gone": revoked("inactive_owner"), "fresh": ACTIVE, "closed": closed}
    assert not stores.clean()["changed"]


@pytest.mark.parametrize("metadata", ["null", None, '{"a": 1}'])
def test_a_note_leaves_metadata_as_they_were(stores: Stores, metadata: str | None) -> None:
    stores.key("old", row=True)
    with stores.litemaas.cursor() as cursor:
        cursor.execute("UPDATE api_keys SET metadata = %s", (metadata,))
    assert stores.clean()["summary"]["revoked"] == 1
    found = stores.one("SELECT metadata FROM api_keys")
    assert found == ({"a": 1} if metadata and "a" in metadata else {})


def test_grace_is_counted_from_the_expiry(stores: Stores) -> None:
    stores.key("ten-days", expires="-10 days")
    assert stores.clean(grace="11d", check_mode=True)["summary"]["deleted"] == 0
    assert stores.clean(grace="9d", check_mode=True)["summary"]["deleted"] == 1


@pytest.mark.parametrize(
    ("column", "value", "kept"),
    [
        ("metadata", "null", True),
        # An update that mends it on 1.81.14 is refused by 1.106.0.
        ("metadata", '"a text"', False),
        ("aliases", "[1]", True),
        ("expires", "10000-01-01", False),
        ("expires", "0044-03-15 BC", False),
        ("created_at", "infinity", False),
    ],
)
def test_a_row_that_litellm_cannot_read_is_named_with_the_way_on(
    stores: Stores, run_module: Any, column: str, value: str, kept: bool
) -> None:
    stores.key("old")
    token = stores.key("broken")

    def spoil() -> None:
        with stores.litellm.cursor() as cursor:
            cursor.execute(f'UPDATE "LiteLLM_VerificationToken" SET {column} = %s WHERE token = %s', (value, token))

    spoil()
    client = LiteLLMClient(stores.stack.url, stores.stack.master_key, retries=0)
    for given in ({}, {"litemaas_dsn": None}):
        with pytest.raises(DatabaseError) as caught:
            stores.clean(client, **given)
        said = str(caught.value)
        assert f"can't read {stores.prefix}broken ({column}; token {token})" in said
        assert "Nothing was deleted. rhpds.litemaas.litellm_virtual_key_rows with the token in tokens" in said
        assert ("POST /key/update" in said) is kept
    with pytest.raises(DatabaseError, match=r"nothing was deleted\. Where a row .* litellm_dsn names it"):
        stores.clean(client, litemaas_dsn=None, litellm_dsn=None)
    assert stores.alive() == ["broken", "old"]
    if kept:
        proxy = harness.LiteLLM(stores.stack.url, stores.stack.master_key, stores.stack.litellm_dsn)
        proxy.post("/key/update", key=token, **{column: {}})
        assert not stores.clean(check_mode=True)["failed"]
        spoil()
    done = run_module(
        "litellm_virtual_key_rows",
        {"litellm_dsn": stores.stack.litellm_dsn, "guid": "none", "tokens": [token], "only_tokens": True},
    )
    assert done.changed, done
    assert stores.alive() == ["old"] and stores.archived() == ["broken"]
    assert not stores.clean()["failed"]
    assert stores.alive() == []
