"""The load generator against small servers of the test's own: it must see every failure, and none that is not there."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import select
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import load as command  # first of all, as it makes the collection importable
from ansible_collections.selfhosted.prefect.plugins.module_utils._load import load, wire

from tests.authority import Authority

Handler = Callable[["Api", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
AUTH = "admin:s3cret"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455


class Api:
    """As much of Prefect's API as the load uses. `handler` is what it does with a connection."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.made: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.twice = 0  # how many writes are still to be carried out twice
        self.forgets: set[str] = set()
        self.requests = 0
        self.connections = 0
        self.port = 0
        self.tokens: dict[str, str] | None = None  # with CSRF protection: those that were given, by client

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.handler(self, reader, writer)
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()

    def token(self, path: str) -> tuple[int, Any]:
        client = path.partition("?client=")[2]
        if self.tokens is None:
            return 422, {"detail": "CSRF protection is disabled."}
        self.tokens[client] = f"token of {client}"
        return 200, {"token": self.tokens[client], "client": client}

    def allows(self, method: str, headers: dict[str, str]) -> bool:
        if self.tokens is None or method == "GET":
            return True
        return self.tokens.get(headers.get("prefect-csrf-client", "")) == headers.get("prefect-csrf-token", "none")

    def answer(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        if path.startswith("/api/csrf-token?"):
            return self.token(path)
        self.requests += 1
        if path.endswith("/filter"):
            return 200, self.found(path.split("/")[2], content)
        if method == "DELETE":
            return (204, None) if self.made.pop(path.rpartition("/")[2], "") else (404, None)
        if method == "POST":
            number = self.make(path.split("/")[2], content["name"])
            if self.twice and path.startswith("/api/task_runs"):
                self.twice -= 1
                self.make("task_runs", content["name"])
            return 201, {"id": number}
        return 200, {"id": path}

    def make(self, kind: str, name: str) -> str:
        number = f"id-{len(self.kinds)}"
        self.made[number], self.kinds[number] = name, kind
        return number

    def found(self, kind: str, content: Any) -> list[dict[str, str]]:
        asked = content.get(kind, {})
        there = {one: name for one, name in self.made.items() if one not in self.forgets}
        if "name" in asked:
            like = asked["name"]["like_"]
            assert like.endswith("-%") == (kind == "variables")
            named = [one for one, name in there.items() if self.kinds[one] == kind and name.startswith(like.rstrip("%"))]
            return [{"id": one, "name": there[one]} for one in named[content["offset"] :][: content["limit"]]]
        return [{"id": one} for one in asked.get("id", {}).get("any_", []) if one in there]


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _version = head[0].split(" ")
    return method, path, headers, json.loads(body or b"null")


async def reply(writer: asyncio.StreamWriter, status: int, content: Any, *headers: str, chunked: bool = False) -> None:
    if status == 204:
        writer.write("\r\n".join(["HTTP/1.1 204 No Content", *headers, "", ""]).encode())
        return
    body = json.dumps(content).encode()
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = "\r\n".join([f"HTTP/1.1 {status} whatever", length, *headers, "", ""]).encode()
    writer.write(head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body))
    await writer.drain()


async def healthy(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        method, path, headers, content = await read_request(reader)
        if headers.get("upgrade"):
            await subscription(reader, writer, headers)
            return
        assert headers["authorization"] == "Basic " + base64.b64encode(AUTH.encode()).decode()
        answer = api.answer(method, path, content) if api.allows(method, headers) else (403, {"detail": "Missing CSRF token."})
        await reply(writer, *answer, chunked=api.requests % 2 == 0)


async def subscription(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
    assert "authorization" not in headers
    accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + GUID, usedforsecurity=False).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    writer.write(b"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n" % (accept, headers["sec-websocket-protocol"].encode()))
    assert (await receive(reader)) == {"type": "auth", "token": AUTH}
    send(writer, {"type": "auth_success"})
    assert (await receive(reader))["type"] == "filter"
    writer.write(bytes([128 | PING, 2]) + b"hi")
    kind, _last, payload = await read_masked(reader)
    assert (kind, payload) == (PONG, b"hi")
    for size in (10, 300, 70000):
        send(writer, {"type": "event", "event": "x" * size})
    writer.write(bytes([128 | CLOSE, 2]) + (1012).to_bytes(2, "big"))
    kind, _last, payload = await read_masked(reader)
    assert (kind, payload) == (CLOSE, (1012).to_bytes(2, "big"))


def send(writer: asyncio.StreamWriter, content: Any) -> None:
    payload = json.dumps(content).encode()
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    writer.write(bytes([128 | TEXT]) + length + payload)


async def read_masked(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    first, second = await reader.readexactly(2)
    size = second & 127
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    mask = await reader.readexactly(4)
    return first & 15, True, bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(size)))


async def receive(reader: asyncio.StreamReader) -> Any:
    return json.loads((await read_masked(reader))[2])


async def resets(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    api.requests += 1
    writer.get_extra_info("socket").setsockopt(1, 13, (1).to_bytes(4, "little") + bytes(4))  # SO_LINGER 0: a reset
    writer.transport.abort()


async def closes(api: Api, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    api.requests += 1


async def stops_halfway(_api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf")
    await writer.drain()


async def says_nothing(_api: Api, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.sleep(60)


async def speaks_otherwise(_api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"220 mail.example.org ESMTP\r\n\r\n")
    await writer.drain()


def answers(status: int, content: Any) -> Handler:
    async def handler(_api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await reply(writer, status, content)

    return handler


async def closes_without_a_word(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method, path, _headers, content = await read_request(reader)
    await reply(writer, *api.answer(method, path, content))


async def says_close(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    method, path, _headers, content = await read_request(reader)
    await reply(writer, *api.answer(method, path, content), "Connection: close")


async def drops_every_tenth(api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        method, path, _headers, content = await read_request(reader)
        status, answer = api.answer(method, path, content)
        if api.requests % 10 == 0 and not path.endswith("/filter"):
            return
        await reply(writer, status, answer)


def run(
    handler: Handler, *, prepare: Callable[[Api], None] = lambda _: None, tls: ssl.SSLContext | None = None, ca: str = "", **options: Any
) -> tuple[Api, dict[str, Any]]:
    """The report of a short load on a server with this handler. With `tls` it is loaded by https, trusting the authorities in `ca`."""
    api = Api(handler)
    prepare(api)

    async def scenario() -> dict[str, Any]:
        server = await asyncio.start_server(api, "127.0.0.1", 0, ssl=tls)
        api.port = server.sockets[0].getsockname()[1]
        target = wire.Target.parse(f"{'https' if tls else 'http'}://127.0.0.1:{api.port}/api", AUTH, ca)
        defaults: dict[str, Any] = {"clients": 2, "fresh": 1, "pausing": 1, "max_pause": 0.1, "rate": 0, "subscribers": 0}
        defaults |= {"seconds": 0.3, "timeout": 0.15}
        try:
            found: dict[str, Any] = await load.load(load.Options(target, **(defaults | options)))
            return found
        finally:
            server.close()

    return api, asyncio.run(scenario())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SUBSCRIBE_SECONDS", 0.2)
    monkeypatch.setattr(load, "READ_BACK_ATTEMPTS", 1)


def test_a_service_that_is_well() -> None:
    api, found = run(healthy, timeout=5)
    assert found["failures"] == []
    assert (found["failed"], found["lost"], found["stopped_by"]) == (0, 0, "time")
    assert found["requests"] > 50
    assert found["acknowledged"] == found["writes"] == len(api.made)
    assert abs(found["writes"] * 2 - found["requests"]) <= 1
    assert len(set(api.made.values())) == len(api.made)
    assert 0 < found["latency"]["p50"] <= found["latency"]["p99"] <= found["latency"]["max"] <= found["slowest"][0]["seconds"] + 0.001
    assert 0 < found["longest_gap"] <= found["seconds"]
    assert command.problems(found, 5) == []


def test_connections_are_kept() -> None:
    api, found = run(healthy, fresh=0, pausing=0, timeout=5)
    assert found["requests"] > 50
    assert api.connections == 5  # two clients, the reading back, the search for what was carried out twice, and that for a token


def test_connections_are_kept_with_tls(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    api, found = run(healthy, tls=authority.context("127.0.0.1"), ca=str(authority.file), fresh=0, pausing=0, timeout=5)
    assert found["failures"] == []
    assert found["requests"] > 50
    # TLS 1.3 sends tickets at will, which are not the end of an idle connection.
    assert api.connections == 5
    assert capfd.readouterr().err == ""


def test_a_service_with_tls_that_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SUBSCRIBE_SECONDS", 2)
    authority = Authority(tmp_path)
    _api, found = run(healthy, tls=authority.context("127.0.0.1"), ca=str(authority.file), seconds=1, timeout=5, subscribers=1)
    assert (found["failures"], found["lost"]) == ([], 0)
    assert found["subscribers"]["events"] > 0


@pytest.mark.parametrize(("names", "trusted"), [(["127.0.0.1"], "other"), (["10.0.0.1", "localhost"], "authority")])
def test_a_certificate_that_is_not_trusted(tmp_path: Path, names: list[str], trusted: str) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    ca = str({"authority": authority, "other": other}[trusted].file)
    api, found = run(healthy, tls=authority.context(*names), ca=ca, timeout=5, subscribers=1)
    assert found["failed"] == found["requests"] + 1
    assert "CERTIFICATE_VERIFY_FAILED" in found["failures"][0]["what"]
    assert api.requests == 0


def test_writes_with_csrf_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "RENEW_SECONDS", 0.05)
    api, found = run(healthy, prepare=lambda api: setattr(api, "tokens", {}), timeout=5, clean=True)
    assert (found["failures"], found["lost"], found["left"]) == ([], 0, 0)
    assert found["acknowledged"] > 20
    assert api.tokens is not None
    assert len(api.tokens) > 2


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (resets, "reset"),
        (closes, "closed without an answer"),
        (stops_halfway, "closed within the answer"),
        (says_nothing, "no answer within 0.15 s"),
        (speaks_otherwise, "answered something that is not HTTP"),
        (answers(503, "no"), 'HTTP 503 "no"'),
        (answers(404, "no"), 'HTTP 404 "no"'),
    ],
)
def test_failures(handler: Handler, what: str) -> None:
    # A machine that is busy answers late, and that is not what the others are about.
    api, found = run(handler, timeout=0.15 if handler is says_nothing else 5)
    assert found["failed"] == found["requests"] > 0
    assert {one["what"][: len(what)] for one in found["failures"]} == {what}
    assert api.requests <= found["requests"] + 1  # nothing is sent twice; before all a token was looked for
    first = found["failures"][0]
    assert first["method"] in ("GET", "POST")
    assert first["path"].startswith("/")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", first["at"])
    assert first["connection"] == "new"
    assert command.problems(found, 0) == [f"{found['failed']} failed"]


def subscriber(outcome: asyncio.Future[Any]) -> Awaitable[Any]:
    one = load.Subscriber(wire.Target("127.0.0.1", 1, "/api"))
    vars(one)["_subscribe"] = lambda: outcome
    return one.follow()


def request(outcome: asyncio.Future[Any]) -> Awaitable[Any]:
    connection = wire.Connection(wire.Target("127.0.0.1", 1, "/api"), 5)
    vars(connection)["_ask"] = lambda *_request: outcome
    return connection.ask("GET", "/flows/1")


@pytest.mark.parametrize("kind", [subscriber, request])
def test_it_ends_when_cancelled_in_the_moment_of_a_failure(kind: Callable[[asyncio.Future[Any]], Awaitable[Any]]) -> None:
    async def scenario() -> bool:
        outcome = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(kind(outcome))
        await asyncio.sleep(0)
        outcome.set_exception(wire.FailedError("refused"))
        task.cancel()
        await asyncio.wait({task}, timeout=2)
        return task.cancelled()

    assert asyncio.run(scenario())


def test_a_port_without_a_listener() -> None:
    target = wire.Target("127.0.0.1", 1, "/api")
    found = asyncio.run(load.load(load.Options(target, clients=1, fresh=0, pausing=0, seconds=0.1, subscribers=1)))
    assert {one["what"] for one in found["failures"][:-1]} == {"refused"}
    assert "subscriber 1 is not connected" in found["failures"][-1]["what"]
    assert found["longest_gap"] == pytest.approx(found["seconds"], abs=0.01)


def test_one_failure_among_successes_is_seen() -> None:
    api, found = run(drops_every_tenth, fresh=0, pausing=0, timeout=5)
    assert found["failed"] > 0
    assert {one["what"] for one in found["failures"]} == {"closed without an answer"}
    assert found["failures"][0]["connection"].startswith("kept open, idle for 0.0")
    assert found["acknowledged"] <= len(api.made)
    assert found["lost"] == 0


def test_idle_connections_that_the_server_closed_are_no_failure() -> None:
    api = Api(closes_without_a_word)

    async def scenario() -> None:
        server = await asyncio.start_server(api, "127.0.0.1", 0)
        client = wire.Connection(wire.Target("127.0.0.1", server.sockets[0].getsockname()[1], "/api"), 5)
        for _request in range(3):
            assert (await client.ask("GET", "/flows/1")).status == 200
            assert client.used == "new"
            await asyncio.sleep(0.05)
        client.close()
        server.close()

    asyncio.run(scenario())
    assert api.connections == api.requests == 3


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def idle(authority: Authority, handler: Talk, *, after: float = 0, **server: Any) -> bool:
    """Whether a connection with TLS is taken for over when, after so long, there is something to be read that the loop has not seen yet."""

    async def scenario() -> bool:
        listener = await asyncio.start_server(handler, "127.0.0.1", 0, **server)
        target = wire.Target.parse(f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/api", ca_file=str(authority.file))
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
        await asyncio.sleep(after)
        descriptor = writer.get_extra_info("socket").fileno()
        while not select.select([descriptor], [], [], 0)[0]:
            await asyncio.sleep(0)
        link = wire.Link(reader, writer)
        try:
            return await link.is_over()
        finally:
            link.close()
            listener.close()

    return asyncio.run(scenario())


def test_tickets_are_not_the_end_of_a_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.context("127.0.0.1")

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        for _flight in range(2):
            incoming.write(await reader.read(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            writer.write(outgoing.read())
        await reader.read()

    assert not idle(authority, late)


def test_an_end_with_tls_is_seen(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def ends(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.close()

    assert idle(authority, ends, after=0.1, ssl=authority.context("127.0.0.1"))


def test_a_server_that_says_close() -> None:
    api, found = run(says_close, fresh=0, pausing=0, timeout=5)
    assert found["failed"] == 0
    assert api.connections == api.requests + 1  # and that for a token


@pytest.mark.parametrize("forgotten", [1, 3])
def test_lost_writes(forgotten: int) -> None:
    _api, found = run(healthy, prepare=lambda api: api.forgets.update(f"id-{number}" for number in range(forgotten)), timeout=5)
    assert (found["failed"], found["lost"]) == (0, forgotten)
    assert len(found["lost_writes"]) == forgotten
    assert command.problems(found, 0) == [f"{forgotten} acknowledged writes lost"]


def test_what_is_lost_when_a_fault_has_healed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that comes back takes two writes with it, after all of them were read back once; a third was lost before."""
    healed = tmp_path / "healed"

    async def settled(_options: Any) -> None:
        await waits(_options)
        forgets.update({"id-1", "id-2"})

    forgets: set[str] = set()
    waits = load.settled
    monkeypatch.setattr(load, "settled", settled)

    def prepare(api: Api) -> None:
        nonlocal forgets
        forgets = api.forgets
        forgets.add("id-0")

    _api, found = run(healthy, prepare=prepare, timeout=5, settle_file=healed, settle_seconds=0.5)
    assert (found["failed"], found["lost"]) == (0, 3)


def test_refusals_are_counted_by_their_status() -> None:
    _api, found = run(answers(503, {"detail": "no database"}), timeout=5)
    assert set(found["statuses"]) == {"503"} and found["statuses"]["503"] > 0


def test_subscribers_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "SUBSCRIBE_SECONDS", 2)
    _api, found = run(healthy, clients=1, fresh=0, pausing=0, rate=20, seconds=1.3, timeout=5, subscribers=2)
    followers = found["subscribers"]
    assert found["failures"] == []
    assert followers["count"] == followers["connected"] == 2
    assert followers["reconnects"] >= 2
    assert followers["events"] >= 3 * followers["reconnects"]
    assert list(followers["close_codes"]) == ["1012"]
    assert 0.5 <= followers["longest_outage"] < 1


def test_the_rate_is_a_bound() -> None:
    _api, found = run(healthy, clients=8, rate=50, seconds=0.5, timeout=5)
    assert 20 <= found["requests"] <= 27


def test_until_a_file_appears(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    def ends(api: Api) -> None:
        async def handler(self: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if ready.exists():
                (tmp_path / "end").touch()
            await healthy(self, reader, writer)

        api.handler = handler

    _api, found = run(healthy, prepare=ends, seconds=20, timeout=5, until_file=tmp_path / "end", ready_file=ready)
    assert (found["stopped_by"], found["failed"]) == ("file", 0)
    assert found["seconds"] < 5


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOAD_AUTH", AUTH)
    report = tmp_path / "report.json"
    arguments = ["--url=http://127.0.0.1:1/api", "--auth-env=LOAD_AUTH", "--seconds=0.1", "--subscribers=0", "--rate=20"]
    assert command.main([*arguments, f"--report={report}", "--max-p99=1"]) == 1
    found = json.loads(report.read_text())
    assert found["failed"] == found["requests"] >= 1
    printed = capsys.readouterr()
    assert f"{found['failed']} of {found['requests']} requests failed, 0 of 0 acknowledged writes lost" in printed.out
    assert "refused (new)" in printed.err
    assert AUTH not in printed.out + printed.err + report.read_text()


@pytest.mark.parametrize("twice", [1, 3])
def test_writes_carried_out_twice(twice: int) -> None:
    _api, found = run(healthy, prepare=lambda api: setattr(api, "twice", twice), timeout=5)
    assert (found["failed"], found["lost"], found["twice"]) == (0, 0, twice)
    assert command.problems(found, 0) == [f"{twice} writes carried out twice"]


def test_everything_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PAGE", 7)
    kinds = ("flow_runs", "variables", "task_runs", "flows")
    api, found = run(healthy, timeout=5, kinds=kinds, clean=True)
    assert found["failed"] == found["left"] == 0
    assert set(api.kinds.values()) == set(kinds)
    # Flow runs go with their flow.
    assert {api.kinds[one] for one in api.made} == {"flow_runs"}


def test_a_flow_that_cannot_be_made() -> None:
    with pytest.raises(wire.FailedError, match='HTTP 500 "no"'):
        run(answers(500, "no"), kinds=("flow_runs",))


def test_the_timeline() -> None:
    _api, found = run(drops_every_tenth, fresh=0, pausing=0, timeout=5, timeline=True)
    line = found["timeline"]
    assert [good for _sent, _took, good in line["samples"]].count(0) == len([one for one in found["failures"] if "loo" not in one["what"]])
    assert len(line["samples"]) == found["requests"]
    sent = [one[0] for one in line["samples"]]
    assert sent == sorted(sent)
    assert abs(line["began_at"] - time.time()) < 60
    assert line["events"] == []


def test_limits() -> None:
    _api, found = run(healthy, timeout=5)
    assert "more than 1e-06 s" in command.problems(found, 0.000001)[0]
    assert command.problems(found | {"requests": 0}, 0) == ["nothing was sent"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url=ftp://here/api", "--seconds=1"], "ftp://here/api is not an address such as"),
        (["--url=http://here/api", "--seconds=1", "--auth-env=NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE (--auth-env) is empty or not set"),
        (["--url=http://here/api", "--seconds=1", "--clients=0", "--fresh=0", "--pausing=0"], "no client"),
        (["--url=http://here/api"], "--seconds --until-file"),
        (["--url=https://here/api", "--seconds=1", "--ca-file=/nowhere"], "/nowhere (--ca-file): "),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.parse(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_address_of_ipv6() -> None:
    target = wire.Target.parse("http://[::1]:4200/api/")
    assert (target.host, target.port, target.base) == ("::1", 4200, "/api")
    assert target.headers() == [("Host", "[::1]:4200")]
