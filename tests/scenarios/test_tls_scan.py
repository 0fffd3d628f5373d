"""The scan of the labs' ports against small servers of the test's own: it must see everything that is wrong, and nothing that is not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tls_scan
from lab import Lab

from tests.authority import Authority

HTTP = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue"
REDIRECT = b"HTTP/1.1 308 Permanent Redirect\r\nServer: nginx\r\nLocation: https://127.0.0.1/api\r\n\r\n"
HANDSHAKE = b"\x16"
POSTGRES_ERROR = b"E\0\0\0\x0cSFATAL\0\0"
POSTGRES_LOGIN = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"

Serve = Callable[..., tls_scan.Listener]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that speaks TLS with a context, if it has one, and has one answer for plain text."""
    sockets: list[socket.socket] = []

    def start(context: ssl.SSLContext | None, plain: bytes = b"", program: str = "nginx", offer: bytes = b"S") -> tls_scan.Listener:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def talk(peer: socket.socket) -> None:
            if peer.recv(8, socket.MSG_PEEK) == tls_scan.SSL_REQUEST:
                peer.recv(8)
                peer.sendall(offer)
            if context and peer.recv(1, socket.MSG_PEEK) == HANDSHAKE:
                with context.wrap_socket(peer, server_side=True) as session:
                    session.recv(1)
                return
            peer.recv(1 << 16)
            peer.sendall(plain)

        def loop() -> None:
            while True:
                try:
                    peer, _address = listener.accept()
                except OSError:
                    return
                with peer, contextlib.suppress(OSError):
                    talk(peer)

        threading.Thread(target=loop, daemon=True).start()
        return tls_scan.Listener("host", "127.0.0.1", listener.getsockname()[1], program)

    yield start
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def old(context: ssl.SSLContext) -> ssl.SSLContext:
    """A server's context with everything that a client may still take."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def strong(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    return context


@pytest.mark.parametrize(
    ("program", "plain"),
    [
        ("nginx", REDIRECT),
        ("nginx", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("python", b""),
        ("redis-server", b"\x15\x03\x03\0\x02\x02\x46"),
        ("postgres", POSTGRES_ERROR),
    ],
)
def test_a_port_as_it_should_be(authority: Authority, serve: Serve, program: str, plain: bytes) -> None:
    found = tls_scan.scan(serve(strong(authority.context("127.0.0.1")), plain, program), authority.file)
    assert (found.version, found.problems) == ("TLSv1.3", ())
    assert str(found).endswith("TLSv1.3  ok")


def test_a_version_and_ciphers_of_the_past(authority: Authority, serve: Serve) -> None:
    found = tls_scan.scan(serve(old(authority.context("127.0.0.1"))), authority.file)
    assert [problem.partition(":")[0] for problem in found.problems] == ["takes a version before TLS 1.2", "takes a weak cipher"]
    assert "TLSv1.1" in found.problems[0]


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE+AESGCM:ECDHE+AES"])
def test_a_weak_cipher_beside_others(authority: Authority, serve: Serve, ciphers: str) -> None:
    context = authority.context("127.0.0.1")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    (problem,) = tls_scan.scan(serve(context), authority.file).problems
    assert problem.startswith("takes a weak cipher: TLSv1.2 ECDHE-ECDSA-AES")


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (["10.0.0.1", "localhost"], 1, "IP address mismatch"),
        (["127.0.0.1"], -1, "certificate has expired"),
    ],
)
def test_a_certificate_that_does_not_hold(authority: Authority, serve: Serve, names: list[str], days: float, words: str) -> None:
    (problem,) = tls_scan.scan(serve(authority.context(*names, days=days)), authority.file).problems
    assert problem.startswith("does not verify as 127.0.0.1: ")
    assert words in problem


def test_a_certificate_of_another_authority(authority: Authority, serve: Serve, tmp_path: Path) -> None:
    listener = serve(authority.context("127.0.0.1"))
    (problem,) = tls_scan.scan(listener, Authority(tmp_path, "other").file).problems
    assert "unable to get local issuer certificate" in problem
    with pytest.raises(tls_scan.RefusedError):
        tls_scan.served(listener, Authority(tmp_path, "third").file)


def test_what_is_served(authority: Authority, serve: Serve) -> None:
    context = authority.context("127.0.0.1", file="this")
    assert tls_scan.served(serve(context, program="postgres"), authority.file) == (authority.folder / "this.crt").read_text()


@pytest.mark.parametrize(
    ("program", "plain", "words"),
    [
        ("python", HTTP, "answers HTTP in plain text: HTTP/1.1 200 OK"),
        ("python", b"HTTP/1.1 401 Unauthorized\r\n\r\n", "answers HTTP in plain text: HTTP/1.1 401"),
        ("nginx", REDIRECT.replace(b"https:", b"http:"), "answers HTTP in plain text: HTTP/1.1 308"),
        ("redis-server", b"-NOAUTH Authentication required.\r\n", "answers Redis's protocol in plain text"),
        ("postgres", POSTGRES_LOGIN, "asks for a login in plain text"),
    ],
)
def test_plain_text(authority: Authority, serve: Serve, program: str, plain: bytes, words: str) -> None:
    (problem,) = tls_scan.scan(serve(strong(authority.context("127.0.0.1")), plain, program), authority.file).problems
    assert problem.startswith(words)
    (problem,) = tls_scan.scan(serve(None, plain, program, offer=b"N"), authority.file).problems
    assert problem.startswith("does not verify as 127.0.0.1: ")


def test_a_port_that_only_redirects(authority: Authority, serve: Serve) -> None:
    found = tls_scan.scan(serve(None, REDIRECT), authority.file)
    assert (found.version, found.problems) == ("redirect", ())


def test_nothing_there(authority: Authority) -> None:
    (problem,) = tls_scan.scan(tls_scan.Listener("host", "127.0.0.1", 1, "x"), authority.file).problems
    assert problem.startswith("cannot be reached: ")


def test_what_this_machine_cannot_try_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise tls_scan.RefusedError("NO_PROTOCOLS_AVAILABLE")

    monkeypatch.setattr(tls_scan, "handshake", refuse)
    listener = tls_scan.Listener("host", "127.0.0.1", 1, "x")
    assert tls_scan.taken(listener, "TLS 1.0", tls_scan.EVERY, ssl.TLSVersion.TLSv1_1) == [
        "whether it takes TLS 1.0 cannot be told: NO_PROTOCOLS_AVAILABLE"
    ]


SHOWN = """\
LISTEN 0      244        172.28.1.11:5432      0.0.0.0:*    users:(("postgres",pid=812,fd=7))
LISTEN 0      244          127.0.0.1:5432      0.0.0.0:*    users:(("postgres",pid=812,fd=6))
LISTEN 0      128            0.0.0.0:22        0.0.0.0:*    users:(("sshd",pid=60,fd=3))
LISTEN 0      4096                 *:22              *:*    users:(("sshd",pid=60,fd=3),("systemd",pid=1,fd=58))
LISTEN 0      4096        127.0.0.11:41297     0.0.0.0:*
LISTEN 0      4096     127.0.0.53%lo:53        0.0.0.0:*    users:(("systemd-resolve",pid=50,fd=14))
LISTEN 0      511            0.0.0.0:4200      0.0.0.0:*    users:(("nginx",pid=9,fd=5),("nginx",pid=8,fd=5))
LISTEN 0      511               [::]:4200         [::]:*    users:(("nginx",pid=9,fd=6),("nginx",pid=8,fd=6))
LISTEN 0      511              [::1]:6379         [::]:*    users:(("redis-server",pid=7,fd=7))
LISTEN 0      511   [fd00:28:8::11%eth0]:6379     [::]:*    users:(("redis-server",pid=7,fd=8))
LISTEN 0      4096                 *:9100            *:*    users:(("prometheus-node",pid=5,fd=3))
"""


def test_the_ports_that_others_can_reach() -> None:
    assert tls_scan.listeners("one", "172.28.1.11", SHOWN) == [
        tls_scan.Listener("one", "172.28.1.11", 4200, "nginx"),
        tls_scan.Listener("one", "172.28.1.11", 5432, "postgres"),
        tls_scan.Listener("one", "fd00:28:8::11", 6379, "redis-server"),
        tls_scan.Listener("one", "172.28.1.11", 9100, "prometheus-node"),
    ]


@pytest.mark.parametrize(("problems", "hosts", "code"), [((), ("a",), 0), (("x",), ("a",), 1), ((), ("a", "b"), 1)])
def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problems: tuple[str, ...], hosts: tuple[str, ...], code: int
) -> None:
    finding = tls_scan.Finding(tls_scan.Listener("a", "10.0.0.1", 1, "x"), "TLSv1.3", problems)
    monkeypatch.setattr(tls_scan, "scan_hosts", lambda lab, addresses: [finding] * (lab == Lab("ha", 0) and len(addresses) == len(hosts)))
    assert tls_scan.main(["ha", *(f"{host}=10.0.0.1" for host in hosts)]) == code
    assert ("nothing listens on b" in capsys.readouterr().out) is (len(hosts) == 2)
