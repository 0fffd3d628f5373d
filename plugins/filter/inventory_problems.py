# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_problems
short_description: What is wrong with an inventory, seen from its variables alone
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Returns every problem at once, each as a sentence or two with its remedy, so that all can be shown together.
  - Only what is given is looked at. No value of a secret is ever part of a problem.
positional: _input
options:
  _input:
    description: What to look at.
    type: dict
    required: true
    suboptions:
      groups:
        description:
          - Groups and their hosts. C(postgres), C(redis) and C(nginx) may be empty if their entry in O(_input.endpoints) is set;
            any other group may not.
        type: dict
      inventory_groups:
        description:
          - All groups of the inventory, Ansible's magic variable C(groups).
          - Where one of O(_input.groups) is empty and may not be, the problem names a group with a similar name, if there is one. Beside
            a group that has hosts, one with a similar name is no problem.
        type: dict
      endpoints:
        description: The values of C(prefect_database_host), C(prefect_redis_host) and C(prefect_api_url), by those names.
        type: dict
      listeners:
        description:
          - Everything that will listen somewhere, with C(host), C(address), C(port) and, for the message, C(what). No two may share
            an address and port. The result of P(selfhosted.prefect.api_servers#filter) fits.
        type: list
        elements: dict
      machines:
        description:
          - What hosts that run Prefect call themselves, by their names in the inventory, each with C(hostname) and, for the message,
            C(machine_id). No two may be equal; case does not count, and a short name equals a full one that begins with it.
        type: dict
      secrets:
        description:
          - Required secrets by the names of their variables.
          - One whose name ends in C(auth_string) must have the form C(user:password), in printable ASCII.
        type: dict
      names:
        description:
          - Names of databases and users by the names of their variables.
          - They are limited to what no tool on the way takes for something else.
        type: dict
      version:
        description: The wanted version of Prefect.
        type: string
      versions:
        description: The versions that have a lock file.
        type: list
        elements: string
      lock_file:
        description: The user's own lock file, with which any version will do.
        type: string
      settings:
        description: The user's own settings (C(prefect_settings)).
        type: dict
      owned:
        description:
          - The settings that the roles set themselves, by the names of today, each with the variable to use instead, or nothing.
          - Prefect's older names for them count, too, and names in any case.
        type: dict
      retention:
        description: How long the user wants to keep data (C(prefect_retention)).
        type: raw
      serial:
        description: In what batches API hosts roll, as for P(selfhosted.prefect.rolling_batches#filter).
        type: raw
seealso:
  - module: selfhosted.prefect.prefect_preflight
"""

EXAMPLES = r"""
- name: See what is wrong with the inventory
  ansible.builtin.debug:
    msg: "{{ cluster | selfhosted.prefect.inventory_problems }}"
  vars:
    cluster:
      groups:
        postgres: []
        prefect_api: [api1, api2]
      endpoints:
        prefect_database_host: ""
      secrets:
        prefect_auth_string: "{{ prefect_auth_string | default('') }}"
    # => ["The group postgres is empty and prefect_database_host is not set. Put a host into the group, or set
    #      prefect_database_host to the address of the PostgreSQL server to use instead.",
    #     "prefect_auth_string is missing or empty. Set it, in a file encrypted with ansible-vault."]
"""

RETURN = r"""
_value:
  description: The problems; empty when there are none.
  type: list
  elements: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory import inventory_problems
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``inventory_problems``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("inventory_problems", inventory_problems)
