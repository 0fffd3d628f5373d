"""The parts of the proof that need no Prefect: what is asked for, how a check ended, processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = (
    "flow",
    "logs by websocket",
    "logs by read",
    "task runs recorded",
    "event by websocket",
    "variable",
    "4 MB of logs",
    "scheduled deployment",
    "background tasks",
    "background lag",
)

# Which of them need a part of Prefect that settings can switch off.
NEEDS = {
    "scheduler": ("scheduled deployment",),
    "event_persister": ("background lag",),
    "event_stream": ("event by websocket",),
    "task_run_recorder": ("task runs recorded",),
}


class UnreachableError(Exception):
    """The service did not answer the first question, so that nothing can be proved."""


@dataclass(frozen=True)
class Options:
    """What the command line and the environment ask for."""

    url: str
    direct: tuple[str, ...]
    only: tuple[str, ...]
    timeout: float
    lag_events: int
    max_lag: float
    lag_attempts: int
    json_file: Path | None


@dataclass(frozen=True)
class Result:
    """How one check ended: seconds it took, and what was seen or what was wrong."""

    name: str
    ok: bool
    seconds: float
    detail: str


class Child:
    """A process of the proof, in a session of its own: a worker, a task worker."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.command = list(command)
        self.log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process; whatever it says goes to its log."""
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def stop(self, timeout: float = 5.0) -> None:
        """End the process, then whatever is left of its session."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), timeout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def last_lines(self, count: int = 5) -> str:
        """Return the end of what the process said."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(line.strip() for line in lines[-count:] if line.strip())
