# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL, as LiteMaaS and LiteLLM use it: connections, transactions, errors in words. No SQL of the catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ansible.module_utils.basic import env_fallback

try:
    import psycopg2
    import psycopg2.extensions

    HAS_PSYCOPG2 = True
    PSYCOPG2_IMPORT_ERROR: BaseException | None = None
except ImportError as error:
    HAS_PSYCOPG2 = False
    PSYCOPG2_IMPORT_ERROR = error

#: Key of the advisory lock that one sync at a time holds: the bytes of "litemaas" as a number.
LOCK_ID = int.from_bytes(b"litemaas", "big")
APPLICATION = "rhpds.litemaas"
#: Seconds to wait for a connection.
CONNECT_TIMEOUT = 10
#: Parameters of a URL that Prisma knows and libpq does not, but for ``schema``, which libpq is told otherwise.
PRISMA = frozenset(
    {
        "connection_limit",
        "max_connection_lifetime",
        "max_idle_connection_lifetime",
        "pgbouncer",
        "pool_timeout",
        "single_use_connections",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
    }
)


def argument_spec() -> dict[str, Any]:
    """Options of every module that talks to LiteMaaS's database (documentation: doc fragment ``litemaas_database``)."""
    return {
        "litemaas_dsn": {"type": "str", "no_log": True, "fallback": (env_fallback, ["LITEMAAS_DSN"])},
        "litellm_dsn": {"type": "str", "no_log": True, "fallback": (env_fallback, ["LITELLM_DSN"])},
        "connect_timeout": {"type": "int", "default": CONNECT_TIMEOUT},
        "lock_timeout": {"type": "int", "default": 30},
        "statement_timeout": {"type": "int", "default": 300},
    }


class DatabaseError(Exception):
    """A database that did not do what was asked: what was tried, on which database, what to do.

    The message never holds a DSN's password, nor the values of a row.
    """

    def __init__(self, attempt: str, words: str, advice: str = "", sqlstate: str = "") -> None:
        self.attempt = attempt
        self.words = words
        self.advice = advice
        self.sqlstate = sqlstate
        text = f"{attempt}: {words}"
        super().__init__(f"{text.rstrip('.')}. {advice}" if advice else text)


@dataclass(frozen=True)
class Target:
    """Which database a DSN means, as far as it may be shown."""

    option: str
    shown: str

    def __str__(self) -> str:
        return f"{self.option} ({self.shown})" if self.shown else self.option


def connect(
    dsn: str,
    *,
    connect_timeout: int = CONNECT_TIMEOUT,
    application_name: str = APPLICATION,
    option: str = "litemaas_dsn",
    host: str = "",
) -> Connection:
    """A connection to the database that a DSN names.

    Args:
        dsn: ``postgresql://user:password@host:port/database?sslmode=…`` or libpq's ``key=value`` form. What only Prisma
            knows of a URL, such as connection_limit, is left out.
        connect_timeout: seconds.
        option: the option that the DSN came from; errors name it.
        host: the host that errors name, where the DSN has the near end of a tunnel.

    Raises:
        DatabaseError: no library, not a DSN, host, password or database wrong, server not ready.
    """
    _require_library(f"Connect to {option}")
    dsn = _for_libpq(dsn)
    target, secrets, given = _examined(dsn, option, host)
    ours: dict[str, Any] = {
        "connect_timeout": max(1, connect_timeout),
        "application_name": application_name,
        # A connection that a firewall dropped is noticed while we wait for LiteLLM.
        "keepalives_idle": 30,
    }
    try:
        raw = psycopg2.connect(dsn, **{name: value for name, value in ours.items() if name not in given})
        raw.set_client_encoding("UTF8")
    except (psycopg2.Error, UnicodeError) as failure:
        words, advice = _connect_trouble(str(failure), option, secrets, bool(target.shown))
        raise DatabaseError(f"Connect to {target}", words, advice) from None
    return Connection(raw, target, secrets)


def _require_library(attempt: str) -> None:
    if not HAS_PSYCOPG2:
        raise DatabaseError(attempt, "the Python library psycopg2 is missing", "Install psycopg2-binary")


def parts_of(dsn: str, option: str, *, foreign: bool = False) -> dict[str, str]:
    """libpq's parameters in a DSN, such as host, port, user, password, dbname.

    Args:
        dsn: what only Prisma knows of a URL is left out.
        option: where the DSN comes from; errors name it.
        foreign: of another program's settings: whatever libpq doesn't know is left out.

    Raises:
        DatabaseError: no library, not a DSN.
    """
    _require_library(f"Read {option}")
    dsn = _for_libpq(dsn, foreign)
    _examined(dsn, option)
    return dict(psycopg2.extensions.parse_dsn(dsn))


def _for_libpq(dsn: str, foreign: bool = False) -> str:
    """A URL without what Prisma alone knows, or with foreign without all that libpq doesn't. Its schema stays."""
    head, mark, query = dsn.partition("?") if isinstance(dsn, str) else ("", "", "")
    # An @ there: the question mark may be the password's, and the DSN is refused as it is.
    if not mark or "://" not in head or "@" in query:
        return dsn
    pairs = [(unquote(piece.partition("=")[0]), piece) for piece in query.split("&")]
    given = {name: unquote(piece.partition("=")[2]) for name, piece in pairs}
    schema = given.get("schema", "")
    told = f"-csearch_path={schema}" if schema not in ("", "public") else ""
    # Piece by piece, as it was encoded.
    kept = [
        piece
        for name, piece in pairs
        if name not in PRISMA
        and name != "schema"
        and not (name == "options" and told)
        and (not foreign or _is_parameter(name))
    ]
    if told:
        kept.append(f"options={quote(f'{told} ' + given.get('options', ''), safe='').removesuffix('%20')}")
    return f"{head}?{'&'.join(kept)}" if kept else head


def _is_parameter(name: str) -> bool:
    """Whether libpq itself knows a parameter."""
    try:
        psycopg2.extensions.parse_dsn(f"{name}=1")
    except psycopg2.Error:
        return False
    return True


def make_dsn(**parts: Any) -> str:
    """libpq's ``key=value`` form of what is not None, quoted as it has to be."""
    return str(psycopg2.extensions.make_dsn(**parts))


class Connection:
    """A psycopg2 connection whose errors speak. Use :meth:`transaction` for everything."""

    def __init__(self, raw: Any, target: Target, secrets: Sequence[str] = ()) -> None:
        self.raw = raw
        self.target = target
        self._secrets = tuple(secrets)

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self.raw.close()

    @contextmanager
    def transaction(
        self,
        attempt: str,
        *,
        lock_timeout: float = 30,
        statement_timeout: float = 300,
        keep: bool = True,
        read_only: bool = False,
    ) -> Iterator[Any]:
        """One transaction; gives a cursor. Committed at the end, rolled back on any exception, or always without keep.

        Args:
            attempt: what it is for, for error messages, e.g. ``Sync the catalogue``.
            lock_timeout: seconds to wait for any one lock.
            statement_timeout: seconds for any one statement.
            keep: False rolls back at the end (check mode).

        Raises:
            DatabaseError: anything that PostgreSQL refused; nothing was written then.
        """
        try:
            with self.raw.cursor() as cursor:
                if read_only:
                    cursor.execute("SET TRANSACTION READ ONLY")
                # Local to the transaction, so that a pooled server connection gets its own settings back. The
                # transaction is idle while LiteLLM is read, and must survive that.
                cursor.execute(
                    "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),"
                    " set_config('idle_in_transaction_session_timeout', '0', true)",
                    (f"{int(lock_timeout * 1000)}ms", f"{int(statement_timeout * 1000)}ms"),
                )
                yield cursor
            if keep:
                self.raw.commit()
            else:
                self.raw.rollback()
        except psycopg2.Error as failure:
            self._abandon()
            raise self._spoken(attempt, failure, lock_timeout, statement_timeout) from None
        except BaseException:
            self._abandon()
            raise

    @contextmanager
    def stream(self, query: str) -> Iterator[Any]:
        """A cursor over a large result that stays on the server, 500 rows at a time; inside a transaction only."""
        with self.raw.cursor(name="rhpds_stream") as cursor:
            cursor.itersize = 500
            cursor.execute(query)
            yield cursor

    def columns(self, cursor: Any, tables: Iterable[str]) -> dict[str, dict[str, int | None]]:
        """Table -> column -> longest value in characters (None where the type has no limit); absent tables are {}.

        Names are looked up in the connection's search_path; a name in double quotes keeps its capitals.
        """
        wanted = list(tables)
        cursor.execute(
            "SELECT t.name, a.attname,"
            " CASE WHEN a.atttypid = 'pg_catalog.varchar'::pg_catalog.regtype AND a.atttypmod > 4"
            "      THEN a.atttypmod - 4 END"
            " FROM unnest(%s::text[]) AS t(name)"
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = pg_catalog.to_regclass(t.name)"
            " WHERE a.attnum > 0 AND NOT a.attisdropped",
            (wanted,),
        )
        out: dict[str, dict[str, int | None]] = {table: {} for table in wanted}
        for table, column, longest in cursor:
            out[table][column] = longest
        return out

    def require(
        self, cursor: Any, needed: Mapping[str, Sequence[str]], attempt: str, whose: str
    ) -> dict[str, dict[str, int | None]]:
        """:meth:`columns` of the tables needed, all of them there.

        Args:
            needed: table -> columns.
            whose: whose database this should be, e.g. ``LiteMaaS``.

        Raises:
            DatabaseError: a table or column is missing; says what that means.
        """
        there = self.columns(cursor, needed)
        absent = [table for table in needed if not there[table]]
        if absent:
            advice = (
                f"Check that {self.target.option} is {whose}'s database, that {whose} was started once (it makes its"
                " tables) and that the user's search_path holds their schema"
            )
            if len(absent) < len(needed):
                advice = f"This is an older or a half-made {whose} schema: start {whose} once, it makes what is missing"
            raise DatabaseError(f"{attempt} in {self.target}", f"no table {', '.join(absent)}", advice)
        missing = [f"{table}.{column}" for table in needed for column in needed[table] if column not in there[table]]
        if missing:
            raise DatabaseError(
                f"{attempt} in {self.target}",
                f"missing columns: {', '.join(missing)}",
                f"This is the schema of an older {whose}: start {whose} 0.4.0 or newer once, it adds them. Nothing was"
                " written",
            )
        return there

    def _abandon(self) -> None:
        with suppress(psycopg2.Error):  # the connection may be gone, and with it the transaction
            self.raw.rollback()

    def _spoken(self, attempt: str, failure: Any, lock_timeout: float, statement_timeout: float) -> DatabaseError:
        state = failure.pgcode or ""
        # Only the primary message: DETAIL can quote a whole row, and rows of api_keys hold keys.
        words = (failure.diag.message_primary if failure.diag is not None else None) or ""
        if not words:
            words = "the connection was lost" if not state else type(failure).__name__
        words = _scrubbed(words, self._secrets)
        where = f"{attempt} in {self.target}"
        nothing = "Nothing was written"
        if state == "55P03":
            words = f"waited {lock_timeout:g} s for a lock that another session holds ({words})"
            advice = f"Another sync, or the LiteMaaS backend's, is at work: run again, or raise lock_timeout. {nothing}"
        elif state == "57014":
            words = f"a statement took longer than {statement_timeout:g} s ({words})"
            advice = f"Look for a session that blocks it (pg_stat_activity), or raise statement_timeout. {nothing}"
        elif state in ("40001", "40P01"):
            advice = f"Another session wrote the same rows at the same time: run again. {nothing}"
        elif state == "42501":
            advice = (
                "Grant the database user SELECT, INSERT, UPDATE and DELETE on LiteMaaS's tables and TEMPORARY on the"
                f" database, or use the user that LiteMaaS itself uses. {nothing}"
            )
        elif state == "25006":
            advice = "This server is a standby or read only: use the primary's address"
        elif state in ("42P01", "42703"):
            advice = f"The schema is not LiteMaaS 0.4.0's: start LiteMaaS once to bring it up to date. {nothing}"
        elif state.startswith("23"):
            advice = "A constraint of this database forbids the write: nothing of this run was kept"
        elif state.startswith(("53", "57P", "08")) or not state:
            advice = f"Check that PostgreSQL is up and has room, then run again. {nothing}, unless it was the commit"
        else:
            advice = nothing
        return DatabaseError(where, words, advice, state)


def take_turn(cursor: Any) -> None:
    """Wait for the lock that one sync at a time holds; it ends with the transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_ID,))


def copy_in(cursor: Any, table: str, columns: Sequence[str], lines: Iterable[str]) -> None:
    """Stream rows into a table.

    Args:
        lines: rows in PostgreSQL's COPY text format, with the line end (see :func:`copy_line`). Read once, as needed.
    """
    reader = _Reader(lines)
    try:
        cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", reader, size=1 << 16)
    except psycopg2.Error:
        # psycopg2 turns an exception of the source into a cancelled COPY: the reason is the source's.
        if reader.failure is not None:
            raise reader.failure from None
        raise


def copy_line(values: Iterable[Any]) -> str:
    """One row in COPY's text format. Lists become arrays; None becomes NULL.

    Raises:
        ValueError: a text with a NUL character, which PostgreSQL cannot store.
    """
    values = list(values)
    # A NUL stands in for NULL until it is known whether anything has to be escaped, which is seldom and slow.
    fields = [
        value
        if value.__class__ is str
        else "\0"
        if value is None
        else "t"
        if value is True
        else "f"
        if value is False
        else _array(value)
        if value.__class__ in (list, tuple)
        else str(value)
        for value in values
    ]
    line = "\t".join(fields)
    if line.count("\0") != values.count(None):
        raise ValueError("A text holds a NUL character, which PostgreSQL cannot store")
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") >= len(fields):
        line = "\t".join([field.translate(_COPY_ESCAPES) for field in fields])
    return line.replace("\0", "\\N") + "\n"


_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _array(values: Iterable[Any]) -> str:
    quoted = ['"' + str(one).replace("\\", "\\\\").replace('"', '\\"') + '"' for one in values]
    return "{" + ",".join(quoted) + "}"


class _Reader:
    """Lines as the file-like object that psycopg2's COPY reads from; at most one chunk is held."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._rest = b""
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._read(size)
        except Exception as failure:
            self.failure = failure
            raise

    def _read(self, size: int) -> bytes:
        parts = [self._rest]
        held = len(self._rest)
        while size < 0 or held < size:
            line = next(self._lines, None)
            if line is None:
                break
            data = line.encode("utf-8")
            parts.append(data)
            held += len(data)
        data = b"".join(parts)
        if size < 0:
            size = len(data)
        self._rest = data[size:]
        return data[:size]


def _examined(dsn: str, option: str, shown_host: str = "") -> tuple[Target, list[str], set[str]]:
    """What of a DSN may be shown, what must not be, and which of libpq's parameters it sets.

    A password that was not percent-encoded moves into other parts of a URL. Nothing of such a DSN is shown.
    """
    attempt = f"Read {option}"
    advice = (
        "Give postgresql://user:password@host:port/database, with special characters of the password"
        " percent-encoded (@ is %40, / is %2F, # is %23, % is %25)"
    )
    if not isinstance(dsn, str) or not dsn.strip():
        raise DatabaseError(attempt, "it is empty", advice)
    secrets: list[str] = []
    if "://" in dsn:
        rest = dsn.split("://", 1)[1]
        if not dsn.startswith(("postgresql://", "postgres://")):
            raise DatabaseError(attempt, "not a PostgreSQL URL", advice)
        user_part = rest.rpartition("@")[0]
        if ":" in user_part:
            secrets.append(user_part.split(":", 1)[1])
        if "@" in user_part or "/" in user_part or "#" in user_part or "?" in user_part:
            raise DatabaseError(attempt, "not a valid PostgreSQL URL", advice)
        try:
            urlsplit(dsn)
        except ValueError:
            raise DatabaseError(attempt, "not a valid PostgreSQL URL", advice) from None
    try:
        parts = psycopg2.extensions.parse_dsn(dsn)
    except (psycopg2.Error, UnicodeError):
        # libpq's words quote the DSN.
        raise DatabaseError(attempt, "not a DSN that PostgreSQL's client library can read", advice) from None
    password = parts.get("password")
    if password:
        secrets += [password, quote(password, safe="")]
    secrets += [unquote(secret) for secret in secrets]
    if not re.fullmatch(r"(\d+(,\d+)*)?", str(parts.get("port") or "")):
        raise DatabaseError(attempt, "the port is not a number", advice)
    host = shown_host or parts.get("host") or parts.get("hostaddr") or "local socket"
    shown = f"{parts.get('user') or 'default user'}@{host}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"
    hidden = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
    # A password is not shown even where it is the user's or the database's name too.
    return Target(option, _scrubbed(shown, hidden)), hidden, set(parts)


#: libpq gives no SQLSTATE for a refused connection: its words are all there is. (pattern, advice)
_CONNECT_TROUBLE = (
    (
        r"could not translate host name|Name or service not known|nodename nor servname",
        "Check the host name in {option}",
    ),
    (
        r"Connection refused|No such file or directory|No route to host|Network is unreachable",
        "Check host and port in {option}, and that PostgreSQL runs and listens there",
    ),
    (r"timeout expired|timed out", "Check host and port in {option}, and network policies between here and there"),
    (
        r"password authentication failed|no password supplied|authentication failed",
        "Check user and password in {option} (special characters percent-encoded)",
    ),
    (
        r"no pg_hba.conf entry",
        "The server does not let this user in from here: check sslmode in {option}, and pg_hba.conf",
    ),
    (r'database ".*" does not exist', "Check the database name at the end of {option}"),
    (r'role ".*" does not exist', "Check the user in {option}"),
    (r"permission denied for database", "Grant the user CONNECT on that database"),
    (
        r"too many clients|remaining connection slots|too many connections",
        "Every connection of the server is taken: run again later, or raise max_connections",
    ),
    (r"starting up|shutting down|recovery mode", "The server is not ready: run again"),
    (r"SSL|certificate", "Check sslmode and sslrootcert in {option}"),
)


def _connect_trouble(words: str, option: str, secrets: Sequence[str], clean: bool) -> tuple[str, str]:
    text = _scrubbed(" ".join(words.split()), secrets) if clean else "failed"
    for pattern, advice in _CONNECT_TROUBLE:
        if re.search(pattern, words, re.IGNORECASE):
            return text, advice.format(option=option)
    return text, f"Check {option} and that PostgreSQL runs"


def _scrubbed(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        # A password of one or two characters would turn the whole message into stars.
        if len(secret) >= 3:
            text = text.replace(secret, "********")
    return text
