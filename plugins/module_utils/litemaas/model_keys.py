# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of models' providers that LiteMaaS's backend keeps for its model dialog's test: ``models.encrypted_api_key``.

The backend encrypts them with AES-256-GCM. The AES key is the SHA-256 of a secret string, which is its
LITELLM_MASTER_KEY or, where that is empty, its LITELLM_API_KEY. What is stored is base64 of 12 bytes IV, ciphertext, 16
bytes tag; nothing else of a row goes into it. Whoever gives the backend another secret has to encrypt the rows anew.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection, DatabaseError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

#: The backend's variables that the secret comes from: the first that isn't empty.
SECRETS = ("LITELLM_MASTER_KEY", "LITELLM_API_KEY")
#: Bytes.
IV, TAG = 12, 16
ATTEMPT = "Encrypt LiteMaaS's test keys of models anew"


class Unreadable(ValueError):
    """A stored key that a secret doesn't open. Says nothing of either."""


class LibraryMissing(DatabaseError):
    """There are encrypted keys, and nothing to decrypt them with."""


@dataclass(frozen=True)
class Keys:
    """What became of the stored keys, by their models' ids.

    Attributes:
        changed: the old secret opened them, and the new one does now.
        current: the new secret opened them already.
        unreadable: neither opens them; they are as they were.
    """

    changed: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def encrypt(plain: bytes, secret: str) -> str:
    """As the backend stores it."""
    iv = secrets.token_bytes(IV)
    return base64.b64encode(iv + AESGCM(_key(secret)).encrypt(iv, plain, None)).decode()


def decrypt(stored: str, secret: str) -> bytes:
    """What the backend has stored. Raises Unreadable."""
    try:
        data = base64.b64decode(stored)
        if len(data) < IV + TAG:
            raise Unreadable("too short")
        return AESGCM(_key(secret)).decrypt(data[:IV], data[IV:], None)
    except (ValueError, InvalidTag):
        raise Unreadable("this secret doesn't open it") from None


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def encrypt_anew(connection: Connection, old: str, new: str, *, keep: bool = True) -> Keys:
    """What the old secret opens is encrypted with the new one, in one transaction; no other column is written.

    Where that was done before, wholly or for some, only the rest is changed. Without the column, which older versions
    of LiteMaaS don't have, there is nothing to do.

    Args:
        old, new: the backend's secrets.
        keep: False does all of it, and rolls it back.

    Raises:
        LibraryMissing: there are keys, and the library cryptography is missing.
        DatabaseError: nothing was written.
    """
    found = Keys()
    wanted: dict[str, str] = {}
    with connection.transaction(ATTEMPT, keep=keep) as cursor:
        # The lock that the update takes: rows that refer to the models can be written meanwhile.
        for name, stored in _stored(connection, cursor, " FOR NO KEY UPDATE"):
            if not HAS_CRYPTOGRAPHY:
                raise LibraryMissing(
                    f"{ATTEMPT} in {connection.target}", missing_required_lib("cryptography"), "Nothing was written"
                )
            try:
                wanted[name] = encrypt(decrypt(stored, old), new)
                found.changed.append(name)
            except Unreadable:
                (found.current if _opens(stored, new) else found.unreadable).append(name)
        if wanted:
            cursor.execute(
                "UPDATE models m SET encrypted_api_key = n.stored FROM unnest(%s::text[], %s::text[]) AS n (id, stored)"
                " WHERE m.id = n.id RETURNING m.id, m.encrypted_api_key",
                (list(wanted), list(wanted.values())),
            )
            if dict(cursor.fetchall()) != wanted:
                raise DatabaseError(
                    f"{ATTEMPT} in {connection.target}",
                    "the rows are not what was written",
                    "Look for a trigger or a rule on table models that changes encrypted_api_key. Nothing was written",
                )
    return found


def closed(connection: Connection, secret: str) -> list[str]:
    """Models whose stored key this secret doesn't open; none where the library is missing. Raises DatabaseError."""
    with connection.transaction("Look at LiteMaaS's test keys of models", read_only=True) as cursor:
        rows = _stored(connection, cursor)
    return [name for name, stored in rows if HAS_CRYPTOGRAPHY and not _opens(stored, secret)]


def named(models: list[str]) -> str:
    """The models, for people: at most ten by name."""
    return ", ".join(models[:10]) + (f" and {len(models) - 10} more" if len(models) > 10 else "")


def _stored(connection: Connection, cursor: Any, lock: str = "") -> list[tuple[str, str]]:
    if "encrypted_api_key" not in connection.columns(cursor, ["models"])["models"]:
        return []
    cursor.execute(f"SELECT id, encrypted_api_key FROM models WHERE encrypted_api_key <> '' ORDER BY id{lock}")
    return list(cursor.fetchall())


def _opens(stored: str, secret: str) -> bool:
    try:
        decrypt(stored, secret)
    except Unreadable:
        return False
    return True
