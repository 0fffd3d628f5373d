# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: redis_url
short_description: A Redis URL from its parts
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Builds the URL of a Redis database. User and password are percent-encoded, so any character is safe in them.
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
        default: 6379
      db:
        description: Number of the database.
        type: int
        default: 0
      username:
        description: Name of the ACL user. Empty for none.
        type: string
        default: ""
      password:
        description: Its password. Empty for none.
        type: string
        default: ""
      tls:
        description:
          - Whether to use TLS; either a boolean, or a mapping with any of C(enabled) (V(true)), C(ca_file),
            C(cert_file), C(key_file) and C(check_hostname).
          - An empty mapping means no TLS.
        type: raw
        default: false
"""

EXAMPLES = r"""
- name: An ACL user whose password has every awkward character
  ansible.builtin.debug:
    msg: "{{ {'host': 'cache', 'db': 1, 'username': 'me', 'password': 'a@b:c/d%e'} | selfhosted.prefect.redis_url }}"
    # => "redis://me:a%40b%3Ac%2Fd%25e@cache:6379/1"

- name: The same with TLS and a private certificate authority
  ansible.builtin.debug:
    msg: "{{ {'host': 'cache', 'tls': {'ca_file': '/etc/ssl/ca.pem'}} | selfhosted.prefect.redis_url }}"
    # => "rediss://cache:6379/0?ssl_ca_certs=%2Fetc%2Fssl%2Fca.pem"
"""

RETURN = r"""
_value:
  description: The URL, beginning with C(redis://), or with C(rediss://) when TLS is used.
  type: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._urls import redis_url
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``redis_url``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("redis_url", redis_url)
