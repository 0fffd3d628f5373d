#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_release_info
short_description: Whether a release is what was proved, and its files are those that were installed
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares the lock file that a release was made from with those that were proved, by their SHA-256.
  - Compares every file of its packages with the digest that the package has of it, and all of these with the bill of materials that was
    written when the release was built (C(sbom.cdx.json) in its folder). That reads the whole release, which takes about a second.
  - It finds what was changed or removed by accident or by a hand. Bytecode is not compared, and who may write to the release may as well
    write another bill of materials.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options:
  path:
    description: The release's folder, or a symlink to it such as C(/opt/prefect/current).
    type: path
    required: true
  proved:
    description: The SHA-256 of the lock files that were proved, as the lookup P(selfhosted.prefect.prefect_lock#lookup) has them.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: See whether what runs is what was proved
  selfhosted.prefect.prefect_release_info:
    path: /opt/prefect/current
    proved: "{{ lookup('selfhosted.prefect.prefect_lock', '3.8.8').proved }}"
"""

RETURN = r"""
release:
  description: The release's name; empty when there is none.
  returned: always
  type: str
  sample: 3.8.8-0123456789ab
problem:
  description: Why the release cannot be read. It is not an error of this module.
  returned: always
  type: str
  sample: ""
lock:
  description: The SHA-256 of the lock file that it was made from.
  returned: when there is a release that can be read
  type: str
proved:
  description: Whether that is one of O(proved).
  returned: when there is a release that can be read
  type: bool
packages:
  description: How many packages it has.
  returned: when there is a release that can be read
  type: int
  sample: 107
recorded:
  description: Whether it has a bill of materials. One that an earlier version of the collection built has none.
  returned: when there is a release that can be read
  type: bool
altered:
  description: What differs from what was installed, a phrase each, the first ten.
  returned: when there is a release that can be read
  type: list
  elements: str
  sample: []
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.bill import examine

_MOST = 10


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "proved": {"type": "list", "elements": "str", "default": []}},
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    if not path.exists():
        module.exit_json(changed=False, release="", problem="")
    release = path.resolve()
    try:
        state = examine(release)
    except (OSError, ValueError) as error:
        module.exit_json(changed=False, release=release.name, problem=f"cannot be read: {error}")
    module.exit_json(
        changed=False,
        release=release.name,
        problem="",
        lock=state.lock,
        proved=state.lock in module.params["proved"],
        packages=state.packages,
        recorded=state.recorded,
        altered=list(state.altered)[:_MOST],
    )


if __name__ == "__main__":
    main()
