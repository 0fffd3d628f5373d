# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Takes a server out of service without a client noticing: it rejects new connections, and the open requests get time to end."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pwd
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._drain import keeper as keeper_program
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.sockets import Connection, connections

TABLE = keeper_program.TABLE
FOLDER = Path("/run/prefect-drain")
UNIT = "prefect-drain-keeper.service"

HARDENING = (
    # It changes the host's firewall; the folder of the node exporter may be another user's.
    "CapabilityBoundingSet=CAP_NET_ADMIN CAP_DAC_OVERRIDE",
    "LockPersonality=true",
    "MemoryDenyWriteExecute=true",
    "NoNewPrivileges=true",
    "PrivateDevices=true",
    "PrivateMounts=true",
    "PrivateTmp=true",
    "ProcSubset=pid",
    "ProtectClock=true",
    "ProtectControlGroups=true",
    # The interpreter that Ansible uses may be in a home folder.
    "ProtectHome=read-only",
    "ProtectHostname=true",
    "ProtectKernelLogs=true",
    "ProtectKernelModules=true",
    "ProtectKernelTunables=true",
    "ProtectProc=invisible",
    # The folder of the node exporter may come into being later.
    "ProtectSystem=full",
    "RestrictAddressFamilies=AF_NETLINK AF_UNIX",
    "RestrictNamespaces=true",
    "RestrictRealtime=true",
    "RestrictSUIDSGID=true",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
)

_UNIT_SECONDS = 20.0
_NFT_SECONDS = 20.0
_NOT_FOUND = 127
_SYN = "tcp flags & (fin | syn | rst | ack) == syn tcp dport @ports"


class DrainError(Exception):
    """The firewall rules cannot be changed; the message says why and what to do."""


class Keeper:
    """Has the rules put back when something else on the host removes them, for as long as a server is drained.

    It is a transient unit of systemd, which reads what the rules are from a file. ``problem`` says why it could not be started.
    """

    def __init__(self, metrics: str, folder: Path = FOLDER, command: Run = run) -> None:
        self._metrics, self._folder, self._command = metrics, folder, command
        self.problem = ""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """For as long as file and kernel differ."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DrainError(f"{self._folder} cannot be written ({error}). It takes root (become). Nothing was changed.") from None
        with keeper_program.locked(self._folder):
            yield

    def rules(self) -> str:
        """The rules that are kept; none when nothing is drained."""
        file = self._folder / keeper_program.RULES
        return file.read_text(encoding="utf-8") if os.access(file, os.R_OK) else ""

    def store(self, rules: str) -> None:
        """Stores the rules to restore from now on."""
        self._write(keeper_program.RULES, rules)

    def discard(self) -> None:
        """Discards them: there are none to restore."""
        (self._folder / keeper_program.RULES).unlink(missing_ok=True)

    def start(self) -> None:
        """Starts it unless it runs."""
        program = self._write("keeper.py", inspect.getsource(keeper_program))
        properties = [f"--property={each}" for each in ("Restart=on-failure", "RestartSec=1", *HARDENING)]
        about = "--description=Keeps the rules of drained Prefect API servers in force"
        argv = ["systemd-run", f"--unit={UNIT}", about, "--quiet", "--collect", "--no-block", *properties]
        keeper = [sys.executable or "/usr/bin/python3", str(program), str(self._folder), self._metrics]
        ended = self._command([*argv, *keeper], _UNIT_SECONDS)
        if ended.rc and self._command(["systemctl", "is-active", "--quiet", UNIT], _UNIT_SECONDS).rc:
            self.problem = ended.tail(1)

    def stop(self) -> None:
        """Ends it."""
        self._command(["systemctl", "stop", UNIT], _UNIT_SECONDS)

    def _write(self, name: str, text: str) -> Path:
        file, partial = self._folder / name, self._folder / f".{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
        return file


class NftablesGate:
    """Refuses new connections to a port with a TCP reset, so that a balancer goes to the next server without waiting.

    Established connections go on. Connections of this host with itself are accepted, so that health checks work, except those of
    ``local_users``: a balancer on the same host. Nothing of it survives a reboot. A ``keeper`` has the rules put back should something
    else on the host remove them.
    """

    def __init__(self, port: int, local_users: Sequence[str] = (), command: Run = run, keeper: Keeper | None = None) -> None:
        self._port = port
        self._users = local_users
        self._command = command
        self._keeper = keeper

    def is_rejecting(self) -> bool:
        return self._port in self.ports()

    def ports(self) -> set[int]:
        # What is kept is about to be back, should it not be there at this moment.
        return self._ports() | _ports_of(self._keeper.rules() if self._keeper else "")

    def _ports(self) -> set[int]:
        shown = self._nft(["--json", "list", "set", "inet", TABLE, "ports"])
        if shown.rc == _NOT_FOUND:
            return set()  # without nft there has never been a table
        if shown.rc:
            if "No such file or directory" in shown.output:
                return set()
            raise DrainError(f"nftables cannot be queried: {shown.tail(1)}. It takes root (become). Nothing was changed.")
        sets = [entry["set"] for entry in json.loads(shown.output)["nftables"] if "set" in entry]
        return {port for each in sets for port in each.get("elem", []) if isinstance(port, int)}

    def reject(self) -> None:
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
        ]
        with self._keeper.locked() if self._keeper else contextlib.nullcontext():
            drained = {self._port} | (self.ports() if self._keeper else set())
            rules = "\n".join([*lines, *_elements(drained), ""])
            self._apply(rules)
            if self._keeper:
                self._keeper.store(rules)
        if self._keeper:
            self._keeper.start()

    def accept(self) -> None:
        with self._keeper.locked() if self._keeper else contextlib.nullcontext():
            others = self.ports() - {self._port}
            # What is to go is added first: it may not be there, and deleting it would be an error.
            lines = [f"add table inet {TABLE}"]
            if others:
                lines += [f"add set inet {TABLE} ports {{ type inet_service; }}", *_elements({self._port})]
                lines += [f"delete element inet {TABLE} ports {{ {self._port} }}"]
            else:
                lines += [f"delete table inet {TABLE}"]
            if self._keeper and others:
                kept = [line for line in self._keeper.rules().splitlines() if not line.startswith("add element ")]
                self._keeper.store("\n".join([*kept, *_elements(others), ""]))
            elif self._keeper:
                self._keeper.discard()
            self._apply("\n".join([*lines, ""]))
        if self._keeper and not others:
            self._keeper.stop()

    def _user_numbers(self) -> list[int]:
        numbers = []
        for user in self._users:
            try:
                numbers.append(pwd.getpwnam(user).pw_uid)
            except KeyError:
                raise DrainError(f"There is no user {user} on this host (local_users). Nothing was changed.") from None
        return numbers

    def _apply(self, rules: str) -> None:
        ended = self._nft(["--file", "-"], rules)
        if ended.rc == _NOT_FOUND:
            raise DrainError("nft is not installed. Install the package nftables. Nothing was changed.")
        if ended.rc or ended.timed_out:
            raise DrainError(f"nftables refused the rules: {ended.tail(5)}\nNothing was changed.")

    def _nft(self, arguments: Sequence[str], stdin: str = "") -> Finished:
        return self._command(["nft", *arguments], _NFT_SECONDS, stdin=stdin)


def _elements(ports: set[int]) -> list[str]:
    """One for each: a list of several could not be told from one."""
    return [f"add element inet {TABLE} ports {{ {port} }}" for port in sorted(ports)]


def _ports_of(rules: str) -> set[int]:
    """The ports that rules drain."""
    return {int(port) for port in re.findall(r"^add element .* \{ (\d+) \}$", rules, re.MULTILINE)}


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
    read: Callable[[int], list[Connection]] = connections,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    interval: float = 0.05,
    settle: float = 0.0,
) -> Drained:
    """Waits until no request is in flight, seen twice in a row, for at most ``timeout`` seconds. New connections are rejected already.

    It has to stay so for ``settle`` seconds, for a server whose connections are encrypted: the first bytes that it sends answer no request.
    """
    begun = clock()
    quiet, since = 0, 0.0
    while True:
        found = read(port)
        in_flight = sum(each.in_flight() for each in found)
        elapsed = clock() - begun
        since = since if quiet else elapsed
        quiet = 0 if in_flight else quiet + 1
        if (quiet > 1 and elapsed - since >= settle) or elapsed >= timeout:
            return Drained(in_flight, len(found) - in_flight, elapsed)
        sleep(min(interval, max(timeout - elapsed, 0.0)))
