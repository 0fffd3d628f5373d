# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
from typing import Any, ClassVar

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.build import BuildError
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
    installed_before = False
    errors: ClassVar[list[Exception]] = []
    built = 0
    host: Any = None
    plan: Any = None

    def __init__(self, plan: Any, host: Any) -> None:
        Builder.plan, Builder.host = plan, host

    def present(self) -> bool:
        return Builder.there

    def installed(self) -> bool:
        return Builder.there or Builder.installed_before

    def kind(self) -> str:
        return "debian-12-x86_64"

    def pack(self, archive: Any) -> str:
        if str(archive) == "/full":
            raise BuildError("no space")
        return "5ba1"

    def build(self) -> bool:
        Builder.built += 1
        for error in Builder.errors:
            raise error
        return True


@pytest.fixture(autouse=True)
def builder(monkeypatch: pytest.MonkeyPatch) -> type[Builder]:
    monkeypatch.setattr(prefect_release, "Builder", Builder)
    Builder.there, Builder.installed_before, Builder.errors, Builder.built = False, False, [], 0
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


@pytest.mark.parametrize("check", [False, True])
def test_gathering_changes_nothing(run_module: Any, builder: type[Builder], check: bool) -> None:
    result = run_module(prefect_release.main, check, **ARGUMENTS, _gather=True)
    assert result["changed"]
    assert (result["kind"], result["machine"]) == ("debian-12-x86_64", os.uname().machine)
    assert builder.built == 0


def test_where_only_programs_are_missing(run_module: Any, builder: type[Builder]) -> None:
    builder.installed_before = True
    assert "kind" not in run_module(prefect_release.main, **ARGUMENTS, _gather=True)
    result = run_module(prefect_release.main, **ARGUMENTS)
    assert result["changed"]
    assert "method" not in result


def test_an_archive_is_unpacked(run_module: Any, builder: type[Builder]) -> None:
    result = run_module(prefect_release.main, **ARGUMENTS, archive="/tmp/a", sha256="5ba1")
    assert result["method"] == "unpacked"
    assert (builder.plan.archive, builder.plan.sha256) == ("/tmp/a", "5ba1")


def test_a_release_is_packed(run_module: Any) -> None:
    result = run_module(prefect_release.main, **ARGUMENTS, pack="/tmp/a")
    assert (result["method"], result["sha256"]) == ("built", "5ba1")


def test_no_room_to_pack_is_no_failure(run_module: Any) -> None:
    result = run_module(prefect_release.main, **ARGUMENTS, pack="/full")
    assert result["changed"]
    assert "sha256" not in result
    assert result["warnings"] == ["Prefect 3.8.8 is in place, but was not packed for other hosts, which build their own: no space"]


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


@pytest.mark.parametrize(
    ("release", "name"),
    [({"ID": "debian", "VERSION_ID": "12"}, "debian-12"), ({"ID": "debian"}, "debian-rolling")],
)
def test_system(monkeypatch: pytest.MonkeyPatch, release: dict[str, str], name: str) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)
    assert prefect_release.system() == name
