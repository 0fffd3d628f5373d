# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""TCP with one deadline over everything: resolving, connecting, TLS, sending and reading."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._text import text

Clock = Callable[[], float]


class NetError(Exception):
    """No usable answer. The message says why, in words that complete "HOST:PORT ..."."""


class Deadline:
    """A moment after which nothing may still be waited for."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - self._clock())

    def passed(self) -> bool:
        return self.left() <= 0

    def no_later_than(self, seconds: float) -> Deadline:
        """A deadline in so many seconds, or this one if it comes first."""
        return Deadline(min(seconds, self.left()), self._clock)


class Stream:
    """A connected socket that reads whole messages, each within the deadline."""

    _CHUNK = 65536

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._buffer = b""
        self.deadline = deadline

    def send(self, data: bytes) -> None:
        self._guarded(lambda: self._sock.sendall(data))

    def read_some(self) -> bytes:
        """Whatever comes next; empty when the other side has closed."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        data = self._guarded(lambda: self._sock.recv(self._CHUNK))
        return bytes(data)

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_line(self) -> bytes:
        """One line, without its CR LF."""
        while b"\r\n" not in self._buffer:
            self._fill()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        self._sock = self._guarded(lambda: context.wrap_socket(self._sock, server_hostname=host))

    def close(self) -> None:
        self._sock.close()

    def _fill(self) -> None:
        data = self._guarded(lambda: self._sock.recv(self._CHUNK))
        if not data:
            raise NetError("closed the connection before it had answered")
        self._buffer += data

    def _guarded(self, action: Callable[[], Any]) -> Any:
        left = self.deadline.left()
        if left <= 0:
            raise NetError(no_answer(self.deadline))
        self._sock.settimeout(left)
        try:
            return action()
        except OSError as error:
            raise NetError(describe(error, self.deadline)) from error


OpenStream = Callable[[str, int, Deadline], Stream]


def open_stream(host: str, port: int, deadline: Deadline) -> Stream:
    """Connects to the first address of ``host`` that accepts.

    Raises:
        NetError: the name does not resolve, or nothing accepts within the deadline.
    """
    addresses = _resolve(host, port, deadline)
    failure = NetError(no_answer(deadline))
    for position, (family, address) in enumerate(addresses):
        # An address that swallows packets must leave time for the others.
        share = deadline.left() / (len(addresses) - position)
        if share <= 0:
            break
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(share)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = NetError(describe(error, deadline))
            continue
        _keep_alive(sock)
        return Stream(sock, deadline)
    raise failure


def _keep_alive(sock: socket.socket) -> None:
    # A session that waits for a long migration must not be forgotten by a firewall on the way.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_NODELAY", 1), ("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def tls_context(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """What ``options`` ask for: None without TLS.

    Keys: ``enabled`` (true unless the mapping is empty), ``ca_file`` (the system's authorities without it), ``cert_file`` and
    ``key_file`` (a client certificate), ``check_hostname`` (true), ``verify`` (true).

    Raises:
        NetError: a file is missing or unreadable.
    """
    if not options or not options.get("enabled", True):
        return None
    try:
        context = ssl.create_default_context(cafile=text(options.get("ca_file")) or None)
        if options.get("cert_file"):
            context.load_cert_chain(text(options["cert_file"]), text(options.get("key_file")) or None)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(text(options[key]) for key in ("ca_file", "cert_file", "key_file") if options.get(key))
        raise NetError(f"cannot be reached over TLS, because of the files {files}: {error}") from error
    verify = bool(options.get("verify", True))
    context.check_hostname = verify and bool(options.get("check_hostname", True))
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    return context


def no_answer(deadline: Deadline) -> str:
    return f"did not answer within {deadline.seconds:g} s"


def describe(error: OSError, deadline: Deadline) -> str:
    """A socket's error in words that complete "HOST:PORT ..."."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted here: {error.verify_message}"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return no_answer(deadline)
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection: nothing listens there, or a firewall refuses it"
    if isinstance(error, (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)):
        return "dropped the connection"
    if isinstance(error, ssl.SSLError):
        return f"does not speak TLS as expected: {getattr(error, 'reason', None) or error}"
    return f"cannot be reached: {error.strerror or error}"


def _resolve(host: str, port: int, deadline: Deadline) -> list[tuple[int, Any]]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _resolve_name(host, port, deadline)
    return _look_up(host, port)


def _resolve_name(host: str, port: int, deadline: Deadline) -> list[tuple[int, Any]]:
    # getaddrinfo knows no timeout: a dead name server would hold it for half a minute.
    found: list[list[tuple[int, Any]] | OSError] = []

    def look_up() -> None:
        try:
            found.append(_look_up(host, port))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(deadline.left())
    if not found:
        raise NetError(f"cannot be reached: its name was not resolved within {deadline.seconds:g} s")
    answer = found[0]
    if isinstance(answer, OSError):
        raise NetError(f"cannot be reached: its name does not resolve ({answer.strerror or answer})")
    return answer


def _look_up(host: str, port: int) -> list[tuple[int, Any]]:
    return [(found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
