# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: api_servers
short_description: Every API server of a group of hosts
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - One entry for each API server (a host may run several), for example as the upstream servers of a balancer.
  - A host's own inventory variables C(prefect_api_port) and C(prefect_api_instances) win over O(port) and O(instances).
positional: _input, hostvars, port, instances, asker
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
  port:
    description: The port of a host's first API server. The next ones count up from there.
    type: int
    default: 4200
  instances:
    description: How many API servers each host runs.
    type: int
    default: 1
  asker:
    description:
      - The host that O(port) and O(instances) are of, as in C(inventory_hostname).
      - What it has of its own in the inventory does not hold for others, which then have the default.
    type: string
    default: ""
"""

EXAMPLES = r"""
- name: Two hosts, the second with two API servers
  ansible.builtin.debug:
    msg: "{{ groups['prefect_api'] | selfhosted.prefect.api_servers(hostvars, 4200, 1, inventory_hostname) }}"
    # => [{"host": "api1", "address": "10.0.0.11", "port": 4200, "instance": 1},
    #     {"host": "api2", "address": "10.0.0.12", "port": 4200, "instance": 1},
    #     {"host": "api2", "address": "10.0.0.12", "port": 4201, "instance": 2}]
"""

RETURN = r"""
_value:
  description: One entry for each API server, host by host in the order of the group.
  type: list
  elements: dict
  contains:
    host:
      description: The host's name in the inventory.
      type: string
    address:
      description: How other hosts reach it, as in P(selfhosted.prefect.group_address#filter).
      type: string
    port:
      description: The port it listens on.
      type: int
    instance:
      description: Which of its host's API servers it is, from 1.
      type: int
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._topology import api_servers
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``api_servers``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("api_servers", api_servers)
