#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_preflight
short_description: Find what would stop a deployment on a host
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Looks at a host, and at the servers it will need, and returns every problem it finds, each as a sentence with its remedy.
  - It changes nothing and does not fail because of a problem, so that those of all hosts can be shown together.
  - PostgreSQL and Redis are queried with the libraries of a Prefect release. Without one it is only seen that they accept connections.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
  - selfhosted.prefect.connections.interpreters
  - selfhosted.prefect.certificates
  - selfhosted.prefect.cluster
options:
  os_families:
    description: Which distributions are supported, as C(ID) or C(ID_LIKE) of C(/etc/os-release). Empty for any.
    type: list
    elements: str
    default: [debian]
  systemd:
    description: Whether systemd must run the host.
    type: bool
    default: true
  python:
    description: The interpreter that Prefect will run on. Not looked at by default.
    type: dict
    suboptions:
      path:
        description: Where it is.
        type: path
        default: /usr/bin/python3
      min_version:
        description: The oldest version that will do.
        type: str
        default: "3.11"
  system_python:
    description:
      - Whether the interpreter that Ansible uses on the host must find the modules that Debian packages.
      - One in C(/usr/local) does not, and cannot configure PostgreSQL.
      - The module then stays in that interpreter, whatever O(interpreters) says.
    type: bool
    default: false
  reached:
    description: Where other hosts reach servers of this host, and where those will listen. Not looked at by default.
    type: dict
    suboptions:
      address:
        description: A name or an address.
        type: str
        required: true
      listen:
        description: The address that the servers listen on. V(0.0.0.0) takes IPv4 alone, and V(::) IPv6 alone.
        type: str
        required: true
  disk:
    description: What room is needed. Paths on the same file system add up; those that do not exist yet are fine.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A folder.
        type: path
        required: true
      bytes:
        description: How much will be written there.
        type: int
        required: true
  downgrade:
    description: Refuses a version that is older than what the host runs. Not looked at by default.
    type: dict
    suboptions:
      link:
        description: The symlink to the release that the host runs. Without one there is nothing to go back from.
        type: path
        default: /opt/prefect/current
      version:
        description: The version of Prefect that the host is to run.
        type: str
        required: true
  listen:
    description: Ports that must be free or already belong to the deployment. Needs root to see whose a port is.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: TCP port.
        type: int
        required: true
      address:
        description: The address to listen on. All by default.
        type: str
        default: ""
      units:
        description: Patterns of the systemd units that may have the port, such as C(prefect-api@*.service).
        type: list
        elements: str
        default: []
      what:
        description: What will listen there, for the message.
        type: str
        default: ""
      setting:
        description: The variable that chooses the port, for the message.
        type: str
        default: ""
  leftovers:
    description: Files that would be there no longer if all was as wanted. They are no problem; RV(found.leftovers) tells which there are.
    type: list
    elements: path
    default: []
  connect:
    description: Servers that must answer.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: What speaks there. V(tcp) only has to accept a connection.
        type: str
        choices: [postgresql, redis, tcp]
        required: true
      host:
        description: Name or address.
        type: str
        required: true
      port:
        description: TCP port; 5432 for PostgreSQL and 6379 for Redis by default.
        type: int
      user:
        description: The PostgreSQL role or Redis ACL user to log in as.
        type: str
        default: ""
        aliases: [username]
      password:
        description: Its password.
        type: str
        default: ""
      dbname:
        description: PostgreSQL's database.
        type: str
        default: prefect
      tls:
        description:
          - TLS settings. With none of them, or C(enabled) false, it is asked in plain text.
          - With TLS the certificate is always verified.
        type: dict
        suboptions:
          enabled:
            description: Whether to use TLS. V(true) as soon as any of the settings is given.
            type: bool
          ca_file:
            description: Certificate authorities, on the host. The system's own by default.
            type: path
          cert_file:
            description: A client certificate.
            type: path
          key_file:
            description: Its key.
            type: path
          check_hostname:
            description: Whether the certificate must name O(connect[].host). V(true) unless it is given.
            type: bool
      min_version:
        description: The oldest version of the server that will do. By default the oldest that Prefect works with.
        type: str
      databases:
        description:
          - The numbered databases of Redis that must be there.
          - With any, it is also checked that the user may do all that Prefect does. The commands are checked in a transaction that is
            discarded, so none of them runs.
        type: list
        elements: int
        default: []
      min_connections:
        description:
          - How many connections PostgreSQL must have for ordinary roles, those reserved for superusers left out.
          - The connection limits of the role and of the database count, too.
        type: int
        default: 0
      timeout:
        description: Seconds to wait for it in all.
        type: float
        default: 5
      what:
        description: What a V(tcp) server is, for the message.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Look at a host that will run Prefect against a managed database
  become: true
  selfhosted.prefect.prefect_preflight:
    python:
      min_version: "3.11"
    disk:
      - path: /opt/prefect
        bytes: 1500000000
    listen:
      - port: 4200
        units: [prefect-api@*.service]
        what: the API server
        setting: prefect_api_port
    connect:
      - kind: postgresql
        host: db.example.com
        user: prefect
        password: "{{ prefect_database_password }}"
        min_connections: 61
  register: host

- name: Show what is wrong
  ansible.builtin.debug:
    var: host.problems
"""

RETURN = r"""
problems:
  description: What is wrong, one sentence each; empty when nothing is.
  returned: always
  type: list
  elements: str
  sample:
    - Port 4200 for the API server (prefect_api_port) is taken. It belongs to nginx (process 812, unit nginx.service), on 0.0.0.0:4200.
found:
  description: What was seen.
  returned: always
  type: dict
  contains:
    system:
      description: The operating system.
      type: str
      sample: Debian GNU/Linux 12 (bookworm)
    python:
      description: The version of O(python.path); empty if no Python is wanted, or it does not work.
      type: str
      sample: 3.11.2
    servers:
      description: >-
        The version of each server in O(connect), by address and port, or C(open) where it was only seen that it accepts connections.
      type: dict
      sample:
        db.example.com:5432: 15.18 (Debian 15.18-0+deb12u1)
    hostname:
      description: What the host calls itself.
      type: str
      sample: api1
    machine_id:
      description: Its C(/etc/machine-id); empty without one.
      type: str
      sample: 0d4f7a3cbb8e4d2fa3d4c1f5b6a79e10
    release:
      description: Whether any of O(interpreters) is there.
      type: bool
    cluster:
      description: What M(selfhosted.prefect.prefect_cluster_info) tells, with O(cluster); empty without it.
      type: dict
    certificates:
      description: What RV(selfhosted.prefect.prefect_certificate_info#module:certificates) tells of each of O(certificates).
      type: dict
    metrics:
      description: What the file O(metrics) should hold, and does not; empty when it does.
      type: str
    leftovers:
      description: Those of O(leftovers) that are there.
      type: list
      elements: str
      sample: [/etc/systemd/system/prometheus.service]
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.arguments import TLS, given
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.minimums import POSTGRES, REDIS
from ansible_collections.selfhosted.prefect.plugins.module_utils._cluster.host import CLUSTER, gather
from ansible_collections.selfhosted.prefect.plugins.module_utils._host import preflight as _preflight
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.certificates import CERTIFICATES, Host
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.sockets import listeners

ARGUMENTS: dict[str, Any] = {
    "os_families": {"type": "list", "elements": "str", "default": ["debian"]},
    "systemd": {"type": "bool", "default": True},
    "python": {
        "type": "dict",
        "options": {"path": {"type": "path", "default": "/usr/bin/python3"}, "min_version": {"type": "str", "default": "3.11"}},
    },
    "system_python": {"type": "bool", "default": False},
    "reached": {
        "type": "dict",
        "options": {"address": {"type": "str", "required": True}, "listen": {"type": "str", "required": True}},
    },
    "disk": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "path", "required": True}, "bytes": {"type": "int", "required": True}},
    },
    "downgrade": {
        "type": "dict",
        "options": {"link": {"type": "path", "default": "/opt/prefect/current"}, "version": {"type": "str", "required": True}},
    },
    "listen": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "address": {"type": "str", "default": ""},
            "units": {"type": "list", "elements": "str", "default": []},
            "what": {"type": "str", "default": ""},
            "setting": {"type": "str", "default": ""},
        },
    },
    "leftovers": {"type": "list", "elements": "path", "default": []},
    "cluster": {"type": "dict", "options": CLUSTER},
    "certificates": CERTIFICATES,
    "metrics": {"type": "path"},
    "interpreters": INTERPRETERS,
    "connect": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "kind": {"type": "str", "choices": ["postgresql", "redis", "tcp"], "required": True},
            "host": {"type": "str", "required": True},
            "port": {"type": "int"},
            "user": {"type": "str", "default": "", "aliases": ["username"]},
            "password": {"type": "str", "default": "", "no_log": True},
            "dbname": {"type": "str", "default": "prefect"},
            "tls": {"type": "dict", "options": TLS},
            "min_version": {"type": "str"},
            "databases": {"type": "list", "elements": "int", "default": []},
            "min_connections": {"type": "int", "default": 0},
            "timeout": {"type": "float", "default": 5},
            "what": {"type": "str", "default": ""},
        },
        "required_if": [["kind", "tcp", ["port"]]],
    },
}
_PORTS = {"postgresql": 5432, "redis": 6379}
_MINIMUMS = {"postgresql": POSTGRES, "redis": REDIS}


def os_release() -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        if Path(path).exists():
            return Path(path).read_text(encoding="utf-8")
    return ""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    # The interpreter that configures PostgreSQL is looked at itself.
    if params["connect"] and not params["system_python"]:
        use_libraries(module.params["interpreters"], "asyncpg", "redis")
    systemd = not params["systemd"] or Path("/run/systemd/system").is_dir()
    problems, system = _preflight.system_problems(params["os_families"], os_release(), systemd)
    python = ""
    if params["python"]:
        of_python, python = _preflight.python_problems(params["python"]["path"], params["python"]["min_version"])
        problems += of_python
    if params["system_python"]:
        problems += _preflight.interpreter_problems(sys.executable, sys.path)
    if params["reached"]:
        problems += _preflight.reach_problems(params["reached"]["address"], params["reached"]["listen"])
    if params["downgrade"]:
        problems += _preflight.downgrade_problems(params["downgrade"]["link"], params["downgrade"]["version"])
    problems += _preflight.disk_problems(params["disk"])
    try:
        problems += _preflight.listen_problems(params["listen"], listeners() if params["listen"] else [])
    except OSError as error:
        problems.append(f"Who listens on which port cannot be seen: {error}. Install the package iproute2, which has ss.")
    connector = _preflight.Connector()
    for wanted in params["connect"]:
        port = wanted["port"] or _PORTS[wanted["kind"]]
        minimum = wanted["min_version"] or _MINIMUMS.get(wanted["kind"], "")
        more = {"port": port, "min_version": minimum, "username": wanted["user"], "tls": given(wanted["tls"])}
        problems += connector.problems({**wanted, **more})
    certificates = Host(params["certificates"])
    problems += certificates.problems
    leftovers = [path for path in params["leftovers"] if Path(path).exists()]
    machine = Path("/etc/machine-id")
    found = {
        "hostname": socket.gethostname(),
        "machine_id": machine.read_text(encoding="utf-8").strip() if machine.is_file() else "",
        "system": system,
        "python": python,
        "servers": connector.found,
        "leftovers": leftovers,
        "cluster": gather(params["cluster"]) if params["cluster"] else {},
        "certificates": certificates.found,
        "metrics": certificates.unwritten(params["metrics"]),
        "release": any(os.access(path, os.X_OK) for path in params["interpreters"]),
    }
    module.exit_json(changed=False, problems=problems, found=found)


if __name__ == "__main__":
    main()
