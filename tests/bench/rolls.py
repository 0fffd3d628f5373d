#!/usr/bin/env python3
"""Three upgrades in a row while people use the service: what they notice of it, and how long a server is away.

Deploys the older version to the hosts of the molecule scenario `upgrade`, which this run creates and removes, and upgrades them under a
load that never retries, with the way back in between. A server's time out of service is compared with what its bare restart takes until
it is healthy, in the same run. Prints a table, writes ``build/bench-rolls.json``, and exits 1 when a limit is missed.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from lab import Lab, Played  # noqa: E402  it is where the scenarios have it

LAB = Lab("upgrade", 4270)
APIS = ("api1", "api2", "api3")
OLD, NEW = "3.7.8", "3.8.8"
ROLLS = 3
LEAST_REQUESTS, MOST_P99, MOST_RATIO = 3000, 1.5, 1.5
AWAY, BACK = "Take the server out of service", "Put the server into service"
# profile_tasks says how long the run has lasted when a task begins; the task's name comes after that, once a host has answered.
LASTED = re.compile(r"^\w+ \d+ \w+ \d+ .*\([\d:.]+\) +(\d+):(\d+):([\d.]+) ")
TASK = re.compile(r"^TASK \[(?:.* : )?(.*?)\]")


def main() -> int:
    """Measures, prints, and says whether every limit was met."""
    LAB.play("../molecule/shared/destroy")
    try:
        LAB.play("../molecule/shared/create")
        LAB.play("site", prefect_version=OLD)
        bare = median(restart_to_healthy(host) for host in APIS)
        rolls = [roll(number) for number in range(ROLLS)]
    finally:
        LAB.play("../molecule/shared/destroy")
    for each in rolls:
        each["ratio"] = round(each["away"] / bare, 2)
        each["good"] = good(each)
    (ROOT / "build" / "bench-rolls.json").write_text(json.dumps({"restart_to_healthy": bare, "rolls": rolls}, indent=2) + "\n")
    print(f"bare restart until healthy: {bare:.1f} s (median of {len(APIS)})")
    for number, each in enumerate(rolls, 1):
        print(
            f"upgrade {number}: {each['requests']} requests ({each['writes']} writes), {each['failed']} failed, {each['lost']} acknowledged writes lost,"
            f" p99 {each['p99']:.2f} s, flow {each['flow']}, a server away for {each['away']:.1f} s ({each['ratio']} x)"
            f"{'' if each['good'] else '  MISSED'}"
        )
    return 0 if all(each["good"] for each in rolls) else 1


def good(measured: dict[str, float | str]) -> bool:
    """Whether one upgrade met every limit."""
    return (
        measured["failed"] == measured["lost"] == 0
        and float(measured["requests"]) >= LEAST_REQUESTS
        and float(measured["p99"]) < MOST_P99
        and float(measured["ratio"]) <= MOST_RATIO
        and measured["flow"] == "COMPLETED"
    )


def roll(number: int) -> dict[str, float | str]:
    """One upgrade under load, and, unless it is the last, the way back without one."""
    with tempfile.TemporaryDirectory() as folder, LAB.load(Path(folder), flow=OLD) as load:
        played = LAB.play("upgrade", prefect_version=NEW, callbacks="ansible.posix.profile_tasks")
    if number + 1 < ROLLS:
        LAB.play("rollback", prefect_version=NEW, prefect_rollback_schema=True)
    report = load.report
    return {
        **{key: report[key] for key in ("requests", "writes", "failed", "lost")},
        "p99": report["latency"]["p99"],
        "flow": load.flow["state"],
        "away": away(played),
    }


def away(played: Played) -> float:
    """The seconds from the beginning of a drain to the beginning of whatever comes after the server was put back, the longest of all."""
    lasted, left, spans = 0.0, 0.0, []
    name = ""
    for line in played.output.splitlines():
        if match := LASTED.match(line):
            hours, minutes, seconds = match.groups()
            lasted = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            if name == BACK and left:
                spans.append(lasted - left)
                left = 0.0
        elif match := TASK.match(line):
            name = match[1]
            left = lasted if name == AWAY else left
    return max(spans)


def restart_to_healthy(host: str) -> float:
    """The seconds from a bare restart of a server to its health."""
    address = LAB.on(host, "hostname -I").split()[0]
    begun = time.monotonic()
    LAB.on(host, "systemctl restart prefect-api@4200")
    while time.monotonic() < begun + 120:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}:4200/api/ready", timeout=2):  # noqa: S310  a test host
            return time.monotonic() - begun
        time.sleep(0.05)
    raise SystemExit(f"{host} did not get healthy within 120 s of its restart")


if __name__ == "__main__":
    sys.exit(main())
