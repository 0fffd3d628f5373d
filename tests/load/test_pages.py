"""The browser of the load against a small server of the test's own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

# First of all, as it makes the collection importable.
import collection  # noqa: F401  # pylint: disable=unused-import
from ansible_collections.selfhosted.prefect.plugins.module_utils._load import pages
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import Target

INDEX = """<!DOCTYPE html><html><head>
<link rel="icon" href="/ico/favicon.png"><link rel="modulepreload" crossorigin href="/v2/assets/vendor-1.js">
<link rel='stylesheet' href='/v2/assets/index-1.css'><script type="module" src="/v2/assets/index-1.js"></script></head></html>"""
SCRIPT = """m=["assets/vendor-1.js","assets/later-1.js"];import(`./other-1.js`)"""
SITE: dict[str, tuple[int, str, str]] = {
    "/": (307, "", "/v2/?x=1"),
    "/v2/": (200, INDEX, ""),
    "/v2/assets/vendor-1.js": (200, "1", ""),
    "/v2/assets/index-1.css": (200, "1", ""),
    "/v2/assets/index-1.js": (200, SCRIPT, ""),
    "/v2/assets/later-1.js": (200, "1", ""),
    "/v2/assets/other-1.js": (200, "1", ""),
}
MISSING = (404, '{"detail":"Not Found"}', "")


def browse(site: Mapping[str, tuple[int, str, str]], rounds: int, monkeypatch: pytest.MonkeyPatch) -> tuple[pages.Views, list[str]]:
    """What a browser sees in so many rounds, and what it asked for."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                break
            path = head.split()[1]
            asked.append(path)
            status, body, location = site.get(path, MISSING)
            where = f"Location: {location}\r\n" if location else ""
            writer.write(f"HTTP/1.1 {status} x\r\n{where}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        writer.close()

    async def scenario() -> pages.Views:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        views, stop = pages.Views(), asyncio.Event()
        target = Target("127.0.0.1", server.sockets[0].getsockname()[1], "/api")
        browsing = asyncio.create_task(pages.Browser(target, 5, views).run(stop))
        while views.loaded < rounds:
            await asyncio.sleep(0.01)
        stop.set()
        await browsing
        server.close()
        return views

    monkeypatch.setattr(pages, "PAUSE", 0.02)
    return asyncio.run(scenario()), asked


def counts(views: pages.Views) -> dict[str, Any]:
    return {key: value for key, value in asdict(views).items() if key in ("broken", "missing", "later_missing")}


def test_pages_that_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    views, asked = browse(SITE, 4, monkeypatch)
    assert counts(views) == {"broken": 0, "missing": 0, "later_missing": 0}
    assert set(asked) == set(SITE), "both pages, all that they name at once, and what they load later; no icons"
    assert views.requests == len(asked)
    assert views.later == views.loaded


def test_a_file_that_is_missing_breaks_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    views, _asked = browse({**SITE, "/v2/assets/vendor-1.js": MISSING}, 1, monkeypatch)
    assert (views.broken, views.missing) == (1, 1)
    assert {"page": "/", "path": "/v2/assets/vendor-1.js", "what": 'HTTP 404 {"detail":"Not Found"}'}.items() <= views.failures[0].items()


def test_a_part_that_an_open_page_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    site = dict(SITE)
    site.pop("/v2/assets/later-1.js")
    site.pop("/v2/assets/other-1.js")
    views, _asked = browse(site, 4, monkeypatch)
    assert views.broken == views.missing == 0
    assert views.later_missing >= 2
    assert views.failures[0]["page"] == "an open one"


@pytest.mark.parametrize("answer", [MISSING, (200, "true", ""), (307, "", "/")])
def test_a_page_that_is_none(monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str, str]) -> None:
    views, _asked = browse({"/": answer}, 1, monkeypatch)
    assert (views.broken, views.missing) == (1, 1)


def test_what_a_script_loads_later() -> None:
    text = """import("./a-1.js"),import(`./b.2.js`),["assets/c-3.css",'assets/d~4.js'],"https://x/e.js","f.js" """
    assert pages.later(text, "/v2/assets/index-1.js") == [
        "/v2/assets/a-1.js",
        "/v2/assets/b.2.js",
        "/v2/assets/c-3.css",
        "/v2/assets/d~4.js",
    ]
