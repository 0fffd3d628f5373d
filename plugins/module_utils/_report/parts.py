# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parts of a deployment, each with its health, from a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import BALANCER

GOOD, WARN, BAD, UNKNOWN = "good", "warn", "bad", "unknown"


@dataclass(frozen=True)
class Part:
    """A part of the deployment: where it is, what it is, and how it is, in one of the words above and in a sentence."""

    name: str
    what: str
    health: str
    detail: str


def parts(report: Mapping[str, Any]) -> dict[str, list[Part]]:
    """The parts of the deployment by the column that they stand in: ``watchers``, ``balancers``, ``servers``, ``services``, ``state``."""
    groups = report.get("groups", {})
    balancer = next((server for server in report.get("servers", []) if server["name"] == BALANCER), None)
    balancers = [_of_unit(report, host, "nginx.service", "nginx") for host in groups.get("nginx", [])]
    if not balancers and report.get("url"):
        balancers = [Part("balancer", "your own", *_answers(balancer))]
    servers = [_server_part(report, server) for server in report.get("servers", []) if server["name"] != BALANCER]
    asked = {part.name.rpartition(":")[0] for part in servers}
    # Servers that no host could query are not in the report, but their units are.
    servers += [_of_unit(report, host, "prefect-api@", "API server") for host in groups.get("prefect_api", []) if host not in asked]
    return {
        "watchers": [_of_unit(report, host, "prometheus", "monitoring") for host in groups.get("monitoring", [])],
        "balancers": balancers,
        "servers": servers,
        "services": [_of_unit(report, host, "prefect-services.service", "services") for host in groups.get("prefect_services", [])],
        "state": [
            _state_part(report, "database", "PostgreSQL", "postgres", "postgresql@"),
            _state_part(report, "redis", "Redis", "redis", ("redis-server.", "valkey-server.")),
        ],
    }


def _answers(server: Mapping[str, Any] | None) -> tuple[str, str]:
    if server is None:
        return UNKNOWN, "was not queried"
    if server["problem"] or not server["ready"]:
        return BAD, "not ready"
    return GOOD, f"ready in {server['milliseconds']} ms"


def _server_part(report: Mapping[str, Any], server: Mapping[str, Any]) -> Part:
    health, detail = _answers(server)
    host, _colon, port = server["name"].rpartition(":")
    unit = next(
        (unit for unit in report.get("processes", []) if (unit["host"], unit["name"]) == (host, f"prefect-api@{port}.service")), None
    )
    if unit and not unit["active"]:
        health, detail = BAD, unit["state"]
    elif health == GOOD and server.get("drained"):
        health, detail = WARN, "drained"
    elif health == GOOD and unit and unit["stale"]:
        health, detail = WARN, "older settings"
    elif health == GOOD and server["version"] != report.get("version"):
        health, detail = WARN, f"runs {server['version']}"
    return Part(server["name"], "API server", health, detail)


def _of_unit(report: Mapping[str, Any], host: str, name: str | tuple[str, ...], what: str) -> Part:
    units = [unit for unit in report.get("processes", []) if unit["host"] == host and unit["name"].startswith(name)]
    if host in report.get("unreachable", []):
        return Part(host, what, UNKNOWN, "not reached by Ansible")
    if not units:
        return Part(host, what, BAD, "not there")
    bad = [unit for unit in units if not unit["active"]]
    if bad:
        return Part(host, what, BAD, bad[0]["state"])
    if any(unit["stale"] for unit in units):
        return Part(host, what, WARN, "older settings")
    return Part(host, what, GOOD, "running")


def _state_part(report: Mapping[str, Any], key: str, what: str, group: str, unit: str | tuple[str, ...]) -> Part:
    hosts = report.get("groups", {}).get(group, [])
    found = report.get(key) or {}
    name = hosts[0] if hosts else found.get("address", "?")
    if not found:
        return _of_unit(report, name, unit, what) if hosts else Part(name, what, UNKNOWN, "was not queried")
    if found["problem"]:
        return Part(name, what, BAD, "does not answer")
    return Part(name, what, GOOD, f"{found['version']}, answers")
