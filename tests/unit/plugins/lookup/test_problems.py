# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.selfhosted.prefect.plugins.lookup.problems import LookupModule

try:
    from ansible.template import trust_as_template as template
except ImportError:  # before ansible-core 2.19 every text is one

    def template(value: str) -> str:
        return value


HOST = {
    "hostvars": {"state1": {}},
    "prefect_backup_host": template("{{ host }}"),
    "host": "state1",
    "prefect_backup_keep": 0,
    "prefect_backup_max_age": 1,
    "prefect_backup_directory": template("/{{ folder }}"),
    "folder": "",
    "redis_package": "redis-server",
    "__redis_installed_version": template("{{ '6.0' }}"),
}
KEEP = 'prefect_backup_keep is "0"; it has to be 1 or more.'
FOLDER = 'prefect_backup_directory is "/"; it has to be an absolute path, and a folder of its own.'
REDIS = "Redis 6.0 is installed, but Prefect needs 6.2 or newer; upgrade the package redis-server."


def problems(variables: dict[str, Any], *names: str) -> list[Any]:
    loader = DataLoader()
    plugin = LookupModule(loader=loader, templar=Templar(loader=loader, variables=variables))
    # What Ansible's loader sets; before 2.18 the options are found by it.
    plugin._load_name = "selfhosted.prefect.problems"
    return list(plugin.run(list(names), variables))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), []),
        (("prefect_backup",), [KEEP, FOLDER]),
        (("redis_host", "prefect_backup", "redis_host"), [REDIS, KEEP, FOLDER]),
    ],
)
def test_variables_are_evaluated_and_checked(names: tuple[str, ...], found: list[str]) -> None:
    assert problems(HOST, *names) == found


def test_a_variable_that_may_be_missing() -> None:
    more = {
        "inventory_hostname": "lb1",
        "nginx_api_servers": [],
        "nginx_virtual_address": "",
        "nginx_listen_addresses": [],
        "nginx_access_log": "/a",
        "nginx_basic_auth_users": {"reader": "geheim"},
        "nginx_login_rate": "10r/m",
        "nginx_allowed_addresses": [],
        "nginx_closed_paths": [],
        "nginx_auth_request_url": "",
        "nginx_auth_request_signin_url": "/oauth2/start",
        "__nginx_own_addresses": [],
        "__nginx_agreed": {},
        "common_nginx_tls": False,
        "nginx_listen_port": 4200,
        "nginx_redirect_port": 0,
        "nginx_status_port": 0,
        "nginx_api_tls_name": "prefect-api",
        "nginx_tls_ciphers": ["A"],
        "nginx_tls_hsts_max_age": 0,
    }
    assert problems({**more, "nginx_tls_certificate": "", "nginx_tls_certificate_key": ""}, "nginx")[0].startswith(
        "nginx on lb1 has no API"
    )


@pytest.mark.parametrize(
    ("name", "variables", "message"),
    [
        ("strange", HOST, "there is no check strange; there are certificates, "),
        ("redis_host", {}, "the variable __redis_installed_version is not defined"),
        ("redis_host", {**HOST, "__redis_installed_version": template("{{ gone }}")}, "'gone' is undefined"),
    ],
)
def test_what_is_refused(name: str, variables: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleError, match=message):
        problems(variables, name)
