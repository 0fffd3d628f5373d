"""Restart Prefect's processes that live and do not work.

systemd sees a process that ends. This sees what only Prefect's own traces show: background services whose worker or scheduler
has gone silent, and an API server that does not answer, or whose stream of events, /events/out, has died with an outage of
Redis. It runs as Prefect's own user: it asks a process to stop, and systemd starts it again. Nothing else needs a right.

It restarts a process only when a second sign, which does not come the same way, agrees with the first: what the kernel shows of
the process, of its port and of its connections. When the two disagree, the fault may be in how the watchdog looks; it then says
both, once, and does nothing.

It restarts nothing while a deployment goes on (its lock is in Redis), no server that is drained, nothing while PostgreSQL or
Redis is away, one API server and one services process of the whole site at a time, no other one until that works again, and the
same one again only after a pause that doubles. All the time it also hands over what dead workers of any host hold (see
hand_over.py).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from http.client import HTTPException
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

SERVICES_UNIT = "prefect-services.service"
SCHEDULER = "prefect:runs:schedule_recent_deployments"
WORKERS = "prefect:workers"
DEPLOYMENT = "selfhosted.prefect:deployment"
LEASE = "selfhosted.prefect:watchdog"
EVENT = "selfhosted-prefect.watchdog.probe"
NEWEST = 1000
"""Entries of it that are searched for an event of some seconds ago."""
EVENTS = "events"
"""The stream in Redis that every server reads events from."""
OVERDUE = 10.0
"""Seconds. A worker shows itself every 2, and the scheduler's next tick is in the future but for moments."""
LEASE_SECONDS = 120
SAMPLES = 3
"""Looks in a row at which the kernel has to show the same: one may have met a process that was only busy."""
SAMPLES_SECONDS = 10.0
"""Seconds that these looks have to span."""
PROBES = 2
"""How many probes in a row have to fail: one may have met the server while it was connecting again."""
SCHEDULER_INTERVAL = "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS"
SWITCHED_OFF = "SELFHOSTED_PREFECT_SWITCHED_OFF"
"""The parts of Prefect that the settings switch off, in the settings file of the role prefect."""
RELEASE = """if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"""


def log(text: str, level: int = 6) -> None:
    """A line for the journal, which takes its level (6: information, 4: warning) from its beginning."""
    print(f"<{level}>{text}", flush=True)


# Asks this host's own servers: never through a proxy that the environment names.
direct = build_opener(ProxyHandler({})).open


# --- what is looked at ---


@dataclass(frozen=True)
class Process:
    """A unit's main process; ``started`` in the kernel's ticks since the boot."""

    pid: int
    started: int
    age: float


@dataclass(frozen=True)
class Snapshot:
    """What the kernel shows of a process at one moment."""

    state: str
    """R, S, D, T, t or Z, as in /proc."""
    cpu: float
    """Seconds of CPU time since it started."""
    waiting: int | None = None
    """Connections on its port that it has not accepted; none: nothing listens there."""
    peers: frozenset[str] | None = frozenset()
    """Where its connections lead; none: cannot be seen."""


class Processes(Protocol):
    """The processes of this host's units."""

    def main(self, unit: str) -> Process | None:
        """The main process of a unit, if it has one."""

    def snapshot(self, process: Process, port: int = 0) -> Snapshot | None:
        """None when it has ended."""

    def own_peers(self) -> frozenset[str]:
        """Where the connections of this very process lead: to Redis."""

    def stop(self, process: Process, ways: Sequence[tuple[int, float]]) -> str:
        """Sends each signal in turn and waits so many seconds for the end; what it took."""


class Verdict(Enum):
    """What a probe of a server's stream of events showed."""

    WELL = "well"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Server(Protocol):
    """One API server of this host."""

    def fault(self) -> str:
        """Why it does not count as answering; empty when it answers."""

    def probe(self) -> tuple[Verdict, str]:
        """What was found, and in which words."""


class Redis(Protocol):
    """What is needed of a connection to Redis."""

    def execute_command(self, *words: object) -> Any:  # noqa: ANN401  a reply may be anything
        """The reply to a command."""


ESTABLISHED, LISTEN = "01", "0A"


class Socket(NamedTuple):
    """A line of /proc/net/tcp."""

    state: str
    port: int
    peer: str
    queue: int
    inode: str


class ProcFs:
    """Processes as /proc shows them."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def main(self, unit: str) -> Process | None:
        for folder in self._proc.iterdir():
            if not folder.name.isdigit():
                continue
            try:
                if any(line.rpartition("/")[2] == unit for line in (folder / "cgroup").read_text().splitlines()):
                    parent, started = self._stat(folder)
                    # systemd's own child; the others are its children.
                    if parent == 1:
                        return Process(int(folder.name), started, self._age(started))
            except (OSError, ValueError, IndexError):
                continue  # gone meanwhile, or somebody else's
        return None

    def snapshot(self, process: Process, port: int = 0) -> Snapshot | None:
        folder = self._proc / str(process.pid)
        try:
            words = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(words[19]) != process.started:
                return None
            cpu = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            table = list(self._sockets())
        except (OSError, ValueError, IndexError):
            return None
        queues = [each.queue for each in table if each.state == LISTEN and each.port == port]
        return Snapshot(words[0], cpu, sum(queues) if queues else None, self._peers(folder, table))

    def own_peers(self) -> frozenset[str]:
        return self._peers(self._proc / "self", list(self._sockets())) or frozenset()

    def _sockets(self) -> Iterator[Socket]:
        for name in ("tcp", "tcp6"):
            path = self._proc / "self" / "net" / name
            # A host without IPv6 has no tcp6.
            for line in path.read_text().splitlines()[1:] if path.exists() else []:
                words = line.split()
                # Of a socket that listens, the receive queue is what waits to be accepted.
                port, queue = int(words[1].rpartition(":")[2], 16), int(words[4].partition(":")[2], 16)
                yield Socket(words[3], port, words[2], queue, words[9])

    @staticmethod
    def _peers(folder: Path, table: Sequence[Socket]) -> frozenset[str] | None:
        inodes = set()
        try:
            for link in (folder / "fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            return None
        return frozenset(each.peer for each in table if each.state == ESTABLISHED and each.inode in inodes)

    def stop(self, process: Process, ways: Sequence[tuple[int, float]]) -> str:
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return "it had ended already"
        try:
            if self._stat(self._proc / str(process.pid))[1] != process.started:
                return "it had ended already"
            # A frozen process takes no other signal than SIGKILL.
            signal.pidfd_send_signal(handle, signal.SIGCONT)
            for number, seconds in ways:
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], seconds)[0]:
                    return f"it ended on {signal.Signals(number).name}"
        except (OSError, ValueError, IndexError):
            return "it has ended"
        finally:
            os.close(handle)
        return "it has not ended"

    @staticmethod
    def _age(started: int) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _stat(folder: Path) -> tuple[int, int]:
        # The name, in brackets, may hold anything.
        words = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return int(words[1]), int(words[19])


class Channel(Protocol):
    """A websocket that is open."""

    def send(self, text: str) -> None:
        """Send a notification."""

    def receive(self, seconds: float) -> str:
        """Raises TimeoutError when nothing has come by then, and ConnectionError when nothing will."""


@contextmanager
def websocket(url: str, seconds: float) -> Iterator[Channel]:
    """Opens a websocket of Prefect's."""
    from websockets.exceptions import WebSocketException  # noqa: PLC0415  only a release has it
    from websockets.sync.client import ClientConnection, connect  # noqa: PLC0415

    class Open:
        def __init__(self, connection: ClientConnection) -> None:
            self.send = connection.send
            self._connection = connection

        def receive(self, seconds: float) -> str:
            return str(self._connection.recv(seconds))

    try:
        with connect(url, subprotocols=["prefect"], proxy=None, open_timeout=seconds, close_timeout=1) as connection:
            yield Open(connection)
    except WebSocketException as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


class ApiServer:
    """An API server, asked as its clients ask it."""

    def __init__(
        self,
        address: str,
        port: int,
        environment: Mapping[str, str],
        timeout: float,
        *,
        published: Callable[[str], bool],
        channel: Callable[[str, float], AbstractContextManager[Channel]] = websocket,
    ) -> None:
        host = f"[{address}]" if ":" in address else address
        base = environment.get("PREFECT_SERVER_API_BASE_PATH", "/api")
        self._base = f"{host}:{port}{base}"
        self._auth = environment.get("PREFECT_SERVER_API_AUTH_STRING", "")
        self._resource = f"selfhosted-prefect.watchdog.{socket.gethostname()}.{port}"
        self._timeout = timeout
        self._published = published
        self._channel = channel

    def fault(self) -> str:
        try:
            with direct(f"http://{self._base}/health", timeout=self._timeout) as answer:
                return "" if answer.status == 200 else f"answers HTTP {answer.status}"
        except HTTPError as error:
            return f"answers HTTP {error.code}"
        except (OSError, HTTPException) as error:
            return f"does not answer ({str(error) or type(error).__name__})"

    def probe(self) -> tuple[Verdict, str]:
        """Subscribes to an event, sends it, and waits for it."""
        try:
            with self._channel(f"ws://{self._base}/events/out", self._timeout) as channel:
                channel.send(json.dumps({"type": "auth", "token": self._auth}))
                if json.loads(channel.receive(self._timeout)).get("type") != "auth_success":
                    return Verdict.UNKNOWN, "the login was refused"
                channel.send(json.dumps({"type": "filter", "filter": self._filter(), "backfill": False}))
                sent = str(uuid.uuid4())
                refused = self._send(sent)
                if refused:
                    return Verdict.UNKNOWN, refused
                return self._await(channel, sent)
        except (OSError, ValueError) as error:
            return Verdict.UNKNOWN, f"no subscription: {str(error) or type(error).__name__}"

    def _await(self, channel: Channel, identity: str) -> tuple[Verdict, str]:
        end = time.monotonic() + self._timeout
        try:
            while (left := end - time.monotonic()) > 0:
                if json.loads(channel.receive(left)).get("event", {}).get("id") == identity:
                    return Verdict.WELL, ""
        except TimeoutError:
            pass
        # The second sign: published where every server reads, and not read by this one.
        if self._published(identity):
            return Verdict.DEAD, f"an event that is in Redis did not come back within {self._timeout:g} s"
        return Verdict.UNKNOWN, f"an event did not come back within {self._timeout:g} s, and it is not in the Redis that the watchdog asks"

    def _filter(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        span = {"since": (now - timedelta(minutes=5)).isoformat(), "until": (now + timedelta(days=1)).isoformat()}
        return {"occurred": span, "event": {"name": [EVENT]}, "resource": {"id": [self._resource]}}

    def _send(self, identity: str) -> str:
        event = {
            "id": identity,
            "occurred": datetime.now(UTC).isoformat(),
            "event": EVENT,
            "resource": {"prefect.resource.id": self._resource},
        }
        request = Request(f"http://{self._base}/events", json.dumps([event]).encode(), {"Content-Type": "application/json"})
        if self._auth:
            request.add_header("Authorization", f"Basic {b64encode(self._auth.encode()).decode()}")
        try:
            with direct(request, timeout=self._timeout):
                return ""
        except HTTPError as error:
            return f"the event was refused with HTTP {error.code}"
        except OSError as error:
            return f"the event was not taken: {error}"


def drained_ports() -> set[int]:
    """The ports of this host that the kernel refuses new connections to (see the module prefect_drain)."""
    command = ["nft", "--json", "list", "set", "inet", "prefect_drain", "ports"]
    try:
        shown = subprocess.run(command, capture_output=True, timeout=5, check=False)
    except FileNotFoundError:
        return set()  # without nft nothing was ever drained
    if shown.returncode:
        if b"No such file" in shown.stderr:
            return set()
        raise OSError(shown.stderr.decode(errors="replace").strip() or "nft failed")
    sets = [entry["set"] for entry in json.loads(shown.stdout)["nftables"] if "set" in entry]
    return {port for each in sets for port in each.get("elem", []) if isinstance(port, int)}


# --- what is remembered ---


@dataclass
class Memory:
    """What has been done, kept over restarts of the watchdog: counts, and until when a unit is left alone."""

    restarts: dict[str, int] = field(default_factory=dict)
    """By ``unit reason``."""
    handed_over: int = 0
    pause: dict[str, float] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)
    """The leases of units that were restarted and do not work yet."""
    tried: dict[str, float] = field(default_factory=dict)
    """When such a unit was restarted for the first time."""

    @classmethod
    def load(cls, path: Path) -> Memory:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        replace(path, json.dumps(asdict(self)))


def replace(path: Path, text: str) -> None:
    """Writes a file so that nobody sees half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


METRICS = {
    "prefect_watchdog_last_check_timestamp_seconds": ("gauge", "When the watchdog last looked at the processes of this host."),
    "prefect_watchdog_healthy": ("gauge", "Whether the unit runs and works."),
    "prefect_watchdog_signs_disagree": ("gauge", "Whether it looks dead and the kernel shows otherwise, so that it is not restarted."),
    "prefect_watchdog_cannot_heal": ("gauge", "Whether a restart, of this unit or of another one of its kind, has not helped."),
    "prefect_watchdog_restarts_total": ("counter", "Restarts by the watchdog, and why."),
    "prefect_watchdog_handed_over_total": ("counter", "Tasks of dead workers that were given to others."),
}


def metrics(memory: Memory, healthy: Mapping[str, bool], now: float, doubted: Set[str] = frozenset(), stuck: Set[str] = frozenset()) -> str:
    """The figures as Prometheus reads them. ``doubted`` are the units whose signs disagree, ``stuck`` those that no restart heals."""

    def flags(units: Set[str]) -> list[str]:
        return [f'{{unit="{unit}"}} {int(unit in units)}' for unit in sorted(healthy)]

    restarts = [(*name.partition(" ")[::2], number) for name, number in sorted(memory.restarts.items())]
    values = {
        "prefect_watchdog_last_check_timestamp_seconds": [f" {now:.3f}"],
        "prefect_watchdog_healthy": flags({unit for unit, well in healthy.items() if well}),
        "prefect_watchdog_signs_disagree": flags(doubted),
        "prefect_watchdog_cannot_heal": flags(stuck),
        "prefect_watchdog_restarts_total": [f'{{unit="{unit}",reason="{why}"}} {number}' for unit, why, number in restarts],
        "prefect_watchdog_handed_over_total": [f" {memory.handed_over}"],
    }
    lines = []
    for name, (kind, text) in METRICS.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(name + value for value in values[name])]
    return "\n".join([*lines, ""])


# --- what is decided ---


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
class Fault:
    """What is wrong with a unit. Without a reason there is nothing to restart, or not yet."""

    text: str
    reason: str = ""
    doubt: str = ""
    """The second sign, when it does not agree with the first."""


class Evidence:
    """The second sign: what the kernel has shown of a process since it seems not to work."""

    def __init__(self) -> None:
        self._pid = 0
        self._seen: list[tuple[float, Snapshot]] = []

    def forget(self) -> None:
        self._seen.clear()

    def add(self, now: float, process: Process, snapshot: Snapshot | None) -> None:
        if process.pid != self._pid:
            self._pid = process.pid
            self.forget()
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


Judge = Callable[[Redis, Process], Fault | None]


@dataclass
class Stream:
    """What is known of one server's stream of events."""

    pid: int = 0
    due: float = 0.0
    failed: int = 0
    text: str = ""


@dataclass(frozen=True)
class World:
    """Everything outside, to be replaced in tests. Times are seconds since the epoch."""

    host: str
    processes: Processes
    servers: Mapping[int, Server]
    redis: Callable[[], Redis]
    workers: Callable[[int, int], Sequence[str]]
    """What a process, by its number and its start, may be called as a worker."""
    hand_over: Callable[[Redis, float], Sequence[object]]
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


class Watchdog:
    """Looks, judges and restarts, one round after the other."""

    def __init__(self, world: World, memory: Memory, services: bool, patience: Patience = Patience()) -> None:
        self._world = world
        self._patience = patience
        self._services = services
        self.memory = memory
        self.healthy: dict[str, bool] = {}
        self.doubted: set[str] = set()
        self.stuck: set[str] = set()
        self._evidence: dict[str, Evidence] = {}
        self._unseen: set[str] = set()
        """Servers whose stream of events could not be probed."""
        self._tick: tuple[object, float] = ("", 0.0)
        self._held_by: dict[str, float] = {}
        self._redis: Redis | None = None
        self._run_id = ""
        self._back = 0.0
        self._away = False
        self._since: dict[str, float] = {}
        self._streams: dict[int, Stream] = {port: Stream() for port in world.servers}
        self._said: dict[str, str] = {}

    def round(self) -> None:
        """Everything once. Without Redis there is nothing to go by, and a restart would help nobody."""
        try:
            redis = self._connected()
            for moved in self._world.hand_over(redis, self._back):
                self._world.log(str(moved), 4)
                self.memory.handed_over += 1
            for unit, judge in self._units().items():
                fault = self._judge(unit, judge, redis)
                self.healthy[unit] = fault is None
                self._note_doubt(unit, fault)
                if fault is None:
                    self._well(redis, unit)
                    continue
                self._keep_lease(redis, unit)
                if fault.reason:
                    self._heal(redis, unit, fault)
        except Exception as error:
            if not (isinstance(error, OSError) or type(error).__module__.startswith("redis")):
                raise
            self._lost(error)

    @property
    def interval(self) -> float:
        """At most so many seconds until the next round. What waits for Redis waits for the watchdog, too."""
        return 1.0 if self._away else float("inf")

    def _lost(self, error: Exception) -> None:
        if not self._away:
            self._world.log(f"Redis cannot be asked ({self._world.explain(error)}): nothing is judged until it can", 4)
        self._redis, self._away = None, True
        self.healthy = dict.fromkeys(self._units(), False)

    def _units(self) -> dict[str, Judge]:
        services: dict[str, Judge] = {SERVICES_UNIT: self._judge_services} if self._services else {}
        return services | {api_unit(port): partial(self._judge_api, port) for port in self._world.servers}

    def _connected(self) -> Redis:
        """A connection that works."""
        self._redis = self._redis or self._world.redis()
        server = str(self._redis.execute_command("INFO", "server"))
        run_id = dict(line.split(":", 1) for line in server.splitlines() if ":" in line)["run_id"]
        if self._away or (self._run_id and run_id != self._run_id):
            self._came_back()
        self._run_id = run_id
        return self._redis

    def _came_back(self) -> None:
        self._world.log("Redis is back: the streams of events are probed", 6)
        self._away, self._back = False, self._world.now()
        self._since.clear()
        for stream in self._streams.values():
            stream.due = 0.0

    def _judge(self, unit: str, judge: Judge, redis: Redis) -> Fault | None:
        process = self._world.processes.main(unit)
        if process is None:
            self._since.pop(unit, None)
            return Fault("is not running")
        return judge(redis, process)

    def _lasting(self, unit: str, fault: Fault | None, patience: float) -> Fault | None:
        """The fault, with its reason only when it has lasted."""
        if fault is None:
            self._since.pop(unit, None)
            return None
        since = self._since.setdefault(unit, self._world.now())
        lasted = self._world.now() - since
        return Fault(f"{fault.text}, for {lasted:.0f} s", fault.reason if lasted >= patience else "")

    def _confirmed(self, unit: str, fault: Fault | None, sign: Callable[[Evidence], str]) -> Fault | None:
        """The fault, with its reason only when the second sign agrees."""
        if fault is None or not fault.reason:
            return fault
        evidence = self._evidence[unit]
        agrees = sign(evidence)
        return Fault(f"{fault.text}, and {agrees}", fault.reason) if agrees else Fault(fault.text, doubt=str(evidence))

    def _look(self, unit: str, process: Process, port: int = 0) -> None:
        """Gathers the second sign of a unit that seems not to work."""
        snapshot = self._world.processes.snapshot(process, port)
        self._evidence.setdefault(unit, Evidence()).add(self._world.now(), process, snapshot)

    def _note_doubt(self, unit: str, fault: Fault | None) -> None:
        doubt = fault.doubt if fault else ""
        (self.doubted.add if doubt or unit in self._unseen else self.doubted.discard)(unit)
        if doubt and fault:
            self._say(f"{unit} doubt", f"{unit} {fault.text}, but {doubt}: the signs disagree, and it is not restarted")
        elif self._said.pop(f"{unit} doubt", ""):
            self._world.log(f"{unit}: its signs agree again", 6)

    def _judge_services(self, redis: Redis, process: Process) -> Fault | None:
        young = process.age < self._patience.grace
        # Until one that was restarted shows itself, no other one is restarted.
        if young and SERVICES_UNIT not in self.memory.leases:
            return None
        now = self._world.now()
        beat = self._last_beat(redis, process)
        if beat is None or now - beat > OVERDUE:
            if young:
                return Fault("does not show itself yet")
            self._look(SERVICES_UNIT, process)
            silent = self._lasting(SERVICES_UNIT, Fault("shows no sign of life in Redis", "silent"), self._patience.services)
            peers = self._world.processes.own_peers()
            return self._confirmed(SERVICES_UNIT, silent, lambda evidence: evidence.of_services(peers))
        self._evidence.pop(SERVICES_UNIT, None)
        return self._judge_scheduler(redis)

    def _last_beat(self, redis: Redis, process: Process) -> float | None:
        beats = [redis.execute_command("ZSCORE", WORKERS, name) for name in self._world.workers(process.pid, process.started)]
        return max((float(beat) for beat in beats if beat is not None), default=None)

    def _judge_scheduler(self, redis: Redis) -> Fault | None:
        """Two signs: the next tick is overdue by the clock, and it has not moved, whatever the clocks say."""
        if "scheduler" in self._world.switched_off:
            return self._lasting(SERVICES_UNIT, None, 0.0)
        now = self._world.now()
        tick = redis.execute_command("HGET", SCHEDULER, "when")
        if tick != self._tick[0]:
            self._tick = (tick, now)
        if tick is not None and now - float(tick) <= OVERDUE:
            return self._lasting(SERVICES_UNIT, None, 0.0)
        if now - self._tick[1] < self._world.scheduler_interval + OVERDUE:
            self._since.pop(SERVICES_UNIT, None)
            late = "has never ticked" if tick is None else f"is {now - float(tick):.0f} s late by this host's clock"
            moves = "it has not been watched for long" if tick is None else "it goes on ticking: the clocks of the hosts differ"
            return Fault(f"is alive, and its scheduler {late}", doubt="" if tick is None else moves)
        fault = Fault("is alive, but its scheduler does not tick", "scheduler")
        return self._lasting(SERVICES_UNIT, fault, self._patience.services)

    def _judge_api(self, port: int, _redis: Redis, process: Process) -> Fault | None:
        unit, server, stream, now = api_unit(port), self._world.servers[port], self._streams[port], self._world.now()
        wrong = server.fault()
        if wrong:
            if process.age < self._patience.grace:
                return Fault("does not answer yet")
            # After the question, which waits to be accepted by a server that is dead.
            self._look(unit, process, port)
            dead = self._lasting(unit, Fault(wrong, "unresponsive"), self._patience.api)
            return self._confirmed(unit, dead, lambda evidence: evidence.of_server(port))
        self._lasting(unit, None, 0.0)
        self._evidence.pop(unit, None)
        if stream.pid != process.pid:
            stream.pid, stream.due, stream.failed = process.pid, 0.0, 0
        if now >= stream.due and self._patience.probe_every > 0:
            self._probe(unit, server, stream)
        if stream.failed:
            return Fault(f"answers, but its stream of events is dead: {stream.text}", "event_stream" if stream.failed >= PROBES else "")
        return None

    def _probe(self, unit: str, server: Server, stream: Stream) -> None:
        """Probes until it is well, or has failed too often, or nothing can be said."""
        verdict = Verdict.DEAD
        # One that was given up, and not restarted yet, may have come back.
        stream.failed = min(stream.failed, PROBES - 1)
        while verdict is Verdict.DEAD and stream.failed < PROBES:
            verdict, stream.text = server.probe()
            stream.failed += verdict is Verdict.DEAD
        if verdict is Verdict.WELL:
            stream.failed, stream.due = 0, self._world.now() + self._patience.probe_every
        (self._unseen.add if verdict is Verdict.UNKNOWN else self._unseen.discard)(unit)
        self._say(unit, f"{unit}: its stream of events could not be probed: {stream.text}" if verdict is Verdict.UNKNOWN else "")

    # --- what is done ---

    def _well(self, redis: Redis, unit: str) -> None:
        self.stuck.discard(unit)
        self._held_by.pop(unit, None)
        self._said.pop(f"{unit} stuck", None)
        self.memory.tried.pop(unit, None)
        if unit in self.memory.leases:
            redis.execute_command("EVAL", RELEASE, 1, self.memory.leases.pop(unit), f"{self._world.host} {unit}")
            self._world.log(f"{unit} works again", 6)
        if self.memory.again.get(unit, 0.0) + self._patience.longest_pause < self._world.now():
            self.memory.pause.pop(unit, None)

    def _keep_lease(self, redis: Redis, unit: str) -> None:
        """Until a unit that was restarted works, no other one of its kind is: its restart may not have been the cure."""
        lease, mine = self.memory.leases.get(unit), f"{self._world.host} {unit}"
        if not lease:
            return
        holder = redis.execute_command("GET", lease)
        if holder in (None, mine):
            redis.execute_command("SET", lease, mine, "PX", LEASE_SECONDS * 1000)
        if self._world.now() - self.memory.tried.get(unit, self._world.now()) > self._patience.grace:
            self._is_stuck(unit, f"{unit} was restarted, and that did not help: no other one of its kind is restarted until it works")

    def _is_stuck(self, unit: str, text: str) -> None:
        self.stuck.add(unit)
        self._say(f"{unit} stuck", text)

    def _heal(self, redis: Redis, unit: str, fault: Fault) -> None:
        obstacle = self._obstacle(redis, unit)
        if obstacle:
            self._say(f"{unit} fault", f"{unit} {fault.text}; it is not restarted: {obstacle}")
            return
        process = self._world.processes.main(unit)
        if process is None:
            return
        self._said.pop(f"{unit} fault", None)
        name = f"{unit} {fault.reason}"
        pause = min(self.memory.pause.get(unit, self._patience.pause / 2) * 2, self._patience.longest_pause)
        self.memory.tried.setdefault(unit, self._world.now())
        self.memory.restarts[name] = self.memory.restarts.get(name, 0) + 1
        self.memory.pause[unit], self.memory.again[unit] = pause, self._world.now() + pause
        self._since.pop(unit, None)
        self._world.log(f"{unit} {fault.text}: process {process.pid} is asked to stop, and systemd starts it again", 4)
        self._world.log(f"{unit}: {self._world.processes.stop(process, ways(unit, self._patience.stop))}", 4)

    def _obstacle(self, redis: Redis, unit: str) -> str:
        """Why this is not the moment; empty when it is."""
        left = self.memory.again.get(unit, 0.0) - self._world.now()
        if left > 0:
            return f"it was restarted before; the next time is in {left:.0f} s at the earliest"
        if redis.execute_command("EXISTS", DEPLOYMENT):
            return "a deployment goes on"
        return self._why_drained(unit) or self._world.state_problem() or self._why_not_alone(redis, unit)

    def _why_drained(self, unit: str) -> str:
        if unit == SERVICES_UNIT:
            return ""
        try:
            return "it is drained" if unit in map(api_unit, self._world.drained()) else ""
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return f"whether it is drained cannot be seen ({error})"

    def _why_not_alone(self, redis: Redis, unit: str) -> str:
        lease = f"{LEASE}:{'services' if unit == SERVICES_UNIT else 'api'}"
        mine = f"{self._world.host} {unit}"
        if not redis.execute_command("SET", lease, mine, "NX", "PX", LEASE_SECONDS * 1000):
            holder = redis.execute_command("GET", lease)
            if holder != mine:
                return self._why_not_after(unit, str(holder))
        self._held_by.pop(unit, None)
        self.memory.leases[unit] = lease
        return ""

    def _why_not_after(self, unit: str, holder: str) -> str:
        since = self._held_by.setdefault(unit, self._world.now())
        if self._world.now() - since <= LEASE_SECONDS:
            return f"another one is being restarted: {holder}"
        self.stuck.add(unit)
        return f"another one was restarted and has not got better by it: {holder}. None of its kind is restarted until it works"

    def _say(self, about: str, text: str) -> None:
        """Says something once, until it is something else. Figures do not count."""
        plain = "".join(letter for letter in text if not letter.isdigit())
        if text and plain != self._said.get(about):
            self._world.log(text, 4)
        self._said[about] = plain


def api_unit(port: int) -> str:
    """The unit of the API server on a port."""
    return f"prefect-api@{port}.service"


def ways(unit: str, seconds: float) -> list[tuple[int, float]]:
    """How a unit's process is stopped so that nothing is lost, and otherwise at last."""
    if unit == SERVICES_UNIT:
        return [(signal.SIGINT, seconds), (signal.SIGINT, seconds), (signal.SIGKILL, 5.0)]
    return [(signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)]


# --- the program ---


def load(path: str) -> ModuleType:
    """A program as a module."""
    loader = SourceFileLoader("hand_over", path)
    spec = spec_from_loader(loader.name, loader)
    if spec is None:
        raise ImportError(path)
    module = module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


def notify(text: str) -> None:
    """Tells systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)


def state_problem(program: str) -> str:
    """What await_state.py says."""
    ended = subprocess.run([sys.executable, program, "5"], capture_output=True, text=True, timeout=60, check=False)
    return ended.stderr.strip() if ended.returncode else ""


def messaging_url(environment: Mapping[str, str]) -> str:
    """Where events are published."""
    if url := environment.get("PREFECT_REDIS_MESSAGING_URL"):
        return url
    # It is the same server with the same user: only the number of the database may differ.
    queue = urlsplit(environment["PREFECT_SERVER_DOCKET_URL"])
    return urlunsplit(queue._replace(path=f"/{environment.get('PREFECT_REDIS_MESSAGING_DB', '0')}"))


def published(redis: Redis, identity: str) -> bool:
    """Whether an event is where every server reads events."""
    newest = redis.execute_command("XREVRANGE", EVENTS, "+", "-", "COUNT", NEWEST)
    return any(identity in str(value) for _entry, fields in newest for value in fields)


def stamp(files: Sequence[Path], folder: Path) -> list[object]:
    """What files are, and when they last changed, and whether there is a folder."""
    return [folder.is_dir(), *((path.resolve(), path.stat().st_mtime_ns) for path in files)]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Restart Prefect's processes that live and do not work.")
    parser.add_argument("--services", action="store_true", help="this host runs the background services")
    parser.add_argument("--api", type=int, action="append", default=[], help="the port of an API server of this host")
    parser.add_argument("--address", default="127.0.0.1", help="where they listen")
    parser.add_argument("--await-state", required=True, help="the program that asks PostgreSQL and Redis")
    parser.add_argument("--hand-over", required=True, help="the program that hands over tasks of dead workers")
    parser.add_argument("--folder", type=Path, required=True, help="for figures and memory")
    parser.add_argument("--follow", type=Path, action="append", default=[], help="begin anew when this file is another one")
    parser.add_argument("--metrics", type=Path, required=True, help="the node exporter's folder: begin anew when it appears")
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--probe-timeout", type=float, default=5.0)
    for name in ("services", "api", "grace", "probe-every", "pause", "longest-pause", "stop"):
        parser.add_argument(f"--patience-{name}", type=float, default=getattr(Patience, name.replace("-", "_")))
    return parser.parse_args(words)


def patience(given: argparse.Namespace) -> Patience:
    return Patience(**{name: getattr(given, f"patience_{name}") for name in asdict(Patience())})


def main(given: argparse.Namespace) -> int:
    """Rounds until a file that is followed has changed."""
    hand_over = load(given.hand_over)
    here = hand_over.this_host()
    environment = dict(os.environ)

    queues = [hand_over.Queue(docket, here) for docket in hand_over.dockets(environment)]

    def everywhere(redis: Redis, since: float) -> list[object]:
        return [moved for queue in queues for moved in queue.hand_over(redis, everywhere=True, since=since)]

    def in_redis(identity: str) -> bool:
        return published(hand_over.connect({**environment, "PREFECT_SERVER_DOCKET_URL": messaging_url(environment)}), identity)

    world = World(
        # The session tells hosts of one name apart.
        host=f"{here.name}/{here.session}",
        processes=ProcFs(),
        servers={port: ApiServer(given.address, port, environment, given.probe_timeout, published=in_redis) for port in given.api},
        redis=lambda: hand_over.connect(environment),
        workers=here.workers,
        hand_over=everywhere,
        drained=drained_ports,
        state_problem=lambda: state_problem(given.await_state),
        explain=lambda error: str(hand_over.reason(error, environment)),
        switched_off=frozenset(environment.get(SWITCHED_OFF, "").split()),
        scheduler_interval=float(environment.get(SCHEDULER_INTERVAL) or 5.0),
    )
    if "event_stream" in world.switched_off:
        given.patience_probe_every = 0.0
    remembered = given.folder / "memory.json"
    watchdog = Watchdog(world, Memory.load(remembered), given.services, patience(given))
    began_with = stamp(given.follow, given.metrics)
    notify("READY=1")
    while stamp(given.follow, given.metrics) == began_with:
        watchdog.round()
        watchdog.memory.save(remembered)
        text = metrics(watchdog.memory, watchdog.healthy, time.time(), watchdog.doubted, watchdog.stuck)
        replace(given.folder / "prefect_watchdog.prom", text)
        notify("WATCHDOG=1")
        time.sleep(min(given.interval, watchdog.interval))
    log("The release, the settings or the node exporter's folder have changed: beginning anew")
    return 0


if __name__ == "__main__":
    sys.exit(main(arguments()))
