"""Every alert, for real: its cause is produced, it fires within its time, the cause is taken away, and it resolves.

Causes that do not get into each other's way are produced together, since an alert takes minutes by its nature. The times are those of
the rules; nothing is made shorter for the test. That is half an hour in all, so only `make test-full` does it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import threading
import time
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any

import dashboards
import pytest
import yaml
from lab import HOSTS_AUTHORITY, ROOT, Lab

LAB = Lab("monitoring", 4310)
HOSTS: dict[str, Any] = yaml.safe_load((ROOT / LAB.inventory / "hosts.yml").read_text())["all"]
# A scrape, an evaluation, and what a machine that is busy with faults takes in addition.
SLACK = 45.0
RESOLVES = 120.0


def group(name: str) -> list[str]:
    """The hosts of a group of the inventory."""
    return list(HOSTS["children"][name]["hosts"])


@cache
def seconds_of(alert: str) -> float:
    """How long the rule of this alert wants it to last."""
    rules = chain.from_iterable(dashboards.rules(path) for path in dashboards.RULES)
    text = next(rule["for"] for rule in rules if rule.get("alert") == alert)
    return float(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


# --- what is broken, and how it is reverted ---


@dataclass(frozen=True)
class Cause:
    """A script that breaks something on a host, and one that reverts it."""

    host: str
    breaks: str
    reverts: str


def stopped(host: str, *units: str) -> Cause:
    names = " ".join(f"'{unit}'" for unit in units)
    return Cause(host, f"systemctl stop {names}", f"systemctl start {names}")


def everywhere(name: str, *units: str) -> list[Cause]:
    return [stopped(host, *units) for host in group(name)]


POSTGRES, REDIS, NGINX, SERVICES = (group(name)[0] for name in ("postgres", "redis", "nginx", "prefect_services"))
PSQL = "runuser -u postgres -- psql --quiet --no-psqlrc prefect --command"
# With the settings, and so the passwords, of Prefect itself.
PYTHON = "systemd-run --quiet {how} --property=EnvironmentFile=/etc/prefect/prefect.env /opt/prefect/current/bin/python -c"
REDIS_PROGRAM = """
import os, sys
from urllib.parse import urlsplit
from redis import Redis
docket = urlsplit(os.environ["PREFECT_SERVER_DOCKET_URL"])
url = os.environ.get("PREFECT_REDIS_MESSAGING_URL") or docket._replace(path="/" + os.environ["PREFECT_REDIS_MESSAGING_DB"]).geturl()
redis = Redis.from_url(url)
print(redis.execute_command(*sys.argv[1:]))
"""
CONNECTIONS_PROGRAM = """
import asyncio, os, ssl, asyncpg
trusted = ssl.create_default_context(cafile="%(authority)s")
name = "PREFECT_SERVER_DATABASE_{}".format
async def main():
    kept = []
    for _number in range(300):
        try:
            kept.append(await asyncpg.connect(**{
                "host": os.environ[name("HOST")], "port": int(os.environ[name("PORT")]), "user": os.environ[name("USER")],
                "password": os.environ[name("PASSWORD")], "database": os.environ[name("NAME")], "ssl": trusted,
            }))
        except asyncpg.PostgresError:
            break
        if len(kept) == %(number)d:
            break
    await asyncio.sleep(900)
asyncio.run(main())
"""


def quoted(program: str) -> str:
    return "'" + program.replace("'", "'\"'\"'") + "'"


def redis(*words: str) -> str:
    return " ".join([PYTHON.format(how="--pipe --wait --collect"), quoted(REDIS_PROGRAM), *(quoted(word) for word in words)])


def in_background(unit: str, program: str) -> str:
    return " ".join([PYTHON.format(how=f"--collect --unit={unit}"), quoted(program)])


def many_connections(number: int) -> Cause:
    """As Prefect's own user: they count against its pools as well as against the server's limit."""
    program = CONNECTIONS_PROGRAM % {"authority": HOSTS_AUTHORITY, "number": number}
    return Cause(SERVICES, in_background("test-connections", program), "systemctl stop test-connections")


DISK_FILLS = Cause(
    POSTGRES,
    # A small file system of its own, of a kind that the exporter counts, that fills up at a pace of minutes.
    "mkdir -p /srv/filling; mount -t tmpfs -o size=100m test /srv/filling; cd /srv/filling; mkdir lower upper work disk;"
    "mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work test disk; head -c 55M /dev/zero >disk/first;"
    "systemd-run --quiet --collect --unit=test-filling bash -c 'while head -c 50k /dev/zero >>/srv/filling/disk/more; do sleep 2; done'",
    "systemctl stop test-filling; umount /srv/filling/disk /srv/filling; rmdir /srv/filling",
)
ADDRESS = f"{HOSTS['vars']['lab_network']}.100"
# As a second load balancer that hears nothing of the first one.
ADDRESS_TWICE = Cause(
    group("prefect_api")[0],
    f"ip address add {ADDRESS}/32 dev eth0;"
    f"echo 'prefect_virtual_address_info{{address=\"{ADDRESS}\"}} 1' >/var/lib/prometheus/node-exporter/test.prom",
    f"ip address delete {ADDRESS}/32 dev eth0; rm /var/lib/prometheus/node-exporter/test.prom",
)
OLD_LOG = Cause(
    POSTGRES,
    f"{PSQL} $'INSERT INTO log (name, level, message, timestamp) VALUES (\\'x\\', 20, \\'old\\', now() - interval \\'40 days\\')'",  # noqa: S608  a constant
    f"{PSQL} $'DELETE FROM log WHERE message = \\'old\\''",  # noqa: S608  a constant
)
EARLY = "310dda75f561"  # a revision that every release knows
SCHEMA_OLD = Cause(
    POSTGRES,
    f"{PSQL} 'CREATE TABLE test_revision AS TABLE alembic_version'; {PSQL} $'UPDATE alembic_version SET version_num = \\'{EARLY}\\''",  # noqa: S608  a constant
    f"{PSQL} 'TRUNCATE alembic_version'; {PSQL} 'INSERT INTO alembic_version TABLE test_revision'; {PSQL} 'DROP TABLE test_revision'",
)
SERVICES_SLEEP = Cause(
    SERVICES,
    # The process is there and systemd is content: only its heartbeat tells, and restarting it does not help.
    "mkdir -p /run/systemd/system/prefect-services.service.d; printf '[Service]\\nExecStart=\\nExecStart=/bin/sleep infinity\\n'"
    " >/run/systemd/system/prefect-services.service.d/test.conf; systemctl daemon-reload; systemctl restart prefect-services",
    "rm -r /run/systemd/system/prefect-services.service.d; systemctl daemon-reload; systemctl restart prefect-services",
)
TABLE_LOCKED = Cause(
    POSTGRES,
    # What reads variables waits ten seconds and is then answered with an error, again and again.
    "systemd-run --quiet --collect --unit=test-locking bash -c"
    f""" 'while {PSQL} "BEGIN; LOCK TABLE variable IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(12); COMMIT"; do :; done'""",
    "systemctl stop test-locking",
)
MEMORY_FULL = Cause(REDIS, redis("SETRANGE", "prefect:test-filling", "430000000", "x"), redis("DEL", "prefect:test-filling"))
POISON = Cause(
    SERVICES,
    # Not an event: its reader fails, three times.
    redis("XADD", "events", "*", "data", "{}", "attributes", "{}"),
    redis("EVAL", "for _, key in ipairs(redis.call('SMEMBERS', 'dlq')) do redis.call('DEL', key) end return redis.call('DEL', 'dlq')", "0"),
)


FIREWALL_FLUSHED = Cause(
    NGINX,
    "systemd-run --quiet --collect --unit=test-flushing bash -c 'while nft delete table inet prefect_health_check; do sleep 10; done'",
    "systemctl stop test-flushing",
)
# As the role certificates writes them, of one that is a day before its end.
CERTIFICATE_OLD = Cause(
    NGINX,
    "cd /var/lib/prometheus/node-exporter; sed -E 's/(name|path)=\"/&test-/g; s/ [0-9.e+]+$/ '$(($(date +%s) + 86400))/"
    " prefect_certificates.prom >test-certificates.prom; chmod 644 test-certificates.prom",
    "rm /var/lib/prometheus/node-exporter/test-certificates.prom",
)
# Whichever host has taken one.
NO_BACKUP = [Cause(host, "rm -f /var/lib/prometheus/node-exporter/prefect_backup.prom", "true") for host in HOSTS["hosts"]]


# --- requests through the balancer ---


@dataclass(frozen=True)
class Request:
    """What is sent."""

    method: str
    path: str
    body: bytes


LONGEST = 900.0
HEALTH = Request("GET", "/api/health", b"")
VARIABLES = Request("POST", "/api/variables/filter", b"{}")


def send(request: Request, stop: threading.Event, pause: float) -> None:
    """Sends a request again and again over one connection, with a pause after each answer."""
    method, path, body = request.method, request.path, request.body
    headers = {"Authorization": "Basic " + b64encode(LAB.auth_string.encode()).decode(), "Content-Type": "application/json"}
    end = time.monotonic() + LONGEST
    trusted = ssl.create_default_context(cafile=LAB.authority)
    connection = http.client.HTTPSConnection("127.0.0.1", LAB.port, timeout=30, context=trusted)
    while time.monotonic() < end and not stop.is_set():
        try:
            connection.request(method, path, body, headers)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
            time.sleep(0.2)
        stop.wait(pause)
    connection.close()


@contextlib.contextmanager
def sending(request: Request, clients: int, pause: float = 0) -> Iterator[None]:
    """Sends meanwhile, from so many clients at once."""
    stop = threading.Event()
    with ThreadPoolExecutor(clients) as pool:
        for _client in range(clients):
            pool.submit(send, request, stop, pause)
        try:
            yield
        finally:
            stop.set()


def call(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """One request to the API, and what it answers."""
    request = urllib.request.Request(f"{LAB.url}{path}", method=method, data=json.dumps(body).encode() if body is not None else None)  # noqa: S310  the lab's own
    request.add_header("Authorization", "Basic " + b64encode(LAB.auth_string.encode()).decode())
    request.add_header("Content-Type", "application/json")
    with LAB.open(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


# --- what Prometheus says ---


def prometheus(path: str, **query: str) -> Any:
    """What Prometheus answers; it is asked at its own address."""
    url = f"{dashboards.lab_prometheus(LAB.inventory)}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with LAB.open(url, timeout=10) as answer:
        return json.load(answer)["data"]


def firing() -> set[str]:
    """The alerts that fire now."""
    return {alert["labels"]["alertname"] for alert in prometheus("alerts")["alerts"] if alert["state"] == "firing"}


def wait(condition: Callable[[], bool], seconds: float, begun: float) -> float | None:
    """The seconds from `begun` until the condition holds; None when it does not within these."""
    while time.monotonic() - begun < seconds:
        with contextlib.suppress(OSError):
            if condition():
                return time.monotonic() - begun
        time.sleep(2)
    return None


# --- cases ---


@dataclass
class AlertCase:
    """Causes, and the alerts that they have to bring about.

    `alerts` has for each one the seconds that its expression takes to become true, beside the time of the rule. `meanwhile` is sent
    while the cause lasts, and `recovery` while the test waits for the end: a ratio sinks only with good requests.
    """

    name: str
    alerts: Mapping[str, float]
    causes: Sequence[Cause] = ()
    meanwhile: tuple[Request, int, float] | None = None
    recovery: tuple[Request, int] | None = None
    breaks: Callable[[], None] = lambda: None
    reverts: Callable[[], None] = lambda: None
    resolves: float = RESOLVES
    fired: dict[str, float | None] = field(default_factory=dict)
    resolved: dict[str, float | None] = field(default_factory=dict)

    def within(self, alert: str) -> float:
        return seconds_of(alert) + self.alerts[alert] + SLACK

    def run(self) -> None:
        begun = time.monotonic()
        with contextlib.ExitStack() as cleanup:
            for cause in self.causes:
                cleanup.callback(LAB.on, cause.host, cause.reverts)
                LAB.on(cause.host, cause.breaks)
            cleanup.callback(self.reverts)
            self.breaks()
            with sending(*self.meanwhile) if self.meanwhile else contextlib.nullcontext():
                self.fired = self.each(lambda alert: wait(lambda: alert in firing(), self.within(alert), begun))
        begun = time.monotonic()
        with sending(*self.recovery) if self.recovery else contextlib.nullcontext():
            self.resolved = self.each(lambda alert: wait(lambda: alert not in firing(), self.resolves, begun))

    def each(self, seconds: Callable[[str], float | None]) -> dict[str, float | None]:
        with ThreadPoolExecutor(len(self.alerts)) as pool:
            return dict(zip(self.alerts, pool.map(seconds, self.alerts), strict=True))

    def summary(self) -> str:
        return "".join(
            f"\n{alert:38} {self.name:34} fired after {self.fired[alert] or float('nan'):4.0f} s of {self.within(alert):4.0f},"
            f" resolved after {self.resolved[alert] or float('nan'):4.0f} s"
            for alert in self.alerts
        )

    def problems(self) -> list[str]:
        return [
            *(f"{alert} did not fire within {self.within(alert):.0f} s" for alert in self.alerts if self.fired.get(alert) is None),
            *(f"{alert} did not resolve within {self.resolves:.0f} s" for alert in self.alerts if self.resolved.get(alert) is None),
        ]


def late_runs() -> None:
    flow = call("POST", "/flows/", {"name": "without-a-worker"})
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2020-01-01T00:00:00Z"}}
    for _number in range(12):
        call("POST", "/flow_runs/", {"flow_id": flow["id"], "state": state})


def no_late_runs() -> None:
    flow = call("GET", "/flows/name/without-a-worker")
    call("DELETE", f"/flows/{flow['id']}")


def backup() -> None:
    LAB.play("backup")


STAGES: dict[str, list[AlertCase]] = {
    "many parts at once": [
        AlertCase(
            "an API server is stopped", {"PrefectApiDown": 0}, [stopped(group("prefect_api")[1], "prefect-api@4200", "prefect-watchdog")]
        ),
        AlertCase("keepalived is stopped", {"PrefectKeepalivedDown": 0, "PrefectVirtualAddressNotHeld": 0}, [stopped(NGINX, "keepalived")]),
        AlertCase("an exporter is stopped", {"PrefectTargetDown": 0}, [stopped(group("prefect_api")[1], "prometheus-node-exporter")]),
        AlertCase("a disk fills up", {"PrefectDiskFilling": 60, "PrefectDatabaseFilling": 60}, [DISK_FILLS]),
        AlertCase("old logs stay", {"PrefectRetentionBehind": 0}, [*everywhere("prefect_services", "prefect-retention.timer"), OLD_LOG]),
        AlertCase("the schema is an old one", {"PrefectSchemaBehind": 0}, [SCHEMA_OLD]),
        AlertCase("Redis is nearly full", {"PrefectRedisMemoryHigh": 0}, [MEMORY_FULL]),
        AlertCase(
            "the services live and do nothing",
            {"PrefectSchedulerStalled": 75, "PrefectBackgroundLag": 90, "PrefectWatchdogCannotHeal": 60},
            [SERVICES_SLEEP],
            # So that there is something to do; little, or it would hide the requests that fail.
            meanwhile=(Request("POST", "/api/flows/", b'{"name": "an-event"}'), 1, 5),
        ),
        # It counts as online for 90 s.
        AlertCase("a worker is stopped", {"PrefectWorkerOffline": 90}, [stopped(group("prefect_worker")[0], "prefect-worker@etl")]),
        AlertCase("no worker takes runs", {"PrefectLateRuns": 15}, breaks=late_runs, reverts=no_late_runs),
        AlertCase(
            "requests wait for a lock, and fail",
            {
                "PrefectEndpointSlow": 90,
                "PrefectLatencyBudgetBurnFast": 90,
                "PrefectLatencyBudgetBurnSlow": 90,
                "PrefectErrorBudgetBurnFast": 90,
                "PrefectErrorBudgetBurnSlow": 90,
            },
            [TABLE_LOCKED],
            meanwhile=(VARIABLES, 2, 0),
            # A thousand good ones, of the cheapest, for each that failed.
            recovery=(HEALTH, 8),
            resolves=400,
        ),
    ],
    "slow to come": [
        AlertCase(
            "many connections",
            {"PrefectDatabaseConnectionsHigh": 15, "PrefectConnectionPoolNearlyExhausted": 15},
            [many_connections(175)],
        ),
        # It resolves when nothing was lost for five minutes.
        AlertCase(
            "Alertmanager is stopped", {"PrefectMonitoringBroken": 75}, everywhere("monitoring", "prometheus-alertmanager"), resolves=420
        ),
        # Four times, ten seconds apart, and a scrape before them; it resolves when nothing was lost for five minutes.
        AlertCase("something flushes the firewall", {"PrefectFirewallRulesLost": 60}, [FIREWALL_FLUSHED], resolves=420),
        AlertCase("another host has the address, too", {"PrefectVirtualAddressHeldTwice": 0}, [ADDRESS_TWICE]),
        AlertCase("a certificate is not renewed", {"PrefectCertificateExpiring": 0, "PrefectCertificateEnds": 0}, [CERTIFICATE_OLD]),
        AlertCase("there is no backup", {"PrefectBackupTooOld": 0}, NO_BACKUP, reverts=backup),
        AlertCase("the watchdog is stopped", {"PrefectWatchdogSilent": 300}, [stopped(group("prefect_api")[0], "prefect-watchdog")]),
    ],
    "no server answers": [
        AlertCase(
            "every API server is stopped", {"PrefectNoHealthyApi": 0}, everywhere("prefect_api", "prefect-api@4200", "prefect-watchdog")
        ),
        AlertCase("PostgreSQL is stopped", {"PrefectDatabaseDown": 0}, [stopped(POSTGRES, "postgresql")]),
    ],
    "no request gets through": [
        AlertCase("nginx is stopped", {"PrefectBalancerDown": 0}, [stopped(NGINX, "nginx")]),
        AlertCase("a message that cannot be read", {"PrefectDeadLetters": 120}, [POISON]),
    ],
    "Redis is gone": [AlertCase("Redis is stopped", {"PrefectRedisNotWritable": 0}, [stopped(REDIS, "redis-server")])],
}


# Those of clusters, whose cause is produced by the scenario that has one.
ELSEWHERE = ("database_cluster", "haproxy", "redis_cluster")


def test_every_alert_has_a_case() -> None:
    rules = chain.from_iterable(dashboards.rules(path) for path in dashboards.RULES if path.stem not in ELSEWHERE)
    tried = [alert for cases in STAGES.values() for case in cases for alert in case.alerts]
    assert sorted(tried) == sorted(rule["alert"] for rule in rules if "alert" in rule)


@pytest.mark.skipif(not os.environ.get("PREFECT_TEST_FULL"), reason="takes half an hour: make test-full")
@pytest.mark.parametrize("stage", STAGES)
def test_alerts_fire_and_resolve(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    cases = STAGES[stage]
    already = firing() & {alert for case in cases for alert in case.alerts} - {"PrefectBackupTooOld"}
    assert not already, f"{already} fire before anything is broken"
    with capsys.disabled(), ThreadPoolExecutor(len(cases)) as pool:
        running = {pool.submit(case.run): case for case in cases}
        for done in as_completed(running):
            done.result()
            print(running[done].summary(), end="", flush=True)
    assert not [problem for case in cases for problem in case.problems()]
