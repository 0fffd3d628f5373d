from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._health import Outcome
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.journal import Why
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_health

REDIS = {"host": "cache", "password": "s3cret/%"}


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was asked for, and what waiting for it comes to."""
    seen: dict[str, Any] = {"outcome": Outcome(True, 2, 1.5, answers={"live": "HTTP 200 true", "version": "3.8.8"})}

    def wait_until(conditions: Any, policy: Any) -> Outcome:
        seen.update(names=[each.name for each in conditions], policy=policy)
        result: Outcome = seen["outcome"]
        return result

    monkeypatch.setattr(prefect_health, "wait_until", wait_until)
    monkeypatch.setattr(prefect_health, "why", lambda *_: Why("its cause", "the journal"))
    return seen


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"url": "http://h"}, ["live", "ready"]),
        ({"url": "http://h", "auth_string": "a:b", "unit": "a.service"}, ["units", "live", "ready", "version"]),
        ({"units": ["a.service", "b.service"]}, ["units"]),
        ({"unit": "a.service", "deep": True, "redis": REDIS}, ["units", "redis", "scheduler"]),
        ({"unit": "a.service", "deep": True, "redis": REDIS, "scheduler": False}, ["units", "redis", "worker"]),
        ({"url": "http://h", "deep": True, "redis": REDIS, "scheduler": False}, ["live", "ready", "redis", "write"]),
        ({"url": "http://h", "deep": True, "redis": REDIS}, ["live", "ready", "redis", "write", "scheduler"]),
    ],
)
def test_what_must_hold(run_module: Any, outcome: Any, arguments: Any, names: list[str]) -> None:
    result = run_module(prefect_health.main, **arguments)
    assert outcome["names"] == names
    assert (result["changed"], result["healthy"], result["version"]) == (False, True, "3.8.8")


def test_failure_shows_why_and_no_secret(run_module: Any, outcome: Any) -> None:
    outcome["outcome"] = Outcome(False, 9, 60.0, "redis", "WRONGPASS for s3cret%2F%25", {"redis": "WRONGPASS for s3cret%2F%25"})
    result = run_module(prefect_health.main, unit="a.service", deep=True, redis=REDIS)
    assert result["failed"]
    assert result["failed_condition"] == "redis"
    assert "a.service is not healthy after 60 s" in result["msg"]
    assert result["journal"] == ["the journal"]
    assert "s3cret" not in json.dumps(result)


def test_check_mode_asks_once_and_does_not_fail(run_module: Any, outcome: Any) -> None:
    outcome["outcome"] = Outcome(False, 1, 0.1, "live", "refused", {"live": "refused"})
    result = run_module(prefect_health.main, check=True, url="http://h")
    assert (outcome["policy"].successes, outcome["policy"].timeout) == (1, 0)
    assert (result.get("failed"), result["healthy"]) == (None, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "There is nothing to look at"),
        ({"url": "http://h", "deep": True}, "deep is True but all of the following are missing: redis"),
        ({"url": "h:4200"}, "url must begin with http:// or https:// and name a host, not 'h:4200'. Nothing was queried."),
    ],
)
def test_bad_arguments(run_module: Any, arguments: Any, message: str) -> None:
    assert message in run_module(prefect_health.main, **arguments)["msg"]
