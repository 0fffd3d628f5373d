from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import RedisError
from ansible_collections.selfhosted.prefect.plugins.module_utils._deployment_lock import ANY_HOLDER, Holder
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_deployment_lock

OWN = Holder("bob", "laptop", "boot-2", 77, 99, "site.yml")
OTHER = Holder("alice", "bastion", "boot-1", 4711, 560820, "upgrade.yml", since=1000.0, refreshed=1000.0)
REDIS = {"host": "10.0.0.12", "password": "p@ss-w0rd", "db": 1}


class Server:
    """A connection to Redis, and what is kept there. It grants the lock to every run that may have it."""

    def __init__(self, held: Holder | None = None, error: Exception | None = None) -> None:
        self.held = held
        self.error = error
        self.calls: list[str] = []

    def __call__(self, parts: dict[str, Any], timeout: float) -> Server:
        assert (parts["host"], parts["port"], parts["db"], parts["tls"], timeout > 0) == ("10.0.0.12", 6379, 1, {}, True)
        if self.error:
            raise self.error
        return self

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, *words: Any) -> Any:
        self.calls.append(words[0])
        if words[0] == "GET":
            return self.held.text() if self.held else None
        if words[0] == "PTTL":
            return 90_000
        if len(words) == 5:
            return int(self.held is not None and self.held.token == words[4])
        if not self.held or self.held.token in (words[4], words[7]) or words[7] == ANY_HOLDER:
            return None
        return self.held.text()


def run(run_module: Any, monkeypatch: pytest.MonkeyPatch, server: Server, check: bool = False, **options: Any) -> dict[str, Any]:
    monkeypatch.setattr(prefect_deployment_lock, "connect_redis", server)
    values = {"redis": REDIS, "_holder": {**asdict(OWN), "token": OWN.token}, **options}
    result: dict[str, Any] = run_module(prefect_deployment_lock.main, check=check, **values)
    assert not result.get("changed")
    assert "p@ss-w0rd" not in str(result)
    return result


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("held", "options", "blocked"),
    [
        (None, {}, False),
        (OWN, {}, False),
        (OTHER, {}, True),
        (OTHER, {"takeover": True}, False),
        (OTHER, {"_after": OTHER.token}, False),
        (OTHER, {"_after": OWN.token}, True),
        (OTHER, {"state": "released"}, False),
        (None, {"state": "released"}, False),
    ],
)
def test_outcomes(request: pytest.FixtureRequest, held: Holder | None, options: dict[str, Any], blocked: bool, check: bool) -> None:
    server = Server(held)
    result = run(request.getfixturevalue("run_module"), request.getfixturevalue("monkeypatch"), server, check, **options)
    assert result.get("failed", False) is blocked
    assert result["held"] is (not blocked and not check and options.get("state") != "released")
    assert result.get("holder", {}).get("token") == (OTHER.token if blocked else None)
    if blocked:
        assert "upgrade.yml, by alice on bastion (process 4711)" in result["msg"]
        assert "ends in 90 s" in result["msg"]
    assert not check or "EVAL" not in server.calls


@pytest.mark.parametrize("error", [NetError("refused the connection"), RedisError("WRONGPASS invalid username-password pair")])
@pytest.mark.parametrize("state", ["held", "released"])
@pytest.mark.parametrize("required", [False, True])
def test_no_redis(run_module: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, required: bool) -> None:
    result = run(run_module, monkeypatch, Server(error=error), state=state, required=required)
    assert (result.get("failed", False), result["held"]) == (required, False)
    warned = isinstance(error, RedisError) and state == "held" and not required
    assert [str(error) in warning for warning in result["warnings"]] == ([True] if warned else [])
    if required:
        assert f"Redis at 10.0.0.12:6379 {error}" in result["msg"]


def test_the_lease_is_in_seconds(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(replace(OWN, since=1.0))
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(server, "call", lambda *words: calls.append(words))
    run(run_module, monkeypatch, server, lease=60)
    assert calls[0][6] == 60_000


@pytest.mark.parametrize("wrong", [{"lease": 0}, {"lease": -5}, {"wait": -1}, {"wait": "nan"}])
def test_no_span_of_time(run_module: Any, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    server = Server()
    assert f"{next(iter(wrong))} must be at least" in run(run_module, monkeypatch, server, **wrong)["msg"]
    assert not server.calls


def test_without_its_action_plugin(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs its action plugin" in run(run_module, monkeypatch, Server(), _holder={})["msg"]
