"""Bad input on one machine, without containers: each is refused by name, before anything changes.

Every run is a dry run, so that a refusal that is missing changes nothing here. On bare hosts, and for the site: molecule/refusals.
"""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("postgres", "redis", "prefect_api", "prefect_services", "nginx")
SECRETS = ("prefect_auth_string", "prefect_database_password", "prefect_redis_password")
GIVEN: dict[str, Any] = {
    "prefect_auth_string": "admin:x",
    "prefect_database_password": "x",
    "prefect_redis_password": "x",
    "exporters_redis_password": "x",
    "nginx_listen_port": 8080,
}
COMPONENTS = [*GROUPS, "monitoring", "prefect_worker"]
LOCAL = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": "/usr/bin/python3"}

GONE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


class Refusals:
    """Runs playbooks that have to be refused, on this machine as the host `here`."""

    def __init__(self, commands: Commands, folder: Path) -> None:
        self._commands = commands
        self._folder = folder

    def said(
        self,
        playbook: Path | list[dict[str, Any]],
        groups: tuple[str, ...] = (),
        *,
        rc: int = 2,
        gone: tuple[str, ...] = (),
        **variables: Any,
    ) -> str:
        """All that a refused run says, on one line. `gone` are the groups of another host, which does not answer."""
        if isinstance(playbook, list):
            plays, playbook = playbook, self._folder / "playbook.yml"
            playbook.write_text(yaml.safe_dump([{"hosts": "here", "gather_facts": False, **play} for play in plays], sort_keys=False))
        hosts = {group: [*["here"] * (group in groups), *["gone"] * (group in gone)] for group in (*groups, *gone)}
        children: dict[str, Any] = {group: {"hosts": {name: {} for name in names}} for group, names in hosts.items()}
        inventory = {"all": {"vars": LOCAL, "hosts": {"here": {}, **({"gone": GONE} if gone else {})}, "children": children}}
        (self._folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        output = self._commands.run(
            ["ansible-playbook", "--check", "-i", self._folder / "hosts.yml", playbook, "-e", json.dumps(variables)],
            env={"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            expect=rc,
        )
        assert "changed=0" in output, output
        assert not any(f"changed={number}" in output for number in range(1, 10)), output
        return " ".join(output.split())


@pytest.fixture
def refusals(commands: Commands, tmp_path: Path) -> Refusals:
    return Refusals(commands, tmp_path)


@pytest.mark.parametrize(
    ("components", "says"),
    [
        pytest.param([*COMPONENTS, "redis"], "common_components lists redis more than once.", id="listed twice"),
        pytest.param([*COMPONENTS, "prefect_backup"], "common_components lists prefect_backup, and ", id="without a description"),
        pytest.param([*COMPONENTS, "gone"], "common_components lists gone, and ", id="without a role"),
    ],
)
def test_components(refusals: Refusals, components: list[str], says: str) -> None:
    said = refusals.said(ROOT / "playbooks" / "preflight.yml", GROUPS, common_components=components, **GIVEN)
    assert says in said
    assert "Nothing was changed" in said
    assert "PLAY [Check the inventory and every host]" not in said


def test_conditions_of_argument_specs(refusals: Refusals) -> None:
    said = refusals.said(
        ROOT / "playbooks" / "preflight.yml",
        GROUPS,
        prefect_workers=[{"name": "x"}, {"pool": "etl", "requirements": ["x"], "virtualenv": "/v"}],
        postgres_hba_entries=[{"type": "local", "database": "a", "user": "b"}, {"type": "host", "database": "a", "user": "b"}],
        nginx_api_servers=[{"address": "api1"}],
        **GIVEN,
    )
    for says in (
        "prefect_workers[0] has no pool. Set it.",
        "prefect_workers[1] has both requirements and virtualenv. Leave all but one of them out.",
        "postgres_hba_entries[1] has no address, which type host needs. Set it.",
        "nginx_api_servers[0] has no port. Set it.",
    ):
        assert says in said
    assert "postgres_hba_entries[0]" not in said


@pytest.mark.parametrize(
    ("groups", "variables", "says"),
    [
        pytest.param(("prefect_api",), {}, "prefect_remove_host is not set. Say which host", id="no host"),
        pytest.param(
            ("prefect_api",), {"prefect_remove_host": "here2"}, "here2, which is no host of the deployment (gone, here).", id="unknown"
        ),
        pytest.param(
            (), {"prefect_remove_host": "gone"}, "gone is the last host of the group prefect_api, which the service", id="the last one"
        ),
        pytest.param(
            ("redis",), {"prefect_remove_host": "here"}, "here is the only host of redis, which this playbook does not remove", id="data"
        ),
        pytest.param(("prefect_api",), {"prefect_remove_host": "gone"}, "gone does not answer (", id="does not answer"),
        pytest.param(
            ("prefect_api",),
            {"prefect_remove_host": "here", "prefect_remove_dead": True},
            "here answers, so it is not dead, and what it is at has to end first. Leave prefect_remove_dead out.",
            id="not dead",
        ),
        pytest.param(
            ("prefect_api",),
            {"prefect_remove_host": "here", "prefect_backup_host": "here"},
            "The inventory names here in prefect_backup_host. Name another one there first",
            id="named",
        ),
    ],
)
def test_removals(refusals: Refusals, groups: tuple[str, ...], variables: dict[str, Any], says: str) -> None:
    said = refusals.said(ROOT / "playbooks" / "remove_host.yml", groups, gone=("prefect_api",), **GIVEN, **variables)
    assert says in said
    assert "Nothing was changed" in said
    assert "PLAY [Acquire the deployment lock]" not in said


@pytest.mark.parametrize(
    ("playbook", "variables", "says"),
    [
        pytest.param("switchover", {}, ["prefect_switchover is not set. Say what, with -e prefect_switchover=NAME"], id="nothing"),
        pytest.param("switchover", {"prefect_switchover": "etcd"}, ["prefect_switchover is etcd, which cannot be switched"], id="unknown"),
        pytest.param(
            "switchover",
            {"prefect_switchover": "redis", "prefect_switchover_to": "there"},
            ["there, which is no host of the group redis (here).", "The group redis has one host, here, so that there is no other"],
            id="one host",
        ),
        pytest.param("switchover", {"prefect_switchover": "nginx"}, ["The group nginx is empty"], id="no host"),
        pytest.param(
            "restart",
            {"prefect_restart": "etcd, cron"},
            ["prefect_restart names cron, which this playbook does not restart", "prefect_restart names etcd, and no host"],
            id="restart",
        ),
    ],
)
def test_planned_changes(refusals: Refusals, playbook: str, variables: dict[str, Any], says: list[str]) -> None:
    said = refusals.said(ROOT / "playbooks" / f"{playbook}.yml", ("postgres", "redis", "prefect_api"), **GIVEN, **variables)
    assert not [each for each in says if each not in said], said
    assert "Nothing was changed" in said
    assert "PLAY [Acquire the deployment lock]" not in said


@pytest.mark.parametrize(
    ("groups", "variables", "says"),
    [
        pytest.param(("prefect_api",), {}, "prefect_replace_host is not set. Say which host is dead", id="no host"),
        pytest.param(("prefect_api",), {"prefect_replace_host": "here2"}, "here2, which is no host of the deployment", id="unknown"),
        pytest.param(
            ("prefect_api",),
            {"prefect_replace_host": "gone", "prefect_replace_with": "here2"},
            "prefect_replace_with is here2, which is no host of the deployment (gone, here). Put it into the groups of gone.",
            id="a new one that there is not",
        ),
        pytest.param(
            ("redis",), {"prefect_replace_host": "here"}, "here is the only host of redis, and a new machine does not have", id="data"
        ),
        pytest.param(
            ("redis",),
            {"prefect_replace_host": "gone", "prefect_replace_with": "here"},
            "here is not in prefect_api, as gone is. Put it into the same groups.",
            id="in other groups",
        ),
        pytest.param(
            ("prefect_api",),
            {"prefect_replace_host": "here", "prefect_replace_with": "gone"},
            "here answers, so it is not dead. Have the playbook site add gone beside it",
            id="not dead",
        ),
    ],
)
def test_replacements(refusals: Refusals, groups: tuple[str, ...], variables: dict[str, Any], says: str) -> None:
    said = refusals.said(ROOT / "playbooks" / "replace.yml", groups, gone=("prefect_api",), **GIVEN, **variables)
    assert says in said
    assert "Nothing was changed" in said
    assert "PLAY [Check the inventory and every host]" not in said


def test_two_hosts(refusals: Refusals) -> None:
    """In both groups at once, where everything else is as it should be."""
    connected: dict[str, Any] = {"ansible_connection": "local", "prefect_address": "127.0.0.1", "tls_mode": "off"}
    said = refusals.said(ROOT / "playbooks" / "preflight.yml", GROUPS, gone=("postgres", "redis"), **GIVEN, **connected)
    assert "Nothing was changed." in said
    for group in ("postgres", "redis"):
        assert f"The group {group} has two hosts, gone and here." in said


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("prefect", SECRETS),
        ("prefect_migrate", SECRETS),
        ("prefect_api", SECRETS),
        ("prefect_services", SECRETS),
        ("exporters", ("exporters_redis_password",)),
        ("postgres", ("prefect_database_password",)),
        ("redis", ("prefect_redis_password",)),
        ("nginx", ("nginx_api_servers",)),
        ("keepalived", ("keepalived_password",)),
        ("prefect_backup", ("prefect_backup_host",)),
        ("prefect_drill", ("prefect_drill_confirm",)),
        ("prefect_restore", ("prefect_backup_host",)),
        ("prefect_worker", ("prefect_api_url", "prefect_auth_string")),
    ],
)
def test_a_role_alone_without_what_it_needs(refusals: Refusals, role: str, names: tuple[str, ...]) -> None:
    workers = [{"pool": "etl", "type": "process"}] if role == "prefect_worker" else []
    said = refusals.said([{"roles": [f"selfhosted.prefect.{role}"]}], prefect_workers=workers)
    assert [name for name in names if name not in said] == [], said
    assert "is undefined" not in said, said


POOLS = {"docker": "docker", "etl": "process"}


class Pools(http.server.BaseHTTPRequestHandler):
    """The API's answers about work pools."""

    def do_GET(self) -> None:
        kind = POOLS.get(self.path.rpartition("/")[2])
        body = json.dumps({"type": kind} if kind else {"detail": "Work pool not found."}).encode()
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """The URL of such an API."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pools) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_workers(refusals: Refusals, api: str, tmp_path: Path) -> None:
    """All problems of all workers at once, and none of one that will do."""
    newer = tmp_path / "newer"
    (newer / "lib" / "python3.11" / "site-packages" / "prefect-99.0.dist-info").mkdir(parents=True)
    entries = [
        {"pool": "gone"},
        {"pool": "docker"},
        {"pool": "etl", "name": "pinned", "requirements": ["prefect==99.0"]},
        {"pool": "etl", "name": "own", "virtualenv": str(newer)},
        {"pool": "etl", "name": "good"},
    ]
    play = {"roles": ["selfhosted.prefect.prefect_worker"]}
    said = refusals.said([play], ("prefect_worker",), prefect_workers=entries, prefect_api_url=api, **GIVEN)
    assert "Nothing was changed" in said
    assert "prefect_workers, gone: the work pool 'gone' does not exist. Create it" in said.replace("''", "'")
    assert "prefect_workers, docker: the work pool 'docker' is of the type docker" in said.replace("''", "'")
    assert "prefect_workers, etl-pinned: `requirements` has Prefect 99.0, and the servers run" in said
    assert "prefect_workers, etl-own: " in said
    assert "has Prefect 99.0, and the servers run" in said.partition("etl-own: ")[2]
    assert "etl-good" not in said.partition("[ERROR]")[2]


BAD = {
    "postgres": ({"postgres_version": "14.8"}, 'postgres_version is "14.8", but several Prefect servers need PostgreSQL'),
    "redis": ({"redis_settings": {"port": 1}}, "redis_settings holds port, which the role sets itself"),
    "nginx": ({"nginx_tls_certificate": "/c.pem"}, "nginx_tls_certificate and nginx_tls_certificate_key go together"),
    "keepalived": ({"nginx_virtual_address": "lb"}, 'nginx_virtual_address is "lb", which is no IP address.'),
    "monitoring": ({"monitoring_rule_files": ["/nowhere"]}, "monitoring_rule_files names /nowhere"),
    "exporters": ({"exporters_enabled": True, "exporters_disabled": ["x"]}, "exporters_disabled names x; there are node"),
    "prefect": ({"prefect_releases_keep": 1}, "prefect_releases_keep is 1; it has to be 2 or more"),
    "prefect_api": ({"prefect_api_serial": 0}, "prefect_api_serial must be at least 1"),
    "prefect_backup": ({"prefect_backup_keep": 0}, 'prefect_backup_keep is "0"; it has to be 1 or more.'),
    "prefect_restore": ({"prefect_restore_file": ""}, "prefect_restore_file is missing: give the path of a dump on here"),
    "prefect_drill": ({"prefect_drill_scenarios": "x"}, "There is no scenario x (prefect_drill_scenarios)"),
}
PACKAGES = {
    "postgres": ("installed postgresql-14 14.8-1\n", "PostgreSQL 14.8 is installed, but"),
    "redis": ("installed 5:6.0.16-1\n", "Redis 6.0.16 is installed, but Prefect needs"),
}


def caught(role: str, tasks_from: str) -> list[dict[str, Any]]:
    """Tasks that show why a task file of a role fails."""
    include = {"ansible.builtin.include_role": {"name": f"selfhosted.prefect.{role}", "tasks_from": tasks_from}}
    told = {"ansible.builtin.debug": {"msg": f"{role}, {tasks_from}: " + "{{ [ansible_failed_result.msg] | flatten | join(' ') }}"}}
    return [{"block": [include, {"ansible.builtin.fail": {"msg": "nothing was refused"}}], "rescue": [told]}]


def test_every_role_checks_its_variables(refusals: Refusals) -> None:
    """Each role by its own task file, in one run."""
    plays = [{"tasks": caught(role, "preflight"), "vars": variables} for role, (variables, _said) in BAD.items()]
    said = refusals.said(plays, (*GROUPS, "monitoring"), rc=0, **GIVEN).replace('\\"', '"')
    assert [role for role, (_variables, says) in BAD.items() if f"{role}, preflight: {says}" not in said] == [], said


@pytest.mark.parametrize("role", PACKAGES)
def test_installed_servers_are_checked(refusals: Refusals, tmp_path: Path, role: str) -> None:
    listed, says = PACKAGES[role]
    program = tmp_path / "bin" / "dpkg-query"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '%s' '{listed}'\n")
    program.chmod(0o755)
    play = {"tasks": caught(role, "probe"), "environment": {"PATH": f"{program.parent}:{os.environ['PATH']}"}}
    assert f"{role}, probe: {says}" in refusals.said([play], GROUPS, rc=0, **GIVEN)
