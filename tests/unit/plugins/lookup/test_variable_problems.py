# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.selfhosted.prefect.plugins.lookup.variable_problems import LookupModule

try:
    from ansible.template import trust_as_template as template
except ImportError:  # before ansible-core 2.19 every text is one

    def template(value: str) -> str:
        return value


def problems(variables: dict[str, Any], *roles: str) -> list[Any]:
    loader = DataLoader()
    plugin = LookupModule(loader=loader, templar=Templar(loader=loader, variables=variables))
    # What Ansible's loader sets; before 2.18 the options are found by it.
    plugin._load_name = "selfhosted.prefect.variable_problems"
    return plugin.run(list(roles), variables)


def trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: trusted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [trusted(each) for each in value]
    return template(value) if isinstance(value, str) else value


def test_roles_are_compared_with_their_specs() -> None:
    given = {"prefect_api_port": "http", "redis_port": 6379, "prefect_database_tls": True, "stranger": 1}
    assert problems(given, "prefect", "prefect_api", "redis") == [
        "prefect_database_tls must be a dictionary of names and values, not True.",
        "prefect_api_port must be a whole number, not 'http'.",
    ]


def test_options_of_every_entry_point_are_compared() -> None:
    given = {"exporters_node_port": "http", "exporters_redis_password": 31.4}
    assert problems(given, "exporters") == [
        "exporters_node_port must be a whole number, not 'http'.",
        "exporters_redis_password must be text, not float. Put it in quotes.",
    ]


def test_wrong_types_within_dictionaries_and_lists() -> None:
    given = {
        "prefect_database_tls": {"enabled": "perhaps", "cafile": "/ca.pem"},
        "prefect_upgrade_backup_command": ["dump", ["--all"]],
        "newest": "TLSv1.3",
        "nginx_tls_protocols": [template("{{ newest }}"), {}],
    }
    assert problems(given, "prefect", "nginx") == [
        "prefect_upgrade_backup_command[1] must be text, not a list.",
        "prefect_database_tls holds cafile, which means nothing there. It takes enabled, ca_file, cert_file, key_file, check_hostname.",
        "prefect_database_tls.enabled must be true or false, not 'perhaps'.",
        "nginx_tls_protocols[1] must be one of TLSv1.2, TLSv1.3, not a dictionary.",
    ]


NOT_DEFINED = "which is not defined. Define it in a file that the inventory loads, such as group_vars/all/vault.yml, or correct the name."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prefect_auth_string": "{{ vault_auth }}"}, [f"prefect_auth_string refers to vault_auth, {NOT_DEFINED}"]),
        ({"prefect_auth_string": "admin:{{ vault_auth | upper }}"}, [f"prefect_auth_string refers to vault_auth, {NOT_DEFINED}"]),
        ({"prefect_auth_string": "{{ auth }}", "auth": "{{ vault_auth }}"}, [f"prefect_auth_string refers to vault_auth, {NOT_DEFINED}"]),
        (
            {"prefect_auth_string": "{{ vault_auth }}", "prefect_home": "/srv/{{ prefect_auth_string }}"},
            [f"prefect_auth_string refers to vault_auth, {NOT_DEFINED}"],
        ),
        ({"prefect_settings": {"PREFECT_X": ["{{ vault_x }}"]}}, [f"prefect_settings refers to vault_x, {NOT_DEFINED}"]),
        (
            {"prefect_database_password": "{{ vault_it }}", "prefect_redis_password": "{{ vault_it }}", "prefect_api_port": "http"},
            [
                f"prefect_database_password and prefect_redis_password refer to vault_it, {NOT_DEFINED}",
                "prefect_api_port must be a whole number, not 'http'.",
            ],
        ),
        (
            {"prefect_database_password": "{{ vault_database_password }}", "vault_databse_password": "geheim"},
            [
                "prefect_database_password refers to vault_database_password, which is not defined."
                " There is vault_databse_password: give both the same name."
            ],
        ),
        ({"prefect_database_password": "{{ vault_x | default('x') }}"}, []),
    ],
)
def test_a_reference_to_what_is_not_defined(given: Any, said: list[str]) -> None:
    assert problems(trusted(given), "prefect", "prefect_api") == said


def test_a_template_that_is_not_valid_is_not_shown_where_it_is_a_secret() -> None:
    given = trusted({"prefect_auth_string": "geheim{{ }", "prefect_home": "{{ 'a' | no_such_filter }}"})
    home, auth = sorted(problems(given, "prefect"), reverse=True)
    assert home.startswith("prefect_home cannot be evaluated: ") and "no_such_filter" in home
    assert auth == "prefect_auth_string cannot be evaluated: its template is not valid. Correct it; what it holds is not shown."


def test_what_cannot_be_evaluated_is_shown_alone() -> None:
    """It may be a default that is made of the variable whose type is wrong."""
    given = trusted({"prefect_database_tls": True, "prefect_home": "{{ prefect_database_tls | no_such_filter }}"})
    assert problems(given, "prefect") == ["prefect_database_tls must be a dictionary of names and values, not True."]


SEALED = """
prefect_database_password: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  30306261373937653239663962353833303637653866306536636139373062383437633463396366
  3230376265316133326265346537316632393465613463370a663134356338633335613261393935
  64306165333865663430373535303237313066343531303136333832663230376563396665326335
  6363306437616265370a623435313962343962373662656236663339313932626237363832386532
  6262
"""


def test_what_no_vault_password_opens() -> None:
    given = {**DataLoader().load(SEALED), "prefect_database_port": "psql"}
    assert problems(given, "prefect") == [
        "prefect_database_password is encrypted, and no vault password that was given opens it. Run the same command with"
        " --ask-vault-pass, --vault-password-file or --vault-id.",
        "prefect_database_port must be a whole number, not 'psql'.",
    ]


def test_nothing_is_wrong() -> None:
    assert problems({"prefect_api_port": 4200, "prefect_redis_password": None}, "prefect", "prefect_api") == []


def test_a_role_that_is_not_there() -> None:
    with pytest.raises(AnsibleError, match="there is no role mysql"):
        problems({}, "mysql")
