# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: variable_problems
short_description: Variables of this collection's roles that have the wrong type
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares the variables of a host with the argument specs of roles, and returns every problem at once, each as a sentence.
  - Variables that are not defined on the host are left alone. One that cannot be evaluated is a problem, such as one that refers to a
    variable that is not defined, or one that no vault password opens.
  - It is stricter than Ansible, which converts what a role gets, but not what templates use. C(" 5432") is not a whole number here.
  - Values of secrets are never part of a problem.
options:
  _terms:
    description: Names of roles of this collection.
    type: list
    elements: string
    required: true
"""

EXAMPLES = r"""
- name: Show which variables of PostgreSQL have the wrong type
  ansible.builtin.debug:
    msg: "{{ query('selfhosted.prefect.variable_problems', 'postgres') }}"
    # => ["postgres_port must be a whole number, not 'psql'."]
"""

RETURN = r"""
_raw:
  description: The problems; empty when there are none.
  type: list
  elements: string
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.variables import (
    is_sealed,
    mentions,
    sealed_problem,
    undefined_problem,
    undefined_variable,
    unevaluated_problem,
    variable_problems,
)
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._roles import role_options
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._values import Values
from jinja2 import UndefinedError


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """The problems of all roles."""
        self.set_options(var_options=variables, direct=kwargs)
        given = variables or {}
        options = {name: option for role in terms for name, option in _options(str(role)).items() if name in given}
        evaluate = Values(self._loader, self._templar, given)
        values: dict[str, Any] = {}
        undefined: dict[str, list[str]] = {}
        sealed: list[str] = []
        broken: list[str] = []
        for name, option in options.items():
            try:
                values[name] = evaluate[name]
            except (AnsibleError, UndefinedError) as error:
                said = _one_line(error)
                missing = undefined_variable(said)
                if missing:
                    undefined.setdefault(missing, []).append(name)
                elif is_sealed(said):
                    sealed.append(sealed_problem(name))
                else:
                    broken.append(unevaluated_problem(name, option, said))
        found = sealed + [_undefined(missing, names, given) for missing, names in undefined.items()] + variable_problems(options, values)
        # A default that is made of a value that is wrong says nothing new.
        return found or broken


def _options(role: str) -> dict[str, Any]:
    try:
        return role_options(role)
    except AnsibleError as error:
        raise AnsibleError(f"selfhosted.prefect.variable_problems: {error}") from error


def _undefined(missing: str, names: list[str], variables: Mapping[str, Any]) -> str:
    # Not those that are made of another one of them.
    direct = [name for name in names if mentions(variables[name], missing)]
    return undefined_problem(direct or names, missing, (str(name) for name in variables))


def _one_line(error: BaseException) -> str:
    """What an error and those that led to it say."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause:
        said.append(" ".join(str(cause).split()))
        cause = cause.__cause__
    return " ".join(dict.fromkeys(said))
