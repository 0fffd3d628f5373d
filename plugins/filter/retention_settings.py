# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: retention_settings
short_description: Prefect's settings for how long events and flow runs are kept
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Turns a retention in seconds into the settings of Prefect's database vacuum, in the form that the release takes.
  - Logs have no such setting. They are deleted with their flow runs, and earlier by the role P(selfhosted.prefect.prefect_services#role).
  - A setting that the release does not know is left out. A release without a vacuum is an error.
positional: _input, version
options:
  _input:
    description: Seconds, as the filter P(selfhosted.prefect.retention#filter) gives them.
    type: dict
    required: true
  version:
    description: The version of Prefect that takes the settings.
    type: string
    required: true
"""

EXAMPLES = r"""
- name: Show the settings for flow runs that are kept for 90 days
  ansible.builtin.debug:
    msg: "{{ {'events': 'forever', 'flow_runs': '90d'} | selfhosted.prefect.retention | selfhosted.prefect.retention_settings('3.8.8') }}"
    # => {PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED: flow_runs, PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD: 7776000}
"""

RETURN = r"""
_value:
  description: Names and values of settings.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._retention import Retention, retention_settings
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings_names import names_for
from ansible_collections.selfhosted.prefect.plugins.module_utils._text import text
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


def by_version(wanted: Retention, version: str) -> dict[str, Any]:
    """The settings by the names of a version."""
    return retention_settings(wanted, names_for(text(version)))


class FilterModule:
    """The filter ``retention_settings``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("retention_settings", by_version)
