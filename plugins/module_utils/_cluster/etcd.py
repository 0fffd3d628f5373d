# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The members of an etcd cluster, by its command line client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished, Run, run

_CLIENT = "etcdctl"


class EtcdError(Exception):
    """What etcd, or its client, says instead of doing what it was told."""


@dataclass(frozen=True)
class Member:
    """One member: ``id`` in hexadecimal, as etcd shows it. One that was added and has never run is not ``started``, and has no name."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    started: bool
    client_urls: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "peer_urls": list(self.peer_urls), "started": self.started}


@dataclass(frozen=True)
class Members:
    """All members, and the identity of their cluster."""

    cluster_id: str
    members: tuple[Member, ...]

    def find(self, name: str, peer_url: str = "") -> Member | None:
        """The member of that name, or the one that is reached there."""
        named = next((each for each in self.members if each.name and each.name == name), None)
        return named or next((each for each in self.members if peer_url and peer_url in each.peer_urls), None)

    def initial_cluster(self, name: str, peer_url: str) -> str:
        """What a member of that name has to be started with: itself, and all others under the names that they have."""
        others = [f"{each.name}={url}" for each in self.members for url in each.peer_urls if each.name and peer_url not in each.peer_urls]
        return ",".join([*others, f"{name}={peer_url}"])


@dataclass(frozen=True)
class Etcd:
    """Where the cluster is reached, with ``ca_file``, ``cert_file`` and ``key_file`` in ``tls`` (empty for plain text)."""

    endpoints: Sequence[str]
    tls: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 5.0
    run: Run = run

    def members(self) -> Members:
        answer = self._ask("member", "list")
        return Members(_id(answer["header"]["cluster_id"]), tuple(map(_member, answer.get("members", []))))

    def healthy(self) -> bool:
        """Whether a member behind the endpoints commits."""
        return self._run("endpoint", "health").rc == 0

    def answers(self, member: Member) -> bool:
        """Whether that member commits."""
        return bool(member.client_urls) and replace(self, endpoints=member.client_urls).healthy()

    def add(self, name: str, peer_url: str) -> None:
        self._ask("member", "add", name, f"--peer-urls={peer_url}")

    def remove(self, identity: str) -> None:
        self._ask("member", "remove", identity)

    def _ask(self, *words: str) -> dict[str, Any]:
        ended = self._run(*words, "--write-out=json")
        try:
            # Warnings of the client may stand before it.
            answer = json.loads(ended.output[ended.output.index("{") :]) if ended.rc == 0 else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EtcdError(ended.tail(1) or f"{_CLIENT} ended with {ended.rc}")
        return answer

    def _run(self, *words: str) -> Finished:
        names = {"ca_file": "--cacert", "cert_file": "--cert", "key_file": "--key"}
        files = [f"{option}={self.tls[name]}" for name, option in names.items() if self.tls.get(name)]
        limits = [f"--dial-timeout={self.timeout:g}s", f"--command-timeout={self.timeout:g}s"]
        argv = [_CLIENT, f"--endpoints={','.join(self.endpoints)}", *limits, *files, *words]
        return self.run(argv, self.timeout * 2 + 1, env={"ETCDCTL_API": "3"})


def join(etcd: Etcd, name: str, peer_url: str, *, fresh: bool, dry: bool = False) -> tuple[bool, Members]:
    """Has the cluster know a member that is about to start, and returns whether that changed anything, and what the members are then.

    ``fresh`` is one without data: the cluster would not take it for the member that had them, which is removed first.
    """
    found = etcd.members()
    known = found.find(name, peer_url)
    gone = known if known and ((known.started and fresh) or peer_url not in known.peer_urls) else None
    if known and not gone:
        return False, found
    if not dry:
        if gone:
            etcd.remove(gone.id)
        etcd.add(name, peer_url)
        found = etcd.members()
    return True, found


def leave(etcd: Etcd, name: str, peer_url: str = "", *, dry: bool = False) -> tuple[bool, Members]:
    """Removes a member, if the cluster has it, and returns whether that changed anything, and what the members are then."""
    found = etcd.members()
    known = found.find(name, peer_url)
    if not known:
        return False, found
    if not dry:
        etcd.remove(known.id)
        found = etcd.members()
    return True, found


def prune(etcd: Etcd, wanted: Mapping[str, str], *, dry: bool = False) -> tuple[bool, Members]:
    """Removes each member that is none of ``wanted``, peer URLs by their names, and does not answer.

    One that answers takes part, whatever it should do, and is left alone. Returns whether that changed anything, and what the members are
    then.
    """
    found = etcd.members()
    strangers = [each for each in found.members if each.name not in wanted and not set(each.peer_urls) & set(wanted.values())]
    gone = [each for each in strangers if not etcd.answers(each)]
    if gone and not dry:
        for each in gone:
            etcd.remove(each.id)
        found = etcd.members()
    return bool(gone), found


def quorum(members: int) -> int:
    """How many of so many members have to be there."""
    return members // 2 + 1


def initial(lines: Iterable[str]) -> dict[str, str]:
    """The settings that a member was first started with, from the lines of its file."""
    pairs = (line.strip().partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value.strip('"') for name, _equals, value in pairs}


def _member(values: Mapping[str, Any]) -> Member:
    clients = tuple(values.get("clientURLs", []))
    return Member(_id(values["ID"]), values.get("name", ""), tuple(values.get("peerURLs", [])), bool(clients), clients)


def _id(number: Any) -> str:
    return f"{int(number):x}"
