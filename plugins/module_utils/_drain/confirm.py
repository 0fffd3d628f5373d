# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Does a balancer send requests to a server of this host again? The role nginx's says so in the answer to a probe.

That a server accepts connections proves little: monitoring and a balancer's own health checks connect too, while users are still sent
elsewhere. A foreign balancer does not say which server answered; it only gets some time.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Request, fetch
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError

PATH = "/admin/version"
"""Cheap, and sent where a balancer sends most requests: health often has a way of its own."""
PROBE, SERVER = "X-Prefect-Probe", "X-Prefect-Server"
"""The header of a probe, and that of the answer, which names the server."""

_REQUEST_SECONDS = 3.0

Ask = Callable[[str, float], Answer]


@dataclass(frozen=True)
class Confirmed:
    """How the asking ended: the last answer through each balancer that did not lead here, requests sent, and seconds.

    ``unnamed`` are the balancers among them whose answers name no server.
    """

    missing: dict[str, str]
    requests: int
    elapsed: float
    unnamed: set[str] = field(default_factory=set)


def ask(url: str, auth_string: str, tls: Mapping[str, object], timeout: float) -> Answer:
    """Sends one probe to an API's URL. Raises NetError when there is no answer."""
    return fetch(Request(f"{url}{PATH}", auth_string=auth_string, tls=tls, headers={PROBE: "1"}), timeout)


def is_here(server: str, port: int) -> bool:
    """Whether a server, as ``address:port``, is the one on this port of this host."""
    address, _colon, its_port = server.rpartition(":")
    address = address.strip("[]")
    if its_port != str(port):
        return False
    # A way to an own address begins at that address. Nothing is sent.
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as way:
        try:
            way.connect((address, port))
        except OSError:
            return False
        return str(way.getsockname()[0]) == address


def confirm(
    balancers: Sequence[str],
    ask: Ask,
    here: Callable[[str], bool],
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    interval: float = 0.1,
) -> Confirmed:
    """Sends probes through each balancer until one has led here, for at most ``timeout`` seconds; at least one each.

    A balancer whose answer names no server gets one request, and the time is waited for in full.
    """
    begun = clock()
    missing = dict.fromkeys(balancers, "")
    unnamed: set[str] = set()
    requests = 0
    while True:
        for url in [url for url in missing if url not in unnamed]:
            left = timeout - (clock() - begun)
            if left <= 0 and missing[url]:
                break
            requests += 1
            try:
                answer = ask(url, max(min(_REQUEST_SECONDS, left), 0.1))
            except NetError as error:
                missing[url] = str(error)
                continue
            server = answer.headers.get(SERVER.lower(), "")
            missing[url] = f"{answer.summary()} from {server}" if server else f"{answer.summary()}, which names no server"
            if not server:
                unnamed.add(url)
            elif here(server):
                del missing[url]
        elapsed = clock() - begun
        if not missing or elapsed >= timeout:
            return Confirmed(missing, requests, elapsed, unnamed)
        sleep(min(timeout if unnamed.issuperset(missing) else interval, timeout - elapsed))
