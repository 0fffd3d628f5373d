from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.urls import database_url, host_and_port, redis_url

AWKWARD = "@ : / % # ? $ ' \" \\ é +&="


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"host": "r"}, "redis://r:6379/0"),
        ({"host": "r", "port": "6380", "db": "1"}, "redis://r:6380/1"),
        ({"host": "r", "port": "", "db": None}, "redis://r:6379/0"),
        ({"host": "r", "password": "p"}, "redis://:p@r:6379/0"),
        ({"host": "r", "username": "u", "password": ""}, "redis://u@r:6379/0"),
        ({"host": "r", "username": "u", "password": "a@b:c/d%e"}, "redis://u:a%40b%3Ac%2Fd%25e@r:6379/0"),
        ({"host": "fd00::1"}, "redis://[fd00::1]:6379/0"),
        ({"host": "r", "tls": True}, "rediss://r:6379/0"),
        ({"host": "r", "tls": {}}, "redis://r:6379/0"),
        ({"host": "r", "tls": {"enabled": False, "ca_file": "/ca"}}, "redis://r:6379/0"),
        (
            {"host": "r", "tls": {"ca_file": "/my ca", "check_hostname": False}},
            "rediss://r:6379/0?ssl_ca_certs=%2Fmy%20ca&ssl_check_hostname=false",
        ),
    ],
)
def test_redis_url(parts: Any, url: Any) -> None:
    assert redis_url(parts) == url


DATABASE = {"host": "db", "name": "prefect", "user": "prefect"}


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({}, "postgresql+asyncpg://prefect@db:5432/prefect"),
        ({"password": "p@ss"}, "postgresql+asyncpg://prefect:p%40ss@db:5432/prefect"),
        ({"name": "a/b"}, "postgresql+asyncpg://prefect@db:5432/a%2Fb"),
        ({"tls": {"enabled": False}}, "postgresql+asyncpg://prefect@db:5432/prefect"),
        (
            {"tls": True, "driver": "postgresql"},
            "postgresql://prefect@db:5432/prefect?sslmode=verify-full&sslrootcert=%2Fetc%2Fssl%2Fcerts%2Fca-certificates.crt",
        ),
        (
            {"tls": {"ca_file": "/ca", "cert_file": "/c", "key_file": "/k"}, "driver": "postgresql"},
            "postgresql://prefect@db:5432/prefect?sslmode=verify-full&sslrootcert=%2Fca&sslcert=%2Fc&sslkey=%2Fk",
        ),
        (
            {"tls": {"ca_file": "/ca", "check_hostname": False}, "driver": "postgresql"},
            "postgresql://prefect@db:5432/prefect?sslmode=verify-ca&sslrootcert=%2Fca",
        ),
    ],
)
def test_database_url(parts: Any, url: Any) -> None:
    assert database_url({**DATABASE, **parts}) == url


@pytest.mark.parametrize("build", [redis_url, lambda parts: database_url({**DATABASE, **parts})])
def test_any_password_survives(build: Any) -> None:
    assert unquote(urlsplit(build({"host": "h", "password": AWKWARD})).password or "") == AWKWARD


@pytest.mark.parametrize(
    ("build", "parts", "message"),
    [
        (redis_url, {}, "host is missing"),
        (redis_url, {"host": ""}, "host is missing"),
        (redis_url, {"host": "a@b"}, "bare name or address"),
        (redis_url, {"host": "r", "port": 0}, "port must be between 1 and 65535, not 0"),
        (redis_url, {"host": "r", "port": "x"}, "port must be a whole number"),
        (redis_url, {"host": "r", "db": -1}, "db must be at least 0"),
        (redis_url, {"host": "r", "pasword": "x"}, "pasword is not a part of this URL"),
        (redis_url, {"host": "r", "tls": {"ca": "x"}}, "tls.ca is not a part of this URL"),
        (database_url, {**DATABASE, "user": ""}, "user is missing"),
        (database_url, {**DATABASE, "name": None}, "name is missing"),
        (database_url, {**DATABASE, "tls": {"ca_file": "/ca"}}, "cannot be put in a URL for postgresql\\+asyncpg"),
        (database_url, {**DATABASE, "tls": True}, "cannot be put in a URL for postgresql\\+asyncpg, and be verified"),
    ],
)
def test_refusals(build: Any, parts: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        build(parts)


@pytest.mark.parametrize(("host", "shown"), [("h", "h:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")])
def test_host_and_port(host: Any, shown: Any) -> None:
    assert host_and_port(host, 1) == shown
