"""The collection with other releases of ansible-core: installed, documented, its playbooks parsed, its plugins' units run.

`make test` takes the oldest, and deploys with the newest (tests/scenarios). PREFECT_TEST_MATRIX=1 (`make test-matrix`) takes each of
requirements/ansible-*.in on each Python of this machine that it runs on, and ansible-test's sanity checks with it. ansible-lint runs once
for each, on its newest Python.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
ansible_venv = importlib.import_module("ansible_venv")

MATRIX = bool(os.environ.get("PREFECT_TEST_MATRIX"))
CORES: list[str] = ansible_venv.cores()
RUNNABLE = [(core, python) for core in CORES for python in ansible_venv.pythons(core)]
WHAT = ["tests/collection/test_package.py", "tests/unit"]
LINT = "tests/quality/test_linters.py::test_linter[ansible-lint]"


def chosen() -> list[tuple[str, str]]:
    """The pairs of ansible-core and Python that are tested."""
    if MATRIX:
        return RUNNABLE
    newest = dict(RUNNABLE)
    return [(core, newest[core]) for core in CORES[:1] if core in newest]


def test_the_oldest_is_what_the_collection_asks_for() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    assert runtime["requires_ansible"] == f">={CORES[0]}.0"


@pytest.mark.slow
@pytest.mark.parametrize(("core", "python"), chosen())
def test_with_another_ansible(commands: Commands, core: str, python: str) -> None:
    folder = ansible_venv.make(core, python)
    what = [*WHAT, "tests/collection/test_ansible_test.py"] if MATRIX else WHAT
    if MATRIX and python == dict(RUNNABLE)[core]:
        what = [*what, LINT]
    output = commands.run(
        [folder / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *what],
        env={"PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])},
        timeout=1200,
        log=ROOT / "build" / "logs" / f"ansible-{core}-{python}.log",
    )
    assert " passed" in output, output[-2000:]
    assert "failed" not in output.splitlines()[-1], output[-2000:]
