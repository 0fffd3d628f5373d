# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: rollback_release
short_description: The release that hosts go back to
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Finds the one release that the hosts with the newest version ran before, from their symlinks.
  - Hosts that an upgrade did not reach, or that came back from it, do not stand in the way.
positional: _input, current, previous, wanted
options:
  _input:
    description: For each host, what its symlinks point at, as M(selfhosted.prefect.prefect_unit_info) returns it as C(links).
    type: dict
    required: true
  current:
    description: Path of the symlink to the release that a host runs.
    type: str
    required: true
  previous:
    description: Path of the symlink to the release that it ran before.
    type: str
    required: true
  wanted:
    description: The name of another release to go to instead.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: See where a rollback would lead
  ansible.builtin.debug:
    msg: "{{ {'api1': {'/opt/prefect/current': '/opt/prefect/releases/3.8.8-ba9876543210',
                       '/opt/prefect/previous': '/opt/prefect/releases/3.7.8-0123456789ab'}}
             | selfhosted.prefect.rollback_release('/opt/prefect/current', '/opt/prefect/previous') }}"
"""

RETURN = r"""
_value:
  description: Where to go.
  type: dict
  contains:
    release:
      description: The release's path; empty when there is a problem.
      type: str
    version:
      description: Its version of Prefect.
      type: str
    from:
      description: The newest release that a host runs now, as a path.
      type: str
    problem:
      description: Why there is no way back, in a sentence; empty when there is one.
      type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._versions import rollback_release
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``rollback_release``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("rollback_release", rollback_release)
