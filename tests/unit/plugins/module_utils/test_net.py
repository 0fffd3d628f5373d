from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base import net as _net
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError, reach, tls_context, within


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_deadline() -> None:
    clock = Clock()
    deadline = Deadline(10, clock)
    assert deadline.left() == 10
    clock.now += 8
    assert deadline.left() == 2
    clock.now += 8
    assert (deadline.left(), deadline.passed()) == (0, True)


def test_within() -> None:
    assert within(Deadline(5), lambda: "done") == "done"
    with pytest.raises(KeyError):
        within(Deadline(5), lambda: {"a": 1}["b"])


def test_whatever_takes_too_long_is_not_waited_for() -> None:
    started = time.monotonic()
    with pytest.raises(NetError, match=r"did not answer within 0.2 s"):
        within(Deadline(0.2), lambda: time.sleep(30))
    assert time.monotonic() - started < 2


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetError, match="nothing listens there"):
        reach("127.0.0.1", port, Deadline(2))


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(NetError, match=r"its name does not resolve .Name or service not known"):
        reach("nowhere", 1, Deadline(2))


def test_a_dead_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30))
    started = time.monotonic()
    with pytest.raises(NetError, match=r"its name was not resolved within 0\.2 s"):
        reach("nowhere", 1, Deadline(0.2))
    assert time.monotonic() - started < 5


def test_the_second_address_is_tried(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    greeted = threading.Event()
    port = serve(lambda _peer: greeted.set())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each)) for each in (closed, port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    reach("somewhere", port, Deadline(2))
    assert greeted.wait(2)


@pytest.mark.parametrize(
    ("options", "checks"), [({"enabled": True}, True), ({"check_hostname": False}, False), ({"verify": False, "cafile": ""}, True)]
)
def test_tls_is_always_verified(options: Any, checks: bool) -> None:
    context = tls_context(options)
    assert context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, checks)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


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
        # As asyncio has it.
        (OSError(113, "Connect call failed ('10.0.0.1', 5432)"), "cannot be reached: No route to host"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] no"),
            "nothing listens there",
        ),
    ],
)
def test_describe(error: OSError, message: str) -> None:
    assert message in _net.describe(error, Deadline(1))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (10, "has a certificate that is not trusted here: certificate has expired"),
        (62, "has a certificate for other names: certificate has expired"),
        (64, "has a certificate for other names"),
    ],
)
def test_what_is_wrong_with_a_certificate(code: int, message: str) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "certificate has expired"
    assert message in _net.describe(error, Deadline(1))


def test_the_cause_is_told_and_not_the_librarys_words() -> None:
    try:
        try:
            raise ConnectionRefusedError
        except OSError as error:
            raise RuntimeError("no connection") from error
    except RuntimeError as error:
        assert "nothing listens there" in _net.describe(error, Deadline(1))
