"""The metrics: their names, texts and labels, and what one number of them is."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

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
    "prefect_served_certificate_expiry_timestamp_seconds": ("When the certificate ends that a server shows.", ("target",)),
    "prefect_certificate_renew_before_seconds": ("How long before their end a deployment renews certificates.", ()),
    "prefect_retention_oldest_seconds": ("Age of the oldest row of a kind that its retention deletes.", ("kind",)),
}


class Sample(NamedTuple):
    """One number; the labels in the order of METRICS."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


class Refused(Exception):  # noqa: N818  it is the server's refusal of one question; the others go on
    """The server answered, and refused this one question."""


async def each(questions: Iterable[Callable[[], Awaitable[list[Sample]]]]) -> list[Sample]:
    """The answers; a question that is refused leaves its own out."""
    samples: list[Sample] = []
    for question in questions:
        try:
            samples += await question()
        except Refused as error:
            print(f"left out: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return samples


def merged(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples by metric. Of two with the same labels the larger counts: events that wait, or else the newest one stored."""
    found: dict[tuple[str, tuple[str, ...]], Sample] = {}
    for sample in samples:
        before = found.get((sample.name, sample.labels))
        if before is None or sample.value > before.value:
            found[sample.name, sample.labels] = sample
    return {name: ordered for name in METRICS if (ordered := [sample for sample in found.values() if sample.name == name])}
