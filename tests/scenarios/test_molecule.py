"""Every molecule scenario, found by its folder, so that none can be forgotten."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Commands

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
ansible_venv = importlib.import_module("ansible_venv")

EVERYTHING = bool(os.environ.get("PREFECT_TEST_FULL"))
# With these `make test` would take more than an hour on two cores, so only `make test-full` has them.
ONLY_IN_FULL = (
    set[str]()
    if EVERYTHING
    else {"abort", "balancers", "drill", "monitoring", "postgres_ha", "redis_ha", "restore_ha", "rollback", "rotation", "support"}
)
SCENARIOS = sorted({path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")} - ONLY_IN_FULL)
# Once more with all hosts of the newer Debian: its Patroni has another API of etcd.
AGAIN = ["postgres_ha:trixie"] if EVERYTHING else []
# Three lanes of these run side by side, since they compare no times but the lag of events, which may be measured more than once there.
# Every other scenario runs alone.
LANES = (("external", "restore"), ("ha", "refusals"), ("single", "offline"))
LAG_ATTEMPTS = 5
TIMEOUT = 5400 if EVERYTHING else 1800
# One scenario runs with the newest ansible-core of requirements/, the others with that of this checkout.
WITH_NEWEST = "external"
# These build the releases that they deploy; the others take what one of them has built in the same run of `make test`.
BUILDS = ("ha", "offline")


def test_there_are_scenarios() -> None:
    assert {"ha", "single", "external"} <= set(SCENARIOS)


def lane_of(scenario: str) -> int | None:
    return next((number for number, lane in enumerate(LANES) if scenario in lane), None)


def marked(scenario: str) -> Any:
    """A scenario with its lane, or as one that needs the machine for itself."""
    lane = lane_of(scenario)
    return pytest.param(scenario, marks=pytest.mark.alone if lane is None else pytest.mark.xdist_group(f"lane {lane}"))


def environment(commands: Commands, scenario: str) -> dict[str, str]:
    """Of a scenario in a lane, with a certain Debian, one that builds its release, or one with the newest ansible-core (first on PATH)."""
    env = {} if lane_of(scenario) is None else {"PROOF_LAG_ATTEMPTS": str(LAG_ATTEMPTS)}
    name, _colon, suite = scenario.partition(":")
    if suite:
        env["PREFECT_TEST_SUITE"] = suite
    if name in BUILDS:
        env["PREFECT_TEST_RELEASES"] = ""
    if name != WITH_NEWEST:
        return env
    core = ansible_venv.cores()[-1]
    folder = ansible_venv.make(core)
    env["PATH"] = os.pathsep.join([str(folder / "bin"), commands.environment()["PATH"]])
    assert f"[core {core}." in commands.run(["ansible", "--version"], env=env)
    return env


@pytest.mark.containers
@pytest.mark.parametrize("scenario", [marked(scenario) for scenario in [*SCENARIOS, *AGAIN]])
def test_scenario(commands: Commands, scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs = ROOT / "build" / "logs"
    env, name = environment(commands, scenario), scenario.partition(":")[0]
    started = time.monotonic()
    try:
        commands.run(["molecule", "test", "-s", name], env=env, timeout=TIMEOUT, log=logs / f"molecule-{scenario}.log")
    except BaseException:
        # A scenario that was cut off has not removed its hosts, and the next one needs their names and ports.
        commands.run(["molecule", "destroy", "-s", name], log=logs / f"molecule-{scenario}-destroy.log", expect=None)
        raise
    with capsys.disabled():
        print(f" [{scenario}: {time.monotonic() - started:.0f} s] ", end="", flush=True)
