"""The lock files of the repository, and the tool that makes them."""

from __future__ import annotations

import importlib
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "roles" / "prefect" / "files" / "locks"
FILES = sorted(LOCKS.glob("*.txt"))
ENTRY = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>[^ \\\n;]+)[^\n]*\\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


sys.path.insert(0, str(ROOT / "tools"))
lock = importlib.import_module("lock")


def known_constraints() -> list[dict[str, str]]:
    return list(yaml.safe_load((LOCKS / "constraints.yml").read_text())["constraints"])


def version_of(path: Path) -> str:
    return path.stem.partition("-")[0]


def pins_of(path: Path) -> dict[str, str]:
    return {entry["name"]: entry["version"] for entry in ENTRY.finditer(path.read_text())}


@pytest.mark.parametrize("path", [path for path in FILES if "-" not in path.stem], ids=lambda path: path.stem)
def test_lock_with_more_packages(path: Path) -> None:
    """Those of the plain lock, which was proved, but where they cannot go together."""
    plain, more = pins_of(path), pins_of(path.with_stem(f"{path.stem}-logfire"))
    assert {"logfire", "opentelemetry-instrumentation-fastapi", "opentelemetry-instrumentation-sqlalchemy"} <= more.keys() - plain.keys()
    assert plain.keys() <= more.keys()
    assert {name for name, version in plain.items() if more[name] != version} <= {"opentelemetry-api"}


def test_default_version_and_an_older_minor_have_a_lock() -> None:
    versions = {version_of(path) for path in FILES}
    default = yaml.safe_load((ROOT / "roles/common/defaults/main.yml").read_text())["prefect_version"]
    assert default in versions
    assert len({version.rpartition(".")[0] for version in versions}) >= 2
    deployed = {
        yaml.safe_load((ROOT / f"molecule/shared/{name}.yml").read_text())[0]["vars"]["prefect_version"] for name in ("older", "previous")
    }
    assert deployed | {default} == versions, "the scenarios upgrade through every version that has a lock file"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_lock_is_whole(path: Path) -> None:
    text = path.read_text()
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    pins = {entry["name"]: entry["version"] for entry in ENTRY.finditer(body)}
    assert ENTRY.sub("", body) == "", "every line belongs to a pinned, hashed requirement"
    assert pins["prefect"] == version_of(path)
    assert {"prefect-redis", "asyncpg", "redis", "uvicorn", "sqlalchemy"} <= pins.keys()
    assert "://" not in text, "a lock file does not say where packages came from"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_lock_keeps_the_constraints(path: Path) -> None:
    text = path.read_text()
    pins = {entry["name"]: entry["version"] for entry in ENTRY.finditer(text)}
    for constraint in lock.constraints_for(version_of(path), known_constraints()):
        requirement = Requirement(constraint.requirement)
        assert pins[requirement.name] in requirement.specifier, constraint.reason
        assert f"# Constraint: {constraint.requirement} " in text


def test_every_constraint_has_its_reason() -> None:
    assert all(len(entry["reason"]) > 20 for entry in known_constraints())


def test_uv_is_pinned_for_every_machine() -> None:
    pin = json.loads((LOCKS / "uv.json").read_text())
    assert set(pin["wheels"]) == {"aarch64", "x86_64"}
    for wheel in pin["wheels"].values():
        assert wheel["name"].startswith(f"uv-{pin['version']}-py3-none-manylinux")
        assert re.fullmatch("[0-9a-f]{64}", wheel["sha256"])


def file(name: str, time: str | None = None) -> dict[str, Any]:
    return {"filename": name} | ({"upload-time": time} if time else {})


PAGE = {
    "versions": ["3.8.8", "3.8.8.dev1", "3.8.80", "3.7.8"],
    "files": [
        file("prefect-3.8.80-py3-none-any.whl", "2026-11-01T00:00:00Z"),
        file("prefect-3.8.8-py3-none-any.whl", "2026-10-06T16:57:05.314926Z"),
        file("prefect-3.8.8.tar.gz", "2026-10-06T16:57:04Z"),
        file("prefect-3.7.8-py3-none-any.whl"),
    ],
}


def test_release_time_is_that_of_the_first_file() -> None:
    assert lock.release_time(PAGE, "3.8.8") == datetime(2026, 10, 6, 16, 57, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("version", "message"),
    [("3.9.9", r"no Prefect 3\.9\.9; its newest are 3\.7\.8, 3\.8\.8, 3\.8\.80"), ("3.7.8", "--as-of")],
)
def test_release_time_unknown(version: str, message: str) -> None:
    with pytest.raises(lock.LockError, match=message):
        lock.release_time(PAGE, version)


@pytest.mark.parametrize(("version", "wanted"), [("3.8.8", 1), ("3.8.0.dev1", 0), ("3.9.0", 0), ("3.7.8", 0)])
def test_constraints_of_a_range(version: str, wanted: int) -> None:
    assert len(lock.constraints_for(version, [{"releases": ">=3.8,<3.9", "requirement": "a<2", "reason": "r"}])) == wanted


def test_bad_version_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "find_uv", lambda: "uv")
    assert lock.main(["latest"]) == 1
    assert capsys.readouterr().err == "lock: latest is not a version; give one such as 3.8.8\n"
