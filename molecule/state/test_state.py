"""Any host may be lost: single servers become clusters under load, then what is planned, and each way to lose the host of the primary.

Everything is measured from outside, meanwhile: clients of the API that never retry, writers to PostgreSQL and Redis that try nothing twice,
flows with Prefect's own client and its defaults, and the scheduler's rounds. The tests build on each other.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import clusters
import faults
import pytest
from lab import NEW, ROOT, SUFFIX, Lab, Load, environment
from outages import run_flows
from redis_writer import Writer as RedisWriter
from redis_writer import numbers
from ticks import Ticks
from writer import Writer

NETWORK = "172.28.31"
STATE = {"state1": f"{NETWORK}.11", "state2": f"{NETWORK}.12", "state3": f"{NETWORK}.13"}
# On these are API servers and services; the first has the writer to Redis, and reads the scheduler's rounds.
APPS = ("api1", "api2")
BALANCERS = ("lb1", "lb2")


class Before(Lab):
    """The same hosts with single servers."""

    @property
    def inventory(self) -> str:
        return "molecule/state/single"


LAB, SINGLE = Lab("state", 4200, address=f"{NETWORK}.100"), Before("state", 4200, address=f"{NETWORK}.100")
POSTGRES, REDIS = clusters.Postgres(LAB, STATE), clusters.Redis(LAB, STATE)
FULL = bool(os.environ.get("PREFECT_TEST_FULL"))
only_in_full = pytest.mark.skipif(not FULL, reason="make test-full")

# What has to be at stake for a drill to count, of each kind of write.
AT_STAKE = 1000
FLOWS = 30
# So long they begin; those that run then go on through what happens.
FLOW_SECONDS = 25.0
WHOLE_SECONDS = 180.0
TICK_SECONDS = 30.0


@dataclass
class Event:
    """Something that happens, and for how many seconds at most writes to PostgreSQL and to Redis, and requests, may then not succeed."""

    what: str
    postgres: float
    redis: float
    requests: float
    failed: int | None = None  # requests that may fail; None: any number, if they are told to try again
    begun: float = 0.0  # by the wall clock
    back: float = 0.0  # when what was lost was started again, if it was
    ended: float = 0.0
    before: str = ""
    after: str = ""


def who() -> str:
    """The hosts that all depends on."""
    address = ", ".join(clusters.holders(LAB, BALANCERS))
    return f"PostgreSQL {POSTGRES.leader()}, Redis {REDIS.master()}, etcd {clusters.etcd_leader(LAB, list(STATE))}, address {address}"


def whole() -> bool:
    """Every cluster has all of its members, and every server works."""
    if not (POSTGRES.whole() and REDIS.whole() and len(clusters.holders(LAB, BALANCERS)) == 1):
        return False
    units = {"prefect-services": APPS, "haproxy": APPS, "nginx": BALANCERS, "keepalived": BALANCERS}
    active = [LAB.on(host, f"systemctl is-active {unit} || true").strip() for unit, hosts in units.items() for host in hosts]
    return set(active) == {"active"} and all(map(LAB.ready, APPS))


def longest(moments: Sequence[float], since: float, until: float) -> tuple[float, float]:
    """The longest time without one of them that touches a span, and when it ended."""
    gaps = [(later - earlier, later) for earlier, later in pairwise(sorted(moments)) if later > since and earlier < until]
    return max(gaps, default=(float("inf"), until))


@dataclass
class Drill:
    """What happens, and all that watches it."""

    postgres: Writer
    redis: RedisWriter
    ticks: Ticks
    load: Load = field(default_factory=Load)
    events: list[Event] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    whole: float = 0.0  # when everything was as it should be again

    @contextmanager
    def event(self, what: str, postgres: float, redis: float, requests: float, failed: int | None = None) -> Iterator[Event]:
        event = Event(what, postgres, redis, requests, failed, before=who())
        event.begun = time.time()
        self.events.append(event)
        yield event
        event.ended = time.time()
        event.after = who()


@pytest.fixture(scope="module")
def writer() -> Writer:
    password = (ROOT / "build/lab/state/database").read_text().strip() + SUFFIX
    return Writer(STATE, password, ROOT / "build/lab/state/tls/ca.crt", pause=0.02)


@contextmanager
def drill(writer: Writer, folder: Path, capsys: pytest.CaptureFixture[str], most_lost: int = 0) -> Iterator[Drill]:
    """Things happen under a load. Afterwards everything is whole again without help, and nothing that was acknowledged is lost.

    `most_lost` is for writes to Redis, which acknowledges before its replicas have them.
    """
    faults.wait("all is well before", 60, whole)
    # The earlier ones are of earlier drills.
    earlier = len(writer.acknowledged)
    clock = time.time() - time.monotonic()
    begun = threading.Event()
    redis = RedisWriter(LAB, APPS[0], pause=0.1)
    ticks = Ticks(LAB, APPS[0])
    try:
        with ThreadPoolExecutor(1) as pool, LAB.load(folder, rate=10, timeline=True) as load, redis, writer:
            drilled = Drill(writer, redis, ticks, load)
            flows = pool.submit(run_flows, LAB, FLOW_SECONDS, FLOWS, begun.set)
            assert begun.wait(90), flows
            yield drilled
            last = time.time()
            drilled.whole = last + faults.wait("all is whole again", WHOLE_SECONDS, whole, POSTGRES.members)
            faults.wait("as much was written", 60, lambda: len(writer.acknowledged) - earlier > AT_STAKE)
            time.sleep(max(0.0, last + 5 - time.time()))
            drilled.runs = flows.result(400)
        rounds = [_scheduler(drilled, event, load) for event in drilled.events]
    finally:
        ticks.close()
    acknowledged = {number for _when, number in writer.acknowledged[earlier:]}
    lost = {host: len(acknowledged - POSTGRES.numbers(host)) for host in STATE}
    lost_redis = {host: len(redis.written.numbers - numbers(LAB, APPS[0], REDIS.url(host))) for host in STATE}
    bad = [one for one in drilled.runs if one["state"] != "COMPLETED" or one["problem"]]
    problems: list[str] = []
    lines: list[str] = []
    for event, ticked in zip(drilled.events, rounds, strict=True):
        line, wrong = _measured(drilled, event, clock)
        healed = f", whole again {max(drilled.whole - event.back, 0):.0f} s after it was back" if event.back else ""
        lines.append(f"\n{event.what}: {line}, scheduler {ticked:.1f} s after that (of {TICK_SECONDS:g}){healed}")
        lines.append(f"  before: {event.before}; after: {event.after}")
        problems += wrong
        if ticked > TICK_SECONDS:
            problems.append(f"{event.what}: the scheduler resumed after {ticked:.1f} s")
    report = load.report
    lines.append(counted(acknowledged, redis, (max(lost.values()), max(lost_redis.values())), report))
    lines.append(f"  {len(drilled.runs) - len(bad)} of {len(drilled.runs)} flow runs complete")
    with capsys.disabled():
        print("\n".join(lines), flush=True)
    assert not problems, f"{problems}; {writer.failed[-5:]}; {redis.written.said()}; {report['failures'][:5]}"
    assert len(acknowledged) >= AT_STAKE
    assert len(redis.written.acknowledged) >= AT_STAKE, "nothing was at stake"
    assert set(lost.values()) == {0}, lost
    assert max(lost_redis.values()) <= most_lost, lost_redis
    assert len(set(lost_redis.values())) == 1, lost_redis
    assert (report["lost"], report["twice"]) == (0, 0), report["lost_writes"]
    assert not {"HTTP 500", "HTTP 504"} & set(report["reasons"]), report["failures"]
    assert len(drilled.runs) >= FLOWS
    assert not bad, bad[:5]


def counted(postgres: Collection[object], redis: RedisWriter, lost: tuple[int, int], report: dict[str, Any]) -> str:
    """What was acknowledged, what is lost of it, and what became of requests."""
    return (
        f"  acknowledged: {len(postgres)} by PostgreSQL, {len(redis.written.acknowledged)} by Redis, {report['acknowledged']} by the API;"
        f" lost: {lost[0]}, {lost[1]}, {report['lost']}\n"
        f"  {report['failed']} of {report['requests']} requests failed: {report['reasons']}"
    )


def _requests(load: Load) -> tuple[list[float], list[float]]:
    """When requests succeeded, and when those were sent that failed, by the wall clock."""
    line = load.report["timeline"]
    good = [line["began_at"] + sent + took for sent, took, well in line["samples"] if well]
    return good, [line["began_at"] + sent for sent, _took, well in line["samples"] if not well]


def _scheduler(drilled: Drill, event: Event, load: Load) -> float:
    """After how many seconds the scheduler has ended a round, from when requests succeeded again on."""
    good, _failed = _requests(load)
    _gap, again = longest(good, event.begun, event.back or event.ended)
    return drilled.ticks.after(again, 2 * TICK_SECONDS)


def _measured(drilled: Drill, event: Event, clock: float) -> tuple[str, list[str]]:
    """What clients saw of an event: in words, and what was too long."""
    good, failed = _requests(drilled.load)
    until = max(event.ended, drilled.whole if event.back else 0.0)
    seen = {
        "writes to PostgreSQL": (
            longest([when + clock for when, _number in drilled.postgres.acknowledged], event.begun, until)[0],
            event.postgres,
        ),
        "writes to Redis": (longest([when for when, _number in drilled.redis.written.acknowledged], event.begun, until)[0], event.redis),
        "requests": (longest(good, event.begun, until)[0], event.requests),
    }
    number = sum(event.begun - 1 < when < until for when in failed)
    wrong = [f"{event.what}: {name} for {gap:.1f} s" for name, (gap, most) in seen.items() if gap > most]
    if event.failed is not None and number > event.failed:
        wrong.append(f"{event.what}: {number} requests failed")
    return ", ".join(
        f"no {name} for {gap:.1f} s (of {most:g})" for name, (gap, most) in seen.items()
    ) + f", {number} requests failed", wrong


# --- from single servers to clusters ---


def test_single_servers() -> None:
    played = SINGLE.play("site")
    print(f"deployed in {played.seconds:.0f} s")
    SINGLE.on("state1", f"{clusters.PSQL} 'CREATE TABLE drill (id bigint PRIMARY KEY)'")
    SINGLE.on("state1", f"{clusters.PSQL} 'ALTER TABLE drill OWNER TO prefect'")
    subprocess.run(["tools/client-venv", NEW], cwd=ROOT, env=environment(), check=True)


def test_they_become_clusters_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str], writer: Writer) -> None:
    class Fixed(Writer):
        """To the one server: there is no Patroni yet that says which is the primary."""

        def primary(self) -> str:
            return "state1"

    fixed = Fixed(STATE, writer.password, writer.authority, pause=writer.pause)
    with LAB.load(tmp_path, rate=10) as load, RedisWriter(LAB, APPS[0], REDIS.url("state1"), pause=0.1) as redis, fixed:
        time.sleep(5)
        begun = time.monotonic()
        played = LAB.play("site")
    faults.wait("all is whole", WHOLE_SECONDS, whole, POSTGRES.members)
    lost = len(set(fixed.lost(POSTGRES.numbers("state1"))))
    lost_redis = len(redis.written.numbers - numbers(LAB, APPS[0]))
    report = load.report
    with capsys.disabled():
        print(
            f"\nsingle servers become clusters ({played.seconds:.0f} s): no writes to PostgreSQL for {fixed.gap(begun):.1f} s (of 10),"
            f" to Redis for {redis.written.longest(0):.1f} s (of 10), no requests for {report['longest_gap']:.1f} s (of 10)"
        )
        print(counted(fixed.acknowledged, redis, (lost, lost_redis), report), flush=True)
    assert (lost, lost_redis, report["lost"]) == (0, 0, 0)
    assert min(len(fixed.acknowledged), len(redis.written.acknowledged)) >= AT_STAKE
    assert max(fixed.gap(begun), redis.written.longest(0), report["longest_gap"]) <= 10
    assert not {"HTTP 500", "HTTP 504"} & set(report["reasons"]), report["failures"]


def test_a_second_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    played = LAB.play("site")
    with capsys.disabled():
        print(f"\nsecond run: {played.seconds:.0f} s, {played.changed} changed", flush=True)
    assert played.changed == 0, played.output[-6000:]


# --- what is planned ---


def switched(role: str, group: str) -> None:
    LAB.play("../molecule/state/switchover", role=role, group=group)


def test_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str], writer: Writer) -> None:
    """One after the other, under one load."""
    with drill(writer, tmp_path, capsys) as drilled:
        for what, role, group, failed in (
            ("planned switchover of PostgreSQL", "patroni", "postgres", None),
            ("planned switchover of Redis", "redis", "redis", None),
            ("planned switchover of the load balancer", "keepalived", "nginx", 0),
        ):
            with drilled.event(what, 3, 3, 3, failed) as event:
                switched(role, group)
                time.sleep(2)
            assert event.after != event.before
            faults.wait("all is well in between", 60, whole, POSTGRES.members)


# --- each way to lose a host ---


def peers(lab: Lab, host: str) -> AbstractContextManager[None]:
    """Cut off from the other hosts of its clusters, and reached by its clients as ever."""
    return faults.cut_off(lab, host, *(address for other, address in STATE.items() if other != host))


FAULTS: dict[str, Callable[[Lab, str], AbstractContextManager[None]]] = {
    "killed": faults.killed,
    "cut off from its peers": peers,
    "frozen": faults.frozen,
    "cut off": faults.cut_off,
}
HOSTS = {
    "primary": POSTGRES.leader,
    "master": REDIS.master,
    "load balancer": lambda: clusters.holders(LAB, BALANCERS)[0],
    "services": lambda: APPS[1],
}
LIMITS = {"primary": (22, 10, 22), "master": (22, 10, 22), "load balancer": (2, 2, 4), "services": (2, 2, 4)}
DRILLS = [("primary", "killed"), ("primary", "cut off from its peers"), ("primary", "frozen")]
MORE = [
    ("primary", "cut off"),
    ("master", "killed"),
    ("master", "frozen"),
    ("master", "cut off"),
    ("load balancer", "killed"),
    ("services", "killed"),
]


@pytest.mark.parametrize(("of", "fault"), DRILLS + [pytest.param(*each, marks=only_in_full) for each in MORE])
def test_a_host_is_lost(of: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], writer: Writer) -> None:
    # What Redis acknowledges while it does not know yet that it is cut off from its replicas, two to three seconds.
    most_lost = 200 if "cut off" in fault else 0
    with drill(writer, tmp_path, capsys, most_lost) as drilled:
        host = HOSTS[of]()
        # One that is cut off may still call itself the primary: the others say who is.
        rest = clusters.Postgres(LAB, {other: address for other, address in STATE.items() if other != host})
        with drilled.event(f"host of the {of} {fault}", *LIMITS[of]) as event:
            with FAULTS[fault](LAB, host):
                faults.wait("another host has what this one had", 60, lambda: rest.leader() not in ("", host), rest.members)
                time.sleep(10 if "cut" in fault else 5)
            event.back = time.time()


# --- and still ---


def test_a_second_run_still_changes_nothing() -> None:
    played = LAB.play("site")
    assert played.changed == 0, played.output[-6000:]
