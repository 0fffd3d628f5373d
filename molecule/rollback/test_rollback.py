"""The other ways in which a cluster is changed while people use it."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import NEW, PREVIOUS, ROOT, Lab, summary

LAB = Lab("rollback", 4300)
APIS = ("api1", "api2", "api3")
# For runs that go over all hosts: with more, two processors are busy with nothing else.
RATE = 15.0


@contextmanager
def noon(folder: Path, what: str, capsys: pytest.CaptureFixture[str], rate: float = 40) -> Iterator[None]:
    """People use the service, and none of them notices."""
    with LAB.load(folder, rate=rate) as load:
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
        pytest.param(
            {"prefect_remove_host": "state1"}, "state1 is the only host of postgres, which this playbook does not remove", id="all data"
        ),
        pytest.param({"prefect_remove_host": "api3", "prefect_remove_dead": True}, "api3 answers, so it is not dead", id="not dead"),
    ],
)
def test_removal_refused(variables: dict[str, Any], says: str) -> None:
    played = LAB.play("remove_host", expect=2, prefect_version=PREVIOUS, **variables)
    assert played.says(says, "Nothing was changed")
    assert played.changed == 0


def test_no_removal_without_redundancy() -> None:
    """While another part does not work, the host that would leave may be what is left."""
    LAB.on("api1", "systemctl stop prefect-api@4200")
    try:
        played = LAB.play("remove_host", expect=2, prefect_version=PREVIOUS, prefect_remove_host="api3")
    finally:
        LAB.on("api1", "systemctl start prefect-api@4200")
    assert played.says("api1:4200: ", "refused the connection", "Nothing was changed", "prefect_allow_degraded=true")
    assert played.changed == 0
    wait_until(lambda: LAB.ready("api1"))


def test_hosts_less_and_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host of API, services and workers, then one of nginx and monitoring; each leaves the inventory, too, and both come back."""
    with noon(tmp_path, "a host of API, services and workers less", capsys, RATE):
        played = LAB.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="api3")
    assert played.says("Take api3 out of the groups prefect_api, prefect_services, prefect_worker of the inventory now.")
    assert left("api3") == "", left("api3")
    assert not known("api3"), known("api3")
    assert LAB.on("state1", "systemctl is-active prefect-services prefect-watchdog").split() == ["active", "active"]
    again = LAB.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="api3")
    assert again.changed == 0, again.output[-6000:]

    # The others are as if the host had never been there.
    fewer = Fewer(LAB.name, LAB.port, leavers=("api3",))
    site = fewer.play("site", prefect_version=PREVIOUS, lab_checkout=str(ROOT))
    assert site.changed == 0, site.output[-6000:]
    with noon(tmp_path, "a host of nginx and monitoring less", capsys, RATE):
        fewer.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="lb2", lab_checkout=str(ROOT))
    assert left("lb2") == "", left("lb2")
    assert not known("lb2"), known("lb2")
    units = "nginx prometheus prometheus-alertmanager prometheus-node-exporter"
    assert LAB.on("lb2", f"systemctl is-active {units} || true").split() == ["inactive"] * 4
    assert "prefect" not in LAB.on("lb2", "nft list tables")
    # No host is scraped any more, and none exposes anything.
    assert not LAB.on("api1", "ls /etc/systemd/system/multi-user.target.wants/prometheus-* 2>/dev/null || true")

    LAB.play("site", prefect_version=PREVIOUS)
    assert {"nginx", "pg_hba", "firewall"} <= known("api3"), known("api3")
    assert LAB.versions(APIS) == [PREVIOUS] * 3


def test_a_dead_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["docker", "kill", f"prefect-{LAB.name}-api3"], check=True, capture_output=True)
    try:
        played = LAB.play("remove_host", expect=2, prefect_version=PREVIOUS, prefect_remove_host="api3")
        assert played.says("api3 does not answer (", "prefect_remove_dead=true", "Nothing was changed")
        with noon(tmp_path, "a dead host less", capsys, RATE):
            played = LAB.play("remove_host", prefect_version=PREVIOUS, prefect_remove_host="api3", prefect_remove_dead=True)
        assert played.says("Take api3 out of the groups prefect_api, prefect_services, prefect_worker of the inventory now.")
        assert not known("api3"), known("api3")
    finally:
        subprocess.run(["docker", "start", f"prefect-{LAB.name}-api3"], check=True, capture_output=True)


@dataclass(frozen=True)
class Fewer(Lab):
    """The same lab, with an inventory that some hosts have been taken out of."""

    leavers: tuple[str, ...] = ()

    @property
    def inventory(self) -> str:
        folder = ROOT / "build/lab" / self.name / "fewer"
        folder.mkdir(exist_ok=True)
        everything = yaml.safe_load((ROOT / LAB.inventory / "hosts.yml").read_text())["all"]
        for group in (everything, *everything["children"].values()):
            group["hosts"] = {name: values for name, values in (group.get("hosts") or {}).items() if name not in self.leavers}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": everything}, sort_keys=False))
        group_vars = folder / "group_vars"
        if not group_vars.is_symlink():
            group_vars.symlink_to(ROOT / "inventories/lab/group_vars")
        return str(folder)


def left(host: str) -> str:
    """What of the deployment a host still has."""
    places = (
        "/opt/prefect /etc/prefect* /etc/systemd/system/prefect-* /etc/systemd/system/prometheus* /etc/systemd/system/nginx.service.d/*"
    )
    more = "/var/lib/prefect /etc/nginx/conf.d/* /etc/nginx/prefect* /etc/prometheus/prefect* /var/lib/prometheus/node-exporter/prefect*"
    wants = "/etc/systemd/system/multi-user.target.wants/{prefect,prometheus,nginx,mtail}*"
    return LAB.on(host, f"ls -d {places} {more} {wants} 2>/dev/null || true; systemctl list-units --plain --no-legend 'prefect-*'").strip()


def known(host: str) -> set[str]:
    """Where the others know a host's address, which a firewall may have as part of a small network."""
    address = ipaddress.ip_address({"api3": "172.28.10.23", "lb2": "172.28.10.42"}[host])
    places = {
        "nginx": ("state1", "/etc/nginx/conf.d/prefect.conf"),
        "pg_hba": ("state1", "/etc/postgresql/*/main/pg_hba.conf"),
        "firewall": ("state1", "/etc/prefect-firewall.nft"),
        "API server": ("api1", "/etc/systemd/system/prefect-api@.service"),
        "firewall of an API server": ("api1", "/etc/prefect-firewall.nft"),
        "Prometheus": ("lb2", "/etc/prometheus/prefect.yml"),
    }
    texts = {what: LAB.on(on, f"cat {path} || true") for what, (on, path) in places.items() if on != host}
    return {what for what, text in texts.items() if any(address in network for network in networks(text))}


def networks(text: str) -> list[ipaddress.IPv4Network]:
    """The addresses and the small networks that a text has."""
    found = [ipaddress.ip_network(each, strict=False) for each in re.findall(r"172\.28\.10\.\d+(?:/3[0-2])?", text)]
    return [each for each in found if isinstance(each, ipaddress.IPv4Network)]


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until something holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(1)
