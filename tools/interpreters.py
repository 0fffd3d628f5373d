"""The Pythons of this machine: those on PATH, and those of pyenv and uv."""

from __future__ import annotations

import shutil
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PLACES = (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python")


def interpreters() -> dict[str, Path]:
    """The path of each, by minor version, oldest first."""
    found: dict[str, Path] = {}
    for version in VERSIONS:
        on_path = shutil.which(f"python{version}")
        # A shim of a version manager stands for whatever is configured, or for nothing.
        here = [Path(on_path)] if on_path and "shims" not in on_path else []
        there = [path for place in PLACES for path in sorted(place.glob(f"*{version}*/bin/python{version}"))]
        if usable := here + there:
            found[version] = usable[0]
    return found
