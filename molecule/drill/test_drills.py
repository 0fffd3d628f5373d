"""Drills on a cluster of three API servers: refused where they should be, passed, failed with a reason, reverted without a controller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import ROOT, Lab

LAB = Lab("drill", 4320)
APIS = ("api1", "api2", "api3")
HOSTS = ("state1", *APIS)
URL = "https://172.28.12.11:4200/api"
UNITS = {"api1": "prefect-api@4200", "api2": "prefect-api@4200", "api3": "prefect-api@4200", "state1": "prefect-services"}
SIGNAL = "kill --signal="
REDIS = """
import json, os, sys, time
from redis import Redis
redis = Redis.from_url(os.environ['PREFECT_SERVER_DOCKET_URL'])
"""
# As if the scheduler had been silent for longer than it is: waiting for that would only take time.
AGE = REDIS + "redis.hset('prefect:runs:schedule_recent_deployments', 'when', time.time() - 60)"
LOCK = f"""{REDIS}
now = time.time()
run = dict(user='operator', machine='elsewhere', boot='b', pid=7, started=7, playbook='upgrade.yml', since=now, refreshed=now, token='t')
if 'hold' in sys.argv:
    # Over the lease of a run of this machine that was refused: its process is gone, so it would be taken over in any case.
    assert redis.set('selfhosted.prefect:deployment', json.dumps(run), px=300000)
else:
    redis.delete('selfhosted.prefect:deployment')
"""
# Short faults: the limits hold for longer ones as well, and a test has to end.
QUICK = {"prefect_drill_before": 5, "prefect_drill_seconds": 10, "prefect_drill_after": 12}


@dataclass(frozen=True)
class Elsewhere(Lab):
    """The same hosts in another inventory."""

    folder: str = ""

    @property
    def inventory(self) -> str:
        return self.folder


def drill(scenarios: str, folder: Path, **more: Any) -> dict[str, Any]:
    """A confirmed drill's variables."""
    given = {"prefect_drill_confirm": URL, "prefect_drill_scenarios": scenarios, "prefect_drill_directory": str(folder)}
    return {**given, **QUICK, **more}


def started() -> list[list[str]]:
    return [LAB.started([host], unit) for host, unit in UNITS.items()]


def broken(host: str) -> str:
    """What is left of a drill on a host: stopped processes, its rules, its timer, and units that do not run."""
    looks = (
        "ps -eo state,args | grep '^T' || true",
        "nft list table inet prefect_drill 2>/dev/null || true",
        "if systemctl is-active --quiet prefect-drill-restore.timer; then echo timer; fi",
        f"systemctl is-active {UNITS[host]} | grep -v '^active' || true",
    )
    return LAB.on(host, "\n".join(looks)).strip()


def wait(condition: Callable[[], bool], seconds: float) -> float:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds
        time.sleep(0.5)
    return time.monotonic() - begun


# Whatever is wrong is said at once.
WRONG = {
    "prefect_drill_confirm": "yes",
    "prefect_drill_scenarios": "kill_api,kill_everything",
    "prefect_drill_api_host": "state1",
    "prefect_drill_limits": {"kill_api": {"faild": 1}},
    "prefect_drill_rate": 0,
}
SAID = (
    'prefect_drill_confirm is "yes"',
    "There is no scenario kill_everything",
    "freeze_redis",
    "state1 (prefect_drill_api_host",
    "no host of the group",
    "prefect_drill_limits has faild",
    "prefect_drill_rate and prefect_drill_clients have to be 1 or more",
)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({"prefect_drill_confirm": ""}, ("prefect_drill_confirm is not set",), id="not confirmed"),
        pytest.param(WRONG, SAID, id="all is wrong"),
    ],
)
def test_refused(variables: dict[str, Any], says: tuple[str, ...], tmp_path: Path) -> None:
    before = started()
    played = LAB.play("drill", expect=2, **{**drill("kill_api", tmp_path), **variables})
    assert played.says(*says, f"-e prefect_drill_confirm={URL}", "Nothing was changed."), played.output[-3000:]
    assert started() == before
    assert not list(tmp_path.iterdir())


def test_refused_with_one_api_host(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    text = (ROOT / LAB.inventory / "hosts.yml").read_text()
    (inventory / "hosts.yml").write_text(text.replace("        api2:\n", "").replace("        api3:\n", ""))
    (inventory / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")
    lab = Elsewhere(LAB.name, LAB.port, str(inventory))
    played = lab.play("drill", expect=2, lab_checkout=str(ROOT), **drill("kill_api", tmp_path / "reports"))
    assert played.says("only one API host", "Nothing was changed."), played.output[-3000:]


@pytest.mark.parametrize(
    ("host", "breaks", "reverts", "says"),
    [
        pytest.param("api2", "stop prefect-api@4200", "start prefect-api@4200", "not healthy", id="a server is down"),
        pytest.param("state1", "stop prefect-services", "start prefect-services", "prefect-services", id="the services are down"),
        pytest.param("state1", f"{SIGNAL}STOP prefect-services", f"{SIGNAL}CONT prefect-services", "last tick", id="no scheduler ticks"),
    ],
)
def test_refused_when_redundancy_is_lost(host: str, breaks: str, reverts: str, says: str, tmp_path: Path) -> None:
    LAB.on(host, f"systemctl {breaks}")
    try:
        if SIGNAL in breaks:
            LAB.printed("api1", AGE)
        played = LAB.play("drill", expect=2, **drill("kill_api", tmp_path))
    finally:
        LAB.on(host, f"systemctl {reverts}")
        wait(lambda: all(map(LAB.ready, APIS)), 60)
    assert played.says("The cluster is not well", says, "Nothing was changed."), played.output[-3000:]
    assert not list(tmp_path.iterdir())


def test_refused_while_another_run_holds_the_lock(tmp_path: Path) -> None:
    before = started()
    LAB.printed("api1", LOCK, "hold")
    try:
        played = LAB.play("drill", expect=2, **drill("kill_api", tmp_path))
    finally:
        LAB.printed("api1", LOCK)
    holder = "upgrade.yml, by operator on elsewhere"
    assert played.says(f"Another run holds the deployment lock: {holder}", "Nothing was changed."), played.output[-3000:]
    assert started() == before
    assert not list(tmp_path.iterdir())


def report(folder: Path) -> dict[str, Any]:
    (found,) = folder.glob("drill-*.json")
    (page,) = folder.glob("drill-*.html")
    assert "<svg" in page.read_text()
    content: dict[str, Any] = json.loads(found.read_text())
    return content


def test_a_drill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Services that were killed and Redis that was away are test_healing.py's; DRILL_SCENARIOS has others drilled, too.
    wanted = os.environ.get("DRILL_SCENARIOS", "kill_api,freeze_api,cut_api,restart_postgres,restart_nginx")
    played = LAB.play("drill", expect=None, **drill(wanted, tmp_path))
    found = report(tmp_path)
    with capsys.disabled():
        for one in found["scenarios"]:
            print(f"\n{one['outcome'].upper()} {one['name']}: {one['measures']} {one['reasons']} {one['cpu']}")
        print(f"{played.seconds:.0f} s")
    assert [one["name"] for one in found["scenarios"]] == wanted.split(",")
    assert played.code == 0, [one["reasons"] for one in found["scenarios"]]
    assert found["passed"]
    assert all(one["measures"]["requests"] > 500 for one in found["scenarios"])
    assert [broken(host) for host in HOSTS] == [""] * len(HOSTS)
    # Nothing of the load stays on the cluster.
    assert (
        LAB.on("state1", "runuser -u postgres -- psql -Atc \"select count(*) from variable where name like 'load-%'\" prefect").strip()
        == "0"
    )


def test_a_drill_that_fails(tmp_path: Path) -> None:
    # The second is no matter of slowness, which a busy machine would excuse.
    limits = {"kill_api": {"back_after": 0.1, "failed": -1}}
    short = {"prefect_drill_before": 2, "prefect_drill_seconds": 5, "prefect_drill_after": 2}
    played = LAB.play("drill", expect=2, **drill("kill_api", tmp_path, prefect_drill_limits=limits, **short))
    assert played.says("The drill has failed", "FAIL kill_api on api1", "the process is back after", "the limit is 0.10 s"), played.output[
        -3000:
    ]
    assert not report(tmp_path)["passed"]
    # The next run finds the lock free.
    assert LAB.play("drill", "--check", **drill("kill_api", tmp_path)).changed == 0


@pytest.mark.parametrize("fails", [pytest.param(True, id="an error"), pytest.param(False, id="accepted")])
def test_noise_is_not_blamed_on_the_fault(fails: bool, tmp_path: Path) -> None:
    """Something else takes the machine's CPU from the fault on: nothing is proved, and the drill says so."""
    before = LAB.started(["state1"], "prefect-services")
    # Whatever an answer takes is too slow. Flows whose last task runs are late are not this test's business.
    limits = {"kill_services": {"longest": 0.001, "incomplete": 99}}
    accepted = {"prefect_drill_inconclusive_fails": False}
    process = LAB.start("drill", **drill("kill_services", tmp_path, prefect_drill_limits=limits, **({} if fails else accepted)))
    burners: list[subprocess.Popen[bytes]] = []
    try:
        wait(lambda: LAB.started(["state1"], "prefect-services") != before, 120)
        burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _number in range(8 * (os.cpu_count() or 1))]
        output, _errors = process.communicate(timeout=300)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
        process.kill()
    assert process.returncode == (2 if fails else 0), output[-6000:]
    found = report(tmp_path)
    said = " ".join(output.split())
    assert (found["outcome"], found["passed"]) == ("inconclusive", False), (found["scenarios"][0]["reasons"], found["scenarios"][0]["cpu"])
    assert "The drill is not conclusive" in said, output[-6000:]
    assert "NOT CONCLUSIVE kill_services on state1" in said
    assert "by what is no part of the service" in said
    (page,) = tmp_path.glob("drill-*.html")
    assert "not conclusive" in page.read_text()


def test_interrupted(tmp_path: Path) -> None:
    """The machine that runs Ansible dies while something is broken: the host reverts it."""
    process = LAB.start("drill", **drill("cut_api", tmp_path, prefect_drill_before=2, prefect_drill_seconds=8))
    try:
        wait(lambda: "table inet prefect_drill" in broken("api1"), 90)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # The module on the host dies with it, at the worst moment.
    LAB.on("api1", "pkill -9 -u root -x python3")
    assert "table inet prefect_drill" in broken("api1")
    # Its deployment lock is never released, which keeps the watchdog from restarting anything.
    assert 0 < float(LAB.printed("api2", f"{REDIS}print(redis.ttl('selfhosted.prefect:deployment'))")) < 600
    # The fault was to last for 8 s, and the timer waits for half a minute more.
    assert 15 < wait(lambda: not broken("api1"), 60) < 45
    wait(lambda: LAB.ready("api1"), 30)
    # The next run finds the lock free.
    assert LAB.play("drill", "--check", **drill("kill_api", tmp_path)).changed == 0
    # A dry run does not take it over, and while its lease lasts the watchdog of the next tests would restart nothing.
    LAB.printed("api1", LOCK)
