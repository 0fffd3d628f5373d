# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Takes a dump whose manifest counts exactly the rows that are in it, and removes what is no longer kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._backup import dumps as _dumps
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import Client, ToolError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import version_number
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError, Session, literal, quoted
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.migration import LOCK_KEY

_POLL_SECONDS = 1.0
_QUERY_SECONDS = 30.0
_SPARE_BYTES = 1 << 24
_REPLAY_SECONDS = 60.0
_REPLAY_POLL_SECONDS = 0.2

_EXISTS = "SELECT to_regclass('alembic_version') IS NOT NULL AND to_regclass('flow_run') IS NOT NULL"
_REVISION = "SELECT string_agg(version_num, ',' ORDER BY version_num) FROM alembic_version"
_SIZE = "SELECT pg_database_size(current_database())"
# What pg_dump dumps the rows of: neither the system's own tables nor those that an extension brings along.
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
_ORIGIN = "SELECT pg_is_in_recovery(), host(inet_server_addr())"
# What a server that crashes now would still have: every write that it has acknowledged.
_WRITTEN = "SELECT pg_current_wal_flush_lsn()::text"
_REPLAYED = "SELECT pg_last_wal_replay_lsn() >="


class BackupError(Exception):
    """No dump could be taken; the message says why."""


class NoReplicaError(BackupError):
    """No replica could be dumped from; the primary still can."""


@dataclass(frozen=True)
class Source:
    """The database as it is now. ``bytes`` is its size on the server, which bounds that of a dump."""

    revision: str
    server_version: str
    bytes: int

    @property
    def major(self) -> int:
        return version_number(self.server_version)[0]


@dataclass(frozen=True)
class Origin:
    """The server that is dumped: its own address, empty for a Unix socket, and why it is no replica where there should be one."""

    address: str = ""
    replica: bool = False
    missed: str = ""


@dataclass(frozen=True)
class Outcome:
    """``dump`` is None in check mode, where it would be taken. ``reason`` says why one is (not) taken, ``origin`` from which server."""

    dump: _dumps.Dump | None
    source: Source
    changed: bool
    reason: str
    removed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    origin: Origin = Origin()


@dataclass(frozen=True)
class Replica:
    """The way to a replica of the server: a session of it, and the tools that fit a major version. Each time it leads to the same one."""

    connect: Callable[[], Session]
    client: Callable[[int], Client]


def count_rows(session: Session, deadline: Deadline) -> dict[str, int]:
    """The rows of every table that a dump holds, as ``schema.table``."""
    return {
        f"{schema}.{table}": _number(session, f"SELECT count(*) FROM {quoted(schema)}.{quoted(table)}", deadline.left())  # noqa: S608  quoted
        for schema, table in _tables(session, deadline)
    }


def _tables(session: Session, deadline: Deadline) -> list[tuple[str, str]]:
    return [(str(schema), str(table)) for schema, table in session.query(_TABLES, deadline.left())]


def _number(session: Session, sql: str, timeout: float) -> int:
    return int(session.query(sql, timeout)[0][0] or 0)


def read_origin(session: Session, missed: str = "") -> Origin:
    """Which server a session has led to."""
    replica, address = session.query(_ORIGIN, _QUERY_SECONDS)[0]
    return Origin(str(address or ""), bool(replica), missed)


def read_source(session: Session, database: str) -> Source:
    """What is to be dumped. Raises BackupError if it is no database of Prefect."""
    if not session.query(_EXISTS, _QUERY_SECONDS)[0][0]:
        raise BackupError(
            f"database {database} is not Prefect's: it has no tables alembic_version and flow_run. Deploy Prefect first (site.yml)"
        )
    revision = session.query(_REVISION, _QUERY_SECONDS)[0][0] or ""
    version = session.server_version.split(" ")[0]
    return Source(revision, version, _number(session, _SIZE, _QUERY_SECONDS))


@dataclass
class Backup:
    """One backup. ``connect`` opens a session of the database, ``client`` gives the tools that fit a server's major version,
    ``free`` the bytes that are free in a folder. With a ``replica`` that is what is dumped, as long as it can be.
    """

    database: str
    directory: str
    keep: int
    max_age: float
    prefect_version: str
    connect: Callable[[], Session]
    client: Callable[[int], Client]
    free: Callable[[str], int]
    deadline: Deadline
    replica: Replica | None = None
    now: Callable[[], datetime] = _dumps.utc_now
    sleep: Callable[[float], None] = time.sleep

    def plan(self) -> Outcome:
        """What :meth:`run` would do, with every query that needs no write."""
        with contextlib.closing(self.connect()) as session:
            source = read_source(session, self.database)
            origin = read_origin(session) if self.replica else Origin()
        existing, reason, damaged = self._existing(source)
        if existing:
            return Outcome(existing, source, False, reason, damaged=damaged)
        self.client(source.major)
        if Path(self.directory).is_dir():
            self._room(source)
        if self.replica:
            try:
                with contextlib.closing(self._replica_session(self.replica)) as session:
                    origin = read_origin(session)
            except (NoReplicaError, NetError, PostgresError) as error:
                origin = replace(origin, missed=str(error))
        return Outcome(None, source, True, reason, damaged=damaged, origin=origin)

    def run(self) -> Outcome:
        """Takes a dump, unless there is one that is new enough and whole. What the replica cannot give is taken from the primary.

        Raises BackupError, DumpError or ToolError if there is no new dump, and NetError or PostgresError if the database cannot be queried;
        what was there is still there.
        """
        with _dumps.only_one(self.directory, self.deadline):
            for path in _dumps.leftovers(self.directory):
                Path(path).unlink()
            missed = ""
            if self.replica:
                try:
                    return self._attempt(self.replica)
                except (NoReplicaError, ToolError, NetError, PostgresError) as error:
                    missed = str(error)
            return self._attempt(None, missed)

    def _attempt(self, replica: Replica | None, missed: str = "") -> Outcome:
        with contextlib.closing(self.connect()) as session:
            self._begin(session, "READ COMMITTED" if replica else "REPEATABLE READ")
            source = read_source(session, self.database)
            existing, reason, damaged = self._existing(source)
            if existing:
                return Outcome(existing, source, False, reason, damaged=damaged)
            self._room(source)
            if replica:
                dump, origin = self._take_beside(session, replica, source)
            else:
                dump = self._take(session, source, self.client)
                origin = read_origin(session, missed) if self.replica else Origin()
            removed = _dumps.prune(self.directory, self.database, self.keep)
        return Outcome(dump, source, True, reason, tuple(removed), damaged, origin)

    def _take_beside(self, primary: Session, replica: Replica, source: Source) -> tuple[_dumps.Dump, Origin]:
        """Dumps from a replica, with everything that the primary has acknowledged so far.

        On a replica pg_dump's locks are unknown to the primary, where VACUUM would take empty pages off a table's end, which the replica
        could repeat only by ending pg_dump. So the primary has the same locks, and no snapshot: its own clean-up goes on.
        """
        with contextlib.closing(self._replica_session(replica)) as session:
            names = ", ".join(f"{quoted(schema)}.{quoted(table)}" for schema, table in _tables(primary, self.deadline))
            primary.execute(f"SET LOCAL lock_timeout = {int(_QUERY_SECONDS * 500)}", _QUERY_SECONDS)
            primary.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE", _QUERY_SECONDS)
            self._await_replay(session, str(primary.query(_WRITTEN, _QUERY_SECONDS)[0][0]))
            origin = read_origin(session)
            session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", _QUERY_SECONDS)
            return self._take(session, source, replica.client), origin

    def _replica_session(self, replica: Replica) -> Session:
        """Raises NoReplicaError where that way leads to the primary, as it does while no replica is in step."""
        session = replica.connect()
        try:
            if not read_origin(session).replica:
                raise NoReplicaError("no replica is in step with it")
        except BaseException:
            session.close()
            raise
        return session

    def _await_replay(self, session: Session, position: str) -> None:
        deadline = Deadline(min(_REPLAY_SECONDS, self.deadline.left()))
        while not session.query(f"{_REPLAYED}{literal(position)}::pg_lsn", _QUERY_SECONDS)[0][0]:
            if deadline.passed():
                raise NoReplicaError(f"the replica did not catch up within {deadline.seconds:g} s")
            self.sleep(_REPLAY_POLL_SECONDS)

    def _begin(self, session: Session, isolation: str) -> None:
        """Opens the transaction that everything is read in, or that guards what is read from a replica."""
        while True:
            session.execute(f"BEGIN TRANSACTION ISOLATION LEVEL {isolation} READ ONLY", _QUERY_SECONDS)
            # With a migration half way the dump would be of no release. The lock ends with the transaction.
            if session.query(f"SELECT pg_try_advisory_xact_lock_shared({LOCK_KEY})", _QUERY_SECONDS)[0][0]:
                return
            session.execute("ROLLBACK", _QUERY_SECONDS)
            if self.deadline.passed():
                raise BackupError(
                    f"a migration of database {self.database} has not ended within {self.deadline.seconds:g} s, so no dump was begun"
                )
            self.sleep(min(_POLL_SECONDS, self.deadline.left()))

    def _existing(self, source: Source) -> tuple[_dumps.Dump | None, str, tuple[str, ...]]:
        """The newest dump if it will do, why or why not, and what is wrong with those that are damaged."""
        if not self.max_age:
            return None, "a new one is taken each time", ()
        newest = _dumps.complete_dumps(self.directory, self.database)[:1]
        if not newest:
            return None, "there is none yet", ()
        dump = newest[0]
        age = dump.manifest.age(self.now())
        if not 0 <= age <= self.max_age:
            return None, f"the newest is {age:.0f} s old, more than {self.max_age:g} s", ()
        if dump.manifest.revision != source.revision:
            return None, f"the newest has revision {dump.manifest.revision}, but the database {source.revision}", ()
        try:
            _dumps.check_file(dump.path, dump.manifest, self.deadline)
            self.client(source.major).read(dump.path)
        except (_dumps.DumpError, ToolError) as error:
            return None, "the newest is damaged", (str(error),)
        return dump, f"the newest is {age:.0f} s old, no more than {self.max_age:g} s, and was read as a whole", ()

    def _room(self, source: Source) -> None:
        free = self.free(self.directory)
        if free < source.bytes + _SPARE_BYTES:
            raise BackupError(
                f"{self.directory} has {free} bytes free, but a dump of database {self.database} may take up to {source.bytes},"
                f" its size on the server. Make room, or set prefect_backup_directory to a folder that has more"
            )

    def _take(self, session: Session, source: Source, tools: Callable[[int], Client]) -> _dumps.Dump:
        """Dumps what the session's transaction sees, whose snapshot pg_dump shares."""
        snapshot = str(session.query("SELECT pg_export_snapshot()", _QUERY_SECONDS)[0][0])
        moment = self.now()
        while (place := Path(self.directory, f"prefect-{_dumps.stamp(moment)}.dump")).exists():
            self.sleep(_POLL_SECONDS)
            moment = self.now()
        path = str(place)
        client = tools(source.major)
        partial = _dumps.create_partial(path)
        try:
            client.dump(partial, snapshot)
            tables = count_rows(session, self.deadline)
            client.read(partial)
            manifest = _dumps.Manifest(
                database=self.database,
                created=_dumps.shown(moment),
                revision=source.revision,
                prefect_version=self.prefect_version,
                server_version=source.server_version,
                bytes=Path(partial).stat().st_size,
                sha256=_dumps.file_digest(partial, self.deadline),
                database_bytes=source.bytes,
                tables=tables,
            )
            _dumps.commit(path, manifest)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return _dumps.Dump(path, manifest)
