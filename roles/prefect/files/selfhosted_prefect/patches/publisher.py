"""Has Prefect publish every event that it has taken, through a failover of Redis, for the processes of Prefect's units.

Before an event is written to its stream, Redis notes that it was seen, so that one which a client sends twice is published once. Where
Redis goes away between the two, the note cannot be taken back: the client sends the event again, and it is dropped as a duplicate. What
arrives while a batch is checked is dropped, too. A task run then stays as it was, for good. Here a batch is taken out before it is
checked, and what was checked is written when Redis is back; where it is not known what was noted, events are published without a check,
since those who read them take one that comes twice. It is in force (:func:`install`) once ``prefect_redis.messaging`` has been imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from selfhosted_prefect.patches import held
from selfhosted_prefect.patches.outages import Kinds
from selfhosted_prefect.patches.waiting import waiting

RETRY_SECONDS = 60.0  # seconds, for events that come by a websocket: a failover of Redis takes up to ten
PAUSE = 0.25  # seconds between two attempts
THEN = "Events are published when it can."


def seconds() -> float:
    """For how long an outage is waited out: not at all within a request, which is held as a whole or answered with 503."""
    return 0.0 if held.is_in_request() else RETRY_SECONDS


def publishing(kinds: Kinds, patient: Callable[..., Any], dumps: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    """The method of a publisher that writes its batch; `patient` makes a call one that waits out an outage."""

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
            for message in batch:
                fields = {"data": message.data, "attributes": dumps(message.attributes)}
                await patient(self._client.xadd)(self.stream, fields)
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
    kinds, logger = Kinds(), logging.getLogger("prefect.prefect_redis.messaging")
    patient = partial(waiting, kinds=kinds, logger=logger, then=THEN, seconds=seconds, pause=PAUSE)
    publisher._publish_current_batch = publishing(kinds, patient, dumps)
