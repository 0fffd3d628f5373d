# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: systemd_environment
short_description: The text of a systemd EnvironmentFile
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Renders a mapping as the text of a file for systemd's C(EnvironmentFile=), one C(NAME="value") a line, sorted by
    name.
  - Every value is quoted, so that systemd (and a POSIX shell that sources the file) reads back exactly what was given.
  - Booleans become V(true) or V(false), lists and mappings JSON. A value of C(null) leaves its name out.
  - Names that cannot be an environment variable's, and values with line breaks or other control characters, are
    refused; the message never shows the value.
positional: _input
options:
  _input:
    description: Names and values of environment variables.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Install a unit's environment
  ansible.builtin.copy:
    content: "{{ {'PREFECT_LOGGING_COLORS': false, 'PASSWORD': 'a\"b$c'} | selfhosted.prefect.systemd_environment }}"
    # => PASSWORD="a\"b\$c"
    #    PREFECT_SERVER_ANALYTICS_ENABLED="false"
    dest: /etc/prefect/example.env
    owner: root
    group: prefect
    mode: "0640"
  diff: false
  no_log: true
"""

RETURN = r"""
_value:
  description: The text of the file, with a line break at its end; empty for an empty mapping.
  type: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._environment import format_environment
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``systemd_environment``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("systemd_environment", format_environment)
