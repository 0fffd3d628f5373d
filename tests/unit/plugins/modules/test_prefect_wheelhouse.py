# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("packaging")

from ansible_collections.selfhosted.prefect.plugins.module_utils._release.wheels import WheelhouseError
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_wheelhouse

UV = {"version": "1", "wheels": {"x86_64": {"name": "uv.whl", "sha256": "0"}}}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"prefect==3.8.8 --hash=sha256:{'a' * 64}\n")
    return {"path": str(tmp_path / "wheels.tar"), "version": "3.8.8", "lock": str(lock), "uv": UV}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def make(path: Path, wanted: Any, _index: Any) -> list[str]:
        calls.append(wanted)
        path.write_bytes(b"12345")
        return ["a.whl"]

    monkeypatch.setattr(prefect_wheelhouse, "make", make)
    return calls


def test_made_for_both_debians(run_module: Any, arguments: dict[str, Any], made: list[Any]) -> None:
    result = run_module(prefect_wheelhouse.main, **arguments)
    assert (result["changed"], result["bytes"], result["wheels"]) == (True, 5, ["a.whl"])
    assert [target.python for target in made[0].targets] == [(3, 11), (3, 13)]
    assert made[0].label["release"].startswith("3.8.8-")


def test_check_mode(run_module: Any, arguments: dict[str, Any], made: list[Any]) -> None:
    result = run_module(prefect_wheelhouse.main, True, **arguments)
    assert result["changed"]
    assert made == []


def test_a_made_one_is_left_alone(run_module: Any, arguments: dict[str, Any], made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_wheelhouse, "is_made", lambda *_: True)
    assert not run_module(prefect_wheelhouse.main, **arguments)["changed"]
    assert made == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "3.9.0"}, "holds prefect 3.8.8, but the version asked for is 3.9.0"),
        ({"machine": "riscv64"}, "there is no uv for riscv64 machines, only for x86_64"),
        ({"pythons": ["3.x"]}, "'3.x' is not a version of Python such as 3.11"),
        ({"lock": "/nowhere/lock.txt"}, "No such file or directory: '/nowhere/lock.txt'"),
    ],
)
def test_bad_input(run_module: Any, arguments: dict[str, Any], made: list[Any], changes: dict[str, Any], message: str) -> None:
    result = run_module(prefect_wheelhouse.main, **{**arguments, **changes})
    assert result["failed"]
    assert message in result["msg"]
    assert made == []


def test_failure_is_told(run_module: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> list[str]:
        raise WheelhouseError("no wheel")

    monkeypatch.setattr(prefect_wheelhouse, "make", fail)
    assert run_module(prefect_wheelhouse.main, **arguments)["msg"] == f"{arguments['path']} was not made: no wheel"
