# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.action import prefect_report as plugin
from ansible_collections.selfhosted.prefect.plugins.module_utils._page import BAD, GOOD, UNKNOWN, WARN, page, parts
from ansible_collections.selfhosted.prefect.plugins.module_utils._plot import UP, plot, scale, value
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import assemble

NOW = 1795521600.0
EVIL = '"><script>alert(1)</script>&'


class Page(HTMLParser):
    """What a page holds; a tag that is closed twice, never, or in the wrong order is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += f" {data}"


def unit(name: str, **changes: Any) -> dict[str, Any]:
    state = {"name": name, "state": "active (running)", "since": NOW - 3700, "memory_bytes": 190e6, "active": True, "enabled": True}
    return {**state, "stale": False, "restarts": 0, **changes}


def server(name: str, **changes: Any) -> dict[str, Any]:
    state = {"name": name, "url": "http://a/api", "live": True, "ready": True, "version": "3.8.8", "milliseconds": 12, "problem": ""}
    return {**state, **changes}


def watched(**changes: Any) -> list[Any]:
    """A host with Prometheus and an Alertmanager that is as it is said to be."""
    return [["m1", {}, {"units": [unit("prometheus.service"), unit("prometheus-alertmanager.service", **changes)]}]]


def report(**changes: Any) -> dict[str, Any]:
    """Two API servers and everything else once, all well."""
    redis = {"address": "r:6379", "version": "7.0.15", "memory_bytes": 2e6, "max_memory_bytes": 512e6, "clients": 9, "appends": True}
    gathered = {
        "version": "3.8.8",
        "url": "http://lb:4200/api",
        "groups": {"postgres": ["db1"], "redis": ["r1"], "prefect_api": ["api1", "api2"], "prefect_services": ["s1"], "nginx": ["lb1"]},
        "schema": {"before": "d4a7e1c93f52", "head": "d4a7e1c93f52", "pending": []},
        "hosts": [
            ["db1", {}, {"units": [unit("postgresql@15-main.service")]}],
            ["r1", {}, {"units": [unit("redis-server.service")]}],
            ["api1", {"units": [unit("prefect-api@4200.service")]}, {}],
            ["api2", {"units": [unit("prefect-api@4200.service")]}, {}],
            ["s1", {"units": [unit("prefect-services.service")]}, {}],
            ["lb1", {}, {"units": [unit("nginx.service")]}],
        ],
        "servers": [server("api1:4200"), server("api2:4200"), server("balancer")],
        "database": {"address": "db:5432", "version": "15.18", "connections": 23, "max_connections": 110, "size_bytes": 9e6, "problem": ""},
        "redis": {**redis, "eviction": "noeviction", "problem": ""},
    }
    return assemble({**gathered, **changes})


def history(**changes: Any) -> dict[str, Any]:
    points = [[NOW - 3600 + 30 * n, 40 + math.sin(n)] for n in range(121)]
    plots = [
        {"title": "Requests", "unit": "/s", "series": [{"label": "all", "points": points}, {"label": "5xx", "points": points[:3]}]},
        {"title": "Nothing yet", "unit": "", "series": []},
    ]
    return {"start": NOW - 3600, "end": NOW, "plots": plots, "problem": "", **changes}


def test_what_is_switched_off() -> None:
    assert "Switched off by prefect_settings: scheduler" in Page(page(report(switched_off=["scheduler"]), history(), NOW)).words


def test_all_well() -> None:
    shown = Page(page(report(), history(), NOW))
    assert shown.tags.count("svg") == 2
    assert shown.tags.count("table") == 3
    for words in ("no problem found", "http://lb:4200/api", "up to date", "2026-11-24 12:00:00 UTC", "prefect-api@4200", "1h 1m", "12 ms"):
        assert words in shown.words
    for words in ("Requests", "nothing in this time", "23 of 110 connections", "2.0 MB of 512.0 MB", "In service"):
        assert words in shown.words
    assert "no history" not in shown.words


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("redis-server.service", "running", id="Redis"),
        pytest.param("valkey-server.service", "running", id="Valkey"),
        pytest.param("nginx.service", "not there", id="another unit"),
    ],
)
def test_redis_is_known_by_either_package(name: str, shown: str) -> None:
    """By its unit, where no API host could say how the server does."""
    hosts = [["r1", {}, {"units": [unit(name)]}]]
    state = parts(report(hosts=hosts, redis={}, groups={"redis": ["r1"]}, servers=[]))["state"]
    assert [part.detail for part in state if part.name == "r1"] == [shown]


def test_it_needs_nothing_else() -> None:
    text = page(report(), history(), NOW)
    shown = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(shown.tags)
    assert not [name for name, _value in shown.attributes if name in ("src", "href", "xlink:href", "srcset") or name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param({}, "no history: the inventory has no host in the group monitoring", id="nobody to ask"),
        pytest.param(history(plots=[], problem="Prometheus at u refused the connection"), "no history: Prometheus at u refused", id="down"),
        pytest.param(
            history(plots=[{"title": "t", "unit": "", "series": []}], problem="has nothing of the deployment"),
            "no history: has nothing of the deployment",
            id="empty",
        ),
        pytest.param(history(problem="p is gone"), "incomplete: p is gone", id="gone meanwhile"),
        pytest.param({"unreachable": True, "msg": "no route"}, "no history: ", id="unreachable"),
        pytest.param({"skipped": True}, "no history: ", id="skipped"),
    ],
)
def test_without_history(found: dict[str, Any], words: str) -> None:
    assert words in Page(page(report(), found, NOW)).words


def test_nothing_is_taken_for_markup() -> None:
    text = page(
        report(
            version=EVIL,
            url=EVIL,
            groups={"prefect_api": [EVIL], "nginx": [EVIL], "postgres": [EVIL]},
            hosts=[[EVIL, {"units": [unit(EVIL, state=EVIL)]}, {}]],
            servers=[server(EVIL, url=EVIL, version=EVIL, problem=EVIL)],
            database={**report()["database"], "address": EVIL, "problem": EVIL},
        ),
        history(plots=[{"title": EVIL, "unit": EVIL, "series": [{"label": EVIL, "points": [[NOW, 1.0], [NOW + 1, 2.0]]}]}], problem=EVIL),
        NOW,
    )
    assert "script" not in Page(text).tags
    assert "<script" not in text


@pytest.mark.parametrize(
    ("changes", "column", "health", "detail"),
    [
        pytest.param({}, "servers", GOOD, "ready in 12 ms", id="well"),
        pytest.param({"servers": [server("api1:4200", ready=False, problem="x")]}, "servers", BAD, "not ready", id="ill"),
        pytest.param({"servers": [server("api1:4200", version="3.7.8")]}, "servers", WARN, "runs 3.7.8", id="older version"),
        pytest.param(
            {"hosts": [["api1", {"units": [unit("prefect-api@4200.service")], "drained": [4200]}, {}]]},
            "servers",
            WARN,
            "drained",
            id="drained",
        ),
        pytest.param(
            {"hosts": [["api1", {"units": [unit("prefect-api@4200.service", stale=True)]}, {}]]},
            "servers",
            WARN,
            "older settings",
            id="stale",
        ),
        pytest.param(
            {"hosts": [["api1", {"units": [unit("prefect-api@4200.service", active=False, state="failed (failed)")]}, {}]]},
            "servers",
            BAD,
            "failed (failed)",
            id="dead",
        ),
        pytest.param(
            {"servers": [], "hosts": [["api1", {"unreachable": True}, {}]]}, "servers", UNKNOWN, "not reached by Ansible", id="not reached"
        ),
        pytest.param({"hosts": []}, "services", BAD, "not there", id="no services"),
        pytest.param({}, "services", GOOD, "running", id="services"),
        pytest.param({}, "balancers", GOOD, "running", id="nginx"),
        pytest.param({"groups": {}}, "balancers", GOOD, "ready in 12 ms", id="a balancer of one's own"),
        pytest.param({"groups": {}, "servers": []}, "balancers", UNKNOWN, "was not asked", id="nobody asked the balancer"),
        pytest.param({}, "state", GOOD, "15.18, answers", id="database"),
        pytest.param({"database": {**report()["database"], "problem": "refused"}}, "state", BAD, "does not answer", id="database gone"),
        pytest.param({"database": {}}, "state", GOOD, "running", id="only its unit is known"),
        pytest.param({"database": {}, "groups": {}}, "state", UNKNOWN, "was not asked", id="nobody asked the database"),
        pytest.param({"groups": {"monitoring": ["m1"]}, "hosts": watched()}, "watchers", GOOD, "running", id="watched"),
        pytest.param(
            {"groups": {"monitoring": ["m1"]}, "hosts": watched(active=False, state="failed")}, "watchers", BAD, "failed", id="unseen"
        ),
    ],
)
def test_parts(changes: dict[str, Any], column: str, health: str, detail: str) -> None:
    first = parts(report(**changes))[column][0]
    assert (first.health, first.detail) == (health, detail)
    assert detail in page(report(**changes), {}, NOW)


@pytest.mark.parametrize(
    ("most", "unit", "top"),
    [
        (0, "", 1),
        (1, "", 1),
        (3, "", 3),
        (110, "", 150),
        (0.004, "s", 0.01),
        (0.9, "s", 1),
        (12, "s", 15),
        (70, "%", 100),
        (9, "%", 10),
        (5e8, "B", 6e8),
    ],
)
def test_scale(most: float, unit: str, top: float) -> None:
    ticks = scale(most, unit)
    assert ticks[0] == 0
    assert math.isclose(ticks[-1], top)
    assert ticks[-1] >= most
    assert len(ticks) <= 7


@pytest.mark.parametrize(
    ("number", "unit", "words"),
    [(0.0123, "s", "12 ms"), (2.5, "s", "2.5 s"), (250, "s", "250 s"), (5e8, "B", "500 MB"), (2e6, "B", "2.0 MB"), (2e9, "B", "2.0 GB"),
     (42.25, "/s", "42.2 /s"), (7, "", "7"), (0.25, "%", "0.25 %")],
)  # fmt: skip
def test_value(number: float, unit: str, words: str) -> None:
    assert value(number, unit) == words


def test_a_plot_with_a_gap_and_a_lonely_point() -> None:
    points = [[0, 1.0], [30, 1.0], [60, 1.0], [300, 1.0], [330, 2.0], [600, 1.0]]
    drawn = plot({"title": "t", "unit": "", "series": [{"label": "l", "points": points}]}, 0, 600)
    assert drawn.split(' d="')[1].split('"')[0].count("M") == 2
    assert drawn.count("<circle") == 1
    assert "nan" not in drawn


def test_bars_of_what_is_there_or_not() -> None:
    points = [[0, 1.0], [30, 1.0], [60, 0.0], [90, 0.0], [300, 1.0], [330, 1.0]]
    drawn = plot({"title": "t", "unit": UP, "series": [{"label": "l", "points": points}, {"label": "m", "points": [[0, 1.0]]}]}, 0, 360)
    assert re.findall(r'class="(up|down)"', drawn) == ["up", "down", "up", "up"]
    assert "away 33%" in drawn
    assert "l: up; m: up" in drawn


def play(monkeypatch: pytest.MonkeyPatch, check: bool = False, **arguments: Any) -> dict[str, Any]:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(display=lambda _text: None))
    action = plugin.ActionModule.__new__(plugin.ActionModule)
    action._task = SimpleNamespace(args=arguments, check_mode=check)
    monkeypatch.setattr(plugin.ActionModule, "validate_argument_spec", lambda _self, _spec: (None, {"history": {}, **arguments}))
    return dict(action.run())


@pytest.mark.parametrize(
    ("output", "check", "written"), [("html", False, True), ("html", True, False), ("table", False, False), ("json", False, False)]
)
def test_the_action(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output: str, check: bool, written: bool) -> None:
    path = tmp_path / "page.html"
    gathered = {"version": "3.8.8", "url": "u", "hosts": [["api1", {"units": []}, {}]]}
    result = play(monkeypatch, check, report=gathered, output=output, path=str(path))
    assert result["changed"] is (output == "html")
    assert path.exists() is written
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"] * written


def test_a_page_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match="Name another file"):
        play(monkeypatch, report={"hosts": []}, output="html", path=str(tmp_path / "none" / "page.html"))
