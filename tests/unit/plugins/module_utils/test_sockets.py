from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.sockets import (
    Connection,
    Listener,
    Owner,
    conflicts,
    connections,
    listeners,
    owner,
    unit_of,
)

ANY = str(ipaddress.IPv4Address(0))


def saying(output: str, rc: int = 0) -> Any:
    """A command that prints this."""

    def run(argv: list[str], _seconds: float) -> Finished:
        assert argv[0] == "ss"
        return Finished(rc, output)

    return run


LISTENING = """\
LISTEN 0      4096    127.0.0.1:4200  0.0.0.0:* users:(("nginx",pid=812,fd=4),("nginx",pid=813,fd=4))
LISTEN 0      128       0.0.0.0:4201  0.0.0.0:*
LISTEN 0      128             *:5000        *:* users:(("a (b)",pid=7,fd=3))
LISTEN 0      128          [::]:5001     [::]:*
LISTEN 0      128         [::1]:5002     [::]:*
LISTEN 0      128 [::ffff:127.0.0.1]:5003   *:*
LISTEN 0      128 127.0.0.53%lo:53    0.0.0.0:*

"""


def test_listeners() -> None:
    assert [(each.shown(), each.name, each.pid) for each in listeners(saying(LISTENING))] == [
        ("127.0.0.1:4200", "nginx", 812),
        ("0.0.0.0:4201", "", 0),
        ("[::]:5000", "a (b)", 7),
        ("[::]:5001", "", 0),
        ("[::1]:5002", "", 0),
        ("127.0.0.1:5003", "", 0),
        ("127.0.0.53:53", "", 0),
    ]


@pytest.mark.parametrize("listed", [listeners, lambda command: connections(4200, command)])
def test_sockets_that_cannot_be_listed(listed: Any) -> None:
    with pytest.raises(OSError, match="ss cannot be run: No such file or directory"):
        listed(saying("ss cannot be run: No such file or directory", 127))


@pytest.mark.parametrize(
    ("line", "connection"),
    [
        (
            "ESTAB 0      7      10.0.0.1:4200 10.0.0.9:40112 cubic bytes_sent:107 bytes_acked:100 bytes_received:200 lastrcv:40",
            Connection(True, 200, 100, 7, 40),
        ),
        ("ESTAB 7      0      [fd00::1]:4200 [fd00::9]:40112 cubic bytes_received:7", Connection(True, 7, 0, 0, 0, 7)),
        ("SYN-RECV 0   0      10.0.0.1:4200 10.0.0.9:40112", Connection(False, 0, 0, 0, 0)),
    ],
)
def test_connections(line: str, connection: Connection) -> None:
    assert connections(4200, saying(f"{line}\n")) == [connection]


@pytest.mark.parametrize(
    ("connection", "in_flight"),
    [
        (Connection(established=False, received=0, answered=0, unsent=0, quiet=0), True),  # about to be established
        (Connection(established=True, received=0, answered=0, unsent=0, quiet=10), True),  # its request may be on the way
        (Connection(established=True, received=0, answered=0, unsent=0, quiet=5000), False),  # never said anything
        (Connection(established=True, received=300, answered=0, unsent=0, quiet=60000), True),  # waits for its answer
        (Connection(established=True, received=300, answered=1000, unsent=9000, quiet=60000), True),  # its answer is on the way
        (Connection(established=True, received=300, answered=160, unsent=0, quiet=5), False),  # a websocket
        (Connection(established=True, received=300, answered=160, unsent=0, quiet=5, unread=77), True),  # a request after the handshake
    ],
)
def test_in_flight(connection: Connection, in_flight: bool) -> None:
    assert connection.in_flight() is in_flight


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
                until(port, lambda found: found.answered == 6 and found.unread == 7 and found.in_flight())
                server.recv(7)
                until(port, lambda found: found.answered == 6 and not found.in_flight())
        assert connections(port) == []


@pytest.mark.parametrize(
    ("pid", "who"),
    [
        (812, Owner("nginx.service", "nginx (process 812, unit nginx.service)")),
        (7, Owner("", "nginx (process 7)")),
        (0, Owner("", "a process that cannot be seen from here")),
    ],
)
def test_owner(tmp_path: Path, pid: int, who: Owner) -> None:
    (tmp_path / "812").mkdir()
    (tmp_path / "812" / "cgroup").write_text("0::/system.slice/nginx.service\n")
    assert owner(Listener(ipaddress.ip_address("::"), 1, "nginx", pid), str(tmp_path)) == who


def test_this_very_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = conflicts(listeners(), port, "127.0.0.1")
        assert owner(found).description.startswith(("python", "pytest"))


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/system-prefect\\x2dapi.slice/prefect-api@4200.service\n", "prefect-api@4200.service"),
        ("1:name=systemd:/docker/0a/system.slice/redis-server.service\n0::/\n", "redis-server.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/system.slice/docker.service/inner\n", "docker.service"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_unit_of(cgroup: str, unit: str) -> None:
    assert unit_of(cgroup) == unit


@pytest.mark.parametrize(
    ("wanted", "taken", "clash"),
    [
        ("", "127.0.0.1", True),
        (ANY, "127.0.0.1", True),
        ("10.0.0.1", ANY, True),
        ("10.0.0.1", "::", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "127.0.0.1", False),
        (ANY, "::1", False),
        ("::", "10.0.0.1", True),
        ("[::1]", "::1", True),
        ("localhost", "10.0.0.1", True),
    ],
)
def test_conflicts(wanted: str, taken: str, clash: bool) -> None:
    listener = Listener(ipaddress.ip_address(taken), 4200)
    assert (conflicts([listener], 4200, wanted) == [listener]) is clash
    assert conflicts([listener], 4201, wanted) == []
