"""The status in all its forms and the bundle for support, on a deployment that is well, and on one that is not."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from lab import ROOT, SUFFIX, Lab

LAB = Lab("support", 4340)
FILES = {
    "api1/system.txt",
    "api1/versions.txt",
    "api1/units.txt",
    "api1/config/etc/prefect/prefect.env",
    "api1/database.txt",
    "api1/redis.txt",
    "state1/config/nginx-T.txt",
    "state1/config/etc/redis/prefect.conf",
    "state1/journal/prefect-services.service.txt",
    "state1/journal/nginx.service.txt",
    "README.txt",
    "status.txt",
    "status.json",
}


def passwords() -> dict[str, str]:
    """Every password of the lab by its name, as it was generated: the part before what is the same for all."""
    return {path.name: path.read_text().strip() for path in (ROOT / "build/lab" / LAB.name).iterdir() if path.is_file()}


def forms(secret: str) -> dict[str, str]:
    """What a secret might look like."""
    encoded = {f"base64 behind {shift}": base64.b64encode(b"x" * shift + secret.encode()).decode()[4:-4] for shift in range(3)}
    return {
        "as it is": secret,
        "url": quote(secret, safe=""),
        "form": quote_plus(secret),
        "json": json.dumps(secret)[1:-1],
        "shell": shlex.quote(secret)[1:-1],
        "html": html.escape(secret),
        "base64 for nginx": base64.b64encode(f"admin:{secret}".encode()).decode()[12:-4],
        "hexadecimal": secret.encode().hex(),
        **encoded,
    }


def leaks(texts: dict[str, str]) -> list[str]:
    """Where a password stands, or what is the same in all of them, in any form; never the password itself."""
    found = []
    for name, password in passwords().items():
        assert len(password) == 20, "what is searched for could not be missed"
        for form, shown in {**forms(f"{password}{SUFFIX}"), "its beginning": password}.items():
            found += [f"{name}, {form}, in {path}" for path, text in texts.items() if shown in text]
    for form, shown in forms(SUFFIX).items():
        if not form.startswith("base64"):
            found += [f"what all passwords end with, {form}, in {path}" for path, text in texts.items() if shown in text]
    return found


def bundle(folder: Path, **variables: Any) -> tuple[dict[str, str], str]:
    """The texts of a new bundle by their paths, and what Ansible printed."""
    played = LAB.play("support_bundle", support_bundle_to=str(folder), **variables)
    (archive,) = folder.glob("prefect-support-*.tar.gz")
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as opened:
        texts = {
            member.name.partition("/")[2]: opened.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in opened
        }
    print(f"{archive.stat().st_size} bytes, {len(texts)} files, {sum(map(len, texts.values()))} characters, {played.seconds:.0f} s")
    return texts, played.output


@contextmanager
def drained(host: str, port: int) -> Iterator[None]:
    """A server out of service, as an interrupted run leaves it."""
    table = "inet prefect_drain"
    LAB.on(
        host, f"nft add table {table}; nft 'add set {table} ports {{ type inet_service; }}'; nft add element {table} ports '{{ {port} }}'"
    )
    try:
        yield
    finally:
        LAB.on(host, f"nft delete table {table}")


@contextmanager
def lost(host: str) -> Iterator[None]:
    """A host that nobody reaches by SSH; its server goes on."""
    LAB.on(host, "systemctl stop ssh.socket ssh.service; pkill -f '^sshd: ' || true")
    try:
        yield
    finally:
        LAB.on(host, "systemctl start ssh.service")


def status(**variables: Any) -> dict[str, Any]:
    played = LAB.play("status", output="json", **variables)
    assert played.changed == 0
    (line,) = [line for line in played.output.splitlines() if line.startswith("{")]
    return dict(json.loads(line))


def test_all_well() -> None:
    found = status()
    assert found["problems"] == []
    assert {server["name"]: server["drained"] for server in found["servers"]} == {
        "api1:4200": False,
        "state1:4201": False,
        "balancer": False,
    }
    assert {unit["name"] for unit in found["processes"]} >= {"prefect-api@4200.service", "prefect-services.service", "nginx.service"}


def test_drained_servers_are_shown() -> None:
    with drained("state1", 4201):
        found = status()
        table = LAB.play("status").output
    assert [server["name"] for server in found["servers"] if server["drained"]] == ["state1:4201"]
    assert [(unit["host"], unit["name"]) for unit in found["processes"] if unit["drained"]] == [("state1", "prefect-api@4201.service")]
    assert [problem for problem in found["problems"] if "is drained" in problem]
    assert re.search(r"^state1:4201 .* DRAINED ", table, re.MULTILINE)
    assert re.search(r"^api1:4200 .* yes +yes +yes ", table, re.MULTILINE)
    assert status()["problems"] == []


def test_page(tmp_path: Path) -> None:
    page = tmp_path / "status.html"
    with drained("state1", 4201):
        played = LAB.play("status", output="html", status_page=str(page))
    text = page.read_text()
    assert played.says(f"Wrote {page}")
    assert text.count("<svg") == 1
    for words in ("api1:4200", "state1:4201", "drained", "PostgreSQL", "no history: the inventory has no host in the group monitoring"):
        assert words in text
    assert leaks({"page": text}) == []


def test_bundle(tmp_path: Path) -> None:
    # What programs might have written, so that there is something to find.
    words = [form for password in passwords().values() for form in forms(f"{password}{SUFFIX}").values()]
    (ROOT / "build/lab" / LAB.name).mkdir(exist_ok=True)
    LAB.on("state1", f"systemd-cat -t prefect-test printf '%s\\n' {shlex.join(words)}; journalctl --sync")
    LAB.on("state1", f"printf '%s\\n' {shlex.join(words)} >>/var/log/nginx/error.log")
    texts, output = bundle(tmp_path)
    assert texts.keys() >= FILES
    assert "* nothing" in texts["README.txt"]
    assert leaks({**texts, "what Ansible printed": output}) == []
    assert 'PREFECT_SERVER_DATABASE_PASSWORD="********"' in texts["api1/config/etc/prefect/prefect.env"]
    assert "upstream prefect_api" in texts["state1/config/nginx-T.txt"]
    assert "Started" in texts["state1/journal/prefect-services.service.txt"]
    for words_ in ("Revision of the schema", "Flow runs by state", "Connections", "Slow queries, now"):
        assert words_ in texts["api1/database.txt"]
    assert "(the database cannot be asked" not in texts["api1/database.txt"]
    assert "redis_version" in texts["api1/redis.txt"]
    assert re.search(r"stream +\S+ +\d", texts["api1/redis.txt"])
    assert "prefect==" in texts["api1/versions.txt"]
    assert "********" in texts["state1/log/var/log/nginx/error.log"]


def test_this_would_see_a_leak() -> None:
    words = [form for password in passwords().values() for form in forms(f"{password}{SUFFIX}").values()]
    assert all(leaks({"x": word}) for word in words)
    assert set(passwords()) >= {"database", "redis", "auth", "ops"}


def test_a_host_that_is_gone(tmp_path: Path) -> None:
    """It is the first of its group, whom one would ask."""
    with lost("api1"):
        found = status()
        texts, output = bundle(tmp_path)
    assert found["unreachable"] == ["api1"]
    assert {server["name"] for server in found["servers"]} == {"api1:4200", "state1:4201", "balancer"}
    assert found["database"]["problem"] == ""
    assert "* api1 cannot be reached by Ansible" in texts["README.txt"]
    assert "api1 cannot be reached by Ansible" in " ".join(output.split())
    assert not [path for path in texts if path.startswith("api1/")]
    assert {"state1/database.txt", "state1/redis.txt", "state1/system.txt", "status.txt"} <= texts.keys()
    assert leaks(texts) == []


def test_without_redis_and_database(tmp_path: Path) -> None:
    LAB.on("state1", "systemctl stop redis-server.service 'postgresql@*.service'")
    try:
        texts, _output = bundle(tmp_path)
    finally:
        LAB.on("state1", "systemctl start postgresql.service redis-server.service; systemctl start 'postgresql@*.service' || true")
    assert "(the database cannot be asked:" in texts["api1/database.txt"]
    assert "(Redis cannot be asked:" in texts["api1/redis.txt"]
    assert "PROBLEM" in texts["status.txt"]
    assert leaks(texts) == []


@pytest.mark.parametrize("playbook", ["status", "support_bundle"])
def test_check_mode_writes_nothing(tmp_path: Path, playbook: str) -> None:
    where = {"status": {"output": "html", "status_page": str(tmp_path / "p.html")}, "support_bundle": {"support_bundle_to": str(tmp_path)}}
    LAB.play(playbook, "--check", **where[playbook])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    played = LAB.play("support_bundle", expect=2, support_bundle_to=str(tmp_path / "file"))
    assert played.says("was not written", "Name another folder")
