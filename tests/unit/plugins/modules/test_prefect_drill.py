"""The four modules of a failover drill, around logic that has its own tests."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.fault import Broken, FaultError
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.watch import WatchError
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import FailedError
from ansible_collections.selfhosted.prefect.plugins.modules import (
    prefect_drill_fault,
    prefect_drill_report,
    prefect_drill_watch,
    prefect_load,
)

UNIT = "prefect-api@4200.service"
URL = "http://balancer:4200/api"


class FaultInjector:
    def __init__(self, fault: Any) -> None:
        FaultInjector.fault = fault  # type: ignore[attr-defined]

    def prepare(self) -> list[str]:
        return [UNIT]

    def carry_out(self, hold: float, guard: float) -> Broken:
        assert (hold, guard) == (20, 90)
        return Broken(1.0, 2.0, 2.0, True)

    def restore(self) -> bool:
        return True


@pytest.fixture
def injector(monkeypatch: pytest.MonkeyPatch) -> type[FaultInjector]:
    monkeypatch.setattr(prefect_drill_fault, "FaultInjector", FaultInjector)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return FaultInjector


@pytest.mark.usefixtures("injector")
def test_a_fault(run_module: Any) -> None:
    result = run_module(prefect_drill_fault.main, kind="freeze", units=[UNIT])
    assert result["changed"]
    assert (result["at"], result["until"], result["by_itself"], result["units"]) == (1.0, 2.0, True, [UNIT])
    checked = run_module(prefect_drill_fault.main, check=True, kind="freeze", units=[UNIT])
    assert checked["units"] == [UNIT]
    assert "at" not in checked
    assert run_module(prefect_drill_fault.main, state="reverted")["changed"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "state is made but all of the following are missing: kind"),
        ({"kind": "cut"}, "kind=cut takes ports"),
        ({"kind": "stop"}, "kind=stop takes units"),
        ({"kind": "crash", "units": ["x.service"], "peers": ["192.0.2.1"]}, "kind=crash takes no peers"),
        (
            {"kind": "cut", "ports": [5432], "peers": ["no-such-host.invalid"]},
            "no-such-host.invalid, which this host is to be cut off from",
        ),
        ({"kind": "cut", "ports": [4200, 22]}, "ports must not hold 22"),
        ({"kind": "stop", "units": ["x.service"], "seconds": 90}, "guard (90 s) must exceed seconds (90 s)"),
        ({"kind": "stop", "units": ["--all"]}, "does not begin with a dash"),
    ],
)
@pytest.mark.usefixtures("injector")
def test_no_fault(run_module: Any, arguments: dict[str, Any], says: str) -> None:
    result = run_module(prefect_drill_fault.main, **arguments)
    assert result["failed"]
    assert says in result["msg"]


def test_a_fault_that_cannot_be_made(run_module: Any, injector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Any) -> list[str]:
        raise FaultError("no timer")

    monkeypatch.setattr(injector, "prepare", refuse)
    assert run_module(prefect_drill_fault.main, kind="kill", units=[UNIT])["msg"] == "no timer"


def test_a_load(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def load(options: Any) -> dict[str, Any]:
        seen.append(options)
        return {"requests": 3, "failed": 2, "timeline": {"samples": [[0, 1, 1]]}}

    monkeypatch.setattr(prefect_load, "load", load)
    result = run_module(prefect_load.main, url="http://balancer:4200", auth_string="admin:x", seconds=5)
    assert (result["changed"], result["requests"], json.loads(result["timeline"])) == (False, 3, {"samples": [[0, 1, 1]]})
    assert result["requests_failed"] == 2
    assert "failed" not in result  # or Ansible would take the task for one that has failed
    (options,) = seen
    assert (options.target.base, options.target.auth, options.seconds, options.rate) == ("/api", "admin:x", 5, 40)
    assert options.clean
    assert options.timeline
    assert "flow_runs" in options.kinds
    run_module(prefect_load.main, check=True, url=URL)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"url": "ftp://x"}, "url must begin with http"),
        ({"url": URL, "rate": 0}, "rate is 0; it has to be more than that"),
        ({"url": URL, "clients": 0, "fresh": 0, "pausing": 0}, "there is no client to send requests"),
        ({"url": "https://x/api", "ca_file": "/nowhere"}, "No such file"),
    ],
)
def test_no_load(run_module: Any, arguments: dict[str, Any], says: str) -> None:
    result = run_module(prefect_load.main, **arguments)
    assert result["failed"]
    assert says in result["msg"]
    assert result["msg"].endswith("Nothing was sent.")


def test_a_load_that_could_not_start(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(_options: Any) -> dict[str, Any]:
        raise FailedError("HTTP 503")

    monkeypatch.setattr(prefect_load, "load", load)
    assert "could not start: http://balancer:4200/api did not take a flow: HTTP 503" in run_module(prefect_load.main, url=URL)["msg"]


class Flows:
    closed = 0
    problem: Exception | None = None

    def __init__(self, python: str, user: str, login: dict[str, str], seconds: float) -> None:
        if self.problem:
            raise self.problem  # pylint: disable=raising-bad-type
        assert (python, user, seconds) == ("/opt/prefect/current/bin/python", "prefect", 5)
        assert login["PREFECT_API_URL"] == URL

    def result(self) -> dict[str, Any]:
        return {"runs": [], "problem": ""}

    def close(self) -> None:
        Flows.closed += 1


def test_watching(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_drill_watch, "Flows", Flows)
    monkeypatch.setattr(prefect_drill_watch, "ticks", lambda redis, seconds: {"changes": [], "redis": redis["db"], "seconds": seconds})
    arguments = {"seconds": 5, "url": URL + "/", "redis": {"host": "r"}}
    result = run_module(prefect_drill_watch.main, **arguments)
    assert (result["changed"], result["flows"]["problem"]) == (False, "")
    assert result["scheduler"] == {"changes": [], "redis": 1, "seconds": 5}
    assert Flows.closed == 1
    unscheduled = run_module(prefect_drill_watch.main, scheduler=False, **arguments)
    assert unscheduled["scheduler"] == {"switched_off": True}
    Flows.closed -= 1
    assert "flows" not in run_module(prefect_drill_watch.main, check=True, **arguments)
    for problem, says in (
        (KeyError("prefect"), "no user prefect on this host"),
        (WatchError("no python"), "no python. Nothing was changed."),
    ):
        monkeypatch.setattr(Flows, "problem", problem)
        assert says in run_module(prefect_drill_watch.main, **arguments)["msg"]


def test_a_report(run_module: Any) -> None:
    scenario = {"name": "kill_api", "target": "api3", "problem": "no timer"}
    for check in (True, False):
        found = run_module(prefect_drill_report.main, check=check, about={"url": URL}, scenarios=[scenario])
        assert (found["changed"], found["passed"], found["outcome"]) == (False, False, "fail")
        assert found["lines"] == ["FAIL  kill_api on api3", "      no timer"]
        assert found["report"]["url"] == URL
        assert found["report"]["scenarios"][0]["reasons"] == ["no timer"]


def test_a_limit_for_nothing(run_module: Any) -> None:
    timeline = json.dumps({"began_at": 0, "ended": 9, "samples": [[1, 0.1, 1]], "events": []})
    scenario = {
        "name": "a",
        "limits": {"faild": 1},
        "load": {"timeline": timeline, "acknowledged": 0, "lost": 0, "twice": 0},
        "watch": {},
        "fault": {"at": 1, "until": 2, "by_itself": True},
    }
    assert "no measure called faild" in run_module(prefect_drill_report.main, scenarios=[scenario])["msg"]
