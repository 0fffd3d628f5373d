# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

_TLS = r"""{indent}type: dict
{indent}suboptions:
{indent}  enabled:
{indent}    description: Whether to use TLS. True if there is anything else here.
{indent}    type: bool
{indent}  ca_file:
{indent}    description: The authorities to trust. Without it those of the system.
{indent}    type: path
{indent}  cert_file:
{indent}    description: A client's certificate.
{indent}    type: path
{indent}  key_file:
{indent}    description: The key of that certificate.
{indent}    type: path
{indent}  check_hostname:
{indent}    description: Whether the certificate has to be for the host's name. True without it.
{indent}    type: bool
"""


class ModuleDocFragment:
    """How modules are told what a host may have of a PostgreSQL cluster, and how Patroni's API and etcd are reached."""

    DOCUMENTATION: str = f"""
options:
  cluster:
    description: Where a host has its part of a PostgreSQL cluster, if it has one.
    type: dict
    suboptions:
      data:
        description: A pattern of the folders that data of PostgreSQL may be in.
        type: path
        default: /var/lib/postgresql/*/main
      etcd_data:
        description: The folder of etcd's data.
        type: path
        default: /var/lib/etcd/default
      etcd_initial:
        description: The file with the settings that etcd was first started with.
        type: path
        default: /var/lib/etcd/initial.env
      etcd_url:
        description: Where the host's own etcd is reached. Without it etcd is not queried.
        type: str
      etcd_tls:
        description: The TLS settings for that. Without any it is plain text.
{_TLS.format(indent="        ")}      patroni_url:
        description: Where the host's own Patroni is reached. Without it Patroni is not queried.
        type: str
      patroni_tls:
        description: The TLS settings for that.
{_TLS.format(indent="        ")}"""

    PATRONI: str = f"""
options:
  urls:
    description: The URLs of Patroni's API by the names of the members.
    type: dict
    required: true
  tls:
    description: The TLS settings for them, files of the host that runs the module. Calls that change something take a client's certificate.
{_TLS.format(indent="    ")}  auth_string:
    description: User and password, as C(user:password), of an API without TLS.
    type: str
  timeout:
    description: Seconds to wait for what was asked for.
    type: float
    default: 60
"""
