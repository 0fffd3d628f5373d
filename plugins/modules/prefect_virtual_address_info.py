#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_virtual_address_info
short_description: Where an address that several hosts share belongs, and which machine has it
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Finds the interface for an address that moves between hosts, the addresses by which these hosts know each other, and the machine that
    has it now; and says what stands in its way.
  - It changes nothing and does not fail because of a problem.
  - Which machine has it, the kernel asks its neighbours (ARP, or neighbour discovery for IPv6), which takes three seconds where none has.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
attributes:
  platform:
    details: Linux with iproute2.
options:
  address:
    description: The address, of IPv4 or IPv6.
    type: str
    required: true
  own:
    description: How the other hosts reach this one, a name or an address.
    type: str
    required: true
  peers:
    description: How this host reaches those that share the address with it, names or addresses. With none, a warning says so.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Gather where the address of the load balancers is
  selfhosted.prefect.prefect_virtual_address_info:
    address: 10.0.0.100
    own: 10.0.0.1
    peers: [10.0.0.2]
  register: shared

- name: Show what stands in its way
  ansible.builtin.debug:
    var: shared.problems
"""

RETURN = r"""
address:
  description: O(address) as the kernel writes it.
  returned: always
  type: str
  sample: 10.0.0.100
interface:
  description: The interface that it belongs on; empty where there is none.
  returned: always
  type: str
  sample: eth0
source:
  description: The address of this host by which the others know it.
  returned: always
  type: str
  sample: 10.0.0.1
peers:
  description: The addresses of O(peers), as this host sees them.
  returned: always
  type: list
  elements: str
  sample: [10.0.0.2]
held:
  description: Whether this host has the address now.
  returned: always
  type: bool
holder:
  description:
    - V(here), the address of one of O(peers), or the MAC address of another machine that has it; empty where none has, and where a problem
      came before the question.
  returned: always
  type: str
  sample: 10.0.0.2
problems:
  description: What stands in its way, one sentence or two each; empty when nothing does.
  returned: always
  type: list
  elements: str
  sample: ["nginx_virtual_address: 10.9.0.1 is outside of the networks of this host on eth0: 10.0.0.0/24."]
"""

import ipaddress

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.virtual_address import AddressError, Network, find


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "own": {"type": "str", "required": True},
            "peers": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        ipaddress.ip_address(given["address"])
    except ValueError:
        module.fail_json(msg=f"address is {given['address']!r}, which is no IP address")
    if not given["peers"]:
        module.warn(f"Only this host has {given['address']}: if it is gone, so is the address. Give it another load balancer.")
    try:
        found = find(given["address"], given["own"], given["peers"], Network())
    except AddressError as error:
        module.fail_json(msg=f"{error}. It takes iproute2.")
    module.exit_json(changed=False, **found.returned())


if __name__ == "__main__":
    main()
