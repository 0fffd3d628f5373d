# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Gathers the wheels of a lock file for machines other than this one, in one archive."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.selfhosted.prefect.plugins.module_utils._release.index import Index, IndexFile, PackageIndexError
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.lock import Pin, normalised, pins

try:
    from packaging.markers import InvalidMarker, Marker
    from packaging.tags import Tag, compatible_tags, cpython_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import InvalidVersion, Version
except ImportError as import_error:
    MISSING: ImportError | None = import_error
else:
    MISSING = None

# What Debian 12 has (2.36), down to the oldest that wheels are made for.
_GLIBC = range(36, 4, -1)
_OLD_PLATFORMS = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
# Some packages are for the first patch releases of a Python only: gathering for both ends suits every host.
_PATCHES = (0, 99)
_AT_ONCE = 6
_MANIFEST = "manifest.json"


class WheelhouseError(Exception):
    """Why a wheelhouse cannot be made, for the operator."""


@dataclass(frozen=True)
class Target:
    """Hosts to gather for: the version of their Python, as ``(3, 11)``, and their machine, as ``x86_64``."""

    python: tuple[int, int]
    machine: str

    @functools.lru_cache(maxsize=16)  # noqa: B019  a handful of targets, for as long as the module runs
    def tags(self) -> dict[Tag, int]:
        """The tags of wheels that such a host can install, each with its rank; the lowest is the best."""
        platforms = [f"manylinux_2_{minor}_{self.machine}" for minor in _GLIBC] + [f"{name}_{self.machine}" for name in _OLD_PLATFORMS]
        interpreter = f"cp{self.python[0]}{self.python[1]}"
        ordered = [*cpython_tags(self.python, [interpreter], platforms), *compatible_tags(self.python, interpreter, platforms)]
        return {tag: rank for rank, tag in reversed(list(enumerate(ordered)))}

    def needs(self, pin: Pin) -> bool:
        """Whether a package's marker holds there. Raises ValueError for a marker that is none."""
        return any(self._holds(pin, patch) for patch in _PATCHES)

    def _holds(self, pin: Pin, patch: int) -> bool:
        version = f"{self.python[0]}.{self.python[1]}"
        environment = {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{version}.{patch}",
            "python_version": version,
            "sys_platform": "linux",
        }
        try:
            return not pin.marker or Marker(pin.marker).evaluate(environment)
        except InvalidMarker as error:
            raise ValueError(f"{pin.name}=={pin.version} has a marker that is none: {pin.marker}") from error


@dataclass(frozen=True)
class Wheelhouse:
    """What to gather. ``uv`` is the name and the SHA-256 of uv's wheel; ``label`` tells archives apart."""

    label: Mapping[str, object]
    lock: str
    targets: Sequence[Target]
    uv: tuple[str, str]


def choose(pin: Pin, files: Iterable[IndexFile], target: Target) -> IndexFile | None:
    """The best wheel for a package on such hosts, of those that the lock file allows."""
    ranks = target.tags()
    found: list[tuple[int, str, IndexFile]] = []
    for file in files:
        if file.sha256 and file.sha256 not in pin.hashes:
            continue
        with contextlib.suppress(InvalidWheelFilename, InvalidVersion):
            project, version, _build, tags = parse_wheel_filename(file.name)
            fitting = [ranks[tag] for tag in tags if tag in ranks]
            if fitting and normalised(project) == pin.name and version == Version(pin.version):
                found.append((min(fitting), file.name, file))
    return min(found)[2] if found else None


def is_made(path: Path, wanted: Wheelhouse) -> bool:
    """Whether an archive is there and holds what is wanted."""
    try:
        with tarfile.open(path) as archive:
            first = archive.next()
            member = archive.extractfile(first) if first and first.name == _MANIFEST else None
            return member is not None and member.read() == _manifest(wanted)
    except (OSError, tarfile.TarError):
        return False


def make(path: Path, wanted: Wheelhouse, index: Index) -> list[str]:
    """Writes the archive, whole or not at all; the names of the wheels in it.

    Raises WheelhouseError if a package has no wheel for one of the targets, or the index does not give it. Raises ValueError if
    the lock file is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=path.parent) as folder:
        wheels = Path(folder)
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for done in [pool.submit(_gather, pin, wanted.targets, index, wheels) for pin in pins(wanted.lock)]:
                    done.result()
            _uv(wanted.uv, index, wheels)
        except PackageIndexError as error:
            raise WheelhouseError(f"the package index failed: {error}") from error
        names = sorted(file.name for file in wheels.iterdir())
        partial = wheels / "archive"
        _pack(partial, wheels, names, wanted)
        partial.chmod(0o644)
        partial.replace(path)
    return names


def _gather(pin: Pin, targets: Sequence[Target], index: Index, folder: Path) -> None:
    needing = [target for target in targets if target.needs(pin)]
    files = index.files(pin.name) if needing else {}
    chosen: dict[str, IndexFile] = {}
    for target in needing:
        file = choose(pin, files.values(), target)
        if not file:
            raise WheelhouseError(_no_wheel(pin, target))
        chosen[file.name] = file
    for file in chosen.values():
        index.download(file.url, pin.hashes, folder / file.name)


def _no_wheel(pin: Pin, target: Target) -> str:
    python = ".".join(map(str, target.python))
    return (
        f"{pin.name} {pin.version} has no wheel in this lock file for Python {python} on {target.machine}, and nothing is compiled on a "
        f"host: lock a version that has one, or leave this Python or this machine out"
    )


def _uv(uv: tuple[str, str], index: Index, folder: Path) -> None:
    name, sha256 = uv
    file = index.files("uv").get(name)
    if not file:
        raise WheelhouseError(f"the package index has no {name}, which the installation begins with")
    index.download(file.url, {sha256}, folder / name)


def _pack(path: Path, folder: Path, names: Iterable[str], wanted: Wheelhouse) -> None:
    # The same wheels always give the same archive.
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        manifest = _manifest(wanted)
        archive.addfile(_member(_MANIFEST, len(manifest)), io.BytesIO(manifest))
        for name in names:
            with (folder / name).open("rb") as file:
                archive.addfile(_member(name, (folder / name).stat().st_size), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _manifest(wanted: Wheelhouse) -> bytes:
    targets = [f"{target.machine} {'.'.join(map(str, target.python))}" for target in wanted.targets]
    return (json.dumps({**wanted.label, "targets": targets, "uv": wanted.uv[0]}, indent=2, sort_keys=True) + "\n").encode()
