# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: switched_off
short_description: Which parts of Prefect the settings switch off
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Every background service of Prefect has a setting C(PREFECT_SERVER_SERVICES_*_ENABLED), and the stream of events has
    C(PREFECT_SERVER_EVENTS_STREAM_OUT_ENABLED). This tells which of them are off.
  - Whatever waits for a part, watches it or alerts on it reads this, so that it does not wait for what is off.
positional: _input
options:
  _input:
    description: Prefect's settings by the names of today, as P(selfhosted.prefect.canonical_settings#filter) gives them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is switched off
  ansible.builtin.debug:
    msg: "{{ {'PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED': false} | selfhosted.prefect.switched_off }}"
    # => [scheduler]
"""

RETURN = r"""
_value:
  description: The names of the services as in their settings, such as V(scheduler) or V(late_runs), and V(event_stream); sorted.
  type: list
  elements: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._switched_off import switched_off
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``switched_off``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("switched_off", switched_off)
