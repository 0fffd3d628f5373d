"""The bill of materials of real packages, against CycloneDX's own schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.bill import bill, examine, write_bill
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

LOCK = (Path(__file__).resolve().parents[2] / "requirements" / "dev.txt").read_text()


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Of the packages that run this test."""
    return bill(Path(sys.prefix), "3.8.8-0123456789ab", LOCK)


def complaint(found: dict[str, Any]) -> object:
    return JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(found))


def test_it_is_what_the_schema_wants(found: dict[str, Any]) -> None:
    assert len(found["components"]) > 100
    assert any("expression" in each for component in found["components"] for each in component.get("licenses", []))
    assert any("license" in each for component in found["components"] for each in component.get("licenses", []))
    assert any("hashes" in each for component in found["components"] for each in component.get("externalReferences", []))
    assert not complaint(found)


def test_the_schema_complains(found: dict[str, Any]) -> None:
    assert complaint({**found, "serialNumber": "1"})
    assert complaint({**found, "components": [{**found["components"][0], "purls": ""}]})


def test_real_packages_are_as_they_were_installed(tmp_path: Path) -> None:
    """Of an environment that uv has made, as on the hosts: scripts and headers, too."""
    (tmp_path / "lib").symlink_to(Path(sys.prefix) / "lib")
    (tmp_path / "bin").symlink_to(Path(sys.prefix) / "bin")
    (tmp_path / "requirements.txt").write_text(LOCK)
    write_bill(tmp_path, "x", LOCK)
    assert examine(tmp_path).altered == []
