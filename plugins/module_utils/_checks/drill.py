# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether a drill can begin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

_NUMBERS = tuple(f"prefect_drill_{name}" for name in ("before", "seconds", "after", "rate", "clients"))


def prefect_drill(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__prefect_drill_given`` are the scenarios that were asked for, ``__prefect_drill_hostless`` those that no host could have."""
    table, given, groups = variables["__prefect_drill_table"], variables["__prefect_drill_given"], variables["groups"]
    unknown = [name for name in given if name not in table]
    if unknown:
        yield f"There is no scenario {', '.join(unknown)} (prefect_drill_scenarios); there are {', '.join(table)}."
    apis = groups.get("prefect_api") or []
    if len(apis) <= 1:
        yield ("There is only one API host (group prefect_api), so there is nothing that could take over, and a drill would be an outage.")
    impossible = [name for name in given if name in variables["__prefect_drill_hostless"]]
    if impossible:
        yield (
            f"No host of this inventory runs what {', '.join(impossible)} (prefect_drill_scenarios) would break: a managed service is for"
            " its provider to drill, and a cluster has drills of its own, as a single server has (docs/drill.md)."
        )
    api, services = text(variables["prefect_drill_api_host"]), text(variables["prefect_drill_services_host"])
    strangers = [api] * (api not in apis) + [services] * (bool(services) and services not in (groups.get("prefect_services") or []))
    if strangers and apis:
        yield f"{', '.join(strangers)} (prefect_drill_api_host, prefect_drill_services_host) is no host of the group that it is for."
    yield from _limits(variables["prefect_drill_limits"], table, variables["__prefect_drill_limits"])
    if not all(re.fullmatch("[1-9][0-9]*", text(variables[name])) for name in _NUMBERS):
        yield f"{', '.join(_NUMBERS[:-1])} and {_NUMBERS[-1]} have to be 1 or more."
    yield from _confirmed(text(variables["prefect_drill_confirm"]), text(variables["prefect_drill_url"]))


def _limits(given: Mapping[str, Any], table: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    measures = list(dict.fromkeys(measure for limits in known.values() for measure in limits))
    strange = [name for name in given if name not in table]
    strange += [measure for limits in given.values() for measure in limits if measure not in measures]
    if strange:
        yield (
            f"prefect_drill_limits has {', '.join(strange)}; it takes scenarios ({', '.join(table)}) and in them measures"
            f" ({', '.join(measures)})."
        )


def _confirmed(confirmed: str, url: str) -> Iterator[str]:
    if confirmed and confirmed == url:
        return
    why = (
        f'prefect_drill_confirm is "{confirmed}", which is not the address of this service.'
        if confirmed
        else "This breaks parts of a running service on purpose, and prefect_drill_confirm is not set."
    )
    yield f"{why} To go on, add: -e prefect_drill_confirm={url}"
