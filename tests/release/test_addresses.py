"""IPv6 addresses in an inventory, through the roles' own variables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

HOSTS = {
    "four": {"ansible_host": "10.0.0.1", "listens": "0.0.0.0", "asked": "127.0.0.1"},  # noqa: S104  compared, and not listened on
    "six": {"ansible_host": "fd00::1", "listens": "::", "asked": "[::1]"},
    "one": {"ansible_host": "fd00::2", "prefect_api_listen_address": "fd00::2", "listens": "fd00::2", "asked": "[fd00::2]"},
    "named": {"ansible_host": "six.example.com", "prefect_api_listen_address": "::", "listens": "::", "asked": "[::1]"},
}


@pytest.mark.parametrize(("tls_mode", "scheme"), [("private_ca", "https"), ("off", "http"), (False, "http")])
def test_where_servers_listen_and_are_asked(commands: Commands, tmp_path: Path, tls_mode: object, scheme: str) -> None:
    state = {"hosts": {"state": {"ansible_host": "fd00::3"}}}
    inventory = {
        "all": {
            "vars": {"ansible_connection": "local", "prefect_redis_password": "x", "tls_mode": tls_mode, "scheme": scheme},
            "hosts": {"state": {"listens": "::", "asked": "[::1]"}},
            "children": {"nginx": state, "postgres": state, "redis": state, "prefect_api": {"hosts": HOSTS}},
        }
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    commands.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.yml", "tests/release/addresses.yml"],
        env={"ANSIBLE_CONFIG": str(commands.root / "ansible.cfg")},
    )
