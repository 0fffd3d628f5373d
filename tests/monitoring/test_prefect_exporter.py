"""The exporter of Prefect: what it makes of the answers of a database and a Redis, and of their silence."""

from __future__ import annotations

import asyncio
import math
import socket
import socketserver
import subprocess
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selfhosted_prefect.__main__ import main
from selfhosted_prefect.exporter import database as tables
from selfhosted_prefect.exporter import program
from selfhosted_prefect.exporter.metrics import METRICS, Refused, Sample, merged
from selfhosted_prefect.exporter.redis import RedisCollectors
from selfhosted_prefect.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import Commands

FILES = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files"
SCHEMA = tables.Schema("new", frozenset({"old", "new"}))
ENVIRONMENT = {
    "PREFECT_SERVER_DATABASE_HOST": "db",
    "PREFECT_SERVER_DATABASE_USER": "prefect",
    "PREFECT_SERVER_DATABASE_PASSWORD": "p@ss",
    "PREFECT_SERVER_DATABASE_NAME": "prefect",
    "PREFECT_SERVER_DOCKET_URL": "redis://prefect:r%40s@cache:6380/1",
    "PREFECT_REDIS_MESSAGING_DB": "3",
}
NOW = 1795521600.0


def answering(answers: Mapping[Any, Any]) -> Any:
    """A server that knows these answers; an exception is raised, and what is not known is refused."""

    async def ask(*words: Any) -> Any:
        for known in (words, words[0]):
            if known in answers:
                if isinstance(answers[known], Exception):
                    raise answers[known]
                return answers[known]
        raise Refused(f"unknown: {words}")

    return ask


def found(samples: list[Any]) -> dict[Any, float]:
    return {
        (sample.name.removeprefix("prefect_"), *sample.labels): sample.value for family in merged(samples).values() for sample in family
    }


DATABASE = {
    tables.CONNECTIONS: [("idle", 7), ("active", 2), ("none", 1)],
    tables.OFFERED: [(197, -1, -1)],
    tables.LATE: [(3,)],
    tables.NEWEST: [(1.25,)],
    tables.REVISION: [("old",)],
    tables.SIZE: [(5000,)],
    tables.TABLES: [("log", 300, 20, 4)],
    tables.RETENTION: [('{"events": 604800, "flow_runs": null, "logs": 2592000}',)],
    tables.OLDEST["events"]: [(604801.5,)],
    tables.OLDEST["logs"]: [(None,)],
    tables.WORKERS: [("etl", "a@w1"), ("etl", "mine"), ("idle", None)],
    tables.SLOTS: [("etl", 10, 3), ("idle", None, 0)],
}


def of_database(change: Mapping[str, Any], budget: int = 60) -> dict[Any, float]:
    return found(asyncio.run(tables.DatabaseCollectors(answering(DATABASE | dict(change)), SCHEMA, budget).samples()))


def test_database() -> None:
    assert of_database({}) == {
        ("background_lag_seconds",): 1.25,
        ("late_runs",): 3,
        ("database_connections", "active"): 2,
        ("database_connections", "idle"): 7,
        ("database_connections", "idle in transaction"): 0,
        ("database_connections", "none"): 1,
        ("database_connections_budget",): 60,
        ("schema_revision_info", "old", "new"): 1,
        ("schema_behind",): True,
        ("database_size_bytes",): 5000,
        ("table_size_bytes", "log"): 300,
        ("table_rows", "log", "live"): 20,
        ("table_rows", "log", "dead"): 4,
        ("retention_seconds", "events"): 604800,
        ("retention_seconds", "logs"): 2592000,
        ("retention_oldest_seconds", "events"): 604801.5,
        ("retention_oldest_seconds", "logs"): 0,
        ("workers_online", "etl"): 2,
        ("workers_online", "idle"): 0,
        ("work_pool_slots_used", "etl"): 3,
        ("work_pool_slots_used", "idle"): 0,
        ("work_pool_slots", "etl"): 10,
    }


def test_workers_that_have_to_be_online() -> None:
    wanted = ["etl/a@w1", "etl/b@w1", "idle/mine", "new pool/c@w1"]
    samples = found(asyncio.run(tables.DatabaseCollectors(answering(DATABASE), SCHEMA, 60, 0, wanted).samples()))
    assert {labels: value for (name, *labels_), value in samples.items() if name == "worker_online" for labels in [tuple(labels_)]} == {
        ("etl", "a@w1"): 1,
        ("etl", "b@w1"): 0,
        ("idle", "mine"): 0,
        ("new pool", "c@w1"): 0,
    }


@pytest.mark.parametrize(
    ("offered", "budget", "expected"),
    [((197, -1, -1), 60, 60), ((47, -1, -1), 60, 47), ((197, 20, -1), 60, 20), ((197, -1, 10), 60, 10), ((197, -1, -1), 0, 197)],
)
def test_the_budget_is_the_least_of_what_is_configured_and_what_is_offered(offered: Any, budget: int, expected: int) -> None:
    assert of_database({tables.OFFERED: [offered]}, budget)["database_connections_budget",] == expected


def test_a_limit_that_is_configured() -> None:
    samples = found(asyncio.run(tables.DatabaseCollectors(answering(DATABASE), SCHEMA, 60, 9000).samples()))
    assert samples["database_limit_bytes",] == 9000


def test_an_age_that_is_expensive_to_find_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def slow(sql: str) -> Any:
        await asyncio.sleep(60 if sql == tables.OLDEST["events"] else 0)
        return DATABASE[sql]

    monkeypatch.setattr(tables, "EXPENSIVE", 0.01)
    samples = found(asyncio.run(tables.DatabaseCollectors(slow, SCHEMA, 60).samples()))
    assert samples["database_size_bytes",] == 5000
    assert ("retention_oldest_seconds", "events") not in samples
    assert "the oldest of events is not found within" in capsys.readouterr().err


def test_without_a_record_no_retention() -> None:
    assert not [name for name, *_labels in of_database({tables.RETENTION: []}) if name.startswith("retention")]


@pytest.mark.parametrize(("rows", "current", "behind"), [([("new",)], "new", 0), ([("newer",)], "newer", 0), ([], "", 1)])
def test_schema(rows: Any, current: str, behind: int) -> None:
    samples = of_database({tables.REVISION: rows})
    assert samples["schema_behind",] == behind
    assert samples["schema_revision_info", current, "new"] == 1


def test_a_database_without_a_schema_still_tells_its_connections(capsys: pytest.CaptureFixture[str]) -> None:
    refused = Refused('relation "flow_run" does not exist')
    refusing_ones = (tables.LATE, tables.NEWEST, tables.REVISION, tables.RETENTION, tables.WORKERS, tables.SLOTS)
    samples = of_database({**dict.fromkeys(refusing_ones, refused), tables.TABLES: []})
    assert {name for name, *_labels in samples} == {"database_connections", "database_connections_budget", "database_size_bytes"}
    assert "flow_run" in capsys.readouterr().err


def test_clocks_that_differ_make_no_negative_lag() -> None:
    assert of_database({tables.NEWEST: [(-0.2,)]})["background_lag_seconds",] == 0
    assert of_database({tables.NEWEST: []})["background_lag_seconds",] == 0


GROUP: list[Any] = ["name", "event-persister", "consumers", 1, "pending", 0, "last-delivered-id", "5-0", "entries-read", 9, "lag", 0]
MESSAGING = {
    "SET": "OK",
    "XLEN": 0,
    ("XLEN", "events"): 9,
    ("XINFO", "GROUPS", "events"): [GROUP],
    ("XRANGE", "events", "(5-0", "+", "COUNT", 1): [],
    "SCARD": 2,
    "TIME": ["1795521600", "500000"],
}
DOCKET = {"HGET": str(NOW - 4), "XLEN": 0}


def of_redis(messaging: Mapping[Any, Any], docket: Mapping[Any, Any] | None = None) -> dict[Any, float]:
    asked = RedisCollectors(answering(MESSAGING | dict(messaging)), answering(DOCKET | dict(docket or {})), lambda: NOW).samples()
    return found(asyncio.run(asked))


def test_redis() -> None:
    assert of_redis({}) == {
        ("scheduler_heartbeat_age_seconds",): 4,
        ("stream_length", "events"): 9,
        ("stream_length", "actions"): 0,
        ("stream_length", "logs"): 0,
        ("stream_length", "prefect:stream"): 0,
        ("stream_length", "prefect-server:stream"): 0,
        ("stream_dead_letters", "dlq"): 2,
        ("consumer_lag", "events", "event-persister"): 0,
        ("consumer_pending", "events", "event-persister"): 0,
        ("redis_writable",): 1,
    }


@pytest.mark.parametrize(("when", "age"), [(str(NOW + 3), 0), (str(NOW - 90), 90), (None, math.inf)])
def test_heartbeat(when: str | None, age: float) -> None:
    assert of_redis({}, {"HGET": when})["scheduler_heartbeat_age_seconds",] == age


def group(**changes: Any) -> list[Any]:
    values: dict[str, Any] = dict(zip(map(str, GROUP[::2]), GROUP[1::2], strict=True))
    return [word for pair in {**values, **changes}.items() for word in pair]


@pytest.mark.parametrize(
    ("messaging", "lag"),
    [
        pytest.param({("XRANGE", "events", "(5-0", "+", "COUNT", 1): [["1795521590000-0", []]]}, 10.5, id="not delivered"),
        pytest.param(
            {("XINFO", "GROUPS", "events"): [group(pending=2)], "XPENDING": [2, "1795521560500-1", "9-9", []]}, 40, id="not acknowledged"
        ),
        pytest.param(
            {
                ("XINFO", "GROUPS", "events"): [group(pending=2)],
                "XPENDING": [2, "1795521560500-1", "9-9", []],
                ("XRANGE", "events", "(5-0", "+", "COUNT", 1): [["1795521590000-0", []]],
            },
            40,
            id="both",
        ),
    ],
)
def test_the_oldest_event_that_waits_is_the_lag(messaging: Mapping[Any, Any], lag: float) -> None:
    assert of_redis(messaging)["background_lag_seconds",] == lag


def test_a_lag_that_redis_does_not_know_is_left_out() -> None:
    samples = of_redis({("XINFO", "GROUPS", "events"): [group(lag=None)]})
    assert ("consumer_lag", "events", "event-persister") not in samples
    assert samples["consumer_pending", "events", "event-persister"] == 0


def test_a_redis_that_refuses_writes_still_tells_the_rest() -> None:
    samples = of_redis({"SET": Refused("OOM command not allowed")})
    assert samples["redis_writable",] == 0
    assert samples["stream_length", "events"] == 9


@asynccontextmanager
async def database(_environment: object) -> AsyncIterator[Any]:
    yield answering(DATABASE)


@asynccontextmanager
async def redis(_environment: object) -> AsyncIterator[Any]:
    yield answering(MESSAGING), answering(DOCKET)


@asynccontextmanager
async def refusing(_environment: object) -> AsyncIterator[Any]:
    if _environment is not None:
        raise ConnectionRefusedError("refused p@ss, r@s or\nr%40s")
    yield


@asynccontextmanager
async def hanging(_environment: object) -> AsyncIterator[Any]:
    await asyncio.sleep(60)
    yield


def gathered(**opened: Any) -> dict[Any, float]:
    return found(asyncio.run(program.gather(Settings(ENVIRONMENT), SCHEMA, 60, 9000, **{"database": database, "redis": redis, **opened})))


def test_both_answer() -> None:
    samples = gathered()
    assert (samples["exporter_target_up", "database"], samples["exporter_target_up", "redis"]) == (1, 1)
    # Of nothing that is switched off, of no worker that has to be there, and what neither of the two knows.
    absent = {"prefect_switched_off_info", "prefect_worker_online"}
    absent |= {"prefect_served_certificate_expiry_timestamp_seconds", "prefect_certificate_renew_before_seconds"}
    assert {f"prefect_{name}" for name, *_labels in samples} == set(METRICS) - absent


def test_what_is_switched_off_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "SELFHOSTED_PREFECT_SWITCHED_OFF", "event_persister scheduler")
    samples = gathered()
    assert samples["switched_off_info", "scheduler"] == samples["switched_off_info", "event_persister"] == 1
    assert ("scheduler_heartbeat_age_seconds",) not in samples
    assert ("background_lag_seconds",) not in samples
    assert samples["late_runs",] == 3


def test_one_that_is_gone_does_not_hide_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    samples = gathered(redis=refusing)
    assert (samples["exporter_target_up", "database"], samples["exporter_target_up", "redis"]) == (1, 0)
    assert samples["redis_writable",] == 0
    assert samples["late_runs",] == 3
    assert capsys.readouterr().err == "redis does not answer: refused ********, ******** or ********\n"


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LIMIT", 0.05)
    samples = gathered(database=hanging)
    assert (samples["exporter_target_up", "database"], samples["exporter_target_up", "redis"]) == (0, 1)
    assert ("late_runs",) not in samples


def test_of_two_lags_the_larger_counts() -> None:
    name = "prefect_background_lag_seconds"
    for values in ((1.0, 9.0), (9.0, 1.0)):
        assert found([Sample(name, value) for value in values]) == {("background_lag_seconds",): 9.0}


def test_answers_serve_for_a_moment() -> None:
    clock, asked = [0.0], []

    def ask() -> list[Any]:
        asked.append(clock[0])
        return [Sample("prefect_late_runs", len(asked))]

    collector = program.Collector(ask, lambda: clock[0])
    values = []
    for clock[0] in (0.0, 1.9, 2.0, 3.9, 4.1):
        values.append(collector.samples()[0].value)
    assert values == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("change", "messaging"),
    [
        ({}, "redis://prefect:r%40s@cache:6380/3"),
        ({"PREFECT_REDIS_MESSAGING_URL": "rediss://other/0?ssl_ca_certs=x"}, "rediss://other/0?ssl_ca_certs=x"),
        (
            {"PREFECT_SERVER_DOCKET_URL": "rediss://u:p@[::1]:6379/1?ssl_ca_certs=x", "PREFECT_REDIS_MESSAGING_DB": "0"},
            "rediss://u:p@[::1]:6379/0?ssl_ca_certs=x",
        ),
    ],
)
def test_where_messages_are(change: Mapping[str, str], messaging: str) -> None:
    environment = ENVIRONMENT | dict(change)
    assert (Settings(environment).messaging_url, Settings(environment).docket_url) == (messaging, environment["PREFECT_SERVER_DOCKET_URL"])


def test_schema_of_a_release(tmp_path: Path) -> None:
    folder = tmp_path / "lib/python3.11/site-packages/prefect/server/database/_migrations/versions/postgresql"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text('revision = "aa11"\ndown_revision = None\n')
    (folder / "b.py").write_text("revision: str = 'bb22'\ndown_revision: str | None = 'aa11'\n")
    (folder / "c.py").write_text('revision = "cc33"\ndown_revision = ("aa11", "bb22")\n')
    assert tables.read_schema(tmp_path) == tables.Schema("cc33", frozenset({"aa11", "bb22", "cc33"}))
    (folder / "d.py").write_text('revision = "dd44"\ndown_revision = "bb22"\n')
    tables.read_schema.cache_clear()
    assert tables.read_schema(tmp_path).head == ""


def test_without_its_settings_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exporter"], {"PREFECT_SERVER_DATABASE_HOST": "db"}) == 1
    assert "the environment has no PREFECT_SERVER_DATABASE_PASSWORD" in capsys.readouterr().err


GATHER = """
import asyncio, os, sys
from selfhosted_prefect.exporter import program
from selfhosted_prefect.exporter.database import Schema
from selfhosted_prefect.settings import Settings
samples = asyncio.run(program.gather(Settings(os.environ), Schema("", frozenset()), 0))
print(*[int(sample.value) for sample in samples if sample.name == "prefect_exporter_target_up"])
"""


class Forbidding(socketserver.StreamRequestHandler):
    """A Redis whose user may log in, and use no database."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            if line.startswith(b"*"):
                words = [self.rfile.readline() and self.rfile.readline().strip().upper() for _word in range(int(line[1:]))]
                self.wfile.write(b"-NOPERM no permissions to run SELECT\r\n" if words[0] == b"SELECT" else b"+OK\r\n")


def test_a_connection_that_is_refused_is_not_taken_for_a_refused_command(commands: Commands) -> None:
    """The database's port is closed. With the release's own libraries."""
    version = max(path.stem for path in (FILES / "locks").glob("*.txt") if "-" not in path.stem)
    python = commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forbidding) as redis, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        threading.Thread(target=redis.serve_forever, daemon=True).start()
        ports = {"PREFECT_SERVER_DATABASE_HOST": "127.0.0.1", "PREFECT_SERVER_DATABASE_PORT": str(closed.getsockname()[1])}
        url = f"redis://prefect:r%40s@127.0.0.1:{redis.server_address[1]}/1"
        environment = {**ENVIRONMENT, **ports, "PREFECT_SERVER_DOCKET_URL": url, "PYTHONPATH": str(FILES)}
        done = subprocess.run([python, "-c", GATHER], env=environment, capture_output=True, text=True, timeout=60, check=True)
        redis.shutdown()
    assert done.stdout == "0 0\n"
    assert "redis does not answer: " in done.stderr
    assert "no permissions to run SELECT" in done.stderr
    assert "left out" not in done.stderr
