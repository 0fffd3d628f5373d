"""A client of a PostgreSQL cluster that tries nothing twice: it writes numbers, one by one, and remembers which were acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import asyncpg

# Of one step: a connection, a question, a write.
STEP_SECONDS = 2.0
# Of the question to a member whether it is the primary; and so long one that is silent keeps the others from being asked again, which is
# what it adds to what is measured.
ASK_SECONDS, ROUND_SECONDS = 0.5, 0.1
# Between two writes, so that the machine has time for the cluster.
PAUSE = 0.01
LONGEST_SECONDS = 1800.0


@dataclass
class Writer:
    """Writes to the member that says that it is the primary. ``hosts`` are the addresses of all by their names."""

    hosts: Mapping[str, str]
    password: str = field(repr=False)
    authority: Path
    api_port: int = 8008
    table: str = "drill"
    pause: float = PAUSE
    acknowledged: list[tuple[float, int]] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    used: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16))
    _asked: dict[str, Future[bool]] = field(default_factory=dict)
    _next: int = 0

    def __enter__(self) -> Writer:
        # Greater than those of any earlier writer, which writes fewer than one in a millisecond.
        self._next = time.time_ns() // 1_000_000
        self._stop.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(30)

    def primary(self) -> str:
        """The member that answers for the primary; empty where none does yet. The answer of one that is slow is for a later call."""
        end = time.monotonic() + ROUND_SECONDS
        for name in self.hosts.keys() - self._asked.keys():
            self._asked[name] = self._pool.submit(self._is_primary, name)
        while self._asked and (left := end - time.monotonic()) > 0:
            done = wait(self._asked.values(), left, FIRST_COMPLETED).done
            for name in [name for name, answer in self._asked.items() if answer in done]:
                if self._asked.pop(name).result():
                    # What the others say is old when it is asked for next.
                    self._asked.clear()
                    return name
        return ""

    def _is_primary(self, name: str) -> bool:
        ask = build_opener(ProxyHandler({}), HTTPSHandler(context=ssl.create_default_context(cafile=self.authority))).open
        with contextlib.suppress(OSError), ask(f"https://{self.hosts[name]}:{self.api_port}/primary", timeout=ASK_SECONDS) as answer:
            return bool(answer.status == 200)
        return False

    def gap(self, since: float) -> float:
        """The longest time without a write that was acknowledged, from so long ago on."""
        times = [when for when, _number in self.acknowledged if when >= since - 1]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    def count(self, since: float) -> int:
        return sum(when >= since for when, _number in self.acknowledged)

    def lost(self, found: set[int]) -> list[int]:
        """The numbers that were acknowledged and are not there."""
        return sorted({number for _when, number in self.acknowledged} - found)

    async def _write(self) -> None:
        end = time.monotonic() + LONGEST_SECONDS
        connection: asyncpg.Connection | None = None
        while not self._stop.is_set() and time.monotonic() < end:
            try:
                connection = connection or await self._connect()
                number, self._next = self._next, self._next + 1
                async with asyncio.timeout(STEP_SECONDS):
                    await connection.execute(f"INSERT INTO {self.table} VALUES ($1)", number)  # noqa: S608  the table's name is ours
                self.acknowledged.append((time.monotonic(), number))
            # The third is of a connection that was ended in the middle of a statement.
            except (OSError, TimeoutError, asyncpg.InternalClientError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self.failed.append((time.monotonic(), f"{type(error).__name__}: {error}"))
                if connection:
                    connection.terminate()
                connection = None
                await asyncio.sleep(0.1)
            await asyncio.sleep(self.pause)
        if connection:
            connection.terminate()

    async def _connect(self) -> asyncpg.Connection:
        name = await asyncio.to_thread(self.primary)
        if not name:
            raise OSError("no member says that it is the primary")
        context = ssl.create_default_context(cafile=self.authority)
        async with asyncio.timeout(STEP_SECONDS):
            made: asyncpg.Connection = await asyncpg.connect(
                host=self.hosts[name], user="prefect", password=self.password, database="prefect", ssl=context, timeout=STEP_SECONDS
            )
        self.used.append((time.monotonic(), name))
        return made
