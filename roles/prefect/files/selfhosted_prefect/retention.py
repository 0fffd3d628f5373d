"""Delete what Prefect's own vacuum leaves: log lines before their flow run goes, and task runs that belong to no flow run.

A timer starts it on every services host. One host at a time does the work, in small batches with pauses, so that requests do not wait for
it. What is left at the end is for the next start.

Arguments: --logs and --task-runs, how many seconds each is kept (without one that kind is kept for ever), --batch, rows in a
transaction, and --limit, seconds to work for at most. It exits with 0 when the work is done or another host does it, and with 1 when
the database fails.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from selfhosted_prefect.connections import open_database
from selfhosted_prefect.settings import DATABASE_LOGIN, Settings

CONNECT = 10.0
STATEMENT = 120.0  # far more than a batch takes
# Of the work's own lock, which another host would wait for; any number that nothing else uses.
LOCK = 7_305_114_922_806_417
TERMINAL = "('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')"

DELETE = """
DELETE FROM {table}
WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE {column} < $1 AND {condition} ORDER BY {column} LIMIT $2))
"""

Delete = Callable[[str, datetime, int], Awaitable[int]]
"""Runs one statement with the moment and the batch size; how many rows it deleted."""


class Kind(NamedTuple):
    """What is deleted: a name for the journal, its table, and which rows besides their age."""

    name: str
    table: str
    column: str
    condition: str = "true"

    def statement(self) -> str:
        # The oldest first, by the index on the column; ctid saves looking them up again.
        return DELETE.format(**self._asdict())


LOGS = Kind("log lines", "log", "timestamp")
# Tasks that .delay() submits. Their states go with them.
TASK_RUNS = Kind("task runs without a flow run", "task_run", "end_time", f"flow_run_id IS NULL AND state_type IN {TERMINAL}")


async def delete_older(
    kind: Kind,
    until: datetime,
    batch: int,
    end: float,
    delete: Delete,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[int, bool]:
    """Deletes batch after batch, each followed by as long a pause as it took; how many rows, and whether all are gone."""
    total = 0
    while clock() < end:
        start = clock()
        deleted = await delete(kind.statement(), until, batch)
        total += deleted
        if deleted < batch:
            return total, True
        await pause(clock() - start)
    return total, False


async def run(kinds: Mapping[Kind, int], batch: int, limit: float, connection: Any) -> None:  # noqa: ANN401  asyncpg is only in a release
    """Deletes every kind, unless another host is at it."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        print("another host deletes just now: nothing to do here", flush=True)
        return

    async def delete(statement: str, until: datetime, rows: int) -> int:
        return int((await connection.execute(statement, until, rows)).split()[-1])

    end = time.monotonic() + limit
    for kind, seconds in kinds.items():
        start = time.monotonic()
        until = datetime.now(UTC) - timedelta(seconds=seconds)
        total, done = await delete_older(kind, until, batch, end, delete)
        rest = "" if done else "; the time is over, the next start goes on"
        print(f"deleted {total} {kind.name} from before {until:%Y-%m-%d %H:%M} UTC in {time.monotonic() - start:.1f} s{rest}", flush=True)


async def work(settings: Settings, kinds: Mapping[Kind, int], batch: int, limit: float) -> None:
    """Opens the connection for it."""
    async with open_database(settings, "prefect-retention", CONNECT, STATEMENT) as connection:
        await run(kinds, batch, limit, connection)


def main(arguments: Sequence[str], settings: Settings) -> int:
    parser = argparse.ArgumentParser(description="Deletes old log lines, and old task runs without a flow run, from Prefect's database")
    parser.add_argument("--logs", type=int, default=0)
    parser.add_argument("--task-runs", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=3000)
    options = parser.parse_args(arguments)
    kinds = {kind: seconds for kind, seconds in ((LOGS, options.logs), (TASK_RUNS, options.task_runs)) if seconds > 0}
    settings.require(*DATABASE_LOGIN)
    try:
        asyncio.run(work(settings, kinds, options.batch, options.limit))
    except Exception as error:
        print(f"the database fails: {settings.explain(error)}", file=sys.stderr)
        return 1
    return 0
