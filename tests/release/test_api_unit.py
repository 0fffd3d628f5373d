"""How an API server is started: by Prefect's command, or with a certificate by what that command runs."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = sorted(path.stem for path in (ROOT / "roles/prefect/files/locks").glob("*.txt") if "-" not in path.stem)
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: selfhosted.prefect.prefect_api, tasks_from: preflight}
    - ansible.builtin.copy:
        content: "{{ lookup('ansible.builtin.template', template) }}"
        dest: "{{ dest }}"
        mode: "0644"
"""
SECRETS = {"prefect_auth_string": "a:b", "prefect_database_password": "c", "prefect_redis_password": "d"}


def unit(commands: Commands, folder: Path, **variables: Any) -> str:
    """The unit with these variables."""
    (folder / "play.yml").write_text(PLAY)
    given = {
        **SECRETS,
        "template": str(ROOT / "roles/prefect_api/templates/prefect-api@.service.j2"),
        "dest": str(folder / "unit"),
        **variables,
    }
    commands.run(["ansible-playbook", folder / "play.yml", "-e", json.dumps(given)], env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})
    return (folder / "unit").read_text()


def command(unit: str) -> list[str]:
    return shlex.split(next(line for line in unit.splitlines() if line.startswith("ExecStart=")).partition("=")[2])


def options(words: list[str]) -> dict[str, str]:
    """The options of a command that all have a value, but for the application."""
    words = [word for word in words if word != "--factory"]
    begin = next(number for number, word in enumerate(words) if word.startswith("--"))
    words = [word for word in words[begin:] if word != "prefect.server.api.server:create_app"]
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("given", [{"tls_mode": "off"}, {"tls_mode": False}, {"tls_api": False}])
def test_without_tls_it_is_prefects_command(commands: Commands, tmp_path: Path, given: dict[str, Any]) -> None:
    text = unit(commands, tmp_path, **given)
    assert "ExecStart=/opt/prefect/current/bin/prefect server start --host 0.0.0.0 --port %i --no-services\n" in text
    assert "PREFECT__" not in text


def test_with_tls_it_is_what_that_command_runs(commands: Commands, tmp_path: Path) -> None:
    text = unit(commands, tmp_path)
    words = command(text)
    assert words[:4] == ["/opt/prefect/current/bin/python", "-P", "-m", "uvicorn"]
    assert words[words.index("--factory") + 1] == "prefect.server.api.server:create_app"
    assert "Environment=PREFECT__SERVER_FINAL=1 PREFECT__SERVER_WEBSERVER_ONLY=1\n" in text
    found = options(words)
    assert re.fullmatch("/opt/prefect/tools/program-[0-9a-f]+", found.pop("--app-dir"))
    assert found == {
        "--host": "0.0.0.0",  # noqa: S104  compared, and not listened on
        "--port": "%i",
        "--workers": "1",
        "--timeout-keep-alive": "75",
        "--ws-ping-interval": "20.0",
        "--ws-ping-timeout": "20.0",
        "--log-level": "warning",
        "--ssl-certfile": "/etc/prefect-tls/prefect_api.crt",
        "--ssl-keyfile": "/etc/prefect-tls/prefect_api.key",
        "--ssl-ciphers": "ECDHE+AESGCM:ECDHE+CHACHA20",
    }


def test_settings_that_prefects_command_reads(commands: Commands, tmp_path: Path) -> None:
    settings = {
        "PREFECT_SERVER_API_WEBSOCKET_PING_INTERVAL": 10,
        "PREFECT_SERVER_API_WEBSOCKET_PING_TIMEOUT": 7,
        "PREFECT_SERVER_LOGGING_LEVEL": "INFO",
    }
    given = {"prefect_settings": settings, "prefect_api_keepalive_timeout": 90, "prefect_api_listen_address": "::"}
    found = options(command(unit(commands, tmp_path, **given)))
    wanted = {
        "--ws-ping-interval": "10",
        "--ws-ping-timeout": "7",
        "--log-level": "info",
        "--timeout-keep-alive": "90",
        "--host": "::",
    }
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_release_passes_on_nothing_else(commands: Commands, tmp_path: Path, version: str) -> None:
    """What its background mode has on its command line, and that its web server knows all that the unit has."""
    python = commands.run(["tools/client-venv", version], timeout=600).strip().splitlines()[-1]
    look = "import prefect.cli._server_utils as found; print(found.__file__)"
    source = Path(subprocess.run([python, "-c", look], capture_output=True, text=True, check=True).stdout.split()[-1]).read_text()
    function = next(node for node in ast.parse(source).body if getattr(node, "name", "") == "_run_in_background")
    constants = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    text = unit(commands, tmp_path)
    words = command(text)
    assert {constant for constant in constants if constant.startswith("--")} <= set(words)
    assert {constant for constant in constants if constant.startswith("PREFECT__")} == set(re.findall("PREFECT__[A-Z_]+", text))
    known = subprocess.run([python, "-m", "uvicorn", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(f"{word} " in known for word in words if word.startswith("--"))
