# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.selfhosted.prefect.plugins.lookup.variable_problems import LookupModule


def problems(variables: dict[str, Any], *roles: str) -> list[Any]:
    loader = DataLoader()
    plugin = LookupModule(loader=loader, templar=Templar(loader=loader, variables=variables))
    # What Ansible's loader sets; before 2.18 the options are found by it.
    plugin._load_name = "selfhosted.prefect.variable_problems"
    return plugin.run(list(roles), variables)


def test_roles_are_compared_with_their_specs() -> None:
    given = {"prefect_api_port": "http", "redis_port": 6379, "prefect_database_tls": True, "stranger": 1}
    assert problems(given, "prefect", "prefect_api", "redis") == [
        "prefect_database_tls must be a dictionary of names and values, not True.",
        "prefect_api_port must be a whole number, not 'http'.",
    ]


def test_nothing_is_wrong() -> None:
    assert problems({"prefect_api_port": 4200, "prefect_redis_password": None}, "prefect", "prefect_api") == []


def test_a_role_that_is_not_there() -> None:
    with pytest.raises(AnsibleError, match="there is no role mysql"):
        problems({}, "mysql")
