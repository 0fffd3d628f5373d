# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, run
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.bill import BILL
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.build import Builder, BuildError, Host, Plan, Uv
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.index import Index, PackageIndexError

LOCK = f"prefect==3.8.8 --hash=sha256:{'a' * 64}\n"
WHEEL = "uv-1.2-py3-none-manylinux_2_17_x86_64.whl"


def wheel() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("uv-1.2.data/scripts/uv", "the program")
        # Later than uv itself, and not it.
        archive.writestr("uv-1.2.data/scripts/uvx", "another")
    return content.getvalue()


CONTENT = wheel()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Machine:
    """Plays the commands that a build runs; ``answers`` overrides what one of them, by its name, comes to."""

    def __init__(self, answers: Mapping[str, Finished] | None = None) -> None:
        self.answers = {"python": Finished(0, "3 11 2\n"), "import": Finished(0, "warning\n3.8.8\n"), **(answers or {})}
        self.ran: list[str] = []
        self.environments: dict[str, Mapping[str, str]] = {}

    def __call__(
        self,
        argv: Sequence[str],
        timeout: float,
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        cwd: str = "/",
        stdin: str = "",
        nice: int = 0,
    ) -> Finished:
        assert timeout > 0
        assert not user + stdin
        assert nice == 19  # what serves on this host goes first
        assert Path(cwd).is_dir()
        name = self._name(argv)
        self.ran.append(" ".join(argv))
        self.environments[name] = env or {}
        if name == "venv":
            (Path(argv[-1]) / "bin").mkdir(parents=True)
            (Path(argv[-1]) / "bin" / "python").touch()
        if name == "tar":
            return run(argv, timeout) if name not in self.answers else self.answers[name]
        return self.answers.get(name, Finished(0, ""))

    @staticmethod
    def _name(argv: Sequence[str]) -> str:
        if argv[0].endswith("/uv"):
            return "venv" if argv[1] == "venv" else "sync"
        return "tar" if argv[0] == "tar" else "import" if "/release/" in argv[0] else "python"


def web(url: str) -> tuple[bytes, str]:
    if url.endswith(".whl"):
        return CONTENT, ""
    return json.dumps({"files": [{"filename": WHEEL, "url": WHEEL}]}).encode(), "application/json"


def unreachable(url: str) -> tuple[bytes, str]:
    raise PackageIndexError(f"{url}: no route")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    uv = Uv("1.2", {"x86_64": {"name": WHEEL, "sha256": SHA256}})
    return Plan(tmp_path / "releases" / "3.8.8-abc", "3.8.8", LOCK, "/bin/sh", tmp_path / "tools", uv)


def host(machine: Machine, read: Any = web, kind: str = "x86_64", **environment: str) -> Host:
    return Host(machine, kind, "debian-12", environment, Index("https://index.test", read))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_build(plan: Plan) -> None:
    machine = Machine()
    builder = Builder(plan, host(machine, HTTPS_PROXY="http://proxy", PIP_INDEX_URL="https://mine/simple"))
    assert not builder.present()
    assert builder.build()
    assert builder.present()
    assert names(plan.path.parent) == [".lock", "3.8.8-abc"], "nothing is left aside"
    assert (plan.path / "requirements.txt").read_text() == LOCK
    assert json.loads((plan.path / BILL).read_text())["metadata"]["component"]["version"] == "3.8.8-abc"
    assert (plan.tools / "uv-1.2" / "uv").read_text() == "the program"
    assert (plan.tools / "uv-1.2" / "uv").stat().st_mode & 0o777 == 0o755
    _python, venv, sync, proof = machine.ran
    assert "--relocatable" in venv
    assert all(option in sync for option in ("--require-hashes", "--only-binary :all:", "--compile-bytecode"))
    assert "--no-index" not in sync
    assert "import prefect.server.api.server" in proof
    assert (
        machine.environments["sync"].items()
        >= {
            "HTTPS_PROXY": "http://proxy",
            "UV_DEFAULT_INDEX": "https://mine/simple",
            "UV_SYSTEM_CERTS": "1",
        }.items()
    )
    assert "HTTPS_PROXY" not in machine.environments["import"]


def test_what_a_lock_has_beside_prefect_is_proved_too(plan: Plan) -> None:
    machine = Machine()
    more = replace(plan, lock=LOCK + f"logfire==5.1.1 --hash=sha256:{'b' * 64}\n")
    assert Builder(more, host(machine)).build()
    assert "import logfire, opentelemetry.instrumentation.fastapi" in machine.ran[3]


def test_an_environment_with_requirements(plan: Plan) -> None:
    machine = Machine()
    more = replace(plan, requirements=["pandas==2.3.0", "./own"])
    assert Builder(more, host(machine)).build()
    _python, _venv, install, proof = machine.ran
    assert (plan.path / "requirements.txt").read_text() == "prefect==3.8.8\npandas==2.3.0\n./own\n"
    assert (plan.path / "constraints.txt").read_text() == LOCK
    assert "pip install" in install
    assert "--constraints" in install
    assert "--require-hashes" not in install
    assert "import prefect.workers.process" in proof
    assert "server" not in proof


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"sync": Finished(1, "no solution")}, "could not install these requirements beside the release's lock file: no solution"),
        ({"import": Finished(1, "no module")}, "cannot run a worker: no module\nchange the requirements"),
    ],
)
def test_requirements_that_do_not_fit(plan: Plan, answers: Any, message: str) -> None:
    with pytest.raises(BuildError, match=re.escape(message)):
        Builder(replace(plan, requirements=["x"]), host(Machine(answers))).build()
    assert not plan.path.exists()


def test_a_release_in_place_is_left_alone(plan: Plan) -> None:
    Builder(plan, host(Machine())).build()
    again = Machine()
    assert not Builder(plan, host(again, unreachable)).build()
    assert again.ran == []


def test_programs_come_with_it(plan: Plan) -> None:
    program = plan.tools / "python-abc" / "sitecustomize.py"
    more = replace(plan, programs={program: "print()\n"})
    assert Builder(more, host(Machine())).build()
    assert program.read_text() == "print()\n"
    assert program.stat().st_mode & 0o777 == 0o755
    assert names(program.parent) == ["sitecustomize.py"]


def test_a_program_that_is_missing_is_written_without_another_build(plan: Plan) -> None:
    Builder(plan, host(Machine())).build()
    again, more = Machine(), replace(plan, programs={plan.tools / "watchdog-abc": "newer"})
    builder = Builder(more, host(again, unreachable))
    assert not builder.present()
    assert builder.build()
    assert builder.present()
    assert again.ran == []
    assert not Builder(replace(more, programs={plan.tools / "watchdog-abc": "other"}), host(again)).build(), "what is there stays"


def test_a_release_whose_python_has_gone_is_built_anew(plan: Plan) -> None:
    (plan.path / "bin").mkdir(parents=True)
    (plan.path / "bin" / "python").symlink_to("/nowhere/python3.9")
    assert Builder(plan, host(Machine())).build()
    assert not (plan.path / "bin" / "python").is_symlink()


def packed(plan: Plan, path: Path) -> Plan:
    """The plan of another host of the same kind, which gets an archive of what this one has built."""
    builder = Builder(plan, host(Machine()))
    builder.build()
    (plan.path / "module.py").write_text("print()\n")
    os.utime(plan.path / "module.py", (1_700_000_000, 1_700_000_000))
    return replace(
        plan, path=path / "releases" / plan.path.name, tools=path / "tools", archive=str(path / "a"), sha256=builder.pack(path / "a")
    )


def test_what_one_host_built_another_unpacks(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = packed(plan, tmp_path / "other")
    machine = Machine()
    program = other.tools / "watchdog-abc"
    assert Builder(replace(other, programs={program: "print()"}), host(machine, unreachable)).build()
    assert (other.path / "bin" / "python").exists()
    assert (other.path / "requirements.txt").read_text() == LOCK
    assert (other.path / BILL).read_text() == (plan.path / BILL).read_text()
    assert names(other.path.parent) == [".lock", "3.8.8-abc"], "nothing is left aside"
    assert names(other.tools) == ["watchdog-abc"], "what builds is not needed"
    # Python goes by a source's time to see whether its bytecode is of that source.
    assert (other.path / "module.py").stat().st_mtime == 1_700_000_000
    unpacking, proof = machine.ran
    assert "--no-same-owner" in unpacking
    assert "import asyncpg, pydantic_core;" in proof


@pytest.mark.parametrize(
    ("changes", "answers", "message"),
    [
        ({"sha256": "0" * 64}, {}, "archive arrived with the SHA-256 [0-9a-f]{64}, and not with 0{64}"),
        ({}, {"tar": Finished(2, "tar: Unexpected EOF")}, "could not be unpacked: tar: Unexpected EOF"),
        ({}, {"import": Finished(127, "no such interpreter")}, "does not run on this host: no such interpreter"),
        ({}, {"import": Finished(0, "3.8.7")}, "3.8.7"),
    ],
)
def test_a_bad_archive_leaves_nothing(
    plan: Plan, tmp_path: Path, changes: dict[str, Any], answers: dict[str, Finished], message: str
) -> None:
    (tmp_path / "other").mkdir()
    other = replace(packed(plan, tmp_path / "other"), **changes)
    with pytest.raises(BuildError, match=message):
        Builder(other, host(Machine(answers))).build()
    assert names(other.path.parent) == [".lock"]


def test_an_archive_that_cannot_be_written(plan: Plan, tmp_path: Path) -> None:
    Builder(plan, host(Machine())).build()
    (tmp_path / "a").write_bytes(b"half")
    with pytest.raises(BuildError, match="could not be packed: tar: No space left"):
        Builder(plan, host(Machine({"tar": Finished(2, "tar: No space left on device")}))).pack(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("python", "answer", "kind"),
    [
        ("/nowhere/python3.11", "3 11 2", "debian-12-x86_64-3.11.2-nowhere-python3.11"),
        ("/nowhere/python3.11", "3 11 9", "debian-12-x86_64-3.11.9-nowhere-python3.11"),
        ("/elsewhere/python3", "3 11 2", "debian-12-x86_64-3.11.2-elsewhere-python3"),
    ],
)
def test_kinds_of_machine(plan: Plan, python: str, answer: str, kind: str) -> None:
    assert Builder(replace(plan, python=python), host(Machine({"python": Finished(0, answer)}))).kind() == kind


def test_leftovers_of_interrupted_builds_go(plan: Plan) -> None:
    (plan.path.parent / ".building-3.7.8-def" / "cache").mkdir(parents=True)
    Builder(plan, host(Machine())).build()
    assert names(plan.path.parent) == [".lock", "3.8.8-abc"]


def test_uv_is_fetched_once(plan: Plan) -> None:
    Builder(plan, host(Machine())).build()
    other = replace(plan, path=plan.path.with_name("3.8.8-def"))
    assert Builder(other, host(Machine(), unreachable)).build()


FAILURES = [
    pytest.param(
        {"version": "3.9.0"}, {}, {}, "the lock file holds prefect 3.8.8, but the version asked for is 3.9.0", id="lock of another version"
    ),
    pytest.param({}, {"python": Finished(0, "3 9 1\n")}, {}, "/bin/sh is 3.9.1; Prefect needs Python 3.11 or newer", id="old Python"),
    pytest.param({}, {"python": Finished(127, "no such command")}, {}, r"nothing that runs \(no such command\)", id="no Python"),
    pytest.param({}, {}, {"kind": "riscv64"}, "there is no uv for riscv64 machines, only for x86_64", id="unknown machine"),
    pytest.param({}, {}, {"read": unreachable}, "cannot download uv.*no route; .*prefect_install_environment", id="no network"),
    pytest.param(
        {"uv": Uv("1.2", {"x86_64": {"name": WHEEL, "sha256": "0" * 64}})}, {}, {}, "which is not the one pinned", id="another uv"
    ),
    pytest.param({"uv": Uv("1.3", {"x86_64": {"name": "uv-1.3.whl", "sha256": ""}})}, {}, {}, r"has no uv-1\.3\.whl", id="uv not there"),
    pytest.param(
        {},
        {"sync": Finished(2, "error: https://me:secret@index.test/x: 401")},
        {},
        r"uv could not install the locked packages: error: https://me:\*+@index\.test/x: 401",
        id="uv fails",
    ),
    pytest.param({}, {"import": Finished(1, "TypeError: Body()")}, {}, "cannot run a server.*TypeError: Body", id="does not import"),
    pytest.param(
        {},
        {"import": Finished(0, "3.8.7\n")},
        {},
        "the lock file says prefect 3.8.8, but what it installs says 3.8.7",
        id="another version",
    ),
    pytest.param({"timeout": 3.0}, {"sync": Finished(-9, "", True)}, {}, "more than 3 s; it was at: .*/uv pip sync", id="too slow"),
]


@pytest.mark.parametrize(("changes", "answers", "place", "message"), FAILURES)
def test_failures_leave_nothing(
    plan: Plan, changes: dict[str, Any], answers: dict[str, Finished], place: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=f"(?s){message}"):
        Builder(replace(plan, **changes), host(Machine(answers), **place)).build()
    assert not plan.path.exists()
    assert not list(plan.path.parent.glob(".building-*"))


def archive(path: Path, files: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return str(path)


def test_wheelhouse_needs_no_index(plan: Plan, tmp_path: Path) -> None:
    machine = Machine()
    wheelhouse = archive(tmp_path / "wheels.tar", {"../../escaped.whl": b"", WHEEL: CONTENT})
    assert Builder(replace(plan, wheelhouse=wheelhouse), host(machine, unreachable)).build()
    assert "--no-index --find-links" in machine.ran[2]
    assert "--offline" in machine.ran[2]
    assert not list(tmp_path.rglob("escaped.whl"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, f"the wheelhouse does not hold {WHEEL} as pinned"),
        ({WHEEL: b"another"}, f"the wheelhouse does not hold {WHEEL} as pinned"),
        (None, "is not a wheelhouse"),
    ],
)
def test_bad_wheelhouse(plan: Plan, tmp_path: Path, files: Mapping[str, bytes] | None, message: str) -> None:
    path = tmp_path / "wheels.tar"
    if files is None:
        path.write_bytes(b"nonsense")
    else:
        archive(path, files)
    with pytest.raises(BuildError, match=message):
        Builder(replace(plan, wheelhouse=str(path)), host(Machine())).build()
