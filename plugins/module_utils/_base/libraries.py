# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The libraries that speak to PostgreSQL, Redis and HTTP servers. A Prefect release carries them; Ansible's own interpreter need not.

A module that needs some goes on in the interpreter of a release. Where there is none, as on a bare host, it goes on without, and each
connection fails with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.common.respawn import has_respawned, respawn_module
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError

INTERPRETERS: dict[str, Any] = {"type": "list", "elements": "path", "default": ["/opt/prefect/current/bin/python"]}
"""The option ``interpreters``, which the documentation fragment of this name describes."""


def lacking(*libraries: str) -> list[str]:
    """Those that this interpreter does not have."""
    return [name for name in libraries if importlib.util.find_spec(name) is None]


class MissingLibraryError(NetError):
    """Nothing can be queried, however often it is tried."""

    def __init__(self, library: str) -> None:
        super().__init__(
            f"cannot be queried: {sys.executable} has no library {library}. Every Prefect release has it;"
            " the option interpreters says where it is"
        )


def use_libraries(interpreters: Sequence[str], *libraries: str) -> None:
    """Has the module go on in the first of the interpreters that is there, unless this one has the libraries."""
    if has_respawned() or not lacking(*libraries):
        return
    for path in interpreters:
        if os.access(path, os.X_OK):
            respawn_module(path)  # ends this process
