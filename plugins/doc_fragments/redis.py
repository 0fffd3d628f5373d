# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """How modules are told where Prefect's Redis is."""

    DOCUMENTATION = r"""
options:
  redis:
    description: The Redis that Prefect uses, reached from the host that runs the module.
    type: dict
    suboptions:
      host:
        description: Its address.
        type: str
        required: true
      port:
        description: Its TCP port.
        type: int
        default: 6379
      username:
        description: The ACL user to log in as.
        type: str
        default: ""
      password:
        description: The user's password.
        type: str
        default: ""
      db:
        description: Number of the docket's database (C(PREFECT_SERVER_DOCKET_URL)).
        type: int
        default: 1
      tls:
        description:
          - C(ca_file), C(cert_file), C(key_file) and C(check_hostname); files of the host that runs the module.
          - With none of them there is no TLS.
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
