"""The program that units run before they start Prefect."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import time
from pathlib import Path
from types import ModuleType

import pytest


def load() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files" / "await_state.py"
    spec = importlib.util.spec_from_file_location("await_state", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


await_state = load()

ENVIRONMENT = {
    "PREFECT_SERVER_DATABASE_HOST": "db",
    "PREFECT_SERVER_DATABASE_PASSWORD": "p@ss",
    "PREFECT_SERVER_DOCKET_URL": "redis://prefect:r%40s@cache:6380/1",
}


async def answers(_environment: object) -> None:
    return None


async def hangs(_environment: object) -> None:
    await asyncio.sleep(60)


async def refuses(_environment: object) -> None:
    raise ConnectionRefusedError("refused p@ss,\n r@s or r%40s")


def run(limit: float, **probes: object) -> int:
    return int(asyncio.run(await_state.main(ENVIRONMENT, limit, probes)))


def test_ready_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(60, PostgreSQL=answers, Redis=answers) == 0
    assert capsys.readouterr() == ("", "")


def test_waits_for_the_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(await_state, "PAUSE", 0.01)
    attempts = iter([refuses, refuses, answers])

    async def later(environment: object) -> None:
        await next(attempts)(environment)

    assert run(5, PostgreSQL=answers, Redis=later) == 0


def test_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(await_state, "ATTEMPT", 0.1)
    monkeypatch.setattr(await_state, "PAUSE", 0.01)
    started = time.monotonic()
    assert run(0.3, PostgreSQL=hangs, Redis=refuses) == 1
    assert time.monotonic() - started < 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "waited 0.3 s: PostgreSQL at db:5432 is not ready: no answer within 0.1 s; "
        "Redis at cache:6380 is not ready: refused ********, ******** or ********\n"
    )


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, None),
        ({"ENABLED": "false"}, None),
        ({"ENABLED": "true"}, (True, ssl.CERT_REQUIRED)),
        ({"ENABLED": "true", "CHECK_HOSTNAME": "false"}, (False, ssl.CERT_REQUIRED)),
    ],
)
def test_tls(settings: dict[str, str], wanted: tuple[bool, ssl.VerifyMode] | None) -> None:
    context = await_state.tls_context({f"{await_state.TLS}{name}": value for name, value in settings.items()})
    assert (context and (context.check_hostname, context.verify_mode)) == wanted
