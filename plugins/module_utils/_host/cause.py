# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The one line of a program's output that says why it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_LONGEST = 300
_DETAILS = 3  # lines after an exception's first that belong to it

_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?$")
_OF_A_GROUP = re.compile(r"^\s+\| ")
_ANOTHER = re.compile(r"(?:During handling of the above exception|The above exception was the direct cause)")
# Said after the traceback of what a program went on without.
_HARMLESS = re.compile(r"Failed to load collection")
# Lines that a program writes for its log, after which nothing belongs to an exception any more.
_LOGGED = re.compile(r"\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d|(?:INFO|ERROR|WARNING|DEBUG|CRITICAL)\b|For further information visit")
# The most telling first. What follows on the next lines is in the second part.
_TELLING: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"\*\*\* FATAL CONFIG FILE ERROR"), 3),  # Redis
    (re.compile(r"\[(?:emerg|alert|crit)\]"), 0),  # nginx
    (re.compile(r"unrecognized configuration parameter|invalid value for parameter|syntax error in file"), 0),  # PostgreSQL
    (re.compile(r"\b(?:FATAL|PANIC):"), 0),
    (re.compile(r"\b(?:level=(?:error|fatal|crit\w*)\b|lvl=err)", re.IGNORECASE), 0),  # Prometheus and its exporters
    (re.compile(r"\bpanic: "), 0),
    (re.compile(r"\b(?:address already in use|Can't open the|No space left on device|Permission denied|Fatal error)\b", re.IGNORECASE), 0),
    (re.compile(r"^\s*(?:\S+: )?(?:error|fatal)\b[: ]", re.IGNORECASE), 0),
    (re.compile(r"\b(?:ERROR|CRITICAL)\b"), 0),
)
# They follow from something else, and say nothing of it.
_FOLLOWS = re.compile(r"Application (?:startup|shutdown) failed|Exited with code|contains errors$|ERROR\W*Traceback|^\s*ERROR\W*$")


def cause(lines: Sequence[str]) -> str:
    """The exception that ended a program, or the line that tells most; empty when none does."""
    return _cut(_exception([_OF_A_GROUP.sub("", line) for line in lines]) or _told(lines))


def _exception(lines: Sequence[str]) -> str:
    """The last exception of the last chain of tracebacks that ended something, with the first lines of its details."""
    for begin in reversed([number for number, line in enumerate(lines) if _TRACEBACK in line]):
        for number in range(begin + 1, len(lines)):
            if _TRACEBACK in lines[number]:
                break
            if _EXCEPTION.match(lines[number]) and not _ANOTHER.match(lines[number]):
                if _HARMLESS.search("\n".join(lines[number + 1 : number + 3])):
                    break
                return "; ".join(dict.fromkeys([lines[number], *_details(lines[number + 1 :])]))
    return ""


def _details(lines: Sequence[str]) -> Iterator[str]:
    for line in dict.fromkeys(lines[:_DETAILS]):
        if not line.strip() or _LOGGED.match(line.strip()) or _ANOTHER.match(line) or _TRACEBACK in line:
            return
        yield line.strip()


def _told(lines: Sequence[str]) -> str:
    for pattern, more in _TELLING:
        for number in range(len(lines) - 1, -1, -1):
            if pattern.search(lines[number]) and not _FOLLOWS.search(lines[number]):
                return "; ".join(line.strip() for line in lines[number : number + 1 + more] if line.strip())
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
