# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The members of a Redis cluster as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HEADER = ("Redis on", "Role", "Follows", "Behind", "Its Sentinel follows")


def members(gathered: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One for each host: ``answers`` has what :mod:`prefect_redis_info` answered there, ``addresses`` the addresses of the hosts."""
    named = {str(address): str(host) for host, address in gathered.get("addresses", [])}
    answers = [(str(host), answer.get("replication") or {}, answer) for host, answer in gathered.get("answers", [])]
    written = max((role["offset"] for _host, role, _answer in answers if role.get("role") == "master"), default=None)
    return [
        {
            "host": host,
            "role": role.get("role", ""),
            "master": _name(named, role.get("master", "")),
            "link": role.get("link", ""),
            "replicas": sum(each["state"] == "online" for each in role.get("replicas", [])),
            "behind": max(written - role["offset"], 0) if role.get("role") == "replica" and written is not None else None,
            "sentinel": _name(named, next((view["master"] for view in answer.get("sentinels", [])), "")),
            "tilt": any(view.get("tilt") for view in answer.get("sentinels", [])),
            "problem": str(answer.get("problem", "") or ("cannot be reached" if not role else "")),
        }
        for host, role, answer in answers
    ]


def _name(named: Mapping[str, str], address: str) -> str:
    return named.get(address.rpartition(":")[0].strip("[]"), address)


def row(member: Mapping[str, Any]) -> tuple[str, ...]:
    """A member as cells of a table."""
    follows = {"master": f"{member['replicas']} replicas", "replica": f"{member['master']}, {member['link']}"}.get(member["role"], "-")
    behind = "-" if member["behind"] is None else f"{member['behind']} bytes"
    return (member["host"], member["role"] or "?", follows, behind, member["sentinel"] or "NO ANSWER")


def problems(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a person should look at."""
    followed = sorted({member["sentinel"] for member in found if member["sentinel"]})
    if len(followed) > 1:
        yield f"Redis's Sentinels follow different masters: {', '.join(followed)}"
    if found and not any(member["role"] == "master" and member["host"] in followed for member in found):
        yield "no Redis is the master that the Sentinels follow"
    for member in found:
        if not member["role"]:
            yield f"Redis on {member['host']} does not say what it is: {member['problem']}"
        elif member["role"] == "replica" and member["link"] != "up":
            yield f"Redis on {member['host']} does not replicate from {member['master']}"
        if not member["sentinel"]:
            yield f"Sentinel on {member['host']} does not answer"
        if member["tilt"]:
            yield f"Sentinel on {member['host']} takes part in no failover for 30 seconds: it stood still, or its clock was changed (TILT)"
