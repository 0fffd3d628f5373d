# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: database_url
short_description: A PostgreSQL URL from its parts
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Builds the URL of a PostgreSQL database. User, password and database name are percent-encoded, so any character is
    safe in them.
  - The result holds the password. Treat it as a secret.
positional: _input
options:
  _input:
    description: The parts of the URL.
    type: dict
    required: true
    suboptions:
      host:
        description: Name or address; an IPv6 address gets its brackets here.
        type: string
        required: true
      port:
        description: TCP port.
        type: int
        default: 5432
      name:
        description: Name of the database.
        type: string
        required: true
      user:
        description: Role to connect as.
        type: string
        required: true
      password:
        description: Its password. Empty for none.
        type: string
        default: ""
      driver:
        description:
          - What precedes C(://). V(postgresql) gives a URL for C(psql), C(pg_dump) and whatever else uses libpq.
        type: string
        default: postgresql+asyncpg
      tls:
        description:
          - Whether to use TLS; either a boolean, or a mapping with any of C(enabled) (V(true)), C(ca_file),
            C(cert_file), C(key_file) and C(check_hostname) (V(true)).
          - An empty mapping means no TLS.
          - The files only fit in a libpq URL (O(_input.driver=postgresql)). With C(ca_file) the server's certificate is
            verified.
        type: raw
        default: false
"""

EXAMPLES = r"""
- name: For Prefect
  ansible.builtin.debug:
    msg: "{{ {'host': 'db', 'name': 'prefect', 'user': 'me', 'password': 'p@ss'} | selfhosted.prefect.database_url }}"
    # => "postgresql+asyncpg://me:p%40ss@db:5432/prefect"

- name: For pg_dump, over TLS with a verified certificate
  ansible.builtin.debug:
    msg: "{{ database | selfhosted.prefect.database_url }}"
  vars:
    database:
      host: db
      name: prefect
      user: me
      driver: postgresql
      tls:
        ca_file: /ca.pem
    # => "postgresql://me@db:5432/prefect?sslmode=verify-full&sslrootcert=%2Fca.pem"
"""

RETURN = r"""
_value:
  description: The URL.
  type: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._urls import database_url
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``database_url``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("database_url", database_url)
