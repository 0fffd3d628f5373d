# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of a PostgreSQL cluster, and with what its hosts have already."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text, version_number
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.etcd import quorum

ETCD3 = "3.0.3"
"""The first Patroni that does not lose acknowledged rows with the API v3 of etcd, when a partition heals."""

_CLOCKS = 1.0
_ELECTION = 5
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TIME = re.compile(r"[0-9]+[hms]?")
_WAY = "docs/high-availability.md has both ways."


def etcd(variables: Mapping[str, Any]) -> Iterator[str]:
    ports = [variables[f"etcd_{name}_port"] for name in ("client", "peer", "metrics")]
    if len({int(port) for port in ports}) < len(ports):
        yield "etcd_client_port, etcd_peer_port and etcd_metrics_port have to differ."
    beat, election = int(variables["etcd_heartbeat_interval"]), int(variables["etcd_election_timeout"])
    if election < _ELECTION * beat:
        yield (
            f"etcd_election_timeout is {election} and etcd_heartbeat_interval is {beat}; a member that is late once would be taken for"
            f" dead. Make the first {_ELECTION} times the second, or more."
        )
    kept = text(variables["etcd_auto_compaction_retention"])
    if not _TIME.fullmatch(kept):
        yield f'etcd_auto_compaction_retention is "{kept}"; it takes a time, such as 1h or 30m.'
    if not _NAME.fullmatch(text(variables["etcd_initial_cluster_token"])):
        yield f'etcd_initial_cluster_token is "{variables["etcd_initial_cluster_token"]}"; it takes letters, digits and . _ -.'


def etcd_start(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__etcd_with_data`` are the hosts of this run that have data, ``__etcd_left_out`` those of the cluster that are not in it."""
    left_out = list(variables["__etcd_left_out"])
    if left_out and not variables["__etcd_with_data"]:
        yield (
            f"No host of this run has data of etcd, and {', '.join(left_out)} is left out by --limit. A new cluster begins with all of its"
            " hosts, and a host joins one that is in the run. Run it without --limit."
        )


def patroni(variables: Mapping[str, Any]) -> Iterator[str]:
    if not text(variables["patroni_replication_password"]):
        yield (
            "patroni_replication_password is missing or empty; the members of a PostgreSQL cluster need one. Set it, in a file encrypted"
            " with ansible-vault."
        )
    if not boolean(variables["tls_postgres"]) and not text(variables["patroni_restapi_password"]):
        yield (
            "patroni_restapi_password is missing or empty; without tls_postgres nothing else protects Patroni's API. Set it, in a file"
            " encrypted with ansible-vault."
        )
    if boolean(variables["tls_postgres"]) and not text(variables["common_tls_ca_file"]):
        yield (
            "tls_ca_file is not set, so that Patroni and etcd would take orders from any client with a certificate of an authority that the"
            " system trusts. Set it to the authority that the hosts' certificates are from."
        )
    if not _NAME.fullmatch(text(variables["patroni_scope"])):
        yield f'patroni_scope is "{variables["patroni_scope"]}"; it takes letters, digits and . _ -.'
    roles = [text(variables[name]) for name in ("patroni_replication_username", "patroni_rewind_username", "prefect_database_user")]
    strange = [name for name in roles[:2] if not _NAME.fullmatch(name)]
    if strange:
        yield (
            f"patroni_replication_username and patroni_rewind_username take letters, digits and . _ -, unlike"
            f" {', '.join(map(json.dumps, strange))}."
        )
    elif len(set(roles)) < len(roles) or "postgres" in roles:
        yield (
            "patroni_replication_username, patroni_rewind_username and prefect_database_user have to be three roles, and none of them"
            " postgres."
        )
    ttl, loop, retry = (int(variables[f"patroni_{name}"]) for name in ("ttl", "loop_wait", "retry_timeout"))
    if loop + 2 * retry > ttl:
        yield (
            f"patroni_ttl is {ttl}, and patroni_loop_wait + 2 * patroni_retry_timeout is {loop + 2 * retry}; a primary would lose its"
            " leadership while it still tries to keep it. Make patroni_ttl that much, or more."
        )


def patroni_host(variables: Mapping[str, Any]) -> Iterator[str]:
    version, wanted = text(variables["common_patroni_version"]), text(variables["patroni_etcd_api"])
    if version and wanted == "v3" and version_number(version) < version_number(ETCD3):
        yield (
            f"Patroni {version} is installed on {variables['inventory_hostname']}, and patroni_etcd_api asks for v3; before {ETCD3} Patroni"
            " loses acknowledged writes with it when a partition heals. Leave patroni_etcd_api out, or upgrade the package."
        )


def postgres_cluster(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__preflight_clusters`` is what each host of the group has of a cluster, ``__preflight_clocks`` what its clock says.

    ``__preflight_systems`` are their operating systems.
    """
    hosts: Mapping[str, Mapping[str, Any]] = {host: found for host, found in variables["__preflight_clusters"].items() if found}
    group = [text(host) for host in variables["common_groups"].get("postgres") or []]
    yield from _members(hosts, group)
    if not boolean(variables["common_postgres_cluster"]):
        yield from _left_behind(hosts)
        return
    yield from _etcd(hosts, text(variables["etcd_initial_cluster_token"]))
    wanted = text(variables["postgres_version"]).partition(".")[0]
    yield from _data(hosts, wanted)
    if not wanted:
        yield from _systems(hosts, variables["__preflight_systems"])
    yield from _patroni_versions(hosts, text(variables["patroni_etcd_api"]))
    yield from _clocks(variables["__preflight_clocks"])


def _members(hosts: Mapping[str, Mapping[str, Any]], group: list[str]) -> Iterator[str]:
    """Whether the hosts of the inventory are enough of the members that etcd has."""
    known: list[dict[str, Any]] = max((found["etcd"]["members"] for found in hosts.values()), key=len, default=[])
    members = [text(each["name"]) for each in known if each["name"]]
    left = [name for name in members if name in group]
    if members and len(left) < quorum(len(members)):
        gone = [name for name in members if name not in group]
        yield (
            f"etcd has the members {', '.join(members)}, and {', '.join(gone)} is not in the group postgres: {len(left)} of {len(members)}"
            f" that are left cannot agree on a primary, {quorum(len(members))} have to. Put the hosts back, and remove one after the other;"
            f" from a cluster back to a single server is another way. {_WAY}"
        )


def _left_behind(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for host, found in hosts.items():
        if found["patroni"]["running"]:
            yield (
                f"{host}: Patroni runs PostgreSQL as a member of a cluster, and the group postgres has only this host. Put the others back,"
                f" or turn it into a single server first. {_WAY}"
            )


def _etcd(hosts: Mapping[str, Mapping[str, Any]], token: str) -> Iterator[str]:
    for host, found in hosts.items():
        began = text(found["etcd"]["token"])
        if found["etcd"]["data"] and began != token:
            whose = f"that began as {began}, and etcd_initial_cluster_token is {token}" if began else "that this collection did not set up"
            yield (
                f"{host}: has data of an etcd in /var/lib/etcd/default {whose}; it was a member of another cluster. Stop etcd there and"
                " move its data away, or take the host out of the group postgres."
            )
    yield from _odd_ones(
        {host: text(found["etcd"]["cluster_id"]) for host, found in hosts.items()},
        "is a member of another etcd cluster ({value}) than {others} ({other}). Stop etcd there and move /var/lib/etcd/default away, or"
        " take the host out of the group postgres.",
    )


def _data(hosts: Mapping[str, Mapping[str, Any]], wanted: str) -> Iterator[str]:
    majors = {host: "".join(sorted({text(each["major"]) for each in found["data"]})[-1:]) for host, found in hosts.items()}
    for host, found in hosts.items():
        several = sorted({text(each["major"]) for each in found["data"]})
        if len(several) > 1:
            yield (
                f"{host}: has data of PostgreSQL {' and '.join(several)} in /var/lib/postgresql; a member of a cluster has those of one"
                " version. Move the others away."
            )
        elif wanted and several and several != [wanted]:
            yield (
                f"{host}: has data of PostgreSQL {several[0]} in /var/lib/postgresql/{several[0]}/main, and postgres_version asks for"
                f" {wanted}. Move them away, or upgrade the server first (pg_upgradecluster)."
            )
    yield from _odd_ones(
        majors,
        "has data of PostgreSQL {value} in /var/lib/postgresql/{value}/main, and {others} of {other}; replication takes one version. Move"
        " them away, and they are copied from the primary.",
    )
    # What a running member says of its cluster is the truth that the others are compared with.
    running = [host for host, found in hosts.items() if found["patroni"]["running"]]
    yield from _odd_ones(
        {host: "".join(text(each["system_identifier"]) for each in found["data"][-1:]) for host, found in hosts.items()},
        "has data of another PostgreSQL ({value}) than {others} ({other}) in /var/lib/postgresql: it belonged to another cluster. Move them"
        " away, and they are copied from the primary; or take the host out of the group postgres.",
        running,
    )


def _systems(hosts: Mapping[str, Mapping[str, Any]], systems: Mapping[str, Any]) -> Iterator[str]:
    """Whether a host without data would get the major version of PostgreSQL that the others have."""
    known = {host: text(systems.get(host)) for host in hosts}
    first = [host for host, found in hosts.items() if found["data"]] or list(hosts)[:1]
    for host, system in known.items():
        if host not in first and system not in [known[other] for other in first]:
            yield (
                f"{host}: runs {system}, and {first[0]} {known[first[0]]}: each release of Debian has another major version of PostgreSQL,"
                " and replication takes one. Install the same release on it, or set postgres_version where all hosts have packages of one"
                " version."
            )


def _patroni_versions(hosts: Mapping[str, Mapping[str, Any]], wanted: str) -> Iterator[str]:
    new = {host: version_number(text(found["patroni"]["version"])) >= version_number(ETCD3) for host, found in hosts.items()}
    there = [host for host, found in hosts.items() if found["patroni"]["version"]]
    old = [host for host in there if not new[host]]
    if wanted == "v3":
        for host in old:
            yield (
                f"{host}: Patroni {hosts[host]['patroni']['version']} is installed, and patroni_etcd_api asks for v3; before {ETCD3}"
                " Patroni loses acknowledged writes with it when a partition heals. Leave patroni_etcd_api out, or upgrade the package."
            )
    elif not wanted and old and len(old) < len(there):
        yield (
            f"{', '.join(old)} has a Patroni before {ETCD3}, and {', '.join(host for host in there if new[host])} a newer one: they would"
            " use two stores of etcd, and know nothing of each other. Set patroni_etcd_api to v2 until all of them have the newer one."
        )


def _clocks(clocks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Only a difference that is there whatever the error of the measurement."""
    known = {host: clock for host, clock in clocks.items() if clock.get("known")}
    for one, other in combinations(known, 2):
        difference = abs(float(known[one]["offset"]) - float(known[other]["offset"]))
        if difference - float(known[one]["error"]) - float(known[other]["error"]) > _CLOCKS:
            yield (
                f"The clocks of {one} and {other} are {difference:.1f} s apart; a primary holds its leadership by the clock. Have both"
                " follow one time server (systemd-timesyncd, chrony)."
            )


def _odd_ones(values: Mapping[str, str], said: str, truth: Iterable[str] = ()) -> Iterator[str]:
    """The hosts whose value is another one than that of most, or of the first of ``truth``. Those without a value are left out."""
    known = {host: value for host, value in values.items() if value}
    first = [known[host] for host in truth if host in known]
    counted = sorted(set(known.values()), key=lambda value: (-list(known.values()).count(value), list(known.values()).index(value)))
    right = (first or counted)[:1]
    for host, value in known.items():
        if right and value != right[0]:
            others = ", ".join(other for other, its in known.items() if its == right[0])
            yield f"{host}: {said.format(value=value, others=others, other=right[0])}"
