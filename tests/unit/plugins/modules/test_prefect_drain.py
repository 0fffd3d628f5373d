from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.confirm import Confirmed
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.gate import Drained, DrainError, Keeper
from ansible_collections.selfhosted.prefect.plugins.module_utils._health import Condition, Outcome, RetryPolicy
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.journal import Why
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_drain


class Gate:
    def __init__(self) -> None:
        self.is_closed = False
        self.moves: list[str] = []
        self.others: set[int] = set()
        self.ended = Finished(0, "")
        self.healthy = True

    def __call__(self, port: int, local_users: list[str], keeper: Keeper) -> Gate:
        self.keeper = keeper
        assert (port, local_users) == (4200, [])
        return self

    def is_rejecting(self) -> bool:
        return self.is_closed

    def ports(self) -> set[int]:
        return self.others | ({4200} if self.is_closed else set())

    def reject(self) -> None:
        self.moves.append("reject")
        self.is_closed = True

    def accept(self) -> None:
        self.moves.append("accept")
        self.is_closed = False


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(prefect_drain, "NftablesGate", gate)
    monkeypatch.setattr(prefect_drain, "connections", lambda _port: [])
    monkeypatch.setattr(prefect_drain, "wait_for_quiet", lambda _port, _timeout, settle: Drained(0, 2, 0.25 + settle))
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
        assert result["drained_ports"] == ([4200] if state == "drained" else [])
        assert "taking_traffic" not in result
    assert gate.moves == ["reject", "accept"]


@pytest.mark.parametrize(("closed", "state", "changed"), [(False, "drained", True), (True, "active", True), (True, "drained", False)])
def test_check_mode(run_module: Any, gate: Gate, closed: bool, state: str, changed: bool) -> None:
    gate.is_closed, gate.others = closed, {4201}
    result = run_module(prefect_drain.main, check=True, port=4200, state=state)
    assert result["changed"] is changed
    assert result["drained_ports"] == ([4200, 4201] if state == "drained" else [4201])
    assert gate.moves == []


def test_requests_that_never_end(run_module: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_drain, "wait_for_quiet", lambda _port, _timeout, settle: Drained(3, 0, 10.0 + settle))
    result = run_module(prefect_drain.main, port=4200, timeout=10)
    assert (result.get("failed"), result["in_flight"], gate.is_closed) == (None, 3, True)
    assert "3 requests to port 4200 had no answer after 10 s" in result["warnings"][0]


@pytest.mark.usefixtures("gate")
def test_rules_that_nothing_keeps(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "reject", lambda self: setattr(self.keeper, "problem", "no bus"))
    result = run_module(prefect_drain.main, port=4200)
    assert result["drained"]
    assert "its rules are not put back" in result["warnings"][0]
    assert result["warnings"][0].endswith("no bus")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("is_rejecting", DrainError("nft is not installed."), "Port 4200 cannot be drained. nft is not installed."),
        ("connections", OSError(2, "No such file"), "cannot be seen ([Errno 2] No such file). Nothing was changed."),
    ],
)
def test_failures_leave_the_gate_open(gate: Gate, request: pytest.FixtureRequest, function: str, error: Exception, message: str) -> None:
    def fail(*_: Any) -> None:
        raise error

    request.getfixturevalue("monkeypatch").setattr(gate if function == "is_rejecting" else prefect_drain, function, fail)
    result = request.getfixturevalue("run_module")(prefect_drain.main, port=4200)
    assert result["failed"]
    assert message in result["msg"]
    assert gate.moves == []


def test_a_failure_after_the_gate_says_so(run_module: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **_options: Any) -> None:
        raise OSError(2, "No such file")

    monkeypatch.setattr(prefect_drain, "wait_for_quiet", fail)
    result = run_module(prefect_drain.main, port=4200)
    assert "cannot be seen ([Errno 2] No such file). New connections are refused; the state active accepts them again." in result["msg"]
    assert gate.moves == ["reject"]


HEALTHY = {"url": "http://127.0.0.1:4200", "unit": "prefect-api@4200.service", "auth_string": "admin:secret", "version": "3.8.8"}


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("answer", ["", "HTTP 503 of admin:secret"])
def test_no_connection_is_accepted_before_it_is_healthy(
    run_module: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch, closed: bool, answer: str
) -> None:
    def wait_until(conditions: list[Condition], policy: RetryPolicy) -> Outcome:
        assert [condition.name for condition in conditions] == ["units", "live", "ready", "version"]
        assert (policy.successes, policy.timeout, policy.interval) == (2, 7.0, 0.1)
        assert gate.is_closed is closed
        return Outcome(not answer, 5, 1.23456, "ready" if answer else "", answer)

    gate.is_closed = closed
    monkeypatch.setattr(prefect_drain, "wait_until", wait_until)
    monkeypatch.setattr(prefect_drain, "why", lambda units, _lines, _secrets: Why("its cause", f"journal of {units}"))
    result = run_module(prefect_drain.main, port=4200, state="active", healthy={**HEALTHY, "timeout": 7})
    assert (result.get("failed", False), result["healthy_after"]) == (bool(answer), 1.235)
    assert gate.moves == (["accept"] if closed and not answer else [])
    if answer:
        assert (
            "127.0.0.1:4200 is not healthy after 1 s and 5 attempts: its cause.\nFailed: ready. Last answer: HTTP 503 of" in result["msg"]
        )
        assert result["journal"] == ["journal of ['prefect-api@4200.service']"]
        assert "secret" not in result["msg"]


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize(("tls", "elapsed"), [(False, 0.25), (True, 1.25)])
def test_requests_over_tls_are_given_time_to_arrive(run_module: Any, tls: bool, elapsed: float) -> None:
    assert run_module(prefect_drain.main, port=4200, tls=tls)["elapsed"] == elapsed


@pytest.mark.usefixtures("gate")
def test_a_server_and_a_balancer_have_authorities_of_their_own(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted: list[Any] = []

    def wait_until(conditions: list[Condition], _policy: RetryPolicy) -> Outcome:
        trusted.append(conditions[1].check.__self__.tls)  # type: ignore[attr-defined]
        return Outcome(True, 1, 0.1)

    def ask(url: str, _auth_string: str, tls: Any, _timeout: float) -> Answer:
        trusted.append((url, tls))
        return Answer(200)

    monkeypatch.setattr(prefect_drain, "wait_until", wait_until)
    monkeypatch.setattr(prefect_drain, "ask", ask)
    server = {**HEALTHY, "url": "https://127.0.0.1:4200", "ca_file": "/api.crt"}
    balancers = {"balancers": ["https://lb1:4200"], "ca_file": "/public.crt", "confirm_timeout": 0}
    run_module(prefect_drain.main, port=4200, state="active", healthy=server, **balancers)
    assert trusted == [{"ca_file": "/api.crt"}, ("https://lb1:4200/api", {"ca_file": "/public.crt"})]


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize(("check", "state"), [(True, "active"), (False, "drained")])
def test_health_is_asked_only_before_letting_in(run_module: Any, monkeypatch: pytest.MonkeyPatch, check: bool, state: str) -> None:
    monkeypatch.setattr(prefect_drain, "wait_until", lambda *_: pytest.fail("asked"))
    result = run_module(prefect_drain.main, check=check, port=4200, state=state, healthy=HEALTHY)
    assert "healthy_after" not in result
    assert not result.get("failed")


def test_a_url_that_is_none(run_module: Any, gate: Gate) -> None:
    gate.is_closed = True
    result = run_module(prefect_drain.main, port=4200, state="active", healthy={**HEALTHY, "url": "host:4200"})
    assert result["msg"].endswith("not 'host:4200' (healthy). Nothing was changed.")
    assert gate.moves == []


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> list[Any]:
    """The commands that the module ran, all of them while new connections were rejected."""
    commands: list[Any] = []

    def run(argv: list[str], timeout: float) -> Finished:
        assert gate.is_closed
        commands.append((argv, timeout))
        return gate.ended

    monkeypatch.setattr(prefect_drain, "run", run)
    monkeypatch.setattr(prefect_drain, "wait_until", lambda *_: Outcome(gate.healthy, 5, 1.0, "ready", "HTTP 503"))
    monkeypatch.setattr(prefect_drain, "why", lambda *_: Why("its cause", "the journal"))
    return commands


def test_out_restarted_and_back(run_module: Any, gate: Gate, restarts: list[Any]) -> None:
    result = run_module(prefect_drain.main, port=4200, state="restarted", healthy={**HEALTHY, "timeout": 7})
    assert (result["changed"], result["drained"], result["healthy_after"], result["elapsed"]) == (True, False, 1.0, 0.25)
    assert result["diff"] == {"before": "port 4200: active\n", "after": "port 4200: active, restarted\n"}
    assert restarts == [(["systemctl", "restart", "prefect-api@4200.service"], 607.0)]
    assert gate.moves == ["reject", "accept"]


@pytest.mark.parametrize(
    ("ended", "healthy", "message"),
    [
        (Finished(1, "Job failed."), True, "prefect-api@4200.service could not be restarted: its cause\nJob failed."),
        (Finished(-9, "", timed_out=True), True, "could not be restarted: its cause\nit took too long"),
        (Finished(0, ""), False, "Failed: ready. Last answer: HTTP 503"),
    ],
)
def test_a_restart_that_fails_leaves_it_out(
    run_module: Any, gate: Gate, restarts: list[Any], *, ended: Finished, healthy: bool, message: str
) -> None:
    gate.ended, gate.healthy = ended, healthy
    result = run_module(prefect_drain.main, port=4200, state="restarted", healthy=HEALTHY)
    assert result["failed"]
    assert message in result["msg"]
    assert len(restarts) == 1
    assert gate.moves == ["reject"]


def test_a_restart_in_check_mode(run_module: Any, gate: Gate, restarts: list[Any]) -> None:
    result = run_module(prefect_drain.main, check=True, port=4200, state="restarted", healthy=HEALTHY)
    assert (result["changed"], result["drained"], gate.moves, restarts) == (True, False, [], [])


def test_a_restart_needs_to_know_what_is_healthy(run_module: Any, gate: Gate) -> None:
    assert "missing: healthy" in run_module(prefect_drain.main, port=4200, state="restarted")["msg"]
    assert gate.moves == []


URL = "http://balancer:4200/api"


@pytest.fixture
def confirmed(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> list[tuple[list[str], float]]:
    """How the module asked the balancers. New connections are rejected; nothing arrives through "deaf", and "mute" names no server."""
    calls: list[tuple[list[str], float]] = []

    def confirm(balancers: list[str], _ask: Any, here: Any, timeout: float) -> Confirmed:
        assert here("127.0.0.1:4200") and not here("127.0.0.1:4201")
        assert gate.moves in (["accept"], [])  # not before it is open
        calls.append((balancers, timeout))
        missing = {url: "HTTP 200 elsewhere" for url in balancers if "deaf" in url or "mute" in url}
        return Confirmed(missing, 9, 1.23456, {url for url in missing if "mute" in url})

    gate.is_closed = True
    monkeypatch.setattr(prefect_drain, "confirm", confirm)
    return calls


def test_it_takes_traffic_again(run_module: Any, gate: Gate, confirmed: list[Any]) -> None:
    arguments = {"port": 4200, "state": "active", "balancers": ["http://balancer:4200", "http://other:4200/api/"], "auth_string": "admin:x"}
    for changed in (True, False):
        result = run_module(prefect_drain.main, **arguments)
        assert (result["changed"], result["taking_traffic"], result["confirmed_after"], result["unconfirmed"]) == (changed, True, 1.235, {})
        assert result["warnings"] == []
    assert confirmed == [([URL, "http://other:4200/api"], 15.0)] * 2
    assert gate.moves == ["accept"]


@pytest.mark.parametrize("required", [False, True])
def test_it_is_sent_nothing(run_module: Any, gate: Gate, confirmed: list[Any], required: bool) -> None:
    balancers = [URL, "http://deaf:4200/api"]
    result = run_module(prefect_drain.main, port=4200, state="active", balancers=balancers, confirm_timeout=1, confirm_required=required)
    message = result["msg"] if required else result["warnings"][0]
    assert result.get("failed", False) is required
    assert message.startswith("Port 4200 is open, but within 1 s no request")
    assert "http://deaf:4200/api: HTTP 200 elsewhere. " in message
    assert URL not in message
    assert (result["taking_traffic"], result["unconfirmed"]) == (False, {"http://deaf:4200/api": "HTTP 200 elsewhere"})
    assert confirmed == [(balancers, 1.0)]
    assert gate.moves == ["accept"]


@pytest.mark.parametrize(("state", "check", "balancers"), [("active", True, [URL]), ("drained", False, [URL]), ("active", False, [])])
def test_nothing_to_confirm(run_module: Any, confirmed: list[Any], state: str, check: bool, balancers: list[str]) -> None:
    result = run_module(prefect_drain.main, check=check, port=4200, state=state, balancers=balancers)
    assert "taking_traffic" not in result
    assert confirmed == []


@pytest.mark.parametrize("required", [False, True])
def test_a_balancer_that_names_no_server(run_module: Any, gate: Gate, confirmed: list[Any], required: bool) -> None:
    url = "http://mute:4200/api"
    result = run_module(prefect_drain.main, port=4200, state="active", balancers=[url], confirm_required=required)
    assert (result.get("failed", False), result["taking_traffic"], list(result["unconfirmed"])) == (required, False, [url])
    assert result["warnings"] == [], "its time was given, and more cannot be done"
    assert gate.moves == ["accept"]
    assert confirmed == [([url], 15.0)]


def test_a_balancer_that_is_no_url(run_module: Any, gate: Gate) -> None:
    gate.is_closed = True
    result = run_module(prefect_drain.main, port=4200, state="active", balancers=["balancer:4200"])
    assert result["failed"]
    assert "'balancer:4200' (balancers). Nothing was changed." in result["msg"]
    assert gate.moves == []
