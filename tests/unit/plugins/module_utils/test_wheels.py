# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("packaging")

from ansible_collections.selfhosted.prefect.plugins.module_utils._release.index import Index, IndexFile, PackageIndexError
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.lock import Pin
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.wheels import (
    Target,
    Wheelhouse,
    WheelhouseError,
    choose,
    is_made,
    make,
)

BOOKWORM, TRIXIE = Target((3, 11), "x86_64"), Target((3, 13), "x86_64")


@pytest.mark.parametrize(
    ("target", "names", "wanted"),
    [
        pytest.param(BOOKWORM, ["a_b-1.0-py3-none-any.whl"], 0, id="pure"),
        pytest.param(BOOKWORM, ["a_b-1.0.tar.gz"], None, id="source only"),
        pytest.param(BOOKWORM, ["a_b-1.1-py3-none-any.whl", "a_c-1.0-py3-none-any.whl", "nonsense.whl"], None, id="something else"),
        pytest.param(
            BOOKWORM,
            ["a_b-1.0-py3-none-any.whl", "a_b-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"],
            1,
            id="compiled before pure",
        ),
        pytest.param(BOOKWORM, ["a_b-1.0-cp311-cp311-manylinux_2_40_x86_64.whl", "a_b-1.0-py3-none-any.whl"], 1, id="glibc too new"),
        pytest.param(
            BOOKWORM, ["a_b-1.0-cp311-cp311-musllinux_1_1_x86_64.whl", "a_b-1.0-cp311-cp311-win_amd64.whl"], None, id="other systems"
        ),
        pytest.param(BOOKWORM, ["a_b-1.0-cp311-cp311-manylinux_2_28_aarch64.whl"], None, id="other machine"),
        pytest.param(TRIXIE, ["a_b-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"], None, id="other Python"),
        pytest.param(TRIXIE, ["a_b-1.0-cp39-abi3-manylinux_2_28_x86_64.whl"], 0, id="stable interface"),
        pytest.param(TRIXIE, ["a_b-1.0-cp313-cp313t-manylinux_2_28_x86_64.whl"], None, id="free-threaded"),
    ],
)
def test_choose(target: Target, names: list[str], wanted: int | None) -> None:
    found = choose(Pin("a-b", "1.0", "", frozenset("h")), [IndexFile(name, f"https://f/{name}", "h") for name in names], target)
    assert (found.name if found else None) == (None if wanted is None else names[wanted])


@pytest.mark.parametrize(("sha256", "wanted"), [("h", True), ("", True), ("other", False)])
def test_only_files_that_the_lock_allows(sha256: str, wanted: bool) -> None:
    assert bool(choose(Pin("a", "1", "", frozenset("h")), [IndexFile("a-1-py3-none-any.whl", "u", sha256)], BOOKWORM)) is wanted


@pytest.mark.parametrize(
    ("marker", "wanted"),
    [
        ("", [True, True]),
        ('sys_platform == "win32"', [False, False]),
        ('python_full_version >= "3.13"', [False, True]),
        ('python_full_version < "3.11.3"', [True, False]),  # Debian 12 has 3.11.2
        ('platform_machine == "x86_64" and implementation_name == "cpython"', [True, True]),
    ],
)
def test_needs(marker: str, wanted: list[bool]) -> None:
    assert [target.needs(Pin("a", "1", marker, frozenset())) for target in (BOOKWORM, TRIXIE)] == wanted


def test_a_marker_that_is_none() -> None:
    with pytest.raises(ValueError, match="a==1 has a marker that is none: nonsense"):
        BOOKWORM.needs(Pin("a", "1", "nonsense", frozenset()))


WHEELS = {
    "prefect": ["prefect-3.8.8-py3-none-any.whl"],
    "fast": ["fast-1-cp311-cp311-manylinux2014_x86_64.whl", "fast-1-cp313-cp313-manylinux2014_x86_64.whl", "fast-1.tar.gz"],
    "windows": ["windows-1-py3-none-any.whl"],
    "uv": ["uv-1-py3-none-manylinux_2_17_x86_64.whl"],
}


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def web(url: str) -> tuple[bytes, str]:
    """An index in which each file contains its own name."""
    folder, name = url.split("/")[-2:]
    if name:
        return name.encode(), ""
    if folder not in WHEELS:
        raise PackageIndexError(f"{url}: HTTP 404 Not Found")
    files = [{"filename": file, "url": f"https://files.test/{file}", "hashes": {"sha256": digest(file)}} for file in WHEELS[folder]]
    return json.dumps({"files": files}).encode(), "application/json"


def entry(requirement: str, project: str) -> str:
    return " ".join([requirement, *(f"--hash=sha256:{digest(name)}" for name in WHEELS.get(project, ["x"]))]) + "\n"


LOCK = entry("prefect==3.8.8", "prefect") + entry("fast==1", "fast") + entry('windows==1 ; sys_platform == "win32"', "windows")
UV = (WHEELS["uv"][0], digest(WHEELS["uv"][0]))
WANTED = Wheelhouse({"release": "3.8.8-0123456789ab"}, LOCK, [BOOKWORM, TRIXIE], UV)


def test_make(tmp_path: Path) -> None:
    path, index = tmp_path / "new" / "wheels.tar", Index("https://index.test", web)
    assert not is_made(path, WANTED)
    assert make(path, WANTED, index) == [*WHEELS["fast"][:2], *WHEELS["prefect"], *WHEELS["uv"]]
    with tarfile.open(path) as archive:
        names = archive.getnames()
        member = archive.extractfile(names[1])
        assert member is not None
        assert member.read().decode() == names[1]
    assert names[0] == "manifest.json"
    assert is_made(path, WANTED)
    assert not is_made(path, replace(WANTED, targets=[BOOKWORM]))
    assert not is_made(path, replace(WANTED, uv=("other", "")))
    first = path.read_bytes()
    make(path, WANTED, index)
    assert path.read_bytes() == first, "the same wheels give the same archive"
    assert [file.name for file in path.parent.iterdir()] == ["wheels.tar"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        pytest.param(
            replace(WANTED, targets=[Target((3, 12), "x86_64")]),
            r"fast 1 has no wheel in this lock file for Python 3\.12 on x86_64",
            id="no wheel",
        ),
        pytest.param(replace(WANTED, lock=entry("gone==1", "gone")), "the package index failed: .*/gone/: HTTP 404", id="no project"),
        pytest.param(replace(WANTED, uv=("uv-2-py3-none-any.whl", "")), r"has no uv-2-py3-none-any\.whl", id="no uv"),
        pytest.param(replace(WANTED, uv=(UV[0], "0" * 64)), "which is not the one pinned", id="another uv"),
    ],
)
def test_make_fails_whole(tmp_path: Path, wanted: Wheelhouse, message: str) -> None:
    with pytest.raises(WheelhouseError, match=message):
        make(tmp_path / "wheels.tar", wanted, Index("https://index.test", web))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_archive_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "wheels.tar"
    path.write_text("half of it")
    assert not is_made(path, WANTED)
