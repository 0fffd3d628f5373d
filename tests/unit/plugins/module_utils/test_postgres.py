"""The protocol against a fake server; SCRAM-SHA-256 against the example of RFC 7677."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._postgres import (
    PostgresError,
    Scram,
    connect_postgres,
    literal,
    md5_password,
    quoted,
    saslprep,
    version_number,
)

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
READY = b"Z\0\0\0\x05I"
LOGIN_OK = b"R\0\0\0\x08\0\0\0\0"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def error(code: str, text: str) -> bytes:
    return message(b"E", f"SFATAL\0C{code}\0M{text}\0\0".encode())


def authentication(number: int, rest: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", number) + rest)


def row(*values: str | None) -> bytes:
    body = struct.pack("!h", len(values))
    for value in values:
        encoded = b"" if value is None else value.encode()
        body += struct.pack("!i", -1 if value is None else len(encoded)) + encoded
    return message(b"D", body)


class Server:
    """Sends one prepared piece after each message it gets (or what a function makes of that message), and remembers the messages.

    The question for TLS comes first, is answered with ``tls`` and is not remembered.
    """

    tls = b"N"
    asked_for_tls = False

    def __init__(self, serve: Any, *pieces: bytes | Callable[[bytes], bytes]) -> None:
        self.messages: list[bytes] = []
        self._pieces = pieces
        self.parts = {"host": "127.0.0.1", "port": serve(self._talk), "user": "prefect", "password": "secret", "dbname": "app"}

    def _talk(self, peer: socket.socket) -> None:
        with peer.makefile("rb") as stream:
            if peer.recv(8, socket.MSG_PEEK)[4:] == SSL_REQUEST[4:]:
                self.asked_for_tls = True
                stream.read(8)
                peer.sendall(self.tls)
            for number, piece in enumerate(self._pieces):
                kind = stream.read(1) if number else b""
                size = stream.read(4)
                if len(size) < 4:
                    return
                body = stream.read(struct.unpack("!i", size)[0] - 4)
                self.messages.append(kind + body)
                peer.sendall(piece if isinstance(piece, bytes) else piece(body))


def test_login_and_query(serve: Any) -> None:
    version = message(b"S", b"server_version\x0014.8 (Debian)\0")
    answer = message(b"T", b"\0\0") + row("15", None) + row("\xe9", "") + message(b"C", b"SELECT 2\0") + READY
    server = Server(serve, LOGIN_OK + version + READY, answer)
    with connect_postgres(server.parts, 5, options={"application_name": "check"}) as session:
        assert session.parameters["server_version"] == "14.8 (Debian)"
        assert session.query("SELECT x") == [("15", None), ("\xe9", "")]
    startup = server.messages[0]
    assert startup.startswith(struct.pack("!i", 196608))
    assert b"user\0prefect\0" in startup and b"database\0app\0" in startup and b"application_name\0check\0" in startup
    assert server.messages[1] == b"QSELECT x\0"


def test_a_failed_query_leaves_the_session_usable(serve: Any) -> None:
    server = Server(serve, LOGIN_OK + READY, error("42P01", "no such table") + READY, row("1") + READY)
    with connect_postgres(server.parts, 5) as session:
        with pytest.raises(PostgresError, match="no such table") as caught:
            session.query("SELECT x")
        assert caught.value.code == "42P01"
        assert session.query("SELECT 1") == [("1",)]


@pytest.mark.parametrize(
    ("asks", "answers"),
    [
        (authentication(3), b"psecret\0"),
        (authentication(5, b"salt"), b"p" + md5_password("prefect", "secret", b"salt") + b"\0"),
    ],
    ids=["password", "md5"],
)
def test_older_logins(serve: Any, asks: bytes, answers: bytes) -> None:
    server = Server(serve, asks, LOGIN_OK + READY)
    connect_postgres(server.parts, 5).close()
    assert server.messages[1] == answers


class ScramServer:
    """The server's side of SCRAM-SHA-256, knowing one password."""

    def __init__(self, password: str) -> None:
        self.salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 4096)
        self.first = ""
        self.bare = ""

    def challenge(self, body: bytes) -> bytes:
        self.bare = body.partition(b"n,,")[2].decode()
        self.first = f"{self.bare.partition(',')[2]}SERVER,s={base64.b64encode(b'salt').decode()},i=4096"
        return authentication(11, self.first.encode())

    def verdict(self, body: bytes) -> bytes:
        unproved, _comma, proof = body.decode().rpartition(",p=")
        signed = f"{self.bare},{self.first},{unproved}".encode()
        key = self.hmac(self.salted, b"Client Key")
        expected = bytes(a ^ b for a, b in zip(key, self.hmac(hashlib.sha256(key).digest(), signed), strict=True))
        if base64.b64decode(proof) != expected:
            return error("28P01", "password authentication failed")
        signature = self.hmac(self.hmac(self.salted, b"Server Key"), signed)
        return authentication(12, b"v=" + base64.b64encode(signature)) + LOGIN_OK + READY

    @staticmethod
    def hmac(key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, hashlib.sha256).digest()


@pytest.mark.parametrize("password", ["secret", "p@ss w'd \" \\ \xe9 %"])
def test_scram_over_the_wire(serve: Any, password: str) -> None:
    peer = ScramServer(password)
    server = Server(serve, authentication(10, b"SCRAM-SHA-256\0\0"), peer.challenge, peer.verdict)
    connect_postgres({**server.parts, "password": password}, 5).close()
    assert server.messages[1].startswith(b"pSCRAM-SHA-256\0")
    with pytest.raises(PostgresError, match="password authentication failed"):
        connect_postgres({**server.parts, "password": "wrong"}, 5)


@pytest.mark.parametrize(
    ("answer", "kind", "text", "code"),
    [
        (error("28P01", "password authentication failed"), PostgresError, "password authentication failed", "28P01"),
        (error("3D000", 'database "app" does not exist'), PostgresError, "does not exist", "3D000"),
        (authentication(7), PostgresError, "not known here .number 7", ""),
        (authentication(10, b"SCRAM-SHA-512\0\0"), PostgresError, "no SCRAM-SHA-256", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NetError, "did not answer as PostgreSQL does", None),
        (b"\0\0\0\0\0", NetError, "did not answer as PostgreSQL does", None),
        (b"", NetError, "closed the connection", None),
    ],
)
def test_refusals(serve: Any, answer: bytes, kind: type[Exception], text: str, code: str | None) -> None:
    with pytest.raises(kind, match=text) as caught:
        connect_postgres(Server(serve, answer).parts, 2)
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize(
    ("tls", "answer", "text"),
    [
        ({"enabled": True}, b"N", "does not offer TLS"),
        ({"check_hostname": False}, b"N", "does not offer TLS"),
        ({"enabled": True}, b"E", "did not answer as PostgreSQL does"),
        # Whatever follows the S is no TLS here, and the password must not go out in clear.
        ({}, b"S-", "does not speak TLS as expected|dropped the connection"),
    ],
)
def test_tls_refused(serve: Any, tls: Any, answer: bytes, text: str) -> None:
    server = Server(serve)
    server.tls = answer
    with pytest.raises(NetError, match=text):
        connect_postgres({**server.parts, "tls": tls}, 2)
    assert server.messages == []


@pytest.mark.parametrize(("tls", "asks"), [({}, True), (None, True), ({"enabled": False}, False)])
def test_tls_is_preferred_unless_switched_off(serve: Any, tls: Any, asks: bool) -> None:
    server = Server(serve, LOGIN_OK + READY)
    connect_postgres({**server.parts, "tls": tls}, 2).close()
    assert server.asked_for_tls is asks


def rfc7677() -> Scram:
    return Scram("pencil", "user", "rOprNGfwEbeRWgbNEkqO")


SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_scram_example() -> None:
    scram = rfc7677()
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.final(SERVER_FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    scram.verify(SERVER_FINAL)


@pytest.mark.parametrize("final", [b"v=AAAA", b"", b"e=other-error"])
def test_scram_server_without_proof(final: bytes) -> None:
    scram = rfc7677()
    scram.final(SERVER_FIRST)
    with pytest.raises(PostgresError, match="did not prove"):
        scram.verify(final)


@pytest.mark.parametrize(
    "first",
    [
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"i=4096", b"i=0"),
        SERVER_FIRST.replace(b"i=4096", b"i=99999999"),
        SERVER_FIRST.replace(b"i=4096", b"i=x"),
        b"",
    ],
)
def test_scram_nonsense(first: bytes) -> None:
    with pytest.raises(PostgresError, match="makes no sense"):
        rfc7677().final(first)


def test_scram_nonces_differ() -> None:
    assert Scram("p").first() != Scram("p").first()


@pytest.mark.parametrize(
    ("password", "prepared"),
    [("plain p@ss", "plain p@ss"), ("I\u00adX", "IX"), ("\u2168", "IX"), ("a\u00a0b", "a b"), ("bell\x07", "bell\x07"), ("", "")],
)
def test_saslprep(password: str, prepared: str) -> None:
    assert saslprep(password) == prepared


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("15.18 (Debian 15.18-0+deb12u1)", (15, 18)), ("14.8", (14, 8)), ("16beta1", (16,)), ("9.6.24", (9, 6, 24)), ("", ()), ("x", ())],
)
def test_version_number(version: str, numbers: tuple[int, ...]) -> None:
    assert version_number(version) == numbers


def test_quoting() -> None:
    assert quoted('a"b') == '"a""b"'
    assert literal("it's \\") == " E'it''s \\\\'"
