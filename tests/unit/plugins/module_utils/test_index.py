# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import io
import json
import urllib.error
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._release import index as _index
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.index import (
    Index,
    IndexFile,
    PackageIndexError,
    index_url,
    read_url,
)

DIGEST = "c" * 64
JSON = json.dumps(
    {"files": [{"filename": "uv-1.whl", "url": "../../f/uv-1.whl", "hashes": {"sha256": DIGEST}}, {"filename": "b", "url": "b"}]}
)
HTML = f'<html><a href="../../f/uv-1.whl#sha256={DIGEST}">uv-1.whl</a> <a href="b#md5=1">b</a> <a name="x">x</a></html>'


class Web:
    """Answers from a table, and remembers what was asked."""

    def __init__(self, answers: dict[str, tuple[bytes, str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, url: str) -> tuple[bytes, str]:
        self.asked.append(url)
        return self.answers[url]


@pytest.mark.parametrize(("body", "kind"), [(JSON, "application/vnd.pypi.simple.v1+json"), (HTML, "text/html")], ids=["json", "html"])
def test_files(body: str, kind: str) -> None:
    web = Web({"https://index.test/root/simple/uv/": (body.encode(), kind)})
    assert Index("https://index.test/root/simple/", web).files("uv") == {
        "uv-1.whl": IndexFile("uv-1.whl", "https://index.test/root/f/uv-1.whl", DIGEST),
        "b": IndexFile("b", "https://index.test/root/simple/uv/b", ""),
    }


def test_the_login_goes_to_the_index_only() -> None:
    files = [{"filename": "a", "url": "https://index.test/a"}, {"filename": "b", "url": "https://elsewhere.test/b"}]
    web = Web({"https://me:pw@index.test/simple/uv/": (json.dumps({"files": files}).encode(), "application/json")})
    found = Index("https://me:pw@index.test/simple", web).files("uv")
    assert [file.url for file in found.values()] == ["https://me:pw@index.test/a", "https://elsewhere.test/b"]


def test_an_answer_that_is_none() -> None:
    web = Web({"https://me:pw@index.test/uv/": (b"{}", "application/json")})
    with pytest.raises(PackageIndexError, match="did not answer as a package index does") as caught:
        Index("https://me:pw@index.test", web).files("uv")
    assert "pw" not in str(caught.value)


def test_download(tmp_path: Path) -> None:
    index = Index("https://index.test", Web({"https://index.test/f": (b"content", "")}))
    with pytest.raises(PackageIndexError, match="which is not the one pinned: nothing of it was used"):
        index.download("https://index.test/f", {DIGEST}, tmp_path / "f")
    assert list(tmp_path.iterdir()) == []
    index.download("https://index.test/f", {DIGEST, hashlib.sha256(b"content").hexdigest()}, tmp_path / "f")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"f": b"content"}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, "https://pypi.org/simple"),
        ({"PIP_INDEX_URL": "https://a/simple"}, "https://a/simple"),
        ({"PIP_INDEX_URL": "https://a/simple", "UV_INDEX_URL": "https://b/simple"}, "https://b/simple"),
        ({"UV_DEFAULT_INDEX": "mine=https://c/simple", "UV_INDEX_URL": ""}, "https://c/simple"),
        ({"UV_DEFAULT_INDEX": "https://c/simple?a=b"}, "https://c/simple?a=b"),
    ],
)
def test_index_url(environment: dict[str, str], wanted: str) -> None:
    assert index_url(environment) == wanted


class Opener:
    """Stands for urllib: gives or raises what it was told, in turn."""

    def __init__(self, *results: Any) -> None:
        self._results: Iterator[Any] = iter(results)
        self.requests: list[Any] = []

    def open(self, request: Any, timeout: float) -> Any:
        assert timeout > 0
        self.requests.append(request)
        result = next(self._results)
        if isinstance(result, Exception):
            raise result
        return result


class Answer(io.BytesIO):
    headers = Message()


def failure(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("https://index.test", code, "Nope", Message(), None)


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*results: Any) -> Opener:
        found = Opener(*results)
        monkeypatch.setattr(_index, "_opener", lambda: found)
        return found

    return use


def test_read_url_tries_again(opener: Any) -> None:
    used = opener(failure(503), urllib.error.URLError("reset"), Answer(b"ok"))
    pauses: list[float] = []
    assert read_url("https://me:p%40w@index.test/x", sleep=pauses.append) == (b"ok", "text/plain")
    assert pauses == [2.0, 4.0]
    assert used.requests[0].full_url == "https://index.test/x"
    assert used.requests[0].get_header("Authorization") == "Basic bWU6cEB3"


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([failure(404)], "https://index.test/x: HTTP 404 Nope"),
        ([OSError("refused")] * 3, "https://index.test/x: refused"),
        ([urllib.error.URLError("no route")] * 3, "https://index.test/x: no route"),
    ],
)
def test_read_url_gives_up(opener: Any, results: list[Exception], message: str) -> None:
    opener(*results)
    with pytest.raises(PackageIndexError, match=f"^{message}$"):
        read_url("https://me:secret@index.test/x", sleep=lambda _seconds: None)
