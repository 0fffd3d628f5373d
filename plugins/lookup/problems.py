# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: problems
short_description: What is wrong with what a role or a playbook was given
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Returns every problem at once, each as a sentence or two with its remedy. They concern several variables, or what was found on the
    host; for the types of single variables see P(selfhosted.prefect.variable_problems#lookup).
  - Values of secrets are never part of a problem.
options:
  _terms:
    description:
      - Names of roles and playbooks of this collection, such as C(nginx) and C(upgrade). A role that compares what a host has already
        has a second name for that, such as C(postgres_host).
      - The variables that a check reads have to be defined where the lookup is used.
    type: list
    elements: string
    required: true
"""

EXAMPLES = r"""
- name: Show what is wrong with the variables of Redis
  ansible.builtin.debug:
    msg: "{{ query('selfhosted.prefect.problems', 'redis') }}"
    # => ["prefect_redis_password is missing or empty; Redis accepts no client without one."]
"""

RETURN = r"""
_raw:
  description: The problems; empty when there are none.
  type: list
  elements: string
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.selfhosted.prefect.plugins.module_utils._checks import (
    certificates,
    changes,
    drill,
    firewall,
    haproxy,
    keepalived,
    membership,
    monitoring,
    nginx,
    patroni,
    postgres,
    prefect,
    redis,
)
from ansible_collections.selfhosted.prefect.plugins.module_utils._report import degraded
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._values import Values

CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    check.__name__: check
    for check in (
        certificates.certificates,
        changes.restart,
        changes.switchover,
        changes.switchover_state,
        degraded.degraded,
        degraded.redundancy,
        drill.prefect_drill,
        firewall.firewall,
        haproxy.haproxy,
        haproxy.haproxy_host,
        keepalived.keepalived,
        keepalived.keepalived_host,
        membership.remove_host,
        membership.remove_host_answer,
        membership.replace_host,
        membership.replace_host_answer,
        membership.replace_host_found,
        monitoring.exporters,
        monitoring.monitoring,
        monitoring.monitoring_host,
        nginx.nginx,
        patroni.etcd,
        patroni.etcd_start,
        patroni.patroni,
        patroni.patroni_host,
        patroni.postgres_cluster,
        postgres.postgres,
        postgres.postgres_host,
        postgres.prefect_backup,
        postgres.prefect_restore,
        prefect.prefect,
        prefect.prefect_api,
        prefect.prefect_worker,
        prefect.rollback,
        prefect.rotate,
        prefect.upgrade,
        redis.redis,
        redis.redis_cluster,
        redis.redis_data,
        redis.redis_host,
        redis.redis_single,
    )
}


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """The problems that the checks of these names find, each once."""
        self.set_options(var_options=variables, direct=kwargs)
        values = Values(self._loader, self._templar, variables or {})
        unknown = [str(term) for term in terms if term not in CHECKS]
        if unknown:
            raise AnsibleLookupError(f"selfhosted.prefect.problems: there is no check {unknown[0]}; there are {', '.join(sorted(CHECKS))}")
        try:
            return list(dict.fromkeys(problem for term in terms for problem in CHECKS[str(term)](values)))
        except KeyError as error:
            raise AnsibleLookupError(f"selfhosted.prefect.problems: the variable {error.args[0]} is not defined") from error
