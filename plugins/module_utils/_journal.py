# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""The last lines a unit wrote to the journal, for a message that somebody reads at night."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.selfhosted.prefect.plugins.module_utils._command import Run, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._redact import redact

_SECONDS = 10.0
_LONGEST_LINE = 400


def last_lines(units: Iterable[str], lines: int, secrets: Iterable[str] = (), command: Run = run) -> str:
    """At most ``lines`` lines of each unit, long ones cut, secrets masked; a reason instead when there are none."""
    hidden = list(secrets)
    return "\n".join(_lines_of(unit, lines, hidden, command) for unit in units)


def _lines_of(unit: str, lines: int, secrets: list[str], command: Run) -> str:
    argv = ["journalctl", "--no-pager", "--quiet", "--output=short-iso", f"--lines={lines}", f"--unit={unit}"]
    ended = command(argv, _SECONDS)
    if ended.timed_out or ended.rc:
        return f"(the journal of {unit} cannot be read: {ended.tail(1) or f'no answer within {_SECONDS:g} s'})"
    # Masked before anything is cut: half a secret would not be recognised.
    shown = [_cut(line) for line in redact(ended.tail(lines), secrets).splitlines()]
    return "\n".join(shown) or f"(the journal of {unit} is empty)"


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "..."
