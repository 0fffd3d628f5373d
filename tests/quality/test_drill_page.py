"""What the page about drills says of scenarios and limits is what the role has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.quality import rules

ROOT = Path(__file__).parents[2]
VARIABLES = rules.load(ROOT / "roles" / "prefect_drill" / "vars" / "main.yml")
LIMITS: dict[str, dict[str, Any]] = VARIABLES["__prefect_drill_limits"]
PAGE = (ROOT / "docs" / "drill.md").read_text(encoding="utf-8")


def documented() -> dict[str, dict[str, Any]]:
    """The table of limits. A measure without a number has to be so."""
    table = PAGE.split("## Limits")[1].split("## ")[0]
    lines = re.findall(r"^\| ([`\w, ]+) \| (.*) \|$", table, re.MULTILINE)
    rows = {name: cell for names, cell in lines for name in names.replace("`", "").split(", ")}
    found = {name: re.findall(r"`(\w+)`(?: (\d+))?", cell) for name, cell in rows.items() if name != "scenario"}
    return {name: {measure: int(number) if number else True for measure, number in pairs} for name, pairs in found.items()}


@pytest.mark.parametrize("scenario", sorted(LIMITS))
def test_limits(scenario: str) -> None:
    shown = documented()
    limits = dict(LIMITS[scenario])
    if scenario == "kill_services":
        limits["scheduling_after"] = int(re.findall(r"\d+", limits["scheduling_after"])[0])
    flows = {} if scenario.endswith("quorum") else shown["all that leave a quorum"]
    assert shown[scenario] | shown["all"] | flows == limits


def test_scenarios() -> None:
    assert set(documented()) - {"all", "all that leave a quorum"} == set(LIMITS) == set(VARIABLES["__prefect_drill_table"])
    broken = PAGE.split("## What is broken")[1].split("## ")[0]
    roles = re.findall(r"`(\w+)`", broken.split("`<role>` is ")[1].split(" `lose_")[0])
    parts = "api|services|redis|postgres|nginx|primary|master|etcd|quorum"
    named = set(re.findall(rf"`(\w+_(?:{parts}))`", broken))
    assert named | {f"{kind}_{role}_host" for kind in re.findall(r"`(\w+)_<role>_host`", broken) for role in roles} == set(LIMITS)
