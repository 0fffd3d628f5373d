# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of Redis and its Sentinels, with a Redis that a host has already, and with several of them together."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.minimums import REDIS
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text, version_number
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.redis_cluster import cluster, problems

_OWNED = frozenset(
    "aclfile appendonly bind include maxmemory maxmemory-policy port protected-mode requirepass save user".split()  # noqa: SIM905  one line
)
_OWNED_WITH_TLS = frozenset({"tls-auth-clients", "tls-cert-file", "tls-key-file", "tls-port"})
_OWNED_IN_A_CLUSTER = frozenset(
    f"{prefix}-{name}" for prefix in ("min-replicas", "min-slaves") for name in ("max-lag", "to-write")
) | frozenset(
    {"masterauth", "masteruser", "replica-announce-ip", "replicaof", "slave-announce-ip", "slaveof", "tls-ca-cert-file", "tls-replication"}
)
_RESERVED = frozenset({"default", "selfhosted-prefect"})
_PASSWORDS = {
    "redis_replication_password": "with which replicas log in to the master",
    "redis_sentinel_password": "with which the Sentinels log in to Redis and to each other",
    "haproxy_redis_password": "with which HAProxy checks which Redis is the master",
}
_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_EMPTY_SNAPSHOT = 200  # bytes; one without a key has some 90


def redis(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__redis_other`` is the state of the configuration of the package that is not ``redis_package``."""
    yield from _package(variables)
    user = text(variables["prefect_redis_username"])
    reserved = _reserved(variables)
    if not _NAME.fullmatch(user) or user in {*reserved, *map(text, variables["redis_acl_users"])}:
        yield (
            f'prefect_redis_username is "{user}"; it takes letters, digits and . _ @ -, and neither the name "default", which has to stay'
            f" switched off, nor {_quoted(reserved - {'default'})}, which is the role's own, nor one of redis_acl_users."
        )
    if not text(variables.get("prefect_redis_password")):
        yield "prefect_redis_password is missing or empty; Redis accepts no client without one."
    yield from _users(variables)
    yield from _cluster(variables)
    with_tls = _OWNED_WITH_TLS if boolean(variables["tls_redis"]) else frozenset()
    in_a_cluster = _OWNED_IN_A_CLUSTER if variables["common_redis_cluster"] else frozenset()
    owned = sorted((_OWNED | with_tls | in_a_cluster).intersection(text(name).lower() for name in variables["redis_settings"]))
    if owned:
        yield (
            f"redis_settings holds {', '.join(owned)}, which the role sets itself; use its own variables (redis_port, redis_bind,"
            " redis_maxmemory, redis_acl_keys, redis_acl_rules, redis_acl_users, tls_mode)."
        )


def _reserved(variables: Mapping[str, Any]) -> frozenset[str]:
    """The names that the role gives to users of its own."""
    return _RESERVED | (frozenset(map(text, variables["common_redis_users"])) if variables["common_redis_cluster"] else frozenset())


def _quoted(names: frozenset[str]) -> str:
    return " or ".join(f'"{name}"' for name in sorted(names))


def _cluster(variables: Mapping[str, Any]) -> Iterator[str]:
    """What several hosts need beside what one does."""
    if not variables["common_redis_cluster"]:
        return
    for name, use in _PASSWORDS.items():
        if not text(variables[name]):
            yield f"{name} is missing or empty: it is the password {use}. Set it, in a file encrypted with ansible-vault."
    address = text(variables["prefect_address"])
    try:
        ipaddress.ip_address(address)
    except ValueError:
        yield (
            f"prefect_address is {address!r}, a name. The hosts of a Redis cluster know each other by IP addresses, which hold while no"
            " name is resolved, too: set prefect_address to that of this host."
        )


def _users(variables: Mapping[str, Any]) -> Iterator[str]:
    """Those of the inventory, and those of the lock and the watchdog, where they have users of their own."""
    reserved = _reserved(variables)
    others = sorted(reserved.intersection(map(text, variables["redis_acl_users"])))
    if others:
        yield f"redis_acl_users holds {', '.join(others)}, which the role sets itself; give the user another name."
    taken = {*reserved, text(variables["prefect_redis_username"]), *map(text, variables["redis_acl_users"])}
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


def redis_cluster(variables: Mapping[str, Any]) -> Iterator[str]:
    """Whether the hosts of the group are, or can be, one cluster, as far as they were found."""
    found = cluster(variables["common_groups"]["redis"], variables["hostvars"], variables["redis_port"])
    yield from problems(found, text(variables["common_redis_product"]), variables["ansible_play_hosts_all"])


def redis_single(variables: Mapping[str, Any]) -> Iterator[str]:
    """A member of a former cluster that is to be a single server: it has to be the one with all that was acknowledged."""
    member = variables["__redis_member"]
    if member["state"]["replica_of"]:
        yield (
            f"Redis on {variables['inventory_hostname']} was a replica of {member['state']['replica_of']} in a cluster and is to be single:"
            ' it may lack what the master acknowledged last. Make it the master first ("Back to a single Redis" in'
            " docs/high-availability.md), then run the same command again."
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
