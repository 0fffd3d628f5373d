# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of HAProxy, and with a HAProxy that a host has already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

_PORTS = ("haproxy_postgres_port", "haproxy_postgres_replica_port", "haproxy_redis_port", "haproxy_metrics_port")
# What else of the deployment listens on such a host, by the component that does.
_OTHERS = {
    "postgres": ("postgres_port", "patroni_api_port", "etcd_client_port", "etcd_peer_port"),
    "redis": ("redis_port", "redis_sentinel_port"),
    "nginx": ("nginx_listen_port", "nginx_status_port"),
}


def haproxy(variables: Mapping[str, Any]) -> Iterator[str]:
    """Whether each port is HAProxy's alone."""
    own = {name: text(variables[name]) for name in _PORTS}
    others = {name: text(variables[name]) for group, names in _OTHERS.items() if group in variables["group_names"] for name in names}
    for name, port in own.items():
        equal = [other for other, taken in {**others, **own}.items() if taken == port and other != name]
        if equal:
            yield f"{name} is {port}, and so is {' and '.join(equal)}; on {variables['inventory_hostname']} they have to differ."


def haproxy_host(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__haproxy_found`` is the state of the unit; the role's drop-in is part of it once it has configured HAProxy."""
    status = variables["__haproxy_found"].get("status") or {}
    ours = text(variables["__haproxy_drop_in"]) in text(status.get("DropInPaths"))
    if status.get("ActiveState") == "active" and not ours:
        yield (
            f"{variables['inventory_hostname']} runs an HAProxy of its own, which would lose its configuration. Stop it"
            " (systemctl disable --now haproxy) if nothing needs it, or put this host's part of Prefect on another host. Then run the same"
            " command again."
        )
