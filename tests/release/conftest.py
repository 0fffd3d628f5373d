"""`make test` has the newest release that is locked; the older ones, which take several minutes more, are for `make test-full`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
LOCKS = FOLDER.parents[1] / "roles/prefect/files/locks"
RELEASES = {path.stem for path in LOCKS.glob("*.txt") if "-" not in path.stem}
NEWEST = max(RELEASES, key=lambda release: [int(part) for part in release.split(".")])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("PREFECT_TEST_FULL"):
        return
    for item in items:
        call = getattr(item, "callspec", None)
        if FOLDER in item.path.parents and call and call.params.get("version") in RELEASES - {NEWEST}:
            item.add_marker(pytest.mark.skip(reason="of an older release: make test-full"))
