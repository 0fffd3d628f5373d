# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.virtual_address import AddressError, Network, find

OWN, PEER, OTHER, SHARED = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.100"
OWN6, PEER6, SHARED6 = "fd00::1", "fd00::2", "fd00::100"
LOOPBACK = {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}, {"local": "::1", "prefixlen": 128}]}
ETH0 = [
    {"local": OWN, "prefixlen": 24},
    {"local": OWN6, "prefixlen": 64},
    {"local": "fe80::1", "prefixlen": 64},
]
MACS = {PEER: "02:00:00:00:00:02", OTHER: "02:00:00:00:00:03", PEER6: "02:00:00:00:00:02"}
STRANGER = "02:00:00:00:00:99"


class Host:
    """ip, as far as it is asked. A neighbour is its MAC address and the states that it has one after the other."""

    def __init__(
        self,
        more: Sequence[Mapping[str, Any]] = (),
        links: Sequence[Mapping[str, Any]] = (),
        routes: Mapping[str, Mapping[str, Any] | None] | None = None,
        shared: tuple[str, str] = ("", "FAILED"),
    ) -> None:
        self.links = [LOOPBACK, {"ifname": "eth0", "addr_info": [*ETH0, *more]}, *links]
        self.routes = routes or {}
        self.neighbours = {address: (mac, ["STALE"]) for address, mac in MACS.items()}
        self.neighbours[SHARED] = self.neighbours[SHARED6] = (shared[0], shared[1].split())
        self.asked: list[str] = []
        self.now = 0.0

    def __call__(self, argv: Sequence[str], _timeout: float) -> Finished:
        assert argv[:2] == ["ip", "-json"]
        self.asked.append(" ".join(argv[2:]))
        kind, address = argv[2], argv[4] if argv[2] == "route" else argv[-3]
        if kind == "address":
            return Finished(0, json.dumps(self.links))
        if kind == "route":
            own = OWN6 if ":" in address else OWN
            route = self.routes.get(address, {"dst": address, "dev": "eth0", "prefsrc": own})
            return Finished(0, json.dumps([route])) if route else Finished(2, "RTNETLINK answers: Network is unreachable")
        mac, states = self.neighbours[address]
        state = states.pop(0) if len(states) > 1 else states[0]
        return Finished(0, json.dumps([{"dst": address, "state": [state], **({"lladdr": mac} if mac else {})}] if state else []))

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def network(self) -> Network:
        return Network(self, lambda: self.now, self.sleep)


@pytest.fixture(autouse=True)
def _no_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Network, "provoke", lambda _self, _address: None)


def test_an_address_that_no_machine_has() -> None:
    host = Host(shared=("", "INCOMPLETE INCOMPLETE FAILED"))
    found = find(SHARED, OWN, [PEER, OTHER], host.network)
    assert found.returned() == {
        "address": SHARED,
        "interface": "eth0",
        "source": OWN,
        "peers": [PEER, OTHER],
        "holder": "",
        "held": False,
        "problems": [],
    }
    assert host.now == pytest.approx(0.2)


@pytest.mark.parametrize("states", ["REACHABLE", "STALE", "DELAY", "PROBE"])
def test_another_load_balancer_has_it(states: str) -> None:
    """An old answer of one of them is as good as a new one: nothing is waited for."""
    host = Host(shared=(MACS[OTHER], states))
    found = find(SHARED, OWN, [PEER, OTHER], host.network)
    assert (found.holder, found.returned()["held"], found.problems, host.now) == (OTHER, False, [], 0)


def test_another_load_balancer_is_gone() -> None:
    host = Host(shared=("", "INCOMPLETE FAILED"))
    host.neighbours[PEER] = ("", ["INCOMPLETE", "INCOMPLETE", "FAILED"])
    assert find(SHARED, OWN, [PEER, OTHER], host.network).returned()["holder"] == ""


def test_this_host_has_it() -> None:
    host = Host(more=[{"local": SHARED, "prefixlen": 32}])
    found = find(SHARED, OWN, [PEER], host.network)
    assert (found.source, found.holder, found.returned()["held"], found.problems) == (OWN, "here", True, [])
    assert not [words for words in host.asked if words.startswith(f"neighbor show to {SHARED}")]


@pytest.mark.parametrize("states", ["REACHABLE", "STALE STALE DELAY PROBE REACHABLE"])
def test_a_stranger_has_it(states: str) -> None:
    found = find(SHARED, OWN, [PEER], Host(shared=(STRANGER, states)).network)
    assert found.holder == STRANGER
    assert found.problems == [
        f"nginx_virtual_address: {SHARED} is in use already: the machine with the MAC address {STRANGER} has it, which is none of the load"
        " balancers. Choose an address that is free."
    ]


def test_a_stranger_that_is_gone() -> None:
    """What the kernel remembers of it is confirmed first, and not for longer than that takes."""
    assert find(SHARED, OWN, [PEER], Host(shared=(STRANGER, "STALE DELAY PROBE FAILED")).network).problems == []
    host = Host(shared=(STRANGER, "STALE"))
    assert find(SHARED, OWN, [PEER], host.network).problems == []
    assert 10 <= host.now < 11


def test_ipv6() -> None:
    found = find("FD00:0::0100", OWN6, [PEER6], Host(shared=(MACS[PEER6], "STALE")).network)
    assert found.returned() == {
        "address": SHARED6,
        "interface": "eth0",
        "source": OWN6,
        "peers": [PEER6],
        "holder": PEER6,
        "held": False,
        "problems": [],
    }


def test_an_address_of_the_other_kind() -> None:
    """Only a host without others has what it takes for both."""
    for shared, own, peer, kind, other in ((SHARED6, OWN, PEER, 6, 4), (SHARED, OWN6, PEER6, 4, 6)):
        assert find(shared, own, [peer], Host().network).problems == [
            f"nginx_virtual_address: {shared} is an address of IPv{kind}, and {peer}, another load balancer, is known by one of IPv{other}."
            " Choose one of that kind, or set prefect_address of all load balancers to one of the other."
        ]
    assert find(SHARED6, OWN, [], Host().network).source == OWN6


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name stands for the kind of address that the shared one is; the host's own may stand for the loopback."""
    names = {"lb2": [PEER6, PEER], "lb1": ["127.0.1.1"]}

    def resolve(name: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        if name not in names:
            raise OSError(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in names[name]]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    found = find(SHARED, "lb1", ["lb2"], Host().network)
    assert (found.source, found.peers, found.problems) == (OWN, [PEER], [])
    assert find(SHARED6, "lb1", ["lb2"], Host().network).peers == [PEER6]
    assert find(SHARED, "lb1", ["gone"], Host().network).problems == [
        "nginx_virtual_address: gone, another load balancer, is no address, and no name that resolves here. Set its prefect_address."
    ]


def test_a_host_without_others() -> None:
    found = find(SHARED, OWN, [], Host().network)
    assert (found.interface, found.source, found.peers, found.problems) == ("eth0", OWN, [], [])
    assert find(SHARED, OWN, [], Host(more=[{"local": SHARED, "prefixlen": 32}]).network).source == OWN


ETH1 = {"ifname": "eth1", "addr_info": [{"local": "10.1.0.1", "prefixlen": 24}]}


@pytest.mark.parametrize(
    ("shared", "peers", "host", "says"),
    [
        pytest.param(
            "10.9.0.1", [PEER], {}, "10.9.0.1 is outside of the networks of this host on eth0: 10.0.0.0/24, fd00::/64.", id="elsewhere"
        ),
        pytest.param(
            "10.9.0.1", [], {}, "10.9.0.1 is outside of the networks of this host: 10.0.0.0/24, fd00::/64.", id="alone and elsewhere"
        ),
        pytest.param(
            "10.1.0.9", [PEER], {"links": [ETH1]}, "10.1.0.9 is outside of the networks of this host on eth0: ", id="on another interface"
        ),
        pytest.param("fd01::9", [PEER6], {}, "fd01::9 is outside of the networks", id="elsewhere, IPv6"),
        pytest.param("10.0.0.255", [PEER], {}, "10.0.0.255 is the first or the last address of 10.0.0.0/24", id="broadcast"),
        pytest.param("10.0.0.0", [PEER], {}, "10.0.0.0 is the first or the last address of 10.0.0.0/24", id="network"),
        pytest.param(OWN, [PEER], {}, f"{OWN} is an address of this host's own.", id="its own"),
        pytest.param(
            SHARED,
            [PEER],
            {"routes": {PEER: {"dev": "eth0", "gateway": "10.0.0.254", "prefsrc": OWN}}},
            f"{PEER}, another load balancer, is behind the router 10.0.0.254.",
            id="routed",
        ),
        pytest.param(
            SHARED,
            [PEER],
            {"routes": {PEER: {"dev": "eth0", "via": {"family": "inet6", "host": "fe80::9"}}}},
            f"{PEER}, another load balancer, is behind the router fe80::9.",
            id="routed over IPv6",
        ),
        pytest.param(
            SHARED,
            [PEER],
            {"routes": {PEER: {"dev": "lo", "type": "local"}}},
            f"{PEER}, another load balancer, leads to this host itself.",
            id="a name for the loopback",
        ),
        pytest.param(SHARED, [PEER], {"routes": {PEER: None}}, f"there is no way from here to {PEER}", id="no route"),
        pytest.param(
            SHARED,
            [PEER, OTHER],
            {"links": [ETH1], "routes": {OTHER: {"dev": "eth1", "prefsrc": "10.1.0.1"}}},
            "the other load balancers are reached through several interfaces, eth0 and eth1",
            id="several interfaces",
        ),
    ],
)
def test_problems(shared: str, peers: list[str], host: dict[str, Any], says: str) -> None:
    found = find(shared, OWN, peers, Host(**host).network)
    assert [problem.startswith(f"nginx_virtual_address: {says}") for problem in found.problems] == [True], found.problems
    assert found.holder in ("", "here")


def test_an_address_by_which_others_know_it_and_that_it_does_not_have() -> None:
    assert find(SHARED, "192.0.2.7", [PEER], Host().network).problems == [
        "nginx_virtual_address: this host does not have 192.0.2.7, by which the other load balancers know it, and they take VRRP from that"
        " address only. Set prefect_address to one that it has, such as 10.0.0.1."
    ]


def test_ip_that_does_not_work() -> None:
    def broken(_argv: Sequence[str], _timeout: float) -> Finished:
        return Finished(127, "ip cannot be run: No such file or directory")

    with pytest.raises(AddressError, match=r"^ip address show failed: ip cannot be run"):
        find(SHARED, OWN, [PEER], Network(broken))


def test_a_host_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ip, and a datagram to the loopback."""
    monkeypatch.undo()
    network = Network()
    loopback = network.resolve("127.0.0.1")[0]
    network.provoke(loopback)
    assert loopback in [each.ip for each in network.interfaces()["lo"]]
    assert network.route(loopback)["dev"] == "lo"
