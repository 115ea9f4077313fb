# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A key as declared: the options of an item, parsed and checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, durations, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.rows import ASIDE

#: A guid, and by which aliases keys without our mark belong to it.
Lab = tuple[str, tuple[re.Pattern[str], ...]]

#: Fields of a key's row that an item sets directly.
COLUMNS = (
    "models",
    "max_budget",
    "budget_duration",
    "tpm_limit",
    "rpm_limit",
    "max_parallel_requests",
    "user_id",
    "team_id",
    "allowed_routes",
)
#: Fields that LiteLLM keeps inside ``metadata``.
IN_METADATA = ("model_rpm_limit", "model_tpm_limit", "tags", "guardrails")
_RESERVED_METADATA = ownership.KEPT | frozenset(IN_METADATA)
_LARGEST = {"max_parallel_requests": 2**31 - 1, "tpm_limit": 2**63 - 1, "rpm_limit": 2**63 - 1}
_LARGEST_AMOUNT = 1e15
LONGEST_ALIAS = 255


@dataclass
class Wanted:
    """A key as declared, or an instruction about existing ones. ``error`` tells why it can't be acted on."""

    alias: str | None = None
    token: str | None = None
    guid: str | None = None
    uuid: str | None = None
    #: present: as declared; existing: must be there, only what is given changes; absent.
    state: str = "present"
    columns: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    in_metadata: dict[str, Any] = field(default_factory=dict)
    model_max_budget: dict[str, Any] | None = None
    soft_budget: float | None = None
    duration: str | None = None
    expires: datetime | None = None
    blocked: bool | None = None
    unblock: bool = False
    reset_spend: bool = False
    extend: int | None = None
    #: How long it is meant to live, as people say it: 7d.
    lives_for: str = ""
    allow_shorten: bool = False
    renew: bool = True
    rotate: bool = False
    rotate_created_before: datetime | None = None
    rotate_grace: int = 0
    on_unrecoverable: str = "fail"
    require_usable: bool = True
    #: Where the item names a lab: aliases by which keys without our mark count as the lab's own.
    legacy: tuple[re.Pattern[str], ...] = ()
    #: Fields that have just been taken away, whatever the key's record says of them by now.
    gone: tuple[str, ...] = ()
    error: str = ""

    @property
    def name(self) -> str:
        if self.alias:
            return self.alias
        return (
            f"token {self.token[:12]}" if self.token else f"keys of guid {self.guid}" if self.guid else "nameless key"
        )

    @property
    def identities(self) -> list[str]:
        """What the value may have been derived from, the preferred one first."""
        return [*dict.fromkeys(one for one in (self.uuid, self.guid) if one), ""]

    @property
    def fields(self) -> dict[str, Any]:
        """What is set, by the server's names, without metadata and expiry."""
        fields = {**self.columns, **self.in_metadata}
        if self.model_max_budget is not None:
            fields["model_max_budget"] = self.model_max_budget
        if self.soft_budget is not None:
            fields["soft_budget"] = self.soft_budget
        if self.blocked is not None:
            fields["blocked"] = self.blocked
        return fields

    @property
    def models(self) -> list[str]:
        """Every model that is named: those it may call, and those it has limits for."""
        limited = (self.in_metadata.get(name) or {} for name in ("model_rpm_limit", "model_tpm_limit"))
        return [*dict.fromkeys([*(self.columns.get("models") or ()), *(name for limits in limited for name in limits)])]


def labs_of(items: Iterable[Wanted]) -> frozenset[Lab]:
    return frozenset((item.guid, item.legacy) for item in items if item.guid)


def wanted_from_options(options: Mapping[str, Any], now: datetime) -> Wanted:
    """One item of ``keys:`` with the top-level options filled in; never raises, see ``error``."""
    problems: list[str] = []

    def parsed(name: str, parse: Any) -> Any:
        value = options.get(name)
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as problem:
            problems.append(f"{name}: {problem}")
            return None

    item = Wanted(
        alias=options.get("key_alias"),
        token=options.get("token"),
        guid=options.get("guid") or None,
        uuid=options.get("uuid") or None,
        state=options.get("state") or "present",
        columns={name: options[name] for name in COLUMNS if options.get(name) is not None},
        metadata={k: v for k, v in (options.get("metadata") or {}).items() if v is not None},
        in_metadata={name: _whole(options[name]) for name in IN_METADATA if options.get(name) is not None},
        model_max_budget=options.get("model_max_budget"),
        soft_budget=options.get("soft_budget"),
        expires=parsed("expires", durations.moment),
        blocked=options.get("blocked"),
        unblock=bool(options.get("unblock")),
        reset_spend=bool(options.get("reset_spend")),
        extend=parsed("extend", durations.seconds),
        allow_shorten=bool(options.get("allow_shorten")),
        renew=options.get("renew") is not False,
        rotate=bool(options.get("rotate")),
        rotate_created_before=parsed("rotate_created_before", durations.moment),
        rotate_grace=parsed("rotate_grace", durations.seconds) or 0,
        on_unrecoverable=options.get("on_unrecoverable") or "fail",
        require_usable=options.get("require_usable") is not False,
    )
    if options.get("duration") is not None:
        item.duration = str(options["duration"])
        parsed("duration", durations.seconds)
    item.lives_for = str(options.get("extend") or options.get("duration") or "").strip()
    item.legacy = tuple(parsed("legacy_aliases", _patterns) or ())
    if "budget_duration" in item.columns:
        item.columns["budget_duration"] = parsed("budget_duration", durations.budget_duration)
    if item.token and item.token.startswith("sk-"):
        item.token = derive.token_of(item.token.strip())
    _check(item, now, problems)
    item.error = "; ".join(problems)
    return item


def _patterns(texts: Iterable[str]) -> list[re.Pattern[str]]:
    compiled = []
    for text in texts:
        try:
            compiled.append(re.compile(text))
        except re.error as problem:
            raise ValueError(f"{text!r} is no regular expression: {problem}") from problem
    return compiled


def _whole(value: Any) -> Any:
    """A dictionary with its numbers as numbers: templates make text of them."""
    if not isinstance(value, dict):
        return value
    return {name: int(one) if isinstance(one, str) and one.isdecimal() else one for name, one in value.items()}


def _check(item: Wanted, now: datetime, problems: list[str]) -> None:
    if item.alias is not None:
        if not item.alias.strip() or item.alias != item.alias.strip():
            problems.append("key_alias is empty, or begins or ends with white space")
        if len(item.alias) > LONGEST_ALIAS:
            problems.append(f"key_alias has {len(item.alias)} characters; {LONGEST_ALIAS} at most")
        if any(ord(one) < 32 or ord(one) == 127 or 0xD800 <= ord(one) < 0xE000 for one in item.alias):
            problems.append("key_alias has a line break or another control character")
        if ASIDE.search(item.alias):
            problems.append("key_alias ends as this module marks keys that are rotated out")
    elif item.state == "present":
        problems.append("key_alias is missing")
    elif not item.token and not item.guid:
        problems.append("one of key_alias, token and guid is needed")
    if item.token is not None and not derive.is_token(item.token):
        problems.append("token is neither a key's value nor its sha256 in hex")
    for name in ("max_budget", "soft_budget", "tpm_limit", "rpm_limit", "max_parallel_requests"):
        value = item.soft_budget if name == "soft_budget" else item.columns.get(name)
        if value is not None and not 0 <= value <= _LARGEST.get(name, _LARGEST_AMOUNT):
            problems.append(f"{name} is {value}; it must be zero or more, and no larger than LiteLLM can store")
    for name in ("model_rpm_limit", "model_tpm_limit"):
        for model, value in (item.in_metadata.get(name) or {}).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                problems.append(f"{name}: {model}: {value!r} is not a whole number, zero or more")
    reserved = sorted(_RESERVED_METADATA & item.metadata.keys())
    if reserved:
        problems.append(f"metadata.{reserved[0]} is set by this module; leave it out or use the option of that name")
    if item.expires is not None and item.duration is not None:
        problems.append("duration and expires exclude each other")
    if item.expires is not None and item.expires <= now and item.state != "absent":
        problems.append(f"expires: {durations.iso(item.expires)} is past")
    if item.blocked and item.unblock:
        problems.append("blocked and unblock exclude each other")
    if item.state == "absent" and (item.rotate or item.extend):
        problems.append("rotate and extend make no sense with state absent")
