"""What tests of several folders share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def measured() -> Callable[..., dict[str, Any]]:
    """Makes the measurements of a scenario, with whatever is given in place of its own."""
    return scenario


def scenario(**more: Any) -> dict[str, Any]:
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
