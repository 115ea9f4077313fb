# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DSNs, COPY's text format and the checks of a run's options: what needs no server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils import urls
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database, sync

PASSWORD = "S3cret-Horse"
#: What the letter after a backslash stands for in COPY's text format.
PLAIN = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "mysql://user:S3cret-Horse@host/db",
        "postgresql://user:S3cret@-Horse@127.0.0.1:1/db",
        "postgresql://user:S3cret/-Horse@127.0.0.1:1/db",
        "postgresql://user:S3cret#-Horse@127.0.0.1:1/db",
        "postgresql://user:S3cret?-Horse@127.0.0.1:1/db",
        "postgresql://user:S3cret?-Horse&schema=x@127.0.0.1:1/db?connection_limit=1",
        "postgresql://user:S3cret%-Horse@127.0.0.1:1/db",
        "postgresql://user:S3cret-Horse@127.0.0.1:port/db",
        "postgresql://user:S3cret-Horse@[127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=S3cret-Horse extra",
        "host=127.0.0.1 port=1 nonsense=S3cret-Horse",
        "host=127.0.0.1 port=1 user=u password='S3cret-Horse",
        "postgresql://user:S3cret-Horse@127.0.0.1:1/db",
        "postgresql://user:S3cret%2DHorse@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?user=u&password=S3cret-Horse",
        "host=127.0.0.1 port=1 user=S3cret-Horse password=S3cret-Horse dbname=x",
    ],
)
def test_no_dsn_gives_its_password_away(dsn):
    with pytest.raises(database.DatabaseError) as caught:
        database.connect(dsn, connect_timeout=1, option="litemaas_dsn")
    text = str(caught.value)
    assert "litemaas_dsn" in text
    assert "S3cret" not in text
    assert "Horse" not in text


PRISMAS = "connection_limit=10&pool_timeout=20&pgbouncer=true&socket_timeout=5&statement_cache_size=0&sslaccept=strict"


def told(monkeypatch, dsn):
    """What the client library is told of a DSN, as its own parameters; None where it is told nothing."""
    calls = []

    def connect(text, **_ours):
        calls.append(text)
        raise database.psycopg2.OperationalError("Connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(database.psycopg2, "connect", connect)
        with pytest.raises(database.DatabaseError):
            database.connect(dsn)
    return database.psycopg2.extensions.parse_dsn(calls[0]) if calls else None


@pytest.mark.parametrize(
    ("query", "more"),
    [
        (PRISMAS, {}),
        (f"{PRISMAS}&schema=public", {}),
        (f"schema=mine&{PRISMAS}&sslmode=disable", {"sslmode": "disable", "options": "-csearch_path=mine"}),
        ("connect_timeout=3&schema=&application_name=a%2Bb", {"connect_timeout": "3", "application_name": "a+b"}),
        (
            "schema=mine&options=-cstatement_timeout%3D5",
            {"options": "-csearch_path=mine -cstatement_timeout=5"},
        ),
    ],
)
def test_what_only_prisma_knows_is_left_out_of_a_dsn(monkeypatch, query, more):
    dsn = f"postgresql://u:p%40s+s@db:5432/one?{query}"
    parts = told(monkeypatch, dsn)
    assert parts == database.parts_of(dsn, "litemaas_dsn")
    assert parts == {"user": "u", "password": "p@s+s", "host": "db", "port": "5432", "dbname": "one", **more}


@pytest.mark.parametrize("query", ["sslmod=require", "connection_limits=10", "connection_limit=10&sslmod=require"])
def test_a_misspelt_parameter_stays_an_error(monkeypatch, query):
    dsn = f"postgresql://u:p@db/one?{query}"
    assert told(monkeypatch, dsn) is None
    with pytest.raises(database.DatabaseError, match="not a DSN"):
        database.parts_of(dsn, "litemaas_dsn")


def test_what_the_server_says_is_cleared_of_the_password():
    said = f'FATAL:  role "{PASSWORD}" does not exist'
    words, advice = database._connect_trouble(said, "litellm_dsn", [PASSWORD], clean=True)
    assert words == 'FATAL: role "********" does not exist'
    assert advice == "Check the user in litellm_dsn"


def test_a_refused_connection_says_where_and_what_to_do():
    with pytest.raises(database.DatabaseError) as caught:
        database.connect(f"postgresql://me:{PASSWORD}@127.0.0.1:1/litemaas", option="litellm_dsn")
    assert "litellm_dsn (me@127.0.0.1:1/litemaas)" in str(caught.value)
    assert "Check host and port in litellm_dsn" in str(caught.value)


@given(st.lists(st.one_of(st.none(), st.text(), st.lists(st.text(), max_size=3)), min_size=1, max_size=4))
def test_a_copy_line_is_one_line_that_reads_back(values):
    if "\0" in "".join(str(value if isinstance(value, str) else "".join(value or ())) for value in values):
        with pytest.raises(ValueError, match="NUL"):
            database.copy_line(values)
        return
    line = database.copy_line(values)
    assert line.endswith("\n")
    body = line[:-1]
    assert "\n" not in body
    assert "\r" not in body
    fields = body.split("\t")
    assert len(fields) == len(values)
    for text, value in zip(fields, values, strict=True):
        if value is None:
            assert text == "\\N"
        elif isinstance(value, str):
            assert text != "\\N"
            assert re.sub(r"\\(.)", lambda found: PLAIN[found.group(1)], text) == value


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(min_value=1, max_value=40))
def test_the_reader_gives_everything_in_pieces_of_at_most_the_size(lines, size):
    reader = database._Reader(iter(lines))
    out = b""
    while piece := reader.read(size):
        assert len(piece) <= size
        out += piece
    assert out == "".join(lines).encode()


@pytest.mark.parametrize(
    ("given_url", "shown"),
    [
        ("https://user:pass@host:1/v1?key=abc#x", "https://host:1/v1"),
        ("http://host/v1", "http://host/v1"),
        ("http://host/a@b", "http://host/a@b"),
        ("not a url", "not a url"),
        (None, None),
    ],
)
def test_urls_are_shown_without_credentials(given_url, shown):
    assert urls.without_credentials(given_url) == shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": [{"model_name": " "}]}, r"models\[0\] has no model_name"),
        ({"sync_all": False}, "Nothing to do"),
    ],
)
def test_a_bad_list_is_refused_before_anything_is_read(options, words):
    def never():
        raise AssertionError("read")

    nowhere = database.Connection(None, database.Target("litemaas_dsn", ""))
    with pytest.raises(ValueError, match=words):
        sync.CatalogSync(nowhere, sync.Options(**options), never, never).run()
