# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Brings a database to a revision of Prefect's schema, once, however many try, and says exactly how far it got."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError, Row, Session, quoted
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.cause import cause
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.duration import Estimate, estimate
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.history import Release, Revision

LOCK_KEY = 31650977226777460
"""PostgreSQL's advisory lock (per database) that every migration holds: "prefect" in ASCII."""

WAITING = "selfhosted.prefect migration lock"
WORKING = "selfhosted.prefect migration"
"""Names of the sessions in pg_stat_activity: the one that holds or awaits the lock, and those that do the work."""

_QUERY_SECONDS = 15.0
_ORPHANS_SECONDS = 10.0
_POLL_SECONDS = 0.5

_REVISIONS = "SELECT version_num FROM alembic_version ORDER BY 1"
_EXISTS = "SELECT to_regclass('alembic_version') IS NOT NULL, to_regclass('flow_run') IS NOT NULL"
# An index that is being built right now is not valid yet, and no leftover.
_INVALID_INDEXES = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND n.nspname = ANY (current_schemas(false))
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
ORDER BY 1
"""
# The size of a table waits for its lock, which a migration may hold. Then the planner's figure has to do.
_TABLES = """
SELECT c.relname, coalesce(
    CASE WHEN c.oid IN (
        SELECT l.relation FROM pg_locks l WHERE l.mode = 'AccessExclusiveLock'
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) THEN c.relpages * current_setting('block_size')::bigint ELSE pg_total_relation_size(c.oid) END, 0),
  greatest(c.reltuples, 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (current_schemas(false))
"""
_HOLDER = """
SELECT l.pid, coalesce(host(a.client_addr), 'this machine'), date_trunc('second', now() - a.backend_start)::text
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32) + l.objid::bigint = 31650977226777460
"""
_WORKERS = f"""
FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user AND application_name = '{WORKING}'
"""


class MigrationError(Exception):
    """The schema is not where it should be; the message says how far it got and what to do. ``report`` holds the figures."""

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Table:
    """A table, its size with indexes and TOAST, and the planner's estimate of its rows."""

    name: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Report:
    """Where the schema was and is.

    ``pending`` is what is still to be applied, or, on the way down, to be undone; ``ahead`` means that it is past the target.
    ``tables`` are those that the work touches, as they were before it, the largest first, and ``estimate`` is the time that it will take.
    ``registered`` says that block types were, beside a schema that was where it should be.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    target: str
    pending: tuple[str, ...]
    ahead: bool
    invalid_indexes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    registered: bool = False
    estimate: Estimate | None = None

    @property
    def changed(self) -> bool:
        return self.before != self.after or self.registered

    def values(self) -> dict[str, Any]:
        """As a module returns it."""
        return {
            "changed": self.changed,
            "before": shown(self.before, ""),
            "after": shown(self.after, ""),
            "head": self.target,
            "pending": list(self.pending),
            "ahead": self.ahead,
            "invalid_indexes": list(self.invalid_indexes),
            "registered": self.registered,
            "tables": [asdict(table) for table in self.tables],
            "estimate": asdict(self.estimate) if self.estimate else {},
        }


def shown(revisions: Iterable[str], nothing: str = "no revision (empty)") -> str:
    return ",".join(revisions) or nothing


class Schema:
    """Prefect's schema, over one session."""

    def __init__(self, session: Session, sleep: Callable[[float], None] = time.sleep) -> None:
        self._session = session
        self._sleep = sleep

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Schema:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def revisions(self) -> tuple[str, ...]:
        """The current revision (several only if branches are open); nothing for an empty database.

        Raises MigrationError if the revisions are those of another application.
        """
        versioned, prefects = self._query(_EXISTS)[0]
        revisions = tuple(str(row[0]) for row in self._query(_REVISIONS)) if versioned else ()
        if revisions and not prefects:
            raise MigrationError("the database belongs to another application: it has a table alembic_version, but none called flow_run")
        return revisions

    def invalid_indexes(self) -> tuple[str, ...]:
        return tuple(str(row[0]) for row in self._query(_INVALID_INDEXES))

    def tables(self) -> list[Table]:
        """All of them, the largest first."""
        found = [Table(str(name), int(size or 0), int(rows or 0)) for name, size, rows in self._query(_TABLES)]
        return sorted(found, key=lambda table: (-table.bytes, table.name))

    def drop_index(self, name: str, timeout: float) -> None:
        self._session.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(name)}", timeout)

    def lock(self) -> bool:
        """Tries to get the lock, which lasts as long as this session."""
        return bool(self._query(f"SELECT pg_try_advisory_lock({LOCK_KEY})")[0][0])

    def holder(self) -> str:
        """Who has the lock."""
        rows = self._query(_HOLDER)
        return "; ".join(f"session {pid} from {address}, for {age}" for pid, address, age in rows) or "a session that has just ended"

    def end_workers(self) -> None:
        """Ends what an interrupted migration left running in the server: it would go on, and meet the next attempt.

        Only for the holder of the lock.
        """
        deadline = Deadline(_ORPHANS_SECONDS)
        while self._query(f"SELECT pg_terminate_backend(pid) {_WORKERS}") and not deadline.passed():
            self._sleep(_POLL_SECONDS)

    def _query(self, sql: str, timeout: float = _QUERY_SECONDS) -> list[Row]:
        return self._session.query(sql, timeout)


@dataclass
class Migration:
    """One attempt to have a database at a revision of a release.

    ``where`` names the database in messages (``database NAME on HOST:PORT``), ``connect`` opens a session,
    ``command`` does what Prefect's own command does, for at most the seconds given, and ``registration`` registers block types.
    ``down`` means that the target is an older revision, and the schema above it is to be taken back.
    """

    release: Release
    target: str
    where: str
    connect: Callable[[], Schema]
    command: Callable[[float], Finished]
    registration: Callable[[float], Finished]
    deadline: Deadline
    sleep: Callable[[float], None] = time.sleep
    down: bool = False

    def report(self) -> Report:
        """Where the schema is, and what would be touched."""
        with self.connect() as schema:
            return self._measured(schema, self._gather(schema))

    def run(self) -> Report:
        """Brings the schema to the target, unless it is there or past it (on the way down: below it).

        Raises MigrationError if it is not there, or an index is invalid, and NetError or PostgresError if the database cannot be queried.
        """
        with self.connect() as schema:
            report = self._gather(schema)
            if not report.pending:
                return self._sound(report)
            self._lock(schema)
            report = self._gather(schema)
            if not report.pending:
                return self._sound(report)
            schema.end_workers()
            report = self._measured(schema, report)
            self._refuse_too_little_time(report)
            self._drop_leftovers(schema, report)
            ended = self.command(self.deadline.left())
            reached = self._reached(schema, report, ended)
        return self._judge(reached, ended)

    def register(self) -> None:
        """Registers the block types of the release, over a schema that is where it should be. Raises MigrationError if that went wrong."""
        ended = self.registration(max(self.deadline.left(), 1.0))
        if ended.rc or ended.timed_out:
            raise MigrationError(
                f"The schema of the {self.where} is where it should be, but the block types of Prefect {self.release.version} were not"
                f" registered ({'it took too long' if ended.timed_out else _exit(ended)}). Servers that are running were not"
                f" touched. Fix the cause and run the same again.\nThe last of its output:\n{ended.tail() or '(none)'}"
            )

    def wait(self) -> Report:
        """Waits until another process has brought the schema to the target. Raises MigrationError if it is not there in time."""
        report: Report | None = None
        why = ""
        while True:
            try:
                with self.connect() as schema:
                    report = self._gather(schema)
                if not report.pending and not report.invalid_indexes:
                    return report
                why = f"it is at {shown(report.after)}{',' if report.invalid_indexes else ''}{self._invalid(report)}"
            except (NetError, PostgresError) as error:
                why = f"its server {error}" if isinstance(error, NetError) else f"its server says: {error}"
            if self.deadline.passed():
                raise MigrationError(
                    f"The {self.where} has not come to revision {self.target} within {self.deadline.seconds:g} s: {why}."
                    f" This waits for a migration that runs elsewhere; start one with the role prefect_migrate.",
                    report,
                )
            self.sleep(min(2.0, self.deadline.left()))

    def _gather(self, schema: Schema) -> Report:
        revisions = schema.revisions()
        pending = tuple(self._undone(revisions) if self.down else self._pending(revisions))
        ahead = not self.down and not pending and revisions != (self.target,)
        return Report(revisions, revisions, self.target, pending, ahead, schema.invalid_indexes())

    def _pending(self, revisions: tuple[str, ...]) -> list[str]:
        known = all(name in self.release.revisions for name in revisions)
        return self.release.pending(revisions, self.target) if known else []

    def _undone(self, revisions: tuple[str, ...]) -> list[str]:
        release = f"Prefect {self.release.version} in {self.release.path}"
        if not all(name in self.release.revisions for name in revisions):
            raise MigrationError(
                f"The {self.where} is at revision {shown(revisions)}, which {release} does not know: a newer release has migrated it."
                f" Only that one knows the way back; give it as release. Nothing was changed."
            )
        undone = self.release.undone(revisions, self.target)
        if undone and self.target not in self.release.with_ancestors(revisions):
            raise MigrationError(
                f"The {self.where} is at revision {shown(revisions)}, which {release} did not build on {self.target}, so there is"
                f" no way back to that. Restore a backup instead. Nothing was changed."
            )
        return undone

    def _measured(self, schema: Schema, report: Report) -> Report:
        if not report.pending:
            return report
        tables = {table.name: table for table in schema.tables()}
        # DROP INDEX, the commonest way down, does not say of which table; CREATE INDEX, on the way up, has.
        functions = ("upgrade", "downgrade") if self.down else ("upgrade",)
        touched = tuple(tables[name] for name in self.release.touched(report.pending, functions, tables))
        # On the way down indexes are dropped, which takes no time.
        return replace(report, tables=touched, estimate=None if self.down else self._estimate(report.pending, tables))

    def _estimate(self, pending: Iterable[str], tables: Mapping[str, Table]) -> Estimate:
        work = [tables[name] for revision in pending for name in self.release.touched([revision], ["upgrade"], tables)]
        return estimate((table.rows, table.bytes) for table in work)

    def _refuse_too_little_time(self, report: Report) -> None:
        # Stopped half way it would have to begin its index again, with as little time.
        if report.estimate and report.estimate.least > self.deadline.left():
            raise MigrationError(
                f"The migration of the {self.where} will take about {report.estimate.likely} s, for its tables are large, but"
                f" prefect_migrate_timeout leaves it {self.deadline.left():.0f} s. Set prefect_migrate_timeout to"
                f" {report.estimate.most} or more and run this again. Nothing was changed."
            )

    def _sound(self, report: Report) -> Report:
        if report.invalid_indexes:
            raise MigrationError(f"The {self.where} is at revision {shown(report.after)}, as it should be,{self._invalid(report)}.", report)
        return report

    def _lock(self, schema: Schema) -> None:
        while not schema.lock():
            if self.deadline.passed():
                raise MigrationError(
                    f"Another migration of the {self.where} has not ended within {self.deadline.seconds:g} s, so this one did not begin."
                    f" The lock is held by {schema.holder()}. Wait for it, or end it, and run this again. Nothing was changed."
                )
            self.sleep(min(_POLL_SECONDS, self.deadline.left()))

    def _drop_leftovers(self, schema: Schema, report: Report) -> None:
        # CREATE INDEX CONCURRENTLY fails on the invalid index of an interrupted attempt, or, worse, skips it for good.
        for index in report.invalid_indexes:
            if any(self._builds(self.release.revisions[name], index) for name in report.pending):
                schema.drop_index(index, max(self.deadline.left(), 1.0))

    def _builds(self, revision: Revision, index: str) -> bool:
        # The name may be put together of parts. On the way down most names are of indexes that are dropped, by a statement
        # that fails if they are gone.
        if self.down:
            return revision.builds(index, "downgrade")
        return bool(re.search(rf"\b{re.escape(index)}\b", revision.source))

    def _reached(self, schema: Schema, report: Report, ended: Finished) -> Report:
        try:
            if ended.timed_out:
                # Killing the client does not stop the statement that the server is busy with.
                schema.end_workers()
            now = self._gather(schema)
        except (NetError, PostgresError):
            # The session that held the lock may be gone, together with the one that did the work.
            now = self._gather_again(ended)
        return replace(now, before=report.before, tables=report.tables, estimate=report.estimate)

    def _gather_again(self, ended: Finished) -> Report:
        try:
            with self.connect() as schema:
                return self._gather(schema)
        except (NetError, PostgresError) as error:
            raise MigrationError(
                f"The migration of the {self.where} ended (exit code {ended.rc}), and how far it got cannot be seen, for its server"
                f" does not answer any more: {error}. Fix that and run the same again: it goes on from where it is."
                f"\nThe last of its output:\n{ended.tail() or '(none)'}"
            ) from error

    def _judge(self, report: Report, ended: Finished) -> Report:
        if not report.pending and not ended.rc:
            return self._sound(report)
        if ended.timed_out:
            what = f"was stopped after {self.deadline.seconds:g} s, before it had ended"
        elif ended.rc:
            what = f"failed ({_exit(ended)})"
        else:
            what = "ended without an error, but not where it should"
        again = "run the same again: it goes on from there."
        advice = (
            f"Give it more time ({'timeout' if self.down else 'prefect_migrate_timeout'}) and {again}"
            if ended.timed_out
            else f"Fix the cause and {again}"
        )
        began = f"it began at {shown(report.before)}"
        steps = f"{len(report.pending)} more to {'undo, down to ' if self.down else ''}{report.target}"
        left = f", {steps}" if report.pending else f", which is where it should be ({report.target})"
        raise MigrationError(
            f"The migration of the {self.where} {what}. The schema is at {shown(report.after)} ({began}){left}.{self._leftovers(report)}"
            f" Servers that are running were not touched. {advice}"
            f"\nThe last of its output:\n{ended.tail() or '(none)'}",
            report,
        )

    def _leftovers(self, report: Report) -> str:
        return f" Invalid indexes were left: {', '.join(report.invalid_indexes)}." if report.invalid_indexes else ""

    def _invalid(self, report: Report) -> str:
        if not report.invalid_indexes:
            return ""
        repairs = "; ".join(_repair(name) for name in report.invalid_indexes)
        names = ", ".join(report.invalid_indexes)
        return f" but these indexes are invalid: {names}. Fix them (in this database) and run this again: {repairs}"


def _repair(index: str) -> str:
    # REINDEX CONCURRENTLY leaves its unfinished copies under these names, beside the index itself.
    if re.search(r"_cc(new|old)\d*$", index):
        return f"DROP INDEX CONCURRENTLY {quoted(index)}"
    return f"REINDEX INDEX CONCURRENTLY {quoted(index)}"


def command_environment(environment: Mapping[str, str], release: Release, timeout: float, home: str) -> dict[str, str]:
    """What Prefect's command needs in its environment; nothing of it is left on disk but in ``home``."""
    name = "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_APPLICATION_NAME"
    # Before 3.8 the ordinary statement timeout, 10 s, holds for migrations, too.
    wait = {"PREFECT_SERVER_DATABASE_TIMEOUT": str(int(timeout))} if release.older_than(3, 8) else {}
    return {"HOME": home, "PREFECT_HOME": home, "PYTHONDONTWRITEBYTECODE": "1", **environment, name: WORKING, **wait}


def where(parts: Mapping[str, Any]) -> str:
    """How messages name the database."""
    return f"database {parts['dbname']} on {parts['host']}:{parts['port']}"


def _exit(ended: Finished) -> str:
    """How a command ended, and why if its output tells."""
    found = cause(ended.output.splitlines())
    return f"exit code {ended.rc}: {found.rstrip('.')}" if found else f"exit code {ended.rc}"
