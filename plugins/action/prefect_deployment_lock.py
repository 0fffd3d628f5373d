# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of ``prefect_deployment_lock``: which run this is, and whether another one of this machine still goes on."""

from __future__ import annotations

import getpass
import os
import platform
import time
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.selfhosted.prefect.plugins.module_utils._deployment_lock import boot_id, from_values, process_runs, process_start

_MODULE = "selfhosted.prefect.prefect_deployment_lock"
_POLL_SECONDS = 2.0


def user() -> str:
    """Who runs this. A container may give people a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def this_run() -> dict[str, Any]:
    """The process of ansible-playbook, whose child every task's worker is."""
    pid = os.getppid()
    return {
        "user": user(),
        "machine": platform.node(),
        "boot": boot_id(),
        "pid": pid,
        "started": process_start(pid),
        "playbook": ", ".join(os.path.basename(str(name)) for name in context.CLIARGS.get("args") or ()),  # noqa: PTH119  may be a FQCN
    }


class ActionModule(ActionBase):
    """Runs the module for this run, until it has the lock, or the time to wait is over.

    The module never waits by itself: whether a run of this machine has ended meanwhile can only be seen here.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        run = this_run()
        seconds = self._seconds()
        arguments = {**self._task.args, "_holder": run, "wait": 0}
        waiting = False
        after = ""
        while True:
            answer = self._ask({**arguments, "_after": after}, task_vars)
            holder = answer.get("holder")
            if not holder:
                break
            if holder["token"] != after and from_values(holder).gone(from_values(run), process_runs):
                after = holder["token"]
                continue
            if not waiting:
                waiting, end = True, time.monotonic() + seconds
                if seconds > 0:
                    Display().display(f"Waiting for {holder['playbook']} by {holder['user']} on {holder['machine']} to end.")
            # A run that was killed while it waited must not get the lock.
            if time.monotonic() >= end or os.getppid() != run["pid"]:
                break
            time.sleep(min(_POLL_SECONDS, max(0.0, end - time.monotonic())))
        result.update(answer)
        return result

    def _seconds(self) -> float:
        wait = self._task.args.get("wait") or 0
        try:
            return float(wait)
        except (TypeError, ValueError):
            raise AnsibleActionFail(f"wait must be a number of seconds, not {wait!r}. Nothing was changed.") from None

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module(module_name=_MODULE, module_args=arguments, task_vars=task_vars))
