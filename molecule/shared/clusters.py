"""The clusters of a lab's PostgreSQL and Redis, as their members see them, and which load balancer has the address."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import faults
from lab import HOSTS_AUTHORITY, ROOT, SUFFIX, Lab

PSQL = "runuser -u postgres -- psql --quiet --no-psqlrc --tuples-only --no-align prefect --command"
CLI = f"redis-cli --tls --cacert {HOSTS_AUTHORITY}"


def holders(lab: Lab, hosts: Sequence[str]) -> list[str]:
    """The load balancers that have the address of the lab, of those that run."""
    found = []
    for host in hosts:
        with contextlib.suppress(subprocess.SubprocessError):
            if faults.running(lab, host) and lab.on(host, f"ip -oneline address show to {lab.address}").strip():
                found.append(host)
    return found


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL under Patroni. `hosts` are the addresses of its members by their names."""

    lab: Lab
    hosts: Mapping[str, str]

    def members(self) -> list[dict[str, Any]]:
        """The cluster as the first member sees it that answers."""
        for host, address in self.hosts.items():
            try:
                with self.lab.open(f"https://{address}:8008/cluster", timeout=2) as answer:
                    found: list[dict[str, Any]] = json.load(answer)["members"]
                    return found
            except OSError:
                print(f"{host} does not answer")
        return []

    def leader(self) -> str:
        return next((each["name"] for each in self.members() if each["role"] == "leader" and each["state"] == "running"), "")

    def whole(self, hosts: Iterable[str] = ()) -> bool:
        """These hosts, by default all, and no others are members: one the primary, one synchronous, and all of them in step."""
        found = self.members()
        states = [each["state"] in ("running", "streaming") and (each["role"] == "leader" or each.get("lag") == 0) for each in found]
        roles = [each["role"] for each in found]
        lines = {each.get("timeline") for each in found}
        there = {each["name"] for each in found} == set(hosts or self.hosts)
        return there and all(states) and "leader" in roles and "sync_standby" in roles and len(lines) == 1

    def numbers(self, host: str, table: str = "drill") -> set[int]:
        """What a writer's table has on one of the members."""
        return {int(line) for line in self.lab.on(host, f"{PSQL} 'TABLE {table}'").split()}


@dataclass(frozen=True)
class Redis:
    """A Redis with Sentinels. `hosts` are the addresses of its members by their names."""

    lab: Lab
    hosts: Mapping[str, str]

    def secret(self, name: str, suffix: str = SUFFIX) -> str:
        return (ROOT / "build/lab" / self.lab.name / name).read_text().strip() + suffix

    def url(self, host: str) -> str:
        """Of Prefect's user, to one of the members and not to the master."""
        password = quote(self.secret("redis"), safe="")
        return f"rediss://prefect:{password}@{self.hosts[host]}:6379/0?ssl_ca_certs={HOSTS_AUTHORITY}"

    def asked(self, host: str, port: int, user: str, password: str, words: str) -> list[str]:
        """What the Redis, or the Sentinel, of a host answers on the host itself; nothing when it does not."""
        command = f"timeout 3 {CLI} -p {port} --user {user} --pass {shlex.quote(password)} --no-auth-warning {words} || true"
        return self.lab.on(host, command, check=False).splitlines()

    def sentinel(self, host: str, words: str) -> list[str]:
        return self.asked(host, 26379, "sentinel", self.secret("redis_sentinel", "@:/%?$"), words)

    def replication(self, host: str) -> dict[str, str]:
        lines = self.asked(host, 6379, "prefect", self.secret("redis"), "info replication")
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def masters(self) -> dict[str, str]:
        """Whom each Sentinel follows, of those that answer."""
        ask = "sentinel get-master-addr-by-name prefect"
        found = {host: self.sentinel(host, ask) for host in self.hosts if faults.running(self.lab, host)}
        return {host: lines[0] for host, lines in found.items() if len(lines) == 2}

    def master(self) -> str:
        """The host that most Sentinels follow."""
        named = list(self.masters().values())
        address = max(named, key=named.count)
        return next(host for host, its in self.hosts.items() if its == address)

    def whole(self, hosts: Iterable[str] = ()) -> bool:
        """The Sentinels of these hosts, by default all, and no others follow one master, and know each other and replicas in step."""
        hosts, masters = list(hosts or self.hosts), self.masters()
        if set(masters) != set(hosts) or len(set(masters.values())) != 1:
            return False
        others = str(len(hosts) - 1)
        top = self.replication(self.master())
        known = [_fields(self.sentinel(host, "sentinel master prefect")) for host in hosts]
        counts = {(each.get("num-slaves"), each.get("num-other-sentinels"), each.get("flags")) for each in known}
        quorum = all(self.sentinel(host, "sentinel ckquorum prefect")[0].startswith(f"OK {len(hosts)} ") for host in hosts)
        # One that was frozen trusts its clock again after thirty seconds, and takes part in no failover before.
        quorum = quorum and all("sentinel_tilt:0" in self.sentinel(host, "info sentinel") for host in hosts)
        return (
            (top.get("role"), top.get("min_slaves_good_slaves")) == ("master", others) and counts == {(others, others, "master")} and quorum
        )


def _fields(lines: list[str]) -> dict[str, str]:
    return dict(zip(lines[::2], lines[1::2], strict=False))


def etcd_leader(lab: Lab, hosts: Sequence[str]) -> str:
    """The member of etcd that leads the others, by what each member says of itself; empty where none does."""
    files = "--cacert=/etc/prefect-tls/ca.crt --cert=/etc/prefect-tls/etcd.crt --key=/etc/prefect-tls/etcd.key"
    ask = f"ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 {files} endpoint status --write-out=json"
    for host in hosts:
        with contextlib.suppress(subprocess.SubprocessError, ValueError):
            status = json.loads(lab.on(host, ask))[0]["Status"]
            if status.get("leader") == status["header"]["member_id"]:
                return host
    return ""
