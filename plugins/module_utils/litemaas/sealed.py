# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that belong to a backup, beside it and encrypted, and how a salt key is known again without being there.

Databases without the salt key that encrypted what is in them hold credentials that nobody can read.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KDF = "pbkdf2-sha256"
#: Many, as a master key may be a word that somebody thought of.
ITERATIONS = 300_000
MARK = b"$ANSIBLE_VAULT;"
PROGRAM = "ansible-vault"


class SealError(Exception):
    """Keys that could not be encrypted: why, and what to do. Holds no secret."""

    def __init__(self, words: str, advice: str) -> None:
        super().__init__(f"Encrypt the keys: {words}. {advice}")


def fingerprint(salt_key: str, salt: bytes | None = None) -> dict[str, Any]:
    """What tells whether another one is the same, and nothing else of it."""
    salt = salt or secrets.token_bytes(16)
    return {"kdf": KDF, "iterations": ITERATIONS, "salt": salt.hex(), "digest": _digest(salt_key, salt, ITERATIONS)}


def is_same(known: Mapping[str, Any] | None, salt_key: str) -> bool | None:
    """Whether a salt key is the one of a fingerprint; None where that can't be told."""
    if not known or known.get("kdf") != KDF:
        return None
    found = _digest(salt_key, bytes.fromhex(known["salt"]), int(known["iterations"]))
    return hmac.compare_digest(found, str(known["digest"]))


def _digest(salt_key: str, salt: bytes, iterations: int) -> str:
    return hashlib.pbkdf2_hmac("sha256", salt_key.strip().encode(), salt, iterations).hex()


def password_of(path: str) -> str:
    """The vault's password in a file that only its owner can read. Raises SealError."""
    file = Path(path).expanduser()
    try:
        found = file.stat()
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SealError(f"others than its owner may use {file}", f"chmod 0600 {file}")
        if found.st_mode & stat.S_IXUSR:
            raise SealError(f"{file} is a program", "Give a file that holds the password itself, mode 0600")
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as failure:
        words = getattr(failure, "strerror", None) or "it is no text"
        raise SealError(f"{file} can't be read: {words}", "Check vault_password_file") from None
    if not password:
        raise SealError(f"{file} is empty", "Put the vault's password there")
    return password


def seal(keys: Mapping[str, str], password: str) -> bytes:
    """Keys as a YAML file that ``ansible-vault decrypt`` reads. Raises SealError.

    Neither the keys nor the password are in an argument, in the environment or on a disk.
    """
    beside = Path(sys.executable).parent / PROGRAM
    program = shutil.which(PROGRAM) or (str(beside) if beside.exists() else None)
    if program is None:
        raise SealError(f"{PROGRAM} is not installed here", "Install ansible-core on this host, or leave the keys out")
    plain = "".join(f"{name}: {json.dumps(value)}\n" for name, value in sorted(keys.items()))
    # Ours is the Python path of a module, which would hide the rest of Ansible.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "ANSIBLE_VAULT"))}
    held = os.memfd_create("vault")
    try:
        os.fchmod(held, 0o600)  # what may be executed is taken for a program that says the password
        os.write(held, password.encode())
        # Ansible opens its password file as a folder's entry; this one is the same for it and for us.
        command = [program, "encrypt", "--vault-password-file", f"/proc/{os.getpid()}/fd/{held}", "--output", "-", "-"]
        done = subprocess.run(command, input=plain.encode(), capture_output=True, check=False, env=env)
    finally:
        os.close(held)
    if done.returncode or not done.stdout.startswith(MARK):
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
        raise SealError(f"{PROGRAM} ended with status {done.returncode}: {said}", "Check Ansible on this host")
    return done.stdout
