# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""litemaas_branding on a real PostgreSQL, with the table as LiteMaaS 0.4 makes it, and with others."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness, proxies

MODULE = "litemaas_branding"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'
# Without its row, as nobody has to have made that.
AS_0_4 = (harness.CHECKOUT / "tests/stack/litemaas_schema.sql").read_text(
    encoding="utf-8"
) + "DELETE FROM branding_settings;"
OTHERWISE = """
CREATE TABLE branding_settings (
    id integer PRIMARY KEY, title text, footer text, login_logo bytea, header_logo_dark text
);
"""


class Table:
    """A database of the test's own with that table."""

    def __init__(self, dsn: str, run_module: Callable[..., harness.ModuleResult]) -> None:
        self.dsn, self._run = dsn, run_module

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        connection = harness.connect(self.dsn)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def row(self, *columns: str) -> tuple[Any, ...]:
        return self.sql(f"SELECT {', '.join(columns)} FROM branding_settings WHERE id = 1")[0]

    def brand(self, check: bool = False, **options: str) -> harness.ModuleResult:
        return self._run(MODULE, {"litemaas_dsn": self.dsn, **options}, check=check, diff=True)


@pytest.fixture
def table(stack: harness.Stack, run_module: Callable[..., harness.ModuleResult]) -> Iterator[Table]:
    with proxies.database(stack.litemaas_dsn) as dsn:
        yield Table(dsn, run_module)


def test_texts_and_logos(table: Table, tmp_path: Path) -> None:
    table.sql(AS_0_4)
    logo = tmp_path / "logo"
    logo.write_bytes(PNG)
    svg = f"data:image/whatever;base64,{base64.b64encode(SVG).decode()}"
    options = {"title": 'IBM\'s "models" %s', "subtitle": "für alle", "login_logo": str(logo), "header_logo_dark": svg}
    planned = table.brand(check=True, **options)
    assert planned.changed
    assert table.sql("SELECT * FROM branding_settings") == []
    done = table.brand(**options)
    assert done.changed
    assert done["changes"] == planned["changes"]
    assert table.row("login_title", "login_title_enabled", "login_subtitle", "login_subtitle_enabled") == (
        options["title"],
        True,
        "für alle",
        True,
    )
    data, mime, enabled = table.row("login_logo_data", "login_logo_mime_type", "login_logo_enabled")
    assert (base64.b64decode(data), mime, enabled) == (PNG, "image/png", True)
    columns = ("header_brand_dark_data", "header_brand_dark_mime_type", "header_brand_enabled")
    data, mime, enabled = table.row(*columns)
    assert (base64.b64decode(data), mime, enabled) == (SVG, "image/svg+xml", True)
    assert hashlib.sha256(PNG).hexdigest()[:16] in json.dumps(done["diff"])
    assert base64.b64encode(PNG).decode() not in json.dumps(done)
    stamp = table.row("updated_at")
    again = table.brand(**options)
    assert not again.changed
    assert again["changes"] == []
    assert table.row("updated_at") == stamp


def test_what_is_left_out_stays_and_an_empty_one_goes(table: Table, tmp_path: Path) -> None:
    table.sql(AS_0_4)
    logo = tmp_path / "logo.png"
    logo.write_bytes(PNG)
    table.brand(title="T", subtitle="S", header_logo_light=str(logo), header_logo_dark=str(logo))
    done = table.brand(title="", header_logo_light="")
    assert [one["field"] for one in done["changes"]] == ["title", "header_logo_light"]
    assert table.row("login_title", "login_title_enabled", "login_subtitle") == (None, False, "S")
    columns = ("header_brand_light_data", "header_brand_light_mime_type", "header_brand_enabled")
    assert table.row(*columns) == (None, None, True)
    assert table.brand(header_logo_dark="").changed
    assert table.row("header_brand_enabled") == (False,)
    assert not table.brand(title="", header_logo_dark="").changed


def test_somebody_switched_it_off(table: Table) -> None:
    table.sql(AS_0_4)
    table.brand(title="T")
    table.sql("UPDATE branding_settings SET login_title_enabled = false")
    assert table.brand(title="T").changed
    assert table.row("login_title_enabled") == (True,)
    assert not table.brand().changed


def test_a_table_of_another_release(table: Table, tmp_path: Path) -> None:
    """Bytes where the column holds bytes, a data URI where nothing says what it is."""
    table.sql(OTHERWISE)
    logo = tmp_path / "logo.svg"
    logo.write_bytes(SVG)
    options = {"title": "T", "footer": "F", "login_logo": str(logo), "header_logo_dark": str(logo)}
    assert table.brand(**options).changed
    title, footer, login, header = table.row("title", "footer", "login_logo", "header_logo_dark")
    assert (title, footer, bytes(login)) == ("T", "F", SVG)
    assert header == f"data:image/svg+xml;base64,{base64.b64encode(SVG).decode()}"
    assert not table.brand(**options).changed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"footer": "F"}, "login_subtitle_enabled"),  # the columns that are there are named
        ({"title": "x" * 201}, "takes 200"),
        ({"login_logo": "/nothing/there.png"}, "/nothing/there.png"),
        ({"login_logo": "data:image/png;base64,aGVsbG8="}, "neither PNG"),
        ({"login_logo": "data:image/png,hello"}, "data URI"),
        ({"login_logo": "data:;base64," + base64.b64encode(PNG + bytes(2 << 20)).decode()}, "Shrink"),
    ],
)
def test_nothing_is_written_with_one_that_is_wrong(table: Table, options: dict[str, str], words: str) -> None:
    table.sql(AS_0_4)
    failed = table.brand(**{"subtitle": "S", **options})
    assert failed.failed
    assert words in failed["msg"]
    assert table.sql("SELECT * FROM branding_settings") == []


def test_the_table_is_not_there_yet(table: Table) -> None:
    failed = table.brand(title="T")
    assert failed.failed
    assert "backend" in failed["msg"]


def test_by_namespace(
    stack: harness.Stack,
    namespace: cluster.Namespace,
    run_module: Callable[..., harness.ModuleResult],
    table: Table,
) -> None:
    """The whole way, with the database's address and password found in the cluster."""
    table.sql(AS_0_4)
    namespace.secret("litemaas-db", DATABASE_URL=namespace.inside(table.dsn))
    namespace.postgres()
    args = {"namespace": namespace.name, "cluster": {"kubeconfig": stack.variables["KUBECONFIG"]}, "title": "T"}
    done = run_module(MODULE, args, env={"LITEMAAS_DSN": ""})
    assert not done.failed, done
    assert table.row("login_title") == ("T",)
