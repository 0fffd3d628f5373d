# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._checks import (
    changes,
    drill,
    firewall,
    haproxy,
    keepalived,
    membership,
    monitoring,
    nginx,
    patroni,
    postgres,
    prefect,
    redis,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.workers import workers
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import degraded

Change = dict[str, Any]
Check = Callable[[Mapping[str, Any]], Iterable[str]]

ANY = str(ipaddress.IPv4Address(0))
LIMITS = {"kill_api": {"failed": 3, "lost": 0}, "stop_api": {"failed": 3, "longest": 5}}
# What a host of Redis has of which nothing is known yet.
BARE: Change = {
    "state": {"written": False, "replica_of": ""},
    "sentinel_state": {"master": "", "epoch": 0},
    "data": False,
    "asked": True,
    "sentinels": [],
}
CLUSTER: Change = {
    "common_redis_cluster": True,
    "redis_replication_password": "geheim",
    "redis_sentinel_password": "geheim",
    "haproxy_redis_password": "geheim",
}


LEFT_OUT: Change = {"b": {"prefect_address": "10.0.0.2"}, "c": {"prefect_address": "10.0.0.3"}}


def member(address: str, **found: Any) -> Change:
    return {"prefect_address": address, "__redis_member": {**BARE, **found}}


def seven(*down: int) -> Change:
    """How a Sentinel sees six others, of which some do not answer."""
    others = {n: f"10.0.0.{n}:26379" for n in range(2, 8)}
    view = {"sentinel": "10.0.0.1:26379", "master": "10.0.0.1:6379", "epoch": 1, "problem": ""}
    return {**view, "sentinels": list(others.values()), "down": [others[n] for n in down]}


SIGN_ON: Change = {"nginx_basic_auth_users": None, "nginx_auth_request_url": "http://127.0.0.1:4180/oauth2/auth"}


def database(**more: Any) -> dict[str, Any]:
    """What a member of a PostgreSQL cluster has: ``more`` replaces keys of its parts."""
    names = ("db1", "db2", "db3")
    members = [{"id": name[-1], "name": name, "peer_urls": [f"https://10.0.0.{name[-1]}:2380"], "started": True} for name in names]
    found = {
        "data": [{"path": "/var/lib/postgresql/15/main", "major": "15", "system_identifier": "74"}],
        "etcd": {"data": True, "token": "prefect", "cluster_id": "ff", "members": members, "problem": ""},
        "patroni": {"version": "3.0.2-1", "running": True, "system_identifier": "74", "cluster": {}, "problem": ""},
    }
    return {name: {**part, **more.get(name, {})} if isinstance(part, dict) else more.get(name, part) for name, part in found.items()}


REPLICA = {"role": "replica", "master": "10.0.0.1:6379", "link": "up", "offset": 9}


def state(host: str, **more: Any) -> dict[str, Any]:
    """What one of three hosts with PostgreSQL and Redis says of its clusters, as the status has it."""
    known = {"role": "sync_standby", "state": "streaming", "timeline": 3, "pending_restart": False}
    members = [{"name": name, **known} for name in ("db1", "db2", "db3")]
    members[0] |= {"role": "leader", "state": "running"}
    etcd = {"data": True, "members": [{"name": name} for name in ("db1", "db2", "db3")], "problem": ""}
    redis_role = {"role": "master", "offset": 9, "replicas": []} if host == "db1" else REPLICA
    return {
        "etcd": etcd,
        "patroni": {"cluster": {"leader": "db1", "paused": False, "members": members}},
        "replication": redis_role,
        "sentinels": [{"master": "10.0.0.1:6379"}],
        **more,
    }


def silent(problem: str) -> dict[str, Any]:
    """What one says whose processes do not answer."""
    return {"etcd": {"data": True, "members": [], "problem": problem}, "patroni": {"cluster": {}}, "problem": problem}


def whole(*without: str, holders: tuple[str, ...] = ("lb1",), **answers: dict[str, Any]) -> dict[str, Any]:
    """The status of three such hosts and two load balancers with one address. Members of PostgreSQL are all but ``without``."""
    said = {host: answers.get(host, state(host)) for host in ("db1", "db2", "db3")}
    for answer in said.values():
        cluster = answer.get("patroni", {}).get("cluster") or {}
        cluster["members"] = [each for each in cluster.get("members", []) if each["name"] not in without]
    return {
        "postgres_cluster": {"answers": list(said.items()), "synchronous": True},
        "redis_cluster": {"answers": list(said.items()), "addresses": [[f"db{n}", f"10.0.0.{n}"] for n in (1, 2, 3)]},
        "addresses": [[host, {"address": "10.0.0.100", "held": host in holders}] for host in ("lb1", "lb2")] + [["db1", {}]],
    }


def leaving(host: str, address: str, holders: tuple[str, ...] = ("lb1",)) -> Change:
    """The status of all others, while one leaves that they may have followed or that had the address."""

    def others(named: list[Any]) -> list[Any]:
        return [each for each in named if each[0] != host]

    report = whole(holders=holders)
    for cluster in ("postgres_cluster", "redis_cluster"):
        report[cluster] = {name: others(value) if isinstance(value, list) else value for name, value in report[cluster].items()}
    report["addresses"] = others(report["addresses"])
    named = {"hostvars": {host: {"ansible_host": address}}, "groups": {"nginx": ["lb1", "lb2"]}}
    return {"common_status_report": report, "common_leaving": host, **named}


def bare(**more: Any) -> dict[str, Any]:
    nothing = {"etcd": {"data": False, "token": "", "cluster_id": "", "members": []}, "patroni": {"version": "", "running": False}}
    return {**database(data=[], **nothing), **more}


def other(major: str = "15", identifier: str = "99") -> list[dict[str, Any]]:
    return [{"path": f"/var/lib/postgresql/{major}/main", "major": major, "system_identifier": identifier}]


def clock(offset: float, error: float = 0.1, known: bool = True) -> dict[str, Any]:
    return {"offset": offset, "error": error, "known": known}


def pg(name: str, role: str = "replica", state: str = "streaming", lag: int | None = 0, timeline: int = 3) -> dict[str, Any]:
    """A member of a PostgreSQL cluster as another one sees it."""
    known = {"lag": None, "state": "running"} if role == "leader" else {"lag": lag, "state": state}
    return {"name": name, "role": role, "timeline": timeline, "pending_restart": False, **known}


def pg_cluster(*members: dict[str, Any], paused: bool = False, synchronous: Any = True) -> dict[str, Any]:
    """What the members say; the second one has not answered."""
    leader = next((each["name"] for each in members if each["role"] == "leader"), "")
    answer = {"patroni": {"cluster": {"leader": leader, "members": list(members), "paused": paused}}}
    return {"answers": [["db1", answer], ["db2", {}], ["db3", answer]], "synchronous": synchronous}


def redis_member(
    role: str = "replica", link: str = "up", candidates: tuple[str, ...] = ("10.0.0.2:6379", "10.0.0.3:6379")
) -> dict[str, Any]:
    """What one of a Redis cluster says, and its Sentinel."""
    seen = {"sentinel": "x", "master": "10.0.0.1:6379", "problem": "", "candidates": list(candidates)}
    named = {"link": "", "master": ""} if role == "master" else {"link": link, "master": "10.0.0.1:6379"}
    return {"replication": {"role": role, **named}, "sentinels": [seen], "problem": ""}


def redis_members(**changed: Any) -> dict[str, Any]:
    found = {"r1": redis_member("master"), "r2": redis_member(), "r3": redis_member(), **changed}
    return {"answers": [[host, answer] for host, answer in found.items()], "addresses": [[f"r{n}", f"10.0.0.{n}"] for n in (1, 2, 3)]}


MEMBERS = (pg("db1", "leader"), pg("db2", "sync_standby"), pg("db3", lag=90))
GROUPS = {
    "postgres": ["db1", "db2", "db3"],
    "patroni": ["db1", "db2", "db3"],
    "etcd": ["db1", "db2", "db3"],
    "redis": ["r1", "r2", "r3"],
    "redis_sentinel": ["r1", "r2", "r3"],
    "nginx": ["lb1", "lb2"],
    "keepalived": ["lb1", "lb2"],
    "prefect_api": ["api1"],
}


def machine(address: str, release: str = "", redis: Change | None = None, **cluster: Any) -> Change:
    """What is known of a host with PostgreSQL and Redis, and maybe of one with Prefect."""
    found = {
        "prefect_address": address,
        "__preflight_host": {"found": {"cluster": cluster}},
        "__redis_member": redis or BARE,
        "__replace_units": {"units": []},
    }
    return {**found, **({"__prefect_info": {"links": {"/opt/prefect/current": release}}} if release else {})}


def survivor(number: int, **more: Any) -> Change:
    """One of those that are left of db1, db2 and db3 without db2."""
    members = [{"name": f"db{n}", "role": "leader" if n == 1 else "replica", "state": "running"} for n in (1, 3)]
    view = {"sentinel": f"10.0.0.{number}:26379", "problem": "", "down": ["10.0.0.2:26379", "10.0.0.2:6379"]}
    view |= {"replicas": ["10.0.0.2:6379", "10.0.0.3:6379"], "sentinels": ["10.0.0.2:26379", f"10.0.0.{4 - number}:26379"]}
    redis = {**BARE, "data": True, "sentinels": [{**view, **more.get("view", {})}]}
    cluster = {"leader": more.get("leader", "db1"), "members": [*members, *more.get("members", [])]}
    patroni = {"running": True, "cluster": cluster}
    etcd = {"data": True, "members": more.get("etcd", [{"name": f"db{n}"} for n in (1, 2, 3)])}
    release = more.get("release", "/opt/prefect/releases/3.9.1-a")
    return machine(f"10.0.0.{number}", release, redis, data=other(), etcd=etcd, patroni=patroni)


def replaced(new: Change | None = None, *, name: str = "db2", one: Change | None = None, three: Change | None = None) -> Change:
    """Three hosts of which db2 is replaced by a machine of that name, or of another one."""
    hosts = {"db1": one or survivor(1), name: new or machine("10.0.0.9", **bare()), "db3": three or survivor(3)}
    members = {"postgres": ["db1", "db2", "db3"], "redis": ["db1", "db2", "db3"], "prefect_api": ["db1", "db3"]}
    if name != "db2":
        members = {component: [*each, *[name] * ("db2" in each)] for component, each in members.items()}
        hosts["db2"] = {"prefect_address": "10.0.0.2"}
    return {"prefect_replace_with": "" if name == "db2" else name, "__replace_members": members, "hostvars": hosts}


UNIT = {"name": "nginx.service", "active": True, "state": "active (running)"}
GOOD: dict[Check, Change] = {
    patroni.etcd: {
        "etcd_client_port": 2379,
        "etcd_peer_port": "2380",
        "etcd_metrics_port": 2381,
        "etcd_heartbeat_interval": 100,
        "etcd_election_timeout": "1000",
        "etcd_initial_cluster_token": "prefect",
        "etcd_auto_compaction_retention": "1h",
    },
    patroni.etcd_start: {"__etcd_left_out": [], "__etcd_with_data": []},
    patroni.patroni: {
        "patroni_replication_password": "geheim",
        "patroni_restapi_password": "",
        "patroni_replication_username": "replicator",
        "patroni_rewind_username": "rewinder",
        "prefect_database_user": "prefect",
        "patroni_scope": "prefect",
        "patroni_ttl": "20",
        "patroni_loop_wait": 5,
        "patroni_retry_timeout": 5,
        "common_tls_ca_file": "/etc/prefect-tls/ca.crt",
        "tls_postgres": True,
    },
    patroni.patroni_host: {"inventory_hostname": "db1", "common_patroni_version": "3.0.2", "patroni_etcd_api": ""},
    patroni.postgres_cluster: {
        "__preflight_clusters": {"db1": database(), "db2": database(), "db3": database()},
        "__preflight_clocks": {"db1": clock(0.1), "db2": clock(-0.6), "db3": {}},
        "__preflight_systems": dict.fromkeys(("db1", "db2", "db3", "db4"), "Debian GNU/Linux 12 (bookworm)"),
        "common_groups": {"postgres": ["db1", "db2", "db3"]},
        "common_postgres_cluster": True,
        "etcd_initial_cluster_token": "prefect",
        "patroni_etcd_api": "",
        "postgres_version": "",
    },
    firewall.firewall: {
        "common_components": ["postgres", "nginx", "prefect_api"],
        "exporters_enabled": "false",
        "firewall_extra_rules": ["tcp dport 7 accept"],
        "firewall_revert_after": "120",
        "firewall_sources": {"nginx": ["10.0.0.0/8"], "exporters": []},
        "groups": {"nginx": ["lb1"], "prefect_api": ["api1"]},
    },
    postgres.postgres: {
        "postgres_version": "",
        "postgres_max_connections": "200",
        "__postgres_connection_budget": "71",
        "__postgres_api_processes": "3",
        "__postgres_services_processes": "1",
        "prefect_database_pool_size": 5,
        "prefect_database_max_overflow": 10,
        "postgres_reserved_connections": 10,
        "prefect_database_password": "geheim",
        "prefect_database_name": "prefect",
        "prefect_database_user": "prefect",
        "postgres_settings": {"work_mem": "8MB"},
        "tls_postgres": True,
        "common_groups": {"postgres": ["db1"]},
        "postgres_client_addresses": [
            "10.0.3.7",
            "10.0.3.0/24",
            "fd00::/64",
            "::1",
            "db.example.com",
            ".example.com",
            "samenet",
            "10.0.3.9/24",
        ],
        "postgres_hba_entries": [
            {"type": "local", "database": "all", "user": ["a", "b"]},
            {"database": ["a"], "user": "b", "address": "all"},
        ],
    },
    postgres.postgres_host: {"postgres_version": "", "__postgres_servers": [], "__postgres_installed_version": "", "__postgres_major": ""},
    postgres.prefect_backup: {
        "hostvars": {"state1": {}},
        "prefect_backup_host": "state1",
        "prefect_backup_keep": 7,
        "prefect_backup_max_age": 0,
        "prefect_backup_directory": "/var/backups/prefect",
    },
    postgres.prefect_restore: {
        "prefect_restore_file": "newest",
        "__prefect_restore_real": True,
        "prefect_backup_host": "state1",
        "prefect_backup_directory": "/var/backups/prefect",
    },
    redis.redis: {
        "prefect_redis_username": "prefect",
        "prefect_redis_password": "geheim",
        "prefect_redis_lock_username": "",
        "prefect_redis_lock_password": "",
        "prefect_redis_watchdog_username": "watchdog",
        "prefect_redis_watchdog_password": "geheim",
        "tls_redis": True,
        "redis_acl_users": {"reader": "geheim"},
        "redis_settings": {"timeout": 5},
        "redis_package": "redis-server",
        "common_redis_package_since": {"redis-server": 12, "valkey-server": 13},
        "ansible_facts": {},
        "__redis_other": {"stat": {"exists": False}},
        "__redis_other_package": "valkey-server",
        "common_redis_cluster": False,
        "common_redis_users": {"replication": "replication", "sentinel": "sentinel", "haproxy": "haproxy"},
        "redis_replication_password": "",
        "redis_sentinel_password": "",
        "haproxy_redis_password": "",
        "prefect_address": "10.0.0.1",
    },
    redis.redis_cluster: {
        "common_groups": {"redis": ["a", "b", "c"]},
        "hostvars": {host: member(f"10.0.0.{number}") for number, host in enumerate("abc", 1)},
        "redis_port": 6379,
        "common_redis_product": "redis",
        "ansible_play_hosts_all": ["a", "b", "c"],
    },
    redis.redis_single: {"inventory_hostname": "a", "__redis_member": BARE},
    haproxy.haproxy: {
        "inventory_hostname": "api1",
        "group_names": ["prefect_api", "redis"],
        "haproxy_postgres_port": 5000,
        "haproxy_postgres_replica_port": 5001,
        "haproxy_redis_port": "6380",
        "haproxy_metrics_port": 8405,
        "redis_port": 6379,
        "redis_sentinel_port": 26379,
    },
    haproxy.haproxy_host: {
        "inventory_hostname": "api1",
        "__haproxy_drop_in": "/d/prefect.conf",
        "__haproxy_found": {"status": {"ActiveState": "inactive", "DropInPaths": ""}},
    },
    redis.redis_host: {"__redis_installed_version": "7.0.15", "redis_package": "redis-server"},
    redis.redis_data: {
        "inventory_hostname": "state1",
        "common_redis_data": "/var/lib/redis",
        "redis_cli": "redis-cli",
        "__redis_earlier": {"files": [{"path": "/var/lib/redis/dump.rdb", "size": 90}]},
    },
    nginx.nginx: {
        "inventory_hostname": "lb1",
        "nginx_api_servers": [{"address": "10.0.0.1", "port": 4200}],
        "nginx_listen_addresses": [],
        "nginx_virtual_address": "",
        "nginx_access_log": "/var/log/nginx/prefect.access.log",
        "nginx_tls_certificate": "/etc/ssl/c.pem",
        "nginx_tls_certificate_key": "/etc/ssl/k.pem",
        "common_nginx_tls": True,
        "nginx_listen_port": 4200,
        "nginx_redirect_port": 80,
        "nginx_status_port": 9114,
        "nginx_api_tls_name": "prefect-api",
        "nginx_tls_ciphers": ["ECDHE-ECDSA-AES128-GCM-SHA256"],
        "nginx_tls_hsts_max_age": 60,
        "nginx_basic_auth_users": {"admin": "geheim", "reader": "geheim"},
        "nginx_login_rate": "10r/m",
        "nginx_allowed_addresses": [],
        "nginx_closed_paths": [],
        "nginx_auth_request_url": "",
        "nginx_auth_request_signin_url": "/oauth2/start",
        "nginx_auth_request_ca_file": "/etc/ssl/certs/ca-certificates.crt",
        "__nginx_own_addresses": ["10.0.0.1", "fd00::1"],
        "prefect_auth_string": "admin:geheim",
        "__nginx_agreed": {"settings": {}, "trusted_proxies": []},
    },
    keepalived.keepalived: {
        "nginx_virtual_address": "10.0.0.100",
        "keepalived_password": "geheimer",
        "keepalived_virtual_router_id": "51",
        "__keepalived_hosts": {"lb1": "10.0.0.1", "lb2": "fd00::2", "api1": "api1"},
    },
    keepalived.keepalived_host: {
        "inventory_hostname": "lb1",
        "__keepalived_found": {"problems": []},
        "__keepalived_before": {},
        "__keepalived_config": "/etc/keepalived/keepalived.conf",
    },
    monitoring.exporters: {
        "exporters_enabled": True,
        "exporters_disabled": ["node"],
        "common_exporters": [{"name": "node"}, {"name": "redis"}],
        "groups": {"redis": ["state1", "state2"]},
        "exporters_redis_username": "exporter",
        "exporters_redis_password": "geheim",
        "prefect_redis_username": "prefect",
        "redis_acl_users": {"reader": "geheim"},
        "common_redis_cluster": False,
        "common_redis_users": {"sentinel": "sentinel"},
    },
    monitoring.monitoring: {
        "monitoring_alertmanager_receivers": [{"name": "none"}],
        "monitoring_rule_files": [__file__],
        "monitoring_prometheus_port": 9090,
        "monitoring_alertmanager_port": "9093",
        "monitoring_alertmanager_cluster_port": 9094,
    },
    monitoring.monitoring_host: {
        "inventory_hostname": "monitor1",
        "__monitoring_missing": ["prometheus"],
        "__monitoring_own_unit": {"stat": {"exists": False}},
        "__monitoring_other_unit": {"skipped": True},
    },
    prefect.prefect: {
        "__prefect_lock_problem": "",
        "prefect_releases_keep": "2",
        "prefect_wheelhouse": "",
        "__prefect_wheelhouse_archives": [],
        "common_release_id": "3.8.8-0123456789ab",
        "prefect_logfire_enabled": False,
        "prefect_logfire_token": "",
        "prefect_logfire_sampling_rate": 1,
        "prefect_logfire_sampling_background_rate": "0.1",
    },
    prefect.prefect_api: {"groups": {"prefect_api": ["api1", "api2"]}, "prefect_api_serial": 1},
    prefect.prefect_worker: {
        "prefect_api_url": "http://lb1:4200/api",
        "prefect_auth_string": "admin:geheim",
        "common_release_version": "3.8.8",
        "__prefect_worker_all": workers(["w"], {"w": {"prefect_workers": [{"pool": "etl"}]}}),
        "__prefect_worker_types": {"etl": "process"},
        "__prefect_worker_versions": {},
    },
    membership.remove_host: {
        "prefect_remove_host": "api2",
        "__remove_members": {
            "postgres": ["db1"],
            "prefect_api": ["api1", "api2", "api3"],
            "nginx": ["lb1", "api2"],
            "monitoring": ["api2"],
            "haproxy": ["lb1"],
        },
        "__remove_verbs": {
            "postgres": ["remove"],
            "prefect_api": ["remove"],
            "nginx": ["remove"],
            "monitoring": ["remove"],
            "haproxy": [],
        },
        "__remove_addresses": ["10.0.0.22"],
        "__remove_mentions": {"nginx_api_servers": ["10.0.0.21", "10.0.0.23"], "prefect_backup_host": ["api1"], "prefect_api_url": [""]},
        "common_optional_components": ["monitoring", "haproxy"],
        "prefect_allow_degraded": False,
        "prefect_api_serial": 1,
        "groups": {"prefect_api": ["api1", "api2", "api3"], "all": []},
        "ansible_play_hosts_all": ["db1", "api1", "api2", "api3", "lb1"],
    },
    membership.remove_host_answer: {"prefect_remove_host": "api2", "prefect_remove_dead": "false", "__remove_answer": {"ping": "pong"}},
    changes.switchover: {
        "prefect_switchover": "postgres",
        "prefect_switchover_to": "db2",
        "common_group_hosts": GROUPS,
        "ansible_play_hosts_all": ["db1", "db2", "db3", "r1", "r2", "r3", "lb1", "lb2", "api1"],
    },
    changes.switchover_state: {
        "prefect_switchover": "postgres",
        "prefect_switchover_to": "",
        "common_leaders": {"postgres": "db1", "redis": "r1", "nginx": "lb1"},
        "patroni_most_lag": "1000",
        "common_status_report": {"postgres_cluster": pg_cluster(*MEMBERS), "redis_cluster": redis_members()},
    },
    changes.restart: {
        "prefect_restart": "etcd,redis",
        "common_restart_components": ["etcd", "redis"],
        "common_group_hosts": GROUPS,
        "ansible_play_hosts_all": ["db1", "db2", "db3", "r1", "r2", "r3", "lb1", "lb2", "api1"],
    },
    membership.replace_host: {
        "prefect_replace_host": "db2",
        "prefect_replace_with": "",
        "__replace_members": {
            "postgres": ["db1", "db2", "db3"],
            "etcd": ["db1", "db2", "db3"],
            "redis": ["cache1"],
            "prefect_api": ["api1", "db2"],
        },
        "groups": {"postgres": ["db1", "db2", "db3"], "redis": ["cache1"], "prefect_api": ["api1", "db2"], "all": []},
        "ansible_play_hosts_all": ["db1", "db2", "db3", "cache1", "api1"],
        "__remove_addresses": ["10.0.0.2"],
        "__remove_mentions": {"nginx_api_servers": ["10.0.0.21"], "prefect_backup_host": ["db1"]},
    },
    membership.replace_host_answer: {"prefect_replace_host": "db2", "prefect_replace_with": "db4", "__replace_answer": {"msg": "no route"}},
    membership.replace_host_found: {
        "prefect_replace_host": "db2",
        "common_current": "/opt/prefect/current",
        "common_release": "/opt/prefect/releases/3.9.1-a",
        **replaced(),
    },
    degraded.degraded: {
        "common_status_report": {
            "groups": {"prefect_api": ["api1"]},
            "postgres_cluster": {},
            "redis_cluster": {},
            "hosts": [["api1", {"units": [UNIT], "drained": []}, {"units": []}], ["db1", {"units": []}, {"units": [UNIT]}]],
            "servers": [{"name": "api1:4200", "problem": ""}],
            "database": {"address": "db1:5432", "problem": ""},
            "redis": {},
            "workers": [{"name": "etl@w1", "pool": "etl", "online": True, "problem": ""}],
        }
    },
    degraded.redundancy: {"common_status_report": whole()},
    prefect.rotate: {
        "groups": {"postgres": ["db1"], "redis": ["cache1"]},
        "prefect_database_user": "prefect",
        "__rotate_what": ["the password of the database", "the password of Redis", "the auth string"],
        "__rotate_users": [],
        "__rotate_left_out": [],
        "common_rotate_ca": "true",
        "tls_mode": "private_ca",
        "tls_ca_certificate": "~/nowhere/ca.crt",
        "tls_ca_key": "~/nowhere/ca.key",
    },
    prefect.rollback: {
        "__prefect_rollback": {"problem": "", "release": "/opt/prefect/releases/3.8.7-x", "version": "3.8.7"},
        "__lacking": [],
        "__left_out": ["api2"],
        "prefect_rollback_schema": "no",
    },
    prefect.upgrade: {
        "__prefect_upgrade_hosts": {"api1": "/r/1", "api2": ""},
        "prefect_upgrade_to": "2",
        "common_release": "/r/2",
        "prefect_upgrade_backup": "command",
        "prefect_upgrade_backup_command": ["true"],
    },
    drill.prefect_drill: {
        "__prefect_drill_table": {"kill_api": {}, "stop_api": {}, "restart_redis": {}},
        "__prefect_drill_limits": LIMITS,
        "__prefect_drill_given": ["kill_api"],
        "__prefect_drill_hostless": ["restart_redis"],
        "groups": {"prefect_api": ["api1", "api2"], "prefect_services": ["services1"]},
        "prefect_drill_api_host": "api1",
        "prefect_drill_services_host": "services1",
        "prefect_drill_limits": {"kill_api": {"longest": 9}},
        "prefect_drill_before": 1,
        "prefect_drill_seconds": "20",
        "prefect_drill_after": 5,
        "prefect_drill_rate": 5,
        "prefect_drill_clients": 5,
        "prefect_drill_confirm": "http://lb1:4200/api",
        "prefect_drill_url": "http://lb1:4200/api",
    },
}


def cases(table: dict[Check, list[Any]]) -> list[Any]:
    return [pytest.param(check, *each, id=f"{check.__name__}-{n}") for check, listed in table.items() for n, each in enumerate(listed)]


def report(**parts: Any) -> Change:
    """The good status with other parts."""
    return {"common_status_report": {**GOOD[degraded.degraded]["common_status_report"], **parts}}


def databases(*hosts: str) -> Change:
    """A deployment of these hosts of PostgreSQL."""
    members = {**GOOD[membership.remove_host]["__remove_members"], "postgres": [*hosts]}
    return {"__remove_members": members, "ansible_play_hosts_all": [*hosts, "api1", "api2", "api3", "lb1"]}


def joined(*hosts: str, api: tuple[str, ...] = ("api1", "db4")) -> Change:
    """These hosts of PostgreSQL, of which db4 is new, and of the API."""
    members = {"postgres": [*hosts], "etcd": [*hosts], "redis": ["cache1"], "prefect_api": [*api, *["db2"] * ("db2" in hosts)]}
    groups = {"all": [], **{name: members[name] for name in ("postgres", "redis", "prefect_api")}}
    return {"__replace_members": members, "groups": groups, "ansible_play_hosts_all": [*hosts, "cache1", "api1"]}


WELL: dict[Check, list[tuple[Change]]] = {
    **{check: [({},)] for check in GOOD},
    changes.switchover: [
        *(({"prefect_switchover": what, "prefect_switchover_to": to},) for what, to in (("redis", "r3"), ("nginx", "lb2"), ("nginx", ""))),
        ({"ansible_play_hosts_all": ["db1", "db2", "db3"]},),
    ],
    changes.switchover_state: [
        *(({"prefect_switchover_to": to},) for to in ("db1", "db2", "db3")),
        *(({"prefect_switchover": "redis", "prefect_switchover_to": to},) for to in ("", "r1", "r2")),
        ({"prefect_switchover": "nginx"},),
    ],
    changes.restart: [
        ({},),
        ({"common_restart_components": [*changes.RESTARTED[:4], "prefect_api", "nginx", "keepalived"]},),
        # Whatever of Prefect there is, on whatever hosts the run has.
        (
            {
                "prefect_restart": [],
                "common_restart_components": ["prefect_api", "prefect_services", "prefect_worker"],
                "ansible_play_hosts_all": [],
            },
        ),
    ],
    firewall.firewall: [
        ({},),
        ({"groups": {"prefect_api": ["api1"]}, "firewall_sources": {"prefect_api": ["10.0.0.9"]}},),
        ({"exporters_enabled": True, "groups": {"monitoring": ["watch1"]}},),
        ({"exporters_enabled": True, "firewall_sources": {"exporters": ["10.0.0.9"]}},),
    ],
    postgres.postgres: [
        *(({"postgres_version": version},) for version in ("", None, "14", "14.9", "15.4", 17)),
        ({"postgres_max_connections": 71},),
        *(({"common_groups": {"postgres": [f"db{number}" for number in range(hosts)]}},) for hosts in (0, 3, 5)),
        ({"common_groups": {}},),
    ],
    patroni.etcd_start: [({},), ({"__etcd_left_out": ["db3"], "__etcd_with_data": ["db1"]},)],
    patroni.patroni: [({},), ({"tls_postgres": "no", "patroni_restapi_password": "geheim", "common_tls_ca_file": ""},)],
    patroni.patroni_host: [
        ({},),
        ({"common_patroni_version": "", "patroni_etcd_api": "v3"},),
        ({"common_patroni_version": "4.0.7", "patroni_etcd_api": "v3"},),
        ({"common_patroni_version": "3.0.3", "patroni_etcd_api": "v3"},),
    ],
    patroni.postgres_cluster: [
        ({},),
        # Bare hosts, a single server that becomes the primary of a cluster, and a host that is to be replaced.
        ({"__preflight_clusters": {"db1": bare(), "db2": bare(), "db3": bare()}},),
        ({"__preflight_clusters": {"db1": bare(data=other("15", "1")), "db2": bare(), "db3": bare()}, "postgres_version": "15.4"},),
        (
            {
                "__preflight_clusters": {"db1": database(), "db2": database(), "db4": bare()},
                "common_groups": {"postgres": ["db1", "db2", "db4"]},
            },
        ),
        # A single server that never was anything else, and one with no database of its own.
        (
            {
                "__preflight_clusters": {"db1": bare(data=other("13") + other("15"))},
                "common_groups": {"postgres": ["db1"]},
                "common_postgres_cluster": False,
            },
        ),
        ({"__preflight_clusters": {"db1": {}}, "common_postgres_cluster": False},),
        # Packages of one version for any release.
        ({"postgres_version": "15", "__preflight_systems": {"db1": "Debian 12", "db2": "Debian 13"}},),
        # A difference that may be one of the measurement alone.
        ({"__preflight_clocks": {"db1": clock(0.0, 0.4), "db2": clock(1.7, 0.4), "db3": clock(9.0, 0.1, known=False)}},),
        ({"patroni_etcd_api": "v2", "__preflight_clusters": {"db1": database(), "db2": database(patroni={"version": "4.0.7"})}},),
    ],
    postgres.postgres_host: [
        ({},),
        ({"postgres_version": "17"},),
        ({"__postgres_servers": [["14", "14.9"]], "__postgres_installed_version": "14.9"},),
        (
            {
                "postgres_version": "15.4",
                "__postgres_servers": [["13", "13.1"], ["15", "15.18"]],
                "__postgres_installed_version": "15.18",
            },
        ),
    ],
    postgres.prefect_restore: [({},), ({"prefect_restore_file": "", "__prefect_restore_real": False},)],
    redis.redis: [
        ({},),
        ({"redis_package": "valkey-server", "ansible_facts": {"distribution_major_version": "13"}},),
        ({"ansible_facts": {"distribution_major_version": "sid"}},),
        ({"prefect_redis_watchdog_username": "", "prefect_redis_watchdog_password": ""},),
        ({"tls_redis": "false", "redis_settings": {"tls-port": 6380}},),
        ({**CLUSTER, "prefect_address": "fd00::1"},),
        ({"prefect_redis_username": "sentinel", "redis_settings": {"replicaof": "x 1"}, "prefect_address": "redis1"},),
    ],
    redis.redis_cluster: [
        # Of five three are left; and those that do not answer are gone already.
        *(
            ({"hostvars": {host: member(f"10.0.0.{n}", sentinels=[seven(*down)]) for n, host in enumerate("abc", 1)}},)
            for down in ((6, 7), (4, 5, 6, 7))
        ),
        ({},),
        # What is not part of the run matters only where it takes it to know the master.
        (
            {
                "ansible_play_hosts_all": ["a"],
                "hostvars": {
                    "a": member("10.0.0.1", sentinels=[{"sentinel": "b:1", "master": "10.0.0.2:6379", "epoch": 1, "problem": ""}]),
                    **LEFT_OUT,
                },
            },
        ),
        ({"ansible_play_hosts_all": ["a"], "hostvars": {"a": member("10.0.0.1", asked=False), **LEFT_OUT}},),
        # A single server with its data, and two that have none.
        ({"hostvars": {"a": member("10.0.0.1"), "b": member("10.0.0.2", data=True), "c": member("10.0.0.3")}},),
    ],
    haproxy.haproxy: [({},), ({"group_names": [], "haproxy_redis_port": 6379},)],
    haproxy.haproxy_host: [
        ({},),
        ({"__haproxy_found": {}},),
        ({"__haproxy_found": {"status": {"ActiveState": "active", "DropInPaths": "/x.conf /d/prefect.conf"}}},),
    ],
    redis.redis_host: [({},), ({"__redis_installed_version": ""},), ({"__redis_installed_version": "6.2"},)],
    redis.redis_data: [
        ({},),
        ({"__redis_earlier": {}},),
        ({"__redis_earlier": {"files": [{"path": "/d/dump.rdb", "size": 900}, {"path": "/d/appendonlydir", "size": 4096}]}},),
    ],
    nginx.nginx: [
        ({},),
        ({"prefect_auth_string": None},),
        ({"nginx_tls_certificate": "", "nginx_tls_certificate_key": ""},),
        ({"nginx_basic_auth_users": None},),
        ({"nginx_listen_addresses": ["10.0.0.1"]},),
        ({"nginx_virtual_address": "10.0.0.100"},),
        ({"nginx_virtual_address": "10.0.0.100", "nginx_listen_addresses": [ANY]},),
        ({"nginx_virtual_address": "fd00::9", "nginx_listen_addresses": ["[::]", "10.0.0.1"]},),
        *(({"nginx_login_rate": rate},) for rate in ("", "0", 0, "2r/s")),
        ({"nginx_allowed_addresses": ["10.0.0.5", "10.0.0.0/24", "fd00::/64", "::1"]},),
        # By name, but no address has to be known.
        ({"__nginx_own_addresses": ["api1"]},),
        ({"nginx_closed_paths": ["/api/admin/storage", "/api/admin/versions", "/api/health-x/", "/v2/assets/a.b~c_d"]},),
        *(
            ({**SIGN_ON, "nginx_auth_request_url": url},)
            for url in ("https://sso:8443/oauth2/auth?allowed_groups=a,b".replace(",", "%2C"), "http://[::1]:4180/oauth2/auth")
        ),
        *(
            ({**SIGN_ON, "nginx_auth_request_signin_url": url},)
            for url in ("/oauth2/sign_in?x=1", "https://sso.example.com", "https://sso/x?y=z")
        ),
    ],
    keepalived.keepalived: [
        ({},),
        ({"nginx_virtual_address": "fd00::9"},),
        *(({"keepalived_virtual_router_id": number},) for number in (1, 255)),
    ],
    keepalived.keepalived_host: [
        ({},),
        *(
            ({"__keepalived_before": {"content": b64encode(text).decode()}},)
            for text in (b"# Written by the role selfhosted.prefect.keepalived; changes", b" \n")
        ),
    ],
    monitoring.exporters: [
        ({},),
        ({"exporters_enabled": "false", "exporters_redis_password": ""},),
        ({"exporters_disabled": ["redis"], "exporters_redis_password": "", "exporters_redis_username": "default"},),
        ({"groups": {}, "exporters_redis_password": ""},),
    ],
    monitoring.monitoring_host: [
        ({},),
        ({"__monitoring_missing": [], "__monitoring_own_unit": {"stat": {"exists": True}}},),
        ({"__monitoring_missing": [], "__monitoring_other_unit": {"units": [{"active": False, "enabled": False}]}},),
    ],
    prefect.prefect: [
        ({},),
        ({"prefect_wheelhouse": "/w", "__prefect_wheelhouse_archives": ["/w/a.tar"]},),
        ({"prefect_logfire_enabled": "yes", "prefect_logfire_token": "geheim"},),
    ],
    prefect.prefect_worker: [({},), ({"__prefect_worker_all": [], "prefect_api_url": "", "prefect_auth_string": None},)],
    degraded.degraded: [
        ({},),
        (report(groups={"postgres": ["db1"]}, servers=[]),),
        # Of a host that leaves, and of the new one that is to take its place, nothing is expected.
        (
            {
                **report(
                    hosts=[["api1", {"units": [UNIT]}], ["api2", {"unreachable": True}], ["api3", {}]],
                    url="https://10.0.0.33:4200/api",
                    servers=[
                        {"name": name, "problem": "refused" * (name != "api1:4200")} for name in ("balancer", "api1:4200", "api3:4200")
                    ],
                    workers=[{"name": "etl@api3", "pool": "etl", "online": False, "problem": ""}],
                ),
                "common_leaving": "api2",
                "common_arriving": "api3",
                "hostvars": {"api3": {"ansible_host": "10.0.0.33", "prefect_workers": [{"pool": "etl"}]}},
            },
        ),
    ],
    degraded.redundancy: [
        ({},),
        ({"common_status_report": {}},),
        ({"common_status_report": whole("db3", db3=silent("refused")), "common_leaving": "db3"},),
        ({"common_status_report": whole("db2", db2={}), "common_leaving": "ungrouped", "common_arriving": "db2"},),
        # The master of Redis, or the load balancer that has the address, leaves, and is not asked any longer.
        (leaving("db1", "10.0.0.1"),),
        ({**leaving("lb1", "10.0.0.21"), "prefect_remove_dead": "false"},),
    ],
    membership.replace_host: [
        ({},),
        # Under another name, with the dead one still in the inventory, and without it.
        ({**joined("db1", "db2", "db3", "db4"), "prefect_replace_with": "db4"},),
        ({**joined("db1", "db3", "db4"), "prefect_replace_with": "db4"},),
        # The new one has more to do than the dead one had.
        ({**joined("db4", api=("api1", "db2", "db4")), "prefect_replace_with": "db4"},),
    ],
    membership.replace_host_found: [
        ({},),
        (replaced(name="db4"),),
        # Of one that was the primary, what the cluster still knows is not that it runs.
        (replaced(one=survivor(1, members=[{"name": "db2", "role": "replica", "state": "stopped"}])),),
        # The new machine has the address of the dead one.
        (replaced(machine("10.0.0.2", **bare())),),
        ({**replaced(), "__replace_members": {"postgres": ["db1"], "redis": [], "prefect_api": ["db1", "db2", "db3"]}},),
    ],
    # Of four, three are left; and of five four, for as long as it takes to remove another one.
    membership.remove_host: [
        ({},),
        ({**databases("db1", "db2", "db3", "db4"), "prefect_remove_host": "db2"},),
        ({**databases("db1", "db2", "db3", "db4", "db5"), "prefect_remove_host": "db2", "prefect_allow_degraded": "true"},),
    ],
    prefect.upgrade: [({},), ({"prefect_upgrade_to": "", "__prefect_upgrade_hosts": {"api1": "/r/2"}},)],
}


@pytest.mark.parametrize(("check", "change"), cases(WELL))
def test_nothing_wrong(check: Check, change: Change) -> None:
    assert list(check({**GOOD[check], **change})) == []


BAD: dict[Check, list[tuple[Change, str]]] = {
    changes.switchover: [
        ({"prefect_switchover": ""}, "prefect_switchover is not set. Say what, with -e prefect_switchover=NAME: postgres, redis, nginx."),
        ({"prefect_switchover": "etcd"}, "prefect_switchover is etcd, which cannot be switched."),
        ({"prefect_switchover_to": "lb1"}, "prefect_switchover_to is lb1, which is no host of the group postgres (db1, db2, db3)."),
        (
            {"common_group_hosts": {"postgres": ["db1"], "patroni": []}, "prefect_switchover_to": ""},
            "The group postgres has one host, db1, so that there is no other to take over.",
        ),
        (
            {"common_group_hosts": {"postgres": [], "patroni": []}, "prefect_switchover_to": ""},
            "The group postgres is empty, so there is nothing here to switch: what is managed is for its provider",
        ),
        (
            {"prefect_switchover": "nginx", "prefect_switchover_to": "lb2", "common_group_hosts": {**GROUPS, "keepalived": []}},
            "The hosts of the group nginx share no address that could move: nginx_virtual_address is not set",
        ),
        (
            {"ansible_play_hosts_all": ["db1", "lb1"]},
            "db2, db3 is left out by --limit, and the primary of PostgreSQL is switched with all of its hosts in the run.",
        ),
    ],
    changes.switchover_state: [
        (
            {"common_leaders": {"postgres": ""}},
            "No host is known to be the primary of PostgreSQL, so that there is none to switch from.",
        ),
        (
            {"prefect_switchover_to": "db3", **report(postgres_cluster=pg_cluster(*MEMBERS[:2], pg("db3", lag=5000)))},
            "db3 cannot take over without loss: it has to be in step with the primary, db1. db1 is leader (running);"
            " db2 is sync_standby (streaming, 0 bytes behind); db3 is replica (streaming, 5000 bytes behind).",
        ),
        (
            report(postgres_cluster=pg_cluster(pg("db1", "leader"), pg("db2", state="stopped"), pg("db3", timeline=2))),
            "No host can take over without loss: one has to be in step with the primary, db1.",
        ),
        (
            {
                "prefect_switchover": "redis",
                "prefect_switchover_to": "r3",
                **report(redis_cluster=redis_members(r3=redis_member(link="down"))),
            },
            "r3 cannot take over without loss: it has to be in step with the master, r1, with a replica-priority above 0. r1 is master;"
            " r2 is replica: its link is up; r3 is replica: its link is down.",
        ),
        (
            {
                "prefect_switchover": "redis",
                "prefect_switchover_to": "r2",
                **report(
                    redis_cluster=redis_members(
                        **{f"r{n}": redis_member("master" * (n == 1) or "replica", "up", ("10.0.0.3:6379",)) for n in (1, 2, 3)}
                    )
                ),
            },
            "r2 is replica: its link is up, and no Sentinel promotes it; r3 is replica: its link is up.",
        ),
        (
            {"prefect_switchover": "redis", **report(redis_cluster=redis_members(r2={}, r3={"replication": {}, "sentinels": []}))},
            "r2 is not known; r3 is not known.",
        ),
    ],
    changes.restart: [
        (
            {"common_restart_components": ["etcd", "patroni", "cron"]},
            "prefect_restart names patroni, cron, which this playbook does not restart; it takes etcd, postgres, redis, redis_sentinel,",
        ),
        ({"common_restart_components": ["haproxy"]}, "prefect_restart names haproxy, and no host of the inventory has it."),
        (
            {"ansible_play_hosts_all": ["db1", "db2", "db3", "r1"]},
            "r2, r3 is left out by --limit, and redis is restarted one host after the other, with all of its hosts in the run.",
        ),
    ],
    patroni.etcd: [
        ({"etcd_metrics_port": 2380}, "etcd_client_port, etcd_peer_port and etcd_metrics_port have to differ."),
        ({"etcd_election_timeout": 300}, "a member that is late once would be taken for dead. Make the first 5 times the second, or more."),
        ({"etcd_auto_compaction_retention": "long"}, 'etcd_auto_compaction_retention is "long"; it takes a time, such as 1h or 30m.'),
        ({"etcd_initial_cluster_token": "a b"}, 'etcd_initial_cluster_token is "a b"; it takes letters, digits and . _ -.'),
    ],
    patroni.etcd_start: [
        (
            {"__etcd_left_out": ["db2"]},
            "No host of this run has data of etcd, and db2 is left out by --limit. A new cluster begins with all of its hosts, and a host"
            " joins one that is in the run. Run it without --limit.",
        )
    ],
    patroni.patroni: [
        ({"patroni_replication_password": None}, "patroni_replication_password is missing or empty; the members"),
        ({"tls_postgres": False}, "patroni_restapi_password is missing or empty; without tls_postgres nothing else protects"),
        ({"common_tls_ca_file": ""}, "would take orders from any client with a certificate of an authority that the system trusts."),
        ({"patroni_scope": "a/b"}, 'patroni_scope is "a/b"; it takes letters, digits and . _ -.'),
        ({"patroni_rewind_username": "replicator"}, "have to be three roles, and none of them postgres."),
        ({"patroni_rewind_username": 'a"b'}, r'take letters, digits and . _ -, unlike "a\"b".'),
        ({"patroni_rewind_username": "postgres"}, "have to be three roles, and none of them postgres."),
        ({"patroni_retry_timeout": 10}, "patroni_ttl is 20, and patroni_loop_wait + 2 * patroni_retry_timeout is 25; a primary would lose"),
    ],
    patroni.patroni_host: [
        (
            {"patroni_etcd_api": "v3"},
            "Patroni 3.0.2 is installed on db1, and patroni_etcd_api asks for v3; before 3.0.3 Patroni loses acknowledged writes with it"
            " when a partition heals. Leave patroni_etcd_api out, or upgrade the package.",
        )
    ],
    patroni.postgres_cluster: [
        (
            {"__preflight_clusters": {"db1": database(), "db2": database(), "db3": bare(data=other())}},
            "db3: has data of another PostgreSQL (99) than db1, db2 (74) in /var/lib/postgresql: it belonged to another cluster. Move them"
            " away, and they are copied from the primary; or take the host out of the group postgres.",
        ),
        # What runs in the cluster is right, however many there are of the others.
        (
            {"__preflight_clusters": {"db2": bare(), "db3": bare(data=other()), "db1": database()}},
            "db3: has data of another PostgreSQL (99) than db1 (74)",
        ),
        (
            {"__preflight_clusters": {"db1": bare(data=other("15", "74")), "db2": bare(data=other("17", "74")), "db3": bare()}},
            "db2: has data of PostgreSQL 17 in /var/lib/postgresql/17/main, and db1 of 15; replication takes one version. Move them away,"
            " and they are copied from the primary.",
        ),
        (
            {"__preflight_clusters": {"db1": bare(data=other("13")), "db2": bare()}, "postgres_version": "15.4"},
            "db1: has data of PostgreSQL 13 in /var/lib/postgresql/13/main, and postgres_version asks for 15. Move them away, or upgrade",
        ),
        (
            {"__preflight_clusters": {"db1": bare(data=other("13") + other("15")), "db2": bare()}},
            "db1: has data of PostgreSQL 13 and 15 in /var/lib/postgresql; a member of a cluster has those of one version. Move the others",
        ),
        (
            {"__preflight_clusters": {"db1": database(), "db2": database(etcd={"token": "elsewhere"})}},
            "db2: has data of an etcd in /var/lib/etcd/default that began as elsewhere, and etcd_initial_cluster_token is prefect; it was a"
            " member of another cluster. Stop etcd there and move its data away, or take the host out of the group postgres.",
        ),
        (
            {"__preflight_clusters": {"db1": database(), "db2": database(etcd={"token": ""})}},
            "db2: has data of an etcd in /var/lib/etcd/default that this collection did not set up; it was a member",
        ),
        (
            {"__preflight_clusters": {"db1": database(), "db2": database(), "db3": database(etcd={"cluster_id": "aa"})}},
            "db3: is a member of another etcd cluster (aa) than db1, db2 (ff). Stop etcd there",
        ),
        (
            {"__preflight_clusters": {"db1": bare(), "db2": database()}, "__preflight_systems": {"db1": "Debian 13", "db2": "Debian 12"}},
            "db1: runs Debian 13, and db2 Debian 12: each release of Debian has another major version of PostgreSQL, and replication takes"
            " one. Install the same release on it, or set postgres_version",
        ),
        (
            {"common_groups": {"postgres": ["db1"]}, "__preflight_clusters": {"db1": database()}},
            "etcd has the members db1, db2, db3, and db2, db3 is not in the group postgres: 1 of 3 that are left cannot agree on a primary,"
            " 2 have to. Put the hosts back, and remove one after the other;",
        ),
        (
            {
                "common_groups": {"postgres": ["db1"]},
                "common_postgres_cluster": False,
                "__preflight_clusters": {"db1": database(etcd={"members": []})},
            },
            "db1: Patroni runs PostgreSQL as a member of a cluster, and the group postgres has only this host. Put the others back, or turn"
            " it into a single server first.",
        ),
        (
            {"patroni_etcd_api": "v3", "__preflight_clusters": {"db1": database(), "db2": database(patroni={"version": "4.0.7"})}},
            "db1: Patroni 3.0.2-1 is installed, and patroni_etcd_api asks for v3; before 3.0.3 Patroni loses",
        ),
        (
            {"__preflight_clusters": {"db1": database(), "db2": database(patroni={"version": "4.0.7"}), "db3": bare()}},
            "db1 has a Patroni before 3.0.3, and db2 a newer one: they would use two stores of etcd, and know nothing of each other. Set"
            " patroni_etcd_api to v2 until all of them have the newer one.",
        ),
        (
            {"__preflight_clocks": {"db1": clock(0.0), "db2": clock(2.0), "db3": clock(1.0)}},
            "The clocks of db1 and db2 are 2.0 s apart; a primary holds its leadership by the clock. Have both follow one time server",
        ),
    ],
    keepalived.keepalived: [
        *(({"nginx_virtual_address": name}, f'nginx_virtual_address is "{name}", which is no IP') for name in ("lb", "10.0.0.9/24", "")),
        *(
            ({"nginx_virtual_address": address}, f"nginx_virtual_address is {address}, which no other host can reach")
            for address in ("127.0.0.9", "224.0.0.18", ANY, "fe80::9")
        ),
        ({"nginx_virtual_address": "10.0.0.1"}, "nginx_virtual_address is 10.0.0.1, which is the address of lb1 already."),
        ({"nginx_virtual_address": "FD00::0:2"}, "nginx_virtual_address is fd00::2, which is the address of lb2 already."),
        *(({"keepalived_password": password}, "keepalived_password is missing or empty.") for password in ("", "  ", None)),
        ({"keepalived_password": "geheim"}, "keepalived_password has 6 characters; it has to have 8 or more, at random."),
        *(({"keepalived_virtual_router_id": number}, f"keepalived_virtual_router_id is {number}; it") for number in (0, 256)),
    ],
    keepalived.keepalived_host: [
        ({"__keepalived_found": {"problems": ["10.9.0.1 is outside"]}}, "10.9.0.1 is outside"),
        (
            {"__keepalived_before": {"content": b64encode(b"vrrp_instance other { auth_pass geheim }").decode()}},
            "keepalived on lb1 is configured already, in /etc/keepalived/keepalived.conf, and",
        ),
    ],
    firewall.firewall: [
        ({"firewall_sources": {"redys": []}}, "firewall_sources names redys; there are postgres, nginx, prefect_api, exporters."),
        ({"firewall_sources": {"nginx": "10.0.0.1"}}, "firewall_sources has for nginx something else than a list of addresses."),
        ({"firewall_sources": {"nginx": None}}, "firewall_sources has for nginx something else than a list of addresses."),
        *(({"firewall_extra_rules": [rule]}, "empty or has several lines") for rule in ("", "a\nb")),
        ({"firewall_revert_after": 29}, "firewall_revert_after is 29; the test of the rules takes 30 s or more."),
        ({"groups": {"prefect_api": ["api1"]}}, "no host in the group nginx, so no client could reach the API: name your balancer,"),
        ({"exporters_enabled": "yes"}, "no Prometheus could reach the exporters: name your Prometheus in firewall_sources (exporters)."),
    ],
    postgres.postgres: [
        (
            {"postgres_version": "14.8"},
            'postgres_version is "14.8", but several Prefect servers need PostgreSQL 14.9 or newer; ask for a newer one.',
        ),
        ({"postgres_version": 13}, 'postgres_version is "13", but'),
        (
            {"postgres_version": "latest"},
            'postgres_version is "latest"; it takes a major such as "17", the least release wanted such as "15.4", or "" for that of',
        ),
        (
            {"postgres_max_connections": 70},
            "postgres_max_connections is 70, but 3 API and 1 services processes with 16 connections each (prefect_database_pool_size +"
            " prefect_database_max_overflow + 1), two more for each services process and 10 in reserve (postgres_reserved_connections)"
            " need 71; raise it, leave it out, or make the pools smaller.",
        ),
        ({"prefect_database_password": ""}, "prefect_database_password is missing or empty; the owner of the database needs one."),
        (
            {"common_groups": {"postgres": ["db1", "db2"]}},
            "The group postgres has 2 hosts: the loss of either would leave one that cannot know which of the two is cut off. Use one host,"
            " as a single server, or three, five and so on, as a cluster.",
        ),
        (
            {"common_groups": {"postgres": ["a", "b", "c", "d"]}},
            "The group postgres has 4 hosts: it survives the loss of no more hosts than 3 would. Use one host,",
        ),
        ({"prefect_database_password": None}, "prefect_database_password is missing or empty"),
        (
            {"postgres_settings": {"port": 1, "hba_file": "x", "work_mem": "8MB"}},
            "postgres_settings holds hba_file, port, which the role sets itself; use its own variables (postgres_port,",
        ),
        (
            {"postgres_settings": {"ssl_cert_file": "/c", "ssl": "on", "ssl_ciphers": "HIGH"}},
            "postgres_settings holds ssl, ssl_cert_file, which the role sets itself; bring your own certificate with tls_mode: provided",
        ),
        *(
            ({"postgres_client_addresses": [address]}, f'hold what pg_hba.conf cannot: "{address}"; an address is an IP address')
            for address in ("10.0.3.300", "10.0.3.0/33", "10.0.3.0/255.0.0.0", "10", "fe80::1%eth0", "fd00::/129", "a b", "-a", "")
        ),
        ({"postgres_hba_entries": [{"database": "a", "user": "b"}]}, 'cannot: ""; an address'),
        ({"postgres_hba_entries": [{"type": "host", "database": "a", "user": ['b"'], "address": "all"}]}, r'cannot: "b\""; an address'),
        ({"prefect_database_name": "a\tb"}, r'cannot: "a\tb"; an address'),
    ],
    postgres.postgres_host: [
        (
            {"__postgres_servers": [["17", "17.2"], ["15", "15.18"]], "__postgres_installed_version": "17.2"},
            "PostgreSQL 15 and 17 are both installed; set postgres_version to the one that serves Prefect.",
        ),
        (
            {"postgres_version": "17", "__postgres_servers": [["15", "15.18"]]},
            "PostgreSQL 15.18 is installed, but postgres_version asks for 17; set postgres_version to what is there, or move the data first"
            " (pg_upgradecluster).",
        ),
        (
            {"__postgres_servers": [["14", "14.8"]], "__postgres_installed_version": "14.8", "__postgres_major": "14"},
            "PostgreSQL 14.8 is installed, but 14.9 or newer is needed; upgrade the package postgresql-14, or set postgres_version to a"
            " newer major before anything is installed.",
        ),
        (
            {
                "postgres_version": "15.4",
                "__postgres_servers": [["15", "15.3"]],
                "__postgres_installed_version": "15.3",
                "__postgres_major": "15",
            },
            "PostgreSQL 15.3 is installed, but 15.4 or newer is needed",
        ),
    ],
    postgres.prefect_backup: [
        (
            {"prefect_backup_host": "gone"},
            'prefect_backup_host is "gone"; it has to be a host of the inventory, which takes the dumps and keeps them.',
        ),
        ({"prefect_backup_keep": 0}, 'prefect_backup_keep is "0"; it has to be 1 or more.'),
        ({"prefect_backup_max_age": -1}, 'prefect_backup_max_age is "-1"; it takes seconds, or 0 for a new dump each time.'),
        (
            {"prefect_backup_directory": "backups"},
            'prefect_backup_directory is "backups"; it has to be an absolute path, and a folder of its own.',
        ),
        ({"prefect_backup_directory": "/"}, 'prefect_backup_directory is "/"'),
    ],
    postgres.prefect_restore: [
        (
            {"prefect_restore_file": ""},
            'prefect_restore_file is missing: give the path of a dump on state1, or "newest" for the newest in /var/backups/prefect.'
            " (prefect_restore_rehearsal=true tries the newest and leaves nothing behind.)",
        )
    ],
    redis.redis_cluster: [
        (
            {"hostvars": {host: member(f"10.0.0.{n}", sentinels=[seven()]) for n, host in enumerate("abc", 1)}},
            "7 Sentinels agree on the master of Redis, and 10.0.0.4, 10.0.0.5, 10.0.0.6, 10.0.0.7 of them are no hosts of the group redis",
        ),
        (
            {"hostvars": {"a": member("10.0.0.1", data=True), "b": member("10.0.0.2", data=True), "c": member("10.0.0.3")}},
            "a and b have data of their own, and no Sentinel says which of them is the master: as a replica each but one would lose its"
            " data. Keep those of one host. On each of the others: systemctl stop redis-sentinel redis-server; mv /var/lib/redis"
            " /var/lib/redis.former; rm -rf /var/lib/redis-sentinel; install -d -o redis -g redis -m 0750 /var/lib/redis. Then run",
        ),
        (
            {
                "hostvars": {
                    "a": member("10.0.0.1", sentinels=[{"sentinel": "a:1", "master": "10.0.9.9:6379", "epoch": 1, "problem": ""}]),
                    "b": member("10.0.0.2"),
                    "c": member("10.0.0.3"),
                }
            },
            "The Sentinels of the group redis follow 10.0.9.9:6379, which is no host of the group.",
        ),
        (
            {
                "hostvars": {
                    "a": member("10.0.0.1", sentinels=[{"sentinel": "a:1", "master": "10.0.0.1:6379", "epoch": 1, "problem": ""}]),
                    "b": member("10.0.0.2", sentinel_state={"master": "10.0.9.9:6379", "epoch": 9}),
                    "c": member("10.0.0.3"),
                }
            },
            "Redis on b belonged to another cluster: its master there was 10.0.9.9:6379. To give b to this one, without its data: ",
        ),
        (
            {
                "hostvars": {
                    "a": member("10.0.0.1", sentinels=[{"sentinel": "a:1", "master": "10.0.0.1:6379", "epoch": 1, "problem": ""}]),
                    "b": member("10.0.0.2"),
                    "c": member("10.0.0.3", state={"written": True, "replica_of": "10.0.9.9:6379"}, data=True),
                }
            },
            "Redis on c belonged to another cluster: its master there was 10.0.9.9:6379.",
        ),
        (
            {
                "hostvars": {
                    "a": member("10.0.0.1", sentinels=[{"sentinel": "a:1", "master": "10.0.0.1:6379", "epoch": 1, "problem": ""}]),
                    "b": member("10.0.0.2", data=True),
                    "c": member("10.0.0.3"),
                }
            },
            "Redis on b has data of its own, which it would lose as a replica of a. To give b to this cluster without them: systemctl stop",
        ),
        (
            {"ansible_play_hosts_all": ["a"], "hostvars": {"a": member("10.0.0.1"), **LEFT_OUT}},
            "No Sentinel of the group redis answers, and b, c are left out of this run, so it is not known who the master is. Run the same"
            " command without --limit.",
        ),
    ],
    redis.redis_single: [
        (
            {"__redis_member": {**BARE, "state": {"written": True, "replica_of": "10.0.0.2:6379"}}},
            "Redis on a was a replica of 10.0.0.2:6379 in a cluster and is to be single: it may lack what the master acknowledged last.",
        )
    ],
    haproxy.haproxy: [
        ({"haproxy_redis_port": 6379}, "haproxy_redis_port is 6379, and so is redis_port; on api1 they have to differ."),
        ({"haproxy_metrics_port": 26379}, "haproxy_metrics_port is 26379, and so is redis_sentinel_port;"),
    ],
    haproxy.haproxy_host: [
        (
            {"__haproxy_found": {"status": {"ActiveState": "active", "DropInPaths": ""}}},
            "api1 runs an HAProxy of its own, which would lose its configuration. Stop it (systemctl disable --now haproxy) if",
        )
    ],
    redis.redis: [
        *(
            (
                {"prefect_redis_username": user},
                f'prefect_redis_username is "{user}"; it takes letters, digits and . _ @ -, and neither the name "default", which'
                " has to stay"
                ' switched off, nor "selfhosted-prefect", which is the role\'s own, nor one of redis_acl_users.',
            )
            for user in ("", "a b", "default", "selfhosted-prefect", "reader")
        ),
        *(
            (
                {"prefect_redis_lock_username": user, "prefect_redis_lock_password": "geheim"},
                f'prefect_redis_lock_username is "{user}"; it takes letters, digits and . _ @ -, and a name that no other user of Redis'
                " has.",
            )
            for user in ("a b", "prefect", "reader", "selfhosted-prefect")
        ),
        (
            {"redis_acl_users": {"selfhosted-prefect": "on"}},
            "redis_acl_users holds selfhosted-prefect, which the role sets itself; give the user another name.",
        ),
        (
            {"prefect_redis_watchdog_password": ""},
            "prefect_redis_watchdog_username and prefect_redis_watchdog_password go together, and only one of them is set.",
        ),
        ({"redis_settings": {"tls-port": 1}}, "redis_settings holds tls-port, which the role sets itself"),
        ({**CLUSTER, "redis_settings": {"ReplicaOf": "x 1", "min-slaves-to-write": 0}}, "holds min-slaves-to-write, replicaof, which"),
        ({**CLUSTER, "redis_acl_users": {"sentinel": "on"}}, "redis_acl_users holds sentinel, which the role sets itself"),
        (
            {**CLUSTER, "prefect_redis_username": "haproxy"},
            'nor "haproxy" or "replication" or "selfhosted-prefect" or "sentinel", which is the role\'s own',
        ),
        (
            {**CLUSTER, "redis_replication_password": ""},
            "redis_replication_password is missing or empty: it is the password with which replicas log in to the master. Set it, in a file"
            " encrypted with ansible-vault.",
        ),
        (
            {**CLUSTER, "redis_sentinel_password": None},
            "redis_sentinel_password is missing or empty: it is the password with which the Sen",
        ),
        ({**CLUSTER, "haproxy_redis_password": ""}, "haproxy_redis_password is missing or empty: it is the password with which HAProxy"),
        (
            {**CLUSTER, "prefect_address": "redis1.example.com"},
            "prefect_address is 'redis1.example.com', a name. The hosts of a Redis cluster know each other by IP addresses, which hold"
            " while no name is resolved, too: set prefect_address to that of this host.",
        ),
        ({"prefect_redis_password": None}, "prefect_redis_password is missing or empty; Redis accepts no client without one."),
        (
            {"redis_settings": {"Port": 1, "appendonly": "no", "timeout": 5}},
            "redis_settings holds appendonly, port, which the role sets itself; use its own variables (redis_port, redis_bind,"
            " redis_maxmemory, redis_acl_keys, redis_acl_rules, redis_acl_users, tls_mode).",
        ),
        (
            {"redis_package": "valkey-server", "ansible_facts": {"distribution": "Debian", "distribution_major_version": "12"}},
            "redis_package is valkey-server, which Debian 12 does not have; Debian 13 is the first with it. Set redis_package to"
            " redis-server, or use a newer host.",
        ),
        (
            {"__redis_other": {"stat": {"exists": True}}},
            "redis_package is redis-server, but this host runs valkey-server, with its data in /var/lib/valkey. One is not turned into the"
            ' other. Set redis_package back to valkey-server, or follow "From Redis to Valkey" in docs/operations.md.',
        ),
    ],
    redis.redis_host: [
        (
            {"__redis_installed_version": "6.0.16"},
            "Redis 6.0.16 is installed, but Prefect needs 6.2 or newer; upgrade the package redis-server.",
        )
    ],
    redis.redis_data: [
        (
            {"__redis_earlier": {"files": [{"path": "/var/lib/redis/dump.rdb", "size": 201}]}},
            "Redis on state1 has data of an earlier configuration in /var/lib/redis/dump.rdb and no append-only file, so"
            " it would start"
            ' empty. To keep the data, run "redis-cli CONFIG SET appendonly yes" there; to do without, move the file away. Then'
            " run the same"
            " command again.",
        )
    ],
    nginx.nginx: [
        *(
            (
                {"nginx_virtual_address": address, "nginx_listen_addresses": listen},
                f"nginx could not listen on nginx_virtual_address ({address})",
            )
            for address, listen in (("10.0.0.9", ["10.0.0.1", "10.0.0.9"]), ("10.0.0.9", ["::"]), ("fd00::9", [ANY]))
        ),
        (
            {"nginx_api_servers": []},
            "nginx on lb1 has no API server to pass requests to: put hosts into the group prefect_api, or set nginx_api_servers.",
        ),
        *(
            (
                {"nginx_access_log": path},
                f'nginx_access_log is "{path}"; it has to be the absolute path of a file, of letters, digits and . _ - only.',
            )
            for path in ("", "access.log", "/var/log/", "/a b", "/a\n")
        ),
        *(
            ({name: ""}, "nginx_tls_certificate and nginx_tls_certificate_key go together, and only one of them is set.")
            for name in ("nginx_tls_certificate", "nginx_tls_certificate_key")
        ),
        (
            {"nginx_status_port": 0},
            "nginx_status_port is 0, and with TLS nginx tells only there which configuration it serves. Give it a port.",
        ),
        (
            {"common_nginx_tls": "False"},
            "nginx_redirect_port is 80, and nginx speaks no TLS that it could redirect to. Leave it out, or leave TLS on.",
        ),
        (
            {"nginx_redirect_port": "4200"},
            "nginx_redirect_port is 4200, as is nginx_listen_port, where plain HTTP is redirected anyway. Leave it out.",
        ),
        *(
            (
                {"nginx_api_tls_name": name},
                f'nginx_api_tls_name is "{name}"; it has to be a name that the certificates of all API servers have, and no address.',
            )
            for name in ("", "10.0.0.1", "fd00::1", "a b", "a;", "$host", "a\n", "-a", "a.")
        ),
        *(
            ({"nginx_tls_ciphers": given}, f"nginx_tls_ciphers holds {said}; it takes names such as ECDHE-ECDSA-AES128-GCM-SHA256.")
            for given, said in (([], "nothing"), (["A B", "OK", "!aNULL", "A;"], "'A B', '!aNULL', 'A;'"))
        ),
        ({"nginx_tls_hsts_max_age": -1}, "nginx_tls_hsts_max_age is -1; it has to be 0, for no such header, or more."),
        (
            {"nginx_basic_auth_users": {"a:b": "geheim", "#c": "geheim", "d e": "geheim", "f": ""}},
            "nginx_basic_auth_users: a:b, #c, d e, f cannot log in. A name must have neither colon nor space, and a password"
            " must not be empty.",
        ),
        (
            {"nginx_basic_auth_users": {"admin": "other"}},
            "nginx_basic_auth_users has the user of prefect_auth_string, with another password. Leave it out: that user may log in anyway.",
        ),
        ({"nginx_basic_auth_users": {}}, "nginx_basic_auth_users names no user."),
        *(
            ({"nginx_login_rate": rate}, f"nginx_login_rate is {rate!r}; it has to be a number of logins in a second or a minute")
            for rate in ("10", "10/m", "0r/m", "10r/h", "-1r/s", "10r/m;", "10r/m\n", "off")
        ),
        ({"nginx_allowed_addresses": ["10.0.0.5/24"]}, "nginx_allowed_addresses holds '10.0.0.5/24', which has bits beyond its network"),
        ({"nginx_allowed_addresses": ["office.example.com"]}, "nginx_allowed_addresses holds 'office.example.com', which is neither an IP"),
        ({"nginx_allowed_addresses": ["::/0"]}, "nginx_allowed_addresses holds '::/0', which is every address there is."),
        (
            {"nginx_allowed_addresses": ["10.0.0.5"], "__nginx_own_addresses": ["10.0.0.1", "localhost", "api1"]},
            "nginx_allowed_addresses is set, and the balancer would refuse api1 of this deployment,",
        ),
        *(
            ({"nginx_closed_paths": [path]}, f"nginx_closed_paths holds {path!r}; a path begins with /")
            for path in ("docs", "/a b", "/a//b", "/a%2fb", "/a;", "/a\n", '/"', "/$x", "/{", "")
        ),
        *(
            ({"nginx_closed_paths": [path]}, f"nginx_closed_paths holds {path!r}, which closes {needed} to ")
            for path, needed in (
                ("/", "/nginx-health"),
                ("/api", "/api/health"),
                ("/api/", "/api/health"),
                ("/api/admin", "/api/admin/version"),
                ("/api/admin/version/", "/api/admin/version"),
                ("/ui-settings", "/ui-settings"),
            )
        ),
        *(
            ({**SIGN_ON, "nginx_auth_request_ca_file": path}, f"nginx_auth_request_ca_file is {path!r}; it has to be the absolute path")
            for path in ("", "ca.crt", "/a b", "/a;", "/a\n")
        ),
        ({**SIGN_ON, "prefect_auth_string": ""}, "nginx_auth_request_url is set, and prefect_auth_string is not"),
        (
            {**SIGN_ON, "nginx_basic_auth_users": {"reader": "geheim"}},
            "nginx_auth_request_url and nginx_basic_auth_users are both set: people have to log in at one place.",
        ),
        *(
            ({**SIGN_ON, "nginx_auth_request_url": url}, f"nginx_auth_request_url is {url!r}; it has to be http:// or https://, a host,")
            for url in (
                "sso",
                "https://sso",
                "ftp://sso/x",
                "http://s so/x",
                "http://sso/x;y",
                "http://sso/$x",
                "http://sso/x\n",
                "http:///x",
            )
        ),
        (
            {**SIGN_ON, "nginx_auth_request_url": "https://me:geheim@sso.example.com/x"},
            "nginx_auth_request_url is 'https://...@sso.example.com/x'; it has to be",
        ),
        *(
            (
                {**SIGN_ON, "nginx_auth_request_url": f"http://sso{path}"},
                f"nginx_auth_request_url is in the folder {folder}, which is Prefect's own",
            )
            for path, folder in (("/auth", "/"), ("/api/auth", "/api/"), ("/v2/x/auth", "/v2/x/"))
        ),
        *(
            ({**SIGN_ON, "nginx_auth_request_signin_url": path}, f"nginx_auth_request_signin_url is {path!r}, which is not in /oauth2/,")
            for path in ("/login", "/oauth2", "/oauth2//x", "/oauth2/a b", "/oauth2/$x")
        ),
        *(
            ({**SIGN_ON, "nginx_auth_request_signin_url": url}, f"nginx_auth_request_signin_url is {url!r}; it has to be a path, such as")
            for url in ("", "sso.example.com", "javascript:alert(1)", "https://sso/x y", "https://sso/x\n")
        ),
        (
            {"__nginx_agreed": {"trusted_proxies": ["0.0.0.0/0"]}},
            "nginx_trusted_proxies holds '0.0.0.0/0', which is every address there is",
        ),
    ],
    monitoring.exporters: [
        ({"exporters_disabled": ["nod"]}, "exporters_disabled names nod; there are node, redis."),
        *(
            (
                {"exporters_redis_username": user},
                f'exporters_redis_username is "{user}"; it takes letters, digits and . _ -, and none of the users that Redis has already.',
            )
            for user in ("", "a b", "default", "selfhosted-prefect", "prefect", "reader")
        ),
        ({"common_redis_cluster": True, "exporters_redis_username": "sentinel"}, 'exporters_redis_username is "sentinel"; it takes'),
        (
            {"exporters_redis_password": ""},
            "exporters_redis_password is missing or empty; the exporter of Redis (on state1, state2) needs a password of its"
            " own. Set it, in"
            " a file encrypted with ansible-vault, or put redis into exporters_disabled.",
        ),
    ],
    monitoring.monitoring: [
        *(
            (
                {"monitoring_alertmanager_receivers": receivers},
                "monitoring_alertmanager_receivers has to hold at least one receiver, and each has to have a name.",
            )
            for receivers in ([], [{"name": "a"}, {}])
        ),
        (
            {"monitoring_rule_files": ["/nowhere.yml", __file__]},
            "monitoring_rule_files names /nowhere.yml, which the machine that runs Ansible does not have.",
        ),
        (
            {"monitoring_prometheus_port": 9094},
            "monitoring_prometheus_port, monitoring_alertmanager_port and monitoring_alertmanager_cluster_port have to differ.",
        ),
    ],
    monitoring.monitoring_host: [
        (
            {"__monitoring_missing": [], "__monitoring_other_unit": {"units": [{"active": active, "enabled": not active}]}},
            "A Prometheus is installed on monitor1 already, and would lose its configuration. Keep it: take the host out of the group"
            " monitoring, set exporters_enabled: true, and give it what the playbook scrape_config prints. Or remove the"
            " package prometheus.",
        )
        for active in (True, False)
    ],
    prefect.prefect: [
        ({"__prefect_lock_problem": "no lock", "prefect_wheelhouse": "/w"}, "no lock"),
        ({"prefect_releases_keep": 1}, "prefect_releases_keep is 1; it has to be 2 or more, so that there is a release to go back to."),
        (
            {"prefect_wheelhouse": "/w"},
            "The folder prefect_wheelhouse, /w, has no archive for 3.8.8-0123456789ab; make it with the playbook"
            " selfhosted.prefect.wheelhouse (make wheelhouse), for this version.",
        ),
        (
            {"prefect_logfire_enabled": True},
            "prefect_logfire_enabled needs prefect_logfire_token, the write token of a Logfire project. Set it, in a file encrypted with"
            " ansible-vault.",
        ),
        *(
            (
                {"prefect_logfire_enabled": True, "prefect_logfire_token": "geheim", f"prefect_logfire_sampling_{name}": rate},
                "both are parts of 1, and the first must not exceed the second, or no server would start.",
            )
            for name, rate in (("rate", 1.1), ("rate", "0.01"), ("background_rate", -0.1))
        ),
    ],
    prefect.prefect_api: [
        ({"prefect_api_serial": 0}, "prefect_api_serial must be at least 1, not 0."),
        ({"prefect_api_serial": "100%"}, "would take all 2 serving hosts out at once"),
    ],
    prefect.prefect_worker: [
        ({"prefect_api_url": ""}, "prefect_api_url is missing or empty; the workers of prefect_workers need it. Set it, or take them out."),
        ({"prefect_auth_string": None}, "prefect_auth_string is missing or empty; the workers"),
        ({"__prefect_worker_types": {"etl": ""}}, "the work pool 'etl' does not exist. Create it"),
    ],
    membership.remove_host: [
        ({"prefect_remove_host": None}, "prefect_remove_host is not set. Say which host, with -e prefect_remove_host=NAME."),
        (
            {"prefect_remove_host": "api4"},
            "prefect_remove_host is api4, which is no host of the deployment (db1, api1, api2, api3, lb1).",
        ),
        (
            {"groups": {"api2": ["api2"]}},
            "api2 is no name by which a host can be left out: it is that of a group, too, or holds a character",
        ),
        ({"ansible_play_hosts_all": ["api1", "api2", "api3", "lb1"]}, "db1 is left out by --limit, and all hosts have to learn of this."),
        (
            {"prefect_remove_host": "db1"},
            "db1 is the only host of postgres, which this playbook does not remove: its server has all of the data. To move it, restore",
        ),
        (
            {**databases("db1", "db2", "db3", "db4", "db5"), "prefect_remove_host": "db2"},
            "Without db2 the group postgres has 4 hosts, which survive the loss of no more than 3 do, and which the playbook site refuses."
            " To remove another one after it, go on with -e prefect_allow_degraded=true,",
        ),
        (
            {**databases("db1", "db2", "db3"), "prefect_remove_host": "db2"},
            "Without db2 the group postgres has 2 of the 3 hosts that a cluster takes (db1, db3): with two, the loss of one is the loss of"
            " both. Put another host in its place (the playbook replace), or go back to a single server (docs/high-availability.md).",
        ),
        (
            {"prefect_remove_host": "lb1"},
            "lb1 is a host of haproxy, which this playbook does not remove: its role has no way to leave a host",
        ),
        (
            {"__remove_members": {"prefect_api": ["api1", "api3"], "nginx": ["api2"], "postgres": ["db1"], "x": ["lb1"]}},
            "api2 is the last host of the group nginx, which the service cannot do without.",
        ),
        ({"prefect_api_serial": 2}, "Without api2, prefect_api_serial=2 would take all 2 serving hosts out at once"),
        (
            {"__remove_mentions": {"nginx_api_servers": ["10.0.0.22"], "prefect_api_url": ["10.0.0.22"], "prefect_backup_host": ["db1"]}},
            "The inventory names api2 in nginx_api_servers and prefect_api_url. Name another one there first, or take it out.",
        ),
        ({"__remove_mentions": {"prefect_backup_host": ["api2"]}}, "The inventory names api2 in prefect_backup_host."),
    ],
    membership.replace_host: [
        ({"prefect_replace_host": None}, "prefect_replace_host is not set. Say which host is dead, with -e prefect_replace_host=NAME."),
        (
            {"prefect_replace_host": "db9"},
            "prefect_replace_host is db9, which is no host of the deployment (db1, db2, db3, cache1, api1). Where it was taken out of the"
            " inventory, prefect_replace_with has to say which host takes its place.",
        ),
        (
            {"prefect_replace_with": "db4"},
            "prefect_replace_with is db4, which is no host of the deployment (db1, db2, db3, cache1, api1). Put it into the groups of db2.",
        ),
        ({"ansible_play_hosts_all": ["db1", "db2", "cache1", "api1"]}, "db3 is left out by --limit, and all hosts have to learn of this."),
        (
            {"prefect_replace_host": "cache1"},
            "cache1 is the only host of redis, and a new machine does not have its data. Set it up with the playbook site; docs/backup.md",
        ),
        (
            {**joined("db4"), "prefect_replace_with": "db4"},
            "db2 is the only host of postgres, and a new machine does not have its data. Set it up with the playbook site; docs/backup.md",
        ),
        (
            {**joined("db1", "db2", "db3", "db4", api=("api1",)), "prefect_replace_with": "db4"},
            "db4 is not in prefect_api, as db2 is. Put it into the same groups.",
        ),
        (
            {**joined("db1", "db3", "db4"), "prefect_replace_with": "db4", "__remove_mentions": {"prefect_backup_host": ["db2"]}},
            "The inventory names db2 in prefect_backup_host. Name another one there first, or take it out.",
        ),
    ],
    membership.replace_host_answer: [
        (
            {"__replace_answer": {"ping": "pong"}},
            "db2 answers, so it is not dead. Have the playbook site add db4 beside it, then take it away with the playbook remove_host.",
        )
    ],
    membership.replace_host_found: [
        (
            replaced(machine("10.0.0.9", **bare(data=other()))),
            "db2 is not empty: it has data of PostgreSQL in /var/lib/postgresql/15/main. If it works, nothing is to be replaced; where an"
            " earlier run of this playbook was cut off, the playbook site goes on from there. Otherwise have the machine made anew.",
        ),
        (
            replaced({**machine("10.0.0.9", **bare()), "__replace_units": {"units": [UNIT, {"name": "x", "active": False}]}}),
            "db2 is not empty: it has nginx.service, which runs. If it works, nothing is to be replaced;",
        ),
        (
            replaced(survivor(4), name="db4"),
            "db4 is not empty: it has data of PostgreSQL in /var/lib/postgresql/15/main and data of etcd and data of Redis and a release of"
            " Prefect, /opt/prefect/releases/3.9.1-a. If it works, nothing is to be replaced; where an earlier run of this playbook was cut"
            " off, the playbook site goes on from there, once db2 is out of the inventory.",
        ),
        (
            replaced(three=survivor(3, etcd=[])),
            "etcd answers on db1, and 2 of its members have to before another one can take the place of db2. Start it first on db3.",
        ),
        (
            replaced(one=survivor(1, etcd=[]), three=survivor(3, etcd=[])),
            "etcd answers on no host, and 2 of its members have to before another one can take the place of db2. Start it first on db1,",
        ),
        (
            replaced(one=survivor(1, leader=""), three=survivor(3, leader="")),
            "The PostgreSQL cluster has no primary, from which a new member could copy its data.",
        ),
        (
            replaced(one=survivor(1, members=[{"name": "db2", "role": "replica", "state": "streaming"}])),
            "db2 still takes part in the PostgreSQL cluster. If it died a moment ago, run the same command again in half a minute; else",
        ),
        (
            replaced(three=survivor(3, view={"problem": "refused"})),
            "1 Sentinels answer, and 2 have to before another host can take the place of db2. Start those of the group redis first",
        ),
        (
            replaced(one=survivor(1, view={"down": []}), three=survivor(3, view={"down": []})),
            "10.0.0.2 takes part in the Redis cluster and is no host of the group redis. If that is the machine that is to be replaced, it",
        ),
        (
            replaced(three=survivor(3, release="/opt/prefect/releases/3.8.7-b")),
            "The servers run 3.8.7-b, and the inventory asks for 3.9.1-a (prefect_version). A host is replaced by one with the release",
        ),
    ],
    membership.remove_host_answer: [
        (
            {"prefect_remove_dead": "true"},
            "api2 answers, so it is not dead, and what it is at has to end first. Leave prefect_remove_dead out.",
        ),
        (
            {"__remove_answer": {"msg": "no route\n"}},
            "api2 does not answer (no route). If it is dead for good, -e prefect_remove_dead=true",
        ),
        ({"__remove_answer": {}}, "api2 does not answer (no reason given)."),
    ],
    degraded.degraded: [
        (report(hosts=[["api1", {"unreachable": True}, {"units": []}]]), "api1 cannot be reached by Ansible."),
        (report(hosts=[["api1", {"units": []}, {"failed": True}]]), "api1 could not be queried; the reason is above."),
        (
            report(hosts=[["api1", {"units": [{**UNIT, "active": False, "state": "failed (failed)"}]}]]),
            "nginx.service on api1 is failed (failed).",
        ),
        (
            report(hosts=[["api1", {"units": [], "drained": [4200]}]]),
            "The API server on port 4200 of api1 is drained; the playbook site puts it",
        ),
        (report(servers=[{"name": "api1:4200", "problem": "refused"}]), "api1:4200: refused."),
        (report(servers=[]), "No host could query the API servers."),
        (
            {
                **report(url="https://10.0.0.3/api", servers=[{"name": "balancer", "problem": "refused"}]),
                "common_arriving": "api3",
                "hostvars": {"api3": {"ansible_host": "10.0.0.33"}},
            },
            "balancer: refused.",
        ),
        (report(database={"address": "db1:5432", "problem": "refused"}), "PostgreSQL at db1:5432: refused."),
        (report(redis={"address": "db1:6379", "problem": "refused"}), "Redis at db1:6379: refused."),
        (
            report(workers=[{"name": "w", "pool": "etl", "online": False, "problem": ""}]),
            "The worker w of the work pool etl is not online.",
        ),
    ],
    degraded.redundancy: [
        ({"common_status_report": whole("db3")}, "PostgreSQL on db3 is no member of its cluster."),
        (
            report(postgres_cluster=pg_cluster(*MEMBERS[:2], pg("db3", timeline=2))),
            "PostgreSQL on db3 is on timeline 2, and the primary, db1, on 3.",
        ),
        ({"common_status_report": whole(db3=state("db3", **silent("refused")))}, "etcd on db3 does not answer: refused."),
        (
            {"common_status_report": whole(db3=state("db3", replication={}, problem="refused"))},
            "Redis on db3 does not say what it is: refused.",
        ),
        ({"common_status_report": whole("db1", "db3"), "common_leaving": "db3"}, "PostgreSQL on db1 is no member of its cluster."),
        (
            {"common_status_report": whole(db2=state("db2", replication={**REPLICA, "link": "down"}))},
            "Redis on db2 does not replicate from db1.",
        ),
        (
            {"common_status_report": whole(db3=state("db3", sentinels=[{"master": "10.0.0.3:6379"}]))},
            "Redis's Sentinels follow different masters: db1, db3.",
        ),
        ({"common_status_report": whole(db2=state("db2", sentinels=[]))}, "Sentinel on db2 does not answer."),
        ({"common_status_report": whole(holders=("lb1", "lb2"))}, "lb1 and lb2 have 10.0.0.100 (nginx_virtual_address) at once."),
        ({"common_status_report": whole(holders=())}, "no load balancer has 10.0.0.100 (nginx_virtual_address)"),
        # Of one that is dead, or replaced, the others have to have taken over.
        ({**leaving("db1", "10.0.0.1"), "prefect_remove_dead": "true"}, "no Redis is the master that the Sentinels follow."),
        ({**leaving("db1", "10.0.0.1"), "common_arriving": "db4"}, "no Redis is the master that the Sentinels follow."),
        ({**leaving("lb1", "10.0.0.21"), "prefect_remove_dead": True}, "no load balancer has 10.0.0.100 (nginx_virtual_address)"),
        # One of PostgreSQL and Redis has no part in the address.
        (leaving("db2", "10.0.0.2", holders=()), "no load balancer has 10.0.0.100 (nginx_virtual_address)"),
        # What is lost beside the host that leaves.
        (
            {"common_status_report": whole("db3", db3=silent("refused"), db2=state("db2", sentinels=[])), "common_leaving": "db3"},
            "Sentinel on db2 does not answer.",
        ),
    ],
    prefect.rotate: [
        ({"groups": {"postgres": ["db1"]}}, "prefect_redis_password has changed, and the group redis is empty: of a managed service"),
        ({"groups": {"redis": ["cache1"]}}, "prefect_database_password has changed, and the group postgres is empty: of a managed"),
        ({"__rotate_users": ["other"]}, "The servers log in to the database as other, and prefect_database_user is prefect. This playbook"),
        ({"__rotate_left_out": ["api2"]}, "api2 would go on with the old secrets, which end. Run this without --limit."),
        ({"tls_mode": "provided"}, "prefect_rotate_ca is true, and tls_mode is provided: there is no private authority to replace."),
    ],
    prefect.rollback: [
        ({"__prefect_rollback": {"problem": "No host has a release before"}}, "No host has a release before"),
        (
            {"__lacking": ["api1", "api3"]},
            "api1, api3 does not have /opt/prefect/releases/3.8.7-x any more. Run the playbook site with prefect_version=3.8.7 and"
            " prefect_allow_downgrade=true, which installs it.",
        ),
        (
            {"prefect_rollback_schema": True},
            "prefect_rollback_schema takes the schema away from under api2, which this run leaves out. Run it without --limit.",
        ),
    ],
    prefect.upgrade: [
        ({"__prefect_upgrade_hosts": {"api1": ""}}, "No host runs a release yet, so there is nothing to upgrade. Run the playbook site."),
        (
            {"__prefect_upgrade_hosts": {"api1": "/r/2", "api2": "/r/2"}},
            "prefect_upgrade_to is 2, and every host runs that already. Leave it out to have everything checked and brought in"
            " line with the"
            " inventory.",
        ),
        (
            {"prefect_upgrade_backup_command": []},
            'prefect_upgrade_backup is "command", and prefect_upgrade_backup_command is empty; it takes the words of a command.',
        ),
    ],
    drill.prefect_drill: [
        (
            {"__prefect_drill_given": ["kill_api", "kill_everything"]},
            "There is no scenario kill_everything (prefect_drill_scenarios); there are kill_api, stop_api, restart_redis.",
        ),
        (
            {"groups": {"prefect_api": ["api1"], "prefect_services": ["services1"]}},
            "There is only one API host (group prefect_api), so there",
        ),
        (
            {"__prefect_drill_given": ["restart_redis"]},
            "No host of this inventory runs what restart_redis (prefect_drill_scenarios) would break: a managed service is for its provider"
            " to drill, and a cluster has drills of its own, as a single server has (docs/drill.md).",
        ),
        (
            {"prefect_drill_api_host": "a", "prefect_drill_services_host": "b"},
            "a, b (prefect_drill_api_host, prefect_drill_services_host) is no host of the group that it is for.",
        ),
        (
            {"prefect_drill_limits": {"kill": {"failed": 1}, "kill_api": {"fast": 1}}},
            "prefect_drill_limits has kill, fast; it takes scenarios (kill_api, stop_api, restart_redis) and in them measures"
            " (failed, lost,"
            " longest).",
        ),
        *(
            (
                {name: 0},
                "prefect_drill_before, prefect_drill_seconds, prefect_drill_after, prefect_drill_rate and prefect_drill_clients"
                " have to be 1"
                " or more.",
            )
            for name in ("prefect_drill_before", "prefect_drill_clients")
        ),
        (
            {"prefect_drill_confirm": ""},
            "This breaks parts of a running service on purpose, and prefect_drill_confirm is not set. To go on, add:"
            " -e prefect_drill_confirm=http://lb1:4200/api",
        ),
        ({"prefect_drill_confirm": "x"}, 'prefect_drill_confirm is "x", which is not the address of this service. To go on, add: -e'),
        ({"prefect_drill_confirm": "", "prefect_drill_url": ""}, "prefect_drill_confirm is not set"),
    ],
}


@pytest.mark.parametrize(("check", "change", "said"), cases(BAD))
def test_one_problem(check: Check, change: Change, said: str) -> None:
    (problem,) = check({**GOOD[check], **change})
    assert said in problem
    assert "geheim" not in problem


def test_an_authority_to_come_of_another_machine(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / f"ca.{suffix}") for name, suffix in (("tls_ca_certificate", "crt"), ("tls_ca_key", "key"))}
    variables = {**GOOD[prefect.rotate], **paths}
    (tmp_path / "ca-next.crt").touch()
    (problem,) = prefect.rotate(variables)
    assert f"{tmp_path}/ca-next.crt is there, where Ansible runs, and its key {tmp_path}/ca-next.key is not" in problem
    assert list(prefect.rotate({**variables, "common_rotate_ca": "false"})) == []
    (tmp_path / "ca-next.key").touch()
    assert list(prefect.rotate(variables)) == []


def test_every_check_is_tried() -> None:
    assert set(GOOD) == set(WELL) == set(BAD)


def test_a_cluster_without_synchronous_replication_needs_no_replica_that_confirms() -> None:
    found = report(postgres_cluster=pg_cluster(MEMBERS[0], pg("db2"), MEMBERS[2], synchronous=False))
    assert list(degraded.redundancy(found)) == []


def test_all_problems_at_once() -> None:
    wrong = {"postgres_version": "13", "postgres_max_connections": 1, "prefect_database_password": "", "postgres_settings": {"port": 1}}
    assert len(list(postgres.postgres({**GOOD[postgres.postgres], **wrong}))) == 4
