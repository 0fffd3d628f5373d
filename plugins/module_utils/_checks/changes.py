# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a planned change of a running cluster: another host for a role that one of several has, or a restart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.patroni import Cluster, cluster, shown

CLUSTERED: Mapping[str, str] = {"postgres": "patroni", "redis": "redis_sentinel", "nginx": "keepalived"}
"""What can be switched, and the component whose hosts are those of a cluster."""
RESTARTED = (
    "etcd",
    "postgres",
    "redis",
    "redis_sentinel",
    "haproxy",
    "prefect_api",
    "prefect_services",
    "prefect_worker",
    "nginx",
    "keepalived",
)
"""What the playbook restart knows to restart, in its order."""
_ROLES = {"postgres": "the primary of PostgreSQL", "redis": "the master of Redis", "nginx": "the load balancer with the address"}
# Of those a restart needs all hosts, since the members are restarted one after the other, and one of them takes over.
_WHOLE = ("etcd", "postgres", "redis", "redis_sentinel", "nginx", "keepalived")


def switchover(variables: Mapping[str, Any]) -> Iterator[str]:
    """What the playbook switchover was asked to do, against the inventory."""
    what, to = text(variables["prefect_switchover"]), text(variables["prefect_switchover_to"])
    if what not in CLUSTERED:
        given = f"is {what}, which cannot be switched" if what else "is not set"
        yield f"prefect_switchover {given}. Say what, with -e prefect_switchover=NAME: {', '.join(CLUSTERED)}."
        return
    hosts = [text(host) for host in variables["common_group_hosts"][what]]
    if to and hosts and to not in hosts:
        yield f"prefect_switchover_to is {to}, which is no host of the group {what} ({', '.join(hosts)})."
    yield from _single(what, hosts, variables["common_group_hosts"][CLUSTERED[what]])
    yield from _left_out(hosts, f"{_ROLES[what]} is switched", variables)


def _single(what: str, hosts: list[str], clustered: Iterable[Any]) -> Iterator[str]:
    if not hosts:
        yield f"The group {what} is empty, so there is nothing here to switch: what is managed is for its provider to switch."
    elif len(hosts) == 1:
        yield (
            f"The group {what} has one host, {hosts[0]}, so that there is no other to take over. docs/high-availability.md says how to have"
            " several."
        )
    elif not list(clustered):
        yield f"The hosts of the group {what} share no address that could move: nginx_virtual_address is not set (docs/balancer.md)."


def _left_out(hosts: Iterable[str], what: str, variables: Mapping[str, Any]) -> Iterator[str]:
    left_out = [host for host in hosts if host not in variables["ansible_play_hosts_all"]]
    if left_out:
        yield f"{', '.join(left_out)} is left out by --limit, and {what} with all of its hosts in the run. Run it without --limit."


def switchover_state(variables: Mapping[str, Any]) -> Iterator[str]:
    """Whether another host can take over, by ``common_status_report``. ``common_leaders`` says which has the role now."""
    what, to = text(variables["prefect_switchover"]), text(variables["prefect_switchover_to"])
    leader, report = text(variables["common_leaders"][what]), variables["common_status_report"]
    if not leader:
        yield f"No host is known to be {_ROLES[what]}, so that there is none to switch from. The playbook status shows more."
    elif what == "postgres" and to != leader:
        found = members(report["postgres_cluster"])
        able = [each.name for each in found.members if found.follows(each.name, int(variables["patroni_most_lag"]))]
        yield from _unable(to, able, f"in step with the primary, {leader}", shown(found))
    elif what == "redis" and to != leader:
        named = {text(host): text(address) for host, address in report["redis_cluster"]["addresses"]}
        able, said = _redis(report["redis_cluster"]["answers"], named)
        yield from _unable(to, able, f"in step with the master, {leader}, with a replica-priority above 0", said)


def _unable(to: str, able: list[str], wanted: str, said: str) -> Iterator[str]:
    if to and to not in able:
        yield f"{to} cannot take over without loss: it has to be {wanted}. {said}"
    elif not able:
        yield f"No host can take over without loss: one has to be {wanted}. {said}"


def _redis(answers: Iterable[Any], named: Mapping[str, str]) -> tuple[list[str], str]:
    """The replicas that Sentinel may promote, and what all members say."""
    roles = {text(host): answer.get("replication") or {} for host, answer in answers}
    views = [view for _host, answer in answers for view in answer.get("sentinels") or []]
    candidates = {text(each).rpartition(":")[0].strip("[]") for view in views for each in view.get("candidates", [])}
    able = [host for host, role in roles.items() if role.get("link") == "up" and named.get(host) in candidates]
    words = [
        f"{host} is {role.get('role') or 'not known'}{': its link is ' + role['link'] if role.get('link') else ''}"
        f"{', and no Sentinel promotes it' if role.get('role') == 'replica' and named.get(host) not in candidates else ''}"
        for host, role in roles.items()
    ]
    return able, f"{'; '.join(words)}."


def members(found: Mapping[str, Any]) -> Cluster:
    """The members of PostgreSQL's cluster as one of them sees them, one that knows a primary if there is any."""
    answers = [answer.get("patroni", {}).get("cluster") or {} for _host, answer in found.get("answers", [])]
    best = next((answer for answer in answers if answer.get("leader")), next(filter(None, answers), {}))
    return cluster({"members": best.get("members", []), "pause": best.get("paused")})


def restart(variables: Mapping[str, Any]) -> Iterator[str]:
    """What the playbook restart was asked to restart, against the inventory."""
    wanted = [text(each) for each in variables["common_restart_components"]]
    unknown = [each for each in wanted if each not in RESTARTED]
    if unknown:
        yield (
            f"prefect_restart names {', '.join(unknown)}, which this playbook does not restart; it takes {', '.join(RESTARTED)}."
            + " PostgreSQL under Patroni is postgres." * ("patroni" in unknown)
        )
    hosts = {each: [text(host) for host in variables["common_group_hosts"].get(each) or []] for each in wanted if each not in unknown}
    # By default it is whatever of Prefect there is.
    absent = [each for each, there in hosts.items() if not there and variables["prefect_restart"]]
    if absent:
        yield f"prefect_restart names {', '.join(absent)}, and no host of the inventory has it."
    for each in _WHOLE:
        if len(hosts.get(each, [])) > 1:
            yield from _left_out(hosts[each], f"{each} is restarted one host after the other,", variables)
