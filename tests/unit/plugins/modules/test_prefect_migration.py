from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.history import Release, ReleaseError, Revision
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration.migration import Migration, MigrationError, Report, Table
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_migration

PASSWORD = "s3cret/%"
ENVIRONMENT = {
    "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
    "PREFECT_SERVER_DATABASE_HOST": "db",
    "PREFECT_SERVER_DATABASE_PORT": 5432,
    "PREFECT_SERVER_DATABASE_NAME": "prefect",
    "PREFECT_SERVER_DATABASE_USER": "prefect",
    "PREFECT_SERVER_DATABASE_PASSWORD": PASSWORD,
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": False,
    "PREFECT_SERVER_DOCKET_URL": "redis://me:dock3t@cache/1",
    "PREFECT_LEFT_OUT": None,
}
RELEASE = Release("/opt/r", "3.8.8", {"a": Revision("a", (), ""), "b": Revision("b", ("a",), "")})
OLD = Release("/opt/old", "3.7.8", {"a": Revision("a", (), "")})
BEHIND = Report(("a",), ("a",), "b", ("b",), ahead=False)
THERE = Report(("b",), ("b",), "b", (), ahead=False)
DONE = Report(("a",), ("b",), "b", (), ahead=False)


@pytest.fixture(autouse=True)
def act(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What looking, working and waiting come to."""
    ends: dict[str, Any] = {"report": BEHIND, "run": DONE, "wait": DONE, "release": RELEASE}

    def ending(name: str) -> Any:
        def end(*_: Any) -> Any:
            if isinstance(ends[name], Exception):
                raise ends[name]
            return ends[name]

        return end

    def load(path: str) -> Release:
        return OLD if path == "/opt/old" else ending("release")()

    for name in ("report", "run", "wait"):
        monkeypatch.setattr(Migration, name, ending(name))
    monkeypatch.setattr(prefect_migration, "load_release", load)
    return ends


def run(run_module: Any, **options: Any) -> Any:
    result = run_module(prefect_migration.main, **{"release": "/opt/r", "environment": ENVIRONMENT, **options})
    shown = json.dumps(result)
    for secret in (PASSWORD, "s3cret%2F%25", "dock3t"):
        assert secret not in shown
    return result


def test_upgraded(run_module: Any) -> None:
    result = run(run_module)
    assert (result["changed"], result["before"], result["after"], result["pending"]) == (True, "a", "b", [])
    assert (result["head"], result["prefect_version"]) == ("b", "3.8.8")
    assert result["diff"] == {"before": "a\n", "after": "b\n"}


def test_the_settings_stay_out_of_the_result(run_module: Any) -> None:
    given = run(run_module)["invocation"]["module_args"]["environment"]
    assert given == sorted(ENVIRONMENT)


@pytest.mark.parametrize(("state", "after", "changed"), [("upgraded", "b", True), ("awaited", "a", False)])
def test_check_mode_tells_what_would_be_done(run_module: Any, act: Any, state: str, after: str, changed: bool) -> None:
    act["run"] = act["wait"] = AssertionError("something was done")
    result = run(run_module, check=True, state=state)
    assert (result["changed"], result["after"], result["pending"]) == (changed, after, ["b"])


def test_check_mode_tells_what_would_be_undone(run_module: Any, act: Any) -> None:
    act["run"] = AssertionError("something was done")
    act["report"] = Report(("b",), ("b",), "a", ("b",), ahead=False, tables=(Table("flow_run", 8192, 3),))
    result = run(run_module, check=True, state="downgraded", revision_of="/opt/old")
    assert (result["changed"], result["before"], result["after"], result["head"], result["pending"]) == (True, "b", "a", "a", ["b"])
    assert result["tables"] == [{"name": "flow_run", "bytes": 8192, "rows": 3}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "downgraded"}, "give the older release in revision_of. Nothing was changed."),
        ({"revision": "x"}, "has no migration x; its newest is b. Nothing was changed."),
        ({"state": "downgraded", "revision": "x"}, "only that one knows it. Nothing was changed."),
        ({"state": "downgraded", "revision": "a", "revision_of": "/opt/old"}, "mutually exclusive"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_refusals(run_module: Any, options: Any, message: str, check: bool) -> None:
    result = run(run_module, check=check, **options)
    assert result["failed"]
    assert message in result["msg"]


def test_ahead_is_told(run_module: Any, act: Any) -> None:
    act["run"] = Report(("c",), ("c",), "b", (), ahead=True)
    result = run(run_module)
    assert (result["changed"], result["ahead"], result.get("failed")) == (False, True, None)
    assert "past b" in result["warnings"][0]


@pytest.mark.parametrize(
    ("name", "end", "message"),
    [
        ("run", MigrationError(f"failed: {PASSWORD}, postgresql://prefect:s3cret%2F%25@db", BEHIND), "failed: ********"),
        ("run", NetError("refused the connection"), "PostgreSQL at db:5432 refused the connection. Nothing was changed."),
        ("run", PostgresError("no", "28P01"), "PostgreSQL at db:5432 refuses the password of user prefect. Nothing was changed."),
        ("release", ReleaseError("/opt/r holds no Prefect"), "/opt/r holds no Prefect. Install the release first"),
    ],
)
def test_failures(run_module: Any, act: Any, name: str, end: Exception, message: str) -> None:
    act[name] = end
    result = run(run_module)
    assert result["failed"]
    assert message in result["msg"]


@pytest.mark.parametrize(
    ("name", "end"), [("report", NetError("refused the connection")), ("release", ReleaseError("/opt/r holds no Prefect"))]
)
def test_check_mode_before_anything_is_installed(run_module: Any, act: Any, name: str, end: Exception) -> None:
    act[name] = end
    result = run(run_module, check=True)
    assert (result["changed"], result.get("failed")) == (True, None)
    assert "it is not known whether the schema would change" in result["warnings"][0]


def test_settings_from_a_file(run_module: Any, tmp_path: Path) -> None:
    file = tmp_path / "prefect.env"
    file.write_text('PREFECT_SERVER_DATABASE_DRIVER="sqlite+aiosqlite"\nPREFECT_SERVER_DATABASE_PASSWORD="x"\n')
    result = run(run_module, environment={}, environment_file=str(file))
    assert "PREFECT_SERVER_DATABASE_DRIVER must be postgresql+asyncpg" in result["msg"]
    assert run(run_module, environment_file=str(file))["changed"]
    assert "No such file" in run(run_module, environment_file=str(tmp_path / "gone"))["msg"]


class Command:
    """What the module runs when it upgrades."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.ended = Finished(0, "Running upgrade migrations ...\n")
        self.came_to: list[Finished] = []

    def __call__(self, argv: Any, timeout: float, **options: Any) -> Finished:
        self.seen.append({"argv": argv, "timeout": timeout, "files": list(Path(options["cwd"]).iterdir()), **options})
        return self.ended


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    command = Command()

    def migrate(self: Migration) -> Report:
        command.came_to.append(self.command(30))
        return DONE

    monkeypatch.setattr(prefect_migration, "run", command)
    monkeypatch.setattr(Migration, "run", migrate)
    return command


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({}, ["upgrade", "b"]),
        ({"revision": "a"}, ["upgrade", "a"]),
        ({"revision": "a", "state": "downgraded"}, ["downgrade", "a"]),
        ({"revision_of": "/opt/old", "state": "downgraded"}, ["downgrade", "a"]),
    ],
)
def test_the_command(run_module: Any, command: Command, options: Any, way: list[str]) -> None:
    assert not run(run_module, **options).get("warnings")
    upgrade = command.seen[0]
    assert upgrade["argv"] == ["/opt/r/bin/python", "-c", prefect_migration.COMMAND, *way]
    assert (upgrade["timeout"], upgrade["files"], Path(upgrade["cwd"]).exists()) == (30, [], False)
    environment = upgrade["env"]
    assert environment["PREFECT_SERVER_DATABASE_MIGRATE_ON_START"] == "false"
    assert environment["PREFECT_HOME"] == upgrade["cwd"]
    assert "PREFECT_LEFT_OUT" not in environment


def test_the_command_is_python() -> None:
    compile(prefect_migration.COMMAND, "command", "exec")


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Links to what servers run: the release itself, another one, and nothing."""
    release = tmp_path / "r"
    release.mkdir()
    monkeypatch.setattr(prefect_migration, "load_release", lambda _: Release(str(release), "3.8.8", RELEASE.revisions))
    for name, target in (("this", release), ("another", tmp_path / "old"), ("nothing", tmp_path / "gone")):
        (tmp_path / name).symlink_to(target)
    return {name: str(tmp_path / name) for name in ("this", "another", "nothing")}


@pytest.mark.parametrize(
    ("current", "state", "report", "registered"),
    [
        ("this", "upgraded", THERE, False),
        ("another", "upgraded", THERE, True),
        ("nothing", "upgraded", THERE, True),
        ("another", "upgraded", DONE, False),  # it was part of the upgrade
        ("another", "awaited", THERE, False),
        (None, "upgraded", THERE, False),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_block_types_are_registered_for_a_release_that_is_new_to_the_servers(
    *,
    run_module: Any,
    act: Any,
    monkeypatch: pytest.MonkeyPatch,
    links: dict[str, str],
    check: bool,
    current: str | None,
    state: str,
    report: Report,
    registered: bool,
) -> None:
    command = Command()
    monkeypatch.setattr(prefect_migration, "run", command)
    act["report"] = act["run"] = act["wait"] = report
    result = run(run_module, check=check, state=state, **({"current": links[current]} if current else {}))
    assert (result["registered"], result["changed"]) == (registered, registered or report.changed)
    assert [each["argv"][-2:] for each in command.seen] == ([["register", "b"]] if registered and not check else [])


@pytest.mark.parametrize(("timed_out", "why"), [(False, "exit code 1"), (True, "it took too long")])
def test_block_types_that_cannot_be_registered(
    *, run_module: Any, act: Any, monkeypatch: pytest.MonkeyPatch, links: dict[str, str], timed_out: bool, why: str
) -> None:
    command = Command()
    command.ended = Finished(1, f"Traceback\nboom: {PASSWORD}", timed_out)
    monkeypatch.setattr(prefect_migration, "run", command)
    act["run"] = THERE
    result = run(run_module, current=links["another"])
    assert result["failed"]
    assert why in result["msg"] and "boom" in result["msg"]


def test_a_migration_that_fails_is_one(run_module: Any, command: Command) -> None:
    command.ended = Finished(1, "Running upgrade migrations ...\nboom")
    assert not run(run_module).get("warnings")
    assert command.came_to == [command.ended]
