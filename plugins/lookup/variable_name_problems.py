# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: variable_name_problems
short_description: Variables of a host whose names are likely misspelt names of this collection's variables
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares the names of all variables of a host with those that the roles of this collection document, and returns every problem at
    once, each as a sentence or two.
  - A name that begins with C(prefect_) is a problem whenever no role has it.
  - Names with the prefixes of the other roles, such as C(redis_) and C(nginx_), may be for another role of the same inventory. They are
    problems only if they are slips of a documented name, such as C(redis_maxmemroy) or C(nginx_listen_ports).
  - Names that begin with an underscore or with C(ansible_), and names in capitals, are left alone. Values are never looked at.
options:
  _terms:
    description: Names that are left alone; C(*), C(?) and C([abc]) stand for characters, as in a shell.
    type: list
    elements: string
"""

EXAMPLES = r"""
- name: Show which variables are likely misspelt
  ansible.builtin.debug:
    msg: "{{ query('selfhosted.prefect.variable_name_problems', 'prefect_site_*') }}"
  vars:
    prefect_setings: {}
    prefect_site_owner: the data team
    # => ["The variable prefect_setings is not known; the nearest name that is known is prefect_settings. Correct it, or list it in
    #      prefect_unchecked_variables if it is not for this collection."]
"""

RETURN = r"""
_raw:
  description: The problems; empty when there are none.
  type: list
  elements: string
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.names import variable_name_problems
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._roles import computed_variables, documented_variables


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """The problems with the names of a host's variables."""
        self.set_options(var_options=variables, direct=kwargs)
        names = [str(name) for name in variables or {}]
        return variable_name_problems(names, documented_variables(), computed_variables(), [str(term) for term in terms])
