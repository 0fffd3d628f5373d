# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of PostgreSQL and its backups, and with a PostgreSQL that a host has already."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.minimums import POSTGRES
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text, version_number

_OWNED = frozenset({"config_file", "data_directory", "hba_file", "listen_addresses", "max_connections", "password_encryption", "port"})
_OWNED_WITH_TLS = frozenset({"ssl", "ssl_cert_file", "ssl_key_file"})
_NAME = re.compile(r"(?![0-9.]+\Z)[.]?[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_PAIR = 2
_UNQUOTABLE = re.compile(r'["\x00-\x1f]')


def postgres(variables: Mapping[str, Any]) -> Iterator[str]:
    yield from _version(text(variables["postgres_version"]))
    yield from _members(len(variables["common_groups"].get("postgres") or []))
    yield from _connections(variables)
    if not text(variables.get("prefect_database_password")):
        yield "prefect_database_password is missing or empty; the owner of the database needs one."
    owned = sorted(_OWNED.intersection(variables["postgres_settings"]))
    tls = sorted(_OWNED_WITH_TLS.intersection(variables["postgres_settings"])) if boolean(variables["tls_postgres"]) else []
    if tls:
        yield (
            f"postgres_settings holds {', '.join(tls)}, which the role sets itself; bring your own certificate with tls_mode: provided"
            " (tls_certificate, tls_certificate_key), or set tls_postgres: false to do without the role's TLS."
        )
    if owned:
        yield (
            f"postgres_settings holds {', '.join(owned)}, which the role sets itself; use its own variables (postgres_port,"
            " postgres_listen_addresses, postgres_max_connections, postgres_hba_entries)."
        )
    yield from _hba(variables)


def postgres_host(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__postgres_servers`` has the major and the version of each server that the package manager knows."""
    wanted, servers = text(variables["postgres_version"]), variables["__postgres_servers"]
    majors, versions = ([text(server[position]) for server in servers] for position in (0, 1))
    installed = text(variables["__postgres_installed_version"])
    if not wanted and len(servers) > 1:
        yield f"PostgreSQL {' and '.join(sorted(majors))} are both installed; set postgres_version to the one that serves Prefect."
    elif servers and not installed:
        yield (
            f"PostgreSQL {' and '.join(versions)} is installed, but postgres_version asks for {wanted}; set postgres_version to what is"
            " there, or move the data first (pg_upgradecluster)."
        )
    elif installed and version_number(installed) < version_number(needed := _needed(wanted)):
        yield (
            f"PostgreSQL {installed} is installed, but {needed} or newer is needed; upgrade the package"
            f" postgresql-{text(variables['__postgres_major'])}, or set postgres_version to a newer major before anything is installed."
        )


def prefect_backup(variables: Mapping[str, Any]) -> Iterator[str]:
    host, keep, age, folder = (text(variables[f"prefect_backup_{name}"]) for name in ("host", "keep", "max_age", "directory"))
    if host not in variables["hostvars"]:
        yield f'prefect_backup_host is "{host}"; it has to be a host of the inventory, which takes the dumps and keeps them.'
    if not re.fullmatch("[1-9][0-9]*", keep):
        yield f'prefect_backup_keep is "{keep}"; it has to be 1 or more.'
    if not re.fullmatch("[0-9]+", age):
        yield f'prefect_backup_max_age is "{age}"; it takes seconds, or 0 for a new dump each time.'
    if not re.match("/[^/]", folder):
        yield f'prefect_backup_directory is "{folder}"; it has to be an absolute path, and a folder of its own.'


def prefect_restore(variables: Mapping[str, Any]) -> Iterator[str]:
    if not variables["prefect_restore_file"] and variables["__prefect_restore_real"]:
        yield (
            f'prefect_restore_file is missing: give the path of a dump on {text(variables["prefect_backup_host"])}, or "newest" for the'
            f" newest in {text(variables['prefect_backup_directory'])}. (prefect_restore_rehearsal=true tries the newest and leaves nothing"
            " behind.)"
        )


def _version(wanted: str) -> Iterator[str]:
    if wanted and not re.fullmatch(r"[0-9]+([.][0-9]+)?", wanted):
        yield (
            f'postgres_version is "{wanted}"; it takes a major such as "17", the least release wanted such as "15.4", or "" for that of the'
            " distribution."
        )
    # A major version alone stands for its newest release.
    elif wanted and version_number(wanted) < version_number(POSTGRES)[: len(version_number(wanted))]:
        yield f'postgres_version is "{wanted}", but several Prefect servers need PostgreSQL {POSTGRES} or newer; ask for a newer one.'


def _members(hosts: int) -> Iterator[str]:
    if hosts > 1 and hosts % 2 == 0:
        why = (
            "the loss of either would leave one that cannot know which of the two is cut off"
            if hosts == _PAIR
            else f"it survives the loss of no more hosts than {hosts - 1} would"
        )
        yield (f"The group postgres has {hosts} hosts: {why}. Use one host, as a single server, or three, five and so on, as a cluster.")


def _needed(wanted: str) -> str:
    return wanted if "." in wanted and version_number(wanted) > version_number(POSTGRES) else POSTGRES


def _connections(variables: Mapping[str, Any]) -> Iterator[str]:
    offered, needed = int(variables["postgres_max_connections"]), int(variables["__postgres_connection_budget"])
    if offered < needed:
        each = int(variables["prefect_database_pool_size"]) + int(variables["prefect_database_max_overflow"]) + 1
        yield (
            f"postgres_max_connections is {offered}, but {variables['__postgres_api_processes']} API and"
            f" {variables['__postgres_services_processes']} services processes with {each} connections each (prefect_database_pool_size +"
            " prefect_database_max_overflow + 1), two more for each services process and"
            f" {variables['postgres_reserved_connections']} in reserve (postgres_reserved_connections) need {needed}; raise it, leave it"
            " out, or make the pools smaller."
        )


def _hba(variables: Mapping[str, Any]) -> Iterator[str]:
    """What PostgreSQL could not parse in pg_hba.conf would keep it from starting."""
    entries = variables["postgres_hba_entries"]
    remote = [entry.get("address") for entry in entries if entry.get("type") != "local"]
    names = [
        variables["prefect_database_name"],
        variables["prefect_database_user"],
        *(e["database"] for e in entries),
        *(e["user"] for e in entries),
    ]
    bad = [text(each) for each in [*variables["postgres_client_addresses"], *remote] if not _is_address(text(each))]
    bad += [each for each in _flat(names) if _UNQUOTABLE.search(each)]
    if bad:
        yield (
            "postgres_client_addresses, postgres_hba_entries, prefect_database_name or prefect_database_user hold what pg_hba.conf cannot:"
            f" {', '.join(map(json.dumps, bad))}; an address is an IP address, a network such as 10.0.3.0/24 or a host name, and a name has"
            " no quotes or control characters."
        )


def _is_address(address: str) -> bool:
    if _NAME.match(address):
        return True
    try:
        ipaddress.ip_interface(address)
    except ValueError:
        return False
    # Neither a netmask in digits and dots nor a zone.
    return "%" not in address and address.partition("/")[2].isdigit() == ("/" in address)


def _flat(names: Iterable[Any]) -> list[str]:
    return [text(each) for name in names for each in (name if isinstance(name, (list, tuple)) else [name])]
