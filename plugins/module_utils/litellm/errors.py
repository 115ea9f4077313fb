# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong between us and a LiteLLM proxy, in words that a person can act on. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

#: Anything that looks like a key. LiteLLM echoes keys in some of its error messages.
_KEY_LIKE = re.compile(r"sk-[A-Za-z0-9_\-]{6,}")

#: Words of an exhausted or unreachable database behind the proxy; LiteLLM wraps them in a 401 or a 500.
_POOL_WORDS = re.compile(
    r"connection pool|P2024|P1001|P1017|Can't reach database|too many clients|No DB Connected", re.IGNORECASE
)


class LiteLLMError(Exception):
    """A request to the proxy that did not do what it was meant to.

    Args:
        attempt: what was tried, e.g. ``POST /key/generate``.
        status: the HTTP status, or None when no answer came.
        words: the server's own words, redacted.
        advice: what the reader can do about it.
        outcome_unknown: the request may have taken effect all the same; read before writing again.
        kind: LiteLLM's ``error.type`` where it sent one, e.g. ``budget_exceeded``.
    """

    def __init__(
        self,
        attempt: str,
        *,
        status: int | None = None,
        words: str = "",
        advice: str = "",
        outcome_unknown: bool = False,
        kind: str = "",
    ) -> None:
        self.attempt = attempt
        self.status = status
        self.words = words
        self.advice = advice
        self.outcome_unknown = outcome_unknown
        self.kind = kind
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """One line: the attempt, the answer, the way on."""
        answer = f"HTTP {self.status}" if self.status else "no answer"
        text = f"{self.attempt}: {answer}"
        if self.words:
            text += f": {self.words}"
        if self.advice:
            text += f". {self.advice}" if not text.endswith(".") else f" {self.advice}"
        return text


class BadOption(LiteLLMError):
    """An option that no request can be made with."""

    def __init__(self, option: str, words: str, advice: str) -> None:
        super().__init__(option, words=words, advice=advice)

    def sentence(self) -> str:
        """One line: the option, what is the matter with it, the way on."""
        return f"{self.attempt} {self.words}. {self.advice}"


def redact(text: str, secrets: Iterable[str | None] = ()) -> str:
    """Take every known secret, and whatever looks like a key, out of a text."""
    for secret in secrets:
        if secret and len(secret) >= 4:
            text = text.replace(secret, "********")
    return _KEY_LIKE.sub("sk-********", text)


def server_words(body: str, limit: int = 400) -> tuple[str, str]:
    """The message and the error type in any of the four shapes LiteLLM answers in.

    Returns:
        (message, type): the type is "" where none was given.
    """
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return _shorten(body, limit), ""
    kind = ""
    if isinstance(parsed, dict):
        error = parsed.get("error")
        detail = parsed.get("detail")
        if isinstance(error, dict):
            kind = str(error.get("type") or "")
            parsed = error.get("message", error)
        elif error is not None:
            parsed = error
        elif isinstance(detail, list):
            parsed = "; ".join(
                f"{'.'.join(str(part) for part in entry.get('loc', ()))}: {entry.get('msg', entry)}"
                if isinstance(entry, dict)
                else str(entry)
                for entry in detail
            )
        elif isinstance(detail, dict):
            parsed = detail.get("error", detail.get("message", detail))
        elif detail is not None:
            parsed = detail
    return _shorten(parsed if isinstance(parsed, str) else json.dumps(parsed, sort_keys=True), limit), kind


def is_pool_exhaustion(body: str) -> bool:
    """Whether an answer's words speak of the proxy's database, not of the request."""
    return bool(_POOL_WORDS.search(body))


def advice_for(status: int | None, words: str) -> str:
    """What a person can do about a status that no retry has cured."""
    if status is None:
        return "Check litellm_url, that the proxy runs, and TLS settings (validate_certs, ca_path)"
    if is_pool_exhaustion(words):
        return "The proxy cannot reach its database or has no free connection: check PostgreSQL and connection_limit"
    if status == 401:
        return "Check litellm_master_key: it has to be the proxy's master key or another proxy admin's key"
    if status == 403:
        return "The key given as litellm_master_key may not do this: use the master key"
    if status == 404:
        return "Check that litellm_url points at the LiteLLM proxy itself, without /v1"
    if status == 429:
        return "The proxy is limiting admin calls: run again later, or with a lower concurrency"
    if status in (502, 503, 504):
        return "The proxy or the route in front of it is not ready: check its pods, then run again"
    return ""


def _shorten(text: str, limit: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
