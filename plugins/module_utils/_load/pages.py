# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Loads the user interface's pages as a browser with an empty cache does, and counts those that are broken.

A page is broken when it, or anything that it names, is not answered with 200. Beside that one page stays open from the beginning, and in
each round one of the parts that it loads later is loaded: what an open page needs when its user goes to another view, long after servers
were replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import chain
from typing import Any
from urllib.parse import urljoin, urlsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import Answer, Connection, FailedError, Target

PATHS = ("/", "/v2/")
"""The two user interfaces. A path without one of its own leads to the other."""

PAUSE = 3.0  # seconds between two pages of one browser
AT_ONCE = 4  # connections of a browser, which has six; each page is that much easier on a small machine
REDIRECTS = 3
SHOWN = 50

_TAG = re.compile(r"<(script|link)\b[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\b(rel|src|href)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_LOADED = ("modulepreload", "preload", "stylesheet")
_LATER = re.compile(r"""["'`](?:\./|assets/)([\w.~-]+\.(?:js|css))["'`]""")


@dataclass
class Views:
    """What browsers have seen so far."""

    loaded: int = 0
    broken: int = 0
    requests: int = 0
    missing: int = 0  # requests for files of a page without a proper answer
    later: int = 0  # parts that an open page loaded later
    later_missing: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def failed(self, page: str, path: str, what: str) -> None:
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.failures = [*self.failures, {"at": at, "page": page, "path": path, "what": what}][:SHOWN]


def named(page: str) -> list[str]:
    """What a page has its browser load at once, in its order: scripts, what is preloaded, styles."""
    found = []
    for tag in _TAG.finditer(page):
        attributes = {name.lower(): value for name, value in _ATTRIBUTE.findall(tag.group())}
        if tag.group(1).lower() == "script" and "src" in attributes:
            found.append(attributes["src"])
        elif attributes.get("rel", "").lower() in _LOADED and "href" in attributes:
            found.append(attributes["href"])
    return list(dict.fromkeys(found))


def later(script: str, path: str) -> list[str]:
    """What a script of the user interface loads when it is needed, by its path: the files beside it that it names."""
    return sorted({urljoin(path, name) for name in _LATER.findall(script)})


@dataclass
class Browser:
    """One that has an empty cache for each page."""

    target: Target
    timeout: float
    views: Views

    def __post_init__(self) -> None:
        self.target = replace(self.target, base="")

    async def run(self, stop: asyncio.Event) -> None:
        """Loads pages until told to stop. The one under way is finished first."""
        left: list[str] = []
        number = 0
        while not stop.is_set():
            names = await self.load(PATHS[number % len(PATHS)])
            left = left or names
            if left:
                await self.go_on(left.pop(random.randrange(len(left))))  # noqa: S311 - no secret
            number += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await stop.wait()

    async def load(self, path: str) -> list[str]:
        """Loads a page with all that it names. Returns what it would load later."""
        self.views.loaded += 1
        connections = [Connection(self.target, self.timeout) for _number in range(AT_ONCE)]
        before, names = self.views.missing, []
        try:
            content = await self._page(connections[0], path)
            wanted = iter(named(content))
            found = await asyncio.gather(*(self._files(connection, path, wanted) for connection in connections))
            names = list(chain.from_iterable(found))
        except FailedError as error:
            self.views.missing += 1
            self.views.failed(path, path, str(error))
        finally:
            for connection in connections:
                connection.close()
        self.views.broken += self.views.missing > before
        return names

    async def go_on(self, path: str) -> None:
        """Loads one more part of a page that is open."""
        self.views.later += 1
        connection = Connection(self.target, self.timeout)
        try:
            await self._get(connection, path)
        except FailedError as error:
            self.views.later_missing += 1
            self.views.failed("an open one", path, str(error))
        finally:
            connection.close()

    async def _page(self, connection: Connection, path: str) -> str:
        for _redirect in range(REDIRECTS):
            self.views.requests += 1
            answer = await connection.ask("GET", path, accept="text/html")
            if answer.status not in (301, 302, 303, 307, 308):
                break
            path = urlsplit(urljoin(path, answer.headers.get("location", path))).path
        if answer.status != 200 or b"<html" not in answer.body:
            raise FailedError(answer.summary())
        return answer.body.decode(errors="replace")

    async def _files(self, connection: Connection, page: str, wanted: Iterator[str]) -> list[str]:
        names: list[str] = []
        for path in wanted:
            try:
                answer = await self._get(connection, path)
            except FailedError as error:
                self.views.missing += 1
                self.views.failed(page, path, str(error))
                continue
            if path.rpartition("/")[2].startswith("index-") and path.endswith(".js"):
                names += later(answer.body.decode(errors="replace"), path)
        return names

    async def _get(self, connection: Connection, path: str) -> Answer:
        self.views.requests += 1
        answer = await connection.ask("GET", path, accept="*/*")
        if answer.status != 200:
            raise FailedError(answer.summary())
        return answer
