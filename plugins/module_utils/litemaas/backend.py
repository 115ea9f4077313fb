# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The LiteMaaS backend's own sync, over its API, with what it is known to do held back.

Facts that shape this (LiteMaaS 0.4.0): a sync that failed answers 200 with ``success: false``; an empty list of models
makes the whole catalogue unavailable with ``success: true``; a model that is gone takes its subscriptions and keys with
it; ``updatedModels`` counts what did not change; without a database the backend shows made-up data for ever and calls
itself healthy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.status import has_mock_id
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import catalog
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection
from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import removal_refused

PATH = "/api/v1"
#: What an admin key of the backend begins with.
KEY_PREFIX = "ltm_admin_"
#: Counts in the answer -> what they say.
COUNTS = {
    "totalModels": "models read",
    "newModels": "new",
    "updatedModels": "brought up to date",
    "unavailableModels": "made unavailable",
}


class BackendError(Exception):
    """What was tried, what the backend said, what state that leaves, what to do."""

    def __init__(self, attempt: str, words: str, advice: str) -> None:
        super().__init__(f"{attempt}: {words.rstrip('.')}. {advice}")


@dataclass
class Catalogue:
    """What the backend's sync writes, as far as it matters to people."""

    rows: Mapping[str, str] = field(default_factory=dict)
    available: frozenset[str] = frozenset()
    subscribed: Mapping[str, int] = field(default_factory=dict)
    subscriptions: int = 0
    keys: int = 0


def read_catalogue(connection: Connection, timeouts: Mapping[str, Any]) -> Catalogue:
    """Rows by their contents, without the clock's columns, and how much of what is active. Raises DatabaseError."""
    needed = {"models": ("id", "availability"), "subscriptions": ("model_id", "status"), "api_keys": ("is_active",)}
    with connection.transaction("Read the catalogue", read_only=True, **timeouts) as cursor:
        connection.require(cursor, needed, "Read the catalogue", "LiteMaaS")
        cursor.execute("SELECT id, md5((to_jsonb(m) - 'updated_at' - 'created_at')::text), availability FROM models m")
        rows = cursor.fetchall()
        cursor.execute("SELECT model_id, count(*) FROM subscriptions WHERE status = 'active' GROUP BY model_id")
        subscribed = dict(cursor.fetchall())
        cursor.execute("SELECT count(*) FROM api_keys WHERE is_active")
        keys = cursor.fetchone()[0]
    available = frozenset(row[0] for row in rows if row[2] != catalog.UNAVAILABLE)
    return Catalogue({row[0]: row[1] for row in rows}, available, subscribed, sum(subscribed.values()), keys)


@dataclass(frozen=True)
class Options:
    """What a sync may do. See the module's documentation."""

    force_update: bool = False
    mark_unavailable: bool = False
    allow_active_subscriptions: bool = False
    max_removal_percent: int = 20
    allow_mass_removal: bool = False


def refusal(options: Options, listed: Sequence[Any], before: Catalogue | None) -> str | None:
    """Why a sync would do harm, or None. Pure.

    Args:
        listed: ``/model/info``'s entries.
        before: the catalogue, where it can be read.
    """
    selection = catalog.select(listed)
    if not selection.models:
        return (
            "LiteLLM lists no model that LiteMaaS would show. The backend would make the whole catalogue unavailable,"
            " its subscriptions and keys inactive, and call that a success. Check the proxy, its database and its salt"
            " key"
        )
    if not options.mark_unavailable:
        return None
    if selection.unreadable:
        return f"LiteLLM's answer has unusable entries ({selection.unreadable[0]}), whose models would look gone"
    if before is None:
        return (
            "what mark_unavailable would take away can't be told without LiteMaaS's database. Give litemaas_dsn or"
            " namespace"
        )
    going = sorted(before.available - selection.models.keys())
    active = {name: before.subscribed[name] for name in going if before.subscribed.get(name)}
    if active and not options.allow_active_subscriptions:
        shown = ", ".join(f"{name} ({count})" for name, count in list(active.items())[:5])
        return (
            f"models with active subscriptions would become unavailable: {shown}{', …' if len(active) > 5 else ''}."
            " Their subscriptions would become inactive, and keys that are left without a model too. Register them in"
            " LiteLLM, or set allow_active_subscriptions"
        )
    if not options.allow_mass_removal:
        share = removal_refused(len(going), len(before.available), options.max_removal_percent)
        if share:
            return f"{share}. If that is right, set allow_mass_removal: true"
    return None


def refuse_mock(backend: LiteLLMClient) -> None:
    """See that the backend shows what is in its database.

    Raises:
        BackendError: it shows made-up data.
        LiteLLMError: it doesn't answer, or not to this key.
    """
    answer = backend.get(f"{PATH}/admin/users")
    rows: Any = answer
    if isinstance(answer, dict):
        rows = next((answer[name] for name in ("data", "users", "items") if isinstance(answer.get(name), list)), None)
    if not isinstance(rows, list):
        raise BackendError(
            f"GET {backend.url}{PATH}/admin/users",
            "the answer is no list of users",
            "Check that litemaas_url is the LiteMaaS backend's. Nothing was synced",
        )
    if has_mock_id(rows):
        raise BackendError(
            f"GET {backend.url}{PATH}/admin/users",
            "the backend has no database and shows made-up data, whatever its health checks say",
            "Check its DATABASE_URL (sslmode too) and PostgreSQL, then restart it. Nothing was synced",
        )


def trigger(backend: LiteLLMClient, options: Options) -> dict[str, int]:
    """Have the backend sync, and believe the answer's body alone: its counts.

    Raises:
        BackendError: the sync failed, or nothing tells that it didn't.
        LiteLLMError: the request was refused, or not answered.
    """
    attempt = f"POST {backend.url}{PATH}/models/sync"
    body = {"forceUpdate": options.force_update, "markUnavailable": options.mark_unavailable}
    answer = backend.post(f"{PATH}/models/sync", body)
    if not isinstance(answer, dict) or not isinstance(answer.get("success"), bool):
        raise BackendError(
            attempt,
            "the answer doesn't say whether it succeeded",
            "Check that litemaas_url is the backend of LiteMaaS 0.4.0 or later, and its log",
        )
    if not answer["success"]:
        errors = [str(one) for one in answer.get("errors") or () if one]
        raise BackendError(
            attempt,
            f"the backend says that its sync failed: {'; '.join(errors[:3]) or 'without a reason'}",
            "Models before the failed one may be synced. See the backend's log, then run again; or write the rows with"
            " litemaas_db_sync",
        )
    return {name: answer[name] for name in COUNTS if isinstance(answer.get(name), int)}


def speak(failure: LiteLLMError) -> BackendError:
    """The same in the backend's terms: the client's advice is about LiteLLM."""
    words = f"HTTP {failure.status}: {failure.words}" if failure.status else f"no answer: {failure.words}"
    advice = {
        None: "Check litemaas_url, that the backend runs, and TLS settings (validate_certs, ca_path)",
        401: f"Check litemaas_admin_key: it has to be one of the backend's ADMIN_API_KEYS and begin with {KEY_PREFIX}",
        403: "This key may not: use one of the backend's ADMIN_API_KEYS",
        404: "Check that litemaas_url is the backend of LiteMaaS 0.4.0 or later, without /api",
    }.get(failure.status, "See the backend's log, and run again when it is ready")
    state = "Whether it has synced isn't known" if "models/sync" in failure.attempt else "Nothing was synced"
    return BackendError(failure.attempt, words, f"{advice}. {state}")


def lost(before: Catalogue | None, after: Catalogue | None) -> str:
    """What the sync took from people; "" for nothing."""
    if before is None or after is None:
        return ""
    counts = {
        "models became unavailable": len(before.available - after.available),
        "subscriptions became inactive": before.subscriptions - after.subscriptions,
        "keys became inactive": before.keys - after.keys,
    }
    said = ", ".join(f"{count} {words}" for words, count in counts.items() if count > 0)
    return (
        f"{said}. sync_databases with sync_repair=stuck_subscriptions undoes it, once the models are back"
        if said
        else ""
    )
