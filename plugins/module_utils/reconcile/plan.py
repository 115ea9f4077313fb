# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted and what is there, turned into steps. Pure: no HTTP, no clock, no Ansible.

A resource (``litellm/resources``) knows its own identity and fields; this module knows what every resource has in
common: one step an item, nothing claimed twice, prune only what is ours, and a guard on how much may go.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ansible_collections.rhpds.litemaas.plugins.module_utils.ownership import removal_refused

W = TypeVar("W")
O = TypeVar("O")  # noqa: E741  an observed object; the name pairs with W

NONE, CREATE, UPDATE, ROTATE, DELETE, FAIL = "none", "create", "update", "rotate", "delete", "fail"
#: How a value that must not be shown appears in changes, diffs and results.
HIDDEN = "hidden"


@dataclass(frozen=True)
class Change:
    """One field that differs. Secrets come as HIDDEN on both sides."""

    field: str
    before: Any
    after: Any


@dataclass
class Step(Generic[W, O]):
    """What is to be done about one item.

    ``note`` says why where that isn't plain from the changes; ``error`` is set on FAIL steps only.
    """

    name: str
    action: str
    wanted: W | None = None
    current: O | None = None
    changes: list[Change] = field(default_factory=list)
    note: str = ""
    error: str = ""
    #: What the resource worked out while planning and needs again when it acts.
    extra: dict[str, Any] = field(default_factory=dict)
    #: Further observed objects that this step takes care of.
    besides: list[O] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        return self.action not in (NONE, FAIL)


@dataclass(frozen=True)
class Prune:
    """Remove what is ours, in this scope, and not wanted."""

    scope: str
    max_percent: int = 20
    allow_mass: bool = False


class Resource(Protocol[W, O]):
    """The pure half of a resource: what :func:`make_plan` asks of it."""

    kind: str

    def find(self, wanted: W, observed: Sequence[O]) -> list[O]:
        """What of the observed this item speaks of."""

    def steps(self, wanted: W, found: list[O]) -> list[Step[W, O]]:
        """What to do about it."""

    def identity(self, observed: O) -> str:
        """The primary key of an observed object."""

    def prunable(self, observed: O, scope: str) -> bool:
        """Whether it carries our mark and this scope."""

    def removal(self, observed: O) -> Step[W, O]:
        """The step that deletes it."""


def make_plan(
    resource: Resource[W, O], wanted: Sequence[W], observed: Sequence[O], prune: Prune | None = None
) -> list[Step[W, O]]:
    """One list of steps in the order of ``wanted``, prunes last.

    Two items that speak of the same observed object are an error of the second one: applied, they would undo each
    other on every run. What a failing item may have meant is not pruned.
    """
    steps: list[Step[W, O]] = []
    claimed: dict[str, str] = {}
    unclear: set[str] = set()
    for item in wanted:
        found = resource.find(item, observed)
        for step in resource.steps(item, found):
            spoken_of = [resource.identity(one) for one in ([step.current] if step.current else []) + step.besides]
            twice = next((identity for identity in spoken_of if identity in claimed), None)
            if twice is not None and step.action != FAIL:
                step = Step(
                    step.name,
                    FAIL,
                    wanted=item,
                    error=f"speaks of the same {resource.kind} as {claimed[twice]!r} ({twice})",
                )
            for identity in spoken_of:
                claimed.setdefault(identity, step.name)
            if step.action == FAIL:
                unclear.update(resource.identity(one) for one in found)
            steps.append(step)
    if prune is not None:
        steps.extend(_prune(resource, observed, claimed.keys() | unclear, prune))
    return steps


def _prune(resource: Resource[W, O], observed: Sequence[O], spared: AbstractSet[str], prune: Prune) -> list[Step[W, O]]:
    ours = [one for one in observed if resource.prunable(one, prune.scope)]
    surplus = [one for one in ours if resource.identity(one) not in spared]
    refused = None if prune.allow_mass else removal_refused(len(surplus), len(ours), prune.max_percent)
    steps = [resource.removal(one) for one in surplus]
    for step in steps:
        step.note = step.note or f"not in the list, and in scope {prune.scope!r}"
        if refused and step.action == DELETE:
            step.action = FAIL
            step.error = f"prune refused: {refused}; check the list, or allow it with allow_mass_prune"
    return steps


class Parsed(str):
    """A text of which the server makes a number or a boolean, if that is what it knows the field as.

    Not for what is stored as it is sent, such as metadata: there "1.10" has to replace 1.1.
    """

    __slots__ = ()


def same(wanted: Any, observed: Any) -> bool:
    """Whether a server holds what was sent, allowing for what JSON and databases do to numbers."""
    if isinstance(wanted, Parsed) and isinstance(observed, (int, float)):
        return _reads_as(wanted, observed)
    if isinstance(wanted, bool) or isinstance(observed, bool):
        return wanted is observed
    if isinstance(wanted, (int, float)) and isinstance(observed, (int, float)):
        return abs(wanted - observed) <= 1e-9 * max(abs(wanted), abs(observed))
    if isinstance(wanted, (int, float)) and isinstance(observed, str):
        try:
            return same(wanted, float(observed))
        except ValueError:
            return False
    if isinstance(wanted, dict) and isinstance(observed, dict):
        return wanted.keys() == observed.keys() and all(same(wanted[key], observed[key]) for key in wanted)
    if isinstance(wanted, (list, tuple)) and isinstance(observed, (list, tuple)):
        return len(wanted) == len(observed) and all(same(a, b) for a, b in zip(wanted, observed, strict=True))
    return bool(wanted == observed)


#: What pydantic, and so LiteLLM, takes for a boolean.
_WORDS = {
    **dict.fromkeys("true t yes y on 1".split(), True),
    **dict.fromkeys("false f no n off 0".split(), False),
}


def _reads_as(text: str, observed: float) -> bool:
    if isinstance(observed, bool):
        return _WORDS.get(text.lower()) is observed
    try:
        return same(float(text), observed)
    except ValueError:
        return False
