"""What no other exporter knows of a Prefect server, for Prometheus.

It runs with a release's own Python and the settings file of the role prefect, and asks the database and Redis anew for each scrape, each
within a limit. What does not answer is a metric, too (prefect_exporter_target_up); what cannot be known is left out.

Arguments: --address and --port to listen on, --budget, the connections that all processes of Prefect may open together, --size-limit, the
bytes that the database may take (0 for no limit), --release, the release whose schema is wanted, and for each worker that has to be online
--worker POOL/NAME.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

LIMIT = 5.0  # seconds for each of the two, less than a scrape may take
ATTEMPT = 3.0
EXPENSIVE = 1.0  # for a question that is left out rather than wait for
FRESH = 2.0  # seconds for which an answer serves several Prometheus servers

DATABASE = "PREFECT_SERVER_DATABASE_"
TLS = f"{DATABASE}SQLALCHEMY_CONNECT_ARGS_TLS_"
MESSAGING = "PREFECT_REDIS_MESSAGING_"

# Docket's record of the scheduler's next tick: a hash whose field says when, in seconds since the epoch.
SCHEDULER = ("prefect:runs:schedule_recent_deployments", "when")
EVENTS = ("events", "event-persister")
MESSAGING_STREAMS = ("events", "actions", "logs")
DOCKET_STREAMS = ("prefect:stream", "prefect-server:stream")
# Prefect's messaging has one set of dead letters for all of its streams.
DEAD_LETTERS = "dlq"
PROBE = "selfhosted-prefect:exporter"
EXPIRES = 60  # seconds after which nothing is left of the probe
STATES = ("active", "idle", "idle in transaction")

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "prefect_exporter_target_up": ("Whether it answered within the limit.", ("target",)),
    "prefect_scheduler_heartbeat_age_seconds": ("Seconds since the scheduler's next tick was due; 0 while it is on time.", ()),
    "prefect_background_lag_seconds": ("Age of the oldest event that waits to be stored, or else what the newest one waited.", ()),
    "prefect_late_runs": ("Flow runs that should have started more than 15 s ago.", ()),
    "prefect_stream_length": ("Entries of a stream in Redis.", ("stream",)),
    "prefect_stream_dead_letters": ("Messages given up after several attempts.", ("stream",)),
    "prefect_consumer_lag": ("Entries of a stream not delivered to a group yet.", ("stream", "group")),
    "prefect_consumer_pending": ("Entries delivered to a group and not acknowledged yet.", ("stream", "group")),
    "prefect_database_connections": ("Connections of Prefect's user to its database.", ("state",)),
    "prefect_database_connections_budget": ("Connections that all processes of Prefect may open together.", ()),
    "prefect_schema_revision_info": ("Revision of the schema, and that of the release.", ("current", "head")),
    "prefect_schema_behind": ("Whether the release knows a newer revision than the schema has.", ()),
    "prefect_redis_writable": ("Whether Redis takes a write.", ()),
    "prefect_switched_off_info": ("A part of Prefect that the settings switch off.", ("part",)),
    "prefect_database_size_bytes": ("Size of Prefect's database, indexes included.", ()),
    "prefect_database_limit_bytes": ("Size that the database may have; left out when none is configured.", ()),
    "prefect_table_size_bytes": ("Size of a table, its indexes included.", ("table",)),
    "prefect_table_rows": ("Rows of a table, as PostgreSQL's statistics have it; dead ones wait for autovacuum.", ("table", "state")),
    "prefect_workers_online": ("Workers of a work pool whose heartbeats come.", ("work_pool",)),
    "prefect_worker_online": ("Whether the heartbeats of a worker come that this deployment runs.", ("work_pool", "worker")),
    "prefect_work_pool_slots_used": ("Flow runs of a work pool that are pending, running or being cancelled.", ("work_pool",)),
    "prefect_work_pool_slots": ("How many a work pool may have; left out when it has no limit.", ("work_pool",)),
    "prefect_retention_seconds": ("How long this kind is kept; left out when it is kept for ever.", ("kind",)),
    "prefect_retention_oldest_seconds": ("Age of the oldest row of a kind that its retention deletes.", ("kind",)),
}

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

# What says nothing while the part that it tells of is switched off.
OF_PARTS = {"scheduler": "prefect_scheduler_heartbeat_age_seconds", "event_persister": "prefect_background_lag_seconds"}
SWITCHED_OFF = "SELFHOSTED_PREFECT_SWITCHED_OFF"
"""The parts of Prefect that the settings switch off, in the settings file of the role prefect."""

Environment = Mapping[str, str]
Rows = Sequence[Sequence[Any]]
Query = Callable[[str], Awaitable[Rows]]
"""Asks the database."""
Command = Callable[..., Awaitable[Any]]
"""Asks one database of Redis; replies come as Redis's own types, decoded."""


class Sample(NamedTuple):
    """One number; the labels in the order of METRICS."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


class Refused(Exception):  # noqa: N818  it is the server's refusal of one question; the others go on
    """The server answered, and refused this one question."""


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


async def each(questions: Iterable[Callable[[], Awaitable[list[Sample]]]]) -> list[Sample]:
    """The answers; a question that is refused leaves its own out."""
    samples: list[Sample] = []
    for question in questions:
        try:
            samples += await question()
        except Refused as error:
            print(f"left out: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return samples


async def database_samples(query: Query, schema: Schema, budget: int, limit: int = 0, wanted: Sequence[str] = ()) -> list[Sample]:
    """What the database knows. ``wanted`` are the workers that have to be online, each POOL/NAME."""

    async def connections() -> list[Sample]:
        counted = dict.fromkeys(STATES, 0) | {str(state): count for state, count in await query(CONNECTIONS)}
        return [Sample("prefect_database_connections", count, (state,)) for state, count in sorted(counted.items())]

    async def offered() -> list[Sample]:
        limits = [int(limit) for limit in (await query(OFFERED))[0] if int(limit) >= 0]
        return [Sample("prefect_database_connections_budget", min([*limits, budget] if budget else limits))]

    async def late() -> list[Sample]:
        return [Sample("prefect_late_runs", (await query(LATE))[0][0])]

    async def revision() -> list[Sample]:
        rows = await query(REVISION)
        current = str(rows[0][0]) if rows else ""
        return [
            Sample("prefect_schema_revision_info", 1, (current, schema.head)),
            Sample("prefect_schema_behind", schema.behind(current)),
        ]

    async def newest() -> list[Sample]:
        rows = await query(NEWEST)
        return [Sample("prefect_background_lag_seconds", max(0.0, float(rows[0][0])) if rows else 0.0)]

    async def size() -> list[Sample]:
        found = [Sample("prefect_database_size_bytes", (await query(SIZE))[0][0])]
        return [*found, Sample("prefect_database_limit_bytes", limit)] if limit else found

    async def tables() -> list[Sample]:
        return [
            sample
            for table, size, live, dead in await query(TABLES)
            for sample in (
                Sample("prefect_table_size_bytes", size, (table,)),
                Sample("prefect_table_rows", live, (table, "live")),
                Sample("prefect_table_rows", dead, (table, "dead")),
            )
        ]

    async def workers() -> list[Sample]:
        rows = await query(WORKERS)
        online = {f"{pool}/{name}" for pool, name in rows if name}
        pools = dict.fromkeys((pool for pool, _name in rows), 0) | Counter(pool for pool, name in rows if name)
        counted = [Sample("prefect_workers_online", count, (pool,)) for pool, count in pools.items()]
        return [*counted, *(Sample("prefect_worker_online", name in online, tuple(name.split("/", 1))) for name in wanted)]

    async def slots() -> list[Sample]:
        return [
            sample
            for pool, most, used in await query(SLOTS)
            for sample in (
                Sample("prefect_work_pool_slots_used", used, (pool,)),
                *([] if most is None else [Sample("prefect_work_pool_slots", most, (pool,))]),
            )
        ]

    async def retention() -> list[Sample]:
        rows = await query(RETENTION)
        kept = {kind: seconds for kind, seconds in json.loads(rows[0][0]).items() if seconds and kind in OLDEST} if rows else {}
        samples = [Sample("prefect_retention_seconds", seconds, (kind,)) for kind, seconds in kept.items()]
        for kind in kept:
            try:
                age = (await asyncio.wait_for(query(OLDEST[kind]), EXPENSIVE))[0][0]
            except TimeoutError as error:
                raise Refused(f"the oldest of {kind} is not found within {EXPENSIVE:g} s") from error
            samples.append(Sample("prefect_retention_oldest_seconds", max(0.0, float(age or 0)), (kind,)))
        return samples

    return await each((connections, offered, late, revision, newest, size, tables, workers, slots, retention))


async def redis_samples(messaging: Command, docket: Command, now: Callable[[], float] = time.time) -> list[Sample]:
    """What Redis knows."""

    async def heartbeat() -> list[Sample]:
        when = await docket("HGET", *SCHEDULER)
        # A scheduler that has never ticked is as late as can be.
        return [Sample("prefect_scheduler_heartbeat_age_seconds", max(0.0, now() - float(when)) if when else math.inf)]

    async def messages() -> list[Sample]:
        return await _streams(messaging, MESSAGING_STREAMS)

    async def tasks() -> list[Sample]:
        return await _streams(docket, DOCKET_STREAMS)

    async def dead() -> list[Sample]:
        return [Sample("prefect_stream_dead_letters", await messaging("SCARD", DEAD_LETTERS), (DEAD_LETTERS,))]

    async def waiting() -> list[Sample]:
        seconds = await _waiting(messaging, *EVENTS)
        return [] if seconds is None else [Sample("prefect_background_lag_seconds", seconds)]

    async def writable() -> list[Sample]:
        try:
            await messaging("SET", PROBE, "1", "EX", EXPIRES)
        except Refused:
            return [Sample("prefect_redis_writable", 0)]
        return [Sample("prefect_redis_writable", 1)]

    return await each((writable, heartbeat, messages, tasks, dead, waiting))


async def _streams(command: Command, names: Iterable[str]) -> list[Sample]:
    samples = []
    for name in names:
        length = int(await command("XLEN", name))
        samples.append(Sample("prefect_stream_length", length, (name,)))
        for group in await _groups(command, name) if length else ():
            labels = (name, str(group["name"]))
            # Redis does not know it after entries have been deleted from the middle.
            if group.get("lag") is not None:
                samples.append(Sample("prefect_consumer_lag", int(group["lag"]), labels))
            samples.append(Sample("prefect_consumer_pending", int(group["pending"]), labels))
    return samples


async def _groups(command: Command, stream: str) -> list[dict[str, Any]]:
    """The consumer groups of a stream; Redis tells them as flat lists of names and values."""
    try:
        replies = await command("XINFO", "GROUPS", stream)
    except Refused:
        return []  # the stream has gone in between
    return [reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=False)) for reply in replies]


async def _waiting(command: Command, stream: str, group: str) -> float | None:
    """How long the oldest entry that the group has not dealt with has waited, by Redis's own clock; None when nothing waits."""
    found = next((each for each in await _groups(command, stream) if each["name"] == group), None)
    if not found:
        return None
    entries = await command("XRANGE", stream, f"({found['last-delivered-id']}", "+", "COUNT", 1)
    oldest = [entry[0] for entry in entries]
    if int(found["pending"]):
        oldest.append((await command("XPENDING", stream, group))[1])
    if not oldest:
        return None
    seconds, microseconds = await command("TIME")
    return max(int(seconds) + int(microseconds) / 1e6 - int(str(entry).partition("-")[0]) / 1e3 for entry in oldest)


def merged(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples by metric. Of two with the same labels the larger counts: events that wait, or else the newest one stored."""
    found: dict[tuple[str, tuple[str, ...]], Sample] = {}
    for sample in samples:
        before = found.get((sample.name, sample.labels))
        if before is None or sample.value > before.value:
            found[sample.name, sample.labels] = sample
    return {name: ordered for name in METRICS if (ordered := [sample for sample in found.values() if sample.name == name])}


# --- the two servers ---


def tls_context(environment: Environment) -> ssl.SSLContext | None:
    """TLS to the database as Prefect would do it; None for none."""
    if environment.get(f"{TLS}ENABLED", "").lower() not in ("true", "1"):
        return None
    context = ssl.create_default_context(cafile=environment.get(f"{TLS}CA_FILE"))
    if certificate := environment.get(f"{TLS}CERT_FILE"):
        context.load_cert_chain(certificate, environment.get(f"{TLS}KEY_FILE"))
    context.check_hostname = environment.get(f"{TLS}CHECK_HOSTNAME", "true").lower() in ("true", "1")
    return context


def redis_urls(environment: Environment) -> tuple[str, str]:
    """Where messages are, and where the tasks of the services are."""
    docket = environment["PREFECT_SERVER_DOCKET_URL"]
    if url := environment.get(f"{MESSAGING}URL"):
        return url, docket
    # It is the same server with the same user: only the number of the database may differ.
    return urlunsplit(urlsplit(docket)._replace(path=f"/{environment.get(f'{MESSAGING}DB', '0')}")), docket


def without_secrets(text: str, environment: Environment) -> str:
    """The text on one line, with the passwords masked."""
    encoded = urlsplit(environment.get("PREFECT_SERVER_DOCKET_URL", "")).password or ""
    for secret in (environment.get(f"{DATABASE}PASSWORD", ""), encoded, unquote(encoded)):
        text = text.replace(secret, "********") if secret else text
    return " ".join(text.split())


@asynccontextmanager
async def open_database(environment: Environment) -> Any:  # noqa: ANN401  an async iterator of one Query
    """A connection to Prefect's database, as Prefect's own user."""
    import asyncpg  # noqa: PLC0415  only a release has it

    connection = await asyncpg.connect(
        host=environment[f"{DATABASE}HOST"],
        port=int(environment.get(f"{DATABASE}PORT", "5432")),
        user=environment[f"{DATABASE}USER"],
        password=environment[f"{DATABASE}PASSWORD"],
        database=environment[f"{DATABASE}NAME"],
        ssl=tls_context(environment) or False,
        timeout=ATTEMPT,
        command_timeout=ATTEMPT,
        statement_cache_size=0,
        server_settings={"application_name": "prefect-exporter"},
    )

    async def query(sql: str) -> Rows:
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        except asyncpg.PostgresError as error:
            raise Refused(f"PostgreSQL: {error}") from error

    try:
        yield query
    finally:
        connection.terminate()


@asynccontextmanager
async def open_redis(environment: Environment) -> Any:  # noqa: ANN401  an async iterator of two Commands
    """Connections to both databases of Redis."""
    from redis.asyncio import Redis  # noqa: PLC0415  only a release has it
    from redis.exceptions import ResponseError  # noqa: PLC0415

    def commands(client: Redis) -> Command:
        async def command(*words: str | int) -> Any:  # noqa: ANN401  whatever Redis replies
            try:
                connection = client.connection
                await connection.send_command(*words)
                return await connection.read_response()
            except ResponseError as error:
                raise Refused(f"Redis: {error}") from error

        return command

    clients = [
        Redis.from_url(
            url,
            single_connection_client=True,
            decode_responses=True,
            socket_connect_timeout=ATTEMPT,
            socket_timeout=ATTEMPT,
            retry=None,
            client_name="prefect-exporter",
        )
        for url in redis_urls(environment)
    ]
    try:
        for client in clients:
            await client.initialize()
        yield [commands(client) for client in clients]
    finally:
        for client in clients:
            await client.aclose()


# --- what is served ---

Opened = Callable[[Environment], AbstractAsyncContextManager[Any]]


async def gather(
    environment: Environment,
    schema: Schema,
    budget: int,
    limit: int = 0,
    wanted: Sequence[str] = (),
    *,
    database: Opened = open_database,
    redis: Opened = open_redis,
) -> list[Sample]:
    """Everything, from both at once, each within the limit."""

    async def ask_database() -> list[Sample]:
        async with database(environment) as query:
            return await database_samples(query, schema, budget, limit, wanted)

    async def ask_redis() -> list[Sample]:
        async with redis(environment) as (messaging, docket):
            return await redis_samples(messaging, docket)

    async def ask(target: str, question: Callable[[], Awaitable[list[Sample]]]) -> list[Sample]:
        try:
            return [Sample("prefect_exporter_target_up", 1, (target,)), *await asyncio.wait_for(question(), LIMIT)]
        except Exception as error:
            reason = without_secrets(str(error) or type(error).__name__, environment)
            print(f"{target} does not answer: {reason}", file=sys.stderr, flush=True)
            return [Sample("prefect_exporter_target_up", 0, (target,))]

    switched_off = environment.get(SWITCHED_OFF, "").split()
    database_answers, redis_answers = await asyncio.gather(ask("database", ask_database), ask("redis", ask_redis))
    down = [] if any(sample.name == "prefect_redis_writable" for sample in redis_answers) else [Sample("prefect_redis_writable", 0)]
    # One that is off is not late, and what it has left is none of its work.
    unasked = {metric for part, metric in OF_PARTS.items() if part in switched_off}
    answers = [sample for sample in (*database_answers, *redis_answers, *down) if sample.name not in unasked]
    return [*answers, *(Sample("prefect_switched_off_info", 1, (part,)) for part in switched_off)]


class Collector:
    """What prometheus_client asks at each scrape."""

    def __init__(self, ask: Callable[[], Iterable[Sample]], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._until = -math.inf

    def samples(self) -> list[Sample]:
        """The answers of a moment ago, or new ones. Two that ask at once get the same."""
        with self._lock:
            if self._clock() >= self._until:
                self._samples = list(self._ask())
                self._until = self._clock() + FRESH
            return self._samples

    def describe(self) -> list[Any]:
        return []  # nothing is asked before the first scrape

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  only a release has it

        for name, samples in merged(self.samples()).items():
            text, labels = METRICS[name]
            family = GaugeMetricFamily(name, text, labels=labels)
            for sample in samples:
                family.add_metric(list(sample.labels), float(sample.value))
            yield family


def main(arguments: Sequence[str], environment: Environment) -> None:
    parser = argparse.ArgumentParser(description="Prometheus exporter for a self-hosted Prefect server")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9420)
    parser.add_argument("--budget", type=int, default=0)
    parser.add_argument("--size-limit", type=int, default=0)
    parser.add_argument("--worker", action="append", default=[])
    parser.add_argument("--release", type=Path, default=Path(sys.prefix))
    options = parser.parse_args(arguments)
    missing = [name for name in (f"{DATABASE}HOST", f"{DATABASE}PASSWORD", "PREFECT_SERVER_DOCKET_URL") if not environment.get(name)]
    if missing:
        sys.exit(f"the environment has no {missing[0]}: start this with the settings file of the role prefect")

    from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server  # noqa: PLC0415  only a release has it

    def ask() -> list[Sample]:
        # A symlink that may have been turned to another release since.
        return asyncio.run(gather(environment, read_schema(options.release.resolve()), options.budget, options.size_limit, options.worker))

    registry = CollectorRegistry()
    registry.register(Collector(ask))
    ProcessCollector(registry=registry)
    _server, thread = start_http_server(options.port, addr=options.address, registry=registry)
    print(f"serving on {options.address}:{options.port}", flush=True)
    thread.join()


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
