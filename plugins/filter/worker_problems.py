# Copyright (c) 2026 the selfhosted.prefect maintainers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: worker_problems
short_description: What is wrong with the workers of a host
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Returns every problem at once, each as a sentence or two with its remedy. No value of O(_input) that may be a secret is part of one.
positional: _input, version, pools, environments
options:
  _input:
    description: The workers, as P(selfhosted.prefect.workers#filter) gives them.
    type: list
    elements: dict
    required: true
  version:
    description: The servers' version of Prefect, which no worker may exceed.
    type: string
    required: true
  pools:
    description: The type of each work pool that was asked for, empty for one that does not exist. What is left out is not known.
    type: dict
    required: true
  environments:
    description: The version of Prefect in each virtual environment of O(_input), empty for none.
    type: dict
    required: true
seealso:
  - plugin: selfhosted.prefect.workers
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what is wrong with a worker
  ansible.builtin.debug:
    msg: "{{ ['worker1'] | selfhosted.prefect.workers(hostvars) | selfhosted.prefect.worker_problems('3.8.8', {'etl': 'docker'}, {}) }}"
    # => ["prefect_workers, etl: the work pool 'etl' is of the type docker, and these workers run pools of the type process.
    #      Use another pool."]
"""

RETURN = r"""
_value:
  description: The problems; empty when there are none.
  type: list
  elements: string
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhosted.prefect.plugins.module_utils._workers import worker_problems
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._filters import filters


class FilterModule:
    """The filter ``worker_problems``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return filters("worker_problems", worker_problems)
