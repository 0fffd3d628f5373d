from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.topology import (
    INSTANCES,
    PORT,
    api_servers,
    connection_budget,
    first_host,
    group_address,
    group_addresses,
    group_listeners,
)

HOSTVARS = {
    "named": {},
    "dialled": {"ansible_host": "10.0.0.2"},
    "reached": {"ansible_host": "10.0.0.3", "prefect_address": "192.0.2.3"},
    "blank": {"ansible_host": "10.0.0.4", "prefect_address": ""},
    "many": {"prefect_api_port": "4300", "prefect_api_instances": "2"},
}


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        ([], []),
        (["named"], ["named"]),
        (["dialled", "reached", "blank"], ["10.0.0.2", "192.0.2.3", "10.0.0.4"]),
    ],
)
def test_group_addresses(hosts: Any, addresses: Any) -> None:
    assert group_addresses(hosts, HOSTVARS) == addresses
    assert group_address(hosts, HOSTVARS) == (addresses[0] if addresses else "")


def test_a_stranger_is_named() -> None:
    with pytest.raises(ValueError, match="stranger is not a host of this inventory"):
        group_address(["stranger"], HOSTVARS)


@pytest.mark.parametrize(
    ("hosts", "port", "instances", "servers"),
    [
        ([], 4200, 1, []),
        (["dialled"], 4200, 1, [("dialled", "10.0.0.2", 4200, 1)]),
        (
            ["dialled"],
            "4200",
            3,
            [("dialled", "10.0.0.2", 4200, 1), ("dialled", "10.0.0.2", 4201, 2), ("dialled", "10.0.0.2", 4202, 3)],
        ),
        (
            ["many", "named"],
            4200,
            1,
            [("many", "many", 4300, 1), ("many", "many", 4301, 2), ("named", "named", 4200, 1)],
        ),
    ],
)
def test_api_servers(hosts: Any, port: Any, instances: Any, servers: Any) -> None:
    keys = ("host", "address", "port", "instance")
    assert api_servers(hosts, HOSTVARS, port, instances) == [dict(zip(keys, server, strict=True)) for server in servers]


def test_what_a_host_has_of_its_own_says_nothing_of_the_others() -> None:
    hostvars = {"own": {"prefect_api_port": 5200, "prefect_api_instances": 2}, "other": {}}
    for asker, port, instances in (("own", 5200, 2), ("other", 4200, 1)):
        servers = api_servers(["own", "other"], hostvars, port, instances, asker)
        assert [(server["host"], server["port"]) for server in servers] == [("own", 5200), ("own", 5201), ("other", 4200)]
    # A variable of a play is in no host's inventory, and holds for all.
    assert api_servers(["a", "b"], {"a": {}, "b": {}}, 4300, 1, "a")[1]["port"] == 4300


def test_the_defaults_are_those_of_the_role() -> None:
    defaults = (Path(__file__).parents[4] / "roles/common/defaults/main.yml").read_text()
    assert re.findall(r"^(?:prefect_api_port|prefect_api_instances): (\d+)", defaults, re.MULTILINE) == [str(PORT), str(INSTANCES)]


@pytest.mark.parametrize(
    ("port", "instances", "message"),
    [
        (0, 1, "prefect_api_port of named must be between 1 and 65535, not 0"),
        (4200, 0, "prefect_api_instances of named must be at least 1, not 0"),
        (65535, 2, "the last port of named"),
        ("http", 1, "prefect_api_port of named must be a whole number"),
    ],
)
def test_api_servers_refuses(port: Any, instances: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        api_servers(["named"], HOSTVARS, port, instances)


@pytest.mark.parametrize(
    ("arguments", "connections"),
    [((3,), 76), ((3, 1, 5, 10, 10), 76), (("3", "2", "5", "0", "0"), 34), ((0, 0, 5, 10, 3), 3)],
)
def test_connection_budget(arguments: Any, connections: Any) -> None:
    assert connection_budget(*arguments) == connections


def test_connection_budget_refuses() -> None:
    with pytest.raises(ValueError, match="pool_size must be at least 0, not -1"):
        connection_budget(3, 1, -1)


def test_group_listeners() -> None:
    assert group_listeners(["reached"], HOSTVARS, "4200", "the balancer") == [
        {"host": "reached", "address": "192.0.2.3", "port": 4200, "what": "the balancer"}
    ]
    with pytest.raises(ValueError, match="the port of the balancer"):
        group_listeners([], HOSTVARS, "none", "the balancer")


@pytest.mark.parametrize(
    ("names", "found"),
    [(("postgres", "prefect_api"), "state1"), (("redis", "prefect_api"), "api1"), (("nginx",), ""), ((), "")],
)
def test_first_host(names: tuple[str, ...], found: str) -> None:
    groups = {"postgres": ["state1", "state2"], "redis": [], "prefect_api": ["api1"]}
    assert first_host(groups, *names) == found
