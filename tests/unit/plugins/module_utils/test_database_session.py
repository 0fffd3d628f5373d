"""Logins against a fake server over the wire; statements against a fake connection of asyncpg."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import socket
import struct
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database import session as module
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import (
    Postgres,
    PostgresError,
    connect_postgres,
    literal,
    quoted,
)

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
LOGIN_OK = b"R\0\0\0\x08\0\0\0\0"
READY = b"S" + struct.pack("!i", 28) + b"server_version\x0014.8 (D)\0" + b"Z\0\0\0\x05I"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def error(code: str, text: str) -> bytes:
    return message(b"E", f"SFATAL\0C{code}\0M{text}\0\0".encode())


def authentication(number: int, rest: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", number) + rest)


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


def test_login(serve: Any) -> None:
    server = Server(serve, LOGIN_OK + READY)
    with connect_postgres(server.parts, 5, {"application_name": "check"}) as session:
        assert session.server_version == "14.8 (D)"
    startup = server.messages[0]
    assert startup.startswith(struct.pack("!i", 196608))
    assert b"user\0prefect\0" in startup and b"database\0app\0" in startup and b"application_name\0check\0" in startup


def test_a_plain_password(serve: Any) -> None:
    server = Server(serve, authentication(3), LOGIN_OK + READY)
    connect_postgres(server.parts, 5).close()
    assert server.messages[1] == b"psecret\0"


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
        (authentication(7), PostgresError, "a way to log in that is not known here", ""),
        (authentication(10, b"SCRAM-SHA-512\0\0"), PostgresError, "a way to log in that is not known here .*SCRAM-SHA-512", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NetError, "did not answer as PostgreSQL does", None),
        (b"-ERR unknown command\r\n", NetError, "did not answer as PostgreSQL does", None),
        (b"J\0\0\0\n8.0.36\0", NetError, "did not answer as PostgreSQL does", None),
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
        ({"enabled": True}, b"S-", "does not offer TLS"),
    ],
)
def test_tls_refused(serve: Any, tls: Any, answer: bytes, text: str) -> None:
    server = Server(serve)
    server.tls = answer
    with pytest.raises(NetError, match=text):
        connect_postgres({**server.parts, "tls": tls}, 2)
    assert server.messages == []


@pytest.mark.parametrize("tls", [{}, None, {"enabled": False}, {"enabled": False, "ca_file": "/nowhere"}])
def test_without_tls_it_is_plain_text_as_for_the_units(serve: Any, tls: Any) -> None:
    server = Server(serve, LOGIN_OK + READY)
    connect_postgres({**server.parts, "tls": tls}, 2).close()
    assert not server.asked_for_tls


class Connection:
    """As much of asyncpg's as a session needs, with answers by statement."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.said: list[str] = []
        self.transaction = False
        self.closed = False

    def get_settings(self) -> Any:
        return SimpleNamespace(server_version="15.18")

    def is_in_transaction(self) -> bool:
        return self.transaction

    async def execute(self, sql: str) -> None:
        self.said.append(sql)
        self.transaction = sql.startswith("BEGIN") or (self.transaction and sql not in ("COMMIT", "ROLLBACK"))

    async def fetch(self, sql: str) -> Any:
        self.said.append(sql)
        answer = self.answers[sql]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return answer

    async def close(self, timeout: float) -> None:
        assert timeout > 0
        self.closed = True


@contextlib.contextmanager
def session(**answers: Any) -> Iterator[tuple[Postgres, Connection]]:
    connection = Connection({name.replace("_", " "): answer for name, answer in answers.items()})
    opened = Postgres(connection, asyncio.new_event_loop(), Deadline(5))
    yield opened, connection
    opened.close()
    assert connection.closed


def test_a_question_is_one_transaction() -> None:
    with session(SELECT_1=[[1, None]]) as (opened, connection):
        assert opened.query("SELECT 1") == [(1, None)]
        assert connection.said == ["BEGIN", "SELECT 1", "COMMIT"]


def test_a_question_within_a_transaction() -> None:
    with session(SELECT_1=[]) as (opened, connection):
        opened.execute("BEGIN; SET LOCAL x = 1")
        opened.query("SELECT 1")
        opened.execute("ROLLBACK")
        assert connection.said == ["BEGIN; SET LOCAL x = 1", "SELECT 1", "ROLLBACK"]


def test_a_failed_question_leaves_the_session_usable() -> None:
    with session(SELECT_x=asyncpg.UndefinedTableError("no such table"), SELECT_1=[[1]]) as (opened, connection):
        with pytest.raises(PostgresError, match="no such table") as caught:
            opened.query("SELECT x")
        assert caught.value.code == "42P01"
        assert not connection.transaction
        assert opened.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (30.0, "did not answer within 0.2 s"),
        (
            asyncpg.exceptions.ConnectionDoesNotExistError("closed"),
            "closed the connection before it had answered",
        ),
        (ConnectionResetError(), "dropped the connection"),
    ],
)
def test_no_answer(answer: Any, message: str) -> None:
    began = time.monotonic()
    with session(SELECT_1=answer) as (opened, _connection), pytest.raises(NetError, match=message):
        opened.query("SELECT 1", 0.2)
    assert time.monotonic() - began < 2


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "asyncpg", None)
    with pytest.raises(NetError, match=r"cannot be queried: .* has no library asyncpg"):
        connect_postgres({"host": "127.0.0.1"}, 1)


def test_quoting() -> None:
    assert quoted('a"b') == '"a""b"'
    assert literal("it's \\") == " E'it''s \\\\'"
