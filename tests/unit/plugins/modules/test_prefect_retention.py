# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings import retention as _retention
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_retention

DATABASE = {"host": "192.0.2.11", "port": 5432, "dbname": "prefect", "user": "prefect", "password": "secret"}


@pytest.fixture
def arguments(tmp_path: Path) -> dict[str, Any]:
    """A host that keeps everything, and a retention that would delete."""
    settings = tmp_path / "prefect.env"
    settings.write_text('PREFECT_SERVER_EVENTS_RETENTION_PERIOD="PT8640000S"\n')
    return {"retention": {"events": "2d"}, "environment_file": str(settings), "database": DATABASE}


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_given: Any) -> None:
        raise NetError("refuses the connection")

    monkeypatch.setattr(_retention, "read_retention", away)


def test_a_database_that_is_away_is_no_reason_to_refuse_the_run_that_may_repair_it(run_module: Any, arguments: dict[str, Any]) -> None:
    result = run_module(prefect_retention.main, state="checked", **arguments)
    assert (result["changed"], result["problem"]) == (False, "")


def test_nothing_is_recorded_without_it(run_module: Any, arguments: dict[str, Any]) -> None:
    result = run_module(prefect_retention.main, state="recorded", **arguments)
    assert result["failed"]
    assert "192.0.2.11:5432 does not answer: refuses the connection" in result["msg"]
