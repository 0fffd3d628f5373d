# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the variables of the firewall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.selfhosted.prefect.plugins.module_utils._base.text import text

_LEAST_SECONDS = 30


def firewall(variables: Mapping[str, Any]) -> Iterator[str]:
    sources, groups = variables["firewall_sources"], variables["groups"]
    known = [*map(text, variables["common_components"]), "exporters"]
    unknown = [text(name) for name in sources if text(name) not in known]
    if unknown:
        yield f"firewall_sources names {', '.join(unknown)}; there are {', '.join(known)}."
    loose = [text(name) for name, values in sources.items() if isinstance(values, (str, Mapping)) or not hasattr(values, "__iter__")]
    if loose:
        yield f"firewall_sources has for {', '.join(loose)} something else than a list of addresses."
    broken = [text(rule) for rule in variables["firewall_extra_rules"] if len(text(rule).splitlines()) != 1]
    if broken:
        yield "firewall_extra_rules holds a rule that is empty or has several lines; each is one line of nftables."
    if int(variables["firewall_revert_after"]) < _LEAST_SECONDS:
        yield f"firewall_revert_after is {variables['firewall_revert_after']}; the test of the rules takes {_LEAST_SECONDS} s or more."
    if not groups.get("nginx") and groups.get("prefect_api") and not sources.get("prefect_api"):
        yield (
            "The inventory has no host in the group nginx, so no client could reach the API: name your balancer, or those who use the API"
            " directly, in firewall_sources, as in {prefect_api: [10.0.0.9]}."
        )
    if boolean(variables["exporters_enabled"]) and not groups.get("monitoring") and not sources.get("exporters"):
        yield (
            "No host is in the group monitoring, so no Prometheus could reach the exporters: name your Prometheus in firewall_sources"
            " (exporters)."
        )
