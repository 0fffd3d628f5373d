"""Every linter on the whole repository, each as a developer runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Commands


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["ruff", "check", "."], id="ruff check"),
        pytest.param(["ruff", "format", "--check", "--diff", "."], id="ruff format"),
        pytest.param(["ansible-lint", "--offline", "--profile=production", "--strict"], id="ansible-lint", marks=pytest.mark.slow),
        pytest.param(["antsibull-changelog", "lint"], id="antsibull-changelog"),
        pytest.param([sys.executable, "tools/generate_docs.py", "--check"], id="generated pages"),
    ],
)
def test_linter(commands: Commands, arguments: list[str]) -> None:
    # ansible-lint has Ansible read every playbook by itself, with all that it imports.
    commands.run(arguments, timeout=900)


@pytest.mark.parametrize("folder", ["plugins", "roles/prefect/files", "tests", "tools"])
def test_mypy(commands: Commands, root: Path, folder: str) -> None:
    """With the collection importable under its own name; the plugins are checked under that name.

    Without a cache: a module that is new to a folder without __init__.py stays unknown to a cached run.
    """
    collections = root / "build" / "collections"
    linked = collections / "ansible_collections" / "selfhosted" / "prefect"
    assert (linked / "galaxy.yml").is_file(), f"{linked} is not this checkout; run `make venv`"
    target = linked.relative_to(collections) / folder if folder == "plugins" else folder
    commands.run(
        ["mypy", "--cache-dir", os.devnull, "--config-file", root / "pyproject.toml", target],
        cwd=collections if folder == "plugins" else root,
        env={"MYPYPATH": str(collections)},
    )


def test_antsibull_docs(commands: Commands, checkout_copy: Path) -> None:
    """References are checked against this collection and those it depends on: all others take minutes to read."""
    commands.run(
        ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs=dependent", "."], cwd=checkout_copy
    )


def test_shellcheck(commands: Commands, root: Path, tracked: list[Path]) -> None:
    scripts = [path for path in tracked if is_shell_script(root / path)]
    assert scripts, "no shell script found: the search is broken"
    commands.run(["shellcheck", *scripts])


def is_shell_script(path: Path) -> bool:
    """Whether the file is for sh or bash, by its first line."""
    with path.open("rb") as stream:
        first = stream.readline(80)
    return first.startswith(b"#!") and first.split()[-1].rpartition(b"/")[2] in (b"sh", b"bash")
