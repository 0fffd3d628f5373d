from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.dumps import DumpError, Manifest, manifest_path
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import ToolError
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.restore import (
    Names,
    Restore,
    RestoreError,
    acting_as,
    check_dump,
    differences,
    is_named,
    named,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError, connect_postgres

NOW = datetime(2026, 11, 24, 8, 50, tzinfo=UTC)
STAMP = "20261124T085000Z"
NAMES = Names(f"prefect_restored_{STAMP}", f"prefect_before_{STAMP}")
CONTENT = b"PGDMP"
ROWS = {"public.alembic_version": 1, "public.flow_run": 3}
MANIFEST = Manifest(
    "prefect", "2026-11-24T08:00:00Z", "d4a7e1c93f52", "3.8.8", "15.18", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), 5000, ROWS
)


@dataclass
class Server:
    """A server's databases, as its administrator and Prefect's user see them."""

    databases: set[str] = field(default_factory=lambda: {"postgres", "prefect"})
    rows: dict[str, int] = field(default_factory=lambda: dict(ROWS))
    version: str = "15.18"
    locked: bool = False
    in_use: int = 0
    refuses: str = ""
    dump_fails: bool = False
    statements: list[str] = field(default_factory=list)
    renames: list[tuple[str, str]] = field(default_factory=list)


class Session:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.server_version = server.version

    def close(self) -> None:
        self.server.statements.append("closed")

    def execute(self, sql: str, timeout: float | None = None) -> None:
        self.query(sql, timeout)

    def query(self, sql: str, timeout: float | None = None) -> list[Any]:  # noqa: ARG002
        server = self.server
        server.statements.append(sql)
        words = [word for word in sql.split('"') if word.strip()]
        if sql.startswith("CREATE DATABASE"):
            server.databases.add(words[1])
        elif sql.startswith("DROP DATABASE"):
            server.databases.discard(words[1])
        elif sql.startswith("ALTER DATABASE"):
            if server.in_use:
                server.in_use -= 1
                raise PostgresError("is being accessed by other users", "55006")
            server.renames.append((words[1], words[3]))
        elif sql == "ROLLBACK":
            server.renames.clear()
        elif sql == "COMMIT":
            for old, new in server.renames:
                assert old in server.databases and new not in server.databases
                server.databases = server.databases - {old} | {new}
            server.renames.clear()
        answers: dict[str, list[Any]] = {
            "pg_try_advisory_lock": [(not server.locked,)],
            "SELECT datname": [(name,) for name in sorted(server.databases)],
            "datcollate": [("UTF8", "C.UTF-8", "C.UTF-8", "c", None)] if "prefect" in server.databases else [],
            "data_directory": [("/nowhere",)],
            "pg_db_role_setting": [("search_path=x",)],
            "pg_class": [tuple(name.split(".")) for name in server.rows],
            'count(*) FROM "public"."alembic_version"': [(1,)],
            'count(*) FROM "public"."flow_run"': [(server.rows.get("public.flow_run", 0),)],
        }
        return next((rows for part, rows in answers.items() if part in sql), [])


@dataclass
class FakeClient:
    server: Server | None = None
    listed: frozenset[str] = frozenset(ROWS)
    of: str = "d4a7e1c93f52"

    def read(self, path: str) -> None:
        assert Path(path).exists()

    def tables(self, _path: str) -> set[str]:
        return set(self.listed)

    def revision(self, _path: str) -> str:
        return self.of

    def restore(self, _path: str, database: str, _jobs: int) -> None:
        assert self.server and database in self.server.databases
        if self.server.dump_fails:
            raise ToolError("restoring failed")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def restore(server: Server) -> Restore:
    def connect(_name: str) -> Session:
        if server.refuses:
            raise PostgresError("no pg_hba.conf entry", server.refuses)
        return Session(server)

    return Restore(
        database="prefect",
        owner="prefect",
        admin=lambda: Session(server),
        connect=connect,
        client=lambda _major: FakeClient(server),  # type: ignore[arg-type, return-value]
        deadline=Deadline(60),
        now=lambda: NOW,
        sleep=lambda _seconds: None,
    )


def test_names() -> None:
    assert named("prefect", "rehearsal", NOW) == f"prefect_rehearsal_{STAMP}"
    long = named("p" * 63, "rehearsal", NOW)
    assert len(long) == 63 and is_named(long, "p" * 63, "rehearsal")


@pytest.mark.parametrize(
    "name", ["prefect", "prefect_rehearsal_mine", f"prefect_restored_{STAMP}", f"other_rehearsal_{STAMP}", f"prefect_rehearsal_{STAMP}x"]
)
def test_nothing_else_has_such_a_name(name: str) -> None:
    assert not is_named(name, "prefect", "rehearsal")


def test_rehearsal_leaves_nothing_behind(restore: Restore, server: Server) -> None:
    server.databases |= {"prefect_rehearsal_20200101T000000Z", "prefect_rehearsal_mine", NAMES.prepared}
    assert restore.rehearse("/x", MANIFEST) == ["prefect_rehearsal_20200101T000000Z"]
    assert server.databases == {"postgres", "prefect", "prefect_rehearsal_mine", NAMES.prepared}
    created = next(sql for sql in server.statements if sql.startswith("CREATE DATABASE"))
    assert created.startswith(f'CREATE DATABASE "prefect_rehearsal_{STAMP}" OWNER "prefect" TEMPLATE template0 ENCODING')


def fails(server: Server, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(server, name, value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rows": {**ROWS, "public.flow_run": 2}}, RestoreError, "public.flow_run: 3 in the dump, 2 restored"),
        ({"rows": {"public.alembic_version": 1}}, RestoreError, "public.flow_run: 3 in the dump, no table restored"),
        ({"dump_fails": True}, ToolError, "restoring failed"),
        ({"refuses": "28000"}, RestoreError, "does not let user prefect into database prefect_r.*pg_hba.conf up to date"),
        ({"refuses": "53300"}, PostgresError, "no pg_hba"),
        ({"locked": True}, RestoreError, "another restore or rehearsal of database prefect is running"),
        ({"version": "14.9"}, RestoreError, "the dump is from PostgreSQL 15, and an older server, 14, cannot take it"),
    ],
)
@pytest.mark.parametrize("how", ["rehearse", "prepare"])
def test_failures_leave_nothing_behind(
    restore: Restore, server: Server, monkeypatch: pytest.MonkeyPatch, *, how: str, changes: Any, error: Any, message: str
) -> None:
    monkeypatch.setattr("ansible_collections.selfhosted.prefect.plugins.module_utils._backup.restore._LOCK_SECONDS", 0)
    fails(server, **changes)
    with pytest.raises(error, match=message):
        getattr(restore, how)("/x", MANIFEST)
    assert server.databases == {"postgres", "prefect"}
    assert server.statements[-1] == "closed"


def test_a_server_without_the_live_database(restore: Restore, server: Server) -> None:
    server.databases = {"postgres"}
    with pytest.raises(RestoreError, match="has no database prefect to take the place of"):
        restore.rehearse("/x", MANIFEST)


def test_prepare_and_swap_and_back(restore: Restore, server: Server) -> None:
    server.databases.add("prefect_restored_20200101T000000Z")
    assert restore.prepare("/x", MANIFEST) == (NAMES, ["search_path=x"])
    assert server.databases == {"postgres", "prefect", NAMES.prepared}
    restore.swap(NAMES)
    assert server.databases == {"postgres", "prefect", NAMES.previous}
    assert restore.revert(NAMES)
    assert server.databases == {"postgres", "prefect"}
    assert not restore.revert(NAMES)


def test_what_was_only_prepared_is_dropped(restore: Restore, server: Server) -> None:
    names, _settings = restore.prepare("/x", MANIFEST)
    assert restore.revert(names)
    assert server.databases == {"postgres", "prefect"}


def test_the_replaced_database_is_dropped(restore: Restore, server: Server) -> None:
    server.databases.add(NAMES.previous)
    assert restore.clean(NAMES.previous)
    assert not restore.clean(NAMES.previous)
    assert server.databases == {"postgres", "prefect"}


def test_who_comes_back_at_once_is_ended_again(restore: Restore, server: Server) -> None:
    server.databases.add(NAMES.prepared)
    server.in_use = 3
    restore.swap(NAMES)
    assert sum("pg_terminate_backend" in sql for sql in server.statements) == 4
    assert server.databases == {"postgres", "prefect", NAMES.previous}


def test_a_swap_that_an_open_session_blocks(restore: Restore, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.selfhosted.prefect.plugins.module_utils._backup.restore._SWAP_SECONDS", 0)
    server.databases.add(NAMES.prepared)
    server.in_use = 10**6
    with pytest.raises(PostgresError, match="accessed by other users"):
        restore.swap(NAMES)
    assert server.databases == {"postgres", "prefect", NAMES.prepared}


def test_a_swap_with_what_is_gone(restore: Restore) -> None:
    with pytest.raises(RestoreError, match=f"no database {NAMES.prepared} any more, so nothing was swapped"):
        restore.swap(NAMES)


@pytest.mark.parametrize(
    "act", [lambda r: r.clean("prefect"), lambda r: r.swap(Names("other", NAMES.previous)), lambda r: r.revert(Names(NAMES.prepared, "x"))]
)
def test_other_databases_are_never_touched(restore: Restore, server: Server, act: Callable[[Restore], Any]) -> None:
    with pytest.raises(RestoreError, match="is not a name that a restore of database prefect gives"):
        act(restore)
    assert server.statements == []


def test_differences() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "c": 3}) == ["b: 2 in the dump, no table restored", "c: no table in the dump, 3 restored"]


def write(folder: Path, manifest: Manifest | None) -> str:
    path = folder / "x.dump"
    path.write_bytes(CONTENT)
    if manifest:
        Path(manifest_path(str(path))).write_text(manifest.text())
    return str(path)


def check(path: str, client: FakeClient) -> Manifest:
    return check_dump(path, lambda _major: client, Deadline(5))  # type: ignore[arg-type, return-value]


def test_a_good_dump(tmp_path: Path) -> None:
    assert check(write(tmp_path, MANIFEST), FakeClient()) == MANIFEST


@pytest.mark.parametrize(
    ("manifest", "client", "message"),
    [
        (None, FakeClient(), "has no manifest"),
        (replace(MANIFEST, bytes=9), FakeClient(), "truncated"),
        (replace(MANIFEST, sha256="0"), FakeClient(), "damaged"),
        (MANIFEST, FakeClient(listed=frozenset({"public.invoices"})), "no table alembic_version and no table flow_run"),
        (MANIFEST, FakeClient(listed=frozenset({"public.alembic_version"})), "no dump of a Prefect database: it has no table flow_run"),
        (MANIFEST, FakeClient(of="ffff"), "has the schema's revision ffff, but its manifest says d4a7e1c93f52"),
    ],
)
def test_bad_dumps(tmp_path: Path, manifest: Manifest | None, client: FakeClient, message: str) -> None:
    with pytest.raises(DumpError, match=message):
        check(write(tmp_path, manifest), client)


def test_the_socket_is_opened_as_the_system_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(os, "seteuid", seen.append)
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    with acting_as("root", str(tmp_path)):
        assert seen == [0]
    assert seen == [0, 7]


@pytest.mark.parametrize(
    ("user", "message"),
    [("no-such-user", "there is no system user no-such-user"), ("root", "cannot be reached as system user root in /.*: No such file")],
)
def test_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, message: str) -> None:
    monkeypatch.setattr(os, "seteuid", lambda _uid: None)
    with pytest.raises(NetError, match=message), acting_as(user, str(tmp_path)):
        connect_postgres({"host": str(tmp_path), "user": "postgres", "dbname": "postgres", "tls": {"enabled": False}}, 1)


def test_not_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_uid: int) -> None:
        if _uid == 0:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "seteuid", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NetError, match=r"as system user root in .*: Operation not permitted"), acting_as("root", str(tmp_path)):
        pass
