"""A change that fails, or is cut off, at every point where it can hurt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import NEW, OLD, Lab, summary

LAB = Lab("abort", 4280)
APIS = ("api1", "api2", "api3")
LONG = pytest.mark.skipif(not os.environ.get("PREFECT_TEST_FULL"), reason="takes minutes: make test-full")
# Whatever a migration does to the schema meets this first.
TRIGGER = """
CREATE FUNCTION public.interfere() RETURNS event_trigger LANGUAGE plpgsql AS \\$\\$ BEGIN {deed}; END \\$\\$;
CREATE EVENT TRIGGER interfere ON ddl_command_start
WHEN TAG IN ('ALTER TABLE', 'CREATE INDEX', 'CREATE TABLE', 'DROP INDEX') EXECUTE FUNCTION interfere();
"""
# A release that imports, and whose server never answers.
STUCK = "import sys, time; 'uvicorn' in sys.orig_argv and time.sleep(86400)"


def sql(text: str) -> str:
    return str(LAB.on("state1", f"sudo -u postgres psql -qAtX -v ON_ERROR_STOP=1 -d prefect <<SQL\n{text}\nSQL")).strip()


@contextmanager
def migrations_that(deed: str) -> Iterator[None]:
    sql(TRIGGER.format(deed=deed))
    try:
        yield
    finally:
        sql("DROP EVENT TRIGGER interfere; DROP FUNCTION public.interfere();")


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.3)


def kill_migration() -> None:
    """The host on which the migration runs loses its power, too; what it left running in the database server goes on."""
    LAB.on(
        "api1",
        "for process in /proc/[0-9]*; do"
        " if tr '\\0' ' ' 2>/dev/null <$process/cmdline | grep -q '^/opt/prefect/releases/.*python -c'; then"
        " kill -9 $(cut -d ' ' -f 4 $process/stat); fi; done",
    )


def kill(process: subprocess.Popen[str]) -> None:
    """As when the machine that runs Ansible loses its power: it, and what it started, are gone at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def test_the_parts_reach_each_other_by_ipv6() -> None:
    connected = LAB.on("state1", "ss -Htn state established '( sport = :5432 or sport = :6379 )'")
    for host in ("::21]", "::22]", "::23]"):
        assert f"[fd00:28:8{host}" in connected
    assert "172.28.8." not in connected
    upstreams = LAB.on("state1", "cat /etc/nginx/conf.d/prefect.conf")
    assert "server [fd00:28:8::21]:4200" in upstreams
    assert "172.28.8." not in upstreams


def test_a_setting_that_the_release_does_not_take_reaches_no_server() -> None:
    before = LAB.started(APIS)
    played = LAB.play("site", expect=2, prefect_version=OLD, prefect_settings={"PREFECT_SERVER_DATABASE_TIMEOUT": "soon"})
    assert played.says("PREFECT_SERVER_DATABASE_TIMEOUT")
    assert LAB.started(APIS) == before
    assert not LAB.refusing(APIS)


@LONG
def test_the_cause_is_in_the_first_line_and_each_line_is_there_once() -> None:
    """The settings are valid, and with them a server ends as soon as it starts, again and again."""
    played = LAB.play(
        "site",
        expect=2,
        prefect_version=OLD,
        prefect_api_start_timeout=45,
        prefect_settings={"PREFECT_LOGGING_SETTINGS_PATH": "/etc/hostname"},
    )
    said = [line.strip() for line in played.output.splitlines()]
    cause = "AttributeError: 'str' object has no attribute 'items'"
    begins = [line for line in said if "is not healthy after" in line]
    assert all(cause in line for line in begins), begins
    assert any(line.startswith('"Drain, restart and return the server') and cause in line for line in said), played.output[-4000:]
    found = (re.match(r"- ['\"]?\d\d:\d\d:\d\d (.*)", line) for line in said)
    lines = [each[1] for each in found if each]
    assert any("Traceback" in line for line in lines), played.output[-4000:]
    # A traceback's own lines may be alike once they are wrapped.
    heads = [line for line in lines if not line.startswith(" ")]
    assert len(heads) >= 2 and len(heads) == len(set(heads)), f"a line of the journal is there twice: {heads}"
    assert played.says("api1 could not be changed"), played.output[-4000:]
    assert not LAB.refusing(APIS)


@LONG
def test_a_migration_that_fails_or_lasts_too_long_leaves_the_servers_alone(tmp_path: Path) -> None:
    before = LAB.started(APIS)
    LAB.play("site", "--tags", "install", prefect_version=NEW)
    with LAB.load(tmp_path, rate=10) as load:
        with migrations_that("RAISE EXCEPTION 'interfered'"):
            failed = LAB.play("site", "--tags", "migrate,api", expect=2, prefect_version=NEW)
        with migrations_that("PERFORM pg_sleep(300)"):
            late = LAB.play("site", "--tags", "migrate,api", expect=2, prefect_version=NEW, prefect_migrate_timeout=12)
            killed = LAB.start("site", "--tags", "migrate", prefect_version=NEW)
            until(lambda: sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"), 180, "the migration runs")
            kill(killed)
            kill_migration()
    assert failed.says(
        "failed (exit code", "interfered", "Servers that are running were not touched", "Fix the cause and run the same again"
    )
    assert late.says("was stopped after 12 s", "prefect_migrate_timeout")
    assert LAB.started(APIS) == before
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report
    again = LAB.play("site", "--tags", "migrate", prefect_version=NEW)
    assert again.changed == 1, again.output
    assert sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == "0"


def test_a_release_that_never_gets_healthy_goes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LAB.play("site", "--tags", "install", prefect_version=NEW)
    untouched = LAB.started(["api3"])
    site = LAB.on("api2", f"dirname /opt/prefect/releases/{NEW}-*/lib/python3*/site-packages/prefect").strip()
    LAB.on("api2", f"cat >{site}/stuck.pth <<'PTH'\n{STUCK}\nPTH")
    with LAB.load(tmp_path, rate=10) as load:
        played = LAB.play("upgrade", expect=2, prefect_version=NEW, prefect_upgrade_backup="skip", prefect_api_start_timeout=60)
    with capsys.disabled():
        print(summary("abort", load.report))
    assert played.says(f"api2 could not be changed. It runs {OLD}-", "No host after it was touched"), played.output[-4000:]
    assert played.output.count("this start only") == 1, "the journal's lines are there once"
    assert LAB.versions(APIS) == [NEW, OLD, OLD]
    assert LAB.started(["api3"]) == untouched
    assert not LAB.refusing(APIS)
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report
    assert not LAB.on("api2", "ls -d /etc/prefect/before", check=False)
    LAB.on("api2", f"rm {site}/stuck.pth")


def test_a_run_that_is_cut_off_leaves_one_host_out_and_the_next_one_heals_it(tmp_path: Path) -> None:
    """The upgrade that goes on where the one before had to end."""
    snapshot = {"prefect_upgrade_backup": "command", "prefect_upgrade_backup_command": ["touch", str(tmp_path / "a snapshot")]}
    process = LAB.start("upgrade", prefect_version=NEW, **snapshot)
    until(lambda: LAB.refusing(APIS), 400, "a host is drained")
    assert (tmp_path / "a snapshot").exists()
    kill(process)
    assert len(LAB.refusing(APIS)) <= 1
    LAB.play("site", prefect_version=NEW)
    assert not LAB.refusing(APIS)
    assert LAB.versions([*APIS, "state1"]) == [NEW] * 4
    assert not any(LAB.on(host, "ls -d /etc/prefect/before", check=False) for host in APIS)
