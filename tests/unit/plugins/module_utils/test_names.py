# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.names import (
    is_slip,
    nearest_slip,
    similar_group,
    variable_name_problems,
)

DOCUMENTED = [
    "prefect_version",
    "prefect_settings",
    "prefect_database_password",
    "prefect_database_port",
    "prefect_api_port",
    "prefect_api_instances",
    "nginx_listen_port",
    "nginx_listen_addresses",
    "nginx_server_name",
    "nginx_read_timeout",
    "nginx_start_timeout",
    "redis_bind",
    "redis_port",
    "redis_maxmemory",
    "redis_start_timeout",
    "postgres_port",
    "postgres_version",
]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("prefect-api", "prefect_api"),
        ("Prefect_API", "prefect_api"),
        ("prefectapi", "prefect_api"),
        ("prefect_apis", "prefect_api"),
        ("prefect_service", "prefect_services"),
        ("postgress", "postgres"),
        ("redis_prot", "redis_port"),
        ("ngnix", "nginx"),
        ("nginx_listen_address", "nginx_listen_addresses"),
        ("vault_prefect_databse_password", "vault_prefect_database_password"),
    ],
)
def test_a_slip(name: str, right: str) -> None:
    assert is_slip(name, right)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("redis_host", "redis_port"),
        ("redis2", "redis"),
        ("redis_port2", "redis_port"),
        ("nginx_send_timeout", "nginx_read_timeout"),
        ("nginx_stop_timeout", "nginx_start_timeout"),
        ("nginx_restart_timeout", "nginx_start_timeout"),
        ("redis_maxmemory_policy", "redis_maxmemory"),
        ("nginx_listen_ipv6", "nginx_listen_port"),
        ("postgresql", "postgres"),
        ("workers", "prefect_worker"),
        ("", "prefect"),
    ],
)
def test_another_name(name: str, other: str) -> None:
    assert not is_slip(name, other)


def test_the_nearest_of_several_slips() -> None:
    assert nearest_slip("redis_ports", ["redis_sort", "redis_port", "redis_ports", "nginx"]) == "redis_port"
    assert nearest_slip("redis_port", ["nginx", "redis_host"]) is None


@pytest.mark.parametrize(
    ("group", "groups", "similar"),
    [
        ("prefect_api", ["web", "prefect-api"], "prefect-api"),
        ("postgres", ["postgres_replicas", "postgress"], "postgress"),
        ("postgres", ["web", "postgresql"], "postgresql"),
        ("redis", ["web", "redis_servers"], "redis_servers"),
        ("nginx", ["web", "haproxy"], None),
        ("redis", [], None),
    ],
)
def test_the_group_that_may_have_been_meant(group: str, groups: list[str], similar: Any) -> None:
    assert similar_group(group, groups) == similar


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("prefect_setings", "prefect_settings"),
        ("prefect_api_instance", "prefect_api_instances"),
        ("prefect_Version", "prefect_version"),
        ("prefect-version", "prefect_version"),
        ("Prefect_version", "prefect_version"),
        ("perfect_version", "prefect_version"),
        ("prefect_database_pasword", "prefect_database_password"),
        ("prefect_api_listen_port", "prefect_api_port"),
        ("prefect_nginx_listen_port", "nginx_listen_port"),
        ("nginx_listen_prot", "nginx_listen_port"),
        ("ngnix_listen_port", "nginx_listen_port"),
        ("redis_max_memory", "redis_maxmemory"),
    ],
)
def test_a_misspelt_variable(name: str, meant: str) -> None:
    assert variable_name_problems([*DOCUMENTED, name], DOCUMENTED) == [
        f"The variable {name} is not known; the nearest name that is known is {meant}. Correct it, or list it in"
        " prefect_unchecked_variables if it is not for this collection."
    ]


def test_an_unknown_variable_with_our_prefix_that_is_near_to_none() -> None:
    assert variable_name_problems(["prefect_quux"], DOCUMENTED) == [
        "The variable prefect_quux is not known. Remove it, correct its name (docs/variables.md has all of them), or list it in"
        " prefect_unchecked_variables if it is not for this collection."
    ]


@pytest.mark.parametrize(
    "name",
    [
        "prefect_version",
        "prefect_release",  # a role computes it
        "__prefect_setings",
        "_prefect_setings",
        "ansible_host",
        "ansible_prefect",
        "PREFECT_SETINGS",
        "prefect",
        "prefects",
        "perfect_settingss",
        # Of other roles of the same inventory.
        "redis_host",
        "redis_databases",
        "redis_maxmemory_policy",
        "redis2_port",
        "nginx_worker_processes",
        "nginx_send_timeout",
        "nginx_listen_ipv6",
        "nginx_vhosts",
        "postgres_users",
        "postgresql_port",
        "vault_prefect_setings",
        "my_prefect_setings",
        "",
        "-",
    ],
)
def test_no_misspelt_variable(name: str) -> None:
    assert variable_name_problems([*DOCUMENTED, name], DOCUMENTED, ["prefect_release"]) == []


@pytest.mark.parametrize("pattern", ["prefect_site_owner", "prefect_site_*", "prefect_*_owner", "prefect_site_owne[rs]"])
def test_unchecked_variables(pattern: str) -> None:
    names = ["prefect_site_owner", "prefect_setings"]
    problems = variable_name_problems(names, DOCUMENTED, unchecked=["other", pattern])
    assert [problem.split()[2] for problem in problems] == ["prefect_setings"]


def test_every_misspelt_variable_is_reported_in_order_and_once() -> None:
    problems = variable_name_problems(["redis_prot", "prefect_setings", "redis_prot"], DOCUMENTED)
    assert [problem.split()[2] for problem in problems] == ["prefect_setings", "redis_prot"]
