from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._connections import Connection, connections, parse


@pytest.mark.parametrize(
    ("connection", "in_flight"),
    [
        (Connection(established=False, received=0, answered=0, unsent=0, quiet=0), True),  # about to be established
        (Connection(established=True, received=0, answered=0, unsent=0, quiet=10), True),  # its request may be on the way
        (Connection(established=True, received=0, answered=0, unsent=0, quiet=5000), False),  # never said anything
        (Connection(established=True, received=300, answered=0, unsent=0, quiet=60000), True),  # waits for its answer
        (Connection(established=True, received=300, answered=1000, unsent=9000, quiet=60000), True),  # its answer is on the way
        (Connection(established=True, received=300, answered=160, unsent=0, quiet=5), False),  # a websocket
    ],
)
def test_in_flight(connection: Connection, in_flight: bool) -> None:
    assert connection.in_flight() is in_flight


def diagnosed(state: int, unsent: int, *attributes: bytes) -> bytes:
    return bytes([socket.AF_INET, state, 0, 0]) + bytes(48) + struct.pack("=IIIII", 0, 0, unsent, 0, 0) + b"".join(attributes)


def attribute(kind: int, value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + padded


def information(quiet: int, answered: int, received: int, length: int = 280) -> bytes:
    content = bytearray(280)
    struct.pack_into("=I", content, 52, quiet)
    struct.pack_into("=QQ", content, 120, answered, received)
    return attribute(2, bytes(content[:length]))


@pytest.mark.parametrize(
    ("message", "connection"),
    [
        (diagnosed(1, 7, attribute(8, b"x"), information(40, 100, 200)), Connection(True, 200, 100, 7, 40)),
        (diagnosed(3, 0), Connection(False, 0, 0, 0, 0)),
        # A kernel too old to count bytes: everything then waits for an answer.
        (diagnosed(1, 0, information(40, 100, 200, length=104)), Connection(True, 0, 0, 0, 40)),
    ],
)
def test_parse(message: bytes, connection: Connection) -> None:
    assert parse(message) == connection


def until(port: int, wanted: Callable[[Connection], bool]) -> Connection:
    for _attempt in range(100):
        found = connections(port)
        if len(found) == 1 and wanted(found[0]):
            return found[0]
        time.sleep(0.02)
    raise AssertionError(found)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_life_of_a_connection(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with listener:
        port = listener.getsockname()[1]
        assert connections(port) == []
        with socket.create_connection((address, port)) as client:
            until(port, lambda found: found.received == 0 and found.in_flight())
            server, _peer = listener.accept()
            with server:
                client.sendall(b"request")
                until(port, lambda found: found.received == 7 and found.in_flight())
                server.sendall(b"answer")
                until(port, lambda found: found.answered == 6 and not found.in_flight())
        assert connections(port) == []
