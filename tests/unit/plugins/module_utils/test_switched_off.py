# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import canonical_settings, names_for
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.switched_off import switched_off

PREFIX = "PREFECT_SERVER_SERVICES_"


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({}, []),
        ({f"{PREFIX}SCHEDULER_ENABLED": False}, ["scheduler"]),
        ({f"{PREFIX}SCHEDULER_ENABLED": "Off", f"{PREFIX}LATE_RUNS_ENABLED": 0}, ["late_runs", "scheduler"]),
        ({f"{PREFIX}SCHEDULER_ENABLED": True, f"{PREFIX}TRIGGERS_ENABLED": "yes"}, []),
        ({f"{PREFIX}SCHEDULER_LOOP_SECONDS": 0}, []),
        ({"PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED": "no"}, ["event_stream"]),
        ({f"{PREFIX}EVENT_LOGGER_ENABLED": False}, []),
        ({f"{PREFIX}DB_VACUUM_ENABLED": ["events"]}, []),
        ({f"{PREFIX}DB_VACUUM_ENABLED": "events,flow_runs"}, []),
        ({f"{PREFIX}DB_VACUUM_ENABLED": []}, ["db_vacuum"]),
        ({f"{PREFIX}DB_VACUUM_ENABLED": "null"}, ["db_vacuum"]),
        ({f"{PREFIX}DB_VACUUM_ENABLED": ""}, ["db_vacuum"]),
        ({f"{PREFIX}DB_VACUUM_ENABLED": "false"}, ["db_vacuum"]),
        ({f"{PREFIX.lower()}scheduler_enabled": "false"}, ["scheduler"]),
    ],
)
def test_switched_off(environment: dict[str, Any], parts: list[str]) -> None:
    assert switched_off(environment) == parts


@pytest.mark.parametrize("version", ["3.7.8", "3.8.8", "3.9.1"])
def test_every_service_of_a_release_by_every_name(version: str) -> None:
    names = [
        name
        for names in names_for(version).settings.items()
        for name in (names[0], *names[1])
        if "_SERVICES_" in name and name.endswith("_ENABLED")
    ]
    assert len(names) >= 10
    for name in names:
        parts = switched_off(canonical_settings({name: "false"}, names_for(version)))
        assert len(parts) == 1 or "EVENT_LOGGER" in name
