"""What the watchdog is given: everything outside it, to be replaced in tests, and when it restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from selfhosted_prefect.connections import Redis
from selfhosted_prefect.watchdog.probes import ApiServer
from selfhosted_prefect.watchdog.processes import ProcFs
from selfhosted_prefect.watchdog.systemd import log


@dataclass(frozen=True)
class RestartPolicy:
    """All in seconds."""

    services: float = 30.0
    api: float = 60.0
    grace: float = 60.0
    """A young process may still be starting."""
    probe_every: float = 300.0
    """Never, if 0."""
    pause: float = 60.0
    """After the first restart; then twice as long each time, up to ``longest_pause``."""
    longest_pause: float = 900.0
    stop: float = 20.0


@dataclass(frozen=True)
class World:
    """Everything outside. Times are seconds since the epoch."""

    host: str
    processes: ProcFs
    servers: Mapping[int, ApiServer]
    redis: Callable[[], Redis]
    workers: Callable[[int, int], Sequence[str]]
    """What a process, by its number and its start, may be called as a worker."""
    requeue: Callable[[Redis, float], Sequence[object]]
    drained: Callable[[], set[int]]
    state_problem: Callable[[], str]
    """Why PostgreSQL or Redis does not take the credentials; empty when both do."""
    explain: Callable[[Exception], str] = str
    """What an error says, without secrets."""
    now: Callable[[], float] = time.time
    log: Callable[[str, int], None] = log
    switched_off: Set[str] = frozenset()
    """The parts of Prefect that the settings switch off."""
    scheduler_interval: float = 5.0
