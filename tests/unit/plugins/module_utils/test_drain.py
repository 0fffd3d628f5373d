from __future__ import annotations

import json
import os
import pwd
import re
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain import keeper as keeper_program
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.gate import DrainError, Keeper, NftablesGate, wait_for_quiet
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.sockets import Connection


class Nft:
    """The nft command, as far as a set of ports goes."""

    def __init__(self, *ports: int) -> None:
        self.ports = set(ports)
        self.scripts: list[str] = []
        self.broken: Finished | None = None
        self.refuses = False

    def __call__(self, argv: Any, timeout: float, *, stdin: str = "", **_: Any) -> Finished:
        assert argv[0] == "nft"
        assert timeout < 60
        if self.broken:
            return self.broken
        if "list" in argv:
            if not self.ports:
                return Finished(1, "Error: No such file or directory\nlist set inet prefect_drain ports\n")
            found = {"set": {"family": "inet", "name": "ports", "elem": sorted(self.ports)}}
            return Finished(0, json.dumps({"nftables": [{"metainfo": {}}, found]}))
        if self.refuses:
            return Finished(1, "Operation not supported")
        self.scripts.append(stdin)
        for verb, port in re.findall(r"^(add|delete) element inet prefect_drain ports \{ (\d+) \}$", stdin, re.MULTILINE):
            (self.ports.add if verb == "add" else self.ports.discard)(int(port))
        if "delete table inet prefect_drain" in stdin:
            self.ports.clear()
        return Finished(0, "")


def test_shut_and_open() -> None:
    nft = Nft()
    gate = NftablesGate(4200, command=nft)
    assert not gate.is_rejecting()
    gate.reject()
    assert gate.is_rejecting()
    gate.reject()
    gate.accept()
    assert not gate.is_rejecting()
    assert nft.scripts[-1] == "add table inet prefect_drain\ndelete table inet prefect_drain\n"


def test_several_ports_share_the_table() -> None:
    nft = Nft(4201)
    gate = NftablesGate(4200, command=nft)
    assert not gate.is_rejecting()
    gate.reject()
    assert nft.ports == gate.ports() == {4200, 4201}
    gate.accept()
    assert nft.ports == {4201}


def test_the_rules() -> None:
    nft = Nft()
    NftablesGate(4200, command=nft).reject()
    rules = [line for line in nft.scripts[0].splitlines() if line.startswith("add rule")]
    assert len(rules) == 1
    # New connections from outside are refused, open ones stay, and the host may check itself.
    assert 'iifname != "lo"' in rules[0]
    assert "tcp flags & (fin | syn | rst | ack) == syn" in rules[0]
    assert rules[0].endswith("reject with tcp reset")


def test_a_balancer_on_the_same_host(monkeypatch: pytest.MonkeyPatch) -> None:
    nft = Nft()
    monkeypatch.setattr(pwd, "getpwnam", lambda _: type("Account", (), {"pw_uid": 33}))
    NftablesGate(4200, ["www-data"], nft).reject()
    assert 'local oifname "lo" meta skuid 33 ' in nft.scripts[0]


class Systemd:
    """systemd, as far as one unit goes, beside the nft command."""

    def __init__(self, nft: Nft) -> None:
        self.nft = nft
        self.runs = False
        self.broken = False
        self.started: list[str] = []

    def __call__(self, argv: Any, timeout: float, **options: Any) -> Finished:
        if argv[0] == "nft":
            return self.nft(argv, timeout, **options)
        if argv[0] == "systemd-run":
            if self.broken or self.runs:
                return Finished(1, "Failed to start transient service unit: no bus" if self.broken else "Unit already exists.")
            self.runs, self.started = True, list(argv)
            return Finished(0, "")
        if argv[1] == "stop":
            self.runs = False
            return Finished(0, "")
        return Finished(0 if self.runs else 3, "")


def test_the_rules_are_kept_while_a_port_is_drained(tmp_path: Path) -> None:
    systemd = Systemd(Nft())
    keeper = Keeper("/metrics", tmp_path / "run", systemd)
    first, second = (NftablesGate(port, command=systemd, keeper=keeper) for port in (4200, 4201))
    assert not first.is_rejecting()
    first.reject()
    assert systemd.runs
    assert keeper.rules() == systemd.nft.scripts[-1]
    program = systemd.started[-3]
    assert systemd.started[-2:] == [str(tmp_path / "run"), "/metrics"]
    compile(Path(program).read_text(), program, "exec")
    second.reject()
    assert re.findall(r"ports \{ (\d+) \}", keeper.rules()) == ["4200", "4201"]
    # Something flushes the firewall: what is about to be put back is drained all the same, and can be made active again.
    systemd.nft.ports.clear()
    assert first.is_rejecting()
    assert second.ports() == {4200, 4201}
    first.accept()
    assert re.findall(r"ports \{ (\d+) \}", keeper.rules()) == ["4201"]
    assert "add rule" in keeper.rules()
    assert systemd.runs
    second.accept()
    assert keeper.rules() == ""
    assert not systemd.runs
    assert second.ports() == set()
    assert keeper.problem == ""


def test_rules_that_nothing_keeps(tmp_path: Path) -> None:
    systemd = Systemd(Nft())
    systemd.broken = True
    keeper = Keeper("/metrics", tmp_path, systemd)
    gate = NftablesGate(4200, command=systemd, keeper=keeper)
    gate.reject()
    assert gate.is_rejecting()
    assert keeper.problem == "Failed to start transient service unit: no bus"


def test_rules_that_are_refused_are_not_kept(tmp_path: Path) -> None:
    systemd = Systemd(Nft())
    keeper = Keeper("/metrics", tmp_path, systemd)
    gate = NftablesGate(4200, command=systemd, keeper=keeper)
    systemd.nft.refuses = True
    with pytest.raises(DrainError):
        gate.reject()
    assert keeper.rules() == ""
    assert not systemd.runs


class Kernel:
    """What the keeper sees of the kernel's rules."""

    def __init__(self) -> None:
        self.rules = ""
        self.handle = 0
        self.problem = ""

    def __call__(self, argv: Any, stdin: str) -> tuple[int, str]:
        assert argv[0] == "nft"
        if self.problem:
            return 1, self.problem
        if stdin:
            self.rules = stdin
            return 0, ""
        self.handle += 1
        found = {"rule": {"handle": self.handle, "expr": [{"counter": {"packets": self.handle}}, self.rules]}}
        return (0, json.dumps({"nftables": [{"metainfo": {}}, found]})) if self.rules else (1, "No such file or directory")


def test_keeping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, metrics, kernel = tmp_path / "run", tmp_path / "metrics", Kernel()
    folder.mkdir()
    metrics.mkdir()
    keeper = keeper_program.Keeper(folder, metrics, kernel)
    assert not keeper.check(True), "nothing is drained"

    def count() -> int:
        return int((metrics / "prefect_drain.prom").read_text().split()[-1])

    (folder / "rules.nft").write_text("rules")
    assert keeper.check(True)
    assert (kernel.rules, count()) == ("rules", 0)
    assert keeper.check(True)
    assert count() == 0, "numbers that change by themselves are no loss"
    kernel.rules = ""
    assert keeper.check(False)
    assert kernel.rules == "", "it looks when it is told to"
    assert keeper.check(True)
    assert (kernel.rules, count()) == ("rules", 1)
    assert capsys.readouterr().out.splitlines() == ["the rules of the drain were gone from this host's firewall, and are back"]
    (folder / "rules.nft").write_text("others")
    assert keeper.check(False)
    assert (kernel.rules, count()) == ("others", 1)
    kernel.rules, kernel.problem = "", "no"
    for _check in range(100):
        assert keeper.check(False)
        assert keeper.check(True)
    assert capsys.readouterr().out.count("\n") == 1
    kernel.problem = ""
    assert keeper.check(False), "what failed is tried again without being told to"
    assert (kernel.rules, count()) == ("others", 2)
    (folder / "rules.nft").unlink()
    assert not keeper.check(True)


def test_changes_are_heard(tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    monitor = keeper_program.Monitor(["cat", str(told)])
    with told.open("w") as nft:
        assert not monitor.heard()
        nft.write("delete table inet prefect_drain\n")
        nft.flush()
        heard(monitor)
        assert not monitor.heard(), "it was heard before"
    monitor.close()
    assert not keeper_program.Monitor(["/nowhere/nft"]).heard()


def heard(monitor: keeper_program.Monitor) -> None:
    for _attempt in range(100):
        if monitor.heard():
            return
        time.sleep(0.02)
    raise AssertionError("nothing was heard")


def test_a_user_that_does_not_exist() -> None:
    nft = Nft()
    with pytest.raises(DrainError, match="no user no-such-user on this host"):
        NftablesGate(4200, ["no-such-user"], nft).reject()
    assert nft.scripts == []


MISSING = Finished(127, "nft cannot be run: No such file or directory")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (MISSING, "nft is not installed. Install the package nftables. Nothing was changed."),
        (Finished(1, "Error: Could not process rule: Operation not supported"), "Operation not supported\nNothing was changed."),
        (Finished(-9, "", timed_out=True), "nftables refused the rules"),
    ],
)
def test_shutting_fails(broken: Finished, message: str) -> None:
    nft = Nft()
    nft.broken = broken
    with pytest.raises(DrainError) as caught:
        NftablesGate(4200, command=nft).reject()
    assert message in str(caught.value)


def test_without_nft_the_gate_is_open() -> None:
    nft = Nft()
    nft.broken = MISSING
    assert not NftablesGate(4200, command=nft).is_rejecting()


def test_without_the_right_to_look() -> None:
    nft = Nft()
    nft.broken = Finished(1, "Operation not permitted (you must be root)")
    with pytest.raises(DrainError, match=r"It takes root \(become\)"):
        NftablesGate(4200, command=nft).is_rejecting()


WAITS = Connection(established=True, received=300, answered=0, unsent=0, quiet=100)
WEBSOCKET = Connection(established=True, received=300, answered=100, unsent=0, quiet=100)


@pytest.mark.parametrize(
    ("looks", "ended"),
    [
        ([[]], (0, 0, 0.1)),
        ([[WEBSOCKET, WEBSOCKET]], (0, 2, 0.1)),
        ([[WAITS, WEBSOCKET], [WAITS, WEBSOCKET], [WEBSOCKET]], (0, 1, 0.3)),
        # Quiet once is not enough.
        ([[], [WAITS], []], (0, 0, 0.3)),
        ([[WAITS, WEBSOCKET]], (1, 1, 5.0)),
    ],
)
def test_wait_for_quiet(looks: list[list[Connection]], ended: tuple[int, int, float]) -> None:
    now = [0.0]
    left = list(looks)

    def sleep(seconds: float) -> None:
        now[0] += seconds or 0.01

    result = wait_for_quiet(
        4200, 5, read=lambda _: left.pop(0) if len(left) > 1 else left[0], clock=lambda: now[0], sleep=sleep, interval=0.1
    )
    assert (result.in_flight, result.open_connections) == ended[:2]
    assert result.elapsed == pytest.approx(ended[2])


@pytest.mark.parametrize(("waits", "elapsed"), [(0.0, 1.0), (0.25, 1.25), (1.5, 2.5), (9.0, 5.0)])
def test_requests_follow_their_handshake(waits: float, elapsed: float) -> None:
    """It has to be quiet for as long as that may take, from the last connection on that was not accepted yet."""
    now = [0.0]

    def read(_port: int) -> list[Connection]:
        return [WAITS if now[0] < waits else WEBSOCKET]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    result = wait_for_quiet(4200, 5, read=read, clock=lambda: now[0], sleep=sleep, interval=0.125, settle=1.0)
    assert result.elapsed == pytest.approx(elapsed)
    assert result.in_flight == (elapsed == 5.0)
