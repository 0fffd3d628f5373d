"""Which requests are held while a backend is away, for how long, and what the client gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from selfhosted_prefect.patches import held, outages


class AwayError(Exception):
    """A backend cannot be used."""


class Kinds:
    """Knows one kind of outage, and one of a backend that has too much to do."""

    def outage(self, error: BaseException) -> outages.Outage | None:
        return outages.Outage("PostgreSQL", "away", busy="busy" in str(error)) if isinstance(error, AwayError) else None


@dataclass
class Asked:
    """One request to an application that fails for some seconds, and what it and the client saw."""

    away: float  # seconds
    error: Exception = field(default_factory=AwayError)
    commits: int = 0
    starts: bool = False
    body: tuple[bytes, ...] = (b"a body",)
    gone: bool = False  # the client, after its body
    said_before: tuple[float, ...] = ()  # when other requests were answered with 503
    now: float = 0.0
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        scope["path"] = "/as a router leaves it"
        read, more = b"", True
        while more:
            message = await receive()
            read += message.get("body", b"")
            more = message["type"] == "http.request" and message.get("more_body", False)
        self.bodies.append(read)
        if self.gone:
            await receive()
        if self.starts:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        for _count in range(self.commits):
            await asyncio.create_task(self.commit())
        if self.now < self.away:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def commit(self) -> None:
        """In a task of its own, as below some of Starlette's middleware."""
        found = held._commits.get()
        assert found is not None
        found.begun += 1

    def ask(self) -> Asked:
        answers = outages.Answers(logging.getLogger("held"), lambda: self.now)
        kinds: Any = Kinds()
        for at in self.said_before:
            self.now = at
            answers.headers(outages.Outage("PostgreSQL", "away"))
        self.now = 0.0

        messages = [
            {"type": "http.request", "body": part, "more_body": number < len(self.body) - 1} for number, part in enumerate(self.body)
        ]
        if self.gone:
            messages.append({"type": "http.disconnect"})
        ahead = iter(messages)

        async def receive() -> Any:
            return next(ahead)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        async def sleep(seconds: float) -> None:
            self.now += seconds

        middleware = outages.Middleware(self.app, kinds, answers, clock=lambda: self.now, sleep=sleep)
        asyncio.run(middleware({"type": "http", "method": "POST", "path": "/flows/"}, receive, send))
        return self


@pytest.mark.parametrize("body", [(b"",), (b"one", b"two", b"three"), (b"x" * held.MOST_BYTES,)])
def test_a_request_is_answered_after_a_short_outage(body: tuple[bytes, ...]) -> None:
    asked = Asked(1.2, body=body).ask()
    assert asked.statuses == [200]
    assert asked.now == pytest.approx(1.25)
    assert set(asked.bodies) == {b"".join(body)}, "each attempt reads the same"
    assert set(asked.paths) == {"/flows/"}
    assert len(asked.bodies) == 6


UNSENT = "<class 'asyncpg.InterfaceError'>: cannot call Transaction.commit(): the underlying connection is closed"


def test_a_commit_that_was_never_sent() -> None:
    """The connection had ended before: as a primary that is switched over ends them all."""
    asked = Asked(1, commits=1, error=AwayError(UNSENT)).ask()
    assert asked.statuses == [200]


NOT_HELD: dict[str, Callable[[], Asked]] = {
    "it may be committed": lambda: Asked(1, commits=1),
    "something of it is committed": lambda: Asked(1, commits=2, error=AwayError(UNSENT)),
    "the backend is there, and has no room": lambda: Asked(1, error=AwayError("busy")),
    "its body is too large to be kept": lambda: Asked(1, body=(b"x" * held.MOST_BYTES, b"x")),
    "its client is gone": lambda: Asked(1, gone=True),
    "the outage is older": lambda: Asked(1, said_before=(-held.SECONDS - 0.1,)),
    "the outage is older, and few ask": lambda: Asked(1, said_before=(-24, -15, -6)),
}


@pytest.mark.parametrize("make", NOT_HELD.values(), ids=NOT_HELD.keys())
def test_a_request_is_not_held(make: Callable[[], Asked]) -> None:
    asked = make().ask()
    assert (asked.statuses, asked.now, len(asked.bodies)) == ([503], 0, 1)


@pytest.mark.parametrize("before", [(-1.0,), (-held.QUIET - 0.1,), (-21, -12, -held.QUIET - 0.1), (-30, -20, -1)])
def test_a_request_is_held_as_an_outage_begins(before: tuple[float, ...]) -> None:
    """Or as the next one does, shortly afterwards."""
    assert Asked(1, said_before=before).ask().statuses == [200]


def test_a_request_is_held_no_longer_than_that() -> None:
    asked = Asked(60).ask()
    assert asked.statuses == [503]
    assert asked.now == held.SECONDS


@pytest.mark.parametrize(("error", "starts"), [(KeyError("x"), False), (AwayError(), True)])
def test_what_is_raised_otherwise(error: Exception, starts: bool) -> None:
    """An error that is no outage, and one after the answer has begun."""
    with pytest.raises(type(error)):
        Asked(1, error=error, starts=starts).ask()


def test_commits_are_of_the_request_that_runs() -> None:
    """That SQLAlchemy tells of them is tested with each release, in test_outages.py."""
    with held.commits() as outer:
        with held.commits() as inner:
            asyncio.run(Asked(0).commit())
        assert (outer.begun, inner.begun) == (0, 1)
    assert held._commits.get() is None
