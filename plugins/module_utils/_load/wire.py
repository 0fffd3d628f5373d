# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 and websockets over connections that the caller opens and closes, on which nothing is ever sent twice.

Which connection carries a request is what the load measures, so HTTP is h11 on asyncio's own streams: httpx would choose the connection
itself, and takes 1.2 ms of CPU for a request instead of 0.2, which at 600 a second is most of a core.
"""

from __future__ import annotations

import asyncio
import base64
import json
import select
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._base import http_client as _http

try:
    import h11
    import websockets
    from websockets.asyncio.client import ClientConnection, connect
except ImportError:  # the module prefect_load says so
    h11 = websockets = None  # type: ignore[assignment]

LIBRARIES = ("h11", "websockets")
MAX_HEAD = 1 << 20
CHUNK = 1 << 16
RENEW_SECONDS = 30.0  # after so long a new token is got, whatever lifetime the server gives it


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
    token: dict[str, str] = field(default_factory=dict, compare=False)
    """Headers that an API with CSRF protection wants with every write; see :func:`keep_token`."""

    @classmethod
    def parse(cls, url: str, auth: str = "", ca_file: str = "") -> Target:
        """Take a URL apart. `ca_file` holds the authorities to trust, the system's own without it.

        Raises ValueError if it is neither http:// nor https://, or has no host, and OSError if `ca_file` cannot be read.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is not an address such as http://127.0.0.1:4200/api")
        secure = parts.scheme == "https"
        tls = ssl.create_default_context(cafile=ca_file or None) if secure else None
        return cls(parts.hostname, parts.port or (443 if secure else 80), parts.path.rstrip("/"), auth, tls)

    @property
    def authority(self) -> str:
        """Host and port, as URLs and headers have them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def headers(self) -> list[tuple[str, str]]:
        """Those of every request."""
        login = "Basic " + base64.b64encode(self.auth.encode()).decode()
        return [("Host", self.authority), *([("Authorization", login)] if self.auth else []), *self.token.items()]


@dataclass(frozen=True)
class Answer(_http.Answer):
    """A complete answer, and whether the connection can be used again."""

    kept: bool = True


class Link:
    """One TCP connection, and where it is in HTTP's course of events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._received = 0

    async def is_over(self) -> bool:
        """Whether an idle connection is over. Nothing is expected on one, so anything to be read is its end, unless it is TLS's own."""
        if self._has_ended():
            return True
        if not select.select([self._writer.get_extra_info("socket").fileno()], [], [], 0)[0]:
            return False
        if not self._writer.get_extra_info("ssl_object"):
            return True
        # Tickets for later sessions, or the end: in its second turn the loop has read what there is.
        for _turn in range(2):
            await asyncio.sleep(0)
        return self._has_ended()

    def _has_ended(self) -> bool:
        return self._reader.at_eof() or self._writer.transport.is_closing()

    async def exchange(self, request: Any, body: bytes) -> Answer:
        """Send a request and read its answer. Raises FailedError if there was no complete answer."""
        self._received = 0
        try:
            pieces = (request, h11.Data(data=body), h11.EndOfMessage())
            self._writer.write(b"".join(self._http.send(piece) for piece in pieces))
            await self._writer.drain()
            events = [event async for event in self._answer()]
        except TimeoutError:
            raise
        except OSError as error:
            raise FailedError("reset" if isinstance(error, ConnectionError) else f"broken: {error}") from None
        except h11.ProtocolError as error:
            if self._reader.at_eof():
                raise FailedError("closed within the answer" if self._received else "closed without an answer") from None
            raise FailedError(f"answered something that is not HTTP ({error})") from None
        head, *parts = events
        kept = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if kept:
            self._http.start_next_cycle()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return Answer(head.status_code, b"".join(bytes(part.data) for part in parts), headers, kept)

    async def _answer(self) -> AsyncIterator[Any]:
        """The head of the answer, then its body piece by piece."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._reader.read(CHUNK)
                self._received += len(data)
                self._http.receive_data(data)  # nothing is the end, which may be what ends the body
            elif isinstance(event, h11.EndOfMessage):
                return
            elif not isinstance(event, h11.InformationalResponse):
                yield event

    def close(self) -> None:
        self._writer.close()


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
    _link: Link | None = None
    _last: float = 0.0

    async def ask(self, method: str, path: str, content: Any = None, accept: str = "") -> Answer:
        """Send one request, once, and return its answer, whatever its status. `accept` is the header of this name.

        Raises FailedError if there was no complete answer within `timeout` seconds.
        """
        body = b"" if content is None else json.dumps(content).encode()
        headers = [*self.target.headers(), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        headers += [("Accept", accept)] if accept else []
        request = h11.Request(method=method, target=f"{self.target.base}{path}", headers=headers)
        try:
            async with asyncio.timeout(self.timeout):
                answer = await self._ask(request, body)
        except FailedError:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise FailedError(f"no answer within {self.timeout:g} s") from None
        self._last = time.monotonic()
        if not answer.kept:
            self.close()
        return answer

    def close(self) -> None:
        if self._link:
            self._link.close()
        self._link = None

    async def _ask(self, request: Any, body: bytes) -> Answer:
        return await (await self._open()).exchange(request, body)

    async def _open(self) -> Link:
        if self._link and not await self._link.is_over():
            self.used = f"kept open, idle for {time.monotonic() - self._last:.3f} s"
            return self._link
        self.close()
        self.used = "new"
        try:
            self._link = Link(*await asyncio.open_connection(self.target.host, self.target.port, ssl=self.target.tls))
        except ConnectionRefusedError:
            raise FailedError("refused") from None
        except TimeoutError:
            raise
        except OSError as error:
            raise FailedError(f"no connection: {error}") from None
        self.opened += 1
        return self._link


async def get_token(target: Target, timeout: float) -> bool:
    """Get what writes need where the API's CSRF protection is on. False if it is off.

    Each time it is another client's, so that requests under way keep theirs. Raises FailedError if the API does not say.
    """
    connection = Connection(target, timeout)
    name = str(uuid.uuid4())
    try:
        answer = await connection.ask("GET", f"/csrf-token?client={name}")
    finally:
        connection.close()
    if answer.status in (404, 422):
        return False
    content = answer.json()
    if answer.status != 200 or not isinstance(content, dict) or "token" not in content:
        raise FailedError(answer.summary())
    target.token.update({"Prefect-Csrf-Token": content["token"], "Prefect-Csrf-Client": name})
    return True


async def keep_token(target: Target, timeout: float, begun: asyncio.Event) -> None:
    """See that there is always a token where the API wants one, until cancelled. `begun` is set when that is known, or could not be."""
    wanted = True
    while wanted:
        try:
            wanted = await get_token(target, timeout)
        except FailedError:
            wanted = True
        begun.set()
        if wanted:
            await asyncio.sleep(RENEW_SECONDS)


@dataclass
class Websocket:
    """A client's end of a websocket."""

    connection: ClientConnection
    closed: int = 0  # the code with which the server closed it; 1006: without one

    @classmethod
    async def connect(cls, target: Target, path: str, protocol: str) -> Websocket:
        """Open one. Credentials go inside, where Prefect's own client has them.

        Raises OSError, EOFError or FailedError if it cannot be opened.
        """
        url = f"{'wss' if target.tls else 'ws'}://{target.authority}{target.base}{path}"
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}
        try:
            return cls(await connect(url, ssl=target.tls, subprotocols=[websockets.Subprotocol(protocol)], proxy=None, **options))
        except websockets.InvalidStatus as error:
            raise FailedError(f"HTTP {error.response.status_code} instead of a websocket") from None
        except websockets.WebSocketException as error:
            raise FailedError(f"no websocket: {error}") from None

    async def send(self, content: Any) -> None:
        try:
            await self.connection.send(json.dumps(content))
        except websockets.ConnectionClosed as error:
            raise FailedError(f"no websocket any more: {error}") from None

    async def receive(self) -> Any:
        """The next message, from JSON; None when the connection is over."""
        try:
            return json.loads(await self.connection.recv())
        except websockets.ConnectionClosed as error:
            self.closed = error.rcvd.code if error.rcvd else 1006
            return None

    def close(self) -> None:
        self.connection.transport.close()
