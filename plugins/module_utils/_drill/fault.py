# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Faults of a failover drill: each one ends by itself, even when the process that injected it has died meanwhile.

Before a fault, systemd gets a timer with the command that reverts it. A reboot reverts all of them, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import Unit, units

KINDS = ("kill", "freeze", "stop", "crash", "cut", "restart")
GUARD = "prefect-drill-restore"
TABLE = "prefect_drill"

_SECONDS = 20.0
_POLL = 0.1
_FROZEN_SECONDS = 2.0
_RESTART_SECONDS = 120.0  # an API server lets requests end for half a minute, PostgreSQL may have much to write


class FaultError(Exception):
    """The fault was not made, or not reverted; the message says why and what to do."""


@dataclass(frozen=True)
class Fault:
    """What to break. ``units`` are names or patterns of systemd's; ``ports`` are TCP ports, which only ``cut`` takes, and ``peers`` the
    addresses that it cuts the host off from, all where there are none.
    """

    kind: str
    units: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    peers: tuple[str, ...] = ()

    def revert_command(self, names: Sequence[str]) -> list[str]:
        """The command that undoes it; it does no harm where there is nothing to undo."""
        if self.kind == "freeze":
            return ["systemctl", "kill", "--kill-who=all", "--signal=SIGCONT", *names]
        if self.kind == "cut":
            return ["nft", "delete", "table", "inet", TABLE]
        return ["systemctl", "start", *names]

    def rules(self) -> str:
        """The rules of a cut, in one transaction: packets are dropped without an answer. The host may still talk to itself."""
        ports = ", ".join(map(str, self.ports))
        lines = [f"add table inet {TABLE}", f"flush table inet {TABLE}"]
        for chain, hook, lo in (("arriving", "input", "iifname"), ("leaving", "output", "oifname")):
            lines.append(f"add chain inet {TABLE} {chain} {{ type filter hook {hook} priority -20; policy accept; }}")
            for peer in self._matches("saddr" if hook == "input" else "daddr"):
                lines += [
                    f'add rule inet {TABLE} {chain} {lo} != "lo" {peer}tcp {side} {{ {ports} }} counter drop' for side in ("dport", "sport")
                ]
        return "\n".join([*lines, ""])

    def _matches(self, side: str) -> list[str]:
        """What picks packets of the peers, by the version of their addresses; nothing to pick by where all are meant."""
        if not self.peers:
            return [""]
        families = {"ip": [peer for peer in self.peers if ":" not in peer], "ip6": [peer for peer in self.peers if ":" in peer]}
        return [f"{family} {side} {{ {', '.join(addresses)} }} " for family, addresses in families.items() if addresses]


@dataclass(frozen=True)
class Broken:
    """What happened, in seconds since the epoch: when the fault began, was let go, and had ended, and whether it ended without help."""

    at: float
    released: float
    until: float
    by_itself: bool


class FaultInjector:
    """Injects one fault, and reverts it."""

    def __init__(
        self,
        fault: Fault,
        command: Run = run,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        proc: Path = Path("/proc"),
    ) -> None:
        self._fault = fault
        self._command = command
        self._clock = clock
        self._sleep = sleep
        self._proc = proc
        self._before: list[Unit] = []

    def prepare(self) -> list[str]:
        """Looks whether the fault can be made; the names of the units that it hits.

        Raises FaultError if it cannot, and nothing was changed.
        """
        if self._guarded():
            raise FaultError(
                f"The fault of another drill is still in place on this host. It ends by itself (systemctl list-timers {GUARD}.timer says"
                f" when), or at once with: systemctl start {GUARD}.service. Nothing was changed."
            )
        self._before = [unit for unit in self._units(self._fault.units) if unit.state.startswith("active")]
        if self._fault.units and not self._before:
            raise FaultError(f"Nothing of {', '.join(self._fault.units)} runs on this host. Nothing was changed.")
        if self._fault.kind == "cut":
            probe = self._command(["nft", "--check", "--file", "-"], _SECONDS, stdin=self._fault.rules())
            if probe.rc:
                raise FaultError(f"nftables does not take the rules that cut this host off: {probe.tail(3)}. Nothing was changed.")
        return self._names()

    def carry_out(self, hold: float, guard: float) -> Broken:
        """Arms the guard, makes the fault, lets it last, reverts it, and checks that it has ended.

        A process that was killed is waited for, for at most ``hold`` seconds: systemd has to start it again. A restart ends by itself.

        Raises FaultError, as the message says.
        """
        self._arm(guard)
        try:
            at = self._clock()
            self._make()
            released, by_itself = self._last(at + hold)
        finally:
            # Whatever happened, and as often as it takes: the guard stays armed when this fails.
            self._revert()
        until = released if by_itself else self._clock()
        self._disarm()
        return Broken(at, released, until, by_itself)

    def restore(self) -> bool:
        """Reverts what an earlier run has left behind; whether there was anything."""
        if not self._guarded():
            return False
        self._check(self._command(["systemctl", "start", f"{GUARD}.service"], _SECONDS), "reverted")
        self._disarm()
        return True

    def _make(self) -> None:
        kind, names = self._fault.kind, self._names()
        if kind == "cut":
            self._check(self._command(["nft", "--file", "-"], _SECONDS, stdin=self._fault.rules()), "made")
            return
        if kind == "crash":
            # Nothing gets to write anything, and then systemd starts nothing again.
            self._check(self._command(["systemctl", "kill", "--kill-who=all", "--signal=SIGKILL", *names], _SECONDS), "made")
            self._check(self._command(["systemctl", "stop", *names], _RESTART_SECONDS), "made")
            return
        commands = {
            "kill": ["systemctl", "kill", "--kill-who=all", "--signal=SIGKILL", *names],
            "freeze": ["systemctl", "kill", "--kill-who=all", "--signal=SIGSTOP", *names],
            "stop": ["systemctl", "stop", *names],
            "restart": ["systemctl", "restart", *names],
        }
        self._check(self._command(commands[kind], _RESTART_SECONDS), "made")

    def _last(self, end: float) -> tuple[float, bool]:
        """Lets the fault last; when it had ended by itself, and whether it has."""
        kind = self._fault.kind
        if kind == "restart":
            return self._clock(), True
        if kind == "freeze":
            self._prove_frozen()
        while self._clock() < end:
            if kind == "kill" and self._back():
                return self._clock(), True
            self._sleep(max(min(_POLL, end - self._clock()), 0.001))
        return end, kind == "kill" and self._back()

    def _back(self) -> bool:
        """Whether every unit runs, as another process than before."""
        before = {unit.name: unit.pid for unit in self._before}
        return all(unit.state.startswith("active") and unit.pid not in (0, before[unit.name]) for unit in self._units(self._names()))

    def _prove_frozen(self) -> None:
        end = self._clock() + _FROZEN_SECONDS
        for unit in self._before:
            # A process of many threads stops once each of them has been on a CPU.
            while (state := self._state(unit.pid)) not in ("T", "t"):
                if state == "gone" or self._clock() >= end:
                    raise FaultError(f"{unit.name} was sent SIGSTOP and is not stopped (its state is {state}). It was sent SIGCONT.")
                self._sleep(_POLL)

    def _state(self, pid: int) -> str:
        """The state of a process in the words of ``/proc/PID/stat``, or ``gone``."""
        try:
            return (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return "gone"

    def _revert(self) -> None:
        ended = self._command(self._fault.revert_command(self._names()), _RESTART_SECONDS)
        if ended.rc and not (self._fault.kind == "cut" and "No such file" in ended.output):
            raise FaultError(
                f"The fault is still in place: {ended.tail(3)}. {GUARD}.timer tries again (systemctl list-timers {GUARD}.timer says when);"
                f" by hand: {' '.join(self._fault.revert_command(self._names()))}."
            )

    def _arm(self, seconds: float) -> None:
        words = [f"--unit={GUARD}", f"--on-active={seconds:.0f}s", "--timer-property=AccuracySec=100ms", "--collect", "--quiet"]
        ended = self._command(["systemd-run", *words, *self._fault.revert_command(self._names())], _SECONDS)
        if ended.rc:
            raise FaultError(f"systemd does not take the timer that would revert the fault: {ended.tail(3)}. Nothing was changed.")

    def _disarm(self) -> None:
        self._command(["systemctl", "stop", f"{GUARD}.timer"], _SECONDS)

    def _guarded(self) -> bool:
        return self._command(["systemctl", "is-active", "--quiet", f"{GUARD}.timer"], _SECONDS).rc == 0

    def _names(self) -> list[str]:
        return [unit.name for unit in self._before]

    def _units(self, names: Sequence[str]) -> list[Unit]:
        def show(argv: list[str]) -> str:
            ended = self._command(argv, _SECONDS)
            if ended.rc:
                raise FaultError(f"systemd cannot be queried: {ended.tail(1)}.")
            return ended.output

        return units(names, [], show)

    def _check(self, ended: Finished, what: str) -> None:
        if ended.rc:
            raise FaultError(f"The fault could not be {what}: {ended.tail(3)}.")
