# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status at many keys: the whole module, with its page, and beside it the keys read through the API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, say, timed
from benchmarks.lab import BenchError, Lab

MODULE = "litemaas_status"
MEMORY_LIMIT = 300
#: Seconds, at the size of the bar.
LIMIT = 15.0
BAR = 100_000
#: Guids that the keys belong to, and models that they have used.
GUIDS, MODELS = 500, 200


def measure(lab: Lab, count: int, repeat: int) -> Iterator[Figure]:
    """Figures of the module with everything that needs no cluster."""
    page = Path(lab.folder) / "status.html"
    _fill(lab, count)
    try:
        seconds, peaks = [], []
        for number in range(max(repeat, 1)):
            run = lab.module(MODULE, {"report": str(page)})
            parts = run.result["status"]["parts"]
            missing = [name for name, part in parts.items() if part["read"] in ("unread", "partly")]
            if parts["keys"]["count"] < count or missing:
                raise BenchError(f"{MODULE} with {count} keys: {run.result['msg']}")
            seconds.append(run.seconds)
            peaks.append(run.peak_mb)
            say(f"{count} keys, round {number + 1}: {run.seconds:.2f} s, {run.peak_mb:.0f} MB")
        note = f"all parts without a cluster, {GUIDS} guids, {MODELS} rows of models, spend of 30 days, with the page"
        yield timed(f"{MODULE} with {count} keys", seconds, note, LIMIT if count <= BAR else None)
        yield Figure(f"{MODULE} with {count} keys, memory", max(peaks), "MB", limit=MEMORY_LIMIT, runs={"ours": peaks})
        yield Figure(f"{MODULE} with {count} keys, page", page.stat().st_size / 1024, "kB")
        started = time.perf_counter()
        counted = lab.module(MODULE, {"parts": ["keys", "spend", "subscriptions"]})
        yield timed(f"{MODULE}, keys, spend and subscriptions alone", [time.perf_counter() - started])
        if counted.result["status"]["parts"]["keys"]["count"] < count:
            raise BenchError(f"{MODULE}: {counted.result['msg']}")
    finally:
        _empty(lab)


def _fill(lab: Lab, count: int) -> None:
    """Keys with rows in LiteMaaS for a third of them, and what each has spent on some days."""
    values = {"start": lab.prefix, "count": count, "guids": GUIDS, "models": MODELS}
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute(
            'INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, expires, blocked, spend, metadata)'
            " SELECT md5(%(start)s || n) || md5(n || %(start)s), 'sk-...', %(start)s || n,"
            " CASE WHEN n %% 10 > 0 THEN now() AT TIME ZONE 'UTC' + (n %% 60 - 30) * interval '1 day' END, n %% 50 = 0,"
            " n %% 7, jsonb_build_object('guid', %(start)s || n %% %(guids)s) FROM generate_series(1, %(count)s) n",
            values,
        )
        cursor.execute(
            'INSERT INTO "LiteLLM_DailyUserSpend" (id, user_id, date, api_key, model, model_group, spend, api_requests,'
            " updated_at) SELECT %(start)s || n || '-' || d, '',"
            " to_char(now() - d * 5 * interval '1 day', 'YYYY-MM-DD'),"
            " md5(%(start)s || n) || md5(n || %(start)s), %(start)s || n %% %(models)s, %(start)s || n %% %(models)s,"
            " 0.01, 1, now() FROM generate_series(1, %(count)s) n, generate_series(0, 4) d",
            values,
        )
        cursor.execute('ANALYZE "LiteLLM_VerificationToken"')
        cursor.execute('ANALYZE "LiteLLM_DailyUserSpend"')
    with lab.database("LITEMAAS_DSN") as cursor:
        cursor.execute(
            "INSERT INTO models (id, name, provider) SELECT %(start)s || n, %(start)s || n, 'openai'"
            " FROM generate_series(1, %(models)s) n",
            values,
        )
        cursor.execute(
            "INSERT INTO api_keys (id, user_id, name, key_hash, key_prefix, litellm_key_alias, is_active)"
            " SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', %(start)s || n,"
            " md5(%(start)s || n) || md5(n || %(start)s), 'sk-', %(start)s || n, n %% 9 > 0"
            " FROM generate_series(1, %(count)s, 3) n",
            values,
        )
        cursor.execute("ANALYZE api_keys")


def _empty(lab: Lab) -> None:
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute('DELETE FROM "LiteLLM_VerificationToken" WHERE starts_with(key_alias, %s)', (lab.prefix,))
        cursor.execute('DELETE FROM "LiteLLM_DailyUserSpend" WHERE starts_with(id, %s)', (lab.prefix,))
    with lab.database("LITEMAAS_DSN") as cursor:
        cursor.execute("DELETE FROM api_keys WHERE starts_with(litellm_key_alias, %s)", (lab.prefix,))
        cursor.execute("DELETE FROM models WHERE starts_with(id, %s)", (lab.prefix,))
