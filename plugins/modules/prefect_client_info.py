#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_client_info
short_description: Which versions of Prefect's client were seen
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads nginx's access logs, in the JSON of the role P(selfhosted.prefect.nginx#role) or in nginx's C(combined) format, and counts
    the requests of each version of Prefect's client.
  - The client names its version in the header C(User-Agent), as in C(prefect/3.8.8 (API 0.8.4\)). Websockets, browsers and other programs
    do not, and are not counted.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options:
  paths:
    description: The logs. One that does not exist is passed over; compressed ones cannot be read.
    type: list
    elements: path
    default: [/var/log/nginx/prefect.log, /var/log/nginx/prefect.log.1, /var/log/nginx/access.log, /var/log/nginx/access.log.1]
  hours:
    description: How far back to look, by the clock of the host.
    type: float
    default: 24
  bytes:
    description: How much of the end of each log to read at most, in bytes. A busy day may be longer, and is then seen in part.
    type: int
    default: 20000000
"""

EXAMPLES = r"""
- name: See which clients were there in the last week
  become: true
  selfhosted.prefect.prefect_client_info:
    hours: 168
  register: seen
"""

RETURN = r"""
clients:
  description: >-
    For each version the number of its C(requests), and when it was C(last_seen), in seconds since the epoch. Empty when none was seen.
  returned: always
  type: dict
  sample:
    "3.8.8":
      requests: 5120
      last_seen: 1795512766
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._report.clients import clients, last_lines

LOGS = ["/var/log/nginx/prefect.log", "/var/log/nginx/prefect.log.1", "/var/log/nginx/access.log", "/var/log/nginx/access.log.1"]
ARGUMENTS: dict[str, Any] = {
    "paths": {"type": "list", "elements": "path", "default": LOGS},
    "hours": {"type": "float", "default": 24},
    "bytes": {"type": "int", "default": 20000000},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    for name in ("hours", "bytes"):
        if params[name] <= 0:
            module.fail_json(msg=f"{name} must be more than 0, not {params[name]:g}.")
    try:
        seen = clients(
            (line for path in params["paths"] for line in last_lines(Path(path), params["bytes"])), time.time() - params["hours"] * 3600
        )
    except OSError as error:
        module.fail_json(msg=f"The log {error.filename} cannot be read: {error.strerror}. It takes root (become) or the group adm.")
    module.exit_json(changed=False, clients={version: asdict(client) for version, client in sorted(seen.items())})


if __name__ == "__main__":
    main()
