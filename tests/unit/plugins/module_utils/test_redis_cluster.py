"""What several Redis are to each other; servers are fakes that answer as redis-cli prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.resp import redis_requests
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_cluster import (
    Knowledge,
    Switchover,
    SwitchoverError,
    View,
    holds_data,
    instances,
    replication,
    replication_state,
    sentinel_state,
    view,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import RedisRefusalError
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.redis_cluster import redis_cluster

A, B, C = "10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"


# --- what is on disk ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (False, "")),
        ("", (True, "")),
        ("min-replicas-to-write 1\n", (True, "")),
        ("# replicaof 1.1.1.1 1\nreplicaof 10.0.0.1 6379\n", (True, A)),
        ('replicaof "fd00::1" 6379\nuser replicaof on\n', (True, "[fd00::1]:6379")),
    ],
)
def test_whose_replica_it_would_start_as(tmp_path: Path, text: str | None, expected: tuple[bool, str]) -> None:
    file = tmp_path / "state.conf"
    if text is not None:
        file.write_text(text)
    found = replication_state(str(file))
    assert (found["written"], found["replica_of"]) == expected


def test_whom_a_sentinel_would_follow(tmp_path: Path) -> None:
    file = tmp_path / "sentinel.conf"
    assert sentinel_state(str(file), "prefect") == {"master": "", "epoch": 0}
    file.write_text(
        "port 1\nsentinel monitor other 1.1.1.1 1 1\nsentinel monitor prefect 10.0.0.1 6379 2\nsentinel config-epoch prefect 7\n"
    )
    assert sentinel_state(str(file), "prefect") == {"master": A, "epoch": 7}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, False),
        ({"dump.rdb": 88}, False),
        ({"dump.rdb": 900}, True),
        ({"appendonlydir/appendonly.aof.1.base.rdb": 88, "appendonlydir/appendonly.aof.1.incr.aof": 0, "dump.rdb": 900}, False),
        ({"appendonlydir/appendonly.aof.1.base.rdb": 88, "appendonlydir/appendonly.aof.1.incr.aof": 23}, True),
        ({"appendonlydir/appendonly.aof.2.base.rdb": 900, "appendonlydir/appendonly.aof.manifest": 90}, True),
    ],
)
def test_whether_there_is_data(tmp_path: Path, files: Mapping[str, int], expected: bool) -> None:
    for name, size in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert holds_data(str(tmp_path)) is expected


# --- what they say ---


def test_a_master_and_a_replica() -> None:
    told = [
        "# Replication",
        "role:master",
        "connected_slaves:2",
        "min_slaves_good_slaves:1",
        "slave0:ip=10.0.0.2,port=6379,state=online,offset=90,lag=0",
        "slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=7",
        "master_repl_offset:100",
    ]
    # As redis-cli prints it.
    master = replication([f"{line}\r" for line in told])
    assert (master["role"], master["master"], master["link"], master["offset"], master["good"]) == ("master", "", "", 100, 1)
    assert master["replicas"] == [
        {"address": B, "state": "online", "offset": 90, "lag": 0},
        {"address": C, "state": "wait_bgsave", "offset": 0, "lag": 7},
    ]
    replica = replication(["role:slave", "master_host:10.0.0.1", "master_port:6379", "master_link_status:up", "slave_repl_offset:99"])
    assert replica == {"role": "replica", "master": A, "link": "up", "offset": 99, "replicas": [], "good": 0}


def fields(address: str, flags: str, **more: str) -> list[str]:
    host, _colon, port = address.rpartition(":")
    values = {"name": "prefect", "ip": host, "port": port, "runid": "", "flags": flags, **more}
    return [word for pair in values.items() for word in pair]


def sentinel(replies: Mapping[str, list[str] | Exception]) -> Any:
    def ask(*words: str) -> list[str]:
        reply = replies[words[1]]
        if isinstance(reply, Exception):
            raise reply
        return reply

    return ask


def test_how_a_sentinel_sees_it() -> None:
    replies: dict[str, list[str] | Exception] = {
        "MASTER": fields(A, "master", **{"config-epoch": "3", "quorum": "2"}),
        "REPLICAS": [*fields(B, "slave"), *fields(C, "s_down,slave,disconnected")],
        "SENTINELS": fields("10.0.0.2:26379", "sentinel"),
        "sentinel": ["# Sentinel\r", "sentinel_tilt:0\r", "sentinel_tilt_since_seconds:-1\r"],
    }
    seen = view("10.0.0.1:26379", "prefect", sentinel(replies))
    assert (seen.master, seen.epoch, seen.quorum, seen.flags) == (A, 3, 2, "master")
    assert (seen.replicas, seen.sentinels, seen.down, seen.problem) == ([B, C], ["10.0.0.2:26379"], [C], "")
    assert (seen.values()["down"], seen.tilt) == ([C], False)
    assert view("x", "prefect", sentinel({**replies, "sentinel": ["sentinel_tilt:1\r", "sentinel_tilt_since_seconds:4\r"]})).tilt
    replies["SENTINELS"] = RedisRefusalError("NOPERM")
    assert view("x", "prefect", sentinel(replies)) == View("x", problem="NOPERM")


def test_instances_with_empty_fields() -> None:
    assert instances(["name", "a", "runid", "", "name", "b"]) == [{"name": "a", "runid": ""}, {"name": "b"}]
    assert instances([]) == []


MEMBERS = frozenset({A, B, C})
SENTINELS = frozenset({"10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"})
OTHERS = ("10.0.0.2:26379", "10.0.0.3:26379")


@pytest.mark.parametrize(
    ("seen", "pending", "orders"),
    [
        (View("x", A, 1, 2, "master", (B, C), OTHERS), [], []),
        (View("x", A, 1, 3, "master", (B, C), OTHERS), ["quorum"], [["SENTINEL", "SET", "p", "quorum", "2"]]),
        (View("x", A, 1, 2, "master", (B,), OTHERS), ["members"], []),
        (View("x", A, 1, 2, "master", (B, C), OTHERS[:1]), ["members"], []),
        (View("x", A, 1, 2, "master", (B, C, "10.0.0.9:6379"), OTHERS, ("10.0.0.9:6379",)), ["gone"], [["SENTINEL", "RESET", "p"]]),
        # One that still answers would be found again, and a failover is not to be disturbed.
        (View("x", A, 1, 2, "master", (B, C, "10.0.0.9:6379"), OTHERS), [], []),
        (View("x", A, 1, 2, "master,s_down", (B, C, "10.0.0.9:6379"), OTHERS, ("10.0.0.9:6379",)), ["gone"], []),
        (View("x", A, 1, 2, "master", (B, C), OTHERS, (C,)), [], []),
        (View("x", problem="no answer"), ["quorum", "members"], []),
    ],
)
def test_what_a_sentinel_should_know(seen: View, pending: list[str], orders: list[list[str]]) -> None:
    known = Knowledge(seen, MEMBERS, SENTINELS, 2)
    assert (known.pending(), known.orders("p")) == (pending, orders)


# --- a planned failover ---


@dataclass
class Site:
    """Three Redis, of which A is the master, and the Sentinel of A's host. Time passes when something waits."""

    now: float = 0.0
    master: str = A
    paused: bool = False
    offsets: dict[str, int] = field(default_factory=lambda: {A: 100, B: 98, C: 97})
    lag: float = 0.2
    """Seconds in which replicas catch up with a master that takes no writes."""
    promotes: float = 0.5
    flags: str = "master"
    missing: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    priorities: dict[str, int] = field(default_factory=lambda: {B: 100, C: 100})
    seen_after: float = 0.0
    """Seconds after which the Sentinel has read them. It takes all for 100 before."""
    paused_at: float = 0.0
    failover_at: float | None = None
    ordered: list[list[str]] = field(default_factory=list)
    followed: str = ""

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.paused and self.now - self.paused_at >= self.lag:
            self.offsets = dict.fromkeys(self.offsets, self.offsets[A])
        if self.failover_at is not None and self.now - self.failover_at >= self.promotes:
            self.master = min(self.seen(), key=lambda each: self.seen()[each])

    def seen(self) -> dict[str, int]:
        """The priorities as the Sentinel knows them."""
        return self.priorities if self.now >= self.seen_after else dict.fromkeys(self.priorities, 100)

    def redis(self, *words: str) -> list[str]:
        if words[0] == "CONFIG":
            return ["min-replicas-to-write", "1"]
        there = [each for each in (B, C) if each not in self.missing]
        lines = [f"slave{n}:ip={each[:-5]},port=6379,state=online,offset={self.offsets[each]},lag=0" for n, each in enumerate(there)]
        return ["role:master", *lines, f"master_repl_offset:{self.offsets[A]}"]

    def order(self, *orders: list[str]) -> None:
        self.ordered += orders
        for words in orders:
            if words[:2] == ["CLIENT", "PAUSE"]:
                self.paused, self.paused_at = True, self.now
            if words[:2] == ["CLIENT", "UNPAUSE"]:
                self.paused = False
            if words[0] == "REPLICAOF":
                assert self.paused, "a master that takes writes would lose them"
                self.followed = f"{words[1]}:{words[2]}"

    def sentinel(self, *words: str) -> list[str]:
        if words[1] in self.refuses:
            raise RedisRefusalError(f"{words[1]} refused")
        if words[1] == "FAILOVER":
            assert self.paused and len({*self.offsets.values()}) == 1, "what the replicas lack would be lost"
            self.failover_at = self.now
        known = [each for each in (A, B, C) if each != self.master]
        return {
            "MASTER": fields(self.master, self.flags),
            "REPLICAS": [word for each in known for word in fields(each, "slave", **{"slave-priority": str(self.seen().get(each, 100))})],
        }.get(words[1], ["OK"])

    def peer(self, address: str) -> Any:
        def ask(*_words: str) -> list[str]:
            if address == A and self.followed:
                host, _colon, port = self.followed.rpartition(":")
                return ["role:slave", f"master_host:{host}", f"master_port:{port}", "master_link_status:up"]
            if address == self.master:
                return ["role:master", f"master_repl_offset:{self.offsets[address]}"]
            return ["role:slave", "master_host:x", "master_port:1", f"slave_repl_offset:{self.offsets[address]}"]

        return ask

    def switchover(self, candidate: str = "") -> Switchover:
        move = Switchover("prefect", A, self.redis, self.order, self.sentinel, self.peer, candidate)
        move.clock, move.sleep = lambda: self.now, self.sleep
        return move


def test_a_planned_failover_holds_writes_until_the_other_one_is_the_master() -> None:
    site = Site()
    move = site.switchover()
    assert move.run() == B
    assert [" ".join(words) for words in site.ordered] == [
        "CLIENT PAUSE 30000 WRITE",
        "CONFIG SET min-replicas-to-write 0",
        "REPLICAOF 10.0.0.2 6379",
        "CONFIG SET min-replicas-to-write 1",
        "CONFIG REWRITE",
        "CLIENT KILL TYPE normal",
        "CLIENT KILL TYPE pubsub",
        "CLIENT UNPAUSE",
    ]
    # Not before HAProxy has noticed.
    assert site.now > 2.6
    assert 0.5 < move.held < 1.5


def test_a_planned_failover_to_a_certain_replica_waits_until_sentinel_prefers_it() -> None:
    site = Site(priorities={B: 100, C: 1}, seen_after=8)
    move = site.switchover(C)
    assert move.run() == C
    # No write is held before.
    assert 8 <= site.paused_at < 9
    assert move.held < 1.5
    assert site.followed == C


@pytest.mark.parametrize(
    ("site", "candidate", "words"),
    [
        (Site(), "10.0.0.9:6379", "10.0.0.9:6379 is no replica of 10.0.0.1:6379"),
        (Site(priorities={B: 100, C: 0}), C, f"Sentinel never promotes {C}, whose replica-priority is 0"),
        (Site(priorities={B: 0, C: 0}), "", "Sentinel never promotes any of the replicas, whose replica-priority is 0"),
        (Site(), C, f"Sentinel does not prefer {C}, whose replica-priority is not the lowest, within 25 s"),
    ],
)
def test_a_candidate_that_sentinel_would_not_promote(site: Site, candidate: str, words: str) -> None:
    with pytest.raises(SwitchoverError, match=words):
        site.switchover(candidate).run()
    assert site.ordered == []


def test_a_candidate_that_is_lost_half_way() -> None:
    """The master that there is then is said."""
    site = Site(priorities={B: 100, C: 1})
    move = site.switchover(C)

    def order(*orders: list[str]) -> None:
        site.priorities[C] = 200
        site.order(*orders)

    move.order = order
    with pytest.raises(SwitchoverError, match=f"Sentinel made {B} the master, and not {C}"):
        move.run()
    assert (site.followed, site.paused) == (B, False)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (Site(master=B), f"says that the master is {B}"),
        (Site(flags="master,s_down"), "says of the master: master,s_down"),
        (Site(refuses=("CKQUORUM",)), "the Sentinels could not fail over by themselves: CKQUORUM refused"),
        (Site(refuses=("MASTER",)), "does not say who the master is: MASTER refused"),
        (Site(missing=(C,)), f"replicas are not in step: {C}"),
        (Site(missing=(B, C)), f"replicas are not in step: {B}, {C}"),
    ],
)
def test_a_switchover_at_a_bad_moment_changes_nothing(site: Site, words: str) -> None:
    with pytest.raises(SwitchoverError, match=words.replace("(", "[(]")):
        site.switchover().run()
    assert site.ordered == []


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (Site(lag=60), "the replicas did not catch up within 3 s"),
        (Site(refuses=("FAILOVER",)), "FAILOVER refused"),
        (Site(promotes=60), "Sentinel promoted no replica within 15 s"),
    ],
)
def test_a_switchover_that_fails_lets_the_master_go_on(site: Site, words: str) -> None:
    with pytest.raises(SwitchoverError, match=words):
        site.switchover().run()
    assert site.ordered[0][:2] == ["CLIENT", "PAUSE"]
    assert site.ordered[-2:] == [["CONFIG", "SET", "min-replicas-to-write", "1"], ["CLIENT", "UNPAUSE"]]
    assert not site.followed


# --- who the master is ---


def hosts(**members: Any) -> dict[str, Any]:
    bare = {
        "state": {"written": False, "replica_of": ""},
        "sentinel_state": {"master": "", "epoch": 0},
        "data": False,
        "asked": True,
        "sentinels": [],
    }
    found = {}
    for number, name in enumerate("abc", 1):
        values = members.get(name, {})
        found[name] = {"prefect_address": f"10.0.0.{number}", **({} if values is None else {"__redis_member": {**bare, **values}})}
    return found


def sees(sentinel: str, master: str, epoch: int = 1, problem: str = "") -> dict[str, Any]:
    return {"sentinel": sentinel, "master": master, "epoch": epoch, "problem": problem}


@pytest.mark.parametrize(
    ("members", "master", "formed"),
    [
        pytest.param({}, "a", False, id="bare hosts"),
        pytest.param({"b": {"data": True}}, "b", False, id="a single server and two bare hosts"),
        pytest.param({"a": None, "b": {"data": True}}, "", False, id="not all are known"),
        pytest.param({"c": {"state": {"written": True, "replica_of": ""}}}, "c", False, id="a first run was cut off"),
        pytest.param({"a": {"sentinels": [sees("s1", C), sees("s2", C), sees("s3", A)]}}, "c", True, id="most Sentinels"),
        pytest.param({"a": {"sentinels": [sees("s1", A, 1), sees("s2", B, 2)]}}, "b", True, id="the newer of two"),
        pytest.param(
            {"a": {"sentinels": [sees("s1", C, problem="no answer"), sees("s2", B)]}, "c": None}, "b", True, id="one is limited out"
        ),
        pytest.param(
            {"a": {"sentinel_state": {"master": A, "epoch": 1}}, "b": {"sentinel_state": {"master": C, "epoch": 3}}, "c": {"data": True}},
            "c",
            False,
            id="no Sentinel answers, and one wrote a newer one",
        ),
        pytest.param({"a": {"sentinels": [sees("s1", "10.0.9.9:6379")]}}, "", True, id="of another cluster"),
    ],
)
def test_the_master(members: dict[str, Any], master: str, formed: bool) -> None:
    found = redis_cluster(["a", "b", "c"], hosts(**members), 6379)
    assert (found["master"], found["formed"]) == (master, formed)


# --- what HAProxy sends ---


def test_commands_as_bytes() -> None:
    sent = bytes.fromhex(redis_requests([["AUTH", "a", 'p"ä '], ["INFO", 1]]))
    assert sent == b'*3\r\n$4\r\nAUTH\r\n$1\r\na\r\n$5\r\np"\xc3\xa4 \r\n*2\r\n$4\r\nINFO\r\n$1\r\n1\r\n'
    assert redis_requests([["AUTH", "a", "b"]]) == "2a330d0a24340d0a415554480d0a24310d0a610d0a24310d0a620d0a"
    with pytest.raises(TypeError):
        redis_requests(["AUTH a b"])
