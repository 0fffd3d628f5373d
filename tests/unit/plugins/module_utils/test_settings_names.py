# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import (
    TABLES,
    Names,
    canonical_settings,
    names_for,
    nearest_table,
)

ROLE = TABLES.parent.parent
VERSIONS = sorted(path.stem for path in TABLES.glob("*.json"))


def variables(file: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROLE.parent / "common" / file).read_text(encoding="utf-8")))


def test_every_lock_has_its_table() -> None:
    assert {path.stem for path in (ROLE / "files/locks").glob("*.txt") if "-" not in path.stem} <= set(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("PREFECT_SERVER_DATABASE_TIMEOUT", "PREFECT_SERVER_DATABASE_TIMEOUT"),
        ("PREFECT_API_DATABASE_TIMEOUT", "PREFECT_SERVER_DATABASE_TIMEOUT"),
        ("prefect_api_database_timeout", "PREFECT_SERVER_DATABASE_TIMEOUT"),
        ("PREFECT_UI_API_URL", "PREFECT_SERVER_UI_API_URL"),
        ("PREFECT_API_ENABLE_METRICS", "PREFECT_SERVER_METRICS_ENABLED"),
        ("PREFECT_API_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL", "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL"),
        ("PREFECT_API_SERVICES_SCHEDULER_ENABLED", "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED"),
        ("prefect_redis_messaging_socket_timeout", "PREFECT_REDIS_MESSAGING_SOCKET_TIMEOUT"),
        ("PREFECT_LOGGING_SETTINGS_PATH", "PREFECT_LOGGING_CONFIG_PATH"),
        ("PREFECT_NOT_A_SETTING", "PREFECT_NOT_A_SETTING"),
        ("http_proxy", "http_proxy"),
    ],
)
def test_name_of_today(version: str, given: str, canonical: str) -> None:
    assert canonical_settings({given: 60}, names_for(version)) == {canonical: 60}


@pytest.mark.parametrize("version", VERSIONS)
def test_names_that_the_role_knows(version: str) -> None:
    """The role's own are those of today, and what it owns says which variable to use instead."""
    names, role = names_for(version), variables("vars/main/settings.yml")
    wired = [
        name
        for key, group in role.items()
        if key.startswith(("__common_wiring_", "__common_redis_by_"))
        if isinstance(group, dict)
        for name in group
    ]
    owned = role["common_owned_settings"]
    own = {name for name in [*wired, *role["__common_tuning"], *owned] if name.startswith("PREFECT_")}
    assert len(own) > 50
    assert {name for name in own if name not in names.settings} == set()
    assert set(wired) - set(owned) == set()
    assert set(owned) & set(role["__common_tuning"]) == set()
    defined = [*variables("defaults/main.yml"), "prefect_database_password", "prefect_redis_password", "prefect_auth_string"]
    assert {text.split()[0] for text in owned.values() if text} - set(defined) == set()


def test_two_names_of_one_setting() -> None:
    names = names_for("3.8.8")
    assert canonical_settings({"PREFECT_UI_API_URL": "/a", "prefect_server_ui_api_url": "/a"}, names) == {"PREFECT_SERVER_UI_API_URL": "/a"}
    with pytest.raises(ValueError, match="PREFECT_UI_API_URL and prefect_server_ui_api_url are names of one setting") as caught:
        canonical_settings({"PREFECT_UI_API_URL": "geheim", "prefect_server_ui_api_url": "/b"}, names)
    assert "Use PREFECT_SERVER_UI_API_URL alone" in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PREFECT_SERVER_DATABSE_TIMEOUT", ["PREFECT_SERVER_DATABSE_TIMEOUT (is PREFECT_SERVER_DATABASE_TIMEOUT meant?)"]),
        ("PREFECT_API_DATABSE_TIMEOUT", ["PREFECT_API_DATABSE_TIMEOUT (is PREFECT_SERVER_DATABASE_TIMEOUT meant?)"]),
        ("PREFECT_REDIS_MESAGING_DB", ["PREFECT_REDIS_MESAGING_DB (is PREFECT_REDIS_MESSAGING_DB meant?)"]),
        ("prefect_logging_levle", ["prefect_logging_levle (is PREFECT_LOGGING_LEVEL meant?)"]),
        ("PREFECT_XYZZY", ["PREFECT_XYZZY"]),
        ("PREFECT_LOGGING_LOGGERS_MY_PACKAGE_LEVEL", []),
        ("PREFECT_PROFILE", []),
        ("PREFECT_SERVER_DATABASE", []),
        ("HTTPS_PROXY", []),
        ("prefect_server_ui_enabled", []),
    ],
)
def test_unknown_names(name: str, said: list[str]) -> None:
    assert names_for("3.8.8").unknown([name]) == said


def test_groups() -> None:
    problems = list(names_for("3.8.8").problems({"prefect_server_database": {"timeout": 5}}))
    assert problems == [
        "prefect_server_database is the name of a group, and would win over all settings in it. Give its settings one by one."
    ]


@pytest.mark.parametrize(
    ("version", "table"),
    [
        ("3.7.8", "3.7.8"),
        ("3.7.1", "3.7.8"),
        ("3.8.0", "3.7.8"),
        ("3.10.1", "3.9.1"),
        ("3.9.1", "3.9.1"),
        ("4", "3.9.1"),
        ("mine", "3.7.8"),
    ],
)
def test_a_version_without_a_table(version: str, table: str, tmp_path: Path) -> None:
    for each in ("3.7.8", "3.8.8", "3.9.1"):
        (tmp_path / f"{each}.json").touch()
    assert nearest_table(version, tmp_path).stem == table


def test_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no table"):
        names_for("3.8.8", tmp_path)


def test_parsed() -> None:
    assert Names.parse({"settings": {"A": ["B"]}, "groups": ["C"]}) == Names({"A": ["B"]}, ["C"])
