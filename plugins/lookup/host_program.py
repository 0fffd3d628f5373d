# Copyright (c) 2026 the selfhosted.prefect maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: host_program
short_description: The program that runs beside Prefect on the hosts
version_added: 1.0.0
author: The selfhosted.prefect maintainers (@selfhosted)
description:
  - Reads the Python package that the collection carries for the hosts, on the machine that runs Ansible.
  - The digest changes with any of its files, so a folder named by it never has to be changed.
"""

EXAMPLES = r"""
- name: Show where the program belongs
  ansible.builtin.debug:
    msg: "{{ prefect_root }}/tools/program-{{ lookup('selfhosted.prefect.host_program').digest }}"
"""

RETURN = r"""
_raw:
  description: One dictionary.
  type: list
  elements: dict
  contains:
    digest:
      description: The first 12 digits of a SHA-256 of the names and texts of the files.
      type: str
      sample: 0123456789ab
    files:
      description: The text of each file, by its path below the folder that belongs on C(PYTHONPATH).
      type: dict
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

_FILES = Path(__file__).resolve().parents[2] / "roles" / "prefect" / "files"


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:  # noqa: ARG002  Ansible gives them
        """The program."""
        self.set_options(var_options=variables, direct=kwargs)
        paths = sorted([*_FILES.glob("*.py"), *_FILES.glob("selfhosted_prefect/**/*.py")])
        files = {str(path.relative_to(_FILES)): path.read_text(encoding="utf-8") for path in paths}
        return [{"digest": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12], "files": files}]
