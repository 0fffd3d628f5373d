"""Has Prefect's recorder of task runs wait for the end of an outage of PostgreSQL, for the processes of Prefect's units.

The recorder puts an event that it could not write behind the others in its memory, and takes one from there for each that arrives, or every
5 s. So a restart of the database leaves a queue that stays as long: task runs show up late, by 5 s each once it is quiet, and are lost when
the process ends. Waiting instead keeps them in Redis, where they are safe. It is in force (:func:`install`) once
``prefect.server.services.task_run_recorder`` has been imported.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from selfhosted_prefect.patches.outages import SAY_EVERY, Kinds

RETRY_SECONDS = 600.0  # seconds; then the recorder deals with it in its own way
PAUSE = 1.0


def waiting(
    record: Callable[..., Awaitable[Any]],
    kinds: Kinds,
    logger: logging.Logger,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The function, tried again for as long as what it meets is an outage."""

    async def recorded(*args: object, **kwargs: object) -> Any:  # noqa: ANN401  what Prefect's own function returns
        began = clock()
        said = float("-inf")
        while True:
            try:
                return await record(*args, **kwargs)
            except Exception as error:
                outage = kinds.outage(error)
                if outage is None or clock() - began > RETRY_SECONDS:
                    raise
                if clock() - said >= SAY_EVERY:
                    said = clock()
                    logger.error("%s cannot be used: %s. Task runs are recorded when it can.", outage.backend, outage.reason)
            await sleep(PAUSE)

    return recorded


def install(recorder: Any) -> None:  # noqa: ANN401  a module, whose names are looked up here
    """Patches the module ``prefect.server.services.task_run_recorder``.

    Raises AttributeError or ImportError if this Prefect is not made as those are that this was tried with; nothing was patched.
    """
    recorder.record_bulk_task_run_events = waiting(
        recorder.record_bulk_task_run_events, Kinds(), logging.getLogger("prefect.server.services.task_run_recorder")
    )
