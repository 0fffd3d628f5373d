# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.report import result
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.parts import BAD, GOOD, UNKNOWN, WARN, parts
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.plot import UP
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import assemble
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._page import SHARED, environment, render
from jinja2 import TemplateNotFound, UndefinedError

NOW = 1795521600.0
EVIL = '"><script>alert(1)</script>& {{ 7 * 7 }}'
DRILL = SHARED.parents[1] / "prefect_drill" / "templates"


def page(gathered: dict[str, Any], history: dict[str, Any], now: float) -> str:
    return render("status.html.j2", {"gathered": gathered, "history": history, "now": now})


def plot(found: dict[str, Any], start: float, end: float) -> str:
    return str(environment().get_template("plot.html.j2").module.figure(found, start, end))  # type: ignore[attr-defined]


def drill_page(found: dict[str, Any]) -> str:
    return render("drill.html.j2", {"report": found}, [DRILL])


def drill_plot(numbers: dict[str, Any]) -> str:
    return render("drill_plot.svg.j2", {"plot": numbers}, [DRILL])


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


def gathered(**changes: Any) -> dict[str, Any]:
    """Two API servers and everything else once, all well."""
    redis = {"address": "r:6379", "version": "7.0.15", "memory_bytes": 2e6, "max_memory_bytes": 512e6, "clients": 9, "appends": True}
    found = {
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
    return {**found, **changes}


def history(**changes: Any) -> dict[str, Any]:
    points = [[NOW - 3600 + 30 * n, 40 + math.sin(n)] for n in range(121)]
    plots = [
        {"title": "Requests", "unit": "/s", "series": [{"label": "all", "points": points}, {"label": "5xx", "points": points[:3]}]},
        {"title": "Nothing yet", "unit": "", "series": []},
    ]
    return {"start": NOW - 3600, "end": NOW, "plots": plots, "problem": "", **changes}


def test_the_certificate_that_ends_first() -> None:
    found = {"nginx": {"path": "/a.crt", "expires": 9, "days_left": 300, "not_after": "2027-08-01T12:00:00Z", "problem": "", "due": False}}
    words = Page(page(gathered(certificates=[["lb1", {"certificates": found}]]), history(), NOW)).words
    assert "Certificates: 1; nginx on lb1 ends first, in 300 days (2027-08-01)" in words


def test_what_is_switched_off() -> None:
    assert "Switched off by prefect_settings: scheduler" in Page(page(gathered(switched_off=["scheduler"]), history(), NOW)).words


def test_all_well() -> None:
    shown = Page(page(gathered(), history(), NOW))
    assert shown.tags.count("svg") == 2
    assert shown.tags.count("table") == 3
    for words in ("no problem found", "http://lb:4200/api", "up to date", "2026-11-24 12:00:00 UTC", "prefect-api@4200", "1h 1m", "12 ms"):
        assert words in shown.words
    for words in ("Requests", "nothing in this time", "23 of 110 connections", "2.0 MB of 512.0 MB", "In service"):
        assert words in shown.words
    assert "no history" not in shown.words


def test_the_members_of_clusters() -> None:
    postgres = {"name": "<db1>", "role": "leader", "state": "running", "lag": None, "timeline": 3, "pending_restart": False}
    redis = {"replication": {"role": "master", "offset": 9}, "sentinels": [{"master": "10.0.0.1:6379"}]}
    clusters = {
        "postgres_cluster": {"answers": [["<db1>", {"patroni": {"cluster": {"leader": "<db1>", "members": [postgres]}}}]]},
        "redis_cluster": {"answers": [["r1", redis]], "addresses": [["r1", "10.0.0.1"]]},
    }
    shown = Page(page(gathered(**clusters), history(), NOW))
    assert shown.tags.count("table") == 5
    words = re.sub(r"\s+", " ", shown.words)
    assert "PostgreSQL on Role State Behind Timeline Restart <db1> primary running - 3 -" in words
    assert "Redis on Role Follows Behind Its Sentinel follows r1 master 0 replicas - r1" in words
    assert "no problem found" in words


def test_workers() -> None:
    workers = [{"name": f"etl@w{number}", "pool": "<etl>", "online": number == 1, "problem": ""} for number in (1, 2)]
    shown = Page(page(gathered(workers=workers), history(), NOW))
    assert re.search(r"etl@w1\s+<etl>\s+\S+\s+yes\s+etl@w2\s+<etl>\s+\S+\s+no\s", shown.words)
    assert "the worker etl@w2 of the work pool <etl> is not online" in shown.words
    assert "Workers" not in Page(page(gathered(), history(), NOW)).words


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
    state = parts(assemble(gathered(hosts=hosts, redis={}, groups={"redis": ["r1"]}, servers=[])))["state"]
    assert [part.detail for part in state if part.name == "r1"] == [shown]


def test_it_needs_nothing_else() -> None:
    text = page(gathered(), history(), NOW)
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
        pytest.param({}, "no history: the inventory has no host in the group monitoring", id="no Prometheus"),
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
    assert words in Page(page(gathered(), found, NOW)).words


def test_nothing_is_taken_for_markup() -> None:
    text = page(
        gathered(
            version=EVIL,
            url=EVIL,
            groups={"prefect_api": [EVIL], "nginx": [EVIL], "postgres": [EVIL]},
            hosts=[[EVIL, {"units": [unit(EVIL, state=EVIL)]}, {}]],
            servers=[server(EVIL, url=EVIL, version=EVIL, problem=EVIL)],
            database={**gathered()["database"], "address": EVIL, "problem": EVIL},
        ),
        history(plots=[{"title": EVIL, "unit": EVIL, "series": [{"label": EVIL, "points": [[NOW, 1.0], [NOW + 1, 2.0]]}]}], problem=EVIL),
        NOW,
    )
    assert "script" not in Page(text).tags
    assert "<script" not in text
    assert "{{ 7 * 7 }}" in text


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
        pytest.param({"groups": {}, "servers": []}, "balancers", UNKNOWN, "was not queried", id="the balancer was not queried"),
        pytest.param({}, "state", GOOD, "15.18, answers", id="database"),
        pytest.param({"database": {**gathered()["database"], "problem": "refused"}}, "state", BAD, "does not answer", id="database gone"),
        pytest.param({"database": {}}, "state", GOOD, "running", id="only its unit is known"),
        pytest.param({"database": {}, "groups": {}}, "state", UNKNOWN, "was not queried", id="the database was not queried"),
        pytest.param({"groups": {"monitoring": ["m1"]}, "hosts": watched()}, "watchers", GOOD, "running", id="watched"),
        pytest.param(
            {"groups": {"monitoring": ["m1"]}, "hosts": watched(active=False, state="failed")}, "watchers", BAD, "failed", id="unseen"
        ),
    ],
)
def test_parts(changes: dict[str, Any], column: str, health: str, detail: str) -> None:
    first = parts(assemble(gathered(**changes)))[column][0]
    assert (first.health, first.detail) == (health, detail)
    assert detail in page(gathered(**changes), {}, NOW)


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


def test_a_drill_on_its_page(measured: Any) -> None:
    about = {"url": "http://balancer:4200/api", "began": "then", "ended": "now", "version": "3.8.8"}
    shown = Page(drill_page(result([measured(), measured(name="other", unwell="api3 hangs")], about)))
    words = " ".join(shown.words.split())
    assert words.startswith("Failover drill: failed Failover drill \N{BALLOT X} failed http://balancer:4200/api Prefect 3.8.8 then to now")
    for text in ("kill -9 of one API server", "1 of 8", "requests from the fault on 8", "The first 1 failures", "by itself yes"):
        assert text in words
    assert "the cluster was not well afterwards: api3 hangs" in words
    assert ("href", "#other") in shown.attributes
    assert ("id", "other") in shown.attributes


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"limits": {"failed": 0}}, "failed requests: 1, and the limit is 0"),
        ({"problem": "no timer"}, "no timer"),
        ({"watch": {"flows": {"runs": [], "problem": "no python"}}}, "the flows could not be judged: no python"),
        ({"watch": {"flows": {"runs": []}, "scheduler": {"switched_off": True}}}, "kill_api"),
    ],
)
def test_what_is_wrong_is_on_the_page_of_a_drill(measured: Any, more: dict[str, Any], words: str) -> None:
    assert words in drill_page(result([measured(**more)], {}))


def test_a_drill_that_is_not_conclusive(measured: Any) -> None:
    found = result([measured()], {})
    (one,) = found["scenarios"]
    cpu = {"before": {"busy": 0.5, "others": 0.2}, "from": {"busy": 1.0, "others": 0.8}, "crowded": []}
    shown = drill_page({**found, "outcome": "inconclusive", "scenarios": [{**one, "outcome": "inconclusive", "cpu": cpu}]})
    assert "Failover drill: not conclusive" in shown
    assert (
        "CPU of the busiest machine before the fault: 50% in use, 20% by what is no part of the service;"
        " from the fault on: 100% in use, 80% by what is no part of the service." in " ".join(shown.split())
    )
    assert "CPU of the busiest machine" not in drill_page({**found, "scenarios": [{**one, "cpu": {"before": {}, "from": {}}}]})


def test_the_page_of_a_drill_is_whole_and_needs_nothing_else(measured: Any) -> None:
    text = drill_page(result([measured(), measured(name="other", problem=EVIL)], {}))
    shown = Page(text)
    assert shown.tags.count("svg") == 1
    assert not {"script", "link", "img"} & set(shown.tags)
    assert all(not value or "://" not in value for name, value in shown.attributes if name in ("src", "href"))
    assert "/flows/&lt;b&gt;" in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_the_plot_of_a_drill_marks_fault_and_recovery(measured: Any) -> None:
    numbers = result([measured()], {})["scenarios"][0]["plot"]
    tree = ElementTree.fromstring(drill_plot(numbers))  # noqa: S314  our own
    words = [element.text for element in tree.iter() if element.text and element.tag.endswith("text")]
    assert {"fault", "normal after 1.6 s", "+0 s", "0.1 s", "scheduling"} <= set(words)
    kinds = [element.get("class") for element in tree.iter()]
    assert (kinds.count("bad"), kinds.count("again")) == (2, 1)  # a failed request, and a tick overdue
    width, height = map(float, str(tree.get("viewBox")).split()[2:])
    for element in tree.iter():
        for x in re.findall(r"[\d.]+", " ".join(element.get(name, "") for name in ("x", "x1", "x2", "cx"))):
            assert 0 <= float(x) <= width
        for y in re.findall(r"[\d.]+", " ".join(element.get(name, "") for name in ("y", "y1", "y2", "cy"))):
            assert 0 <= float(y) <= height
    assert "again" not in drill_plot({**numbers, "normal_after": None})


def test_the_same_data_are_the_same_page(measured: Any) -> None:
    assert page(gathered(), history(), NOW) == page(gathered(), history(), NOW)
    assert drill_page(result([measured()], {})) == drill_page(result([measured()], {}))


def test_templates_that_cannot_be_rendered(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="gathered"):
        render("status.html.j2", {})
    with pytest.raises(TemplateNotFound):
        render("drill.html.j2", {}, [tmp_path])


def test_a_template_elsewhere_does_not_replace_a_shared_one(tmp_path: Path) -> None:
    (tmp_path / "page.css").write_text("mine")
    (tmp_path / "own.html.j2").write_text("{% include 'page.css' %}{{ '<' }}")
    text = render("own.html.j2", {}, [tmp_path])
    assert "mine" not in text
    assert text.endswith("&lt;\n")
