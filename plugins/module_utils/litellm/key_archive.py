# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prunes LiteLLM's archive of deleted keys, and keeps what ``never_reuse`` needs of it.

LiteLLM has no API for it and never prunes it: every deleted key stays there as a whole row.

What litellm_virtual_key needs, see ``resources.virtual_key.acting``: before it makes a value it asks the archive for
that value, of the alias' first generation, then of the second, until one is free. So of an alias every generation has
to stay, not only the highest: behind a gap the search would end, and hand out a value that somebody has had before.
Values are only ever derived for keys with our mark, so these are the rows that stay, unless their lab is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection, DatabaseError

ARCHIVE = '"LiteLLM_DeletedVerificationToken"'
COLUMNS = ("id", "token", "key_alias", "metadata", "deleted_at")
ATTEMPT = "Prune the archive of deleted keys"
REPORT_LIMIT = 100

#: Which rows are old enough, and which of those nothing needs.
_STATES = """
CREATE TEMP TABLE rhpds_archive ON COMMIT DROP AS
SELECT id, key_alias, old, old AND (NOT ours OR named) AS going
FROM "LiteLLM_DeletedVerificationToken", LATERAL (
  SELECT coalesce(deleted_at < timezone('UTC', now()) - %(age)s::interval, false) AS old,
    coalesce(metadata ->> 'managed_by' = %(manager)s, false) AS ours,
    coalesce(metadata ->> 'guid' = ANY(%(guids)s::text[]), false) AS named
) AS state
"""
_COUNTS = "SELECT count(*), count(*) FILTER (WHERE going), count(*) FILTER (WHERE old AND NOT going) FROM rhpds_archive"
_NAMES = "SELECT coalesce(key_alias, left(id, 12)) FROM rhpds_archive WHERE going ORDER BY 1 LIMIT %s"
_DELETE = 'DELETE FROM "LiteLLM_DeletedVerificationToken" a USING rhpds_archive o WHERE a.id = o.id AND o.going'
_LEFT = 'SELECT count(*) FROM "LiteLLM_DeletedVerificationToken" a JOIN rhpds_archive o USING (id) WHERE o.going'


@dataclass
class Options:
    """What goes.

    Attributes:
        older_than: how long ago a key has to have been deleted.
        forget_guids: labs that never come back: what ``never_reuse`` would need of them goes too.
    """

    older_than: timedelta
    forget_guids: Sequence[str] = ()
    max_percent: int = 20
    allow_mass_cleanup: bool = False
    report_limit: int = REPORT_LIMIT
    lock_timeout: float = 30
    statement_timeout: float = 300


def prune(connection: Connection, options: Options, check_mode: bool) -> dict[str, Any]:
    """One transaction; what the module exits with.

    Raises:
        ValueError: an option that can't be acted on.
        DatabaseError: nothing was removed.
    """
    if any(not guid.strip() or guid != guid.strip() for guid in options.forget_guids):
        raise ValueError("forget_guids has one that is empty, or begins or ends with white space: nothing was removed")
    with connection.transaction(
        ATTEMPT,
        lock_timeout=options.lock_timeout,
        statement_timeout=options.statement_timeout,
        keep=not check_mode,
    ) as cursor:
        connection.require(cursor, {ARCHIVE: COLUMNS}, ATTEMPT, "LiteLLM")
        given = {"age": options.older_than, "manager": ownership.MANAGER, "guids": list(options.forget_guids)}
        cursor.execute(_STATES, given)
        cursor.execute(_COUNTS)
        total, going, needed = cursor.fetchone()
        cursor.execute(_NAMES, (options.report_limit,))
        names = [name for (name,) in cursor]
        refused = None
        if not options.allow_mass_cleanup:
            refused = ownership.removal_refused(going, total, options.max_percent)
        if going and not refused:
            cursor.execute(_DELETE)
            removed = cursor.rowcount
            cursor.execute(_LEFT)
            left = cursor.fetchone()[0]
            if left or removed > going:
                raise DatabaseError(
                    f"{ATTEMPT} in {connection.target}",
                    f"{left} rows are still there after they were deleted",
                    "Look for triggers or row security on LiteLLM's tables. Nothing was removed",
                )
    kept = f"{total - going} kept, {needed} of them old, so that no value is used twice"
    done = "to remove" if check_mode or refused else "removed"
    line = f"{going} of {total} rows of the archive of deleted keys {done}; {kept}"
    if refused:
        line = (
            f"Nothing was removed: {refused}. If that is right, set allow_mass_cleanup: true (with the playbook"
            f" archive_allow_mass_cleanup=true). It would be: {line}"
        )
    return {
        "changed": bool(going) and not refused,
        "failed": bool(refused),
        "msg": line,
        "summary": {"total": total, "removed": 0 if refused else going, "kept": total - going, "needed": needed},
        "report": {"going": {"count": going, "items": names}},
    }
