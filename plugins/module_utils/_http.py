# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0
"""One HTTP request, bounded as a whole (the standard library bounds each read only), through no proxy."""

from __future__ import annotations

import base64
import http.client
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._net import (
    Deadline,
    NetError,
    OpenStream,
    Stream,
    open_stream,
    tls_context,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._urls import host_and_port

_LARGEST_BODY = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes = b""

    def json(self) -> Any:
        """The body's value; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def summary(self, length: int = 200) -> str:
        """Status and the beginning of the body, on one line."""
        shown = " ".join(self.body.decode("utf-8", "replace").split())
        return f"HTTP {self.status}" + (f" {shown[:length]}{'...' if len(shown) > length else ''}" if shown else "")


@dataclass(frozen=True)
class Request:
    """A request. ``tls`` is as in :func:`tls_context`; only ``https`` URLs use it."""

    url: str
    method: str = "GET"
    auth_string: str = ""
    body: Any = None
    tls: Mapping[str, Any] | None = None


def fetch(request: Request, timeout: float, connect: OpenStream = open_stream) -> Answer:
    """Sends the request and reads the answer, all within ``timeout`` seconds.

    Raises:
        NetError: no answer that is HTTP; the message completes "URL ...".
        ValueError: the URL is not one.
    """
    deadline = Deadline(timeout)
    parts = urlsplit(request.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{request.url!r} is not an http:// or https:// URL")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    stream = connect(parts.hostname, port, deadline)
    try:
        if parts.scheme == "https":
            context = tls_context({"enabled": True, **(request.tls or {})})
            stream.start_tls(context, parts.hostname)  # type: ignore[arg-type]  # enabled, so never None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        stream.send(_message(request, host_and_port(parts.hostname, port), target))
        return _read(stream)
    finally:
        stream.close()


def _message(request: Request, host: str, target: str) -> bytes:
    headers = {"Host": host, "Connection": "close", "Accept": "application/json", "User-Agent": "selfhosted.prefect"}
    body = b""
    if request.body is not None:
        body = json.dumps(request.body).encode()
        headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(body))
    if request.auth_string:
        headers["Authorization"] = "Basic " + base64.b64encode(request.auth_string.encode()).decode()
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Readable(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._rest or self._stream.read_some()
        size = min(len(data), len(buffer))
        buffer[:size], self._rest = data[:size], data[size:]
        return size


class _Socket:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Readable(self._stream))


def _read(stream: Stream) -> Answer:
    response = http.client.HTTPResponse(_Socket(stream))  # type: ignore[arg-type]  # only makefile() is used
    try:
        response.begin()
        return Answer(response.status, response.read(_LARGEST_BODY))
    except (http.client.HTTPException, ValueError) as error:
        raise NetError(f"did not answer in HTTP ({type(error).__name__})") from error
