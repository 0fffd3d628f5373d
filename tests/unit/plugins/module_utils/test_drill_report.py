from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.report import result, text

ABOUT = {"url": "http://balancer:4200/api", "began": "then", "ended": "now", "version": "3.8.8"}


def test_a_drill_that_passes(measured: Any) -> None:
    found = result([measured()], ABOUT)
    assert found["passed"]
    (one,) = found["scenarios"]
    assert one["measures"]["failed"] == 1
    assert one["plot"]["normal_after"] == pytest.approx(1.6)
    assert one["plot"]["scheduling"] == [[2.0, 12.0]]
    assert text(found)[0].startswith("PASS  kill_api on api3: 1 of 8")
    assert json.loads(json.dumps(found)) == found


def test_a_drill_without_a_scheduler(measured: Any) -> None:
    """It is switched off: nothing is expected of it, and the lines say so."""
    one = measured(
        watch={
            "flows": {"runs": [{"id": "1", "at": 999.0, "took": 1.0, "state": "COMPLETED", "problem": ""}]},
            "scheduler": {"switched_off": True},
        },
        limits={"scheduling_after": 10},
    )
    found = result([one], ABOUT)
    assert (found["passed"], found["scenarios"][0]["reasons"]) == (True, [])
    assert "scheduling switched off, events after" in text(found)[0]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"limits": {"failed": 0}}, "failed requests: 1, and the limit is 0"),
        ({"problem": "no timer"}, "no timer"),
        ({"unwell": "api3 hangs"}, "the cluster was not well afterwards: api3 hangs"),
        ({"watch": {"flows": {"runs": [], "problem": "no python"}}}, "the flows could not be judged: no python"),
        ({"at_stake": 1000}, "it does not count: 600 writes were acknowledged, and with fewer than 1000 too little is at stake"),
        ({"limits": {"says_unavailable": True}}, "clients were told that the service is unavailable (503): no, and the limit is yes"),
    ],
)
def test_a_drill_that_fails(measured: Any, more: dict[str, Any], reason: str) -> None:
    found = result([measured(), measured(name="other", **more)], ABOUT)
    assert not found["passed"]
    assert [one["passed"] for one in found["scenarios"]] == [True, False]
    assert found["scenarios"][1]["reasons"] == [reason]
    assert text(found)[-1].strip() == reason


def test_nothing_was_drilled() -> None:
    assert result([], ABOUT)["passed"] is False


def test_several_hosts_that_were_hit_together(measured: Any) -> None:
    one = measured(kind="crash")
    first = one["fault"]
    other = {"at": first["at"] + 1, "released": first["until"] + 3, "until": first["until"] + 5, "by_itself": False}
    found = result([{**one, "also": [other]}], ABOUT)["scenarios"][0]
    assert (found["fault"]["at"], found["fault"]["until"], found["fault"]["by_itself"]) == (first["at"], other["until"], False)
    assert "normal_after_return" in found["measures"]


def test_what_clients_were_told(measured: Any) -> None:
    one = measured()
    one["load"]["statuses"] = {"503": 7, "500": 2, "504": 1, "404": 3}
    measures = result([one], ABOUT)["scenarios"][0]["measures"]
    assert (measures["unavailable"], measures["says_unavailable"], measures["errors"]) == (7, True, 3)
