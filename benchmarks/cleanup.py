# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clean-up of keys in a large store, beside a client that makes the same batched deletes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from benchmarks.figures import Figure, compared, say, timed
from benchmarks.keys import MEMORY_LIMIT, clear_archive
from benchmarks.lab import BenchError, Lab

MODULE = "litellm_key_cleanup"
LIMIT = 1.5
#: As in module_utils/litellm/key_cleanup.py: the bare client deletes as many at once, over as many connections.
BATCH, CONNECTIONS = 100, 4
#: Of a hundred keys as many have expired; of as many of those LiteMaaS has a row.
GOING, WITH_ROW = 60, 10

_FILL = """
INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, expires, models, metadata, created_at, updated_at)
SELECT encode(sha256((%(start)s || n)::bytea), 'hex'), 'sk-...abcd', %(start)s || n,
  timezone('utc', now()) + CASE WHEN n <= %(going)s THEN interval '-9 days' ELSE interval '9 days' END, '{bench}',
  jsonb_build_object('managed_by', 'rhpds.litemaas', 'guid', 'bench' || n %% 500, 'created_by', 'benchmark',
    'environment', 'none', 'rhpds_litemaas', jsonb_build_object('generation', 1, 'fields', '["models"]'::jsonb)),
  now() - interval '30 days', now()
FROM generate_series(1, %(count)s) n
"""
_ROWS = """
INSERT INTO api_keys (user_id, name, key_hash, key_prefix, litellm_key_alias, is_active)
SELECT '00000000-0000-0000-0000-000000000001', 'bench', encode(sha256((%(start)s || n)::bytea), 'hex'), 'sk-',
  %(start)s || n, true FROM generate_series(1, %(count)s) n WHERE n %% %(every)s = 0
"""


def measure(lab: Lab, count: int, repeat: int) -> Iterator[Figure]:
    """Figures of a store with so many keys, most of which have expired."""
    going = count * GOING // 100
    start = f"{lab.prefix}c"
    ours: list[float] = []
    bare: list[float] = []
    memory: list[float] = []
    again: list[float] = []
    foreseen: list[float] = []

    def by_us() -> None:
        _fill(lab, start, count, going)
        given = {"allow_mass_cleanup": True}
        look = lab.module(MODULE, {**given, "_ansible_check_mode": True})
        if look.result["summary"]["deleted"] != going:
            raise BenchError(f"clean-up of {count} keys, looked at: {look.result['msg']}")
        foreseen.append(look.seconds)
        run = lab.module(MODULE, given)
        rows = going // WITH_ROW
        if (run.result["summary"]["deleted"], run.result["summary"]["revoked"]) != (going, rows):
            raise BenchError(f"clean-up of {count} keys: {run.result['msg']}")
        ours.append(run.seconds)
        memory.append(run.peak_mb)
        run = lab.module(MODULE, given)
        if run.result["changed"]:
            raise BenchError(f"clean-up again: {run.result['msg']}")
        again.append(run.seconds)

    def by_bare() -> None:
        _fill(lab, start, count, going)
        tokens = [hashlib.sha256(f"{start}{number}".encode()).hexdigest() for number in range(1, going + 1)]
        bodies = [{"keys": tokens[at : at + BATCH]} for at in range(0, going, BATCH)]
        bare.append(lab.bare("/key/delete", bodies, CONNECTIONS).seconds)

    for number in range(repeat):
        for turn in (by_us, by_bare) if number % 2 else (by_bare, by_us):
            turn()
            _empty(lab, start)
        say(f"{going} of {count} keys, round {number + 1}: ours {ours[-1]:.1f} s, bare {bare[-1]:.1f} s")
    note = f"batches of {BATCH} over {CONNECTIONS} connections; ours reads, judges, reads back and revokes rows besides"
    yield compared(f"clean up {going} of {count} keys", ours, bare, LIMIT, note=note)
    yield Figure(f"clean up {going} of {count} keys, memory", max(memory), "MB", limit=MEMORY_LIMIT)
    yield timed(f"which of {count} keys would go (check mode)", foreseen)
    yield timed(f"clean up again, {count - going} keys left", again)


def _fill(lab: Lab, start: str, count: int, going: int) -> None:
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute(_FILL, {"start": start, "count": count, "going": going})
        cursor.execute('ANALYZE "LiteLLM_VerificationToken"')
    with lab.database("LITEMAAS_DSN") as cursor:
        cursor.execute(_ROWS, {"start": start, "count": count, "every": WITH_ROW})
        cursor.execute("ANALYZE api_keys")


def _empty(lab: Lab, start: str) -> None:
    clear_archive(lab)
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute('DELETE FROM "LiteLLM_VerificationToken" WHERE starts_with(key_alias, %s)', (start,))
        cursor.execute('VACUUM "LiteLLM_VerificationToken", "LiteLLM_DeletedVerificationToken"')
    with lab.database("LITEMAAS_DSN") as cursor:
        cursor.execute("DELETE FROM api_keys WHERE starts_with(litellm_key_alias, %s)", (start,))
