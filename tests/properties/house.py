"""A deployment on one host, as data: its roles' variables, others in place of some, the files that come of them, and what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
COMPONENTS = ("postgres", "redis", "prefect_api", "prefect_services", "nginx", "monitoring", "prefect_worker")
HOST = "here"
ADDRESS = "10.0.0.1"
# What the tasks of roles find out about a host.
FOUND: Mapping[str, Any] = {
    "__nginx_found": {"files": [{"path": "/proc/net/if_inet6"}, {"path": "/usr/sbin/nginx"}]},
    "__postgres_packages": {"stdout": "installed postgresql-15 15.18-0+deb12u1"},
    "__common_cluster_packages": {"stdout": "installed etcd-server 3.4.23-4+b4\ninstalled patroni 3.0.2-1"},
    "__patroni_device": {"stat": {"exists": True}},
    "__redis_packages": {"stdout": "installed 7.0.15"},
    "__redis_other": {"stat": {"exists": False}},
    "__firewall_found": {"files": []},
    "__redis_server": {"secret_sha256": "0" * 64},
    "__redis_member": {
        "state": {"written": False, "replica_of": ""},
        "sentinel_state": {"master": "", "epoch": 0},
        "data": False,
        "asked": True,
        "sentinels": [],
    },
    "__haproxy_tls_files": {"results": [{"stat": {"exists": False}}]},
    "__haproxy_found": {"status": {"ActiveState": "inactive"}},
    "__prefect_worker_found": {"results": []},
    "__prefect_worker_pools": {"results": []},
    "__keepalived_found": {"address": "10.0.0.100", "interface": "eth0", "source": "10.0.0.1", "peers": ["10.0.0.2"], "problems": []},
    "__keepalived_before": {},
    "ansible_facts": {"distribution": "Debian", "distribution_major_version": "12", "processor_vcpus": 2, "memtotal_mb": 4000},
    "ansible_check_mode": False,
    "ansible_managed": "Managed by Ansible",
    "ansible_host": ADDRESS,
    "inventory_hostname": HOST,
    "inventory_dir": str(ROOT),
    "group_names": list(COMPONENTS),
    "ansible_play_hosts": [HOST],
    "ansible_play_hosts_all": [HOST],
    "playbook_dir": str(ROOT / "playbooks"),
}
# What a user has to give, and a little of everything that is off by default, so that templates show it.
GIVEN: Mapping[str, Any] = {
    "prefect_auth_string": "admin:secret-of-the-api",
    "prefect_database_password": "secret-of-the-database",
    "prefect_redis_password": "secret-of-redis",
    "patroni_replication_password": "secret-of-the-replicas",
    "patroni_restapi_password": "secret-of-patroni",
    "prefect_redis_lock_password": "secret-of-the-lock",
    "keepalived_password": "secret-of-keepalived",
    "nginx_virtual_address": "10.0.0.100",
    "prefect_redis_watchdog_password": "secret-of-the-watchdog",
    "redis_replication_password": "secret-of-the-replicas",
    "redis_sentinel_password": "secret-of-the-sentinels",
    "haproxy_redis_password": "secret-of-the-checks",
    "nginx_allowed_addresses": ["10.0.0.0/8"],
    "nginx_closed_paths": ["/api/closed"],
    "firewall_enabled": True,
    "exporters_redis_password": "secret-of-the-exporter",
    "nginx_basic_auth_users": {"reader": "secret-of-the-reader"},
    "nginx_trusted_proxies": ["10.9.0.0/16"],
    "nginx_tls_certificate": "/etc/ssl/own.crt",
    "nginx_tls_certificate_key": "/etc/ssl/own.key",
    "prefect_logfire_enabled": True,
    "prefect_logfire_token": "secret-of-logfire",
    "prefect_workers": [{"pool": "etl", "name": "one", "type": "process", "queues": ["default"], "environment": {"MORE": "x"}}],
    "prefect_settings": {"PREFECT_LOGGING_LEVEL": "INFO"},
    "postgres_settings": {"log_min_duration_statement": 1000},
    "redis_settings": {"timeout": "0"},
    "monitoring_alertmanager_receivers": [{"name": "none"}],
}
# Roles whose files say more where PostgreSQL and Redis have several hosts.
CLUSTERS = ("redis", "redis_sentinel", "haproxy")
CLUSTERED: Mapping[str, Any] = {"common_postgres_cluster": True, "common_redis_cluster": True}
# Checks of what a playbook was asked to do, or of what a host has already.
OF_A_HOST = (
    "etcd_start",
    "keepalived_host",
    "haproxy_host",
    "degraded",
    "monitoring_host",
    "patroni_host",
    "postgres_cluster",
    "postgres_host",
    "prefect_drill",
    "prefect_restore",
    "redis_cluster",
    "redis_data",
    "redis_host",
    "redis_single",
    "remove_host",
    "redundancy",
    "remove_host_answer",
    "restart",
    "replace_host",
    "replace_host_answer",
    "replace_host_found",
    "rotate",
    "rollback",
    "switchover",
    "switchover_state",
    "upgrade",
)
REDIS_SECRETS = ("redis_replication_password", "redis_sentinel_password", "haproxy_redis_password")
# Each example has an environment of its own, in which Jinja would compile the same expressions again.
_compile = Environment.compile
_compiled: dict[Any, Any] = {}


def compile_once(self: Environment, source: Any, *args: Any, **kwargs: Any) -> Any:
    key = (type(self), str(source), self.trim_blocks, args, tuple(kwargs.items()))
    if key not in _compiled:
        _compiled[key] = _compile(self, source, *args, **kwargs)
    return _compiled[key]


Environment.compile = compile_once  # type: ignore[method-assign]


@cache
def loader() -> DataLoader:
    init_plugin_loader([str(ROOT / "build" / "collections")])
    return DataLoader()


def read(path: Path) -> dict[str, Any]:
    return dict(loader().load_from_file(str(path), trusted_as_template=True) or {})


@cache
def variables() -> Mapping[str, Any]:
    """Those of all roles; a role reads no other's, so that they are not in each other's way."""
    found: dict[str, Any] = {}
    for folder in ("defaults", "vars"):
        for path in sorted(ROLES.glob(f"*/{folder}/**/*.yml")):
            found |= read(path)
    return {**found, **FOUND, **GIVEN}


@cache
def options() -> Mapping[str, Mapping[str, Any]]:
    """Every variable that users may set, with what its argument spec says."""
    entries = [entry for path in sorted(ROLES.glob("*/meta/argument_specs.yml")) for entry in read(path)["argument_specs"].values()]
    return {name: option for entry in entries for name, option in (entry.get("options") or {}).items()}


def templar(role: str = "common", **others: Any) -> Templar:
    """Evaluates templates with the deployment's variables, and others in place of some. What is given here is never a template."""
    mine = {**variables(), "role_path": str(ROLES / role), **others}
    mine["groups"] = {**{group: [HOST] for group in (*COMPONENTS, "all")}, "ungrouped": []}
    mine["hostvars"] = {HOST: {"prefect_address": ADDRESS, **{name: mine[name] for name in {*GIVEN, "ansible_host", *others}}}}
    return Templar(loader=loader(), variables=mine)


def value(name: str, **others: Any) -> Any:
    """What a variable comes to."""
    return templar(**others).template(trust_as_template(f"{{{{ {name} }}}}"))


def templates() -> list[Path]:
    """Every template of a role."""
    return sorted(path for path in ROLES.glob("*/templates/**/*") if path.is_file())


def render(path: Path, **others: Any) -> str:
    """A template's text, as the module `template` writes it."""
    role = path.relative_to(ROLES).parts[0]
    clustered = CLUSTERED if role in CLUSTERS else {}
    made = templar(role, **{**clustered, **others}).copy_with_new_env(searchpath=[str(path.parent)])
    return str(made.template(trust_as_template(path.read_text()), escape_backslashes=False, overrides={"trim_blocks": True}))


class Lazy(Mapping[str, Any]):
    """The deployment's variables, each evaluated when it is asked for."""

    def __init__(self, others: Mapping[str, Any]) -> None:
        self._templar = templar(**others)
        self._names = {*variables(), *others, "groups", "hostvars"}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._templar.template(trust_as_template(f"{{{{ {name} }}}}"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def refusals(name: str, given: Any) -> list[str]:
    """What the preflight says of a variable with a value: its form, and what it has to go with."""
    loader()
    from ansible_collections.selfhosted.prefect.plugins.lookup.problems import CHECKS
    from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.inventory import inventory_problems
    from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.variables import variable_problems

    found = variable_problems({name: options()[name]}, {name: given})
    if found:
        return found
    lazy = Lazy({name: given})
    for check in CHECKS.values():
        module = inspect.getmodule(check)
        if module and name in inspect.getsource(module) and check.__name__ not in OF_A_HOST:
            found += [problem for problem in check(lazy) if name in problem]
    if name in ("prefect_database_name", "prefect_database_user", "prefect_redis_username"):
        found += inventory_problems({"names": {name: given}})
    if name in ("prefect_auth_string", "prefect_database_password", "prefect_redis_password", *REDIS_SECRETS):
        found += inventory_problems({"secrets": {name: given}})
    return found
