"""PostgreSQL and Redis are restarted again and again under running flows, none of which fails for it."""

from __future__ import annotations

import pytest
from lab import Lab
from outages import survive

LAB = Lab("drill", 4320)


@pytest.mark.parametrize(("what", "times"), [("postgres", 10), ("redis", 5)])
def test_no_flow_fails(what: str, times: int, capsys: pytest.CaptureFixture[str]) -> None:
    said = survive(LAB, "state1", what, times=times, seconds=10, pause=12, at_once=30)
    with capsys.disabled():
        print(f"\n{said}")
