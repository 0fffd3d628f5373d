"""The program that units run before they start Prefect."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest
from selfhosted_prefect import await_state
from selfhosted_prefect.connections import tls_context
from selfhosted_prefect.settings import TLS, Settings

ENVIRONMENT = {
    "PREFECT_SERVER_DATABASE_HOST": "db",
    "PREFECT_SERVER_DATABASE_USER": "prefect",
    "PREFECT_SERVER_DATABASE_PASSWORD": "p@ss",
    "PREFECT_SERVER_DATABASE_NAME": "prefect",
    "PREFECT_SERVER_DOCKET_URL": "redis://prefect:r%40s@cache:6380/1",
}


async def answers(_settings: Settings) -> None:
    return None


async def hangs(_settings: Settings) -> None:
    await asyncio.sleep(60)


async def refuses(_settings: Settings) -> None:
    raise ConnectionRefusedError("refused p@ss,\n r@s or r%40s")


def run(limit: float, **probes: await_state.Probe) -> int:
    return await_state.main([str(limit)], Settings(ENVIRONMENT), probes)


def test_ready_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(60, PostgreSQL=answers, Redis=answers) == 0
    assert capsys.readouterr() == ("", "")


def test_waits_for_the_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(await_state, "PAUSE", 0.01)
    attempts = iter([refuses, refuses, answers])

    async def later(settings: Settings) -> None:
        await next(attempts)(settings)

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
    context = tls_context(Settings({f"{TLS}{name}": value for name, value in settings.items()}))
    assert (context and (context.check_hostname, context.verify_mode)) == wanted
