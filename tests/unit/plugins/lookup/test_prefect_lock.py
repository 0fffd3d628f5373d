# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.selfhosted.prefect.plugins.lookup import prefect_lock

ENTRY = f" --hash=sha256:{'a' * 64}\n"


@pytest.fixture
def lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The lookup, in a collection that has a lock file for 3.8.8 only."""
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / "3.8.8.txt").write_text(f"prefect==3.8.8{ENTRY}")
    (locks / "uv.json").write_text('{"version": "1", "wheels": {}}')
    (locks / "proofs.json").write_text('{"3.7.8": {"lock": "5ba1"}, "3.8.8": {"lock": "5ba2"}}')
    monkeypatch.setattr(prefect_lock, "_LOCKS", locks)

    def run(version: str, **options: Any) -> Any:
        plugin = prefect_lock.LookupModule(loader=DataLoader())
        plugin._load_name = "selfhosted.prefect.prefect_lock"
        monkeypatch.setattr(plugin, "set_options", lambda **_: None)
        monkeypatch.setattr(plugin, "get_option", {"file": "", "extra": "", "problem": False, **options}.get)
        return plugin.run([version], {})[0]

    return run


def test_the_collections_own_lock(lookup: Any, tmp_path: Path) -> None:
    found = lookup("3.8.8")
    path = tmp_path / "locks" / "3.8.8.txt"
    assert found["path"] == str(path)
    assert found["release"] == f"3.8.8-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    assert found["uv"]["version"] == "1"
    assert found["proved"] == ["5ba1", "5ba2"]
    assert lookup("3.8.8", problem=True) == ""


def test_a_lock_of_the_users_own(lookup: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text(f"prefect==3.9.0{ENTRY}")
    assert lookup("3.9.0", file=str(own))["path"] == str(own)
    assert lookup("3.9.0", file=str(own), problem=True) == ""


def test_a_lock_with_more(lookup: Any, tmp_path: Path) -> None:
    assert "3.8.8 with logfire has no lock file here, so it cannot be installed; there are lock files for none." in lookup(
        "3.8.8", extra="logfire", problem=True
    )
    path = tmp_path / "locks" / "3.8.8-logfire.txt"
    path.write_text(f"prefect==3.8.8{ENTRY}logfire==5.1.1{ENTRY}")
    assert lookup("3.8.8", extra="logfire", problem=True) == ""
    assert lookup("3.8.8", extra="logfire")["path"] == str(path)
    assert lookup("3.8.8", extra="logfire")["release"] != lookup("3.8.8")["release"]
    # What comes with it is not a version.
    assert "there are lock files for 3.8.8. Make one" in lookup("9.9.9", problem=True)
    assert "there are lock files for 3.8.8. Make one" in lookup("9.9.9", extra="logfire", problem=True)


def test_a_lock_of_the_users_own_without_it(lookup: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text(f"prefect==3.9.0{ENTRY}")
    problem = lookup("3.9.0", file=str(own), extra="logfire", problem=True)
    assert problem == f"{own} does not hold logfire: `make lock VERSION=3.9.0` writes a lock file with it, 3.9.0-logfire.txt"


@pytest.mark.parametrize(
    ("version", "content", "message"),
    [
        ("9.9.9", None, "Prefect 9.9.9 has no lock file here, so it cannot be installed; there are lock files for 3.8.8. Make one"),
        ("9.9.9", None, "`make lock VERSION=9.9.9`, or set prefect_lock_file"),
        ("3.9.0", f"prefect==3.8.8{ENTRY}", "prefect_version is 3.9.0, but "),
        ("3.9.0", "prefect", "own.txt is not a lock file: 'prefect' is not a pinned requirement"),
    ],
)
def test_problems(lookup: Any, tmp_path: Path, version: str, content: str | None, message: str) -> None:
    own = tmp_path / "own.txt"
    if content:
        own.write_text(content)
    assert message in lookup(version, file=str(own) if content else "", problem=True)


def test_no_file_there(lookup: Any) -> None:
    assert "there is no lock file at prefect_lock_file (nowhere.txt)" in lookup("3.9.0", file="nowhere.txt", problem=True)
    with pytest.raises(AnsibleLookupError, match="has no lock file here"):
        lookup("9.9.9")
