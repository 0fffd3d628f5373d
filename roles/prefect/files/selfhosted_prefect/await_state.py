"""Wait, within a limit, until PostgreSQL and Redis take the credentials of the environment.

Units run it before they start Prefect: a server that starts without Redis never recovers its streams. It says which of the two did not
answer and why, in one line, and never a secret. It exits with 0 when both answered, else with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from selfhosted_prefect.connections import open_database, open_redis
from selfhosted_prefect.settings import DATABASE_LOGIN, DOCKET_URL, Settings

LIMIT = 60.0
ATTEMPT = 5.0
PAUSE = 0.5

Probe = Callable[[Settings], Awaitable[None]]


async def postgresql(settings: Settings) -> None:
    """Log in to the database and run a statement."""
    async with open_database(settings, "prefect-await-state", ATTEMPT) as connection:
        await connection.execute("SELECT 1")


async def redis(settings: Settings) -> None:
    """Log in to Redis and send a command."""
    async with open_redis(settings.docket_url, ATTEMPT) as command:
        await command("PING")


PROBES: Mapping[str, Probe] = {"PostgreSQL": postgresql, "Redis": redis}


async def wait(name: str, probe: Probe, settings: Settings, end: float) -> str:
    """Try until it answers, or the time is over: the last error, empty when it answered."""
    while True:
        try:
            async with asyncio.timeout(ATTEMPT):
                await probe(settings)
        except Exception as error:
            if time.monotonic() + PAUSE >= end:
                reason = f"no answer within {ATTEMPT:g} s" if isinstance(error, TimeoutError) else settings.explain(error)
                return f"{name} at {settings.addresses[name]} is not ready: {reason}"
        else:
            return ""
        await asyncio.sleep(PAUSE)


async def problem(settings: Settings, limit: float, probes: Mapping[str, Probe]) -> str:
    """Wait for all at once: what did not answer, on one line; empty when all did."""
    end = time.monotonic() + limit
    answers = await asyncio.gather(*(wait(name, probe, settings, end) for name, probe in probes.items()))
    problems = [answer for answer in answers if answer]
    return f"waited {limit:g} s: {'; '.join(problems)}" if problems else ""


def main(arguments: Sequence[str], settings: Settings, probes: Mapping[str, Probe] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Wait until PostgreSQL and Redis take the credentials of the environment.")
    parser.add_argument("limit", type=float, nargs="?", default=LIMIT, help="seconds")
    limit = parser.parse_args(arguments).limit
    # A setting that is missing is not waited for.
    settings.require(*DATABASE_LOGIN, DOCKET_URL)
    text = asyncio.run(problem(settings, limit, probes or PROBES))
    if text:
        print(text, file=sys.stderr, flush=True)
    return 1 if text else 0
