# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.versions import release_version, rollback_release, upgrade_report

OLD, NEW = "/opt/prefect/releases/3.7.8-aaaaaaaaaaaa", "/opt/prefect/releases/3.8.8-bbbbbbbbbbbb"
OLDER = "/opt/prefect/releases/3.6.1-cccccccccccc"
SCHEMA = {"before": "aaa", "head": "bbb", "pending": ["b1", "bbb"], "ahead": False}


@pytest.mark.parametrize(("release", "version"), [(OLD, "3.7.8"), ("3.8.8-bbbb", "3.8.8"), ("", ""), (None, "")])
def test_version_of_a_release(release: Any, version: str) -> None:
    assert release_version(release) == version


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param({}, ["From 3.7.8 to 3.8.8: api1, api2"], id="releases"),
        pytest.param({"hosts": {"api1": OLD, "api3": ""}}, ["From 3.7.8 to 3.8.8: api1", "From nothing yet to 3.8.8: api3"], id="growing"),
        pytest.param({}, ["not known yet"], id="no schema"),
        pytest.param({"schema": {**SCHEMA, "pending": []}}, ["at aaa, nothing to apply"], id="nothing to apply"),
        pytest.param({"schema": {**SCHEMA, "pending": [], "ahead": True}}, ["a newer release"], id="ahead"),
        pytest.param({"schema": SCHEMA}, ["from aaa to bbb, 2 to apply: b1, bbb", "none that exist"], id="to apply"),
        pytest.param(
            {
                "schema": {
                    **SCHEMA,
                    "tables": [{"name": "log", "bytes": 900, "rows": -1}, {"name": "events", "bytes": 12_500_000_000, "rows": 40_000_000}],
                }
            },
            ["events (12 GB, 40,000,000 rows), log (900 B, 0 rows)"],
            id="tables, the largest first",
        ),
        pytest.param(
            {"schema": {**SCHEMA, "estimate": {"least": 11, "likely": 130, "most": 700, "rows": 4_025_000}}, "timeout": 600},
            [
                "The migration takes about 2m 10s (between 11s and 11m 40s): 4,025,000 rows to read",
                "stopped after prefect_migrate_timeout, 600 s; set that to 700",
            ],
            id="the time that it takes, and has not",
        ),
        pytest.param({}, ["Clients: none is known"], id="no clients"),
        pytest.param(
            {"clients": [{"3.9.1": {"requests": 2}, "3.7.1": {"requests": 1000}}, {"3.9.1": {"requests": 3}}]},
            ["Clients seen: 3.7.1 (1,000 requests), 3.9.1 (5 requests)", "Newer than the servers will be", "older minor"],
            id="clients, newer and older",
        ),
    ],
)
def test_report(data: dict[str, Any], said: list[str]) -> None:
    report = "\n".join(upgrade_report({"hosts": {"api1": OLD, "api2": OLD}, "release": NEW, **data}))
    assert [words for words in said if words not in report] == []


def hosts(**links: tuple[str, str]) -> dict[str, dict[str, str]]:
    return {host: {key: value for key, value in zip(("current", "previous"), both, strict=True) if value} for host, both in links.items()}


@pytest.mark.parametrize(
    ("found", "wanted", "release"),
    [
        pytest.param(hosts(api1=(NEW, OLD), api2=(NEW, OLD)), "", OLD, id="all the same"),
        pytest.param(hosts(api1=(NEW, OLD), api2=(OLD, "")), "", OLD, id="one that failed to upgrade"),
        pytest.param(hosts(api1=(NEW, OLD), api2=(OLD, OLDER)), "", OLD, id="one that failed to upgrade and has a history"),
        pytest.param(hosts(api1=(OLD, NEW), api2=(NEW, OLD)), "", OLD, id="one that failed to upgrade for the second time"),
        pytest.param(hosts(api1=(NEW, OLD)), "3.6.1-cccccccccccc", OLDER, id="one that was asked for"),
    ],
)
def test_way_back(found: dict[str, dict[str, str]], wanted: str, release: str) -> None:
    decided = rollback_release(found, "current", "previous", wanted)
    assert decided == {"release": release, "version": release_version(release), "from": NEW, "problem": ""}


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        pytest.param(hosts(api1=(NEW, "")), "", "nothing to go back to", id="no release before"),
        pytest.param(hosts(api1=("", "")), "3.7.8-a", "No host runs", id="nothing runs"),
        pytest.param(hosts(api1=(NEW, OLD), api2=(NEW, OLDER)), "", "prefect_rollback_to", id="different ones"),
        pytest.param(hosts(api1=(NEW, OLD), api2=(NEW, "")), "", "api2 has no release before", id="a host that grew in later"),
        pytest.param(hosts(api1=(NEW, OLD)), "3.8.8-bbbbbbbbbbbb", "runs 3.8.8-bbbbbbbbbbbb already", id="where it is"),
    ],
)
def test_no_way_back(found: dict[str, dict[str, str]], wanted: str, said: str) -> None:
    decided = rollback_release(found, "current", "previous", wanted)
    assert said in decided["problem"]
    assert not decided["release"]
