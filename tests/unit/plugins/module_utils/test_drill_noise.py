"""Whether something else on the machine made a drill's answers slow: recorded series, with what the drill says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.noise import noise, read_stat, read_units, uses, watch
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.report import result, text
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished

AT = 1000.0  # the fault
CPUS = 2.0


def series(host: str, machine: str, before: tuple[float, ...], after: tuple[float, ...], offset: float = 0.0) -> dict[str, Any]:
    """Samples of 10 s before the fault and 30 s from it on. Each window is: parts of the CPU in use, of the host's units, stolen."""
    samples, every, busy, stolen, own = [], 0.0, 0.0, 0.0, 0.0
    for second in range(-11, 32):
        samples.append([AT + second + offset, every, busy, stolen, own])
        used, taken, kept = before if second < 0 else after
        every, busy, stolen, own = every + CPUS, busy + used * CPUS, stolen + kept * CPUS, own + taken * CPUS
    return {"host": host, "machine": machine, "samples": samples}


QUIET = (0.5, 0.3, 0.0)
BURNER = (1.0, 0.2, 0.0)  # something else takes what the service does not
CIRCLES = (1.0, 0.9, 0.0)  # a server of the service turns in circles
STOLEN = (0.6, 0.3, 0.25)


def line(slow_from: float | None = None, failed_at: float | None = None) -> str:
    """Requests each 25 ms, which take a second from some moment on; one may fail."""
    samples = []
    for number in range(1600):
        sent = number / 40
        slow = slow_from is not None and sent - 10 >= slow_from
        samples.append([sent, 1.0 if slow else 0.05, 0 if failed_at is not None and abs(sent - 10 - failed_at) < 0.01 else 1])
    return json.dumps({"began_at": AT - 10, "ended": 40.0, "samples": samples, "events": [[number / 2 for number in range(81)]]})


def scenario(watched: list[dict[str, Any]], timeline: str, **more: Any) -> dict[str, Any]:
    values = {
        "name": "restart_nginx",
        "title": "nginx restarted",
        "target": "state1",
        "kind": "restart",
        "limits": {"lost": 0, "incomplete": 0, "longest": 0.9, "normal_after": 5, "events_after": 15},
        "load": {"timeline": timeline, "acknowledged": 600, "lost": 0, "twice": 0, "failures": []},
        "watch": {
            "scheduler": {"changes": [[999.0, 1002.0], [1002.1, 1032.0]], "silent": [], "ended": 1030.0},
            "flows": {"runs": [{"id": "1", "at": 1001.0, "took": 1.0, "state": "COMPLETED", "problem": ""}], "problem": ""},
        },
        "fault": {"at": AT, "until": AT + 1, "by_itself": True},
        "noise": watched,
    }
    return {**values, **more}


def judged(watched: list[dict[str, Any]], timeline: str, **more: Any) -> tuple[str, list[str]]:
    found = result([scenario(watched, timeline, **more)], {})
    (one,) = found["scenarios"]
    assert found["outcome"] == one["outcome"]
    assert found["passed"] is one["passed"] is (one["outcome"] == "pass")
    return one["outcome"], one["reasons"]


SLOW = line(slow_from=2)


@pytest.mark.parametrize(
    ("before", "after", "timeline", "outcome"),
    [
        pytest.param(QUIET, QUIET, line(), "pass", id="quiet, and well"),
        pytest.param(QUIET, BURNER, line(), "pass", id="noise that does no harm"),
        pytest.param(QUIET, BURNER, SLOW, "inconclusive", id="noise from the fault on"),
        pytest.param(BURNER, QUIET, SLOW, "inconclusive", id="noise before the fault"),
        pytest.param(STOLEN, STOLEN, SLOW, "inconclusive", id="a hypervisor that keeps the CPU back"),
        pytest.param(QUIET, QUIET, SLOW, "fail", id="a regression on a quiet machine"),
        pytest.param(QUIET, CIRCLES, SLOW, "fail", id="a server that turns in circles"),
        pytest.param(QUIET, BURNER, line(failed_at=20), "fail", id="a request that failed, whatever the noise"),
        pytest.param(QUIET, BURNER, line(slow_from=2, failed_at=20), "fail", id="slow, and failed"),
    ],
)
def test_outcomes(before: tuple[float, ...], after: tuple[float, ...], timeline: str, outcome: str) -> None:
    assert judged([series("state1", "m", before, after)], timeline)[0] == outcome


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"load": {"timeline": SLOW, "acknowledged": 600, "lost": 1, "twice": 0}}, id="a write was lost"),
        pytest.param({"unwell": "api3 hangs"}, id="the cluster was not well afterwards"),
        pytest.param({"limits": {"normal_after": 5, "failed": -1}}, id="a number of requests"),
        pytest.param(
            {"watch": {"scheduler": {"changes": [[999.0, 1002.0]], "ended": 1030.0}, "flows": scenario([], SLOW)["watch"]["flows"]}}
            | {"limits": {"normal_after": 5, "scheduling_after": 15}},
            id="the scheduler never ticked again",
        ),
    ],
)
def test_noise_excuses_slowness_only(more: dict[str, Any]) -> None:
    assert judged([series("state1", "m", QUIET, BURNER)], SLOW, **more)[0] == "fail"


def test_without_a_look_at_the_cpu_nothing_is_excused() -> None:
    assert judged([], SLOW)[0] == "fail"
    assert judged([{"host": "state1", "machine": "", "samples": []}], SLOW)[0] == "fail"


def test_what_is_said() -> None:
    found = result([scenario([series("state1", "m", QUIET, BURNER)], SLOW)], {})
    lines = text(found)
    assert lines[0].startswith("NOT CONCLUSIVE  restart_nginx on state1: 0 of ")
    assert "not within the drill, and the limit is 5 s" in " ".join(lines)
    assert (
        "something else on the machine took the CPU from the fault on, state1: 100% of the CPU was in use, "
        "80% by what is no part of the service (100% of the time crowded)" in lines[-1]
    )
    cpu = found["scenarios"][0]["cpu"]
    assert {when: (round(cpu[when]["busy"], 2), round(cpu[when]["others"], 2)) for when in ("before", "from")} == {
        "before": (0.5, 0.2),
        "from": (1.0, 0.8),
    }
    assert json.loads(json.dumps(found)) == found


def test_hosts_that_share_a_machine_are_added_up() -> None:
    """Containers: each of them sees the whole CPU, and its own units only. Their samples come at moments of their own."""
    busy = (1.0, 0.3, 0.0)
    shared = [series(f"api{number}", "m", busy, busy, number / 4) for number in range(3)]
    assert noise(shared, AT, AT + 29) == []
    assert uses(shared, AT, AT + 29)["others"] == pytest.approx(0.1, abs=0.02)
    apart = [{**one, "machine": one["host"]} for one in shared]
    assert [str(one).partition(":")[0] for one in noise(apart, AT, AT + 29)] == ["api0", "api1", "api2"]


def test_reading_the_kernel_and_systemd() -> None:
    stat = "cpu  100 10 50 800 20 5 5 10 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert read_stat(stat, 100) == pytest.approx((10.0, 1.8, 0.1))
    shown = (
        "Id=a.service\nCPUUsageNSec=1500000000\n\nCPUUsageNSec=[not set]\n\nCPUUsageNSec=18446744073709551615\n\nCPUUsageNSec=500000000\n"
    )
    assert read_units(shown) == 2.0


def test_watching() -> None:
    now = [AT]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def command(argv: Sequence[str], timeout: float, **_: Any) -> Finished:
        assert argv[-1] == "a.service"
        assert timeout <= 10
        return Finished(0, "CPUUsageNSec=1000000000\n")

    found = watch(
        2,
        ["a.service"],
        100,
        read=lambda path: "boot\n" if path.endswith("boot_id") else "cpu  100 0 0 100 0 0 0 0\n",
        command=command,
        clock=lambda: now[0],
        sleep=sleep,
    )
    assert found == {"machine": "boot", "samples": [(AT + second, 2.0, 1.0, 0.0, 1.0) for second in range(3)]}
