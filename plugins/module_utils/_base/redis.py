# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""A connection to Redis, over redis-py's own, without the pools, retries and parsing that its clients add."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Union

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import MissingLibraryError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import (
    Deadline,
    NetError,
    describe,
    no_answer,
    resolve,
    tls_context,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

try:
    import redis
except ImportError:  # connect_redis says so
    redis = None  # type: ignore[assignment]

Reply = Union[str, int, None, list[Any]]


class RedisError(Exception):
    """The server answered with an error; the message is its own (``WRONGPASS ...``)."""


class Redis:
    """A connection that has logged in. Each reply is waited for as long as the connection was."""

    def __init__(self, connection: Any, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def call(self, *words: str | int) -> Reply:
        """Sends one command and returns its reply. Raises RedisError if the server refuses it, and NetError if there is no reply."""
        reply: Reply = _explained(lambda: self._call(*words), self._deadline)
        return reply

    def _call(self, *words: str | int) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO as names and values."""
        reply = self.call("INFO", section)
        return dict(line.split(":", 1) for line in str(reply).splitlines() if ":" in line)

    def close(self) -> None:
        self._connection.disconnect()

    def __enter__(self) -> Redis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect_redis(parts: Mapping[str, Any], timeout: float, db: int | None = None) -> Redis:
    """Connects, logs in and selects the database, within ``timeout`` seconds each.

    Keys of ``parts``: ``host``, ``port``, ``username``, ``password``, ``db``, ``tls`` (as in :func:`tls_context`).

    Raises RedisError if the login or the database is refused, and NetError if the server cannot be reached.
    """
    if redis is None:
        raise MissingLibraryError("redis")
    deadline = Deadline(timeout)
    resolve(parts["host"], deadline)
    options = {
        "host": parts["host"],
        "port": int(parts.get("port") or 6379),
        "username": (parts.get("username") or None) if parts.get("password") else None,
        "password": parts.get("password") or None,
        "db": int(parts.get("db") or 0) if db is None else db,
        "socket_timeout": timeout,
        "socket_keepalive": True,
        "encoding_errors": "replace",
        "decode_responses": True,
        "protocol": 2,
    }
    tls = parts.get("tls") or {}
    kind: Any = redis.SSLConnection if tls_context(tls) else redis.Connection
    connection = kind(**options, **(_tls(tls) if kind is redis.SSLConnection else {}))
    _explained(connection.connect, deadline)
    return Redis(connection, deadline)


def _tls(options: Mapping[str, Any]) -> dict[str, Any]:
    """As redis-py names them. The files have been read already, by :func:`tls_context`."""
    files = {"ssl_ca_certs": "ca_file", "ssl_certfile": "cert_file", "ssl_keyfile": "key_file"}
    return {
        **{name: text(options[key]) for name, key in files.items() if options.get(key)},
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": bool(options.get("check_hostname", True)),
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def _explained(work: Callable[[], Any], deadline: Deadline) -> Any:
    try:
        return work()
    except redis.exceptions.TimeoutError as error:
        raise NetError(no_answer(deadline)) from error
    except (redis.exceptions.InvalidResponse, ValueError) as error:
        raise NetError("did not answer as Redis does") from error
    except redis.exceptions.RedisError as error:
        # What the server says begins with a code, which redis-py takes off where it knows it.
        code = getattr(error, "status_code", None)
        if code or isinstance(error, redis.exceptions.ResponseError):
            raise RedisError(f"{code} {error}" if code else str(error)) from error
        cause = error.__cause__ or error.__context__
        raise NetError(describe(cause, deadline) if cause else "closed the connection before it had answered") from error
    except OSError as error:
        raise NetError(describe(error, deadline)) from error
