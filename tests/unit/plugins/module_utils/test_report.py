# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.report import assemble, columns, duration, problems, table

NOW = 1000000.0


def unit(**changes: Any) -> dict[str, Any]:
    state = {"name": "prefect-api@4200.service", "host": "api1", "state": "active (running)", "since": NOW - 3700, "memory_bytes": 190e6}
    return {**state, "active": True, "enabled": True, "stale": False, "restarts": 0, "drained": False, **changes}


def server(**changes: Any) -> dict[str, Any]:
    state = {"name": "api1", "url": "http://a/api", "live": True, "ready": True, "version": "3.8.8", "milliseconds": 12, "problem": ""}
    state["drained"] = False
    return {**state, **changes}


def report(**changes: Any) -> dict[str, Any]:
    database = {"address": "db:5432", "version": "15.18", "connections": 23, "max_connections": 110, "size_bytes": 9e6, "problem": ""}
    redis = {
        "address": "r:6379",
        "version": "7.0.15",
        "memory_bytes": 2e6,
        "max_memory_bytes": 512e6,
        "clients": 9,
        "eviction": "noeviction",
    }
    return {
        "version": "3.8.8",
        "url": "http://lb:4200/api",
        "schema": {"current": "d4a7e1c93f52", "head": "d4a7e1c93f52", "pending": []},
        "processes": [unit()],
        "servers": [server()],
        "database": database,
        "redis": {**redis, "appends": True, "problem": ""},
        "renew_days": 30,
        **changes,
    }


RELEASE = {"release": "3.8.8-abc", "host": "api1", "problem": "", "proved": True, "packages": 107, "recorded": True, "altered": []}


def certificate(**changes: Any) -> dict[str, Any]:
    state = {"name": "nginx", "host": "lb1", "path": "/etc/nginx.crt", "expires": 9, "days_left": 300, "not_after": "2027-08-01T12:00:00Z"}
    return {**state, "problem": "", "due": False, **changes}


def cluster(*members: tuple[str, str, str, int | None], **more: Any) -> dict[str, Any]:
    """What a playbook gathers of a cluster: its first host does not answer, the others see these members."""
    found = [
        {"name": name, "role": role, "state": state, "lag": lag, "timeline": 3, "pending_restart": name == more.get("waits")}
        for name, role, state, lag in members
    ]
    leader = next((each["name"] for each in found if each["role"] == "leader"), "")
    seen = {"patroni": {"cluster": {"leader": leader, "paused": more.get("paused", False), "members": found}}}
    return {"answers": [["db1", {}], ["db2", seen], ["db3", seen]], "synchronous": more.get("synchronous", True)}


DB1, DB2 = ("db1", "leader", "running", None), ("db2", "sync_standby", "streaming", 0)
DB3 = ("db3", "replica", "streaming", 5_000_000)


@pytest.mark.parametrize(
    ("gathered", "words"),
    [
        ({}, []),
        (cluster(DB1, DB2, DB3), []),
        (cluster(DB1, DB3, ("db2", "replica", "running", 0), synchronous=False), []),
        (
            cluster(DB1, DB3),
            ["PostgreSQL on db2 is no member of its cluster", "no replica of PostgreSQL confirms what the primary writes"],
        ),
        (
            cluster(("db1", "replica", "stopped", None), DB2, DB3),
            ["the PostgreSQL cluster has no primary, or none of its members knows it", "PostgreSQL on db1 is stopped"],
        ),
        (cluster(DB1, DB2, DB3, waits="db3"), ["PostgreSQL on db3 has to be restarted for a changed setting; run site.yml"]),
        (cluster(DB1, DB2, DB3, paused=True), ["Patroni is paused"]),
        ({"answers": [["db1", {}], ["db2", {}]], "synchronous": True}, ["the PostgreSQL cluster has no primary"]),
    ],
)
def test_a_postgres_cluster(gathered: dict[str, Any], words: list[str]) -> None:
    found = problems(assemble({"postgres_cluster": gathered}))
    assert len(found) == len(words)
    assert all(problem.startswith(word) for problem, word in zip(found, words, strict=True)), found


def test_the_members_of_etcd() -> None:
    """Of which one is silent, one has no data, and one is not counted by the others."""
    known = [{"name": name} for name in ("db1", "db2", "db3")]
    said = {"db1": (known, ""), "db2": ([], "refused"), "db3": ([], ""), "db4": (known[:2], "")}
    answers = [[host, {"etcd": {"members": members, "problem": problem}}] for host, (members, problem) in said.items()]
    assert assemble({"postgres_cluster": {"answers": answers}})["postgres_cluster"]["etcd"] == [
        "etcd on db2 does not answer: refused",
        "etcd on db3 does not answer: it has no data",
        "etcd on db4 is no member of its cluster",
    ]


def test_the_members_of_a_postgres_cluster() -> None:
    shown = table(assemble({"postgres_cluster": cluster(DB1, DB2, DB3, waits="db2")}), lambda: NOW)
    assert [line.split() for line in shown.splitlines()[-4:]] == [
        ["POSTGRESQL", "ON", "ROLE", "STATE", "BEHIND", "TIMELINE", "RESTART"],
        ["db1", "primary", "running", "-", "3", "-"],
        ["db2", "replica,", "synchronous", "streaming", "0", "3", "WAITS"],
        ["db3", "replica", "streaming", "5.0", "MB", "3", "-"],
    ]


WORKER = {"name": "etl@w1", "pool": "etl", "online": True, "problem": ""}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, [], id="all well"),
        pytest.param({"unreachable": ["api2"]}, ["api2 cannot be reached"], id="a host is gone"),
        pytest.param(
            {"processes": [unit(active=False, state="failed (failed)")]},
            ["prefect-api@4200.service on api1 is failed"],
            id="a process died",
        ),
        pytest.param({"processes": [unit(stale=True)]}, ["older release or older settings"], id="a restart is missing"),
        pytest.param({"processes": [unit(enabled=False)]}, ["does not start at boot"], id="gone after a reboot"),
        pytest.param({"processes": [unit(drained=True)]}, ["api1 is drained"], id="out of service"),
        pytest.param(
            {"servers": [server(ready=False, problem="ready answered HTTP 503")]}, ["api1: ready answered HTTP 503"], id="a server is ill"
        ),
        pytest.param({"servers": [server(version="3.7.8")]}, ["api1 runs 3.7.8, not 3.8.8"], id="a server was left behind"),
        pytest.param({"database": {**report()["database"], "problem": "refused"}}, ["PostgreSQL at db:5432: refused"], id="no database"),
        pytest.param({"redis": {**report()["redis"], "problem": "WRONGPASS"}}, ["Redis at r:6379: WRONGPASS"], id="no Redis"),
        pytest.param({"releases": [RELEASE, {**RELEASE, "proved": False, "recorded": False}]}, [], id="a lock file of one's own"),
        pytest.param(
            {"releases": [{**RELEASE, "altered": ["a.py was changed"]}]},
            ["the release 3.8.8-abc on api1 is not as it was installed: a.py was changed; remove"],
            id="a release was altered",
        ),
        pytest.param(
            {"releases": [{"release": "x", "host": "api1", "problem": "cannot be read: no"}]},
            ["the release x on api1 cannot be read: no"],
            id="a release that is none",
        ),
        pytest.param({"address": {"address": "10.0.0.9", "holders": ["lb1"]}}, [], id="one load balancer has the address"),
        pytest.param({"address": {"address": "10.0.0.9", "holders": []}}, ["no load balancer has 10.0.0.9 (nginx"], id="none has it"),
        pytest.param({"address": {"address": "10.0.0.9", "holders": ["a", "b"]}}, ["a and b have 10.0.0.9 (nginx"], id="two have it"),
        pytest.param({"certificates": [certificate(), certificate(days_left=15)]}, [], id="certificates with time left"),
        pytest.param(
            {"certificates": [certificate(days_left=14), certificate(days_left=3, due=True), certificate(days_left=9, name="ca")]},
            [
                "the certificate nginx on lb1 ends in 14 days (/etc/nginx.crt); put a new one there, and run site.yml",
                "ends in 3 days (/etc/nginx.crt); run site.yml",
                "the certificate ca on lb1 ends in 9 days (/etc/nginx.crt); replace the authority (docs/certificates.md)",
            ],
            id="certificates that are not renewed",
        ),
        pytest.param(
            {"certificates": [certificate(days_left=-1, problem="/etc/nginx.crt has expired.")]},
            ["lb1: /etc/nginx.crt has expired."],
            id="a certificate that clients refuse",
        ),
        pytest.param({"workers": [WORKER]}, [], id="a worker"),
        pytest.param(
            {"workers": [{**WORKER, "online": False}, {**WORKER, "online": False, "problem": "refused"}]},
            ["the worker etl@w1 of the work pool etl is not online", "is not online: refused"],
            id="workers that are offline",
        ),
        pytest.param({"schema": {"current": "a", "head": "b", "pending": ["b"]}}, ["1 revisions behind"], id="an old schema"),
    ],
)
def test_problems(changes: dict[str, Any], words: list[str]) -> None:
    found = problems(report(**changes))
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


def test_the_certificate_that_ends_first() -> None:
    answers = {"nginx": {**certificate(expires=7), "name": "", "host": ""}, "unread": certificate(expires=0, problem="x")}
    gathered = {
        **report(),
        "hosts": [],
        "certificates": [["lb1", {"certificates": answers}], ["api1", {"certificates": {"a": certificate()}}], ["gone", {}]],
    }
    words = table(assemble(gathered), lambda: NOW)
    assert "\n  certificates: 2; nginx on lb1 ends first, in 300 days (2027-08-01)\n" in words
    assert "certificates:" not in table(assemble({**gathered, "certificates": []}), lambda: NOW)


def test_which_load_balancer_has_the_address() -> None:
    answers = [
        ["lb1", {"address": "10.0.0.9", "held": False}],
        ["lb2", {"address": "10.0.0.9", "held": True}],
        ["lb3", {"unreachable": True}],
    ]
    gathered = {**report(), "hosts": [], "addresses": [["api1", {"skipped": True}], *answers]}
    assert "\n  10.0.0.9 is on lb2\n" in table(assemble(gathered), lambda: NOW)
    without = assemble({**gathered, "addresses": [*answers[:1], *answers[2:]]})
    assert [problem for problem in without["problems"] if "10.0.0.9" in problem]
    assert " is on " not in table(without, lambda: NOW)
    assert assemble({**gathered, "addresses": [["lb3", {"unreachable": True}]]})["address"] == {}


def test_what_is_switched_off() -> None:
    words = table({**report(switched_off=["late_runs", "scheduler"]), "problems": []}, lambda: NOW)
    assert "  switched off by prefect_settings: late_runs, scheduler\n  no problem found" in words
    assert "switched off" not in table({**report(switched_off=[]), "problems": []}, lambda: NOW)


def test_table() -> None:
    words = table({**report(), "problems": []}, lambda: NOW)
    for part in (
        "Prefect 3.8.8 at http://lb:4200/api",
        "no problem found",
        "prefect-api@4200",
        "1h 1m",
        "190.0 MB",
        "12 ms",
        "23 of 110 connections",
    ):
        assert part in words
    assert "2.0 MB of 512.0 MB" in words
    assert "DRAINED" not in words
    rows = table({**report(servers=[server(drained=True), server(name="balancer")]), "problems": []}, lambda: NOW).splitlines()
    assert [row.split()[4] for row in rows if row.startswith(("api1", "balancer"))] == ["DRAINED", "-"]
    rows = table({**report(workers=[WORKER, {**WORKER, "name": "etl@w2", "online": False}]), "problems": []}, lambda: NOW).splitlines()
    assert [row.split()[1:] for row in rows if row.startswith("etl@")] == [["etl", "yes"], ["etl", "NO"]]
    others = [{**RELEASE, "proved": False, "recorded": False}, {**RELEASE, "altered": ["x"]}, {"release": "x", "host": "a", "problem": "y"}]
    rows = table({**report(releases=[RELEASE, *others]), "problems": []}, lambda: NOW).splitlines()
    first = next(number for number, row in enumerate(rows) if row.startswith("RELEASE"))
    assert [row.split()[2:] for row in rows[first + 1 : first + 5]] == [
        ["yes", "107", "as", "installed"],
        ["no", "107", "not", "known"],
        ["yes", "107", "ALTERED"],
        ["-", "-", "not", "known"],
    ]
    assert "PROBLEM: it burns" in table({**report(), "problems": ["it burns"]}, lambda: NOW)


@pytest.mark.parametrize(("seconds", "words"), [(0, "0s"), (61, "1m 1s"), (3700, "1h 1m"), (90000, "1d 1h"), (86400, "1d")])
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_columns() -> None:
    assert columns(("A", "B"), [("long", "x")]) == "A     B\nlong  x"


def test_assemble() -> None:
    here = {key: value for key, value in unit().items() if key != "host"}
    gathered = {
        "version": "3.8.8",
        "hosts": [["api1", {"units": [here]}, {"units": []}], ["api2", {"unreachable": True}, {}], ["api3", {}, {}]],
        "schema": {"before": "a", "head": "b", "pending": ["b"]},
        "releases": [
            ["api1", {key: value for key, value in RELEASE.items() if key != "host"}],
            ["api2", {"unreachable": True}],
            ["api3", {"release": ""}],
            ["lb1", {"skipped": True}],
        ],
    }
    found = assemble(gathered)
    assert found["releases"] == [RELEASE]
    assert found["processes"] == [unit()]
    assert found["unreachable"] == ["api2"]
    assert found["schema"] == {"current": "a", "head": "b", "pending": ["b"]}
    assert [problem.split()[0] for problem in found["problems"]] == ["api2", "the"]
    assert "hosts" not in found


def test_drained() -> None:
    """By host and port: another server of the same host, and the same port of another host, are not."""
    here = {key: value for key, value in unit().items() if key not in ("host", "drained")}
    both = [here, {**here, "name": "prefect-api@4201.service"}, {**here, "name": "prefect-services.service"}]
    found = assemble(
        {
            "version": "3.8.8",
            "hosts": [["api1", {"units": both, "drained": [4201]}, {}], ["api2", {"units": both, "drained": []}, {}]],
            "servers": [server(name=name) for name in ("api1:4200", "api1:4201", "api2:4201", "balancer")],
        }
    )
    assert [(unit["host"], unit["name"]) for unit in found["processes"] if unit["drained"]] == [("api1", "prefect-api@4201.service")]
    assert [each["name"] for each in found["servers"] if each["drained"]] == ["api1:4201"]
    assert next(problem for problem in found["problems"] if "drained" in problem).startswith("prefect-api@4201.service on api1 is drained")


def test_what_the_database_keeps() -> None:
    database = {**report()["database"], "keeps": {"events": "7d", "flow_runs": "forever", "logs": "30d"}}
    assert "9.0 MB on disk, keeps events 7d, flow runs forever, logs 30d" in table(report(database=database), lambda: NOW)


def redis(role: str, offset: int = 100, sentinel: str = "10.0.0.1:6379", tilt: bool = False, **more: Any) -> dict[str, Any]:
    """What a member of a Redis cluster answers."""
    top = {"master": "", "link": "", "replicas": [{"state": "online"}, {"state": "wait_bgsave"}]}
    below = {"master": "10.0.0.1:6379", "link": "up", "replicas": []}
    roles = {"role": role, "offset": offset, **(top if role == "master" else below), **more} if role else {}
    views = [{"master": sentinel, "tilt": tilt}] if sentinel else []
    return {"replication": roles, "problem": "" if role else "no answer", "sentinels": views}


ADDRESSES = [["r1", "10.0.0.1"], ["r2", "fd00::2"], ["r3", "10.0.0.3"]]


def test_a_redis_cluster() -> None:
    answers = [["r1", redis("master")], ["r2", redis("replica", 90)], ["r3", redis("replica", 100)]]
    found = assemble({"redis_cluster": {"answers": answers, "addresses": ADDRESSES}})
    assert found["problems"] == []
    lines = [" ".join(line.split()) for line in table(found, lambda: NOW).splitlines() if line.startswith(("REDIS", "r"))]
    assert lines == [
        "REDIS ON ROLE FOLLOWS BEHIND ITS SENTINEL FOLLOWS",
        "r1 master 1 replicas - r1",
        "r2 replica r1, up 10 bytes r1",
        "r3 replica r1, up 0 bytes r1",
    ]
    assert "REDIS ON" not in table(assemble({"redis_cluster": {}}), lambda: NOW)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([redis("master"), redis("replica", link="down"), redis("replica")], ["Redis on r2 does not replicate from r1"]),
        (
            [redis("master"), redis("replica", sentinel="[fd00::2]:6379"), redis("replica", sentinel="")],
            ["Redis's Sentinels follow different masters: r1, r2", "Sentinel on r3 does not answer"],
        ),
        (
            [redis(""), redis("replica"), redis("replica")],
            ["no Redis is the master that the Sentinels follow", "Redis on r1 does not say what it is: no answer"],
        ),
        (
            [redis("master"), redis("replica", tilt=True), redis("replica")],
            ["Sentinel on r2 takes part in no failover for 30 seconds: it stood still, or its clock was changed (TILT)"],
        ),
        (
            [{"unreachable": True}, redis("master", sentinel="[fd00::2]:6379"), redis("replica", sentinel="[fd00::2]:6379")],
            ["Redis on r1 does not say what it is: cannot be reached", "Sentinel on r1 does not answer"],
        ),
    ],
)
def test_what_is_wrong_with_a_redis_cluster(answers: list[dict[str, Any]], words: list[str]) -> None:
    named = [[host, answer] for (host, _address), answer in zip(ADDRESSES, answers, strict=True)]
    assert assemble({"redis_cluster": {"answers": named, "addresses": ADDRESSES}})["problems"] == words
