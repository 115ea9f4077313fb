# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litemaas_user, promote_admin and user_limits on a real PostgreSQL and the real proxy's users.

LiteMaaS's tables are in a schema of the test's own; LiteLLM's users are made as the backend makes them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database, people
from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.test_litemaas_db_sync import Catalogue


class Portal(Catalogue):
    """LiteMaaS's users, and LiteLLM's of the same ids."""

    def __init__(self, stack: harness.Stack, litellm: harness.LiteLLM) -> None:
        super().__init__(stack.litemaas_dsn)
        self.litellm = litellm
        self.client = LiteLLMClient(stack.url, stack.master_key)
        self.ids = {"ada": str(self.user)}
        for name in ("grace", "alan"):
            row = self.rows(
                "INSERT INTO users (username, email, oauth_provider, oauth_id) VALUES (%s, %s, 'openshift', %s)"
                " RETURNING id::text",
                name,
                f"{name.title()}@example.com",
                name,
            )[0]
            self.ids[name] = row["id"]

    def close(self) -> None:
        self.litellm.request("POST", "/user/delete", json={"user_ids": [*self.in_litellm()]})
        super().close()

    def set(self, *wished: dict[str, Any], check: bool = False, client: Any = None, everybody: bool = False) -> Any:
        with contextlib.closing(database.connect(self.dsn)) as connection:
            wanted = people.wishes(wished, everybody)
            steps = people.People(connection, client or self.client, wanted, check).run()
            self.said = people.message(steps, check)
            return [step.shown() for step in steps]

    def never_logged_in(self, name: str, roles: str) -> None:
        columns = "(username, email, oauth_provider, oauth_id, roles)"
        self.run(f"INSERT INTO users {columns} VALUES ('{name}', '{name}@example.com', 'openshift', '', '{{{roles}}}')")

    def add_to_litellm(self, name: str, **limits: Any) -> None:
        body = {"user_id": self.ids[name], "max_budget": 100, "tpm_limit": 10000, "rpm_limit": 60, **limits}
        self.litellm.post("/user/new", auto_create_key=False, **body)

    def in_litellm(self) -> dict[str, dict[str, Any]]:
        users = self.litellm.get("/user/list", page_size=100)["users"]
        return {user["user_id"]: user for user in users if user["user_id"].split("-x")[0] in self.ids.values()}

    def person(self, name: str) -> dict[str, Any]:
        return self.rows("SELECT * FROM users WHERE id = %s", self.ids[name])[0]

    def state(self) -> list[Any]:
        return [
            self.rows("SELECT xmin::text FROM users ORDER BY username"),
            self.rows("SELECT count(*) FROM audit_logs"),
            self.in_litellm(),
        ]


@pytest.fixture
def portal(stack: harness.Stack, litellm: harness.LiteLLM) -> Iterator[Portal]:
    made = Portal(stack, litellm)
    yield made
    made.close()


def outcome(entries: Any) -> list[str]:
    return [entry["action"] for entry in entries]


def test_limits_are_in_both_stores_and_then_nothing_is_left_to_do(portal: Portal) -> None:
    # An id that begins as another one: LiteLLM's filter finds both.
    portal.litellm.post("/user/new", user_id=f"{portal.ids['ada']}-x", auto_create_key=False)
    portal.add_to_litellm("ada")
    wished = {"user": "ADA@example.com", "max_budget": "12.5", "budget_duration": "30d", "rpm_limit": "unlimited"}
    before = portal.state()
    checked = portal.set(wished, check=True)
    assert portal.state() == before
    done = portal.set(wished)
    assert checked == done
    assert outcome(done) == ["update"]
    fields = ["max_budget", "budget_duration", "rpm_limit"]
    assert [one["field"] for one in done[0]["changes"]] == [*fields, *(f"{name} in LiteLLM" for name in fields)]
    row, there = portal.person("ada"), portal.in_litellm()[portal.ids["ada"]]
    assert (float(row["max_budget"]), row["budget_duration"], row["rpm_limit"]) == (12.5, "30d", 2147483647)
    assert (there["max_budget"], there["budget_duration"], there["rpm_limit"]) == (12.5, "30d", 2147483647)
    assert (row["tpm_limit"], there["tpm_limit"]) == (10000, 10000)
    assert portal.in_litellm()[f"{portal.ids['ada']}-x"]["max_budget"] is None
    trail = portal.rows("SELECT action, resource_type, resource_id, new_values, metadata FROM audit_logs")
    assert trail == [
        {
            "action": "USER_BUDGET_UPDATE",
            "resource_type": "USER",
            "resource_id": portal.ids["ada"],
            "new_values": {"max_budget": 12.5, "budget_duration": "30d", "rpm_limit": 2147483647},
            "metadata": {"source": "rhpds.litemaas"},
        }
    ]
    before = portal.state()
    for check in (True, False):
        assert outcome(portal.set(wished, check=check)) == ["none"]
        assert portal.state() == before


def test_only_litellms_side_is_mended(portal: Portal) -> None:
    portal.add_to_litellm("ada", rpm_limit=5)
    done = portal.set({"user": "ada", "rpm_limit": "60"})
    assert [one["field"] for one in done[0]["changes"]] == ["rpm_limit in LiteLLM"]
    assert portal.in_litellm()[portal.ids["ada"]]["rpm_limit"] == 60
    assert portal.rows("SELECT count(*) FROM audit_logs") == [{"count": 0}]


def test_everybody_is_everybody_who_is_active(portal: Portal) -> None:
    portal.add_to_litellm("grace")
    portal.run("UPDATE users SET is_active = false WHERE username = 'alan'")
    system = portal.rows("SELECT * FROM users WHERE username = 'system'")
    done = portal.set({"tpm_limit": "77"}, everybody=True)
    assert {entry["name"]: entry["action"] for entry in done} == {
        "ada@example.com": "update",
        "Grace@example.com": "update",
    }
    assert [portal.person(name)["tpm_limit"] for name in portal.ids] == [77, 77, 10000]
    assert portal.rows("SELECT * FROM users WHERE username = 'system'") == system
    # Nobody was made in LiteLLM.
    assert {one: user["tpm_limit"] for one, user in portal.in_litellm().items()} == {portal.ids["grace"]: 77}
    assert "its limits come with the first key" in done[0]["msg"]
    assert outcome(portal.set({"tpm_limit": "77"}, everybody=True)) == ["none", "none"]


def test_everybody_has_logged_in_once(portal: Portal) -> None:
    """As with those that are named: a row that nobody has ever logged in with stays as it is, and that is said."""
    portal.never_logged_in("edsger", "user")
    done = {entry["name"]: entry for entry in portal.set({"tpm_limit": "77"}, everybody=True)}
    assert len(done) == 4
    assert done["edsger@example.com"]["msg"] == "nobody has ever logged in with it: left as it is"
    assert portal.rows("SELECT tpm_limit FROM users WHERE username = 'edsger'") == [{"tpm_limit": 10000}]
    assert portal.said == "LiteMaaS users: 3 changed, 1 left out, as nobody has ever logged in with them"
    assert outcome(portal.set({"user": "edsger", "tpm_limit": "77"})) == ["fail"]


def test_the_line_says_what_each_was_and_is(portal: Portal) -> None:
    promote = [{"user": name, "role": "admin"} for name in ("ada", "grace")]
    portal.set(promote[0])
    assert portal.said.startswith("LiteMaaS users: 1 changed. ada: from user to admin; reaches them")
    portal.set(*promote)
    assert portal.said == "LiteMaaS users: 1 changed, 1 as wanted. ada: is admin already; grace: from user to admin"
    portal.set({"user": "grace", "role": "admin-readonly"}, check=True)
    assert portal.said.startswith("LiteMaaS users: 1 to change. grace: from admin to admin-readonly; reaches them")
    portal.set({"user": "grace", "role": "admin"})
    assert portal.said == "LiteMaaS users: 1 as wanted. grace: is admin already"


def test_the_admins_are_listed_and_nothing_is_written(portal: Portal, run_module: Any) -> None:
    dsn = {"litemaas_dsn": portal.dsn}
    none = run_module("litemaas_user", {**dsn, "list_admins": True})
    assert (none["msg"], none["admins"]) == ("LiteMaaS users: 0 admin; 0 admin-readonly", [])
    portal.run("UPDATE users SET roles = '{user,admin}' WHERE username = 'ada'")
    portal.run("UPDATE users SET roles = '{admin-readonly}' WHERE username = 'grace'")
    portal.run("UPDATE users SET roles = '{admin}', is_active = false WHERE username = 'alan'")
    portal.never_logged_in("edsger", "admin")
    before = portal.state()
    done = run_module("litemaas_user", {**dsn, "list_admins": True})
    assert not done.changed and not done.failed, done
    assert portal.state() == before
    assert done["msg"] == (
        "LiteMaaS users: 3 admin: ada@example.com, Alan@example.com (inactive),"
        " edsger@example.com (nobody has ever logged in with it); 1 admin-readonly: Grace@example.com"
    )
    assert done["admins"][0] == {
        "name": "ada@example.com",
        "username": "ada",
        "role": "admin",
        "active": True,
        "logged_in": True,
    }
    both = run_module("litemaas_user", {**dsn, "list_admins": True, "user": "ada", "role": "user"})
    assert both.failed and "user, role would change somebody" in both["msg"]
    assert portal.state() == before


def test_who_cannot_be_changed_is_said_and_the_others_are(portal: Portal) -> None:
    portal.run("UPDATE users SET is_active = false WHERE username = 'alan'")
    portal.run("UPDATE users SET username = 'Grace@example.com' WHERE username = 'ada'")
    wished = [
        {"user": name, "role": "admin"}
        for name in ("nobody@example.com", "system", "alan", "Grace@example.com", "ada@example.com")
    ]
    done = {entry["name"]: entry for entry in portal.set(*wished)}
    assert "log in to the portal once" in done["nobody@example.com"]["msg"]
    assert "never changed" in done["system"]["msg"]
    assert "is inactive" in done["alan"]["msg"]
    assert "that only one has" in done["Grace@example.com"]["msg"]
    assert [name for name, entry in done.items() if entry["changed"]] == ["ada@example.com"]
    twice = portal.set({"user": "grace@example.com", "role": "admin"}, {"user": "grace", "role": "user"})
    assert outcome(twice) == ["fail", "fail"]
    assert portal.person("grace")["roles"] == ["user"]


def test_the_last_admin_stays(portal: Portal) -> None:
    promote = [{"user": name, "role": "admin"} for name in ("ada", "grace")]
    portal.set(*promote)
    portal.run("UPDATE users SET roles = '{admin,user,auditor}' WHERE username = 'grace'")
    portal.run("UPDATE users SET roles = '{admin}', is_active = false WHERE username = 'alan'")
    # Nobody has ever logged in with this one, so that it makes no admins.
    portal.never_logged_in("edsger", "admin")
    both = portal.set({"user": "ada", "role": "user"}, {"user": "grace", "role": "admin-readonly"})
    assert outcome(both) == ["fail", "fail"]
    assert outcome(portal.set({"user": "ada", "role": "user"})) == ["update"]
    last = portal.set({"user": "grace", "role": "user"})
    assert "is the last admin" in last[0]["msg"]
    assert portal.person("grace")["roles"] == ["admin", "user", "auditor"]
    swap = portal.set({"user": "grace", "role": "admin-readonly"}, {"user": "ada", "role": "admin"})
    assert outcome(swap) == ["update", "update"]
    assert portal.person("grace")["roles"] == ["admin-readonly", "user", "auditor"]
    trail = portal.rows("SELECT old_values, new_values FROM audit_logs WHERE resource_id = %s", portal.ids["grace"])
    assert trail[-1] == {
        "old_values": {"roles": ["admin", "user", "auditor"]},
        "new_values": {"roles": ["admin-readonly", "user", "auditor"]},
    }


class Deaf(LiteLLMClient):
    """LiteLLM takes the change and keeps what it had, or refuses."""

    refuse = False

    def post(self, path: str, body: dict[str, Any]) -> Any:
        if self.refuse:
            raise LiteLLMError(f"POST {path}", status=500, words="no connection free")
        return {"user_id": body["user_id"]}


@pytest.mark.parametrize("refuse", [False, True])
def test_litellm_that_does_not_take_it_is_an_error_and_tried_again(
    portal: Portal, stack: harness.Stack, refuse: bool
) -> None:
    portal.add_to_litellm("ada")
    deaf = Deaf(stack.url, stack.master_key)
    deaf.refuse = refuse
    done = portal.set({"user": "ada", "tpm_limit": "5"}, client=deaf)
    assert "LiteLLM did not take tpm_limit" in done[0]["msg"]
    assert ("no connection free" in done[0]["msg"]) is refuse
    again = portal.set({"user": "ada", "tpm_limit": "5"})
    assert [one["field"] for one in again[0]["changes"]] == ["tpm_limit in LiteLLM"]


def test_litellm_that_cannot_be_read_leaves_all_as_it_was(portal: Portal) -> None:
    before = portal.state()
    with pytest.raises(LiteLLMError):
        portal.set({"user": "ada", "tpm_limit": "5"}, client=LiteLLMClient("http://127.0.0.1:9", "sk-x", retries=0))
    assert portal.state() == before


def test_the_playbooks(portal: Portal, run_playbook: Any, stack: harness.Stack) -> None:
    dsn = {"litemaas_dsn": portal.dsn}
    promote = {**dsn, "email": "ada@example.com, grace", "role": "admin"}
    checked = run_playbook("rhpds.litemaas.promote_admin", promote, check=True)
    assert (checked.rc, checked.changed) == (0, 1), checked.output
    assert portal.person("ada")["roles"] == ["user"]
    done = run_playbook("rhpds.litemaas.promote_admin", promote, verbosity=3)
    assert (done.rc, done.changed) == (0, 1), done.output
    assert "LiteMaaS users: 2 changed" in done.output
    assert portal.person("ada")["roles"] == portal.person("grace")["roles"] == ["admin", "user"]
    assert run_playbook("rhpds.litemaas.promote_admin", promote).changed == 0
    portal.add_to_litellm("ada")
    limits = {**dsn, "all": True, "max_budget": 5, "tpm_limit": "unlimited"}
    done = run_playbook("rhpds.litemaas.user_limits", limits, verbosity=3, diff=True)
    assert (done.rc, done.changed) == (0, 1), done.output
    assert "LiteMaaS users: 3 changed" in done.output
    assert portal.in_litellm()[portal.ids["ada"]]["max_budget"] == 5
    assert run_playbook("rhpds.litemaas.user_limits", limits).changed == 0
    done = run_playbook("rhpds.litemaas.user_limits", {**dsn, "email": "ada@example.com,alan", "rpm_limit": 7})
    assert (done.rc, done.changed) == (0, 1), done.output
    assert [portal.person(name)["rpm_limit"] == 7 for name in ("ada", "alan", "grace")] == [True, True, False]
    nobody = run_playbook("rhpds.litemaas.user_limits", {**dsn, "max_budget": 5, "tmp_limit": 1})
    assert nobody.rc == 2
    assert "say whose: email, or all" in nobody.output
    assert "tmp_limit is no variable of user_limits: did you mean tpm_limit?" in nobody.output
    for secret in (stack.master_key, *re.findall(r"://[^:]+:([^@]+)@", stack.litemaas_dsn)):
        assert secret not in done.output
