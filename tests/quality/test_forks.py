"""What Ansible's parent process has loaded before its first fork, so that the worker of each task inherits it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Commands

PLAYBOOK = """
- name: Evaluate a filter in the worker of each host
  hosts: "{{ common_hosts }}"
  gather_facts: false
  roles: [selfhosted.prefect.common]
  tasks:
    - name: Evaluate a filter
      ansible.builtin.assert:
        that: (['x'] | selfhosted.prefect.group_pattern) == '~^(x)$'
"""
INVENTORY = """
prefect_api:
  hosts:
    a: {ansible_connection: local}
    b: {ansible_connection: local}
"""
LOADED = re.compile(r"^\s*\d+ [\d.]+: Loading FilterModule '\S+selfhosted\.prefect\.plugins\.filter\.filters'(.*)$", re.MULTILINE)


def test_filters_are_loaded_once_for_all_tasks(commands: Commands, root: Path, tmp_path: Path) -> None:
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    output = commands.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "playbook.yml"],
        env={"ANSIBLE_CONFIG": str(root / "ansible.cfg"), "ANSIBLE_DEBUG": "1"},
    )
    loads = LOADED.findall(output)
    found = [load for load in loads if "found_in_cache=True" in load]
    assert (len(loads) - len(found), len(found)) == (1, 2), "\n".join(loads)
