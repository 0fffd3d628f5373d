#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_firewall
short_description: Accept connections to what a host is for, and to nothing else
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Keeps the table C(inet prefect_firewall) of nftables, which drops new connections and datagrams (TCP, UDP, and VRRP where O(openings)
    has it) that O(openings), O(ssh_ports) and O(extra_rules) do not accept. Other tables, other protocols, forwarded packets and
    connections that are there already are left alone.
  - With O(state=attempted) the rules are loaded, and a timer of systemd reverts them after O(revert_after) seconds. Only
    O(state=confirmed), over a connection that the new rules have accepted, ends the timer and keeps the rules. A mistake so reverts itself.
  - Needs root, nftables and systemd.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
options:
  state:
    description:
      - V(attempted) loads the rules for a while. It changes nothing when they are loaded and kept already.
      - V(confirmed) keeps them.
      - V(absent) removes table and file.
    type: str
    choices: [attempted, confirmed, absent]
    required: true
  openings:
    description: What is accepted, as the filter P(selfhosted.prefect.firewall_openings#filter) returns it.
    type: list
    elements: dict
    default: []
    suboptions:
      what:
        description: What listens there, for the comment of the rule.
        type: str
        default: ""
      port:
        description: The port. V(0) for a protocol without ports.
        type: int
        default: 0
      protocols:
        description:
          - V(tcp), V(udp) or both.
          - V(vrrp) has no port. It is accepted from all clients where no opening has it.
        type: list
        elements: str
        choices: [tcp, udp, vrrp]
        default: [tcp]
      sources:
        description: Addresses, networks and names that resolve on the host; V(anywhere) is all clients.
        type: list
        elements: str
        required: true
  ssh_ports:
    description: Ports of SSH.
    type: list
    elements: int
    default: [22]
  ssh_sources:
    description: Who may reach them, as in O(openings[].sources). Empty for all clients.
    type: list
    elements: str
    default: []
  extra_rules:
    description: Rules of nftables that come before the last one, which drops.
    type: list
    elements: str
    default: []
  beside_kept:
    description:
      - Whether the rules also accept what those that are kept accept, for the time in which hosts and ports change. For O(state=attempted).
    type: bool
    default: false
  path:
    description: Where the rules are kept.
    type: path
    default: /etc/prefect-firewall.nft
  revert_after:
    description: Seconds until the rules are taken back unless they are confirmed.
    type: int
    default: 120
attributes:
  diff_mode:
    support: full
"""

EXAMPLES = r"""
- name: Accept connections of the balancer to the API
  selfhosted.prefect.prefect_firewall:
    state: attempted
    openings:
      - {what: an API server, port: 4200, sources: [10.0.0.20]}

- name: Keep the rules, now that this task has come through them
  selfhosted.prefect.prefect_firewall:
    state: confirmed
    openings:
      - {what: an API server, port: 4200, sources: [10.0.0.20]}
"""

RETURN = r"""
rules:
  description: The rules, as nftables reads them. Empty with O(state=absent).
  returned: always
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.firewall import (
    Firewall,
    FirewallError,
    accepting,
    missing,
    ruleset,
)

_OPENING = {
    "what": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 0},
    "protocols": {"type": "list", "elements": "str", "choices": ["tcp", "udp", "vrrp"], "default": ["tcp"]},
    "sources": {"type": "list", "elements": "str", "required": True},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["attempted", "confirmed", "absent"], "required": True},
            "openings": {"type": "list", "elements": "dict", "default": [], "options": _OPENING},
            "ssh_ports": {"type": "list", "elements": "int", "default": [22]},
            "ssh_sources": {"type": "list", "elements": "str", "default": []},
            "extra_rules": {"type": "list", "elements": "str", "default": []},
            "beside_kept": {"type": "bool", "default": False},
            "path": {"type": "path", "default": "/etc/prefect-firewall.nft"},
            "revert_after": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    firewall = Firewall(Path(module.params["path"]))
    try:
        result = _absent(module, firewall) if module.params["state"] == "absent" else _present(module, firewall)
    except FirewallError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def _absent(module: AnsibleModule, firewall: Firewall) -> dict[str, Any]:
    changed, before = firewall.present(), firewall.kept()
    if changed and not module.check_mode:
        firewall.remove()
    return {"changed": changed, "rules": "", "diff": {"before": before, "after": ""}}


def _present(module: AnsibleModule, firewall: Firewall) -> dict[str, Any]:
    given = module.params
    before = firewall.kept()
    rules = ruleset(given["openings"], given["ssh_ports"], given["ssh_sources"], given["extra_rules"])
    more = [rule for rule in accepting(before) if rule not in accepting(rules)] if given["beside_kept"] else []
    if more:
        rules = ruleset(given["openings"], given["ssh_ports"], given["ssh_sources"], [*given["extra_rules"], *more])
    changed = before != rules or not firewall.loaded(rules)
    # A dry run of the first deployment comes before the package.
    if changed and not (module.check_mode and missing()):
        firewall.check(rules)
    if changed and not module.check_mode:
        if given["state"] == "attempted":
            firewall.attempt(rules, given["revert_after"])
        else:
            firewall.confirm(rules)
    return {"changed": changed, "rules": rules, "diff": {"before": before, "after": rules}}


if __name__ == "__main__":
    main()
