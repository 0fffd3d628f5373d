"""Fills the database of a lab as weeks of work would, and asks for what the user interface shows of it."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lab import Lab

SQL = Path(__file__).parent / "fill.sql"
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Rows:
    """How many rows of the large tables, and the days that they are spread over."""

    flow_runs: int = 300_000
    task_runs: int = 1_000_000
    logs: int = 5_000_000
    events: int = 5_000_000
    days: int = 28
    event_days: int = 6

    def divided(self, by: int) -> Rows:
        """So many times fewer."""
        return Rows(self.flow_runs // by, self.task_runs // by, self.logs // by, self.events // by, self.days, self.event_days)


def fill(lab: Lab, host: str, rows: Rows, seconds: float = 300) -> float:
    """Fills the database on a host, and returns how long that took. Fails after so many seconds."""
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_part, lab, host, part, rows, seconds) for part in ("runs", "events")]:
            done.result()
    return time.monotonic() - begun


def _part(lab: Lab, host: str, part: str, rows: Rows, seconds: float) -> None:
    variables = [word for name, value in {"part": part, **vars(rows)}.items() for word in ("-v", f"{name}={value}")]
    psql = ["psql", "--no-psqlrc", "--dbname=prefect", *variables, "--file=-"]
    command = ["docker", "exec", "--interactive", "--user=postgres", f"prefect-{lab.name}-{host}", *psql]
    ended = subprocess.run(command, input=SQL.read_text(), capture_output=True, text=True, check=False, timeout=seconds)
    assert ended.returncode == 0, ended.stderr


def ask(lab: Lab, path: str, body: Any) -> tuple[int, Any]:
    """The status and the answer of a request to the API, as a browser makes it."""
    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=60)
    if lab.tls:
        trusted = ssl.create_default_context(cafile=lab.authority)
        connection = http.client.HTTPSConnection("127.0.0.1", lab.port, timeout=60, context=trusted)
    try:
        authorization = b64encode(lab.auth_string.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {authorization}"}
        connection.request("POST", f"/api{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content or "null")
    finally:
        connection.close()


def pages() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What the user interface asks for when it shows its pages: a name, the path and the body."""
    now = datetime.now(UTC)
    day, week = (now - timedelta(days=1)).isoformat(), (now - timedelta(days=7)).isoformat()
    recent = {"start_time": {"after_": day}}
    occurred = {"since": week, "until": (now + HOUR).isoformat()}
    history = {"history_start": day, "history_end": now.isoformat(), "history_interval_seconds": 3600}
    yield "dashboard: flow runs by hour", "/flow_runs/history", history
    yield "dashboard: failed flow runs", "/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": ["FAILED", "CRASHED"]}}, **recent}}
    yield "dashboard: task runs", "/task_runs/count", {"task_runs": recent}
    yield (
        "dashboard: latest failures",
        "/flow_runs/filter",
        {"sort": "START_TIME_DESC", "limit": 10, "flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}},
    )
    yield "runs: the first page", "/flow_runs/paginate", {"page": 1, "limit": 10, "sort": "START_TIME_DESC", "flow_runs": {}}
    yield (
        "runs: by name",
        "/flow_runs/paginate",
        {"page": 1, "limit": 10, "sort": "START_TIME_DESC", "flow_runs": {"name": {"like_": "otter-777"}}},
    )
    yield "events: the feed", "/events/filter", {"filter": {"occurred": occurred, "order": "DESC"}, "limit": 50}
    yield "events: by day", "/events/count-by/day", {"filter": {"occurred": occurred}, "time_unit": "day", "time_interval": 1}
