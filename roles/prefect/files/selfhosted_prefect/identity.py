"""The names of the workers of Prefect's task queue (docket), of which no two are the same.

By itself a worker is called HOST#PID, and two machines that were cloned from one image may have one host name and the same numbers. Here it
is HOST#PID.START#SESSION: a process number means something only within a boot of a kernel and a process namespace, which the session
stands for, and only together with when the process started. The host's name is for people.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path


def session(proc: Path = Path("/proc")) -> str:
    """What all processes of this host share until it boots again, and those of no other host do."""
    boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    return hashlib.sha256(f"{boot} {(proc / 'self/ns/pid').readlink()}".encode()).hexdigest()[:16]


def status(folder: Path) -> list[str]:
    """The words of a process' ``stat`` in /proc that follow its name. Raises OSError when there is none."""
    # The name, in brackets, may hold anything.
    return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()


def started(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process started, in the kernel's ticks since the boot. Raises OSError when there is none."""
    return int(status(proc / str(pid))[19])


def plain(pid: int) -> str:
    """The name that docket gives by itself."""
    return f"{socket.gethostname()}#{pid}"


def unique(pid: int, since: int) -> str:
    """The name of a process of this host that started then."""
    return f"{socket.gethostname()}#{pid}.{since}#{session()}"
