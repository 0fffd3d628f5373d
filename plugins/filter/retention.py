# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: retention
short_description: How many seconds a cluster keeps events, flow runs and logs
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Gives every kind in seconds, out of the variable C(prefect_retention); a kind that it does not hold has its default.
  - A kind that is kept for ever has no value (V(none)).
  - A value that is no duration, is shorter than a day, or an unknown kind is an error.
positional: _input
options:
  _input:
    description: C(events), C(flow_runs) and C(logs), each as days (V(7)), as a duration (V(36h), V(7d), V(2w)) or V(forever).
    type: dict
    required: true
seealso:
  - plugin: selfhosted.prefect.retention_settings
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show how long logs are kept
  ansible.builtin.debug:
    msg: "{{ ({'flow_runs': 'forever', 'logs': '2w'} | selfhosted.prefect.retention).logs }}"
    # => 1209600
"""

RETURN = r"""
_value:
  description: Seconds of C(events), C(flow_runs) and C(logs).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._retention import retention
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``retention``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("retention", retention)
