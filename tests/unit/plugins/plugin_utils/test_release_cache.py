# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.selfhosted.prefect.plugins.plugin_utils import _release_cache as module
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._release_cache import ReleaseCache

NAME = "3.8.8-abc-debian-12-x86_64-3.11.2-usr-bin-python3.11"
CONTENT = b"a release"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LONG_AGO = time.time() - 100 * 86400


class Folder:
    """A folder of archives, as any number of hosts see it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []

    def cache(self, name: str = NAME) -> ReleaseCache:
        return ReleaseCache(self.path, name, self.warnings.append)

    def add(self, name: str = NAME, content: bytes = CONTENT) -> Path:
        path = self.path / f"{name}-{SHA256}.tar.gz"
        path.write_bytes(content)
        return path

    def archives(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "not" / "yet")


def test_kept_and_found(folder: Folder) -> None:
    cache = folder.cache()
    assert cache.find() is None
    cache.store(lambda path: Path(path).write_bytes(CONTENT), SHA256)
    found = folder.cache().find()
    assert found
    assert (found.path, found.sha256) == (folder.path / f"{NAME}-{SHA256}.tar.gz", SHA256)
    assert folder.archives() == [found.path.name]
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert not folder.warnings


@pytest.mark.parametrize("name", [NAME.replace("debian-12", "debian-13"), NAME.replace("3.8.8-abc", "3.8.8-def"), NAME + "-9"])
def test_another_release_or_kind_is_not_taken(folder: Folder, name: str) -> None:
    folder.cache(name)
    folder.add(name)
    assert folder.cache().find() is None
    assert folder.cache(name).find()


def test_a_damaged_archive_is_named_and_removed(folder: Folder) -> None:
    cache = folder.cache()
    path = folder.add(content=b"something else")
    assert cache.find() is None
    assert folder.archives() == []
    assert folder.warnings == [f"{path} is damaged: its SHA-256 is not that of its name. It was removed, and the release is built again."]


def test_what_is_damaged_on_its_way_is_not_kept(folder: Folder) -> None:
    with pytest.raises(OSError, match="damaged on its way"):
        folder.cache().store(lambda path: Path(path).write_bytes(b"half"), SHA256)
    assert folder.archives() == []


def test_an_interrupted_transfer_is_not_found(folder: Folder) -> None:
    def interrupted(path: str) -> None:
        Path(path).write_bytes(CONTENT)
        assert folder.cache().find() is None
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        folder.cache().store(interrupted, SHA256)
    assert folder.archives() == []


def test_what_is_unused_goes(folder: Folder) -> None:
    cache = folder.cache()
    unused, used = folder.add("3.7.8-old"), folder.add("3.7.8-other")
    other = folder.path / "notes.tar.gz"
    other.touch()
    for path in (unused, used, other):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert folder.cache("3.7.8-other").find()
    cache.store(lambda path: Path(path).write_bytes(CONTENT), SHA256)
    assert folder.archives() == sorted([used.name, other.name, f"{NAME}-{SHA256}.tar.gz"])


def test_one_builds_and_the_others_wait(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = folder.cache().turn()
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            folder.add()
            turn.__exit__(None, None, None)

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=sleep))
    assert turn.__enter__()
    with folder.cache("another").turn() as first:
        assert first, "another kind is built at the same time"
    with folder.cache().turn() as first, folder.cache().turn() as third:
        assert not first
        assert not third
        assert folder.cache().find()
    assert len(waited) == 3
    with folder.cache().turn() as first:
        assert first, "afterwards the next may"


def test_one_that_hangs_is_not_waited_for_in_the_end(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, naps = iter(range(0, 36000, 600)), iter(range(60))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _seconds: next(naps)))
    with folder.cache().turn() as first, folder.cache().turn() as second:
        assert first
        assert not second
        assert next(clock) >= 3600


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        Folder(tmp_path / "file").cache()
