# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which versions of Prefect's client ask, read from nginx's access log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# The client calls itself "prefect/3.8.8 (API 0.8.4)".
_AGENT = rb'"prefect/(?P<version>[0-9][0-9A-Za-z.+!-]{0,63})[ "]'
# The role's own format. In a value nginx writes a quote as \", so the key cannot be part of another's value.
_JSON = re.compile(rb'\{"time":"(?P<time>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:[+-]\d{2}:\d{2}|Z))",.*?,"agent":' + _AGENT)
# In the combined format the user agent is the last thing in quotes, in which nginx writes a quote as \x22. Others may have more after it.
_COMBINED = re.compile(rb'\[(?P<time>\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\] "[^"]*" \d{3} \S+ "[^"]*" ' + _AGENT)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Client:
    """What was seen of a version. ``last_seen`` is in seconds since the epoch."""

    requests: int
    last_seen: int


def clients(lines: Iterable[bytes], since: float) -> dict[str, Client]:
    """The versions in lines of an access log that were seen at ``since`` (seconds since the epoch) or later."""
    seen: dict[str, Client] = {}
    times: dict[bytes, int] = {}
    for line in lines:
        found = _JSON.match(line) if line.startswith(b"{") else _COMBINED.search(line)
        if not found:
            continue
        word = found["time"]
        # Many lines are of the same second, and reading a time costs more than all the rest.
        if word not in times:
            times[word] = _seconds(word)
        when = times[word]
        if when < since:
            continue
        version = found["version"].decode("ascii")
        before = seen.get(version, Client(0, 0))
        seen[version] = Client(before.requests + 1, max(before.last_seen, when))
    return seen


def last_lines(path: Path, most: int) -> Iterator[bytes]:
    """The lines in the last ``most`` bytes of a file; none when there is no file. Raises OSError when it cannot be read."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, 2) - most)
            # One byte before, so that a line that begins right there is a whole one.
            file.seek(max(0, start - 1))
            if start:
                file.readline()
            # What nginx appends meanwhile is left for the next time: otherwise a busy log would never end.
            while file.tell() - start < most:
                line = file.readline()
                if not line:
                    return
                yield line
    except FileNotFoundError:
        return


def _seconds(word: bytes) -> int:
    """``24/Nov/2026:09:32:46 +0000`` or ``2026-11-24T09:32:46+00:00`` in seconds since the epoch, 0 for no time.

    (strptime would go by the locale's names of months.)
    """
    text = word.decode("ascii")
    try:
        if text[4] == "-":
            return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
        month = _MONTHS.index(text[3:6]) + 1
        return int(datetime.strptime(f"{text[:3]}{month:02d}{text[6:]}", "%d/%m/%Y:%H:%M:%S %z").timestamp())
    except ValueError:
        return 0
