"""Names the workers of Prefect's task queue (docket) so that no two have one name, for the processes of Prefect's units.

By itself a worker is called HOST#PID, and two machines that were cloned from one image may have one host name and the same numbers. Here it
is HOST#PID.START#SESSION: a process number means something only within a boot of a kernel and a process namespace, which the session
stands for, and only together with when the process started. The host's name is for people.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from types import ModuleType
from typing import Any


def session(proc: Path = Path("/proc")) -> str:
    """What all processes of this host share until it boots again, and those of no other host do."""
    boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    return hashlib.sha256(f"{boot} {(proc / 'self/ns/pid').readlink()}".encode()).hexdigest()[:16]


def started(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process started, in the kernel's ticks since the boot. Raises OSError when there is none."""
    # The name, in brackets, may hold anything.
    return int((proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19])


def plain(pid: int) -> str:
    """The name that docket gives by itself."""
    return f"{socket.gethostname()}#{pid}"


def unique(pid: int, since: int) -> str:
    """The name of a process of this host that started then."""
    return f"{socket.gethostname()}#{pid}.{since}#{session()}"


def install(module: ModuleType) -> None:
    """Gives the workers of ``docket.worker`` that are given no name a unique one."""
    before = module.Worker.__init__

    def named(self: Any, *positional: Any, **named: Any) -> None:  # noqa: ANN401  docket's own
        before(self, *positional, **named)
        if self.name == plain(os.getpid()):
            self.name = unique(os.getpid(), started(os.getpid()))

    module.Worker.__init__ = named
