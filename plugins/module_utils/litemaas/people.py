# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""LiteMaaS's users: their roles, and their limits in both stores.

Facts that shape this (LiteMaaS 0.4.0; LiteLLM seen on 1.81.14 and 1.106.0):

- A user's row is made by the first login. Roles at a login only grow, by groups and INITIAL_ADMIN_USERS.
- The backend makes a user in LiteLLM, under the same id, with the limits of the row, once one is needed, and it is
  there that limits are enforced. So both are written; a user that LiteLLM doesn't have gets the limits when it is made.
- LiteLLM's ``/user/update`` **makes** a user that isn't there, and its ``/user/list?user_ids=`` matches parts of ids:
  so the list is asked first, and compared by whole ids.
- ``/user/update`` takes a null for ``max_budget`` and drops it for the other limits: a ``budget_duration`` can't be
  taken away there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection, take_turn

ADMIN, READONLY, USER = "admin", "admin-readonly", "user"
ROLES = (ADMIN, READONLY, USER)
LIMITS = ("max_budget", "budget_duration", "tpm_limit", "rpm_limit")
#: LiteMaaS's own user, which nobody logs in as.
SYSTEM = "00000000-0000-0000-0000-000000000001"
#: What LiteMaaS takes for no limit, as an int4 column can hold no more; and the most that its numeric(10,2) can.
UNLIMITED = 2147483647
LARGEST_BUDGET = Decimal("99999999.99")
TABLES: Mapping[str, Sequence[str]] = {
    "users": ("id", "username", "email", "oauth_id", "roles", "is_active", *LIMITS, "updated_at"),
    "audit_logs": ("action", "resource_type", "resource_id", "old_values", "new_values", "metadata", "success"),
}
#: Users that a message names.
NAMED = 3
#: Users asked for in one request.
CHUNK = 50


class PeopleError(ValueError):
    """Options that make no sense, before anything is read or written."""


@dataclass(frozen=True)
class Wish:
    """What is wanted of one user, or with ``user`` None of all.

    Attributes:
        limits: of :data:`LIMITS`, those that are given.
    """

    user: str | None
    role: str | None
    limits: Mapping[str, Any]


@dataclass(frozen=True)
class Person:
    """A row of ``users``."""

    id: str
    username: str
    email: str
    oauth_id: str
    roles: tuple[str, ...]
    is_active: bool
    limits: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.email or self.username

    @property
    def is_system(self) -> bool:
        return self.id == SYSTEM or self.username == "system"

    @property
    def is_admin(self) -> bool:
        """Whether this one can log in, and then make admins. A row without a login has never been one's who could."""
        return self.is_active and bool(self.oauth_id) and not self.is_system and ADMIN in self.roles


@dataclass
class Step:
    """One user's entry in the result.

    Attributes:
        columns: what is to be written into the row.
        remote: what is to be written in LiteLLM.
    """

    name: str
    person: Person | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    remote: dict[str, Any] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    notes: list[str] = field(default_factory=list)
    wished: dict[str, Any] = field(default_factory=dict)
    role: str | None = None
    #: Of everybody, one that nobody has ever logged in with.
    left_out: bool = False

    def shown(self) -> dict[str, Any]:
        """For the module's results."""
        changed = bool(self.changes) and not self.error
        action = "fail" if self.error else "update" if changed else "none"
        return {
            "name": self.name,
            "id": self.person.id if self.person else None,
            "action": action,
            "changed": changed,
            "failed": bool(self.error),
            "changes": [] if self.error else self.changes,
            "msg": self.error or "; ".join(self.notes) or ("updated" if changed else "as wanted"),
        }


def wishes(items: Iterable[Mapping[str, Any]], everybody: bool) -> list[Wish]:
    """What a module's items ask for. Raises PeopleError."""
    found = []
    for item in items:
        user = (item.get("user") or "").strip() or None
        limits = {name: limit(name, item[name]) for name in LIMITS if item.get(name) is not None}
        role = item.get("role")
        if not user and not everybody:
            raise PeopleError("Nobody is named: give user or users, or all: true. Nothing was written")
        if everybody and user:
            raise PeopleError("Both all and a user are given: give one of them. Nothing was written")
        if everybody and role:
            raise PeopleError("role with all: true would make everybody the same. Name the users. Nothing was written")
        if not limits and not role:
            raise PeopleError(
                f"Nothing is wanted of {user or 'everybody'}: give role, {', '.join(LIMITS[:-1])} or {LIMITS[-1]}."
                " Nothing was written"
            )
        found.append(Wish(user, role, limits))
    return found


def limit(name: str, value: Any) -> Any:
    """A limit as its column holds it. Raises PeopleError."""
    text = str(value).strip()
    if name == "budget_duration":
        try:
            return durations.budget_duration(text) if text else None
        except ValueError as problem:
            raise PeopleError(f"{name} is {value!r}: {problem}. Nothing was written") from None
    unlimited = text.lower() == "unlimited"
    try:
        number = Decimal(UNLIMITED) if unlimited else Decimal(text)
    except ArithmeticError:
        raise PeopleError(f"{name} is {value!r}: give a number, or unlimited. Nothing was written") from None
    if not number.is_finite() or number < 0:
        raise PeopleError(f"{name} is {value!r}: give a number from 0, or unlimited. Nothing was written")
    if name == "max_budget":
        if number == UNLIMITED:
            return LARGEST_BUDGET
        if number > LARGEST_BUDGET:
            raise PeopleError(f"max_budget is {value!r}: LiteMaaS holds {LARGEST_BUDGET} at most. Nothing was written")
        return number.quantize(Decimal("0.01"))
    if number != number.to_integral_value() or number > UNLIMITED:
        raise PeopleError(
            f"{name} is {value!r}: give a whole number up to {UNLIMITED}, which is unlimited. Nothing was written"
        )
    return int(number)


def roles_for(role: str, roles: Sequence[str]) -> list[str]:
    """A user's roles with this one as the highest: the other two grades go, what else there is stays."""
    others = [one for one in dict.fromkeys(roles) if one not in ROLES]
    return [*([role] if role != USER else []), USER, *others]


def grade(roles: Sequence[str]) -> str:
    """The highest of LiteMaaS's roles that these have, in a word."""
    return next((role for role in ROLES if role in roles), ", ".join(roles) or "no role")


def _one_of_all(person: Person, wish: Wish) -> Step:
    if person.oauth_id:
        return Step(person.name, person, wished=dict(wish.limits))
    # As one that is named: no key is ever made for it, and a login would make another row.
    return Step(person.name, notes=["nobody has ever logged in with it: left as it is"], left_out=True)


def admins(connection: Connection) -> list[dict[str, Any]]:
    """Who is an admin or may look at everything, with what keeps them from it. Writes nothing.

    Raises:
        DatabaseError: the users can't be read.
    """
    with connection.transaction("Read users", read_only=True) as cursor:
        connection.require(cursor, {"users": TABLES["users"]}, "Read users", "LiteMaaS")
        everybody = _read(cursor)
    return [
        {
            "name": one.name,
            "username": one.username,
            "role": grade(one.roles),
            "active": one.is_active,
            "logged_in": bool(one.oauth_id),
        }
        for one in everybody
        if {ADMIN, READONLY} & set(one.roles) and not one.is_system
    ]


def admins_message(found: Sequence[Mapping[str, Any]]) -> str:
    """One line: who is what."""
    said = []
    for role in (ADMIN, READONLY):
        names = []
        for one in found:
            if one["role"] == role:
                lacks = "" if one["active"] else " (inactive)"
                names.append(one["name"] + (lacks if one["logged_in"] else " (nobody has ever logged in with it)"))
        said.append(f"{len(names)} {role}{': ' if names else ''}{', '.join(names)}")
    return f"LiteMaaS users: {'; '.join(said)}"


class People:
    """One run.

    Args:
        connection: LiteMaaS's database.
        client: LiteLLM; None writes LiteMaaS's side alone.
    """

    def __init__(
        self,
        connection: Connection,
        client: LiteLLMClient | None,
        wanted: Sequence[Wish],
        check_mode: bool = False,
        timeouts: Mapping[str, Any] | None = None,
    ) -> None:
        self._connection = connection
        self._client = client
        self._wanted = wanted
        self._check_mode = check_mode
        self._timeouts = dict(timeouts or {})

    def run(self) -> list[Step]:
        """Compare, write both stores, read back.

        LiteMaaS's side is one transaction. LiteLLM's is written after it, as it can't be rolled back; what fails there
        is tried again by the next run, which compares both.

        Raises:
            DatabaseError, LiteLLMError: nothing was written.
        """
        with self._connection.transaction("Change users", keep=not self._check_mode, **self._timeouts) as cursor:
            self._connection.require(cursor, TABLES, "Read users", "LiteMaaS")
            # Two runs must not take the last two admins at once.
            take_turn(cursor)
            everybody = _read(cursor)
            steps = self._steps(everybody)
            self._keep_an_admin(steps, everybody)
            there = self._in_litellm([step for step in steps if step.wished and not step.error])
            for step in steps:
                if not step.error:
                    self._compare(step, there)
            self._write(cursor, [step for step in steps if step.columns and not step.error])
        if not self._check_mode:
            self._write_in_litellm([step for step in steps if step.remote and not step.error])
        return steps

    def _steps(self, everybody: Sequence[Person]) -> list[Step]:
        steps: list[Step] = []
        seen: dict[str, Step] = {}
        for wish in self._wanted:
            if wish.user is None:
                for person in everybody:
                    if person.is_active and not person.is_system:
                        steps.append(_one_of_all(person, wish))
                continue
            step = self._named(wish, everybody)
            if step.person and step.person.id in seen:
                text = f"stands in the list more than once (as {seen[step.person.id].name} and {step.name})"
                step.error = seen[step.person.id].error = f"{text}: give one item a user. It was left as it is"
            elif step.person:
                seen[step.person.id] = step
            steps.append(step)
        return steps

    def _named(self, wish: Wish, everybody: Sequence[Person]) -> Step:
        name = str(wish.user)
        step = Step(name, wished=dict(wish.limits), role=wish.role)
        found = [one for one in everybody if name.lower() == one.email.lower() or name == one.username]
        if len(found) > 1:
            both = " and ".join(f"{one.username} <{one.email}>" for one in found[:3])
            step.error = f"is {both}: give an e-mail address, or a user name, that only one has"
        elif not found or not found[0].oauth_id:
            step.error = (
                "LiteMaaS has no such user. A user is made by the first login: let them log in to the portal once, then"
                " run again (or check the spelling)"
            )
        elif found[0].is_system:
            step.error = "is LiteMaaS's own user, which is never changed"
        elif wish.role in (ADMIN, READONLY) and not found[0].is_active:
            step.error = f"is inactive, so that nobody can log in with it: not made {wish.role}"
        if not step.error:
            step.person = found[0]
        return step

    def _keep_an_admin(self, steps: Sequence[Step], everybody: Sequence[Person]) -> None:
        """Refuse what would leave nobody who can make admins."""
        admins = {one.id for one in everybody if one.is_admin}
        leaving = {
            step.person.id: step for step in steps if step.person and not step.error and step.role in (READONLY, USER)
        }
        coming = {
            step.person.id
            for step in steps
            if step.person and not step.error and step.role == ADMIN and step.person.id not in admins
        }
        if admins and not (admins - leaving.keys()) and not coming:
            for one in sorted(admins & leaving.keys()):
                leaving[one].error = "is the last admin: make somebody else an admin first. Left as it is"

    def _in_litellm(self, steps: Sequence[Step]) -> dict[str, Mapping[str, Any]] | None:
        """LiteLLM's users of these, by id; None where LiteLLM isn't asked."""
        if self._client is None:
            return None
        return read_users(self._client, [step.person.id for step in steps if step.person])

    def _compare(self, step: Step, there: Mapping[str, Mapping[str, Any]] | None) -> None:
        person = step.person
        if person is None:
            return
        if step.role:
            roles = roles_for(step.role, person.roles)
            if set(roles) != set(person.roles):
                step.columns["roles"] = roles
                step.changes.append({"field": "roles", "before": list(person.roles), "after": roles})
                step.notes += [f"from {grade(person.roles)} to {grade(roles)}", _reach(step.role)]
            else:
                step.notes.append(f"is {grade(roles)} already")
        for name, value in step.wished.items():
            if person.limits[name] != value:
                step.columns[name] = value
                step.changes.append({"field": name, "before": _plain(person.limits[name]), "after": _plain(value)})
        if there is None or not step.wished:
            return
        remote = there.get(person.id)
        if remote is None:
            step.notes.append("LiteLLM doesn't have this user yet: its limits come with the first key")
            return
        for name, value in step.wished.items():
            if value is None:
                if remote.get(name):
                    step.notes.append(f"LiteLLM keeps its {name} {remote[name]}, which can only be replaced there")
            elif not _same(remote.get(name), value):
                step.remote[name] = _plain(value)
                change = {"field": f"{name} in LiteLLM", "before": remote.get(name), "after": _plain(value)}
                step.changes.append(change)

    def _write(self, cursor: Any, steps: Sequence[Step]) -> None:
        for step in steps:
            person = step.person
            if person is None:
                continue
            cursor.execute(
                f"UPDATE users SET {', '.join(f'{name} = %s' for name in step.columns)}, updated_at = now()"
                " WHERE id = %s AND coalesce(roles, '{}') = %s::text[]",
                (*step.columns.values(), person.id, list(person.roles)),
            )
            if not cursor.rowcount:  # a login adds roles
                step.error = "was changed by somebody else at the same time. It was left as it is; run again"
                continue
            before = {name: person.roles if name == "roles" else person.limits[name] for name in step.columns}
            action = "USER_ROLES_UPDATE" if "roles" in step.columns else "USER_BUDGET_UPDATE"
            cursor.execute(
                "INSERT INTO audit_logs (action, resource_type, resource_id, old_values, new_values, metadata, success)"
                " VALUES (%s, 'USER', %s, %s, %s, %s, true)",
                (action, person.id, _json(before), _json(step.columns), _json({"source": ownership.MANAGER})),
            )

    def _write_in_litellm(self, steps: Sequence[Step]) -> None:
        client = self._client
        if client is None or not steps:
            return
        failed: dict[str, str] = {}

        def update(step: Step) -> None:
            person = step.person
            if person is None:
                return
            try:
                client.post("/user/update", {"user_id": person.id, **step.remote})
            except LiteLLMError as failure:
                failed[person.id] = str(failure)

        client.map(update, steps, 8)
        try:
            there = read_users(client, [step.person.id for step in steps if step.person])
        except LiteLLMError as failure:
            there = {}
            failed = {step.person.id: str(failure) for step in steps if step.person}
        for step in steps:
            if step.person is None:
                continue
            stored = there.get(step.person.id, {})
            wrong = [name for name, value in step.remote.items() if not _same(stored.get(name), value)]
            if wrong:
                why = failed.get(step.person.id) or "the answer was one of success"
                step.error = (
                    f"LiteLLM did not take {', '.join(wrong)}: {why.rstrip('.')}. LiteMaaS's row is as wanted;"
                    " run again"
                )


def _read(cursor: Any) -> list[Person]:
    cursor.execute(
        "SELECT id::text, username, email, coalesce(oauth_id, ''), coalesce(roles, '{}'),"
        f" coalesce(is_active, true), {', '.join(LIMITS)} FROM users ORDER BY username"
    )
    found = []
    for one, username, email, login, roles, is_active, *limits in cursor.fetchall():
        values = dict(zip(LIMITS, limits, strict=True))
        found.append(Person(one, username, email, login, tuple(roles), is_active, values))
    return found


def read_users(client: LiteLLMClient, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """LiteLLM's users of these ids that there are, by id. Raises LiteLLMError."""
    chunks = [list(ids[start : start + CHUNK]) for start in range(0, len(ids), CHUNK)]

    def rows_of(chunk: list[str]) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            answer = client.get("/user/list", {"user_ids": ",".join(chunk), "page": page, "page_size": 100})
            users = answer.get("users") if isinstance(answer, dict) else None
            if not isinstance(users, list):
                raise LiteLLMError(f"GET {client.url}/user/list", words="the answer is no list of users")
            found += [one for one in users if isinstance(one, dict)]
            pages = int(answer.get("total_pages") or 1)
            page += 1
        return found

    wanted = set(ids)
    rows = [row for chunk in client.map(rows_of, chunks, 8) for row in chunk]
    return {str(row["user_id"]): row for row in rows if row.get("user_id") in wanted}


def _reach(role: str) -> str:
    text = "reaches them with their next token: at their next login, or within 24 h"
    if role != ADMIN:
        text += (
            "; a login gives back what the groups litemaas-admins and litemaas-readonly, and the deployment's list of"
            " admins, say"
        )
    return text


def _same(stored: Any, wanted: Any) -> bool:
    if isinstance(wanted, (int, float, Decimal)) and isinstance(stored, (int, float, Decimal)):
        return round(float(stored), 2) == round(float(wanted), 2)
    return bool(stored == wanted)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps({name: _plain(value) for name, value in values.items()})


def message(steps: Sequence[Step], check_mode: bool) -> str:
    """One line: what happened, and the first troubles by name."""
    entries = [step.shown() for step in steps]
    changed = [one for one in entries if one["changed"]]
    failed = [one for one in entries if one["failed"]]
    verb = "to change" if check_mode else "changed"
    left = sum(step.left_out for step in steps)
    unchanged = len(entries) - len(changed) - len(failed) - left
    said = [f"{len(changed)} {verb}"] * bool(changed) + [f"{unchanged} as wanted"] * bool(unchanged)
    said += [f"{len(failed)} failed"] * bool(failed)
    said += [f"{left} left out, as nobody has ever logged in with them"] * bool(left)
    text = f"LiteMaaS users: {', '.join(said) or 'nobody is there'}"
    notes = [f"{one['name']}: {one['msg']}" for one in failed[:NAMED]]
    if len(failed) > NAMED:
        notes.append(f"and {len(failed) - NAMED} more (see results)")
    named = [(step, one) for step, one in zip(steps, entries, strict=True) if not step.error and not step.left_out]
    if not failed and len(named) == 1 and named[0][1]["msg"] not in ("updated", "as wanted"):
        notes = [f"{named[0][1]['name']}: {named[0][1]['msg']}"]
    else:
        # Of several, what each was and is.
        roles = [f"{step.name}: {step.notes[0]}" for step, _entry in named if step.role]
        notes += roles[:NAMED] + [f"and {len(roles) - NAMED} more (see results)"] * (len(roles) > NAMED)
    return f"{text}. {'; '.join(notes)}" if notes else text
