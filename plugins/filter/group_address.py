# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: group_address
short_description: The address of the first host of a group
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - How other hosts reach the first host of a group, whether or not that host is part of the play (C(--limit)).
  - This is the host's inventory variable C(prefect_address), else its C(ansible_host), else its name.
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
  - plugin: selfhosted.prefect.group_addresses
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Use the database of the inventory unless another one is given
  ansible.builtin.debug:
    msg: "{{ groups['postgres'] | default([]) | selfhosted.prefect.group_address(hostvars) }}"
    # => "10.0.0.5", or "" when the group is empty
"""

RETURN = r"""
_value:
  description: The address; the empty string when the group is empty.
  type: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._topology import group_address
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``group_address``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("group_address", group_address)
