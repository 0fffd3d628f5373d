"""Gives the workers of Prefect's task queue (docket) names of which no two are the same (see selfhosted_prefect.identity)."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from selfhosted_prefect import identity


def install(module: ModuleType) -> None:
    """Gives the workers of ``docket.worker`` that are given no name a unique one."""
    before = module.Worker.__init__

    def named(self: Any, *positional: Any, **named: Any) -> None:  # noqa: ANN401  docket's own
        before(self, *positional, **named)
        if self.name == identity.plain(os.getpid()):
            self.name = identity.unique(os.getpid(), identity.started(os.getpid()))

    module.Worker.__init__ = named
