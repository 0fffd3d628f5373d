#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_release
short_description: A release of Prefect, built from a lock file and proved, in a folder of its own
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Builds a virtual environment from a lock file, in which every package is pinned and hashed. Only wheels are installed, so nothing is
    compiled on the host.
  - The release is built aside, its bytecode compiled, and the server's application imported as proof. Only then is it put in place,
    whole, by a rename. Whatever goes wrong before that leaves nothing behind; what an interrupted build left, the next one removes.
  - With O(cache) one host of each kind builds the release, and the others wait for it and unpack an archive of it. A kind is a distribution
    and its version, an architecture, and a Python with its version and path. The first host that needs the release builds it, whichever
    hosts a run has. If that host fails, the others build their own.
  - Archives stay in the cache, each with its SHA-256 in its name. It is checked before an archive is used and on arrival; one that is
    damaged is removed with a warning, and made again.
  - The installing is done by C(uv), which is downloaded once, checked against its pinned hash. The host needs no C(pip) and no C(venv).
  - Programs that the units of the release need are written with it, each under a name of its own for each content.
  - The release holds its bill of materials, C(sbom.cdx.json) in CycloneDX's form. M(selfhosted.prefect.prefect_release_info) compares it
    with the files.
  - A release in place is never changed. It is built anew only if its Python has gone, as it does when the system is upgraded.
  - The package index, proxies and certificates are those of the environment (C(UV_DEFAULT_INDEX), C(HTTPS_PROXY), C(SSL_CERT_FILE)),
    for which the keyword C(environment) is the place.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
attributes:
  diff_mode:
    support: full
  platform:
    details: Linux with glibc.
options:
  path:
    description: Folder of the release. Its parent is made if need be.
    type: path
    required: true
  version:
    description: Version of Prefect that the lock file must hold, such as V(3.8.8).
    type: str
    required: true
  lock:
    description: The lock file's text, with a C(--hash=sha256:) for every package.
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
    description:
      - Folder, on the machine that runs Ansible, with the archives that M(selfhosted.prefect.prefect_wheelhouse) makes, called
        C(prefect-<name of the release's folder>-<architecture>.tar). A host that builds gets the one for its architecture.
      - Without it the package index is used.
    type: path
  requirements:
    description:
      - Packages that flows need, each as a line of a requirements file. The environment is then one for workers, with Prefect of O(version)
        and these. What O(lock) has as well gets the version, and is checked against the hash, that it has there.
      - Other packages are not locked, and may be compiled.
    type: list
    elements: str
    default: []
  cache:
    description:
      - Folder, on the machine that runs Ansible, for archives of releases that were built. It is made if need be, and what was not used
        for 90 days is removed from it.
      - Without it every host builds its own release.
    type: path
  archive:
    description: Archive on the host to unpack in place of building. The module sets it itself when there is one in O(cache).
    type: path
  sha256:
    description: What the SHA-256 of O(archive) has to be.
    type: str
  pack:
    description: Where on the host to pack the release once it is built. The module sets it itself for O(cache).
    type: path
  _gather:
    description: Only says what is missing, as check mode does. The module sets it itself.
    type: bool
    default: false
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
  - module: selfhosted.prefect.prefect_release_info
"""

EXAMPLES = r"""
- name: Put the release in place, built by one host of each kind
  become: true
  selfhosted.prefect.prefect_release:
    path: /opt/prefect/releases/3.8.8-0123456789ab
    version: 3.8.8
    lock: "{{ lookup('ansible.builtin.file', 'locks/3.8.8.txt') }}"
    uv: "{{ lookup('ansible.builtin.file', 'locks/uv.json') | from_json }}"
    tools: /opt/prefect/tools
    cache: ~/.cache/selfhosted.prefect
  environment:
    HTTPS_PROXY: http://proxy.example.com:3128
"""

RETURN = r"""
path:
  description: The release's folder.
  returned: always
  type: str
  sample: /opt/prefect/releases/3.8.8-0123456789ab
method:
  description: How the release was put in place, V(built) or V(unpacked).
  returned: when it was not in place, and not only programs were missing
  type: str
  sample: unpacked
seconds:
  description: How long it took on the host to put in place what was missing.
  returned: when anything was
  type: float
  sample: 9.2
sha256:
  description: The SHA-256 of what was packed.
  returned: when it was built and packed
  type: str
kind:
  description: The kind of machine.
  returned: when the release is missing, in check mode
  type: str
  sample: debian-12-x86_64-3.11.2-usr-bin-python3.11
machine:
  description: Its architecture, as C(uname -m) names it.
  returned: when the release is missing, in check mode
  type: str
  sample: x86_64
"""

import os
import platform
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._host.command import run
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.build import Builder, BuildError, Host, Plan, Uv
from ansible_collections.selfhosted.prefect.plugins.module_utils._release.index import environment_index

# Of the caller's Python, which is not the release's.
_FOREIGN = ("PYTHON", "VIRTUAL_ENV", "UV_PYTHON", "UV_PROJECT")


def install(builder: Builder, plan: Plan, pack: str, module: AnsibleModule) -> dict[str, Any]:
    """Puts what is missing in place, and packs a release that was built."""
    started = time.monotonic()
    os.umask(0o022)
    method = {} if builder.installed() else {"method": "unpacked" if plan.archive else "built"}
    builder.build()
    result = {**method, "seconds": round(time.monotonic() - started, 1)}
    if pack:
        try:
            result["sha256"] = builder.pack(Path(pack))
        except (BuildError, OSError) as error:
            module.warn(f"Prefect {plan.version} is in place, but was not packed for other hosts, which build their own: {error}")
    return result


def system() -> str:
    """The distribution and its version, as in ``debian-12``."""
    release = platform.freedesktop_os_release()
    return f"{release['ID']}-{release.get('VERSION_ID', 'rolling')}"


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
            # From the action plugin, which is told of a folder, it is one of the archives there, and on this host.
            "wheelhouse": {"type": "path"},
            "requirements": {"type": "list", "elements": "str", "default": []},
            # For the action plugin alone.
            "cache": {"type": "path"},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "pack": {"type": "path"},
            "programs": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 600},
            "_gather": {"type": "bool", "default": False},
        },
        required_together=[("archive", "sha256")],
        mutually_exclusive=[("archive", "pack")],
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
        archive=given["archive"] or "",
        sha256=given["sha256"] or "",
        timeout=given["timeout"],
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    machine = os.uname().machine
    # They are long, and on disk: they have no place among the arguments of a verbose run.
    shown = {**given, "lock": f"({len(given['lock'])} characters)", "programs": list(given["programs"])}
    result = {"path": given["path"], "invocation": {"module_args": shown}}
    try:
        builder = Builder(plan, Host(run, machine, system(), environment, environment_index()))
        present = builder.present()
        if not present and not given["_gather"] and not module.check_mode:
            result.update(install(builder, plan, given["pack"] or "", module))
        elif not builder.installed():
            result.update(kind=builder.kind(), machine=machine)
    except BuildError as error:
        module.fail_json(msg=f"Prefect {plan.version} was not installed in {plan.path}: {error}", **result)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"Prefect {plan.version} was not installed in {plan.path}: {error}; nothing was put in place", **result)
    if not present:
        result["diff"] = {"before": {"path": given["path"], "state": "absent"}, "after": {"path": given["path"], "state": "directory"}}
    module.exit_json(changed=not present, **result)


if __name__ == "__main__":
    main()
