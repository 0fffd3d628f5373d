#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_drain
short_description: Take an API server out of service, put it back, or both with a restart in between
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Makes the host refuse new connections to an API server with a TCP reset, so that every balancer, your own included, goes to the next
    server at once. Requests in flight are let finish, and the module waits for them.
  - For a balancer that sends one request over each connection, as the role C(nginx) sets it up, this loses no request. Over a connection
    that a balancer keeps open, further requests still come in.
  - Connections of the host with itself are accepted, so that health checks go on; a balancer on the same host is named by O(local_users).
  - Websockets are not waited for. They end when the server stops, and their clients come back through another server.
  - With O(healthy) new connections are accepted only once the server is healthy, at that very moment.
  - A balancer that was refused leaves the server out for a while even after it is back. With O(balancers) the module waits until requests
    sent through them reach this server again, which the role C(nginx)'s balancer tells; any other is given O(confirm_timeout).
  - The rules are a table C(inet prefect_drain) of nftables, before those of any firewall. A reboot removes them.
  - Should something else on the host remove them meanwhile, such as C(nft flush ruleset) or a restart of C(nftables.service), they are
    put back within a second. A transient unit C(prefect-drain-keeper.service) does that, which ends with the last drained port.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.api
attributes:
  check_mode:
    details: Nothing is queried or waited for, and nothing is sent.
  diff_mode:
    support: full
  platform:
    details: Linux with nftables.
options:
  port:
    description: The API server's TCP port on this host.
    type: int
    required: true
  state:
    description:
      - V(drained) refuses new connections and waits until no request is in flight.
      - V(active) accepts connections again, also those that an earlier, interrupted run refuses.
      - V(restarted) is V(drained), a restart of the unit, and V(active), in one step on the host, so that the server is away for hardly
        longer than it takes to start. It needs O(healthy). When the server does not get healthy, connections go on being refused.
    type: str
    choices: [drained, active, restarted]
    default: drained
  timeout:
    description:
      - Seconds to wait for requests in flight.
      - When they are over that is no error, but a warning; RV(in_flight) tells how many are left.
    type: float
    default: 30
  tls:
    description:
      - Whether the server speaks TLS. Then what goes on over a connection cannot be seen, and requests in flight are those that are not
        accepted or not read yet, or whose answer is being sent.
      - All others have arrived a second after new connections are refused, which is waited for. The server finishes them when it is told to
        stop.
    type: bool
    default: false
  local_users:
    description: Users of this host whose connections are refused, too, such as C(www-data) for nginx on the same host.
    type: list
    elements: str
    default: []
  metrics_directory:
    description:
      - The folder in which a node exporter looks for figures of others (its textfile collector). When it is there, C(prefect_drain.prom)
        in it counts how often the rules were put back (C(prefect_firewall_rules_restored_total)).
    type: path
    default: /var/lib/prometheus/node-exporter
  healthy:
    description:
      - Unless O(state=drained), what must hold twice in a row before connections are accepted, as in M(selfhosted.prefect.prefect_health).
      - When it does not within its O(healthy.timeout) the module fails with the cause, the last answer and the lines of this start, and
        connections are refused or accepted as they were before.
    type: dict
    suboptions:
      url:
        description: URL of the API server, over an address of this host.
        type: str
        required: true
      ca_file:
        description: Certificate authorities for a O(healthy.url) with C(https). The system's own by default.
        type: path
      auth_string:
        description: User and password that it asks for, as C(user:password).
        type: str
      version:
        description: Version that must answer, such as V(3.8.8). Any by default.
        type: str
      unit:
        description: Its systemd unit, which must be active, and which is restarted with O(state=restarted).
        type: str
        required: true
      timeout:
        description: Seconds that it may take.
        type: float
        default: 60
      interval:
        description: Seconds between two rounds of questions.
        type: float
        default: 0.1
  balancers:
    description:
      - Unless O(state=drained), URLs of the API through every balancer, such as C(http://balancer:4200/api). C(/api) is added to a URL
        without a path.
      - Requests for C(/admin/version) with the header C(X-Prefect-Probe) are sent through each, until the header C(X-Prefect-Server) of an
        answer names this server, as the role C(nginx) has it.
      - A balancer that names none cannot be queried. O(confirm_timeout) is waited for in full then, without a warning.
    type: list
    elements: str
    default: []
  confirm_timeout:
    description: Seconds within which a request has to arrive through each of O(balancers). They are not sent in check mode.
    type: float
    default: 15
  confirm_required:
    description:
      - Whether it is a failure, and not only a warning, when none has. The port is open all the same.
    type: bool
    default: false
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

- name: Put it back into service when it is healthy, and wait until it takes part again
  become: true
  selfhosted.prefect.prefect_drain:
    port: 4200
    state: active
    healthy:
      url: http://127.0.0.1:4200/api
      unit: prefect-api@4200.service
    balancers: [http://balancer1:4200/api, http://balancer2:4200/api]
    auth_string: "{{ prefect_auth_string }}"

- name: Restart it without a failed request
  become: true
  selfhosted.prefect.prefect_drain:
    port: 4200
    state: restarted
    healthy:
      url: http://127.0.0.1:4200/api
      unit: prefect-api@4200.service
"""

RETURN = r"""
drained:
  description: Whether new connections are refused now. In check mode, whether they would be.
  returned: always
  type: bool
  sample: true
drained_ports:
  description: Every port of this host that is drained now, or would be in check mode.
  returned: always
  type: list
  elements: int
  sample: [4200]
journal:
  description: What the unit wrote to the journal since it was last started, each line once and without secrets.
  returned: when a server did not start or did not get healthy
  type: list
  elements: str
  sample: ["prefect-api@4200.service, this start only, from 2026-11-28 17:00:01 on:", "17:00:03 KeyError: 'x'"]
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
healthy_after:
  description: Seconds until it was healthy, or until that was given up.
  returned: unless O(state=drained), with O(healthy), outside check mode
  type: float
  sample: 4.1
taking_traffic:
  description: Whether a request sent through each balancer is known to have arrived.
  returned: unless O(state=drained), with O(balancers), outside check mode
  type: bool
  sample: true
confirmed_after:
  description: Seconds until then, or until it was given up.
  returned: unless O(state=drained), with O(balancers), outside check mode
  type: float
  sample: 0.4
unconfirmed:
  description: The last answer through each balancer whose requests did not arrive, by its URL.
  returned: unless O(state=drained), with O(balancers), outside check mode
  type: dict
  sample: {}
"""

from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.redact import auth_secrets, redact
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.confirm import Confirmed, ask, confirm, is_here
from ansible_collections.selfhosted.prefect.plugins.module_utils._drain.gate import DrainError, Keeper, NftablesGate, wait_for_quiet
from ansible_collections.selfhosted.prefect.plugins.module_utils._health import (
    Outcome,
    RetryPolicy,
    Server,
    Units,
    api_base,
    failure_message,
    wait_until,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import run
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.journal import Why, why
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.sockets import connections

ARGUMENTS: dict[str, Any] = {
    "port": {"type": "int", "required": True},
    "state": {"type": "str", "choices": ["drained", "active", "restarted"], "default": "drained"},
    "timeout": {"type": "float", "default": 30},
    "tls": {"type": "bool", "default": False},
    "local_users": {"type": "list", "elements": "str", "default": []},
    "metrics_directory": {"type": "path", "default": "/var/lib/prometheus/node-exporter"},
    "healthy": {
        "type": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "ca_file": {"type": "path"},
            "auth_string": {"type": "str", "no_log": True},
            "version": {"type": "str"},
            "unit": {"type": "str", "required": True},
            "timeout": {"type": "float", "default": 60},
            "interval": {"type": "float", "default": 0.1},
        },
    },
    "balancers": {"type": "list", "elements": "str", "default": []},
    "auth_string": {"type": "str", "no_log": True},
    "ca_file": {"type": "path"},
    "confirm_timeout": {"type": "float", "default": 15},
    "confirm_required": {"type": "bool", "default": False},
}
_JOURNAL_LINES = 30
_WORDS = {False: "active", True: "drained"}
_PASSIVES = {"active": "put back into service", "drained": "drained", "restarted": "restarted"}
_TLS_SECONDS = 1.0
"""After which a request has followed its connection's handshake, also to a server that is busy."""
_STOP_SECONDS = 600.0
"""What a restart may take beside the start. The unit's own TimeoutStopSec ends a stop before; this is for a systemd that says nothing."""


def move(gate: NftablesGate, *, reject: bool) -> None:
    """Rejects or accepts new connections, unless that is so already."""
    if gate.is_rejecting() == reject:
        return
    if reject:
        gate.reject()
    else:
        gate.accept()


def health(wanted: dict[str, Any]) -> Outcome:
    """How the waiting for a server's health ended."""
    tls = {"ca_file": wanted["ca_file"]}
    server = Server(api_base(wanted["url"]), wanted["auth_string"] or "", wanted["version"] or "", tls)
    conditions = Units([wanted["unit"]]).conditions() + server.conditions()
    return wait_until(conditions, RetryPolicy(timeout=wanted["timeout"], interval=wanted["interval"]))


def unhealthy(wanted: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """What to say of a server that did not get healthy, and the lines to read."""
    found = journal(wanted)
    said = redact(failure_message(wanted["url"], outcome, found.cause), auth_secrets(wanted["auth_string"] or ""))
    return {"msg": said, "journal": found.lines.splitlines()}


def journal(wanted: dict[str, Any]) -> Why:
    """Why the unit does not run, without secrets."""
    return why([wanted["unit"]], _JOURNAL_LINES, auth_secrets(wanted["auth_string"] or ""))


def confirmation(params: dict[str, Any], balancers: list[str]) -> Confirmed:
    """Whether the balancers send requests here again."""
    tls = {"ca_file": params["ca_file"]}
    return confirm(
        balancers,
        lambda url, timeout: ask(url, params["auth_string"] or "", tls, timeout),
        lambda server: is_here(server, params["port"]),
        params["confirm_timeout"],
    )


def complaint(port: int, seconds: float, missing: dict[str, str]) -> str:
    """What to say when a server is not sent any requests."""
    answers = "; ".join(f"{url}: {answer}" for url, answer in missing.items())
    return (
        f"Port {port} is open, but within {seconds:.0f} s no request sent through these balancers is known to have arrived there. "
        f"Their last answers: {answers}. See whether the balancer knows this server and holds it to be healthy."
    )


class Move:
    """The module's run: a server goes out of service, comes back, or both."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.port: int = module.params["port"]
        self.state: str = module.params["state"]
        self.keeper = Keeper(module.params["metrics_directory"])
        self.gate = NftablesGate(self.port, module.params["local_users"], keeper=self.keeper)
        self.result: dict[str, Any] = {"drained": self.state == "drained", "changed": False}

    def main(self) -> NoReturn:
        balancers = self.urls("balancers", self.params["balancers"])
        self.urls("healthy", [self.params["healthy"]["url"]] if self.params["healthy"] else [])
        try:
            before = self.gate.is_rejecting()
            if self.state != "active":
                self.leave()
            if self.state == "restarted" and not self.module.check_mode:
                self.restart()
            if self.state != "drained":
                self.come_back()
            self.result["drained_ports"] = sorted(self.gate.ports() - {self.port} | ({self.port} if self.result["drained"] else set()))
        except DrainError as error:
            self.module.fail_json(msg=f"Port {self.port} cannot be {_PASSIVES[self.state]}. {error}")
        self.result["changed"] = before != self.result["drained"] or self.state == "restarted"
        if balancers and self.state != "drained" and not self.module.check_mode:
            self.confirm(balancers)
        words = [_WORDS[before], f"{_WORDS[self.result['drained']]}{', restarted' if self.state == 'restarted' else ''}"]
        self.module.exit_json(
            **self.result, diff=dict(zip(("before", "after"), (f"port {self.port}: {word}\n" for word in words), strict=True))
        )
        raise AssertionError("exit_json does not return")

    def urls(self, option: str, given: list[str]) -> list[str]:
        """The APIs' URLs of an option, seen to be some before anything is done."""
        try:
            return [api_base(url) for url in given]
        except ValueError as error:
            self.module.fail_json(msg=f"{error} ({option}). Nothing was changed.")
            raise AssertionError("fail_json does not return") from error

    def leave(self) -> None:
        """Refuses new connections, and waits until no client waits for an answer."""
        seconds = self.params["timeout"]
        now = "Nothing was changed."
        try:
            connections(self.port)  # to fail here, if at all, while connections are still accepted
            if self.module.check_mode:
                return
            move(self.gate, reject=True)
            if self.keeper.problem:
                self.module.warn(
                    f"Port {self.port} is drained, but its rules are not put back should this host's firewall be flushed or restarted:"
                    f" {self.keeper.problem}"
                )
            now = "New connections are refused; the state active accepts them again."
            ended = wait_for_quiet(self.port, seconds, settle=_TLS_SECONDS if self.params["tls"] else 0.0)
        except OSError as error:
            self.module.fail_json(msg=f"Port {self.port} cannot be drained: whether requests are in flight cannot be seen ({error}). {now}")
        self.result.update(in_flight=ended.in_flight, open_connections=ended.open_connections, elapsed=round(ended.elapsed, 3))
        if ended.in_flight:
            self.module.warn(f"{ended.in_flight} requests to port {self.port} had no answer after {seconds:g} s; they are not waited for.")

    def restart(self) -> None:
        """Has systemd restart the unit."""
        wanted = self.params["healthy"]
        ended = run(["systemctl", "restart", wanted["unit"]], wanted["timeout"] + _STOP_SECONDS)
        if ended.rc or ended.timed_out:
            reason = "it took too long" if ended.timed_out else ended.tail(3)
            found = journal(wanted)
            told = [found.cause, reason] if found.cause else [reason]
            said = "\n".join([f"{wanted['unit']} could not be restarted: {told[0]}", *told[1:]])
            self.module.fail_json(msg=said, journal=found.lines.splitlines())

    def come_back(self) -> None:
        """Accepts new connections, when the server is healthy if that is required."""
        if self.module.check_mode:
            return
        if self.params["healthy"]:
            self.await_health(self.params["healthy"])
        move(self.gate, reject=False)

    def await_health(self, wanted: dict[str, Any]) -> None:
        """Fails unless the server gets healthy in time."""
        outcome = health(wanted)
        self.result["healthy_after"] = round(outcome.elapsed, 3)
        if not outcome.healthy:
            self.module.fail_json(healthy_after=self.result["healthy_after"], **unhealthy(wanted, outcome))

    def confirm(self, balancers: list[str]) -> None:
        """Sees that requests arrive through every balancer."""
        found = confirmation(self.params, balancers)
        self.result.update(taking_traffic=not found.missing, confirmed_after=round(found.elapsed, 3), unconfirmed=found.missing)
        if found.missing and self.params["confirm_required"]:
            self.module.fail_json(msg=complaint(self.port, found.elapsed, found.missing), **self.result)
        # One that names no server has been given its time, which is all that can be done.
        if set(found.missing) - found.unnamed:
            self.module.warn(complaint(self.port, found.elapsed, found.missing))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=[("state", "restarted", ["healthy"])], supports_check_mode=True)
    Move(module).main()


if __name__ == "__main__":
    main()
