# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the client sends, seen by a server on this machine."""

from __future__ import annotations

import http.server
import socketserver
import threading

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient


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
