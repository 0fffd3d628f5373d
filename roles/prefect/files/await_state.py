"""Wait, within a limit, until PostgreSQL and Redis take the credentials of the environment.

Units run it before they start Prefect, with the release's own Python: a server that starts without Redis never recovers
its streams. It says which of the two did not answer and why, in one line, and never a secret. The only argument is the
limit in seconds (60). It exits with 0 when both answered, else with 1.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote, urlsplit

LIMIT = 60.0
ATTEMPT = 5.0
PAUSE = 0.5
DATABASE = "PREFECT_SERVER_DATABASE_"
TLS = f"{DATABASE}SQLALCHEMY_CONNECT_ARGS_TLS_"

Environment = Mapping[str, str]
Probe = Callable[[Environment], Awaitable[None]]


def tls_context(environment: Environment) -> ssl.SSLContext | None:
    """TLS to the database as Prefect would do it; None for none."""
    if environment.get(f"{TLS}ENABLED", "").lower() not in ("true", "1"):
        return None
    context = ssl.create_default_context(cafile=environment.get(f"{TLS}CA_FILE"))
    if certificate := environment.get(f"{TLS}CERT_FILE"):
        context.load_cert_chain(certificate, environment.get(f"{TLS}KEY_FILE"))
    context.check_hostname = environment.get(f"{TLS}CHECK_HOSTNAME", "true").lower() in ("true", "1")
    return context


async def postgresql(environment: Environment) -> None:
    """Log in to the database and ask it something."""
    import asyncpg  # noqa: PLC0415  only a release has it

    connection = await asyncpg.connect(
        host=environment[f"{DATABASE}HOST"],
        port=int(environment.get(f"{DATABASE}PORT", "5432")),
        user=environment[f"{DATABASE}USER"],
        password=environment[f"{DATABASE}PASSWORD"],
        database=environment[f"{DATABASE}NAME"],
        ssl=tls_context(environment) or False,
        timeout=ATTEMPT,
    )
    try:
        await connection.execute("SELECT 1")
    finally:
        connection.terminate()


async def redis(environment: Environment) -> None:
    """Log in to Redis and ask it something."""
    from redis.asyncio import Redis  # noqa: PLC0415  only a release has it

    async with Redis.from_url(environment["PREFECT_SERVER_DOCKET_URL"], socket_connect_timeout=ATTEMPT, socket_timeout=ATTEMPT) as client:
        await client.ping()


def addresses(environment: Environment) -> dict[str, str]:
    """Where each of them is."""
    url = urlsplit(environment["PREFECT_SERVER_DOCKET_URL"])
    return {
        "PostgreSQL": f"{environment[f'{DATABASE}HOST']}:{environment.get(f'{DATABASE}PORT', '5432')}",
        "Redis": f"{url.hostname}:{url.port or 6379}",
    }


def without_secrets(text: str, environment: Environment) -> str:
    """The text on one line, with the passwords masked."""
    password = urlsplit(environment["PREFECT_SERVER_DOCKET_URL"]).password or ""
    for secret in (environment.get(f"{DATABASE}PASSWORD", ""), password, unquote(password)):
        text = text.replace(secret, "********") if secret else text
    return " ".join(text.split())


async def wait(name: str, probe: Probe, environment: Environment, end: float) -> str:
    """Try until it answers, or the time is over: the last error, empty when it answered."""
    while True:
        try:
            await asyncio.wait_for(probe(environment), ATTEMPT)
        except Exception as error:
            reason = f"no answer within {ATTEMPT:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            if time.monotonic() + PAUSE >= end:
                return f"{name} at {addresses(environment)[name]} is not ready: {without_secrets(reason, environment)}"
        else:
            return ""
        await asyncio.sleep(PAUSE)


async def main(environment: Environment, limit: float, probes: Mapping[str, Probe]) -> int:
    """Wait for all at once; the exit status."""
    end = time.monotonic() + limit
    answers = await asyncio.gather(*(wait(name, probe, environment, end) for name, probe in probes.items()))
    problems = [answer for answer in answers if answer]
    if problems:
        print(f"waited {limit:g} s: {'; '.join(problems)}", file=sys.stderr, flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        seconds = float(sys.argv[1]) if len(sys.argv) > 1 else LIMIT
        sys.exit(asyncio.run(main(os.environ, seconds, {"PostgreSQL": postgresql, "Redis": redis})))
    except KeyError as missing:
        sys.exit(f"the environment has no {missing.args[0]}: start this with the settings file of the role prefect")
