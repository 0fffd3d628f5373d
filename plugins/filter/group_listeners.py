# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: group_listeners
short_description: What the hosts of a group listen on
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - One entry for each host of a group, in the form in which P(selfhosted.prefect.inventory_problems#filter) takes its C(listeners).
positional: _input, hostvars, port, what
options:
  _input:
    description: The hosts of a group, as in C(groups['nginx']). It may be empty.
    type: list
    elements: string
    required: true
  hostvars:
    description: Ansible's magic variable C(hostvars).
    type: dict
    required: true
  port:
    description: The TCP port they listen on.
    type: int
    required: true
  what:
    description: What listens there, for a message.
    type: string
    required: true
seealso:
  - plugin: selfhosted.prefect.api_servers
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show where the balancers listen
  ansible.builtin.debug:
    msg: "{{ groups['nginx'] | selfhosted.prefect.group_listeners(hostvars, 4200, 'the balancer') }}"
    # => [{"host": "lb1", "address": "10.0.0.13", "port": 4200, "what": "the balancer"}]
"""

RETURN = r"""
_value:
  description: A C(host), its C(address), the C(port), and C(what) listens.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._topology import group_listeners
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``group_listeners``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("group_listeners", group_listeners)
