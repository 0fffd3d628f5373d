# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL cluster as Patroni's API shows and changes it. Every wait is bounded and sees with its own eyes that the end is reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Fetch, Request, fetch
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError

LEADER, REPLICAS = "leader", ("replica", "sync_standby", "quorum_standby")
_SYNCHRONOUS = ("sync_standby", "quorum_standby")
# Patroni 4 says that a replica streams, Patroni 3 only that it runs.
_RUNNING = ("running", "streaming")
_PAUSE = 0.5
_CONFIRMING = "synchronous_node_count"
_OK, _ACCEPTED, _PRECONDITION_FAILED = 200, 202, 412


class PatroniError(Exception):
    """What Patroni says instead of doing what it was told, or what was not reached in time. A sentence, and a remedy where there is one."""


class StandbyChangedError(PatroniError):
    """Another replica confirms writes than a moment ago, as after one was restarted: the one that was to take over may not."""


@dataclass(frozen=True)
class Timer:
    """The clock and the pauses of a wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Member:
    """One member as the cluster sees it. ``lag`` is in bytes, None for the leader and where it is not known."""

    name: str
    role: str
    state: str
    lag: int | None
    timeline: int | None
    pending_restart: bool

    @property
    def running(self) -> bool:
        return self.state in _RUNNING

    def values(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "role": self.role,
            "state": self.state,
            "lag": self.lag,
            "timeline": self.timeline,
            "pending_restart": self.pending_restart,
        }


@dataclass(frozen=True)
class Cluster:
    """All members, in the order of their names."""

    members: tuple[Member, ...]
    paused: bool = False

    @property
    def leader(self) -> Member | None:
        return next((each for each in self.members if each.role == LEADER), None)

    @property
    def synchronous(self) -> tuple[Member, ...]:
        return tuple(each for each in self.members if each.role in _SYNCHRONOUS)

    def find(self, name: str) -> Member | None:
        return next((each for each in self.members if each.name == name), None)

    def follows(self, name: str, most_lag: int) -> bool:
        """Whether the member is a replica that is in step with the leader."""
        member, leader = self.find(name), self.leader
        if not member or not leader or member.role not in REPLICAS or not member.running or member.lag is None:
            return False
        return member.timeline == leader.timeline and member.lag <= most_lag

    def values(self) -> dict[str, Any]:
        leader = self.leader
        return {"leader": leader.name if leader else "", "paused": self.paused, "members": [each.values() for each in self.members]}


@dataclass(frozen=True)
class Patroni:
    """The APIs of the members by their names. ``tls`` is as in :func:`tls_context`, ``auth_string`` for APIs without TLS."""

    urls: Mapping[str, str]
    tls: Mapping[str, Any] = field(default_factory=dict)
    auth_string: str = ""
    timeout: float = 5.0
    ask: Fetch = fetch
    timer: Timer = field(default_factory=Timer)

    def cluster(self) -> Cluster:
        """As the first member sees it that answers. Raises PatroniError if none does."""
        return cluster(self._first("/cluster", "how it is"))

    def config(self) -> dict[str, Any]:
        """What all members have in common, in etcd."""
        return self._first("/config", "its configuration")

    def read(self, name: str, path: str) -> dict[str, Any]:
        """What a member answers; empty where that is none of what it is asked for. Raises NetError if it says nothing."""
        answer = self._send(name, "GET", path)
        values = answer.json() if answer.status == _OK else None
        return values if isinstance(values, dict) else {}

    def tell(self, name: str, method: str, path: str, body: Any = None, seconds: float = 60.0) -> str:
        """Has one member do something, and returns what it says to that. Raises PatroniError if it does not do it."""
        try:
            answer = self._send(name, method, path, body, seconds)
        except NetError as error:
            raise PatroniError(f"Patroni on {name} {error}.") from error
        if answer.status not in (_OK, _ACCEPTED):
            # As Patroni 3 and 4 say it: "candidate name does not match with sync_standby".
            changed = answer.status == _PRECONDITION_FAILED and b"sync_standby" in answer.body
            refusal: type[PatroniError] = StandbyChangedError if changed else PatroniError
            raise refusal(f"Patroni on {name} refuses {path}: {answer.summary()}.")
        return answer.body.decode("utf-8", "replace").strip()

    def wait(self, reached: Callable[[Cluster], bool], seconds: float, what: str) -> Cluster:
        """The cluster, as soon as the condition is true of it. Raises PatroniError if it is not in time."""
        deadline = Deadline(seconds, self.timer.now)
        while True:
            seen = ""
            try:
                found = self.cluster()
                if reached(found):
                    return found
                seen = shown(found)
            except PatroniError as error:
                seen = str(error)
            if deadline.passed():
                raise PatroniError(f"{what} within {seconds:g} s. The cluster: {seen}")
            self.timer.sleep(_PAUSE)

    def _first(self, path: str, what: str) -> dict[str, Any]:
        said = []
        for name in self.urls:
            try:
                values = self.read(name, path)
            except NetError as error:
                said.append(f"{name} {error}")
                continue
            if values:
                return values
            said.append(f"{name} does not know it")
        raise PatroniError(f"No member of the cluster tells {what}: {'; '.join(said)}.")

    def _send(self, name: str, method: str, path: str, body: Any = None, seconds: float = 0) -> Answer:
        request = Request(f"{self.urls[name]}{path}", method, self.auth_string, body, self.tls)
        return self.ask(request, seconds or self.timeout)


def cluster(values: Mapping[str, Any]) -> Cluster:
    """From what C(/cluster) answers."""
    return Cluster(tuple(map(_member, values.get("members", []))), bool(values.get("pause")))


def shown(found: Cluster) -> str:
    """The members in words."""
    words = [
        f"{each.name} is {each.role} ({each.state}{'' if each.lag is None else f', {each.lag} bytes behind'})" for each in found.members
    ]
    return f"{'; '.join(words) or 'no members'}."


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be sent for ``found`` to hold all of ``wanted``: as Patroni takes it, a mapping in which None removes a key."""
    changes: dict[str, Any] = {}
    for name, value in wanted.items():
        before = found.get(name)
        if isinstance(value, Mapping):
            inner = differences(value, before if isinstance(before, Mapping) else {})
            if inner:
                changes[name] = inner
        elif value is None:
            if name in found:
                changes[name] = None
        elif not _same(value, before):
            changes[name] = value
    return changes


def superfluous(wanted: Mapping[str, Any], found: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """What of the parameters of PostgreSQL has to be removed: those of ``keys`` that are not wanted."""
    there = (found.get("postgresql") or {}).get("parameters") or {}
    kept = (wanted.get("postgresql") or {}).get("parameters") or {}
    gone = {name: None for name in keys if name in there and name not in kept}
    return {"postgresql": {"parameters": gone}} if gone else {}


def configure(patroni: Patroni, wanted: Mapping[str, Any], owned: Iterable[str] = (), *, dry: bool = False) -> tuple[dict[str, Any], Any]:
    """Has the cluster hold the settings, and returns what was sent for it, and all that it held before."""
    before = patroni.config()
    changes = _merged(differences(wanted, before), superfluous(wanted, before, owned))
    if changes and not dry:
        patroni.tell(_any(patroni), "PATCH", "/config", changes)
    return changes, before


def restart(patroni: Patroni, name: str, seconds: float, most_lag: int) -> None:
    """Restarts PostgreSQL on one member, and waits until it is what it was."""
    before = patroni.cluster().find(name)
    was_leader = before is not None and before.role == LEADER
    patroni.tell(name, "POST", "/restart", {}, seconds)

    def back(found: Cluster) -> bool:
        if was_leader:
            leader = found.leader
            return leader is not None and leader.name == name and leader.running
        return found.follows(name, most_lag)

    patroni.wait(back, seconds, f"{name} was restarted, and is not {'the primary' if was_leader else 'in step with the primary'} again")


def switch(patroni: Patroni, candidate: str, seconds: float, most_lag: int, *, dry: bool = False) -> tuple[bool, float]:
    """Makes another member the primary, and waits until the one before follows it.

    Says whether there was anything to do, and how many seconds it took until the other one was the primary.
    """
    deadline = Deadline(seconds, patroni.timer.now)
    while True:
        try:
            return _switch_as_it_is(patroni, candidate, seconds, most_lag, dry=dry)
        except StandbyChangedError:
            if deadline.passed():
                raise
            patroni.timer.sleep(_PAUSE)


def _switch_as_it_is(patroni: Patroni, candidate: str, seconds: float, most_lag: int, *, dry: bool) -> tuple[bool, float]:
    """The same, with the replicas that confirm writes now."""
    found = patroni.cluster()
    leader = found.leader
    if not leader:
        raise PatroniError(f"There is no primary to switch from. The cluster: {shown(found)}")
    if candidate == leader.name:
        return False, 0.0
    possible = [each.name for each in (*found.synchronous, *found.members) if found.follows(each.name, most_lag)]
    if (candidate and candidate not in possible) or not possible:
        which = f"{candidate} cannot" if candidate else "No replica can"
        raise PatroniError(f"{which} take over without loss: it has to be in step with the primary. The cluster: {shown(found)}")
    chosen = candidate or possible[0]
    if dry:
        return True, 0.0
    with _synchronous(patroni, found, chosen, seconds):
        begun = patroni.timer.now()
        patroni.tell(leader.name, "POST", "/switchover", {"leader": leader.name, "candidate": chosen}, seconds)
        patroni.wait(
            lambda now: now.leader is not None and now.leader.name == chosen and now.leader.running,
            seconds,
            f"{chosen} did not take over from {leader.name}",
        )
        took = patroni.timer.now() - begun
    patroni.wait(
        lambda now: now.leader is not None and now.leader.name == chosen and now.follows(leader.name, most_lag),
        seconds,
        f"{chosen} took over from {leader.name}, and the two are not in step",
    )
    return True, took


@contextmanager
def _synchronous(patroni: Patroni, found: Cluster, chosen: str, seconds: float) -> Iterator[None]:
    """As long as it lasts the replica confirms each write, where others do: of a synchronous cluster only such a one may take over."""
    synchronous = [each.name for each in found.synchronous]
    if not synchronous or chosen in synchronous:
        yield
        return
    before = patroni.config().get(_CONFIRMING)
    patroni.tell(_any(patroni), "PATCH", "/config", {_CONFIRMING: len(found.members) - 1})
    try:
        patroni.wait(lambda now: chosen in [each.name for each in now.synchronous], seconds, f"{chosen} does not confirm writes")
        yield
    finally:
        patroni.tell(_any(patroni), "PATCH", "/config", {_CONFIRMING: before})


def reinitialize(patroni: Patroni, name: str, seconds: float, most_lag: int) -> None:
    """Copies the data of a replica anew, and waits until it is in step."""
    found = patroni.cluster()
    member = found.find(name)
    if not member:
        raise PatroniError(f"{name} is no member of the cluster: {shown(found)}")
    if member.role == LEADER:
        raise PatroniError(f"{name} is the primary, whose data are the ones to copy. Make another one the primary first.")
    patroni.tell(name, "POST", "/reinitialize", {"force": True}, seconds)
    # What it says of itself is of before, until it has begun.
    patroni.timer.sleep(_PAUSE * 4)
    patroni.wait(lambda now: now.follows(name, most_lag), seconds, f"The data of {name} were copied anew, and it is not in step")


def _any(patroni: Patroni) -> str:
    """A member that answers, the leader if there is one."""
    leader = patroni.cluster().leader
    return leader.name if leader and leader.name in patroni.urls else next(iter(patroni.urls))


def _member(values: Mapping[str, Any]) -> Member:
    lag, timeline = values.get("lag"), values.get("timeline")
    return Member(
        name=str(values.get("name", "")),
        role=str(values.get("role", "")),
        state=str(values.get("state", "")),
        lag=lag if isinstance(lag, int) else None,
        timeline=timeline if isinstance(timeline, int) else None,
        pending_restart=bool(values.get("pending_restart")),
    )


def _same(one: Any, other: Any) -> bool:
    """As PostgreSQL and Patroni take them: 200 is "200", and true is "on"."""
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return {"true": "on", "false": "off"}.get(str(value).lower(), str(value))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(one)
    for name, value in other.items():
        inner = result.get(name)
        result[name] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return result
