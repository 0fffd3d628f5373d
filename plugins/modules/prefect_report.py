#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
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
  check_mode:
    support: full
    details: Prints as ever, and writes no page.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: The table and the line change nothing; a page is written anew each time.
  platform:
    platforms: posix
    support: full
options:
  report:
    description:
      - What was gathered. C(version) and C(url) are what the deployment should be.
      - C(hosts) is a list of lists, a host's name and what M(selfhosted.prefect.prefect_unit_info) answered there, once or more.
      - C(servers), C(database) and C(redis) are as M(selfhosted.prefect.prefect_info) returns them, the last two with an C(address).
      - C(groups) are the hosts of each group of the inventory, for the topology on the page.
      - C(schema) is as M(selfhosted.prefect.prefect_migration) returns it in check mode.
    type: dict
    required: true
  output:
    description:
      - A V(table) to read, or V(json), one line that begins with C({), the only such line that Ansible prints.
      - V(html) writes a page that needs nothing else, to O(path).
    type: str
    choices: [table, json, html]
    default: table
  path:
    description: Where to write the page.
    type: path
    default: prefect-status.html
  history:
    description: What M(selfhosted.prefect.prefect_history_info) found, for the page's plots. Without it the page says that there is none.
    type: dict
    default: {}
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
path:
  description: The page that was written.
  returned: when O(output=html)
  type: str
problems:
  description: What a person should look at, each in one sentence.
  returned: always
  type: list
  elements: str
  sample: []
"""
