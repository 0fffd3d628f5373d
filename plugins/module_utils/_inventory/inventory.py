# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an inventory, seen from its variables alone. Each problem is one sentence or two with its remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.minimums import POSTGRES
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting, text
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.names import nearest_slip, similar_group
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.rolling import rolling_batches
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.names import names_for
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.retention import (
    retention,
    retention_problems,
    retention_settings,
)

_SQLITE = re.compile(r"\bsqlite(\+\w+)?\b", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# What PostgreSQL, its pg_hba.conf, connection strings and Redis' ACL take without a second thought.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@$+-]*\Z")
_LONGEST_NAME = 63
_DATABASE_URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_SERVICES = {
    "postgres": ("prefect_database_host", "the address of the PostgreSQL server to use instead"),
    "redis": ("prefect_redis_host", "the address of the Redis server to use instead"),
    "nginx": ("prefect_api_url", "the URL of the balancer to use instead, such as https://prefect.example.com/api"),
}
# Of these one host is a single server, and three or more are a cluster.
_CLUSTERS = ("postgres", "redis")
_NAMED_HOSTS = 5
_OTHER_GROUPS = frozenset({"all", "ungrouped", "prefect"})


def inventory_problems(data: Mapping[str, Any]) -> list[str]:
    """Every problem with an inventory, in a fixed order. Only what ``data`` holds is looked at; the filter's documentation has its keys.

    Raises ValueError if a key is unknown.
    """
    checks: dict[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
        "groups": _groups,
        "endpoints": _endpoints,
        "listeners": _listeners,
        "machines": _machines,
        "secrets": _secrets,
        "names": _names,
        "version": _version,
        "settings": _settings,
        "retention": _retention,
        "serial": _serial,
    }
    unknown = sorted(set(data) - set(checks) - {"inventory_groups", "optional_groups", "versions", "lock_file", "owned"})
    if unknown:
        raise ValueError(f"{unknown[0]} is not known; known: {', '.join(sorted(checks))}")
    return [problem for key, check in checks.items() if data.get(key) is not None for problem in check(data)]


def host_problems(problems: Mapping[str, Iterable[str]]) -> list[str]:
    """The problems of hosts, each once and after the names of the hosts that have it; those that all of them have without a name."""
    hosts_of: dict[str, list[str]] = {}
    for host, found in problems.items():
        for problem in dict.fromkeys(map(text, found)):
            hosts_of.setdefault(problem, []).append(text(host))
    return [problem if len(hosts) == len(problems) else f"{_some(hosts)}: {problem}" for problem, hosts in hosts_of.items()]


def _some(hosts: list[str]) -> str:
    named = ", ".join(hosts[:_NAMED_HOSTS])
    return named if len(hosts) <= _NAMED_HOSTS else f"{named} and {len(hosts) - _NAMED_HOSTS} more"


def _groups(data: Mapping[str, Any]) -> Iterator[str]:
    endpoints = data.get("endpoints") or {}
    strange = _strange_groups(data)
    for group, hosts in data["groups"].items():
        names = [text(host) for host in hosts or []]
        if names:
            if group in _CLUSTERS and len(names) == 2:
                yield (
                    f"The group {group} has two hosts, {' and '.join(names)}. When one of two does not answer, the other cannot know"
                    " whether it is gone or cut off, and may not replace it: that takes a majority. Add a third host, or leave one."
                )
            continue
        similar = similar_group(group, strange)
        hint = f" The inventory has a group {similar}, which no playbook knows: if it is meant, rename it to {group}." if similar else ""
        if group not in _SERVICES:
            yield f"The group {group} has no host. Put at least one into the inventory.{hint}"
            continue
        variable, meaning = _SERVICES[group]
        if not text(endpoints.get(variable)).strip():
            yield f"The group {group} is empty and {variable} is not set. Put a host into the group, or set {variable} to {meaning}.{hint}"
    for group in map(text, data.get("optional_groups") or []):
        slip = None if list((data.get("inventory_groups") or {}).get(group) or []) else nearest_slip(group, strange)
        if slip:
            yield f"The group {slip} is not known, and {group} has no host. Rename {slip} to {group}, or to something less similar."


def _strange_groups(data: Mapping[str, Any]) -> list[str]:
    """The groups of the inventory that have hosts and that no playbook knows."""
    known = {*data["groups"], *(data.get("optional_groups") or []), *_OTHER_GROUPS}
    return sorted(text(group) for group, hosts in (data.get("inventory_groups") or {}).items() if group not in known and list(hosts or []))


def _endpoints(data: Mapping[str, Any]) -> Iterator[str]:
    for name, value in data["endpoints"].items():
        plain = text(value).strip()
        if _SQLITE.match(plain):
            yield f"{name} names an SQLite database. Several servers need PostgreSQL {POSTGRES} or newer."
        elif name.endswith("_url") and plain and not re.match(r"https?://[^/@\s]+(/|$)", plain):
            yield f"{name} must begin with http:// or https:// and hold no login, unlike {_without_login(plain)!r}."
        elif name.endswith("_host") and re.search(r"[][/@\s]", plain):
            yield f"{name} must be a bare name or address, unlike {_without_login(plain)!r}."
        elif not plain.isascii():
            yield f"{name} holds a character beyond ASCII: {plain!r}. Give the name as DNS has it (xn--...), or an address."


def _listeners(data: Mapping[str, Any]) -> Iterator[str]:
    seen: dict[tuple[str, str], list[str]] = {}
    for each in data["listeners"]:
        if not text(each["address"]).isascii():
            yield (
                f"The address of {text(each['host'])} holds a character beyond ASCII: {text(each['address'])!r}. Set ansible_host or"
                " prefect_address to the name as DNS has it (xn--...), or to an IP address."
            )
        key = (text(each["address"]).lower(), text(each["port"]))
        what = f"{text(each['what'])} on " if each.get("what") else ""
        seen.setdefault(key, []).append(f"{what}{text(each['host'])}")
    for (address, port), users in seen.items():
        if len(users) > 1:
            yield (
                f"{host_and_port(address, port)} is used more than once: by {' and by '.join(users)}."
                " Give each its own address (prefect_address) or port."
            )


def _machines(data: Mapping[str, Any]) -> Iterator[str]:
    """Machines of one host name: a clone of another one, or one that was never given its own."""
    by_name: dict[str, dict[str, list[str]]] = {}
    for host, found in data["machines"].items():
        full = text(found["hostname"]).lower().rstrip(".")
        by_name.setdefault(full.partition(".")[0], {}).setdefault(full, []).append(text(host))
    for short, by_full in by_name.items():
        # A short name may be that of any machine whose full name begins with it; two full names that differ are two names.
        equal = [[host for hosts in by_full.values() for host in hosts]] if short in by_full else list(by_full.values())
        for hosts in (each for each in equal if len(each) > 1):
            identities = [text(data["machines"][host].get("machine_id")) for host in hosts]
            cloned = all(identities) and len(set(identities)) < len(identities)
            why = ", and one /etc/machine-id: one is a clone of the other" if cloned else ""
            yield (
                f"{' and '.join(hosts)} have one host name, {short}{why}."
                " Their processes and logs could not be told apart. Give each a name of its own (hostnamectl set-hostname NAME)"
                f"{', a new identity (rm /etc/machine-id; systemd-machine-id-setup)' if cloned else ''} and reboot it."
            )


def _secrets(data: Mapping[str, Any]) -> Iterator[str]:
    for name, value in data["secrets"].items():
        secret = text(value)
        if not secret.strip():
            yield f"{name} is missing or empty. Set it, in a file encrypted with ansible-vault."
        elif _CONTROL.search(secret):
            yield f"{name} holds a line break or another control character, which no unit can be given. Choose another value."
        elif not _is_unicode(secret):
            yield f"{name} is not valid Unicode, which no unit can be given. Choose another value."
        elif name.endswith("auth_string"):
            yield from _auth_string(name, secret)


def _auth_string(name: str, secret: str) -> Iterator[str]:
    if not all(part.strip() for part in secret.partition(":")[::2]):
        yield f"{name} must have the form user:password, with neither of them empty."
    elif not secret.isascii() or "\t" in secret:
        yield (
            f"{name} holds a character beyond printable ASCII. Prefect compares it as ASCII, and would answer every request with an error."
            " Choose a user and a password of letters, digits and punctuation of ASCII."
        )


def _is_unicode(secret: str) -> bool:
    try:
        secret.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _names(data: Mapping[str, Any]) -> Iterator[str]:
    for name, value in data["names"].items():
        plain = text(value)
        if name == "prefect_redis_username" and not plain:
            continue  # a Redis without users, only with a password
        if not _PLAIN_NAME.match(plain) or len(plain) > _LONGEST_NAME:
            yield (
                f"{name} is {plain!r}. It must have 1 to {_LONGEST_NAME} letters, digits and _ . @ $ + - of ASCII, and begin with a letter,"
                " a digit or _. Rename it on the server, or use another one."
            )


def _version(data: Mapping[str, Any]) -> Iterator[str]:
    version, known = text(data["version"]), [text(each) for each in data.get("versions") or []]
    if not data.get("lock_file") and version not in known:
        yield (
            f"There is no lock file for prefect_version {version or '(empty)'}; there are some for {', '.join(known) or 'none'}. Choose one"
            f" of them, make one with `make lock VERSION={version}`, or set prefect_lock_file to yours."
        )


def _settings(data: Mapping[str, Any]) -> Iterator[str]:
    names = names_for(text(data.get("version")))
    owned = {text(name): text(variable) for name, variable in (data.get("owned") or {}).items()}
    yield from (f"prefect_settings: {problem}" for problem in names.problems(data["settings"]))
    for name, value in sorted((text(name), value) for name, value in data["settings"].items()):
        plain = setting(value)
        canonical = names.canonical(name)
        other = "" if canonical == name else f" ({canonical} by its name of today)"
        if _SQLITE.search(plain) and canonical.startswith("PREFECT_SERVER_DATABASE"):
            yield (
                f"prefect_settings sets {name} to SQLite. Several servers need PostgreSQL {POSTGRES} or newer;"
                " leave it out and set prefect_database_host and its companions."
            )
        elif canonical == _DATABASE_URL:
            yield f"prefect_settings may not hold {name}: it would win over prefect_database_host and its companions. Set those instead."
        elif canonical in owned:
            instead = f"Set {owned[canonical]} instead." if owned[canonical] else "Leave it out: several servers need it as it is."
            yield f"prefect_settings may not hold {name}{other}, which the roles set themselves. {instead}"
        elif _CONTROL.search(plain):
            yield f"prefect_settings.{name} holds a line break or another control character, which no unit can be given."


def _retention(data: Mapping[str, Any]) -> Iterator[str]:
    problems = retention_problems(data["retention"])
    yield from problems
    if not problems:
        try:
            retention_settings(retention(data["retention"]), names_for(text(data.get("version"))))
        except ValueError as error:
            yield f"prefect_retention: {error}"


def _serial(data: Mapping[str, Any]) -> Iterator[str]:
    try:
        rolling_batches((data.get("groups") or {}).get("prefect_api") or [], data["serial"])
    except ValueError as error:
        yield f"{error}."


def _without_login(url: str) -> str:
    return re.sub(r"//[^/]*@", "//", url)
