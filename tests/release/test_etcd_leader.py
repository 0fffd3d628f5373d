"""What has another member lead etcd than the host of PostgreSQL's primary. etcdctl is a stand-in, with the output of etcd 3.5.16."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "patroni" / "files" / "etcd_leader.sh"
OWN, SECOND, THIRD, NEW = "8211f1d0f64f3269", "91bc3c398fb3c146", "fd422379fda50e48", "ade526d28b1f92f7"
ETCDCTL = """#!/bin/sh
echo "$*" >>"$STATE/calls"
case "$*" in
  "endpoint status") cat "$STATE/own" ;;
  "endpoint status --cluster") cat "$STATE/all"; echo "one of them does not answer" >&2; exit 1 ;;
  "get --print-value-only /service/prefect/leader") cat "$STATE/primary" ;;
  "move-leader "*) echo "Leadership transferred"; exit 0 ;;
  *) exit 2 ;;
esac
"""


def line(member: str, *, leads: bool = False, learner: bool = False, applied: int = 90) -> str:
    flags = f"{str(leads).lower()}, {str(learner).lower()}"
    return f"https://10.0.0.1:2379, {member}, 3.5.16, 25 kB, {flags}, 4, {applied}, {applied}, \n"


LEADS, FOLLOWS = line(OWN, leads=True), line(OWN)
OTHERS = line(SECOND, applied=89) + line(THIRD, applied=101)


@pytest.mark.parametrize(
    ("own", "primary", "others", "moved"),
    [
        pytest.param(LEADS, "db1", OTHERS, THIRD, id="to-the-one-that-is-furthest"),
        pytest.param(LEADS, "db1", line(SECOND), SECOND, id="to-the-only-one-that-answers"),
        pytest.param(LEADS, "db1", line(NEW, learner=True, applied=999) + line(SECOND), SECOND, id="not-to-one-that-only-learns"),
        pytest.param(LEADS, "db2", OTHERS, "", id="the-primary-is-elsewhere"),
        pytest.param(LEADS, "db11", OTHERS, "", id="the-primary-has-a-longer-name"),
        pytest.param(LEADS, "", OTHERS, "", id="no-primary"),
        pytest.param(FOLLOWS, "db1", OTHERS, "", id="led-elsewhere"),
        pytest.param("", "db1", OTHERS, "", id="this-one-does-not-answer"),
        pytest.param(LEADS, "db1", "", "", id="no-other-one-answers"),
    ],
)
def test_who_leads_etcd(tmp_path: Path, own: str, primary: str, others: str, moved: str) -> None:
    done = run(tmp_path, own, primary, others)
    assert done.returncode == 0, done.stderr
    assert [call for call in calls(tmp_path) if call.startswith("move-leader")] == [f"move-leader {moved}"] * bool(moved)
    # What it says has a level that the unit lets pass, and it says nothing where it has nothing to do.
    expected = ["Leadership transferred"] if moved else ["no other member answers"] if not others else []
    assert [each in done.stdout and done.stdout.startswith("<5>") for each in expected] == [True] * len(expected)
    assert bool(done.stdout) == bool(expected)


def test_where_there_is_nothing_to_do_it_asks_once(tmp_path: Path) -> None:
    run(tmp_path, FOLLOWS, "db1", OTHERS)
    assert calls(tmp_path) == ["endpoint status"]


def run(folder: Path, own: str, primary: str, others: str) -> subprocess.CompletedProcess[str]:
    programs = folder / "bin"
    programs.mkdir()
    (programs / "etcdctl").write_text(ETCDCTL)
    (programs / "etcdctl").chmod(0o755)
    for name, text in {"own": own, "primary": f"{primary}\n" if primary else "", "all": own + others}.items():
        (folder / name).write_text(text)
    env = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "STATE": str(folder),
        "MEMBER": "db1",
        "KEY": "/service/prefect/leader",
    }
    return subprocess.run([PROGRAM], env=env, capture_output=True, text=True, check=False, timeout=30)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()
