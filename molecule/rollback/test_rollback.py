"""The other ways in which a cluster is changed while people use it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import NEW, PREVIOUS, Lab, summary

LAB = Lab("rollback", 4300)
APIS = ("api1", "api2", "api3")


@contextmanager
def noon(folder: Path, what: str, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """People use the service, and none of them notices."""
    with LAB.load(folder) as load:
        yield
    with capsys.disabled():
        print(summary(what, load.report))
    assert (load.report["failed"], load.report["lost"]) == (0, 0), load.report


def revision() -> str:
    return str(LAB.on("state1", "sudo -u postgres psql -qAtd prefect -c 'SELECT version_num FROM alembic_version'")).strip()


def test_there_is_nothing_to_go_back_to_yet() -> None:
    played = LAB.play("rollback", expect=2)
    assert played.says("No host has a release before the one it runs", "Nothing was changed")


def test_back_and_forth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = revision()
    LAB.play("site", prefect_version=NEW)
    newer = revision()
    assert LAB.versions(APIS) == [NEW] * 3
    with noon(tmp_path, "rollback", capsys):
        LAB.play("rollback", prefect_version=NEW)
    assert LAB.versions([*APIS, "state1"]) == [PREVIOUS] * 4
    assert revision() == newer
    LAB.play("rollback", prefect_version=NEW)
    assert LAB.versions(APIS) == [NEW] * 3
    LAB.play("rollback", prefect_rollback_schema=True, prefect_version=NEW)
    assert LAB.versions(APIS) == [PREVIOUS] * 3
    assert revision() == older
    assert LAB.on("state1", "ls /var/backups/prefect/*.dump").split()


def test_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = LAB.started(APIS)
    with noon(tmp_path, "restart", capsys):
        LAB.play("restart", prefect_version=PREVIOUS)
    assert not set(LAB.started(APIS)) & set(before)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({}, "prefect_remove_host is not set", id="no host"),
        pytest.param({"prefect_remove_host": "state1"}, "state1 is a host of postgres, which this playbook does not remove", id="all data"),
        pytest.param({"prefect_remove_host": "api3", "prefect_remove_dead": True}, "api3 answers, so it is not dead", id="not dead"),
    ],
)
def test_removal_refused(variables: dict[str, Any], says: str) -> None:
    played = LAB.play("remove_host", expect=2, prefect_version=PREVIOUS, **variables)
    assert played.says(says, "Nothing was changed")
    assert played.changed == 0


def test_no_removal_without_redundancy() -> None:
    """Another part that does not work, or a host that does not answer: the one that would leave may be what is left."""
    LAB.on("api1", "systemctl stop prefect-api@4200")
    try:
        played = LAB.play("remove_host", expect=2, prefect_version=PREVIOUS, prefect_remove_host="api3")
    finally:
        LAB.on("api1", "systemctl start prefect-api@4200")
    assert played.says("prefect-api@4200.service on api1 is inactive (dead).", "Nothing was changed", "prefect_allow_degraded=true")
    assert played.changed == 0
    wait_until(lambda: LAB.ready("api1"))


def test_hosts_less_and_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host of API, services and workers, then one of nginx and monitoring, and both of them back."""
    with noon(tmp_path, "a host of API, services and workers less", capsys):
        LAB.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="api3")
    assert left("api3") == "", left("api3")
    assert not known("api3"), known("api3")
    assert LAB.on("state1", "systemctl is-active prefect-services prefect-watchdog").split() == ["active", "active"]
    again = LAB.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="api3")
    assert again.changed == 0, again.output[-6000:]

    with noon(tmp_path, "a host of nginx and monitoring less", capsys):
        LAB.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="lb2")
    assert left("lb2") == "", left("lb2")
    assert not known("lb2"), known("lb2")
    assert (
        LAB.on("lb2", "systemctl is-active nginx prometheus prometheus-alertmanager prometheus-node-exporter || true").split()
        == ["inactive"] * 4
    )
    assert not LAB.on("lb2", "nft list ruleset").strip()
    # Nothing is scraped any more, and nothing exposed.
    assert not LAB.on("api1", "ls /etc/systemd/system/prometheus-* 2>/dev/null || true")

    with noon(tmp_path, "two hosts more", capsys):
        LAB.play("site", prefect_version=PREVIOUS)
    assert {"nginx", "pg_hba", "firewall"} <= known("api3"), known("api3")
    assert LAB.versions(APIS) == [PREVIOUS] * 3


def test_a_dead_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["docker", "kill", f"prefect-{LAB.name}-api3"], check=True, capture_output=True)
    try:
        played = LAB.play("remove_host", expect=2, prefect_version=PREVIOUS, prefect_remove_host="api3")
        assert played.says("api3 does not answer (", "prefect_remove_dead=true", "Nothing was changed")
        with noon(tmp_path, "a dead host less", capsys):
            played = LAB.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="api3", prefect_remove_dead=True)
        assert played.says("Take api3 out of the groups prefect_api, prefect_services, prefect_worker of the inventory now.")
        assert not known("api3"), known("api3")
    finally:
        subprocess.run(["docker", "start", f"prefect-{LAB.name}-api3"], check=True, capture_output=True)


def left(host: str) -> str:
    """What of the deployment a host still has."""
    places = (
        "/opt/prefect /etc/prefect* /etc/systemd/system/prefect-* /etc/systemd/system/prometheus* /etc/systemd/system/nginx.service.d/*"
    )
    more = "/var/lib/prefect /etc/nginx/conf.d/* /etc/nginx/prefect* /etc/prometheus/prefect* /var/lib/prometheus/node-exporter/prefect*"
    wants = "/etc/systemd/system/multi-user.target.wants/{prefect,prometheus,nginx,mtail}*"
    return LAB.on(host, f"ls -d {places} {more} {wants} 2>/dev/null || true; systemctl list-units --plain --no-legend 'prefect-*'").strip()


def known(host: str) -> set[str]:
    """Where the others know a host's address."""
    address = {"api3": "172.28.10.23", "lb2": "172.28.10.42"}[host]
    places = {
        "nginx": ("state1", "/etc/nginx/conf.d/prefect.conf"),
        "pg_hba": ("state1", "/etc/postgresql/*/main/pg_hba.conf"),
        "firewall": ("state1", "/etc/prefect-firewall.nft"),
        "API server": ("api1", "/etc/systemd/system/prefect-api@.service"),
        "firewall of an API server": ("api1", "/etc/prefect-firewall.nft"),
        "Prometheus": ("lb2", "/etc/prometheus/prefect.yml"),
    }
    return {what for what, (on, path) in places.items() if on != host and LAB.on(on, f"grep -lF {address} {path} || true").strip()}


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until something holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(1)
