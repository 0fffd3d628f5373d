# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""A Redis of several hosts: what it and its Sentinels say of themselves, and a planned failover that loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import host_and_port
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import RedisRefusalError

_EMPTY = 200
"""Bytes. What Redis writes of a database without a key is less, and the file of later writes is empty."""
_DOWN = ("s_down", "o_down", "disconnected")
_NEEDED = "min-replicas-to-write"

Ask = Callable[..., "list[str]"]
"""Sends the words of one command; the lines of the reply. Raises RedisRefusalError."""


# --- what is on disk ---


def _lines(path: str) -> Iterator[list[str]]:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (line.split() for line in text.splitlines())


def replication_state(path: str) -> dict[str, Any]:
    """Of the file that Redis rewrites: whether it is there, and whose replica Redis was when it last wrote it."""
    named = [host_and_port(words[1].strip('"'), int(words[2])) for words in _lines(path) if words[:1] == ["replicaof"] and len(words) == 3]
    return {"written": Path(path).is_file(), "replica_of": named[-1] if named else ""}


def sentinel_state(path: str, name: str) -> dict[str, Any]:
    """Of the file that Sentinel rewrites: the master that it follows, and since which configuration."""
    found: dict[str, Any] = {"master": "", "epoch": 0}
    for words in _lines(path):
        if words[:3] == ["sentinel", "monitor", name] and len(words) == 6:
            found["master"] = host_and_port(words[3].strip('"'), int(words[4]))
        elif words[:3] == ["sentinel", "config-epoch", name] and len(words) == 4:
            found["epoch"] = int(words[3])
    return found


def holds_data(folder: str) -> bool:
    """Whether Redis would find a key in its append-only file; or, where it has none, in its snapshot."""
    log = Path(folder) / "appendonlydir"
    files = [*log.glob("*.aof"), *log.glob("*.rdb")] if log.is_dir() else [Path(folder) / "dump.rdb"]
    return any(file.stat().st_size > (_EMPTY if file.suffix == ".rdb" else 0) for file in files if file.is_file())


# --- what they say ---


def replication(lines: Iterable[str]) -> dict[str, Any]:
    """``INFO replication``, in the words that playbooks use."""
    values = dict(line.rstrip("\r").split(":", 1) for line in lines if ":" in line)
    master = values.get("role") == "master"
    replicas = [
        _replica(dict(pair.partition("=")[::2] for pair in values[name].split(",")))
        for name in sorted(values)
        if name.startswith("slave") and name[5:].isdigit()
    ]
    return {
        "role": "master" if master else "replica",
        "master": "" if master else host_and_port(values.get("master_host", ""), int(values.get("master_port", 0))),
        "link": "" if master else values.get("master_link_status", ""),
        "offset": int(values.get("master_repl_offset" if master else "slave_repl_offset", 0)),
        "replicas": replicas,
        "good": int(values.get("min_slaves_good_slaves", 0)),
    }


def _replica(values: Mapping[str, str]) -> dict[str, Any]:
    return {
        "address": host_and_port(values["ip"], int(values["port"])),
        "state": values.get("state", ""),
        "offset": int(values.get("offset", 0)),
        "lag": int(values.get("lag", 0)),
    }


@dataclass(frozen=True)
class View:
    """How one Sentinel sees the cluster. ``problem`` is why it does not say."""

    sentinel: str
    master: str = ""
    epoch: int = 0
    quorum: int = 0
    flags: str = ""
    replicas: Sequence[str] = ()
    sentinels: Sequence[str] = ()
    down: Sequence[str] = ()
    """Replicas and Sentinels that do not answer it."""
    candidates: Sequence[str] = ()
    """Replicas that it may promote: those with a C(replica-priority) above 0."""
    tilt: bool = False
    """Whether it takes part in no failover: for 30 s after it stood still, or its clock was changed."""
    problem: str = ""

    def values(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, (list, tuple)) else value for name, value in asdict(self).items()}


def view(sentinel: str, name: str, ask: Ask) -> View:
    """How a Sentinel sees it."""
    try:
        (master,) = instances(ask("SENTINEL", "MASTER", name))
        replicas = instances(ask("SENTINEL", "REPLICAS", name))
        others = instances(ask("SENTINEL", "SENTINELS", name))
        tilt = "sentinel_tilt:1" in map(str.strip, ask("INFO", "sentinel"))
    except RedisRefusalError as error:
        return View(sentinel, problem=str(error))
    return View(
        sentinel,
        master=_address(master),
        epoch=int(master.get("config-epoch", 0)),
        quorum=int(master.get("quorum", 0)),
        flags=master.get("flags", ""),
        replicas=sorted(map(_address, replicas)),
        sentinels=sorted(map(_address, others)),
        candidates=sorted(_address(each) for each in replicas if _priority(each)),
        down=sorted(_address(each) for each in (*replicas, *others) if any(flag in each.get("flags", "") for flag in _DOWN)),
        tilt=tilt,
    )


def instances(lines: Sequence[str]) -> list[dict[str, str]]:
    """What redis-cli prints of a list of instances: their fields in turn, each instance beginning with its name."""
    found: list[dict[str, str]] = []
    for key, value in zip(lines[::2], lines[1::2]):
        if key == "name":
            found.append({})
        if found:
            found[-1][key] = value
    return found


def _priority(replica: Mapping[str, str]) -> int:
    """The lowest one is promoted first; one with 0 never is."""
    return int(replica.get("slave-priority", 100))


def _address(instance: Mapping[str, str]) -> str:
    return host_and_port(instance.get("ip", ""), int(instance.get("port", 0)))


@dataclass(frozen=True)
class Knowledge:
    """What a Sentinel knows of its cluster, and what it should. Members are those with a Redis, and with a Sentinel, as host and port."""

    seen: View
    redis: frozenset[str]
    sentinels: frozenset[str]
    quorum: int

    def strangers(self) -> list[str]:
        """Those that it knows and that are no members."""
        return sorted(({self.seen.master, *self.seen.replicas} - self.redis - {""}) | ({*self.seen.sentinels} - self.sentinels))

    def gone(self) -> list[str]:
        """Those of them that do not answer. The others would be found again at once."""
        return [each for each in self.strangers() if each in self.seen.down]

    def pending(self) -> list[str]:
        if self.seen.problem:
            return ["quorum", "members"]
        complete = self.redis <= {self.seen.master, *self.seen.replicas} and len(self.seen.sentinels) >= len(self.sentinels) - 1
        return ["quorum"] * (self.seen.quorum != self.quorum) + ["members"] * (not complete) + ["gone"] * bool(self.gone())

    def orders(self, name: str) -> list[list[str]]:
        """What corrects it. What it does not know yet it finds by itself."""
        if self.seen.problem:
            return []
        quorum = [["SENTINEL", "SET", name, "quorum", str(self.quorum)]] if self.seen.quorum != self.quorum else []
        # With a failover under way, those who take part in it would be forgotten.
        calm = self.seen.flags == "master"
        return quorum + ([["SENTINEL", "RESET", name]] if self.gone() and calm else [])


# --- a planned failover ---


class SwitchoverError(Exception):
    """Why there is no switchover; the master is the one before."""


@dataclass
class Switchover:
    """Makes a replica the master in place of the Redis of this host, with no acknowledged write lost.

    Sentinel by itself would promote a replica while the master goes on taking writes, which are lost. Here the master holds
    its writes first, and until every HAProxy has left it: clients wait, their connections are ended, and they connect to the new
    master. None is told that it writes to a replica, or to a master without any, which clients do not take for a reason to try
    again.
    """

    name: str
    own: str
    """This host's Redis, as host and port."""
    redis: Ask
    """Asks the Redis of this host, as its administrator."""
    order: Callable[..., None]
    """Gives the Redis of this host orders, over one connection."""
    sentinel: Ask
    """Asks the Sentinel of this host."""
    peer: Callable[[str], Ask]
    """Asks the Redis at an address."""
    candidate: str = ""
    """The one that takes over, as host and port; empty for the one that Sentinel chooses. Its C(replica-priority) has to be the lowest."""
    timeout: float = 30.0
    notice: float = 2.5
    """Seconds in which every HAProxy has noticed."""
    noticed: float = 25.0
    """Seconds in which Sentinel has read another priority of a replica. It does so every ten."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    held: float = field(default=0.0, init=False)
    """Seconds until another one was the master."""

    def problem(self) -> str:
        """Why now is not the moment; empty when it is."""
        seen = view("", self.name, self.sentinel)
        if seen.problem:
            return f"the Sentinel of this host does not say who the master is: {seen.problem}"
        if seen.master != self.own:
            return f"the Sentinel of this host says that the master is {seen.master}"
        if seen.flags != "master":
            return f"the Sentinel of this host says of the master: {seen.flags}"
        try:
            self.sentinel("SENTINEL", "CKQUORUM", self.name)
        except RedisRefusalError as error:
            return f"the Sentinels could not fail over by themselves: {error}"
        return self._unfit(seen)

    def _unfit(self, seen: View) -> str:
        """Why no replica can take over, or not the one that should."""
        there = self._here()["replicas"]
        lagging = [each["address"] for each in there if each["state"] != "online"]
        absent = sorted({*seen.replicas} - {each["address"] for each in there})
        if lagging or absent or not seen.replicas:
            return f"replicas are not in step: {', '.join([*lagging, *absent]) or 'there are none'}"
        if self.candidate and self.candidate not in seen.replicas:
            return f"{self.candidate} is no replica of {self.own}"
        if not seen.candidates or (self.candidate and self.candidate not in seen.candidates):
            return f"Sentinel never promotes {self.candidate or 'any of the replicas'}, whose replica-priority is 0"
        return ""

    def run(self) -> str:
        """The new master. Raises SwitchoverError when it is the one before."""
        problem = self.problem()
        if problem:
            raise SwitchoverError(problem)
        replicas = [each["address"] for each in self._here()["replicas"]]
        needed = self.redis("CONFIG", "GET", _NEEDED)[1]
        if self.candidate:
            self._await(
                self._preferred, self.noticed, f"Sentinel does not prefer {self.candidate}, whose replica-priority is not the lowest,"
            )
        begun = self.clock()
        # Bounded, should this program end half-way.
        self.order(["CLIENT", "PAUSE", str(int(self.timeout * 1000)), "WRITE"])
        try:
            self._await(lambda: self._in_step(replicas), 3.0, "the replicas did not catch up")
            self.sentinel("SENTINEL", "FAILOVER", self.name)
            # With none left it would refuse writes instead of holding them; and a master that says it needs none is left by HAProxy.
            self.order(["CONFIG", "SET", _NEEDED, "0"])
            leaving = self.clock()
            master = self._await(lambda: self._promoted(replicas), self.timeout / 2, "Sentinel promoted no replica")
        except (SwitchoverError, RedisRefusalError) as error:
            self.order(["CONFIG", "SET", _NEEDED, needed], ["CLIENT", "UNPAUSE"])
            raise SwitchoverError(str(error)) from error
        self.held = self.clock() - begun
        self._await(lambda: self._known(master), self.timeout / 3, f"the Sentinels did not follow {master}")
        self.sleep(max(0.0, self.notice - (self.clock() - leaving)))
        host, _colon, port = master.rpartition(":")
        self.order(
            ["REPLICAOF", host.strip("[]"), port],
            ["CONFIG", "SET", _NEEDED, needed],
            ["CONFIG", "REWRITE"],
            ["CLIENT", "KILL", "TYPE", "normal"],
            ["CLIENT", "KILL", "TYPE", "pubsub"],
            ["CLIENT", "UNPAUSE"],
        )
        self._await(lambda: self._follows(master), self.timeout, f"{master} is the master, and this host did not follow it")
        if self.candidate not in ("", master):
            raise SwitchoverError(f"Sentinel made {master} the master, and not {self.candidate}; everything else is as it should be")
        return master

    def _here(self) -> dict[str, Any]:
        return replication(self.redis("INFO", "replication"))

    def _there(self, address: str) -> dict[str, Any]:
        """What a replica says. One that is promoted ends its connections, and answers over the next."""
        try:
            return replication(self.peer(address)("INFO", "replication"))
        except RedisRefusalError:
            return {"role": "", "offset": -1}

    def _preferred(self) -> str:
        """Not empty when Sentinel would promote the candidate, all replicas being in step."""
        found = {_address(each): _priority(each) for each in instances(self.sentinel("SENTINEL", "REPLICAS", self.name))}
        others = [priority for address, priority in found.items() if address != self.candidate and priority]
        return "yes" if 0 < found.get(self.candidate, 0) < min(others, default=1 << 31) else ""

    def _in_step(self, replicas: Sequence[str]) -> str:
        """Not empty when every replica has all that the master has."""
        wanted = self._here()["offset"]
        return "yes" if all(self._there(each)["offset"] >= wanted for each in replicas) else ""

    def _promoted(self, replicas: Sequence[str]) -> str:
        return next((each for each in replicas if self._there(each)["role"] == "master"), "")

    def _known(self, master: str) -> str:
        seen = view("", self.name, self.sentinel)
        return "yes" if (seen.master, seen.flags) == (master, "master") else ""

    def _follows(self, master: str) -> str:
        here = self._there(self.own)
        return "yes" if (here.get("master"), here.get("link")) == (master, "up") else ""

    def _await(self, done: Callable[[], str], seconds: float, otherwise: str) -> str:
        end = self.clock() + seconds
        while True:
            found = done()
            if found:
                return found
            if self.clock() > end:
                raise SwitchoverError(f"{otherwise} within {seconds:g} s")
            self.sleep(0.05)
