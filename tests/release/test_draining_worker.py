"""A worker that is stopped: its flow runs end by themselves, or are reported as crashed, with each locked release."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from selfhosted_prefect import draining_worker as program

from tools.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(program.__file__)
VERSIONS = sorted(path.stem for path in (ROOT / "roles/prefect/files/locks").glob("*.txt") if "-" not in path.stem)
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SECONDS = 90
FLOWS = """
import pathlib, time
from prefect import flow
@flow
def ends(folder: str):
    pathlib.Path(folder, "ends").touch()
    while not pathlib.Path(folder, "end").exists():
        time.sleep(0.1)
@flow
def goes_on(folder: str):
    pathlib.Path(folder, "goes_on").touch()
    time.sleep(600)
"""


# --- the program alone ---


class Worker:
    """Has what the program takes of Prefect's; a run lasts until it is told to end."""

    def __init__(self) -> None:
        self._work_pool: Any = None
        self._submitting_flow_run_ids: set[str] = set()
        self.polls = 0
        self.end = asyncio.Event()

    async def get_and_submit_flow_runs(self) -> list[str]:
        self.polls += 1
        return ["run"]

    async def run(self, flow_run: str, *, configuration: str) -> str:
        await self.end.wait()
        return flow_run + configuration


@dataclass
class Stopped:
    """What a drain did: the signals that it sent, the last one to itself, and what else came in."""

    sent: list[tuple[int, list[int]]]
    polls: int
    result: list[str]


def drained(monkeypatch: pytest.MonkeyPatch, timeout: float, meanwhile: Callable[[Worker, list[Any]], None]) -> Stopped:
    """A worker with one run that is told to stop. ``meanwhile`` is called every 10 ms."""
    for name, value in {"SETTLED": 5, "POLL": 0.01, "REPORT": 0.2, "KILLED": 0.2}.items():
        monkeypatch.setattr(program, name, value)
    sent: list[Any] = []
    monkeypatch.setattr(program, "children", lambda _pid: [7])
    monkeypatch.setattr(program, "descendants", lambda _pid: [7, 8])
    left = threading.Event()
    monkeypatch.setattr(program, "LEAVE", 0.01)
    monkeypatch.setattr(program, "leave", left.set)
    monkeypatch.setattr(program, "send", lambda number, pids: sent.append((number, pids)))

    async def scene() -> Stopped:
        class Mine(Worker):
            pass

        ended = asyncio.Event()

        def raised(number: int) -> None:
            sent.append((number, []))
            ended.set()

        monkeypatch.setattr(signal, "raise_signal", raised)
        told: list[str] = []
        prefect = SimpleNamespace(setup_signal_handlers_worker=lambda _pid, name, _print: told.append(name))
        program.Drain(timeout).install(prefect, Mine)
        worker = Mine()
        prefect.setup_signal_handlers_worker(0, "the worker", print)
        assert told == ["the worker"]
        assert await worker.get_and_submit_flow_runs() == ["run"]
        running = asyncio.create_task(worker.run("run", configuration="!"))
        await asyncio.sleep(0)
        for _twice in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        while not ended.is_set():
            await asyncio.sleep(0.01)
            assert await worker.get_and_submit_flow_runs() in ([], ["run"])
            meanwhile(worker, sent)
        result = [running.result()] if running.done() else []
        running.cancel()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        assert await asyncio.to_thread(left.wait, 5), "a worker that misses the signal would stay"
        return Stopped(sent, worker.polls, result)

    return asyncio.run(asyncio.wait_for(scene(), 10))


def test_a_run_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def end(worker: Worker, _sent: list[Any]) -> None:
        nonlocal seen
        seen += 1
        if seen == 30:
            worker.end.set()

    stopped = drained(monkeypatch, 5, end)
    assert seen > 30, "it did not wait"
    assert stopped.sent == [(signal.SIGINT, [])]
    assert stopped.result == ["run!"]
    assert stopped.polls < 4, "it went on taking runs"


@pytest.mark.parametrize("on", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch, on: signal.Signals) -> None:
    def end(worker: Worker, sent: list[Any]) -> None:
        if on in [number for number, _pids in sent]:
            worker.end.set()

    wanted = [(signal.SIGTERM, [7]), (signal.SIGKILL, [7, 8])]
    stopped = drained(monkeypatch, 0.2, end)
    assert stopped.sent == [*wanted[: 1 if on == signal.SIGTERM else 2], (signal.SIGINT, [])]
    assert stopped.result == ["run!"]


def test_a_run_that_nothing_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [number for number, _pids in drained(monkeypatch, 0.2, lambda _worker, _sent: None).sent] == [15, 9, 2]


def test_a_run_that_was_taken_and_does_not_run_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()

    def end(worker: Worker, _sent: list[Any]) -> None:
        worker.end.set()
        worker._submitting_flow_run_ids = {"run"} if time.monotonic() < began + 0.5 else set()

    assert drained(monkeypatch, 5, end).sent == [(signal.SIGINT, [])]
    assert time.monotonic() > began + 0.5


def test_a_worker_is_ready_when_it_has_its_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Worker):
        pass

    told: list[str] = []
    monkeypatch.setattr(program, "notify", told.append)
    program.Drain(1).install(SimpleNamespace(setup_signal_handlers_worker=None), Mine)

    async def scene() -> None:
        worker = Mine()
        await worker.get_and_submit_flow_runs()
        assert told == []
        worker._work_pool = "a pool"
        await worker.get_and_submit_flow_runs()

    asyncio.run(scene())
    assert told == ["READY=1"]


def test_a_worker_that_does_not_stop_is_ended() -> None:
    script = (
        "import sys, threading, time; sys.path.insert(0, sys.argv[1]); import draining_worker\n"
        "threading.Timer(0.1, draining_worker.leave).start(); time.sleep(60)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(PROGRAM.parent)], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "draining: the worker has not stopped by itself, and is ended\n")


def test_started_by_its_path_it_brings_no_other_module_of_the_package(tmp_path: Path) -> None:
    """With a Prefect that has just what it changes, and says what its command line can import."""
    asked = "print(sys.argv[1:], *map(importlib.util.find_spec, ('settings', 'selfhosted_prefect')))"
    for name, text in {
        "__init__": "",
        "utilities": "from types import SimpleNamespace; processutils = SimpleNamespace(setup_signal_handlers_worker=None)",
        "workers/__init__": "",
        "workers/process": "class ProcessWorker:\n    get_and_submit_flow_runs = run = None",
        "cli": f"import importlib.util, sys\ndef app(): {asked}",
    }.items():
        path = tmp_path / "prefect" / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    command = [sys.executable, str(PROGRAM), "--drain-timeout=1", "worker", "start"]
    variables = {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "['worker', 'start'] None None\n", "")


def test_processes(tmp_path: Path) -> None:
    for pid, started in {1: {1: "2 3", 4: "5"}, 2: {2: "6"}, 3: {}, 5: {5: ""}, 6: {6: ""}}.items():
        for thread, pids in started.items():
            (tmp_path / f"{pid}/task/{thread}").mkdir(parents=True)
            (tmp_path / f"{pid}/task/{thread}/children").write_text(f"{pids} ")
    assert sorted(program.children(1, tmp_path)) == [2, 3, 5]
    assert sorted(program.descendants(1, tmp_path)) == [2, 3, 5, 6]
    assert program.children(99, tmp_path) == []


def test_systemd_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        program.notify("READY=1")
        assert listener.recv(100) == b"READY=1"
        assert "NOTIFY_SOCKET" not in os.environ
        program.notify("READY=1")
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.recv(100)


def test_a_prefect_that_lacks_what_is_needed_is_refused() -> None:
    with pytest.raises(AttributeError):
        program.Drain(1).install(SimpleNamespace(), Worker)


# --- with a release ---


@dataclass(frozen=True)
class Server:
    """An API server of a release, with its scheduler's database in a file."""

    python: Path
    folder: Path
    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})  # noqa: S310  the test's own
        end = time.monotonic() + SECONDS
        while True:
            try:
                with DIRECT.open(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                # A database in a file is locked now and then; Prefect's own client comes again, too.
                if error.code != 503 or time.monotonic() > end:
                    raise
                time.sleep(1)

    @contextlib.contextmanager
    def process(self, name: str, *command: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(self.python), *command],
                env=self.environment | more,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def until(self, seen: Callable[[], bool], *names: str) -> None:
        end = time.monotonic() + SECONDS
        while not seen():
            assert time.monotonic() < end, "\n".join(map(self.said, names))
            time.sleep(0.2)

    def start(self, flow: str) -> str:
        """Begins a run of a flow in a pool of the flow's name; its id."""
        flow_id = self.ask("/flows/", {"name": flow})["id"]
        where = {"work_pool_name": flow, "path": str(self.folder / "code"), "entrypoint": f"flows.py:{flow}"}
        deployment = {"name": flow, "flow_id": flow_id, "parameters": {"folder": str(self.folder)}, **where}
        deployment_id = self.ask("/deployments/", deployment)["id"]
        return str(self.ask(f"/deployments/{deployment_id}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"])

    def state(self, run: str) -> str:
        return str(self.ask(f"/flow_runs/{run}")["state_type"])


@contextlib.contextmanager
def server(python: Path, folder: Path) -> Iterator[Server]:
    (folder / "code").mkdir()
    (folder / "code/flows.py").write_text(FLOWS)
    port = free_port()
    found = Server(python, folder, f"http://127.0.0.1:{port}/api")
    with found.process("server", "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)) as process:

        def healthy() -> bool:
            assert process.poll() is None, found.said("server")
            with contextlib.suppress(OSError):
                return bool(found.ask("/health"))
            return False

        found.until(healthy, "server")
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_no_flow_run_is_lost(commands: Commands, version: str, tmp_path: Path) -> None:
    python = Path(commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(SECONDS)
    with listener, server(python, tmp_path) as api, contextlib.ExitStack() as stack:
        workers = {}
        for flow, timeout in {"ends": 600, "goes_on": 1}.items():
            command = [str(PROGRAM), f"--drain-timeout={timeout}", "worker", "start", "--pool", flow, "--type", "process", "--name", flow]
            workers[flow] = stack.enter_context(api.process(flow, *command, NOTIFY_SOCKET=str(tmp_path / "notify")))
        assert [listener.recv(100) for _each in workers] == [b"READY=1"] * 2
        runs = {flow: api.start(flow) for flow in workers}
        api.until(lambda: all((tmp_path / flow).exists() for flow in workers), *workers)
        for worker in workers.values():
            worker.terminate()
        later = api.start("ends")
        # One is stopped when its time is over, and waits for its run to report that.
        api.until(lambda: workers["goes_on"].poll() is not None, "goes_on")
        assert api.state(runs["goes_on"]) == "CRASHED", api.said("goes_on")
        assert workers["goes_on"].returncode == 0, api.said("goes_on")
        # The other one waits for as long as its run goes on, and takes no other.
        assert workers["ends"].poll() is None
        assert api.state(runs["ends"]) == "RUNNING"
        (tmp_path / "end").touch()
        api.until(lambda: workers["ends"].poll() is not None, "ends")
        assert api.state(runs["ends"]) == "COMPLETED", api.said("ends")
        assert api.state(later) == "SCHEDULED"
        assert workers["ends"].returncode == 0, api.said("ends")
