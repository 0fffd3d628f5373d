# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""One HTTP request, bounded as a whole, through no proxy. Hosts without a release ask, too, so this is the standard library's client."""

from __future__ import annotations

import base64
import http.client
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import Deadline, NetError, describe, resolve, tls_context, within

_LARGEST_BODY = 1 << 20
_FORBIDDEN = 403


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)  # names in lower case

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
    headers: Mapping[str, str] = field(default_factory=dict)


Fetch = Callable[[Request, float], Answer]
"""As :func:`fetch`; tests put something else in its place."""


def fetch(request: Request, timeout: float) -> Answer:
    """Sends the request and reads the answer, all within ``timeout`` seconds.

    Raises ValueError if the URL is not one, and NetError if there is no answer that is HTTP; the message completes "URL ...".
    """
    deadline = Deadline(timeout)
    parts = urlsplit(request.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{request.url!r} is not an http:// or https:// URL")
    resolve(parts.hostname, deadline)
    if parts.scheme == "https":
        context = tls_context({"enabled": True, **(request.tls or {})})
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        return within(deadline, lambda: _exchange(connection, request, target))
    except OSError as error:
        raise NetError(describe(error, deadline)) from error
    except (http.client.HTTPException, ValueError) as error:
        raise NetError(f"did not answer in HTTP ({type(error).__name__})") from error
    finally:
        connection.close()


def with_token(base: str, ask: Fetch) -> Fetch:
    """As ``ask``, for Prefect's API at this URL: what it refuses for want of a CSRF token is sent again with one."""

    def asked(request: Request, timeout: float) -> Answer:
        answer = ask(request, timeout)
        if answer.status != _FORBIDDEN or b"CSRF" not in answer.body:
            return answer
        client = str(uuid.uuid4())
        got = ask(Request(f"{base}/csrf-token?client={client}", auth_string=request.auth_string, tls=request.tls), timeout).json()
        if not isinstance(got, dict) or "token" not in got:
            return answer
        headers = {**request.headers, "Prefect-Csrf-Token": got["token"], "Prefect-Csrf-Client": client}
        return ask(replace(request, headers=headers), timeout)

    return asked


def _exchange(connection: http.client.HTTPConnection, request: Request, target: str) -> Answer:
    headers = {"Connection": "close", "Accept": "application/json", "User-Agent": "selfhosted.prefect", **request.headers}
    body = None
    if request.body is not None:
        body = json.dumps(request.body).encode()
        headers["Content-Type"] = "application/json"
    if request.auth_string:
        headers["Authorization"] = "Basic " + base64.b64encode(request.auth_string.encode()).decode()
    connection.request(request.method, target, body, headers)
    response = connection.getresponse()
    answered = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, response.read(_LARGEST_BODY), answered)
