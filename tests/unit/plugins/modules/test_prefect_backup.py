from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.backup import Backup, BackupError, Origin, Outcome, Source
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.dumps import Dump, DumpError, Manifest
from ansible_collections.selfhosted.prefect.plugins.module_utils._backup.pg_tools import ToolError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_backup

PASSWORD = "s3cret/%"
DATABASE = {"host": "db", "user": "prefect", "password": PASSWORD, "dbname": "app"}
SOURCE = Source("d4a7e1c93f52", "15.18", 9000)
DUMP = Dump("/b/x.dump", Manifest("app", "2026-11-24T08:50:00Z", "d4a7e1c93f52", "3.8.8", "15.18", 5, "ab", 9000, {"public.flow_run": 3}))
STILL = "Dumps that were there are still there."


@pytest.fixture(autouse=True)
def ends(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What planning and taking come to."""
    ends: dict[str, Any] = {
        "plan": Outcome(None, SOURCE, True, "there is none yet"),
        "run": Outcome(DUMP, SOURCE, True, "a new one is taken each time", ("/b/old.dump",)),
    }

    def ending(name: str) -> Any:
        def end(_self: Any) -> Any:
            if isinstance(ends[name], Exception):
                raise ends[name]
            return ends[name]

        return end

    for name in ("plan", "run"):
        monkeypatch.setattr(Backup, name, ending(name))
    return ends


def run(run_module: Any, **options: Any) -> Any:
    result = run_module(prefect_backup.main, **{"database": DATABASE, "directory": "/b", **options})
    assert PASSWORD not in json.dumps(result)
    return result


def test_taken(run_module: Any) -> None:
    result = run(run_module)
    assert (result["changed"], result["path"], result["manifest"]) == (True, "/b/x.dump", "/b/x.dump.json")
    assert (result["tables"], result["removed"], result["database_bytes"]) == ({"public.flow_run": 3}, ["/b/old.dump"], 9000)
    assert result["age"] > 0


def test_kept_because_it_is_new_enough(run_module: Any, ends: Any) -> None:
    ends["run"] = Outcome(DUMP, SOURCE, False, "the newest is 5 s old", damaged=("/b/y.dump is truncated",))
    result = run(run_module, max_age=60)
    assert (result["changed"], result["path"], result["reason"]) == (False, "/b/x.dump", "the newest is 5 s old")
    assert result["warnings"] == ["A dump is damaged and was passed over: /b/y.dump is truncated"]


def test_check_mode(run_module: Any, ends: Any) -> None:
    ends["run"] = AssertionError("something was done")
    result = run(run_module, check=True)
    assert (result["changed"], result["path"], result["revision"]) == (True, "", "d4a7e1c93f52")


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (BackupError("/b has 1 bytes free"), f"No backup: /b has 1 bytes free. {STILL}"),
        (DumpError("another backup"), f"No backup: another backup. {STILL}"),
        (ToolError(f"the dump failed: {PASSWORD}"), f"No backup: the dump failed: ********. {STILL}"),
        (NetError("refused the connection"), f"No backup: PostgreSQL at db:5432 refused the connection. {STILL}"),
        (PostgresError("no", "28P01"), f"No backup: PostgreSQL at db:5432 refuses the password of user prefect. {STILL}"),
        (FileNotFoundError(2, "No such file or directory", "/b/.lock"), f"No backup: /b/.lock: No such file or directory. {STILL}"),
    ],
)
def test_failures(run_module: Any, ends: Any, end: Exception, message: str) -> None:
    ends["run"] = end
    result = run(run_module)
    assert result["failed"] and result["msg"] == message


def test_keeping_none(run_module: Any) -> None:
    assert "keep is 0; it has to be 1 or more" in run(run_module, keep=0)["msg"]


MEMBERS = {"db1": "192.0.2.1", "db2": "[2001:db8::2]", "db3": "no-such-host.invalid"}


@pytest.mark.parametrize(
    ("origin", "server", "role", "warnings"),
    [
        (Origin("2001:db8::2", True), "db2", "replica", []),
        (
            Origin("192.0.2.1", False, f"the dump failed: {PASSWORD}"),
            "db1",
            "primary",
            ["The primary is dumped, as no replica could be: the dump failed: ********"],
        ),
        (Origin("192.0.2.9", True), "192.0.2.9", "replica", []),
    ],
)
def test_which_server_of_a_cluster(run_module: Any, ends: Any, *, origin: Origin, server: str, role: str, warnings: list[str]) -> None:
    ends["run"] = Outcome(DUMP, SOURCE, True, "a new one is taken each time", origin=origin)
    result = run(run_module, replica_port=5001, members=MEMBERS)
    assert (result["server"], result["role"], result.get("warnings", [])) == (server, role, warnings)


def test_without_a_cluster_no_server_is_named(run_module: Any) -> None:
    assert "server" not in run(run_module)
