# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of ``prefect_report``: it has no other."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import assemble, table


class ActionModule(ActionBase):
    """Prints the report, for a person or for a machine."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        spec = {
            "report": {"type": "dict", "required": True},
            "output": {"type": "str", "choices": ["table", "json"], "default": "table"},
        }
        options = self.validate_argument_spec(spec)[1]
        report = assemble(options["report"])
        Display().display(json.dumps(report, sort_keys=True) if options["output"] == "json" else f"\n{table(report)}\n")
        return {**result, "changed": False, "problems": report["problems"]}
