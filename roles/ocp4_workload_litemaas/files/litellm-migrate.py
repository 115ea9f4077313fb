# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring LiteLLM's tables to what this image wants: the migration Job's program, run with the image's own Python.

It runs ``prisma migrate deploy`` on the migrations that the image ships and ends with its exit status. LiteLLM's own
ways aren't taken: ``prisma db push`` removes every table that isn't LiteLLM's, and up to 1.81 so does what LiteLLM runs
after its migrations (it compares the whole database with its schema and applies the difference). In a database that
LiteMaaS shares, that is LiteMaaS's tables. Up to 1.81 LiteLLM also ends with status 0 where a migration failed.

Environment: DATABASE_URL; LITELLM_MIGRATION_BASELINE=true says that the tables are what this image wants already, and
only their history is missing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

# LiteLLM fetches a list of prices when it is loaded, which a closed network makes a long wait.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from litellm_proxy_extras import utils

#: Prisma's own definition. An empty one is what a database with other tables needs for migrate deploy to begin.
HISTORY = """\
CREATE TABLE "_prisma_migrations" (id varchar(36) PRIMARY KEY NOT NULL, checksum varchar(64) NOT NULL,
 finished_at timestamptz, migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
 started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0);"""
#: One statement, so that nothing is made where there are tables of LiteLLM's.
BEGIN = """\
DO $do$ BEGIN
IF EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'LiteLLM\\_%') THEN
 RAISE EXCEPTION 'LiteLLM tables without a history';
END IF;
{history}
END $do$;"""
APPLIED = """\
INSERT INTO "_prisma_migrations" (id, checksum, migration_name, logs, finished_at)
 VALUES (gen_random_uuid()::text, '{checksum}', '{name}', '', now());"""
NO_HISTORY = (
    "The database holds LiteLLM's tables, but no history of migrations, so nobody can tell which are missing. Nothing"
    " was changed. Make a backup, then run this Job once with the image that the tables were made with and"
    " LITELLM_MIGRATION_BASELINE=true, and again with the new image"
)
UNFINISHED = (
    "A migration began and didn't end. Nothing further was applied. Compare the tables with the named migration.sql;"
    " then run prisma migrate resolve --applied NAME (all of it is there) or --rolled-back NAME (nothing of it is"
    " there) with this image, or restore the backup, and run the Job again"
)


def main() -> int:
    if not os.environ.get("DATABASE_URL"):
        print("DATABASE_URL is not set", file=sys.stderr)
        return 2
    folder = Path(utils.__file__).parent
    prisma = Prisma(folder / "schema.prisma")
    if os.environ.get("LITELLM_MIGRATION_BASELINE", "").lower() == "true":
        migrations = sorted(folder.glob("migrations/*/migration.sql"))
        # One text is one transaction.
        status, _said = prisma.execute("\n".join([HISTORY, *map(applied, migrations)]))
        return status
    status, said = prisma.run("migrate", "deploy")
    if status and "P3005" in said:
        # Somebody else's tables, LiteMaaS's for example, and no history: LiteLLM has never been here.
        status, said = prisma.execute(BEGIN.format(history=HISTORY))
        if status:
            print(NO_HISTORY if "without a history" in said else said, file=sys.stderr)
            return status
        status, said = prisma.run("migrate", "deploy")
    if status:
        if "P3009" in said or "P3018" in said:
            print(UNFINISHED, file=sys.stderr)
        return status
    # Newer versions make the indexes of large tables beside the migrations, without blocking writers.
    build = getattr(utils.ProxyExtrasDBManager, "build_request_log_indexes", None)
    if build and not build():
        print("The migrations are applied; not every index of the spend logs is. Run the Job again", file=sys.stderr)
        return 1
    return 0


def applied(migration: Path) -> str:
    checksum = hashlib.sha256(migration.read_bytes()).hexdigest()
    return APPLIED.format(checksum=checksum, name=migration.parent.name)


class Prisma:
    """The command line of the image's Prisma; LiteLLM knows where it is, and how it works without the internet."""

    def __init__(self, schema: Path) -> None:
        self._command = getattr(utils, "_get_prisma_command", lambda: "prisma")()
        self._environment = getattr(utils, "_get_prisma_env", lambda: dict(os.environ))()
        self._schema = schema

    def run(self, *arguments: str, text: str | None = None) -> tuple[int, str]:
        """Exit status and output, which is printed too."""
        done = subprocess.run(
            [self._command, *arguments, "--schema", str(self._schema)],
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
            check=False,
        )
        print(done.stdout, end="", flush=True)
        return done.returncode, done.stdout

    def execute(self, statements: str) -> tuple[int, str]:
        return self.run("db", "execute", "--stdin", text=statements)


if __name__ == "__main__":
    sys.exit(main())
