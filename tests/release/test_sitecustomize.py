"""What units put on PYTHONPATH, so that a task that is told to stop does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files"
# A task is cancelled just when what it waits for is done, which is what happens to a busy reader of Redis now and then.
CANCELLED = """
import asyncio

async def at_once():
    return None

async def reader():
    await asyncio.wait_for(at_once(), 10)
    await asyncio.sleep(3600)

async def main():
    task = asyncio.create_task(reader())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=0.5)
    print(task.cancelled())

asyncio.run(main())
"""
WAITS = """
import asyncio

async def late(seconds, answer):
    await asyncio.sleep(seconds)
    return answer

async def outcome(timeout):
    try:
        return await asyncio.wait_for(late(0.05, "answer"), timeout)
    except asyncio.TimeoutError:
        return "late"

async def main():
    print(*[await outcome(timeout) for timeout in (10, None, 0.01, 0, -1)])

asyncio.run(main())
"""


def run(program: str, path: str) -> str:
    """What a program prints that is run with that PYTHONPATH."""
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_cancelled_task_stops() -> None:
    assert run(CANCELLED, str(FILES)) == "True"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="fixed in Python 3.12")
def test_without_it_the_task_goes_on() -> None:
    assert run(CANCELLED, "") == "False"


def test_waiting_is_bounded_as_ever() -> None:
    assert run(WAITS, str(FILES)) == run(WAITS, "") == "answer answer late late late"
