# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: connection_budget
short_description: How many PostgreSQL connections a cluster may need
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - The least C(max_connections) with which no Prefect process is ever refused a connection.
  - That is O(pool_size) + O(max_overflow) for each process and one more for Prefect's database vacuum, whose work the API servers
    do, too; two more for each services process (one to LISTEN, one to delete old logs); and O(reserve).
positional: _input, services_processes, pool_size, max_overflow, reserve
options:
  _input:
    description: How many API server processes there are.
    type: int
    required: true
  services_processes:
    description: How many background services processes there are.
    type: int
    default: 1
  pool_size:
    description: Connections a process keeps open (C(PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE)).
    type: int
    default: 5
  max_overflow:
    description: Connections a process may open beyond those (C(PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW)).
    type: int
    default: 10
  reserve:
    description: Connections left for the migration, backups, people, and PostgreSQL's reservation for superusers.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Three API servers and one services process, with Prefect's own pool
  ansible.builtin.debug:
    msg: "{{ 3 | selfhosted.prefect.connection_budget(1, 5, 10, 10) }}"
    # => 76
"""

RETURN = r"""
_value:
  description: The number of connections.
  type: int
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._topology import connection_budget
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``connection_budget``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("connection_budget", connection_budget)
