# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """How modules are told where Prefect's database is."""

    DOCUMENTATION = r"""
options:
  database:
    description:
      - Prefect's database, and Prefect's own user of it.
      - It is reached from the host that runs the module, whose connections the server has to accept.
    type: dict
    required: true
    suboptions:
      host:
        description: Its address.
        type: str
        required: true
      port:
        description: Its TCP port.
        type: int
        default: 5432
      user:
        description: Who logs in.
        type: str
        required: true
      password:
        description: The user's password. It never gets on a command line.
        type: str
      dbname:
        description: Name of the database.
        type: str
        required: true
      tls:
        description:
          - C(ca_file), C(cert_file), C(key_file) and C(check_hostname); files of the host that runs the module.
          - Without it TLS is used where the server offers it, and not verified.
        type: dict
        suboptions:
          enabled:
            description: Whether to use TLS. True if there is anything else here.
            type: bool
          ca_file:
            description: The authorities to trust. Without it those of the system.
            type: path
          cert_file:
            description: A client's certificate.
            type: path
          key_file:
            description: The key of that certificate.
            type: path
          check_hostname:
            description: Whether the certificate has to be for the host's name. True without it.
            type: bool
"""
