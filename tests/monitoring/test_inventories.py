"""A deployment without a group `monitoring` is one like any other: Ansible has nothing to warn of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).parents[2]
PLAYBOOKS = ["site.yml", *(f"playbooks/{name}.yml" for name in ("preflight", "status", "support_bundle", "scrape_config"))]


def listed(commands: Commands, inventory: Path) -> str:
    return commands.run(
        ["ansible-playbook", "-i", inventory, *PLAYBOOKS, "--list-hosts"], env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    )


@pytest.mark.parametrize("name", ["single", "ha", "lab"])
def test_the_example_inventories(commands: Commands, name: str) -> None:
    assert "WARNING" not in listed(commands, ROOT / "inventories" / name)


def test_an_inventory_without_the_group(commands: Commands, tmp_path: Path) -> None:
    inventory = yaml.safe_load((ROOT / "inventories/ha/hosts.yml").read_text(encoding="utf-8"))
    del inventory["all"]["children"]["monitoring"]
    path = tmp_path / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    told = listed(commands, path)
    assert "WARNING" not in told
    # Every play for all hosts still finds each of them.
    everywhere = [part.split("tasks:")[0] for part in told.split("pattern: ") if "monitoring" in part.splitlines()[0]]
    assert len(everywhere) >= 6
    assert all("hosts (7)" in part for part in everywhere)


@pytest.mark.parametrize(("off", "left"), [({}, 7), ({"exporters_enabled": False}, 6), ({"exporters_enabled": "no"}, 6)])
def test_a_host_without_exporters_is_not_asked(commands: Commands, tmp_path: Path, off: dict[str, Any], left: int) -> None:
    inventory = yaml.safe_load((ROOT / "inventories/ha/hosts.yml").read_text(encoding="utf-8"))
    inventory["all"]["vars"] |= {"exporters_enabled": True, "prefect_auth_string": "admin:x", "prefect_redis_host": "x"}
    inventory["all"]["children"]["redis"]["hosts"]["redis1"] |= off
    hosts, written = tmp_path / "hosts.yml", tmp_path / "scrape.yml"
    hosts.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    commands.run(
        ["ansible-playbook", "-i", hosts, "playbooks/scrape_config.yml", "-e", f"scrape_config_file={written}"],
        env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )
    jobs = {job["job_name"]: job["static_configs"] for job in yaml.safe_load(written.read_text(encoding="utf-8"))["scrape_configs"]}
    assert len(jobs["node"]) == left
    assert ("redis" in jobs) == (not off)
