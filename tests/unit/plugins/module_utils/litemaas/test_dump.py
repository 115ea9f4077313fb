# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a dump needs no database: headers of pg_dump's versions, names, records, a silent connection."""

from __future__ import annotations

import fcntl
import json
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import dump


def number(value: int) -> bytes:
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


def header(minor: int) -> bytes:
    """As PostgreSQL's pg_backup_archiver writes it: 1.14 up to PostgreSQL 15, 1.15 and 1.16 after it."""
    compression = number(-1) if minor < 15 else b"\1"
    times = b"".join(number(one) for one in (1, 2, 3, 4, 5, 126, 0))
    rest = b"".join(text(one) for one in ("litemaas_db", "16.3", "17.2"))
    return b"PGDMP" + bytes([1, minor, 0, 4, 8, 1]) + compression + times + rest


@pytest.mark.parametrize("minor", [14, 15, 16])
def test_headers(minor: int) -> None:
    assert dump.read_header(header(minor)) == dump.Header("litemaas_db", "16.3", "17.2")
    for cut in (3, 6, 9, 20, 60, len(header(minor)) - 1):
        with pytest.raises(ValueError, match=r"custom format|cut off"):
            dump.read_header(header(minor)[:cut])


def test_names_of_files_stay_in_the_folder() -> None:
    now = datetime(2026, 3, 21, 8, 15, 0, 123, tzinfo=timezone.utc)
    when, files = dump.planned("/backups", "lab", ["a b", "ü"], now)
    assert when == "2026-03-21T08:15:00Z"
    assert [str(file) for file in files] == [
        "/backups/lab-20260321T081500.000123Z-a%20b.dump",
        "/backups/lab-20260321T081500.000123Z-%fc.dump",
        "/backups/lab-20260321T081500.000123Z.json",
    ]


def test_what_a_killed_run_has_left_goes_with_the_next_one(tmp_path: Path) -> None:
    """Not where a run is at work, nor what has another name; and its own lock goes with it."""
    dead, alive = ".lab-20260321T081500.000123Z", ".lab-20260322T081500.000123Z"
    for name in (f"{dead}-db.dump.part", f"{dead}.json.part", f"{dead}.lock.part", f"{alive}-db.dump.part"):
        (tmp_path / name).write_text("half")
    stays = {f"{alive}-db.dump.part", f"{alive}.lock.part", "lab-20260320T081500.000123Z-db.dump", ".lab.lock.part"}
    for name in stays:
        (tmp_path / name).touch()
    with (tmp_path / f"{alive}.lock.part").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        made = dump.take([], str(tmp_path), "lab", {})
    assert {one.name for one in tmp_path.iterdir()} == {*stays, Path(made.manifest).name}


def test_a_record_says_which_databases_and_keys_are_in_it() -> None:
    one = dump.Dump("litemaas_db", "f", 1, "0", "16", "16", 1)
    backup = dump.Backup("2026-01-03T00:00:00Z", "here", [one], keys={"file": "k", "names": ["salt_key", "master_key"]})
    assert backup.record()["databases"] == ["litemaas_db"]
    assert backup.record()["keys"] == ["master_key", "salt_key"]
    backup.keys = None
    assert backup.record()["keys"] == []


@pytest.mark.parametrize("name", ["", "a=b", "postgresql://x/y", "../x", "a\nb"])
def test_what_is_no_database(name: str) -> None:
    with pytest.raises(dump.DumpError, match="not a database's name"):
        dump.checked_names([name])


def test_the_oldest_records_go_and_what_is_not_ours_stays() -> None:
    data = {f"k{number}": json.dumps({"time": f"2026-01-01T00:00:{number:02}Z"}) for number in range(60)}
    kept = dump._newest({**data, "note": "of somebody else"})
    assert kept.keys() == {*(f"k{number}" for number in range(10, 60)), "note"}


class Silent:
    """A WebSocket whose other end has gone without a word."""

    pings = 0

    def settimeout(self, _seconds: float) -> None:
        pass

    def recv_data_frame(self, _control: bool) -> Any:
        raise TimeoutError

    def ping(self) -> None:
        self.pings += 1


def test_nobody_there() -> None:
    sock, library = Silent(), SimpleNamespace(WebSocketTimeoutException=TimeoutError)
    with pytest.raises(OSError, match="nobody answered"):
        list(dump._frames(sock, library))
    assert sock.pings == dump.UNANSWERED


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (b"", "before the command did"),
        (b'{"status":"Failure","message":"exit status 1"}', "exit status 1"),
        (b"not json", "not json"),
    ],
)
def test_how_a_command_ended(status: bytes, words: str) -> None:
    with pytest.raises(dump.DumpError, match=words):
        dump._judge("Dump", status, "")
    dump._judge("Dump", b'{"status":"Success"}', "a warning")


class Busy:
    """An API server on which somebody else writes in between, once."""

    def __init__(self) -> None:
        self.version, self.data = 1, {"first": json.dumps({"time": "2026-01-01T00:00:00Z"})}

    def find(self, _path: str, _rights: str) -> dict[str, Any]:
        found = {"metadata": {"resourceVersion": str(self.version)}, "data": dict(self.data)}
        if self.version == 1:
            self.version, self.data["second"] = 2, json.dumps({"time": "2026-01-02T00:00:00Z"})
        return found

    def request(self, _method: str, _path: str, body: dict[str, Any], **_options: Any) -> None:
        if body["metadata"].get("resourceVersion", str(self.version)) != str(self.version):
            raise ClusterError("Write", "changed meanwhile", status=409)
        self.data = body["data"]


def test_a_record_of_somebody_else_is_not_lost() -> None:
    server: Any = Busy()
    dump.record(server, "ns", dump.Backup("2026-01-03T00:00:00Z", "here", [], manifest="/b/third.json"))
    assert server.data.keys() == {"first", "second", "third"}


def test_a_folder_that_nothing_can_be_written_to_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump.check_folder(str(tmp_path))
    dump.check_folder(str(tmp_path / "made-by-the-dump"))
    (tmp_path / "file").touch()
    for dest, words in (("file", "file is no folder"), ("no/such", "there is no"), ("file/in", "file is no folder")):
        with pytest.raises(dump.DumpError, match=words):
            dump.check_folder(str(tmp_path / dest))
    monkeypatch.setattr(dump.os, "access", lambda _place, _mode: False)
    with pytest.raises(dump.DumpError, match="is not this user's to write to"):
        dump.check_folder(str(tmp_path))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file"]
