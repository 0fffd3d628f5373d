from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain import Drained, DrainError
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_drain


class Gate:
    def __init__(self) -> None:
        self.is_closed = False
        self.moves: list[str] = []

    def __call__(self, port: int, local_users: list[str]) -> Gate:
        assert (port, local_users) == (4200, [])
        return self

    def is_shut(self) -> bool:
        return self.is_closed

    def shut(self) -> None:
        self.moves.append("shut")
        self.is_closed = True

    def open(self) -> None:
        self.moves.append("open")
        self.is_closed = False


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(prefect_drain, "NftablesGate", gate)
    monkeypatch.setattr(prefect_drain, "connections", lambda _port: [])
    monkeypatch.setattr(prefect_drain, "wait_for_quiet", lambda _port, _timeout: Drained(0, 2, 0.25))
    return gate


def test_out_and_back(run_module: Any, gate: Gate) -> None:
    for state, changed, before in (
        ("drained", True, "active"),
        ("drained", False, "drained"),
        ("active", True, "drained"),
        ("active", False, "active"),
    ):
        result = run_module(prefect_drain.main, port=4200, state=state)
        assert (result["changed"], result["drained"]) == (changed, state == "drained")
        assert result["diff"] == {"before": f"port 4200: {before}\n", "after": f"port 4200: {state}\n"}
        assert ("open_connections" in result) == (state == "drained")
    assert gate.moves == ["shut", "open"]


@pytest.mark.parametrize(("closed", "state", "changed"), [(False, "drained", True), (True, "active", True), (True, "drained", False)])
def test_check_mode(run_module: Any, gate: Gate, closed: bool, state: str, changed: bool) -> None:
    gate.is_closed = closed
    result = run_module(prefect_drain.main, check=True, port=4200, state=state)
    assert result["changed"] is changed
    assert gate.moves == []


def test_requests_that_never_end(run_module: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_drain, "wait_for_quiet", lambda _port, _timeout: Drained(3, 0, 10.0))
    result = run_module(prefect_drain.main, port=4200, timeout=10)
    assert (result.get("failed"), result["in_flight"], gate.is_closed) == (None, 3, True)
    assert "3 requests to port 4200 had no answer after 10 s" in result["warnings"][0]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("is_shut", DrainError("nft is not installed."), "Port 4200 cannot be drained. nft is not installed."),
        ("connections", OSError(2, "No such file"), "cannot be seen ([Errno 2] No such file). Nothing was changed."),
    ],
)
def test_failures_leave_the_gate_open(gate: Gate, request: pytest.FixtureRequest, function: str, error: Exception, message: str) -> None:
    def fail(*_: Any) -> None:
        raise error

    request.getfixturevalue("monkeypatch").setattr(gate if function == "is_shut" else prefect_drain, function, fail)
    result = request.getfixturevalue("run_module")(prefect_drain.main, port=4200)
    assert result["failed"]
    assert message in result["msg"]
    assert gate.moves == []
