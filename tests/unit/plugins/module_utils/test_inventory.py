from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.inventory import host_problems, inventory_problems

GOOD: dict[str, Any] = {
    "groups": {"postgres": ["db"], "redis": [], "nginx": ["lb"], "prefect_api": ["a", "b"], "prefect_services": ["a"]},
    "endpoints": {"prefect_database_host": "10.0.0.1", "prefect_redis_host": "cache.example.com", "prefect_api_url": "https://x/api"},
    "listeners": [
        {"host": "a", "address": "10.0.0.2", "port": 4200, "instance": 1, "what": "API server"},
        {"host": "a", "address": "10.0.0.2", "port": 4201},
        {"host": "b", "address": "10.0.0.3", "port": "4200"},
    ],
    "secrets": {"prefect_database_password": "x", "prefect_auth_string": "user:pass:word"},
    "version": "3.8.8",
    "versions": ["3.7.8", "3.8.8"],
    "lock_file": "",
    "settings": {"PREFECT_SERVER_LOGGING_LEVEL": "DEBUG", "PREFECT_TASKS_DEFAULT_TAGS": ["sqlite"]},
    "owned": {
        "PREFECT_SERVER_DATABASE_HOST": "prefect_database_host",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "prefect_database_pool_size",
    },
    "serial": 1,
    "optional_groups": ["monitoring", "prefect_worker"],
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"lock_file": "/my.lock", "version": "9.9.9"},
        {"serial": "50%"},
        {"secrets": {"prefect_auth_string": "admin:@:/%#?$'\" \\ end", "prefect_database_password": "Schlüssel漢"}},
        {"names": {"prefect_database_name": "prefect-2", "prefect_database_user": "prefect@my-server", "prefect_redis_username": ""}},
        {"listeners": [{"host": "büro1", "address": "10.0.0.1", "port": 4200}]},
        # Beside our own groups, or where a managed service is used, others may have similar names.
        {"inventory_groups": {**GOOD["groups"], "prefect-api": ["c"], "postgresql": ["c"], "redis_servers": ["c"]}},
        {"inventory_groups": {"monitoring": ["m"], "monitorings": ["c"]}},
        {"groups": {"redis": ["r1", "r2", "r3"], "nginx": ["l1", "l2"]}},
        {"inventory_groups": {"prefect_worker": ["w"], "prefect_workers": ["w"]}},
        {"inventory_groups": {"monitoring": [], "monitorng": [], "monitor": ["c"], "all": ["c"]}},
    ],
)
def test_nothing_wrong(change: Any) -> None:
    assert inventory_problems({**GOOD, **change}) == []


def test_only_what_is_given_is_looked_at() -> None:
    assert inventory_problems({}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": {"postgres": []}, "endpoints": {}}, ["group postgres is empty", "prefect_database_host is not set"]),
        ({"groups": {"redis": None}, "endpoints": {"prefect_redis_host": " "}}, ["group redis is empty", "prefect_redis_host"]),
        ({"groups": {"nginx": []}, "endpoints": {}}, ["group nginx is empty", "prefect_api_url"]),
        ({"groups": {"prefect_api": []}}, ["The group prefect_api has no host"]),
        ({"groups": {"redis": ["r1", "r2"]}}, ["The group redis has two hosts, r1 and r2.", "Add a third host, or leave one."]),
        ({"groups": {"postgres": ["db1", "db2"]}}, ["The group postgres has two hosts, db1 and db2.", "takes a majority"]),
        (
            {"groups": {"prefect_api": []}, "inventory_groups": {"all": ["a"], "prefect": ["b"], "prefect-api": ["a"]}},
            ["The group prefect_api has no host", "has a group prefect-api, which no playbook knows", "rename it to prefect_api"],
        ),
        (
            {"groups": {"postgres": []}, "endpoints": {}, "inventory_groups": {"postgres": [], "postgress": ["db"]}},
            ["group postgres is empty", "has a group postgress", "rename it to postgres"],
        ),
        (
            {"groups": {"redis": []}, "endpoints": {}, "inventory_groups": {"redis_servers": ["r"], "redis_old": []}},
            ["group redis is empty", "has a group redis_servers"],
        ),
        (
            {"inventory_groups": {"prefect_api": ["a"], "prefect_workers": ["w"]}},
            ["The group prefect_workers is not known, and prefect_worker has no host. Rename prefect_workers to prefect_worker"],
        ),
        (
            {"inventory_groups": {"monitoring": [], "Monitorng": ["m"]}},
            ["The group Monitorng is not known, and monitoring has no host. Rename Monitorng to monitoring"],
        ),
        (
            {"endpoints": {**GOOD["endpoints"], "prefect_database_host": "sqlite+aiosqlite:////x.db"}},
            ["prefect_database_host names an SQLite database", "14.9"],
        ),
        (
            {"endpoints": {**GOOD["endpoints"], "prefect_redis_host": "redis://u:geheim@h:1"}},
            ["prefect_redis_host must be a bare name", "redis://h:1"],
        ),
        ({"endpoints": {**GOOD["endpoints"], "prefect_api_url": "h:4200"}}, ["prefect_api_url must begin with http://"]),
        ({"endpoints": {**GOOD["endpoints"], "prefect_api_url": "http://u:geheim@h/api"}}, ["hold no login", "'http://h/api'"]),
        (
            {"listeners": [*GOOD["listeners"], {"host": "c", "address": "10.0.0.2", "port": "4200", "what": "nginx"}]},
            ["10.0.0.2:4200 is used more than once: by API server on a and by nginx on c."],
        ),
        ({"secrets": {"prefect_database_password": ""}}, ["prefect_database_password is missing or empty", "ansible-vault"]),
        ({"secrets": {"prefect_database_password": None}}, ["prefect_database_password is missing or empty"]),
        ({"secrets": {"prefect_database_password": "geheim\nx"}}, ["prefect_database_password holds a line break"]),
        ({"secrets": {"prefect_auth_string": "geheim"}}, ["prefect_auth_string must have the form user:password"]),
        ({"secrets": {"prefect_auth_string": "geheim:"}}, ["prefect_auth_string must have the form user:password"]),
        ({"secrets": {"prefect_auth_string": ":geheim"}}, ["prefect_auth_string must have the form user:password"]),
        ({"secrets": {"prefect_auth_string": "admin: "}}, ["prefect_auth_string must have the form user:password"]),
        (
            {"secrets": {"prefect_auth_string": "admin:geheim-ü"}},
            ["prefect_auth_string holds a character beyond printable ASCII", "compares"],
        ),
        ({"secrets": {"prefect_auth_string": "ädmin:geheim"}}, ["prefect_auth_string holds a character beyond printable ASCII"]),
        ({"secrets": {"prefect_auth_string": "admin:geheim\t"}}, ["prefect_auth_string holds a character beyond printable ASCII"]),
        ({"secrets": {"prefect_auth_string": "admin:geheim\n"}}, ["prefect_auth_string holds a line break"]),
        ({"secrets": {"prefect_redis_password": "geheim\udcff"}}, ["prefect_redis_password is not valid Unicode"]),
        ({"names": {"prefect_database_name": "präfekt"}}, ["prefect_database_name is 'präfekt'", "of ASCII"]),
        ({"names": {"prefect_database_name": "x" * 64}}, ["prefect_database_name is", "1 to 63"]),
        ({"names": {"prefect_database_user": 'o"brien; --'}}, ["prefect_database_user is"]),
        ({"names": {"prefect_database_user": ""}}, ["prefect_database_user is ''"]),
        ({"names": {"prefect_redis_username": "a b"}}, ["prefect_redis_username is 'a b'"]),
        (
            {"endpoints": {**GOOD["endpoints"], "prefect_database_host": "büro.example.com"}},
            ["prefect_database_host holds a character beyond ASCII", "xn--"],
        ),
        ({"endpoints": {**GOOD["endpoints"], "prefect_redis_host": "[fd00::1]"}}, ["prefect_redis_host must be a bare name or address"]),
        ({"listeners": [{"host": "büro1", "address": "büro1", "port": 4200}]}, ["The address of büro1 holds a character beyond ASCII"]),
        ({"version": "9.9.9"}, ["9.9.9", "3.7.8, 3.8.8", "make lock VERSION=9.9.9", "prefect_lock_file"]),
        (
            {"settings": {"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///geheim"}},
            ["PREFECT_API_DATABASE_CONNECTION_URL to SQLite"],
        ),
        ({"settings": {"PREFECT_SERVER_DATABASE_DRIVER": "sqlite+aiosqlite"}}, ["PREFECT_SERVER_DATABASE_DRIVER to SQLite"]),
        (
            {"settings": {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://u:geheim@h/d"}},
            ["may not hold PREFECT_SERVER_DATABASE_CONNECTION_URL", "prefect_database_host"],
        ),
        ({"settings": {"PREFECT_SERVER_DATABASE_HOST": "h"}}, ["may not hold PREFECT_SERVER_DATABASE_HOST"]),
        (
            {"settings": {"PREFECT_API_DATABASE_HOST": "h"}},
            [
                "may not hold PREFECT_API_DATABASE_HOST (PREFECT_SERVER_DATABASE_HOST by its name of today)",
                "Set prefect_database_host instead",
            ],
        ),
        ({"settings": {"prefect_server_database_host": "h"}}, ["may not hold prefect_server_database_host", "prefect_database_host"]),
        ({"settings": {"PREFECT_MESSAGING_BROKER": "x"}}, ["may not hold PREFECT_MESSAGING_BROKER", "Leave it out"]),
        (
            {"settings": {"PREFECT_SQLALCHEMY_POOL_SIZE": 1}},
            ["may not hold PREFECT_SQLALCHEMY_POOL_SIZE", "Set prefect_database_pool_size"],
        ),
        (
            {"settings": {"PREFECT_UI_API_URL": "geheim", "PREFECT_SERVER_UI_API_URL": "/api"}},
            ["prefect_settings: PREFECT_UI_API_URL and PREFECT_SERVER_UI_API_URL are names of one setting"],
        ),
        ({"settings": {"PREFECT_SERVER": {"a": "geheim"}}}, ["prefect_settings: PREFECT_SERVER is the name of a group"]),
        ({"settings": {"PREFECT_LOGGING_LEVEL": "geheim\n"}}, ["PREFECT_LOGGING_LEVEL holds a line break"]),
        ({"serial": 0}, ["prefect_api_serial", "at least 1"]),
        ({"serial": "100%"}, ["all 2 serving hosts"]),
    ],
)
def test_problems(change: Any, said: list[str]) -> None:
    problems = inventory_problems({**GOOD, **change})
    assert len(problems) == 1
    for part in said:
        assert part in problems[0]
    assert "geheim" not in problems[0]


def test_all_problems_at_once() -> None:
    problems = inventory_problems({**GOOD, "version": "1", "serial": 0, "secrets": {"a": "", "b": ""}})
    assert len(problems) == 4


def test_a_misspelt_key_is_an_error() -> None:
    with pytest.raises(ValueError, match="secret is not known; known: endpoints"):
        inventory_problems({"secret": {}})


def machine(hostname: str, machine_id: str = "") -> dict[str, str]:
    return {"hostname": hostname, "machine_id": machine_id}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["web", "web"], id="one name"),
        pytest.param(["Web", "wEB"], id="in another case"),
        pytest.param(["web", "web.example.com"], id="short and full"),
        pytest.param(["web.example.com", "WEB.example.com."], id="full"),
    ],
)
def test_machines_of_one_name(names: list[str]) -> None:
    (problem,) = inventory_problems({"machines": {"services1": machine(names[0], "a"), "services2": machine(names[1], "b")}})
    assert problem.startswith("services1 and services2 have one host name, web.")
    assert "machine-id" not in problem


def test_clones() -> None:
    (problem,) = inventory_problems({"machines": {"a": machine("web", "x"), "b": machine("web", "x"), "c": machine("c", "x")}})
    assert problem.startswith("a and b have one host name, web, and one /etc/machine-id: one is a clone of the other.")
    assert "rm /etc/machine-id; systemd-machine-id-setup" in problem


@pytest.mark.parametrize("names", [["a", "b"], ["web.a.example", "web.b.example"]])
def test_machines_with_names_of_their_own(names: list[str]) -> None:
    assert inventory_problems({"machines": dict(zip("ab", map(machine, names), strict=True))}) == []


@pytest.mark.parametrize("others", [{"prefect-api": []}, {"prefect": ["a"], "prefect_apis": []}, {"prefect_app": ["a"]}])
def test_a_group_that_is_not_offered(others: Any) -> None:
    """One without hosts, and one that the playbooks know."""
    (problem,) = inventory_problems({"groups": {"prefect_api": [], "prefect_app": ["a"]}, "inventory_groups": others})
    assert problem == "The group prefect_api has no host. Put at least one into the inventory."


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ({}, []),
        ({"a": [], "b": []}, []),
        ({"a": ["x", "y"], "b": ["y"]}, ["a: x", "y"]),
        ({"a": ["x", "x"]}, ["x"]),
        ({**{name: ["x"] for name in "abcdefg"}, "h": []}, ["a, b, c, d, e and 2 more: x"]),
    ],
)
def test_problems_of_hosts(problems: Any, said: Any) -> None:
    assert host_problems(problems) == said
