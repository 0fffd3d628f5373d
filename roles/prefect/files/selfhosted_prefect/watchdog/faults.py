"""Judges whether the processes of this host work: the first sign is their own, the second the kernel's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selfhosted_prefect.connections import Redis
from selfhosted_prefect.settings import SCHEDULER, SERVICES_DOCKET
from selfhosted_prefect.watchdog.evidence import Evidence
from selfhosted_prefect.watchdog.probes import Verdict
from selfhosted_prefect.watchdog.processes import Process
from selfhosted_prefect.watchdog.systemd import SERVICES_UNIT, Journal, api_unit
from selfhosted_prefect.watchdog.world import RestartPolicy, World

WORKERS = f"{SERVICES_DOCKET}:workers"
OVERDUE = 10.0
"""Seconds. A worker shows itself every 2, and the scheduler's next tick is in the future but for moments."""
PROBES = 2
"""How many probes in a row have to fail: one may have met the server while it was connecting again."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a unit. Without a reason there is nothing to restart, or not yet."""

    text: str
    reason: str = ""
    doubt: str = ""
    """The second sign, when it does not agree with the first."""


class Suspicions:
    """For how long each unit has seemed not to work, and what the kernel has shown of it meanwhile."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[str, float] = {}
        self._evidence: dict[str, Evidence] = {}

    def lasting(self, unit: str, fault: Fault, limit: float) -> Fault:
        """The fault, with its reason only when it has lasted."""
        since = self._since.setdefault(unit, self._world.now())
        lasted = self._world.now() - since
        return Fault(f"{fault.text}, for {lasted:.0f} s", fault.reason if lasted >= limit else "")

    def confirmed(self, unit: str, fault: Fault, sign: Callable[[Evidence], str]) -> Fault:
        """The fault, with its reason only when the second sign agrees."""
        if not fault.reason:
            return fault
        evidence = self._evidence[unit]
        agrees = sign(evidence)
        return Fault(f"{fault.text}, and {agrees}", fault.reason) if agrees else Fault(fault.text, doubt=str(evidence))

    def observe(self, unit: str, process: Process, port: int = 0) -> None:
        """Gathers the second sign of a unit that seems not to work."""
        snapshot = self._world.processes.snapshot(process, port)
        self._evidence.setdefault(unit, Evidence()).add(self._world.now(), process, snapshot)

    def end(self, unit: str) -> None:
        """What is wrong with it from now on has not lasted."""
        self._since.pop(unit, None)

    def end_all(self) -> None:
        self._since.clear()

    def drop_evidence(self, unit: str) -> None:
        self._evidence.pop(unit, None)


class ServicesJudge:
    """Judges the background services by their worker's signs of life in Redis and by the scheduler's ticks."""

    def __init__(self, world: World, policy: RestartPolicy, suspicions: Suspicions, restarted: Callable[[str], bool]) -> None:
        self._world = world
        self._policy = policy
        self._suspicions = suspicions
        self._restarted = restarted
        self._tick: tuple[object, float] = ("", 0.0)
        """The scheduler's next tick, and when it was first seen."""

    def fault(self, redis: Redis, process: Process) -> Fault | None:
        young = process.age < self._policy.grace
        # Until one that was restarted shows itself, no other one is restarted.
        if young and not self._restarted(SERVICES_UNIT):
            return None
        if not self._shows_itself(redis, process):
            return Fault("does not show itself yet") if young else self._silent(process)
        self._suspicions.drop_evidence(SERVICES_UNIT)
        return self._scheduler_fault(redis)

    def _shows_itself(self, redis: Redis, process: Process) -> bool:
        names = self._world.workers(process.pid, process.started)
        beats = [redis.execute_command("ZSCORE", WORKERS, name) for name in names]
        last = max((float(beat) for beat in beats if beat is not None), default=None)
        return last is not None and self._world.now() - last <= OVERDUE

    def _silent(self, process: Process) -> Fault:
        self._suspicions.observe(SERVICES_UNIT, process)
        fault = Fault("shows no sign of life in Redis", "silent")
        silent = self._suspicions.lasting(SERVICES_UNIT, fault, self._policy.services)
        peers = self._world.processes.own_peers()
        return self._suspicions.confirmed(SERVICES_UNIT, silent, lambda evidence: evidence.of_services(peers))

    def _scheduler_fault(self, redis: Redis) -> Fault | None:
        """Two signs: the next tick is overdue by the clock, and it has not moved, whatever the clocks say."""
        if "scheduler" in self._world.switched_off:
            self._suspicions.end(SERVICES_UNIT)
            return None
        now = self._world.now()
        tick = redis.execute_command("HGET", SCHEDULER, "when")
        if tick != self._tick[0]:
            self._tick = (tick, now)
        if tick is not None and now - float(tick) <= OVERDUE:
            self._suspicions.end(SERVICES_UNIT)
            return None
        if now - self._tick[1] < self._world.scheduler_interval + OVERDUE:
            self._suspicions.end(SERVICES_UNIT)
            return self._unsure(tick)
        fault = Fault("is alive, but its scheduler does not tick", "scheduler")
        return self._suspicions.lasting(SERVICES_UNIT, fault, self._policy.services)

    def _unsure(self, tick: str | None) -> Fault:
        """The clock says one thing of the scheduler, and its ticks another, or nothing yet."""
        if tick is None:
            return Fault("is alive, and its scheduler has never ticked")
        late = self._world.now() - float(tick)
        text = f"is alive, and its scheduler is {late:.0f} s late by this host's clock"
        return Fault(text, doubt="it goes on ticking: the clocks of the hosts differ")


class ApiJudge:
    """Judges an API server by its answers and, now and then, by its stream of events."""

    def __init__(self, world: World, policy: RestartPolicy, suspicions: Suspicions, journal: Journal, port: int) -> None:
        self._world = world
        self._policy = policy
        self._suspicions = suspicions
        self._journal = journal
        self._port = port
        self._unit = api_unit(port)
        self._server = world.servers[port]
        self._pid = 0
        self._due = 0.0
        """When its stream of events is to be probed next."""
        self._failed = 0
        """How many probes in a row have failed, and why the last one did."""
        self._why = ""
        self.unseen = False
        """Whether its stream of events could not be probed."""

    def probe_soon(self) -> None:
        self._due = 0.0

    def fault(self, _redis: Redis, process: Process) -> Fault | None:
        wrong = self._server.fault()
        if wrong:
            return Fault("does not answer yet") if process.age < self._policy.grace else self._unresponsive(wrong, process)
        self._suspicions.end(self._unit)
        self._suspicions.drop_evidence(self._unit)
        return self._stream_fault(process)

    def _unresponsive(self, wrong: str, process: Process) -> Fault:
        # After the request, whose connection waits to be accepted by a server that is dead.
        self._suspicions.observe(self._unit, process, self._port)
        dead = self._suspicions.lasting(self._unit, Fault(wrong, "unresponsive"), self._policy.api)
        return self._suspicions.confirmed(self._unit, dead, lambda evidence: evidence.of_server(self._port))

    def _stream_fault(self, process: Process) -> Fault | None:
        if self._pid != process.pid:
            self._pid, self._due, self._failed = process.pid, 0.0, 0
        if self._world.now() >= self._due and self._policy.probe_every > 0:
            self._probe()
        if not self._failed:
            return None
        return Fault(f"answers, but its stream of events is dead: {self._why}", "event_stream" if self._failed >= PROBES else "")

    def _probe(self) -> None:
        """Probes until it is well, or has failed too often, or nothing can be said."""
        verdict = Verdict.DEAD
        # One that was given up, and not restarted yet, may have come back.
        self._failed = min(self._failed, PROBES - 1)
        while verdict is Verdict.DEAD and self._failed < PROBES:
            verdict, self._why = self._server.probe()
            self._failed += verdict is Verdict.DEAD
        if verdict is Verdict.WELL:
            self._failed, self._due = 0, self._world.now() + self._policy.probe_every
        self.unseen = verdict is Verdict.UNKNOWN
        self._journal.say(self._unit, f"{self._unit}: its stream of events could not be probed: {self._why}" if self.unseen else "")
