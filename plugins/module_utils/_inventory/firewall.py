# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Who may reach what on a host, from what its components say of their listeners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.topology import group_addresses

ANYWHERE = "anywhere"


def firewall_openings(
    components: Iterable[Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Any],
    more: Mapping[str, Sequence[str]] | None = None,
) -> list[dict[str, Any]]:
    """What a firewall has to accept: ``what``, ``port``, ``protocols`` and ``sources``, which are names and addresses, or ``anywhere``.

    The port is 0 for a protocol without ports.

    ``components`` are those of the host. ``more`` has further sources by the component's name; where a component accepts all clients,
    those and the hosts of the deployment are then the only ones. Raises ValueError for a component that the host's list does not have.
    """
    wanted = {text(name): [text(source) for source in sources] for name, sources in (more or {}).items()}
    openings = []
    for component in components:
        extra = wanted.get(text(component["name"]), [])
        for listener in component["listeners"]:
            described = [text(source) for source in listener.get("sources", []) if text(source)]
            sources = [*(source for source in described if source != ANYWHERE or not extra), *extra] if described else []
            if sources:
                openings.append(_opening(listener, _addresses(sources, groups, hostvars)))
    return openings


def _opening(listener: Mapping[str, Any], sources: list[str]) -> dict[str, Any]:
    protocols = list(listener.get("protocols", ["tcp"]))
    return {"what": text(listener.get("what")), "port": int(listener.get("port", 0)), "protocols": protocols, "sources": sources}


def _addresses(sources: Iterable[str], groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any]) -> list[str]:
    """Groups and hosts of the inventory by their addresses, anything else as it is."""
    found: list[str] = []
    for source in sources:
        if source in groups:
            found += group_addresses(groups[source], hostvars)
        elif source in hostvars:
            found += group_addresses([source], hostvars)
        else:
            found.append(source)
    return [ANYWHERE] if ANYWHERE in found else sorted(set(found))
