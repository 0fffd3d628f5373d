# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Request
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.history import PLOTS, history

URL = "http://10.0.0.51:9090"


def success(*results: Any) -> Answer:
    return Answer(200, json.dumps({"status": "success", "data": {"result": list(results)}}).encode())


class Prometheus:
    """Answers every question alike, and keeps the questions."""

    def __init__(self, answer: Answer | Exception) -> None:
        self.answer = answer
        self.asked: list[Request] = []

    def __call__(self, request: Request, _timeout: float) -> Answer:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_plots() -> None:
    values = [[1000, "1"], [1030, "NaN"], [1060, "2.5"], [1090, "+Inf"]]
    prometheus = Prometheus(success({"metric": {"instance": "api1", "stream": "events"}, "values": values}))
    found = history(Request(f"{URL}/", auth_string="me:secret", tls={"ca_file": "/ca"}), 3600, 1, ask=prometheus, now=4600.7)
    assert (found["start"], found["end"], found["problem"]) == (1000, 4600, "")
    assert [plot["title"] for plot in found["plots"]] == [plot.title for plot in PLOTS]
    assert found["plots"][0]["series"][0] == {"label": "all", "points": [[1000, 1], [1060, 2.5]]}
    labels = {series["label"] for plot in found["plots"] for series in plot["series"]}
    assert {"api1", "events", "median"} <= labels
    assert not [label for label in labels if "{" in label]
    asked = urlsplit(prometheus.asked[0].url)
    assert asked.path == "/api/v1/query_range"
    assert {name: value[0] for name, value in parse_qs(asked.query).items() if name != "query"} == {
        "start": "1000",
        "end": "4600",
        "step": "30",
    }
    assert {request.auth_string for request in prometheus.asked} == {"me:secret"}
    assert all(request.tls == {"ca_file": "/ca"} for request in prometheus.asked)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(success(), "has nothing of the deployment", id="of something else"),
        pytest.param(NetError("refused the connection"), "refused the connection", id="down"),
        pytest.param(Answer(401, b"no"), "answered HTTP 401 no", id="another password"),
        pytest.param(Answer(200, b"<html>"), "answered HTTP 200 <html>", id="not Prometheus"),
        pytest.param(Answer(400, b'{"status":"error","error":"parse error"}'), "parse error", id="a query it does not know"),
    ],
)
def test_nothing_to_plot(answer: Answer | Exception, problem: str) -> None:
    found = history(Request(URL), 3600, 1, ask=Prometheus(answer), now=4600)
    assert found["problem"].startswith(f"Prometheus at {URL} ")
    assert problem in found["problem"]
    assert not any(plot["series"] for plot in found["plots"])


def test_many_lines_are_no_plot() -> None:
    many = [{"metric": {"instance": f"api{number}"}, "values": [[1000, "1"]]} for number in range(40)]
    found = history(Request(URL), 3600, 1, ask=Prometheus(success(*many)), now=4600)
    assert max(len(plot["series"]) for plot in found["plots"]) == 12
