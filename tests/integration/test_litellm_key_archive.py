# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""litellm_key_archive on the real database, and what litellm_virtual_key makes of the archive afterwards.

The archive is everybody's: runs that remove anything are given an age that only the test's own rows have.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive
from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness

MODULE = "litellm_key_archive"
TABLE = '"LiteLLM_DeletedVerificationToken"'
OLD = "4000d"


@pytest.fixture
def archive(litellm_db: Any, prefix: str) -> Any:
    made = Archive(litellm_db, prefix)
    yield made
    made.run(f"DELETE FROM {TABLE} WHERE starts_with(key_alias, %s)", prefix)


class Archive:
    def __init__(self, connection: Any, prefix: str) -> None:
        self.connection, self.prefix = connection, prefix

    def run(self, query: str, *values: Any) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else None

    def add(self, name: str, age: str = "5000 days", **metadata: Any) -> None:
        self.run(
            f"INSERT INTO {TABLE} (id, token, key_alias, metadata, models, deleted_at, created_at)"
            " VALUES (gen_random_uuid(), %s, %s, %s, '{}', timezone('UTC', now()) - %s::interval, now())",
            *(derive.token_of(self.prefix + name), self.prefix + name, json.dumps(metadata), age),
        )

    def names(self) -> list[str]:
        found = self.run(f"SELECT key_alias FROM {TABLE} WHERE starts_with(key_alias, %s)", self.prefix)
        return sorted(alias.removeprefix(self.prefix) for (alias,) in found)

    def age(self) -> None:
        """As if they had been deleted long ago."""
        self.run(
            f"UPDATE {TABLE} SET deleted_at = deleted_at - interval '5000 days' WHERE starts_with(key_alias, %s)",
            self.prefix,
        )


def test_what_is_old_goes_and_what_values_depend_on_stays(archive: Archive, run_module: Any) -> None:
    ours = {"managed_by": "rhpds.litemaas", "rhpds_litemaas": {"generation": 1}}
    archive.add("old")
    archive.add("new", age="1 hour")
    archive.add("old", age="1 hour")
    archive.add("ours", **ours)
    archive.add("of-a-lab", guid="here", **ours)
    archive.add("of-a-gone-lab", guid="gone", **ours)
    archive.add("new-of-a-gone-lab", age="1 hour", guid="gone", **ours)
    args = {"older_than": OLD, "forget_guids": ["gone"]}
    foreseen = run_module(MODULE, args, check=True)
    assert foreseen.changed, foreseen
    assert foreseen["msg"].startswith("2 of ") and "to remove" in foreseen["msg"]
    assert len(archive.names()) == 7
    done = run_module(MODULE, args)
    assert done["report"]["going"] == {
        "count": 2,
        "items": sorted(archive.prefix + n for n in ("old", "of-a-gone-lab")),
    }
    assert done["summary"] == foreseen["summary"] and done["summary"]["needed"] == 2
    assert archive.names() == ["new", "new-of-a-gone-lab", "of-a-lab", "old", "ours"]
    for check in (False, True):
        assert not run_module(MODULE, args, check=check).changed


def test_rows_that_are_still_there_after_they_were_deleted_are_told(archive: Archive, run_module: Any) -> None:
    for name in ("held", "old"):
        archive.add(name)
    hold = f"hold_{archive.prefix.strip('-')}"
    archive.run(f"CREATE FUNCTION {hold}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    held = f"WHEN (OLD.key_alias = '{archive.prefix}held')"
    archive.run(f"CREATE TRIGGER {hold} BEFORE DELETE ON {TABLE} FOR EACH ROW {held} EXECUTE FUNCTION {hold}()")
    try:
        done = run_module(MODULE, {"older_than": OLD})
    finally:
        archive.run(f"DROP FUNCTION {hold} CASCADE")
    assert done.failed and not done.changed
    assert "1 rows are still there after they were deleted" in done["msg"] and "Nothing was removed" in done["msg"]
    assert archive.names() == ["held", "old"]


def test_no_value_comes_back_after_the_archive_was_pruned(
    archive: Archive, run_module: Any, litellm: harness.LiteLLM
) -> None:
    """Two generations of one key, deleted long ago: the third one is new."""
    key = {"key_alias": f"{archive.prefix}mine", "guid": archive.prefix.strip("-"), "duration": "1d"}
    values = []
    for _generation in range(2):
        made = run_module("litellm_virtual_key", key)
        assert not made.failed, made
        values.append(made["results"][0]["key"])
        run_module("litellm_virtual_key", {**key, "state": "absent"})
    assert len(set(values)) == 2
    archive.age()
    assert not run_module(MODULE, {"older_than": OLD, "allow_mass_cleanup": True}).failed
    again = run_module("litellm_virtual_key", key)
    assert again["results"][0]["key"] not in values
    assert [one["key_alias"] for one in litellm.keys(archive.prefix)] == [key["key_alias"]]


def test_more_than_its_share_is_refused(archive: Archive, run_module: Any) -> None:
    for number in range(6):
        archive.add(f"old{number}")
    refused = run_module(MODULE, {"older_than": OLD, "max_percent": 0})
    assert refused.failed and not refused.changed
    assert "Nothing was removed: 6 of " in refused["msg"] and "archive_allow_mass_cleanup=true" in refused["msg"]
    assert len(archive.names()) == 6
    beyond = run_module(MODULE, {"older_than": OLD, "max_percent": 500})
    assert beyond.failed and beyond["msg"] == "max_percent is 500: a share of all is 0 to 100 percent. Nothing was done"
    assert run_module(MODULE, {"older_than": OLD, "max_percent": 0, "allow_mass_cleanup": True}).changed
    assert archive.names() == []


def test_in_a_namespace_and_bad_input(
    archive: Archive, run_module: Any, namespace: cluster.Namespace, stack: harness.Stack
) -> None:
    archive.add("old")
    namespace.litemaas()
    env = {"LITELLM_DSN": "", "K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"]}
    done = run_module(MODULE, {"namespace": namespace.name, "older_than": OLD}, env=env)
    assert done["summary"]["removed"] == 1, done
    assert "through pod" in done["found"]["litellm_dsn"]
    assert "older_than: " in run_module(MODULE, {"older_than": "soon"})["msg"]
    for guid in ("", " gone"):
        assert "forget_guids" in run_module(MODULE, {"forget_guids": [guid]})["msg"]
    wrong = run_module(MODULE, {"litellm_dsn": stack.litemaas_dsn})
    assert "no table " in wrong["msg"] and "LiteLLM's database" in wrong["msg"]
