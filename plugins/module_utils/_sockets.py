# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Who listens on which TCP port of this host, from /proc."""

from __future__ import annotations

import contextlib
import ipaddress
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from ansible_collections.selfhosted.prefect.plugins.module_utils._urls import host_and_port

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

_LISTEN = "0A"


@dataclass(frozen=True)
class Listener:
    """A listening socket."""

    address: Address
    port: int
    inode: int

    def shown(self) -> str:
        return host_and_port(self.address, self.port)


@dataclass(frozen=True)
class Owner:
    """The process behind a socket; ``unit`` is its systemd unit, empty when it has none or nothing could be seen."""

    unit: str
    description: str


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


def listeners(proc: str = "/proc") -> list[Listener]:
    """All listening TCP sockets of this network namespace."""
    found: list[Listener] = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            found += _parse(Path(proc, "net", table).read_text(encoding="ascii"))
    return found


def _parse(table: str) -> Iterator[Listener]:
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN:
            address, port = fields[1].split(":")
            yield Listener(_address(address), int(port, 16), int(fields[9]))


def _address(digits: str) -> Address:
    # The kernel prints each 32-bit word in the machine's byte order.
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address


def owner(listener: Listener, proc: str = "/proc") -> Owner:
    """The process behind a listener. Only root sees those of others."""
    for folder in Path(proc).iterdir():
        if folder.name.isdigit() and _has_socket(folder, listener.inode):
            name = _first_line(folder / "comm") or "a process"
            unit = unit_of((folder / "cgroup").read_text(encoding="utf-8")) if (folder / "cgroup").exists() else ""
            return Owner(unit, f"{name} (process {folder.name}{f', unit {unit}' if unit else ''})")
    return Owner("", "a process that cannot be seen from here")


def unit_of(cgroup: str) -> str:
    """The systemd unit in the text of a process's cgroup file; empty when there is none."""
    for line in cgroup.splitlines():
        for part in reversed(line.rpartition(":")[2].split("/")):
            if part.endswith((".service", ".socket", ".scope")):
                return part
    return ""


def _has_socket(folder: Path, inode: int) -> bool:
    with contextlib.suppress(OSError):
        for link in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(link.readlink()) == f"socket:[{inode}]":
                    return True
    return False


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
