"""A single Redis becomes a cluster under load; then each way to lose its master, or to change it, with every acknowledged number checked.

The tests build on each other: they are one story about three hosts of Redis, and two of Prefect that reach them through HAProxy.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import faults
import pytest
from clusters import Redis
from lab import ROOT, Lab, Load, environment, summary
from redis_writer import Writer, numbers


class Before(Lab):
    """The same hosts with a single Redis."""

    @property
    def inventory(self) -> str:
        return "molecule/redis_ha/single"


class More(Lab):
    """The same hosts with a fourth Redis."""

    @property
    def inventory(self) -> str:
        return "molecule/redis_ha/four"


LAB, SINGLE, FOUR = Lab("redis_ha", 4360), Before("redis_ha", 4360), More("redis_ha", 4360)
NETWORK = "172.28.22"
HOSTS = {"redis1": f"{NETWORK}.11", "redis2": f"{NETWORK}.12", "redis3": f"{NETWORK}.13"}
NAMES = tuple(HOSTS)
# What takes the place of redis2 under another name.
SPARE = {"redis4": f"{NETWORK}.14"}
REPLACED = {host: address for host, address in HOSTS.items() if host != "redis2"} | SPARE
# On which the writer is, and through whose HAProxy it writes.
WRITES = "app2"
# What has to be at stake for a drill to count, and how long everything may take to be whole again.
AT_STAKE = 1000
WHOLE_SECONDS = 120.0


CLUSTER = Redis(LAB, HOSTS | SPARE)


def master() -> str:
    return CLUSTER.master()


def masters() -> dict[str, str]:
    return CLUSTER.masters()


def whole(hosts: Collection[str] = NAMES) -> bool:
    return CLUSTER.whole(hosts)


def wait(condition: Callable[[], bool], seconds: float, what: str) -> float:
    return faults.wait(what, seconds, condition, CLUSTER.masters)


@contextmanager
def process_killed(_lab: Lab, host: str) -> Iterator[None]:
    LAB.on(host, "systemctl kill --signal=KILL redis-server")
    yield


FAULTS: dict[str, tuple[Callable[[Lab, str], Any], float]] = {
    "process of the master killed": (process_killed, 8),
    "host of the master killed": (faults.killed, 10),
    "host of the master frozen": (faults.frozen, 10),
    "host of the master cut off": (faults.cut_off, 10),
    "master cut off from its peers": (
        lambda lab, host: faults.cut_off(lab, host, *(its for other, its in HOSTS.items() if other != host)),
        10,
    ),
}


@contextmanager
def drill(
    what: str, folder: Path, within: float, capsys: pytest.CaptureFixture[str], *, most_lost: int = 0, planned: bool = True
) -> Iterator[dict[str, Any]]:
    """Something happens while the writer and the load write. Afterwards nothing is lost, and again when everything is whole.

    As long as it is planned, no request fails.
    """
    facts: dict[str, Any] = {"before": master()}
    load = Load()
    with LAB.load(folder, rate=10) as running_load, Writer(LAB, WRITES) as writer:
        load = running_load
        time.sleep(4)
        facts["begun"] = time.time()
        yield facts
        time.sleep(3)
    written = writer.written
    back, at_once = written.longest(facts["begun"]), numbers(LAB, WRITES)
    lost = len(written.numbers - at_once)
    healed = wait(whole, WHOLE_SECONDS, "everything is whole again")
    later = numbers(LAB, WRITES)
    with capsys.disabled():
        print(
            f"\n{what}: {facts['before']} -> {master()}, back after {back:.1f} s (of {within:g}), {len(written.acknowledged)} acknowledged,"
            f" {lost} lost, {len(written.numbers - later)} once whole again ({healed:.0f} s later); {len(written.errors)} errors:"
            f" {written.said()}"
        )
        print(summary(what, load.report), flush=True)
    assert len(written.acknowledged) >= AT_STAKE, "nothing was at stake"
    assert len(written.numbers - later) <= most_lost and lost <= most_lost
    assert load.report["lost"] == 0
    assert not planned or load.report["failed"] == 0
    assert back <= within
    for host in HOSTS:
        assert numbers(LAB, WRITES, CLUSTER.url(host)) == later, f"{host} has other numbers"


# --- from one host to three ---


def test_a_single_redis() -> None:
    SINGLE.play("site")
    assert SINGLE.on("app1", "grep -c :6380 /etc/prefect/prefect.env || true").strip() == "0"


def test_it_becomes_a_cluster_under_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LAB.load(tmp_path, rate=10) as load, Writer(LAB, WRITES, CLUSTER.url("redis1")) as writer:
        played = LAB.play("site")
    written = writer.written
    assert master() == "redis1"
    wait(whole, WHOLE_SECONDS, "everything is whole")
    lost = written.numbers - numbers(LAB, WRITES)
    with capsys.disabled():
        print(
            f"\none host to three ({played.seconds:.0f} s): writes failed for {written.longest(0):.1f} s (of 10),"
            f" {len(written.acknowledged)} acknowledged, {len(lost)} lost; {len(written.errors)} errors: {written.said()}"
        )
        print(summary("one host to three", load.report), flush=True)
    assert not lost
    assert written.longest(0) <= 10
    assert load.report["lost"] == 0


def test_a_second_run_changes_nothing() -> None:
    assert LAB.play("site").changed == 0


# --- each way to lose the master ---


@pytest.mark.parametrize("what", FAULTS)
def test_a_master_is_replaced(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault, within = FAULTS[what]
    host = master()
    # Redis acknowledges before its replicas have it: cut off from them alone, it does so until it knows, two to three seconds later.
    most_lost = 2000 if what == "master cut off from its peers" else 0
    with drill(what, tmp_path, within, capsys, most_lost=most_lost, planned=False), fault(LAB, host):
        time.sleep(20)
    assert master() != host


def test_a_planned_switchover(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = master()
    with drill("planned switchover", tmp_path, 3, capsys):
        played = LAB.play("switchover", prefect_switchover="redis")
        held = re.search(r"the master of Redis now, in place of \w+: it took\s+([0-9.]+)\s+s", played.output)
    with capsys.disabled():
        print(f"\nwrites were held for {held[1] if held else '?'} s; the run took {played.seconds:.0f} s", flush=True)
    assert held
    assert master() != host
    assert played.says(f"{master()} is the master of Redis now, in place of {host}: it took", "every member is in step")


def test_a_planned_switchover_to_a_certain_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the one that Sentinel would not choose, which of equal replicas is the one with the greater run ID; once more changes nothing."""
    host = master()
    others = [each for each in HOSTS if each != host]
    to = max(others, key=lambda each: CLUSTER.asked(each, 6379, "prefect", CLUSTER.secret("redis"), "info server | grep run_id"))
    variables = {"prefect_switchover": "redis", "prefect_switchover_to": to}
    assert LAB.play("switchover", "--check", **variables).says(f"Would make {to} the master of Redis, in place of {host}.")
    with drill("planned switchover to a certain host", tmp_path, 3, capsys):
        LAB.play("switchover", **variables)
        assert master() == to
    again = LAB.play("switchover", **variables)
    assert again.says(f"{to} is the master of Redis already: there is nothing to do.")
    assert again.changed == 0


def test_a_switchover_that_is_refused() -> None:
    before = master()
    gone = next(host for host in HOSTS if host != before)
    LAB.on(gone, "systemctl stop redis-server")
    variables = {"prefect_switchover": "redis", "prefect_switchover_to": gone}
    try:
        first = LAB.play("switchover", expect=2, **variables)
        assert first.says("Nothing was changed.", f"redis-server.service on {gone} is inactive")
        second = LAB.play("switchover", expect=2, prefect_allow_degraded=True, **variables)
        assert second.says("Nothing was changed.", f"{gone} cannot take over without loss: it has to be in step with the master, {before}")
        assert (first.changed, second.changed, master()) == (0, 0, before)
    finally:
        LAB.on(gone, "systemctl start redis-server")
    wait(whole, WHOLE_SECONDS, "everything is whole")


def test_a_planned_restart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of Redis, the Sentinels and HAProxy: every process is another one, and the master was moved before its own was stopped."""
    units = {**dict.fromkeys(HOSTS, "redis-server redis-sentinel"), "app1": "haproxy", "app2": "haproxy"}

    def started() -> dict[str, list[str]]:
        # Of HAProxy the processes that serve: the one that is their parent stays.
        shown = "for unit in {}; do main=$(systemctl show --property=MainPID --value $unit); pgrep --parent $main || echo $main; done"
        return {host: LAB.on(host, shown.format(names)).split() for host, names in units.items()}

    before, host = started(), master()
    with drill("planned restart of Redis, Sentinel and HAProxy", tmp_path, 5, capsys):
        LAB.play("restart", prefect_restart="redis,redis_sentinel,haproxy")
    assert master() != host
    after = started()
    assert not [each for each in units if set(before[each]) & set(after[each]) and each not in ("app1", "app2")]
    assert all(set(after[each]) - set(before[each]) for each in ("app1", "app2"))
    # What made Sentinel prefer one of them is over.
    assert {CLUSTER.replication(each)["slave_priority"] for each in HOSTS if each != master()} == {"100"}


def test_a_second_run_still_changes_nothing() -> None:
    """Whatever Redis and Sentinel have written meanwhile."""
    assert LAB.play("site").changed == 0


def test_a_changed_setting_restarts_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {host: CLUSTER.replication(host).get("master_replid", "") for host in HOSTS}
    assert all(before.values())
    with drill("a setting that takes a restart", tmp_path, 5, capsys):
        LAB.play("site", "--tags=redis", redis_settings={"maxclients": 9000})
    assert LAB.on("redis2", "grep -c 'maxclients 9000' /etc/redis/prefect.conf").strip() == "1"
    LAB.play("site", "--tags=redis")


def test_a_restart_of_single_servers() -> None:
    """Of this inventory's PostgreSQL and nginx: it says what that costs."""
    shown = "systemctl show --property=MainPID --value nginx $(systemctl list-units --plain --no-legend 'postgresql@*' | cut -d ' ' -f 1)"
    before = LAB.on("app1", shown).split()
    played = LAB.play("restart", prefect_restart="postgres,nginx")
    assert played.says("postgres has one host: requests fail from its stop until it serves again.", "nginx has one host")
    assert len(before) == 2 and not {*before} & {*LAB.on("app1", shown).split()}


# --- hosts that come and go ---


def made_anew(host: str) -> None:
    """Another machine in the place of a host, with its name and address and nothing else."""
    faults.docker("rm", "--force", faults.container(LAB, host))
    command = ["ansible-playbook", "-i", LAB.inventory, "molecule/shared/create.yml", "--limit", host]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=300)


@contextmanager
def watched(what: str, hosts: Collection[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing that was acknowledged is lost meanwhile, and the cluster is of these hosts afterwards."""
    with LAB.load(folder, rate=10) as load, Writer(LAB, WRITES) as writer:
        yield
    wait(lambda: whole(hosts), WHOLE_SECONDS, "everything is whole")
    lost = writer.written.numbers - numbers(LAB, WRITES)
    with capsys.disabled():
        print(f"\n{what}: {len(writer.written.acknowledged)} acknowledged, {len(lost)} lost")
        print(summary(what, load.report), flush=True)
    assert not lost
    assert load.report["lost"] == 0


def test_what_is_not_replaced() -> None:
    """One that works, one that is not empty, and one while another host is lost."""
    names = {"prefect_replace_host": "redis2", "prefect_replace_with": "redis4"}
    assert FOUR.play("replace", expect=2, **names).says("redis2 answers, so it is not dead.", "Nothing was changed.")
    assert LAB.play("replace", expect=2, prefect_replace_host="redis2").says("redis2 is not empty: it has data of Redis")
    assert LAB.play("remove_host", expect=2, prefect_remove_host="redis2").says(
        "Without redis2 the group redis has 2 of the 3 hosts that a cluster takes (redis1, redis3)"
    )
    with faults.killed(LAB, "redis2"):
        LAB.on("redis3", "systemctl stop redis-sentinel")
        try:
            assert FOUR.play("replace", expect=2, **names).says("1 Sentinels answer, and 2 have to before another host can take the place")
        finally:
            LAB.on("redis3", "systemctl start redis-sentinel")
        wait(lambda: len(masters()) == 2, 30, "two Sentinels answer")
        LAB.on("app2", "systemctl stop prefect-services")
        try:
            assert FOUR.play("replace", expect=2, **names).says(
                "prefect-services.service on app2 is inactive", "prefect_allow_degraded=true"
            )
        finally:
            LAB.on("app2", "systemctl start prefect-services")
    wait(whole, WHOLE_SECONDS, "everything is whole")


def test_a_dead_host_is_replaced_by_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watched("redis4 in the place of redis2", REPLACED, tmp_path, capsys):
        faults.docker("kill", faults.container(LAB, "redis2"))
        wait(lambda: len(masters()) == 2 and master() != "redis2", 30, "another one is the master")
        played = FOUR.play("replace", prefect_replace_host="redis2", prefect_replace_with="redis4")
    assert played.says("redis4 has taken the place of redis2 in redis, redis_sentinel.", "Take redis2 out of the inventory now")


def test_a_dead_host_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First redis2, in the place of redis4; then another one under its own name and address."""
    made_anew("redis2")
    faults.docker("kill", faults.container(LAB, "redis4"))
    wait(lambda: len(masters()) == 2 and master() != "redis4", 30, "another one is the master")
    FOUR.play("replace", prefect_replace_host="redis4", prefect_replace_with="redis2")
    wait(whole, WHOLE_SECONDS, "everything is whole")
    host = next(each for each in HOSTS if each != master())
    with watched(f"{host} under its own name", HOSTS, tmp_path, capsys):
        made_anew(host)
        LAB.play("replace", prefect_replace_host=host)
    assert LAB.play("site").changed == 0


def test_a_fourth_host_comes_and_goes_as_the_master(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_anew("redis4")
    FOUR.play("site")
    wait(lambda: whole(HOSTS | SPARE), WHOLE_SECONDS, "everything is whole")
    FOUR.play("switchover", prefect_switchover="redis", prefect_switchover_to="redis4")
    assert master() == "redis4"
    with watched("the master leaves", HOSTS, tmp_path, capsys):
        FOUR.play("remove_host", prefect_remove_host="redis4")
    assert LAB.on("redis4", "systemctl is-enabled redis-server redis-sentinel || true; ls /etc/redis").count("prefect") == 0
    assert LAB.play("site").changed == 0


# --- what the preflight refuses ---


def test_a_host_of_another_cluster_is_refused() -> None:
    host = next(each for each in HOSTS if each != master())
    state = "/var/lib/redis-sentinel/prefect.conf"
    LAB.on(host, f"cp -p {state} {state}.kept; sed -i 's/^sentinel monitor prefect [0-9.]* /sentinel monitor prefect 10.99.0.1 /' {state}")
    try:
        played = LAB.play("preflight", expect=2)
        assert played.says(f"Redis on {host} belonged to another cluster: its master there was 10.99.0.1:6379.")
    finally:
        LAB.on(host, f"mv {state}.kept {state}")


# --- what is watched ---


def prometheus(query: str) -> list[dict[str, Any]]:
    with LAB.open(f"https://{NETWORK}.21:9090/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


def firing() -> set[str]:
    return {each["metric"]["alertname"] for each in prometheus('ALERTS{alertstate="firing"}')}


def test_everything_is_scraped() -> None:
    jobs = {(each["metric"]["job"], each["metric"]["instance"]) for each in prometheus("up == 1")}
    assert {("redis_sentinel", host) for host in HOSTS} | {("haproxy", host) for host in ("app1", "app2")} <= jobs
    assert not {each for each in firing() if "Redis" in each or "Haproxy" in each}


@pytest.mark.skipif(not os.environ.get("PREFECT_TEST_FULL"), reason="takes ten minutes: make test-full")
def test_alerts_fire_and_resolve() -> None:
    """Those of the scenario `monitoring` are of what every deployment has."""
    host = master()
    others = [each for each in HOSTS if each != host]
    with faults.cut_off(LAB, others[0], *(its for other, its in HOSTS.items() if other != others[0])):
        # Without the one that is cut off, the others move on.
        LAB.on(host, "systemctl stop redis-server")
        wait(lambda: {"PrefectRedisSentinelsDisagree", "PrefectRedisReplicaMissing"} <= firing(), 300, "the Sentinels disagree")
        LAB.on(host, "systemctl start redis-server")
    wait(whole, WHOLE_SECONDS, "everything is whole")
    for each in others:
        LAB.on(each, "systemctl stop redis-server redis-sentinel")
    wait(lambda: {"PrefectRedisNoFailover", "PrefectHaproxyNoServer"} <= firing(), 300, "there is no failover")
    LAB.on(host, "systemctl stop redis-server")
    wait(lambda: "PrefectRedisNoMaster" in firing(), 300, "there is no master")
    for each in HOSTS:
        LAB.on(each, "systemctl start redis-server redis-sentinel")
    wait(whole, WHOLE_SECONDS, "everything is whole")

    def in_tilt() -> bool:
        LAB.on(host, "systemctl kill --signal=STOP redis-sentinel; sleep 3; systemctl kill --signal=CONT redis-sentinel; sleep 15")
        return "PrefectRedisSentinelInTilt" in firing()

    wait(in_tilt, 480, "a Sentinel stands still again and again")
    wait(whole, WHOLE_SECONDS, "everything is whole")
    wait(lambda: not {each for each in firing() if "Redis" in each or "Haproxy" in each}, 300, "all alerts are over")
