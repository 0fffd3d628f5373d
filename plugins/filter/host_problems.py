# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: host_problems
short_description: The problems of several hosts as one list
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Returns each problem once, after the names of the hosts that have it. One that all hosts have stands without a name.
positional: _input
options:
  _input:
    description: Lists of problems by the names of their hosts, those without a problem included.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the problems of two hosts
  ansible.builtin.debug:
    msg: "{{ {'api1': ['Port 4200 is taken.', 'a is missing.'], 'api2': ['a is missing.']} | selfhosted.prefect.host_problems }}"
    # => ["api1: Port 4200 is taken.", "a is missing."]
"""

RETURN = r"""
_value:
  description: The problems; empty when there are none.
  type: list
  elements: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory import host_problems
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``host_problems``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("host_problems", host_problems)
