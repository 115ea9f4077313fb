# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Redis for a stack, with a password, on loopback; what it holds is thrown away with the stack."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from processes import Child, free_port, start, stop
from progress import StackError
from provision import RedisBinaries

START_SECONDS = 30
CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
dir {folder}
"""


def answers(port: int, password: str = "") -> bool:
    """Whether a Redis is there; with the password, whether it is the one that has it."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(f"AUTH {password}\r\n".encode() if password else b"PING\r\n")
            answer = connection.recv(100)
    except OSError:
        return False
    return answer.startswith(b"+OK" if password else (b"-NOAUTH", b"+PONG"))


def start_redis(binaries: RedisBinaries, folder: Path, log: Path, password: str, children: list[Child]) -> int:
    """The port it listens on."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "redis.conf"
    for _attempt in range(3):
        port = free_port()
        config.unlink(missing_ok=True)
        config.touch(0o600)  # arguments would be there for every user to read
        config.write_text(CONFIG.format(port=port, password=password, folder=folder))
        child = start("redis", [binaries.bin / "redis-server", config], log=log, env={"PATH": "/usr/bin:/bin"})
        children.append(child)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and child.exit_status() is None:
            if answers(port, password):
                return port
            time.sleep(0.02)
        stop([child])
        children.remove(child)
    raise StackError("Redis did not start", log=log, hint="see its log")
