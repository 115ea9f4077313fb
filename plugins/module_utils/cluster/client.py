# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Kubernetes API server: how to reach it, its clients, its errors in words.

The Python client takes a second to load, so nothing here imports it before it is needed.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from ansible.module_utils.basic import env_fallback

Answer = TypeVar("Answer")
#: Seconds to wait for the API server's answers.
TIMEOUT = 30
#: Variables of the environment that :class:`Cluster` looks at itself. Ansible's fallback would make them look like
#: options, and a kubeconfig of the environment would win over a host that is given.
KUBECONFIG, HOST, API_KEY = "K8S_AUTH_KUBECONFIG", "K8S_AUTH_HOST", "K8S_AUTH_API_KEY"
#: Where the variables of AgnosticD and kubernetes.core are found; documentation: doc_fragments/cluster.py
SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "path"},
    "context": {"type": "str", "fallback": (env_fallback, ["K8S_AUTH_CONTEXT"])},
    "host": {"type": "str"},
    # With a fallback, as only what Ansible knows of is kept out of results.
    "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, [API_KEY])},
    "validate_certs": {
        "type": "bool",
        "default": True,
        "aliases": ["verify_ssl"],
        "fallback": (env_fallback, ["K8S_AUTH_VERIFY_SSL"]),
    },
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"], "fallback": (env_fallback, ["K8S_AUTH_SSL_CA_CERT"])},
}


class ClusterError(Exception):
    """What was tried, what the cluster said, what to do. Holds no secret.

    Attributes:
        status: the API server's HTTP status; 0 where it did not answer.
        changes: what was changed before, and still is.
    """

    changes: Sequence[Any] = ()

    def __init__(self, attempt: str, words: str, advice: str = "", status: int = 0) -> None:
        self.attempt, self.words, self.advice, self.status = attempt, words, advice, status
        text = f"{attempt}: {words}"
        super().__init__(f"{text.rstrip('.')}. {advice}" if advice else text)


def library(name: str = "kubernetes") -> Any:
    """The Python client, or a part of it. Raises ClusterError."""
    try:
        return importlib.import_module(name)
    except ImportError as failure:
        raise ClusterError(
            "Connect to the cluster",
            f"the Python library {name.split('.')[0]} is missing ({failure})",
            "Install it for the Python that runs the module",
        ) from None


@dataclass(frozen=True)
class Cluster:
    """How to reach the API server; what is not given comes from the kubeconfig, or from the pod that we run in."""

    kubeconfig: str | None = None
    context: str | None = None
    host: str | None = None
    api_key: str | None = None
    validate_certs: bool = True
    ca_cert: str | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Cluster:
        """From options of :data:`SPEC`, among others, then from the environment.

        A host or a token that is given means that server, whatever kubeconfig the environment has.
        """
        given = {field.name: params[field.name] for field in fields(cls) if params.get(field.name) is not None}
        found = {name: os.environ.get(variable) for name, variable in (("kubeconfig", KUBECONFIG), ("host", HOST))}
        own_key = given.get("api_key") and given["api_key"] != os.environ.get(API_KEY)
        is_meant = given.get("host") or (own_key and found["host"])
        if found["kubeconfig"] and "kubeconfig" not in given and not is_meant:
            given["kubeconfig"] = str(Path(os.path.expandvars(found["kubeconfig"])).expanduser())
        if found["host"]:
            given.setdefault("host", found["host"])
        return cls(**given)

    def client(self) -> Any:
        """A ``kubernetes.client.ApiClient``. Raises ClusterError."""
        kubernetes = library()
        try:
            if self.host and not self.kubeconfig:
                settings = kubernetes.client.Configuration(host=self.host)
                settings.api_key = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
            else:
                settings = kubernetes.client.Configuration()
                kubernetes.config.load_config(
                    config_file=self.kubeconfig, context=self.context, client_configuration=settings
                )
        except (kubernetes.config.ConfigException, OSError) as failure:
            raise ClusterError(
                "Connect to the cluster", str(failure), "Give host and api_key, or kubeconfig (see K8S_AUTH_…)"
            ) from None
        if not self.validate_certs:
            settings.verify_ssl = False
        if not settings.verify_ssl:  # a kubeconfig may say so too
            library("urllib3").disable_warnings()
        if self.ca_cert:
            settings.ssl_ca_cert = self.ca_cert
        return kubernetes.client.ApiClient(settings)

    def api(self) -> Any:
        """A client of the core API. Raises ClusterError."""
        return library().client.CoreV1Api(self.client())

    def rest(self) -> Rest:
        """Requests in JSON, for any kind whose path is known. Raises ClusterError."""
        return Rest(self.client())

    def dynamic(self) -> Any:
        """A client of every kind that the server has, OpenShift's too. Raises ClusterError."""
        try:
            dynamic = importlib.import_module("openshift.dynamic")
        except ImportError:  # a thin layer over its parent, which does as well
            dynamic = library("kubernetes.dynamic")
        with spoken("Ask the API server what it has"):
            return dynamic.DynamicClient(self.client())


class Rest:
    """Requests to the API server with its own words: paths and JSON, no classes for each kind, no discovery.

    Attributes:
        now: the API server's time at its last answer, so that ages don't depend on this machine's clock.
        requests: how many were made.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.now = datetime.now(timezone.utc)
        self.requests = 0

    def get(self, path: str, rights: str = "", **query: str) -> dict[str, Any]:
        """An object, or a list of them, for example ``/api/v1/namespaces/litemaas/pods``. Raises ClusterError."""
        return self.request("GET", path, query=query, rights=rights)

    def find(self, path: str, rights: str = "", **query: str) -> dict[str, Any] | None:
        """The same, or None where there is no such object, or no such kind."""
        try:
            return self.get(path, rights, **query)
        except ClusterError as failure:
            if failure.status == 404:
                return None
            raise

    def text(self, path: str, rights: str = "", **query: str) -> str:
        """What is no JSON: a container's log. Raises ClusterError."""
        return self._send("GET", path, None, query, rights, {}).decode("utf-8", "replace")

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        rights: str = "",
    ) -> dict[str, Any]:
        """One request; the answer's body.

        Args:
            rights: what the account needs for it, for example ``get on secrets``; named when it is refused.

        Raises:
            ClusterError: refused (with the status), or not answered (status 0).
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"accept": accept} | ({"content-type": content_type} if body is not None else {})
        answer = self._send(method, path, data, query or {}, rights, headers)
        try:
            found = json.loads(answer)
        except ValueError:
            raise ClusterError(
                f"{method} {path}", f"no JSON in the answer: {' '.join(answer[:80].decode('utf-8', 'replace').split())}"
            ) from None
        return dict(found)

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None,
        query: Mapping[str, str],
        rights: str,
        headers: Mapping[str, str],
    ) -> bytes:
        # Beside ApiClient.call_api, whose parameters changed between releases; the pool has its TLS and proxy settings.
        settings = self._client.configuration
        url = f"{settings.host}{path}" + (f"?{urlencode(query)}" if query else "")
        self.requests += 1
        with spoken(f"{method} {path}", rights):
            account = {one["key"]: one["value"] for one in settings.auth_settings().values() if one["value"]}
            answer = self._client.rest_client.pool_manager.request(
                method, url, body=data, headers={**headers, **account}, timeout=TIMEOUT, retries=False
            )
            with suppress(TypeError, ValueError):
                self.now = parsedate_to_datetime(answer.headers.get("date"))
            if answer.status >= 300:
                raise Refused(answer)
            return bytes(answer.data)


def if_allowed(read: Callable[[], Answer]) -> tuple[Answer | None, ClusterError | None]:
    """What need not be ours to read: what there is, or why the account may not know it. Raises what else goes wrong."""
    try:
        return read(), None
    except ClusterError as failure:
        if failure.status != 403:
            raise
        return None, failure


class Refused(OSError):
    """An answer that is none: for :func:`spoken`."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer.status)
        self.status, self.body, self.reason = answer.status, answer.data, answer.reason


@contextmanager
def spoken(attempt: str, rights: str = "") -> Iterator[None]:
    """Turns whatever the client raises into a ClusterError.

    Args:
        attempt: what is tried, on which object, for example ``Read Secret litellm-secret in litemaas``.
        rights: what the account needs for it, for example ``get on secrets``.
    """
    try:
        yield
    except ClusterError:
        raise
    except Exception as failure:
        # the client lets urllib3's through, and those of its TLS library
        if not is_from_cluster(failure):
            raise
        raise ClusterError(attempt, words(failure), advice(failure, rights), status(failure)) from None


def is_from_cluster(failure: BaseException) -> bool:
    """Whether a failure is the API server's, or of the way there, and none of our own."""
    origin = type(failure).__module__.partition(".")[0]
    return isinstance(failure, OSError) or origin in ("kubernetes", "openshift", "urllib3", "websocket")


def status(failure: BaseException) -> int:
    """The API server's HTTP status; 0 where it did not answer."""
    found = getattr(failure, "status", None)
    return found if isinstance(found, int) else 0


def words(failure: BaseException) -> str:
    """What the API server said, on one line."""
    if status(failure):
        with suppress(ValueError, TypeError, KeyError):
            return f"HTTP {status(failure)}: {json.loads(failure.body)['message']}"  # type: ignore[attr-defined]
        return f"HTTP {status(failure)}: {' '.join(str(getattr(failure, 'reason', '')).split())[:300]}"
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"


def advice(failure: BaseException, rights: str = "") -> str:
    """What to do about it."""
    code = status(failure)
    if code == 401:
        return "Check api_key, or the account in the kubeconfig"
    if code == 403:
        return f"The account needs {rights} there" if rights else "The account lacks the right that is named"
    if "CERTIFICATE" in str(failure):
        return "Give the cluster's CA bundle as ca_cert, or turn validate_certs off"
    if code == 404:
        return "Check name and namespace"
    return "Check the API server's address and that it answers" if not code else ""


def leave(module: Any, work: Callable[[], dict[str, Any]]) -> None:
    """Do a module's work and leave with its result, or with what the cluster said; ``failed`` in it decides how."""
    try:
        result = work()
    except ClusterError as failure:
        module.fail_json(msg=str(failure), changed=bool(failure.changes))
    (module.fail_json if result.pop("failed", False) else module.exit_json)(**result)
