# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Takes a dump whose manifest counts exactly the rows that are in it, and removes what is no longer kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._backup import dumps as _dumps
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import Client, ToolError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import version_number
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import Session, quoted
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.migration import LOCK_KEY

_POLL_SECONDS = 1.0
_QUERY_SECONDS = 30.0
_SPARE_BYTES = 1 << 24

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


class BackupError(Exception):
    """No dump could be taken; the message says why."""


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
class Outcome:
    """``dump`` is None in check mode, where it would be taken. ``reason`` says why one is (not) taken."""

    dump: _dumps.Dump | None
    source: Source
    changed: bool
    reason: str
    removed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def count_rows(session: Session, deadline: Deadline) -> dict[str, int]:
    """The rows of every table that a dump holds, as ``schema.table``."""
    names = [(str(schema), str(table)) for schema, table in session.query(_TABLES, deadline.left())]
    return {
        f"{schema}.{table}": _number(session, f"SELECT count(*) FROM {quoted(schema)}.{quoted(table)}", deadline.left())  # noqa: S608  quoted
        for schema, table in names
    }


def _number(session: Session, sql: str, timeout: float) -> int:
    return int(session.query(sql, timeout)[0][0] or 0)


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
    ``free`` the bytes that are free in a folder.
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
    now: Callable[[], datetime] = _dumps.utc_now
    sleep: Callable[[float], None] = time.sleep

    def plan(self) -> Outcome:
        """What :meth:`run` would do, with every query that needs no write."""
        with contextlib.closing(self.connect()) as session:
            source = read_source(session, self.database)
        existing, reason, damaged = self._existing(source)
        if existing:
            return Outcome(existing, source, False, reason, damaged=damaged)
        self.client(source.major)
        if Path(self.directory).is_dir():
            self._room(source)
        return Outcome(None, source, True, reason, damaged=damaged)

    def run(self) -> Outcome:
        """Takes a dump, unless there is one that is new enough and whole.

        Raises BackupError, DumpError or ToolError if there is no new dump, and NetError or PostgresError if the database cannot be queried;
        what was there is still there.
        """
        with _dumps.only_one(self.directory, self.deadline), contextlib.closing(self.connect()) as session:
            for path in _dumps.leftovers(self.directory):
                Path(path).unlink()
            snapshot = self._begin(session)
            source = read_source(session, self.database)
            existing, reason, damaged = self._existing(source)
            if existing:
                return Outcome(existing, source, False, reason, damaged=damaged)
            self._room(source)
            dump = self._take(session, source, snapshot)
            removed = _dumps.prune(self.directory, self.database, self.keep)
        return Outcome(dump, source, True, reason, tuple(removed), damaged)

    def _begin(self, session: Session) -> str:
        """Opens the transaction that everything is read in, and exports its snapshot to pg_dump."""
        while True:
            session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", _QUERY_SECONDS)
            # With a migration half way the dump would be of no release. The lock ends with the transaction.
            if session.query(f"SELECT pg_try_advisory_xact_lock_shared({LOCK_KEY})", _QUERY_SECONDS)[0][0]:
                return str(session.query("SELECT pg_export_snapshot()", _QUERY_SECONDS)[0][0])
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

    def _take(self, session: Session, source: Source, snapshot: str) -> _dumps.Dump:
        moment = self.now()
        while (place := Path(self.directory, f"prefect-{_dumps.stamp(moment)}.dump")).exists():
            self.sleep(_POLL_SECONDS)
            moment = self.now()
        path = str(place)
        client = self.client(source.major)
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
