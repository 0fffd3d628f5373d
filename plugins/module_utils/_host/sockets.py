# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""This host's TCP sockets, as ss (iproute2) lists them: who listens on which port, and what goes on over the connections of one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

_SECONDS = 10.0
_USER = re.compile(r'users:\(\("(.*?)",pid=(\d+)')
_SILENT_MILLISECONDS = 1000


@dataclass(frozen=True)
class Listener:
    """A listening socket, and its process as far as it can be seen: without root that of others is 0."""

    address: Address
    port: int
    name: str = ""
    pid: int = 0

    def shown(self) -> str:
        return host_and_port(self.address, self.port)


@dataclass(frozen=True)
class Owner:
    """The process behind a socket; ``unit`` is its systemd unit, empty when it has none or nothing could be seen."""

    unit: str
    description: str


@dataclass(frozen=True)
class Connection:
    """One connection from the server's side.

    ``received`` and ``answered`` are bytes that came in and that the peer has; ``unsent`` are those it has not yet, and ``unread`` those
    that the server has not taken. ``quiet`` is how many milliseconds ago something last came in.
    """

    established: bool
    received: int
    answered: int
    unsent: int
    quiet: int
    unread: int = 0

    def in_flight(self) -> bool:
        """Whether a client waits for an answer. Once one has begun and all of it so far is delivered, none does: what stays open
        then is a websocket. A connection over which nothing ever came waits only while its request may be on the way. What the server has
        not read may be one, also after an answer: with TLS, what it sends first belongs to the handshake, and a busy server reads late."""
        if not self.established or self.unsent or self.unread:
            return True
        if self.answered:
            return False
        return self.received > 0 or self.quiet < _SILENT_MILLISECONDS


def listeners(command: Run = run) -> list[Listener]:
    """All listening TCP sockets of this network namespace. Raises OSError if they cannot be listed."""
    return [_listener(line) for line in _lines(command, "--listening", "--processes")]


def connections(port: int, command: Run = run) -> list[Connection]:
    """The connections of a local port that are established, or about to be. Raises OSError if they cannot be listed."""
    wanted = ("state", "established", "state", "syn-recv", f"( sport = :{port} )")
    return [_connection(line) for line in _lines(command, "--info", *wanted)]


def _lines(command: Run, *arguments: str) -> list[str]:
    ended = command(["ss", "--no-header", "--oneline", "--numeric", "--tcp", *arguments], _SECONDS)
    if ended.rc:
        raise OSError(ended.tail(1))
    return [line for line in ended.output.splitlines() if line.strip()]


def _listener(line: str) -> Listener:
    address, _colon, port = line.split()[3].rpartition(":")
    bare = address.strip("[]").partition("%")[0]
    found = ipaddress.ip_address("::" if bare == "*" else bare)
    user = _USER.search(line)
    return Listener(getattr(found, "ipv4_mapped", None) or found, int(port), *((user[1], int(user[2])) if user else ()))


def _connection(line: str) -> Connection:
    state, unread, unsent = line.split()[:3]
    values = dict(re.findall(r"(bytes_received|bytes_acked|lastrcv):(\d+)", line))
    received, answered, quiet = (int(values.get(name, 0)) for name in ("bytes_received", "bytes_acked", "lastrcv"))
    return Connection(state == "ESTAB", received, answered, int(unsent), quiet, int(unread))


def conflicts(listeners: Iterable[Listener], port: int, address: str = "") -> list[Listener]:
    """The listeners that keep a server from listening on the port. An empty address, or a name, stands for all addresses."""
    try:
        wanted: Address | None = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        wanted = None
    return [listener for listener in listeners if listener.port == port and _overlap(wanted, listener.address)]


def _overlap(wanted: Address | None, taken: Address) -> bool:
    # Listening on :: takes the port of every IPv4 address, too.
    if wanted is None or str(taken) == "::" or str(wanted) == "::":
        return True
    if wanted.version != taken.version:
        return False
    return wanted == taken or wanted.is_unspecified or taken.is_unspecified


def owner(listener: Listener, proc: str = "/proc") -> Owner:
    """The process behind a listener."""
    if not listener.pid:
        return Owner("", "a process that cannot be seen from here")
    cgroup = Path(proc, str(listener.pid), "cgroup")
    unit = unit_of(cgroup.read_text(encoding="utf-8")) if cgroup.exists() else ""
    return Owner(unit, f"{listener.name} (process {listener.pid}{f', unit {unit}' if unit else ''})")


def unit_of(cgroup: str) -> str:
    """The systemd unit in the text of a process's cgroup file; empty when there is none."""
    for line in cgroup.splitlines():
        for part in reversed(line.rpartition(":")[2].split("/")):
            if part.endswith((".service", ".socket", ".scope")):
                return part
    return ""
