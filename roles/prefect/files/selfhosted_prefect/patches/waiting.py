"""A call that is tried again for as long as what it meets is an outage of PostgreSQL or Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from selfhosted_prefect.patches.outages import SAY_EVERY, Kinds

PAUSE = 1.0  # seconds between two attempts


def waiting(
    call: Callable[..., Awaitable[Any]],
    kinds: Kinds,
    logger: logging.Logger,
    then: str,
    seconds: Callable[[], float],
    *,
    pause: float = PAUSE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The function, which meets an outage only after so many seconds of it. Other errors are raised at once.

    `then` is what the journal says of what happens when the outage has ended.
    """

    async def waited(*args: object, **kwargs: object) -> Any:  # noqa: ANN401  what the function returns
        began = clock()
        most = seconds()
        said = float("-inf")
        while True:
            try:
                return await call(*args, **kwargs)
            except Exception as error:
                outage = kinds.outage(error)
                if outage is None or clock() - began >= most:
                    raise
                if clock() - said >= SAY_EVERY:
                    said = clock()
                    logger.error("%s cannot be used: %s. %s", outage.backend, outage.reason, then)
            await sleep(pause)

    return waited
