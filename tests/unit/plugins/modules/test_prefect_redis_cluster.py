"""The modules for several Redis: what they are given reaches the right server, and what it says comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_cluster import Switchover, SwitchoverError
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import Client, RedisRefusalError, Server
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import Unit
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_redis_info, prefect_redis_sentinel, prefect_redis_switchover

MASTER = ["name", "prefect", "ip", "10.0.0.1", "port", "6379", "flags", "master", "config-epoch", "2", "quorum", "2"]


class Site:
    """Servers by host and port, each with the lines of its replies, or what it refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replies: dict[tuple[str, int], dict[str, Any]] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.ordered: list[list[str]] = []
        monkeypatch.setattr(Client, "order", lambda _client, _server, *orders: self.ordered.extend(orders))
        monkeypatch.setattr(prefect_redis_info, "which", lambda _name: "/usr/bin/redis-cli")

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        site = self

        def ask(client: Client, server: Server, *words: str) -> list[str]:
            assert server.encrypted
            site.asked.append((client.username, client.password, f"{server.host}:{server.port}"))
            reply = site.replies.get((server.host, server.port), {}).get(words[1], RedisRefusalError("no answer"))
            if isinstance(reply, Exception):
                raise reply
            return list(reply)

        monkeypatch.setattr(Client, "ask", ask)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(monkeypatch)
    made.use(monkeypatch)
    return made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "secret").write_text("geheim\n")
    (tmp_path / "state.conf").write_text("replicaof 10.0.0.1 6379\n")
    names = {"state_file": "state.conf", "sentinel_state_file": "sentinel.conf", "secret": "secret", "data": "."}
    return {option: str(tmp_path / name) for option, name in names.items()}


def test_info(run_module: Any, site: Site, files: dict[str, str]) -> None:
    site.replies[("127.0.0.1", 6379)] = {"replication": ["role:slave", "master_host:10.0.0.1", "master_port:6379", "master_link_status:up"]}
    site.replies[("10.0.0.1", 26379)] = {"MASTER": MASTER, "REPLICAS": [], "SENTINELS": [], "sentinel": ["sentinel_tilt:1\r"]}
    result = run_module(prefect_redis_info.main, **files, sentinels=["10.0.0.1", "10.0.0.2"], sentinel_password="streng-geheim")
    assert (result["state"], result["data"], result["asked"]) == ({"written": True, "replica_of": "10.0.0.1:6379"}, False, True)
    assert (result["replication"]["link"], result["problem"]) == ("up", "")
    assert [(each["sentinel"], each["master"], each["tilt"], each["problem"]) for each in result["sentinels"]] == [
        ("10.0.0.1:26379", "10.0.0.1:6379", True, ""),
        ("10.0.0.2:26379", "", False, "no answer"),
    ]
    assert site.asked[0] == ("selfhosted-prefect", "geheim", "127.0.0.1:6379")
    assert {each[:2] for each in site.asked[1:]} == {("sentinel", "streng-geheim")}


def test_info_of_a_bare_host(run_module: Any, site: Site, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_redis_info, "which", lambda _name: None)
    result = run_module(prefect_redis_info.main, **{**files, "secret": f"{files['secret']}.none"}, sentinels=["10.0.0.1"])
    assert (result["asked"], result["replication"], result["sentinels"], site.asked) == (False, {}, [], [])
    assert result["problem"] == "there is no redis-cli"


SENTINEL: dict[str, Any] = {"members": ["10.0.0.1", "10.0.0.2"], "quorum": 2, "password": "streng-geheim"}


@pytest.mark.parametrize(
    ("state", "check", "quorum", "ordered", "changed"),
    [
        ("checked", False, "3", [], False),
        ("applied", False, "2", [], False),
        ("applied", False, "3", [["SENTINEL", "SET", "prefect", "quorum", "2"]], True),
        ("applied", True, "3", [], True),
    ],
)
def test_sentinel(
    run_module: Any,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    *,
    state: str,
    check: bool,
    quorum: str,
    ordered: list[list[str]],
    changed: bool,
) -> None:
    monkeypatch.setattr(prefect_redis_sentinel, "units", lambda names, *_: [Unit(names[0], True, True, "", True, 1, 1, 0, 0, True)])
    replica, other = (["name", "x", "ip", "10.0.0.2", "port", port, "flags", "y"] for port in ("6379", "26379"))
    site.replies[("127.0.0.1", 26379)] = {"MASTER": [*MASTER[:-1], quorum], "REPLICAS": replica, "SENTINELS": other, "sentinel": []}
    result = run_module(prefect_redis_sentinel.main, check, state=state, **SENTINEL)
    assert (site.ordered, result["changed"]) == (ordered, changed)
    assert (result["active"], result["stale"], result["master"], result["strangers"]) == (True, True, "10.0.0.1:6379", [])
    assert result["pending"] == (["quorum"] if quorum == "3" else [])


def test_a_sentinel_that_does_not_run(run_module: Any, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_redis_sentinel, "units", lambda *_: [])
    result = run_module(prefect_redis_sentinel.main, state="applied", **SENTINEL)
    assert (result["changed"], result["active"], result["problem"], site.ordered) == (False, False, "no answer", [])


def test_switchover_on_a_replica(run_module: Any, site: Site, files: dict[str, str]) -> None:
    site.replies[("127.0.0.1", 6379)] = {"replication": ["role:slave", "master_host:10.0.0.1", "master_port:6379"]}
    result = run_module(prefect_redis_switchover.main, address="10.0.0.2", secret=files["secret"], sentinel_password="streng-geheim")
    assert (result["changed"], result["master"], site.ordered) == (False, "10.0.0.1:6379", [])


@pytest.mark.parametrize(("check", "problem"), [(False, ""), (True, ""), (False, "too early"), (True, "too early")])
def test_switchover(
    run_module: Any, site: Site, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, check: bool, problem: str
) -> None:
    site.replies[("127.0.0.1", 6379)] = {"replication": ["role:master"]}
    ran: list[str] = []

    def run(move: Switchover) -> str:
        ran.append(move.own)
        return "10.0.0.2:6379"

    monkeypatch.setattr(Switchover, "problem", lambda _move: problem)
    monkeypatch.setattr(Switchover, "run", run)
    result = run_module(prefect_redis_switchover.main, check, address="10.0.0.1", secret=files["secret"], sentinel_password="streng-geheim")
    if problem:
        assert (result["msg"], ran) == ("There is no switchover of Redis: too early.", [])
    else:
        assert (result["changed"], result["master"]) == (True, "10.0.0.1:6379" if check else "10.0.0.2:6379")
        assert ran == [] if check else ["10.0.0.1:6379"]


@pytest.mark.parametrize(("candidate", "wanted"), [("", ""), ("10.0.0.3", "10.0.0.3:6379"), ("fd00::3", "[fd00::3]:6379")])
def test_who_is_to_take_over(
    run_module: Any, site: Site, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, candidate: str, wanted: str
) -> None:
    site.replies[("127.0.0.1", 6379)] = {"replication": ["role:master"]}
    asked: list[str] = []

    def problem(move: Switchover) -> str:
        asked.append(move.candidate)
        return "too early"

    monkeypatch.setattr(Switchover, "problem", problem)
    arguments = {"address": "10.0.0.1", "secret": files["secret"], "sentinel_password": "streng-geheim"}
    assert run_module(prefect_redis_switchover.main, candidate=candidate, **arguments)["failed"]
    assert asked == [wanted]


def test_a_switchover_that_fails(run_module: Any, site: Site, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_move: Switchover) -> str:
        raise SwitchoverError("no")

    site.replies[("127.0.0.1", 6379)] = {"replication": ["role:master"]}
    monkeypatch.setattr(Switchover, "problem", lambda _move: "")
    monkeypatch.setattr(Switchover, "run", fail)
    result = run_module(prefect_redis_switchover.main, address="10.0.0.1", secret=files["secret"], sentinel_password="streng-geheim")
    assert result["failed"] and result["msg"] == "There is no switchover of Redis: no."


def test_who_is_asked_in_a_switchover(site: Site) -> None:
    params = {name: option.get("default") for name, option in prefect_redis_switchover.ARGUMENTS.items()}
    move = prefect_redis_switchover.switchover({**params, "address": "fd00::1", "sentinel_password": "streng-geheim"}, "geheim")
    assert move.own == "[fd00::1]:6379"
    for ask in (move.redis, move.sentinel, move.peer("[fd00::2]:6379")):
        with pytest.raises(RedisRefusalError):
            ask("INFO", "replication")
    assert site.asked == [
        ("selfhosted-prefect", "geheim", "127.0.0.1:6379"),
        ("sentinel", "streng-geheim", "127.0.0.1:26379"),
        ("sentinel", "streng-geheim", "fd00::2:6379"),
    ]
