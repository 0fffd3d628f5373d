# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: components
short_description: What the components of a deployment say of themselves
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads C(component.yml) in the folder C(vars) of each role, with the variables of the host, and of the role's defaults those that are
    not set.
  - Playbooks loop over the result and know no component by name.
options:
  _terms:
    description: The names of components, which are roles of this collection, in the order of the result.
    type: list
    elements: string
    required: true
  problems:
    description:
      - Whether to return what is wrong with the list itself, as sentences, and to read no description. It is empty for a list that will do.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the units of this host
  ansible.builtin.debug:
    msg: "{{ query('selfhosted.prefect.components', *common_host_components) | map(attribute='units') | flatten }}"
"""

RETURN = r"""
_raw:
  description: One dictionary for each component. What a component does not have is empty.
  type: list
  elements: dict
  contains:
    name:
      description: The name of the component.
      type: str
      sample: nginx
    verbs:
      description: The task files that its role has.
      type: list
      elements: str
      sample: [configure, install, preflight, service]
    units:
      description: Patterns of its systemd units.
      type: list
      elements: str
      sample: [nginx.service]
    listeners:
      description:
        - What it listens on, in the form of O(selfhosted.prefect.prefect_preflight#module:listen).
        - An entry of the description with C(ports) becomes one for each, and C({port}) in its units the port.
        - C(sources) are those who may reach it, for the firewall - groups and hosts of the inventory, addresses, and C(anywhere) for
          all clients; without it only the host itself. C(protocols) are V(tcp), which is the default, V(udp), and V(vrrp), which has no
          C(port).
      type: list
      elements: dict
    certificates:
      description:
        - The certificates that it serves on its host, each with C(name), which its files in C(tls_directory) have, and C(group), which may
          read its key. With C(client) it is good for a client, too.
        - Empty where its wire has no TLS.
      type: list
      elements: dict
    disk:
      description: The room that it needs, in the form of O(selfhosted.prefect.prefect_preflight#module:disk).
      type: list
      elements: dict
    files:
      description: Patterns of files without secrets that support needs.
      type: list
      elements: str
    environment_files:
      description: Patterns of settings in systemd's format, of which support needs all but the secrets.
      type: list
      elements: str
    logs:
      description: Patterns of logs that support needs.
      type: list
      elements: str
    secrets:
      description: Values that must not leave the site.
      type: list
      elements: str
    after_removal:
      description: What is left to do, or to know, when a host has left the component, as sentences with the variables of another host.
      type: list
      elements: str
"""

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 every string was a template

    def trust_as_template(value: str) -> str:
        return value


_ROLES = Path(__file__).resolve().parents[2] / "roles"
_LISTS = ("units", "listeners", "certificates", "disk", "files", "environment_files", "logs", "secrets", "after_removal")


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """The description of each component, in the order of the terms."""
        self.set_options(var_options=variables, direct=kwargs)
        names = [str(term) for term in terms]
        wrong = [*_repeated(names), *(problem for name in dict.fromkeys(names) for problem in _undescribed(name))]
        if self.get_option("problems"):
            return wrong
        if wrong:
            raise AnsibleLookupError(f"{' '.join(wrong)} Nothing was changed.")
        return [self._description(name, variables or {}) for name in names]

    def _description(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        role = _ROLES / name
        found = _load(role / "vars" / "component.yml")[f"{name}_component"]
        scope = {**_load(role / "defaults" / "main.yml"), **variables}
        described = self._templar.copy_with_new_env(available_variables=scope).template(found)
        verbs = sorted(path.stem for path in (role / "tasks").glob("*.yml"))
        result = {"name": name, "verbs": verbs, **{key: [] for key in _LISTS}, **described}
        return {**result, "listeners": [each for listener in result["listeners"] for each in _single(listener)]}


def _repeated(names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    return [f"common_components lists {', '.join(twice)} more than once."] if twice else []


def _undescribed(name: str) -> list[str]:
    path = _ROLES / name / "vars" / "component.yml"
    if isinstance(_load(path).get(f"{name}_component"), dict):
        return []
    return [f"common_components lists {name}, and {path} does not describe it (as {name}_component)."]


def _single(listener: dict[str, Any]) -> list[dict[str, Any]]:
    """One listener for each of its ports."""
    if "ports" not in listener:
        return [listener]
    rest = {key: value for key, value in listener.items() if key != "ports"}
    return [{**rest, "port": port, "units": [unit.replace("{port}", str(port)) for unit in rest["units"]]} for port in listener["ports"]]


def _load(path: Path) -> dict[str, Any]:
    return _trusted(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def _trusted(value: Any) -> Any:
    """The same with every string in it a template, as in a file that Ansible has loaded."""
    if isinstance(value, dict):
        return {key: _trusted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_trusted(each) for each in value]
    return trust_as_template(value) if isinstance(value, str) else value
