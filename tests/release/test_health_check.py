"""The program on nginx hosts that has servers left out that say nothing."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.authority import Authority


def load() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "roles" / "nginx" / "files" / "health_check.py"
    spec = importlib.util.spec_from_file_location("health_check", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["health_check"] = module
    spec.loader.exec_module(module)
    return module


health_check = load()
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
    writer.close()


async def broken(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def frozen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3)
    writer.close()


@asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize(("handler", "said"), [(healthy, True), (broken, True), (frozen, False)])
def test_who_says_something(handler: Handler, said: bool) -> None:
    async def scenario() -> bool:
        async with listening(handler) as port:
            answered: bool = await health_check.answers("127.0.0.1", port, health_check.Options((), timeout=0.3))
            return answered

    assert asyncio.run(scenario()) is said


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize(("name", "host"), [("prefect-api", "prefect-api"), ("", "127.0.0.1")])
def test_over_tls_it_asks_whom_it_trusts(authority: Authority, name: str, host: str) -> None:
    """A certificate of another name is an answer, too, but nothing is asked."""
    asked: list[str] = []

    async def telling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).decode().strip())
        await healthy(reader, writer)

    async def scenario(certificate: str) -> bool:
        async with listening(telling, authority.context(certificate)) as port:
            options = health_check.parse([f"127.0.0.1:{port}", "--ca-file", str(authority.file), "--tls-name", name])
            answered: bool = await health_check.answers("127.0.0.1", port, options)
            return answered

    assert asyncio.run(scenario("another")) is True
    assert asked == []
    assert asyncio.run(scenario(host)) is True
    assert asked == ["GET /api/health HTTP/1.1"]


def test_a_frozen_process_does_not_shake_hands(authority: Authority) -> None:
    async def scenario(handler: Handler, tls: ssl.SSLContext | None) -> tuple[bool, float]:
        async with listening(handler, tls) as port:
            options = health_check.Options((), timeout=0.3, tls=ssl.create_default_context(cafile=authority.file))
            began = time.monotonic()
            return await health_check.answers("127.0.0.1", port, options), time.monotonic() - began

    for handler, tls in ((frozen, None), (frozen, authority.context("127.0.0.1"))):
        answered, seconds = asyncio.run(scenario(handler, tls))
        assert not answered
        assert seconds < 1
    assert asyncio.run(scenario(broken, None))[0], "it says something, if not in TLS"


def test_a_refusal_is_an_answer() -> None:
    assert asyncio.run(health_check.answers("127.0.0.1", 1, health_check.Options(()))) is True


def test_patience() -> None:
    server = health_check.Server("a", 1)
    states = []
    for answered in (False, True, False, False, True, False, True, True):
        server.saw(answered, 2)
        states.append(server.refused)
    assert states == [False, False, False, True, True, True, True, False]


def test_never_the_last_one() -> None:
    servers = [health_check.Server(name, 1, refused=True) for name in "ab"]
    assert health_check.left_out(servers) == []
    servers[0].refused = False
    assert health_check.left_out(servers) == [servers[1]]


class Commands:
    """A firewall that has the rules, until it is flushed."""

    def __init__(self) -> None:
        self.scripts: list[str] = []
        self.others: list[str] = []
        self.works = True
        self.there = False

    def __call__(self, argv: Sequence[str], stdin: str) -> Any:
        command = " ".join(argv)
        if not self.works:
            return health_check.Ended(problem="nft: no")
        if stdin:
            self.scripts.append(stdin)
            if "add chain" in stdin:
                self.there = True
            return health_check.Ended(problem="" if self.there else f"nft: No such file or directory; {stdin}")
        if "list" in command:
            table = {"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "handle": len(self.scripts)}}]}
            return health_check.Ended(json.dumps(table)) if self.there else health_check.Ended(problem="nft: No such file or directory")
        self.others.append(command)
        return health_check.Ended()


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def firewall(commands: Commands) -> Any:
    firewall = health_check.Firewall(33, commands)
    assert firewall.prepare()
    commands.scripts.clear()
    return firewall


def test_refusing(commands: Commands, firewall: Any) -> None:
    firewall.refuse([])
    assert commands.scripts == commands.others == []
    firewall.refuse([("10.0.0.1", 4200), ("fd00::1", 4201)])
    assert "add element inet prefect_health_check v4 { 10.0.0.1 . 4200 timeout 5s }" in commands.scripts[0]
    assert "add element inet prefect_health_check v6 { fd00::1 . 4201 timeout 5s }" in commands.scripts[0]
    assert commands.others == [
        "ss --no-header --kill --tcp dst 10.0.0.1 dport = :4200",
        "ss --no-header --kill --tcp dst [fd00::1] dport = :4201",
    ]
    # Renewed while it lasts, and nothing is ended twice.
    firewall.refuse([("10.0.0.1", 4200), ("fd00::1", 4201)])
    assert len(commands.scripts) == 2
    assert len(commands.others) == 2
    firewall.refuse([])
    assert "timeout" not in commands.scripts[2]
    firewall.refuse([])
    assert len(commands.scripts) == 3


def test_a_firewall_that_does_not_take_it(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    commands.works = False
    firewall = health_check.Firewall(33, commands)
    assert firewall.prepare() is False
    for _round in range(100):
        firewall.refuse([("10.0.0.1", 4200)])
        firewall.check()
    assert commands.others == []  # connections are only ended when no new ones are made
    assert firewall.refused == set()
    assert capsys.readouterr().err == "nft: no (tried again without saying so again)\n"
    assert 'prefect_firewall_rules_in_place{table="prefect_health_check"} 0' in health_check.metrics([], firewall, 0)
    commands.works = True
    firewall.check()
    assert firewall.in_place
    assert firewall.restored == 0, "they had not been in place before"
    firewall.check()
    commands.works = False
    firewall.check()
    assert capsys.readouterr().err.count("nft: no") == 1, "it is said again after all was well"


def test_rules_that_are_gone_are_put_back(commands: Commands, firewall: Any, capsys: pytest.CaptureFixture[str]) -> None:
    servers = [("10.0.0.1", 4200)]
    firewall.refuse(servers)
    firewall.check()
    assert firewall.restored == 0, "who is in a set, and the kernel's own numbers, are no change"
    commands.there = False
    commands.scripts.clear()
    commands.others.clear()
    capsys.readouterr()
    firewall.check()
    assert firewall.restored == 1
    assert "add chain" in commands.scripts[0]
    assert "10.0.0.1 . 4200 timeout 5s" in commands.scripts[1], "who was refused is refused again"
    assert len(commands.others) == 1, "and what was connected in between is ended"
    assert firewall.refused == set(servers)
    said = capsys.readouterr()
    assert said.out.splitlines() == ["the rules were gone from this host's firewall, and are back"]
    assert said.err == ""


def test_a_refusal_notices_that_the_rules_are_gone(commands: Commands, firewall: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the kernel has told of it."""
    commands.there = False
    firewall.refuse([("10.0.0.1", 4200)])
    firewall.refuse([("10.0.0.1", 4200)])
    assert firewall.restored == 1
    assert firewall.refused == {("10.0.0.1", 4200)}
    assert capsys.readouterr().err == ""


def test_when_to_look() -> None:
    now = [100.0]
    told, kernel = socket.socketpair()
    told.setblocking(False)
    changes = health_check.Changes(told, lambda: now[0])
    assert changes.seen()
    assert not changes.seen()
    kernel.send(b"something has changed")
    kernel.send(b"and something more")
    assert changes.seen()
    assert not changes.seen()
    now[0] += 6
    assert changes.seen()
    told.close()
    kernel.close()
    assert changes.seen()


def test_metrics(firewall: Any, tmp_path: Path) -> None:
    servers = [health_check.Server("10.0.0.1", 4200, refused=True), health_check.Server("10.0.0.2", 4200)]
    firewall.restored = 2
    health_check.write(tmp_path / "x.prom", health_check.metrics(servers, firewall, 12.3))
    values = [line for line in (tmp_path / "x.prom").read_text().splitlines() if not line.startswith("#")]
    assert values == [
        'prefect_firewall_rules_restored_total{table="prefect_health_check"} 2',
        'prefect_firewall_rules_in_place{table="prefect_health_check"} 1',
        'prefect_health_check_left_out{server="10.0.0.1:4200"} 1',
        'prefect_health_check_left_out{server="10.0.0.2:4200"} 0',
        "prefect_health_check_last_check_timestamp_seconds 12",
    ]


def test_it_begins_anew_when_a_node_exporter_appears(firewall: Any, tmp_path: Path) -> None:
    folder = tmp_path / "exporter"

    async def scenario() -> None:
        options = health_check.Options((), interval=0.05, metrics=tmp_path / "x.prom", follow=folder)
        watching = asyncio.create_task(health_check.watch(options, firewall, asyncio.Event(), health_check.Changes(None)))
        await asyncio.sleep(0.2)
        assert not watching.done()
        folder.mkdir()
        await asyncio.wait_for(watching, 1)

    asyncio.run(scenario())
    assert (tmp_path / "x.prom").exists()


def test_only_nginx_is_refused(commands: Commands) -> None:
    assert health_check.Firewall(33, commands).prepare()
    rules = [line for line in commands.scripts[0].splitlines() if line.startswith("add rule")]
    assert len(rules) == 2
    assert all("meta skuid 33 tcp flags" in rule and rule.endswith("reject with tcp reset") for rule in rules)


def test_watching(firewall: Any) -> None:
    async def scenario() -> tuple[float, set[tuple[str, int]]]:
        stop = asyncio.Event()
        async with listening(healthy) as good, listening(frozen) as bad:
            options = health_check.Options((("127.0.0.1", good), ("localhost", bad)), interval=0.05, timeout=0.2)
            began = time.monotonic()
            watching = asyncio.create_task(health_check.watch(options, firewall, stop))
            while not firewall.refused:
                await asyncio.sleep(0.01)
            took, refused = time.monotonic() - began, set(firewall.refused)
            stop.set()
            await watching
            assert ("127.0.0.1", bad) in refused
            assert ("127.0.0.1", good) not in refused
            return took, refused

    took, _refused = asyncio.run(scenario())
    assert took < 1


@pytest.mark.parametrize(
    ("text", "server"), [("10.0.0.1:4200", ("10.0.0.1", 4200)), ("[fd00::1]:4200", ("fd00::1", 4200)), ("api1:1", ("api1", 1))]
)
def test_the_command_line(text: str, server: tuple[str, int]) -> None:
    assert health_check.parse([text]).servers == (server,)


def test_a_server_without_a_port() -> None:
    with pytest.raises(SystemExit):
        health_check.parse(["10.0.0.1"])
