# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration Job's program on a real PostgreSQL, with the migrations that both versions of LiteLLM ship.

Real: the program, run with the Python that has that LiteLLM; LiteLLM's migrations; PostgreSQL; Prisma's command line
and its schema engine, which keeps the history, takes the lock and stops at the first migration that fails.

Stood in: that engine is of Prisma 6.19 as WebAssembly, as the native one of the images' Prisma 5.4 is a download. And
where the image finds `prisma` in its own folders, here it is on PATH.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness, proxies

PROGRAM = harness.CHECKOUT / "roles/ocp4_workload_litemaas/files/litellm-migrate.py"
SOURCES = harness.CHECKOUT / "tests/stack/migrate"
OLD, NEW = "1.81.14", "1.106.0"


@pytest.fixture(scope="module")
def prisma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `prisma` that works without a download."""
    known = proxies.stack_settings.Settings.from_env()
    cache = proxies.provision.Cache(known, proxies.progress.Events(sys.stderr))
    node = proxies.provision.find_node(known, cache)
    files = ("package.json", "package-lock.json", "prisma.config.mjs")

    def build(folder: Path, log: Path) -> None:
        for name in files:
            shutil.copy(SOURCES / name, folder / name)
        command = [*node.npm_command(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        env = {**proxies.os.environ, "PATH": f"{node.binary.parent}:/usr/bin:/bin"}
        proxies.processes.run("npm ci", command, cwd=folder, log=log, env=env)

    texts = "".join((SOURCES / name).read_text(encoding="utf-8") for name in files)
    packages = cache.entry("migrate", texts, "Prisma's schema engine", build)
    folder = tmp_path_factory.mktemp("bin")
    # Never run: the command line only wants to see that no engine has to be downloaded.
    unused = folder / "no-native-engine"
    unused.write_text("#!/bin/sh\nexit 1\n")
    names = ("PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_QUERY_ENGINE_BINARY", "PRISMA_SCHEMA_ENGINE_BINARY")
    words = [*(f"{name}={unused}" for name in names), "CHECKPOINT_DISABLE=1", "PRISMA_HIDE_UPDATE_MESSAGE=1"]
    words += [str(node.binary), str(packages / "node_modules/prisma/build/index.js")]
    launcher = folder / "prisma"
    line = f'exec env {shlex.join(words)} "$@" --config {shlex.quote(str(packages / "prisma.config.mjs"))}\n'
    launcher.write_text(f"#!/bin/sh\n{line}")
    for file in (unused, launcher):
        file.chmod(0o755)
    return folder


@dataclass(frozen=True)
class Database:
    """A database of the test's own, and the Job on it."""

    dsn: str
    prisma: Path

    def job(self, version: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the program as the Job of that version does."""
        env = {"PATH": f"{self.prisma}:/usr/bin:/bin", "HOME": "/nonexistent", "DATABASE_URL": self.dsn, **environment}
        python = proxies.installed(version).python
        done = subprocess.run(
            [python, "-c", PROGRAM.read_text(encoding="utf-8")],
            capture_output=True,
            text=True,
            env=env,
            timeout=300,
            check=False,
        )
        password = self.dsn.split(":")[2].split("@")[0]
        assert password not in done.stdout + done.stderr
        return done

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = harness.connect(self.dsn)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def applied(self) -> int:
        """How many migrations the history calls complete."""
        return int(self.rows('SELECT count(*) FROM "_prisma_migrations" WHERE finished_at IS NOT NULL')[0][0])

    def contents(self) -> dict[str, Any]:
        """LiteMaaS's tables with their columns and rows."""
        names = [
            row[0]
            for row in self.rows(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename !~ '^(LiteLLM_|_prisma)'"
            )
        ]
        return {
            name: (
                self.rows(
                    "SELECT column_name, data_type FROM information_schema.columns"
                    f" WHERE table_schema = 'public' AND table_name = '{name}' ORDER BY ordinal_position"
                ),
                self.rows(f'SELECT * FROM "{name}" ORDER BY 1'),
            )
            for name in names
        }

    def litemaas(self) -> None:
        """LiteMaaS's tables with rows in them."""
        self.rows((harness.CHECKOUT / "tests/stack/litemaas_schema.sql").read_text(encoding="utf-8"))
        self.rows("INSERT INTO models (id, name, provider) SELECT 'm' || n, 'M' || n, 'p' FROM generate_series(1, 9) n")


def shipped(version: str) -> int:
    return len(proxies.installed(version).migrations)


@pytest.fixture
def new_database(stack: harness.Stack, prisma: Path) -> Iterator[Callable[[], Database]]:
    """Makes empty databases."""
    with proxies.contextlib.ExitStack() as made:
        yield lambda: Database(made.enter_context(proxies.database(stack.litellm_dsn)), prisma)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_fresh_database(new_database: Callable[[], Database], version: str) -> None:
    database = new_database()
    done = database.job(version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert database.applied() == shipped(version)
    assert database.rows('SELECT count(*) FROM "LiteLLM_VerificationToken"') == [(0,)]
    again = database.job(version)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "No pending migrations" in again.stdout
    assert database.applied() == shipped(version)


def test_an_upgrade_keeps_what_is_there(new_database: Callable[[], Database]) -> None:
    """A database shared with LiteMaaS, the layout of older deployments, with rows of both."""
    database = new_database()
    assert database.job(OLD).returncode == 0
    database.litemaas()
    database.rows(
        'INSERT INTO "LiteLLM_VerificationToken" (token, key_alias, spend, models)'
        " SELECT 't' || n, 'key-' || n, n, ARRAY['m1'] FROM generate_series(1, 50) n"
    )
    before = database.contents()
    done = database.job(NEW)
    assert done.returncode == 0, done.stdout + done.stderr
    assert database.contents() == before
    assert database.rows('SELECT count(*), sum(spend) FROM "LiteLLM_VerificationToken"') == [(50, 1275.0)]
    names = {path.parent.name for path in proxies.installed(NEW).migrations}
    known = {row[0] for row in database.rows('SELECT migration_name FROM "_prisma_migrations"')}
    assert names <= known
    # What newer versions make beside the migrations.
    assert database.rows(
        "SELECT indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid"
        " WHERE relname = 'LiteLLM_SpendLogs_api_key_startTime_idx'"
    ) == [(True,)]


def test_litemaas_was_there_first(new_database: Callable[[], Database]) -> None:
    """Prisma refuses a database that isn't empty and has no history; LiteMaaS's tables are no reason to."""
    database = new_database()
    database.litemaas()
    before = database.contents()
    done = database.job(OLD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert database.applied() == shipped(OLD)
    assert database.contents() == before


def test_litellm_without_a_history_is_left_alone(new_database: Callable[[], Database]) -> None:
    database = new_database()
    litellm = proxies.installed(OLD)
    database.rows("".join(path.read_text(encoding="utf-8") + "\n;\n" for path in litellm.migrations))
    done = database.job(NEW)
    assert done.returncode != 0
    assert "LITELLM_MIGRATION_BASELINE" in done.stderr
    assert database.rows("SELECT to_regclass('_prisma_migrations')::text") == [(None,)]
    # What the message says to do.
    baseline = database.job(OLD, LITELLM_MIGRATION_BASELINE="true")
    assert baseline.returncode == 0, baseline.stdout + baseline.stderr
    assert database.applied() == shipped(OLD)
    done = database.job(NEW)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_migration_that_fails(new_database: Callable[[], Database]) -> None:
    """The Job fails, nothing after it is applied, and the next Job doesn't go on as if nothing were the matter."""
    database = new_database()
    database.litemaas()
    before = database.contents()
    # What one of the first migrations makes.
    database.rows("CREATE TYPE \"JobStatus\" AS ENUM ('INACTIVE')")
    done = database.job(OLD)
    assert done.returncode != 0
    assert "already exists" in done.stdout
    assert database.applied() < shipped(OLD)
    again = database.job(OLD)
    assert again.returncode != 0
    assert "P3009" in again.stdout
    assert "resolve" in again.stderr
    assert database.contents() == before


def test_a_database_that_refuses(new_database: Callable[[], Database]) -> None:
    database = new_database()
    password = database.dsn.split(":")[2].split("@")[0]
    for wrong in (
        Database(database.dsn.replace(password, "another-password"), database.prisma),
        Database(database.dsn.rsplit(":", 1)[0] + ":9/nothing", database.prisma),
    ):
        assert wrong.job(OLD).returncode != 0


def test_no_database_given(new_database: Callable[[], Database]) -> None:
    done = new_database().job(OLD, DATABASE_URL="")
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr
