# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""Package indexes: which files a project has, and downloads that are checked."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import redact

PUBLIC_INDEX = "https://pypi.org/simple"

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
_ATTEMPTS = 3
_BUSY = (408, 425, 429, 500, 502, 503, 504)

# Reads a URL: its body, and the type of its content.
Read = Callable[[str], "tuple[bytes, str]"]


class PackageIndexError(Exception):
    """What an index could not give, in words for a person, without credentials."""


@dataclass(frozen=True)
class IndexFile:
    """A file of a project. ``sha256`` is empty when the index does not tell."""

    name: str
    url: str
    sha256: str = ""


class Index:
    """A package index that speaks the simple API, as JSON (PEP 691) or as HTML (PEP 503)."""

    def __init__(self, url: str, read: Read | None = None) -> None:
        self._url = url.rstrip("/")
        self._read = read or read_url

    def files(self, project: str) -> dict[str, IndexFile]:
        """The files of a project, by their names. Raises PackageIndexError if there is no such project, or no answer."""
        address = f"{self._url}/{project}/"
        body, kind = self._read(address)
        try:
            found = _from_json(body) if "json" in kind else _from_html(body)
        except (ValueError, KeyError, TypeError) as error:
            raise PackageIndexError(f"{redact(address)} did not answer as a package index does ({error})") from error
        return {file.name: replace(file, url=_with_login(urljoin(address, file.url), self._url)) for file in found}

    def download(self, url: str, hashes: Collection[str], target: Path) -> None:
        """Puts a file at ``target`` if its SHA-256 is one of ``hashes``.

        Raises PackageIndexError if there is no answer, or a file with another hash.
        """
        body = self._read(url)[0]
        found = hashlib.sha256(body).hexdigest()
        if found not in hashes:
            raise PackageIndexError(f"{redact(url)} has the SHA-256 {found}, which is not the one pinned: nothing of it was used")
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(body)
        partial.replace(target)


def index_url(environment: Mapping[str, str]) -> str:
    """The index that uv and pip would use with these environment variables."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if environment.get(name):
            # uv lets an index have a name: name=https://...
            head, equals, tail = environment[name].partition("=")
            return tail if equals and "/" not in head else environment[name]
    return PUBLIC_INDEX


def read_url(url: str, timeout: float = 60, sleep: Callable[[float], None] = time.sleep) -> tuple[bytes, str]:
    """The body of a URL and its content type; proxies and certificates are those of the environment.

    ``timeout`` is in seconds, and for each wait. What passes by itself is tried three times.

    Raises PackageIndexError if there is no answer, or one that is not a success.
    """
    address, headers = _without_login(url)
    request = urllib.request.Request(address, headers={"Accept": _ACCEPT, **headers})  # noqa: S310  the address is the user's own
    problem = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(2.0**attempt)
        try:
            with _opener().open(request, timeout=timeout) as answer:
                return answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            if error.code not in _BUSY:
                break
        except (OSError, ValueError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
    raise PackageIndexError(f"{address}: {redact(problem)}")


@functools.lru_cache(maxsize=1)
def _opener() -> urllib.request.OpenerDirector:
    # The certificate authorities are read once, and not for each of hundreds of files. Packages may come through the site's proxy.
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=ssl.create_default_context()))


def environment_index() -> Index:
    """The index of this process's own environment."""
    return Index(index_url(os.environ))


def _from_json(body: bytes) -> list[IndexFile]:
    return [
        IndexFile(str(file["filename"]), str(file["url"]), str(file.get("hashes", {}).get("sha256", "")))
        for file in json.loads(body)["files"]
    ]


def _from_html(body: bytes) -> list[IndexFile]:
    parser = _Links()
    parser.feed(body.decode("utf-8", "replace"))
    return [_linked(*urldefrag(link)) for link in parser.links]


def _linked(url: str, fragment: str) -> IndexFile:
    digest = fragment[len("sha256=") :] if fragment.startswith("sha256=") else ""
    return IndexFile(unquote(urlsplit(url).path.rpartition("/")[2]), url, digest)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        link = dict(attrs).get("href")
        if tag == "a" and link:
            self.links.append(link)


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    parts: Any = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    token = base64.b64encode(unquote(login).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": f"Basic {token}"}


def _with_login(url: str, index: str) -> str:
    # Files on the index's own host want its login too; those elsewhere must not see it.
    parts: Any = urlsplit(url)
    login, at, host = urlsplit(index).netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@{host}")) if at and parts.netloc == host else url
