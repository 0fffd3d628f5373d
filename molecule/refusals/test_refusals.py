"""Bad input on bare hosts: one clear message each, soon, and nothing changed on any host."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Long enough for three hosts on two busy cores; a refusal that waits for a firewall's silence would take minutes.
SECONDS = 60

Inventory = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A bad input, by variables, by the inventory, or by something on a host; and what the message must say, and must not."""

    says: tuple[str, ...]
    variables: dict[str, Any] = field(default_factory=dict)
    inventory: Callable[[Inventory], object] = dict
    on_host: Callable[[], AbstractContextManager[None]] = nullcontext
    silent: tuple[str, ...] = ()


def ansible(*command: str) -> subprocess.CompletedProcess[str]:
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)


def on_host(host: str, script: str) -> str:
    """Runs a script as root in one of the containers."""
    command = ["docker", "exec", f"prefect-refusals-{host}", "bash", "-euc", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def fingerprint() -> str:
    """Everything a refused deployment could have left behind."""
    find = "find /etc /opt /var/lib /usr/local -xdev -type f -newer /run/reference 2>/dev/null | grep -v '^/var/lib/systemd' || true"
    script = f"dpkg -l | sha256sum; {find}; ls /opt"
    return "".join(on_host(host, script) for host in ("state1", "api1", "api2"))


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """A foreign server on a port."""
    on_host(
        host,
        f"systemd-run --quiet --unit=foreign python3 -m http.server {port}; until ss -Hltn sport = :{port} | grep -q .; do sleep 0.1; done",
    )
    try:
        yield
    finally:
        on_host(host, "systemctl stop foreign")


@contextmanager
def mounted(host: str, script: str, target: str) -> Iterator[None]:
    """Something laid over a file or folder of a host."""
    on_host(host, script)
    try:
        yield
    finally:
        on_host(host, f"umount {target}")


# As much of PostgreSQL as tells its version: no TLS, a login without a password, and nothing more.
OLD_POSTGRES = """
import socketserver
class Session(socketserver.BaseRequestHandler):
    def handle(self):
        if b"user" not in self.request.recv(4096):
            self.request.sendall(b"N")
            self.request.recv(4096)
        version = b"server_version" + bytes(1) + b"14.8 (Debian 14.8-1.pgdg120+1)" + bytes(1)
        status = b"S" + (len(version) + 4).to_bytes(4, "big") + version
        self.request.sendall(b"R" + bytes([0, 0, 0, 8, 0, 0, 0, 0]) + status + b"Z" + bytes([0, 0, 0, 5]) + b"I")
        self.request.recv(4096)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", 5432), Session).serve_forever()
"""


@contextmanager
def old_postgres() -> Iterator[None]:
    """A database server of another team's, too old."""
    on_host("state1", f"cat >/run/old.py <<'PY'\n{OLD_POSTGRES}\nPY\nsystemd-run --quiet --unit=old python3 /run/old.py")
    on_host("state1", "until ss -Hltn sport = :5432 | grep -q .; do sleep 0.1; done")
    try:
        yield
    finally:
        on_host("state1", "systemctl stop old; rm /run/old.py")


def full_disk() -> AbstractContextManager[None]:
    return mounted("api1", "mount -t tmpfs -o size=64m tmpfs /opt", "/opt")


def another_system() -> AbstractContextManager[None]:
    return mounted(
        "api1",
        "printf 'ID=fedora\\nVERSION_ID=42\\nNAME=Fedora\\n' >/run/other; mount --bind /run/other /usr/lib/os-release",
        "/usr/lib/os-release",
    )


def old_python() -> AbstractContextManager[None]:
    script = "printf '#!/bin/sh\\necho 3.9.2\\n' >/var/tmp/python3.9; chmod 755 /var/tmp/python3.9"
    return mounted("api1", f"{script}; mount --bind /var/tmp/python3.9 /usr/local/bin/python3.9", "/usr/local/bin/python3.9")


@contextmanager
def hand_built_pythons() -> Iterator[None]:
    """One that lacks modules, for Prefect, and one that lacks Debian's packages, for Ansible."""
    lacking = "printf '#!/bin/sh\necho 3.12.1 ssl sqlite3\n' >/var/tmp/python3.9"
    bare = "printf '#!/bin/sh\nexec /usr/bin/python3 -S \"$@\"\n' >/var/tmp/python3.9; touch /usr/local/bin/python3.9 -r /bin/true"
    mount = "chmod 755 /var/tmp/python3.9; mount --bind /var/tmp/python3.9 /usr/local/bin/python3.9"
    with (
        mounted("api1", f"{lacking}; {mount}", "/usr/local/bin/python3.9"),
        mounted("state1", f"{bare}; {mount}", "/usr/local/bin/python3.9"),
    ):
        yield


def python_in_usr_local(inventory: Inventory) -> None:
    """For Prefect on one host, and for Ansible on that of the database."""
    hosts = inventory["all"]["hosts"]
    hosts["api1"]["prefect_python"] = hosts["state1"]["ansible_python_interpreter"] = "/usr/local/bin/python3.9"


@contextmanager
def clones() -> Iterator[None]:
    """Two machines that were made from one image, one of which knows its domain."""
    on_host("api1", "hostname web")
    on_host("api2", "hostname WEB.example.com")
    try:
        yield
    finally:
        for host in ("api1", "api2"):
            on_host(host, f"hostname {host}")


def without(group: str) -> Any:
    """The inventory with an empty group."""

    def change(inventory: Inventory) -> None:
        inventory["all"]["children"][group]["hosts"] = {}

    return change


def same_address(inventory: Inventory) -> None:
    """Both API hosts at one address."""
    hosts = inventory["all"]["hosts"]
    hosts["api2"]["prefect_address"] = hosts["api1"]["ansible_host"]


def strange_address(inventory: Inventory) -> None:
    """A host by a name that DNS writes otherwise."""
    inventory["all"]["hosts"]["api1"]["prefect_address"] = "büro1"


def wrong_on_one_host(inventory: Inventory) -> None:
    """A variable of one host alone."""
    inventory["all"]["hosts"]["api2"]["prefect_api_keepalive_timeout"] = "long"


def misspelt_names(inventory: Inventory) -> None:
    """A group with a hyphen, whose hosts the playbooks know by another group only, an optional group, and a variable of one host."""
    children = inventory["all"]["children"]
    children["prefect-api"] = children["prefect_api"]
    children["prefect_api"] = {"hosts": {}}
    children["prefect_services"]["hosts"]["api1"] = None
    children["prefect_workers"] = {"hosts": {"api1": None}}
    inventory["all"]["hosts"]["api1"]["prefect_adress"] = "192.0.2.1"


def foreign_groups(inventory: Inventory) -> None:
    """Every group under a name that no playbook knows."""
    children = inventory["all"]["children"]
    del children["prefect"]
    inventory["all"]["children"] = {f"{group.replace('_', '-')}-hosts": hosts for group, hosts in children.items()}


def balancer_on_api1(inventory: Inventory) -> None:
    """A second load balancer."""
    inventory["all"]["children"]["nginx"]["hosts"]["api1"] = None


def shared_address(address: str) -> dict[str, Any]:
    """Variables of load balancers that share it, beside an API server on one of the hosts."""
    return {"nginx_virtual_address": address, "keepalived_password": "at-random", "nginx_listen_port": 8080}


@contextmanager
def another_address() -> Iterator[None]:
    """A machine that is no load balancer has it."""
    on_host("api2", "ip address add 172.28.4.77/32 dev eth0")
    try:
        yield
    finally:
        on_host("api2", "ip address delete 172.28.4.77/32 dev eth0")


@contextmanager
def another_keepalived() -> Iterator[None]:
    on_host("state1", "mkdir /etc/keepalived; echo 'vrrp_instance other { }' >/etc/keepalived/keepalived.conf")
    try:
        yield
    finally:
        on_host("state1", "rm -r /etc/keepalived")


def state_on_all(inventory: Inventory) -> None:
    """A cluster of PostgreSQL on all hosts, and two hosts of Redis."""
    children = inventory["all"]["children"]
    children["postgres"]["hosts"] = {"state1": None, "api1": None, "api2": None}
    children["redis"]["hosts"] = {"state1": None, "api1": None}


@contextmanager
def used_state_hosts() -> Iterator[None]:
    """A host that was a member of another cluster, one that has data of the same version as no other one, and a port that is taken."""
    data = "mkdir -p /var/lib/postgresql/{0}/main; echo {0} >/var/lib/postgresql/{0}/main/PG_VERSION"
    on_host("state1", data.format(15))
    on_host(
        "api1",
        f"{data.format(13)}; mkdir -p /var/lib/etcd/default/member; echo ETCD_INITIAL_CLUSTER_TOKEN=other >/var/lib/etcd/initial.env",
    )
    try:
        with listening("api2", 2380):
            yield
    finally:
        for host in ("state1", "api1"):
            on_host(host, "rm -rf /var/lib/postgresql /var/lib/etcd")


def balancer_on_api2(inventory: Inventory) -> None:
    """nginx on an API host, with the port that the API has."""
    inventory["all"]["children"]["nginx"]["hosts"] = {"api2": None}


def workers(*entries: dict[str, Any]) -> Callable[[Inventory], object]:
    """The inventory with workers on api1."""

    def change(inventory: Inventory) -> None:
        inventory["all"]["children"]["prefect_worker"] = {"hosts": {"api1": {"prefect_workers": list(entries)}}}

    return change


CASES = {
    "workers that cannot run": Case(
        (
            "prefect_workers has a-b more than once",
            "prefect_workers, a-b: the work pool 'a b' may not exist, and the API cannot be queried. Create it, or set `type: process`",
            "prefect_workers, newer: `requirements` has Prefect 99.0, and the servers run",
            "prefect_workers, own: /srv/flows has no Prefect in it",
            "prefect_workers, none: `limit` is 0",
        ),
        inventory=workers(
            {"pool": "a b"},
            {"pool": "a-b", "type": "process"},
            {"pool": "newer", "type": "process", "requirements": ["prefect==99.0"]},
            {"pool": "own", "type": "process", "virtualenv": "/srv/flows"},
            {"pool": "none", "type": "process", "limit": 0},
        ),
    ),
    "workers of the wrong type": Case(
        ("prefect_workers[0].type must be one of process, not 'docker'", "prefect_workers[1] holds pools, which means nothing there"),
        inventory=workers({"pool": "a", "type": "docker"}, {"pools": "b"}),
    ),
    "SQLite": Case(
        ("SQLite", "PREFECT_SERVER_DATABASE_CONNECTION_URL"),
        {"prefect_settings": {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////tmp/p.db"}},
    ),
    "PostgreSQL 14.8": Case(("14.8", "14.9"), {"postgres_version": "14.8"}),
    "Valkey on Debian 12": Case(("redis_package is valkey-server", "Debian 12", "Debian 13"), {"redis_package": "valkey-server"}),
    "no database": Case(("postgres", "prefect_database_host"), inventory=without("postgres")),
    "no Redis": Case(("redis", "prefect_redis_host"), inventory=without("redis")),
    "no balancer": Case(("nginx", "prefect_api_url"), inventory=without("nginx")),
    "no API host": Case(("prefect_api",), inventory=without("prefect_api")),
    "no services host": Case(("prefect_services",), inventory=without("prefect_services")),
    "no group with a host": Case(
        ("The group prefect_services has no host", "a group prefect-api-hosts", "rename it to prefect_api"), inventory=foreign_groups
    ),
    "one address twice": Case(("api1", "api2", "4200"), inventory=same_address),
    "balancer on the API's port": Case(("4200", "api2"), inventory=balancer_on_api2),
    "missing secret": Case(("prefect_redis_password",), {"prefect_redis_password": None}),
    "empty secret": Case(("prefect_database_password",), {"prefect_database_password": ""}),
    "auth string without a password": Case(("prefect_auth_string", "user:password"), {"prefect_auth_string": "admin"}),
    "unknown version": Case(("9.9.9", "make lock VERSION=9.9.9"), {"prefect_version": "9.9.9"}),
    "too few connections": Case(("postgres_max_connections", "20"), {"postgres_max_connections": 20}),
    "the role's own setting": Case(("PREFECT_SERVER_DOCKET_URL",), {"prefect_settings": {"PREFECT_SERVER_DOCKET_URL": "redis://x"}}),
    "the role's own setting by an older name": Case(
        ("PREFECT_API_DATABASE_HOST", "PREFECT_SERVER_DATABASE_HOST", "Set prefect_database_host"),
        {"prefect_settings": {"PREFECT_API_DATABASE_HOST": "x"}},
    ),
    "one setting by two names": Case(
        ("PREFECT_UI_API_URL and prefect_server_ui_api_url", "Use PREFECT_SERVER_UI_API_URL alone"),
        {"prefect_settings": {"PREFECT_UI_API_URL": "/a", "prefect_server_ui_api_url": "/b"}},
    ),
    "a group of settings": Case(
        ("PREFECT_SERVER_DATABASE is the name of a group",), {"prefect_settings": {"PREFECT_SERVER_DATABASE": {"timeout": 5}}}
    ),
    "a retention of nothing, and one that is no duration": Case(
        ("prefect_retention.events is 0", "Give at least 1d", 'prefect_retention.logs is "for ever"', "or forever"),
        {"prefect_retention": {"events": 0, "logs": "for ever"}},
    ),
    "a retention that is too short": Case(
        ("prefect_retention.flow_runs is 2h, which is too short",), {"prefect_retention": {"flow_runs": "2h"}}
    ),
    "a retention of what there is not": Case(
        ("prefect_retention holds flow_run", "It takes events, flow_runs, logs"), {"prefect_retention": {"flow_run": 7}}
    ),
    "a retention in two places": Case(
        ("PREFECT_EVENTS_RETENTION_PERIOD", "Set prefect_retention (its events) instead"),
        {"prefect_settings": {"PREFECT_EVENTS_RETENTION_PERIOD": "P30D"}},
    ),
    "an empty batch": Case(("prefect_api_serial", "at least 1"), {"prefect_api_serial": 0}),
    "every host in one batch": Case(("prefect_api_serial", "all 2"), {"prefect_api_serial": "100%"}),
    "a number that is a word": Case(("prefect_api_instances", "three"), {"prefect_api_instances": "three"}),
    "variables of the wrong type": Case(
        (
            "prefect_database_tls must be a dictionary of names and values, not True",
            "prefect_api_port must be a whole number, not 'http'",
            "redis_port must be a whole number, not ' 6379'",
            "prefect_settings is empty",
            "prefect_logfire_enabled must be true or false, not 'perhaps'",
            "prefect_version must be text, not 3.8. Put it in quotes",
            "prefect_redis_password refers to vault_redis_password, which is not defined",
            "nginx_tls_protocols refers to site_tls_protocol, which is not defined",
            "prefect_redis_tls holds cafile",
            "api2: prefect_api_keepalive_timeout must be a whole number, not 'long'",
            "The variable prefect_setings is not known",
        ),
        {
            "prefect_database_tls": True,
            "prefect_api_port": "http",
            "prefect_redis_port": " 6379",
            "prefect_settings": None,
            "prefect_logfire_enabled": "perhaps",
            "prefect_version": 3.8,
            "prefect_redis_password": "{{ vault_redis_password }}",
            "prefect_redis_tls": {"cafile": "/etc/ca.pem"},
            "nginx_tls_protocols": ["{{ site_tls_protocol }}"],
            "prefect_setings": {},
        },
        inventory=wrong_on_one_host,
    ),
    "misspelt names": Case(
        (
            "The variable prefect_setings is not known; the nearest name that is known is prefect_settings",
            "The variable redis_maxmemroy is not known; the nearest name that is known is redis_maxmemory",
            "api1: The variable prefect_adress is not known; the nearest name that is known is prefect_address",
            "The group prefect_api has no host",
            "a group prefect-api, which no playbook knows: if it is meant, rename it to prefect_api",
            "The group prefect_workers is not known, and prefect_worker has no host",
        ),
        {
            "prefect_setings": {},
            "redis_maxmemroy": "1gb",
            "redis_databases": 32,
            "prefect_site_owner": "data",
            "prefect_unchecked_variables": ["prefect_site_*"],
        },
        inventory=misspelt_names,
        silent=("redis_databases", "prefect_site_owner"),
    ),
    "characters that do not work": Case(
        (
            "prefect_auth_string holds a character beyond printable ASCII",
            "prefect_database_name is 'präfekt'",
            "prefect_database_user is 'pre fect'",
            "prefect_redis_username is 'a b'",
            "The address of api1 holds a character beyond ASCII: 'büro1'",
        ),
        {
            "prefect_auth_string": "admin:pässword",
            "prefect_database_name": "präfekt",
            "prefect_database_user": "pre fect",
            "prefect_redis_username": "a b",
        },
        inventory=strange_address,
    ),
    "Pythons built by hand": Case(
        (
            "api1: /usr/local/bin/python3.9 was built without the modules ssl, sqlite3",
            "state1: Ansible uses",
            "Set ansible_python_interpreter to /usr/bin/python3",
        ),
        inventory=python_in_usr_local,
        on_host=hand_built_pythons,
    ),
    "port taken": Case(("api1", "4200", "python3"), on_host=lambda: listening("api1", 4200)),
    "clones": Case(("api1 and api2 have one host name, web", "hostnamectl set-hostname"), on_host=clones),
    "disk full": Case(("api1", "/opt"), on_host=full_disk),
    "another system": Case(("api1", "fedora"), on_host=another_system),
    "old Python": Case(("api1", "3.9", "3.11"), {"prefect_python": "/usr/local/bin/python3.9"}, on_host=old_python),
    "database that swallows packets": Case(("192.0.2.1", "5432"), {"prefect_database_host": "192.0.2.1"}, inventory=without("postgres")),
    "Redis that refuses": Case(("172.28.4.11:6379",), {"prefect_redis_host": "172.28.4.11"}, inventory=without("redis")),
    "a trusted proxy by its name": Case(
        ("nginx_trusted_proxies", "proxy.example.com", "names are not looked up"),
        {"nginx_trusted_proxies": ["10.0.0.5", "proxy.example.com"]},
    ),
    "every address trusted": Case(("nginx_trusted_proxies", "0.0.0.0/0"), {"nginx_trusted_proxies": ["0.0.0.0/0"]}),
    "websockets that would be cut": Case(
        ("PREFECT_SERVER_API_WEBSOCKET_PING_INTERVAL", "120 s", "nginx_read_timeout 90 s"),
        {"prefect_settings": {"PREFECT_SERVER_API_WEBSOCKET_PING_INTERVAL": 120}},
    ),
    "log batches that would be refused": Case(
        ("PREFECT_LOGGING_TO_API_BATCH_SIZE", "nginx_client_max_body_size", "20m"),
        {"prefect_settings": {"PREFECT_LOGGING_TO_API_BATCH_SIZE": 20_000_000}},
    ),
    "a balancer by its name": Case(("prefect_api_forwarded_allow_ips", "lb1"), {"prefect_api_forwarded_allow_ips": ["127.0.0.1", "lb1"]}),
    "an address that the hosts cannot share": Case(
        ("nginx_virtual_address: 10.99.0.9 is outside of the networks of this host on eth0: 172.28.4.0/24.",),
        shared_address("10.99.0.9"),
        inventory=balancer_on_api1,
    ),
    "an address that a machine has": Case(
        ("nginx_virtual_address: 172.28.4.77 is in use already: the machine with the MAC address", "is none of the load balancers"),
        shared_address("172.28.4.77"),
        inventory=balancer_on_api1,
        on_host=another_address,
    ),
    "an address of a host": Case(
        ("nginx_virtual_address is 172.28.4.22, which is the address of api2 already", "keepalived_password is missing"),
        {**shared_address("172.28.4.22"), "keepalived_password": ""},
        inventory=balancer_on_api1,
    ),
    "another keepalived": Case(
        ("keepalived on state1 is configured already, in /etc/keepalived/keepalived.conf",),
        shared_address("172.28.4.100"),
        inventory=balancer_on_api1,
        on_host=another_keepalived,
    ),
    "state hosts that do not belong together": Case(
        (
            "The group redis has two hosts, api1 and state1.",
            "api1: has data of an etcd in /var/lib/etcd/default that began as other, and etcd_initial_cluster_token is prefect; it was a",
            "api1: has data of PostgreSQL 13 in /var/lib/postgresql/13/main, and state1 of 15; replication takes one version.",
            "api2: runs Debian GNU/Linux 13 (trixie) (debian), and state1 Debian GNU/Linux 12 (bookworm) (debian): each release of Debian",
            "api2: Port 2380 for etcd's members (etcd_peer_port) is taken",
        ),
        inventory=state_on_all,
        on_host=used_state_hosts,
    ),
    "wheelhouse that is not there": Case(("prefect_wheelhouse", "/nowhere"), {"prefect_wheelhouse": "/nowhere"}),
}


# All problems are reported together, so those that are found at the same point share a run. In `make test-full` each has its own.
TOGETHER = (
    (
        "SQLite",
        "no database",
        "no Redis",
        "no balancer",
        "one address twice",
        "the role's own setting",
        "the role's own setting by an older name",
        "one setting by two names",
        "a group of settings",
        "a retention of nothing, and one that is no duration",
        "a retention in two places",
        "every host in one batch",
        "port taken",
        "clones",
        "disk full",
        "another system",
        "old Python",
    ),
    (
        "characters that do not work",
        "no services host",
        "a retention that is too short",
        "an empty batch",
        "database that swallows packets",
        "Redis that refuses",
        "a balancer by its name",
        "unknown version",
    ),
    ("PostgreSQL 14.8", "too few connections"),
    ("a trusted proxy by its name", "every address trusted", "websockets that would be cut", "log batches that would be refused"),
    ("missing secret", "empty secret", "auth string without a password"),
    ("variables of the wrong type", "workers of the wrong type", "a number that is a word"),
)


# Unit tests have these, too, and each would take a run of its own.
ONLY_IN_FULL = ("an address that the hosts cannot share", "an address of a host", "another keepalived")


def merged(one: Any, other: Any) -> Any:
    """Both of two dictionaries or lists; of anything else the second, which has to be the only one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **other, **{name: merged(one[name], other[name]) for name in one.keys() & other.keys()}}
    assert isinstance(one, list) and isinstance(other, list), f"{one} and {other} cannot be had at once"
    return one + other


def together(cases: Sequence[Case]) -> Case:
    """Several bad inputs at once."""

    def inventory(changed: Inventory) -> None:
        for case in cases:
            case.inventory(changed)

    @contextmanager
    def on_host() -> Iterator[None]:
        with ExitStack() as stack:
            for case in cases:
                stack.enter_context(case.on_host())
            yield

    return Case(
        tuple(words for case in cases for words in case.says),
        reduce(merged, (case.variables for case in cases)),
        inventory,
        on_host,
        tuple(words for case in cases for words in case.silent),
    )


def runs() -> Iterator[Any]:
    shared = [name for names in TOGETHER for name in names]
    assert len(set(shared)) == len(shared)
    if os.environ.get("PREFECT_TEST_FULL"):
        yield from (pytest.param(case, id=name) for name, case in CASES.items())
        return
    yield from (pytest.param(together([CASES[name] for name in names]), id=", ".join(names)) for names in TOGETHER)
    yield from (pytest.param(case, id=name) for name, case in CASES.items() if name not in (*shared, *ONLY_IN_FULL))


@pytest.fixture(scope="module", autouse=True)
def nothing_changes() -> Iterator[None]:
    """What the hosts are like before the first refusal is what they are like after the last."""
    for host in ("state1", "api1", "api2"):
        on_host(host, "touch /run/reference; touch /usr/local/bin/python3.9 -r /bin/true")
    before = fingerprint()
    yield
    assert fingerprint() == before


@pytest.mark.parametrize("case", list(runs()))
def test_refused(case: Case, tmp_path: Path) -> None:
    inventory = yaml.safe_load((HERE / "inventory" / "hosts.yml").read_text())
    case.inventory(inventory)
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")
    variables = json.dumps({"lab_checkout": str(ROOT), **case.variables})
    with case.on_host():
        start = time.monotonic()
        result = ansible("ansible-playbook", "-i", str(tmp_path), "site.yml", "-e", variables)
        seconds = time.monotonic() - start
    output = result.stdout + result.stderr
    assert result.returncode != 0, output
    message = " ".join(output[output.index("[ERROR]") :].split())
    assert [words for words in case.says if words not in message] == [], output
    assert [words for words in case.silent if words in message] == [], output
    assert "changed=0" in output and "changed=1" not in output, output
    assert seconds < SECONDS, output
