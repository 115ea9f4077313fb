# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test keys of models, encrypted as LiteMaaS's backend does it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import model_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError

OLD, NEW = "sk-old-master-key-of-a-test", "sk-new-master-key-of-a-test"
#: Made by Node's crypto as the backend uses it (aes-256-gcm, sha256 of the secret), with OLD.
STORED = "XPvlMw23afma/sapVoH4G4cVMco45muGFhjDamS4n3WonB2jwf18QomwjfZZYJlSmoiHjgqStYc="
EMPTY = "o9XsPfjqDppJMWjFYSpK960Bwu98roX+iErY/w=="
#: The same, with another secret.
FOREIGN = "5l3Xkk4jT0rAdqyD9zQ+7S5fkXvZTfZG5HgJirOjNyyz0K/T"
PLAIN = "sk-provider-key-of-a-test-ä".encode()


def test_what_the_backend_has_encrypted_is_decrypted() -> None:
    assert model_keys.decrypt(STORED, OLD) == PLAIN and model_keys.decrypt(EMPTY, OLD) == b""


def test_what_is_encrypted_has_the_backends_shape_and_is_never_the_same_twice() -> None:
    once, twice = (model_keys.encrypt(PLAIN, NEW) for _time in range(2))
    assert model_keys.decrypt(once, NEW) == model_keys.decrypt(twice, NEW) == PLAIN
    parts = [base64.b64decode(one, validate=True) for one in (once, twice)]
    assert {len(one) for one in parts} == {12 + len(PLAIN) + 16} and parts[0][:12] != parts[1][:12]


@pytest.mark.parametrize("place", [0, 12, -17, -1])
def test_what_was_tampered_with_is_not_opened(place: int) -> None:
    data = bytearray(base64.b64decode(STORED))
    data[place] ^= 1
    with pytest.raises(model_keys.Unreadable):
        model_keys.decrypt(base64.b64encode(data).decode(), OLD)


@pytest.mark.parametrize("stored", [FOREIGN, STORED[:-4], STORED[:36], "sk-plain", "no base64", "x", "ä", ""])
def test_what_is_none_of_ours_is_unreadable_and_not_shown(stored: str) -> None:
    with pytest.raises(model_keys.Unreadable) as failure:
        model_keys.decrypt(stored, OLD)
    assert OLD not in str(failure.value) and (not stored or stored not in str(failure.value))


class Rows:
    """A connection to a table of keys, and its cursor. What is written is kept as ``distort`` says."""

    target = "litemaas_dsn"

    def __init__(self, rows: dict[str, str], distort: str = "", column: str = "encrypted_api_key") -> None:
        self.rows, self.distort, self.column, self.kept = rows, distort, column, True
        self._answer: list[tuple[str, str]] = []

    @contextmanager
    def transaction(self, _attempt: str, *, keep: bool) -> Iterator[Any]:
        before = dict(self.rows)
        try:
            yield self
        except BaseException:
            self.rows = before
            raise
        if not keep:
            self.rows = before

    def columns(self, _cursor: Any, _tables: Any) -> dict[str, dict[str, None]]:
        return {"models": {"id": None, self.column: None}}

    def execute(self, statement: str, values: Any = None) -> None:
        if statement.startswith("UPDATE"):
            for name, stored in zip(*values, strict=True):
                self.rows[name] = stored + self.distort
            self._answer = [(name, self.rows[name]) for name in values[0]]
        else:
            self._answer = [(name, stored) for name, stored in self.rows.items() if stored]

    def fetchall(self) -> list[tuple[str, str]]:
        return self._answer


def test_each_row_is_judged_for_itself_and_a_second_run_changes_none() -> None:
    done = model_keys.encrypt(b"done", NEW)
    rows = Rows({"a": STORED, "b": done, "c": FOREIGN, "d": ""})
    planned = model_keys.encrypt_anew(rows, OLD, NEW, keep=False)  # type: ignore[arg-type]
    assert rows.rows["a"] == STORED
    found = model_keys.encrypt_anew(rows, OLD, NEW)  # type: ignore[arg-type]
    assert found == planned == model_keys.Keys(["a"], ["b"], ["c"])
    assert model_keys.decrypt(rows.rows["a"], NEW) == PLAIN
    after = dict(rows.rows)
    assert after == {"a": after["a"], "b": done, "c": FOREIGN, "d": ""}
    again = model_keys.encrypt_anew(rows, OLD, NEW)  # type: ignore[arg-type]
    assert again == model_keys.Keys([], ["a", "b"], ["c"]) and rows.rows == after


def test_what_is_not_read_back_as_it_was_written_is_an_error() -> None:
    rows = Rows({"a": STORED}, distort="=")
    with pytest.raises(DatabaseError, match=r"the rows are not what was written\. Look for a trigger"):
        model_keys.encrypt_anew(rows, OLD, NEW)  # type: ignore[arg-type]
    assert rows.rows == {"a": STORED}


def test_the_library_is_missed_only_where_there_are_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_keys, "HAS_CRYPTOGRAPHY", False)
    for nothing in (Rows({"a": ""}), Rows({"a": STORED}, column="other")):
        assert model_keys.encrypt_anew(nothing, OLD, NEW) == model_keys.Keys()  # type: ignore[arg-type]
    with pytest.raises(model_keys.LibraryMissing, match=r"library \(cryptography\)"):
        model_keys.encrypt_anew(Rows({"a": STORED}), OLD, NEW)  # type: ignore[arg-type]
