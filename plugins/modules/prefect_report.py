#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_report
short_description: Print the state of a deployment
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Prints what M(selfhosted.prefect.prefect_info) and M(selfhosted.prefect.prefect_unit_info) have gathered, for a person or for a machine.
  - It runs on the machine that runs Ansible and writes straight to its standard output.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
attributes:
  platform:
    details: Any with Python.
options:
  report:
    description:
      - What was gathered. C(version) and C(url) are what the deployment should be.
      - C(hosts) is a list of lists, a host's name and what M(selfhosted.prefect.prefect_unit_info) answered there, once or more.
      - C(releases) is the same of M(selfhosted.prefect.prefect_release_info), without any, no release is shown.
      - C(certificates) is the same of M(selfhosted.prefect.prefect_certificate_info). One with fewer days left than half of
        C(renew_days) is a problem.
      - C(addresses) is the same of M(selfhosted.prefect.prefect_virtual_address_info), of load balancers that share an address.
      - C(servers), C(database) and C(redis) are as M(selfhosted.prefect.prefect_info) returns them, the last two with an C(address).
      - C(postgres_cluster) has C(answers), the same of M(selfhosted.prefect.prefect_cluster_info), and whether the cluster is
        C(synchronous).
      - C(groups) are the hosts of each group of the inventory, for the topology on the status page.
      - C(schema) is as M(selfhosted.prefect.prefect_migration) returns it in check mode.
    type: dict
    required: true
  output:
    description:
      - A V(table) to read, or V(json), one line that begins with C({), the only such line that Ansible prints.
      - The same as a page is what P(selfhosted.prefect.page#lookup) makes of it.
    type: str
    choices: [table, json]
    default: table
"""

EXAMPLES = r"""
- name: Print the state
  selfhosted.prefect.prefect_report:
    report:
      version: "3.8.8"
      url: http://10.0.0.13:4200/api
      hosts: [[api1, "{{ hostvars.api1.units }}"]]
      servers: "{{ info.servers }}"
"""

RETURN = r"""
problems:
  description: What a person should look at, each in one sentence.
  returned: always
  type: list
  elements: str
  sample: []
"""
