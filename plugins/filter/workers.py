# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: workers
short_description: Every worker of a group of hosts
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - One entry for each worker in the hosts' C(prefect_workers), with what the role C(prefect_worker) makes of it.
positional: _input, hostvars, release, root
options:
  _input:
    description: The hosts of a group, as in C(groups['prefect_worker']). It may be empty.
    type: list
    elements: string
    required: true
  hostvars:
    description: Ansible's magic variable C(hostvars), or a dictionary of hosts with their C(prefect_workers).
    type: dict
    required: true
  release:
    description: Folder of the release that workers run from which have no environment of their own.
    type: string
    default: ""
  root:
    description: Folder below which environments with requirements are built.
    type: string
    default: ""
seealso:
  - plugin: selfhosted.prefect.problems
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Show what the workers are called in Prefect
  ansible.builtin.debug:
    msg: "{{ groups['prefect_worker'] | selfhosted.prefect.workers(hostvars) | map(attribute='worker') }}"
    # => ["etl@worker1", "etl@worker2"]
"""

RETURN = r"""
_value:
  description: The workers, host by host in the order of the group.
  type: list
  elements: dict
  contains:
    host:
      description: The host's name in the inventory.
      type: string
    id:
      description: What its unit and files are named after.
      type: string
    unit:
      description: The systemd unit.
      type: string
    worker:
      description: Its name in Prefect.
      type: string
    pool:
      description: The work pool. The other keys of the entry are here, too, but of C(environment) only the names.
      type: string
    number:
      description: The position of the entry in C(prefect_workers).
      type: int
    built:
      description: The environment to build for its requirements; empty when it has none.
      type: string
    folder:
      description: The environment that it runs from.
      type: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._workers import workers
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``workers``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("workers", workers)
