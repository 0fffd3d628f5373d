from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.selfhosted.prefect.plugins.filter.filters import FilterModule

FILTERS = FilterModule().filters()
DOCUMENTED = Path(__file__).resolve().parents[4] / "plugins" / "filter"


def test_each_filter_is_documented_in_a_file_of_its_name() -> None:
    assert sorted(FILTERS) == sorted(path.stem for path in DOCUMENTED.glob("*.yml"))


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("group_address", (["a"], {"a": {"ansible_host": "10.0.0.1"}}), "10.0.0.1"),
        ("group_addresses", (["a"], {"a": {}}), ["a"]),
        ("group_pattern", (["a", "b_c"],), "~^(a|b_c)$"),
        ("first_host", ({"b": [], "c": ["x", "y"]}, "a", "b", "c"), "x"),
        ("api_servers", (["a"], {"a": {}}), [{"host": "a", "address": "a", "port": 4200, "instance": 1}]),
        ("redis_url", ({"host": "r"},), "redis://r:6379/0"),
        ("database_url", ({"host": "d", "name": "n", "user": "u"},), "postgresql+asyncpg://u@d:5432/n"),
        ("systemd_environment", ({"A": 1},), 'A="1"\n'),
        ("shell_exports", ({"A": "b c", "B": None},), "export A='b c'\n"),
        ("connection_budget", (3,), 76),
        ("retention", ({"logs": "2w"},), {"events": 604800, "flow_runs": 7776000, "logs": 1209600}),
        (
            "retention_settings",
            ({"events": None, "flow_runs": 86400, "logs": None}, "3.8.8"),
            {
                "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "flow_runs",
                "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": 86400,
            },
        ),
        ("canonical_settings", ({"PREFECT_UI_API_URL": "/x"}, "3.8.8"), {"PREFECT_SERVER_UI_API_URL": "/x"}),
        ("balancer_problems", ({"trusted_proxies": ["10.0.0.5"]},), []),
        ("inventory_problems", ({"groups": {"prefect_api": ["a"]}},), []),
        ("host_problems", ({"a": ["x"], "b": []},), ["a: x"]),
        ("switched_off", ({"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": False},), ["scheduler"]),
        ("proxy_exceptions", ({}, ["10.0.0.1"]), {}),
        ("client_certificates", ({"prefect_redis_tls": {}, "prefect_database_tls": {"enabled": "false"}},), []),
        ("workers", (["a"], {"a": {}}), []),
    ],
)
def test_filter(name: Any, arguments: Any, result: Any) -> None:
    assert FILTERS[name](*arguments) == result


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("canonical_settings", ([], "3.8.8"), "selfhosted.prefect.canonical_settings: settings are names and values, not list"),
        ("redis_url", ({},), "selfhosted.prefect.redis_url: host is missing"),
        ("connection_budget", ("x",), "selfhosted.prefect.connection_budget: api_processes must be a whole number"),
    ],
)
def test_complaints_name_the_filter(name: Any, arguments: Any, message: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        FILTERS[name](*arguments)
