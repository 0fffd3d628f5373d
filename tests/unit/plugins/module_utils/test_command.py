from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import run


def test_output_and_exit_code() -> None:
    ended = run(["sh", "-c", "echo one; echo two >&2; cat; exit 3"], 10, stdin="three")
    assert (ended.rc, sorted(ended.output.split()), ended.timed_out) == (3, ["one", "three", "two"], False)
    assert ended.tail(1) == "three"


def test_no_such_command() -> None:
    ended = run(["/nowhere/command"], 1)
    assert (ended.rc, ended.output) == (127, "/nowhere/command cannot be run: No such file or directory")


def test_nothing_of_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere")
    output = run(["env"], 10, env={"MINE": "1"}).output
    assert "PREFECT_API_URL" not in output
    assert "MINE=1\n" in output


@pytest.mark.parametrize("trap", ["", "trap '' TERM;"], ids=["obedient", "stubborn"])
def test_the_whole_group_ends_in_time(tmp_path: Path, trap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.selfhosted.prefect.plugins.module_utils._host.command._GRACE", 0.5)
    script = f'{trap} echo before; sh -c "{trap} echo \\$\\$ > child; exec sleep 60" & wait; sleep 60'
    started = time.monotonic()
    ended = run(["sh", "-c", script], 0.5, cwd=str(tmp_path))
    assert ended.timed_out
    assert ended.output == "before\n"
    assert time.monotonic() - started < 10
    assert not alive(int((tmp_path / "child").read_text()))


def alive(process: int) -> bool:
    for _attempt in range(50):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.1)
    return True


def test_it_dies_with_its_caller(tmp_path: Path) -> None:
    caller = os.fork()
    if caller == 0:
        run(["sh", "-c", "echo $$ > child; exec sleep 60"], 60, cwd=str(tmp_path))
        os._exit(0)
    child = tmp_path / "child"
    for _attempt in range(100):
        if child.exists() and child.read_text().strip():
            break
        time.sleep(0.05)
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    assert not alive(int(child.read_text()))


def test_others_go_first() -> None:
    # 19 is the most, and these tests may run there themselves.
    assert int(run(["nice"], 10, nice=7).output) == min(int(run(["nice"], 10).output) + 7, 19)
