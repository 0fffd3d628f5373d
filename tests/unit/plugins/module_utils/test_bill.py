# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.bill import BILL, bill, examine, write_bill

NAME = "3.8.8-0123456789ab"
LOCK = (
    f"prefect==3.8.8 \\\n    --hash=sha256:{'b' * 64} \\\n    --hash=sha256:{'a' * 64}\n"
    f"typing-extensions==4.16.0 --hash=sha256:{'c' * 64}\n"
    f"tzlocal==5.4.5 ; sys_platform == 'win32' --hash=sha256:{'d' * 64}\n"
)


def install(site: Path, name: str, version: str, files: dict[str, str], *metadata: str) -> None:
    """As an installer does: files, METADATA and a RECORD of all of them."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata]) + "\n")
    (info / "INSTALLER").write_text("uv")
    record = []
    for path, content in {**files, f"{info.name}/METADATA": (info / "METADATA").read_text(), f"{info.name}/INSTALLER": "uv"}.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("\n".join([*record, f"{info.name}/RECORD,,"]) + "\n")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / NAME
    site = folder / "lib" / "python3.11" / "site-packages"
    install(site, "prefect", "3.8.8", {"prefect/__init__.py": "", "../../../bin/prefect": "#!python"}, "License: Apache-2.0")
    install(site, "typing_extensions", "4.16.0", {"typing_extensions.py": "x = 1"}, "License-Expression: PSF-2.0")
    (folder / "requirements.txt").write_text(LOCK)
    return folder


def components(found: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in found["components"]}


def test_bill(release: Path) -> None:
    found = components(bill(release, NAME, LOCK))
    assert list(found) == ["prefect", "typing-extensions"], "what is installed, and no more of the lock file"
    assert found["typing-extensions"]["purl"] == "pkg:pypi/typing-extensions@4.16.0"
    assert found["typing-extensions"]["licenses"] == [{"expression": "PSF-2.0"}]
    assert found["prefect"]["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    digests = [each["content"] for each in found["prefect"]["externalReferences"][0]["hashes"]]
    assert digests == ["a" * 64, "b" * 64]


def test_it_is_the_same_wherever_it_is_made(release: Path, tmp_path: Path) -> None:
    first = bill(release, NAME, LOCK)
    site = next(release.glob("lib/*/site-packages"))
    # What an installer says of itself differs between a wheelhouse and an index.
    (site / "prefect-3.8.8.dist-info" / "INSTALLER").write_text("another")
    record = site / "prefect-3.8.8.dist-info" / "RECORD"
    record.write_text("\n".join(reversed(record.read_text().splitlines())) + "\n")
    shutil.copytree(release, tmp_path / "elsewhere")
    assert bill(tmp_path / "elsewhere", NAME, LOCK) == first
    other = bill(release, "3.8.8-abcdefabcdef", LOCK)
    assert other["serialNumber"] != first["serialNumber"]


def test_an_environment_without_hashes(release: Path) -> None:
    found = bill(release, NAME)
    assert not any("externalReferences" in each for each in found["components"])
    assert not any("lock" in each["name"] for each in found["metadata"]["component"]["properties"])


@pytest.mark.parametrize(
    ("metadata", "licences"),
    [
        pytest.param([], None, id="none"),
        pytest.param([f"License: {'x' * 81}"], None, id="a whole text"),
        pytest.param(["License: MIT", "Classifier: License :: OSI Approved :: MIT License"], ["MIT License"], id="a classifier"),
        pytest.param(["Classifier: License :: A", "Classifier: License :: B", "Classifier: Topic :: C"], ["A", "B"], id="two"),
    ],
)
def test_licences(tmp_path: Path, metadata: list[str], licences: list[str] | None) -> None:
    install(tmp_path / "lib" / "python3.12" / "site-packages", "six", "1.17.0", {"six.py": ""}, *metadata)
    (found,) = bill(tmp_path, NAME)["components"]
    assert found.get("licenses") == ([{"license": {"name": name}} for name in licences] if licences else None)


def test_nothing_is_installed(tmp_path: Path) -> None:
    assert bill(tmp_path, NAME)["components"] == []


def test_a_release_as_it_was_installed(release: Path) -> None:
    write_bill(release, NAME, LOCK)
    state = examine(release)
    assert (state.lock, state.packages, state.altered) == (hashlib.sha256(LOCK.encode()).hexdigest(), 2, [])
    assert state.recorded


def alter(site: Path, how: str) -> None:
    if how == "changed":
        (site / "typing_extensions.py").write_text("x = 2")
    elif how == "removed":
        (site / "typing_extensions.py").unlink()
    elif how == "script":
        (site / "../../../bin/prefect").resolve().write_text("#!other")
    elif how == "more":
        install(site, "more", "1.0", {"more.py": ""})
    elif how == "less":
        shutil.rmtree(site / "typing_extensions-4.16.0.dist-info")
    elif how == "replaced":
        shutil.rmtree(site / "typing_extensions-4.16.0.dist-info")
        install(site, "typing_extensions", "4.15.0", {"typing_extensions.py": "x = 0"})


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("changed", "typing_extensions.py was changed"),
        ("removed", "typing_extensions.py is missing"),
        ("script", "../../../bin/prefect was changed"),
        ("more", "its packages are others than were installed"),
        ("less", "its packages are others than were installed"),
        ("replaced", "its packages are others than were installed"),
    ],
)
def test_a_release_that_was_altered(release: Path, how: str, says: str) -> None:
    write_bill(release, NAME, LOCK)
    alter(next(release.glob("lib/*/site-packages")), how)
    assert examine(release).altered == [says]


def test_a_release_without_a_bill(release: Path) -> None:
    assert not examine(release).recorded
    assert examine(release).altered == []


def test_a_bill_that_was_damaged(release: Path) -> None:
    (release / BILL).write_text("{")
    assert examine(release).altered == ["its packages are others than were installed"]


def test_the_file_is_json(release: Path) -> None:
    write_bill(release, NAME, LOCK)
    assert json.loads((release / BILL).read_text()) == bill(release, NAME, LOCK)
