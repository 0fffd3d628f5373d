# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host import firewall
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import Finished
from ansible_collections.selfhosted.prefect.plugins.modules import prefect_firewall

OPENINGS = [{"what": "Redis", "port": 6379, "sources": ["10.0.0.1"]}]


class Host:
    """A host whose kernel has a table, or none."""

    def __init__(self) -> None:
        self.table = ""
        self.commands: list[str] = []

    def __call__(self, argv: Sequence[str], _timeout: float, stdin: str = "") -> Finished:
        words = list(argv)
        self.commands.append(" ".join(words[:2]))
        if words[:2] == ["nft", "--check"] and "nonsense" in stdin:
            return Finished(1, "syntax error, unexpected string")
        if words[:2] == ["nft", "--file"]:
            self.table = stdin if "chain arriving" in stdin else ""
        if words[:2] == ["nft", "list"]:
            return Finished(0 if self.table and words[-1] in self.table else 1, "")
        return Finished(0, "")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    found = Host()
    real = firewall.Firewall
    monkeypatch.setattr(prefect_firewall, "Firewall", lambda path: real(path, found, tmp_path / "run"))
    monkeypatch.setattr(prefect_firewall, "missing", lambda: False)
    return found


def test_from_nothing_to_rules_and_back(run_module: Any, host: Host, tmp_path: Path) -> None:
    path = tmp_path / "rules.nft"

    def run(state: str, check: bool = False, **more: Any) -> dict[str, Any]:
        return dict(run_module(prefect_firewall.main, check, state=state, path=str(path), openings=OPENINGS, **more))

    dry = run("attempted", check=True)
    assert dry["changed"]
    assert "tcp dport 6379" in dry["diff"]["after"]
    assert host.commands == ["nft --check"]
    assert run("attempted")["changed"]
    assert "systemd-run --unit=prefect-firewall-revert" in host.commands
    assert not path.exists()
    assert run("confirmed")["changed"]
    assert path.read_text() == host.table == dry["rules"]
    assert not run("attempted")["changed"]
    # Something has flushed the kernel's rules.
    host.table = ""
    assert run("attempted")["changed"]
    assert run("absent", check=True)["changed"]
    assert path.exists()
    assert run("absent")["changed"]
    assert host.table == ""
    assert not run("absent")["changed"]


@pytest.mark.usefixtures("host")
def test_beside_what_is_kept(run_module: Any, tmp_path: Path) -> None:
    """While a port moves, or a host leaves, the old and the new are accepted; without a change nothing is loaded."""
    path = tmp_path / "rules.nft"
    moved = [{"what": "Redis", "port": 6380, "sources": ["10.0.0.1", "10.0.0.2"]}]

    def run(state: str, openings: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return dict(run_module(prefect_firewall.main, state=state, path=str(path), openings=openings, **more))

    for state in ("attempted", "confirmed"):
        run(state, OPENINGS)
    assert not run("attempted", OPENINGS, beside_kept=True)["changed"]
    both = run("attempted", moved, beside_kept=True)
    assert both["changed"]
    assert 'ip saddr 10.0.0.1 tcp dport 6379 counter accept comment "Redis"' in both["rules"].replace("{ ", "").replace(" }", "")
    assert "tcp dport 6380" in both["rules"]
    after = run("attempted", moved)
    assert after["changed"]
    assert "6379" not in after["rules"]


def test_rules_that_are_no_rules(run_module: Any, host: Host, tmp_path: Path) -> None:
    result = run_module(prefect_firewall.main, state="attempted", path=str(tmp_path / "x"), extra_rules=["nonsense"])
    assert result["failed"]
    assert "syntax error" in result["msg"]
    assert "Nothing was changed" in result["msg"]
    assert host.commands[-1] == "nft --check"


def test_a_dry_run_before_the_package_is_there(run_module: Any, host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prefect_firewall, "missing", lambda: True)
    assert run_module(prefect_firewall.main, check=True, state="attempted", path=str(tmp_path / "x"))["changed"]
    assert "nft --check" not in host.commands
