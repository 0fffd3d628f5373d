#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_failure_info
short_description: Why systemd units do not run
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Finds the cause in what units wrote to the journal since they were last started - the exception that ended a process, or the line that
    tells most - and adds how systemd says that they ended.
  - Lines of an earlier start, which may be of an outage that has nothing to do with it, are left out. While systemd starts a unit again and
    again, those of the last of these starts that tells a cause are shown. Of a unit that runs, only the last ten minutes count.
  - Each line is shown once, and what looks like a secret is masked.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options:
  units:
    description: Names of units, with their suffix.
    type: list
    elements: str
    required: true
  log:
    description:
      - A file that they write beside the journal, with the time at the beginning of its lines.
    type: path
  lines:
    description: At most so many lines of each unit are shown.
    type: int
    default: 20
  secrets:
    description: What is masked although it does not look like a secret.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Read why Redis does not run
  become: true
  selfhosted.prefect.prefect_failure_info:
    units: [redis-server.service]
  register: redis
"""

RETURN = r"""
cause:
  description: Why they do not run, in one line. Empty when nothing tells.
  returned: always
  type: str
  sample: "nginx: [emerg] host not found in upstream - systemd says: exit-code (exit status 1)"
active:
  description: Whether all of them run, as far as systemd knows.
  returned: always
  type: bool
  sample: false
lines:
  description: What each unit wrote since its last start, with the unit and the time of that start before it.
  returned: always
  type: list
  elements: str
  sample: ["nginx.service, this start only, from 2026-11-28 17:00:01 on:", "17:00:01 nginx: [emerg] host not found in upstream"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.journal import why


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "log": {"type": "path"},
            "lines": {"type": "int", "default": 20},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    found = why(params["units"], params["lines"], params["secrets"], log=params["log"] or "")
    module.exit_json(changed=False, cause=found.cause, active=found.active, lines=found.lines.splitlines())


if __name__ == "__main__":
    main()
