# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: rolling_batches
short_description: Hosts in batches, as a play's C(serial) would make them
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Splits hosts into the batches in which they are taken out of service and put back.
  - A play's own C(serial) cannot be set in the inventory's C(group_vars), and cannot leave out hosts that have nothing to do.
positional: _input, serial, total
options:
  _input:
    description: The hosts to roll, in order. It may be empty.
    type: list
    elements: string
    required: true
  serial:
    description:
      - A number of hosts, a percentage such as C(25%), or a list of those whose last entry repeats.
      - Less than 1, or a batch that would take out all of several serving hosts, is an error.
    type: raw
    required: true
  total:
    description: How many hosts serve in all; percentages are of this number. By default the number of hosts given.
    type: int
"""

EXAMPLES = r"""
- name: One host first, the others two at a time
  ansible.builtin.debug:
    msg: "{{ ['api1', 'api2', 'api3', 'api4'] | selfhosted.prefect.rolling_batches([1, 2]) }}"
    # => [["api1"], ["api2", "api3"], ["api4"]]
"""

RETURN = r"""
_value:
  description: The batches, each a list of host names.
  type: list
  elements: list
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._rolling import rolling_batches
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``rolling_batches``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("rolling_batches", rolling_batches)
