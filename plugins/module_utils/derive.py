# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is derived rather than stored: model ids, key values, fingerprints of secrets. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import uuid

#: Namespace of the ids of managed deployments. Changing it would orphan every model that we ever made.
_MODELS = uuid.UUID("6f0c0d0e-7b0e-5c55-9d0a-2f1f6a3c9b51")

#: A key_secret shorter than this could be searched by someone who holds an alias and its value.
SHORTEST_SECRET = 32

_TOKEN = re.compile(r"[0-9a-f]{64}")


def model_id(model_name: str, deployment: str = "") -> str:
    """The id of a managed deployment: a UUIDv5 of its name and label (LiteLLM: model_info.id, the primary key)."""
    return str(uuid.uuid5(_MODELS, f"{len(model_name)}:{model_name}{len(deployment)}:{deployment}"))


def sibling_id(of: str) -> str:
    """The id of the temporary deployment that serves while the one with id ``of`` is made anew."""
    return str(uuid.uuid5(_MODELS, f"sibling of {of}"))


def key_value(key_secret: str, identity: str, alias: str, generation: int) -> str:
    """The value of a virtual key: the same on every run, unguessable without the secret.

    Args:
        key_secret: at least 32 characters, independent of the master key.
        identity: the lab's uuid or guid; "" for keys that belong to no lab.
        generation: 1 for the first value of an alias, one more for each further one.

    Returns:
        ``sk-`` and 43 characters of base64url.
    """
    return "sk-" + _base64url(_mac(key_secret, "v1", identity, alias, str(generation)))


def token_of(value: str) -> str:
    """What LiteLLM stores of a key's value: its sha256 in hex, the ``token``."""
    return hashlib.sha256(value.encode()).hexdigest()


def is_token(text: str) -> bool:
    """Whether a text is a ``token`` rather than a value, which begins with ``sk-``."""
    return _TOKEN.fullmatch(text) is not None


def fingerprint(key_secret: str, name: str, value: str) -> str:
    """A trace of a secret that can't be read back: tells whether it changed, and nothing else."""
    return _base64url(_mac(key_secret, "fingerprint", name, value))[:22]


def check_key_secret(key_secret: str, master_key: str) -> str | None:
    """Why a key_secret can't be used, or None when it can."""
    if len(key_secret.encode()) < SHORTEST_SECRET:
        return (
            f"key_secret is shorter than {SHORTEST_SECRET} bytes: participants hold alias and value of their keys and"
            " could search a short one; make one with: openssl rand -base64 48"
        )
    if key_secret == master_key or key_secret in master_key or master_key in key_secret:
        return "key_secret must be independent of the master key: a leaked master key must not yield every key"
    return None


def _mac(secret: str, *fields: str) -> bytes:
    # Each field with its length before it: ("a", "bc") and ("ab", "c") must not meet.
    message = b"".join(len(part).to_bytes(4, "big") + part for part in (field.encode() for field in fields))
    return hmac.new(secret.encode(), message, hashlib.sha256).digest()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
