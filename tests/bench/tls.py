"""What TLS on every connection costs: requests a second and their median time through the whole path, with it and without.

Deploys the same hosts twice, side by side, once with all of it on and once with ``tls_mode: "off"``, and loads them in turn, so that
whatever else the machine does hits both alike. With "off" asyncpg still encrypts the connections to PostgreSQL, as the server offers it.
Clients keep their connection, as Prefect's do. Prints each round, writes ``build/bench-tls.json``, and exits 1 when a request failed or
TLS leaves less than LEAST of what there is without it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "molecule" / "shared"), str(ROOT / "tests" / "load")]

# It is where the scenarios have it; the second makes the collection importable.
import collection  # noqa: E402, F401  # pylint: disable=unused-import
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.load import Options, load  # noqa: E402
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import Target  # noqa: E402
from lab import Lab  # noqa: E402

ROUNDS = 6
SECONDS, WARM_SECONDS = 12.0, 6.0
CLIENTS = 6
LEAST = 0.85


@dataclass(frozen=True)
class Side(Lab):
    """One of the two deployments."""

    network: str = ""

    @property
    def inventory(self) -> str:
        return "tests/bench/tls/inventory"

    def start(self, playbook: str, *arguments: str, callbacks: str = "", **variables: Any) -> subprocess.Popen[str]:
        own = {"lab_name": self.name, "lab_network": self.network, "lab_port": self.port, "tls_mode": "private_ca" if self.tls else "off"}
        process: subprocess.Popen[str] = super().start(playbook, *arguments, callbacks=callbacks, **own, **variables)
        return process


@dataclass(frozen=True)
class Round:
    """What the clients of one side saw for some seconds. ``p50`` is in seconds."""

    tls: bool
    requests: int
    failed: int
    rps: float
    p50: float

    def __str__(self) -> str:
        side = "with TLS" if self.tls else "without"
        return f"{side:9} {self.rps:7.1f} requests/s, median {1000 * self.p50:6.2f} ms, {self.failed} failed"


@dataclass(frozen=True)
class Verdict:
    """What TLS leaves, as parts of what there is without it."""

    throughput: float
    latency: float
    failed: int

    @property
    def good(self) -> bool:
        return self.failed == 0 and self.throughput >= LEAST and self.latency >= LEAST


def main() -> int:
    """Measures, prints, and says whether the limit was met."""
    sides = (Side("tls-on", 4360, network="172.28.16"), Side("tls-off", 4361, tls=False, network="172.28.17"))
    rounds: list[Round] = []
    try:
        for side in sides:
            side.play("../molecule/shared/destroy")
            side.play("../molecule/shared/create")
            side.play("site")
            one_round(side, WARM_SECONDS)
        for number in range(ROUNDS):
            for side in sides if number % 2 else reversed(sides):
                rounds.append(one_round(side, SECONDS))
                print(rounds[-1], flush=True)
    finally:
        for side in sides:
            side.play("../molecule/shared/destroy")
    verdict = judge(rounds)
    found = {**asdict(verdict), "rounds": [asdict(each) for each in rounds]}
    (ROOT / "build" / "bench-tls.json").write_text(json.dumps(found, indent=2) + "\n")
    print(
        f"with TLS: {verdict.throughput:.2f} of the throughput, {verdict.latency:.2f} of the speed by the median"
        f" (at least {LEAST}), {verdict.failed} failed{'' if verdict.good else '  MISSED'}"
    )
    return 0 if verdict.good else 1


def one_round(side: Side, seconds: float) -> Round:
    """As many requests as the clients get answered, one after the other each."""
    target = Target.parse(side.url, side.auth_string, str(side.authority or ""))
    options = Options(target, clients=CLIENTS, fresh=0, pausing=0, subscribers=0, rate=0, seconds=seconds, clean=True)
    found = asyncio.run(load(options))
    return Round(side.tls, found["requests"], found["failed"], found["requests"] / found["seconds"], found["latency"]["p50"])


def judge(rounds: Sequence[Round]) -> Verdict:
    """Compares the medians of the rounds of both sides."""
    on, off = ([each for each in rounds if each.tls is tls] for tls in (True, False))
    throughput = median(each.rps for each in on) / median(each.rps for each in off)
    latency = median(each.p50 for each in off) / median(each.p50 for each in on)
    return Verdict(round(throughput, 3), round(latency, 3), sum(each.failed for each in rounds))


if __name__ == "__main__":
    sys.exit(main())
