#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_drill_fault
short_description: Break something on a host for some seconds, and revert it in any case
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Makes one fault, lets it last, reverts it, and returns when it began and ended. For failover drills.
  - >-
    Before the fault, systemd gets a transient timer (C(prefect-drill-restore.timer)) with the command that reverts it. So the
    fault ends even when the connection to the host, the machine that runs Ansible, or this module dies meanwhile. A reboot ends it, too.
  - While the timer of an earlier fault is there, another one is refused.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
attributes:
  check_mode:
    details: Looks whether the fault could be made.
  diff_mode:
    details: Nothing is different afterwards.
  idempotent:
    support: none
    details: A fault is made each time.
  platform:
    details: Linux with systemd; V(kind=cut) takes nftables.
options:
  state:
    description:
      - V(made) makes a fault and reverts it.
      - V(reverted) reverts what an earlier call has left behind, if anything, without waiting for the timer.
    type: str
    choices: [made, reverted]
    default: made
  kind:
    description:
      - V(kill) sends SIGKILL to the processes of O(units) and waits until systemd has started them again.
      - V(freeze) sends SIGSTOP, and SIGCONT in the end.
      - V(stop) stops O(units), and starts them in the end.
      - V(crash) sends SIGKILL to the processes of O(units), keeps systemd from starting them, and starts them in the end; what is left of a
        host that loses its power, as long as the host itself stays.
      - V(restart) restarts O(units).
      - V(cut) drops every packet to or from O(ports), except the host's own to itself, so that clients run into their timeouts.
        With O(peers) those of and to other hosts pass.
    type: str
    choices: [kill, freeze, stop, crash, cut, restart]
  units:
    description: systemd's units, by name or pattern. Those that run are hit, and at least one has to.
    type: list
    elements: str
    default: []
  ports:
    description: TCP ports for V(kind=cut), of this host and of others that it talks to. SSH's must not be among them.
    type: list
    elements: int
    default: []
  peers:
    description: Names or addresses of the hosts that V(kind=cut) cuts this one off from. Without any it is cut off from all.
    type: list
    elements: str
    default: []
  seconds:
    description: How long the fault lasts. With V(kind=kill) how long systemd has, at most, to start the processes again.
    type: float
    default: 20
  guard:
    description: Seconds after which the timer reverts the fault. They have to exceed O(seconds).
    type: float
    default: 90
"""

EXAMPLES = r"""
- name: Freeze an API server for ten seconds
  become: true
  selfhosted.prefect.prefect_drill_fault:
    kind: freeze
    units: [prefect-api@4200.service]
    seconds: 10

- name: Revert what a drill has left behind
  become: true
  selfhosted.prefect.prefect_drill_fault:
    state: reverted
"""

RETURN = r"""
at:
  description: When the fault began, in seconds since the epoch, by the host's clock.
  returned: when O(state=made), outside check mode
  type: float
  sample: 1795000000.123
released:
  description: When the module began to revert it, or it had ended by itself.
  returned: when O(state=made), outside check mode
  type: float
  sample: 1795000010.123
until:
  description: When it had ended.
  returned: when O(state=made), outside check mode
  type: float
  sample: 1795000010.234
by_itself:
  description: Whether it ended without help, as when systemd starts a process again that was killed.
  returned: when O(state=made), outside check mode
  type: bool
  sample: false
units:
  description: The units that were hit.
  returned: when O(state=made)
  type: list
  elements: str
  sample: [prefect-api@4200.service]
"""

import signal
import socket
from dataclasses import asdict
from types import FrameType
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.fault import KINDS, Fault, FaultError, FaultInjector

_SSH = 22

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["made", "reverted"], "default": "made"},
    "kind": {"type": "str", "choices": list(KINDS)},
    "units": {"type": "list", "elements": "str", "default": []},
    "ports": {"type": "list", "elements": "int", "default": []},
    "peers": {"type": "list", "elements": "str", "default": []},
    "seconds": {"type": "float", "default": 20},
    "guard": {"type": "float", "default": 90},
}


def problem(params: dict[str, Any]) -> str:
    """What is wrong with the arguments; empty when nothing is."""
    if params["state"] != "made":
        return ""
    cut = params["kind"] == "cut"
    wrong = [
        (cut and not params["ports"], "kind=cut takes ports"),
        (not cut and bool(params["peers"]), f"kind={params['kind']} takes no peers"),
        (not cut and not params["units"], f"kind={params['kind']} takes units"),
        (cut and _SSH in params["ports"], "ports must not hold 22: the host could not be reached any more"),
        (not 0 <= params["seconds"] < params["guard"], f"guard ({params['guard']:g} s) must exceed seconds ({params['seconds']:g} s)"),
        (any(name.startswith("-") for name in params["units"]), "a unit's name does not begin with a dash"),
    ]
    return next((f"{words}. Nothing was changed." for is_so, words in wrong if is_so), "")


def addresses(peers: list[str]) -> tuple[str, ...]:
    """Of the hosts: nftables would take a name for one address only. Raises FaultError for a name that does not resolve."""
    found: list[str] = []
    for peer in peers:
        try:
            found += [str(each[4][0]) for each in socket.getaddrinfo(peer.strip("[]"), None, type=socket.SOCK_STREAM)]
        except OSError as error:
            raise FaultError(f"{peer}, which this host is to be cut off from, does not resolve: {error}. Nothing was changed.") from error
    return tuple(dict.fromkeys(found))


def ended(_number: int, _frame: FrameType | None) -> None:
    """A signal's handler: ends the module by an exception, so that what it has begun is undone."""
    raise SystemExit(1)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=[["state", "made", ["kind"]]], supports_check_mode=True)
    params = module.params
    wrong = problem(params)
    if wrong:
        module.fail_json(msg=wrong)
    # A signal that ends this module early reverts the fault first.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, ended)
    try:
        fault = Fault(params["kind"] or "", tuple(params["units"]), tuple(params["ports"]), addresses(params["peers"]))
        injector = FaultInjector(fault)
        if params["state"] == "reverted":
            module.exit_json(changed=False if module.check_mode else injector.restore())
        names = injector.prepare()
        if module.check_mode:
            module.exit_json(changed=True, units=names)
        module.exit_json(changed=True, units=names, **asdict(injector.carry_out(params["seconds"], params["guard"])))
    except FaultError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
