# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dumps of PostgreSQL databases as files on this machine: complete and checked, or not there at all.

A source writes one database in pg_dump's custom format to a function; :func:`take` makes files and a manifest of it.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    Cluster,
    ClusterError,
    Refused,
    Rest,
    library,
    spoken,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database as postgres

#: Where removal and upgrades look for a fresh backup.
CONFIG_MAP = "litemaas-backups"
FIELD_MANAGER = "rhpds.litemaas.backup"
#: Records that the ConfigMap keeps; an object in etcd has its limit.
RECORDS = 50
#: Fails rather than to wait for ever behind somebody who changes a table, which everybody else would then wait behind.
PG_DUMP = ("pg_dump", "--format=custom", "--no-password", "--lock-wait-timeout=60s")
#: What counts every table that pg_dump dumps the rows of, as one statement each; the result is a JSON array.
COUNTS = """\
SELECT format('SELECT json_build_array(%L, count(*)) FROM %I.%I', n.nspname || '.' || c.relname, n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 1"""
#: Waits no longer than pg_dump itself does, and is idle for as long as that works.
PATIENCE = "SET lock_timeout = '60s'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;"
#: Ends the counts; the dump follows.
END_OF_COUNTS = b"[]\n"
#: Before pg_dump's exit status, which psql doesn't pass on.
ENDED = "rhpds.litemaas: pg_dump ended with "
# The password is in the container's environment and stays there: an argument would be in its list of processes.
LOGIN = """\
export PGPASSWORD="${PGPASSWORD-${POSTGRES_PASSWORD-${POSTGRESQL_PASSWORD-}}}"
export PGUSER="${POSTGRES_USER-${POSTGRESQL_USER-postgres}}"
"""
# psql holds the snapshot that both the counts and pg_dump read. Nothing is written in the pod, not even a pipe's file.
IN_POD = (
    LOGIN
    + """\
export PGDATABASE="$1"
printf '%s\\n' "$2" | psql --no-psqlrc --quiet --no-align --tuples-only --no-password -v ON_ERROR_STOP=1 -f -
"""
)
SCRIPT = f"""\
{PATIENCE}
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_catalog.pg_export_snapshot() AS snapshot \\gset
\\setenv LITEMAAS_SNAPSHOT :snapshot
{COUNTS} \\gexec
SELECT '[]';
\\! {" ".join(PG_DUMP)} --snapshot="$LITEMAAS_SNAPSHOT" </dev/null; echo "{ENDED}$?" >&2
COMMIT;
"""
RIGHTS = "get on pods, and create and get on pods/exec"
STDIN = b"\0"
STDOUT, STDERR, STATUS = 1, 2, 3
#: Seconds of silence after which the other end is asked whether it is there: load balancers end what is silent.
KEEPALIVE = 20
#: Questions without an answer after which it is not.
UNANSWERED = 3
CHUNK = 1 << 16
#: End of the name of a file with keys.
KEYS = "-keys.vault"
#: Start of the names of a backup's files while they are written.
STEM = re.compile(r"^\..+-\d{8}T\d{6}\.\d{6}Z$")
#: What a database's name can't be given as: libpq takes it for a connection string.
NOT_A_NAME = re.compile(r"=|://|^$|[\x00-\x1f/]")


class DumpError(Exception):
    """A dump that could not be made: what was tried, what was said, what to do. Holds no secret."""

    def __init__(self, attempt: str, words: str, advice: str = "") -> None:
        text = f"{attempt}: {words}"
        super().__init__(f"{text.rstrip('.')}. {advice}" if advice else text)


Write = Callable[[bytes], None]


class Source(Protocol):
    """Where a database is, and a way to read it."""

    @property
    def name(self) -> str:
        """As it may be shown."""

    def dump(self, database: str, write: Write) -> dict[str, int]:
        """One database in pg_dump's custom format, piece by piece; the number of rows of each table in it.

        Raises DumpError, ClusterError.
        """


@dataclass(frozen=True)
class PodSource:
    """The PostgreSQL of a pod; pg_dump runs there, and nothing is written there."""

    cluster: Cluster
    namespace: str
    pod: str
    container: str | None = None

    @property
    def name(self) -> str:
        return f"pod {self.namespace}/{self.pod}"

    def dump(self, database: str, write: Write) -> dict[str, int]:
        """See :class:`Source`."""
        attempt = f"Dump database {database} in {self.name}"
        counts = _Counts(write)
        said = self.run(attempt, ["sh", "-c", IN_POD, "sh", database, SCRIPT], counts.write)
        said, _mark, ended = said.rpartition(ENDED)
        if ended.strip() != "0":
            raise DumpError(attempt, _line(said) or "pg_dump did not end", _advice(said))
        return counts.rows

    def run(self, attempt: str, command: Sequence[str], write: Write, given: Iterable[bytes] | None = None) -> str:
        """A command in the pod; what it said on standard error.

        Args:
            write: gets its standard output.
            given: its standard input, which stays open: the command has to know when it has all of it.

        Raises:
            DumpError, ClusterError: it failed, or could not be run.
        """
        websocket = library("websocket")
        with spoken(attempt, RIGHTS):
            channel = self._channel(command, given is not None)
        said, status = bytearray(), b""
        try:
            # The client's own reading takes everything for text.
            frames = _frames(channel.sock, websocket)
            for piece in given or ():
                if select.select([channel.sock.sock], [], [], 0)[0]:  # it ended early, and says why
                    break
                channel.sock.send(STDIN + piece, websocket.ABNF.OPCODE_BINARY)
            for number, data in frames:
                if number == STDOUT:
                    write(data)
                elif number == STDERR:
                    # The end is what tells how it ended.
                    said = (said + data)[:4000] + (said + data)[4000:][-400:]
                elif number == STATUS:
                    status += data
        except (websocket.WebSocketException, OSError) as failure:
            if getattr(failure, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS):
                raise
            raise DumpError(
                attempt, f"the connection ended: {_line(str(failure)) or type(failure).__name__}", "Run it again"
            ) from None
        finally:
            with suppress(Exception):  # it may be gone already
                channel.close()
        text = said.decode("utf-8", "replace")
        _judge(attempt, status, text)
        return text

    def _channel(self, command: Sequence[str], with_input: bool) -> Any:
        """The client's end of a command in the pod."""
        given = {"container": self.container} if self.container else {}
        run = self.cluster.api().connect_get_namespaced_pod_exec
        streams = {"stdout": True, "stderr": True, "stdin": with_input, "tty": False}
        try:
            return library("kubernetes.stream").stream(
                run, self.pod, self.namespace, command=command, **streams, **given, _preload_content=False
            )
        except Exception as failure:
            # The client has its own words for an answer that opens no connection; the answer itself is behind them.
            answer = failure.__context__
            if not isinstance(answer, library("websocket").WebSocketBadStatusException):
                raise
            body = getattr(answer, "resp_body", None) or b""
            raise Refused(SimpleNamespace(status=answer.status_code, data=body, reason=str(answer)[:100])) from None


def _frames(sock: Any, websocket: Any) -> Any:
    """Channel number and data of each message, until the other end closes. Raises OSError, WebSocketException."""
    sock.settimeout(KEEPALIVE)
    unanswered = 0
    while True:
        try:
            code, frame = sock.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            unanswered += 1
            if unanswered > UNANSWERED:
                raise OSError(f"nobody answered for {KEEPALIVE * unanswered} seconds") from None
            sock.ping()
            continue
        unanswered = 0
        if code == websocket.ABNF.OPCODE_CLOSE:
            return
        if code in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data:
            yield frame.data[0], bytes(frame.data[1:])


def _judge(attempt: str, status: bytes, said: str) -> None:
    """Whether a command in a pod succeeded. Raises DumpError."""
    if not status:
        raise DumpError(attempt, "the connection ended before the command did", "Run it again")
    try:
        answer = json.loads(status)
    except ValueError:
        answer = {"message": status.decode("utf-8", "replace")}
    if answer.get("status") != "Success":
        raise DumpError(attempt, _line(said) or str(answer.get("message")), _advice(said))


class DsnSource:
    """A database that is reached from here, with the pg_dump of this machine."""

    def __init__(self, dsn: str, connect_timeout: int = postgres.CONNECT_TIMEOUT) -> None:
        parts = postgres.parts_of(dsn, "dsn", foreign=True)
        self._password = parts.pop("password", "")
        self.database = parts.pop("dbname", "")
        self._parts = {"connect_timeout": str(connect_timeout), **parts}
        self.name = f"{parts.get('user', 'default user')}@{parts.get('host', 'local socket')}:{parts.get('port', 5432)}"

    def dump(self, database: str, write: Write) -> dict[str, int]:
        """See :class:`Source`."""
        attempt = f"Dump database {database} of {self.name}"
        if shutil.which(PG_DUMP[0]) is None:
            raise DumpError(
                attempt, "pg_dump is not installed here", "Install PostgreSQL's client, or dump through the pod"
            )
        with self._snapshot(attempt, database) as (snapshot, rows):
            command = [*PG_DUMP, f"--snapshot={snapshot}", f"--dbname={self.dsn(database)}"]
            self.run(attempt, command, write)
        return rows

    def dsn(self, database: str, **others: Any) -> str:
        """Without the password: an argument list is there for every user to read."""
        return postgres.make_dsn(**{**self._parts, "dbname": database, **others})

    def connect(self, database: str) -> postgres.Connection:
        """A connection to a database of this server. Raises DatabaseError."""
        dsn = self.dsn(database, **({"password": self._password} if self._password else {}))
        return postgres.connect(dsn, connect_timeout=int(self._parts["connect_timeout"]), option="dsn")

    @contextmanager
    def _snapshot(self, attempt: str, database: str) -> Iterator[tuple[str, dict[str, int]]]:
        """What pg_dump is to read, and the rows of its tables. Raises DumpError."""
        try:
            with closing(self.connect(database)) as connection:
                connection.raw.set_session(isolation_level="REPEATABLE READ", readonly=True)
                with connection.transaction(attempt, lock_timeout=60, statement_timeout=0) as cursor:
                    cursor.execute("SELECT pg_catalog.pg_export_snapshot()")
                    yield cursor.fetchone()[0], count_rows(cursor)
        except postgres.DatabaseError as failure:
            raise DumpError(attempt, failure.words, failure.advice) from None

    def run(self, attempt: str, command: Sequence[str], write: Write) -> None:
        """A program of PostgreSQL's on this machine, with the password in its environment. Raises DumpError."""
        env = {**os.environ, "LC_ALL": "C"} | ({"PGPASSWORD": self._password} if self._password else {})
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [str(shutil.which(command[0])), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
            )
            try:
                output: Any = process.stdout
                while data := output.read(CHUNK):
                    write(data)
                process.wait()
            finally:
                process.kill()
                process.wait()
            errors.seek(0)
            said = errors.read(4000).decode("utf-8", "replace")
        if process.returncode:
            if len(self._password) > 2:
                said = said.replace(self._password, "********")
            raise DumpError(
                attempt, _line(said) or f"{command[0]} ended with status {process.returncode}", _advice(said)
            )


def count_rows(cursor: Any) -> dict[str, int]:
    """Rows of each table, as a dump counts them: ``{"public.models": 12}``."""
    cursor.execute(COUNTS)
    rows = {}
    for (statement,) in cursor.fetchall():
        cursor.execute(statement)
        name, number = cursor.fetchone()[0]
        rows[name] = number
    return rows


class _Counts:
    """Takes the counts off the front of what comes from the pod, and passes on the rest."""

    def __init__(self, write: Write) -> None:
        self.rows: dict[str, int] = {}
        self._write, self._begun, self._held = write, False, b""

    def write(self, data: bytes) -> None:
        if self._begun:
            self._write(data)
            return
        self._held += data
        while b"\n" in self._held:
            line, _end, rest = self._held.partition(b"\n")
            if line + b"\n" == END_OF_COUNTS:
                self._begun, self._held = True, b""
                if rest:
                    self._write(rest)
                return
            name, number = json.loads(line)
            self.rows[name], self._held = number, rest


def _line(text: str) -> str:
    return " ".join(text.split())[:600]


def _advice(said: str) -> str:
    for pattern, advice in (
        (r"server version mismatch", "Install a newer PostgreSQL client here, or dump through the pod"),
        (r'database ".*" does not exist', "Check databases"),
        (r"password|authentication", "Check user and password"),
        (r"permission denied", "The user needs to read every table of the database"),
        (r"lock timeout", "Somebody changes a table just now: run it again"),
        (r"could not translate|Connection refused|timeout expired|No such file", "Check host and port, and the server"),
        (r"not found", "The container needs pg_dump: check pod and container"),
    ):
        if re.search(pattern, said):
            return advice
    return ""


@dataclass(frozen=True)
class Header:
    """What the first bytes of a dump say."""

    database: str
    server: str
    program: str


def read_header(data: bytes) -> Header:
    """The header of pg_dump's custom format. Raises ValueError."""
    if data[:5] != b"PGDMP":
        raise ValueError("it doesn't begin as a dump in PostgreSQL's custom format does")
    if len(data) < 11:
        raise ValueError("its header is cut off")
    version, int_size = tuple(data[5:7]), data[8]
    position = 11

    def number() -> int:
        nonlocal position
        value = int.from_bytes(data[position + 1 : position + 1 + int_size], "little")
        negative = data[position]
        position += 1 + int_size
        return -value if negative else value

    def text() -> str:
        nonlocal position
        length = number()
        if length < 0 or position + length > len(data):
            raise ValueError("its header is cut off")
        position += length
        return data[position - length : position].decode("utf-8", "replace")

    try:
        if version >= (1, 15):
            position += 1  # the compression's algorithm
        else:
            number()
        for _part in range(7):  # the time it was made
            number()
        return Header(text(), text(), text())
    except IndexError:
        raise ValueError("its header is cut off") from None


@dataclass
class Dump:
    """One database's file, as the manifest has it.

    ``entries`` is what pg_restore lists, None where there is none; ``rows`` how many each table has in it.
    """

    database: str
    file: str
    size: int
    sha256: str
    server_version: str
    pg_dump_version: str
    entries: int | None
    rows: dict[str, int] = field(default_factory=dict)


@dataclass
class Backup:
    """A manifest: everything about one backup, beside its files."""

    time: str
    source: str
    databases: list[Dump]
    images: dict[str, str] = field(default_factory=dict)
    namespace: str | None = None
    manifest: str = ""
    format: str = "pg_dump custom"
    version: int = 2
    #: The keys' file, which ansible-vault decrypts: ``file``, ``size``, ``sha256`` and the ``names`` in it.
    keys: dict[str, Any] | None = None
    #: What the salt key is known by again; see sealed.py.
    salt_key: dict[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        """What the cluster is told of it: no more than helps to find it and to know it again."""
        return {
            "time": self.time,
            "file": self.manifest,
            "sha256": {one.database: one.sha256 for one in self.databases},
            "size": sum(one.size for one in self.databases),
            "databases": [one.database for one in self.databases],
            # Which are in it, encrypted. Without any it doesn't stand in for Secrets that a removal takes.
            "keys": sorted((self.keys or {}).get("names") or ()),
            "images": self.images,
        }


def checked_names(databases: Sequence[str]) -> list[str]:
    """Names of databases without repetition. Raises DumpError."""
    for name in databases:
        if NOT_A_NAME.search(name):
            raise DumpError("Read databases", f"{name!r} is not a database's name", "Give names alone, no DSN")
    if not databases:
        raise DumpError("Read databases", "none is named", "Name at least one")
    return list(dict.fromkeys(databases))


def planned(dest: str, name: str, databases: Sequence[str], now: datetime | None = None) -> tuple[str, list[Path]]:
    """The time, and the files of a backup: one for each database, and the manifest as the last.

    That of the keys is named as the manifest is, with :data:`KEYS`.
    """
    now = now or datetime.now(timezone.utc)
    # Microseconds, so that two runs at once don't meet.
    start = f"{name}-{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}Z"
    folder = Path(dest).expanduser()
    files = [folder / f"{start}-{_file_name(one)}.dump" for one in databases]
    return f"{now:%Y-%m-%dT%H:%M:%SZ}", [*files, folder / f"{start}.json"]


def check_folder(dest: str) -> None:
    """Whether a backup can be put there, as far as that can be told without writing. Raises DumpError."""
    folder = Path(dest).expanduser()
    place = folder if folder.exists() else folder.parent
    words = ""
    if not place.exists():
        words = f"there is no {place}"
    elif not place.is_dir():
        words = f"{place} is no folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        words = f"{place} is not this user's to write to"
    if words:
        raise DumpError(f"Write to {folder}", words, "Check dest: a folder that this user may write to")


def _file_name(database: str) -> str:
    """A name as it is where that can be, and another one for every other database."""
    return re.sub(r"[^A-Za-z0-9_.-]", lambda match: f"%{ord(match[0]):02x}", database)


def of_deployment(
    cluster: Cluster, namespace: str, container: str | None, connect_timeout: int
) -> list[tuple[Source, str]]:
    """Both stores of the deployment in a namespace, or the one that they share. Raises ClusterError, DatabaseError."""
    place = discover.Namespace(cluster, namespace)
    found: list[tuple[Source, str]] = []
    for which in ("litemaas",) if place.shared else ("litemaas", "litellm"):
        parts, pod = place.server(which)
        if pod:
            found.append((PodSource(cluster, namespace, pod, container), str(parts["dbname"])))
        else:
            direct = DsnSource(postgres.make_dsn(**parts), connect_timeout)
            found.append((direct, direct.database))
    return found


def take(
    work: Sequence[tuple[Source, str]],
    dest: str,
    name: str,
    images: Mapping[str, str],
    namespace: str | None = None,
    sealed: tuple[bytes, Sequence[str]] | None = None,
    salt_key: dict[str, Any] | None = None,
) -> Backup:
    """Dump databases into a folder. Either all files are there in the end, complete and checked, or none is.

    The manifest comes last: a dump without one is no backup. Files belong to their owner alone.

    Args:
        sealed: what :mod:`.sealed` made of the keys, and their names; None leaves them out.
        salt_key: the fingerprint of the salt key.

    Raises:
        DumpError, ClusterError: nothing was left behind.
    """
    when, files = planned(dest, name, [database for _source, database in work])
    folder = files[-1].parent
    backup = Backup(when, shown(work), [], dict(images), namespace, str(files[-1]), salt_key=salt_key)
    attempt = f"Write to {folder}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with ExitStack() as leftovers, _at_work(folder, files[-1].stem):
            _sweep(folder)
            for (source, database), file in zip(work, files, strict=False):
                part = _part(file)
                leftovers.callback(_remove, part)
                backup.databases.append(_dump(source, database, part, file))
            if sealed:
                content, names = sealed
                file = files[-1].with_name(f"{files[-1].stem}{KEYS}")
                files.insert(-1, file)
                leftovers.callback(_remove, _part(file))
                _written(_part(file), content)
                digest = hashlib.sha256(content).hexdigest()
                backup.keys = {"file": file.name, "size": len(content), "sha256": digest, "names": list(names)}
            part = _part(files[-1])
            leftovers.callback(_remove, part)
            _written(part, json.dumps(asdict(backup), indent=2).encode() + b"\n")
            for file in files:
                leftovers.callback(_remove, file)
                _part(file).rename(file)
            leftovers.pop_all()
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as failure:
        words = f"{failure.strerror or failure}"
        if failure.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise DumpError(
                attempt, f"{words}. Nothing was left behind", "Make room there, or give another dest"
            ) from None
        raise DumpError(attempt, words, "Check dest: a folder that this user may write to") from None
    return backup


def shown(work: Sequence[tuple[Source, str]]) -> str:
    """Where databases are, each place once."""
    return ", ".join(dict.fromkeys(source.name for source, _database in work))


def path_of(backup: Backup, one: Dump) -> str:
    """Where a dump of a backup is."""
    return str(Path(backup.manifest).parent / one.file)


def readable_size(size: float) -> str:
    """Bytes for a reader, such as ``1.9 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _part(file: Path) -> Path:
    return file.with_name(f".{file.name}.part")


@contextmanager
def _at_work(folder: Path, stem: str) -> Iterator[None]:
    """A locked file that says that a run is at its files; the lock ends with the process, however that ends."""
    path = _part(folder / f"{stem}.lock")
    with _created(path) as held:
        try:
            with suppress(OSError):  # a file system without locks: then nothing is swept there
                fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            _remove(path)


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed have left half-written. Where one is at work its lock is held."""
    for lock in folder.glob(".*.lock.part"):
        stem = lock.name.removesuffix(".lock.part")
        if not STEM.match(stem):
            continue
        with suppress(OSError), lock.open("rb") as found:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in folder.glob(f"{glob.escape(stem)}[-.]*.part"):
                if file != lock:
                    _remove(file)
            # Last: a sweep that is killed is gone on with.
            _remove(lock)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _created(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _written(path: Path, content: bytes) -> None:
    with _created(path) as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def _dump(source: Source, database: str, part: Path, file: Path) -> Dump:
    """One database into a file of a temporary name, checked."""
    digest = hashlib.sha256()
    first = bytearray()
    with _created(part) as out:

        def write(data: bytes) -> None:
            out.write(data)
            digest.update(data)
            if len(first) < 4096:
                first.extend(data[:4096])

        rows = source.dump(database, write)
        out.flush()
        os.fsync(out.fileno())
    attempt = f"Check the dump of {database}"
    try:
        header = read_header(bytes(first))
    except ValueError as failure:
        raise DumpError(attempt, str(failure), "Run it again") from None
    if header.database != database:
        raise DumpError(attempt, f"it is of database {header.database}", "Check databases")
    # What is on the disk, not what was sent there.
    written = hashlib.sha256()
    with part.open("rb") as back:
        while data := back.read(1 << 20):
            written.update(data)
    if written.digest() != digest.digest():
        raise DumpError(attempt, "the file is not what was written", "Check the disk, and run it again")
    return Dump(
        database,
        file.name,
        part.stat().st_size,
        digest.hexdigest(),
        header.server,
        header.program,
        _listed(attempt, part),
        rows,
    )


def _listed(attempt: str, path: Path) -> int | None:
    """How many entries pg_restore finds; None where there is none here, or it is older than the dump."""
    program = shutil.which("pg_restore")
    if program is None:
        return None
    done = subprocess.run(
        [program, "--list", str(path)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        if "unsupported version" in done.stderr:
            return None
        raise DumpError(attempt, _line(done.stderr).replace(str(path), "the file"), "Run it again")
    return sum(1 for line in done.stdout.splitlines() if line and not line.startswith(";"))


def record(client: Rest, namespace: str, backup: Backup) -> None:
    """Write a backup down in the namespace, beside the ones before. Raises ClusterError."""
    path = f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}"
    rights = "get, create and patch on configmaps"
    for attempt in range(5):
        known = client.find(path, rights)
        metadata: dict[str, Any] = {
            "name": CONFIG_MAP,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "rhpds.litemaas", "app.kubernetes.io/part-of": "litemaas"},
        }
        data = {}
        if known:
            # Refused where somebody else has written meanwhile.
            metadata["resourceVersion"] = known["metadata"]["resourceVersion"]
            data = dict(known.get("data") or {})
        key = re.sub(r"[^-._a-zA-Z0-9]", "_", Path(backup.manifest).stem)
        data[key] = json.dumps(backup.record())
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": _newest(data)}
        try:
            client.request(
                "PATCH",
                path,
                body,
                query={"fieldManager": FIELD_MANAGER, "force": "true"},
                content_type="application/apply-patch+yaml",
                rights=rights,
            )
            return
        except ClusterError as failure:
            if failure.status != 409 or attempt == 4:
                raise
            time.sleep(0.2 * (attempt + 1))


def _newest(data: Mapping[str, str]) -> dict[str, str]:
    """The newest records; what is no record of ours stays."""
    times = {}
    for key, text in data.items():
        with suppress(ValueError, KeyError, TypeError):
            times[key] = str(json.loads(text)["time"])
    gone = sorted(times, key=lambda key: times[key], reverse=True)[RECORDS:]
    return {key: text for key, text in data.items() if key not in gone}
