# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of ``prefect_report``: it has no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.selfhosted.prefect.plugins.module_utils._page import page
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import assemble, table


class ActionModule(ActionBase):
    """Prints the report, for a person or for a machine."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        spec = {
            "report": {"type": "dict", "required": True},
            "output": {"type": "str", "choices": ["table", "json", "html"], "default": "table"},
            "path": {"type": "path", "default": "prefect-status.html"},
            "history": {"type": "dict", "default": {}},
        }
        options = self.validate_argument_spec(spec)[1]
        report = assemble(options["report"])
        result.update(changed=False, problems=report["problems"])
        if options["output"] == "html":
            result.update(changed=True, path=str(Path(options["path"]).absolute()))
            if not self._task.check_mode:
                _write(Path(result["path"]), page(report, options["history"]))
            Display().display(f"\nWrote {result['path']}\n")
        elif options["output"] == "json":
            Display().display(json.dumps(report, sort_keys=True))
        else:
            Display().display(f"\n{table(report)}\n")
        return result


def _write(path: Path, text: str) -> None:
    """Whole or not at all: somebody may be looking."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise AnsibleActionFail(
            f"{path} was not written: {error.strerror}. Name another file, in a folder that you may write to."
        ) from error
