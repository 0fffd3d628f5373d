from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.backup import Backup, BackupError, Replica, count_rows
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.dumps import DumpError, only_one, read_manifest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import ToolError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError

CONTENT = b"PGDMP"
START = datetime(2026, 11, 24, 8, 50, tzinfo=UTC)


@dataclass
class Database:
    """A session of a database with two tables. ``locked`` is how often a migration is found at work."""

    revision: str = "d4a7e1c93f52"
    prefects: bool = True
    locked: int = 0
    replica: bool = False
    behind: int = 0
    server_version: str = "15.18 (Debian)"
    statements: list[str] = field(default_factory=list)

    def query(self, sql: str, timeout: float | None = None) -> list[Any]:  # noqa: ARG002
        self.statements.append(sql)
        if "pg_try_advisory_xact_lock_shared" in sql:
            self.locked -= 1
            return [(self.locked < 0,)]
        if "pg_last_wal_replay_lsn" in sql:
            self.behind -= 1
            return [(self.behind < 0,)]
        answers: dict[str, list[Any]] = {
            "inet_server_addr": [(self.replica, "192.0.2.2" if self.replica else "192.0.2.1")],
            "pg_current_wal_flush_lsn": [("0/5000060",)],
            "pg_export_snapshot": [("0003-1",)],
            "to_regclass": [(self.prefects,)],
            "FROM alembic_version": [(self.revision,)],
            "pg_database_size": [(5000,)],
            "pg_class": [("public", "alembic_version"), ("public", 'odd"name')],
            'count(*) FROM "public"."alembic_version"': [(1,)],
            'count(*) FROM "public"."odd""name"': [(7,)],
        }
        return next((rows for part, rows in answers.items() if part in sql), [])

    def execute(self, sql: str, timeout: float | None = None) -> None:
        self.query(sql, timeout)

    def close(self) -> None:
        self.statements.append("closed")


@dataclass
class FakeClient:
    database: Database
    content: bytes = CONTENT
    broken: str = ""
    read_paths: list[str] = field(default_factory=list)

    def dump(self, path: str, snapshot: str) -> None:
        assert snapshot == "0003-1" and "COMMIT" not in self.database.statements
        if self.broken == "dump":
            raise ToolError("the dump failed")
        Path(path).write_bytes(self.content)

    def read(self, path: str) -> None:
        self.read_paths.append(path)
        if self.broken == "read":
            raise ToolError("reading failed")


Make = Callable[..., Backup]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def client(database: Database) -> FakeClient:
    return FakeClient(database)


@pytest.fixture
def make(tmp_path: Path, database: Database, client: FakeClient) -> Make:
    """A backup into a temporary folder, so many minutes after the first."""

    def backup(minutes: float = 0, **options: Any) -> Backup:
        given: dict[str, Any] = {"keep": 2, "max_age": 0, "free": lambda _folder: 10**9, "deadline": Deadline(5), **options}
        return Backup(
            database="prefect",
            directory=str(tmp_path),
            prefect_version="3.8.8",
            connect=lambda: database,
            client=lambda _major: client,  # type: ignore[arg-type, return-value]
            now=lambda: START + timedelta(minutes=minutes),
            sleep=lambda _seconds: None,
            **given,
        )

    return backup


def test_a_dump_and_what_its_manifest_says(make: Make, database: Database, client: FakeClient, tmp_path: Path) -> None:
    outcome = make().run()
    assert outcome.changed and outcome.dump
    assert outcome.dump.path == str(tmp_path / "prefect-20261124T085000Z.dump")
    assert Path(outcome.dump.path).read_bytes() == CONTENT
    manifest = read_manifest(outcome.dump.path)
    assert (manifest.tables, manifest.revision) == ({"public.alembic_version": 1, 'public.odd"name': 7}, "d4a7e1c93f52")
    assert (manifest.server_version, manifest.database_bytes, manifest.bytes) == ("15.18", 5000, 5)
    # Read back before it got its name, and all in one transaction.
    assert client.read_paths == [outcome.dump.path + ".partial"]
    assert database.statements[0].startswith("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    assert database.statements[-1] == "closed"


def test_only_so_many_are_kept(make: Make) -> None:
    first, second, third = (make(minutes).run() for minutes in (0, 1, 2))
    assert (first.removed, second.removed) == ((), ())
    assert third.removed == (first.dump and first.dump.path,)


@pytest.mark.parametrize(
    ("minutes", "revision", "taken", "reason"),
    [
        (59, "d4a7e1c93f52", False, "the newest is 3540 s old, no more than 3600 s"),
        (61, "d4a7e1c93f52", True, "the newest is 3660 s old, more than 3600 s"),
        (-1, "d4a7e1c93f52", True, "the newest is -60 s old"),
        (1, "ffff", True, "the newest has revision d4a7e1c93f52, but the database ffff"),
    ],
)
def test_a_dump_that_is_new_enough(make: Make, database: Database, *, minutes: float, revision: str, taken: bool, reason: str) -> None:
    make().run()
    database.revision = revision
    assert make(minutes, max_age=3600).plan().changed == taken
    outcome = make(minutes, max_age=3600).run()
    assert outcome.changed == taken
    assert reason in outcome.reason


@pytest.mark.parametrize("broken", ["content", "read"])
def test_a_damaged_dump_will_not_do(make: Make, client: FakeClient, broken: str) -> None:
    first = make().run().dump
    assert first
    if broken == "content":
        Path(first.path).write_bytes(b"PGDMX")
    else:
        client.broken = "read"
    outcome = make(1, max_age=3600).plan()
    assert outcome.changed and "damaged" in outcome.reason and outcome.damaged


def test_none_yet(make: Make) -> None:
    assert make(max_age=3600).plan().reason == "there is none yet"


@pytest.mark.parametrize("broken", ["dump", "read"])
def test_a_failure_leaves_what_was_there(make: Make, client: FakeClient, tmp_path: Path, broken: str) -> None:
    make().run()
    before = sorted(tmp_path.iterdir())
    client.broken = broken
    with pytest.raises(ToolError):
        make(1).run()
    assert sorted(tmp_path.iterdir()) == before


def test_leftovers_go_first(make: Make, tmp_path: Path) -> None:
    (tmp_path / "prefect-20200101T000000Z.dump.partial").touch()
    make().run()
    assert not list(tmp_path.glob("*.partial"))


def test_a_migration_is_waited_for(make: Make, database: Database) -> None:
    database.locked = 2
    assert make().run().changed
    assert database.statements.count("ROLLBACK") == 2
    database.locked = 10**6
    with pytest.raises(BackupError, match="a migration of database prefect has not ended within 0 s"):
        make(1, deadline=_Over()).run()


class _Over(Deadline):
    """Time for the folder's lock, and for nothing else."""

    def __init__(self) -> None:
        super().__init__(0)


def test_a_full_disk(make: Make, tmp_path: Path) -> None:
    for attempt in (make(free=lambda _folder: 4999).plan, make(free=lambda _folder: 4999).run):
        with pytest.raises(BackupError, match="has 4999 bytes free, but a dump of database prefect may take up to 5000"):
            attempt()
    assert not list(tmp_path.glob("*.dump*"))


def test_another_application(make: Make, database: Database) -> None:
    database.prefects = False
    with pytest.raises(BackupError, match="database prefect is not Prefect's"):
        make().run()


def test_a_dry_run_writes_nothing(make: Make, tmp_path: Path) -> None:
    outcome = make().plan()
    assert (outcome.changed, outcome.dump, list(tmp_path.iterdir())) == (True, None, [])


def test_the_folder_is_held(make: Make) -> None:
    backup = make(deadline=Deadline(0))
    with only_one(backup.directory, Deadline(5)), pytest.raises(DumpError, match="another backup"):
        backup.run()


def test_rows_are_counted_with_quoted_names(database: Database) -> None:
    assert count_rows(database, Deadline(5)) == {"public.alembic_version": 1, 'public.odd"name': 7}


@pytest.fixture
def standby() -> Database:
    return Database(replica=True)


@pytest.fixture
def beside(make: Make, standby: Database) -> Make:
    """A backup of a cluster with a replica, the session of which is `standby`."""

    def backup(minutes: float = 0, *, broken: str = "", **options: Any) -> Backup:
        client: Any = FakeClient(standby, broken=broken)
        return make(minutes, replica=options.pop("replica", Replica(lambda: standby, lambda _major: client)), **options)

    return backup


def test_a_replica_is_dumped_once_it_has_what_the_primary_has(beside: Make, database: Database, standby: Database) -> None:
    standby.behind = 2
    outcome = beside().run()
    assert (outcome.changed, outcome.origin.address, outcome.origin.replica, outcome.origin.missed) == (True, "192.0.2.2", True, "")
    assert any(sql.startswith("SELECT pg_export_snapshot") for sql in standby.statements)
    assert sum(" E'0/5000060'::pg_lsn" in sql for sql in standby.statements) == 3
    # The primary has pg_dump's locks, and no snapshot.
    assert database.statements[0].startswith("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY")
    assert 'LOCK TABLE "public"."alembic_version", "public"."odd""name" IN ACCESS SHARE MODE' in database.statements
    assert not any("pg_export_snapshot" in sql for sql in database.statements)
    assert (database.statements[-1], standby.statements[-1]) == ("closed", "closed")


def unreachable() -> Database:
    raise NetError("closed the connection before it had answered")


@pytest.mark.parametrize(
    ("changes", "options", "missed"),
    [
        pytest.param({"replica": False}, {}, "no replica is in step with it", id="the way leads to the primary"),
        pytest.param(
            {},
            {"replica": Replica(unreachable, lambda _major: None)},  # type: ignore[arg-type, return-value]
            "closed the connection",
            id="there is no way",
        ),
        pytest.param({}, {"broken": "dump"}, "the dump failed", id="it is lost meanwhile"),
        pytest.param({"behind": 10**6}, {}, "did not catch up within 0 s", id="it is behind"),
    ],
)
def test_what_no_replica_gives_is_taken_from_the_primary(
    beside: Make, standby: Database, monkeypatch: pytest.MonkeyPatch, *, changes: Any, options: Any, missed: str
) -> None:
    monkeypatch.setattr("ansible_collections.selfhosted.prefect.plugins.module_utils._backup.backup._REPLAY_SECONDS", 0)
    for name, value in changes.items():
        setattr(standby, name, value)
    outcome = beside(**options).run()
    assert outcome.changed and outcome.dump
    assert (outcome.origin.address, outcome.origin.replica) == ("192.0.2.1", False)
    assert missed in outcome.origin.missed
    assert not list(Path(outcome.dump.path).parent.glob("*.partial"))


@pytest.mark.parametrize(("replica", "address"), [(True, "192.0.2.2"), (False, "192.0.2.1")])
def test_a_dry_run_says_which_server(beside: Make, standby: Database, *, replica: bool, address: str) -> None:
    standby.replica = replica
    origin = beside().plan().origin
    assert (origin.address, origin.replica, bool(origin.missed)) == (address, replica, not replica)
