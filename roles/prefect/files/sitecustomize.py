"""What the processes of Prefect's units do differently: Python imports this at their start, from their PYTHONPATH.

Whatever is patched is a module of its own beside this one. Nothing here keeps a process from starting.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

# The module that is waited for, and the one of ours whose `install` is then called with it.
AFTER_IMPORT = {
    "prefect.server.api.server": "prefect_outages",
    "prefect.server.services.task_run_recorder": "prefect_recorder",
    "docket.worker": "prefect_worker_name",
}


class Finder(importlib.abc.MetaPathFinder):
    """Calls a module of ours when another has been imported; no other import is touched."""

    def __init__(self, hooks: dict[str, str]) -> None:
        self._hooks = dict(hooks)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  Python's own signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders have, whose loader also calls the hook; None for what is not waited for."""
        hook = self._hooks.pop(fullname, None)
        if hook is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            install(hook, module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install(hook: str, module: ModuleType) -> None:
    """Calls a hook. One that does not fit this release is said once, and the process goes on as its makers have it."""
    try:
        importlib.import_module(hook).install(module)
    except Exception as error:
        sys.stderr.write(
            f"{hook}: not in force, as {module.__name__} of this release is not what it was written for "
            f"({type(error).__name__}: {error}); the process runs without it.\n"
        )


sys.meta_path.insert(0, Finder(AFTER_IMPORT))

import prefect_no_proxy  # noqa: E402, F401  # pylint: disable=unused-import  # it works as it is imported

if sys.version_info < (3, 12):
    import prefect_cancellation  # noqa: F401  # pylint: disable=unused-import  # it patches as it is imported
