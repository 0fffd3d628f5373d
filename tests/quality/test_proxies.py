"""Nothing of ours reaches the deployment's own parts through a proxy of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quality import proxies, rules

# What runs on hosts, what deploys them, and what proves them. Tools of the repository fetch packages, for which the proxy is.
FOLDERS = ("roles", "plugins", "playbooks", "molecule", "tests/bench", "tests/load", "tests/monitoring", "tests/proof", "tests/release")


def test_nothing_is_asked_through_a_proxy(root: Path, tracked: list[Path]) -> None:
    rules.require_none(proxies.problems(root / path for path in tracked if str(path).startswith(FOLDERS)))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", "from urllib.request import urlopen\nurlopen('http://x')", True),
        ("a.py", "import urllib.request\nurllib.request.urlopen('http://x')", True),
        ("a.py", "urlopen('http://x')  # the site's proxy may be used", False),
        ("a.py", "build_opener()", True),
        ("a.py", "build_opener(ProxyHandler({})).open('http://x')", False),
        ("a.py", "import httpx\nhttpx.get('http://x')", True),
        ("a.py", "import httpx\nhttpx.AsyncClient(timeout=1)", True),
        ("a.py", "import httpx\nhttpx.AsyncClient(trust_env=False)", False),
        ("a.py", "open_url('http://x')", True),
        ("a.py", "fetch_url(module, 'http://x', use_proxy=False)", False),
        ("a.py", "connect(url, subprotocols=['prefect'])", True),
        ("a.py", "connect(url, subprotocols=['prefect'], proxy=None)", False),
        ("a.py", "import websockets\nwebsockets.connect(url)", True),
        ("a.py", "sock.connect(('127.0.0.1', 1))", False),
        ("a.py", "import requests\nrequests.get('http://x')", True),
        ("a.py", "ASK = \"print(urllib.request.urlopen('http://x').status)\"", True),
        ("a.yml", "- name: a\n  ansible.builtin.uri:\n    url: http://x", True),
        ("a.yml", "- block:\n    - ansible.builtin.uri: {url: http://x, use_proxy: false}", False),
        ("a.yml", "a: !vault |\n  x", False),
        ("a.j2", "ExecStart=/usr/bin/curl -s http://x", True),
        ("a.j2", "ExecStart=/usr/bin/curl --noproxy '*' http://x", False),
        ("a.sh", "until wget http://x; do sleep 1; done", True),
    ],
)
def test_a_connection_that_reads_the_proxy_is_found(tmp_path: Path, name: str, text: str, found: bool) -> None:
    (tmp_path / name).write_text(text + "\n")
    assert bool(proxies.problems([tmp_path / name])) is found
