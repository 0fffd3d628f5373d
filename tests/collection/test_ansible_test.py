"""ansible-test on a copy of the checkout: what certification of a collection asks for."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.collection.conftest import Workspace


@pytest.mark.slow
def test_sanity(workspace: Workspace) -> None:
    assert shutil.which("shellcheck"), "shellcheck is not installed, and ansible-test would skip its test in silence"
    output = workspace.ansible_test("sanity")
    skipped = re.findall(r"(?:WARNING|NOTE): (.*[Ss]kipp.*)", output)
    assert not skipped, skipped


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("PREFECT_TEST_FULL"), reason="pytest runs the same tests by itself: make test-full")
def test_units(workspace: Workspace) -> None:
    output = workspace.ansible_test("units")
    passed = [int(count) for count in re.findall(r"(\d+) passed", output)]
    assert passed and all(passed), output[-2000:]
