# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Patroni's API, etcd's client and the data of PostgreSQL, each with answers as the real ones give them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Request
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster import data, etcd, host, patroni
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished

URLS = {"db1": "https://10.0.0.1:8008", "db2": "https://10.0.0.2:8008", "db3": "https://10.0.0.3:8008"}


def member(name: str, role: str = "replica", state: str = "streaming", lag: Any = 0, timeline: int = 1, **more: Any) -> dict[str, Any]:
    values = {"name": name, "role": role, "state": state, "timeline": timeline, "api_url": f"{URLS[name]}/patroni", **more}
    return values if role == "leader" else {**values, "lag": lag}


def leader(name: str, timeline: int = 1, **more: Any) -> dict[str, Any]:
    return member(name, "leader", "running", timeline=timeline, **more)


WHOLE = [leader("db1"), member("db2", "sync_standby"), member("db3")]


class Server:
    """The APIs of three members. Each list of members is the answer to one question for the cluster; the last one stays."""

    def __init__(self, *clusters: list[dict[str, Any]], config: Mapping[str, Any] | None = None) -> None:
        self.clusters, self.config = list(clusters), dict(config or {})
        self.down: set[str] = set()
        self.refuses: dict[str, Answer] = {}
        self.refuses_once: dict[str, Answer] = {}
        self.told: list[tuple[str, str, str, Any]] = []
        self.now = 0.0

    def ask(self, request: Request, timeout: float) -> Answer:
        name = next(name for name, url in URLS.items() if request.url.startswith(url))
        path = request.url.removeprefix(URLS[name])
        if name in self.down:
            self.now += timeout
            raise NetError(f"did not answer within {timeout:g} s")
        if path in self.refuses_once:
            return self.refuses_once.pop(path)
        if path in self.refuses:
            return self.refuses[path]
        if request.method != "GET":
            self.told.append((name, request.method, path, request.body))
            return Answer(200, b"done")
        if path == "/cluster":
            members = self.clusters.pop(0) if len(self.clusters) > 1 else self.clusters[0]
            return Answer(200, json.dumps({"members": members, "pause": False}).encode())
        return Answer(200, json.dumps(self.config if path == "/config" else {"database_system_identifier": "74"}).encode())

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def patroni(self) -> patroni.Patroni:
        return patroni.Patroni(URLS, {"ca_file": "/ca"}, ask=self.ask, timer=patroni.Timer(lambda: self.now, self.sleep))


@pytest.mark.parametrize(
    ("members", "good"),
    [
        (WHOLE, True),
        # Patroni 3 says that a replica runs, Patroni 4 that it streams.
        ([leader("db1"), member("db2", state="running")], True),
        ([leader("db1"), member("db2", state="starting")], False),
        ([leader("db1"), member("db2", lag=2_000_000)], False),
        ([leader("db1"), member("db2", lag="unknown")], False),
        ([leader("db1", timeline=2), member("db2")], False),
        ([member("db1"), member("db2")], False),
        ([leader("db1")], False),
        ([member("db1"), leader("db2")], False),
    ],
)
def test_what_is_in_step(members: list[dict[str, Any]], good: bool) -> None:
    assert patroni.cluster({"members": members}).follows("db2", 1_000_000) is good


def test_the_first_that_answers_tells_of_the_cluster() -> None:
    server = Server(WHOLE)
    server.down = {"db1", "db2"}
    found = server.patroni.cluster()
    assert found.leader and found.leader.name == "db1"
    assert [each.name for each in found.synchronous] == ["db2"]
    assert found.values()["members"][2] == {
        "name": "db3",
        "role": "replica",
        "state": "streaming",
        "lag": 0,
        "timeline": 1,
        "pending_restart": False,
    }
    server.down |= {"db3"}
    with pytest.raises(patroni.PatroniError, match="No member of the cluster tells how it is: db1 did not answer within 5 s; db2"):
        server.patroni.cluster()


def test_without_etcd_none_tells_of_the_cluster() -> None:
    server = Server(WHOLE)
    server.refuses["/config"] = Answer(502, b"")
    with pytest.raises(patroni.PatroniError, match="tells its configuration: db1 does not know it; db2"):
        server.patroni.config()


@pytest.mark.parametrize(
    ("wanted", "found", "changes"),
    [
        ({"ttl": 20}, {"ttl": 20, "loop_wait": 5}, {}),
        ({"ttl": 20}, {"ttl": 30}, {"ttl": 20}),
        ({"failsafe_mode": True}, {"failsafe_mode": "on"}, {}),
        ({"failsafe_mode": True}, {}, {"failsafe_mode": True}),
        (
            {"postgresql": {"parameters": {"max_connections": 300, "a": "b"}}},
            {"postgresql": {"parameters": {"max_connections": "200", "a": "b"}, "use_slots": True}},
            {"postgresql": {"parameters": {"max_connections": 300}}},
        ),
        ({"postgresql": {"use_pg_rewind": True}}, {"postgresql": None}, {"postgresql": {"use_pg_rewind": True}}),
        ({"standby_cluster": None}, {}, {}),
        ({"standby_cluster": None}, {"standby_cluster": {"host": "x"}}, {"standby_cluster": None}),
        ({"methods": ["basebackup"]}, {"methods": ["basebackup"]}, {}),
    ],
)
def test_differences(wanted: dict[str, Any], found: dict[str, Any], changes: dict[str, Any]) -> None:
    assert patroni.differences(wanted, found) == changes


@pytest.mark.parametrize("dry", [False, True])
def test_configure(dry: bool) -> None:
    server = Server(WHOLE, config={"ttl": 30, "postgresql": {"parameters": {"wal_level": "logical", "work_mem": "8MB"}}})
    changes, before = patroni.configure(server.patroni, {"ttl": 20}, ["wal_level", "max_wal_senders"], dry=dry)
    assert changes == {"ttl": 20, "postgresql": {"parameters": {"wal_level": None}}}
    assert before["ttl"] == 30
    assert server.told == ([] if dry else [("db1", "PATCH", "/config", changes)])


def test_configure_what_is_so() -> None:
    server = Server(WHOLE, config={"ttl": 20})
    assert patroni.configure(server.patroni, {"ttl": 20})[0] == {}
    assert server.told == []


def test_restart_a_replica() -> None:
    stopped = [leader("db1"), member("db2", state="starting"), member("db3")]
    server = Server(WHOLE, stopped, stopped, WHOLE)
    patroni.restart(server.patroni, "db2", 60, 100)
    assert server.told == [("db2", "POST", "/restart", {})]
    assert server.now > 0


def test_restart_the_primary() -> None:
    server = Server(WHOLE, [leader("db1", state_=1) | {"state": "restarting"}, WHOLE[1]], WHOLE)
    patroni.restart(server.patroni, "db1", 60, 100)
    assert server.told == [("db1", "POST", "/restart", {})]


def test_a_restart_that_does_not_end() -> None:
    server = Server(WHOLE, [leader("db1"), member("db2", state="crashed", lag="unknown"), member("db3")])
    with pytest.raises(patroni.PatroniError) as raised:
        patroni.restart(server.patroni, "db2", 30, 100)
    assert str(raised.value) == (
        "db2 was restarted, and is not in step with the primary again within 30 s. The cluster: db1 is leader (running);"
        " db2 is replica (crashed); db3 is replica (streaming, 0 bytes behind)."
    )
    assert 30 <= server.now < 32


def test_what_is_refused() -> None:
    server = Server(WHOLE)
    server.refuses["/restart"] = Answer(503, b"restart failed")
    with pytest.raises(patroni.PatroniError, match=r"Patroni on db2 refuses /restart: HTTP 503 restart failed\."):
        patroni.restart(server.patroni, "db2", 30, 100)
    server.down = {"db3"}
    with pytest.raises(patroni.PatroniError, match=r"Patroni on db3 did not answer within"):
        patroni.restart(server.patroni, "db3", 30, 100)


SWITCHED = [member("db1", timeline=2), leader("db2", timeline=2), member("db3", "sync_standby", timeline=2)]


@pytest.mark.parametrize(("candidate", "chosen"), [("", "db2"), ("db2", "db2")])
def test_switch(candidate: str, chosen: str) -> None:
    stopped = [leader("db1", state_=1) | {"state": "stopping"}, *WHOLE[1:]]
    between = [member("db1", state="stopped", lag="unknown"), leader("db2", timeline=2), member("db3", timeline=2)]
    server = Server(WHOLE, stopped, between, SWITCHED)
    changed, took = patroni.switch(server.patroni, candidate, 60, 100)
    assert changed and 0 < took < 2
    assert server.told == [("db1", "POST", "/switchover", {"leader": "db1", "candidate": chosen})]


def test_switch_to_a_replica_that_does_not_confirm_writes() -> None:
    """It does for as long as it takes, because no other may take over."""
    confirming = [leader("db1"), member("db2", "sync_standby"), member("db3", "sync_standby")]
    switched = [member("db1", timeline=2), member("db2", "sync_standby", timeline=2), leader("db3", timeline=2)]
    server = Server(WHOLE, WHOLE, WHOLE, confirming, confirming, switched, config={"synchronous_node_count": 1})
    assert patroni.switch(server.patroni, "db3", 60, 100)[0]
    assert [(path, body) for _name, _method, path, body in server.told] == [
        ("/config", {"synchronous_node_count": 2}),
        ("/switchover", {"leader": "db1", "candidate": "db3"}),
        ("/config", {"synchronous_node_count": 1}),
    ]


def test_what_was_changed_for_a_switch_is_reverted() -> None:
    server = Server(WHOLE, config={"ttl": 20})
    with pytest.raises(patroni.PatroniError, match="db3 does not confirm writes within 10 s"):
        patroni.switch(server.patroni, "db3", 10, 100)
    assert [body for _name, _method, _path, body in server.told] == [{"synchronous_node_count": 2}, {"synchronous_node_count": None}]


STANDBY_CHANGED = Answer(412, b"candidate name does not match with sync_standby")


def test_switch_when_another_replica_confirms_writes_by_then() -> None:
    """A replica that was just restarted may confirm them in the cluster that was read, and not when Patroni compares."""
    other = [leader("db1"), member("db2"), member("db3", "sync_standby")]
    switched = [member("db1", timeline=2), member("db2", timeline=2), leader("db3", timeline=2)]
    server = Server(WHOLE, other, switched)
    server.refuses_once["/switchover"] = STANDBY_CHANGED
    assert patroni.switch(server.patroni, "", 60, 100)[0]
    assert server.told == [("db1", "POST", "/switchover", {"leader": "db1", "candidate": "db3"})]


def test_switch_when_no_replica_may_take_over_in_time() -> None:
    server = Server(WHOLE)
    server.refuses["/switchover"] = STANDBY_CHANGED
    with pytest.raises(patroni.PatroniError, match=r"Patroni on db1 refuses /switchover: HTTP 412 candidate name does not match"):
        patroni.switch(server.patroni, "", 10, 100)
    assert 10 <= server.now < 12


def test_switch_to_the_one_that_is_the_primary() -> None:
    server = Server(WHOLE)
    assert patroni.switch(server.patroni, "db1", 60, 100)[0] is False
    assert patroni.switch(server.patroni, "db2", 60, 100, dry=True)[0] is True
    assert server.told == []


@pytest.mark.parametrize(
    ("members", "candidate", "said"),
    [
        ([leader("db1"), WHOLE[1], member("db3", state="stopped")], "db3", "db3 cannot take over without loss"),
        ([leader("db1"), member("db2", lag=5000)], "", "No replica can take over without loss"),
        ([member("db1"), member("db2")], "", "There is no primary to switch from"),
    ],
)
def test_switches_that_are_refused(members: list[dict[str, Any]], candidate: str, said: str) -> None:
    server = Server(members)
    with pytest.raises(patroni.PatroniError, match=said):
        patroni.switch(server.patroni, candidate, 60, 100)
    assert server.told == []


def test_reinitialize() -> None:
    copying = [leader("db1"), WHOLE[1], member("db3", state="creating replica", lag="unknown")]
    server = Server(WHOLE, copying, WHOLE)
    patroni.reinitialize(server.patroni, "db3", 60, 100)
    assert server.told == [("db3", "POST", "/reinitialize", {"force": True})]


@pytest.mark.parametrize(("name", "said"), [("db1", "db1 is the primary"), ("db9", "db9 is no member of the cluster: db1 is leader")])
def test_what_is_not_copied_anew(name: str, said: str) -> None:
    with pytest.raises(patroni.PatroniError, match=said):
        patroni.reinitialize(Server(WHOLE).patroni, name, 60, 100)


# --- etcd ---


def listed(*members: tuple[int, str, str]) -> str:
    found = [
        {"ID": number, "name": name, "peerURLs": [f"https://{address}:2380"], "clientURLs": [f"https://{address}:2379"] if name else []}
        for number, name, address in members
    ]
    return '{"level":"warn"}\n'.replace("{", "[").replace("}", "]") + json.dumps(
        {"header": {"cluster_id": 0xFF00FF00FF00FF00}, "members": found}
    )


class Client:
    """etcdctl: it lists what it has, and what it is told is recorded."""

    def __init__(self, *members: tuple[int, str, str]) -> None:
        self.members = list(members)
        self.told: list[list[str]] = []
        self.argv: list[str] = []
        self.down: set[str] = set()

    def run(self, argv: list[str], _timeout: float, env: Mapping[str, str] | None = None) -> Finished:
        assert env == {"ETCDCTL_API": "3"}
        self.argv = list(argv)
        words = [word for word in argv[1:] if not word.startswith("--")]
        if words[:2] == ["member", "add"]:
            url = next(word for word in argv if word.startswith("--peer-urls=")).partition("=")[2]
            self.members.append((99, "", url.split("//")[1].split(":")[0]))
            self.told.append([*words, url])
        elif words[:2] == ["member", "remove"]:
            self.members = [each for each in self.members if f"{each[0]:x}" != words[2]]
            self.told.append(words)
        elif words == ["endpoint", "health"]:
            silent = any(f"--endpoints=https://{address}:2379" in argv for address in self.down)
            return Finished(0 if self.members and not silent else 1, "")
        return Finished(0, listed(*self.members))

    @property
    def etcd(self) -> etcd.Etcd:
        return etcd.Etcd(["https://10.0.0.1:2379"], {"ca_file": "/ca", "cert_file": "/c", "key_file": "/k"}, 3, self.run)


THREE = ((1, "db1", "10.0.0.1"), (2, "db2", "10.0.0.2"), (3, "db3", "10.0.0.3"))


def test_members() -> None:
    client = Client(*THREE, (0xABCDEF, "", "10.0.0.4"))
    found = client.etcd.members()
    assert found.cluster_id == "ff00ff00ff00ff00"
    assert found.members[3].values() == {"id": "abcdef", "name": "", "peer_urls": ["https://10.0.0.4:2380"], "started": False}
    assert found.initial_cluster("db4", "https://10.0.0.4:2380") == (
        "db1=https://10.0.0.1:2380,db2=https://10.0.0.2:2380,db3=https://10.0.0.3:2380,db4=https://10.0.0.4:2380"
    )
    assert client.argv == [
        "etcdctl",
        "--endpoints=https://10.0.0.1:2379",
        "--dial-timeout=3s",
        "--command-timeout=3s",
        "--cacert=/ca",
        "--cert=/c",
        "--key=/k",
        "member",
        "list",
        "--write-out=json",
    ]
    assert client.etcd.healthy() and not Client().etcd.healthy()


@pytest.mark.parametrize(
    ("members", "fresh", "changed", "told"),
    [
        # A new host.
        (THREE[:2], True, True, [["member", "add", "db3", "https://10.0.0.3:2380"]]),
        # A run that was cut off between the two.
        ((*THREE[:2], (7, "", "10.0.0.3")), True, False, []),
        # One that has run, and is there.
        (THREE, False, False, []),
        # One that has run, and has lost its data, or stands elsewhere now.
        (THREE, True, True, [["member", "remove", "3"], ["member", "add", "db3", "https://10.0.0.3:2380"]]),
        (
            (*THREE[:2], (3, "db3", "10.0.0.9")),
            False,
            True,
            [["member", "remove", "3"], ["member", "add", "db3", "https://10.0.0.3:2380"]],
        ),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_join(members: Any, fresh: bool, changed: bool, told: list[list[str]], dry: bool) -> None:
    client = Client(*members)
    found = etcd.join(client.etcd, "db3", "https://10.0.0.3:2380", fresh=fresh, dry=dry)
    assert (found[0], client.told) == (changed, [] if dry else told)
    assert found[1].initial_cluster("db3", "https://10.0.0.3:2380").endswith("db3=https://10.0.0.3:2380")


@pytest.mark.parametrize("dry", [False, True])
def test_leave(dry: bool) -> None:
    client = Client(*THREE, (7, "", "10.0.0.4"))
    assert etcd.leave(client.etcd, "db9")[0] is False
    assert etcd.leave(client.etcd, "db3", dry=dry)[0] is True
    assert etcd.leave(client.etcd, "db4", "https://10.0.0.4:2380", dry=dry)[0] is True
    assert client.told == ([] if dry else [["member", "remove", "3"], ["member", "remove", "7"]])


@pytest.mark.parametrize("dry", [False, True])
def test_prune(dry: bool) -> None:
    """Of those that are not wanted, one that answers takes part; one that is wanted may be about to start, or be another one's place."""
    client = Client(*THREE, (4, "db4", "10.0.0.4"), (5, "db5", "10.0.0.5"), (6, "", "10.0.0.6"), (7, "", "10.0.0.7"))
    client.down = {"10.0.0.2", "10.0.0.4", "10.0.0.5"}
    wanted = {name: f"https://{address}:2380" for name, address in (("db1", "10.0.0.1"), ("db2", "10.0.0.9"), ("db6", "10.0.0.6"))}
    changed, found = etcd.prune(client.etcd, wanted, dry=dry)
    assert changed
    assert client.told == ([] if dry else [["member", "remove", number] for number in ("4", "5", "7")])
    assert [each.id for each in found.members] == (["1", "2", "3", "4", "5", "6", "7"] if dry else ["1", "2", "3", "6"])
    assert etcd.prune(client.etcd, wanted, dry=dry)[0] is dry


@pytest.mark.parametrize("answer", [Finished(1, "a warning\nError: context deadline exceeded"), Finished(0, "none"), Finished(0, "{")])
def test_an_etcd_that_does_not_tell(answer: Finished) -> None:
    with pytest.raises(etcd.EtcdError, match=r"Error: context deadline exceeded|none|\{"):
        etcd.Etcd(["http://x"], run=lambda *_words, **_more: answer).members()


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_quorum(members: int, needed: int) -> None:
    assert etcd.quorum(members) == needed


def test_initial() -> None:
    lines = ["# ours", 'ETCD_INITIAL_CLUSTER="a=b,c=d"', "", "ETCD_INITIAL_CLUSTER_TOKEN=prefect"]
    assert etcd.initial(lines) == {"ETCD_INITIAL_CLUSTER": "a=b,c=d", "ETCD_INITIAL_CLUSTER_TOKEN": "prefect"}


# --- what a host has ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with data of PostgreSQL 15, some of 13 that is broken, and a folder that is none."""
    for name, identifier in (("15", b"x"), ("13", b""), ("17", None)):
        path = tmp_path / name / "main"
        (path / "global").mkdir(parents=True)
        if identifier is not None:
            (path / "PG_VERSION").write_text(f"{name}\n", encoding="ascii")
            (path / "global" / "pg_control").write_bytes(struct.pack("=Q", 7443851692352417301) if identifier else b"")
    return tmp_path


def test_data(folder: Path) -> None:
    assert data.data_directories(f"{folder}/*/main") == [
        {"path": f"{folder}/13/main", "major": "13", "system_identifier": ""},
        {"path": f"{folder}/15/main", "major": "15", "system_identifier": "7443851692352417301"},
    ]


def wanted(folder: Path, **more: Any) -> dict[str, Any]:
    places = {"data": f"{folder}/*/main", "etcd_data": str(folder / "etcd"), "etcd_initial": str(folder / "initial.env")}
    return {**places, "etcd_url": "https://10.0.0.1:2379", "patroni_url": URLS["db1"], **more}


def versions(version: str, client: Client) -> Callable[..., Finished]:
    def run(argv: list[str], timeout: float, **more: Any) -> Finished:
        if argv[0] == "dpkg-query":
            return Finished(0 if version else 1, f"installed {version}\n" if version else "no packages found")
        return client.run(argv, timeout, **more)

    return run


def test_a_bare_host(folder: Path) -> None:
    found = host.gather(wanted(folder), versions("", Client()), Server(WHOLE).ask)
    assert found["etcd"] == {"data": False, "token": "", "cluster_id": "", "members": [], "problem": ""}
    assert found["patroni"] == {"version": "", "running": False, "system_identifier": "", "cluster": {}, "problem": ""}


def test_a_member(folder: Path) -> None:
    (folder / "etcd" / "member").mkdir(parents=True)
    (folder / "initial.env").write_text("ETCD_INITIAL_CLUSTER_TOKEN=prefect\n", encoding="utf-8")
    found = host.gather(wanted(folder), versions("3.0.2-1", Client(*THREE)), Server(WHOLE).ask)
    assert (found["etcd"]["token"], found["etcd"]["cluster_id"], len(found["etcd"]["members"])) == ("prefect", "ff00ff00ff00ff00", 3)
    assert (found["patroni"]["version"], found["patroni"]["running"], found["patroni"]["system_identifier"]) == ("3.0.2-1", True, "74")
    assert found["patroni"]["cluster"]["leader"] == "db1"


def test_a_member_that_is_silent(folder: Path) -> None:
    (folder / "etcd" / "member").mkdir(parents=True)
    server = Server(WHOLE)
    server.down = set(URLS)
    silent = Finished(1, "context deadline exceeded")
    run: Any = lambda argv, *_words, **_more: Finished(0, "installed 4.0.7") if argv[0] == "dpkg-query" else silent  # noqa: E731
    found = host.gather(wanted(folder), run, server.ask)
    assert (found["etcd"]["data"], found["etcd"]["problem"]) == (True, "context deadline exceeded")
    assert (found["patroni"]["running"], found["patroni"]["problem"]) == (False, "did not answer within 3 s")
    assert host.gather(wanted(folder, etcd_url=None, patroni_url=None), run, server.ask)["etcd"]["problem"] == ""


def test_a_patroni_without_etcd(folder: Path) -> None:
    server = Server(WHOLE)
    server.refuses["/cluster"] = Answer(500, b"")
    found = host.gather(wanted(folder), versions("4.0.7", Client()), server.ask)
    assert (found["patroni"]["running"], found["patroni"]["cluster"]) == (True, {})
