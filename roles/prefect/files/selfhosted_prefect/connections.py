"""Connections to the database, Redis and the API servers, by the libraries that every release carries.

They are imported where they are used: a command loads only those that it needs.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from selfhosted_prefect.settings import TRUE, Settings

Command = Callable[..., Awaitable[Any]]
"""Sends a command to one database of Redis; a reply is what Redis sent, decoded."""
Request = Callable[..., int]
"""Sends a request (method, path, ``json`` and ``headers``); the status of the answer. Raises ConnectionError when there is none."""


class Redis(Protocol):
    """What is needed of a connection to Redis."""

    def execute_command(self, *words: object) -> Any:  # noqa: ANN401  a reply may be anything
        """The reply to a command."""


class Channel(Protocol):
    """A websocket that is open."""

    def send(self, message: str) -> None:
        """Send a notification."""

    def recv(self, timeout: float) -> str | bytes:
        """Raises TimeoutError when nothing has come by then, and an error of the connection when nothing will."""


def trusting(ca_file: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """TLS of a client that trusts these authorities, or those of the system, and may have a certificate of its own."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except OSError as error:
        # The library says "No such file or directory", and not of which.
        names = ", ".join(name for name in (ca_file, certificate, key) if name)
        raise OSError(f"{names} cannot be loaded: {error}") from error
    return context


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS to the database as Prefect would do it; None for none."""
    if settings.tls("ENABLED").lower() not in TRUE:
        return None
    context = trusting(settings.tls("CA_FILE"), settings.tls("CERT_FILE"), settings.tls("KEY_FILE"))
    context.check_hostname = settings.tls("CHECK_HOSTNAME", "true").lower() in TRUE
    return context


def redis_tls_context(url: str) -> ssl.SSLContext | None:
    """TLS to Redis as redis-py does it for this URL; None for none."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return None
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    context = trusting(*(given.get(name, "") for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")))
    context.check_hostname = given.get("ssl_check_hostname", "true").lower() in TRUE
    return context


@asynccontextmanager
async def open_database(settings: Settings, application: str, timeout: float, command_timeout: float | None = None) -> AsyncIterator[Any]:
    """A connection of asyncpg's to Prefect's database, as Prefect's own user."""
    import asyncpg

    connection = await asyncpg.connect(
        host=settings.database("HOST"),
        port=settings.database_port,
        user=settings.database("USER"),
        password=settings.database("PASSWORD"),
        database=settings.database("NAME"),
        ssl=tls_context(settings) or False,
        timeout=timeout,
        command_timeout=command_timeout,
        statement_cache_size=0,
        server_settings={"application_name": application},
    )
    try:
        yield connection
    finally:
        connection.terminate()


def _redis_options(timeout: float) -> dict[str, Any]:
    return {"socket_connect_timeout": timeout, "socket_timeout": timeout, "decode_responses": True, "protocol": 2}


def connect_redis(url: str, timeout: float) -> Redis:
    """A connection to one database of Redis."""
    from redis import Redis as Client

    client = Client.from_url(url, **_redis_options(timeout))
    # Without callbacks a reply is what Redis sent, whatever the version of the library.
    client.response_callbacks.clear()
    connected: Redis = client
    return connected


@asynccontextmanager
async def open_redis(url: str, timeout: float, application: str | None = None) -> AsyncIterator[Command]:
    """The same for asyncio, with no second attempt at anything."""
    from redis.asyncio import Redis as Client

    options = _redis_options(timeout)
    client = Client.from_url(url, single_connection_client=True, retry=None, client_name=application, **options)
    client.response_callbacks.clear()
    try:
        # Here, so that a login that is refused is not taken for a command that is.
        await client.initialize()
        yield client.execute_command
    finally:
        await client.aclose()


def pairs(flat: list[Any]) -> dict[str, Any]:
    """Names and values, which Redis tells in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def server_information(redis: Redis) -> dict[str, str]:
    """What Redis says of itself."""
    text = str(redis.execute_command("INFO", "server"))
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def http_requests(base_url: str, timeout: float, tls: ssl.SSLContext | None = None, *, csrf: bool = False) -> Request:
    """Requests to a server of this host: each on a connection of its own, and never through a proxy that the environment names.

    With ``csrf``, one that changes something carries a token, which any of the servers has given.
    """
    import httpx

    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.Client(base_url=base_url, timeout=timeout, trust_env=False, limits=limits, verify=tls or True)
    name = str(uuid.uuid4())

    def token(headers: Mapping[str, str]) -> dict[str, str]:
        answer = client.get("/csrf-token", params={"client": name}, headers=headers)
        # A server that gives none, since it was started without, asks for none.
        return {"Prefect-Csrf-Client": name, "Prefect-Csrf-Token": answer.json()["token"]} if answer.is_success else {}

    def request(method: str, path: str, *, json: object = None, headers: Mapping[str, str] | None = None) -> int:
        given = dict(headers or {})
        try:
            proof = token(given) if csrf and method != "GET" else {}
            return int(client.request(method, path, json=json, headers=given | proof).status_code)
        except httpx.HTTPError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    return request


class _Websocket:
    """One of an event loop's, which runs while something is asked of it.

    The library's one for threads reads in one of its own while another one writes: OpenSSL does not allow that for one connection.
    """

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], connection: Any) -> None:  # noqa: ANN401  of the release's library
        self._run, self._connection = run, connection

    def send(self, message: str) -> None:
        self._run(self._connection.send(message))

    def recv(self, timeout: float) -> str | bytes:
        async def received() -> Any:  # noqa: ANN401  of the release's library
            async with asyncio.timeout(timeout):
                return await self._connection.recv()

        message: str | bytes = self._run(received())
        return message


@contextmanager
def open_websocket(url: str, timeout: float, tls: ssl.SSLContext | None = None) -> Iterator[Channel]:
    """A websocket of Prefect's. Raises ConnectionError when it cannot be opened or is closed while it is used. Not within an event loop."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException
    from websockets.typing import Subprotocol

    async def opened() -> Any:  # noqa: ANN401  of the release's library
        return await connect(url, ssl=tls, subprotocols=[Subprotocol("prefect")], proxy=None, open_timeout=timeout, close_timeout=1)

    with asyncio.Runner() as runner:
        try:
            connection = runner.run(opened())
            try:
                yield _Websocket(runner.run, connection)
            finally:
                runner.run(connection.close())
        except WebSocketException as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
