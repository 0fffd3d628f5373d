# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._inventory.workers import worker_problems, workers

RELEASE = "/opt/prefect/releases/3.8.8-0123456789ab"


def found(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    return workers(["w1"], {"w1": {"prefect_workers": list(entries)}}, RELEASE, "/opt/prefect")


def test_workers_of_several_hosts() -> None:
    hostvars = {
        "w1": {"prefect_workers": [{"pool": "etl"}, {"pool": "etl", "name": "big"}]},
        "w2": {"prefect_workers": [{"pool": "etl"}]},
        "w3": {},
    }
    names = [(worker["host"], worker["unit"], worker["worker"]) for worker in workers(["w1", "w2", "w3"], hostvars)]
    assert names == [
        ("w1", "prefect-worker@etl.service", "etl@w1"),
        ("w1", "prefect-worker@etl-big.service", "etl-big@w1"),
        ("w2", "prefect-worker@etl.service", "etl@w2"),
    ]


@pytest.mark.parametrize(("pool", "unit"), [("My Pool", "My-Pool"), ("a_b.c-1", "a_b.c-1"), ("näch te", "n-ch-te"), ("$(x)%i", "-x-i")])
def test_a_unit_has_a_name_that_systemd_takes(pool: str, unit: str) -> None:
    assert found({"pool": pool})[0]["id"] == unit


def test_an_entry_that_says_no_more_than_its_pool() -> None:
    (worker,) = found({"pool": "etl"})
    assert {key: worker[key] for key in ("type", "limit", "queues", "environment", "requirements", "virtualenv", "built", "folder")} == {
        "type": "",
        "limit": None,
        "queues": [],
        "environment": [],
        "requirements": [],
        "virtualenv": "",
        "built": "",
        "folder": RELEASE,
    }


def test_values_of_variables_are_left_out() -> None:
    _first, worker = found({"pool": "a"}, {"pool": "etl", "environment": {"KEY": "s3cret", "BAD": "a\nb"}})
    assert (worker["number"], worker["environment"], worker["refused"]) == (1, ["KEY", "BAD"], ["BAD"])
    assert "s3cret" not in str(worker)


def test_what_a_worker_runs_from() -> None:
    own, built = found({"pool": "a", "virtualenv": "/srv/flows/"}, {"pool": "b", "requirements": ["pandas"]})
    assert (own["built"], own["folder"]) == ("", "/srv/flows")
    assert built["built"] == built["folder"]
    assert built["folder"].startswith("/opt/prefect/workers/b-")


def test_an_environment_is_another_with_other_requirements_or_another_release() -> None:
    hosts = {"w": {"prefect_workers": [{"pool": "b", "requirements": ["pandas"]}]}}
    more = {"w": {"prefect_workers": [{"pool": "b", "requirements": ["pandas", "polars"]}]}}
    folders = {
        workers(["w"], each, release, "/r")[0]["built"] for each in (hosts, more) for release in (RELEASE, "/opt/prefect/releases/3.9.1-x")
    }
    assert len(folders) == 4
    assert workers(["w"], hosts, RELEASE, "/r") == workers(["w"], hosts, RELEASE, "/r")


def problems(*entries: dict[str, Any], pools: Any = None, environments: Any = None) -> list[str]:
    return worker_problems(found(*entries), "3.8.8", pools or {}, environments or {})


GOOD: dict[str, Any] = {"pool": "etl", "type": "process"}


@pytest.mark.parametrize(
    ("entry", "pools", "environments"),
    [
        (GOOD, {}, {}),
        (GOOD, {"etl": ""}, {}),
        (GOOD, {"etl": "process"}, {}),
        ({"pool": "etl"}, {"etl": "process"}, {}),
        ({**GOOD, "limit": 1, "queues": ["high"], "environment": {"A": "b\tc"}}, {}, {}),
        ({**GOOD, "requirements": ["pandas>=2", "prefect-aws==0.5", "prefect[aws]", "prefect==3.8.8"]}, {}, {}),
        ({**GOOD, "virtualenv": "/v"}, {}, {"/v": "3.8.8"}),
        ({**GOOD, "virtualenv": "/v"}, {}, {"/v": "3.2.1", "/another": "9.9"}),
    ],
)
def test_nothing_wrong(entry: Any, pools: Any, environments: Any) -> None:
    assert problems(entry, pools=pools, environments=environments) == []


@pytest.mark.parametrize(
    ("entry", "pools", "environments", "says"),
    [
        ({"type": "process"}, {}, {}, "an entry: it names no work pool"),
        ({**GOOD, "pool": "日"}, {}, {}, "no letter or digit of ASCII"),
        ({**GOOD, "pool": "a/b"}, {}, {}, "'a/b' holds a character that Prefect refuses"),
        ({**GOOD, "queues": ["x", "50%"]}, {}, {}, "'50%' holds a character"),
        ({**GOOD, "limit": 0}, {}, {}, "`limit` is 0, so it would run nothing"),
        ({**GOOD, "environment": {"PREFECT_API_URL": "x"}}, {}, {}, "may not hold PREFECT_API_URL. Set prefect_api_url instead"),
        ({**GOOD, "environment": {"NOT A NAME": "x"}}, {}, {}, "NOT A NAME in `environment` is no name"),
        ({**GOOD, "environment": {"KEY": "secret\nline"}}, {}, {}, "KEY in `environment`"),
        (GOOD, {"etl": "docker"}, {}, "'etl' is of the type docker"),
        ({"pool": "etl"}, {"etl": ""}, {}, "'etl' does not exist. Create it, or set `type: process`"),
        ({"pool": "etl"}, {}, {}, "'etl' may not exist, and the API cannot be queried"),
        ({**GOOD, "virtualenv": "v"}, {}, {}, "'v', which is not an absolute path"),
        ({**GOOD, "virtualenv": "/v"}, {}, {"/v": ""}, "/v has no Prefect in it"),
        ({**GOOD, "virtualenv": "/v"}, {}, {"/v": "3.10.0"}, "/v has Prefect 3.10.0, and the servers run 3.8.8. A client may not be newer"),
        (
            {**GOOD, "requirements": ["Prefect [aws] == 3.9.1 ; x"]},
            {},
            {},
            "`requirements` has Prefect 3.9.1, and the servers run 3.8.8. A client",
        ),
        ({**GOOD, "requirements": ["prefect==3.7.8"]}, {}, {}, "For an older client use `virtualenv`"),
    ],
)
def test_a_problem(entry: Any, pools: Any, environments: Any, says: str) -> None:
    (problem,) = problems(entry, pools=pools, environments=environments)
    assert says in problem
    assert problem.startswith("prefect_workers, ")
    assert "secret" not in problem


def test_every_problem_at_once() -> None:
    listed = problems({"pool": "a b"}, {"pool": "a-b", "type": "process"}, {**GOOD, "limit": 0}, pools={"a b": ""})
    assert len(listed) == 3
    assert listed[0].startswith("prefect_workers has a-b more than once")
