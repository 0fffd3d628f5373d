# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.variables import (
    is_sealed,
    mentions,
    undefined_problem,
    undefined_variable,
    unevaluated_problem,
    variable_problems,
)

OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "default": "x"},
    "secret": {"type": "str", "required": True, "no_log": True},
    "number": {"type": "int", "default": 1},
    "x_port": {"type": "int", "default": 4200},
    "spare_port": {"type": "int", "default": 0},
    "rate": {"type": "float", "default": 0.1},
    "on": {"type": "bool", "default": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "tls": {"type": "dict", "default": {}, "options": {"enabled": {"type": "bool"}, "ca_file": {"type": "path"}}},
    "any": {"type": "raw", "default": 1},
    "kind": {"type": "str", "choices": ["a", "b"], "default": "a"},
    "kinds": {"type": "list", "elements": "str", "choices": ["a", "b"], "default": []},
    "mode": {"type": "str", "choices": ["on_demand", "off"], "default": "off"},
    "settings": {"type": "dict", "default": {}},
    "optional": {"type": "str"},
    "exporter_password": {"type": "str"},
    "entries": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "mutually_exclusive": [["file", "url"]],
        "required_if": [["kind", "net", ["address", "mask"]]],
        "options": {
            "user": {"type": "str", "required": True},
            "kind": {"type": "str", "choices": ["net", "local"], "default": "net"},
            "address": {"type": "str"},
            "mask": {"type": "str"},
            "file": {"type": "path"},
            "url": {"type": "str"},
        },
    },
}
NET = {"user": "a", "address": "b", "mask": "c"}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"stranger": object()},
        {"name": "3.8", "secret": 123, "number": "5432", "x_port": 65535, "rate": "1e-3", "on": "yes", "names": ["a"]},
        {"tls": {"enabled": False, "ca_file": "/ca"}, "any": None, "kind": "b", "settings": {"A": None}, "optional": None, "secret": None},
        {"mode": False},
        {"kinds": ["b", "a"]},
        {"mode": "off"},
        {"number": 0, "rate": 1, "on": 0, "names": (), "spare_port": 0},
        {"entries": [NET, {**NET, "kind": "net", "file": "/f", "url": ""}, {"user": "a", "kind": "local", "url": "u"}]},
    ],
)
def test_fine(values: dict[str, Any]) -> None:
    assert variable_problems(OPTIONS, values) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": 3.8}, "name must be text, not 3.8. Put it in quotes."),
        ({"name": True}, "name must be text, not True. Put it in quotes."),
        ({"name": None}, "name is empty. Leave it out, or set it to text."),
        ({"secret": ["geheim"]}, "secret must be text, not a list."),
        ({"secret": {"geheim": 1}}, "secret must be text, not a dictionary."),
        ({"exporter_password": 31.4}, "exporter_password must be text, not float. Put it in quotes."),
        ({"secret": True}, "secret must be text, not bool. Put it in quotes."),
        ({"number": "http"}, "number must be a whole number, not 'http'."),
        ({"number": " 5432 "}, "number must be a whole number, not ' 5432 '."),
        ({"number": ""}, "number must be a whole number, not ''."),
        ({"number": True}, "number must be a whole number, not True."),
        ({"number": 1.5}, "number must be a whole number, not 1.5."),
        ({"number": -1}, "number must be 0 or more, not -1."),
        ({"rate": "-0.5"}, "rate must be 0 or more, not '-0.5'."),
        ({"x_port": 0}, "x_port must be a TCP port, 1 to 65535, not 0."),
        ({"x_port": "65536"}, "x_port must be a TCP port, 1 to 65535, not '65536'."),
        ({"rate": "often"}, "rate must be a number, not 'often'."),
        ({"on": "maybe"}, "on must be true or false, not 'maybe'."),
        ({"on": None}, "on is empty. Leave it out, or set it to true or false."),
        ({"names": "a,b"}, "names must be a list, not 'a,b'."),
        ({"names": ["a", ["b"]]}, "names[1] must be text, not a list."),
        ({"tls": True}, "tls must be a dictionary of names and values, not True."),
        ({"tls": {"cafile": "/ca"}}, "tls holds cafile, which means nothing there. It takes enabled, ca_file."),
        ({"tls": {"enabled": "perhaps"}}, "tls.enabled must be true or false, not 'perhaps'."),
        ({"kinds": ["a", "c"]}, "kinds[1] must be one of a, b, not 'c'."),
        ({"mode": True}, "mode must be one of on_demand, off, not True. Put it in quotes."),
        ({"kind": False}, "kind must be one of a, b, not False. Put it in quotes."),
        ({"kind": "c"}, "kind must be one of a, b, not 'c'."),
        ({"settings": None}, "settings is empty. Leave it out, or set it to a dictionary of names and values."),
        ({"settings": ["A=1"]}, "settings must be a dictionary of names and values, not a list."),
        ({"entries": [NET, {"kind": "local"}]}, "entries[1] has no user. Set it."),
        ({"entries": [{"kind": "local", "user": None}]}, "entries[0] has no user. Set it."),
        ({"entries": [{"user": "a", "address": "b"}]}, "entries[0] has no mask, which kind net needs. Set it."),
        ({"entries": [{**NET, "kind": "net", "mask": None}]}, "entries[0] has no mask, which kind net needs. Set it."),
        ({"entries": [{**NET, "file": "/f", "url": "u"}]}, "entries[0] has both file and url. Leave all but one of them out."),
    ],
)
def test_wrong(values: dict[str, Any], said: str) -> None:
    assert variable_problems(OPTIONS, values) == [said]


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        ("'vault_x' is undefined", "vault_x"),
        ("'vault_x' is undefined. 'vault_x' is undefined", "vault_x"),
        ("An unhandled exception occurred while templating '{{ a }}': 'vault_x' is undefined", "vault_x"),
        ("Error while resolving value for 'a': 'vault_x' is undefined", "vault_x"),
        ("'dict object' has no attribute 'x'", None),
        ("A vault exception marker was tripped.", None),
    ],
)
def test_the_variable_that_is_missing(error: str, missing: Any) -> None:
    assert undefined_variable(error) == missing


@pytest.mark.parametrize(
    ("names", "defined", "said"),
    [
        (
            ["secret"],
            ["secret", "vault_other"],
            "secret refers to vault_secret, which is not defined. Define it in a file that the inventory loads, such as"
            " group_vars/all/vault.yml, or correct the name.",
        ),
        (
            ["secret", "name"],
            ["vault_secrets"],
            "secret and name refer to vault_secret, which is not defined. There is vault_secrets: give both the same name.",
        ),
    ],
)
def test_a_reference_to_what_is_not_defined(names: list[str], defined: list[str], said: str) -> None:
    assert undefined_problem(names, "vault_secret", defined) == said


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("name", "'dict object' has no attribute 'x'", "name cannot be evaluated: 'dict object' has no attribute 'x'"),
        ("name", "template error while templating string: x. String: {{ geheim", "name cannot be evaluated: template error"),
        ("secret", "template error while templating string: geheim{{", "secret cannot be evaluated: its template is not valid."),
        ("exporter_password", "unexpected geheim", "exporter_password cannot be evaluated: its template is not valid."),
    ],
)
def test_a_variable_without_a_value(name: str, error: str, said: str) -> None:
    problem = unevaluated_problem(name, OPTIONS[name], error)
    assert said in problem
    assert "geheim" not in problem


@pytest.mark.parametrize(
    ("error", "sealed"),
    [
        ("Attempting to decrypt but no vault secrets found", True),
        ("Decryption failed (no vault secrets were found that could decrypt).", True),
        ("A vault exception marker was tripped.", True),
        ("Attempt to use undecryptable variable.", True),
        ("'vault_x' is undefined", False),
    ],
)
def test_what_no_vault_password_opens(error: str, sealed: bool) -> None:
    assert is_sealed(error) is sealed


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("{{ vault_x }}", True),
        ({"a": ["b", "{{ vault_x }}"]}, True),
        ("{{ vault_xy }}", False),
        ({"vault_x": 1}, False),
        (None, False),
    ],
)
def test_what_a_template_mentions(value: Any, found: bool) -> None:
    assert mentions(value, "vault_x") is found
