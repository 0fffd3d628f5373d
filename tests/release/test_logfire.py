"""A server from the lock file with Logfire sends its spans, with the settings that the role makes of its variables."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tools.ports import free_port

# Never through a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

if TYPE_CHECKING:
    from tests.conftest import Commands

pytestmark = pytest.mark.slow

TOKEN = "pylf_v1_local_not-a-real-one @:/%#?$'\"\\`"
AUTH = "admin:pa ss@word"
START_SECONDS = 90
SPAN_SECONDS = 45


@dataclass
class Receiver:
    """An OTLP receiver on the loopback that keeps what it is sent, by path."""

    port: int = 0
    bodies: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, token: str, body: bytes) -> None:
        with self.news:
            self.tokens.add(token)
            self.bodies[path] = self.bodies.get(path, b"") + body
            self.news.notify_all()

    def wait_for(self, *words: bytes) -> None:
        """Until traces hold all words; protobuf has names as they are."""
        with self.news:
            there = self.news.wait_for(lambda: all(word in self.bodies.get("/v1/traces", b"") for word in words), SPAN_SECONDS)
        sizes = {path: len(body) for path, body in self.bodies.items()}
        assert there, f"no span with {words} within {SPAN_SECONDS} s, only {sizes}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            found.take(self.path, self.headers.get("Authorization", ""), body)
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(json.dumps({"project_name": "local", "project_url": "http://127.0.0.1/local"}).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def release(commands: Commands, root: Path) -> Path:
    """The interpreter of an environment that holds exactly what the lock file says."""
    version = yaml.safe_load((root / "roles/common/defaults/main.yml").read_text())["prefect_version"]
    lock = root / "roles/prefect/files/locks" / f"{version}-logfire.txt"
    return Path(commands.run(["tools/client-venv", version], env={"PROOF_LOCK_FILE": str(lock)}, timeout=600).strip().splitlines()[-1])


def settings(commands: Commands, folder: Path, variables: dict[str, Any]) -> dict[str, str]:
    """What the role makes of its variables."""
    target = folder / "logfire.env"
    given = {
        "logfire_settings": str(target),
        "prefect_logfire_enabled": True,
        "prefect_logfire_token": TOKEN,
        "prefect_logfire_sampling_rate": 1,
        "prefect_logfire_sampling_background_rate": 1,
        "prefect_database_password": "x",
        "prefect_database_host": "x",
        "prefect_redis_password": "x",
        "prefect_redis_host": "x",
        "prefect_auth_string": AUTH,
        **variables,
    }
    commands.run(
        ["ansible-playbook", "-i", "localhost,", "tests/release/logfire.yml", "-e", json.dumps(given)],
        env={"ANSIBLE_CONFIG": str(commands.root / "ansible.cfg")},
    )
    lines = re.findall(r'^(\w+)="(.*)"$', target.read_text(), re.MULTILINE)
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in lines}


@contextlib.contextmanager
def server(python: Path, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """An API server of its own, with SQLite, and its address. Its output is in server.log."""
    port = free_port()
    log = folder / "server.log"
    # Not this process's environment: with pytest's in it Logfire's client sends nothing.
    own = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db",
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **environment,
    }
    command = [str(python), "-m", "prefect", "server", "start", "--no-services", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=own, cwd=folder, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}/api"
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                ask(f"{url}/health")
                break
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(url: str, body: Any = None) -> bytes:
    headers = {"Authorization": f"Basic {base64.b64encode(AUTH.encode()).decode()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with DIRECT.open(urllib.request.Request(url, data=data, headers=headers), timeout=10) as answer:  # noqa: S310  this test's own server
        return bytes(answer.read())


def test_spans_reach_logfire(commands: Commands, release: Path, receiver: Receiver, tmp_path: Path) -> None:
    environment = settings(commands, tmp_path, {"prefect_logfire_url": receiver.url})
    with server(release, tmp_path, environment) as url:
        ask(f"{url}/flows/filter", {"limit": 3})
        receiver.wait_for(b"POST /flows/filter", b"prefect-server", b"SELECT")
    assert receiver.tokens == {TOKEN}
    log = (tmp_path / "server.log").read_text()
    assert TOKEN not in log
    assert "flows/filter" not in log, "every span is a line in the journal, too"


def test_spans_reach_a_collector_alone(commands: Commands, release: Path, receiver: Receiver, tmp_path: Path) -> None:
    """As docs/logfire.md tells those who have no Logfire."""
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "LOGFIRE_SEND_TO_LOGFIRE": False}
    environment = settings(commands, tmp_path, {"prefect_settings": own, "prefect_logfire_token": "unused"})
    with server(release, tmp_path, environment) as url:
        ask(f"{url}/flows/filter", {"limit": 3})
        receiver.wait_for(b"POST /flows/filter", b"prefect-server")
    assert receiver.tokens == {""}


def test_nothing_is_sent_by_default(commands: Commands, release: Path, receiver: Receiver, tmp_path: Path) -> None:
    environment = settings(commands, tmp_path, {"prefect_logfire_enabled": False, "prefect_logfire_url": receiver.url})
    assert environment == {}
    with server(release, tmp_path, {"LOGFIRE_BASE_URL": receiver.url, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as url:
        ask(f"{url}/flows/filter", {"limit": 3})
        time.sleep(8)  # batches leave every five seconds at the latest
    assert receiver.bodies == {}


@pytest.mark.parametrize(
    ("variables", "extra", "says"),
    [
        pytest.param({}, True, "", id="fit"),
        pytest.param({"PREFECT_LOGFIRE_SAMPLING_HEAD_RATE": "2"}, True, "PREFECT_LOGFIRE_SAMPLING_HEAD_RATE", id="a rate beyond 1"),
        pytest.param({}, False, "PREFECT_LOGFIRE_ENABLED: This release was built without the package logfire", id="another release"),
    ],
)
def test_settings_are_checked_before_a_server_gets_them(
    commands: Commands, release: Path, variables: dict[str, str], extra: bool, says: str
) -> None:
    """A rollback to a release without the package, for one, is refused before anything is drained."""
    version = release.parents[1].name.split("-")[1]
    python = release if extra else Path(commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1])
    environment = {"PREFECT_LOGFIRE_ENABLED": "true", "PREFECT_LOGFIRE_WRITE_TOKEN": TOKEN, **variables}
    told = commands.run(
        [
            *("ansible", "localhost", "-m", "selfhosted.prefect.prefect_settings_check"),
            *("-e", "ansible_python_interpreter={{ansible_playbook_python}}"),
            *("-a", json.dumps({"release": str(python.parents[1]), "environment": environment})),
        ],
        env={"ANSIBLE_CONFIG": str(commands.root / "ansible.cfg")},
        expect=2 if says else 0,
    )
    assert says in " ".join(told.split())
    assert TOKEN not in told
