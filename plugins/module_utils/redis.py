# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redis in its own protocol: what LiteLLM keeps there is counted and emptied. One connection, a few commands."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: Seconds to wait for a connection and for each answer.
TIMEOUT = 10
PORT = 6379


class RedisError(Exception):
    """What was tried, what Redis said, what to do. Holds no secret."""

    def __init__(self, attempt: str, words: str, advice: str = "") -> None:
        text = f"{attempt}: {words}"
        super().__init__(f"{text.rstrip('.')}. {advice}" if advice else text)


@dataclass(frozen=True)
class Address:
    """Where a Redis is. ``path`` is the Unix socket of a tunnel's near end, which is then used."""

    host: str
    port: int = PORT
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    path: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """Of ``redis://user:password@host:6379`` or ``rediss://…``. Raises ValueError, which doesn't repeat it."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port or PORT
        except ValueError:
            raise ValueError("is no URL such as redis://:password@host:6379") from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("is no URL such as redis://:password@host:6379")
        user, password = (unquote(text or "") for text in (parts.username, parts.password))
        return cls(parts.hostname, port, user, password, parts.scheme == "rediss")

    def __str__(self) -> str:
        return f"Redis {self.host}:{self.port}"


class Redis:
    """A connection that is open. Commands raise RedisError."""

    def __init__(self, address: Address, raw: socket.socket) -> None:
        self.address, self._raw = address, raw
        self._file = raw.makefile("rb")

    def command(self, *words: str) -> Any:
        """A command's answer: text, a number, a list, or None."""
        attempt = f"{words[0]} at {self.address}"
        text = b"".join(b"$%d\r\n%s\r\n" % (len(one.encode()), one.encode()) for one in words)
        try:
            self._raw.sendall(b"*%d\r\n%s" % (len(words), text))
            return self._answer(attempt)
        except (OSError, ValueError) as failure:
            raise RedisError(
                attempt,
                f"{type(failure).__name__}: {failure}",
                "Check that it is up and that this is Redis's port, then run again",
            ) from None

    def _answer(self, attempt: str) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection ended")
        kind, text = line[:1], line[1:-2].decode("utf-8", "replace")
        if kind == b"-":
            advice = (
                "Check the password" if text.startswith(("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR invalid pass")) else ""
            )
            raise RedisError(attempt, text, advice)
        if kind == b"+":
            return text
        if kind == b":":
            return int(text)
        if kind == b"$":
            size = int(text)
            return None if size < 0 else self._file.read(size + 2)[:-2].decode("utf-8", "replace")
        if kind == b"*":
            return [self._answer(attempt) for _number in range(int(text))]
        raise ValueError("this isn't Redis's protocol")

    def keys(self) -> int:
        """How many keys there are, in all of its databases."""
        return sum(keyspace(self.command("INFO", "keyspace") or "").values())


def keyspace(info: str) -> dict[str, int]:
    """Database → number of keys, out of what ``INFO keyspace`` says. Pure."""
    found = {}
    for line in info.splitlines():
        name, _colon, values = line.strip().partition(":")
        if name.startswith("db") and name[2:].isdigit():
            counts = dict(one.partition("=")[::2] for one in values.split(","))
            found[name] = int(counts.get("keys", 0))
    return found


@contextmanager
def connect(address: Address, validate_certs: bool = True, ca_path: str | None = None) -> Iterator[Redis]:
    """A connection, logged in, closed at the end of the block. Raises RedisError."""
    attempt = f"Connect to {address}"
    raw = None
    try:
        if address.path:
            raw = socket.socket(socket.AF_UNIX)
            raw.settimeout(TIMEOUT)
            raw.connect(address.path)
        else:
            raw = socket.create_connection((address.host, address.port), TIMEOUT)
        if address.tls:
            context = ssl.create_default_context(cafile=ca_path)
            if not validate_certs:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = context.wrap_socket(raw, server_hostname=address.host)
    except OSError as failure:
        if raw is not None:
            raw.close()
        raise RedisError(
            attempt, f"{type(failure).__name__}: {failure}", "Check host, port and that it is up"
        ) from None
    try:
        redis = Redis(address, raw)
        if address.password:
            redis.command("AUTH", *([address.username] if address.username else []), address.password)
        if redis.command("PING") != "PONG":
            raise RedisError(attempt, "it doesn't answer PING", "Check that this is Redis's port")
        yield redis
    finally:
        with suppress(OSError):
            raw.close()


def socket_of(folder: str, port: int) -> str:
    """The near end of a tunnel in its folder (cluster/tunnel.py)."""
    return str(Path(folder) / f".s.PGSQL.{port}")


def flush(redis: Redis) -> tuple[int, int]:
    """Empty it; how many keys there were before and are now. Raises RedisError.

    LiteLLM goes on writing, so that a number afterwards proves nothing: a key of ours that has to be gone does.
    """
    before = redis.keys()
    probe = "rhpds.litemaas:flush"
    redis.command("SET", probe, "1", "EX", "60")
    said = redis.command("FLUSHALL")
    if redis.command("EXISTS", probe):
        raise RedisError(
            f"FLUSHALL at {redis.address}", f"it said {said}, and the keys are still there", "Look at its log"
        )
    return before, redis.keys()
