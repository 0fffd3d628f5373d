# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Does what is sent through a balancer arrive at a port of this host? Seen on the wire, so that nothing else can pass for it.

That a server accepts connections proves little: monitoring and a balancer's own health checks connect too, while users are still sent
elsewhere. So requests are marked, and a packet socket looks for their marks among what the kernel delivers to the port.
"""

from __future__ import annotations

import ctypes
import re
import secrets
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.selfhosted.prefect.plugins.module_utils._http import Request, fetch
from ansible_collections.selfhosted.prefect.plugins.module_utils._net import NetError

PATH = "/admin/version"
"""Cheap, and sent where a balancer sends most requests: health often has a way of its own."""

_MARK = re.compile(rb" \S*[?]prefect-drain=([0-9a-f]{16}) HTTP/1")
_ALL_PROTOCOLS = 3
_OUTGOING = 4
_ATTACH_FILTER = 26
_PACKET_BYTES = 2048
_REQUEST_SECONDS = 3.0


@dataclass(frozen=True)
class Confirmed:
    """How the asking ended: the last answer through each balancer that did not lead here, requests sent, and seconds."""

    missing: dict[str, str]
    requests: int
    elapsed: float


class Arrivals:
    """The marks of requests that have arrived at a TCP port since this was made, over IPv4 and IPv6, from this host or another.

    The requests must be plain HTTP when they arrive. To be used in a ``with`` statement.

    Raises:
        OSError: the kernel does not let this process look; it takes root.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        try:
            program = packet_filter(port)
            buffer = ctypes.create_string_buffer(program)
            # What came in before the filter holds no mark of ours: none has been sent yet.
            self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(buffer)))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def marks(self) -> set[str]:
        """Those seen since the last call."""
        found: set[str] = set()
        while True:
            try:
                packet, address = self._socket.recvfrom(_PACKET_BYTES)
            except BlockingIOError:
                return found
            # This host's own request to a balancer on the same port of another host is not an arrival.
            if address[2] != _OUTGOING:
                found.update(mark.decode() for mark in _MARK.findall(packet))


def packet_filter(port: int) -> bytes:
    """A classic BPF program that keeps the beginning of TCP packets to this port; what it reads begins with the IP header."""
    load_byte, load_half, load_half_at_x, ip_header_length = 0x30, 0x28, 0x48, 0xB1
    mask, equal, give = 0x54, 0x15, 0x06
    steps = [
        (load_byte, 0, 0, 0),
        (mask, 0, 0, 0xF0),
        (equal, 0, 5, 0x40),  # not IPv4: to the line of IPv6
        (load_byte, 0, 0, 9),
        (equal, 0, 9, socket.IPPROTO_TCP),
        (ip_header_length, 0, 0, 0),
        (load_half_at_x, 0, 0, 2),
        (equal, 5, 6, port),
        (equal, 0, 5, 0x60),
        (load_byte, 0, 0, 6),
        (equal, 0, 3, socket.IPPROTO_TCP),
        (load_half, 0, 0, 42),
        (equal, 0, 1, port),
        (give, 0, 0, _PACKET_BYTES),
        (give, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def ask(url: str, auth_string: str, tls: Mapping[str, object], mark: str, timeout: float) -> str:
    """Sends one marked request to an API's URL, over a connection of its own, and returns its answer in words."""
    request = Request(f"{url}{PATH}?prefect-drain={mark}", auth_string=auth_string, tls=tls)
    try:
        return fetch(request, timeout).summary()
    except NetError as error:
        return str(error)


def confirm(
    balancers: Sequence[str],
    ask: Callable[[str, str, float], str],
    arrived: Callable[[], set[str]],
    timeout: float,
    *,
    mark: Callable[[], str] = lambda: secrets.token_hex(8),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    interval: float = 0.1,
) -> Confirmed:
    """Sends requests through each balancer until one of them has arrived here, for at most ``timeout`` seconds; at least one each.

    ``ask`` takes URL, mark and seconds, and returns the answer in words. ``arrived`` returns the marks seen here.
    """
    begun = clock()
    missing = dict.fromkeys(balancers, "")
    sent: dict[str, str] = {}
    while True:
        for url in list(missing):
            left = timeout - (clock() - begun)
            if left <= 0 and missing[url]:
                break
            one = mark()
            sent[one] = url
            missing[url] = ask(url, one, max(min(_REQUEST_SECONDS, left), 0.1))
        for one in arrived():
            if one in sent:
                missing.pop(sent[one], None)
        elapsed = clock() - begun
        if not missing or elapsed >= timeout:
            return Confirmed(missing, len(sent), elapsed)
        sleep(min(interval, timeout - elapsed))
