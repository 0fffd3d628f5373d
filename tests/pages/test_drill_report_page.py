"""The report of a drill, written by the role from measurements that are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Commands

pytestmark = pytest.mark.slow

TIMELINE = {
    "began_at": 990.0,
    "ended": 30.0,
    "samples": [[number / 40, 0.05, 1] for number in range(1200)],
    "events": [[number / 2 for number in range(60)]],
}
MEASURED: dict[str, Any] = {
    "name": "kill_api",
    "title": "kill -9 of one API server",
    "target": "api3",
    "kind": "kill",
    "limits": {"failed": 3, "lost": 0},
    "load": {"timeline": json.dumps(TIMELINE), "acknowledged": 600, "lost": 0, "twice": 0, "failures": []},
    "watch": {"flows": {"runs": [{"id": "1", "at": 1001.0, "took": 1.0, "state": "COMPLETED", "problem": ""}], "problem": ""}},
    "fault": {"at": 1000.0, "until": 1002.5, "by_itself": True},
}
NOT_MEASURED = {"name": "cut_api", "target": "api2", "kind": "cut", "problem": "no <timer>"}


def report(commands: Commands, file: Path, *options: str, expect: int = 0) -> str:
    variables = {
        "__prefect_drill_done": [MEASURED, NOT_MEASURED],
        "__prefect_drill_began": "then",
        "__prefect_drill_ended": "now",
        "__prefect_drill_file": str(file),
    }
    playbook = ["ansible-playbook", "-i", "tests/pages/inventory.yml", "tests/pages/drill_report.yml"]
    return " ".join(commands.run([*playbook, *options, "-e", json.dumps(variables)], expect=expect).split())


def test_a_report(commands: Commands, tmp_path: Path) -> None:
    """For machines and for people, and the same for the same measurements."""
    folder = tmp_path / "new"
    assert "changed=3" in report(commands, folder / "drill-1", "--check")
    assert not folder.exists()
    output = report(commands, folder / "drill-1")
    for words in ("PASS kill_api on api3: 0 of 8", "FAIL cut_api on api2", "no <timer>"):
        assert words in output
    assert sorted(path.name for path in folder.iterdir()) == ["drill-1.html", "drill-1.json"]
    assert {oct(path.stat().st_mode)[-3:] for path in folder.iterdir()} == {"640"}
    found = json.loads((folder / "drill-1.json").read_text())
    assert (found["outcome"], found["passed"], found["began"], found["ended"]) == ("fail", False, "then", "now")
    assert [one["reasons"] for one in found["scenarios"]] == [[], ["no <timer>"]]
    page = (folder / "drill-1.html").read_text()
    assert page.count("<svg") == 1
    assert "no &lt;timer&gt;" in page
    assert "changed=0" in report(commands, folder / "drill-1")


def test_a_report_that_cannot_be_written(commands: Commands, tmp_path: Path) -> None:
    """What was found out is said all the same."""
    (tmp_path / "file").touch()
    output = report(commands, tmp_path / "file" / "drill-1", expect=2)
    assert "FAIL cut_api on api2" in output
    assert f"{tmp_path}/file" in output.partition("fatal: ")[2]
