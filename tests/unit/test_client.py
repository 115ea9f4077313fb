# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the client sends, seen by a server on this machine."""

from __future__ import annotations

import http.server
import socketserver
import threading

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient, client_from_params
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError

OPTIONS = {
    "litellm_url": "https://litellm.example.com",
    "litellm_master_key": "sk-ours",
    "validate_certs": True,
    "api_timeout": 30,
    "retry_count": 0,
    "retry_delay": 0.0,
}


class Server(http.server.ThreadingHTTPServer):
    """One that asks no name server for its own name."""

    server_bind = socketserver.TCPServer.server_bind


@pytest.fixture
def server():
    """A server that remembers the Authorization header of every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_words):
            pass

    with Server(("127.0.0.1", 0), Handler) as listening:
        listening.seen = []
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def test_an_entry_in_netrc_never_takes_the_place_of_the_key(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1\nlogin somebody\npassword theirs\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    client = LiteLLMClient(f"http://127.0.0.1:{server.server_address[1]}", "sk-ours", retries=0)
    client.get("/key/list")
    client.sibling(key="sk-participant").get("/v1/models")
    assert server.seen == ["Bearer sk-ours", "Bearer sk-participant"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("litellm_master_key", "master key", "litellm_master_key holds white space"),
        ("litellm_master_key", "master\nkey", "litellm_master_key holds white space"),
        ("litellm_master_key", "master\x00key", "litellm_master_key holds white space"),
        ("litellm_master_key", "master€key", "litellm_master_key holds white space"),
        ("verify_as", "participant\tkey", "verify_as holds white space"),
        ("api_timeout", 0, "api_timeout is 0. Give the seconds"),
        ("api_timeout", -1, "api_timeout is -1. Give the seconds"),
        ("ca_path", "/nonexistent/ca.pem", "ca_path is /nonexistent/ca.pem, which can't be read. Give a path"),
        ("client_cert", "/nonexistent/cert.pem", "client_cert is /nonexistent/cert.pem"),
        ("litellm_url", "litellm.example.com", "litellm_url is 'litellm.example.com', not an HTTP URL"),
        ("litellm_url", "http://someone:pa55word@127.0.0.1:9", "litellm_url holds an @"),
        ("litellm_url", "someone:pa55word@127.0.0.1:9", "litellm_url holds an @"),
    ],
)
def test_an_option_that_no_request_can_be_made_with_is_named(option, value, words):
    with pytest.raises(LiteLLMError) as caught:
        client_from_params({**OPTIONS, option: value})
    text = str(caught.value)
    assert text.startswith(words)
    assert "pa55word" not in text
    if "key" in option or option == "verify_as":
        assert value not in text
        assert repr(value)[1:-1] not in text


def test_files_that_are_not_used_may_be_missing():
    nowhere = {"ca_path": "/nonexistent/ca.pem"}
    client_from_params({**OPTIONS, **nowhere, "litellm_url": "http://litellm.example.com"})
    client_from_params({**OPTIONS, **nowhere, "validate_certs": False})
    client_from_params({**OPTIONS, "client_key": "/nonexistent/key.pem"})


def test_an_address_of_a_replica_does_not_show_its_password_either():
    with pytest.raises(LiteLLMError, match=r"^replica_urls holds an @") as caught:
        client_from_params(OPTIONS).sibling("http://someone:pa55word@127.0.0.1:9")
    assert "pa55word" not in str(caught.value)


@pytest.mark.parametrize("key", ["participant.key\n", "participant€key"])
def test_a_key_that_no_header_can_hold_is_an_error_without_it(server, key):
    client = LiteLLMClient(f"http://127.0.0.1:{server.server_address[1]}", "sk-ours", retries=0)
    with pytest.raises(LiteLLMError, match=r"GET .*/v1/models.* the key holds") as caught:
        client.sibling(key=key).get("/v1/models")
    assert "participant" not in str(caught.value)
    assert server.seen == []


def test_a_file_that_can_not_be_read_is_an_error_with_advice(monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    client = LiteLLMClient("https://127.0.0.1:9", "sk-ours", retries=0)
    with pytest.raises(LiteLLMError, match=r"GET .*missing\.pem.* Check litellm_url"):
        client.get("/key/list")
