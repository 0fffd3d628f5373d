#!/usr/bin/env python3
"""Three upgrades in a row while people use the service: what they notice of it, and how long a server is away.

Deploys the older version to the hosts of the molecule scenario `upgrade`, which this run creates and removes, and upgrades them under a
load that never retries, with the way back in between. A server is out of service from the first connection that it refuses, seen from
outside, until it answers the balancer's first request after that, seen in the balancer's log. That is compared with what a bare restart of
the newer version takes until it is healthy, in the same run under the same load. Prints what it finds, writes
``build/bench-rolls.json``, and exits 1 when a limit is missed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from lab import NEW, OLD, Lab  # noqa: E402  it is where the scenarios have it

LAB = Lab("upgrade", 4270)
PORT = 4200
APIS = ("api1", "api2", "api3")
ROLLS = 3
LEAST_REQUESTS, LEAST_PAGES, MOST_P99, MOST_RATIO = 3000, 10, 1.5, 1.5
LOOK_EVERY = 0.05


@dataclass(frozen=True)
class Roll:
    """What one upgrade was like. ``p99`` and ``away``, a server's longest absence, are in seconds; ``bare`` is what it would have been."""

    requests: int
    writes: int
    failed: int
    lost: int
    pages: int
    broken: int
    """Of the pages; with the parts that an open page lacked."""
    p99: float
    flow: str
    away: float
    bare: float = float("nan")

    @property
    def good(self) -> bool:
        """Whether it met every limit."""
        return (
            self.failed == self.lost == self.broken == 0
            and self.requests >= LEAST_REQUESTS
            and self.pages >= LEAST_PAGES
            and self.p99 < MOST_P99
            and self.away <= MOST_RATIO * self.bare
            and self.flow == "COMPLETED"
        )

    def __str__(self) -> str:
        return (
            f"{self.requests} requests ({self.writes} writes), {self.failed} failed, {self.lost} acknowledged writes lost,"
            f" {self.broken} of {self.pages} pages broken, p99 {self.p99:.2f} s, flow {self.flow}, a server away for {self.away:.1f} s"
        )


def main() -> int:
    """Measures, prints, and says whether every limit was met."""
    LAB.play("../molecule/shared/destroy")
    try:
        LAB.play("../molecule/shared/create")
        LAB.play("site", prefect_version=OLD)
        measured = [roll(number) for number in range(ROLLS)]
        bare = bare_restart()
    finally:
        LAB.play("../molecule/shared/destroy")
    print(f"bare restart until healthy, under the same load: {bare:.1f} s (median of {len(APIS)})")
    rolls = [replace(each, bare=bare) for each in measured]
    for number, each in enumerate(rolls, 1):
        print(f"upgrade {number}: {each}: {each.away / bare:.2f} x{'' if each.good else '  MISSED'}")
    (ROOT / "build" / "bench-rolls.json").write_text(json.dumps([{**asdict(each), "good": each.good} for each in rolls], indent=2) + "\n")
    return 0 if all(each.good for each in rolls) else 1


def roll(number: int) -> Roll:
    """One upgrade under load, after the way back from the one before without any."""
    if number:
        LAB.play("rollback", prefect_version=NEW, prefect_rollback_schema=True)
    addresses = [LAB.on(host, "hostname -I").split()[0] for host in APIS]
    with tempfile.TemporaryDirectory() as folder, LAB.load(Path(folder), flow=OLD, browsers=1) as load, watched(addresses) as absence:
        LAB.play("upgrade", prefect_version=NEW)
    if sorted(address for address, _span in absence.spans) != sorted(addresses):
        raise SystemExit(f"each of {', '.join(addresses)} should have been away once; seen: {absence.spans}")
    counted = {key: load.report[key] for key in ("requests", "writes", "failed", "lost")}
    seen = load.report["pages"]
    pages = {"pages": seen["loaded"], "broken": seen["broken"] + seen["later_missing"]}
    away = max(span for _address, span in absence.spans)
    done = Roll(**counted, **pages, p99=load.report["latency"]["p99"], flow=load.flow["state"], away=away)
    print(f"upgrade {number + 1} of {ROLLS}: {done}", flush=True)
    return done


@dataclass
class Absence:
    """The times, in seconds of the monotonic clock, at which servers went and came back."""

    addresses: Sequence[str]
    spans: list[tuple[str, float]] = field(default_factory=list)
    """For each absence, whose it was and how long it lasted."""
    _gone: dict[str, float] = field(default_factory=dict)
    _open: dict[str, float] = field(default_factory=dict)

    def seen(self, address: str, accepts: bool, now: float) -> None:
        """Takes note of whether a server accepts connections."""
        if not accepts:
            self._gone.setdefault(address, now)
            self._open.pop(address, None)
        elif address in self._gone:
            self._open.setdefault(address, now)

    def answered(self, address: str, now: float) -> None:
        """Takes note of a request that the balancer had answered by a server."""
        if address in self._open:
            del self._open[address]
            self.spans.append((address, now - self._gone.pop(address)))


@contextlib.contextmanager
def watched(addresses: Sequence[str]) -> Iterator[Absence]:
    """Watches the servers, and the balancer's log, for as long as the context lasts."""
    absence, over = Absence(addresses), threading.Event()
    # tail cannot watch an overlay file system, and would look once a second.
    tail = ["tail", "-n0", "-F", f"--sleep-interval={LOOK_EVERY}", "/var/log/nginx/prefect.log"]
    command = ["docker", "exec", f"prefect-{LAB.name}-state1", *tail]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as log:
        threads = [threading.Thread(target=knock, args=(absence, over)), threading.Thread(target=read, args=(absence, log))]
        for thread in threads:
            thread.start()
        try:
            yield absence
        finally:
            over.set()
            log.terminate()
            for thread in threads:
                thread.join()


def knock(absence: Absence, over: threading.Event) -> None:
    """Tries to connect to each server again and again."""
    while not over.wait(LOOK_EVERY):
        for address in absence.addresses:
            try:
                socket.create_connection((address, PORT), 0.5).close()
                accepts = True
            except OSError:
                accepts = False
            absence.seen(address, accepts, time.monotonic())


def read(absence: Absence, log: subprocess.Popen[str]) -> None:
    """Follows the balancer's log, whose lines come as the requests are answered."""
    for line in log.stdout or ():
        with contextlib.suppress(ValueError):  # a line that is cut off by the end
            entry = json.loads(line)
            if entry["status"].startswith("2"):
                absence.answered(entry["upstream"].rpartition(":")[0], time.monotonic())


def bare_restart() -> float:
    """The seconds that servers take to restart, undrained, with as much to do beside them as in an upgrade."""
    with tempfile.TemporaryDirectory() as folder, LAB.load(Path(folder), flow=OLD, browsers=1):
        return median(restart_to_healthy(host) for host in APIS)


def restart_to_healthy(host: str) -> float:
    """The seconds from a bare restart of a server to its health."""
    address = LAB.on(host, "hostname -I").split()[0]
    begun = time.monotonic()
    LAB.on(host, f"systemctl restart prefect-api@{PORT}")
    while time.monotonic() < begun + 120:
        with contextlib.suppress(OSError), LAB.open(f"{LAB.scheme}://{address}:{PORT}/api/ready", timeout=2):
            return time.monotonic() - begun
        time.sleep(0.05)
    raise SystemExit(f"{host} did not get healthy within 120 s of its restart")


if __name__ == "__main__":
    sys.exit(main())
