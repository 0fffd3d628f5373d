# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a balancer and the servers behind it have to agree about, seen from their variables. Each problem has its remedy."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

PING = "PREFECT_SERVER_API_WEBSOCKET_PING_INTERVAL"
PING_SECONDS = 20.0
CLIENT_PING_SECONDS = 20.0
"""Of the websocket library, which Prefect's clients leave as it is."""
PING_MARGIN = 5.0
"""A ping of a busy server may come that much later."""

BASE_PATH = "PREFECT_SERVER_API_BASE_PATH"

REQUEST_TIMEOUT = "PREFECT_API_REQUEST_TIMEOUT"
REQUEST_SECONDS = 60.0

BODIES = {
    "PREFECT_LOGGING_TO_API_BATCH_SIZE": 4_000_000,
    "PREFECT_LOGGING_TO_API_MAX_LOG_SIZE": 1_000_000,
    "PREFECT_SERVER_EVENTS_MAXIMUM_SIZE_BYTES": 1_500_000,
    "PREFECT_SERVER_API_MAX_PARAMETER_SIZE": 524_288,
}
"""The settings that say how large a request may get, with Prefect's defaults in bytes."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def balancer_problems(data: Mapping[str, Any]) -> list[str]:
    """Every problem, in a fixed order. Only what ``data`` holds is looked at; the filter's documentation has its keys.

    Raises ValueError if a key is unknown.
    """
    checks: dict[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
        "api_path": _api_path,
        "trusted_proxies": _trusted_proxies,
        "forwarded_allow_ips": _forwarded_allow_ips,
        "read_timeout": _read_timeout,
        "background_task_idle_timeout": _idle_timeout,
        "client_max_body_size": _body_size,
    }
    unknown = sorted(set(data) - set(checks) - {"settings", "balancers", "https"})
    if unknown:
        raise ValueError(f"{unknown[0]} is not known; known: {', '.join(sorted(checks))}")
    return [problem for key, check in checks.items() if data.get(key) is not None for problem in check(data)]


def _api_path(data: Mapping[str, Any]) -> Iterator[str]:
    given = next((text(value) for key, value in (data.get("settings") or {}).items() if text(key).upper() == BASE_PATH), "")
    if given and given.rstrip("/") != data["api_path"]:
        yield (
            f"prefect_settings.{BASE_PATH} is {given}, but the balancer, the health checks and the watchdog ask for {data['api_path']}."
            " Leave it out; a path in front of everything is for a proxy before the balancer to take away."
        )


def _trusted_proxies(data: Mapping[str, Any]) -> Iterator[str]:
    name = "nginx_trusted_proxies"
    values = data["trusted_proxies"]
    if isinstance(values, (str, Mapping)):
        yield f"{name} is not a list. Give the addresses or networks of the proxies, such as [10.0.0.5, 'fd00::/64']."
        return
    for value in map(text, values):
        problem = address_problem(value)
        if problem:
            yield f"{name} holds {value!r}, {problem}."
        elif ipaddress.ip_network(value).prefixlen == 0:
            yield (
                f"{name} holds {value!r}, which is every address there is: any client could then choose the address that is logged for it."
                " Give the addresses of the proxies."
            )


def address_problem(value: str) -> str:
    """What is wrong with an address or a network; nothing if it is one."""
    try:
        ipaddress.ip_network(value)
    except ValueError:
        pass
    else:
        return "which has a zone; give the address alone" if "%" in value else ""
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return (
            "which is neither an IP address nor a network, and names are not looked up there; give addresses, such as 10.0.0.5 or fd00::/64"
        )
    return f"which has bits beyond its network; the network is {network}, the one host {value.partition('/')[0]}"


def _forwarded_allow_ips(data: Mapping[str, Any]) -> Iterator[str]:
    """Names are taken for what they are not: no connection comes from one. Those of our own balancers only matter when links are https."""
    name = "prefect_api_forwarded_allow_ips"
    balancers = {text(each) for each in data.get("balancers") or []}
    for value in map(text, data["forwarded_allow_ips"]):
        problem = "" if value == "*" else address_problem(value)
        if problem and value not in balancers:
            yield f"{name} holds {value!r}, {problem}."
        elif problem and data.get("https"):
            yield (
                f"The API servers know the balancer {value} by that name only, and take X-Forwarded-Proto from addresses only: links and"
                f" redirects would begin with http://. Set prefect_address of that host to its IP address, or {name}."
            )


def _read_timeout(data: Mapping[str, Any]) -> Iterator[str]:
    timeout = float(data["read_timeout"])
    ping, set_by = _number(data, PING, PING_SECONDS)
    if ping <= 0:
        yield f"{set_by} is {ping:g}; it has to be more than 0, or servers do nothing but ping."
    elif ping + PING_MARGIN > timeout:
        yield (
            f"{set_by} is {ping:g} s and nginx_read_timeout {timeout:g} s: websockets on which nothing happens would be cut every"
            f" {timeout:g} s. Set nginx_read_timeout to {ping + PING_MARGIN:g} or more, or the interval to"
            f" {max(timeout - PING_MARGIN, 1):g} or less."
        )
    request, set_by = _number(data, REQUEST_TIMEOUT, REQUEST_SECONDS)
    if request > timeout:
        yield (
            f"{set_by} is {request:g} s and nginx_read_timeout {timeout:g} s: nginx would give up requests for which clients still"
            f" wait. Set nginx_read_timeout to {request:g} or more."
        )


def _idle_timeout(data: Mapping[str, Any]) -> Iterator[str]:
    idle = float(data["background_task_idle_timeout"])
    ping, set_by = _number(data, PING, PING_SECONDS)
    if 0 < ping <= CLIENT_PING_SECONDS and idle >= ping:
        yield (
            f"{set_by} is {ping:g} s and nginx_background_task_idle_timeout {idle:g} s: pings would keep task workers with a server that"
            f" background tasks no longer go to. Set nginx_background_task_idle_timeout to less than {ping:g}."
        )
    elif idle >= CLIENT_PING_SECONDS:
        yield (
            f"nginx_background_task_idle_timeout is {idle:g} s, and clients ping every {CLIENT_PING_SECONDS:g} s: pings would keep task"
            f" workers with a server that background tasks no longer go to. Set it to less than {CLIENT_PING_SECONDS:g}."
        )


def _body_size(data: Mapping[str, Any]) -> Iterator[str]:
    given = text(data["client_max_body_size"]).strip().lower()
    parts = re.fullmatch(r"([0-9]+)([kmg]?)", given)
    if not parts:
        yield f"nginx_client_max_body_size is {given!r}; it has to be a number with k, m or g, such as 16m."
        return
    size = int(parts[1]) * _UNITS[parts[2]]
    if not size:  # no limit
        return
    for name, default in BODIES.items():
        needed, set_by = _number(data, name, default)
        if needed > size:
            yield (
                f"{set_by} is {needed:.0f} bytes and nginx_client_max_body_size {given} ({size} bytes): such requests would be answered"
                f" with 413. Set nginx_client_max_body_size to {-(-int(needed) // _UNITS['m'])}m or more."
            )


def _number(data: Mapping[str, Any], name: str, default: float) -> tuple[float, str]:
    """A setting's number, and how a message calls it. What is not a number is for the release itself to refuse."""
    for key, value in (data.get("settings") or {}).items():
        if text(key).upper() == name:
            try:
                return float(text(value)), f"prefect_settings.{text(key)}"
            except ValueError:
                break
    return default, f"{name} (by default)"
