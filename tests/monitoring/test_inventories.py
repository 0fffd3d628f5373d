"""A deployment without a group `monitoring` is one like any other: Ansible has nothing to warn of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLAYBOOKS = ["site.yml", *(f"playbooks/{name}.yml" for name in ("preflight", "status", "support_bundle", "scrape_config"))]


def listed(commands: Commands, inventory: Path) -> str:
    return commands.run(
        ["ansible-playbook", "-i", inventory, *PLAYBOOKS, "--list-hosts"], env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    )


def example(name: str) -> Any:
    return yaml.safe_load((ROOT / "inventories" / name / "hosts.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["single", "simple", "ha", "lab", "lab-ha"])
def test_the_example_inventories(commands: Commands, name: str) -> None:
    assert "WARNING" not in listed(commands, ROOT / "inventories" / name)


@pytest.mark.parametrize(("name", "hosts"), [("simple", 7), ("ha", 8)])
def test_an_inventory_without_the_group(commands: Commands, tmp_path: Path, name: str, hosts: int) -> None:
    inventory = example(name)
    del inventory["all"]["children"]["monitoring"]
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    told = listed(commands, path)
    assert "WARNING" not in told
    # Every play for all hosts still finds each of them.
    everywhere = [part.split("tasks:")[0] for part in told.split("pattern: ") if "|monitoring" in part.splitlines()[0]]
    assert len(everywhere) >= 6
    assert all(f"hosts ({hosts})" in part for part in everywhere)


def scrape_configs(commands: Commands, folder: Path, inventory: Any, *arguments: str) -> list[dict[str, Any]]:
    """What a Prometheus of one's own is given."""
    hosts, written = folder / "hosts.yml", folder / "scrape.yml"
    inventory["all"]["vars"] |= {"exporters_enabled": True, "prefect_auth_string": "admin:x", "prefect_redis_host": "x"}
    hosts.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    commands.run(
        ["ansible-playbook", "-i", hosts, "playbooks/scrape_config.yml", "-e", f"scrape_config_file={written}", *arguments],
        env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )
    loaded: list[dict[str, Any]] = yaml.safe_load(written.read_text(encoding="utf-8"))["scrape_configs"]
    return loaded


@pytest.fixture
def simple() -> Any:
    return example("simple")


def test_every_part_of_a_cluster_is_scraped(commands: Commands, tmp_path: Path) -> None:
    configs = scrape_configs(commands, tmp_path, example("ha"))
    jobs = {job["job_name"]: [target for group in job["static_configs"] for target in group["targets"]] for job in configs}
    assert {name: len(targets) for name, targets in jobs.items()} == {
        "node": 8, "postgres": 3, "redis": 3, "redis_sentinel": 3, "etcd": 3, "patroni": 3, "nginx": 2, "nginx_access": 2,
        # The host that takes backups has an HAProxy, too.
        "haproxy": 4, "prefect": 2, "prefect_api": 3,
    }  # fmt: skip


@pytest.mark.parametrize(("off", "left"), [({}, 7), ({"exporters_enabled": False}, 6), ({"exporters_enabled": "no"}, 6)])
def test_a_host_without_exporters_is_not_asked(commands: Commands, tmp_path: Path, simple: Any, off: dict[str, Any], left: int) -> None:
    simple["all"]["children"]["redis"]["hosts"]["redis1"] |= off
    jobs = {job["job_name"]: job["static_configs"] for job in scrape_configs(commands, tmp_path, simple)}
    assert len(jobs["node"]) == left
    assert ("redis" in jobs) == (not off)


HTTPS = {"scheme": "https"}
OURS = {**HTTPS, "tls_config": {"ca_file": "/etc/prometheus/prefect-ca.crt"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([], [OURS, OURS, OURS], id="private"),
        pytest.param(["scrape_config_ca_file=/x.crt"], [{**HTTPS, "tls_config": {"ca_file": "/x.crt"}}] * 3, id="elsewhere"),
        pytest.param(["tls_mode=provided"], [HTTPS] * 3, id="of the system"),
        pytest.param(["tls_exporters=false"], [{}, {}, OURS], id="a leg without"),
        pytest.param(["tls_mode=off"], [{}, {}, {}], id="none"),
    ],
)
def test_each_leg_is_asked_as_it_listens(commands: Commands, tmp_path: Path, simple: Any, given: list[str], expected: list[Any]) -> None:
    extra = [word for each in given for word in ("-e", each)]
    jobs = {job["job_name"]: job for job in scrape_configs(commands, tmp_path, simple, *extra)}
    asked = [jobs[name] for name in ("node", "prefect", "prefect_api")]
    assert [{key: job[key] for key in ("scheme", "tls_config") if key in job} for job in asked] == expected
