# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""A lease in Prefect's Redis: whoever changes a deployment holds it, and nobody else changes it meanwhile."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.selfhosted.prefect.plugins.module_utils._redis import Reply

KEY = "selfhosted.prefect:deployment"

ANYBODY = "*"
"""In place of a token: whoever holds the lease loses it."""

# Gives the lease to ARGV[1] if it is free, already theirs, or of ARGV[4], whom they follow; else tells who holds it.
_HOLD = """
local held = redis.call('GET', KEYS[1])
local wanted = cjson.decode(ARGV[2])
if held then
  local holder = cjson.decode(held)
  if holder.token == ARGV[1] then wanted.since = holder.since
  elseif ARGV[4] ~= '*' and ARGV[4] ~= holder.token then return held end
end
redis.call('SET', KEYS[1], cjson.encode(wanted), 'PX', ARGV[3])
return false
"""
_RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and cjson.decode(held).token == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
_POLL_SECONDS = 2.0


class Session(Protocol):
    """What is needed of a connection to Redis."""

    def call(self, *words: str | int) -> Reply: ...


@dataclass(frozen=True)
class Holder:
    """A run of a playbook: whose, on which machine, as which process. ``started`` is that process's start, in the kernel's ticks.

    ``since`` and ``refreshed`` are seconds since the epoch.
    """

    user: str
    machine: str
    boot: str
    pid: int
    started: int
    playbook: str
    since: float = 0.0
    refreshed: float = 0.0

    @property
    def token(self) -> str:
        """The same for every task of a run, and for no other run."""
        return hashlib.sha256(f"{self.machine} {self.boot} {self.pid} {self.started}".encode()).hexdigest()[:24]

    def gone(self, boot: str, machine: str, started: Callable[[int], int]) -> bool:
        """Whether it is known to be over: it ran on this machine, since this boot, and its process is not there any more."""
        return self.boot == boot and self.machine == machine and started(self.pid) != self.started

    def text(self) -> str:
        """As it is kept."""
        return json.dumps({**asdict(self), "token": self.token}, sort_keys=True)


def parse(text: str) -> Holder:
    """A holder as it is kept."""
    return from_values(json.loads(text))


def from_values(values: Mapping[str, Any]) -> Holder:
    """A holder out of names and values. What is missing is empty."""
    return Holder(**{each.name: values.get(each.name, 0 if each.name in ("pid", "started", "since", "refreshed") else "") for each in fields(Holder)})


class Lease:
    """The lease, over one connection."""

    def __init__(self, redis: Session) -> None:
        self._redis = redis

    def holder(self) -> Holder | None:
        """Who holds it."""
        held = self._redis.call("GET", KEY)
        return parse(str(held)) if held else None

    def hold(self, wanted: Holder, seconds: int, after: str = "") -> Holder | None:
        """Takes it, or holds it for longer, for so many seconds from now; who holds it instead, when that is somebody else.

        ``after`` is the token of a holder who is known to be gone, or ANYBODY.
        """
        held = self._redis.call("EVAL", _HOLD, 1, KEY, wanted.token, wanted.text(), seconds * 1000, after)
        return parse(str(held)) if held else None

    def release(self, wanted: Holder) -> bool:
        """Gives it back; whether it was theirs."""
        return self._redis.call("EVAL", _RELEASE, 1, KEY, wanted.token) == 1

    def left(self) -> float:
        """Seconds for which it is held without another sign of life."""
        milliseconds = self._redis.call("PTTL", KEY)
        return max(milliseconds, 0) / 1000 if isinstance(milliseconds, int) else 0.0


def acquire(
    lease: Lease,
    wanted: Holder,
    seconds: int,
    *,
    after: str = "",
    wait: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Holder | None:
    """Holds the lease, after at most ``wait`` seconds; who still holds it then, if that is somebody else."""
    end = clock() + wait
    while True:
        blocking = lease.hold(wanted, seconds, after)
        if not blocking or clock() >= end:
            return blocking
        sleep(min(_POLL_SECONDS, max(end - clock(), 0.0)))


def refusal(holder: Holder, left: float, now: float) -> str:
    """Who holds it, and how to go on."""
    return (
        f"Another run holds this deployment's lock: {holder.playbook or 'a playbook'}, by {holder.user} on {holder.machine} (process {holder.pid}),"
        f" for {_span(now - holder.since)}, last seen {_span(now - holder.refreshed)} ago. Wait until it has ended (prefect_lock_wait=SECONDS does)."
        f" If it is known to be dead, go on with prefect_lock_takeover=true; without another sign of life its lock ends in {_span(left)}."
        " Nothing was changed."
    )


def _span(seconds: float) -> str:
    whole = max(int(seconds), 0)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"


def process_start(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process started, in ticks since the boot; 0 when there is none, or no way to know."""
    try:
        # Its name, in brackets, may hold spaces.
        return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def boot_id(proc: Path = Path("/proc")) -> str:
    """Which boot of this machine it is; empty when there is no way to know."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""

