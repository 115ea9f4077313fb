# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of Google Cloud's service accounts: what is in one, whether it can work, and whether Google takes it.

Nothing here puts a part of a private key into a message.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

try:
    import requests

    HAS_REQUESTS = True
except ImportError:  # said by whoever probes
    HAS_REQUESTS = False

#: What a service account needs on its project, and the one permission in it that a call to a model takes.
ROLE = "roles/aiplatform.user"
PERMISSION = "aiplatform.endpoints.predict"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  an address
IAM_ENDPOINT = "https://cloudresourcemanager.googleapis.com"
#: Seconds to connect and to wait for an answer: a network without a way out is to be noticed soon.
TIMEOUT = (3.05, 10)
#: Where a signed request may go: to Google, encrypted. The whole address, as programs take one apart differently.
TOKEN_URIS = re.compile(
    r"https://(?:(?:[a-z0-9-]+\.)+googleapis\.com|accounts\.google\.com)(?::443)?(?:/[A-Za-z0-9._~/-]*)?"
)
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_EMAIL = re.compile(r"[A-Za-z0-9._-]+@(?:[a-z0-9.-]+\.)?gserviceaccount\.com")
#: What else a JSON file of Google's may be, and what it is in words.
_OTHER_TYPES = {
    "authorized_user": "somebody's own login (gcloud auth application-default login)",
    "external_account": "a workload identity federation, which has no key",
    "impersonated_service_account": "a login that impersonates a service account",
}


class KeyProblem(Exception):
    """What is the matter with a key, in words without any part of it."""


@dataclass(frozen=True)
class ServiceAccount:
    """A key that can work.

    Attributes:
        project: the Google Cloud project that the account belongs to.
        email: the account's name.
        token_uri: where tokens are got with it.
        key: the parsed private key of the ``cryptography`` library.
    """

    project: str
    email: str
    token_uri: str
    key_id: str = field(repr=False)
    key: Any = field(repr=False)

    def assertion(self, now: float) -> str:
        """The signed request for a token: a JWT (RS256) that lives for ten minutes."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        header = {"alg": "RS256", "typ": "JWT", "kid": self.key_id}
        issued = int(now)
        claims = {"iss": self.email, "scope": SCOPE, "aud": self.token_uri, "iat": issued, "exp": issued + 600}
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        return f"{signed}.{_encoded(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@dataclass(frozen=True)
class Probe:
    """What a try with Google came to.

    Attributes:
        outcome: ``passed``, ``skipped`` (it could not be tried; nothing is said about the key) or ``failed``.
        reason: why, where it didn't pass.
    """

    outcome: str
    reason: str = ""


def fields_of(content: Any) -> dict[str, Any]:
    """A key file's content, as text or parsed, as a mapping. Raises KeyProblem."""
    if isinstance(content, bytes):
        try:
            content = content.decode()
        except UnicodeDecodeError:
            raise KeyProblem("is no text; it has to be the JSON file that Google Cloud gives out") from None
    if isinstance(content, str):
        if not content.strip():
            raise KeyProblem("is empty")
        try:
            content = json.loads(content)
        except ValueError as failure:
            where = f" (line {failure.lineno}: {failure.msg})" if isinstance(failure, json.JSONDecodeError) else ""
            raise KeyProblem(f"is no JSON{where}; it has to be the file that Google Cloud gives out") from None
    if not isinstance(content, Mapping):
        raise KeyProblem("is no JSON object; it has to be the file that Google Cloud gives out")
    return dict(content)


def account_of(content: Any) -> ServiceAccount:
    """The service account of a key file's content, as text or parsed.

    Raises:
        KeyProblem: with everything that is the matter with it.
    """
    found = fields_of(content)
    kind = found.get("type")
    if kind != "service_account":
        words = _OTHER_TYPES.get(str(kind), "")
        raise KeyProblem(
            f"has type {str(kind)[:40]!r}{f', {words}' if words else ''}: it has to be a service account's key,"
            " with type 'service_account'"
        )
    problems: list[str] = []
    project, email = str(found.get("project_id") or ""), str(found.get("client_email") or "")
    token_uri = str(found.get("token_uri") or TOKEN_URI)
    if not _PROJECT.fullmatch(project):
        problems.append(f"project_id {project[:60]!r} is no name of a project" if project else "project_id is missing")
    if not _EMAIL.fullmatch(email):
        problems.append(
            f"client_email {email[:80]!r} is no name of a service account" if email else "client_email is missing"
        )
    if not TOKEN_URIS.fullmatch(token_uri):
        problems.append(
            f"token_uri {token_uri[:80]!r} is not Google's{_named(token_uri)}: whoever is there would get signed"
            f" requests of this account. Those that Google gives out have {TOKEN_URI}"
        )
    try:
        key = private_key(found.get("private_key"))
    except KeyProblem as problem:
        problems.append(str(problem))
    if problems:
        raise KeyProblem("; ".join(problems))
    return ServiceAccount(project, email, token_uri, str(found.get("private_key_id") or ""), key)


def private_key(text: Any) -> Any:
    """The RSA key of a PEM text. Raises KeyProblem."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as failure:
        raise KeyProblem(
            f"private_key can't be checked, as the Python library cryptography is missing ({failure}): install it for"
            " the Python that runs the module"
        ) from None
    if not isinstance(text, str) or not text.strip():
        raise KeyProblem("private_key is missing")
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own words may quote what it has read.
        words = "private_key can't be read: it is cut off, was changed, or has lost its line breaks"
        raise KeyProblem(f"{words}; download the key again, or make a new one") from None
    if not isinstance(key, RSAPrivateKey):
        raise KeyProblem("private_key is no RSA key, which those of service accounts are")
    return key


def unexpected(account: ServiceAccount, project: str | None, email: str | None) -> str:
    """What of a key is not as expected; empty where all is."""
    problems = []
    if project and account.project != project:
        problems.append(f"is of project {account.project!r}, not of {project!r}")
    if email and account.email != email:
        problems.append(f"is of account {account.email!r}, not of {email!r}")
    return "; ".join(problems)


def same_key(one: Any, other: Any) -> bool:
    """Whether two contents say the same, however they are laid out."""
    try:
        return fields_of(one) == fields_of(other)
    except KeyProblem:
        return False


def secrets_of(content: Any) -> list[str]:
    """The texts of a key that must not be shown: the file's, and the private key as it is and as JSON writes it."""
    found = [content] if isinstance(content, str) and content.strip() else []
    try:
        parsed = fields_of(content)
    except KeyProblem:
        return found
    for name in ("private_key", "private_key_id"):
        value = parsed.get(name)
        if isinstance(value, str) and value.strip():
            found += [value, value.strip(), json.dumps(value)[1:-1]]
    # Errors and logs may show a part: no line of it is to be seen.
    lines = str(parsed.get("private_key") or "").replace("\\n", "\n").splitlines()
    return found + [line.strip() for line in lines if len(line.strip()) >= 16 and not line.startswith("-----")]


def probe(account: ServiceAccount, iam_endpoint: str = IAM_ENDPOINT, now: float | None = None) -> Probe:
    """Get a token with the key, and ask whether the account may call models of its project.

    Only Google's own words make it fail. What doesn't get that far, be it a network without a way out or something in
    between that answers instead, is skipped.
    """
    if not HAS_REQUESTS:
        return Probe("skipped", "the Python library requests is missing")
    answer = _post(
        account.token_uri, data={"grant_type": GRANT, "assertion": account.assertion(now or time.time())}, headers={}
    )
    if isinstance(answer, str):
        return Probe("skipped", answer)
    status, body = answer
    if status != 200:
        said = f"{body.get('error', '')}: {body.get('error_description', '')}".strip(": ")
        if not 400 <= status < 500 or "error" not in body or status == 429:
            return Probe("skipped", f"{_host(account.token_uri)} answered HTTP {status} {said}".strip())
        return Probe(
            "failed",
            f"Google gives no token for {account.email} (HTTP {status}, {said}): the key was deleted, the account is"
            " disabled or deleted, or this machine's clock is wrong. Make a new key in the project"
            f" {account.project}, or check the clock",
        )
    token = body.get("access_token")
    if not isinstance(token, str):
        return Probe("skipped", f"{_host(account.token_uri)} gave an answer without a token")
    return _permission(account, token, iam_endpoint.rstrip("/"))


def _permission(account: ServiceAccount, token: str, endpoint: str) -> Probe:
    url = f"{endpoint}/v1/projects/{account.project}:testIamPermissions"
    answer = _post(url, json={"permissions": [PERMISSION]}, headers={"Authorization": f"Bearer {token}"})
    if isinstance(answer, str):
        return Probe("skipped", f"the key gets a token; {answer}")
    status, body = answer
    advice = (
        f"the account needs {ROLE} on the project: gcloud projects add-iam-policy-binding {account.project}"
        f" --member=serviceAccount:{account.email} --role={ROLE}"
    )
    if status == 200:
        if PERMISSION in (body.get("permissions") or ()):
            return Probe("passed")
        return Probe("failed", f"{account.email} may not call models of project {account.project}: {advice}")
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    said = f"HTTP {status} {error.get('status', '')}: {str(error.get('message', ''))[:300]}".rstrip(": ")
    if status == 403 and error and not _is_switched_off(error):
        return Probe("failed", f"{account.email}, project {account.project}: {said}; {advice}")
    return Probe("skipped", f"the key gets a token; {_host(url)} can't tell what it may do ({said})")


def _is_switched_off(error: Mapping[str, Any]) -> bool:
    """Whether the project doesn't use the API that is asked, which says nothing about Vertex AI."""
    reasons = [entry.get("reason") for entry in error.get("details") or () if isinstance(entry, Mapping)]
    return "SERVICE_DISABLED" in reasons or "has not been used in project" in str(error.get("message"))


def _post(url: str, **request: Any) -> tuple[int, dict[str, Any]] | str:
    """Status and body of an answer, or why there is none."""
    try:
        answer = requests.post(url, timeout=TIMEOUT, allow_redirects=False, **request)
    except requests.RequestException as failure:
        return f"{_host(url)} can't be reached from here ({type(failure).__name__})"
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return f"{_host(url)} gave an answer that isn't Google's (HTTP {answer.status_code})"
    return answer.status_code, body


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _named(url: str) -> str:
    """The host of an address, to be said after it; "" where it can't be told."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return ""
    return f" (host {host[:80]})" if host else ""


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
