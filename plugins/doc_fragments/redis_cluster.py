# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """How modules that run on a host of Redis are told how to reach that Redis, and the Sentinels of its cluster."""

    DOCUMENTATION = r"""
options:
  ca_file:
    description: The authorities that certificates of Redis and Sentinel are verified with. The system's own by default.
    type: path
  client:
    description: Redis's command line client.
    type: str
    default: redis-cli
"""

    SERVER = r"""
options:
  host:
    description: Where Redis listens, as seen from its own host.
    type: str
    default: 127.0.0.1
  port:
    description: Its port.
    type: int
    default: 6379
  secret:
    description: File of the password of its administrator.
    type: path
    required: true
  username:
    description: The administrator's ACL user.
    type: str
    default: selfhosted-prefect
"""

    MASTER = r"""
options:
  name:
    description: The name by which the Sentinels know the master.
    type: str
    default: prefect
  tls:
    description: Whether Redis and Sentinel speak TLS.
    type: bool
    default: true
"""

    SENTINEL = r"""
options:
  sentinel_port:
    description: The port of the Sentinels.
    type: int
    default: 26379
  sentinel_username:
    description: Their ACL user.
    type: str
    default: sentinel
"""
