"""What each locked release answers, and its own client does, while PostgreSQL or Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selfhosted_prefect.patches import outages, recorder, waiting

from tools.ports import free_port

# Never through a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "prefect" / "files"
VERSIONS = sorted(path.stem for path in (FILES / "locks").glob("*.txt") if "-" not in path.stem)
START_SECONDS = 90
EVENT = {
    "id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "occurred": "2026-11-28T00:00:00Z",
    "event": "x",
    "resource": {"prefect.resource.id": "a"},
}
GONE, BUSY, ERROR = (503, "2", "true"), (503, "2", None), (500, None, None)
# Prefect's own answer to what SQLAlchemy wraps, which 2.1 does with the errors of a login, too.
AS_PREFECT = (503, None, None)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pythons(commands: Commands) -> dict[str, Path]:
    """The interpreter of an environment of each locked release."""
    return {version: Path(commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]) for version in VERSIONS}


def printed(python: Path, script: str, folder: Path, *arguments: str) -> Any:
    """The JSON that a script beside this one prints, run by a release's Python."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PREFECT_HOME": str(folder), "PYTHONPATH": str(FILES)}
    command = [str(python), str(Path(__file__).with_name(script)), *arguments]
    ended = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def each(pythons: dict[str, Path], script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """The same of all releases, at the same time."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(pythons, pool.map(lambda python: printed(python, script, folder, *arguments), pythons.values()), strict=True))


def test_every_kind_of_error(pythons: dict[str, Path], tmp_path: Path) -> None:
    wanted = {"gone": GONE, "busy": BUSY, "error": ERROR}
    for version, answers in each(pythons, "outage_errors.py", tmp_path).items():
        found = {
            name: (one["status"], *(one.get("headers", {}).get(header) for header in ("retry-after", "prefect-maintenance")))
            for name, one in answers.items()
        }
        assert found == {name: wanted[name.partition(":")[0]] for name in found}, version
        assert "s3cret" not in json.dumps(answers), "a statement's values are in the journal"
        assert answers["gone: wrapped 57P01"]["said"] == [
            "PostgreSQL cannot be used: AdminShutdownError: as PostgreSQL says. 1 request was answered with 503, to be sent again."
        ]


def test_a_commit_is_seen_to_begin(pythons: dict[str, Path], tmp_path: Path) -> None:
    """So that a request of which something may be committed is not tried again."""
    wanted = {"read": 0, "failed before": 0, "committed": 1}
    assert each(pythons, "commits.py", tmp_path) == dict.fromkeys(pythons, wanted)


@pytest.mark.parametrize(
    ("arguments", "status", "seconds"),
    [
        pytest.param(["12"], 200, (12, 30), id="an outage of more than ten seconds"),
        pytest.param(["12", "plain"], 500, (0, 8), id="what Prefect answers by itself"),
        # One second in place of the fifteen: five more attempts, and then it gives up.
        pytest.param(["60", "late"], 503, (5, 20), id="an outage without an end"),
    ],
)
def test_prefects_client_waits(
    pythons: dict[str, Path], tmp_path: Path, arguments: list[str], status: int, seconds: tuple[float, float]
) -> None:
    for version, found in each(pythons, "outage_client.py", tmp_path, *arguments).items():
        assert found["status"] == status, (version, found)
        assert seconds[0] <= found["took"] <= seconds[1], (version, found)


class Stub:
    """A backend that fails in one way after the other, on a port that stays the same."""

    def __init__(self) -> None:
        self.port = free_port()
        self._mode = "refuse"
        self._listening: socket.socket | None = None
        self._open: list[socket.socket] = []

    def _bind(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self.port))

    def fail(self, mode: str) -> None:
        """From now on; what is open is ended."""
        self.close()
        self._mode = mode
        if mode != "refuse":
            self._listening = self._bind()
            threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Refuses, and ends what is open."""
        if self._listening:
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
        self._listening = None
        while self._open:
            self._open.pop().close()

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _address = listening.accept()
                self._open.append(one)
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._mode == "reset":
                one.recv(1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif self._mode == "freeze":
                return
            else:
                self.talk(one, self._mode)
            one.close()

    def talk(self, one: socket.socket, mode: str) -> None:
        """Says what the backend says in that mode."""
        raise NotImplementedError


class PostgreSQL(Stub):
    """`57P03`: refuses every login with that code. `query 25006`: accepts every login, and answers every statement with that code."""

    def talk(self, one: socket.socket, mode: str) -> None:
        (length,) = struct.unpack("!I", one.recv(4))
        if struct.unpack("!I", one.recv(length - 4)[:4]) == (80877103,):
            one.sendall(b"N")
            (length,) = struct.unpack("!I", one.recv(4))
            one.recv(length - 4)
        code = mode.rpartition(" ")[2]
        failed = self._message(b"E", b"SFATAL\0" + f"C{code}\0".encode() + b"Mas the stub says\0\0")
        if not mode.startswith("query"):
            one.sendall(failed)
            return
        ready = self._message(b"Z", b"I")
        one.sendall(self._message(b"R", struct.pack("!I", 0)) + self._message(b"S", b"server_version\x0015.0\0") + ready)
        while one.recv(65536):
            one.sendall(failed.replace(b"SFATAL", b"SERROR") + ready)

    def _message(self, kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body


class Redis(Stub):
    """Answers every command with the mode, as an error."""

    def talk(self, one: socket.socket, mode: str) -> None:
        while received := one.recv(65536):
            # A pipeline is answered once for each of its commands.
            one.sendall(b"".join(b"-" + mode.encode() + b"\r\n" for line in received.split(b"\r\n") if line.startswith(b"*")))


def asked(url: str, body: Any) -> tuple[int, str | None, str | None]:
    """The status of the answer, and when and how it wants the request to be sent again."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310  this test's own server
    try:
        with DIRECT.open(request, timeout=60) as answer:
            return (answer.status, None, None)
    except urllib.error.HTTPError as error:
        return (error.code, error.headers["Retry-After"], error.headers["Prefect-Maintenance"])


@pytest.fixture(scope="module")
def backends() -> Iterator[tuple[PostgreSQL, Redis]]:
    found = PostgreSQL(), Redis()
    yield found
    for one in found:
        one.close()


@pytest.fixture(scope="module")
def servers(
    pythons: dict[str, Path], backends: tuple[PostgreSQL, Redis], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[str, Path]]]:
    """An API server of each locked release, all with the same backends: its address and its log."""
    with contextlib.ExitStack() as stack:
        yield {
            version: stack.enter_context(served(python, backends, tmp_path_factory.mktemp(version))) for version, python in pythons.items()
        }


@contextlib.contextmanager
def served(python: Path, backends: tuple[PostgreSQL, Redis], folder: Path) -> Iterator[tuple[str, Path]]:
    port = free_port()
    database, redis = backends
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(FILES),
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
        "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
        "PREFECT_SERVER_DATABASE_PORT": str(database.port),
        "PREFECT_SERVER_DATABASE_NAME": "prefect",
        "PREFECT_SERVER_DATABASE_USER": "prefect",
        "PREFECT_SERVER_DATABASE_PASSWORD": "s3cret",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "1",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
        "PREFECT_REDIS_MESSAGING_PORT": str(redis.port),
        "PREFECT_REDIS_MESSAGING_SOCKET_TIMEOUT": "0.2",
        "PREFECT_REDIS_MESSAGING_SOCKET_CONNECT_TIMEOUT": "0.2",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    log = folder / "server.log"
    command = [str(python), "-m", "prefect", "server", "start", "--no-services", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), DIRECT.open(f"http://127.0.0.1:{port}/api/health", timeout=5):
                break
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/api", log
    finally:
        process.kill()
        process.wait()


POSTGRESQL = {
    "refuse": GONE,
    "reset": GONE,
    "freeze": GONE,
    **{f"{code}": GONE for code in ("57P03", "57P01")},
    "53300": BUSY,
    "query 25006": GONE,
    "query 57P01": GONE,
    # A wrong password and a missing database are the operator's to see.
    "28P01": ERROR,
    "3D000": ERROR,
}
REDIS = {
    "refuse": GONE,
    "freeze": GONE,
    "LOADING Redis is loading the dataset in memory": GONE,
    "READONLY You can't write against a read only replica.": GONE,
    "NOREPLICAS Not enough good replicas to write.": GONE,
    "NOPERM this user has no permissions to run the 'xadd' command": ERROR,
}


@pytest.mark.parametrize(("mode", "wanted"), POSTGRESQL.items())
def test_postgresql(
    servers: dict[str, tuple[str, Path]], backends: tuple[PostgreSQL, Redis], mode: str, wanted: tuple[int, str | None, str | None]
) -> None:
    backends[0].fail(mode)
    found = answers(servers, "flows/filter", {})
    if wanted == ERROR:
        found = {version: ERROR if one == AS_PREFECT else one for version, one in found.items()}
    assert found == dict.fromkeys(servers, wanted)


@pytest.mark.parametrize(("mode", "wanted"), REDIS.items())
def test_redis(
    servers: dict[str, tuple[str, Path]], backends: tuple[PostgreSQL, Redis], mode: str, wanted: tuple[int, str | None, str | None]
) -> None:
    backends[1].fail(mode)
    assert answers(servers, "events", [EVENT]) == dict.fromkeys(servers, wanted)


def answers(servers: dict[str, tuple[str, Path]], path: str, body: Any) -> dict[str, tuple[int, str | None, str | None]]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(servers, pool.map(lambda server: asked(f"{server[0]}/{path}", body), servers.values()), strict=True))


def test_the_journal(servers: dict[str, tuple[str, Path]], backends: tuple[PostgreSQL, Redis]) -> None:
    """One line for many requests, with the cause, and no traceback for each."""
    backends[0].fail("refuse")
    time.sleep(1)  # the traceback of an error before may still be on its way
    before = {version: len(log.read_text()) for version, (_url, log) in servers.items()}
    for _count in range(5):
        answers(servers, "flows/filter", {})
    for version, (_url, log) in servers.items():
        told = log.read_text()
        assert "PostgreSQL cannot be used: ConnectionRefusedError: [Errno 111]" in told, version
        assert told.count("\n", before[version]) <= 7, told[before[version] :]
        assert "s3cret" not in told


def start(server: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a process says that imports a `prefect.server.api.server` of that text."""
    package = folder / "prefect" / "server" / "api"
    package.mkdir(parents=True)
    (package / "server.py").write_text(server)
    env = {**os.environ, "PYTHONPATH": f"{FILES}:{folder}"}
    command = [sys.executable, "-c", "import prefect.server.api.server as s, prefect.server.api.server; print(s.create_app)"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)


@pytest.mark.parametrize(
    "server", ["create_app = 'as it was'\n", "create_app = 'as it was'\ncreate_api_app = is_client_retryable_exception = None\n"]
)
def test_another_prefect_starts_as_it_is(server: str, tmp_path: Path) -> None:
    """Its names have changed, or its libraries are not there."""
    ended = start(server, tmp_path)
    assert ended.stdout == "as it was\n"
    said = [line.split(": ")[0] for line in ended.stderr.splitlines() if ": not in force" in line]
    assert said == ["selfhosted_prefect.patches.outages", "selfhosted_prefect.patches.auth"]
    assert ended.stderr.count("\n") == 2


def test_an_import_that_fails_does(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        start("raise ImportError('of its own')\n", tmp_path)
    assert "ImportError: of its own" in raised.value.stderr
    assert "patches.outages" not in raised.value.stderr


IN_FORCE = """
import prefect.server.api.server as server, prefect.server.services.task_run_recorder as recorder, prefect_redis.messaging as messaging
print(*[one.__module__ for one in (server.create_app, server.create_api_app, server.is_client_retryable_exception)],
      recorder.record_bulk_task_run_events.__module__, messaging.Publisher._publish_current_batch.__module__)
"""


def test_it_is_in_force(pythons: dict[str, Path], tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(FILES)}
    for version, python in pythons.items():
        ended = subprocess.run([python, "-c", IN_FORCE], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert [name.rpartition(".")[2] for name in ended.stdout.split()] == [*["outages"] * 3, "waiting", "publisher"], (
            version,
            ended.stderr,
        )
        assert "not in force" not in ended.stderr


@pytest.mark.parametrize(
    ("errors", "seconds", "outcome"),
    [
        pytest.param([], 0, "recorded", id="no error"),
        pytest.param(["outage"] * 30, 30, "recorded", id="an outage"),
        pytest.param(["outage", "error"], 1, "error", id="another error"),
        pytest.param(["outage"] * 9999, 600, "outage", id="an outage without an end"),
    ],
)
def test_task_runs_wait_for_the_end_of_an_outage(caplog: pytest.LogCaptureFixture, errors: list[str], seconds: float, outcome: str) -> None:
    now, left = [0.0], iter(errors)

    class Kinds:
        def outage(self, error: BaseException) -> Any:
            return outages.Outage("PostgreSQL", "refused") if str(error) == "outage" else None

    async def record(_events: list[str]) -> str:
        for error in left:
            raise ValueError(error)
        return "recorded"

    async def sleep(passed: float) -> None:
        now[0] += passed

    kinds: Any = Kinds()
    logger = logging.getLogger("recorder")
    recorded = waiting.waiting(record, kinds, logger, recorder.THEN, lambda: recorder.RETRY_SECONDS, clock=lambda: now[0], sleep=sleep)
    try:
        found: str = asyncio.run(recorded(["an event"]))
    except ValueError as error:
        found = str(error)
    assert found == outcome
    assert seconds <= now[0] <= seconds + 2
    assert len(caplog.records) <= seconds / 10 + 1
