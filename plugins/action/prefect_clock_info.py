# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of ``prefect_clock_info``: it has no other, because only here is it known when the question was sent."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase

_TIMES = 3


class ActionModule(ActionBase):
    """Reads the host's clock a few times, and keeps the answer that came fastest: the time within that is the error."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec({})
        answers = [self._read() for _number in range(_TIMES)]
        known = [answer for answer in answers if answer is not None]
        if not known:
            return {**result, "changed": False, "offset": 0.0, "error": 0.0, "known": False}
        error, offset = min(known)
        return {**result, "changed": False, "offset": round(offset, 3), "error": round(error, 3), "known": True}

    def _read(self) -> tuple[float, float] | None:
        """The error, and by how much the host's clock is ahead of this one; None where it does not tell."""
        sent, begun = time.time(), time.monotonic()
        answer = self._low_level_execute_command("date -u +%s.%N", sudoable=False)
        took = time.monotonic() - begun
        try:
            read = float(str(answer.get("stdout", "")).split()[-1])
        except (IndexError, ValueError):
            return None
        return took / 2, read - (sent + took / 2)
