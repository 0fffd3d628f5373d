#!/usr/bin/env python3
"""What API servers can answer, and what more of them, instances, connections, nginx and PgBouncer change.

Deploys the lab's hosts under names of their own, which this run creates and removes, and loads them with clients that send one request
after the other and never retry. Each API host gets a fixed share of a core, so that the share is what is full, and not this machine; the
processor time of every host is counted beside it, and that carries over to other machines. Prints tables and writes
``build/bench-sizing.json``; docs/sizing.md says what to make of them. Exits 1 when a request failed where none should.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "molecule" / "shared"), str(ROOT / "tests" / "load")]

# It is where the scenarios have it; the second makes the collection importable.
import collection  # noqa: E402, F401  # pylint: disable=unused-import
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.load import Options, load, percentile  # noqa: E402
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import Target  # noqa: E402
from lab import Lab  # noqa: E402

WARM, SECONDS, REST = 3.0, 10.0, 1.5
CLIENTS = 24
PERIOD = 20_000  # microseconds: short, or what a request takes would be the time until its server may go on
# Half of the requests are writes. None of those that the balancer sends to one server only, as background tasks need.
KINDS = ("flow_runs", "variables", "flow_runs", "flows")
HOSTS = ("postgres1", "redis1", "api1", "api2", "api3", "services1", "nginx1", "pgbouncer1")
API, NOT_API = ("api1", "api2", "api3"), {"database": "postgres1", "balancer": "nginx1", "pgbouncer": "pgbouncer1", "redis": "redis1"}
FLOWS, TASKS, QUIET = 12, 5, 6.0
# Cores that something else on this machine may use; a case that had to do with less is measured once more.
NOISE, REPEATS = 0.25, 3
FLOW = f"""
from prefect import flow, task

@task
def step(number):
    return number

@flow
def sized():
    for number in range({TASKS}):
        step(number)

for _run in range({FLOWS}):
    sized()
"""


@dataclass(frozen=True)
class Bench(Lab):
    """The demo's seven hosts under other names, and a PgBouncer."""

    @property
    def inventory(self) -> str:
        return "inventories/lab"

    def start(self, playbook: str, *arguments: str, callbacks: str = "", **variables: Any) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = super().start(
            playbook, "-i", "tests/bench/sizing.yml", *arguments, callbacks=callbacks, **variables
        )
        return process


LAB = Bench("sizing", 4350, tls=False)


@dataclass(frozen=True)
class Server:
    """One API server."""

    host: str
    port: int = 4200


ONE, TWO, THREE = Server("api3"), Server("api2"), Server("api1")
NEIGHBOURS = tuple(Server("api1", port) for port in (4200, 4201, 4202))
UNCACHED = {"prefect_settings": {"PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_STATEMENT_CACHE_SIZE": 0}}


def pool(size: int, overflow: int) -> dict[str, Any]:
    """The variables of a connection pool."""
    return {"prefect_database_pool_size": size, "prefect_database_max_overflow": overflow}


@dataclass(frozen=True)
class Case:
    """What is measured: these servers, their hosts with this share of a core each, and at most `share` of what they can do."""

    name: str
    servers: tuple[Server, ...]
    cores: float
    direct: bool = False
    share: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    pgbouncer: int = 0  # the connections that it may open; 0 is without one
    may_fail: bool = False


# In an order that changes as little as possible from one to the next.
CASES = (
    Case("1 server", (ONE,), 0.3),
    Case("1 server, without nginx", (ONE,), 0.3, direct=True),
    Case("1 server, a core", (ONE,), 1.0),
    Case("1 server, a core, 80 % load", (ONE,), 1.0, share=0.8),
    Case("1 server, a core, 50 % load", (ONE,), 1.0, share=0.5),
    Case("1 instance, host of 0.6 cores", NEIGHBOURS[:1], 0.6),
    Case("1 instance, host of 1.3 cores", NEIGHBOURS[:1], 1.3),
    Case("2 instances, host of 1.3 cores", NEIGHBOURS[:2], 1.3),
    Case("2 instances, host of 0.6 cores", NEIGHBOURS[:2], 0.6),
    Case("3 instances, host of 0.6 cores", NEIGHBOURS, 0.6),
    Case("3 servers", (ONE, TWO, THREE), 0.3),
    Case("1 server, again", (ONE,), 0.3),
    Case("2 servers", (ONE, TWO), 0.3),
    # The same settings, but started anew, as those of the next cases are.
    Case("2 servers, restarted", (ONE, TWO), 0.3, settings=pool(5, 10)),
    Case("2 servers, pool 1+0", (ONE, TWO), 0.3, settings=pool(1, 0), may_fail=True),
    Case("2 servers, pool 3+0", (ONE, TWO), 0.3, settings=pool(3, 0), may_fail=True),
    Case("2 servers, pool 20+0", (ONE, TWO), 0.3, settings=pool(20, 0)),
    Case("2 servers, no statement cache", (ONE, TWO), 0.3, settings=UNCACHED),
    Case("2 servers, PgBouncer", (ONE, TWO), 0.3, settings=UNCACHED, pgbouncer=6),
)


@dataclass(frozen=True)
class Figures:
    """What clients saw while it was measured; times are in seconds."""

    requests: int
    failed: int
    rps: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Point:
    """One measurement. `cpu` is milliseconds of processor time a request by part.

    `machine` is how many cores of this machine were busy, `others` those of them that had nothing to do with this.
    """

    name: str
    servers: int
    cores: float
    figures: Figures
    cpu: Mapping[str, float]
    api_cores: float
    machine: float
    others: float
    connections: int
    busy: int
    lost: int
    good: bool


@dataclass(frozen=True)
class Counters:
    """Seconds of processor time that each host, the load and this machine have used, and the wall clock of the moment."""

    at: float
    hosts: Mapping[str, float]
    load: float
    machine: float


def main() -> int:
    """Measures, prints, and says whether all was well."""
    LAB.play("../molecule/shared/destroy")
    try:
        LAB.play("../molecule/shared/create")
        site = LAB.play("site")
        print(f"deployed in {site.seconds:.0f} s", flush=True)
        LAB.play("../tests/bench/pgbouncer", pgbouncer_pool_size=next(case.pgbouncer for case in CASES if case.pgbouncer))
        flow, points = measure(CASES)
    finally:
        LAB.play("../molecule/shared/destroy")
    found = {"machine": this_machine(), "flow": flow, "points": [asdict(point) for point in points]}
    (ROOT / "build" / "bench-sizing.json").write_text(json.dumps(found, indent=2) + "\n")
    print(found["machine"], flow_table(flow), "\n".join([heads(), *map(row, points)]), sep="\n\n")
    return 0 if all(point.good for point in points) else 1


def measure(cases: Sequence[Case]) -> tuple[dict[str, Any], list[Point]]:
    """What a flow run costs, and then all cases in turn."""
    state = State()
    state.balance((ONE,))
    flow = flow_run()
    points: list[Point] = []
    repeats = REPEATS
    print(heads(), flush=True)
    for case in cases:
        state.bring_about(case)
        rate = case.share * next((point.figures.rps for point in points if point.cores == case.cores), 0.0)
        point = point_of(case, rate)
        print(row(point), flush=True)
        if point.others > NOISE and repeats:
            repeats -= 1
            state.bring_about(case)
            point = min(point, point_of(case, rate), key=lambda one: one.others)
            print(row(point), flush=True)
        points.append(point)
    return flow, points


@dataclass
class State:
    """What the lab is set to."""

    servers: tuple[Server, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def bring_about(self, case: Case) -> None:
        """Makes the lab what a case needs."""
        if not case.direct:
            self.balance(case.servers)
        settings = dict(case.settings)
        if case.pgbouncer:
            settings |= {"prefect_database_host": address("pgbouncer1"), "prefect_database_port": 6432}
        if settings != self.settings:
            # There are no requests now, and hosts that serve nothing start together.
            for server in case.servers:
                LAB.on(server.host, f"systemctl stop prefect-api@{server.port}")
            LAB.play("steps/api", "--limit", ",".join(server.host for server in case.servers), **settings)
            self.settings = settings
        for host in API:
            limit(host, case.cores)

    def balance(self, servers: tuple[Server, ...]) -> None:
        """Has nginx pass requests to these servers only. No server is throttled meanwhile."""
        for host in API:
            limit(host, 0)
        if servers != self.servers:
            LAB.play("steps/nginx", nginx_api_servers=[{"address": address(one.host), "port": one.port} for one in servers])
            self.servers = servers


def point_of(case: Case, rate: float) -> Point:
    """Loads the servers of a case and counts."""
    target = case.servers[0] if case.direct else Server("nginx1")
    options = Options(
        Target.parse(f"http://{address(target.host)}:{target.port}/api", LAB.auth_string),
        clients=CLIENTS,
        fresh=0,
        pausing=0,
        subscribers=0,
        rate=rate,
        seconds=WARM + SECONDS + REST,
        timeout=60,
        kinds=KINDS,
        timeline=True,
    )
    hosts = sorted({server.host for server in case.servers})
    with connections([*hosts, *["pgbouncer1"] * bool(case.pgbouncer)]) as seen:
        report, before, after = asyncio.run(loaded(options))
    timeline = report["timeline"]
    seen_by_clients = figures(timeline["samples"], before.at - timeline["began_at"], after.at - timeline["began_at"])
    seconds = after.at - before.at
    api = used(before, after, hosts)
    cpu = {"api": api, **{part: used(before, after, [host]) for part, host in NOT_API.items()}}
    machine = after.machine - before.machine
    return Point(
        name=case.name,
        servers=len(case.servers),
        cores=case.cores,
        figures=seen_by_clients,
        cpu={part: round(1000 * spent / max(seen_by_clients.requests, 1), 2) for part, spent in cpu.items()},
        api_cores=round(api / seconds, 2),
        machine=round(machine / seconds, 2),
        others=round((machine - used(before, after, HOSTS) - (after.load - before.load)) / seconds, 2),
        connections=max((number for number, _busy in seen), default=0),
        busy=max((busy for _number, busy in seen), default=0),
        lost=report["lost"],
        good=report["lost"] == 0 and (case.may_fail or report["failed"] == 0) and seen_by_clients.requests > 0,
    )


async def loaded(options: Options) -> tuple[dict[str, Any], Counters, Counters]:
    """A load's report, and the counters after its first seconds and before its last."""
    running = asyncio.create_task(load(options))
    await asyncio.sleep(WARM)
    before = await asyncio.to_thread(counters)
    await asyncio.sleep(SECONDS)
    after = await asyncio.to_thread(counters)
    for host in API:  # what was written is still to be read back
        await asyncio.to_thread(limit, host, 0)
    report = await running
    if report["stopped_by"] != "time":
        raise SystemExit("sizing: told to stop")
    return report, before, after


def figures(samples: Sequence[Sequence[float]], start: float, end: float) -> Figures:
    """What the requests that were answered in this span were like. A sample is when it was sent, what it took, and whether it succeeded."""
    there = [(took, good) for sent, took, good in samples if start <= sent + took < end]
    took = [seconds for seconds, good in there if good]
    return Figures(len(there), len(there) - len(took), round(len(took) / (end - start), 1), percentile(took, 0.5), percentile(took, 0.99))


def used(before: Counters, after: Counters, hosts: Sequence[str]) -> float:
    """The seconds of processor time that these hosts have used between the two."""
    return sum(after.hosts[host] - before.hosts[host] for host in hosts)


def counters() -> Counters:
    """What has been used until now."""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        ticks = [int(number) for number in stat.readline().split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]
    return Counters(time.time(), {host: spent(host) for host in HOSTS}, time.process_time(), busy / os.sysconf("SC_CLK_TCK"))


def spent(host: str) -> float:
    """The seconds of processor time that a host has used since it was created."""
    path = account(host)
    if path.name == "cpuacct.usage":
        return int(path.read_text()) / 1e9
    return int(re.findall(r"^usage_usec (\d+)$", path.read_text(), re.MULTILINE)[0]) / 1e6


@cache
def account(host: str) -> Path:
    """The file in which the kernel counts a host's processor time. Docker Engine takes a second to tell the same."""
    command = ["docker", "inspect", "--format", "{{.Id}} {{.State.Pid}}", f"prefect-{LAB.name}-{host}"]
    container, process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    return accounting(Path(f"/proc/{process}/cgroup").read_text(), container)


def accounting(groups: str, container: str) -> Path:
    """The same, from the control groups of a process in the container, one a line: ``number:controllers:path``."""
    found = {controllers: path for _number, controllers, path in (line.split(":", 2) for line in groups.splitlines())}
    old = next((controllers for controllers in found if "cpuacct" in controllers.split(",")), "")
    # Its first process may be in a group below the container's own.
    above, name, _below = found[old].partition(container)
    own = Path("/sys/fs/cgroup", old, (above + name + _below.partition("/")[0]).lstrip("/"))
    return own / ("cpuacct.usage" if old else "cpu.stat")


def limit(host: str, cores: float) -> None:
    """Gives a host this share of a core and no more; 0 is all that it wants."""
    quota = int(cores * PERIOD) if cores else -1
    command = ["docker", "update", "--cpu-period", str(PERIOD), "--cpu-quota", str(quota), f"prefect-{LAB.name}-{host}"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


@cache
def address(host: str) -> str:
    """The address of one of the hosts."""
    addresses: list[str] = LAB.on(host, "hostname -I").split()
    return addresses[0]


@contextmanager
def connections(hosts: Sequence[str]) -> Iterator[list[tuple[int, int]]]:
    """Watches how many connections of these hosts PostgreSQL has, and how many of them are in use. The list is filled afterwards."""
    query = """
        SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND client_addr = ANY (string_to_array(:'hosts', ',')::inet[]) \\watch 0.25
    """
    command = ["docker", "exec", "-i", f"prefect-{LAB.name}-postgres1", "timeout", f"{WARM + SECONDS}", "runuser", "-u", "postgres", "--"]
    command += ["psql", "-AtX", "-v", f"hosts={','.join(map(address, hosts))}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    seen: list[tuple[int, int]] = []
    try:
        assert process.stdin
        process.stdin.write(query)
        process.stdin.flush()
        yield seen
    finally:
        output, _errors = process.communicate(timeout=60)
        seen += watched(output)


def watched(output: str) -> list[tuple[int, int]]:
    """The pairs of numbers in what psql says when it watches."""
    return [(int(number), int(busy)) for number, busy in re.findall(r"^(\d+)\|(\d+)$", output, re.MULTILINE)]


def flow_run() -> dict[str, Any]:
    """What one flow run of Prefect's own client costs each part, in milliseconds of processor time, and how many requests it sends.

    What the parts use when idle is told, too, in thousandths of a core, and is taken off.
    """
    parts = {"api": ONE.host, **NOT_API, "services": "services1"}
    before = counters()
    time.sleep(QUIET)
    quiet = counters()
    idle = {part: used(before, quiet, [host]) / (quiet.at - before.at) for part, host in parts.items()}
    asked = log_lines()
    begun = counters()
    run_flows()
    time.sleep(QUIET)  # events are stored a little later
    ended = counters()
    seconds = ended.at - begun.at
    return {
        "flow_runs": FLOWS,
        "tasks": TASKS,
        "requests": round((log_lines() - asked) / FLOWS, 1),
        "cpu": {part: round(1000 * (used(begun, ended, [host]) - idle[part] * seconds) / FLOWS, 1) for part, host in parts.items()},
        "idle": {part: round(1000 * cores, 1) for part, cores in idle.items()},
    }


def run_flows() -> None:
    """Runs flows with Prefect's own client, on an API host that serves no other client meanwhile."""
    environment = {
        "PREFECT_API_URL": f"http://{address('nginx1')}:4200/api",
        "PREFECT_API_AUTH_STRING": LAB.auth_string,
        "PREFECT_HOME": "/tmp/sizing",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
    }
    # By name only: every user can read the values on a command line.
    names = [word for name in environment for word in ("--env", name)]
    command = ["docker", "exec", "-i", *names, f"prefect-{LAB.name}-{THREE.host}", "/opt/prefect/current/bin/python", "-c", FLOW]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        raise SystemExit(f"sizing: the flow did not run:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def log_lines() -> int:
    """How many requests nginx has answered."""
    return int(LAB.on("nginx1", "wc -l < /var/log/nginx/prefect.log"))


def this_machine() -> str:
    """What it was measured on."""
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{os.cpu_count()} cores of {model[1] if model else os.uname().machine} for all hosts and the load, {CLIENTS} clients"


def flow_table(flow: Mapping[str, Any]) -> str:
    """What a flow run costs, as text."""
    heads = list(flow["cpu"])
    rows = {
        f"a flow run of {flow['tasks']} tasks, ms": flow["cpu"],
        "idle, thousandths of a core": flow["idle"],
    }
    lines = [
        f"{flow['requests']:g} requests a flow run of {flow['tasks']} tasks; processor time:",
        f"{'':36}" + "".join(f"{head:>11}" for head in heads),
    ]
    return "\n".join([*lines, *(f"{name:36}" + "".join(f"{row[head]:11.1f}" for head in heads) for name, row in rows.items())])


def heads() -> str:
    """What stands over the columns of the measurements."""
    parts = "".join(f"{part:>10}" for part in ("api", *NOT_API))
    return (
        f"{'':34}{'req/s':>8}{'p50 ms':>8}{'p99 ms':>8}{'failed':>7}{parts}{'cores':>7}{'machine':>8}{'others':>7}{'conns':>6}{'busy':>5}"
    )


def row(point: Point) -> str:
    """One measurement as text."""
    seen = point.figures
    parts = "".join(f"{point.cpu[part]:10.2f}" for part in ("api", *NOT_API))
    return (
        f"{point.name:34}{seen.rps:8.1f}{1000 * seen.p50:8.0f}{1000 * seen.p99:8.0f}{seen.failed:7}{parts}{point.api_cores:7.2f}"
        f"{point.machine:8.2f}{point.others:7.2f}{point.connections:6}{point.busy:5}{'' if point.good else '  FAILED'}"
    )


if __name__ == "__main__":
    sys.exit(main())
