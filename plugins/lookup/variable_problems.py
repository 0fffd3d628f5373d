# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: variable_problems
short_description: Variables of this collection's roles that have the wrong type
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares the variables of a host with the argument specs of roles, and returns every problem at once, each as a sentence.
  - Variables that are not defined on the host are left alone. One that cannot be evaluated, such as one that is made of a variable
    that is missing, is a problem.
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

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase
from ansible_collections.selfhosted.prefect.plugins.module_utils._variables import variable_problems
from jinja2 import Undefined, UndefinedError

_ROLES = Path(__file__).resolve().parents[2] / "roles"


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """The problems of all roles."""
        self.set_options(var_options=variables, direct=kwargs)
        problems: list[str] = []
        broken: list[str] = []
        for role in terms:
            options = _options(str(role))
            values = {}
            for name in options.keys() & (variables or {}).keys():
                try:
                    values[name] = self._value(name, variables or {})
                except (AnsibleError, UndefinedError) as error:
                    broken.append(f"{name} cannot be evaluated: {_one_line(error)}")
            problems += variable_problems(options, values)
        # A default that is made of a value of the wrong type says nothing new.
        missing = [problem for problem in broken if problem.endswith("is undefined")]
        return [*missing, *problems] if problems else broken

    def _value(self, name: str, variables: dict[str, Any]) -> Any:
        # Between versions of ansible-core the way to evaluate a variable differs; its own lookup knows it.
        own = lookup_loader.get("vars", loader=self._loader, templar=self._templar)
        value = own.run([name], variables)[0]
        if isinstance(value, Undefined):
            raise AnsibleError(getattr(value, "_undefined_message", None) or "a variable in it is undefined")
        return value


def _options(role: str) -> dict[str, Any]:
    path = _ROLES / role / "meta" / "argument_specs.yml"
    if not path.is_file():
        raise AnsibleError(f"selfhosted.prefect.variable_problems: there is no role {role}")
    specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    return dict(specs["main"].get("options") or {})


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
