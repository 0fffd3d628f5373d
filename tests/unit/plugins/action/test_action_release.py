# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.selfhosted.prefect.plugins.action import prefect_release as plugin
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._release_cache import ReleaseCache

Answer = dict[str, Any]
CONTENT = b"a release"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"3.8.8-abc-debian-12-x86_64-{SHA256}.tar.gz"
SEEN: Answer = {"changed": True, "kind": "debian-12-x86_64", "machine": "x86_64"}


class Site:
    """Hosts that are deployed one after the other, and the machine that runs Ansible."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.path = path
        self.seen, self.built, self.unpacked = SEEN, {"changed": True, "method": "built"}, {"changed": True, "method": "unpacked"}
        self.asked: list[dict[str, Any]] = []
        self.sent: dict[str, bytes] = {}
        self.fetched: bytes | None = CONTENT
        self.warnings: list[str] = []
        monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(warning=self.warnings.append))
        monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def run(self, check: bool = False, **arguments: Any) -> Answer:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        given = {"path": "/opt/prefect/releases/3.8.8-abc", "cache": str(self.path / "cache"), **arguments}
        action._task = SimpleNamespace(args=given, check_mode=check)
        action._execute_module = self.execute
        shell = SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        action._connection = SimpleNamespace(_shell=shell, fetch_file=self.fetch)
        action._make_tmp_path = lambda: "/remote/tmp"
        action._transfer_file = self.send
        self.asked.clear()
        self.sent.clear()
        return dict(action.run(None, {"a": "variable"}))

    def execute(self, module_name: str, module_args: dict[str, Any], task_vars: Any) -> Answer:
        assert (module_name, task_vars) == ("selfhosted.prefect.prefect_release", {"a": "variable"})
        assert module_args["path"] == "/opt/prefect/releases/3.8.8-abc"
        assert "cache" not in module_args, "it means nothing to a host"
        self.asked.append(dict(module_args))
        if module_args.get("_gather"):
            return dict(self.seen)
        if module_args.get("archive"):
            return dict(self.unpacked)
        packed = module_args.get("pack") and not self.built.get("failed")
        return {**self.built, **({"sha256": SHA256} if packed else {})}

    def send(self, here: str, there: str) -> str:
        self.sent[there] = Path(here).read_bytes()
        return there

    def fetch(self, there: str, here: str) -> None:
        assert there == self.asked[-1]["pack"]
        if self.fetched is None:
            raise AnsibleConnectionFailure("connection lost")
        Path(here).write_bytes(self.fetched)

    def cached(self) -> list[str]:
        return [path.name for path in (self.path / "cache").glob("*.tar.gz")]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    return Site(monkeypatch, tmp_path)


def test_the_first_builds_and_the_next_unpacks(site: Site) -> None:
    assert site.run()["method"] == "built"
    assert site.cached() == [NAME]
    assert site.sent == {}
    assert site.run()["method"] == "unpacked"
    _gather, unpacking = site.asked
    assert (unpacking["archive"], unpacking["sha256"]) == (f"/remote/tmp/{NAME}", SHA256)
    assert site.sent == {f"/remote/tmp/{NAME}": CONTENT}
    assert not site.warnings


def test_another_kind_builds_its_own(site: Site) -> None:
    site.run()
    site.seen = {**SEEN, "kind": "debian-13-x86_64"}
    assert site.run()["method"] == "built"
    assert len(site.cached()) == 2


@pytest.mark.parametrize("seen", [{"changed": False}, {"failed": True, "msg": "no Python"}])
def test_nothing_to_do(site: Site, seen: Answer) -> None:
    site.seen = seen
    assert site.run() == seen
    assert len(site.asked) == 1
    assert not (site.path / "cache").exists()


def test_check_mode(site: Site) -> None:
    assert site.run(check=True) == SEEN
    assert len(site.asked) == 1
    assert not (site.path / "cache").exists()


def test_where_only_programs_are_missing_nothing_is_shared(site: Site) -> None:
    site.run()
    site.seen = {"changed": True}
    assert site.run()["method"] == "built"
    assert not {"archive", "pack", "wheelhouse"} & site.asked[-1].keys()


@pytest.mark.parametrize("cache", ["", None])
def test_sharing_can_be_switched_off(site: Site, cache: Any) -> None:
    assert site.run(cache=cache)["method"] == "built"
    assert site.asked[-1]["pack"] is None


def test_a_folder_that_cannot_be_used_only_costs_time(site: Site) -> None:
    (site.path / "file").touch()
    assert site.run(cache=str(site.path / "file" / "cache"))["method"] == "built"
    assert site.asked[-1]["pack"] is None
    assert "every host builds its own" in site.warnings[0]


def test_a_failed_build_is_not_kept(site: Site) -> None:
    site.built = {"failed": True, "msg": "no network"}
    assert site.run() == site.built
    assert site.cached() == []
    assert not site.warnings


@pytest.mark.parametrize("fetched", [None, b"half"])
def test_a_failed_transfer_only_costs_time(site: Site, fetched: bytes | None) -> None:
    site.fetched = fetched
    assert site.run()["method"] == "built"
    assert site.cached() == []
    assert "was not kept for other hosts" in site.warnings[0]


def test_a_damaged_archive_is_built_again(site: Site) -> None:
    site.run()
    (site.path / "cache" / NAME).write_bytes(b"damaged")
    assert site.run()["method"] == "built"
    assert NAME in site.warnings[0]
    assert (site.path / "cache" / NAME).read_bytes() == CONTENT


def test_when_the_host_that_builds_fails_the_others_try(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReleaseCache, "turn", lambda _cache: nullcontext(False))
    assert site.run()["method"] == "built"
    assert site.asked[-1]["pack"] is None, "each for itself, and at the same time"


def test_a_failure_names_the_archive(site: Site) -> None:
    site.run()
    site.unpacked = {"failed": True, "msg": "its archive could not be unpacked"}
    path = site.path / "cache" / NAME
    assert site.run()["msg"] == f"its archive could not be unpacked\nRemove {path} on this machine to have the release built again."


@pytest.mark.parametrize("check", [False, True])
def test_wheelhouse(site: Site, check: bool) -> None:
    with pytest.raises(AnsibleActionFail, match=r"no prefect-3\.8\.8-abc-x86_64\.tar; make it with .* wheelhouse_machine=x86_64"):
        site.run(check, wheelhouse=str(site.path))
    (site.path / "prefect-3.8.8-abc-x86_64.tar").write_bytes(b"wheels")
    assert site.run(check, wheelhouse=str(site.path))["changed"]
    assert site.sent == ({} if check else {"/remote/tmp/prefect-3.8.8-abc-x86_64.tar": b"wheels"})
    if not check:
        assert site.asked[-1]["wheelhouse"] == "/remote/tmp/prefect-3.8.8-abc-x86_64.tar"
        # What was built from wheels is an archive like any other, and needs none.
        assert site.run(wheelhouse="/nowhere")["method"] == "unpacked"
