# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The state of a deployment, gathered from its hosts, as a person reads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

BALANCER = "balancer"
"""What :mod:`prefect_info` calls the one server that is none."""

_SECONDS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def assemble(gathered: Mapping[str, Any]) -> dict[str, Any]:
    """The report of what a playbook has gathered.

    ``hosts`` is a list of ``[name, answer, ...]`` with what :mod:`prefect_unit_info` answered there; an answer of a host that was
    not asked is empty. ``schema`` is what :mod:`prefect_migration` found. Everything else is taken as it is.
    """
    hosts = [(str(name), answers) for name, *answers in gathered.get("hosts", [])]
    schema = gathered.get("schema") or {}
    drained = {f"{name}:{port}" for name, answers in hosts for answer in answers for port in answer.get("drained", [])}
    report = {
        **{key: value for key, value in gathered.items() if key != "hosts"},
        "schema": {"current": schema.get("before", ""), "head": schema.get("head", ""), "pending": list(schema.get("pending", []))},
        "processes": [
            {**unit, "host": name, "drained": f"{name}:{_port(unit['name'])}" in drained}
            for name, answers in hosts
            for answer in answers
            for unit in answer.get("units", [])
        ],
        "servers": [{**server, "drained": server["name"] in drained} for server in gathered.get("servers", [])],
        "unreachable": [name for name, answers in hosts if any(answer.get("unreachable") for answer in answers)],
    }
    return {**report, "problems": problems(report)}


def table(report: Mapping[str, Any], now: Callable[[], float] = time.time) -> str:
    """The report as lines of text: what is wrong, then every process, every API server, the database and Redis."""
    parts = [_head(report)]
    processes = [_process(unit, now()) for unit in report.get("processes", [])]
    if processes:
        parts.append(columns(("PROCESS", "HOST", "STATE", "RUNNING FOR", "RESTARTS", "MEMORY", "AT BOOT", "SETTINGS"), processes))
    servers = [_server(server) for server in report.get("servers", [])]
    if servers:
        parts.append(columns(("SERVER", "URL", "LIVE", "READY", "IN SERVICE", "VERSION", "READY IN"), servers))
    workers = [(worker["name"], worker["pool"], "yes" if worker["online"] else "NO") for worker in report.get("workers", [])]
    if workers:
        parts.append(columns(("WORKER", "WORK POOL", "ONLINE"), workers))
    state = [_database(report["database"])] if report.get("database") else []
    state += [_redis(report["redis"])] if report.get("redis") else []
    if state:
        parts.append(columns(("STATE", "ADDRESS", "VERSION", "USED", "MORE"), state))
    return "\n\n".join(parts)


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A header and rows, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in [header, *rows])


def duration(seconds: float) -> str:
    """The two largest units of a time, such as ``3h 12m``."""
    left = int(seconds)
    words: list[str] = []
    for unit, size in _SECONDS:
        if left >= size or (unit == "s" and not words):
            words.append(f"{left // size}{unit}")
            left %= size
    return " ".join(words[:2])


def size(number: float) -> str:
    """Bytes as MB, such as ``190.0 MB``; ``-`` for none."""
    return f"{number / 1e6:.1f} MB" if number else "-"


def _head(report: Mapping[str, Any]) -> str:
    schema = report.get("schema", {})
    revision = schema.get("current") or "none"
    pending = len(schema.get("pending", []))
    standing = f"{pending} revisions behind the release" if pending else "the release's head"
    problems = list(report.get("problems", []))
    off = switched_off(report)
    lines = [f"Prefect {report.get('version', '?')} at {report.get('url', '?')}, schema {revision} ({standing})"]
    lines += [f"  {off}"] if off else []
    lines += [f"  PROBLEM: {problem}" for problem in problems] or ["  no problem found"]
    return "\n".join(lines)


def switched_off(report: Mapping[str, Any]) -> str:
    """What the settings switch off; empty for nothing."""
    names = [str(name) for name in report.get("switched_off", [])]
    return f"switched off by prefect_settings: {', '.join(names)}" if names else ""


def _process(unit: Mapping[str, Any], now: float) -> tuple[str, ...]:
    running = unit["active"] and unit["since"]
    return (
        unit["name"].removesuffix(".service"),
        unit["host"],
        unit["state"],
        duration(now - unit["since"]) if running else "-",
        str(unit["restarts"]),
        size(unit["memory_bytes"]),
        "yes" if unit["enabled"] else "NO",
        "OLDER" if unit["stale"] else "current",
    )


def _server(server: Mapping[str, Any]) -> tuple[str, ...]:
    def word(good: bool) -> str:
        return "yes" if good else "NO"

    taken = f"{server['milliseconds']} ms" if server["ready"] else "-"
    service = "-" if server["name"] == BALANCER else "DRAINED" if server.get("drained") else word(server["ready"])
    return (server["name"], server["url"], word(server["live"]), word(server["ready"]), service, server["version"] or "-", taken)


def _port(unit: str) -> str:
    """The port in the name of an API server's unit, ``prefect-api@4200.service``; empty for all other units."""
    name, _at, instance = unit.removesuffix(".service").partition("@")
    return instance if name == "prefect-api" else ""


def keeps(database: Mapping[str, Any]) -> str:
    """How long it keeps what, to follow its size; empty when that is not known."""
    kinds = [f"{kind.replace('_', ' ')} {kept}" for kind, kept in (database.get("keeps") or {}).items()]
    return f", keeps {', '.join(kinds)}" if kinds else ""


def _database(database: Mapping[str, Any]) -> tuple[str, ...]:
    used = f"{database['connections']} of {database['max_connections']} connections"
    return ("PostgreSQL", database["address"], database["version"] or "-", used, f"{size(database['size_bytes'])} on disk{keeps(database)}")


def _redis(redis: Mapping[str, Any]) -> tuple[str, ...]:
    limit = size(redis["max_memory_bytes"]) if redis["max_memory_bytes"] else "no limit"
    more = f"{redis['clients']} clients, {redis['eviction'] or '-'}, " + ("appends to a file" if redis["appends"] else "NOT persistent")
    return ("Redis", redis["address"], redis["version"] or "-", f"{size(redis['memory_bytes'])} of {limit}", more)


def problems(report: Mapping[str, Any]) -> list[str]:
    """What a person should look at, each in one sentence."""
    found = [f"{host} cannot be reached by Ansible" for host in report.get("unreachable", [])]
    for unit in report.get("processes", []):
        where = f"{unit['name']} on {unit['host']}"
        if not unit["active"]:
            found.append(f"{where} is {unit['state']}")
        elif unit["stale"]:
            found.append(f"{where} runs with an older release or older settings than those on disk; run site.yml")
        if not unit["enabled"]:
            found.append(f"{where} does not start at boot")
        if unit.get("drained"):
            found.append(f"{where} is drained: balancers get nothing through to it; site.yml puts it back when it is healthy")
    found += [f"{server['name']}: {server['problem']}" for server in report.get("servers", []) if server["problem"]]
    found += [
        f"{server['name']} runs {server['version']}, not {report['version']}"
        for server in report.get("servers", [])
        if server["version"] and server["version"] != report.get("version")
    ]
    found += [
        f"{name} at {report[key]['address']}: {report[key]['problem']}"
        for name, key in (("PostgreSQL", "database"), ("Redis", "redis"))
        if report.get(key, {}).get("problem")
    ]
    found += [
        f"the worker {worker['name']} of the work pool {worker['pool']} is not online"
        + (f": {worker['problem']}" if worker["problem"] else "")
        for worker in report.get("workers", [])
        if not worker["online"]
    ]
    pending = len(report.get("schema", {}).get("pending", []))
    if pending:
        found.append(f"the schema is {pending} revisions behind the release; run site.yml")
    return found
