# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a deployment's parameters is a secret, which LiteLLM leaves out of its answers or masks. Pure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

#: What LiteLLM leaves out of /model/info altogether.
_LEFT_OUT = frozenset(
    {"api_key", "client_secret", "vertex_credentials", "vertex_ai_credentials", "aws_access_key_id"}
    | {"aws_secret_access_key"}
)
#: Segments of a parameter's name for which LiteLLM masks its value, unless another segment is "cost".
_MASKED = frozenset(
    "password secret key token auth authorization cookie credential credentials access private certificate"
    " fingerprint tenancy".split()
)
#: Names that look like those and are shown all the same.
_SHOWN = frozenset({"litellm_credential_name", "default_api_key_tpm_limit", "default_api_key_rpm_limit"})


def is_secret(name: str, value: Any = None) -> bool:
    """Whether /model/info hides this parameter, or part of its value, so that only a fingerprint can be compared."""
    if name in _LEFT_OUT:
        return True
    if name in _SHOWN:
        return False
    segments = set(name.lower().replace("-", "_").split("_"))
    if segments & _MASKED and "cost" not in segments:
        return True
    if isinstance(value, Mapping):
        return any(is_secret(str(key), inner) for key, inner in value.items())
    return isinstance(value, (list, tuple)) and any(is_secret("", inner) for inner in value)


def secret_texts(name: str, value: Any) -> Iterator[str]:
    """The texts inside a parameter that must not be shown."""
    if isinstance(value, str):
        if value and is_secret(name):
            yield value
            # The text of a key file: an error may quote a part of it.
            if value.lstrip().startswith("{"):
                with contextlib.suppress(ValueError):
                    yield from secret_texts("", json.loads(value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secret_texts(str(key), inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from secret_texts(name, inner)


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
