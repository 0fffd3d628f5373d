# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""How a deployment was in the last hour, queried from Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Fetch, Request, fetch
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.plot import UP

_POINTS = 120
_MOST_SERIES = 12


@dataclass(frozen=True)
class Plot:
    """What one plot shows. Each query has a name for its lines, in which ``{label}`` stands for a label's value."""

    title: str
    unit: str
    queries: Mapping[str, str]


PLOTS: Sequence[Plot] = (
    Plot(
        "Requests through the balancer",
        "/s",
        {
            "all": "sum(rate(prefect_http_requests_total[2m]))",
            "answered 5xx": 'sum(rate(prefect_http_requests_total{status=~"5.."}[2m]))',
        },
    ),
    Plot(
        "Response time",
        "s",
        {
            "median": "histogram_quantile(0.5, sum by (le) (rate(prefect_http_request_seconds_bucket[5m])))",
            "99 of 100": "histogram_quantile(0.99, sum by (le) (rate(prefect_http_request_seconds_bucket[5m])))",
        },
    ),
    Plot("API servers that answer", UP, {"{instance}": 'up{job="prefect_api"}'}),
    Plot(
        "Scheduling and events",
        "s",
        {
            "age of the scheduler's heartbeat": "max(prefect_scheduler_heartbeat_age_seconds)",
            "background lag": "max(prefect_background_lag_seconds)",
        },
    ),
    Plot("Late runs", "", {"late": "max(prefect_late_runs)"}),
    Plot(
        "Database connections",
        "",
        {"open": "max(sum by (instance) (prefect_database_connections))", "budget": "max(prefect_database_connections_budget)"},
    ),
    Plot("Messages waiting in Redis", "", {"{stream}": "max by (stream) (prefect_stream_length)"}),
    Plot("Redis's memory, of its limit", "%", {"used": "100 * max(redis_memory_used_bytes / (redis_memory_max_bytes > 0))"}),
    Plot("Processors in use", "%", {"{instance}": '100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[2m])))'}),
    Plot(
        "Fullest disk",
        "%",
        {
            "{instance}": "100 * max by (instance) (1 - node_filesystem_avail_bytes"
            '{fstype!~"tmpfs|overlay|squashfs|ramfs"} / node_filesystem_size_bytes)',
        },
    ),
)


def history(prometheus: Request, seconds: float, timeout: float, *, ask: Fetch = fetch, now: float | None = None) -> dict[str, Any]:
    """The plots: for each its ``title``, ``unit`` and ``series``, each with a ``label`` and ``points`` ([seconds since the epoch, value]).

    ``prometheus`` is a request to its address, after which all others are made.
    ``problem`` says why there is none, or what is missing; it is empty otherwise.
    """
    end = math.floor(time.time() if now is None else now)
    found: dict[str, Any] = {"start": end - seconds, "end": end, "plots": [], "problem": ""}
    step = max(1, math.ceil(seconds / _POINTS))
    try:
        for plot in PLOTS:
            series = [
                each
                for name, query in plot.queries.items()
                for each in _series(ask, replace(prometheus, url=_url(prometheus.url, query, end - seconds, end, step)), name, timeout)
            ]
            found["plots"].append({"title": plot.title, "unit": plot.unit, "series": series[:_MOST_SERIES]})
    except (NetError, ValueError) as error:
        found["problem"] = f"Prometheus at {prometheus.url} {error}"
        return found
    if not any(plot["series"] for plot in found["plots"]):
        found["problem"] = f"Prometheus at {prometheus.url} has nothing of the deployment"
    return found


def _url(url: str, query: str, start: float, end: float, step: int) -> str:
    return f"{url.rstrip('/')}/api/v1/query_range?{urlencode({'query': query, 'start': start, 'end': end, 'step': step})}"


def _series(ask: Fetch, request: Request, name: str, timeout: float) -> list[dict[str, Any]]:
    answer = ask(request, timeout)
    said = answer.json()
    if answer.status != 200 or not isinstance(said, dict) or said.get("status") != "success":
        raise NetError(f"answered {answer.summary()}")
    return [{"label": _label(name, each.get("metric", {})), "points": _points(each.get("values", []))} for each in said["data"]["result"]]


def _label(name: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        name = name.replace(f"{{{label}}}", value)
    return name


def _points(values: Sequence[Sequence[Any]]) -> list[list[float]]:
    """Without what is no number (NaN, Inf): JSON has no word for it, and no plot a place."""
    points = [[float(when), float(value)] for when, value in values]
    return [point for point in points if math.isfinite(point[1])]
