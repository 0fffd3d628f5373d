"""Dumps and restores of a PostgreSQL cluster of three hosts, in this order: each test goes on from the one before."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request

import pytest
from lab import Lab

LAB = Lab("restore_ha", 4390)
STATE = ("state1", "state2", "state3")
# Takes the dumps and keeps them, whichever host is the primary.
BACKUPS = "state1"
FOLDER = "/var/backups/prefect"
MAJOR = {"bookworm": "15", "trixie": "17"}[os.environ.get("PREFECT_TEST_SUITE") or "bookworm"]
TOOLS = f"/usr/lib/postgresql/{MAJOR}/bin"
LOGIN = "prefect_restore"
# More than VACUUM waits for a lock, and than a replica waits for a query in its way.
STALLED = 45


def sql(host: str, statement: str, database: str = "prefect") -> str:
    return LAB.on(host, f"runuser -u postgres -- psql --quiet --no-psqlrc -At {database} <<'END'\n{statement}\nEND").strip()


def cluster() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(LAB.on("state2", "patronictl -c /etc/patroni/config.yml list --format json"))
    return found


def primary() -> str:
    return next((str(each["Member"]) for each in cluster() if each["Role"] == "Leader" and each["State"] == "running"), "")


def whole() -> bool:
    states = [each["State"] in ("running", "streaming") for each in cluster()]
    return len(states) == 3 and all(states) and any(each["Role"] == "Sync Standby" for each in cluster())


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, cluster()
        time.sleep(0.5)


def switch() -> str:
    """The replica that the primary waits for, which no other one could be, becomes the primary."""
    before = primary()
    to = next(str(each["Member"]) for each in cluster() if each["Role"] == "Sync Standby")
    LAB.on(to, f"patronictl -c /etc/patroni/config.yml switchover --force --candidate {to}")
    wait(lambda: primary() not in ("", before))
    return before


def move_elsewhere() -> None:
    """The primary is another host than the one with the dumps."""
    wait(whole, 120)
    while primary() == BACKUPS:
        switch()
        wait(whole, 120)


def ask(path: str, body: dict[str, Any]) -> Any:
    request = Request(f"{LAB.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310  the lab's own
    request.add_header("Authorization", f"Basic {base64.b64encode(LAB.auth_string.encode()).decode()}")
    with LAB.open(request, timeout=30) as answer:
        return json.load(answer)


def write(flow: str) -> None:
    ask("/flows/", {"name": flow})


def flows() -> set[str]:
    return {flow["name"] for flow in ask("/flows/filter", {})}


def databases() -> list[str]:
    return sql(primary(), "SELECT datname FROM pg_database ORDER BY 1").split()


def logins() -> str:
    return sql(primary(), f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{LOGIN}%'")  # noqa: S608  the test's own


def manifest() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(LAB.on(BACKUPS, f"cat $(ls {FOLDER}/*.json | tail -1)"))
    return content


@contextmanager
def stalled(program: str, where: str) -> Iterator[None]:
    """A client tool that is stopped for a while, as by a disk that does not take what it writes."""
    place = f"{TOOLS}/{program}"
    LAB.on(BACKUPS, f"mv {place} {place}.real; cat > {place} <<'END'\n#!/bin/bash\n{where}\nEND\nchmod 755 {place}")
    try:
        yield
    finally:
        LAB.on(BACKUPS, f"mv {TOOLS}/{program}.real {TOOLS}/{program}")


def test_a_replica_is_dumped() -> None:
    wait(whole)
    write("early")
    played = LAB.play("backup")
    servers = [each["Member"] for each in cluster() if each["Role"] != "Leader"]
    assert any(played.says(f"from {server} (replica)") for server in servers), played.output[-3000:]
    # It has what was acknowledged a moment before.
    assert manifest()["tables"]["public.flow"] == len(flows())
    switch()
    wait(whole, 120)
    write("middle")
    played = LAB.play("backup")
    assert not played.says(f"from {primary()} (") and played.says("(replica)"), played.output[-3000:]
    assert manifest()["tables"]["public.flow"] == len(flows())


def test_what_the_primary_cleans_up_does_not_end_the_dump_of_a_replica() -> None:
    """Rows that the dump reads, and pages that had become empty before it: without pg_dump's locks on the primary these would end it."""
    leader = primary()
    sql(
        leader,
        "CREATE TABLE public.cleaned WITH (autovacuum_enabled = off) AS SELECT repeat('x', 500) AS pad FROM generate_series(1, 20000)",
    )
    sql(leader, "ALTER TABLE public.cleaned OWNER TO prefect")
    sql(leader, "DELETE FROM public.cleaned WHERE ctid > '(10,0)'")
    # Until the replicas have told that they read none of these any more.
    time.sleep(15)
    stall = f'{TOOLS}/pg_dump.real "$@" & sleep 0.2; touch /run/pg_dump-stalled; kill -STOP $!; sleep {STALLED}; kill -CONT $!; wait $!'
    with stalled("pg_dump", stall):
        process = LAB.start("backup")
        wait(lambda: LAB.on(BACKUPS, "ls /run/pg_dump-stalled 2>/dev/null || true").strip() != "")
        there = int(sql(leader, "SELECT count(*) FROM public.cleaned"))
        sql(leader, "VACUUM public.cleaned")
        sql(leader, "DELETE FROM public.cleaned")
        sql(leader, "VACUUM public.cleaned")
        output, _errors = process.communicate(timeout=300)
    LAB.on(BACKUPS, "rm -f /run/pg_dump-stalled")
    said = " ".join(output.split())
    assert process.returncode == 0 and "(replica)" in said and "no replica could be" not in said, output[-3000:]
    assert manifest()["tables"]["public.cleaned"] == there > 0
    sql(primary(), "DROP TABLE public.cleaned")


def test_the_primary_is_dumped_where_no_replica_is() -> None:
    leader = primary()
    others = [host for host in STATE if host != leader]
    try:
        for host in others:
            LAB.on(host, "systemctl stop patroni")
        # Until HAProxy has seen it.
        time.sleep(5)
        played = LAB.play("backup")
        assert played.says(f"from {leader} (primary)", "The primary is dumped, as no replica could be"), played.output[-3000:]
    finally:
        for host in others:
            LAB.on(host, "systemctl start patroni")
    wait(whole, 120)


def test_a_rehearsal_leaves_nothing_behind() -> None:
    move_elsewhere()
    write("late")
    before = databases()
    apps = LAB.started(("app1", "app2"), "prefect-api@4201")
    played = LAB.play("restore", prefect_restore_rehearsal=True)
    assert played.says("No service was touched") and played.changed == 0, played.output[-3000:]
    assert (databases(), logins(), LAB.started(("app1", "app2"), "prefect-api@4201")) == (before, "", apps)


def test_the_disk_of_every_member_counts() -> None:
    # What a member lacks is known from what the dump says that it takes.
    newest = LAB.on(BACKUPS, f"ls {FOLDER}/*.json | tail -1").strip()
    LAB.on(BACKUPS, f'cp {newest} /srv/manifest; sed -i \'s/"database_bytes": [0-9]*/"database_bytes": 900000000000000/\' {newest}')
    try:
        played = LAB.play("restore", expect=2, prefect_restore_file="newest", prefect_restore_confirm=True)
    finally:
        LAB.on(BACKUPS, f"cp /srv/manifest {newest}")
    assert played.says(*(f"On {host}: /var/lib/postgresql needs" for host in STATE), "Nothing was changed."), played.output[-3000:]
    assert played.changed == 0


def test_a_failover_in_the_middle_ends_a_restore_and_nothing_else() -> None:
    move_elsewhere()
    there = flows()
    wait_first = f'if [[ " $* " == *" --dbname="* ]]; then touch /run/pg_restore-begun; sleep 15; fi; exec {TOOLS}/pg_restore.real "$@"'
    with stalled("pg_restore", wait_first):
        process = LAB.start("restore", prefect_restore_file="newest", prefect_restore_confirm=True)
        try:
            wait(lambda: LAB.on(BACKUPS, "ls /run/pg_restore-begun 2>/dev/null || true").strip() != "", 120)
            switch()
            output, _errors = process.communicate(timeout=300)
        finally:
            process.kill()
    LAB.on(BACKUPS, "rm -f /run/pg_restore-begun")
    said = " ".join(output.split())
    assert process.returncode != 0, output[-3000:]
    assert "Another server has become the primary meanwhile" in said and "The live database is what it was." in said, output[-5000:]
    assert flows() == there
    assert logins() == ""


@pytest.mark.parametrize("fails", [pytest.param(True, id="half way"), pytest.param(False, id="to the end")])
def test_restore(*, fails: bool) -> None:
    move_elsewhere()
    # The newest dump has no `late`.
    before, there = databases(), flows()
    assert "late" in there
    limits = {"prefect_api_start_timeout": 1} if fails else {}
    played = LAB.play("restore", expect=2 if fails else 0, prefect_restore_file="newest", prefect_restore_confirm=True, **limits)
    if fails:
        assert played.says("The live database is the one from before", "Prefect was started again and serves"), played.output[-5000:]
        assert flows() == there
        # What the failover before had left was dropped, too.
        assert not [name for name in databases() if "_restored_" in name]
    else:
        assert played.says("is healthy"), played.output[-3000:]
        assert flows() == {"early", "middle"}
        write("new")
        (previous,) = set(databases()) - set(before)
        assert previous.startswith("prefect_before_") and played.says(previous)
        # On every member.
        for host in STATE:
            assert "late" in sql(host, "SELECT name FROM flow", previous)
        subprocess.run(["docker", "exec", f"prefect-{LAB.name}-{primary()}", "runuser", "-u", "postgres", "dropdb", previous], check=True)
    assert logins() == ""
