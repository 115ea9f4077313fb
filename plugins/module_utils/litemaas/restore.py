# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup back into databases: each into a new one first, compared with what was counted, then all of them swapped.

The swap is one transaction of renames on each server. While it runs PostgreSQL itself keeps new connections waiting, so
nobody's connection has to be forbidden, and whatever goes wrong, the databases are called what they were called before.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, images, operate, upgrade
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import backups, dump, model_keys, sealed
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database as postgres

#: On every database that this makes or puts aside, before what it is: nothing else is ever dropped.
MARK = "rhpds.litemaas: "
IN_PROGRESS = "a restore in progress"
LONGEST_NAME = 63
PG_RESTORE = ("pg_restore", "--no-owner", "--no-acl", "--no-password", "--exit-on-error", "--single-transaction")
#: ``$1`` bytes are all: the API server can't say that standard input ends.
INTO_POD = dump.LOGIN + 'size="$1"; shift; head -c "$size" | "$@"\n'
#: Databases to be connected to while others are renamed.
BESIDE = ("postgres", "template1")
#: Deployments that remember what they have read of the databases.
READERS = ("litellm", "backend")
#: Seconds for which PostgreSQL waits for the others to leave a database that is renamed, and a bit.
PATIENCE = 30


class RestoreError(Exception):
    """A restore that did not happen: what was tried, what was said, what is as it was, how to go on.

    Attributes:
        changed: whether it did happen, and something went wrong afterwards.
    """

    changed = False

    def __init__(self, attempt: str, words: str, advice: str = "") -> None:
        text = f"{attempt}: {words}"
        super().__init__(f"{text.rstrip('.')}. {advice}" if advice else text)


#: What may go wrong, in words.
TROUBLE = (RestoreError, dump.DumpError, postgres.DatabaseError, ClusterError, OSError)


class Server:
    """A PostgreSQL that databases are restored on.

    Attributes:
        name: as it may be shown; two with the same one are the same.
        readers: parts of the deployment whose tables are there; none where nobody knows.
    """

    name = ""
    readers: tuple[str, ...] = ()

    def connect(self, database: str, user: str = "") -> Any:
        """A context manager: a connection to one of its databases. Raises DatabaseError, ClusterError."""
        raise NotImplementedError

    def restore(self, attempt: str, database: str, owner: str, file: Path) -> None:
        """A dump into an empty database. Raises DumpError, ClusterError."""
        raise NotImplementedError


class DsnServer(Server):
    """One that is reached from here, with the pg_restore of this machine."""

    def __init__(self, source: dump.DsnSource) -> None:
        self._source, self.name = source, source.name

    def connect(self, database: str, user: str = "") -> Any:
        if user:  # another one has a password of its own
            raise NotImplementedError
        return closing(self._source.connect(database))

    def restore(self, attempt: str, database: str, owner: str, file: Path) -> None:
        if shutil.which(PG_RESTORE[0]) is None:
            raise dump.DumpError(
                attempt, "pg_restore is not installed here", "Install PostgreSQL's client, or give namespace"
            )
        command = [*PG_RESTORE, f"--role={owner}", f"--dbname={self._source.dsn(database)}", str(file)]
        self._source.run(attempt, command, lambda _data: None)


class PodServer(Server):
    """One in a pod: statements go through a tunnel, pg_restore runs in the pod and gets the dump as its input."""

    def __init__(self, place: discover.Namespace, which: str, source: dump.PodSource, timeout: int) -> None:
        self._place, self._which, self._source, self._timeout = place, which, source, timeout
        self.name = source.name

    @contextmanager
    def connect(self, database: str, user: str = "") -> Iterator[postgres.Connection]:
        with self._place.database(self._which) as dsn:
            parts = {**postgres.parts_of(dsn, f"{self._which}_dsn"), "dbname": database}
            if user:  # from the pod's own address, which needs no password
                parts["user"] = user
            made = postgres.make_dsn(**parts)
            with closing(postgres.connect(made, connect_timeout=self._timeout, option=self.name)) as connection:
                yield connection

    def restore(self, attempt: str, database: str, owner: str, file: Path) -> None:
        command = ["sh", "-c", INTO_POD, "sh", str(file.stat().st_size), *PG_RESTORE, f"--role={owner}"]
        with file.open("rb") as content:
            pieces = iter(lambda: content.read(dump.CHUNK), b"")
            self._source.run(attempt, [*command, f"--dbname={database}"], lambda _data: None, pieces)


@dataclass
class Target:
    """One database: what it is to be made of, and what it is called meanwhile and afterwards."""

    server: Server
    database: str
    file: Path
    rows: Mapping[str, int] = field(repr=False)
    dump: Mapping[str, Any] = field(repr=False, default_factory=dict)
    new: str = ""
    old: str = ""
    exists: bool = True
    restored: dict[str, int] = field(default_factory=dict, repr=False)

    def name(self, stamp: str, scratch: bool) -> None:
        """The names, none of which is another's."""
        word = "test" if scratch else "restore"
        self.new, self.old = (
            f"{self.database[: LONGEST_NAME - len(end)]}{end}" for end in (f"_{word}_{stamp}", f"_before_{stamp}")
        )

    def shown(self) -> dict[str, Any]:
        """For a module's result."""
        return {
            "database": self.database,
            "server": self.server.name,
            "file": str(self.file),
            "tables": len(self.restored or self.rows),
            "rows": sum((self.restored or self.rows).values()),
            "counts_compared": bool(self.rows),
            "old_database": self.old if self.exists else None,
        }


def stamp_now() -> str:
    return f"{datetime.now(timezone.utc):%Y%m%dt%H%M%S}"


def of_deployment(cluster: Cluster, namespace: str, container: str | None, timeout: int) -> dict[str, Server]:
    """The databases of a deployment, each with its server. Raises ClusterError, DatabaseError."""
    place = discover.Namespace(cluster, namespace)
    found: dict[str, Server] = {}
    stores = {"litemaas": READERS} if place.shared else {"litemaas": READERS[1:], "litellm": READERS[:1]}
    for which, readers in stores.items():
        parts, pod = place.server(which)
        if pod:
            source = dump.PodSource(cluster, namespace, pod, container)
            server: Server = PodServer(place, which, source, timeout)
        else:
            server = DsnServer(dump.DsnSource(postgres.make_dsn(**parts), timeout))
        server.readers = readers
        found[str(parts["dbname"])] = server
    return found


def of_dsns(dsns: Sequence[str], timeout: int) -> dict[str, Server]:
    """The databases that DSNs name. Raises DatabaseError."""
    found: dict[str, Server] = {}
    for dsn in dsns:
        source = dump.DsnSource(dsn, timeout)
        found[source.database] = DsnServer(source)
    return found


def planned(
    found: backups.Found, servers: Mapping[str, Server], wanted: Mapping[str, str], scratch: bool
) -> list[Target]:
    """What goes where. Raises RestoreError.

    Args:
        servers: by the names of their databases.
        wanted: a dump's database -> the one that it is to become; those of the same name if empty.
        scratch: only to see whether it works.
    """
    attempt = f"Restore {found.path}"
    if found.trouble:
        raise RestoreError(
            attempt, f"it is not complete: {'; '.join(found.trouble)}", "Nothing was done; take another backup"
        )
    dumps = {str(one["database"]): one for one in found.manifest["databases"]}
    into = dict(wanted) or {name: name for name in dumps}
    unknown = [name for name in into if name not in dumps]
    if unknown:
        raise RestoreError(
            attempt, f"it has no database {', '.join(unknown)}, but {', '.join(dumps)}", "Check databases"
        )
    nowhere = [name for name in into.values() if name not in servers]
    if nowhere:
        raise RestoreError(
            attempt,
            f"the deployment has no database {', '.join(nowhere)}, but {', '.join(servers)}",
            "Say with databases which one is to become which, such as {litellm_db: litellm}; nothing was done",
        )
    if len(set(into.values())) < len(into):
        raise RestoreError(attempt, "two of them are to become the same database", "Check databases")
    stamp, folder, targets = stamp_now(), Path(found.path).parent, []
    for name, database in into.items():
        one = dumps[name]
        target = Target(servers[database], database, folder / one["file"], one.get("rows") or {}, one)
        target.name(stamp, scratch)
        targets.append(target)
    return targets


def look(targets: Sequence[Target]) -> None:
    """Whether the servers would let it happen. Raises RestoreError, DatabaseError, ClusterError; changes nothing."""
    for target in targets:
        with _admin(target) as (_connection, cursor):
            target.exists = _owner(cursor, target.database) is not None
            cursor.execute("SELECT current_setting('server_version_num')::int / 10000")
            running = cursor.fetchone()[0]
        made = int(re.match(r"\d+", str(target.dump.get("server_version") or "0"))[0])  # type: ignore[index]
        if made > running:
            raise RestoreError(
                f"Restore database {target.database} on {target.server.name}",
                f"the backup is of PostgreSQL {made}, and this is {running}",
                "Restore it on a server that is not older; nothing was done",
            )


def fill(targets: Sequence[Target]) -> None:
    """Restore each into its new database, and compare the counts. On any failure all new ones are dropped.

    Raises RestoreError, DumpError, DatabaseError, ClusterError.
    """
    made: list[Target] = []
    try:
        for target in targets:
            attempt = f"Restore {target.file.name} into database {target.new} on {target.server.name}"
            made.append(target)
            owner = _create(target)
            target.server.restore(attempt, target.new, owner, target.file)
            _compare(attempt, target)
    except TROUBLE as failure:
        state = _dropped(made)
        raise RestoreError(f"{failure}".rstrip("."), f"{state}; no other database was touched") from None


def _dropped(made: Sequence[Target]) -> str:
    """Drop new databases again; says what became of them."""
    left = []
    for target in made:
        try:
            discard(target)
        except TROUBLE as failure:
            left.append(f"{target.new} on {target.server.name} could not be dropped ({failure})")
    return "; ".join(left) or "what was restored has been dropped again"


def discard(target: Target) -> None:
    """Drop the new database, where it is. Raises DatabaseError, ClusterError."""
    with _admin(target) as (connection, cursor):
        _end_connections(cursor, [target.new])
        _plain(connection, f"DROP DATABASE IF EXISTS {_quoted(target.new)}")


def swap(targets: Sequence[Target]) -> None:
    """The new ones get the names of the old ones, which are kept under another.

    Raises RestoreError: all of them are called what they were called before, unless it says otherwise.
    """
    done: list[list[Target]] = []
    servers: dict[str, list[Target]] = {}
    for target in targets:
        servers.setdefault(target.server.name, []).append(target)
    for members in servers.values():
        try:
            _rename(members, [pair for one in members for pair in _pairs(one)])
        except TROUBLE as failure:
            state = _back(done)
            words = f"{failure}".rstrip(".")
            raise RestoreError(
                f"Swap the databases on {members[0].server.name}", words, f"{state}. Run it again"
            ) from None
        done.append(members)


def _back(done: Sequence[Sequence[Target]]) -> str:
    """Undo swaps; says what the state is."""
    for members in done:
        pairs = [pair for one in members for pair in _pairs(one)]
        try:
            _rename(members, [(new, old) for old, new in reversed(pairs)])
        except TROUBLE as failure:
            names = ", ".join(one.database for one in members)
            return f"{names} on {members[0].server.name} could not be swapped back ({failure}): the restored ones serve"
    return "All databases are what they were before"


def _pairs(one: Target) -> list[tuple[str, str]]:
    return [*([(one.database, one.old)] if one.exists else []), (one.new, one.database)]


def _rename(members: Sequence[Target], pairs: Sequence[tuple[str, str]]) -> None:
    first = members[0]
    names = [name for one in members for name in (one.database, one.new, one.old)]
    attempt = f"Rename databases on {first.server.name}"
    # While a rename waits for others to leave, it lets nobody in: a second connection sends them away.
    with _admin(first) as (connection, _cursor), _admin(first) as (beside, other):
        done = threading.Event()

        def send_away() -> None:
            with suppress(Exception):  # then the rename fails, and says why
                while not done.is_set():
                    _end_connections(other, names)
                    beside.raw.commit()
                    done.wait(0.1)

        helper = threading.Thread(target=send_away, daemon=True)
        connection.raw.commit()
        helper.start()
        try:
            with connection.transaction(attempt, lock_timeout=PATIENCE) as cursor:
                for before, after in pairs:
                    cursor.execute(f"ALTER DATABASE {_quoted(before)} RENAME TO {_quoted(after)}")
                for one in members:
                    _comment(cursor, one)
        finally:
            done.set()
            helper.join(PATIENCE)


def _comment(cursor: Any, one: Target) -> None:
    cursor.execute("SELECT datname FROM pg_database WHERE datname IN (%s, %s)", (one.old, one.new))
    for (name,) in cursor.fetchall():
        what = f"{one.database} as it was before a restore" if name == one.old else IN_PROGRESS
        cursor.execute(f"COMMENT ON DATABASE {_quoted(name)} IS %s", (MARK + what,))
    cursor.execute(f"COMMENT ON DATABASE {_quoted(one.database)} IS NULL")


def kept(server: Server, database: str) -> list[dict[str, Any]]:
    """What earlier restores have left on a server, of one database: put aside, or not ended.

    A restore that is at work has clients in its own.
    """
    with _beside(server) as (_connection, cursor):
        cursor.execute(
            "SELECT datname, shobj_description(oid, 'pg_database'), pg_database_size(oid), EXISTS (SELECT FROM"
            " pg_stat_activity a WHERE a.datid = d.oid AND backend_type = 'client backend') FROM pg_database d"
            " WHERE starts_with(shobj_description(oid, 'pg_database'), %s) ORDER BY datname",
            (MARK,),
        )
        pattern = re.compile(r"_(before|restore|test)_\d{8}t\d{6}$")
        return [
            {"name": name, "what": text.removeprefix(MARK), "size": size, "server": server.name, "in_use": used}
            for name, text, size, used in cursor.fetchall()
            if pattern.search(name) and database.startswith(pattern.sub("", name))
        ]


def drop_kept(server: Server, name: str) -> None:
    """Drop one of :func:`kept`. Raises DatabaseError, ClusterError."""
    with _beside(server) as (connection, cursor):
        _end_connections(cursor, [name])
        _plain(connection, f"DROP DATABASE IF EXISTS {_quoted(name)}")


class Job:
    """One run of a module: read first, then one of the verbs.

    Args:
        servers: see :func:`of_deployment`.
        namespace: the deployment's, or "".
        confirm: what somebody has typed to mean this deployment.
        warn: gets what isn't an error.
    """

    def __init__(
        self, servers: Mapping[str, Server], namespace: str, confirm: str, check: bool, warn: Callable[[str], Any]
    ) -> None:
        if not servers:
            raise RestoreError("Find the databases", "none is given", "Give namespace, or litemaas_dsn and litellm_dsn")
        self.servers, self.namespace, self.check, self.warn = servers, namespace, check, warn
        self._confirmed = confirm in ([namespace] if namespace else list(servers))
        self.found: Any = None
        self.targets: list[Target] = []
        #: Whether LiteLLM's database comes back with tables of an older version, or of one that nobody knows.
        self.older = self.unknown = False

    def read(self, manifest: str, databases: Mapping[str, str], scratch: bool) -> None:
        """The backup, every byte of it, and whether the servers would take it."""
        self.found = backups.read(manifest, verify=True)
        self.targets = planned(self.found, self.servers, databases, scratch)
        look(self.targets)

    def compare_salt_keys(self, salt_key: str | None, allow_other: bool) -> None:
        """Raises RestoreError for another one than the backup's."""
        same = sealed.is_same(self.found.manifest.get("salt_key"), salt_key) if salt_key else None
        if same is None:
            why = "the backup has no fingerprint of it" if salt_key else "litellm_salt_key is not given"
            self.warn(
                f"The salt key could not be compared ({why}): with another one, no model's credentials can be read"
            )
        if same is not False:
            return
        if allow_other:
            self.warn("The salt key is another one than the backup's: register the models' credentials again")
            return
        keys = self.found.manifest.get("keys")
        where = f"it is in {keys['file']}, which ansible-vault decrypts" if keys else "no keys were put beside it"
        raise RestoreError(
            f"Restore {self.found.path}",
            "it was made with another salt key, so nobody could read the credentials of models in it",
            f"Put the salt key of then into Secret litellm-secret as LITELLM_SALT_KEY ({where}), or register the models"
            " again afterwards with allow_other_salt_key; nothing was done",
        )

    def compare_images(self, running: Mapping[str, str], allow_newer: bool) -> None:
        """Raises RestoreError where the backup is of a newer image than the one that runs.

        Args:
            running: part of the deployment -> its image.
        """
        made = {str(part): str(image) for part, image in (self.found.manifest.get("images") or {}).items()}
        readers = dict.fromkeys(part for one in self.targets for part in one.server.readers or READERS)
        newer = []
        for part in readers:
            then, now = made.get(part, ""), running.get(part, "")
            which = images.order(then, now) if then and now else None
            if which is None:
                why = f"it is of {then or 'an image that it does not name'}, and {now or 'one that nobody knows'} runs"
                self.warn(f"The version of {part} could not be compared ({why}): tables of a newer one may not fit it")
            self.older |= part == "litellm" and which == -1
            self.unknown |= part == "litellm" and which is None
            newer += [(part, then, now)] if which == 1 else []
        if not newer:
            return
        words = "it was made with " + " and ".join(f"{part} {then}, and {now} runs" for part, then, now in newer)
        if allow_newer:
            self.warn(f"The backup is restored under an older version: {words}")
            return
        given = "".join(
            f" -e {'litellm_tag' if part == 'litellm' else 'version'}={images.split(then)[1].lstrip(':@')}"
            for part, then, _now in newer
        )
        raise RestoreError(
            f"Restore {self.found.path}",
            f"{words}, which is older and may not know its tables",
            f"Upgrade first (rhpds.litemaas.upgrade -e namespace={self.namespace}{given}), or give"
            " allow_newer_backup=true; nothing was done",
        )

    def look_at_test_keys(self, master_key: str) -> None:
        """Warns of models whose test key in a restored LiteMaaS this master key doesn't open. Never fails.

        Only where the databases are restored already, and still have their new names.
        """
        names: list[str] = []
        for one in self.targets if master_key else ():
            with suppress(*TROUBLE), one.server.connect(one.new) as connection:
                names += model_keys.closed(connection, master_key)
        if not names:
            return
        self.warn(
            f"LiteMaaS's test keys of {model_keys.named(names)} in the backup are not encrypted with the master key of"
            " Secret litellm-secret. With that of the backup's time as LITELLM_MASTER_KEY_PREVIOUS in that Secret,"
            " rhpds.litemaas.rotate_master_key encrypts them anew; or enter them again in its model dialog"
        )

    def test(self, master_key: str = "") -> dict[str, Any]:
        """Into scratch databases, which are dropped again."""
        if self.check:
            return self._result(f"{self._many()} would be restored into scratch databases, and dropped again", False)
        fill(self.targets)
        self.look_at_test_keys(master_key)
        left = _dropped(self.targets)
        if not left.startswith("what was restored"):
            raise RestoreError("Drop the scratch databases", left, "Drop them by hand; everything else is as it was")
        return self._result(f"{self._many()} can be restored{self._counted()}; nothing was changed", False)

    def restore(
        self,
        keep_old: bool,
        rest: Rest | None,
        timeout: float,
        migrations: upgrade.Upgrade | None = None,
        master_key: str = "",
    ) -> dict[str, Any]:
        """Into new databases, which take the place of the old ones.

        Args:
            rest: restarts what has read the old ones.
            migrations: bring LiteLLM's tables to what runs, where they come back older.
            master_key: the deployment's, "" where it isn't known.
        """
        if rest:  # what may not be restarted afterwards is known before
            restart(rest, self.namespace, timeout, check=True)
        if self.check:
            later = "; LiteLLM's database would be migrated to the image that runs" if self.older and migrations else ""
            return self._result(f"{self._many()} would be restored{self._kept(keep_old)}{later}", True)
        self._guard("Restore", ", ".join(one.database for one in self.targets))
        fill(self.targets)
        self.look_at_test_keys(master_key)
        migrate = False
        try:
            if migrations and (self.older or self.unknown):
                # Before the swap: whatever happens afterwards, nobody believes the older tables to be migrated.
                migrate = migrations.forget_migration() or self.older
            swap(self.targets)
        except (RestoreError, ClusterError) as failure:
            raise RestoreError(str(failure), _dropped(self.targets)) from None
        state = f"{self._many()} restored{self._counted()}{self._kept(keep_old)}"
        try:
            for one in self.targets:
                if not keep_old and one.exists:
                    drop_kept(one.server, one.old)
            if migrate and migrations:
                state += f"; LiteLLM's database migrated by Job {migrations.migrate_again().migration}"
            names = restart(rest, self.namespace, timeout) if rest else []
        except (ClusterError, postgres.DatabaseError) as failure:
            broken = RestoreError(
                state,
                f"but {failure}",
                "The restored databases serve: mend that, nothing is to undo"
                + ("; rhpds.litemaas.deploy_litemaas_ha runs a migration that is missing" if migrate else ""),
            )
            broken.changed = True
            raise broken from None
        said = f"; restarted: {', '.join(names)}" if names else ""
        said = said or "; restart LiteLLM and the backend, which remember what they have read"
        return {**self._result(state + said, True), "restarted": names}

    def drop(self, names: Sequence[str]) -> dict[str, Any]:
        """What earlier restores have left."""
        there = {one["name"]: (server, one) for server, one in self._kept_ones()}
        foreign = [name for name in names if name not in there]
        held = f"it has {', '.join(there)}" if there else "it has none"
        if not names:
            raise RestoreError("Drop databases of earlier restores", "drop names none", held)
        for name in foreign:
            if self._exists(name):
                raise RestoreError(f"Drop database {name}", "no restore has made it", f"Of those {held}")
        gone = [name for name in names if name in there]
        if gone and not self.check:
            self._guard("Drop", ", ".join(gone))
            for name in gone:
                drop_kept(there[name][0], name)
        verb = "would be dropped" if self.check else "dropped"
        left = [one for name, (_server, one) in there.items() if name not in gone]
        msg = f"{len(gone)} databases {verb}: {', '.join(gone)}" if gone else "None of them is there any more"
        return {"changed": bool(gone), "msg": msg, "kept": left}

    def _exists(self, name: str) -> bool:
        for server in {one.name: one for one in self.servers.values()}.values():
            with _beside(server) as (_connection, cursor):
                if _owner(cursor, name) is not None:
                    return True
        return False

    def _kept_ones(self) -> list[tuple[Server, dict[str, Any]]]:
        return [(server, one) for database, server in self.servers.items() for one in kept(server, database)]

    def _guard(self, verb: str, what: str) -> None:
        if not self._confirmed:
            needed = self.namespace or " or ".join(self.servers)
            raise RestoreError(f"{verb} {what}", "confirm does not say so", f"Give confirm={needed}; nothing was done")

    def _many(self) -> str:
        number, time = len(self.targets), self.found.manifest["time"]
        return f"{number} database{'s' if number > 1 else ''} of the backup of {time}"

    def _counted(self) -> str:
        tables, rows = (sum(one.shown()[name] for one in self.targets) for name in ("tables", "rows"))
        compared = all(one.rows for one in self.targets)
        what = "as they were counted then" if compared else "not compared, as that backup has no counts"
        return f": {tables} tables, {rows} rows, {what}"

    def _kept(self, keep_old: bool) -> str:
        old = [one.old for one in self.targets if one.exists]
        if not old:
            return ""
        return f"; the old kept as {', '.join(old)}" if keep_old else "; the old dropped"

    def _result(self, msg: str, changed: bool) -> dict[str, Any]:
        left = list({one["name"]: one for _server, one in self._kept_ones()}.values())
        swapped = [one.shown() | ({} if changed else {"old_database": None}) for one in self.targets]
        return {
            "changed": changed,
            "msg": f"{msg}{self._stopped(left)}",
            "databases": swapped,
            "kept": left,
        }

    def _stopped(self, left: Sequence[Mapping[str, Any]]) -> str:
        """Whole copies that a restore which was killed has left, and how they go."""
        names = ",".join(one["name"] for one in left if one["what"] == IN_PROGRESS and not one["in_use"])
        if not names:
            return ""
        given = f"-e namespace={self.namespace} " if self.namespace else ""
        confirm = self.namespace or next(iter(self.servers))
        return (
            f"; of restores that were stopped there is still {names}, which goes with: ansible-playbook"
            f" rhpds.litemaas.restore {given}-e drop_databases={names} -e confirm={confirm}"
        )


def restart(client: Rest, namespace: str, timeout: float, check: bool = False) -> list[str]:
    """Pods that read the databases anew, once they are ready. Raises ClusterError."""
    operator = operate.Operator(client, namespace, timeout=timeout)
    parts = [part for part in READERS if operator.find(f"Deployment/{operate.DEPLOYMENTS[part]}")]
    return [change.name for change in operate.restart(operator, parts, check)] if parts else []


# ---- below: SQL ----


@contextmanager
def _beside(server: Server, user: str = "") -> Iterator[tuple[postgres.Connection, Any]]:
    """A connection beside the databases, and a cursor."""
    with ExitStack() as held:
        for name in BESIDE:
            try:
                connection = held.enter_context(server.connect(name, user))
                break
            except postgres.DatabaseError:
                if name == BESIDE[-1]:
                    raise
        try:
            with connection.raw.cursor() as cursor:
                yield connection, cursor
        except postgres.psycopg2.Error as failure:
            words = (failure.diag.message_primary if failure.diag else None) or "the connection was lost"
            raise postgres.DatabaseError(
                f"Work on {connection.target}", words, "Check the server and the user's rights, and run it again"
            ) from None


@contextmanager
def _admin(target: Target) -> Iterator[tuple[postgres.Connection, Any]]:
    """The same as a user who may make databases: the deployment's, else the pod's superuser. Raises RestoreError."""
    server = target.server
    with ExitStack() as held:
        connection, cursor = held.enter_context(_beside(server))
        if not _may_create(cursor):
            user = connection.target.shown.partition("@")[0]
            try:
                if not isinstance(server, PodServer):
                    raise postgres.DatabaseError("", "")
                connection, cursor = held.enter_context(_beside(server, "postgres"))
            except postgres.DatabaseError:
                raise RestoreError(
                    f"Make a database on {server.name}",
                    f"user {user} may not",
                    f"Let an administrator run ALTER ROLE {user} CREATEDB, or give a DSN of a user who may",
                ) from None
        yield connection, cursor


def _may_create(cursor: Any) -> bool:
    cursor.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
    return bool(cursor.fetchone()[0])


def _owner(cursor: Any, database: str) -> str | None:
    cursor.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (database,))
    found = cursor.fetchone()
    return str(found[0]) if found else None


def _create(target: Target) -> str:
    """An empty database as the old one is; its owner."""
    with _admin(target) as (connection, cursor):
        owner = _owner(cursor, target.database)
        target.exists = owner is not None
        like = ""
        settings: list[str] = []
        if owner is None:
            with _beside(target.server) as (_own, own):
                own.execute("SELECT current_user")
                owner = str(own.fetchone()[0])
        else:
            cursor.execute(
                "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = %s",
                (target.database,),
            )
            encoding, collate, ctype = cursor.fetchone()
            like = f" ENCODING {_text(encoding)} LC_COLLATE {_text(collate)} LC_CTYPE {_text(ctype)}"
            cursor.execute(
                "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase ="
                " (SELECT oid FROM pg_database WHERE datname = %s)",
                (target.database,),
            )
            settings = [str(one[0]) for one in cursor.fetchall()]
        new = _quoted(target.new)
        _plain(connection, f"CREATE DATABASE {new} OWNER {_quoted(owner)} TEMPLATE template0{like}")
        _plain(connection, f"COMMENT ON DATABASE {new} IS {_text(MARK + IN_PROGRESS)}")
        for setting in settings:
            name, _equals, value = setting.partition("=")
            # A list of names is one as it stands.
            shown = value if name == "search_path" else _text(value)
            _plain(connection, f"ALTER DATABASE {new} SET {name} TO {shown}")
    return owner


def _compare(attempt: str, target: Target) -> None:
    """Whether the new database has what was counted when it was dumped. Raises RestoreError."""
    with (
        target.server.connect(target.new) as connection,
        connection.transaction(attempt, statement_timeout=0) as cursor,
    ):
        target.restored = dump.count_rows(cursor)
    if not target.rows:  # of an older collection, which didn't count
        return
    names = sorted(target.rows.keys() | target.restored.keys())
    differing = [
        f"{name} has {target.restored.get(name, 'no table')} of {target.rows.get(name, 'no table')}"
        for name in names
        if target.restored.get(name) != target.rows.get(name)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RestoreError(
            attempt,
            f"not the rows that were dumped: {', '.join(differing[:3])}{more}",
            "Take another backup",
        )


def _end_connections(cursor: Any, names: Sequence[str]) -> None:
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
        (list(names),),
    )


def _plain(connection: postgres.Connection, statement: str) -> None:
    """A statement that no transaction may hold."""
    connection.raw.rollback()
    connection.raw.autocommit = True
    try:
        with connection.raw.cursor() as cursor:
            cursor.execute(statement)
    finally:
        with suppress(postgres.psycopg2.Error):  # it may be gone
            connection.raw.autocommit = False


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
