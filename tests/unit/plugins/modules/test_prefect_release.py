# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._build import BuildError
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_release

ARGUMENTS = {
    "path": "/opt/prefect/releases/3.8.8-abc",
    "version": "3.8.8",
    "lock": "prefect==3.8.8",
    "tools": "/opt/prefect/tools",
    "uv": {"version": "1", "wheels": {}},
}


class Builder:
    """Stands for the real one."""

    there = False
    errors: ClassVar[list[Exception]] = []
    built = 0
    host: Any = None

    def __init__(self, _plan: Any, host: Any) -> None:
        Builder.host = host

    def present(self) -> bool:
        return Builder.there

    def build(self) -> bool:
        Builder.built += 1
        for error in Builder.errors:
            raise error
        return True


@pytest.fixture(autouse=True)
def builder(monkeypatch: pytest.MonkeyPatch) -> type[Builder]:
    monkeypatch.setattr(prefect_release, "Builder", Builder)
    Builder.there, Builder.errors, Builder.built = False, [], 0
    return Builder


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_changes(run_module: Any, builder: type[Builder], there: bool, check: bool) -> None:
    builder.there = there
    result = run_module(prefect_release.main, check, **ARGUMENTS)
    assert result["changed"] is not there
    assert builder.built == (not there and not check)
    assert ("diff" in result) is not there
    assert result["path"] == ARGUMENTS["path"]


def test_what_is_long_is_not_repeated(run_module: Any) -> None:
    result = run_module(prefect_release.main, **ARGUMENTS, programs={"/opt/prefect/tools/watchdog": "import os"})
    shown = result["invocation"]["module_args"]
    assert shown["lock"] == "(14 characters)"
    assert shown["programs"] == ["/opt/prefect/tools/watchdog"]


@pytest.mark.parametrize("error", [BuildError("no route"), OSError(28, "No space left on device"), ValueError("no lock")])
def test_failure(run_module: Any, builder: type[Builder], error: Exception) -> None:
    builder.errors = [error]
    result = run_module(prefect_release.main, **ARGUMENTS)
    assert result["failed"]
    assert result["msg"].startswith(f"Prefect 3.8.8 was not installed in {ARGUMENTS['path']}: {error}")


def test_the_callers_python_is_kept_out(run_module: Any, builder: type[Builder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/mine")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    run_module(prefect_release.main, **ARGUMENTS)
    assert builder.host.environment["HTTPS_PROXY"] == "http://proxy"
    assert not {"VIRTUAL_ENV", "PYTHONPATH"} & builder.host.environment.keys()
