# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""All filters of the collection. Each is documented in the YAML file of its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import format_environment, format_exports
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.resp import redis_requests
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import database_url, redis_url
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.balancer import balancer_problems
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.client_certificates import client_certificates
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.firewall import firewall_openings
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.inventory import host_problems, inventory_problems
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.proxy_exceptions import proxy_exceptions
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.redis_cluster import redis_cluster
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.rolling import rolling_batches
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.topology import (
    api_servers,
    connection_budget,
    first_host,
    group_address,
    group_addresses,
    group_listeners,
    group_pattern,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.workers import workers
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.versions import rollback_release, upgrade_report
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings import names as _settings_names
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings import retention as _retention
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import names_for
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.secrets import cluster_secrets_in_use, secrets_in_use
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.switched_off import switched_off


def canonical_settings(settings: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The settings by the names that a version of Prefect has for them today."""
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings are names and values, not {type(settings).__name__}")
    return _settings_names.canonical_settings(settings, names_for(text(version)))


def retention_settings(wanted: _retention.Retention, version: str) -> dict[str, Any]:
    """The settings of a retention by the names of a version."""
    return _retention.retention_settings(wanted, names_for(text(version)))


FILTERS: dict[str, Callable[..., Any]] = {
    "api_servers": api_servers,
    "balancer_problems": balancer_problems,
    "canonical_settings": canonical_settings,
    "client_certificates": client_certificates,
    "connection_budget": connection_budget,
    "database_url": database_url,
    "firewall_openings": firewall_openings,
    "first_host": first_host,
    "group_address": group_address,
    "group_addresses": group_addresses,
    "group_listeners": group_listeners,
    "group_pattern": group_pattern,
    "host_problems": host_problems,
    "inventory_problems": inventory_problems,
    "proxy_exceptions": proxy_exceptions,
    "redis_cluster": redis_cluster,
    "redis_requests": redis_requests,
    "redis_url": redis_url,
    "retention": _retention.retention,
    "retention_settings": retention_settings,
    "rollback_release": rollback_release,
    "rolling_batches": rolling_batches,
    "secrets_in_use": secrets_in_use,
    "cluster_secrets_in_use": cluster_secrets_in_use,
    "shell_exports": format_exports,
    "switched_off": switched_off,
    "systemd_environment": format_environment,
    "upgrade_report": upgrade_report,
    "workers": workers,
}


def explained(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose complaints about its input name the filter."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise AnsibleFilterError(f"selfhosted.prefect.{name}: {error}") from error

    return wrapper


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {name: explained(name, function) for name, function in FILTERS.items()}
