# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Takes a server out of service without a client noticing: a gate that lets nobody new in, then patience for those inside."""

from __future__ import annotations

import json
import pwd
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.selfhosted.prefect.plugins.module_utils._command import Finished, Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._connections import Connection, connections

TABLE = "prefect_drain"

_NFT_SECONDS = 20.0
_NOT_FOUND = 127
_SYN = "tcp flags & (fin | syn | rst | ack) == syn tcp dport @ports"


class DrainError(Exception):
    """The gate cannot be moved; the message says why and what to do."""


class Gate(Protocol):
    """Whatever keeps new requests away from one server. Each call may be repeated."""

    def is_shut(self) -> bool: ...

    def ports(self) -> set[int]:
        """Every port of this host that is drained."""

    def shut(self) -> None: ...

    def open(self) -> None: ...


class NftablesGate:
    """Refuses new connections to a port with a TCP reset, so that a balancer goes to the next server without waiting.

    Established connections go on. Connections of this host with itself are let in, so that health checks work, except those of
    ``local_users``: a balancer on the same host. Nothing of it survives a reboot.
    """

    def __init__(self, port: int, local_users: Sequence[str] = (), command: Run = run) -> None:
        self._port = port
        self._users = local_users
        self._command = command

    def is_shut(self) -> bool:
        return self._port in self.ports()

    def ports(self) -> set[int]:
        shown = self._nft(["--json", "list", "set", "inet", TABLE, "ports"])
        if shown.rc == _NOT_FOUND:
            return set()  # without nft there has never been a table
        if shown.rc:
            if "No such file or directory" in shown.output:
                return set()
            raise DrainError(f"nftables cannot be asked: {shown.tail(1)}. It takes root (become). Nothing was changed.")
        sets = [entry["set"] for entry in json.loads(shown.output)["nftables"] if "set" in entry]
        return {port for each in sets for port in each.get("elem", []) if isinstance(port, int)}

    def shut(self) -> None:
        # One transaction, which adds what is missing and replaces the rules; priority -10 comes before the host's own firewall.
        lines = [
            f"add table inet {TABLE}",
            f"add set inet {TABLE} ports {{ type inet_service; }}",
            f"add chain inet {TABLE} arriving {{ type filter hook input priority -10; policy accept; }}",
            f"add chain inet {TABLE} local {{ type filter hook output priority -10; policy accept; }}",
            f"flush table inet {TABLE}",
            f'add rule inet {TABLE} arriving iifname != "lo" {_SYN} counter reject with tcp reset',
            *(
                f'add rule inet {TABLE} local oifname "lo" meta skuid {uid} {_SYN} counter reject with tcp reset'
                for uid in self._user_numbers()
            ),
            f"add element inet {TABLE} ports {{ {self._port} }}",
        ]
        self._apply(lines)

    def open(self) -> None:
        others = self.ports() - {self._port}
        self._apply([f"delete element inet {TABLE} ports {{ {self._port} }}"] if others else [f"delete table inet {TABLE}"])

    def _user_numbers(self) -> list[int]:
        numbers = []
        for user in self._users:
            try:
                numbers.append(pwd.getpwnam(user).pw_uid)
            except KeyError:
                raise DrainError(f"There is no user {user} on this host (local_users). Nothing was changed.") from None
        return numbers

    def _apply(self, lines: Sequence[str]) -> None:
        ended = self._nft(["--file", "-"], "\n".join([*lines, ""]))
        if ended.rc == _NOT_FOUND:
            raise DrainError("nft is not installed. Install the package nftables. Nothing was changed.")
        if ended.rc or ended.timed_out:
            raise DrainError(f"nftables refused the rules: {ended.tail(5)}\nNothing was changed.")

    def _nft(self, arguments: Sequence[str], stdin: str = "") -> Finished:
        return self._command(["nft", *arguments], _NFT_SECONDS, stdin=stdin)


@dataclass(frozen=True)
class Drained:
    """How the waiting ended: requests still without an answer, other open connections (websockets), and the seconds it took."""

    in_flight: int
    open_connections: int
    elapsed: float


def wait_for_quiet(
    port: int,
    timeout: float,
    *,
    look: Callable[[int], list[Connection]] = connections,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    interval: float = 0.05,
) -> Drained:
    """Waits until no request is in flight, seen twice in a row, for at most ``timeout`` seconds. The gate must be shut."""
    begun = clock()
    quiet = 0
    while True:
        found = look(port)
        in_flight = sum(each.in_flight() for each in found)
        quiet = 0 if in_flight else quiet + 1
        elapsed = clock() - begun
        if quiet > 1 or elapsed >= timeout:
            return Drained(in_flight, len(found) - in_flight, elapsed)
        sleep(min(interval, max(timeout - elapsed, 0.0)))
