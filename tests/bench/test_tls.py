"""What the comparison of both sides makes of its rounds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
tls = importlib.import_module("tls")


def rounds(on: list[tuple[float, float]], failed: int = 0) -> list[object]:
    """Three rounds without TLS at 100 requests a second and 10 ms, the last of them disturbed, and those with it."""
    off = [tls.Round(False, 1000, 0, rps, p50) for rps, p50 in ((100, 0.010), (101, 0.0101), (20, 0.05))]
    return [*off, *(tls.Round(True, 1000, failed, rps, p50) for rps, p50 in on)]


@pytest.mark.parametrize(
    ("on", "failed", "good"),
    [
        ([(90, 0.0111), (91, 0.011), (10, 0.1)], 0, True),
        ([(85, 0.0118), (85, 0.0118)], 0, True),
        ([(84, 0.0111)], 0, False),
        ([(90, 0.0121)], 0, False),
        ([(100, 0.010)], 1, False),
    ],
)
def test_the_verdict(on: list[tuple[float, float]], failed: int, good: bool) -> None:
    assert tls.judge(rounds(on, failed)).good is good


def test_what_tls_leaves() -> None:
    verdict = tls.judge(rounds([(50, 0.020)]))
    assert (verdict.throughput, verdict.latency) == (0.5, 0.505)


def test_both_sides_are_the_same_but_for_tls() -> None:
    on, off = (tls.Side("x", 1, tls=mode, network="172.28.16") for mode in (True, False))
    assert on.inventory == off.inventory
    assert (on.url, off.url, off.authority) == ("https://127.0.0.1:1/api", "http://127.0.0.1:1/api", None)
