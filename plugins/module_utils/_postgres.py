# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Just enough of PostgreSQL's protocol to log in and run a query, for hosts that have no client library."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import secrets
import stringprep
import struct
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from ansible_collections.selfhosted.prefect.plugins.module_utils._net import (
    Deadline,
    NetError,
    OpenStream,
    Stream,
    open_stream,
    tls_context,
)

Row = tuple[Optional[str], ...]

_PROTOCOL = 196608  # 3.0
_SSL_REQUEST = 80877103
_MOST_ITERATIONS = 1_000_000
_STRANGE = "did not answer as PostgreSQL does"


class PostgresError(Exception):
    """The server answered with an error.

    ``code`` is its SQLSTATE (empty when it is ours), the message is the server's own.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Postgres:
    """A session. ``parameters`` holds what the server reports of itself, such as ``server_version``."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.parameters: dict[str, str] = {}

    def query(self, sql: str, timeout: float | None = None) -> list[Row]:
        """Runs one statement and returns its rows, every value as text or None.

        ``timeout``, in seconds, replaces what is left of the connection's own.

        Raises:
            PostgresError: the server refuses it.
            NetError: the connection broke or the time is over.
        """
        if timeout is not None:
            self._stream.deadline = Deadline(timeout)
        self._send(b"Q", sql.encode() + b"\0")
        rows: list[Row] = []
        failure: PostgresError | None = None
        for kind, body in self._messages():
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                failure = _error(body)
            elif kind == b"Z":
                break
        if failure:
            raise failure
        return rows

    def close(self) -> None:
        with contextlib.suppress(NetError):
            self._send(b"X", b"")
        self._stream.close()

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_in(self, user: str, password: str, database: str, options: Mapping[str, str]) -> None:
        """Sends the startup message and answers what the server asks for.

        Raises:
            PostgresError: the server refuses the login.
            NetError: the connection broke, or this is not PostgreSQL.
        """
        parameters = {"user": user, "database": database, "client_encoding": "UTF8", **options}
        text = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
        self._stream.send(struct.pack("!ii", len(text) + 8, _PROTOCOL) + text)
        scram = Scram(password)
        for kind, body in self._messages():
            if kind == b"E":
                raise _error(body)
            if kind == b"R":
                self._authenticate(body, user, password, scram)
            elif kind == b"Z":
                return

    def _authenticate(self, body: bytes, user: str, password: str, scram: Scram) -> None:
        (method,) = struct.unpack("!i", body[:4])
        rest = body[4:]
        if method == 3:
            self._send(b"p", password.encode() + b"\0")
        elif method == 5:
            self._send(b"p", md5_password(user, password, rest[:4]) + b"\0")
        elif method == 10:
            if b"SCRAM-SHA-256" not in rest.split(b"\0"):
                raise PostgresError("the server asks for a way to log in that is not known here (no SCRAM-SHA-256)")
            first = scram.first()
            self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        elif method == 11:
            self._send(b"p", scram.final(rest))
        elif method == 12:
            scram.verify(rest)
        elif method != 0:
            raise PostgresError(f"the server asks for a way to log in that is not known here (number {method})")

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        while True:
            kind, length = struct.unpack("!ci", self._stream.read(5))
            if not kind.isalpha() or not 4 <= length <= 1 << 24:
                raise NetError(_STRANGE)
            body = self._stream.read(length - 4)
            if kind == b"S":
                name, value = body.split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode()
            yield kind, body

    def _send(self, kind: bytes, body: bytes) -> None:
        self._stream.send(kind + struct.pack("!i", len(body) + 4) + body)


def connect_postgres(
    parts: Mapping[str, Any],
    timeout: float,
    connect: OpenStream = open_stream,
    options: Mapping[str, str] | None = None,
) -> Postgres:
    """Opens a session within ``timeout`` seconds, which bound the queries that follow, too.

    Keys of ``parts``: ``host``, ``port``, ``user``, ``password``, ``dbname``, ``tls`` (as in :func:`tls_context`; without it TLS
    is used when the server offers it, unverified, and with ``enabled`` false it never is).
    ``options`` are server settings for the session, such as ``application_name``.

    Raises:
        PostgresError: the server refuses the login.
        NetError: the server cannot be reached.
    """
    stream = connect(parts["host"], int(parts.get("port") or 5432), Deadline(timeout))
    try:
        _start_tls(stream, parts)
        session = Postgres(stream)
        session.log_in(parts["user"], parts.get("password") or "", parts["dbname"], options or {})
    except BaseException:
        stream.close()
        raise
    return session


def refusal(parts: Mapping[str, Any], error: PostgresError) -> str:
    """The server's refusal in words that complete "PostgreSQL at HOST:PORT ..."."""
    user, database = parts["user"], parts["dbname"]
    known = {
        "28P01": f"refuses the password of user {user}",
        "28000": f"does not let user {user} into database {database} from this host ({error}); see its pg_hba.conf",
        "3D000": f"has no database {database}",
        "53300": "has no connection left; raise its max_connections",
        "57P03": f"is not ready for connections ({error})",
    }
    return known.get(error.code, f"answers user {user} for database {database}: {error}")


def quoted(name: str) -> str:
    """An identifier, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A string, quoted for SQL."""
    return " E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def version_number(version: str) -> tuple[int, ...]:
    """``15.18 (Debian 15.18-0+deb12u1)`` as ``(15, 18)``; whatever follows the numbers is left out."""
    numbers: list[int] = []
    for part in version.split(" ", 1)[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def md5_password(user: str, password: str, salt: bytes) -> bytes:
    """What the protocol's MD5 login sends."""
    inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    return b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode()


class Scram:
    """The client's side of SCRAM-SHA-256 (RFC 5802 and 7677), without channel binding."""

    def __init__(self, password: str, user: str = "", nonce: str = "") -> None:
        self._password = saslprep(password).encode()
        self._bare = f"n={user},r={nonce or base64.b64encode(secrets.token_bytes(18)).decode()}"
        self._signature = b""

    def first(self) -> bytes:
        return b"n,," + self._bare.encode()

    def final(self, server_first: bytes) -> bytes:
        """The proof of knowing the password.

        Raises:
            PostgresError: the server's message makes no sense.
        """
        fields = _fields(server_first)
        nonce, salt = fields.get("r", ""), fields.get("s", "")
        iterations = int(fields.get("i", "0")) if fields.get("i", "0").isdigit() else 0
        own = self._bare.partition("r=")[2]
        if not nonce.startswith(own) or nonce == own or not 0 < iterations <= _MOST_ITERATIONS:
            raise PostgresError("the server's side of SCRAM-SHA-256 makes no sense")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(salt), iterations)
        unproved = f"c=biws,r={nonce}"
        message = ",".join([self._bare, server_first.decode(), unproved]).encode()
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        self._signature = _hmac(_hmac(salted, b"Server Key"), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return f"{unproved},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        """Raises PostgresError unless the server, too, has proved that it knows the password."""
        proof = _fields(server_final).get("v", "")
        if not hmac.compare_digest(proof.encode(), base64.b64encode(self._signature)):
            raise PostgresError("the server did not prove that it knows the password: it is not the server it says it is")


def saslprep(password: str) -> str:
    """The password as SCRAM hashes it (RFC 4013); unchanged where that is not defined, as PostgreSQL has it."""
    mapped = "".join(" " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char))
    normal = unicodedata.normalize("NFKC", mapped)
    forbidden = (
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
        stringprep.in_table_a1,
    )
    if not normal or any(table(char) for char in normal for table in forbidden):
        return password
    return normal


def _start_tls(stream: Stream, parts: Mapping[str, Any]) -> None:
    options = parts.get("tls") or {}
    context = tls_context(options)
    # As libpq's and asyncpg's "prefer": without any setting TLS is used where it is offered, and nothing is verified.
    preferred = context is None and options.get("enabled") is None
    if preferred:
        context = tls_context({"verify": False})
    if context is None:
        return
    stream.send(struct.pack("!ii", 8, _SSL_REQUEST))
    answer = stream.read(1)
    if answer == b"S":
        stream.start_tls(context, parts["host"])
    elif answer != b"N":
        raise NetError(_STRANGE)
    elif not preferred:
        raise NetError("does not offer TLS")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _fields(message: bytes) -> dict[str, str]:
    return {field[:1]: field[2:] for field in message.decode("utf-8", "replace").split(",")}


def _row(body: bytes) -> Row:
    (count,) = struct.unpack("!h", body[:2])
    values: list[str | None] = []
    at = 2
    for _column in range(count):
        (length,) = struct.unpack("!i", body[at : at + 4])
        at += 4
        values.append(None if length < 0 else body[at : at + length].decode("utf-8", "replace"))
        at += max(length, 0)
    return tuple(values)


def _error(body: bytes) -> PostgresError:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return PostgresError(fields.get(b"M", "no reason given"), fields.get(b"C", ""))
