"""The properties of templates and modules, in processes of their own: they load the collection as Ansible does, and other tests do not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Commands

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
SECONDS = 900


def test_properties(commands: Commands) -> None:
    said = commands.run(
        ["pytest", "--quiet", "--numprocesses=2", "--dist=worksteal", "-p", "no:cacheprovider", *sorted(FOLDER.glob("check_*.py"))],
        timeout=SECONDS,
    )
    assert " passed" in said
    assert "skipped" not in said
