# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes virtual keys from LiteLLM's database, where its API can't.

What LiteLLM's own delete does, seen on 1.81.14 and 1.106.0: the row is copied into the archive of deleted keys, all
columns that both tables have, with an id of its own, ``deleted_at`` in UTC without a zone, and who did it in
``deleted_by``; then it is deleted. Budgets and spend logs stay. Here both are one statement. What is missing is the
word to the replicas: they have keys in memory, for a minute as they come.

Which rows are a lab's is decided by the same code as through the API (``resources.virtual_key.planning``).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import wanted_from_options
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.planning import Planner
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import DELETE, NONE, Step, make_plan

KEYS = '"LiteLLM_VerificationToken"'
ARCHIVE = '"LiteLLM_DeletedVerificationToken"'
# Patterns are matched where the API's way matches them: their syntax isn't PostgreSQL's.
_READ = """
SELECT token, key_alias, metadata FROM "LiteLLM_VerificationToken"
WHERE metadata->>'guid' = %(guid)s OR token = ANY(%(tokens)s)
   OR (%(legacy)s AND key_alias IS NOT NULL AND coalesce(metadata->>'guid', '') = '')
"""
_MOVE = """
WITH named AS (SELECT * FROM unnest(%(tokens)s::text[], %(ids)s::text[]) AS one(token, archive_id)),
gone AS (
  DELETE FROM "LiteLLM_VerificationToken"
  WHERE token = ANY(%(tokens)s) AND coalesce(metadata->>'guid', '') IN ('', %(guid)s) RETURNING *
)
INSERT INTO "LiteLLM_DeletedVerificationToken" (id, deleted_at, deleted_by, {into})
SELECT named.archive_id, timezone('UTC', now()), %(who)s, {values}
FROM gone JOIN named ON named.token = gone.token RETURNING token
"""
_LEFT = 'SELECT token FROM "LiteLLM_VerificationToken" WHERE token = ANY(%s)'
_ARCHIVED = 'SELECT token FROM "LiteLLM_DeletedVerificationToken" WHERE token = ANY(%s)'
NEEDED = {KEYS: ("token", "key_alias", "metadata"), ARCHIVE: ("id", "token", "deleted_at", "deleted_by")}
ATTEMPT = "Remove keys"
#: Said of each key and, in the one line, of all.
CACHED = "replicas of the proxy may honour {} for a while, as they cache keys"


@dataclass(frozen=True)
class Lab:
    """Whose keys are meant.

    Args:
        guid: the lab; never empty.
        legacy_aliases: regular expressions that whole aliases of its unmarked keys match.
        tokens: further keys by their sha256, which must not carry another guid.
        only_tokens: these alone, not the lab's.
    """

    guid: str
    legacy_aliases: Sequence[str] = ()
    tokens: Sequence[str] = ()
    only_tokens: bool = False

    def items(self) -> list[Any]:
        """The same as instructions for the planner. Raises ValueError where they can't be acted on."""
        if not self.guid.strip() or self.guid != self.guid.strip():
            raise ValueError("guid is empty, or begins or ends with white space: nothing was looked for")
        wrong = [number for number, token in enumerate(self.tokens, start=1) if not derive.is_token(token)]
        if wrong:
            raise ValueError(f"tokens: number {wrong[0]} is not a sha256 in hex, as LiteLLM lists it")
        now = datetime.now(timezone.utc)
        if self.only_tokens and not self.tokens:
            raise ValueError("only_tokens is set, and tokens names none: nothing was looked for")
        described: list[dict[str, Any]] = [] if self.only_tokens else [{"legacy_aliases": self.legacy_aliases}]
        described += [{"token": token} for token in dict.fromkeys(self.tokens)]
        made = [wanted_from_options({**one, "guid": self.guid, "state": "absent"}, now) for one in described]
        for item in made:
            if item.error:
                raise ValueError(item.error)
        return made


def remove(
    connection: database.Connection,
    lab: Lab,
    *,
    check_mode: bool,
    lock_timeout: float = 30,
    statement_timeout: float = 300,
) -> list[Step[Any, Any]]:
    """Archive and delete a lab's keys in one transaction.

    Returns:
        a step a key, as the other modules report them.

    Raises:
        ValueError: the lab can't be acted on.
        DatabaseError: nothing was removed.
    """
    items = lab.items()
    with connection.transaction(
        ATTEMPT, lock_timeout=lock_timeout, statement_timeout=statement_timeout, read_only=check_mode
    ) as cursor:
        columns = connection.require(cursor, NEEDED, ATTEMPT, "LiteLLM")
        rows = _read(cursor, lab)
        planner = Planner(now=datetime.now(timezone.utc))
        # What is named by its token is that item's alone, whatever the lab's would say of it.
        of_lab = [item for item in items if not item.token]
        steps = make_plan(planner, of_lab, [row for row in rows if row["token"] not in lab.tokens])
        steps += make_plan(planner, [item for item in items if item.token], rows)
        leaving = {step.current["token"]: step for step in steps if step.action == DELETE and step.current}
        if leaving and not check_mode:
            gone = _move(cursor, columns, list(leaving), lab.guid)
            _prove(connection, cursor, list(leaving), gone)
            for token in leaving.keys() - gone:
                leaving[token].action, leaving[token].changes = NONE, []
                leaving[token].note = "not there any more: somebody else removed it meanwhile"
        for step in leaving.values():
            if step.action == DELETE:
                done = "would be archived and deleted" if check_mode else "archived and deleted in the database"
                step.note = "; ".join(part for part in (done, step.note, CACHED.format("it")) if part)
    return steps


def _read(cursor: Any, lab: Lab) -> list[dict[str, Any]]:
    cursor.execute(_READ, {"guid": lab.guid, "tokens": list(lab.tokens), "legacy": bool(lab.legacy_aliases)})
    # A text or a list there is what LiteLLM's API fails on: this is how such a row goes.
    return [
        {"token": token, "key_alias": alias, "metadata": metadata if isinstance(metadata, dict) else None}
        for token, alias, metadata in cursor.fetchall()
    ]


def _move(cursor: Any, columns: dict[str, dict[str, int | None]], tokens: list[str], guid: str) -> set[str]:
    """Rows from one table to the other; the tokens of those that were still there and still this lab's."""
    shared = [name for name in columns[ARCHIVE] if name in columns[KEYS] and name != "id"]
    statement = _MOVE.format(
        into=", ".join(f'"{name}"' for name in shared), values=", ".join(f'gone."{name}"' for name in shared)
    )
    ids = [str(uuid.uuid4()) for _token in tokens]
    cursor.execute(statement, {"tokens": tokens, "ids": ids, "guid": guid, "who": ownership.MANAGER})
    return {token for (token,) in cursor.fetchall()}


def _prove(connection: database.Connection, cursor: Any, tokens: list[str], gone: set[str]) -> None:
    """Read back, before the transaction ends: deleted, and archived."""
    cursor.execute(_LEFT, (tokens,))
    left = sorted(token for (token,) in cursor.fetchall())
    cursor.execute(_ARCHIVED, (sorted(gone),))
    lost = sorted(gone - {token for (token,) in cursor.fetchall()})
    for wrong, words in ((left, "still there after they were deleted"), (lost, "not in the archive of deleted keys")):
        if wrong:
            raise database.DatabaseError(
                f"{ATTEMPT} in {connection.target}",
                f"{len(wrong)} keys are {words} (tokens {', '.join(token[:12] for token in wrong[:3])}…)",
                "Look for triggers or row security on LiteLLM's tables. Nothing was removed",
            )


def describe(step: Step[Any, Any]) -> dict[str, Any]:
    """Further keys of an item's result."""
    row = step.current or {}
    token = row.get("token") or (step.wanted.token if step.wanted is not None else None)
    return {"key_alias": row.get("key_alias"), "token": token, "guid": (row.get("metadata") or {}).get("guid")}
