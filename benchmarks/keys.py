# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual keys: made, found again and deleted, beside a client that only makes them."""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, compared, say, timed
from benchmarks.lab import BenchError, Lab

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "stack"))
from faults import FaultProxy

MODULE = "litellm_virtual_key"
PAGE = 100
CREATE_LIMIT = 1.3
#: Requests beyond one for each page of the list.
REQUESTS_BEYOND_PAGES = 20
MEMORY_LIMIT = 300
#: Runs of so few keys are repeated more often.
SHORT, SHORT_FACTOR = 200, 3
#: POSTs that only read.
READING_POSTS = ("/v2/key/info", "/budget/info")


def measure(lab: Lab, sizes: Sequence[int], repeat: int, many: int) -> Iterator[Figure]:
    """Figures of the module with keys."""
    lab.call("POST", "/model/new", json=model_body(f"{lab.prefix}chat", lab.variables["UPSTREAM_URL"]))
    _warm_up(lab)
    for size in sizes:
        # A second or two a turn: what else the machine does weighs more, and more turns cost little.
        yield from _creating(lab, size, repeat * SHORT_FACTOR if size <= SHORT else repeat)
        yield from _again_and_away(lab, size, repeat)
    yield from _after_many(lab, min(sizes), many, repeat)
    yield from _memory(lab, many)


def model_body(name: str, upstream: str) -> dict[str, Any]:
    params = {"model": "openai/demo-chat", "api_base": f"{upstream}/v1", "api_key": "sk-placeholder"}
    return {"model_name": name, "litellm_params": params, "model_info": {"id": name}}


def arguments(lab: Lab, guid: str, count: int) -> dict[str, Any]:
    """What an operator gives for the keys of one lab."""
    return {
        "guid": guid,
        "models": [f"{lab.prefix}chat"],
        "duration": "7d",
        "max_budget": 5.0,
        "rpm_limit": 60,
        "tpm_limit": 100000,
        "metadata": {"created_by": "benchmark", "environment": "none"},
        "keys": [
            {"key_alias": f"virtkey-{guid}-user{number}", "user_id": f"user{number}@lab.opentlc.com"}
            for number in range(1, count + 1)
        ],
    }


def bodies(lab: Lab, guid: str, count: int, metadata: dict[str, Any], model: str = "") -> list[dict[str, Any]]:
    """What the module would post for the same keys, with values of our own choice."""
    return [
        {
            "key": f"sk-{secrets.token_urlsafe(32)}",
            "key_alias": f"virtkey-{guid}-user{number}",
            "user_id": f"user{number}@lab.opentlc.com",
            "models": [model or f"{lab.prefix}chat"],
            "duration": "604800s",
            "max_budget": 5.0,
            "rpm_limit": 60,
            "tpm_limit": 100000,
            "metadata": {**metadata, "guid": guid},
        }
        for number in range(1, count + 1)
    ]


def _created(lab: Lab, guid: str, count: int) -> tuple[float, float]:
    run = lab.module(MODULE, arguments(lab, guid, count))
    values = {entry.get("key") for entry in run.result["results"]}
    if run.result["summary"]["created"] != count or len(values) != count:
        raise BenchError(f"{count} keys asked for: {run.result['msg']}")
    return run.seconds, run.peak_mb


def _delete(lab: Lab, guid: str) -> float:
    return lab.module(MODULE, {"guid": guid, "state": "absent"}).seconds


def delete_bare(lab: Lab, bodies: Sequence[dict[str, Any]]) -> None:
    values = [body["key"] for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        chunks = [values[start : start + PAGE] for start in range(0, len(values), PAGE)]
        list(pool.map(lambda chunk: lab.call("POST", "/key/delete", json={"keys": chunk}), chunks))


def _metadata(lab: Lab, guid: str) -> dict[str, Any]:
    """What the module writes beside an operator's metadata, as it stands in the proxy."""
    found = lab.call("GET", "/key/list", params={"key_alias": f"virtkey-{guid}-user1", "return_full_object": "true"})
    return dict(found["keys"][0]["metadata"])


def _warm_up(lab: Lab) -> None:
    """A proxy's first calls are slower than all others."""
    guid = f"{lab.prefix}warm"
    _created(lab, guid, 40)
    posted = bodies(lab, f"{guid}b", 40, _metadata(lab, guid))
    lab.bare("/key/generate", posted)
    _delete(lab, guid)
    delete_bare(lab, posted)


def _creating(lab: Lab, size: int, repeat: int) -> Iterator[Figure]:
    guid = f"{lab.prefix}m"
    _created(lab, guid, 1)
    metadata = _metadata(lab, guid)
    _delete(lab, guid)
    ours, bare, calls, plays = [], [], [], []
    our_work, bare_work = [], []

    def by_us(number: int) -> None:
        guid = f"{lab.prefix}o{size}r{number}"
        before = lab.cpu_seconds()
        ours.append(_created(lab, guid, size)[0])
        our_work.append(lab.cpu_seconds() - before)
        _delete(lab, guid)

    def by_bare(number: int) -> None:
        posted = bodies(lab, f"{lab.prefix}b{size}r{number}", size, metadata)
        before = lab.cpu_seconds()
        run = lab.bare("/key/generate", posted)
        bare_work.append(lab.cpu_seconds() - before)
        bare.append(run.seconds)
        calls.append(run.result["seconds"])
        delete_bare(lab, posted)

    def by_playbook(number: int) -> None:
        guid = f"{lab.prefix}p{size}r{number}"
        plays.append(lab.playbook(f"rhpds.litemaas.{MODULE}", arguments(lab, guid, size)))
        _delete(lab, guid)

    turns = [by_us, by_bare, by_playbook]
    for number in range(repeat):
        for turn in turns[number % 3 :] + turns[: number % 3]:
            clear_archive(lab)  # the same start for every turn
            turn(number)
        say(
            f"{size} keys, round {number + 1}: ours {ours[-1]:.2f} s, bare {bare[-1]:.2f} s, playbook {plays[-1]:.2f} s"
        )
    yield compared(f"create {size} keys", ours, bare, CREATE_LIMIT, note="both are processes, timed from start to end")
    note = "ours from start to end, bare without its interpreter's start and imports"
    yield compared(f"create {size} keys, beside the calls alone", ours, calls, note=note)
    note = "client, proxy and database together: what else the machine does hardly shows in it"
    yield compared(f"create {size} keys, processor time", our_work, bare_work, note=note)
    yield compared(f"create {size} keys, whole ansible-playbook", plays, bare)


def clear_archive(lab: Lab) -> None:
    """Forget the deleted keys, which the module asks for so that no value is used twice."""
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute('DELETE FROM "LiteLLM_DeletedVerificationToken"')


def _after_many(lab: Lab, size: int, many: int, repeat: int) -> Iterator[Figure]:
    """Making keys where many were deleted before, as in a store that has served for a year."""
    guid = f"{lab.prefix}old"
    _created(lab, guid, 1)
    _delete(lab, guid)
    _copy_rows(lab, "LiteLLM_DeletedVerificationToken", guid, [secrets.token_hex(32) for _row in range(many)])
    seconds = []
    for number in range(repeat):
        seconds.append(_created(lab, f"{guid}{number}", size)[0])
        _delete(lab, f"{guid}{number}")
    clear_archive(lab)
    yield timed(f"create {size} keys, after {many} were deleted", seconds)


def _copy_rows(lab: Lab, table: str, guid: str, tokens: Sequence[str]) -> None:
    """Rows like that of a lab's first key, with these tokens; the first of them is the one that is there."""
    of_each = {
        "id": "gen_random_uuid()",
        "token": "t.token",
        "key_alias": "%(start)s || t.number",
        "user_id": "'user' || t.number || '@lab.opentlc.com'",
    }
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute(
            "SELECT quote_ident(column_name) FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
            (table,),
        )
        columns = [name for (name,) in cursor]
        cursor.execute(
            f'INSERT INTO "{table}" ({", ".join(columns)})'
            f" SELECT {', '.join(of_each.get(name, 'k.' + name) for name in columns)}"
            f' FROM "{table}" k, unnest(%(tokens)s) WITH ORDINALITY AS t(token, number)'
            " WHERE k.key_alias = %(start)s || 1 AND t.number > 1",
            {"start": f"virtkey-{guid}-user", "tokens": list(tokens)},
        )
        cursor.execute(f'ANALYZE "{table}"')


def _again_and_away(lab: Lab, size: int, repeat: int) -> Iterator[Figure]:
    """The second run and the deletion: timed straight at the proxy, counted through a proxy that counts."""
    guid = f"{lab.prefix}s{size}"
    again, away = [], []
    for number in range(repeat):
        _created(lab, guid, size)
        run = lab.module(MODULE, arguments(lab, guid, size))
        if run.result["changed"] or run.result["summary"]["unchanged"] != size:
            raise BenchError(f"second run with {size} keys: {run.result['msg']}")
        again.append(run.seconds)
        if number < repeat - 1:
            away.append(_delete(lab, guid))
    with FaultProxy(lab.url) as counter:
        pages = math.ceil(lab.call("GET", "/key/list", params={"size": 1})["total_count"] / PAGE)
        lab.module(MODULE, arguments(lab, guid, size), url=counter.url)
        second = counter.targets
        counter.clear()
        run = lab.module(MODULE, {"guid": guid, "state": "absent"}, url=counter.url)
        deletion = counter.targets
    if run.result["summary"]["deleted"] != size:
        raise BenchError(f"deleting {size} keys: {run.result['msg']}")
    limit = pages + REQUESTS_BEYOND_PAGES
    note = f"{pages} pages of the list + {REQUESTS_BEYOND_PAGES}"
    writes = writing(second)
    yield timed(f"second run with {size} keys", again)
    yield Figure(f"second run with {size} keys, requests", len(second), "", limit=limit, note=note)
    yield Figure(f"second run with {size} keys, writes", len(writes), "", limit=0)
    if away:
        yield timed(f"delete {size} keys", away)
    yield Figure(f"delete {size} keys, requests", len(deletion), "", limit=limit, note=note)
    say(f"{size} keys again: {again[-1]:.2f} s, {len(second)} requests; deleted with {len(deletion)} requests")


def writing(targets: Sequence[tuple[str, str]]) -> list[str]:
    """Paths of requests that write."""
    return [path for method, path in targets if method != "GET" and path.split("?")[0] not in READING_POSTS]


def _memory(lab: Lab, count: int) -> Iterator[Figure]:
    """A second run over many keys. They are put into the table by SQL: making them all would take minutes."""
    guid = f"{lab.prefix}many"
    given = arguments(lab, guid, count)
    _created(lab, guid, 1)
    tokens = _tokens(lab, guid, count)
    _copy_rows(lab, "LiteLLM_VerificationToken", guid, tokens)
    run = lab.module(MODULE, given)
    if run.result["changed"] or run.result["summary"]["unchanged"] != count:
        raise BenchError(f"second run with {count} keys: {run.result['msg']}")
    say(f"{count} keys again: {run.seconds:.2f} s, {run.peak_mb:.0f} MB")
    note = "a second run that finds every key; the rows were prepared by SQL"
    yield Figure(f"memory at {count} keys", run.peak_mb, "MB", limit=MEMORY_LIMIT, note=note)
    yield timed(f"second run with {count} keys", [run.seconds])
    with lab.database("LITELLM_DSN") as cursor:
        cursor.execute(
            'DELETE FROM "LiteLLM_VerificationToken" WHERE starts_with(key_alias, %s)', (f"virtkey-{guid}-",)
        )


def _tokens(lab: Lab, guid: str, count: int) -> list[str]:
    """The tokens that these keys would have if the module had made them."""
    from ansible_collections.rhpds.litemaas.plugins.module_utils import derive

    secret = lab.variables["LITELLM_KEY_SECRET"]
    aliases = (f"virtkey-{guid}-user{number}" for number in range(1, count + 1))
    return [derive.token_of(derive.key_value(secret, guid, alias, 1)) for alias in aliases]
