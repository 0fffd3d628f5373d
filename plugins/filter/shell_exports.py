# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: shell_exports
short_description: The text of a file that a POSIX shell can source
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Renders a mapping as lines of C(export NAME=value), sorted by name, each value quoted for a POSIX shell.
  - Booleans become V(true) or V(false), lists and mappings JSON. A value of C(null) leaves its name out.
  - Names that cannot be an environment variable's, and values with line breaks or other control characters, are
    refused; the message never shows the value.
positional: _input
options:
  _input:
    description: Names and values of environment variables.
    type: dict
    required: true
seealso:
  - plugin: selfhosted.prefect.systemd_environment
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write what Prefect's client needs
  ansible.builtin.copy:
    content: "{{ {'PREFECT_API_AUTH_STRING': 'admin:it is $ecret'} | selfhosted.prefect.shell_exports }}"
    # => export PREFECT_API_AUTH_STRING='admin:it is $ecret'
    dest: ~/prefect.sh
    mode: "0600"
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

from ansible_collections.selfhosted.prefect.plugins.module_utils._environment import format_exports
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``shell_exports``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("shell_exports", format_exports)
