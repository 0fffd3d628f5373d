# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which host of the group redis is the master, from what each of them has and says, and which of them do not belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.topology import group_addresses

FOUND = "__redis_member"
"""The variable of a host that has what M(selfhosted.prefect.prefect_redis_info) returned."""


@dataclass(frozen=True)
class Cluster:
    """The hosts by their addresses (host and port), what was found on them, and who the master is."""

    hosts: Mapping[str, str]
    members: Mapping[str, Mapping[str, Any]]
    master_address: str = ""
    formed: bool = False
    """Whether a Sentinel follows it."""
    rivals: Sequence[str] = field(default=())
    """Hosts with data of their own, of which no one is known to be the master."""

    @property
    def master(self) -> str:
        """The host; empty where it is none of the group, or not known."""
        return self.hosts.get(self.master_address, "")

    def values(self) -> dict[str, Any]:
        return {"master": self.master, "address": self.master_address, "formed": self.formed}


def redis_cluster(hosts: Iterable[str], hostvars: Mapping[str, Any], port: Any) -> dict[str, Any]:
    """The master of a group's hosts; what it is made of is in the filter's documentation."""
    return cluster(hosts, hostvars, port).values()


def cluster(hosts: Iterable[str], hostvars: Mapping[str, Any], port: Any) -> Cluster:
    """What the hosts of a group are together. Those that nothing is known of are left out of the reckoning."""
    names = [text(host) for host in hosts]
    addresses = {host_and_port(address, port): host for host, address in zip(names, group_addresses(names, hostvars))}
    members = {host: hostvars[host][FOUND] for host in names if FOUND in hostvars[host]}
    said = {view["sentinel"]: view for member in members.values() for view in member["sentinels"] if not view["problem"]}
    if said:
        return Cluster(addresses, members, _most([(view["epoch"], view["master"]) for view in said.values()]), formed=True)
    written = [(state["epoch"], state["master"]) for member in members.values() if (state := member["sentinel_state"])["master"]]
    if written:
        return Cluster(addresses, members, _most(written))
    holders = [host for host, member in members.items() if member["data"] and not member["state"]["written"]]
    masters = [host for host, member in members.items() if member["state"]["written"] and not member["state"]["replica_of"]]
    first = next(iter([*masters, *holders, *names]), "")
    known = len(members) == len(names)
    address = next((address for address, host in addresses.items() if host == first), "") if known else ""
    return Cluster(addresses, members, address, rivals=holders if len(holders) > 1 and not masters else ())


def _most(votes: Sequence[tuple[int, str]]) -> str:
    """What most name; of equally many, the newer one."""
    named = [master for _epoch, master in votes]
    return max(votes, key=lambda vote: (named.count(vote[1]), vote[0]))[1]


def problems(found: Cluster, product: str, unlimited: Iterable[str]) -> Iterator[str]:
    """What keeps these hosts from being one cluster. ``unlimited`` are the hosts of the play, without ``--limit``."""
    if found.master_address and not found.master:
        yield (
            f"The Sentinels of the group redis follow {found.master_address}, which is no host of the group. Put that host into the group,"
            " or give the host that it is the prefect_address by which they know it."
        )
        return
    yield from _majority(found)
    if found.rivals:
        yield (
            f"{' and '.join(found.rivals)} have data of their own, and no Sentinel says which of them is the master: as a replica each but"
            f" one would lose its data. {_empty(product, 'Keep those of one host. On each of the others')}"
        )
        return
    for host, member in found.members.items():
        former = [name for name in (member["sentinel_state"]["master"], member["state"]["replica_of"]) if name and name not in found.hosts]
        if former:
            yield (
                f"Redis on {host} belonged to another cluster: its master there was {former[0]}."
                f" {_empty(product, f'To give {host} to this one, without its data')}"
            )
        elif found.master and host != found.master and member["data"] and not member["state"]["written"]:
            yield (
                f"Redis on {host} has data of its own, which it would lose as a replica of {found.master}."
                f" {_empty(product, f'To give {host} to this cluster without them')}"
            )
    limited = [host for host in found.hosts.values() if host not in found.members and host not in unlimited]
    if limited and not found.formed and any(member["asked"] for member in found.members.values()):
        yield (
            f"No Sentinel of the group redis answers, and {', '.join(limited)} {'is' if len(limited) == 1 else 'are'} left out of this run,"
            " so it is not known who the master is. Run the same command without --limit."
        )


def _majority(found: Cluster) -> Iterator[str]:
    """Whether the Sentinels of the group's hosts are the majority of those that take part. One that has stopped does not."""
    own = {address.rpartition(":")[0] for address in found.hosts}
    views = [view for member in found.members.values() for view in member["sentinels"] if not view["problem"] and view.get("sentinels")]
    for view in sorted(views, key=lambda view: -len(view["sentinels"]))[:1]:
        others = [each for each in view["sentinels"] if each not in view["down"]]
        strangers = [each.rpartition(":")[0] for each in others if each.rpartition(":")[0] not in own]
        total = len(others) + 1
        if total - len(strangers) < total // 2 + 1:
            yield (
                f"{total} Sentinels agree on the master of Redis, and {', '.join(strangers)} of them are no hosts of the group redis: the"
                f" {total - len(strangers)} that are left could not agree on another one. Put the hosts back, and remove one after the"
                " other (the playbook remove_host)."
            )


def _empty(product: str, when: str) -> str:
    return (
        f"{when}: systemctl stop {product}-sentinel {product}-server; mv /var/lib/{product} /var/lib/{product}.former;"
        f" rm -rf /var/lib/{product}-sentinel; install -d -o {product} -g {product} -m 0750 /var/lib/{product}."
        " Then run the same command again."
    )
