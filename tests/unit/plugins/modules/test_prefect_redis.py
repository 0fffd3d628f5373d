from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import Client, RedisRefusalError, Server
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import Unit
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_redis as module

OTHER = "it presents another certificate"


class Redis:
    """A server that presents another certificate, and has other users, until it is told; it has run since the second 1000."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.problem, self.refusal = "", ""
        self.told: list[Any] = []
        self.active, self.stale = True, False
        self.files = {name: folder / name for name in ("redis.crt", "prefect.conf", "users.conf", "secret")}
        for file in self.files.values():
            file.write_text("geheim\n")
            os.utime(file, (500, 500))
        monkeypatch.setattr(Server, "problem", lambda _server: self.problem)
        monkeypatch.setattr(Client, "replace", self.replace)
        monkeypatch.setattr(Client, "apply_users", self.apply_users)
        monkeypatch.setattr(module, "units", self.units)

    def units(self, names: list[str], _paths: list[str], _run: Any) -> list[Unit]:
        return [Unit(names[0], True, self.active, "", True, 1000, 1, 0, 0, self.stale)]

    def replace(self, server: Server, key: str) -> None:
        self.told.append((server.port, key))
        self._refuse()
        self.problem = ""

    def apply_users(self, _server: Server, users: Any) -> None:
        self.told.append(users.file)
        self._refuse()

    def _refuse(self) -> None:
        if self.refusal:
            raise RedisRefusalError(self.refusal)

    def write_users(self) -> None:
        now = time.time() - 10
        os.utime(self.files["users.conf"], (now, now))

    def arguments(self, state: str) -> dict[str, Any]:
        names = {"certificate": "redis.crt", "configuration": "prefect.conf", "users": "users.conf", "secret": "secret"}
        return {"state": state, "port": 6380, **{option: str(self.files[name]) for option, name in names.items()}}


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Redis:
    return Redis(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("state", "check", "problem", "written", "refusal", "told", "expected"),
    [
        ("checked", False, "", False, "", "", (False, [], "")),
        ("checked", False, OTHER, True, "", "", (False, ["certificate", "users"], OTHER)),
        ("applied", False, "", False, "", "", (False, [], "")),
        ("applied", False, OTHER, False, "", "c", (True, [], "")),
        ("applied", False, "", True, "", "u", (True, [], "")),
        ("applied", False, OTHER, True, "", "cu", (True, [], "")),
        ("applied", True, OTHER, True, "", "", (True, ["certificate", "users"], OTHER)),
        ("applied", False, OTHER, True, "NOAUTH", "c", (True, ["certificate", "users"], "NOAUTH")),
        ("applied", False, "", True, "NOAUTH", "u", (True, ["users"], "NOAUTH")),
    ],
)
def test_states(
    run_module: Any,
    redis: Redis,
    *,
    state: str,
    check: bool,
    problem: str,
    written: bool,
    refusal: str,
    told: str,
    expected: tuple[bool, list[str], str],
) -> None:
    redis.problem, redis.refusal = problem, refusal
    if written:
        redis.write_users()
    result = run_module(module.main, check, **redis.arguments(state))
    assert (result["changed"], result["pending"], result["problem"]) == expected
    what = {"c": (6380, str(redis.files["redis.crt"]).replace(".crt", ".key")), "u": str(redis.files["users.conf"])}
    assert redis.told == [what[each] for each in told]
    assert result["secret_sha256"] == hashlib.sha256(b"geheim").hexdigest()


def test_users_are_told_once(run_module: Any, redis: Redis) -> None:
    redis.write_users()
    first, second = (run_module(module.main, **redis.arguments("applied")) for _round in range(2))
    assert (first["changed"], second["changed"], len(redis.told)) == (True, False, 1)


def test_a_server_that_does_not_run_reads_everything_when_it_starts(run_module: Any, redis: Redis) -> None:
    redis.active = False
    redis.write_users()
    assert run_module(module.main, **redis.arguments("checked"))["pending"] == []


@pytest.mark.parametrize("stale", [False, True])
def test_a_server_that_has_to_be_restarted(run_module: Any, redis: Redis, stale: bool) -> None:
    redis.stale = stale
    assert run_module(module.main, **redis.arguments("checked"))["stale"] is stale


@pytest.mark.parametrize("check", [False, True])
def test_the_secret_is_made_once(run_module: Any, redis: Redis, check: bool) -> None:
    secret = redis.files["secret"]
    secret.unlink()
    first = run_module(module.main, check, **redis.arguments("checked"))
    assert (first["changed"], secret.exists(), bool(first["secret_sha256"])) == (True, not check, not check)
    second = run_module(module.main, check, **redis.arguments("checked"))
    assert (second["changed"], second["secret_sha256"]) == (check, first["secret_sha256"])
    assert check or secret.read_text().strip() not in str(first)


def test_a_certificate_that_is_not_there_yet(run_module: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_server: Server) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Server, "problem", missing)
    result = run_module(module.main, **redis.arguments("checked"))
    assert (result["pending"], result["problem"]) == (["certificate"], f"there is no {redis.files['redis.crt']} yet")


def test_a_folder_that_is_not_there(run_module: Any, redis: Redis, tmp_path: Path) -> None:
    result = run_module(module.main, **{**redis.arguments("checked"), "secret": str(tmp_path / "no" / "secret")})
    assert result["failed"] and "no/secret cannot be used: No such file or directory" in result["msg"]


@pytest.mark.parametrize(
    ("has", "check", "expected", "changed"),
    [("1", False, [], {}), ("0", False, [], {"min-replicas-to-write": "1"}), ("0", True, ["settings"], {})],
)
def test_settings(
    run_module: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch, *, has: str, check: bool, expected: list[str], changed: dict[str, str]
) -> None:
    now = {"min-replicas-to-write": has}
    seen: dict[str, str] = {}
    monkeypatch.setattr(Client, "settings", lambda _client, _server, _names: dict(now))
    monkeypatch.setattr(Client, "change", lambda _client, _server, values: (seen.update(values), now.update(values)))
    result = run_module(module.main, check, **redis.arguments("applied"), settings={"min-replicas-to-write": 1})
    assert (result["pending"], seen, result["changed"]) == (expected, changed, has == "0")


def test_settings_of_a_server_that_does_not_say(run_module: Any, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RedisRefusalError("NOPERM")

    monkeypatch.setattr(Client, "settings", refuse)
    result = run_module(module.main, **redis.arguments("checked"), settings={"min-replicas-to-write": 1})
    assert (result["pending"], result["problem"]) == (["settings"], "NOPERM")


def test_other_authorities_are_read_with_the_certificate(run_module: Any, redis: Redis) -> None:
    trusted = redis.files["redis.crt"].with_name("ca.crt")
    trusted.write_text("authorities")
    now = time.time() - 10
    os.utime(trusted, (now, now))
    first, second = (run_module(module.main, **redis.arguments("applied"), trusted=str(trusted)) for _round in range(2))
    assert (first["changed"], second["changed"], len(redis.told)) == (True, False, 1)
