"""The order of things, against a database that is a few variables."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError, Row
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.history import Release, Revision
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.migration import (
    LOCK_KEY,
    WORKING,
    Migration,
    MigrationError,
    Schema,
    command_environment,
)


def index(name: str, table: str) -> str:
    """The source of a migration that builds an index, and, on the way down, another one."""
    return f"""
def upgrade():
    op.execute("CREATE INDEX CONCURRENTLY {name} ON {table} (id)")

def downgrade():
    op.execute("DROP INDEX CONCURRENTLY {name}; CREATE INDEX CONCURRENTLY IF NOT EXISTS old_{name} ON block (id)")
"""


RELEASE = Release(
    "/r",
    "3.8.8",
    {
        "a": Revision("a", (), "'creates flow_run'"),
        "b": Revision("b", ("a",), index("ix_b", "flow_run")),
        "c": Revision("c", ("b",), index("ix_bc", "deployment")),
    },
)


class Database:
    """What a session would find."""

    server_version = "15.18"

    def __init__(self, *revisions: str, invalid: tuple[str, ...] = (), tables: bool = True, locked: int = 0) -> None:
        self.revisions = list(revisions)
        self.invalid = list(invalid)
        self.tables = tables
        self.locked = locked  # how many more attempts to lock fail
        self.workers = 0
        self.measured = 0
        self.rows = 120  # of flow_run
        self.said: list[str] = []
        self.down: list[Exception] = []  # raised by the next queries
        self.on_lock: Callable[[], Any] = lambda: None

    def query(self, sql: str, timeout: float | None = None) -> list[Row]:  # noqa: PLR0911  one answer for each kind of query
        assert timeout and timeout <= 600
        if self.down:
            raise self.down.pop(0)
        if "to_regclass" in sql:
            return [(bool(self.revisions), bool(self.revisions and self.tables))]
        if "FROM alembic_version" in sql:
            return [(name,) for name in sorted(self.revisions)]
        if "indisvalid" in sql:
            return [(name,) for name in self.invalid]
        if "pg_try_advisory_lock" in sql:
            assert str(LOCK_KEY) in sql
            self.locked -= 1
            self.said.append("lock" if self.locked < 0 else "no lock")
            if self.locked < 0:
                self.on_lock()
            return [(self.locked < 0,)]
        if "pg_total_relation_size" in sql:
            self.measured += 1
            return [("deployment", 8192, 1), ("flow", 16384, -1), ("flow_run", 65536, self.rows), ("block", 8192, 0)]
        if "pg_locks" in sql:
            assert str(LOCK_KEY) in sql
            return [(42, "10.0.0.9", "00:10:00")]
        if "pg_terminate_backend" in sql:
            assert WORKING in sql
            self.said.append(f"end {self.workers}")
            self.workers = max(0, self.workers - 1)
            return [(True,)] * (self.workers + 1 if self.said[-1] != "end 0" else 0)
        raise AssertionError(sql)

    def execute(self, sql: str, timeout: float | None = None) -> None:
        assert timeout and timeout <= 600
        if self.down:
            raise self.down.pop(0)
        assert sql.startswith("DROP INDEX CONCURRENTLY IF EXISTS"), sql
        name = sql.split('"')[1]
        self.said.append(f"drop {name}")
        self.invalid.remove(name)

    def close(self) -> None:
        self.said.append("close")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)


def migration(
    database: Database, upgrade: Callable[[], Finished], target: str = "c", timeout: float = 600, down: bool = False
) -> Migration:
    clock = Clock()

    def run(seconds: float) -> Finished:
        assert 0 < seconds <= timeout
        database.said.append("upgrade")
        return upgrade()

    return Migration(
        release=RELEASE,
        target=target,
        where="database prefect on db:5432",
        connect=lambda: Schema(database, clock.sleep),
        command=run,
        registration=run,
        deadline=Deadline(timeout, clock),
        sleep=clock.sleep,
        down=down,
    )


def never() -> Finished:
    raise AssertionError("the command was started")


def comes_to(database: Database, *revisions: str, invalid: tuple[str, ...] = (), **ended: Any) -> Callable[[], Finished]:
    def upgrade() -> Finished:
        database.revisions = list(revisions)
        database.invalid = list(invalid)
        return Finished(ended.get("rc", 0), ended.get("output", "Running upgrade migrations ..."), ended.get("timed_out", False))

    return upgrade


@pytest.mark.parametrize(
    ("current", "target", "ahead"),
    [(["c"], "c", False), (["c"], "b", True), (["from_the_future"], "c", True)],
)
def test_nothing_to_do(current: list[str], target: str, ahead: bool) -> None:
    database = Database(*current)
    report = migration(database, never, target).run()
    assert (report.changed, report.ahead, report.pending) == (False, ahead, ())
    assert database.said == ["close"]


FLOW_RUN = {"name": "flow_run", "bytes": 65536, "rows": 120}
DEPLOYMENT = {"name": "deployment", "bytes": 8192, "rows": 1}


ESTIMATE = {
    # A table that was never counted has its bytes for rows; each revision reads its own table.
    "": {"least": 0, "likely": 6, "most": 15, "rows": 121},
    "a": {"least": 0, "likely": 6, "most": 15, "rows": 121},
    "b": {"least": 0, "likely": 6, "most": 15, "rows": 1},
}


@pytest.mark.parametrize(
    ("current", "before", "tables"),
    [([], "", [FLOW_RUN, DEPLOYMENT]), (["a"], "a", [FLOW_RUN, DEPLOYMENT]), (["b"], "b", [DEPLOYMENT])],
)
def test_upgrade(current: list[str], before: str, tables: Any) -> None:
    database = Database(*current)
    values = migration(database, comes_to(database, "c")).run().values()
    assert values == {
        "changed": True,
        "before": before,
        "after": "c",
        "head": "c",
        "pending": [],
        "ahead": False,
        "invalid_indexes": [],
        "registered": False,
        "tables": tables,
        "estimate": ESTIMATE[before],
    }
    assert database.said == ["lock", "end 0", "upgrade", "close"]


def test_who_comes_second_waits_and_finds_it_done() -> None:
    database = Database("a", locked=3)
    database.on_lock = comes_to(database, "c")
    report = migration(database, never).run()
    assert (report.changed, report.after) == (False, ("c",))
    assert database.said == ["no lock", "no lock", "no lock", "lock", "close"]


def test_a_migration_that_cannot_end_in_its_time_does_not_begin() -> None:
    database = Database("a")
    database.rows = 1_200_000_000
    with pytest.raises(
        MigrationError, match=r"about 2006 s.*leaves it 600 s.*prefect_migrate_timeout to 5015 or more.*Nothing was changed"
    ):
        migration(database, never).run()
    report = migration(database, comes_to(database, "c"), timeout=6000).run()
    assert report.estimate and report.estimate.rows == 1_200_000_001


def test_a_lock_that_is_never_free() -> None:
    database = Database("a", locked=10**6)
    with pytest.raises(MigrationError, match=r"has not ended within 30 s.*session 42 from 10\.0\.0\.9, for 00:10:00.*Nothing was changed"):
        migration(database, never, timeout=30).run()


def test_leftovers_of_pending_migrations_only_are_dropped() -> None:
    # ix_b belongs to what is done already, and must not be taken for a part of ix_bc.
    database = Database("b", invalid=("ix_b", "ix_bc"))
    database.workers = 2
    upgrade = comes_to(database, "c")
    report = migration(database, upgrade).run()
    assert database.said == ["lock", "end 2", "end 1", "end 0", "drop ix_bc", "upgrade", "close"]
    assert report.changed


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (
            {"rc": 1, "output": "Traceback\nboom"},
            [r"failed \(exit code 1\)", "at b .it began at a., 1 more to c", "Fix the cause", "goes on from there", "boom$"],
        ),
        ({"rc": -9, "timed_out": True}, ["was stopped after 600 s", "prefect_migrate_timeout"]),
        ({"rc": 0}, ["ended without an error, but not where it should"]),
    ],
)
def test_failures_say_how_far_it_got(ended: Any, said: list[str]) -> None:
    database = Database("a")
    with pytest.raises(MigrationError) as caught:
        migration(database, comes_to(database, "b", invalid=("ix_bc",), **ended)).run()
    message = str(caught.value)
    for part in [*said, "database prefect on db:5432", "Invalid indexes were left: ix_bc", "Servers that are running were not touched"]:
        assert re.search(part, message), (part, message)
    report = caught.value.report
    assert report
    assert (report.before, report.after, report.pending, report.changed) == (("a",), ("b",), ("c",), True)


def test_a_stopped_command_leaves_nothing_behind_in_the_server() -> None:
    database = Database("a")

    def upgrade() -> Finished:
        database.workers = 1
        return Finished(-9, "", timed_out=True)

    with pytest.raises(MigrationError):
        migration(database, upgrade).run()
    assert database.said[-3:] == ["end 1", "end 0", "close"]


def test_an_error_at_the_very_end_is_still_one() -> None:
    database = Database("a")
    with pytest.raises(MigrationError, match="which is where it should be"):
        migration(database, comes_to(database, "c", rc=1)).run()


@pytest.mark.parametrize(
    ("index", "repair"),
    [("ix_b", 'REINDEX INDEX CONCURRENTLY "ix_b"'), ("ix_b_ccnew1", 'DROP INDEX CONCURRENTLY "ix_b_ccnew1"')],
)
@pytest.mark.parametrize("current", ["c", "a"])
def test_an_invalid_index_is_no_success(current: str, index: str, repair: str) -> None:
    database = Database(current, invalid=(index,))
    with pytest.raises(MigrationError, match="these indexes are invalid") as caught:
        migration(database, comes_to(database, "c", invalid=(index,))).run()
    assert repair in str(caught.value)


def test_the_lock_session_may_be_lost() -> None:
    database = Database("a")

    def upgrade() -> Finished:
        database.down = [NetError("dropped the connection")]
        return comes_to(database, "b", rc=1)()

    with pytest.raises(MigrationError, match="The schema is at b"):
        migration(database, upgrade).run()


def test_a_server_that_is_gone_afterwards() -> None:
    database = Database("a")

    def upgrade() -> Finished:
        database.down = [NetError("dropped the connection"), PostgresError("the database system is starting up")]
        return Finished(1, "boom")

    with pytest.raises(MigrationError, match=r"(?s)how far it got cannot be seen.*starting up.*boom"):
        migration(database, upgrade).run()


def test_another_applications_database() -> None:
    with pytest.raises(MigrationError, match="belongs to another application"):
        migration(Database("x", tables=False), never).run()


@pytest.mark.parametrize(("current", "target"), [(["a"], "a"), (["a"], "b"), ([], "b")])
def test_nothing_to_undo(current: list[str], target: str) -> None:
    database = Database(*current)
    report = migration(database, never, target, down=True).run()
    assert (report.changed, report.ahead, report.pending, report.after) == (False, False, (), tuple(current))
    assert database.said == ["close"]


def test_downgrade() -> None:
    database = Database("c")
    going_down = migration(database, comes_to(database, "a"), "a", down=True)
    assert going_down.report().pending == ("c", "b")
    database.said.clear()
    values = going_down.run().values()
    assert (values["changed"], values["before"], values["after"], values["pending"]) == (True, "c", "a", [])
    assert values["tables"] == [FLOW_RUN, {"name": "block", "bytes": 8192, "rows": 0}, DEPLOYMENT]
    assert database.said == ["lock", "end 0", "upgrade", "close"]


def test_on_the_way_down_only_what_it_builds_is_dropped_first() -> None:
    # An index that the way down drops is dropped there, by a statement that fails if it is gone.
    database = Database("c", invalid=("ix_bc", "old_ix_bc"))
    migration(database, comes_to(database, "b"), "b", down=True).run()
    assert database.said == ["lock", "end 0", "drop old_ix_bc", "upgrade", "close"]


def test_a_downgrade_that_stops_half_way() -> None:
    database = Database("c")
    with pytest.raises(MigrationError, match=r"The schema is at b \(it began at c\), 1 more to undo, down to a\.") as caught:
        migration(database, comes_to(database, "b", rc=1), "a", down=True).run()
    assert caught.value.report
    assert caught.value.report.pending == ("b",)


def test_an_invalid_index_after_a_downgrade_is_no_success() -> None:
    database = Database("c")
    with pytest.raises(MigrationError, match="these indexes are invalid"):
        migration(database, comes_to(database, "b", invalid=("ix_b",)), "b", down=True).run()


@pytest.mark.parametrize(
    ("current", "target", "message"),
    [
        ("from_the_future", "a", r"at revision from_the_future, which Prefect 3\.8\.8 in /r does not know.*give it as release"),
        ("c", "side", "did not build on side, so there is no way back"),
    ],
)
def test_ways_down_that_do_not_exist(current: str, target: str, message: str) -> None:
    database = Database(current)
    refused = migration(database, never, target, down=True)
    refused.release = Release("/r", "3.8.8", {**RELEASE.revisions, "side": Revision("side", ("a",), "")})
    for act in (refused.report, refused.run):
        with pytest.raises(MigrationError, match=rf"{message}.*Nothing was changed"):
            act()
    assert "lock" not in database.said


def test_a_report_changes_nothing() -> None:
    database = Database("a")
    report = migration(database, never).report()
    assert (report.pending, report.changed) == (("b", "c"), False)
    assert [table.name for table in report.tables] == ["flow_run", "deployment"]
    assert database.said == ["close"]


def test_wait_until_another_process_has_done_it() -> None:
    database = Database("a")
    database.down = [NetError("refused the connection")]
    waiting = migration(database, never)
    sleeps = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            database.revisions = ["c"]

    waiting.sleep = sleep
    report = waiting.wait()
    assert (report.changed, report.after) == (False, ("c",))
    assert len(sleeps) == 3
    assert not database.measured
    assert "lock" not in database.said


@pytest.mark.parametrize(
    ("database", "why"),
    [
        (Database("a"), "it is at a"),
        (Database(), r"it is at no revision \(empty\)"),
        (Database("c", invalid=("ix_b",)), "it is at c, but these indexes are invalid: ix_b"),
    ],
)
def test_wait_in_vain(database: Database, why: str) -> None:
    with pytest.raises(MigrationError, match=rf"has not come to revision c within 20 s: {why}"):
        migration(database, never, timeout=20).wait()


@pytest.mark.parametrize(("version", "timeout"), [("3.7.8", "600"), ("3.8.8", "10")])
def test_command_environment(version: str, timeout: str) -> None:
    given = {"PREFECT_SERVER_DATABASE_TIMEOUT": "10", "PREFECT_HOME": "/var/lib/prefect"}
    environment = command_environment(given, Release("/r", version, {}), 600, "/scratch")
    assert environment["PREFECT_SERVER_DATABASE_TIMEOUT"] == timeout
    assert environment["PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_APPLICATION_NAME"] == WORKING
    assert (environment["PREFECT_HOME"], environment["HOME"]) == ("/var/lib/prefect", "/scratch")


def test_the_lock_is_prefect_in_ascii() -> None:
    assert LOCK_KEY.to_bytes(7, "big") == b"prefect"


def test_the_cause_is_in_the_first_line() -> None:
    said = 'Traceback (most recent call last):\n  File "a.py", line 1\nasyncpg.exceptions.RaiseError: interfered\nAn exception occurred.'
    database = Database("a")
    with pytest.raises(MigrationError) as raised:
        migration(database, comes_to(database, "b", rc=1, output=said)).run()
    assert "failed (exit code 1: asyncpg.exceptions.RaiseError: interfered" in str(raised.value).splitlines()[0]
