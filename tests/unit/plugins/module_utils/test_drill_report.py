from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill_page import page, svg
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill_report import result, text

VOID = {"meta"}
ABOUT = {"url": "http://balancer:4200/api", "began": "then", "ended": "now", "version": "3.8.8"}


def measured(**more: Any) -> dict[str, Any]:
    """A scenario in which a server that was killed at 1000 fails one request and makes three others slow."""
    samples = [[number / 40, 0.05, 1] for number in range(1200)]
    samples += [[9.9, 0.3, 0], [10.0, 1.2, 1], [10.1, 1.3, 1], [10.2, 1.4, 1]]
    timeline = {"began_at": 990.0, "ended": 30.0, "samples": sorted(samples), "events": [[number / 2 for number in range(60)]]}
    failure = {"at": "now", "method": "POST", "path": "/flows/<b>", "what": "reset", "connection": "new"}
    values = {
        "name": "kill_api",
        "title": "kill -9 of one API server",
        "target": "api3",
        "kind": "kill",
        "limits": {"failed": 3, "lost": 0},
        "load": {"timeline": json.dumps(timeline), "acknowledged": 600, "lost": 0, "twice": 0, "failures": [failure]},
        "watch": {
            "scheduler": {"changes": [[999.0, 1002.0], [1012.0, 1017.0]], "silent": [], "ended": 1018.0},
            "flows": {"runs": [{"id": "1", "at": 1001.0, "took": 1.0, "state": "COMPLETED", "problem": ""}], "problem": ""},
        },
        "fault": {"at": 1000.0, "until": 1002.5, "by_itself": True},
    }
    return {**values, **more}


def test_a_drill_that_passes() -> None:
    found = result([measured()], ABOUT)
    assert found["passed"]
    (one,) = found["scenarios"]
    assert one["measures"]["failed"] == 1
    assert one["plot"]["normal_after"] == pytest.approx(1.6)
    assert one["plot"]["scheduling"] == [[2.0, 12.0]]
    assert text(found)[0].startswith("PASS  kill_api on api3: 1 of 8")
    assert json.loads(json.dumps(found)) == found


def test_a_drill_without_a_scheduler() -> None:
    """It is switched off: nothing is expected of it, and the lines say so."""
    one = measured(
        watch={
            "flows": {"runs": [{"id": "1", "at": 999.0, "took": 1.0, "state": "COMPLETED", "problem": ""}]},
            "scheduler": {"switched_off": True},
        },
        limits={"scheduling_after": 10},
    )
    found = result([one], ABOUT)
    assert (found["passed"], found["scenarios"][0]["reasons"]) == (True, [])
    assert "scheduling switched off, events after" in text(found)[0]
    assert "kill_api" in page(found)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"limits": {"failed": 0}}, "failed requests: 1, and the limit is 0"),
        ({"problem": "no timer"}, "no timer"),
        ({"unwell": "api3 hangs"}, "the cluster was not well afterwards: api3 hangs"),
        ({"watch": {"flows": {"runs": [], "problem": "no python"}}}, "the flows could not be judged: no python"),
    ],
)
def test_a_drill_that_fails(more: dict[str, Any], reason: str) -> None:
    found = result([measured(), measured(name="other", **more)], ABOUT)
    assert not found["passed"]
    assert [one["passed"] for one in found["scenarios"]] == [True, False]
    assert found["scenarios"][1]["reasons"] == [reason]
    assert text(found)[-1].strip() == reason
    assert reason in page(found)


def test_nothing_was_drilled() -> None:
    assert result([], ABOUT)["passed"] is False


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the one that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        assert all(not value or "://" not in value for name, value in attrs if name in ("src", "href"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    shown = page(result([measured(), measured(name="other", problem="<script>alert(1)</script>")], ABOUT))
    parser = Balanced()
    parser.feed(shown)
    assert parser.open == []
    assert parser.seen.count("svg") == 1
    assert not {"script", "link", "img"} & set(parser.seen)
    assert "/flows/&lt;b&gt;" in shown
    assert "url(" not in shown


def test_the_plot_marks_fault_and_recovery() -> None:
    plot = result([measured()], ABOUT)["scenarios"][0]["plot"]
    tree = ElementTree.fromstring(svg(plot))  # noqa: S314  our own
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


def test_without_a_recovery_there_is_no_flag_for_it() -> None:
    plot = result([measured()], ABOUT)["scenarios"][0]["plot"]
    assert "again" not in svg({**plot, "normal_after": None})
