#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_unit_info
short_description: Whether systemd units run, and with the configuration that is on disk
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads the state of systemd units and compares when each one's main process started with when files last changed.
  - A process that started before one of them changed runs with an older release or older settings. This stays true when the run that
    changed the file was interrupted before its restart, which a handler's notification does not survive.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options:
  units:
    description:
      - Names of units, with their suffix. A pattern such as C(prefect-api@*.service) matches the units that systemd has loaded.
    type: list
    elements: str
    required: true
  paths:
    description:
      - Files that the units read when they start. A symlink counts with its own time, not with that of what it points at.
      - One that does not exist is passed over.
    type: list
    elements: str
    default: []
  reload_paths:
    description:
      - Files that the units read when they start, and again when they are reloaded. One that does not exist is passed over.
    type: list
    elements: str
    default: []
  links:
    description: Symlinks to read, such as C(/opt/prefect/current).
    type: list
    elements: str
    default: []
  drained:
    description:
      - Whether to also ask at which ports M(selfhosted.prefect.prefect_drain) refuses new connections. Only root can.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: See which API servers run with older settings
  selfhosted.prefect.prefect_unit_info:
    units: [prefect-api@*.service]
    paths:
      - /etc/prefect/prefect.env
      - /opt/prefect/current
      - /etc/systemd/system/prefect-api@.service
  register: api
"""

RETURN = r"""
active:
  description: Names of the units that run or are starting.
  returned: always
  type: list
  elements: str
  sample: [prefect-api@4200.service]
stale:
  description: Names of the active units that started before one of O(paths) last changed, or before their unit file did.
  returned: always
  type: list
  elements: str
  sample: []
needs_reload:
  description: >-
    Names of the active units that are not RV(stale), and were neither started nor reloaded since one of O(reload_paths) last changed.
  returned: always
  type: list
  elements: str
  sample: []
links:
  description: What each of O(links) points at. One that does not exist, or is no symlink, is left out.
  returned: always
  type: dict
  sample:
    /opt/prefect/current: /opt/prefect/releases/3.8.8-0123456789ab
drained:
  description: The drained ports, with O(drained).
  returned: always
  type: list
  elements: int
  sample: []
units:
  description: Everything read of each unit, in the order of their names.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the unit.
      type: str
    loaded:
      description: Whether systemd knows the unit.
      type: bool
    active:
      description: Whether it runs or is starting.
      type: bool
    state:
      description: systemd's words for it, such as V(active (running\)).
      type: str
    enabled:
      description: Whether it starts at boot.
      type: bool
    since:
      description: When its main process started, in seconds since the epoch; 0 if it never did.
      type: float
    pid:
      description: Its main process; 0 when there is none.
      type: int
    restarts:
      description: How often systemd restarted it by itself.
      type: int
    memory_bytes:
      description: Memory its processes use, in bytes; 0 when systemd does not count it.
      type: int
    stale:
      description: Whether it started before one of O(paths), or its unit file, last changed.
      type: bool
    needs_reload:
      description: Whether it is not stale, and was neither started nor reloaded since one of O(reload_paths) last changed.
      type: bool
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.gate import DrainError, NftablesGate
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import link_targets, units


def shut_ports(module: AnsibleModule) -> list[int]:
    """The ports that are drained; none, with a warning, when nftables cannot be queried."""
    try:
        return sorted(NftablesGate(0).ports())
    except DrainError as error:
        module.warn(str(error))
        return []


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "required": True},
            "paths": {"type": "list", "elements": "str", "default": []},
            "reload_paths": {"type": "list", "elements": "str", "default": []},
            "links": {"type": "list", "elements": "str", "default": []},
            "drained": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )

    def run(command: list[str]) -> str:
        return str(module.run_command(command, check_rc=True)[1])

    asked = units(module.params["units"], module.params["paths"], run, reload_paths=module.params["reload_paths"])
    found = {unit.name: unit for unit in asked}
    ordered = [found[name] for name in sorted(found)]
    module.exit_json(
        changed=False,
        active=[unit.name for unit in ordered if unit.active],
        stale=[unit.name for unit in ordered if unit.stale],
        needs_reload=[unit.name for unit in ordered if unit.needs_reload],
        drained=shut_ports(module) if module.params["drained"] else [],
        links=link_targets(module.params["links"]),
        units=[asdict(unit) for unit in ordered],
    )


if __name__ == "__main__":
    main()
