# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of Redis, and with a Redis that a host has already."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.minimums import REDIS
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text, version_number

_OWNED = frozenset(
    "aclfile appendonly bind include maxmemory maxmemory-policy port protected-mode requirepass save user".split()  # noqa: SIM905  one line
)
_OWNED_WITH_TLS = frozenset({"tls-auth-clients", "tls-cert-file", "tls-key-file", "tls-port"})
_RESERVED = frozenset({"default", "selfhosted-prefect"})
_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_EMPTY_SNAPSHOT = 200  # bytes; one without a key has some 90


def redis(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__redis_other`` is the state of the configuration of the package that is not ``redis_package``."""
    yield from _package(variables)
    user = text(variables["prefect_redis_username"])
    if not _NAME.fullmatch(user) or user in {*_RESERVED, *map(text, variables["redis_acl_users"])}:
        yield (
            f'prefect_redis_username is "{user}"; it takes letters, digits and . _ @ -, and neither the name "default", which has to stay'
            ' switched off, nor "selfhosted-prefect", which is the role\'s own, nor one of redis_acl_users.'
        )
    if not text(variables.get("prefect_redis_password")):
        yield "prefect_redis_password is missing or empty; Redis accepts no client without one."
    yield from _users(variables)
    with_tls = _OWNED_WITH_TLS if boolean(variables["tls_redis"]) else frozenset()
    owned = sorted((_OWNED | with_tls).intersection(text(name).lower() for name in variables["redis_settings"]))
    if owned:
        yield (
            f"redis_settings holds {', '.join(owned)}, which the role sets itself; use its own variables (redis_port, redis_bind,"
            " redis_maxmemory, redis_acl_keys, redis_acl_rules, redis_acl_users, tls_mode)."
        )


def _users(variables: Mapping[str, Any]) -> Iterator[str]:
    """Those of the inventory, and those of the lock and the watchdog, where they have users of their own."""
    others = sorted(_RESERVED.intersection(map(text, variables["redis_acl_users"])))
    if others:
        yield f"redis_acl_users holds {', '.join(others)}, which the role sets itself; give the user another name."
    taken = {*_RESERVED, text(variables["prefect_redis_username"]), *map(text, variables["redis_acl_users"])}
    for name, secret in (
        ("prefect_redis_lock_username", "prefect_redis_lock_password"),
        ("prefect_redis_watchdog_username", "prefect_redis_watchdog_password"),
    ):
        user, password = text(variables[name]), text(variables[secret])
        if bool(user) != bool(password):
            yield f"{name} and {secret} go together, and only one of them is set."
        elif user and (user in taken or not _NAME.fullmatch(user)):
            yield f'{name} is "{user}"; it takes letters, digits and . _ @ -, and a name that no other user of Redis has.'
        taken.add(user)


def redis_host(variables: Mapping[str, Any]) -> Iterator[str]:
    installed = text(variables["__redis_installed_version"])
    if installed and version_number(installed) < version_number(REDIS):
        yield f"Redis {installed} is installed, but Prefect needs {REDIS} or newer; upgrade the package {variables['redis_package']}."


def redis_data(variables: Mapping[str, Any]) -> Iterator[str]:
    """With AOF on, Redis loads the append-only file only: a snapshot beside it is passed over in silence."""
    files = variables["__redis_earlier"].get("files") or []
    log = any(file["path"].endswith("appendonlydir") for file in files)
    if not log and any(file["size"] > _EMPTY_SNAPSHOT for file in files):
        yield (
            f"Redis on {variables['inventory_hostname']} has data of an earlier configuration in {variables['common_redis_data']}/dump.rdb"
            " and no append-only file, so it would start empty. To keep the data, run"
            f' "{variables["redis_cli"]} CONFIG SET appendonly yes" there; to do without, move the file away. Then run the same command'
            " again."
        )


def _package(variables: Mapping[str, Any]) -> Iterator[str]:
    package, since = text(variables["redis_package"]), variables["common_redis_package_since"]
    facts = variables["ansible_facts"]
    major = text(facts.get("distribution_major_version"))
    if major.isdigit() and int(major) < since[package]:
        yield (
            f"redis_package is {package}, which {facts.get('distribution')} {major} does not have; Debian {since[package]} is the first "
            "with it. Set redis_package to redis-server, or use a newer host."
        )
    # Neither reads the other's data in every version, and both want the same port.
    if variables["__redis_other"]["stat"]["exists"]:
        other = text(variables["__redis_other_package"])
        yield (
            f"redis_package is {package}, but this host runs {other}, with its data in /var/lib/{other.removesuffix('-server')}. One is not"
            f' turned into the other. Set redis_package back to {other}, or follow "From Redis to Valkey" in docs/operations.md.'
        )
