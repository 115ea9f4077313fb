# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Model deployments: made and found again, beside a client that only makes them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.figures import Figure, compared, say, timed
from benchmarks.lab import BenchError, Lab

MODULE = "litellm_model"


def measure(lab: Lab, count: int, repeat: int) -> Iterator[Figure]:
    """Figures of the module with models. They have no bar: /model/new is what takes the time."""
    ours, bare, again, away = [], [], [], []
    # A proxy's first model is slow, and one has to stay: without any, LiteLLM answers /model/info with an error.
    _delete(lab, [_post(lab, name)["model_info"]["id"] for name in _names(lab, "warm", 3)[1:]])

    def by_us(number: int) -> None:
        names = _names(lab, f"o{number}", count)
        run = lab.module(MODULE, _arguments(lab, names))
        if run.result["summary"]["created"] != count:
            raise BenchError(f"{count} models asked for: {run.result['msg']}")
        ours.append(run.seconds)
        run = lab.module(MODULE, _arguments(lab, names))
        if run.result["changed"]:
            raise BenchError(f"second run with {count} models: {run.result['msg']}")
        again.append(run.seconds)
        away.append(lab.module(MODULE, {"state": "absent", **_only_names(names)}).seconds)

    def by_bare(number: int) -> None:
        bodies = [_body(lab, name) for name in _names(lab, f"b{number}", count)]
        bare.append(lab.bare("/model/new", bodies).seconds)
        _delete(lab, [body["model_info"]["id"] for body in bodies])

    turns = [by_us, by_bare]
    for number in range(repeat):
        for turn in turns if number % 2 == 0 else turns[::-1]:
            turn(number)
        say(f"{count} models, round {number + 1}: ours {ours[-1]:.2f} s, bare {bare[-1]:.2f} s")
    yield compared(f"create {count} models", ours, bare)
    yield timed(f"second run with {count} models", again)
    yield timed(f"delete {count} models", away)


def _names(lab: Lab, part: str, count: int) -> list[str]:
    return [f"{lab.prefix}{part}-{number}" for number in range(count)]


def _arguments(lab: Lab, names: Sequence[str]) -> dict[str, Any]:
    return {
        "api_base": f"{lab.variables['UPSTREAM_URL']}/v1",
        "api_key": "sk-placeholder",
        "litellm_model": "openai/demo-chat",
        "context_length": 131072,
        "input_cost_per_million_tokens": 0.09,
        "output_cost_per_million_tokens": 0.36,
        **_only_names(names),
    }


def _only_names(names: Sequence[str]) -> dict[str, Any]:
    return {"models": [{"model_name": name} for name in names]}


def _body(lab: Lab, name: str) -> dict[str, Any]:
    base = f"{lab.variables['UPSTREAM_URL']}/v1"
    return {
        "model_name": name,
        "litellm_params": {"model": "openai/demo-chat", "api_base": base, "api_key": "sk-placeholder"},
        "model_info": {
            "id": str(uuid.uuid4()),
            "max_tokens": 131072,
            "input_cost_per_token": 9e-08,
            "output_cost_per_token": 3.6e-07,
        },
    }


def _post(lab: Lab, name: str) -> dict[str, Any]:
    body = _body(lab, name)
    lab.call("POST", "/model/new", json=body)
    return body


def _delete(lab: Lab, ids: Sequence[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda identity: lab.call("POST", "/model/delete", json={"id": identity}), ids))
