# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: proxy_exceptions
short_description: What a proxy among the settings must not be used for
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Prefect's HTTP and websocket clients read C(HTTP_PROXY), C(HTTPS_PROXY) and C(ALL_PROXY) and spare no address by themselves.
  - When the settings name a proxy, this returns C(NO_PROXY), in both cases, with the user's own exceptions, the loopback and the
    deployment's own addresses.
positional: _input, hosts
options:
  _input:
    description: The settings (C(prefect_settings)).
    type: dict
    required: true
  hosts:
    description: Names and addresses that are reached directly.
    type: list
    elements: string
    default: []
"""

EXAMPLES = r"""
- name: Show the exceptions
  ansible.builtin.debug:
    msg: "{{ {'HTTPS_PROXY': 'http://proxy.example.com:3128'} | selfhosted.prefect.proxy_exceptions(['prefect.example.com']) }}"
    # => {NO_PROXY: "localhost,127.0.0.1,::1,prefect.example.com", no_proxy: the same}
"""

RETURN = r"""
_value:
  description: C(NO_PROXY) and C(no_proxy) with one value; empty when the settings name no proxy.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._proxy_exceptions import proxy_exceptions
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``proxy_exceptions``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("proxy_exceptions", proxy_exceptions)
