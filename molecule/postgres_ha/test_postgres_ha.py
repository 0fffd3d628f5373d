"""A single server becomes a cluster under load; then each way to lose its primary, or change it, with every acknowledged number checked.

The tests build on each other: they are one story about three hosts.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import ROOT, SUFFIX, Lab, Played, environment
from writer import Writer

LAB = Lab("postgres_ha", 0)
FOLDER = ROOT / "molecule/postgres_ha"
FILES = ROOT / "build/lab/postgres_ha"
NETWORK = "172.28.21"
HOSTS = {"db1": f"{NETWORK}.11", "db2": f"{NETWORK}.12", "db3": f"{NETWORK}.13"}
# What takes the place of db2 under another name.
SPARE = {"db4": f"{NETWORK}.14"}
REPLACED = {host: address for host, address in HOSTS.items() if host != "db2"} | SPARE
MAJOR = {"bookworm": "15", "trixie": "17"}[os.environ.get("PREFECT_TEST_SUITE") or "bookworm"]
DATA = f"/var/lib/postgresql/{MAJOR}/main"
PSQL = "runuser -u postgres -- psql --quiet --no-psqlrc --tuples-only --no-align prefect --command"
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


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def container(host: str) -> str:
    return f"prefect-postgres_ha-{host}"


def members() -> list[dict[str, Any]]:
    """The cluster as the first member sees it that answers."""
    for host, address in (HOSTS | SPARE).items():
        try:
            with LAB.open(f"https://{address}:8008/cluster", timeout=2) as answer:
                found: list[dict[str, Any]] = json.load(answer)["members"]
                return found
        except OSError:
            print(f"{host} does not answer")
    return []


def leader() -> str:
    return next((each["name"] for each in members() if each["role"] == "leader" and each["state"] == "running"), "")


def whole(hosts: Iterable[str] = HOSTS) -> bool:
    """These members, one of them the primary, one of them synchronous, and all of them in step."""
    found = members()
    states = [each["state"] in ("running", "streaming") and (each["role"] == "leader" or each.get("lag") == 0) for each in found]
    roles = [each["role"] for each in found]
    lines = {each.get("timeline") for each in found}
    return (
        {each["name"] for each in found} == set(hosts) and all(states) and "leader" in roles and "sync_standby" in roles and len(lines) == 1
    )


def wait(condition: Callable[[], bool], seconds: float, what: str) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"{what} within {seconds:g} s: {members()}"
        time.sleep(0.5)
    return time.monotonic() - begun


def numbers(host: str) -> set[int]:
    return {int(line) for line in LAB.on(host, f"{PSQL} 'TABLE drill'").split()}


@contextmanager
def addresses_dropped(host: str, addresses: list[str]) -> Iterator[None]:
    """Cuts a host off from some others, in both directions, without a word to either."""
    pid = docker("inspect", "--format={{.State.Pid}}", container(host))
    rules = [[chain, flag, address, "-j", "DROP"] for address in addresses for chain, flag in (("INPUT", "-s"), ("OUTPUT", "-d"))]
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net", "iptables", "-w"]
    for rule in rules:
        subprocess.run([*enter, "-I", *rule], check=True, timeout=10)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run([*enter, "-D", *rule], check=True, timeout=10)


@pytest.fixture(scope="module")
def writer() -> Writer:
    password = (FILES / "database").read_text().strip() + SUFFIX
    return Writer(HOSTS | SPARE, password, FILES / "tls" / "ca.crt")


@contextmanager
def drill(
    writer: Writer, what: str, within: float, capsys: pytest.CaptureFixture[str], hosts: Iterable[str] = HOSTS
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
    assert play("converge.yml", inventory="single").changed == 0


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
    second = play("converge.yml")
    assert second.changed == 0, second.output[-6000:]
    assert play("converge.yml", "--check", "--diff").changed == 0


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
    with drill(writer, "planned switchover", 8, capsys) as facts:
        play("play.yml", "-e", "what=switchover")
        assert takes_over(facts["leader"])()


def test_the_postmaster_is_killed(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "kill -9 of the postmaster", 8, capsys) as facts:
        LAB.on(facts["leader"], f"kill -9 $(head -1 {DATA}/postmaster.pid)")
        time.sleep(5)


def test_the_host_of_the_primary_is_killed(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "host of the primary killed", 25, capsys) as facts:
        docker("kill", container(facts["leader"]))
        wait(takes_over(facts["leader"]), 60, "another host takes over")
        time.sleep(5)
        docker("start", container(facts["leader"]))


def test_the_host_of_the_primary_is_frozen(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "host of the primary frozen", 25, capsys) as facts:
        docker("pause", container(facts["leader"]))
        try:
            wait(takes_over(facts["leader"]), 60, "another host takes over")
            time.sleep(5)
        finally:
            docker("unpause", container(facts["leader"]))


def test_the_primary_is_cut_off_from_its_peers(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Its clients still reach it."""
    with drill(writer, "primary cut off from its peers only", 25, capsys) as facts:
        others = [address for host, address in HOSTS.items() if host != facts["leader"]]
        with addresses_dropped(facts["leader"], others):
            # The one that is cut off may still call itself the primary: the others say who is.
            time.sleep(40)


def test_a_setting_that_takes_a_restart(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    with drill(writer, "two settings that take a restart", 8, capsys) as facts:
        settings = {"postgres_max_connections": 220, "postgres_settings": {"shared_buffers": "96MB", "max_worker_processes": 10}}
        played = play("converge.yml", "-e", json.dumps(settings))
        assert played.changed > 0
        assert takes_over(facts["leader"])()
    for host in HOSTS:
        shown = LAB.on(host, "; ".join(f"{PSQL} 'SHOW {name}'" for name in ("max_connections", "shared_buffers", "max_worker_processes")))
        assert shown.split() == ["220", "96MB", "10"]
    assert play("converge.yml", "-e", json.dumps(settings)).changed == 0


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
    options = f"--endpoints=https://{(HOSTS | SPARE)[host]}:2379 --cacert=/etc/prefect-tls/ca.crt"
    listed = LAB.on(host, f"ETCDCTL_API=3 etcdctl {options} --cert=/etc/prefect-tls/etcd.crt --key=/etc/prefect-tls/etcd.key member list")
    return {line.split(", ")[2] for line in listed.splitlines()}


def made_anew(host: str) -> None:
    """Another machine in the place of a host, with its name and address and nothing else."""
    docker("rm", "--force", container(host))
    command = ["ansible-playbook", "-i", str(FOLDER / "inventory"), str(ROOT / "molecule/shared/create.yml")]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=300)


def test_a_dead_host_is_replaced_by_another_one(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left of it in etcd and Patroni, whether it was the primary or not."""
    if leader() != "db2":
        play("play.yml", "-e", "what=switchover", "-e", "patroni_switchover_to=db2")
    with drill(writer, "the primary's host is dead for good, and another one takes its place", 25, capsys, REPLACED):
        docker("kill", container("db2"))
        wait(takes_over("db2"), 60, "another host takes over")
        play("converge.yml", inventory="replaced")
    assert etcd_members("db1") == set(REPLACED)
    assert play("converge.yml", inventory="replaced").changed == 0


def test_a_dead_host_is_made_anew(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    """First db2, in the place of db4; then another one under its own name and address."""
    made_anew("db2")
    with drill(writer, "a dead host is replaced by one that is made anew", 25, capsys):
        docker("kill", container("db4"))
        play("converge.yml")
    assert etcd_members("db1") == set(HOSTS)
    replica = next(host for host in HOSTS if host != leader())
    with drill(writer, "a dead host is replaced under its own name", 8, capsys):
        made_anew(replica)
        play("converge.yml")
    assert etcd_members("db1") == set(HOSTS)
    assert play("converge.yml").changed == 0


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
        docker("kill", container(host))
    wait(lambda: asked(first, f"https://{HOSTS[first]}:8008/primary") != "200", 60, "the primary gives up")
    for host in others:
        docker("start", container(host))
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
        play("play.yml", "-e", "what=switchover", "-e", "patroni_switchover_to=db1")
    before = numbers("db1")
    for host in others:
        LAB.on(host, scripts[0])
    LAB.on("db1", scripts[1])
    play("converge.yml", inventory="single")
    assert before <= numbers("db1")
    assert LAB.on("db1", f"systemctl is-active postgresql@{MAJOR}-main").strip() == "active"
    assert play("converge.yml", inventory="single").changed == 0


def purge() -> None:
    """Nothing is left on the hosts but their certificates."""
    for host in HOSTS:
        LAB.on(
            host,
            "systemctl stop patroni etcd 'postgresql@*' || true; export DEBIAN_FRONTEND=noninteractive;"
            " apt-get purge --yes --quiet 'postgresql-*' patroni etcd-server etcd-client >/dev/null;"
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
    second = play("converge.yml")
    assert second.changed == 0, second.output[-6000:]
    LAB.on(leader(), f"{PSQL} 'CREATE TABLE drill (id bigint PRIMARY KEY)'")
    LAB.on(leader(), f"{PSQL} 'ALTER TABLE drill OWNER TO prefect'")
    writer.acknowledged.clear()
    with drill(writer, "planned switchover of a new cluster", 8, capsys):
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
