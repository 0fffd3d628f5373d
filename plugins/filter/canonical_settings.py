# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: canonical_settings
short_description: Settings of Prefect by the names of today
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Prefect takes many settings under older names as well, such as C(PREFECT_API_DATABASE_TIMEOUT) for
    C(PREFECT_SERVER_DATABASE_TIMEOUT), and every name in any case. Of two names of one setting, it uses one and ignores the other.
  - This gives each setting the name of today, by the table of the release, so that it can be merged and looked up by one name.
  - Two names of one setting with different values are an error.
  - Names that are not Prefect's, and those that the release does not know, are left as they are.
positional: _input, version
options:
  _input:
    description: Names and values of settings.
    type: dict
    required: true
  version:
    description:
      - The version of Prefect that takes them.
      - For one without a table in the collection, that of the closest version before it is used.
    type: string
    required: true
seealso:
  - module: selfhosted.prefect.prefect_settings_check
"""

EXAMPLES = r"""
- name: Show a setting, whatever the name that it was given by
  ansible.builtin.debug:
    msg: "{{ settings.PREFECT_SERVER_DATABASE_TIMEOUT }}"
  vars:
    settings: "{{ {'PREFECT_API_DATABASE_TIMEOUT': 60} | selfhosted.prefect.canonical_settings('3.8.8') }}"
    # => 60
"""

RETURN = r"""
_value:
  description: The same settings, by the names of today.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._settings_names import canonical_settings, names_for
from ansible_collections.selfhosted.prefect.plugins.module_utils._text import text
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


def by_version(settings: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The settings by the names that a version of Prefect has for them today."""
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings are names and values, not {type(settings).__name__}")
    return canonical_settings(settings, names_for(text(version)))


class FilterModule:
    """The filter ``canonical_settings``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("canonical_settings", by_version)
