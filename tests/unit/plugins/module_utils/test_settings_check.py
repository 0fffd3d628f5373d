# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import format_environment
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.check import (
    SettingsCheckError,
    check_settings,
    in_force,
    secrets_of,
)

SETTINGS = {"PREFECT_A": "1", "PREFECT_LOGGING_LOGGERS_X_LEVEL": "INFO", "DO_NOT_TRACK": "1"}


def says(output: str, **kinds: Any) -> Any:
    def run(argv: list[str], timeout: float, *, env: Mapping[str, str], cwd: str) -> Finished:
        assert argv[:2] == ["/release/bin/python", "-c"]
        assert timeout == 9
        assert env["PREFECT_HOME"] == env["HOME"] == cwd
        assert not list(Path(cwd).iterdir())
        return Finished(kinds.get("rc", 0), output, kinds.get("timed_out", False))

    return run


def answer(problems: list[list[str]], known: list[str]) -> str:
    names = {"settings": {name: ["PREFECT_OLD"] for name in known}, "groups": ["PREFECT_G"]}
    return "a warning of some package\n" + json.dumps({"problems": problems, "names": names}) + "\n"


@pytest.mark.parametrize(
    ("problems", "known", "found", "unknown"),
    [
        pytest.param([], ["PREFECT_A"], [], [], id="good"),
        pytest.param([["PREFECT_A", "is no number"]], ["PREFECT_A"], ["PREFECT_A: is no number"], [], id="of the wrong type"),
        pytest.param([], [], [], ["PREFECT_A"], id="unknown; loggers of any name are not"),
    ],
)
def test_what_the_release_says(problems: list[list[str]], known: list[str], found: list[str], unknown: list[str]) -> None:
    checked = check_settings("/release", SETTINGS, 9, says(answer(problems, known)))
    assert (list(checked.problems), list(checked.unknown)) == (found, unknown)


def test_names_that_the_release_does_not_keep_apart() -> None:
    """Of a release without a table, only it knows them."""
    environment = {"PREFECT_A": "1", "PREFECT_OLD": "2", "PREFECT_G": "{}"}
    checked = check_settings("/release", environment, 9, says(answer([], ["PREFECT_A"])))
    assert [problem.partition(" ")[0] for problem in checked.problems] == ["PREFECT_G", "PREFECT_A"]
    assert checked.unknown == []


@pytest.mark.parametrize(
    ("output", "kinds", "said"),
    [
        ("/release/bin/python cannot be run: No such file or directory", {"rc": 127}, "exit status 127"),
        ("", {"timed_out": True}, "within 9 s"),
        ("[]", {}, "could not load them"),
    ],
)
def test_a_release_that_does_not_answer(output: str, kinds: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsCheckError, match=said):
        check_settings("/release", SETTINGS, 9, says(output, **kinds))


@pytest.mark.parametrize(
    ("environment", "link", "same"),
    [
        ({"A": 'x"y'}, "new", True),
        ({"A": "other"}, "new", False),
        ({}, "new", False),
        ({"A": 'x"y'}, "old", False),
        ({"A": 'x"y'}, "", False),
    ],
)
def test_settings_that_are_in_force(tmp_path: Path, environment: dict[str, str], link: str, same: bool) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    if link:
        (tmp_path / "current").symlink_to(link)
    (tmp_path / "file").write_text(format_environment({"A": 'x"y'}))
    assert in_force(str(tmp_path / "new"), environment, str(tmp_path / "current"), str(tmp_path / "file")) is same


def test_no_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert not in_force(str(tmp_path / "new"), {}, str(tmp_path / "new"), "")


def test_what_repeats_a_secret() -> None:
    output = answer([["PREFECT_A_PASSWORD", "got p@ss-w0rd"], ["PREFECT_A_URL", "got p%40ss-w0rd"], ["PREFECT_A_LEVEL", "got LOUD"]], [])
    environment = {"PREFECT_A_PASSWORD": "p@ss-w0rd", "PREFECT_A_LEVEL": "LOUD"}
    problems = check_settings("/release", environment, 9, says(output)).problems
    assert problems == ["PREFECT_A_PASSWORD: got ********", "PREFECT_A_URL: got ********", "PREFECT_A_LEVEL: got LOUD"]


def test_secrets() -> None:
    environment = {"PREFECT_SERVER_API_AUTH_STRING": "admin:s3cret", "PREFECT_X_URL": "redis://u:p%40ss@h/0", "PREFECT_X_PORT": "5432"}
    assert secrets_of(environment) == ["admin:s3cret", "redis://u:p%40ss@h/0", "p%40ss", "admin:s3cret", "s3cret"]
