from __future__ import annotations

import json
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host import preflight as _preflight
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_preflight


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("check", [False, True])
def test_problems_are_returned_not_raised(run_module: Any, monkeypatch: pytest.MonkeyPatch, closed_port: int, check: bool) -> None:
    monkeypatch.setattr(prefect_preflight, "os_release", lambda: "ID=fedora\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run_module(
            prefect_preflight.main,
            check=check,
            systemd=False,
            python={"path": "/nowhere/python"},
            disk=[{"path": "/", "bytes": 10**18}],
            listen=[{"port": taken.getsockname()[1], "units": ["x.service"]}],
            connect=[
                {"kind": "postgresql", "host": "127.0.0.1", "port": closed_port, "user": "me", "password": "geheim"},
                {"kind": "redis", "host": "127.0.0.1", "port": closed_port, "username": "me", "password": "geheim", "tls": {}},
            ],
        )
    assert (result["changed"], result.get("failed")) == (False, None)
    starts = ["The operating system is fedora", "Python 3.11", "/ needs", "Port ", "PostgreSQL at", "Redis at"]
    assert [each[: len(start)] for each, start in zip(result["problems"], starts, strict=True)] == starts
    assert "geheim" not in json.dumps(result)


@pytest.mark.parametrize("release", [True, False])
def test_nothing_wrong(run_module: Any, monkeypatch: pytest.MonkeyPatch, release: bool) -> None:
    monkeypatch.setattr(prefect_preflight, "os_release", lambda: 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 13"\n')
    interpreters = ["/nowhere/python", *([sys.executable] if release else [])]
    options = {"disk": [{"path": "/", "bytes": 1}], "leftovers": ["/nowhere", __file__], "interpreters": interpreters}
    result = run_module(prefect_preflight.main, systemd=False, **options)
    assert result["problems"] == []
    assert result["found"].pop("release") is release
    assert result["found"].pop("hostname") == socket.gethostname()
    assert len(result["found"].pop("machine_id")) in (0, 32)
    none = {"certificates": {}, "cluster": {}, "metrics": ""}
    assert result["found"] == {"system": "Debian GNU/Linux 13 (debian)", "python": "", "servers": {}, "leftovers": [__file__], **none}


@pytest.mark.parametrize(
    ("given", "port", "minimum"),
    [
        ({"kind": "postgresql"}, 5432, "14.9"),
        ({"kind": "redis"}, 6379, "6.2"),
        ({"kind": "redis", "min_version": "7"}, 6379, "7"),
        ({"kind": "tcp", "port": 80}, 80, ""),
    ],
)
def test_usual_ports_and_versions(run_module: Any, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], port: int, minimum: str) -> None:
    seen: list[Any] = []

    class Connector:
        def __init__(self) -> None:
            self.found: dict[str, str] = {}

        def problems(self, wanted: Any) -> list[str]:
            seen.append((wanted["port"], wanted["tls"], wanted["timeout"], wanted["min_version"]))
            return []

    monkeypatch.setattr(_preflight, "Connector", Connector)
    run_module(prefect_preflight.main, systemd=False, connect=[{"host": "h", "tls": {"ca_file": "/ca"}, **given}])
    assert seen == [(port, {"ca_file": "/ca"}, 5, minimum)]


@pytest.mark.parametrize(("system_python", "stays"), [(False, False), (True, True)])
def test_the_interpreter_that_is_looked_at_stays(
    run_module: Any, monkeypatch: pytest.MonkeyPatch, system_python: bool, stays: bool
) -> None:
    used: list[Any] = []
    monkeypatch.setattr(prefect_preflight, "use_libraries", lambda *given: used.append(given))
    monkeypatch.setattr(_preflight, "Connector", lambda: SimpleNamespace(problems=lambda _: [], found={}))
    connect = [{"kind": "redis", "host": "h"}]
    run_module(prefect_preflight.main, systemd=False, connect=connect, system_python=system_python, interpreters=["/a"])
    assert used == ([] if stays else [(["/a"], "asyncpg", "redis")])
