# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""How a deployment is, queried from one of its hosts: API servers, database, Redis. A part that does not answer is part of the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Fetch, Request, fetch, with_token
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.net import NetError
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redis import Redis, RedisError, connect_redis
from ansible_collections.selfhosted.prefect.plugins.module_utils._database.session import Postgres, PostgresError, connect_postgres
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.retention import readable, recorded

Report = dict[str, Any]

_DATABASE = """
SELECT current_setting('server_version'), current_setting('max_connections'),
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), pg_database_size(current_database()),
  (SELECT to_regclass('alembic_version') IS NOT NULL)
"""


@dataclass(frozen=True)
class Api:
    """Where an API is, as the module has been told. ``ca_file`` are the authorities to trust, the system's own without it."""

    url: str
    auth_string: str = ""
    ca_file: str = ""
    timeout: float = 5.0
    ask: Fetch = fetch

    def get(self, path: str, body: Any = None, auth_string: str = "") -> Any:
        """The answer's value, to a POST if there is a body. Raises NetError unless it is one with status 200."""
        url = self.url + path
        tls = {"ca_file": self.ca_file} if self.ca_file else None
        try:
            answer = with_token(self.url, self.ask)(Request(url, "GET" if body is None else "POST", auth_string, body, tls), self.timeout)
        except NetError as error:
            raise NetError(f"{url} {error}") from error
        if answer.status != 200:
            raise NetError(f"{url} answered {answer.summary()}")
        return answer.json()


def server_report(name: str, api: Api) -> Report:
    """An API server, or the balancer: ``live``, ``ready``, ``version``, ``milliseconds`` to be ready, ``problem`` (empty for none)."""
    report: Report = {"name": name, "url": api.url, "live": False, "ready": False, "version": "", "milliseconds": 0, "problem": ""}
    try:
        report["live"] = api.get("/health") is True
        start = time.monotonic()
        api.get("/ready")
        report["milliseconds"] = round((time.monotonic() - start) * 1000)
        report["ready"] = True
        report["version"] = str(api.get("/admin/version", auth_string=api.auth_string))
    except (NetError, ValueError) as error:
        report["problem"] = str(error)
    return report


def database_report(parts: Mapping[str, Any], timeout: float, connect: Callable[..., Postgres] = connect_postgres) -> Report:
    """The database.

    ``version``, ``revision``, ``connections`` open and ``max_connections`` allowed, ``size_bytes``, what it ``keeps``, ``problem``.
    """
    report: Report = {"version": "", "revision": "", "connections": 0, "max_connections": 0, "size_bytes": 0, "keeps": {}, "problem": ""}
    try:
        with connect(parts, timeout) as session:
            version, most, connections, size, migrated = session.query(_DATABASE)[0]
            report.update(version=str(version).split()[0], max_connections=_int(most), connections=_int(connections), size_bytes=_int(size))
            if migrated:
                report["revision"] = ",".join(str(row[0]) for row in session.query("SELECT version_num FROM alembic_version"))
                report["keeps"] = {kind: readable(seconds) for kind, seconds in (recorded(session) or {}).items()}
    except (NetError, PostgresError) as error:
        report["problem"] = str(error)
    return report


def redis_report(parts: Mapping[str, Any], timeout: float, connect: Callable[..., Redis] = connect_redis) -> Report:
    """Redis: ``version``, ``memory_bytes`` and ``max_memory_bytes`` (0: no limit), ``clients``, ``eviction``, ``appends``, ``problem``."""
    report: Report = {
        "version": "",
        "memory_bytes": 0,
        "max_memory_bytes": 0,
        "clients": 0,
        "eviction": "",
        "appends": False,
        "problem": "",
    }
    try:
        with connect(parts, timeout) as redis:
            facts = {
                name: value for section in ("server", "memory", "clients", "persistence") for name, value in redis.info(section).items()
            }
        report.update(
            version=facts.get("redis_version", ""),
            memory_bytes=_int(facts.get("used_memory")),
            max_memory_bytes=_int(facts.get("maxmemory")),
            clients=_int(facts.get("connected_clients")),
            eviction=facts.get("maxmemory_policy", ""),
            appends=facts.get("aof_enabled") == "1",
        )
        if facts.get("aof_last_write_status", "ok") != "ok":
            report["problem"] = "its last write to the append-only file failed: is the disk full?"
    except (NetError, RedisError) as error:
        report["problem"] = str(error)
    return report


def worker_reports(names: Iterable[str], api: Api) -> list[Report]:
    """The workers that are wanted, each POOL/NAME: ``name``, ``pool``, whether it is ``online``, ``problem`` when that is unknown."""
    wanted = [name.rpartition("/") for name in names]
    online: dict[str, set[str]] = {}
    problems: dict[str, str] = {}
    for pool in dict.fromkeys(pool for pool, _slash, _name in wanted):
        path = f"/work_pools/{quote(pool, safe='')}/workers/filter"
        try:
            answer = api.get(path, {"workers": {"status": {"any_": ["ONLINE"]}}}, api.auth_string)
            online[pool] = {each["name"] for each in answer or []}
        except (NetError, ValueError) as error:
            problems[pool] = str(error)
    return [
        {"name": name, "pool": pool, "online": name in online.get(pool, ()), "problem": problems.get(pool, "")}
        for pool, _slash, name in wanted
    ]


def _int(value: object) -> int:
    words = str(value)
    return int(words) if words.isdigit() else 0
