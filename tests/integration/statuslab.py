# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stores of a test's own in the stack's real databases, so that what is counted is known to the last key.

A schema of its own in each database has copies of the tables; the proxy's models are the real ones, by a view.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.rhpds.litemaas.tests.integration import harness

LITEMAAS = (
    "models",
    "subscriptions",
    "api_keys",
    "api_key_models",
    "users",
    "audit_logs",
    "subscription_status_history",
)
LITELLM = (
    "LiteLLM_VerificationToken",
    "LiteLLM_DeletedVerificationToken",
    "LiteLLM_DailyUserSpend",
    "LiteLLM_SpendLogs",
)
#: A name that would do harm on a page, in a terminal and in a script.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'</td>{{ 7*7 }}"


@dataclass
class Stores:
    """Both databases of a test."""

    schema: str
    litemaas_dsn: str
    litellm_dsn: str

    def litemaas(self, statement: str, values: Any = None) -> None:
        run(self.litemaas_dsn, statement, values)

    def litellm(self, statement: str, values: Any = None) -> None:
        run(self.litellm_dsn, statement, values)

    def keys(self, count: int, guid: str, expires: str = "NULL", **columns: Any) -> None:
        """Keys ``<guid>-1`` and on; ``expires`` is SQL."""
        names = "".join(f", {name}" for name in columns)
        self.litellm(
            'INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, expires, metadata, spend'
            f"{names}) SELECT md5(%s || n), 'sk-...' || n, %s || '-' || n, {expires},"
            f" jsonb_build_object('guid', %s::text), n * 0.01 {''.join(', %s' for _one in columns)}"
            " FROM generate_series(1, %s) n",
            (self.schema + guid, guid, guid, *columns.values(), count),
        )

    def token(self, guid: str, number: int) -> str:

        return hashlib.md5(f"{self.schema}{guid}{number}".encode()).hexdigest()

    def spend(self, guid: str, number: int, model: str, day: int, spend: float) -> None:
        """What a key has spent, so many days ago."""
        self.litellm(
            'INSERT INTO "LiteLLM_DailyUserSpend" (id, user_id, date, api_key, model, model_group, spend, api_requests,'
            " updated_at) VALUES (%s, '', to_char(now() AT TIME ZONE 'UTC' - %s * interval '1 day', 'YYYY-MM-DD'), %s,"
            " %s, %s, %s, 3, now())",
            (secrets.token_hex(8), day, self.token(guid, number), model, model, spend),
        )

    def models(self, *rows: tuple[str, str]) -> None:
        """Catalogue rows: name and availability."""
        for name, availability in rows:
            self.litemaas(
                "INSERT INTO models (id, name, provider, availability) VALUES (%s, %s, 'openai', %s)",
                (name, name, availability),
            )

    def subscriptions(self, model: str, **states: int) -> None:
        for state, count in states.items():
            self.litemaas(
                "INSERT INTO subscriptions (id, user_id, model_id, status, quota_requests, quota_tokens)"
                " SELECT gen_random_uuid(), gen_random_uuid(), %s, %s, 1, 1 FROM generate_series(1, %s)",
                (model, state, count),
            )

    def row(self, alias: str, token: str, active: bool) -> None:
        """LiteMaaS's row of a key."""
        self.litemaas(
            "INSERT INTO api_keys (id, user_id, name, key_hash, key_prefix, litellm_key_alias, is_active, revoked_at,"
            " lite_llm_key_value) VALUES (gen_random_uuid(), gen_random_uuid(), %s, %s, 'sk-', %s, %s,"
            " CASE WHEN NOT %s THEN now() END, %s)",
            (alias, token, alias, active, active, f"sk-plaintext-{self.schema}"),
        )


def run(dsn: str, statement: str, values: Any = None) -> None:
    connection = harness.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
    finally:
        connection.close()


@contextmanager
def stores(stack: harness.Stack, shared: bool = False) -> Iterator[Stores]:
    """Empty stores, gone afterwards; both in LiteLLM's database where they are shared."""
    schema = f"t{secrets.token_hex(4)}"
    ours = stack.litellm_dsn if shared else stack.litemaas_dsn

    def within(dsn: str) -> str:
        return f"{dsn}{'&' if '?' in dsn else '?'}options={quote(f'-csearch_path={schema}', safe='')}"

    made = Stores(schema, within(ours), within(stack.litellm_dsn))
    try:
        for dsn, tables in ((ours, LITEMAAS), (stack.litellm_dsn, LITELLM)):
            run(dsn, f"CREATE SCHEMA IF NOT EXISTS {schema}")
            for table in tables:
                run(dsn, f'CREATE TABLE {schema}."{table}" (LIKE public."{table}" INCLUDING ALL)')
        name = '"LiteLLM_ProxyModelTable"'
        run(stack.litellm_dsn, f"CREATE VIEW {schema}.{name} AS SELECT * FROM public.{name}")
        yield made
    finally:
        for dsn in (ours, stack.litellm_dsn):
            run(dsn, f"DROP SCHEMA IF EXISTS {schema} CASCADE")
