from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.fault import Fault, FaultError, FaultInjector
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished

UNIT = "prefect-api@4200.service"


class Host:
    """As much of systemd and nftables as a fault needs. `returns` is how long systemd takes to start a killed process again."""

    def __init__(self, proc: Path, returns: float = 2.0) -> None:
        self.proc = proc
        self.now = 1000.0
        self.returns = returns
        self.state = "active"
        self.pid = 10
        self.back_at = 0.0
        self.guard: list[str] = []
        self.commands: list[str] = []
        self.scripts: list[str] = []
        self.fails: dict[str, Finished] = {}
        self.stop_signal_works = True
        self.process("S")

    def process(self, state: str) -> None:
        (self.proc / str(self.pid)).mkdir(exist_ok=True)
        (self.proc / str(self.pid) / "stat").write_text(f"{self.pid} (pre (fect) {state} 1 1")

    def __call__(self, argv: Any, timeout: float, *, stdin: str = "", **_: Any) -> Finished:
        assert timeout <= 120
        line = " ".join(argv)
        self.commands.append(line)
        for words, ended in self.fails.items():
            if line.startswith(words):
                return ended
        if argv[0] == "nft":
            self.scripts.append(stdin)
            return Finished(0, "")
        if argv[0] == "systemd-run":
            self.guard = argv[argv.index("--quiet") + 1 :]
            return Finished(0, "")
        return self.systemctl(argv[1:])

    def systemctl(self, argv: list[str]) -> Finished:
        if argv[0] == "is-active":
            return Finished(0 if self.guard else 3, "")
        if argv[0] == "show":
            if self.back_at and self.now >= self.back_at:
                self.state, self.pid, self.back_at = "active", self.pid + 1, 0.0
            pid = self.pid if self.state == "active" else 0
            return Finished(0, f"Id={UNIT}\nLoadState=loaded\nActiveState={self.state}\nSubState=x\nMainPID={pid}\n")
        if argv[0] == "kill":
            if "--signal=SIGKILL" in argv:
                self.state, self.back_at = "activating", self.now + self.returns
            elif self.stop_signal_works:
                self.process("T" if "--signal=SIGSTOP" in argv else "S")
        elif argv[0] == "stop" and argv[1].endswith(".timer"):
            self.guard = []
        elif argv[0] == "stop":
            self.state = "inactive"
        elif argv[0] == "start" and argv[1].endswith("restore.service"):
            return self(self.guard, 1)
        elif argv[0] in ("start", "restart"):
            self.state, self.pid = "active", self.pid + (argv[0] == "restart")
            self.now += 1
        return Finished(0, "")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def injector(self, kind: str, **more: Any) -> FaultInjector:
        fault = Fault(kind, more.get("units", () if kind == "cut" else (UNIT,)), more.get("ports", (4200, 5432) if kind == "cut" else ()))
        return FaultInjector(fault, self, lambda: self.now, self.sleep, self.proc)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("kind", "lasts", "by_itself", "revert"),
    [
        ("kill", 2.0, True, f"systemctl start {UNIT}"),
        ("freeze", 10.0, False, f"systemctl kill --kill-who=all --signal=SIGCONT {UNIT}"),
        ("stop", 11.0, False, f"systemctl start {UNIT}"),
        ("crash", 11.0, False, f"systemctl start {UNIT}"),
        ("restart", 1.0, True, f"systemctl start {UNIT}"),
        ("cut", 10.0, False, "nft delete table inet prefect_drill"),
    ],
)
def test_a_fault_begins_and_ends(host: Host, kind: str, lasts: float, by_itself: bool, revert: str) -> None:
    injector = host.injector(kind)
    assert injector.prepare() == ([] if kind == "cut" else [UNIT])
    looked = len(host.commands)
    broken = injector.carry_out(10, 70)
    assert broken.at == 1000
    assert broken.until - broken.at == pytest.approx(lasts, abs=0.2)
    assert broken.by_itself is by_itself
    assert broken.released == pytest.approx(broken.until if by_itself else 1010, abs=0.2)
    # The way back is there before anything is broken, and it is the way that is taken.
    assert host.commands[looked].startswith("systemd-run --unit=prefect-drill-restore --on-active=70s ")
    assert host.commands[looked].endswith(revert)
    assert revert in host.commands[looked + 1 :]
    assert host.commands[-1] == "systemctl stop prefect-drill-restore.timer"
    assert (host.state, host.guard) == ("active", [])


def test_it_is_not_started_again(host: Host) -> None:
    host.returns = 1e9
    injector = host.injector("kill")
    injector.prepare()
    broken = injector.carry_out(10, 70)
    assert not broken.by_itself
    assert broken.until - broken.at == pytest.approx(11)
    assert host.state == "active"


def test_a_crash_is_no_clean_stop_and_nothing_is_started_again(host: Host) -> None:
    host.returns = 0.5
    injector = host.injector("crash")
    injector.prepare()
    pid = host.pid
    injector.carry_out(10, 70)
    killed = host.commands.index(f"systemctl kill --kill-who=all --signal=SIGKILL {UNIT}")
    assert host.commands[killed + 1] == f"systemctl stop {UNIT}"
    assert (host.state, host.pid) == ("active", pid)


@pytest.mark.parametrize(
    ("peers", "matches"),
    [
        (("192.0.2.2", "192.0.2.3"), ["ip saddr { 192.0.2.2, 192.0.2.3 }", "ip daddr { 192.0.2.2, 192.0.2.3 }"]),
        (("2001:db8::2",), ["ip6 saddr { 2001:db8::2 }", "ip6 daddr { 2001:db8::2 }"]),
        (("192.0.2.2", "2001:db8::2"), ["ip saddr { 192.0.2.2 }", "ip6 saddr { 2001:db8::2 }", "ip daddr", "ip6 daddr"]),
    ],
)
def test_the_rules_of_a_cut_from_peers(peers: tuple[str, ...], matches: list[str]) -> None:
    rules = [line for line in Fault("cut", (), (5432,), peers).rules().splitlines() if line.startswith("add rule")]
    assert len(rules) == 2 * len(matches)
    assert all(any(match in rule for rule in rules) for match in matches)
    # None of them is for others.
    assert all("addr {" in rule and "tcp" in rule and '"lo"' in rule for rule in rules)


def test_the_rules_of_a_cut(host: Host) -> None:
    injector = host.injector("cut")
    injector.prepare()
    injector.carry_out(1, 10)
    assert host.commands[1] == "nft --check --file -"
    assert host.scripts[0] == host.scripts[1]
    rules = [line for line in host.scripts[0].splitlines() if line.startswith("add rule")]
    assert [('"lo"' in rule, rule.endswith("counter drop"), "{ 4200, 5432 }" in rule) for rule in rules] == [(True, True, True)] * 4


@pytest.mark.parametrize(
    ("kind", "prepare", "says"),
    [
        ("freeze", lambda host: host.guard.append("x"), "another drill is still in place"),
        ("freeze", lambda host: setattr(host, "state", "inactive"), f"Nothing of {UNIT} runs on this host"),
        (
            "cut",
            lambda host: host.fails.update({"nft --check": Finished(1, "no nft")}),
            "does not take the rules that cut this host off: no nft",
        ),
        ("kill", lambda host: host.fails.update({"systemctl show": Finished(1, "no bus")}), "systemd cannot be queried: no bus"),
    ],
)
def test_what_cannot_be_broken(host: Host, kind: str, prepare: Any, says: str) -> None:
    prepare(host)
    with pytest.raises(FaultError, match=says):
        host.injector(kind).prepare()
    assert not [command for command in host.commands if "kill" in command or command == "nft --file -"]


def test_no_fault_without_its_guard(host: Host) -> None:
    host.fails["systemd-run"] = Finished(1, "no timers here")
    injector = host.injector("stop")
    injector.prepare()
    with pytest.raises(FaultError, match=r"no timers here. Nothing was changed"):
        injector.carry_out(10, 70)
    assert host.state == "active"
    assert f"systemctl stop {UNIT}" not in host.commands


def test_a_process_that_does_not_freeze(host: Host) -> None:
    host.stop_signal_works = False
    injector = host.injector("freeze")
    injector.prepare()
    with pytest.raises(FaultError, match="is not stopped"):
        injector.carry_out(10, 70)
    assert any("SIGCONT" in command for command in host.commands)


def test_a_process_that_takes_a_moment_to_freeze(host: Host) -> None:
    """As one of many threads does on a host whose CPUs are busy."""
    host.stop_signal_works = False
    injector = host.injector("freeze")
    injector.prepare()

    def sleep(seconds: float) -> None:
        host.sleep(seconds)
        if 1000.5 < host.now < 1001.5:
            host.process("T")

    injector._sleep = sleep
    broken = injector.carry_out(10, 70)
    assert not broken.by_itself
    assert broken.until - broken.at == pytest.approx(10, abs=0.2)


def test_interrupted_while_it_lasts(host: Host) -> None:
    def interrupt(_seconds: float) -> None:
        raise SystemExit(1)

    injector = host.injector("stop")
    injector.prepare()
    injector._sleep = interrupt
    with pytest.raises(SystemExit):
        injector.carry_out(10, 70)
    assert host.state == "active"
    assert host.guard  # its recovery was not seen


def test_a_revert_that_fails(host: Host) -> None:
    injector = host.injector("stop")
    injector.prepare()
    host.fails["systemctl start"] = Finished(1, "Job failed")
    with pytest.raises(FaultError, match=rf"still in place: Job failed.*by hand: systemctl start {UNIT}"):
        injector.carry_out(1, 70)
    assert host.guard


def test_reverting_what_was_left(host: Host) -> None:
    assert host.injector("stop").restore() is False
    host.state, host.guard = "inactive", ["systemctl", "start", UNIT]
    assert host.injector("stop").restore() is True
    assert (host.state, host.guard) == ("active", [])
