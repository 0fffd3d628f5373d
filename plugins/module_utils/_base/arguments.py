# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Arguments that several modules take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TLS: dict[str, Any] = {
    "enabled": {"type": "bool"},
    "ca_file": {"type": "path"},
    "cert_file": {"type": "path"},
    "key_file": {"type": "path", "no_log": False},
    "check_hostname": {"type": "bool"},
}
"""None has a default, so that an empty mapping, which is what no TLS looks like in variables, stays empty."""

DATABASE: dict[str, Any] = {
    "type": "dict",
    "options": {
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "default": 5432},
        "user": {"type": "str", "required": True},
        "password": {"type": "str", "no_log": True},
        "dbname": {"type": "str", "required": True},
        "tls": {"type": "dict", "options": TLS},
    },
}
"""What the documentation fragment ``connections.database`` describes."""

REDIS: dict[str, Any] = {
    "type": "dict",
    "options": {
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "default": 6379},
        "username": {"type": "str", "default": ""},
        "password": {"type": "str", "default": "", "no_log": True},
        "db": {"type": "int", "default": 1},
        "tls": {"type": "dict", "options": TLS},
    },
}
"""What the documentation fragment ``connections.redis`` describes."""

REDIS_CLIENT: dict[str, Any] = {"ca_file": {"type": "path"}, "client": {"type": "str", "default": "redis-cli"}}
REDIS_SERVER: dict[str, Any] = {
    "host": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 6379},
    # A path, and no secret.
    "secret": {"type": "path", "required": True, "no_log": False},
    "username": {"type": "str", "default": "selfhosted-prefect"},
}
REDIS_MASTER: dict[str, Any] = {"name": {"type": "str", "default": "prefect"}, "tls": {"type": "bool", "default": True}}
REDIS_SENTINEL: dict[str, Any] = {
    "sentinel_port": {"type": "int", "default": 26379},
    "sentinel_username": {"type": "str", "default": "sentinel"},
}
"""What the documentation fragment ``redis_cluster`` describes, each in a part of its own."""


def given(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that are set."""
    return {name: value for name, value in (options or {}).items() if value is not None}


def connection(options: Mapping[str, Any]) -> dict[str, Any]:
    """A database or a Redis from a module's options, with the TLS settings that are set."""
    return {**options, "tls": given(options.get("tls"))}
