"""Runs Prefect's process worker so that a stop loses no flow run.

By itself the worker ends its flow runs at once when it is told to stop, and they stay Running in the API for ever
(https://github.com/PrefectHQ/prefect/issues/22528 and 16746). Here SIGTERM drains it: it takes no more runs, those that it has go on with
their heartbeats, logs and cancellation, and it stops after the last of them. When the time for that is over their processes get SIGTERM, on
which Prefect reports them as crashed, and at last SIGKILL, on which the worker does.

systemd is notified (READY=1) when the worker has reached its work pool.

It is started by its path, with the Python of the worker's environment: flow runs inherit the worker's variables, and a PYTHONPATH would
bring what the package changes in Prefect's servers into them. So it imports nothing of the package.

Arguments: --drain-timeout SECONDS, and then those of Prefect's command line, such as `worker start --pool POOL`. Without those it ends when
it has found all of Prefect that it needs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

REPORT = 30.0  # seconds in which a flow run's process that got SIGTERM has to report, and end
KILLED = 10.0  # and in which the worker has to report one that got SIGKILL
LEAVE = 15.0  # and in which the worker, being at nothing, has to stop
POLL = 0.2
SETTLED = 10  # polls, in whose time the worker reports the end of a run that has ended

Signals = Callable[[int, str, Callable[..., Any]], None]
"""Prefect's function that says what a worker does on signals."""


class Drain:
    """Counts what a worker is at, and stops it when that is nothing any more."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._draining: asyncio.Task[None] | None = None
        self._busy = 0
        self._worker: Any = None

    def install(self, signals: Any, worker: type[Any]) -> None:  # noqa: ANN401  a module of Prefect
        """Has Prefect's workers drain. Raises AttributeError for a Prefect that has not what this needs."""
        signals.setup_signal_handlers_worker = self._signals(signals.setup_signal_handlers_worker)
        worker.get_and_submit_flow_runs = self._polling(worker.get_and_submit_flow_runs)
        worker.run = self._running(worker.run)

    def _signals(self, before: Signals) -> Signals:
        def setup(pid: int, name: str, print_fn: Callable[..., Any]) -> None:
            before(pid, name, print_fn)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._begin)

        return setup

    def _polling(self, before: Callable[[Any], Awaitable[list[Any]]]) -> Callable[[Any], Awaitable[list[Any]]]:
        async def poll(worker: Any) -> list[Any]:  # noqa: ANN401  Prefect's
            self._worker = worker
            if self._draining:
                return []
            with self._counted():
                taken = await before(worker)
            if getattr(worker, "_work_pool", worker) is not None:
                notify("READY=1")
            return taken

        return poll

    def _running(self, before: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*positional: Any, **named: Any) -> Any:  # noqa: ANN401  Prefect's
            with self._counted():
                return await before(*positional, **named)

        return run

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    def _begin(self) -> None:
        self._draining = self._draining or asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            say(f"no more runs are taken; those that run have {self._timeout:g} s to end")
            if not await self._idle(self._timeout):
                say("the time is over: the runs that are left are stopped, and are reported as crashed")
                send(signal.SIGTERM, children(os.getpid()))
                if not await self._idle(REPORT):
                    send(signal.SIGKILL, descendants(os.getpid()))
                    await self._idle(KILLED)
        finally:
            # Python before 3.12 can miss that a task was cancelled (python/cpython#86296), and the worker would go on, at nothing.
            leaving = threading.Timer(LEAVE, leave)
            leaving.daemon = True
            leaving.start()
            # The one signal that Prefect's worker stops on.
            signal.raise_signal(signal.SIGINT)

    async def _idle(self, seconds: float) -> bool:
        """Waits until the worker was at nothing several times in a row; False when the time is over before that."""
        clock = asyncio.get_running_loop().time
        end, quiet = clock() + seconds, 0
        while quiet < SETTLED:
            # What is taken and does not run yet is in a set of the worker's own.
            busy = self._busy or getattr(self._worker, "_submitting_flow_run_ids", None)
            if busy and clock() >= end:
                return False
            quiet = 0 if busy else quiet + 1
            await asyncio.sleep(POLL)
        return True


def children(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """The processes that a process has started, in any of its threads, and that have not ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(word) for thread in (proc / str(pid) / "task").iterdir() for word in (thread / "children").read_text().split()]
    return []


def descendants(pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Its children, and theirs."""
    return [each for child in children(pid, proc) for each in (child, *descendants(child, proc))]


def send(number: signal.Signals, pids: list[int]) -> None:
    """Sends a signal to processes, some of which may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def notify(state: str) -> None:
    """Tells systemd once, if it is listening; flow runs are not to know where."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def leave() -> None:
    """Ends the process although something in it goes on."""
    say("the worker has not stopped by itself, and is ended")
    os._exit(0)


def say(words: str) -> None:
    print(f"draining: {words}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Prefect's process worker, which SIGTERM drains")
    parser.add_argument("--drain-timeout", type=float, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)

    from prefect.utilities import processutils  # noqa: PLC0415  only a virtual environment with Prefect has it
    from prefect.workers.process import ProcessWorker  # noqa: PLC0415  as above

    Drain(options.drain_timeout).install(processutils, ProcessWorker)
    from prefect.cli import app  # noqa: PLC0415  after that, since it may import the function by its name

    if options.command:
        sys.argv = ["prefect", *options.command]
        app()


if __name__ == "__main__":
    # Python looks for modules in the folder of what it is started with; `settings` and its neighbours are not for a worker.
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    main(sys.argv[1:])
