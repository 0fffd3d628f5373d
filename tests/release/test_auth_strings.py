"""Each locked release with further auth strings beside its own, as while they are rotated."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selfhosted_prefect.patches import auth

if TYPE_CHECKING:
    from tests.conftest import Commands

FILES = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files"
VERSIONS = sorted(path.stem for path in (FILES / "locks").glob("*.txt") if "-" not in path.stem)
OWN, FORMER, BEYOND_ASCII, WRONG = "admin:new", "admin:o'ld $\\", "admin:schlüssel", "admin:wrong"


def answers(commands: Commands, version: str, folder: Path, further: str | None) -> dict[str, list[object]]:
    python = commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PREFECT_HOME": str(folder), "PYTHONPATH": str(FILES)}
    env |= {"PREFECT_SERVER_API_AUTH_STRING": OWN} | ({auth.ACCEPTED: further} if further is not None else {})
    script = Path(__file__).with_name("auth_strings.py")
    command = [python, str(script), OWN, FORMER, BEYOND_ASCII, WRONG]
    ended = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, list[object]] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_further_string_is_as_good_as_the_own(commands: Commands, version: str, tmp_path: Path) -> None:
    accepted, refused = [200, True], [401, False]
    found = answers(commands, version, tmp_path, json.dumps([FORMER]))
    assert found == {OWN: accepted, FORMER: accepted, BEYOND_ASCII: refused, WRONG: refused}
    assert answers(commands, version, tmp_path, None) == {OWN: accepted, FORMER: refused, BEYOND_ASCII: refused, WRONG: refused}


@pytest.mark.parametrize("value", ["{}", '"admin:x"', '[""]', "[1]", "admin:x"])
def test_what_is_no_list_of_strings_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        auth.accepted({auth.ACCEPTED: value})


def test_there_may_be_none() -> None:
    assert auth.accepted({}) == auth.accepted({auth.ACCEPTED: ""}) == []
