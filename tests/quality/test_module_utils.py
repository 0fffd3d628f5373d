"""What modules share is layered: no part of it imports another that imports it, and no module is imported."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "plugins" / "module_utils"
BASE = "ansible_collections.selfhosted.prefect.plugins."


def imports(file: Path) -> set[str]:
    """The parts of the collection that a file imports, by their names below plugins."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(BASE):
            name = (node.module or "").removeprefix(BASE)
            parts = {f"{name}.{alias.name}" for alias in node.names if is_part(f"{name}.{alias.name}")}
            found |= parts or {name}
    return found


def is_part(name: str) -> bool:
    return FOLDER.parent.joinpath(*name.split(".")).with_suffix(".py").is_file()


def test_imports_go_downwards() -> None:
    parts = {f"module_utils.{'.'.join(file.relative_to(FOLDER).with_suffix('').parts)}": imports(file) for file in FOLDER.rglob("*.py")}
    assert len(parts) > 50
    assert {name for found in parts.values() for name in found} <= set(parts), "something that is no part of module_utils is imported"
    tuple(TopologicalSorter(parts).static_order())  # fails with the circle, if there is one
