# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where Prefect's own settings say that its database is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import port_number

_ARGUMENTS = "SQLALCHEMY_CONNECT_ARGS_"
# By a URL's ?ssl=. Our own client verifies whatever it uses, and uses no TLS unless it is asked to.
_SSL_MODES: dict[str, dict[str, Any]] = {
    "disable": {"enabled": False},
    "allow": {},
    "prefer": {},
    "require": {"enabled": True},
    "verify-ca": {"enabled": True, "check_hostname": False},
    "verify-full": {"enabled": True},
    "true": {"enabled": True},
}


def database_parts(environment: Mapping[str, str]) -> dict[str, Any]:
    """The parts that :func:`connect_postgres` takes, and ``options`` (server settings), from ``PREFECT_SERVER_DATABASE_*``.

    As in Prefect a URL wins over the parts, and the names that begin with ``PREFECT_API_DATABASE_`` count, too.

    Raises ValueError if the settings do not name a PostgreSQL database. The message never holds a value that may be secret.
    """
    url = _setting(environment, "CONNECTION_URL")
    parts = (
        _from_url(url.replace("${PREFECT_API_DATABASE_PASSWORD}", _setting(environment, "PASSWORD"))) if url else _from_parts(environment)
    )
    tls = _tls(environment)
    path = _setting(environment, f"{_ARGUMENTS}SEARCH_PATH")
    return {**parts, **({"tls": tls} if tls else {}), "options": {"search_path": path} if path else {}}


def _setting(environment: Mapping[str, str], name: str) -> str:
    return environment.get(f"PREFECT_SERVER_DATABASE_{name}") or environment.get(f"PREFECT_API_DATABASE_{name}") or ""


def _from_parts(environment: Mapping[str, str]) -> dict[str, Any]:
    driver = _setting(environment, "DRIVER")
    if not driver.startswith("postgresql"):
        why = f"it is {driver!r}" if driver else "it is missing"
        raise ValueError(f"PREFECT_SERVER_DATABASE_DRIVER must be postgresql+asyncpg, but {why} (Prefect then uses SQLite)")
    for name in ("HOST", "NAME", "USER"):
        if not _setting(environment, name):
            raise ValueError(f"PREFECT_SERVER_DATABASE_{name} is missing")
    return {
        "host": _setting(environment, "HOST"),
        "port": port_number(_setting(environment, "PORT") or 5432, "PREFECT_SERVER_DATABASE_PORT"),
        "user": _setting(environment, "USER"),
        "password": _setting(environment, "PASSWORD"),
        "dbname": _setting(environment, "NAME"),
    }


def _from_url(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        raise ValueError("PREFECT_SERVER_DATABASE_CONNECTION_URL is not a URL of one host") from None
    if not parts.scheme.startswith("postgresql"):
        raise ValueError(f"PREFECT_SERVER_DATABASE_CONNECTION_URL must begin with postgresql+asyncpg://, not {parts.scheme}://")
    if not parts.hostname or not parts.username or not parts.path.strip("/"):
        raise ValueError("PREFECT_SERVER_DATABASE_CONNECTION_URL must name a host, a user and a database")
    mode = parse_qs(parts.query).get("ssl", ["prefer"])[-1].lower()
    if mode not in _SSL_MODES:
        raise ValueError(f"PREFECT_SERVER_DATABASE_CONNECTION_URL asks for ssl={mode}; known: {', '.join(_SSL_MODES)}")
    return {
        "host": parts.hostname,
        "port": port,
        "user": unquote(parts.username),
        "password": unquote(parts.password or ""),
        "dbname": unquote(parts.path.lstrip("/")),
        "tls": _SSL_MODES[mode],
    }


def _tls(environment: Mapping[str, str]) -> dict[str, Any]:
    def option(name: str) -> str:
        return _setting(environment, f"{_ARGUMENTS}TLS_{name}")

    if not _true(option("ENABLED")):
        return {}
    files = {name.lower(): option(name) for name in ("CA_FILE", "CERT_FILE", "KEY_FILE")}
    return {
        "enabled": True,
        "check_hostname": _true(option("CHECK_HOSTNAME") or "true"),
        **{key: path for key, path in files.items() if path},
    }


def _true(value: str) -> bool:
    return value.strip().lower() in ("1", "true", "yes", "on", "t", "y")
