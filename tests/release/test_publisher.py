"""Events that a process has taken are published, whatever Redis does meanwhile. The publisher and its Redis are stand-ins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from selfhosted_prefect.patches import held, outages, publisher, waiting


class AwayError(Exception):
    """Redis cannot be used."""


class Kinds:
    """Knows one kind of outage."""

    def outage(self, error: BaseException) -> outages.Outage | None:
        return outages.Outage("Redis", "away") if isinstance(error, AwayError) else None


class Redis:
    """What is noted, and what is in the stream; it fails in a command for so many attempts."""

    def __init__(self, fails: dict[str, int], error: type[Exception] = AwayError) -> None:
        self.fails, self.error = fails, error
        self.noted: set[str] = set()
        self.stream: list[str] = []
        self.arrives: Callable[[], None] = lambda: None
        self.confirming: list[Any] = []

    def confirms(self) -> int:
        """How many replicas have it: each time the next of a list, and all of two then."""
        if not self.confirming:
            return 2
        found = self.confirming.pop(0)
        if isinstance(found, Exception):
            raise found
        return int(found)

    def _try(self, command: str) -> None:
        if self.fails.get(command, 0) > 0:
            self.fails[command] -= 1
            raise self.error

    async def without_duplicates(self, _attribute: str, messages: list[Any]) -> list[Any]:
        self.arrives()
        unseen = [message for message in messages if message.data not in self.noted]
        # As when the answer is lost on its way.
        self.noted |= {message.data for message in messages}
        self._try("note")
        return unseen

    async def forget_duplicates(self, _attribute: str, messages: list[Any]) -> None:
        self._try("forget")
        self.noted -= {message.data for message in messages}

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)


class Pipeline:
    """Its commands are carried out one after the other. An error is the answer of one, but for that of the connection, which ends all."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.commands: list[Callable[[], Any]] = []

    def xadd(self, _stream: str, fields: dict[str, Any]) -> None:
        def add() -> bytes:
            self.redis._try("add")
            self.redis.stream.append(fields["data"])
            return b"1-0"

        self.commands.append(add)

    def wait(self, replicas: int, milliseconds: int) -> None:
        assert (replicas, milliseconds) == (1, publisher.CONFIRM_MILLISECONDS)
        self.commands.append(self.redis.confirms)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return [answer(command) for command in self.commands]


def answer(command: Callable[[], Any]) -> Any:
    try:
        return command()
    except AwayError:
        raise
    except Exception as error:
        return error


def publish(redis: Redis, batch: list[Any], now: list[float], replicas: int = 0) -> None:
    """As the release's publisher does."""

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    kinds: Any = Kinds()
    patient = partial(
        waiting.waiting,
        kinds=kinds,
        logger=logging.getLogger("publisher"),
        then=publisher.THEN,
        seconds=publisher.seconds,
        pause=publisher.PAUSE,
        clock=lambda: now[0],
        sleep=sleep,
    )
    one = SimpleNamespace(_batch=batch, _client=redis, cache=redis, deduplicate_by="id", stream="events")
    stream = publisher.Stream(kinds, lambda _attributes: b"{}", replicas, AwayError)
    asyncio.run(publisher.publishing(kinds, patient, stream.write)(one))


def message(name: str) -> Any:
    return SimpleNamespace(data=name, attributes={})


@pytest.mark.parametrize("fails", [{}, {"add": 3}, {"note": 1}, {"note": 1, "add": 100}])
def test_nothing_is_lost_in_a_failover(fails: dict[str, int]) -> None:
    redis, now = Redis(fails), [0.0]
    publish(redis, [message("a"), message("b")], now)
    assert redis.stream == ["a", "b"]


@pytest.mark.parametrize(
    ("confirming", "stream"),
    [
        ([], ["a", "b"]),
        # The master is cut off from its replicas, then it is another one.
        ([0, AwayError()], ["a", "b"] * 3),
        # It may not be asked.
        ([PermissionError("NOPERM")], ["a", "b"]),
    ],
)
def test_what_no_replica_has_is_published_again(confirming: list[Any], stream: list[str]) -> None:
    redis = Redis({})
    redis.confirming = confirming
    publish(redis, [message("a"), message("b")], [0.0], replicas=1)
    assert (redis.stream, redis.confirming) == (stream, [])


def test_a_duplicate_is_published_once() -> None:
    redis = Redis({})
    publish(redis, [message("a")], [0.0])
    publish(redis, [message("a"), message("b")], [0.0])
    assert redis.stream == ["a", "b"]


def test_what_arrives_meanwhile_is_of_the_next_batch() -> None:
    batch = [message("a")]
    redis = Redis({})
    redis.arrives = lambda: batch.append(message("b"))
    publish(redis, batch, [0.0])
    assert (redis.stream, [one.data for one in batch]) == (["a"], ["b"])


def test_a_check_that_fails_otherwise_leaves_the_batch() -> None:
    batch = [message("a")]
    with pytest.raises(KeyError):
        publish(Redis({"note": 1}, KeyError), batch, [0.0])
    assert [one.data for one in batch] == ["a"]


@pytest.mark.parametrize(("error", "in_request", "seconds"), [(AwayError, False, 60), (AwayError, True, 0), (KeyError, False, 0)])
def test_what_is_not_published_can_be_sent_again(error: type[Exception], in_request: bool, seconds: float) -> None:
    redis, now = Redis({"add": 9999}, error), [0.0]
    token = held._commits.set(held.Commits() if in_request else None)
    try:
        with pytest.raises(error):
            publish(redis, [message("a")], now)
    finally:
        held._commits.reset(token)
    assert now[0] == seconds
    assert redis.noted == set()
