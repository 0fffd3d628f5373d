# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: prefect_lock
short_description: The lock file of a version of Prefect, and the release that is made from it
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Finds the lock file that the collection carries for a version, or the user's own, on the machine that runs Ansible.
  - It is the one place that knows where lock files are and how a release is called, so roles and playbooks get the same answer.
options:
  _terms:
    description: Versions of Prefect, such as V(3.8.8).
    type: list
    elements: string
    required: true
  file:
    description:
      - A lock file to use instead of the collection's. A relative path is looked for as the lookup P(ansible.builtin.file#lookup) does.
      - Empty means the collection's.
    type: string
    default: ""
  extra:
    description:
      - A package that is not one of Prefect's own, of which the lock file has to be with everything that it needs, such as V(logfire).
      - The collection's lock file with it is a file of its own. Empty means none.
    type: string
    default: ""
  problem:
    description: Answer with what is wrong, empty if nothing is, instead of failing.
    type: boolean
    default: false
"""

EXAMPLES = r"""
- name: Show what the release of a version is called
  ansible.builtin.debug:
    msg: "{{ lookup('selfhosted.prefect.prefect_lock', '3.8.8').release }}"
"""

RETURN = r"""
_raw:
  description: One dictionary for each version; with O(problem), one text for each.
  type: list
  elements: raw
  contains:
    release:
      description: What a release made from this lock file is called, C(<version>-<12 digits of the lock file's SHA-256>).
      type: str
      sample: 3.8.8-0123456789ab
    path:
      description: The lock file's path on the machine that runs Ansible.
      type: str
    proved:
      description: The SHA-256 of every lock file of the collection that was proved, whatever its version.
      type: list
      elements: str
    uv:
      description: The C(uv) that installs, its C(version) and its C(wheels), as M(selfhosted.prefect.prefect_release) wants it.
      type: dict
"""

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.lock import pinned_version, release_id

_LOCKS = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files" / "locks"


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """One answer for each version."""
        self.set_options(var_options=variables, direct=kwargs)
        own = str(self.get_option("file") or "")
        self._extra = str(self.get_option("extra") or "")
        answer = self._problem if self.get_option("problem") else self._lock
        return [answer(str(version), self._path(str(version), own, variables or {}), own) for version in terms]

    def _path(self, version: str, own: str, variables: dict[str, Any]) -> Path:
        if not own:
            return _LOCKS / f"{version}{f'-{self._extra}' if self._extra else ''}.txt"
        return Path(self.find_file_in_search_path(variables, "files", own, ignore_missing=True) or own).resolve()

    def _lock(self, version: str, path: Path, own: str) -> dict[str, Any]:
        if not path.is_file():
            raise AnsibleLookupError(self._missing(version, own))
        return {
            "release": release_id(path.read_bytes(), version),
            "path": str(path),
            "proved": [proof["lock"] for proof in json.loads((_LOCKS / "proofs.json").read_text(encoding="utf-8")).values()],
            "uv": json.loads((_LOCKS / "uv.json").read_text(encoding="utf-8")),
        }

    def _problem(self, version: str, path: Path, own: str) -> str:
        if not path.is_file():
            return self._missing(version, own)
        text = path.read_text(encoding="utf-8")
        try:
            locked = pinned_version(text, "prefect")
        except ValueError as error:
            return f"{path} is not a lock file: {error}"
        if locked != version:
            return f"prefect_version is {version}, but {path} pins prefect to {locked or 'nothing'}: give them the same version"
        if self._extra and not pinned_version(text, self._extra):
            wanted = f"{version}-{self._extra}.txt"
            return f"{path} does not hold {self._extra}: `make lock VERSION={version}` writes a lock file with it, {wanted}"
        return ""

    def _missing(self, version: str, own: str) -> str:
        if own:
            return (
                f"there is no lock file at prefect_lock_file ({own}): give the path of a file that `make lock` of this collection's"
                " repository wrote"
            )
        suffix = f"-{self._extra}" if self._extra else ""
        stems = sorted(path.stem for path in _LOCKS.glob("*.txt"))
        known = [stem.removesuffix(suffix) for stem in stems if stem.endswith(suffix) and "-" not in stem.removesuffix(suffix)]
        what = f"Prefect {version}{f' with {self._extra}' if self._extra else ''}"
        return (
            f"{what} has no lock file here, so it cannot be installed; there are lock files for {', '.join(known) or 'none'}. Make one"
            f" in a checkout of the collection with `make lock VERSION={version}`, or set prefect_lock_file to one of your own"
        )
