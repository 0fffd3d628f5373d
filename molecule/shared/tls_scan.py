"""Looks at every port of a lab's hosts that the network can reach, and says what is not TLS as it should be.

`tls_scan.py LAB HOST=ADDRESS...`: prints a line for each port, and exits 1 when something is wrong with one, or a host has none.

For each port the certificate has to be from the lab's authority with its whole chain and name the address, no version before TLS 1.2 and no
weak cipher may be taken, and a client in plain text is refused, or sent to https.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import Lab

SECONDS = 5.0
# Ciphers without forward secrecy, without authentication or encryption, or whose integrity is a hash's: all of CBC and RC4 among them.
WEAK = "kRSA:kPSK:aNULL:eNULL:MD5:SHA1:SHA256:SHA384:@SECLEVEL=0"
EVERY = "ALL:eNULL:@SECLEVEL=0"
# What this machine's own OpenSSL says when it cannot even try, which proves nothing of a server.
OWN_REFUSALS = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "NO_CIPHER_MATCH")
POSTGRES = ("postgres",)
REDIS = ("redis-server", "valkey-server", "redis")
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
STARTUP = b"user\0prefect\0database\0prefect\0\0"


@dataclass(frozen=True)
class Listener:
    """A port of a host, and the program that listens there."""

    host: str
    address: str
    port: int
    program: str


@dataclass(frozen=True)
class Finding:
    """What a port answers with, and what is wrong with that."""

    listener: Listener
    version: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        one = self.listener
        return f"{one.host:10} {one.port:5} {one.program:28} {self.version or 'no TLS':8} {'; '.join(self.problems) or 'ok'}"


class RefusedError(Exception):
    """The server did not go on; the message is what it, or this machine's OpenSSL, said."""


def listeners(host: str, address: str, shown: str) -> list[Listener]:
    """From what `ss -Hltnp` shows on a host: the ports that others can reach, but for sshd's."""
    found = {}
    for line in shown.splitlines():
        local = line.split()[3]
        name, _colon, port = local.rpartition(":")
        name = name.partition("%")[0].strip("[]")
        programs = re.findall(r'"([^"]+)",pid=', line)
        program = programs[0] if programs else "unknown"
        if name.startswith("127.") or name == "::1" or "sshd" in programs or (program == "systemd" and port == "22"):
            continue
        reached = address if name in ("*", "0.0.0.0", "::") else name  # noqa: S104  nothing is bound
        found[reached, int(port)] = Listener(host, reached, int(port), program)
    return sorted(found.values(), key=lambda one: (one.port, one.address))


@contextmanager
def connected(listener: Listener) -> Iterator[socket.socket]:
    """A connection on which TLS can begin."""
    with socket.create_connection((listener.address, listener.port), SECONDS) as plain:
        if listener.program in POSTGRES:
            plain.sendall(SSL_REQUEST)
            if (answer := plain.recv(1)) != b"S":
                raise RefusedError(f"PostgreSQL does not offer TLS: {answer!r}")
        yield plain


def handshake(listener: Listener, context: ssl.SSLContext) -> tuple[str, str, bytes]:
    """The version, the cipher and the certificate of a server. Raises RefusedError, and OSError if nothing listens there."""
    with connected(listener) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=listener.address) as session:
                cipher = session.cipher()
                return session.version() or "", cipher[0] if cipher else "", session.getpeercert(binary_form=True) or b""
        except ssl.SSLError as error:
            raise RefusedError(getattr(error, "verify_message", "") or error.reason or str(error)) from None
        except (ConnectionError, TimeoutError) as error:
            raise RefusedError(type(error).__name__) from None


def served(listener: Listener, authority: Path) -> str:
    """The certificate that a port answers with, verified."""
    return ssl.DER_cert_to_PEM_cert(handshake(listener, ssl.create_default_context(cafile=authority))[2])


def weak(ciphers: str, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that takes whatever it is given, up to a version, so that a server is seen to refuse and not this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
    context.set_ciphers(ciphers)
    return context


def taken(listener: Listener, what: str, ciphers: str, newest: ssl.TLSVersion) -> list[str]:
    """The problem that a server takes what it must not, or that this cannot be told."""
    try:
        version, cipher, _certificate = handshake(listener, weak(ciphers, newest))
    except RefusedError as error:
        return [f"whether it takes {what} cannot be told: {error}"] if str(error) in OWN_REFUSALS else []
    return [f"takes {what}: {version} {cipher}"]


def plain_text(listener: Listener) -> list[str]:
    """The problem that a server serves a client without TLS."""
    answer = said(listener)
    if listener.program in POSTGRES:
        # An error for who may not connect like this; anything else is the beginning of a login.
        return [] if answer[:1] in (b"", b"E") else [f"asks for a login in plain text: {answer[:40]!r}"]
    if listener.program in REDIS:
        return [f"answers Redis's protocol in plain text: {answer[:40]!r}"] if answer[:1] in (b"+", b"-", b"$", b"*") else []
    status = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    if not status or status[1] == b"400" or redirects(answer):
        return []
    return [f"answers HTTP in plain text: {answer.splitlines()[0].decode(errors='replace')}"]


def redirects(answer: bytes) -> bool:
    """Whether an answer sends a client to https."""
    return bool(re.match(rb"HTTP/1\.[01] 30[1278]\b.*?\r\nlocation: https://", answer, re.DOTALL | re.IGNORECASE))


def said(listener: Listener) -> bytes:
    """What a server says to a client that speaks its protocol in plain text."""
    questions = {
        **dict.fromkeys(POSTGRES, struct.pack("!ii", 8 + len(STARTUP), 196608) + STARTUP),
        **dict.fromkeys(REDIS, b"PING\r\n"),
    }
    request = f"GET /api/health HTTP/1.1\r\nHost: {listener.address}:{listener.port}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((listener.address, listener.port), SECONDS) as plain:
        try:
            plain.sendall(questions.get(listener.program, request))
            return plain.recv(1 << 16)
        except (ConnectionError, TimeoutError):
            return b""


def scan(listener: Listener, authority: Path) -> Finding:
    """Looks at one port."""
    try:
        version, _cipher, _certificate = handshake(listener, ssl.create_default_context(cafile=authority))
    except RefusedError as error:
        if redirects(said(listener)):
            return Finding(listener, "redirect", ())
        return Finding(listener, "", (f"does not verify as {listener.address}: {error}",))
    except OSError as error:
        return Finding(listener, "", (f"cannot be reached: {error}",))
    problems = [
        *taken(listener, "a version before TLS 1.2", EVERY, ssl.TLSVersion.TLSv1_1),
        *taken(listener, "a weak cipher", WEAK, ssl.TLSVersion.TLSv1_2),
        *plain_text(listener),
    ]
    return Finding(listener, version, tuple(problems))


def scan_hosts(lab: Lab, addresses: Mapping[str, str]) -> list[Finding]:
    """Looks at every port of hosts, which are given with their addresses."""
    assert lab.authority
    found: list[Finding] = []
    for host, address in addresses.items():
        found += [scan(one, lab.authority) for one in listeners(host, address, lab.on(host, "ss -Hltnp"))]
    return found


def main(arguments: list[str]) -> int:
    """Looks at a lab, and says what was found."""
    name, *hosts = arguments
    addresses = dict(host.split("=", 1) for host in hosts)
    found = scan_hosts(Lab(name, 0), addresses)
    print(*found, sep="\n")
    silent = sorted(set(addresses) - {one.listener.host for one in found})
    if silent:
        print(f"nothing listens on {', '.join(silent)}")
    return 1 if silent or any(one.problems for one in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
