"""A single server becomes a cluster under load; then each way to lose its primary, or change it, with every acknowledged number checked.

The tests build on each other: they are one story about three hosts.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import faults
import pytest
from clusters import PSQL, Postgres, etcd_leader
from lab import ROOT, SUFFIX, Lab, Played, environment
from writer import Writer

LAB = Lab("postgres_ha", 0)
FOLDER = ROOT / "molecule/postgres_ha"
FILES = ROOT / "build/lab/postgres_ha"
NETWORK = "172.28.21"
HOSTS = {"db1": f"{NETWORK}.11", "db2": f"{NETWORK}.12", "db3": f"{NETWORK}.13"}
NAMES = tuple(HOSTS)
# What takes the place of db2 under another name.
SPARE = {"db4": f"{NETWORK}.14"}
REPLACED = {host: address for host, address in HOSTS.items() if host != "db2"} | SPARE
MAJOR = {"bookworm": "15", "trixie": "17"}[os.environ.get("PREFECT_TEST_SUITE") or "bookworm"]
DATA = f"/var/lib/postgresql/{MAJOR}/main"
# Asks by a method, with the certificate of that name if there is one, and prints the status; `refused` where the certificate does not do.
ASK = """
import ssl, sys, urllib.error, urllib.request as request
url, method, name = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/prefect-tls/ca.crt")
if name:
    context.load_cert_chain(f"/etc/prefect-tls/{name}.crt", f"/etc/prefect-tls/{name}.key")
try:
    opener = request.build_opener(request.ProxyHandler({}), request.HTTPSHandler(context=context))
    print(opener.open(request.Request(url, method=method), timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print("refused")
"""
ASK_PLAIN = """
import sys, urllib.error, urllib.request as request
try:
    print(request.build_opener(request.ProxyHandler({})).open(request.Request(sys.argv[1], method="POST"), timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
# What the writer has to have done for a drill to count, and how long everything may take to be whole again.
AT_STAKE = 1000
WHOLE_SECONDS = 180.0


def play(playbook: str, *arguments: str, inventory: str = "inventory", expect: int | None = 0) -> Played:
    """Runs a playbook of this folder, or of the collection."""
    path = FOLDER / playbook if (FOLDER / playbook).exists() else ROOT / "playbooks" / playbook
    begun = time.monotonic()
    command = ["ansible-playbook", "-i", str(FOLDER / inventory), str(path), *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=900)
    played = Played(ended.returncode, ended.stdout + ended.stderr, time.monotonic() - begun)
    assert expect is None or played.code == expect, f"{playbook} ended with {played.code}:\n{played.output[-12000:]}"
    return played


def unchanged(*arguments: str, inventory: str = "inventory") -> None:
    """There is nothing to do for another run."""
    played = play("converge.yml", *arguments, inventory=inventory)
    assert played.changed == 0, "\n".join(re.findall(r"(?:TASK|RUNNING HANDLER) .*|changed: .*", played.output))


CLUSTER = Postgres(LAB, HOSTS | SPARE)


def members() -> list[dict[str, Any]]:
    return CLUSTER.members()


def leader() -> str:
    return CLUSTER.leader()


def whole(hosts: Iterable[str] = NAMES) -> bool:
    return CLUSTER.whole(hosts)


def numbers(host: str) -> set[int]:
    return CLUSTER.numbers(host)


def wait(condition: Callable[[], bool], seconds: float, what: str) -> float:
    return faults.wait(what, seconds, condition, members)


@pytest.fixture(scope="module")
def writer() -> Writer:
    password = (FILES / "database").read_text().strip() + SUFFIX
    return Writer(HOSTS | SPARE, password, FILES / "tls" / "ca.crt")


@contextmanager
def drill(
    writer: Writer, what: str, within: float, capsys: pytest.CaptureFixture[str], hosts: Iterable[str] = NAMES
) -> Iterator[dict[str, Any]]:
    """Something happens to the cluster while the writer writes. Afterwards nothing is lost, and again when it is whole."""
    with writer:
        begun = time.monotonic()
        wait(lambda: writer.count(begun) > AT_STAKE / 2, 120, "the writer writes")
        moment = time.monotonic()
        facts: dict[str, Any] = {"leader": leader(), "seconds": within}
        yield facts
        served = time.monotonic()
        wait(lambda: writer.count(served) > AT_STAKE / 2, 120, "the writer writes again")
        took = wait(lambda: whole(hosts), WHOLE_SECONDS, "the cluster is whole")
    now = leader()
    gap, written = writer.gap(moment), writer.count(begun)
    lost = writer.lost(numbers(now))
    # Replicas have it all, too.
    for host in hosts:
        wait(lambda host=host: not writer.lost(numbers(host)), 30, f"{host} has every number")  # type: ignore[misc]
    with capsys.disabled():
        print(
            f"\n{what}: {gap:.1f} s without a write, {written} written, {len(lost)} lost, {facts['leader']} -> {now}, whole again after"
            f" {took:.0f} s"
        )
    assert not lost
    assert written >= AT_STAKE
    assert gap <= within, f"{what}: {gap:.1f} s without a write; {writer.failed[-5:]}"


def takes_over(before: str) -> Callable[[], bool]:
    return lambda: leader() not in ("", before)


def test_a_single_server() -> None:
    play("converge.yml", inventory="single")
    LAB.on("db1", f"{PSQL} 'CREATE TABLE drill (id bigint PRIMARY KEY)'")
    LAB.on("db1", f"{PSQL} 'ALTER TABLE drill OWNER TO prefect'")
    unchanged(inventory="single")


def test_it_becomes_a_cluster_under_load(capsys: pytest.CaptureFixture[str]) -> None:
    password = (FILES / "database").read_text().strip() + SUFFIX

    class Fixed(Writer):
        """To the one server, whatever it is: there is no Patroni yet to ask."""

        def primary(self) -> str:
            return "db1"

    with Fixed(HOSTS, password, FILES / "tls" / "ca.crt") as first:
        wait(lambda: len(first.acknowledged) > AT_STAKE / 2, 60, "the writer writes")
        begun = time.monotonic()
        played = play("converge.yml")
        served = time.monotonic()
        wait(lambda: first.count(served) > AT_STAKE / 2, 60, "the writer writes again")
        wait(whole, WHOLE_SECONDS, "the cluster is whole")
    lost = first.lost(numbers("db1"))
    with capsys.disabled():
        print(
            f"\na single server becomes a cluster: {first.gap(begun):.1f} s without a write, {len(first.acknowledged)} written,"
            f" {len(lost)} lost; the run took {played.seconds:.0f} s"
        )
    assert not lost
    assert first.gap(begun) <= 10
    assert leader() == "db1"
    LAB.on("db1", f"{PSQL} 'TRUNCATE drill'")


def test_a_second_run_changes_nothing() -> None:
    unchanged()
    unchanged("--check", "--diff")


def asked(host: str, url: str, method: str = "GET", certificate: str = "") -> str:
    """The status of a request from one of the hosts."""
    script = shlex.join(["python3", "-c", ASK, url, method, certificate])
    return LAB.on(host, script).strip()


@pytest.mark.parametrize(
    ("port", "path", "method", "certificate", "status"),
    [
        # Health is for all; changes take a certificate that is good for a client.
        (8008, "/primary", "GET", "", "200"),
        (8008, "/metrics", "GET", "", "200"),
        (8008, "/reload", "POST", "", "403"),
        (8008, "/reload", "POST", "postgres", "refused"),
        (8008, "/reload", "POST", "patroni", "202"),
        # etcd talks to no client without one.
        (2379, "/health", "GET", "", "refused"),
        (2379, "/health", "GET", "postgres", "refused"),
        (2379, "/health", "GET", "etcd", "200"),
        (2379, "/health", "GET", "patroni", "200"),
        (2381, "/metrics", "GET", "", "refused"),
        (2381, "/metrics", "GET", "etcd", "200"),
    ],
)
def test_who_may_do_what(port: int, path: str, method: str, certificate: str, status: str) -> None:
    primary = leader()
    assert asked(primary, f"https://{HOSTS[primary]}:{port}{path}", method, certificate) == status


@pytest.mark.parametrize("host", HOSTS)
def test_exposure(host: str) -> None:
    shown = LAB.on(host, "systemd-analyze security --no-pager etcd.service patroni.service | cat; systemctl is-enabled etcd patroni")
    print(shown)
    assert LAB.on(host, f"systemctl is-active postgresql@{MAJOR}-main || true").strip() == "inactive"
    assert LAB.on(host, f"systemctl is-enabled postgresql@{MAJOR}-main || true").strip() != "enabled"


def test_planned_switchover(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "planned switchover", 3, capsys) as facts:
        played = play("switchover.yml", "-e", "prefect_switchover=postgres")
        assert takes_over(facts["leader"])()
    assert played.says(f"{leader()} is the primary of PostgreSQL now, in place of {facts['leader']}: it took", "every member is in step")


def test_planned_switchover_to_a_certain_host(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """To the one that confirms no writes, which it has to first; and once more, which changes nothing."""
    to = next(each["name"] for each in members() if each["role"] == "replica")
    arguments = ("switchover.yml", "-e", f"prefect_switchover=postgres prefect_switchover_to={to}")
    would = play(*arguments, "--check")
    assert would.says(f"Would make {to} the primary of PostgreSQL, in place of {leader()}.")
    with drill(writer, "planned switchover to a certain host", 3, capsys):
        play(*arguments)
        assert leader() == to
    again = play(*arguments)
    assert again.says(f"{to} is the primary of PostgreSQL already: there is nothing to do.")
    assert again.changed == 0


def test_a_switchover_that_is_refused() -> None:
    before = leader()
    gone = next(host for host in HOSTS if host != before)
    LAB.on(gone, "systemctl stop patroni")
    arguments = ("switchover.yml", "-e", f"prefect_switchover=postgres prefect_switchover_to={gone}")
    try:
        first = play(*arguments, expect=2)
        assert first.says("Nothing was changed.", f"patroni.service on {gone} is inactive", f"PostgreSQL on {gone} is")
        second = play(*arguments, "-e", "prefect_allow_degraded=true", expect=2)
        assert second.says(
            "Nothing was changed.", f"{gone} cannot take over without loss: it has to be in step with the primary, {before}."
        )
        third = play("restart.yml", "-e", "prefect_restart=postgres", expect=2)
        assert third.says("Nothing was changed.", f"patroni.service on {gone} is inactive")
        assert (first.changed, second.changed, third.changed, leader()) == (0, 0, 0, before)
    finally:
        LAB.on(gone, "systemctl start patroni")
    wait(whole, WHOLE_SECONDS, "the cluster is whole")


def test_planned_restart(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Of PostgreSQL and etcd: every process is another one, and the primary was moved before its own was stopped."""

    def started() -> dict[str, list[str]]:
        shown = f"head -1 {DATA}/postmaster.pid; systemctl show --property=MainPID --value etcd"
        return {host: LAB.on(host, shown).split() for host in HOSTS}

    before = started()
    with drill(writer, "planned restart of PostgreSQL and etcd", 8, capsys) as facts:
        play("restart.yml", "-e", "prefect_restart=etcd,postgres")
        assert takes_over(facts["leader"])()
    after = started()
    assert not [host for host in HOSTS if set(before[host]) & set(after[host])]


def test_the_postmaster_is_killed(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "kill -9 of the postmaster", 8, capsys) as facts:
        LAB.on(facts["leader"], f"kill -9 $(head -1 {DATA}/postmaster.pid)")
        time.sleep(5)


def etcdctl(host: str, command: str) -> str:
    options = f"--endpoints=https://{(HOSTS | SPARE)[host]}:2379 --cacert=/etc/prefect-tls/ca.crt"
    return LAB.on(host, f"ETCDCTL_API=3 etcdctl {options} --cert=/etc/prefect-tls/etcd.crt --key=/etc/prefect-tls/etcd.key {command}")


def led_apart() -> bool:
    """Another host than that of the primary leads etcd, which counts where the primary's leadership is a lease."""
    return MAJOR == "15" or etcd_leader(LAB, NAMES) not in ("", leader())


@pytest.fixture
def apart() -> None:
    wait(led_apart, 60, "another host than the primary's leads etcd")


@pytest.mark.usefixtures("apart")
# The unit belongs to leases, which only version 3 of etcd's API has; Debian 12's Patroni may lose data with that.
@pytest.mark.skipif(MAJOR == "15", reason="Debian 12 has version 2 of etcd's API, and no patroni-etcd-leader.timer")
def test_another_host_than_the_primarys_leads_etcd(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the lease of a primary that is lost with etcd's leader would begin anew."""
    primary = leader()
    member = next(line.split(", ")[0] for line in etcdctl(primary, "member list").splitlines() if f", {primary}, " in line)
    with drill(writer, "etcd is led by the primary's host", 3, capsys):
        begun = int(time.time())
        etcdctl(etcd_leader(LAB, NAMES), f"move-leader {member}")
        wait(lambda: etcd_leader(LAB, NAMES) == primary, 5, "the primary's host leads etcd")
        took = wait(led_apart, 45, "another host than the primary's leads etcd")
    assert leader() == primary
    shown = LAB.on(primary, f"journalctl --no-pager --output=cat --unit=patroni-etcd-leader.service --since=@{begun}")
    assert len(shown.splitlines()) == 1, shown
    assert "another member is to lead etcd: Leadership transferred from" in shown
    with capsys.disabled():
        print(f"another host leads etcd after {took:.0f} s")


@pytest.mark.usefixtures("apart")
def test_the_host_of_the_primary_is_killed(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "host of the primary killed", 22, capsys) as facts, faults.killed(LAB, facts["leader"]):
        wait(takes_over(facts["leader"]), 60, "another host takes over")
        time.sleep(5)


@pytest.mark.usefixtures("apart")
def test_the_host_of_the_primary_is_frozen(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "host of the primary frozen", 22, capsys) as facts, faults.frozen(LAB, facts["leader"]):
        wait(takes_over(facts["leader"]), 60, "another host takes over")
        time.sleep(5)


@pytest.mark.usefixtures("apart")
def test_the_primary_is_cut_off_from_its_peers(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Its clients still reach it."""
    with drill(writer, "primary cut off from its peers only", 22, capsys) as facts:
        others = [address for host, address in HOSTS.items() if host != facts["leader"]]
        with faults.cut_off(LAB, facts["leader"], *others):
            # The one that is cut off may still call itself the primary: the others say who is.
            time.sleep(40)


@pytest.mark.parametrize("fault", [faults.killed, faults.frozen, faults.cut_off])
def test_the_synchronous_replica_is_lost(
    fault: Callable[[Lab, str], AbstractContextManager[None]], writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Writes wait for it for five seconds without an answer, and until Patroni's next round."""
    host = next(each["name"] for each in members() if each["role"] == "sync_standby")
    with drill(writer, f"synchronous replica {fault.__name__}", 13, capsys) as facts, fault(LAB, host):
        time.sleep(30)
    assert leader() == facts["leader"]


def test_a_setting_that_takes_a_restart(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "two settings that take a restart", 8, capsys) as facts:
        settings = {"postgres_max_connections": 220, "postgres_settings": {"shared_buffers": "96MB", "max_worker_processes": 10}}
        played = play("converge.yml", "-e", json.dumps(settings))
        assert played.changed > 0
        assert takes_over(facts["leader"])()
    for host in HOSTS:
        shown = LAB.on(host, "; ".join(f"{PSQL} 'SHOW {name}'" for name in ("max_connections", "shared_buffers", "max_worker_processes")))
        assert shown.split() == ["220", "96MB", "10"]
    unchanged("-e", json.dumps(settings))


def test_settings_that_are_lowered(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """No replica may have less than the primary, so they follow it."""
    with drill(writer, "two settings that are lowered", 8, capsys):
        play("converge.yml")
    for host in HOSTS:
        shown = LAB.on(host, "; ".join(f"{PSQL} 'SHOW {name}'" for name in ("max_connections", "max_worker_processes")))
        assert shown.split() == ["200", "8"]
    unchanged()


def test_a_member_that_has_lost_everything(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Its host was made anew: it joins etcd as a new member, and copies the data."""
    replica = next(host for host in HOSTS if host != leader())
    with drill(writer, "a replica made anew", 8, capsys):
        LAB.on(replica, f"systemctl stop patroni etcd; rm -rf {DATA} /var/lib/etcd/default /var/lib/etcd/initial.env")
        play("converge.yml")


def test_the_data_of_a_replica_are_copied_anew(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    replica = next(host for host in HOSTS if host != leader())
    with drill(writer, "a replica reinitialized", 8, capsys):
        play("play.yml", "-e", "what=reinitialize", "--limit", replica)


def etcd_members(host: str) -> set[str]:
    """Those that etcd counts, as one of them says."""
    return {line.split(", ")[2] for line in etcdctl(host, "member list").splitlines()}


def made_anew(host: str) -> None:
    """Another machine in the place of a host, with its name and address and nothing else."""
    faults.docker("rm", "--force", faults.container(LAB, host))
    command = ["ansible-playbook", "-i", str(FOLDER / "inventory"), str(ROOT / "molecule/shared/create.yml"), "--limit", host]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=300)


def test_a_dead_host_is_replaced_by_another_one(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left of it in etcd and Patroni, whether it was the primary or not."""
    if leader() != "db2":
        play("play.yml", "-e", "what=switchover", "-e", "patroni_switchover_to=db2")
    with drill(writer, "the primary's host is dead for good, and another one takes its place", 22, capsys, REPLACED):
        faults.docker("kill", faults.container(LAB, "db2"))
        wait(takes_over("db2"), 60, "another host takes over")
        play("converge.yml", inventory="replaced")
    assert etcd_members("db1") == set(REPLACED)
    unchanged(inventory="replaced")


def test_a_dead_host_is_made_anew(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """First db2, in the place of db4; then another one under its own name and address."""
    made_anew("db2")
    with drill(writer, "a dead host is replaced by one that is made anew", 25, capsys):
        faults.docker("kill", faults.container(LAB, "db4"))
        play("converge.yml")
    assert etcd_members("db1") == set(HOSTS)
    replica = next(host for host in HOSTS if host != leader())
    with drill(writer, "a dead host is replaced under its own name", 8, capsys):
        made_anew(replica)
        play("converge.yml")
    assert etcd_members("db1") == set(HOSTS)
    unchanged()


def test_a_member_leaves(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """A fourth one joins, and the primary leaves, step by step as the playbook remove_host does it."""
    made_anew("db4")
    play("converge.yml", inventory="four")
    wait(lambda: whole(HOSTS | SPARE), WHOLE_SECONDS, "the cluster is whole")
    if leader() != "db4":
        play("play.yml", "-e", "what=switchover", "-e", "patroni_switchover_to=db4", inventory="four")
    with drill(writer, "the primary leaves", 8, capsys):
        for role in ("patroni", "etcd"):
            play("play.yml", "-e", f"role={role} what=drain", "--limit", "db4", inventory="four")
        play("converge.yml")
    assert etcd_members("db1") == set(HOSTS)
    for role in ("patroni", "etcd", "postgres"):
        play("play.yml", "-e", f"role={role} what=remove", "--limit", "db4", inventory="four")
    assert "prefect" not in LAB.on("db4", "ls /var/lib/etcd /etc/patroni; systemctl is-enabled patroni etcd || true")
    # It comes back as it is.
    play("converge.yml", inventory="four")
    wait(lambda: whole(HOSTS | SPARE), WHOLE_SECONDS, "the cluster is whole")
    for role in ("patroni", "etcd"):
        play("play.yml", "-e", f"role={role} what=drain", "--limit", "db4", inventory="four")
    play("converge.yml")


def test_without_a_quorum() -> None:
    """Two of three are gone: no write is taken, and none that was is lost; then it is whole again by itself."""
    first = leader()
    before = numbers(first)
    others = [host for host in HOSTS if host != first]
    for host in others:
        faults.docker("kill", faults.container(LAB, host))
    wait(lambda: asked(first, f"https://{HOSTS[first]}:8008/primary") != "200", 60, "the primary gives up")
    for host in others:
        faults.docker("start", faults.container(LAB, host))
    wait(whole, WHOLE_SECONDS, "the cluster is whole")
    assert before <= numbers(leader())


def refused(*words: str, inventory: str = "inventory", **variables: Any) -> None:
    played = play("preflight.yml", "-e", json.dumps(variables), inventory=inventory, expect=None)
    assert played.code != 0
    assert played.says(*words), played.output[-5000:]


def test_bad_input() -> None:
    """Beside what this inventory lacks, which is Prefect. Each has host and reason."""
    refused("db1: Patroni runs PostgreSQL as a member of a cluster", "etcd has the members", inventory="single")
    refused("db2: has data of an etcd in /var/lib/etcd/default that began as prefect", etcd_initial_cluster_token="other")
    if MAJOR == "15":
        refused("and patroni_etcd_api asks for v3", patroni_etcd_api="v3")
    replica = next(host for host in HOSTS if host != leader())
    LAB.on(replica, "systemctl stop patroni")
    identifier = f"{DATA}/global/pg_control"
    LAB.on(replica, f"cp -p {identifier} /var/tmp/control; printf 'xxxxxxxx' | dd of={identifier} conv=notrunc status=none")
    try:
        refused(f"{replica}: has data of another PostgreSQL (8680820740569200760)")
    finally:
        LAB.on(replica, f"cp -p /var/tmp/control {identifier}; systemctl start patroni")
    wait(whole, WHOLE_SECONDS, "the cluster is whole")


def test_the_way_back() -> None:
    """As docs/high-availability.md has it."""
    page = (ROOT / "docs/high-availability.md").read_text()
    section = page.partition("### Back to a single server")[2]
    scripts = [block.partition("\n")[2] for block in section.partition("\n### ")[0].split("```")[1::2]]
    others = [host for host in HOSTS if host != "db1"]
    if leader() != "db1":
        play("switchover.yml", "-e", "prefect_switchover=postgres prefect_switchover_to=db1")
    before = numbers("db1")
    for host in others:
        LAB.on(host, scripts[0])
    LAB.on("db1", scripts[1])
    play("converge.yml", inventory="single")
    assert before <= numbers("db1")
    assert LAB.on("db1", f"systemctl is-active postgresql@{MAJOR}-main").strip() == "active"
    unchanged(inventory="single")


def purge() -> None:
    """Nothing is left on the hosts but their certificates."""
    for host in HOSTS:
        LAB.on(
            host,
            "systemctl stop patroni etcd 'postgresql@*' || true; export DEBIAN_FRONTEND=noninteractive;"
            " apt-get purge --yes --quiet 'postgresql-*' patroni etcd-server etcd-client python3-etcd >/dev/null;"
            " rm -rf /var/lib/postgresql /var/lib/etcd /etc/postgresql /etc/postgresql-common /etc/patroni /etc/default/etcd",
        )


def test_a_new_cluster(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """On hosts that have nothing."""
    purge()
    assert play("converge.yml", "--check").code == 0
    began = play("converge.yml")
    with capsys.disabled():
        print(f"\na new cluster: {began.seconds:.0f} s")
    wait(whole, WHOLE_SECONDS, "the cluster is whole")
    unchanged()
    LAB.on(leader(), f"{PSQL} 'CREATE TABLE drill (id bigint PRIMARY KEY)'")
    LAB.on(leader(), f"{PSQL} 'ALTER TABLE drill OWNER TO prefect'")
    writer.acknowledged.clear()
    with drill(writer, "planned switchover of a new cluster", 3, capsys):
        play("play.yml", "-e", "what=switchover")


def test_a_new_cluster_in_plain_text() -> None:
    purge()
    plain = ("-e", "tls_mode=off")
    play("converge.yml", *plain)
    second = play("converge.yml", *plain)
    assert second.changed == 0, second.output[-6000:]
    shown = LAB.on("db1", "patronictl -c /etc/patroni/config.yml list --format=json")
    before = next(each["Member"] for each in json.loads(shown) if each["Role"] == "Leader")
    # What changes something takes the password.
    told = LAB.on(before, shlex.join(["python3", "-c", ASK_PLAIN, f"http://{HOSTS[before]}:8008/reload"]))
    assert told.strip() == "401"
    play("play.yml", "-e", "what=switchover", *plain)
    shown = LAB.on("db1", "patronictl -c /etc/patroni/config.yml list --format=json")
    assert next(each["Member"] for each in json.loads(shown) if each["Role"] == "Leader") != before
