from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_client_info

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def line(version: str, hours_ago: float) -> str:
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(time.time() - hours_ago * 3600))
    return f'10.0.0.9 - admin [{when}] "GET /api/ready HTTP/1.1" 200 16 "-" "prefect/{version} (API 0.8.4)"\n'


@pytest.mark.parametrize("check", [False, True])
def test_several_logs(run_module: Any, tmp_path: Path, check: bool) -> None:
    new, old = tmp_path / "access.log", tmp_path / "access.log.1"
    new.write_text(line("3.8.8", 0) + line("3.8.8", 1))
    old.write_text(line("3.7.8", 30) + line("3.8.8", 2) + line("3.9.0", 3))
    result = run_module(prefect_client_info.main, check=check, paths=[str(new), str(old), str(tmp_path / "none")])
    assert {version: facts["requests"] for version, facts in result["clients"].items()} == {"3.8.8": 3, "3.9.0": 1}
    assert abs(result["clients"]["3.8.8"]["last_seen"] - time.time()) < 60
    assert result["changed"] is False


def test_nothing_there(run_module: Any, tmp_path: Path) -> None:
    assert run_module(prefect_client_info.main, paths=[str(tmp_path / "none")])["clients"] == {}


@pytest.mark.parametrize("option", ["hours", "bytes"])
def test_numbers(run_module: Any, option: str) -> None:
    result = run_module(prefect_client_info.main, paths=[], **{option: 0})
    assert (result["failed"], result["msg"]) == (True, f"{option} must be more than 0, not 0.")


def test_a_log_that_may_not_be_read(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _most: int) -> Iterator[bytes]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(prefect_client_info, "last_lines", refuse)
    result = run_module(prefect_client_info.main, paths=["/var/log/nginx/access.log"])
    assert result["failed"]
    assert result["msg"].startswith("The log /var/log/nginx/access.log cannot be read: Permission denied. It takes root")
