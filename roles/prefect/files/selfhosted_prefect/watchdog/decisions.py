"""A round of the watchdog: requeue, judge every unit of this host, restart what does not work."""

from __future__ import annotations

from collections.abc import Callable

from selfhosted_prefect.connections import Redis, server_information
from selfhosted_prefect.watchdog.faults import ApiJudge, Fault, ServicesJudge, Suspicions
from selfhosted_prefect.watchdog.memory import Memory
from selfhosted_prefect.watchdog.processes import Process
from selfhosted_prefect.watchdog.restarts import Restarts
from selfhosted_prefect.watchdog.systemd import SERVICES_UNIT, Journal, api_unit
from selfhosted_prefect.watchdog.world import RestartPolicy, World

Judge = Callable[[Redis, Process], Fault | None]


class Watchdog:
    """Looks, judges and restarts, one round after the other."""

    def __init__(self, world: World, memory: Memory, services: bool, policy: RestartPolicy) -> None:
        self._world = world
        self.memory = memory
        self.healthy: dict[str, bool] = {}
        self.doubted: set[str] = set()
        self._journal = Journal(world.log)
        self._suspicions = Suspicions(world)
        self._restarts = Restarts(world, policy, memory, self._journal)
        self._servers = {api_unit(port): ApiJudge(world, policy, self._suspicions, self._journal, port) for port in world.servers}
        self._judges: dict[str, Judge] = {unit: server.fault for unit, server in self._servers.items()}
        if services:
            judge = ServicesJudge(world, policy, self._suspicions, self._restarts.waits_for)
            self._judges = {SERVICES_UNIT: judge.fault, **self._judges}
        self._redis: Redis | None = None
        self._run_id = ""
        self._back = 0.0
        """When Redis was seen to come back."""
        self._away = False

    @property
    def stuck(self) -> set[str]:
        """The units that no restart has helped."""
        return self._restarts.stuck

    @property
    def interval(self) -> float:
        """At most so many seconds until the next round. What waits for Redis waits for the watchdog, too."""
        return 1.0 if self._away else float("inf")

    def round(self) -> None:
        """Everything once. Without Redis there is nothing to go by, and a restart would help nothing."""
        try:
            redis = self._connected()
            self._requeue(redis)
            for unit, judge in self._judges.items():
                self._treat(redis, unit, self._judge(unit, judge, redis))
        except Exception as error:
            if not (isinstance(error, OSError) or type(error).__module__.startswith("redis")):
                raise
            self._lost(error)

    def _requeue(self, redis: Redis) -> None:
        for requeued in self._world.requeue(redis, self._back):
            self._world.log(str(requeued), 4)
            self.memory.handed_over += 1

    def _judge(self, unit: str, judge: Judge, redis: Redis) -> Fault | None:
        process = self._world.processes.main(unit)
        if process is None:
            self._suspicions.end(unit)
            return Fault("is not running")
        return judge(redis, process)

    def _treat(self, redis: Redis, unit: str, fault: Fault | None) -> None:
        self.healthy[unit] = fault is None
        self._note_doubt(unit, fault)
        if fault is None:
            self._restarts.well(redis, unit)
            return
        self._restarts.renew_lease(redis, unit)
        if fault.reason and self._restarts.restart(redis, unit, fault):
            self._suspicions.end(unit)

    def _note_doubt(self, unit: str, fault: Fault | None) -> None:
        doubt = fault.doubt if fault else ""
        unseen = unit in self._servers and self._servers[unit].unseen
        (self.doubted.add if doubt or unseen else self.doubted.discard)(unit)
        if doubt and fault:
            self._journal.say(f"{unit} doubt", f"{unit} {fault.text}, but {doubt}: the signs disagree, and it is not restarted")
        elif self._journal.clear(f"{unit} doubt"):
            self._world.log(f"{unit}: its signs agree again", 6)

    def _connected(self) -> Redis:
        """A connection that works."""
        self._redis = self._redis or self._world.redis()
        run_id = server_information(self._redis)["run_id"]
        if self._away or (self._run_id and run_id != self._run_id):
            self._came_back()
        self._run_id = run_id
        return self._redis

    def _came_back(self) -> None:
        self._world.log("Redis is back: the streams of events are probed", 6)
        self._away, self._back = False, self._world.now()
        self._suspicions.end_all()
        for server in self._servers.values():
            server.probe_soon()

    def _lost(self, error: Exception) -> None:
        if not self._away:
            self._world.log(f"Redis cannot be queried ({self._world.explain(error)}): nothing is judged until it can", 4)
        self._redis, self._away = None, True
        self.healthy = dict.fromkeys(self._judges, False)
