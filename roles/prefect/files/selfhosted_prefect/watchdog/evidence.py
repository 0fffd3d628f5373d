"""The second sign: what the kernel shows of a process that seems not to work."""

from __future__ import annotations

from collections.abc import Sequence

from selfhosted_prefect.watchdog.processes import Process, Snapshot

SAMPLES = 3
"""Looks in a row at which the kernel has to show the same: one may have met a process that was only busy."""
SAMPLES_SECONDS = 10.0
"""Seconds that these looks have to span."""


class Evidence:
    """The second sign: what the kernel has shown of a process since it seems not to work."""

    def __init__(self) -> None:
        self._pid = 0
        self._seen: list[tuple[float, Snapshot]] = []

    def discard(self) -> None:
        self._seen.clear()

    def add(self, now: float, process: Process, snapshot: Snapshot | None) -> None:
        if process.pid != self._pid:
            self._pid = process.pid
            self.discard()
        if snapshot:
            self._seen = [*self._seen, (now, snapshot)][-60:]

    def of_server(self, port: int) -> str:
        """What confirms that a server is dead; empty when nothing does."""
        if stopped := self._stopped():
            return stopped
        last = self._last()
        if last and all(each.waiting is None for each in last):
            return f"nothing listens on port {port}"
        if last and all(each.waiting for each in last):
            return f"the connections that wait on port {port} are not accepted"
        return self._idle(last)

    def of_services(self, redis: frozenset[str]) -> str:
        """What confirms that background services are dead; ``redis`` is where the watchdog's connections lead."""
        if stopped := self._stopped():
            return stopped
        last = self._last()
        if last and all(each.peers is not None and not each.peers for each in last):
            return "its process has no connection at all"
        if last and all(redis & (each.peers or frozenset()) for each in last):
            return "its process is connected to this Redis"
        return self._idle(last)

    def _stopped(self) -> str:
        return "the kernel shows its process as stopped" if self._seen and self._seen[-1][1].state in "Tt" else ""

    @staticmethod
    def _idle(last: Sequence[Snapshot]) -> str:
        if last and last[0].cpu == last[-1].cpu:
            return f"its process uses no CPU time (state {last[-1].state})"
        return ""

    def _last(self) -> list[Snapshot]:
        """The newest snapshots, as many and for as long as it takes; none before that."""
        found: list[Snapshot] = []
        for moment, snapshot in reversed(self._seen):
            found.insert(0, snapshot)
            if len(found) >= SAMPLES and self._seen[-1][0] - moment >= SAMPLES_SECONDS:
                return found
        return []

    def __str__(self) -> str:
        if not self._seen:
            return "the kernel shows nothing of its process"
        last = self._seen[-1][1]
        used = last.cpu - self._seen[0][1].cpu
        port = "" if last.waiting is None else f", {last.waiting} connections wait on its port"
        return f"its process runs (state {last.state}), used {used:.1f} s of CPU time in {self._seen[-1][0] - self._seen[0][0]:.0f} s{port}"
