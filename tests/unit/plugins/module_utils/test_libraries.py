from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base import libraries as _libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import MissingLibraryError, lacking, use_libraries

NO_LIBRARY = "no_such_library"


@pytest.fixture
def respawned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The interpreters in which the module has gone on."""
    interpreters: list[str] = []

    def respawn(path: str) -> None:
        interpreters.append(path)
        raise SystemExit(0)

    monkeypatch.setattr(_libraries, "respawn_module", respawn)
    return interpreters


def test_lacking() -> None:
    assert lacking("json", NO_LIBRARY, "socket") == [NO_LIBRARY]


def test_goes_on_in_the_first_interpreter_that_is_there(respawned: list[str]) -> None:
    with pytest.raises(SystemExit):
        use_libraries(["/nowhere/python", sys.executable, "/usr/bin/env"], "json", NO_LIBRARY)
    assert respawned == [sys.executable]


def test_stays_where_the_libraries_are(respawned: list[str]) -> None:
    use_libraries([sys.executable], "json")
    assert respawned == []


def test_goes_on_without_where_there_is_no_release(respawned: list[str], tmp_path: Path) -> None:
    use_libraries([str(tmp_path / "python")], NO_LIBRARY)
    assert respawned == []
    assert str(MissingLibraryError(NO_LIBRARY)).startswith(f"cannot be queried: {sys.executable} has no library {NO_LIBRARY}.")


def test_goes_on_once_only(respawned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_libraries, "has_respawned", lambda: True)
    use_libraries([sys.executable], NO_LIBRARY)
    assert respawned == []
