"""The figures that tests/bench/sizing.py makes of what it counts: a wrong one would be believed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import sizing

CPU = {"api": 20.0, "database": 3.5, "balancer": 0.25, "pgbouncer": 0.0, "redis": 0.5}
POINT = sizing.Point("1 server", 1, 0.3, sizing.Figures(150, 0, 15.0, 0.8, 1.6), CPU, 0.3, 0.55, 0.05, 15, 7, 0, True)


def test_only_what_was_answered_in_the_span_counts() -> None:
    samples = [(0.0, 0.9, 1), (0.5, 0.5, 1), (0.9, 0.3, 1), (2.0, 0.5, 0), (2.5, 0.499, 1), (2.5, 0.5, 1)]
    found = sizing.figures(samples, 1.0, 3.0)
    assert found == sizing.Figures(requests=4, failed=1, rps=1.5, p50=0.499, p99=0.5)


def test_a_span_without_an_answer_has_no_figures() -> None:
    assert sizing.figures([(0.0, 5.0, 1)], 1.0, 3.0) == sizing.Figures(0, 0, 0.0, 0.0, 0.0)


def test_the_time_used_is_that_of_the_hosts_asked_for() -> None:
    before = sizing.Counters(0.0, {"api1": 1.0, "api2": 2.0, "postgres1": 7.0}, 0.0, 0.0)
    after = sizing.Counters(10.0, {"api1": 4.0, "api2": 2.5, "postgres1": 9.0}, 1.0, 5.0)
    assert sizing.used(before, after, ["api1", "api2"]) == 3.5
    assert sizing.used(before, after, ["postgres1"]) == 2.0


def test_what_psql_says_between_the_numbers_is_passed_over() -> None:
    output = "Tue 24 Nov 2026 12:00:00 PM UTC (every 0.25s)\n\n5|1\n\nTue 24 Nov 2026 12:00:01 PM UTC (every 0.25s)\n\n15|12\n\n"
    assert sizing.watched(output) == [(5, 1), (15, 12)]
    assert sizing.watched("") == []


def test_a_row_stands_under_its_heads() -> None:
    good, bad = sizing.row(POINT), sizing.row(replace(POINT, name="pool 1+0", good=False))
    assert len(sizing.heads()) == len(good)
    assert good.split()[:6] == ["1", "server", "15.0", "800", "1600", "0"]
    assert good.split()[6:] == ["20.00", "3.50", "0.25", "0.00", "0.50", "0.30", "0.55", "0.05", "15", "7"]
    assert bad.endswith("  FAILED")


@pytest.mark.parametrize(
    ("groups", "path"),
    [
        pytest.param(
            "3:cpuset:/docker/abc\n2:cpuacct:/docker/abc\n1:cpu:/docker/abc\n0::/docker/abc/init.scope\n",
            "cpuacct/docker/abc/cpuacct.usage",
            id="old",
        ),
        pytest.param("4:cpu,cpuacct:/docker/abc\n", "cpu,cpuacct/docker/abc/cpuacct.usage", id="old, together"),
        pytest.param("0::/docker/abc/init.scope\n", "docker/abc/cpu.stat", id="new"),
        pytest.param("0::/system.slice/docker-abc.scope/init.scope\n", "system.slice/docker-abc.scope/cpu.stat", id="new, by systemd"),
    ],
)
def test_the_kernel_counts_for_the_whole_container(groups: str, path: str) -> None:
    assert sizing.accounting(groups, "abc") == Path("/sys/fs/cgroup", path)


@pytest.mark.parametrize(("name", "content"), [("cpuacct.usage", "2500000000\n"), ("cpu.stat", "usage_usec 2500000\nuser_usec 1\n")])
def test_both_kernels_tell_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    monkeypatch.setattr(sizing, "account", lambda _host: tmp_path / name)
    assert sizing.spent("api1") == 2.5


def test_what_a_flow_run_costs_is_a_table_too() -> None:
    parts = {"api": 150.0, "database": 20.0}
    flow = {"flow_runs": 20, "tasks": 5, "requests": 12.5, "cpu": parts, "idle": {"api": 4.0, "database": 2.0}}
    first, heads, cost, idle = sizing.flow_table(flow).splitlines()
    assert first.startswith("12.5 requests")
    assert heads.split() == ["api", "database"]
    assert cost.split()[-2:] == ["150.0", "20.0"]
    assert idle.split()[-2:] == ["4.0", "2.0"]


def test_a_point_can_be_written_for_machines() -> None:
    written = json.loads(json.dumps(asdict(POINT)))
    assert written["figures"]["rps"] == 15.0
    assert written["cpu"] == CPU


@pytest.mark.parametrize("case", sizing.CASES, ids=lambda case: case.name)
def test_each_case_can_be_brought_about(case: sizing.Case) -> None:
    earlier = sizing.CASES[: sizing.CASES.index(case)]
    assert case.name not in {one.name for one in earlier}
    assert not case.share or any(one.cores == case.cores and not one.share for one in earlier), "nothing says what this is a share of"
    # What an earlier case has set would otherwise be left on servers of this one.
    assert not case.settings or {one.servers for one in sizing.CASES if one.settings} == {case.servers}
    if case.direct:
        assert len(case.servers) == 1
    if case.pgbouncer:
        assert case.settings == sizing.UNCACHED, "prepared statements do not outlive a transaction there"


@pytest.mark.parametrize(
    ("settings", "before", "plays"),
    [
        pytest.param({}, {}, ["steps/nginx"], id="nothing but the balancer"),
        pytest.param(sizing.pool(1, 0), {}, ["steps/nginx", "stop", "stop", "steps/api"], id="other settings"),
        pytest.param({}, sizing.pool(1, 0), ["steps/nginx", "stop", "stop", "steps/api"], id="the settings of before"),
        pytest.param(sizing.pool(1, 0), sizing.pool(1, 0), ["steps/nginx"], id="the same settings"),
    ],
)
def test_only_what_differs_is_changed(
    monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, Any], before: Mapping[str, Any], plays: list[str]
) -> None:
    played: list[tuple[str, Any]] = []
    limits: list[float] = []
    monkeypatch.setattr(sizing.Bench, "play", lambda _self, name, *_words, **variables: played.append((name, variables)))
    monkeypatch.setattr(sizing.Bench, "on", lambda _self, host, _script: played.append(("stop", host)))
    monkeypatch.setattr(sizing, "limit", lambda _host, cores: limits.append(cores))
    monkeypatch.setattr(sizing, "address", lambda host: f"address-of-{host}")
    state = sizing.State(settings=before)
    case = sizing.Case("two", (sizing.ONE, sizing.TWO), 0.3, settings=settings)
    state.bring_about(case)
    assert [name for name, _variables in played] == plays
    assert played[0][1] == {
        "nginx_api_servers": [{"address": "address-of-api3", "port": 4200}, {"address": "address-of-api2", "port": 4200}]
    }
    # No server is throttled while it changes, every server when it is measured.
    assert limits == [0] * 3 + [0.3] * 3
    state.bring_about(case)
    assert len(played) == len(plays)
