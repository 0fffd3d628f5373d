#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_drain
short_description: Take an API server out of service, or put it back
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Makes the host refuse new connections to an API server with a TCP reset, so that every balancer, whoever's it is, goes to the next
    server at once. Requests in flight are let finish, and the module waits for them.
  - For a balancer that sends one request over each connection, as the role C(nginx) sets it up, this loses no request. Over a connection
    that a balancer keeps open, further requests still come in.
  - Connections of the host with itself are let in, so that health checks go on; a balancer on the same host is named by O(local_users).
  - Websockets are not waited for. They end when the server stops, and their clients come back through another server.
  - The rules are a table C(inet prefect_drain) of nftables, before those of any firewall. A reboot removes them.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.action_group
attributes:
  check_mode:
    support: full
    details: Nothing is waited for.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: posix
    support: full
    details: Linux with nftables.
options:
  port:
    description: The API server's TCP port on this host.
    type: int
    required: true
  state:
    description:
      - V(drained) refuses new connections and waits until no request is in flight.
      - V(active) lets connections in again.
    type: str
    choices: [drained, active]
    default: drained
  timeout:
    description:
      - Seconds to wait for requests in flight.
      - When they are over that is no error, but a warning; RV(in_flight) tells how many are left.
    type: float
    default: 30
  local_users:
    description: Users of this host whose connections are refused, too, such as C(www-data) for nginx on the same host.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Take the server out of service
  become: true
  selfhosted.prefect.prefect_drain:
    port: 4200
    timeout: 30

- name: Restart it
  become: true
  ansible.builtin.systemd_service:
    name: prefect-api@4200.service
    state: restarted

- name: Wait until it is healthy
  selfhosted.prefect.prefect_health:
    url: http://127.0.0.1:4200/api
    unit: prefect-api@4200.service

- name: Put it back into service
  become: true
  selfhosted.prefect.prefect_drain:
    port: 4200
    state: active
"""

RETURN = r"""
drained:
  description: Whether new connections are refused now. In check mode, whether they would be.
  returned: always
  type: bool
  sample: true
in_flight:
  description: Requests that had no answer when the waiting ended.
  returned: when O(state=drained), outside check mode
  type: int
  sample: 0
open_connections:
  description: Connections left open that wait for no answer, such as websockets.
  returned: when O(state=drained), outside check mode
  type: int
  sample: 3
elapsed:
  description: Seconds that were waited.
  returned: when O(state=drained), outside check mode
  type: float
  sample: 0.2
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._connections import connections
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain import DrainError, Gate, NftablesGate, wait_for_quiet

ARGUMENTS: dict[str, Any] = {
    "port": {"type": "int", "required": True},
    "state": {"type": "str", "choices": ["drained", "active"], "default": "drained"},
    "timeout": {"type": "float", "default": 30},
    "local_users": {"type": "list", "elements": "str", "default": []},
}
_WORDS = {False: "active", True: "drained"}


def move(gate: Gate, shut: bool, check: bool) -> bool:
    """Shuts or opens the gate and returns whether it was the other way before."""
    if gate.is_shut() == shut:
        return False
    if not check:
        if shut:
            gate.shut()
        else:
            gate.open()
    return True


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    port, shut = params["port"], params["state"] == "drained"
    result: dict[str, Any] = {"drained": shut}
    try:
        if shut:
            connections(port)  # to fail here, if at all, while clients are still let in
        result["changed"] = move(NftablesGate(port, params["local_users"]), shut, module.check_mode)
        if shut and not module.check_mode:
            ended = wait_for_quiet(port, params["timeout"])
            result.update(in_flight=ended.in_flight, open_connections=ended.open_connections, elapsed=round(ended.elapsed, 3))
    except DrainError as error:
        module.fail_json(msg=f"Port {port} cannot be {'drained' if shut else 'put back into service'}. {error}")
    except OSError as error:
        module.fail_json(
            msg=f"Port {port} cannot be drained: whether requests are in flight cannot be seen ({error}). Nothing was changed."
        )
    if result.get("in_flight"):
        module.warn(f"{result['in_flight']} requests to port {port} had no answer after {params['timeout']:g} s; they are not waited for.")
    before = _WORDS[shut != result["changed"]]
    module.exit_json(**result, diff={"before": f"port {port}: {before}\n", "after": f"port {port}: {_WORDS[shut]}\n"})


if __name__ == "__main__":
    main()
