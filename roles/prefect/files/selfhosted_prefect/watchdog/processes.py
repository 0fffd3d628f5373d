"""The processes of this host's units, as the kernel shows them in /proc."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from selfhosted_prefect import identity

ESTABLISHED, LISTEN = "01", "0A"


@dataclass(frozen=True)
class Process:
    """A unit's main process; ``started`` in the kernel's ticks since the boot."""

    pid: int
    started: int
    age: float


@dataclass(frozen=True)
class Snapshot:
    """What the kernel shows of a process at one moment."""

    state: str
    """R, S, D, T, t or Z, as in /proc."""
    cpu: float
    """Seconds of CPU time since it started."""
    waiting: int | None = None
    """Connections on its port that it has not accepted; none: nothing listens there."""
    peers: frozenset[str] | None = frozenset()
    """Where its connections lead; none: cannot be seen."""


class Socket(NamedTuple):
    """A line of /proc/net/tcp."""

    state: str
    port: int
    peer: str
    queue: int
    inode: str


class ProcFs:
    """Processes as /proc shows them."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def main(self, unit: str) -> Process | None:
        for folder in self._proc.iterdir():
            if not folder.name.isdigit():
                continue
            try:
                if any(line.rpartition("/")[2] == unit for line in (folder / "cgroup").read_text().splitlines()):
                    words = identity.status(folder)
                    parent, started = int(words[1]), int(words[19])
                    # systemd's own child; the others are its children.
                    if parent == 1:
                        return Process(int(folder.name), started, self._age(started))
            except (OSError, ValueError, IndexError):
                continue  # gone meanwhile, or another user's
        return None

    def snapshot(self, process: Process, port: int = 0) -> Snapshot | None:
        """None when it has ended."""
        folder = self._proc / str(process.pid)
        try:
            words = identity.status(folder)
            if int(words[19]) != process.started:
                return None
            cpu = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            table = list(self._sockets())
        except (OSError, ValueError, IndexError):
            return None
        queues = [each.queue for each in table if each.state == LISTEN and each.port == port]
        return Snapshot(words[0], cpu, sum(queues) if queues else None, self._peers(folder, table))

    def own_peers(self) -> frozenset[str]:
        """Where the connections of this very process lead: to Redis."""
        return self._peers(self._proc / "self", list(self._sockets())) or frozenset()

    def _sockets(self) -> Iterator[Socket]:
        for name in ("tcp", "tcp6"):
            path = self._proc / "self" / "net" / name
            # A host without IPv6 has no tcp6.
            for line in path.read_text().splitlines()[1:] if path.exists() else []:
                words = line.split()
                # Of a socket that listens, the receive queue is what waits to be accepted.
                port, queue = int(words[1].rpartition(":")[2], 16), int(words[4].partition(":")[2], 16)
                yield Socket(words[3], port, words[2], queue, words[9])

    @staticmethod
    def _peers(folder: Path, table: Sequence[Socket]) -> frozenset[str] | None:
        inodes = set()
        try:
            for link in (folder / "fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            return None
        return frozenset(each.peer for each in table if each.state == ESTABLISHED and each.inode in inodes)

    def stop(self, process: Process, sequence: Sequence[tuple[int, float]]) -> str:
        """Sends each signal in turn and waits so many seconds for the end; what it took."""
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return "it had ended already"
        try:
            if identity.started(process.pid, self._proc) != process.started:
                return "it had ended already"
            # A frozen process takes no other signal than SIGKILL.
            signal.pidfd_send_signal(handle, signal.SIGCONT)
            for number, seconds in sequence:
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], seconds)[0]:
                    return f"it ended on {signal.Signals(number).name}"
        except (OSError, ValueError, IndexError):
            return "it has ended"
        finally:
            os.close(handle)
        return "it has not ended"

    @staticmethod
    def _age(started: int) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
