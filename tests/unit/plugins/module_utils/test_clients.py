from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.clients import Client, clients, last_lines

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1795521600  # 24/Nov/2026:12:00:00 +0000


def line(agent: str, time: str = "24/Nov/2026:12:00:00 +0000", request: str = "POST /api/flows/ HTTP/1.1", more: str = "") -> bytes:
    return f'10.0.0.9 - admin [{time}] "{request}" 200 386 "-" "{agent}"{more}\n'.encode()


def json_line(agent: str, time: str = "2026-11-24T12:00:00+00:00", uri: str = "/api/flows/") -> bytes:
    return (
        f'{{"time":"{time}","method":"POST","endpoint":"/api/flows","status":"201","upstream":"10.0.0.1:4200","seconds":0.004,'
        f'"client":"10.0.0.9","user":"admin","agent":"{agent}","uri":"{uri}"}}\n'
    ).encode()


@pytest.mark.parametrize(
    ("log", "known"),
    [
        (json_line("prefect/3.8.8 (API 0.8.4)"), True),
        (json_line("prefect/3.8.8", time="2026-11-24T12:00:00Z"), True),
        (json_line("prefect/3.8.8", time="2026-11-24T14:00:00+02:00"), True),
        (json_line("prefect/3.8.8", time="2026-13-24T12:00:00+00:00"), False),
        (json_line("curl/8"), False),
        (json_line(r"\"agent\":\"prefect/9.9.9"), False),
        (json_line("curl/8", uri=r"/,\"agent\":\"prefect/9.9.9 x"), False),
        (json_line("Mozilla/5.0 prefect/9.9.9"), False),
        (b'{"time":"2026-11-24T12:00:00+00:00"', False),
    ],
)
def test_lines_of_json(log: bytes, known: bool) -> None:
    assert clients([log], 1) == ({"3.8.8": Client(1, NOON)} if known else {})


@pytest.mark.parametrize(
    ("agent", "version"),
    [
        ("prefect/3.8.8 (API 0.8.4)", "3.8.8"),
        ("prefect/3.8.8", "3.8.8"),
        ("prefect/3.9.0rc1 (API 0.8.4)", "3.9.0rc1"),
        ("prefect/3.8.8+12.gabcdef0.dirty (API 0.8.4)", "3.8.8+12.gabcdef0.dirty"),
        ("prefect/0+unknown (API 0.8.4)", "0+unknown"),
        ("-", ""),
        ("Mozilla/5.0 prefect/3.8.8", ""),
        ("prefect/ (API 0.8.4)", ""),
        ("prefect/x (API 0.8.4)", ""),
        (r"\x22prefect/3.8.8 (API", ""),
        ("prefect/" + "3" * 65, ""),
    ],
)
def test_which_agents_are_clients(agent: str, version: str) -> None:
    assert clients([line(agent)], 0) == ({version: Client(1, NOON)} if version else {})


@pytest.mark.parametrize(
    ("log", "known"),
    [
        (line("prefect/3.8.8 (API 0.8.4)", more=' "203.0.113.9" 0.004'), True),
        (line("prefect/3.8.8 (API 0.8.4)", request=r"GET /?q=\x22prefect/9 HTTP/1.1"), True),
        (line("curl/8", request="GET /prefect/9.9.9 HTTP/1.1"), False),
        (line("prefect/3.8.8 (API 0.8.4)", time="24/Foo/2026:12:00:00 +0000"), False),
        (line("prefect/3.8.8 (API 0.8.4)", time="99/Nov/2026:12:00:00 +0000"), False),
        (b'"prefect/3.8.8 (API 0.8.4)"\n', False),
        (b"\xff\x00\n", False),
        (b"", False),
    ],
)
def test_lines(log: bytes, known: bool) -> None:
    assert clients([log], 1) == ({"3.8.8": Client(1, NOON)} if known else {})


def test_only_the_last_hours_count_whatever_the_zone() -> None:
    new, old = "prefect/3.8.8 (API 0.8.4)", "prefect/3.7.8 (API 0.8.4)"
    log = [
        line(new, "24/Nov/2026:14:00:01 +0200"),
        line(new, "24/Nov/2026:12:00:00 +0000"),
        line(old, "24/Nov/2026:11:59:59 +0000"),
        line(old, "24/Nov/2026:12:00:00 -0130"),
    ]
    assert clients(log, NOON) == {"3.8.8": Client(2, NOON + 1), "3.7.8": Client(1, NOON + 5400)}


@pytest.mark.parametrize(
    ("most", "lines"),
    [
        (100, [b"one\n", b"two\n", b"three"]),
        (13, [b"one\n", b"two\n", b"three"]),
        (12, [b"two\n", b"three"]),
        (9, [b"two\n", b"three"]),
        (8, [b"three"]),
        (5, [b"three"]),
        (4, []),
    ],
)
def test_the_end_of_a_log(tmp_path: Path, most: int, lines: list[bytes]) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(b"one\ntwo\nthree")
    assert list(last_lines(log, most)) == lines


def test_a_log_that_grows_meanwhile_ends(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(b"one\n")
    read = []
    for each in last_lines(log, 40):
        read.append(each)
        with log.open("ab") as file:
            file.write(b"two\n" * 4096)
    assert 0 < len(read) <= 10


def test_no_log(tmp_path: Path) -> None:
    assert list(last_lines(tmp_path / "none", 10)) == []
