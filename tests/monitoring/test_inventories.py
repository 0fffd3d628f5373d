"""A deployment without a group `monitoring` is one like any other: Ansible has nothing to warn of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
