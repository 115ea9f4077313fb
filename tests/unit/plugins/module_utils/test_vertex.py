# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of service accounts: what is wrong with one, and what Google says to it."""

from __future__ import annotations

import json
import socket

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.rhpds.litemaas.plugins.module_utils import vertex
from ansible_collections.rhpds.litemaas.tests.unit.plugins.module_utils.google import LOCAL, Google, key_file


@pytest.fixture(scope="module")
def key():
    return key_file("rhdp-infra")


@pytest.fixture
def google(monkeypatch):
    monkeypatch.setattr(vertex, "TOKEN_URIS", LOCAL)
    with Google() as found:
        yield found


def test_a_key_is_taken_as_text_as_bytes_and_as_a_mapping(key):
    for content in (key, json.dumps(key), json.dumps(key, indent=4).encode()):
        found = vertex.account_of(content)
        assert (found.project, found.email) == ("rhdp-infra", key["client_email"])


def test_a_key_is_not_shown_by_accident(key):
    shown = repr(vertex.account_of(key))
    assert key["private_key_id"] not in shown
    assert "PRIVATE" not in shown


def test_what_is_wrong_with_a_key_is_said_all_at_once(key):
    broken = {**key, "project_id": "", "client_email": "me@example.com", "private_key": "no key"}
    with pytest.raises(vertex.KeyProblem) as raised:
        vertex.account_of(broken)
    assert str(raised.value).startswith("project_id is missing; client_email 'me@example.com' is no name of a service")
    assert "private_key can't be read" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("{", "is no JSON (line 1:"),
        ("[]", "is no JSON object"),
        (b"\xff\xfe", "is no text"),
        ('{"type": "authorized_user"}', "somebody's own login"),
        ('{"type": "external_account"}', "which has no key"),
        ("{}", "has type 'None'"),
    ],
)
def test_what_is_no_key_of_a_service_account(content, words):
    with pytest.raises(vertex.KeyProblem, match=words.replace("(", r"\(")):
        vertex.account_of(content)


def test_a_private_key_that_lost_something(key):
    lines = key["private_key"].splitlines()
    for pem in ("\n".join(lines[:-2]), key["private_key"].replace("\n", "\\n"), "", None, 5):
        with pytest.raises(vertex.KeyProblem, match="private_key") as raised:
            vertex.account_of({**key, "private_key": pem})
        assert not any(line in str(raised.value) for line in lines[1:-1])


def test_only_rsa_keys():
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(vertex.KeyProblem, match="no RSA key"):
        vertex.private_key(pem.decode())


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://evil.example.com/token", "evil.example.com"),
        ("http://oauth2.googleapis.com/token", "oauth2.googleapis.com"),
        ("http://127.0.0.1:8080/token", "127.0.0.1"),
        ("https://oauth2.googleapis.com.example.com/token", "oauth2.googleapis.com.example.com"),
        ("https://evilgoogleapis.com/token", "evilgoogleapis.com"),
        ("https://oauth2.googleapis.com@evil.example.com/token", "evil.example.com"),
        # Some take the part before the backslash for the host, some the one behind it.
        ("https://evil.example.com\\@oauth2.googleapis.com/token", "oauth2.googleapis.com"),
        ("https://oauth2.googleapis.com/token\n", "oauth2.googleapis.com"),
        ("https://oauth2.googleapis.com:8443/token", "oauth2.googleapis.com"),
        ("http://[", ""),
        ("https://", ""),
    ],
)
def test_a_signed_request_goes_to_google_alone(key, uri, host):
    with pytest.raises(vertex.KeyProblem) as raised:
        vertex.account_of({**key, "token_uri": uri})
    assert "is not Google's" in str(raised.value)
    assert f"(host {host})" in str(raised.value) if host else "(host" not in str(raised.value)


@pytest.mark.parametrize(
    "uri",
    [
        "https://oauth2.googleapis.com/token",
        "https://accounts.google.com/o/oauth2/token",
        "https://www.googleapis.com/oauth2/v4/token",
        "https://oauth2.us-east1.rep.googleapis.com/token",
    ],
)
def test_addresses_of_googles(key, uri):
    assert vertex.account_of({**key, "token_uri": uri}).token_uri == uri
    assert vertex.account_of({name: key[name] for name in key if name != "token_uri"}).token_uri == vertex.TOKEN_URI


def test_expectations(key):
    found = vertex.account_of(key)
    assert vertex.unexpected(found, "rhdp-infra", key["client_email"]) == ""
    words = vertex.unexpected(found, "itpc-gcp-product-all-claude", "other@x.iam.gserviceaccount.com")
    assert "'rhdp-infra', not of 'itpc-gcp-product-all-claude'" in words
    assert f"{key['client_email']!r}, not of 'other@x" in words


def test_another_layout_is_the_same_key(key):
    assert vertex.same_key(json.dumps(key), json.dumps(key, indent=2, sort_keys=True))
    assert not vertex.same_key(key, {**key, "private_key_id": "another"})
    assert not vertex.same_key("{", "{")


def test_no_line_of_a_key_is_left_out_of_what_is_hidden(key):
    text = json.dumps(key)
    for content in (key, text):
        hidden = vertex.secrets_of(content)
        for line in key["private_key"].splitlines()[1:-1]:
            if len(line) >= 16:
                assert line in hidden
        assert key["private_key"] in hidden
        assert key["private_key_id"] in hidden
        assert json.dumps(key["private_key"])[1:-1] in hidden
        assert not any(one in hidden for one in ("rhdp-infra", key["client_email"]))
    assert text in vertex.secrets_of(text)
    assert vertex.secrets_of("broken {") == ["broken {"]


def test_google_takes_a_key(google):
    account = vertex.account_of(google.account("rhdp-infra"))
    google.allowed.add(account.email)
    assert vertex.probe(account, google.url) == vertex.Probe("passed")
    assert google.asked == ["/token", "/v1/projects/rhdp-infra:testIamPermissions"]


def test_a_key_that_was_replaced_is_named(google):
    old = google.account("rhdp-infra")
    google.account("rhdp-infra")
    found = vertex.probe(vertex.account_of(old), google.url)
    assert found.outcome == "failed"
    assert "invalid_grant: Invalid JWT Signature." in found.reason
    assert old["client_email"] in found.reason and "rhdp-infra" in found.reason
    assert google.asked == ["/token"]


def test_a_missing_role_is_named_with_account_and_project(google):
    account = vertex.account_of(google.account("rhdp-infra"))
    found = vertex.probe(account, google.url)
    assert found.outcome == "failed"
    for word in ("roles/aiplatform.user", account.email, "project rhdp-infra"):
        assert word in found.reason
    google.refusal = (403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "Caller lacks it"}})
    found = vertex.probe(account, google.url)
    assert found.outcome == "failed"
    assert "HTTP 403 PERMISSION_DENIED: Caller lacks it" in found.reason
    assert "roles/aiplatform.user" in found.reason


@pytest.mark.parametrize(
    "refusal",
    [
        (
            403,
            {
                "error": {
                    "code": 403,
                    "status": "PERMISSION_DENIED",
                    "message": "Cloud Resource Manager API has not been used in project 1 before or it is disabled.",
                    "details": [{"reason": "SERVICE_DISABLED"}],
                }
            },
        ),
        (503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "try again"}}),
        (403, b"<html>blocked by the company's proxy</html>"),
    ],
)
def test_what_says_nothing_about_the_role_is_skipped(google, refusal):
    account = vertex.account_of(google.account("rhdp-infra"))
    google.refusal = refusal
    found = vertex.probe(account, google.url)
    assert found.outcome == "skipped"
    assert found.reason.startswith("the key gets a token; 127.0.0.1:")


def test_without_a_way_to_google_it_is_skipped(monkeypatch):
    monkeypatch.setattr(vertex, "TOKEN_URIS", LOCAL)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}/token"
        found = vertex.probe(vertex.account_of(key_file("rhdp-infra", token_uri=uri)))
    assert found.outcome == "skipped"
    assert "can't be reached from here" in found.reason


def test_something_in_between_is_no_answer_of_googles(google, monkeypatch):
    account = vertex.account_of(google.account("rhdp-infra"))
    for answer in ((403, b"<html>"), (407, {"message": "who are you"}), (503, {"error": "x"}), (200, {"token": 1})):
        monkeypatch.setattr(google, "_token", lambda _form, answer=answer: answer)
        found = vertex.probe(account, google.url)
        assert found.outcome == "skipped", answer
        assert found.reason
