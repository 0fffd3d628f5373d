# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Archives of releases on the machine that runs Ansible: one for each release and kind of host, with its SHA-256 in its name."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._release.build import file_digest

_POLL_SECONDS = 0.2
# Far longer than a build: only one that hangs is not waited for.
_WAIT_SECONDS = 3600.0
_UNUSED_SECONDS = 90 * 86400.0
_DIGEST = "[0-9a-f]" * 64
_SUFFIX = ".tar.gz"


@dataclass(frozen=True)
class Archive:
    """An archive whose content has been checked."""

    path: Path
    sha256: str


class ReleaseCache:
    """The archives of one release for one kind of host. Several runs of Ansible may use a folder at once."""

    def __init__(self, folder: Path, name: str, warn: Callable[[str], None]) -> None:
        """Makes the folder if need be. Raises OSError if it cannot be written to."""
        self._folder, self._name, self._warn = folder, name, warn
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = folder / f".{name}.lock"
        self._lock.touch()

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Whether this host is the one to build, until the end of the block. Otherwise it has waited for the end of that host's."""
        with self._lock.open("w") as handle:
            end = time.monotonic() + _WAIT_SECONDS
            first = _locked(handle, fcntl.LOCK_EX)
            while not first and not _locked(handle, fcntl.LOCK_SH) and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
            yield first

    def find(self) -> Archive | None:
        """An archive, if there is one; those that are damaged are removed."""
        for path in sorted(self._folder.glob(f"{glob.escape(self._name)}-{_DIGEST}{_SUFFIX}")):
            # Another run may remove it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                archive = Archive(path, path.name.removesuffix(_SUFFIX)[-64:])
                if file_digest(path) == archive.sha256:
                    path.touch()
                    return archive
                path.unlink()
                self._warn(f"{path} is damaged: its SHA-256 is not that of its name. It was removed, and the release is built again.")
        return None

    def store(self, fetch: Callable[[str], object], sha256: str) -> None:
        """Takes in what ``fetch`` puts where it is told, whole or not at all. For the host that builds.

        Raises OSError if it could not be written, or is damaged.
        """
        partial = self._folder / f".{self._name}.partial"
        try:
            fetch(str(partial))
            if file_digest(partial) != sha256:
                raise OSError("it was damaged on its way to this machine")
            partial.replace(self._folder / f"{self._name}-{sha256}{_SUFFIX}")
        finally:
            partial.unlink(missing_ok=True)
        self._remove_unused()

    def _remove_unused(self) -> None:
        for path in self._folder.glob(f"*-{_DIGEST}{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _UNUSED_SECONDS:
                    path.unlink()


def _locked(handle: Any, mode: int) -> bool:
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
