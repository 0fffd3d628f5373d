"""Restarts what does not work, one unit of a kind at a time in the whole site, or says why it is not restarted."""

from __future__ import annotations

import subprocess

from selfhosted_prefect.connections import Redis
from selfhosted_prefect.watchdog.faults import Fault
from selfhosted_prefect.watchdog.memory import Memory
from selfhosted_prefect.watchdog.processes import Process
from selfhosted_prefect.watchdog.systemd import SERVICES_UNIT, Journal, api_unit, stop_sequence
from selfhosted_prefect.watchdog.world import RestartPolicy, World

DEPLOYMENT = "selfhosted.prefect:deployment"
"""The deployment lock in Redis."""
LEASE = "selfhosted.prefect:watchdog"
LEASE_SECONDS = 120
RELEASE = """if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"""


class Restarts:
    """Who may be restarted, and what has been."""

    def __init__(self, world: World, policy: RestartPolicy, memory: Memory, journal: Journal) -> None:
        self._world = world
        self._policy = policy
        self._memory = memory
        self._journal = journal
        self._held_by: dict[str, float] = {}
        """Since when the lease of a unit's kind is another one's."""
        self.stuck: set[str] = set()
        """The units that no restart, of them or of another one of their kind, has helped."""

    def waits_for(self, unit: str) -> bool:
        """Whether a unit was restarted and does not work yet."""
        return unit in self._memory.leases

    def well(self, redis: Redis, unit: str) -> None:
        """A unit works: another one of its kind may be restarted."""
        self.stuck.discard(unit)
        self._held_by.pop(unit, None)
        self._journal.clear(f"{unit} stuck")
        self._memory.tried.pop(unit, None)
        if unit in self._memory.leases:
            redis.execute_command("EVAL", RELEASE, 1, self._memory.leases.pop(unit), self._holder(unit))
            self._journal.write(f"{unit} works again", 6)
        if self._memory.again.get(unit, 0.0) + self._policy.longest_pause < self._world.now():
            self._memory.pause.pop(unit, None)

    def renew_lease(self, redis: Redis, unit: str) -> None:
        """Until a unit that was restarted works, no other one of its kind is: its restart may not have been the cure."""
        lease = self._memory.leases.get(unit)
        if not lease:
            return
        if redis.execute_command("GET", lease) in (None, self._holder(unit)):
            redis.execute_command("SET", lease, self._holder(unit), "PX", LEASE_SECONDS * 1000)
        if self._world.now() - self._memory.tried.get(unit, self._world.now()) > self._policy.grace:
            self.stuck.add(unit)
            text = f"{unit} was restarted, and that did not help: no other one of its kind is restarted until it works"
            self._journal.say(f"{unit} stuck", text)

    def restart(self, redis: Redis, unit: str, fault: Fault) -> bool:
        """Whether it was restarted."""
        obstacle = self._obstacle(redis, unit)
        if obstacle:
            self._journal.say(f"{unit} fault", f"{unit} {fault.text}; it is not restarted: {obstacle}")
            return False
        process = self._world.processes.main(unit)
        if process is None:
            return False
        self._journal.clear(f"{unit} fault")
        self._remember(unit, fault)
        self._stop(unit, fault, process)
        return True

    def _holder(self, unit: str) -> str:
        return f"{self._world.host} {unit}"

    def _remember(self, unit: str, fault: Fault) -> None:
        memory, name = self._memory, f"{unit} {fault.reason}"
        pause = min(memory.pause.get(unit, self._policy.pause / 2) * 2, self._policy.longest_pause)
        memory.tried.setdefault(unit, self._world.now())
        memory.restarts[name] = memory.restarts.get(name, 0) + 1
        memory.pause[unit], memory.again[unit] = pause, self._world.now() + pause

    def _stop(self, unit: str, fault: Fault, process: Process) -> None:
        self._journal.write(f"{unit} {fault.text}: process {process.pid} is asked to stop, and systemd starts it again", 4)
        self._journal.write(f"{unit}: {self._world.processes.stop(process, stop_sequence(unit, self._policy.stop))}", 4)

    def _obstacle(self, redis: Redis, unit: str) -> str:
        """Why this is not the moment; empty when it is."""
        left = self._memory.again.get(unit, 0.0) - self._world.now()
        if left > 0:
            return f"it was restarted before; the next time is in {left:.0f} s at the earliest"
        if redis.execute_command("EXISTS", DEPLOYMENT):
            return "a deployment goes on"
        return self._why_drained(unit) or self._world.state_problem() or self._why_another_restarts(redis, unit)

    def _why_drained(self, unit: str) -> str:
        if unit == SERVICES_UNIT:
            return ""
        try:
            return "it is drained" if unit in map(api_unit, self._world.drained()) else ""
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return f"whether it is drained cannot be seen ({error})"

    def _why_another_restarts(self, redis: Redis, unit: str) -> str:
        lease = f"{LEASE}:{'services' if unit == SERVICES_UNIT else 'api'}"
        if not redis.execute_command("SET", lease, self._holder(unit), "NX", "PX", LEASE_SECONDS * 1000):
            holder = redis.execute_command("GET", lease)
            if holder != self._holder(unit):
                return self._why_not_after(unit, str(holder))
        self._held_by.pop(unit, None)
        self._memory.leases[unit] = lease
        return ""

    def _why_not_after(self, unit: str, holder: str) -> str:
        since = self._held_by.setdefault(unit, self._world.now())
        if self._world.now() - since <= LEASE_SECONDS:
            return f"another one is being restarted: {holder}"
        self.stuck.add(unit)
        return f"another one was restarted and does not work yet: {holder}. None of its kind is restarted until it works"
