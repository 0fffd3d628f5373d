#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_release
short_description: A release of Prefect, built from a lock and proved, in a folder of its own
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Builds a virtual environment from a lock, in which every package is pinned and hashed. Only wheels are installed, so nothing is
    compiled on the host.
  - The release is built aside, its bytecode compiled, and the server's application imported as proof. Only then is it put in place,
    whole, by a rename. Whatever goes wrong before that leaves nothing behind; what an interrupted build left, the next one removes.
  - The installing is done by C(uv), which is downloaded once, checked against its pinned hash. The host needs no C(pip) and no C(venv).
  - Programs that the units of the release need are written with it, each under a name of its own for each content.
  - A release in place is never changed. It is built anew only if its Python has gone, as it does when the system is upgraded.
  - The package index, proxies and certificates are those of the environment (C(UV_DEFAULT_INDEX), C(HTTPS_PROXY), C(SSL_CERT_FILE)),
    for which the keyword C(environment) is the place.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.action_group
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: posix
    support: full
    details: Linux with glibc.
options:
  path:
    description: Folder of the release. Its parent is made if need be.
    type: path
    required: true
  version:
    description: Version of Prefect that the lock must hold, such as V(3.8.8).
    type: str
    required: true
  lock:
    description: The lock's text, with a C(--hash=sha256:) for every package.
    type: str
    required: true
  uv:
    description: The C(uv) to install with.
    type: dict
    required: true
    suboptions:
      version:
        description: Its version.
        type: str
        required: true
      wheels:
        description: For each kind of machine, as C(uname -m) names it, a dictionary with the C(name) and the C(sha256) of C(uv)'s wheel.
        type: dict
        required: true
  tools:
    description: Folder in which C(uv) is kept.
    type: path
    required: true
  python:
    description: The Python that the release runs on, 3.11 or newer.
    type: path
    default: /usr/bin/python3
  wheelhouse:
    description: Archive on the host that holds every wheel of the lock, and that of C(uv). Without one the package index is asked.
    type: path
  requirements:
    description:
      - Packages that flows need, each as a line of a requirements file. The environment is then one for workers, with Prefect of O(version)
        and these. What O(lock) has as well gets the version, and is checked against the hash, that it has there.
      - Other packages are not locked, and may be compiled.
    type: list
    elements: str
    default: []
  programs:
    description:
      - What the units of the release run beside it, each path on the host with its text. One that is there is left alone, so a path has to
        be another for another text.
    type: dict
    default: {}
  timeout:
    description: Seconds that the whole may take.
    type: int
    default: 600
seealso:
  - module: selfhosted.prefect.prefect_wheelhouse
"""

EXAMPLES = r"""
- name: Put the release in place
  become: true
  selfhosted.prefect.prefect_release:
    path: /opt/prefect/releases/3.8.8-0123456789ab
    version: 3.8.8
    lock: "{{ lookup('ansible.builtin.file', 'locks/3.8.8.txt') }}"
    uv: "{{ lookup('ansible.builtin.file', 'locks/uv.json') | from_json }}"
    tools: /opt/prefect/tools
  environment:
    HTTPS_PROXY: http://proxy.example.com:3128
"""

RETURN = r"""
path:
  description: The release's folder.
  returned: always
  type: str
  sample: /opt/prefect/releases/3.8.8-0123456789ab
seconds:
  description: How long the building took.
  returned: when it was built
  type: float
  sample: 9.2
"""

import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._build import Builder, BuildError, Host, Plan, Uv
from ansible_collections.selfhosted.prefect.plugins.module_utils._command import run
from ansible_collections.selfhosted.prefect.plugins.module_utils._index import environment_index

# Of the caller's Python, which is not the release's.
_FOREIGN = ("PYTHON", "VIRTUAL_ENV", "UV_PYTHON", "UV_PROJECT")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "lock": {"type": "str", "required": True},
            "uv": {
                "type": "dict",
                "required": True,
                "options": {"version": {"type": "str", "required": True}, "wheels": {"type": "dict", "required": True}},
            },
            "tools": {"type": "path", "required": True},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "wheelhouse": {"type": "path"},
            "requirements": {"type": "list", "elements": "str", "default": []},
            "programs": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    given = module.params
    plan = Plan(
        path=Path(given["path"]),
        version=given["version"],
        lock=given["lock"],
        python=given["python"],
        tools=Path(given["tools"]),
        uv=Uv(given["uv"]["version"], given["uv"]["wheels"]),
        wheelhouse=given["wheelhouse"] or "",
        programs={Path(path): text for path, text in given["programs"].items()},
        requirements=given["requirements"],
        timeout=given["timeout"],
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    builder = Builder(plan, Host(run, os.uname().machine, environment, environment_index()))
    # They are long, and on disk: they have no place among the arguments of a verbose run.
    shown = {**given, "lock": f"({len(given['lock'])} characters)", "programs": list(given["programs"])}
    result = {"path": given["path"], "invocation": {"module_args": shown}}
    present = builder.present()
    if not present and not module.check_mode:
        started = time.monotonic()
        os.umask(0o022)
        try:
            builder.build()
        except BuildError as error:
            module.fail_json(msg=f"Prefect {plan.version} was not installed in {plan.path}: {error}", **result)
        except (OSError, ValueError) as error:
            module.fail_json(msg=f"Prefect {plan.version} was not installed in {plan.path}: {error}; nothing was put in place", **result)
        result["seconds"] = round(time.monotonic() - started, 1)
    if not present:
        result["diff"] = {"before": {"path": given["path"], "state": "absent"}, "after": {"path": given["path"], "state": "directory"}}
    module.exit_json(changed=not present, **result)


if __name__ == "__main__":
    main()
