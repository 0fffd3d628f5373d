# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The data of PostgreSQL that a host has, whether a server runs on it or not."""

from __future__ import annotations

import glob
import struct
from pathlib import Path
from typing import Any

PATTERN = "/var/lib/postgresql/*/main"


def data_directories(pattern: str = PATTERN) -> list[dict[str, Any]]:
    """Each with its ``path``, the ``major`` version that it is of, and the ``system_identifier`` of the cluster that it belongs to."""
    found = []
    for path in sorted(map(Path, glob.glob(pattern))):  # noqa: PTH207  as packages write it
        version = path / "PG_VERSION"
        if version.is_file():
            found.append({"path": str(path), "major": version.read_text(encoding="ascii").strip(), "system_identifier": _identifier(path)})
    return found


def _identifier(path: Path) -> str:
    """The first thing in the control file of every version; empty where there is none."""
    try:
        with (path / "global" / "pg_control").open("rb") as file:
            return str(struct.unpack("=Q", file.read(8))[0])
    except (OSError, struct.error):
        return ""
