# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""An address that several hosts share: where it would be on this host, which machine has it now, and what stands in its way."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Union

from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run

HERE = "here"
"""The holder, where it is this host."""

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Record = Mapping[str, Any]

_SECONDS = 10.0
_PAUSE = 0.1
_DISCARD = 9  # the port of UDP at which nothing answers
# The kernel's states of a neighbour: its answer has just been seen, may be old, or will not come.
_CONFIRMED = frozenset({"REACHABLE", "PERMANENT"})
_NONE = frozenset({"FAILED"})


class AddressError(Exception):
    """This host's addresses cannot be read; the message says why."""


@dataclass(frozen=True)
class Found:
    """Where the address belongs on this host, and what was found. The ``address`` is in the form in which the kernel writes it.

    ``source`` and ``peers`` are the addresses by which the hosts that share it know each other, ``holder`` is which of these has it: HERE,
    one of ``peers``, the MAC address of another machine, or none.
    """

    address: str
    interface: str = ""
    source: str = ""
    peers: list[str] = field(default_factory=list)
    holder: str = ""
    problems: list[str] = field(default_factory=list)

    def returned(self) -> dict[str, Any]:
        return {**asdict(self), "held": self.holder == HERE}


class Network:
    """This host's interfaces, routes and neighbours, as ip (iproute2) tells them."""

    def __init__(
        self, command: Run = run, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._command, self._clock, self._sleep = command, clock, sleep

    def interfaces(self) -> dict[str, list[Interface]]:
        """The addresses of each interface, with the length of their network's prefix."""
        return {
            link["ifname"]: [ipaddress.ip_interface(f"{each['local']}/{each['prefixlen']}") for each in link.get("addr_info", [])]
            for link in self._ip("address", "show")
        }

    def route(self, address: Address) -> Record:
        """The way to an address; empty where there is none."""
        try:
            return next(iter(self._ip("route", "get", str(address))), {})
        except AddressError:
            return {}

    def resolve(self, name: str) -> list[Address]:
        """The addresses of a name, as this host sees them; none where it has none."""
        with contextlib.suppress(ValueError):
            return [ipaddress.ip_address(name)]
        try:
            found = {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError):
            return []
        return sorted(map(ipaddress.ip_address, found), key=lambda each: (each.version, each))

    def provoke(self, address: Address) -> None:
        """Has the kernel ask which machine has an address: by a datagram to a port at which nothing answers."""
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            with contextlib.suppress(OSError):
                channel.sendto(b"", (str(address), _DISCARD))

    def machine(self, address: Address, interface: str, known: Iterable[str] | None = None) -> str:
        """The MAC address of the machine that has an address, in lower case; empty where no machine says that it does.

        An answer that may be old is good enough for those that are ``known``, or for all; else it is waited until it is confirmed.
        """
        begun = self._clock()
        while True:
            neighbour = next(iter(self._ip("neighbor", "show", "to", str(address), "dev", interface)), {})
            states, mac = frozenset(neighbour.get("state", [])), str(neighbour.get("lladdr", "")).lower()
            if mac and not states & _NONE and (states & _CONFIRMED or known is None or mac in known):
                return mac
            if states & _NONE or self._clock() - begun >= _SECONDS:
                return ""
            self._sleep(_PAUSE)

    def _ip(self, *words: str) -> list[dict[str, Any]]:
        ended = self._command(["ip", "-json", *words], _SECONDS)
        if ended.rc:
            raise AddressError(f"ip {' '.join(words)} failed: {ended.tail(1) or 'no reason given'}")
        found: list[dict[str, Any]] = json.loads(ended.output or "[]")
        return found


def find(address: str, own: str, peers: Sequence[str], network: Network) -> Found:
    """Finds out about an address. ``own`` and ``peers`` are how other hosts reach this one and the others that share it.

    Raises AddressError.
    """
    wanted = ipaddress.ip_address(address)
    interfaces = network.interfaces()
    mine = {each.ip for addresses in interfaces.values() for each in addresses}
    others, problems = _resolved(wanted, peers, network)
    routes = {peer: network.route(other) for peer, other in others.items()}
    problems += [problem for peer, route in routes.items() for problem in _route_problems(peer, others[peer], route)]
    name = _interface(wanted, routes, interfaces)
    source = _source(wanted, network.resolve(own), interfaces.get(name, []), routes)
    if not problems:
        problems += _place_problems(wanted, routes, name, interfaces)
    if not problems:
        problems += _source_problems(own, source, mine, network)
    holder = HERE if wanted in mine else "" if problems else _holder(wanted, list(others.values()), name, network)
    if holder and holder not in (HERE, *map(str, others.values())):
        problems.append(
            f"{wanted} is in use already: the machine with the MAC address {holder} has it, which is none of the load balancers. Choose an"
            " address that is free."
        )
    return Found(
        str(wanted), name, str(source or ""), [str(other) for other in others.values()], holder, [_told(each) for each in problems]
    )


def _holder(wanted: Address, others: Sequence[Address], interface: str, network: Network) -> str:
    """Which of the others has the address, or the MAC address of a machine that is none of them; empty where none has."""
    for each in (*others, wanted):
        network.provoke(each)
    known = {network.machine(other, interface): str(other) for other in others}
    machine = network.machine(wanted, interface, known)
    return known.get(machine, machine) if machine else ""


def _told(problem: str) -> str:
    return f"nginx_virtual_address: {problem}"


def _resolved(wanted: Address, peers: Sequence[str], network: Network) -> tuple[dict[str, Address], list[str]]:
    """Each peer's address, of the kind of the shared one; and what is wrong with the others."""
    found, problems = {}, []
    for peer in peers:
        addresses = network.resolve(peer)
        same = [each for each in addresses if each.version == wanted.version]
        if same:
            found[peer] = same[0]
        elif addresses:
            problems.append(
                f"{wanted} is an address of IPv{wanted.version}, and {peer}, another load balancer, is known by one of"
                f" IPv{addresses[0].version}. Choose one of that kind, or set prefect_address of all load balancers to one of the other."
            )
        else:
            problems.append(f"{peer}, another load balancer, is no address, and no name that resolves here. Set its prefect_address.")
    return found, problems


def _route_problems(peer: str, address: Address, route: Record) -> Iterator[str]:
    shown = peer if peer == str(address) else f"{peer} ({address})"
    if not route:
        yield f"there is no way from here to {shown}, another load balancer."
    elif route.get("dev") == "lo" or route.get("type") == "local":
        yield f"{shown}, another load balancer, leads to this host itself. Set its prefect_address to its IP address."
    elif route.get("gateway") or route.get("via"):
        way = route.get("gateway") or route["via"].get("host")
        yield f"{shown}, another load balancer, is behind the router {way}. Load balancers share an address within one network only."


def _interface(wanted: Address, routes: Mapping[str, Record], interfaces: Mapping[str, Sequence[Interface]]) -> str:
    """That of the way to the others; of a host without others, the one in whose network the address is."""
    found = next((str(route["dev"]) for route in routes.values() if route.get("dev")), "")
    return found or next((name for name, addresses in interfaces.items() if _network_of(wanted, addresses)), "")


def _network_of(wanted: Address, addresses: Iterable[Interface]) -> Interface | None:
    """The first of an interface's addresses in whose network another address is."""
    return next((each for each in addresses if each.network.prefixlen < each.max_prefixlen and wanted in each.network), None)


def _place_problems(
    wanted: Address, routes: Mapping[str, Record], name: str, interfaces: Mapping[str, Sequence[Interface]]
) -> Iterator[str]:
    names = sorted({str(route["dev"]) for route in routes.values()})
    if len(names) > 1:
        yield f"the other load balancers are reached through several interfaces, {' and '.join(names)}; it can be on one only."
        return
    there = interfaces.get(name) or [each for addresses in interfaces.values() for each in addresses]
    within = _network_of(wanted, there)
    if any(each.ip == wanted and each.network.prefixlen < each.max_prefixlen for each in there):
        yield f"{wanted} is an address of this host's own. Choose one that no host has."
    elif not within:
        networks = [str(each.network) for each in there if _routed(each)]
        yield f"{wanted} is outside of the networks of this host{f' on {name}' if name else ''}: {', '.join(networks) or 'none'}."
    elif within.version == 4 and wanted in (within.network.network_address, within.network.broadcast_address):
        yield f"{wanted} is the first or the last address of {within.network}, which no host can have."


def _routed(each: Interface) -> bool:
    return not each.is_loopback and not each.is_link_local and each.network.prefixlen < each.max_prefixlen


def _source(wanted: Address, own: Sequence[Address], addresses: Sequence[Interface], routes: Mapping[str, Record]) -> Address | None:
    """By which address this host speaks to the others: that by which they know it, or what the way to them begins with."""
    mine = [each.ip for each in addresses]
    known = [each for each in own if each in mine]
    begins = [ipaddress.ip_address(route["prefsrc"]) for route in routes.values() if route.get("prefsrc")]
    left = [each.ip for each in addresses if _routed(each) and each.ip != wanted]
    return next((each for each in (*known, *begins, *left) if each.version == wanted.version), None)


def _source_problems(own: str, source: Address | None, mine: Iterable[Address], network: Network) -> Iterator[str]:
    """A host whose name stands for the loopback there has its address by the way to the others."""
    known = [each for each in network.resolve(own) if not each.is_loopback]
    if known and not set(known) & set(mine):
        yield (
            f"this host does not have {own}, by which the other load balancers know it, and they take VRRP from that address only. Set"
            f" prefect_address to one that it has, such as {source}."
        )
