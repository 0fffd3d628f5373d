"""Ports for what tools and tests start on this machine."""

from __future__ import annotations

import contextlib
import random
import socket

TRIES = 100
# Below those that Linux gives to outgoing connections by default (ip_local_port_range): none of those takes it before it is used.
FIRST, LAST = 20000, 32767


def free_port() -> int:
    """A port that nothing listens on, on any IPv4 address of this machine.

    Raises OSError if none was found.
    """
    for port in random.sample(range(FIRST, LAST + 1), TRIES):
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port
    raise OSError(f"none of {TRIES} ports between {FIRST} and {LAST} is free")
