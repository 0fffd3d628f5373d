"""Importing this makes this checkout importable as the collection, whatever its folder is called and whatever is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

NAME = "ansible_collections.selfhosted.prefect"
ROOT = Path(__file__).resolve().parents[2]


def provide() -> None:
    """Put the package and those around it in place, unless they are there."""
    parent = None
    for depth, part in enumerate(NAME.split("."), start=1):
        name = ".".join(NAME.split(".")[:depth])
        if name not in sys.modules:
            module = ModuleType(name)
            module.__path__ = [str(ROOT)] if name == NAME else []
            sys.modules[name] = module
        if parent:
            setattr(parent, part, sys.modules[name])
        parent = sys.modules[name]


provide()
