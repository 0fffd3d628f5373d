"""What the database knows."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from selfhosted_prefect.exporter.metrics import Refused, Sample, each

EXPENSIVE = 1.0  # seconds for a question that is left out rather than wait for
STATES = ("active", "idle", "idle in transaction")

CONNECTIONS = """
SELECT coalesce(state, 'none'), count(*) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() GROUP BY 1
"""
OFFERED = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int, r.rolconnlimit, d.datconnlimit
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()
"""
LATE = """
SELECT count(*) FROM flow_run WHERE state_type = 'SCHEDULED' AND next_scheduled_start_time <= now() - interval '15 seconds'
"""
NEWEST = "SELECT extract(epoch FROM recorded - received) FROM events ORDER BY occurred DESC LIMIT 1"
SIZE = "SELECT pg_database_size(current_database())"
TABLES = """
SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = current_schema()
AND relname IN ('events', 'event_resources', 'flow_run', 'flow_run_state', 'task_run', 'task_run_state', 'log', 'artifact')
"""
RETENTION = "SELECT value::text FROM configuration WHERE key = 'selfhosted.prefect.retention'"
# What Prefect's vacuum, or the timer for logs, would delete next.
OLDEST = {
    "events": "SELECT extract(epoch FROM now() - min(occurred)) FROM events",
    "flow_runs": "SELECT extract(epoch FROM now() - min(end_time)) FROM flow_run WHERE parent_task_run_id IS NULL"
    " AND state_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')",
    "logs": 'SELECT extract(epoch FROM now() - min("timestamp")) FROM log',
}
# A worker counts as online for three of its heartbeats, as it does for Prefect.
WORKERS = """
SELECT p.name, w.name FROM work_pool p LEFT JOIN worker w ON w.work_pool_id = p.id
AND w.last_heartbeat_time > now() - 3 * coalesce(w.heartbeat_interval_seconds, 30) * interval '1 second'
"""
SLOTS = """
SELECT p.name, p.concurrency_limit, count(r.id) FROM work_pool p LEFT JOIN work_queue q ON q.work_pool_id = p.id
LEFT JOIN flow_run r ON r.work_queue_id = q.id AND r.state_type IN ('PENDING', 'RUNNING', 'CANCELLING') GROUP BY 1, 2
"""
REVISION = "SELECT version_num FROM alembic_version"

Rows = Sequence[Sequence[Any]]
Query = Callable[[str], Awaitable[Rows]]
"""Runs a statement."""


@dataclass(frozen=True)
class Schema:
    """The revisions that a release knows, and the newest of them."""

    head: str
    known: frozenset[str]

    def behind(self, current: str) -> bool:
        """Whether a schema at this revision waits for a migration; one that the release does not know is newer."""
        return current != self.head and (not current or current in self.known)


@cache
def read_schema(release: Path) -> Schema:
    """Out of a release's folder; nothing is imported, which would cost seconds and a hundred megabytes."""
    folders = release.glob("lib/python*/site-packages/prefect/server/database/_migrations/versions/postgresql")
    known: set[str] = set()
    built_on: set[str] = set()
    for path in (path for folder in folders for path in folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        known.update(re.findall(r"^revision\b[^=\n]*=\s*[\"'](\w+)", text, re.MULTILINE))
        for value in re.findall(r"^down_revision\b[^=\n]*=\s*(.+)$", text, re.MULTILINE):
            built_on.update(re.findall(r"[\"'](\w+)[\"']", value))
    heads = sorted(known - built_on)
    return Schema(heads[0] if len(heads) == 1 else "", frozenset(known))


@dataclass(frozen=True)
class DatabaseCollectors:
    """A question each; ``budget`` are the connections that Prefect may open, ``limit`` the bytes that its database may take (0: any).

    ``workers_wanted`` are the workers that have to be online, each POOL/NAME.
    """

    query: Query
    schema: Schema
    budget: int
    limit: int = 0
    workers_wanted: Sequence[str] = ()

    async def samples(self) -> list[Sample]:
        of_server = (self.connections, self.offered, self.size, self.tables)
        of_prefect = (self.late, self.revision, self.newest, self.workers, self.slots, self.retention)
        return await each((*of_server, *of_prefect))

    async def connections(self) -> list[Sample]:
        counted = dict.fromkeys(STATES, 0) | {str(state): count for state, count in await self.query(CONNECTIONS)}
        return [Sample("prefect_database_connections", count, (state,)) for state, count in sorted(counted.items())]

    async def offered(self) -> list[Sample]:
        limits = [int(limit) for limit in (await self.query(OFFERED))[0] if int(limit) >= 0]
        return [Sample("prefect_database_connections_budget", min([*limits, self.budget] if self.budget else limits))]

    async def late(self) -> list[Sample]:
        return [Sample("prefect_late_runs", (await self.query(LATE))[0][0])]

    async def revision(self) -> list[Sample]:
        rows = await self.query(REVISION)
        current = str(rows[0][0]) if rows else ""
        return [
            Sample("prefect_schema_revision_info", 1, (current, self.schema.head)),
            Sample("prefect_schema_behind", self.schema.behind(current)),
        ]

    async def newest(self) -> list[Sample]:
        rows = await self.query(NEWEST)
        return [Sample("prefect_background_lag_seconds", max(0.0, float(rows[0][0])) if rows else 0.0)]

    async def size(self) -> list[Sample]:
        found = [Sample("prefect_database_size_bytes", (await self.query(SIZE))[0][0])]
        return [*found, Sample("prefect_database_limit_bytes", self.limit)] if self.limit else found

    async def tables(self) -> list[Sample]:
        return [
            sample
            for table, size, live, dead in await self.query(TABLES)
            for sample in (
                Sample("prefect_table_size_bytes", size, (table,)),
                Sample("prefect_table_rows", live, (table, "live")),
                Sample("prefect_table_rows", dead, (table, "dead")),
            )
        ]

    async def workers(self) -> list[Sample]:
        rows = await self.query(WORKERS)
        online = {f"{pool}/{name}" for pool, name in rows if name}
        pools = dict.fromkeys((pool for pool, _name in rows), 0) | Counter(pool for pool, name in rows if name)
        counted = [Sample("prefect_workers_online", count, (pool,)) for pool, count in pools.items()]
        return [*counted, *(Sample("prefect_worker_online", name in online, tuple(name.split("/", 1))) for name in self.workers_wanted)]

    async def slots(self) -> list[Sample]:
        samples = []
        for pool, most, used in await self.query(SLOTS):
            samples.append(Sample("prefect_work_pool_slots_used", used, (pool,)))
            if most is not None:
                samples.append(Sample("prefect_work_pool_slots", most, (pool,)))
        return samples

    async def retention(self) -> list[Sample]:
        rows = await self.query(RETENTION)
        kept = {kind: seconds for kind, seconds in json.loads(rows[0][0]).items() if seconds and kind in OLDEST} if rows else {}
        samples = [Sample("prefect_retention_seconds", seconds, (kind,)) for kind, seconds in kept.items()]
        for kind in kept:
            try:
                async with asyncio.timeout(EXPENSIVE):
                    age = (await self.query(OLDEST[kind]))[0][0]
            except TimeoutError as error:
                raise Refused(f"the oldest of {kind} is not found within {EXPENSIVE:g} s") from error
            samples.append(Sample("prefect_retention_oldest_seconds", max(0.0, float(age or 0)), (kind,)))
        return samples
