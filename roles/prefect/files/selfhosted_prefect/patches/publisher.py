"""Has Prefect publish every event that it has taken, through a failover of Redis, for the processes of Prefect's units.

Before an event is written to its stream, Redis notes that it was seen, so that one which a client sends twice is published once. Where
Redis goes away between the two, the note cannot be taken back: the client sends the event again, and it is dropped as a duplicate. What
arrives while a batch is checked is dropped, too. A task run then stays as it was, for good. Here a batch is taken out before it is
checked, and what was checked is written when Redis is back; where it is not known what was noted, events are published without a check,
since those who read them take one that comes twice.

Redis acknowledges a write before its replicas have it, and a master that is cut off from them acknowledges for some seconds what a failover
then loses. So where there are replicas (:data:`REPLICAS`) a batch is published when enough of them have it, and published anew until then.

It is in force (:func:`install`) once ``prefect_redis.messaging`` has been imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from selfhosted_prefect.patches import held
from selfhosted_prefect.patches.outages import Kinds
from selfhosted_prefect.patches.waiting import waiting

RETRY_SECONDS = 60.0  # seconds, for events that come by a websocket: a failover of Redis takes up to ten
PAUSE = 0.25  # seconds between two attempts
# In the environment: how many replicas have to have an event, 0 (the default) where there is no cluster.
REPLICAS = "SELFHOSTED_PREFECT_REDIS_REPLICAS"
CONFIRM_MILLISECONDS = 1000
THEN = "Events are published when it can."

logger = logging.getLogger("prefect.prefect_redis.messaging")


def seconds() -> float:
    """For how long an outage is waited out: not at all within a request, which is held as a whole or answered with 503."""
    return 0.0 if held.is_in_request() else RETRY_SECONDS


class Stream:
    """Writes messages to a stream, and returns when so many replicas have them."""

    def __init__(self, kinds: Kinds, dumps: Callable[[Any], bytes], replicas: int, unconfirmed: type[Exception]) -> None:
        self._kinds, self._dumps, self._unconfirmed = kinds, dumps, unconfirmed
        self.replicas = replicas

    async def write(self, client: Any, stream: str, messages: Sequence[Any]) -> None:  # noqa: ANN401  of the release's library
        """Raises the first error that there was, and `unconfirmed`, which has to be an outage, where too few replicas have them."""
        # WAIT is about what was written on the same connection.
        commands = client.pipeline(transaction=False)
        for message in messages:
            commands.xadd(stream, {"data": message.data, "attributes": self._dumps(message.attributes)})
        if self.replicas:
            commands.wait(self.replicas, CONFIRM_MILLISECONDS)
        answers = await commands.execute(raise_on_error=False)
        for answer in answers[: len(messages)]:
            if isinstance(answer, Exception):
                raise answer
        if self.replicas:
            self._judge(answers[-1])

    def _judge(self, confirmed: int | Exception) -> None:
        if isinstance(confirmed, Exception) and self._kinds.outage(confirmed) is None:
            # Rules of a site's own may not allow it. Events matter more than that.
            logger.error("Redis does not say whether replicas have an event (%s): it is published without.", confirmed)
            self.replicas = 0
        elif isinstance(confirmed, Exception):
            raise confirmed
        elif confirmed < self.replicas:
            raise self._unconfirmed(f"{confirmed} replicas have what was written, {self.replicas} are needed: is the master cut off?")


def publishing(kinds: Kinds, patient: Callable[..., Any], write: Callable[..., Any]) -> Callable[[Any], Any]:
    """The method of a publisher that has `write` write its batch; `patient` makes a call one that waits out an outage."""

    async def _publish_current_batch(self: Any) -> None:  # noqa: ANN401  a publisher of the release's
        batch = list(self._batch)
        if not batch:
            return
        # What arrives from now on is of the next one.
        del self._batch[: len(batch)]
        if self.deduplicate_by:
            try:
                batch = await self.cache.without_duplicates(self.deduplicate_by, batch)
            except Exception as error:
                if kinds.outage(error) is None:
                    self._batch[:0] = batch
                    raise
        try:
            if batch:
                await patient(write)(self._client, self.stream, batch)
        except Exception:
            if self.deduplicate_by:
                await patient(self.cache.forget_duplicates)(self.deduplicate_by, batch)
            raise

    return _publish_current_batch


def install(messaging: Any) -> None:  # noqa: ANN401  a module, whose names are looked up here
    """Patches the module ``prefect_redis.messaging``.

    Raises AttributeError or ImportError if this Prefect is not made as those are that this was tried with; nothing was patched.
    """
    publisher, dumps = messaging.Publisher, messaging.orjson.dumps
    if not callable(publisher._publish_current_batch):
        raise AttributeError("_publish_current_batch")
    from redis.exceptions import TimeoutError as Unconfirmed  # noqa: PLC0415  only a process that publishes has it

    kinds = Kinds()
    patient = partial(waiting, kinds=kinds, logger=logger, then=THEN, seconds=seconds, pause=PAUSE)
    stream = Stream(kinds, dumps, int(os.environ.get(REPLICAS, "0")), Unconfirmed)
    publisher._publish_current_batch = publishing(kinds, patient, stream.write)
