"""Run by a release's own Python with the role's files on its path: how many commits are seen to begin, as Prefect uses SQLAlchemy."""

from __future__ import annotations

import asyncio
import json
import sys

import sqlalchemy as sa
from selfhosted_prefect.patches import held
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine


async def main() -> None:
    """Prints for each way to use a session how many commits have begun."""
    held.watch()
    engine = create_async_engine("sqlite+aiosqlite://")
    found = {}
    with held.commits() as commits:
        async with AsyncSession(engine) as session:
            await session.execute(sa.text("SELECT 1"))
        found["read"] = commits.begun
    with held.commits() as commits:
        try:
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(sa.text("CREATE TABLE a (b INT)"))
                raise KeyError
        except KeyError:
            found["failed before"] = commits.begun
    with held.commits() as commits:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(sa.text("CREATE TABLE b (b INT)"))
        found["committed"] = commits.begun
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
