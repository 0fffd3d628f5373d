"""The page of the status in a browser: it is drawn, in the light and in the dark, and sends no request."""

from __future__ import annotations

import json
import math
import struct
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Commands

pytestmark = pytest.mark.slow

HOSTS = ("api1", "api2", "api3")
WIDTH, HEIGHT = 1200, 1500


def unit(name: str, **changes: Any) -> dict[str, Any]:
    state = {"name": name, "state": "active (running)", "since": time.time() - 3700, "memory_bytes": 190e6, "active": True, "enabled": True}
    return {**state, "stale": False, "restarts": 0, **changes}


def server(name: str) -> dict[str, Any]:
    state = {"name": name, "url": "http://10.0.0.1:4200/api", "live": True, "ready": True, "version": "3.8.8", "milliseconds": 12}
    return {**state, "problem": ""}


def report() -> dict[str, Any]:
    """Three API servers, one of them drained, and everything else once."""
    redis = {"address": "r:6379", "version": "7.0.15", "memory_bytes": 2e6, "max_memory_bytes": 512e6, "clients": 9, "appends": True}
    return {
        "version": "3.8.8",
        "url": "http://10.0.0.13:4200/api",
        "groups": {"postgres": ["db1"], "redis": ["r1"], "prefect_api": list(HOSTS), "prefect_services": ["s1"], "nginx": ["lb1"]},
        "schema": {"before": "d4a7e1c93f52", "head": "d4a7e1c93f52", "pending": []},
        "hosts": [
            ["db1", {}, {"units": [unit("postgresql@15-main.service")]}],
            ["r1", {}, {"units": [unit("redis-server.service")]}],
            *([host, {"units": [unit("prefect-api@4200.service")], "drained": [4200] * (host == "api2")}, {}] for host in HOSTS),
            ["s1", {"units": [unit("prefect-services.service")]}, {}],
            ["lb1", {}, {"units": [unit("nginx.service")]}],
        ],
        "servers": [*(server(f"{host}:4200") for host in HOSTS), server("balancer")],
        "database": {"address": "db:5432", "version": "15.18", "connections": 23, "max_connections": 110, "size_bytes": 9e6, "problem": ""},
        "redis": {**redis, "eviction": "noeviction", "problem": ""},
    }


def history() -> dict[str, Any]:
    end = math.floor(time.time())
    points = [[end - 3600 + 30 * n, 40 + 9 * math.sin(n / 9)] for n in range(121)]
    plots = [
        {"title": f"Plot {number}", "unit": unit_, "series": [{"label": "all", "points": points}]}
        for number, unit_ in enumerate(("/s", "s", "", "%", "B", ""))
    ]
    return {"start": end - 3600, "end": end, "plots": plots, "problem": ""}


@pytest.fixture(scope="module")
def page(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, written by the playbook from answers that are given."""
    path = tmp_path_factory.mktemp("page") / "status.html"
    show(commands, status_page=str(path), common_status_report=report(), __prefect_status_history=history())
    return path


def show(commands: Commands, *options: str, expect: int = 0, **variables: Any) -> str:
    """Runs the last part of the playbook, which makes the page."""
    playbook = [*status(commands.root / "tests" / "pages" / "inventory.yml"), "--start-at-task", "Write the status page"]
    return commands.run([*playbook, *options, "-e", json.dumps(variables)], expect=expect)


def status(inventory: Path) -> list[str | Path]:
    return ["ansible-playbook", "-i", inventory, "playbooks/status.yml", "-e", "output=html"]


@pytest.fixture(scope="module")
def chromium(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs the browser with options of one's own, for the page that is named last. It is installed if need be."""
    commands.run(["tools/need", "chromium"], timeout=600)
    profile = tmp_path_factory.mktemp("chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}"]
    return lambda *more: commands.run(["chromium", *options, *more], timeout=90)


def pixels(path: Path) -> tuple[int, int, bytes]:
    """Width, height and the grey of every pixel of a PNG of eight bits without interlacing, which is what a browser writes."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind = data[at + 4 : at + 8]
        chunks[kind] = chunks.get(kind, b"") + data[at + 8 : at + 8 + size]
        at += size + 12
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    step = {2: 3, 6: 4}[colour]
    assert depth == 8
    raw = zlib.decompress(chunks[b"IDAT"])
    grey = bytearray()
    before = bytearray(width * step)
    for row in range(height):
        start = row * (width * step + 1)
        before = unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + width * step]), before, step)
        grey += bytes(before[1::step])  # green is near enough
    return width, height, bytes(grey)


def unfiltered(kind: int, line: bytearray, above: bytearray, step: int) -> bytearray:
    """A line of a PNG, from what it was filtered to and the line above."""
    if kind == 2:
        return bytearray((value + up) & 255 for value, up in zip(line, above, strict=True))
    for at in range(len(line) if kind else 0):
        left, up = (line[at - step] if at >= step else 0), above[at]
        corner = above[at - step] if at >= step else 0
        line[at] = (line[at] + (left, up, (left + up) // 2, paeth(left, up, corner))[kind - 1]) & 255
    return line


def paeth(left: int, up: int, corner: int) -> int:
    """The neighbour that is nearest to what a plane through all three would have."""
    guess = left + up - corner
    return min((left, up, corner), key=lambda each: abs(guess - each))


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_is_drawn(chromium: Any, page: Path, tmp_path: Path, scheme: str, dark: bool) -> None:
    shot = tmp_path / f"{scheme}.png"
    more = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    chromium(*more, f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", page.as_uri())
    width, height, grey = pixels(shot)
    assert (width, height) == (WIDTH, HEIGHT)
    mean = sum(grey) / len(grey)
    assert mean < 70 if dark else mean > 200, f"{scheme}: a mean of {mean:.0f}"
    # Text and lines against the background, all the way down.
    for part in range(5):
        band = grey[len(grey) * part // 5 : len(grey) * (part + 1) // 5]
        assert max(band) - min(band) > 120, f"{scheme}: nothing to be seen in part {part + 1} of 5"


def test_what_a_browser_makes_of_it(chromium: Any, page: Path) -> None:
    """Nothing was dropped or moved while it was read, and nothing was refused."""
    read = chromium("--dump-dom", "--enable-logging=stderr", page.as_uri())
    assert read.count("<svg") == 1 + len(history()["plots"])
    assert read.count("<table>") == 3
    assert read.count("</section>") == 5
    assert "drained" in read
    assert "Content Security Policy" not in read, "something wanted to load"


def test_hosts_that_are_gone_are_on_the_page(commands: Commands, tmp_path: Path) -> None:
    """All of them, the one with Prometheus included: the page says so, and is there."""
    page = tmp_path / "status.html"
    output = commands.run([*status(commands.root / "tests" / "pages" / "inventory.yml"), "-e", f"status_page={page}"])
    assert f"Wrote {page}" in output
    text = page.read_text()
    for host in ("db1", "r1", *HOSTS, "s1", "lb1", "m1"):
        assert f"<li>{host} cannot be reached by Ansible</li>" in text
    assert "no history: " in text
    assert oct(page.stat().st_mode)[-3:] == "644"


def test_a_page_that_cannot_be_written(commands: Commands, tmp_path: Path) -> None:
    page = tmp_path / "none" / "status.html"
    output = show(commands, expect=2, status_page=str(page), common_status_report=report(), __prefect_status_history={})
    said = " ".join(output.split())
    assert f"{page} was not written" in said
    assert "Name another file (status_page), in a folder that you may write to." in said


def test_a_dry_run_writes_nothing(commands: Commands, tmp_path: Path) -> None:
    page = tmp_path / "status.html"
    output = show(commands, "--check", status_page=str(page), common_status_report=report(), __prefect_status_history={})
    assert f"Would write {page}" in output
    assert not page.exists()
