# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Why a unit does not run: the cause, and what it wrote to the journal since it was last started, each line once."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import redact_document
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.cause import cause
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import seconds_of

_SECONDS = 10.0
_LONGEST_LINE = 400
_READ = 1000  # lines of a unit that are read: some starts that failed one after the other
_RECENT = 600.0  # seconds of a unit that runs
_LOG_BYTES = 65536  # of the end of a log
_TIME = re.compile(r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? (?P<zone>\w+)")
_FIELDS = "MESSAGE,__REALTIME_TIMESTAMP,_SYSTEMD_INVOCATION_ID,INVOCATION_ID,_PID"
_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "Result",
    "ExecMainCode",
    "ExecMainStatus",
    "NRestarts",
    "ConditionResult",
    "InvocationID",
    "InactiveExitTimestamp",
)
_MARKS = re.compile(r"[\s^~|]*$")  # what Python draws below a line of code
_TRACEBACK = "Traceback (most recent call last)"
_ENDED_WELL = ("success", "")
_BY_SIGNAL = ("2", "3")  # of ExecMainCode: killed, dumped


@dataclass(frozen=True)
class Entry:
    """One line of the journal: seconds since the epoch, the start that it belongs to, and whether systemd wrote it."""

    at: float
    start: str
    text: str
    of_systemd: bool = False


@dataclass(frozen=True)
class Wanted:
    """What is asked of each unit: how many lines, without which secrets, of which log beside the journal, and the time."""

    most: int
    secrets: list[str]
    log: str
    now: float


@dataclass(frozen=True)
class Why:
    """Why units do not run: one line, the lines to read, and whether they do run as far as systemd knows."""

    cause: str = ""
    lines: str = ""
    active: bool = False


def why(
    units: Iterable[str],
    lines: int,
    secrets: Iterable[str] = (),
    command: Run = run,
    *,
    log: str = "",
    clock: Callable[[], float] = time.time,
) -> Why:
    """The cause of each unit that has one, and at most so many lines of each unit's last start. Secrets are masked, long lines cut.

    ``log`` is a file that the units write beside the journal, with the time at the beginning of its lines.
    """
    hidden = list(secrets)
    names = list(units)
    found = [_of(unit, Wanted(lines, hidden, log, clock()), command) for unit in names]
    told = [f"{unit}: {one.cause}" if len(names) > 1 else one.cause for unit, one in zip(names, found) if one.cause]
    return Why("; ".join(told), "\n".join(one.lines for one in found), bool(found) and all(one.active for one in found))


def _of(unit: str, wanted: Wanted, command: Run) -> Why:
    state = _state(unit, command)
    active = state.get("ActiveState") in ("active", "reloading")
    argv = ["journalctl", "--no-pager", "--quiet", "--output=json", f"--output-fields={_FIELDS}", f"--lines={_READ}", f"--unit={unit}"]
    ended = command(argv, _SECONDS)
    by_systemd = said_by_systemd(state)
    if ended.timed_out or ended.rc:
        reason = ended.tail(1) or f"no answer within {_SECONDS:g} s"
        return Why(by_systemd, f"(the journal of {unit} cannot be read: {reason})", active)
    entries = this_start(parsed(ended.output), state, lambda those: cause([one.text for one in those if not one.of_systemd]))
    entries += written(wanted.log, seconds_of(state.get("InactiveExitTimestamp", ""))) if wanted.log else []
    if active:
        # It has run since before what is wrong now, and what it wrote then may have had other reasons.
        entries = [one for one in entries if one.at >= wanted.now - _RECENT]
    if not entries:
        since = f"within {_RECENT / 60:.0f} minutes" if active else "since its last start"
        return Why(by_systemd, f"({unit} has written nothing {since})", active)
    shown = _masked(entries, wanted.secrets)
    own = cause([one.text for one in shown if not one.of_systemd])
    begun = datetime.fromtimestamp(shown[0].at).strftime("%Y-%m-%d %H:%M:%S")
    return Why(
        " - ".join(part for part in (own, by_systemd) if part),
        "\n".join([f"{unit}, this start only, from {begun} on:", *_lines(shown, wanted.most)]),
        active,
    )


def _state(unit: str, command: Run) -> dict[str, str]:
    ended = command(["systemctl", "show", "--timestamp=us+utc", f"--property={','.join(_PROPERTIES)}", "--", unit], _SECONDS)
    return {} if ended.rc else dict(line.split("=", 1) for line in ended.output.splitlines() if "=" in line)


def said_by_systemd(state: dict[str, str]) -> str:
    """How systemd says that a unit ended; empty when it runs, or was stopped in order."""
    if state.get("LoadState") not in ("loaded", None, ""):
        return f"systemd says: unit {state['LoadState']}"
    if state.get("ConditionResult") == "no" and state.get("ActiveState") == "inactive":
        return "systemd says: not started, as a condition of its unit does not hold"
    restarts = int(state.get("NRestarts") or 0)
    again = f", started again {restarts} times" if restarts > 1 else ", started again once" if restarts else ""
    result = state.get("Result", "")
    if result in _ENDED_WELL:
        return f"systemd says: {state.get('ActiveState')}{again}" if restarts else ""
    status = state.get("ExecMainStatus", "")
    ended = f"signal {status}" if state.get("ExecMainCode") in _BY_SIGNAL else f"exit status {status}" if status not in ("", "0") else ""
    return f"systemd says: {result}{f' ({ended})' if ended else ''}{again}"


def parsed(output: str) -> list[Entry]:
    """What journalctl prints as JSON. Messages that are no UTF-8 come as numbers."""
    entries = []
    for line in output.splitlines():
        try:
            field: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        message = field.get("MESSAGE")
        if isinstance(message, list):
            message = bytes(message).decode("utf-8", "replace")
        of_systemd = "INVOCATION_ID" in field
        start = str(field.get("INVOCATION_ID") or field.get("_SYSTEMD_INVOCATION_ID") or "")
        at = int(field.get("__REALTIME_TIMESTAMP") or 0) / 1e6
        entries += [Entry(at, start, text, of_systemd) for text in str(message or "").splitlines()]
    return entries


def written(path: str, since: float) -> list[Entry]:
    """The lines of a log since then; those without a time belong to the one before."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123  its end only
            stream.seek(max(os.fstat(stream.fileno()).st_size - _LOG_BYTES, 0))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return [Entry(since, "", f"({path} cannot be read: {error.strerror})", of_systemd=True)]
    at, entries = 0.0, []
    for line in lines:
        found = _TIME.match(line)
        if found:
            moment = datetime.strptime(found["time"], "%Y-%m-%d %H:%M:%S")
            at = (moment.replace(tzinfo=timezone.utc) if found["zone"] in ("UTC", "GMT") else moment).timestamp()
        # Its times may be whole seconds.
        if at >= since - 1:
            entries.append(Entry(at, "", line))
    return entries


def this_start(entries: Sequence[Entry], state: dict[str, str], has_cause: Callable[[Sequence[Entry]], object]) -> list[Entry]:
    """The lines of the last start. While systemd starts a unit again and again, those of the last one of them that tells a cause."""
    starts: dict[str, list[Entry]] = {}
    for one in entries:
        if one.start:
            starts.setdefault(one.start, []).append(one)
    if not starts:
        return list(entries)
    current = state.get("InvocationID") or next(reversed(starts))
    # Those that systemd made by itself since the unit was started on purpose: no earlier outage has a part in it.
    those = [*list(starts.values())[-int(state.get("NRestarts") or 0) - 1 :]] if current in starts or not state.get("InvocationID") else []
    for lines in reversed(those):
        if has_cause(lines):
            return lines
    return starts.get(current, [])


def _masked(entries: Sequence[Entry], secrets: list[str]) -> list[Entry]:
    """Masked as one text and before anything is cut: a secret may span lines, and half of one would not be recognised."""
    text = redact_document("".join(f"{one.text}\n\0{number}\n" for number, one in enumerate(entries)), secrets)
    shown, part = [], ""
    for line in text.splitlines():
        if line.startswith("\0"):
            shown.append(replace(entries[int(line[1:])], text=part))
            part = ""
        else:
            part = line
    return shown


def _lines(entries: Sequence[Entry], most: int) -> list[str]:
    """The last lines, each text once. A long traceback keeps its head, which says that what follows is one."""
    last = {one.text.strip(): one for one in entries if not _MARKS.fullmatch(one.text)}
    every = [one for one in entries if last.get(one.text.strip()) is one]
    kept = every[-most:]
    heads = [one for one in every if one.text.lstrip().startswith(_TRACEBACK)]
    if heads and most > 1 and not any(one in heads for one in kept):
        kept = [heads[-1], *every[-most + 1 :]]
    return [f"{datetime.fromtimestamp(one.at).strftime('%H:%M:%S')} {_cut(one.text)}" for one in kept]


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "..."
