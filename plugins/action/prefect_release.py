# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of ``prefect_release``: which host builds, and how an archive of what it built gets to the others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._release_cache import Archive, ReleaseCache

_MODULE = "selfhosted.prefect.prefect_release"
# Folders of this machine, of which the module gets a file on the host.
_HERE = ("cache", "wheelhouse")
_ARCHIVE = "release.tar.gz"


class ActionModule(ActionBase):
    """Has the module build the release, or unpack what another host has built.

    Building and unpacking are one task, so a host that waits never keeps the one that builds from a worker.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._task_vars = task_vars
        seen = self._module(_gather=True)
        if self._task.check_mode and "kind" in seen and self._task.args.get("wheelhouse"):
            self._wheels(seen["machine"])
        if not seen.get("changed") or self._task.check_mode:
            return {**result, **seen}
        # Where only programs are missing there is nothing to share.
        return {**result, **(self._install(seen["kind"], seen["machine"]) if "kind" in seen else self._module())}

    def _install(self, kind: str, machine: str) -> dict[str, Any]:
        cache = self._cache(f"{self._release}-{kind}")
        if not cache:
            return self._build(machine)
        with cache.turn() as first:
            archive = cache.find()
            if not archive and first:
                return self._build(machine, cache)
        # Without an archive the host that built first has failed, which need not happen to this one.
        return self._unpack(archive) if archive else self._build(machine)

    def _cache(self, name: str) -> ReleaseCache | None:
        folder = self._task.args.get("cache")
        try:
            return ReleaseCache(Path(folder).expanduser(), name, Display().warning) if folder else None
        except OSError as error:
            Display().warning(
                f"No release is shared, and every host builds its own: {folder} on this machine cannot be used ({error.strerror}). "
                "Set prefect_release_cache to a folder that you may write to."
            )
        return None

    def _build(self, machine: str, cache: ReleaseCache | None = None) -> dict[str, Any]:
        wheelhouse = self._sent(self._wheels(machine)) if self._task.args.get("wheelhouse") else None
        packed = self._remote(_ARCHIVE) if cache else None
        built = self._module(wheelhouse=wheelhouse, pack=packed)
        if cache and built.get("sha256"):
            try:
                cache.store(partial(self._connection.fetch_file, packed), built["sha256"])
            except (AnsibleError, OSError) as error:
                Display().warning(
                    f"{self._release} is in place, but its archive was not kept for other hosts, which build their own: {error}"
                )
        return built

    def _unpack(self, archive: Archive) -> dict[str, Any]:
        unpacked = self._module(archive=self._sent(archive.path), sha256=archive.sha256)
        if unpacked.get("failed"):
            unpacked["msg"] = f"{unpacked.get('msg')}\nRemove {archive.path} on this machine to have the release built again."
        return unpacked

    def _wheels(self, machine: str) -> Path:
        wheels = Path(self._task.args["wheelhouse"]).expanduser() / f"prefect-{self._release}-{machine}.tar"
        if not wheels.is_file():
            raise AnsibleActionFail(
                f"prefect_wheelhouse has no {wheels.name}; make it with the playbook selfhosted.prefect.wheelhouse for this version, "
                f"with wheelhouse_machine={machine}."
            )
        return wheels

    @property
    def _release(self) -> str:
        return Path(self._task.args["path"]).name

    def _sent(self, path: Path) -> str:
        return str(self._transfer_file(str(path), self._remote(path.name)))

    def _remote(self, name: str) -> str:
        # Ansible removes the folder when the task ends.
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        return str(self._connection._shell.join_path(folder, name))

    def _module(self, **arguments: Any) -> dict[str, Any]:
        given = {name: value for name, value in self._task.args.items() if name not in _HERE}
        return dict(self._execute_module(module_name=_MODULE, module_args={**given, **arguments}, task_vars=self._task_vars))
