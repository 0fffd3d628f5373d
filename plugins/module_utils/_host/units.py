# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What systemd says of units, and whether each one runs with the configuration that is on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

Run = Callable[[list[str]], str]
"""Runs a command and returns its standard output."""
ModifiedAt = Callable[[str], "float | None"]
"""When a path last changed, in seconds since the epoch; None when it does not exist."""

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "ExecMainStartTimestamp",
    "StateChangeTimestamp",
    "MainPID",
    "NRestarts",
    "MemoryCurrent",
    "NeedDaemonReload",
)


@dataclass(frozen=True)
class Unit:
    """One unit: ``since`` is when its main process started (seconds since the epoch, 0 if it never did)."""

    name: str
    loaded: bool
    active: bool
    state: str
    enabled: bool
    since: float
    pid: int
    restarts: int
    memory_bytes: int
    stale: bool
    needs_reload: bool = False


def modified_at(path: str) -> float | None:
    """When the path itself (a symlink, not what it points at) last changed."""
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return None


def link_targets(paths: Iterable[str]) -> dict[str, str]:
    """What each path points at; those that are no symlinks are left out."""
    return {path: os.readlink(path) for path in paths if os.path.islink(path)}  # noqa: PTH114, PTH115  as they are written


def units(
    names: Iterable[str], paths: Iterable[str], run: Run, modified: ModifiedAt = modified_at, *, reload_paths: Iterable[str] = ()
) -> list[Unit]:
    """The units named (glob patterns match loaded units), each ``stale`` if it started before one of ``paths`` last changed.

    One that is not, and was neither started nor reloaded since one of ``reload_paths`` changed, ``needs_reload``.
    """
    wanted = list(names)
    if not wanted:
        return []
    changed, changed_reload = (
        max((when for when in map(modified, each) if when is not None), default=0.0) for each in (paths, reload_paths)
    )
    # Microseconds (systemd 247), or a start within the same second would count as stale.
    output = run(["systemctl", "show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", "--", *wanted])
    return [_unit(block, changed, changed_reload) for block in output.split("\n\n") if block.strip()]


def _unit(block: str, changed: float, changed_reload: float) -> Unit:
    values = dict(line.split("=", 1) for line in block.strip().splitlines() if "=" in line)
    since = seconds_of(values.get("ExecMainStartTimestamp", ""))
    active = values.get("ActiveState") in ("active", "activating", "reloading")
    stale = active and (since < changed or values.get("NeedDaemonReload") == "yes")
    return Unit(
        name=values.get("Id", ""),
        loaded=values.get("LoadState") == "loaded",
        active=active,
        state=f"{values.get('ActiveState', 'unknown')} ({values.get('SubState', 'unknown')})",
        enabled=values.get("UnitFileState", "").startswith("enabled"),
        since=since,
        pid=_number(values.get("MainPID", "")),
        restarts=_number(values.get("NRestarts", "")),
        memory_bytes=_number(values.get("MemoryCurrent", "")),
        stale=stale,
        # A reload is a change of state, from "active" by "reloading" to "active".
        needs_reload=active and not stale and seconds_of(values.get("StateChangeTimestamp", "")) < changed_reload,
    )


def seconds_of(timestamp: str) -> float:
    """``Mon 2026-11-23 15:10:59.123456 UTC`` in seconds since the epoch; 0 for ``n/a`` and nothing."""
    try:
        _day, date, time, _zone = timestamp.split()
        return datetime.strptime(f"{date} {time}", "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0


def _number(value: str) -> int:
    return int(value) if value.isdigit() else 0
