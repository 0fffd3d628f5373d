# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""Just enough of Redis's protocol (RESP2) to ask a server how it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from ansible_collections.selfhosted.prefect.plugins.module_utils._net import (
    Deadline,
    NetError,
    OpenStream,
    Stream,
    open_stream,
    tls_context,
)

Reply = Union[str, int, None, list[Any]]


class RedisError(Exception):
    """The server answered with an error; the message is its own (``WRONGPASS ...``)."""


class Redis:
    """A connection that has logged in."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def call(self, *words: str | int) -> Reply:
        """Sends one command and returns its reply.

        Raises:
            RedisError: the server refuses it.
            NetError: no reply.
        """
        encoded = [str(word).encode() for word in words]
        self._stream.send(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        return self._reply()

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO as names and values."""
        reply = self.call("INFO", section)
        return dict(line.split(":", 1) for line in str(reply).splitlines() if ":" in line)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Redis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reply(self) -> Reply:
        line = self._stream.read_line().decode("utf-8", "replace")
        kind, rest = line[:1], line[1:]
        if kind == "+":
            return rest
        if kind == "-":
            raise RedisError(rest)
        try:
            number = int(rest)
        except ValueError:
            kind = ""
        if kind == ":":
            return number
        if kind == "$":
            return None if number < 0 else self._stream.read(number + 2)[:-2].decode("utf-8", "replace")
        if kind == "*":
            return None if number < 0 else [self._reply() for _item in range(number)]
        raise NetError("did not answer as Redis does")


def connect_redis(parts: Mapping[str, Any], timeout: float, connect: OpenStream = open_stream, db: int | None = None) -> Redis:
    """Connects, logs in and selects the database.

    Keys of ``parts``: ``host``, ``port``, ``username``, ``password``, ``db``, ``tls`` (as in :func:`tls_context`).
    The timeout, in seconds, bounds everything done over this connection.

    Raises:
        RedisError: the login or the database is refused.
        NetError: the server cannot be reached.
    """
    stream = connect(parts["host"], int(parts.get("port") or 6379), Deadline(timeout))
    redis = Redis(stream)
    try:
        context = tls_context(parts.get("tls") or {})
        if context:
            stream.start_tls(context, parts["host"])
        if parts.get("password"):
            redis.call("AUTH", *([parts["username"]] if parts.get("username") else []), parts["password"])
        number = int(parts.get("db") or 0) if db is None else db
        if number:
            redis.call("SELECT", number)
    except BaseException:
        redis.close()
        raise
    return redis
