#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_history_info
short_description: How a Prefect deployment was in the last hour, from Prometheus
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Asks a Prometheus server for what the status page plots, and changes nothing.
  - A Prometheus that does not answer is not an error of this module; RV(problem) says why.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options:
  url:
    description: Where Prometheus answers, as seen from the host that runs the module.
    type: str
    default: http://127.0.0.1:9090
  auth_string:
    description: User and password for it, as C(user:password).
    type: str
    default: ""
  ca_file:
    description: Certificate authorities for an O(url) with C(https), on the host that runs the module. The system's own by default.
    type: path
  seconds:
    description: How far back to look.
    type: float
    default: 3600
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 5
"""

EXAMPLES = r"""
- name: See how the last hour was
  selfhosted.prefect.prefect_history_info:
    url: http://10.0.0.51:9090
  register: history
"""

RETURN = r"""
start:
  description: The beginning of the time that was asked for, in seconds since the epoch.
  returned: always
  type: float
end:
  description: Its end.
  returned: always
  type: float
plots:
  description: For each plot its C(title), its C(unit) and its C(series), each with a C(label) and C(points), pairs of a time and a value.
  returned: always
  type: list
  elements: dict
problem:
  description: Why there is nothing to plot; empty when there is.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.http_client import Request
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.history import history


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:9090"},
            "auth_string": {"type": "str", "default": "", "no_log": True},
            "ca_file": {"type": "path"},
            "seconds": {"type": "float", "default": 3600},
            "timeout": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    given = module.params
    asked = Request(given["url"], auth_string=given["auth_string"], tls={"ca_file": given["ca_file"]} if given["ca_file"] else None)
    module.exit_json(changed=False, **history(asked, given["seconds"], given["timeout"]))


if __name__ == "__main__":
    main()
