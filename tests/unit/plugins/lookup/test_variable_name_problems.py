# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.lookup.variable_name_problems import LookupModule
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._roles import computed_variables, documented_variables


def misspelt(*names: str, unchecked: tuple[str, ...] = ()) -> list[Any]:
    plugin = LookupModule(loader=None, templar=None)
    # What Ansible's loader sets; before 2.18 the options are found by it.
    plugin._load_name = "selfhosted.prefect.variable_name_problems"
    problems = plugin.run(list(unchecked), dict.fromkeys(names, "geheim"))
    assert "geheim" not in str(problems)
    return [problem.split()[2] for problem in problems]


def test_the_roles_say_which_names_are_known() -> None:
    assert misspelt("prefect_setings", "prefect_settings", "redis_maxmemroy", "redis_host") == ["prefect_setings", "redis_maxmemroy"]


def test_what_is_unchecked() -> None:
    assert misspelt("prefect_setings", "prefect_site_owner", unchecked=("prefect_site_*",)) == ["prefect_setings"]


@pytest.mark.parametrize(
    "name",
    [
        "prefect_lock_wait",  # for every playbook
        "prefect_remove_host",  # for one playbook
        "prefect_drill_confirm",
        "prefect_restore_file",
        "exporters_node_port",  # of an entry point other than main
        "prefect_unchecked_variables",
    ],
)
def test_documented(name: str) -> None:
    assert name in documented_variables()


def test_what_roles_compute_is_known_and_not_documented() -> None:
    assert {"common_release", "common_redis_units", "__postgres_data_directory"} <= computed_variables()
    assert not computed_variables() & documented_variables()
    assert misspelt(*computed_variables()) == []


def test_without_variables() -> None:
    plugin = LookupModule(loader=None, templar=None)
    plugin._load_name = "selfhosted.prefect.variable_name_problems"
    assert plugin.run([], None) == []
