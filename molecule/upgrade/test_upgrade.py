"""From the oldest version that has a lock file to the newest, under load; in `make test-full` by each step between them."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import tls_scan
from database import Rows, ask, fill, pages
from lab import NEW, OLD, PREVIOUS, Lab, Played, summary
from outages import survive

LAB = Lab("upgrade", 4270)
APIS = ("api1", "api2", "api3")
WORKER = "prefect-worker@etl"
# Runs for as long as its worker is not told to stop, and then for longer than Prefect's own worker would let it.
FLOW = """
import subprocess, time
from prefect import flow
@flow
def through(version: str):
    said = lambda: subprocess.run(["systemctl", "show", "-P", "ActiveState", "prefect-worker@etl"], capture_output=True, text=True).stdout
    while said() == "active\\n":
        time.sleep(0.5)
    time.sleep(8)
"""
STEPS = [(OLD, PREVIOUS, ""), (PREVIOUS, NEW, "newest")] if os.environ.get("PREFECT_TEST_FULL") else [(OLD, NEW, "newest")]
LONG = pytest.mark.skipif(not os.environ.get("PREFECT_TEST_FULL"), reason="takes minutes: make test-full")
OLDEST = "/opt/prefect/releases/0.0.0-0"
MOST_P99 = 1.5  # seconds, while servers are restarted on two cores that also run everything else


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        pytest.param((), {"prefect_upgrade_to": "9.9.9"}, ("9.9.9", "make lock VERSION=9.9.9"), id="unknown version"),
        pytest.param((), {"prefect_upgrade_to": OLD}, (f"prefect_upgrade_to is {OLD}", "runs that already"), id="where it is"),
        pytest.param(
            ("-e", f"prefect_version={NEW}"), {"prefect_upgrade_to": "3.9.0"}, ("and wins",), id="two versions at once", marks=LONG
        ),
        pytest.param((), {"prefect_api_serial": 0}, ("prefect_api_serial", "at least 1"), id="an empty batch", marks=LONG),
        pytest.param((), {"prefect_api_serial": "100%"}, ("prefect_api_serial", "all 3"), id="every host in one batch", marks=LONG),
        pytest.param((), {"prefect_upgrade_backup": "no"}, ("prefect_upgrade_backup", "skip"), id="a backup that is neither", marks=LONG),
        pytest.param(
            (),
            {"prefect_upgrade_backup": "command"},
            ("prefect_upgrade_backup_command is empty",),
            id="a command that is not given",
            marks=LONG,
        ),
        pytest.param(
            (),
            {"prefect_upgrade_backup": "command", "prefect_upgrade_backup_command": ["bash", "-c", "echo no room; exit 3"]},
            ("no room", "non-zero return code"),
            id="a command that fails",
        ),
        pytest.param((), {"prefect_upgrade_backup": "require"}, ("no backup younger than 3600 s",), id="a backup that is not there"),
        pytest.param(
            ("--skip-tags", "backup"), {}, ("prefect_upgrade_backup=skip",), id="a backup passed over without saying so", marks=LONG
        ),
        pytest.param(
            (),
            {"prefect_retention": {"events": "2d", "logs": "forever"}},
            ("events from 14d to 2d (deletes ", " events that occurred before ", "-e prefect_retention_shorten=true", "{events: 14d,"),
            id="a shorter retention",
        ),
    ],
)
def test_refused(arguments: tuple[str, ...], variables: dict[str, Any], says: tuple[str, ...]) -> None:
    before = LAB.started(APIS)
    target: dict[str, Any] = {} if "prefect_upgrade_to" in variables else {"prefect_version": NEW}
    played = LAB.play("upgrade", *arguments, expect=2, **target, **variables)
    assert played.says(*says), played.output[-12000:]
    assert LAB.started(APIS) == before
    assert LAB.versions(APIS) == [OLD] * 3


def test_a_database_of_weeks_is_read_as_prefect_wrote_it() -> None:
    """The rows of `make bench-large`, a few of them, which the upgrade below then migrates."""
    fill(LAB, "state1", Rows().divided(2000))
    for name, path, body in pages():
        status, answer = ask(LAB, path, body)
        assert status == 200, f"{name}: HTTP {status}: {answer}"
    status, events = ask(LAB, "/events/filter", {"filter": {"event": {"prefix": ["site.rows"]}}, "limit": 50})
    assert (status, len(events["events"])) == (200, 50)
    (run,) = ask(LAB, "/flow_runs/filter", {"limit": 1, "sort": "START_TIME_DESC", "flow_runs": {"name": {"like_": "brisk-otter"}}})[1]
    assert run["state"]["type"] == run["state_type"]
    tasks = ask(LAB, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})[1]
    lines = ask(LAB, "/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})[1]
    assert {task["state"]["type"] for task in tasks} == {"COMPLETED"} and lines


def through(version: str) -> str:
    """Starts a run on the worker, and waits until it runs there; its id."""
    folder = "/var/lib/prefect-worker/code"
    LAB.on("worker1", f"mkdir -p {folder}; chmod 755 {folder}; cat >{folder}/through.py <<'PY'\n{FLOW}\nPY\nchmod 644 {folder}/through.py")
    flow = ask(LAB, "/flows/", {"name": "through"})[1]["id"]
    where = {"work_pool_name": "etl", "path": folder, "entrypoint": "through.py:through"}
    deployment = ask(LAB, "/deployments/", {"name": "through", "flow_id": flow, "parameters": {"version": version}, **where})[1]["id"]
    run = str(ask(LAB, f"/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})[1]["id"])
    end = time.monotonic() + 60
    while state(run)["state_type"] != "RUNNING":
        assert time.monotonic() < end, state(run)
        time.sleep(1)
    return run


def state(run: str) -> dict[str, Any]:
    (found,) = ask(LAB, "/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[1]
    return dict(found)


def runs_from(version: str) -> bool:
    """Whether the worker runs from a release of this version."""
    return f"/opt/prefect/releases/{version}-" in LAB.on("worker1", f"systemctl show -P ExecStart {WORKER}")


def by_nginx(pages: dict[str, Any]) -> str:
    """What the balancer wrote about requests of pages that failed: why an answer ends early, it alone knows."""
    paths = " ".join(f"-e {shlex.quote(each['path'])}" for each in pages["failures"])
    logs = "/var/log/nginx/prefect.log /var/log/nginx/error.log"
    return str(LAB.on("state1", f"grep -h {paths} {logs} | tail -n 60; tail -n 20 /var/log/nginx/error.log", check=False))


@pytest.mark.parametrize(("old", "new", "core"), STEPS)
def test_upgrade_at_noon(old: str, new: str, core: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dumps = LAB.on("state1", "ls /var/backups/prefect/*.dump || true").split()
    for host in (*APIS, "state1"):
        LAB.on(host, f"mkdir -p {OLDEST} && touch --date=2024-01-01 {OLDEST}")
    assert runs_from(old)
    run = through(old)
    with LAB.load(tmp_path, flow=old, max_p99=MOST_P99, browsers=1) as load:
        played = LAB.play("upgrade", core=core, prefect_version=new)
    report = load.report
    with capsys.disabled():
        print(summary(f"upgrade from {old} to {new}, {played.seconds:.0f} s", report))
    assert LAB.versions([*APIS, "state1"]) == [new] * 4
    # The release before stays, for a rollback; what is older goes.
    kept = [LAB.on(host, f"ls --directory /opt/prefect/releases/{old}-* {OLDEST} || true").count("/opt/") for host in (*APIS, "state1")]
    assert kept == [1] * 4
    # One after the other, as the inventory has them; a start in microseconds is far more than a process id.
    begun = [max(map(int, started.split())) for started in LAB.started(APIS)]
    assert begun == sorted(begun)
    assert (report["failed"], report["lost"]) == (0, 0), report
    # Pages that are opened or open meanwhile: files of either version are found wherever they are, and those that a page of the older
    # version loads later are there when all servers are of the newer one.
    seen = report["pages"]
    assert (seen["broken"], seen["missing"], seen["later_missing"]) == (0, 0, 0), (seen, by_nginx(seen))
    assert seen["loaded"] >= 10
    assert seen["later"] >= 10
    assert report["requests"] >= 3000
    assert report["writes"] >= report["requests"] * 0.45
    assert report["latency"]["p99"] < MOST_P99
    assert load.flow["state"] == "COMPLETED", load.flow
    # The worker was restarted last, and its run went on through all of it to its own end.
    assert runs_from(new)
    ended = state(run)
    assert (ended["state_type"], ended["run_count"]) == ("COMPLETED", 1), ended
    assert ended["end_time"] > LAB.on("api3", "date --utc --iso-8601=seconds -d @$(stat -c %Y /opt/prefect/current)"), ended
    assert played.says(f"From {old} to {new}: api1, api2, api3, state1", "to apply", "Tables that these touch")
    assert len(LAB.on("state1", "ls /var/backups/prefect/*.dump").split()) == len(dumps) + 1


@pytest.mark.parametrize("what", ["postgres", "redis"])
def test_no_flow_fails_while_a_backend_is_restarted(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, for some seconds; molecule/drill does it again and again."""
    said = survive(LAB, "state1", what, times=1, seconds=5, pause=3, at_once=10)
    with capsys.disabled():
        print(f"\n{said}")


def test_no_answer_in_time_is_to_be_tried_again() -> None:
    """Every API host is cut off from the balancer. By itself nginx answers 504, which Prefect's client never tries again."""
    chain = "add table inet cut; add chain inet cut out { type filter hook output priority -20; }"
    addresses = ", ".join(f"172.28.7.{number}" for number in (21, 22, 23))
    LAB.on("state1", f"nft '{chain}; add rule inet cut out tcp dport 4200 ip daddr {{ {addresses} }} drop'")
    try:
        login = f"--cacert {LAB.authority} --user {shlex.quote(LAB.auth_string)}"
        ask = f"curl {login} --silent --include --max-time 60 --json '{{}}' {LAB.url}/flows/filter"
        answer = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.lower()
    finally:
        LAB.on("state1", "nft delete table inet cut")
    assert " 503 " in answer.splitlines()[0], answer
    assert "retry-after: 10" in answer, answer
    end = time.monotonic() + 60
    while " 200 " not in subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.splitlines()[0]:
        assert time.monotonic() < end, "the servers are not asked again"
        time.sleep(1)


def test_retention() -> None:
    """The servers have the settings, and old log lines go at the next turn of the timer."""
    for host in (*APIS, "state1"):
        settings = LAB.on(host, "grep -E 'VACUUM|RETENTION' /etc/prefect/prefect.env").split()
        assert 'PREFECT_SERVER_EVENTS_RETENTION_PERIOD="PT1209600S"' in settings
        assert 'PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED="events,flow_runs"' in settings
    assert '"events": 1209600' in sql("TABLE configuration")
    assert "autovacuum_vacuum_scale_factor=0.02" in sql("TABLE pg_class")
    assert LAB.on("state1", "systemctl is-active prefect-retention.timer").strip() == "active"
    for days in (29, 31):
        values = f"'x', 20, 'of {days} days', now() - interval '{days} days'"
        sql(f"INSERT INTO log (name, level, message, timestamp) VALUES ({values})")  # noqa: S608  our own words
    LAB.on("state1", "systemctl start prefect-retention")
    assert "of 29 days" in sql("TABLE log")
    assert "of 31 days" not in sql("TABLE log")
    assert "deleted 1 log lines" in LAB.on("state1", "journalctl --unit prefect-retention --lines 5 --output cat")


def sql(statement: str) -> str:
    """What Prefect's database answers."""
    return LAB.on("state1", f'runuser -u postgres -- psql --no-psqlrc --quiet prefect --command "{statement}"')


CERTIFICATES = {"state1": {"postgres": 5432, "redis": 6379, "nginx": 4200}, **{api: {"prefect_api": 4200} for api in APIS}}


def renewable() -> dict[tuple[str, str], str]:
    """The certificates that the deployment has made: host, name, and the certificate."""
    return {
        (host, name): LAB.on(host, f"openssl x509 -in /etc/prefect-tls/{name}.crt")
        for host, names in CERTIFICATES.items()
        for name in names
    }


def served() -> dict[tuple[str, str], str]:
    """The certificates that the parts answer with."""
    addresses = {host: LAB.on(host, "hostname -I").split()[0] for host in CERTIFICATES}
    return {
        (host, name): tls_scan.served(tls_scan.Listener(host, addresses[host], port, name), LAB.authority)
        for host, names in CERTIFICATES.items()
        for name, port in names.items()
    }


@LONG
def test_every_certificate_is_renewed_at_noon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By an ordinary run for which all of them have too few days left. Only servers that cannot read a new one are restarted, in turn."""
    before = renewable()
    assert served() == before
    kept = [LAB.started(["state1"], unit) for unit in ("postgresql@15-main", "redis-server", "nginx")]
    rolled = LAB.started(APIS)
    with LAB.load(tmp_path, flow=NEW, max_p99=MOST_P99, browsers=1) as load:
        played = LAB.play("site", prefect_version=NEW, tls_days=400, tls_renew_days=380)
    with capsys.disabled():
        print(summary(f"every certificate renewed, {played.seconds:.0f} s", load.report))
    after = renewable()
    assert not set(after.values()) & set(before.values())
    assert served() == after
    assert [LAB.started(["state1"], unit) for unit in ("postgresql@15-main", "redis-server", "nginx")] == kept
    assert not set(LAB.started(APIS)) & set(rolled)
    assert (load.report["failed"], load.report["lost"], load.report["twice"]) == (0, 0, 0), load.report
    seen = load.report["pages"]
    assert (seen["broken"], seen["later_missing"]) == (0, 0), (seen, by_nginx(seen))
    assert load.flow["completed"], load.flow


PARTS = ((APIS, "prefect-api@4200"), (("state1",), "prefect-services"), (("worker1",), WORKER))


def processes() -> list[list[str]]:
    """The main process of every server, of the services and of the worker."""
    return [LAB.started(hosts, unit) for hosts, unit in PARTS]


@LONG
def test_nothing_to_do() -> None:
    before = processes()
    played = LAB.play("site", core="oldest", prefect_version=NEW)
    assert played.changed == 0, played.output
    assert processes() == before


def test_no_downgrade_by_accident() -> None:
    played = LAB.play("site", expect=2, prefect_version=OLD)
    assert played.says(f"runs Prefect {NEW}, but prefect_version is {OLD}", "playbook rollback")
    assert played.changed == 0


def test_two_operators_at_once_who_have_nothing_to_do() -> None:
    """One is refused. The other one upgrades to what runs already, and changes nothing."""
    before = processes()
    both = [LAB.start("upgrade", core="newest", prefect_version=NEW) for _operator in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    ended = [Played(process.returncode, output, 0.0) for process, output in zip(both, outputs, strict=True)]
    assert sorted(played.code for played in ended) == [0, 2], "\n\n".join(played.output for played in ended)
    done, refused = sorted(ended, key=lambda played: played.code)
    assert refused.says("upgrade.yml", "lock"), refused.output
    assert done.changed == 0, done.output
    assert processes() == before
