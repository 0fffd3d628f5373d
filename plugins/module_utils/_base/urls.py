# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""URLs from parts. Whatever needs percent-encoding gets it here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import port_number, setting, text, whole_number

_REDIS_TLS = {
    "ca_file": "ssl_ca_certs",
    "cert_file": "ssl_certfile",
    "key_file": "ssl_keyfile",
    "check_hostname": "ssl_check_hostname",
}
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""Those of the system, which libpq has to be told of: by itself it looks for a file in the home folder."""
_LIBPQ_TLS = {"ca_file": "sslrootcert", "cert_file": "sslcert", "key_file": "sslkey"}


def redis_url(parts: Mapping[str, Any]) -> str:
    """As redis-py reads it; the filter's documentation has the parts. Raises ValueError if one is unknown, missing or out of range."""
    _known(parts, {"host", "port", "db", "username", "password", "tls"})
    enabled, tls = _tls(parts.get("tls"))
    query = _query({option: tls[key] for key, option in _REDIS_TLS.items() if tls.get(key) is not None}) if enabled else ""
    database = whole_number(_or_default(parts, "db", 0), "db")
    return f"{'rediss' if enabled else 'redis'}://{_authority(parts, 'username', 6379)}/{database}{query}"


def database_url(parts: Mapping[str, Any]) -> str:
    """For SQLAlchemy's asyncpg driver unless ``driver`` says otherwise; the filter's documentation has the parts.

    Raises ValueError if a part is unknown, missing, out of range or impossible with this driver.
    """
    _known(parts, {"host", "port", "name", "user", "password", "driver", "tls"})
    driver = text(_or_default(parts, "driver", "postgresql+asyncpg"))
    for required in ("name", "user"):
        if not text(parts.get(required)):
            raise ValueError(f"{required} is missing")
    query = _database_tls(driver, parts.get("tls"))
    return f"{driver}://{_authority(parts, 'user', 5432)}/{_encoded(parts['name'])}{query}"


def host_and_port(host: Any, port: Any) -> str:
    """``host:port``, an IPv6 address in brackets."""
    name = text(host)
    return f"[{name}]:{port}" if ":" in name and not name.startswith("[") else f"{name}:{port}"


def _database_tls(driver: str, option: Any) -> str:
    enabled, tls = _tls(option)
    if not enabled:
        return ""
    if driver != "postgresql":
        # Without the authorities beside it, asyncpg looks for them in a file of the home folder, or verifies nothing.
        raise ValueError(f"tls cannot be put in a URL for {driver}, and be verified: use Prefect's separate TLS settings instead")
    mode = "verify-full" if tls.get("check_hostname", True) else "verify-ca"
    files = {"ca_file": AUTHORITIES, **{key: tls[key] for key in _LIBPQ_TLS if tls.get(key)}}
    return _query({"sslmode": mode, **{_LIBPQ_TLS[key]: path for key, path in files.items()}})


def _authority(parts: Mapping[str, Any], user_key: str, default_port: int) -> str:
    host = text(parts.get("host"))
    if not host:
        raise ValueError("host is missing")
    if any(char in host for char in "/@?# "):
        raise ValueError(f"host must be a bare name or address, not {host!r}")
    user, password = _encoded(parts.get(user_key)), _encoded(parts.get("password"))
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    return login + host_and_port(host, port_number(_or_default(parts, "port", default_port)))


def _tls(option: Any) -> tuple[bool, Mapping[str, Any]]:
    if isinstance(option, Mapping):
        _known(option, {"enabled", "ca_file", "cert_file", "key_file", "check_hostname"}, "tls.")
        return bool(option) and bool(option.get("enabled", True)), option
    return bool(option), {}


def _known(parts: Mapping[str, Any], names: set[str], prefix: str = "") -> None:
    unknown = sorted(text(name) for name in parts if name not in names)
    if unknown:
        raise ValueError(f"{prefix}{unknown[0]} is not a part of this URL; known: {', '.join(sorted(names))}")


def _or_default(parts: Mapping[str, Any], key: str, default: Any) -> Any:
    value = parts.get(key)
    return default if value is None or value == "" else value


def _encoded(value: Any) -> str:
    return quote(text(value), safe="")


def _query(options: Mapping[str, Any]) -> str:
    return "?" + urlencode({key: setting(value) for key, value in options.items()}, quote_via=quote) if options else ""
