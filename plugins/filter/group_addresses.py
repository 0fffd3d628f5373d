# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: group_addresses
short_description: The addresses of the hosts of a group
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - How other hosts reach each host of a group, whether or not those hosts are part of the play (C(--limit)).
  - This is a host's inventory variable C(prefect_address), else its C(ansible_host), else its name.
positional: _input, hostvars
options:
  _input:
    description: The hosts of a group, as in C(groups['postgres']). It may be empty.
    type: list
    elements: string
    required: true
  hostvars:
    description: Ansible's magic variable C(hostvars).
    type: dict
    required: true
seealso:
  - plugin: selfhosted.prefect.group_address
    plugin_type: filter
"""

EXAMPLES = r"""
- name: The hosts that may connect to the database
  ansible.builtin.debug:
    msg: "{{ groups['prefect'] | selfhosted.prefect.group_addresses(hostvars) }}"
    # => ["10.0.0.11", "10.0.0.12", "10.0.0.20"]
"""

RETURN = r"""
_value:
  description: One address for each host, in the order of the group.
  type: list
  elements: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._topology import group_addresses
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``group_addresses``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("group_addresses", group_addresses)
