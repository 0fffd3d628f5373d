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
import yaml
from lab import ROOT, SUFFIX, Lab
from tls_scan import scan_hosts

LAB = Lab("support", 4340)
FILES = {
    "api1/system.txt",
    "api1/versions.txt",
    "api1/units.txt",
    "api1/config/etc/prefect/prefect.env",
    "api1/config/etc/prefect/workers/etl.env",
    "api1/journal/prefect-worker@_.service.txt",
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
    """Every password of the lab by its name. Redis's own users cannot have one with blanks and quotes."""
    files = {path.name: path.read_text().strip() for path in (ROOT / "build/lab" / LAB.name).iterdir() if path.is_file()}
    assert {len(password) for password in files.values()} == {20}, "what is searched for could not be missed"
    return {name: password if name == "reader" else f"{password}{SUFFIX}" for name, password in files.items()}


def written(secret: str) -> list[str]:
    """How programs write a secret."""
    login = f"admin:{secret}"
    return [
        *(secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret), json.dumps(json.dumps(secret)), repr(secret)),
        *(shlex.quote(secret), html.escape(secret), f"redis://prefect:{quote(secret, safe='')}@10.0.0.1:6379/1"),
        *(base64.b64encode(text.encode()).decode() for text in (secret, login, f"a{secret}", f"ab{secret} and more")),
        *(base64.urlsafe_b64encode(login.encode()).decode(), secret.encode().hex(), f"Authorization: Basic {login}"),
    ]


def parts(secret: str) -> list[str]:
    """What is in any of these, and in nothing else: the generated part as it is, and the middle of it in base64 and hexadecimal."""
    own = secret[:20]
    encoded = [base64.b64encode(b"x" * shift + own.encode()).decode()[4:-4] for shift in range(3)]
    return [own, quote(own, safe=""), own.encode().hex(), *encoded, *(each.replace("+", "-").replace("/", "_") for each in encoded)]


def leaks(texts: dict[str, str]) -> list[str]:
    """Where a password, or the end that most of them have, stands in any form; never the password itself."""
    found = [
        f"{name}, form {number}, in {path}"
        for name, password in passwords().items()
        for number, part in enumerate(parts(password))
        for path, text in texts.items()
        if part in text
    ]
    ends = [SUFFIX, quote(SUFFIX, safe=""), quote_plus(SUFFIX), json.dumps(SUFFIX)[1:-1], html.escape(SUFFIX), SUFFIX.encode().hex()]
    return found + [f"what they end with, {end!r}, in {path}" for end in ends for path, text in texts.items() if end in text]


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
    """A host without SSH; its server goes on."""
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
    units = {"prefect-api@4200.service", "prefect-services.service", "nginx.service", "prefect-worker@etl.service"}
    assert {unit["name"] for unit in found["processes"]} >= units
    assert [(worker["name"], worker["online"]) for worker in found["workers"]] == [("etl@api1", True)]


def told(port: int) -> str:
    """What an exporter on the host of Debian 13 says."""
    with LAB.open(f"https://172.28.14.11:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


# What the alerts and dashboards take from each; versions of a package call things by other names now and then.
EXPORTERS = {
    9100: ("node_filesystem_avail_bytes", 'node_systemd_unit_state{name="prefect-services.service",state="active"'),
    9187: ("pg_up 1", "pg_stat_activity_count", "pg_settings_max_connections"),
    9121: ("redis_up 1", "redis_memory_used_bytes", "redis_memory_max_bytes"),
    9113: ("nginx_up 1", "nginx_connections_active"),
    3903: ("prefect_http_requests_total{", "prefect_http_request_seconds_bucket{"),
    9420: ('prefect_exporter_target_up{target="database"} 1', 'prefect_exporter_target_up{target="redis"} 1'),
}


@pytest.mark.parametrize("port", EXPORTERS)
def test_exporters_run_without_a_host_that_watches(port: int) -> None:
    found = told(port)
    assert [word for word in EXPORTERS[port] if word not in found] == []


def test_every_port_is_tls_alone(capsys: pytest.CaptureFixture[str]) -> None:
    found = scan_hosts(LAB, {"api1": "172.28.14.21", "state1": "172.28.14.11"})
    with capsys.disabled():
        print(*["", *found], sep="\n")
    assert {(one.listener.host, one.listener.port) for one in found} >= {("state1", port) for port in EXPORTERS}
    assert [str(one) for one in found if one.problems] == []


def test_the_scrape_configuration_for_an_outside_prometheus(tmp_path: Path) -> None:
    written_ = tmp_path / "scrape.yml"
    LAB.play("scrape_config", scrape_config_file=str(written_))
    jobs = {job["job_name"]: job for job in yaml.safe_load(written_.read_text())["scrape_configs"]}
    assert set(jobs) == {"node", "postgres", "redis", "nginx", "nginx_access", "prefect", "prefect_api"}
    asked = {target.rpartition(":")[2] for job in jobs.values() for each in job["static_configs"] for target in each["targets"]}
    assert asked == {*map(str, EXPORTERS), "4200", "4201"}


def test_exporters_that_are_turned_off_stop() -> None:
    units = (
        "prometheus-node-exporter prometheus-postgres-exporter prometheus-redis-exporter prometheus-nginx-exporter mtail prefect-exporter"
    )
    try:
        assert LAB.play("site", "--tags", "monitoring", exporters_enabled=False).changed == 3
        assert LAB.on("state1", f"systemctl is-active {units} || true; systemctl is-enabled {units} || true").split() == [
            *["inactive"] * 6,
            *["disabled"] * 6,
        ]
        assert LAB.play("site", "--tags", "monitoring", exporters_enabled=False).changed == 0
    finally:
        LAB.play("site", "--tags", "monitoring")
    assert LAB.on("state1", f"systemctl is-active {units}").split() == ["active"] * 6


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
    words = [form for password in passwords().values() for form in written(password)]
    LAB.on("state1", f"systemd-cat -t prefect-test printf '%s\\n' {shlex.join(words)}; journalctl --sync")
    LAB.on("state1", f"printf '%s\\n' {shlex.join(words)} >/var/log/nginx/error.log")
    texts, output = bundle(tmp_path)
    assert texts.keys() >= FILES
    assert "* nothing" in texts["README.txt"]
    assert [path for path, text in texts.items() if "PRIVATE KEY" in text] == []
    assert leaks({**texts, "what Ansible printed": output}) == []
    assert 'PREFECT_SERVER_DATABASE_PASSWORD="********"' in texts["api1/config/etc/prefect/prefect.env"]
    assert "upstream prefect_api" in texts["state1/config/nginx-T.txt"]
    assert "Started" in texts["state1/journal/prefect-services.service.txt"]
    for words_ in ("Revision of the schema", "Flow runs by state", "Connections", "Slow queries, now"):
        assert words_ in texts["api1/database.txt"]
    assert "(the database cannot be queried" not in texts["api1/database.txt"]
    assert "redis_version" in texts["api1/redis.txt"]
    assert re.search(r"stream +\S+ +\d", texts["api1/redis.txt"])
    assert "prefect==" in texts["api1/versions.txt"]
    assert "********" in texts["state1/log/var/log/nginx/error.log"]


def test_this_would_see_a_leak() -> None:
    assert all(leaks({"x": word}) for password in passwords().values() for word in written(password))
    assert set(passwords()) == {"database", "redis", "auth", "ops", "reader", "exporter", "worker"}


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
    assert "(the database cannot be queried:" in texts["api1/database.txt"]
    assert "(Redis cannot be queried:" in texts["api1/redis.txt"]
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
