"""The watchdog: what it judges, what keeps it from restarting, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selfhosted_prefect.connections import Channel
from selfhosted_prefect.settings import Settings
from selfhosted_prefect.watchdog import probes as probing
from selfhosted_prefect.watchdog import program
from selfhosted_prefect.watchdog.decisions import Watchdog
from selfhosted_prefect.watchdog.memory import Memory
from selfhosted_prefect.watchdog.metrics import metrics
from selfhosted_prefect.watchdog.probes import Verdict
from selfhosted_prefect.watchdog.processes import Process, ProcFs, Snapshot
from selfhosted_prefect.watchdog.world import RestartPolicy, World

from tests.authority import Authority, Issued

if TYPE_CHECKING:
    from tests.conftest import Commands

FILES = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files"


SERVICES = "prefect-services.service"
API = "prefect-api@4200.service"
WELL, DEAD, UNKNOWN = Verdict.WELL, Verdict.DEAD, Verdict.UNKNOWN
START = 1_000_000.0
FROZEN = Snapshot("T", 10.0, 1, frozenset({"redis"}))
WORKING = [Snapshot("S", 10.0 + each, 0, frozenset({"another"})) for each in range(500)]


class RedisDownError(OSError):
    pass


@dataclass
class Site:
    """A site with one host of interest, whose time passes only when the test says so."""

    now: float = START
    pids: dict[str, int] = field(default_factory=lambda: {SERVICES: 7, API: 8})
    ages: dict[str, float] = field(default_factory=dict)
    beat: float | None = 1.0
    """Seconds since the worker's sign of life; none: it has never shown one."""
    tick: float | None = -2.0
    """How late the scheduler's tick is, which moves; none: it has never ticked."""
    stalled: float = 0.0
    """When the tick was due that does not move."""
    fault: str = ""
    """Why the server does not count as answering."""
    shown: list[Any] = field(default_factory=list)
    """What the kernel shows of a process, in turn, the last of them from then on; by itself it is frozen."""
    redis_peers: frozenset[str] = frozenset({"redis"})
    probes: list[Any] = field(default_factory=list)
    """What probes show, in turn; then all is well."""
    probed: int = 0
    away: bool = False
    run_id: str = "a"
    keys: dict[str, str] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)
    """When keys expire that do."""
    ports: Any = frozenset()
    problem: str = ""
    style: str = ".unique"
    """How the name of a worker ends in Redis."""
    switched_off: frozenset[str] = frozenset()
    scheduler_interval: float = 5.0
    moved: list[str] = field(default_factory=list)
    since: float = 0.0
    said: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    # Redis

    def execute_command(self, *words: Any) -> Any:
        if self.away:
            raise RedisDownError("refused")
        return getattr(self, "_" + str(words[0]).lower())(*words[1:])

    def _info(self, _section: str) -> str:
        return f"# Server\r\nrun_id:{self.run_id}\r\n"

    def _zscore(self, key: str, worker: str) -> str | None:
        assert key == "prefect:workers"
        known = f"here#{self.pids[SERVICES]}{self.style}"
        return repr(self.now - self.beat) if worker == known and self.beat is not None else None

    def _hget(self, key: str, name: str) -> str | None:
        assert (key, name) == ("prefect:runs:schedule_recent_deployments", "when")
        if self.tick is None:
            return None
        # One that stands still is due at one moment; one that ticks, at a new one each time.
        return repr(self.stalled) if self.stalled else repr(self.now - self.tick)

    def _exists(self, key: str) -> int:
        return int(self._get(key) is not None)

    def _get(self, key: str) -> str | None:
        if self.until.get(key, self.now) < self.now:
            self.keys.pop(key, None)
        return self.keys.get(key)

    def _set(self, key: str, value: str, *words: Any) -> str | None:
        if "NX" in words and self._exists(key):
            return None
        self.keys[key], self.until[key] = value, self.now + words[words.index("PX") + 1] / 1000
        return "OK"

    def _eval(self, _script: str, _number: int, key: str, value: str) -> int:
        assert self.keys.pop(key) == value
        return 1

    # the host

    def main(self, unit: str) -> Any:
        pid = self.pids.get(unit)
        return pid and Process(pid, pid * 100, self.ages.get(unit, 1000.0))

    def snapshot(self, process: Any, port: int = 0) -> Any:
        assert (process.pid == self.pids[API]) is (port == 4200)
        if not self.shown:
            return FROZEN
        return self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]

    def own_peers(self) -> frozenset[str]:
        return self.redis_peers

    def stop(self, process: Any, sequence: Sequence[tuple[int, float]]) -> str:
        unit = next(unit for unit, pid in self.pids.items() if pid == process.pid)
        self.stopped.append(f"{unit} {'+'.join(signal.Signals(number).name for number, _seconds in sequence)}")
        self.pids[unit] += 100
        return "it ended"

    def probe(self) -> Any:
        self.probed += 1
        verdict = self.probes.pop(0) if self.probes else WELL
        return verdict, "" if verdict is WELL else "no event came back"

    def drained(self) -> set[int]:
        if isinstance(self.ports, Exception):
            raise self.ports
        return set(self.ports)

    def requeue(self, _redis: Any, since: float) -> list[str]:
        self.since = since
        moved, self.moved = self.moved, []
        return moved


@dataclass
class Server:
    site: Any

    def fault(self) -> str:
        return str(self.site.fault)

    def probe(self) -> Any:
        return self.site.probe()


def watch(site: Any, services: bool = True, api: bool = True, memory: Any = None, host: str = "here", **policy: float) -> Any:
    servers: Any = {4200: Server(site)} if api else {}
    world = World(
        host=host,
        processes=site,
        servers=servers,
        redis=lambda: site,
        workers=lambda pid, _started: [f"here#{pid}.unique", f"here#{pid}"],
        requeue=site.requeue,
        drained=site.drained,
        state_problem=lambda: site.problem,
        now=lambda: site.now,
        log=lambda text, _level: site.said.append(text),
        switched_off=site.switched_off,
        scheduler_interval=site.scheduler_interval,
    )
    return Watchdog(world, memory or Memory(), services, RestartPolicy(**policy))


def run(dog: Any, site: Site, seconds: float) -> None:
    for _round in range(int(seconds / 5)):
        dog.round()
        site.now += 5


def test_what_is_well_is_left_alone() -> None:
    site = Site()
    dog = watch(site)
    run(dog, site, 3600)
    assert (site.stopped, site.said) == ([], [])
    assert dog.healthy == {SERVICES: True, API: True}
    assert site.probed == 12


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        pytest.param(Site(beat=40.0), "silent", id="frozen"),
        pytest.param(Site(beat=None), "silent", id="never seen"),
        pytest.param(Site(stalled=START - 30.0), "scheduler", id="the scheduler is late"),
        pytest.param(Site(tick=None), "scheduler", id="the scheduler has never ticked"),
    ],
)
def test_silent_services_are_restarted(site: Site, reason: str) -> None:
    dog = watch(site, api=False)
    # Whether a tick moves has to be seen first.
    run(dog, site, 45 if reason == "scheduler" else 30)
    assert (site.stopped, dog.healthy[SERVICES]) == ([], False)
    run(dog, site, 5)
    assert site.stopped == [f"{SERVICES} SIGINT+SIGINT+SIGKILL"]
    assert dog.memory.restarts == {f"{SERVICES} {reason}": 1}
    assert site.keys == {"selfhosted.prefect:watchdog:services": f"here {SERVICES}"}
    site.beat, site.tick, site.stalled = 1.0, -2.0, 0.0
    site.ages[SERVICES] = 4.0
    run(dog, site, 5)
    assert site.keys == {}
    assert site.said[-1] == f"{SERVICES} works again"


def test_a_moment_of_silence_is_none() -> None:
    site = Site()
    dog = watch(site, api=False)
    for beat in (40.0, 1.0) * 10:
        site.beat = beat
        run(dog, site, 25)
    assert site.stopped == []


def test_a_young_process_may_still_be_starting() -> None:
    site = Site(beat=None, fault="does not answer", ages={SERVICES: 10.0, API: 10.0})
    run(watch(site), site, 600)
    assert (site.stopped, site.probed) == ([], 0)


def test_services_that_were_restarted_may_take_their_time() -> None:
    site = Site(beat=None)
    dog = watch(site, api=False)
    run(dog, site, 35)
    site.ages[SERVICES] = 10.0
    run(dog, site, 600)
    # Not well, so that no other one is restarted; and not again, while it may still be starting.
    assert (len(site.stopped), dog.healthy, list(site.keys)) == (1, {SERVICES: False}, ["selfhosted.prefect:watchdog:services"])


def test_a_young_server_is_probed_once_it_answers() -> None:
    site = Site(probes=[DEAD, DEAD], ages={API: 10.0})
    dog = watch(site, services=False)
    run(dog, site, 10)
    assert dog.memory.restarts == {f"{API} event_stream": 1}


def test_what_does_not_run_is_for_systemd() -> None:
    site = Site(pids={})
    dog = watch(site)
    run(dog, site, 600)
    assert site.stopped == []
    assert dog.healthy == {SERVICES: False, API: False}


def test_what_did_not_run_in_between_has_not_been_silent_for_long() -> None:
    site = Site(beat=None)
    dog = watch(site, api=False)
    run(dog, site, 25)
    del site.pids[SERVICES]
    run(dog, site, 5)
    site.pids[SERVICES] = 9
    run(dog, site, 25)
    assert site.stopped == []


def test_the_pause_doubles_and_is_forgotten_when_all_is_well() -> None:
    site = Site(beat=None)
    dog = watch(site, api=False)
    times: list[float] = []
    for _round in range(800):
        before = len(site.stopped)
        run(dog, site, 5)
        if len(site.stopped) > before:
            times.append(site.now - START)
    pauses = [round(after - before) for before, after in pairwise(times)]
    assert pauses[:5] == [60, 120, 240, 480, 900]
    assert sum("restarted before" in line for line in site.said) == len(times)
    site.beat = 1.0
    run(dog, site, 1900)
    assert dog.memory.pause == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"keys": {"selfhosted.prefect:deployment": "{}"}}, "a deployment goes on", id="deployment"),
        pytest.param({"ports": {4200}}, "it is drained", id="drained"),
        pytest.param({"ports": OSError("nft failed")}, "cannot be seen (nft failed)", id="drained or not"),
        pytest.param({"problem": "PostgreSQL at db:5432 is not ready"}, "PostgreSQL at db:5432 is not ready", id="no database"),
        pytest.param(
            {"keys": {"selfhosted.prefect:watchdog:api": "api2 x"}}, "another one is being restarted: api2 x", id="another host's restart"
        ),
    ],
)
def test_what_keeps_it_from_restarting_an_api_server(change: dict[str, Any], says: str) -> None:
    site = Site(fault="does not answer", **change)
    dog = watch(site, services=False)
    run(dog, site, 900)
    assert site.stopped == []
    assert says in site.said[0]
    # Not every five seconds; and another one that does not get better is told of once more.
    assert [line for line in site.said[1:] if "was restarted and does not work yet: api2 x" not in line] == []
    assert len(site.said) == 1 + ("another one" in says)
    site.keys, site.ports, site.problem = {}, set(), ""
    run(dog, site, 5)
    assert site.stopped == [f"{API} SIGTERM+SIGKILL"]


def test_other_ports_and_other_roles_do_not_matter() -> None:
    site = Site(fault="does not answer", beat=None, ports={4201}, keys={"selfhosted.prefect:watchdog:services": "other x"})
    run(watch(site), site, 65)
    assert site.stopped == [f"{API} SIGTERM+SIGKILL"]


def test_a_server_that_does_not_answer_is_restarted_after_its_limit() -> None:
    site = Site(fault="does not answer")
    dog = watch(site, services=False)
    run(dog, site, 60)
    assert site.stopped == []
    run(dog, site, 5)
    assert dog.memory.restarts == {f"{API} unresponsive": 1}


@pytest.mark.parametrize(
    ("probes", "restarted"),
    [
        ([DEAD, DEAD], True),
        ([DEAD, UNKNOWN, DEAD], True),
        ([DEAD, WELL, DEAD, WELL], False),
        ([UNKNOWN] * 50, False),
    ],
)
def test_a_stream_is_dead_when_two_probes_in_a_row_say_so(probes: list[Any], restarted: bool) -> None:
    site = Site(probes=[WELL, *probes])
    dog = watch(site, services=False)
    run(dog, site, 300)
    assert site.probed == 1
    run(dog, site, 300)
    assert dog.memory.restarts == ({f"{API} event_stream": 1} if restarted else {})


def test_a_stream_that_comes_back_before_its_turn_is_left_alone() -> None:
    site = Site(probes=[DEAD] * 5, keys={"selfhosted.prefect:deployment": "{}"})
    dog = watch(site, services=False)
    run(dog, site, 20)
    assert (site.probed, dog.healthy) == (5, {API: False})
    run(dog, site, 5)
    site.keys = {}
    run(dog, site, 60)
    assert (site.stopped, dog.healthy) == ([], {API: True})


def test_it_waits_for_redis_closely() -> None:
    site = Site(away=True)
    dog = watch(site)
    assert dog.interval > 60
    dog.round()
    assert dog.interval == 1


def test_streams_are_probed_at_once_when_redis_was_away_or_restarted() -> None:
    site = Site()
    dog = watch(site, services=False)
    run(dog, site, 10)
    assert site.probed == 1
    site.away = True
    run(dog, site, 60)
    assert dog.healthy == {API: False}
    site.away = False
    run(dog, site, 10)
    assert (site.probed, site.since) == (2, START + 70)
    site.run_id = "b"
    run(dog, site, 10)
    assert site.probed == 3
    assert [line.split(" (")[0] for line in site.said] == [
        "Redis cannot be queried",
        *["Redis is back: the streams of events are probed"] * 2,
    ]


def test_nothing_is_probed_when_it_should_not() -> None:
    site = Site(probes=[DEAD] * 99)
    run(watch(site, services=False, probe_every=0), site, 900)
    assert (site.probed, site.stopped) == (0, [])


def test_silence_while_redis_was_away_does_not_count() -> None:
    site = Site(beat=None)
    dog = watch(site, api=False)
    run(dog, site, 25)
    site.away = True
    run(dog, site, 600)
    site.away = False
    run(dog, site, 25)
    assert site.stopped == []


def test_what_was_requeued_is_said_and_counted() -> None:
    site = Site(moved=["schedule_deployments was held by x"])
    dog = watch(site)
    run(dog, site, 10)
    assert (site.said, dog.memory.handed_over) == (["schedule_deployments was held by x"], 1)


def test_a_mistake_of_its_own_is_not_taken_for_an_outage() -> None:
    with pytest.raises(AttributeError):
        watch(Site(moved=["x"]), memory="no memory").round()


def test_memory_is_kept(tmp_path: Path) -> None:
    memory = Memory({f"{SERVICES} silent": 2}, 3, {SERVICES: 120.0}, {SERVICES: START})
    memory.save(tmp_path / "memory.json")
    assert Memory.load(tmp_path / "memory.json") == memory
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"unknown": 1}', "null"])
def test_a_memory_that_cannot_be_read_is_a_new_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.json").write_text(text)
    assert Memory.load(tmp_path / "memory.json") == Memory()


def test_figures() -> None:
    memory = Memory({f"{API} event_stream": 1, f"{SERVICES} silent": 2}, 3)
    text = metrics(memory, {SERVICES: True, API: False}, 5.25, {API}, {SERVICES})
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        "prefect_watchdog_last_check_timestamp_seconds 5.250",
        f'prefect_watchdog_healthy{{unit="{API}"}} 0',
        f'prefect_watchdog_healthy{{unit="{SERVICES}"}} 1',
        f'prefect_watchdog_signs_disagree{{unit="{API}"}} 1',
        f'prefect_watchdog_signs_disagree{{unit="{SERVICES}"}} 0',
        f'prefect_watchdog_cannot_heal{{unit="{API}"}} 0',
        f'prefect_watchdog_cannot_heal{{unit="{SERVICES}"}} 1',
        f'prefect_watchdog_restarts_total{{unit="{API}",reason="event_stream"}} 1',
        f'prefect_watchdog_restarts_total{{unit="{SERVICES}",reason="silent"}} 2',
        "prefect_watchdog_handed_over_total 3",
    ]


# --- the second sign ---


def shows(**values: Any) -> list[Any]:
    """Snapshots of a process that is at work but for these."""
    return [dataclasses.replace(each, **values) for each in WORKING]


@pytest.mark.parametrize(
    ("site", "sign"),
    [
        pytest.param(Site(fault="does not answer (timed out)", shown=list(WORKING)), "0 connections wait on its port", id="accepts"),
        pytest.param(Site(fault="answers HTTP 500", shown=list(WORKING)), "its process runs (state S)", id="answers nonsense"),
        pytest.param(Site(beat=None, shown=list(WORKING)), "its process runs (state S)", id="another Redis"),
        pytest.param(Site(beat=40.0, shown=shows(peers=None)), "used", id="its connections cannot be seen"),
        pytest.param(Site(tick=30.0), "it goes on ticking: the clocks of the hosts differ", id="the clock of another host"),
    ],
)
def test_nothing_is_restarted_while_the_signs_disagree(site: Site, sign: str) -> None:
    api = bool(site.fault)
    unit = API if api else SERVICES
    dog = watch(site, services=not api, api=api)
    run(dog, site, 900)
    assert (site.stopped, dog.doubted, dog.healthy) == ([], {unit}, {unit: False})
    # Both signs, and once.
    assert len(site.said) == 1
    assert "the signs disagree, and it is not restarted" in site.said[0]
    assert sign in site.said[0]
    site.fault, site.beat, site.tick = "", 1.0, -2.0
    run(dog, site, 10)
    assert (dog.doubted, dog.healthy, site.said[1:]) == (set(), {unit: True}, [f"{unit}: its signs agree again"])


@pytest.mark.parametrize(
    ("site", "sign"),
    [
        pytest.param(Site(fault="x", shown=shows(waiting=1)), "the connections that wait on port 4200 are not accepted", id="spins"),
        pytest.param(Site(fault="x", shown=shows(waiting=None)), "nothing listens on port 4200", id="deaf"),
        pytest.param(Site(fault="x", shown=shows(cpu=5.0)), "its process uses no CPU time (state S)", id="hangs"),
        pytest.param(Site(fault="x", shown=shows(state="T")), "the kernel shows its process as stopped", id="frozen"),
        pytest.param(Site(beat=None, shown=shows(peers=frozenset({"redis", "x"}))), "is connected to this Redis", id="silent"),
        pytest.param(Site(beat=None, shown=shows(peers=frozenset())), "its process has no connection at all", id="cut off"),
        pytest.param(Site(beat=None, shown=shows(cpu=5.0)), "its process uses no CPU time (state S)", id="services hang"),
    ],
)
def test_what_both_signs_say_is_restarted(site: Site, sign: str) -> None:
    api = bool(site.fault)
    run(watch(site, services=not api, api=api), site, 65)
    assert len(site.stopped) == 1
    assert sign in site.said[0]


def test_one_look_is_not_a_sign() -> None:
    """A server that is only busy accepts late, and is never at the same point for long."""
    site = Site(fault="x", shown=[each for pair in zip(shows(waiting=3), WORKING[1:], strict=False) for each in pair])
    run(watch(site, services=False), site, 900)
    assert site.stopped == []


def test_the_scheduler_is_not_waited_for_when_it_is_switched_off() -> None:
    site = Site(tick=None, switched_off=frozenset({"scheduler"}))
    dog = watch(site, api=False)
    run(dog, site, 900)
    assert (site.stopped, site.said, dog.healthy) == ([], [], {SERVICES: True})


def test_a_scheduler_may_be_slow() -> None:
    """A round each minute, and a clock that is half a minute off."""
    site = Site(scheduler_interval=60.0)
    dog = watch(site, api=False)
    for _minute in range(15):
        site.stalled = site.now - 30
        run(dog, site, 60)
    assert site.stopped == []
    run(dog, site, 120)
    assert f"{SERVICES} scheduler" in dog.memory.restarts


def test_a_worker_with_the_name_of_before_is_known() -> None:
    site = Site(style="")
    dog = watch(site, api=False)
    run(dog, site, 300)
    assert (site.stopped, dog.healthy) == ([], {SERVICES: True})


def test_no_second_server_is_restarted_until_the_first_works() -> None:
    """A fault that is not in the servers: what every host sees, and no restart cures."""
    first = Site(fault="does not answer")
    second = Site(fault="does not answer", keys=first.keys, until=first.until)
    dogs = [watch(first, services=False), watch(second, services=False, host="there")]
    for _round in range(int(3 * 3600 / 5)):
        for dog, site in zip(dogs, (first, second), strict=True):
            site.ages[API] = 1000.0
            run(dog, site, 5)
    assert (first.stopped != [], second.stopped) == (True, [])
    assert [dog.stuck for dog in dogs] == [{API}, {API}]
    assert "that did not help: no other one of its kind is restarted until it works" in "\n".join(first.said)
    assert f"was restarted and does not work yet: here {API}" in second.said[-1]
    # It works again: the other one's turn has come.
    first.fault = ""
    run(dogs[0], first, 5)
    run(dogs[1], second, 5)
    assert (len(second.stopped), dogs[0].stuck) == (1, set())


def test_a_watchdog_that_begins_anew_still_holds_what_it_held() -> None:
    site = Site(fault="does not answer")
    dog = watch(site, services=False)
    run(dog, site, 70)
    memory = dog.memory
    site.keys.clear()  # its lease ran out meanwhile
    run(watch(site, services=False, memory=memory), site, 5)
    assert site.keys == {"selfhosted.prefect:watchdog:api": f"here {API}"}


def test_what_the_kernel_shows() -> None:
    code = "import socket, sys\ns = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\nprint(s.getsockname()[1], flush=True)\n"
    process = subprocess.Popen([sys.executable, "-c", code + "sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        port, known = int(process.stdout.readline()), Process(process.pid, started(process.pid), 0.0)
        idle = ProcFs().snapshot(known, port)
        assert idle
        assert (idle.waiting, idle.peers) == (0, frozenset())
        assert idle.cpu >= 0
        with socket.create_connection(("127.0.0.1", port)):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            frozen = ProcFs().snapshot(known, port)
            assert frozen
            assert (frozen.state, frozen.waiting) == ("T", 1)
            assert len(ProcFs().own_peers()) >= 1
        assert ProcFs().snapshot(Process(process.pid, 1, 0.0), port) is None
    finally:
        process.kill()
        process.wait(5)
    assert ProcFs().snapshot(known, port) is None


# Not by PYTHONPATH, with which sitecustomize.py would make an exception of this host.
ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from selfhosted_prefect.settings import Settings
from selfhosted_prefect.watchdog.probes import ApiServer
settings = [Settings({"PREFECT_SERVER_API_BASE_PATH": base}) for base in sys.argv[3:]]
servers = [ApiServer("127.0.0.1", int(sys.argv[2]), each, 1, published=bool) for each in settings]
print([server.fault() for server in servers for _twice in range(2)])
"""


@pytest.fixture(scope="module")
def release(commands: Commands) -> str:
    """The interpreter of a release, which has the libraries."""
    version = max(path.stem for path in (FILES / "locks").glob("*.txt") if "-" not in path.stem)
    return commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]


def ask_directly(release: str, port: int, *bases: str) -> str:
    """What is wrong with the server of a port, by a process with a dead proxy in every variable that programs read."""
    names = [each for name in ("http_proxy", "https_proxy", "all_proxy") for each in (name, name.upper())]
    environment = dict.fromkeys(names, "http://127.0.0.1:9")
    command = [release, "-c", ASK, str(FILES), str(port), *bases]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_asks_through_no_proxy_and_on_a_new_connection_each_time(release: str) -> None:
    """A real server. One that is dead accepts no new connection; on an old one that would not be seen."""
    clients = set()

    class Healthy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            clients.add(self.client_address)
            self.send_response(200 if self.path == "/api/health" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            said = ask_directly(release, listening.server_port, "/api", "/elsewhere")
        finally:
            listening.shutdown()
    assert said == "['', '', 'answers HTTP 500', 'answers HTTP 500']"
    assert len(clients) == 4


def test_says_why_a_server_does_not_answer(release: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert ask_directly(release, silent.getsockname()[1], "/api") == str(["does not answer (timed out)"] * 2)
        port = silent.getsockname()[1]
    assert "does not answer ([Errno 111] Connection refused)" in ask_directly(release, port, "/api")


def process_folder(proc: Path, pid: int, parent: int, cgroup: str, started: int = 100) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(f"4:memory:/\n0::{cgroup}\n")
    (folder / "stat").write_text(f"{pid} (a ) b) S {parent} {' '.join('0' * 17)} {started} 0\n".replace("' '", " "))


def test_finds_the_main_process(tmp_path: Path) -> None:
    process_folder(tmp_path, 30, 20, "/system.slice/prefect-services.service")
    process_folder(tmp_path, 20, 1, "/docker/abc/system.slice/prefect-services.service", 4321)
    process_folder(tmp_path, 10, 1, "/system.slice/other-prefect-services.service")
    (tmp_path / "40").mkdir()
    (tmp_path / "self").mkdir()
    found = ProcFs(tmp_path).main(SERVICES)
    assert found
    assert (found.pid, found.started) == (20, 4321)
    assert ProcFs(tmp_path).main(API) is None


def sleeper(*signals: str) -> subprocess.Popen[str]:
    ignore = f"for s in {signals!r}: signal.signal(getattr(signal, s), signal.SIG_IGN)"
    code = f"import signal, time\n{ignore}\nprint('ready', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.mark.parametrize(
    ("ignores", "frozen", "took"),
    [((), False, "SIGTERM"), ((), True, "SIGTERM"), (("SIGTERM",), False, "SIGKILL"), (("SIGTERM",), True, "SIGKILL")],
)
def test_stops_a_process_whatever_it_takes(ignores: tuple[str, ...], frozen: bool, took: str) -> None:
    process = sleeper(*ignores)
    if frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        known = Process(process.pid, started(process.pid), 0.0)
        assert ProcFs().stop(known, [(signal.SIGTERM, 0.5), (signal.SIGKILL, 5.0)]) == f"it ended on {took}"
        assert process.wait(5) == -getattr(signal, took)
    finally:
        process.kill()


def test_never_stops_another_process_of_the_same_number() -> None:
    process = sleeper()
    try:
        known = Process(process.pid, started(process.pid) - 1, 0.0)
        assert ProcFs().stop(known, [(signal.SIGKILL, 1.0)]) == "it had ended already"
        assert process.poll() is None
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("script", "ports"),
    [
        ("""echo '{"nftables": [{"metainfo": {}}, {"set": {"elem": [4200, 4201]}}]}'""", {4200, 4201}),
        ("""echo '{"nftables": [{"set": {"name": "ports"}}]}'""", set()),
        ("echo 'Error: No such file or directory' >&2; exit 1", set()),
        ("echo 'Operation not permitted' >&2; exit 1", None),
    ],
)
def test_sees_which_servers_are_drained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, ports: set[int] | None) -> None:
    nft = tmp_path / "nft"
    nft.write_text(f"#!/bin/sh\n{script}\n")
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    if ports is None:
        with pytest.raises(OSError, match="not permitted"):
            probing.drained_ports()
    else:
        assert probing.drained_ports() == ports


def test_begins_anew_when_what_it_follows_changes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    link, folder = tmp_path / "current", tmp_path / "metrics"
    link.symlink_to(tmp_path / "a")
    before = program.stamp([link], folder)
    assert program.stamp([link], folder) == before
    link.unlink()
    link.symlink_to(tmp_path / "b")
    turned = program.stamp([link], folder)
    folder.mkdir()
    assert len({str(each) for each in (before, turned, program.stamp([link], folder))}) == 3


def test_arguments_are_those_of_the_unit() -> None:
    template = (Path(__file__).resolve().parents[2] / "roles/prefect_watchdog/templates/prefect-watchdog.service.j2").read_text()
    words = [word for line in template.splitlines() if line.startswith("    --") for word in line.split() if word.startswith("--")]
    assert "--policy-services" in words
    values = {"--services": [], "--tls": [], "--address": ["127.0.0.1"]}
    given = program.parse([part for word in words for part in [word, *values.get(word, ["5"])]])
    assert program.policy(given) == RestartPolicy(**dict.fromkeys(json.loads(json.dumps(vars(RestartPolicy()))), 5.0))
    assert given.services
    assert given.tls


def test_time_is_real() -> None:
    assert ProcFs._age(int((time.clock_gettime(time.CLOCK_BOOTTIME) - 5) * os.sysconf("SC_CLK_TCK"))) == pytest.approx(5, abs=1)


# --- a server, asked as its clients ask it ---


@dataclass
class Answering:
    """The server's end of a websocket: it answers with these, then with silence."""

    answers: list[Any]
    sent: list[Any] = field(default_factory=list)
    url: str = ""
    tls: ssl.SSLContext | None = None

    def __call__(self, url: str, _seconds: float, tls: ssl.SSLContext | None) -> AbstractContextManager[Channel]:
        self.url, self.tls = url, tls
        return nullcontext(self)

    def send(self, message: str) -> None:
        self.sent.append(json.loads(message))

    def recv(self, timeout: float) -> str:  # noqa: ARG002  the library's own signature
        answer = self.answers.pop(0) if self.answers else TimeoutError()
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer)


@dataclass
class Posted:
    """A request that the server was sent."""

    url: str
    event: Any
    headers: Any


LOGIN = {"type": "auth_success"}


def ask(
    answers: list[Any], taken: Exception | int = 201, published: bool = True, tls: ssl.SSLContext | None = None
) -> tuple[Any, Answering, list[Posted]]:
    """Probes a server that answers so; PROBE among the answers is the event that was sent, ``taken`` what becomes of that."""
    channel, posted = Answering(answers), []

    def requests(base: str, timeout: float, given: ssl.SSLContext | None, *, csrf: bool) -> Any:
        assert (timeout, given, csrf) == (2, tls, True)

        def request(method: str, path: str, *, json: Any, headers: Any) -> int:
            assert method == "POST"
            posted.append(Posted(base + path, json[0], headers))
            if isinstance(taken, Exception):
                raise taken
            channel.answers = [{"type": "event", "event": json[0]} if answer == "PROBE" else answer for answer in channel.answers]
            return taken

        return request

    settings = Settings({"PREFECT_SERVER_API_AUTH_STRING": "a:b", "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "True"})
    server = probing.ApiServer(
        "::1", 4200, settings, 2, published=lambda identity: published and bool(identity), tls=tls, requests=requests, channel=channel
    )
    return server.probe(), channel, posted


@pytest.mark.parametrize(
    ("answers", "taken", "verdict", "text"),
    [
        pytest.param([LOGIN, "PROBE"], 201, WELL, "", id="comes back"),
        pytest.param([LOGIN, {"type": "event", "event": {"id": "another"}}, "PROBE"], 201, WELL, "", id="comes after another"),
        pytest.param([LOGIN], 201, DEAD, "that is in Redis did not come back within 2 s", id="does not come back"),
        pytest.param([LOGIN, {"type": "event", "event": {"id": "another"}}], 201, DEAD, "did not come back", id="another comes"),
        pytest.param([{"type": "error"}], 201, UNKNOWN, "the login was refused", id="login"),
        pytest.param([ConnectionError("closed with 1008")], 201, UNKNOWN, "closed with 1008", id="closed"),
        pytest.param([LOGIN, ConnectionError("closed with 1012")], 201, UNKNOWN, "closed with 1012", id="closed while it waits"),
        pytest.param([LOGIN], ConnectionError("refused"), UNKNOWN, "was not taken: refused", id="not sent"),
        pytest.param([LOGIN], 500, UNKNOWN, "refused with HTTP 500", id="refused"),
        pytest.param([], 201, UNKNOWN, "no subscription: TimeoutError", id="silent from the beginning"),
    ],
)
def test_probe(answers: list[Any], taken: Exception | int, verdict: Any, text: str) -> None:
    (seen, why), channel, _posted = ask(list(answers), taken)
    assert seen is verdict
    assert text in why
    assert channel.url == "ws://[::1]:4200/api/events/out"
    assert channel.sent[0] == {"type": "auth", "token": "a:b"}


def test_an_event_that_is_not_in_redis_says_nothing_of_the_server() -> None:
    (seen, why), _channel, _posted = ask([LOGIN], published=False)
    assert (seen, "not in the Redis that the watchdog asks" in why) == (UNKNOWN, True)


def test_finds_an_event_where_servers_read_it() -> None:
    class Stream:
        def execute_command(self, *words: Any) -> Any:
            assert words[:4] == ("XREVRANGE", "events", "+", "-")
            return [["1-0", ["data", '{"id": "one"}']], ["2-0", ["data", '{"id": "two"}']]]

    assert probing.published(Stream(), "one")
    assert not probing.published(Stream(), "three")


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "redis://prefect:s@cache:6380/0?x=1"),
        ({"PREFECT_REDIS_MESSAGING_DB": "3"}, "redis://prefect:s@cache:6380/3?x=1"),
        ({"PREFECT_REDIS_MESSAGING_URL": "rediss://other/0"}, "rediss://other/0"),
    ],
)
def test_where_events_are_published(environment: dict[str, str], url: str) -> None:
    assert Settings({"PREFECT_SERVER_DOCKET_URL": "redis://prefect:s@cache:6380/1?x=1", **environment}).messaging_url == url


def test_probe_takes_only_its_own_event_and_no_old_ones() -> None:
    _seen, channel, [posted] = ask([LOGIN, "PROBE"])
    wanted, event = channel.sent[1], posted.event
    assert wanted["backfill"] is False
    assert wanted["filter"]["resource"] == {"id": [event["resource"]["prefect.resource.id"]]}
    assert wanted["filter"]["event"] == {"name": [event["event"]]}
    assert wanted["filter"]["occurred"]["since"] < event["occurred"] < wanted["filter"]["occurred"]["until"]
    assert posted.url == "http://[::1]:4200/api/events"
    assert posted.headers == {"Authorization": "Basic YTpi"}
    assert (channel.url, channel.tls) == ("ws://[::1]:4200/api/events/out", None)


def test_probe_by_tls() -> None:
    context = ssl.create_default_context()
    _seen, channel, [posted] = ask([LOGIN, "PROBE"], tls=context)
    assert posted.url == "https://[::1]:4200/api/events"
    assert (channel.url, channel.tls) == ("wss://[::1]:4200/api/events/out", context)


# What asks it is a process of its own, with the release's libraries: argv has the module's folder, the port, the CA and the host.
ASK_BY_TLS = """
import sys
sys.path.insert(0, sys.argv[1])
from selfhosted_prefect.connections import http_requests, open_websocket, trusting
where, tls = f"{sys.argv[4]}:{sys.argv[2]}", trusting(sys.argv[3])
for csrf in (False, True):
    try:
        request = http_requests(f"https://{where}/api", 5, tls, csrf=csrf)
        print([request(method, "/events", json=[], headers={"Authorization": "x"}) for method in ("GET", "POST", "POST")])
    except OSError as error:
        print(type(error).__name__, error)
"""
WEBSOCKET_BY_TLS = """
import asyncio, ssl, sys, threading
sys.path.insert(0, sys.argv[1])
from selfhosted_prefect.connections import open_websocket, trusting
from websockets.asyncio.server import serve
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[3:])
loop = asyncio.new_event_loop()

async def greet(client):
    await client.send("well")

async def listen():
    return await serve(greet, "127.0.0.1", 0, ssl=context, subprotocols=["prefect"])

server = loop.run_until_complete(listen())
thread = threading.Thread(target=loop.run_forever)
thread.start()
port = server.sockets[0].getsockname()[1]
for host in ("127.0.0.1", "localhost"):
    try:
        with open_websocket(f"wss://{host}:{port}/", 5, trusting(sys.argv[2])) as channel:
            print(channel.recv(5))
    except OSError as error:
        print(error)
loop.call_soon_threadsafe(loop.stop)
thread.join()
"""


@dataclass
class Guarded:
    """An API server that speaks TLS and wants a token for what changes something."""

    issued: Issued
    port: int = 0
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Guarded:
        guarded = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                guarded.asked.append(f"GET {self.path.partition('?')[0]} {self.headers['Authorization']}")
                client = self.path.partition("client=")[2]
                self.answer(200, json.dumps({"token": f"for {client}"}).encode() if client else b"")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                client, token = (self.headers[f"Prefect-Csrf-{part}"] for part in ("Client", "Token"))
                self.answer(201 if client and token == f"for {client}" else 403, b"")

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = self.issued.context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def by_tls(release: str, program: str, *arguments: object) -> list[str]:
    command = [release, "-c", program, str(FILES), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_requests_by_tls_carry_a_token_where_one_is_wanted(release: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Guarded(authority.issue("127.0.0.1")) as server:
        assert by_tls(release, ASK_BY_TLS, server.port, authority.file, "127.0.0.1") == ["[200, 403, 403]", "[200, 201, 201]"]
    assert server.asked.count("GET /api/csrf-token x") == 2


def test_requests_by_tls_verify_chain_and_name(release: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "another").mkdir()
    another = Authority(tmp_path / "another")
    with Guarded(authority.issue("127.0.0.1")) as server:
        for file, host, why in (
            (authority.file, "localhost", "mismatch"),
            (another.file, "127.0.0.1", "verify failed"),
        ):
            said = by_tls(release, ASK_BY_TLS, server.port, file, host)
            assert [why in line and line.startswith("ConnectionError") for line in said] == [True, True], said
    assert server.asked == []


def test_a_websocket_by_tls_verifies_chain_and_name(release: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("127.0.0.1")
    good, bad = by_tls(release, WEBSOCKET_BY_TLS, authority.file, issued.certificate, issued.key)
    assert good == "well"
    assert "mismatch" in bad
