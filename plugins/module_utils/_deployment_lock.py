# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""A lease in Prefect's Redis: a run that changes the deployment holds it, and all other runs are refused meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import Reply

KEY = "selfhosted.prefect:deployment"

ANY_HOLDER = "*"
"""In place of a token: takes the lease from any holder."""

# Gives the lease to ARGV[1] if it is free, already theirs, or of ARGV[4], whom they follow; else returns its holder.
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

    def gone(self, here: Holder, runs: Callable[[int, int], bool]) -> bool:
        """Whether it is known to be over: it ran where ``here`` does, since the same boot, and its process is not there any more."""
        return self.pid > 0 and (self.machine, self.boot) == (here.machine, here.boot) and not runs(self.pid, self.started)

    def text(self) -> str:
        """As it is kept."""
        return json.dumps({**asdict(self), "token": self.token}, sort_keys=True)


def parse(text: str) -> Holder:
    """A holder as it is kept."""
    return from_values(json.loads(text))


def from_values(values: Mapping[str, Any]) -> Holder:
    """A holder out of names and values. What is missing is empty."""
    numbers = ("pid", "started", "since", "refreshed")
    return Holder(**{each.name: values.get(each.name, 0 if each.name in numbers else "") for each in fields(Holder)})


class Lease:
    """The lease, over one connection: ``call`` is :meth:`Redis.call`."""

    def __init__(self, call: Callable[..., Reply]) -> None:
        self._call = call

    def holder(self) -> Holder | None:
        """Who holds it."""
        held = self._call("GET", KEY)
        return parse(str(held)) if held else None

    def hold(self, wanted: Holder, seconds: int, after: str = "") -> Holder | None:
        """Takes it, or holds it for longer, for so many seconds from now; the other holder, when there is one.

        ``after`` is the token of a holder who is known to be gone, or ANY_HOLDER.
        """
        held = self._call("EVAL", _HOLD, 1, KEY, wanted.token, wanted.text(), seconds * 1000, after)
        return parse(str(held)) if held else None

    def release(self, wanted: Holder) -> bool:
        """Releases it; whether it was theirs."""
        return self._call("EVAL", _RELEASE, 1, KEY, wanted.token) == 1

    def left(self) -> float:
        """Seconds for which it is held without another sign of life."""
        milliseconds = self._call("PTTL", KEY)
        return max(milliseconds, 0) / 1000 if isinstance(milliseconds, int) else 0.0


def refusal(holder: Holder, left: float, now: float) -> str:
    """Who holds it, and how to go on."""
    return (
        f"Another run holds the deployment lock: {holder.playbook or 'a playbook'}, by {holder.user} on {holder.machine}"
        f" (process {holder.pid}), since {_moment(holder.since)} ({_span(now - holder.since)} ago), last seen"
        f" {_span(now - holder.refreshed)} ago. Wait until it has ended (-e prefect_lock_wait=600 waits up to 600 s). Only if it is known"
        f" to be dead (there: ps -p {holder.pid}), go on with -e prefect_lock_takeover=true; without another sign of life its lock ends"
        f" in {_span(left)}. Nothing was changed."
    )


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _span(seconds: float) -> str:
    whole = max(int(seconds), 0)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min"


def process_start(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process started, in ticks since the boot; 0 when there is none, or no way to know."""
    return _process(pid, proc)[1]


def process_runs(pid: int, started: int, proc: Path = Path("/proc"), kill: Callable[[int, int], None] = os.kill) -> bool:
    """Whether a process may still run: it is there, and it is the one that started then.

    Where other people's processes are hidden in /proc, or there is no /proc, one that is there counts as the one that is meant.
    """
    try:
        kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is there, and another user's
    state, start = _process(pid, proc)
    # One that was killed stays as a zombie until its parent has looked.
    return state not in ("Z", "X") and (not start or not started or start == started)


def _process(pid: int, proc: Path) -> tuple[str, int]:
    try:
        # Its name, in brackets, may hold anything.
        words = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return words[0], int(words[19])
    except (OSError, IndexError, ValueError):
        return "", 0


def boot_id(proc: Path = Path("/proc")) -> str:
    """Within what processes have one numbering: a boot of this machine, and a container of it. Empty when there is no way to know."""
    try:
        return f"{(proc / 'sys/kernel/random/boot_id').read_text(encoding='ascii').strip()} {(proc / 'self/ns/pid').readlink()}"
    except OSError:
        return ""
