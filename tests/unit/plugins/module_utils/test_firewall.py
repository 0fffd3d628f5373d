# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.firewall import Firewall, FirewallError, networks, ruleset
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.firewall import firewall_openings

GROUPS = {"nginx": ["lb1"], "prefect_api": ["api1", "api2"], "monitoring": [], "all": ["lb1", "api1", "api2"]}
HOSTVARS = {
    "lb1": {"ansible_host": "10.0.0.1"},
    "api1": {"prefect_address": "10.0.0.2"},
    "api2": {},
    "backup1": {"ansible_host": "10.0.0.9"},
}
API = {"name": "prefect_api", "listeners": [{"port": "4200", "what": "an API server", "sources": ["nginx", "prefect_api", "monitoring"]}]}
WEB = {
    "name": "nginx",
    "listeners": [
        {"port": 443, "what": "the balancer", "sources": ["anywhere", "prefect_api"]},
        {"port": 9114, "address": "127.0.0.1", "what": "its status"},
    ],
}


def opening(port: int, what: str, *sources: str) -> dict[str, Any]:
    return {"what": what, "port": port, "protocols": ["tcp"], "sources": list(sources)}


@pytest.mark.parametrize(
    ("components", "more", "expected"),
    [
        ([API], {}, [opening(4200, "an API server", "10.0.0.1", "10.0.0.2", "api2")]),
        (
            [API],
            {"prefect_api": ["10.9.0.0/16", "backup1"]},
            [opening(4200, "an API server", *["10.0.0.1", "10.0.0.2", "10.0.0.9", "10.9.0.0/16", "api2"])],
        ),
        ([API], {"redis": ["10.9.0.0/16"]}, [opening(4200, "an API server", "10.0.0.1", "10.0.0.2", "api2")]),
        ([WEB], None, [opening(443, "the balancer", "anywhere")]),
        ([WEB], {"nginx": ["192.0.2.0/24"]}, [opening(443, "the balancer", "10.0.0.2", "192.0.2.0/24", "api2")]),
        ([{"name": "x", "listeners": [{"port": 1, "sources": [""]}, {"port": 2, "sources": []}]}], {"x": ["10.0.0.1"]}, []),
        ([{"name": "x", "listeners": [{"port": 1, "sources": ["monitoring"]}]}], {}, [opening(1, "")]),
        (
            [{"name": "x", "listeners": [{"protocols": ["vrrp"], "what": "VRRP", "sources": ["nginx"]}]}],
            {},
            [{**opening(0, "VRRP", "10.0.0.1"), "protocols": ["vrrp"]}],
        ),
    ],
)
def test_openings(components: list[dict[str, Any]], more: Any, expected: list[dict[str, Any]]) -> None:
    assert firewall_openings(components, GROUPS, HOSTVARS, more) == expected


def found(name: str) -> list[str]:
    return {"api2": ["10.0.0.3", "fd00::3"], "self": ["127.0.1.1"]}[name]


def unknown(_name: str) -> list[str]:
    raise OSError(-2, "Name or service not known")


def test_networks_do_not_overlap() -> None:
    given = ["10.0.0.0/30", "10.0.0.1", "api2", "self", "fd00::/64", "192.0.2.7/24"]
    assert [str(each) for each in networks(given, found)] == ["10.0.0.0/30", "192.0.2.0/24", "fd00::/64"]


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(FirewallError, match=r"^gone, which may reach this host, .* \(Name or service not known\).*Nothing was changed"):
        networks(["gone"], unknown)


def rules(*openings: dict[str, Any], ssh: Sequence[str] = (), extra: Sequence[str] = ()) -> list[str]:
    return ruleset(openings, [22], ssh, extra, found).splitlines()


def test_rules() -> None:
    api, web, none = opening(4200, 'an "API"', "10.0.0.1", "api2"), opening(443, "web", "anywhere"), opening(9, "none")
    lines = rules(api, web, none, extra=[" tcp dport 7 accept "])
    assert [line.strip() for line in lines if "dport" in line and "accept" in line][2:] == [
        'tcp dport 22 counter accept comment "SSH"',
        "ip saddr { 10.0.0.1, 10.0.0.3 } tcp dport 4200 counter accept comment \"an 'API'\"",
        "ip6 saddr { fd00::3 } tcp dport 4200 counter accept comment \"an 'API'\"",
        'tcp dport 443 counter accept comment "web"',
        "tcp dport 7 accept",
    ]
    assert lines[-3:] == ["    meta l4proto { tcp, udp } counter drop", "  }", "}"]


def test_a_protocol_without_ports() -> None:
    """It is filtered where it is accepted from some, and left alone elsewhere."""
    lines = rules({**opening(0, "VRRP", "10.0.0.1", "fd00::3"), "protocols": ["vrrp"]})
    assert [line.strip() for line in lines if "112" in line] == [
        'ip saddr { 10.0.0.1 } meta l4proto 112 counter accept comment "VRRP"',
        'ip6 saddr { fd00::3 } meta l4proto 112 counter accept comment "VRRP"',
        "meta l4proto { tcp, udp, 112 } counter drop",
    ]


def test_the_version_is_that_of_the_rules() -> None:
    def version(lines: list[str]) -> str:
        return next(line for line in lines if "chain version_" in line)

    assert version(rules()) == version(rules())
    assert version(rules()) != version(rules(ssh=["10.0.0.1"]))


class Host:
    """nft and systemd, as far as they are asked."""

    def __init__(self) -> None:
        self.table = ""
        self.timer: list[str] = []
        self.refuses: set[str] = set()

    def __call__(self, argv: Sequence[str], _timeout: float, stdin: str = "") -> Finished:
        words = list(argv)
        if words[0] in self.refuses or " ".join(words[:2]) in self.refuses:
            return Finished(1, "no")
        if words[0] == "systemd-run":
            self.timer = words
        elif words[0] == "systemctl":
            self.timer = []
        elif words[1] == "list":
            return Finished(0 if self.table and words[-1] in self.table else 1, "")
        elif words[1] == "--file":
            text = stdin or Path(words[2]).read_text(encoding="utf-8")
            self.table = text if "chain arriving" in text else ""
        return Finished(0, "")

    def wait(self) -> None:
        """The timer fires, if there is one."""
        if self.timer:
            assert "--on-active=60s" in self.timer
            self(self.timer[-3:], 1.0)
            self.timer = []


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def firewall(host: Host, tmp_path: Path) -> Firewall:
    return Firewall(tmp_path / "rules.nft", host, tmp_path / "run")


def test_unconfirmed_rules_are_reverted(host: Host, firewall: Firewall) -> None:
    first, second = "\n".join(rules()), "\n".join(rules(ssh=["10.0.0.1"]))
    firewall.attempt(first, 60)
    assert firewall.loaded(first)
    assert firewall.kept() == ""
    host.wait()
    assert host.table == ""
    with pytest.raises(FirewallError, match="were reverted before they could be confirmed"):
        firewall.confirm(first)
    firewall.attempt(first, 60)
    firewall.confirm(first)
    assert host.timer == []
    assert firewall.kept() == first
    # Those that were kept come back.
    firewall.attempt(second, 60)
    assert firewall.loaded(second)
    host.wait()
    assert firewall.loaded(first)
    # Also after an attempt that was interrupted, and one that follows it.
    firewall.attempt(second, 60)
    firewall.attempt(second, 60)
    host.wait()
    assert firewall.loaded(first)


def test_removal(firewall: Firewall) -> None:
    assert not firewall.present()
    text = "\n".join(rules())
    firewall.attempt(text, 60)
    firewall.confirm(text)
    assert firewall.present()
    firewall.remove()
    assert not firewall.present()
    assert firewall.kept() == ""
    firewall.remove()


@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        ("systemd-run", "does not take the timer.*Nothing was changed"),
        ("nft --file", "nftables refused the rules: no\nNothing was changed"),
    ],
)
def test_nothing_is_changed(host: Host, firewall: Firewall, refuses: str, message: str) -> None:
    host.refuses.add(refuses)
    with pytest.raises(FirewallError, match=message):
        firewall.attempt("\n".join(rules()), 60)
    assert host.table == ""
    assert host.timer == []


def test_rules_that_nftables_does_not_take(host: Host, firewall: Firewall) -> None:
    host.refuses.add("nft --check")
    with pytest.raises(FirewallError, match="Correct firewall_extra_rules"):
        firewall.check("nonsense")
