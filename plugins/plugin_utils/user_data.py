# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AgnosticD's user info and user data: where the files are, what goes into them, and how they are written.

What a call asks for and what then belongs in the files is computed without any I/O; :class:`Files` reads and writes.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

#: What AgnosticD's own plugins are called.
CORE_USER_INFO = "agnosticd.core.agnosticd_user_info"
CORE_USER_DATA = "agnosticd.core.agnosticd_user_data"

DEFAULT_ACTION = "provision"
HIDDEN = "(in the user info)"

# With libyaml where it is there: a workshop's data has tens of thousands of lines.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

# What a file system that knows no locks on folders answers, NFS for one.
_NO_LOCKS = {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def core_is_installed() -> bool:
    """Whether AgnosticD's collection is there. Asking Ansible's loader for its plugins warns in 2.19 where it isn't."""
    try:
        return importlib.util.find_spec("ansible_collections.agnosticd.core") is not None
    except ImportError:
        return False


class UserDataError(Exception):
    """A file or a value that can't be used, in words without anything of its content."""


def plain(value: Any, name: str) -> Any:
    """The value in Python's own types, without what Ansible's have to them: tags, templates yet to come, vaults."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return "".join(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {plain(str(key), name): plain(value[key], f"{name}.{key}") for key in value}
    if isinstance(value, (list, tuple)):
        return [plain(one, name) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(one, name) for one in value), key=str)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    secret = getattr(value, "data", None)  # a vaulted value, decrypted when asked for
    if isinstance(secret, str):
        return "".join(secret)
    raise UserDataError(f"{name}: a value of type {type(value).__name__} can't be written as user data")


@dataclass(frozen=True)
class Request:
    """What one call wants to be written."""

    msg: tuple[str, ...] = ()
    body: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    user: str = ""
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    data_prefix: str = ""

    @property
    def said(self) -> tuple[str, ...]:
        """The messages, or the body."""
        return self.msg or ((self.body,) if self.body else ())

    def prefixed(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Data under the names that it gets in the file."""
        return {f"{self.data_prefix}{name}": value for name, value in data.items()}

    def merged(self, present: Mapping[str, Any]) -> dict[str, Any]:
        """The user data as it is to be, made from what is there."""
        wanted = dict(present)
        entries = {name: self.prefixed(data) for name, data in self.users.items()}
        if self.user:
            entries[self.user] = self.prefixed(self.data)
        else:
            wanted.update(self.prefixed(self.data))
        users = dict(_mapping(wanted.get("users"), "users"))
        if not entries:
            return wanted
        for name, entry in entries.items():
            users[name] = {**_mapping(users.get(name), f"users.{name}"), **entry}
        if self.user and self.said:
            entry, part = users[self.user], "msg" if self.msg else "body"
            for text in self.said:
                entry[part] = _joined(entry.get(part), text)
        return {**wanted, "users": users}


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserDataError(f"{name} is no mapping")
    return value


def _joined(present: Any, text: str) -> str:
    """A participant's message with one more, unless it is there already."""
    if not present:
        return text
    return str(present) if f"\n{text}\n" in f"\n{present}\n" else f"{present}\n{text}"


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names whose values differ."""
    return sorted(str(name) for name in {*before, *after} if name not in before or before[name] != after.get(name))


def covered(text: str, hidden: tuple[str, ...]) -> str:
    """The text as it may be shown."""
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


@dataclass(frozen=True)
class Files:
    """The three files of one action in one folder."""

    folder: Path
    action: str

    @classmethod
    def found(cls, variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Files:
        """Where AgnosticD has them, by its variables."""
        folder = _variable("output_dir", variables, template) or _plain_text(variables.get("playbook_dir"), template)
        action = _variable("ACTION", variables, template) or DEFAULT_ACTION
        if os.sep in action or action.startswith("."):
            raise UserDataError("ACTION can't be part of a file's name")
        return cls(Path(folder or "."), action)

    @property
    def data(self) -> Path:
        """Path of the user data."""
        return self._path("data")

    @property
    def info(self) -> Path:
        """Path of the messages."""
        return self._path("info")

    @property
    def body(self) -> Path:
        """Path of the bodies."""
        return self._path("body")

    def _path(self, kind: str) -> Path:
        # A link stays one: what it points at is replaced.
        return (self.folder / f"{self.action}-user-{kind}.yaml").resolve()

    def read_data(self) -> dict[str, Any]:
        """The user data; empty where there is no file."""
        text = _read(self.data)
        try:
            data = yaml.load(text or "", Loader=_Loader)  # noqa: S506 - it is the safe one
        except yaml.YAMLError as problem:
            # What the parser says quotes the line.
            mark = getattr(problem, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise UserDataError(f"{self.data}{where}: this is no YAML; mend or remove the file") from None
        if data is None:
            return {}
        if not isinstance(data, dict):
            raise UserDataError(f"{self.data} holds no mapping; mend or remove the file")
        return data

    def read_entry(self, user: str) -> dict[str, Any]:
        """One participant's values, or with no name those of the lab as a whole."""
        data = self.read_data()
        if not user:
            return data
        try:
            return dict(_mapping(_mapping(data.get("users"), "users").get(user), f"users.{user}"))
        except UserDataError as problem:
            raise UserDataError(f"{self.data}: {problem}") from None

    def or_provisioned(self) -> Files:
        """These, or those of the provisioning where this action has written no data and that has."""
        provisioned = Files(self.folder, DEFAULT_ACTION)
        return provisioned if not self.data.exists() and provisioned.data.exists() else self

    def merged(self, request: Request, present: Mapping[str, Any]) -> dict[str, Any]:
        """The request's data merged into what is there; an error names the file."""
        try:
            return request.merged(present)
        except UserDataError as problem:
            raise UserDataError(f"{self.data}: {problem}; mend or remove the file") from None

    def new_lines(self, path: Path, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Those texts that the file of messages or bodies doesn't have, each once."""
        known = set()
        for line in (_read(path) or "").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                known.add(json.loads(line.removeprefix("- ")))
        return tuple(text for text in dict.fromkeys(texts) if text not in known)

    def write_data(self, data: Mapping[str, Any]) -> None:
        """Replace the user data."""
        _write(self.data, yaml.dump(data, Dumper=_Dumper, explicit_start=True))

    def append(self, path: Path, texts: tuple[str, ...]) -> None:
        """Add texts to the file of messages or bodies."""
        before = _read(path) or ""
        if before and not before.endswith("\n"):
            before += "\n"
        _write(path, before + "".join(f"- {json.dumps(text)}\n" for text in texts))

    def make_folder(self) -> None:
        """Make the folder where it is missing."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise UserDataError(f"{self.folder} can't be made: {problem.strerror}") from problem

    def check_folder(self) -> None:
        """Whether files can be made there, or in a folder that can be made."""
        place = self.folder
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise UserDataError(f"{self.folder} can't be written to")

    def close_to_others(self) -> None:
        """Take everybody else's rights to the files that are there."""
        for path in (self.data, self.info, self.body):
            try:
                if path.stat().st_mode & 0o777 != 0o600:
                    path.chmod(0o600)
            except FileNotFoundError:
                continue
            except OSError as problem:
                raise UserDataError(f"{path} can't be given mode 0600: {problem.strerror}") from problem

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Others who ask for this wait. The lock is on the folder itself, so that it leaves no file behind."""
        try:
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as problem:
            raise UserDataError(f"{self.folder} can't be opened: {problem.strerror}") from problem
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
            except OSError as problem:
                if problem.errno not in _NO_LOCKS:
                    raise UserDataError(f"{self.folder} can't be locked: {problem.strerror}") from problem
            yield
        finally:
            os.close(folder)


def _variable(name: str, variables: Mapping[str, Any], template: Callable[[Any], Any]) -> str:
    """A variable of the host, or else of localhost, where AgnosticD sets its own."""
    own = _plain_text(variables.get(name), template)
    if own:
        return own
    hosts = variables.get("hostvars") or {}
    try:
        local = hosts["localhost"]
    except KeyError:
        return ""
    return _plain_text(local.get(name), template) if isinstance(local, Mapping) else ""


def _plain_text(value: Any, template: Callable[[Any], Any]) -> str:
    value = template(value) if value else ""
    return "".join(str(value)) if value else ""


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise UserDataError(f"{path} is no UTF-8 text; mend or remove the file") from None
    except OSError as problem:
        raise UserDataError(f"{path} can't be read: {problem.strerror}") from problem


def _write(path: Path, text: str) -> None:
    """Replace a file in one step; it is the owner's alone from its first byte on."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(temporary).replace(path)
    except OSError as problem:
        raise UserDataError(f"{path} can't be written: {problem.strerror}") from problem
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
