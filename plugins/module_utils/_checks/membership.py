# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What keeps a host from leaving a deployment, and another one from taking its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.etcd import quorum
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.rolling import rolling_batches
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.topology import group_addresses

# Of these one host is a single server, and three or more are a cluster; and why a single one is neither removed nor replaced.
_SINGLE = {
    "postgres": "its server has all of the data. To move it, restore a backup on another host (docs/backup.md).",
    "redis": "its server has all of the work under way. docs/operations.md says how to change to another one (From Redis to Valkey).",
}
_CLUSTER = 3
# Of this one the preflight refuses an even number of hosts.
_ODD = "postgres"
_RUNNING = ("running", "streaming")


def remove_host(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__remove_members`` are the hosts of each component, ``__remove_verbs`` the task files of its role.

    ``__remove_mentions`` has by the names of their variables the hosts and addresses that the others would go on to use.
    """
    name, members = text(variables.get("prefect_remove_host")), variables["__remove_members"]
    hosts = list(dict.fromkeys(text(host) for each in members.values() for host in each))
    if not name:
        yield "prefect_remove_host is not set. Say which host, with -e prefect_remove_host=NAME."
        return
    if name not in hosts:
        yield f"prefect_remove_host is {name}, which is no host of the deployment ({', '.join(hosts)})."
        return
    yield from _nameless(name, variables["groups"])
    yield from _left_out(hosts, variables["ansible_play_hosts_all"])
    yield from _unremovable(name, variables)
    yield from _mentioned(name, variables)


def _nameless(name: str, groups: Mapping[str, Any]) -> Iterator[str]:
    if name in groups or not re.fullmatch(r"[\w.-]+", name):
        yield (
            f"{name} is no name by which a host can be left out: it is that of a group, too, or holds a character that has a meaning in"
            " Ansible's patterns. Rename the host in the inventory, and give it ansible_host."
        )


def _left_out(hosts: Iterable[str], unlimited: Iterable[str]) -> Iterator[str]:
    left_out = [host for host in hosts if host not in unlimited]
    if left_out:
        yield f"{', '.join(left_out)} is left out by --limit, and all hosts have to learn of this. Run it without --limit."


def _unremovable(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    verbs, optional = variables["__remove_verbs"], variables["common_optional_components"]
    for component, hosts in variables["__remove_members"].items():
        if name not in hosts:
            continue
        if "remove" not in verbs[component]:
            yield (
                f"{name} is a host of {component}, which this playbook does not remove: its role has no way to leave a host (the task file"
                " remove)."
            )
        elif component in _SINGLE:
            yield from _too_few(name, component, [text(host) for host in hosts if host != name])
            if component == _ODD and len(hosts) > _CLUSTER and len(hosts) % 2 and not boolean(variables["prefect_allow_degraded"]):
                yield (
                    f"Without {name} the group {component} has {len(hosts) - 1} hosts, which survive the loss of no more than"
                    f" {len(hosts) - 2} do, and which the playbook site refuses. To remove another one after it, go on with"
                    " -e prefect_allow_degraded=true, which also goes on where something does not work: see the playbook status first."
                )
        elif hosts == [name] and component not in optional:
            yield f"{name} is the last host of the group {component}, which the service cannot do without."
    apis = [host for host in variables["__remove_members"]["prefect_api"] if host != name]
    try:
        rolling_batches(apis, variables["prefect_api_serial"])
    except ValueError as error:
        yield f"Without {name}, {error}."


def _too_few(name: str, component: str, left: list[str]) -> Iterator[str]:
    """Whether the others are a cluster without the host."""
    if not left:
        yield f"{name} is the only host of {component}, which this playbook does not remove: {_SINGLE[component]}"
    elif len(left) < _CLUSTER:
        yield (
            f"Without {name} the group {component} has {len(left)} of the {_CLUSTER} hosts that a cluster takes ({', '.join(left)}): with"
            " two, the loss of one is the loss of both. Put another host in its place (the playbook replace), or go back to a single server"
            " (docs/high-availability.md)."
        )


def _mentioned(name: str, variables: Mapping[str, Any]) -> Iterator[str]:
    addresses = {name, *map(text, variables["__remove_addresses"])}
    named = [variable for variable, values in variables["__remove_mentions"].items() if addresses & set(map(text, values))]
    if named:
        yield f"The inventory names {name} in {' and '.join(named)}. Name another one there first, or take it out."


def remove_host_answer(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__remove_answer`` is what the host said to a ping."""
    name, answer, dead = text(variables["prefect_remove_host"]), variables["__remove_answer"], boolean(variables["prefect_remove_dead"])
    if dead and answer.get("ping"):
        yield f"{name} answers, so it is not dead, and what it is at has to end first. Leave prefect_remove_dead out."
    if not dead and not answer.get("ping"):
        yield (
            f"{name} does not answer ({text(answer.get('msg')).strip() or 'no reason given'}). If it is dead for good,"
            " -e prefect_remove_dead=true has all others do without it."
        )


def replace_host(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__replace_members`` are the hosts of each component; addresses and mentions are as in :func:`remove_host`."""
    name, members = text(variables.get("prefect_replace_host")), variables["__replace_members"]
    new = text(variables.get("prefect_replace_with")) or name
    hosts = list(dict.fromkeys(text(host) for each in members.values() for host in each))
    if not name:
        yield "prefect_replace_host is not set. Say which host is dead, with -e prefect_replace_host=NAME."
        return
    if new not in hosts:
        none = f"{new}, which is no host of the deployment ({', '.join(hosts)})"
        yield (
            f"prefect_replace_host is {none}. Where it was taken out of the inventory, prefect_replace_with has to say which host takes its"
            " place."
            if new == name
            else f"prefect_replace_with is {none}. Put it into the groups of {name}."
        )
        return
    yield from _left_out([host for host in hosts if host != name], variables["ansible_play_hosts_all"])
    for component in _SINGLE:
        its = set(map(text, members[component]))
        # One that was taken out of the inventory is in no group any more.
        if its and its <= {name, new} and (name in its or name not in hosts):
            yield (
                f"{name} is the only host of {component}, and a new machine does not have its data. Set it up with the playbook site;"
                " docs/backup.md says how the data come back."
            )
    if new == name:
        return
    groups = [component for component in members if component in variables["groups"]]
    lacking = [component for component in groups if name in members[component] and new not in members[component]]
    if lacking:
        yield f"{new} is not in {' and '.join(lacking)}, as {name} is. Put it into the same groups."
    if name in hosts:
        yield from _nameless(name, variables["groups"])
    yield from _mentioned(name, variables)


def replace_host_answer(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__replace_answer`` is what the host said to a ping."""
    name, new = text(variables["prefect_replace_host"]), text(variables["prefect_replace_with"])
    if variables["__replace_answer"].get("ping"):
        yield (
            f"{name} answers, so it is not dead. Have the playbook site add {new} beside it, then take it away with the playbook"
            " remove_host."
        )


def replace_host_found(variables: Mapping[str, Any]) -> Iterator[str]:
    """By what the preflight and the role ``prefect`` have found on the hosts ``__replace_members``, of which the new one is one already."""
    name, members, hostvars = text(variables["prefect_replace_host"]), variables["__replace_members"], variables["hostvars"]
    new = text(variables["prefect_replace_with"]) or name
    current = text(variables["common_current"])
    has = list(_has(hostvars[new], current))
    if has:
        later = "" if new == name else f", once {name} is out of the inventory"
        yield (
            f"{new} is not empty: it has {' and '.join(has)}. If it works, nothing is to be replaced; where an earlier run of this playbook"
            f" was cut off, the playbook site goes on from there{later}. Otherwise have the machine made anew."
        )
    if new in members["postgres"]:
        others = [host for host in map(text, members["postgres"]) if host not in (name, new)]
        yield from _postgres(name, {host: _found(hostvars[host])["cluster"] for host in others}, answers=bool(has))
    if new in members["redis"]:
        yield from _redis(name, new, list(map(text, members["redis"])), hostvars)
    running = {_release(hostvars[host], current) for each in members.values() for host in each if host != new} - {""}
    wanted = text(variables["common_release"])
    strange = [release.rpartition("/")[2] for release in sorted(running - {wanted})]
    if strange:
        yield (
            f"The servers run {', '.join(strange)}, and the inventory asks for {wanted.rpartition('/')[2]} (prefect_version). A host is"
            " replaced by one with the release that the others run: set prefect_version to theirs."
        )


def _found(host: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = host["__preflight_host"]["found"]
    return found


def _release(host: Mapping[str, Any], link: str) -> str:
    """The release that a host runs; empty where it runs none."""
    return text(host["__prefect_info"]["links"].get(link)) if "__prefect_info" in host else ""


def _has(host: Mapping[str, Any], current: str) -> Iterator[str]:
    """What a host has that an empty one does not."""
    cluster = _found(host)["cluster"] or {}
    yield from (f"data of PostgreSQL in {each['path']}" for each in cluster.get("data", []))
    if cluster.get("etcd", {}).get("data"):
        yield "data of etcd"
    redis = host["__redis_member"] if "__redis_member" in host else {}  # noqa: SIM401  Ansible's mapping has no such default
    if redis and (redis["data"] or redis["state"]["written"]):
        yield "data of Redis"
    if _release(host, current):
        yield f"a release of Prefect, {_release(host, current)}"
    yield from (f"{unit['name']}, which runs" for unit in host["__replace_units"]["units"] if unit["active"])


def _postgres(name: str, others: Mapping[str, Mapping[str, Any]], *, answers: bool) -> Iterator[str]:
    """Whether the cluster can take a new member, by what its other hosts have, and whether the one that is dead still takes part."""
    there = [host for host, found in others.items() if found["etcd"]["members"]]
    known = max((len(found["etcd"]["members"]) for found in others.values()), default=0)
    if len(there) < max(quorum(known), 1):
        yield (
            f"etcd answers on {', '.join(there) or 'no host'}, and {max(quorum(known), 2)} of its members have to before another one can"
            f" take the place of {name}. Start it first on {', '.join(host for host in others if host not in there)}."
        )
        return
    clusters = [found["patroni"]["cluster"] for found in others.values() if found["patroni"]["cluster"]]
    if not any(cluster["leader"] for cluster in clusters):
        yield "The PostgreSQL cluster has no primary, from which a new member could copy its data. The playbook status shows what is wrong."
        return
    running = [each for cluster in clusters[:1] for each in cluster["members"] if each["name"] == name and each["state"] in _RUNNING]
    if running and not answers:
        yield (
            f"{name} still takes part in the PostgreSQL cluster. If it died a moment ago, run the same command again in half a minute; else"
            " the machine that is to be replaced works, and has to be switched off."
        )


def _redis(name: str, new: str, group: list[str], hostvars: Mapping[str, Any]) -> Iterator[str]:
    """The same of Redis and its Sentinels."""
    members = [hostvars[host]["__redis_member"] for host in group if host not in (name, new) and "__redis_member" in hostvars[host]]
    views = {view["sentinel"]: view for member in members for view in member["sentinels"] if not view["problem"]}
    size = len([host for host in group if host != name or name == new])
    if len(views) < quorum(size):
        yield (
            f"{len(views)} Sentinels answer, and {quorum(size)} have to before another host can take the place of {name}. Start those of"
            " the group redis first that do not."
        )
        return
    addresses = {address.strip("[]").lower() for address in group_addresses(group, hostvars)}
    # A new machine may have the address of the dead one, and is silent there.
    taking_part = {each for view in views.values() for each in (*view["replicas"], *view["sentinels"]) if each not in view["down"]}
    strangers = sorted({each.rpartition(":")[0].strip("[]") for each in taking_part} - addresses)
    if strangers:
        yield (
            f"{', '.join(strangers)} takes part in the Redis cluster and is no host of the group redis. If that is the machine that is to"
            " be replaced, it works, and has to be switched off."
        )
