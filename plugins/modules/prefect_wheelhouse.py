#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_wheelhouse
short_description: Everything that an installation of Prefect needs, in one archive
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Downloads the wheels that a lock file pins, for the Pythons and the kind of machine of the hosts, and the C(uv) that installs them,
    into one archive. Each is checked against its pinned hash. Hosts without a network install from it.
  - It is meant for the machine that runs Ansible, which may have another Python and be of another kind.
  - The package index, proxies and certificates are those of the environment.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
attributes:
  diff_mode:
    support: full
  platform:
    details: Any with Python.
requirements:
  - packaging, which comes with Ansible
options:
  path:
    description: The archive to make. Its folder is made if need be.
    type: path
    required: true
  version:
    description: Version of Prefect that the lock file must hold, such as V(3.8.8).
    type: str
    required: true
  lock:
    description: The lock file's path.
    type: path
    required: true
  uv:
    description: The C(uv) to add.
    type: dict
    required: true
    suboptions:
      version:
        description: Its version.
        type: str
        required: true
      wheels:
        description: For each kind of machine, as C(uname -m) names it, a dictionary with the C(name) and the C(sha256) of C(uv)'s wheel.
        type: dict
        required: true
  machine:
    description: The kind of machine that the hosts are, as C(uname -m) names it.
    type: str
    default: x86_64
  pythons:
    description: Versions of the hosts' Python. Those of Debian 12 and 13 by default.
    type: list
    elements: str
    default: ["3.11", "3.13"]
seealso:
  - module: selfhosted.prefect.prefect_release
"""

EXAMPLES = r"""
- name: Gather what hosts without a network need
  selfhosted.prefect.prefect_wheelhouse:
    path: wheelhouse/prefect-{{ lock.release }}-x86_64.tar
    version: 3.8.8
    lock: "{{ lock.path }}"
    uv: "{{ lock.uv }}"
  vars:
    lock: "{{ lookup('selfhosted.prefect.prefect_lock', '3.8.8') }}"
"""

RETURN = r"""
path:
  description: The archive.
  returned: always
  type: str
bytes:
  description: Its size.
  returned: when it exists
  type: int
  sample: 146800640
wheels:
  description: Names of the wheels in it.
  returned: when it was made
  type: list
  elements: str
"""

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.index import environment_index
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.lock import pinned_version, release_id
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.wheels import (
    MISSING,
    Target,
    Wheelhouse,
    WheelhouseError,
    is_made,
    make,
)


def wanted(given: dict[str, Any], lock: bytes) -> Wheelhouse:
    """What to gather, from the module's arguments. Raises ValueError when they cannot be met."""
    text = lock.decode("utf-8")
    locked = pinned_version(text, "prefect")
    if locked != given["version"]:
        raise ValueError(f"{given['lock']} holds prefect {locked or '(none)'}, but the version asked for is {given['version']}")
    wheel = given["uv"]["wheels"].get(given["machine"])
    if not wheel:
        raise ValueError(f"there is no uv for {given['machine']} machines, only for {', '.join(sorted(given['uv']['wheels']))}")
    targets = [Target(_python(python), given["machine"]) for python in given["pythons"]]
    return Wheelhouse({"release": release_id(lock, locked)}, text, targets, (wheel["name"], wheel["sha256"]))


def _python(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(3)\.(\d+)", text)
    if not found:
        raise ValueError(f"{text!r} is not a version of Python such as 3.11")
    return int(found[1]), int(found[2])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "lock": {"type": "path", "required": True},
            "uv": {
                "type": "dict",
                "required": True,
                "options": {"version": {"type": "str", "required": True}, "wheels": {"type": "dict", "required": True}},
            },
            "machine": {"type": "str", "default": "x86_64"},
            "pythons": {"type": "list", "elements": "str", "default": ["3.11", "3.13"]},
        },
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=missing_required_lib("packaging"), exception=str(MISSING))
    path = Path(module.params["path"])
    result: dict[str, Any] = {"path": str(path)}
    try:
        plan = wanted(module.params, Path(module.params["lock"]).read_bytes())
        changed = not is_made(path, plan)
        if changed:
            result["diff"] = {"before": "", "after": f"{path}\n"}
        if changed and not module.check_mode:
            result["wheels"] = make(path, plan, environment_index())
    except (WheelhouseError, OSError, ValueError) as error:
        module.fail_json(msg=f"{path} was not made: {error}", **result)
    if path.exists():
        result["bytes"] = path.stat().st_size
    module.exit_json(changed=changed, **result)


if __name__ == "__main__":
    main()
