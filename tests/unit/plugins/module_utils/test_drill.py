from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill import drill
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.drill import Sample, Scenario

STEADY = [Sample(-8 + number / 40, 0.05, True) for number in range(28 * 40)]
TICKS = [(-7.5 + 5 * number, -2.6 + 5 * number) for number in range(6)]
FLOW = {"id": "1", "state": "COMPLETED", "problem": ""}
EVENTS = [[-8 + number / 2 for number in range(56)]] * 2


def one(samples: list[Sample] | None = None, **more: Any) -> Scenario:
    values: dict[str, Any] = {
        "name": "x",
        "samples": STEADY + (samples or []),
        "until": 10.0,
        "ended": 20.0,
        "events": EVENTS,
        "ticks": TICKS,
        "watched": 20.0,
        "flows": [FLOW] * 3,
        "counts": {"acknowledged": 5, "lost": 0, "twice": 0},
    }
    return Scenario(**{**values, **more})


def test_nothing_happens() -> None:
    found = drill.measure(one())
    assert found["failed"] == found["slow"] == found["degraded"] == found["incomplete"] == 0
    assert found["failing_for"] == found["normal_after"] == found["scheduling_after"] == found["events_after"] == 0
    assert found["requests"] == pytest.approx(800, abs=3)
    assert (found["p99_before"], found["p99_after"], found["longest"]) == (0.05, 0.05, 0.05)
    assert set(found) <= set(drill.MEASURES)


@pytest.mark.parametrize(
    ("samples", "measures"),
    [
        # Two fail at once, one of them was under way.
        (
            [Sample(-0.1, 0.2, False), Sample(0.3, 0.1, False)],
            {"failed": 2, "failing_for": 0.4, "normal_after": 0.4, "degraded": 1, "longest": 0.2},
        ),
        # A few slow ones are what p99 allows, many are not.
        ([Sample(3, 1.5, True)], {"failed": 0, "slow": 1, "normal_after": 0, "degraded": 0, "longest": 1.5}),
        ([Sample(3 + number / 10, 1.5, True) for number in range(10)], {"slow": 10, "normal_after": 5.4}),
        # One that hangs until the end of the load.
        ([Sample(1, 19, False)], {"failing_for": 20, "normal_after": None, "longest": 19}),
        # Before the fault is before the fault.
        ([Sample(-3, 1, False)], {"failed": 0, "failing_for": 0}),
    ],
)
def test_requests(samples: list[Sample], measures: dict[str, Any]) -> None:
    found = drill.measure(one(samples))
    for name, value in measures.items():
        assert found[name] == (value if value is None else pytest.approx(value)), name


@pytest.mark.parametrize(
    ("samples", "meanwhile", "after_return"),
    [
        ([], 0, 0),
        # The return has a time of its own.
        ([Sample(3, 0.2, False), Sample(11, 0.5, False)], 3.2, 1.5),
        ([Sample(2, 0.2, False), *(Sample(10.2 + number / 10, 1.5, True) for number in range(10))], 2.2, 2.6),
        # Not normal until the fault has ended: what waits for that is slow meanwhile.
        ([Sample(3 + number / 10, 7.5, True) for number in range(10)], None, 1.4),
        # Nor after it.
        ([Sample(11, 8.5, False)], 0, None),
    ],
)
def test_a_fault_that_lasts(samples: list[Sample], meanwhile: float | None, after_return: float | None) -> None:
    found = drill.measure(one(samples, released=10.0, until=10.5))
    for name, value in (("normal_meanwhile", meanwhile), ("normal_after_return", after_return)):
        assert found[name] == (value if value is None else pytest.approx(value)), name
    assert set(found) <= set(drill.MEASURES)
    assert "normal_meanwhile" not in drill.measure(one(samples))


def test_what_is_slow_depends_on_what_is_normal() -> None:
    assert drill.normal_seconds(0.05) == 0.5
    assert drill.normal_seconds(0.6) == 1.2


@pytest.mark.parametrize(
    ("ticks", "after"),
    [
        (TICKS, 0.0),
        ([], None),
        # Due at 2.4, and seen 9 seconds after the fault.
        ([(-7.5, -2.6), (-2.5, 2.4), (9.0, 14.0), (14.1, 19.1)], 9.0),
        # One slips through, then nothing.
        ([(-2.5, 2.4), (2.5, 7.4)], None),
        # A stall that was over at the fault.
        ([(-9, -8), (-3, 2.4), (2.5, 7.4), (7.5, 12.4), (12.5, 19)], 0.0),
    ],
)
def test_scheduling(ticks: list[tuple[float, float]], after: float | None) -> None:
    assert drill.scheduling_after(ticks, 20.0) == after


@pytest.mark.parametrize(
    ("events", "after"),
    [
        ([], 0.0),
        (EVENTS, 0.0),
        ([EVENTS[0], [-1, 0, 6.5, *range(7, 20)]], 6.5),
        ([EVENTS[0], [-1, 0, 6.5]], None),
        ([EVENTS[0], []], None),
        ([[-8, -3, *range(-2, 20)]], 0.0),
    ],
)
def test_events(events: list[list[float]], after: float | None) -> None:
    assert drill.events_after(events, 20.0) == after


def test_what_comes_of_kinds() -> None:
    killed = drill.measure(one(killed=True, until=2.5))
    assert (killed["back_after"], killed["by_itself"]) == (2.5, True)
    helped = drill.measure(one(killed=True, by_itself=False))
    assert (helped["back_after"], helped["by_itself"]) == (None, False)
    restarted = drill.measure(one([Sample(11, 1, False)], restarted=True))
    assert restarted["serving_after_return"] == 2
    assert "back_after" not in restarted


@pytest.mark.parametrize("flow", [{"state": "RUNNING", "problem": ""}, {"state": "COMPLETED", "problem": "lost"}, {"state": "UNKNOWN"}])
def test_flows(flow: dict[str, str]) -> None:
    assert drill.measure(one(flows=[FLOW, flow]))["incomplete"] == 1


@pytest.mark.parametrize(
    ("measures", "limits", "reasons"),
    [
        ({"failed": 3}, {"failed": 3}, []),
        ({"failed": 4}, {"failed": 3}, ["failed requests: 4, and the limit is 3"]),
        (
            {"normal_after": None},
            {"normal_after": 10},
            ["nothing failed and p99 normal again after: not within the drill, and the limit is 10 s"],
        ),
        ({"by_itself": False}, {"by_itself": True}, ["the process came back by itself: no, and the limit is yes"]),
        ({"by_itself": True}, {"by_itself": True}, []),
        # A limit for what this scenario does not have is none.
        ({}, {"serving_after_return": 5}, []),
    ],
)
def test_judging(measures: dict[str, Any], limits: dict[str, Any], reasons: list[str]) -> None:
    verdict = drill.judge(measures, limits)
    assert verdict.reasons == reasons
    assert verdict.passed == (not reasons)


def test_a_limit_for_nothing() -> None:
    with pytest.raises(ValueError, match="no measure called faild"):
        drill.judge({}, {"faild": 1})


def test_three_clocks_become_one() -> None:
    timeline = {"began_at": 990.0, "ended": 30.0, "samples": [[9, 0.5, 1], [11, 0.1, 0]], "events": [[9.5, 12.0]]}
    load = {"timeline": json.dumps(timeline), "acknowledged": 7, "lost": 1, "twice": 0}
    watch = {
        "scheduler": {"changes": [[998.0, 1003.0]], "silent": [], "ended": 1020.0},
        "flows": {"runs": [{"id": "1", "at": 1001.0, "took": 1.0, "state": "COMPLETED", "problem": ""}]},
    }
    found = drill.scenario("kill_api", "kill", load, watch, {"at": 1000.0, "until": 1002.0, "by_itself": True})
    assert found.samples == [Sample(-1, 0.5, True), Sample(1, 0.1, False)]
    assert (found.until, found.ended, found.watched, found.killed, found.restarted) == (2.0, 20.0, 20.0, True, False)
    assert (list(found.events), list(found.ticks), found.flows[0]["at"]) == ([[-0.5, 2.0]], [(-2.0, 3.0)], 1.0)
    assert found.counts == {"acknowledged": 7, "lost": 1, "twice": 0}
    assert found.released is None
    assert drill.scenario("cut_api", "cut", load, watch, {"at": 1000.0, "released": 1010.0, "until": 1011.0}).released == 10.0
