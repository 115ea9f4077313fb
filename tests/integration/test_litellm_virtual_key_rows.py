# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litellm_virtual_key_rows against the real proxy's database."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.cluster import Namespace

MODULE = "litellm_virtual_key_rows"
KEYS = '"LiteLLM_VerificationToken"'
ARCHIVE = '"LiteLLM_DeletedVerificationToken"'


class Rows:
    """Runs the module for the test's own lab."""

    def __init__(self, runner: harness.Runner, litellm: harness.LiteLLM, db: Any, prefix: str) -> None:
        self.runner, self.litellm, self.db, self.prefix = runner, litellm, db, prefix
        self.guid = f"{prefix}g"

    def run(self, *, check: bool = False, **options: Any) -> harness.ModuleResult:
        return self.runner.module(MODULE, {"guid": self.guid, **options}, check=check, diff=True)

    def ok(self, **options: Any) -> harness.ModuleResult:
        result = self.run(**options)
        assert not result.failed, result["msg"]
        return result

    def ours(self, *aliases: str, **options: Any) -> list[dict[str, Any]]:
        """Keys as the collection makes them."""
        options = {"guid": self.guid, "keys": [{"key_alias": self.prefix + one} for one in aliases], **options}
        result = self.runner.module("litellm_virtual_key", options)
        assert not result.failed, result["msg"]
        return list(result["results"])

    def theirs(self, alias: str, **metadata: Any) -> str:
        """The token of a key that somebody else made."""
        made = self.litellm.post("/key/generate", key_alias=self.prefix + alias, metadata=metadata)
        return hashlib.sha256(made["key"].encode()).hexdigest()

    def aliases(self) -> list[str]:
        return sorted(row["key_alias"][len(self.prefix) :] for row in self.litellm.keys(self.prefix))

    def one(self, table: str, token: str) -> dict[str, Any]:
        with self.db.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {table} WHERE token = %s", (token,))
            names = [column[0] for column in cursor.description]
            (row,) = cursor.fetchall()
            return dict(zip(names, row, strict=True))


@pytest.fixture
def rows(runner: harness.Runner, litellm: harness.LiteLLM, litellm_db: Any, prefix: str) -> Rows:
    return Rows(runner, litellm, litellm_db, prefix)


def names(result: harness.ModuleResult, prefix: str, action: str = "delete") -> list[str]:
    return [entry["name"][len(prefix) :] for entry in result["results"] if entry["action"] == action]


def test_a_labs_keys_are_archived_and_gone_and_their_values_never_come_back(
    rows: Rows, litellm: harness.LiteLLM
) -> None:
    # Not called before, so that no replica has them in memory.
    made = rows.ours("a", "b", max_budget=5, models=[], duration="1d")
    beside = rows.ours("other", guid="another")[0]
    before = rows.one(KEYS, made[0]["token"])
    planned = rows.ok(check=True)
    assert planned.changed and names(planned, rows.prefix) == ["a", "b"]
    assert "2 to delete" in planned["msg"] and "would be archived" in planned["results"][0]["msg"]
    assert rows.aliases() == ["a", "b", "other"]
    done = rows.ok()
    assert done["summary"]["deleted"] == 2 and names(done, rows.prefix) == ["a", "b"]
    entry = done["results"][0]
    assert (entry["token"], entry["guid"], entry["changed"]) == (made[0]["token"], rows.guid, True)
    assert "cache" in entry["msg"] and "cache" in done["msg"] and "\n" not in done["msg"]
    assert rows.aliases() == ["other"]
    status, body = litellm.request("GET", "/v1/models", key=made[0]["key"])
    assert status == 401 and "token" in json.dumps(body).lower()
    assert litellm.request("GET", "/v1/models", key=beside["key"])[0] == 200
    after = rows.one(ARCHIVE, made[0]["token"])
    assert {name: value for name, value in after.items() if name in before} == {
        name: value for name, value in before.items() if name in after
    }
    assert after["deleted_by"] == "rhpds.litemaas"
    # As LiteLLM itself archives: the same columns are filled, and the times are alike.
    litellm.post("/key/delete", keys=[beside["token"]])
    theirs = rows.one(ARCHIVE, beside["token"])
    filled = {name for name, value in theirs.items() if value is not None}
    assert filled - {"deleted_by_api_key", "max_budget", "expires"} <= {
        name for name, value in after.items() if value is not None
    }
    assert abs((theirs["deleted_at"] - after["deleted_at"]).total_seconds()) < 120
    assert not rows.ok().changed
    assert "not there" in rows.ok()["msg"]
    again = rows.ours("a", max_budget=5)[0]
    assert again["generation"] == made[0]["generation"] + 1 and again["key"] != made[0]["key"]


def test_whose_keys_go_is_what_litellm_virtual_key_takes_for_the_labs(rows: Rows) -> None:
    rows.ours("virtkey-user1")
    legacy = [rf"{rows.prefix}virtkey(-user\d+)?"]
    rows.theirs("virtkey-user2", guid=rows.guid)
    both = rows.theirs("virtkey-user10")
    rows.theirs("virtkey-user3", guid=f"{rows.guid}-user3")
    rows.theirs("virtkey-user4x", guid=rows.guid)
    rows.theirs("xvirtkey-user5")
    foreign = rows.theirs("foreign", guid="another")
    named = rows.theirs("named", guid=rows.guid)
    nobodys = rows.theirs("nobodys")
    planned = rows.ok(check=True, legacy_aliases=legacy)
    api = rows.runner.module(
        "litellm_virtual_key", {"guid": rows.guid, "legacy_aliases": legacy, "state": "absent"}, check=True
    )
    for action in ("delete", "none"):
        assert names(planned, rows.prefix, action) == names(api, rows.prefix, action)
    assert names(planned, rows.prefix) == ["virtkey-user1", "virtkey-user10", "virtkey-user2"]
    assert "2 left alone" in planned["msg"]
    done = rows.run(legacy_aliases=legacy, tokens=[named, nobodys, both, foreign, "0" * 64])
    assert done.failed and done["summary"] == {**done["summary"], "deleted": 5, "failed": 1}
    assert "belongs to guid another" in done["msg"] and names(done, rows.prefix, "fail") == ["foreign"]
    assert rows.aliases() == ["foreign", "virtkey-user3", "virtkey-user4x", "xvirtkey-user5"]
    again = rows.ok(legacy_aliases=legacy, tokens=[named, nobodys])
    assert not again.changed


def test_what_it_refuses_and_what_it_cannot_do_is_said(rows: Rows, stack: harness.Stack) -> None:
    rows.ours("a")
    for options, words in (
        ({"guid": ""}, "guid is empty"),
        ({"guid": " "}, "guid is empty"),
        ({"tokens": ["sk-abcdefgh12345678"]}, "number 1 is not a sha256"),
        ({"only_tokens": True}, "tokens names none"),
        ({"legacy_aliases": ["("]}, "no regular expression"),
        ({"litellm_dsn": stack.litemaas_dsn}, "no table"),
        ({"litellm_dsn": "postgresql://nobody:secretword@127.0.0.1:1/x"}, "Check host and port in litellm_dsn"),
    ):
        result = rows.run(**options)
        assert result.failed and words in result["msg"], result["msg"]
        assert "sk-abcdefgh" not in json.dumps(result) and "secretword" not in json.dumps(result)
        assert "results" not in result
    assert rows.aliases() == ["a"]


def test_it_is_all_or_nothing(rows: Rows, litellm_db: Any, stack: harness.Stack) -> None:
    """A row that comes back, an archive that takes none, a row that somebody holds."""
    rows.ours("a", "b")
    name = rows.prefix.replace("-", "_")
    with litellm_db.cursor() as cursor:
        for table, moment, returns in ((KEYS, "BEFORE DELETE", "NULL"), (ARCHIVE, "AFTER INSERT", "NULL")):
            removed = f"DELETE FROM {ARCHIVE} WHERE token = NEW.token;" if table == ARCHIVE else ""
            cursor.execute(
                f"CREATE FUNCTION {name}f() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN {removed} RETURN {returns}; END $$"
            )
            when = f"OLD.key_alias = '{rows.prefix}a'" if table == KEYS else f"NEW.key_alias = '{rows.prefix}a'"
            cursor.execute(
                f"CREATE TRIGGER {name}t {moment} ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION {name}f()"
            )
            try:
                result = rows.run()
                assert result.failed and "Nothing was removed" in result["msg"], result["msg"]
                assert ("still there" if table == KEYS else "not in the archive") in result["msg"]
            finally:
                cursor.execute(f"DROP TRIGGER {name}t ON {table}")
                cursor.execute(f"DROP FUNCTION {name}f()")
            assert rows.aliases() == ["a", "b"]
    holder = harness.connect(stack.litellm_dsn)
    try:
        holder.autocommit = False
        with holder.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {KEYS} WHERE key_alias = %s FOR UPDATE", (f"{rows.prefix}b",))
            held = rows.run(lock_timeout=1)
            assert held.failed and "waited 1 s for a lock" in held["msg"]
    finally:
        holder.close()
    assert rows.aliases() == ["a", "b"]
    assert rows.ok()["summary"]["deleted"] == 2


def test_a_database_that_only_its_pod_reaches(
    rows: Rows, stack: harness.Stack, tmp_path: Path, namespace: Namespace
) -> None:
    """Through the API server's port-forward, with the credentials that the pod itself has."""
    parts = urllib.parse.urlsplit(stack.litellm_dsn)
    password = urllib.parse.unquote(str(parts.password))
    namespace.secret("db", password=password)
    reference = {"secretKeyRef": {"name": "db", "key": "password"}}
    user = {"name": "POSTGRES_USER", "value": str(parts.username)}
    namespace.pod(
        "db-0", "db", stack.litellm_dsn, env=[user, {"name": "POSTGRES_PASSWORD", "valueFrom": reference}], wait=False
    )
    namespace.pod("bare-0", "db", stack.litellm_dsn, wait=False)
    namespace.pod("deaf-0", "db", "postgresql://127.0.0.1:1/x", wait=False)
    for pod in ("db-0", "bare-0", "deaf-0"):
        namespace.ready(pod)
    rows.ours("a", "b")
    options = {
        "pod": "db-0",
        "namespace": namespace.name,
        "database": parts.path[1:],
        # Not used: it would fail.
        "litellm_dsn": "postgresql://nobody@127.0.0.1:1/x",
    }
    for check in (True, False):
        result = rows.ok(check=check, **options)
        assert result["summary"]["deleted"] == 2 and password not in json.dumps(result)
    assert rows.aliases() == []
    rows.ours("c")
    kubeconfig = stack.variables["KUBECONFIG"]
    given = {**options, "pod": "bare-0", "db_user": str(parts.username), "db_password": password}
    # As options of their own, which win, and as one.
    assert rows.ok(check=True, **given, kubeconfig=kubeconfig)["summary"]["deleted"] == 1
    assert rows.ok(**given, cluster={"kubeconfig": kubeconfig}, kubeconfig="/nowhere")["summary"]["deleted"] == 1
    authority = tmp_path / "ca.crt"
    (server,) = yaml.safe_load(Path(kubeconfig).read_text())["clusters"]
    authority.write_bytes(base64.b64decode(server["cluster"]["certificate-authority-data"]))
    address = {"host": server["cluster"]["server"], "ca_cert": str(authority)}
    for wrong, words in (
        ({"pod": "nowhere"}, 'HTTP 404: pods "nowhere" not found. Check name and namespace'),
        ({"pod": "nowhere", "db_password": password}, f"Forward port 5432 of pod {namespace.name}/nowhere"),
        ({**address, "api_key": "wrong"}, "HTTP 401"),
        ({"host": address["host"], "api_key": "wrong"}, "ca_cert"),
        ({"kubeconfig": "/nowhere"}, "Connect to the cluster"),
        ({"pod": "bare-0", "db_password": "wrong-password"}, "password authentication failed"),
        ({"pod": "deaf-0", **{name: given[name] for name in ("db_user", "db_password")}}, "Forward port 5432"),
    ):
        result = rows.run(**{**options, **wrong})
        assert result.failed and words in result["msg"], result["msg"]
        assert "wrong-password" not in json.dumps(result) and password not in json.dumps(result)
    (tmp_path / "kubernetes.py").write_text("raise ImportError('none here')")
    path = os.pathsep.join([str(tmp_path), rows.runner.environment()["PYTHONPATH"]])
    result = rows.runner.module(MODULE, {"guid": rows.guid, **options}, env={"PYTHONPATH": path})
    assert result.failed and "library kubernetes is missing (none here)" in result["msg"], result["msg"]


def test_the_database_of_a_namespace(rows: Rows, namespace: Namespace) -> None:
    """As its Secret has it, where nothing else is said."""
    namespace.litemaas()
    rows.ours("a")
    without = {"LITELLM_DSN": ""}
    result = rows.runner.module(MODULE, {"guid": rows.guid, "namespace": namespace.name}, env=without)
    assert result["summary"]["deleted"] == 1, result["msg"]
    source = f"Secret {namespace.name}/litemaas-db, through pod {namespace.name}/litellm-postgres-0"
    assert result["found"] == {"litellm_dsn": source} and rows.aliases() == []
    namespace.delete("v1", "Secret", "litemaas-db")
    result = rows.runner.module(MODULE, {"guid": rows.guid, "namespace": namespace.name}, env=without)
    assert result.failed and "litemaas-db" in result["msg"] and "or give litellm_dsn" in result["msg"], result["msg"]
