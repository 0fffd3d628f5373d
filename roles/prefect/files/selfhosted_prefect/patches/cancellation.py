"""Gives Python before 3.12 the cancellation of 3.12, for the processes of Prefect's units.

There, a task that is cancelled in the very moment in which what it waits for by ``asyncio.wait_for`` is done never learns of it
(https://github.com/python/cpython/issues/86296). Redis' client sends every command in that way when it has a time limit, so a reader of
Prefect's goes on reading after it was told to stop, and the process that waits for it never ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")
_before = asyncio.wait_for  # noqa: TID251  what is replaced


async def wait_for(fut: Awaitable[T], timeout: float | None) -> T:
    """Waits for ``fut`` for at most ``timeout`` seconds (None: for ever), in this very task. Raises TimeoutError."""
    if timeout is not None and timeout <= 0:
        return await _before(fut, timeout)
    async with asyncio.timeout(timeout):
        return await fut


def install() -> None:
    """Replaces ``asyncio.wait_for``."""
    asyncio.wait_for = asyncio.tasks.wait_for = wait_for  # type: ignore[assignment]  # noqa: TID251  it replaces this one
