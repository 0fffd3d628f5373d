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
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from lab import NEW, OLD, Lab, Played  # noqa: E402  it is where the scenarios have it

LAB = Lab("upgrade", 4270)
APIS = ("api1", "api2", "api3")
ROLLS = 3
LEAST_REQUESTS, MOST_P99, MOST_RATIO = 3000, 1.5, 1.5
AWAY, BACK = "Take the server out of service", "Put the server into service"
# profile_tasks says how long the run has lasted when a task begins; the task's name comes after that, once a host has answered.
LASTED = re.compile(r"^\w+ \d+ \w+ \d+ .*\([\d:.]+\) +(\d+):(\d+):([\d.]+) ")
TASK = re.compile(r"^TASK \[(?:.* : )?(.*?)\]")


@dataclass(frozen=True)
class Roll:
    """What one upgrade was like. ``p99`` and ``away``, a server's longest absence, are in seconds; ``bare`` is what it would have been."""

    requests: int
    writes: int
    failed: int
    lost: int
    p99: float
    flow: str
    away: float
    bare: float

    @property
    def good(self) -> bool:
        """Whether it met every limit."""
        return (
            self.failed == self.lost == 0
            and self.requests >= LEAST_REQUESTS
            and self.p99 < MOST_P99
            and self.away <= MOST_RATIO * self.bare
            and self.flow == "COMPLETED"
        )

    def __str__(self) -> str:
        return (
            f"{self.requests} requests ({self.writes} writes), {self.failed} failed, {self.lost} acknowledged writes lost,"
            f" p99 {self.p99:.2f} s, flow {self.flow},"
            f" a server away for {self.away:.1f} s ({self.away / self.bare:.2f} x){'' if self.good else '  MISSED'}"
        )


def main() -> int:
    """Measures, prints, and says whether every limit was met."""
    LAB.play("../molecule/shared/destroy")
    try:
        LAB.play("../molecule/shared/create")
        LAB.play("site", prefect_version=OLD)
        bare = bare_restart()
        print(f"bare restart until healthy, under the same load: {bare:.1f} s (median of {len(APIS)})", flush=True)
        rolls = [roll(number, bare) for number in range(ROLLS)]
    finally:
        LAB.play("../molecule/shared/destroy")
    (ROOT / "build" / "bench-rolls.json").write_text(json.dumps([{**asdict(each), "good": each.good} for each in rolls], indent=2) + "\n")
    return 0 if all(each.good for each in rolls) else 1


def roll(number: int, bare: float) -> Roll:
    """One upgrade under load, and, unless it is the last, the way back without one."""
    with tempfile.TemporaryDirectory() as folder, LAB.load(Path(folder), flow=OLD) as load:
        played = LAB.play("upgrade", prefect_version=NEW, callbacks="ansible.posix.profile_tasks")
    if number + 1 < ROLLS:
        LAB.play("rollback", prefect_version=NEW, prefect_rollback_schema=True)
    counted = {key: load.report[key] for key in ("requests", "writes", "failed", "lost")}
    done = Roll(**counted, p99=load.report["latency"]["p99"], flow=load.flow["state"], away=away(played), bare=bare)
    print(f"upgrade {number + 1}: {done}", flush=True)
    return done


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


def bare_restart() -> float:
    """The seconds that servers take to restart, undrained, with as much to do beside them as in an upgrade."""
    with tempfile.TemporaryDirectory() as folder, LAB.load(Path(folder), flow=OLD):
        return median(restart_to_healthy(host) for host in APIS)


def restart_to_healthy(host: str) -> float:
    """The seconds from a bare restart of a server to its health."""
    address = LAB.on(host, "hostname -I").split()[0]
    begun = time.monotonic()
    LAB.on(host, "systemctl restart prefect-api@4200")
    while time.monotonic() < begun + 120:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}:4200/api/ready", timeout=2):
            return time.monotonic() - begun
        time.sleep(0.05)
    raise SystemExit(f"{host} did not get healthy within 120 s of its restart")


if __name__ == "__main__":
    sys.exit(main())
