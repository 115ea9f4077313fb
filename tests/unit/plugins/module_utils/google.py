# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of service accounts that nobody has, and as much of Google as gives tokens for them."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

PERMISSION = "aiplatform.endpoints.predict"


def key_file(project: str, **other: Any) -> dict[str, Any]:
    """A key file, as Google Cloud gives them out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "0123456789abcdef" * 2,
        "private_key": pem,
        "client_email": f"litemaas-vertex-sa@{project}.iam.gserviceaccount.com",
        "client_id": "100000000000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
        **other,
    }


#: What stands in for Google's own addresses of tokens in tests; the code knows no other way to one on this machine.
LOCAL = re.compile(r"http://127\.0\.0\.1:[0-9]+/token")


class Google:
    """A token endpoint that verifies signatures, and a resource manager that knows who may do what.

    A context manager. ``keys`` are the accounts that it knows; ``allowed`` those that may call models; ``refusal`` is
    what the resource manager says instead of an answer.
    """

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.allowed: set[str] = set()
        self.refusal: tuple[int, Any] | None = None
        self.asked: list[str] = []
        self._tokens: dict[str, str] = {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["content-length"])).decode()
                fake.asked.append(self.path)
                status, body = fake._answer(self.path, text, self.headers.get("authorization", ""))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def account(self, project: str) -> dict[str, Any]:
        """A key file of an account that it knows."""
        found = key_file(project, token_uri=f"{self.url}/token")
        self.keys[found["client_email"]] = found
        return found

    def _answer(self, path: str, text: str, authorization: str) -> tuple[int, Any]:
        if path == "/token":
            return self._token(urllib.parse.parse_qs(text))
        if self.refusal is not None:
            return self.refusal
        email = self._tokens.get(authorization.removeprefix("Bearer "))
        if email is None:
            return 401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "no such token"}}
        project = self.keys[email]["project_id"]
        assert path == f"/v1/projects/{project}:testIamPermissions", path
        asked = json.loads(text)["permissions"]
        return 200, {"permissions": [one for one in asked if one == PERMISSION and email in self.allowed]}

    def _token(self, form: dict[str, list[str]]) -> tuple[int, Any]:
        header, claims, signature = form["assertion"][0].split(".")
        said, meta = json.loads(_decoded(claims)), json.loads(_decoded(header))
        refused = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        known = self.keys.get(said["iss"])
        if known is None or form["grant_type"] != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            return 400, {**refused, "error_description": "Invalid grant: account not found"}
        assert meta == {"alg": "RS256", "typ": "JWT", "kid": known["private_key_id"]}
        assert said["aud"] == f"{self.url}/token" and said["scope"].endswith("/auth/cloud-platform")
        assert abs(said["iat"] - time.time()) < 60 and said["exp"] - said["iat"] <= 3600
        public = serialization.load_pem_private_key(known["private_key"].encode(), None).public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        try:
            public.verify(_decoded(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return 400, refused
        token = f"ya29.token-{len(self._tokens)}"
        self._tokens[token] = said["iss"]
        return 200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    def __enter__(self) -> Google:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
