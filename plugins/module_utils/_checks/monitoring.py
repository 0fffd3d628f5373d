# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of the exporters, of Prometheus and of Alertmanager, and with a Prometheus that a host has already."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

_PORTS = ("monitoring_prometheus_port", "monitoring_alertmanager_port", "monitoring_alertmanager_cluster_port")


def exporters(variables: Mapping[str, Any]) -> Iterator[str]:
    if not boolean(variables["exporters_enabled"]):
        return
    known = [text(exporter["name"]) for exporter in variables["common_exporters"]]
    unknown = [text(name) for name in variables["exporters_disabled"] if name not in known]
    if unknown:
        yield f"exporters_disabled names {', '.join(unknown)}; there are {', '.join(known)}."
    hosts = variables["groups"].get("redis") or []
    if not hosts or "redis" in variables["exporters_disabled"]:
        return
    user = text(variables["exporters_redis_username"])
    taken = {"default", "selfhosted-prefect", text(variables["prefect_redis_username"]), *map(text, variables["redis_acl_users"])}
    if variables["common_redis_cluster"]:
        taken.update(map(text, variables["common_redis_users"]))
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", user) or user in taken:
        yield (f'exporters_redis_username is "{user}"; it takes letters, digits and . _ -, and none of the users that Redis has already.')
    if not text(variables.get("exporters_redis_password")):
        yield (
            f"exporters_redis_password is missing or empty; the exporter of Redis (on {', '.join(hosts)}) needs a password of its own. Set"
            " it, in a file encrypted with ansible-vault, or put redis into exporters_disabled."
        )


def monitoring(variables: Mapping[str, Any]) -> Iterator[str]:
    receivers = variables["monitoring_alertmanager_receivers"]
    if not receivers or any("name" not in receiver for receiver in receivers):
        yield "monitoring_alertmanager_receivers has to hold at least one receiver, and each has to have a name."
    lost = [text(path) for path in variables["monitoring_rule_files"] if not Path(text(path)).exists()]
    if lost:
        yield f"monitoring_rule_files names {', '.join(lost)}, which the machine that runs Ansible does not have."
    if len({int(variables[name]) for name in _PORTS}) < len(_PORTS):
        yield f"{', '.join(_PORTS[:-1])} and {_PORTS[-1]} have to differ."


def monitoring_host(variables: Mapping[str, Any]) -> Iterator[str]:
    """``__monitoring_missing`` are the packages that the host lacks, ``__monitoring_own_unit`` is the state of the role's unit.

    ``__monitoring_other_unit`` is what systemd says where there is none. A Prometheus that is switched off, as a host has it that was
    removed, is nothing to keep.
    """
    if "prometheus" in variables["__monitoring_missing"] or variables["__monitoring_own_unit"]["stat"]["exists"]:
        return
    if any(unit["active"] or unit["enabled"] for unit in variables["__monitoring_other_unit"].get("units", [])):
        yield (
            f"A Prometheus is installed on {variables['inventory_hostname']} already, and would lose its configuration. Keep it: take the"
            " host out of the group monitoring, set exporters_enabled: true, and give it what the playbook scrape_config prints. Or remove"
            " the package prometheus."
        )
