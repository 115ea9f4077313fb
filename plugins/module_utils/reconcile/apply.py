# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a plan: read, plan, apply, read again, plan again. What the second plan still wants is what failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import (
    FAIL,
    Prune,
    Resource,
    Step,
    make_plan,
)

W = TypeVar("W")
O = TypeVar("O")  # noqa: E741

#: Seconds between two looks at a proxy that does not show a write yet.
POLL = 1.0


class ActingResource(Resource[W, O], Protocol[W, O]):
    """The half of a resource that speaks to the server."""

    client: Any
    workers: int

    def read(self, wanted: Sequence[W]) -> list[O]:
        """Everything the plan has to know. Raises LiteLLMError on an unusable or partial answer."""

    def read_back(self, steps: Sequence[Step[W, O]], before: Sequence[O]) -> list[O]:
        """The same after the steps were applied."""

    def units(self, steps: Sequence[Step[W, O]]) -> list[list[Step[W, O]]]:
        """Steps grouped into calls: what may go in one request goes in one unit."""

    def act(self, unit: list[Step[W, O]]) -> None:
        """Does one unit. Raises LiteLLMError; sets ``error`` and FAIL on single steps of a larger unit."""

    def expected(self, steps: Sequence[Step[W, O]]) -> list[W]:
        """What is wanted now that one-off verbs (rotate, extend) have been carried out."""


def converge(
    resource: ActingResource[W, O],
    wanted: Sequence[W],
    *,
    prune: Prune | None = None,
    check_mode: bool = False,
    wait: Callable[[list[Step[W, O]]], None] | None = None,
    patience: float = 0.0,
) -> list[Step[W, O]]:
    """Make the server match what is wanted.

    Args:
        patience: seconds within which a write has to become visible (a replica reloads models every 30 s).
        wait: called once after the writes, e.g. to see every replica catch up.

    Returns:
        the executed steps; failed ones as FAIL with their error.

    Raises:
        LiteLLMError: nothing could be read, so nothing was written.
    """
    observed = resource.read(wanted)
    steps = make_plan(resource, wanted, observed, prune)
    if check_mode or not any(step.writes for step in steps):
        return steps
    _act(resource, steps)
    done = [step for step in steps if step.writes]
    if done:
        _verify(resource, done, observed, patience)
    if wait is not None:
        wait([step for step in steps if step.writes])
    return steps


def _act(resource: ActingResource[W, O], steps: list[Step[W, O]]) -> None:
    units = resource.units([step for step in steps if step.writes])

    def run(unit: list[Step[W, O]]) -> None:
        try:
            resource.act(unit)
        except LiteLLMError as failure:
            for step in unit:
                fail(step, failure.sentence())
        except Exception as failure:  # noqa: BLE001  a bug in one item must not lose what the others did
            for step in unit:
                fail(step, f"unexpected {type(failure).__name__} while acting on it: {failure}")

    # The client's own pool: its connections are kept alive from one call to the next.
    resource.client.map(run, units, resource.workers)


def _verify(resource: ActingResource[W, O], done: list[Step[W, O]], before: Sequence[O], patience: float) -> None:
    deadline = time.monotonic() + patience
    pending = done
    while True:
        try:
            observed = resource.read_back(pending, before)
        except LiteLLMError as failure:
            for step in pending:
                fail(step, f"written, but could not be read back: {failure.sentence()}")
            return
        pending = _residual(resource, pending, observed)
        if not pending or time.monotonic() >= deadline:
            break
        time.sleep(POLL)
    for step in pending:
        fail(step, step.extra.pop("residual"))


def _residual(resource: ActingResource[W, O], steps: list[Step[W, O]], observed: Sequence[O]) -> list[Step[W, O]]:
    """Those of the steps whose result isn't there, each with ``residual`` saying what is missing."""
    left: list[Step[W, O]] = []
    there = {resource.identity(one) for one in observed}
    for step in steps:
        if step.wanted is None or step.action == "delete":
            if step.current is not None and resource.identity(step.current) in there:
                step.extra["residual"] = "the server answered that it was deleted, but it is still there"
                left.append(step)
            continue
        for wanted in resource.expected([step]):
            for again in resource.steps(wanted, resource.find(wanted, observed)):
                if again.action != "none":
                    step.extra["residual"] = _describe(again)
                    left.append(step)
                    break
            else:
                continue
            break
    return left


def _describe(again: Step[Any, Any]) -> str:
    if again.action == FAIL:
        return f"the server answered that it was written, but reading it back: {again.error}"
    if again.action == "create":
        return "the server answered that it was created, but it is not there"
    fields = ", ".join(f"{c.field} is {c.before!r} instead of {c.after!r}" for c in again.changes) or again.note
    return f"the server answered that it was written, but reading it back: {fields}"


def fail(step: Step[Any, Any], error: str) -> None:
    """Turn a step into a failed one, keeping what it had been about to do."""
    step.extra.setdefault("attempted", step.action)
    step.action = FAIL
    step.error = error
