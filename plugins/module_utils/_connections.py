# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""What is going on over the TCP connections of a local port, as the kernel sees it (``ss -ti``, without ``ss``)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_INET_DIAG_INFO = 2
_HEADER = struct.Struct("=IHHII")
_ESTABLISHED = 1
_SYN_RECV = 3
# Where struct tcp_info has the milliseconds since something was received, the bytes acknowledged by the peer, and those received.
_LAST_RECEIVED = (52, struct.Struct("=I"))
_ACKNOWLEDGED = (120, struct.Struct("=Q"))
_RECEIVED = (128, struct.Struct("=Q"))
_SILENT_MILLISECONDS = 1000


@dataclass(frozen=True)
class Connection:
    """One connection from the server's side.

    ``received`` and ``answered`` are bytes that came in and that the peer has; ``unsent`` are those it has not yet. ``quiet`` is how
    many milliseconds ago something last came in.
    """

    established: bool
    received: int
    answered: int
    unsent: int
    quiet: int

    def in_flight(self) -> bool:
        """Whether somebody waits for an answer. Once one has begun and all of it so far is delivered, nobody does: what stays open
        then is a websocket. A connection over which nothing ever came waits only while its request may be on the way."""
        if not self.established or self.unsent:
            return True
        if self.answered:
            return False
        return self.received > 0 or self.quiet < _SILENT_MILLISECONDS


def connections(port: int) -> list[Connection]:
    """The connections of a local port that are established, or about to be.

    Raises:
        OSError: the kernel does not tell.
    """
    return [each for family in (socket.AF_INET, socket.AF_INET6) for each in _dump(family, port)]


def _dump(family: int, port: int) -> Iterator[Connection]:
    states = 1 << _ESTABLISHED | 1 << _SYN_RECV
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, states)
    request += struct.pack("!HH", port, 0) + bytes(36) + b"\xff" * 8  # ports, addresses and interface, no cookie
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(5)
        kernel.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        while True:
            for kind, body in _messages(kernel.recv(1 << 16)):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    number = -struct.unpack_from("=i", body)[0]
                    raise OSError(number, "the kernel does not list its connections")
                yield parse(body)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_rest = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def parse(message: bytes) -> Connection:
    """A connection out of a ``struct inet_diag_msg`` and what follows it."""
    state = message[1]
    (unsent,) = struct.unpack_from("=I", message, 60)
    information = _attribute(message, 72, _INET_DIAG_INFO)

    def value(place: tuple[int, struct.Struct]) -> int:
        offset, form = place
        return int(form.unpack_from(information, offset)[0]) if len(information) >= offset + form.size else 0

    return Connection(state == _ESTABLISHED, value(_RECEIVED), value(_ACKNOWLEDGED), unsent, value(_LAST_RECEIVED))


def _attribute(message: bytes, at: int, wanted: int) -> bytes:
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind == wanted:
            return message[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)
    return b""
