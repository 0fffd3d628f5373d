# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.action import prefect_report as plugin


@pytest.mark.parametrize("output", ["table", "json"])
def test_the_action(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    printed: list[str] = []
    arguments = {"output": output, "report": {"version": "3.8.8", "url": "u", "hosts": [["api1", {"unreachable": True}, {}]]}}
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(display=printed.append))
    monkeypatch.setattr(plugin.ActionModule, "validate_argument_spec", lambda _self, _spec: (None, arguments))
    result: dict[str, Any] = plugin.ActionModule.__new__(plugin.ActionModule).run()
    problems = ["api1 cannot be reached by Ansible"]
    assert result == {"changed": False, "problems": problems}
    (text,) = printed
    assert "PROBLEM: api1" in text if output == "table" else json.loads(text)["problems"] == problems
