# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Has nginx leave out servers that say nothing: a process that is frozen, a host that is gone without a word.

nginx notices by itself who refuses a connection. Of a server that accepts one and does not answer it only knows when its read timeout is
over, a minute and more later, and meanwhile it goes on sending requests there. So the health of each server is probed again and again.
One that is silent so many times in a row is refused for nginx by this host's own firewall, with a TCP reset, at which nginx asks the next
one at once, and connections that wait for it are ended. One that refuses, or answers anything at all, is left to nginx.

What it has refused is kept by the kernel for some seconds only, and renewed: when this program is gone, so is what it did. It never refuses
the last server that is left.

A firewall that is flushed or loaded anew takes the rules away. The kernel tells of each change, and they are put back at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import pwd
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TABLE = "prefect_health_check"
KEPT = 5  # seconds for which the kernel refuses a server without being told again
COMMAND_SECONDS = 3.0
GUARD_SECONDS = 0.2
CHECK_SECONDS = 5.0  # between two looks at the rules, should the kernel have said nothing
NETLINK_NETFILTER, NFNLGRP_NFTABLES = 12, 7
Address = tuple[str, int]


@dataclass(frozen=True)
class Options:
    """The servers to probe, the user nginx connects as, and the limits. Seconds throughout."""

    servers: tuple[Address, ...]
    user: str = "www-data"
    interval: float = 0.3
    timeout: float = 1.0
    failures: int = 3
    path: str = "/api/health"
    tls: ssl.SSLContext | None = None
    tls_name: str = ""
    metrics: Path | None = None
    follow: Path | None = None


@dataclass(frozen=True)
class Ended:
    """What a command printed, and what was wrong with it, if anything."""

    output: str = ""
    problem: str = ""


Run = Callable[[Sequence[str], str], Ended]


@dataclass
class Server:
    """What is known of one server."""

    host: str
    port: int
    silent: int = 0  # times in a row
    answered: int = 0
    refused: bool = False

    def saw(self, answered: bool, limit: int) -> None:
        """Notes one more look."""
        self.silent = 0 if answered else self.silent + 1
        self.answered = self.answered + 1 if answered else 0
        if self.silent >= limit:
            self.refused = True
        elif self.answered >= limit:
            self.refused = False


def run(argv: Sequence[str], stdin: str) -> Ended:
    """Runs a command."""
    try:
        ended = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Ended(problem=f"{argv[0]}: {error}")
    said = " ".join(ended.stderr.split()[:40])
    return Ended(ended.stdout, f"{argv[0]}: {said or f'exit status {ended.returncode}'}" if ended.returncode else "")


def shape(listed: str) -> str:
    """The rules of a table without what differs from time to time: numbers of the kernel's, and who is in its sets."""

    def plain(part: object) -> object:
        if isinstance(part, dict):
            return {key: plain(value) for key, value in part.items() if key not in ("handle", "elem")}
        return [plain(each) for each in part] if isinstance(part, list) else part

    return json.dumps([plain(each) for each in json.loads(listed)["nftables"] if "metainfo" not in each])


@dataclass
class Firewall:
    """This host's refusal to let nginx connect to a server."""

    user: int
    command: Run = run
    refused: set[Address] = field(default_factory=set)
    restored: int = 0
    in_place: bool = False
    _shape: str = ""
    _said: set[str] = field(default_factory=set)

    def prepare(self) -> bool:
        """Puts the rules in place, which refuse no server yet."""
        lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
        rules = []
        for name, family, kind in (("v4", "ip", "ipv4_addr"), ("v6", "ip6", "ipv6_addr")):
            lines.append(f"add set inet {TABLE} {name} {{ type {kind} . inet_service; flags timeout; }}")
            opens = "tcp flags & (fin | syn | rst | ack) == syn"
            rules.append(
                f"add rule inet {TABLE} leaving meta skuid {self.user} {opens} {family} daddr . tcp dport @{name} reject with tcp reset"
            )
        lines.append(f"add chain inet {TABLE} leaving {{ type filter hook output priority -15; policy accept; }}")
        self.in_place = self._tell("\n".join([*lines, *rules, ""]))
        self._shape = self._listed() if self.in_place else ""
        return self.in_place

    def check(self) -> None:
        """Puts the rules back if they are not what they were."""
        if self.in_place and self._shape and self._listed() == self._shape:
            self._said.clear()
            return
        lost, self.in_place = self.in_place, False
        if not self.prepare():
            return
        self.restored += lost
        print("the rules were gone from this host's firewall, and are back" if lost else "the rules are in place", flush=True)
        # Refused servers are refused anew, and connections made in the meantime are ended.
        wanted, self.refused = self.refused, set()
        self.refuse(wanted, again=True)

    def refuse(self, servers: Iterable[Address], again: bool = False) -> None:
        """Refuses exactly these from now on, and ends what waits for those that are new."""
        wanted = set(servers)
        lines = []
        for host, port in sorted(wanted | self.refused):
            name = "v6" if ":" in host else "v4"
            # Adding what is there would not renew it, and deleting what is not there is an error.
            lines += [f"add element inet {TABLE} {name} {{ {host} . {port} }}", f"delete element inet {TABLE} {name} {{ {host} . {port} }}"]
            if (host, port) in wanted:
                lines.append(f"add element inet {TABLE} {name} {{ {host} . {port} timeout {KEPT}s }}")
        ended = self.command(["nft", "--file", "-"], "\n".join([*lines, ""])) if lines else Ended()
        if ended.problem:
            self._failed_to_refuse(ended.problem, again)
            return
        for host, port in sorted(wanted - self.refused):
            if not again:
                print(f"{host}:{port} does not answer, so nginx leaves it out", flush=True)
            self.command(
                ["ss", "--no-header", "--kill", "--tcp", "dst", f"[{host}]" if ":" in host else host, "dport", "=", f":{port}"], ""
            )
        for host, port in sorted(self.refused - wanted):
            print(f"{host}:{port} answers again", flush=True)
        self.refused = wanted

    def _failed_to_refuse(self, problem: str, again: bool) -> None:
        """The next round tries it again. When the rules were gone, which is the usual reason, they are back by then."""
        before = self.restored
        if not again:
            self.check()
        if self.restored == before:
            self._note(problem)

    def remove(self) -> None:
        """Lets nginx connect to every server again."""
        self._tell(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")

    def _tell(self, script: str) -> bool:
        ended = self.command(["nft", "--file", "-"], script)
        if ended.problem:
            self._note(ended.problem)
        return not ended.problem

    def _listed(self) -> str:
        """The rules that the kernel has; nothing when they are not there."""
        ended = self.command(["nft", "--json", "list", "table", "inet", TABLE], "")
        try:
            return "" if ended.problem else shape(ended.output)
        except (ValueError, KeyError):
            return ""

    def _note(self, problem: str) -> None:
        """Says what is wrong once, until all is well again."""
        if problem not in self._said:
            print(f"{problem} (tried again without saying so again)", file=sys.stderr, flush=True)
        self._said.add(problem)


def changes() -> socket.socket | None:
    """A socket on which the kernel tells of each change of this host's nftables; None where it does not."""
    try:
        told = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
        told.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
    except OSError:
        return None
    return told


@dataclass
class Changes:
    """Whether the kernel has told of a change, or it is time to look."""

    told: socket.socket | None = field(default_factory=changes)
    clock: Callable[[], float] = time.monotonic
    _looked: float = float("-inf")

    def seen(self) -> bool:
        """Whether to look at the rules now."""
        told = self.clock() - self._looked >= CHECK_SECONDS
        if self.told:
            try:
                while self.told.recv(65536):
                    told = True
            except BlockingIOError:
                pass
            except OSError:  # more than fitted: something has changed
                told = True
        if told:
            self._looked = self.clock()
        return told


def write(path: Path, text: str) -> None:
    """Replaces a file; a reader finds the one before or this one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(path)


def metrics(servers: Sequence[Server], firewall: Firewall, now: float) -> str:
    """What a node exporter is to know."""
    refused = {(server.host, server.port): 0 for server in servers} | {(server.host, server.port): 1 for server in left_out(servers)}
    lines = [
        "# HELP prefect_firewall_rules_restored_total How often rules that something else on this host removed were put back.",
        "# TYPE prefect_firewall_rules_restored_total counter",
        f'prefect_firewall_rules_restored_total{{table="{TABLE}"}} {firewall.restored}',
        "# HELP prefect_firewall_rules_in_place Whether the rules are in force (1) or cannot be put back (0).",
        "# TYPE prefect_firewall_rules_in_place gauge",
        f'prefect_firewall_rules_in_place{{table="{TABLE}"}} {int(firewall.in_place)}',
        "# HELP prefect_health_check_left_out Whether nginx leaves a server out because it says nothing.",
        "# TYPE prefect_health_check_left_out gauge",
        *(f'prefect_health_check_left_out{{server="{host}:{port}"}} {out}' for (host, port), out in sorted(refused.items())),
        "# HELP prefect_health_check_last_check_timestamp_seconds When the servers were last looked at.",
        "# TYPE prefect_health_check_last_check_timestamp_seconds gauge",
        f"prefect_health_check_last_check_timestamp_seconds {now:.0f}",
    ]
    return "\n".join([*lines, ""])


async def answers(host: str, port: int, options: Options) -> bool:
    """Whether a server says anything at all within the time; a refusal is an answer, too.

    So is a certificate that is not trusted: nginx verifies it by itself, and says so. A process that is frozen does not even shake hands.
    """
    writer = None
    name = (options.tls_name or host) if options.tls else None
    try:
        async with asyncio.timeout(options.timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=options.tls, server_hostname=name)
            writer.write(f"GET {options.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            await reader.read(1)
            return True
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        if writer:
            # A frozen server would not take part in an orderly end, which takes half a minute to give up.
            writer.transport.abort()


def left_out(servers: Sequence[Server]) -> list[Server]:
    """Those that nginx is to leave out: the silent ones, unless no server would be left."""
    silent = [server for server in servers if server.refused]
    return silent if len(silent) < len(servers) else []


async def addresses(servers: Sequence[Server]) -> set[Address]:
    """Where these are, by number: names are the balancer's business, and rules have none."""
    found: set[Address] = set()
    for server in servers:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                infos = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=1)
                found |= {(str(ipaddress.ip_address(info[4][0])), server.port) for info in infos}
    return found


async def watch(options: Options, firewall: Firewall, stop: asyncio.Event, told: Changes | None = None) -> None:
    """Asks all servers, again and again, until told to stop."""
    servers = [Server(host, port) for host, port in options.servers]
    told = told or Changes()
    guarding = asyncio.create_task(guard(firewall, told, stop))
    # The unit gives the metrics to a node exporter that is there when it starts.
    alone = bool(options.follow and not options.follow.exists())
    try:
        while not stop.is_set():
            if alone and options.follow and options.follow.exists():
                print(f"{options.follow} is there: beginning anew", flush=True)
                return
            asked = [answers(server.host, server.port, options) for server in servers]
            for server, answered in zip(servers, await asyncio.gather(*asked), strict=True):
                server.saw(answered, options.failures)
            firewall.refuse(await addresses(left_out(servers)))
            if options.metrics:
                with contextlib.suppress(OSError):
                    write(options.metrics, metrics(servers, firewall, time.time()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(options.interval):
                    await stop.wait()
    finally:
        guarding.cancel()
        await asyncio.gather(guarding, return_exceptions=True)


async def guard(firewall: Firewall, told: Changes, stop: asyncio.Event) -> None:
    """Looks after the rules, beside a round of questions that takes as long as a silent server."""
    while not stop.is_set():
        if told.seen():
            firewall.check()
        await asyncio.sleep(GUARD_SECONDS)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("servers", nargs="+", metavar="HOST:PORT", help="the servers; an IPv6 address in brackets")
    parser.add_argument("--user", default="www-data", help="as whom nginx connects (www-data)")
    parser.add_argument("--interval", type=float, default=0.3, help="seconds between two looks (0.3)")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds within which a server has to say something (1)")
    parser.add_argument("--failures", type=int, default=3, help="how many times in a row it has to be silent, or not (3)")
    parser.add_argument("--metrics", type=Path, help="a file for a node exporter's textfile collector")
    parser.add_argument("--follow", type=Path, help="end when this path appears, so that the unit begins anew")
    parser.add_argument("--ca-file", type=Path, help="speak TLS with the servers, whose certificates are from these authorities")
    parser.add_argument("--tls-name", default="", help="the name that their certificates have in common (that of each server)")
    given = parser.parse_args(arguments)
    servers = []
    for text in given.servers:
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit():
            parser.error(f"{text} is not HOST:PORT")
        servers.append((host.strip("[]"), int(port)))
    return Options(
        tuple(servers),
        given.user,
        given.interval,
        given.timeout,
        given.failures,
        tls=ssl.create_default_context(cafile=given.ca_file) if given.ca_file else None,
        tls_name=given.tls_name,
        metrics=given.metrics,
        follow=given.follow,
    )


async def serve(options: Options, firewall: Firewall) -> int:
    """Watches until a signal comes, and leaves nothing behind."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Should it not succeed it is tried again: meanwhile the servers are looked at, and the metrics say so.
    firewall.prepare()
    try:
        await watch(options, firewall, stop)
    finally:
        firewall.remove()
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run until stopped."""
    options = parse(arguments)
    return asyncio.run(serve(options, Firewall(pwd.getpwnam(options.user).pw_uid)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
