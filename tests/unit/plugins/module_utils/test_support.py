# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import format_environment
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import MASK
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import RedisError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.support import (
    Machine,
    Wanted,
    database_text,
    host_texts,
    redis_text,
)

NASTY = "@:/%#?$'\"\\` end"
DATABASE = f"dbPassw0rdXY{NASTY}"
REDIS = f"redisPassw0rd{NASTY}"
AUTH = f"apiPassw0rdZZ{NASTY}"
OLD = f"olderPassw0rd{NASTY}"  # only on the host, not in the inventory any more
ALL = {"database": DATABASE, "redis": REDIS, "auth": AUTH, "old": OLD}
ENVIRONMENT = format_environment(
    {
        "PREFECT_SERVER_DATABASE_PASSWORD": DATABASE,
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{AUTH}",
        "PREFECT_SERVER_DOCKET_URL": f"redis://prefect:{quote(REDIS, safe='')}@10.0.0.2:6379/1",
        "PREFECT_SERVER_DATABASE_USER": "prefect",
    }
)


def everything(secret: str) -> str:
    """What programs print, the secret in it in every usual way."""
    login = base64.b64encode(f"admin:{secret}".encode()).decode()
    return "\n".join(
        [
            f"plain {secret} end",
            f"redis://prefect:{quote(secret, safe='')}@10.0.0.2:6379/1",
            json.dumps({"message": secret}),
            json.dumps({"log": json.dumps({"message": secret})}),
            repr({"password": secret, "other": '"'}),
            f'default "Basic {login}";',
            f"Authorization: Basic {login}",
            f"ALTER ROLE prefect PASSWORD '{secret}'",
            f"invalid port: {secret.partition('@')[0]}",
        ]
    )


FILES = {
    "/etc/prefect/prefect.env": ENVIRONMENT,
    "/etc/prefect/before/prefect.env": format_environment({"PREFECT_SERVER_DATABASE_PASSWORD": OLD}),
    "/etc/redis/prefect.conf": f"user prefect on >{REDIS.partition(' ')[0]} ~*\nport 6379\n" + everything(REDIS),
    "/etc/nginx/server.key": "-----BEGIN PRIVATE KEY-----\nMIIsecretkey\n-----END PRIVATE KEY-----\n",
    "/var/log/postgresql/x.log": "\n".join(map(everything, ALL.values())),
    "/opt/prefect/current/requirements.txt": "prefect==3.8.8 \\\n    --hash=sha256:abc\n",
}
WANTED = Wanted(
    units=["prefect-api@*.service", "nginx.service"],
    files=["/etc/redis/prefect.conf", "/etc/nginx/server.key", "/etc/nothing"],
    environment_files=["/etc/prefect/prefect.env", "/etc/prefect/before/prefect.env"],
    logs=["/var/log/postgresql/x.log"],
    release="/opt/prefect/current",
    nginx=True,
    lines=500,
)


def machine(**changes: Any) -> Machine:
    def command(argv: Sequence[str], _timeout: float, **_: Any) -> Finished:
        if argv[0] == "nginx":
            return Finished(1, "cannot load certificate")
        if argv[0] == "ss":
            return Finished(-9, "some", timed_out=True)
        return Finished(0, f"output of {argv[0]}\n" + "\n".join(map(everything, ALL.values())) + "\n" + "x" * 5000)

    def read(path: str, _most: int) -> bytes:
        return FILES[path].encode()

    def find(pattern: str) -> list[str]:
        return [path for path in FILES if path == pattern]

    return Machine(**{"command": command, "read": read, "find": find, **changes})


def leaks(text: str) -> list[str]:
    """The parts of any secret that are in a text: its first characters are in no other word of this test."""
    encoded = [base64.b64encode(f"admin:{secret}".encode()).decode()[8:24] for secret in ALL.values()]
    return [
        word
        for word in [*(secret[:12] for secret in ALL.values()), *encoded, NASTY, quote(NASTY, safe=""), json.dumps(NASTY)[1:-1]]
        if word in text
    ]


def test_no_secret_leaves_the_host() -> None:
    texts = host_texts(WANTED, [DATABASE, REDIS, f"admin:{AUTH}", AUTH], machine())
    assert {
        "system.txt",
        "versions.txt",
        "units.txt",
        "config/nginx-T.txt",
        "config/etc/redis/prefect.conf",
        "config/etc/nginx/server.key",
        "config/etc/prefect/prefect.env",
        "config/etc/prefect/before/prefect.env",
        "log/var/log/postgresql/x.log",
        "journal/prefect-api@_.service.txt",
        "journal/nginx.service.txt",
        "journal/kernel.txt",
    } == set(texts)
    assert {name: leaks(text) for name, text in texts.items() if leaks(text)} == {}
    assert all(MASK in texts[name] for name in ("system.txt", "journal/kernel.txt", "config/etc/prefect/prefect.env"))
    assert "MIIsecretkey" not in "".join(texts.values())
    assert texts["config/etc/prefect/prefect.env"].count("\n") == 4
    assert 'PREFECT_SERVER_DATABASE_USER="prefect"' in texts["config/etc/prefect/prefect.env"]


def test_this_test_would_see_a_leak() -> None:
    assert all(leaks(everything(secret)) for secret in ALL.values())


def test_what_is_wrong_is_said_in_its_place() -> None:
    texts = host_texts(WANTED, [], machine())
    assert "cannot load certificate\n(exit status 1)" in texts["config/nginx-T.txt"]
    assert "(no end within 20 s)" in texts["system.txt"]
    assert "prefect==3.8.8\n" in texts["versions.txt"]
    assert "--hash" not in texts["versions.txt"]
    assert "... (5000 characters)" in texts["units.txt"]
    assert texts["config/etc/nginx/server.key"].startswith("(not read")


def test_a_file_that_cannot_be_read() -> None:
    def refuse(path: str, _most: int) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    texts = host_texts(WANTED, [], machine(read=refuse))
    assert "(/etc/redis/prefect.conf cannot be read: Permission denied)" in texts["config/etc/redis/prefect.conf"]
    assert "cannot be read" in texts["config/etc/prefect/prefect.env"]


def test_settings_that_are_none() -> None:
    content = f'X="line\nbreak"\nPREFECT_API_KEY="{OLD}'
    shown = host_texts(
        Wanted(environment_files=["/e"]), [], machine(read=lambda *_: content.encode(), find=lambda pattern: [pattern] * (pattern == "/e"))
    )
    assert not leaks(shown["config/e"])


def test_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("secret-word first\n" * 200_000 + "last\n")
    shown = host_texts(Wanted(logs=[str(tmp_path / "*.log")], lines=3), ["word"])[f"log{log}"]
    assert shown == f"secret-{MASK} first\nsecret-{MASK} first\nlast\n"


class Session:
    """A database session, or one with Redis, that answers with a function."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.query = self.call = self.execute = answer

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def answering(answer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *_, **__: Session(answer)


def test_database() -> None:
    def answer(sql: str) -> list[tuple[Any, ...]]:
        if "FROM pg_stat_statements" in sql:
            raise PostgresError('relation "pg_stat_statements" does not exist')
        if "pg_blocking_pids" in sql:
            return [(5, "prefect", "active", "Lock: tuple", Decimal("61.0"), Decimal("60.9"), [4], f"ALTER ROLE x PASSWORD\n '{DATABASE}'")]
        return [("a", None, 1, 2, None)] * 60 if "pg_stat_user_tables" in sql else []

    text = database_text({}, [DATABASE], 1, answering(answer))
    assert not leaks(text)
    assert "Lock: tuple" in text
    assert '(not available: relation "pg_stat_statements" does not exist)' in text
    assert "(20 more)" in text
    assert "## Invalid indexes\n\n(none)" in text


def test_database_that_goes_away() -> None:
    def answer(sql: str) -> list[tuple[str, ...]]:
        if "alembic" in sql:
            raise NetError("did not answer within 1 s")
        return [("15.18", "x", "y")]

    text = database_text({}, [], 1, answering(answer))
    assert text.startswith("## Server\n\nVERSION")
    assert "(the database cannot be queried: did not answer within 1 s)" in text


def test_redis() -> None:
    def answer(*words: str | int) -> Any:
        replies: dict[str, Any] = {
            "INFO": f"redis_version:7.0.15\r\nsomething:{REDIS}\r\n",
            "XLEN": 7,
            "ZCARD": 3,
            "XINFO": [["name", "docket-workers", "consumers", 2, "pending", 5, "lag", 1]],
        }
        if words[0] == "SCAN":
            keys = {"stream": ["prefect:stream"], "zset": ["prefect:queue"], "list": []}[str(words[-1])]
            return ["7", keys] if words[1] == "0" else ["0", keys]
        return replies[str(words[0])]

    text = redis_text({}, [0, 1, 0], [REDIS], 1, answering(answer))
    assert not leaks(text)
    assert text.count("## INFO") == 1
    assert text.count("prefect:stream") == 2
    assert "docket-workers: 2 consumers, 5 pending, lag 1" in text


def test_redis_that_refuses() -> None:
    def refuse(*_: Any) -> Any:
        raise RedisError("NOPERM this user has no permissions")

    def unreachable(*_: Any, **__: Any) -> Any:
        raise NetError("refused")

    text = redis_text({}, [0], [], 1, answering(refuse))
    assert "## INFO\n\n(not available: NOPERM" in text
    assert "Redis cannot be queried: NOPERM" in text
    assert "cannot be queried: refused" in redis_text({}, [0], [], 1, unreachable)


def test_only_what_is_wanted_is_queried() -> None:
    assert set(host_texts(Wanted(), [], machine())) == {"system.txt", "versions.txt", "journal/kernel.txt"}


@pytest.mark.parametrize("path", ["/etc/x.pem", "/etc/x.key", "/etc/nginx/prefect.users", "/etc/id_rsa"])
def test_never_read(path: str) -> None:
    def read(path: str, _most: int) -> bytes:
        raise AssertionError(path)

    shown = host_texts(Wanted(files=[path]), [], machine(read=read, find=lambda pattern: [pattern]))
    assert shown[f"config{path}"].startswith("(not read")
