# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.action import prefect_clock_info as plugin


class Host:
    """A host that is so many seconds ahead, and takes so long to answer; it reads its clock at the very end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ahead: float, delays: list[float], told: str = "") -> None:
        self.now, self.ahead, self.delays, self.told = 1000.0, ahead, delays, told
        monkeypatch.setattr(plugin, "time", SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now))
        monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
        monkeypatch.setattr(plugin.ActionModule, "validate_argument_spec", lambda _self, _spec: (None, {}))
        monkeypatch.setattr(plugin.ActionModule, "_low_level_execute_command", self.execute)

    def execute(self, _command: str, sudoable: bool) -> dict[str, Any]:
        assert not sudoable
        self.now += self.delays.pop(0)
        return {"stdout": self.told or f"{self.now + self.ahead:.9f}\n"}

    def result(self) -> dict[str, Any]:
        return dict(plugin.ActionModule.__new__(plugin.ActionModule).run())


@pytest.mark.parametrize("ahead", [0.0, 1.5, -90.0])
def test_the_fastest_answer_counts(monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    found = Host(monkeypatch, ahead, [4.0, 0.2, 1.0]).result()
    assert (found["changed"], found["known"], found["error"]) == (False, True, 0.1)
    # It was read at the end of the time, which is what the error is for.
    assert found["offset"] == pytest.approx(ahead + 0.1)
    assert abs(found["offset"] - ahead) <= found["error"] + 0.001


@pytest.mark.parametrize("told", [" ", "no such command"])
def test_a_host_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    assert Host(monkeypatch, 0, [1.0, 1.0, 1.0], told).result() == {"changed": False, "offset": 0.0, "error": 0.0, "known": False}
