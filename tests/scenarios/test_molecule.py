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
# These compare no times, so that three lanes of them run side by side; every other scenario runs alone.
LANES = (("external", "restore"), ("ha", "refusals"), ("single", "offline"))
TIMEOUT = 5400 if EVERYTHING else 1800
# One scenario runs with the newest ansible-core of requirements/, the others with that of this checkout.
WITH_NEWEST = "external"
# These build the releases that they deploy; the others take what one of them has built in the same run of `make test`.
BUILDS = ("ha", "offline")


def test_there_are_scenarios() -> None:
    assert {"ha", "single", "external"} <= set(SCENARIOS)


def marked(scenario: str) -> Any:
    """A scenario with its lane, or as one that needs the machine for itself."""
    lane = next((number for number, lane in enumerate(LANES) if scenario in lane), None)
    return pytest.param(scenario, marks=pytest.mark.alone if lane is None else pytest.mark.xdist_group(f"lane {lane}"))


def environment(commands: Commands, scenario: str) -> dict[str, str]:
    """Of a scenario that builds its release itself, or runs with the newest ansible-core, which is then first on PATH."""
    if scenario != WITH_NEWEST:
        return {"PREFECT_TEST_RELEASES": ""} if scenario in BUILDS else {}
    core = ansible_venv.cores()[-1]
    folder = ansible_venv.make(core)
    env = {"PATH": os.pathsep.join([str(folder / "bin"), commands.environment()["PATH"]])}
    assert f"[core {core}." in commands.run(["ansible", "--version"], env=env)
    return env


@pytest.mark.containers
@pytest.mark.parametrize("scenario", [marked(scenario) for scenario in SCENARIOS])
def test_scenario(commands: Commands, scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs = ROOT / "build" / "logs"
    env = environment(commands, scenario)
    started = time.monotonic()
    try:
        commands.run(["molecule", "test", "-s", scenario], env=env, timeout=TIMEOUT, log=logs / f"molecule-{scenario}.log")
    except BaseException:
        # A scenario that was cut off has not removed its hosts, and the next one needs their names and ports.
        commands.run(["molecule", "destroy", "-s", scenario], log=logs / f"molecule-{scenario}-destroy.log", expect=None)
        raise
    with capsys.disabled():
        print(f" [{scenario}: {time.monotonic() - started:.0f} s] ", end="", flush=True)
