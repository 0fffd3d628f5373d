"""The checks. Each is what a user does, with Prefect's own client, and returns a line that says what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import prefect
from parts import Child, Options, Result, UnreachableError
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, LogCreate, VariableCreate, VariableUpdate, WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterLevel,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import RRuleSchedule
from prefect.events import Event, Resource
from prefect.events.clients import get_events_client, get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.flow_engine import run_flow
from prefect.logging.clients import get_logs_subscriber
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_SSL_CERT_FILE
from prefect.states import Pending
from prefect.types._datetime import now
from workload import background_task, on_schedule, squares

TASKS = 5
BACKGROUND_TASKS = 12
LARGE_LOG_BYTES = 4_000_000
LARGE_LOGS = 40
LARGE_LOG_LEVEL = 55  # above CRITICAL, so that a filter can tell them from the flow's own lines
POLL = 0.5
# Seconds between the events whose lag is timed: no multiple of the intervals at which the servers publish and flush.
LAG_SPACING = (0.07, 0.11, 0.19, 0.23)
LAG_PAUSE = 5.0  # seconds before the lag is measured once more

T = TypeVar("T")
Reader = Callable[[dict[str, Any]], Awaitable[httpx.Response]]


class UnseenError(Exception):
    """What a check waits for did not come; the message says what had come until then."""


async def until(seen: Callable[[], Awaitable[bool]], interval: float = POLL) -> None:
    """Ask again and again; the limit is the one of the check."""
    while not await seen():
        await asyncio.sleep(interval)


def explain(error: BaseException) -> str:
    """Say in one line what went wrong."""
    text = " ".join(str(error).partition("For more information check")[0].split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile, 0 < share <= 1, of values that are not empty."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


async def in_thread(function: Callable[[], T]) -> T:
    """Run blocking code in a thread that cannot keep the process alive when its check has been given up."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(deliver: Callable[[], None]) -> None:
        if not answer.done():
            deliver()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, functools.partial(answer.set_exception, error))
        else:
            loop.call_soon_threadsafe(settle, functools.partial(answer.set_result, result))

    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    return await answer


class Proof:
    """One run of the proof: its names, its client, its processes, and what it has to remove in the end."""

    def __init__(self, options: Options, folder: Path, run: str) -> None:
        self.options = options
        self.folder = folder
        self.run_name = run
        self.name = f"proof-{run}"
        self.facts: dict[str, Any] = {"client": prefect.__version__, "run": run}
        self._client: PrefectClient = get_client(sync_client=False)
        self._progress: dict[str, str] = {}
        self._removals: list[tuple[str, Callable[[], Coroutine[Any, Any, Any]]]] = []
        self._listening = asyncio.Event()
        self._gave_up = False
        worker = [sys.executable, "-m", "prefect", *f"worker start --pool {self.name} --name {self.name} --type process --limit 1".split()]
        self._worker = Child("worker", worker, folder)
        self._task_worker = Child("task-worker", [sys.executable, str(Path(__file__).with_name("workload.py")), run], folder)

    # --- the frame ---

    async def run(self) -> list[Result]:
        """Run the checks that were asked for: all at once, but the timing of the lag when the rest has calmed down."""
        checks: dict[str, Callable[[], Awaitable[str]]] = {
            "flow": self.flow,
            "logs by websocket": self.logs_by_websocket,
            "logs by read": self.logs_by_read,
            "task runs recorded": self.task_runs_recorded,
            "event by websocket": self.event_by_websocket,
            "variable": self.variable,
            "4 MB of logs": self.large_log,
            "scheduled deployment": self.scheduled_deployment,
            "background tasks": self.background_tasks,
        }
        async with self._client:
            self.facts["server"] = await self._server_version()
            running = [self._checked(name, check) for name, check in checks.items() if name in self.options.only]
            results = list(await asyncio.gather(*running))
            if "background lag" in self.options.only:
                results.append(await self._checked("background lag", self.background_lag))
            return results

    async def clean_up(self) -> None:
        """End the processes and remove what was created, newest first. What cannot be removed is said, and no more."""
        await asyncio.gather(self._worker.stop(), self._task_worker.stop())
        async with get_client(sync_client=False) as client:
            self._client = client
            left = [what for what, removal in reversed(self._removals) if not await self._removed(removal)]
        if left:
            print(f"note: not removed, as the service did not let it: {', '.join(sorted(set(left)))}", file=sys.stderr)

    async def _removed(self, removal: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        """Remove one thing. A service that has stopped answering is not waited for again and again."""
        if self._gave_up:
            return False
        try:
            await asyncio.wait_for(removal(), 10)
        except TimeoutError:
            self._gave_up = True
            return False
        except Exception:
            return False
        return True

    async def _checked(self, name: str, check: Callable[[], Awaitable[str]]) -> Result:
        started = time.monotonic()
        task = asyncio.ensure_future(check())
        # Not wait_for, which would wait for a check that does not let itself be cancelled.
        await asyncio.wait({task}, timeout=self.options.timeout)
        if not task.done():
            task.cancel()
            detail, good = f"not within {self.options.timeout:g} s: {self._progress.get(name, 'nothing came')}", False
        elif error := task.exception():
            detail, good = explain(error), False
        else:
            detail, good = task.result(), True
        return Result(name, good, round(time.monotonic() - started, 2), detail)

    def _remove_later(self, what: str, removal: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._removals.append((what, removal))

    async def _server_version(self) -> str:
        """Ask the first question. There is no point in ten failures that all mean the same."""
        try:
            answer = await asyncio.wait_for(self._client.request("GET", "/admin/version"), self.options.timeout)
        except Exception as error:
            hint = "is it running, and is PREFECT_API_AUTH_STRING right?"
            raise UnreachableError(f"{self.options.url} does not serve this client: {explain(error)}; {hint}") from error
        return str(answer.json())

    # --- a flow, and what can be seen of it ---

    @cached_property
    def _flow_run(self) -> asyncio.Task[FlowRun]:
        return asyncio.create_task(self._create_flow_run())

    @cached_property
    def _flow_state(self) -> asyncio.Task[str]:
        return asyncio.create_task(self._run_flow())

    async def _create_flow_run(self) -> FlowRun:
        """Register the run before it starts, so that a subscriber can wait for its logs."""
        flow_run = await self._client.create_flow_run(
            squares.with_options(name=self.name), name=self.name, parameters={"run": self.run_name, "count": TASKS}, state=Pending()
        )
        self._remove_later("the flow", lambda: self._client.delete_flow(flow_run.flow_id))
        self._remove_later("the flow run", lambda: self._client.delete_flow_run(flow_run.id))
        return flow_run

    async def _run_flow(self) -> str:
        flow_run = await asyncio.shield(self._flow_run)
        if "logs by websocket" in self.options.only:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._listening.wait(), 10)
        flow = squares.with_options(name=self.name)
        await in_thread(lambda: run_flow(flow, flow_run=flow_run, parameters=flow_run.parameters, return_type="state"))
        state = (await self._client.read_flow_run(flow_run.id)).state
        return str(state.name) if state else "no state"

    async def flow(self) -> str:
        """A flow with several tasks, run here, ends COMPLETED, and the server says so."""
        state = await asyncio.shield(self._flow_state)
        if state != "Completed":
            raise UnseenError(f"the flow run ended {state}")
        return f"{TASKS} tasks, COMPLETED"

    async def logs_by_websocket(self) -> str:
        """The logs of the flow arrive while a client follows them, as `prefect flow-run logs` or a page of the UI."""
        flow_run = await asyncio.shield(self._flow_run)
        wanted, seen = f"proof {self.run_name} adds up", 0
        log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]), level=LogFilterLevel(le_=LARGE_LOG_LEVEL - 1))
        async with get_logs_subscriber(filter=log_filter) as subscriber:
            self._listening.set()
            started = asyncio.ensure_future(asyncio.shield(self._flow_state))
            try:
                async for log in subscriber:
                    seen += 1
                    self._progress["logs by websocket"] = f"{seen} other lines came"
                    if log.message.startswith(wanted):
                        return f"first line after {seen} received"
            finally:
                started.cancel()
        raise UnseenError(f"the stream ended after {seen} lines")

    async def logs_by_read(self) -> str:
        """The logs of the flow and of its tasks can be read afterwards."""
        flow_run = await asyncio.shield(self._flow_run)
        await asyncio.shield(self._flow_state)
        log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]), level=LogFilterLevel(le_=LARGE_LOG_LEVEL - 1))

        async def seen() -> bool:
            lines = [log.message for log in await self._client.read_logs(log_filter, limit=200)]
            squares_seen = sum(line.startswith("the square of") for line in lines)
            self._progress["logs by read"] = f"{len(lines)} lines, {squares_seen} of {TASKS} of the tasks"
            return squares_seen == TASKS and any(line.startswith(f"proof {self.run_name}") for line in lines)

        await until(seen)
        return self._progress["logs by read"]

    async def task_runs_recorded(self) -> str:
        """The task runs, which reach the server as events by websocket, are recorded with their final states."""
        flow_run = await asyncio.shield(self._flow_run)
        await asyncio.shield(self._flow_state)
        ended = time.monotonic()
        states = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run.id]))
        await until(lambda: self._completed("task runs recorded", states, TASKS))
        return f"{self._progress['task runs recorded']}, {time.monotonic() - ended:.1f} s after the flow"

    async def _completed(self, check: str, task_runs: TaskRunFilter, count: int) -> bool:
        found = await self._client.read_task_runs(task_run_filter=task_runs, limit=200)
        completed = len([task_run for task_run in found if task_run.state_type and task_run.state_type.value == "COMPLETED"])
        self._progress[check] = f"{completed} of {count} COMPLETED"
        return completed == count

    # --- events, variables, large requests ---

    def _event(self, kind: str, number: int = 0) -> Event:
        resource = Resource.model_validate({"prefect.resource.id": f"{self.name}.{number}"})
        return Event(event=f"{self.name}.{kind}", resource=resource, payload={"number": number})

    async def event_by_websocket(self) -> str:
        """An event goes in by one websocket and comes out of another, whichever API servers they end at."""
        event = self._event("seen")
        async with get_events_subscriber(filter=EventFilter(event=EventNameFilter(name=[event.event]))) as subscriber:
            emitted = time.monotonic()
            async with get_events_client() as client:
                await client.emit(event)
            async for received in subscriber:
                if received.id == event.id:
                    return f"{time.monotonic() - emitted:.1f} s from one end to the other"
        raise UnseenError("the stream ended before the event came")

    async def variable(self) -> str:
        """A variable is written, read, changed and read again, each perhaps through another API server."""
        name = f"proof_{self.run_name}"
        self._remove_later("the variable", lambda: self._client.delete_variable_by_name(name))
        await self._client.create_variable(VariableCreate(name=name, value={"step": 1}))
        for step in range(2, 5):
            await self._client.update_variable(VariableUpdate(name=name, value={"step": step}))
            read = await self._client.read_variable_by_name(name)
            if read is None or read.value != {"step": step}:
                raise UnseenError(f"written step {step}, read {read and read.value}")
        return "written and read 3 times"

    async def large_log(self) -> str:
        """The largest batch of logs that Prefect's client sends is taken and stored whole."""
        flow_run = await asyncio.shield(self._flow_run)
        message = "0123456789" * (LARGE_LOG_BYTES // LARGE_LOGS // 10)
        log = LogCreate(name="proof", level=LARGE_LOG_LEVEL, message=message, timestamp=now("UTC"), flow_run_id=flow_run.id)
        await self._client.create_logs([log] * LARGE_LOGS)
        log_filter = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run.id]), level=LogFilterLevel(ge_=LARGE_LOG_LEVEL))
        stored = sum(len(log.message) for log in await self._client.read_logs(log_filter, limit=200))
        if stored != LARGE_LOG_BYTES:
            raise UnseenError(f"sent {LARGE_LOG_BYTES} bytes, read {stored}")
        return f"{stored / 1e6:g} MB in one request"

    # --- work that the services start ---

    async def scheduled_deployment(self) -> str:
        """A deployment with a schedule: the scheduler creates its runs, a process worker runs one, on time."""
        await self._client.create_work_pool(WorkPoolCreate(name=self.name, type="process"))
        self._remove_later("the work pool", lambda: self._client.delete_work_pool(self.name))
        await self._worker.start()
        deployment = await self._create_deployment()

        async def seen() -> bool:
            states = [run.state_type.value for run in await self._runs(deployment) if run.state_type]
            counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "no run was scheduled"
            self._progress["scheduled deployment"] = f"{counts}; the worker said: {self._worker.last_lines()}"
            if bad := {"FAILED", "CRASHED"} & set(states):
                raise UnseenError(f"a run ended {bad.pop()}; {self._progress['scheduled deployment']}")
            return "COMPLETED" in states

        try:
            await until(seen, interval=1)
        finally:
            await self._worker.stop()
        return "scheduled by the server, COMPLETED by a process worker"

    async def _create_deployment(self) -> UUID:
        flow_id = await self._client.create_flow(on_schedule.with_options(name=f"{self.name}-on-schedule"))
        self._remove_later("the scheduled flow", lambda: self._client.delete_flow(flow_id))
        # Two minutes of occurrences: Prefect's quick scheduler looks for deployments that changed within its 5 s and 1 s more, so it misses
        # one when its turn comes late; the other one looks every minute, and must not find them all in the past.
        start = (now("UTC") + timedelta(seconds=4)).strftime("%Y%m%dT%H%M%SZ")
        schedule = RRuleSchedule(rrule=f"DTSTART:{start}\nRRULE:FREQ=SECONDLY;INTERVAL=4;COUNT=30")
        deployment: UUID = await self._client.create_deployment(
            flow_id=flow_id,
            name=self.name,
            schedules=[DeploymentScheduleCreate(schedule=schedule)],
            parameters={"run": self.run_name},
            work_pool_name=self.name,
            path=str(Path(__file__).parent),
            entrypoint="workload.py:on_schedule",
        )
        self._remove_later("the deployment", lambda: self._client.delete_deployment(deployment))
        self._remove_later("the scheduled runs", lambda: self._delete_runs(deployment))
        return deployment

    async def _runs(self, deployment: UUID) -> list[FlowRun]:
        found: list[FlowRun] = await self._client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        )
        return found

    async def _delete_runs(self, deployment: UUID) -> None:
        """Delete the runs one by one: their logs go with them only in this way."""
        for flow_run in await self._runs(deployment):
            await self._client.delete_flow_run(flow_run.id)

    async def background_tasks(self) -> str:
        """Tasks sent with `.delay()` are run by a task worker: half of them sent before it is there, half after."""
        await self._task_worker.start()
        ids: list[UUID] = []
        for last in (BACKGROUND_TASKS // 2, BACKGROUND_TASKS):
            await self._send_background_tasks(ids, last)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(until(lambda: self._ran(ids)), self.options.timeout / 3)
        if not await self._ran(ids):
            raise UnseenError(f"{self._progress['background tasks']}; the task worker said: {self._task_worker.last_lines(2)}")
        await self._task_worker.stop()
        return self._progress["background tasks"]

    async def _send_background_tasks(self, ids: list[UUID], last: int) -> None:
        task = background_task(self.run_name)
        for number in range(len(ids), last):
            future = await in_thread(functools.partial(task.delay, number))
            ids.append(future.task_run_id)
            self._remove_later("a background task run", functools.partial(self._delete_task_run, future.task_run_id))

    async def _delete_task_run(self, task_run_id: UUID) -> None:
        await self._client.delete_task_run(task_run_id)

    async def _ran(self, ids: list[UUID]) -> bool:
        return await self._completed("background tasks", TaskRunFilter(id=TaskRunFilterId(any_=ids)), len(ids))

    # --- the lag of the background services ---

    async def background_lag(self) -> str:
        """The 95th percentile of some events' lag is within its limit, if need be in a later measurement of those allowed."""
        attempts = self.options.lag_attempts
        for attempt in range(1, attempts + 1):
            lags, readers = await self._measure_lags(f"lag-{attempt}")
            if percentile(lags, 0.95) <= self.options.max_lag or attempt == attempts:
                break
            await asyncio.sleep(LAG_PAUSE)
        return self._judge_lags(lags, readers, f", measurement {attempt} of {attempts}" if attempts > 1 else "")

    async def _measure_lags(self, kind: str) -> tuple[list[float], int]:
        """Events emitted through the balancer are timed until each is visible through every API server named.

        Returns the seconds that each took, and the number of API servers.
        """
        emitted: dict[str, float] = {}
        name = self._event(kind).event
        async with contextlib.AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(reader) for reader in self._event_readers()]
            watchers = [asyncio.create_task(self._watch(read, name)) for read in readers]
            try:
                async with get_events_client() as client:
                    for number in range(self.options.lag_events):
                        event = self._event(kind, number)
                        emitted[str(event.id)] = time.monotonic()
                        await client.emit(event)
                        await asyncio.sleep(LAG_SPACING[number % len(LAG_SPACING)])
                visible = await asyncio.gather(*watchers)
            finally:
                for watcher in watchers:
                    watcher.cancel()
        return [max(seen[event] for seen in visible) - at for event, at in emitted.items()], len(readers)

    def _judge_lags(self, lags: list[float], readers: int, which: str) -> str:
        p50, p95 = percentile(lags, 0.5), percentile(lags, 0.95)
        limit = self.options.max_lag
        self.facts["lag"] = {"events": len(lags), "p50": round(p50, 2), "p95": round(p95, 2), "max": round(max(lags), 2), "limit": limit}
        where = f"through {readers} addresses" if readers > 1 else "through one address"
        detail = f"{len(lags)} events visible {where}: p50 {p50:.2f} s, p95 {p95:.2f} s, limit {limit:g} s{which}"
        if p95 > limit:
            raise UnseenError(detail)
        return detail

    def _event_readers(self) -> list[contextlib.AbstractAsyncContextManager[Reader]]:
        if not self.options.direct:
            return [self._balancer_reader()]
        return [self._direct_reader(url) for url in self.options.direct]

    @contextlib.asynccontextmanager
    async def _balancer_reader(self) -> AsyncIterator[Reader]:
        yield lambda body: self._client.request("POST", "/events/filter", json=body)

    @contextlib.asynccontextmanager
    async def _direct_reader(self, url: str) -> AsyncIterator[Reader]:
        credentials = PREFECT_API_AUTH_STRING.value()
        text = credentials.get_secret_value() if hasattr(credentials, "get_secret_value") else credentials
        user, password = (text or "").partition(":")[::2]
        trusted = ssl.create_default_context(cafile=PREFECT_API_SSL_CERT_FILE.value() or None)
        async with httpx.AsyncClient(auth=(user, password) if text else None, timeout=10, trust_env=False, verify=trusted) as client:
            yield lambda body: client.post(f"{url}/events/filter", json=body)

    async def _watch(self, read: Reader, name: str) -> dict[str, float]:
        """Return when each event was first seen; one page holds them all."""
        first: dict[str, float] = {}
        emitted: int = self.options.lag_events
        body = {"filter": {"event": {"name": [name]}}, "limit": 50}

        async def seen() -> bool:
            answer = await read(body)
            answer.raise_for_status()
            for event in answer.json()["events"]:
                first.setdefault(event["id"], time.monotonic())
            self._progress["background lag"] = f"{len(first)} of {emitted} events visible"
            return len(first) >= emitted

        await until(seen, interval=0.15)
        return first
