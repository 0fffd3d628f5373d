# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import Unit, link_targets, units

STARTED = "Mon 2026-11-23 15:10:59.500000 UTC"
STARTED_AT = 1795446659.5
RELOADED, RELOADED_AT = "Mon 2026-11-23 15:11:09.500000 UTC", STARTED_AT + 10


def show(name: str, active: str = "active", reload: str = "no", since: str = STARTED, state_changed: str = STARTED) -> str:
    return (
        f"StateChangeTimestamp={state_changed}\nMainPID=42\nNRestarts=1\nExecMainStartTimestamp={since}\nMemoryCurrent=199229440\nId={name}\nLoadState=loaded\n"
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


@pytest.mark.parametrize(
    ("block", "changed", "needs"),
    [
        pytest.param(show("a"), {"/conf": STARTED_AT - 1}, False, id="changed before it started"),
        pytest.param(show("a"), {"/conf": STARTED_AT + 1}, True, id="changed since"),
        pytest.param(show("a", state_changed=RELOADED), {"/conf": STARTED_AT + 1}, False, id="reloaded since"),
        pytest.param(show("a", state_changed=RELOADED), {"/conf": RELOADED_AT + 0.1}, True, id="changed after it was reloaded"),
        pytest.param(show("a"), {"/conf": STARTED_AT + 1, "/env": STARTED_AT + 1}, False, id="a restart reads it, too"),
        pytest.param(show("a", active="inactive"), {"/conf": STARTED_AT + 1}, False, id="it does not run"),
    ],
)
def test_needs_reload(block: str, changed: dict[str, float], needs: bool) -> None:
    (found,) = units(["a"], ["/env"], lambda _command: block, changed.get, reload_paths=["/conf", "/gone"])
    assert found.needs_reload is needs


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
