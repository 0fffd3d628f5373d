# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Load a Prefect API with clients that never retry, and count every request that failed and every write that was lost.

The clients are those that a change of the service would hurt: some keep their connection open and send one request after the
other, some open a connection for each request, some leave theirs idle for up to ten seconds before they use it again. Half of the
requests are writes, each with a name of its own (``load-...``), and all that were acknowledged are read back in the end. Subscribers
follow the events by websocket and connect again when they lose it. Browsers load the user interface's pages (see `pages.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._load.pages import Browser, Views
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import (
    Answer,
    Connection,
    FailedError,
    Target,
    Websocket,
    keep_token,
)

KINDS = ("variables", "flows", "variables", "flows", "task_runs")
REPEATABLE = ("flow_runs", "task_runs")
"""Of these the service makes a second one when it is told twice; the others have unique names."""

PAGE = 200  # what one page of the API holds
SHOWN = 50
SUBSCRIBE_SECONDS = 10.0  # seconds that a subscriber may take in the end
READ_BACK_ATTEMPTS = 5
CLEANERS = 6  # connections over which what was written is removed


@dataclass(frozen=True)
class Options:
    """What to do: how many clients of each sort, at most how many requests a second (0: as many as there are), and until when."""

    target: Target
    clients: int = 8
    fresh: int = 2
    pausing: int = 4
    subscribers: int = 2
    browsers: int = 0
    rate: float = 30.0
    seconds: float = 60.0
    until_file: Path | None = None
    timeout: float = 20.0
    max_pause: float = 10.0
    ready_file: Path | None = None
    kinds: Sequence[str] = KINDS
    timeline: bool = False  # whether the report tells of every request
    clean: bool = False  # whether everything that was written is removed in the end
    settle_file: Path | None = None  # until it is there, what was acknowledged waits to be read back once more
    settle_seconds: float = 0.0  # at most


@dataclass(frozen=True)
class Failure:
    """One request that failed. `at` is the wall clock in UTC, `after` seconds since the load began."""

    at: str
    after: float
    method: str
    path: str
    what: str
    connection: str


@dataclass(frozen=True)
class Write:
    """A write that the service has acknowledged."""

    kind: str
    id: str
    name: str


@dataclass
class Pace:
    """Spreads requests evenly, so that the latency measured is that of the service and not of a queue before it."""

    rate: float
    _next: float = 0.0

    async def turn(self) -> None:
        if self.rate <= 0:
            return
        now = time.monotonic()
        self._next = max(self._next, now)
        wait, self._next = self._next - now, self._next + 1 / self.rate
        await asyncio.sleep(wait)


@dataclass
class Tally:
    """What happened so far, and when the next request is due. Times are seconds of the monotonic clock."""

    pace: Pace
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)  # the same moment by the wall clock
    requests: int = 0
    writes: int = 0
    latencies: list[float] = field(default_factory=list)
    slowest: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    samples: list[tuple[float, float, int]] = field(default_factory=list)  # when it was sent, how long it took, whether it succeeded
    statuses: Counter[str] = field(default_factory=Counter)  # of the answers that were refusals
    acknowledged: list[Write] = field(default_factory=list)
    lost: list[Write] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)  # names of writes that were carried out more than once
    left: int = 0  # writes that could not be removed
    longest_gap: float = 0.0
    last_success: float = 0.0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self.last_success = self.began

    def succeeded(self, method: str, path: str, took: float) -> None:
        now = time.monotonic()
        self.gap(now)
        self.last_success = now
        self.latencies.append(took)
        self.slowest = sorted([*self.slowest, (took, now - took - self.began, f"{method} {path}")], reverse=True)[:10]

    def gap(self, now: float) -> None:
        self.longest_gap = max(self.longest_gap, now - self.last_success)

    def failed(self, method: str, path: str, what: str, connection: str = "") -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.failures.append(Failure(now, round(time.monotonic() - self.began, 3), method, path, what, connection))


@dataclass(frozen=True)
class Request:
    """What to send, and what a proper answer is. `kind` and `name` belong to a write."""

    method: str
    path: str
    content: Any = None
    kind: str = ""
    name: str = ""

    def accepts(self, answer: Answer) -> bool:
        return answer.status in ((200, 201) if self.kind else (200,))


def write(kind: str, name: str, flow: str = "") -> Request:
    """A request that creates something with this name. `flow` is the id of the flow that flow runs belong to."""
    contents: dict[str, Any] = {
        "variables": {"name": name, "value": name},
        "flows": {"name": name},
        "flow_runs": {"name": name, "flow_id": flow},
        # One of those that go to the upstream of background tasks.
        "task_runs": {"name": name, "task_key": name, "dynamic_key": "0", "flow_run_id": None},
    }
    return Request("POST", f"/{kind}/", contents[kind], kind, name)


def read(number: int, known: Sequence[Write]) -> Request:
    """A request that reads: something written shortly before, or a cheap list."""
    if known and number % 3:
        one = known[-1 - number % min(len(known), 20)]
        return Request("GET", f"/{one.kind}/{one.id}")
    return Request("POST", "/flows/filter", {"limit": 5}) if number % 2 else Request("GET", "/admin/version")


def requests(run: str, tally: Tally, kinds: Sequence[str] = KINDS, flow: str = "") -> Iterator[Request]:
    """Reads and writes in turn, for ever."""
    number = 0
    while True:
        yield write(kinds[number % len(kinds)], f"load-{run}-{number}", flow)
        yield read(number, tally.acknowledged)
        number += 1


async def send(connection: Connection, request: Request, tally: Tally) -> None:
    """Send one request and account for it."""
    tally.requests += 1
    tally.writes += bool(request.kind)
    began = time.monotonic()
    try:
        answer = await connection.ask(request.method, request.path, request.content)
        content = answer.json()
        if not request.accepts(answer):
            tally.statuses[str(answer.status)] += 1
            raise FailedError(answer.summary())
        if request.kind and not (isinstance(content, dict) and content.get("id")):
            raise FailedError(f"no id in the answer: {answer.summary()}")
    except FailedError as error:
        tally.samples.append((began - tally.began, time.monotonic() - began, 0))
        tally.failed(request.method, request.path, str(error), connection.used)
        return
    took = time.monotonic() - began
    tally.samples.append((began - tally.began, took, 1))
    tally.succeeded(request.method, request.path, took)
    if request.kind:
        tally.acknowledged.append(Write(request.kind, content["id"], request.name))


async def client(options: Options, sort: str, source: Iterator[Request], tally: Tally, stop: asyncio.Event) -> None:
    """One client, until told to stop. Its request under way is finished first."""
    connection = Connection(options.target, options.timeout)
    while not stop.is_set():
        if sort == "pausing":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0, options.max_pause)):  # noqa: S311 - no secret
                    await stop.wait()
        await tally.pace.turn()
        if stop.is_set():
            break
        failed = len(tally.failures)
        await send(connection, next(source), tally)
        if sort == "fresh":
            connection.close()
        if len(tally.failures) > failed:
            await asyncio.sleep(0.05)  # a service that refuses every request gets no thousand requests a second
    connection.close()


@dataclass
class Subscriber:
    """Follows the events as Prefect's client does. Seconds are those without a subscription."""

    target: Target
    events: int = 0
    times: list[float] = field(default_factory=list)  # when events came, no more than ten in a second
    connections: int = 0
    attempts_failed: int = 0
    longest_outage: float = 0.0
    last_problem: str = ""
    codes: Counter[str] = field(default_factory=Counter)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    _lost: float = field(default_factory=time.monotonic)

    async def follow(self) -> None:
        """Subscribe, and again whenever the subscription is lost, until cancelled."""
        while True:
            socket = None
            try:
                async with asyncio.timeout(SUBSCRIBE_SECONDS):
                    socket = await self._subscribe()
                await self._count(socket)
            except (OSError, EOFError, FailedError, TimeoutError, ValueError) as error:
                self.attempts_failed += 1
                self.last_problem = str(error) or type(error).__name__
            finally:
                if socket:
                    socket.close()
            await asyncio.sleep(0.5)

    async def _subscribe(self) -> Websocket:
        socket = await Websocket.connect(self.target, "/events/out", "prefect")
        try:
            await self._enter(socket)
        except BaseException:
            socket.close()
            raise
        return socket

    async def _enter(self, socket: Websocket) -> None:
        await socket.send({"type": "auth", "token": self.target.auth or None})
        welcome = await socket.receive()
        if not welcome or welcome.get("type") != "auth_success":
            raise FailedError(f"login refused: {welcome or f'closed with code {socket.closed}'}")
        now = datetime.now(timezone.utc)
        occurred = {"since": now.isoformat(), "until": (now + timedelta(days=365)).isoformat()}
        await socket.send({"type": "filter", "filter": {"occurred": occurred}})
        self.connections += 1
        self.longest_outage = max(self.longest_outage, time.monotonic() - self._lost) if self.connections > 1 else 0.0
        self.connected.set()

    async def _count(self, socket: Websocket) -> None:
        while message := await socket.receive():
            if message.get("type") == "event":
                self.events += 1
                now = time.monotonic()
                if not self.times or now - self.times[-1] >= 0.1:
                    self.times.append(now)
        self._lost = time.monotonic()
        self.connected.clear()
        self.codes[str(socket.closed)] += 1


async def told(connection: Connection, path: str, content: Any, kind: type) -> Any:
    """What a POST is answered with. Raises FailedError unless it is of this kind."""
    answer = await connection.ask("POST", path, content)
    found = answer.json()
    if answer.status not in (200, 201) or not isinstance(found, kind):
        raise FailedError(answer.summary())
    return found


async def read_back(options: Options, tally: Tally) -> None:
    """Find out which of the acknowledged writes are not there. What cannot be read counts as lost."""
    connection = Connection(options.target, options.timeout)
    known = {one.id for one in tally.lost}
    for kind in sorted(set(options.kinds)):
        written = [one for one in tally.acknowledged if one.kind == kind]
        for at in range(0, len(written), PAGE):
            page = written[at : at + PAGE]
            found = await _existing(connection, kind, [one.id for one in page], tally)
            tally.lost += [one for one in page if one.id not in found and one.id not in known]
    connection.close()


async def _existing(connection: Connection, kind: str, ids: list[str], tally: Tally) -> set[str]:
    problem = ""
    for attempt in range(READ_BACK_ATTEMPTS):
        await asyncio.sleep(min(attempt, 1))
        try:
            return {one["id"] for one in await told(connection, f"/{kind}/filter", {kind: {"id": {"any_": ids}}, "limit": PAGE}, list)}
        except FailedError as error:
            problem = str(error)
    tally.failed("POST", f"/{kind}/filter", f"reading back: {problem}")
    return set()


async def made(connection: Connection, run: str, kind: str) -> list[dict[str, Any]]:
    """Everything of a kind that this run has made, acknowledged or not. Raises FailedError if the service does not say."""
    like = f"load-{run}-" + ("%" if kind == "variables" else "")  # a pattern for variables, a part of the name for the others
    found: list[dict[str, Any]] = []
    while True:
        asked = {kind: {"name": {"like_": like}}, "limit": PAGE, "offset": len(found)}
        page = await told(connection, f"/{kind}/filter", asked, list)
        found += page
        if len(page) < PAGE:
            return found


async def repeated(options: Options, run: str, tally: Tally) -> None:
    """Find out which writes were carried out more than once."""
    connection = Connection(options.target, options.timeout)
    for kind in sorted(set(options.kinds).intersection(REPEATABLE)):
        try:
            names = Counter(one["name"] for one in await made(connection, run, kind))
        except FailedError as error:
            tally.failed("POST", f"/{kind}/filter", f"looking for writes carried out twice: {error}")
            continue
        tally.twice += sorted(name for name, count in names.items() if count > 1)
    connection.close()


async def clean(options: Options, run: str, flow: str, tally: Tally) -> None:
    """Remove everything that was written. What cannot be is counted."""
    connection = Connection(options.target, options.timeout)
    paths = [f"/flows/{flow}"] if flow else []  # and its runs with it
    for kind in sorted(set(options.kinds) - ({"flow_runs"} if flow else set())):
        try:
            paths += [f"/{kind}/{one['id']}" for one in await made(connection, run, kind)]
        except FailedError:
            tally.left += sum(one.kind == kind for one in tally.acknowledged)
    connection.close()
    left = iter(paths)

    async def remove() -> None:
        mine = Connection(options.target, options.timeout)
        for path in left:
            try:
                tally.left += (await mine.ask("DELETE", path)).status not in (200, 204, 404)
            except FailedError:
                tally.left += 1
        mine.close()

    await asyncio.gather(*(remove() for _client in range(CLEANERS)))


async def parent(options: Options, run: str) -> str:
    """The id of a flow for flow runs; empty when there are to be none. Raises FailedError if the service does not make one."""
    if "flow_runs" not in options.kinds:
        return ""
    connection = Connection(options.target, options.timeout)
    content = await told(connection, "/flows/", {"name": f"load-{run}"}, dict)
    connection.close()
    return str(content["id"])


async def stopped(options: Options, stop: asyncio.Event) -> str:
    """Wait until the load is to end and return why: "time", "file" or "signal"."""
    until = time.monotonic() + options.seconds
    while not stop.is_set():
        if options.until_file and options.until_file.exists():
            return "file"
        left = until - time.monotonic()
        if left <= 0:
            return "time"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left, 0.2)):
                await stop.wait()
    return "signal"


async def settle(subscribers: Sequence[Subscriber], tally: Tally) -> None:
    """Let subscribers that are just connecting do so; the others have failed."""
    for number, one in enumerate(subscribers, start=1):
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                await one.connected.wait()
        except TimeoutError:
            tally.failed("GET", "/events/out", f"subscriber {number} is not connected; last problem: {one.last_problem or 'none'}")


async def settled(options: Options) -> None:
    """Wait until what was broken has healed: then a host may have taken back what others have acknowledged without it."""
    until = time.monotonic() + options.settle_seconds
    while options.settle_file and not options.settle_file.exists() and time.monotonic() < until:
        await asyncio.sleep(0.2)


async def announce(ready_file: Path, tally: Tally) -> None:
    """Make a file when the first request has succeeded."""
    while not tally.latencies:
        await asyncio.sleep(0.05)
    ready_file.touch()


async def load(options: Options) -> dict[str, Any]:
    """Run it all and return the report. Raises FailedError if what the load needs could not be made."""
    begun = asyncio.Event()
    token = asyncio.create_task(keep_token(options.target, options.timeout, begun))
    await begun.wait()
    try:
        return await _load(options)
    finally:
        token.cancel()
        await asyncio.gather(token, return_exceptions=True)


async def _load(options: Options) -> dict[str, Any]:
    run = secrets.token_hex(4)
    flow = await parent(options, run)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tally = Tally(Pace(options.rate))
    source = requests(run, tally, options.kinds, flow)
    subscribers = [Subscriber(options.target) for _number in range(options.subscribers)]
    background = [asyncio.create_task(one.follow()) for one in subscribers]
    if options.ready_file:
        background.append(asyncio.create_task(announce(options.ready_file, tally)))
    sorts = ["keeping"] * options.clients + ["fresh"] * options.fresh + ["pausing"] * options.pausing
    views = Views()
    browsers = [asyncio.create_task(Browser(options.target, options.timeout, views).run(stop)) for _number in range(options.browsers)]
    clients = [asyncio.create_task(client(options, sort, source, tally, stop)) for sort in sorts]
    why = await stopped(options, stop)
    tally.ended = time.monotonic()
    tally.gap(tally.ended)
    stop.set()
    await asyncio.gather(*clients, *browsers)
    await settle(subscribers, tally)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await read_back(options, tally)
    if options.settle_file:
        await settled(options)
        await read_back(options, tally)
    if tally.acknowledged:
        await repeated(options, run, tally)
    if options.clean:
        await clean(options, run, flow, tally)
    found = report(tally, subscribers, why) | {"pages": asdict(views)}
    return {**found, "timeline": timeline(tally, subscribers)} if options.timeline else found


def timeline(tally: Tally, subscribers: Sequence[Subscriber]) -> dict[str, Any]:
    """When everything happened, in seconds since `began_at`, which is the wall clock's: each request and, for each subscriber, events."""
    return {
        "began_at": round(tally.began_at, 3),
        "ended": round(tally.ended - tally.began, 3),
        "samples": [[round(sent, 3), round(took, 3), good] for sent, took, good in sorted(tally.samples)],
        "events": [[round(when - tally.began, 1) for when in one.times] for one in subscribers],
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 4) if ordered else 0.0


def report(tally: Tally, subscribers: Sequence[Subscriber], why: str) -> dict[str, Any]:
    """Everything that was counted. Times are in seconds."""
    return {
        "requests": tally.requests,
        "writes": tally.writes,
        "failed": len(tally.failures),
        "failures": [asdict(one) for one in tally.failures[:SHOWN]],
        "statuses": dict(tally.statuses),
        "acknowledged": len(tally.acknowledged),
        "lost": len(tally.lost),
        "lost_writes": [asdict(one) for one in tally.lost[:SHOWN]],
        "twice": len(tally.twice),
        "left": tally.left,
        "latency": {
            "p50": percentile(tally.latencies, 0.5),
            "p95": percentile(tally.latencies, 0.95),
            "p99": percentile(tally.latencies, 0.99),
            "max": round(max(tally.latencies, default=0.0), 4),
        },
        "slowest": [{"seconds": round(took, 3), "after": round(after, 3), "request": what} for took, after, what in tally.slowest],
        "longest_gap": round(tally.longest_gap, 3),
        "subscribers": {
            "count": len(subscribers),
            "connected": sum(one.connected.is_set() for one in subscribers),
            "reconnects": sum(max(one.connections - 1, 0) for one in subscribers),
            "attempts_failed": sum(one.attempts_failed for one in subscribers),
            "events": sum(one.events for one in subscribers),
            "longest_outage": round(max((one.longest_outage for one in subscribers), default=0.0), 3),
            "close_codes": dict(sum((one.codes for one in subscribers), Counter())),
        },
        "seconds": round(tally.ended - tally.began, 3),
        "stopped_by": why,
    }
