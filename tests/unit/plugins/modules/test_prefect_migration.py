from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._migration import Migration, MigrationError, Report
from ansible_collections.selfhosted.prefect.plugins.module_utils._migrations import Release, ReleaseError, Revision
from ansible_collections.selfhosted.prefect.plugins.module_utils._net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._postgres import PostgresError
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
BEHIND = Report(("a",), ("a",), "b", ("b",), ahead=False)
DONE = Report(("a",), ("b",), "b", (), ahead=False)


@pytest.fixture(autouse=True)
def act(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What looking, working and waiting come to."""
    ends: dict[str, Any] = {"look": BEHIND, "run": DONE, "wait": DONE, "release": RELEASE}

    def ending(name: str) -> Any:
        def end(*_: Any) -> Any:
            if isinstance(ends[name], Exception):
                raise ends[name]
            return ends[name]

        return end

    for name in ("look", "run", "wait"):
        monkeypatch.setattr(Migration, name, ending(name))
    monkeypatch.setattr(prefect_migration, "load_release", ending("release"))
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
    ("name", "end"), [("look", NetError("refused the connection")), ("release", ReleaseError("/opt/r holds no Prefect"))]
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


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the module runs when it upgrades. The upgrade succeeds, what comes after it does not."""
    seen: list[dict[str, Any]] = []

    def command(argv: Any, timeout: float, **options: Any) -> Finished:
        seen.append({"argv": argv, "timeout": timeout, "files": list(Path(options["cwd"]).iterdir()), **options})
        return Finished(1 if "-c" in argv else 0, "the command's output")

    def migrate(self: Migration) -> Report:
        self.upgrade(30)
        return DONE

    monkeypatch.setattr(prefect_migration, "run", command)
    monkeypatch.setattr(Migration, "run", migrate)
    return seen


def test_the_command(run_module: Any, commands: list[dict[str, Any]]) -> None:
    run(run_module, revision="a")
    upgrade = commands[0]
    assert upgrade["argv"] == ["/opt/r/bin/prefect", "server", "database", "upgrade", "-y", "--revision", "a"]
    assert (upgrade["timeout"], upgrade["files"], Path(upgrade["cwd"]).exists()) == (30, [], False)
    environment = upgrade["env"]
    assert environment["PREFECT_SERVER_DATABASE_MIGRATE_ON_START"] == "false"
    assert environment["PREFECT_HOME"] == upgrade["cwd"]
    assert "PREFECT_LEFT_OUT" not in environment


def test_block_types_that_cannot_be_registered_are_no_failure(run_module: Any, commands: list[dict[str, Any]]) -> None:
    result = run(run_module)
    assert [each["argv"][0] for each in commands] == ["/opt/r/bin/prefect", "/opt/r/bin/python"]
    assert commands[1]["timeout"] <= 30
    assert (result["changed"], result.get("failed")) == (True, None)
    assert "the command's output" in result["warnings"][0]
