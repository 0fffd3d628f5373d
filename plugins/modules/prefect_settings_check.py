#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_settings_check
short_description: Whether a release of Prefect takes a set of settings
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Loads settings with an installed release, as its servers do when they start, and fails with every setting that it does not take.
  - It is for the moment before a server is restarted, so that a setting of the wrong type never reaches one.
  - Names that the release does not know, which it would pass over in silence, are a warning.
  - A group as a whole, such as C(PREFECT_LOGGING_TO_API_*), is named when its settings do not go together.
  - Values of secrets are never shown.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.attributes.info
options:
  release:
    description: The virtual environment of the release, such as C(/opt/prefect/current).
    type: path
    required: true
  environment:
    description: Prefect's settings, as environment variables.
    type: dict
    required: true
  current:
    description: The symlink to the release that the host runs, such as C(/opt/prefect/current).
    type: path
    default: ""
  file:
    description:
      - The file of settings that its servers start with.
      - When it holds exactly O(environment) and O(current) is O(release), nothing is left to check.
    type: path
    default: ""
  timeout:
    description: Seconds that it may take.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Check that the release takes these settings
  become: true
  selfhosted.prefect.prefect_settings_check:
    release: /opt/prefect/releases/3.8.8-0123456789ab
    environment:
      PREFECT_SERVER_DATABASE_TIMEOUT: 10
"""

RETURN = r"""
problems:
  description: Each setting that the release does not take, with the reason.
  returned: always
  type: list
  elements: str
  sample: []
unknown:
  description: Names that the release does not know.
  returned: always
  type: list
  elements: str
  sample: []
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import setting
from ansible_collections.selfhosted.prefect.plugins.module_utils._settings.check import SettingsCheckError, check_settings, in_force


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "path", "required": True},
            "environment": {"type": "dict", "required": True, "no_log": True},
            "current": {"type": "path", "default": ""},
            "file": {"type": "path", "default": ""},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    given = module.params
    environment = {name: setting(value) for name, value in given["environment"].items() if value is not None}
    # By default every value would be masked in every message, "5432" and "true" included. Secrets are masked in what the release says.
    module.no_log_values = set()
    given["environment"] = sorted(environment)
    if module.check_mode and not Path(given["release"], "bin", "python").exists():
        module.warn(f"{given['release']} is not installed yet, so it cannot be queried for its settings.")
        module.exit_json(changed=False, problems=[], unknown=[])
    if not Path(given["release"], "bin", "python").exists():
        module.fail_json(
            msg=f"{given['release']} is not in place on this host. No server was touched. Run the playbook without --tags, or with the tag"
            " install as well.",
            problems=[],
            unknown=[],
        )
    if in_force(given["release"], environment, given["current"], given["file"]):
        module.exit_json(changed=False, problems=[], unknown=[])
    try:
        checked = check_settings(given["release"], environment, given["timeout"])
    except SettingsCheckError as error:
        module.fail_json(msg=f"The settings could not be checked: {error}. No server was touched.", problems=[], unknown=[])
    if checked.unknown:
        module.warn(f"{given['release']} knows no setting called {', '.join(checked.unknown)}, and passes over it.")
    result = {"problems": checked.problems, "unknown": checked.unknown}
    if checked.problems:
        module.fail_json(
            msg=f"{given['release']} does not take these settings: {'; '.join(checked.problems)}. No server was touched.", **result
        )
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
