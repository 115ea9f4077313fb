# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of a backup: how they are known again, who may read their password, and that nothing plain is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import sealed

SALT = "sk-the-salt-of-then"


def test_a_salt_key_is_known_again_and_nothing_of_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sealed.ITERATIONS >= 100_000
    monkeypatch.setattr(sealed, "ITERATIONS", 1000)
    known = sealed.fingerprint(SALT)
    assert SALT not in str(known) and known != sealed.fingerprint(SALT)
    # As a Secret may have it, with the end of a line.
    assert sealed.is_same(known, f"{SALT}\n") is sealed.is_same(sealed.fingerprint(f"{SALT}\n"), SALT) is True
    assert sealed.is_same(known, SALT[:-1]) is False
    assert sealed.is_same({**known, "iterations": known["iterations"] - 1}, SALT) is False
    for unknown in (None, {}, {**known, "kdf": "scrypt"}):
        assert sealed.is_same(unknown, SALT) is None


@pytest.mark.parametrize(
    ("mode", "text", "words"),
    [
        (0o640, "x", "chmod 0600"),
        (0o604, "x", "chmod 0600"),
        (0o602, "x", "chmod 0600"),
        (0o700, "x", "is a program"),
        (0o600, " \n", "is empty"),
    ],
)
def test_a_password_that_others_may_use_encrypts_nothing(tmp_path: Path, mode: int, text: str, words: str) -> None:
    file = tmp_path / "vault"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    with pytest.raises(sealed.SealError, match=words):
        sealed.password_of(str(file))
    file.write_text(" of-the-vault\n", encoding="utf-8")
    file.chmod(0o600)
    assert sealed.password_of(str(file)) == "of-the-vault"


def test_keys_are_read_with_their_password_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.write_text("another one", encoding="utf-8")
    # What somebody has set for their own vault.
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(other))
    monkeypatch.setenv("ANSIBLE_VAULT_ENCRYPT_IDENTITY", "nobody")
    found = sealed.seal({"salt_key": 'with "quotes"', "master_key": "sk-x"}, "of-the-vault")
    assert b"quotes" not in found
    plain = VaultLib([("default", VaultSecret(b"of-the-vault"))]).decrypt(found)
    assert plain == b'master_key: "sk-x"\nsalt_key: "with \\"quotes\\""\n'


@pytest.mark.parametrize(("body", "status"), [("cat", 0), ("echo '$ANSIBLE_VAULT;1.1'; echo no room >&2; exit 3", 3)])
def test_what_is_not_encrypted_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, status: int
) -> None:
    program = tmp_path / "ansible-vault"
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(sealed.SealError, match=f"ended with status {status}") as caught:
        sealed.seal({"salt_key": SALT}, "of-the-vault")
    assert SALT not in str(caught.value) and "of-the-vault" not in str(caught.value)
