#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_support_bundle
short_description: Put what was gathered for support into one archive
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Writes what M(selfhosted.prefect.prefect_support_info) has gathered on the hosts, and the state of the deployment, into an archive that
    only its owner can read.
  - It runs on the machine that runs Ansible. A host that did not answer, or could not, is noted in the archive's C(README.txt).
extends_documentation_fragment:
  - selfhosted.prefect.attributes
attributes:
  idempotent:
    support: none
    details: Each run writes an archive of its own, named after the time.
  platform:
    details: Any with Python.
options:
  folder:
    description: Where to write it. It is made, for its owner alone, if it does not exist.
    type: path
    default: .
  hosts:
    description: A list of lists, a host's name and what M(selfhosted.prefect.prefect_support_info) answered there.
    type: list
    elements: list
    required: true
  report:
    description: The state of the deployment, as for M(selfhosted.prefect.prefect_report).
    type: dict
    default: {}
  secrets:
    description: What must not be in the archive.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Write the archive
  selfhosted.prefect.prefect_support_bundle:
    folder: /srv/support
    hosts: [[api1, "{{ hostvars.api1.seen }}"]]
"""

RETURN = r"""
path:
  description: The archive.
  returned: always
  type: str
  sample: /srv/support/prefect-support-20261124T120000Z.tar.gz
bytes:
  description: Its size.
  returned: when it was written
  type: int
  sample: 182044
notes:
  description: What is missing in it, each in one sentence.
  returned: always
  type: list
  elements: str
  sample: []
"""
