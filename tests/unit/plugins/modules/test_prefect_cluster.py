# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the modules for a PostgreSQL cluster return; what they do is tested with their module_utils."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster import etcd, patroni
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_cluster_info, prefect_etcd_member, prefect_patroni

URLS = {"db1": "http://10.0.0.1:8008", "db2": "http://10.0.0.2:8008"}
MEMBERS = [
    {"name": "db1", "role": "leader", "state": "running", "timeline": 1},
    {"name": "db2", "role": "sync_standby", "state": "streaming", "timeline": 1, "lag": 0, "pending_restart": True},
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """What Patroni was told; it is as it was told to be at once."""
    calls: list[tuple[str, str, Any]] = []
    found = patroni.cluster({"members": MEMBERS})
    monkeypatch.setattr(patroni.Patroni, "cluster", lambda _self: found)
    monkeypatch.setattr(patroni.Patroni, "config", lambda _self: {"ttl": 30})
    monkeypatch.setattr(patroni.Patroni, "tell", lambda _self, name, _method, path, body=None, _seconds=0: calls.append((name, path, body)))
    return calls


@pytest.mark.parametrize(
    ("arguments", "changed", "expected"),
    [
        ({"state": "led"}, False, []),
        ({"state": "member", "name": "db2"}, False, []),
        ({"state": "gone", "name": "db3"}, False, []),
        ({"state": "configured", "settings": {"ttl": 30}}, False, []),
        ({"state": "configured", "settings": {"ttl": 20}}, True, [("db1", "/config", {"ttl": 20})]),
        ({"state": "restarted", "name": "db2"}, True, [("db2", "/restart", {})]),
        ({"state": "restarted", "name": "db2", "pending": True}, True, [("db2", "/restart", {})]),
        ({"state": "restarted", "name": "db1", "pending": True}, False, []),
        ({"state": "reinitialized", "name": "db2"}, True, [("db2", "/reinitialize", {"force": True})]),
        ({"state": "switched", "name": "db1"}, False, []),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_patroni(run_module: Any, told: list[Any], *, check: bool, arguments: dict[str, Any], changed: bool, expected: list[Any]) -> None:
    result = run_module(prefect_patroni.main, check, urls=URLS, tls={}, **arguments)
    assert (result["changed"], result["leader"], len(result["members"])) == (changed, "db1", 2)
    assert told == ([] if check else expected)
    assert ("diff" in result) is (changed and arguments["state"] == "configured")


def test_how_long_a_switchover_took(run_module: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_patroni, "switch", lambda *_given, dry: (True, 0.0 if dry else 1.849))
    assert run_module(prefect_patroni.main, urls=URLS, state="switched")["seconds"] == 1.8
    assert run_module(prefect_patroni.main, True, urls=URLS, state="switched")["seconds"] == 0
    assert told == []


@pytest.mark.parametrize("state", ["member", "restarted", "reinitialized", "gone"])
def test_a_name_is_needed(run_module: Any, told: list[Any], state: str) -> None:
    result = run_module(prefect_patroni.main, urls=URLS, state=state)
    assert result["failed"] and told == []


def test_what_patroni_refuses(run_module: Any, told: list[Any]) -> None:
    result = run_module(prefect_patroni.main, urls=URLS, state="switched", name="db3")
    assert result["failed"] and result["msg"].startswith("db3 cannot take over without loss") and told == []


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(("state", "name", "changed"), [("present", "db2", True), ("present", "db1", False), ("absent", "db1", True)])
def test_etcd(run_module: Any, monkeypatch: pytest.MonkeyPatch, *, check: bool, state: str, name: str, changed: bool) -> None:
    found = etcd.Members("ff", (etcd.Member("1", "db1", ("http://10.0.0.1:2380",), True),))
    done: list[str] = []
    monkeypatch.setattr(etcd.Etcd, "members", lambda _self: found)
    monkeypatch.setattr(etcd.Etcd, "add", lambda _self, name, _url: done.append(name))
    monkeypatch.setattr(etcd.Etcd, "remove", lambda _self, identity: done.append(identity))
    url = f"http://10.0.0.{name[-1]}:2380"
    result = run_module(prefect_etcd_member.main, check, state=state, name=name, peer_url=url, endpoints=["http://10.0.0.1:2379"])
    assert (result["changed"], len(done)) == (changed, 0 if check or not changed else 1)
    assert result["initial_cluster"].endswith(f"{name}={url}")


@pytest.mark.parametrize("check", [False, True])
def test_members_of_etcd_that_are_gone(run_module: Any, monkeypatch: pytest.MonkeyPatch, *, check: bool) -> None:
    members = [etcd.Member(n, f"db{n}", (f"http://10.0.0.{n}:2380",), True) for n in ("1", "2")]
    monkeypatch.setattr(etcd.Etcd, "members", lambda _self: etcd.Members("ff", tuple(members)))
    monkeypatch.setattr(etcd.Etcd, "remove", lambda _self, identity: members.pop(int(identity) - 1))
    wanted = {"db1": "http://10.0.0.1:2380"}
    result = run_module(prefect_etcd_member.main, check, state="pruned", members=wanted, endpoints=["http://10.0.0.1:2379"])
    assert (result["changed"], len(members)) == (True, 2 if check else 1)


@pytest.mark.parametrize("state", ["present", "absent", "pruned"])
def test_what_etcd_needs(run_module: Any, state: str) -> None:
    assert run_module(prefect_etcd_member.main, state=state, peer_url="http://10.0.0.1:2380", endpoints=["http://10.0.0.1:2379"])["failed"]


def test_an_etcd_that_refuses(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Any) -> None:
        raise etcd.EtcdError("etcdserver: no leader")

    monkeypatch.setattr(etcd.Etcd, "members", refuse)
    result = run_module(prefect_etcd_member.main, state="absent", name="db1", endpoints=["http://a:2379", "http://b:2379"])
    assert result["msg"] == "etcd at http://a:2379, http://b:2379 does not do it: etcdserver: no leader"


def test_a_bare_host(run_module: Any, tmp_path: Any) -> None:
    places = {"data": f"{tmp_path}/*", "etcd_data": str(tmp_path / "etcd"), "etcd_initial": str(tmp_path / "initial.env")}
    result = run_module(prefect_cluster_info.main, cluster=places)
    assert (result["changed"], result["data"], result["etcd"]["data"]) == (False, [], False)
