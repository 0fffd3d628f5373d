# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Puts a release of Prefect in place, whole: made aside from a lock file and proved, or unpacked from an archive of one that was."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import redact
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, Run
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.bill import write_bill
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.index import Index, PackageIndexError, index_url
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.lock import pinned_version

_OLDEST_PYTHON = (3, 11)
_NICE = 19
# Imports what a server runs; a set of packages that cannot start fails here, and not when something points at it.
_IMPORT = "import prefect.server.api.server, prefect_redis.messaging; print(prefect.__version__)"
# What an archive holds has been proved where it was built: here this host's interpreter has to load what is compiled, and to find the rest.
_START = "import asyncpg, pydantic_core; from importlib.metadata import version; print(version('prefect'))"
# The same for an environment that flows run in.
_IMPORT_WORKER = "import prefect.workers.process; print(prefect.__version__)"
# Packages that a lock file may have beside Prefect's own, and what Prefect imports of them when it is told to.
_EXTRAS = {"logfire": "import logfire, opentelemetry.instrumentation.fastapi, opentelemetry.instrumentation.sqlalchemy; "}
_VERSION = "import sys; print(*sys.version_info[:3])"
# Half of a release is text and bytecode. A higher level costs more than a network of today saves.
_COMPRESS = "gzip -1"
_NETWORK_HINT = (
    "if this host needs a proxy, another index or another certificate authority, set prefect_install_environment; "
    "without any network use prefect_wheelhouse"
)


class BuildError(Exception):
    """Why a release cannot be built, and what to do about it, for the operator."""


@dataclass(frozen=True)
class Uv:
    """The program that installs. ``wheels`` has, for each kind of machine (``x86_64``), a wheel's name and SHA-256."""

    version: str
    wheels: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Plan:
    """What to build. ``wheelhouse`` is an archive that holds every file needed; empty means the package index.

    ``programs`` has the text of what units run beside the release, for each path. ``archive`` is the release as another host of this
    kind packed it, with its ``sha256``: it is unpacked, and nothing is built. With ``requirements`` it is an environment for flows:
    Prefect and those, in the versions of the lock file as far as it has them. ``timeout`` bounds the whole, in seconds.
    """

    path: Path
    version: str
    lock: str
    python: str
    tools: Path
    uv: Uv
    wheelhouse: str = ""
    programs: Mapping[Path, str] = field(default_factory=dict)
    archive: str = ""
    sha256: str = ""
    requirements: Sequence[str] = ()
    timeout: float = 600.0


@dataclass(frozen=True)
class Host:
    """What the builder needs of the machine; tests put something else in its place. ``system`` is its distribution, as in ``debian-12``."""

    run: Run
    machine: str
    system: str
    environment: Mapping[str, str]
    index: Index


class Builder:
    """Builds one release on this machine."""

    def __init__(self, plan: Plan, host: Host) -> None:
        self._plan = plan
        self._host = host
        self._end = time.monotonic() + plan.timeout
        self._aside = plan.path.with_name(f".building-{plan.path.name}")

    def present(self) -> bool:
        """Whether the release is in place with its programs, and its Python still there (an upgrade of the system may replace it)."""
        return self.installed() and not self._missing_programs()

    def installed(self) -> bool:
        """Whether the release itself is in place, and its Python still there."""
        return (self._plan.path / "bin" / "python").exists()

    def build(self) -> bool:
        """Builds what is not in place of the release and its programs; whether there was anything.

        Raises BuildError, or OSError for want of space or rights, if it could not be built; nothing is in place then. Raises ValueError if
        the lock file is none.
        """
        locked = pinned_version(self._plan.lock, "prefect")
        if locked != self._plan.version:
            raise BuildError(f"the lock file holds prefect {locked or '(none)'}, but the version asked for is {self._plan.version}")
        self._plan.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with _exclusive_lock(self._plan.path.parent):
            if self.present():
                return False
            for path in self._missing_programs():
                self._write_program(path)
            if not self.installed():
                self._remove_leftovers()
                self._aside.mkdir(mode=0o755)
                try:
                    self._put_in_place(self._unpacked() if self._plan.archive else self._built())
                finally:
                    self._remove_leftovers()
        return True

    def kind(self) -> str:
        """The kind of machine: a release that was built on one runs on every other of the same."""
        python, version = self._python()
        return "-".join([self._host.system, self._host.machine, version, *Path(python).parts[1:]])

    def pack(self, archive: Path) -> str:
        """Packs the release in place for other machines of this kind; the archive's SHA-256.

        Raises BuildError if it could not be packed; there is no archive then.
        """
        path = self._plan.path
        done = self._run(["tar", "--create", "--use-compress-program", _COMPRESS, "--file", str(archive), "--directory", str(path), "."])
        if done.rc != 0:
            archive.unlink(missing_ok=True)
            raise BuildError(f"{path} could not be packed: {_brief(done)}")
        return file_digest(archive)

    def _missing_programs(self) -> list[Path]:
        return [path for path in self._plan.programs if not path.exists()]

    def _write_program(self, path: Path) -> None:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}")
        partial.write_text(self._plan.programs[path], encoding="utf-8")
        partial.chmod(0o755)
        partial.rename(path)

    def _put_in_place(self, release: Path) -> None:
        if self._plan.path.exists():
            shutil.rmtree(self._plan.path)
        release.rename(self._plan.path)

    def _unpacked(self) -> Path:
        found = file_digest(Path(self._plan.archive))
        if found != self._plan.sha256:
            raise BuildError(f"its archive arrived with the SHA-256 {found}, and not with {self._plan.sha256}: run again")
        release = self._aside / "release"
        release.mkdir(mode=0o755)
        done = self._run(["tar", "--extract", "--gzip", "--no-same-owner", "--file", self._plan.archive, "--directory", str(release)])
        if done.rc != 0:
            raise BuildError(f"its archive could not be unpacked: {_brief(done)}")
        self._prove(release, _START)
        return release

    def _built(self) -> Path:
        wheels = self._unpack_wheelhouse()
        uv = self._uv(wheels)
        release = self._aside / "release"
        source = ["--no-index", "--find-links", str(wheels), "--offline"] if wheels else []
        self._uv_run([uv, "venv", "--quiet", "--no-project", "--relocatable", "--python", self._python()[0], str(release)])
        options = ["--quiet", "--compile-bytecode", *source, "--python", str(release / "bin" / "python")]
        if self._plan.requirements:
            self._install_requirements(uv, release, options)
            self._prove(release, _IMPORT_WORKER)
            write_bill(release, self._plan.path.name)
        else:
            self._install_lock(uv, release, options)
            extras = "".join(imports for name, imports in _EXTRAS.items() if pinned_version(self._plan.lock, name))
            self._prove(release, extras + _IMPORT)
            write_bill(release, self._plan.path.name, self._plan.lock)
        return release

    def _install_lock(self, uv: str, release: Path, options: Sequence[str]) -> None:
        (release / "requirements.txt").write_text(self._plan.lock, encoding="utf-8")
        self._uv_run([uv, "pip", "sync", "--require-hashes", "--only-binary", ":all:", *options, str(release / "requirements.txt")])

    def _install_requirements(self, uv: str, release: Path, options: Sequence[str]) -> None:
        wanted = (f"prefect=={self._plan.version}", *self._plan.requirements)
        for name, text in (("requirements.txt", "\n".join(wanted) + "\n"), ("constraints.txt", self._plan.lock)):
            (release / name).write_text(text, encoding="utf-8")
        files = ["--constraints", str(release / "constraints.txt"), "--requirements", str(release / "requirements.txt")]
        self._uv_run([uv, "pip", "install", *options, *files])

    def _python(self) -> tuple[str, str]:
        found = self._run([self._plan.python, "-c", _VERSION])
        version = tuple(int(number) for number in re.findall(r"\d+", found.output)) if found.rc == 0 else ()
        if version < _OLDEST_PYTHON:
            seen = ".".join(map(str, version)) or f"nothing that runs ({_brief(found)})"
            raise BuildError(
                f"{self._plan.python} is {seen}; Prefect needs Python {'.'.join(map(str, _OLDEST_PYTHON))} or newer: "
                f"install one and set prefect_python to its path"
            )
        # By its full name (python3.11): when an upgrade of the system takes it away the release is built anew.
        return str(Path(self._plan.python).resolve()), ".".join(map(str, version))

    def _uv(self, wheels: Path | None) -> str:
        program = self._plan.tools / f"uv-{self._plan.uv.version}" / "uv"
        if program.exists():
            return str(program)
        pinned = self._plan.uv.wheels.get(self._host.machine)
        if not pinned:
            raise BuildError(f"there is no uv for {self._host.machine} machines, only for {', '.join(sorted(self._plan.uv.wheels))}")
        wheel = (wheels or self._aside) / pinned["name"]
        if not wheels:
            self._download(wheel, pinned["sha256"])
        elif not wheel.exists() or hashlib.sha256(wheel.read_bytes()).hexdigest() != pinned["sha256"]:
            raise BuildError(f"the wheelhouse does not hold {wheel.name} as pinned: make it again with this collection")
        program.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = program.with_name(".uv")
        with zipfile.ZipFile(wheel) as archive:
            partial.write_bytes(archive.read(f"uv-{self._plan.uv.version}.data/scripts/uv"))
        partial.chmod(0o755)
        partial.rename(program)
        return str(program)

    def _download(self, wheel: Path, sha256: str) -> None:
        try:
            file = self._host.index.files("uv").get(wheel.name)
            if not file:
                raise BuildError(f"the package index has no {wheel.name}, which the installation begins with")
            self._host.index.download(file.url, {sha256}, wheel)
        except PackageIndexError as error:
            raise BuildError(f"cannot download uv, which the installation begins with: {error}; {_NETWORK_HINT}") from error

    def _unpack_wheelhouse(self) -> Path | None:
        if not self._plan.wheelhouse:
            return None
        wheels = self._aside / "wheels"
        wheels.mkdir()
        try:
            with tarfile.open(self._plan.wheelhouse) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isfile() else None
                    if file:
                        # By its bare name: an archive has no say in where its files go.
                        with (wheels / Path(member.name).name).open("wb") as target:
                            shutil.copyfileobj(file, target)
        except tarfile.TarError as error:
            raise BuildError(f"{self._plan.wheelhouse} is not a wheelhouse ({error}): make it again") from error
        return wheels

    def _uv_run(self, command: list[str]) -> None:
        environment = {
            # The machine's own certificate authorities count, unless the user says otherwise.
            "UV_SYSTEM_CERTS": "1",
            **self._host.environment,
            "UV_CACHE_DIR": str(self._aside / "cache"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_PROGRESS": "1",
        }
        if "PIP_INDEX_URL" in environment:
            environment.setdefault("UV_DEFAULT_INDEX", index_url(self._host.environment))
        done = self._run(command, environment)
        if done.rc != 0:
            hint = "the wheelhouse is not of this lock file or this machine: make it again" if self._plan.wheelhouse else _NETWORK_HINT
            what = "these requirements beside the release's lock file" if self._plan.requirements else "the locked packages"
            raise BuildError(f"uv could not install {what}: {_brief(done)}\n{hint}")

    def _prove(self, release: Path, program: str) -> None:
        home = self._aside / "home"
        home.mkdir(mode=0o700)
        # Not the caller's environment: a PREFECT_ variable in it could make a good release fail.
        environment = {"PREFECT_HOME": str(home), "HOME": str(home), "DO_NOT_TRACK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = self._run([str(release / "bin" / "python"), "-c", program], environment, cwd=str(home))
        found = done.output.strip().rpartition("\n")[2]
        if done.rc != 0 and self._plan.archive:
            raise BuildError(f"what its archive holds does not run on this host: {_brief(done)}")
        if done.rc != 0:
            raise BuildError(
                f"the installed packages cannot run a worker: {_brief(done)}\nchange the requirements"
                if self._plan.requirements
                else f"the installed packages cannot run a server, so this lock file is not fit for use: {_brief(done)}\n"
                f"make the lock file anew, adding the constraint it lacks"
            )
        if found != self._plan.version:
            raise BuildError(f"the lock file says prefect {self._plan.version}, but what it installs says {found}")

    def _run(self, command: list[str], environment: Mapping[str, str] | None = None, cwd: str = "/") -> Finished:
        left = max(self._end - time.monotonic(), 1.0)
        # A host may be serving meanwhile.
        done = self._host.run(command, left, env=environment, cwd=cwd, nice=_NICE)
        if done.timed_out:
            raise BuildError(
                f"building took more than {self._plan.timeout:g} s; it was at: {' '.join(command[:3])}. "
                f"Nothing was put in place; run again when the network or the disk is faster"
            )
        return done

    def _remove_leftovers(self) -> None:
        # Under the exclusive lock no other build runs, so what is aside was left by an interrupted one.
        for folder in self._plan.path.parent.glob(".building-*"):
            shutil.rmtree(folder, ignore_errors=True)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    handle: Any
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _brief(done: Finished) -> str:
    return redact(done.tail(12)).strip() or f"exit status {done.rc}"
