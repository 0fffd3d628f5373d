from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.dumps import Manifest, manifest_path
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.restore import Names, Restore, RestoreError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.history import Release, Revision
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_restore

PASSWORD = "s3cret/%"
DATABASE = {"host": "db", "user": "prefect", "password": PASSWORD, "dbname": "app"}
MANIFEST = Manifest("app", "2026-11-24T08:50:00Z", "b", "3.8.8", "15.18", 5, "ab", 9000, {"public.flow_run": 3})
NAMES = {"prepared": "app_restored_20261124T085000Z", "previous": "app_before_20261124T085000Z"}
RELEASE = Release("/opt/r", "3.8.8", {"a": Revision("a", (), ""), "b": Revision("b", ("a",), "")})
SAFE = "The live database is what it was."


@pytest.fixture(autouse=True)
def done(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is done, and how it ends. The dump is good."""
    ends: dict[str, Any] = {
        "rehearse": ["app_rehearsal_1"],
        "prepare": (Names(**NAMES), ["search_path=x"]),
        "swap": None,
        "revert": True,
        "clean": True,
        "called": [],
    }

    def ending(name: str) -> Any:
        def end(_self: Any, *_arguments: Any) -> Any:
            ends["called"].append(name)
            if isinstance(ends[name], Exception):
                raise ends[name]
            return ends[name]

        return end

    for name in ("rehearse", "prepare", "swap", "revert", "clean"):
        monkeypatch.setattr(Restore, name, ending(name))
    monkeypatch.setattr(prefect_restore, "check_dump", lambda *_: MANIFEST)
    monkeypatch.setattr(prefect_restore, "load_release", lambda _path: RELEASE)
    return ends


@pytest.fixture
def dump(tmp_path: Path) -> str:
    path = tmp_path / "x.dump"
    path.touch()
    Path(manifest_path(str(path))).write_text(MANIFEST.text())
    return str(path)


def run(run_module: Any, **options: Any) -> Any:
    result = run_module(prefect_restore.main, **{"database": DATABASE, **options})
    assert PASSWORD not in json.dumps(result)
    return result


def test_checked(run_module: Any, done: Any, dump: str) -> None:
    result = run(run_module, dump=dump, release="/opt/r")
    assert (result["changed"], result["path"], result["revision"], result["prefect_version"]) == (False, dump, "b", "3.8.8")
    assert done["called"] == []


def test_the_newest(run_module: Any, dump: str) -> None:
    assert run(run_module, dump="newest", directory=str(Path(dump).parent))["path"] == dump


def test_a_host_that_has_only_the_release(run_module: Any) -> None:
    result = run_module(prefect_restore.main, revision="a", release="/opt/r")
    assert (result["changed"], result["revision"], result["prefect_version"]) == (False, "a", "3.8.8")
    newer = run_module(prefect_restore.main, revision="c", release="/opt/r")
    assert "has no migration c; its newest is b. The dump is of a newer Prefect" in newer["msg"] and SAFE in newer["msg"]


@pytest.mark.parametrize(
    ("options", "called", "changed"),
    [
        ({"state": "rehearsed", "dump": True}, ["rehearse"], False),
        ({"state": "prepared", "dump": True}, ["prepare"], True),
        ({"state": "restored", "dump": True}, ["prepare", "swap"], True),
        ({"state": "restored", **NAMES}, ["swap"], True),
        ({"state": "reverted", **NAMES}, ["revert"], True),
        ({"state": "cleaned", "previous": NAMES["previous"]}, ["clean"], True),
    ],
)
def test_states(run_module: Any, done: Any, dump: str, *, options: Any, called: list[str], changed: bool) -> None:
    given = {**options, **({"dump": dump} if "dump" in options else {})}
    result = run(run_module, **given)
    assert (result["changed"], done["called"]) == (changed, called)
    assert len(result["warnings"]) == called.count("prepare")
    done["called"].clear()
    assert not run(run_module, check=True, **given).get("failed")
    assert done["called"] == []


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (RestoreError("public.flow_run: 3 in the dump, 2 restored"), f"public.flow_run: 3 in the dump, 2 restored. {SAFE}"),
        (NetError("is not on this host"), "PostgreSQL at db:5432 is not on this host. Without prefect_restore_admin_user"),
        (PostgresError(f"permission denied {PASSWORD}", "42501"), "PostgreSQL at db:5432 says: permission denied ********."),
    ],
)
def test_failures(run_module: Any, done: Any, dump: str, end: Exception, message: str) -> None:
    done["rehearse"] = end
    result = run(run_module, state="rehearsed", dump=dump)
    assert result["failed"] and message in result["msg"] and SAFE in result["msg"]


def test_a_dump_that_is_not_there(run_module: Any, tmp_path: Path) -> None:
    assert "holds no complete dump of database app" in run(run_module, dump="newest", directory=str(tmp_path))["msg"]


@pytest.mark.parametrize(
    ("admin", "user", "socket"),
    [(None, "postgres", True), ({"user": "boss", "password": "pw-of-boss", "port": 6543}, "boss", False)],
)
def test_who_creates_databases(run_module: Any, monkeypatch: pytest.MonkeyPatch, dump: str, *, admin: Any, user: str, socket: bool) -> None:
    seen: list[Any] = []
    acting: list[str] = []

    @contextlib.contextmanager
    def acting_as(system_user: str, folder: str) -> Iterator[None]:
        acting.append(f"{system_user} {folder}")
        yield

    monkeypatch.setattr(prefect_restore, "acting_as", acting_as)

    def connect(parts: Any, _seconds: float, _options: Any) -> Any:
        seen.append((parts, acting[-1:]))
        raise NetError("is not there")

    monkeypatch.setattr(prefect_restore, "connect_postgres", connect)
    monkeypatch.setattr(Restore, "rehearse", lambda self, *_: self.admin())
    result = run(run_module, state="rehearsed", dump=dump, **({"admin": admin} if admin else {}))
    assert "is not there" in result["msg"]
    ((parts, system_user),) = seen
    assert (parts["user"], parts["dbname"], parts["host"] == "/var/run/postgresql") == (user, "postgres", socket)
    assert system_user == (["postgres /var/run/postgresql"] if socket else [])
    assert parts["port"] == (6543 if admin else 5432)


ADMIN = {"user": "prefect_restore", "password": "pw-of-login"}
LOST = NetError("closed the connection before it had answered")


@dataclass
class Primary:
    """The servers that a cluster's address leads to, one after the other: their timeline, or why there is none. The last one stays."""

    answers: list[str | Exception]
    logins: int = 0

    def connect(self, _parts: Any, _seconds: float, _options: Any) -> Any:
        self.logins += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(query=lambda _sql: [(answer,)], close=lambda: None)


@pytest.mark.parametrize(
    ("answers", "says", "safe"),
    [
        pytest.param(["00000001", LOST, LOST, "00000002"], "Another server has become the primary meanwhile", False, id="another primary"),
        pytest.param(["00000001", LOST], "There is no primary now", False, id="none"),
        pytest.param(["00000001"], "before it had answered.", False, id="the same one"),
        pytest.param([LOST], "before it had answered.", True, id="it never was there"),
    ],
)
def test_a_failover_meanwhile(run_module: Any, monkeypatch: pytest.MonkeyPatch, *, answers: list[Any], says: str, safe: bool) -> None:
    told = len(answers) > 1
    primary = Primary(answers)
    monkeypatch.setattr(prefect_restore, "connect_postgres", primary.connect)
    monkeypatch.setattr(prefect_restore, "_RETRY_SECONDS", 0.3)

    def swap(self: Restore, _names: Names) -> None:
        self.admin()
        raise LOST

    monkeypatch.setattr(Restore, "swap", swap)
    result = run(run_module, state="restored", admin=ADMIN, failover_timeout=1, **NAMES)
    assert result["failed"] and says in result["msg"]
    # Of a swap whose answer was lost nothing is known.
    assert (SAFE in result["msg"]) == safe
    assert ("become the primary" in result["msg"] or "no primary now" in result["msg"]) == told


def test_a_primary_is_waited_for(run_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    primary = Primary([LOST, PostgresError("the database system is starting up", "57P03"), "00000001"])
    monkeypatch.setattr(prefect_restore, "connect_postgres", primary.connect)
    monkeypatch.setattr(prefect_restore, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(Restore, "revert", lambda self, _names: bool(self.admin()))
    assert run(run_module, state="reverted", admin=ADMIN, failover_timeout=5, **NAMES)["changed"]
    assert primary.logins == 3
    primary.answers = [PostgresError("refused", "28P01")]
    assert "refused" in run(run_module, state="reverted", admin=ADMIN, failover_timeout=5, **NAMES)["msg"]
