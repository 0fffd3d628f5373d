"""What units put on PYTHONPATH, so that no two workers have one name, and so that a proxy is not used for the deployment itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selfhosted_prefect import identity

if TYPE_CHECKING:
    from tests.conftest import Commands

FILES = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files"
VERSIONS = sorted(path.stem for path in (FILES / "locks").glob("*.txt") if "-" not in path.stem)
WORKER = """
from docket import Docket, Worker
docket = Docket(name="x", url="memory://")
print(Worker(docket).name, Worker(docket, name="given").name)
"""
EXCEPTIONS = "import os; print(os.environ.get('NO_PROXY'), os.environ.get('no_proxy'))"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_workers_of_a_release_have_unique_names(commands: Commands, version: str) -> None:
    python = commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]
    said = commands.run([python, "-c", WORKER], env={"PYTHONPATH": str(FILES)}).split()
    assert said[1] == "given"
    name, process, session = said[0].split("#")
    assert (name, session) == (os.uname().nodename, identity.session())
    assert all(part.isdigit() for part in process.split("."))


def test_a_name_is_that_of_one_process() -> None:
    own = os.getpid()
    name = identity.unique(own, identity.started(own))
    assert name == f"{os.uname().nodename}#{own}.{identity.started(own)}#{identity.session()}"
    assert identity.plain(own) == f"{os.uname().nodename}#{own}"


def test_sessions_differ_by_boot_and_by_process_namespace(tmp_path: Path) -> None:
    """Two clones boot each by itself; two containers of one machine have its boot, and process numbers of their own."""
    sessions = set()
    for boot, namespace in (("a", "pid:[1]"), ("b", "pid:[1]"), ("a", "pid:[2]")):
        proc = tmp_path / f"{boot}{namespace}"
        (proc / "sys/kernel/random").mkdir(parents=True)
        (proc / "self/ns").mkdir(parents=True)
        (proc / "sys/kernel/random/boot_id").write_text(boot + "\n")
        (proc / "self/ns/pid").symlink_to(namespace)
        sessions.add(identity.session(proc))
    assert len(sessions) == 3


@pytest.mark.parametrize(
    ("environment", "exceptions"),
    [
        pytest.param({}, "None None", id="no proxy"),
        pytest.param({"NO_PROXY": "a"}, "a None", id="exceptions without a proxy stay as they are"),
        pytest.param({"HTTP_PROXY": "http://p"}, "localhost,127.0.0.1,::1", id="proxy"),
        pytest.param({"all_proxy": "http://p", "no_proxy": "b"}, "b,localhost,127.0.0.1,::1", id="in lower case"),
        pytest.param(
            {"HTTPS_PROXY": "http://p", "NO_PROXY": "a, 127.0.0.1", "no_proxy": "b", "PREFECT_API_URL": "http://[fd00::1]:4200/api"},
            "a,127.0.0.1,b,localhost,::1,fd00::1",
            id="with the user's own, and the balancer's address",
        ),
    ],
)
def test_the_deployment_itself_is_reached_directly(environment: dict[str, str], exceptions: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXCEPTIONS], env={"PYTHONPATH": str(FILES), **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (exceptions if " " in exceptions else f"{exceptions} {exceptions}")
