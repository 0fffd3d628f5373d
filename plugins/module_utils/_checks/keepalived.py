# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the address that load balancers share, and with a keepalived that a host has already."""

from __future__ import annotations

import ipaddress
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

_LEAST_PASSWORD = 8
_ROUTERS = range(1, 256)
# In each configuration that the role writes.
_OURS = "selfhosted.prefect.keepalived"


def keepalived(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__keepalived_hosts`` are the hosts of the deployment with their addresses."""
    yield from _address(text(variables["nginx_virtual_address"]), variables["__keepalived_hosts"])
    password, router = text(variables.get("keepalived_password")), int(variables["keepalived_virtual_router_id"])
    if not password.strip():
        yield (
            "nginx_virtual_address is set, and keepalived_password is missing or empty. Set it to a random value, in a file encrypted with"
            " ansible-vault."
        )
    elif len(password) < _LEAST_PASSWORD:
        yield f"keepalived_password has {len(password)} characters; it has to have {_LEAST_PASSWORD} or more, at random."
    if router not in _ROUTERS:
        yield f"keepalived_virtual_router_id is {router}; it has to be 1 to 255."


def _address(address: str, hosts: Mapping[str, Any]) -> Iterator[str]:
    name = "nginx_virtual_address"
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        yield f'{name} is "{address}", which is no IP address. Give the address alone, without a network, such as 10.0.0.100.'
        return
    if wanted.is_loopback or wanted.is_multicast or wanted.is_unspecified or wanted.is_link_local or "%" in address:
        yield f"{name} is {wanted}, which no other host can reach as one host's address. Choose one in the network of the load balancers."
    taken = [text(host) for host, its in hosts.items() if text(its).lower() in {str(wanted), address.lower()}]
    if taken:
        yield f"{name} is {wanted}, which is the address of {taken[0]} already. Choose one that no host has."


def keepalived_host(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__keepalived_found`` is what was found of the address on this host, ``__keepalived_before`` the configuration that it has."""
    yield from map(text, variables["__keepalived_found"]["problems"])
    before = b64decode(variables["__keepalived_before"].get("content") or "").decode("utf-8", "replace")
    if before.strip() and _OURS not in before:
        yield (
            f"keepalived on {text(variables['inventory_hostname'])} is configured already, in {text(variables['__keepalived_config'])}, and"
            " this collection would replace that. Move the file away if it is not needed, or leave nginx_virtual_address out."
        )
