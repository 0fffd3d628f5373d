"""Run by a release's own Python with the role's files on its path: what the middleware answers to each kind of error, as JSON.

The errors are those of the release's own asyncpg, SQLAlchemy and redis-py. `through` raises one as if in a function of another package.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg
import redis.exceptions as known
import sqlalchemy.exc as sa
from redis._parsers.base import BaseParser
from selfhosted_prefect.patches import outages


def through(package: str, error: BaseException) -> BaseException:
    """The error, raised in a function of that package."""
    names: dict[str, Any] = {"__name__": f"{package}.connect_utils", "error": error}
    exec(  # noqa: S102  the only way to a function of another module's
        "def connect():\n    raise error\n",
        names,
    )
    try:
        names["connect"]()
    except BaseException as raised:
        return raised
    raise AssertionError


def caused(error: Exception, cause: BaseException) -> Exception:
    """The error, raised from another."""
    try:
        raise error from cause
    except Exception as raised:
        return raised


def while_handling(error: Exception, first: BaseException) -> Exception:
    """The error, raised while another was being handled."""
    try:
        try:
            raise first
        except BaseException:
            raise error  # noqa: B904  the context is what this is about
    except Exception as raised:
        return raised


def hidden(error: Exception, first: BaseException) -> Exception:
    """The error, raised in place of another on purpose."""
    try:
        try:
            raise first
        except BaseException:
            raise error from None
    except Exception as raised:
        return raised


def state(code: str) -> Exception:
    """PostgreSQL's error of that code, as asyncpg has it."""
    made: Exception = asyncpg.exceptions.PostgresError.new({"S": "FATAL", "C": code, "M": "as PostgreSQL says"})
    return made


def wrapped(code: str) -> Exception:
    """The same within what SQLAlchemy makes of it: its values are private."""
    return caused(sa.DBAPIError("UPDATE x SET y=$1", ("s3cret",), Exception("adapted")), state(code))


def redis_says(line: str) -> Exception:
    """What redis-py makes of an answer."""
    made: Exception = BaseParser.parse_error(line)  # type: ignore[no-untyped-call]
    return made


def endless() -> Exception:
    """Errors that are each other's cause."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def long(last: BaseException) -> Exception:
    """A chain longer than anything is read of."""
    error: BaseException = last
    for number in range(500):
        outer = ValueError(str(number))
        outer.__cause__ = error
        error = outer
    assert isinstance(error, Exception)
    return error


def os_error(number: int) -> OSError:
    return OSError(number, "as the system says")


def through_os(package: str, name: str) -> BaseException:
    """The system's error of that name, in a function of that package."""
    return through(package, os_error(getattr(errno, name)))


REFUSED = OSError(
    "Multiple exceptions: [Errno 111] Connect call failed ('::1', 5432, 0, 0), [Errno 111] Connect call failed ('127.0.0.1', 5432)"
)
MIXED = OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 5432, 0, 0), [Errno 13] Permission denied")
CASES: dict[str, Callable[[], BaseException]] = {
    # To be tried again.
    **{
        f"gone: {name} by {package}": partial(through_os, package, name)
        for name in ("ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH")
        for package in ("asyncpg", "redis")
    },
    "gone: no answer in time": lambda: through("asyncpg", TimeoutError()),
    "gone: no name": lambda: through("asyncpg", socket.gaierror(socket.EAI_AGAIN, "try again")),
    "gone: every address refused": lambda: through("asyncpg", REFUSED),
    "gone: a connection without a number": lambda: through("asyncpg", ConnectionError("unexpected connection_lost() call")),
    "gone: a cause": lambda: caused(RuntimeError("cannot"), through("asyncpg", os_error(errno.ECONNREFUSED))),
    "gone: a context": lambda: while_handling(RuntimeError("cannot"), through("redis", os_error(errno.ECONNRESET))),
    "gone: a group": lambda: BaseExceptionGroup("all", [known.ConnectionError("a"), through("asyncpg", TimeoutError())]),
    "gone: a group in a group": lambda: ExceptionGroup("all", [ExceptionGroup("some", [known.ConnectionError("a")])]),
    "gone: asyncpg closed": lambda: asyncpg.exceptions.InterfaceError("connection is closed"),
    "gone: SQLAlchemy closed": lambda: sa.DBAPIError("SELECT", (), Exception("lost"), connection_invalidated=True),
    **{f"gone: {code}": partial(state, code) for code in ("08000", "08001", "08003", "08006", "57P01", "57P02", "57P03", "25006")},
    **{f"gone: wrapped {code}": partial(wrapped, code) for code in ("57P01", "25006")},
    **{
        f"gone: {line.split()[0]}": partial(redis_says, line)
        for line in (
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "NOREPLICAS Not enough good replicas to write.",
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        )
    },
    "gone: one command of several": lambda: redis_says(
        "Command # 2 (XADD a\nb * c LOADING) of pipeline caused error: ('NOREPLICAS Not enough good replicas to write.',)"
    ),
    "gone: a transaction at its end": lambda: redis_says(
        "EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write."
    ),
    "error: a transaction that was refused": lambda: redis_says("EXECABORT Transaction discarded because of previous errors."),
    "error: one command of several": lambda: redis_says("Command # 1 (GET LOADING) of pipeline caused error: ('NOPERM no',)"),
    "gone: Redis connection": lambda: known.ConnectionError("Error 111 connecting to 127.0.0.1:6379"),
    "gone: Redis timeout": lambda: known.TimeoutError("Timeout reading from socket"),
    # There, but with no room.
    "busy: pool": lambda: sa.TimeoutError("QueuePool limit of size 5 overflow 10 reached"),
    **{f"busy: {code}": partial(state, code) for code in ("53300", "40001", "40P01", "57014")},
    "busy: wrapped 53300": lambda: wrapped("53300"),
    "busy: Redis pool": lambda: known.MaxConnectionsError("Too many connections"),
    # Errors of the program, of the configuration and of this host's disk.
    "error: key": lambda: KeyError("x"),
    "error: type": lambda: through("asyncpg", TypeError("x")),
    **{
        f"error: {name} by {package}": partial(through_os, package, name)
        for name in ("ENOSPC", "ENOENT", "EACCES", "EIO", "EMFILE")
        for package in ("asyncpg", "prefect")
    },
    "error: another's connection": lambda: through("httpcore", os_error(errno.ECONNREFUSED)),
    "error: another's timeout": lambda: through("prefect", TimeoutError()),
    "error: one address forbidden": lambda: through("asyncpg", MIXED),
    "error: a group with another": lambda: ExceptionGroup("all", [known.ConnectionError("a"), KeyError("x")]),
    "error: in place of an outage": lambda: hidden(KeyError("x"), known.ConnectionError("a")),
    "error: endless": endless,
    "error: beyond the bound": lambda: long(known.ConnectionError("a")),
    **{f"error: {code}": partial(state, code) for code in ("28P01", "3D000", "42P01", "42703", "22001", "57P04")},
    "error: wrapped 42P01": lambda: wrapped("42P01"),
    "error: asyncpg in use": lambda: asyncpg.exceptions.InterfaceError("cannot perform operation: another operation is in progress"),
    **{
        f"error: Redis {line.split()[0]}": partial(redis_says, line)
        for line in (
            "WRONGPASS invalid username-password pair",
            "NOAUTH Authentication required.",
            "NOPERM this user has no permissions",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR unknown command",
        )
    },
}


async def answered(error: BaseException, begun: bool = False) -> dict[str, Any]:
    """The status and headers of the answer to a request in which that error is raised; 500 where the middleware lets it through."""
    sent: list[dict[str, Any]] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    async def receive() -> Any:
        raise AssertionError("nothing is read of the request")

    async def send(message: Any) -> None:
        sent.append(message)

    log, lines = logging.getLogger("outages"), Lines()
    log.handlers = [lines]
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    def clock() -> float:
        return now[0]

    middleware = outages.Middleware(app, outages.Kinds(), outages.Answers(log, clock), clock=clock, sleep=sleep)
    try:
        await middleware({"type": "http"}, receive, send)
    except BaseException as raised:
        assert raised is error
        return {"status": 500, "sent": len(sent)}
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return {"status": sent[0]["status"], "headers": headers, "said": lines.lines}


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One more line."""
        self.lines.append(record.getMessage())


async def main() -> None:
    """Prints what is answered to each."""
    found = {name: await answered(make()) for name, make in CASES.items()}
    found["error: the answer had begun"] = await answered(known.ConnectionError("a"), begun=True)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
