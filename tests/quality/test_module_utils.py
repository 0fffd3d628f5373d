"""What modules share is layered: a part imports from its own subject and from those below it, and no module is imported."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "plugins" / "module_utils"
BASE = "ansible_collections.selfhosted.prefect.plugins."
# From below. Each stands on those before it.
SUBJECTS = (
    "_base",
    "_database",
    "_host",
    "_cluster",
    "_settings",
    "_inventory",
    "_checks",
    "_release",
    "_migration",
    "_backup",
    "_deployment_lock",
    "_health",
    "_drain",
    "_load",
    "_drill",
    "_report",
)


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


def all_imports() -> dict[str, set[str]]:
    """What each part imports."""
    return {f"module_utils.{'.'.join(file.relative_to(FOLDER).with_suffix('').parts)}": imports(file) for file in FOLDER.rglob("*.py")}


def test_imports_go_downwards() -> None:
    parts = all_imports()
    assert len(parts) > 50
    assert {name for found in parts.values() for name in found} <= set(parts), "something that is no part of module_utils is imported"
    tuple(TopologicalSorter(parts).static_order())  # fails with the circle, if there is one


def test_subjects_stand_on_those_below_them() -> None:
    parts = all_imports()
    assert {subject(part) for part in parts} == set(SUBJECTS)
    upwards = [f"{part} imports {name}" for part, found in parts.items() for name in found if level(name) > level(part)]
    assert not upwards, upwards


def subject(part: str) -> str:
    return part.split(".")[1]


def level(part: str) -> int:
    return SUBJECTS.index(subject(part))
