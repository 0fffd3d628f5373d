from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils import _net
from ansible_collections.selfhosted.prefect.plugins.module_utils._net import Deadline, NetError, open_stream, tls_context


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_deadline() -> None:
    clock = Clock()
    deadline = Deadline(10, clock)
    assert deadline.left() == 10
    assert deadline.no_later_than(3).left() == 3
    clock.now += 8
    assert deadline.no_later_than(3).left() == 2
    clock.now += 8
    assert (deadline.left(), deadline.passed()) == (0, True)


def test_reads_what_it_is_asked_for(serve: Any) -> None:
    def talk(peer: socket.socket) -> None:
        peer.sendall(b"one\r\ntw")
        peer.sendall(b"o\r\nrest")

    stream = open_stream("127.0.0.1", serve(talk), Deadline(5))
    assert (stream.read_line(), stream.read_line(), stream.read(2), stream.read_some(), stream.read_some()) == (
        b"one",
        b"two",
        b"re",
        b"st",
        b"",
    )
    stream.close()


def drip(peer: socket.socket) -> None:
    for _drop in range(50):
        peer.sendall(b".")
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (lambda _: None, "closed the connection before it had answered"),
        (lambda peer: peer.recv(1), "did not answer within 0.3 s"),
        # Something each 0.1 s, but never a whole line: the time in all is what counts.
        (drip, "did not answer within 0.3 s"),
    ],
    ids=["closes", "silent", "drips"],
)
def test_no_answer(serve: Any, talk: Callable[[socket.socket], None], message: str) -> None:
    started = time.monotonic()
    stream = open_stream("127.0.0.1", serve(talk), Deadline(0.3))
    with pytest.raises(NetError, match=message):
        stream.read_line()
    stream.close()
    assert time.monotonic() - started < 2


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetError, match="nothing listens there"):
        open_stream("127.0.0.1", port, Deadline(2))


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NetError, match=r"its name does not resolve .Name or service not known"):
        open_stream("nowhere", 1, Deadline(2))


def test_a_dead_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30))
    started = time.monotonic()
    with pytest.raises(NetError, match=r"its name was not resolved within 0\.2 s"):
        open_stream("nowhere", 1, Deadline(0.2))
    assert time.monotonic() - started < 5


def test_the_second_address_is_tried(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    port = serve(lambda peer: peer.sendall(b"hello\r\n"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each)) for each in (closed, port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    stream = open_stream("somewhere", port, Deadline(2))
    assert stream.read_line() == b"hello"
    stream.close()


@pytest.mark.parametrize(
    ("options", "verifies", "checks"),
    [
        ({"enabled": True}, ssl.CERT_REQUIRED, True),
        ({"check_hostname": False}, ssl.CERT_REQUIRED, False),
        ({"verify": False}, ssl.CERT_NONE, False),
    ],
)
def test_tls_context(options: Any, verifies: int, checks: bool) -> None:
    context = tls_context(options)
    assert context
    assert (context.verify_mode, context.check_hostname) == (verifies, checks)


@pytest.mark.parametrize("options", [{}, {"enabled": False, "ca_file": "/nowhere"}])
def test_no_tls(options: Any) -> None:
    assert tls_context(options) is None


def test_tls_names_the_missing_file() -> None:
    with pytest.raises(NetError, match=r"because of the files /nowhere/ca\.pem"):
        tls_context({"ca_file": "/nowhere/ca.pem"})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ssl.SSLEOFError(), "dropped the connection"),
        (ConnectionResetError(), "dropped the connection"),
        (TimeoutError(), "did not answer within 1 s"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "does not speak TLS as expected"),
        (OSError(113, "No route to host"), "cannot be reached: No route to host"),
    ],
)
def test_describe(error: OSError, message: str) -> None:
    assert message in _net.describe(error, Deadline(1))
