# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: first_host
short_description: The first host of the first group that has one
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Picks one host for work that any host of a group can do, whether or not that host is part of the play (C(--limit)).
positional: _input, names
options:
  _input:
    description: Ansible's magic variable C(groups).
    type: dict
    required: true
  names:
    description: Names of groups, the best first. One may be missing or empty.
    type: list
    elements: string
    required: true
seealso:
  - plugin: selfhosted.prefect.group_address
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the backup host
  ansible.builtin.debug:
    msg: "{{ groups | selfhosted.prefect.first_host('postgres', 'prefect_api') }}"
    # => "state1"
"""

RETURN = r"""
_value:
  description: The host's name in the inventory; the empty string when all of the groups are empty.
  type: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._topology import first_host
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``first_host``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("first_host", first_host)
