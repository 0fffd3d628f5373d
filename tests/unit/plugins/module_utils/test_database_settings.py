from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.settings import database_parts

PARTS = {
    "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
    "PREFECT_SERVER_DATABASE_HOST": "db",
    "PREFECT_SERVER_DATABASE_NAME": "prefect",
    "PREFECT_SERVER_DATABASE_USER": "me",
    "PREFECT_SERVER_DATABASE_PASSWORD": "p@:/ w",
}
FOUND = {"host": "db", "port": 5432, "user": "me", "password": "p@:/ w", "dbname": "prefect", "options": {}}
URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
TLS = "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_"


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        (PARTS, FOUND),
        ({name.replace("SERVER", "API"): value for name, value in PARTS.items()}, FOUND),
        ({**PARTS, "PREFECT_SERVER_DATABASE_PORT": "6432"}, {**FOUND, "port": 6432}),
        (
            {**PARTS, "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_SEARCH_PATH": "app, public"},
            {**FOUND, "options": {"search_path": "app, public"}},
        ),
        (
            {**PARTS, f"{TLS}ENABLED": "true", f"{TLS}CA_FILE": "/ca.pem"},
            {**FOUND, "tls": {"enabled": True, "check_hostname": True, "ca_file": "/ca.pem"}},
        ),
        (
            {**PARTS, f"{TLS}ENABLED": "1", f"{TLS}CHECK_HOSTNAME": "false"},
            {**FOUND, "tls": {"enabled": True, "check_hostname": False}},
        ),
        ({**PARTS, f"{TLS}ENABLED": "false", f"{TLS}CA_FILE": "/ca.pem"}, FOUND),
        ({URL: "postgresql+asyncpg://me:p%40%3A%2F%20w@db/prefect"}, {**FOUND, "tls": {}}),
        (
            {**PARTS, URL: "postgresql+asyncpg://u:p@[::1]:1/x%20y?ssl=require"},
            {
                "host": "::1",
                "port": 1,
                "user": "u",
                "password": "p",
                "dbname": "x y",
                "options": {},
                "tls": {"enabled": True},
            },
        ),
    ],
)
def test_parts(environment: Any, parts: Any) -> None:
    assert database_parts(environment) == parts


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "PREFECT_SERVER_DATABASE_DRIVER must be postgresql.asyncpg, but it is missing"),
        ({"PREFECT_SERVER_DATABASE_DRIVER": "sqlite+aiosqlite"}, "but it is 'sqlite.aiosqlite'"),
        ({**PARTS, "PREFECT_SERVER_DATABASE_HOST": ""}, "PREFECT_SERVER_DATABASE_HOST is missing"),
        ({**PARTS, "PREFECT_SERVER_DATABASE_PORT": "x"}, "PREFECT_SERVER_DATABASE_PORT must be a whole number"),
        ({URL: "sqlite+aiosqlite:////secret.db"}, "must begin with postgresql.asyncpg://, not sqlite.aiosqlite://"),
        ({URL: "postgresql+asyncpg://u:secret@h:x/d"}, "is not a URL of one host"),
        ({URL: "postgresql+asyncpg://u:secret@h"}, "must name a host, a user and a database"),
        ({URL: "postgresql+asyncpg://u:secret@h/d?ssl=maybe"}, "asks for ssl=maybe"),
    ],
)
def test_refusals(environment: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        database_parts(environment)
    assert "secret" not in str(caught.value)
