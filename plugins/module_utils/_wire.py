# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 and websockets by hand: what happens on the wire is seen as it is, and nothing is ever sent twice."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import ssl
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_LINE = 1 << 20
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class FailedError(Exception):
    """A request without a proper answer; the message says what happened to it."""


@dataclass(frozen=True)
class Target:
    """Where requests go: the address of an API such as http://host:4200/api, and the credentials ("" for none)."""

    host: str
    port: int
    base: str
    auth: str = ""
    tls: ssl.SSLContext | None = None

    @classmethod
    def parse(cls, url: str, auth: str = "", ca_file: str = "") -> Target:
        """Take a URL apart. `ca_file` holds the authorities to trust, the system's own without it.

        Raises:
            ValueError: it is neither http:// nor https://, or has no host.
            OSError: `ca_file` cannot be read.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is not an address such as http://127.0.0.1:4200/api")
        secure = parts.scheme == "https"
        tls = ssl.create_default_context(cafile=ca_file or None) if secure else None
        return cls(parts.hostname, parts.port or (443 if secure else 80), parts.path.rstrip("/"), auth, tls)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection."""
        return await asyncio.open_connection(self.host, self.port, limit=MAX_LINE, ssl=self.tls)

    def head(self, method: str, path: str, *more: str) -> bytes:
        """The start line and headers of a request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"{method} {self.base}{path} HTTP/1.1", f"Host: {host}:{self.port}", *more]
        if self.auth:
            lines.append("Authorization: Basic " + base64.b64encode(self.auth.encode()).decode())
        return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Answer:
    """A complete answer: whether the server keeps the connection open, the body as it came, and the headers by name in lower case."""

    status: int
    body: bytes
    kept: bool
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body's content, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers (names in lower case) of an answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in head[1:] if line)}
    return int(head[0].split(" ", 2)[1]), headers


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """An answer with all of its body."""
    status, headers = await read_head(reader)
    kept = headers.get("connection", "").lower() != "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (await reader.readline()).strip():
            pass
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(status, body, kept, headers)


@dataclass
class Connection:
    """A client's one connection, kept open between requests as a pooling HTTP client keeps it.

    A connection that the server is already seen to have closed is replaced before anything is sent, as every such client does. One
    that is closed while a request is under way is a failure of that request.
    """

    target: Target
    timeout: float
    opened: int = 0
    used: str = ""  # over what kind of connection the last request went
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    _last: float = 0.0

    async def ask(self, method: str, path: str, content: Any = None, accept: str = "") -> Answer:
        """Send one request, once, and return its answer, whatever its status. `accept` is the header of this name.

        Raises:
            FailedError: there was no complete answer within `timeout` seconds.
        """
        body = b"" if content is None else json.dumps(content).encode()
        more = [f"Accept: {accept}"] if accept else []
        head = self.target.head(method, path, "Content-Type: application/json", f"Content-Length: {len(body)}", *more)
        try:
            answer = await asyncio.wait_for(self._ask(head + body), self.timeout)
        except FailedError:
            self.close()
            raise
        except (TimeoutError, asyncio.TimeoutError):
            self.close()
            raise FailedError(f"no answer within {self.timeout:g} s") from None
        self._last = time.monotonic()
        if not answer.kept:
            self.close()
        return answer

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def _ask(self, request: bytes) -> Answer:
        reader, writer = await self._open()
        return await _exchange(reader, writer, request)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams and not _closed_by_peer(*self._streams):
            self.used = f"kept open, idle for {time.monotonic() - self._last:.3f} s"
            return self._streams
        self.close()
        self.used = "new"
        try:
            self._streams = await self.target.connect()
        except ConnectionRefusedError:
            raise FailedError("refused") from None
        except TimeoutError:
            raise
        except OSError as error:
            raise FailedError(f"no connection: {error}") from None
        self.opened += 1
        return self._streams


def _closed_by_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether an idle connection is over. Nothing is expected on one, so anything to be read is its end."""
    if reader.at_eof() or writer.transport.is_closing():
        return True
    return bool(select.select([writer.get_extra_info("socket").fileno()], [], [], 0)[0])


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    try:
        writer.write(request)
        await writer.drain()
        return await read_answer(reader)
    except asyncio.IncompleteReadError as error:
        raise FailedError("closed within the answer" if error.partial else "closed without an answer") from None
    except TimeoutError:
        raise
    except OSError as error:
        raise FailedError("reset" if isinstance(error, ConnectionError) else f"broken: {error}") from None
    except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
        raise FailedError(f"answered something that is not HTTP ({error})") from None


def frame(kind: int, payload: bytes, mask: bytes) -> bytes:
    """One websocket frame of a client, which has to be masked."""
    size = len(payload)
    if size < 126:
        length = bytes([128 | size])
    else:
        length = bytes([254]) + struct.pack("!H", size) if size < 65536 else bytes([255]) + struct.pack("!Q", size)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([128 | kind]) + length + mask + masked


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """Kind, whether it is a message's last, and payload of one frame of a server."""
    first, second = await reader.readexactly(2)
    size = second & 127
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    return first & 15, bool(first & 128), await reader.readexactly(size)


@dataclass
class Websocket:
    """A client's end of a websocket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    closed: int = 0  # the code with which the server closed it; 1006: without one
    _parts: list[bytes] = field(default_factory=list)

    @classmethod
    async def connect(cls, target: Target, path: str, protocol: str) -> Websocket:
        """Open one.

        Raises:
            OSError, EOFError, FailedError: it cannot be opened.
        """
        reader, writer = await target.connect()
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
            # Credentials go inside the connection, where Prefect's own client has them.
            bare = Target(target.host, target.port, target.base)
            writer.write(bare.head("GET", path, *upgrade, f"Sec-WebSocket-Protocol: {protocol}"))
            status, _headers = await read_head(reader)
            if status != 101:
                raise FailedError(f"HTTP {status} instead of a websocket")
        except BaseException:
            writer.close()
            raise
        return cls(reader, writer)

    async def send(self, content: Any) -> None:
        self.writer.write(frame(TEXT, json.dumps(content).encode(), os.urandom(4)))
        await self.writer.drain()

    async def receive(self) -> Any:
        """The next message, from JSON; None when the connection is over."""
        while True:
            try:
                kind, last, payload = await read_frame(self.reader)
                if kind == PING:
                    self.writer.write(frame(PONG, payload, os.urandom(4)))
                    await self.writer.drain()
                    continue
                if kind == CLOSE:  # a server waits for this before it lets go
                    self.writer.write(frame(CLOSE, payload[:2], os.urandom(4)))
            except (OSError, EOFError):
                self.closed = 1006
                return None
            if kind == CLOSE:
                self.closed = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                return None
            if kind == PONG:
                continue
            self._parts.append(payload)
            if last:
                message, self._parts = b"".join(self._parts), []
                return json.loads(message)

    def close(self) -> None:
        self.writer.close()
