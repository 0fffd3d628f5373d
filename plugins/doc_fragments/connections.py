# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from textwrap import indent

_TLS = """\
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


class ModuleDocFragment:
    """How modules are told how to reach the API, Prefect's database and Redis, and where the libraries are that speak to them."""

    API = r"""
options:
  auth_string:
    description: User and password of the API, as C(user:password) (C(PREFECT_SERVER_API_AUTH_STRING)).
    type: str
  ca_file:
    description: Certificate authorities for an API with C(https), on the host that runs the module. The system's own by default.
    type: path
"""

    # Typed, because ansible-test takes only a plain string for one that it can check by itself.
    DATABASE: str = f"""
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
          - Without it, or with C(enabled) false, there is no TLS. With it the server's certificate is always verified.
{indent(_TLS, " " * 8)}"""

    REDIS: str = f"""
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
          - Without it, or with C(enabled) false, there is no TLS. With it the server's certificate is always verified.
{indent(_TLS, " " * 8)}"""

    TLS: str = f"""
options:
  tls:
    description: The TLS settings of the connection, files of the host that runs the module. Without any it is plain text.
{indent(_TLS, " " * 4)}"""

    INTERPRETERS = r"""
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
