# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Who runs where: addresses of groups, API servers, and the database connections they need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import port_number, text, whole_number

PORT, INSTANCES = 4200, 1
"""The defaults of ``prefect_api_port`` and ``prefect_api_instances``, for hosts that have none of their own."""


def group_addresses(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """How other hosts reach each host of a group, in its order. Raises ValueError if a host is not in ``hostvars``."""
    return [_address(text(host), hostvars) for host in hosts]


def group_address(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> str:
    """The address of the group's first host; the empty string when the group is empty."""
    first = list(hosts)[:1]
    return group_addresses(first, hostvars)[0] if first else ""


def first_host(groups: Mapping[str, Iterable[str]], *names: str) -> str:
    """The first host of the first of the groups that has one; the empty string when none has."""
    return next((text(host) for name in names for host in groups.get(name, ())), "")


def group_pattern(names: Iterable[str]) -> str:
    """A pattern for the ``hosts`` of a play: every host of the groups. A regular expression, so an absent group gives no warning."""
    return f"~^({'|'.join(re.escape(text(name)) for name in names)})$"


def api_servers(
    hosts: Iterable[str], hostvars: Mapping[str, Any], port: Any = PORT, instances: Any = INSTANCES, asker: str = ""
) -> list[dict[str, Any]]:
    """Every API server: ``host``, ``address``, ``port`` and ``instance`` (n from 1, on the host's port + n - 1).

    A host's own ``prefect_api_port`` and ``prefect_api_instances`` win over ``port`` and ``instances``. These are the values of ``asker``,
    where the filter is used; when they are its own in the inventory they say nothing of other hosts, which then have 4200 and 1.

    Raises ValueError if a port is not 1 to 65535, or a number of instances is below 1.
    """
    own = hostvars[asker] if asker in hostvars else {}  # noqa: SIM401  Ansible's mapping has no such default
    elsewhere = (PORT if "prefect_api_port" in own else port, INSTANCES if "prefect_api_instances" in own else instances)
    return [server for host in hosts for server in _servers_of(text(host), hostvars, *elsewhere)]


def group_listeners(hosts: Iterable[str], hostvars: Mapping[str, Any], port: Any, what: str) -> list[dict[str, Any]]:
    """What a group's hosts listen on: ``host``, ``address``, ``port``, and ``what`` it is, for a message.

    Raises ValueError if the port is not 1 to 65535, or a host is not in ``hostvars``.
    """
    number = port_number(port, f"the port of {what}")
    return [{"host": text(host), "address": _address(text(host), hostvars), "port": number, "what": what} for host in hosts]


def connection_budget(
    api_processes: Any, services_processes: Any = 1, pool_size: Any = 5, max_overflow: Any = 10, reserve: Any = 10
) -> int:
    """The least ``max_connections`` that never starves Prefect; what it is made of is in the filter's documentation.

    Raises ValueError if a number is negative or not whole.
    """
    api = whole_number(api_processes, "api_processes")
    services = whole_number(services_processes, "services_processes")
    per_process = whole_number(pool_size, "pool_size") + whole_number(max_overflow, "max_overflow") + 1
    return (api + services) * per_process + 2 * services + whole_number(reserve, "reserve")


def _servers_of(host: str, hostvars: Mapping[str, Any], port: Any, instances: Any) -> list[dict[str, Any]]:
    variables = hostvars[host]
    first = port_number(variables.get("prefect_api_port", port), f"prefect_api_port of {host}")
    count = whole_number(variables.get("prefect_api_instances", instances), f"prefect_api_instances of {host}", 1)
    port_number(first + count - 1, f"the last port of {host} (prefect_api_port + prefect_api_instances - 1)")
    address = _address(host, hostvars)
    return [{"host": host, "address": address, "port": first + n, "instance": n + 1} for n in range(count)]


def _address(host: str, hostvars: Mapping[str, Any]) -> str:
    if host not in hostvars:
        raise ValueError(f"{host} is not a host of this inventory")
    variables = hostvars[host]
    for name in ("prefect_address", "ansible_host"):
        address = text(variables.get(name))
        if address:
            return address
    return host
