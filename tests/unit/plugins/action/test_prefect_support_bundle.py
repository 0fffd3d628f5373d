# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.action import prefect_support_bundle as plugin
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.bundle import contents, name, notes, write

NOW = 1795521600.0
SECRET = "s3cret w/ord'"
HOSTS: list[list[Any]] = [
    ["api1", {"files": {"system.txt": "fine\n", "config/etc/x": "y\n"}}],
    ["api2", {"unreachable": True, "msg": f"Failed to connect\nwith {SECRET}"}],
    ["api3", {"failed": True, "msg": "sudo: a password is required"}],
    ["api4", {}],
]
REPORT = {
    "version": "3.8.8",
    "url": f"http://x:{SECRET}@lb/api",
    "servers": [{"name": "api1:4200", "url": "u", "live": True, "ready": True, "version": "3.8.8", "milliseconds": 5, "problem": ""}],
}


def test_notes() -> None:
    found = notes(HOSTS)
    assert [note.split()[0] for note in found] == ["api2", "api3", "api4"]
    assert "cannot be reached by Ansible" in found[0]
    assert "sudo: a password is required" in found[1]


def test_contents() -> None:
    files = contents(HOSTS, REPORT, [SECRET], NOW)
    assert set(files) == {"README.txt", "status.txt", "status.json", "api1/system.txt", "api1/config/etc/x"}
    assert "* api2 cannot be reached" in files["README.txt"]
    assert not [path for path, text in files.items() if "s3cret" in text]
    assert "api1:4200" in files["status.txt"]


def test_nothing_is_missing() -> None:
    assert "* nothing" in contents(HOSTS[:1], {}, [], NOW)["README.txt"]


def test_paths_stay_inside() -> None:
    files = contents([["../../evil", {"files": {"/../../etc/passwd": "x", "a b": "y"}}]], {}, [], NOW)
    assert set(files) == {"README.txt", "_.._evil/etc/passwd", "_.._evil/a_b"}


def test_archive(tmp_path: Path) -> None:
    path = tmp_path / "new" / f"{name(NOW)}.tar.gz"
    assert write(path, {"README.txt": "ä\n", "api1/x": "\udcff"}, NOW) == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["prefect-support-20261124T120000Z/README.txt", "prefect-support-20261124T120000Z/api1/x"]
        assert archive.extractfile(archive.getmembers()[0]).read() == "ä\n".encode()  # type: ignore[union-attr]


def play(monkeypatch: pytest.MonkeyPatch, check: bool = False, **arguments: Any) -> dict[str, Any]:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    action = plugin.ActionModule.__new__(plugin.ActionModule)
    action._task = SimpleNamespace(args=arguments, check_mode=check, action="prefect_support_bundle")
    monkeypatch.setattr(type(action), "validate_argument_spec", lambda _self, _spec: (None, {"report": {}, "secrets": [], **arguments}))
    return dict(action.run())


@pytest.mark.parametrize("check", [False, True])
def test_play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, check: bool) -> None:
    result = play(monkeypatch, check, folder=str(tmp_path), hosts=HOSTS)
    assert result["changed"]
    assert len(result["notes"]) == 3
    assert Path(result["path"]).exists() is not check


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnsibleActionFail, match="Name another folder"):
        play(monkeypatch, folder=str(tmp_path / "file"), hosts=[])
