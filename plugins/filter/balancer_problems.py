# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: balancer_problems
short_description: What a balancer and the servers behind it do not agree about
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares the balancer's variables with each other and with Prefect's settings, and returns every problem as a sentence or two with its
    remedy.
  - Only what is given is looked at.
positional: _input
options:
  _input:
    description: What to look at.
    type: dict
    required: true
    suboptions:
      api_path:
        description: The path of the API.
        type: string
      trusted_proxies:
        description: The addresses and networks of C(nginx_trusted_proxies).
        type: list
        elements: string
      forwarded_allow_ips:
        description: The addresses and networks of C(prefect_api_forwarded_allow_ips), or C(*).
        type: list
        elements: string
      balancers:
        description: The addresses of the group C(nginx), which may be names unless O(_input.https).
        type: list
        elements: string
      https:
        description: Whether clients come by C(https).
        type: bool
      settings:
        description: The user's own settings (C(prefect_settings)), with which the following are compared.
        type: dict
      read_timeout:
        description: Seconds for which nothing may be said on a connection.
        type: float
      background_task_idle_timeout:
        description: Seconds after which the websocket of a task worker is closed.
        type: float
      client_max_body_size:
        description: The largest request, as nginx writes it.
        type: string
"""

EXAMPLES = r"""
- name: See whether websockets stay open
  ansible.builtin.debug:
    msg: "{{ {'read_timeout': 90, 'settings': prefect_settings} | selfhosted.prefect.balancer_problems }}"
"""

RETURN = r"""
_value:
  description: The problems. Empty when there are none.
  type: list
  elements: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._balancer import balancer_problems
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``balancer_problems``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("balancer_problems", balancer_problems)
