"""What every test below shares: the checkout, its files, and bounded commands.

Only the standard library and pytest are imported here: ansible-test loads this file too, in an environment of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TAIL_LINES = 60
GRACE = 20


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "containers: starts systemd hosts in containers (minutes each)")
    config.addinivalue_line("markers", "alone: with containers, and not beside another test")
    config.addinivalue_line("markers", "slow: needs no container, but too long for `make test-fast`")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group: asked first, so that Ansible can end its workers, then killed after `GRACE` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                continue


@dataclass(frozen=True)
class Commands:
    """Runs commands for tests, none of which can outlive its timeout.

    `root` is the checkout, the default working folder.
    """

    root: Path

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """This process's environment with the tools beside this interpreter first on PATH.

        Ansible's own files go to build/, so that nothing in the home folder can leak into a result.
        """
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
        environment["ANSIBLE_HOME"] = str(self.root / "build" / "ansible-home")
        environment["ANSIBLE_NOCOLOR"] = environment["NO_COLOR"] = "1"
        environment.update(extra or {})
        return environment

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        timeout: float = 300,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        expect: int | None = 0,
    ) -> str:
        """Run a command and return its output, stdout and stderr together.

        `timeout` is in seconds; at its end the command and its children are killed. `env` is added to
        `environment()`. `log` also keeps the output in a file, as it comes. The test fails, with the last
        lines of output, unless the exit code is `expect` (None: any).
        """
        words = [str(argument) for argument in arguments]
        environment = self.environment(env)
        program = shutil.which(words[0], path=environment["PATH"])
        if program is None:
            pytest.fail(f"{words[0]} is not installed: expected in the virtual environment or on PATH; run `make venv`")
        output = log or self.root / "build" / "logs" / f"command-{os.getpid()}.log"
        output.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [program, *words[1:]],
                cwd=cwd or self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(timeout)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                end(process)
        text = output.read_text(encoding="utf-8", errors="replace")
        if log is None:
            output.unlink()
        if code is None or (expect is not None and code != expect):
            seconds = time.monotonic() - started
            outcome = f"did not end in {timeout:.0f} s" if code is None else f"exit code {code}, expected {expect}"
            tail = "\n".join(text.splitlines()[-TAIL_LINES:])
            where = f" (all of it in {log})" if log else ""
            pytest.fail(f"{' '.join(words)}: {outcome} after {seconds:.0f} s; last lines{where}:\n{tail}", pytrace=False)
        return text


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def commands() -> Commands:
    """A runner of bounded commands."""
    return Commands(ROOT)


@pytest.fixture(scope="session")
def tracked(commands: Commands) -> list[Path]:
    """The files of the repository, relative to its root: those in git and those about to be (not ignored)."""
    listed = commands.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    return sorted({Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()})


@pytest.fixture(scope="session")
def checkout_copy(root: Path, tracked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files alone, for tools that would read all of build/ as well."""
    target = tmp_path_factory.mktemp("checkout") / "ansible_collections" / "selfhosted" / "prefect"
    for path in tracked:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, target / path, follow_symlinks=False)
    return target
