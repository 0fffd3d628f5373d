from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._sockets import Listener, Owner, conflicts, listeners, owner, unit_of

ANY = str(ipaddress.IPv4Address(0))
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = HEAD + (
    "   0: 0100007F:1068 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n"
    "   1: 00000000:1069 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0\n"
    "   2: 0100007F:1068 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0\n"
)
TCP6 = HEAD + (
    "   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A 0:0 0:0 0     0        0 14 1\n"
    "   1: 00000000000000000000000001000000:1389 00000000000000000000000000000000:0000 0A 0:0 0:0 0     0        0 15 1\n"
    "   2: 0000000000000000FFFF00000100007F:138A 00000000000000000000000000000000:0000 0A 0:0 0:0 0     0        0 16 1\n"
)


def proc(root: Path) -> Path:
    """A /proc with two tables and one process."""
    (root / "net").mkdir()
    (root / "net" / "tcp").write_text(TCP)
    (root / "net" / "tcp6").write_text(TCP6)
    process = root / "812"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("/dev/null")
    (process / "fd" / "4").symlink_to("socket:[11]")
    (process / "comm").write_text("nginx\n")
    (process / "cgroup").write_text("0::/system.slice/nginx.service\n")
    (root / "self").mkdir()
    return root


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is that of a little-endian machine")
def test_listeners(tmp_path: Path) -> None:
    found = [(each.shown(), each.inode) for each in listeners(str(proc(tmp_path)))]
    assert found == [
        ("127.0.0.1:4200", 11),
        ("0.0.0.0:4201", 12),
        ("[::]:5000", 14),
        ("[::1]:5001", 15),
        ("127.0.0.1:5002", 16),
    ]


def test_no_ipv6(tmp_path: Path) -> None:
    root = proc(tmp_path)
    (root / "net" / "tcp6").unlink()
    assert len(listeners(str(root))) == 2


@pytest.mark.parametrize(
    ("inode", "who"),
    [
        (11, Owner("nginx.service", "nginx (process 812, unit nginx.service)")),
        (99, Owner("", "a process that cannot be seen from here")),
    ],
)
def test_owner(tmp_path: Path, inode: int, who: Owner) -> None:
    assert owner(Listener(ipaddress.ip_address("::"), 1, inode), str(proc(tmp_path))) == who


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
    listener = Listener(ipaddress.ip_address(taken), 4200, 1)
    assert (conflicts([listener], 4200, wanted) == [listener]) is clash
    assert conflicts([listener], 4201, wanted) == []
