#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_redis
short_description: Have a running Redis take up other users, settings and a renewed certificate
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares a running Redis with the files that it reads when it starts, and gives it what has changed of its users (C(ACL SETUSER), one
    command for each, and C(ACL DELUSER)), of its certificate and of its settings (C(CONFIG SET)), with no connection lost but those of
    users that are gone.
  - It logs in as an administrator for this alone, whose password is made on the host and is kept there, for its owner to read.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.redis_cluster
  - selfhosted.prefect.redis_cluster.server
options:
  state:
    description:
      - V(checked) only compares, and makes the password where there is none yet.
      - V(applied) gives the server what it does not have yet.
    type: str
    choices: [checked, applied]
    default: checked
  unit:
    description: Its systemd unit.
    type: str
    default: redis-server.service
  configuration:
    description: File of its configuration, which includes O(users).
    type: path
    required: true
  files:
    description: Further files that it takes up with a restart alone, beside O(configuration).
    type: list
    elements: path
    default: []
  users:
    description: >-
      File with the lines of its users. When the server has been told of it, a file with C(.applied) added to this name is touched.
    type: path
    required: true
  certificate:
    description:
      - File of the certificate that it has to present, with any intermediate ones after it. One that does not exist yet is not presented.
      - Without this it is spoken to in plain text.
    type: path
  key:
    description: File of the certificate's key. By default it has the certificate's name, with C(.key) for C(.crt).
    type: path
  trusted:
    description: >-
      File of the authorities that it verifies other servers with, which it reads anew with its certificate. When it has, a file with
      C(.trusted) added to the name of O(configuration) is touched.
    type: path
  settings:
    description:
      - Settings that it is to have, which it writes into the file that it was started with (C(CONFIG REWRITE)), as it does of its role.
        The administrator has to be allowed to. For settings that a file of the role cannot hold, since they change while it runs.
    type: dict
    default: {}
  timeout:
    description: Seconds for each connection.
    type: float
    default: 5
"""

EXAMPLES = r"""
- name: Take up other users, with no connection lost
  become: true
  selfhosted.prefect.prefect_redis:
    state: applied
    configuration: /etc/redis/prefect.conf
    users: /etc/redis/prefect-users.conf
    certificate: /etc/prefect-tls/redis.crt
    ca_file: /etc/prefect-tls/ca.crt
    secret: /etc/redis/prefect-administrator.secret
"""

RETURN = r"""
stale:
  description: Whether it started before O(configuration) or one of O(files) last changed, so that it has to be restarted.
  returned: always
  type: bool
  sample: false
pending:
  description: What it has not been given yet, V(certificate), V(users) and V(settings). In check mode, what it had not been given.
  returned: always
  type: list
  elements: str
  sample: []
problem:
  description: Why it does not present the certificate, or what it says to being told. Empty when there is nothing.
  returned: always
  type: str
  sample: it presents another certificate
secret_sha256:
  description: >-
    The SHA-256 hash of the administrator's password, as an ACL rule takes it. Empty in check mode where there is no password yet.
  returned: always
  type: str
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import REDIS_CLIENT, REDIS_SERVER
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.redis_server import (
    Client,
    RedisRefusalError,
    Server,
    Told,
    Users,
    make_secret,
    read_secret,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.units import Unit, units

ARGUMENTS: dict[str, Any] = {
    **REDIS_CLIENT,
    **REDIS_SERVER,
    "state": {"type": "str", "choices": ["checked", "applied"], "default": "checked"},
    "unit": {"type": "str", "default": "redis-server.service"},
    "configuration": {"type": "path", "required": True},
    "files": {"type": "list", "elements": "path", "default": []},
    "users": {"type": "path", "required": True},
    "certificate": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "trusted": {"type": "path"},
    "settings": {"type": "dict", "default": {}},
    "timeout": {"type": "float", "default": 5},
}


@dataclass
class State:
    """What a server has not been given yet, and why."""

    server: Server
    users: Users
    unit: Unit | None
    trusted: Told | None
    settings: dict[str, str]
    problem: str = ""

    def pending(self, client: Client) -> list[str]:
        try:
            self.problem = self.server.problem()
        except FileNotFoundError:
            self.problem = f"there is no {self.server.certificate} yet"
        if self.unit is None or not self.unit.active:
            return ["certificate"] * bool(self.problem)
        since = self.unit.since
        certificate = bool(self.problem) or (self.trusted is not None and self.trusted.pending(since))
        return ["certificate"] * certificate + ["users"] * self.users.pending(since) + ["settings"] * self._differs(client)

    def _differs(self, client: Client) -> bool:
        if not self.settings:
            return False
        try:
            return client.settings(self.server, [*self.settings]) != self.settings
        except RedisRefusalError as error:
            self.problem = self.problem or str(error)
            return True

    def apply(self, client: Client, key: str, pending: list[str]) -> list[str]:
        """What is left to be applied by a restart."""
        try:
            if "certificate" in pending:
                client.replace(self.server, key)
                if self.trusted:
                    self.trusted.record()
            if "users" in pending:
                client.apply_users(self.server, self.users)
                self.users.record()
            if "settings" in pending:
                client.change(self.server, self.settings)
        except RedisRefusalError as error:
            self.problem = str(error)
            return pending
        return self.pending(client)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def run(command: list[str]) -> str:
        return str(module.run_command(command, check_rc=True)[1])

    found = units([params["unit"]], [params["configuration"], *params["files"]], run)
    server = Server(params["host"], params["port"], params["certificate"] or "", params["timeout"])
    trusted = Told(params["trusted"], f"{params['configuration']}.trusted") if params["trusted"] else None
    wanted = {str(name): str(value) for name, value in params["settings"].items()}
    state = State(server, Users(params["users"], params["configuration"]), found[0] if found else None, trusted, wanted)
    try:
        secret = read_secret(params["secret"])
        made = not secret
        if made and not module.check_mode:
            secret = make_secret(params["secret"])
        client = Client(params["client"], params["username"], secret, params["ca_file"] or "")
        pending = state.pending(client)
        told = bool(pending) and params["state"] == "applied"
        if told and not module.check_mode:
            pending = state.apply(client, params["key"] or f"{server.certificate.removesuffix('.crt')}.key", pending)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be used: {error.strerror}. It takes root (become).")
    module.exit_json(
        changed=made or told,
        stale=state.unit is not None and state.unit.stale,
        pending=pending,
        problem=state.problem,
        secret_sha256=hashlib.sha256(secret.encode()).hexdigest() if secret else "",
    )


if __name__ == "__main__":
    main()
