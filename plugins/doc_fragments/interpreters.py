# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """Where modules find the libraries that a Prefect release carries."""

    DOCUMENTATION = r"""
options:
  interpreters:
    description:
      - Interpreters of Prefect releases, which carry the libraries.
      - Where Ansible's own interpreter on the host lacks what the module needs, the module goes on in the first of these that is there.
    type: list
    elements: path
    default: [/opt/prefect/current/bin/python]
requirements:
  - asyncpg to ask PostgreSQL, redis (redis-py) to ask Redis, h11 and websockets to send a load; every Prefect release has them
"""
