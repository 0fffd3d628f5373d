from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill import flows as _drill_flows
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill import watch as _drill_watch
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.watch import Flows, WatchError, parse_flows, ticks

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes as another user")


class Session:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, *words: str) -> Any:
        assert words == ("HGET", "prefect:runs:schedule_recent_deployments", "when")
        return self.answer


def test_ticks() -> None:
    now = [1000.0]
    answers: list[Any] = ["1002.5", "1002.5", NetError("gone"), None, "1007.5", "soon"]

    def connect(_redis: Any, _seconds: float) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, NetError):
            raise answer
        return Session(answer)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    found = ticks({"host": "redis"}, 2, 0.5, connect=connect, clock=lambda: now[0], sleep=sleep)
    assert found == {"changes": [(1000.0, 1002.5), (1002.0, 1007.5)], "silent": [1001.0], "ended": 1002.0}


@pytest.mark.parametrize(
    ("output", "runs", "problem"),
    [
        ('noise\n{"runs": [{"id": "1"}], "problem": ""}\n', [{"id": "1"}], ""),
        ("Traceback\nImportError: no prefect\n", [], "Traceback ImportError: no prefect"),
        ('{"other": 1}', [], '{"other": 1}'),
        ("", [], "the flows' process said nothing"),
    ],
)
def test_what_the_flows_say(output: str, runs: list[Any], problem: str) -> None:
    assert parse_flows(output) == {"runs": runs, "problem": problem}


def script(folder: Path, body: str) -> str:
    python = folder / "python"
    python.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    python.chmod(0o755)
    for parent in [folder, *folder.parents][:3]:
        parent.chmod(0o755)
    return str(python)


@as_root
def test_flows_get_their_settings_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_PROFILE", "other")
    told = 'print(json.dumps({"runs": [sys.argv[2:], open(sys.argv[1]).read(), dict(os.environ), os.getcwd()], "problem": ""}))'
    flows = Flows(script(tmp_path, told), getpass.getuser(), {"PREFECT_API_URL": "http://b/api", "PREFECT_API_AUTH_STRING": ""}, 3)
    arguments, source, environment, folder = flows.result()["runs"]
    assert arguments == ["--seconds", "3"]
    assert "def run_flows" in source
    assert environment["PREFECT_API_URL"] == "http://b/api"
    assert not {"PREFECT_PROFILE", "PREFECT_API_AUTH_STRING"} & set(environment)
    assert not Path(folder).exists()


@as_root
def test_flows_that_do_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_drill_watch, "_FLOWS_SECONDS", 0)
    flows = Flows(script(tmp_path, "time.sleep(60)"), getpass.getuser(), {}, 0)
    assert flows.result() == {"runs": [], "problem": "the flows did not come to an end"}
    assert flows._process.returncode == -9


@as_root
def test_no_python() -> None:
    with pytest.raises(WatchError, match="/nowhere/python cannot be run as"):
        Flows("/nowhere/python", getpass.getuser(), {}, 1)


def test_a_user_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        Flows(sys.executable, "no-such-user", {}, 1)


def test_the_flows_compile() -> None:
    # They are passed as text, and no other test imports them.
    source = Path(str(_drill_flows.__file__)).read_text()
    compile(source, "flows.py", "exec")
    assert "ansible" not in source.partition('"""')[2]
