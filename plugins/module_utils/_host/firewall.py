# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The host's own firewall, as far as it is for the deployment: one table of nftables, which a timer takes back until it is confirmed."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, Run, run

TABLE = "prefect_firewall"
GUARD = "prefect-firewall-revert"
ANYWHERE = "anywhere"
_FOLDER = Path("/run/prefect-firewall")
_SECONDS = 20.0
_NOT_FOUND = 127
# Protocols without ports, by their numbers: not every host knows the names. Only where a component speaks one it is filtered.
_WITHOUT_PORTS = {"vrrp": 112}
_EMPTY = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Resolve = Callable[[str], Sequence[str]]


class FirewallError(Exception):
    """The rules cannot be made, or changed; the message says why and what to do."""


def resolve(name: str) -> list[str]:
    """The addresses of a name, as this host sees them. Raises OSError when it has none."""
    return sorted({str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})


def networks(sources: Iterable[str], resolve: Resolve = resolve) -> list[Network]:
    """Addresses, networks and names as networks that do not overlap. Raises FirewallError for what is none of them."""
    found: list[Network] = []
    for source in sources:
        try:
            found.append(ipaddress.ip_network(source, strict=False))
        except ValueError:
            found += [ipaddress.ip_network(address) for address in _of_name(source, resolve)]
    # This host itself is accepted anyway.
    outside = [each for each in found if not each.is_loopback]
    four = [each for each in outside if isinstance(each, ipaddress.IPv4Network)]
    six = [each for each in outside if isinstance(each, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(four), *ipaddress.collapse_addresses(six)]


def _of_name(name: str, resolve: Resolve) -> Sequence[str]:
    try:
        return resolve(name)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FirewallError(
            f"{name}, which may reach this host, is no address, no network, and no name that resolves here ({reason})."
            " Give it an address (ansible_host or prefect_address), or correct firewall_sources. Nothing was changed."
        ) from None


def ruleset(
    openings: Iterable[Mapping[str, Any]],
    ssh_ports: Sequence[int],
    ssh_sources: Sequence[str],
    extra_rules: Sequence[str] = (),
    resolve: Resolve = resolve,
) -> str:
    """The whole table, in place of the one that is there. It has a chain whose name says what it is made from."""
    ssh = [{"what": "SSH", "port": port, "protocols": ["tcp"], "sources": list(ssh_sources) or [ANYWHERE]} for port in ssh_ports]
    accepted = [*ssh, *openings]
    rules = [line for opening in accepted for line in _accepts(opening, resolve)]
    more = sorted({_WITHOUT_PORTS[name] for opening in accepted for name in opening["protocols"] if name in _WITHOUT_PORTS})
    body = [
        "  chain arriving {",
        "    type filter hook input priority filter; policy accept;",
        '    iif "lo" accept',
        "    ct state established,related accept",
        "    # A connection that is older than these rules goes on.",
        "    tcp flags & (fin | syn | rst | ack) != syn accept",
        "    # Answers to the requests for an address are from another one than was asked.",
        "    udp sport 67 udp dport 68 accept",
        "    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
        *(f"    {line}" for line in [*rules, *(rule.strip() for rule in extra_rules)]),
        "    # Other protocols (ICMP, IPsec) are not looked at.",
        f"    meta l4proto {{ {', '.join(['tcp', 'udp', *map(str, more)])} }} counter drop",
        "  }",
        "}",
    ]
    digest = hashlib.sha256("\n".join(body).encode()).hexdigest()[:12]
    head = ["# Written by the role selfhosted.prefect.firewall; changes made here are lost.", _EMPTY.rstrip(), f"table inet {TABLE} {{"]
    return "\n".join([*head, f"  chain version_{digest} {{ }}", *body, ""])


def accepting(rules: str) -> list[str]:
    """The rules of listeners in a table."""
    return [line.strip() for line in rules.splitlines() if " counter accept comment " in line]


def _accepts(opening: Mapping[str, Any], resolve: Resolve) -> list[str]:
    """The rules of one listener."""
    comment = str(opening["what"]).replace('"', "'")[:100]
    allowed = [""]
    if ANYWHERE not in opening["sources"]:
        found = networks(opening["sources"], resolve)
        families = {family: [_short(each) for each in found if each.version == version] for family, version in (("ip", 4), ("ip6", 6))}
        allowed = [f"{family} saddr {{ {', '.join(those)} }} " for family, those in families.items() if those]
    return [f'{source}{_matches(name, opening)} counter accept comment "{comment}"' for name in opening["protocols"] for source in allowed]


def _matches(protocol: str, opening: Mapping[str, Any]) -> str:
    return f"meta l4proto {_WITHOUT_PORTS[protocol]}" if protocol in _WITHOUT_PORTS else f"{protocol} dport {opening['port']}"


def _short(network: Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)


class Firewall:
    """The table in the kernel, and the file that the host loads when it boots."""

    def __init__(self, path: Path, command: Run = run, folder: Path = _FOLDER) -> None:
        self._path = path
        self._command = command
        self._folder = folder

    def kept(self) -> str:
        """The rules that the host boots with; none: the empty string."""
        return self._path.read_text(encoding="utf-8") if self._path.exists() else ""

    def loaded(self, rules: str) -> bool:
        """Whether the kernel has these rules."""
        return bool(rules) and self._nft(["list", "chain", "inet", TABLE, _version(rules)]).rc == 0

    def present(self) -> bool:
        """Whether there is anything of it, in the kernel or on disk."""
        return self._path.exists() or self._nft(["list", "table", "inet", TABLE]).rc == 0

    def check(self, rules: str) -> None:
        """Raises FirewallError if nftables would not take them."""
        ended = self._nft(["--check", "--file", "-"], rules)
        if ended.rc:
            raise FirewallError(f"nftables does not take the rules: {ended.tail(5)}\nNothing was changed. Correct firewall_extra_rules.")

    def attempt(self, rules: str, seconds: int) -> None:
        """Loads them. Unless they are confirmed within so many seconds, the rules that are kept are loaded again, or none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = self._folder / "before.nft"
        before.write_text(self.kept() or _EMPTY, encoding="utf-8")
        self._disarm()
        words = [f"--unit={GUARD}", f"--on-active={seconds}s", "--timer-property=AccuracySec=100ms", "--collect", "--quiet"]
        ended = self._command(["systemd-run", *words, "nft", "--file", str(before)], _SECONDS)
        if ended.rc:
            raise FirewallError(f"systemd does not take the timer that would revert the rules: {ended.tail(3)}. Nothing was changed.")
        loading = self._nft(["--file", "-"], rules)
        if loading.rc:
            self._disarm()
            raise FirewallError(f"nftables refused the rules: {loading.tail(5)}\nNothing was changed.")

    def confirm(self, rules: str) -> None:
        """Keeps them. Raises FirewallError if they have been reverted already."""
        self._disarm()
        if not self.loaded(rules):
            raise FirewallError("The rules were reverted before they could be confirmed. Raise firewall_revert_after, and run this again.")
        partial = self._path.with_name(f".{self._path.name}.partial")
        partial.touch(mode=0o600)
        partial.write_text(rules, encoding="utf-8")
        partial.replace(self._path)

    def remove(self) -> None:
        """Removes them: all clients are accepted again."""
        self._disarm()
        ended = self._nft(["--file", "-"], _EMPTY)
        if ended.rc not in (0, _NOT_FOUND):
            raise FirewallError(f"nftables cannot be changed: {ended.tail(3)}. It takes root (become).")
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _disarm(self) -> None:
        self._command(["systemctl", "stop", f"{GUARD}.timer", f"{GUARD}.service"], _SECONDS)

    def _nft(self, arguments: Sequence[str], stdin: str = "") -> Finished:
        return self._command(["nft", *arguments], _SECONDS, stdin=stdin)


def missing() -> bool:
    """Whether this host has no nft."""
    return not any(os.access(f"{folder}/nft", os.X_OK) for folder in ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"))


def _version(rules: str) -> str:
    return next(line.split()[1] for line in rules.splitlines() if line.startswith("  chain version_"))
