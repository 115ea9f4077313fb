# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place that speaks HTTP to a LiteLLM proxy: sessions, TLS, timeouts, retries, errors."""

from __future__ import annotations

import contextlib
import email.utils
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from ansible.module_utils.basic import env_fallback

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import (
    BadOption,
    LiteLLMError,
    advice_for,
    is_pool_exhaustion,
    redact,
    server_words,
)

try:
    import requests

    HAS_REQUESTS = True
    REQUESTS_IMPORT_ERROR: BaseException | None = None
except ImportError as error:
    HAS_REQUESTS = False
    REQUESTS_IMPORT_ERROR = error

T = TypeVar("T")

#: Seconds to wait for a connection. A proxy that is there answers a connect in milliseconds.
CONNECT_TIMEOUT = 10
#: The longest single pause between two attempts, whatever the back-off or a retry-after says, in seconds.
LONGEST_PAUSE = 60.0
#: Statuses of a proxy, or of a route in front of it, that is not ready yet.
NOT_READY = frozenset({502, 503, 504})
#: Options with a key that goes into a header.
KEY_OPTIONS = ("litellm_master_key", "verify_as")
#: What is the matter with a key that can't go there.
UNSENDABLE = "holds white space, a control character or one outside Latin-1"


def argument_spec() -> dict[str, Any]:
    """Options of every module that talks to the proxy (documentation: doc fragments ``litellm``
    and ``namespace``)."""
    return {
        **discover.OPTIONS,
        "litellm_url": {
            "type": "str",
            "aliases": ["url"],
            "fallback": (env_fallback, ["LITELLM_URL"]),
        },
        "litellm_master_key": {
            "type": "str",
            "no_log": True,
            "aliases": ["master_key"],
            "fallback": (env_fallback, ["LITELLM_MASTER_KEY"]),
        },
        "validate_certs": {"type": "bool", "default": True, "aliases": ["verify_ssl"]},
        "ca_path": {"type": "path", "aliases": ["ca_cert", "ssl_ca_cert"]},
        "client_cert": {"type": "path"},
        "client_key": {"type": "path", "no_log": False},
        "api_timeout": {"type": "int", "default": 30, "aliases": ["timeout"]},
        "retry_count": {"type": "int", "default": 3, "aliases": ["retries"]},
        "retry_delay": {"type": "float", "default": 1.0},
    }


def client_from_params(params: dict[str, Any]) -> LiteLLMClient:
    """A client from a module's parsed options.

    Raises:
        LiteLLMError: an option that no request can be made with.
    """
    _check(params)
    return LiteLLMClient(
        params["litellm_url"],
        params["litellm_master_key"],
        validate_certs=params["validate_certs"],
        ca_path=params.get("ca_path"),
        client_cert=params.get("client_cert"),
        client_key=params.get("client_key"),
        timeout=params["api_timeout"],
        retries=params["retry_count"],
        retry_delay=params["retry_delay"],
    )


def _check(params: dict[str, Any]) -> None:
    for option in KEY_OPTIONS:
        if not _sendable(params.get(option)):
            raise BadOption(option, UNSENDABLE, "Check where it comes from: a key is one word")
    if params["api_timeout"] <= 0:
        raise BadOption("api_timeout", f"is {params['api_timeout']}", "Give the seconds to wait, 1 or more")
    urls = (params["litellm_url"], *(params.get("replica_urls") or ()))
    # A bundle that nothing is verified with may be missing.
    verified = params["validate_certs"] and any(url.strip().lower().startswith("https://") for url in urls)
    used = {"ca_path": verified, "client_cert": True, "client_key": bool(params.get("client_cert"))}
    for option, matters in used.items():
        path = params.get(option)
        if matters and path and not os.access(path, os.R_OK):
            raise BadOption(option, f"is {path}, which can't be read", "Give a path on the host that runs the module")


def _sendable(key: str | None) -> bool:
    """Whether a key can go into a header. The libraries' own errors would repeat it."""
    return not key or (key.isprintable() and " " not in key and max(key) <= "\xff")


def _checked_url(option: str, url: str | None) -> str:
    url = (url or "").strip().rstrip("/")
    # It would go out in the place of our key. Not repeated: it may hold a password.
    if "@" in url:
        raise BadOption(option, "holds an @, as in user:password@host", "Give the proxy's address without user")
    if not url.lower().startswith(("http://", "https://")):
        raise BadOption(option, f"is {url!r}, not an HTTP URL", "Give it as https://host or http://host:port")
    return url


class LiteLLMClient:
    """Admin calls to one proxy.

    One kept-alive session a thread; safe to use from the threads of :meth:`map`.

    Args:
        url: the proxy's root, e.g. ``https://litellm.example.com``.
        key: the bearer token of every call; None for a client whose siblings have one.
        timeout: seconds to wait for an answer.
        retries: attempts after the first one.
        retry_delay: seconds before the first retry; doubled for each further one, with jitter.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        validate_certs: bool = True,
        ca_path: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        timeout: float = 30,
        retries: int = 3,
        retry_delay: float = 1.0,
    ) -> None:
        self.url = _checked_url("litellm_url", url)
        self._key = key
        self._verify = ca_path if (validate_certs and ca_path) else validate_certs
        self._cert = (client_cert, client_key) if client_cert and client_key else client_cert
        self._timeout = timeout
        self._retries = max(0, retries)
        self._retry_delay = max(0.0, retry_delay)
        self._local = threading.local()
        self._authenticated = False
        self._pool: ThreadPoolExecutor | None = None
        #: How far the proxy's clock is ahead of ours, from the Date header of its answers.
        self._clock_offset: timedelta | None = None

    def sibling(self, url: str | None = None, key: str | None = None, timeout: float | None = None) -> LiteLLMClient:
        """The same settings for another replica, or for another key on this one, whose connections it then shares."""
        url = _checked_url("replica_urls", url) if url else self.url
        other = LiteLLMClient(url, key or self._key, timeout=timeout or self._timeout, retries=0)
        other._verify, other._cert = self._verify, self._cert
        other._retry_delay = self._retry_delay
        if other.url == self.url:
            # A thousand participants' keys must not take a connection, and a TLS handshake, each.
            other._local = self._local
        return other

    def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """The parsed JSON of a GET. Raises LiteLLMError."""
        return self._call("GET", path, params=params)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """A POST that may be repeated without harm (update, delete, query). Raises LiteLLMError."""
        return self._call("POST", path, body=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """A PATCH, which may be repeated without harm. Raises LiteLLMError."""
        return self._call("PATCH", path, body=body)

    def create(self, path: str, body: dict[str, Any], took_effect: Callable[[], Any]) -> Any:
        """A POST that creates: sent again only after a look at whether it took effect.

        Args:
            took_effect: reads the thing back; something true when it is there, which is then returned
                instead of the answer that never came.

        Raises:
            LiteLLMError: refused, or still not there after all attempts.
        """
        for attempt in range(self._retries + 1):
            try:
                return self._call("POST", path, body=body, creates=True)
            except LiteLLMError as failure:
                if not failure.outcome_unknown:
                    raise
                found = took_effect()
                if found:
                    return found
                # A plain 500 is mostly the server's way to refuse: one more attempt shows which it was.
                refusal = failure.status == 500 and not is_pool_exhaustion(failure.words)
                if attempt == self._retries or (refusal and attempt >= 1):
                    failure.outcome_unknown = False
                    raise
                self._pause(attempt, None)
        raise AssertionError("unreachable")

    def server_now(self) -> datetime:
        """The time by the proxy's clock, which is the one that expires keys; ours until it has answered once."""
        return datetime.now(timezone.utc) + (self._clock_offset or timedelta())

    def map(self, function: Callable[[T], Any], items: Iterable[T], workers: int) -> list[Any]:
        """``function`` over items with bounded concurrency, results in the order of the items."""
        todo = list(items)
        if workers <= 1 or len(todo) <= 1:
            return [function(item) for item in todo]
        # One pool for the client's life: its threads keep their connections from one call of map to the next.
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=workers)
        return list(self._pool.map(function, todo))

    # ---- below: one request, with its retries ----

    def _session(self) -> Any:
        session = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.headers.update({"Accept": "application/json"})
            # The environment's proxies and CA bundle once, not for every request anew; and never ~/.netrc, whose entry
            # for a host would take the place of our key.
            settings = session.merge_environment_settings(self.url, {}, None, self._verify, self._cert)
            session.proxies, session.verify, session.cert = settings["proxies"], settings["verify"], settings["cert"]
            session.trust_env = False
            self._local.session = session
        return session

    def _pause(self, attempt: int, retry_after: str | None) -> None:
        delay = self._retry_delay * (2**attempt) * random.uniform(0.5, 1.5)
        if retry_after:
            # An HTTP date is rare enough that our own back-off serves.
            with contextlib.suppress(ValueError):
                delay = max(delay, float(retry_after))
        time.sleep(min(delay, LONGEST_PAUSE))

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        creates: bool = False,
    ) -> Any:
        attempt_name = f"{method} {self.url}{path}"
        if not _sendable(self._key):
            raise LiteLLMError(attempt_name, words=f"the key {UNSENDABLE}", advice="Check where it comes from")
        # Not in the session, which siblings with other keys share.
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else None
        second_chance_used = False
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                response = self._session().request(
                    method,
                    self.url + path,
                    params=params,
                    json=body,
                    headers=headers,
                    timeout=(CONNECT_TIMEOUT, self._timeout),
                    # A redirect would carry the master key to another host, and turns a POST into a GET.
                    allow_redirects=False,
                )
            except requests.exceptions.ConnectTimeout as failure:
                if last:
                    raise self._no_answer(attempt_name, failure) from None
            except requests.exceptions.SSLError as failure:
                raise self._no_answer(attempt_name, failure) from None
            except requests.exceptions.RequestException as failure:
                # The request may have reached the proxy: only its reader can tell whether it took effect.
                if creates:
                    raise self._no_answer(attempt_name, failure, outcome_unknown=True) from None
                if last or not isinstance(
                    failure,
                    (
                        requests.exceptions.ConnectionError,
                        requests.exceptions.Timeout,
                        # The connection ended within the answer.
                        requests.exceptions.ChunkedEncodingError,
                    ),
                ):
                    raise self._no_answer(attempt_name, failure) from None
            except OSError as failure:
                # A file of the environment's or the options' that can't be read.
                raise self._no_answer(attempt_name, failure) from None
            else:
                if response.status_code < 300:
                    self._authenticated = True
                    if self._clock_offset is None:
                        self._note_clock(response.headers.get("date"))
                    return self._parsed(attempt_name, response)
                error = self._refused(attempt_name, response)
                status = response.status_code
                pool_trouble = status in (401, 500) and is_pool_exhaustion(response.text)
                if status == 401 and self._authenticated and not second_chance_used:
                    # A key that just worked: LiteLLM answers 401 too when its database had no connection free.
                    second_chance_used = True
                    pool_trouble = True
                transient = status == 429 or status in NOT_READY or pool_trouble
                if status == 500 and method == "GET":
                    transient = True
                if creates and (status >= 500 or pool_trouble):
                    error.outcome_unknown = True
                    raise error
                if last or not transient:
                    raise error
                self._pause(attempt, response.headers.get("retry-after"))
                continue
            self._pause(attempt, None)
        raise AssertionError("unreachable")

    def _note_clock(self, date: str | None) -> None:
        try:
            offset = email.utils.parsedate_to_datetime(date or "") - datetime.now(timezone.utc)
        except (TypeError, ValueError):
            return
        # The header has whole seconds: less than that is no difference.
        self._clock_offset = offset if abs(offset) > timedelta(seconds=2) else timedelta()

    def _parsed(self, attempt_name: str, response: Any) -> Any:
        try:
            return response.json()
        except ValueError:
            raise LiteLLMError(
                attempt_name,
                status=response.status_code,
                words=f"the answer is not JSON: {redact(response.text[:120], [self._key])!r}",
                advice="Check that litellm_url points at the LiteLLM proxy itself",
            ) from None

    def _refused(self, attempt_name: str, response: Any) -> LiteLLMError:
        words, kind = server_words(response.text)
        advice = advice_for(response.status_code, response.text)
        if 300 <= response.status_code < 400:
            words = f"redirected to {response.headers.get('location', '?')}"
            advice = "Use that address as litellm_url"
        return LiteLLMError(
            attempt_name, status=response.status_code, words=redact(words, [self._key]), advice=advice, kind=kind
        )

    def _no_answer(self, attempt_name: str, failure: Exception, outcome_unknown: bool = False) -> LiteLLMError:
        return LiteLLMError(
            attempt_name,
            words=redact(str(failure), [self._key]),
            advice=advice_for(None, ""),
            outcome_unknown=outcome_unknown,
        )
