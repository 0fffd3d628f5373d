"""What the collection knows of each locked release's settings is what the release says, and a setting works by each of its names."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/prefect"
VERSIONS = sorted(path.stem for path in (ROLE / "files/locks").glob("*.txt") if "-" not in path.stem)
SHOW = "import json; from prefect.settings import get_current_settings as g; print(json.dumps(g().server.model_dump(mode='json')))"

pytestmark = pytest.mark.slow
sys.path.insert(0, str(ROOT / "tools"))
settings_table = importlib.import_module("settings_table")


def interpreter(commands: Commands, version: str) -> str:
    return commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]


def environment(commands: Commands, folder: Path, settings: dict[str, Any], version: str, redis_hosts: int = 1) -> dict[str, str]:
    """What the role makes of `prefect_settings`, as a unit gets it, where so many hosts have Redis."""
    target, inventory = folder / "settings.json", folder / "hosts.yml"
    hosts = {f"redis{number}": {"ansible_host": f"10.0.0.{number}"} for number in range(1, redis_hosts + 1)}
    inventory.write_text(yaml.safe_dump({"redis": {"hosts": hosts}}))
    given = {
        "settings_file": str(target),
        "prefect_version": version,
        "prefect_settings": settings,
        "prefect_database_host": "db",
        "prefect_database_password": "x",
        "prefect_redis_host": "redis",
        "prefect_redis_password": "x",
        "prefect_auth_string": "a:b",
    }
    commands.run(
        ["ansible-playbook", "-i", inventory, "tests/release/settings.yml", "-e", json.dumps(given)],
        env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )
    found = json.loads(target.read_text())
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_table(commands: Commands, version: str) -> None:
    written = (ROLE / "files/settings" / f"{version}.json").read_text()
    assert written == settings_table.text(settings_table.table(interpreter(commands, version))), f"tools/settings_table.py {version}"


@pytest.mark.parametrize("version", VERSIONS)
def test_older_names_win_over_the_roles_own_defaults(commands: Commands, tmp_path: Path, version: str) -> None:
    given = {"PREFECT_API_DATABASE_TIMEOUT": 61, "prefect_ui_api_url": "/mine", "PREFECT_API_ENABLE_METRICS": False}
    made = environment(commands, tmp_path, given, version)
    made = {**made, "PREFECT_HOME": str(tmp_path), "HOME": str(tmp_path)}
    shown = subprocess.run(
        [interpreter(commands, version), "-c", SHOW], env=made, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    server = json.loads(shown.stdout.splitlines()[-1])
    assert (server["database"]["timeout"], server["ui"]["api_url"], server["metrics_enabled"]) == (61.0, "/mine", False)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_older_name_of_what_the_role_tunes(commands: Commands, tmp_path: Path, version: str) -> None:
    """Each alone, all at once: none of them is left beside the role's value."""
    table = json.loads((ROLE / "files/settings" / f"{version}.json").read_text())["settings"]
    tuned = yaml.safe_load((ROLE.parent / "common/vars/main/settings.yml").read_text())["__common_tuning"]
    older = {names[-1]: name for name, names in table.items() if name in tuned and names}
    assert len(older) > 3
    made = environment(commands, tmp_path, dict.fromkeys(older, "77"), version)
    assert {made[name] for name in older.values()} == {"77"}
    assert not set(older) & set(made)


@pytest.mark.parametrize(("hosts", "replicas"), [(1, None), (3, "1"), (5, "2")])
def test_so_many_replicas_have_an_event_that_a_majority_has_it(
    commands: Commands, tmp_path: Path, hosts: int, replicas: str | None
) -> None:
    made = environment(commands, tmp_path, {}, VERSIONS[-1], redis_hosts=hosts)
    assert made.get("SELFHOSTED_PREFECT_REDIS_REPLICAS") == replicas


@pytest.mark.parametrize("version", VERSIONS)
def test_a_release_is_asked_for_what_no_table_knows(commands: Commands, version: str) -> None:
    """As with a lock file of the user's own: names that would be passed over are refused by the release, before a server starts."""
    given = {
        "PREFECT_API_DATABASE_TIMEOUT": 60,
        "PREFECT_SERVER_DATABASE_TIMEOUT": 10,
        "PREFECT_SERVER_UI": {"api_url": "/x"},
        "PREFECT_REDIS_MESSAGING_PORT": "redis",
        "PREFECT_SERVER_DATABSE_ECHO": True,
    }
    release = Path(interpreter(commands, version)).parents[1]
    told = commands.run(
        [
            *("ansible", "localhost", "-m", "selfhosted.prefect.prefect_settings_check"),
            *("-e", "ansible_python_interpreter={{ansible_playbook_python}}"),
            *("-a", json.dumps({"release": str(release), "environment": given})),
        ],
        env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        expect=2,
    )
    words = " ".join(told.split())
    assert "PREFECT_API_DATABASE_TIMEOUT and PREFECT_SERVER_DATABASE_TIMEOUT are names of one setting" in words
    assert "PREFECT_SERVER_UI is the name of a group" in words
    assert "PREFECT_REDIS_MESSAGING_PORT: Input should be a valid integer" in words
    assert "PREFECT_SERVER_DATABSE_ECHO (is PREFECT_SERVER_DATABASE_ECHO meant?)" in words
