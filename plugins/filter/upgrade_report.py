# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_report
short_description: What an upgrade will do, in lines for a person
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Says which hosts go from which version to which, which migrations are to be applied and how large the tables are that they touch, and
    which versions of Prefect's client are in use.
positional: _input
options:
  _input:
    description: What is known.
    type: dict
    required: true
    suboptions:
      hosts:
        description: For each host the release that it runs, as a path; empty for none.
        type: dict
        required: true
      release:
        description: The release to go to, as a path or by its name.
        type: str
        required: true
      schema:
        description: What M(selfhosted.prefect.prefect_migration) returns in check mode.
        type: dict
      timeout:
        description: The seconds that the migration will have.
        type: int
      clients:
        description: What M(selfhosted.prefect.prefect_client_info) returns as C(clients), one entry for each balancer.
        type: list
        elements: dict
"""

EXAMPLES = r"""
- name: Say what is about to happen
  ansible.builtin.debug:
    msg: "{{ {'hosts': {'api1': '/opt/prefect/releases/3.7.8-0123456789ab'}, 'release': '3.8.8-ba9876543210'}
             | selfhosted.prefect.upgrade_report }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._versions import upgrade_report
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``upgrade_report``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("upgrade_report", upgrade_report)
