"""The program of the hosts: its command line, and what units call of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selfhosted_prefect.__main__ import COMMANDS, main

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "prefect" / "files"
VERSIONS = sorted(path.stem for path in (FILES / "locks").glob("*.txt") if "-" not in path.stem)


def test_units_call_every_command_and_no_other() -> None:
    texts = [path.read_text() for path in [*ROOT.glob("roles/*/templates/*.j2"), *ROOT.glob("roles/common/vars/main/*.yml")]]
    called = {command for text in texts for command in re.findall(r"\{\{ common_program \}\} ([\w-]+)", text)}
    assert called == set(COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["nonsense"]])
def test_an_unknown_command_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments, {})
    assert raised.value.code == 2
    assert "watchdog" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("await-state", "PREFECT_SERVER_DATABASE_HOST"),
        ("requeue", "PREFECT_SERVER_DOCKET_URL"),
        ("retention", "PREFECT_SERVER_DATABASE_HOST"),
    ],
)
def test_without_its_settings_a_command_says_what_is_missing(command: str, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command], {}) == 1
    assert capsys.readouterr().err == f"the environment has no {missing}: start this with the settings file of the role prefect\n"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_release_runs_it_wherever_it_is_started(commands: Commands, version: str, tmp_path: Path) -> None:
    """Nothing that lies in the folder where a unit starts is taken for a library."""
    python = commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]
    for name in ("argparse", "asyncio", "redis", "selfhosted_prefect"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the library')")
    for command in COMMANDS:
        called = [python, "-P", "-m", "selfhosted_prefect", command, "--help"]
        done = subprocess.run(called, cwd=tmp_path, env={"PYTHONPATH": str(FILES)}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "usage:" in done.stdout
