# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""A session of PostgreSQL, over asyncpg, bounded as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import MissingLibraryError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import (
    Deadline,
    NetError,
    describe,
    no_answer,
    resolve,
    tls_context,
)

try:
    import asyncpg
except ImportError:  # connect_postgres says so
    asyncpg = None

Row = tuple[Any, ...]

NO_TLS = "does not offer TLS"

_CLOSE_SECONDS = 2.0
_STRANGE = "did not answer as PostgreSQL does"
_KEEP_ALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


class PostgresError(Exception):
    """The server answered with an error.

    ``code`` is its SQLSTATE (empty when it is ours), the message is the server's own.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Session(Protocol):
    """What is needed of a session; tests put something else in its place."""

    server_version: str

    def query(self, sql: str, timeout: float | None = None) -> list[Row]:
        """The rows of a statement."""

    def execute(self, sql: str, timeout: float | None = None) -> None:
        """Run a statement that has no rows."""

    def close(self) -> None:
        """End the session."""


class Postgres:
    """A session. After a NetError it is of no more use."""

    def __init__(self, connection: Any, loop: asyncio.AbstractEventLoop, deadline: Deadline) -> None:
        self._connection = connection
        self._loop = loop
        self._deadline = deadline
        self.server_version: str = connection.get_settings().server_version

    def query(self, sql: str, timeout: float | None = None) -> list[Row]:
        """Runs one statement that returns rows.

        ``timeout``, in seconds, replaces what is left of the connection's own.

        Raises PostgresError if the server refuses it, and NetError if the connection broke or the time is over.
        """
        return [tuple(row) for row in self._within(self._fetch(sql), timeout)]

    def execute(self, sql: str, timeout: float | None = None) -> None:
        """Runs statements that return nothing, several in one message. Otherwise as :meth:`query`."""
        self._within(self._connection.execute(sql), timeout)

    def keep_alive(self) -> None:
        """For a session that waits long: a firewall on the way forgets a connection over which nothing is sent."""
        self.execute(_KEEP_ALIVE)

    def close(self) -> None:
        with contextlib.suppress(Exception):  # it is over in any case
            self._loop.run_until_complete(self._connection.close(timeout=_CLOSE_SECONDS))
        _close(self._loop)

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _fetch(self, sql: str) -> Any:
        if self._connection.is_in_transaction():
            return await self._connection.fetch(sql)
        # Asked in several messages, which a connection pooler gives to one server only within a transaction.
        await self._connection.execute("BEGIN")
        try:
            rows = await self._connection.fetch(sql)
        except asyncpg.PostgresError:
            await self._connection.execute("ROLLBACK")
            raise
        await self._connection.execute("COMMIT")
        return rows

    def _within(self, work: Coroutine[Any, Any, Any], seconds: float | None) -> Any:
        return _run(self._loop, work, self._deadline if seconds is None else Deadline(seconds))


def connect_postgres(parts: Mapping[str, Any], timeout: float, options: Mapping[str, str] | None = None) -> Postgres:
    """Opens a session within ``timeout`` seconds, which bound the queries that follow, too.

    Keys of ``parts``: ``host`` (or the folder of a Unix socket), ``port``, ``user``, ``password``, ``dbname``, ``tls`` (as in
    :func:`tls_context`: either verified or not used at all, as Prefect's units are set up).
    ``options`` are server settings for the session, such as ``application_name``.

    Raises PostgresError if the server refuses the login, and NetError if the server cannot be reached.
    """
    if asyncpg is None:
        raise MissingLibraryError("asyncpg")
    deadline = Deadline(timeout)
    resolve(parts["host"], deadline)
    arguments = {
        "host": parts["host"],
        "port": int(parts.get("port") or 5432),
        "user": parts["user"],
        "password": parts.get("password") or "",
        "database": parts["dbname"],
        "server_settings": dict(options or {}),
        "timeout": timeout,
        # A statement is used once, and a connection pooler may know nothing of prepared ones.
        "statement_cache_size": 0,
    }
    context = tls_context(parts.get("tls") or {})
    loop = asyncio.new_event_loop()
    try:
        return Postgres(_run(loop, _log_in(arguments, context or False), deadline), loop, deadline)
    except BaseException:
        _close(loop)
        raise


async def _log_in(arguments: Mapping[str, Any], tls: ssl.SSLContext | bool) -> Any:
    try:
        return await asyncpg.connect(**arguments, ssl=tls)
    except ConnectionError as error:
        if "SSL exchange" in str(error):
            raise NetError(_STRANGE) from error
        if "rejected SSL upgrade" not in str(error):
            raise
        raise NetError(NO_TLS) from error
    except asyncpg.exceptions.ConnectionDoesNotExistError as error:
        raise NetError(f"closed the connection, and {_STRANGE}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise PostgresError(f"the server asks for a way to log in that is not known here ({error.__cause__ or error})") from error


async def _within(work: Coroutine[Any, Any, Any], deadline: Deadline) -> Any:
    async with asyncio.timeout(deadline.left()):
        return await work


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], deadline: Deadline) -> Any:
    try:
        return loop.run_until_complete(_within(work, deadline))
    except TimeoutError as error:
        raise NetError(no_answer(deadline)) from error
    except OSError as error:
        raise NetError(describe(error, deadline)) from error
    except (asyncpg.exceptions.ConnectionDoesNotExistError, asyncpg.InterfaceError) as error:
        raise NetError("closed the connection before it had answered") from error
    except asyncpg.PostgresError as error:
        raise PostgresError(error.message or str(error), error.sqlstate or "") from error
    except (asyncpg.InternalClientError, AttributeError, ValueError) as error:
        raise NetError(_STRANGE) from error


def _close(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))  # they end
    loop.close()


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
