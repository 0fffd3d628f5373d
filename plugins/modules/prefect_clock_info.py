#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_clock_info
short_description: By how much a host's clock differs from that of the machine that runs Ansible
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads the clock of a host three times, and keeps the answer that came fastest.
  - The host is known to have read its clock between question and answer, and not when. So there is an error of half that time, either way.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options: {}
"""

EXAMPLES = r"""
- name: Compare the clocks
  selfhosted.prefect.prefect_clock_info:
  register: clock

- name: Show them
  ansible.builtin.debug:
    msg: "{{ clock.offset }} s ahead, give or take {{ clock.error }} s"
"""

RETURN = r"""
offset:
  description: Seconds by which the host is ahead of the machine that runs Ansible; negative where it is behind.
  returned: always
  type: float
  sample: -0.012
error:
  description: By how much that may be wrong, either way.
  returned: always
  type: float
  sample: 0.031
known:
  description: Whether the host has told the time.
  returned: always
  type: bool
"""
