"""Hosts of the cluster are drilled: refused where one is missing already, passed with enough at stake, and failed without."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

LAB = Lab("restore_ha", 4390)
STATE = ("state1", "state2", "state3")
URL = "https://172.28.31.21:4200/api"
UNITS = ("patroni", "etcd", "redis-server", "redis-sentinel")
# One of each kind; DRILL_SCENARIOS has others drilled.
WANTED = "kill_primary_host,isolate_master_host,freeze_replica_host,lose_quorum"


def drill(scenarios: str, folder: Path, **more: Any) -> dict[str, Any]:
    return {"prefect_drill_confirm": URL, "prefect_drill_scenarios": scenarios, "prefect_drill_directory": str(folder), **more}


def report(folder: Path) -> dict[str, Any]:
    (found,) = folder.glob("drill-*.json")
    content: dict[str, Any] = json.loads(found.read_text())
    return content


def left(host: str) -> str:
    """What is left of a drill on a host."""
    looks = (
        "ps -eo state,args | grep '^T' || true",
        "nft list table inet prefect_drill 2>/dev/null || true",
        "if systemctl is-active --quiet prefect-drill-restore.timer; then echo timer; fi",
        f"for unit in {' '.join(UNITS)}; do systemctl is-active --quiet $unit || echo $unit; done",
    )
    return LAB.on(host, "\n".join(looks)).strip()


@pytest.mark.parametrize("unit", ["patroni", "redis-sentinel"])
def test_refused_where_a_member_is_missing_already(unit: str, tmp_path: Path) -> None:
    LAB.on("state3", f"systemctl stop {unit}")
    try:
        played = LAB.play("drill", expect=2, **drill("kill_primary_host", tmp_path))
    finally:
        LAB.on("state3", f"systemctl start {unit}")
    assert played.says("The cluster is not well", "Nothing was changed."), played.output[-3000:]
    assert not list(tmp_path.iterdir())


def test_the_hosts_of_the_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = os.environ.get("DRILL_SCENARIOS", WANTED)
    played = LAB.play("drill", expect=None, seconds=3600, **drill(wanted, tmp_path))
    found = report(tmp_path)
    with capsys.disabled():
        for one in found["scenarios"]:
            print(f"\n{one['outcome'].upper()} {one['name']} on {one['target']}: {one['measures']} {one['reasons']} {one.get('cpu')}")
        print(f"{played.seconds:.0f} s")
    assert [left(host) for host in STATE] == [""] * len(STATE)
    assert played.code == 0, [one["reasons"] for one in found["scenarios"]]
    assert [one["name"] for one in found["scenarios"]] == wanted.split(",")
    assert all(one["measures"]["acknowledged"] >= 1000 and one["measures"]["lost"] == 0 for one in found["scenarios"])
    # Nothing of the load stays.
    count = "SELECT count(*) FROM variable WHERE name LIKE 'load-%'"
    assert LAB.on("state1", f'runuser -u postgres -- psql -Atc "{count}" prefect').strip() == "0"


def test_a_drill_with_little_at_stake_does_not_count(tmp_path: Path) -> None:
    short = {"prefect_drill_before": 2, "prefect_drill_seconds": 15, "prefect_drill_after": 2, "prefect_drill_rate": 4}
    played = LAB.play("drill", expect=2, **drill("kill_etcd", tmp_path, **short))
    assert played.says("it does not count", "too little is at stake"), played.output[-3000:]
