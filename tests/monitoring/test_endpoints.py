"""What stands for a path in nginx's log: enough to tell endpoints apart, and never a name or an id."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment

VARIABLES = yaml.safe_load((Path(__file__).resolve().parents[2] / "roles/nginx/vars/main.yml").read_text())
ID = "0198f3a2-7c4e-7d11-9a56-0242ac120002"


@cache
def endpoints() -> list[tuple[re.Pattern[str], str]]:
    """The role's table, as nginx gets it."""
    render = Environment(autoescape=False).from_string  # noqa: S701  no page is made
    words = {name: render(VARIABLES[name]).render(VARIABLES) for name in ("__nginx_resource", "__nginx_verb")}
    return [(re.compile(render(pattern).render(words)), value) for pattern, value in VARIABLES["__nginx_endpoints"]]


def endpoint(path: str) -> str:
    for pattern, value in endpoints():
        if found := pattern.search(path):
            return found.expand(value.replace("$", "\\"))
    return "other"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/flows/", "/api/flows"),
        ("/api/health", "/api/health"),
        ("/api/flow_runs/filter", "/api/flow_runs/filter"),
        (f"/api/flow_runs/{ID}", "/api/flow_runs/:"),
        (f"/api/flow_runs/{ID}/set_state", "/api/flow_runs/:/set_state"),
        (f"/api/flow_runs/{ID}/input/some-key", "/api/flow_runs/:/input/:"),
        ("/api/flows/name/my flow", "/api/flows/name/:"),
        ("/api/deployments/name/my flow/my deployment", "/api/deployments/name/:"),
        ("/api/block_types/slug/secret/block_documents/name/mine", "/api/block_types/slug/:"),
        ("/api/work_pools/filter", "/api/work_pools/filter"),
        ("/api/work_pools/my-pool", "/api/work_pools/:"),
        ("/api/work_pools/my-pool/get_scheduled_flow_runs", "/api/work_pools/:/get_scheduled_flow_runs"),
        ("/api/work_pools/my-pool/workers/heartbeat", "/api/work_pools/:/workers/:"),
        ("/api/work_pools/my-pool/queues/filter", "/api/work_pools/:/queues/:"),
        ("/api/task_runs/subscriptions/scheduled", "/api/task_runs/subscriptions/:"),
        ("/api/events/in", "/api/events/in"),
        ("/api/variables/name/secret-plans", "/api/variables/name/:"),
        ("/api/variables/secret-plans", "/api/variables/:"),
        ("/api/secret-plans", "/api/other"),
        ("/api", "/api/other"),
        ("/", "ui"),
        ("/assets/index-Dx3.js", "ui"),
        ("/runs", "ui"),
        ("*", "other"),
    ],
)
def test_endpoint(path: str, expected: str) -> None:
    assert endpoint(path) == expected


def test_there_are_only_so_many() -> None:
    words = [f"{word}{number}" for number in range(10) for word in ("x", "flows", "filter")]
    paths = [f"/api/{one}/{two}/{three}" for one in words for two in words[:9] for three in words[:9]]
    assert {endpoint(path) for path in paths} == {"/api/other"}
