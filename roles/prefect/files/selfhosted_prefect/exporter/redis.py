"""What Redis knows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from selfhosted_prefect.connections import Command, pairs
from selfhosted_prefect.exporter.metrics import Refused, Sample, each
from selfhosted_prefect.settings import EVENTS, SCHEDULER

PERSISTER = "event-persister"
MESSAGING_STREAMS = (EVENTS, "actions", "logs")
# Prefect's messaging has one set of dead letters for all of its streams.
DEAD_LETTERS = "dlq"
DOCKET_STREAMS = ("prefect:stream", "prefect-server:stream")
PROBE = "selfhosted-prefect:exporter"
EXPIRES = 60  # seconds after which nothing is left of the probe


@dataclass(frozen=True)
class RedisCollectors:
    """A question each, to the Redis of messages and to that of task queues."""

    messaging: Command
    docket: Command
    now: Callable[[], float] = time.time

    async def samples(self) -> list[Sample]:
        return await each((self.writable, self.heartbeat, self.messages, self.tasks, self.dead, self.waiting))

    async def heartbeat(self) -> list[Sample]:
        when = await self.docket("HGET", SCHEDULER, "when")
        # A scheduler that has never ticked is as late as can be.
        return [Sample("prefect_scheduler_heartbeat_age_seconds", max(0.0, self.now() - float(when)) if when else math.inf)]

    async def messages(self) -> list[Sample]:
        return await _streams(self.messaging, MESSAGING_STREAMS)

    async def tasks(self) -> list[Sample]:
        return await _streams(self.docket, DOCKET_STREAMS)

    async def dead(self) -> list[Sample]:
        return [Sample("prefect_stream_dead_letters", await self.messaging("SCARD", DEAD_LETTERS), (DEAD_LETTERS,))]

    async def waiting(self) -> list[Sample]:
        seconds = await _waiting(self.messaging, EVENTS, PERSISTER)
        return [] if seconds is None else [Sample("prefect_background_lag_seconds", seconds)]

    async def writable(self) -> list[Sample]:
        try:
            await self.messaging("SET", PROBE, "1", "EX", EXPIRES)
        except Refused:
            return [Sample("prefect_redis_writable", 0)]
        return [Sample("prefect_redis_writable", 1)]


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
    return [pairs(reply) for reply in replies]


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
