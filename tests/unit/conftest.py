"""Lets plain pytest import the collection from a checkout that has any name; ansible-test brings its own loader."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
IN_COLLECTIONS_TREE = ROOT.parts[-3:] == ("ansible_collections", "selfhosted", "prefect")


def _package(name: str, *paths: str) -> None:
    # Another folder's tests may have provided it; what they have imported since hangs on it.
    if name in sys.modules:
        return
    module = ModuleType(name)
    module.__path__ = list(paths)
    sys.modules[name] = module
    parent, _dot, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


if IN_COLLECTIONS_TREE:
    sys.path.insert(0, str(ROOT.parents[2]))
else:
    _package("ansible_collections")
    _package("ansible_collections.selfhosted")
    _package("ansible_collections.selfhosted.prefect", str(ROOT))
