"""A server of each locked release deletes what the role's retention says, and keeps what is not finished."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from selfhosted_prefect import __main__ as program
from selfhosted_prefect import retention as deletion

from tools.ports import free_port

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = sorted(path.stem for path in (ROOT / "roles/prefect/files/locks").glob("*.txt") if "-" not in path.stem)
DAYS = 86400
OLD = datetime.now(UTC) - timedelta(days=11)
YOUNG = datetime.now(UTC) - timedelta(days=9)


# --- Prefect's own vacuum, with the role's settings ---


def settings(commands: Commands, folder: Path, version: str, retention: dict[str, Any]) -> dict[str, str]:
    """What the role makes of a retention, as a unit gets it."""
    target = folder / "settings.json"
    given = {"settings_file": str(target), "prefect_version": version, "prefect_retention": retention, "prefect_settings": {}}
    others = dict.fromkeys(("database_host", "database_password", "redis_host", "redis_password"), "x")
    given |= {f"prefect_{name}": value for name, value in others.items()} | {"prefect_auth_string": "a:b"}
    commands.run(
        ["ansible-playbook", "tests/release/settings.yml", "-e", json.dumps(given)], env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    )
    found = json.loads(target.read_text())
    return {name: str(value) for name, value in found.items() if "VACUUM" in name or "RETENTION" in name}


class Server:
    """A server of one process on 127.0.0.1, with a database of its own."""

    def __init__(self, port: int, database: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/api"
        self.database = database

    def ask(self, path: str, data: Any = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})  # noqa: S310  127.0.0.1
        for tries_left in range(20, -1, -1):
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                # SQLite lets one write at a time; the server then says "try again".
                if error.code != 503 or not tries_left:
                    raise
                time.sleep(0.5)
        return None

    def sql(self, statement: str, *values: Any) -> list[Any]:
        connection = sqlite3.connect(self.database, timeout=30)
        with contextlib.closing(connection), connection:
            return connection.execute(statement, values).fetchall()

    def run(self, flow: str, state: str, at: datetime) -> str:
        """A flow run in a state since that moment."""
        found = self.ask("/flow_runs/", {"flow_id": flow, "state": {"type": state, "name": state.title()}})["id"]
        end = at.strftime("%Y-%m-%d %H:%M:%S.%f")
        final = state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        moments = "created = ?, start_time = ?, expected_start_time = ?" + (", end_time = ?" if final else "")
        line = {"name": "x", "level": 20, "message": "x", "timestamp": at.isoformat(), "flow_run_id": found}
        # First, since the vacuum may delete the run as soon as it is old, and a line that comes later would stay.
        self.ask("/logs/", [line])
        self.sql(f"UPDATE flow_run SET {moments} WHERE id = ?", *[end] * (3 + final), found)  # noqa: S608  our own words
        return str(found)

    def event(self, at: datetime) -> str:
        found = str(uuid4())
        resource = {"prefect.resource.id": f"test.{found}"}
        self.ask(
            "/events", [{"id": found, "occurred": at.isoformat(), "event": "test", "resource": resource, "payload": {}, "related": []}]
        )
        return found

    def ids(self, table: str) -> set[str]:
        return {str(row[0]) for row in self.sql(f"SELECT id FROM {table}")}  # noqa: S608  our own words


@contextlib.contextmanager
def server(python: str, folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    port = free_port()
    home = {"PREFECT_HOME": str(folder), "HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "NO_PROXY": "127.0.0.1"}
    quick = {"PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1", "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2"}
    command = [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(command, env={**home, **environment, **quick}, cwd=folder, stdout=log, stderr=log) as process,
    ):
        found = Server(port, folder / "prefect.db")
        try:
            until(lambda: answers(found, process), 180)
            yield found
        finally:
            process.terminate()
            process.wait(60)


def answers(found: Server, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, (found.database.parent / "server.log").read_text()[-2000:]
    try:
        return bool(found.ask("/health"))
    except OSError:
        return False


def until(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.3)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_deletes_exactly_what_is_older(commands: Commands, tmp_path: Path, version: str) -> None:
    python = commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]
    made = settings(commands, tmp_path, version, {"events": "10d", "flow_runs": 10})
    with server(python, tmp_path, made) as prefect:
        flow = prefect.ask("/flows/", {"name": "x"})["id"]
        # The young one comes first: the vacuum may delete the others at once.
        kept = {prefect.run(flow, "COMPLETED", YOUNG)}
        kept |= {prefect.run(flow, state, OLD) for state in ("RUNNING", "PENDING", "SCHEDULED", "PAUSED", "CANCELLING")}
        gone = {prefect.run(flow, state, OLD) for state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")}
        young = prefect.event(YOUNG)
        until(lambda: young in prefect.ids("events"), 60)
        prefect.event(OLD)
        until(lambda: not gone & prefect.ids("flow_run"), 60)
        until(lambda: not prefect.sql("SELECT 1 FROM log WHERE flow_run_id NOT IN (SELECT id FROM flow_run)"), 60)
        time.sleep(3)  # two more passes
        assert {row.replace("-", "") for row in prefect.ids("flow_run")} == {row.replace("-", "") for row in kept}
        assert len(prefect.ids("log")) == len(kept)
        assert young in prefect.ids("events")
        limit = (datetime.now(UTC) - timedelta(days=10)).strftime("%Y-%m-%d")
        until(lambda: prefect.sql("SELECT count(*) FROM events WHERE occurred < ?", limit) == [(0,)], 60)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("retention", "kinds"),
    [
        ({}, {"events", "flow_runs"}),
        ({"events": "forever", "flow_runs": "36h"}, {"flow_runs"}),
        ({"events": "36h", "flow_runs": "forever"}, {"events"}),
        ({"events": "forever", "flow_runs": "forever"}, set()),
    ],
)
def test_the_release_reads_it_so(commands: Commands, tmp_path: Path, version: str, retention: dict[str, Any], kinds: set[str]) -> None:
    python = commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]
    made = settings(commands, tmp_path, version, retention)
    show = (
        "from prefect.settings import Settings; s = Settings().server; v = s.services.db_vacuum\n"
        "import json; print(json.dumps([sorted(v.enabled_vacuum_types), s.events.retention_period.total_seconds(),"
        " v.retention_period.total_seconds()]))"
    )
    shown = subprocess.run(
        [python, "-c", show],
        env={**made, "PREFECT_HOME": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    enabled, events, flow_runs = json.loads(shown.stdout.splitlines()[-1])
    assert set(enabled) - {"orphans"} == kinds
    if "events" in kinds:
        assert events == (36 * 3600 if retention.get("events") == "36h" else 7 * DAYS)
    if "flow_runs" in kinds:
        assert flow_runs == (36 * 3600 if retention.get("flow_runs") == "36h" else 90 * DAYS)


# --- our own command for logs ---


class Clock:
    """Time that passes only while something is deleted or waited for."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Connection:
    """As much of asyncpg's connection as the program uses."""

    def __init__(self, rows: int, lock: bool = True) -> None:
        self.rows = rows
        self.lock = lock
        self.statements: list[str] = []

    async def fetchval(self, _statement: str, *_values: Any) -> bool:
        return self.lock

    async def execute(self, statement: str, _until: datetime, batch: int) -> str:
        self.statements.append(" ".join(statement.split()))
        deleted = min(self.rows, batch)
        self.rows -= deleted
        return f"DELETE {deleted}"


@pytest.mark.parametrize(
    ("rows", "limit", "deleted", "done"), [(0, 60, 0, True), (2500, 60, 2500, True), (3000, 60, 3000, True), (9000, 5, 3000, False)]
)
def test_deletes_in_batches_with_pauses(rows: int, limit: float, deleted: int, done: bool) -> None:
    clock, left = Clock(), [rows]

    async def delete(_statement: str, _until: datetime, batch: int) -> int:
        clock.now += 1
        gone = min(left[0], batch)
        left[0] -= gone
        return gone

    found = asyncio.run(deletion.delete_older(deletion.LOGS, OLD, 1000, clock.now + limit, delete, clock=clock, pause=clock.pause))
    assert found == (deleted, done)
    assert set(clock.pauses) <= {1.0}


def test_another_host_is_at_it(capsys: pytest.CaptureFixture[str]) -> None:
    connection = Connection(5, lock=False)
    asyncio.run(deletion.run({deletion.LOGS: 60}, 1000, 60, connection))
    assert (connection.rows, connection.statements) == (5, [])
    assert "another host" in capsys.readouterr().out


def test_every_kind_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    connection = Connection(1)
    asyncio.run(deletion.run({deletion.LOGS: 60, deletion.TASK_RUNS: 60}, 1000, 60, connection))
    logs, task_runs = connection.statements
    assert "FROM log WHERE timestamp < $1 AND true ORDER BY timestamp LIMIT $2" in logs
    assert "FROM task_run WHERE end_time < $1 AND flow_run_id IS NULL AND state_type IN ('COMPLETED'" in task_runs
    assert capsys.readouterr().out.startswith("deleted 1 log lines from before 20")


def test_says_on_one_line_without_the_password_why_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_arguments: Any) -> None:
        raise OSError("refused\nsecret")

    monkeypatch.setattr(deletion, "work", fails)
    named = {f"PREFECT_SERVER_DATABASE_{name}": "x" for name in ("HOST", "USER", "NAME")}
    assert program.main(["retention", "--logs=60"], {**named, "PREFECT_SERVER_DATABASE_PASSWORD": "secret"}) == 1
    assert capsys.readouterr().err == "the database fails: refused ********\n"
    monkeypatch.undo()
    assert program.main(["retention", "--logs=60"], {}) == 1
    assert "has no" in capsys.readouterr().err
