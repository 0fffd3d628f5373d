"""What the watchdog is given: everything outside it, to be replaced in tests, and its patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from selfhosted_prefect.connections import Redis
from selfhosted_prefect.watchdog.probes import Verdict
from selfhosted_prefect.watchdog.processes import Process, Snapshot
from selfhosted_prefect.watchdog.systemd import log


class Processes(Protocol):
    """The processes of this host's units."""

    def main(self, unit: str) -> Process | None: ...

    def snapshot(self, process: Process, port: int = 0) -> Snapshot | None:
        """None when it has ended."""

    def own_peers(self) -> frozenset[str]:
        """Where the connections of this very process lead: to Redis."""

    def stop(self, process: Process, sequence: Sequence[tuple[int, float]]) -> str:
        """Sends each signal in turn and waits so many seconds for the end; what it took."""


class Server(Protocol):
    """One API server of this host."""

    def fault(self) -> str:
        """Why it does not count as answering; empty when it answers."""

    def probe(self) -> tuple[Verdict, str]: ...


@dataclass(frozen=True)
class Patience:
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
    processes: Processes
    servers: Mapping[int, Server]
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
