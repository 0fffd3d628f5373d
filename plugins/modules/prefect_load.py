#!/usr/bin/python
# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_load
short_description: Load a Prefect API, and count failed requests and lost writes
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Sends requests for so many seconds, half of them writes, by clients that never retry. All writes that were acknowledged are read back in
    the end, those that were carried out more than once are found, and everything that was written is removed.
  - The clients keep their connection, open one for each request, or leave theirs idle for a while. Others follow the events by websocket.
  - What is written are flow runs (of one flow, which are never run), task runs, variables and flows. Their names begin with C(load-).
  - What fails is part of the result. The module itself only fails when the load could not start.
extends_documentation_fragment:
  - selfhosted.prefect.attributes
  - selfhosted.prefect.connections.api
  - selfhosted.prefect.connections.interpreters
attributes:
  check_mode:
    details: Nothing is sent.
  diff_mode:
    details: Nothing is different afterwards.
  idempotent:
    support: none
    details: Requests are sent each time.
  platform:
    details: Any with Python, whether or not it runs Prefect.
options:
  url:
    description: Where the API is, usually that of a balancer, such as C(http://balancer:4200/api).
    type: str
    required: true
  seconds:
    description: How long. Reading back and removing come after that.
    type: float
    default: 60
  rate:
    description: Requests a second at most, of all clients together.
    type: float
    default: 40
  clients:
    description: Clients that send one request after the other over a connection that they keep.
    type: int
    default: 8
  fresh:
    description: Clients that open a connection for each request.
    type: int
    default: 2
  pausing:
    description: Clients that leave their connection idle for up to ten seconds between requests.
    type: int
    default: 2
  subscribers:
    description: Websockets that follow the events.
    type: int
    default: 3
  browsers:
    description:
      - Browsers that load the pages of the user interface, with everything that they name, and later one part after the other of a page
        that stays open. Their requests are not bounded by O(rate).
    type: int
    default: 0
  settle_file:
    description:
      - A file. When it is there, or after O(settle_seconds), all writes that were acknowledged are read back once more, before they are
        removed. What was lost by either time counts.
    type: path
  settle_seconds:
    description: How long to wait for O(settle_file) at most.
    type: float
    default: 600
  timeout:
    description: Seconds after which a request without an answer has failed.
    type: float
    default: 15
"""

EXAMPLES = r"""
- name: Load the service for half a minute
  selfhosted.prefect.prefect_load:
    url: http://balancer:4200/api
    auth_string: "{{ prefect_auth_string }}"
    seconds: 30
  delegate_to: localhost
  run_once: true
  register: load
"""

RETURN = r"""
requests:
  description: How many were sent, up to the last of the load.
  returned: outside check mode
  type: int
  sample: 1200
requests_failed:
  description: How many had no proper answer. With the reading back, and with subscribers that did not come back.
  returned: outside check mode
  type: int
  sample: 0
failures:
  description: >-
    The first fifty of them, each with when it was (C(at), and C(after) the beginning), its C(method), C(path) and C(connection), and
    C(what) happened.
  returned: outside check mode
  type: list
  elements: dict
statuses:
  description: How many requests were answered with each status that is no proper answer.
  returned: outside check mode
  type: dict
  sample: {"503": 12}
acknowledged:
  description: Writes that the service has acknowledged.
  returned: outside check mode
  type: int
  sample: 600
lost:
  description: Those of them that are not there.
  returned: outside check mode
  type: int
  sample: 0
twice:
  description: Writes that were carried out more than once.
  returned: outside check mode
  type: int
  sample: 0
left:
  description: Things that were written and could not be removed.
  returned: outside check mode
  type: int
  sample: 0
latency:
  description: Seconds that answers took, by C(p50), C(p95), C(p99) and C(max).
  returned: outside check mode
  type: dict
pages:
  description: >-
    What O(browsers) saw. The pages C(loaded), how many of them were C(broken), the C(requests) for them and how many of these were not
    answered properly (C(missing)), the parts that an open page loaded C(later) and how many of them were missing (C(later_missing)), and
    the first fifty C(failures).
  returned: outside check mode
  type: dict
timeline:
  description: >-
    JSON text. When the load C(began_at) (seconds since the epoch) and, in seconds since then, when it C(ended), the C(samples) (for each
    request when it was sent, how long it took, and 1 if it succeeded) and the C(events) (for each subscriber when some came).
  returned: outside check mode
  type: str
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.libraries import INTERPRETERS, lacking, use_libraries
from ansible_collections.selfhosted.prefect.plugins.module_utils._health import api_base
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.load import Options, load
from ansible_collections.selfhosted.prefect.plugins.module_utils._load.wire import LIBRARIES, FailedError, Target

KINDS = ("flow_runs", "variables", "flow_runs", "flows", "task_runs")

ARGUMENTS: dict[str, Any] = {
    "url": {"type": "str", "required": True},
    "auth_string": {"type": "str", "no_log": True},
    "ca_file": {"type": "path"},
    "seconds": {"type": "float", "default": 60},
    "rate": {"type": "float", "default": 40},
    "clients": {"type": "int", "default": 8},
    "fresh": {"type": "int", "default": 2},
    "pausing": {"type": "int", "default": 2},
    "subscribers": {"type": "int", "default": 3},
    "browsers": {"type": "int", "default": 0},
    "settle_file": {"type": "path"},
    "settle_seconds": {"type": "float", "default": 600},
    "timeout": {"type": "float", "default": 15},
    "interpreters": INTERPRETERS,
}


def options(params: dict[str, Any]) -> Options:
    """What the load takes.

    Raises ValueError if there is no client, no bound, or the URL is none, and OSError if the authorities' file cannot be read.
    """
    numbers = ("seconds", "rate", "clients", "fresh", "pausing", "subscribers", "browsers", "timeout")
    wrong = [name for name in numbers if params[name] < 0 or (name in ("seconds", "rate", "timeout") and not params[name])]
    if wrong:
        raise ValueError(f"{wrong[0]} is {params[wrong[0]]:g}; it has to be more than that")
    if not params["clients"] + params["fresh"] + params["pausing"]:
        raise ValueError("there is no client to send requests: set clients, fresh or pausing")
    target = Target.parse(api_base(params["url"]), params["auth_string"] or "", params["ca_file"] or "")
    settle = Path(params["settle_file"]) if params["settle_file"] else None
    more = {name: params[name] for name in numbers}
    return Options(
        target, kinds=KINDS, timeline=True, clean=True, settle_file=settle, settle_seconds=max(params["settle_seconds"], 0), **more
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    use_libraries(module.params["interpreters"], *LIBRARIES)
    absent = lacking(*LIBRARIES)
    if absent:
        module.fail_json(
            msg=f"{sys.executable} lacks {' and '.join(absent)}, with which the load is sent. Install that there, or"
            " send the load from a host with a Prefect release, which has it (prefect_drill_load_host). Nothing was sent."
        )
    try:
        wanted = options(module.params)
    except ValueError as error:
        module.fail_json(msg=f"{error}. Nothing was sent.")
    except OSError as error:
        module.fail_json(msg=f"The authorities in {module.params['ca_file']} cannot be read here: {error}. Nothing was sent.")
    if module.check_mode:
        module.exit_json(changed=False)
    try:
        found = asyncio.run(load(wanted))
    except FailedError as error:
        module.fail_json(msg=f"The load could not start: {module.params['url']} did not take a flow: {error}")
    # To Ansible a task whose result has anything at all under this name has failed.
    found["requests_failed"] = found.pop("failed")
    # As text: thousands of numbers that Ansible need not look into.
    timeline = json.dumps(found.pop("timeline"), separators=(",", ":"))
    module.exit_json(changed=False, timeline=timeline, **found)


if __name__ == "__main__":
    main()
