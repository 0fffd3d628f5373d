# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.forms import form_problems, settings_problems

CONTROL = "holds a line break or another control character"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefect_database_password", 'it\'s "100 %" $(x) größe 漢字 \U0001f600'),
        ("prefect_database_password", "tab\there"),
        ("prefect_user", "_prefect-1"),
        ("prefect_home", "/srv/prefect.d/home-1"),
        ("prefect_python", "/usr/bin/python3.11"),
        ("nginx_tls_certificate", ""),
        ("redis_bind[1]", "-::*"),
        ("prefect_api_listen_address", "::"),
        ("nginx_trusted_proxies[0]", "2001:db8::/32"),
        ("nginx_server_name", "_"),
        ("nginx_server_name", "a.example.com *.example.org [::1]"),
        ("redis_maxmemory", "512mb"),
        ("monitoring_retention", "1y6h"),
        ("prefect_api_url", "https://[2001:db8::1]:4200/api"),
        ("prefect_worker_writable_paths[0]", "/data/of flows"),
        ("redis_acl_rules", "+@all -@dangerous (~a* +get)"),
        ("prefect_redis_port", 6379),
    ],
)
def test_good_forms(name: str, value: Any) -> None:
    assert list(form_problems(name, value)) == []


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("prefect_database_password", "a\nb", CONTROL),
        ("prefect_database_password", "a\0b", CONTROL),
        ("prefect_database_password", "\ud800", CONTROL),
        ("prefect_database_password", "x" * 1025, "is 1025 characters long; it may have 1024"),
        ("prefect_user", "Prefect User", "must be the name of a user"),
        ("prefect_home", "/srv/my prefect", "must be an absolute path"),
        ("prefect_home", "srv", "must be an absolute path"),
        ("nginx_tls_certificate", "/a;b", "must be an absolute path"),
        ("redis_bind[0]", "a b", "must be an address"),
        ("nginx_server_name", "a; return 200", "must be names of servers"),
        ("nginx_basic_auth_realm", 'a"b', "must be a text without"),
        ("redis_maxmemory", "all", "must be a number with a unit"),
        ("monitoring_scrape_interval", "often", "must be a time"),
        ("prefect_api_url", "http://a b/api", "must be a URL"),
        ("prefect_worker_writable_paths[0]", "/a$b", "must be an absolute path without"),
    ],
)
def test_bad_forms(name: str, value: str, says: str) -> None:
    (found,) = form_problems(name, value)
    assert found.startswith(f"{name} {says}")
    assert value not in found or value == "all", "it may be a secret"


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("postgres_settings", {"work_mem": "16MB", "pg_stat_statements.max": 100, "log_statement": True}, []),
        ("redis_settings", {"client-output-buffer-limit": ["normal 0 0 0", "replica 1 1 1"]}, []),
        ("prefect_settings", {"PREFECT_A": "x" * 10_000, "PREFECT_B": {"a": "b"}}, []),
        ("monitoring_alertmanager_settings", {"a b": "line\nbreak"}, []),
        ("postgres_settings", {"x'\ny": 1}, ['postgres_settings holds "x\'\\ny", which is not the name of a setting.']),
        ("redis_settings", {"save": ["a", "b\nuser x on"]}, [f"redis_settings.save {CONTROL}"]),
        ("nginx_basic_auth_users", {"a:b": "secret"}, ["nginx_basic_auth_users holds 'a:b', which is not the name of a user."]),
    ],
)
def test_settings(name: str, settings: dict[str, Any], says: list[str]) -> None:
    found = list(settings_problems(name, settings))
    assert len(found) == len(says)
    assert all(problem.startswith(words) for problem, words in zip(found, says, strict=True))
