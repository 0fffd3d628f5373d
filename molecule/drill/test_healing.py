"""What heals by itself: a killed and a frozen services process, a restarted Redis, a dead stream of events."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab
from ticks import Ticks

HERE = Path(__file__).parent
INVENTORY = yaml.safe_load((HERE / "inventory" / "hosts.yml").read_text())["all"]
LAB = Lab(INVENTORY["vars"]["lab_name"], INVENTORY["vars"]["lab_port"])
STATE, API, OTHER, THIRD = "state1", "api1", "api2", "api3"
SERVICES = "prefect-services.service"
SERVER = "prefect-api@4200.service"
METRICS = "/run/prefect-watchdog/prefect_watchdog.prom"

WORKERS = """
import os
from redis import Redis
print(*Redis.from_url(os.environ['PREFECT_SERVER_DOCKET_URL'], decode_responses=True).zrange('prefect:workers', 0, -1))
"""
# Asks a server's stream of events until an event comes back; prints after how many seconds.
PROBE = """
import os, re, ssl, sys, time
unit = open('/etc/systemd/system/prefect-watchdog.service').read()
sys.path.insert(0, re.search('^Environment=PYTHONPATH=(.*)$', unit, re.MULTILINE)[1])
from selfhosted_prefect.settings import Settings
from selfhosted_prefect.watchdog.probes import ApiServer, Verdict
begun = time.monotonic()
trusted = ssl.create_default_context(cafile='/etc/prefect-tls/ca.crt')
server = ApiServer('127.0.0.1', 4200, Settings(os.environ), 3, published=lambda identity: True, tls=trusted)
while server.probe()[0] is not Verdict.WELL:
    if time.monotonic() - begun > float(sys.argv[1]):
        sys.exit('no event came back')
    time.sleep(0.2)
print(time.monotonic() - begun)
"""
# A subscription as the task queue has it, whose connection the kernel has given up on; prints after how many seconds that is noticed.
GIVEN_UP = """
import asyncio, os, time
from redis.asyncio import Redis
from redis.exceptions import RedisError
async def main():
    async with Redis.from_url(os.environ['PREFECT_SERVER_DOCKET_URL']).pubsub() as subscription:
        await subscription.psubscribe('prefect:cancel:*')
        await subscription.get_message(ignore_subscribe_messages=False, timeout=1)
        subscription.connection._reader.set_exception(TimeoutError(110, 'Connection timed out'))
        begun = time.monotonic()
        while time.monotonic() < begun + 10:
            try:
                await subscription.get_message(timeout=0.1)
            except RedisError:
                break
        print(time.monotonic() - begun)
asyncio.run(main())
"""
# A server that is told to by SIGUSR2 goes round in circles in the thread that answers requests, and takes no notice of SIGTERM.
SPIN = """
import signal
def spin(*_):
    while True:
        pass
signal.signal(signal.SIGUSR2, spin)
"""
HOLD = "runuser -u postgres -- psql --quiet prefect --command 'BEGIN; LOCK TABLE deployment; SELECT pg_sleep(7); COMMIT'"


@pytest.fixture
def ticks() -> Iterator[Ticks]:
    watcher = Ticks(LAB, STATE)
    try:
        wait("the scheduler's work", 30, lambda: watcher.seen)
        yield watcher
    finally:
        watcher.close()


def main_pid(host: str, unit: str) -> int:
    return int(LAB.on(host, f"systemctl show --property=MainPID --value {unit}"))


def journal(host: str, unit: str, since: float) -> str:
    lines: str = LAB.on(host, f"journalctl --unit {unit} --since @{since:.0f} --output cat")
    return lines


def age(host: str, unit: str) -> float:
    """The seconds since the unit was started."""
    now, since = LAB.on(host, f"cut -d' ' -f1 /proc/uptime; systemctl show -P ExecMainStartTimestampMonotonic {unit}").split()
    return float(now) - float(since) / 1e6


def restarts(host: str) -> dict[str, int]:
    """The watchdog's count, by unit and reason."""
    lines = [line for line in LAB.on(host, f"cat {METRICS}").splitlines() if line.startswith("prefect_watchdog_restarts_total")]
    return {line.partition("{")[2].partition("}")[0]: int(line.rpartition(" ")[2]) for line in lines}


def wait(what: str, seconds: float, is_so: Any) -> float:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.5)
    return time.monotonic() - begun


def hold() -> subprocess.Popen[bytes]:
    """Makes the scheduler's work last, so that it is at work within five seconds and has ended after seven."""
    return subprocess.Popen(["docker", "exec", f"prefect-{LAB.name}-{STATE}", "bash", "-c", HOLD])


def kill_at_work(ticks: Ticks) -> tuple[str, float]:
    """Kills the services whose scheduler is at work; on which host, and when."""
    holding = hold()
    time.sleep(6)
    host = ticks.seen[-1][2].partition("#")[0]
    LAB.on(host, f"systemctl kill --signal=KILL {SERVICES}")
    killed = time.time()
    assert holding.wait(10) == 0
    return host, killed


@contextmanager
def second_services() -> Iterator[None]:
    """Background services on another host, too."""
    unit = LAB.on(STATE, f"cat /etc/systemd/system/{SERVICES}")
    file = f"/etc/systemd/system/{SERVICES}"
    LAB.on(
        API, f"base64 -d > {file} <<< {subprocess.run(['base64', '-w0'], input=unit, text=True, capture_output=True, check=True).stdout}"
    )
    LAB.on(API, f"systemctl daemon-reload; systemctl start {SERVICES}")
    try:
        wait("the second worker", 60, lambda: f"{API}#" in LAB.printed(API, WORKERS))
        yield
    finally:
        LAB.on(API, f"systemctl stop {SERVICES}; rm {file}; systemctl daemon-reload")


def killed_at_work(ticks: Ticks) -> float:
    """Kills the services while the scheduler is at work; after how many seconds it resumes."""
    host, killed = kill_at_work(ticks)
    resumed = ticks.after(killed, 30)
    # The first of the two.
    said = journal(host, SERVICES, killed - 1) + journal(host, "prefect-watchdog", killed - 1)
    assert "schedule_recent_deployments was held by" in said
    return resumed


def test_killed_services_resume(ticks: Ticks, capsys: pytest.CaptureFixture[str]) -> None:
    resumed = killed_at_work(ticks)
    with capsys.disabled():
        print(f"\nservices killed at work, one host: the scheduler resumes after {resumed:.1f} s")
    assert resumed < 10


def test_two_services_leave_no_gap(ticks: Ticks, capsys: pytest.CaptureFixture[str]) -> None:
    with second_services():
        resumed = killed_at_work(ticks)
    with capsys.disabled():
        print(f"\nservices killed at work, two hosts: the scheduler resumes after {resumed:.1f} s")
    # The rest of the time for which the test holds it up, and what it takes to requeue it.
    assert resumed < 3


@pytest.fixture(scope="module", autouse=True)
def spinner() -> Iterator[None]:
    """A server that can be made to spin. It is there from the beginning, as one that is young is left alone."""
    folder, module = f"/etc/systemd/system/{SERVER}.d", "/etc/prefect-test-spin"
    LAB.on(THIRD, f"mkdir -p {folder} {module}; cat > {module}/sitecustomize.py <<'END'\n{SPIN}END")
    program = "$(sed -n 's/^Environment=PYTHONPATH=//p' /etc/systemd/system/prefect-api@.service)"
    LAB.on(THIRD, f"printf '[Service]\\nEnvironment=PYTHONPATH=%s\\n' {module}:{program} > {folder}/test.conf; systemctl daemon-reload")
    LAB.on(THIRD, f"systemctl restart {SERVER}")
    try:
        wait("the server", 60, lambda: LAB.ready(THIRD))
        yield
    finally:
        LAB.on(THIRD, f"rm -r {folder} {module}; systemctl daemon-reload; systemctl restart {SERVER}")
        wait("the server", 60, lambda: LAB.ready(THIRD))


def test_what_is_frozen_or_spins_is_restarted(ticks: Ticks, capsys: pytest.CaptureFixture[str]) -> None:
    """Both at once, as it takes its time."""
    # The watchdog leaves a process alone that is younger than its grace, and these were killed a moment ago.
    wait("a process past the grace", 70, lambda: age(STATE, SERVICES) > 60)
    pid, before, frozen = main_pid(STATE, SERVICES), restarts(STATE), time.time()
    spinning, spins = main_pid(THIRD, SERVER), restarts(THIRD)
    LAB.on(STATE, f"kill -STOP {pid}")
    LAB.on(THIRD, f"kill -USR2 {spinning}")
    wait("the server that spins", 10, lambda: not LAB.ready(THIRD))
    seconds = wait("a restart", 90, lambda: main_pid(STATE, SERVICES) not in (pid, 0))
    resumed = ticks.after(frozen + seconds, 30) + seconds
    wait("a restart", 120, lambda: main_pid(THIRD, SERVER) not in (spinning, 0))
    replaced = time.time() - frozen
    wait("the server", 60, lambda: LAB.ready(THIRD))
    with capsys.disabled():
        print(f"\nservices frozen: restarted after {seconds:.0f} s, the scheduler resumes after {resumed:.0f} s")
        print(f"API server spinning: ended after {replaced:.0f} s, answers again after {time.time() - frozen:.0f} s")
    silent, unresponsive = f'unit="{SERVICES}",reason="silent"', f'unit="{SERVER}",reason="unresponsive"'
    wait("the count", 10, lambda: restarts(STATE).get(silent, 0) == before.get(silent, 0) + 1)
    wait("the other count", 10, lambda: restarts(THIRD).get(unresponsive, 0) == spins.get(unresponsive, 0) + 1)
    assert "the kernel shows its process as stopped: process" in journal(STATE, "prefect-watchdog", frozen)
    assert "asked to stop, and systemd starts it again" in journal(STATE, "prefect-watchdog", frozen)
    said = journal(THIRD, "prefect-watchdog", frozen)
    assert re.search(r"does not answer \([^)]*timed out\), for", said)
    # The second sign: its port shows the same.
    assert "and the connections that wait on port 4200 are not accepted" in said
    assert f"{SERVER}: it ended on SIGKILL" in said
    assert resumed < 75


def test_a_connection_that_was_given_up_is_noticed() -> None:
    """Otherwise the server reads it again and again, and answers no request any more."""
    assert float(LAB.printed(API, GIVEN_UP)) < 5


def test_all_resumes_after_a_restart_of_redis(ticks: Ticks, capsys: pytest.CaptureFixture[str]) -> None:
    holding = hold()
    time.sleep(6)
    # What the scheduler is at ends while there is no Redis to say so to.
    LAB.on(STATE, "systemctl stop redis-server")
    assert holding.wait(10) == 0
    time.sleep(2)
    LAB.on(STATE, "systemctl start redis-server")
    back = time.time()
    streams = [subprocess.Popen(LAB.as_prefect(host, PROBE, "30"), stdout=subprocess.PIPE, text=True) for host in (API, OTHER)]
    resumed = ticks.after(back, 30)
    seconds = [float(process.communicate(timeout=60)[0]) for process in streams]
    with capsys.disabled():
        streams_after = max(seconds)
        print(f"\nRedis restarted: the scheduler resumes after {resumed:.1f} s, streams of events after {streams_after:.1f} s")
    assert resumed < 15
    assert max(seconds) < 15


def test_a_server_without_its_stream_is_restarted(capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"/etc/systemd/system/{SERVER}.d"
    before, begun = restarts(API), time.time()
    name = f'unit="{SERVER}",reason="event_stream"'
    # A server that starts without Redis never gets its stream. Its unit waits for Redis, for once it does not.
    LAB.on(API, f"mkdir -p {folder}; printf '[Service]\\nExecStartPre=\\n' > {folder}/test.conf; systemctl daemon-reload")
    try:
        LAB.on(STATE, "systemctl stop redis-server")
        LAB.on(API, f"systemctl restart {SERVER}")
        wait("the server", 60, lambda: LAB.ready(API))
        pid = main_pid(API, SERVER)
        # Its reader tries for a while before it gives up.
        time.sleep(20)
    finally:
        LAB.on(API, f"rm -r {folder}; systemctl daemon-reload")
        LAB.on(STATE, "systemctl start redis-server")
    seconds = wait("a restart", 60, lambda: main_pid(API, SERVER) not in (pid, 0))
    stream = float(subprocess.run(LAB.as_prefect(API, PROBE, "60"), capture_output=True, text=True, check=True).stdout)
    with capsys.disabled():
        print(f"\nstream of events dead: restarted {seconds:.0f} s after Redis was back, events after another {stream:.1f} s")
    wait("the count", 10, lambda: restarts(API).get(name, 0) == before.get(name, 0) + 1)
    assert "its stream of events is dead: an event that is in Redis did not come back" in journal(API, "prefect-watchdog", begun)
