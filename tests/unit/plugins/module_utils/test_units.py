# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import Unit, link_targets, units

STARTED = "Mon 2026-11-23 15:10:59.500000 UTC"
STARTED_AT = 1795446659.5


def show(name: str, active: str = "active", reload: str = "no", since: str = STARTED) -> str:
    return (
        f"MainPID=42\nNRestarts=1\nExecMainStartTimestamp={since}\nMemoryCurrent=199229440\nId={name}\nLoadState=loaded\n"
        f"ActiveState={active}\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload={reload}\n"
    )


def ask(*blocks: str, changed: dict[str, float] | None = None) -> list[Unit]:
    return units(["prefect-api@*.service"], ["/env", "/gone"], lambda _command: "\n".join(blocks), (changed or {}).get)


def test_everything_that_is_read() -> None:
    assert ask(show("a.service")) == [
        Unit("a.service", True, True, "active (running)", True, STARTED_AT, 42, 1, 199229440, False),
    ]


@pytest.mark.parametrize(
    ("block", "changed", "stale"),
    [
        pytest.param(show("a"), {"/env": STARTED_AT - 1}, False, id="changed before it started"),
        pytest.param(show("a"), {"/env": STARTED_AT + 0.1}, True, id="changed within the same second, after it started"),
        pytest.param(show("a", reload="yes"), {}, True, id="its unit file changed"),
        pytest.param(show("a", active="inactive"), {"/env": STARTED_AT + 1}, False, id="it does not run"),
        pytest.param(show("a", active="activating", since=""), {"/env": 1.0}, True, id="it waits to start"),
    ],
)
def test_stale(block: str, changed: dict[str, float], stale: bool) -> None:
    assert ask(block, changed=changed)[0].stale is stale


def test_several_units_and_values_systemd_does_not_know() -> None:
    found = ask(show("a"), show("b", active="failed", since="n/a").replace("199229440", "[not set]"))
    assert [(unit.name, unit.active, unit.since, unit.memory_bytes) for unit in found] == [
        ("a", True, STARTED_AT, 199229440),
        ("b", False, 0.0, 0),
    ]


def test_nothing_asked_nothing_run() -> None:
    def never(_command: list[str]) -> str:
        raise AssertionError

    assert units([], [], never) == []


def test_links_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("releases/1")
    (tmp_path / "file").touch()
    paths = {name: str(tmp_path / name) for name in ("link", "file", "gone")}
    assert link_targets(paths.values()) == {paths["link"]: "releases/1"}
