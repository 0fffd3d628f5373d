# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a deployment lacks already, for a change that takes something away and has to wait until it is back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.topology import group_addresses
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.workers import workers
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import BALANCER, assemble
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import redundancy as lost


def degraded(variables: Mapping[str, Any]) -> Iterator[str]:
    """What does not work, by ``common_status_report``. Nothing is expected of the hosts ``common_leaving`` and ``common_arriving``."""
    report = variables["common_status_report"]
    expected_of = _without(variables)
    for name, *answers in report["hosts"]:
        if name not in expected_of:
            yield from _host(text(name), answers)
    absent = _places(expected_of, report, variables)
    servers = [
        server for server in report["servers"] if server["name"].rpartition(":")[0] not in expected_of and server["name"] not in absent
    ]
    yield from (f"{server['name']}: {server['problem']}." for server in servers if server["problem"])
    yield from (
        f"{what} at {report[key]['address']}: {report[key]['problem']}."
        for what, key in (("PostgreSQL", "database"), ("Redis", "redis"))
        if report[key].get("problem")
    )
    offline = _workers(expected_of, variables)
    yield from (
        f"The worker {worker['name']} of the work pool {worker['pool']} is not online."
        for worker in report["workers"]
        if not worker["online"] and (worker["pool"], worker["name"]) not in offline
    )
    if not report["servers"] and report["groups"].get("prefect_api"):
        yield "No host could query the API servers."
    yield from redundancy(variables)


def redundancy(variables: Mapping[str, Any]) -> Iterator[str]:
    """Of that, what the clusters lack: with it, the loss of one host more, or a restart, may be the loss of the service."""
    expected_of = _without(variables)
    report = variables["common_status_report"]
    serving = _serving(variables)
    addresses = _others(report.get("addresses") or [], expected_of)
    redis = _cluster(report.get("redis_cluster") or {}, expected_of)
    shown = assemble(
        {
            "addresses": addresses + _holder(serving, addresses, variables),
            "postgres_cluster": _cluster(report.get("postgres_cluster") or {}, expected_of),
            "redis_cluster": _with_master(serving, redis, variables),
        }
    )
    if shown["postgres_cluster"]:
        # For as long as its time is not over, the cluster knows it.
        members = shown["postgres_cluster"]["members"]
        shown["postgres_cluster"]["members"] = [member for member in members if member["name"] not in expected_of]
    yield from (f"{problem}." for problem in lost(shown))


def _without(variables: Mapping[str, Any]) -> list[str]:
    return [text(name) for key in ("common_leaving", "common_arriving") if (name := variables.get(key))]


def _serving(variables: Mapping[str, Any]) -> list[str]:
    """The host that leaves, unless it is dead: it is asked no longer, and does its part until it is drained."""
    name = text(variables.get("common_leaving") or "")
    dead = variables.get("common_arriving") or boolean(variables.get("prefect_remove_dead", False))
    return [] if dead or name not in (variables.get("hostvars") or {}) else [name]


def _holder(serving: Iterable[str], addresses: Iterable[Sequence[Any]], variables: Mapping[str, Any]) -> list[list[Any]]:
    """Of load balancers the one that leaves, where none of the others has their address."""
    shared = [answer for _name, answer in addresses if answer.get("address")]
    if not shared or any(answer["held"] for answer in shared):
        return []
    return [[name, {**shared[0], "held": True}] for name in serving if name in variables["groups"].get("nginx", [])]


def _with_master(serving: Iterable[str], redis: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """A Redis cluster with the host that leaves, where the Sentinels follow it."""
    found = {**redis}
    masters = [text(view["master"]) for _name, answer in redis.get("answers", []) for view in answer.get("sentinels") or []]
    for name, address in ((name, group_addresses([name], variables["hostvars"])[0]) for name in serving):
        if followed := [master for master in masters if master.rpartition(":")[0].strip("[]") == address]:
            answer = {"replication": {"role": "master", "offset": 0}, "sentinels": [{"master": followed[0]}]}
            found = {"answers": [*found["answers"], [name, answer]], "addresses": [*found["addresses"], [name, address]]}
    return found


def _host(name: str, answers: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    answers = list(answers)
    if any(answer.get("unreachable") for answer in answers):
        yield f"{name} cannot be reached by Ansible."
    elif not all("units" in answer for answer in answers):
        yield f"{name} could not be queried; the reason is above."
    units = [unit for answer in answers for unit in answer.get("units", [])]
    yield from (f"{unit['name']} on {name} is {unit['state']}." for unit in units if not unit["active"])
    drained = [text(port) for answer in answers for port in answer.get("drained", [])]
    if drained:
        yield f"The API server on port {' and '.join(drained)} of {name} is drained; the playbook site puts it back."


def _places(hosts: Iterable[str], report: Mapping[str, Any], variables: Mapping[str, Any]) -> list[str]:
    """The balancer, if its address is that of one of the hosts."""
    known = [host for host in hosts if host in (variables.get("hostvars") or {})]
    there = urlsplit(text(report.get("url"))).hostname
    return [BALANCER] if there and there in group_addresses(known, variables.get("hostvars") or {}) else []


def _workers(hosts: Iterable[str], variables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The workers of these hosts, as far as the inventory has them."""
    known = [host for host in hosts if host in (variables.get("hostvars") or {})]
    return [(each["pool"], each["worker"]) for each in workers(known, variables["hostvars"])] if known else []


def _cluster(gathered: Mapping[str, Any], expected_of: Iterable[str]) -> dict[str, Any]:
    lists = {key: _others(gathered[key], expected_of) for key in ("answers", "addresses") if key in gathered}
    return {**gathered, **lists}


def _others(named: Iterable[Iterable[Any]], expected_of: Iterable[str]) -> list[list[Any]]:
    return [[name, *rest] for name, *rest in named if text(name) not in expected_of]
