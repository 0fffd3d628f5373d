from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.table_settings import (
    read_settings,
    settings_problems,
    statements,
)

WANTED = {"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_enabled": True}


@pytest.mark.parametrize(
    ("has", "wanted", "changes"),
    [
        ({}, WANTED, ['ALTER TABLE "log" SET (autovacuum_enabled = true, autovacuum_vacuum_scale_factor = 0.02)']),
        ({"autovacuum_vacuum_scale_factor": "0.020", "autovacuum_enabled": "true"}, WANTED, []),
        (
            {"autovacuum_vacuum_scale_factor": "0.2", "autovacuum_enabled": "true"},
            WANTED,
            ['ALTER TABLE "log" SET (autovacuum_vacuum_scale_factor = 0.02)'],
        ),
        ({"autovacuum_vacuum_threshold": "5"}, {}, ['ALTER TABLE "log" RESET (autovacuum_vacuum_threshold)']),
        ({}, {}, []),
    ],
)
def test_statements(has: dict[str, str], wanted: dict[str, Any], changes: list[str]) -> None:
    assert statements({"log": has}, wanted) == changes


def test_only_what_is_autovacuums_and_only_tables_that_are_there() -> None:
    class Session:
        def query(self, _sql: str) -> list[tuple[str, str]]:
            return [("log", "fillfactor=90,autovacuum_enabled=true"), ("flow", "autovacuum_enabled=false"), ("events", "")]

    session: Any = Session()
    assert read_settings(session, ["log", "events", "artifact"]) == {"events": {}, "log": {"autovacuum_enabled": "true"}}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"fillfactor": 90}, "fillfactor is no storage parameter of autovacuum"),
        ({"autovacuum_enabled": "no); DROP TABLE log; --"}, "autovacuum_enabled takes a number or a boolean"),
        ({"autovacuum_x)": 1}, "autovacuum_x) is no storage parameter"),
    ],
)
def test_refuses(given: dict[str, Any], problem: str) -> None:
    assert settings_problems(given)[0].startswith(problem)
    assert settings_problems(WANTED) == []
