# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The state of a deployment, gathered from its hosts, as a person reads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._report import redis_cluster

BALANCER = "balancer"
"""What :mod:`prefect_info` calls the one server that is none."""

_MEMBER = ("PostgreSQL on", "Role", "State", "Behind", "Timeline", "Restart")
_SECONDS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def assemble(gathered: Mapping[str, Any]) -> dict[str, Any]:
    """The report of what a playbook has gathered.

    ``hosts`` is a list of ``[name, answer, ...]`` with what :mod:`prefect_unit_info` answered there; an answer of a host that was
    not asked is empty. ``releases`` has the same of :mod:`prefect_release_info`, and ``certificates`` of :mod:`prefect_certificate_info`.
    ``addresses`` has the same of :mod:`prefect_virtual_address_info`. ``schema`` is what :mod:`prefect_migration` found,
    ``postgres_cluster`` has ``answers`` of :mod:`prefect_cluster_info` by host, and ``redis_cluster`` what :mod:`redis_cluster` takes.
    Everything else is taken as it is.
    """
    hosts = [(str(name), answers) for name, *answers in gathered.get("hosts", [])]
    schema = gathered.get("schema") or {}
    releases = [{**answer, "host": str(name)} for name, answer in gathered.get("releases", []) if answer.get("release")]
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
        "releases": releases,
        "certificates": [
            {**each, "host": str(name), "name": key}
            for name, answer in gathered.get("certificates", [])
            for key, each in sorted(answer.get("certificates", {}).items())
        ],
        "postgres_cluster": _postgres_cluster(gathered.get("postgres_cluster") or {}),
        "address": _shared([(str(name), answer) for name, answer in gathered.get("addresses", []) if answer.get("address")]),
        "redis_cluster": redis_cluster.members(gathered.get("redis_cluster") or {}),
        "unreachable": [name for name, answers in hosts if any(answer.get("unreachable") for answer in answers)],
    }
    return {**report, "problems": problems(report)}


def _shared(answers: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The address that load balancers share, and the hosts that have it; nothing where they share none."""
    holders = [name for name, answer in answers if answer["held"]]
    return {"address": str(answers[0][1]["address"]), "holders": holders} if answers else {}


def table(report: Mapping[str, Any], now: Callable[[], float] = time.time) -> str:
    """The report as lines of text: what is wrong, then every process, every API server, the database and Redis."""
    parts = [_head(report)]
    processes = [_process(unit, now()) for unit in report.get("processes", [])]
    if processes:
        parts.append(columns(("PROCESS", "HOST", "STATE", "RUNNING FOR", "RESTARTS", "MEMORY", "AT BOOT", "SETTINGS"), processes))
    releases = [_release(release) for release in report.get("releases", [])]
    if releases:
        parts.append(columns(("RELEASE", "HOST", "PROVED", "PACKAGES", "FILES"), releases))
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
    parts += [columns([name.upper() for name in header], rows) for header, rows in members(report)]
    return "\n\n".join(parts)


def members(report: Mapping[str, Any]) -> list[tuple[Sequence[str], list[tuple[str, ...]]]]:
    """For each cluster the names of columns, and its members as rows."""
    postgres = [_member(member) for member in (report.get("postgres_cluster") or {}).get("members", [])]
    redis = [redis_cluster.row(member) for member in report.get("redis_cluster") or []]
    return [(header, rows) for header, rows in ((_MEMBER, postgres), (redis_cluster.HEADER, redis)) if rows]


def _postgres_cluster(gathered: Mapping[str, Any]) -> dict[str, Any]:
    """The cluster as the first member sees it that knows a primary, or else that knows anything; empty where there is no cluster."""
    answers = [answer.get("patroni", {}).get("cluster") or {} for _name, answer in gathered.get("answers", [])]
    if not answers:
        return {}
    seen = [answer for answer in answers if answer.get("leader")] or [answer for answer in answers if answer] or [{}]
    return {
        "leader": seen[0].get("leader", ""),
        "paused": seen[0].get("paused", False),
        "members": list(seen[0].get("members", [])),
        "hosts": [str(name) for name, _answer in gathered["answers"]],
        "synchronous": bool(gathered.get("synchronous")),
        "etcd": list(_etcd_problems([(str(name), answer["etcd"]) for name, answer in gathered["answers"] if answer.get("etcd")])),
    }


def _etcd_problems(found: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """What each host of a cluster says of its own member, and which of them the others do not count."""
    yield from (f"etcd on {host} does not answer: {its['problem'] or 'it has no data'}" for host, its in found if not its["members"])
    known: list[dict[str, Any]] = max((its["members"] for _host, its in found), key=len, default=[])
    names = [each["name"] for each in known]
    yield from (f"etcd on {host} is no member of its cluster" for host, its in found if its["members"] and host not in names)


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
    off, ends, held = switched_off(report), first_to_end(report), holder(report)
    lines = [f"Prefect {report.get('version', '?')} at {report.get('url', '?')}, schema {revision} ({standing})"]
    lines += [f"  {off}"] if off else []
    lines += [f"  {ends}"] if ends else []
    lines += [f"  {held}"] if held else []
    lines += [f"  PROBLEM: {problem}" for problem in problems] or ["  no problem found"]
    return "\n".join(lines)


def switched_off(report: Mapping[str, Any]) -> str:
    """What the settings switch off; empty for nothing."""
    names = [str(name) for name in report.get("switched_off", [])]
    return f"switched off by prefect_settings: {', '.join(names)}" if names else ""


def holder(report: Mapping[str, Any]) -> str:
    """Which load balancer has the address that they share; empty where they share none, or none has it."""
    shared = report.get("address") or {}
    return f"{shared['address']} is on {' and on '.join(shared['holders'])}" if shared.get("holders") else ""


def _address_problems(report: Mapping[str, Any]) -> list[str]:
    shared = report.get("address") or {}
    holders = shared.get("holders", [])
    if shared and not holders:
        return [f"no load balancer has {shared['address']} (nginx_virtual_address), where clients send their requests"]
    return [f"{' and '.join(holders)} have {shared['address']} (nginx_virtual_address) at once"] if len(holders) > 1 else []


def first_to_end(report: Mapping[str, Any]) -> str:
    """Which certificate of which host ends first; empty where none is known."""
    known = [each for each in report.get("certificates", []) if each["expires"]]
    if not known:
        return ""
    first = min(known, key=lambda each: int(each["expires"]))
    return f"certificates: {len(known)}; {_certificate(first)} ends first, in {first['days_left']} days ({first['not_after'][:10]})"


def _certificate(each: Mapping[str, Any]) -> str:
    return f"{each['name']} on {each['host']}"


def _certificate_problems(report: Mapping[str, Any]) -> list[str]:
    late = int(report.get("renew_days") or 0) / 2
    found = [f"{each['host']}: {each['problem']}" for each in report.get("certificates", []) if each["problem"]]
    return found + [
        f"the certificate {_certificate(each)} ends in {each['days_left']} days ({each['path']}); {_renewal(each)}"
        for each in report.get("certificates", [])
        if each["expires"] and not each["problem"] and each["days_left"] < late
    ]


def _renewal(certificate: Mapping[str, Any]) -> str:
    if certificate["name"] == "ca":
        return "replace the authority (docs/certificates.md)"
    return "run site.yml" if certificate["due"] else "put a new one there, and run site.yml"


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


def _release(release: Mapping[str, Any]) -> tuple[str, ...]:
    return (release["release"], release["host"], proved(release), str(release.get("packages", "-")), files(release))


def proved(release: Mapping[str, Any]) -> str:
    """Whether servers were started from its lock file before it came to the collection."""
    return "-" if "proved" not in release else "yes" if release["proved"] else "no"


def files(release: Mapping[str, Any]) -> str:
    """Whether the files are those that were installed."""
    if not release.get("recorded"):
        return "not known"
    return "ALTERED" if release["altered"] else "as installed"


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


def _member(member: Mapping[str, Any]) -> tuple[str, ...]:
    behind = "-" if member["role"] == "leader" else "?" if member["lag"] is None else size(member["lag"]).replace("-", "0")
    role = {"leader": "primary", "sync_standby": "replica, synchronous", "quorum_standby": "replica, synchronous"}.get(
        member["role"], member["role"]
    )
    return (member["name"], role, member["state"], behind, str(member["timeline"] or "?"), "WAITS" if member["pending_restart"] else "-")


def _cluster_problems(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    members = found["members"]
    if not found["leader"]:
        yield "the PostgreSQL cluster has no primary, or none of its members knows it"
    there = {member["name"] for member in members}
    lines = {member["name"]: member["timeline"] for member in members}
    yield from (f"PostgreSQL on {host} is no member of its cluster" for host in found["hosts"] if members and host not in there)
    for member in members:
        if member["state"] not in ("running", "streaming"):
            yield f"PostgreSQL on {member['name']} is {member['state'] or 'in an unknown state'}"
        elif (line := lines.get(found["leader"])) not in (None, member["timeline"]):
            yield f"PostgreSQL on {member['name']} is on timeline {member['timeline']}, and the primary, {found['leader']}, on {line}"
    if found["leader"] and found["synchronous"] and not any(member["role"] in ("sync_standby", "quorum_standby") for member in members):
        yield "no replica of PostgreSQL confirms what the primary writes"
    yield from found.get("etcd", [])
    if found["paused"]:
        yield "Patroni is paused, so that no other host takes over from the primary: patronictl -c /etc/patroni/config.yml resume"


def redundancy(report: Mapping[str, Any]) -> list[str]:
    """What the clusters of PostgreSQL and Redis, and load balancers with one address, lack to survive the loss of a host."""
    found = _address_problems(report) + list(_cluster_problems(report.get("postgres_cluster") or {}))
    return found + list(redis_cluster.problems(report.get("redis_cluster") or []))


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
    for release in report.get("releases", []):
        what = f"the release {release['release']} on {release['host']}"
        if release.get("problem"):
            found.append(f"{what} {release['problem']}")
        elif release["altered"]:
            found.append(f"{what} is not as it was installed: {', '.join(release['altered'])}; remove its folder and run site.yml")
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
    found += _certificate_problems(report) + redundancy(report)
    found += [
        f"PostgreSQL on {member['name']} has to be restarted for a changed setting; run site.yml"
        for member in (report.get("postgres_cluster") or {}).get("members", [])
        if member["pending_restart"]
    ]
    pending = len(report.get("schema", {}).get("pending", []))
    if pending:
        found.append(f"the schema is {pending} revisions behind the release; run site.yml")
    return found
