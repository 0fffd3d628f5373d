# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What an installed Prefect release says of itself, read without starting it (which would take seconds)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import version_number


class ReleaseError(Exception):
    """The folder holds no usable release; the message says what is missing."""


@dataclass(frozen=True)
class Revision:
    """One migration: its id, those it builds on, and its source."""

    name: str
    down: tuple[str, ...]
    source: str

    def texts(self, *functions: str) -> list[str]:
        """The strings in ``upgrade`` and/or ``downgrade``, and in the constants and functions of the file that it uses. No docstrings."""
        defined = {name: node for node in ast.parse(self.source).body for name in _defines(node)}
        texts: list[str] = []
        seen: set[str] = set()
        waiting = [*functions]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in defined:
                continue
            seen.add(name)
            docstrings = {id(node.value) for node in ast.walk(defined[name]) if isinstance(node, ast.Expr)}
            for node in ast.walk(defined[name]):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                    texts.append(node.value)
                elif isinstance(node, ast.Name):
                    waiting.append(node.id)
        return texts

    def builds(self, index: str, function: str) -> bool:
        """Whether ``upgrade`` or ``downgrade`` creates the index, be it in SQL or by Alembic."""
        pattern = rf"(?i)\bcreate(_|\s+(unique\s+)?)index\b[^;)]*?\b{re.escape(index)}\b"
        return any(
            re.search(pattern, ast.get_source_segment(self.source, node) or "")
            for node in ast.parse(self.source).body
            if function in _defines(node)
        )


@dataclass(frozen=True)
class Release:
    """An installed release and its migrations for PostgreSQL."""

    path: str
    version: str
    revisions: Mapping[str, Revision]

    def older_than(self, *numbers: int) -> bool:
        return version_number(self.version) < numbers

    def head(self) -> str:
        """The one revision that no other builds on. Raises ReleaseError unless there is exactly one."""
        built_on = {name for revision in self.revisions.values() for name in revision.down}
        heads = sorted(set(self.revisions) - built_on)
        if len(heads) != 1:
            raise ReleaseError(f"{self.path} has {len(heads)} newest migrations, not one: {', '.join(heads)}")
        return heads[0]

    def find(self, revision: str) -> str:
        """The full id of ``head`` or of a revision. Raises ReleaseError when this release has no such revision."""
        if revision == "head":
            return self.head()
        if revision not in self.revisions:
            raise ReleaseError(f"Prefect {self.version} in {self.path} has no migration {revision}; its newest is {self.head()}")
        return revision

    def with_ancestors(self, names: Iterable[str]) -> set[str]:
        """The revisions and everything they build on; unknown ones are kept as they are."""
        seen: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self.revisions[name].down if name in self.revisions else ()
        return seen

    def pending(self, current: Iterable[str], target: str) -> list[str]:
        """What leads from the current revisions to the target, in the order in which it is applied; nothing if it is reached or passed."""
        missing = self.with_ancestors([target]) - self.with_ancestors(current)
        return [name for name in self._ordered([target]) if name in missing]

    def undone(self, current: Iterable[str], target: str) -> list[str]:
        """What is taken back on the way down from the current revisions to the target, in that order; nothing if it is at or below it."""
        current = list(current)
        extra = self.with_ancestors(current) - self.with_ancestors([target])
        return [name for name in reversed(self._ordered(current)) if name in extra]

    def touched(self, names: Iterable[str], functions: Iterable[str], tables: Iterable[str]) -> list[str]:
        """Those of the tables that these functions of the revisions name, alone or as a word of an SQL statement."""
        functions = list(functions)
        words = {word for name in names for text in self.revisions[name].texts(*functions) for word in (text, *re.findall(r"\w+", text))}
        return [table for table in tables if table in words]

    def _ordered(self, names: Iterable[str]) -> list[str]:
        ordered: dict[str, None] = {}
        waiting: list[tuple[str, bool]] = [(name, False) for name in names]
        while waiting:
            name, ready = waiting.pop()
            if ready:
                ordered[name] = None
            elif name not in ordered and name in self.revisions:
                waiting.append((name, True))
                waiting += [(down, False) for down in self.revisions[name].down]
        return list(ordered)


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def load_release(path: str) -> Release:
    """Reads the release in a virtual environment. Raises ReleaseError if there is no Prefect in it, or its migrations cannot be read."""
    packages = _packages(Path(path))
    described = sorted(packages.glob("prefect-[0-9]*.dist-info"))
    if not described:
        raise ReleaseError(f"{path} holds no Prefect: {packages} has no prefect-*.dist-info")
    version = described[-1].name[len("prefect-") : -len(".dist-info")]
    for folder in ("_migrations", "migrations"):
        found = packages / "prefect" / "server" / "database" / folder / "versions" / "postgresql"
        if found.is_dir():
            return Release(path, version, {revision.name: revision for revision in _revisions(found)})
    raise ReleaseError(f"Prefect {version} in {path} has no migrations for PostgreSQL where they are looked for")


def _packages(path: Path) -> Path:
    found = sorted(path.glob("lib/python3*/site-packages"))
    if not found:
        raise ReleaseError(f"{path} is no installed release: it has no lib/python3*/site-packages")
    return found[-1]


def _revisions(folder: Path) -> Iterator[Revision]:
    for file in sorted(folder.glob("*.py")):
        source = file.read_text(encoding="utf-8")
        values = dict(_assignments(source, file))
        name, down = values.get("revision"), values.get("down_revision")
        if isinstance(name, str):
            yield Revision(name, (down,) if isinstance(down, str) else tuple(down) if isinstance(down, (tuple, list)) else (), source)


def _assignments(source: str, file: Path) -> Iterator[tuple[str, object]]:
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise ReleaseError(f"{file} cannot be read: {error}") from error
    for statement in body:
        value = getattr(statement, "value", None)
        for name in _defines(statement):
            if name in ("revision", "down_revision") and value is not None:
                yield name, ast.literal_eval(value)
