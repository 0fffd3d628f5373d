#!/usr/bin/env python3
"""An upgrade of a database of real size under load, and how long everything takes that depends on its size.

Deploys the older version to hosts that this run creates and removes, fills its database with as many rows as a busy site has after some
weeks (`molecule/shared/fill.sql`), and measures: the user interface's own requests with one, two and three servers, a backup, the rehearsal
of a restore, the status, and the upgrade, whose migration is compared with the report's estimate. Each figure is printed as soon as it is
known; all of them are written to ``build/bench-large.json``. Exits 1 when a request of the upgrade failed, when there were too few, or
when the estimate was wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from database import Rows, ask, fill, pages  # noqa: E402  it is where the scenarios have it
from lab import NEW, OLD, Lab  # noqa: E402

LAB = Lab("large", 4290, "tests/bench", tls=False)
APIS = ("api1", "api2", "api3")
DATABASE, SERVICES = "postgres1", "front1"
CALLERS, CALLS = 2, 20
HOURS = 3 * 3600.0
LEAST_REQUESTS, MOST_FACTOR = 10_000, 2.5
LOCK_WAITS = """
SELECT coalesce(max(extract(epoch FROM now() - query_start)), 0) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = 'prefect'
"""
SIZES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
ORDER BY 2 DESC LIMIT 8
"""


def main(arguments: Sequence[str]) -> int:
    """Measures, prints, and says whether the limits were met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", type=int, default=1, help="divide the rows by this (1)")
    parser.add_argument("--keep", action="store_true", help="leave the hosts, and use those that are there with what they hold")
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    try:
        prepare(Rows().divided(given.part), figures, given.keep)
        measure(figures)
    finally:
        (ROOT / "build" / "bench-large.json").write_text(json.dumps(figures, indent=2) + "\n")
        if not given.keep:
            LAB.play("../molecule/shared/destroy")
    return judge(figures, LEAST_REQUESTS // given.part)


def prepare(rows: Rows, figures: dict[str, Any], keep: bool) -> None:
    """Hosts with the older version and a full database."""
    if keep and filled():
        return
    LAB.play("../molecule/shared/destroy")
    LAB.play("../molecule/shared/create")
    LAB.play("site", prefect_version=OLD)
    # Their queries would each read whole tables, whose indexes are built last.
    LAB.on(SERVICES, "systemctl stop prefect-services")
    try:
        note(figures, "fill_seconds", fill(LAB, DATABASE, rows, HOURS))
    finally:
        LAB.on(SERVICES, "systemctl start prefect-services")


def filled() -> bool:
    """Whether the hosts are there and hold rows."""
    try:
        return int(sql("SELECT count(*) FROM deployment WHERE name = 'deployment-399'")) > 0
    except subprocess.SubprocessError:
        return False


def measure(figures: dict[str, Any]) -> None:
    """Everything, one after the other."""
    note(figures, "database_bytes", int(sql("SELECT pg_database_size('prefect')")))
    note(figures, "tables", dict(line.split("|") for line in sql(SIZES).splitlines()))
    for servers in (1, 2, 3):
        with only(servers):
            note(figures, f"pages_{servers}_servers", page_times())
    backup = LAB.play("backup", seconds=HOURS, prefect_backup_timeout=int(HOURS))
    note(figures, "backup_seconds", backup.seconds)
    note(figures, "dump_bytes", int(LAB.on(DATABASE, "stat -c %s $(ls -t /var/backups/prefect/*.dump | head -1)")))
    note(figures, "rehearsal_seconds", LAB.play("restore", seconds=HOURS, prefect_restore_rehearsal=True, **longer_timeouts()).seconds)
    note(figures, "status_seconds", LAB.play("status").seconds)
    upgrade(figures)


def longer_timeouts() -> dict[str, Any]:
    """For playbooks whose own limits are those of smaller databases."""
    return {"prefect_restore_timeout": int(HOURS), "prefect_backup_timeout": int(HOURS), "prefect_migrate_timeout": int(HOURS)}


def upgrade(figures: dict[str, Any]) -> None:
    """The upgrade under load, which goes on until there were enough requests."""
    with tempfile.TemporaryDirectory() as folder, lock_waits() as waits:
        with LAB.load(Path(folder), flow=OLD, seconds=HOURS) as load:
            begun = time.monotonic()
            played = LAB.play("upgrade", callbacks="ansible.posix.profile_tasks", seconds=HOURS, prefect_version=NEW, **longer_timeouts())
            # At the load's rate of 40 requests a second.
            time.sleep(max(0.0, LEAST_REQUESTS / 40 - (time.monotonic() - begun)) if figures["database_bytes"] > 1e9 else 0)
        note(figures, "upgrade_seconds", played.seconds)
    note(figures, "load", {key: load.report[key] for key in ("requests", "failed", "lost", "latency")})
    note(figures, "flow", load.flow["state"])
    note(figures, "longest_lock_wait_seconds", max(waits, default=0.0))
    said = re.search(r"The migration takes about [^\n;]*", played.output)
    note(figures, "estimate", said.group() if said else "")
    note(figures, "slowest_tasks", re.findall(r"^(\S.*?) -+ ([\d.]+)s$", played.output, re.MULTILINE))


def judge(figures: dict[str, Any], least_requests: int) -> int:
    """What was missed; the exit code."""
    taken = next((float(seconds) for name, seconds in figures["slowest_tasks"] if "Bring the schema" in name), 0.0)
    wanted = seconds_of(figures["estimate"])
    missed = []
    if figures["load"]["failed"] or figures["load"]["lost"]:
        missed.append(f"{figures['load']['failed']} requests failed, {figures['load']['lost']} writes were lost")
    if figures["load"]["requests"] < least_requests:
        missed.append(f"{figures['load']['requests']} requests are fewer than {least_requests}")
    if not wanted / MOST_FACTOR <= taken <= wanted * MOST_FACTOR:
        missed.append(f"the migration took {taken:.0f} s and not about {wanted} s")
    print(f"migration: {taken:.0f} s, estimated {wanted} s" + "".join(f"\nMISSED: {each}" for each in missed))
    return 1 if missed else 0


def seconds_of(sentence: str) -> int:
    """The likely time in the report's sentence."""
    units = {"h": 3600, "m": 60, "s": 1}
    likely = re.match(r"The migration takes about ([^(]*)", sentence)
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", likely.group(1))) if likely else 0


def note(figures: dict[str, Any], name: str, value: Any) -> None:
    """Keeps a figure and prints it."""
    figures[name] = value
    print(f"{name}: {json.dumps(value)}", flush=True)


def sql(statement: str) -> str:
    """What the database answers."""
    command = ["docker", "exec", "--user=postgres", f"prefect-{LAB.name}-{DATABASE}", "psql", "-XAtq", "--dbname=prefect", "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@contextmanager
def only(servers: int) -> Iterator[None]:
    """With so many API servers."""
    away = APIS[servers:]
    for host in away:
        LAB.on(host, "systemctl stop prefect-api@4200")
    try:
        yield
    finally:
        for host in away:
            LAB.on(host, "systemctl start prefect-api@4200")
            while not LAB.ready(host):
                time.sleep(0.5)


def page_times() -> dict[str, dict[str, float]]:
    """For each of the pages' requests, several at once: median and 99th percentile in seconds, and how many were refused."""
    found = {}
    for name, path, body in pages():
        with ThreadPoolExecutor(CALLERS) as pool:
            answers = list(pool.map(lambda _number, path=path, body=body: asked(path, body), range(CALLS)))
        times = [seconds for seconds, _status in answers]
        found[name] = {
            "p50": round(median(times), 3),
            "p99": round(quantiles(times, n=100)[-1], 3),
            "refused": sum(status != 200 for _seconds, status in answers),
        }
    return found


def asked(path: str, body: Any) -> tuple[float, int]:
    """The seconds of a request, and its status: a query that takes longer than Prefect lets it is answered with 503."""
    begun = time.monotonic()
    status, answer = ask(LAB, path, body)
    if status not in (200, 503):
        raise SystemExit(f"{path}: HTTP {status}: {answer}")
    return time.monotonic() - begun, status


@contextmanager
def lock_waits() -> Iterator[list[float]]:
    """The longest time, in each second, for which a statement has waited for a lock."""
    waits: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1):
            waits.append(float(sql(LOCK_WAITS)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield waits
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
