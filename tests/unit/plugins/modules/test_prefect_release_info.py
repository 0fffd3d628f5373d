# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.bill import write_bill
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_release_info

LOCK = b"prefect==3.8.8\n"


@pytest.fixture
def current(tmp_path: Path) -> Path:
    release = tmp_path / "releases" / "3.8.8-abc"
    release.mkdir(parents=True)
    (release / "requirements.txt").write_bytes(LOCK)
    (tmp_path / "current").symlink_to(release)
    return tmp_path / "current"


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("check", [False, True])
def test_release(run_module: Any, current: Path, known: bool, check: bool) -> None:
    digest = hashlib.sha256(LOCK).hexdigest()
    write_bill(current, "3.8.8-abc")
    result = run_module(prefect_release_info.main, check=check, path=str(current), proved=["0" * 64, *[digest] * known])
    assert (result["release"], result["lock"], result["proved"]) == ("3.8.8-abc", digest, known)
    assert (result["changed"], result["recorded"], result["altered"], result["problem"]) == (False, True, [], "")


def test_none(run_module: Any, tmp_path: Path) -> None:
    result = run_module(prefect_release_info.main, path=str(tmp_path / "current"))
    assert (result["release"], result["problem"]) == ("", "")


def test_no_release_of_ours(run_module: Any, current: Path) -> None:
    (current / "requirements.txt").unlink()
    result = run_module(prefect_release_info.main, path=str(current))
    assert result["release"] == "3.8.8-abc"
    assert "requirements.txt" in result["problem"]
    assert "failed" not in result
