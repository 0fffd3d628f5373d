#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_drill_noise
short_description: What a host's CPU is used for while a drill measures
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Counts once a second how busy the CPU is, how much of it a hypervisor keeps back, and what the service's own units take.
  - M(selfhosted.prefect.prefect_drill_report) tells by it whether slow answers come of the fault or of something else on the same machine.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options:
  seconds:
    description: For how long.
    type: float
    required: true
  host:
    description: What the host is called in the report.
    type: str
    required: true
  units:
    description: Names or patterns of systemd's units that are part of the service. None on a host that only sends the load.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Watch what the CPU is used for
  selfhosted.prefect.prefect_drill_noise:
    seconds: 40
    host: "{{ inventory_hostname }}"
    units: [prefect-*.service, redis-server.service]
  async: 60
  poll: 0
"""

RETURN = r"""
host:
  description: As given.
  returned: always
  type: str
  sample: api1
machine:
  description: The boot of the machine, which containers on it share.
  returned: always
  type: str
  sample: 0b5c7d0e-7d7e-4f43-8a0e-3f6f0b1d3a55
samples:
  description: >-
    For each second the time and, in seconds since the boot, the CPU's time in all, busy, kept back by a hypervisor, and used by O(units).
  returned: always
  type: list
  elements: list
  sample: [[1795885000.1, 5000.2, 800.0, 0.0, 31.5]]
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.noise import watch


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "seconds": {"type": "float", "required": True},
            "host": {"type": "str", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        found = watch(params["seconds"], params["units"], os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError) as error:
        module.warn(f"What the CPU is used for cannot be seen here: {error}")
        found = {"machine": "", "samples": []}
    module.exit_json(changed=False, host=params["host"], **found)


if __name__ == "__main__":
    main()
