# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""LiteMaaS's rows of keys beside LiteLLM's keys: which row is an orphan, which key lives though its row is revoked.

The one place that knows these rules, and how a row is revoked. LiteLLM's keys are in the temporary table
``rhpds_keys``, and ``rhpds_seen_keys`` has the rows that were there before LiteLLM was read: a row that appears in
between is never judged by an older read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import copy_in, copy_line

#: What is read or written of a key in LiteMaaS's database.
TABLES = {
    "api_keys": (
        "id",
        "subscription_id",
        "user_id",
        "key_hash",
        "litellm_key_alias",
        "is_active",
        "revoked_at",
        "sync_status",
        "sync_error",
        "updated_at",
    )
}
KEY_TABLE = '"LiteLLM_VerificationToken"'
#: Keys for the sessions of LiteLLM's own dashboard are its own business: its API doesn't list them either.
NO_SESSION = "team_id IS DISTINCT FROM 'litellm-dashboard'"
KEY_TABLE_COLUMNS = ("token", "key_alias", "expires", "blocked")
#: Written into api_keys.sync_error of a row whose key LiteLLM doesn't have.
REVOKED_REASON = "Key not found in LiteLLM - revoked by rhpds.litemaas"

SEEN = "CREATE TEMP TABLE rhpds_seen_keys ON COMMIT DROP AS SELECT id FROM api_keys"
#: With the models that a key is for, where whoever fills it knows them.
LIVING = (
    "CREATE TEMP TABLE rhpds_keys (token text, alias text, expires timestamptz, blocked boolean, models text[])"
    " ON COMMIT DROP"
)
_SELECT = "SELECT token, key_alias, expires AT TIME ZONE 'UTC', coalesce(blocked, false)"
#: The same of LiteLLM's own table.
SELECT = f"{_SELECT} FROM {KEY_TABLE}"
SELECT_WITH_MODELS = f"{_SELECT}, models FROM {KEY_TABLE}"
COLUMNS = ("token", "alias", "expires", "blocked")
COLUMNS_WITH_MODELS = (*COLUMNS, "models")

_KEY_FOUND = "EXISTS (SELECT FROM rhpds_keys k WHERE k.token = a.key_hash)"
_ALIAS_FOUND = "EXISTS (SELECT FROM rhpds_keys k WHERE k.alias = a.litellm_key_alias)"
#: Active rows whose key LiteLLM does not have: neither by hash nor by alias. As operators' SQL, which judges by alias;
#: the hash is looked at first, because an alias can be changed in LiteLLM.
ORPHANED = (
    "SELECT a.id, a.litellm_key_alias, a.user_id FROM api_keys a JOIN rhpds_seen_keys USING (id)"
    f" WHERE a.is_active AND a.litellm_key_alias IS NOT NULL AND NOT {_KEY_FOUND} AND NOT {_ALIAS_FOUND}"
    " ORDER BY a.litellm_key_alias, a.id"
)
#: The same without an alias: reported, never revoked.
UNJUDGED = (
    "SELECT a.id, a.litellm_key_alias, a.user_id FROM api_keys a JOIN rhpds_seen_keys USING (id)"
    f" WHERE a.is_active AND a.litellm_key_alias IS NULL AND NOT {_KEY_FOUND} ORDER BY a.id"
)
#: A row's key: by hash, or by alias where the living key is not another row's. Good enough to say what a row has lost,
#: and no ground for deleting a key: an alias can be given again.
ITS_KEY = (
    "(k.token = a.key_hash OR (k.alias = a.litellm_key_alias"
    " AND NOT EXISTS (SELECT FROM api_keys other WHERE other.key_hash = k.token)))"
)
WORKS = "NOT k.blocked AND (k.expires IS NULL OR k.expires > now())"
#: Why a working key of an inactive row is not deleted: it only has the row's alias; or nobody has ever revoked the row,
#: which is what the backend's own sync leaves of keys whose model was gone.
ANOTHER_KEY, NEVER_REVOKED = "another_key", "never_revoked"


class Alive(NamedTuple):
    """A row that is inactive, and a key of LiteLLM's that works.

    Attributes:
        token: None where the key only has the row's alias, and is no other row's.
        revoked: whether somebody has revoked the row.
        models: that the key is for, where ``rhpds_keys`` has them.
    """

    id: str
    alias: str | None
    user_id: str | None
    token: str | None
    revoked: bool
    models: Sequence[str] | None

    @property
    def held(self) -> str:
        """Why the key may not be deleted for its row: the one place that says so. "" where it may."""
        if self.token is None:
            return ANOTHER_KEY
        return "" if self.revoked else NEVER_REVOKED


def alive_revoked(cursor: Any) -> list[Alive]:
    """Inactive rows whose key still works, or whose alias a working key has."""
    cursor.execute("SELECT to_regclass('api_key_models') IS NOT NULL")
    linked = "EXISTS (SELECT FROM api_key_models x WHERE x.api_key_id = a.id)" if cursor.fetchone()[0] else "false"
    cursor.execute(_ALIVE_REVOKED.format(linked=linked))
    return [Alive(*row) for row in cursor.fetchall()]


_ALIVE_REVOKED = f"""
WITH found AS (
    SELECT a.id, k.token, k.models FROM api_keys a JOIN rhpds_keys k ON k.token = a.key_hash
    WHERE NOT coalesce(a.is_active, false) AND {WORKS}
    UNION ALL
    SELECT a.id, NULL, NULL FROM api_keys a JOIN rhpds_keys k ON k.alias = a.litellm_key_alias
    WHERE NOT coalesce(a.is_active, false) AND {WORKS}
      AND NOT EXISTS (SELECT FROM api_keys other WHERE other.key_hash = k.token)
),
chosen AS (SELECT DISTINCT ON (id) * FROM found ORDER BY id, token NULLS LAST)
SELECT a.id::text, a.litellm_key_alias, a.user_id::text, c.token,
       a.revoked_at IS NOT NULL OR a.sync_error IS NOT NULL OR {{linked}}, c.models
FROM chosen c JOIN api_keys a USING (id) JOIN rhpds_seen_keys USING (id)
ORDER BY a.litellm_key_alias, a.id
"""
#: LiteLLM's keys with their rows: token, id, whether the row is active.
ROWS_OF_KEYS = (
    "SELECT k.token, a.id::text, coalesce(a.is_active, false)"
    f" FROM rhpds_doomed d JOIN rhpds_keys k USING (token) JOIN api_keys a ON {ITS_KEY}"
    # A row that has a living key by its hash is that one's, whatever its alias says; by its alias it has lost its key
    # only when no other key of that alias stays.
    " WHERE a.key_hash = k.token OR (NOT EXISTS (SELECT FROM rhpds_keys own WHERE own.token = a.key_hash)"
    " AND NOT EXISTS (SELECT FROM rhpds_keys twin WHERE twin.alias = a.litellm_key_alias"
    " AND NOT EXISTS (SELECT FROM rhpds_doomed also WHERE also.token = twin.token)))"
)
_REVOKE = (
    "UPDATE api_keys SET is_active = false, revoked_at = {moment}, sync_status = 'error', sync_error = %s,"
    " updated_at = now() WHERE {which}id = ANY(%s::uuid[]) RETURNING id::text"
)
#: Rows that are active. Arguments: why, ids.
REVOKE = _REVOKE.format(moment="now()", which="is_active AND ")
#: The same for rows that may have been made inactive without that.
FINISH = _REVOKE.format(moment="coalesce(revoked_at, now())", which="")


def load(cursor: Any, rows: Iterable[Sequence[Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Fill ``rhpds_keys`` with token (sha256), alias, expiry and blocked, or more. Never a key's value."""
    copy_in(cursor, "rhpds_keys", columns, map(copy_line, rows))


def doom(cursor: Any, tokens: Iterable[str]) -> None:
    """The table of those keys of ``rhpds_keys`` that are to go."""
    cursor.execute("CREATE TEMP TABLE rhpds_doomed (token text PRIMARY KEY) ON COMMIT DROP")
    copy_in(cursor, "rhpds_doomed", ("token",), (copy_line((token,)) for token in tokens))
    cursor.execute("ANALYZE rhpds_doomed")


def index(cursor: Any) -> None:
    """Indexes and statistics, once ``rhpds_keys`` is full."""
    cursor.execute("CREATE INDEX ON rhpds_keys (token)")
    cursor.execute("CREATE INDEX ON rhpds_keys (alias)")
    cursor.execute("ANALYZE rhpds_keys")
