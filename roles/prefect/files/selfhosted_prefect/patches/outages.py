"""Has Prefect's API answer 503 with ``Retry-After`` while PostgreSQL or Redis cannot be reached, for the processes of Prefect's units.

Prefect answers 503 for the errors that SQLAlchemy wraps. A refused or reset connection, a timeout while connecting, an exhausted pool and
every error of Redis is a 500 there, which its client never tries again: a flow that reports its state then fails. It is in
force (:func:`install`) once ``prefect.server.api.server`` has been imported. What is not known to be an outage stays as Prefect answers it.
As an outage begins, requests of which nothing was committed are held for a moment first (:mod:`selfhosted_prefect.patches.held`).
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from selfhosted_prefect.patches import held

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

RETRY_AFTER = 2  # seconds; while an outage is young, its end is noticed so soon
RETRY_AFTER_LATER = 15  # of a client's five more attempts, each one waits for so long: 75 s at least
UNCOUNTED_SECONDS = 300.0  # seconds of an outage during which Prefect's client does not count its attempts
QUIET = 60.0  # seconds without an error that end an outage
SAY_EVERY = 10.0  # seconds between two lines in the journal
MOST_ERRORS = 64  # of a chain of causes
MOST_FRAMES = 200

POSTGRESQL, REDIS = "PostgreSQL", "Redis"

_NETWORK = frozenset(
    number
    for name in (
        *("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "EPIPE", "ENOTCONN", "ESHUTDOWN", "ETIMEDOUT", "EADDRNOTAVAIL"),
        *("EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENETDOWN", "ENETRESET"),
    )
    if (number := getattr(errno, name, None)) is not None
)
# asyncio's error when none of a name's addresses could be connected to has no number of its own.
_NUMBERS = re.compile(r"\[Errno (\d+)\]")
# The server goes, comes, or is a standby for now; or it has too much to do at the moment. Class 08 is a broken connection.
_GONE = re.compile(r"08...|57P01|57P02|57P03|57P05|25006")
_BUSY = re.compile(r"53000|53200|53300|53400|40001|40P01|55P03|57014|25P03")
_CLOSED = re.compile(r"connection is closed|connection was closed|underlying connection|connection has been closed")
# Redis' answers of a server that loads its data, follows another, has lost its own, or was turned into a follower meanwhile. Before
# that of one command of several, its client tells which; a transaction that is refused at its end says so first.
_REDIS_GONE = re.compile(
    r"(?:Command # .* of pipeline caused error: \W*)?(?:Transaction discarded because of: )?"
    r"(?:LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|UNBLOCKED)\b",
    re.DOTALL,
)


@dataclass(frozen=True)
class Outage:
    """What cannot be used at the moment. It is ``busy`` when it is there, but has no room for one more or a conflict to resolve."""

    backend: str
    reason: str
    busy: bool = False


class Kinds:
    """Recognises an outage among the errors of the libraries with which Prefect reaches its database and Redis."""

    def __init__(self) -> None:
        # Only a process that has Prefect's server in it has these.
        import asyncpg  # noqa: PLC0415
        import redis.exceptions  # noqa: PLC0415
        import sqlalchemy.exc  # noqa: PLC0415

        self._pool_timeout: type[Exception] = sqlalchemy.exc.TimeoutError
        self._wrapped: type[Exception] = sqlalchemy.exc.DBAPIError
        known_to_asyncpg = asyncpg.exceptions
        # No host of several is the primary.
        self._no_target: tuple[type[Exception], ...] = (known_to_asyncpg.TargetServerAttributeNotMatched,)
        self._asyncpg = (known_to_asyncpg.PostgresError, known_to_asyncpg.InterfaceError, *self._no_target)
        known = redis.exceptions
        self._redis: type[Exception] = known.RedisError
        # Both are called errors of the connection: a wrong password is none that goes away.
        self._redis_lasting = (known.AuthenticationError, getattr(known, "AuthorizationError", known.AuthenticationError))
        self._redis_busy: type[Exception] | tuple[()] = getattr(known, "MaxConnectionsError", ())
        self._redis_gone = (known.ConnectionError, known.TimeoutError, known.ReadOnlyError, known.ClusterDownError, known.TryAgainError)

    def outage(self, error: BaseException) -> Outage | None:
        """The outage that an error comes of, perhaps through others; None when it is another error."""
        if isinstance(error, BaseExceptionGroup):
            # One that is no outage is a reason to say so.
            found = [self.outage(one) for one in error.exceptions if not isinstance(one, asyncio.CancelledError)]
            return found[0] if found and all(found) else None
        for one in chain(error):
            found_one = self._of(one)
            if found_one is not None:
                return found_one
        return None

    def _of(self, error: BaseException) -> Outage | None:
        if isinstance(error, self._redis):
            return self._of_redis(error)
        if isinstance(error, self._pool_timeout):
            return Outage(POSTGRESQL, described(error), busy=True)
        if isinstance(error, self._asyncpg) or type(error).__module__.startswith("sqlalchemy.dialects.postgresql"):
            return self._of_postgresql(error)
        if isinstance(error, self._wrapped) and getattr(error, "connection_invalidated", False):
            return Outage(POSTGRESQL, described(getattr(error, "orig", None) or error))
        if isinstance(error, OSError | TimeoutError) and is_network(error):
            backend = driver_of(error)
            return Outage(backend, described(error)) if backend else None
        return None

    def _of_postgresql(self, error: BaseException) -> Outage | None:
        state = str(getattr(error, "sqlstate", None) or "")
        if isinstance(error, self._no_target):
            return Outage(POSTGRESQL, described(error))
        if _GONE.fullmatch(state) or (not state and _CLOSED.search(str(error))):
            return Outage(POSTGRESQL, described(error))
        return Outage(POSTGRESQL, described(error), busy=True) if _BUSY.fullmatch(state) else None

    def _of_redis(self, error: BaseException) -> Outage | None:
        if isinstance(error, self._redis_lasting):
            return None
        if isinstance(error, self._redis_busy):
            return Outage(REDIS, described(error), busy=True)
        if isinstance(error, self._redis_gone) or _REDIS_GONE.match(str(error)):
            return Outage(REDIS, described(error))
        return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came of, nearest first: its causes, what SQLAlchemy wraps, and what was being handled."""
    seen: set[int] = set()
    ahead: deque[BaseException | None] = deque([error])
    while ahead and len(seen) < MOST_ERRORS:
        one = ahead.popleft()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        orig = getattr(one, "orig", None)
        ahead.append(orig if isinstance(orig, BaseException) else None)
        ahead.append(one.__cause__)
        ahead.append(None if one.__suppress_context__ else one.__context__)


def is_network(error: OSError | TimeoutError) -> bool:
    """Whether an error of the operating system is one of a connection, and not of a file."""
    if isinstance(error, TimeoutError | ConnectionError | socket.gaierror | ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return True
    if error.errno is not None:
        return error.errno in _NETWORK
    numbers = _NUMBERS.findall(str(error))
    return bool(numbers) and all(int(number) in _NETWORK for number in numbers)


def driver_of(error: BaseException) -> str:
    """Whose connection an error was raised on, by the functions that it came through; empty if it was another's."""
    frame = error.__traceback__
    for _count in range(MOST_FRAMES):
        if frame is None:
            break
        package = str(frame.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in ("asyncpg", "redis"):
            return POSTGRESQL if package == "asyncpg" else REDIS
        frame = frame.tb_next
    return ""


def described(error: BaseException) -> str:
    """An error in one line. SQLAlchemy's own text holds the statement and its values, which belong in no journal."""
    line = next(iter(str(error).splitlines()), "").strip()
    name = type(error).__name__
    return f"{name}: {line[:200]}" if line else name


class Answers:
    """What is answered while something is away, and what the journal gets to read of it."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._began = self._met = self._last = self._said = float("-inf")
        self._unsaid = 0

    def headers(self, outage: Outage) -> dict[str, str]:
        """When the client is to try again. Prefect's client does not count an attempt that is answered with ``Prefect-Maintenance``."""
        now = self._clock()
        if now - self._last > QUIET:
            self._began = now
        if now - self._last > held.QUIET:
            self._met = now
        self._last = now
        self._say(outage, now)
        if now - self._began > UNCOUNTED_SECONDS:
            return {"Retry-After": str(RETRY_AFTER_LATER)}
        return {"Retry-After": str(RETRY_AFTER), **({} if outage.busy else {"Prefect-Maintenance": "true"})}

    def begins(self) -> bool:
        """Whether errors that are met now began so shortly ago that a request may be held for their end."""
        now = self._clock()
        return now - self._last > held.QUIET or now - self._met <= held.SECONDS

    def _say(self, outage: Outage, now: float) -> None:
        self._unsaid += 1
        if now - self._said < SAY_EVERY:
            return
        what = "has no room" if outage.busy else "cannot be used"
        requests = "1 request was" if self._unsaid == 1 else f"{self._unsaid} requests were"
        self._logger.error("%s %s: %s. %s answered with 503, to be sent again.", outage.backend, what, outage.reason, requests)
        self._said, self._unsaid = now, 0


class Middleware:
    """Answers a request that failed because of an outage, unless its answer has begun. Websockets are left to Prefect."""

    def __init__(
        self,
        app: App,
        kinds: Kinds,
        answers: Answers,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app = app
        self._kinds = kinds
        self._answers = answers
        self._clock = clock
        self._sleep = sleep

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        replayed = held.Replayed(receive)
        end = self._clock() + held.SECONDS
        while (failed := await self._attempt(scope, replayed, send)) is not None:
            outage, is_safe = failed
            if not (is_safe and replayed.is_complete and self._clock() < end and self._answers.begins()):
                await answer(send, self._answers.headers(outage))
                return
            await self._sleep(held.PAUSE)
            replayed.again()

    async def _attempt(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> tuple[Outage, bool] | None:
        """Has the application answer. The outage because of which it did not, and whether it can be asked again; raises other errors."""
        begun = False

        async def observed(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        with held.commits() as commits:
            try:
                # A copy: routers write into it.
                await self._app(dict(scope), receive, observed)
            except Exception as error:
                outage = None if begun else self._kinds.outage(error)
                if outage is None:
                    raise
                return outage, not (outage.busy or commits.may_be_done(chain(error)))
        return None


async def answer(send: Send, headers: dict[str, str]) -> None:
    """Sends 503, in Prefect's own words."""
    body = json.dumps({"exception_message": "Service Unavailable"}).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": 503, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def install(server: Any) -> None:  # noqa: ANN401  a module, whose names are looked up here
    """Patches the module ``prefect.server.api.server``.

    Raises AttributeError or ImportError if this Prefect is not made as those are that this was tried with; nothing was patched.
    """
    create_api_app, create_app, is_retryable = server.create_api_app, server.create_app, server.is_client_retryable_exception
    kinds = Kinds()
    answers = Answers(logging.getLogger("prefect.server"))
    held.watch()

    def is_client_retryable_exception(exc: Exception) -> bool:
        # Orchestration asks, too: what it does not hold for retryable aborts the state that was proposed, with the answer 200 or 201.
        return bool(is_retryable(exc)) or kinds.outage(exc) is not None

    def guarded(create: Callable[..., Any]) -> Callable[..., Any]:
        def created(*args: object, **kwargs: object) -> Any:  # noqa: ANN401  FastAPI's types are the release's
            app = create(*args, **kwargs)
            if not getattr(app.state, "answers_outages", False) and app.middleware_stack is None:
                # The last one added is the outermost.
                app.add_middleware(Middleware, kinds=kinds, answers=answers)
                app.state.answers_outages = True
            return app

        return created

    server.is_client_retryable_exception = is_client_retryable_exception
    server.create_api_app = guarded(create_api_app)
    # And for what stands before the API in the application around it, such as the check of a CSRF token.
    server.create_app = guarded(create_app)
