"""Every query of every panel, and every metric that an alert needs, has an answer in a running cluster."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
from typing import Any

import dashboards
import pytest
from lab import Lab, direct

LAB = Lab("monitoring", 4310)
# Any Prometheus that watches a cluster can be queried; by default it is the lab's.
OWN = os.environ.get("PREFECT_PROMETHEUS_URL")
PROMETHEUS = OWN or dashboards.lab_prometheus(LAB.inventory)
# Counted from the first one on; there while a part of Prefect is switched off.
LATER = {"prefect_watchdog_restarts_total", "prefect_switched_off_info"}
# One of your own is verified by what the system trusts, or SSL_CERT_FILE names.
OPEN = direct if OWN else LAB.open
RATE_SECONDS = 120  # seconds until a young Prometheus has what a rate needs


def ask(expr: str) -> list[dict[str, Any]]:
    """What Prometheus answers now."""
    url = f"{PROMETHEUS}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
    with OPEN(url, timeout=20) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return result


def send_a_request() -> None:
    """The exporter of nginx's access log counts requests from its own start on: an idle lab has none."""
    if not OWN:
        LAB.open(f"{LAB.url}/health", timeout=20).close()


def has_answer(expr: str) -> bool:
    """Whether there is an answer, now or soon."""
    end = time.monotonic() + RATE_SECONDS
    while not ask(expr):
        if time.monotonic() > end:
            return False
        send_a_request()
        time.sleep(5)
    return True


@pytest.fixture(scope="module", autouse=True)
def _a_backup() -> None:
    """How old the newest backup is can be told once there is one."""
    if not OWN and not ask("prefect_backup_timestamp_seconds"):
        LAB.play("backup")


@pytest.mark.parametrize("query", list(dashboards.queries()), ids=str)
def test_a_panel_is_not_empty(query: dashboards.Query) -> None:
    assert has_answer(query.expr), f"no answer for {query.expr}"


@pytest.mark.parametrize("metric", sorted(set(dashboards.metrics_of_rules()) - LATER))
def test_an_alert_has_its_metric(metric: str) -> None:
    """An alert on a metric that no target exposes never fires."""
    assert has_answer(f"count({metric})"), f"no target exposes {metric}"
