"""Which requests an API server holds and tries again by itself while PostgreSQL or Redis is away for a moment, as in a switchover.

To a client that never tries again, a planned switchover is a slow answer then, and not a failed request. A request is held for as long as
nothing of it can have been committed; one that failed while the server committed, or afterwards, is answered with 503 at once.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

SECONDS = 3.0  # seconds for which a request is held at most: a planned switchover takes one or two
PAUSE = 0.25  # seconds between two attempts
QUIET = 10.0  # seconds without an error after which requests are held again: one switchover may follow another
MOST_BYTES = 1024 * 1024  # of a request's body that are kept for another attempt


# What asyncpg says instead of sending a commit (`asyncpg/connresource.py`, `guarded`): such a transaction has been rolled back.
_UNSENT = re.compile(r"cannot call Transaction\.commit\(\): the underlying connection is closed")


@dataclass
class Commits:
    """How many commits have begun."""

    begun: int = 0

    def may_be_done(self, errors: Iterable[BaseException]) -> bool:
        """Whether something may be committed after the request failed with these errors, which came of each other."""
        return self.begun > 1 or (self.begun == 1 and not any(_UNSENT.search(str(error)) for error in errors))


_commits: ContextVar[Commits | None] = ContextVar("selfhosted_prefect_commits", default=None)


@contextmanager
def commits() -> Iterator[Commits]:
    """The commits of what runs meanwhile, in the tasks that it starts, too."""
    found = Commits()
    token = _commits.set(found)
    try:
        yield found
    finally:
        _commits.reset(token)


def is_in_request() -> bool:
    """Whether this runs for a request, and not for a websocket or a service."""
    return _commits.get() is not None


def watch() -> None:
    """Has SQLAlchemy tell when a transaction of any engine is about to be committed."""
    import sqlalchemy.engine  # noqa: PLC0415  only a process that has Prefect's server in it has these
    import sqlalchemy.event  # noqa: PLC0415  as above

    def begins(_connection: object) -> None:
        if (found := _commits.get()) is not None:
            found.begun += 1

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", begins)


class Replayed:
    """A request's messages, which can be received again from the first one on."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[Message] = []
        self._at = self._bytes = 0
        self.is_complete = True
        """Whether all that was received is kept. It is not when the client is gone, either."""

    def again(self) -> None:
        """From the first message on."""
        self._at = 0

    async def __call__(self) -> Message:
        """The next message, of those that are kept or from the client."""
        if self._at < len(self._kept):
            self._at += 1
            return self._kept[self._at - 1]
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or self._bytes > MOST_BYTES:
            self.is_complete = False
        if self.is_complete:
            self._kept.append(message)
            self._at += 1
        return message
