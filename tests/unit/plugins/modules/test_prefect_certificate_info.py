from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_certificate_info, prefect_preflight
from ansible_collections.selfhosted.prefect.tests.unit.plugins.pki import Authority


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A certificate that ended yesterday, with its key and its authority."""
    authority = Authority("ours")
    certificate, key = authority.sign(["api1"], begins=-20, ends=-1)
    paths = {}
    for name, content in {"certificate": certificate, "key": key, "ca_file": authority.certificate}.items():
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        path.chmod(0o600)
        paths[name] = str(path)
    return paths


@pytest.mark.parametrize("check", [False, True])
def test_what_a_host_has(run_module: Any, files: dict[str, str], tmp_path: Path, check: bool) -> None:
    before = sorted(tmp_path.iterdir())
    wanted = [
        {"name": "api", "names": ["api1"], **files},
        {"name": "other", "required": False, "ca_file": str(tmp_path / "none"), "purpose": "client"},
    ]
    result = run_module(prefect_certificate_info.main, check=check, certificates=wanted, metrics=str(tmp_path / "x.prom"))
    assert (result["changed"], result.get("failed")) == (False, None)
    assert [problem.partition(", on")[0] for problem in result["problems"]] == [f"{files['certificate']} has expired"]
    assert result["certificates"]["api"]["days_left"] == -1
    assert "is missing" in result["certificates"]["other"]["problem"]
    assert f'name="api",path="{files["certificate"]}"' in result["metrics"]
    assert sorted(tmp_path.iterdir()) == before


def test_the_preflight_says_the_same(run_module: Any, files: dict[str, str], tmp_path: Path) -> None:
    wanted = [{"name": "api", "names": ["api1"], **files}]
    alone = run_module(prefect_certificate_info.main, certificates=wanted, metrics=str(tmp_path / "x.prom"))
    found = run_module(prefect_preflight.main, systemd=False, os_families=[], certificates=wanted, metrics=str(tmp_path / "x.prom"))
    assert found["problems"] == alone["problems"]
    assert found["found"]["certificates"] == alone["certificates"]
    assert found["found"]["metrics"] == alone["metrics"]


@pytest.mark.parametrize("wanted", [{}, {"name": "x", "purpose": "both"}, {"name": "x", "nonsense": 1}])
def test_options_that_mean_nothing(run_module: Any, wanted: dict[str, Any]) -> None:
    assert run_module(prefect_certificate_info.main, certificates=[wanted])["failed"] is True
