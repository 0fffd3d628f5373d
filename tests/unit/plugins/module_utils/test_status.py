# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Answer, Request
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import RedisError
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import PostgresError
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.status import (
    Api,
    database_report,
    redis_report,
    server_report,
    worker_reports,
)

URL = "http://10.0.0.1:4200/api"


class Session:
    """A database session, or one with Redis, that answers from a table."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def query(self, sql: str) -> Any:
        return next(rows for part, rows in self._answers.items() if part in sql)

    def info(self, section: str) -> Any:
        return self._answers.get(section, {})


def answering(answers: dict[str, Any]) -> Any:
    def connect(*_: object) -> Session:
        return Session(answers)

    return connect


def refusing(error: Exception) -> Any:
    def connect(*_: object) -> Any:
        raise error

    return connect


def server(answers: dict[str, Answer]) -> Any:
    def ask(request: Request, _timeout: float) -> Answer:
        path = request.url.removeprefix(URL)
        assert request.tls == {"ca_file": "/ca"}
        if path not in answers:
            raise NetError("refused the connection")
        if path == "/admin/version" and request.auth_string != "me:secret":
            return Answer(401, b"no")
        return answers[path]

    return server_report("api1", Api(URL, "me:secret", "/ca", 1, ask))


WELL = {
    "/health": Answer(200, b"true"),
    "/ready": Answer(200, json.dumps({"message": "OK"}).encode()),
    "/admin/version": Answer(200, b'"3.8.8"'),
}


@pytest.mark.parametrize(
    ("answers", "live", "ready", "version", "problem"),
    [
        pytest.param(WELL, True, True, "3.8.8", "", id="well"),
        pytest.param({}, False, False, "", "health refused the connection", id="no listener"),
        pytest.param({**WELL, "/ready": Answer(503, b"db down")}, True, False, "", "ready answered HTTP 503 db down", id="database gone"),
        pytest.param(
            {**WELL, "/admin/version": Answer(401, b"no")}, True, True, "", "admin/version answered HTTP 401 no", id="another password"
        ),
    ],
)
def test_server(answers: dict[str, Answer], live: bool, ready: bool, version: str, problem: str) -> None:
    report = server(answers)
    assert (report["live"], report["ready"], report["version"]) == (live, ready, version)
    assert problem in report["problem"]
    assert bool(report["problem"]) is bool(problem)


def test_database() -> None:
    answers = {
        "max_connections": [("15.18 (Debian)", "110", 23, 9000000, True)],
        "FROM alembic_version": [("d4a7e1c93f52",)],
        "FROM configuration": [('{"events": 604800, "flow_runs": null, "logs": 129600}',)],
    }
    report = database_report({}, 1, answering(answers))
    assert report == {
        "version": "15.18",
        "revision": "d4a7e1c93f52",
        "connections": 23,
        "max_connections": 110,
        "size_bytes": 9000000,
        "keeps": {"events": "7d", "flow_runs": "forever", "logs": "36h"},
        "problem": "",
    }


def test_database_without_a_schema() -> None:
    assert database_report({}, 1, answering({"max_connections": [("17.6", "100", 1, 8, False)]}))["revision"] == ""


@pytest.mark.parametrize("error", [NetError("refused"), PostgresError("password authentication failed")])
def test_database_that_does_not_answer(error: Exception) -> None:
    assert database_report({}, 1, refusing(error))["problem"] == str(error)


def test_redis() -> None:
    facts = {
        "server": {"redis_version": "7.0.15"},
        "memory": {"used_memory": "1000", "maxmemory": "2000", "maxmemory_policy": "noeviction"},
        "clients": {"connected_clients": "9"},
        "persistence": {"aof_enabled": "1", "aof_last_write_status": "ok"},
    }
    expected = {
        "version": "7.0.15",
        "memory_bytes": 1000,
        "max_memory_bytes": 2000,
        "clients": 9,
        "eviction": "noeviction",
        "appends": True,
        "problem": "",
    }
    assert redis_report({}, 1, answering(facts)) == expected
    facts["persistence"]["aof_last_write_status"] = "err"
    assert "disk full" in redis_report({}, 1, answering(facts))["problem"]


def test_redis_that_refuses() -> None:
    assert redis_report({}, 1, refusing(RedisError("WRONGPASS")))["problem"] == "WRONGPASS"


def test_workers() -> None:
    asked: list[Request] = []

    def ask(request: Request, _timeout: float) -> Answer:
        asked.append(request)
        if request.url.endswith("/gone/workers/filter"):
            return Answer(404, b"no")
        return Answer(200, json.dumps([{"name": "a@w1"}, {"name": "other"}]).encode())

    assert worker_reports(["my pool/a@w1", "my pool/a@w2", "gone/b@w1"], Api(URL, "me:secret", ask=ask)) == [
        {"name": "a@w1", "pool": "my pool", "online": True, "problem": ""},
        {"name": "a@w2", "pool": "my pool", "online": False, "problem": ""},
        {"name": "b@w1", "pool": "gone", "online": False, "problem": f"{URL}/work_pools/gone/workers/filter answered HTTP 404 no"},
    ]
    assert [(request.url, request.method, request.auth_string) for request in asked] == [
        (f"{URL}/work_pools/my%20pool/workers/filter", "POST", "me:secret"),
        (f"{URL}/work_pools/gone/workers/filter", "POST", "me:secret"),
    ]
    assert {request.tls for request in asked} == {None}
