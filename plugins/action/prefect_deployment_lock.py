# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of ``prefect_deployment_lock``: which run this is, and whether another one of this machine still goes on."""

from __future__ import annotations

import getpass
import os
import platform
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.module_utils._deployment_lock import boot_id, from_values, process_start

_MODULE = "selfhosted.prefect.prefect_deployment_lock"


def this_run() -> dict[str, Any]:
    """The process of ansible-playbook, whose child every task's worker is."""
    pid = os.getppid()
    return {
        "user": getpass.getuser(),
        "machine": platform.node(),
        "boot": boot_id(),
        "pid": pid,
        "started": process_start(pid),
        "playbook": ", ".join(os.path.basename(str(name)) for name in context.CLIARGS.get("args") or ()),  # noqa: PTH119  may be a FQCN
    }


class ActionModule(ActionBase):
    """Runs the module for this run, and once more when the run that holds the lock is known to be over."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {**self._task.args, "_holder": this_run()}
        first = self._ask({**arguments, "wait": 0}, task_vars)
        holder = first.get("holder")
        if holder and from_values(holder).gone(boot_id(), platform.node(), process_start):
            first = self._ask({**arguments, "_after": holder["token"]}, task_vars)
        elif holder and float(arguments.get("wait") or 0):
            first = self._ask(arguments, task_vars)
        result.update(first)
        return result

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars))
