"""Serves the metrics."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from selfhosted_prefect.connections import Command, open_database, open_redis
from selfhosted_prefect.exporter.certificates import ServedCertificates, finders
from selfhosted_prefect.exporter.database import DatabaseCollectors, Query, Rows, Schema, read_schema
from selfhosted_prefect.exporter.metrics import METRICS, Refused, Sample, merged
from selfhosted_prefect.exporter.redis import RedisCollectors
from selfhosted_prefect.exporter.serving import Server, certified
from selfhosted_prefect.settings import DATABASE_LOGIN, DOCKET_URL, Settings

NAME = "prefect-exporter"
LIMIT = 5.0  # seconds for each of the two, less than a scrape may take
ATTEMPT = 3.0
DAY = 86400.0
FRESH = 2.0  # seconds for which an answer serves several Prometheus servers
# Metrics that are left out while their part of Prefect is switched off.
OF_PARTS = {"scheduler": "prefect_scheduler_heartbeat_age_seconds", "event_persister": "prefect_background_lag_seconds"}


@asynccontextmanager
async def database_query(settings: Settings) -> AsyncIterator[Query]:
    """Statements on Prefect's database."""
    import asyncpg  # noqa: PLC0415  only a release has it

    async with open_database(settings, NAME, ATTEMPT, ATTEMPT) as connection:

        async def query(sql: str) -> Rows:
            try:
                return [tuple(row) for row in await connection.fetch(sql)]
            except asyncpg.PostgresError as error:
                raise Refused(f"PostgreSQL: {error}") from error

        yield query


@asynccontextmanager
async def redis_commands(settings: Settings) -> AsyncIterator[tuple[Command, Command]]:
    """Commands to both databases of Redis."""
    async with (
        open_redis(settings.messaging_url, ATTEMPT, NAME) as messaging,
        open_redis(settings.docket_url, ATTEMPT, NAME) as docket,
    ):
        yield refusing(messaging), refusing(docket)


def refusing(command: Command) -> Command:
    """The same command; a refusal of Redis is one of the question, and not of the whole."""
    from redis.exceptions import ResponseError  # noqa: PLC0415  only a release has it

    async def asked(*words: str | int) -> Any:  # noqa: ANN401  whatever Redis replies
        try:
            return await command(*words)
        except ResponseError as error:
            raise Refused(f"Redis: {error}") from error

    return asked


Opened = Callable[[Settings], AbstractAsyncContextManager[Any]]


async def gather(
    settings: Settings,
    schema: Schema,
    budget: int,
    limit: int = 0,
    workers: Sequence[str] = (),
    *,
    database: Opened = database_query,
    redis: Opened = redis_commands,
) -> list[Sample]:
    """Everything, from both at once, each within the limit."""

    async def ask_database() -> list[Sample]:
        async with database(settings) as query:
            return await DatabaseCollectors(query, schema, budget, limit, workers).samples()

    async def ask_redis() -> list[Sample]:
        async with redis(settings) as (messaging, docket):
            return await RedisCollectors(messaging, docket).samples()

    async def ask(target: str, question: Callable[[], Awaitable[list[Sample]]]) -> list[Sample]:
        try:
            async with asyncio.timeout(LIMIT):
                return [Sample("prefect_exporter_target_up", 1, (target,)), *await question()]
        except Exception as error:
            print(f"{target} does not answer: {settings.explain(error)}", file=sys.stderr, flush=True)
            return [Sample("prefect_exporter_target_up", 0, (target,))]

    switched_off = settings.switched_off
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
        return []  # nothing is queried before the first scrape

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  only a release has it

        for name, samples in merged(self.samples()).items():
            text, labels = METRICS[name]
            family = GaugeMetricFamily(name, text, labels=labels)
            for sample in samples:
                family.add_metric(list(sample.labels), float(sample.value))
            yield family


def main(arguments: Sequence[str], settings: Settings) -> int:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description="Prometheus exporter for a self-hosted Prefect server")
    parser.add_argument("--address", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=9420)
    parser.add_argument("--budget", type=int, default=0, help="the connections that all processes of Prefect may open together")
    parser.add_argument("--size-limit", type=int, default=0, help="the bytes that the database may take; 0 for no limit")
    parser.add_argument("--worker", action="append", default=[], metavar="POOL/NAME", help="a worker that has to be online")
    parser.add_argument("--certificate", default="", help="serve TLS with this certificate and its chain")
    parser.add_argument("--key", default="", help="the key of the certificate")
    parser.add_argument("--renew-days", type=int, default=0, help="how long before their end certificates are renewed; 0 for never")
    parser.add_argument("--release", type=Path, default=Path(sys.prefix), help="the release whose schema is wanted")
    options = parser.parse_args(arguments)
    settings.require(*DATABASE_LOGIN, DOCKET_URL)

    from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app  # noqa: PLC0415  only a release has it

    certificates = ServedCertificates(finders(settings), settings.explain)
    renewal = [Sample("prefect_certificate_renew_before_seconds", options.renew_days * DAY)] if options.renew_days else []

    async def answers(schema: Schema) -> list[Sample]:
        asked = gather(settings, schema, options.budget, options.size_limit, options.worker)
        return [*renewal, *(sample for found in await asyncio.gather(asked, certificates.samples()) for sample in found)]

    def ask() -> list[Sample]:
        # A symlink that may have been turned to another release since.
        return asyncio.run(answers(read_schema(options.release.resolve())))

    registry = CollectorRegistry()
    registry.register(Collector(ask))
    ProcessCollector(registry=registry)
    tls = certified(options.certificate, options.key) if options.certificate else None
    with Server(options.address, options.port, make_wsgi_app(registry), tls) as server:
        print(f"serving {'TLS ' if tls else ''}on {options.address}:{options.port}", flush=True)
        server.serve_forever()
    return 0
