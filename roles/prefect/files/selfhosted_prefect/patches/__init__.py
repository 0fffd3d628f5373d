"""What the processes of Prefect's units do differently: sitecustomize.py activates it as they start.

Each patch is a module of its own. None of them keeps a process from starting.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

from selfhosted_prefect.patches import no_proxy

# The modules that are waited for, and the patches whose `install` is then called with each.
AFTER_IMPORT = {
    "prefect.server.api.server": (f"{__name__}.outages", f"{__name__}.auth"),
    "prefect.server.utilities.subscriptions": (f"{__name__}.auth",),
    "prefect.server.services.task_run_recorder": (f"{__name__}.recorder",),
    "prefect_redis.messaging": (f"{__name__}.publisher",),
    "docket.worker": (f"{__name__}.worker_name",),
}


class Finder(importlib.abc.MetaPathFinder):
    """Applies a patch when the module that it patches has been imported; no other import is touched."""

    def __init__(self, hooks: Mapping[str, Sequence[str]]) -> None:
        self._hooks = dict(hooks)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  Python's own signature
        target: ModuleType | None = None,  # noqa: ARG002  as above
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that the other finders have, whose loader also calls the hooks; None for what is not waited for."""
        hooks = self._hooks.pop(fullname, ())
        if not hooks:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for hook in hooks:
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


def activate() -> None:
    """Has the patches applied, each when what it patches is there."""
    sys.meta_path.insert(0, Finder(AFTER_IMPORT))
    no_proxy.spare(os.environ)
    if sys.version_info < (3, 12):
        from selfhosted_prefect.patches import cancellation  # noqa: PLC0415  it costs an import of asyncio

        cancellation.install()
