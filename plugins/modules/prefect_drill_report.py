#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_drill_report
short_description: Judge a failover drill
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Compares what M(selfhosted.prefect.prefect_load) and M(selfhosted.prefect.prefect_drill_watch) have measured around a fault of
    M(selfhosted.prefect.prefect_drill_fault) with limits.
  - A scenario that was not good enough is part of the result, and no failure of this module.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
attributes:
  diff_mode:
    details: The result is returned.
  platform:
    details: Any with Python; usually the machine that runs Ansible.
options:
  about:
    description: What else the result tells, such as C(url), C(version), C(began) and C(ended).
    type: dict
    default: {}
  scenarios:
    description: What was done, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The scenario's name.
        type: str
        required: true
      title:
        description: What it is, in words.
        type: str
        default: ""
      target:
        description: On which host.
        type: str
        default: ""
      kind:
        description: The kind of fault.
        type: str
        default: ""
      limits:
        description: What is allowed, by the names of measures. A measure without a limit is only shown.
        type: dict
        default: {}
      load:
        description: What M(selfhosted.prefect.prefect_load) returned.
        type: dict
      watch:
        description: What M(selfhosted.prefect.prefect_drill_watch) returned.
        type: dict
      also:
        description: What M(selfhosted.prefect.prefect_drill_fault) returned for further hosts that were hit at the same time.
        type: list
        elements: dict
      at_stake:
        description: Acknowledged writes that it takes for the scenario to count.
        type: int
        default: 0
      fault:
        description: What M(selfhosted.prefect.prefect_drill_fault) returned.
        type: dict
      noise:
        description:
          - What M(selfhosted.prefect.prefect_drill_noise) returned of each host. Where something that is no part of the service took the
            CPU, a scenario in which answers were slow, and nothing else was wrong, is not conclusive. Without it nothing is.
        type: list
        elements: dict
        default: []
      unwell:
        description: What was not well after the scenario, when the cluster had had its time. Such a scenario has failed.
        type: str
        default: ""
      problem:
        description: Why there is nothing to judge. Such a scenario has failed.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Judge the drill
  selfhosted.prefect.prefect_drill_report:
    about:
      url: http://balancer:4200/api
    scenarios:
      - name: kill_api
        kind: kill
        target: api3
        limits: {failed: 3, lost: 0, failing_for: 1}
        load: "{{ load }}"
        watch: "{{ watch }}"
        fault: "{{ fault }}"
  delegate_to: localhost
"""

RETURN = r"""
passed:
  description: Whether every scenario was good enough.
  returned: always
  type: bool
  sample: true
outcome:
  description: >-
    V(pass) when every scenario was good enough, V(fail) when one was not, and V(inconclusive) when one was not and the machines were too
    busy with something else to tell.
  returned: always
  type: str
  sample: pass
lines:
  description: The result for people.
  returned: always
  type: list
  elements: str
  sample: ["PASS  kill_api on api3: 2 of 1190 requests failed"]
report:
  description:
    - All of it, with O(about), and for each scenario what was measured and the numbers of its plot.
    - The template C(drill.html.j2) of the role C(prefect_drill) makes a page of it.
  returned: always
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._drill.report import result, text

ARGUMENTS: dict[str, Any] = {
    "about": {"type": "dict", "default": {}},
    "scenarios": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "title": {"type": "str", "default": ""},
            "target": {"type": "str", "default": ""},
            "kind": {"type": "str", "default": ""},
            "limits": {"type": "dict", "default": {}},
            "load": {"type": "dict"},
            "watch": {"type": "dict"},
            "also": {"type": "list", "elements": "dict"},
            "at_stake": {"type": "int", "default": 0},
            "fault": {"type": "dict"},
            "noise": {"type": "list", "elements": "dict", "default": []},
            "unwell": {"type": "str", "default": ""},
            "problem": {"type": "str", "default": ""},
        },
    },
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        report = result(module.params["scenarios"], module.params["about"])
    except (ValueError, KeyError, TypeError) as error:
        module.fail_json(msg=f"The drill cannot be judged: {error}")
    module.exit_json(changed=False, passed=report["passed"], outcome=report["outcome"], lines=text(report), report=report)


if __name__ == "__main__":
    main()
