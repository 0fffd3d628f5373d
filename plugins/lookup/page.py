# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: page
short_description: Render the template of a page
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Renders a Jinja2 template with every value escaped, which P(ansible.builtin.template#lookup) cannot do.
  - Templates are searched in those of the role C(common), then in C(templates) of the role or beside the playbook.
  - A template sees O(data) and no variable of the host.
options:
  _terms:
    description: The names of templates.
    type: list
    elements: string
    required: true
  data:
    description: What the template shows. C(now), seconds since the epoch, is the current time by default.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the status page
  ansible.builtin.copy:
    content: "{{ lookup('selfhosted.prefect.page', 'status.html.j2', data={'gathered': gathered, 'history': {}}) }}"
    dest: /srv/www/prefect.html
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_raw:
  description: The pages.
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.selfhosted.prefect.plugins.plugin_utils._page import render
from jinja2 import TemplateError


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """One page for each template."""
        self.set_options(var_options=variables, direct=kwargs)
        folders = [Path(folder) / "templates" for folder in (variables or {}).get("ansible_search_path", [])]
        return [self._page(str(term), folders) for term in terms]

    def _page(self, template: str, folders: list[Path]) -> str:
        try:
            return render(template, self.get_option("data"), folders)
        except TemplateError as error:
            raise AnsibleLookupError(f"The page {template} cannot be rendered: {error}. Nothing was written.") from error
