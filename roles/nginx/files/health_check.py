# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Has nginx leave out servers that say nothing: a process that is frozen, a host that is gone without a word.

nginx notices by itself who refuses a connection. Of a server that accepts one and does not answer it only knows when its read timeout is
over, a minute and more later, and meanwhile it sends everybody else there, too. So each server is asked for its health again and again.
One that is silent so many times in a row is refused for nginx by this host's own firewall, with a TCP reset, at which nginx asks the next
one at once, and connections that wait for it are ended. One that refuses, or answers anything at all, is left to nginx.

What it has refused is kept by the kernel for some seconds only, and renewed: when this program is gone, so is what it did. It never refuses
the last server that is left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

TABLE = "prefect_health_check"
KEPT = 5  # seconds for which the kernel refuses a server without being told again
COMMAND_SECONDS = 3.0
Address = tuple[str, int]
Run = Callable[[Sequence[str], str], bool]


@dataclass(frozen=True)
class Options:
    """Whom to ask, as whom nginx connects, and with how much patience. Seconds throughout."""

    servers: tuple[Address, ...]
    user: str = "www-data"
    interval: float = 0.3
    timeout: float = 1.0
    failures: int = 3
    path: str = "/api/health"


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


def run(argv: Sequence[str], stdin: str) -> bool:
    """Runs a command; whether it was content."""
    try:
        ended = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{argv[0]}: {error}", file=sys.stderr, flush=True)
        return False
    if ended.returncode:
        print(f"{' '.join(argv)}: {ended.stderr.strip()}", file=sys.stderr, flush=True)
    return ended.returncode == 0


@dataclass
class Firewall:
    """This host's refusal to let nginx connect to a server."""

    user: int
    command: Run = run
    refused: set[Address] = field(default_factory=set)

    def prepare(self) -> bool:
        """Puts the rules in place, which refuse nobody yet."""
        lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
        rules = []
        for name, family, kind in (("v4", "ip", "ipv4_addr"), ("v6", "ip6", "ipv6_addr")):
            lines.append(f"add set inet {TABLE} {name} {{ type {kind} . inet_service; flags timeout; }}")
            opens = "tcp flags & (fin | syn | rst | ack) == syn"
            rules.append(
                f"add rule inet {TABLE} leaving meta skuid {self.user} {opens} {family} daddr . tcp dport @{name} reject with tcp reset"
            )
        lines.append(f"add chain inet {TABLE} leaving {{ type filter hook output priority -15; policy accept; }}")
        return self.command(["nft", "--file", "-"], "\n".join([*lines, *rules, ""]))

    def refuse(self, servers: Iterable[Address]) -> None:
        """Refuses these from now on and nobody else, and ends what waits for those that are new."""
        wanted = set(servers)
        lines = []
        for host, port in sorted(wanted | self.refused):
            name = "v6" if ":" in host else "v4"
            # Adding what is there would not renew it, and deleting what is not there is an error.
            lines += [f"add element inet {TABLE} {name} {{ {host} . {port} }}", f"delete element inet {TABLE} {name} {{ {host} . {port} }}"]
            if (host, port) in wanted:
                lines.append(f"add element inet {TABLE} {name} {{ {host} . {port} timeout {KEPT}s }}")
        if lines and not self.command(["nft", "--file", "-"], "\n".join([*lines, ""])):
            return
        for host, port in sorted(wanted - self.refused):
            print(f"{host}:{port} does not answer, so nginx leaves it out", flush=True)
            self.command(
                ["ss", "--no-header", "--kill", "--tcp", "dst", f"[{host}]" if ":" in host else host, "dport", "=", f":{port}"], ""
            )
        for host, port in sorted(self.refused - wanted):
            print(f"{host}:{port} answers again", flush=True)
        self.refused = wanted

    def remove(self) -> None:
        """Lets nginx connect to everybody again."""
        self.command(["nft", "delete", "table", "inet", TABLE], "")


async def answers(host: str, port: int, path: str, timeout: float) -> bool:
    """Whether a server says anything at all within the time; a refusal is an answer, too."""
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            await reader.read(1)
            return True
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        if writer:
            writer.close()


def left_out(servers: Sequence[Server]) -> list[Server]:
    """Those that nginx is to leave out: the silent ones, unless nobody would be left."""
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


async def watch(options: Options, firewall: Firewall, stop: asyncio.Event) -> None:
    """Asks all servers, again and again, until told to stop."""
    servers = [Server(host, port) for host, port in options.servers]
    while not stop.is_set():
        asked = [answers(server.host, server.port, options.path, options.timeout) for server in servers]
        for server, answered in zip(servers, await asyncio.gather(*asked), strict=True):
            server.saw(answered, options.failures)
        firewall.refuse(await addresses(left_out(servers)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), options.interval)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("servers", nargs="+", metavar="HOST:PORT", help="the servers; an IPv6 address in brackets")
    parser.add_argument("--user", default="www-data", help="as whom nginx connects (www-data)")
    parser.add_argument("--interval", type=float, default=0.3, help="seconds between two looks (0.3)")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds within which a server has to say something (1)")
    parser.add_argument("--failures", type=int, default=3, help="how many times in a row it has to be silent, or not (3)")
    given = parser.parse_args(arguments)
    servers = []
    for text in given.servers:
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit():
            parser.error(f"{text} is not HOST:PORT")
        servers.append((host.strip("[]"), int(port)))
    return Options(tuple(servers), given.user, given.interval, given.timeout, given.failures)


async def serve(options: Options, firewall: Firewall) -> int:
    """Watches until a signal comes, and leaves nothing behind."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not firewall.prepare():
        return 1
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
