# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of ``prefect_support_bundle``: it has no other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.bundle import contents, name, notes, write


class ActionModule(ActionBase):
    """Writes the archive."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        spec = {
            "folder": {"type": "path", "default": "."},
            "hosts": {"type": "list", "elements": "list", "required": True},
            "report": {"type": "dict", "default": {}},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
        }
        options = self.validate_argument_spec(spec)[1]
        now = time.time()
        path = (Path(options["folder"]) / f"{name(now)}.tar.gz").absolute()
        result.update(changed=True, path=str(path), notes=notes(options["hosts"]))
        if not self._task.check_mode:
            try:
                result["bytes"] = write(path, contents(options["hosts"], options["report"], options["secrets"], now), now)
            except OSError as error:
                raise AnsibleActionFail(
                    f"{path} was not written: {error.strerror}. Name another folder, which you may write to."
                ) from error
        return result
